/* Data sets: opening by kind, fields, classes. A reader only sees a parsed SPEC; what holds for all kinds
   (options, sizes, label ranges) is settled here, so a GradcData that is handed out is sound: every record of
   every field lies inside memory that the data set owns. */
#define _POSIX_C_SOURCE 200809L
#include "dataset.h"
#include "element.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const struct {
    const char *kind;
    int (*open)(GradcData *, GradcError *);
} kinds[] = {
    {"idx", data_idx},     {"cifar", data_cifar}, {"npz", data_npz}, {"csv", data_csv},
    {"names", data_names}, {"text", data_text},   {"raw", data_raw},
};

/* ---- fields ---- */

DataField *data_add(GradcData *d, const char *name, int dtype, int rank, const int64_t *dims,
                    const void *base, size_t step, GradcError *e) {
    if (d->nfields == DATA_FIELDS) {
        gradc_error(e, 505, NULL, "%s:%s: more than %d fields", d->spec.kind, d->spec.path, (int)DATA_FIELDS);
        return NULL;
    }
    if (gradc_data_find(d, name) >= 0) {
        gradc_error(e, 202, NULL, "%s:%s: two fields are named %s", d->spec.kind, d->spec.path, name);
        return NULL;
    }
    DataField *f = &d->fields[d->nfields++];
    *f = (DataField){.base = base, .step = step, .num = 1, .den = 1};
    f->pub.name = data_string(d, name, strlen(name), e);
    f->pub.dtype = dtype;
    f->pub.rank = rank;
    for (int64_t i = rank - 1, step1 = 1; i >= 0; i--) {
        f->pub.dims[i] = dims[i];
        f->strides[i] = step1;
        step1 *= dims[i] < 0 ? 1 : dims[i];
    }
    return f->pub.name ? f : NULL;
}

