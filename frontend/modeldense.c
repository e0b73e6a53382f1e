/* Layers without windows and without time: dense, normalisation, dropout, embedding, and those that move, join and
   reduce tensors. */
#include "model.h"
#include "ops/build.h"
#include <math.h>

/* ---- dense ---- */

static void make_dense(Layer *l) {
    Value *x = l->in[0];
    bool torch = l->d->torch;
    int64_t in = layer_channels(l, x, x->rank - 1), units = layer_int(l, "units");
    if (!l->d->failed && units < 1) layer_error(l, 204, "dense 10", "how many units?");
    if (l->d->failed) return;
    int64_t dim[2] = {torch ? units : in, torch ? in : units};
    Value *w = layer_param(l, "kernel", "weight", x->dt, 2, dim, torch ? layer_uniform(l, in) : "glorot_uniform", layer_text(l, "init", NULL), in, units);
    if (l->d->failed) return;
    Value *y = layer_through(l, l->g, x, w);
    if (layer_flag(l, "bias")) {
        Value *b = layer_param(l, "bias", "bias", x->dt, 1, &units, torch ? layer_uniform(l, in) : "zeros", layer_text(l, "bias_init", NULL), in, units);
        if (l->d->failed) return;
        y = make(l->g, "add", y, b);
    }
    l->out[0] = y;
}

static void make_embedding(Layer *l) {
    int64_t dim[2] = {layer_int(l, "size"), layer_int(l, "width")};
    if (!l->d->failed && (dim[0] < 1 || dim[1] < 1)) layer_error(l, 204, "embedding 128 256", "the size of the vocabulary and the width are needed");
    if (l->d->failed) return;
    if (!dt_int(l->in[0]->dt)) {
        layer_error(l, 302, "make the input i64", "the input is %s: it takes whole numbers", value_type_text(l->c, l->in[0]));
        return;
    }
    const char *init = l->d->torch ? "normal std=1" : "uniform low=-0.05 high=0.05";
    Value *w = layer_param(l, "embeddings", "weight", F32, 2, dim, init, layer_text(l, "init", NULL), 0, 0);
    if (!l->d->failed) l->out[0] = make(l->g, "gather", w, l->in[0]);
}

/* ---- normalisation ---- */

static void list(Ctx *c, Map *attrs, const char *name, int n, const int64_t *v) {
    Attr *a = gd_new(c, Attr);
    int64_t *own = gd_new_array(c, int64_t, n ? n : 1);
    memcpy(own, v, (size_t)n * sizeof *v);
    *a = (Attr){.kind = AT_INTS, .n = n, .ints = own};
    map_puts(attrs, name, a);
}

/* A vector so that it lies along that axis of x. */
static Value *along(Layer *l, const Value *x, int axis, Value *v) {
    Expr *dim[MAX_RANK];
    for (int i = axis; i < x->rank; i++) dim[i - axis] = i == axis ? x->dim[i] : expr_int(l->c, 1);
    return build_reshape(l->g, v, x->rank - axis, dim);
}

static Value *scale_of(Layer *l, DType dt, int64_t n, bool shift) {
    if (!layer_flag(l, shift ? "center" : "scale")) return NULL;
    return layer_param(l, shift ? "beta" : "gamma", shift ? "bias" : "weight", dt, 1, &n, shift ? "zeros" : "ones", NULL, 0, 0);
}

typedef struct Moments { Map *values, *attrs; Expr *count; } Moments;

/* Mean m and biased variance v of x over the axes, and d = x - m. */
static Moments moments(Layer *l, Value *x, int n, const int64_t *axes) {
    Moments s = {map_new(l->c), map_new(l->c), expr_int(l->c, 1)};
    list(l->c, s.attrs, "axes", n, axes);
    for (int i = 0; i < n; i++) s.count = expr_mul(l->c, s.count, x->dim[axes[i]]);
    map_puts(s.values, "x", x);
    map_puts(s.values, "count", build_scalar(l->g, x->dt, s.count));
    map_puts(s.values, "m", graph_text(l->g, "reduce_sum(x, axes=axes) / count", s.values, s.attrs));
    map_puts(s.values, "d", graph_text(l->g, "x - m", s.values, s.attrs));
    map_puts(s.values, "v", graph_text(l->g, "reduce_sum(d * d, axes=axes) / count", s.values, s.attrs));
    return s;
}

