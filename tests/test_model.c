/* Model descriptions: the examples, cells against the same cells written out, faults (each told once, with its place), and
   texts cut off anywhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "frontend.h"
#include "interp.h"
#include "model.h"
#include "passes.h"

static const char *const examples[] = {"examples/keras_cnn/cnn.model", "examples/char_rnn/linear.model", "examples/char_rnn/tanh.model",
                                       "examples/models/lstm.model",   "examples/models/gpt.model",      "examples/models/resnet18.model"};
enum { EXAMPLES = sizeof examples / sizeof *examples };

typedef struct Job {
    const char *path, *text;
    size_t n;
    bool training, run;
    TrainPart part;
    int64_t params;      /* elements of all parameters */
    int states, inputs;
    TrainSpec spec;
    float *out;          /* of all outputs, one behind the other */
    int nout;
} Job;

static uint64_t seed;
static float rnd(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 11) / (1ull << 52) - 1);
}

/* Runs with inputs and states that are the same numbers in the same order. */
static void run(Ctx *c, Graph *g, Job *j) {
    const void *in[64];
    void *out[8] = {NULL};
    int64_t sizes[64] = {0};
    int nin = 0;
    for (int i = 0; i < g->in.n; i++) {
        int64_t dims[MAX_RANK], n = 1;
        assert_true(value_static(g->in.v[i], dims));
        for (int k = 0; k < g->in.v[i]->rank; k++) n *= dims[k];
        float *f = gd_new_array(c, float, n);
        int64_t *whole = gd_new_array(c, int64_t, n);
        for (int64_t k = 0; k < n; k++) {
            f[k] = rnd();
            whole[k] = (int64_t)(f[k] * 1e6f);
        }
        const StateVar *s = state_of(g, g->in.v[i]);
        void *data = g->in.v[i]->dt == I64 ? (void *)whole : f;
        if (s && s->out >= 0) out[s->out] = data; /* its memory is the output's */
        else in[nin++] = data;
    }
    int64_t n[8], dims[MAX_RANK];
    int outputs = g->out.n;
    for (int i = 0; i < outputs; i++) {
        assert_true(value_static(g->out.v[i], dims));
        assert_true(is_int(value_count(c, g->out.v[i]), &n[i]));
        if (!out[i]) out[i] = gd_new_array(c, float, n[i]);
        j->nout += (int)n[i];
    }
    PassOptions o = {.opt = 1, .numerics = NUM_STRICT, .threads = 1, .machine = {8, 16, true, 32 << 10, 1 << 20}};
    Program *p = passes_run(g, &o);
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){in, out, sizes}), 0);
    float *to = j->out = malloc((size_t)j->nout * sizeof(float));
    for (int i = 0; i < outputs; to += n[i++]) memcpy(to, out[i], (size_t)n[i] * sizeof(float));
}

static void read_model(Ctx *c, void *arg) {
    Job *j = arg;
    FrontOptions o = {.states = true, .training = j->training};
    Graph *g;
    if (j->path) g = front_read(c, j->path, &o);
    else {
        FrontFile f = {.path = "text.model", .format = FF_MODEL, .bytes = gd_strndup(c, j->text, j->n), .n = j->n};
        g = front_graph(c, &f, &o);
    }
    graph_verify(g);
    j->states = g->states.n;
    j->inputs = g->in.n - g->states.n;
    if (g->train) j->spec = *g->train;
    for (int i = 0; i < g->states.n; i++) {
        int64_t n = 0;
        if (g->states.v[i]->kind != ST_PARAM) continue;
        assert_true(is_int(value_count(c, g->in.v[g->states.v[i]->in]), &n));
        j->params += n;
    }
    if (j->run) run(c, g, j);
    else if (j->part != TP_NONE) {
        PassOptions p = {.opt = 1, .numerics = NUM_STRICT, .threads = 1, .machine = {8, 16, true, 32 << 10, 1 << 20}, .train = j->part};
        passes_run(g, &p);
    }
}

static Job text_job(const char *text) { return (Job){.text = text, .n = strlen(text)}; }

