/* What graph passes share. */
#ifndef GD_EDIT_H
#define GD_EDIT_H
#include "passes.h"
#include "op.h"

/* If everything the node depends on is constant, and the result is worth its memory: constants in the place
   of the outputs go into `with`, and the answer is true. budget: bytes that may still be made; NULL: no
   limit. */
bool fold_node(Node *n, Map *with, size_t *budget);
/* A rewrite that changes rounding, but not for the worse: the value to use instead of n's only output, or
 * NULL. */
Value *rounding_rule(Graph *g, Node *n);
int64_t value_bytes(Ctx *c, const Value *v); /* -1: not known */
#endif
