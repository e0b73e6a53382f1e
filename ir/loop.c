/* Making loop programs: buffers, statements, walks and copies.

   Whatever is made is complete: a loop's variable carries the bounds its trip count gives, a nest's name is
   unique in the program, a buffer stands in the program's lists. Walks visit each statement once, so they
   end. */
#include "loop.h"

Program *program_new(Ctx *c, const char *name) {
    Program *p = gd_new(c, Program);
    p->c = c;
    p->name = name;
    p->nest_names = map_new(c);
    return p;
}

/* ---- buffers ---- */

static Expr **copy_exprs(Ctx *c, int n, Expr *const *from) {
    Expr **to = gd_new_array(c, Expr *, n);
    for (int i = 0; i < n; i++) to[i] = from[i];
    return to;
}

static Buf *new_buf(Program *p, Space space, DType dt, int rank, Expr *const *dim, const char *name) {
    Buf *b = gd_new(p->c, Buf);
    *b = (Buf){.name = name, .id = p->nbufs++, .space = space, .dt = dt, .lanes = 1, .rank = rank};
    b->dim = copy_exprs(p->c, rank, dim);
    return b;
}

Buf *buf_new(Program *p, Space space, DType dt, int rank, Expr *const *dim, const char *name) {
    Buf *b = new_buf(p, space, dt, rank, dim, name);
    switch (space) {
    case SP_IN:
    case SP_OUT:
        for (int i = 0; i < p->params.n; i++) b->port += p->params.v[i]->space == space;
        vec_push(p->c, &p->params, b);
        vec_push(p->c, &p->port_names, name);
        break;
    case SP_CONST: vec_push(p->c, &p->consts, b); break;
    case SP_ARENA:
    case SP_HEAP: vec_push(p->c, &p->bufs, b); break;
    case SP_LOCAL:
    case SP_REG: break;
    }
    return b;
}

Buf *buf_view(Program *p, Buf *base, Expr *origin, int rank, Expr *const *dim, Expr *const *stride) {
    Buf *b = new_buf(p, base->space, base->dt, rank, dim, base->name);
    b->lanes = base->lanes;
    b->base = base;
    b->origin = origin;
    b->stride = stride ? copy_exprs(p->c, rank, stride) : NULL;
    return b;
}

Buf *buf_root(Buf *b) {
    while (b->base) b = b->base;
    return b;
}

Expr *buf_address(Ctx *c, const Buf *b, Expr *const *index) {
    Expr *at = expr_int(c, 0), *step = expr_int(c, 1);
    for (int i = b->rank; i--;) {
        at = expr_add(c, at, expr_mul(c, index[i], b->stride ? b->stride[i] : step));
        if (!b->stride) step = expr_mul(c, step, b->dim[i]);
    }
    for (; b->base; b = b->base) at = expr_add(c, at, b->origin);
    return at;
}

Expr *buf_size(Ctx *c, const Buf *b) {
    Expr *n = expr_int(c, 1), *one = n;
    for (int i = 0; i < b->rank; i++)
        n = b->stride ? expr_add(c, n, expr_mul(c, expr_sub(c, b->dim[i], one), b->stride[i]))
                      : expr_mul(c, n, b->dim[i]);
    return b->stride ? expr2(c, E_MAX, n, expr_int(c, 0)) : n;
}

/* ---- statements ---- */

Stmt *stmt_new(Program *p, Block *to, StmtKind kind) {
    Stmt *s = gd_new(p->c, Stmt);
    s->kind = kind;
    if (to) vec_push(p->c, to, s);
    return s;
}

/* What a loop's trip count, or a let's value, says about the variable. */
static void bound(Ctx *c, Var *v, Expr *def) {
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (v->type.dt == I64 && v->type.lanes == 1) expr_range(c, def, &lo, &hi);
    v->def = def;
    v->lo = v->kind == V_LOOP ? 0 : lo;
    v->hi = v->kind == V_LOOP && hi != INT64_MAX ? hi - 1 : hi;
}

Stmt *stmt_for(Program *p, Block *to, const char *name, Expr *trip, bool free) {
    Stmt *s = stmt_new(p, to, S_FOR);
    s->var = var_new(p->c, V_LOOP, scalar(I64), name, 0, INT64_MAX);
    bound(p->c, s->var, trip);
    s->e = trip;
    s->free = free;
    return s;
}

Stmt *stmt_let(Program *p, Block *to, const char *name, Expr *value) {
    Stmt *s = stmt_new(p, to, S_LET);
    s->var = var_new(p->c, V_LET, value->type, name, INT64_MIN, INT64_MAX);
    bound(p->c, s->var, value);
    s->e = value;
    return s;
}

Stmt *stmt_store(Program *p, Block *to, Buf *b, Expr *const *index, Expr *value, Expr *mask) {
    Stmt *s = stmt_new(p, to, S_STORE);
    s->buf = b;
    s->nindex = b->rank;
    s->index = copy_exprs(p->c, b->rank, index);
    s->e = value;
    s->mask = mask;
    return s;
}

Stmt *stmt_decl(Program *p, Block *to, Buf *b) {
    Stmt *s = stmt_new(p, to, S_DECL);
    s->buf = b;
    return s;
}

