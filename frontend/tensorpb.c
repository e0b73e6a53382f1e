/* TensorProto to a tensor in memory form: one element after the other, types narrower than a byte one a byte.

   Nothing is allocated before the size that dims and data_type ask for has been held against the bytes that
   are there, so a small file cannot ask for much. Where the file's form is the memory form the tensor points
   into the message (the few that are too short for pb_unpack to have aligned them are copied).

   External data is opened component by component from the model's directory, links not followed: what a model
   names can only be a regular file below that directory, whatever lies there. */
#define _GNU_SOURCE
#include "onnx.h"
#include "expr.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what a dtype looks like in a file ---- */

static unsigned file_bits(DType t) {
    switch (t) {
    case F4E2M1: case I4: case U4: return 4;
    case I2: case U2: return 2;
    default: return 8 * (unsigned)gd_dtypes[t].bytes;
    }
}

static size_t file_bytes(DType t, size_t count) {
    unsigned bits = file_bits(t);
    return bits >= 8 ? count * (bits / 8) : count / (8 / bits) + (count % (8 / bits) != 0);
}

static bool big_endian(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 0;
}

static void swap_units(unsigned char *p, size_t bytes, size_t unit) {
    for (size_t at = 0; at + unit <= bytes; at += unit)
        for (size_t i = at, j = at + unit - 1; i < j; i++, j--) {
            unsigned char b = p[i];
            p[i] = p[j];
            p[j] = b;
        }
}

/* The first element is in the low bits. */
static void unpack_bits(DType t, const unsigned char *from, size_t count, unsigned char *to) {
    unsigned bits = file_bits(t), sign = gd_dtypes[t].kind == DK_INT ? 1u << (bits - 1) : 0, each = 8 / bits;
    for (size_t i = 0; i < count; i++) {
        unsigned v = (unsigned)from[i / each] >> (i % each * bits) & ((1u << bits) - 1);
        to[i] = (unsigned char)((v ^ sign) - sign);
    }
}

static const char *shape_text(Ctx *c, const GradcTensor *t) {
    char buf[512];
    return gd_strdup(c, gradc_shape_text(buf, sizeof buf, t->dtype, t->rank, t->dims));
}

/* ---- where the bytes are ---- */

typedef struct Reader {
    PbSource *s;
    Ctx *c;
    const char *what;
    GradcTensor *out; /* dtype and shape are set, then data */
    size_t count;
} Reader;

static bool wrong_size(Reader *r, size_t have, size_t need, const char *unit) {
    gd_error(r->c, 206, NULL, "%s: %zu %s of data where %s has %zu", r->what, have, unit,
             shape_text(r->c, r->out), need);
    return false;
}

static bool from_bytes(Reader *r, unsigned char *bytes, size_t n) {
    DType t = (DType)r->out->dtype;
    size_t need = file_bytes(t, r->count);
    if (t == STRING) {
        gd_error(r->c, 206, "strings are stored in string_data", "%s: strings cannot be raw bytes", r->what);
        return false;
    }
    if (n != need) return wrong_size(r, n, need, "bytes");
    if (file_bits(t) < 8) {
        r->out->data = gd_alloc_aligned(r->c, r->count);
        unpack_bits(t, bytes, r->count, r->out->data);
        return true;
    }
    bool pairs = gd_dtypes[t].kind == DK_COMPLEX;
    if (big_endian()) {
        bytes = n ? memcpy(gd_alloc_aligned(r->c, n), bytes, n) : bytes;
        swap_units(bytes, n, (size_t)gd_dtypes[t].bytes / (pairs ? 2 : 1));
    }
    if (t == BOOL)
        for (size_t i = 0; i < n; i++) bytes[i] = bytes[i] != 0;
    r->out->data = bytes;
    return true;
}

static bool from_strings(Reader *r, const ProtobufCBinaryData *s, size_t n) {
    size_t room = 0;
    if (n != r->count) return wrong_size(r, n, r->count, "strings");
    for (size_t i = 0; i < n; i++) {
        if (s[i].len && memchr(s[i].data, 0, s[i].len)) {
            gd_error(r->c, 402, NULL, "%s: string %zu has a zero byte", r->what, i);
            return false;
        }
        room += s[i].len + 1;
    }
    const char **to = gd_alloc_aligned(r->c, n * sizeof *to + room);
    char *pool = (char *)(to + n);
    r->out->data = to;
    for (size_t i = 0; i < n; i++) {
        if (s[i].len) memcpy(pool, s[i].data, s[i].len);
        to[i] = pool;
        pool += s[i].len + 1;
    }
    return true;
}

