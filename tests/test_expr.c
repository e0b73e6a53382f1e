/* Expressions: what is built must mean what was asked for. Random index expressions are evaluated as asked
   and as simplified, under random values of their variables; and the forms that passes rely on are spelled
   out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>
#include "loop.h"

static uint64_t seed = 1;
static uint32_t rnd(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

enum { VARS = 10 };
typedef struct World {
    Ctx *c;
    Var *var[VARS];
    int64_t value[VARS]; /* by position */
} World;

static int64_t eval(const World *w, const Expr *e) {
    if (e->kind == E_CONST) return (int64_t)e->bits;
    if (e->kind == E_VAR) {
        for (int i = 0; i < VARS; i++)
            if (w->var[i] == e->var) return w->value[i];
        fail_msg("unknown variable");
    }
    uint64_t a[3] = {0};
    for (int i = 0; i < e->nargs; i++) a[i] = (uint64_t)eval(w, e->arg[i]);
    return (int64_t)gd_eval((ExprKind)e->kind, (DType)e->arg[0]->type.dt, (DType)e->type.dt, a);
}

static Expr *var_of(World *w, int i) { return expr_var(w->c, w->var[i]); }

static Var *loop_var(World *w, const char *name, Expr *trip) {
    int64_t hi = expr_max(w->c, trip);
    Var *v = var_new(w->c, V_LOOP, scalar(I64), name, 0, hi == INT64_MAX ? hi : hi - 1);
    v->def = trip;
    return v;
}

/* Three symbols, one of them possibly 0, loops over them and over numbers, and a let. */
static void world_open(World *w) {
    w->c = gd_open(NULL);
    w->var[0] = var_new(w->c, V_SYM, scalar(I64), "N", 1, INT64_MAX);
    w->var[1] = var_new(w->c, V_SYM, scalar(I64), "H", 2, INT64_MAX);
    w->var[2] = var_new(w->c, V_SYM, scalar(I64), "K", 0, 9);
    w->var[3] = loop_var(w, "n", var_of(w, 0));
    w->var[4] = loop_var(w, "h", var_of(w, 1));
    w->var[5] = loop_var(w, "i", expr_int(w->c, 12));
    w->var[6] = loop_var(w, "j", expr_int(w->c, 4));
    w->var[7] = loop_var(w, "p", expr_mul(w->c, var_of(w, 0), expr_int(w->c, 6)));
    w->var[8] = var_new(w->c, V_SYM, scalar(I64), "s", -5, 7);
    w->var[9] = var_new(w->c, V_LET, scalar(I64), "l", 0, INT64_MAX);
    w->var[9]->def = expr_add(w->c, expr_mul(w->c, var_of(w, 3), expr_int(w->c, 3)), var_of(w, 6));
}

static void world_values(World *w) {
    w->value[0] = 1 + rnd(6);
    w->value[1] = 2 + rnd(6);
    w->value[2] = rnd(10);
    w->value[3] = rnd((uint32_t)w->value[0]);
    w->value[4] = rnd((uint32_t)w->value[1]);
    w->value[5] = rnd(12);
    w->value[6] = rnd(4);
    w->value[7] = rnd((uint32_t)w->value[0] * 6);
    w->value[8] = (int64_t)rnd(13) - 5;
    w->value[9] = 3 * w->value[3] + w->value[6];
}

/* A random expression, recorded as a tree of what was asked for. */
typedef struct Ask Ask;
struct Ask {
    ExprKind op;
    int n;
    Ask *arg[3];
    Expr *leaf, *built;
};

