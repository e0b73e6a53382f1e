/* The gradients of conv.

   dx is a convolution of dy with the kernel turned round. Where a stride was above 1 dx falls into phases, each a
   convolution without stride by the kernel's elements that meet it, and `interleave` puts them together: nothing is
   multiplied by the zeros that a dy spread by the strides would have. The border that a pad had put around x is not
   computed at all: the pad's input gets its cotangent at once.

   dw is a row of its own, conv_dw: one fma chain per output over images, then output positions. */
#include "build.h"
#include "grad.h"
#include "lower.h"
#include "windows.h"

static Expr *widen(Ctx *c, Expr *e) { return dt_small((DType)e->type.dt) ? expr_cast(c, e, F32) : e; }
static bool all_inputs(const Node *n, int i) { (void)n; (void)i; return true; }

/* ---- interleave ---- */

static int interleave_axis(const Node *n) {
    int64_t axis = attr_int(n, "axis");
    return (int)(axis < 0 ? axis + n->in[0]->rank : axis);
}

/* Input i has the elements i, i + nin, i + 2 nin, .. along the axis. */
static void interleave_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    int axis = node_axis(n, attr_int(n, "axis"), x->rank);
    Expr *dim[MAX_RANK], *parts = expr_int(c, n->nin), *size = expr_int(c, 0);
    if (!x->rank) { node_error(n, 301, "unsqueeze them", "scalars cannot be joined"); return; }
    for (int i = 0; i < n->nin; i++) {
        const Value *v = n->in[i];
        if (!v || v->dt != x->dt || v->rank != x->rank) {
            node_error(n, 302, NULL, "input %d is %s, the first %s", i, v ? value_type_text(c, v) : "left out", value_type_text(c, x));
            return;
        }
        size = expr_add(c, size, v->dim[axis]);
    }
    for (int k = 0; k < x->rank; k++) dim[k] = k == axis ? size : x->dim[k];
    for (int i = 0; i < n->nin; i++)
        for (int k = 0; k < x->rank; k++) {
            Expr *want = k == axis ? expr_fdiv(c, expr_add(c, size, expr_int(c, n->nin - 1 - i)), parts) : dim[k];
            node_same_dim(n, want, n->in[i]->dim[k], gd_format(c, "input %d has %s elements along axis %d", i,
                                                               expr_text(c, n->in[i]->dim[k]), k));
        }
    node_out(n, 0, x->dt, x->rank, dim);
}

static Expr *interleave_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    int axis = interleave_axis(n);
    Expr *at[MAX_RANK], *parts = expr_int(c, n->nin), *e = expr_const(c, scalar(n->in[0]->dt), 0);
    for (int k = 0; k < n->in[0]->rank; k++) at[k] = idx[k];
    at[axis] = expr_fdiv(c, idx[axis], parts);
    for (int i = n->nin - 1; i >= 0; i--)
        e = lower_guarded(L, expr2(c, E_EQ, expr_fmod(c, idx[axis], parts), expr_int(c, i)), n->in[i], at, e);
    return e;
}

static bool interleave_holds(const Node *n, int i, Expr **lo, Expr **step) {
    Ctx *c = n->graph->c;
    for (int k = 0; k < n->in[0]->rank; k++) lo[k] = expr_int(c, k == interleave_axis(n) ? i : 0);
    step[interleave_axis(n)] = expr_int(c, n->nin);
    return true;
}

static void interleave_grad(Grad *G, Node *n, Value *const *dy) {
    Ctx *c = G->g->c;
    int axis = interleave_axis(n);
    for (int i = 0; i < n->nin; i++) {
        Value *x = n->in[i];
        Expr *start[MAX_RANK], *step[MAX_RANK];
        if (!grad_wanted(G, x)) continue;
        for (int k = 0; k < x->rank; k++) {
            start[k] = expr_int(c, k == axis ? i : 0);
            step[k] = expr_int(c, k == axis ? n->nin : 1);
        }
        grad_add(G, x, build_slice(G->g, dy[0], start, x->dim, step));
    }
}

static Value *interleave(Graph *g, int n, Value *const *x, int axis) {
    Node *y = node_begin(g, "interleave");
    for (int i = 0; i < n; i++) node_input(y, x[i]);
    node_int(y, "axis", axis);
    return node_finish(y);
}

/* ---- dx ---- */

