/* Tensors that come from shapes, attributes and sizes rather than from data: indices, constants, ranges,
   windows. */
#include "build.h"
#include "export.h"
#include "lower.h"
#include <math.h>

/* ---- iota ---- */

static void iota_shape(Node *n) {
    const Attr *a = node_attr(n, "dims");
    int64_t axis = attr_int(n, "axis");
    if (axis < 0 || axis >= a->n)
        node_error(n, 204, NULL, "axis %lld is outside a tensor of rank %d", (long long)axis, a->n);
    else node_out(n, 0, (DType)attr_int(n, "to"), a->n, a->dims);
}

static Expr *iota_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    DType t = n->out[0]->dt;
    Expr *e = idx[attr_int(n, "axis")];
    return dt_small(t) ? expr_cast(L->c, expr_cast(L->c, e, F32), t) : expr_cast(L->c, e, t);
}

/* ---- shapes ---- */

static void import_shape(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    const Value *x = n->in[0];
    int64_t from = import_int(n, "start", 0), to = import_int(n, "end", INT64_MAX), rank = x->rank;
    if (from < 0) from += rank;
    if (to < 0) to += rank;
    from = from < 0 ? 0 : from > rank ? rank : from;
    to = to < from ? from : to > rank ? rank : to;
    n->out[0] = value_of_exprs(n->g, 1, (int)(to - from), x->dim + from);
}

static void import_size(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Expr *count = value_count(n->g->c, n->in[0]);
    n->out[0] = value_of_exprs(n->g, 0, 1, &count);
}

/* ---- constants ---- */

/* Data of a constant must lie at a multiple of 64 bytes. */
static Value *constant(Graph *g, const ImportTensor *t) {
    const void *data = t->data;
    size_t bytes = (size_t)gd_dtypes[t->dt].bytes;
    if ((uintptr_t)data % 64) {
        for (int i = 0; i < t->rank; i++) bytes = (size_t)gd_mul(g->c, (int64_t)bytes, t->dims[i]);
        void *copy = gd_alloc_aligned(g->c, bytes ? bytes : 1);
        if (bytes) memcpy(copy, data, bytes);
        data = copy;
    }
    return graph_const(g, t->dt, t->rank, t->dims, data);
}

static Value *strings(Graph *g, int rank, int count, const char *const *s) {
    int64_t dim = count;
    const char **copy = gd_alloc_aligned(g->c, (size_t)(count ? count : 1) * sizeof *copy);
    for (int i = 0; i < count; i++) copy[i] = s[i];
    return graph_const(g, STRING, rank, &dim, copy);
}

static Value *floats(Graph *g, int count, const double *v) {
    int64_t dim = count;
    float *copy = gd_alloc_aligned(g->c, (size_t)(count ? count : 1) * sizeof *copy);
    for (int i = 0; i < count; i++) copy[i] = (float)v[i];
    return graph_const(g, F32, 1, &dim, copy);
}

static void import_constant(Import *n) {
    static const char *const names[] = {"value",        "value_float", "value_int",     "value_string",
                                        "value_floats", "value_ints",  "value_strings", "sparse_value"};
    Graph *g = n->g;
    const ImportAttr *a = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !a; i++) a = import_attr(n, names[i]);
    switch (a ? a->kind : 0) {
    case IM_TENSOR: case IM_SPARSE: n->out[0] = constant(g, &a->tensor); break;
    case IM_FLOAT: n->out[0] = const_scalar(g, F32, a->f); break;
    case IM_INT: {
        Expr *e = expr_int(g->c, a->i);
        n->out[0] = value_of_exprs(g, 0, 1, &e);
        break;
    }
    case IM_STRING: n->out[0] = strings(g, 0, 1, &a->s); break;
    case IM_FLOATS: n->out[0] = floats(g, a->n, a->floats); break;
    case IM_INTS: n->out[0] = const_ints(g, a->n, a->ints); break;
    case IM_STRINGS: n->out[0] = strings(g, 1, a->n, a->strings); break;
    default:
        import_error(n, 204, "value, or value_float, value_int, ...",
                     "the attribute with the value is missing");
    }
}

static bool valid_dims(Import *n, int count, Expr *const *dim) {
    for (int i = 0; i < count; i++) {
        int64_t v;
        if (!is_int(dim[i], &v) || v >= 0) continue;
        import_error(n, 303, NULL, "dim %d of the shape: %lld is negative", i, (long long)v);
        return false;
    }
    return count <= MAX_RANK;
}