/* A list of numbers that is the memory form already. */
static bool from_list(Reader *r, void *list, size_t n, size_t each) {
    if (n != r->count * each) return wrong_size(r, n, r->count * each, "numbers");
    r->out->data = list;
    return true;
}

static bool from_u64(Reader *r, const uint64_t *list, size_t n) {
    if (n != r->count) return wrong_size(r, n, r->count, "numbers");
    uint32_t *to = gd_alloc_aligned(r->c, r->out->bytes);
    for (size_t i = 0; i < n; i++) {
        if (list[i] > UINT32_MAX) {
            gd_error(r->c, 206, NULL, "%s: number %zu does not fit in u32", r->what, i);
            return false;
        }
        to[i] = (uint32_t)list[i];
    }
    r->out->data = to;
    return true;
}

/* One number an element; packed types: one number a byte of them. Floats are stored by their bits. */
static bool from_i32(Reader *r, int32_t *list, size_t n) {
    DType t = (DType)r->out->dtype;
    bool packed = file_bits(t) < 8;
    size_t need = packed ? file_bytes(t, r->count) : r->count, size = packed ? 1 : (size_t)gd_dtypes[t].bytes;
    if (t == I32) return from_list(r, list, n, 1);
    if (n != need) return wrong_size(r, n, need, "numbers");
    int32_t top = size == 1 ? UINT8_MAX : UINT16_MAX, low = 0;
    if (packed) low = INT8_MIN; /* a byte, whichever way its writer looked at it */
    else if (gd_dtypes[t].kind == DK_INT) low = -(top / 2) - 1, top /= 2;
    unsigned char *to = gd_alloc_aligned(r->c, n * size);
    for (size_t i = 0; i < n; i++) {
        int32_t v = t == BOOL ? list[i] != 0 : list[i];
        if (v < low || v > top) {
            gd_error(r->c, 206, NULL, "%s: number %zu, %d, does not fit in %s", r->what, i, (int)v,
                     gd_dtypes[t].name);
            return false;
        }
        uint16_t half = (uint16_t)v;
        if (size == 1) to[i] = (unsigned char)v;
        else memcpy(to + 2 * i, &half, 2);
    }
    if (!packed) { r->out->data = to; return true; }
    r->out->data = gd_alloc_aligned(r->c, r->count);
    unpack_bits(t, to, r->count, r->out->data);
    return true;
}

static bool from_fields(Reader *r, PbTensor *t) {
    switch ((DType)r->out->dtype) {
    case F32: return from_list(r, t->float_data, t->n_float_data, 1);
    case C64: return from_list(r, t->float_data, t->n_float_data, 2);
    case F64: return from_list(r, t->double_data, t->n_double_data, 1);
    case C128: return from_list(r, t->double_data, t->n_double_data, 2);
    case I64: return from_list(r, t->int64_data, t->n_int64_data, 1);
    case U64: return from_list(r, t->uint64_data, t->n_uint64_data, 1);
    case U32: return from_u64(r, t->uint64_data, t->n_uint64_data);
    case STRING: return from_strings(r, t->string_data, t->n_string_data);
    default: return from_i32(r, t->int32_data, t->n_int32_data);
    }
}

/* ---- external data ---- */

static void close_source(void *arg) {
    PbSource *s = arg;
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
}

PbSource *pb_source(Ctx *c, const char *path) {
    PbSource *s = gd_new(c, PbSource);
    const char *slash = path ? strrchr(path, '/') : NULL;
    *s = (PbSource){.c = c, .dir = path ? "." : NULL, .fd = -1};
    if (slash) s->dir = gd_strndup(c, path, slash == path ? 1 : (size_t)(slash - path));
    gd_defer(c, close_source, s); /* what was open when a limit ended the compilation */
    return s;
}

static const char allowed[] = "a path below the model's directory, without .. and without links, is allowed";

static bool refuse(Reader *r, const char *location, const char *why) {
    gd_error(r->c, 105, allowed, "%s: external data \"%s\": %s", r->what,
             gd_escape(r->c, location, strlen(location)), why);
    return false;
}

