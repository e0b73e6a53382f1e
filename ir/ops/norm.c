/* Softmax and normalisations, written in composite text (graph_text) over sums, differences and elementwise
   functions: gradients and fusion come from those. What is stored in fewer bits than f32 is computed in f32
   and rounded once, at the end. */
#include "build.h"
#include "train.h"

/* ---- composite text with names for values and attributes ---- */

typedef struct Names { Graph *g; Map *values, *attrs; } Names;

static Names names(Graph *g) { return (Names){g, map_new(g->c), map_new(g->c)}; }
static void name(Names *s, const char *key, Value *v) { map_puts(s->values, key, v); }
static Value *text(const Names *s, const char *formula) {
    return graph_text(s->g, formula, s->values, s->attrs);
}
static Value *keep(Names *s, const char *key, const char *formula) {
    Value *v = text(s, formula);
    name(s, key, v);
    return v;
}

static void number(Names *s, const char *key, double v) {
    Attr *a = gd_new(s->g->c, Attr);
    *a = (Attr){.kind = AT_FLOAT, .f = v};
    map_puts(s->attrs, key, a);
}

/* The axes a statistic is taken over, as `axes`, and how many elements of x lie along them, as `count`. */
typedef struct Axes { int n; int64_t axis[MAX_RANK]; } Axes;

static void over(Names *s, const Value *x, const Axes *axes) {
    Ctx *c = s->g->c;
    Attr *a = gd_new(c, Attr);
    int64_t *list = gd_new_array(c, int64_t, axes->n ? axes->n : 1);
    Expr *count = expr_int(c, 1);
    for (int i = 0; i < axes->n; i++) {
        list[i] = axes->axis[i];
        if (x->rank >= 0) count = expr_mul(c, count, x->dim[list[i]]);
    }
    *a = (Attr){.kind = AT_INTS, .n = axes->n, .ints = list};
    map_puts(s->attrs, "axes", a);
    name(s, "count", build_scalar(s->g, x->dt == F64 ? F64 : F32, count));
}

static Axes from_axis(const Value *x, int axis) {
    Axes a = {0};
    for (int i = axis; i < x->rank; i++) a.axis[a.n++] = i;
    return a;
}
static Axes one_axis(int axis) { return (Axes){1, {axis}}; }

/* In a type that arithmetic knows. */
static Value *wide(Graph *g, Value *x) { return build_cast(g, x, x->dt == F64 ? F64 : F32); }

