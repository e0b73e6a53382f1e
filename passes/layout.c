/* layout: which axis lies innermost in memory. Around convolutions and pooling that is the channel, so that vectors run
   over channels and the same weights serve neighbouring pixels; everywhere else the order stays row-major.

   Needs: shapes. Promises: Value.order is set; what is computed does not change, since every access goes through
   strides. Inputs and outputs keep the order their caller knows: a kernel's gradient, which the optimizer reads in the order of
   the kernel, is turned once, by a `copy`. The set of values grows until it no longer does: it ends.

     c: f32[N,64,14,14] = conv x, w        becomes    c: f32[N,64,14,14] order=[0,2,3,1] = conv x, w */
#include "op.h"
#include "passes.h"

/* Does the node keep the meaning of axes between its inputs and outputs of the same rank? */
static bool axiswise(const Node *n) {
    return n->op->kind == OP_MAP || n->op->kind == OP_WINDOW || (n->op->flags & OF_AXISWISE);
}

/* Convolutions and pooling over images; a window along some other axis, with one channel, says nothing. */
static bool seeds(const Node *n) {
    if (n->op->kind == OP_WINDOW) return !is_value(n->in[0]->dim[1], 1);
    return n->op->flags & OF_IMAGE;
}

/* A value that can take part: made in the graph, with pixels and channels. */
static bool eligible(const Value *v) { return v && v->def && !v->data && v->rank >= 3 && v->rank <= 5 && !v->sequence; }

static bool mark(Map *set, Value *v, const uint8_t *order) {
    if (!eligible(v) || map_getp(set, v)) return false;
    map_putp(set, v, (void *)order);
    return true;
}

