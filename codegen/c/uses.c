/* What a piece of program needs from outside, and which of its variables are read at all. Statements are
   visited last to first, so when a LET is met it is known whether anything that will be printed reads it; one
   that nothing reads is left out, and what only it reads with it. Every expression is visited once. */
#include "gen.h"

typedef struct Walk {
    Gen *g;
    Uses *u;
    const Uses *known;
    Map *seen;
    Map *inside;
    Map *touched;
    int dropped;
} Walk;

static void walk_expr(Walk *w, Expr *e);

static void touch(Walk *w, Buf *b, bool read) {
    Buf *root = buf_root(b);
    if (root->space == SP_REG || root->space == SP_LOCAL) return;
    uintptr_t at = (uintptr_t)map_getp(w->touched, root);
    if (!at) {
        vec_push(w->g->c, &w->u->bufs, (Touched){.buf = root});
        at = (uintptr_t)w->u->bufs.n;
        map_putp(w->touched, root, (void *)at);
    }
    Touched *t = &w->u->bufs.v[at - 1];
    if (read) t->read = true;
    else t->written = true;
}

static void use_var(Walk *w, Var *v) {
    if (map_getp(w->u->live, v)) return;
    map_putp(w->u->live, v, v);
    vec_push(w->g->c, &w->u->vars, v);
}

/* ---- registers ---- */

enum { MOST_VARIABLES = 4096 };

static Reg *reg_of(Walk *w, Buf *root) {
    Reg *r = map_getp(w->u->regs, root);
    if (r) return r;
    r = gd_new(w->g->c, Reg);
    r->n = expr_max(w->g->c, buf_size(w->g->c, root));
    if (r->n == INT64_MAX) gd_bug(w->g->c, "C: the size of %s is not bounded", root->name);
    r->array = root->space == SP_LOCAL || r->n > MOST_VARIABLES;
    map_putp(w->u->regs, root, r);
    if (r->array) return r;
    r->read = gd_new_array(w->g->c, uint8_t, r->n + 1);
    r->declared = gd_new_array(w->g->c, uint8_t, r->n + 1);
    return r;
}

static void access(Walk *w, Buf *b, Expr *const *index, int lanes, const Expr *mask, bool read) {
    touch(w, b, read);
    Expr *at = buf_address(w->g->c, b, index);
    Buf *root = buf_root(b);
    if (root->space == SP_REG || root->space == SP_LOCAL) {
        Reg *r = reg_of(w, root);
        int64_t i;
        bool whole = lanes == (root->lanes ? root->lanes : 1) && !(mask && mask->type.dt != BOOL);
        if (read) r->any_read = true;
        if (!whole || !is_int(at, &i) || i < 0 || i >= r->n) r->array = true;
        else if (read && r->read) r->read[i] = 1;
    }
    walk_expr(w, at);
}

/* Is what s stores read anywhere, as far as an earlier walk knows? */
static bool wanted(Walk *w, const Stmt *s) {
    Buf *root = buf_root(s->buf);
    const Reg *r = w->known ? map_getp(w->known->regs, root) : NULL;
    int64_t i;
    if (!r) return true;
    if (r->array) return r->any_read;
    return is_int(buf_address(w->g->c, s->buf, s->index), &i) && r->read[i];
}

static void walk_expr(Walk *w, Expr *e) {
    if (e->kind == E_CONST || map_getp(w->seen, e)) return;
    map_putp(w->seen, e, e);
    if (e->kind == E_VAR) {
        use_var(w, e->var);
        return;
    }
    if (e->kind != E_LOAD) {
        for (int i = 0; i < e->nargs; i++) walk_expr(w, e->arg[i]);
        return;
    }
    Expr *mask = e->nargs > e->buf->rank ? e->arg[e->buf->rank] : NULL;
    access(w, e->buf, e->arg, e->type.lanes, mask, true);
    if (mask) walk_expr(w, mask);
}

/* ---- statements ---- */

static void walk_block(Walk *w, Block *b);

