/* Views: an element of the output is one element of an input, or a constant. Each row is a map of indices, so
   a chain of them costs index arithmetic and no memory, and what the simplifier knows about sums and
   divisions takes most of that away again. ONNX's many data movers are built from these rows in arrange.c. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"

static Expr *product(Ctx *c, Expr *const *d, int from, int to) {
    Expr *p = expr_int(c, 1);
    for (int i = from; i < to; i++) p = expr_mul(c, p, d[i]);
    return p;
}

static bool rank_fits(Node *n, int rank) {
    if (rank > MAX_RANK)
        node_error(n, 504, NULL, "the output would have %d axes, at most %d are possible", rank, MAX_RANK);
    return rank <= MAX_RANK;
}

static const char *dims_text(Ctx *c, int n, Expr *const *dim) {
    Text *t = text_new(c);
    for (int i = 0; i < n; i++) text_printf(t, "%s%s", i ? "," : "", expr_text(c, dim[i]));
    return gd_format(c, "[%s]", t->s);
}

/* ---- reshape ---- */

/* Dims that stand on both sides cancel: what is left is easier to compare. 0 does not: it makes all the rest equal. */
static void reshape_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    const Attr *a = node_attr(n, "dims");
    Expr *from = expr_int(c, 1), *to = from;
    bool used[MAX_RANK] = {false};
    if (!rank_fits(n, a->n)) return;
    for (int i = 0; i < x->rank; i++) {
        int k = 0;
        while (k < a->n && (used[k] || a->dims[k] != x->dim[i])) k++;
        if (k < a->n && !is_value(x->dim[i], 0)) used[k] = true;
        else from = expr_mul(c, from, x->dim[i]);
    }
    for (int k = 0; k < a->n; k++)
        if (!used[k]) to = expr_mul(c, to, a->dims[k]);
    node_require(n, expr2(c, E_EQ, from, to),
                 gd_format(c, "%s cannot be reshaped to %s: the number of elements differs",
                           dims_text(c, x->rank, x->dim), dims_text(c, a->n, a->dims)));
    node_out(n, 0, x->dt, a->n, a->dims);
}

/* Axes o..o+b of the output hold the same elements as axes i..i+a of the input: through the flat position. */
static void map_group(Ctx *c, Expr *const *in, int a, Expr *const *out, int b, Expr *const *idx, Expr **at) {
    Expr *flat = expr_int(c, 0);
    for (int k = 0; k < b; k++) flat = expr_add(c, expr_mul(c, flat, out[k]), idx[k]);
    for (int k = a - 1; k > 0; k--) {
        at[k] = expr_fmod(c, flat, in[k]);
        flat = expr_fdiv(c, flat, in[k]);
    }
    if (a) at[0] = flat;
}

/* The smallest groups of axes with provably the same number of elements are mapped each by itself; then an
   axis that stays, or two that merge, need no division. What cannot be matched is one last group. */
static Expr *reshape_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *x = n->in[0], *y = n->out[0];
    Expr *at[MAX_RANK];
    for (int i = 0, o = 0; i < x->rank || o < y->rank;) {
        if (i < x->rank && is_value(x->dim[i], 1)) { at[i++] = expr_int(c, 0); continue; }
        if (o < y->rank && is_value(y->dim[o], 1)) { o++; continue; }
        int ni = x->rank - i, no = y->rank - o, a = ni, b = no;
        for (int sum = 2; sum < ni + no; sum++)
            for (int k = 1; k < sum; k++) {
                if (k > ni || sum - k > no) continue;
                if (product(c, x->dim, i, i + k) != product(c, y->dim, o, o + sum - k)) continue;
                a = k;
                b = sum - k;
                sum = ni + no;
                break;
            }
        map_group(c, x->dim + i, a, y->dim + o, b, idx + o, at + i);
        i += a;
        o += b;
    }
    return lower_elem(L, n->in[0], at);
}

static void reshape_grad(Grad *G, Node *n, Value *const *dy) {
    grad_add(G, n->in[0], build_reshape(G->g, dy[0], n->in[0]->rank, n->in[0]->dim));
}

/* ---- transpose, reverse, broadcast ---- */

