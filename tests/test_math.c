/* Formulas mean what they say; the elementary functions stay within their bounds on a sample (math_check does
   all inputs), give C's special values, and the same bits as scalars, as lanes of a vector and as folded
   constants. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "formula.h"

static Ctx *c;
static Map *names;
static Var *x, *y, *i, *v;

static int setup(void **state) {
    (void)state;
    c = gd_open(NULL);
    names = map_new(c);
    x = var_new(c, V_LET, scalar(F32), "x", 0, 0);
    y = var_new(c, V_LET, scalar(F32), "y", 0, 0);
    i = var_new(c, V_LET, scalar(I32), "i", 0, 0);
    v = var_new(c, V_LET, vector(F32, 16), "v", 0, 0);
    map_puts(names, "x", expr_var(c, x));
    map_puts(names, "y", expr_var(c, y));
    map_puts(names, "i", expr_var(c, i));
    map_puts(names, "v", expr_var(c, v));
    map_puts(names, "b", expr_op(c, E_LT, scalar(BOOL), 2, (Expr *[]){expr_var(c, x), expr_var(c, y)}));
    return 0;
}
static int teardown(void **state) {
    (void)state;
    gd_close(c);
    return 0;
}

/* ---- formulas ---- */

static Expr *substituted(Expr *e, double vx, double vy, int vi) {
    Map *m = map_new(c);
    map_putp(m, x, expr_num(c, F32, vx));
    map_putp(m, y, expr_num(c, F32, vy));
    map_putp(m, i, expr_const(c, scalar(I32), (uint64_t)(int64_t)vi));
    return expr_subst(c, e, m);
}

/* The value of a formula with x = 5, y = -3, i = -7. */
static double value(const char *text, DType literal) {
    Expr *e = substituted(gd_formula(c, text, names, literal), 5, -3, -7);
    assert_true(is_const(e));
    return gd_to_double((DType)e->type.dt, e->bits);
}
#define GIVES(text, want) assert_true(value(text, F32) == (double)(want))

static void formula_values(void **state) {
    (void)state;
    GIVES("x + y * 2", -1);
    GIVES("(x + y) * 2", 4);
    GIVES("x - y - 1", 7);
    GIVES("-x * -y", -15);
    GIVES("x > y ? 1 : 2", 1);
    GIVES("x < y ? 1 : x == 5 ? 2 : 3", 2);
    GIVES("x >= 5 && y <= -3 || x != x ? 1.5 : 2", 1.5);
    GIVES("!b ? 1 : 0", 1);
    GIVES("i / 2", -3);
    GIVES("fdiv(i, 2)", -4);
    GIVES("i % 4", -3);
    GIVES("fmod(i, 4)", 1);
    GIVES("i << 2 | 1", -27);
    GIVES("i >> 1 & 0xff ^ 1", 0xfd);
    GIVES("~i", 6);
    GIVES("a = x * x; c = a + 1; a = c * 2; a - x", 47);
    GIVES("max(x, y) - min(x, 0) + abs(y)", 8);
    GIVES("fma(x, y, 1)", -14);
    GIVES("f32(i) + 0.5", -6.5);
    GIVES("i32(x) + i", -2);
    GIVES("as_i32(x)", 0x40a00000);
    GIVES("as_f32(0x7f800000)", INFINITY);
    GIVES("as_i32(1.0)", 0x3f800000);
    GIVES("u32(-1)", 4294967295.0);
    GIVES("x < inf ? pi : nan", (float)0x1.921fb54442d18p1);
    GIVES("0x1.8p1 + 1e2", 103);
    GIVES("sqrt(4) * x", 10);
    GIVES("copysign(x, y)", -5);
    GIVES("isnan(x) ? 1 : 0", 0);
    GIVES("select(b, x, y)", -3);
    GIVES("exp(0) + x", 6);
    assert_true(value("x * (1 / 2)", F32) == 2.5); /* literals among themselves are doubles */
    assert_true(value("i * (7 / 2)", I32) == -21); /* where the formula is one of integers, integers */
    assert_true(value("1 / 3", F64) == 1.0 / 3);
}

