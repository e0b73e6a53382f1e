/* Quantised tensors: an integer q stands for (q - zero_point) * scale. Products of quantised tensors are
   exact, in i32; what is rounded is rounded once, to nearest even, and kept inside the range of the result.
   Scales hold for the whole tensor, for an index of one axis, or for a block of elements along it. */
#include "build.h"
#include "windows.h"

static DType wide_type(DType t) { return t == F64 ? F64 : F32; }
static bool is_float(DType t) { return dt_float(t) || dt_small(t); }

/* The range of an integer type of at most 32 bits. */
static bool integer_range(DType t, double *lo, double *hi) {
    static const struct {
        DType t;
        double lo, hi;
    } range[] = {{I2, -2, 1},          {U2, 0, 3},      {I4, -8, 7},
                 {U4, 0, 15},          {I8, -128, 127}, {U8, 0, 255},
                 {I16, -32768, 32767}, {U16, 0, 65535}, {I32, -2147483648., 2147483647.}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].t == t) {
            *lo = range[i].lo;
            *hi = range[i].hi;
            return true;
        }
    return false;
}

/* A scale or zero point so that it lies along x: of one element, of one axis, or of blocks of one. NULL after
 * an error. */
static Value *along(Import *n, Value *v, const Value *x, int axis, int64_t block) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr *dim[MAX_RANK + 1], *one = expr_int(c, 1);
    if (v->rank < 0) return NULL;
    if (v->rank == 0 || (v->rank == 1 && is_value(v->dim[0], 1) && !block))
        return build_reshape(g, v, 0, NULL);
    if (v->rank == 1 && axis < x->rank) {
        import_require(
            n, expr2(c, E_OR, expr2(c, E_EQ, v->dim[0], x->dim[axis]), expr2(c, E_EQ, v->dim[0], one)),
            gd_format(c, "%s scales for an axis of %s", expr_text(c, v->dim[0]), expr_text(c, x->dim[axis])));
        for (int i = axis; i < x->rank; i++) dim[i - axis] = i == axis ? v->dim[0] : one;
        return build_reshape(g, v, x->rank - axis, dim);
    }
    if (v->rank != x->rank || block < 1 || v->rank == MAX_RANK) {
        import_error(n, 301, "a scalar, a vector along axis, or blocks with block_size", "a scale of %d axes",
                     v->rank);
        return NULL;
    }
    Expr *size = expr_int(c, block), *all = expr_mul(c, v->dim[axis], size);
    import_require(n, expr2(c, E_LE, x->dim[axis], all), "the blocks do not cover the axis");
    for (int i = 0; i <= v->rank; i++) dim[i] = i <= axis ? v->dim[i] : i == axis + 1 ? size : v->dim[i - 1];
    Value *wide = build_broadcast(g, build_unsqueeze(g, v, axis + 1), v->rank + 1, dim);
    for (int i = 0; i < v->rank; i++) dim[i] = i == axis ? all : v->dim[i];
    return build_slice_axis(g, build_reshape(g, wide, v->rank, dim), axis, expr_int(c, 0), x->dim[axis]);
}

/* x, a float, rounded, moved by the zero point (NULL: 0) and kept in range. */
static Value *to_integer(Import *n, Value *x, Value *zero, DType t) {
    Graph *g = n->g;
    double lo, hi;
    if (!integer_range(t, &lo, &hi)) {
        import_error(n, 302, NULL, "quantised to %s", gd_dtypes[t].name);
        return NULL;
    }
    x = make(g, "rint", x);
    if (zero) x = make(g, "add", x, build_cast(g, zero, x->dt));
    return build_cast(g, make(g, "clip", x, const_scalar(g, x->dt, lo), const_scalar(g, x->dt, hi)), t);
}

static int quant_axis(Import *n, const Value *x) {
    int64_t axis = import_int(n, "axis", 1);
    return x->rank < 2 && axis == 1 ? 0 : import_axis(n, axis, x->rank);
}

