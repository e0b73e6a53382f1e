/* Pooling, and what it shares with conv (windows.h). Padding is a pad node of its own, with the neutral element; a window
   runs over its positions in index order. */
#include "windows.h"
#include "build.h"
#include "export.h"
#include "lower.h"
#include "grad.h"
#include <math.h>

/* ---- how a window moves ---- */

Expr *window_reach(Ctx *c, Expr *kernel, int64_t dilation) {
    return expr_add(c, expr_mul(c, expr_sub(c, kernel, expr_int(c, 1)), expr_int(c, dilation)), expr_int(c, 1));
}

static Expr *spatial_out(Node *n, const Value *x, int axis, Expr *kernel, int64_t stride, int64_t dilation) {
    Ctx *c = n->graph->c;
    Expr *reach = window_reach(c, kernel, dilation);
    Expr *room = expr_sub(c, x->dim[axis], reach);
    const char *what = gd_format(c, "the kernel reaches over %s elements of an axis of %s", expr_text(c, reach),
                                 expr_text(c, x->dim[axis]));
    node_require(n, expr2(c, E_LE, expr_int(c, 0), room), what);
    return expr_add(c, expr_fdiv(c, room, expr_int(c, stride)), expr_int(c, 1));
}

bool window_shape(Node *n, const Value *x, Expr *const *kernel, Expr **dim) {
    const int64_t *strides = node_attr(n, "strides")->ints, *dilations = node_attr(n, "dilations")->ints;
    if (node_attr(n, "strides")->n != x->rank - 2 || node_attr(n, "dilations")->n != x->rank - 2) {
        node_error(n, 204, NULL, "strides and dilations need an entry for each of %d axes", x->rank - 2);
        return false;
    }
    for (int i = 0; i < x->rank - 2; i++) {
        if (strides[i] < 1 || dilations[i] < 1) {
            node_error(n, 204, NULL, "strides and dilations must be positive");
            return false;
        }
        dim[2 + i] = spatial_out(n, x, 2 + i, kernel[i], strides[i], dilations[i]);
    }
    return true;
}

/* Input position under output position o and kernel position k. */
Expr *window_at(Ctx *c, const Node *n, int i, Expr *o, Expr *k) {
    return expr_add(c, expr_mul(c, o, expr_int(c, node_attr(n, "strides")->ints[i])),
                    expr_mul(c, k, expr_int(c, node_attr(n, "dilations")->ints[i])));
}

static bool positive_list(Import *n, const char *name, int spatial, int64_t *out) {
    const int64_t *v;
    int count = import_ints(n, name, &v);
    for (int i = 0; i < spatial; i++) {
        out[i] = count ? v[i < count ? i : 0] : 1;
        if (out[i] < 1) { import_error(n, 204, NULL, "attribute %s: %lld is not positive", name, (long long)out[i]); return false; }
    }
    if (count && count != spatial) {
        import_error(n, 204, NULL, "attribute %s has %d entries for %d spatial axes", name, count, spatial);
        return false;
    }
    return true;
}

bool import_window_moves(Import *n, int spatial, Window *w) {
    w->spatial = spatial;
    bool strides = positive_list(n, "strides", spatial, w->strides);
    return positive_list(n, "dilations", spatial, w->dilations) && strides;
}

/* SAME: ceil(in / stride) outputs; what is missing is split, the odd one at the end (UPPER) or the start. */
static void pad_same(Ctx *c, Window *w, int i, Expr *in, Expr *reach, bool upper) {
    Expr *stride = expr_int(c, w->strides[i]);
    Expr *out = expr_fdiv(c, expr_add(c, in, expr_int(c, w->strides[i] - 1)), stride);
    Expr *need = expr_sub(c, expr_add(c, expr_mul(c, expr_sub(c, out, expr_int(c, 1)), stride), reach), in);
    Expr *total = expr2(c, E_MAX, need, expr_int(c, 0)), *half = expr_fdiv(c, total, expr_int(c, 2));
    w->lo[i] = upper ? half : expr_sub(c, total, half);
    w->hi[i] = expr_sub(c, total, w->lo[i]);
}

/* ceil_mode: one more window where a part is left over, but none that starts in the padding at the end. */
static Expr *ceil_excess(Ctx *c, const Window *w, int i, Expr *in, Expr *reach) {
    Expr *stride = expr_int(c, w->strides[i]), *one = expr_int(c, 1);
    Expr *start = expr_add(c, in, w->lo[i]), *padded = expr_add(c, start, w->hi[i]);
    Expr *steps = expr_fdiv(c, expr_add(c, expr_sub(c, padded, reach), expr_sub(c, stride, one)), stride);
    Expr *last = expr_fdiv(c, expr_sub(c, start, one), stride); /* the last window that starts on an element */
    steps = expr2(c, E_MIN, steps, last);
    return expr2(c, E_MAX, expr_sub(c, expr_add(c, expr_mul(c, steps, stride), reach), padded), expr_int(c, 0));
}