static void transpose_shape(Node *n) {
    const Value *x = n->in[0];
    const Attr *perm = node_attr(n, "perm");
    Expr *dim[MAX_RANK];
    bool seen[MAX_RANK] = {false};
    for (int i = 0; i < perm->n; i++) {
        int64_t axis = perm->ints[i];
        if (perm->n != x->rank || axis < 0 || axis >= x->rank || seen[axis]) {
            node_error(n, 204, "every axis once", "attribute perm is not a permutation of %d axes", x->rank);
            return;
        }
        seen[axis] = true;
        dim[i] = x->dim[axis];
    }
    if (perm->n != x->rank)
        node_error(n, 204, "every axis once", "attribute perm has %d entries for %d axes", perm->n, x->rank);
    else node_out(n, 0, x->dt, x->rank, dim);
}

static Expr *transpose_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    const int64_t *perm = node_attr(n, "perm")->ints;
    Expr *at[MAX_RANK];
    for (int i = 0; i < n->in[0]->rank; i++) at[perm[i]] = idx[i];
    return lower_elem(L, n->in[0], at);
}

static void transpose_grad(Grad *G, Node *n, Value *const *dy) {
    int64_t back[MAX_RANK];
    const Attr *perm = node_attr(n, "perm");
    for (int i = 0; i < perm->n; i++) back[perm->ints[i]] = i;
    grad_add(G, n->in[0], build_transpose(G->g, dy[0], back));
}

static void reverse_shape(Node *n) {
    const Attr *axes = node_attr(n, "axes");
    for (int i = 0; i < axes->n; i++)
        if (axes->ints[i] < 0 || axes->ints[i] >= n->in[0]->rank) {
            node_error(n, 204, NULL, "axis %lld is outside a tensor of rank %d", (long long)axes->ints[i],
                       n->in[0]->rank);
            return;
        }
    node_out(n, 0, n->in[0]->dt, n->in[0]->rank, n->in[0]->dim);
}

static Expr *reverse_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    const Attr *axes = node_attr(n, "axes");
    Expr *at[MAX_RANK], *one = expr_int(L->c, 1);
    for (int i = 0; i < n->in[0]->rank; i++) at[i] = idx[i];
    for (int i = 0; i < axes->n; i++) {
        int64_t k = axes->ints[i];
        at[k] = expr_sub(L->c, expr_sub(L->c, n->in[0]->dim[k], one), idx[k]);
    }
    return lower_elem(L, n->in[0], at);
}

static void reverse_grad(Grad *G, Node *n, Value *const *dy) {
    const Attr *axes = node_attr(n, "axes");
    Node *r = node_begin(G->g, "reverse");
    node_input(r, dy[0]);
    node_ints(r, "axes", axes->n, axes->ints);
    grad_add(G, n->in[0], node_finish(r));
}

static void broadcast_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    const Attr *a = node_attr(n, "dims");
    if (!rank_fits(n, a->n)) return;
    if (a->n < x->rank) {
        node_error(n, 301, NULL, "a tensor of %d axes cannot be broadcast to %d", x->rank, a->n);
        return;
    }
    for (int i = 0; i < x->rank; i++) {
        Expr *d = x->dim[i], *to = a->dims[a->n - x->rank + i];
        if (is_value(d, 1)) continue;
        Expr *fits = expr2(c, E_EQ, d, to);
        if (!is_const(d)) fits = expr2(c, E_OR, fits, expr2(c, E_EQ, d, expr_int(c, 1)));
        node_require(n, fits,
                     gd_format(c, "%s cannot be broadcast to %s", dims_text(c, x->rank, x->dim),
                               dims_text(c, a->n, a->dims)));
    }
    node_out(n, 0, x->dt, a->n, a->dims);
}

static Expr *broadcast_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    return lower_broadcast(L, n->in[0], n->out[0]->rank, n->out[0]->dim, idx);
}

static void broadcast_grad(Grad *G, Node *n, Value *const *dy) {
    grad_add(G, n->in[0], grad_sum_to(G, dy[0], n->in[0]));
}

/* ---- slice ---- */

static void slice_shape(Node *n) {
    const Value *x = n->in[0];
    const Attr *size = node_attr(n, "size");
    if (size->n != x->rank || node_attr(n, "start")->n != x->rank || node_attr(n, "step")->n != x->rank)
        node_error(n, 301, NULL, "start, size and step do not have an entry for each of %d axes", x->rank);
    else node_out(n, 0, x->dt, x->rank, size->dims);
}

static Expr *slice_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    const Attr *start = node_attr(n, "start"), *step = node_attr(n, "step");
    Expr *at[MAX_RANK];
    for (int i = 0; i < n->in[0]->rank; i++)
        at[i] = expr_add(L->c, start->dims[i], expr_mul(L->c, idx[i], step->dims[i]));
    return lower_elem(L, n->in[0], at);
}

