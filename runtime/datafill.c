/* Batches: how a field's record goes into a tensor of the model's dtype and shape. A plan is made once for a
   batch (which axes move, what the numbers become), then each record is copied by one of four loops: bytes as
   they are, a table for u8 pixels, one-hot, or element by element. Nothing is written outside of the batch:
   the plan's element count is the batch's. */
#define _POSIX_C_SOURCE 200809L
#include "dataset.h"
#include "element.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Plan {
    const DataField *f;
    int field, dtype;
    size_t from, to;       /* bytes of an element */
    bool onehot, straight; /* straight: source elements are taken in memory order */
    int64_t count;         /* elements of the source's record; of varying length: at most */
    int64_t depth;         /* one-hot: size of the last axis, else 1 */
    int64_t channels,
        inner; /* channel of source element k, in the order of the batch: k / inner % channels */
    int rank;
    int64_t dims[3], strides[3]; /* when not straight */
    int64_t outer, chunk;        /* a record goes to `outer` pieces of `chunk` elements */
    float (*table)[256];         /* u8 to f32, one a channel */
} Plan;

/* ---- do the shapes fit ---- */

static int drop_ones(int rank, const int64_t *dims, int64_t *to) {
    int n = 0;
    for (int i = 0; i < rank; i++)
        if (dims[i] != 1) to[n++] = dims[i];
    return n;
}

static bool equal(int n, const int64_t *a, int m, const int64_t *b) {
    return n == m && (!n || !memcmp(a, b, (size_t)n * sizeof *a));
}

static int64_t product(int n, const int64_t *dims) {
    int64_t v = 1;
    for (int i = 0; i < n; i++) v *= dims[i];
    return v;
}

static void set_straight(Plan *p, const DataField *f) {
    p->straight = true;
    int64_t expect = 1;
    for (int i = f->pub.rank - 1; i >= 0; i--) {
        if (f->pub.dims[i] != 1 && f->strides[i] != expect) p->straight = false;
        expect *= f->pub.dims[i];
    }
    p->rank = f->pub.rank <= 3 ? f->pub.rank : 0; /* higher ranks are straight: only images turn */
    for (int i = 0; i < p->rank; i++) p->dims[i] = f->pub.dims[i], p->strides[i] = f->strides[i];
    int axis = f->layout == LAYOUT_CHW ? 0 : f->layout == LAYOUT_HWC ? 2 : f->pub.rank == 1 ? 0 : -1;
    p->channels = axis < 0 ? 1 : f->pub.dims[axis];
    p->inner = axis == 0 && f->pub.rank == 3 ? f->pub.dims[1] * f->pub.dims[2] : 1;
}

/* The same image with its channels at the other end. */
static bool turned(Plan *p, const DataField *f, int n, const int64_t *want) {
    static const int turns[2][3] = {{1, 2, 0}, {2, 0, 1}}; /* to channels last, to channels first */
    if (f->pub.rank != 3 || n != 3) return false;
    for (int t = 0; t < 2; t++) {
        if (f->layout == (t ? LAYOUT_CHW : LAYOUT_HWC)) continue; /* it is there already */
        bool same = true;
        for (int i = 0; i < 3; i++) same &= want[i] == f->pub.dims[turns[t][i]];
        if (!same) continue;
        for (int i = 0; i < 3; i++) p->dims[i] = want[i], p->strides[i] = f->strides[turns[t][i]];
        p->rank = 3;
        p->straight = false;
        p->channels = want[t ? 0 : 2];
        p->inner = t ? want[1] * want[2] : 1;
        return true;
    }
    return false;
}

static bool fit_varying(Plan *p, const DataField *f, int n, const int64_t *want) {
    if (n < 1) return false;
    p->straight = true;
    p->channels = p->inner = 1;
    p->count = want[0];
    p->depth = product(n - 1, want + 1);
    if (p->depth == 1 && (n == 1 || f->pub.classes != 1)) return true;
    p->onehot = true;
    return f->pub.classes && p->depth >= f->pub.classes;
}

static bool fit_fixed(Plan *p, const DataField *f, int n, const int64_t *want) {
    int64_t a[GRADC_MAX_RANK], b[GRADC_MAX_RANK];
    int na = drop_ones(f->pub.rank, f->pub.dims, a), nb = drop_ones(n, want, b);
    p->count = product(na, a);
    p->depth = 1;
    set_straight(p, f);
    if (equal(na, a, nb, b)) return true;
    if ((na <= 1 || nb <= 1) && p->count == product(nb, b)) return true;
    if (turned(p, f, n, want)) return true;
    if (!f->pub.classes || !n) return false;
    p->onehot = true;
    p->depth = want[n - 1];
    nb = drop_ones(n - 1, want, b);
    return p->depth >= f->pub.classes && equal(na, a, nb, b);
}

