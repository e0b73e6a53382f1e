/* Softmax and normalisations, as small graphs of sums, differences and elementwise functions: gradients and fusion come from
   those. What is stored in fewer bits than f32 is computed in f32 and rounded once, at the end. */
#include "build.h"

static Value *add(Graph *g, Value *a, Value *b) { return make(g, "add", a, b); }
static Value *sub(Graph *g, Value *a, Value *b) { return make(g, "sub", a, b); }
static Value *mul(Graph *g, Value *a, Value *b) { return make(g, "mul", a, b); }
static Value *quotient(Graph *g, Value *a, Value *b) { return make(g, "div", a, b); }
static Value *number(Graph *g, const Value *like, double v) { return const_scalar(g, like->dt, v); }

/* In a type that arithmetic knows. */
static Value *wide(Graph *g, Value *x) { return build_cast(g, x, x->dt == F64 ? F64 : F32); }

/* The axes that a statistic is taken over; count is the number of elements along them. */
typedef struct Axes { int n; int64_t axis[MAX_RANK]; } Axes;

static Axes from_axis(const Value *x, int axis) {
    Axes a = {0};
    for (int i = axis; i < x->rank; i++) a.axis[a.n++] = i;
    return a;
}

static Axes one_axis(int axis) { return (Axes){1, {axis}}; }

static Value *sum(Graph *g, Value *x, const Axes *a) { return build_reduce(g, "reduce_sum", x, a->n, a->axis, true); }

static Value *mean(Graph *g, Value *x, const Axes *a) {
    Expr *count = expr_int(g->c, 1);
    if (x->rank < 0) return x;
    for (int i = 0; i < a->n; i++) count = expr_mul(g->c, count, x->dim[a->axis[i]]);
    return quotient(g, sum(g, x, a), build_scalar(g, x->dt, count));
}

/* A vector over channels so that it lies along axis 1 of x. */
static Value *over_channels(Graph *g, const Value *x, Value *v) {
    if (v->rank == 1)
        for (int i = 2; i < x->rank; i++) v = build_unsqueeze(g, v, v->rank);
    return v;
}

/* ---- softmax ---- */

/* Before version 13 the axes from `axis` on (1 by default) are one. */
static bool softmax_axes(Import *n, Axes *a) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return false;
    const Value *x = n->in[0];
    bool old = n->opset < 13;
    int64_t given = import_int(n, "axis", old ? 1 : -1);
    if (!x->rank || (old && given == x->rank)) { *a = (Axes){0}; return true; }
    int axis = import_axis(n, given, x->rank);
    *a = old ? from_axis(x, axis) : one_axis(axis);
    return axis >= 0;
}

/* x less its largest element, which changes no result but keeps exp from overflowing: a constant to differentiation. */
static Value *below_largest(Graph *g, Value *x, const Axes *a) {
    return sub(g, x, make(g, "detach", build_reduce(g, "reduce_max", x, a->n, a->axis, true)));
}

static void import_softmax(Import *n) {
    Graph *g = n->g;
    Axes a;
    if (!softmax_axes(n, &a)) return;
    Value *x = n->in[0], *e = make(g, "exp", below_largest(g, wide(g, x), &a));
    n->out[0] = build_cast(g, quotient(g, e, sum(g, e, &a)), x->dt);
}

static void import_log_softmax(Import *n) {
    Graph *g = n->g;
    Axes a;
    if (!softmax_axes(n, &a)) return;
    Value *x = n->in[0], *d = below_largest(g, wide(g, x), &a);
    n->out[0] = build_cast(g, sub(g, d, make(g, "log", sum(g, make(g, "exp", d), &a))), x->dt);
}

/* 1 at the first largest element. */
static void import_hardmax(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Axes a;
    if (!softmax_axes(n, &a)) return;
    Value *x = n->in[0], *v = x;
    Expr *dim[2] = {expr_int(c, 1), expr_int(c, 1)};
    bool flat = n->opset < 13;
    if (flat) {
        for (int i = 0; i < x->rank; i++) dim[a.n && i >= a.axis[0]] = expr_mul(c, dim[a.n && i >= a.axis[0]], x->dim[i]);
        v = build_reshape(g, x, 2, dim);
        a = one_axis(1);
    }
    if (!a.n) { n->out[0] = number(g, x, 1); return; }
    Node *best = node_begin(g, "argmax");
    node_input(best, v);
    node_int(best, "axis", a.axis[0]);
    Value *here = build_iota(g, I64, v->rank, v->dim, (int)a.axis[0]);
    n->out[0] = build_reshape(g, build_cast(g, make(g, "equal", here, node_finish(best)), x->dt), x->rank, x->dim);
}

