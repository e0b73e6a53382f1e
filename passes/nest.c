/* Questions about nests: see nest.h. */
#include "nest.h"

/* ---- accesses ---- */

typedef struct Find { Program *p; Accesses *out; Map *own; int depth; uint32_t mark; } Find;

static void find_load(void *arg, Expr *e) {
    Find *f = arg;
    if (e->kind != E_LOAD || map_getp(f->own, buf_root(e->buf))) return;
    Access a = {e->buf, buf_address(f->p->c, e->buf, e->arg), e, e->nargs > e->buf->rank ? e->arg[e->buf->rank] : NULL,
                f->depth > 0};
    vec_push(f->p->c, f->out, a);
}

static void find(Find *f, Block *b) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->kind == S_DECL) map_putp(f->own, s->buf, s);
        /* The same load inside and outside of a loop counts once for each. */
        f->mark = expr_mark(f->p->c);
        stmt_walk(s, f->mark, find_load, f);
        if (s->kind == S_STORE && !map_getp(f->own, buf_root(s->buf))) {
            Access a = {s->buf, buf_address(f->p->c, s->buf, s->index), NULL, s->mask, f->depth > 0};
            vec_push(f->p->c, f->out, a);
        }
        f->depth++;
        find(f, &s->body);
        find(f, &s->other);
        f->depth--;
    }
}

void nest_accesses(Program *p, Block *b, Accesses *out) {
    Find f = {.p = p, .out = out, .own = map_new(p->c)};
    find(&f, b);
}

static Search masked_by(void *var, Expr *e) {
    bool masked = e->kind == E_LOAD && e->nargs > e->buf->rank;
    return masked && expr_uses(e->arg[e->buf->rank], var) ? SEARCH_FOUND : SEARCH_ON;
}

bool nest_controls(Ctx *c, Block *b, Var *v) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->mask && expr_uses(s->mask, v)) return true;
        if (s->e && s->kind != S_STORE && s->kind != S_LET && expr_uses(s->e, v)) return true;
        if (expr_search(c, s->e, masked_by, v)) return true;
        if (nest_controls(c, &s->body, v) || nest_controls(c, &s->other, v)) return true;
    }
    return false;
}

bool access_stride(Ctx *c, const Access *a, Var *v, int64_t *stride) {
    Expr *base, *step;
    *stride = 0;
    if (!expr_uses(a->at, v)) return true;
    return expr_affine(c, a->at, v, &base, &step) && is_int(step, stride);
}

typedef struct Change { const Buf *root; const Expr *e; bool found; } Change;
static bool changes(void *arg, Stmt *s) {
    Change *k = arg;
    bool stores = s->buf && s->kind != S_DECL && buf_root(s->buf) == k->root;
    k->found |= stores || (s->from && buf_root(s->from) == k->root) || (s->var && expr_uses(k->e, s->var));
    return !k->found;
}

bool stmt_changes(Stmt *s, const Buf *root, const Expr *e) {
    Change k = {root, e, false};
    Block one = {&s, 1, 1};
    block_walk(&one, changes, &k);
    return k.found;
}

/* ---- copies ---- */

void block_copy(Program *p, const Block *from, Block *to, Map *vars) {
    for (int i = 0; i < from->n; i++) vec_push(p->c, to, stmt_clone(p, from->v[i], vars));
}

Block *nest_chain(Stmt *s, int max, Stmt **loops, int *n) {
    *n = 0;
    for (;;) {
        loops[(*n)++] = s;
        if (*n == max || s->body.n != 1 || s->body.v[0]->kind != S_FOR || !s->body.v[0]->free) return &s->body;
        s = s->body.v[0];
    }
}