static void import_constant_of_shape(Import *n) {
    Graph *g = n->g;
    Expr **dim;
    int errors = gd_error_count(g->c);
    if (!import_need(n, 1, 1)) return;
    const ImportAttr *a = import_attr(n, "value");
    int rank = import_list(n, NULL, 0, &dim);
    if (gd_error_count(g->c) > errors || !valid_dims(n, rank, dim)) return;
    Value *one = a && a->kind == IM_TENSOR ? constant(g, &a->tensor) : const_scalar(g, F32, 0);
    if (!is_value(value_count(g->c, one), 1)) {
        import_error(n, 204, NULL, "attribute value does not have one element");
        return;
    }
    n->out[0] = build_broadcast(g, build_reshape(g, one, 0, NULL), rank, dim);
}

static void import_eye_like(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    DType t = import_dtype(n, "dtype", x->dt);
    if (x->rank != 2 || t == DT_NONE) {
        import_error(n, 301, NULL, "a tensor of %d axes is no matrix", x->rank);
        return;
    }
    Value *row = build_iota(g, I64, 2, x->dim, 0), *column = build_iota(g, I64, 2, x->dim, 1);
    Value *shifted = make(g, "add", row, const_scalar(g, I64, (double)import_int(n, "k", 0)));
    n->out[0] = build_cast(g, make(g, "equal", shifted, column), t);
}

/* ---- ranges ---- */

static Value *one_element(Graph *g, Value *v) { return v->rank > 0 ? build_reshape(g, v, 0, NULL) : v; }

/* max(ceil((limit - start) / delta), 0): of integers as an expression, of floats by f64 arithmetic whose
   result is read. */
static Expr *range_count(Import *n, Value *const *in) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr *zero = expr_int(c, 0);
    if (dt_int(in[0]->dt)) {
        Expr *e[3];
        for (int i = 0; i < 3; i++) {
            Expr **read = value_read(g, in[i], "range", NULL);
            if (!read) return NULL;
            e[i] = read[0];
        }
        import_require(n, expr2(c, E_NE, e[2], zero), "a range with a step of 0");
        Expr *count = expr_sub(c, zero, expr_fdiv(c, expr_sub(c, e[0], e[1]), e[2]));
        return expr2(c, E_MAX, count, zero);
    }
    Value *f[3];
    for (int i = 0; i < 3; i++) f[i] = build_cast(g, in[i], F64);
    Value *steps = make(g, "ceil", make(g, "div", make(g, "sub", f[1], f[0]), f[2]));
    Expr **read =
        value_read(g, build_cast(g, make(g, "max", steps, const_scalar(g, F64, 0)), I64), "range", NULL);
    return read ? read[0] : NULL;
}

static void import_range(Import *n) {
    Graph *g = n->g;
    Value *in[3];
    if (!import_need(n, 3, 3) || !import_same_types(n, 0, 3)) return;
    import_int(n, "stash_type", 1);
    for (int i = 0; i < 3; i++) {
        if (n->in[i]->rank < 0) return;
        in[i] = one_element(g, n->in[i]);
        if (dt_small(in[i]->dt)) in[i] = build_cast(g, in[i], F32);
        if (in[i]->rank < 0) return;
    }
    Expr *count = range_count(n, in);
    if (!count) return;
    Value *k = build_iota(g, in[0]->dt, 1, &count, 0);
    n->out[0] = build_cast(g, make(g, "add", in[0], make(g, "mul", k, in[2])), n->in[0]->dt);
}

/* ---- one hot ---- */

/* on where the index equals the position along the new axis, counted from the end when negative. */
static void import_one_hot(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0 || n->in[2]->rank < 0) return;
    Value *at = build_cast(g, n->in[0], I64), *values = n->in[2];
    int rank = at->rank + 1, axis = import_axis(n, import_int(n, "axis", -1), rank);
    Expr **depth = value_read(g, build_cast(g, one_element(g, n->in[1]), I64), "depth", NULL), *dim[MAX_RANK];
    if (axis < 0 || !depth) return;
    if (rank > MAX_RANK) { import_error(n, 504, NULL, "the output would have %d axes", rank); return; }
    Value *size = build_scalar(g, I64, depth[0]), *zero = const_scalar(g, I64, 0);
    at = make(g, "where", make(g, "less", at, zero), make(g, "add", at, size), at);
    at = build_unsqueeze(g, at, axis);
    if (at->rank < 0) return;
    for (int i = 0; i < rank; i++) dim[i] = i == axis ? depth[0] : at->dim[i];
    Value *here = make(g, "equal", at, build_iota(g, I64, rank, dim, axis)), *pick[2];
    for (int i = 0; i < 2; i++)
        pick[i] = build_reshape(g, build_slice_axis(g, values, 0, expr_int(c, i), expr_int(c, 1)), 0, NULL);
    n->out[0] = make(g, "where", here, pick[1], pick[0]);
}

