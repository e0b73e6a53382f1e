/* The gradient of a small network, conv - relu - max pool - dense - softmax - loss, made by the pass grad: against central
   differences in double, and equal bits from the interpreter and both back ends in float. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "codegen.h"
#include "frontend.h"
#include "passes.h"

#define NETWORK(T)                                                                                                     \
    "<ir_version: 8, opset_import: [\"\" : 17]> net (" T "[3,2,9,8] x, " T "[4,2,3,3] w, " T "[4] b, " T "[48,5] v, " T    \
    "[5] c, " T "[3,5] t) => (" T " loss) {"                                                                             \
    " y = Conv<pads=[1,0,1,1], strides=[1,1]>(x, w, b)  r = Relu(y)  p = MaxPool<kernel_shape=[3,2], strides=[2,2]>(r)"  \
    " f = Flatten(p)  z = Gemm(f, v, c)  s = Softmax<axis=1>(z)  l = Log(s)  m = Mul(l, t)"                             \
    " q = ReduceSum<keepdims=0>(m)  loss = Neg(q) }"

enum { INPUTS = 6, ASKED = 5 }; /* the target t is no parameter */
static const int sizes[INPUTS] = {3 * 2 * 9 * 8, 4 * 2 * 9, 4, 48 * 5, 5, 15};

static uint64_t seed = 7;
static double rnd(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) / (1ull << 52) - 1;
}

typedef struct Job {
    const char *text, *grad, *backend;
    int lanes, opt;
    const void *in[INPUTS];
    void *out[1 + ASKED];
} Job;

static Graph *network(Ctx *c, const char *text) {
    FrontFile f = {"net.onnxtxt", FF_ONNX_TEXT, gd_strdup(c, text), strlen(text)};
    FrontOptions o = {.prefix = "net"};
    return front_graph(c, &f, &o);
}

static void job(Ctx *c, void *arg) {
    Job *j = arg;
    const Target *target = target_named(c, "native");
    PassOptions o = {.opt = j->opt, .numerics = NUM_STRICT, .threads = 2, .grad = j->grad,
                     .machine = {j->lanes ? j->lanes : target->lanes, target->registers, true, target->l1, target->l2}};
    Program *p = passes_run(network(c, j->text), &o);
    if (!j->backend) {
        assert_int_equal(loop_interpret(c, p, &(LoopArgs){j->in, j->out, NULL}), 0);
        return;
    }
    Loaded l;
    EmitOptions e = {.target = target, .prefix = "net", .table = true, .opt = 2};
    backend_named(c, j->backend)->load(p, &e, &l);
    size_t bytes = l.program->arena_bytes(NULL);
    void *arena = gd_alloc_aligned(c, bytes ? bytes : 1);
    assert_int_equal(l.program->run(j->in, j->out, NULL, arena, bytes), 0);
}

static void run(Job *j) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, job, j);
    if (status) fail_msg("%s", gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
    gd_close(c);
}

static double *random_doubles(int n) {
    double *d = malloc((size_t)n * sizeof *d);
    for (int i = 0; i < n; i++) d[i] = rnd();
    return d;
}

static void test_differences(void **state) {
    (void)state;
    double *in[INPUTS], *dx[ASKED], loss, worst = 0;
    Job j = {.text = NETWORK("double"), .grad = "loss:x,w,b,v,c", .opt = 3};
    for (int i = 0; i < INPUTS; i++) j.in[i] = in[i] = random_doubles(sizes[i]);
    j.out[0] = &loss;
    for (int i = 0; i < ASKED; i++) j.out[1 + i] = dx[i] = calloc((size_t)sizes[i], sizeof(double));
    run(&j);
    Job at = {.text = j.text, .opt = 1};
    for (int i = 0; i < INPUTS; i++) at.in[i] = in[i];
    for (int i = 0; i < ASKED; i++)
        for (int k = 0; k < sizes[i]; k += 1 + sizes[i] / 12) {
            double keep = in[i][k], h = 1e-6, side[2];
            for (int s = 0; s < 2; s++) {
                in[i][k] = keep + (s ? h : -h);
                at.out[0] = &side[s];
                run(&at);
            }
            in[i][k] = keep;
            double want = (side[1] - side[0]) / (2 * h), error = fabs(want - dx[i][k]) / (1 + fabs(want));
            if (error > worst) worst = error;
            if (!(error <= 1e-6)) fail_msg("input %d element %d: %.9g, not %.9g", i, k, dx[i][k], want);
        }
    print_message("worst relative error %.1e\n", worst);
    for (int i = 0; i < INPUTS; i++) free(in[i]);
    for (int i = 0; i < ASKED; i++) free(dx[i]);
}

/* Every schedule and both back ends: the same bits. */
static void test_bits(void **state) {
    (void)state;
    static const struct { const char *backend; int lanes, opt; } ways[] = {
        {NULL, 1, 0}, {NULL, 16, 3}, {NULL, 8, 3}, {"c", 0, 0},
#ifdef GRADC_LLVM
        {"llvm", 0, 3}, {"llvm", 0, 0}, {"c", 0, 3},
#endif
    };
    float *in[INPUTS];
    char *first[1 + ASKED] = {0};
    Job j = {.text = NETWORK("float"), .grad = "loss:x,w,b,v,c"};
    for (int i = 0; i < INPUTS; i++) {
        in[i] = malloc((size_t)sizes[i] * sizeof(float));
        for (int k = 0; k < sizes[i]; k++) in[i][k] = (float)rnd();
        j.in[i] = in[i];
    }
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        char *out[1 + ASKED];
        for (int i = 0; i <= ASKED; i++) j.out[i] = out[i] = calloc(i ? (size_t)sizes[i - 1] : 1, sizeof(float));
        j.backend = ways[w].backend;
        j.lanes = ways[w].lanes;
        j.opt = ways[w].opt;
        run(&j);
        for (int i = 0; i <= ASKED; i++) {
            size_t bytes = (i ? (size_t)sizes[i - 1] : 1) * sizeof(float);
            for (size_t k = 0; first[i] && k < bytes / sizeof(float); k++) {
                float a = ((float *)first[i])[k], b = ((float *)out[i])[k];
                if (memcmp(&a, &b, sizeof a)) fail_msg("way %zu, output %d, element %zu: %.9g, not %.9g", w, i, k, b, a);
            }
            if (w) free(out[i]);
            else first[i] = out[i];
        }
    }
    for (int i = 0; i <= ASKED; i++) free(first[i]);
    for (int i = 0; i < INPUTS; i++) free(in[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_differences), cmocka_unit_test(test_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
