/* Gradients of ONNX's operators as the importer makes them, against central differences in double, each over at least ten shapes:
   formulas (second order too), views, reductions, gathers and scatters here, layers in gradlayers.h. And the claim that this is
   all of them: each row of the op table is in a case, or has no gradient by its flags, or is named here with the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "gradcheck.h"
#include "gradlayers.h"

#define NM "N=1 M=1; N=1 M=2; N=2 M=1; N=3 M=2; N=2 M=3; N=5 M=7; N=7 M=3; N=4 M=4; N=11 M=1; N=1 M=17"
/* A is 1 or N: whether it is broadcast only the run knows */
#define ANM "A=1 N=1 M=1; A=1 N=2 M=3; A=2 N=2 M=3; A=1 N=5 M=1; A=3 N=3 M=1; A=1 N=1 M=5; A=1 N=7 M=2; A=4 N=4 M=4; A=1 N=3 M=11; A=5 N=5 M=2"
#define ABC "A=1 B=1 C=1; A=2 B=1 C=1; A=1 B=3 C=1; A=1 B=1 C=4; A=2 B=3 C=4; A=3 B=2 C=5; A=5 B=3 C=2; A=1 B=7 C=3; A=4 B=1 C=5; A=2 B=2 C=17"

static double worst;
static int shapes;

/* ---- the cases, each a test of its own ---- */

enum { MOST_CASES = 1000, TEXT = 320, LEAST_SHAPES = 10 };
static GradCase cases[MOST_CASES];
static struct CMUnitTest tests[MOST_CASES + 3];
static char texts[MOST_CASES][TEXT];
static int ncases;

/* Every other one with all passes. */
static void test_case(void **state) {
    const GradCase *k = *state;
    int compared = grad_check(k, (k - cases) % 2 ? 3 : 1, &worst);
    assert_true(compared >= LEAST_SHAPES);
    shapes += compared;
}

static void put(const GradCase *k) {
    assert_true(ncases < MOST_CASES);
    cases[ncases] = *k;
    tests[ncases] = (struct CMUnitTest){k->name, test_case, NULL, NULL, &cases[ncases]};
    ncases++;
}

/* The model is written here. */
static void put_text(GradCase k, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(texts[ncases], TEXT, format, ap);
    va_end(ap);
    assert_true(n < TEXT);
    k.text = texts[ncases];
    put(&k);
}

static void put_all(const GradCase *k, int n) {
    for (int i = 0; i < n; i++) put(&k[i]);
}
#define PUT(k) put_all((k), sizeof(k) / sizeof *(k))

/* ---- formulas ---- */

typedef struct Formula { const char *op; double lo, hi; } Formula;

