/* Data sets of fixed binary records: idx (MNIST's format), CIFAR's binary version, raw files. A header's
   claim is held against the bytes that are there before anything is believed: sizes by checked arithmetic, no
   byte missing, none left over. */
#define _POSIX_C_SOURCE 200809L
#include "dataset.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool data_big_endian(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return !first;
}

void data_swap(void *data, size_t bytes, size_t unit) {
    char *p = data;
    for (size_t at = 0; unit > 1 && at < bytes; at += unit)
        for (size_t i = 0, j = unit - 1; i < j; i++, j--) {
            char b = p[at + i];
            p[at + i] = p[at + j];
            p[at + j] = b;
        }
}

static const char again[] = "copy or download the file again";

/* ---- idx: 0 0 TYPE RANK, RANK big-endian sizes, elements big-endian ---- */

typedef struct Idx {
    int dtype, rank, file;
    int64_t dims[GRADC_MAX_RANK + 1];
    unsigned char *data;
    size_t record;
} Idx;

static int idx_dtype(int type) {
    switch (type) {
    case 0x08: return GRADC_U8;
    case 0x09: return GRADC_I8;
    case 0x0b: return GRADC_I16;
    case 0x0c: return GRADC_I32;
    case 0x0d: return GRADC_F32;
    case 0x0e: return GRADC_F64;
    default: return -1;
    }
}

static int read_idx(GradcData *d, const char *path, Idx *x, GradcError *e) {
    unsigned char *p;
    size_t n, count, bytes;
    char shape[200];
    int status = data_bytes(d, path, &p, &n, &x->file, e);
    if (status) return status;
    if (n < 4)
        return gradc_error(e, 103, again,
                           "%s: truncated: %zu bytes where an idx header has 4 or more (byte 0)", path, n);
    x->dtype = idx_dtype(p[2]);
    x->rank = p[3];
    if (p[0] || p[1] || x->dtype < 0 || !x->rank || x->rank > GRADC_MAX_RANK)
        return gradc_error(e, 103, "an idx file begins with 0, 0, the element type and the number of axes",
                           "%s: wrong magic number %02x%02x%02x%02x (byte 0): not an idx file", path, p[0],
                           p[1], p[2], p[3]);
    size_t header = 4 + 4 * (size_t)x->rank;
    if (n < header)
        return gradc_error(e, 103, again, "%s: truncated: %zu bytes where the header has %zu (byte %zu)",
                           path, n, header, n);
    for (int i = 0; i < x->rank; i++) {
        const unsigned char *b = p + 4 + 4 * i;
        x->dims[i] = (int64_t)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
        if (!x->dims[i])
            return gradc_error(e, 103, again, "%s: size 0 of axis %d (byte %d)", path, i, 4 + 4 * i);
    }
    gradc_shape_text(shape, sizeof shape, x->dtype, x->rank, x->dims);
    if ((status = gradc_shape_bytes(x->dtype, x->rank, x->dims, &count, &bytes, e)))
        return gradc_error(e, 103, again, "%s: the header claims %s, more than any file has (byte 4)", path,
                           shape);
    x->record = bytes / (size_t)x->dims[0];
    if (n - header < bytes)
        return gradc_error(
            e, 103, again,
            "%s: truncated in record %zu (byte %zu): the header claims %s, %zu bytes, and %zu are there",
            path, (n - header) / x->record, n, shape, bytes, n - header);
    if (n - header > bytes)
        return gradc_error(
            e, 103, again,
            "%s: the header claims %s, which ends at byte %zu, but the file goes on to byte %zu", path, shape,
            header + bytes, n);
    x->data = p + header;
    if (gradc_dtype_size(x->dtype) >
        1) { /* the header's length need not be a multiple of the elements' size */
        memmove(p, p + header, bytes);
        x->data = p;
        if (!data_big_endian()) data_swap(p, bytes, gradc_dtype_size(x->dtype));
    }
    DataFile *f = &d->files[x->file];
    f->count = x->dims[0];
    f->header = (int64_t)header;
    f->step = (int64_t)x->record;
    return 0;
}

/* The one file whose name has this part; a plain one goes before its own .gz. */
static int idx_file(GradcData *d, const char *part, char **path, GradcError *e) {
    char **names;
    int n;
    int status = data_list(d, d->spec.path, part, "", &names, &n, e);
    if (status) return status;
    if (!n)
        return gradc_error(e, 101,
                           "an idx data set has train-images* and train-labels*, or with `,test` "
                           "t10k-images* and t10k-labels*",
                           "%s: no file of this folder is named %s*", d->spec.path, part);
    if (n > 2 || (n == 2 && (strncmp(names[0], names[1], strlen(names[0])) ||
                             strcmp(names[1] + strlen(names[0]), ".gz"))))
        return gradc_error(e, 101, "leave one of them in the folder",
                           "%s: both %s and %s could be meant by %s", d->spec.path, names[0], names[1], part);
    *path = data_path(d, d->spec.path, names[0], e);
    return *path ? 0 : gradc_error_status(e->code);
}

