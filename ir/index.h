/* Between expr.c and index.c: what only the two of them may use. */
#ifndef GD_INDEX_H
#define GD_INDEX_H
#include "loop.h"

Expr *expr_cons(Ctx *c, ExprKind kind, Type t, uint64_t leaf, int n, Expr *const *args); /* as it stands, no rules */
Expr *index_op(Ctx *c, ExprKind op, Expr *const *args); /* the rules for scalar i64 operands; NULL: none applies */
#endif