/* Elements from the first to the last when `gap` lie between neighbours. */
static Expr *span(Ctx *c, Expr *size, int64_t gap) {
    if (!gap) return size;
    Expr *s = expr_sub(c, expr_mul(c, size, expr_int(c, gap + 1)), expr_int(c, gap));
    return expr2(c, E_MAX, s, expr_int(c, 0));
}

/* d's elements along an axis at start, start + step, .. of size, zeros elsewhere, where only the run knows the step. */
static Value *spread_along(Graph *g, Value *d, int axis, Expr *start, Expr *step, Expr *size) {
    Ctx *c = g->c;
    Expr *dim[MAX_RANK], *line[MAX_RANK];
    for (int i = 0; i < d->rank; i++) {
        dim[i] = i == axis ? size : d->dim[i];
        line[i] = i == axis ? d->dim[i] : expr_int(c, 1);
    }
    Value *at = make(g, "mul", build_iota(g, I64, d->rank, line, axis), build_scalar(g, I64, step));
    Node *n = node_begin(g, "scatter_elements");
    node_input(n, build_broadcast(g, const_scalar(g, d->dt, 0), d->rank, dim));
    node_input(n, make(g, "add", at, build_scalar(g, I64, start)));
    node_input(n, d);
    node_int(n, "axis", axis);
    node_string(n, "reduction", "add");
    return node_finish(n);
}

/* Back to where they came from, zeros between and around; an axis read backwards is turned first. */
static void slice_grad(Grad *G, Node *n, Value *const *dy) {
    Ctx *c = G->g->c;
    const Value *x = n->in[0], *y = n->out[0];
    const Attr *start = node_attr(n, "start"), *step = node_attr(n, "step");
    Expr *lo[MAX_RANK], *hi[MAX_RANK];
    int64_t gap[MAX_RANK];
    bool open[MAX_RANK];
    Value *d = dy[0];
    for (int i = 0; i < x->rank; i++) {
        int64_t s = 1;
        open[i] = !is_int(step->dims[i], &s) || !s;
        if (open[i]) {
            lo[i] = hi[i] = expr_int(c, 0);
            gap[i] = 0;
            continue;
        }
        lo[i] = start->dims[i];
        if (s < 0) {
            lo[i] = expr_add(c, lo[i], expr_mul(c, expr_sub(c, y->dim[i], expr_int(c, 1)), expr_int(c, s)));
            d = build_reverse(G->g, d, i);
            s = -s;
        }
        gap[i] = s - 1;
        hi[i] = expr_sub(c, expr_sub(c, x->dim[i], lo[i]), span(c, y->dim[i], gap[i]));
    }
    d = build_pad(G->g, d, lo, hi, gap, NULL);
    for (int i = 0; i < x->rank && d->rank == x->rank; i++)
        if (open[i]) d = spread_along(G->g, d, i, start->dims[i], step->dims[i], x->dim[i]);
    grad_add(G, n->in[0], d);
}

/* ---- pad ---- */

static void pad_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    const Attr *lo = node_attr(n, "lo"), *hi = node_attr(n, "hi"), *interior = node_attr(n, "interior");
    Expr *dim[MAX_RANK];
    if (lo->n != x->rank || hi->n != x->rank || interior->n != x->rank) {
        node_error(n, 301, NULL, "lo, hi and interior do not have an entry for each of %d axes", x->rank);
        return;
    }
    if (n->nin > 1 && n->in[1] && (n->in[1]->dt != x->dt || n->in[1]->rank != 0)) {
        node_error(n, 302, NULL, "the value to pad with is not one %s", gd_dtypes[x->dt].name);
        return;
    }
    for (int i = 0; i < x->rank; i++) {
        if (interior->ints[i] < 0 || interior->ints[i] > INT32_MAX) {
            node_error(n, 204, NULL, "interior: %lld is negative or too large", (long long)interior->ints[i]);
            return;
        }
        dim[i] = expr_add(c, expr_add(c, lo->dims[i], hi->dims[i]), span(c, x->dim[i], interior->ints[i]));
        node_require(n, expr2(c, E_LE, expr_int(c, 0), dim[i]),
                     "more is cut off by negative padding than there is");
    }
    node_out(n, 0, x->dt, x->rank, dim);
}

