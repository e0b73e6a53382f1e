/* Gradients in reverse mode, from the op rows' derivatives. What they are made of are ordinary nodes, so they are folded, fused,
   printed and differentiated again like everything else. Where several paths meet, the cotangents are added in the order of
   the nodes from the last to the first. Nodes are visited once: it ends. */
#include "grad.h"
#include "import.h"
#include "ops/build.h"

bool grad_wanted(const Grad *G, const Value *v) { return v && map_getp(G->wanted, v); }

/* Along an axis whose size may turn out to be 1 the sum is taken if it does: then the axes are a mask. */
Value *grad_sum_to(Grad *G, Value *dv, const Value *like) {
    Ctx *c = G->g->c;
    int64_t axes[MAX_RANK];
    Expr *mask[MAX_RANK], *one = expr_int(c, 1), *zero = expr_int(c, 0);
    int n = 0, extra = dv->rank - like->rank;
    bool known = true;
    for (int i = 0; i < dv->rank; i++) {
        Expr *d = i < extra ? one : like->dim[i - extra];
        mask[i] = d == dv->dim[i] ? zero : expr_select(c, expr2(c, E_EQ, d, one), one, zero);
        known = known && is_const(mask[i]);
        if (is_value(mask[i], 1)) axes[n++] = i;
    }
    if (n || !known) {
        Node *sum = node_begin(G->g, "reduce_sum");
        node_input(sum, dv);
        node_ints(sum, "axes", known ? n : 0, axes);
        node_int(sum, "keepdims", 1);
        if (!known) node_dims(sum, "mask", dv->rank, mask);
        dv = node_finish(sum);
    }
    bool same = dv->rank == like->rank;
    for (int i = 0; same && i < like->rank; i++) same = dv->dim[i] == like->dim[i];
    if (same) return dv;
    Node *shape = node_begin(G->g, "reshape");
    node_input(shape, dv);
    node_dims(shape, "dims", like->rank, like->dim);
    return node_finish(shape);
}

/* ---- parts: the cotangents of slices ---- */

/* A pad with zeros along one axis, by numbers: axis, and elements before and behind. */
static bool is_part(const Value *v, int *axis, int64_t *lo, int64_t *hi) {
    const Node *n = v->def;
    if (!n || strcmp(n->op->name, "pad") || (n->nin > 1 && n->in[1])) return false;
    *axis = -1;
    for (int i = 0; i < v->rank; i++) {
        int64_t l, h;
        bool known = is_int(node_attr(n, "lo")->dims[i], &l) && is_int(node_attr(n, "hi")->dims[i], &h);
        if (!known || l < 0 || h < 0 || node_attr(n, "interior")->ints[i] || ((l || h) && *axis >= 0)) return false;
        if (l || h) { *axis = i; *lo = l; *hi = h; }
    }
    return *axis >= 0;
}

static bool is_zeros(const Value *v) {
    const Node *n = v->def;
    const Value *x = n && !strcmp(n->op->name, "broadcast") ? n->in[0] : NULL;
    return x && !x->rank && x->data && !gd_load_bits(x->dt, x->data);
}

static void put_zeros(Graph *g, const Value *like, int axis, int64_t size, ValueList *to) {
    Expr *dim[MAX_RANK];
    if (!size) return;
    for (int i = 0; i < like->rank; i++) dim[i] = i == axis ? expr_int(g->c, size) : like->dim[i];
    vec_push(g->c, to, build_broadcast(g, const_scalar(g, like->dt, 0), like->rank, dim));
}

/* The parts that v consists of along the axis: a pad's, or those that this made before. */
static bool parts_of(Graph *g, Value *v, int axis, ValueList *to) {
    int own;
    int64_t lo, hi;
    const Node *n = v->def;
    if (is_part(v, &own, &lo, &hi)) {
        put_zeros(g, v, axis, lo, to);
        vec_push(g->c, to, n->in[0]);
        put_zeros(g, v, axis, hi, to);
        return own == axis;
    }
    if (!n || strcmp(n->op->name, "concat") || attr_int(n, "axis") != axis) return false;
    for (int i = 0; i < n->nin; i++) vec_push(g->c, to, n->in[i]);
    return true;
}

/* The sum of parts that do not overlap is one after the other: the gates of a recurrent layer, q, k and v of attention. NULL:
   they are something else. */