static double epsilon(Layer *l) { return layer_has(l, "eps") ? layer_float(l, "eps") : l->d->torch ? 1e-5 : 1e-3; }

/* y * gamma + beta, along an axis. */
static Value *affine(Layer *l, Value *y, int axis, Value *gamma, Value *beta) {
    if (gamma) y = make(l->g, "mul", y, along(l, y, axis, gamma));
    return beta ? make(l->g, "add", y, along(l, y, axis, beta)) : y;
}

/* What a running statistic becomes: keep * old + (1 - keep) * now. Nothing goes back through it. */
static void move(Layer *l, Value *old, Value *now, double keep) {
    Map *values = map_new(l->c), *attrs = map_new(l->c);
    const StateVar *s = state_of(l->d->root, old);
    if (!s || s->out >= 0) return; /* a layer used twice: the first use moves them */
    map_puts(values, "old", old);
    map_puts(values, "now", build_reshape(l->g, now, 1, old->dim));
    layer_number(l->c, attrs, "keep", keep);
    layer_number(l->c, attrs, "rest", 1 - keep);
    state_next(l->d->root, old, graph_text(l->g, "keep * old + rest * detach(now)", values, attrs));
}

static void batch_statistics(Layer *l, Value *x, int axis, Value *mean, Value *variance, double keep, Map *values) {
    int64_t axes[MAX_RANK];
    int n = 0;
    for (int i = 0; i < x->rank; i++)
        if (i != axis) axes[n++] = i;
    Moments s = moments(l, x, n, axes);
    Value *v = map_gets(s.values, "v");
    map_puts(values, "d", map_gets(s.values, "d"));
    map_puts(values, "v", v);
    if (l->d->g != l->d->root) return; /* in a loop there is no one batch */
    move(l, mean, map_gets(s.values, "m"), keep);
    if (l->d->torch) { /* the running variance is the unbiased one: count / (count - 1) */
        map_puts(s.values, "n", map_gets(s.values, "count"));
        v = graph_text(l->g, "v * (n / max(n - 1, 1))", s.values, s.attrs);
    }
    move(l, variance, v, keep);
}

static void make_batchnorm(Layer *l) {
    Value *x = l->in[0];
    bool torch = l->d->torch;
    int axis = layer_has(l, "axis") ? layer_axis(l, "axis", x->rank) : torch ? 1 : x->rank - 1;
    int64_t n = layer_channels(l, x, axis);
    if (l->d->failed) return;
    /* Keras's momentum is what is kept, PyTorch's what is taken. */
    double momentum = layer_has(l, "momentum") ? layer_float(l, "momentum") : torch ? .1 : .99, keep = torch ? 1 - momentum : momentum;
    Value *gamma = scale_of(l, x->dt, n, false), *beta = scale_of(l, x->dt, n, true);
    Value *mean = layer_buffer(l, "moving_mean", "running_mean", x->dt, 1, &n, "zeros");
    Value *variance = layer_buffer(l, "moving_variance", "running_var", x->dt, 1, &n, "ones");
    if (l->d->failed) return;
    Map *values = map_new(l->c), *attrs = map_new(l->c);
    layer_number(l->c, attrs, "epsilon", epsilon(l));
    if (l->d->o->training) {
        batch_statistics(l, x, axis, mean, variance, keep, values);
        Value *y = graph_text(l->g, "d * reciprocal(sqrt(v + epsilon))", values, attrs);
        l->out[0] = affine(l, y, axis, gamma, beta);
        return;
    }
    /* One factor and one shift a channel. */
    map_puts(values, "v", variance);
    Value *factor = graph_text(l->g, "reciprocal(sqrt(v + epsilon))", values, attrs);
    if (gamma) factor = make(l->g, "mul", gamma, factor);
    Value *d = make(l->g, "sub", x, along(l, x, axis, mean));
    l->out[0] = affine(l, d, axis, factor, beta);
}

