/* merge: element-by-element nests over the same indices become one.

   Needs: nests as lowering leaves them, copies elided. Promises: the same values in the same memory, but for temporaries that nobody
   reads any more. A nest may join an earlier one when
   * both are chains of free loops with the same trips around plain stores, and have an axis for vectors in common;
   * whatever one stores and the other touches is touched at the same place by the same iteration;
   * what stands between them does not mind one of the two changing its place.
   What the first stores and the second loads again is handed on as a value. So an optimizer reads its gradient once, and the
   cell of a recurrent layer is one pass over its gates. Each nest is compared with a few before it, once: it ends.

     nest m { for i in 9: m[i] = a * m[i] + b * g[i] }          nest m { for i in 9 { let v = a * m[i] + b * g[i]; m[i] = v;
     nest w { for i in 9: w[i] = w[i] - r * m[i] }         ->                          w[i] = w[i] - r * v } } */
#include "nest.h"

enum { MAX_LOOPS = 8, WINDOW = 24, MAX_STREAMS = 16, MAX_SOURCE = 200 };

typedef struct Unit {
    Stmt *nest;
    Stmt *loops[MAX_LOOPS];
    int n;
    Block *body;       /* NULL: not of the form */
    Accesses acc;
    unsigned axes;     /* loops along which vectors could run */
} Unit;

typedef struct Merge { Program *p; Ctx *c; VEC(Unit *) recent; } Merge;

/* ---- one nest ---- */

static bool plain(const Block *b) {
    for (int i = 0; i < b->n; i++) {
        const Stmt *s = b->v[i];
        if (s->kind != S_LET && (s->kind != S_STORE || s->mask || s->buf->space == SP_REG || s->buf->space == SP_LOCAL)) return false;
    }
    return b->n > 0;
}

static bool steps(Ctx *c, const Accesses *acc, Var *v) {
    int64_t step;
    bool stores = false;
    for (int i = 0; i < acc->n; i++) {
        if (!access_stride(c, &acc->v[i], v, &step) || step < 0 || step > 1) return false;
        stores |= !acc->v[i].load && step == 1;
    }
    return stores;
}

static Unit *unit(Merge *t, Stmt *nest) {
    Unit *u = gd_new(t->c, Unit);
    u->nest = nest;
    nest_accesses(t->p, &nest->body, &u->acc);
    Block *b = &nest->body;
    if (b->n == 1 && b->v[0]->kind == S_FOR && b->v[0]->free) b = nest_chain(b->v[0], MAX_LOOPS, u->loops, &u->n);
    if (!plain(b)) return u;
    u->body = b;
    for (int i = 0; i < u->n; i++)
        if (steps(t->c, &u->acc, u->loops[i]->var)) u->axes |= 1u << i;
    return u;
}

/* ---- two nests ---- */

/* Does either store what the other touches? */
static bool apart(const Unit *a, const Unit *b) {
    for (int i = 0; i < a->acc.n; i++)
        for (int k = 0; k < b->acc.n; k++)
            if ((!a->acc.v[i].load || !b->acc.v[k].load) && buf_root(a->acc.v[i].buf) == buf_root(b->acc.v[k].buf)) return false;
    return true;
}

static Map *renamed(Merge *t, const Unit *a, const Unit *b) {
    Map *vars = map_new(t->c);
    for (int i = 0; i < a->n; i++) map_putp(vars, b->loops[i]->var, expr_var(t->c, a->loops[i]->var));
    return vars;
}

static bool same_space(const Unit *a, const Unit *b) {
    if (!a->body || !b->body || a->n != b->n || (a->n && !(a->axes & b->axes))) return false;
    for (int i = 0; i < a->n; i++)
        if (a->loops[i]->e != b->loops[i]->e) return false;
    return true;
}

/* Places that matter are the same, and the two have memory in common. */
static bool fit(Merge *t, const Unit *a, const Unit *b) {
    if (!same_space(a, b)) return false;
    Map *vars = renamed(t, a, b), *roots = map_new(t->c);
    bool shared = false;
    for (int i = 0; i < a->acc.n; i++) map_putp(roots, buf_root(a->acc.v[i].buf), t);
    int streams = map_count(roots);
    for (int k = 0; k < b->acc.n; k++) {
        const Access *y = &b->acc.v[k];
        const Buf *root = buf_root(y->buf);
        shared |= map_getp(roots, root) != NULL;
        Expr *at = expr_subst(t->c, y->at, vars);
        for (int i = 0; i < a->acc.n; i++) {
            const Access *x = &a->acc.v[i];
            if (buf_root(x->buf) != root || (x->load && y->load)) continue;
            if (x->at != at || x->mask || y->mask || x->buf->dt != y->buf->dt) return false;
        }
    }
    for (int k = 0; k < b->acc.n; k++) map_putp(roots, buf_root(b->acc.v[k].buf), t);
    int more = map_count(roots) - streams;
    return shared && (streams + more <= MAX_STREAMS || !more);
}

typedef struct Forward { Ctx *c; Map *stored; } Forward; /* (root, address) -> value */

static size_t place_key(Ctx *c, const Buf *b, Expr *const *index, const void **key) {
    key[0] = buf_root((Buf *)b);
    key[1] = buf_address(c, b, index);
    return 2 * sizeof *key;
}

static Expr *forward(void *arg, Expr *e) {
    Forward *f = arg;
    const void *key[2];
    if (e->kind != E_LOAD || e->nargs > e->buf->rank) return e;
    Expr *v = map_get(f->stored, key, place_key(f->c, e->buf, e->arg, key));
    return v && v->type.dt == e->type.dt ? v : e;
}

