/* What grad functions of op rows use: see grad.h. */
#include "grad.h"

bool grad_wanted(const Grad *G, const Value *v) { return v && map_getp(G->wanted, v); }

Value *grad_sum_to(Grad *G, Value *dv, const Value *like) {
    int64_t axes[MAX_RANK];
    int n = 0, extra = dv->rank - like->rank;
    for (int i = 0; i < dv->rank; i++) {
        bool added = i < extra;
        if (added || (is_value(like->dim[i - extra], 1) && !is_value(dv->dim[i], 1))) axes[n++] = i;
    }
    if (n) {
        Node *sum = node_begin(G->g, "reduce_sum");
        node_input(sum, dv);
        node_ints(sum, "axes", n, axes);
        node_int(sum, "keepdims", 1);
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