/* ---- windows of signal processing ---- */

/* a[0] + a[1] cos(2 pi k / n) + a[2] cos(4 pi k / n), where n is one less for a symmetric window. */
static void import_signal_window(Import *n) {
    static const struct { const char *name; double a[3];
    } windows[] = {{"HannWindow", {.5, -.5, 0}},
                   {"HammingWindow", {25. / 46, -21. / 46, 0}},
                   {"BlackmanWindow", {.42, -.5, .08}}};
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr **size;
    int w = 0, errors = gd_error_count(c);
    if (!import_need(n, 1, 1)) return;
    while (w < 2 && strcmp(windows[w].name, n->op)) w++;
    DType t = import_dtype(n, "output_datatype", F32), wide = t == F64 ? F64 : F32;
    bool periodic = import_int(n, "periodic", 1) != 0;
    int count = import_list(n, NULL, 0, &size);
    if (gd_error_count(c) > errors || count != 1 || !valid_dims(n, 1, size)) return;
    Value *length = build_scalar(g, wide, periodic ? size[0] : expr_sub(c, size[0], expr_int(c, 1)));
    Value *turn = make(
        g, "div", make(g, "mul", build_iota(g, wide, 1, size, 0), const_scalar(g, wide, 6.283185307179586)),
        length);
    Value *y = const_scalar(g, wide, windows[w].a[0]);
    for (int i = 1; i < 3; i++) {
        if (windows[w].a[i] == 0) continue;
        Value *angle = i == 1 ? turn : make(g, "add", turn, turn);
        y = make(g, "add", y, make(g, "mul", make(g, "cos", angle), const_scalar(g, wide, windows[w].a[i])));
    }
    n->out[0] = build_cast(g, y, t);
}

/* A range, along its axis, repeated along the others. */
static void export_iota(Export *x, Node *n) {
    const Value *y = n->out[0];
    int64_t axis = attr_int(n, "axis");
    if (!y->rank) {
        export_out(x, n, 0, export_number(x, y->dt, 0));
        return;
    }
    Expr *line[MAX_RANK];
    bool one = true;
    for (int i = 0; i < y->rank; i++) {
        line[i] = i == axis ? y->dim[i] : expr_int(x->c, 1);
        one = one && (i == axis || is_value(y->dim[i], 1));
    }
    ExportRef *r = export_op(x, "Range", I64, export_number(x, I64, 0), export_scalar(x, y->dim[axis]), export_number(x, I64, 1));
    r = export_cast(x, r, y->dt);
    if (y->rank > 1) r = export_reshape(x, r, y->rank, line);
    export_out(x, n, 0, one ? r : export_op(x, "Expand", y->dt, r, export_dims(x, y->rank, y->dim)));
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_shape[] = {
    {.name = "iota", .export = export_iota, .kind = OP_VIEW, .flags = OF_CHEAP | OF_NO_GRAD, .in = "", .out = "y",
     .attrs = {{"dims", AT_DIMS, 0, true}, {"axis", AT_INT, 0, true}, {"to", AT_DTYPE, 0, true}},
     .shape = iota_shape, .elem = iota_elem, .doc = "Every element is its own index along an axis."},
    {BUILD = "Shape", .import = import_shape, .doc = "The dims as a tensor, or those from start to end."},
    {BUILD = "Size", .import = import_size, .doc = "The number of elements."},
    {BUILD = "Constant", .import = import_constant, .doc = "A value of the model."},
    {BUILD = "ConstantOfShape", .settings = 1, .import = import_constant_of_shape,
     .doc = "A tensor of one value, 0 by default."},
    {BUILD = "EyeLike", .import = import_eye_like,
     .doc = "Ones on a diagonal, zeros elsewhere, in the shape of the input."},
    {BUILD = "Range", .settings = 1, .import = import_range, .doc = "start + i * delta, up to limit."},
    {BUILD = "OneHot", .settings = 2, .import = import_one_hot,
     .doc = "A new axis with one value at the position that the index gives, another elsewhere."},
    {BUILD = "HannWindow", .import = import_signal_window,
     .doc = "Hann's window: half a cosine from 0 up to 1 and down."},
    {BUILD = "HammingWindow", .import = import_signal_window,
     .doc = "Hamming's window, a cosine that does not reach 0."},
    {BUILD = "BlackmanWindow", .import = import_signal_window, .doc = "Blackman's window of two cosines."},
};
const int gd_ops_shape_n = sizeof gd_ops_shape / sizeof *gd_ops_shape;
