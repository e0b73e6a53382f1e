/* The C back end against the interpreter, bit for bit: all scalar instructions on edge cases, as scalars and
   as vectors; then whole programs. Each program becomes one source that is compiled by gcc and clang, at
   several -O, for the machine at hand and for the oldest of its kind, with GCC's default of contracting a * b
   + c; once also by its plain C99 part. No compiler may warn. NaNs count as equal. GRADC_TEST_ALL=1 tries
   more combinations. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <unistd.h>
#include "codegen.h"
#include "passes.h"
#include "randomprogram.h"

static const PassOptions usual = {
    .opt = 2, .numerics = NUM_DEFAULT, .threads = 2, .machine = {16, 32, true, 32768, 1 << 20}};

/* ---- compilers ---- */

typedef struct Setting {
    const char *cc, *opt, *std, *extra;
    bool native, thorough;
} Setting;
static const Setting settings[] = {
    {"gcc", "-O3", "-std=gnu99", NULL, true, false},
    {"clang", "-O3", "-std=gnu99", NULL, true, false},
    {"gcc", "-O1", "-std=c99", NULL, false, false},
    {"clang", "-O0", "-std=c99", NULL, false, false},
    {"gcc", "-O0", "-std=c99", NULL, true, true},
    {"gcc", "-O0", "-std=c99", NULL, false, true},
    {"gcc", "-O3", "-std=gnu99", NULL, false, true},
    {"gcc", "-O2", "-std=gnu99", "-march=x86-64-v3", false, true},
    {"gcc", "-O2", "-std=c99", "-DGRADC_PLAIN", true, true},
    {"clang", "-O3", "-std=c99", "-DGRADC_PLAIN", false, true},
    {"clang", "-O1", "-std=gnu99", NULL, true, true},
    {"clang", "-O3", "-std=gnu99", NULL, false, true},
    {"clang", "-O2", "-std=gnu99", "-march=x86-64-v3", false, true},
    {"clang-19", "-O3", "-std=gnu99", NULL, true, true},
    {"clang-19", "-O1", "-std=c99", NULL, false, true},
    {"gcc", "-O3", "-std=gnu99", "-fopenmp", true, true},
    {"clang-19", "-O0", "-std=c99", NULL, true, true},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static bool available(Ctx *c, const char *cc) {
    for (const char *path = getenv("PATH"); path && *path; path += strcspn(path, ":"), path += *path == ':')
        if (!access(gd_format(c, "%.*s/%s", (int)strcspn(path, ":"), path, cc), X_OK)) return true;
    return false;
}

static const char *title(Ctx *c, const Setting *s) {
    return gd_format(c, "%s %s %s %s%s", s->cc, s->opt, s->std, s->extra ? s->extra : "",
                     s->native ? " native" : "");
}

static void unload(void *handle) { dlclose(handle); }

/* NULL when the compiler is not there. */
static const GradcProgram *compile(Program *p, const char *dir, const Setting *s) {
    Ctx *c = p->c;
    if (!available(c, s->cc)) return NULL;
    if (s->thorough && !getenv("GRADC_TEST_ALL")) return NULL;
    const Target *t = target_named(c, "native");
    VEC(const char *) a = {0};
    const char *const first[] = {s->cc,     s->opt,         s->std,      "-Wall",
                                 "-Wextra", "-Wconversion", "-pedantic", "-Werror"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) vec_push(c, &a, first[i]);
    if (s->native) {
        vec_push(c, &a, gd_format(c, "-march=%s", t->cpu));
        for (const char *f = t->features; *f; f += strcspn(f, ","), f += *f == ',')
            vec_push(c, &a, gd_format(c, "-m%.*s", (int)strcspn(f, ",") - 1, f + 1));
    }
    if (s->extra) vec_push(c, &a, s->extra);
    static int count;
    char *library = gd_format(c, "%s/test%d.so", dir, count++);
    const char *const rest[] = {"-fPIC", "-shared", gd_format(c, "%s/%s.c", dir, p->name), "-o", library,
                                "-lm",   NULL};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) vec_push(c, &a, rest[i]);
    Text *err = text_new(c);
    if (tool_run(c, a.v, err)) fail_msg("%s: %.3000s", title(c, s), err->s);
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) fail_msg("%s", dlerror());
    gd_defer(c, unload, handle);
    return dlsym(handle, gd_format(c, "%s_program", p->name));
}