static int plan(Plan *p, const GradcData *d, int i, int dtype, int rank, const int64_t *dims, int axis,
                GradcError *e) {
    const DataField *f = &d->fields[i];
    int64_t want[GRADC_MAX_RANK];
    int n = 0;
    bool varying = f->pub.rank && f->pub.dims[0] < 0;
    *p = (Plan){.f = f, .field = i, .dtype = dtype, .outer = 1, .chunk = 1};
    p->from = gradc_dtype_size(f->pub.dtype);
    p->to = gradc_dtype_size(dtype);
    if (!p->to || gradc_types[dtype].kind == TEXT || gradc_types[dtype].kind == COMPLEX)
        return gradc_error(e, 603, NULL, "%s:%s: a batch of %s cannot be filled", d->spec.kind, d->spec.path,
                           gradc_dtype_name(dtype));
    for (int k = 0; k < rank; k++)
        if (k != axis) {
            want[n++] = dims[k];
            if (k < axis) p->outer *= dims[k];
            else p->chunk *= dims[k];
        }
    bool ok = axis >= 0 && axis < rank && (varying ? fit_varying(p, f, n, want) : fit_fixed(p, f, n, want));
    if (ok) return 0;
    char has[200], wants[200];
    gradc_shape_text(has, sizeof has, f->pub.dtype, f->pub.rank, f->pub.dims);
    gradc_shape_text(wants, sizeof wants, dtype, n, want);
    if (f->pub.classes)
        return gradc_error(e, 603,
                           "labels go in as numbers, or one-hot into a last axis with room for all classes",
                           "%s:%s: %s is %s with %lld classes a record, the model takes %s", d->spec.kind,
                           d->spec.path, f->pub.name, has, (long long)f->pub.classes, wants);
    return gradc_error(
        e, 603, "the shapes must be equal up to axes of 1, or one of them flat; images may differ in layout=",
        "%s:%s: %s is %s a record, the model takes %s", d->spec.kind, d->spec.path, f->pub.name, has, wants);
}

int gradc_data_fits(const GradcData *d, int i, int dtype, int rank, const int64_t *dims, int batch_axis,
                    GradcError *e) {
    Plan p;
    return plan(&p, d, i, dtype, rank, dims, batch_axis, e);
}

/* ---- one element ---- */

static double transformed(const DataField *f, double v, int64_t channel) {
    v = v * f->num / f->den;
    if (f->nmean) v -= f->mean[f->nmean == 1 ? 0 : channel];
    if (f->nstd) v /= f->std[f->nstd == 1 ? 0 : channel];
    return v;
}

/* False when an integer batch cannot hold the value. */
static bool put(const Plan *p, const char *from, int64_t k, char *to) {
    const DataField *f = p->f;
    int in = gradc_types[f->pub.dtype].kind, out = gradc_types[p->dtype].kind;
    bool whole = in == SIGNED || in == UNSIGNED || in == BOOLEAN;
    if (out == FLOAT) {
        double v = in == FLOAT     ? gradc_get_float(f->pub.dtype, from)
                   : in == SIGNED  ? (double)gradc_get_signed(f->pub.dtype, from)
                   : in == BOOLEAN ? *from != 0
                                   : (double)gradc_get_unsigned(f->pub.dtype, from);
        if (f->scaled) v = transformed(f, v, k / p->inner % p->channels);
        gradc_put_float(p->dtype, v, (float)v, to);
        return true;
    }
    if (out == BOOLEAN && !whole) return *to = gradc_get_float(f->pub.dtype, from) != 0, true;
    if (!whole) {
        double v = gradc_get_float(f->pub.dtype, from);
        return v == rint(v) && fabs(v) < 0x1p63 && gradc_put_integer(p->dtype, v < 0, (uint64_t)fabs(v), to);
    }
    if (in == SIGNED) {
        int64_t v = gradc_get_signed(f->pub.dtype, from);
        return gradc_put_integer(p->dtype, v < 0, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, to);
    }
    return gradc_put_integer(p->dtype, false,
                             in == BOOLEAN ? *from != 0 : gradc_get_unsigned(f->pub.dtype, from), to);
}

static void put_one(int dtype, char *to) {
    if (gradc_types[dtype].kind == FLOAT) gradc_put_float(dtype, 1, 1, to);
    else gradc_put_integer(dtype, false, 1, to);
}

/* ---- one record into `to`, whose elements lie together ---- */

static int bad_element(const GradcData *d, const Plan *p, int64_t record, int64_t k, GradcError *e) {
    char where[400];
    gradc_data_place(d, p->field, record, where, sizeof where);
    return gradc_error(e, 303, NULL, "%s: element %lld of %s does not fit into %s", where, (long long)k,
                       p->f->pub.name, gradc_dtype_name(p->dtype));
}

