/* What each scalar instruction means: the one evaluation that folding, the interpreter and the tests share.

   Elements travel as 64 bits: floats as their own bits, integers sign- or zero-extended, bool as 0 or 1.
   Everything is total (scalar.def says what x / 0 and the like give). Compiled with -ffp-contract=off and
   without fast-math, so one C operator is one IEEE operation.

   eval_f32, eval_f64 and eval_int are the meaning. The lane functions at the end are nothing but loops around
   them, one a type and operator, in which the compiler has folded the switch away. */
#include "expr.h"
#include <math.h>

#if defined(__GNUC__)
#define FOLDED static inline __attribute__((always_inline))
#else
#define FOLDED static inline
#endif

const DTypeRow gd_dtypes[DTYPES] = {
#define D(NAME, text, bytes, kind, ctype, onnx) {text, bytes, kind, ctype, onnx},
#include "dtype.def"
#undef D
};

DType gd_dtype_named(const char *name) {
    for (int t = 0; t < DTYPES; t++)
        if (!strcmp(gd_dtypes[t].name, name)) return (DType)t;
    return DT_NONE;
}
DType gd_dtype_from_onnx(int data_type) {
    for (int t = 0; t < DTYPES; t++)
        if (gd_dtypes[t].onnx == data_type) return (DType)t;
    return DT_NONE;
}

