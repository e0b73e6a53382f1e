/* grad: appends the gradient of an output to the graph, in reverse mode from the op rows' derivatives.

   Needs: a graph of rows that have a gradient wherever something asked for depends on them; the rest is E404, all of them at
   once. Promises: one more output for each value asked for, d_NAME, of its shape; it is made of ordinary nodes, so it
   is folded, fused, printed and differentiated again like everything else. Nodes are visited once, last to first: it ends.

   Where several paths meet, the cotangents are added in the order of the nodes from the last to the first.

     y = mul a, b    becomes, for a    y = mul a, b; da = mul dy, b */
#include "grad.h"
#include "import.h"
#include "passes.h"

static bool differentiable(const Value *v) { return v && (dt_float(v->dt) || dt_small(v->dt)); }

/* Values that depend on what the gradient is asked for. */
static void want(Grad *G, int nodes) {
    for (int i = 0; i < nodes; i++) {
        const Node *n = G->g->nodes.v[i];
        bool some = false;
        for (int k = 0; k < n->nin; k++) some |= n->in[k] && grad_wanted(G, n->in[k]);
        if (!some || (n->op->flags & OF_NO_GRAD)) continue;
        for (int k = 0; k < n->nout; k++)
            if (differentiable(n->out[k])) map_putp(G->wanted, n->out[k], n->out[k]);
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
    bool some = false, wanted = false;
    for (int k = 0; k < n->nout; k++) some |= (dy[k] = map_getp(G->adjoint, n->out[k])) != NULL;
    for (int k = 0; k < n->nin; k++) wanted |= grad_wanted(G, n->in[k]);
    if (!some || !wanted || (n->op->flags & OF_NO_GRAD)) return;
    G->g->label = n->label;
    if (n->op->grad) n->op->grad(G, n, dy);
    else if (has_formula(n->op)) map_grad(G, n, dy[0]);
    else node_error(n, 404, "leave it out of what the loss depends on", "%s has no gradient", n->op->name);
}

static Value *filled(Graph *g, const Value *like, double with) {
    Node *n = node_begin(g, "broadcast");
    node_input(n, const_scalar(g, like->dt, with));
    node_dims(n, "dims", like->rank, like->dim);
    return node_finish(n);
}

void graph_grad(Graph *g, Value *loss, int n, Value *const *of, Value **out) {
    Grad G = {g, map_new(g->c), map_new(g->c)};
    int nodes = g->nodes.n;
    for (int i = 0; i < n; i++) map_putp(G.wanted, of[i], of[i]);
    want(&G, nodes);
    map_putp(G.adjoint, loss, filled(g, loss, 1));
    for (int i = nodes - 1; i >= 0; i--) backward(&G, g->nodes.v[i]);
    g->label = NULL;
    for (int i = 0; i < n; i++) {
        out[i] = map_getp(G.adjoint, of[i]);
        if (!out[i]) out[i] = filled(g, of[i], 0);
    }
}

/* ---- the pass: --grad LOSS or LOSS:NAME,NAME ---- */

static Value *named(Graph *g, const char *name, size_t n) {
    for (int i = 0; i < g->in.n; i++)
        if (strlen(g->in_names.v[i]) == n && !memcmp(g->in_names.v[i], name, n)) return g->in.v[i];
    for (int i = 0; i < g->consts.n; i++) {
        const char *label = g->consts.v[i]->label;
        if (label && strlen(label) == n && !memcmp(label, name, n)) return g->consts.v[i];
    }
    return NULL;
}

static Value *loss_named(Graph *g, const char *name, size_t n) {
    for (int i = 0; i < g->out.n; i++)
        if (strlen(g->out_names.v[i]) == n && !memcmp(g->out_names.v[i], name, n)) return g->out.v[i];
    gd_fail(g->c, 601, "name an output of the model", "--grad: there is no output %s", gd_escape(g->c, name, n));
}

void pass_grad(Graph *g, const PassOptions *o) {
    if (!o->grad) return;
    size_t n = strcspn(o->grad, ":");
    Value *loss = loss_named(g, o->grad, n);
    VEC(Value *) of = {0};
    VEC(const char *) names = {0};
    for (const char *s = o->grad + n; *s;) {
        size_t len = strcspn(++s, ",");
        Value *v = named(g, s, len);
        const char *name = gd_escape(g->c, s, len);
        if (!v || !differentiable(v)) gd_fail(g->c, 601, "name inputs or weights", "--grad: there is no float value %s", name);
        vec_push(g->c, &of, v);
        vec_push(g->c, &names, name);
        s += len;
    }
    for (int i = 0; i < g->in.n && !o->grad[n]; i++)
        if (differentiable(g->in.v[i])) {
            vec_push(g->c, &of, g->in.v[i]);
            vec_push(g->c, &names, g->in_names.v[i]);
        }
    if (!differentiable(loss)) gd_fail(g->c, 404, NULL, "--grad: output %.*s is not of floats", (int)n, o->grad);
    Value **d = gd_new_array(g->c, Value *, of.n ? of.n : 1);
    graph_grad(g, loss, of.n, of.v, d);
    if (gd_error_count(g->c)) gd_leave(g->c);
    for (int i = 0; i < of.n; i++) graph_output(g, gd_format(g->c, "d_%s", names.v[i]), d[i]);
}