bool import_window(Import *n, const Value *x, Expr *const *kernel, Window *w) {
    Ctx *c = n->g->c;
    int spatial = x->rank - 2;
    const int64_t *pads;
    if (!import_window_moves(n, spatial, w)) return false;
    const char *auto_pad = import_string(n, "auto_pad", "NOTSET");
    int npads = import_ints(n, "pads", &pads);
    bool ceil = import_int(n, "ceil_mode", 0) != 0, same = !strncmp(auto_pad, "SAME", 4);
    import_has(n, "kernel_shape");
    if (npads && npads != 2 * spatial) {
        import_error(n, 204, "begin and end of every spatial axis", "attribute pads has %d entries for %d spatial axes", npads, spatial);
        return false;
    }
    for (int i = 0; i < spatial; i++) {
        Expr *reach = window_reach(c, kernel[i], w->dilations[i]), *in = x->dim[2 + i];
        w->lo[i] = expr_int(c, npads && !same ? pads[i] : 0);
        w->hi[i] = expr_int(c, npads && !same ? pads[spatial + i] : 0);
        if (same) pad_same(c, w, i, in, reach, !strcmp(auto_pad, "SAME_UPPER"));
        w->over[i] = ceil ? ceil_excess(c, w, i, in, reach) : expr_int(c, 0);
    }
    return true;
}

static Value *pad_by(Graph *g, Value *x, int spatial, Expr *const *lo, Expr *const *hi, double value) {
    Expr *l[MAX_RANK], *h[MAX_RANK];
    for (int i = 0; i < x->rank; i++) {
        l[i] = i < 2 || i - 2 >= spatial || !lo ? expr_int(g->c, 0) : lo[i - 2];
        h[i] = i < 2 || i - 2 >= spatial || !hi ? expr_int(g->c, 0) : hi[i - 2];
    }
    return build_pad(g, x, l, h, NULL, const_scalar(g, x->dt, value));
}

Value *window_pad(Graph *g, Value *x, const Window *w, double value) {
    Expr *hi[MAX_RANK];
    for (int i = 0; i < w->spatial; i++) hi[i] = expr_add(g->c, w->hi[i], w->over[i]);
    return pad_by(g, x, w->spatial, w->lo, hi, value);
}

/* ---- pooling rows ---- */

static void pool_shape(Node *n) {
    const Value *x = n->in[0];
    const Attr *kernel = node_attr(n, "kernel");
    Expr *dim[MAX_RANK];
    if (x->rank < 3 || kernel->n != x->rank - 2) {
        node_error(n, 301, NULL, "a tensor of %d axes and a kernel of %d", x->rank, kernel->n);
        return;
    }
    if (n->op->result && (node_attr(n, "lo")->n != kernel->n || node_attr(n, "dims")->n != kernel->n)) {
        node_error(n, 204, NULL, "lo and dims need an entry for each of %d axes", kernel->n);
        return;
    }
    dim[0] = x->dim[0];
    dim[1] = x->dim[1];
    if (window_shape(n, x, kernel->dims, dim)) node_out(n, 0, n->op->result ? I64 : x->dt, x->rank, dim);
}

typedef struct PoolStep { Node *n; Expr *const *idx; bool max; } PoolStep;

static Expr *pool_load(Lower *L, const PoolStep *s, Expr *const *k) {
    Expr *x[MAX_RANK] = {s->idx[0], s->idx[1]};
    for (int i = 0; i < s->n->in[0]->rank - 2; i++) x[2 + i] = window_at(L->c, s->n, i, s->idx[2 + i], k[i]);
    Expr *e = lower_elem(L, s->n->in[0], x);
    return dt_small((DType)e->type.dt) ? expr_cast(L->c, e, F32) : e;
}

static void pool_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    PoolStep *s = arg;
    next[0] = expr2(L->c, s->max ? E_MAX : E_ADD, acc[0], pool_load(L, s, k));
}