static void make_layernorm(Layer *l) {
    Value *x = l->in[0];
    int axis = layer_axis(l, "axis", x->rank);
    int64_t n = axis < 0 ? 0 : layer_channels(l, x, axis), over = axis;
    if (l->d->failed) return;
    Moments s = moments(l, x, 1, &over);
    layer_number(l->c, s.attrs, "epsilon", epsilon(l));
    Value *y = graph_text(l->g, "d * reciprocal(sqrt(v + epsilon))", s.values, s.attrs);
    Value *gamma = scale_of(l, x->dt, n, false), *beta = scale_of(l, x->dt, n, true);
    if (!l->d->failed) l->out[0] = affine(l, y, axis, gamma, beta);
}

static void make_rmsnorm(Layer *l) {
    Value *x = l->in[0];
    int64_t n = layer_channels(l, x, x->rank - 1), last = x->rank - 1;
    if (l->d->failed) return;
    Map *values = map_new(l->c), *attrs = map_new(l->c);
    list(l->c, attrs, "axes", 1, &last);
    layer_number(l->c, attrs, "epsilon", layer_has(l, "eps") ? layer_float(l, "eps") : 1e-6);
    map_puts(values, "x", x);
    map_puts(values, "count", build_scalar(l->g, x->dt, x->dim[last]));
    Value *y = graph_text(l->g, "x * reciprocal(sqrt(reduce_sum(x * x, axes=axes) / count + epsilon))", values, attrs);
    Value *gamma = layer_param(l, "scale", "weight", x->dt, 1, &n, "ones", NULL, 0, 0);
    if (!l->d->failed) l->out[0] = make(l->g, "mul", y, gamma);
}

static void make_groupnorm(Layer *l) {
    Value *x = l->in[0];
    int axis = l->d->torch ? 1 : x->rank - 1, rank = 0;
    int64_t n = layer_channels(l, x, axis), groups = layer_int(l, "groups"), axes[MAX_RANK];
    Expr *dim[MAX_RANK];
    if (l->d->failed) return;
    if (groups < 1 || n % groups || x->rank < 2 || x->rank == MAX_RANK) {
        layer_error(l, 204, NULL, "%lld groups do not divide %lld channels", (long long)groups, (long long)n);
        return;
    }
    int k = 0;
    for (int i = 0; i < x->rank; i++) {
        if (i == axis) dim[rank++] = expr_int(l->c, groups);
        else if (i) axes[k++] = rank;
        if (i == axis) axes[k++] = rank;
        dim[rank++] = i == axis ? expr_int(l->c, n / groups) : x->dim[i];
    }
    Moments s = moments(l, build_reshape(l->g, x, rank, dim), k, axes);
    layer_number(l->c, s.attrs, "epsilon", epsilon(l));
    Value *y = build_reshape(l->g, graph_text(l->g, "d * reciprocal(sqrt(v + epsilon))", s.values, s.attrs), x->rank, x->dim);
    Value *gamma = scale_of(l, x->dt, n, false), *beta = scale_of(l, x->dt, n, true);
    if (!l->d->failed) l->out[0] = affine(l, y, axis, gamma, beta);
}

/* ---- dropout ---- */

