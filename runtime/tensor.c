/* Tensors of every dtype: formats, making up data, reading a VALUE of the command line, printing.

   The floats narrower than f32 are described by a row of numbers (bits, bias, what the top encodings mean) and handled
   by one encoder and one decoder over the bits of a double: no libm, no rounding mode, the same bits everywhere. */
#define _POSIX_C_SOURCE 200809L
#include "tensor.h"
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { FLOAT, SIGNED, UNSIGNED, BOOLEAN, COMPLEX, TEXT };
/* What the top of a float's encodings means: IEEE infinity and NaNs, one NaN of all ones, a NaN in place of -0, or only
   numbers. POWER is E8M0: a bare exponent, all ones for NaN. */
enum { IEEE, ONES_NAN, ZERO_NAN, FINITE, POWER };

static const struct {
    const char *name;
    unsigned char size, kind, bits, mantissa, top;
    unsigned char bias;
} types[GRADC_DTYPES] = {
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

/* ---- errors ---- */

int gradc_error_status(int code) {
    switch (code) {
    case 0: return 0;
    case 601: case 602: return 2;
    case 501: case 505: return 4;
    case 101: case 106: return 5;
    case 506: return 6;
    case 901: return 70;
    default: return 1;
    }
}

int gradc_error(GradcError *e, int code, const char *help, const char *fmt, ...) {
    va_list ap;
    e->code = code;
    snprintf(e->help, sizeof e->help, "%s", help ? help : "");
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return gradc_error_status(code);
}

void gradc_error_print(FILE *f, const char *program, const GradcError *e) {
    fprintf(f, "%s: error[E%04d]: %s\n", program, e->code, e->text);
    if (e->help[0]) fprintf(f, "  help: %s\n", e->help);
}

/* ---- dtypes and shapes ---- */

static bool known(int dtype) { return dtype >= 0 && dtype < GRADC_DTYPES; }
const char *gradc_dtype_name(int dtype) { return known(dtype) ? types[dtype].name : "?"; }
size_t gradc_dtype_size(int dtype) { return known(dtype) ? types[dtype].size : 0; }
int gradc_dtype_named(const char *name) {
    for (int i = 0; i < GRADC_DTYPES; i++)
        if (!strcmp(types[i].name, name)) return i;
    return -1;
}

int gradc_shape_bytes(int dtype, int rank, const int64_t *dims, size_t *count, size_t *bytes, GradcError *e) {
    if (!known(dtype)) return gradc_error(e, 901, NULL, "%d is not a dtype", dtype);
    if (rank < 0 || rank > GRADC_MAX_RANK)
        return gradc_error(e, 505, NULL, "rank %d: at most %d axes are supported", rank, (int)GRADC_MAX_RANK);
    uint64_t most = (PTRDIFF_MAX - GRADC_ALIGN) / types[dtype].size, n = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) return gradc_error(e, 603, NULL, "dim %d is negative (%lld)", i, (long long)dims[i]);
        if (!dims[i]) { empty = true; continue; }
        if ((uint64_t)dims[i] > most / n)
            return gradc_error(e, 505, NULL, "a shape of more elements than this machine can address");
        n *= (uint64_t)dims[i];
    }
    *count = empty ? 0 : (size_t)n;
    *bytes = *count * types[dtype].size;
    return 0;
}

char *gradc_shape_text(char *buf, size_t size, int dtype, int rank, const int64_t *dims) {
    size_t at = (size_t)snprintf(buf, size, "%s[", gradc_dtype_name(dtype));
    for (int i = 0; i < rank && at < size; i++) {
        char dim[24] = "?";
        if (dims[i] >= 0) snprintf(dim, sizeof dim, "%lld", (long long)dims[i]);
        at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? "," : "", dim);
    }
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

int gradc_tensor_new(GradcTensor *t, int dtype, int rank, const int64_t *dims, GradcError *e) {
    size_t count, bytes;
    *t = (GradcTensor){0};
    int status = gradc_shape_bytes(dtype, rank, dims, &count, &bytes, e);
    if (status) return status;
    void *data = NULL;
    if (posix_memalign(&data, GRADC_ALIGN, bytes ? bytes : 1))
        return gradc_error(e, 506, NULL, "out of memory for a tensor of %zu bytes", bytes);
    t->dtype = dtype;
    t->rank = rank;
    for (int i = 0; i < rank; i++) t->dims[i] = dims[i];
    t->data = data;
    t->bytes = bytes;
    t->owned = true;
    return 0;
}

