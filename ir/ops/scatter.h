/* What a scatter does with updates, and its gradient: gather.c, scattergrad.c. */
#ifndef GD_SCATTER_H
#define GD_SCATTER_H
#include "grad.h"

/* How an update meets what is there: E_SELECT stands for taking its place; false when there is no such word. */
bool scatter_combination(const Node *n, ExprKind *op);
/* Of scatter_elements and scatter_nd alike. */
void scatter_grad(Grad *G, Node *n, Value *const *dy);
#endif
