/* Gradients: what an op row's grad function gets, and the sweep that calls it. */
#ifndef GD_GRAD_H
#define GD_GRAD_H
#include "op.h"

struct Grad {
    Graph *g;      /* nodes are made at its end */
    Map *adjoint;  /* Value -> Value: the cotangent so far */
    Map *wanted;   /* values whose cotangent is needed */
    Map *leaf;     /* nodes that are not gone through: the cotangent of their output is all that is asked for; may be NULL */
};
bool grad_float(const Value *v);                 /* may it have a gradient? */
bool grad_wanted(const Grad *G, const Value *v); /* float, and something differentiable depends on it */
void grad_add(Grad *G, Value *v, Value *dv);     /* adds to v's cotangent; dv has v's shape. dv NULL: nothing */
Value *grad_sum_to(Grad *G, Value *dv, const Value *like); /* undoes broadcasting */
Value *grad_filled(Graph *g, const Value *like, double with); /* a constant of like's shape */
/* The gradient of the sum of loss's elements with respect to n values (float): nodes at g's end, out[i] of of[i]'s shape. Rows without a
   gradient on the way are errors (E404), all at once. */
void graph_grad(Graph *g, Value *loss, int n, Value *const *of, Value **out);

/* All floats of the graph become f64 (widen.c); what cannot is an error, all at once. */
void graph_widen(Graph *g);
/* What stands between the loss and n values (float) it depends on (gradpath.c): E404 for every node at which the gradient ends of
   a value that has no other way to the loss. Values that the loss does not depend on are put in words into notes (may be
   NULL). */
typedef VEC(const char *) GradNotes;
void grad_path(Graph *g, Value *loss, int n, Value *const *of, GradNotes *notes);

/* Its two halves, for ops with regions, over nodes from..to of a graph: outputs that depend on wanted values become wanted;
   cotangents are passed on, last node first (of G->g). */
void grad_want(Grad *G, const Graph *g, int from, int to);
void grad_sweep(Grad *G, int from, int to);

/* Regions: graphcopy.c. */
typedef VEC(Value *) ValueList;
/* The values from around a node's regions that they use, in order of first use. */
ValueList graph_captures(const Node *n);
/* Copies the nodes of `from` to the end of `to` (checks left out), which sees the same values around it. with: Value -> Value, what
   stands for arguments; it gets all values that are copied. vars: Var -> Expr, likewise for symbols; those that the nodes
   define are new ones. */
void graph_copy_nodes(Graph *to, const Graph *from, Map *with, Map *vars);
/* Nodes from `first` on that nothing after them and no output needs are removed. */
void graph_drop_unused(Graph *g, int first);
#endif