int data_idx(GradcData *d, GradcError *e) {
    Idx x, y;
    char *images, *labels;
    const char *set = data_option(d, "test") ? "t10k" : "train";
    char part[32];
    int status;
    snprintf(part, sizeof part, "%s-images", set);
    if ((status = idx_file(d, part, &images, e)) || (status = read_idx(d, images, &x, e))) return status;
    snprintf(part, sizeof part, "%s-labels", set);
    if ((status = idx_file(d, part, &labels, e)) || (status = read_idx(d, labels, &y, e))) return status;
    if (x.dims[0] != y.dims[0])
        return gradc_error(e, 103, again, "%s has %lld records (byte 4), %s has %lld", images,
                           (long long)x.dims[0], labels, (long long)y.dims[0]);
    d->count = x.dims[0];
    DataField *f = data_add(d, "x", x.dtype, x.rank - 1, x.dims + 1, x.data, x.record, e);
    if (!f) return gradc_error_status(e->code);
    f->file = x.file;
    f->scaled = x.dtype == GRADC_U8;
    if (f->scaled) f->den = 255;
    if (!(f = data_add(d, "y", y.dtype, y.rank - 1, y.dims + 1, y.data, y.record, e)))
        return gradc_error_status(e->code);
    f->file = y.file;
    return y.dtype == GRADC_F32 || y.dtype == GRADC_F64 ? 0 : data_classes(d, 1, 0, e);
}

/* ---- files of records one after the other ---- */

enum { FILES = 5 };

/* Appends the whole files to one block of records; what `header` bytes at the start of each hold is left out.
 */
static int read_records(GradcData *d, char *const *paths, int n, int64_t header, size_t record,
                        unsigned char **data, GradcError *e) {
    unsigned char *p[FILES];
    size_t have;
    int first = d->nfiles;
    for (int i = 0; i < n; i++) {
        int file, status = data_bytes(d, paths[i], &p[i], &have, &file, e);
        if (status) return status;
        if (have <= (size_t)header || (have - (size_t)header) % record)
            return gradc_error(e, 103, again,
                               "%s: truncated in record %zu (byte %zu): records have %zu bytes%s", paths[i],
                               have > (size_t)header ? (have - (size_t)header) / record : 0, have, record,
                               header ? " after the header" : "");
        DataFile *f = &d->files[file];
        *f = (DataFile){f->path, f->st,          d->count, (int64_t)((have - (size_t)header) / record),
                        header,  (int64_t)record};
        d->count += f->count;
    }
    *data = n == 1 ? p[0] + header : data_alloc(d, (size_t)d->count, record, e);
    if (!*data) return gradc_error_status(e->code);
    for (int i = 0; i < n && n > 1; i++) {
        const DataFile *f = &d->files[first + i];
        memcpy(*data + (size_t)f->first * record, p[i] + header, (size_t)f->count * record);
    }
    return 0;
}

/* ---- CIFAR ---- */

/* One class name a line, empty lines at the end. No such file: classes have numbers only. */
static int read_class_names(GradcData *d, const char *file, DataField *f, GradcError *e) {
    unsigned char *p;
    size_t n;
    int index, count = 0;
    GradcError none;
    char *path = data_path(d, d->spec.path, file, e);
    const char **names = path ? data_alloc(d, (size_t)f->pub.classes, sizeof *names, e) : NULL;
    if (!names) return gradc_error_status(e->code);
    if (data_bytes(d, path, &p, &n, &index, &none)) return 0;
    for (size_t at = 0, end; at < n; at = end + 1) {
        for (end = at; end < n && p[end] != '\n';) end++;
        size_t length = end - at - (end > at && p[end - 1] == '\r');
        if (!length) continue;
        if (count == f->pub.classes)
            return gradc_error(e, 103, again, "%s: more than %d names (byte %zu)", path, count, at);
        if (!(names[count++] = data_string(d, (char *)p + at, length, e))) return gradc_error_status(e->code);
    }
    if (count < f->pub.classes)
        return gradc_error(e, 103, again, "%s: %d names of %lld", path, count, (long long)f->pub.classes);
    f->names = names;
    return 0;
}

static int cifar_files(GradcData *d, bool hundred, bool test, char **paths, int *n, GradcError *e) {
    char name[32];
    *n = test || hundred ? 1 : FILES;
    for (int i = 0; i < *n; i++) {
        if (hundred) snprintf(name, sizeof name, test ? "test.bin" : "train.bin");
        else if (test) snprintf(name, sizeof name, "test_batch.bin");
        else snprintf(name, sizeof name, "data_batch_%d.bin", i + 1);
        if (!(paths[i] = data_path(d, d->spec.path, name, e))) return gradc_error_status(e->code);
    }
    return 0;
}

static int add_label(GradcData *d, const char *name, unsigned char *p, size_t record, int64_t classes,
                     const char *names, GradcError *e) {
    DataField *f = data_add(d, name, GRADC_U8, 0, NULL, p, record, e);
    if (!f) return gradc_error_status(e->code);
    f->at = (size_t)(classes == 100);
    int status = data_classes(d, d->nfields - 1, classes, e);
    return status ? status : read_class_names(d, names, f, e);
}

