/* Reductions over axes, positions of extremes, running sums and products; ONNX's reductions over them.

   When the last axis is among the reduced ones the sum runs in 16 fixed lanes, otherwise element after
   element in index order (docs/numerics.md): what is computed never depends on the machine. Small floats
   accumulate in f32. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"
#include <math.h>

static DType wide(DType t) { return dt_small(t) ? F32 : t; }
static Expr *widen(Ctx *c, Expr *e) { return expr_cast(c, e, wide((DType)e->type.dt)); }

static uint64_t reduced(const Node *n) {
    const Attr *axes = node_attr(n, "axes");
    uint64_t set = 0;
    for (int i = 0; i < axes->n; i++) set |= 1ull << axes->ints[i];
    return set;
}

/* ---- sum, product, extremes ---- */

/* Axes that only the data knows are a mask: every axis stays, those with a 1 in it as size 1. */
static bool masked(const Node *n) { return node_attr(n, "mask")->n > 0; }

static Expr *masked_out(Ctx *c, const Node *n, int i, Expr *yes, Expr *no) {
    return expr_select(c, expr2(c, E_NE, node_attr(n, "mask")->dims[i], expr_int(c, 0)), yes, no);
}

static void masked_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    Expr *dim[MAX_RANK];
    if (node_attr(n, "mask")->n != x->rank || node_attr(n, "axes")->n) {
        node_error(n, 204, "either axes, or a mask",
                   "attribute mask does not have an entry for each of %d axes", x->rank);
        return;
    }
    for (int i = 0; i < x->rank; i++) dim[i] = masked_out(c, n, i, expr_int(c, 1), x->dim[i]);
    node_out(n, 0, x->dt, x->rank, dim);
}

static void reduce_shape(Node *n) {
    const Value *x = n->in[0];
    const Attr *axes = node_attr(n, "axes");
    Expr *dim[MAX_RANK];
    int rank = 0;
    if (masked(n)) { masked_shape(n); return; }
    bool keep = attr_int(n, "keepdims") != 0;
    for (int i = 0; i < axes->n; i++)
        if (axes->ints[i] < 0 || axes->ints[i] >= x->rank) {
            node_error(n, 204, NULL, "axis %lld is outside a tensor of rank %d", (long long)axes->ints[i],
                       x->rank);
            return;
        }
    for (int i = 0; i < x->rank; i++) {
        if (!(reduced(n) >> i & 1)) dim[rank++] = x->dim[i];
        else if (keep) dim[rank++] = expr_int(n->graph->c, 1);
    }
    node_out(n, 0, x->dt, rank, dim);
}

/* The reduction of a row: its operator and what it gives for no elements. */
static ExprKind combine(const Node *n) {
    static const struct { const char *name; ExprKind op; } ops[] = {
        {"reduce_sum", E_ADD}, {"reduce_prod", E_MUL}, {"reduce_max", E_MAX}, {"reduce_min", E_MIN}};
    int i = 0;
    while (i < 3 && strcmp(ops[i].name, n->op->name)) i++;
    return ops[i].op;
}

/* The least (greatest) value of a type: the infinities of floats. */
static Expr *extreme(Ctx *c, DType t, bool greatest) {
    return expr_num(c, t, greatest ? INFINITY : -INFINITY);
}

static Expr *neutral(Ctx *c, ExprKind op, DType t) {
    if (op == E_ADD) return expr_num(c, t, 0);
    if (op == E_MUL) return expr_num(c, t, 1);
    return extreme(c, t, op == E_MIN);
}

/* An input read with some axes running and the others fixed. */
typedef struct Walk {
    Node *n;
    ExprKind op;
    bool masked;
    int nloops;
    int axis[MAX_RANK];
    Expr *at[MAX_RANK];
} Walk;

