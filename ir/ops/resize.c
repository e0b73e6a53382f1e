/* Resize and Upsample: axis by axis, elements sampled around a place and weighted by a kernel. The place of
   output o is computed in f32 (a scale of 0.4 is meant, not its expansion), by the formula of the coordinate
   transformation mode. */
#include "build.h"
#include "sample.h"
#include <math.h>

typedef enum Kernel { NEAREST, LINEAR, CUBIC } Kernel;

typedef struct Resize {
    Import *n;
    Kernel kernel;
    const char *place;   /* formula of the place over o, s, in, out */
    const char *nearest; /* formula of the index over x */
    double a;            /* cubic */
    bool exclude, antialias, crop;
    double extrapolation;
    Value *outside; /* where the crop lies beyond the input; NULL: nowhere */
} Resize;

/* One axis: how many elements it gets, and by what factor. */
typedef struct Factor {
    int axis;
    Expr *out;
    Value *scale;
    Value *roi[2];
    double known; /* the scale, 0 unless it is known */
} Factor;

static const char *const places[][2] = {
    /* mode, formula */
    {"half_pixel", "(o + 0.5) / s - 0.5"},
    {"half_pixel_symmetric", "in / 2 * (1 - out / (s * in)) + (o + 0.5) / s - 0.5"},
    {"pytorch_half_pixel", "out > 1 ? (o + 0.5) / s - 0.5 : o * 0"},
    {"align_corners", "s * in == 1 ? o * 0 : o * (in - 1) / (s * in - 1)"},
    {"asymmetric", "o / s"},
    {"tf_half_pixel_for_nn", "(o + 0.5) / s"},
    {"tf_crop_and_resize", "out > 1 ? from * (in - 1) + o * (to - from) * (in - 1) / (out - 1) : o * 0 + "
                           "(from + to) * (in - 1) / 2"},
};
static const char *const roundings[][2] = {{"round_prefer_floor", "ceil(x - 0.5)"},
                                           {"round_prefer_ceil", "floor(x + 0.5)"},
                                           {"floor", "floor(x)"},
                                           {"ceil", "ceil(x)"}};

static const char *chosen(Import *n, const char *attr, const char *mode, const char *const (*table)[2],
                          int count) {
    for (int i = 0; i < count; i++)
        if (!strcmp(table[i][0], mode)) return table[i][1];
    import_error(n, 204, NULL, "attribute %s: there is no \"%s\"", attr,
                 gd_escape(n->g->c, mode, strlen(mode)));
    return NULL;
}

static Value *number(Graph *g, double v) { return const_scalar(g, F32, v); }

/* Over the places of one axis, so that it broadcasts along it in a tensor of that rank. */
static Value *axis_places(const Resize *r, const Value *x, const Factor *f) {
    Graph *g = r->n->g;
    Ctx *c = g->c;
    Expr *dim[MAX_RANK];
    int rank = x->rank - f->axis;
    for (int i = 0; i < rank; i++) dim[i] = i ? expr_int(c, 1) : f->out;
    Map *values = map_new(c);
    map_puts(values, "o", build_iota(g, F32, rank, dim, 0));
    map_puts(values, "s", f->scale);
    map_puts(values, "in", build_scalar(g, F32, x->dim[f->axis]));
    map_puts(values, "out", build_scalar(g, F32, f->out));
    map_puts(values, "from", f->roi[0]);
    map_puts(values, "to", f->roi[1]);
    return graph_text(g, r->place, values, NULL);
}

/* The kernel at distance t: a triangle, or Keys's cubic convolution ("Cubic convolution interpolation for
   digital image processing", 1981). */
static Value *weight(const Resize *r, Value *t) {
    Map *values = map_new(r->n->g->c), *attrs = map_new(r->n->g->c);
    Attr *a = gd_new(r->n->g->c, Attr);
    *a = (Attr){.kind = AT_FLOAT, .f = r->a};
    map_puts(values, "t", make(r->n->g, "abs", t));
    map_puts(attrs, "a", a);
    if (r->kernel == LINEAR) return graph_text(r->n->g, "max(1 - t, 0)", values, attrs);
    return graph_text(
        r->n->g,
        "t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : t < 2 ? ((t - 5) * t + 8) * t * a - 4 * a : 0",
        values, attrs);
}

static Value *inside(Graph *g, Value *at, const Value *x, int axis) {
    Value *end = build_scalar(g, I64, x->dim[axis]);
    return make(g, "and", make(g, "less_equal", const_scalar(g, I64, 0), at), make(g, "less", at, end));
}

