/* How exact are the elementary functions? Not part of the test run: minutes a function.

     math_check [--count N] [--mpfr] [--quick] [NAME[:DTYPE] ...]

   Every function of one f32 argument is checked on all 2^32 inputs, everything else on N random and
   structured ones. The rows of math.def are printed as C and compiled with contraction off, and a sample is
   compared with gd_math_body evaluated by the interpreter's arithmetic, to the bit. References: libm's double
   functions for f32, its long double functions for f64; each new worst case is computed again by MPFR.
   --mpfr uses MPFR for all; --quick looks at an f32 result with libm only where it is not as near to the f64
   row's as the worst so far, or special. Prints a line per function: the worst error in ulp of the exact
   result, and where; and how often a special value (NaN, infinity, sign of zero) is wrong. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <mpfr.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "expr.h"

enum { BLOCK = 1 << 14, PRECISION = 256 };

/* ---- references ---- */

static double sigmoid_d(double x) { return 1 / (1 + exp(-x)); }
static long double sigmoid_l(long double x) { return 1 / (1 + expl(-x)); }
static int sigmoid_m(mpfr_t y, mpfr_srcptr x, mpfr_rnd_t r) {
    mpfr_neg(y, x, r);
    mpfr_exp(y, y, r);
    mpfr_add_ui(y, y, 1, r);
    return mpfr_ui_div(y, 1, y, r);
}
static double softplus_d(double x) { return x > 40 ? x + exp(-x) : log1p(exp(x)); }
static long double softplus_l(long double x) { return x > 50 ? x + expl(-x) : log1pl(expl(x)); }
static int softplus_m(mpfr_t y, mpfr_srcptr x, mpfr_rnd_t r) {
    if (mpfr_cmp_ui(x, 400) > 0) return mpfr_set(y, x, r);
    mpfr_exp(y, x, r);
    return mpfr_log1p(y, y, r);
}

