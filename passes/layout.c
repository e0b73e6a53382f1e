/* layout: which axis lies innermost in memory. Around convolutions and pooling that is the channel, so that vectors run
   over channels and the same weights serve neighbouring pixels; everywhere else the order stays row-major.

   Needs: shapes. Promises: only Value.order is set; what is computed does not change, since every access goes through
   strides. Inputs and outputs keep the order their caller knows. The set of values grows until it no longer does: it ends.

     c: f32[N,64,14,14] = conv x, w        becomes    c: f32[N,64,14,14] order=[0,2,3,1] = conv x, w */
#include "op.h"
#include "passes.h"

/* Does the node keep the meaning of axes between its inputs and outputs of the same rank? */
static bool axiswise(const Node *n) { return n->op->kind == OP_MAP || (n->op->flags & OF_AXISWISE); }

static bool seeds(const Node *n) {
    if (n->op->kind == OP_WINDOW) return true;
    return n->op->kind == OP_CONTRACT && n->nin > 1 && n->in[1] && n->out[0]->rank == n->in[0]->rank && op_attr(n->op, "strides") >= 0;
}

/* A value that can take part: made in the graph, with pixels and channels. */
static bool eligible(const Value *v) { return v && v->def && !v->data && v->rank >= 3 && v->rank <= 5 && !v->sequence; }

static bool mark(Map *set, Value *v) {
    if (!eligible(v) || map_getp(set, v)) return false;
    map_putp(set, v, v);
    return true;
}

static bool same_dims(const Value *a, const Value *b) {
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

/* One side of an axiswise node in the set takes the other sides with it. */
static bool spread(Map *set, const Node *n) {
    bool some = false, grew = false;
    const Value *y = n->out[0];
    for (int i = 0; i < n->nin; i++) some |= n->in[i] && n->in[i]->rank == y->rank && map_getp(set, n->in[i]);
    some |= map_getp(set, y) != NULL;
    if (!some) return false;
    grew |= mark(set, n->out[0]);
    for (int i = 0; i < n->nin; i++) {
        Value *v = n->in[i];
        if (v && v->rank == y->rank && (n->op->kind != OP_MAP || same_dims(v, y))) grew |= mark(set, v);
    }
    return grew;
}

static void layout(Graph *g) {
    Map *set = map_new(g->c);
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nregions; k++) layout(n->region[k]);
        if (!seeds(n)) continue;
        mark(set, n->in[0]);
        mark(set, n->out[0]);
    }
    for (bool grew = true; grew;) {
        grew = false;
        for (int i = 0; i < g->nodes.n; i++)
            if (g->nodes.v[i]->nout == 1 && axiswise(g->nodes.v[i])) grew |= spread(set, g->nodes.v[i]);
    }
    static const uint8_t order[6][5] = {[3] = {0, 2, 1}, [4] = {0, 2, 3, 1}, [5] = {0, 2, 3, 4, 1}};
    for (int i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.v[i]->nout; k++) {
            Value *v = g->nodes.v[i]->out[k];
            if (map_getp(set, v)) v->order = order[v->rank];
        }
    for (int i = 0; i < g->out.n; i++) g->out.v[i]->order = NULL;
}

void pass_layout(Graph *g, const PassOptions *o) {
    (void)o;
    layout(g);
}
