/* Element functions at work: see lower.h. The nests of a whole graph are in lowergraph.c.

   Invariant: an expression returned for a scope only uses variables, registers and temporaries of that scope or of
   the scopes around it. `where` knows which scope each of them belongs to, and an accumulator is emitted into the
   deepest scope that what it depends on belongs to: never further in, so it is computed as rarely as possible. */
#include "lower.h"

/* ---- scopes ---- */

typedef struct Deepest { Lower *L; Scope *scope; } Deepest;

static void look(void *arg, Expr *e) {
    Deepest *d = arg;
    Scope *s = NULL;
    if (e->kind == E_VAR) s = map_getp(d->L->where, e->var);
    else if (e->kind == E_LOAD) s = map_getp(d->L->where, e->buf);
    if (s && s->depth > d->scope->depth) d->scope = s;
}

/* The outermost scope, within the nest, where all the expressions can be evaluated. */
static Scope *scope_for(Lower *L, int n, Expr *const *deps) {
    Scope *floor = L->scope;
    while (!floor->floor && floor->outer) floor = floor->outer;
    Deepest d = {L, floor};
    uint32_t mark = expr_mark(L->c);
    for (int i = 0; i < n; i++) expr_walk(deps[i], mark, look, &d);
    if (L->guard) expr_walk(L->guard, mark, look, &d);
    return d.scope;
}

static Scope *push(Lower *L, Stmt *s, Block *block, Var *var) {
    Scope *scope = gd_new(L->c, Scope);
    *scope = (Scope){.outer = L->scope, .var = var, .stmt = s, .block = block, .memo = map_new(L->c),
                     .depth = L->scope ? L->scope->depth + 1 : 0};
    if (var) map_putp(L->where, var, scope);
    return L->scope = scope;
}

/* A loop is appended to its block only when it is closed: what is hoisted out of it comes before it. */
Expr *lower_open(Lower *L, const char *name, Expr *trip, bool free) {
    Block none = {0};
    Stmt *s = stmt_for(L->p, &none, name, trip, free);
    push(L, s, &s->body, s->var);
    return expr_var(L->c, s->var);
}

Stmt *lower_open_if(Lower *L, Expr *cond) {
    Block none = {0};
    Stmt *s = stmt_if(L->p, &none, cond);
    push(L, s, &s->body, NULL);
    return s;
}

Stmt *lower_open_while(Lower *L, Expr *cond) {
    Block none = {0};
    Stmt *s = stmt_new(L->p, &none, S_WHILE);
    s->e = cond;
    push(L, s, &s->body, NULL)->floor = true;
    return s;
}

void lower_close(Lower *L, int n) {
    for (; n > 0; n--) {
        Scope *s = L->scope;
        L->scope = s->outer;
        vec_push(L->c, L->scope->block, s->stmt);
    }
}

Block *lower_block(Lower *L) { return L->scope->block; }

void lower_store(Lower *L, Buf *b, Expr *const *idx, Expr *value) {
    stmt_store(L->p, lower_block(L), b, idx, value, L->guard);
}

static Buf *declare(Lower *L, Space space, DType dt, int rank, Expr *const *dim, const char *name) {
    Buf *b = buf_new(L->p, space, dt, rank, dim, name);
    stmt_decl(L->p, lower_block(L), b);
    map_putp(L->where, b, L->scope);
    return b;
}
Buf *lower_reg(Lower *L, DType dt, const char *name) { return declare(L, SP_REG, dt, 0, NULL, name); }
Buf *lower_local(Lower *L, DType dt, int rank, Expr *const *dim, const char *name) {
    return declare(L, SP_LOCAL, dt, rank, dim, name);
}
Expr *lower_load(Lower *L, Buf *b, Expr *const *idx) { return expr_load(L->c, b, 1, idx, L->guard); }