static const char *write_source(Program *p, const char *keep) {
    const char *dir = tool_temp_dir(p->c);
    EmitOptions o = {
        .target = target_named(p->c, "native"), .openmp = true, .table = true, .weights = WEIGHTS_EMBED};
    backend_c.write(p, &o, EMIT_C, dir);
    const char *to = getenv("GRADC_TEST_KEEP");
    if (to && keep) backend_c.write(p, &o, EMIT_C, to);
    return dir;
}

static void within(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, body, arg);
    if (status) fail_msg("status %d: %s", status, gd_error_count(c) ? gd_diag(c, 0)->message : "");
    gd_close(c);
}

static bool same(DType t, uint64_t a, uint64_t b) {
    return a == b || ((dt_float(t) || dt_small(t)) && isnan(gd_to_double(t, a)) && isnan(gd_to_double(t, b)));
}

static Expr *num(Ctx *c, int64_t v) { return expr_int(c, v); }
static Expr *var(Ctx *c, const Stmt *s) { return expr_var(c, s->var); }
static Buf *array(Program *p, Space space, DType t, const char *name, Expr *n) {
    return buf_new(p, space, t, 1, &n, name);
}
static Expr *load(Ctx *c, Buf *b, int lanes, Expr *at) { return expr_load(c, b, lanes, &at, NULL); }
static void store(Program *p, Block *to, Buf *b, Expr *at, Expr *v) { stmt_store(p, to, b, &at, v, NULL); }

/* ---- scalar instructions ---- */

enum { SAMPLES = 1200 };

static const double reals[] = {0,
                               -0.0,
                               1,
                               -1,
                               0.5,
                               -0.5,
                               1.5,
                               2.5,
                               -2.5,
                               3,
                               7,
                               -8,
                               127.9,
                               128,
                               -128.9,
                               255.5,
                               256,
                               448,
                               464,
                               57344,
                               65504,
                               65520,
                               65535.5,
                               8388607.5,
                               -8388607.5,
                               2147483520.0,
                               2147483648.0,
                               -2147483649.0,
                               4294967295.0,
                               4294967296.0,
                               9223372036854774784.0,
                               9223372036854775808.0,
                               -9.3e18,
                               1.8446744073709552e19,
                               1e30,
                               -1e38,
                               3.4e38,
                               1e-30,
                               1e-40,
                               -1e-45,
                               5.9e-8,
                               2e-8,
                               1e-320,
                               1e300,
                               -1e300,
                               INFINITY,
                               -INFINITY,
                               NAN,
                               0.1,
                               16777217.0,
                               33.3,
                               6,
                               5,
                               0.25};
static const int64_t wholes[] = {
    0,      1,     -1,        2,         -2,         3,         4,         7,
    -7,     8,     -8,        15,        31,         32,        63,        64,
    100,    127,   -127,      128,       -128,       255,       256,       32767,
    -32768, 65535, INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN, 1234567890123};