static void make_dropout(Layer *l) {
    Value *x = l->in[0];
    Ctx *c = l->c;
    double rate = layer_float(l, "rate");
    if (rate < 0 || rate >= 1) layer_error(l, 204, "a share from 0 to below 1", "rate is %g", rate);
    l->out[0] = x;
    if (l->d->failed || rate == 0 || !l->d->o->training) return;
    Graph *root = l->d->root;
    Value *one[2] = {train_seed(root), train_step_number(root)};
    Expr *pair = expr_int(c, 1);
    for (int i = 0; i < 2; i++) one[i] = build_reshape(l->g, one[i], 1, &pair);
    Node *n = node_begin(l->g, "random_bits");
    node_input(n, build_concat(l->g, 2, one, 0));
    node_dims(n, "dims", x->rank, x->dim);
    node_int(n, "seed", 0);
    node_int(n, "stream", ++l->d->dropouts);
    Value *bits = make(l->g, "shift_right", node_finish(n), const_scalar(l->g, U32, 8));
    Map *values = map_new(c), *attrs = map_new(c);
    map_puts(values, "x", x);
    map_puts(values, "u", make(l->g, "mul", build_cast(l->g, bits, x->dt), const_scalar(l->g, x->dt, 0x1p-24)));
    layer_number(c, attrs, "rate", rate);
    layer_number(c, attrs, "scale", 1 / (1 - rate));
    l->out[0] = graph_text(l->g, "u >= rate ? x * scale : 0", values, attrs);
}

/* ---- moving ---- */

static void make_flatten(Layer *l) {
    Value *x = l->in[0];
    Expr *dim[MAX_RANK];
    int64_t from = layer_int(l, "axis"), rank = 0;
    if (from < 0 || from > x->rank || from == MAX_RANK) {
        layer_error(l, 204, NULL, "axis %lld is outside a tensor of %d axes", (long long)from, x->rank);
        return;
    }
    for (int i = 0; i < from; i++) dim[rank++] = x->dim[i];
    dim[rank] = expr_int(l->c, 1);
    for (int i = (int)from; i < x->rank; i++) dim[rank] = expr_mul(l->c, dim[rank], x->dim[i]);
    l->out[0] = build_reshape(l->g, x, (int)rank + 1, dim);
}

/* Sizes from the list; -1, once: what is left. false after an error. */
static int sizes(Layer *l, Expr **dim, int *open) {
    *open = -1;
    int n = 0;
    for (int i = 0; i < l->list.n; i++) {
        const Opnd *o = &l->list.v[i];
        for (int k = 0; k < (o->kind == OD_SIZE ? o->nsize : 1); k++) {
            Expr *e = o->kind == OD_SIZE ? expr_int(l->c, o->size[k]) : opnd_dim(l->d, o);
            int64_t v;
            if (n == MAX_RANK) { layer_error(l, 504, NULL, "more than %d axes", MAX_RANK); return -1; }
            if (!e) { layer_error(l, 204, NULL, "sizes are whole numbers and names of sizes"); return -1; }
            if (is_int(e, &v) && v < 0) {
                if (v != -1 || *open >= 0) { layer_error(l, 204, "-1, once, is what is left", "size %lld", (long long)v); return -1; }
                *open = n;
            }
            dim[n++] = e;
        }
    }
    return n;
}

static void make_reshape(Layer *l) {
    Value *x = l->in[0];
    Expr *dim[MAX_RANK], *rest = expr_int(l->c, 1);
    int open, n = sizes(l, dim, &open);
    if (n < 0) return;
    for (int i = 0; i < n; i++)
        if (i != open) rest = expr_mul(l->c, rest, dim[i]);
    if (open >= 0) {
        if (is_value(rest, 0)) { layer_error(l, 301, NULL, "-1 beside a size of 0"); return; }
        dim[open] = expr_fdiv(l->c, value_count(l->c, x), rest);
    }
    l->out[0] = build_reshape(l->g, x, n, dim);
}

