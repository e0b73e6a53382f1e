/* The elementary functions in generated code: every row of math.def, as scalars and as vectors, gives through
   the C and the LLVM back end the bits that the interpreter gives. NaNs count as equal. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "codegen.h"
#include "passes.h"

enum { N = 512 };
static const struct {
    const char *name;
    int arity;
    DType dt;
} rows[] = {
#define f32 F32
#define f64 F64
#define i32 I32
#define i64 I64
#define M(name, arity, dtype, text) {#name, arity, dtype},
#include "math.def"
#undef M
};
enum { ROWS = sizeof rows / sizeof *rows };

typedef struct Job {
    DType dt;
    int lanes, opt;
    const char *backend;
} Job;

/* One nest a function, vectors of the given lanes. */
static Program *program_of(Ctx *c, const Job *j) {
    const char *t = gd_dtypes[j->dt].name;
    Text *s = text_new(c);
    text_printf(s, "program math after parallelize lanes %d\nin x: %s[%d]\nin y: %s[%d]\n", j->lanes, t, N, t,
                N);
    for (int r = 0; r < ROWS; r++)
        if (rows[r].dt == j->dt) text_printf(s, "out z%d: %s[%d]\n", r, t, N);
    for (int r = 0; r < ROWS; r++) {
        if (rows[r].dt != j->dt) continue;
        const char *at = j->lanes > 1 ? gd_format(c, ".v%d[i*%d]", j->lanes, j->lanes) : "[i]";
        text_printf(s, "\nnest %s%d\n  each i in %d\n    z%d%s = %s(x%s", rows[r].name, r, N / j->lanes, r,
                    at, rows[r].name, at);
        if (rows[r].arity == 2) text_printf(s, ", y%s", at);
        text_put(s, ")\n");
    }
    return loop_parse(c, s->s, s->n);
}

static uint64_t scramble(uint64_t i) {
    i = (i + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    i = (i ^ i >> 29) * 0x94d049bb133111ebu;
    return i ^ i >> 32;
}

/* Any bits, values of moderate size, special values. */
static uint64_t sample(DType t, int k, int i) {
    static const double special[] = {0.0,       -0.0, 1,        -1,        0.5,  2,   -3,  INFINITY,
                                     -INFINITY, NAN,  0x1p-149, 0x1p-1074, 1e30, 710, -746};
    uint64_t r = scramble((uint64_t)(2 * i + k));
    if (!dt_float(t))
        return t == I32 ? (uint64_t)(int64_t)(int32_t)(i & 1 ? r : r % 40 - 9) : i & 1 ? r : r % 40 - 9;
    if (i % 4 == 0) return t == F32 ? (uint32_t)r : r;
    if (i % 4 == 1) return gd_to_bits(t, special[r % (sizeof special / sizeof *special)]);
    return gd_to_bits(t, ldexp((double)(int64_t)r, -(int)(63 - i % 8)));
}

static void check(Ctx *c, void *arg) {
    const Job *j = arg;
    void *in[2], **want = gd_new_array(c, void *, ROWS), **got = gd_new_array(c, void *, ROWS);
    size_t size = (size_t)gd_dtypes[j->dt].bytes;
    for (int k = 0; k < 2; k++) {
        in[k] = gd_alloc_aligned(c, N * size);
        for (int i = 0; i < N; i++)
            gd_store_bits(j->dt, (char *)in[k] + (size_t)i * size, sample(j->dt, k, i));
    }
    for (int r = 0; r < ROWS; r++) {
        want[r] = gd_alloc_aligned(c, N * size);
        got[r] = gd_alloc_aligned(c, N * size);
    }
    const void *ins[] = {in[0], in[1]};
    assert_int_equal(loop_interpret(c, program_of(c, j), &(LoopArgs){ins, want, NULL}), 0);
    Program *p = program_of(c, j);
    const Target *target = target_named(c, "native");
    PassOptions po = {.opt = j->opt, .machine = {j->lanes, 16, true, 32 << 10, 1 << 20}, .threads = 1};
    passes_resume(p, &po);
    EmitOptions eo = {.target = target, .prefix = "math", .opt = j->opt, .table = true};
    Loaded l;
    backend_named(c, j->backend)->load(p, &eo, &l);
    char *arena = gd_alloc_aligned(c, l.program->arena_bytes(NULL) + 64);
    assert_int_equal(l.program->run(ins, got, NULL, arena, l.program->arena_bytes(NULL)), 0);
    for (int r = 0, z = 0; r < ROWS; r++) {
        if (rows[r].dt != j->dt) continue;
        for (int i = 0; i < N; i++) {
            uint64_t a = gd_load_bits(j->dt, (char *)want[z] + (size_t)i * size);
            uint64_t b = gd_load_bits(j->dt, (char *)got[z] + (size_t)i * size);
            double da = gd_to_double(j->dt, a), db = gd_to_double(j->dt, b);
            if (a != b && !(isnan(da) && isnan(db)))
                fail_msg("%s -O%d v%d %s(%a, %a): %a, not %a", j->backend, j->opt, j->lanes, rows[r].name,
                         gd_to_double(j->dt, sample(j->dt, 0, i)), gd_to_double(j->dt, sample(j->dt, 1, i)),
                         db, da);
        }
        z++;
    }
}

static void through(const char *backend, int opt) {
    static const struct {
        DType dt;
        int lanes;
    } forms[] = {{F32, 16}, {F64, 8}, {F32, 1}, {F64, 1}, {F32, 4}, {I32, 16}, {I64, 8}};
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        Ctx *c = gd_open(NULL);
        Job j = {forms[k].dt, forms[k].lanes, opt, backend};
        int status = gd_enter(c, check, &j);
        if (status) fail_msg("status %d: %s", status, gd_error_count(c) ? gd_diag(c, 0)->message : "");
        gd_close(c);
    }
}
static void c_code(void **state) {
    (void)state;
    through("c", 2);
}
#ifdef GRADC_LLVM
static void llvm_code(void **state) {
    (void)state;
    through("llvm", 0);
    through("llvm", 2);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(c_code),
#ifdef GRADC_LLVM
                                       cmocka_unit_test(llvm_code),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
