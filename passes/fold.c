/* fold: what depends on constants only becomes a constant.

   Needs: nodes in order. Small tensors were folded when their nodes were made; this pass is for the others.
   Promises: a node whose inputs are all constants is gone and its outputs are constants, unless it is random,
   has an effect or a region, or its result is much larger than its inputs (a broadcast of one number stays a
   broadcast), or the budget of folded bytes is used up. Values are those the program would compute: the node
   becomes a program of its own, which the interpreter runs. Nodes are visited once, after their inputs, so it
   ends.

     w: f32[64,64] = const                      v: f32[64,64] = const
     v = transpose w {perm=[1,0]}        ->     y = contract x, v
     y = contract x, v */
#include "edit.h"
#include "lower.h"

int64_t value_bytes(Ctx *c, const Value *v) {
    int64_t dims[MAX_RANK], n = gd_dtypes[v->dt].bytes;
    if (v->sequence || v->optional || !value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++) n = gd_mul(c, n, dims[i]);
    return n;
}

/* Values with data are constants even where a node still makes them. */
static Value *constant(Graph *g, const Value *v, const void *data) {
    int64_t dims[MAX_RANK];
    value_static(v, dims);
    Value *k = graph_const(g, v->dt, v->rank, dims, data);
    k->label = v->label;
    return k;
}

/* Do its attributes depend on symbols, or on the variables of a loop around it? */
static bool varies(const Node *n) {
    for (int i = 0; i < MAX_ATTRS; i++) {
        const Attr *a = &n->attr[i];
        if (a->kind == AT_SYMS || (a->kind == AT_DIM && !is_const(a->dim))) return true;
        for (int k = 0; a->kind == AT_DIMS && k < a->n; k++)
            if (!is_const(a->dims[k])) return true;
    }
    return false;
}

static bool foldable(const Node *n) {
    OpKind kind = n->op->kind;
    if (kind == OP_RANDOM || kind == OP_CONTROL || kind == OP_SEQUENCE || (n->op->flags & OF_EFFECT))
        return false;
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && !n->in[i]->data) return false;
    for (int i = 0; i < n->nout; i++)
        if (n->out[i]->dt == STRING) return false;
    return n->nregions == 0 && n->nin > 0 && !varies(n);
}

/* Not much larger than what it is made of. */
static bool worth(const Node *n, size_t *budget) {
    enum { SMALL = 1 << 16, TIMES = 4 };
    Ctx *c = n->graph->c;
    int64_t in = 0, out = 0;
    for (int i = 0; i < n->nin; i++) in = gd_add(c, in, n->in[i] ? value_bytes(c, n->in[i]) : 0);
    for (int i = 0; i < n->nout; i++) {
        int64_t bytes = value_bytes(c, n->out[i]);
        if (bytes < 0) return false;
        out = gd_add(c, out, bytes);
    }
    if (out > SMALL && out / TIMES > in) return false;
    if (budget && (size_t)out > *budget) return false;
    if (budget) *budget -= (size_t)out;
    return true;
}

/* The node alone, as a graph whose outputs have memory; then as a program, in vectors since the interpreter
   is several times faster on them; then run. */
static bool evaluate(Node *n, void **out) {
    Ctx *c = n->graph->c;
    Graph *g = graph_new(c, "fold");
    Node *copy = node_begin(g, n->op->name);
    for (int i = 0; i < n->nin; i++)
        node_input(copy, n->in[i] ? constant(g, n->in[i], n->in[i]->data) : NULL);
    for (int i = 0; i < MAX_ATTRS; i++) copy->attr[i] = n->attr[i];
    copy->nout = n->nout;
    node_finish(copy);
    if (g->nodes.n != 1) return false; /* it needs checks */
    for (int i = 0; i < n->nout; i++) {
        copy->out[i]->place = PL_ROOT;
        graph_output(g, gd_format(c, "y%d", i), copy->out[i]);
    }
    Program *p = lower_graph(g);
    PassOptions wide = {.opt = 1, .machine = {.lanes = 16, .registers = 32, .l1 = 32 << 10, .l2 = 1 << 20}};
    pass_tile(p, &wide);
    pass_vectorize(p, &wide);
    pass_unroll(p, &wide);
    return loop_interpret(c, p, &(LoopArgs){.out = out}) == 0;
}

bool fold_node(Node *n, Map *with, size_t *budget) {
    Graph *g = n->graph;
    bool known = n->nout > 0;
    for (int i = 0; i < n->nout; i++) known = known && n->out[i]->data;
    void **out = gd_new_array(g->c, void *, n->nout ? n->nout : 1);
    if (known)
        for (int i = 0; i < n->nout; i++) out[i] = (void *)n->out[i]->data;
    else {
        if (!foldable(n) || !worth(n, budget)) return false;
        if (n->op->flags & OF_SAME_DATA) out[0] = (void *)n->in[0]->data;
        else if (!evaluate(n, out)) return false;
    }
    for (int i = 0; i < n->nout; i++) map_putp(with, n->out[i], constant(g, n->out[i], out[i]));
    return true;
}

static int fold_graph(Graph *g, Map *with, size_t *budget) {
    int kept = 0, folded = 0;
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nin; k++) {
            Value *to = n->in[k] ? map_getp(with, n->in[k]) : NULL;
            if (to) n->in[k] = to;
        }
        for (int k = 0; k < n->nregions; k++) folded += fold_graph(n->region[k], with, budget);
        if ((n->op->flags & OF_EFFECT) || !fold_node(n, with, budget)) g->nodes.v[kept++] = n;
        gd_check_time(g->c);
    }
    folded += g->nodes.n - kept;
    g->nodes.n = kept;
    for (int i = 0; i < g->out.n; i++) {
        Value *to = map_getp(with, g->out.v[i]);
        if (to) g->out.v[i] = to;
    }
    return folded;
}

/* Folded tensors may decide sizes. */
void pass_fold(Graph *g, const PassOptions *o) {
    size_t budget = gd_budget(g->c)->max_folded;
    if (fold_graph(g, map_new(g->c), &budget)) pass_infer(g, o);
}