/* A vector over channels so that it lies along axis 1 of x. */
static Value *over_channels(Graph *g, const Value *x, Value *v) {
    Expr *dim[MAX_RANK];
    if (v->rank != 1 || x->rank < 2) return v;
    for (int i = 1; i < x->rank; i++) dim[i - 1] = i == 1 ? x->dim[1] : expr_int(g->c, 1);
    return build_reshape(g, v, x->rank - 1, dim);
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

/* The largest element is taken out first, which changes no result but keeps exp from overflowing: to
   differentiation it is a constant. */
#define BELOW_LARGEST "d = x - detach(reduce_max(x, axes=axes));"

static void softmax_form(Import *n, const char *formula) {
    Axes a;
    if (!softmax_axes(n, &a)) return;
    Names s = names(n->g);
    name(&s, "x", wide(n->g, n->in[0]));
    over(&s, n->in[0], &a);
    n->out[0] = build_cast(n->g, text(&s, formula), n->in[0]->dt);
}

static void import_softmax(Import *n) {
    softmax_form(n, BELOW_LARGEST "e = exp(d); e / reduce_sum(e, axes=axes)");
}
static void import_log_softmax(Import *n) {
    softmax_form(n, BELOW_LARGEST "d - log(reduce_sum(exp(d), axes=axes))");
}

/* 1 at the first largest element. */
static void import_hardmax(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Axes a;
    if (!softmax_axes(n, &a)) return;
    Value *x = n->in[0], *v = x;
    int axis = a.n ? (int)a.axis[0] : x->rank;
    if (n->opset < 13) {
        Expr *dim[2] = {expr_int(c, 1), expr_int(c, 1)};
        for (int i = 0; i < x->rank; i++) dim[i >= axis] = expr_mul(c, dim[i >= axis], x->dim[i]);
        v = build_reshape(g, x, 2, dim);
        axis = 1;
    } else if (!x->rank) {
        v = build_unsqueeze(g, x, 0);
        axis = 0;
    }
    if (v->rank < 0) return;
    Node *best = node_begin(g, "argmax");
    node_input(best, v);
    node_int(best, "axis", axis);
    Value *here = build_iota(g, I64, v->rank, v->dim, axis);
    n->out[0] =
        build_reshape(g, build_cast(g, make(g, "equal", here, node_finish(best)), x->dt), x->rank, x->dim);
}

/* ---- normalisation by mean and variance ---- */

#define MEAN "reduce_sum(x, axes=axes) / count"
#define SQUARES "reduce_sum(d * d, axes=axes) / count"
#define INVERSE "reciprocal(sqrt(v + epsilon))"

/* x over its axes: m, d = x - m, v and r = 1 / sqrt(v + epsilon). */
static Names moments(Import *n, Value *x, const Axes *a) {
    Names s = names(n->g);
    name(&s, "x", x);
    over(&s, x, a);
    number(&s, "epsilon", import_float(n, "epsilon", 1e-5));
    keep(&s, "m", MEAN);
    keep(&s, "d", "x - m");
    keep(&s, "v", SQUARES);
    keep(&s, "r", INVERSE);
    return s;
}

/* In inference one factor and one shift a channel are left, once constants are folded. */
static void batch_norm_given(Import *n, Value *const *in) {
    static const char *const keys[] = {"x", "scale", "bias", "m", "v"};
    Names s = names(n->g);
    for (int i = 0; i < 5; i++) name(&s, keys[i], in[i]);
    number(&s, "epsilon", import_float(n, "epsilon", 1e-5));
    name(&s, "factor", over_channels(n->g, in[0], text(&s, "scale * " INVERSE)));
    name(&s, "m", over_channels(n->g, in[0], in[3]));
    name(&s, "bias", over_channels(n->g, in[0], in[2]));
    n->out[0] = build_cast(n->g, text(&s, "(x - m) * factor + bias"), n->in[0]->dt);
}

static void batch_norm_training(Import *n, Value *const *in) {
    Graph *g = n->g;
    Value *x = in[0];
    Axes a = {0};
    for (int i = 0; i < x->rank; i++)
        if (i != 1) a.axis[a.n++] = i;
    Names s = moments(n, x, &a);
    name(&s, "scale", over_channels(g, x, in[1]));
    name(&s, "bias", over_channels(g, x, in[2]));
    n->out[0] = build_cast(g, text(&s, "d * (scale * r) + bias"), n->in[0]->dt);
    number(&s, "momentum", import_float(n, "momentum", .9));
    Value *now[] = {text(&s, "m"), text(&s, "v")};
    for (int i = 1; i < n->nout && i < 5;
         i++) { /* running mean and variance; before version 14 also those of the batch */
        int k = (i - 1) % 2;
        name(&s, "old", in[3 + k]);
        name(&s, "now", build_reshape(g, now[k], in[3 + k]->rank, in[3 + k]->dim));
        n->out[i] = build_cast(g, text(&s, i < 3 ? "old * momentum + now * (1 - momentum)" : "now"),
                               n->in[3 + k]->dt);
    }
}

/* In a model that trains the running statistics are states, and these are their next values. */
static void batch_norm_moving(Import *n, Value **in) {
    Import moving = *n;
    Value *out[3] = {NULL};
    Graph *top = graph_outermost(n->g);
    moving.out = out;
    moving.nout = 3;
    batch_norm_training(&moving, in);
    n->out[0] = out[0];
    for (int i = 1; i < 3; i++)
        if (out[i]) state_next(top, n->in[2 + i], out[i]);
}

static void import_batch_norm(Import *n) {
    if (!import_need(n, 5, 5)) return;
    Value *in[5];
    bool training =
        n->opset >= 14 ? import_int(n, "training_mode", 0) != 0 : !import_int(n, "is_test", 0) && n->nout > 1;
    import_int(n, "spatial", 1);
    import_float(n, "momentum", .9);
    import_has(n, "consumed_inputs");
    for (int i = 0; i < 5; i++) {
        if (n->in[i]->rank < 0) return;
        in[i] = build_cast(n->g, n->in[i], n->in[0]->dt == F64 ? F64 : F32);
    }
    Graph *top = graph_outermost(n->g);
    StateVar *mean = state_of(top, n->in[3]), *var = state_of(top, n->in[4]);
    if (mean) mean->kind = ST_BUFFER;
    if (var) var->kind = ST_BUFFER;
    if (top->training && mean && var && mean->out < 0 && var->out < 0) batch_norm_moving(n, in);
    else if (training) batch_norm_training(n, in);
    else if (n->nout > 1 && n->wanted[1])
        import_error(n, 205, "set training_mode", "inference has one output");
    else batch_norm_given(n, in);
}

static void import_instance_norm(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0 || !import_same_types(n, 0, 3)) return;
    Value *x = n->in[0];
    import_has(n, "consumed_inputs");
    Axes a = from_axis(x, 2);
    Names s = moments(n, wide(g, x), &a);
    name(&s, "scale", over_channels(g, x, wide(g, n->in[1])));
    name(&s, "bias", over_channels(g, x, wide(g, n->in[2])));
    n->out[0] = build_cast(g, text(&s, "d * (scale * r) + bias"), x->dt);
}

