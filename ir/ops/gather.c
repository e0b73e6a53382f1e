/* Reading and writing where data says: gather and scatter in their three forms (along an axis, element by element, by
   tuples of positions), and ONNX's ops that are made of them.

   Invariant: no index leaves its tensor. A negative one counts from the end; one outside is moved to the nearest
   element when reading, and skipped when writing. Writers copy first and then write in the order of the indices, so
   what several updates of one element give is defined: the last one, or the sum, product or extreme in that order. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"
#include "scatter.h"

static bool all_inputs(const Node *n, int i) { (void)n; (void)i; return true; }

static bool integers(Node *n, int i) {
    if (dt_int(n->in[i]->dt)) return true;
    node_error(n, 302, "insert a Cast", "the indices are %s", gd_dtypes[n->in[i]->dt].name);
    return false;
}

static int axis_of(const Node *n) {
    int64_t axis = attr_int(n, "axis");
    return (int)(axis < 0 ? axis + n->in[0]->rank : axis);
}

/* An axis that there is: a scalar has none. */
static bool has_axis(Node *n) {
    const Value *x = n->in[0];
    int64_t axis = attr_int(n, "axis");
    if (axis >= -x->rank && axis < x->rank) return true;
    node_error(n, 204, NULL, "axis %lld is outside a tensor of %d axes", (long long)axis, x->rank);
    return false;
}

/* ---- positions ---- */

/* Element at of the indices, counted from the end where negative. */
static Expr *index_at(Lower *L, Value *i, Expr *const *at, Expr *dim) {
    Ctx *c = L->c;
    Expr *e = expr_cast(c, lower_elem(L, i, at), I64);
    return expr_select(c, expr2(c, E_LT, e, expr_int(c, 0)), expr_add(c, e, dim), e);
}

static Expr *clamped(Ctx *c, Expr *e, Expr *dim) {
    return expr2(c, E_MIN, expr2(c, E_MAX, e, expr_int(c, 0)), expr_sub(c, dim, expr_int(c, 1)));
}

static Expr *in_range(Ctx *c, Expr *e, Expr *dim) {
    return expr_and(c, expr2(c, E_LE, expr_int(c, 0), e), expr2(c, E_LT, e, dim));
}

/* x[at]; zero where an axis that is indexed has no elements at all. */
static Expr *read_at(Lower *L, Value *x, Expr *const *at, Expr *any) {
    return lower_guarded(L, any, x, at, expr_const(L->c, scalar(x->dt), 0));
}

static Expr *nonempty(Ctx *c, Expr *dim) { return expr2(c, E_LT, expr_int(c, 0), dim); }

static Value *zeros_like(Graph *g, const Value *x) {
    return build_broadcast(g, const_scalar(g, x->dt, 0), x->rank, x->dim);
}

/* ---- gather: y[a.., i.., b..] = x[a.., indices[i..], b..] ---- */

static void gather_shape(Node *n) {
    const Value *x = n->in[0], *i = n->in[1];
    Expr *dim[2 * MAX_RANK];
    int rank = 0;
    if (!has_axis(n) || !integers(n, 1)) return;
    int axis = axis_of(n);
    if (x->rank + i->rank - 1 > MAX_RANK) {
        node_error(n, 504, NULL, "the output would have %d axes", x->rank + i->rank - 1);
        return;
    }
    for (int k = 0; k < axis; k++) dim[rank++] = x->dim[k];
    for (int k = 0; k < i->rank; k++) dim[rank++] = i->dim[k];
    for (int k = axis + 1; k < x->rank; k++) dim[rank++] = x->dim[k];
    node_out(n, 0, x->dt, rank, dim);
}

static Expr *gather_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Value *x = n->in[0], *i = n->in[1];
    int axis = axis_of(n);
    Expr *at[MAX_RANK];
    for (int k = 0; k < x->rank; k++)
        if (k != axis) at[k] = idx[k < axis ? k : k - 1 + i->rank];
    at[axis] = clamped(L->c, index_at(L, i, idx + axis, x->dim[axis]), x->dim[axis]);
    return read_at(L, x, at, nonempty(L->c, x->dim[axis]));
}

static Value *scatter_into(Graph *g, Value *x, Value *i, Value *u, int axis, const char *reduction) {
    Node *n = node_begin(g, "scatter_elements");
    node_input(n, x);
    node_input(n, i);
    node_input(n, u);
    node_int(n, "axis", axis);
    node_string(n, "reduction", reduction);
    return node_finish(n);
}