static Expr *walk_load(Lower *L, void *arg, Expr *const *k) {
    Walk *w = arg;
    Expr *at[MAX_RANK];
    memcpy(at, w->at, sizeof at);
    for (int i = 0; i < w->nloops; i++) {
        int a = w->axis[i];
        at[a] = w->masked ? masked_out(L->c, w->n, a, k[i], at[a]) : k[i];
    }
    return widen(L->c, lower_elem(L, w->n->in[0], at));
}

static void reduce_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    next[0] = expr2(L->c, ((Walk *)arg)->op, acc[0], walk_load(L, arg, k));
}

static Expr *reduce_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *x = n->in[0];
    Walk w = {.n = n, .op = combine(n), .masked = masked(n)};
    Accum a = {.nacc = 1, .step = reduce_step, .arg = &w, .init = {neutral(c, w.op, wide(x->dt))}};
    bool keep = attr_int(n, "keepdims") != 0;
    int o = 0;
    for (int i = 0; i < x->rank && w.masked; i++) {
        w.at[i] = idx[i];
        w.axis[w.nloops] = i;
        a.trip[w.nloops++] = masked_out(c, n, i, x->dim[i], expr_int(c, 1));
    }
    for (int i = 0; i < x->rank && !w.masked; i++) {
        if (reduced(n) >> i & 1) {
            a.trip[w.nloops] = x->dim[i];
            w.axis[w.nloops++] = i;
            o += keep;
        } else w.at[i] = idx[o++];
    }
    a.nloops = w.nloops;
    Expr *r;
    if (!w.nloops) r = walk_load(L, &w, NULL);
    else if (w.axis[w.nloops - 1] == x->rank - 1 && !w.masked)
        r = lower_lanes(L, w.op, w.nloops, a.trip, a.init[0], n->out[0]->rank, idx, walk_load, &w);
    else lower_accum(L, &a, n->out[0]->rank, idx, &r);
    return expr_cast(c, r, x->dt);
}

/* A reduced value with its axes back as size 1, then repeated to x's shape. */
static Value *spread(Graph *g, const Node *n, Value *v) {
    Expr *dim[MAX_RANK];
    const Value *x = n->in[0];
    if (masked(n)) return build_broadcast(g, v, x->rank, x->dim);
    for (int i = 0; i < x->rank; i++) dim[i] = reduced(n) >> i & 1 ? expr_int(g->c, 1) : x->dim[i];
    return build_broadcast(g, build_reshape(g, v, x->rank, dim), x->rank, x->dim);
}

static void sum_grad(Grad *G, Node *n, Value *const *dy) { grad_add(G, n->in[0], spread(G->g, n, dy[0])); }

/* n's reduction of another value by another op. */
static Value *reduce_again(Graph *g, const Node *n, const char *op, Value *x) {
    const Attr *axes = node_attr(n, "axes"), *mask = node_attr(n, "mask");
    Node *m = node_begin(g, op);
    node_input(m, x);
    node_ints(m, "axes", axes->n, axes->ints);
    node_int(m, "keepdims", attr_int(n, "keepdims"));
    if (mask->n) node_dims(m, "mask", mask->n, mask->dims);
    return node_finish(m);
}

/* Shared evenly among the elements that are the extreme one. */
static void extreme_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Value *x = n->in[0], *mine = build_cast(g, make(g, "equal", x, spread(g, n, n->out[0])), x->dt);
    grad_add(G, x, make(g, "mul", mine, spread(g, n, make(g, "div", dy[0], reduce_again(g, n, "reduce_sum", mine)))));
}

static Value *running(Graph *g, const char *op, Value *x, int axis, bool exclusive, bool reverse) {
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_int(n, "axis", axis);
    node_int(n, "exclusive", exclusive);
    node_int(n, "reverse", reverse);
    return node_finish(n);
}

/* Over axes that only the data knows: p, dy times the product of all that are not 0, over the factor; for a 0 that is the only
   one p as it stands; nothing where another one is 0. */
