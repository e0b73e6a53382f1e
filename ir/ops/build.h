/* Short ways to make the nodes that BUILD forms and gradients consist of. Where a node would change nothing,
   they answer the value itself; a value of unknown shape (its node failed, and said so) goes through them
   unharmed. */
#ifndef GD_BUILD_H
#define GD_BUILD_H
#include "import.h"

Value *build_reshape(Graph *g, Value *x, int rank, Expr *const *dim);
Value *build_broadcast(Graph *g, Value *x, int rank, Expr *const *dim);
/* To like's shape, unless it surely broadcasts to that by itself. */
Value *build_fit(Graph *g, Value *x, const Value *like);
Value *build_transpose(Graph *g, Value *x, const int64_t *perm);
/* step NULL: all 1. */
Value *build_slice(Graph *g, Value *x, Expr *const *start, Expr *const *size, Expr *const *step);
Value *build_slice_axis(Graph *g, Value *x, int axis, Expr *start, Expr *size);
Value *build_reverse(Graph *g, Value *x, int axis);
/* lo, hi elements around and interior between the elements of each axis (NULL: none), of value (NULL:
   zero). */
Value *build_pad(Graph *g, Value *x, Expr *const *lo, Expr *const *hi, const int64_t *interior, Value *value);
Value *build_concat(Graph *g, int n, Value *const *x, int axis);
Value *build_cast(Graph *g, Value *x, DType to);
Value *build_reduce(Graph *g, const char *op, Value *x, int n, const int64_t *axes, bool keep);
/* Every element is its index along axis. */
Value *build_iota(Graph *g, DType dt, int rank, Expr *const *dim, int axis);
Value *build_scalar(Graph *g, DType dt, Expr *e); /* an i64 expression, as rank 0 of dt */
Value *build_squeeze(Graph *g, Value *x, int axis);   /* without that axis, whose size is 1 */
Value *build_unsqueeze(Graph *g, Value *x, int axis); /* with a new axis of size 1 there */
/* Sums of products over axis ka of a and kb of b; the first nbatch axes of both are batches. */
Value *build_contract(Graph *g, Value *a, Value *b, int nbatch, int64_t ka, int64_t kb);
/* The axis of y is a free axis of which input, and which one there? false: a batch axis. */
bool contract_free_axis(const Node *n, int y_axis, int *operand, int *axis);
Value *build_matmul(Graph *g, Value *a, Value *b);    /* numpy's matrix product */

/* An axis of a tensor of that rank, negative from the end; -1 after an error. */
int import_axis(Import *n, int64_t axis, int rank);
/* Like node_require, for a form that is not one node. */
void import_require(Import *n, Expr *cond, const char *what);
/* Inputs that a form computes with together have one dtype; an error and false otherwise. */
bool import_same_types(Import *n, int from, int to);
/* A list of axes (import_list) as a set: in[i] says whether axis i of a tensor of that rank belongs to it, a
   constant unless only the data knows. They must be different; false after an error. */
bool import_axis_set(Import *n, int count, Expr *const *axes, int rank, Expr **in);
/* Is v axis i of a tensor of that rank, counted from either end? */
Expr *axis_is(Ctx *c, Expr *v, int i, int rank);
/* The dims that are not in the set, in order: nout of them. */
void dims_without(Ctx *c, int rank, Expr *const *in, Expr *const *dim, int nout, Expr **out);
/* The only element of an integer input, when it is known while compiling. */
bool import_const_scalar(Import *n, int i, int64_t *v);
#endif
