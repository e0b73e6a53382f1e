/* The loop IR: programs printed and parsed back, verified, and interpreted against the same thing in plain C.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "loop.h"

/* Runs body(c) behind a door; a failure's message ends the test. */
typedef void Body(Ctx *c);
static void enter(Ctx *c, void *body) { ((Body *)(uintptr_t)body)(c); }
static void run_body(Body *body) {
    Ctx *c = gd_open(NULL);
    if (gd_enter(c, enter, (void *)(uintptr_t)body)) {
        print_error("%s\n", gd_diag(c, 0)->message);
        fail();
    }
    gd_close(c);
}
#define TEST(NAME)                                                                                           \
    static void NAME##_body(Ctx *c);                                                                         \
    static void NAME(void **state) {                                                                         \
        (void)state;                                                                                         \
        run_body(NAME##_body);                                                                               \
    }                                                                                                        \
    static void NAME##_body(Ctx *c)

static const char *printed(Ctx *c, const Program *p) {
    Text *t = text_new(c);
    loop_print(t, p);
    return t->s;
}

/* Verified, printed, parsed, printed again: the same text. Returns the parsed one. */
static Program *round_trip(Ctx *c, const Program *p) {
    loop_verify(p);
    const char *first = printed(c, p);
    Program *q = loop_parse(c, first, strlen(first));
    loop_verify(q);
    assert_string_equal(printed(c, q), first);
    return q;
}

/* The text as given is what is printed. */
static Program *given(Ctx *c, const char *text) {
    Program *p = loop_parse(c, text, strlen(text));
    loop_verify(p);
    assert_string_equal(printed(c, p), text);
    return p;
}

static float noise(int i) { return (float)((i * 7919 + 13) % 101) / 16 - 3; }
static float *floats(Ctx *c, int n) {
    float *x = gd_new_array(c, float, n + 1);
    for (int i = 0; i < n; i++) x[i] = noise(i);
    return x;
}

/* ---- built by hand ---- */

static Program *matmul(Ctx *c, int k, int m, const float *weights) {
    Program *p = program_new(c, "matmul");
    Var *n = var_new(c, V_SYM, scalar(I64), "N", 0, INT64_MAX);
    vec_push(c, &p->syms, n);
    Expr *N = expr_var(c, n), *K = expr_int(c, k), *M = expr_int(c, m);
    Buf *x = buf_new(p, SP_IN, F32, 2, (Expr *[]){N, K}, "x"),
        *y = buf_new(p, SP_OUT, F32, 2, (Expr *[]){N, M}, "y"),
        *w = buf_new(p, SP_CONST, F32, 2, (Expr *[]){K, M}, "w"),
        *acc = buf_new(p, SP_REG, F32, 0, NULL, "acc");
    w->data = weights;
    w->label = "dense.weight";
    Stmt *nest = stmt_nest(p, &p->body, "dense0");
    nest->nest->source = "MatMul_0; Relu_1";
    nest->nest->macs = k * m;
    Stmt *li = stmt_for(p, &nest->body, "i", N, true), *lj = stmt_for(p, &li->body, "j", M, true);
    Expr *i = expr_var(c, li->var), *j = expr_var(c, lj->var), *a = expr_load(c, acc, 1, NULL, NULL);
    stmt_decl(p, &lj->body, acc);
    stmt_store(p, &lj->body, acc, NULL, expr_num(c, F32, 0), NULL);
    Stmt *lk = stmt_for(p, &lj->body, "k", K, false);
    Expr *kk = expr_var(c, lk->var);
    stmt_store(p, &lk->body, acc, NULL,
               expr3(c, E_FMA, expr_load(c, x, 1, (Expr *[]){i, kk}, NULL),
                     expr_load(c, w, 1, (Expr *[]){kk, j}, NULL), a),
               NULL);
    stmt_store(p, &lj->body, y, (Expr *[]){i, j}, expr2(c, E_MAX, a, expr_num(c, F32, 0)), NULL);
    return p;
}

static void check_matmul(Ctx *c, const Program *p, int n, int k, int m, const float *w) {
    const float *x = floats(c, n * k);
    const void *in[] = {x};
    void *out[] = {NULL};
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){in, out, (int64_t[]){n}}), 0);
    const float *y = out[0];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < m; j++) {
            float s = 0;
            for (int q = 0; q < k; q++) s = fmaf(x[i * k + q], w[q * m + j], s);
            assert_memory_equal(&y[i * m + j], &(float){s > 0 ? s : 0}, 4);
        }
}

