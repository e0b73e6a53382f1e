/* What a model says of its own training: the node Gradient, and training information. Steps of a model of the corpus are held
   against those of onnx's reference evaluator (tests/oracle/training_info.py); faulty bindings come back as errors, all at once. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "frontend.h"
#include "gradc.h"
#include "onnx.h"
#include "scratch.h"

static void no_problem(Gradc *g, int status) {
    if (status) fail_msg("status %d: %s", status, gradc_problem_count(g) ? gradc_problem(g, 0).text : "");
}

/* ---- Gradient ---- */

static const char *const values[] = {"x=[1,2,3]", "h1=[1,1,2]"};
static const char model[] =
    "<ir_version: 8, opset_import: [\"\" : 17, \"ai.onnx.preview.training\" : 1]>\n"
    "m (double[3] x, double[3] h1) => (double[3] d, double[3] dd, double[3] dw, double[3] dh, double[3] at, double[3] inner)\n"
    "<double[3] w = {1, 2, 3}> {\n"
    "  h = Mul(w, x) s = Mul(h, h) p = Mul(s, h) y = ReduceSum<keepdims=0>(p)\n"
    "  d = ai.onnx.preview.training.Gradient<xs = [\"x\"], zs = [\"w\"], y = \"y\">(x, w)\n"
    "  dd = ai.onnx.preview.training.Gradient<xs = [\"x\"], zs = [\"w\"], y = \"d\">(x, w)\n"
    "  dw = ai.onnx.preview.training.Gradient<xs = [\"w\"], zs = [\"x\"], y = \"y\">(w, x)\n"
    "  dh = ai.onnx.preview.training.Gradient<xs = [\"h\"], y = \"y\">(h)\n"
    "  at = ai.onnx.preview.training.Gradient<xs = [\"h\"], y = \"y\">(h1)\n"
    "  inner = Identity(dh)\n}";

/* y = sum (w x)^3: by x, twice by x, by the constant w, by h = w x where it is and where it is said to be. */
static void gradients(void **state) {
    (void)state;
    static const double want[6][3] = {{3, 96, 729}, {6, 96, 486}, {3, 96, 729}, {3, 48, 243}, {3, 3, 12}, {3, 48, 243}};
    put("g.onnxtxt", model, sizeof model - 1);
    const char *path = at("g.onnxtxt");
    for (int opt = 0; opt < 2; opt++) {
        Gradc *g = gradc_open();
        GradcArgs a = {.values = (const char **)values, .nvalues = 2};
        const GradcTensor *out;
        const char *const *names;
        int n;
        gradc_option(g, "opt", opt ? "3" : "0");
        no_problem(g, gradc_load(g, path));
        no_problem(g, gradc_interpret(g, &a, &n, &out, &names));
        assert_int_equal(n, 6);
        for (int i = 0; i < 6; i++)
            for (int k = 0; k < 3; k++) assert_true(((double *)out[i].data)[k] == want[i][k]);
        gradc_close(g);
    }
}

/* In a branch, of what stands before it and of what it makes itself; in a function; through a loop; and dropout in a part that is
   made again drops what it dropped before: mask is q / v, drop the gradient of sum q by v. */
