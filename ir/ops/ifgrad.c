/* The gradient of `if`: a second choice by the same condition, whose branches do theirs again and go back through it.

     y = if c then f(a) else h(a)      becomes      da = if c then vjp of f else vjp of h

   Every captured value that is wanted and that either branch passes something to is an output; the branch that does not gives zeros. Branches
   are fewer than the graph's: it ends. */
#include "build.h"
#include "grad.h"
#include "loops.h"

static void back_through(const Grad *G, Node *n, int r, Value *const *dy, const ValueList *captures, Graph *b, Value **d) {
    Ctx *c = G->g->c;
    Graph *branch = n->region[r];
    Map *with = map_new(c);
    Grad in = {b, map_new(c), map_new(c), NULL};
    for (int i = 0; i < captures->n; i++)
        if (grad_wanted(G, captures->v[i])) map_putp(in.wanted, captures->v[i], b);
    graph_copy_nodes(b, branch, with, map_new(c));
    int copied = b->nodes.n;
    grad_want(&in, b, 0, copied);
    for (int i = 0; i < n->nout; i++) {
        Value *y = map_getp(with, branch->out.v[i]);
        if (!y) y = branch->out.v[i];
        if (dy[i] && grad_wanted(&in, y)) grad_add(&in, y, build_reshape(b, dy[i], y->rank, y->dim));
    }
    grad_sweep(&in, 0, copied);
    for (int i = 0; i < captures->n; i++) d[i] = map_getp(in.adjoint, captures->v[i]);
}

void if_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g, **region = gd_new_array(g->c, Graph *, 2);
    int errors = gd_error_count(g->c);
    ValueList captures = graph_captures(n);
    Value **d[2];
    for (int r = 0; r < 2; r++) {
        region[r] = graph_region(g);
        d[r] = gd_new_array(g->c, Value *, captures.n ? captures.n : 1);
        back_through(G, n, r, dy, &captures, region[r], d[r]);
    }
    if (gd_error_count(g->c) > errors) return;
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < captures.n; i++) {
            Value *v = captures.v[i];
            if (!d[0][i] && !d[1][i]) continue;
            graph_output(region[r], "d", d[r][i] ? build_reshape(region[r], d[r][i], v->rank, v->dim) : grad_filled(region[r], v, 0));
        }
        graph_drop_unused(region[r], 0);
    }
    if (!region[0]->out.n) return;
    Node *node = node_begin(g, "if");
    node_input(node, n->in[0]);
    node_syms(node, "syms", 0, NULL);
    node->region = region;
    node->nregions = 2;
    node->nout = region[0]->out.n;
    node_finish(node);
    for (int i = 0, at = 0; i < captures.n; i++)
        if (d[0][i] || d[1][i]) grad_add(G, captures.v[i], node->out[at++]);
}
