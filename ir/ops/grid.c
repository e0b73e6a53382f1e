/* Images read at places that tensors give: GridSample, AffineGrid, RoiAlign, DeformConv. A place on each
   spatial axis gives a few elements and their weights; the result is the weighted sum over all combinations.
 */
#include "build.h"
#include "sample.h"
#include "windows.h"

typedef struct Names {
    Graph *g;
    Map *values;
} Names;
static Names names(Graph *g) { return (Names){g, map_new(g->c)}; }
static void name(Names *s, const char *key, Value *v) { map_puts(s->values, key, v); }
static Value *text(const Names *s, const char *formula) { return graph_text(s->g, formula, s->values, NULL); }

enum { MOST_SPATIAL = 3, MOST_TAPS = 4 };

/* Elements along one axis, and their weights. */
typedef struct Taps {
    int count;
    Value *at[MOST_TAPS], *weight[MOST_TAPS];
} Taps;

/* The sum over all combinations of taps, in order. */
static Value *weighted_sum(Graph *g, Value *x, int n, const int64_t *axes, const Taps *taps) {
    int which[MOST_SPATIAL] = {0};
    Value *sum = NULL;
    for (;;) {
        Value *at[MOST_SPATIAL], *w = NULL;
        for (int i = 0; i < n; i++) {
            Value *one = taps[i].weight[which[i]];
            at[i] = taps[i].at[which[i]];
            w = w && one ? make(g, "mul", w, one) : one ? one : w;
        }
        Value *part = build_sample(g, x, n, axes, at);
        if (w) part = make(g, "mul", part, build_cast(g, w, part->dt));
        sum = sum ? make(g, "add", sum, part) : part;
        int i = n - 1;
        while (i >= 0 && ++which[i] == taps[i].count) which[i--] = 0;
        if (i < 0) return sum;
    }
}

/* ---- GridSample ---- */

typedef enum Edge { ZEROS, BORDER, REFLECTION } Edge;
typedef struct Grid {
    Import *n;
    int taps;
    Edge edge;
    bool align;
} Grid;

/* Back and forth between the two borders, which lie at elements or half an element outside. */
static Value *reflect(const Grid *s, Names *v, Value *p) {
    name(v, "p", p);
    name(v, "lo", const_scalar(s->n->g, p->dt, s->align ? 0 : -.5));
    name(v, "range", text(v, s->align ? "size - 1" : "size"));
    name(v, "turn", text(v, "range == 0 ? 1 : 2 * range"));
    name(v, "t", text(v, "(p - lo) - floor((p - lo) / turn) * turn"));
    return text(v, "range == 0 ? p * 0 : lo + min(t, turn - t)");
}

static Value *into_range(const Grid *s, Names *v, Value *p) {
    if (s->edge == ZEROS) return p;
    if (s->edge == REFLECTION) return reflect(s, v, p);
    name(v, "p", p);
    return text(v, "clip(p, size * 0, size - 1)");
}

/* Weights of Keys's cubic with a = -3/4 at distance t. */
#define CUBIC "t <= 1 ? (1.25 * t - 2.25) * t * t + 1 : ((-0.75 * t + 3.75) * t - 6) * t + 3"

/* place is from -1 to 1 over the whole axis. */
static Taps grid_taps(const Grid *s, Value *place, Value *size) {
    Graph *g = s->n->g;
    Names v = names(g);
    Taps taps = {.count = s->taps};
    name(&v, "g", place);
    name(&v, "size", size);
    Value *p =
        into_range(s, &v, text(&v, s->align ? "(g + 1) / 2 * (size - 1)" : "((g + 1) * size - 1) / 2"));
    Value *base = make(g, s->taps == 1 ? "rint" : "floor", p), *ratio = make(g, "sub", p, base);
    for (int i = 0; i < s->taps; i++) {
        double offset = s->taps == 4 ? i - 1 : i;
        Value *at = make(g, "add", base, const_scalar(g, base->dt, offset)), *w = NULL;
        name(&v, "t", make(g, "abs", make(g, "sub", const_scalar(g, base->dt, offset), ratio)));
        if (s->taps > 1) w = text(&v, s->taps == 2 ? "1 - t" : CUBIC);
        name(&v, "at", at);
        if (s->edge == ZEROS) {
            name(&v, "w", w ? w : const_scalar(g, base->dt, 1));
            w = text(&v, "at >= 0 && at < size ? w : 0");
        }
        taps.at[i] = build_cast(g, into_range(s, &v, at), I64);
        taps.weight[i] = w;
    }
    return taps;
}