static void gradients_anywhere(void **state) {
    (void)state;
    static const char text[] =
        "<ir_version: 8, opset_import: [\"\" : 17, \"ai.onnx.preview.training\" : 1, \"own\" : 1]>\n"
        "m (double[3] x, bool c) => (double[3] d, double[3] f, double[3] u, double[3] drop, double[3] mask)\n"
        "<double[3] w = {1, 2, 3}, bool yes = {1}, double ratio = {0.5}> {\n"
        "  h = Mul(w, x) y = ReduceSumSquare<keepdims=0>(h)\n"
        "  d = If(c) <then_branch = t () => (double[3] a) {\n"
        "               a = ai.onnx.preview.training.Gradient<xs = [\"x\"], zs = [\"w\"], y = \"y\">(x, w) },\n"
        "             else_branch = e () => (double[3] b) { k = Mul(h, h) z = ReduceSum<keepdims=0>(k)\n"
        "               b = ai.onnx.preview.training.Gradient<xs = [\"h\"], y = \"z\">(h) }>\n"
        "  f, cubes = own.cube(x)\n"
        "  n = Size(x)\n"
        "  m = Loop(n, , x) <body = b (int64 i, bool go, double[3] acc) => (bool go2, double[3] acc2) {\n"
        "               go2 = Identity(go) acc2 = Mul(acc, x) }>\n"
        "  ms = ReduceSum<keepdims=0>(m) u = ai.onnx.preview.training.Gradient<xs = [\"x\"], y = \"ms\">(x)\n"
        "  v = Mul(w, x) q, keep = Dropout(v, ratio, yes) s = ReduceSum<keepdims=0>(q)\n"
        "  drop = ai.onnx.preview.training.Gradient<xs = [\"v\"], y = \"s\">(v) mask = Div(q, v)\n}\n"
        "<domain: \"own\", opset_import: [\"\" : 17, \"ai.onnx.preview.training\" : 1]>\n"
        "cube (p) => (g, s) { a = Mul(p, p) b = Mul(a, p) s = ReduceSum<keepdims=0>(b)\n"
        "  g = ai.onnx.preview.training.Gradient<xs = [\"p\"], y = \"s\">(p) }\n";
    static const double want[2][3][3] = {{{2, 8, 18}, {3, 12, 27}, {4, 32, 108}}, {{2, 16, 54}, {3, 12, 27}, {4, 32, 108}}};
    put("anywhere.onnxtxt", text, sizeof text - 1);
    for (int yes = 0; yes < 2; yes++) {
        const char *given[] = {"x=[1,2,3]", yes ? "c=true" : "c=false"};
        Gradc *g = gradc_open();
        GradcArgs a = {.values = given, .nvalues = 2};
        const GradcTensor *out;
        const char *const *names;
        int n;
        no_problem(g, gradc_load(g, at("anywhere.onnxtxt")));
        no_problem(g, gradc_interpret(g, &a, &n, &out, &names));
        for (int i = 0; i < 3; i++)
            for (int k = 0; k < 3; k++)
                if (((double *)out[i].data)[k] != want[yes][i][k]) fail_msg("%s[%d] is %g", names[i], k, ((double *)out[i].data)[k]);
        assert_memory_equal(out[3].data, out[4].data, 3 * sizeof(double));
        gradc_close(g);
    }
}

static void faulty_gradients(void **state) {
    (void)state;
    static const char *const parts[] = {"2 tensors, and there are 1 inputs", "\"nix\", which nothing makes", "attribute xs is missing",
                                        "y is i64[1]", "by \"i\" was asked for", "attribute y: a string was expected"};
    static const char faulty[] =
        "<ir_version: 8, opset_import: [\"\" : 17, \"ai.onnx.preview.training\" : 1]> m (float[3] x) => (float[3] d) {\n"
        "  y = ReduceSum<keepdims=0>(x) i = ArgMax(x)\n"
        "  d = ai.onnx.preview.training.Gradient<xs = [\"x\", \"q\"], y = \"y\">(x)\n"
        "  e = ai.onnx.preview.training.Gradient<xs = [\"x\"], y = \"nix\">(x)\n"
        "  f = ai.onnx.preview.training.Gradient<y = \"y\">(x)\n"
        "  j = ai.onnx.preview.training.Gradient<xs = [\"x\"], y = \"i\">(x)\n"
        "  k = ai.onnx.preview.training.Gradient<xs = [\"i\"], y = \"y\">(i)\n"
        "  l = ai.onnx.preview.training.Gradient<xs = [\"x\"], y = 3>(x)\n}";
    put("faulty.onnxtxt", faulty, sizeof faulty - 1);
    Gradc *g = gradc_open();
    gradc_load(g, at("faulty.onnxtxt"));
    assert_int_equal(gradc_check(g), 3);
    assert_int_equal(gradc_problem_count(g), 6);
    for (int i = 0; i < 6; i++)
        if (!strstr(gradc_problem(g, i).text, parts[i])) fail_msg("%s", gradc_problem(g, i).text);
    gradc_close(g);
}