static void masked_prod_grad(Grad *G, Node *n, Value *dy) {
    Graph *g = G->g;
    Value *x = n->in[0], *none = make(g, "equal", x, const_scalar(g, x->dt, 0)), *one = const_scalar(g, x->dt, 1);
    Map *values = map_new(g->c);
    Value *factor = make(g, "where", none, one, x);
    map_puts(values, "none", none);
    map_puts(values, "factor", factor);
    map_puts(values, "zeros", spread(g, n, reduce_again(g, n, "reduce_sum", build_cast(g, none, x->dt))));
    map_puts(values, "p", spread(g, n, make(g, "mul", dy, reduce_again(g, n, "reduce_prod", factor))));
    grad_add(G, x, graph_text(g, "none ? (zeros == 1 ? p : 0) : zeros == 0 ? p / factor : 0", values, NULL));
}

/* The product of all others: of those before times of those after, along the reduced axes merged into one. No
   division, so zeros do no harm. */
static void prod_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Ctx *c = g->c;
    Value *x = n->in[0];
    int64_t perm[MAX_RANK], back[MAX_RANK];
    int at = 0, kept;
    if (masked(n)) {
        masked_prod_grad(G, n, dy[0]);
        return;
    }
    for (int i = 0; i < x->rank; i++)
        if (!(reduced(n) >> i & 1)) perm[at++] = i;
    kept = at;
    for (int i = 0; i < x->rank; i++)
        if (reduced(n) >> i & 1) perm[at++] = i;
    for (int i = 0; i < x->rank; i++) back[perm[i]] = i;
    Expr *dim[MAX_RANK + 1], *all = expr_int(c, 1);
    Value *t = build_transpose(g, x, perm);
    for (int i = 0; i < kept; i++) dim[i] = t->dim[i];
    for (int i = kept; i < x->rank; i++) all = expr_mul(c, all, t->dim[i]);
    dim[kept] = all;
    Value *flat = build_reshape(g, t, kept + 1, dim);
    Value *others = make(g, "mul", running(g, "cumprod", flat, kept, true, false),
                         running(g, "cumprod", flat, kept, true, true));
    others = build_transpose(g, build_reshape(g, others, x->rank, t->dim), back);
    grad_add(G, x, make(g, "mul", spread(g, n, dy[0]), others));
}

/* ---- where the extreme is ---- */

static void arg_shape(Node *n) {
    const Value *x = n->in[0];
    Expr *dim[MAX_RANK];
    int rank = 0, axis = node_axis(n, attr_int(n, "axis"), x->rank);
    bool keep = attr_int(n, "keepdims") != 0;
    if (!x->rank) { node_error(n, 301, NULL, "a scalar has no axis to look along"); return; }
    for (int i = 0; i < x->rank; i++) {
        if (i != axis) dim[rank++] = x->dim[i];
        else if (keep) dim[rank++] = expr_int(n->graph->c, 1);
    }
    node_out(n, 0, I64, rank, dim);
}

/* The first (last) extreme element; the first (last) NaN before all numbers, as numpy has it. */
static void arg_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    Walk *w = arg;
    Ctx *c = L->c;
    bool last = attr_int(w->n, "select_last_index") != 0;
    Expr *x = walk_load(L, arg, k), *best = acc[0];
    Expr *better = expr2(c, last ? E_LE : E_LT, w->op == E_MAX ? best : x, w->op == E_MAX ? x : best);
    if (dt_float((DType)x->type.dt)) {
        Expr *nan = expr_op(c, E_ISNAN, x->type, 1, &x), *already = expr_op(c, E_ISNAN, x->type, 1, &best);
        better = expr2(c, E_OR, better, last ? nan : expr2(c, E_AND, nan, expr1(c, E_NOT, already)));
    }
    next[0] = expr_select(c, better, x, best);
    next[1] = expr_select(c, better, k[0], acc[1]);
}

