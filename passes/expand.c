/* expand: calls of elementary functions become scalar instructions.

   Needs: vectors made, so that a body is put in once for all lanes.
   Promises: no CALL is left in the program. Conversions of small floats stay: how their bits are taken apart
   is the back ends' business.
   The rows of math.def call only rows above them, and gd_math_body expands those too, so it ends.

     y[i] = exp(x[i])      ->      y[i] = fma(fma(...), ...) * as_f32(...) * as_f32(...) */
#include "passes.h"

static Expr *body(void *c, Expr *e) { return e->kind == E_CALL ? gd_math_body(c, e->call, e->arg) : e; }
static Expr *expand(void *c, Expr *e) { return expr_rewrite(c, e, body, c); }

static bool visit(void *c, Stmt *s) {
    stmt_exprs(s, expand, c);
    return true;
}

void pass_expand(Program *p, const PassOptions *o) {
    (void)o;
    block_walk(&p->body, visit, p->c);
}