static void walk_stmt(Walk *w, Stmt *s) {
    Ctx *c = w->g->c;
    if (s->kind == S_LET && s->var->kind == V_LET && !map_getp(w->u->live, s->var)) return;
    if (s->kind == S_STORE && !wanted(w, s)) {
        w->dropped++;
        return;
    }
    if (s->kind == S_FOR || (s->kind == S_LET && s->var->kind == V_LET)) map_putp(w->inside, s->var, s);
    if (s->kind == S_CHECK) w->u->checks = true;
    walk_block(w, &s->other);
    walk_block(w, &s->body);
    if (s->e) walk_expr(w, s->e);
    if (s->mask) walk_expr(w, s->mask);
    if (s->kind == S_STORE) access(w, s->buf, s->index, s->e->type.lanes, s->mask, false);
    if (s->kind == S_DECL) reg_of(w, buf_root(s->buf));
    if (s->kind == S_ALLOC || s->kind == S_FREE || s->kind == S_MOVE) touch(w, s->buf, false);
    if (s->kind == S_MOVE) touch(w, s->from, true);
    if (s->kind == S_ALLOC) walk_expr(w, buf_size(c, s->buf));
    if (s->kind == S_LET && s->var->kind == V_SYM) use_var(w, s->var);
}

static void walk_block(Walk *w, Block *b) {
    for (int i = b->n - 1; i >= 0; i--) walk_stmt(w, b->v[i]);
}

static int var_order(const Var *a, const Var *b) { return a->id - b->id; }

/* Insertion sort: lists are short and nearly in order. */
static void sort_vars(Uses *u) {
    for (int i = 1; i < u->vars.n; i++) {
        Var *v = u->vars.v[i];
        int k = i;
        for (; k > 0 && var_order(v, u->vars.v[k - 1]) < 0; k--) u->vars.v[k] = u->vars.v[k - 1];
        u->vars.v[k] = v;
    }
}

static int walk(Gen *g, Block *b, const Uses *known, Uses *u) {
    *u = (Uses){.live = map_new(g->c), .regs = map_new(g->c)};
    Walk w = {g, u, known, map_new(g->c), map_new(g->c), map_new(g->c), 0};
    walk_block(&w, b);
    int n = 0;
    for (int i = 0; i < u->vars.n; i++)
        if (!map_getp(w.inside, u->vars.v[i])) u->vars.v[n++] = u->vars.v[i];
    u->vars.n = n;
    sort_vars(u);
    for (int i = 0; i < u->bufs.n / 2; i++) {
        Touched t = u->bufs.v[i];
        u->bufs.v[i] = u->bufs.v[u->bufs.n - 1 - i];
        u->bufs.v[u->bufs.n - 1 - i] = t;
    }
    return w.dropped;
}

/* What is read is only known after a walk; stores that nothing reads are left out of the next one, which may
   find more of them. Each round drops more than the one before, so it ends. */
void uses_of(Gen *g, Block *b, Uses *u) {
    Uses known;
    walk(g, b, NULL, &known);
    for (int before = 0, dropped;; before = dropped) {
        dropped = walk(g, b, &known, u);
        if (dropped == before) return;
        known = *u;
    }
}

/* ---- aliasing ---- */

static bool before(Ctx *c, const Buf *a, const Buf *b) {
    Expr *last =
        expr_sub(c, expr_add(c, a->offset, expr_mul(c, buf_size(c, a), expr_int(c, gd_dtypes[a->dt].bytes))),
                 expr_int(c, 1));
    return expr_less(c, last, b->offset);
}

/* May b share bytes with another buffer of the piece, one of the two being written? Only temporaries can:
   `plan` may have put one in the place of another. */
bool bufs_overlap(Gen *g, const Uses *u, const Buf *b) {
    if (b->space != SP_ARENA || !b->offset) return false;
    bool written = false;
    for (int i = 0; i < u->bufs.n; i++)
        if (u->bufs.v[i].buf == b) written = u->bufs.v[i].written;
    for (int i = 0; i < u->bufs.n; i++) {
        const Buf *o = u->bufs.v[i].buf;
        if (o == b || o->space != SP_ARENA || !o->offset || !(written || u->bufs.v[i].written)) continue;
        if (!before(g->c, o, b) && !before(g->c, b, o)) return true;
    }
    return false;
}