/* The position of the first largest element in the tensor before padding, counted through all its axes. */
static void argmax_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    PoolStep *s = arg;
    Ctx *c = L->c;
    const Attr *lo = node_attr(s->n, "lo"), *dims = node_attr(s->n, "dims");
    int spatial = lo->n;
    Expr *at = expr_int(c, 0), *x = pool_load(L, s, k);
    for (int i = 0; i < spatial; i++) {
        int axis = attr_int(s->n, "column_major") ? spatial - 1 - i : i;
        Expr *p = expr_sub(c, window_at(c, s->n, axis, s->idx[2 + axis], k[axis]), lo->dims[axis]);
        at = expr_add(c, expr_mul(c, at, dims->dims[axis]), p);
    }
    Expr *more = expr2(c, E_LT, acc[0], x);
    next[0] = expr_select(c, more, x, acc[0]);
    next[1] = expr_select(c, more, at, acc[1]);
}

static void pool_loops(Accum *a, const Node *n) {
    static const char *const names[][3] = {{"kw"}, {"kh", "kw"}, {"kd", "kh", "kw"}};
    const Attr *kernel = node_attr(n, "kernel");
    a->nloops = kernel->n;
    for (int i = 0; i < kernel->n; i++) {
        a->trip[i] = kernel->dims[i];
        if (kernel->n <= 3) a->name[i] = names[kernel->n - 1][i];
    }
}

static Expr *pool_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    PoolStep s = {n, idx, n->op->flags & OF_MONOTONE};
    DType dt = dt_small(n->in[0]->dt) ? F32 : n->in[0]->dt;
    Accum a = {.nacc = 1, .step = pool_step, .arg = &s, .init = {expr_num(L->c, dt, s.max ? -INFINITY : 0)}};
    pool_loops(&a, n);
    Expr *e;
    lower_accum(L, &a, n->out[0]->rank, idx, &e);
    return dt_small(n->in[0]->dt) ? expr_cast(L->c, e, n->in[0]->dt) : e;
}

static Expr *argmax_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    PoolStep s = {n, idx, true};
    DType dt = dt_small(n->in[0]->dt) ? F32 : n->in[0]->dt;
    Accum a = {.nacc = 2, .step = argmax_step, .arg = &s, .init = {expr_num(c, dt, -INFINITY), expr_int(c, 0)}};
    pool_loops(&a, n);
    Expr *e[2], *plane = expr_add(c, expr_mul(c, idx[0], n->in[0]->dim[1]), idx[1]);
    lower_accum(L, &a, n->out[0]->rank, idx, e);
    const Attr *dims = node_attr(n, "dims");
    for (int i = 0; i < dims->n; i++) plane = expr_mul(c, plane, dims->dims[i]);
    return expr_add(c, plane, e[1]);
}

static bool reads_again(const Node *n, int i) { (void)n; return i == 0; }

static Value *make_pool(Graph *g, const char *op, Value *x, const Window *w, Expr *const *kernel) {
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_dims(n, "kernel", w->spatial, kernel);
    node_ints(n, "strides", w->spatial, w->strides);
    node_ints(n, "dilations", w->spatial, w->dilations);
    return node_finish(n);
}

/* The window of `from` on a node being made. */
static void copy_moves(Node *to, const Node *from) {
    const Attr *kernel = node_attr(from, "kernel"), *strides = node_attr(from, "strides"), *dilations = node_attr(from, "dilations");
    node_dims(to, "kernel", kernel->n, kernel->dims);
    node_ints(to, "strides", strides->n, strides->ints);
    node_ints(to, "dilations", dilations->n, dilations->ints);
}

/* ---- gradients ---- */

/* dx under a window that moved over x: the output's cotangent spread by the strides, summed under the same window. */
static void pool_sum_grad(Grad *G, Node *n, Value *const *dy) {
    Ctx *c = G->g->c;
    const Value *x = n->in[0];
    const Attr *kernel = node_attr(n, "kernel"), *strides = node_attr(n, "strides"), *dilations = node_attr(n, "dilations");
    Expr *lo[MAX_RANK], *hi[MAX_RANK];
    int64_t interior[MAX_RANK] = {0};
    Window one = {.spatial = kernel->n};
    lo[0] = lo[1] = hi[0] = hi[1] = expr_int(c, 0);
    for (int i = 0; i < kernel->n; i++) {
        Expr *edge = expr_sub(c, window_reach(c, kernel->dims[i], dilations->ints[i]), expr_int(c, 1));
        Expr *last = expr_mul(c, expr_sub(c, dy[0]->dim[2 + i], expr_int(c, 1)), expr_int(c, strides->ints[i]));
        lo[2 + i] = edge;
        hi[2 + i] = expr_sub(c, expr_sub(c, x->dim[2 + i], expr_int(c, 1)), last); /* edge, and what no window reached */
        interior[2 + i] = strides->ints[i] - 1;
        one.strides[i] = 1;
        one.dilations[i] = dilations->ints[i];
    }
    grad_add(G, n->in[0], make_pool(G->g, "pool_sum", build_pad(G->g, dy[0], lo, hi, interior, NULL), &one, kernel->dims));
}