Value *turned_kernel(Graph *g, Value *w, int64_t group) {
    Ctx *c = g->c;
    int spatial = w->rank - 2, rank = w->rank;
    int64_t perm[MAX_RANK];
    Expr *groups = expr_int(c, group), *in = expr_fdiv(c, w->dim[0], groups), *dim[MAX_RANK];
    Value *v = w;
    for (int i = 0; i < spatial; i++)
        if (!is_value(w->dim[2 + i], 1)) v = build_reverse(g, v, 2 + i);
    if (v->rank < 0) return v;
    if (group == 1) {
        for (int i = 0; i < rank; i++) perm[i] = i < 2 ? 1 - i : i;
        return build_transpose(g, v, perm);
    }
    dim[0] = groups; /* [g, C/g, M/g, k...] */
    dim[1] = in;
    for (int i = 1; i < rank; i++) dim[i + 1] = w->dim[i];
    v = build_reshape(g, v, rank + 1, dim);
    for (int i = 0; i <= rank; i++) perm[i] = i == 1 ? 2 : i == 2 ? 1 : i;
    v = build_transpose(g, v, perm);
    dim[0] = expr_mul(c, groups, w->dim[1]); /* [M, C/g, k...] */
    dim[1] = in;
    for (int i = 2; i < rank; i++) dim[i] = w->dim[i];
    return build_reshape(g, v, rank, dim);
}

/* One of the phases of an axis, outputs phase, phase + stride, ..: the kernel's elements first, first + stride, .. meet them.
   Its outputs begin `skip` elements into dy with its padding. */
typedef struct Phase { int64_t first, taps, before; Expr *size; } Phase;

typedef struct Undo {
    Graph *g;
    Value *dy, *w;
    Window one;                       /* no strides */
    int64_t group, strides[MAX_RANK];
    Phase *phase[MAX_RANK];           /* of spatial axis i: strides[i] of them */
    const Phase *now[MAX_RANK];
    Expr *lo[MAX_RANK];               /* dy is padded already by so much */
    Expr *batch, *channels;
} Undo;

/* x[i] gets dy[o] w[k] where i = o s + k d - lo. With i = s q + r: k d = r + lo modulo s, so k = first + s j, and
   o = q + (r + lo - first d) / s - j d. */
static bool find_phases(Undo *u, int i, int64_t taps, int64_t lo, Expr *size) {
    enum { MOST = 8 };
    Ctx *c = u->g->c;
    int64_t s = u->strides[i], d = u->one.dilations[i];
    if (s > MOST) return false;
    u->phase[i] = gd_new_array(c, Phase, s);
    for (int64_t r = 0; r < s; r++) {
        Phase *p = &u->phase[i][r];
        p->size = expr_fdiv(c, expr_add(c, size, expr_int(c, s - 1 - r)), expr_int(c, s));
        while (p->first < taps && (r + lo - p->first * d) % s) p->first++;
        int64_t every = 1; /* the next k with the same remainder */
        while (every * d % s) every++;
        if (every != s && s > 1) return false;
        p->taps = (taps - p->first + s - 1) / s;
        p->before = (p->taps - 1) * d - (r + lo - p->first * d) / s;
    }
    return true;
}

static Value *zeros(Graph *g, DType dt, int rank, Expr *const *dim) { return build_broadcast(g, const_scalar(g, dt, 0), rank, dim); }

/* The convolution of the phases chosen for all axes. */
static Value *phase_conv(Undo *u) {
    Graph *g = u->g;
    Ctx *c = g->c;
    int spatial = u->one.spatial;
    Expr *start[MAX_RANK], *size[MAX_RANK], *step[MAX_RANK], *from[MAX_RANK], *room[MAX_RANK], *out[MAX_RANK];
    bool none = false;
    for (int i = 0; i < 2; i++) {
        start[i] = from[i] = expr_int(c, 0);
        size[i] = u->w->dim[i];
        room[i] = u->dy->dim[i];
        step[i] = expr_int(c, 1);
    }
    out[0] = u->batch;
    out[1] = u->channels;
    for (int i = 0; i < spatial; i++) {
        const Phase *p = u->now[i];
        none |= p->taps <= 0;
        out[2 + i] = p->size;
        start[2 + i] = expr_int(c, p->first);
        size[2 + i] = expr_int(c, p->taps);
        step[2 + i] = expr_int(c, u->strides[i]);
        from[2 + i] = expr_sub(c, u->lo[i], expr_int(c, p->before));
        room[2 + i] = expr_add(c, p->size, expr_int(c, (p->taps - 1) * u->one.dilations[i]));
    }
    if (none) return zeros(g, u->dy->dt, 2 + spatial, out);
    Value *w = turned_kernel(g, build_slice(g, u->w, start, size, step), u->group);
    return build_conv(g, build_slice(g, u->dy, from, room, NULL), w, NULL, &u->one, u->group);
}