/* ---- normalisation by mean and variance ---- */

typedef struct Moments { Value *mean, *centred, *variance; } Moments;

static Moments moments(Graph *g, Value *x, const Axes *a) {
    Moments m = {.mean = mean(g, x, a)};
    m.centred = sub(g, x, m.mean);
    m.variance = mean(g, mul(g, m.centred, m.centred), a);
    return m;
}

static Value *inverse_deviation(Graph *g, Value *variance, double epsilon) {
    return make(g, "reciprocal", make(g, "sqrt", add(g, variance, number(g, variance, epsilon))));
}

/* One factor a channel, so with constant statistics one multiplication and addition an element are left. */
static void import_batch_norm(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 5, 5)) return;
    Value *x = n->in[0], *in[5];
    double epsilon = import_float(n, "epsilon", 1e-5), momentum = import_float(n, "momentum", .9);
    bool training = n->opset >= 14 ? import_int(n, "training_mode", 0) != 0 : n->nout > 1 && !import_int(n, "is_test", 0);
    import_int(n, "spatial", 1);
    import_has(n, "consumed_inputs");
    for (int i = 0; i < 5; i++) {
        if (n->in[i]->rank < 0) return;
        in[i] = i && n->in[i]->dt != F64 && x->dt == F64 ? build_cast(g, n->in[i], F64) : build_cast(g, n->in[i], x->dt == F64 ? F64 : F32);
    }
    Value *scale = in[1], *bias = in[2], *average = in[3], *variance = in[4], *y;
    if (!training) {
        if (n->nout > 1 && n->wanted[1]) import_error(n, 205, "set training_mode", "inference has one output");
        Value *factor = mul(g, scale, inverse_deviation(g, variance, epsilon));
        y = mul(g, sub(g, in[0], over_channels(g, x, average)), over_channels(g, x, factor));
        n->out[0] = build_cast(g, add(g, y, over_channels(g, x, bias)), x->dt);
        return;
    }
    Axes a = {0};
    for (int i = 0; i < x->rank; i++)
        if (i != 1) a.axis[a.n++] = i;
    Moments m = moments(g, in[0], &a);
    Value *factor = mul(g, over_channels(g, x, scale), inverse_deviation(g, m.variance, epsilon));
    n->out[0] = build_cast(g, add(g, mul(g, m.centred, factor), over_channels(g, x, bias)), x->dt);
    Value *now[2] = {build_reshape(g, m.mean, average->rank, average->dim), build_reshape(g, m.variance, variance->rank, variance->dim)};
    for (int i = 1; i < n->nout && i < 5; i++) {
        Value *v = now[(i - 1) % 2];
        if (i < 3) v = add(g, mul(g, in[2 + i], number(g, v, momentum)), mul(g, v, number(g, v, 1 - momentum)));
        n->out[i] = build_cast(g, v, n->in[3 + (i - 1) % 2]->dt);
    }
}

static void import_instance_norm(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0 || !import_same_types(n, 0, 3)) return;
    Value *x = n->in[0];
    import_has(n, "consumed_inputs");
    Axes a = from_axis(x, 2);
    Moments m = moments(g, wide(g, x), &a);
    Value *factor = mul(g, over_channels(g, x, wide(g, n->in[1])), inverse_deviation(g, m.variance, import_float(n, "epsilon", 1e-5)));
    n->out[0] = build_cast(g, add(g, mul(g, m.centred, factor), over_channels(g, x, wide(g, n->in[2]))), x->dt);
}