/* The indices flat, along the axis alone: each row of dy is added to the row it came from. */
static void gather_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Ctx *c = g->c;
    Value *x = n->in[0], *i = n->in[1];
    int axis = axis_of(n);
    Expr *flat[MAX_RANK], *rows[MAX_RANK], *count = value_count(c, i);
    for (int k = 0; k < x->rank; k++) {
        flat[k] = k == axis ? count : expr_int(c, 1);
        rows[k] = k == axis ? count : x->dim[k];
    }
    Value *d = build_reshape(g, dy[0], x->rank, rows);
    grad_add(G, x, scatter_into(g, zeros_like(g, x), build_reshape(g, i, x->rank, flat), d, axis, "add"));
}

/* ---- gather_elements: y[a, j, b] = x[a, indices[a, j, b], b] ---- */

static void gather_elements_shape(Node *n) {
    const Value *x = n->in[0], *i = n->in[1];
    if (!has_axis(n) || !integers(n, 1)) return;
    if (i->rank != x->rank) {
        node_error(n, 301, NULL, "the indices have %d axes, the tensor %d", i->rank, x->rank);
        return;
    }
    for (int k = 0; k < x->rank; k++)
        if (k != axis_of(n))
            node_require(n, expr2(n->graph->c, E_LE, i->dim[k], x->dim[k]), "there are more indices than elements along an axis");
    node_out(n, 0, x->dt, i->rank, i->dim);
}

static Expr *gather_elements_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Value *x = n->in[0];
    int axis = axis_of(n);
    Expr *at[MAX_RANK];
    for (int k = 0; k < x->rank; k++) at[k] = idx[k];
    at[axis] = clamped(L->c, index_at(L, n->in[1], idx, x->dim[axis]), x->dim[axis]);
    return read_at(L, x, at, nonempty(L->c, x->dim[axis]));
}

static void gather_elements_grad(Grad *G, Node *n, Value *const *dy) {
    grad_add(G, n->in[0], scatter_into(G->g, zeros_like(G->g, n->in[0]), n->in[1], dy[0], axis_of(n), "add"));
}

/* ---- gather_nd: y[b.., i.., r..] = x[b.., indices[b.., i..] as a tuple, r..] ---- */

/* Axes of a node with tuples of positions: batch of them lead, then the indices' own, and a tuple has width entries. */
typedef struct Tuples { int batch, own, width; } Tuples;

/* The updates' rank tells the width too, so that a scatter need not know it from the indices. */
static bool tuples(Node *n, Tuples *t) {
    const Value *x = n->in[0], *i = n->in[1];
    int64_t width, batch = attr_int(n, "batch_dims");
    if (!integers(n, 1)) return false;
    if (n->nin > 2) width = i->rank - 1 + x->rank - n->in[2]->rank - batch;
    else if (i->rank < 1 || !is_int(i->dim[i->rank - 1], &width)) {
        node_error(n, 402, NULL, "how many positions an index has must be known when compiling");
        return false;
    }
    if (batch < 0 || batch >= i->rank || batch > x->rank || width < 0 || width > x->rank - batch) {
        node_error(n, 301, NULL, "%lld batch axes and tuples of %lld positions do not fit a tensor of %d axes",
                   (long long)batch, (long long)width, x->rank);
        return false;
    }
    *t = (Tuples){(int)batch, i->rank - 1 - (int)batch, (int)width};
    return true;
}

/* The dims of what the tuples name. */
static int tuple_dims(const Node *n, const Tuples *t, Expr **dim) {
    const Value *x = n->in[0], *i = n->in[1];
    int rank = 0;
    for (int k = 0; k < t->batch + t->own && rank < MAX_RANK; k++) dim[rank++] = i->dim[k];
    for (int k = t->batch + t->width; k < x->rank && rank < MAX_RANK; k++) dim[rank++] = x->dim[k];
    return rank;
}

/* Where element idx of y (or of the updates) lies in x; not yet in range. */
static void tuple_at(Lower *L, const Node *n, const Tuples *t, Expr *const *idx, Expr **at) {
    const Value *x = n->in[0];
    int lead = t->batch + t->own;
    Expr *from[MAX_RANK];
    for (int k = 0; k < t->batch; k++) at[k] = idx[k];
    for (int k = 0; k < lead; k++) from[k] = idx[k];
    for (int k = 0; k < t->width; k++) {
        from[lead] = expr_int(L->c, k);
        at[t->batch + k] = index_at(L, n->in[1], from, x->dim[t->batch + k]);
    }
    for (int k = t->batch + t->width; k < x->rank; k++) at[k] = idx[lead + k - t->batch - t->width];
}