static void make_transpose(Layer *l) {
    Value *x = l->in[0];
    int64_t perm[MAX_RANK];
    uint32_t seen = 0;
    bool ok = l->list.n == x->rank;
    for (int i = 0; ok && i < x->rank; i++) {
        const Opnd *o = &l->list.v[i];
        double v = o->num < 0 ? o->num + x->rank : o->num;
        ok = o->kind == OD_NUMBER && o->whole && v >= 0 && v < x->rank && !(seen >> (int)v & 1);
        perm[i] = ok ? (int64_t)v : 0;
        seen |= 1u << perm[i];
    }
    if (!ok) layer_error(l, 204, NULL, "every axis of %s is expected once", value_type_text(l->c, x));
    else l->out[0] = build_transpose(l->g, x, perm);
}

static void make_concat(Layer *l) {
    int axis = layer_axis(l, "axis", l->in[0]->rank);
    for (int i = 1; i < l->nin && axis >= 0; i++)
        if (l->in[i]->rank != l->in[0]->rank) layer_error(l, 301, NULL, "%s and %s do not have the same axes", value_type_text(l->c, l->in[0]), value_type_text(l->c, l->in[i]));
    if (!l->d->failed) l->out[0] = build_concat(l->g, l->nin, l->in, axis);
}

static void make_split(Layer *l) {
    Value *x = l->in[0];
    int64_t parts = layer_int(l, "parts");
    int axis = layer_axis(l, "axis", x->rank);
    int64_t n = axis < 0 ? 0 : layer_channels(l, x, axis);
    if (l->d->failed) return;
    if (parts < 1 || parts > MOST_INPUTS || n % parts) {
        layer_error(l, 204, NULL, "%lld parts do not divide %lld elements", (long long)parts, (long long)n);
        return;
    }
    l->nout = (int)parts;
    for (int i = 0; i < parts; i++) l->out[i] = build_slice_axis(l->g, x, axis, expr_int(l->c, i * (n / parts)), expr_int(l->c, n / parts));
}

/* ---- joining element by element, reducing ---- */

static void join(Layer *l, const char *op) {
    Value *v = l->in[0];
    for (int i = 1; i < l->nin; i++) v = make(l->g, op, v, l->in[i]);
    l->out[0] = v;
}
static void make_add(Layer *l) { join(l, "add"); }
static void make_mul(Layer *l) { join(l, "mul"); }
static void make_sub(Layer *l) { join(l, "sub"); }
static void make_div(Layer *l) { join(l, "div"); }
static void make_matmul(Layer *l) { l->out[0] = build_matmul(l->g, l->in[0], l->in[1]); }

static void reduce(Layer *l, const char *op, bool mean) {
    Value *x = l->in[0];
    int64_t axes[MAX_RANK];
    int n = 0;
    Expr *count = expr_int(l->c, 1);
    if (layer_has(l, "axis")) {
        int axis = layer_axis(l, "axis", x->rank);
        if (axis < 0) return;
        axes[n++] = axis;
    } else
        for (int i = 0; i < x->rank; i++) axes[n++] = i;
    for (int i = 0; i < n; i++) count = expr_mul(l->c, count, x->dim[axes[i]]);
    Value *y = build_reduce(l->g, op, x, n, axes, layer_flag(l, "keep"));
    l->out[0] = mean ? make(l->g, "div", y, build_scalar(l->g, x->dt, count)) : y;
}
static void make_mean(Layer *l) { reduce(l, "reduce_sum", true); }
static void make_sum(Layer *l) { reduce(l, "reduce_sum", false); }
static void make_largest(Layer *l) { reduce(l, "reduce_max", false); }
static void make_smallest(Layer *l) { reduce(l, "reduce_min", false); }

static void make_argmax(Layer *l) {
    int axis = layer_axis(l, "axis", l->in[0]->rank);
    if (axis < 0) return;
    Node *n = node_begin(l->g, "argmax");
    node_input(n, l->in[0]);
    node_int(n, "axis", axis);
    l->out[0] = build_squeeze(l->g, node_finish(n), axis);
}

/* ---- made of nothing ---- */