/* Bytes of the characters behind the pointers of a tensor of strings. */
static size_t text_bytes(const GradcTensor *t) {
    size_t n = 0;
    const char *const *s = t->data;
    if (types[t->dtype].kind == TEXT)
        for (size_t i = 0; i < t->bytes / sizeof *s; i++) n += strlen(s[i]) + 1;
    return n;
}

int gradc_tensor_copy(GradcTensor *to, const GradcTensor *from, GradcError *e) {
    size_t more = text_bytes(from);
    void *data = NULL;
    *to = (GradcTensor){0};
    if (posix_memalign(&data, GRADC_ALIGN, from->bytes + more + 1))
        return gradc_error(e, 506, NULL, "out of memory for a tensor of %zu bytes", from->bytes + more);
    *to = *from;
    to->data = data;
    to->owned = true;
    if (!more) {
        memcpy(data, from->data, from->bytes);
        return 0;
    }
    const char *const *s = from->data, **copy = data;
    char *text = (char *)data + from->bytes;
    for (size_t i = 0; i < from->bytes / sizeof *s; i++) {
        size_t n = strlen(s[i]) + 1;
        copy[i] = memcpy(text, s[i], n);
        text += n;
    }
    return 0;
}

void gradc_tensor_free(GradcTensor *t) {
    if (t->owned) free(t->data);
    *t = (GradcTensor){0};
}

size_t gradc_tensor_count(const GradcTensor *t) { return t->data ? t->bytes / gradc_dtype_size(t->dtype) : 0; }

/* ---- float formats ---- */

static double from_bits(uint64_t b) { double d; memcpy(&d, &b, sizeof d); return d; }
static uint64_t to_bits(double d) { uint64_t b; memcpy(&b, &d, sizeof b); return b; }
static double power(int k) { return from_bits((uint64_t)(k + 1023) << 52); } /* 2^k, for normal results */

static double decode(int dtype, unsigned bits) {
    int m = types[dtype].mantissa, bias = types[dtype].bias, width = types[dtype].bits, top = types[dtype].top;
    unsigned ones = (1u << (width - 1)) - 1, sign = bits >> (width - 1) & 1, low = bits & ones;
    if (top == POWER) return bits == 255 ? NAN : power((int)bits - bias);
    if (top == ZERO_NAN && sign && !low) return NAN;
    if (top == ONES_NAN && low == ones) return NAN;
    unsigned exponent = low >> m, fraction = low & ((1u << m) - 1);
    uint64_t s = (uint64_t)sign << 63;
    if (top == IEEE && low >> m == ones >> m) return from_bits(s | (fraction ? 0x7ff8ULL : 0x7ff0ULL) << 48);
    double v = exponent ? (double)(fraction + (1u << m)) * power((int)exponent - bias - m)
                        : (double)fraction * power(1 - bias - m);
    return from_bits(to_bits(v) | s);
}

/* The nearest encoding, ties to even. False when v is a number and has none: *out is then infinity, or the largest
   number where the format has no infinity; a NaN it cannot hold becomes 0. */
