/* Elements of every dtype: the table, formats, integers, decimal text.

   The floats narrower than f32 are described by a row of numbers (bits, bias, what the top encodings mean)
   and handled by one encoder and one decoder over the bits of a double: no libm, no rounding mode, the same
   bits everywhere. */
#include "element.h"
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const GradcType gradc_types[GRADC_DTYPES] = {
    [GRADC_F32] = {"f32", 4, FLOAT, 32, 23, IEEE, 127},
    [GRADC_F64] = {"f64", 8, FLOAT, 64, 52, IEEE, 0},
    [GRADC_F16] = {"f16", 2, FLOAT, 16, 10, IEEE, 15},
    [GRADC_BF16] = {"bf16", 2, FLOAT, 16, 7, IEEE, 127},
    [GRADC_I8] = {"i8", 1, SIGNED, 8, 0, 0, 0},
    [GRADC_I16] = {"i16", 2, SIGNED, 16, 0, 0, 0},
    [GRADC_I32] = {"i32", 4, SIGNED, 32, 0, 0, 0},
    [GRADC_I64] = {"i64", 8, SIGNED, 64, 0, 0, 0},
    [GRADC_U8] = {"u8", 1, UNSIGNED, 8, 0, 0, 0},
    [GRADC_U16] = {"u16", 2, UNSIGNED, 16, 0, 0, 0},
    [GRADC_U32] = {"u32", 4, UNSIGNED, 32, 0, 0, 0},
    [GRADC_U64] = {"u64", 8, UNSIGNED, 64, 0, 0, 0},
    [GRADC_BOOL] = {"bool", 1, BOOLEAN, 1, 0, 0, 0},
    [GRADC_F8E4M3FN] = {"f8e4m3fn", 1, FLOAT, 8, 3, ONES_NAN, 7},
    [GRADC_F8E4M3FNUZ] = {"f8e4m3fnuz", 1, FLOAT, 8, 3, ZERO_NAN, 8},
    [GRADC_F8E5M2] = {"f8e5m2", 1, FLOAT, 8, 2, IEEE, 15},
    [GRADC_F8E5M2FNUZ] = {"f8e5m2fnuz", 1, FLOAT, 8, 2, ZERO_NAN, 16},
    [GRADC_F8E8M0] = {"f8e8m0", 1, FLOAT, 8, 0, POWER, 127},
    [GRADC_F4E2M1] = {"f4e2m1", 1, FLOAT, 4, 1, FINITE, 1},
    [GRADC_I4] = {"i4", 1, SIGNED, 4, 0, 0, 0},
    [GRADC_U4] = {"u4", 1, UNSIGNED, 4, 0, 0, 0},
    [GRADC_I2] = {"i2", 1, SIGNED, 2, 0, 0, 0},
    [GRADC_U2] = {"u2", 1, UNSIGNED, 2, 0, 0, 0},
    [GRADC_STRING] = {"string", sizeof(char *), TEXT, 0, 0, 0, 0},
    [GRADC_C64] = {"c64", 8, COMPLEX, 64, 0, 0, 0},
    [GRADC_C128] = {"c128", 16, COMPLEX, 128, 0, 0, 0},
};
/* ---- float formats ---- */

static double from_bits(uint64_t b) { double d; memcpy(&d, &b, sizeof d); return d; }
static uint64_t to_bits(double d) { uint64_t b; memcpy(&b, &d, sizeof b); return b; }
double gradc_power2(int k) { return from_bits((uint64_t)(k + 1023) << 52); }

static double decode(int dtype, unsigned bits) {
    const GradcType *type = &gradc_types[dtype];
    int m = type->mantissa, bias = type->bias, width = type->bits, top = type->top;
    unsigned ones = (1u << (width - 1)) - 1, sign = bits >> (width - 1) & 1, low = bits & ones;
    if (top == POWER) return bits == 255 ? NAN : gradc_power2((int)bits - bias);
    if (top == ZERO_NAN && sign && !low) return NAN;
    if (top == ONES_NAN && low == ones) return NAN;
    unsigned exponent = low >> m, fraction = low & ((1u << m) - 1);
    uint64_t s = (uint64_t)sign << 63;
    if (top == IEEE && low >> m == ones >> m) return from_bits(s | (fraction ? 0x7ff8ULL : 0x7ff0ULL) << 48);
    double v = exponent ? (double)(fraction + (1u << m)) * gradc_power2((int)exponent - bias - m)
                        : (double)fraction * gradc_power2(1 - bias - m);
    return from_bits(to_bits(v) | s);
}

/* The nearest encoding, ties to even. False when v is a number and has none: *out is then infinity, or the
   largest number where the format has no infinity; a NaN it cannot hold becomes 0. */
