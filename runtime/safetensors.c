/* The safetensors format, by jansson for the header. The order in the file is found once and used for offsets
   and bytes alike. Reading checks the header's length against the file before taking memory for it, and every
   tensor before it is handed out; offsets are compared, never added to pointers unchecked. */
#define _POSIX_C_SOURCE 200809L
#include "safetensors.h"
#include "dataset.h"
#include "atomic.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 100 << 20 }; /* the reference implementation's bound */

static const struct {
    const char *name;
    int dtype;
} names[] = {
    {"F64", GRADC_F64},   {"F32", GRADC_F32},          {"F16", GRADC_F16},        {"BF16", GRADC_BF16},
    {"I64", GRADC_I64},   {"I32", GRADC_I32},          {"I16", GRADC_I16},        {"I8", GRADC_I8},
    {"U64", GRADC_U64},   {"U32", GRADC_U32},          {"U16", GRADC_U16},        {"U8", GRADC_U8},
    {"BOOL", GRADC_BOOL}, {"F8_E4M3", GRADC_F8E4M3FN}, {"F8_E5M2", GRADC_F8E5M2}, {"F8_E8M0", GRADC_F8E8M0},
    {"C64", GRADC_C64},
};
enum { NAMES = sizeof names / sizeof *names };

static const char *dtype_name(int dtype) {
    for (int i = 0; i < NAMES; i++)
        if (names[i].dtype == dtype) return names[i].name;
    return NULL;
}

static size_t unit(int dtype) { return dtype == GRADC_C64 ? 4 : gradc_dtype_size(dtype); } /* of byte order */

/* ---- writing ---- */

typedef struct Place {
    const GradcNamed *t;
    int index;
    size_t begin;
} Place;

static int by_alignment(const void *a, const void *b) {
    const Place *x = a, *y = b;
    size_t m = gradc_dtype_size(x->t->tensor.dtype), n = gradc_dtype_size(y->t->tensor.dtype);
    return m != n ? (m < n) - (m > n) : x->index - y->index;
}