static void fill(Layer *l, double v) {
    Expr *dim[MAX_RANK];
    int open, n = sizes(l, dim, &open);
    if (n >= 0 && open >= 0) layer_error(l, 204, NULL, "size -1");
    else if (n >= 0) l->out[0] = build_broadcast(l->g, const_scalar(l->g, F32, v), n, dim);
}
static void make_zeros(Layer *l) { fill(l, 0); }
static void make_ones(Layer *l) { fill(l, 1); }
static void make_arange(Layer *l) {
    Expr *dim[MAX_RANK];
    int open, n = sizes(l, dim, &open);
    if (n != 1 || open >= 0) layer_error(l, 204, "arange(T)", "one size is expected");
    else l->out[0] = build_iota(l->g, I64, 1, dim, 0);
}

static void make_one_hot(Layer *l) {
    Value *x = l->in[0];
    Expr *dim[MAX_RANK];
    int64_t size = layer_int(l, "size");
    if (!dt_int(x->dt) || size < 1 || x->rank == MAX_RANK) { layer_error(l, 204, "one_hot 10 of whole numbers", "the input is %s, the size %lld", value_type_text(l->c, x), (long long)size); return; }
    for (int i = 0; i < x->rank; i++) dim[i] = x->dim[i];
    dim[x->rank] = expr_int(l->c, size);
    Value *here = make(l->g, "equal", build_unsqueeze(l->g, x, x->rank), build_iota(l->g, x->dt, x->rank + 1, dim, x->rank));
    l->out[0] = build_cast(l->g, here, F32);
}

static void make_cast(Layer *l) {
    const char *word = layer_text(l, "to", "");
    DType t = gd_dtype_named(word);
    if (t == DT_NONE || t == STRING) layer_error(l, 204, "f32, f64, i64, bool ...", "there is no dtype %s", word);
    else l->out[0] = build_cast(l->g, l->in[0], t);
}

static void make_prelu(Layer *l) {
    Value *x = l->in[0];
    int axis = l->d->torch ? 1 : x->rank - 1;
    int64_t n = layer_channels(l, x, axis);
    if (l->d->failed) return;
    if (l->d->torch) n = 1; /* one slope for all, as nn.PReLU() has */
    Value *slope = layer_param(l, "alpha", "weight", x->dt, 1, &n, l->d->torch ? "constant value=0.25" : "zeros", layer_text(l, "init", NULL), 0, 0);
    if (!l->d->failed) l->out[0] = make(l->g, "prelu", x, l->d->torch ? slope : along(l, x, axis, slope));
}

#define PARAM {"bias", 'b', 1}, {"init", 'i', 0}, {"bias_init", 'i', 0}, {"l1", 'f', 0}, {"l2", 'f', 0}
#define SCALES {"scale", 'b', 1}, {"center", 'b', 1}
#define MANY MOST_INPUTS

