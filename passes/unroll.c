/* unroll: loops marked UNROLL, and loops of one iteration, become straight code.

   Needs: free choice of mode made (tile, vectorize); nests whose loops are in order.
   Promises: inside nests no UNROLL loop is left (one whose trip count is no number runs serially instead),
   and no loop of zero or one iterations; branches on constants are taken, stores that a constant mask forbids
   are gone. Register tiles indexed by such loops have constant indices afterwards. Outer loops are unrolled
   first, so an inner loop is copied while it is still short; every step takes one loop away and copies only
   what lies inside it, so it ends.

     unroll i in 2                                   acc[0] = fma(x[k, 0], b, acc[0])
       acc[i] = fma(x[k, i], b, acc[i])     ->       acc[1] = fma(x[k, 1], b, acc[1]) */
#include "passes.h"

static void straighten(Program *p, Block *b);

static bool constant_let(const Stmt *s) {
    return s->kind == S_LET && s->var->kind == V_LET && s->e->kind == E_CONST;
}

/* Appends s to out, or what it becomes. */
static void put(Program *p, Block *out, Stmt *s);

/* A copy of the body for one value of the loop's variable. Lets that turn out constant go into the uses. */
static void put_copy(Program *p, Block *out, const Stmt *loop, int64_t i) {
    Map *vars = map_new(p->c);
    map_putp(vars, loop->var, expr_int(p->c, i));
    for (int k = 0; k < loop->body.n; k++) {
        const Stmt *s = loop->body.v[k];
        Stmt *copy = stmt_clone(p, s, vars);
        if (constant_let(copy)) map_putp(vars, s->var, copy->e);
        else put(p, out, copy);
    }
}

static bool straight(const Stmt *s, int64_t *trip) {
    if (s->kind != S_FOR || !is_int(s->e, trip)) return false;
    return s->mode == L_UNROLL || *trip <= 1;
}

static bool mask_forbids(const Expr *mask) { return mask && is_const(mask) && (int64_t)mask->bits <= 0; }

static void put(Program *p, Block *out, Stmt *s) {
    int64_t trip;
    if (straight(s, &trip)) {
        for (int64_t i = 0; i < trip; i++) put_copy(p, out, s, i);
        gd_check_time(p->c);
        return;
    }
    if (s->kind == S_FOR && s->mode == L_UNROLL) s->mode = L_SERIAL;
    if (s->kind == S_IF && is_const(s->e)) {
        Block *taken = s->e->bits ? &s->body : &s->other;
        for (int i = 0; i < taken->n; i++) put(p, out, taken->v[i]);
        return;
    }
    if (s->kind == S_STORE && mask_forbids(s->mask)) return;
    straighten(p, &s->body);
    straighten(p, &s->other);
    vec_push(p->c, out, s);
}

static void straighten(Program *p, Block *b) {
    Block out = {0};
    for (int i = 0; i < b->n; i++) put(p, &out, b->v[i]);
    *b = out;
}

static bool in_nest(void *p, Stmt *s) {
    if (s->kind == S_NEST) straighten(p, &s->body);
    return s->kind != S_NEST;
}

void pass_unroll(Program *p, const PassOptions *o) {
    (void)o;
    block_walk(&p->body, in_nest, p);
}