static bool same_dims(const Value *a, const Value *b) {
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

/* One side of an axiswise node in the set takes the other sides with it. */
static bool spread(Map *set, const Node *n) {
    const uint8_t *order = map_getp(set, n->out[0]);
    bool grew = false;
    const Value *y = n->out[0];
    for (int i = 0; i < n->nin && !order; i++)
        if (n->in[i] && n->in[i]->rank == y->rank) order = map_getp(set, n->in[i]);
    if (!order) return false;
    grew |= mark(set, n->out[0], order);
    for (int i = 0; i < n->nin; i++) {
        Value *v = n->in[i];
        if (v && v->rank == y->rank && (n->op->kind != OP_MAP || same_dims(v, y))) grew |= mark(set, v, order);
    }
    return grew;
}

/* The order that `to` has when it is `from` with axes of size 1 added or taken away; NULL: it is something else. */
static const uint8_t *unit_order(Ctx *c, const Value *from, const uint8_t *order, const Value *to) {
    int where[MAX_RANK], o = 0; /* axis of `to` for each axis of `from` */
    uint8_t *out = gd_new_array(c, uint8_t, MAX_RANK), n = 0;
    bool taken[MAX_RANK] = {false};
    for (int i = 0; i < from->rank; i++) {
        where[i] = -1;
        if (is_value(from->dim[i], 1)) continue;
        while (o < to->rank && is_value(to->dim[o], 1)) o++;
        if (o == to->rank || to->dim[o] != from->dim[i]) return NULL;
        taken[where[i] = o++] = true;
    }
    for (; o < to->rank; o++)
        if (!is_value(to->dim[o], 1)) return NULL;
    for (int k = 0; k < to->rank; k++)
        if (!taken[k]) out[n++] = (uint8_t)k;
    for (int i = 0; i < from->rank; i++)
        if (where[order[i]] >= 0) out[n++] = (uint8_t)where[order[i]];
    return n == to->rank ? out : NULL;
}

static bool spread_unit(Ctx *c, Map *set, const Node *n) {
    Value *x = n->in[0], *y = n->out[0];
    const uint8_t *ox = x ? map_getp(set, x) : NULL, *oy = map_getp(set, y), *order;
    if (!x || !eligible(x) || !eligible(y) || (ox != NULL) == (oy != NULL)) return false;
    order = ox ? unit_order(c, x, ox, y) : unit_order(c, y, oy, x);
    return order && mark(set, ox ? y : x, order);
}

/* A kernel's gradient: the channels that are innermost in what it is made of, the more numerous ones last. */
static const uint8_t *kernel_order(const Value *dw) {
    static const uint8_t by_out[6][5] = {[3] = {2, 1, 0}, [4] = {2, 3, 1, 0}, [5] = {2, 3, 4, 1, 0}};
    static const uint8_t by_in[6][5] = {[3] = {2, 0, 1}, [4] = {2, 3, 0, 1}, [5] = {2, 3, 4, 0, 1}};
    int64_t out, in;
    bool more_in = is_int(dw->dim[0], &out) && is_int(dw->dim[1], &in) && in > out;
    return more_in ? by_in[dw->rank] : by_out[dw->rank];
}

/* Computed in one nest with a convolution: then it is worth a copy in the caller's order. */
static bool behind_conv(const Value *v, int depth) {
    enum { DEEPEST = 8 };
    const Node *n = v->def;
    if (!n || depth > DEEPEST) return false;
    if (n->op->kind == OP_CONTRACT) return seeds(n) && !(n->op->flags & OF_KERNEL);
    for (int i = 0; n->op->kind == OP_MAP && i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank == v->rank && same_dims(n->in[i], v) && behind_conv(n->in[i], depth + 1)) return true;
    return false;
}

static bool is_dw(const Node *n) { return n->op->flags & OF_KERNEL; }

/* What the gradients of kernels are used for goes on in row-major order: each gets a copy behind it. */
static void turn_gradients(Graph *g) {
    Ctx *c = g->c;
    Map *with = map_new(c);
    VEC(Node *) nodes = {0}, copies = {0};
    int n = g->nodes.n;
    for (int i = 0; i < n; i++) {
        Node *dw = g->nodes.v[i];
        vec_push(c, &nodes, dw);
        if (!is_dw(dw) || !dw->out[0]->order) continue;
        g->label = dw->label;
        Value *turned = make(g, "copy", dw->out[0]);
        map_putp(with, dw->out[0], turned);
        vec_push(c, &nodes, turned->def);
        vec_push(c, &copies, turned->def);
    }
    if (!copies.n) return;
    g->label = NULL;
    memcpy(g->nodes.v, nodes.v, (size_t)nodes.n * sizeof *nodes.v);
    graph_replace(g, with);
    for (int i = 0, k = 0; i < nodes.n; i++) /* the copies themselves read the gradient */
        if (k < copies.n && nodes.v[i] == copies.v[k]) copies.v[k++]->in[0] = nodes.v[i - 1]->out[0];
}

static void layout(Graph *g) {
    static const uint8_t channels_last[6][5] = {[3] = {0, 2, 1}, [4] = {0, 2, 3, 1}, [5] = {0, 2, 3, 4, 1}};
    Map *set = map_new(g->c);
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nregions; k++) layout(n->region[k]);
        if (!n->nout || n->out[0]->rank < 3 || n->out[0]->rank > 5 || !seeds(n)) continue;
        bool dw = is_dw(n);
        mark(set, n->in[0], channels_last[n->in[0]->rank]);
        if (dw) mark(set, n->in[1], channels_last[n->in[1]->rank]);
        if (!dw) mark(set, n->out[0], channels_last[n->out[0]->rank]);
    }
    for (bool grew = true; grew;) {
        grew = false;
        for (int i = 0; i < g->nodes.n; i++) {
            Node *n = g->nodes.v[i];
            if (n->nout != 1) continue;
            if (axiswise(n)) grew |= spread(set, n);
            else if (n->op->flags & OF_SAME_DATA) grew |= spread_unit(g->c, set, n);
        }
    }
    for (int i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.v[i]->nout; k++) {
            Value *v = g->nodes.v[i]->out[k];
            const uint8_t *order = is_dw(g->nodes.v[i]) && v->rank >= 3 && v->rank <= 5 ? kernel_order(v) : map_getp(set, v);
            if (order) v->order = order;
        }
    turn_gradients(g);
    for (int i = 0; i < g->out.n; i++)
        if (!behind_conv(g->out.v[i], 0)) g->out.v[i]->order = NULL;
}

void pass_layout(Graph *g, const PassOptions *o) {
    (void)o;
    layout(g);
}