static void formula_types(void **state) {
    (void)state;
    Expr *e = gd_formula(c, "v > 0 ? v : 0.01 * v", names, F32);
    assert_true(type_eq(e->type, vector(F32, 16)));
    e = gd_formula(c, "v + x", names, F32);
    assert_true(type_eq(e->type, vector(F32, 16)));
    e = gd_formula(c, "v > 1", names, F32);
    assert_true(type_eq(e->type, vector(BOOL, 16)));
    e = gd_formula(c, "exp(v)", names, F32);
    assert_int_equal(e->kind, E_CALL);
    assert_string_equal(gd_math_name(e->call), "exp");
    assert_true(type_eq(gd_formula(c, "1", names, I64)->type, scalar(I64)));
    assert_true(type_eq(gd_formula(c, "x < 0 ? 1 : 2", names, F64)->type, scalar(F64)));
    assert_ptr_equal(gd_formula(c, "x*y+1", names, F32), gd_formula(c, " t = x * y ; t + 1.0", names, F32));
}

static void read_formula(Ctx *ctx, void *text) { gd_formula(ctx, text, names, F32); }

static void formula_faults(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "x +",
                                      "x + )",
                                      "(x",
                                      "x y",
                                      "q",
                                      "x = 1",
                                      "x = 1; ",
                                      "f(x)",
                                      "max(x)",
                                      "exp(x, x)",
                                      "x + i",
                                      "x & 1",
                                      "i + 0.5",
                                      "x ? 1 : 2",
                                      "sqrt(i)",
                                      "fdiv(x, 2)",
                                      "as_f64(x)",
                                      "1.2.3",
                                      "0xg",
                                      "a, b = max(x, y); a",
                                      "max(x, k=1)",
                                      "x, y",
                                      "x ? "};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        int before = gd_error_count(c);
        assert_int_equal(gd_enter(c, read_formula, (void *)bad[k]), EXIT_INTERNAL);
        assert_non_null(strstr(gd_diag(c, before)->message, bad[k]));
    }
    char deep[1001];
    memset(deep, '(', 1000);
    deep[1000] = 0;
    assert_int_equal(gd_enter(c, read_formula, deep), EXIT_INTERNAL);
}

/* Another algebra: text in prefix form. */
static void *say_literal(Formula *f, void *self, FormulaNum n) {
    (void)f;
    (void)self;
    return n.whole ? gd_format(c, "%d", (int)n.i) : gd_format(c, "%g", n.d);
}
static void *say_name(Formula *f, void *self, const char *name) {
    (void)f;
    (void)self;
    return strcmp(name, "unknown") ? (void *)name : NULL;
}
static void *say_op(Formula *f, void *self, FormulaOp op, int n, void *const *a) {
    (void)f;
    (void)self;
    Text *t = text_new(c);
    text_printf(t, "(%s", gd_formula_op(op));
    for (int k = 0; k < n; k++) text_printf(t, " %s", (char *)a[k]);
    text_put(t, ")");
    return t->s;
}
static void *say_call(Formula *f, void *self, const char *name, int n, void *const *a, int nkeys,
                      const FormulaKey *keys) {
    (void)f;
    (void)self;
    Text *t = text_new(c);
    text_printf(t, "(%s", name);
    for (int k = 0; k < n; k++) text_printf(t, " %s", (char *)a[k]);
    for (int k = 0; k < nkeys; k++) {
        text_printf(t, " %s:", keys[k].key);
        if (keys[k].kind == FK_NAME) text_put(t, keys[k].text);
        else if (keys[k].kind == FK_STRING) text_printf(t, "'%s'", keys[k].text);
        else
            for (int j = 0; j < keys[k].n; j++) text_printf(t, "%s%g", j ? "," : "", keys[k].num[j].d);
    }
    text_put(t, ")");
    return t->s;
}
static void *say_item(Formula *f, void *self, void *call, int k) {
    (void)f;
    (void)self;
    return gd_format(c, "%s.%d", (char *)call, k);
}

static void other_algebra(void **state) {
    (void)state;
    static const Algebra algebra = {say_literal, say_name, say_op, say_call, say_item};
    void *r[2];
    const char *text = "m, s = moments(x, axes=[1,-2], keepdims=1, mode=\"up\", eps=epsilon, z=[]);"
                       "d = x - m; d * d / s, -d";
    assert_int_equal(gd_formula_read(c, text, &algebra, NULL, r, 2), 2);
    const char *call = "(moments x axes:1,-2 keepdims:1 mode:'up' eps:epsilon z:)";
    assert_string_equal(r[0], gd_format(c, "(/ (* (- x %s.0) (- x %s.0)) %s.1)", call, call, call));
    assert_string_equal(r[1], gd_format(c, "(- (- x %s.0))", call));
    gd_formula_read(c, "a < b ? c : d + 1 << 2 || !e", &algebra, NULL, r, 1);
    assert_string_equal(r[0], "(?: (< a b) c (|| (<< (+ d 1) 2) (! e)))");
}