static uint64_t scramble(uint64_t i) {
    i = (i + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (i ^ i >> 29) * 0x94d049bb133111ebu ^ i >> 32;
}

/* Element i of argument k: pairs of edge cases, then random bits. */
static uint64_t sample(DType t, int k, int i) {
    bool real = dt_float(t) || dt_small(t);
    uint64_t r = scramble((uint64_t)(i * 3 + k));
    int n = (int)(real ? sizeof reals / sizeof *reals : sizeof wholes / sizeof *wholes);
    int which = k == 0 ? i % n : k == 1 ? (i / n + i) % n : (int)(r % (uint64_t)n);
    uint64_t bits = real ? gd_to_bits(t, reals[which]) : (uint64_t)wholes[which];
    if (i >= SAMPLES * 3 / 4) bits = t == F4E2M1 ? r & 15 : r;
    unsigned char raw[8] = {0};
    gd_store_bits(t, raw, bits);
    return gd_load_bits(t, raw);
}

typedef struct Case {
    ExprKind op;
    DType arg, res;
    int n, constant;
    Buf *in[3], *out;
} Case;
typedef struct Cases {
    Program *p;
    int lanes;
    Buf *in[DTYPES][3];
    Stmt *loop[DTYPES];
    VEC(Case) all;
} Cases;

static Buf *input(Cases *k, DType t, int i) {
    if (!k->in[t][i])
        k->in[t][i] = array(k->p, SP_IN, t, gd_format(k->p->c, "%s_%c", gd_dtypes[t].name, "abc"[i]),
                            num(k->p->c, SAMPLES));
    return k->in[t][i];
}

/* Constants that min and max treat in a way of their own. */
static uint64_t constant_of(DType t, int which) {
    return gd_to_bits(t, which == 1 ? 0.0 : which == 2 ? -0.0 : which == 3 ? 6.0 : (double)NAN);
}

static void add_case(Cases *k, ExprKind op, DType arg, DType res, int n, int constant) {
    Ctx *c = k->p->c;
    Case one = {op, arg, res, n, constant, {0}, array(k->p, SP_OUT, res, "y", num(c, SAMPLES))};
    if (!k->loop[arg]) {
        Stmt *nest = stmt_nest(k->p, &k->p->body, gd_format(c, "ops_%s", gd_dtypes[arg].name));
        k->loop[arg] = stmt_for(k->p, &nest->body, "i", num(c, SAMPLES / k->lanes), true);
    }
    Stmt *i = k->loop[arg];
    Expr *at = expr_mul(c, var(c, i), num(c, k->lanes)), *args[3];
    for (int a = 0; a < n; a++) {
        DType t = op == E_SELECT && a == 0 ? BOOL : arg;
        one.in[a] = input(k, t, a);
        args[a] = load(c, one.in[a], k->lanes, at);
        if (constant && a == 1) args[a] = expr_const(c, vector(t, k->lanes), constant_of(t, constant));
    }
    store(k->p, &i->body, one.out, at, expr_op(c, op, vector(res, k->lanes), n, args));
    vec_push(c, &k->all, one);
}

static bool defined(ExprKind op, DType t) {
    switch (op) {
    case E_FDIV:
    case E_FMOD:
    case E_AND:
    case E_OR:
    case E_XOR:
    case E_NOT:
    case E_SHL:
    case E_SHR: return !dt_float(t);
    case E_SQRT:
    case E_COPYSIGN:
    case E_ISNAN: return dt_float(t);
    case E_CAST:
    case E_BITS:
    case E_SPLAT: return false;
    default: return true;
    }
}

static const struct Row {
    ExprKind op;
    int arity;
    char result;
} rows[] = {
#define O(NAME, text, arity, result, form) {E_##NAME, arity, #result[0]},
#include "scalar.def"
#undef O
};

static void all_cases(Cases *k) {
    for (int t = 0; t < DTYPES; t++) {
        if (t == STRING || t == C64 || t == C128) continue;
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            if (defined(rows[r].op, (DType)t) && !dt_small((DType)t))
                add_case(k, rows[r].op, (DType)t, rows[r].result == 'B' ? BOOL : (DType)t, rows[r].arity, 0);
        for (int constant = 1; constant <= 4 && dt_float((DType)t); constant++) {
            add_case(k, E_MIN, (DType)t, (DType)t, 2, constant);
            add_case(k, E_MAX, (DType)t, (DType)t, 2, constant);
        }
        for (int d = 0; d < DTYPES; d++) {
            if (d == STRING || d == C64 || d == C128) continue;
            add_case(k, E_CAST, (DType)t, (DType)d, 1, 0);
            bool bits = gd_dtypes[t].bytes == gd_dtypes[d].bytes &&
                        (dt_int((DType)t) || dt_int((DType)d) || t == BOOL);
            if (bits && t != d) add_case(k, E_BITS, (DType)t, (DType)d, 1, 0);
        }
    }
}

/* Comparisons of i64 scalars are index arithmetic to the simplifier, which takes sums not to overflow. */
static bool too_large(const Case *k, const uint64_t *a) {
    bool index = k->arg == I64 && k->res == BOOL && k->n == 2;
    for (int i = 0; i < 2 && index; i++)
        if ((int64_t)a[i] > INT64_MAX / 2 || (int64_t)a[i] < INT64_MIN / 2) return true;
    return false;
}

static void check_case(Ctx *c, const Case *k, void *const *ins, void *const *outs, const char *what) {
    for (int i = 0; i < SAMPLES; i++) {
        uint64_t a[3] = {0};
        for (int j = 0; j < k->n; j++)
            a[j] = gd_load_bits(k->in[j]->dt, (const char *)ins[k->in[j]->port] +
                                                  (size_t)i * (size_t)gd_dtypes[k->in[j]->dt].bytes);
        if (k->constant) a[1] = constant_of(k->arg, k->constant);
        if (too_large(k, a)) continue;
        uint64_t want = gd_eval(k->op, k->arg, k->res, a);
        const char *at = (char *)outs[k->out->port] + (size_t)i * (size_t)gd_dtypes[k->res].bytes;
        uint64_t got = gd_load_bits(k->res, at);
        char whole[8]; /* narrow types fill their byte */
        gd_store_bits(k->res, whole, want);
        bool narrow = k->res == I4 || k->res == U4 || k->res == I2 || k->res == U2 || k->res == BOOL;
        if (!same(k->res, want, got) || (narrow && *at != *whole))
            fail_msg("%s: op %d %s -> %s (%llx, %llx, %llx): %llx, not %llx", what, (int)k->op - E_ADD,
                     gd_dtypes[k->arg].name, gd_dtypes[k->res].name, (unsigned long long)a[0],
                     (unsigned long long)a[1], (unsigned long long)a[2], (unsigned long long)got,
                     (unsigned long long)want);
    }
    (void)c;
}

static void instructions(Ctx *c, void *arg) {
    int lanes = *(int *)arg;
    Cases k = {.p = program_new(c, gd_format(c, "ops%d", lanes)), .lanes = lanes};
    all_cases(&k);
    const char *dir = write_source(k.p, "ops");
    void **ins = gd_new_array(c, void *, 3 * DTYPES), **outs = gd_new_array(c, void *, k.all.n);
    for (int t = 0; t < DTYPES; t++)
        for (int i = 0; i < 3; i++) {
            Buf *b = k.in[t][i];
            if (!b) continue;
            char *p = ins[b->port] = gd_alloc_aligned(c, SAMPLES * 8);
            for (int j = 0; j < SAMPLES; j++)
                gd_store_bits((DType)t, p + (size_t)j * (size_t)gd_dtypes[t].bytes, sample((DType)t, i, j));
        }
    for (int i = 0; i < k.all.n; i++) outs[i] = gd_alloc_aligned(c, SAMPLES * 8);
    for (int s = 0; s < SETTINGS; s++) {
        const GradcProgram *code = compile(k.p, dir, &settings[s]);
        if (!code) continue;
        assert_int_equal(code->run((const void *const *)ins, outs, NULL, NULL, 0), 0);
        for (int i = 0; i < k.all.n; i++) check_case(c, &k.all.v[i], ins, outs, title(c, &settings[s]));
    }
}

static void scalar_instructions(void **state) {
    (void)state;
    within(instructions, &(int){1});
}
static void vectors_of_4(void **state) {
    (void)state;
    within(instructions, &(int){4});
}
static void vectors_of_8(void **state) {
    (void)state;
    within(instructions, &(int){8});
}
static void vectors_of_16(void **state) {
    (void)state;
    within(instructions, &(int){16});
}

/* ---- whole programs ---- */

enum { MAX_PORTS = 8, MAX_SYMS = 4, MAX_OUT = 1 << 16 };
typedef struct Call {
    const void *in[MAX_PORTS];
    void *out[MAX_PORTS];
    int64_t sym[MAX_SYMS];
    int status;
} Call;

static void random_inputs(Program *p, Call *k) {
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        if (b->space != SP_IN || k->in[b->port]) continue;
        char *data = gd_alloc_aligned(p->c, MAX_OUT);
        size_t size = (size_t)gd_dtypes[b->dt].bytes;
        for (size_t j = 0; j < MAX_OUT / size; j++) {
            double r = (double)(int64_t)(scramble(j * 7 + (uint64_t)i) % 2001) / 1000 - 1;
            bool real = dt_float(b->dt) || dt_small(b->dt);
            gd_store_bits(b->dt, data + j * size,
                          real           ? gd_to_bits(b->dt, r)
                          : b->dt == I64 ? scramble(j) % 10
                                         : scramble(j + 99) & (b->dt == BOOL ? 1 : 255));
        }
        k->in[b->port] = data;
    }
}

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