static bool grid_options(Import *n, Grid *s) {
    const char *mode = import_string(n, "mode", n->opset < 20 ? "bilinear" : "linear");
    const char *padding = import_string(n, "padding_mode", "zeros");
    *s = (Grid){.n = n, .align = import_int(n, "align_corners", 0) != 0};
    s->taps = !strcmp(mode, "nearest")                               ? 1
              : !strcmp(mode, "linear") || !strcmp(mode, "bilinear") ? 2
              : !strcmp(mode, "cubic") || !strcmp(mode, "bicubic")   ? 4
                                                                     : 0;
    s->edge = !strcmp(padding, "border") ? BORDER : !strcmp(padding, "reflection") ? REFLECTION : ZEROS;
    if (s->taps && (s->edge != ZEROS || !strcmp(padding, "zeros"))) return true;
    import_error(n, 204, "nearest, linear or cubic; zeros, border or reflection",
                 "attribute mode or padding_mode: \"%s\", \"%s\"", gd_escape(n->g->c, mode, strlen(mode)),
                 gd_escape(n->g->c, padding, strlen(padding)));
    return false;
}

static void import_grid_sample(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Grid s;
    if (!import_need(n, 2, 2) || n->in[0]->rank < 0 || n->in[1]->rank < 0 || !grid_options(n, &s)) return;
    Value *x = n->in[0], *grid = n->in[1];
    int spatial = x->rank - 2;
    if (spatial < 1 || spatial > MOST_SPATIAL || grid->rank != x->rank) {
        import_error(n, 301, NULL, "a grid %s does not fit an input of %d axes", value_type_text(c, grid),
                     x->rank);
        return;
    }
    import_require(n, expr2(c, E_EQ, grid->dim[spatial + 1], expr_int(c, spatial)),
                   gd_format(c, "the grid has %s coordinates, not %d", expr_text(c, grid->dim[spatial + 1]), spatial));
    DType w = x->dt == F64 ? F64 : F32;
    Taps taps[MOST_SPATIAL];
    int64_t axes[MOST_SPATIAL];
    grid = build_cast(g, grid, grid->dt == F64 ? F64 : w);
    for (int i = 0; i < spatial; i++) { /* the last coordinate is that of the first spatial axis */
        Value *place = build_slice_axis(g, grid, spatial + 1, expr_int(c, spatial - 1 - i), expr_int(c, 1));
        place = build_unsqueeze(g, build_squeeze(g, place, spatial + 1), 1);
        axes[i] = 2 + i;
        taps[i] = grid_taps(&s, place, build_scalar(g, grid->dt, x->dim[2 + i]));
    }
    bool exact = s.taps == 1;
    n->out[0] = build_cast(
        g, weighted_sum(g, exact && s.edge != ZEROS ? x : build_cast(g, x, w), spatial, axes, taps), x->dt);
}

/* ---- AffineGrid ---- */

static void import_affine_grid(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr **size, *one = expr_int(c, 1);
    if (!import_need(n, 2, 2) || n->in[0]->rank < 0) return;
    bool align = import_int(n, "align_corners", 0) != 0;
    Value *theta = n->in[0], *sum = NULL;
    int count = import_list(n, NULL, 1, &size), spatial = count - 2, rank = spatial + 2;
    if (spatial < 2 || spatial > 3 || theta->rank != 3) {
        import_error(n, 301, "4 or 5 sizes, theta of 3 axes", "a grid of %d sizes", count);
        return;
    }
    DType t = theta->dt, w = t == F64 ? F64 : F32;
    for (int k = 0; k <= spatial; k++) { /* column k of theta: [N, 1, .., spatial] */
        Expr *dim[5] = {theta->dim[0]}, *line[5];
        for (int i = 1; i < rank; i++) dim[i] = i == rank - 1 ? theta->dim[1] : one;
        Value *part =
            build_reshape(g, build_cast(g, build_slice_axis(g, theta, 2, expr_int(c, k), one), w), rank, dim);
        if (k < spatial) {
            int axis = spatial - k; /* x runs along the last spatial axis */
            Names s = names(g);
            for (int i = 0; i < rank; i++) line[i] = i == axis ? size[1 + axis] : one;
            name(&s, "i", build_iota(g, w, rank, line, axis));
            name(&s, "n", build_scalar(g, w, size[1 + axis]));
            part = make(g, "mul", part,
                        text(&s, align ? "n > 1 ? 2 * i / (n - 1) - 1 : i * 0" : "(2 * i + 1) / n - 1"));
        }
        sum = sum ? make(g, "add", sum, part) : part;
    }
    n->out[0] = build_cast(g, sum, t);
}