static Value *phases(Undo *u, int i) {
    Value *part[8];
    if (i == u->one.spatial) return phase_conv(u);
    for (int64_t r = 0; r < u->strides[i]; r++) {
        u->now[i] = &u->phase[i][r];
        part[r] = phases(u, i + 1);
        if (part[r]->rank < 0) return part[r];
    }
    return u->strides[i] == 1 ? part[0] : interleave(u->g, (int)u->strides[i], part, 2 + i);
}

/* By phases, where sizes are numbers. dim: of the result. NULL: they are not. */
static Value *undo_phases(Undo *u, Expr *const *lo, Expr *const *dim) {
    Ctx *c = u->g->c;
    Expr *before[MAX_RANK], *after[MAX_RANK];
    before[0] = before[1] = after[0] = after[1] = expr_int(c, 0);
    for (int i = 0; i < u->one.spatial; i++) {
        int64_t taps, l, most = 0;
        if (!is_int(u->w->dim[2 + i], &taps) || !is_int(lo[i], &l) || !find_phases(u, i, taps, l, dim[2 + i])) return NULL;
        Expr *end = NULL, *d = expr_int(c, u->one.dilations[i]);
        for (int64_t r = 0; r < u->strides[i]; r++) { /* room for all of them */
            const Phase *p = &u->phase[i][r];
            if (p->taps <= 0) continue;
            Expr *last = expr_add(c, expr_sub(c, p->size, expr_int(c, p->before)), expr_mul(c, expr_int(c, p->taps - 1), d));
            end = end ? expr2(c, E_MAX, end, last) : last;
            if (p->before > most) most = p->before;
        }
        before[2 + i] = u->lo[i] = expr_int(c, most);
        after[2 + i] = end ? expr2(c, E_MAX, expr_sub(c, end, u->dy->dim[2 + i]), expr_int(c, 0)) : expr_int(c, 0);
    }
    u->dy = build_pad(u->g, u->dy, before, after, NULL, NULL);
    return u->dy->rank < 0 ? u->dy : phases(u, 0);
}

/* dy with zeros between its elements, convolved with the kernel turned round. */
static Value *undo_spread(Undo *u, Expr *const *lo, Expr *const *dim) {
    Ctx *c = u->g->c;
    Expr *before[MAX_RANK], *after[MAX_RANK], *one = expr_int(c, 1);
    int64_t interior[MAX_RANK] = {0};
    before[0] = before[1] = after[0] = after[1] = expr_int(c, 0);
    for (int i = 0; i < u->one.spatial; i++) {
        Expr *edge = expr_sub(c, window_reach(c, u->w->dim[2 + i], u->one.dilations[i]), one);
        Expr *span = expr_add(c, expr_mul(c, expr_sub(c, u->dy->dim[2 + i], one), expr_int(c, u->strides[i])), one);
        before[2 + i] = expr_sub(c, edge, lo[i]);
        after[2 + i] = expr_sub(c, expr_add(c, dim[2 + i], lo[i]), span);
        interior[2 + i] = u->strides[i] - 1;
    }
    Value *spread = build_pad(u->g, u->dy, before, after, interior, NULL);
    return build_conv(u->g, spread, turned_kernel(u->g, u->w, u->group), NULL, &u->one, u->group);
}

/* What a zero pad of spatial axes pads, and how much before it; NULL: v is none. */
static Value *padded(const Value *v, Expr **lo) {
    const Node *n = v->def;
    if (!n || strcmp(n->op->name, "pad") || (n->nin > 1 && n->in[1] && !value_known(n->in[1]))) return NULL;
    const Attr *l = node_attr(n, "lo"), *h = node_attr(n, "hi"), *interior = node_attr(n, "interior");
    if (n->nin > 1 && n->in[1] && value_elem(n->graph, n->in[1], 0)->bits) return NULL;
    for (int i = 0; i < v->rank; i++) {
        int64_t low, high, unused;
        expr_range(n->graph->c, l->dims[i], &low, &unused);
        expr_range(n->graph->c, h->dims[i], &high, &unused);
        if (interior->ints[i] || low < 0 || high < 0) return NULL;
        if (i < 2 && (!is_value(l->dims[i], 0) || !is_value(h->dims[i], 0))) return NULL;
        if (i >= 2) lo[i - 2] = l->dims[i];
    }
    return n->in[0];
}