TEST(matmul_by_hand) {
    const float *w = floats(c, 7 * 5);
    Program *p = matmul(c, 7, 5, w);
    Text *t = text_new(c);
    loop_print_brief(t, p);
    assert_string_equal(t->s, "program matmul\n"
                              "sym N in 0..inf\n"
                              "in x: f32[N, 7]\n"
                              "out y: f32[N, 5]\n"
                              "const w: f32[7, 5] \"dense.weight\"\n"
                              "\n"
                              "nest dense0 ; source MatMul_0\\x3b Relu_1 ; 3.5e-05 MMAC\n"
                              "  each i in N, j in 5\n"
                              "    reg acc: f32\n"
                              "    acc = 0.0\n"
                              "    for k in 7\n"
                              "      acc = fma(x[i, k], w[k, j], acc)\n"
                              "    y[i, j] = max(acc, 0.0)\n");
    check_matmul(c, p, 3, 7, 5, w);
    check_matmul(c, p, 0, 7, 5, w);
    check_matmul(c, round_trip(c, p), 4, 7, 5, w);
}

TEST(clones_are_fresh) {
    const float *w = floats(c, 7 * 5);
    Program *p = matmul(c, 7, 5, w);
    Stmt *first = p->body.v[0], *copy = stmt_clone(p, first, NULL);
    vec_push(c, &p->body, copy);
    assert_string_equal(copy->nest->name, "dense0_1");
    loop_verify(p); /* no variable or register is defined twice */
    check_matmul(c, p, 3, 7, 5, w);
    /* the inside of a loop, for one value of its variable */
    Stmt *outer = first->body.v[0], *inner = outer->body.v[0];
    Map *vars = map_new(c);
    map_putp(vars, outer->var, expr_int(c, 2));
    Block body = {0};
    vec_push(c, &body, stmt_clone(p, inner, vars));
    assert_string_equal(expr_text(c, body.v[0]->body.v[2]->body.v[0]->e), "fma(x[2, k], w[k, j], acc)");
    first->body = body;
    loop_verify(p);
}

/* ---- from text ---- */

/* 6 pixels x 2 vectors of 16 channels, the tail of K as a loop, two outputs masked by a count. */
static const char tile_text[] = "program tile after vectorize lanes 16 bound\n"
                                "in x: f32[13, 9]\n"
                                "in w: f32[9, 32]\n"
                                "in b: f32[32]\n"
                                "out y: f32[13, 32]\n"
                                "out z: f32[13, 21]\n"
                                "\n"
                                "nest tile ; source Gemm ; schedule 6x2, parallel over rows (cost model)\n"
                                "  parallel q in 2\n"
                                "    reg acc: v16f32[6, 2]\n"
                                "    unroll i in 6, o in 2\n"
                                "      acc[i, o] = b.v16[o*16]\n"
                                "    for k in 9\n"
                                "      let w0 = w.v16[k, 0]\n"
                                "      let w1 = w.v16[k, 16]\n"
                                "      unroll i in 6\n"
                                "        let r = splat16(x[q*6+i, k])\n"
                                "        acc[i, 0] = fma(r, w0, acc[i, 0])\n"
                                "        acc[i, 1] = fma(r, w1, acc[i, 1])\n"
                                "    unroll i in 6, o in 2\n"
                                "      y.v16[q*6+i, o*16] = acc[i, o]\n"
                                "      z.v16[q*6+i, o*16] = acc[i, o] count -o*16+21\n"
                                "  for k in 1\n"
                                "    if k == 0\n"
                                "      vector o in k+32 width 40\n"
                                "        reg s: f32\n"
                                "        s = b[o]\n"
                                "        for j in 9\n"
                                "          s = fma(x[12, j], w[j, o], s)\n"
                                "        y[12, o] = s\n"
                                "        z[12, o] = s if o < 21\n";

TEST(vectors_and_counts) {
    char *text = gd_strdup(c, tile_text), *count = strstr(text, "-o*16+21");
    memcpy(count, "21-o*16 ", 8); /* as it is printed */
    memmove(count + 7, count + 8, strlen(count + 8) + 1);
    Program *p = given(c, text);
    const float *x = floats(c, 13 * 9), *w = floats(c, 9 * 32), *b = floats(c, 32);
    float *y, *z;
    void *out[] = {NULL, NULL};
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x, w, b}, out, NULL}), 0);
    y = out[0];
    z = out[1];
    for (int i = 0; i < 13; i++)
        for (int o = 0; o < 32; o++) {
            float s = b[o];
            for (int k = 0; k < 9; k++) s = fmaf(x[i * 9 + k], w[k * 32 + o], s);
            assert_memory_equal(&y[i * 32 + o], &s, 4);
            if (o < 21) assert_memory_equal(&z[i * 21 + o], &s, 4);
        }
}

