/* Where gradients end: what stands between a loss and the values it depends on. See grad.h.

   A float value has a way when some chain of nodes carries its gradient to the loss. A node is in the way when the loss
   needs it, it takes a value that depends on one of those asked for that has no way at all, and passes nothing on to it:
   argmax, a cast to integers, round. A comparison beside a way (x where x > 0) is in nobody's way, nor is the
   rounding of a scale beside what is scaled. In a region every output of floats counts as needed by the loss. Every node is
   visited three times: it ends. */
#include "grad.h"
#include "ops/build.h"
#include "train.h"

typedef struct Paths {
    Ctx *c;
    Map *depends; /* by data, on what was asked for and has no way */
    Map *needed;  /* by the loss, by data */
    Map *way;     /* carries a gradient */
} Paths;

static void mark(Map *m, const Value *v) {
    if (v) map_putp(m, v, m);
}

/* ---- data ---- */

static void follow_data(Paths *k, const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        bool some = false;
        for (int j = 0; j < n->nin; j++) some |= n->in[j] && map_getp(k->depends, n->in[j]);
        if (n->nregions) {
            ValueList seen = graph_captures(n);
            for (int j = 0; j < seen.n; j++) some |= map_getp(k->depends, seen.v[j]) != NULL;
        }
        for (int r = 0; r < n->nregions; r++) {
            for (int j = 0; some && j < n->region[r]->in.n; j++) mark(k->depends, n->region[r]->in.v[j]);
            follow_data(k, n->region[r]);
        }
        for (int j = 0; some && j < n->nout; j++) mark(k->depends, n->out[j]);
    }
}

/* ---- ways ---- */

static bool passes(const Node *n, int i) {
    if (!grad_float(n->in[i]) || (n->op->flags & OF_NO_GRAD)) return false;
    bool any = false;
    for (int j = 0; j < n->nout; j++) any |= grad_float(n->out[j]);
    if (!any || n->op->grad) return any;
    return i < 4 && n->op->vjp[i] && strcmp(n->op->vjp[i], "0");
}

static void follow_back(Paths *k, const Graph *g) {
    for (int i = g->nodes.n - 1; i >= 0; i--) {
        Node *n = g->nodes.v[i];
        bool needed = false, way = false;
        for (int j = 0; j < n->nout; j++) {
            needed |= map_getp(k->needed, n->out[j]) != NULL;
            way |= map_getp(k->way, n->out[j]) != NULL;
        }
        for (int j = 0; needed && j < n->nin; j++) mark(k->needed, n->in[j]);
        for (int j = 0; way && j < n->nin; j++)
            if (n->in[j] && passes(n, j)) mark(k->way, n->in[j]);
        for (int r = 0; needed && r < n->nregions; r++) {
            const Graph *body = n->region[r];
            for (int j = 0; j < body->out.n; j++) {
                mark(k->needed, body->out.v[j]);
                if (way && n->op->grad && grad_float(body->out.v[j])) mark(k->way, body->out.v[j]);
            }
            follow_back(k, body);
        }
    }
}

/* ---- what is in the way ---- */

static void report(const Node *n) {
    const Value *y = n->nout ? n->out[0] : NULL;
    if (!y || y->sequence) node_error(n, 404, "leave it out of what the loss depends on", "%s passes no gradient", n->op->name);
    else if (y->dt == BOOL)
        node_error(n, 404, "a smooth step in its place: sigmoid((a - b) / width)",
                   "%s passes no gradient: its answer is true or false", n->op->name);
    else if (!grad_float(y))
        node_error(n, 404, "stay with floats: in place of the largest's position, softmax and a weighted sum",
                   "%s passes no gradient: its answer is whole numbers", n->op->name);
    else
        node_error(n, 404, "a smooth function in its place (tanh for a sign), or round what was trained",
                   "%s passes no gradient: its derivative is zero wherever there is one", n->op->name);
}

static void look(Paths *k, const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        bool needed = false, cut = false;
        for (int j = 0; j < n->nout; j++) needed |= map_getp(k->needed, n->out[j]) != NULL;
        if (!needed) continue;
        for (int j = 0; j < n->nin; j++)
            cut |= grad_float(n->in[j]) && map_getp(k->depends, n->in[j]) && !map_getp(k->way, n->in[j]) && !passes(n, j);
        if (cut) report(n);
        for (int r = 0; r < n->nregions; r++) look(k, n->region[r]);
    }
}

static const char *name_of(const Graph *g, const Value *v) {
    for (int i = 0; i < g->in.n; i++)
        if (g->in.v[i] == v) return g->in_names.v[i];
    return v->label ? v->label : "a value";
}

void grad_path(Graph *g, Value *loss, int n, Value *const *of, GradNotes *notes) {
    Paths k = {g->c, map_new(g->c), map_new(g->c), map_new(g->c)};
    mark(k.needed, loss);
    if (grad_float(loss)) mark(k.way, loss);
    follow_back(&k, g);
    for (int i = 0; i < n; i++)
        if (!map_getp(k.way, of[i])) mark(k.depends, of[i]);
    follow_data(&k, g);
    look(&k, g);
    for (int i = 0; notes && i < n; i++) {
        if (map_getp(k.needed, of[i])) continue;
        const char *note = gd_format(g->c, "%s: the loss does not depend on it", name_of(g, of[i]));
        vec_push(g->c, notes, note);
    }
}