static void read_ok(Job *j) {
    Ctx *c = gd_open(NULL);
    if (gd_enter(c, read_model, j)) fail_msg("%s: %s", j->path ? j->path : j->text, gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
    gd_close(c);
}

static void test_examples(void **state) {
    (void)state;
    static const int64_t params[EXAMPLES] = {34826, 185 * 128 + 128 + 185 * 18 + 18, 128 * 128 + 57 * 128 + 128 + 128 * 18 + 18,
                                             128 * 256 + 2 * (2 * 1024 * 256 + 2 * 1024) + 256 * 128 + 128, 10746624, 11173962};
    for (int i = 0; i < EXAMPLES; i++) {
        Job j = {.path = examples[i]};
        read_ok(&j);
        assert_int_equal(j.params, params[i]);
        assert_int_equal(j.inputs, 1);
        assert_non_null(j.spec.loss.name);
        assert_non_null(j.spec.optimizer.name);
    }
}

/* A step of training of every small example goes through all passes. */
static void test_steps(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++)
        for (int part = TP_STEP; part <= TP_EVAL; part++) {
            Job j = {.path = examples[i], .training = part == TP_STEP, .part = (TrainPart)part};
            read_ok(&j);
        }
}

static void test_train_block(void **state) {
    (void)state;
    Job j = text_job("model m\nsemantics torch\ninput x: [N, 4]\nlinear 3\noutput y\ntrain {\n  loss cross_entropy label_smoothing=0.1\n"
                     "  optimizer sgd lr=1e-2, momentum=.9\n  metrics accuracy, top_k k=2\n  schedule cosine steps=10\n  batch 8\n"
                     "  epochs 3\n  accumulate 4\n  clip norm=1.5 value .5\n  freeze linear1.b* other.?\n"
                     "  group *.weight rate=.1 decay=0\n  output y\n  strict\n}\n");
    read_ok(&j);
    const TrainSpec *s = &j.spec;
    assert_true(s->torch && s->strict);
    assert_int_equal(s->batch, 8);
    assert_int_equal(s->epochs, 3);
    assert_int_equal(s->accumulate, 4);
    assert_int_equal(s->metrics.n, 2);
    assert_int_equal(s->frozen.n, 2);
    assert_int_equal(s->groups.n, 1);
    assert_true(s->clip_norm == 1.5 && s->clip_value == .5 && s->clip_global == 0);
    assert_int_equal(s->optimizer.n, 2);
}

/* ---- the same network in two ways ---- */

static void same(const char *a, const char *b, bool training, double tolerance) {
    Job j[2] = {text_job(a), text_job(b)};
    j[0].training = training;
    for (int i = 0; i < 2; i++) {
        seed = 3;
        j[i].run = true;
        read_ok(&j[i]);
    }
    assert_int_equal(j[0].nout, j[1].nout);
    for (int i = 0; i < j[0].nout; i++)
        if (!(fabs((double)j[0].out[i] - (double)j[1].out[i]) <= tolerance)) fail_msg("%s\nelement %d: %g, and %g", a, i, (double)j[0].out[i], (double)j[1].out[i]);
    for (int i = 0; i < 2; i++) free(j[i].out);
}

#define TORCH "model m\nsemantics torch\n"
#define KERAS "model m\nsemantics keras\n"
#define X34 "input x: f32[2, 5, 3]\n"

static void test_cells(void **state) {
    (void)state;
    same(TORCH X34 "rnn 4\n",
         TORCH X34 "param w: [4, 3]\nparam r: [4, 4]\nparam a: [4]\nparam b: [4]\nh = zeros(2, 4)\n"
               "y = for s in x along 1 {\nh = tanh(matmul(s, transpose(w, 1, 0)) + matmul(h, transpose(r, 1, 0)) + (a + b))\n}\n", false, 1e-6);
    same(TORCH X34 "lstm 4 last\n",
         TORCH X34 "param w: [16, 3]\nparam r: [16, 4]\nparam a: [16]\nparam b: [16]\nh = zeros(2, 4)\nc = zeros(2, 4)\n"
               "for s in x along 1 {\nz = matmul(s, transpose(w, 1, 0)) + matmul(h, transpose(r, 1, 0)) + (a + b)\n"
               "i, f, g, o = split(z, 4, axis=1)\nc = sigmoid(f) * c + sigmoid(i) * tanh(g)\nh = sigmoid(o) * tanh(c)\n}\n", false, 1e-6);
    same(KERAS X34 "gru 4\n",
         KERAS X34 "param w: [3, 12]\nparam r: [4, 12]\nparam b: [2, 12]\nh = zeros(2, 4)\n"
               "for s in x along 1 {\nz1, r1, n1 = split(matmul(s, w) + b[0], 3, axis=1)\n"
               "z2, r2, n2 = split(matmul(h, r) + b[1], 3, axis=1)\nz = sigmoid(z1 + z2)\nn = tanh(n1 + sigmoid(r1 + r2) * n2)\n"
               "h = z * h + (1 - z) * n\n}\n", false, 1e-6);
}