/* ---- RoiAlign ---- */

typedef struct Roi {
    Import *n;
    Value *rois;
    DType w;
    double scale;
    bool half;
    int64_t ratio;
} Roi;

/* Samples along one axis: `cells` outputs of `most` samples each; those behind a region's own number are
 * void. */
typedef struct Line {
    Taps taps;
    Value *live, *number;
    Expr *most;
} Line;

/* Corners k and k + 2 of every region bound the axis. index: along axis `place` of four. */
static bool roi_line(const Roi *s, int k, int64_t cells, Expr *axis, int place, Line *l) {
    Graph *g = s->n->g;
    Ctx *c = g->c;
    Expr *one = expr_int(c, 1), *column[] = {s->rois->dim[0], one, one, one}, *dim[] = {one, one, one, one};
    Names v = names(g);
    for (int i = 0; i < 2; i++) {
        Value *corner = build_slice_axis(g, s->rois, 1, expr_int(c, k + 2 * i), one);
        name(&v, i ? "b" : "a", build_cast(g, build_reshape(g, corner, 4, column), s->w));
    }
    name(&v, "scale", const_scalar(g, s->w, s->scale));
    name(&v, "cells", const_scalar(g, s->w, (double)cells));
    name(&v, "size", build_scalar(g, s->w, axis));
    name(&v, "start", text(&v, s->half ? "a * scale - 0.5" : "a * scale"));
    name(&v, "length", text(&v, s->half ? "(b * scale - 0.5) - start" : "max(b * scale - start, 1)"));
    l->number =
        s->ratio > 0 ? const_scalar(g, s->w, (double)s->ratio) : text(&v, "max(ceil(length / cells), 0)");
    l->most = expr_int(c, s->ratio);
    if (s->ratio <= 0) {
        Value *most = build_reduce(g, "reduce_max", l->number, 4, (const int64_t[]){0, 1, 2, 3}, false);
        Expr **e = value_read(g, build_cast(g, most, I64), "samples", NULL);
        if (!e) return false;
        l->most = expr2(c, E_MAX, e[0], one);
    }
    dim[place] = expr_mul(c, expr_int(c, cells), l->most);
    Value *q = build_iota(g, I64, 4, dim, place), *most = build_scalar(g, I64, l->most),
          *cell = make(g, "div", q, most);
    name(&v, "number", l->number);
    name(&v, "cell", build_cast(g, cell, s->w));
    name(&v, "i", build_cast(g, make(g, "sub", q, make(g, "mul", cell, most)), s->w));
    name(&v, "p",
         text(&v, "start + cell * (length / cells) + (i + 0.5) * (length / cells) / max(number, 1)"));
    l->live = text(&v, "i < number && p >= -1 && p <= size");
    name(&v, "p", text(&v, "min(max(p, 0), size - 1)"));
    name(&v, "base", text(&v, "floor(p)"));
    l->taps = (Taps){2,
                     {text(&v, "base"), text(&v, "min(base + 1, size - 1)")},
                     {text(&v, "1 - (p - base)"), text(&v, "p - base")}};
    name(&v, "live", l->live);
    for (int i = 0; i < 2; i++) {
        name(&v, "w", l->taps.weight[i]);
        l->taps.weight[i] = text(&v, "live ? w : 0");
        l->taps.at[i] = build_cast(g, l->taps.at[i], I64);
    }
    return true;
}