static Ask *ask(World *w, int depth, bool truth) {
    static const ExprKind ops[] = {E_ADD,  E_ADD,  E_SUB, E_MUL, E_MUL, E_FDIV,   E_FDIV,
                                   E_FMOD, E_FMOD, E_NEG, E_MIN, E_MAX, E_SELECT, E_DIV,
                                   E_REM,  E_ABS,  E_SHL, E_SHR, E_AND};
    static const ExprKind tests[] = {E_EQ, E_NE, E_LT, E_LE, E_LT, E_LE, E_AND, E_OR, E_NOT, E_SELECT};
    Ask *a = gd_new(w->c, Ask);
    if (!depth && !truth) {
        static const int64_t constants[] = {0, 1, 2, 3, 4, 6, 8, 12, -1, -2, 5, 16, 24};
        a->leaf = rnd(3) ? var_of(w, (int)rnd(VARS)) : expr_int(w->c, constants[rnd(13)]);
        a->built = a->leaf;
        return a;
    }
    if (truth) {
        a->op = depth ? tests[rnd(10)] : tests[rnd(6)];
        bool inner = a->op == E_AND || a->op == E_OR || a->op == E_NOT || a->op == E_SELECT;
        a->n = a->op == E_NOT ? 1 : a->op == E_SELECT ? 3 : 2;
        for (int i = 0; i < a->n; i++) a->arg[i] = ask(w, depth ? depth - 1 : 0, inner);
    } else {
        a->op = ops[rnd(19)];
        a->n = a->op == E_NEG || a->op == E_ABS ? 1 : a->op == E_SELECT ? 3 : 2;
        bool shift = a->op == E_SHL || a->op == E_SHR || a->op == E_AND;
        for (int i = 0; i < a->n; i++)
            a->arg[i] = ask(w, i && shift ? 0 : depth - 1 - (int)rnd((uint32_t)depth), i == 0 && a->n == 3);
        if (shift) a->arg[1]->built = a->arg[1]->leaf = expr_int(w->c, a->op == E_AND ? 7 : (int64_t)rnd(4));
    }
    Expr *args[3];
    for (int i = 0; i < a->n; i++) args[i] = a->arg[i]->built;
    a->built = expr_op(w->c, a->op, scalar(I64), a->n, args);
    return a;
}

static int64_t eval_ask(const World *w, const Ask *a) {
    if (a->leaf) return eval(w, a->leaf);
    uint64_t v[3] = {0};
    for (int i = 0; i < a->n; i++) v[i] = (uint64_t)eval_ask(w, a->arg[i]);
    const Expr *first = a->arg[0]->built;
    return (int64_t)gd_eval(a->op, (DType)first->type.dt, (DType)a->built->type.dt, v);
}

static void show(Text *t, const Ask *a) {
    if (a->leaf) {
        if (a->leaf->kind == E_VAR) text_put(t, a->leaf->var->name);
        else text_printf(t, "%lld", (long long)a->leaf->bits);
        return;
    }
    text_printf(t, "(%d", a->op);
    for (int i = 0; i < a->n; i++) {
        text_put(t, " ");
        show(t, a->arg[i]);
    }
    text_put(t, ")");
}

static void simplified_means_the_same(void **state) {
    (void)state;
    long total = 0;
    for (int round = 0; round < 60; round++) {
        World w;
        world_open(&w);
        for (int k = 0; k < 500; k++) {
            Ask *a = ask(&w, 1 + (int)rnd(4), rnd(4) == 0);
            for (int v = 0; v < 12; v++, total++) {
                world_values(&w);
                int64_t want = eval_ask(&w, a), got = eval(&w, a->built), lo, hi;
                if (want != got) {
                    Text *t = text_new(w.c);
                    show(t, a);
                    for (int i = 0; i < VARS; i++) text_printf(t, " %s=%d", w.var[i]->name, (int)w.value[i]);
                    fail_msg("%s: want %lld, got %lld", t->s, (long long)want, (long long)got);
                }
                expr_range(w.c, a->built, &lo, &hi);
                if (a->built->type.dt == I64 && (got < lo || got > hi)) fail_msg("out of its range");
            }
        }
        gd_close(w.c);
    }
    print_message("%ld evaluations agree\n", total);
}

/* A second building of the same expression, and of one rebuilt by substituting nothing, is the same pointer.
 */
static Expr *same(void *arg, Expr *e) {
    (void)arg;
    return e;
}
static void building_is_canonical(void **state) {
    (void)state;
    World w;
    world_open(&w);
    for (int k = 0; k < 5000; k++) {
        Expr *a = ask(&w, 3, false)->built, *b = ask(&w, 2, false)->built, *d = ask(&w, 1, false)->built;
        assert_ptr_equal(expr_add(w.c, a, b), expr_add(w.c, b, a));
        assert_ptr_equal(expr_add(w.c, expr_sub(w.c, a, b), b), a);
        assert_ptr_equal(expr_add(w.c, expr_add(w.c, a, b), d), expr_add(w.c, a, expr_add(w.c, b, d)));
        assert_ptr_equal(expr_mul(w.c, a, b), expr_mul(w.c, b, a));
        assert_ptr_equal(expr_rewrite(w.c, a, same, NULL), a);
    }
    gd_close(w.c);
}