static int fill_onehot(const GradcData *d, const Plan *p, int64_t record, const char *from, int64_t n,
                       char *to, GradcError *e) {
    for (int64_t k = 0; k < n; k++, from += p->from, to += (size_t)p->depth * p->to) {
        int64_t v = data_get(p->f, from);
        if (v < 0 || v >= p->depth) return bad_element(d, p, record, k, e);
        put_one(p->dtype, to + (size_t)v * p->to);
    }
    return 0;
}

static int fill_record(const GradcData *d, const Plan *p, int64_t record, char *to, GradcError *e) {
    const DataField *f = p->f;
    const char *from =
        f->starts ? f->base + (size_t)f->starts[record] * p->from : f->base + (size_t)record * f->step;
    int64_t n = f->starts ? f->starts[record + 1] - f->starts[record] : p->count;
    char where[400];
    if (n > p->count)
        return gradc_error(e, 603, "give the model a symbolic length",
                           "%s: %s has %lld elements, the model takes %lld",
                           gradc_data_place(d, p->field, record, where, sizeof where), f->pub.name, (long long)n,
                           (long long)p->count);
    if (p->onehot || n < p->count) memset(to, 0, (size_t)(p->outer * p->chunk) * p->to);
    if (p->onehot) return fill_onehot(d, p, record, from, n, to, e);
    bool as_is = f->pub.dtype == p->dtype && !(f->scaled && gradc_types[p->dtype].kind == FLOAT);
    if (p->straight && as_is) return memcpy(to, from, (size_t)n * p->from), 0;
    if (p->straight && p->table) {
        float *out = (float *)(void *)to;
        const unsigned char *in = (const unsigned char *)from;
        for (int64_t k = 0, c = 0; k < n; c = c + 1 == p->channels ? 0 : c + 1)
            for (int64_t end = k + p->inner < n ? k + p->inner : n; k < end; k++) out[k] = p->table[c][in[k]];
        return 0;
    }
    int64_t index[3] = {0}, at = 0;
    for (int64_t k = 0; k < n; k++) {
        const char *src = from + (size_t)(p->straight ? k : at) * p->from;
        if (p->table) ((float *)(void *)to)[k] = p->table[k / p->inner % p->channels][(unsigned char)*src];
        else if (!put(p, src, k, to + (size_t)k * p->to)) return bad_element(d, p, record, k, e);
        for (int i = p->rank - 1; i >= 0 && !p->straight; i--) {
            at += p->strides[i];
            if (++index[i] < p->dims[i]) break;
            at -= p->strides[i] * p->dims[i];
            index[i] = 0;
        }
    }
    return 0;
}

/* Pixels have 256 values: what each becomes is worked out once. */
static int make_table(Plan *p, GradcError *e) {
    if (p->f->pub.dtype != GRADC_U8 || p->dtype != GRADC_F32 || p->onehot) return 0;
    if (p->channels > DATA_CHANNELS) p->channels = 1, p->inner = 1; /* then mean and std are single numbers */
    p->table = malloc((size_t)p->channels * sizeof *p->table);
    if (!p->table) return gradc_error(e, 506, NULL, "out of memory for a batch");
    for (int64_t c = 0; c < p->channels; c++)
        for (int v = 0; v < 256; v++) p->table[c][v] = (float)(p->f->scaled ? transformed(p->f, v, c) : v);
    return 0;
}

/* ---- a batch ---- */

static int fill_all(const GradcData *d, const Plan *p, const int64_t *records, int64_t n, char *data,
                    char *scratch, GradcError *e) {
    size_t chunk = (size_t)p->chunk * p->to;
    for (int64_t r = 0; r < n; r++) {
        if (records[r] < 0 || records[r] >= d->count)
            return gradc_error(e, 901, NULL, "record %lld of %lld is asked for", (long long)records[r],
                               (long long)d->count);
        char *to = scratch ? scratch : data + (size_t)r * chunk;
        int status = fill_record(d, p, records[r], to, e);
        if (status) return status;
        for (int64_t o = 0; scratch && o < p->outer; o++)
            memcpy(data + (size_t)(o * n + r) * chunk, scratch + (size_t)o * chunk, chunk);
    }
    return 0;
}

int gradc_data_fill(const GradcData *d, int i, const int64_t *records, int64_t n, GradcTensor *to,
                    int batch_axis, GradcError *e) {
    Plan p;
    char *scratch = NULL;
    int status = plan(&p, d, i, to->dtype, to->rank, to->dims, batch_axis, e);
    if (status) return status;
    if (to->dims[batch_axis] != n)
        return gradc_error(e, 901, NULL, "a batch of %lld records for %lld", (long long)to->dims[batch_axis],
                           (long long)n);
    if ((status = make_table(&p, e))) return status;
    if (p.outer != 1 && !(scratch = malloc((size_t)(p.outer * p.chunk) * p.to + 1)))
        status = gradc_error(e, 506, NULL, "out of memory for a batch");
    if (!status) status = fill_all(d, &p, records, n, to->data, scratch, e);
    free(scratch);
    free(p.table);
    return status;
}
