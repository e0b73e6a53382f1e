/* The LLVM back end against the interpreter's arithmetic, bit for bit, at every -O level: all scalar
   instructions on edge cases, as scalars and as vectors; then whole programs: register tiles, masks, parallel
   loops, dims that are not known, data-dependent sizes, checks. NaNs count as equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include "codegen.h"
#include "passes.h"
#include "randomprogram.h"

static Expr *num(Ctx *c, int64_t v) { return expr_int(c, v); }
static Expr *var(Ctx *c, const Stmt *s) { return expr_var(c, s->var); }
static Buf *array(Program *p, Space space, DType t, const char *name, Expr *n) {
    return buf_new(p, space, t, 1, &n, name);
}
static Expr *load(Ctx *c, Buf *b, int lanes, Expr *at) { return expr_load(c, b, lanes, &at, NULL); }
static void store(Program *p, Block *to, Buf *b, Expr *at, Expr *v) { stmt_store(p, to, b, &at, v, NULL); }

static bool same(DType t, uint64_t a, uint64_t b) {
    return a == b || ((dt_float(t) || dt_small(t)) && isnan(gd_to_double(t, a)) && isnan(gd_to_double(t, b)));
}

static Loaded compile(Program *p, int opt, bool openmp) {
    Loaded l;
    EmitOptions o = {
        .target = target_named(p->c, "native"), .opt = opt, .openmp = openmp, .table = true, .profile = opt == 3};
    backend_named(p->c, "llvm")->load(p, &o, &l);
    return l;
}

/* ---- scalar instructions ---- */

enum { PAIRS = 1024 };

static const double reals[] = {
    0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, 7, -8, 127, 127.9, 128, -128, -128.9, 255, 256, 32767, 65536,
    2147483520.0, 2147483647.0, 2147483648.0, -2147483648.0, -2147483904.0, 4294967295.0, 4294967296.0, 9.2e18,
    9223372036854775807.0, -9.3e18, 1.8e19, 1e30, -1e30, 1e-30, 1e-40, -1e-40, 1e-320, 1e300, -1e300, INFINITY,
    -INFINITY, NAN, 0.1, 16777217.0, 33.3};
static const int64_t wholes[] = {
    0, 1, -1, 2, -2, 3, 4, 7, -7, 8, -8, 15, 31, 32, 63, 64, 100, 127, -127, 128, -128, 255, 256, 32767, -32768,
    65535, INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN, 1234567890123};

static uint64_t scramble(uint64_t i) {
    i = (i + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (i ^ i >> 29) * 0x94d049bb133111ebu ^ i >> 32;
}

/* Element i of argument k: pairs of edge cases, then random bits. */
static uint64_t sample(DType t, int k, int i) {
    uint64_t r = scramble((uint64_t)(i * 3 + k));
    int n = (int)(dt_float(t) || dt_small(t) ? sizeof reals / sizeof *reals : sizeof wholes / sizeof *wholes);
    int which = k == 0 ? i % n : k == 1 ? i / n % n : (int)(r % (uint64_t)n);
    uint64_t bits = dt_float(t) || dt_small(t) ? gd_to_bits(t, reals[which]) : (uint64_t)wholes[which];
    if (i >= PAIRS * 3 / 4) bits = t == F4E2M1 ? r & 15 : r; /* its other bits are 0 */
    unsigned char raw[8] = {0};
    gd_store_bits(t, raw, bits);
    return gd_load_bits(t, raw);
}

static const DType arithmetic[] = {F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL, I4, U4, I2, U2};
enum { NTYPES = sizeof arithmetic / sizeof *arithmetic };

typedef struct Case { ExprKind op; DType arg, res; int n; Buf *in[3], *out; } Case;
typedef struct Cases { Program *p; int lanes; Buf *in[DTYPES][3]; VEC(Case) all; } Cases;

static Buf *input(Cases *k, DType t, int i) {
    if (!k->in[t][i]) k->in[t][i] = array(k->p, SP_IN, t, "x", num(k->p->c, PAIRS));
    return k->in[t][i];
}

static void add_case(Cases *k, ExprKind op, DType arg, DType res, int n) {
    Ctx *c = k->p->c;
    Case one = {op, arg, res, n, {0}, array(k->p, SP_OUT, res, "y", num(c, PAIRS))};
    Stmt *nest = stmt_nest(k->p, &k->p->body, "op");
    Stmt *i = stmt_for(k->p, &nest->body, "i", num(c, PAIRS / k->lanes), true);
    Expr *at = expr_mul(c, var(c, i), num(c, k->lanes)), *args[3];
    for (int a = 0; a < n; a++) {
        DType t = op == E_SELECT && a == 0 ? BOOL : arg;
        one.in[a] = input(k, t, a);
        args[a] = var(c, stmt_let(k->p, &i->body, "v", load(c, one.in[a], k->lanes, at)));
    }
    store(k->p, &i->body, one.out, at, expr_op(c, op, vector(res, k->lanes), n, args));
    vec_push(c, &k->all, one);
}

static bool defined(ExprKind op, DType t) {
    switch (op) {
    case E_FDIV: case E_FMOD: case E_AND: case E_OR: case E_XOR: case E_NOT: case E_SHL: case E_SHR:
        return !dt_float(t);
    case E_SQRT: case E_COPYSIGN: return dt_float(t);
    case E_CAST: case E_BITS: case E_SPLAT: return false;
    default: return true;
    }
}

static void all_cases(Cases *k) {
    static const struct { ExprKind op; int arity; bool is_bool; } rows[] = {
#define SAME false
#define OWN false
#define O(NAME, text, arity, result, form) {E_##NAME, arity, result},
#undef BOOL
#define BOOL true
#include "scalar.def"
#undef O
#undef BOOL
#undef SAME
#undef OWN
    };
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int t = 0; t < NTYPES; t++)
            if (defined(rows[r].op, arithmetic[t]))
                add_case(k, rows[r].op, arithmetic[t], rows[r].is_bool ? gd_dtype_named("bool") : arithmetic[t],
                         rows[r].arity);
    for (int s = 0; s < NTYPES; s++)
        for (int d = 0; d < NTYPES; d++)
            if (s != d) add_case(k, E_CAST, arithmetic[s], arithmetic[d], 1);
    for (int t = 0; t < DTYPES; t++) {
        if (!dt_small((DType)t)) continue;
        add_case(k, E_CAST, F32, (DType)t, 1);
        add_case(k, E_CAST, (DType)t, F32, 1);
        add_case(k, E_EQ, (DType)t, gd_dtype_named("bool"), 2);
    }
    static const DType bits[][2] = {{F32, I32},  {F32, U32},  {I32, F32},     {U32, F32},   {F64, I64},
                                    {U64, F64},  {I8, U8},    {U8, I8},       {F16, U16},   {U16, F16},
                                    {BF16, U16}, {U16, BF16}, {F8E4M3FN, U8}, {U8, F8E5M2}, {U8, I4}};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) add_case(k, E_BITS, bits[i][0], bits[i][1], 1);
}