/* Version 18 has a scale and a bias for each group, later ones for each channel. */
static void import_group_norm(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0 || !import_same_types(n, 0, 3)) return;
    Value *x = n->in[0];
    int64_t groups = import_int(n, "num_groups", 0);
    import_int(n, "stash_type", 1);
    if (groups < 1) {
        import_error(n, 204, NULL, "attribute num_groups: %lld is not positive", (long long)groups);
        return;
    }
    if (x->rank < 2 || x->rank == MAX_RANK) {
        import_error(n, 301, NULL, "a tensor of %d axes", x->rank);
        return;
    }
    import_require(
        n, expr2(c, E_EQ, expr_fmod(c, x->dim[1], expr_int(c, groups)), expr_int(c, 0)),
        gd_format(c, "%s channels do not make %lld groups", expr_text(c, x->dim[1]), (long long)groups));
    Expr *dim[MAX_RANK + 1] = {x->dim[0], expr_int(c, groups), expr_fdiv(c, x->dim[1], expr_int(c, groups))};
    for (int i = 2; i < x->rank; i++) dim[i + 1] = x->dim[i];
    Value *split = build_reshape(g, wide(g, x), x->rank + 1, dim);
    if (split->rank < 0) return;
    Axes a = from_axis(split, 2);
    Names s = moments(n, split, &a);
    bool by_group = n->opset < 21;
    const Value *like = by_group ? split : x;
    name(&s, "y", by_group ? text(&s, "d * r") : build_reshape(g, text(&s, "d * r"), x->rank, x->dim));
    name(&s, "scale", over_channels(g, like, wide(g, n->in[1])));
    name(&s, "bias", over_channels(g, like, wide(g, n->in[2])));
    n->out[0] = build_cast(g, build_reshape(g, text(&s, "y * scale + bias"), x->rank, x->dim), x->dt);
}

/* The axes from `axis` on; false after an error. */
static bool trailing_axes(Import *n, Axes *a) {
    if (n->in[0]->rank < 0) return false;
    int axis = import_axis(n, import_int(n, "axis", -1), n->in[0]->rank);
    if (axis >= 0) *a = from_axis(n->in[0], axis);
    return axis >= 0;
}

/* scale and bias broadcast; their product with the normalised value is of their own type. */
static void import_layer_norm(Import *n) {
    Graph *g = n->g;
    Axes a;
    if (!import_need(n, 2, 3) || !trailing_axes(n, &a)) return;
    Value *x = n->in[0], *bias = import_in(n, 2);
    DType stash = import_int(n, "stash_type", 1) == 1 ? F32 : import_dtype(n, "stash_type", F32);
    Names s = moments(n, wide(g, x), &a);
    name(&s, "y", build_cast(g, text(&s, "d * r"), x->dt));
    name(&s, "scale", build_fit(g, build_cast(g, n->in[1], x->dt), x));
    if (bias) name(&s, "bias", build_fit(g, build_cast(g, bias, x->dt), x));
    n->out[0] = text(&s, bias ? "y * scale + bias" : "y * scale");
    if (n->nout > 1) n->out[1] = build_cast(g, text(&s, "m"), stash);
    if (n->nout > 2) n->out[2] = build_cast(g, text(&s, "r"), stash);
}

static void import_rms_norm(Import *n) {
    Graph *g = n->g;
    Axes a;
    if (!import_need(n, 2, 2) || !trailing_axes(n, &a)) return;
    Value *x = n->in[0], *scale = n->in[1];
    import_int(n, "stash_type", 1);
    Names s = names(g);
    name(&s, "d", wide(g, x));
    over(&s, x, &a);
    number(&s, "epsilon", import_float(n, "epsilon", 1e-5));
    keep(&s, "v", SQUARES);
    name(&s, "y", build_cast(g, build_cast(g, text(&s, "d * " INVERSE), x->dt), scale->dt));
    name(&s, "scale", build_fit(g, scale, x));
    n->out[0] = text(&s, "y * scale");
}