/* Opens location below the source's directory into s->fd. */
static bool open_below(Reader *r, const char *location) {
    PbSource *s = r->s;
    char part[NAME_MAX + 1];
    if (!s->dir) return refuse(r, location, "a model that is not a file has no directory");
    if (!*location || *location == '/') return refuse(r, location, "not a relative path");
    s->fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->fd < 0) return refuse(r, location, strerror(errno));
    for (const char *p = location; *p;) {
        size_t n = strcspn(p, "/");
        bool last = !p[n];
        if (n > NAME_MAX) return refuse(r, location, strerror(ENAMETOOLONG));
        if (n == 2 && !memcmp(p, "..", 2)) return refuse(r, location, "leaves the model's directory");
        memcpy(part, p, n);
        part[n] = 0;
        p += n + !last;
        if ((!n || !strcmp(part, ".")) && !last) continue;
        int next = openat(s->fd, part,
                          O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | (last ? O_NONBLOCK : O_DIRECTORY));
        int why = errno;
        close_source(s);
        s->fd = next;
        if (next < 0) return refuse(r, location, why == ELOOP ? "it is a link" : strerror(why));
    }
    return true;
}

/* Decimal digits only. */
static bool decimal(const char *s, uint64_t *v) {
    *v = 0;
    if (!*s) return false;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(*v, (uint64_t)10, v) ||
            __builtin_add_overflow(*v, (uint64_t)(*s - '0'), v))
            return false;
    return !*s;
}

static bool read_range(Reader *r, const char *location, uint64_t offset, size_t n) {
    struct stat st;
    if (fstat(r->s->fd, &st) || !S_ISREG(st.st_mode)) return refuse(r, location, "not a regular file");
    if (offset > (uint64_t)st.st_size || n > (uint64_t)st.st_size - offset) {
        gd_error(r->c, 105, "fetch or export the model again",
                 "%s: external data \"%s\" has %lld bytes; %zu from %llu on are wanted", r->what,
                 gd_escape(r->c, location, strlen(location)), (long long)st.st_size, n,
                 (unsigned long long)offset);
        return false;
    }
    unsigned char *bytes = gd_alloc_aligned(r->c, n);
    for (size_t at = 0; at < n;) {
        ssize_t k = pread(r->s->fd, bytes + at, n - at, (off_t)(offset + at));
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return refuse(r, location, k ? strerror(errno) : "it became shorter while it was read");
        at += (size_t)k;
    }
    return from_bytes(r, bytes, n);
}

static bool from_external(Reader *r, const PbTensor *t) {
    const char *location = NULL;
    uint64_t offset = 0, length = 0, need = file_bytes((DType)r->out->dtype, r->count);
    bool sized = false;
    for (size_t i = 0; i < t->n_external_data; i++) {
        const PbEntry *e = t->external_data[i];
        bool ok = true;
        if (!strcmp(e->key, "location")) location = e->value;
        else if (!strcmp(e->key, "offset")) ok = decimal(e->value, &offset);
        else if (!strcmp(e->key, "length")) ok = sized = decimal(e->value, &length);
        if (ok) continue;
        gd_error(r->c, 105, NULL, "%s: external data: %s \"%s\" is not a number of bytes", r->what, e->key,
                 gd_escape(r->c, e->value, strlen(e->value)));
        return false;
    }
    if (!location) {
        gd_error(r->c, 105, NULL, "%s: external data has no location", r->what);
        return false;
    }
    if (sized && length != need) return wrong_size(r, (size_t)length, (size_t)need, "bytes");
    bool ok = open_below(r, location) && read_range(r, location, offset, (size_t)need);
    close_source(r->s);
    return ok;
}

/* ---- tensors ---- */

/* Checks dtype and dims and sets them in r->out. */
static bool set_type(Reader *r, int data_type, size_t rank, const int64_t *dims) {
    GradcError e;
    DType dt = gd_dtype_from_onnx(data_type);
    if (dt == DT_NONE) {
        gd_error(r->c, 207, NULL, "%s: data_type %d is not one of ONNX's", r->what, data_type);
        return false;
    }
    if (rank > GRADC_MAX_RANK) {
        gd_error(r->c, 505, NULL, "%s: rank %zu: at most %d axes are supported", r->what, rank,
                 (int)GRADC_MAX_RANK);
        return false;
    }
    for (size_t i = 0; i < rank; i++) {
        if (dims[i] < 0) {
            gd_error(r->c, 206, NULL, "%s: dim %zu is negative (%lld)", r->what, i, (long long)dims[i]);
            return false;
        }
        r->out->dims[i] = dims[i];
    }
    r->out->dtype = (int)dt;
    r->out->rank = (int)rank;
    if (!gradc_shape_bytes((int)dt, (int)rank, dims, &r->count, &r->out->bytes, &e)) return true;
    gd_error(r->c, e.code, NULL, "%s: %s", r->what, e.text);
    return false;
}