static bool encode(int dtype, double v, unsigned *out) {
    const GradcType *type = &gradc_types[dtype];
    int m = type->mantissa, bias = type->bias, width = type->bits, top = type->top;
    uint64_t bits = to_bits(v), fraction = bits & ((1ULL << 52) - 1);
    unsigned sign = (unsigned)(bits >> 63) << (width - 1), ones = (1u << (width - 1)) - 1;
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    if (top == POWER) {
        *out = isnan(v) ? 255u : (unsigned)(exponent + bias) & 255u;
        return isnan(v) || (v > 0 && !fraction && exponent >= -bias && exponent + bias < 255);
    }
    unsigned infinity = ones >> m << m, most = top == IEEE ? infinity - 1 : top == ONES_NAN ? ones - 1 : ones;
    if (isnan(v)) {
        *out = 1u << (width - 1);
        if (top == IEEE) *out = sign | infinity | 1u << (m - 1);
        if (top == ONES_NAN) *out = sign | ones;
        if (top == FINITE) *out = 0;
        return top != FINITE;
    }
    if (exponent == 1024) {
        *out = sign | (top == IEEE ? infinity : most);
        return top == IEEE;
    }
    int shift = 52 - m + (exponent < 1 - bias ? 1 - bias - exponent : 0);
    uint64_t magnitude = 0; /* below half of the smallest number; doubles below 2^-1022 are among those */
    if (shift < 54 && exponent > -1023) {
        uint64_t s = fraction | 1ULL << 52, rest = s & ((1ULL << shift) - 1), half = 1ULL << (shift - 1);
        magnitude = (s >> shift) + (rest > half || (rest == half && (s >> shift & 1)));
        if (exponent >= 1 - bias)
            magnitude += (uint64_t)(exponent - (1 - bias)) << m; /* the hidden bit is carried in */
    }
    bool fits = magnitude <= most;
    if (!fits) magnitude = top == IEEE ? infinity : most;
    *out = (unsigned)magnitude | sign;
    if (top == ZERO_NAN && !magnitude) *out = 0;
    return fits;
}

float gradc_f16_to_f32(uint16_t h) { return (float)decode(GRADC_F16, h); }
float gradc_bf16_to_f32(uint16_t h) { return (float)decode(GRADC_BF16, h); }
uint16_t gradc_f32_to_f16(float f) { unsigned u; encode(GRADC_F16, (double)f, &u); return (uint16_t)u; }
uint16_t gradc_f32_to_bf16(float f) { unsigned u; encode(GRADC_BF16, (double)f, &u); return (uint16_t)u; }

double gradc_get_float(int dtype, const void *p) {
    if (dtype == GRADC_F64) { double d; memcpy(&d, p, sizeof d); return d; }
    if (dtype == GRADC_F32) { float f; memcpy(&f, p, sizeof f); return (double)f; }
    if (gradc_types[dtype].size == 1) return decode(dtype, *(const unsigned char *)p);
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return decode(dtype, h);
}

bool gradc_put_float(int dtype, double v, float single, void *p) {
    if (dtype == GRADC_F64) { memcpy(p, &v, sizeof v); return true; }
    if (dtype == GRADC_F32) { memcpy(p, &single, sizeof single); return !isinf(single) || isinf(v); }
    unsigned u;
    bool fits = encode(dtype, v, &u);
    if (gradc_types[dtype].size == 1) { *(unsigned char *)p = (unsigned char)u; return fits; }
    uint16_t h = (uint16_t)u;
    memcpy(p, &h, sizeof h);
    return fits;
}

/* ---- integers ---- */

uint64_t gradc_get_unsigned(int dtype, const void *p) {
    uint64_t v = 0;
    switch (gradc_types[dtype].size) {
    case 1: v = *(const uint8_t *)p; break;
    case 2: { uint16_t u; memcpy(&u, p, 2); v = u; break; }
    case 4: { uint32_t u; memcpy(&u, p, 4); v = u; break; }
    default: memcpy(&v, p, 8);
    }
    return v;
}

int64_t gradc_get_signed(int dtype, const void *p) {
    switch (gradc_types[dtype].size) {
    case 1: return *(const int8_t *)p;
    case 2: { int16_t i; memcpy(&i, p, 2); return i; }
    case 4: { int32_t i; memcpy(&i, p, 4); return i; }
    default: { int64_t i; memcpy(&i, p, 8); return i; }
    }
}

bool gradc_put_integer(int dtype, bool negative, uint64_t magnitude, void *p) {
    int bits = gradc_types[dtype].bits;
    uint64_t top =
        gradc_types[dtype].kind == SIGNED ? (1ULL << (bits - 1)) - !negative : UINT64_MAX >> (64 - bits);
    if (negative && gradc_types[dtype].kind != SIGNED) top = 0;
    if (magnitude > top) return false;
    uint64_t v = negative ? 0 - magnitude : magnitude;
    switch (gradc_types[dtype].size) {
    case 1: *(uint8_t *)p = (uint8_t)v; break;
    case 2: { uint16_t u = (uint16_t)v; memcpy(p, &u, 2); break; }
    case 4: { uint32_t u = (uint32_t)v; memcpy(p, &u, 4); break; }
    default: memcpy(p, &v, 8);
    }
    return true;
}

/* ---- decimal text ---- */

double gradc_read_decimal(const char *s, float *single) {
    char buf[480];
    const char *point = localeconv()->decimal_point, *dot = strchr(s, '.');
    if (dot) snprintf(buf, sizeof buf, "%.*s%s%s", (int)(dot - s), s, point, dot + 1);
    else snprintf(buf, sizeof buf, "%s", s);
    *single = strtof(buf, NULL);
    return strtod(buf, NULL);
}

void gradc_write_decimal(char *buf, size_t size, int digits, double v) {
    snprintf(buf, size, "%.*g", digits, v);
    const char *point = localeconv()->decimal_point;
    char *at = strstr(buf, point);
    if (!at || !*point) return;
    *at = '.';
    memmove(at + 1, at + strlen(point), strlen(at + strlen(point)) + 1);
}
