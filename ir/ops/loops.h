/* Loops made by hand, as recurrent layers do. */
#ifndef GD_LOOPS_H
#define GD_LOOPS_H
#include "op.h"

/* A loop node taken apart. */
typedef struct LoopParts {
    int carried, scans;
    bool cond;      /* the region's first output says whether to go on */
    Graph *body;
    Expr *trip;     /* most iterations; NULL: as long as the region says */
    const Attr *inner, *syms;
    Var *iter;
} LoopParts;
LoopParts loop_parts(const Node *n);
Expr *loop_count(Ctx *c, const LoopParts *p);         /* iterations that ran, for those behind the loop */
bool loop_local_dim(const LoopParts *p, Expr *e);     /* does it depend on what only one iteration knows? */

/* The symbol of the number of the iteration, for expressions in the region. */
Var *loop_iteration(Graph *g, Expr *trip);
/* body (graph_region of g) has one input for each carried value and outputs next carried values, then elements of scans.
   The node's outputs are the carried values behind the loop, then the scans with a new first axis of trip elements. */
Node *make_loop(Graph *g, Graph *body, int carried, Value *const *init, int scans, Expr *trip, Var *iter);
/* In full: cond and is_while as the op's; the dims in `inner` are changed by the region. */
Node *loop_node(Graph *g, Graph *body, Value *cond, bool is_while, int carried, Value *const *init, int scans, Expr *trip,
                Var *iter, int ninner, Var *const *inner);
/* Argument arg of a region becomes a value that make_value makes at the region's start. */
void loop_argument(Graph *body, int arg, Value *(*make_value)(Graph *, void *), void *data);

/* Gradients: loopgrad.c, ifgrad.c. */
void loop_grad(Grad *G, Node *n, Value *const *dy);
void if_grad(Grad *G, Node *n, Value *const *dy);
/* Export: loopexport.c. */
void export_loop(Export *x, Node *n);
void export_if(Export *x, Node *n);

#endif
