/* order: the next value of a state is computed as soon as nothing needs the old one any more.

   Needs: nodes in order, and which values get memory.
   Promises: the same nodes, in an order in which inputs still come first. Updates are nodes from which only next values of
   states follow, by views and element by element: an optimizer's arithmetic and the gradient it begins with. They stand at the
   end of a training step, so every gradient would live until then. Each moves up to right behind the last node that it reads
   from, and what computes a next value behind the last that reads the old one: the storage of the two can be one (`elide`). All
   other nodes stay in their order. Every node is placed once, so it ends.

     da, db = ..                        da = ..
     a' = a - da             ->         a' = a - da
     b' = b - db                        db = ..
                                        b' = b - db */
#include "passes.h"
#include "op.h"
#include "grad.h"
#include "train.h"

typedef struct Item {
    Node *node;
    bool update, called; /* called: somebody who is placed places it */
    int waits;         /* for so many nodes that are not placed yet */
    VEC(int) waiting;  /* nodes that wait for this one */
} Item;

typedef VEC(int) Readers;

typedef struct Order {
    Graph *g;
    Item *item;
    Map *at;           /* Node -> its number, plus 1 */
    VEC(Node *) placed;
} Order;

static int number_of(const Order *o, const Node *n) { return (int)(size_t)map_getp(o->at, n) - 1; }

/* What n reads: its inputs, and what its regions see of the graph around. */
static ValueList reads_of(Graph *g, Node *n) {
    ValueList all = {0};
    for (int i = 0; i < n->nin; i++)
        if (n->in[i]) vec_push(g->c, &all, n->in[i]);
    if (!n->nregions) return all;
    ValueList seen = graph_captures(n);
    for (int i = 0; i < seen.n; i++) vec_push(g->c, &all, seen.v[i]);
    return all;
}

static void wait_for(Order *o, int node, int other) {
    if (node == other) return;
    vec_push(o->g->c, &o->item[other].waiting, node);
    o->item[node].waits++;
}

static bool element_by_element(const Node *n) { return n->op->kind == OP_MAP || n->op->kind == OP_VIEW; }

/* No update: needed by an output that is no next value, by an effect, for sizes, or by what does more than elements. */
static void mark_updates(Order *o, const ValueList *reads) {
    Graph *g = o->g;
    Map *needed = map_new(g->c), *next = map_new(g->c);
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->out >= 0) map_putp(next, g->out.v[g->states.v[i]->out], g);
    for (int i = 0; i < g->out.n; i++)
        if (!map_getp(next, g->out.v[i])) map_putp(needed, g->out.v[i], g);
    for (int i = g->nodes.n - 1; i >= 0; i--) {
        Node *n = g->nodes.v[i];
        bool update = !n->nregions && !(n->op->flags & OF_EFFECT);
        for (int k = 0; k < MAX_ATTRS; k++) update = update && n->attr[k].kind != AT_SYMS;
        for (int k = 0; k < n->nout; k++) update = update && !map_getp(needed, n->out[k]);
        o->item[i].update = update;
        for (int k = 0; k < reads[i].n && !(update && element_by_element(n)); k++) map_putp(needed, reads[i].v[k], g);
    }
}

/* Node n comes behind all that read v, also by way of what has no memory of its own and is computed where it is used. */
static void wait_for_readers(Order *o, int n, Value *v, const Map *readers) {
    ValueList open = {0};
    Map *seen = map_new(o->g->c);
    vec_push(o->g->c, &open, v);
    while (open.n) {
        const Readers *r = map_getp(readers, open.v[--open.n]);
        for (int k = 0; r && k < r->n; k++) {
            Node *by = o->item[r->v[k]].node;
            if (o->item[r->v[k]].update || map_getp(seen, by)) continue;
            map_putp(seen, by, by);
            wait_for(o, n, r->v[k]);
            for (int i = 0; i < by->nout; i++)
                if (by->out[i]->place != PL_ROOT) vec_push(o->g->c, &open, by->out[i]);
        }
    }
}

/* The node that makes a state's next value comes behind all that read the old one. */
static void guard_states(Order *o, const ValueList *reads) {
    Graph *g = o->g;
    Map *readers = map_new(g->c); /* Value -> Readers */
    for (int i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < reads[i].n; k++) {
            Readers *r = map_getp(readers, reads[i].v[k]);
            if (!r) map_putp(readers, reads[i].v[k], r = gd_new(g->c, Readers));
            vec_push(g->c, r, i);
        }
    for (int i = 0; i < g->states.n; i++) {
        const StateVar *s = g->states.v[i];
        const Node *def = s->out >= 0 ? g->out.v[s->out]->def : NULL;
        int n = def ? number_of(o, def) : -1;
        if (n >= 0 && o->item[n].update) wait_for_readers(o, n, g->in.v[s->in], readers);
    }
}

/* Places a node, then the updates that waited only for it. */
static void place(Order *o, int i) {
    VEC(int) stack = {0};
    vec_push(o->g->c, &stack, i);
    while (stack.n) {
        Item *t = &o->item[stack.v[--stack.n]];
        vec_push(o->g->c, &o->placed, t->node);
        for (int k = t->waiting.n - 1; k >= 0; k--) {
            int w = t->waiting.v[k];
            if (--o->item[w].waits == 0 && o->item[w].called) vec_push(o->g->c, &stack, w);
        }
    }
}

void pass_order(Graph *g, const PassOptions *options) {
    (void)options;
    if (!g->states.n) return;
    Order o = {g, gd_new_array(g->c, Item, g->nodes.n ? g->nodes.n : 1), map_new(g->c), {0}};
    ValueList *reads = gd_new_array(g->c, ValueList, g->nodes.n ? g->nodes.n : 1);
    for (int i = 0; i < g->nodes.n; i++) {
        o.item[i].node = g->nodes.v[i];
        map_putp(o.at, g->nodes.v[i], (void *)(size_t)(i + 1));
        reads[i] = reads_of(g, g->nodes.v[i]);
        for (int k = 0; k < reads[i].n; k++)
            if (reads[i].v[k]->def) {
                int from = number_of(&o, reads[i].v[k]->def);
                if (from >= 0) wait_for(&o, i, from);
            }
    }
    mark_updates(&o, reads);
    guard_states(&o, reads);
    for (int i = 0; i < g->nodes.n; i++) o.item[i].called = o.item[i].update && o.item[i].waits;
    for (int first = 1; first >= 0; first--) /* updates that read nothing but inputs begin: others wait for them */
        for (int i = 0; i < g->nodes.n; i++)
            if (!o.item[i].called && o.item[i].update == first) place(&o, i);
    if (o.placed.n != g->nodes.n) gd_bug(g->c, "order: %d of %d nodes have a place", o.placed.n, g->nodes.n);
    g->nodes.n = 0;
    for (int i = 0; i < o.placed.n; i++) vec_push(g->c, &g->nodes, o.placed.v[i]);
}