static const char *joined(Ctx *c, const char *a, const char *b) {
    if (!a || !b || strstr(a, b)) return a ? a : b;
    return strlen(a) + strlen(b) > MAX_SOURCE ? a : gd_format(c, "%s, %s", a, b);
}

/* b's statements behind a's. */
static void join(Merge *t, Unit *a, const Unit *b) {
    Ctx *c = t->c;
    Map *vars = renamed(t, a, b);
    Forward f = {c, map_new(c)};
    Block out = {0};
    for (int i = 0; i < a->body->n; i++) {
        Stmt *s = a->body->v[i];
        const void *key[2];
        if (s->kind == S_STORE) {
            if (!is_const(s->e) && s->e->kind != E_VAR) s->e = expr_var(c, stmt_let(t->p, &out, "v", s->e)->var);
            map_put(f.stored, key, place_key(c, s->buf, s->index, key), s->e);
        }
        vec_push(c, &out, s);
    }
    for (int i = 0; i < b->body->n; i++) {
        Stmt *s = stmt_clone(t->p, b->body->v[i], vars);
        const void *key[2];
        if (s->e) s->e = expr_rewrite(c, s->e, forward, &f);
        if (s->kind == S_LET && s->var->kind == V_LET) s->var->def = s->e;
        /* A later load of the place sees this store: it is not handed on, since the value may stand before it. */
        if (s->kind == S_STORE) map_put(f.stored, key, place_key(c, s->buf, s->index, key), NULL);
        vec_push(c, &out, s);
    }
    *a->body = out;
    NestInfo *x = a->nest->nest;
    const NestInfo *y = b->nest->nest;
    x->source = joined(c, x->source, y->source);
    x->note = joined(c, x->note, y->note);
    x->macs += y->macs;
    x->bytes += y->bytes;
}

/* ---- a block ---- */

/* Joins the nest with one of those before it, and returns whether it did. */
static bool try_join(Merge *t, Unit *b, Block *out) {
    int n = t->recent.n;
    bool up = true; /* nothing between minds b moving up */
    for (int i = n - 1; i >= 0 && i >= n - WINDOW; i--) {
        Unit *a = t->recent.v[i];
        bool down = true; /* ... a moving down */
        if (!up && !a->body) continue;
        if (fit(t, a, b)) {
            for (int k = i + 1; k < n && !up; k++) down = down && apart(a, t->recent.v[k]);
            if (up || down) {
                join(t, a, b);
                if (!up) { /* a takes b's place */
                    int at = out->n - 1;
                    while (out->v[at] != a->nest) at--;
                    memmove(out->v + at, out->v + at + 1, (size_t)(out->n - at - 1) * sizeof *out->v);
                    out->v[out->n - 1] = a->nest;
                    memmove(t->recent.v + i, t->recent.v + i + 1, (size_t)(n - i - 1) * sizeof *t->recent.v);
                    t->recent.v[n - 1] = a;
                }
                *a = *unit(t, a->nest);
                return true;
            }
        }
        up = up && apart(a, b);
    }
    return false;
}

static void merge_block(Merge *t, Block *b) {
    Block out = {0};
    t->recent.n = 0;
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->kind == S_NEST) {
            Unit *u = unit(t, s);
            if (u->body && try_join(t, u, &out)) {
                /* what grew at the end may now fit to one before it */
                Unit *last = t->recent.v[t->recent.n - 1];
                if (out.v[out.n - 1] != last->nest) continue;
                u = last;
                s = u->nest;
                t->recent.n--;
                out.n--;
                if (try_join(t, u, &out)) continue;
            }
            vec_push(t->c, &t->recent, u);
        } else t->recent.n = 0;
        vec_push(t->c, &out, s);
    }
    *b = out;
    for (int i = 0; i < b->n; i++) {
        if (b->v[i]->kind == S_NEST) continue;
        merge_block(t, &b->v[i]->body);
        merge_block(t, &b->v[i]->other);
    }
    gd_check_time(t->c);
}

/* ---- temporaries that nobody reads ---- */

typedef struct Read { Map *roots; uint32_t mark; } Read;

static void read_load(void *arg, Expr *e) {
    if (e->kind == E_LOAD) map_putp(((Read *)arg)->roots, buf_root(e->buf), e);
}

static bool read_stmt(void *arg, Stmt *s) {
    Read *r = arg;
    stmt_walk(s, r->mark, read_load, r);
    if (s->from) map_putp(r->roots, buf_root(s->from), s);
    if (s->buf && s->kind != S_STORE) map_putp(r->roots, buf_root(s->buf), s);
    return true;
}

static bool unread(const Read *r, const Stmt *s) {
    return s->kind == S_STORE && buf_root(s->buf)->space == SP_ARENA && !map_getp(r->roots, buf_root(s->buf));
}

static void drop(Ctx *c, const Read *r, Block *b) {
    Block out = {0};
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (unread(r, s)) continue;
        drop(c, r, &s->body);
        drop(c, r, &s->other);
        if ((s->kind == S_NEST || s->kind == S_FOR) && !s->body.n) continue;
        vec_push(c, &out, s);
    }
    *b = out;
}

void pass_merge(Program *p, const PassOptions *o) {
    (void)o;
    Merge t = {.p = p, .c = p->c};
    merge_block(&t, &p->body);
    Read r = {map_new(p->c), expr_mark(p->c)};
    block_walk(&p->body, read_stmt, &r);
    drop(p->c, &r, &p->body);
}