static void pool_max_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    const Attr *kernel = node_attr(n, "kernel");
    Value *x = n->in[0];
    Expr *none[MAX_RANK];
    for (int i = 0; i < kernel->n; i++) none[i] = expr_int(g->c, 0);
    Node *at = node_begin(g, "pool_argmax"), *back = node_begin(g, "pool_pick");
    node_input(at, x);
    node_dims(at, "lo", kernel->n, none);
    node_dims(at, "dims", kernel->n, x->dim + 2);
    copy_moves(at, n);
    node_input(back, node_finish(at));
    node_input(back, dy[0]);
    copy_moves(back, n);
    node_dims(back, "dims", x->rank, x->dim);
    grad_add(G, x, node_finish(back));
}

/* Each window's cotangent is that of the element which it chose. */
static void pick_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Expr *all = value_count(g->c, dy[0]);
    grad_add(G, n->in[1], make(g, "gather", build_reshape(g, dy[0], 1, &all), n->in[0]));
}

static void pick_shape(Node *n) {
    const Attr *dims = node_attr(n, "dims");
    node_out(n, 0, n->in[1]->dt, dims->n, dims->dims);
}

typedef struct PickStep { Node *n; Expr *const *idx; Expr *flat; } PickStep;

/* Window k covers the element when its start, k dilated steps back, is a window's start; it counts where that window chose
   the element. */
static void pick_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    PickStep *s = arg;
    Ctx *c = L->c;
    const Attr *strides = node_attr(s->n, "strides"), *dilations = node_attr(s->n, "dilations");
    Value *at = s->n->in[0], *dy = s->n->in[1];
    Expr *o[MAX_RANK] = {s->idx[0], s->idx[1]}, *covered = NULL, *zero = expr_int(c, 0);
    for (int i = 0; i < strides->n; i++) {
        Expr *start = expr_sub(c, s->idx[2 + i], expr_mul(c, k[i], expr_int(c, dilations->ints[i])));
        Expr *step = expr_int(c, strides->ints[i]);
        o[2 + i] = expr_fdiv(c, start, step);
        covered = expr_and(c, covered, expr2(c, E_LE, zero, start));
        covered = expr_and(c, covered, expr2(c, E_EQ, expr_fmod(c, start, step), zero));
        covered = expr_and(c, covered, expr2(c, E_LT, o[2 + i], at->dim[2 + i]));
    }
    Expr *chosen = lower_guarded(L, covered, at, o, expr_int(c, -1));
    Expr *none = expr_const(c, scalar(dy->dt), 0), *d = lower_guarded(L, covered, dy, o, none);
    d = expr_select(c, expr2(c, E_EQ, chosen, s->flat), d, none);
    next[0] = expr2(c, E_ADD, acc[0], expr_cast(c, d, (DType)acc[0]->type.dt));
}

static Expr *pick_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Attr *dims = node_attr(n, "dims");
    PickStep s = {n, idx, expr_int(c, 0)};
    for (int i = 0; i < dims->n; i++) s.flat = expr_add(c, expr_mul(c, s.flat, dims->dims[i]), idx[i]);
    DType dt = n->in[1]->dt;
    Accum a = {.nacc = 1, .step = pick_step, .arg = &s, .init = {expr_const(c, scalar(dt_small(dt) ? F32 : dt), 0)}};
    pool_loops(&a, n);
    Expr *e;
    lower_accum(L, &a, dims->n, idx, &e);
    return expr_cast(c, e, dt);
}

static bool pick_rereads(const Node *n, int i) { (void)n; (void)i; return true; }

/* ---- import ---- */

/* kernel_shape as expressions, and the window. */
static bool import_pool(Import *n, Expr **kernel, Window *w) {
    const int64_t *k;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return false;
    int spatial = n->in[0]->rank - 2, count = import_ints(n, "kernel_shape", &k);
    if (spatial < 1 || count != spatial) {
        import_error(n, 204, NULL, "kernel_shape has %d entries for a tensor of %d axes", count, n->in[0]->rank);
        return false;
    }
    for (int i = 0; i < spatial; i++) {
        if (k[i] < 1) { import_error(n, 204, NULL, "attribute kernel_shape: %lld is not positive", (long long)k[i]); return false; }
        kernel[i] = expr_int(n->g->c, k[i]);
    }
    return import_window(n, n->in[0], kernel, w);
}