static Expr *arg_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *x = n->in[0];
    int64_t axis = attr_int(n, "axis");
    if (axis < 0) axis += x->rank;
    bool most = !strcmp(n->op->name, "argmax"), keep = attr_int(n, "keepdims") != 0;
    Walk w = {.n = n, .op = most ? E_MAX : E_MIN, .nloops = 1, .axis = {(int)axis}};
    Accum a = {.nloops = 1, .nacc = 2, .step = arg_step, .arg = &w, .trip = {x->dim[axis]},
               .init = {extreme(c, wide(x->dt), !most), expr_int(c, 0)}};
    for (int i = 0, o = 0; i < x->rank; i++) {
        if (i != axis) w.at[i] = idx[o++];
        else o += keep;
    }
    Expr *r[2];
    lower_accum(L, &a, n->out[0]->rank, idx, r);
    return r[1];
}

/* ---- running sums and products ---- */

static void running_shape(Node *n) {
    node_axis(n, attr_int(n, "axis"), n->in[0]->rank);
    if (!n->in[0]->rank) node_error(n, 301, NULL, "a scalar has no axis to run along");
    else node_out(n, 0, n->in[0]->dt, n->in[0]->rank, n->in[0]->dim);
}

static void running_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    const Value *x = n->in[0];
    Buf *y = lower_buf(L, n->out[0]);
    int64_t axis = attr_int(n, "axis");
    if (axis < 0) axis += x->rank;
    bool exclusive = attr_int(n, "exclusive") != 0, sum = !strcmp(n->op->name, "cumsum");
    Expr *at[MAX_RANK], *one = expr_int(c, 1);
    for (int i = 0; i < x->rank; i++)
        if (i != axis) at[i] = lower_open(L, "i", x->dim[i], true);
    Buf *acc = lower_reg(L, wide(x->dt), "acc");
    lower_store(L, acc, NULL, neutral(c, sum ? E_ADD : E_MUL, wide(x->dt)));
    Expr *k = lower_open(L, "k", x->dim[axis], false);
    at[axis] = attr_int(n, "reverse") ? expr_sub(c, expr_sub(c, x->dim[axis], one), k) : k;
    Expr *before = lower_load(L, acc, NULL),
         *next = expr2(c, sum ? E_ADD : E_MUL, before, widen(c, lower_elem(L, n->in[0], at)));
    if (exclusive) lower_store(L, y, at, expr_cast(c, before, x->dt));
    lower_store(L, acc, NULL, next);
    if (!exclusive) lower_store(L, y, at, expr_cast(c, lower_load(L, acc, NULL), x->dt));
    lower_close(L, x->rank);
}

static int running_axis(const Node *n) {
    int64_t axis = attr_int(n, "axis");
    return (int)(axis < 0 ? axis + n->in[0]->rank : axis);
}

static void cumsum_grad(Grad *G, Node *n, Value *const *dy) {
    bool exclusive = attr_int(n, "exclusive") != 0, reverse = attr_int(n, "reverse") != 0;
    grad_add(G, n->in[0], running(G->g, "cumsum", dy[0], running_axis(n), exclusive, !reverse));
}

/* dx_i is the sum over the outputs that x_i is a factor of, of dy times the product of their other factors: of dy * y, over x_i.
   The first 0 on the way has the products in which 1 stands for it; a later one has none. */
static void cumprod_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Value *x = n->in[0], *zero = const_scalar(g, x->dt, 0), *one = const_scalar(g, x->dt, 1);
    int axis = running_axis(n);
    bool exclusive = attr_int(n, "exclusive") != 0, reverse = attr_int(n, "reverse") != 0;
    Value *none = make(g, "equal", x, zero), *seen = running(g, "cumsum", build_cast(g, none, I64), axis, false, reverse);
    Value *first = make(g, "and", none, make(g, "equal", seen, const_scalar(g, I64, 1)));
    Value *product = running(g, "cumprod", make(g, "where", first, one, x), axis, exclusive, reverse);
    Value *sum = running(g, "cumsum", make(g, "mul", dy[0], n->out[0]), axis, exclusive, !reverse);
    Value *of_first = running(g, "cumsum", make(g, "mul", dy[0], product), axis, exclusive, !reverse);
    Value *other = make(g, "where", none, zero, make(g, "div", sum, make(g, "where", none, one, x)));
    grad_add(G, x, make(g, "where", first, of_first, other));
}