static void *data_of(Ctx *c, DType t, int k) {
    char *p = gd_alloc_aligned(c, PAIRS * 8);
    for (int i = 0; i < PAIRS; i++) gd_store_bits(t, p + (size_t)i * (size_t)gd_dtypes[t].bytes, sample(t, k, i));
    return p;
}

static void check_case(const Case *k, const void *const *ins, void *const *outs, int opt, int lanes) {
    for (int i = 0; i < PAIRS; i++) {
        uint64_t a[3] = {0};
        for (int j = 0; j < k->n; j++)
            a[j] = gd_load_bits(k->in[j]->dt, (const char *)ins[k->in[j]->port] +
                                                  (size_t)i * (size_t)gd_dtypes[k->in[j]->dt].bytes);
        uint64_t want = gd_eval(k->op, k->arg, k->res, a);
        uint64_t got =
            gd_load_bits(k->res, (char *)outs[k->out->port] + (size_t)i * (size_t)gd_dtypes[k->res].bytes);
        if (!same(k->res, want, got))
            fail_msg("-O%d v%d op %d %s -> %s (%llx, %llx, %llx): %llx, not %llx", opt, lanes, k->op - E_ADD,
                     gd_dtypes[k->arg].name, gd_dtypes[k->res].name, (unsigned long long)a[0],
                     (unsigned long long)a[1], (unsigned long long)a[2], (unsigned long long)got,
                     (unsigned long long)want);
    }
}

typedef struct Level { int opt, lanes; } Level;

static void scalar_level(Ctx *c, void *arg) {
    const Level *l = arg;
    Cases k = {.p = program_new(c, "ops"), .lanes = l->lanes};
    all_cases(&k);
    Loaded code = compile(k.p, l->opt, false);
    const void **ins = gd_new_array(c, const void *, code.program->nin);
    void **outs = gd_new_array(c, void *, code.program->nout);
    for (int t = 0; t < DTYPES; t++)
        for (int i = 0; i < 3; i++)
            if (k.in[t][i]) ins[k.in[t][i]->port] = data_of(c, (DType)t, i);
    for (int i = 0; i < code.program->nout; i++) outs[i] = gd_alloc_aligned(c, PAIRS * 8);
    assert_int_equal(code.program->run(ins, outs, NULL, NULL, 0), 0);
    for (int i = 0; i < k.all.n; i++) check_case(&k.all.v[i], ins, outs, l->opt, l->lanes);
}

static void within(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, body, arg);
    if (status) fail_msg("status %d: %s", status, gd_error_count(c) ? gd_diag(c, 0)->message : "");
    gd_close(c);
}

static void scalar_instructions(void **state) {
    (void)state;
    static const int lanes[] = {1, 4, 16};
    for (int opt = 0; opt <= 3; opt++)
        for (int i = 0; i < 3; i++) within(scalar_level, &(Level){opt, lanes[i]});
}

/* ---- whole programs ---- */

enum { MAX_PORTS = 8, MAX_SYMS = 4, MAX_OUT = 1 << 16 };
typedef struct Call { const void *in[MAX_PORTS]; void *out[MAX_PORTS]; int64_t sym[MAX_SYMS]; int status; } Call;

