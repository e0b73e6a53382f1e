/* checks: a condition that the program has checked already is not checked again.

   Needs: nothing. Promises: every condition of the graph is checked at its first place. A check inside a region only
   counts there: the region may not run. Nodes are visited once: it ends.

     check N == M; check N == M    becomes    check N == M */
#include "op.h"
#include "passes.h"

typedef struct Seen { const struct Seen *outer; Map *conditions; } Seen;

static bool seen(const Seen *s, const Expr *cond) {
    for (; s; s = s->outer)
        if (map_getp(s->conditions, cond)) return true;
    return false;
}

static void checks(Graph *g, const Seen *outer) {
    Seen here = {outer, map_new(g->c)};
    int kept = 0;
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        int at = op_attr(n->op, "cond");
        bool check = (n->op->flags & OF_EFFECT) && !n->nout && at >= 0 && n->attr[at].kind == AT_DIM;
        if (check && seen(&here, n->attr[at].dim)) continue;
        if (check) map_putp(here.conditions, n->attr[at].dim, n);
        for (int k = 0; k < n->nregions; k++) checks(n->region[k], &here);
        g->nodes.v[kept++] = n;
    }
    g->nodes.n = kept;
}

void pass_checks(Graph *g, const PassOptions *o) {
    (void)o;
    checks(g, NULL);
}