static void add_dx(Grad *G, Node *n, Value *dy) {
    Ctx *c = G->g->c;
    Value *x = n->in[0];
    Expr *lo[MAX_RANK];
    Value *inside = padded(x, lo);
    Undo u = {.g = G->g, .dy = dy, .w = n->in[1], .group = attr_int(n, "group"), .one = {.spatial = x->rank - 2}};
    for (int i = 0; i < u.one.spatial; i++) {
        u.one.strides[i] = 1;
        u.one.dilations[i] = node_attr(n, "dilations")->ints[i];
        u.strides[i] = node_attr(n, "strides")->ints[i];
        if (!inside) lo[i] = expr_int(c, 0);
    }
    Value *to = inside && grad_wanted(G, inside) ? inside : x;
    for (int i = 0; i < u.one.spatial && to == x; i++) lo[i] = expr_int(c, 0);
    u.batch = to->dim[0];
    u.channels = to->dim[1];
    Value *dx = undo_phases(&u, lo, to->dim);
    grad_add(G, to, dx ? dx : undo_spread(&u, lo, to->dim));
}

/* ---- dw ---- */

static void dw_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *dy = n->in[0], *x = n->in[1];
    const Attr *kernel = node_attr(n, "kernel");
    int64_t group = attr_int(n, "group");
    Expr *dim[MAX_RANK], *groups = expr_int(c, group);
    if (dy->dt != x->dt || dy->rank != x->rank || x->rank < 3 || kernel->n != x->rank - 2 || group < 1 ||
        node_attr(n, "strides")->n != kernel->n || node_attr(n, "dilations")->n != kernel->n) {
        node_error(n, 301, NULL, "a cotangent %s and an input %s of a convolution", value_type_text(c, dy), value_type_text(c, x));
        return;
    }
    node_same_dim(n, dy->dim[0], x->dim[0], "the cotangent and the input have different numbers of images");
    dim[0] = dy->dim[1];
    dim[1] = expr_fdiv(c, x->dim[1], groups);
    for (int i = 0; i < kernel->n; i++) {
        Expr *last = expr_mul(c, expr_sub(c, dy->dim[2 + i], expr_int(c, 1)), expr_int(c, node_attr(n, "strides")->ints[i]));
        Expr *reach = window_reach(c, kernel->dims[i], node_attr(n, "dilations")->ints[i]);
        node_require(n, expr2(c, E_LE, expr_add(c, last, reach), x->dim[2 + i]), "the cotangent's windows reach beyond the input");
        dim[2 + i] = kernel->dims[i];
    }
    node_out(n, 0, dy->dt, x->rank, dim);
}

typedef struct DwStep { Node *n; Expr *const *idx; Expr *channel; } DwStep;

static void dw_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    DwStep *s = arg;
    Ctx *c = L->c;
    Expr *y[MAX_RANK] = {k[0], s->idx[0]}, *x[MAX_RANK] = {k[0], s->channel};
    for (int i = 0; i < s->n->in[0]->rank - 2; i++) {
        y[2 + i] = k[1 + i];
        x[2 + i] = window_at(c, s->n, i, k[1 + i], s->idx[2 + i]);
    }
    next[0] = expr3(c, E_FMA, widen(c, lower_elem(L, s->n->in[1], x)), widen(c, lower_elem(L, s->n->in[0], y)), acc[0]);
}

static Expr *dw_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    static const char *const names[][4] = {{"n", "ow"}, {"n", "oh", "ow"}, {"n", "od", "oh", "ow"}};
    Ctx *c = L->c;
    const Value *dy = n->in[0], *dw = n->out[0];
    int spatial = dy->rank - 2;
    Expr *each = expr_fdiv(c, dw->dim[0], expr_int(c, attr_int(n, "group"))); /* output channels of a group */
    DwStep s = {n, idx, expr_add(c, expr_mul(c, expr_fdiv(c, idx[0], each), dw->dim[1]), idx[1])};
    DType dt = dt_small(dy->dt) ? F32 : dy->dt;
    Accum a = {.nloops = spatial + 1, .nacc = 1, .step = dw_step, .arg = &s, .init = {expr_const(c, scalar(dt), 0)}};
    a.trip[0] = dy->dim[0];
    for (int i = 0; i < spatial; i++) a.trip[1 + i] = dy->dim[2 + i];
    for (int i = 0; i <= spatial && spatial <= 3; i++) a.name[i] = names[spatial - 1][i];
    Expr *sum;
    lower_accum(L, &a, dw->rank, idx, &sum);
    return dt_small(dy->dt) ? expr_cast(c, sum, dy->dt) : sum;
}