TEST(masked_loads_read_nothing) {
    Program *p = given(c, "program conv\n"
                          "sym N in 1..100\n"
                          "in x: f32[N]\n"
                          "out y: f32[N]\n"
                          "out v: f32[16]\n"
                          "\n"
                          "nest conv\n"
                          "  each i in N\n"
                          "    reg acc: f32\n"
                          "    acc = 0.0\n"
                          "    for k in 5\n"
                          "      acc = acc + (x[i+k-2] if 1 < i+k & i+k < N+2)\n"
                          "    y[i] = acc\n"
                          "  v.v16[0] = (x.v16[0] count N)\n");
    for (int n = 1; n < 20; n++) {
        float *x = malloc((size_t)n * sizeof *x); /* so that a sanitizer sees what lies outside */
        for (int i = 0; i < n; i++) x[i] = noise(i);
        void *out[] = {NULL, NULL};
        int64_t N = n;
        assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, out, &N}), 0);
        for (int i = 0; i < n; i++) {
            float s = 0;
            for (int k = 0; k < 5; k++) s += i + k - 2 >= 0 && i + k - 2 < n ? x[i + k - 2] : 0;
            assert_memory_equal(&((float *)out[0])[i], &s, 4);
        }
        for (int i = 0; i < 16; i++)
            assert_memory_equal(&((float *)out[1])[i], i < n ? &x[i] : &(float){0}, 4);
        free(x);
    }
}

/* Data decides how many: the indices of what is positive, then their sum in a while loop. */
TEST(sizes_that_data_decides) {
    Program *p = given(c, "program nonzero grows\n"
                          "sym N in 1..1000\n"
                          "sym K in 0..1000 data max N\n"
                          "in x: f32[N]\n"
                          "out y: i64[K]\n"
                          "out s: i64\n"
                          "out m: i64[K]\n"
                          "arena n: i64[1]\n"
                          "arena d: i64[K, 2]\n"
                          "heap a: i64[K]\n"
                          "heap h: i64[K]\n"
                          "\n"
                          "nest count\n"
                          "  n[0] = 0\n"
                          "  for i in N\n"
                          "    if 0.0 < x[i]\n"
                          "      n[0] = n[0]+1\n"
                          "let K = n[0]\n"
                          "check K < 6 status 7\n"
                          "alloc a\n"
                          "alloc y\n"
                          "nest fill\n"
                          "  reg k: i64\n"
                          "  k = 0\n"
                          "  for i in N\n"
                          "    if 0.0 < x[i]\n"
                          "      a[k] = i\n"
                          "      k = k+1\n"
                          "move h from a\n"
                          "nest total\n"
                          "  reg k: i64\n"
                          "  reg t: i64\n"
                          "  k = 0\n"
                          "  t = 0\n"
                          "  while k < K\n"
                          "    t = h[k]+t\n"
                          "    k = k+1\n"
                          "  s = t\n"
                          "  each i in K\n"
                          "    y[i] = h[i]\n"
                          "    d[i, 1] = h[i]*2\n"
                          "  each i in K\n"
                          "    h[i] = d[i, 1]+1\n"
                          "alloc m\n"
                          "move m from h\n");
    for (int n = 1; n < 16; n++) {
        const float *x = floats(c, n);
        void *out[] = {NULL, NULL, NULL};
        int64_t syms[] = {n, -1}, total = 0, count = 0;
        int status = loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, out, syms});
        for (int i = 0; i < n; i++) {
            if (x[i] <= 0) continue;
            count++;
            total += i;
        }
        assert_int_equal(syms[1], count);
        if (count >= 6) {
            assert_int_equal(status, 7);
            continue;
        }
        assert_int_equal(status, 0);
        assert_int_equal(*(int64_t *)out[1], total);
        int64_t *y = out[0], *m = out[2];
        for (int i = 0, k = 0; i < n; i++) {
            if (x[i] <= 0) continue;
            assert_int_equal(y[k], i);
            assert_int_equal(m[k++], 2 * i + 1);
        }
    }
}

TEST(views_locals_and_functions) {
    Program *p = given(c, "program softmax\n"
                          "sym N in 1..inf\n"
                          "in x: f32[N, 6]\n"
                          "out y: f32[2, N, 3]\n"
                          "arena t: f32[N, 8]\n"
                          "view t_1: f32[N, 6] stride [8, 1] of t at 2\n"
                          "view y_1: f32[N, 2, 3] stride [3, N*3, 1] of y at 0\n"
                          "\n"
                          "nest rows\n"
                          "  each n in N\n"
                          "    local row: f32[6]\n"
                          "    view row_1: f32[2, 3] of row at 0\n"
                          "    reg m: f32\n"
                          "    m = -inf\n"
                          "    for i in 6\n"
                          "      m = max(m, x[n, i])\n"
                          "    reg s: f32\n"
                          "    s = 0.0\n"
                          "    for i in 6\n"
                          "      row[i] = exp(x[n, i] - m)\n"
                          "      s = s + row[i]\n"
                          "    each i in 6\n"
                          "      t_1[n, i] = row_1[i//3, i mod 3] / s\n"
                          "nest split\n"
                          "  each i in N, j in 2, k in 3\n"
                          "    $1 = t[i, j*3+k+2]\n"
                          "    y_1[i, j, k] = $1 * $1\n");
    int n = 5;
    const float *x = floats(c, n * 6);
    float y[30];
    int64_t N = n;
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, (void *[]){y}, &N}), 0);
    for (int i = 0; i < n; i++) {
        double s = 0, m = -INFINITY;
        for (int j = 0; j < 6; j++) m = fmax(m, (double)x[i * 6 + j]);
        for (int j = 0; j < 6; j++) s += exp((double)x[i * 6 + j] - m);
        for (int j = 0; j < 6; j++) {
            double want = exp((double)x[i * 6 + j] - m) / s;
            assert_true(fabs((double)y[(j / 3) * n * 3 + i * 3 + j % 3] - want * want) < 1e-6);
        }
    }
}