static json_t *header_entry(const Place *p) {
    const GradcTensor *t = &p->t->tensor;
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++) json_array_append_new(shape, json_integer(t->dims[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(t->dtype), "shape", shape, "data_offsets",
                     (json_int_t)p->begin, (json_int_t)(p->begin + t->bytes));
}

/* The header as text, or NULL with the error. */
static char *header_text(const char *path, const Place *places, int n, const GradcPair *meta, int nmeta,
                         GradcError *e) {
    json_t *root = json_object(), *map = nmeta ? json_object() : NULL;
    char *text = NULL;
    for (int i = 0; i < nmeta; i++)
        if (json_object_set_new(map, meta[i].key, json_string(meta[i].value))) {
            gradc_error(e, 603, NULL, "%s: metadata '%s' is not UTF-8", path, meta[i].key);
            goto done;
        }
    if (map) json_object_set(root, "__metadata__", map);
    for (int i = 0; i < n; i++) {
        const char *name = places[i].t->name;
        if (!strcmp(name, "__metadata__") || json_object_get(root, name)) {
            gradc_error(e, 202, NULL, "%s: two tensors are named '%s'", path, name);
            goto done;
        }
        if (json_object_set_new(root, name, header_entry(&places[i]))) {
            gradc_error(e, 603, "rename it in the model", "%s: a tensor's name is not UTF-8", path);
            goto done;
        }
    }
    text = json_dumps(root, JSON_COMPACT);
    if (!text) gradc_error(e, 506, NULL, "%s: out of memory", path);
done:
    json_decref(map);
    json_decref(root);
    return text;
}

static bool write_tensor(GradcAtomic *file, const GradcTensor *t) {
    char buf[4096];
    if (!data_big_endian() || unit(t->dtype) == 1) return gradc_atomic_write(file, t->data, t->bytes);
    for (size_t at = 0, n; at < t->bytes; at += n) {
        n = t->bytes - at < sizeof buf ? t->bytes - at : sizeof buf;
        memcpy(buf, (const char *)t->data + at, n);
        data_swap(buf, n, unit(t->dtype));
        if (!gradc_atomic_write(file, buf, n)) return false;
    }
    return true;
}

static int write_file(const char *path, const char *text, const Place *places, int n, GradcError *e) {
    GradcAtomic file;
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    unsigned char size[8];
    if (padded > MAX_HEADER) return gradc_error(e, 505, NULL, "%s: the header takes more than 100 MB", path);
    for (int i = 0; i < 8; i++) size[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    int status = gradc_atomic_open(&file, path, e);
    if (status) return status;
    bool ok = gradc_atomic_write(&file, size, 8) && gradc_atomic_write(&file, text, length) &&
              gradc_atomic_write(&file, "       ", padded - length);
    for (int i = 0; i < n && ok; i++) ok = write_tensor(&file, &places[i].t->tensor);
    return gradc_atomic_close(&file, ok, e);
}

int gradc_safetensors_write(const char *path, const GradcNamed *tensors, int n, const GradcPair *meta,
                            int nmeta, GradcError *e) {
    Place *places = calloc((size_t)n + 1, sizeof *places);
    if (!places) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    size_t at = 0;
    int status = 0;
    for (int i = 0; i < n && !status; i++) {
        places[i] = (Place){&tensors[i], i, 0};
        if (!dtype_name(tensors[i].tensor.dtype))
            status = gradc_error(e, 403, NULL, "%s: tensor '%s': safetensors has no name for %s", path,
                                 tensors[i].name, gradc_dtype_name(tensors[i].tensor.dtype));
    }
    if (!status && n) qsort(places, (size_t)n, sizeof *places, by_alignment);
    for (int i = 0; i < n && !status; at += places[i++].t->tensor.bytes) places[i].begin = at;
    char *text = status ? NULL : header_text(path, places, n, meta, nmeta, e);
    if (!status) status = text ? write_file(path, text, places, n, e) : gradc_error_status(e->code);
    free(text);
    free(places);
    return status;
}

/* ---- reading ---- */

static const char again[] = "copy it again, or take an older checkpoint";

static int bad(const char *path, const char *name, const char *what, GradcError *e) {
    if (!name) return gradc_error(e, 103, again, "%s: %s", path, what);
    return gradc_error(e, 103, again, "%s: tensor '%.100s': %s", path, name, what);
}

static char *copy(const char *s) {
    size_t n = strlen(s) + 1;
    char *p = malloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

static int by_key(const void *a, const void *b) {
    return strcmp(((const GradcPair *)a)->key, ((const GradcPair *)b)->key);
}

static int read_meta(GradcSafetensors *s, const char *path, json_t *map, GradcError *e) {
    const char *key;
    json_t *value;
    if (!json_is_object(map)) return bad(path, NULL, "__metadata__ is not an object", e);
    s->meta = calloc(json_object_size(map) + 1, sizeof *s->meta);
    if (!s->meta) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    json_object_foreach(map, key, value) {
        if (!json_is_string(value)) return bad(path, NULL, "a value of __metadata__ is not a string", e);
        GradcPair *pair = &s->meta[s->nmeta++];
        pair->key = copy(key);
        pair->value = copy(json_string_value(value));
        if (!pair->key || !pair->value) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    }
    if (s->nmeta) qsort(s->meta, (size_t)s->nmeta, sizeof *s->meta, by_key);
    return 0;
}

/* A tensor's entry; its data is left as an offset for place_tensors. */
static int read_entry(const char *path, const char *name, json_t *entry, size_t bytes, GradcTensor *t,
                      size_t *begin, GradcError *e) {
    json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    size_t count;
    if (!dtype || !json_is_array(shape) || !json_is_array(offsets) || json_object_size(entry) != 3 ||
        json_array_size(offsets) != 2)
        return bad(path, name, "its entry is not {dtype, shape, data_offsets}", e);
    t->dtype = -1;
    for (int i = 0; i < NAMES; i++)
        if (!strcmp(names[i].name, dtype)) t->dtype = names[i].dtype;
    if (t->dtype < 0)
        return gradc_error(e, 403, NULL, "%s: tensor '%.100s': dtype %.20s is not known here", path, name,
                           dtype);
    if (json_array_size(shape) > GRADC_MAX_RANK) return bad(path, name, "more than 16 axes", e);
    t->rank = (int)json_array_size(shape);
    for (int i = 0; i < t->rank; i++) {
        json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad(path, name, "a size of its shape is no number from 0", e);
        t->dims[i] = json_integer_value(dim);
    }
    if (gradc_shape_bytes(t->dtype, t->rank, t->dims, &count, &t->bytes, e))
        return bad(path, name, "its shape is too large", e);
    json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (!json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0 ||
        json_integer_value(to) < json_integer_value(from) || (uint64_t)json_integer_value(to) > bytes)
        return bad(path, name, "its bytes do not lie inside the file", e);
    *begin = (size_t)json_integer_value(from);
    if ((size_t)json_integer_value(to) - *begin != t->bytes)
        return bad(path, name, "its bytes do not match its dtype and shape", e);
    return 0;
}

typedef struct Range {
    size_t begin, bytes;
    const char *name;
} Range;

static int by_begin(const void *a, const void *b) {
    const Range *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones go first */
}

static int check_cover(const char *path, Range *ranges, int n, size_t bytes, GradcError *e) {
    size_t at = 0;
    if (n) qsort(ranges, (size_t)n, sizeof *ranges, by_begin);
    for (int i = 0; i < n; at += ranges[i++].bytes)
        if (ranges[i].begin != at)
            return bad(path, ranges[i].name,
                       ranges[i].begin < at ? "its bytes overlap another tensor's"
                                            : "there is a gap before its bytes",
                       e);
    if (at == bytes) return 0;
    return gradc_error(e, 103, again, "%s: the tensors end at byte %zu of the data, the data at %zu", path,
                       at, bytes);
}

static int place_tensor(GradcTensor *t, char *data, size_t begin, GradcError *e) {
    size_t size = unit(t->dtype);
    if (data_big_endian()) data_swap(data + begin, t->bytes, size);
    if (t->dtype == GRADC_BOOL)
        for (size_t i = 0; i < t->bytes; i++) data[begin + i] = data[begin + i] != 0;
    if ((uintptr_t)(data + begin) % size == 0) {
        t->data = data + begin;
        return 0;
    }
    GradcTensor own;
    int status = gradc_tensor_new(&own, t->dtype, t->rank, t->dims, e);
    if (status) return status;
    memcpy(own.data, data + begin, t->bytes);
    *t = own;
    return 0;
}

static int read_tensors(GradcSafetensors *s, const char *path, json_t *root, size_t bytes, GradcError *e) {
    size_t count = json_object_size(root), begin = 0;
    const char *name;
    json_t *entry;
    int status = 0;
    s->tensors = calloc(count + 1, sizeof *s->tensors);
    Range *ranges = calloc(count + 1, sizeof *ranges);
    size_t *begins = calloc(count + 1, sizeof *begins);
    if (!s->tensors || !ranges || !begins) status = gradc_error(e, 506, NULL, "%s: out of memory", path);
    json_object_foreach(root, name, entry) {
        if (status) break;
        if (!strcmp(name, "__metadata__")) {
            status = read_meta(s, path, entry, e);
            continue;
        }
        GradcNamed *t = &s->tensors[s->n];
        if (!(t->name = copy(name))) {
            status = gradc_error(e, 506, NULL, "%s: out of memory", path);
            break;
        }
        begins[s->n++] = 0;
        if ((status = read_entry(path, name, entry, bytes, &t->tensor, &begin, e))) break;
        begins[s->n - 1] = begin;
        ranges[s->n - 1] = (Range){begin, t->tensor.bytes, t->name};
    }
    if (!status) status = check_cover(path, ranges, s->n, bytes, e);
    for (int i = 0; i < s->n && !status; i++)
        status = place_tensor(&s->tensors[i].tensor, s->data, begins[i], e);
    free(ranges);
    free(begins);
    return status;
}

static bool read_all(int fd, void *to, size_t n) {
    char *p = to;
    while (n) {
        ssize_t got = read(fd, p, n < (size_t)1 << 30 ? n : (size_t)1 << 30);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

static int read_open(GradcSafetensors *s, const char *path, int fd, GradcError *e) {
    struct stat st;
    unsigned char size[8];
    uint64_t length = 0;
    if (fstat(fd, &st)) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) return gradc_error(e, 101, NULL, "%s: not a regular file", path);
    if (st.st_size < 8 || !read_all(fd, size, 8))
        return bad(path, NULL, "truncated: not a safetensors file", e);
    for (int i = 7; i >= 0; i--) length = length << 8 | size[i];
    if (length > MAX_HEADER || length > (uint64_t)st.st_size - 8 || length < 2)
        return bad(path, NULL,
                   "the header's length does not fit the file: truncated, or not a safetensors file", e);
    size_t bytes = (size_t)((uint64_t)st.st_size - 8 - length);
    char *text = malloc((size_t)length);
    if (!text || posix_memalign(&s->data, GRADC_ALIGN, bytes ? bytes : 1)) {
        free(text);
        return gradc_error(e, 506, NULL, "%s: out of memory for %zu bytes", path, bytes);
    }
    if (!read_all(fd, text, (size_t)length) || !read_all(fd, s->data, bytes)) {
        free(text);
        return gradc_error(e, 101, NULL, "%s: reading stopped: %s", path,
                           errno ? strerror(errno) : "the file became shorter");
    }
    json_error_t why;
    json_t *root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!root)
        return gradc_error(e, 103, again, "%s: the header (byte %d): %.200s", path,
                           8 + (why.position > 0 ? why.position : 0), why.text);
    int status = json_is_object(root) ? read_tensors(s, path, root, bytes, e)
                                      : bad(path, NULL, "the header is not an object", e);
    json_decref(root);
    return status;
}

int gradc_safetensors_read(GradcSafetensors *s, const char *path, GradcError *e) {
    *s = (GradcSafetensors){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    errno = 0;
    int status = read_open(s, path, fd, e);
    close(fd);
    if (status) gradc_safetensors_free(s);
    return status;
}

void gradc_safetensors_free(GradcSafetensors *s) {
    for (int i = 0; i < s->n; i++) {
        gradc_tensor_free(&s->tensors[i].tensor);
        free((char *)s->tensors[i].name);
    }
    for (int i = 0; i < s->nmeta; i++) {
        free((char *)s->meta[i].key);
        free((char *)s->meta[i].value);
    }
    free(s->tensors);
    free(s->meta);
    free(s->data);
    *s = (GradcSafetensors){0};
}

const GradcTensor *gradc_safetensors_find(const GradcSafetensors *s, const char *name) {
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->tensors[i].name, name)) return &s->tensors[i].tensor;
    return NULL;
}

const char *gradc_safetensors_meta(const GradcSafetensors *s, const char *key) {
    GradcPair want = {key, NULL};
    const GradcPair *pair = s->nmeta ? bsearch(&want, s->meta, (size_t)s->nmeta, sizeof want, by_key) : NULL;
    return pair ? pair->value : NULL;
}
