/* Round trips: a graph written as an ONNX file and read again gives the same bits. Random graphs over the op table, small
   models of what needs a form of its own in ONNX, and the example model; states as initialisers; errors all at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "onnx.h"
#include "onnxgraph.h"
#include "onnxwrite.h"
#include "params.h"
#include "passes.h"
#include "randomgraph.h"
#include "safetensors.h"
#include "scratch.h"
#include "train.h"

enum { MAX_BYTES = 1 << 20, SIZE = 3 /* of every open dim */ };

/* ---- running a graph ---- */

typedef struct Result { int status; size_t n; char bytes[MAX_BYTES]; } Result;

static Expr *known(void *arg, Expr *e) {
    void **env = arg;
    const Program *p = env[0];
    const int64_t *syms = env[1];
    for (int i = 0; i < p->syms.n; i++)
        if (e->kind == E_VAR && e->var == p->syms.v[i]) return expr_int(p->c, syms[i]);
    return e;
}

static int64_t count_of(const Program *p, const Buf *b, const int64_t *syms) {
    const void *env[] = {p, syms};
    int64_t n = -1;
    return is_int(expr_rewrite(p->c, buf_size(p->c, b), known, env), &n) ? n : -1;
}

/* Inputs are eighths between -2 and 2; integers 0, 1 and 2. */
static const void *input_of(Ctx *c, const Buf *b, int64_t count) {
    char *data = gd_alloc_aligned(c, (size_t)count * 16 + 1);
    for (int64_t k = 0; k < count; k++) {
        int64_t r = (k * 7 + b->port * 3 + 5) % 33;
        gd_store_bits(b->dt, data + k * gd_dtypes[b->dt].bytes,
                      gd_to_bits(b->dt, dt_int(b->dt) ? (double)(r % 3) : b->dt == BOOL ? (double)(r % 2) : (double)(r - 16) / 8));
    }
    return data;
}

static void run_graph(Ctx *c, Graph *g, Result *r) {
    PassOptions o = {.opt = 1, .numerics = NUM_STRICT, .threads = 1, .machine = {16, 32, true, 32 << 10, 1 << 20}};
    graph_verify(g);
    Program *p = passes_run(g, &o);
    int64_t syms[64];
    const void *in[16] = {NULL};
    void *outs[16] = {NULL};
    for (int i = 0; i < p->syms.n && i < 64; i++) syms[i] = p->syms.v[i]->data ? -1 : SIZE;
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        if (b->space == SP_IN) in[b->port] = input_of(c, b, count_of(p, b, syms));
    }
    r->n = 0;
    r->status = loop_interpret(c, p, &(LoopArgs){in, outs, syms});
    for (int i = 0; i < p->params.n && !r->status; i++) {
        const Buf *b = p->params.v[i];
        if (b->space != SP_OUT) continue;
        size_t bytes = (size_t)count_of(p, b, syms) * (size_t)gd_dtypes[b->dt].bytes;
        assert_true(r->n + bytes <= MAX_BYTES);
        memcpy(r->bytes + r->n, outs[b->port], bytes);
        r->n += bytes;
    }
}

static bool same_bits(const Result *a, const Result *b) {
    if (a->status != b->status || a->n != b->n) return false;
    size_t whole = a->n / 4 * 4;
    if (memcmp(a->bytes + whole, b->bytes + whole, a->n - whole)) return false;
    for (size_t i = 0; i < whole; i += 4) {
        float x, y;
        memcpy(&x, a->bytes + i, 4);
        memcpy(&y, b->bytes + i, 4);
        if (memcmp(&x, &y, 4) && !(x != x && y != y)) return false;
    }
    return true;
}

/* ---- there and back ---- */

typedef struct Trip {
    const char *text;    /* ONNX text; NULL: a file, or the random graph of seed */
    const char *file;
    uint64_t seed;
    bool skipped;        /* ONNX has no form of it */
    int code;
    Result before, after;
} Trip;

static Graph *original(Ctx *c, const Trip *t) {
    FrontOptions o = {0};
    if (t->text) return onnx_graph(c, pb_model_text(c, t->text, strlen(t->text)), NULL, "model", &o);
    if (t->file) return onnx_graph(c, pb_model_file(c, t->file), t->file, "model", &o);
    return random_graph(c, t->seed);
}

/* Ranges of symbols do not stand in a file. */
static const char *const *ranges(Ctx *c, const Graph *g) {
    const char **dims = gd_new_array(c, const char *, g->syms.n + 1);
    int n = 0;
    for (int i = 0; i < g->syms.n; i++)
        if (!g->syms.v[i]->data && g->syms.v[i]->hi != INT64_MAX)
            dims[n++] = gd_format(c, "%s=%lld..%lld", g->syms.v[i]->name, (long long)g->syms.v[i]->lo, (long long)g->syms.v[i]->hi);
    return dims;
}

