/* What each scalar instruction means: the one evaluation that folding, the interpreter and the tests share.

   Elements travel as 64 bits: floats as their own bits, integers sign- or zero-extended, bool as 0 or 1. Everything is
   total (scalar.def says what x / 0 and the like give). Compiled with -ffp-contract=off and without fast-math, so one
   C operator is one IEEE operation. */
#include "expr.h"
#include <math.h>

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

static float f32_of(uint64_t b) { uint32_t u = (uint32_t)b; float f; memcpy(&f, &u, 4); return f; }
static double f64_of(uint64_t b) { double f; memcpy(&f, &b, 8); return f; }
static uint64_t of_f32(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static uint64_t of_f64(double f) { uint64_t u; memcpy(&u, &f, 8); return u; }

static int int_width(DType t) { return t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : 8 * gd_dtypes[t].bytes; }

/* Wraps to the width of t, keeping the invariant of the representation. */
static uint64_t wrap(DType t, uint64_t v) {
    if (t == BOOL) return v & 1;
    int drop = 64 - int_width(t);
    if (!drop) return v;
    return gd_dtypes[t].kind == DK_INT ? (uint64_t)((int64_t)(v << drop) >> drop) : v << drop >> drop;
}

/* The range of an integer type, for saturation. */
static int64_t int_lo(DType t) { return gd_dtypes[t].kind == DK_INT ? -(int64_t)(1ull << (int_width(t) - 1)) : 0; }
static uint64_t int_hi(DType t) {
    return t == BOOL ? 1 : ~0ull >> (64 - int_width(t) + (gd_dtypes[t].kind == DK_INT));
}

static uint64_t float_to_int(double v, DType t) {
    if (isnan(v)) return 0;
    if (t == BOOL) return v != 0;
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

#define FLOAT_EVAL(NAME, T, OF, TO, SUFFIX)                                                                   \
    static uint64_t NAME(ExprKind op, const uint64_t *v) {                                                   \
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

static uint64_t shift_right(DType t, uint64_t a, uint64_t by) {
    bool is_signed = gd_dtypes[t].kind == DK_INT;
    if (by >= (uint64_t)int_width(t)) return is_signed && (int64_t)a < 0 ? ~0ull : 0;
    return is_signed ? (uint64_t)((int64_t)a >> by) : a >> by;
}

/* Truncating and flooring division, 0 for a divisor of 0; the most negative number over -1 wraps to itself. */
static uint64_t divide(ExprKind op, DType t, uint64_t a, uint64_t b) {
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

static uint64_t eval_int(ExprKind op, DType t, const uint64_t *v) {
    uint64_t a = v[0], b = v[1];
    bool is_signed = gd_dtypes[t].kind == DK_INT;
    bool less = is_signed ? (int64_t)a < (int64_t)b : a < b;
    switch (op) {
    case E_ADD: return a + b;
    case E_SUB: return a - b;
    case E_MUL: return a * b;
    case E_DIV: case E_REM: case E_FDIV: case E_FMOD: return divide(op, t, a, b);
    case E_NEG: return 0 - a;
    case E_ABS: return is_signed && (int64_t)a < 0 ? 0 - a : a;
    case E_MIN: return less ? a : b;
    case E_MAX: return less ? b : a;
    case E_FMA: return a * b + v[2];
    case E_FLOOR: case E_CEIL: case E_TRUNC: case E_RINT: return a;
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

static uint64_t convert(DType from, DType to, uint64_t v) {
    if (dt_float(from)) {
        if (to == F64) return from == F64 ? v : of_f64((double)f32_of(v));
        if (to == F32) return from == F32 ? v : of_f32((float)f64_of(v));
        return float_to_int(from == F32 ? (double)f32_of(v) : f64_of(v), to);
    }
    bool is_signed = gd_dtypes[from].kind == DK_INT;
    if (to == F32) return of_f32(is_signed ? (float)(int64_t)v : (float)v);
    if (to == F64) return of_f64(is_signed ? (double)(int64_t)v : (double)v);
    return to == BOOL ? v != 0 : wrap(to, v);
}

uint64_t gd_eval(ExprKind op, DType arg, DType res, const uint64_t *a) {
    switch (op) {
    case E_SELECT: return a[0] ? a[1] : a[2];
    case E_SPLAT: return a[0];
    case E_CAST: return convert(arg, res, a[0]);
    case E_BITS: return dt_float(res) || dt_small(res) ? a[0] & (~0ull >> (64 - 8 * gd_dtypes[res].bytes)) : wrap(res, a[0]);
    default: break;
    }
    if (arg == F32) return eval_f32(op, a);
    if (arg == F64) return eval_f64(op, a);
    uint64_t r = eval_int(op, arg, a);
    return res == BOOL ? r & 1 : wrap(res, r);
}

void gd_eval_lanes(ExprKind op, DType arg, DType res, int lanes, uint64_t *out, const uint64_t *const *args) {
    for (int i = 0; i < lanes; i++) {
        uint64_t a[3] = {args[0][i], args[1] ? args[1][i] : 0, args[2] ? args[2][i] : 0};
        out[i] = gd_eval(op, arg, res, a);
    }
}

uint64_t gd_to_bits(DType t, double v) {
    if (t == F32) return of_f32((float)v);
    if (t == F64) return of_f64(v);
    return float_to_int(v, t);
}
double gd_to_double(DType t, uint64_t bits) {
    if (t == F32) return (double)f32_of(bits);
    if (t == F64) return f64_of(bits);
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
