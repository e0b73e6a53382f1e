/* What an op row's grad function gets: see passes/grad.c, which calls it. */
#ifndef GD_GRAD_H
#define GD_GRAD_H
#include "op.h"

struct Grad {
    Graph *g;      /* nodes are made at its end */
    Map *adjoint;  /* Value -> Value: the cotangent so far */
    Map *wanted;   /* values whose cotangent is needed */
};
bool grad_wanted(const Grad *G, const Value *v); /* float, and something differentiable depends on it */
void grad_add(Grad *G, Value *v, Value *dv);     /* adds to v's cotangent; dv has v's shape. dv NULL: nothing */
Value *grad_sum_to(Grad *G, Value *dv, const Value *like); /* undoes broadcasting */
/* The gradient of the sum of loss's elements with respect to n values (float): nodes at g's end, out[i] of of[i]'s shape. Rows without a
   gradient on the way are errors (E404), all at once. passes/grad.c */
void graph_grad(Graph *g, Value *loss, int n, Value *const *of, Value **out);
#endif