/* ---- elementary functions ---- */

static double sigmoid(double a) { return 1 / (1 + exp(-a)); }
static double softplus(double a) { return a > 40 ? a + exp(-a) : log1p(exp(a)); }

/* bound in ulp of f32. */
static const struct {
    const char *name;
    double (*want)(double);
    double bound;
} functions[] = {{"exp", exp, 1},     {"exp2", exp2, 1},       {"expm1", expm1, 2},      {"log", log, 1},
                 {"log2", log2, 2},   {"log10", log10, 2},     {"log1p", log1p, 2},      {"sin", sin, 2},
                 {"cos", cos, 2},     {"tan", tan, 2},         {"asin", asin, 2},        {"acos", acos, 2},
                 {"atan", atan, 2},   {"sinh", sinh, 2},       {"cosh", cosh, 2},        {"tanh", tanh, 2},
                 {"asinh", asinh, 2}, {"acosh", acosh, 2},     {"atanh", atanh, 2},      {"erf", erf, 2},
                 {"erfc", erfc, 2},   {"sigmoid", sigmoid, 2}, {"softplus", softplus, 2}};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static uint64_t evaluate(DType t, const char *name, uint64_t a, uint64_t b) {
    Expr *args[2] = {expr_const(c, scalar(t), a), expr_const(c, scalar(t), b)},
         *e = gd_math_body(c, gd_math_row(name, t), args);
    assert_true(is_const(e)); /* the folder is gd_eval */
    return e->bits;
}

static double ulp_of(double want, int digits, int least) {
    int e;
    if (want == 0) return ldexp(1, least);
    frexp(want, &e);
    return ldexp(1, e - digits < least ? least : e - digits);
}

/* got is as near as allowed; zeros, infinities and NaNs are the same. */
static void near(const char *name, double a, double got, double want, double bound, int digits, int least) {
    if (isnan(want) ? isnan(got) : got == want && signbit(got) == signbit(want)) return;
    if (isnan(want) || isnan(got) || want == 0 || isinf(want) ||
        !(fabs(got - want) <= bound * ulp_of(want, digits, least)))
        fail_msg("%s(%a) is %a, not %a", name, a, got, want);
}

static const double special[] = {0.0,
                                 -0.0,
                                 1,
                                 -1,
                                 0.5,
                                 -0.5,
                                 2,
                                 -2,
                                 0x1p-149,
                                 -0x1p-149,
                                 0x1p-126,
                                 0x1p-24,
                                 10,
                                 -10,
                                 88.7,
                                 89,
                                 -87.5,
                                 -103.9,
                                 -104,
                                 0x1.fffffep127,
                                 -0x1.fffffep127,
                                 INFINITY,
                                 -INFINITY,
                                 NAN,
                                 0x1.921fb6p0,
                                 0x1.921fb6p1,
                                 0x1p22,
                                 1e10,
                                 1e30,
                                 0x1.fffffep-1,
                                 0x1.000002p0};

static void within_bounds_f32(void **state) {
    (void)state;
    for (int k = 0; k < FUNCTIONS; k++) {
        for (uint64_t j = 0; j < 600 + sizeof special / sizeof *special; j++) {
            uint64_t bits = j < 600 ? (uint32_t)(j * 7158278 + 12345) : gd_to_bits(F32, special[j - 600]);
            double a = gd_to_double(F32, bits), want = functions[k].want(a);
            double got = gd_to_double(F32, evaluate(F32, functions[k].name, bits, 0));
            if (fabs(want) > 0x1.fffffffp127) want = copysign(INFINITY, want);
            if (want != 0 && fabs(want) < 0x1p-151) want = copysign(0, want);
            near(functions[k].name, a, got, want, functions[k].bound, 24, -149);
        }
        gd_check_time(c);
    }
}

static void within_bounds_f64(void **state) {
    (void)state;
    for (int k = 0; k < FUNCTIONS; k++)
        for (int j = 0; j < 300; j++) {
            double a = j < 200 ? (j - 100) * 0.173 : ldexp(j & 1 ? -1.2345 : 1.2345, (j - 250) * 20);
            near(functions[k].name, a,
                 gd_to_double(F64, evaluate(F64, functions[k].name, gd_to_bits(F64, a), 0)),
                 functions[k].want(a), 3, 53, -1074); /* libm's own error included */
        }
}

