/* A graph of doubles in place of one of smaller floats: what gradients are compared with differences on, since differences
   of f32 have no digits left. See grad.h.

   All floats become f64: values, constants, what casts make. So what had one type has one type still. Rounding to f16,
   bf16 or f8 is gone; integers, truth values and what is computed from them stay. Known elements of floats are forgotten:
   they were expressions of the old type. What looks at the bits of a float cannot be widened (E402, all at once).
   Every value is visited once: it ends. */
#include "grad.h"

static bool narrow(DType dt) { return dt == F32 || dt_small(dt); }

static int64_t count_of(const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    if (!value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++) n *= dims[i];
    return n;
}

static void widen_value(Ctx *c, Map *seen, Value *v) {
    if (!v || map_getp(seen, v)) return;
    map_putp(seen, v, v);
    if (!narrow(v->dt)) return;
    if (v->data) {
        int64_t n = count_of(v), size = gd_dtypes[v->dt].bytes;
        double *wide = gd_alloc_aligned(c, (size_t)(n > 0 ? n : 1) * sizeof *wide);
        for (int64_t i = 0; i < n; i++)
            wide[i] = gd_to_double(v->dt, gd_load_bits(v->dt, (const char *)v->data + i * size));
        v->data = wide;
    }
    v->elems = NULL;
    v->dt = F64;
}

static void widen_node(Map *seen, Node *n) {
    Ctx *c = n->graph->c;
    bool bits = n->op == op_named("bitcast");
    for (int i = 0; i < n->nin; i++) widen_value(c, seen, n->in[i]);
    for (int i = 0; i < n->nout; i++) {
        if (bits && (narrow(n->out[i]->dt) || grad_float(n->in[0])))
            node_error(n, 402, "leave it out of the model that is compared",
                       "%s looks at the bits of a float: it has no meaning in double", n->op->name);
        widen_value(c, seen, n->out[i]);
    }
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++) {
        Attr *a = &n->attr[i];
        if (a->kind == AT_DTYPE && narrow((DType)a->i)) a->i = F64;
        for (int k = 0; a->kind == AT_DIMS && k < a->n; k++) /* of `exprs`: sizes as floats */
            if (narrow(a->dims[k]->type.dt)) a->dims[k] = expr_cast(c, a->dims[k], F64);
    }
}

static void widen(Map *seen, Graph *g) {
    for (int i = 0; i < g->in.n; i++) widen_value(g->c, seen, g->in.v[i]);
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nregions; k++) widen(seen, n->region[k]);
        widen_node(seen, n);
    }
    for (int i = 0; i < g->out.n; i++) widen_value(g->c, seen, g->out.v[i]);
}

void graph_widen(Graph *g) {
    Map *seen = map_new(g->c);
    for (int i = 0; i < g->consts.n; i++) widen_value(g->c, seen, g->consts.v[i]);
    widen(seen, g);
}