static Var *symbol(Program *p, const char *name, int64_t lo, int64_t hi) {
    Var *v = var_new(p->c, V_SYM, scalar(I64), name, lo, hi);
    vec_push(p->c, &p->syms, v);
    return v;
}

static void random_inputs(Program *p, Call *k) {
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        if (b->space != SP_IN || k->in[b->port]) continue;
        char *data = gd_alloc_aligned(p->c, MAX_OUT);
        size_t size = (size_t)gd_dtypes[b->dt].bytes;
        for (size_t j = 0; j < MAX_OUT / size; j++) {
            double r = (double)(int64_t)(scramble(j * 7 + (uint64_t)i) % 2001) / 1000 - 1;
            gd_store_bits(b->dt, data + j * size, dt_float(b->dt) ? gd_to_bits(b->dt, r) : scramble(j + 99));
        }
        k->in[b->port] = data;
    }
}

/* Places for outputs that have one; those with an ALLOC are left to the program. */
static bool allocates(void *arg, Stmt *s) {
    if (s->kind == S_ALLOC) map_putp(arg, buf_root(s->buf), s);
    return true;
}
static void outputs(Program *p, Call *k) {
    Map *own = map_new(p->c);
    block_walk(&p->body, allocates, own);
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        if (b->space != SP_OUT || map_getp(own, b)) continue;
        k->out[b->port] = gd_alloc_aligned(p->c, MAX_OUT);
        memset(k->out[b->port], 0xee, MAX_OUT);
    }
}

static int64_t elements(Program *p, Buf *b, const Call *k) {
    Map *known = map_new(p->c);
    for (int i = 0; i < p->syms.n; i++) map_putp(known, p->syms.v[i], expr_int(p->c, k->sym[i]));
    int64_t n = -1;
    assert_true(is_int(expr_subst(p->c, buf_size(p->c, b), known), &n));
    return n;
}

static void compare(Program *p, const Call *want, const Call *got, int opt, bool threads) {
    if (want->status != got->status)
        fail_msg("-O%d threads %d: status %d, not %d", opt, threads, got->status, want->status);
    if (want->status) return;
    for (int i = 0; i < p->syms.n; i++) assert_int_equal(want->sym[i], got->sym[i]);
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        if (b->space != SP_OUT) continue;
        size_t size = (size_t)gd_dtypes[b->dt].bytes;
        for (int64_t j = 0, n = elements(p, b, want); j < n; j++) {
            uint64_t w = gd_load_bits(b->dt, (char *)want->out[b->port] + (size_t)j * size);
            uint64_t g = gd_load_bits(b->dt, (char *)got->out[b->port] + (size_t)j * size);
            if (!same(b->dt, w, g))
                fail_msg("-O%d threads %d: %s[%lld] is %llx, not %llx", opt, threads, b->name, (long long)j,
                         (unsigned long long)g, (unsigned long long)w);
        }
    }
}

/* The program by the interpreter and by every level of the back end, for each of n calls. */
static void check_calls(Program *p, Call *k, int n) {
    Ctx *c = p->c;
    Call *want = gd_new_array(c, Call, n);
    for (int i = 0; i < n; i++) {
        random_inputs(p, &k[i]);
        want[i] = k[i];
        outputs(p, &want[i]);
        LoopArgs args = {want[i].in, want[i].out, want[i].sym};
        want[i].status = loop_interpret(c, p, &args);
    }
    for (int opt = 0; opt <= 3; opt++)
        for (int threads = 0; threads <= (opt == 2); threads++) {
            Loaded code = compile(p, opt, threads);
            for (int i = 0; i < n; i++) {
                Call got = k[i];
                outputs(p, &got);
                size_t bytes = code.program->arena_bytes(got.sym) + (p->grows ? MAX_OUT : 0);
                got.status = code.program->run(got.in, got.out, got.sym, gd_alloc_aligned(c, bytes + 64), bytes);
                compare(p, &want[i], &got, opt, threads);
            }
        }
}
static void check_program(Program *p, Call *k) { check_calls(p, k, 1); }

static Expr *index2(Ctx *c, Expr *i, int64_t ni, Expr *j) { return expr_add(c, expr_mul(c, i, num(c, ni)), j); }