/* ---- training information ---- */

enum { BATCH = 4, FEATURES = 5, CLASSES = 3, STEPS = 20 };

static GradcTensor tensor(int dtype, int rank, void *data, size_t bytes) {
    return (GradcTensor){.dtype = dtype, .rank = rank, .dims = {BATCH, FEATURES}, .data = data, .bytes = bytes};
}

static double step(const GradcTrainer *t, void *state, int s) {
    float x[BATCH][FEATURES];
    int64_t label[BATCH];
    GradcCall c;
    GradcError e;
    for (int i = 0; i < BATCH; i++) {
        label[i] = (i + s) % CLASSES;
        for (int j = 0; j < FEATURES; j++) x[i][j] = (float)((7 * i + 3 * j + 5 * s) % 11) / 8 - .5f;
    }
    GradcTensor tx = tensor(GRADC_F32, 2, x, sizeof x), ty = tensor(GRADC_I64, 1, label, sizeof label);
    assert_int_equal(gradc_trainer_open(&c, t, t->step, state, &e), 0);
    for (int i = 0; i < t->step->nin; i++) {
        const char *name = t->step->in[i].name;
        if (!gradc_trainer_data_in(t, t->step, i)) continue;
        assert_int_equal(gradc_call_set(&c, i, strcmp(name, "x") ? &ty : &tx, &e), 0);
    }
    if (gradc_call_run(&c, &e)) fail_msg("%s", e.text);
    double loss = NAN;
    for (int i = 0; i < t->step->nout; i++)
        if (!strcmp(t->step->out[i].name, "batch_loss")) loss = *(float *)c.out[i].data;
    gradc_call_close(&c);
    return loss;
}

static double worst;
static void close_to(const char *what, double have, double want) {
    double error = fabs(have - want) / (1 + fabs(want));
    if (!(error < 2e-5)) fail_msg("%s: %.9g, not %.9g", what, have, want);
    if (error > worst) worst = error;
}

static void steps(void **unused) {
    (void)unused;
    static const char *const backends[] = {"llvm", "c"};
    void *first = NULL;
    for (int b = 0; b < 2; b++) {
        Gradc *g = gradc_open();
        const GradcTrainer *t;
        GradcError e;
        char line[1 << 12];
        gradc_option(g, "batch", "4");
        gradc_option(g, "backend", backends[b]);
        no_problem(g, gradc_load(g, "tests/corpus/trains.onnx"));
        int status = gradc_trainer(g, GRADC_PART_EVAL, &t);
        if (status == 3) { gradc_close(g); continue; } /* no such back end here */
        no_problem(g, status);
        assert_string_equal(t->target, "label");
        void *state = gradc_state_new(t);
        assert_int_equal(gradc_state_init(t, state, 1, &e), 0);
        FILE *f = fopen("tests/corpus/trains.txt", "r");
        assert_non_null(f);
        for (int s = 0; fgets(line, sizeof line, f);) {
            char *name = strtok(line, " "), *word;
            int i = gradc_state_index(t, name);
            if (!strcmp(name, "loss")) { close_to("loss", step(t, state, s++), atof(strtok(NULL, " "))); continue; }
            if (i < 0) fail_msg("%s is no state", name);
            GradcTensor v = gradc_state_tensor(t, state, i);
            for (int k = 0; (word = strtok(NULL, " ")); k++)
                close_to(name, v.dtype == GRADC_I64 ? (double)((int64_t *)v.data)[k] : ((float *)v.data)[k], atof(word));
        }
        fclose(f);
        if (first && memcmp(first, state, t->state_bytes)) fail_msg("c and llvm have other states");
        if (first) free(state);
        else first = state;
        gradc_close(g);
    }
    free(first);
    print_message("worst error %.2g\n", worst);
}