static void import_max_pool(Import *n) {
    Expr *kernel[MAX_RANK];
    Window w;
    if (!import_pool(n, kernel, &w)) return;
    Value *x = n->in[0], *padded = window_pad(n->g, x, &w, -INFINITY);
    n->out[0] = make_pool(n->g, "pool_max", padded, &w, kernel);
    int64_t column_major = import_int(n, "storage_order", 0);
    if (n->nout < 2) return;
    Node *arg = node_begin(n->g, "pool_argmax");
    node_input(arg, padded);
    node_dims(arg, "kernel", w.spatial, kernel);
    node_ints(arg, "strides", w.spatial, w.strides);
    node_ints(arg, "dilations", w.spatial, w.dilations);
    node_dims(arg, "lo", w.spatial, w.lo);
    node_dims(arg, "dims", w.spatial, x->dim + 2);
    node_int(arg, "column_major", column_major);
    n->out[1] = node_finish(arg);
}

/* How many elements of the input (or of input and padding) each window covers. */
static Value *window_counts(Graph *g, Value *x, const Window *w, Expr *const *kernel, bool padding) {
    Ctx *c = g->c;
    Expr *dim[MAX_RANK], *hi[MAX_RANK];
    dim[0] = dim[1] = expr_int(c, 1);
    for (int i = 0; i < w->spatial; i++) {
        Expr *pads = expr_add(c, w->lo[i], w->hi[i]);
        dim[2 + i] = padding ? expr_add(c, x->dim[2 + i], pads) : x->dim[2 + i];
        hi[i] = padding ? w->over[i] : expr_add(c, w->hi[i], w->over[i]);
    }
    Value *ones = build_broadcast(g, const_scalar(g, x->dt, 1), x->rank, dim);
    ones = pad_by(g, ones, w->spatial, padding ? NULL : w->lo, hi, 0);
    return make_pool(g, "pool_sum", ones, w, kernel);
}

static void import_average_pool(Import *n) {
    Expr *kernel[MAX_RANK];
    Window w;
    if (!import_pool(n, kernel, &w)) return;
    Graph *g = n->g;
    Value *x = n->in[0], *padded = window_pad(g, x, &w, 0);
    bool over = false, include = import_int(n, "count_include_pad", 0) != 0;
    for (int i = 0; i < w.spatial; i++) over = over || !is_value(w.over[i], 0);
    Value *sum = make_pool(g, "pool_sum", padded, &w, kernel), *count;
    if (padded == x || (include && !over)) {
        Expr *size = expr_int(g->c, 1);
        for (int i = 0; i < w.spatial; i++) size = expr_mul(g->c, size, kernel[i]);
        count = const_scalar(g, x->dt, (double)(int64_t)size->bits);
    } else count = window_counts(g, x, &w, kernel, include);
    n->out[0] = make(g, "div", sum, count);
}

static Value *power(Graph *g, Value *v, double e) {
    if (e == 1) return v;
    if (e == 2 || e == 3) return e == 2 ? make(g, "mul", v, v) : make(g, "mul", make(g, "mul", v, v), v);
    return make(g, "pow", v, const_scalar(g, v->dt, e));
}

/* The p-th root of a sum. A norm has a kink at 0: its gradient there is 0, as in PyTorch, and not infinity times 0. */
static Value *root(Graph *g, Value *v, double p) {
    if (p == 1) return v;
    Value *zero = const_scalar(g, v->dt, 0), *none = make(g, "equal", v, zero);
    return make(g, "where", none, zero, power(g, make(g, "where", none, const_scalar(g, v->dt, 1), v), 1 / p));
}

static void import_lp_pool(Import *n) {
    Expr *kernel[MAX_RANK];
    Window w;
    if (!import_pool(n, kernel, &w)) return;
    double p = n->opset < 2 ? import_float(n, "p", 2) : (double)import_int(n, "p", 2);
    Value *x = power(n->g, make(n->g, "abs", n->in[0]), p);
    n->out[0] = root(n->g, make_pool(n->g, "pool_sum", window_pad(n->g, x, &w, 0), &w, kernel), p);
}

/* One window over all of the spatial axes. */
static Value *global_pool(Import *n, const char *op, Value *x) {
    Window w = {.spatial = x->rank - 2};
    for (int i = 0; i < w.spatial; i++) w.strides[i] = w.dilations[i] = 1;
    return make_pool(n->g, op, x, &w, x->dim + 2);
}

static bool global_input(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return false;
    if (n->in[0]->rank < 3) import_error(n, 301, NULL, "a tensor of %d axes has no spatial ones", n->in[0]->rank);
    return n->in[0]->rank >= 3;
}

static void import_global_max(Import *n) {
    if (global_input(n)) n->out[0] = global_pool(n, "pool_max", n->in[0]);
}

