/* What grad functions of op rows use: see grad.h. */
#include "grad.h"

bool grad_wanted(const Grad *G, const Value *v) { return v && map_getp(G->wanted, v); }

/* Along an axis whose size may turn out to be 1 the sum is taken if it does: then the axes are a mask. */
Value *grad_sum_to(Grad *G, Value *dv, const Value *like) {
    Ctx *c = G->g->c;
    int64_t axes[MAX_RANK];
    Expr *mask[MAX_RANK], *one = expr_int(c, 1), *zero = expr_int(c, 0);
    int n = 0, extra = dv->rank - like->rank;
    bool known = true;
    for (int i = 0; i < dv->rank; i++) {
        Expr *d = i < extra ? one : like->dim[i - extra];
        mask[i] = d == dv->dim[i] ? zero : expr_select(c, expr2(c, E_EQ, d, one), one, zero);
        known = known && is_const(mask[i]);
        if (is_value(mask[i], 1)) axes[n++] = i;
    }
    if (n || !known) {
        Node *sum = node_begin(G->g, "reduce_sum");
        node_input(sum, dv);
        node_ints(sum, "axes", known ? n : 0, axes);
        node_int(sum, "keepdims", 1);
        if (!known) node_dims(sum, "mask", dv->rank, mask);
        dv = node_finish(sum);
    }
    if (dv->rank == like->rank) return dv;
    Node *shape = node_begin(G->g, "reshape");
    node_input(shape, dv);
    node_dims(shape, "dims", like->rank, like->dim);
    return node_finish(shape);
}

void grad_add(Grad *G, Value *v, Value *dv) {
    if (!dv || !grad_wanted(G, v)) return;
    Value *so_far = map_getp(G->adjoint, v);
    map_putp(G->adjoint, v, so_far ? make(G->g, "add", so_far, dv) : dv);
}