/* ---- ONNX ---- */

/* Which axes: numbers, or (known false) a set that only the data knows. out: axes of the result. */
typedef struct Reduce {
    Import *n;
    bool keep, known;
    int count, out;
    int64_t axes[MAX_RANK];
    Expr *in[MAX_RANK];
} Reduce;

/* All axes when none are given, unless noop_with_empty_axes. */
static bool import_axes(Import *n, const Value *x, Reduce *r) {
    Ctx *c = n->g->c;
    Expr **list;
    int errors = gd_error_count(c), given = import_list(n, "axes", 1, &list);
    bool none = import_int(n, "noop_with_empty_axes", 0) != 0;
    *r = (Reduce){.n = n, .keep = import_int(n, "keepdims", 1) != 0, .known = true};
    if (gd_error_count(c) > errors || !import_axis_set(n, given, list, x->rank, r->in)) return false;
    for (int i = 0; i < x->rank; i++) {
        if (given <= 0) r->in[i] = expr_bool(c, !none);
        r->known = r->known && is_const(r->in[i]);
    }
    for (int i = 0; i < x->rank && r->known; i++)
        if (r->in[i]->bits) r->axes[r->count++] = i;
    if (!r->known) r->count = given;
    r->out = r->keep ? x->rank : x->rank - r->count;
    return true;
}

static Value *take_kept(const Reduce *r, const char *op, Value *x) {
    Ctx *c = r->n->g->c;
    if (r->known) return build_reduce(r->n->g, op, x, r->count, r->axes, true);
    Expr *mask[MAX_RANK];
    for (int i = 0; i < x->rank; i++) mask[i] = expr_select(c, r->in[i], expr_int(c, 1), expr_int(c, 0));
    Node *n = node_begin(r->n->g, op);
    node_input(n, x);
    node_ints(n, "axes", 0, NULL);
    node_dims(n, "mask", x->rank, mask);
    return node_finish(n);
}

static Value *take(const Reduce *r, const char *op, Value *x) {
    Expr *dim[MAX_RANK];
    if (x->rank < 0) return x;
    if (r->keep) return take_kept(r, op, x);
    if (r->known) return build_reduce(r->n->g, op, x, r->count, r->axes, false);
    dims_without(r->n->g->c, x->rank, r->in, x->dim, r->out, dim);
    return build_reshape(r->n->g, take_kept(r, op, x), r->out, dim);
}

/* log(sum(exp(x))), with the largest element taken out first; where that is infinite, it is the answer's own
   business. */
static Value *log_sum_exp(const Reduce *r, Value *x) {
    Graph *g = r->n->g;
    Value *m = take_kept(r, "reduce_max", x), *inf = const_scalar(g, x->dt, INFINITY);
    m = make(g, "detach",
             make(g, "where", make(g, "less", make(g, "abs", m), inf), m, const_scalar(g, x->dt, 0)));
    Value *sum = take(r, "reduce_sum", make(g, "exp", make(g, "sub", x, m)));
    return make(g, "add", make(g, "log", sum), build_reshape(g, m, sum->rank, sum->dim));
}

/* Of a sum of squares. A norm has a kink at 0: its gradient there is 0, as in PyTorch, and not infinity times 0. */
static Value *root(Graph *g, Value *v) {
    Map *values = map_new(g->c);
    map_puts(values, "v", v);
    return graph_text(g, "v == 0 ? 0 : sqrt(v == 0 ? 1 : v)", values, NULL);
}