static void compare(Program *p, const Call *want, const Call *got, const char *what) {
    if (want->status != got->status)
        fail_msg("%s: %s: status %d, not %d", p->name, what, got->status, want->status);
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
                fail_msg("%s: %s: %s[%lld] is %llx, not %llx", p->name, what, b->name, (long long)j,
                         (unsigned long long)g, (unsigned long long)w);
        }
    }
}

static void run_one(Program *p, const GradcProgram *code, const Call *k, const Call *want, const char *what) {
    Call got = *k;
    outputs(p, &got);
    size_t bytes = code->arena_bytes(got.sym) + (p->grows ? MAX_OUT : 0);
    got.status = code->run(got.in, got.out, got.sym, gd_alloc_aligned(p->c, bytes + 64), bytes);
    compare(p, want, &got, what);
}

/* The program by the interpreter and as compiled by each compiler, for each of n calls. */
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
    const char *dir = write_source(p, p->name);
    for (int s = 0; s < SETTINGS; s++) {
        const GradcProgram *code = compile(p, dir, &settings[s]);
        for (int i = 0; code && i < n; i++) run_one(p, code, &k[i], &want[i], title(c, &settings[s]));
    }
}

static Program *parse(Ctx *c, const char *text) {
    Program *p = loop_parse(c, text, strlen(text));
    loop_verify(p);
    return p;
}