Expr *lower_let(Lower *L, const char *name, Expr *value) {
    Stmt *s = stmt_let(L->p, lower_block(L), name, value);
    map_putp(L->where, s->var, L->scope);
    return expr_var(L->c, s->var);
}

/* ---- elements ---- */

static Expr *give_up(Lower *L, DType dt) {
    L->failed = true;
    return expr_const(L->c, scalar(dt), 0);
}

/* Element idx of a value whose elements are known. A variable index asks them one by one. */
static Expr *known_elem(Lower *L, Value *v, Expr *const *idx) {
    Ctx *c = L->c;
    Expr *flat = expr_int(c, 0), *count = value_count(c, v);
    int64_t at, n;
    for (int i = 0; i < v->rank; i++) flat = expr_add(c, expr_mul(c, flat, v->dim[i]), idx[i]);
    if (!is_int(count, &n)) return NULL;
    if (!n) return expr_const(c, scalar(v->dt), 0); /* no index is inside */
    if (is_int(flat, &at)) {
        if (at >= 0 && at < n) return value_elem(L->g, v, at);
        return L->guard ? expr_const(c, scalar(v->dt), 0) : give_up(L, v->dt);
    }
    if (L->fold && n > 4) return give_up(L, v->dt);
    Expr *e = value_elem(L->g, v, n - 1);
    for (int64_t i = n - 2; i >= 0; i--)
        e = expr_select(c, expr2(c, E_EQ, flat, expr_int(c, i)), value_elem(L->g, v, i), e);
    return e;
}

static Expr *map_elem(Lower *L, Node *n, Expr *const *idx) {
    Ctx *c = L->c;
    const Op *op = n->op;
    const Value *y = n->out[0];
    Map *names = map_new(c);
    DType dt = F32; /* of the arithmetic: the last input's, small floats as f32 */
    const char *s = op->in;
    for (int i = 0; i < n->nin; i++) {
        size_t len = strcspn(s, "? ");
        Expr *e = lower_broadcast(L, n->in[i], y->rank, y->dim, idx);
        dt = (DType)e->type.dt;
        if (dt_small(dt)) { dt = F32; e = expr_cast(c, e, F32); }
        map_put(names, s, len, e);
        s += strcspn(s, " ");
        if (*s) s++;
    }
    for (int i = 0; i < MAX_ATTRS && op->attrs[i].name; i++) {
        const Attr *a = &n->attr[i];
        if (a->kind == AT_FLOAT) map_puts(names, op->attrs[i].name, expr_num(c, dt, a->f));
        else if (a->kind == AT_INT) map_puts(names, op->attrs[i].name, expr_num(c, dt, (double)a->i));
    }
    Expr *e = gd_formula(c, op->value, names, dt);
    return (DType)e->type.dt != y->dt ? expr_cast(c, e, y->dt) : e;
}

static void note_source(Lower *L, const Node *n) {
    if (!L->sources || !n->label || strstr(L->sources->s, n->label)) return;
    if (L->sources->n > 200) return;
    text_printf(L->sources, "%s%s", L->sources->n ? ", " : "", n->label);
}

Expr *lower_compute(Lower *L, Value *v, Expr *const *idx) {
    Node *n = v->def;
    note_source(L, n);
    if (n->op->elem) return n->op->elem(L, n, v->port, idx);
    if (n->op->kind == OP_MAP) return map_elem(L, n, idx);
    return L->fold ? give_up(L, v->dt) : (gd_bug(L->c, "op %s has no element function", n->op->name), NULL);
}

/* (value, guard, idx) as bytes, for the memo. */
static size_t memo_key(const Lower *L, const Value *v, int n, Expr *const *idx, const void **key) {
    key[0] = v;
    key[1] = L->guard;
    for (int i = 0; i < n; i++) key[2 + i] = idx[i];
    return (size_t)(2 + n) * sizeof *key;
}

