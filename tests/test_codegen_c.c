/* The C back end against the interpreter, bit for bit: all scalar instructions on edge cases, as scalars and as vectors;
   then whole programs. Each program becomes one source that is compiled by gcc and clang, at several -O, for the
   machine at hand and for the oldest of its kind, with GCC's default of contracting a * b + c; once also by its plain C99
   part. No compiler may warn. NaNs count as equal. GRADC_TEST_ALL=1 tries more combinations. */
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
#include "randomprogram.h"

/* ---- compilers ---- */

typedef struct Setting { const char *cc, *opt, *std, *extra; bool native, thorough; } Setting;
static const Setting settings[] = {
    {"gcc", "-O3", "-std=gnu99", NULL, true, false},      {"clang", "-O3", "-std=gnu99", NULL, true, false},
    {"gcc", "-O1", "-std=c99", NULL, false, false},       {"clang", "-O0", "-std=c99", NULL, false, false},
    {"gcc", "-O0", "-std=c99", NULL, true, true},         {"gcc", "-O0", "-std=c99", NULL, false, true},
    {"gcc", "-O3", "-std=gnu99", NULL, false, true},      {"gcc", "-O2", "-std=gnu99", "-march=x86-64-v3", false, true},
    {"gcc", "-O2", "-std=c99", "-DGRADC_PLAIN", true, true}, {"clang", "-O3", "-std=c99", "-DGRADC_PLAIN", false, true},
    {"clang", "-O1", "-std=gnu99", NULL, true, true},     {"clang", "-O3", "-std=gnu99", NULL, false, true},
    {"clang", "-O2", "-std=gnu99", "-march=x86-64-v3", false, true}, {"clang-19", "-O3", "-std=gnu99", NULL, true, true},
    {"clang-19", "-O1", "-std=c99", NULL, false, true},   {"gcc", "-O3", "-std=gnu99", "-fopenmp", true, true},
    {"clang-19", "-O0", "-std=c99", NULL, true, true},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static bool available(Ctx *c, const char *cc) {
    for (const char *path = getenv("PATH"); path && *path; path += strcspn(path, ":"), path += *path == ':')
        if (!access(gd_format(c, "%.*s/%s", (int)strcspn(path, ":"), path, cc), X_OK)) return true;
    return false;
}

static const char *title(Ctx *c, const Setting *s) {
    return gd_format(c, "%s %s %s %s%s", s->cc, s->opt, s->std, s->extra ? s->extra : "", s->native ? " native" : "");
}

static void unload(void *handle) { dlclose(handle); }

/* NULL when the compiler is not there. */
static const GradcProgram *compile(Program *p, const char *dir, const Setting *s) {
    Ctx *c = p->c;
    if (!available(c, s->cc)) return NULL;
    if (s->thorough && !getenv("GRADC_TEST_ALL")) return NULL;
    const Target *t = target_named(c, "native");
    VEC(const char *) a = {0};
    const char *const first[] = {s->cc, s->opt, s->std, "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) vec_push(c, &a, first[i]);
    if (s->native) {
        vec_push(c, &a, gd_format(c, "-march=%s", t->cpu));
        for (const char *f = t->features; *f; f += strcspn(f, ","), f += *f == ',')
            vec_push(c, &a, gd_format(c, "-m%.*s", (int)strcspn(f, ",") - 1, f + 1));
    }
    if (s->extra) vec_push(c, &a, s->extra);
    static int count;
    char *library = gd_format(c, "%s/test%d.so", dir, count++);
    const char *const rest[] = {"-fPIC", "-shared", gd_format(c, "%s/%s.c", dir, p->name), "-o", library, "-lm", NULL};
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
    EmitOptions o = {.target = target_named(p->c, "native"), .openmp = true, .table = true, .weights = WEIGHTS_EMBED};
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
static Buf *array(Program *p, Space space, DType t, const char *name, Expr *n) { return buf_new(p, space, t, 1, &n, name); }
static Expr *load(Ctx *c, Buf *b, int lanes, Expr *at) { return expr_load(c, b, lanes, &at, NULL); }
static void store(Program *p, Block *to, Buf *b, Expr *at, Expr *v) { stmt_store(p, to, b, &at, v, NULL); }

/* ---- scalar instructions ---- */

enum { SAMPLES = 1200 };

static const double reals[] = {0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 3, 7, -8, 127.9, 128, -128.9, 255.5, 256, 448, 464, 57344, 65504,
                               65520, 65535.5, 8388607.5, -8388607.5, 2147483520.0, 2147483648.0, -2147483649.0, 4294967295.0, 4294967296.0,
                               9223372036854774784.0, 9223372036854775808.0, -9.3e18, 1.8446744073709552e19, 1e30, -1e38, 3.4e38, 1e-30, 1e-40,
                               -1e-45, 5.9e-8, 2e-8, 1e-320, 1e300, -1e300, INFINITY, -INFINITY, NAN, 0.1, 16777217.0, 33.3, 6, 5, 0.25};
static const int64_t wholes[] = {0, 1, -1, 2, -2, 3, 4, 7, -7, 8, -8, 15, 31, 32, 63, 64, 100, 127, -127, 128, -128, 255, 256, 32767, -32768,
                                 65535, INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN, 1234567890123};

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

typedef struct Case { ExprKind op; DType arg, res; int n, constant; Buf *in[3], *out; } Case;
typedef struct Cases { Program *p; int lanes; Buf *in[DTYPES][3]; Stmt *loop[DTYPES]; VEC(Case) all; } Cases;

static Buf *input(Cases *k, DType t, int i) {
    if (!k->in[t][i]) k->in[t][i] = array(k->p, SP_IN, t, gd_format(k->p->c, "%s_%c", gd_dtypes[t].name, "abc"[i]), num(k->p->c, SAMPLES));
    return k->in[t][i];
}

/* Constants that min and max treat in a way of their own. */
static uint64_t constant_of(DType t, int which) { return gd_to_bits(t, which == 1 ? 0.0 : which == 2 ? -0.0 : which == 3 ? 6.0 : (double)NAN); }

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
    case E_FDIV: case E_FMOD: case E_AND: case E_OR: case E_XOR: case E_NOT: case E_SHL: case E_SHR: return !dt_float(t);
    case E_SQRT: case E_COPYSIGN: case E_ISNAN: return dt_float(t);
    case E_CAST: case E_BITS: case E_SPLAT: return false;
    default: return true;
    }
}

static const struct Row { ExprKind op; int arity; char result; } rows[] = {
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
            bool bits = gd_dtypes[t].bytes == gd_dtypes[d].bytes && (dt_int((DType)t) || dt_int((DType)d) || t == BOOL);
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
            a[j] = gd_load_bits(k->in[j]->dt, (const char *)ins[k->in[j]->port] + (size_t)i * (size_t)gd_dtypes[k->in[j]->dt].bytes);
        if (k->constant) a[1] = constant_of(k->arg, k->constant);
        if (too_large(k, a)) continue;
        uint64_t want = gd_eval(k->op, k->arg, k->res, a);
        uint64_t got = gd_load_bits(k->res, (char *)outs[k->out->port] + (size_t)i * (size_t)gd_dtypes[k->res].bytes);
        if (!same(k->res, want, got))
            fail_msg("%s: op %d %s -> %s (%llx, %llx, %llx): %llx, not %llx", what, (int)k->op - E_ADD, gd_dtypes[k->arg].name, gd_dtypes[k->res].name,
                     (unsigned long long)a[0], (unsigned long long)a[1], (unsigned long long)a[2], (unsigned long long)got,
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
            for (int j = 0; j < SAMPLES; j++) gd_store_bits((DType)t, p + (size_t)j * (size_t)gd_dtypes[t].bytes, sample((DType)t, i, j));
        }
    for (int i = 0; i < k.all.n; i++) outs[i] = gd_alloc_aligned(c, SAMPLES * 8);
    for (int s = 0; s < SETTINGS; s++) {
        const GradcProgram *code = compile(k.p, dir, &settings[s]);
        if (!code) continue;
        assert_int_equal(code->run((const void *const *)ins, outs, NULL, NULL, 0), 0);
        for (int i = 0; i < k.all.n; i++) check_case(c, &k.all.v[i], ins, outs, title(c, &settings[s]));
    }
}

static void scalar_instructions(void **state) { (void)state; within(instructions, &(int){1}); }
static void vectors_of_4(void **state) { (void)state; within(instructions, &(int){4}); }
static void vectors_of_8(void **state) { (void)state; within(instructions, &(int){8}); }
static void vectors_of_16(void **state) { (void)state; within(instructions, &(int){16}); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(scalar_instructions), cmocka_unit_test(vectors_of_4), cmocka_unit_test(vectors_of_8), cmocka_unit_test(vectors_of_16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