static void test_forms(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {TORCH X34 "linear 4 relu\n", TORCH X34 "param w: [4, 3]\nparam b: [4]\nrelu(matmul(x, transpose(w, 1, 0)) + b)\n"},
        {KERAS X34 "dense(x, 4, tanh)\n", KERAS X34 "param w: [3, 4]\nparam b: [4]\ntanh(matmul(x, w) + b)\n"},
        {KERAS X34 "layernorm scale=false center=false\n", KERAS X34 "d = x - mean(x, axis=-1, keep)\nd / sqrt(mean(d * d, axis=-1, keep) + 1e-3)\n"},
        {TORCH X34 "a = linear 4\nb = linear 4 from x\nadd a b relu\n", TORCH X34 "relu(linear(x, 4) + linear(x, 4))\n"},
        {TORCH X34 "repeat 2 linear 3 name=w\n", TORCH X34 "repeat 2 {\nlinear 3 name=w\n}\n"},
        {TORCH X34 "block f(x, n=3) {\nlinear n from x\ntanh\n}\nf(f(x), n=2)\n", TORCH X34 "linear 3\ntanh\nlinear 2\ntanh\n"},
        {TORCH X34 "attend x x x causal\n", TORCH X34 "attend(x, x, x, heads=1, causal=true)\n"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        same(pairs[i][0], pairs[i][1], false, 1e-6);
}

/* Running statistics move by the batch's, which PyTorch makes unbiased. */
static void test_batchnorm(void **state) {
    (void)state;
#define BATCH "d = x - mean(x, axis=0, keep)\ns = mean(d * d, axis=0)\n"
    same(KERAS "input x: f32[6, 3]\nbatchnorm\n",
         KERAS "input x: f32[6, 3]\nparam g: [3]\nparam b: [3]\nparam m: [3]\nparam v: [3]\n" BATCH
               "output a = .99 * m + .01 * mean(x, axis=0), c = .99 * v + .01 * s, y = d / sqrt(s + 1e-3) * g + b\n", true, 1e-5);
    same(TORCH "input x: f32[6, 3]\nbatchnorm\n",
         TORCH "input x: f32[6, 3]\nparam g: [3]\nparam b: [3]\nparam m: [3]\nparam v: [3]\n" BATCH
               "output a = .9 * m + .1 * mean(x, axis=0), c = .9 * v + .12 * s, y = d / sqrt(s + 1e-5) * g + b\n", true, 1e-5);
}

/* A quarter is dropped, the others grow; two layers and two seeds drop differently. */
static void test_dropout(void **state) {
    (void)state;
    Job j[2];
    int zeros[4] = {0}, differ = 0;
    for (int k = 0; k < 2; k++) {
        j[k] = text_job(TORCH "input x: f32[4000]\none = x * 0 + 3\noutput a = dropout(one, .25), b = dropout(one, .25)\n");
        j[k].training = j[k].run = true;
        seed = 5 + (uint64_t)k;
        read_ok(&j[k]);
        assert_int_equal(j[k].nout, 8000);
        for (int i = 0; i < 8000; i++) {
            zeros[2 * k + i / 4000] += j[k].out[i] == 0;
            assert_true(j[k].out[i] == 0 || j[k].out[i] == 4);
            differ += k && j[1].out[i] != j[0].out[i];
        }
        for (int i = 0; i < 4000; i++) differ += j[k].out[i] != j[k].out[4000 + i];
    }
    for (int i = 0; i < 4; i++) assert_in_range(zeros[i], 900, 1100);
    assert_in_range(differ, 4000, 8000);
    for (int k = 0; k < 2; k++) free(j[k].out);
}

/* ---- faults ---- */

typedef struct Fault { const char *text, *message; } Fault;

#define IN "model m\ninput x: f32[N, 4]\n"
static const Fault faults[] = {
    {"model m\ndense 4\n", "line 2, column 1: dense: there is nothing to apply it to"},
    {"model m\n", "an input is expected, but the text ends"},
    {IN "densee 4\n", "line 3, column 1: there is no layer densee"},
    {IN "dense\n", "line 3, column 1: dense: how many units?"},
    {IN "dense 4 rellu\n", "line 3, column 9: dense does not know rellu"},
    {IN "dense 4 unts=3\n", "line 3, column 9: dense does not know unts"},
    {IN "dense 4 5\n", "line 3, column 9: dense takes no further number here"},
    {IN "dense 4 relu tanh\n", "line 3, column 14: dense has two activations"},
    {IN "dense 4 bias=maybe\n", "line 3, column 14: true or false is expected, not \"maybe\""},
    {IN "y = x + z\n", "line 3, column 9: the name z is not known"},
    {IN "y = x +\n", "line 3, column 8: a value is expected, not the end of the line"},
    {IN "y = (x\n", "\")\" is expected, not the end of the line"},
    {IN "y = x $ 3\n", "line 3, column 7: the character \"$\" has no meaning here"},
    {IN "conv2d 4 3x3\n", "line 3, column 1: conv2d: the input is f32[N,4], which has not 4 axes"},
    {IN "maxpool 2x2\n", "line 3, column 1: maxpool: the input is f32[N,4], which has not 4 axes"},
    {IN "dropout 1.5\n", "line 3, column 1: dropout: rate is 1.5"},
    {IN "embedding 4 4\n", "line 3, column 1: embedding: the input is f32[N,4]: it takes whole numbers"},
    {IN "reshape N 3\n", "line 3, column 1"},
    {IN "a = x[5]\nb = x[:, 4]\n", "line 4, column 5: the index of axis 1 is outside of f32[N,4]"},
    {IN "semantics kears\n", "line 3, column 11: keras or torch is expected, not \"kears\""},
    {"model m\ninput x: f31[N]\n", "line 2, column 10: there is no dtype f31"},
    {"model m\ninput x f32[N]\n", "line 2, column 9: \":\" is expected, not \"f32\""},
    {"model m\ninput x: f32[N, -3]\ndense 3\n", "line 2, column 17"},
    {"model m\ninput x: f32[N], x: f32[N]\n", "there is an input x already"},
    {IN "repeat x {\ndense 3\n}\n", "line 3, column 8: how often is a whole number"},
    {IN "repeat 2 {\ndense 3\n", "line 3, column 10: the } that closes this { is missing"},
    {IN "dense 3\n}\n", "line 4, column 1: there is no { that this } would close"},
    {IN "block b(a, c) {\ndense c from a\n}\nb\n", "line 6, column 1: block b needs its argument c"},
    {IN "block b(a) {\nb a\n}\nb\n", "blocks are nested more than 40 deep"},
    {IN "block dense(a) {\n}\n", "line 3, column 7: there is a layer dense already"},
    {IN "h = zeros(3)\nfor s in x {\nh = concat(h, s)\n}\n", "h is f32[3] before an iteration and f32[7] after it"},
    {IN "h = 0\nfor s in x {\nh = h + s\n}\n", "line 5, column 1: h is a number before the loop"},
    {IN "for s on x {\n}\n", "line 3, column 7: in is expected, not \"on\""},
    {IN "dense 3\noutput y, z\n", "the name y is not known"},
    {IN "dense 3\noutput = 4 5\n", "the end of the line is expected"},
    {IN "dense 3 name=a\ndense 4 name=a\n", "line 4, column 1: dense: parameter a/kernel is f32[4,3] already"},
    {"model m\ninput x: f32[N, 5, 4]\nlstm 4 sequence name=a\ndense 3\nlstm 4 name=a\n", "parameter a/kernel is f32[4,16] already"},
    {"model m\ninput x: f32[N, 5, 4]\ngru 4 sequence name=a\ndense 3\ngru 4 name=a\n", "parameter a/kernel is f32[4,12] already"},
    {"model m\ninput x: f32[N, 5, 4]\nattention 2 name=a\ndense 6\nattention 2 name=a\n", "parameter a/query/kernel is f32[4,2,2] already"},
    {"model m\nsemantics torch\ninput x: f32[N, 5, 4]\nattention 2 name=a\nlinear 6\nattention 2 name=a\n", "parameter a.in_proj_weight is f32[12,4] already"},
    {"model m\ninput x: f32[N, 8, 8, 4]\nconv2d 4 3x3 name=a\nconv2d 3 3x3\ndepthwise name=a\n", "parameter a/kernel is f32[3,3,4,4] already"},
    {"model m\ninput x: f32[N, 8, 8, 4]\nbatchnorm name=a\nconv2d 3 3x3\nbatchnorm name=a\n", "parameter a/gamma is f32[4] already"},
    {"model m\ninput x: i64[N]\nembedding 4 4 name=a\nembedding 4 5 name=a from x\n", "parameter a/embeddings is f32[4,4] already"},
    {IN "dense 3\ntrain\nlos mse\n", "line 5, column 1: a train block knows no los"},
    {IN "dense 3\ntrain\nloss mse\nbatch many\n", "line 6, column 7: a whole number for batch is expected, not \"many\""},
    {IN "dense 3\ntrain\noptimizer sgd lr\n", "line 5, column 17: optimizer: argument=value is expected"},
    {IN "dense 3\ntrain\nclip 3\n", "line 5, column 6: norm, value or global is expected, not \"3\""},
    {IN "a, b = dense 3\n", "line 3, column 1: there is 1 result for 2 names"},
    {IN "it = dense 3\n", "line 3, column 1: it is a word of the language"},
    {IN "param p: f32[N]\ndense 3\n", "the sizes of a parameter are numbers"},
    {"model m\ninput x: f32[N, C]\ndense 3\n", "axis 1 of f32[N,C] must be known"},
    {IN "x + zeros(3, 5)\n", "at line 3, column 3"},
    {IN "repeat 8000000000000000 { }\n", "statements are carried out"},
    {"model m\ninput x: f32[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\nflatten axis=16\n", "flatten: axis 16 is outside a tensor of 16 axes"},
    {"model m\ninput x: f32[8000000000000000, 8000000000000000]\n", "line 2, column 32: the size of x overflows"},
    {"model m\ninput x: i64[2]\nembedding 8000000000000000 8000000000000000\n", "the size of parameter embedding/embeddings overflows"},
    {"model m\ninput x: f32[2, 3, 4]\nattention 8000000000000000 key_dim=8000000000000000\n", "query/kernel overflows"},
};

static void test_faults(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        Ctx *c = gd_open(NULL);
        Job j = text_job(faults[i].text);
        int status = gd_enter(c, read_model, &j);
        if (!status || gd_error_count(c) != 1 || !strstr(gd_diag(c, 0)->message, faults[i].message) || status == EXIT_INTERNAL)
            fail_msg("%s: %d errors, status %d, the first: %s", faults[i].text, gd_error_count(c), status, gd_error_count(c) ? gd_diag(c, 0)->message : "none");
        gd_close(c);
    }
}