static Value *spatial_count(Graph *g, const Value *x) {
    Expr *size = expr_int(g->c, 1);
    for (int i = 2; i < x->rank; i++) size = expr_mul(g->c, size, x->dim[i]);
    return build_scalar(g, x->dt, size);
}

static void import_global_average(Import *n) {
    if (global_input(n)) n->out[0] = make(n->g, "div", global_pool(n, "pool_sum", n->in[0]), spatial_count(n->g, n->in[0]));
}

static void import_global_lp(Import *n) {
    if (!global_input(n)) return;
    double p = n->opset < 2 ? import_float(n, "p", 2) : (double)import_int(n, "p", 2);
    n->out[0] = root(n->g, global_pool(n, "pool_sum", power(n->g, make(n->g, "abs", n->in[0]), p)), p);
}

/* ---- export ---- */

void window_attrs(Export *x, ExportNode *e, const Node *n) {
    const Attr *strides = node_attr(n, "strides"), *dilations = node_attr(n, "dilations");
    export_ints(x, e, "strides", strides->n, strides->ints);
    export_ints(x, e, "dilations", dilations->n, dilations->ints);
}

static bool is_number(const Value *v, uint64_t bits) {
    if (!v) return bits == 0;
    if (v->rank) return false;
    if (v->data) return gd_load_bits(v->dt, v->data) == bits;
    return v->elems && is_const(v->elems[0]) && v->elems[0]->bits == bits;
}

bool window_padding(const Node *n, double value, Value **x, int64_t *pads) {
    const Node *p = n->in[0]->def;
    int spatial = n->in[0]->rank - 2;
    if (!p || strcmp(p->op->name, "pad") || !is_number(p->nin > 1 ? p->in[1] : NULL, gd_to_bits(n->in[0]->dt, value))) return false;
    const Attr *lo = node_attr(p, "lo"), *hi = node_attr(p, "hi"), *interior = node_attr(p, "interior");
    for (int i = 0; i < spatial + 2; i++) {
        int64_t l, h;
        if (!is_int(lo->dims[i], &l) || !is_int(hi->dims[i], &h) || interior->ints[i] || l < 0 || h < 0) return false;
        if (i < 2 && (l || h)) return false;
        if (i >= 2) {
            pads[i - 2] = l;
            pads[spatial + i - 2] = h;
        }
    }
    *x = p->in[0];
    return true;
}

/* The same for pooling, whose windows must all touch the input. */
static bool pool_padding(const Node *n, double value, Value **x, int64_t *pads) {
    const Attr *kernel = node_attr(n, "kernel");
    int64_t k;
    *x = n->in[0];
    for (int i = 0; i < 2 * kernel->n; i++) pads[i] = 0;
    if (!window_padding(n, value, x, pads)) return false;
    for (int i = 0; i < 2 * kernel->n; i++)
        if (!is_int(kernel->dims[i % kernel->n], &k) || pads[i] >= k) {
            *x = n->in[0];
            for (int j = 0; j < 2 * kernel->n; j++) pads[j] = 0;
            return false;
        }
    return true;
}

/* One window over the whole. */
static bool is_global(const Node *n) {
    const Attr *kernel = node_attr(n, "kernel"), *dilations = node_attr(n, "dilations");
    for (int i = 0; i < kernel->n; i++)
        if (kernel->dims[i] != n->in[0]->dim[2 + i] || dilations->ints[i] != 1) return false;
    return true;
}

static bool kernel_sizes(const Node *n, int64_t *size) {
    const Attr *kernel = node_attr(n, "kernel");
    for (int i = 0; i < kernel->n; i++)
        if (!is_int(kernel->dims[i], &size[i])) return false;
    return true;
}

static ExportNode *pool_node(Export *x, const Node *n, const char *op, Value *v, const int64_t *size, const int64_t *pads) {
    int spatial = node_attr(n, "kernel")->n;
    ExportNode *e = export_node(x, op);
    export_arg(x, e, export_value(x, v));
    export_ints(x, e, "kernel_shape", spatial, size);
    window_attrs(x, e, n);
    export_ints(x, e, "pads", 2 * spatial, pads);
    return e;
}

static bool no_size(Export *x, Node *n) {
    export_fail(x, n, "fix the size with --dim", "a window whose size is not known when compiling");
    return false;
}