/* Version 18 has a scale and a bias for each group, later ones for each channel. */
static void import_group_norm(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0 || !import_same_types(n, 0, 3)) return;
    Value *x = n->in[0];
    int64_t groups = import_int(n, "num_groups", 0);
    import_int(n, "stash_type", 1);
    if (groups < 1) { import_error(n, 204, NULL, "attribute num_groups: %lld is not positive", (long long)groups); return; }
    if (x->rank < 2 || x->rank == MAX_RANK) { import_error(n, 301, NULL, "a tensor of %d axes", x->rank); return; }
    import_require(n, expr2(c, E_EQ, expr_fmod(c, x->dim[1], expr_int(c, groups)), expr_int(c, 0)),
                   gd_format(c, "%s channels do not make %lld groups", expr_text(c, x->dim[1]), (long long)groups));
    Expr *dim[MAX_RANK + 1] = {x->dim[0], expr_int(c, groups), expr_fdiv(c, x->dim[1], expr_int(c, groups))};
    for (int i = 2; i < x->rank; i++) dim[i + 1] = x->dim[i];
    Value *split = build_reshape(g, wide(g, x), x->rank + 1, dim);
    Axes a = from_axis(split, 2);
    Moments m = moments(g, split, &a);
    Value *y = mul(g, m.centred, inverse_deviation(g, m.variance, import_float(n, "epsilon", 1e-5)));
    Value *scale = wide(g, n->in[1]), *bias = wide(g, n->in[2]);
    if (n->opset < 21) {
        y = add(g, mul(g, y, over_channels(g, split, scale)), over_channels(g, split, bias));
        n->out[0] = build_cast(g, build_reshape(g, y, x->rank, x->dim), x->dt);
        return;
    }
    y = build_reshape(g, y, x->rank, x->dim);
    n->out[0] = build_cast(g, add(g, mul(g, y, over_channels(g, x, scale)), over_channels(g, x, bias)), x->dt);
}

/* The axes from `axis` on. scale and bias broadcast; their product with the normalised value is of their own type. */
static void import_layer_norm(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *bias = import_in(n, 2);
    int axis = import_axis(n, import_int(n, "axis", -1), x->rank);
    DType stash = import_int(n, "stash_type", 1) == 1 ? F32 : import_dtype(n, "stash_type", F32);
    if (axis < 0) return;
    Axes a = from_axis(x, axis);
    Moments m = moments(g, wide(g, x), &a);
    Value *inverse = inverse_deviation(g, m.variance, import_float(n, "epsilon", 1e-5));
    Value *y = mul(g, build_cast(g, mul(g, m.centred, inverse), x->dt), build_cast(g, n->in[1], x->dt));
    n->out[0] = bias ? add(g, y, build_cast(g, bias, x->dt)) : y;
    if (n->nout > 1) n->out[1] = build_cast(g, m.mean, stash);
    if (n->nout > 2) n->out[2] = build_cast(g, inverse, stash);
}

static void import_rms_norm(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 2) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *w = wide(g, x), *scale = n->in[1];
    int axis = import_axis(n, import_int(n, "axis", -1), x->rank);
    import_int(n, "stash_type", 1);
    if (axis < 0) return;
    Axes a = from_axis(x, axis);
    Value *power = mean(g, mul(g, w, w), &a);
    Value *y = mul(g, w, inverse_deviation(g, power, import_float(n, "epsilon", 1e-5)));
    n->out[0] = mul(g, build_cast(g, build_cast(g, y, x->dt), scale->dt), scale);
}

static void import_mvn(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    const int64_t *axes;
    static const int64_t usual[] = {0, 2, 3};
    int count = import_ints(n, "axes", &axes);
    if (!axes) { axes = usual; count = 3; }
    Axes a = {0};
    for (int i = 0; i < x->rank; i++)
        for (int k = 0; k < count; k++) {
            int axis = import_axis(n, axes[k], x->rank);
            if (axis < 0) return;
            if (axis == i && (!a.n || a.axis[a.n - 1] != i)) a.axis[a.n++] = i;
        }
    Moments m = moments(g, wide(g, x), &a);
    Value *deviation = add(g, make(g, "sqrt", m.variance), number(g, m.variance, 1e-9));
    n->out[0] = build_cast(g, quotient(g, m.centred, deviation), x->dt);
}

/* ---- by a norm, by neighbouring channels ---- */

/* A norm of 0 has only zeros under it: they stay. */
static void import_lp_norm(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *w = wide(g, x);
    int axis = import_axis(n, import_int(n, "axis", -1), x->rank);
    int64_t p = import_int(n, "p", 2);
    if (p != 1 && p != 2) { import_error(n, 204, "1 or 2", "attribute p: %lld", (long long)p); return; }
    if (axis < 0) return;
    Axes a = one_axis(axis);
    Value *norm = p == 1 ? sum(g, make(g, "abs", w), &a) : make(g, "sqrt", sum(g, mul(g, w, w), &a));
    Value *safe = make(g, "where", make(g, "equal", norm, number(g, norm, 0)), number(g, norm, 1), norm);
    n->out[0] = build_cast(g, quotient(g, w, safe), x->dt);
}

