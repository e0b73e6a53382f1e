/* Gradients through control flow: recurrent layers, loops, choices. Against central differences in double, first and second order,
   over lengths and sizes that only the run knows; and equal bits from all back ends in float. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "gradcheck.h"

#define TB "T=1 B=1; T=2 B=1; T=3 B=2; T=1 B=3; T=5 B=2; T=4 B=5; T=7 B=1; T=2 B=7; T=6 B=3; T=3 B=4"
#define N "N=1; N=2; N=3; N=4; N=5; N=6; N=7; N=9; N=11; N=13"
#define BODY(ARGS, OUTS, NODES) "<body = b (" ARGS ") => (" OUTS ") { " NODES " }>"

static const GradCase loops[] = {
    {"loop: accumulate w", "net (double[N] x, double[N] w) => (double[N] y) <int64 n = {4}, bool c = {1}> "
     "{ y = Loop(n, c, x) " BODY("int64 i, bool d, double[N] h", "bool d, double[N] g", "a = Mul(h, w) g = Sin(a)") " }", N, .second = true},
    {"loop: run-time trip, two carried that change places",
     "net (int64 n, double[N] x, double[N] w) => (double[N] y, double[N] z, double[k,N] s) <bool c = {1}> { y, z, s = Loop(n, c, x, w) "
     BODY("int64 i, bool d, double[N] a, double[N] b", "bool d, double[N] b, double[N] e, double[N] f", "e0 = Mul(a, b) e = Tanh(e0) f = Exp(e)")
     " }", N, .most = 5, .second = true},
    {"loop: while", "net (int64 n, double[N] x, double[N] w) => (double[N] y, double[k,N] s) <bool c = {1}> { y, s = Loop(n, c, x) "
     BODY("int64 i, bool d, double[N] h", "bool go, double[N] g, double[N] q",
          "a = Mul(h, w) g = Tanh(a) m = ReduceSumSquare<keepdims=0>(g) lim = Constant<value_float=0.3>() limd = CastLike(lim, m) go = Greater(m, limd) q = Mul(g, g)")
     " }", N, .most = 7, .second = true},
    {"loop: nested", "net (double[N] x, double[N] w) => (double[N] y) <int64 n = {3}, int64 m = {2}, bool c = {1}> { y = Loop(n, c, x) "
     BODY("int64 i, bool d, double[N] h", "bool d, double[N] g", "u = Cos(w) g = Loop(m, c, h) <body = b2 (int64 j, bool dd, double[N] p) => (bool dd, double[N] q) { t = Mul(p, u) r = Sin(t) q = Add(r, h) }>")
     " }", N, .second = true},
    {"loop: gather by the iteration", "net (double[N,3] x, double[3] h0) => (double[3] y, double[k,3] s) <bool c = {1}> { "
     "sh = Shape<end=1>(x) n = Squeeze(sh) y, s = Loop(n, c, h0) "
     BODY("int64 i, bool d, double[3] h", "bool d, double[3] g, double[3] g", "xt = Gather<axis=0>(x, i) a = Mul(h, xt) g = Tanh(a)") " }", N, .second = true},
    {"loop: if inside", "net (double[N] x, double[N] w) => (double[N] y) <int64 n = {4}, bool c = {1}, int64 two = {2}> { y = Loop(n, c, x) "
     BODY("int64 i, bool d, double[N] h", "bool d, double[N] g",
          "f = Less(i, two) g = If(f) <then_branch = t () => (double[N] a) { a0 = Mul(h, w) a = Sin(a0) }, else_branch = e () => (double[N] a) { a = Mul(h, h) }>")
     " }", N, .lo = -1, .hi = 1, .second = true},
    {"if", "net (bool p, double[N] x, double[N] w) => (double[N] y) { v = Exp(x) y = If(p) <then_branch = t () => (double[N] a) { b = Mul(v, w) a = Sin(b) }, "
     "else_branch = e () => (double[N] a) { a = Mul(v, v) }> }", N, .second = true},
    {"scan", "net (double[T,B] x, double[B] h0, double[B] w) => (double[B] y, double[B,T] s) { y, s = Scan<num_scan_inputs=1, scan_output_axes=[1], "
     "body = b (double[B] h, double[B] xt) => (double[B] g, double[B] q) { a = Mul(h, w) b = Add(a, xt) g = Tanh(b) q = Mul(g, xt) }>(h0, x) }", TB, .second = true},
    {"scan: backwards, along axis 1", "net (double[B,T] x, double[B] h0) => (double[B] y, double[T,B] s) { y, s = Scan<num_scan_inputs=1, scan_input_axes=[1], "
     "scan_input_directions=[1], scan_output_directions=[1], "
     "body = b (double[B] h, double[B] xt) => (double[B] g, double[B] q) { a = Mul(h, xt) g = Sin(a) q = Exp(g) }>(h0, x) }", TB, .second = true},
    {"scan: matrix product with a weight", "net (double[T,B,3] x, double[B,4] h0, double[4,4] w, double[3,4] v, double[4] c) => (double[B,4] y, double[T,B,4] s) { "
     "y, s = Scan<num_scan_inputs=1, body = b (double[B,4] h, double[B,3] xt) => (double[B,4] g, double[B,4] g) { a = MatMul(h, w) b = MatMul(xt, v) "
     "e = Add(a, b) f = Add(e, c) g = Tanh(f) }>(h0, x) }", TB, .lo = -1, .hi = 1, .second = true},
};

#define RNN(OP, G, ATTRS) \
    "net (double[T,B,3] x, double[1," G ",3] w, double[1," G ",2] r) => (double[T,1,B,2] y, double[1,B,2] h) { y, h = " OP "<hidden_size=2" ATTRS ">(x, w, r) }"
#define RNN_FULL(OP, D, G, G2, ATTRS) \
    "net (double[T,B,3] x, double[" D "," G ",3] w, double[" D "," G ",2] r, double[" D "," G2 "] b, double[" D ",B,2] h0) => (double[T," D ",B,2] y, double[" D ",B,2] h) { " \
    "y, h = " OP "<hidden_size=2" ATTRS ">(x, w, r, b, , h0) }"

static const GradCase layers[] = {
    {"RNN", RNN("RNN", "2", ""), TB, .lo = -1, .hi = 1, .second = true},
    {"RNN, all", RNN_FULL("RNN", "2", "2", "4", ", direction=\"bidirectional\""), TB, .lo = -1, .hi = 1},
    {"RNN, other activation", RNN("RNN", "2", ", activations=[\"Softsign\"]"), TB, .lo = -2, .hi = 2},
    {"GRU", RNN("GRU", "6", ""), TB, .lo = -1, .hi = 1, .second = true},
    {"GRU, all", RNN_FULL("GRU", "2", "6", "12", ", direction=\"bidirectional\""), TB, .lo = -1, .hi = 1},
    {"GRU, reset after", RNN_FULL("GRU", "1", "6", "12", ", linear_before_reset=1"), TB, .lo = -1, .hi = 1},
    {"GRU, reverse", RNN("GRU", "6", ", direction=\"reverse\""), TB, .lo = -1, .hi = 1},
    {"LSTM", RNN("LSTM", "8", ""), TB, .lo = -1, .hi = 1, .second = true},
    {"LSTM, all", "net (double[T,B,3] x, double[2,8,3] w, double[2,8,2] r, double[2,16] b, double[2,B,2] h0, double[2,B,2] c0, double[2,6] p) => "
     "(double[T,2,B,2] y, double[2,B,2] h, double[2,B,2] c) { y, h, c = LSTM<hidden_size=2, direction=\"bidirectional\">(x, w, r, b, , h0, c0, p) }",
     TB, .lo = -1, .hi = 1},
    {"LSTM, clip, input_forget", RNN("LSTM", "8", ", clip=0.4, input_forget=1"), TB, .lo = -1, .hi = 1},
    {"LSTM, lengths", "net (double[6,B,3] x, double[1,8,3] w, double[1,8,2] r, double[1,16] b, int32[B] n) => (double[6,1,B,2] y, double[1,B,2] h, double[1,B,2] c) { "
     "y, h, c = LSTM<hidden_size=2>(x, w, r, b, n) }", "B=1; B=2; B=3; B=4; B=5; B=6; B=7; B=8; B=9; B=10", .lo = -1, .hi = 1, .most = 6},
    {"LSTM, two layers", "net (double[T,B,3] x, double[1,8,3] w, double[1,8,2] r, double[1,12,2] w2, double[1,12,3] r2) => (double[T,1,B,3] y) { "
     "a = LSTM<hidden_size=2>(x, w, r) one = Constant<value_ints=[1]>() b = Squeeze(a, one) y = LSTM<hidden_size=3>(b, w2, r2) }", TB, .lo = -1, .hi = 1},
};

static void check_all(const GradCase *k, int n, const char *what) {
    double worst = 0;
    int shapes = 0;
    for (int i = 0; i < n; i++) shapes += grad_check(&k[i], 3, &worst);
    print_message("%s: %d models, %d shapes, worst error %.1e\n", what, n, shapes, worst);
}

static void test_loops(void **state) {
    (void)state;
    check_all(loops, sizeof loops / sizeof *loops, "loops");
}
static void test_layers(void **state) {
    (void)state;
    check_all(layers, sizeof layers / sizeof *layers, "recurrent layers");
}
static void test_unoptimized(void **state) {
    (void)state;
    double worst = 0;
    grad_check(&loops[3], 0, &worst);
    grad_check(&layers[7], 0, &worst);
}
static void test_bits(void **state) {
    (void)state;
    for (int i = 0; i < (int)(sizeof loops / sizeof *loops); i += 2) grad_bits(&loops[i]);
    for (int i = 0; i < (int)(sizeof layers / sizeof *layers); i += 3) grad_bits(&layers[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_loops), cmocka_unit_test(test_layers), cmocka_unit_test(test_unoptimized),
                                       cmocka_unit_test(test_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