static void forms_that_passes_rely_on(void **state) {
    (void)state;
    World w;
    world_open(&w);
    Ctx *c = w.c;
    Expr *N = var_of(&w, 0), *H = var_of(&w, 1), *K = var_of(&w, 2), *n = var_of(&w, 3), *h = var_of(&w, 4),
         *i = var_of(&w, 5), *j = var_of(&w, 6), *p = var_of(&w, 7), *one = expr_int(c, 1),
         *zero = expr_int(c, 0);
    Expr *nh = expr_add(c, expr_mul(c, n, H), h);
    /* flattening and unflattening */
    assert_ptr_equal(expr_fdiv(c, nh, H), n);
    assert_ptr_equal(expr_fmod(c, nh, H), h);
    assert_true(expr_less(c, nh, expr_mul(c, N, H)));
    assert_false(expr_less(c, nh, expr_sub(c, expr_mul(c, N, H), one)));
    Expr *k26 = expr_int(c, 6), *pd = expr_fdiv(c, p, k26), *pm = expr_fmod(c, p, k26);
    assert_ptr_equal(expr_add(c, expr_mul(c, pd, k26), pm), p);
    assert_true(expr_less(c, pd, N));
    assert_true(expr_less(c, pm, k26));
    /* three digits of a mixed base */
    Expr *x = expr_add(c, expr_mul(c, i, expr_int(c, 100)), expr_mul(c, j, expr_int(c, 10)));
    assert_ptr_equal(expr_fmod(c, expr_fdiv(c, x, expr_int(c, 10)), expr_int(c, 10)), j);
    Var *q = loop_var(&w, "q", expr_int(c, 832 * 5));
    Expr *eq = expr_var(c, q), *d32 = expr_int(c, 32), *d26 = expr_int(c, 26), *d832 = expr_int(c, 832);
    Expr *flat = expr_add(c,
                          expr_add(c, expr_mul(c, expr_fdiv(c, eq, d832), d832),
                                   expr_mul(c, expr_fmod(c, expr_fdiv(c, eq, d32), d26), d32)),
                          expr_fmod(c, eq, d32));
    assert_ptr_equal(flat, eq);
    assert_ptr_equal(expr_fdiv(c, expr_fmod(c, eq, d832), d32), expr_fmod(c, expr_fdiv(c, eq, d32), d26));
    /* a divisor that is a sum: H - 1 columns */
    Expr *W = expr_sub(c, H, one);
    Expr *row = expr_var(c, loop_var(&w, "w", W));
    assert_ptr_equal(expr_fdiv(c, expr_add(c, expr_mul(c, n, W), row), W), n);
    assert_ptr_equal(expr_fmod(c, expr_add(c, expr_mul(c, n, W), row), W), row);
    /* common parts of dividend and divisor */
    Expr *four = expr_int(c, 4), *sixteen = expr_int(c, 16);
    assert_ptr_equal(expr_fdiv(c, expr_add(c, expr_mul(c, i, four), j), sixteen), expr_fdiv(c, i, four));
    assert_ptr_equal(expr_fmod(c, expr_add(c, expr_mul(c, i, four), j), sixteen),
                     expr_add(c, expr_mul(c, expr_fmod(c, i, four), four), j));
    /* comparisons have one form */
    assert_ptr_equal(expr2(c, E_LE, one, n), expr2(c, E_LT, zero, n));
    assert_ptr_equal(expr2(c, E_LT, expr_add(c, n, one), expr_add(c, N, expr_int(c, 2))), expr_bool(c, true));
    assert_ptr_equal(expr1(c, E_NOT, expr2(c, E_LT, n, K)), expr2(c, E_LE, K, n));
    assert_ptr_equal(expr2(c, E_LT, expr_mul(c, i, expr_int(c, 2)), expr_int(c, 5)),
                     expr2(c, E_LT, i, expr_int(c, 3)));
    assert_ptr_equal(expr2(c, E_EQ, expr_mul(c, i, expr_int(c, 2)), expr_int(c, 5)), expr_bool(c, false));
    assert_ptr_equal(expr2(c, E_MIN, expr_int(c, INT64_MAX), N), N);
    assert_ptr_equal(expr2(c, E_MAX, n, expr2(c, E_MIN, n, K)), n);
    /* x / 0 = 0 although 0 cannot be excluded: nothing may be cancelled */
    assert_ptr_not_equal(expr_fdiv(c, expr_mul(c, n, K), K), n);
    Expr *base, *stride;
    assert_true(expr_affine(c, nh, w.var[3], &base, &stride));
    assert_ptr_equal(base, h);
    assert_ptr_equal(stride, H);
    assert_false(expr_affine(c, expr_mul(c, n, n), w.var[3], &base, &stride));
    gd_close(c);
}

