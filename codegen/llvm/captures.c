/* What a block needs from outside: variables and roots of buffers, in order of first use, which makes the
   parameters of the function that the block becomes. One walk notes what is used and what the block itself
   defines. */
#include "llvm.h"

typedef struct Walk { Gen *g; Captures *u; Map *seen, *own; } Walk;

static bool first(Map *m, const void *p) {
    if (map_getp(m, p)) return false;
    map_putp(m, p, m);
    return true;
}

static void expr_uses_of(Walk *w, Expr *e);

static void access(Walk *w, Buf *b, Expr *const *index) {
    Buf *root = buf_root(b);
    if (first(w->seen, root)) vec_push(w->g->c, &w->u->bufs, root);
    expr_uses_of(w, buf_address(w->g->c, b, index));
}

static void expr_uses_of(Walk *w, Expr *e) {
    if (is_const(e)) return;
    if (e->kind == E_VAR) {
        if (first(w->seen, e->var)) vec_push(w->g->c, &w->u->vars, e->var);
        return;
    }
    if (!first(w->seen, e)) return;
    if (e->kind == E_LOAD) {
        access(w, e->buf, e->arg);
        if (e->nargs > e->buf->rank) expr_uses_of(w, e->arg[e->buf->rank]);
        return;
    }
    for (int i = 0; i < e->nargs; i++) expr_uses_of(w, e->arg[i]);
}

static bool statement(void *arg, Stmt *s) {
    Walk *w = arg;
    if (s->e) expr_uses_of(w, s->e);
    if (s->mask) expr_uses_of(w, s->mask);
    if (s->kind == S_STORE) access(w, s->buf, s->index);
    if (s->kind == S_DECL) map_putp(w->own, buf_root(s->buf), s);
    if (s->var) map_putp(w->own, s->var, s);
    w->u->checks |= s->kind == S_CHECK;
    return true;
}

void captures_of(Gen *g, Block *b, Captures *u) {
    Captures all = {0};
    Walk w = {g, &all, map_new(g->c), map_new(g->c)};
    block_walk(b, statement, &w);
    *u = (Captures){.checks = all.checks};
    for (int i = 0; i < all.vars.n; i++)
        if (!map_getp(w.own, all.vars.v[i])) vec_push(g->c, &u->vars, all.vars.v[i]);
    for (int i = 0; i < all.bufs.n; i++)
        if (!map_getp(w.own, all.bufs.v[i])) vec_push(g->c, &u->bufs, all.bufs.v[i]);
}

/* Buffers of the arena may share their place, also within a nest that works in place. All others never do. */
bool bufs_disjoint(Gen *g, const Buf *a, const Buf *b) {
    Ctx *c = g->c;
    if (a->space != SP_ARENA || b->space != SP_ARENA) return true;
    for (int i = 0; i < 2; i++) {
        Expr *end = expr_add(c, a->offset, expr_mul(c, buf_size(c, a), expr_int(c, gd_dtypes[a->dt].bytes)));
        if (expr_less(c, end, expr_add(c, b->offset, expr_int(c, 1)))) return true;
        const Buf *swap = a;
        a = b;
        b = swap;
    }
    return false;
}
