/* dce: nodes, constants and symbols that no output needs are removed.

   Needs: nodes in order, so that going backwards every use is seen before what it uses.
   Promises: what is left is needed by an output of the graph, by a node with an effect (a check), or by the
   size of something needed: a node that defines symbols is kept exactly when one of them is used. Inputs
   stay: they are the interface. The memory of constants that are gone is given back where that is asked for
   (PassOptions.release). One pass over the nodes, so it ends.

     a = relu x                        b = abs x
     b = abs x            ->           output b
     output b */
#include "passes.h"
#include "op.h"

typedef struct Dce {
    Ctx *c;
    Map *values, *syms;
    uint32_t mark;
} Dce; /* what is needed */

static void see_symbol(void *arg, Expr *e) {
    Dce *d = arg;
    if (e->kind == E_VAR) map_putp(d->syms, e->var, e);
}

static void need_expr(Dce *d, Expr *e) {
    if (e) expr_walk(e, d->mark, see_symbol, d);
}

static void need_value(Dce *d, Value *v) {
    if (!v || map_getp(d->values, v)) return;
    map_putp(d->values, v, v);
    for (int i = 0; i < v->rank; i++) need_expr(d, v->dim[i]);
    int64_t n;
    if (v->elems && is_int(value_count(d->c, v), &n))
        for (int64_t i = 0; i < n; i++) need_expr(d, v->elems[i]);
}

static bool needed(const Dce *d, const Node *n) {
    bool defines = false;
    for (int i = 0; i < n->nout; i++)
        if (map_getp(d->values, n->out[i])) return true;
    for (int i = 0; i < MAX_ATTRS; i++) {
        if (n->attr[i].kind != AT_SYMS) continue;
        defines = true;
        for (int k = 0; k < n->attr[i].n; k++)
            if (map_getp(d->syms, n->attr[i].syms[k])) return true;
    }
    return (n->op->flags & OF_EFFECT) && !defines;
}

static bool has_effect(const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        if (n->op->flags & OF_EFFECT) return true;
        for (int k = 0; k < n->nregions; k++)
            if (has_effect(n->region[k])) return true;
    }
    return false;
}

/* Marks and sweeps g from its last node to its first. */
static void sweep(Dce *d, Graph *g) {
    int kept = g->nodes.n;
    for (int i = 0; i < g->out.n; i++) need_value(d, g->out.v[i]);
    for (int i = g->nodes.n - 1; i >= 0; i--) {
        Node *n = g->nodes.v[i];
        bool keep = needed(d, n);
        for (int k = 0; k < n->nregions && !keep; k++) keep = has_effect(n->region[k]);
        if (!keep) continue;
        for (int k = 0; k < n->nout; k++) need_value(d, n->out[k]);
        for (int k = 0; k < n->nin; k++) need_value(d, n->in[k]);
        for (int k = 0; k < MAX_ATTRS; k++) {
            const Attr *a = &n->attr[k];
            if (a->kind == AT_DIM) need_expr(d, a->dim);
            for (int j = 0; a->kind == AT_SYMS && j < a->n; j++) map_putp(d->syms, a->syms[j], n);
            for (int j = 0; a->kind == AT_DIMS && j < a->n; j++) need_expr(d, a->dims[j]);
        }
        for (int k = 0; k < n->nregions; k++) {
            for (int j = 0; j < n->region[k]->in.n; j++) need_value(d, n->region[k]->in.v[j]);
            sweep(d, n->region[k]);
        }
        g->nodes.v[--kept] = n;
    }
    if (kept) memmove(g->nodes.v, g->nodes.v + kept, (size_t)(g->nodes.n - kept) * sizeof *g->nodes.v);
    g->nodes.n -= kept;
}

/* Constants may share their data (a reshape of one): it goes with the last of them. */
static void release_unneeded(Dce *d, Graph *g) {
    Map *kept = map_new(d->c);
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->from) map_putp(kept, g->states.v[i]->from->data, g);
    for (int i = 0; i < map_count(d->values); i++) {
        const Value *v = map_value(d->values, i);
        if (v->data) map_putp(kept, v->data, g);
    }
    for (int i = 0; i < g->consts.n; i++) {
        const void *data = g->consts.v[i]->data;
        if (!map_getp(kept, data)) gd_release(d->c, data);
    }
}

void pass_dce(Graph *g, const PassOptions *o) {
    Dce d = {g->c, map_new(g->c), map_new(g->c), expr_mark(g->c)};
    int n = 0;
    for (int i = 0; i < g->in.n; i++) need_value(&d, g->in.v[i]);
    sweep(&d, g);
    if (o->release) release_unneeded(&d, g);
    for (int i = 0; i < g->consts.n; i++)
        if (map_getp(d.values, g->consts.v[i])) g->consts.v[n++] = g->consts.v[i];
    g->consts.n = n;
    n = 0;
    for (int i = 0; i < g->syms.n; i++) /* those of inputs are part of the interface */
        if (!g->syms.v[i]->data || map_getp(d.syms, g->syms.v[i])) g->syms.v[n++] = g->syms.v[i];
    g->syms.n = n;
}
