/* The row sample: what interpolation reads. Indices outside the input are moved to its edge, so that a
   program never reads elsewhere; who wants something else there selects it. */
#include "sample.h"
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"

/* Dim i of the output as the index tensors make it. */
static Expr *index_dim(Node *n, int i) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    Expr *dim = expr_int(c, 1);
    for (int k = 1; k < n->nin; k++) {
        int at = i - (x->rank - n->in[k]->rank);
        if (at < 0 || is_value(n->in[k]->dim[at], 1)) continue;
        dim = is_value(dim, 1) ? n->in[k]->dim[at]
                               : node_same_dim(n, dim, n->in[k]->dim[at], "index tensors differ in size");
    }
    return dim;
}

static void sample_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0];
    const Attr *axes = node_attr(n, "axes");
    Expr *dim[MAX_RANK];
    bool indexed[MAX_RANK] = {false};
    bool fits = axes->n == n->nin - 1;
    for (int k = 1; k < n->nin; k++) fits = fits && n->in[k]->rank <= x->rank && n->in[k]->dt == I64;
    for (int k = 0; fits && k < axes->n; k++) {
        fits = axes->ints[k] >= 0 && axes->ints[k] < x->rank && !indexed[axes->ints[k]];
        if (fits) indexed[axes->ints[k]] = true;
    }
    if (!fits) {
        node_error(n, 301, NULL, "an index tensor of i64 is needed for each axis, and no axis twice");
        return;
    }
    for (int i = 0; i < x->rank; i++) {
        Expr *d = index_dim(n, i);
        if (indexed[i])
            node_require(n, expr2(c, E_LT, expr_int(c, 0), x->dim[i]),
                         "an axis without elements cannot be sampled");
        dim[i] = indexed[i] ? d
                 : is_value(d, 1)
                     ? x->dim[i]
                     : node_same_dim(n, x->dim[i], d, "index tensors differ from the input in size");
    }
    node_out(n, 0, x->dt, x->rank, dim);
}

static Expr *sample_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *x = n->in[0];
    const Attr *axes = node_attr(n, "axes");
    Expr *at[MAX_RANK], *zero = expr_int(c, 0), *one = expr_int(c, 1);
    for (int i = 0; i < x->rank; i++) at[i] = idx[i];
    for (int k = 0; k < axes->n; k++) {
        Expr *e = lower_broadcast(L, n->in[k + 1], n->out[0]->rank, n->out[0]->dim, idx);
        Expr *last = expr_sub(c, x->dim[axes->ints[k]], one);
        at[axes->ints[k]] = expr2(c, E_MAX, expr2(c, E_MIN, e, last), zero);
    }
    return lower_elem(L, n->in[0], at);
}

static bool sample_rereads(const Node *n, int i) {
    (void)n;
    return i == 0;
}

/* The index tensor of axis k, of the output's shape and inside x. */
static Value *whole_index(Graph *g, const Node *n, int k) {
    const Value *x = n->in[0], *y = n->out[0];
    Expr *size = x->dim[node_attr(n, "axes")->ints[k]];
    Value *last = build_scalar(g, I64, expr_sub(g->c, size, expr_int(g->c, 1)));
    Value *inside = make(g, "max", make(g, "min", n->in[k + 1], last), const_scalar(g, I64, 0));
    return build_broadcast(g, inside, y->rank, y->dim);
}

/* Each element of dy is added where its element of x came from. */
static void sample_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    const Attr *axes = node_attr(n, "axes");
    Value *x = n->in[0], *y = n->out[0], *at[MAX_RANK];
    bool single = axes->n == 1;
    for (int i = 0; i < x->rank; i++) at[i] = single ? NULL : build_iota(g, I64, y->rank, y->dim, i);
    for (int k = 0; k < axes->n; k++) at[axes->ints[k]] = whole_index(g, n, k);
    for (int i = 0; i < x->rank && !single; i++) at[i] = build_unsqueeze(g, at[i], y->rank);
    Node *m = node_begin(g, single ? "scatter_elements" : "scatter_nd");
    node_input(m, build_broadcast(g, const_scalar(g, x->dt, 0), x->rank, x->dim));
    node_input(m, single ? at[axes->ints[0]] : build_concat(g, x->rank, at, y->rank));
    node_input(m, dy[0]);
    if (single) node_int(m, "axis", axes->ints[0]);
    node_string(m, "reduction", "add");
    grad_add(G, x, node_finish(m));
}

Value *build_sample(Graph *g, Value *x, int count, const int64_t *axes, Value *const *index) {
    Node *n = node_begin(g, "sample");
    node_input(n, x);
    for (int i = 0; i < count; i++) node_input(n, index[i]);
    node_ints(n, "axes", count, axes);
    return node_finish(n);
}

/* GatherND with a tuple for each element of the output: indices where there are some, else the element's own. */
static void export_sample(Export *x, Node *n) {
    Ctx *c = x->c;
    const Value *v = n->in[0], *y = n->out[0];
    const Attr *axes = node_attr(n, "axes");
    ExportRef *shape = export_dims(x, y->rank, y->dim), *last = export_list(x, 1, (int64_t[]){y->rank}), *at[MAX_RANK];
    for (int i = 0; i < v->rank; i++) {
        int k = 0;
        while (k < axes->n && axes->ints[k] != i) k++;
        if (k < axes->n) {
            ExportRef *top = export_scalar(x, expr_sub(c, v->dim[i], expr_int(c, 1)));
            at[i] = export_op(x, "Clip", I64, export_in(x, n, k + 1), export_number(x, I64, 0), top);
        } else {
            Expr *line[MAX_RANK];
            for (int a = 0; a < v->rank; a++) line[a] = a == i ? v->dim[i] : expr_int(c, 1);
            ExportRef *end = export_scalar(x, v->dim[i]);
            at[i] = export_reshape(x, export_op(x, "Range", I64, export_number(x, I64, 0), end, export_number(x, I64, 1)), v->rank, line);
        }
        at[i] = export_op(x, "Unsqueeze", I64, export_op(x, "Expand", I64, at[i], shape), last);
    }
    ExportNode *cat = export_node(x, "Concat");
    for (int i = 0; i < v->rank; i++) export_arg(x, cat, at[i]);
    export_int(x, cat, "axis", -1);
    export_out(x, n, 0, export_op(x, "GatherND", y->dt, export_in(x, n, 0), export_result(x, cat, I64)));
}

const Op gd_ops_sample[] = {
    {.name = "sample",
     .kind = OP_GATHER,
     .in = "x index*",
     .out = "y",
     .attrs = {{"axes", AT_INTS, 0, true}},
     .shape = sample_shape,
     .elem = sample_elem,
     .rereads = sample_rereads,
     .grad = sample_grad,
     .export = export_sample,
     .doc = "x where the index tensors, one an axis and broadcast over the output, say; indices outside are "
            "moved to the edge."},
};
const int gd_ops_sample_n = sizeof gd_ops_sample / sizeof *gd_ops_sample;