static Expr *inline_elem(Lower *L, Value *v, Expr *const *idx) {
    const void *key[MAX_RANK + 2];
    size_t bytes = memo_key(L, v, v->rank, idx, key);
    Scope *s = scope_for(L, v->rank, idx), *here = L->scope;
    Expr *e = map_get(s->memo, key, bytes);
    if (!e) {
        L->scope = s;
        e = lower_compute(L, v, idx);
        map_put(s->memo, key, bytes, e);
        L->scope = here;
    }
    return e;
}

/* A slice of v over its axes from local_axis on, computed once for each index of the axes before. */
static Expr *local_elem(Lower *L, Value *v, Expr *const *idx) {
    const void *key[MAX_RANK + 2];
    int a = v->local_axis, rest = v->rank - a;
    size_t bytes = memo_key(L, v, a, idx, key);
    Scope *s = scope_for(L, a, idx), *here = L->scope;
    Buf *b = map_get(s->memo, key, bytes);
    if (!b) {
        L->scope = s;
        b = lower_local(L, v->dt, rest, v->dim + a, "row");
        Expr *at[MAX_RANK];
        for (int i = 0; i < v->rank; i++) at[i] = i < a ? idx[i] : lower_open(L, "i", v->dim[i], true);
        lower_store(L, b, at + a, lower_compute(L, v, at));
        lower_close(L, rest);
        map_put(s->memo, key, bytes, b);
        L->scope = here;
    }
    return lower_load(L, b, idx + a);
}

Expr *lower_elem(Lower *L, Value *v, Expr *const *idx) {
    if (!v) gd_bug(L->c, "an input that was left out is read");
    bool constant_index = true;
    for (int i = 0; i < v->rank; i++) constant_index = constant_index && is_const(idx[i]);
    if (L->fold && v->data && v->dt != STRING) return known_elem(L, v, idx);
    if (value_known(v) && (constant_index || !v->data)) {
        Expr *e = known_elem(L, v, idx);
        if (e) return e;
    }
    if (L->fold) return give_up(L, v->dt);
    if (v->def && v->place == PL_INLINE) return inline_elem(L, v, idx);
    if (v->def && v->place == PL_LOCAL) return local_elem(L, v, idx);
    return lower_load(L, lower_buf(L, v), idx);
}

Expr *lower_guarded(Lower *L, Expr *cond, Value *v, Expr *const *idx, Expr *otherwise) {
    if (is_const(cond)) return cond->bits ? lower_elem(L, v, idx) : otherwise;
    Expr *guard = L->guard;
    L->guard = expr_and(L->c, guard, cond);
    Expr *e = lower_elem(L, v, idx);
    L->guard = guard;
    return expr_select(L->c, cond, e, otherwise);
}

Expr *lower_broadcast(Lower *L, Value *v, int rank, Expr *const *dim, Expr *const *idx) {
    Ctx *c = L->c;
    Expr *at[MAX_RANK], *zero = expr_int(c, 0);
    for (int i = 0; i < v->rank; i++) {
        int o = rank - v->rank + i;
        if (v->dim[i] == dim[o]) at[i] = idx[o];
        else if (is_value(v->dim[i], 1)) at[i] = zero;
        else at[i] = expr_select(c, expr2(c, E_EQ, v->dim[i], expr_int(c, 1)), zero, idx[o]);
    }
    return lower_elem(L, v, at);
}

/* ---- accumulators ---- */

