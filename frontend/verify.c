/* See verify.h. Values are compared as NumPy's allclose does, |a - e| <= atol + rtol |e|, floats only: integers, truth
   values and strings must be equal. Every walk is over the elements of tensors that are in memory. */
#include "verify.h"
#include "onnx.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- data ---- */

static ValueKind kind_of(const PbType *t) {
    return !t || t->tensor_type ? VK_TENSOR : t->sequence_type ? VK_SEQUENCE : t->optional_type ? VK_OPTIONAL : VK_UNDEFINED;
}

static void read_port(Ctx *c, const PbValueInfo *v, const char *path, GradcTensor *out) {
    PbValue value = {0};
    const char *where = gd_where(c);
    if (kind_of(v->type) != VK_TENSOR) gd_fail(c, 402, NULL, "\"%s\" is no tensor", gd_escape(c, v->name, strlen(v->name)));
    pb_value_file(c, path, VK_TENSOR, &value);
    gd_set_where(c, where);
    *out = value.tensor;
}

static bool has_default(const PbGraph *g, const char *name) {
    for (size_t i = 0; i < g->n_initializer; i++)
        if (!strcmp(g->initializer[i]->name, name)) return true;
    return false;
}

/* The length of an input that is a list of i64, as an option; NULL for any other input. */
static const char *list_length(Ctx *c, const PbValueInfo *v) {
    const PbShape *s = v->type && v->type->tensor_type ? v->type->tensor_type->shape : NULL;
    if (!s || s->n_dim != 1 || !s->dim[0]->has_dim_value || gd_dtype_from_onnx(v->type->tensor_type->elem_type) != I64) return NULL;
    return gd_format(c, "%.32s_dim0=%lld", gd_escape(c, v->name, strlen(v->name)), (long long)s->dim[0]->dim_value);
}

/* Named sizes are at least 1 unless said otherwise. */
static void add_zeros(Ctx *c, const PbValueInfo *v, const GradcTensor *t, VerifyData *out, int *n) {
    const PbShape *s = v->type && v->type->tensor_type ? v->type->tensor_type->shape : NULL;
    for (size_t d = 0; s && d < s->n_dim && (int)d < t->rank; d++)
        if (*s->dim[d]->dim_param && t->dims[d] == 0 && *n < GRADC_MAX_RANK)
            out->zeros[(*n)++] = gd_format(c, "%s=0..inf", s->dim[d]->dim_param);
}

static PbGraph *open_model(Ctx *c, const char *model, VerifyData *out) {
    gd_set_where(c, model);
    PbGraph *g = pb_model_file(c, model)->graph;
    *out = (VerifyData){.in = gd_new_array(c, GradcTensor, g->n_input + 1), .out = gd_new_array(c, GradcTensor, g->n_output + 1)};
    return g;
}

void verify_data(Ctx *c, const char *model, const char *dir, VerifyData *out) {
    PbGraph *g = open_model(c, model, out);
    int lists = 0, zeros = 0;
    out->zeros = gd_new_array(c, const char *, GRADC_MAX_RANK + 1);
    out->lengths = gd_new_array(c, const char *, g->n_input + 1);
    for (size_t i = 0; i < g->n_input; i++)
        if (!has_default(g, g->input[i]->name)) {
            if ((out->lengths[lists] = list_length(c, g->input[i]))) lists++;
            read_port(c, g->input[i], gd_format(c, "%s/input_%d.pb", dir, out->nin), &out->in[out->nin]);
            add_zeros(c, g->input[i], &out->in[out->nin], out, &zeros);
            out->nin++;
        }
    for (size_t i = 0; i < g->n_output; i++, out->nout++)
        read_port(c, g->output[i], gd_format(c, "%s/output_%zu.pb", dir, i), &out->out[i]);
}