static void import_quantize(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *x = n->in[0], *zero = import_in(n, 2);
    int axis = quant_axis(n, x);
    int64_t block = import_int(n, "block_size", 0), saturate = import_int(n, "saturate", 1);
    DType t = zero ? zero->dt : import_dtype(n, "output_dtype", U8), w = wide_type(x->dt);
    import_int(n, "output_dtype", 0);
    import_int(n, "precision", 0);
    if (axis < 0 || t == DT_NONE) return;
    Value *scale = along(n, n->in[1], x, axis, block);
    if (zero) zero = along(n, zero, x, axis, block);
    if (!scale || (n->nin > 2 && n->in[2] && !zero)) return;
    Value *y = make(g, "div", build_cast(g, x, w), build_cast(g, scale, w));
    if (!is_float(t)) {
        n->out[0] = to_integer(n, y, zero, t);
        return;
    }
    if (zero) y = make(g, "add", y, build_cast(g, zero, w));
    Node *m = node_begin(g, "cast");
    node_input(m, y);
    node_dtype(m, "to", t);
    node_int(m, "saturate", saturate);
    n->out[0] = node_finish(m);
}

/* q - zero_point: of integers in i32, of small floats in f32. */
static Value *centred(Graph *g, Value *q, Value *zero) {
    DType t = is_float(q->dt) ? wide_type(q->dt) : I32;
    q = build_cast(g, q, t);
    return zero ? make(g, "sub", q, build_cast(g, zero, t)) : q;
}

static void import_dequantize(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *x = n->in[0], *zero = import_in(n, 2);
    int axis = quant_axis(n, x);
    int64_t block = import_int(n, "block_size", 0);
    DType t = import_int(n, "output_dtype", 0) ? import_dtype(n, "output_dtype", F32) : n->in[1]->dt,
          w = wide_type(t);
    if (axis < 0 || t == DT_NONE) return;
    Value *scale = along(n, n->in[1], x, axis, block);
    if (zero) zero = along(n, zero, x, axis, block);
    if (!scale || (n->nin > 2 && n->in[2] && !zero)) return;
    Value *y = build_cast(g, centred(g, x, zero), w);
    n->out[0] = build_cast(g, make(g, "mul", y, build_cast(g, scale, w)), t);
}

/* To u8, so that the range from the smallest to the largest element, 0 among them, fits. */
static void import_dynamic(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    int64_t axes[MAX_RANK];
    Value *x = n->in[0];
    Map *values = map_new(g->c);
    for (int i = 0; i < x->rank; i++) axes[i] = i;
    map_puts(values, "x", x);
    map_puts(values, "most", build_reduce(g, "reduce_max", x, x->rank, axes, false));
    map_puts(values, "least", build_reduce(g, "reduce_min", x, x->rank, axes, false));
    Value *least = graph_text(g, "min(least, 0)", values, NULL);
    map_puts(values, "least", least);
    Value *range = graph_text(g, "max(most, 0) - least", values, NULL);
    map_puts(values, "range", range);
    Value *scale = graph_text(g, "range == 0 ? 1 : range / 255", values, NULL);
    map_puts(values, "scale", scale);
    Value *zero = graph_text(g, "clip(rint(-least / scale), 0, 255)", values, NULL);
    n->out[0] = to_integer(n, graph_text(g, "x / scale", values, NULL), zero, U8);
    if (n->nout > 1) n->out[1] = scale;
    if (n->nout > 2) n->out[2] = build_cast(g, zero, U8);
}

/* ---- products ---- */

/* A zero point or scale of a matrix: of one element, of its rows (a vector on the left side), of its columns,
   or of the matrix's rank. */
static Value *of_matrix(Graph *g, Value *v, bool rows) {
    if (v->rank == 1 && is_value(v->dim[0], 1)) return build_reshape(g, v, 0, NULL);
    return v->rank == 1 && rows ? build_unsqueeze(g, v, 1) : v;
}

static Value *integer_product(Import *n, Value *a, Value *za, Value *b, Value *zb) {
    Graph *g = n->g;
    Value *p = centred(g, a, za ? of_matrix(g, za, true) : NULL),
          *q = centred(g, b, zb ? of_matrix(g, zb, false) : NULL);
    return build_matmul(g, p, q);
}

static bool all_ranked(Import *n, int count) {
    for (int i = 0; i < count && i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank < 0) return false;
    return true;
}

static void import_matmul_integer(Import *n) {
    if (!import_need(n, 2, 4) || !all_ranked(n, 4)) return;
    n->out[0] = integer_product(n, n->in[0], import_in(n, 2), n->in[1], import_in(n, 3));
}