static int64_t sat_product(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

static void fold_accum(Lower *L, const Accum *a, Expr **result) {
    int64_t trip[MAX_RANK], k[MAX_RANK] = {0}, total = 1;
    Expr *idx[MAX_RANK], *next[4];
    for (int i = 0; i < a->nacc; i++) result[i] = a->init[i];
    for (int i = 0; i < a->nloops; i++) {
        if (!is_int(a->trip[i], &trip[i])) { L->failed = true; return; }
        total = sat_product(total, trip[i]);
    }
    if (total > L->budget) { L->failed = true; return; }
    L->budget -= (int)total;
    for (int64_t step = 0; step < total && !L->failed; step++) {
        for (int i = 0; i < a->nloops; i++) idx[i] = expr_int(L->c, k[i]);
        a->step(L, a->arg, idx, result, next);
        for (int i = 0; i < a->nacc; i++) result[i] = next[i];
        for (int i = a->nloops - 1; i >= 0 && ++k[i] == trip[i]; i--) k[i] = 0;
    }
}

static void deps_of(Expr **to, int *n, int max, Expr *const *from, int count) {
    for (int i = 0; i < count && *n < max; i++) to[(*n)++] = from[i];
}

void lower_accum(Lower *L, const Accum *a, int ndeps, Expr *const *deps, Expr **result) {
    if (L->fold) { fold_accum(L, a, result); return; }
    Expr *all[3 * MAX_RANK + 8], *idx[MAX_RANK], *acc[4], *next[4];
    int n = 0;
    deps_of(all, &n, 3 * MAX_RANK + 8, deps, ndeps);
    deps_of(all, &n, 3 * MAX_RANK + 8, a->trip, a->nloops);
    deps_of(all, &n, 3 * MAX_RANK + 8, a->init, a->nacc);
    Scope *here = L->scope;
    L->scope = scope_for(L, n, all);
    Expr *guard = L->guard; /* registers are always there; only what step loads is guarded */
    Buf *reg[4];
    L->guard = NULL;
    for (int i = 0; i < a->nacc; i++) {
        reg[i] = lower_reg(L, (DType)a->init[i]->type.dt, "acc");
        lower_store(L, reg[i], NULL, a->init[i]);
        result[i] = lower_load(L, reg[i], NULL);
        acc[i] = result[i];
    }
    int opened = 0;
    for (int i = 0; i < a->nloops; i++) {
        if (is_value(a->trip[i], 1)) { idx[i] = expr_int(L->c, 0); continue; }
        idx[i] = lower_open(L, a->name[i] ? a->name[i] : "k", a->trip[i], false);
        opened++;
    }
    L->guard = guard;
    a->step(L, a->arg, idx, acc, next);
    L->guard = NULL;
    for (int i = 0; i < a->nacc && a->nacc > 1; i++) next[i] = lower_let(L, "next", next[i]);
    for (int i = 0; i < a->nacc; i++) lower_store(L, reg[i], NULL, next[i]);
    L->guard = guard;
    lower_close(L, opened);
    L->scope = here;
}

enum { LANES = 16 };
typedef struct Lanes { ExprKind op; Expr *(*term)(Lower *, void *, Expr *const *); void *arg; } Lanes;

static void lanes_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    Lanes *a = arg;
    next[0] = expr2(L->c, a->op, acc[0], a->term(L, a->arg, k));
}

/* Folding in the order of the lanes, so that folded and computed results are equal. */
static Expr *fold_lanes(Lower *L, const Lanes *a, int nloops, int last, Expr *const *trip, Expr *init) {
    int64_t n;
    Expr *lane[LANES];
    if (!is_int(trip[nloops - 1], &n)) return give_up(L, (DType)init->type.dt);
    for (int l = 0; l < LANES; l++) lane[l] = init;
    int64_t total = n, k[MAX_RANK] = {0}, t[MAX_RANK];
    for (int i = 0; i < nloops; i++) {
        if (!is_int(trip[i], &t[i])) return give_up(L, (DType)init->type.dt);
        if (i < nloops - 1) total = sat_product(total, t[i]);
    }
    if (total > L->budget) return give_up(L, (DType)init->type.dt);
    L->budget -= (int)total;
    for (int64_t step = 0; step < total; step++) {
        Expr *idx[MAX_RANK];
        for (int i = 0; i < nloops; i++) idx[i] = expr_int(L->c, k[i]);
        int l = (int)(k[last] % LANES);
        lane[l] = expr2(L->c, a->op, lane[l], a->term(L, a->arg, idx));
        for (int i = nloops - 1; i >= 0 && ++k[i] == t[i]; i--) k[i] = 0;
    }
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] = expr2(L->c, a->op, lane[l], lane[l + half]);
    return lane[0];
}