static void batch_same(Node *n, const Tuples *t) {
    for (int k = 0; k < t->batch; k++) node_same_dim(n, n->in[0]->dim[k], n->in[1]->dim[k], "the batch axes of tensor and indices differ");
}

static void gather_nd_shape(Node *n) {
    Tuples t;
    Expr *dim[MAX_RANK];
    if (!tuples(n, &t)) return;
    if (t.batch + t.own + n->in[0]->rank - t.batch - t.width > MAX_RANK) {
        node_error(n, 504, NULL, "the output would have more than %d axes", MAX_RANK);
        return;
    }
    batch_same(n, &t);
    node_out(n, 0, n->in[0]->dt, tuple_dims(n, &t, dim), dim);
}

static Expr *gather_nd_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    Value *x = n->in[0];
    Tuples t;
    Expr *at[MAX_RANK], *any = expr_bool(c, true);
    tuples(n, &t);
    tuple_at(L, n, &t, idx, at);
    for (int k = t.batch; k < t.batch + t.width; k++) {
        at[k] = clamped(c, at[k], x->dim[k]);
        any = expr_and(c, any, nonempty(c, x->dim[k]));
    }
    return read_at(L, x, at, any);
}

static Value *tuple_node(Graph *g, const char *op, Value *x, Value *i, Value *u, int64_t batch, const char *reduction) {
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_input(n, i);
    if (u) node_input(n, u);
    node_int(n, "batch_dims", batch);
    if (u) node_string(n, "reduction", reduction);
    return node_finish(n);
}

static void gather_nd_grad(Grad *G, Node *n, Value *const *dy) {
    Value *zeros = zeros_like(G->g, n->in[0]);
    grad_add(G, n->in[0], tuple_node(G->g, "scatter_nd", zeros, n->in[1], dy[0], attr_int(n, "batch_dims"), "add"));
}

/* ---- scatter ---- */

bool scatter_combination(const Node *n, ExprKind *op) {
    static const struct { const char *name; ExprKind op; } words[] = {
        {"none", E_SELECT}, {"add", E_ADD}, {"mul", E_MUL}, {"max", E_MAX}, {"min", E_MIN}};
    const char *s = attr_string(n, "reduction");
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!s || !strcmp(s, words[i].name)) {
            *op = words[i].op;
            return true;
        }
    return false;
}

static bool scatter_fits(Node *n) {
    const Value *x = n->in[0], *u = n->in[2];
    ExprKind op;
    if (!scatter_combination(n, &op)) {
        node_error(n, 204, "none, add, mul, min or max", "attribute reduction: \"%s\"",
                   gd_escape(n->graph->c, attr_string(n, "reduction"), strlen(attr_string(n, "reduction"))));
        return false;
    }
    if (x->dt != u->dt) {
        node_error(n, 302, "insert a Cast", "the tensor is %s, the updates are %s", gd_dtypes[x->dt].name, gd_dtypes[u->dt].name);
        return false;
    }
    return integers(n, 1);
}

static void copy_input(Lower *L, Node *n) {
    Value *x = n->in[0];
    Buf *y = lower_buf(L, n->out[0]);
    Expr *at[MAX_RANK];
    for (int k = 0; k < x->rank; k++) at[k] = lower_open(L, "i", x->dim[k], true);
    lower_store(L, y, at, lower_elem(L, x, at));
    lower_close(L, x->rank);
}

/* y[at] = y[at] op u; small floats are combined as f32. */
static void update(Lower *L, Node *n, Expr *const *at, Expr *u) {
    Ctx *c = L->c;
    ExprKind op = E_SELECT;
    Buf *y = lower_buf(L, n->out[0]);
    DType dt = n->out[0]->dt, wide = dt_small(dt) ? F32 : dt;
    scatter_combination(n, &op);
    if (op == E_SELECT) { lower_store(L, y, at, u); return; }
    if (dt == BOOL) op = op == E_ADD || op == E_MAX ? E_OR : E_AND;
    Expr *sum = expr2(c, op, expr_cast(c, lower_load(L, y, at), wide), expr_cast(c, u, wide));
    lower_store(L, y, at, expr_cast(c, sum, dt));
}