int64_t data_get(const DataField *f, const char *p) {
    switch (gradc_types[f->pub.dtype].kind) {
    case SIGNED: return gradc_get_signed(f->pub.dtype, p);
    case BOOLEAN: return *p != 0;
    default: break;
    }
    uint64_t v = gradc_get_unsigned(f->pub.dtype, p);
    return v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

static bool integral(const DataField *f) {
    int kind = gradc_types[f->pub.dtype].kind;
    return kind == SIGNED || kind == UNSIGNED || kind == BOOLEAN;
}

char *gradc_data_place(const GradcData *d, int i, int64_t record, char *buf, size_t size) {
    const DataField *f = &d->fields[i];
    const DataFile *in = NULL;
    for (int k = f->file; k < d->nfiles && !in; k++)
        if (record >= d->files[k].first && record - d->files[k].first < d->files[k].count) in = &d->files[k];
    if (!in) snprintf(buf, size, "%s: record %lld", d->spec.path, (long long)record);
    else if (!in->step) snprintf(buf, size, "%s: record %lld", in->path, (long long)(record - in->first));
    else
        snprintf(buf, size, "%s: record %lld (byte %lld)", in->path, (long long)(record - in->first),
                 (long long)(in->header + (record - in->first) * in->step + (int64_t)f->at));
    return buf;
}

static int64_t elements(const DataField *f) { /* of a record of fixed length */
    int64_t n = 1;
    for (int i = 0; i < f->pub.rank; i++) n *= f->pub.dims[i];
    return n;
}

/* A floating element as a whole number, INT64_MAX when it is none that a class could have. */
static int64_t whole(const DataField *f, const char *p) {
    double v = gradc_get_float(f->pub.dtype, p);
    return v == rint(v) && fabs(v) < 0x1p62 ? (int64_t)v : INT64_MAX;
}

/* The greatest value; an error at the first that is negative or, with limit > 0, not below it, unless it is `ignored`. */
static int range(const GradcData *d, int i, int64_t limit, int64_t ignored, int64_t *high, GradcError *e) {
    const DataField *f = &d->fields[i];
    size_t size = gradc_dtype_size(f->pub.dtype);
    char where[400];
    *high = -1;
    for (int64_t r = 0; r < d->count; r++) {
        const char *p = f->starts ? f->base + (size_t)f->starts[r] * size : f->base + (size_t)r * f->step;
        int64_t n = f->starts ? f->starts[r + 1] - f->starts[r] : elements(f);
        for (int64_t k = 0; k < n; k++, p += size) {
            int64_t v = integral(f) ? data_get(f, p) : whole(f, p);
            if (v > *high) *high = v;
            if ((v >= 0 && (!limit || v < limit)) || (v == ignored && ignored)) continue;
            gradc_data_place(d, i, r, where, sizeof where);
            if (!integral(f) && v == INT64_MAX)
                return gradc_error(e, 303, "classes are numbered from 0", "%s: %g of %s is no number of a class", where,
                                   gradc_get_float(f->pub.dtype, p), f->pub.name);
            if (!limit)
                return gradc_error(e, 303, "classes are numbered from 0", "%s: label %lld of %s is negative",
                                   where, (long long)v, f->pub.name);
            return gradc_error(e, 303, "classes are numbered from 0; does the data belong to this model?",
                               "%s: label %lld of %s is not in 0..%lld", where, (long long)v, f->pub.name,
                               (long long)limit - 1);
        }
    }
    return 0;
}

int data_classes(GradcData *d, int i, int64_t classes, GradcError *e) {
    int64_t high;
    int status = data_integer(d, "classes", 1, &classes, e);
    if (!status) status = range(d, i, classes, 0, &high, e);
    if (!status) d->fields[i].pub.classes = classes ? classes : high == INT64_MAX ? high : high + 1;
    return status;
}

int data_find_label(GradcData *d, GradcError *e) {
    int label = -1, status;
    int64_t classes = 0, high;
    GradcError none;
    for (int i = 0; i < d->nfields; i++)
        if (integral(&d->fields[i]) && elements(&d->fields[i]) == 1) label = i;
    if ((status = data_integer(d, "classes", 1, &classes, e))) return status;
    if (label < 0)
        return classes
                   ? gradc_error(e, 601, NULL, "option classes of %s:%s: no field is one integer a record",
                                 d->spec.kind, d->spec.path)
                   : 0;
    if (classes) return data_classes(d, label, classes, e);
    if (!range(d, label, 0, 0, &high, &none) && high < d->count + 1000) d->fields[label].pub.classes = high + 1;
    return 0;
}

int gradc_data_limit(const GradcData *d, int i, int64_t limit, int64_t ignored, GradcError *e) {
    const DataField *f = &d->fields[i];
    int64_t high;
    if (!integral(f) && gradc_types[f->pub.dtype].kind != FLOAT)
        return gradc_error(e, 603, NULL, "%s:%s: %s holds %s, not classes", d->spec.kind, d->spec.path,
                           f->pub.name, gradc_dtype_name(f->pub.dtype));
    if (f->pub.classes && f->pub.classes <= limit) return 0;
    return range(d, i, limit, ignored, &high, e);
}

/* ---- opening ---- */

static int open_kind(GradcData *d, GradcError *e) {
    int status = -1;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && status < 0; i++)
        if (!strcmp(d->spec.kind, kinds[i].kind)) status = kinds[i].open(d, e);
    if (status < 0)
        return gradc_error(e, 601, "the kinds are idx, cifar, npz, csv, names, text and raw",
                           "'%s:%s': no kind of data is named %s", d->spec.kind, d->spec.path, d->spec.kind);
    if (!status) status = data_common_options(d, e);
    if (!status && d->count < 1)
        return gradc_error(e, 303, NULL, "%s:%s: there are no records", d->spec.kind, d->spec.path);
    return status;
}

int gradc_data_open(GradcData **to, const char *spec, GradcError *e) {
    GradcData *d = *to = calloc(1, sizeof *d);
    if (!d) return gradc_error(e, 506, NULL, "out of memory");
    int status = data_spec(&d->spec, spec, e);
    if (!status) status = open_kind(d, e);
    if (!status) return 0;
    gradc_data_close(d);
    *to = NULL;
    return status;
}

void gradc_data_close(GradcData *d) {
    if (!d) return;
    for (int i = 0; i < d->nblocks; i++)
        if (d->blocks[i].mapped) munmap(d->blocks[i].p, d->blocks[i].mapped);
        else free(d->blocks[i].p);
    free(d->blocks);
    free(d->files);
    free(d->spec.text);
    free(d);
}

/* ---- looking ---- */

int64_t gradc_data_count(const GradcData *d) { return d->count; }
int gradc_data_fields(const GradcData *d) { return d->nfields; }
const GradcField *gradc_data_field(const GradcData *d, int i) { return &d->fields[i].pub; }

int gradc_data_find(const GradcData *d, const char *name) {
    for (int i = 0; i < d->nfields; i++)
        if (!strcmp(d->fields[i].pub.name, name)) return i;
    return -1;
}

const char *gradc_data_class(const GradcData *d, int i, int64_t k) {
    const DataField *f = &d->fields[i];
    return f->names && k >= 0 && k < f->pub.classes ? f->names[k] : NULL;
}

int64_t gradc_data_length(const GradcData *d, int i, int64_t record) {
    const DataField *f = &d->fields[i];
    return f->starts ? f->starts[record + 1] - f->starts[record] : 0;
}