int data_cifar(GradcData *d, GradcError *e) {
    static const int64_t dims[3] = {3, 32, 32};
    char **found, *paths[FILES];
    unsigned char *p;
    int n = 0, status = data_list(d, d->spec.path, "train.bin", "train.bin", &found, &n, e);
    bool hundred = n > 0, test = data_option(d, "test") != NULL;
    size_t labels = hundred ? 2 : 1, record = labels + 3072;
    if (!status) status = cifar_files(d, hundred, test, paths, &n, e);
    if (!status) status = read_records(d, paths, n, 0, record, &p, e);
    if (status) return status;
    DataField *f = data_add(d, "x", GRADC_U8, 3, dims, p + labels, record, e);
    if (!f) return gradc_error_status(e->code);
    f->layout = LAYOUT_CHW;
    f->at = labels;
    f->scaled = true;
    f->den = 255;
    if (!hundred) return add_label(d, "y", p, record, 10, "batches.meta.txt", e);
    if ((status = add_label(d, "y", p + 1, record, 100, "fine_label_names.txt", e))) return status;
    return add_label(d, "coarse", p, record, 20, "coarse_label_names.txt", e);
}

/* ---- raw ---- */

/* DTYPE[D,D,...] */
static int read_type(GradcData *d, const char *name, const char *s, DataField *f, GradcError *e) {
    char dtype[16];
    size_t n = strcspn(s, "["), count, bytes;
    snprintf(dtype, sizeof dtype, "%.*s", (int)(n < 15 ? n : 15), s);
    f->pub.dtype = gradc_dtype_named(dtype);
    f->pub.rank = 0;
    const char *p = s + n + (s[n] == '[');
    bool ok = s[n] == '[' && f->pub.dtype >= 0 && f->pub.dtype != GRADC_STRING;
    while (ok && *p && *p != ']' && f->pub.rank < GRADC_MAX_RANK) {
        char *end;
        long long v = strtoll(p, &end, 10);
        ok = end > p && v > 0 && v <= INT_MAX && (*end == ',' || *end == ']');
        f->pub.dims[f->pub.rank++] = v;
        p = end + (*end == ',');
    }
    if (!ok || strcmp(p, "]"))
        return gradc_error(e, 601, "for example x=f32[3,32,32],y=u8[]",
                           "raw:%s: %s=%s is no dtype with a shape", d->spec.path, name, s);
    if (gradc_shape_bytes(f->pub.dtype, f->pub.rank, f->pub.dims, &count, &bytes, e))
        return gradc_error(e, 505, NULL, "raw:%s: %s=%s is more than this machine can address", d->spec.path, name, s);
    return 0;
}

/* Elements of more than a byte become a column of their own, aligned and in host order. */
static int own_column(GradcData *d, DataField *f, const unsigned char *from, size_t record, size_t bytes,
                      GradcError *e) {
    size_t unit = gradc_dtype_size(f->pub.dtype);
    f->base = (const char *)from;
    f->step = record;
    if (unit == 1) return 0;
    char *p = data_alloc(d, (size_t)d->count, bytes, e);
    if (!p) return gradc_error_status(e->code);
    for (int64_t r = 0; r < d->count; r++) memcpy(p + (size_t)r * bytes, from + (size_t)r * record, bytes);
    if (data_big_endian()) data_swap(p, (size_t)d->count * bytes, unit);
    f->base = p;
    f->step = bytes;
    return 0;
}

int data_raw(GradcData *d, GradcError *e) {
    int64_t header = 0;
    size_t record = 0, sizes[DATA_FIELDS];
    unsigned char *p;
    char *path = (char *)d->spec.path;
    int status = data_integer(d, "header", 0, &header, e);
    for (int i = 0; i < d->spec.n && !status; i++) {
        DataField type = {0}, *f;
        if (data_is_common(d->spec.options[i].key) || !strcmp(d->spec.options[i].key, "header")) continue;
        d->spec.options[i].used = true;
        if ((status = read_type(d, d->spec.options[i].key, d->spec.options[i].value, &type, e)))
            return status;
        if (!(f = data_add(d, d->spec.options[i].key, type.pub.dtype, type.pub.rank, type.pub.dims, NULL, 0,
                           e)))
            return gradc_error_status(e->code);
        size_t n = gradc_dtype_size(type.pub.dtype);
        for (int k = 0; k < type.pub.rank; k++) n *= (size_t)type.pub.dims[k];
        f->at = record;
        sizes[d->nfields - 1] = n;
        if (n > PTRDIFF_MAX / DATA_FIELDS)
            return gradc_error(e, 505, NULL, "raw:%s: a record is too large", path);
        record += n;
    }
    if (status) return status;
    if (!d->nfields)
        return gradc_error(e, 601, "for example x=f32[3,32,32],y=u8[]", "raw:%s: no field is given", path);
    if ((status = read_records(d, &path, 1, header, record, &p, e))) return status;
    for (int i = 0; i < d->nfields && !status; i++)
        status = own_column(d, &d->fields[i], p + d->fields[i].at, record, sizes[i], e);
    return status ? status : data_find_label(d, e);
}