/* Problems of different lines all come out, and what follows from them does not. */
static void test_all_faults(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    Job j = text_job("model m\ninput x: f32[N, 4]\na = dense 4 rell\nb = a + 1\nc = conv2d 3 3x3 from b\nd = x + nix\nmaxpool 2\ne = softmaxx\n");
    assert_int_equal(gd_enter(c, read_model, &j), EXIT_INVALID);
    assert_int_equal(gd_error_count(c), 3);
    gd_close(c);
}

/* ---- texts cut off and changed ---- */

static void survives(const char *text, size_t n) {
    Ctx *c = gd_open(&(Budget){.max_nodes = 20000, .max_bytes = 1u << 30});
    Job j = {.text = text, .n = n};
    int status = gd_enter(c, read_model, &j);
    if (status == EXIT_INTERNAL) fail_msg("%s\n%.*s", gd_error_count(c) ? gd_diag(c, 0)->message : "an error", (int)n, text);
    gd_close(c);
}

static void test_cut(void **state) {
    (void)state;
    for (int i = 0; i < EXAMPLES; i++) {
        Ctx *c = gd_open(NULL);
        size_t n;
        char *text = gd_read_file(c, examples[i], SIZE_MAX, &n);
        size_t train = (size_t)(strstr(text, "\ntrain") - text); /* behind it cutting changes no node: every fifth byte */
        for (size_t k = 0; k <= n; k += k < train ? 1 : 5) survives(text, k);
        for (size_t k = 0; k < n; k += 3) {
            char keep = text[k];
            text[k] = "(){}[]=,x1 \n\"#"[k % 14];
            survives(text, n);
            text[k] = keep;
        }
        gd_close(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples), cmocka_unit_test(test_steps),  cmocka_unit_test(test_train_block), cmocka_unit_test(test_cells),
        cmocka_unit_test(test_forms),    cmocka_unit_test(test_batchnorm), cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_faults), cmocka_unit_test(test_all_faults),  cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