/* 6 x 4 vectors in registers over 37 steps, relu, rows on threads. */
static void tile(Ctx *c, void *arg) {
    (void)arg;
    Text *t = text_new(c);
    text_put(t,
             "program tile after plan lanes 16\nin a: f32[12, 37]\nin w: f32[37, 64]\nout y: f32[12, 64]\n\n"
             "nest matmul ; source Gemm_3, Relu_4 */ int oops; /* ; schedule 6x4 ; macs 28416\n  parallel t "
             "in 2\n    reg acc: v16f32[6, 4]\n");
    for (int i = 0; i < 24; i++) text_printf(t, "    acc[%d, %d] = splat16(0.0)\n", i / 4, i % 4);
    text_put(t, "    for k in 37\n");
    for (int i = 0; i < 24; i++) {
        int r = i / 4, v = i % 4;
        text_printf(t, "      acc[%d, %d] = fma(splat16(a[t*6+%d, k]), w.v16[k, %d], acc[%d, %d])\n", r, v, r,
                    16 * v, r, v);
    }
    for (int i = 0; i < 24; i++) {
        int r = i / 4, v = i % 4;
        text_printf(t, "    y.v16[t*6+%d, %d] = max(acc[%d, %d], splat16(%s0.0))\n", r, 16 * v, r, v,
                    i % 3 ? "" : "-");
    }
    check_calls(parse(c, t->s), &(Call){0}, 1);
}

/* y = x * 2.1 + z over n elements by vectors, the last one under a count; a * b + c must not become one fma.
 */