void verify_ramp(Ctx *c, const char *model, const char *output, VerifyData *out) {
    PbGraph *g = open_model(c, model, out);
    GradcTensor *t = &out->in[0];
    for (size_t i = 0; i < g->n_input; i++) {
        const PbValueInfo *v = g->input[i];
        if (has_default(g, v->name)) continue;
        if (out->nin++) gd_fail(c, 402, NULL, "there is more than one input");
        const PbShape *s = v->type && v->type->tensor_type ? v->type->tensor_type->shape : NULL;
        if (!s || s->n_dim > GRADC_MAX_RANK) gd_fail(c, 402, NULL, "the input has no shape");
        int64_t n = 1;
        for (size_t d = 0; d < s->n_dim; d++) n = gd_mul(c, n, t->dims[d] = s->dim[d]->has_dim_value ? s->dim[d]->dim_value : 1);
        float *x = gd_alloc_aligned(c, (size_t)n * sizeof *x);
        t->rank = (int)s->n_dim;
        t->dtype = GRADC_F32;
        t->bytes = (size_t)n * sizeof *x;
        t->data = x;
        for (int64_t k = 0; k < n; k++) x[k] = (float)k / (float)n;
    }
    out->nout = 1;
    read_port(c, g->output[0], output, &out->out[0]);
}

/* ---- from model to outputs ---- */

/* Two lists that end with NULL, and may be NULL, as one. */
static const char **both(Ctx *c, const char **a, const char **b) {
    int n = 0;
    for (int k = 0; k < 2; k++)
        for (const char **s = k ? b : a; s && *s; s++) n++;
    const char **all = gd_new_array(c, const char *, n + 1), **to = all;
    for (int k = 0; k < 2; k++)
        for (const char **s = k ? b : a; s && *s; s++) *to++ = *s;
    return all;
}

Program *verify_program(Ctx *c, const char *model, const VerifyData *d, const VerifyOptions *o) {
    const Target *t = o->target;
    FrontOptions front = {.symbolic = o->mode == VM_SYMBOLIC, .prefix = o->prefix};
    const GradcTensor **given = gd_new_array(c, const GradcTensor *, d->nin + 1);
    for (int i = 0; i < d->nin; i++) given[i] = &d->in[i];
    if (o->mode == VM_STATIC) front.dims = d->zeros;
    if (o->mode == VM_SYMBOLIC) front.dims = both(c, d->zeros, d->lengths);
    if (o->mode == VM_FOLDED) front.given = given, front.ngiven = d->nin;
    PassOptions pass = {.opt = o->opt, .numerics = NUM_DEFAULT, .threads = o->threads,
                        .machine = {t->lanes, t->registers, t->fma, t->l1, t->l2}};
    return passes_run(front_read(c, model, &front), &pass);
}

/* In every OpenMP that a loaded program brought along: each has threads of its own. */
static void set_threads(int n) {
    static const char *const names[] = {"libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *h = dlopen(names[i], RTLD_LAZY | RTLD_NOLOAD);
        void (*set)(int) = NULL;
        if (h) *(void **)&set = dlsym(h, "omp_set_num_threads");
        if (set) set(n);
        if (h) dlclose(h);
    }
}

static void close_call(void *call) { gradc_call_close(call); }

static GD_NORETURN void fail(Ctx *c, const GradcError *e) { gd_fail(c, e->code, *e->help ? e->help : NULL, "%s", e->text); }

GradcTensor *verify_run(Ctx *c, const GradcProgram *p, const VerifyData *d, const VerifyOptions *o) {
    GradcCall *call = gd_new(c, GradcCall);
    GradcError e = {0};
    int nin = o->mode == VM_FOLDED ? 0 : d->nin;
    if (nin != p->nin) gd_fail(c, 602, NULL, "the model has %d inputs, its data %d", p->nin, nin);
    set_threads(o->threads);
    if (gradc_call_open(call, p, &e)) fail(c, &e);
    gd_defer(c, close_call, call);
    for (int i = 0; i < nin; i++) {
        GradcTensor t = d->in[i];
        t.owned = false;
        if (gradc_call_set(call, i, &t, &e)) fail(c, &e);
    }
    if (gradc_call_run(call, &e)) fail(c, &e);
    return call->out;
}

/* A dim of a port for known symbols, INT64_MIN being one that is not bound yet; -1: not known. */
static int64_t size_now(const Program *p, Expr *dim, const int64_t *syms) {
    int64_t v;
    Map *m = map_new(p->c);
    for (int i = 0; i < p->syms.n; i++)
        if (syms[i] != INT64_MIN) map_putp(m, p->syms.v[i], expr_int(p->c, syms[i]));
    return is_int(expr_subst(p->c, dim, m), &v) ? v : -1;
}