TEST(every_kind_of_value) {
    Program *p = given(c, "program values\n"
                          "in h: f16[4]\n"
                          "in u: u8[4]\n"
                          "out a: f16[4] as \"the a\"\n"
                          "out b: f8e4m3fn[4]\n"
                          "out d: f64[4] \"model's \\x22d\\x22\"\n"
                          "out e: i8[4]\n"
                          "out f: bool[4]\n"
                          "out g: f32[8]\n"
                          "out l: i32[16]\n"
                          "const c0: f32[7] = [0.1, -0.0, inf, -inf, nan, 3.4028235e+38, 1e-45]\n"
                          "const c1: u64[2] = [18446744073709551615, 0]\n"
                          "const c2: i64[1] = [-9223372036854775808]\n"
                          "const c3: bool[2] = [true, false]\n"
                          "const c4: f16[2] = [65504.0, 6e-08]\n"
                          "const c5: string[2] = [\"a\\x22\\x01b\", \"\"]\n"
                          "const c6: i4[3] = [-8, 0, 7]\n"
                          "const c7: f32[0] = []\n"
                          "const c8: f32[2] = [as_f32(u32(0x7fc00001)), 1.0]\n"
                          "\n"
                          "nest v\n"
                          "  each i in 4\n"
                          "    let x = f32(h[i])\n"
                          "    a[i] = f16(x * 3.0)\n"
                          "    b[i] = f8e4m3fn(x)\n"
                          "    d[i] = f64(x) / f64(3.0) + f64(c2[0]) * f64(0.1)\n"
                          "    e[i] = i8(x * 100.0)\n"
                          "    f[i] = !(x < 0.5) | u[i] == u8(7)\n"
                          "    g[i] = x < 0.0 ? -x : copysign(x, c0[1])\n"
                          "    let z = as_i32(x) >> i32(23) & i32(255)\n"
                          "    g[i+4] = f32(z) + as_f32(as_u32(x) ^ u32(2147483648)) - -x\n"
                          "  let n = i32(lane(v16i64))\n"
                          "  l.v16[0] = zip_hi(n * splat16(i32(3)) << splat16(i32(1)), zip_lo(n, n))\n");
    uint16_t h[4] = {0x3c00, 0xbc00, 0x3555, 0x7bff}, a[4];
    uint8_t u[4] = {0, 7, 255, 1}, b[4], f[4];
    int8_t e[4];
    double d[4];
    float g[8], x[4] = {1, -1, 0.333251953125f, 65504};
    int32_t l[16];
    void *out[] = {a, b, d, e, f, g, l};
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){h, u}, out, NULL}), 0);
    static const uint16_t want_a[4] = {0x4200, 0xc200, 0x3c00, 0x7c00};
    static const uint8_t want_b[4] = {0x38, 0xb8, 0x2b, 0x7f};
    static const int8_t want_e[4] = {100, -100, 33, 127};
    static const uint8_t want_f[4] = {1, 1, 0, 1};
    assert_memory_equal(a, want_a, sizeof a);
    assert_memory_equal(b, want_b, sizeof b);
    assert_memory_equal(e, want_e, sizeof e);
    assert_memory_equal(f, want_f, sizeof f);
    for (int i = 0; i < 4; i++) {
        double product = -9223372036854775808.0 * 0.1, want = (double)x[i] / 3;
        want += product;
        assert_memory_equal(&d[i], &want, 8);
        uint32_t bits;
        memcpy(&bits, &x[i], 4);
        float want_g = x[i] < 0 ? -x[i] : -x[i], want_k = (float)((int32_t)bits >> 23 & 255) + -x[i] - -x[i];
        assert_memory_equal(&g[i], &want_g, 4);
        assert_memory_equal(&g[i + 4], &want_k, 4);
    }
    for (int i = 0; i < 16; i++) assert_int_equal(l[i], i % 2 ? (8 + i / 2) / 2 : (8 + i / 2) * 6);
}