static void export_pool_max(Export *x, Node *n) {
    int64_t size[MAX_RANK], pads[2 * MAX_RANK];
    Value *v;
    DType t = n->out[0]->dt;
    if (is_global(n)) export_out(x, n, 0, export_op(x, "GlobalMaxPool", t, export_in(x, n, 0)));
    else if (kernel_sizes(n, size) || no_size(x, n)) {
        pool_padding(n, -INFINITY, &v, pads);
        export_out(x, n, 0, export_result(x, pool_node(x, n, "MaxPool", v, size, pads), t));
    }
}

/* The second output of MaxPool. */
static void export_pool_argmax(Export *x, Node *n) {
    const Attr *lo = node_attr(n, "lo"), *dims = node_attr(n, "dims");
    int64_t size[MAX_RANK], pads[2 * MAX_RANK];
    Value *v;
    if (!kernel_sizes(n, size) && !no_size(x, n)) return;
    pool_padding(n, -INFINITY, &v, pads);
    bool fits = true;
    for (int i = 0; i < lo->n; i++) fits = fits && is_value(lo->dims[i], pads[i]) && dims->dims[i] == v->dim[2 + i];
    if (!fits) {
        export_fail(x, n, NULL, "positions under padding that is not the pooling's own");
        return;
    }
    ExportNode *e = pool_node(x, n, "MaxPool", v, size, pads);
    if (attr_int(n, "column_major")) export_int(x, e, "storage_order", 1);
    export_result(x, e, n->in[0]->dt);
    export_out(x, n, 0, export_result(x, e, I64));
}

/* A sum is a convolution of each channel with ones: the same chain of additions. */
static void export_pool_sum(Export *x, Node *n) {
    int64_t size[MAX_RANK], pads[2 * MAX_RANK], shape[MAX_RANK] = {1, 1}, axes[MAX_RANK];
    int spatial = n->in[0]->rank - 2;
    Ctx *c = x->c;
    Value *v;
    if (!kernel_sizes(n, size)) {
        for (int i = 0; i < spatial; i++) axes[i] = 2 + i;
        if (is_global(n))
            export_out(x, n, 0, export_op(x, "ReduceSum", n->out[0]->dt, export_in(x, n, 0), export_list(x, spatial, axes)));
        else no_size(x, n);
        return;
    }
    DType t = n->out[0]->dt, as = dt_int(t) ? F64 : t;
    pool_padding(n, 0, &v, pads);
    size_t count = 1, width = (size_t)gd_dtypes[as].bytes;
    Expr *dim[MAX_RANK] = {expr_mul(c, v->dim[0], v->dim[1]), expr_int(c, 1)};
    for (int i = 0; i < spatial; i++) {
        count *= (size_t)size[i];
        shape[2 + i] = size[i];
        dim[2 + i] = v->dim[2 + i];
    }
    char *ones = gd_alloc_array(c, count, width);
    for (size_t i = 0; i < count; i++) gd_store_bits(as, ones + i * width, gd_to_bits(as, 1));
    ExportRef *in = export_reshape(x, export_cast(x, export_value(x, v), as), v->rank, dim);
    ExportNode *e = export_node(x, "Conv");
    export_arg(x, e, in);
    export_arg(x, e, export_const(x, as, v->rank, shape, ones));
    window_attrs(x, e, n);
    export_ints(x, e, "pads", 2 * spatial, pads);
    ExportRef *y = export_cast(x, export_result(x, e, as), t);
    export_out(x, n, 0, export_reshape(x, y, v->rank, n->out[0]->dim));
}

static bool same_moves(const Node *a, const Node *b) {
    const Attr *k = node_attr(a, "kernel"), *l = node_attr(b, "kernel");
    bool same = k->n == l->n;
    for (int i = 0; same && i < k->n; i++)
        same = k->dims[i] == l->dims[i] && node_attr(a, "strides")->ints[i] == node_attr(b, "strides")->ints[i] &&
               node_attr(a, "dilations")->ints[i] == node_attr(b, "dilations")->ints[i];
    return same;
}

/* Is v what window_counts makes of x's elements without their padding? */
static bool counts_inside(const Value *v, const Node *pool, const Value *x) {
    const Node *sum = v->def, *pad = sum && sum->nin ? sum->in[0]->def : NULL, *ones = pad && pad->nin ? pad->in[0]->def : NULL;
    const Node *mine = pool->in[0]->def;
    if (!ones || sum->op != pool->op || pad->op != mine->op || strcmp(ones->op->name, "broadcast") || !same_moves(sum, pool)) return false;
    bool same = is_number(ones->in[0], gd_to_bits(x->dt, 1));
    for (int i = 2; same && i < x->rank; i++)
        same = node_attr(pad, "lo")->dims[i] == node_attr(mine, "lo")->dims[i] && node_attr(pad, "hi")->dims[i] == node_attr(mine, "hi")->dims[i] &&
               pad->in[0]->dim[i] == x->dim[i];
    return same;
}