/* Indices of size 1 along an axis serve all updates along it. */
static void scatter_elements_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0], *i = n->in[1], *u = n->in[2];
    if (!has_axis(n) || !scatter_fits(n)) return;
    if (i->rank != x->rank || u->rank != x->rank) {
        node_error(n, 301, NULL, "tensor, indices and updates have %d, %d and %d axes", x->rank, i->rank, u->rank);
        return;
    }
    for (int k = 0; k < x->rank; k++) {
        if (!is_value(i->dim[k], 1)) node_same_dim(n, i->dim[k], u->dim[k], "indices and updates have different shapes");
        if (k != axis_of(n)) node_require(n, expr2(c, E_LE, u->dim[k], x->dim[k]), "there are more updates than elements along an axis");
    }
    node_out(n, 0, x->dt, x->rank, x->dim);
}

static void scatter_elements_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *x = n->in[0], *i = n->in[1], *u = n->in[2];
    int axis = axis_of(n), last = axis; /* the last axis that the position depends on */
    Expr *from[MAX_RANK], *k[MAX_RANK], *at[MAX_RANK];
    copy_input(L, n);
    for (int a = axis; a < x->rank; a++)
        if (!is_value(i->dim[a], 1)) last = a;
    for (int a = 0; a < x->rank; a++) {
        at[a] = k[a] = lower_open(L, "i", u->dim[a], a > last);
        from[a] = is_value(i->dim[a], 1) ? expr_int(c, 0) : k[a];
        if (a != last) continue;
        for (int b = a + 1; b < x->rank; b++) from[b] = expr_int(c, 0);
        at[axis] = lower_let(L, "at", index_at(L, i, from, x->dim[axis]));
        lower_open_if(L, in_range(c, at[axis], x->dim[axis]));
    }
    update(L, n, at, lower_elem(L, u, k));
    lower_close(L, x->rank + 1);
}

static void scatter_nd_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0], *u = n->in[2];
    Tuples t;
    Expr *dim[MAX_RANK];
    if (!scatter_fits(n) || !tuples(n, &t)) return;
    batch_same(n, &t);
    node_same_dim(n, n->in[1]->dim[n->in[1]->rank - 1], expr_int(c, t.width), "the updates do not have the rank that the indices ask for");
    int rank = tuple_dims(n, &t, dim);
    for (int k = 0; k < rank; k++)
        node_same_dim(n, u->dim[k], dim[k], gd_format(c, "axis %d of the updates does not fit indices and tensor", k));
    node_out(n, 0, x->dt, x->rank, x->dim);
}

static void scatter_nd_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *x = n->in[0], *u = n->in[2];
    Tuples t;
    Expr *k[MAX_RANK], *at[MAX_RANK], *inside = expr_bool(c, true);
    copy_input(L, n);
    tuples(n, &t);
    int lead = t.batch + t.own;
    for (int a = 0; a < lead; a++) k[a] = lower_open(L, "i", u->dim[a], false);
    for (int a = lead; a < u->rank; a++) k[a] = NULL;
    tuple_at(L, n, &t, k, at);
    for (int a = t.batch; a < t.batch + t.width; a++) {
        at[a] = lower_let(L, "at", at[a]);
        inside = expr_and(c, inside, in_range(c, at[a], x->dim[a]));
    }
    lower_open_if(L, inside);
    for (int a = lead; a < u->rank; a++) {
        k[a] = lower_open(L, "j", u->dim[a], true);
        at[a - lead + t.batch + t.width] = k[a];
    }
    update(L, n, at, lower_elem(L, u, k));
    lower_close(L, u->rank + 1);
}

/* ---- rows that data moves as a whole: TensorScatter, ReverseSequence ---- */

static void cache_shape(Node *n) {
    const Value *x = n->in[0], *u = n->in[1], *w = n->nin > 2 ? n->in[2] : NULL;
    if (!has_axis(n)) return;
    if (u->rank != x->rank || u->dt != x->dt || (w && (w->rank != 1 || !dt_int(w->dt))) || !axis_of(n)) {
        node_error(n, 301, NULL, "update and positions do not fit the tensor");
        return;
    }
    for (int k = 0; k < x->rank; k++)
        if (k != axis_of(n)) node_same_dim(n, x->dim[k], u->dim[k], "the update has another size along an axis");
        else node_require(n, expr2(n->graph->c, E_LE, u->dim[k], x->dim[k]), "the update is longer than the tensor");
    if (w) node_same_dim(n, w->dim[0], x->dim[0], "there is not one position for each of the batch");
    node_out(n, 0, x->dt, x->rank, x->dim);
}