TEST(planned_places) {
    Program *p = given(c, "program planned after plan\n"
                          "sym N in 1..inf\n"
                          "in x: f32[N]\n"
                          "out y: f32[N]\n"
                          "arena t0: f32[N] @ 0 ; live a..b\n"
                          "arena t1: f32[N] @ N*4 ; live b..c\n"
                          "arena t2: f32[N] @ 0 ; live c..d\n"
                          "arena_bytes N*8\n"
                          "\n"
                          "nest a\n"
                          "  each i in N\n"
                          "    t0[i] = x[i] + 1.0\n"
                          "nest b\n"
                          "  each i in N\n"
                          "    t1[i] = t0[i] * 2.0\n"
                          "nest c\n"
                          "  each i in N\n"
                          "    t2[i] = t1[i] - 3.0\n"
                          "nest d\n"
                          "  each i in N\n"
                          "    y[i] = t2[i]\n");
    const float *x = floats(c, 9);
    void *out[] = {NULL};
    int64_t n = 9;
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, out, &n}), 0);
    for (int i = 0; i < 9; i++) assert_true(((float *)out[0])[i] == (x[i] + 1) * 2 - 3);
    n = 0;
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, out, &n}),
                     1); /* outside its range */
}

/* Larger constants come back to the bit, runs and all. */
TEST(data_sections) {
    Program *p = program_new(c, "data");
    Buf *b[3];
    static const DType types[3] = {F32, U8, F64};
    for (int i = 0; i < 3; i++) {
        b[i] = buf_new(p, SP_CONST, types[i], 1, (Expr *[]){expr_int(c, 1000)}, "w");
        uint8_t *d = gd_alloc(c, 8000);
        for (int k = 0; k < 1000 * gd_dtypes[types[i]].bytes; k++)
            d[k] = k % 300 < 200 ? (uint8_t)(k * k) : 0;
        b[i]->data = d;
    }
    Program *q = round_trip(c, p);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(q->consts.v[i]->data, b[i]->data, (size_t)(1000 * gd_dtypes[types[i]].bytes));
    Text *t = text_new(c);
    loop_print_brief(t, p);
    assert_true(t->n < 200);
    assert_null(loop_parse(c, t->s, t->n)->consts.v[0]->data);
}

/* Names are unique where they are visible; the text of the same program is always the same. */
TEST(names_and_order) {
    Program *p = program_new(c, "names");
    Var *N = var_new(c, V_SYM, scalar(I64), "n", 1, INT64_MAX);
    vec_push(c, &p->syms, N);
    Buf *y = buf_new(p, SP_OUT, F32, 2, (Expr *[]){expr_var(c, N), expr_int(c, 4)}, "if");
    for (int k = 0; k < 2; k++) {
        Stmt *nest = stmt_nest(p, &p->body, "copy");
        Stmt *a = stmt_for(p, &nest->body, "n", expr_var(c, N), true),
             *b = stmt_for(p, &a->body, "n", expr_int(c, 4), true);
        Expr *i = expr_var(c, a->var), *j = expr_var(c, b->var);
        Expr *sum = k ? expr_add(c, expr_mul(c, j, expr_int(c, 2)), i)
                      : expr_add(c, i, expr_mul(c, j, expr_int(c, 2)));
        stmt_store(p, &b->body, y, (Expr *[]){i, j}, expr_cast(c, sum, F32), NULL);
    }
    assert_string_equal(printed(c, p), "program names\n"
                                       "sym n in 1..inf\n"
                                       "out if_1: f32[n, 4] as \"if\"\n"
                                       "\n"
                                       "nest copy\n"
                                       "  each n_1 in n, n_2 in 4\n"
                                       "    if_1[n_1, n_2] = f32(n_1+n_2*2)\n"
                                       "nest copy_1\n"
                                       "  each n_1 in n, n_2 in 4\n"
                                       "    if_1[n_1, n_2] = f32(n_1+n_2*2)\n");
    round_trip(c, p);
}

/* A value with 2^40 paths to its leaves prints in as many lines as it has operators. */
TEST(text_is_linear) {
    Program *p = program_new(c, "deep");
    Buf *y = buf_new(p, SP_OUT, F32, 0, NULL, "y"), *x = buf_new(p, SP_IN, F32, 0, NULL, "x");
    Stmt *nest = stmt_nest(p, &p->body, "deep");
    Expr *e = expr_load(c, x, 1, NULL, NULL);
    p->params.v[0] = x;
    p->params.v[1] = y;
    p->port_names.v[0] = "x";
    p->port_names.v[1] = "y";
    for (int i = 0; i < 40; i++) e = expr_add(c, e, expr_mul(c, e, expr_num(c, F32, 0.25)));
    stmt_store(p, &nest->body, y, NULL, e, NULL);
    Program *q = round_trip(c, p);
    assert_true(strlen(printed(c, p)) < 3000);
    float in = 1, a, b;
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){&in}, (void *[]){&a}, NULL}), 0);
    assert_int_equal(loop_interpret(c, q, &(LoopArgs){(const void *[]){&in}, (void *[]){&b}, NULL}), 0);
    float want = 1;
    for (int i = 0; i < 40; i++) want = want + want * 0.25f;
    assert_memory_equal(&a, &want, 4);
    assert_memory_equal(&b, &want, 4);
}