static Expr *pad_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *x = n->in[0];
    const Attr *lo = node_attr(n, "lo"), *interior = node_attr(n, "interior");
    Expr *at[MAX_RANK], *inside = expr_bool(c, true), *zero = expr_int(c, 0);
    for (int i = 0; i < x->rank; i++) {
        Expr *p = expr_sub(c, idx[i], lo->dims[i]), *every = expr_int(c, interior->ints[i] + 1);
        inside = expr_and(c, inside, expr2(c, E_LE, zero, p));
        inside = expr_and(c, inside, expr2(c, E_LT, p, span(c, x->dim[i], interior->ints[i])));
        if (interior->ints[i]) inside = expr_and(c, inside, expr2(c, E_EQ, expr_fmod(c, p, every), zero));
        at[i] = expr_fdiv(c, p, every);
    }
    bool given = n->nin > 1 && n->in[1];
    Expr *outside = given ? lower_elem(L, n->in[1], NULL) : expr_const(c, scalar(x->dt), 0);
    return lower_guarded(L, inside, n->in[0], at, outside);
}

static bool pad_holds(const Node *n, int i, Expr **lo, Expr **step) {
    (void)step;
    Ctx *c = n->graph->c;
    const Attr *l = node_attr(n, "lo"), *h = node_attr(n, "hi"), *interior = node_attr(n, "interior");
    for (int k = 0; k < l->n; k++) {
        int64_t low, high, ignore;
        expr_range(c, l->dims[k], &low, &ignore);
        expr_range(c, h->dims[k], &high, &ignore);
        if (interior->ints[k] || low < 0 || high < 0) return false;
        lo[k] = l->dims[k];
    }
    return i == 0;
}

/* dx: the padding taken off (where it was negative: zeros put on), then the gaps. The value's: what is left
   of the sum. */
static void pad_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Ctx *c = g->c;
    const Value *x = n->in[0];
    const Attr *l = node_attr(n, "lo"), *h = node_attr(n, "hi"), *interior = node_attr(n, "interior");
    Expr *lo[MAX_RANK], *hi[MAX_RANK], *zero[MAX_RANK], *step[MAX_RANK];
    int64_t axes[MAX_RANK];
    for (int i = 0; i < x->rank; i++) {
        lo[i] = expr_sub(c, expr_int(c, 0), l->dims[i]);
        hi[i] = expr_sub(c, expr_int(c, 0), h->dims[i]);
        zero[i] = expr_int(c, 0);
        step[i] = expr_int(c, interior->ints[i] + 1);
        axes[i] = i;
    }
    Value *dx = build_slice(g, build_pad(g, dy[0], lo, hi, NULL, NULL), zero, x->dim, step);
    grad_add(G, n->in[0], dx);
    if (n->nin < 2 || !n->in[1] || !grad_wanted(G, n->in[1])) return;
    Value *all = build_reduce(g, "reduce_sum", dy[0], x->rank, axes, false);
    grad_add(G, n->in[1], make(g, "sub", all, build_reduce(g, "reduce_sum", dx, x->rank, axes, false)));
}

/* ---- extend: padding made of the tensor itself ---- */

enum { EXTEND_EDGE, EXTEND_REFLECT, EXTEND_WRAP };

static void extend_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    const Attr *lo = node_attr(n, "lo"), *hi = node_attr(n, "hi");
    Expr *dim[MAX_RANK], *zero = expr_int(c, 0);
    if (attr_int(n, "mode") < EXTEND_EDGE || attr_int(n, "mode") > EXTEND_WRAP) {
        node_error(n, 204, "0, 1 or 2", "mode: %lld", (long long)attr_int(n, "mode"));
        return;
    }
    if (lo->n != x->rank || hi->n != x->rank) {
        node_error(n, 301, NULL, "lo and hi do not have an entry for each of %d axes", x->rank);
        return;
    }
    for (int i = 0; i < x->rank; i++) {
        dim[i] = expr_add(c, expr_add(c, lo->dims[i], hi->dims[i]), x->dim[i]);
        if (dim[i] != x->dim[i])
            node_require(n, expr2(c, E_LT, zero, x->dim[i]),
                         "an axis without elements cannot be extended by its own elements");
    }
    node_out(n, 0, x->dt, x->rank, dim);
}

/* Position p, outside 0..d-1, as one inside. Where the padding is provably shorter than the axis, min and max
   do. */