/* An i32 result under the product of its factors' scales over its own. */
static Value *rescaled(Import *n, Value *sum, Value *sa, Value *sb, Value *sy, Value *zy) {
    Graph *g = n->g;
    DType w = wide_type(sa->dt);
    Value *factor =
        make(g, "div", make(g, "mul", build_cast(g, sa, w), build_cast(g, sb, w)), build_cast(g, sy, w));
    return to_integer(n, make(g, "mul", build_cast(g, sum, w), factor), zy, zy->dt);
}

static void import_qlinear_matmul(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 8, 8) || !all_ranked(n, 8)) return;
    Value **in = n->in, *sum = integer_product(n, in[0], in[2], in[3], in[5]);
    n->out[0] = rescaled(n, sum, of_matrix(g, in[1], true), of_matrix(g, in[4], false),
                         of_matrix(g, in[6], true), of_matrix(g, in[7], true));
}

/* A vector over output channels so that it lies along axis 1 of y, or along axis 0 of the kernel. */
static Value *over_channels(Graph *g, Value *v, int rank, int axis) {
    Expr *dim[MAX_RANK];
    if (v->rank != 1) return v;
    if (is_value(v->dim[0], 1)) return build_reshape(g, v, 0, NULL);
    for (int i = axis; i < rank; i++) dim[i - axis] = i == axis ? v->dim[0] : expr_int(g->c, 1);
    return build_reshape(g, v, rank - axis, dim);
}

static Value *integer_conv(Import *n, Value *x, Value *zx, Value *w, Value *zw, Value *bias) {
    Graph *g = n->g;
    Window win;
    if (x->rank < 3 || w->rank != x->rank) {
        import_error(n, 301, NULL, "the input has %d axes and the kernel %d: both need the same, at least 3",
                     x->rank, w->rank);
        return NULL;
    }
    if (!import_window(n, x, w->dim + 2, &win)) return NULL;
    x = centred(g, x, zx ? over_channels(g, zx, x->rank, 1) : NULL);
    w = centred(g, w, zw ? over_channels(g, zw, w->rank, 0) : NULL);
    Node *conv = node_begin(g, "conv");
    node_input(conv, window_pad(g, x, &win, 0));
    node_input(conv, w);
    if (bias) node_input(conv, build_cast(g, bias, I32));
    node_ints(conv, "strides", win.spatial, win.strides);
    node_ints(conv, "dilations", win.spatial, win.dilations);
    node_int(conv, "group", import_int(n, "group", 1));
    return node_finish(conv);
}

static void import_conv_integer(Import *n) {
    if (!import_need(n, 2, 4) || !all_ranked(n, 4)) return;
    Value *y = integer_conv(n, n->in[0], import_in(n, 2), n->in[1], import_in(n, 3), NULL);
    if (y) n->out[0] = y;
}

static void import_qlinear_conv(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 8, 9) || !all_ranked(n, 9)) return;
    Value **in = n->in, *y = integer_conv(n, in[0], in[2], in[3], in[5], import_in(n, 8));
    if (!y || y->rank < 0) return;
    Value *one[4] = {in[1], in[4], in[6], in[7]};
    for (int i = 0; i < 4; i++) one[i] = over_channels(g, one[i], y->rank, 1);
    n->out[0] = rescaled(n, y, one[0], one[1], one[2], one[3]);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_quant[] = {
    {BUILD = "QuantizeLinear", .settings = 2, .import = import_quantize,
     .doc = "x / scale rounded, plus the zero point, inside the range of the type."},
    {BUILD = "DequantizeLinear", .settings = 2, .import = import_dequantize, .doc = "(x - zero point) * scale."},
    {BUILD = "DynamicQuantizeLinear", .import = import_dynamic,
     .doc = "u8 with the scale and zero point that x's range asks for."},
    {BUILD = "MatMulInteger", .import = import_matmul_integer,
     .doc = "The matrix product of integers less their zero points, in i32."},
    {BUILD = "ConvInteger", .import = import_conv_integer,
     .doc = "The convolution of integers less their zero points, in i32."},
    {BUILD = "QLinearMatMul", .import = import_qlinear_matmul,
     .doc = "The matrix product of quantised matrices, quantised."},
    {BUILD = "QLinearConv", .import = import_qlinear_conv,
     .doc = "The convolution of quantised tensors with an i32 bias, quantised."},
};
const int gd_ops_quant_n = sizeof gd_ops_quant / sizeof *gd_ops_quant;