static bool encode(int dtype, double v, unsigned *out) {
    int m = types[dtype].mantissa, bias = types[dtype].bias, width = types[dtype].bits, top = types[dtype].top;
    uint64_t bits = to_bits(v), fraction = bits & ((1ULL << 52) - 1);
    unsigned sign = (unsigned)(bits >> 63) << (width - 1), ones = (1u << (width - 1)) - 1;
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    if (top == POWER) {
        *out = isnan(v) ? 255u : (unsigned)(exponent + bias) & 255u;
        return isnan(v) || (v > 0 && !fraction && exponent >= -bias && exponent + bias < 255);
    }
    unsigned infinity = ones >> m << m, most = top == IEEE ? infinity - 1 : top == ONES_NAN ? ones - 1 : ones;
    if (isnan(v)) {
        *out = top == IEEE ? sign | infinity | 1u << (m - 1) : top == ONES_NAN ? sign | ones : 1u << (width - 1);
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
        if (exponent >= 1 - bias) magnitude += (uint64_t)(exponent - (1 - bias)) << m; /* the hidden bit is carried in */
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

static double get_float(int dtype, const void *p) {
    if (dtype == GRADC_F64) { double d; memcpy(&d, p, sizeof d); return d; }
    if (dtype == GRADC_F32) { float f; memcpy(&f, p, sizeof f); return (double)f; }
    if (types[dtype].size == 1) return decode(dtype, *(const unsigned char *)p);
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return decode(dtype, h);
}

/* single is v rounded once more from its source where that matters (decimal text), else (float)v. */
static bool put_float(int dtype, double v, float single, void *p) {
    if (dtype == GRADC_F64) { memcpy(p, &v, sizeof v); return true; }
    if (dtype == GRADC_F32) { memcpy(p, &single, sizeof single); return !isinf(single) || isinf(v); }
    unsigned u;
    bool fits = encode(dtype, v, &u);
    if (types[dtype].size == 1) { *(unsigned char *)p = (unsigned char)u; return fits; }
    uint16_t h = (uint16_t)u;
    memcpy(p, &h, sizeof h);
    return fits;
}

/* ---- integers ---- */

static uint64_t get_unsigned(int dtype, const void *p) {
    uint64_t v = 0;
    switch (types[dtype].size) {
    case 1: v = *(const uint8_t *)p; break;
    case 2: { uint16_t u; memcpy(&u, p, 2); v = u; break; }
    case 4: { uint32_t u; memcpy(&u, p, 4); v = u; break; }
    default: memcpy(&v, p, 8);
    }
    return v;
}

static int64_t get_signed(int dtype, const void *p) {
    switch (types[dtype].size) {
    case 1: return *(const int8_t *)p;
    case 2: { int16_t i; memcpy(&i, p, 2); return i; }
    case 4: { int32_t i; memcpy(&i, p, 4); return i; }
    default: { int64_t i; memcpy(&i, p, 8); return i; }
    }
}

static bool put_integer(int dtype, bool negative, uint64_t magnitude, void *p) {
    int bits = types[dtype].bits;
    uint64_t top = types[dtype].kind == SIGNED ? (1ULL << (bits - 1)) - !negative : UINT64_MAX >> (64 - bits);
    if (negative && types[dtype].kind != SIGNED) top = 0;
    if (magnitude > top) return false;
    uint64_t v = negative ? 0 - magnitude : magnitude;
    switch (types[dtype].size) {
    case 1: *(uint8_t *)p = (uint8_t)v; break;
    case 2: { uint16_t u = (uint16_t)v; memcpy(p, &u, 2); break; }
    case 4: { uint32_t u = (uint32_t)v; memcpy(p, &u, 4); break; }
    default: memcpy(p, &v, 8);
    }
    return true;
}

/* ---- random data ---- */

void gradc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* A word as k * 2^-m - 1 with as many bits as the format (or f32) holds: exact, so rounding never reaches 1. */
static double uniform(int dtype, uint32_t word) {
    int m = types[dtype].mantissa < 23 ? types[dtype].mantissa : 23;
    if (types[dtype].top == POWER) return power(-(int)(word >> 30));
    return (double)(word >> (31 - m)) * power(-m) - 1;
}

static void put_random(int dtype, uint32_t word, void *p) {
    int bits = types[dtype].bits;
    if (types[dtype].kind == FLOAT) {
        double v = uniform(dtype, word);
        put_float(dtype, v, (float)v, p);
        return;
    }
    int positive = types[dtype].kind == SIGNED ? bits - 1 : bits;
    uint64_t kinds = positive < 4 ? 1ULL << positive : 10;
    put_integer(dtype, false, word * kinds >> 32, p);
}

int gradc_tensor_random(GradcTensor *t, uint64_t seed, GradcError *e) {
    if (t->dtype == GRADC_STRING) return gradc_error(e, 603, NULL, "there are no random strings");
    int part = t->dtype == GRADC_C64 ? GRADC_F32 : t->dtype == GRADC_C128 ? GRADC_F64 : t->dtype;
    size_t size = types[part].size, n = t->bytes / size;
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, words[4] = {0};
    for (size_t i = 0; i < n; i++) {
        uint64_t block = (uint64_t)i / 4;
        uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
        if (i % 4 == 0) gradc_philox(counter, key, words);
        put_random(part, words[i % 4], (char *)t->data + i * size);
    }
    return 0;
}

/* ---- decimal text. strtod and printf speak the locale of the host program; a VALUE always has a point ---- */

static double read_decimal(const char *s, float *single) {
    char buf[480];
    const char *point = localeconv()->decimal_point, *dot = strchr(s, '.');
    if (dot) snprintf(buf, sizeof buf, "%.*s%s%s", (int)(dot - s), s, point, dot + 1);
    else snprintf(buf, sizeof buf, "%s", s);
    *single = strtof(buf, NULL);
    return strtod(buf, NULL);
}

static void write_decimal(char *buf, size_t size, int digits, double v) {
    snprintf(buf, size, "%.*g", digits, v);
    const char *point = localeconv()->decimal_point;
    char *at = strstr(buf, point);
    if (!at || !*point) return;
    *at = '.';
    memmove(at + 1, at + strlen(point), strlen(at + strlen(point)) + 1);
}

/* ---- printing ---- */

static void float_text(char *buf, size_t size, int dtype, const void *p) {
    double v = get_float(dtype, p);
    if (isnan(v) || isinf(v)) { snprintf(buf, size, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf"); return; }
    if (v > -1e7 && v < 1e7 && v == (double)(int64_t)v) { snprintf(buf, size, "%.0f", v); return; }
    for (int digits = 1; digits <= 17; digits++) {
        unsigned char again[8];
        float single;
        write_decimal(buf, size, digits, v);
        double back = read_decimal(buf, &single);
        put_float(dtype, back, single, again);
        if (!memcmp(again, p, types[dtype].size)) return;
    }
}

static void print_text(FILE *f, const char *s) {
    putc('"', f);
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < ' ' || c == 127) fprintf(f, "\\x%02x", c);
        else putc(c, f);
    }
    putc('"', f);
}

static void print_element(FILE *f, int dtype, const char *p) {
    char buf[64];
    switch (types[dtype].kind) {
    case SIGNED: fprintf(f, "%lld", (long long)get_signed(dtype, p)); return;
    case UNSIGNED: fprintf(f, "%llu", (unsigned long long)get_unsigned(dtype, p)); return;
    case BOOLEAN: fputs(*p ? "true" : "false", f); return;
    case TEXT: { const char *s; memcpy(&s, p, sizeof s); print_text(f, s); return; }
    case COMPLEX: {
        int part = dtype == GRADC_C64 ? GRADC_F32 : GRADC_F64;
        float_text(buf, sizeof buf, part, p);
        fputs(buf, f);
        float_text(buf, sizeof buf, part, p + types[part].size);
        fprintf(f, "%s%sj", buf[0] == '-' ? "" : "+", buf);
        return;
    }
    default: float_text(buf, sizeof buf, dtype, p); fputs(buf, f);
    }
}

/* Prints the axes from `axis` on; edge < 0 shows everything. Returns the element after the block. */
static const char *print_axis(FILE *f, const GradcTensor *t, int axis, const char *p, int64_t edge) {
    size_t stride = gradc_dtype_size(t->dtype);
    if (axis == t->rank) { print_element(f, t->dtype, p); return p + stride; }
    for (int i = axis + 1; i < t->rank; i++) stride *= (size_t)t->dims[i];
    int64_t n = t->dims[axis];
    putc('[', f);
    for (int64_t i = 0; i < n; i++) {
        if (i) fputs(", ", f);
        if (edge >= 0 && n > 2 * edge && i == edge) {
            fputs("..., ", f);
            i = n - edge;
        }
        print_axis(f, t, axis + 1, p + (size_t)i * stride, edge);
    }
    putc(']', f);
    return p;
}

void gradc_tensor_print(FILE *f, const char *name, const GradcTensor *t, size_t limit) {
    char shape[512];
    int wide = 0;
    for (int i = 0; i < t->rank; i++) wide += t->dims[i] > 2;
    fprintf(f, "%s %s = ", name, gradc_shape_text(shape, sizeof shape, t->dtype, t->rank, t->dims));
    if (!gradc_tensor_count(t)) { /* its other axes may be long: brackets alone would fill the terminal */
        fputs("[]\n", f);
        return;
    }
    int64_t edge = gradc_tensor_count(t) <= limit ? -1 : wide <= 2 ? 3 : wide == 3 ? 2 : 1;
    print_axis(f, t, 0, t->data, edge);
    putc('\n', f);
}

/* ---- reading a VALUE ---- */

typedef struct Parser {
    const char *value, *p; /* the whole text, and where we are */
    int dtype, rank;       /* rank: -1 until the first element or empty list tells */
    int64_t dims[GRADC_MAX_RANK];
    char *elements, *pool; /* a string element is an offset into the pool while both grow */
    size_t bytes, room, pool_bytes, pool_room;
    GradcError *e;
} Parser;

static int bad(Parser *q, const char *what) {
    return gradc_error(q->e, 601, "a value is @FILE.npy, rand, rand:SEED, zeros, ones, 3, \"text\", [1,2,3] or [1,2;3,4]",
                       "%.100s: %s at column %d", q->value, what, (int)(q->p - q->value) + 1);
}

static int append(Parser *q, char **to, size_t *n, size_t *room, const void *from, size_t size) {
    if (*room - *n < size) {
        size_t want = *room ? 2 * *room : 256;
        while (want - *n < size) want *= 2;
        char *grown = realloc(*to, want);
        if (!grown) return gradc_error(q->e, 506, NULL, "out of memory for a value");
        *to = grown;
        *room = want;
    }
    memcpy(*to + *n, from, size);
    *n += size;
    return 0;
}

static void skip(Parser *q) {
    while (*q->p == ' ' || *q->p == '\t' || *q->p == '\n' || *q->p == '\r') q->p++;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static int hex_digit(char c) {
    return digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
static bool word(Parser *q, const char *w) {
    size_t n = strlen(w);
    if (strncmp(q->p, w, n) || digit(q->p[n]) || letter(q->p[n])) return false;
    q->p += n;
    return true;
}

/* A number as written, before it meets a dtype. whole: magnitude is exact. */
typedef struct Number { double v; float single; bool negative, whole; uint64_t magnitude; } Number;

static void apply_sign(Number *n) {
    if (n->negative) n->v = -n->v, n->single = -n->single;
}

static int read_hex(Parser *q, Number *n) {
    const char *start = q->p;
    for (int d; (d = hex_digit(*q->p)) >= 0; q->p++) {
        if (n->magnitude >> 60) return bad(q, "a number of more than 64 bits");
        n->magnitude = n->magnitude << 4 | (uint64_t)d;
    }
    if (q->p == start) return bad(q, "hexadecimal digits are missing");
    n->whole = true;
    n->v = (double)n->magnitude;
    n->single = (float)n->magnitude;
    apply_sign(n);
    return 0;
}

static int read_digits(Parser *q, Number *n) {
    const char *start = q->p;
    bool plain = true;
    int seen = 0;
    n->whole = true;
    for (; digit(*q->p); q->p++, seen++) {
        uint64_t d = (uint64_t)(*q->p - '0');
        if (n->magnitude > (UINT64_MAX - d) / 10) n->whole = false;
        else n->magnitude = n->magnitude * 10 + d;
    }
    if (*q->p == '.')
        for (plain = false, q->p++; digit(*q->p); q->p++) seen++;
    if (!seen) return bad(q, "a number is expected");
    if (*q->p == 'e' || *q->p == 'E') {
        plain = false;
        q->p++;
        if (*q->p == '-' || *q->p == '+') q->p++;
        if (!digit(*q->p)) return bad(q, "an exponent is expected");
        while (digit(*q->p)) q->p++;
    }
    char buf[400];
    if ((size_t)(q->p - start) >= sizeof buf) return bad(q, "too long a number");
    memcpy(buf, start, (size_t)(q->p - start));
    buf[q->p - start] = 0;
    n->v = read_decimal(buf, &n->single);
    if (!plain) { /* 1e3 and 3.0 are integers too, as far as a double is exact about it */
        n->whole = n->v < 9007199254740992.0 && n->v == (double)(uint64_t)n->v;
        n->magnitude = n->whole ? (uint64_t)n->v : 0;
    }
    apply_sign(n);
    return isinf(n->v) ? bad(q, "a number too large for any type") : 0;
}

static int read_number(Parser *q, Number *n) {
    *n = (Number){0};
    if (*q->p == '-' || *q->p == '+') n->negative = *q->p++ == '-';
    bool infinite = !strncmp(q->p, "inf", 3);
    if (infinite || !strncmp(q->p, "nan", 3)) { /* a j may follow */
        q->p += 3;
        n->v = n->single = infinite ? INFINITY : NAN;
        apply_sign(n);
        return 0;
    }
    if (q->p[0] == '0' && (q->p[1] == 'x' || q->p[1] == 'X')) {
        q->p += 2;
        return read_hex(q, n);
    }
    return read_digits(q, n);
}

static int misfit(Parser *q, const char *start) {
    return gradc_error(q->e, 603, NULL, "%.*s does not fit in %s", (int)(q->p - start > 60 ? 60 : q->p - start), start,
                       gradc_dtype_name(q->dtype));
}

static int read_complex(Parser *q, char *out) {
    const char *start = q->p;
    int part = q->dtype == GRADC_C64 ? GRADC_F32 : GRADC_F64;
    Number parts[2] = {{0}}, n;
    int status = read_number(q, &n);
    if (status) return status;
    bool imaginary = *q->p == 'j';
    parts[imaginary] = n;
    if (imaginary) q->p++;
    else if (*q->p == '+' || *q->p == '-') {
        if ((status = read_number(q, &parts[1]))) return status;
        if (*q->p++ != 'j') { q->p--; return bad(q, "j is expected"); }
    }
    for (int i = 0; i < 2; i++)
        if (!put_float(part, parts[i].v, parts[i].single, out + (size_t)i * types[part].size)) return misfit(q, start);
    return 0;
}

static int read_text(Parser *q, char *out) {
    size_t offset = q->pool_bytes;
    if (*q->p != '"') return bad(q, "a \"text\" is expected");
    for (q->p++; *q->p != '"'; q->p++) {
        char c = *q->p;
        if (!c) return bad(q, "the closing \" is missing");
        if (c == '\\') {
            c = *++q->p;
            if (c == 'n') c = '\n';
            else if (c == 't') c = '\t';
            else if (c == 'x') {
                int high = hex_digit(q->p[1]), low = high < 0 ? -1 : hex_digit(q->p[2]);
                if (low < 0 || !(high | low)) return bad(q, "two hexadecimal digits, not 00, are expected");
                c = (char)(16 * high + low);
                q->p += 2;
            } else if (c != '"' && c != '\\') return bad(q, "an unknown escape");
        }
        int status = append(q, &q->pool, &q->pool_bytes, &q->pool_room, &c, 1);
        if (status) return status;
    }
    q->p++;
    memcpy(out, &offset, sizeof offset);
    return append(q, &q->pool, &q->pool_bytes, &q->pool_room, "", 1);
}

/* One element into out, of room for the largest dtype. */
static int read_element(Parser *q, char *out) {
    const char *start = q->p;
    Number n;
    int kind = types[q->dtype].kind;
    if (kind == TEXT) return read_text(q, out);
    if (kind == COMPLEX) return read_complex(q, out);
    bool truth = word(q, "true");
    if (truth || word(q, "false")) {
        if (kind != BOOLEAN) return misfit(q, start);
        *out = truth;
        return 0;
    }
    int status = read_number(q, &n);
    if (status) return status;
    bool fits = kind == FLOAT ? put_float(q->dtype, n.v, n.single, out)
                              : n.whole && put_integer(q->dtype, n.negative, n.magnitude, out);
    return fits ? 0 : misfit(q, start);
}

/* Whether the list at p (on its bracket) separates rows by semicolons of its own level. */
static bool has_rows(const char *p) {
    int depth = 0;
    for (bool quoted = false; *p; p++) {
        if (*p == '\\' && quoted && p[1]) p++;
        else if (*p == '"') quoted = !quoted;
        else if (quoted) continue;
        else if (*p == '[') depth++;
        else if (*p == ']' && !--depth) return false;
        else if (*p == ';' && depth == 1) return true;
    }
    return false;
}

static int set_rank(Parser *q, int rank) {
    if (q->rank >= 0 && q->rank != rank) return bad(q, "lists are nested to different depths");
    q->rank = rank;
    return 0;
}

static int set_dim(Parser *q, int axis, int64_t n) {
    if (q->dims[axis] >= 0 && q->dims[axis] != n) return bad(q, "rows differ in length");
    q->dims[axis] = n;
    return 0;
}

/* Recursion ends at GRADC_MAX_RANK: each level is an axis. */
static int read_list(Parser *q, int axis) {
    bool rows = has_rows(q->p);
    int64_t row = 0, n = 0;
    int status, last = axis + rows;
    if (last >= GRADC_MAX_RANK) return bad(q, "lists are nested too deep");
    q->p++;
    skip(q);
    if (*q->p == ']') {
        q->p++;
        status = set_rank(q, axis + 1);
        return status ? status : set_dim(q, axis, 0);
    }
    for (;;) {
        char element[16];
        skip(q);
        if (*q->p == '[') status = read_list(q, last + 1);
        else if (!(status = set_rank(q, last + 1)) && !(status = read_element(q, element)))
            status = append(q, &q->elements, &q->bytes, &q->room, element, types[q->dtype].size);
        if (status) return status;
        n++;
        skip(q);
        char c = *q->p;
        if (c != ',' && c != ';' && c != ']') return bad(q, c ? ", or ] is expected" : "the closing ] is missing");
        if (c != ',' && rows) {
            if ((status = set_dim(q, last, n))) return status;
            row++;
            n = 0;
        }
        q->p++;
        if (c == ']') return set_dim(q, axis, rows ? row : n);
    }
}

static const char *wanted(const GradcWant *w, char *buf, size_t size) {
    return w->text ? w->text : gradc_shape_text(buf, size, w->dtype, w->rank, w->dims);
}

static int compare_shape(const GradcTensor *t, const GradcWant *w, GradcError *e) {
    char have[512], want[512];
    bool same = t->dtype == w->dtype && t->rank == w->rank;
    for (int i = 0; same && i < w->rank; i++) same = w->dims[i] < 0 || w->dims[i] == t->dims[i];
    if (same) return 0;
    const char *help = t->dtype == w->dtype ? NULL : "convert it where it was made (NumPy: x.astype)";
    return gradc_error(e, 603, help, "it is %.200s, but %.200s is wanted",
                       gradc_shape_text(have, sizeof have, t->dtype, t->rank, t->dims), wanted(w, want, sizeof want));
}

/* A list of lower rank lacks leading axes of one row. `[]` stands for any shape without elements. */
static void raise_rank(GradcTensor *t, const GradcWant *w) {
    int more = w->rank - t->rank;
    if (t->rank == 1 && !t->bytes) {
        bool empty = false;
        for (int i = 0; i < w->rank; i++) empty = empty || w->dims[i] <= 0;
        if (!empty) return;
        for (int i = 0; i < w->rank; i++) t->dims[i] = w->dims[i] < 0 ? 0 : w->dims[i];
        t->rank = w->rank;
    } else if (more > 0) {
        memmove(t->dims + more, t->dims, (size_t)t->rank * sizeof *t->dims);
        for (int i = 0; i < more; i++) t->dims[i] = 1;
        t->rank = w->rank;
    }
}

/* Offsets become pointers into a pool behind the elements. */
static int attach_pool(GradcTensor *t, const char *pool, size_t pool_bytes, GradcError *e) {
    char *data = NULL, *strings;
    void *raw = NULL;
    if (posix_memalign(&raw, GRADC_ALIGN, t->bytes + pool_bytes + 1))
        return gradc_error(e, 506, NULL, "out of memory for a tensor of strings");
    data = raw;
    strings = data + t->bytes;
    if (pool_bytes) memcpy(strings, pool, pool_bytes);
    for (size_t i = 0; i < t->bytes; i += sizeof(char *)) {
        size_t offset;
        memcpy(&offset, (char *)t->data + i, sizeof offset);
        const char *s = strings + offset;
        memcpy(data + i, &s, sizeof s);
    }
    free(t->data);
    t->data = data;
    return 0;
}

static int parse_list(GradcTensor *t, Parser *q, const GradcWant *w) {
    int status = read_list(q, 0);
    skip(q);
    if (!status && *q->p) status = bad(q, "text after the closing ]");
    if (!status) status = gradc_tensor_new(t, q->dtype, q->rank, q->dims, q->e);
    if (status) return status;
    if (q->bytes) memcpy(t->data, q->elements, q->bytes);
    raise_rank(t, w);
    return compare_shape(t, w, q->e);
}

static int new_filled(GradcTensor *t, const GradcWant *w, GradcError *e) {
    int64_t dims[GRADC_MAX_RANK];
    for (int i = 0; i < w->rank; i++)
        dims[i] = w->dims[i] >= 0 ? w->dims[i] : w->sizes ? w->sizes[i] : 1;
    return gradc_tensor_new(t, w->dtype, w->rank, dims, e);
}

static int parse_random(GradcTensor *t, Parser *q, const GradcWant *w) {
    uint64_t seed = w->seed;
    if (*q->p == ':') {
        Number n;
        q->p++;
        int status = read_number(q, &n);
        if (status) return status;
        if (!n.whole || n.negative) return bad(q, "a seed is an integer from 0 on");
        seed = n.magnitude;
    }
    if (*q->p) return bad(q, "text after rand");
    int status = new_filled(t, w, q->e);
    return status ? status : gradc_tensor_random(t, seed, q->e);
}

static int parse_fill(GradcTensor *t, Parser *q, const GradcWant *w) {
    char element[16] = {0};
    size_t size = gradc_dtype_size(w->dtype);
    int status = 0;
    bool one = !strcmp(q->p, "ones"), text = types[w->dtype].kind == TEXT;
    if (text && !strcmp(q->p, "zeros")) status = append(q, &q->pool, &q->pool_bytes, &q->pool_room, "", 1);
    else if (one && !text) {
        Parser unit = {.value = "1", .p = "1", .dtype = w->dtype, .e = q->e};
        status = read_element(&unit, element);
    } else if (one || strcmp(q->p, "zeros")) {
        status = read_element(q, element);
        if (!status && *q->p) status = bad(q, "text after the value");
    } else if (types[w->dtype].top == POWER) return gradc_error(q->e, 603, NULL, "f8e8m0 has no zero");
    if (!status) status = new_filled(t, w, q->e);
    if (status) return status;
    for (size_t i = 0; i < t->bytes; i += size) memcpy((char *)t->data + i, element, size);
    return 0;
}

bool gradc_value_has_shape(const char *value) { return *value == '@' || *value == '['; }

int gradc_value_parse(GradcTensor *t, const char *value, const GradcWant *want, GradcError *e) {
    Parser q = {.value = value, .p = value, .dtype = want->dtype, .rank = -1, .e = e};
    int status;
    *t = (GradcTensor){0};
    for (int i = 0; i < GRADC_MAX_RANK; i++) q.dims[i] = -1;
    if (!known(want->dtype) || want->rank < 0 || want->rank > GRADC_MAX_RANK)
        return gradc_error(e, 901, NULL, "dtype %d or rank %d is wrong", want->dtype, want->rank);
    skip(&q);
    if (*value == '@') {
        status = (want->read ? want->read : gradc_npy_read)(t, value + 1, want->dtype, e);
        if (!status) status = compare_shape(t, want, e);
    } else if (*value == '[') status = parse_list(t, &q, want);
    else if (word(&q, "rand")) status = parse_random(t, &q, want);
    else status = parse_fill(t, &q, want);
    if (!status && want->dtype == GRADC_STRING && *value != '@') status = attach_pool(t, q.pool, q.pool_bytes, e);
    free(q.elements);
    free(q.pool);
    if (status) gradc_tensor_free(t);
    return status;
}
