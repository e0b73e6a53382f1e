/* loop and if as ONNX's Loop and If. What a region uses from around it it uses there too; the symbol of the iteration is
   Loop's own counter. */
#include "export.h"
#include "loops.h"

static void one_of_scalar(Export *x, const Var *v, ExportRef *scalar) {
    export_symbol(x, v, export_op(x, "Unsqueeze", I64, scalar, export_list(x, 1, (int64_t[]){0})));
}

void export_loop(Export *x, Node *n) {
    LoopParts p = loop_parts(n);
    ExportRef *trip = p.trip ? export_scalar(x, p.trip) : NULL;
    ExportRef **init = gd_new_array(x->c, ExportRef *, n->nin);
    for (int i = 0; i < n->nin; i++) init[i] = export_in(x, n, i);
    ExportNode *e = export_node(x, "Loop");
    export_arg(x, e, trip);
    for (int i = 0; i < n->nin; i++) export_arg(x, e, init[i]);

    ExportGraph *body = export_open(x);
    one_of_scalar(x, p.iter, export_argument(x, I64, 0));
    ExportRef *on = export_argument(x, BOOL, 0);
    for (int i = 0; i < p.carried; i++) {
        Value *v = p.body->in.v[i];
        ExportRef *r = export_argument(x, v->dt, v->rank);
        map_putp(x->values, v, r);
        export_sizes(x, v, r);
    }
    export_nodes(x, p.body);
    if (!p.cond) export_yield(x, on);
    for (int i = 0; i < p.body->out.n; i++) export_yield(x, export_value(x, p.body->out.v[i]));
    export_close(x);
    export_subgraph(x, e, "body", body);
    for (int i = 0; i < n->nout; i++) export_out(x, n, i, export_result(x, e, n->out[i]->dt));
}

void export_if(Export *x, Node *n) {
    ExportRef *cond = export_in(x, n, 0);
    ExportNode *e = export_node(x, "If");
    export_arg(x, e, cond);
    for (int branch = 0; branch < 2; branch++) {
        ExportGraph *g = export_open(x);
        export_nodes(x, n->region[branch]);
        for (int i = 0; i < n->nout; i++) export_yield(x, export_value(x, n->region[branch]->out.v[i]));
        export_close(x);
        export_subgraph(x, e, branch ? "else_branch" : "then_branch", g);
    }
    for (int i = 0; i < n->nout; i++) export_out(x, n, i, export_result(x, e, n->out[i]->dt));
}