static void two_arguments(void **state) {
    (void)state;
    static const double some[] = {
        0.0,  -0.0,     1,         -1,  0.5,      -0.5,           2,   -2, 3, -3, 1.0009765625, 100,
        -101, INFINITY, -INFINITY, NAN, 0x1p-149, 0x1.fffffep127, 1e-3};
    enum { SOME = sizeof some / sizeof *some };
    for (int j = 0; j < SOME * SOME; j++) {
        double a = some[j / SOME], b = some[j % SOME], p = pow(a, b);
        uint64_t fa = gd_to_bits(F32, a), fb = gd_to_bits(F32, b), da = gd_to_bits(F64, a),
                 db = gd_to_bits(F64, b);
        a = gd_to_double(F32, fa);
        b = gd_to_double(F32, fb);
        p = pow(a, b);
        if (fabs(p) > 0x1.fffffffp127) p = copysign(INFINITY, p);
        if (p != 0 && fabs(p) < 0x1p-151) p = copysign(0, p);
        near("pow", a, gd_to_double(F32, evaluate(F32, "pow", fa, fb)), p, 2, 24, -149);
        double q = atan2(a, b);
        if (q != 0 && fabs(q) < 0x1p-151) q = copysign(0, q);
        near("atan2", a, gd_to_double(F32, evaluate(F32, "atan2", fa, fb)), q, 2, 24, -149);
        a = some[j / SOME];
        b = some[j % SOME];
        near("pow", a, gd_to_double(F64, evaluate(F64, "pow", da, db)), pow(a, b), 3, 53, -1074);
        near("atan2", a, gd_to_double(F64, evaluate(F64, "atan2", da, db)), atan2(a, b), 3, 53, -1074);
    }
}

static int64_t power(int64_t a, int64_t b) {
    uint64_t r = 1;
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    for (; b; b >>= 1, a = (int64_t)((uint64_t)a * (uint64_t)a))
        if (b & 1) r *= (uint64_t)a;
    return (int64_t)r;
}

static void integer_powers(void **state) {
    (void)state;
    static const int64_t some[] = {0,  1,  -1, 2,  -2,        3,         7,         -5,       10,
                                   31, 32, 63, 64, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN};
    enum { SOME = sizeof some / sizeof *some };
    for (int j = 0; j < SOME * SOME; j++) {
        int64_t a = some[j / SOME], b = some[j % SOME];
        assert_true((int64_t)evaluate(I64, "pow", (uint64_t)a, (uint64_t)b) == power(a, b));
        int32_t a32 = (int32_t)a, b32 = (int32_t)b;
        assert_true((int64_t)evaluate(I32, "pow", (uint64_t)(int64_t)a32, (uint64_t)(int64_t)b32) ==
                    (int32_t)(uint32_t)power(a32, b32));
    }
}

/* A body over variables, then its variables replaced, is the same as the body of constants; lanes are like
 * scalars. */
static void one_meaning(void **state) {
    (void)state;
    for (int k = 0; k < FUNCTIONS; k++)
        for (DType t = F32; t <= F64; t = (DType)(t + 1)) {
            int row = gd_math_row(functions[k].name, t);
            Var *a = var_new(c, V_LET, scalar(t), "a", 0, 0), *b = var_new(c, V_LET, vector(t, 8), "b", 0, 0);
            Expr *ea = expr_var(c, a), *eb = expr_var(c, b);
            Expr *body = gd_math_body(c, row, &ea), *wide = gd_math_body(c, row, &eb);
            assert_ptr_equal(body, gd_math_body(c, row, &ea));
            assert_true(type_eq(wide->type, vector(t, 8)));
            uint64_t bits = gd_to_bits(t, 0.7311), want = evaluate(t, functions[k].name, bits, 0);
            assert_true(expr_subst1(c, body, a, expr_const(c, scalar(t), bits))->bits == want);
            Expr *lanes = expr_subst1(c, wide, b, expr_const(c, vector(t, 8), bits));
            assert_true(is_const(lanes) && lanes->type.lanes == 8 && lanes->bits == want);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(formula_values, setup, teardown),
                                       cmocka_unit_test_setup_teardown(formula_types, setup, teardown),
                                       cmocka_unit_test_setup_teardown(formula_faults, setup, teardown),
                                       cmocka_unit_test_setup_teardown(other_algebra, setup, teardown),
                                       cmocka_unit_test_setup_teardown(within_bounds_f32, setup, teardown),
                                       cmocka_unit_test_setup_teardown(within_bounds_f64, setup, teardown),
                                       cmocka_unit_test_setup_teardown(two_arguments, setup, teardown),
                                       cmocka_unit_test_setup_teardown(integer_powers, setup, teardown),
                                       cmocka_unit_test_setup_teardown(one_meaning, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