/* 12 x 64 = (12 x 37) (37 x 64): 6 x 4 vectors in registers, relu, rows on threads. */
static Program *tile(Ctx *c) {
    enum { M = 12, N = 64, K = 37, ROWS = 6, VECS = 4, V = 16 };
    Program *p = program_new(c, "tile");
    Buf *a = array(p, SP_IN, F32, "a", num(c, M * K)), *w = array(p, SP_CONST, F32, "w", num(c, K * N));
    Buf *y = array(p, SP_OUT, F32, "y", num(c, M * N)), *acc;
    float *data = gd_alloc_aligned(c, K * N * sizeof(float));
    for (int i = 0; i < K * N; i++) data[i] = (float)(i % 19) / 19 - 0.5f;
    w->data = data;
    Stmt *nest = stmt_nest(p, &p->body, "matmul"), *t = stmt_for(p, &nest->body, "t", num(c, M / ROWS), true);
    t->mode = L_PARALLEL;
    acc = buf_new(p, SP_REG, F32, 2, (Expr *[]){num(c, ROWS), num(c, VECS)}, "acc");
    acc->lanes = V;
    stmt_decl(p, &t->body, acc);
    Expr *zero = expr_const(c, vector(F32, V), 0), *row = expr_mul(c, var(c, t), num(c, ROWS));
    for (int i = 0; i < ROWS * VECS; i++)
        stmt_store(p, &t->body, acc, (Expr *[]){num(c, i / VECS), num(c, i % VECS)}, zero, NULL);
    Stmt *k = stmt_for(p, &t->body, "k", num(c, K), false);
    Expr *b[VECS];
    for (int j = 0; j < VECS; j++)
        b[j] = var(c, stmt_let(p, &k->body, "b", load(c, w, V, index2(c, var(c, k), N, num(c, j * V)))));
    for (int i = 0; i < ROWS; i++) {
        Expr *x = load(c, a, 1, index2(c, expr_add(c, row, num(c, i)), K, var(c, k)));
        x = var(c, stmt_let(p, &k->body, "x", expr_splat(c, x, V)));
        for (int j = 0; j < VECS; j++) {
            Expr *at[] = {num(c, i), num(c, j)};
            stmt_store(p, &k->body, acc, at, expr3(c, E_FMA, x, b[j], expr_load(c, acc, V, at, NULL)), NULL);
        }
    }
    for (int i = 0; i < ROWS * VECS; i++) {
        Expr *at[] = {num(c, i / VECS), num(c, i % VECS)};
        Expr *v = var(c, stmt_let(p, &t->body, "v", expr_load(c, acc, V, at, NULL)));
        Expr *to = index2(c, expr_add(c, row, num(c, i / VECS)), N, num(c, i % VECS * V));
        store(p, &t->body, y, to,
              i % 2 ? expr2(c, E_MAX, v, zero) : expr_select(c, expr2(c, E_LT, v, zero), zero, v));
    }
    return p;
}
static void tile_runs(Ctx *c, void *arg) {
    (void)arg;
    check_program(tile(c), &(Call){0});
}

/* y = x * 2.1 + z over n elements by vectors, the last one under a count; a*b+c must not become one fma. */
static void tails(Ctx *c, void *arg) {
    (void)arg;
    static const struct {
        DType t;
        int lanes;
    } kinds[] = {{F32, 16}, {F32, 8}, {F64, 8}, {I8, 16}, {I64, 4}, {BOOL, 16}, {U4, 8}};
    enum { SIZES = 40 };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        DType t = kinds[i].t;
        int lanes = kinds[i].lanes;
        Program *p = program_new(c, "tail");
        Var *n = symbol(p, "n", 0, 1000);
        Buf *x = array(p, SP_IN, t, "x", expr_var(c, n)), *z = array(p, SP_IN, t, "z", expr_var(c, n));
        Buf *y = array(p, SP_OUT, t, "y", expr_var(c, n));
        Stmt *nest = stmt_nest(p, &p->body, "axpy");
        Expr *count = expr_var(c, n), *step = num(c, lanes);
        Stmt *loop = stmt_for(p, &nest->body, "v", expr_fdiv(c, expr_add(c, count, num(c, lanes - 1)), step), true);
        loop->mode = L_PARALLEL;
        Expr *at = expr_mul(c, var(c, loop), step), *left = expr_sub(c, count, at);
        Expr *a = expr_load(c, x, lanes, &at, left), *b = expr_load(c, z, lanes, &at, left);
        Expr *k = expr_const(c, vector(t, lanes), gd_to_bits(t, 2.1));
        stmt_store(p, &loop->body, y, &at, expr_add(c, expr_mul(c, a, k), b), left);
        Call *calls = gd_new_array(c, Call, SIZES);
        for (int s = 0; s < SIZES; s++) calls[s].sym[0] = s;
        check_calls(p, calls, SIZES);
    }
}

/* A 1-D convolution with padding: loads outside give 0 and are not made; every third element is written. */
static void padding(Ctx *c, void *arg) {
    (void)arg;
    Program *p = program_new(c, "pad");
    Var *n = symbol(p, "n", 1, 1000);
    Buf *x = array(p, SP_IN, F32, "x", expr_var(c, n)), *y = array(p, SP_OUT, F32, "y", expr_var(c, n));
    Buf *sum = buf_new(p, SP_REG, F32, 0, NULL, "sum");
    Stmt *nest = stmt_nest(p, &p->body, "conv"), *i = stmt_for(p, &nest->body, "i", expr_var(c, n), true);
    stmt_decl(p, &i->body, sum);
    stmt_store(p, &i->body, sum, NULL, expr_num(c, F32, 0.25), NULL);
    Stmt *k = stmt_for(p, &i->body, "k", num(c, 5), false);
    Expr *at = expr_sub(c, expr_add(c, var(c, i), var(c, k)), num(c, 2));
    Expr *inside = expr_and(c, expr2(c, E_LE, num(c, 0), at), expr2(c, E_LT, at, expr_var(c, n)));
    Expr *weight = expr_cast(c, expr_add(c, var(c, k), num(c, 1)), F32);
    stmt_store(p, &k->body, sum, NULL,
               expr3(c, E_FMA, expr_load(c, x, 1, &at, inside), weight, expr_load(c, sum, 1, NULL, NULL)), NULL);
    Expr *out = var(c, i), *third = expr2(c, E_EQ, expr_fmod(c, var(c, i), num(c, 3)), num(c, 0));
    stmt_store(p, &i->body, y, &out, expr_load(c, sum, 1, NULL, NULL), NULL);
    stmt_store(p, &i->body, y, &out, expr_num(c, F32, 7), third);
    check_program(p, &(Call){.sym = {11}});
}