/* Elements around each place, weighted. */
static Value *interpolate(const Resize *r, Value *x, const Factor *f, Value *place) {
    Graph *g = r->n->g;
    int64_t axis = f->axis;
    int first = r->kernel == LINEAR ? 0 : -1, count = 2 - 2 * first;
    Value *base = make(g, "floor", place), *ratio = make(g, "sub", place, base),
          *start = build_cast(g, base, I64);
    Value *w[4], *at[4], *sum = NULL, *y = NULL;
    for (int i = 0; i < count; i++) {
        at[i] = make(g, "add", start, const_scalar(g, I64, first + i));
        w[i] = weight(r, make(g, "sub", number(g, first + i), ratio));
        if (r->exclude) w[i] = make(g, "where", inside(g, at[i], x, f->axis), w[i], number(g, 0));
        sum = sum ? make(g, "add", sum, w[i]) : w[i];
    }
    for (int i = 0; i < count; i++) {
        Value *part = build_sample(g, x, 1, &axis, &at[i]);
        part = make(g, "mul", part, build_cast(g, r->exclude ? make(g, "div", w[i], sum) : w[i], x->dt));
        y = y ? make(g, "add", y, part) : part;
    }
    return y;
}

/* Where an axis gets shorter the kernel gets wider, so that it reaches over all elements that fall on a
   place: a product with the matrix of weights. The edge elements stand for what lies outside. */
static Value *interpolate_wide(const Resize *r, Value *x, const Factor *f, Value *place) {
    Graph *g = r->n->g;
    Ctx *c = g->c;
    int64_t perm[MAX_RANK], from = f->axis, to = 1, row = 1;
    Expr *zero = expr_int(c, 0), *lo[MAX_RANK];
    Value *narrow = make(g, "min", f->scale, number(g, 1)), *reach = number(g, r->kernel == LINEAR ? 2 : 3);
    Expr **read =
        value_read(g, build_cast(g, make(g, "ceil", make(g, "div", reach, narrow)), I64), "reach", NULL);
    if (!read) return x;
    for (int i = 0; i < x->rank; i++) lo[i] = i == f->axis ? read[0] : zero;
    Node *extend = node_begin(g, "extend");
    node_input(extend, x);
    node_dims(extend, "lo", x->rank, lo);
    node_dims(extend, "hi", x->rank, lo);
    node_int(extend, "mode", 0);
    Value *more = node_finish(extend);
    if (more->rank < 0 || place->rank < 0) return x;
    Expr *dim[] = {f->out, more->dim[f->axis]};
    Value *at = make(g, "sub", build_iota(g, I64, 2, dim, 1), build_scalar(g, I64, read[0]));
    Value *middle = build_reshape(g, place, 2, (Expr *[]){f->out, expr_int(c, 1)});
    Value *w = weight(r, make(g, "mul", make(g, "sub", build_cast(g, at, F32), middle), narrow));
    if (r->exclude) w = make(g, "where", inside(g, at, x, f->axis), w, number(g, 0));
    w = make(g, "div", w, build_reduce(g, "reduce_sum", w, 1, &row, true));
    Node *m = node_begin(g, "contract");
    node_input(m, more);
    node_input(m, build_cast(g, w, x->dt));
    node_ints(m, "a_batch", 0, NULL);
    node_ints(m, "b_batch", 0, NULL);
    node_ints(m, "a_contract", 1, &from);
    node_ints(m, "b_contract", 1, &to);
    for (int i = 0; i < x->rank; i++) perm[i] = i < f->axis ? i : i == f->axis ? x->rank - 1 : i - 1;
    return build_transpose(g, node_finish(m), perm);
}

static Value *resize_axis(Resize *r, Value *x, const Factor *f) {
    Graph *g = r->n->g;
    int64_t axis = f->axis;
    Value *place = axis_places(r, x, f);
    if (place->rank < 0) return x;
    if (r->crop) {
        Map *values = map_new(g->c);
        map_puts(values, "p", place);
        map_puts(values, "last", build_scalar(g, F32, expr_sub(g->c, x->dim[f->axis], expr_int(g->c, 1))));
        Value *outside = graph_text(g, "p < 0 || p > last", values, NULL);
        r->outside = r->outside ? make(g, "or", r->outside, outside) : outside;
    }
    if (r->kernel != NEAREST && r->antialias && !(f->known >= 1)) return interpolate_wide(r, x, f, place);
    if (r->kernel != NEAREST) return interpolate(r, x, f, place);
    Map *values = map_new(g->c);
    map_puts(values, "x", place);
    Value *index = build_cast(g, graph_text(g, r->nearest, values, NULL), I64);
    return build_sample(g, x, 1, &axis, &index);
}