TEST(sums_of_many_terms) {
    Text *t = text_new(c);
    text_put(t, "program sums\nin x: i64[200]\nout y: i64\n\nnest n\n");
    for (int i = 0; i < 200; i++) text_printf(t, "  let v%d = x[%d]\n", i, i);
    text_put(t, "  y = v0");
    for (int i = 1; i < 200; i++) text_printf(t, "+v%d", i);
    text_put(t, "\n");
    Program *p = loop_parse(c, t->s, t->n);
    int64_t x[200], y, want = 0;
    for (int i = 0; i < 200; i++) want += x[i] = i * i - 7;
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, (void *[]){&y}, NULL}), 0);
    assert_int_equal(y, want);
    const char *text = printed(c, p);
    p = loop_parse(c, text, strlen(text));
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, (void *[]){&y}, NULL}), 0);
    assert_int_equal(y, want);
}

/* ---- what must be refused ---- */

typedef struct Bad {
    const char *text, *message;
} Bad;

static void parse(Ctx *c, void *text) { loop_parse(c, text, strlen(text)); }

static void refused(const char *text, const char *message) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, parse, (void *)(uintptr_t)text);
    if (status != EXIT_INVALID) fail_msg("accepted (%d): %s", status, text);
    assert_int_equal(gd_diag(c, 0)->code, 104);
    if (!strstr(gd_diag(c, 0)->message, message))
        fail_msg("%s\n  is not: %s", gd_diag(c, 0)->message, message);
    gd_close(c);
}