static void casts_and_selects(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    Expr *x = expr_var(c, var_new(c, V_LET, scalar(I32), "x", INT64_MIN, INT64_MAX));
    Expr *h = expr_var(c, var_new(c, V_LET, scalar(F16), "h", INT64_MIN, INT64_MAX));
    Expr *b = expr_var(c, var_new(c, V_LET, scalar(BOOL), "b", INT64_MIN, INT64_MAX));
    Expr *f = expr_var(c, var_new(c, V_LET, vector(F32, 16), "f", INT64_MIN, INT64_MAX));
    assert_ptr_equal(expr_cast(c, expr_cast(c, x, I64), I32), x);
    assert_ptr_not_equal(expr_cast(c, expr_cast(c, x, I8), I32), x);
    assert_ptr_not_equal(expr_cast(c, expr_cast(c, x, F32), I32), x);
    assert_ptr_equal(expr_cast(c, expr_cast(c, x, F64), I32), x);
    assert_ptr_equal(expr_cast(c, expr_cast(c, h, F32), F16), h);
    assert_ptr_equal(expr_select(c, b, x, x), x);
    assert_ptr_equal(expr_select(c, expr1(c, E_NOT, b), x, expr_num(c, I32, 3)),
                     expr_select(c, b, expr_num(c, I32, 3), x));
    assert_ptr_equal(expr_select(c, b, expr_bool(c, true), expr_bool(c, false)), b);
    assert_ptr_equal(expr_and(c, NULL, b), b);
    assert_ptr_equal(expr_and(c, expr_and(c, b, expr2(c, E_EQ, x, x)), b)->arg[0], b);
    assert_ptr_equal(expr_splat(c, expr_num(c, F32, 2), 16),
                     expr_const(c, vector(F32, 16), gd_to_bits(F32, 2)));
    assert_int_equal(expr_op(c, E_ADD, f->type, 2, (Expr *[]){f, f})->type.lanes, 16);
    assert_int_equal(expr2(c, E_LT, f, f)->type.dt, BOOL);
    assert_int_equal(expr2(c, E_LT, f, f)->type.lanes, 16);
    gd_close(c);
}

/* The search in expr_uses leaves no marks behind, and shared parts are walked once: 2^60 paths would never
 * end. */
static void count(void *arg, Expr *e) {
    (void)e;
    ++*(int *)arg;
}
static void shared_parts_are_walked_once(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    Var *v = var_new(c, V_LET, scalar(F32), "v", 0, 0), *u = var_new(c, V_LET, scalar(F32), "u", 0, 0);
    Expr *e = expr_var(c, v);
    for (int i = 0; i < 60; i++) e = expr_mul(c, e, e);
    Expr *sum = expr_add(c, e, expr_add(c, expr1(c, E_ABS, e), expr_var(c, u)));
    for (int i = 0; i < 3; i++) {
        assert_true(expr_uses(sum, u));
        assert_true(expr_uses(sum, v));
        assert_false(expr_uses(e, u));
    }
    int n = 0;
    expr_walk(sum, expr_mark(c), count, &n);
    assert_int_equal(n, 61 + 4);
    gd_close(c);
}

/* The arena of a network whose sizes are open is made of sums and maxima of such products. Proofs about them repeat one
   another, and are found once. */