Stmt *stmt_if(Program *p, Block *to, Expr *cond) {
    Stmt *s = stmt_new(p, to, S_IF);
    s->e = cond;
    return s;
}

static const char *nest_name(Program *p, const char *name) {
    int *uses = map_gets(p->nest_names, name);
    if (!uses) {
        map_puts(p->nest_names, name, gd_new(p->c, int));
        return name;
    }
    return nest_name(p, gd_format(p->c, "%s_%d", name, ++*uses));
}

Stmt *stmt_nest(Program *p, Block *to, const char *name) {
    Stmt *s = stmt_new(p, to, S_NEST);
    s->nest = gd_new(p->c, NestInfo);
    s->nest->name = nest_name(p, name);
    return s;
}

/* ---- walks ---- */

void block_walk(Block *b, bool (*fn)(void *, Stmt *), void *arg) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (!fn(arg, s)) continue;
        block_walk(&s->body, fn, arg);
        block_walk(&s->other, fn, arg);
    }
}

void stmt_walk(Stmt *s, uint32_t mark, void (*fn)(void *, Expr *), void *arg) {
    for (int i = 0; i < s->nindex; i++) expr_walk(s->index[i], mark, fn, arg);
    expr_walk(s->e, mark, fn, arg);
    expr_walk(s->mask, mark, fn, arg);
}

void stmt_exprs(Stmt *s, Expr *(*fn)(void *, Expr *), void *arg) {
    for (int i = 0; i < s->nindex; i++) s->index[i] = fn(arg, s->index[i]);
    if (s->e) s->e = fn(arg, s->e);
    if (s->mask) s->mask = fn(arg, s->mask);
    if (s->var && s->var->kind != V_SYM) s->var->def = s->e;
}

/* ---- copies ---- */

typedef struct Clone {
    Program *p;
    Map *map;
} Clone; /* Var* to Expr*, and Buf* to Buf* */

/* A view of a buffer that was declared inside the copied part is a view of the copy. */
static Buf *clone_buf(Clone *k, Buf *b) {
    Buf *known = b ? map_getp(k->map, b) : NULL;
    if (!b || known || !b->base) return known ? known : b;
    Buf *base = clone_buf(k, b->base);
    if (base == b->base) return b;
    Buf *v = gd_new(k->p->c, Buf);
    *v = *b;
    v->id = k->p->nbufs++;
    v->base = base;
    map_putp(k->map, b, v);
    return v;
}

static Expr *clone_node(void *arg, Expr *e) {
    Clone *k = arg;
    if (e->kind == E_VAR) {
        Expr *to = map_getp(k->map, e->var);
        return to ? to : e;
    }
    if (e->kind != E_LOAD) return e;
    Buf *b = clone_buf(k, e->buf);
    if (b == e->buf) return e;
    return expr_load(k->p->c, b, e->type.lanes, e->arg, e->nargs > b->rank ? e->arg[b->rank] : NULL);
}
static Expr *clone_expr(Clone *k, Expr *e) { return e ? expr_rewrite(k->p->c, e, clone_node, k) : NULL; }

/* The maker may know more of a let than its value shows; that stays true unless what is put in changes the
 * range. */
static Var *clone_var(Clone *k, const Var *v, Expr *def) {
    Ctx *c = k->p->c;
    Var *n = var_new(c, v->kind, v->type, v->name, v->lo, v->hi);
    int64_t lo, hi, old_lo, old_hi;
    if (v->type.dt == I64 && v->type.lanes == 1) {
        expr_range(c, def, &lo, &hi);
        expr_range(c, v->def, &old_lo, &old_hi);
        if (lo != old_lo || hi != old_hi) bound(c, n, def);
    }
    n->def = def;
    map_putp(k->map, v, expr_var(c, n));
    return n;
}

static Stmt *clone(Clone *k, const Stmt *s) {
    Ctx *c = k->p->c;
    Stmt *n = gd_new(c, Stmt);
    *n = *s;
    n->e = clone_expr(k, s->e);
    n->mask = clone_expr(k, s->mask);
    n->index = gd_new_array(c, Expr *, s->nindex);
    for (int i = 0; i < s->nindex; i++) n->index[i] = clone_expr(k, s->index[i]);
    if (s->var && s->var->kind != V_SYM) n->var = clone_var(k, s->var, n->e);
    if (s->kind == S_DECL) {
        n->buf = gd_new(c, Buf);
        *n->buf = *s->buf;
        n->buf->id = k->p->nbufs++;
        map_putp(k->map, s->buf, n->buf);
    }
    n->buf = clone_buf(k, n->buf);
    if (s->nest) {
        n->nest = gd_new(c, NestInfo);
        *n->nest = *s->nest;
        n->nest->name = nest_name(k->p, s->nest->name);
    }
    n->body = n->other = (Block){0};
    for (int i = 0; i < s->body.n; i++) vec_push(c, &n->body, clone(k, s->body.v[i]));
    for (int i = 0; i < s->other.n; i++) vec_push(c, &n->other, clone(k, s->other.v[i]));
    return n;
}

Stmt *stmt_clone(Program *p, const Stmt *s, Map *vars) {
    Clone k = {p, vars ? vars : map_new(p->c)};
    return clone(&k, s);
}