static Expr *extend_at(Ctx *c, int64_t mode, Expr *p, Expr *d, Expr *lo, Expr *hi) {
    Expr *zero = expr_int(c, 0), *last = expr_sub(c, d, expr_int(c, 1));
    if (mode == EXTEND_EDGE) return expr2(c, E_MIN, expr2(c, E_MAX, p, zero), last);
    if (mode == EXTEND_WRAP) return expr_fmod(c, p, d);
    Expr *period = expr_mul(c, last, expr_int(c, 2));
    if (expr_less(c, lo, d) && expr_less(c, hi, d)) {
        Expr *up = expr2(c, E_MAX, p, expr_sub(c, zero, p));
        return expr2(c, E_MIN, up, expr_sub(c, period, up));
    }
    Expr *m = expr_fmod(c, p, period); /* of a single element: 0 mod 0 is 0 */
    return expr2(c, E_MIN, m, expr_sub(c, period, m));
}

static Expr *extend_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *x = n->in[0];
    const Attr *lo = node_attr(n, "lo"), *hi = node_attr(n, "hi");
    Expr *at[MAX_RANK];
    for (int i = 0; i < x->rank; i++) {
        Expr *p = expr_sub(c, idx[i], lo->dims[i]);
        bool plain = is_value(lo->dims[i], 0) && is_value(hi->dims[i], 0);
        at[i] = plain ? p : extend_at(c, attr_int(n, "mode"), p, x->dim[i], lo->dims[i], hi->dims[i]);
    }
    return lower_elem(L, n->in[0], at);
}

/* One axis: the middle, plus what its copies on either side got, put where they were copied from. */
static Value *extend_back(Graph *g, Node *n, Value *d, int axis, Expr *lo, Expr *hi) {
    Ctx *c = g->c;
    int64_t mode = attr_int(n, "mode"), ax = axis;
    Expr *size = n->in[0]->dim[axis], *zero = expr_int(c, 0), *one = expr_int(c, 1);
    Expr *room = mode == EXTEND_REFLECT ? expr_sub(c, size, one) : size;
    if (mode != EXTEND_EDGE)
        for (int side = 0; side < 2; side++)
            node_require(n, expr2(c, E_LE, side ? hi : lo, room),
                         "the gradient of padding longer than the axis");
    Value *sum = build_slice_axis(g, d, axis, lo, size);
    for (int side = 0; side < 2; side++) {
        Expr *count = side ? hi : lo, *l[MAX_RANK], *h[MAX_RANK];
        if (is_value(count, 0)) continue;
        Value *part = build_slice_axis(g, d, axis, side ? expr_add(c, lo, size) : zero, count);
        if (mode == EXTEND_EDGE) { part = build_reduce(g, "reduce_sum", part, 1, &ax, true); count = one; }
        if (mode == EXTEND_REFLECT) part = build_reverse(g, part, axis);
        Expr *rest = expr_sub(c, size, count), *shift = mode == EXTEND_REFLECT ? one : zero;
        for (int i = 0; i < part->rank; i++) l[i] = h[i] = zero;
        bool at_end = (side == 1) != (mode == EXTEND_WRAP);
        l[axis] = at_end ? expr_sub(c, rest, shift) : shift;
        h[axis] = at_end ? shift : expr_sub(c, rest, shift);
        sum = make(g, "add", sum, build_pad(g, part, l, h, NULL, NULL));
    }
    return sum;
}

static void extend_grad(Grad *G, Node *n, Value *const *dy) {
    const Attr *lo = node_attr(n, "lo"), *hi = node_attr(n, "hi");
    Value *d = dy[0];
    for (int i = 0; i < n->in[0]->rank; i++)
        if (!is_value(lo->dims[i], 0) || !is_value(hi->dims[i], 0))
            d = extend_back(G->g, n, d, i, lo->dims[i], hi->dims[i]);
    grad_add(G, n->in[0], d);
}

/* ---- copy ---- */

static void copy_shape(Node *n) { node_out(n, 0, n->in[0]->dt, n->in[0]->rank, n->in[0]->dim); }

static Expr *copy_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    return lower_elem(L, n->in[0], idx);
}

static void copy_grad(Grad *G, Node *n, Value *const *dy) { grad_add(G, n->in[0], dy[0]); }

static void export_copy(Export *x, Node *n) { export_out(x, n, 0, export_in(x, n, 0)); }

/* ---- concat ---- */