static void proofs_are_found_once(void **state) {
    (void)state;
    clock_t start = clock();
    Ctx *c = gd_open(NULL);
    Expr *n = expr_var(c, var_new(c, V_SYM, scalar(I64), "N", 1, INT64_MAX));
    Expr *h = expr_var(c, var_new(c, V_SYM, scalar(I64), "H", 1, INT64_MAX));
    Expr *w = expr_var(c, var_new(c, V_SYM, scalar(I64), "W", 1, INT64_MAX));
    Expr *most = expr_int(c, 0), *one = expr_int(c, 1), *two = expr_int(c, 2), *many = expr_int(c, 16);
    h = expr_fdiv(c, expr_add(c, h, one), two);
    w = expr_fdiv(c, expr_add(c, w, one), two);
    for (int i = 0; i < 20; i++) {
        Expr *in = expr_mul(c, expr_sub(c, h, two), expr_sub(c, w, two)); /* a window's result, and a border */
        Expr *out = expr_mul(c, expr_add(c, h, one), expr_add(c, w, one));
        Expr *lines = expr_fdiv(c, expr_add(c, expr2(c, E_MAX, in, expr_int(c, 0)), expr_int(c, 15)), many);
        most = expr2(c, E_MAX, most, expr_mul(c, n, expr_mul(c, i & 1 ? lines : out, expr_int(c, 64 << i))));
        h = expr_fdiv(c, h, two);
        w = expr_fdiv(c, w, two);
    }
    assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
    gd_close(c);
}

/* ---- evaluation ---- */

static void small_floats(void **state) {
    (void)state;
    static const DType types[] = {F16, BF16, F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ, F8E8M0, F4E2M1};
    for (int k = 0; k < 8;
         k++) { /* every code survives; and what lies between two codes goes to the nearer one */
        DType t = types[k];
        unsigned codes = t == F4E2M1 ? 16 : gd_dtypes[t].bytes == 1 ? 256 : 65536;
        for (unsigned i = 0; i < codes; i++) {
            double d = gd_to_double(t, i);
            uint64_t f32 = gd_to_bits(F32, d), back = gd_eval(E_CAST, F32, t, &f32);
            if (isnan(d)) assert_true(isnan(gd_to_double(t, back)));
            else assert_int_equal(back, i);
        }
    }
    static const struct {
        DType t;
        double v, want;
    } cases[] = {{F16, 65519, 65504},      {F16, 65520, INFINITY},
                 {F16, 0x1p-25, 0},        {F16, 0x1.8p-24, 0x1p-23},
                 {F16, 2049, 2048},        {F16, 2051, 2052},
                 {BF16, 257, 256},         {BF16, 259, 260},
                 {BF16, 3.4e38, INFINITY}, {F8E4M3FN, 464, 448},
                 {F8E4M3FN, 465, NAN},     {F8E4M3FN, INFINITY, NAN},
                 {F8E4M3FN, 0x1p-10, 0},   {F8E4M3FN, 0x1.8p-9, 0x1p-8},
                 {F8E4M3FNUZ, 240, 240},   {F8E4M3FNUZ, 248, NAN},
                 {F8E5M2, 61439, 57344},   {F8E5M2, 61440, INFINITY},
                 {F8E5M2FNUZ, 61440, NAN}, {F4E2M1, 7, 6},
                 {F4E2M1, INFINITY, 6},    {F4E2M1, NAN, 6},
                 {F4E2M1, -100, -6},       {F4E2M1, 0.25, 0},
                 {F4E2M1, 0.75, 1},        {F4E2M1, 2.5, 2},
                 {F8E8M0, 1.5, 2},         {F8E8M0, 1.25, 1},
                 {F8E8M0, -4, 4},          {F8E8M0, INFINITY, NAN}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = gd_to_double(cases[i].t, gd_to_bits(cases[i].t, cases[i].v));
        if (isnan(cases[i].want) ? !isnan(got) : got != cases[i].want)
            fail_msg("%s(%g) = %g, not %g", gd_dtypes[cases[i].t].name, cases[i].v, got, cases[i].want);
    }
    assert_int_equal(gd_to_bits(F8E4M3FNUZ, -0.0), 0);
    assert_int_equal(gd_to_bits(F16, -0.0), 0x8000);
}

static uint64_t bits32(float f) { return gd_to_bits(F32, (double)f); }

