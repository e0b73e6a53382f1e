/* Between expr.c and index.c: what only the two of them may use. */
#ifndef GD_INDEX_H
#define GD_INDEX_H
#include "loop.h"

Expr *expr_cons(Ctx *c, ExprKind kind, Type t, uint64_t leaf, int n, Expr *const *args); /* as it stands, no rules */
Expr *index_op(Ctx *c, ExprKind op, int n, Expr *const *args); /* rules for scalar i64 operands; NULL: none applies */

/* What a rule or a proof found out, kept for the whole compilation, since the same is asked over and over: the sizes of
   buffers in plan, addresses in every statement. about: an ExprKind, or a number from E_KINDS on; b and the answer may be
   NULL. It stays true because variables do not change: their ranges are set before an expression has them, and a
   definition is only ever replaced by an equal one. */
bool expr_fact(Ctx *c, uint32_t about, const Expr *a, const Expr *b, Expr **answer); /* false: not known yet */
Expr *expr_learn(Ctx *c, uint32_t about, const Expr *a, const Expr *b, Expr *answer);
#endif