/* Collatz steps: while, if, lets, a local table indexed by data, division of i64. */
static void control(Ctx *c, void *arg) {
    (void)arg;
    Program *p = program_new(c, "control");
    Buf *y = array(p, SP_OUT, I64, "y", num(c, 64)),
        *state = buf_new(p, SP_LOCAL, I64, 1, (Expr *[]){num(c, 2)}, "state");
    Stmt *nest = stmt_nest(p, &p->body, "collatz"), *i = stmt_for(p, &nest->body, "i", num(c, 64), true);
    Expr *zero = num(c, 0), *one = num(c, 1);
    stmt_decl(p, &i->body, state);
    store(p, &i->body, state, zero, expr_add(c, var(c, i), one));
    store(p, &i->body, state, one, zero);
    Stmt *loop = stmt_new(p, &i->body, S_WHILE);
    loop->e = expr2(c, E_LT, one, load(c, state, 1, zero));
    Expr *v = var(c, stmt_let(p, &loop->body, "v", load(c, state, 1, zero)));
    Stmt *odd = stmt_if(p, &loop->body, expr2(c, E_EQ, expr_fmod(c, v, num(c, 2)), one));
    store(p, &odd->body, state, zero, expr_add(c, expr_mul(c, v, num(c, 3)), one));
    store(p, &odd->other, state, zero, expr2(c, E_DIV, v, num(c, 2)));
    store(p, &loop->body, state, one, expr_add(c, load(c, state, 1, one), one));
    store(p, &i->body, y, var(c, i), load(c, state, 1, one));
    check_program(p, &(Call){0});
}

/* Where x > 0: the data decides how many; the output takes its place in the heap. A loop then squares a
   buffer twice, moving the new one into the place of the old. */
static void data_sizes(Ctx *c, void *arg) {
    (void)arg;
    enum { N = 50 };
    Program *p = program_new(c, "nonzero");
    p->grows = true;
    p->arena = num(c, 64);
    Var *m = symbol(p, "m", 0, INT64_MAX);
    m->data = true;
    Buf *x = array(p, SP_IN, F32, "x", num(c, N)), *y = array(p, SP_OUT, I64, "y", expr_var(c, m));
    Buf *n = array(p, SP_ARENA, I64, "n", num(c, 1)), *s = array(p, SP_HEAP, I64, "s", expr_var(c, m));
    Buf *next = array(p, SP_HEAP, I64, "next", expr_var(c, m));
    n->offset = num(c, 0);
    Expr *zero = num(c, 0);
    Stmt *count = stmt_nest(p, &p->body, "count");
    store(p, &count->body, n, zero, zero);
    Stmt *i = stmt_for(p, &count->body, "i", num(c, N), false);
    Expr *positive = expr2(c, E_LT, expr_num(c, F32, 0), load(c, x, 1, var(c, i)));
    store(p, &i->body, n, zero, expr_add(c, load(c, n, 1, zero), expr_cast(c, positive, I64)));
    Stmt *let = stmt_new(p, &p->body, S_LET);
    let->var = m;
    let->e = load(c, n, 1, zero);
    stmt_new(p, &p->body, S_ALLOC)->buf = s;
    Stmt *fill = stmt_nest(p, &p->body, "fill");
    store(p, &fill->body, n, zero, zero);
    Stmt *j = stmt_for(p, &fill->body, "j", num(c, N), false);
    Stmt *found = stmt_if(p, &j->body, expr2(c, E_LT, expr_num(c, F32, 0), load(c, x, 1, var(c, j))));
    Expr *at = var(c, stmt_let(p, &found->body, "at", load(c, n, 1, zero)));
    store(p, &found->body, s, at, var(c, j));
    store(p, &found->body, n, zero, expr_add(c, at, num(c, 1)));
    Stmt *twice = stmt_for(p, &p->body, "twice", num(c, 2), false);
    stmt_new(p, &twice->body, S_ALLOC)->buf = next;
    Stmt *square = stmt_nest(p, &twice->body, "square"), *q = stmt_for(p, &square->body, "q", expr_var(c, m), true);
    Expr *v = var(c, stmt_let(p, &q->body, "v", load(c, s, 1, var(c, q))));
    store(p, &q->body, next, var(c, q), expr_mul(c, v, v));
    stmt_new(p, &twice->body, S_FREE)->buf = s;
    Stmt *move = stmt_new(p, &twice->body, S_MOVE);
    move->buf = s;
    move->from = next;
    stmt_new(p, &p->body, S_ALLOC)->buf = y;
    Stmt *copy = stmt_nest(p, &p->body, "copy"), *r = stmt_for(p, &copy->body, "r", expr_var(c, m), true);
    store(p, &r->body, y, var(c, r), load(c, s, 1, var(c, r)));
    stmt_new(p, &p->body, S_FREE)->buf = s;
    check_program(p, &(Call){.sym = {-1}});
}