static void total_arithmetic(void **state) {
    (void)state;
    static const struct {
        ExprKind op;
        DType t;
        int64_t a, b, want;
    } cases[] = {
        {E_DIV, I32, 7, 0, 0},    {E_REM, I32, 7, 0, 0},           {E_DIV, I32, INT32_MIN, -1, INT32_MIN},
        {E_FDIV, I32, -7, 2, -4}, {E_DIV, I32, -7, 2, -3},         {E_FMOD, I32, -7, 2, 1},
        {E_REM, I32, -7, 2, -1},  {E_FMOD, I32, 7, -2, -1},        {E_ADD, I8, 127, 1, -128},
        {E_MUL, U8, 16, 17, 16},  {E_SHL, I32, 1, 31, INT32_MIN},  {E_SHL, I32, 1, 32, 0},
        {E_SHR, I32, -8, 40, -1}, {E_SHR, U32, 0x80000000, 31, 1}, {E_MIN, U8, 200, 100, 100},
        {E_MAX, I8, -1, 1, 1},    {E_ABS, I8, -128, 0, -128},      {E_LT, U64, -1, 1, 0},
        {E_LT, I64, -1, 1, 1},    {E_XOR, I4, 5, -1, -6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t v[3] = {(uint64_t)cases[i].a, (uint64_t)cases[i].b}, out;
        DType res = cases[i].op == E_LT ? BOOL : cases[i].t;
        assert_int_equal(gd_eval(cases[i].op, cases[i].t, res, v), (uint64_t)cases[i].want);
        gd_eval_lanes(cases[i].op, cases[i].t, res, 1, &out, (const uint64_t *const[]){&v[0], &v[1], NULL});
        assert_int_equal(out, (uint64_t)cases[i].want);
    }
    uint64_t nan = bits32(NAN), v[3] = {bits32(-0.0f), bits32(0.0f), 0}, n[3] = {nan, bits32(1), 0},
             m[3] = {bits32(1), nan, 0};
    assert_int_equal(gd_eval(E_MIN, F32, F32, v), bits32(-0.0f));
    assert_int_equal(gd_eval(E_MAX, F32, F32, v), bits32(0.0f));
    assert_true(isnan(gd_to_double(F32, gd_eval(E_MAX, F32, F32, n))));
    assert_true(isnan(gd_to_double(F32, gd_eval(E_MIN, F32, F32, m))));
    assert_int_equal(gd_eval(E_CAST, F32, I32, n), 0);
    assert_int_equal(gd_eval(E_CAST, F32, BOOL, n), 1);
    uint64_t big = bits32(1e20f), low = bits32(-1e20f), half = bits32(-0.9f);
    assert_int_equal((int64_t)gd_eval(E_CAST, F32, I64, &big), INT64_MAX);
    assert_int_equal((int64_t)gd_eval(E_CAST, F32, I8, &low), -128);
    assert_int_equal(gd_eval(E_CAST, F32, U8, &low), 0);
    assert_int_equal(gd_eval(E_CAST, F32, U8, &half), 0);
}

/* The fast lane functions are the same evaluation. */
static void lanes_agree(void **state) {
    (void)state;
    static const DType types[] = {F32, F64, I64, I32, U32, BOOL, I8, U64};
    for (int round = 0; round < 20000; round++) {
        ExprKind op = (ExprKind)(E_ADD + (int)rnd(E_SELECT - E_ADD + 1));
        DType t = types[rnd(8)];
        if (op == E_SELECT) continue;
        bool truth = op >= E_EQ && op <= E_ISNAN;
        uint64_t a[3][7], out[7];
        for (int k = 0; k < 3; k++)
            for (int i = 0; i < 7; i++) {
                uint64_t raw = (uint64_t)rnd(UINT32_MAX) << 32 | rnd(UINT32_MAX);
                if (rnd(2)) raw = gd_to_bits(t, (double)rnd(9) - 4);
                a[k][i] = gd_load_bits(t, &raw);
            }
        gd_eval_lanes(op, t, truth ? BOOL : t, 7, out, (const uint64_t *const[]){a[0], a[1], a[2]});
        for (int i = 0; i < 7; i++) {
            uint64_t v[3] = {a[0][i], a[1][i], a[2][i]}, want = gd_eval(op, t, truth ? BOOL : t, v);
            if (dt_float(t) && !truth && isnan(gd_to_double(t, want)))
                assert_true(isnan(gd_to_double(t, out[i])));
            else assert_int_equal(out[i], want);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(simplified_means_the_same),
                                       cmocka_unit_test(building_is_canonical),
                                       cmocka_unit_test(forms_that_passes_rely_on),
                                       cmocka_unit_test(casts_and_selects),
                                       cmocka_unit_test(shared_parts_are_walked_once),
                                       cmocka_unit_test(proofs_are_found_once),
                                       cmocka_unit_test(small_floats),
                                       cmocka_unit_test(total_arithmetic),
                                       cmocka_unit_test(lanes_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