typedef struct Reference {
    const char *name;
    double (*d)(double), (*d2)(double, double);
    long double (*l)(long double), (*l2)(long double, long double);
    int (*m)(mpfr_t, mpfr_srcptr, mpfr_rnd_t), (*m2)(mpfr_t, mpfr_srcptr, mpfr_srcptr, mpfr_rnd_t);
} Reference;
#define ONE(name)                                                                                            \
    { #name, name, NULL, name##l, NULL, mpfr_##name, NULL }
static const Reference references[] = {
    ONE(exp), ONE(exp2), ONE(expm1), ONE(log), ONE(log2), ONE(log10), ONE(log1p), ONE(sin), ONE(cos),
    ONE(tan), ONE(asin), ONE(acos), ONE(atan), ONE(sinh), ONE(cosh), ONE(tanh), ONE(asinh), ONE(acosh),
    ONE(atanh), ONE(erf), ONE(erfc),
    {"sigmoid", sigmoid_d, NULL, sigmoid_l, NULL, sigmoid_m, NULL},
    {"softplus", softplus_d, NULL, softplus_l, NULL, softplus_m, NULL},
    {"pow", NULL, pow, NULL, powl, NULL, mpfr_pow},
    {"atan2", NULL, atan2, NULL, atan2l, NULL, mpfr_atan2}};

static const Reference *reference_named(const char *name) {
    for (size_t i = 0; i < sizeof references / sizeof *references; i++)
        if (!strcmp(references[i].name, name)) return &references[i];
    return NULL;
}

/* ---- a body as C ---- */

/* Each value is named by the id of its expression; shifts are total as in scalar.def. */
static const char *print_value(Text *t, Map *done, const Expr *e) {
    Ctx *c = t->c;
    const char *known = map_getp(done, e), *a[3] = {"", "", ""};
    if (known) return known;
    const char *type = gd_dtypes[e->type.dt].ctype, *name = gd_format(c, "v%u", e->id);
    for (int i = 0; i < e->nargs; i++) a[i] = print_value(t, done, e->arg[i]);
    DType at = e->nargs ? (DType)e->arg[0]->type.dt : DT_NONE;
    const char *f = at == F32 ? "f" : "", *from = at == DT_NONE ? "" : gd_dtypes[at].ctype;
    int bits = at == DT_NONE ? 0 : 8 * gd_dtypes[at].bytes;
    if (e->kind == E_CONST) {
        bool is_float = dt_float((DType)e->type.dt);
        text_printf(t, "  const %s %s = ", type, name);
        if (!is_float) text_printf(t, "(%s)0x%" PRIx64 "u;\n", type, e->bits);
        else if (e->type.dt == F32)
            text_printf(t, "((union { uint32_t u; float f; }){0x%" PRIx32 "u}).f;\n", (uint32_t)e->bits);
        else text_printf(t, "((union { uint64_t u; double f; }){0x%" PRIx64 "u}).f;\n", e->bits);
        map_putp(done, e, (void *)name);
        return name;
    }
    text_printf(t, "  %s %s = (%s)", type, name, type);
    switch ((ExprKind)e->kind) {
    case E_ADD:
    case E_SUB:
    case E_MUL:
    case E_DIV:
    case E_AND:
    case E_OR:
    case E_XOR:
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE: {
        static const char *const spell[E_KINDS] = {
#define O(NAME, text, arity, result, form) [E_##NAME] = text,
#include "scalar.def"
#undef O
        };
        text_printf(t, "(%s %s %s);\n", a[0], spell[e->kind], a[1]);
        break;
    }
    case E_SHL:
        text_printf(t, "(%s >= %d ? 0 : %s << (%s & %d));\n", a[1], bits, a[0], a[1], bits - 1);
        break;
    case E_SHR: /* by the width: once by all but one, then by one */
        text_printf(t, "(%s >> (%s >= %d ? %d : %s) >> (%s >= %d));\n", a[0], a[1], bits, bits - 1, a[1],
                    a[1], bits);
        break;
    case E_NEG: text_printf(t, "-%s;\n", a[0]); break;
    case E_NOT: text_printf(t, "%s%s;\n", at == BOOL ? "!" : "~", a[0]); break;
    case E_ABS: text_printf(t, "%s%s(%s);\n", dt_float(at) ? "fabs" : "abs", f, a[0]); break;
    case E_FMA: text_printf(t, "fma%s(%s, %s, %s);\n", f, a[0], a[1], a[2]); break;
    case E_SQRT:
    case E_FLOOR:
    case E_CEIL:
    case E_TRUNC:
    case E_RINT: {
        static const char *const spell[] = {"sqrt", "floor", "ceil", "trunc", "rint"};
        text_printf(t, "%s%s(%s);\n", spell[e->kind - E_SQRT], f, a[0]);
        break;
    }
    case E_MIN:
    case E_MAX:
        if (dt_float(at)) gd_bug(c, "math_check does not print min and max of floats");
        text_printf(t, "(%s %c %s ? %s : %s);\n", a[0], e->kind == E_MIN ? '<' : '>', a[1], a[0], a[1]);
        break;
    case E_COPYSIGN: text_printf(t, "copysign%s(%s, %s);\n", f, a[0], a[1]); break;
    case E_ISNAN: text_printf(t, "(%s != %s);\n", a[0], a[0]); break;
    case E_SELECT: text_printf(t, "(%s ? %s : %s);\n", a[0], a[1], a[2]); break;
    case E_CAST: text_printf(t, "%s;\n", a[0]); break;
    case E_BITS: text_printf(t, "((union { %s a; %s b; }){%s}).b;\n", from, type, a[0]); break;
    default: gd_bug(c, "math_check does not print this instruction");
    }
    map_putp(done, e, (void *)name);
    return name;
}

typedef void Kernel(const void *x, const void *y, void *out, long n);

static Kernel *compile(Ctx *c, const char *name, DType dt, Expr *body, Var *const *param) {
    const char *type = gd_dtypes[dt].ctype, *tmp = getenv("TMPDIR");
    const char *dir = mkdtemp(gd_format(c, "%s/math_check.XXXXXX", tmp ? tmp : P_tmpdir));
    Text *t = text_new(c);
    Map *done = map_new(c);
    text_printf(t,
                "#include <math.h>\n#include <stdint.h>\n"
                "void kernel(const %s *restrict px, const %s *restrict py, %s *restrict out, long n) {\n"
                " for (long i = 0; i < n; i++) {\n  %s x = px[i], y = py[i];\n",
                type, type, type, type);
    map_putp(done, expr_var(c, param[0]), "x");
    map_putp(done, expr_var(c, param[1]), "y");
    const char *result = print_value(t, done, body);
    text_printf(t, "  out[i] = %s;\n (void)y; }\n}\n", result);
    if (!dir) gd_fail(c, 106, NULL, "no temporary directory");
    const char *src = gd_format(c, "%s/%s.c", dir, name), *so = gd_format(c, "%s/%s.so", dir, name);
    gd_write_file(c, src, t->s, t->n);
    const char *cc = getenv("CC") ? getenv("CC") : "cc";
    pid_t pid = fork();
    int status = 1;
    if (!pid) {
        execlp(cc, cc, "-O3", "-march=native", "-ffp-contract=off", "-fwrapv", "-fno-math-errno",
               "-fno-trapping-math", "-fPIC", "-shared", "-o", so, src, "-lm", (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0 || status) gd_fail(c, 701, NULL, "cannot compile %s", src);
    void *lib = dlopen(so, RTLD_NOW);
    if (!getenv("MATH_CHECK_KEEP")) {
        unlink(so);
        unlink(src);
        rmdir(dir);
    }
    Kernel *k = NULL;
    *(void **)&k = lib ? dlsym(lib, "kernel") : NULL;
    if (!k) gd_fail(c, 701, NULL, "cannot load %s", so);
    return k;
}

/* ---- measuring ---- */

typedef struct Check {
    const Reference *ref;
    DType dt;
    bool all_mpfr;
    mpfr_t mx, my, mr, md;
    double worst, worst_x, worst_y;
    int64_t wrong, total;
    double wrong_x, wrong_y;
} Check;

/* One unit in the last place of the dtype at v. */
static long double ulp(DType dt, long double v) {
    int e, bits = dt == F32 ? 24 : 53, least = dt == F32 ? -149 : -1074;
    if (v == 0) return ldexpl(1, least);
    frexpl(v, &e);
    return ldexpl(1, e - bits < least ? least : e - bits);
}

static long double error_mpfr(Check *k, double x, double y, double got) {
    mpfr_set_d(k->mx, x, MPFR_RNDN);
    mpfr_set_d(k->my, y, MPFR_RNDN);
    if (k->ref->m) k->ref->m(k->mr, k->mx, MPFR_RNDN);
    else k->ref->m2(k->mr, k->mx, k->my, MPFR_RNDN);
    mpfr_set_d(k->md, got, MPFR_RNDN);
    long double u = ulp(k->dt, mpfr_get_ld(k->mr, MPFR_RNDN));
    mpfr_sub(k->md, k->md, k->mr, MPFR_RNDN);
    return fabsl(mpfr_get_ld(k->md, MPFR_RNDN)) / u;
}

/* want: the reference, more exact than dt. An infinity stands for the first power of two past the range. */
static void compare(Check *k, double x, double y, double got, long double want) {
    long double past = k->dt == F32 ? 0x1p128L : ldexpl(1, 1024);
    bool special = isnan(want) || isinf(want) || want == 0;
    if (special || isnan(got) || signbit(got) != (signbit(want) != 0)) {
        bool same =
            isnan(want) ? isnan(got) : !isnan(got) && got == want && signbit(got) == (signbit(want) != 0);
        if (!same && !k->wrong++) {
            k->wrong_x = x;
            k->wrong_y = y;
        }
        return;
    }
    long double g = isinf(got) ? (got < 0 ? -past : past) : (long double)got;
    long double w = fabsl(want) > past ? (want < 0 ? -past : past) : want;
    long double e = fabsl(g - w) / ulp(k->dt, fabsl(w) == past ? w / 2 : w);
    if (!(e > k->worst)) return;
    if (!isinf(got) && fabsl(w) != past) e = error_mpfr(k, x, y, got);
    if (e > k->worst) {
        k->worst = (double)e;
        k->worst_x = x;
        k->worst_y = y;
    }
}

/* Surely right, or no worse than the worst so far? An ulp is at least 2^-24 (2^-53) of the value, and for f64
   the reference is rounded to f64 here, half an ulp off at most. False when in doubt. */
static bool within(const Check *k, double got, double want) {
    if (k->dt == F64) return fabs(got - want) < (k->worst - 1) * 0x1p-53 * fabs(want) && !isinf(want);
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
    if (signbit(got) != signbit(want)) return false;
    if (isinf(got)) return fabs(want) >= 0x1p128;
    if (got == 0) return fabs(want) < k->worst * 0x1p-149;
    return fabs(got - want) < k->worst * 0x1p-24 * fabs(want);
}

static long double want_of(Check *k, double x, double y) {
    const Reference *r = k->ref;
    if (k->all_mpfr) {
        mpfr_set_d(k->mx, x, MPFR_RNDN);
        mpfr_set_d(k->my, y, MPFR_RNDN);
        if (r->m) r->m(k->mr, k->mx, MPFR_RNDN);
        else r->m2(k->mr, k->mx, k->my, MPFR_RNDN);
        return mpfr_get_ld(k->mr, MPFR_RNDN);
    }
    if (k->dt == F32) return r->d ? r->d(x) : r->d2(x, y);
    return r->l ? r->l(x) : r->l2(x, y);
}

/* Inputs: any bits, or values of moderate size, or close to small fractions, or whole numbers. */
static uint64_t random_bits(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static uint64_t sample(DType dt, uint64_t *state) {
    static const double special[] = {0.0,
                                     -0.0,
                                     1.0,
                                     -1.0,
                                     2.0,
                                     0.5,
                                     INFINITY,
                                     -INFINITY,
                                     NAN,
                                     0x1p-1074,
                                     0x1p-149,
                                     0x1p-126,
                                     0x1p-1022,
                                     0x1.fffffep127,
                                     0x1.fffffffffffffp1023,
                                     3.0,
                                     -3.0,
                                     0.25,
                                     1e10,
                                     0x1p53};
    uint64_t r = random_bits(state), s = random_bits(state);
    double u = ldexp((double)(int64_t)r, -63);
    switch (s % 64) {
    case 0: return gd_to_bits(dt, special[(s >> 8) % (sizeof special / sizeof *special)]);
    case 1:
    case 2: return gd_to_bits(dt, rint(u * ldexp(1, (int)(s >> 8 & 15))));
    case 3:
    case 4: return gd_to_bits(dt, rint(u * 16) / 8 + ldexp(u, -(int)(s >> 8 & 63)));
    case 5:
    case 6:
    case 7: return gd_to_bits(dt, rint(u * 1000) * 0x1.921fb54442d18p0);
    default: break;
    }
    if (s % 64 < 24) return dt == F32 ? (uint32_t)r : r;
    return gd_to_bits(dt, ldexp(u, (int)(s >> 8) % 12));
}

/* The body by the interpreter's arithmetic, one node after the other. */
static uint64_t interpret(Ctx *c, Map *done, const Expr *e) {
    uint64_t *v = map_getp(done, e);
    if (v) return *v;
    uint64_t a[3] = {0}, out = e->bits;
    for (int i = 0; i < e->nargs; i++) a[i] = interpret(c, done, e->arg[i]);
    if (e->nargs) out = gd_eval((ExprKind)e->kind, (DType)e->arg[0]->type.dt, (DType)e->type.dt, a);
    v = gd_new(c, uint64_t);
    *v = out;
    map_putp(done, e, v);
    return out;
}

static void same_as_interpreter(Ctx *c, const char *name, DType dt, Expr *body, Var *const *p,
                                Kernel *kernel) {
    uint64_t state = 7;
    for (int i = 0; i < 4000; i++) {
        uint64_t x = sample(dt, &state), y = sample(dt, &state), got = 0;
        unsigned char mx[8], my[8], mo[8];
        Map *done = map_new(c);
        map_putp(done, expr_var(c, p[0]), &x);
        map_putp(done, expr_var(c, p[1]), &y);
        uint64_t want = interpret(c, done, body);
        gd_store_bits(dt, mx, x);
        gd_store_bits(dt, my, y);
        kernel(mx, my, mo, 1);
        got = gd_load_bits(dt, mo);
        if (got != want && !(isnan(gd_to_double(dt, got)) && isnan(gd_to_double(dt, want))))
            gd_bug(c, "%s: compiled and interpreted results differ at %a, %a", name, gd_to_double(dt, x),
                   gd_to_double(dt, y));
    }
}

typedef struct Job {
    const char *name;
    DType dt;
    int64_t count;
    bool all_mpfr, quick;
} Job;

static Kernel *kernel_of(Ctx *c, const char *name, DType dt) {
    Var *p[2];
    Expr *args[2];
    for (int i = 0; i < 2; i++)
        args[i] = expr_var(c, p[i] = var_new(c, V_LET, scalar(dt), i ? "y" : "x", 0, 0));
    Expr *body = gd_math_body(c, gd_math_row(name, dt), args);
    Kernel *kernel = compile(c, name, dt, body, p);
    same_as_interpreter(c, name, dt, body, p, kernel);
    return kernel;
}

static void widen(DType dt, const void *from, double *to) {
    if (dt == F64) memcpy(to, from, BLOCK * sizeof *to);
    else
        for (int i = 0; i < BLOCK; i++) to[i] = (double)((const float *)from)[i];
}

static void run(Ctx *c, void *arg) {
    const Job *job = arg;
    DType dt = job->dt;
    int arity = gd_math_arity(gd_math_row(job->name, dt)), size = gd_dtypes[dt].bytes;
    Kernel *kernel = kernel_of(c, job->name, dt);
    Check k = {.ref = reference_named(job->name), .dt = dt, .all_mpfr = job->all_mpfr, .worst = 0.5};
    mpfr_inits2(PRECISION, k.mx, k.my, k.mr, k.md, (mpfr_ptr)NULL);
    bool every = dt == F32 && arity == 1 && !job->count;
    Kernel *quick = job->quick && dt == F32 ? kernel_of(c, job->name, F64) : NULL;
    int64_t n = every ? (int64_t)1 << 32 : job->count ? job->count : 50000000;
    unsigned char *x = gd_alloc(c, BLOCK * 8), *y = gd_alloc(c, BLOCK * 8), *out = gd_alloc(c, BLOCK * 8);
    double *vx = gd_new_array(c, double, BLOCK), *vy = gd_new_array(c, double, BLOCK);
    double *got = gd_new_array(c, double, BLOCK), *want = gd_new_array(c, double, BLOCK);
    uint64_t state = 1;
    for (int64_t at = 0; at < n; at += BLOCK) {
        for (int i = 0; i < BLOCK; i++) {
            if (every) memcpy(x + 4 * i, &(uint32_t){(uint32_t)(at + i)}, 4);
            else gd_store_bits(dt, x + i * size, sample(dt, &state));
            if (arity == 2) gd_store_bits(dt, y + i * size, sample(dt, &state));
        }
        kernel(x, y, out, BLOCK);
        widen(dt, x, vx);
        widen(dt, y, vy);
        widen(dt, out, got);
        if (quick) quick(vx, vy, want, BLOCK);
        for (int i = 0; i < BLOCK; i++) {
            k.total++;
            if (quick && within(&k, got[i], want[i])) continue;
            long double w = want_of(&k, vx[i], vy[i]);
            if (!within(&k, got[i], (double)w)) compare(&k, vx[i], vy[i], got[i], w);
        }
    }
    printf("%-9s %s %11" PRId64 " inputs  worst %.4f ulp at %a", job->name, gd_dtypes[dt].name, k.total,
           k.worst, k.worst_x);
    if (arity == 2) printf(", %a", k.worst_y);
    if (k.wrong) printf("  WRONG %" PRId64 ", first %a, %a", k.wrong, k.wrong_x, k.wrong_y);
    printf("\n");
    fflush(stdout);
    mpfr_clears(k.mx, k.my, k.mr, k.md, (mpfr_ptr)NULL);
}

static int check(Job job) {
    Ctx *c = gd_open(NULL);
    if (!c) return EXIT_MEMORY;
    int status = gd_enter(c, run, &job);
    for (int i = 0; i < gd_error_count(c); i++) fprintf(stderr, "math_check: %s\n", gd_diag(c, i)->message);
    gd_close(c);
    return status;
}

int main(int argc, char **argv) {
    Job job = {0};
    int status = 0, named = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--count") && i + 1 < argc) {
            job.count = (int64_t)strtod(argv[++i], NULL);
            continue;
        }
        if (!strcmp(argv[i], "--quick")) {
            job.quick = true;
            continue;
        }
        if (!strcmp(argv[i], "--mpfr")) {
            job.all_mpfr = true;
            continue;
        }
        named++;
    }
    for (size_t r = 0; r < sizeof references / sizeof *references; r++)
        for (DType dt = F32; dt <= F64; dt = (DType)(dt + 1)) {
            bool wanted = !named;
            job.name = references[r].name;
            job.dt = dt;
            for (int i = 1; i < argc; i++) {
                size_t n = strcspn(argv[i], ":");
                wanted |= n == strlen(job.name) && !strncmp(argv[i], job.name, n) &&
                          (!argv[i][n] || gd_dtype_named(argv[i] + n + 1) == dt);
            }
            if (wanted && gd_math_row(job.name, dt) >= 0) status |= check(job);
        }
    return status;
}