static void resize(Resize *r, int count, const Factor *f) {
    Import *n = r->n;
    Graph *g = n->g;
    Value *x = n->in[0], *y = x;
    if (r->kernel != NEAREST) y = build_cast(g, y, x->dt == F64 ? F64 : F32);
    for (int i = 0; i < count && y->rank >= 0; i++) {
        if (f[i].known == 1 && f[i].out == x->dim[f[i].axis] && !r->crop) continue;
        y = resize_axis(r, y, &f[i]);
    }
    if (r->outside) y = make(g, "where", r->outside, const_scalar(g, y->dt, r->extrapolation), y);
    n->out[0] = build_cast(g, y, x->dt);
}

/* ---- factors ---- */

static bool known_number(Graph *g, const Value *v, int i, double *out) {
    if (!value_known(v)) return false;
    const Expr *e = value_elem(g, v, i);
    if (!is_const(e)) return false;
    *out = gd_to_double((DType)e->type.dt, e->bits);
    return true;
}

/* Element i of a vector, in f32. */
static Value *element(Graph *g, Value *v, int i) {
    return build_cast(
        g, build_reshape(g, build_slice_axis(g, v, 0, expr_int(g->c, i), expr_int(g->c, 1)), 0, NULL), F32);
}

/* floor(in * scale), by arithmetic on data when the scale is not known. */
static bool by_scale(Import *n, const Value *x, Value *scales, int i, Factor *f) {
    Graph *g = n->g;
    Ctx *c = g->c;
    int64_t size;
    bool known = known_number(g, scales, i, &f->known);
    double out = known && is_int(x->dim[f->axis], &size) ? (double)floorf((float)size * (float)f->known) : 0;
    if (known && (!(f->known > 0) || !(out < 0x1p62))) {
        import_error(n, 204, NULL, "a scale of %g", f->known);
        return false;
    }
    f->scale = known ? number(g, f->known) : element(g, scales, i);
    if (known && is_int(x->dim[f->axis], &size))
        f->out = expr_int(c, (int64_t)out);
    else if (known && f->known == floor(f->known) && f->known < 1e9)
        f->out = expr_mul(c, x->dim[f->axis], expr_int(c, (int64_t)f->known));
    else {
        Value *size_now = make(g, "floor", make(g, "mul", build_scalar(g, F32, x->dim[f->axis]), f->scale));
        Expr **e = value_read(g, build_cast(g, size_now, I64), "size", NULL);
        if (!e) return false;
        f->out = e[0];
    }
    return true;
}

static void by_size(Import *n, const Value *x, Expr *size, Factor *f) {
    Graph *g = n->g;
    int64_t in, out;
    f->out = size;
    f->known = 0;
    if (is_int(x->dim[f->axis], &in) && is_int(size, &out) && in > 0)
        f->scale = number(g, f->known = (double)out / (double)in);
    else if (size == x->dim[f->axis]) f->scale = number(g, f->known = 1);
    else f->scale = make(g, "div", build_scalar(g, F32, size), build_scalar(g, F32, x->dim[f->axis]));
}

/* One factor for all axes: the smallest, or the largest. */
static bool keep_aspect(Import *n, const Value *x, bool smallest, int count, Factor *f) {
    Graph *g = n->g;
    Value *all = f[0].scale;
    double known = f[0].known;
    for (int i = 1; i < count; i++) {
        all = make(g, smallest ? "min" : "max", all, f[i].scale);
        known = !known || !f[i].known ? 0 : smallest ? fmin(known, f[i].known) : fmax(known, f[i].known);
    }
    for (int i = 0; i < count; i++) {
        Value *size = make(g, "mul", build_scalar(g, F32, x->dim[f[i].axis]), all);
        Value *whole = build_cast(g, make(g, "floor", make(g, "add", size, number(g, .5))), I64);
        Expr **e = value_read(g, whole, "size", NULL);
        if (!e) return false;
        f[i].known = known;
        f[i].scale = all;
        f[i].out = e[0];
    }
    return true;
}

static bool read_axes(Import *n, const Value *x, int *count, Factor *f) {
    const int64_t *axes;
    int given = import_ints(n, "axes", &axes);
    *count = given ? given : x->rank;
    if (*count > x->rank) {
        import_error(n, 204, NULL, "attribute axes has %d entries for %d axes", *count, x->rank);
        return false;
    }
    for (int i = 0; i < *count; i++) {
        f[i] = (Factor){.axis = given ? import_axis(n, axes[i], x->rank) : i,
                        .roi = {number(n->g, 0), number(n->g, 1)}};
        if (f[i].axis < 0) return false;
    }
    return true;
}

