/* In place: a nest that reads an element of x only to compute the element of y in the same place, and reads
   it before y is written there, may write y over x.

   Places are addresses from the roots of storage, canonical expressions: equal pointers, equal places. What
   must hold:
   * every load of x has the address of a store to y with as many lanes, and comes before it;
   * the loops around both are free, so that another iteration writes elsewhere;
   * where y is written without such a load (a border), no load of x comes later.
   That no element of y is written twice by stores at different addresses is lowering's way of filling a
   buffer. The walk visits each statement of the nest once, so it ends. */
#include "arena.h"

typedef struct Frame {
    const struct Frame *outer;
    bool free;
} Frame; /* a loop around the statement at hand */
typedef struct Place {
    const Frame *loops;
    int lanes;
    bool stored;
} Place;

typedef struct Walk {
    Ctx *c;
    const Buf *x, *y;
    Map *places; /* address to Place, of the loads of x so far */
    VEC(Place *) all;
    const Frame *loops;
    bool border, wrong;
} Walk;

static Expr *address_of(Walk *w, const Buf *b, Expr *const *index) { return buf_address(w->c, b, index); }

static void see_load(void *arg, Expr *e) {
    Walk *w = arg;
    if (e->kind != E_LOAD || buf_root(e->buf) != w->x) return;
    Expr *at = address_of(w, e->buf, e->arg);
    Place *p = map_getp(w->places, at);
    if (w->border || (p && (p->stored || p->lanes != e->type.lanes))) w->wrong = true;
    if (p) return;
    p = gd_new(w->c, Place);
    *p = (Place){w->loops, e->type.lanes, false};
    map_putp(w->places, at, p);
    vec_push(w->c, &w->all, p);
}

static Expr *see_expr(void *arg, Expr *e) {
    Walk *w = arg;
    expr_walk(e, expr_mark(w->c), see_load, w);
    return e;
}

/* Are the loops around both places free? */
static bool independent(const Frame *a, const Frame *b) {
    for (; a; a = a->outer)
        for (const Frame *f = b; f; f = f->outer)
            if (f == a && !f->free) return false;
    return true;
}

static void see_store(Walk *w, const Stmt *s) {
    if (!s->buf || buf_root(s->buf) != w->y || s->kind != S_STORE) return;
    Place *p = map_getp(w->places, address_of(w, s->buf, s->index));
    if (!p) {
        w->border = true;
        return;
    }
    if (p->lanes != s->e->type.lanes || !independent(p->loops, w->loops)) w->wrong = true;
    p->stored = true;
}

static void walk(Walk *w, const Block *b) {
    for (int i = 0; i < b->n && !w->wrong; i++) {
        Stmt *s = b->v[i];
        stmt_exprs(s, see_expr, w);
        see_store(w, s);
        const Frame *here = w->loops;
        Frame *loop = gd_new(w->c, Frame);
        *loop = (Frame){here, s->kind == S_FOR && s->free};
        if (s->kind == S_FOR || s->kind == S_WHILE) w->loops = loop;
        walk(w, &s->body);
        walk(w, &s->other);
        w->loops = here;
    }
}

bool may_replace(Ctx *c, const Stmt *nest, const Buf *x, const Buf *y) {
    if (gd_dtypes[x->dt].bytes != gd_dtypes[y->dt].bytes) return false;
    Walk w = {.c = c, .x = x, .y = y, .places = map_new(c)};
    walk(&w, &nest->body);
    for (int i = 0; i < w.all.n; i++) w.wrong = w.wrong || !w.all.v[i]->stored;
    return !w.wrong && w.all.n > 0;
}
