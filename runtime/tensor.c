/* Tensors: errors, dtypes, shapes, storage, made-up data. */
#define _POSIX_C_SOURCE 200809L
#include "element.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ---- */

/* The ranges of ir/errors.def; a test compares. */
int gradc_error_status(int code) {
    switch (code) {
    case 0: return 0;
    case 101: case 106: return 5;
    case 506: return 6;
    case 601: case 602: return 2;
    default: break;
    }
    switch (code / 100) {
    case 4: return 3;
    case 5: return 4;
    case 7: return 5;
    case 9: return 70;
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
const char *gradc_dtype_name(int dtype) { return known(dtype) ? gradc_types[dtype].name : "?"; }
size_t gradc_dtype_size(int dtype) { return known(dtype) ? gradc_types[dtype].size : 0; }
int gradc_dtype_named(const char *name) {
    for (int i = 0; i < GRADC_DTYPES; i++)
        if (!strcmp(gradc_types[i].name, name)) return i;
    return -1;
}

int gradc_shape_bytes(int dtype, int rank, const int64_t *dims, size_t *count, size_t *bytes, GradcError *e) {
    if (!known(dtype)) return gradc_error(e, 901, NULL, "%d is not a dtype", dtype);
    if (rank < 0 || rank > GRADC_MAX_RANK)
        return gradc_error(e, 505, NULL, "rank %d: at most %d axes are supported", rank, (int)GRADC_MAX_RANK);
    uint64_t most = (PTRDIFF_MAX - GRADC_ALIGN) / gradc_types[dtype].size, n = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) return gradc_error(e, 603, NULL, "dim %d is negative (%lld)", i, (long long)dims[i]);
        if (!dims[i]) { empty = true; continue; }
        if ((uint64_t)dims[i] > most / n)
            return gradc_error(e, 505, NULL, "a shape of more elements than this machine can address");
        n *= (uint64_t)dims[i];
    }
    *count = empty ? 0 : (size_t)n;
    *bytes = *count * gradc_types[dtype].size;
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
    if (gradc_types[t->dtype].kind == TEXT)
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

size_t gradc_tensor_count(const GradcTensor *t) {
    return t->data ? t->bytes / gradc_dtype_size(t->dtype) : 0;
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

/* A word as k * 2^-m - 1 with as many bits as the format (or f32) holds: exact, so it is never 1. */
static double uniform(int dtype, uint32_t word) {
    int m = gradc_types[dtype].mantissa < 23 ? gradc_types[dtype].mantissa : 23;
    if (gradc_types[dtype].top == POWER) return gradc_power2(-(int)(word >> 30));
    return (double)(word >> (31 - m)) * gradc_power2(-m) - 1;
}

static void put_random(int dtype, uint32_t word, void *p) {
    int bits = gradc_types[dtype].bits;
    if (gradc_types[dtype].kind == FLOAT) {
        double v = uniform(dtype, word);
        gradc_put_float(dtype, v, (float)v, p);
        return;
    }
    int positive = gradc_types[dtype].kind == SIGNED ? bits - 1 : bits;
    uint64_t kinds = positive < 4 ? 1ULL << positive : 10;
    gradc_put_integer(dtype, false, word * kinds >> 32, p);
}

int gradc_tensor_random(GradcTensor *t, uint64_t seed, GradcError *e) {
    if (t->dtype == GRADC_STRING) return gradc_error(e, 603, NULL, "there are no random strings");
    int part = t->dtype == GRADC_C64 ? GRADC_F32 : t->dtype == GRADC_C128 ? GRADC_F64 : t->dtype;
    size_t size = gradc_types[part].size, n = t->bytes / size;
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, words[4] = {0};
    for (size_t i = 0; i < n; i++) {
        uint64_t block = (uint64_t)i / 4;
        uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
        if (i % 4 == 0) gradc_philox(counter, key, words);
        put_random(part, words[i % 4], (char *)t->data + i * size);
    }
    return 0;
}