static bool has_elements(const Value *v) { return v && !(v->rank == 1 && is_value(v->dim[0], 0)); }

/* The sizes or scales of the axes. */
static bool read_factors(Import *n, const Value *x, Value *scales, int sizes, int count, Factor *f) {
    Expr **size;
    const char *policy = import_string(n, "keep_aspect_ratio_policy", "stretch");
    bool by_scales = has_elements(scales);
    if (by_scales) {
        if (scales->rank != 1) return false;
        import_require(n, expr2(n->g->c, E_EQ, scales->dim[0], expr_int(n->g->c, count)),
                       "not one scale an axis");
        for (int i = 0; i < count; i++)
            if (!by_scale(n, x, scales, i, &f[i])) return false;
        return true;
    }
    if (import_list(n, NULL, sizes, &size) != count) {
        import_error(n, 205, NULL, "neither scales nor sizes for %d axes", count);
        return false;
    }
    for (int i = 0; i < count; i++) by_size(n, x, size[i], &f[i]);
    if (!strcmp(policy, "stretch")) return true;
    return keep_aspect(n, x, !strcmp(policy, "not_larger"), count, f);
}

static bool read_mode(Import *n, Resize *r) {
    static const char *const names[][2] = {{"nearest", ""}, {"linear", ""}, {"cubic", ""}, {"bilinear", ""}};
    const char *mode = import_string(n, "mode", "nearest");
    if (!chosen(n, "mode", mode, names, 4)) return false;
    r->kernel = !strcmp(mode, "nearest") ? NEAREST : !strcmp(mode, "cubic") ? CUBIC : LINEAR;
    return true;
}

static void import_resize(Import *n) {
    if (!import_need(n, 1, 4) || n->in[0]->rank < 0) return;
    Resize r = {.n = n};
    Value *x = n->in[0];
    Factor f[MAX_RANK];
    int count;
    bool old = n->opset < 11;
    if (!read_mode(n, &r) || !read_axes(n, x, &count, f)) return;
    const char *place = import_string(n, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel");
    r.place = chosen(n, "coordinate_transformation_mode", place, places, sizeof places / sizeof *places);
    r.nearest = chosen(n, "nearest_mode",
                       import_string(n, "nearest_mode", old ? "floor" : "round_prefer_floor"), roundings, 4);
    r.a = import_float(n, "cubic_coeff_a", -.75);
    r.exclude = import_int(n, "exclude_outside", 0) != 0;
    r.antialias = import_int(n, "antialias", 0) != 0;
    r.extrapolation = import_float(n, "extrapolation_value", 0);
    r.crop = !strcmp(place, "tf_crop_and_resize");
    if (!r.place || !r.nearest || !read_factors(n, x, import_in(n, old ? 1 : 2), 3, count, f)) return;
    Value *roi = old ? NULL : import_in(n, 1);
    if (r.crop && (!roi || roi->rank != 1)) {
        import_error(n, 205, NULL, "tf_crop_and_resize needs roi");
        return;
    }
    for (int i = 0; r.crop && i < 2 * count; i++) f[i % count].roi[i / count] = element(n->g, roi, i);
    resize(&r, count, f);
}

static void import_upsample(Import *n) {
    if (!import_need(n, 1, 2) || n->in[0]->rank < 0) return;
    Graph *g = n->g;
    Resize r = {.n = n, .place = "o / s", .nearest = "floor(x)"};
    Value *x = n->in[0], *scales = import_in(n, 1);
    Factor f[MAX_RANK];
    const double *given;
    int count;
    if (!read_mode(n, &r) || !read_axes(n, x, &count, f)) return;
    if (n->opset < 9) {
        double old[4] = {1, 1, import_float(n, "height_scale", 1), import_float(n, "width_scale", 1)};
        int ngiven = import_floats(n, "scales", &given);
        if (!ngiven && x->rank == 4) {
            given = old;
            ngiven = 4;
        }
        float *data = gd_alloc_aligned(g->c, (size_t)(ngiven ? ngiven : 1) * sizeof *data);
        for (int i = 0; i < ngiven; i++) data[i] = (float)given[i];
        scales = graph_const(g, F32, 1, (int64_t[]){ngiven}, data);
    }
    if (read_factors(n, x, scales, 2, count, f)) resize(&r, count, f);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_resize[] = {
    {BUILD = "Resize", .settings = 2, .import = import_resize,
     .doc = "Another size by nearest, linear or cubic interpolation."},
    {BUILD = "Upsample", .settings = 2, .import = import_upsample, .doc = "The same, older: places are o / scale."},
};
const int gd_ops_resize_n = sizeof gd_ops_resize / sizeof *gd_ops_resize;