static void the_parser_refuses(void **state) {
    (void)state;
    static const Bad bad[] = {
        {"", "line 1, column 1"},
        {"hello", "line 1, column 1: 'program' is missing"},
        {"program p\nin x: f33[3]\n", "line 2, column 7: 'f33' is not a type"},
        {"program p\nin x: f32[N]\n", "line 2, column 11: the name 'N' is not known here"},
        {"program p\nin x: f32[3]\nin x: f32\n", "line 3, column 10: the name 'x' is in use"},
        {"program p\nin x: f32[3.0]\n", "an i64 is wanted"},
        {"program p\n   nest n\n", "odd column"},
        {"program p\n  nest n\n", "indented too far"},
        {"program p\nout y: f32\ny = 1\n", "a value of type i64 does not fit there"},
        {"program p\nout y: f32\ny = 1.0 + 1\n", "differ in type"},
        {"program p\nout y: f32\ny = 1.0 & 2.0\n", "logic is of integers"},
        {"program p\nout y: f32\ny[0] = 1.0\n", "'=' is missing"},
        {"program p\nout y: f32[3]\ny = 1.0\n", "y has 1 dims, not 0"},
        {"program p\nout y: f32\ny = sin()\n", "name is missing"},
        {"program p\nout y: f32\ny = frob(1.0)\n", "no function 'frob'"},
        {"program p\nout y: f32\ny = (1.0\n", "')' is missing"},
        {"program p\nout y: f32\ny = $1\n", "$1 is not defined"},
        {"program p\nout y: f32\n$1 = 2.0\n", "is missing"},
        {"program p\nout y: f32\nfor i in 3.0\n", "an i64 is wanted"},
        {"program p\nout y: f32\nif 3\n", "a condition is wanted"},
        {"program p\nout y: f32\nfoo bar\n", "this is no statement"},
        {"program p\nout y: f32\ny = 1.0 2.0\n", "not understood"},
        {"program p\nconst w: f32[3] = [1.0]\n", "w has 3 elements, not 1"},
        {"program p\nconst w: f32[1] = [x]\n", "not known"},
        {"program p\nconst w: f32[99999999999999]\n\ndata w\n  00000000*9\n", ""},
        {"program p\nconst w: f32[9]\ndata w\n  0000000\n", "8 hexadecimal digits"},
        {"program p\nconst w: f32[9]\ndata w\n  00000000*10\n", "only 9 elements"},
        {"program p\nnest a\nnest a\n", "two nests"},
        {"program p\nlocal row: v4f32[3]\n", "only registers are vectors"},
        {"program p\nin x: f32\nx = 1.0\n", "x is read only"},
        {"program p\nout y: f32[3]\neach i in 3\n  y[0] = 1.0\n",
         "all iterations of a free loop store to one place"},
        {"program p\nout y: f32[3]\nreg a: f32\nparallel i in 3\n  a = 1.0\n",
         "all iterations of a free loop"},
        {"program p\nsym N in 1..9\nout y: f32[3]\nunroll i in N\n  y[i] = 1.0\n", "not a number"},
        {"program p\nsym N in 1..9\nout y: f32[9]\nvector i in N\n  y[i] = 1.0\n", "needs a width"},
        {"program p\nsym N in 1..9\nout y: f32[9]\nvector i in N width 8\n  y[i] = 1.0\n",
         "longer than its vector"},
        {"program p\nsym N in 1..9\nlet N = 3\n", "comes from the inputs"},
        {"program p bound\nin x: f32\nout y: f32\ny = x * x\n", "computed twice"},
        {"program p\nlet t = 1.0\nlet t = 2.0\n", "in use"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (strstr(bad[i].text, "99999999999999")) continue; /* a limit, below */
        refused(bad[i].text, bad[i].message);
    }
    Ctx *c = gd_open(NULL);
    assert_int_equal(
        gd_enter(c, parse,
                 (void *)(uintptr_t) "program p\nconst w: f32[99999999999999]\ndata w\n  00000000*9\n"),
        EXIT_LIMIT);
    gd_close(c);
    char deep[4000] = "program p\nout y: f32\ny = ";
    memset(deep + strlen(deep), '(', 3000);
    c = gd_open(NULL);
    assert_int_equal(gd_enter(c, parse, deep), EXIT_LIMIT);
    gd_close(c);
}

/* Cut anywhere, or with one byte changed, a text is refused cleanly or is still a program. */
static void damaged_texts(void **state) {
    (void)state;
    static const char more[] =
        "program q after x lanes 8 grows\nsym N in 1..64\nsym K in 0..9 data max N*2+1\nin x: f16[N, 3] "
        "\"a\"\nout y: f32[N]\n"
        "const c: f32[9]\nconst s: string[1] = [\"x\"]\narena t: f32[4] @ 64\nheap h: i64[K]\nview v: f32[2, "
        "2] stride [1, 2] of t at 0\n"
        "arena_bytes N*4+80\n\nlet K = max(N-5, 0)\nalloc h\nnest a ; source b ; macs 3.0\n  each i: 0..70 "
        "in N\n"
        "    let q = i//4*4+i mod 4\n    $1 = f32(x[i, 1])\n    y[i] = $1 < 0.5 ? exp($1) : -$1\n"
        "    if i < 4 & !(i == 2)\n      v[i//2, i mod 2] = (c[i+q-3] if 3 < i)\n    else\n      check 3 < i "
        "status 9\nfree h\n"
        "data c\n  3f800000*5 00000000*4\n";
    const char *texts[] = {tile_text, more};
    for (int k = 0; k < 2; k++) {
        size_t n = strlen(texts[k]);
        Ctx *c = gd_open(NULL);
        if (gd_enter(c, parse, (void *)(uintptr_t)texts[k])) fail_msg("%s", gd_diag(c, 0)->message);
        gd_close(c);
        for (size_t i = 0; i < 3 * n; i++) {
            char *copy = malloc(n + 1);
            memcpy(copy, texts[k], n + 1);
            if (i < n) copy[i] = 0;
            else copy[i % n] = " 0(x9]=\n$.\"v"[(i * 7 + i / n) % 12];
            c = gd_open(&(Budget){.max_bytes = 64 << 20});
            int status = gd_enter(c, parse, copy);
            if (status != EXIT_OK && status != EXIT_INVALID && status != EXIT_LIMIT)
                fail_msg("%d: %s\n%s", status, gd_diag(c, 0)->message, copy);
            gd_close(c);
            free(copy);
        }
    }
}

/* A broken program that no text can express. */
typedef struct Broken {
    void (*make)(Ctx *, Program *, Stmt *nest);
    const char *message;
} Broken;

static void shared_statement(Ctx *c, Program *p, Stmt *n) {
    (void)p;
    vec_push(c, &n->body, n->body.v[0]);
}
static void out_of_scope(Ctx *c, Program *p, Stmt *n) {
    stmt_store(p, &n->body, p->params.v[1], (Expr *[]){expr_var(c, n->body.v[0]->var), expr_int(c, 0)},
               expr_num(c, F32, 1), NULL);
}
static void not_declared(Ctx *c, Program *p, Stmt *n) {
    stmt_store(p, &n->body, buf_new(p, SP_REG, F32, 0, NULL, "r"), NULL, expr_num(c, F32, 1), NULL);
}
static void not_listed(Ctx *c, Program *p, Stmt *n) {
    Buf *b = buf_new(p, SP_ARENA, F32, 0, NULL, "t");
    p->bufs.n = 0;
    stmt_store(p, &n->body, b, NULL, expr_num(c, F32, 1), NULL);
}
static void wrong_type(Ctx *c, Program *p, Stmt *n) {
    stmt_store(p, &n->body, p->params.v[1], (Expr *[]){expr_int(c, 0), expr_int(c, 0)}, expr_num(c, F64, 1),
               NULL);
}
static void mixed_operands(Ctx *c, Program *p, Stmt *n) {
    Expr *x = expr_load(c, p->params.v[0], 1, (Expr *[]){expr_int(c, 0), expr_int(c, 0)}, NULL);
    stmt_store(p, &n->body, p->params.v[1], (Expr *[]){expr_int(c, 0), expr_int(c, 0)},
               expr_add(c, x, expr_cast(c, x, F64)), NULL);
}
static void ordered_parallel(Ctx *c, Program *p, Stmt *n) {
    (void)c;
    (void)p;
    n->body.v[0]->free = false;
    n->body.v[0]->mode = L_PARALLEL;
}
static void nested_nest(Ctx *c, Program *p, Stmt *n) {
    (void)c;
    stmt_nest(p, &n->body, "inner");
}
static void half_planned(Ctx *c, Program *p, Stmt *n) {
    (void)n;
    p->arena = expr_int(c, 64);
    buf_new(p, SP_ARENA, F32, 0, NULL, "t");
}
static void wrong_definition(Ctx *c, Program *p, Stmt *n) {
    (void)p;
    n->body.v[0]->var->def = expr_int(c, 1);
}

static void verify(Ctx *c, void *arg) {
    const Broken *b = arg;
    Program *p = matmul(c, 7, 5, floats(c, 35));
    b->make(c, p, p->body.v[0]);
    loop_verify(p);
}

static void the_verifier_refuses(void **state) {
    (void)state;
    static const Broken broken[] = {{shared_statement, "stands in two places"},
                                    {out_of_scope, "outside its scope"},
                                    {not_declared, "not declared"},
                                    {not_listed, "not in the program's lists"},
                                    {wrong_type, "another type"},
                                    {mixed_operands, "differ in type"},
                                    {ordered_parallel, "only free loops"},
                                    {nested_nest, "inside a nest"},
                                    {half_planned, "has an offset"},
                                    {wrong_definition, "trip count as its definition"}};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        Ctx *c = gd_open(NULL);
        int status = gd_enter(c, verify, (void *)(uintptr_t)&broken[i]);
        if (status != EXIT_INTERNAL) fail_msg("accepted: %s", broken[i].message);
        if (!strstr(gd_diag(c, 0)->message, broken[i].message))
            fail_msg("%s\n  is not: %s", gd_diag(c, 0)->message, broken[i].message);
        gd_close(c);
    }
}