/* Indices from data are checked inside a parallel loop: the first bad one decides the status, whatever the
   threads. */
static void checks(Ctx *c, void *arg) {
    (void)arg;
    enum { N = 40 };
    Program *p = program_new(c, "gather");
    Buf *at = array(p, SP_IN, I64, "at", num(c, N)), *x = array(p, SP_IN, F32, "x", num(c, 10)),
        *y = array(p, SP_OUT, F32, "y", num(c, N));
    Stmt *nest = stmt_nest(p, &p->body, "gather"), *i = stmt_for(p, &nest->body, "i", num(c, N), true);
    i->mode = L_PARALLEL;
    Expr *k = var(c, stmt_let(p, &i->body, "k", load(c, at, 1, var(c, i))));
    Stmt *low = stmt_new(p, &i->body, S_CHECK), *high = stmt_new(p, &i->body, S_CHECK);
    low->e = expr2(c, E_LE, num(c, 0), k);
    low->status = 17;
    high->e = expr2(c, E_LT, k, num(c, 10));
    high->status = 18;
    store(p, &i->body, y, var(c, i), load(c, x, 1, k));
    Call *calls = gd_new_array(c, Call, 5);
    for (int bad = 0; bad < 5; bad++) {
        int64_t *index = gd_new_array(c, int64_t, N);
        for (int j = 0; j < N; j++) index[j] = j * 7 % 10;
        if (bad) index[N - bad * 9] = 10;
        if (bad > 1) index[N - bad * 9 + 9] = -1;
        calls[bad].in[0] = index;
    }
    check_calls(p, calls, 5);
}

/* Rows of softmax without exp: maximum over 16 lanes and a tree, differences, in place over the arena's t;
   views with strides, a register array indexed by a variable, an unrolled loop, nests over several places
   that overlap. */
static void rows(Ctx *c, void *arg) {
    (void)arg;
    enum { R = 5, L = 32 };
    Program *p = program_new(c, "rows");
    Buf *x = array(p, SP_IN, F32, "x", num(c, R * L)), *y = array(p, SP_OUT, F32, "y", num(c, R * L));
    Buf *t = array(p, SP_ARENA, F32, "t", num(c, R * L)), *u = array(p, SP_ARENA, F32, "u", num(c, R * L));
    t->offset = u->offset = num(c, 0);
    p->arena = num(c, R * L * 4);
    Stmt *first = stmt_nest(p, &p->body, "first"), *i = stmt_for(p, &first->body, "i", num(c, R * L), true);
    store(p, &i->body, t, var(c, i), expr_mul(c, load(c, x, 1, var(c, i)), expr_num(c, F32, 3)));
    Stmt *nest = stmt_nest(p, &p->body, "rows"), *r = stmt_for(p, &nest->body, "r", num(c, R), true);
    Buf *acc = buf_new(p, SP_REG, F32, 1, (Expr *[]){num(c, 16)}, "acc");
    stmt_decl(p, &r->body, acc);
    Expr *row = expr_mul(c, var(c, r), num(c, L)), *zero = num(c, 0);
    stmt_store(p, &r->body, acc, &zero, load(c, t, 16, row), NULL);
    stmt_store(p, &r->body, acc, &zero,
               expr2(c, E_MAX, expr_load(c, acc, 16, &zero, NULL), load(c, t, 16, expr_add(c, row, num(c, 16)))),
               NULL);
    for (int half = 8; half; half /= 2) {
        Stmt *tree = stmt_for(p, &r->body, "lane", num(c, half), true);
        tree->mode = half == 4 ? L_UNROLL : L_SERIAL;
        Expr *a = var(c, tree), *b = expr_add(c, a, num(c, half));
        store(p, &tree->body, acc, a, expr2(c, E_MAX, load(c, acc, 1, a), load(c, acc, 1, b)));
    }
    Expr *top = var(c, stmt_let(p, &r->body, "top", load(c, acc, 1, zero)));
    Stmt *j = stmt_for(p, &r->body, "j", num(c, L), true);
    Expr *at = expr_add(c, row, var(c, j));
    store(p, &j->body, u, at, expr_sub(c, load(c, t, 1, at), top)); /* in place */
    Stmt *last = stmt_nest(p, &p->body, "last"), *a = stmt_for(p, &last->body, "a", num(c, L), true);
    Stmt *b = stmt_for(p, &a->body, "b", num(c, R), true);
    Buf *across = buf_view(p, u, num(c, 0), 2, (Expr *[]){num(c, L), num(c, R)}, (Expr *[]){num(c, 1), num(c, L)});
    Expr *turned = expr_load(c, across, 1, (Expr *[]){var(c, a), var(c, b)}, NULL);
    store(p, &b->body, y, index2(c, var(c, a), R, var(c, b)), turned);
    check_program(p, &(Call){0});
}