static void go(Ctx *c, void *arg) {
    Trip *t = arg;
    size_t n;
    Graph *g = original(c, t);
    FrontOptions o = {.dims = ranges(c, g)};
    char *bytes = onnx_bytes(c, g, NULL, NULL, &n);
    Graph *again = onnx_graph(c, pb_model(c, bytes, n), NULL, "again", &o);
    assert_int_equal(g->in.n, again->in.n);
    assert_int_equal(g->out.n, again->out.n);
    for (int i = 0; i < g->in.n; i++) assert_string_equal(g->in_names.v[i], again->in_names.v[i]);
    for (int i = 0; i < g->out.n; i++) assert_string_equal(g->out_names.v[i], again->out_names.v[i]);
    run_graph(c, again, &t->after);
    run_graph(c, g, &t->before);
}

static void round_trip(Trip *t, const char *what) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, go, t);
    t->code = gd_error_count(c) ? gd_diag(c, 0)->code : 0;
    t->skipped = t->code == 406;
    if (status && !t->skipped) fail_msg("%s: %s", what, gd_diag(c, gd_error_count(c) - 1)->message);
    gd_close(c);
    if (!t->skipped && !same_bits(&t->before, &t->after)) fail_msg("%s: other bits", what);
}

static void random_graphs(void **state) {
    (void)state;
    static Trip t;
    int skipped = 0;
    for (int seed = 1; seed <= 200; seed++) {
        char what[32];
        snprintf(what, sizeof what, "seed %d", seed);
        t = (Trip){.seed = (uint64_t)seed};
        round_trip(&t, what);
        skipped += t.skipped;
    }
    if (skipped > 40) fail_msg("%d of 200 graphs have no form in ONNX", skipped);
}

#define MODEL(in, out, body) "<ir_version: 10, opset_import: [\"\" : 21]> g (" in ") => (" out ") {" body "}"

static void models(void **state) {
    (void)state;
    static const struct { const char *what, *text; } list[] = {
        {"softmax", MODEL("float[N, 5] x", "float[N, 5] y", "y = Softmax <axis = 1> (x)")},
        {"layer norm", MODEL("float[N, 4] x, float[4] s", "float[N, 4] y", "y = LayerNormalization (x, s)")},
        {"convolution", MODEL("float[N, 2, 5, 6] x, float[4, 1, 3, 3] w, float[4] b", "float[N, 4, a, b] y",
                              "y = Conv <pads = [1, 1, 1, 1], strides = [2, 1], group = 2> (x, w, b)")},
        {"transposed convolution", MODEL("float[1, 2, 3, 4] x, float[2, 3, 3, 3] w", "float[1, 3, a, b] y",
                                         "y = ConvTranspose <strides = [2, 3], pads = [1, 0, 0, 1]> (x, w)")},
        {"pooling", MODEL("float[N, 2, 6, 7] x", "float[N, 2, a, b] y, float[N, 2, c, d] z, float[N, 2, 1, 1] m, int64[N, 2, a, b] i",
                          "y, i = MaxPool <kernel_shape = [3, 2], pads = [1, 0, 1, 1], strides = [2, 2]> (x) "
                          "z = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x) "
                          "m = GlobalAveragePool (x)")},
        {"average without padding", MODEL("float[N, 2, 6, 7] x", "float[N, 2, a, b] y",
                                          "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)")},
        {"dense", MODEL("float[N, 4] x, float[3, 4] w, float[3] b", "float[N, 3] y", "y = Gemm <transB = 1> (x, w, b)")},
        {"products", MODEL("float[2, N, 4] x, float[2, 4, 3] w", "float[2, N, 3] y, float[2, 3, N] z",
                           "y = MatMul (x, w) z = Einsum <equation = \"bij,bjk->bki\"> (x, w)")},
        {"recurrent", MODEL("float[T, 2, 3] x, float[1, 16, 3] w, float[1, 16, 4] r", "float[T, 1, 2, 4] y",
                            "y = LSTM <hidden_size = 4> (x, w, r)")},
        {"branches", MODEL("float[N] x, bool c", "float[M] y",
                           "y = If <then_branch = one () => (float[M] a) {a = Neg (x)}, else_branch = two () => (float[K] b) "
                           "{b = Concat <axis = 0> (x, x)}> (c)")},
        {"loop", MODEL("float[2] x, int64 n", "float[2] y, float[K, 2] s",
                       "y, s = Loop <body = l (int64 i, bool c, float[2] v) => (bool d, float[2] w, float[2] e) "
                       "{d = Identity (c) f = Cast <to = 1> (i) w = Add (v, f) e = Mul (w, x)}> (n, , x)")},
        {"slices", MODEL("float[N, 7] x", "float[M, 3] y", "a = Constant <value_ints = [-1, 6]> () b = Constant <value_ints = [-9, 0]> () "
                                                         "c = Constant <value_ints = [-1, -2]> () d = Constant <value_ints = [0, 1]> () y = Slice (x, a, b, d, c)")},
        {"sizes at run time", MODEL("float[N, 4] x", "float[M, 2] y, float[K, 4] z",
                                    "t = Constant <value_ints = [-1, 2]> () y = Reshape (x, t) s = Shape (x) z = Expand (x, s)")},
        {"what is not zero", MODEL("float[N, 4] x", "int64[2, 1] y", "p = NonZero (x) a = Constant <value_ints = [1]> () y = ReduceSum (p, a)")},
        {"sorted", MODEL("float[N, 4] x, int64[1] k", "float[N, M] y, int64[N, M] i", "y, i = TopK (x, k)")},
        {"scatter", MODEL("float[N, 4] x, int64[N, 4] i, float[N, 4] u", "float[N, 4] y", "y = ScatterElements <axis = 0, reduction = \"add\"> (x, i, u)")},
        {"integers", MODEL("int64[N] a, int32[N] b", "int64[N] y", "c = Cast <to = 7> (b) d = Mod (a, c) e = Mul (d, a) y = Max (e, c)")},
        {"resize", MODEL("float[1, 2, 3, 4] x", "float[1, 2, a, b] y",
                         "s = Constant <value_floats = [1.0, 1.0, 2.0, 1.5]> () y = Resize <mode = \"linear\"> (x, , s)")},
    };
    static Trip t;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        t = (Trip){.text = list[i].text};
        round_trip(&t, list[i].what);
        if (t.skipped) fail_msg("%s has no form in ONNX", list[i].what);
    }
}