static Value *square(Graph *g, Value *x) { return make(g, "mul", x, x); }

static Value *mean(const Reduce *r, Value *x) {
    Graph *g = r->n->g;
    Expr *count = expr_int(g->c, 1), *one = count;
    for (int i = 0; i < x->rank; i++)
        count = expr_mul(g->c, count, expr_select(g->c, r->in[i], x->dim[i], one));
    return make(g, "div", take(r, "reduce_sum", x), build_scalar(g, x->dt, count));
}

static Value *extreme_of(const Reduce *r, const char *op, Value *x) {
    if (x->dt != BOOL) return take(r, op, x);
    return build_cast(r->n->g, take(r, op, build_cast(r->n->g, x, U8)), BOOL);
}

static void import_reduce(Import *n) {
    Graph *g = n->g;
    Reduce r;
    if (!import_need(n, 1, 2) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    const char *op = n->op + strlen("Reduce");
    if (!import_axes(n, x, &r)) return;
    if (!strcmp(op, "Sum")) n->out[0] = take(&r, "reduce_sum", x);
    else if (!strcmp(op, "Prod")) n->out[0] = take(&r, "reduce_prod", x);
    else if (!strcmp(op, "Max")) n->out[0] = extreme_of(&r, "reduce_max", x);
    else if (!strcmp(op, "Min")) n->out[0] = extreme_of(&r, "reduce_min", x);
    else if (!strcmp(op, "Mean")) n->out[0] = mean(&r, x);
    else if (!strcmp(op, "L1")) n->out[0] = take(&r, "reduce_sum", make(g, "abs", x));
    else if (!strcmp(op, "L2")) n->out[0] = root(g, take(&r, "reduce_sum", square(g, x)));
    else if (!strcmp(op, "LogSum")) n->out[0] = make(g, "log", take(&r, "reduce_sum", x));
    else if (!strcmp(op, "LogSumExp")) n->out[0] = log_sum_exp(&r, x);
    else n->out[0] = take(&r, "reduce_sum", square(g, x));
}

static void import_arg(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    int axis = import_axis(n, import_int(n, "axis", 0), n->in[0]->rank);
    if (axis < 0) return;
    Node *m = node_begin(n->g, !strcmp(n->op, "ArgMax") ? "argmax" : "argmin");
    node_input(m, n->in[0]);
    node_int(m, "axis", axis);
    node_int(m, "keepdims", import_int(n, "keepdims", 1));
    node_int(m, "select_last_index", import_int(n, "select_last_index", 0));
    n->out[0] = node_finish(m);
}

/* An axis that only the data knows is the middle one of three: all before it, it, all behind it. */
static Value *running_along(Import *n, const char *op, Value *x, Expr *axis, bool exclusive, bool reverse) {
    Ctx *c = n->g->c;
    Expr *dim[3], *one = expr_int(c, 1);
    for (int part = 0; part < 3; part++) dim[part] = one;
    axis =
        expr_select(c, expr2(c, E_LT, axis, expr_int(c, 0)), expr_add(c, axis, expr_int(c, x->rank)), axis);
    for (int i = 0; i < x->rank; i++) {
        Expr *k = expr_int(c, i), *before = expr2(c, E_LT, k, axis), *same = expr2(c, E_EQ, k, axis);
        dim[0] = expr_mul(c, dim[0], expr_select(c, before, x->dim[i], one));
        dim[1] = expr_mul(c, dim[1], expr_select(c, same, x->dim[i], one));
        dim[2] = expr_mul(c, dim[2], expr_select(c, expr2(c, E_OR, before, same), one, x->dim[i]));
    }
    Value *y = running(n->g, op, build_reshape(n->g, x, 3, dim), 1, exclusive, reverse);
    return build_reshape(n->g, y, x->rank, x->dim);
}

static void import_running(Import *n) {
    Ctx *c = n->g->c;
    Expr **axis, *in[MAX_RANK];
    int64_t k;
    int errors = gd_error_count(c);
    if (!import_need(n, 2, 2) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    const char *op = !strcmp(n->op, "CumSum") ? "cumsum" : "cumprod";
    bool exclusive = import_int(n, "exclusive", 0) != 0, reverse = import_int(n, "reverse", 0) != 0;
    int count = import_list(n, NULL, 1, &axis);
    if (gd_error_count(c) > errors || !import_axis_set(n, count, axis, x->rank, in)) return;
    if (count != 1) import_error(n, 301, NULL, "%d axes instead of one", count);
    else if (is_int(axis[0], &k))
        n->out[0] = running(n->g, op, x, import_axis(n, k, x->rank), exclusive, reverse);
    else n->out[0] = running_along(n, op, x, axis[0], exclusive, reverse);
}

static bool reads_again(const Node *n, int i) { (void)n; return i == 0; }

/* ---- export ---- */

/* Axes that only the data knows are where the mask is not zero. */
static ExportRef *masked_axes(Export *x, const Node *n) {
    const Attr *mask = node_attr(n, "mask");
    ExportRef *m = export_dims(x, mask->n, mask->dims);
    return export_op(x, "Squeeze", I64, export_op(x, "NonZero", I64, m), export_list(x, 1, (int64_t[]){0}));
}

static void export_reduce(Export *x, Node *n) {
    static const struct { const char *name, *onnx; } ops[] = {
        {"reduce_sum", "ReduceSum"}, {"reduce_prod", "ReduceProd"}, {"reduce_max", "ReduceMax"}, {"reduce_min", "ReduceMin"}};
    const Attr *axes = node_attr(n, "axes");
    int i = 0;
    ExportRef *r = export_in(x, n, 0);
    while (i < 3 && strcmp(ops[i].name, n->op->name)) i++;
    if (!masked(n) && !axes->n) {
        export_out(x, n, 0, export_op(x, "Identity", r->dt, r));
        return;
    }
    ExportNode *e = export_node(x, ops[i].onnx);
    export_arg(x, e, r);
    export_arg(x, e, masked(n) ? masked_axes(x, n) : export_list(x, axes->n, axes->ints));
    export_int(x, e, "keepdims", masked(n) || attr_int(n, "keepdims"));
    if (masked(n)) export_int(x, e, "noop_with_empty_axes", 1);
    export_out(x, n, 0, export_result(x, e, r->dt));
}

static void export_arg_extreme(Export *x, Node *n) {
    ExportNode *e = export_node(x, strcmp(n->op->name, "argmax") ? "ArgMin" : "ArgMax");
    export_arg(x, e, export_in(x, n, 0));
    export_int(x, e, "axis", attr_int(n, "axis"));
    export_int(x, e, "keepdims", attr_int(n, "keepdims"));
    export_int(x, e, "select_last_index", attr_int(n, "select_last_index"));
    export_out(x, n, 0, export_result(x, e, I64));
}

static void export_running(Export *x, Node *n) {
    bool product = !strcmp(n->op->name, "cumprod");
    ExportNode *e = export_node(x, product ? "CumProd" : "CumSum");
    if (product) export_since(x, 26);
    export_arg(x, e, export_in(x, n, 0));
    export_arg(x, e, export_number(x, I64, (double)attr_int(n, "axis")));
    export_int(x, e, "exclusive", attr_int(n, "exclusive"));
    export_int(x, e, "reverse", attr_int(n, "reverse"));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

#define REDUCE                                                                                               \
    .kind = OP_REDUCE, .in = "x", .out = "y", .types = "num", .shape = reduce_shape, .elem = reduce_elem,    \
    .attrs = {{"axes", AT_INTS, 0, true}, {"keepdims", AT_INT, 1, false}, {"mask", AT_DIMS, 0, false}}
#define ARG                                                                                                  \
    .kind = OP_REDUCE, .flags = OF_NO_GRAD, .in = "x", .out = "i", .types = "num", .shape = arg_shape,       \
    .elem = arg_elem,                                                                                        \
    .attrs = {                                                                                               \
        {"axis", AT_INT, 0, true}, {"keepdims", AT_INT, 1, false}, {"select_last_index", AT_INT, 0, false}}
#define RUNNING                                                                                              \
    .kind = OP_SORT, .in = "x", .out = "y", .types = "num", .shape = running_shape, .lower = running_lower,  \
    .rereads = reads_again,                                                                                  \
    .attrs = {{"axis", AT_INT, 0, true}, {"exclusive", AT_INT, 0, false}, {"reverse", AT_INT, 0, false}}
#define ONNX(NAME) .kind = OP_BUILD, .onnx = "Reduce" NAME, .import = import_reduce

const Op gd_ops_reduce[] = {
    {.name = "reduce_sum", .export = export_reduce, REDUCE, .grad = sum_grad, .doc = "The sum over axes; 0 over no elements."},
    {.name = "reduce_prod", .export = export_reduce, REDUCE, .grad = prod_grad, .doc = "The product over axes; 1 over no elements."},
    {.name = "reduce_max", .export = export_reduce, REDUCE, .grad = extreme_grad,
     .doc = "The largest element over axes, NaN if there is one; minus infinity over no elements."},
    {.name = "reduce_min", .export = export_reduce, REDUCE, .grad = extreme_grad,
     .doc = "The smallest element over axes, NaN if there is one; infinity over no elements."},
    {.name = "argmax", .export = export_arg_extreme, ARG,
     .doc = "Where along the axis the first (or last) largest element is; a NaN counts as the largest."},
    {.name = "argmin", .export = export_arg_extreme, ARG,
     .doc = "Where along the axis the first (or last) smallest element is; a NaN counts as the smallest."},
    {.name = "cumsum", .export = export_running, RUNNING, .grad = cumsum_grad,
     .doc = "The sum of the elements up to each along an axis (exclusive: before it; reverse: from the "
            "end)."},
    {.name = "cumprod", .export = export_running, RUNNING, .grad = cumprod_grad,
     .doc = "The product of the elements up to each along an axis (exclusive: before it; reverse: from the "
            "end)."},
    {ONNX("Sum"), .doc = "Sum over axes."},
    {ONNX("Prod"), .doc = "Product over axes."},
    {ONNX("Max"), .doc = "Largest element over axes."},
    {ONNX("Min"), .doc = "Smallest element over axes."},
    {ONNX("Mean"), .doc = "Sum over axes, divided by the number of elements."},
    {ONNX("L1"), .doc = "Sum of absolute values over axes."},
    {ONNX("L2"), .doc = "Square root of the sum of squares over axes."},
    {ONNX("LogSum"), .doc = "Logarithm of the sum over axes."},
    {ONNX("LogSumExp"),
     .doc = "Logarithm of the sum of exponentials over axes, the largest element taken out first."},
    {ONNX("SumSquare"), .doc = "Sum of squares over axes."},
    {.kind = OP_BUILD, .onnx = "ArgMax", .import = import_arg,
     .doc = "Position of the largest element along an axis."},
    {.kind = OP_BUILD, .onnx = "ArgMin", .import = import_arg,
     .doc = "Position of the smallest element along an axis."},
    {.kind = OP_BUILD, .onnx = "CumSum", .settings = 2, .import = import_running, .doc = "Running sum along an axis."},
    {.kind = OP_BUILD, .onnx = "CumProd", .import = import_running, .doc = "Running product along an axis."},
};
const int gd_ops_reduce_n = sizeof gd_ops_reduce / sizeof *gd_ops_reduce;
