/* grad: appends the gradient of an output to the graph, in reverse mode: ir/grad.c does it.

   Needs: a graph of rows that have a gradient wherever something asked for depends on them; the rest is E404, all of them at
   once. Promises: one more output for each value asked for, d_NAME, of its shape. Nodes are visited once, last to first: it
   ends.

     y = mul a, b    becomes, for a    y = mul a, b; da = mul dy, b */
#include "grad.h"
#include "import.h"
#include "passes.h"

/* --grad LOSS or LOSS:NAME,NAME */

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
        if (!v || !grad_float(v)) gd_fail(g->c, 601, "name inputs or weights", "--grad: there is no float value %s", name);
        vec_push(g->c, &of, v);
        vec_push(g->c, &names, name);
        s += len;
    }
    for (int i = 0; i < g->in.n && !o->grad[n]; i++)
        if (grad_float(g->in.v[i])) {
            vec_push(g->c, &of, g->in.v[i]);
            vec_push(g->c, &names, g->in_names.v[i]);
        }
    if (!grad_float(loss)) gd_fail(g->c, 404, NULL, "--grad: output %.*s is not of floats", (int)n, o->grad);
    Value **d = gd_new_array(g->c, Value *, of.n ? of.n : 1);
    graph_grad(g, loss, of.n, of.v, d);
    if (gd_error_count(g->c)) gd_leave(g->c);
    for (int i = 0; i < of.n; i++) graph_output(g, gd_format(g->c, "d_%s", names.v[i]), d[i]);
}
