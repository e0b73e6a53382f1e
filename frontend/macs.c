/* The work of every nest, counted where it is plain to see: on the loops as lowering leaves them. A multiply-add is an fma, or
   a product added to what the same store updates; loops count as often as they run with every open size at its lowest, at
   least 1. Terminates: each statement is visited once, each expression of a statement once. */
#include "session.h"

typedef struct Count { Ctx *c; Map *low; Map *seen; double n; } Count;

static double trips(Count *k, Expr *trip) {
    int64_t v;
    if (!is_int(expr_subst(k->c, trip, k->low), &v)) return 1;
    return v > 0 ? (double)v : 0;
}

static void count_expr(Count *k, const Expr *e) {
    if (!e->nargs || map_getp(k->seen, e)) return;
    map_putp(k->seen, e, k);
    k->n += e->kind == E_FMA;
    for (int i = 0; i < e->nargs; i++) count_expr(k, e->arg[i]);
}

static bool is_load_of(const Expr *e, const Buf *b) { return e->kind == E_LOAD && e->buf == b; }

static bool updates(const Expr *e, const Buf *b) {
    if (e->kind != E_ADD) return false;
    const Expr *x = e->arg[0], *y = e->arg[1];
    return (is_load_of(x, b) && y->kind == E_MUL) || (is_load_of(y, b) && x->kind == E_MUL);
}

static double count_block(Count *k, const Block *b) {
    double sum = 0;
    for (int i = 0; i < b->n; i++) {
        const Stmt *s = b->v[i];
        double inside = count_block(k, &s->body), other = count_block(k, &s->other);
        k->n = 0;
        k->seen = map_new(k->c);
        if (s->kind == S_STORE || s->kind == S_LET) count_expr(k, s->e);
        if (s->kind == S_STORE && updates(s->e, s->buf)) k->n++;
        sum += k->n + (s->kind == S_FOR ? inside * trips(k, s->e) : inside > other ? inside : other);
        if (s->kind == S_NEST) s->nest->macs = inside;
    }
    return sum;
}

void session_count(Program *p) {
    Count k = {.c = p->c, .low = map_new(p->c)};
    for (int i = 0; i < p->syms.n; i++) {
        Var *v = p->syms.v[i];
        map_putp(k.low, v, expr_int(p->c, v->lo > 1 ? v->lo : 1));
    }
    count_block(&k, &p->body);
}