static Value *joined(Graph *g, Value *a, Value *b) {
    int axis;
    int64_t lo, hi, at = 0, size;
    ValueList parts = {0}, out = {0};
    bool put = false;
    if (!is_part(b, &axis, &lo, &hi) || !parts_of(g, a, axis, &parts)) return NULL;
    Value *mine = b->def->in[0];
    int64_t more = 0;
    if (!is_int(mine->dim[axis], &more)) return NULL;
    for (int i = 0; i < parts.n; i++, at += size) {
        Value *v = parts.v[i];
        if (!is_int(v->dim[axis], &size)) return NULL;
        if (!is_zeros(v) || lo < at || lo + more > at + size) { vec_push(g->c, &out, v); continue; }
        put_zeros(g, v, axis, lo - at, &out);
        vec_push(g->c, &out, mine);
        put_zeros(g, v, axis, at + size - lo - more, &out);
        put = true;
    }
    return put ? build_concat(g, out.n, out.v, axis) : NULL;
}

void grad_add(Grad *G, Value *v, Value *dv) {
    if (!dv || !grad_wanted(G, v)) return;
    Value *so_far = map_getp(G->adjoint, v), *sum = so_far ? joined(G->g, so_far, dv) : dv;
    map_putp(G->adjoint, v, sum ? sum : make(G->g, "add", so_far, dv));
}

/* ---- from the last node to the first ---- */

bool grad_float(const Value *v) { return v && !v->sequence && (dt_float(v->dt) || dt_small(v->dt)); }

static bool wants(const Grad *G, Node *n) {
    for (int k = 0; k < n->nin; k++)
        if (grad_wanted(G, n->in[k])) return true;
    if (!n->nregions) return false;
    ValueList seen = graph_captures(n);
    for (int k = 0; k < seen.n; k++)
        if (grad_wanted(G, seen.v[k])) return true;
    return false;
}

void grad_want(Grad *G, const Graph *g, int from, int to) {
    for (int i = from; i < to; i++) {
        Node *n = g->nodes.v[i];
        bool some = wants(G, n);
        if (!some || (n->op->flags & OF_NO_GRAD)) continue;
        for (int k = 0; k < n->nout; k++)
            if (grad_float(n->out[k])) map_putp(G->wanted, n->out[k], n->out[k]);
    }
}

/* The derivatives of a formula: y is the output, g its cotangent. */
static void map_grad(Grad *G, Node *n, Value *dy) {
    Map *values = map_new(G->g->c), *attrs = map_new(G->g->c);
    const char *s = n->op->in;
    for (int i = 0; i < n->nin; i++, s += strcspn(s, " "), s += *s == ' ') map_put(values, s, strcspn(s, "? "), n->in[i]);
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++) map_puts(attrs, n->op->attrs[i].name, &n->attr[i]);
    map_puts(values, "y", n->out[0]);
    map_puts(values, "g", dy);
    for (int i = 0; i < n->nin && i < 4; i++) {
        const char *vjp = n->op->vjp[i];
        if (!vjp || !strcmp(vjp, "0") || !grad_wanted(G, n->in[i])) continue;
        Value *d = graph_text(G->g, vjp, values, attrs);
        if (d->rank >= 0) grad_add(G, n->in[i], grad_sum_to(G, d, n->in[i]));
    }
}

static bool has_formula(const Op *op) {
    return op->kind == OP_MAP && op->vjp[0];
}

static void backward(Grad *G, Node *n) {
    Value **dy = gd_new_array(G->g->c, Value *, n->nout ? n->nout : 1);
    bool some = false;
    for (int k = 0; k < n->nout; k++) some |= (dy[k] = map_getp(G->adjoint, n->out[k])) != NULL;
    if (!some || !wants(G, n) || (n->op->flags & OF_NO_GRAD)) return;
    G->g->label = n->label;
    if (n->op->grad) n->op->grad(G, n, dy);
    else if (has_formula(n->op)) map_grad(G, n, dy[0]);
    else node_error(n, 404, "leave it out of what the loss depends on", "%s has no gradient", n->op->name);
}

Value *grad_filled(Graph *g, const Value *like, double with) {
    Node *n = node_begin(g, "broadcast");
    node_input(n, const_scalar(g, like->dt, with));
    node_dims(n, "dims", like->rank, like->dim);
    return node_finish(n);
}

void grad_sweep(Grad *G, int from, int to) {
    for (int i = to - 1; i >= from; i--) {
        Node *n = G->g->nodes.v[i];
        if (!G->leaf || !map_getp(G->leaf, n)) backward(G, n);
    }
    G->g->label = NULL;
}

void graph_grad(Graph *g, Value *loss, int n, Value *const *of, Value **out) {
    Grad G = {g, map_new(g->c), map_new(g->c), NULL};
    int nodes = g->nodes.n;
    for (int i = 0; i < n; i++) map_putp(G.wanted, of[i], of[i]);
    grad_want(&G, g, 0, nodes);
    map_putp(G.adjoint, loss, grad_filled(g, loss, 1));
    grad_sweep(&G, 0, nodes);
    for (int i = 0; i < n; i++) {
        out[i] = map_getp(G.adjoint, of[i]);
        if (!out[i]) out[i] = grad_filled(g, of[i], 0);
    }
}