static void concat_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    int axis = node_axis(n, attr_int(n, "axis"), x->rank);
    Expr *dim[MAX_RANK];
    if (!x->rank) { node_error(n, 301, "unsqueeze them", "scalars cannot be joined"); return; }
    for (int k = 0; k < x->rank; k++) dim[k] = x->dim[k];
    for (int i = 1; i < n->nin; i++) {
        const Value *v = n->in[i];
        if (!v || v->dt != x->dt || v->rank != x->rank) {
            node_error(n, 302, NULL, "input %d is %s, the first %s", i,
                       v ? value_type_text(c, v) : "left out", value_type_text(c, x));
            return;
        }
        for (int k = 0; k < x->rank; k++)
            dim[k] = k == axis ? expr_add(c, dim[k], v->dim[k])
                               : node_same_dim(n, dim[k], v->dim[k],
                                               gd_format(c, "inputs 0 and %d differ on axis %d: %s and %s", i,
                                                         k, expr_text(c, dim[k]), expr_text(c, v->dim[k])));
    }
    node_out(n, 0, x->dt, x->rank, dim);
}

/* offset[i]: where input i begins; offset[nin]: the end. */
static Expr **concat_offsets(const Node *n) {
    Ctx *c = n->graph->c;
    int64_t axis = attr_int(n, "axis");
    Expr **at = gd_new_array(c, Expr *, n->nin + 1);
    if (axis < 0) axis += n->in[0]->rank;
    at[0] = expr_int(c, 0);
    for (int i = 0; i < n->nin; i++) at[i + 1] = expr_add(c, at[i], n->in[i]->dim[axis]);
    return at;
}

static Expr *concat_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    int64_t axis = attr_int(n, "axis");
    if (axis < 0) axis += n->in[0]->rank;
    Expr **offset = concat_offsets(n), *at[MAX_RANK], *e = expr_const(c, scalar(n->in[0]->dt), 0);
    for (int k = 0; k < n->in[0]->rank; k++) at[k] = idx[k];
    for (int i = n->nin - 1; i >= 0; i--) {
        Expr *mine =
            expr_and(c, expr2(c, E_LE, offset[i], idx[axis]), expr2(c, E_LT, idx[axis], offset[i + 1]));
        at[axis] = expr_sub(c, idx[axis], offset[i]);
        e = lower_guarded(L, mine, n->in[i], at, e);
    }
    return e;
}

/* Asked for every input: numbers are added as such, so that a node of thousands costs no expression for each pair. */
static bool concat_holds(const Node *n, int i, Expr **lo, Expr **step) {
    (void)step;
    Ctx *c = n->graph->c;
    int64_t axis = attr_int(n, "axis"), whole = 0, d;
    if (axis < 0) axis += n->in[0]->rank;
    for (int k = 0; k < n->in[0]->rank; k++) lo[k] = expr_int(c, 0);
    for (int j = 0; j < i; j++) {
        if (is_int(n->in[j]->dim[axis], &d)) whole = gd_add(c, whole, d);
        else lo[axis] = expr_add(c, lo[axis], n->in[j]->dim[axis]);
    }
    lo[axis] = expr_add(c, lo[axis], expr_int(c, whole));
    return true;
}

static void concat_grad(Grad *G, Node *n, Value *const *dy) {
    int64_t axis = attr_int(n, "axis");
    if (axis < 0) axis += n->in[0]->rank;
    Expr **offset = concat_offsets(n);
    for (int i = 0; i < n->nin; i++)
        if (grad_wanted(G, n->in[i]))
            grad_add(G, n->in[i], build_slice_axis(G->g, dy[0], (int)axis, offset[i], n->in[i]->dim[axis]));
}

/* ---- export ---- */

static void export_reshape_row(Export *x, Node *n) {
    export_out(x, n, 0, export_reshape(x, export_in(x, n, 0), n->out[0]->rank, n->out[0]->dim));
}