const LayerRow gd_layers_dense[] = {
    {"dense", "linear", 1, 1, 1, true, {{"units", 'n', 0}, PARAM}, "dense", "linear", make_dense, "x W + b over the last axis: units."},
    {"embedding", NULL, 1, 1, 2, false, {{"size", 'n', 0}, {"width", 'n', 0}, {"init", 'i', 0}}, "embedding", "embedding", make_embedding,
     "A row of a table for each whole number: size of the vocabulary, width."},
    {"batchnorm", "batch_normalization", 1, 1, 0, true, {{"axis", 'n', 0}, {"momentum", 'f', 0}, {"eps", 'f', 0}, SCALES}, "batch_normalization", "bn", make_batchnorm,
     "Each channel by the batch's statistics when training, by the running ones otherwise."},
    {"layernorm", "layer_normalization", 1, 1, 0, true, {{"axis", 'n', -1}, {"eps", 'f', 0}, SCALES}, "layer_normalization", "ln", make_layernorm, "An axis by its own mean and variance."},
    {"rmsnorm", NULL, 1, 1, 0, true, {{"eps", 'f', 0}}, "rms_normalization", "rms", make_rmsnorm, "The last axis by the root of its mean square."},
    {"groupnorm", "group_normalization", 1, 1, 1, true, {{"groups", 'n', 32}, {"eps", 'f', 0}, SCALES}, "group_normalization", "gn", make_groupnorm, "Each group of channels by its own mean and variance."},
    {"dropout", NULL, 1, 1, 1, false, {{"rate", 'f', .5}}, NULL, NULL, make_dropout, "When training, elements are dropped at random and the others scaled up."},
    {"prelu", NULL, 1, 1, 0, false, {{"init", 'i', 0}}, "p_re_lu", "prelu", make_prelu, "x, times a learned slope where it is negative."},
    {"flatten", NULL, 1, 1, 0, false, {{"axis", 'n', 1}}, NULL, NULL, make_flatten, "All axes from `axis` (1) on become one."},
    {"reshape", NULL, 1, 1, 1, false, {{"sizes", 'l', 0}}, NULL, NULL, make_reshape, "The same elements in other sizes, all of them given; -1: what is left."},
    {"transpose", "permute", 1, 1, 1, false, {{"axes", 'l', 0}}, NULL, NULL, make_transpose, "The axes in another order."},
    {"concat", "concatenate", 2, MANY, 0, false, {{"axis", 'n', -1}}, NULL, NULL, make_concat, "Tensors one after the other along an axis."},
    {"split", NULL, 1, 1, 1, false, {{"parts", 'n', 0}, {"axis", 'n', -1}}, NULL, NULL, make_split, "Equal parts along an axis, as several results."},
    {"add", NULL, 2, MANY, 0, true, {{0}}, NULL, NULL, make_add, "The sum of tensors."},
    {"mul", "multiply", 2, MANY, 0, true, {{0}}, NULL, NULL, make_mul, "The product of tensors, element by element."},
    {"sub", "subtract", 2, 2, 0, true, {{0}}, NULL, NULL, make_sub, "The difference."},
    {"div", NULL, 2, 2, 0, true, {{0}}, NULL, NULL, make_div, "The quotient."},
    {"matmul", "dot", 2, 2, 0, true, {{0}}, NULL, NULL, make_matmul, "Matrix product, leading axes broadcast."},
    {"mean", NULL, 1, 1, 0, false, {{"axis", 'n', 0}, {"keep", 'b', 0}}, NULL, NULL, make_mean, "The mean over an axis, or over all."},
    {"sum", NULL, 1, 1, 0, false, {{"axis", 'n', 0}, {"keep", 'b', 0}}, NULL, NULL, make_sum, "The sum over an axis, or over all."},
    {"largest", NULL, 1, 1, 0, false, {{"axis", 'n', 0}, {"keep", 'b', 0}}, NULL, NULL, make_largest, "The largest along an axis, or of all."},
    {"smallest", NULL, 1, 1, 0, false, {{"axis", 'n', 0}, {"keep", 'b', 0}}, NULL, NULL, make_smallest, "The smallest along an axis, or of all."},
    {"argmax", NULL, 1, 1, 0, false, {{"axis", 'n', -1}}, NULL, NULL, make_argmax, "Where the largest element along an axis is."},
    {"zeros", NULL, 0, 0, 1, false, {{"sizes", 'l', 0}}, NULL, NULL, make_zeros, "A tensor of zeros of the sizes given."},
    {"ones", NULL, 0, 0, 1, false, {{"sizes", 'l', 0}}, NULL, NULL, make_ones, "A tensor of ones of the sizes given."},
    {"arange", NULL, 0, 0, 1, false, {{"sizes", 'l', 0}}, NULL, NULL, make_arange, "0, 1, 2, ... as i64."},
    {"one_hot", NULL, 1, 1, 1, false, {{"size", 'n', 0}}, NULL, NULL, make_one_hot, "A 1 at each whole number's place along a new last axis."},
    {"cast", NULL, 1, 1, 1, false, {{"to", 'w', 0}}, NULL, NULL, make_cast, "Another dtype."},
    {0}};