static void import_roi_align(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    static const int64_t samples[] = {3, 5}, axes[] = {0, 2, 3};
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0 || n->in[2]->rank < 0) return;
    Value *x = n->in[0], *rois = n->in[1];
    int64_t height = import_int(n, "output_height", 1), width = import_int(n, "output_width", 1);
    const char *mode = import_string(n, "mode", "avg"),
               *how = import_string(n, "coordinate_transformation_mode",
                                    n->opset < 16 ? "output_half_pixel" : "half_pixel");
    Roi s = {n,
             rois,
             x->dt == F64 ? F64 : F32,
             import_float(n, "spatial_scale", 1),
             !strcmp(how, "half_pixel"),
             import_int(n, "sampling_ratio", 0)};
    Line y, z;
    if (x->rank != 4 || rois->rank != 2 || n->in[2]->rank != 1 || height < 1 || width < 1) {
        import_error(n, 301, NULL, "an image of 4 axes, regions of 2, and their images are needed");
        return;
    }
    if (!roi_line(&s, 1, height, x->dim[2], 2, &y) || !roi_line(&s, 0, width, x->dim[3], 3, &z)) return;
    Expr *one = expr_int(c, 1),
         *split[] = {rois->dim[0], x->dim[1], expr_int(c, height), y.most, expr_int(c, width), z.most};
    Value *image = build_reshape(g, build_cast(g, n->in[2], I64), 4, (Expr *[]){rois->dim[0], one, one, one});
    Taps taps[] = {{1, {image}, {NULL}}, y.taps, z.taps};
    Value *wide = build_cast(g, x, s.w);
    if (strcmp(mode, "max")) {
        Value *v = build_reshape(g, weighted_sum(g, wide, 3, axes, taps), 6, split);
        v = build_reduce(g, "reduce_sum", v, 2, samples, false);
        Value *number = make(g, "max", make(g, "mul", y.number, z.number), const_scalar(g, s.w, 1));
        n->out[0] = build_cast(g, make(g, "div", v, number), x->dt);
        return;
    }
    Value *best = NULL; /* of the weighted elements, not of their sums */
    for (int i = 0; i < 4; i++) {
        Taps single[] = {taps[0],
                         {1, {y.taps.at[i / 2]}, {y.taps.weight[i / 2]}},
                         {1, {z.taps.at[i % 2]}, {z.taps.weight[i % 2]}}};
        Value *v = weighted_sum(g, wide, 3, axes, single);
        best = best ? make(g, "max", best, v) : v;
    }
    n->out[0] = build_cast(
        g, build_reduce(g, "reduce_max", build_reshape(g, best, 6, split), 2, samples, false), x->dt);
}

/* ---- DeformConv ---- */

/* Places of all elements under a kernel along one spatial axis: [N, groups, K, out...] from the offsets of
 * that axis. */
static Value *deformed(Graph *g, const Window *win, Value *offsets, int axis, Expr *kernel, Expr *inner) {
    Ctx *c = g->c;
    Expr *one = expr_int(c, 1), *line[] = {one, one, offsets->dim[2], one, one},
         *out[] = {one, one, one, one, one};
    Names s = names(g);
    out[3 + axis] = offsets->dim[4 + axis];
    name(&s, "k", build_iota(g, I64, 5, line, 2)); /* which element of the kernel, row by row */
    name(&s, "o", build_iota(g, I64, 5, out, 3 + axis));
    name(&s, "inner", build_scalar(g, I64, inner));
    name(&s, "kernel", build_scalar(g, I64, kernel));
    name(&s, "stride", const_scalar(g, I64, (double)win->strides[axis]));
    name(&s, "dilation", const_scalar(g, I64, (double)win->dilations[axis]));
    name(&s, "pad", build_scalar(g, I64, win->lo[axis]));
    Value *at = text(&s, "o * stride - pad + mod(k / inner, kernel) * dilation");
    Value *move = build_squeeze(g, build_slice_axis(g, offsets, 3, expr_int(c, axis), one), 3);
    return make(g, "add", build_cast(g, at, move->dt), move);
}

/* The two neighbours of a place; outside the axis there are zeros. */
static Taps linear_taps(Graph *g, Value *p, Value *size) {
    Names s = names(g);
    Taps taps = {.count = 2};
    name(&s, "p", p);
    name(&s, "size", size);
    for (int i = 0; i < 2; i++) {
        name(&s, "at", text(&s, i ? "floor(p) + 1" : "floor(p)"));
        taps.weight[i] = text(&s, i ? "at >= 0 && at < size ? p - (at - 1) : 0"
                                    : "at >= 0 && at < size ? 1 - (p - at) : 0");
        taps.at[i] = build_cast(g, map_gets(s.values, "at"), I64);
    }
    return taps;
}