/* Is element idx one of the update's, which begins at the position of its batch? */
static Expr *cache_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    Value *x = n->in[0], *u = n->in[1];
    int axis = axis_of(n);
    bool positions = n->nin > 2 && n->in[2];
    Expr *at[MAX_RANK], *first = positions ? expr_cast(c, lower_elem(L, n->in[2], idx), I64) : expr_int(c, 0);
    for (int k = 0; k < x->rank; k++) at[k] = idx[k];
    at[axis] = expr_sub(c, idx[axis], first);
    if (attr_int(n, "circular")) at[axis] = expr_fmod(c, at[axis], x->dim[axis]);
    return lower_guarded(L, in_range(c, at[axis], u->dim[axis]), u, at, lower_elem(L, x, idx));
}

/* x passes on what was not written over; the update gets what lies where it went. */
static void cache_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Value *x = n->in[0], *u = n->in[1], *first = n->nin > 2 ? n->in[2] : NULL;
    int axis = axis_of(n);
    Node *dx = node_begin(g, "cache_update");
    node_input(dx, dy[0]);
    node_input(dx, zeros_like(g, u));
    if (first) node_input(dx, first);
    node_int(dx, "axis", axis);
    node_int(dx, "circular", attr_int(n, "circular"));
    grad_add(G, x, node_finish(dx));
    Value *at = build_iota(g, I64, u->rank, u->dim, axis);
    if (first) {
        Expr *dim[MAX_RANK];
        for (int k = 0; k < u->rank; k++) dim[k] = k ? expr_int(g->c, 1) : u->dim[0];
        at = make(g, "add", at, build_reshape(g, build_cast(g, first, I64), u->rank, dim));
    }
    if (attr_int(n, "circular")) at = make(g, "mod", at, build_scalar(g, I64, x->dim[axis]));
    Node *du = node_begin(g, "gather_elements");
    node_input(du, dy[0]);
    node_input(du, at);
    node_int(du, "axis", axis);
    grad_add(G, u, node_finish(du));
}

static void import_tensor_scatter(Import *n) {
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0) return;
    const char *mode = import_string(n, "mode", "linear");
    bool circular = !strcmp(mode, "circular");
    if (!circular && strcmp(mode, "linear")) {
        import_error(n, 204, "linear or circular", "attribute mode: \"%s\"", gd_escape(n->g->c, mode, strlen(mode)));
        return;
    }
    Node *m = node_begin(n->g, "cache_update");
    for (int i = 0; i < n->nin; i++) node_input(m, n->in[i]);
    node_int(m, "axis", import_int(n, "axis", -2));
    node_int(m, "circular", circular);
    n->out[0] = node_finish(m);
}

static void reverse_shape(Node *n) {
    const Value *x = n->in[0], *len = n->in[1];
    int64_t batch = attr_int(n, "batch_axis"), time = attr_int(n, "time_axis");
    if (batch == time || batch < 0 || time < 0 || batch >= x->rank || time >= x->rank || len->rank != 1) {
        node_error(n, 204, NULL, "batch and time axes are %lld and %lld of %d, the lengths have %d axes", (long long)batch,
                   (long long)time, x->rank, len->rank);
        return;
    }
    if (!integers(n, 1)) return;
    node_same_dim(n, len->dim[0], x->dim[batch], "there is not one length for each of the batch");
    node_out(n, 0, x->dt, x->rank, x->dim);
}

static Expr *reverse_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    Value *x = n->in[0];
    int64_t batch = attr_int(n, "batch_axis"), time = attr_int(n, "time_axis");
    Expr *at[MAX_RANK], *t = idx[time], *len = expr_cast(c, lower_elem(L, n->in[1], idx + batch), I64);
    len = expr2(c, E_MIN, len, x->dim[time]);
    for (int k = 0; k < x->rank; k++) at[k] = idx[k];
    at[time] = expr_select(c, expr2(c, E_LT, t, len), expr_sub(c, expr_sub(c, len, expr_int(c, 1)), t), t);
    return lower_elem(L, x, at);
}

static void reverse_grad(Grad *G, Node *n, Value *const *dy) {
    Node *r = node_begin(G->g, "reverse_sequence");
    node_input(r, dy[0]);
    node_input(r, n->in[1]);
    node_int(r, "batch_axis", attr_int(n, "batch_axis"));
    node_int(r, "time_axis", attr_int(n, "time_axis"));
    grad_add(G, n->in[0], node_finish(r));
}

/* ---- nonzero: where, and from there Compress ---- */

