/* Loops made by hand, as recurrent layers do. */
#ifndef GD_LOOPS_H
#define GD_LOOPS_H
#include "op.h"

/* The symbol of the number of the iteration, for expressions in the region. */
Var *loop_iteration(Graph *g, Expr *trip);
/* body (graph_region of g) has one input for each carried value and outputs next carried values, then elements of scans.
   The node's outputs are the carried values behind the loop, then the scans with a new first axis of trip elements. */
Node *make_loop(Graph *g, Graph *body, int carried, Value *const *init, int scans, Expr *trip, Var *iter);
/* Argument arg of a region becomes a value that make_value makes at the region's start. */
void loop_argument(Graph *body, int arg, Value *(*make_value)(Graph *, void *), void *data);
#endif