static void tails(Ctx *c, void *arg) {
    (void)arg;
    static const struct {
        const char *name;
        DType t;
        int lanes;
    } kinds[] = {{"t0", F32, 16}, {"t1", F32, 8},  {"t2", F64, 8}, {"t3", I8, 16},
                 {"t4", I64, 4},  {"t5", F64, 16}, {"t6", I32, 4}};
    enum { SIZES = 40 };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        DType t = kinds[i].t;
        int lanes = kinds[i].lanes;
        Program *p = program_new(c, kinds[i].name);
        Var *n = var_new(c, V_SYM, scalar(I64), "int", 0, 1000); /* a keyword */
        vec_push(c, &p->syms, n);
        Buf *x = array(p, SP_IN, t, "float", expr_var(c, n)),
            *z = array(p, SP_IN, t, "v16f32_fma", expr_var(c, n));
        Buf *y = array(p, SP_OUT, t, "NULL", expr_var(c, n));
        Stmt *nest = stmt_nest(p, &p->body, "main");
        Expr *count = expr_var(c, n), *step = num(c, lanes);
        Stmt *loop = stmt_for(p, &nest->body, "linux",
                              expr_fdiv(c, expr_add(c, count, num(c, lanes - 1)), step), true);
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

/* Loads that a condition forbids, stores under a condition, a register that is written in a loop only. */
static const char padding[] =
    "program padding\nsym n in 1..1000\nin x: f32[n]\nin on: bool[n]\nout y: f32[n]\nout z: bool[n]\nout w: "
    "f16[n]\n\nnest conv\n"
    "  each i in n\n    reg sum: f32\n    reg seen: bool\n    sum = 0.25\n    seen = false\n    for k in 5\n"
    "      sum = fma((x[i+k-2] if i+k >= 2 & n+2 > i+k), f32(k+1), sum)\n      seen = seen | (on[i+k-2] if "
    "i+k >= 2 & n+2 > i+k)\n"
    "    y[i] = sum\n    y[i] = 7.0 if i mod 3 == 0\n    z[i] = seen ^ on[i]\n    w[i] = f16(sum)\n";

/* Collatz steps: while, if, a local table indexed by data, division of i64. */
static const char control[] = "program control\nout y: i64[64]\nout z: f32[64]\n\nnest collatz\n  each i in "
                              "64\n    local state: i64[2]\n    state[0] = i+1\n"
                              "    state[1] = 0\n    while 1 < state[0]\n      let v = state[0]\n      if v "
                              "mod 2 == 1\n        state[0] = v*3+1\n      else\n"
                              "        state[0] = v / 2\n      state[1] = state[1] + 1\n    y[i] = "
                              "state[1]\n    z[i] = exp(f32(state[1]) * 0.1) + tanh(f32(i) * 0.25)\n";

/* Where x > 0: the data decides how many; the output takes its place in the heap. */
static const char data_sizes[] = "program nonzero after plan grows\nsym m in 0..inf data\nin x: f32[50]\nout "
                                 "y: i64[m]\narena n: i64[1] @ 0\nheap s: i64[m]\n"
                                 "heap next: i64[m]\narena_bytes 64\n\nnest count\n  n[0] = 0\n  for i in "
                                 "50\n    n[0] = n[0] + i64(0.0 < x[i])\nlet m = n[0]\n"
                                 "alloc s\nnest fill\n  n[0] = 0\n  for j in 50\n    if 0.0 < x[j]\n      "
                                 "let at = n[0]\n      s[at] = j\n      n[0] = at + 1\n"
                                 "for twice in 2\n  alloc next\n  nest square\n    each q in m\n      let v "
                                 "= s[q]\n      next[q] = v*v\n  free s\n  move s from next\n"
                                 "alloc y\nnest copy\n  each r in m\n    y[r] = s[r]\nfree s\n";

/* Indices from data are checked in a parallel loop: the first bad one decides. */
static const char gather[] =
    "program gather\nin at: i64[40]\nin x: f32[10]\nout y: f32[40]\n\nnest pick\n  parallel i in 40\n    let "
    "k = at[i]\n"
    "    check 0 <= k status 17\n    for t in 2\n      check k < 10 status 18\n    y[i] = x[k]\n";

/* In place over the arena, a register array indexed by a variable and by vectors, a view across. */
static const char rows_text[] =
    "program rows after plan\nin x: f32[5, 32]\nout y: f32[32, 5]\narena t: f32[5, 32] @ 0\narena u: f32[5, "
    "32] @ 0\n"
    "view across: f32[32, 5] stride [1, 32] of u at 0\narena_bytes 640\n\nnest first\n  each i in 5, j in "
    "32\n    t[i, j] = x[i, j] * 3.0\n"
    "nest rows\n  each r in 5\n    local acc: f32[16]\n    acc.v16[0] = t.v16[r, 0]\n    acc.v16[0] = "
    "max(acc.v16[0], t.v16[r, 16])\n"
    "    for lane in 8\n      acc[lane] = max(acc[lane], acc[lane+8])\n    for lane in 4\n      acc[lane] = "
    "max(acc[lane], acc[lane+4])\n"
    "    acc[0] = max(acc[0], acc[2])\n    acc[1] = max(acc[1], acc[3])\n    let top = max(acc[0], acc[1])\n "
    "   each j in 32\n"
    "      u[r, j] = t[r, j] - top\nnest last\n  each a in 32, b in 5\n    y[a, b] = across[a, b]\n";

/* Vectors of bools of several widths, constants among them, selects, small floats, i64 lanes. */
static const char masks[] = "program masks\nin x: f32[64]\nin d: f64[64]\nin k: i64[64]\nin b: bool[64]\nin "
                            "h: f16[64]\nout y: f32[64]\nout z: bool[64]\nout w: f64[64]\n"
                            "out v: bf16[64]\n\nnest all\n  each i in 8\n    let p = x.v8[i*8] < "
                            "splat8(0.25)\n    let q = d.v8[i*8] <= f64(x.v8[i*8])\n"
                            "    let r = b.v8[i*8] ^ p\n    reg m: v8bool\n    m = (q & p) | !r\n    "
                            "y.v8[i*8] = r ? (q ? x.v8[i*8] : splat8(1.5)) : f32(p & m)\n"
                            "    z.v8[i*8] = m != (lane(v8i64) + splat8(i*8) < k.v8[i*8] + splat8(20))\n    "
                            "w.v8[i*8] = m ? d.v8[i*8] : f64(k.v8[i*8])\n"
                            "    v.v8[i*8] = bf16(splat8(i < 4) ? f32(h.v8[i*8]) : x.v8[i*8])\n";

/* Halves of two vectors, lanes in turn, of several widths. */
static const char zips[] = "program zips\nin x: f32[64]\nin d: f64[64]\nin b: i8[64]\nout y: f32[64]\nout z: f64[64]\n"
                           "out w: i8[64]\n\nnest all\n"
                           "  each i in 2\n    let p = x.v16[i*32]\n    let q = x.v16[i*32+16]\n"
                           "    y.v16[i*32] = zip_lo(p, q)\n    y.v16[i*32+16] = zip_hi(p, q)\n"
                           "    let r = b.v16[i*32]\n    let s = b.v16[i*32+16]\n"
                           "    w.v16[i*32] = zip_hi(s, r)\n    w.v16[i*32+16] = zip_lo(r, r) + splat16(i8(1))\n"
                           "  each i in 8\n    let t = d.v4[i*8]\n    let u = d.v4[i*8+4]\n"
                           "    z.v4[i*8] = zip_lo(u, t)\n    z.v4[i*8+4] = zip_hi(u, t)\n";

static void text_program(Ctx *c, void *arg) {
    Program *p = parse(c, arg);
    if (!strcmp(p->name, "gather")) {
        Call *calls = gd_new_array(c, Call, 5);
        for (int bad = 0; bad < 5; bad++) {
            int64_t *index = gd_new_array(c, int64_t, 40);
            for (int j = 0; j < 40; j++) index[j] = j * 7 % 10;
            if (bad) index[40 - bad * 9] = 10;
            if (bad > 1) index[40 - bad * 9 + 9] = -1;
            calls[bad].in[0] = index;
        }
        check_calls(p, calls, 5);
        return;
    }
    if (!strcmp(p->name, "control")) pass_expand(p, &usual), pass_bind(p, &usual);
    check_calls(p, &(Call){.sym = {p->syms.n && p->syms.v[0]->data ? -1 : 11}}, 1);
}

static void programs(void **state) {
    (void)state;
    const char *const all[] = {padding, control, data_sizes, gather, rows_text, masks, zips};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) within(text_program, (void *)all[i]);
    within(tile, NULL);
    within(tails, NULL);
}