static void export_transpose(Export *x, Node *n) {
    ExportNode *e = export_node(x, "Transpose");
    export_arg(x, e, export_in(x, n, 0));
    export_ints(x, e, "perm", node_attr(n, "perm")->n, node_attr(n, "perm")->ints);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_concat(Export *x, Node *n) {
    ExportNode *e = export_node(x, "Concat");
    for (int i = 0; i < n->nin; i++) export_arg(x, e, export_in(x, n, i));
    export_int(x, e, "axis", attr_int(n, "axis"));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_broadcast(Export *x, Node *n) {
    ExportRef *r = export_in(x, n, 0);
    export_out(x, n, 0, export_op(x, "Expand", r->dt, r, export_dims(x, n->out[0]->rank, n->out[0]->dim)));
}

/* Slice with a list for each of its inputs. */
static ExportRef *sliced(Export *x, ExportRef *r, int n, Expr *const *start, Expr *const *end, const int64_t *axes, Expr *const *step) {
    return export_op(x, "Slice", r->dt, r, export_dims(x, n, start), export_dims(x, n, end), export_list(x, n, axes),
                     export_dims(x, n, step));
}

static void export_reverse(Export *x, Node *n) {
    const Attr *axes = node_attr(n, "axes");
    Expr *start[MAX_RANK], *end[MAX_RANK], *minus = expr_int(x->c, -1), *step[MAX_RANK];
    for (int i = 0; i < axes->n; i++) {
        start[i] = step[i] = minus;
        end[i] = expr_int(x->c, INT64_MIN + 1);
    }
    export_out(x, n, 0, sliced(x, export_in(x, n, 0), axes->n, start, end, axes->ints, step));
}

/* An end before the first element is said by a number that no axis reaches: -1 would be the last one. */
static void export_slice(Export *x, Node *n) {
    Ctx *c = x->c;
    const Value *v = n->in[0];
    const Attr *from = node_attr(n, "start"), *size = node_attr(n, "size"), *by = node_attr(n, "step");
    Expr *start[MAX_RANK], *end[MAX_RANK], *step[MAX_RANK], *zero = expr_int(c, 0), *one = expr_int(c, 1);
    int64_t axes[MAX_RANK];
    int k = 0;
    for (int i = 0; i < v->rank; i++) {
        int64_t lo, hi;
        if (is_value(from->dims[i], 0) && size->dims[i] == v->dim[i] && is_value(by->dims[i], 1)) continue;
        axes[k] = i;
        start[k] = from->dims[i];
        step[k] = by->dims[i];
        end[k] = expr_add(c, start[k], expr_mul(c, size->dims[i], step[k]));
        expr_range(c, step[k], &lo, &hi);
        if (lo < 0) end[k] = expr_select(c, expr2(c, E_LT, end[k], zero), expr_int(c, INT64_MIN + 1), end[k]);
        if (is_value(size->dims[i], 0)) {
            start[k] = end[k] = zero;
            step[k] = one;
        }
        k++;
    }
    ExportRef *r = export_in(x, n, 0);
    export_out(x, n, 0, k ? sliced(x, r, k, start, end, axes, step) : export_op(x, "Identity", r->dt, r));
}

/* Gaps between the elements of an axis: a new axis behind it is padded and merged with it, and the last gap cut off. */
static ExportRef *gaps(Export *x, ExportRef *r, ExportRef *value, int rank, Expr **dim, int axis, int64_t gap) {
    Ctx *c = x->c;
    int64_t pads[2 * MAX_RANK + 2] = {0};
    Expr *to[MAX_RANK + 1], *zero = expr_int(c, 0), *one = expr_int(c, 1);
    for (int i = 0; i <= rank; i++) to[i] = i <= axis ? dim[i] : i == axis + 1 ? one : dim[i - 1];
    pads[rank + 1 + axis + 1] = gap;
    r = export_op(x, "Pad", r->dt, export_reshape(x, r, rank + 1, to), export_list(x, 2 * rank + 2, pads), value);
    Expr *all = expr_mul(c, dim[axis], expr_int(c, gap + 1));
    dim[axis] = all;
    r = export_reshape(x, r, rank, dim);
    dim[axis] = span(c, expr_fdiv(c, all, expr_int(c, gap + 1)), gap);
    return sliced(x, r, 1, &zero, &dim[axis], (int64_t[]){axis}, &one);
}

static ExportRef *pads_of(Export *x, const Node *n) {
    const Attr *lo = node_attr(n, "lo"), *hi = node_attr(n, "hi");
    Expr *pads[2 * MAX_RANK];
    for (int i = 0; i < lo->n; i++) {
        pads[i] = lo->dims[i];
        pads[lo->n + i] = hi->dims[i];
    }
    return export_dims(x, 2 * lo->n, pads);
}

static void export_pad(Export *x, Node *n) {
    const Value *v = n->in[0];
    const Attr *interior = node_attr(n, "interior");
    ExportRef *r = export_in(x, n, 0), *value = export_in(x, n, 1);
    Expr *dim[MAX_RANK];
    if (!value) value = export_number(x, v->dt, 0);
    for (int i = 0; i < v->rank; i++) dim[i] = v->dim[i];
    for (int i = 0; i < v->rank; i++)
        if (interior->ints[i]) r = gaps(x, r, value, v->rank, dim, i, interior->ints[i]);
    export_out(x, n, 0, v->rank ? export_op(x, "Pad", r->dt, r, pads_of(x, n), value) : export_op(x, "Identity", r->dt, r));
}

static void export_extend(Export *x, Node *n) {
    static const char *const modes[] = {"edge", "reflect", "wrap"};
    ExportNode *e = export_node(x, "Pad");
    export_arg(x, e, export_in(x, n, 0));
    export_arg(x, e, pads_of(x, n));
    export_string(x, e, "mode", modes[attr_int(n, "mode")]);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

#define VIEW .kind = OP_VIEW, .in = "x", .out = "y"

const Op gd_ops_view[] = {
    {.name = "reshape", .export = export_reshape_row, VIEW, .flags = OF_CHEAP | OF_SAME_DATA, .attrs = {{"dims", AT_DIMS, 0, true}},
     .shape = reshape_shape, .elem = reshape_elem, .grad = reshape_grad,
     .doc = "The same elements in row-major order under other dims."},
    {.name = "transpose", .export = export_transpose, VIEW, .flags = OF_CHEAP, .attrs = {{"perm", AT_INTS, 0, true}},
     .shape = transpose_shape, .elem = transpose_elem, .grad = transpose_grad,
     .doc = "Axis i of the output is axis perm[i] of the input."},
    {.name = "reverse", .export = export_reverse, VIEW, .flags = OF_CHEAP | OF_AXISWISE, .attrs = {{"axes", AT_INTS, 0, true}},
     .shape = reverse_shape, .elem = reverse_elem, .grad = reverse_grad,
     .doc = "The given axes run backwards."},
    {.name = "broadcast", .export = export_broadcast, VIEW, .flags = OF_CHEAP, .attrs = {{"dims", AT_DIMS, 0, true}},
     .shape = broadcast_shape, .elem = broadcast_elem, .grad = broadcast_grad,
     .doc = "Repeated along axes of size 1, and along new ones in front, as numpy does."},
    {.name = "slice", .export = export_slice, VIEW, .flags = OF_CHEAP | OF_AXISWISE,
     .attrs = {{"start", AT_DIMS, 0, true}, {"size", AT_DIMS, 0, true}, {"step", AT_DIMS, 0, true}},
     .shape = slice_shape, .elem = slice_elem, .grad = slice_grad,
     .doc = "Element i along an axis is element start + i * step; all of them exist."},
    {.name = "pad", .export = export_pad, .kind = OP_VIEW, .in = "x value?", .out = "y", .flags = OF_CHEAP | OF_AXISWISE,
     .attrs = {{"lo", AT_DIMS, 0, true}, {"hi", AT_DIMS, 0, true}, {"interior", AT_INTS, 0, true}},
     .shape = pad_shape, .elem = pad_elem, .holds = pad_holds, .grad = pad_grad,
     .doc = "lo elements of value (zero when left out) before, hi after and interior between the elements "
            "of each axis; negative: cut off."},
    {.name = "extend", .export = export_extend, VIEW, .flags = OF_CHEAP | OF_AXISWISE,
     .attrs = {{"lo", AT_DIMS, 0, true}, {"hi", AT_DIMS, 0, true}, {"mode", AT_INT, 0, true}},
     .shape = extend_shape, .elem = extend_elem, .grad = extend_grad,
     .doc = "lo elements before and hi after each axis, taken from the tensor: mode 0 repeats the edge, 1 "
            "reflects without it, 2 starts again from the other side."},
    {.name = "copy", .export = export_copy, VIEW, .flags = OF_CHEAP | OF_OWN, .shape = copy_shape, .elem = copy_elem,
     .grad = copy_grad, .doc = "The input in memory of its own, where `layout` wants it in another order."},
    {.name = "concat", .export = export_concat, .kind = OP_VIEW, .in = "x more*", .out = "y", .flags = OF_CHEAP | OF_AXISWISE,
     .attrs = {{"axis", AT_INT, 0, true}}, .shape = concat_shape, .elem = concat_elem, .holds = concat_holds,
     .grad = concat_grad, .doc = "The inputs one after the other along an axis."},
};
const int gd_ops_view_n = sizeof gd_ops_view / sizeof *gd_ops_view;