static void bind_symbols(const Program *p, const Buf *port, const GradcTensor *t, int64_t *syms) {
    for (int a = 0; a < t->rank; a++) {
        int s = 0;
        if (port->dim[a]->kind == E_VAR)
            while (s < p->syms.n && p->syms.v[s] != port->dim[a]->var) s++;
        else s = p->syms.n;
        if (s < p->syms.n && syms[s] == INT64_MIN) syms[s] = t->dims[a];
        if (size_now(p, port->dim[a], syms) != t->dims[a])
            gd_fail(p->c, 603, NULL, "input %d: dim %d is %lld", port->port, a, (long long)t->dims[a]);
    }
}

GradcTensor *verify_interpret(Ctx *c, const Program *p, const VerifyData *d, const VerifyOptions *o) {
    int nin = o->mode == VM_FOLDED ? 0 : d->nin, nout = p->params.n - nin;
    const void **in = gd_new_array(c, const void *, nin + 1);
    GradcTensor *out = gd_new_array(c, GradcTensor, nout + 1);
    LoopArgs a = {in, gd_new_array(c, void *, nout + 1), gd_new_array(c, int64_t, p->syms.n + 1)};
    for (int i = 0; i < p->syms.n; i++) a.syms[i] = INT64_MIN;
    for (int i = 0; i < nin; i++) {
        const Buf *b = p->params.v[i];
        if ((int)b->dt != d->in[i].dtype || b->rank != d->in[i].rank) gd_fail(c, 603, NULL, "input %d is of another type", i);
        bind_symbols(p, b, &d->in[i], a.syms);
        in[i] = d->in[i].data;
    }
    int status = loop_interpret(c, p, &a);
    if (status) gd_fail(c, 303, NULL, "the program ended with status %d", status);
    for (int i = 0; i < nout; i++) {
        const Buf *b = p->params.v[nin + i];
        GradcError e;
        size_t count;
        out[i] = (GradcTensor){.dtype = (int)b->dt, .rank = b->rank, .data = a.out[i]};
        for (int k = 0; k < b->rank; k++) out[i].dims[k] = size_now(p, b->dim[k], a.syms);
        if (gradc_shape_bytes(out[i].dtype, out[i].rank, out[i].dims, &count, &out[i].bytes, &e)) fail(c, &e);
    }
    return out;
}

/* ---- comparing ---- */

static bool is_float(int dt) { return dt_float((DType)dt) || dt_small((DType)dt); }

/* The place of a float among the values of its type: sign and magnitude become one order. */
static double place_of(int dt, uint64_t bits) {
    int width = dt == GRADC_F4E2M1 ? 4 : 8 * (int)gradc_dtype_size(dt);
    uint64_t sign = 1ull << (width - 1), magnitude = bits & (sign - 1);
    if (dt == GRADC_F8E8M0) return (double)(bits & 0xff);
    return bits & sign ? -(double)magnitude : (double)magnitude;
}

static uint64_t memory_bits(const GradcTensor *t, size_t i) {
    uint64_t bits = 0;
    size_t n = gradc_dtype_size(t->dtype);
    memcpy(&bits, (const char *)t->data + i * n, n);
    return bits;
}

static double number(const GradcTensor *t, size_t i) {
    return gd_to_double((DType)t->dtype, gd_load_bits((DType)t->dtype, (const char *)t->data + i * gradc_dtype_size(t->dtype)));
}

static bool complex_type(int dt) { return dt == GRADC_C64 || dt == GRADC_C128; }

/* A complex tensor as one of twice as many floats. */
static GradcTensor real_view(const GradcTensor *t) {
    GradcTensor r = *t;
    if (!complex_type(t->dtype)) return r;
    r.dtype = t->dtype == GRADC_C64 ? GRADC_F32 : GRADC_F64;
    r.rank = 1;
    r.dims[0] = (int64_t)(2 * gradc_tensor_count(t));
    return r;
}

static void differ(VerifyReport *r, int port, size_t i, size_t n, const char *have, const char *want) {
    if (r->ok) snprintf(r->text, sizeof r->text, "output %d, element %zu of %zu: %.80s, not %.80s", port, i, n, have, want);
    r->ok = false;
}