static float f32_of(uint64_t b) {
    uint32_t u = (uint32_t)b;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static double f64_of(uint64_t b) {
    double f;
    memcpy(&f, &b, 8);
    return f;
}
static uint64_t of_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static uint64_t of_f64(double f) {
    uint64_t u;
    memcpy(&u, &f, 8);
    return u;
}

FOLDED int int_width(DType t) {
    return t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : 8 * gd_dtypes[t].bytes;
}

/* Wraps to the width of t, keeping the invariant of the representation. */
FOLDED uint64_t wrap(DType t, uint64_t v) {
    if (t == BOOL) return v & 1;
    int drop = 64 - int_width(t);
    if (!drop) return v;
    return gd_dtypes[t].kind == DK_INT ? (uint64_t)((int64_t)(v << drop) >> drop) : v << drop >> drop;
}

/* The range of an integer type, for saturation. */
static int64_t int_lo(DType t) {
    return gd_dtypes[t].kind == DK_INT ? (int64_t)(~0ull << (int_width(t) - 1)) : 0;
}
static uint64_t int_hi(DType t) {
    return t == BOOL ? 1 : ~0ull >> (64 - int_width(t) + (gd_dtypes[t].kind == DK_INT));
}

static uint64_t float_to_int(double v, DType t) {
    if (t == BOOL) return v != 0;
    if (isnan(v)) return 0;
    v = trunc(v);
    if (v <= (double)int_lo(t)) return (uint64_t)int_lo(t);
    if (v >= (double)int_hi(t)) return int_hi(t);
    return v < 0 ? (uint64_t)(int64_t)v : (uint64_t)v;
}

static float min_f32(float a, float b) {
    if (isnan(a)) return a;
    if (isnan(b)) return b;
    return a < b || (a == b && signbit(a)) ? a : b;
}
static double min_f64(double a, double b) {
    if (isnan(a)) return a;
    if (isnan(b)) return b;
    return a < b || (a == b && signbit(a)) ? a : b;
}

#define FLOAT_EVAL(NAME, T, OF, TO, SUFFIX)                                                                  \
    FOLDED uint64_t NAME(ExprKind op, const uint64_t *v) {                                                   \
        T a = OF(v[0]), b = OF(v[1]), d = OF(v[2]);                                                          \
        switch (op) {                                                                                        \
        case E_ADD: return TO(a + b);                                                                        \
        case E_SUB: return TO(a - b);                                                                        \
        case E_MUL: return TO(a * b);                                                                        \
        case E_DIV: return TO(a / b);                                                                        \
        case E_REM: return TO(fmod##SUFFIX(a, b));                                                           \
        case E_NEG: return TO(-a);                                                                           \
        case E_ABS: return TO(fabs##SUFFIX(a));                                                              \
        case E_MIN: return TO(NAME##_min(a, b));                                                             \
        case E_MAX: return TO(-NAME##_min(-a, -b));                                                          \
        case E_FMA: return TO(fma##SUFFIX(a, b, d));                                                         \
        case E_SQRT: return TO(sqrt##SUFFIX(a));                                                             \
        case E_FLOOR: return TO(floor##SUFFIX(a));                                                           \
        case E_CEIL: return TO(ceil##SUFFIX(a));                                                             \
        case E_TRUNC: return TO(trunc##SUFFIX(a));                                                           \
        case E_RINT: return TO(rint##SUFFIX(a));                                                             \
        case E_COPYSIGN: return TO(copysign##SUFFIX(a, b));                                                  \
        case E_EQ: return a == b;                                                                            \
        case E_NE: return a != b;                                                                            \
        case E_LT: return a < b;                                                                             \
        case E_LE: return a <= b;                                                                            \
        case E_ISNAN: return isnan(a);                                                                       \
        default: return 0;                                                                                   \
        }                                                                                                    \
    }
#define eval_f32_min min_f32
#define eval_f64_min min_f64
FLOAT_EVAL(eval_f32, float, f32_of, of_f32, f)
FLOAT_EVAL(eval_f64, double, f64_of, of_f64, )

FOLDED uint64_t shift_right(DType t, uint64_t a, uint64_t by) {
    bool is_signed = gd_dtypes[t].kind == DK_INT;
    if (by >= (uint64_t)int_width(t)) return is_signed && (int64_t)a < 0 ? ~0ull : 0;
    return is_signed ? (uint64_t)((int64_t)a >> by) : a >> by;
}

/* Truncating and flooring division, 0 for a divisor of 0; the most negative number over -1 wraps to itself.
 */
FOLDED uint64_t divide(ExprKind op, DType t, uint64_t a, uint64_t b) {
    if (!b) return 0;
    if (gd_dtypes[t].kind != DK_INT) return op == E_DIV || op == E_FDIV ? a / b : a % b;
    int64_t x = (int64_t)a, y = (int64_t)b;
    if (y == -1) return op == E_DIV || op == E_FDIV ? 0 - a : 0;
    int64_t q = x / y, r = x % y;
    bool down = r && (r < 0) != (y < 0);
    switch (op) {
    case E_DIV: return (uint64_t)q;
    case E_REM: return (uint64_t)r;
    case E_FDIV: return (uint64_t)(q - down);
    default: return (uint64_t)(down ? r + y : r);
    }
}

FOLDED uint64_t eval_int(ExprKind op, DType t, const uint64_t *v) {
    uint64_t a = v[0], b = v[1];
    bool is_signed = gd_dtypes[t].kind == DK_INT;
    bool less = is_signed ? (int64_t)a < (int64_t)b : a < b;
    switch (op) {
    case E_ADD: return a + b;
    case E_SUB: return a - b;
    case E_MUL: return a * b;
    case E_DIV:
    case E_REM:
    case E_FDIV:
    case E_FMOD: return divide(op, t, a, b);
    case E_NEG: return 0 - a;
    case E_ABS: return is_signed && (int64_t)a < 0 ? 0 - a : a;
    case E_MIN: return less ? a : b;
    case E_MAX: return less ? b : a;
    case E_FMA: return a * b + v[2];
    case E_FLOOR:
    case E_CEIL:
    case E_TRUNC:
    case E_RINT: return a;
    case E_AND: return a & b;
    case E_OR: return a | b;
    case E_XOR: return a ^ b;
    case E_NOT: return ~a;
    case E_SHL: return b >= (uint64_t)int_width(t) ? 0 : a << b;
    case E_SHR: return shift_right(t, a, b);
    case E_EQ: return a == b;
    case E_NE: return a != b;
    case E_LT: return less;
    case E_LE: return !(is_signed ? (int64_t)b < (int64_t)a : b < a);
    default: return 0;
    }
}

/* ---- small floats ---- */

const SmallFormat gd_small_formats[DTYPES] = {
    [F16] = {5, 10, 15, SMALL_IEEE},      [BF16] = {8, 7, 127, SMALL_IEEE},  [F8E4M3FN] = {4, 3, 7, SMALL_FN},
    [F8E4M3FNUZ] = {4, 3, 8, SMALL_FNUZ}, [F8E5M2] = {5, 2, 15, SMALL_IEEE}, [F8E5M2FNUZ] = {5, 2, 16, SMALL_FNUZ},
    [F4E2M1] = {2, 1, 1, SMALL_FINITE}};

/* A power of two without sign: 2^(bits - 127), 255 is NaN. Halfway rounds up, as in ONNX's "nearest". */
static uint64_t to_e8m0(double v) {
    float f = (float)fabs(v);
    uint32_t u = (uint32_t)of_f32(f), exponent = u >> 23, rest = u & 0x7fffff;
    if (exponent == 255) return 255;
    return exponent + (rest > 0x400000 || (rest == 0x400000 && exponent));
}

/* Round to nearest even. v is an integer n times the distance 2^q of its neighbours; a carry out of n runs
   into the exponent by itself, and codes past the last finite one are an overflow. */
static uint64_t to_small(DType t, double v) {
    if (t == F8E8M0) return to_e8m0(v);
    const SmallFormat *f = &gd_small_formats[t];
    uint64_t ones = (1ull << (f->e + f->m)) - 1, sign = (uint64_t) !!signbit(v) << (f->e + f->m),
             inf = ones >> f->m << f->m;
    uint64_t nan = f->top == SMALL_IEEE ? sign | inf | 1ull << (f->m - 1) : f->top == SMALL_FNUZ ? ones + 1 : sign | ones;
    uint64_t last = f->top == SMALL_IEEE ? inf - 1 : f->top == SMALL_FN ? ones - 1 : ones;
    if (isnan(v)) return f->top == SMALL_FINITE ? ones : nan;
    uint64_t over = f->top == SMALL_IEEE ? sign | inf : f->top == SMALL_FINITE ? sign | ones : nan;
    if (isinf(v)) return over;
    int x;
    frexp(v, &x);
    bool denormal = v == 0 || x - 1 < 1 - f->bias;
    int q = (denormal ? 1 - f->bias : x - 1) - f->m;
    uint64_t bits, n = (uint64_t)rint(scalbn(fabs(v), -q));
    if (denormal) bits = n;
    else if (x - 1 + f->bias >= 1 << f->e) return over;
    else bits = ((uint64_t)(x - 1 + f->bias) << f->m) + n - (1ull << f->m);
    if (bits > last) return over;
    return !bits && f->top == SMALL_FNUZ ? 0 : sign | bits;
}

static double from_small(DType t, uint64_t v) {
    if (t == F8E8M0) return v == 255 ? (double)NAN : scalbn(1, (int)v - 127);
    const SmallFormat *f = &gd_small_formats[t];
    uint64_t ones = (1ull << (f->e + f->m)) - 1, mag = v & ones, inf = ones >> f->m << f->m;
    double sign = v > ones ? -1 : 1;
    int exponent = (int)(mag >> f->m), mantissa = (int)(mag & ((1u << f->m) - 1));
    if (f->top == SMALL_FNUZ ? v == ones + 1 : f->top == SMALL_FN ? mag == ones : f->top == SMALL_IEEE && mag > inf)
        return (double)NAN * sign;
    if (f->top == SMALL_IEEE && mag == inf) return sign * (double)INFINITY;
    if (!exponent) return sign * scalbn(mantissa, 1 - f->bias - f->m);
    return sign * scalbn(mantissa + (1 << f->m), exponent - f->bias - f->m);
}

/* ---- conversions ---- */

static uint64_t convert(DType from, DType to, uint64_t v) {
    if (from == to) return v;
    if (dt_float(from) || dt_small(from)) {
        double d = from == F32 ? (double)f32_of(v) : from == F64 ? f64_of(v) : from_small(from, v);
        return to == F32      ? of_f32((float)d)
               : to == F64    ? of_f64(d)
               : dt_small(to) ? to_small(to, d)
                              : float_to_int(d, to);
    }
    bool is_signed = gd_dtypes[from].kind == DK_INT;
    if (to == F32 || dt_small(to)) {
        float f = is_signed ? (float)(int64_t)v : (float)v;
        return to == F32 ? of_f32(f) : to_small(to, (double)f);
    }
    if (to == F64) return of_f64(is_signed ? (double)(int64_t)v : (double)v);
    return to == BOOL ? v != 0 : wrap(to, v);
}

uint64_t gd_eval(ExprKind op, DType arg, DType res, const uint64_t *a) {
    switch (op) {
    case E_SELECT: return a[0] ? a[1] : a[2];
    case E_SPLAT: return a[0];
    case E_CAST: return convert(arg, res, a[0]);
    case E_BITS:
        return dt_float(res) || dt_small(res) ? a[0] & (~0ull >> (64 - 8 * gd_dtypes[res].bytes))
                                              : wrap(res, a[0]);
    default: break;
    }
    if (arg == F32) return eval_f32(op, a);
    if (arg == F64) return eval_f64(op, a);
    uint64_t r = eval_int(op, arg, a);
    return res == BOOL ? r & 1 : wrap(res, r);
}

uint64_t gd_to_bits(DType t, double v) {
    if (t == F32) return of_f32((float)v);
    if (t == F64) return of_f64(v);
    return dt_small(t) ? to_small(t, v) : float_to_int(v, t);
}
double gd_to_double(DType t, uint64_t bits) {
    if (t == F32) return (double)f32_of(bits);
    if (t == F64) return f64_of(bits);
    if (dt_small(t)) return from_small(t, bits);
    return gd_dtypes[t].kind == DK_INT ? (double)(int64_t)bits : (double)bits;
}

uint64_t gd_load_bits(DType t, const void *p) {
    uint64_t v = 0;
    memcpy(&v, p, (size_t)(gd_dtypes[t].bytes > 8 ? 8 : gd_dtypes[t].bytes));
    return gd_dtypes[t].kind == DK_INT || gd_dtypes[t].kind == DK_UINT || t == BOOL ? wrap(t, v) : v;
}
void gd_store_bits(DType t, void *p, uint64_t bits) {
    memcpy(p, &bits, (size_t)(gd_dtypes[t].bytes > 8 ? 8 : gd_dtypes[t].bytes));
}

/* ---- lanes ---- */

#define EACH_LANE(NAME, VALUE)                                                                               \
    static void NAME(int n, uint64_t *out, const uint64_t *a, const uint64_t *b, const uint64_t *d) {        \
        for (int i = 0; i < n; i++) {                                                                        \
            uint64_t v[3] = {a[i], b[i], d[i]};                                                              \
            out[i] = VALUE;                                                                                  \
        }                                                                                                    \
    }
#define O(NAME, text, arity, result, form)                                                                   \
    EACH_LANE(f32_##NAME, eval_f32(E_##NAME, v))                                                             \
    EACH_LANE(f64_##NAME, eval_f64(E_##NAME, v)) EACH_LANE(i64_##NAME, eval_int(E_##NAME, I64, v))           \
        EACH_LANE(i32_##NAME, wrap(I32, eval_int(E_##NAME, I32, v)))                                         \
            EACH_LANE(u32_##NAME, wrap(U32, eval_int(E_##NAME, U32, v)))                                     \
                EACH_LANE(bool_##NAME, wrap(BOOL, eval_int(E_##NAME, BOOL, v)))
#include "scalar.def"
#undef O
EACH_LANE(select_lanes, v[0] ? v[1] : v[2])

GdLanes *gd_lanes(ExprKind op, DType arg) {
    static const struct {
        GdLanes *f32, *f64, *i64, *i32, *u32, *boolean;
    } fn[E_KINDS] = {
#define O(NAME, text, arity, result, form)                                                                   \
    [E_##NAME] = {f32_##NAME, f64_##NAME, i64_##NAME, i32_##NAME, u32_##NAME, bool_##NAME},
#include "scalar.def"
#undef O
    };
    if (op == E_SELECT) return select_lanes;
    if (op == E_CAST || op == E_BITS || op == E_SPLAT) return NULL;
    switch ((int)arg) {
    case F32: return fn[op].f32;
    case F64: return fn[op].f64;
    case I64: return fn[op].i64;
    case I32: return fn[op].i32;
    case U32: return fn[op].u32;
    case BOOL: return fn[op].boolean;
    default: return NULL;
    }
}

void gd_eval_lanes(ExprKind op, DType arg, DType res, int lanes, uint64_t *out, const uint64_t *const *args) {
    const uint64_t *a = args[0], *b = args[1] ? args[1] : a, *d = args[2] ? args[2] : a;
    GdLanes *fn = gd_lanes(op, arg);
    if (fn) {
        fn(lanes, out, a, b, d);
        return;
    }
    for (int i = 0; i < lanes; i++) {
        uint64_t v[3] = {a[i], b[i], d[i]};
        out[i] = gd_eval(op, arg, res, v);
    }
}