/* No program leaves its memory, however wrong: every access is checked when it happens. */
static void interpret(Ctx *c, void *text) {
    Program *p = loop_parse(c, text, strlen(text));
    float x[4] = {0, 1, 2, 3}, y[4];
    void *out[] = {y};
    loop_interpret(c, p, &(LoopArgs){(const void *[]){x}, out, (int64_t[]){4, -1}});
}

static void accesses_are_checked(void **state) {
    (void)state;
    static const Bad bad[] = {
        {"nest n\n  for i in 5\n    y[i] = 1.0\n", "nest n: store to y[i] is outside the buffer: i=4"},
        {"nest n\n  for i in N\n    y[i] = x[i-1]\n", "load from x[i-1] is outside the buffer: i=0"},
        {"nest n\n  y.v4[1] = splat4(0.0)\n", "outside"},
        {"nest n\n  y.v8[0] = (x.v8[0] count 5) count 2\n", "outside"},
        {"nest n\n  reg r: f32[2]\n  for i in 3\n    r[i] = 1.0\n", "store to r[i]"},
        {"nest n\n  local r: f32[2, 2]\n  r[0, 3] = 1.0\n", "store to r[0, 3]"},
        {"nest n\n  y[i64(x[3] * 1e9)] = 1.0\n", "outside"},
        {"nest n\n  h[0] = 1.0\n", "outside"},
        {"let K = 99\n", "outside its range"},
        {"let K = 3\nalloc h\nalloc h\n", "allocated twice"},
        {"let K = 3\nfree h\n", "has no storage"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[600];
        snprintf(
            text, sizeof text,
            "program p\nsym N in 1..9\nsym K in 0..9 data\nin x: f32[4]\nout y: f32[4]\nheap h: f32[K]\n\n%s",
            bad[i].text);
        Ctx *c = gd_open(NULL);
        int status = gd_enter(c, interpret, text);
        if (status != EXIT_INTERNAL)
            fail_msg("%d: %s%s", status, status ? gd_diag(c, 0)->message : "ran: ", bad[i].text);
        if (!strstr(gd_diag(c, 0)->message, bad[i].message))
            fail_msg("%s\n  is not: %s", gd_diag(c, 0)->message, bad[i].message);
        gd_close(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_by_hand),          cmocka_unit_test(clones_are_fresh),
        cmocka_unit_test(vectors_and_counts),      cmocka_unit_test(masked_loads_read_nothing),
        cmocka_unit_test(sizes_that_data_decides), cmocka_unit_test(views_locals_and_functions),
        cmocka_unit_test(every_kind_of_value),     cmocka_unit_test(planned_places),
        cmocka_unit_test(data_sections),           cmocka_unit_test(names_and_order),
        cmocka_unit_test(text_is_linear),          cmocka_unit_test(sums_of_many_terms),
        cmocka_unit_test(the_parser_refuses),      cmocka_unit_test(damaged_texts),
        cmocka_unit_test(the_verifier_refuses),    cmocka_unit_test(accesses_are_checked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