/* ---- the table ---- */

/* y[n, 2n] = x[n] summed with itself, by way of an arena of n * n * n * 4 bytes; q is what only the data decides. */
static void table(Ctx *c, void *arg) {
    (void)arg;
    Program *p = program_new(c, "cube");
    Var *n = symbol(p, "n", 2, INT64_MAX), *q = symbol(p, "q", 0, 10);
    q->data = true;
    Expr *size = expr_var(c, n), *dims[] = {size, expr_mul(c, size, num(c, 2)), expr_var(c, q)};
    Buf *x = array(p, SP_IN, F32, "x", size), *y = buf_new(p, SP_OUT, F32, 3, dims, "y");
    p->arena = expr_mul(c, expr_mul(c, size, size), expr_mul(c, size, num(c, 4)));
    Stmt *let = stmt_new(p, &p->body, S_LET), *nest = stmt_nest(p, &p->body, "sum");
    let->var = q;
    let->e = num(c, 1);
    Stmt *i = stmt_for(p, &nest->body, "i", size, true), *j = stmt_for(p, &i->body, "j", dims[1], true);
    Expr *at[] = {var(c, i), var(c, j), num(c, 0)};
    stmt_store(p, &j->body, y, at, expr_add(c, load(c, x, 1, var(c, i)), load(c, x, 1, var(c, i))), NULL);
    Loaded code = compile(p, 3, false);
    const GradcProgram *t = code.program;
    assert_string_equal(t->name, "cube");
    assert_int_equal(t->nsyms, 2);
    assert_int_equal(t->sym_lo[0], 2);
    assert_int_equal(t->sym_hi[1], 10);
    assert_string_equal(t->in[0].name, "x");
    assert_int_equal(t->in[0].dims[0], -1);
    assert_int_equal(t->out[0].dtype, GRADC_F32);
    assert_true(t->out[0].dims[1] == GRADC_DIM_COMPUTED && t->out[0].dims[2] == -2);
    int64_t syms[] = {3, -1}, out[3];
    t->out_dims(syms, out);
    assert_true(out[0] == 3 && out[1] == 6 && out[2] == -1);
    assert_int_equal(t->arena_bytes(syms), 108);
    syms[0] = 3000000;
    assert_true(t->arena_bytes(syms) == SIZE_MAX);
    assert_string_equal(t->status_text(GRADC_RUN_ARENA), "the arena is too small");
    assert_string_equal(t->status_text(99), "a check of the model failed");
    const float in[] = {1, 2, 3};
    float sums[18];
    char memory[108];
    const void *ins[] = {in};
    void *outs[] = {sums};
    syms[0] = 1;
    assert_int_equal(t->run(ins, outs, syms, memory, sizeof memory), GRADC_RUN_SHAPE);
    syms[0] = 3;
    assert_int_equal(t->run(ins, outs, syms, memory, sizeof memory - 1), GRADC_RUN_ARENA);
    assert_int_equal(t->run(ins, outs, syms, memory, sizeof memory), GRADC_RUN_OK);
    assert_true(syms[1] == 1 && sums[0] == 2 && sums[17] == 6);
    uint64_t calls, ns;
    assert_int_equal(code.profile(0, &calls, &ns), 0);
    assert_int_equal(calls, 1);
    assert_int_equal(code.profile(1, &calls, &ns), -1);
    assert_int_equal(code.profile(-1, &calls, &ns), -1);
}

static void the_table(void **state) {
    (void)state;
    within(table, NULL);
}

/* ---- random programs through the loop passes ---- */

static void random_one(Ctx *c, void *arg) {
    const int *seed = arg;
    enum { POSITIONS = 8, SIZES = 3 };
    Program *p = random_program(c, (uint64_t)*seed);
    PassOptions o = {
        .opt = *seed % 3,
        .machine = {.lanes = 1 << (2 + *seed % 3), .registers = 32, .fma = true, .l1 = 32768, .l2 = 1 << 20}};
    passes_resume(p, &o);
    int64_t positions[POSITIONS];
    for (int i = 0; i < POSITIONS; i++) positions[i] = (int64_t)(scramble((uint64_t)(*seed * POSITIONS + i)) % 24);
    Call calls[SIZES];
    memset(calls, 0, sizeof calls);
    for (int i = 0; i < SIZES; i++) {
        calls[i].in[2] = positions;
        calls[i].sym[0] = 1 + 4 * i;
    }
    check_calls(p, calls, SIZES);
}

static void random_programs(void **state) {
    (void)state;
    for (int seed = 1; seed <= 40; seed++) within(random_one, &seed);
}

/* ---- files ---- */

static void tool(Ctx *c, const char *const *argv) {
    Text *err = text_new(c);
    int status = tool_run(c, argv, err);
    if (status) fail_msg("%s ended with %d: %s", argv[0], status, err->s);
}

typedef int Run(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t arena_bytes);