static void put_unary(void) {
    static const char *const steps[] = {"Sign", "Floor", "Ceil", "Round", "Hardmax"};
    /* where exp overflows on the way */
    static const char *const far[] = {"Sigmoid", "Tanh", "Softplus", "Softsign", "Gelu", "Gelu<approximate=\"tanh\">", "Mish", "Swish", "Elu", "Selu", "Celu<alpha=0.5>",
                                      "Erf", "HardSwish", "Softmax", "LogSoftmax"};
    static const Formula ops[] = {
        {"Neg", -2, 2}, {"Abs", -2, 2}, {"Reciprocal", .4, 2}, {"Sqrt", .2, 3}, {"Exp", -2, 2}, {"Log", .2, 3}, {"Sin", -4, 4},
        {"Cos", -4, 4}, {"Tan", -1, 1}, {"Asin", -.8, .8}, {"Acos", -.8, .8}, {"Atan", -3, 3}, {"Sinh", -2, 2}, {"Cosh", -2, 2},
        {"Asinh", -3, 3}, {"Acosh", 1.2, 3}, {"Atanh", -.8, .8}, {"Erf", -2, 2}, {"Tanh", -2, 2}, {"Sigmoid", -4, 4}, {"Relu", -2, 2},
        {"LeakyRelu<alpha=0.2>", -2, 2}, {"Elu<alpha=1.5>", -2, 2}, {"Selu", -2, 2}, {"Selu<alpha=1.2, gamma=0.7>", -2, 2},
        {"Celu<alpha=2.0>", -2, 2}, {"Softplus", -3, 3}, {"Softsign", -3, 3}, {"HardSigmoid<alpha=0.3, beta=0.4>", -4, 4},
        {"HardSwish", -5, 5}, {"Gelu", -3, 3}, {"Gelu<approximate=\"tanh\">", -3, 3}, {"Swish<alpha=1.5>", -3, 3}, {"Mish", -3, 3},
        {"ThresholdedRelu<alpha=0.5>", -2, 2}, {"Shrink<lambd=0.5, bias=0.2>", -2, 2}, {"Identity", -2, 2},
        {"Softmax", -2, 2}, {"LogSoftmax", -2, 2},
        {"Softmax<axis=0>", -2, 2}, {"LogSoftmax<axis=0>", -2, 2}, {"LpNormalization<p=2>", .3, 2}, {"LpNormalization<axis=0, p=1>", .3, 2},
        {"Flatten", -2, 2}, {"Transpose", -2, 2}, {"Trilu", -2, 2}, {"Trilu<upper=0>", -2, 2},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        put_text((GradCase){ops[i].op, NULL, NM, ops[i].lo, ops[i].hi, .second = true},
                 "net (double[N,M] x) => (double[a,b] y) { y = %s (x) }", ops[i].op);
    for (size_t i = 0; i < sizeof far / sizeof *far; i++)
        put_text((GradCase){far[i], NULL, NM, -900, 900, .second = true}, "net (double[N,M] x) => (double[a,b] y) { y = %s (x) }", far[i]);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        put_text((GradCase){steps[i], NULL, NM, .flat = 1}, "net (double[N,M] x) => (double[a,b] y) { y = %s (x) }", steps[i]);
}

static void put_binary(void) {
    static const Formula ops[] = {
        {"Add", -2, 2}, {"Sub", -2, 2}, {"Mul", -2, 2}, {"Div", .5, 2}, {"Pow", .4, 2}, {"Max", -2, 2}, {"Min", -2, 2}, {"PRelu", -2, 2},
        {"Mod<fmod=1>", .5, 2}, {"Mean", -2, 2}, {"Sum", -2, 2},
    };
    static const char *const args[] = {"double[A,M] a, double[N,M] b", "double[N,M] a, double[A,M] b", "double[N,M] a, double[1] b",
                                       "double[N,1] a, double[1,M] b"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int v = 0; v < 4; v++) {
            bool unfit = !strcmp(ops[i].op, "PRelu") && (v == 0 || v == 3); /* the slope broadcasts one way */
            if (unfit) continue;
            put_text((GradCase){ops[i].op, NULL, v < 2 ? ANM : NM, ops[i].lo, ops[i].hi, .second = true},
                     "net (%s) => (double[c,d] y) { y = %s (a, b) }", args[v], ops[i].op);
        }
}

static const GradCase with_zeros[] = {
    {"ReduceProd, some are 0", "net (double[A,B,C] x) => (double[A,B] y) <int64[1] a = {2}> { y = ReduceProd<keepdims=0>(x, a) }", ABC, .whole = true},
    {"ReduceProd, all axes, some are 0", "net (double[2,B] x) => (double y) { y = ReduceProd<keepdims=0>(x) }", "B=1; B=2; B=3; B=2; B=3; B=1; B=2; B=3; B=4; B=2", .whole = true},
    {"CumProd, some are 0", "net (double[A,B,C] x) => (double[A,B,C] y) <int64 a = {2}> { y = CumProd(x, a) }", ABC, .whole = true},
    {"CumProd, exclusive, some are 0", "net (double[A,B,C] x) => (double[A,B,C] y) <int64 a = {1}> { y = CumProd<exclusive=1>(x, a) }", ABC, .whole = true},
    {"CumProd, reverse, some are 0", "net (double[A,B,C] x) => (double[A,B,C] y) <int64 a = {2}> { y = CumProd<reverse=1>(x, a) }", ABC, .whole = true},
    {"ReduceProd, axes that only the data knows", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { y = ReduceProd(x, a) }", ABC, .5, 1.5, .most = 2, .second = true},
    {"ReduceProd, axes that only the data knows, some are 0", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { y = ReduceProd(x, a) }", ABC, .most = 2, .whole = true},
    {"ReduceL2, some are 0", "net (double[A,B,C] x) => (double[A,B] y) <int64[1] a = {2}> { y = ReduceL2<keepdims=0>(x, a) }", ABC, -.7, .7, .whole = true},
    {"LpPool, some are 0", "net (double[A,B,C] x) => (double[A,B,p] y) { y = LpPool<kernel_shape=[2], pads=[1,1]>(x) }", ABC, -.7, .7, .whole = true},
    {"LpPool, p = 3, some are 0", "net (double[A,B,C] x) => (double[A,B,p] y) { y = LpPool<kernel_shape=[2], p=3, pads=[1,1]>(x) }", ABC, -.7, .7, .whole = true},
    {"GlobalLpPool, some are 0", "net (double[A,B,C] x) => (double[A,B,1] y) { y = GlobalLpPool(x) }", ABC, -.7, .7, .whole = true},
    {"Mul, Pow, some are 0", "net (double[A,B,C] x, double[A,B,C] z) => (double[A,B,C] y) <double e = {3}> { a = Pow(x, e) y = Mul(a, z) }", ABC, .whole = true, .second = true},
};

static const GradCase formulas[] = {
    {"Where", "net (bool[N,M] c, double[A,M] a, double[M] b) => (double[p,q] y) { y = Where(c, a, b) }", ANM, .second = true},
    {"Clip", "net (double[N,M] x, double lo, double hi) => (double[N,M] y) { y = Clip(x, lo, hi) }", .dims = NM},
    {"Clip, low", "net (double[N,M] x, double lo) => (double[N,M] y) { y = Clip(x, lo) }", .dims = NM},
    {"Max of three", "net (double[N,M] x, double[M] z, double[N,1] w) => (double[N,M] y) { y = Max(x, z, w) }", .dims = NM},
    {"Mean of three", "net (double[N,M] x, double[M] z, double[N,1] w) => (double[N,M] y) { y = Mean(x, z, w) }", .dims = NM},
    {"Sum of one", "net (double[N,M] x) => (double[N,M] y) { y = Sum(x) }", .dims = NM},
    {"Pow, whole exponent", "net (double[N,M] x) => (double[N,M] y) <int64 e = {3}> { y = Pow(x, e) }", NM, .second = true},
    {"Pow, squares of negative ones", "net (double[N,M] x) => (double[N,M] y) <double e = {2}> { y = Pow(x, e) }", NM, .second = true},
    {"a value used three times", "net (double[N,M] x) => (double[N,M] y) { a = Mul(x, x) b = Mul(a, x) c = Sin(a) y = Add(b, c) }", NM, .second = true},
    {"Dropout, training", "net (double[N,M] x) => (double[N,M] y, bool[N,M] m) <float r = {0.4}, bool t = {1}> { y, m = Dropout<seed=5>(x, r, t) }", .dims = NM},
    {"Dropout, none", "net (double[N,M] x) => (double[N,M] y) <float r = {0.4}, bool t = {0}> { y = Dropout(x, r, t) }", .dims = NM},
    {"Swiglu", "net (double[N,M] x, double[N,M] g) => (double[N,M] y) { s = Sigmoid(x) a = Mul(x, s) y = Mul(a, g) }", NM, .second = true},
};

/* ---- views ---- */

static const GradCase views[] = {
    {"Reshape", "net (double[A,B,C] x) => (double[p,q] y) <int64[2] s = {0, -1}> { y = Reshape(x, s) }", ABC, .second = true},
    {"Squeeze, Unsqueeze", "net (double[A,1,C] x) => (double[A,1,C,1] y) <int64[1] s = {1}, int64[2] u = {1,-1}> { a = Squeeze(x, s) y = Unsqueeze(a, u) }", .dims = ABC},
    {"Expand", "net (double[A,1,C] x) => (double[2,p,3,q] y) <int64[4] s = {2,1,3,1}> { y = Expand(x, s) }", .dims = ABC},
    {"Tile", "net (double[A,B,C] x) => (double[p,q,r] y) <int64[3] s = {2,1,3}> { y = Tile(x, s) }", .dims = ABC},
    {"Transpose", "net (double[A,B,C] x) => (double[C,A,B] y) { y = Transpose<perm=[2,0,1]>(x) }", .dims = ABC},
    {"DepthToSpace DCR", "net (double[A,8,B,C] x) => (double[A,2,p,q] y) { y = DepthToSpace<blocksize=2>(x) }", .dims = ABC},
    {"DepthToSpace CRD", "net (double[A,8,B,C] x) => (double[A,2,p,q] y) { y = DepthToSpace<blocksize=2, mode=\"CRD\">(x) }", .dims = ABC},
    {"SpaceToDepth", "net (double[A,2,2,C] x) => (double[A,p,q,r] y) { a = Concat<axis=3>(x, x) y = SpaceToDepth<blocksize=2>(a) }", .dims = ABC},
    {"Slice", "net (double[A,B,9] x) => (double[A,B,r] y) <int64[1] s = {1}, int64[1] e = {8}, int64[1] a = {2}, int64[1] t = {3}> { y = Slice(x, s, e, a, t) }", ABC, .second = true},
    {"Slice, backwards", "net (double[A,B,9] x) => (double[A,B,r] y) <int64[2] s = {-2,-1}, int64[2] e = {-20,-20}, int64[2] a = {2,0}, int64[2] t = {-2,-1}> { y = Slice(x, s, e, a, t) }", ABC, .second = true},
    {"Slice, empty", "net (double[A,B,9] x) => (double[A,B,r] y, double[A,B,9] z) <int64[1] s = {5}, int64[1] e = {5}, int64[1] a = {2}> { y = Slice(x, s, e, a) z = Sin(x) }", .dims = ABC},
    {"Split", "net (double[A,B,7] x) => (double[A,B,2] y, double[A,B,4] z) <int64[3] s = {2,1,4}> { y, u, z = Split<axis=-1>(x, s) }", .dims = ABC},
    {"Split, even", "net (double[A,B,7] x) => (double[A,B,3] y, double[A,B,1] z) { y, u, z = Split<axis=2, num_outputs=3>(x) }", .dims = ABC},
    {"Concat", "net (double[A,B,C] x, double[A,B,2] z) => (double[A,B,r] y) { y = Concat<axis=-1>(x, z, x) }", ABC, .second = true},
    {"Pad, value", "net (double[A,B,C] x, double v) => (double[p,q,r] y) <int64[6] s = {1,0,2,0,3,1}> { y = Pad(x, s, v) }", ABC, .second = true},
    {"Pad, negative", "net (double[A,B,9] x) => (double[p,q,r] y) <int64[6] s = {0,1,-2,2,0,-1}> { y = Pad(x, s) }", .dims = ABC},
    {"Pad, some axes", "net (double[A,B,C] x, double v) => (double[p,q,r] y) <int64[2] s = {1,2}, int64[1] a = {-2}> { y = Pad(x, s, v, a) }", .dims = ABC},
    {"Pad, edge", "net (double[A,B,C] x) => (double[p,q,r] y) <int64[6] s = {1,0,2,0,3,1}> { y = Pad<mode=\"edge\">(x, s) }", .dims = ABC},
    {"Pad, reflect", "net (double[A,B,9] x) => (double[p,q,r] y) <int64[6] s = {0,0,4,0,0,3}> { y = Pad<mode=\"reflect\">(x, s) }", .dims = ABC},
    {"Pad, wrap", "net (double[A,B,9] x) => (double[p,q,r] y) <int64[6] s = {0,0,4,0,0,3}> { y = Pad<mode=\"wrap\">(x, s) }", .dims = ABC},
    {"CenterCropPad", "net (double[A,B,9] x) => (double[A,2,4] y) <int64[2] s = {2,4}> { y = CenterCropPad<axes=[1,2]>(x, s) }", .dims = ABC},
    {"Trilu, shifted", "net (double[A,B,C] x) => (double[A,B,C] y) <int64 k = {1}> { y = Trilu(x, k) }", .dims = ABC},
    {"Trilu, lower, shifted", "net (double[A,B,C] x) => (double[A,B,C] y) <int64 k = {-1}> { y = Trilu<upper=0>(x, k) }", .dims = ABC},
    {"SequenceConstruct, ConcatFromSequence", "net (double[A,B,C] x, double[A,B,C] z) => (double[A,B,r] y) { a = Sin(x) s = SequenceConstruct(x, z, a) y = ConcatFromSequence<axis=2>(s) }", .dims = ABC},
    {"SplitToSequence, SequenceAt", "net (double[A,B,4] x) => (double[A,B,1] y) <int64 i = {-2}> { s = SplitToSequence<axis=2>(x) y0 = SequenceAt(s, i) y = Squeeze(y0) }", .dims = "A=2 B=2; A=2 B=3; A=3 B=2; A=3 B=3; A=5 B=2; A=2 B=5; A=4 B=4; A=7 B=3; A=2 B=9; A=3 B=11"},
    {"SequenceInsert, SequenceErase", "net (double[A,B,C] x, double[A,B,C] z) => (double[A,B,r] y) <int64 i = {0}> { a = Sin(x) s = SequenceConstruct(x, z) t = SequenceInsert(s, a, i) u = SequenceErase(t) y = ConcatFromSequence<axis=2>(u) }", .dims = ABC, .flat = 2},
    {"Optional", "net (double[A,B,C] x) => (double[A,B,C] y) { o = Optional(x) a = OptionalGetElement(o) y = Sin(a) }", .dims = ABC},
};

/* ---- reductions ---- */

static void put_reductions(void) {
    static const Formula ops[] = {
        {"ReduceSum", -2, 2}, {"ReduceMean", -2, 2}, {"ReduceMax", -2, 2}, {"ReduceMin", -2, 2}, {"ReduceProd", .5, 1.5}, {"ReduceL1", -2, 2},
        {"ReduceL2", .3, 2}, {"ReduceLogSum", .3, 2}, {"ReduceLogSumExp", -2, 2}, {"ReduceSumSquare", -2, 2},
    };
    static const char *const axes[] = {"int64[1] a = {1}", "int64[2] a = {0,-1}", "int64[3] a = {0,1,2}"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int v = 0; v < 4; v++)
            for (int keep = 0; keep < 2; keep++) {
                GradCase k = {ops[i].op, NULL, ABC, ops[i].lo, ops[i].hi, .second = v == 0 && keep};
                const char *out = keep || v == 3 ? "p,q,r" : v == 0 ? "p,q" : v == 1 ? "p" : "";
                if (v == 3 && keep) continue;
                if (v == 3) put_text(k, "net (double[A,B,C] x) => (double[%s] y) { y = %s<noop_with_empty_axes=1>(x) }", out, ops[i].op);
                else put_text(k, "net (double[A,B,C] x) => (double%s%s%s y) <%s> { y = %s<keepdims=%d>(x, a) }", *out ? "[" : "", out, *out ? "]" : "", axes[v], ops[i].op, keep);
            }
}

static void put_running(void) {
    for (int v = 0; v < 8; v++) {
        const char *op = v & 1 ? "CumProd" : "CumSum";
        put_text((GradCase){op, NULL, ABC, .2, 1.5, .second = true}, "net (double[A,B,C] x) => (double[A,B,C] y) <int64 a = {%d}> { y = %s<exclusive=%d, reverse=%d>(x, a) }", v & 2 ? 1 : -1, op, v >> 1 & 1, v >> 2);
    }
}

/* ---- gathers and scatters ---- */

static const GradCase gathers[] = {
    {"Gather", "net (double[A,B,C] x, int64[3,2] i) => (double[3,2,B,C] y) { y = Gather(x, i) }", ABC, .most = 0, .second = true},
    {"Gather, axis 1", "net (double[A,4,C] x, int64[N] i) => (double[A,N,C] y) { y = Gather<axis=1>(x, i) }",
     "A=1 C=1 N=1; A=2 C=1 N=3; A=1 C=3 N=5; A=2 C=4 N=4; A=3 C=5 N=2; A=5 C=2 N=7; A=1 C=3 N=11; A=4 C=5 N=1; A=2 C=17 N=2; A=1 C=1 N=13", .most = 3, .second = true},
    {"Gather, a scalar from the end", "net (double[A,B,4] x) => (double[A,B] y) <int64 i = {-2}> { y = Gather<axis=2>(x, i) }", .dims = ABC},
    {"GatherElements", "net (double[A,4,C] x, int64[A,N,C] i) => (double[A,N,C] y) { y = GatherElements<axis=1>(x, i) }",
     "A=1 C=1 N=1; A=2 C=1 N=3; A=1 C=3 N=5; A=2 C=4 N=4; A=3 C=5 N=2; A=5 C=2 N=7; A=1 C=3 N=11; A=4 C=5 N=1; A=2 C=17 N=2; A=1 C=1 N=13", .most = 3, .second = true},
    {"GatherND", "net (double[3,3,C] x, int64[N,2] i) => (double[N,C] y) { y = GatherND(x, i) }", "C=1 N=1; C=2 N=1; C=1 N=3; C=3 N=2; C=2 N=5; C=7 N=3; C=5 N=4; C=4 N=7; C=11 N=2; C=3 N=9", .most = 2, .second = true},
    {"GatherND, batch", "net (double[A,4,C] x, int64[A,2,1] i) => (double[A,2,C] y) { y = GatherND<batch_dims=1>(x, i) }", "A=1 C=1; A=2 C=1; A=1 C=3; A=2 C=4; A=3 C=5; A=5 C=2; A=7 C=3; A=4 C=5; A=2 C=17; A=3 C=1", .most = 3},
#define SCATTER_A "A=1; A=2; A=3; A=4; A=5; A=6; A=7; A=8; A=9; A=11"
#define SCATTER_SHAPES "A=1 C=1; A=2 C=1; A=1 C=3; A=2 C=4; A=3 C=5; A=5 C=2; A=7 C=3; A=4 C=5; A=2 C=17; A=3 C=1"
    {"ScatterElements", "net (double[4,A,C] x, double[1,A,C] u, int64[1,A,C] i) => (double[4,A,C] y) { y = ScatterElements(x, i, u) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterElements, add", "net (double[4,A,C] x, double[3,A,C] u, int64[3,A,C] i) => (double[4,A,C] y) { y = ScatterElements<reduction=\"add\">(x, i, u) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterND", "net (double[4,A,C] x, double[2,A,C] u) => (double[4,A,C] y) <int64[2,1] i = {2,-4}> { y = ScatterND(x, i, u) }", SCATTER_SHAPES, .second = true},
    {"ScatterND, add", "net (double[4,A,C] x, double[5,A,C] u, int64[5,1] i) => (double[4,A,C] y) { y = ScatterND<reduction=\"add\">(x, i, u) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterElements, the last of several stands", "net (double[4,A,C] x, double[6,A,C] u, int64[6,A,C] i) => (double[4,A,C] y) { y0 = ScatterElements(x, i, u) y = Sin(y0) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterElements, places known", "net (double[4,A,2] x, double[2,A,2] u) => (double[4,A,2] y) <int64[2,1,2] j = {0,1,-1,0}> { n = Shape(u) i = Expand(j, n) y = ScatterElements(x, i, u) }", .dims = SCATTER_A},
    {"ScatterElements, mul", "net (double[4,A,C] x, double[5,A,C] u, int64[5,A,C] i) => (double[4,A,C] y) { y = ScatterElements<reduction=\"mul\">(x, i, u) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterElements, mul, some are 0", "net (double[4,A,C] x, double[3,A,C] u, int64[3,A,C] i) => (double[4,A,C] y) { y = ScatterElements<reduction=\"mul\">(x, i, u) }", SCATTER_SHAPES, .most = 3, .whole = true},
    {"ScatterElements, max", "net (double[4,A,C] x, double[5,A,C] u, int64[5,A,C] i) => (double[4,A,C] y) { y0 = ScatterElements<reduction=\"max\">(x, i, u) y = Sin(y0) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterElements, min, axis 1", "net (double[A,4,C] x, double[A,3,C] u, int64[A,3,C] i) => (double[A,4,C] y) { y0 = ScatterElements<axis=1, reduction=\"min\">(x, i, u) y = Sin(y0) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterND, the last of several stands", "net (double[4,A,C] x, double[5,A,C] u, int64[5,1] i) => (double[4,A,C] y) { y0 = ScatterND(x, i, u) y = Sin(y0) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterND, mul", "net (double[4,A,C] x, double[5,A,C] u, int64[5,1] i) => (double[4,A,C] y) { y = ScatterND<reduction=\"mul\">(x, i, u) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"ScatterND, mul, some are 0", "net (double[4,A,C] x, double[5,A,C] u, int64[5,1] i) => (double[4,A,C] y) { y = ScatterND<reduction=\"mul\">(x, i, u) }", SCATTER_SHAPES, .most = 3, .whole = true},
    {"ScatterND, max", "net (double[3,3,C] x, double[A,C] u, int64[A,2] i) => (double[3,3,C] y) { y0 = ScatterND<reduction=\"max\">(x, i, u) y = Sin(y0) }", SCATTER_SHAPES, .most = 2, .second = true},
    {"ScatterND, min", "net (double[4,A,C] x, double[5,A,C] u, int64[5,1] i) => (double[4,A,C] y) { y0 = ScatterND<reduction=\"min\">(x, i, u) y = Sin(y0) }", SCATTER_SHAPES, .most = 3, .second = true},
    {"TopK", "net (double[A,5,C] x) => (double[A,3,C] y) <int64[1] k = {3}> { y, i = TopK<axis=1>(x, k) }", SCATTER_SHAPES, .second = true},
    {"TopK, smallest", "net (double[A,5,C] x) => (double[A,2,C] y) <int64[1] k = {2}> { y, i = TopK<axis=1, largest=0>(x, k) }", .dims = SCATTER_SHAPES},
    {"Compress", "net (double[A,4,C] x) => (double[A,2,C] y) <bool[4] k = {0,1,0,1}> { y = Compress<axis=1>(x, k) }", .dims = SCATTER_SHAPES},
    {"Compress, what data decides", "net (double[A,4,C] x, bool[4] k) => (double[A,p,C] y) { y = Compress<axis=1>(x, k) }", .dims = SCATTER_SHAPES},
    {"OneHot", "net (double[2] v, int64[A,C] i) => (double[A,C,5] y) <int64 d = {5}> { y = OneHot(i, d, v) }", SCATTER_SHAPES, .most = 6},
    {"ReverseSequence", "net (double[4,A,C] x) => (double[4,A,C] y) { n0 = Shape<start=1, end=2>(x) three = Constant<value_ints=[3]>() n = Expand(three, n0) y = ReverseSequence(x, n) }", .dims = SCATTER_SHAPES},
    {"Unique", "net (double[N] x) => (double[p] y) { y, i, j, k = Unique<sorted=1>(x) }", .dims = "N=1; N=2; N=3; N=4; N=5; N=6; N=7; N=8; N=9; N=11"},
    {"NonZero, GatherND", "net (double[N,M] x) => (double[p] y) { r = Relu(x) i = NonZero(r) t = Transpose(i) y0 = GatherND(x, t) y = Sin(y0) }", .dims = NM},
    {"TensorScatter", "net (double[A,5,C] x, double[A,2,C] u) => (double[A,5,C] y) { y = TensorScatter<axis=1>(x, u) }", .dims = SCATTER_SHAPES},
    {"TensorScatter, positions, circular", "net (double[A,5,C] x, double[A,2,C] u, int64[A] i) => (double[A,5,C] y) { y = TensorScatter<axis=1, mode=\"circular\">(x, u, i) }", SCATTER_SHAPES, .most = 4},
    {"MaxPool, windows that overlap", "net (double[A,2,C] x) => (double[A,2,p] y) { a = MaxPool<kernel_shape=[3], strides=[2], pads=[1,1]>(x) y = Sin(a) }", SCATTER_SHAPES, .second = true},
    {"MaxPool, two axes, dilated", "net (double[A,2,6,C] x) => (double[A,2,p,q] y) { a = MaxPool<kernel_shape=[2,2], dilations=[2,1], pads=[0,0,0,1]>(x) y = Sin(a) }", SCATTER_SHAPES, .second = true},
    {"GlobalMaxPool", "net (double[A,2,C] x) => (double[A,2,1] y) { a = GlobalMaxPool(x) y = Sin(a) }", SCATTER_SHAPES, .second = true},
    {"Det", "net (double[N,3,3] x) => (double[N] y) { y = Det(x) }", "N=1; N=2; N=3; N=4; N=5; N=6; N=7; N=8; N=9; N=11", .second = true},
    {"Einsum", "net (double[A,B,C] x, double[C,B,A] z) => (double[B,A] y) { y = Einsum<equation=\"abc,cbd->bd\">(x, z) }", ABC, .second = true},
    {"Einsum, diagonal", "net (double[A,3,3] x) => (double[A,3] y) { y = Einsum<equation=\"aii->ai\">(x) }", .dims = "A=1; A=2; A=3; A=4; A=5; A=6; A=7; A=8; A=9; A=11"},
    {"Einsum, trace and ellipsis", "net (double[A,B,3,3] x, double[B] z) => (double[A] y) { y = Einsum<equation=\"...bii,b->...\">(x, z) }", .dims = "A=1 B=1; A=2 B=1; A=1 B=3; A=2 B=4; A=3 B=5; A=5 B=2; A=7 B=3; A=4 B=5; A=2 B=17; A=3 B=1"},
    {"Einsum, three operands", "net (double[A,B] x, double[B,C] z, double[C,A] w) => (double[A] y) { y = Einsum<equation=\"ab,bc,ca->a\">(x, z, w) }", .dims = ABC},
};

/* ---- bits ---- */

/* In float, from the interpreter and every back end, whatever the schedule: one of each sort of gradient. */
static const char *const same_bits[] = {
    "ScatterElements, mul", "ScatterND, max", "ScatterElements, the last of several stands", "CumProd, some are 0", "Conv 2, depthwise",
    "ConvTranspose 2, all attributes", "MaxPool 2, all attributes", "AveragePool 2, dilated", "BatchNormalization, training", "Attention, mask added",
    "GridSample, border", "Slice, a step by data",
};

static void test_bits(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof same_bits / sizeof *same_bits; i++) {
        int k = 0;
        while (k < ncases && strcmp(cases[k].name, same_bits[i])) k++;
        if (k == ncases) fail_msg("there is no case \"%s\"", same_bits[i]);
        grad_bits(&cases[k]);
    }
}

/* ---- f16 ---- */

static void test_half(void **state) {
    (void)state;
    for (int i = 0; i < ncases; i++)
        if (!cases[i].only_double && strncmp(cases[i].text, "graph ", 6)) grad_half(&cases[i]);
}

/* ---- that these are all ---- */

/* Rows through which no gradient goes, and why. */
static const struct { const char *why, *rows; } without[] = {
    {"made of sizes, settings or attributes",
     "iota exprs random_bits check Shape Size Constant ConstantOfShape EyeLike HannWindow HammingWindow BlackmanWindow MelWeightMatrix SequenceEmpty "
     "SequenceLength OptionalHasElement RandomNormal RandomUniform RandomNormalLike RandomUniformLike"},
    {"whole numbers come out",
     "argmax argmin argsort unique nms ArgMax ArgMin NonZero NonMaxSuppression BitShift Multinomial MatMulInteger ConvInteger QLinearMatMul QLinearConv"},
    {"constant almost everywhere, which the cases of their name show", "Hardmax Bernoulli"},
    {"bits taken for other numbers", "bitcast BitCast"},
};

/* Rows that make no nodes of their own: what comes out is what went in, or was made by others. They must be in the model of a case. */
static const char passing[] =
    "Identity SequenceConstruct SequenceInsert SequenceErase SequenceMap Optional OptionalGetElement ai.onnx.preview.training:Gradient";

static bool listed(const char *rows, const char *name) {
    size_t n = strlen(name);
    for (const char *s = rows; (s = strstr(s, name)); s += n)
        if ((s == rows || s[-1] == ' ') && (s[n] == ' ' || !s[n])) return true;
    return false;
}

static bool used(const char *name) {
    const char *domain = strrchr(name, ':');
    if (domain) name = domain + 1;
    size_t n = strlen(name);
    for (int i = 0; i < ncases; i++)
        for (const char *s = cases[i].text; (s = strstr(s, name)); s += n)
            if (strchr(" .", s[-1]) && strchr("(< ", s[n])) return true;
    return false;
}

/* Comes no float out, or goes none in? */
static bool discrete(const Op *op) {
    return (op->result && strcmp(op->result, "float")) || (op->types && (!strcmp(op->types, "int") || !strcmp(op->types, "bool") || !strcmp(op->types, "i64")));
}

static void test_all_rows(void **state) {
    (void)state;
    const Op *op;
    int rows = 0, bad = 0;
    for (int i = 0; (op = op_at(i)); i++) {
        char name[80];
        bool named = false, have = grad_checked(op);
        snprintf(name, sizeof name, op->since ? "%s@%d" : "%s", op->name ? op->name : op->onnx, op->since);
        if (!have && listed(passing, name)) have = used(name);
        for (size_t k = 0; k < sizeof without / sizeof *without; k++) named |= listed(without[k].rows, name);
        rows += have;
        if (have == named && !(op->flags & OF_NO_GRAD && discrete(op))) {
            print_error("%s: %s\n", name, have ? "has a gradient, and is named as one that has none" : "no case has its gradient");
            bad++;
        }
        for (unsigned k = 0, left = grad_unchecked_inputs(op); left; k++, left >>= 1)
            if (left & 1) {
                print_error("%s: no case has its gradient by input %u\n", name, k);
                bad++;
            }
    }
    print_message("%d cases, %d rows, %d shapes, worst error %.1e\n", ncases, rows, shapes, worst);
    assert_int_equal(bad, 0);
}

/* An argument: only the cases of that name; * and ? stand for anything. */
int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    put_unary();
    put_binary();
    put_reductions();
    put_running();
    PUT(formulas); PUT(with_zeros); PUT(views); PUT(gathers); PUT(products); PUT(convs); PUT(pools); PUT(norms); PUT(attentions); PUT(images);
    PUT(spectra); PUT(losses); PUT(flows); PUT(by_data); PUT(others);
    tests[ncases] = (struct CMUnitTest){"bits", test_bits, NULL, NULL, NULL};
    tests[ncases + 1] = (struct CMUnitTest){"half", test_half, NULL, NULL, NULL};
    tests[ncases + 2] = (struct CMUnitTest){"all rows", test_all_rows, NULL, NULL, NULL};
    return _cmocka_run_group_tests("gradients", tests, (size_t)ncases + 3, NULL, NULL);
}