/* Without variance all of d is 0 and stays it, and the root's gradient is not infinite. */
static void import_mvn(Import *n) {
    static const int64_t usual[] = {0, 2, 3};
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    const int64_t *axes;
    bool in[MAX_RANK] = {false};
    int count = import_ints(n, "axes", &axes);
    if (!axes) { axes = usual; count = 3; }
    for (int k = 0; k < count; k++) {
        int axis = import_axis(n, axes[k], x->rank);
        if (axis < 0) return;
        in[axis] = true;
    }
    Axes a = {0};
    for (int i = 0; i < x->rank; i++)
        if (in[i]) a.axis[a.n++] = i;
    Names s = moments(n, wide(n->g, x), &a);
    n->out[0] = build_cast(n->g, text(&s, "d / (sqrt(v == 0 ? 1 : v) + 1e-9)"), x->dt);
}

/* ---- by a norm, by neighbouring channels ---- */

/* A norm of 0 has only zeros under it: they stay. */
static void import_lp_norm(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    int axis = import_axis(n, import_int(n, "axis", -1), x->rank);
    int64_t p = import_int(n, "p", 2);
    if (p != 1 && p != 2) import_error(n, 204, "1 or 2", "attribute p: %lld", (long long)p);
    if (axis < 0 || (p != 1 && p != 2)) return;
    Axes a = one_axis(axis);
    Names s = names(n->g);
    name(&s, "x", wide(n->g, x));
    over(&s, x, &a);
    keep(&s, "sum", p == 1 ? "reduce_sum(abs(x), axes=axes)" : "reduce_sum(x * x, axes=axes)");
    keep(&s, "norm", "sum == 0 ? 1 : sum");
    n->out[0] = build_cast(n->g, text(&s, p == 1 ? "x / norm" : "x / sqrt(norm)"), x->dt);
}

/* Sums of `size` neighbours along axis 1: a window over [N, 1, C, ...]. */
static Value *neighbour_sum(Graph *g, Value *x, int64_t size) {
    Ctx *c = g->c;
    if (x->rank < 0) return x;
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

/* To the power of beta; the usual 3/4 by two square roots. */
static const char *lrn_formula(double beta) {
    if (beta == 1) return "x / t";
    if (beta == .5) return "x / sqrt(t)";
    return beta == .75 ? "h = sqrt(t); x / (h * sqrt(h))" : "x / pow(t, beta)";
}

static void import_lrn(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    double beta = import_float(n, "beta", .75), alpha = import_float(n, "alpha", 1e-4),
           bias = import_float(n, "bias", 1);
    int64_t size = import_int(n, "size", 0);
    if (size < 1) {
        import_error(n, 204, NULL, "attribute size: %lld is not positive", (long long)size);
        return;
    }
    if (x->rank < 2 || x->rank == MAX_RANK) {
        import_error(n, 301, NULL, "a tensor of %d axes", x->rank);
        return;
    }
    Names s = names(n->g);
    name(&s, "x", wide(n->g, x));
    number(&s, "scale", alpha / (double)size);
    number(&s, "bias", bias);
    number(&s, "beta", beta);
    name(&s, "power", neighbour_sum(n->g, text(&s, "x * x"), size));
    keep(&s, "t", "power * scale + bias");
    n->out[0] = build_cast(n->g, text(&s, lrn_formula(beta)), x->dt);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_norm[] = {
    {BUILD = "Softmax", .import = import_softmax,
     .doc = "exp(x) over its sum along an axis, the largest element taken out first."},
    {BUILD = "LogSoftmax", .import = import_log_softmax,
     .doc = "x - log(sum(exp(x))) along an axis, the largest element taken out first."},
    {BUILD = "Hardmax", .import = import_hardmax,
     .doc = "1 at the first largest element along an axis, 0 elsewhere."},
    {BUILD = "BatchNormalization", .import = import_batch_norm,
     .doc = "Each channel by given statistics; in training mode by those of the batch, which also move the "
            "given ones."},
    {BUILD = "InstanceNormalization", .import = import_instance_norm,
     .doc = "Each channel of each sample by its own mean and variance."},
    {BUILD = "GroupNormalization", .import = import_group_norm,
     .doc = "Each group of channels of each sample by its own mean and variance."},
    {BUILD = "LayerNormalization", .import = import_layer_norm,
     .doc = "The axes from `axis` on by their mean and variance."},
    {BUILD = "RMSNormalization", .import = import_rms_norm,
     .doc = "The axes from `axis` on by the root of their mean square."},
    {BUILD = "MeanVarianceNormalization", .import = import_mvn,
     .doc = "By mean and deviation over given axes."},
    {BUILD = "LpNormalization", .import = import_lp_norm,
     .doc = "By the sum of absolute values, or the root of the sum of squares, along an axis."},
    {BUILD = "LRN", .import = import_lrn,
     .doc = "x / (bias + alpha / size * sum of squares over neighbouring channels)^beta."},
};
const int gd_ops_norm_n = sizeof gd_ops_norm / sizeof *gd_ops_norm;