static void nonzero_shape(Node *n) {
    Expr *dim[] = {expr_int(n->graph->c, n->in[0]->rank), node_attr(n, "count")->dim};
    node_out(n, 0, I64, 2, dim);
}

static void nonzero_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *x = n->in[0];
    Buf *y = lower_buf(L, n->out[0]), *found = lower_reg(L, I64, "found");
    Expr *at[MAX_RANK], *count = node_attr(n, "count")->dim;
    lower_store(L, found, NULL, expr_int(c, 0));
    for (int k = 0; k < x->rank; k++) at[k] = lower_open(L, "i", x->dim[k], false);
    Expr *to[] = {NULL, lower_let(L, "to", lower_load(L, found, NULL))};
    lower_open_if(L, expr_and(c, lower_elem(L, x, at), expr2(c, E_LT, to[1], count)));
    for (int k = 0; k < x->rank; k++) {
        to[0] = expr_int(c, k);
        lower_store(L, y, to, at[k]);
    }
    lower_store(L, found, NULL, expr_add(c, to[1], expr_int(c, 1)));
    lower_close(L, x->rank + 1);
}

/* Positions of true elements; how many there are is a symbol. */
static Value *positions(Graph *g, Value *truth, const char *name) {
    Ctx *c = g->c;
    int64_t axes[MAX_RANK];
    for (int i = 0; i < truth->rank; i++) axes[i] = i;
    Value *sum = build_reduce(g, "reduce_sum", build_cast(g, truth, I64), truth->rank, axes, false);
    Expr **count = value_read(g, sum, name, value_count(c, truth));
    Node *n = node_begin(g, "nonzero");
    node_input(n, truth);
    node_dim(n, "count", count[0]);
    return node_finish(n);
}

static void import_nonzero(Import *n) {
    if (import_need(n, 1, 1) && n->in[0]->rank >= 0) n->out[0] = positions(n->g, build_cast(n->g, n->in[0], BOOL), "nonzero");
}

static Value *gather_along(Graph *g, Value *x, Value *i, int axis) {
    Node *n = node_begin(g, "gather");
    node_input(n, x);
    node_input(n, i);
    node_int(n, "axis", axis);
    return node_finish(n);
}

static void import_compress(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 2) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *x = n->in[0], *keep = n->in[1];
    bool flat = !import_has(n, "axis");
    Expr *all = value_count(g->c, x);
    int axis = flat ? 0 : import_axis(n, import_int(n, "axis", 0), x->rank);
    if (axis < 0) return;
    if (keep->rank != 1 || keep->dt != BOOL) { import_error(n, 302, NULL, "the condition is %s", value_type_text(g->c, keep)); return; }
    if (flat) x = build_reshape(g, x, 1, &all);
    import_require(n, expr2(g->c, E_LE, keep->dim[0], x->dim[axis]), "the condition is longer than the axis");
    Value *at = positions(g, keep, "kept");
    n->out[0] = gather_along(g, x, build_squeeze(g, at, 0), axis);
}

/* ---- ONNX ---- */

static void import_scatter_nd(Import *n) {
    if (!import_need(n, 3, 3)) return;
    n->out[0] = tuple_node(n->g, "scatter_nd", n->in[0], n->in[1], n->in[2], 0, import_string(n, "reduction", "none"));
}

static void import_scatter_elements(Import *n) {
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0) return;
    int axis = import_axis(n, import_int(n, "axis", 0), n->in[0]->rank);
    if (axis >= 0) n->out[0] = scatter_into(n->g, n->in[0], n->in[1], n->in[2], axis, import_string(n, "reduction", "none"));
}

/* Columns of the last axis; a vector counts as one row. */
static void import_features(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, 2) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *x = n->in[0];
    Expr *count = value_count(g->c, n->in[1]);
    if (!x->rank) { import_error(n, 301, NULL, "a scalar has no features"); return; }
    if (x->rank == 1) x = build_unsqueeze(g, x, 0);
    n->out[0] = gather_along(g, x, build_reshape(g, n->in[1], 1, &count), x->rank - 1);
}

static int64_t entry(const int64_t *list, int count, int i, int64_t def) { return list && i < count ? list[i] : def; }