static void example(void **state) {
    (void)state;
    static Trip t;
    char path[4096];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 64, "../examples/fashion_cnn/fashion_cnn.onnx");
    t = (Trip){.file = path};
    round_trip(&t, "the example");
    assert_false(t.skipped);
}

/* ---- states, errors ---- */

static void save(const char *name, const GradcTensor *t) {
    GradcNamed one = {.name = name, .tensor = *t};
    GradcError e;
    assert_int_equal(gradc_safetensors_write(at("w.safetensors"), &one, 1, NULL, 0, &e), 0);
}

static void with_state(Ctx *c, void *arg) {
    Graph *g = graph_new(c, "trained");
    Expr *dim[] = {expr_int(c, 2)};
    int64_t two = 2;
    Value *x = graph_input(g, "x", F32, 1, dim), *w = state_new(g, ST_PARAM, "layer.w", F32, 1, &two, NULL);
    Value *y = make(g, "mul", x, w);
    graph_output(g, "y", y);
    state_next(g, w, y);
    size_t n;
    char *bytes = onnx_bytes(c, g, params_data, params_open(c, at("w.safetensors")), &n);
    PbModel *m = pb_model(c, bytes, n);
    assert_int_equal(m->graph->n_input, 1);
    assert_int_equal(m->graph->n_output, 1);
    assert_int_equal(m->graph->n_initializer, 1);
    assert_string_equal(m->graph->initializer[0]->name, "layer.w");
    assert_memory_equal(m->graph->initializer[0]->raw_data.data, ((GradcTensor *)arg)->data, 8);
    assert_string_equal(m->graph->node[0]->op_type, "Mul");
}

static int attempt(void (*body)(Ctx *, void *), void *arg, int *errors) {
    Ctx *c = gd_open(NULL);
    gd_enter(c, body, arg);
    *errors = gd_error_count(c);
    int code = *errors ? gd_diag(c, 0)->code : 0;
    gd_close(c);
    return code;
}

static void states(void **state) {
    (void)state;
    float v[] = {1.5f, -2};
    int errors;
    GradcTensor t = {.dtype = GRADC_F32, .rank = 1, .dims = {2}, .data = v, .bytes = sizeof v};
    save("layer.w", &t);
    assert_int_equal(attempt(with_state, &t, &errors), 0);
    t.dims[0] = 1; /* of another shape */
    t.bytes = sizeof *v;
    save("layer.w", &t);
    assert_int_equal(attempt(with_state, &t, &errors), 603);
    save("layer.b", &t);
    assert_int_equal(attempt(with_state, &t, &errors), 602);
}

static void two_shifts(Ctx *c, void *arg) {
    (void)arg;
    Graph *g = graph_new(c, "shifts");
    Expr *dim[] = {expr_int(c, 2)};
    Value *x = graph_input(g, "x", I64, 1, dim);
    graph_output(g, "y", make(g, "shift_left", make(g, "shift_right", x, x), x));
    size_t n;
    onnx_bytes(c, g, NULL, NULL, &n);
}

static void all_errors(void **state) {
    (void)state;
    int errors;
    assert_int_equal(attempt(two_shifts, NULL, &errors), 406);
    assert_int_equal(errors, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(models), cmocka_unit_test(random_graphs), cmocka_unit_test(example),
                                       cmocka_unit_test_setup_teardown(states, make_dir, remove_dir), cmocka_unit_test(all_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