/* The library's answer to a call is the interpreter's. */
static void check_library(Program *p, const char *path, const void *weights) {
    Ctx *c = p->c;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail_msg("%s", dlerror());
    Run *run = (Run *)dlsym(library, gd_format(c, "%s_run_raw", p->name));
    Call want = {0}, got;
    random_inputs(p, &want);
    got = want;
    outputs(p, &want);
    outputs(p, &got);
    got.in[1] = weights;
    LoopArgs args = {want.in, want.out, want.sym};
    want.status = loop_interpret(c, p, &args);
    got.status = run(got.in, got.out, got.sym, NULL, 0);
    compare(p, &want, &got, 2, true);
    dlclose(library);
}

static const char *emit(Program *p, Emit kind, const char *name, Weights weights, bool program) {
    const char *path = gd_format(p->c, "%s/%s", tool_temp_dir(p->c), name);
    EmitOptions o = {.target = target_named(p->c, "native"),
                     .opt = 2,
                     .weights = weights,
                     .table = program,
                     .main = kind == EMIT_EXE};
    backend_named(p->c, "llvm")->write(p, &o, kind, path);
    return path;
}

static void library_of(Program *p, const char *from, const void *weights) {
    const char *so = gd_format(p->c, "%s/linked.so", tool_temp_dir(p->c));
    tool(p->c, (const char *[]){"cc", "-shared", from, "-o", so, NULL});
    check_library(p, so, weights);
}

static void files(Ctx *c, void *arg) {
    (void)arg;
    Program *p = tile(c);
    check_library(p, emit(p, EMIT_SO, "tile.so", WEIGHTS_EMBED, true), NULL);
    library_of(p, emit(p, EMIT_OBJ, "tile.o", WEIGHTS_OBJECT, true), NULL);
    library_of(p, emit(p, EMIT_ASM, "tile.s", WEIGHTS_EMBED, false), NULL);
    size_t n, bytes;
    const char *object = emit(p, EMIT_OBJ, "tile.o", WEIGHTS_FILE, false), *slash = strrchr(object, '/');
    const char *weights = gd_format(c, "%.*s/tile.weights", (int)(slash - object), object);
    char *blob = gd_read_file(c, weights, SIZE_MAX, &bytes), *aligned = gd_alloc_aligned(c, bytes);
    memcpy(aligned, blob, bytes);
    library_of(p, object, aligned);
    const char *exe = emit(p, EMIT_EXE, "tile", WEIGHTS_EMBED, true);
    tool(c, (const char *[]){exe, "--help", NULL});
    tool(c, (const char *[]){exe, "a=rand", NULL});
    assert_non_null(strstr(gd_read_file(c, emit(p, EMIT_LL, "tile.ll", WEIGHTS_EMBED, true), SIZE_MAX, &n),
                           "define i32 @tile_run_raw"));
    assert_memory_equal(gd_read_file(c, emit(p, EMIT_BC, "tile.bc", WEIGHTS_EMBED, true), SIZE_MAX, &n),
                        "BC\xc0\xde", 4);
}

static void emitted_files(void **state) {
    (void)state;
    within(files, NULL);
}

/* The same program twice: the same bytes. */
static void twice(Ctx *c, void *arg) {
    (void)arg;
    size_t n[2];
    char *s[2];
    for (int i = 0; i < 2; i++)
        s[i] = gd_read_file(c, emit(tile(c), EMIT_SO, "tile.so", WEIGHTS_EMBED, true), SIZE_MAX, &n[i]);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(s[0], s[1], n[0]);
}

/* What the tile became: 24 fused multiply-adds on vectors, and nothing of the inner loop goes through the
   stack. */
static void machine_code(Ctx *c, void *arg) {
    (void)arg;
    const Target *t = target_named(c, "x86-64-v4");
    const char *path = gd_format(c, "%s/tile.s", tool_temp_dir(c));
    EmitOptions o = {.target = t, .opt = 2, .table = true};
    backend_named(c, "llvm")->write(tile(c), &o, EMIT_ASM, path);
    size_t n;
    char *s = gd_read_file(c, path, SIZE_MAX, &n), *first = strstr(s, "vfmadd"), *last = first;
    int count = 0;
    for (char *q = first; q; q = strstr(q + 1, "vfmadd")) {
        last = q;
        count++;
    }
    assert_int_equal(count, 24);
    *strchr(last, '\n') = 0;
    assert_null(strstr(first, "(%rsp)"));
    assert_non_null(strstr(first, "%zmm"));
}

static void output_is_determined(void **state) {
    (void)state;
    within(twice, NULL);
    within(machine_code, NULL);
}

static void programs(void **state) {
    (void)state;
    within(tile_runs, NULL);
    within(padding, NULL);
    within(control, NULL);
    within(data_sizes, NULL);
    within(rows, NULL);
    within(tails, NULL);
    within(checks, NULL);
}

int main(void) {
    setenv("OMP_WAIT_POLICY", "passive", 0); /* a busy machine would make threads wait for each other for long */
    const struct CMUnitTest tests[] = {cmocka_unit_test(scalar_instructions), cmocka_unit_test(programs),
                                       cmocka_unit_test(the_table), cmocka_unit_test(random_programs), cmocka_unit_test(emitted_files),
                                       cmocka_unit_test(output_is_determined)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