/* ---- random programs through the loop passes ---- */

static void random_one(Ctx *c, void *arg) {
    const int *seed = arg;
    enum { POSITIONS = 8, SIZES = 3 };
    Program *p = random_program(c, (uint64_t)*seed);
    pass_unroll(p, &usual);
    pass_parallelize(p, &usual);
    pass_expand(p, &usual);
    pass_bind(p, &usual);
    pass_plan(p, &usual);
    int64_t *positions = gd_new_array(c, int64_t, POSITIONS);
    for (int i = 0; i < POSITIONS; i++) positions[i] = (int64_t)(scramble((uint64_t)(*seed * 8 + i)) % 24);
    Call *calls = gd_new_array(c, Call, SIZES);
    for (int i = 0; i < SIZES; i++) calls[i] = (Call){.in = {NULL, NULL, positions}, .sym = {1 + i * 4}};
    check_calls(p, calls, SIZES);
}

static void random_programs(void **state) {
    (void)state;
    int n = getenv("GRADC_TEST_ALL") ? 60 : 25;
    for (int seed = 1; seed <= n; seed++) within(random_one, &seed);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(programs),
                                       cmocka_unit_test(random_programs),
                                       cmocka_unit_test(scalar_instructions),
                                       cmocka_unit_test(vectors_of_4),
                                       cmocka_unit_test(vectors_of_8),
                                       cmocka_unit_test(vectors_of_16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