static void compare_floats(const GradcTensor *a, const GradcTensor *e, int port, const VerifyOptions *o, VerifyReport *r) {
    size_t n = gradc_tensor_count(e);
    for (size_t i = 0; i < n; i++) {
        double x = number(a, i), y = number(e, i), d = fabs(x - y);
        if (x == y || (isnan(x) && isnan(y))) continue;
        bool bad = !(d <= o->atol + o->rtol * fabs(y));
        if (!isnan(d)) {
            double ulp = fabs(place_of(a->dtype, memory_bits(a, i)) - place_of(e->dtype, memory_bits(e, i)));
            r->abs = fmax(r->abs, d);
            if (y != 0) r->rel = fmax(r->rel, d / fabs(y));
            r->ulp = fmax(r->ulp, ulp);
        }
        if (!bad) continue;
        char have[40], want[40];
        gradc_float_text(have, sizeof have, a->dtype, (const char *)a->data + i * gradc_dtype_size(a->dtype));
        gradc_float_text(want, sizeof want, e->dtype, (const char *)e->data + i * gradc_dtype_size(e->dtype));
        differ(r, port, i, n, have, want);
    }
}

static void compare_exactly(const GradcTensor *a, const GradcTensor *e, int port, VerifyReport *r) {
    size_t n = gradc_tensor_count(e);
    for (size_t i = 0; i < n; i++) {
        if (e->dtype == GRADC_STRING) {
            const char *x = ((const char *const *)a->data)[i], *y = ((const char *const *)e->data)[i];
            if (strcmp(x, y)) differ(r, port, i, n, x, y);
            continue;
        }
        if (memory_bits(a, i) == memory_bits(e, i)) continue;
        double x = number(a, i), y = number(e, i);
        char have[40], want[40];
        r->abs = fmax(r->abs, fabs(x - y));
        r->ulp = fmax(r->ulp, fabs(x - y));
        snprintf(have, sizeof have, "%.17g", x);
        snprintf(want, sizeof want, "%.17g", y);
        differ(r, port, i, n, have, want);
    }
}

static bool same_type(const GradcTensor *a, const GradcTensor *b) {
    return a->dtype == b->dtype && a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
}

void verify_compare(Ctx *c, const VerifyData *d, const GradcTensor *out, int nout, const VerifyOptions *o, VerifyReport *r) {
    (void)c;
    *r = (VerifyReport){.ok = nout == d->nout};
    if (!r->ok) snprintf(r->text, sizeof r->text, "%d outputs, not %d", nout, d->nout);
    for (int i = 0; i < nout && i < d->nout; i++) {
        char have[200], want[200];
        if (!same_type(&out[i], &d->out[i])) {
            gradc_shape_text(have, sizeof have, out[i].dtype, out[i].rank, out[i].dims);
            gradc_shape_text(want, sizeof want, d->out[i].dtype, d->out[i].rank, d->out[i].dims);
            if (r->ok) snprintf(r->text, sizeof r->text, "output %d is %.100s, not %.100s", i, have, want);
            r->ok = false;
            continue;
        }
        GradcTensor a = real_view(&out[i]), e = real_view(&d->out[i]);
        if (is_float(a.dtype)) compare_floats(&a, &e, i, o, r);
        else compare_exactly(&a, &e, i, r);
    }
}

bool verify_equal(const GradcTensor *a, const GradcTensor *b, int n, char *why, size_t size) {
    for (int i = 0; i < n; i++) {
        GradcTensor x = real_view(&a[i]), y = real_view(&b[i]);
        if (!same_type(&a[i], &b[i])) {
            snprintf(why, size, "output %d is of another shape", i);
            return false;
        }
        size_t count = gradc_tensor_count(&x);
        for (size_t k = 0; k < count; k++) {
            if (x.dtype == GRADC_STRING ? !strcmp(((char **)x.data)[k], ((char **)y.data)[k]) : memory_bits(&x, k) == memory_bits(&y, k))
                continue;
            if (is_float(x.dtype) && isnan(number(&x, k)) && isnan(number(&y, k))) continue;
            snprintf(why, size, "output %d, element %zu of %zu: bits %llx and %llx", i, k, count,
                     (unsigned long long)memory_bits(&x, k), (unsigned long long)memory_bits(&y, k));
            return false;
        }
    }
    return true;
}