static Value *build_dw(Graph *g, const Node *n, Value *dy, Value *x, Expr *const *kernel) {
    Node *d = node_begin(g, "conv_dw");
    node_input(d, dy);
    node_input(d, x);
    node_dims(d, "kernel", x->rank - 2, kernel);
    node_ints(d, "strides", x->rank - 2, node_attr(n, "strides")->ints);
    node_ints(d, "dilations", x->rank - 2, node_attr(n, "dilations")->ints);
    node_int(d, "group", attr_int(n, "group"));
    return node_finish(d);
}

/* It is linear in both inputs: with w = dw's cotangent, dy gets conv(x, w), and x what conv gives its input. */
static void dw_grad(Grad *G, Node *n, Value *const *w) {
    Graph *g = G->g;
    Window win = {.spatial = n->in[0]->rank - 2};
    for (int i = 0; i < win.spatial; i++) {
        win.strides[i] = node_attr(n, "strides")->ints[i];
        win.dilations[i] = node_attr(n, "dilations")->ints[i];
    }
    if (grad_wanted(G, n->in[0])) {
        Value *dy = build_conv(g, n->in[1], w[0], NULL, &win, attr_int(n, "group"));
        Expr *zero[MAX_RANK];
        for (int i = 0; i < dy->rank; i++) zero[i] = expr_int(g->c, 0);
        grad_add(G, n->in[0], dy->rank < 0 ? dy : build_slice(g, dy, zero, n->in[0]->dim, NULL));
    }
    if (!grad_wanted(G, n->in[1])) return;
    Value *x = n->in[1];
    Undo u = {.g = g, .dy = n->in[0], .w = w[0], .group = attr_int(n, "group"), .one = win, .batch = x->dim[0], .channels = x->dim[1]};
    Expr *lo[MAX_RANK];
    for (int i = 0; i < win.spatial; i++) {
        u.strides[i] = win.strides[i];
        u.one.strides[i] = 1;
        lo[i] = expr_int(g->c, 0);
    }
    Value *dx = undo_phases(&u, lo, x->dim);
    grad_add(G, x, dx ? dx : undo_spread(&u, lo, x->dim));
}

/* ---- conv ---- */

void conv_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    if (grad_wanted(G, n->in[0])) add_dx(G, n, dy[0]);
    if (grad_wanted(G, n->in[1])) grad_add(G, n->in[1], build_dw(g, n, dy[0], n->in[0], n->in[1]->dim + 2));
    if (n->nin < 3 || !n->in[2] || !grad_wanted(G, n->in[2])) return;
    int64_t axes[MAX_RANK];
    int k = 0;
    for (int i = 0; i < dy[0]->rank; i++)
        if (i != 1) axes[k++] = i;
    Value *db = build_reduce(g, "reduce_sum", dy[0], k, axes, false);
    grad_add(G, n->in[2], build_reshape(g, db, n->in[2]->rank, n->in[2]->dim));
}

const Op gd_ops_convgrad[] = {
    {.name = "conv_dw", .kind = OP_CONTRACT, .flags = OF_IMAGE | OF_KERNEL, .in = "dy x", .out = "dw", .types = "num",
     .attrs = {{"kernel", AT_DIMS, 0, true}, {"strides", AT_INTS, 0, true}, {"dilations", AT_INTS, 0, true}, {"group", AT_INT, 1, false}},
     .shape = dw_shape, .elem = dw_elem, .rereads = all_inputs, .grad = dw_grad,
     .doc = "The gradient of a convolution's kernel: dw[m, c, k] = sum over images n and positions o of dy[n, m, o] * x[n, c, o * stride + "
            "k * dilation], one chain in that order."},
    {.name = "interleave", .kind = OP_VIEW, .in = "x more*", .out = "y", .flags = OF_CHEAP | OF_AXISWISE,
     .attrs = {{"axis", AT_INT, 0, true}}, .shape = interleave_shape, .elem = interleave_elem, .holds = interleave_holds,
     .grad = interleave_grad, .doc = "Of n inputs, input i has the elements i, i + n, i + 2n, .. along an axis."},
};
const int gd_ops_convgrad_n = sizeof gd_ops_convgrad / sizeof *gd_ops_convgrad;