static bool finish(Reader *r, bool ok) {
    GradcTensor *t = r->out;
    if (!ok) *t = (GradcTensor){0};
    else if (!t->data || (uintptr_t)t->data % GRADC_ALIGN) { /* no elements, or few */
        void *data = gd_alloc_aligned(r->c, t->bytes + 1);
        if (t->bytes) memcpy(data, t->data, t->bytes);
        t->data = data;
    }
    return ok;
}

static bool read_data(Reader *r, PbTensor *t) {
    bool listed = t->n_float_data || t->n_int32_data || t->n_string_data || t->n_int64_data ||
                  t->n_double_data || t->n_uint64_data;
    if (t->segment) {
        gd_error(r->c, 402, "save the tensor as one", "%s: tensors stored in segments are not supported",
                 r->what);
        return false;
    }
    if (t->data_location == 1) return from_external(r, t);
    if (!t->raw_data.len && (listed || !t->has_raw_data)) return from_fields(r, t);
    if (!listed) return from_bytes(r, t->raw_data.data, t->raw_data.len);
    gd_error(r->c, 206, NULL, "%s: data is given twice, as raw_data and as numbers", r->what);
    return false;
}

bool pb_tensor(PbSource *s, PbTensor *t, const char *what, GradcTensor *out) {
    Reader r = {s, s->c, what, out, 0};
    *out = (GradcTensor){0};
    return finish(&r, set_type(&r, t->data_type, t->n_dims, t->dims) && read_data(&r, t));
}

/* The linear index of the k-th entry, -1 when it lies outside. */
static int64_t sparse_index(const GradcTensor *dense, const GradcTensor *indices, size_t k, size_t count) {
    const int64_t *v = (const int64_t *)indices->data + k * (indices->rank == 2 ? (size_t)dense->rank : 1);
    int64_t at = 0;
    if (indices->rank == 1) return v[0] >= 0 && (uint64_t)v[0] < count ? v[0] : -1;
    for (int i = 0; i < dense->rank; i++) {
        if (v[i] < 0 || v[i] >= dense->dims[i]) return -1;
        at = at * dense->dims[i] + v[i];
    }
    return at;
}

static bool fill_sparse(Reader *r, const GradcTensor *values, const GradcTensor *indices) {
    GradcTensor *out = r->out;
    size_t n = gradc_tensor_count(values), size = (size_t)gd_dtypes[out->dtype].bytes;
    bool linear = indices->rank == 1 && indices->dims[0] == values->dims[0];
    bool coordinates =
        indices->rank == 2 && indices->dims[0] == values->dims[0] && indices->dims[1] == out->rank;
    if (values->rank != 1 || indices->dtype != I64 || (!linear && !coordinates)) {
        gd_error(r->c, 206, NULL, "%s: sparse values %s and indices %s do not fit together", r->what,
                 shape_text(r->c, values), shape_text(r->c, indices));
        return false;
    }
    if (out->bytes > gd_budget(r->c)->max_folded) {
        gd_error(r->c, 501, NULL, "%s: %zu bytes when no longer sparse are more than allowed", r->what,
                 out->bytes);
        return false;
    }
    out->data = gd_alloc_aligned(r->c, out->bytes);
    int64_t last = -1;
    for (size_t k = 0; k < n; k++) {
        int64_t at = sparse_index(out, indices, k, r->count);
        if (at <= last) {
            gd_error(r->c, 206, NULL, "%s: sparse index %zu is %s", r->what, k,
                     at < 0 ? "outside the shape" : "out of order");
            return false;
        }
        memcpy((char *)out->data + (size_t)at * size, (char *)values->data + k * size, size);
        last = at;
    }
    return true;
}

bool pb_sparse(PbSource *s, PbSparse *t, const char *what, GradcTensor *out) {
    Reader r = {s, s->c, what, out, 0};
    GradcTensor values, indices;
    *out = (GradcTensor){0};
    if (!t->values || !t->indices) {
        gd_error(s->c, 206, NULL, "%s: a sparse tensor without values or indices", what);
        return false;
    }
    if (!pb_tensor(s, t->values, what, &values) || !pb_tensor(s, t->indices, what, &indices)) return false;
    if (values.dtype == STRING || values.dtype == F8E8M0) {
        gd_error(s->c, 403, NULL, "%s: %s has no zero to fill a sparse tensor with", what,
                 gd_dtypes[values.dtype].name);
        return false;
    }
    return finish(&r, set_type(&r, t->values->data_type, t->n_dims, t->dims) &&
                          fill_sparse(&r, &values, &indices));
}