bool export_mean(Export *x, Node *div) {
    const Node *pool = div->in[0]->def;
    Value *count = div->in[1], *v;
    int64_t size[MAX_RANK], pads[2 * MAX_RANK], all = 1;
    Ctx *c = x->c;
    if (!pool || pool->op != op_named("pool_sum") || !(dt_float(div->in[0]->dt) || dt_small(div->in[0]->dt))) return false;
    DType t = div->out[0]->dt;
    if (is_global(pool)) {
        Expr *area = expr_int(c, 1);
        for (int i = 2; i < pool->in[0]->rank; i++) area = expr_mul(c, area, pool->in[0]->dim[i]);
        bool fits = is_const(area) ? is_number(count, gd_to_bits(t, (double)(int64_t)area->bits))
                                   : !count->rank && count->elems && count->elems[0] == expr_cast(c, area, t);
        if (fits) export_out(x, div, 0, export_op(x, "GlobalAveragePool", t, export_in(x, (Node *)pool, 0)));
        if (fits) return true;
    }
    if (!kernel_sizes(pool, size)) return false;
    bool padded = pool_padding(pool, 0, &v, pads);
    for (int i = 0; i < v->rank - 2; i++) all *= size[i];
    bool include = is_number(count, gd_to_bits(t, (double)all));
    if (!include && !(padded && counts_inside(count, pool, v))) return false;
    ExportNode *e = pool_node(x, pool, "AveragePool", v, size, pads);
    if (include && padded) export_int(x, e, "count_include_pad", 1);
    export_out(x, div, 0, export_result(x, e, t));
    return true;
}

#define WINDOW_ATTRS {"kernel", AT_DIMS, 0, true}, {"strides", AT_INTS, 0, true}, {"dilations", AT_INTS, 0, true}

const Op gd_ops_window[] = {
    {.name = "pool_max", .export = export_pool_max, .kind = OP_WINDOW, .flags = OF_MONOTONE, .in = "x", .out = "y", .types = "num", .attrs = {WINDOW_ATTRS},
     .shape = pool_shape, .elem = pool_elem, .rereads = reads_again, .grad = pool_max_grad,
     .doc = "The largest element under a window that moves over the spatial axes."},
    {.name = "pool_sum", .export = export_pool_sum, .kind = OP_WINDOW, .in = "x", .out = "y", .types = "num", .attrs = {WINDOW_ATTRS},
     .shape = pool_shape, .elem = pool_elem, .rereads = reads_again, .grad = pool_sum_grad,
     .doc = "The sum under a window that moves over the spatial axes, in index order."},
    {.name = "pool_argmax", .export = export_pool_argmax, .kind = OP_WINDOW, .flags = OF_NO_GRAD, .in = "x", .out = "i", .types = "num", .result = "i64",
     .attrs = {WINDOW_ATTRS, {"lo", AT_DIMS, 0, true}, {"dims", AT_DIMS, 0, true}, {"column_major", AT_INT, 0, false}},
     .shape = pool_shape, .elem = argmax_elem, .rereads = reads_again,
     .doc = "Where the first largest element under a window lies in the tensor before padding (lo, dims), counted through all axes."},
    {.name = "pool_pick", .kind = OP_WINDOW, .in = "at dy", .out = "dx", .types = "i64",
     .attrs = {WINDOW_ATTRS, {"dims", AT_DIMS, 0, true}}, .shape = pick_shape, .elem = pick_elem, .rereads = pick_rereads, .grad = pick_grad,
     .doc = "The sum of dy over the windows that chose this element of a tensor of dims: the gradient of pool_max."},
    {.kind = OP_BUILD, .onnx = "MaxPool", .import = import_max_pool, .doc = "Maximum under a window; padding never wins."},
    {.kind = OP_BUILD, .onnx = "AveragePool", .import = import_average_pool, .doc = "Mean under a window, of the elements inside the input."},
    {.kind = OP_BUILD, .onnx = "LpPool", .import = import_lp_pool, .doc = "The p-norm of what a window covers."},
    {.kind = OP_BUILD, .onnx = "GlobalMaxPool", .import = import_global_max, .doc = "The largest element of each channel."},
    {.kind = OP_BUILD, .onnx = "GlobalAveragePool", .import = import_global_average, .doc = "The mean of each channel."},
    {.kind = OP_BUILD, .onnx = "GlobalLpPool", .import = import_global_lp, .doc = "The p-norm of each channel."},
};
const int gd_ops_window_n = sizeof gd_ops_window / sizeof *gd_ops_window;