/* x[N, C, K, oh, ow] by w[M, C / group, K] group by group: [N, M, oh, ow]. */
static Value *grouped_product(Graph *g, Value *x, Value *w, Expr *group) {
    Ctx *c = g->c;
    Expr *per = expr_fdiv(c, w->dim[0], group);
    Expr *xd[] = {x->dim[0], group, w->dim[1], x->dim[2], x->dim[3], x->dim[4]},
         *wd[] = {group, per, w->dim[1], x->dim[2]};
    Node *n = node_begin(g, "contract");
    node_input(n, build_reshape(g, x, 6, xd));
    node_input(n, build_reshape(g, w, 4, wd));
    node_ints(n, "a_batch", 1, (const int64_t[]){1});
    node_ints(n, "b_batch", 1, (const int64_t[]){0});
    node_ints(n, "a_contract", 2, (const int64_t[]){2, 3});
    node_ints(n, "b_contract", 2, (const int64_t[]){2, 3});
    Value *y = node_finish(n); /* [group, N, oh, ow, M / group] */
    if (y->rank != 5) return y;
    y = build_transpose(g, y, (const int64_t[]){1, 0, 4, 2, 3});
    return build_reshape(g, y, 4, (Expr *[]){x->dim[0], w->dim[0], x->dim[3], x->dim[4]});
}

static void import_deform_conv(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Window win;
    if (!import_need(n, 3, 5) || !import_same_types(n, 0, 5)) return;
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank < 0) return;
    Value *x = n->in[0], *w = n->in[1], *offset = n->in[2], *bias = import_in(n, 3), *mask = import_in(n, 4);
    int64_t group = import_int(n, "group", 1), groups = import_int(n, "offset_group", 1);
    DType t = x->dt == F64 ? F64 : F32;
    if (x->rank != 4 || w->rank != 4 || offset->rank != 4 || group < 1 || groups < 1) {
        import_error(n, 402, "images of two spatial axes", "an input of %d axes, a kernel of %d", x->rank,
                     w->rank);
        return;
    }
    if (!import_window(n, x, w->dim + 2, &win)) return;
    Expr *one = expr_int(c, 1), *og = expr_int(c, groups), *k = expr_mul(c, w->dim[2], w->dim[3]),
         *oh = offset->dim[2], *ow = offset->dim[3];
    Expr *rows = expr_mul(c, k, oh), *flat[] = {x->dim[0], og, one, rows, ow};
    Value *moves =
        build_reshape(g, build_cast(g, offset, t), 6, (Expr *[]){x->dim[0], og, k, expr_int(c, 2), oh, ow});
    Value *split =
        build_reshape(g, build_cast(g, x, t), 5,
                      (Expr *[]){x->dim[0], og, expr_fdiv(c, x->dim[1], og), x->dim[2], x->dim[3]});
    if (moves->rank != 6 || split->rank != 5) return;
    Taps taps[2];
    for (int i = 0; i < 2; i++) {
        Value *p = deformed(g, &win, moves, i, w->dim[2 + i], i ? one : w->dim[3]);
        taps[i] = linear_taps(g, build_reshape(g, p, 5, flat), build_scalar(g, t, x->dim[2 + i]));
    }
    Value *v = weighted_sum(g, split, 2, (const int64_t[]){3, 4}, taps);
    if (mask) v = make(g, "mul", v, build_reshape(g, build_cast(g, mask, t), 5, flat));
    if (v->rank != 5) return;
    v = build_reshape(g, v, 5, (Expr *[]){x->dim[0], x->dim[1], k, oh, ow});
    Value *y = grouped_product(g, v, build_cast(g, w, t), expr_int(c, group));
    if (bias)
        y = make(g, "add", y, build_reshape(g, build_cast(g, bias, t), 3, (Expr *[]){w->dim[0], one, one}));
    n->out[0] = build_cast(g, y, x->dt);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_grid[] = {
    {BUILD = "GridSample", .import = import_grid_sample,
     .doc = "The input at places that a grid gives, from -1 to 1 on each axis."},
    {BUILD = "AffineGrid", .import = import_affine_grid,
     .doc = "The grid that an affine map makes of the output's places."},
    {BUILD = "DeformConv", .import = import_deform_conv,
     .doc = "Convolution whose kernel reads the input at places that offsets move."},
    {BUILD = "RoiAlign", .settings = 2, .import = import_roi_align,
     .doc = "Regions of images, averaged (or the largest) over samples in each of a fixed number of cells."},
};
const int gd_ops_grid_n = sizeof gd_ops_grid / sizeof *gd_ops_grid;