/* acc[l] = op(acc[l], term(..., base + l)) for l in count */
static void lane_loop(Lower *L, const Lanes *a, Buf *acc, Expr *count, Expr **idx, int last, Expr *base, Expr *guard) {
    Expr *l = lower_open(L, "l", count, true);
    idx[last] = expr_add(L->c, base, l);
    Expr *next, *now = expr_load(L->c, acc, 1, &l, NULL);
    L->guard = guard;
    lanes_step(L, (void *)a, idx, &now, &next);
    L->guard = NULL;
    stmt_store(L->p, lower_block(L), acc, &l, next, NULL);
    lower_close(L, 1);
}

Expr *lower_lanes(Lower *L, ExprKind op, int nloops, Expr *const *trip, Expr *init, int ndeps, Expr *const *deps,
                  Expr *(*term)(Lower *L, void *arg, Expr *const *k), void *arg) {
    Ctx *c = L->c;
    Lanes a = {op, term, arg};
    int last = nloops - 1; /* the lanes' loop: the last that has more than one iteration */
    while (last > 0 && is_value(trip[last], 1)) last--;
    if (L->fold) return fold_lanes(L, &a, nloops, last, trip, init);
    Expr *all[3 * MAX_RANK], *idx[MAX_RANK], *guard = L->guard, *n = trip[last];
    int count = 0;
    for (int i = last + 1; i < nloops; i++) idx[i] = expr_int(c, 0);
    deps_of(all, &count, 3 * MAX_RANK, deps, ndeps);
    deps_of(all, &count, 3 * MAX_RANK, trip, nloops);
    Scope *here = L->scope;
    L->scope = scope_for(L, count, all);
    L->guard = NULL;
    /* Lanes that no element reaches hold the neutral element: leaving them out changes nothing. */
    int64_t known, width = LANES;
    if (is_int(n, &known)) while (width > 1 && width / 2 >= known) width /= 2;
    Expr *wide = expr_int(c, width), *sixteen = expr_int(c, LANES), *l;
    DType dt = (DType)init->type.dt;
    Buf *acc = declare(L, SP_REG, dt, 1, &wide, "acc"), *tree = lower_local(L, dt, 1, &wide, "tree");
    l = lower_open(L, "l", wide, true);
    lower_store(L, acc, &l, init);
    lower_close(L, 1);
    for (int i = 0; i < last; i++) idx[i] = lower_open(L, "k", trip[i], false);
    Expr *blocks = expr_fdiv(c, n, sixteen), *tail = expr_fmod(c, n, sixteen);
    if (!is_value(blocks, 0)) {
        Expr *b = lower_open(L, "b", blocks, false);
        lane_loop(L, &a, acc, sixteen, idx, last, expr_mul(c, b, sixteen), guard);
        lower_close(L, 1);
    }
    if (!is_value(tail, 0)) lane_loop(L, &a, acc, tail, idx, last, expr_mul(c, blocks, sixteen), guard);
    lower_close(L, last);
    l = lower_open(L, "l", wide, true);
    lower_store(L, tree, &l, expr_load(c, acc, 1, &l, NULL));
    lower_close(L, 1);
    for (int64_t half = width / 2; half; half /= 2) {
        l = lower_open(L, "l", expr_int(c, half), true);
        Expr *other = expr_add(c, l, expr_int(c, half));
        lower_store(L, tree, &l, expr2(c, op, lower_load(L, tree, &l), lower_load(L, tree, &other)));
        lower_close(L, 1);
    }
    Expr *zero = expr_int(c, 0), *sum = lower_load(L, tree, &zero);
    L->guard = guard;
    L->scope = here;
    return sum;
}