/* Three texts as one model: the model, its initialization, its algorithm. Bindings: KEY=VALUE, ended by NULL. */
typedef struct Parts { const char *model, *init, *algorithm, *const *first, *const *next; const char *path; } Parts;

static void bind(Ctx *c, const char *const *from, size_t *n, PbEntry ***to) {
    *to = gd_new_array(c, PbEntry *, 16);
    for (*n = 0; from[*n]; ++*n) {
        const char *equals = strchr(from[*n], '=');
        PbEntry *e = gd_new(c, PbEntry);
        onnx__string_string_entry_proto__init(e);
        e->key = gd_strndup(c, from[*n], (size_t)(equals - from[*n]));
        e->value = gd_strdup(c, equals + 1);
        (*to)[*n] = e;
    }
}

static void write_parts(Ctx *c, void *arg) {
    static const char head[] = "<ir_version: 8, opset_import: [\"\" : 17, \"ai.onnx.preview.training\" : 1]> ";
    Parts *p = arg;
    const char *texts[] = {p->model, p->init, p->algorithm};
    PbModel *m[3];
    for (int i = 0; i < 3; i++) {
        const char *text = gd_format(c, "%s%s", head, texts[i]);
        m[i] = pb_model_text(c, text, strlen(text));
    }
    PbTraining *t = gd_new(c, PbTraining);
    onnx__training_info_proto__init(t);
    t->initialization = m[1]->graph;
    t->algorithm = m[2]->graph;
    bind(c, p->first, &t->n_initialization_binding, &t->initialization_binding);
    bind(c, p->next, &t->n_update_binding, &t->update_binding);
    m[0]->n_training_info = 1;
    m[0]->training_info = gd_new_array(c, PbTraining *, 1);
    m[0]->training_info[0] = t;
    size_t n = onnx__model_proto__get_packed_size(m[0]);
    uint8_t *bytes = gd_alloc(c, n);
    onnx__model_proto__pack(m[0], bytes);
    FILE *f = fopen(p->path, "wb");
    assert_true(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
}

static const char *const nothing[] = {NULL};
static Parts parts = {
    .model = "m (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {1, 2}, float[2] unused = {1, 2}> { y = MatMul(x, w) }",
    .init = "i () => (float[2, 1] first, float[1] short, int64 number) <int64 z = {0}> {\n"
            "  first = RandomNormal<shape = [2, 1]>() short = RandomNormal<shape = [1]>() number = Identity(z) }",
    .algorithm = "a (float[N, 1] target) => (float loss, float[2, 1] next, float rate_next, float[1] short_next, int64 whole)\n"
                 "  <float rate = {0.5}, float half = {0.5}, int64 k = {3}> {\n"
                 "  e = Sub(y, target) s = Mul(e, e) loss = ReduceMean<keepdims = 0>(s)\n"
                 "  d = ai.onnx.preview.training.Gradient<xs = [\"w\"], zs = [\"x\", \"target\"], y = \"loss\">(w, x, target)\n"
                 "  by = Mul(d, rate) next = Sub(w, by) rate_next = Mul(rate, half) axis = Constant<value_ints = [0]>()\n"
                 "  short_next = Unsqueeze(rate, axis) whole = Identity(k) }"};

static Gradc *with(const char *const *first, const char *const *next) {
    Ctx *c = gd_open(NULL);
    parts.first = first;
    parts.next = next;
    parts.path = at("parts.onnx");
    if (gd_enter(c, write_parts, &parts)) fail_msg("%s", gd_diag(c, 0)->message);
    gd_close(c);
    Gradc *g = gradc_open();
    no_problem(g, gradc_load(g, parts.path));
    return g;
}

/* First values follow the seed; a rate that the algorithm halves is state, a constant that nobody binds is none. */
static void first_values(void **unused) {
    (void)unused;
    static const char *const first[] = {"w=first", NULL}, *const next[] = {"w=next", "rate=rate_next", NULL};
    Gradc *g = with(first, next);
    const GradcTrainer *t;
    GradcError e;
    gradc_option(g, "backend", "c");
    int status = gradc_trainer(g, GRADC_PART_RUN, &t);
    if (status == 3) { gradc_close(g); return; }
    no_problem(g, status);
    int w = gradc_state_index(t, "w");
    assert_true(w >= 0 && gradc_state_index(t, "rate") >= 0);
    assert_int_equal(t->states[w].kind, GRADC_PARAM);
    assert_int_equal(gradc_state_index(t, "unused"), -1);
    assert_int_equal(gradc_state_index(t, "half"), -1);
    float have[3][2];
    for (int i = 0; i < 3; i++) {
        void *state = gradc_state_new(t);
        assert_int_equal(gradc_state_init(t, state, i % 2 ? 5 : 4, &e), 0);
        memcpy(have[i], gradc_state_tensor(t, state, w).data, sizeof *have);
        free(state);
    }
    assert_memory_equal(have[0], have[2], sizeof *have);
    assert_true(memcmp(have[0], have[1], sizeof *have));
    gradc_close(g);
}

/* What would change the algorithm is told to be in vain, until a loss takes its place. */
static void options(void **unused) {
    (void)unused;
    int nnotes;
    const char *const *notes;
    Gradc *g = gradc_open();
    gradc_option(g, "optimizer", "sgd");
    gradc_option(g, "clip-norm", "1");
    no_problem(g, gradc_load(g, "tests/corpus/trains.onnx"));
    assert_int_equal(gradc_check_train(g, &nnotes, &notes), 2);
    assert_int_equal(gradc_problem_count(g), 2);
    gradc_option(g, "loss", "cross_entropy");
    no_problem(g, gradc_check_train(g, &nnotes, &notes));
    gradc_close(g);
}

static void bad(const char *const *first, const char *const *next, int n, const char *const *problems) {
    Gradc *g = with(first, next);
    int nnotes;
    const char *const *notes;
    assert_int_equal(gradc_check(g), 0); /* the model itself is none the worse for it */
    assert_int_equal(gradc_check_train(g, &nnotes, &notes), 3);
    for (int i = 0; i < gradc_problem_count(g) || i < n; i++) {
        if (i >= gradc_problem_count(g)) fail_msg("no problem says: %s", problems[i]);
        if (i >= n || !strstr(gradc_problem(g, i).text, problems[i])) fail_msg("problem %d: %s", i, gradc_problem(g, i).text);
    }
    gradc_close(g);
}

static void bad_bindings(void **unused) {
    (void)unused;
    static const char *const next[] = {"q=next", "w=nix", "w=next", "x=next", NULL}, *const good[] = {"w=next", NULL};
    static const char *const named[] = {"no initializer is called \"q\"", "becomes \"nix\", and no output is called that",
                                        "\"w\" is assigned to twice", "no initializer is called \"x\""};
    bad(nothing, next, 4, named);
    static const char *const types[] = {"w=short_next", "rate=whole", NULL};
    static const char *const said[] = {"\"w\" is f32[2,1], and \"short_next\", which it becomes, is f32[1]",
                                       "\"rate\" is f32[], and \"whole\", which it becomes, is i64[]"};
    bad(nothing, types, 2, said);
    static const char *const first[] = {"w=short", NULL}, *const wrong[] = {"initialization_binding: \"w\" is f32[2,1]"};
    bad(first, good, 1, wrong);
    static const char *const none[] = {"it has no update_binding"};
    bad(nothing, nothing, 1, none);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients), cmocka_unit_test(gradients_anywhere), cmocka_unit_test(faulty_gradients), cmocka_unit_test(steps),
                                       cmocka_unit_test(first_values), cmocka_unit_test(options), cmocka_unit_test(bad_bindings)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