/* The elements go to their flat positions in the tensor that was pooled; a larger output has zeros behind it. */
static void import_max_unpool(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    const int64_t *kernel, *pads, *strides;
    Expr **want, *dim[MAX_RANK], *lo[MAX_RANK], *hi[MAX_RANK], *all = expr_int(c, 1), *zero = expr_int(c, 0);
    int errors = gd_error_count(c);
    if (!import_need(n, 2, 3) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *x = n->in[0];
    int nk = import_ints(n, "kernel_shape", &kernel), np = import_ints(n, "pads", &pads), ns = import_ints(n, "strides", &strides);
    int given = import_list(n, NULL, 2, &want), spatial = x->rank - 2;
    if (gd_error_count(c) > errors) return;
    if (spatial < 1 || nk != spatial || (pads && np != 2 * spatial) || (strides && ns != spatial) || (given >= 0 && given != x->rank)) {
        import_error(n, 204, NULL, "kernel_shape, pads, strides or output_shape do not fit a tensor of %d axes", x->rank);
        return;
    }
    for (int i = 0; i < x->rank; i++) {
        int k = i - 2;
        dim[i] = x->dim[i];
        if (k >= 0) {
            Expr *steps = expr_mul(c, expr_sub(c, x->dim[i], expr_int(c, 1)), expr_int(c, entry(strides, ns, k, 1)));
            int64_t edge = entry(pads, np, k, 0) + entry(pads, np, k + spatial, 0);
            dim[i] = expr_add(c, steps, expr_int(c, kernel[k] - edge));
        }
        all = expr_mul(c, all, dim[i]);
        lo[i] = zero;
        hi[i] = given >= 0 ? expr_sub(c, want[i], dim[i]) : zero;
    }
    Expr *count = value_count(c, x);
    Value *flat = build_broadcast(g, const_scalar(g, x->dt, 0), 1, &all);
    flat = scatter_into(g, flat, build_reshape(g, n->in[1], 1, &count), build_reshape(g, x, 1, &count), 0, "none");
    n->out[0] = build_pad(g, build_reshape(g, flat, x->rank, dim), lo, hi, NULL, NULL);
}

#define BUILD .kind = OP_BUILD, .onnx
/* ---- export ---- */

/* ONNX's indices are i32 or i64. */
static ExportRef *indices(Export *x, const Node *n) {
    ExportRef *i = export_in(x, n, 1);
    return i->dt == I32 || i->dt == I64 ? i : export_cast(x, i, I64);
}

static void export_reader(Export *x, Node *n) {
    ExportNode *e = export_node(x, n->op->onnx);
    bool nd = op_attr(n->op, "batch_dims") >= 0;
    export_arg(x, e, export_in(x, n, 0));
    export_arg(x, e, nd ? export_cast(x, export_in(x, n, 1), I64) : indices(x, n));
    export_int(x, e, nd ? "batch_dims" : "axis", attr_int(n, nd ? "batch_dims" : "axis"));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_writer(Export *x, Node *n) {
    const Value *i = n->in[1], *u = n->in[2];
    const char *how = attr_string(n, "reduction");
    bool nd = op_attr(n->op, "batch_dims") >= 0, repeated = false;
    if (nd && attr_int(n, "batch_dims")) {
        export_fail(x, n, NULL, "a scatter with batch axes");
        return;
    }
    ExportRef *at = nd ? export_cast(x, export_in(x, n, 1), I64) : indices(x, n);
    for (int k = 0; !nd && k < i->rank; k++) repeated |= i->dim[k] != u->dim[k];
    if (repeated) at = export_op(x, "Expand", at->dt, at, export_dims(x, u->rank, u->dim));
    ExportNode *e = export_node(x, n->op->onnx);
    export_arg(x, e, export_in(x, n, 0));
    export_arg(x, e, at);
    export_arg(x, e, export_in(x, n, 2));
    if (!nd) export_int(x, e, "axis", attr_int(n, "axis"));
    if (how && strcmp(how, "none")) export_string(x, e, "reduction", how);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_reverse_sequence(Export *x, Node *n) {
    ExportNode *e = export_node(x, "ReverseSequence");
    export_arg(x, e, export_in(x, n, 0));
    export_arg(x, e, export_cast(x, export_in(x, n, 1), I64));
    export_int(x, e, "batch_axis", attr_int(n, "batch_axis"));
    export_int(x, e, "time_axis", attr_int(n, "time_axis"));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_nonzero(Export *x, Node *n) {
    Expr *zero = expr_int(x->c, 0);
    ExportRef *all = export_op(x, "NonZero", I64, export_in(x, n, 0)), *one = export_list(x, 1, (int64_t[]){1});
    export_out(x, n, 0, export_op(x, "Slice", I64, all, export_dims(x, 1, &zero), export_dims(x, 1, &node_attr(n, "count")->dim), one));
}

static void export_cache_update(Export *x, Node *n) {
    ExportNode *e = export_node(x, "TensorScatter");
    export_since(x, 24);
    for (int i = 0; i < n->nin; i++) export_arg(x, e, i == 2 && n->in[2] ? export_cast(x, export_in(x, n, 2), I64) : export_in(x, n, i));
    export_int(x, e, "axis", attr_int(n, "axis"));
    export_string(x, e, "mode", attr_int(n, "circular") ? "circular" : "linear");
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

#define GATHER .kind = OP_GATHER, .in = "x i", .out = "y", .rereads = all_inputs
#define SCATTER .kind = OP_GATHER, .in = "x i u", .out = "y"

const Op gd_ops_gather[] = {
    {.name = "gather", .export = export_reader, GATHER, .attrs = {{"axis", AT_INT, 0, false}}, .onnx = "Gather", .shape = gather_shape, .elem = gather_elem,
     .grad = gather_grad, .doc = "Slices of x along an axis, at the indices."},
    {.name = "gather_elements", .export = export_reader, GATHER, .attrs = {{"axis", AT_INT, 0, false}}, .onnx = "GatherElements",
     .shape = gather_elements_shape, .elem = gather_elements_elem, .grad = gather_elements_grad,
     .doc = "For each index the element of x at that position along an axis, and at the index' own along the others."},
    {.name = "gather_nd", .export = export_reader, GATHER, .attrs = {{"batch_dims", AT_INT, 0, false}}, .onnx = "GatherND", .shape = gather_nd_shape,
     .elem = gather_nd_elem, .grad = gather_nd_grad,
     .doc = "Elements or slices of x at tuples of positions, which lie along the last axis of the indices."},
    {.name = "scatter_elements", .export = export_writer, SCATTER, .attrs = {{"axis", AT_INT, 0, false}, {"reduction", AT_STRING, 0, false}},
     .onnx = "ScatterElements", .import = import_scatter_elements, .shape = scatter_elements_shape,
     .lower = scatter_elements_lower, .grad = scatter_grad,
     .doc = "x with updates put (or combined) where gather_elements would read."},
    {.name = "scatter_nd", .export = export_writer, SCATTER, .attrs = {{"batch_dims", AT_INT, 0, false}, {"reduction", AT_STRING, 0, false}},
     .onnx = "ScatterND", .import = import_scatter_nd, .shape = scatter_nd_shape, .lower = scatter_nd_lower,
     .grad = scatter_grad, .doc = "x with updates put (or combined) where gather_nd would read."},
    {.name = "cache_update", .export = export_cache_update, .kind = OP_GATHER, .in = "x u at?", .out = "y",
     .attrs = {{"axis", AT_INT, -2, false}, {"circular", AT_INT, 0, false}}, .shape = cache_shape, .elem = cache_elem, .grad = cache_grad,
     .doc = "x with u written along an axis, from a position of each batch on; circular: past the end it goes on at the start."},
    {.name = "reverse_sequence", .export = export_reverse_sequence, .kind = OP_GATHER, .in = "x len", .out = "y",
     .attrs = {{"batch_axis", AT_INT, 1, false}, {"time_axis", AT_INT, 0, false}}, .onnx = "ReverseSequence",
     .shape = reverse_shape, .elem = reverse_elem, .grad = reverse_grad,
     .doc = "The first len elements along the time axis turned around, for each batch its own len."},
    {.name = "nonzero", .export = export_nonzero, .kind = OP_GATHER, .flags = OF_NO_GRAD, .in = "x", .out = "y", .types = "bool",
     .attrs = {{"count", AT_DIM, 0, true}}, .shape = nonzero_shape, .lower = nonzero_lower,
     .doc = "The positions of the first `count` true elements, one a column."},
    {BUILD = "Scatter", .import = import_scatter_elements, .doc = "scatter_elements."},
    {BUILD = "TensorScatter", .import = import_tensor_scatter, .doc = "cache_update."},
    {BUILD = "NonZero", .import = import_nonzero, .doc = "Positions of the elements that are not zero, one a column."},
    {BUILD = "Compress", .import = import_compress, .doc = "The slices along an axis for which a condition holds."},
    {BUILD = "ai.onnx.ml:ArrayFeatureExtractor", .import = import_features, .doc = "Columns of a matrix at the indices."},
    {BUILD = "MaxUnpool", .import = import_max_unpool, .doc = "The largest elements back where max pooling found them, zeros elsewhere."},
};
const int gd_ops_gather_n = sizeof gd_ops_gather / sizeof *gd_ops_gather;