/* Sums of `size` neighbours along axis 1: a window over [N, 1, C, ...]. */
static Value *neighbour_sum(Graph *g, Value *x, int64_t size) {
    Ctx *c = g->c;
    int rank = x->rank + 1, spatial = rank - 2;
    Expr *dim[MAX_RANK], *lo[MAX_RANK], *hi[MAX_RANK], *kernel[MAX_RANK], *zero = expr_int(c, 0);
    int64_t ones[MAX_RANK];
    for (int i = 0; i < rank; i++) {
        dim[i] = i == 0 ? x->dim[0] : i == 1 ? expr_int(c, 1) : x->dim[i - 1];
        lo[i] = i == 2 ? expr_int(c, (size - 1) / 2) : zero;
        hi[i] = i == 2 ? expr_int(c, size - 1 - (size - 1) / 2) : zero;
        kernel[i] = expr_int(c, i ? 1 : size);
        ones[i] = 1;
    }
    Node *n = node_begin(g, "pool_sum");
    node_input(n, build_pad(g, build_reshape(g, x, rank, dim), lo, hi, NULL, NULL));
    node_dims(n, "kernel", spatial, kernel);
    node_ints(n, "strides", spatial, ones);
    node_ints(n, "dilations", spatial, ones);
    return build_reshape(g, node_finish(n), x->rank, x->dim);
}

/* t^beta: the usual 3/4 by two square roots. */
static Value *root(Graph *g, Value *t, double beta) {
    if (beta == 1) return t;
    Value *half = make(g, "sqrt", t);
    if (beta == .5) return half;
    return beta == .75 ? mul(g, half, make(g, "sqrt", half)) : make(g, "pow", t, number(g, t, beta));
}

static void import_lrn(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *w = wide(g, x);
    double alpha = import_float(n, "alpha", 1e-4), beta = import_float(n, "beta", .75), bias = import_float(n, "bias", 1);
    int64_t size = import_int(n, "size", 0);
    if (size < 1) { import_error(n, 204, NULL, "attribute size: %lld is not positive", (long long)size); return; }
    if (x->rank < 2 || x->rank == MAX_RANK) { import_error(n, 301, NULL, "a tensor of %d axes", x->rank); return; }
    Value *power = mul(g, neighbour_sum(g, mul(g, w, w), size), number(g, w, alpha / (double)size));
    n->out[0] = build_cast(g, quotient(g, w, root(g, add(g, power, number(g, w, bias)), beta)), x->dt);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_norm[] = {
    {BUILD = "Softmax", .import = import_softmax, .doc = "exp(x) over its sum along an axis, the largest element taken out first."},
    {BUILD = "LogSoftmax", .import = import_log_softmax, .doc = "x - log(sum(exp(x))) along an axis, the largest element taken out first."},
    {BUILD = "Hardmax", .import = import_hardmax, .doc = "1 at the first largest element along an axis, 0 elsewhere."},
    {BUILD = "BatchNormalization", .import = import_batch_norm,
     .doc = "Each channel by given statistics; in training mode by those of the batch, which also move the given ones."},
    {BUILD = "InstanceNormalization", .import = import_instance_norm, .doc = "Each channel of each sample by its own mean and variance."},
    {BUILD = "GroupNormalization", .import = import_group_norm, .doc = "Each group of channels of each sample by its own mean and variance."},
    {BUILD = "LayerNormalization", .import = import_layer_norm, .doc = "The axes from `axis` on by their mean and variance."},
    {BUILD = "RMSNormalization", .import = import_rms_norm, .doc = "The axes from `axis` on by the root of their mean square."},
    {BUILD = "MeanVarianceNormalization", .import = import_mvn, .doc = "By mean and deviation over given axes."},
    {BUILD = "LpNormalization", .import = import_lp_norm, .doc = "By the sum of absolute values, or the root of the sum of squares, along an axis."},
    {BUILD = "LRN", .import = import_lrn, .doc = "x / (bias + alpha / size * sum of squares over neighbouring channels)^beta."},
};
const int gd_ops_norm_n = sizeof gd_ops_norm / sizeof *gd_ops_norm;
