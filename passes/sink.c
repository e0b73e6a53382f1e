/* Moving tile loops inside. A nest

     for i0.. { reg acc; acc = init; for k { acc = f(acc, i) }; out[i] = acc }

   becomes, for a tile of 2 x 16 elements of axes r and v (r = 2 R + i, v = 16 V + l):

     for R, V { reg acc[2][16]; for i, l: acc[i,l] = init; for k { for i, l: acc[i,l] = f(acc[i,l], i, l) }; for i, l: out = acc[i,l] }

   The statements of one iteration run in the same order as before and iterations are independent, so nothing that
   is computed changes. A size that the tile does not divide gets a second, smaller copy of the nest. Every statement
   is emitted once for each part: it ends. */
#include "tile.h"

typedef struct Inner {
    Var *at;        /* stands for the loop variable until the loop is made around a statement */
    Expr *trip;
    LoopMode mode;
    int width;
} Inner;

typedef struct Sink {
    Program *p;
    Ctx *c;
    const Plan *plan;
    Block *body;
    Map *value;          /* Var -> Expr: what split variables and moved lets are now */
    int n, rows;         /* inner loops; those over rows come first */
    Inner inner[MAX_INNER + 1];
    Map *wide;           /* Buf -> Buf: registers that got a dim for each inner loop */
    int only[MAX_AXES];  /* the part of an axis to be emitted; -1: all */
    Map *fresh;          /* Var -> Expr: inner loop variables of the statement being emitted */
} Sink;

/* Elements of a buffer declared in a nest, when it is small enough for every element of a tile to have its own. */
static int64_t own_elements(const Buf *b) {
    int64_t n = 1, dim;
    for (int i = 0; i < b->rank; i++) {
        if (!is_int(b->dim[i], &dim) || dim > MOST_LANES) return 0;
        n *= dim;
    }
    return n <= MOST_LANES && !b->stride ? n : 0;
}

int64_t sink_registers(const Block *b) {
    int64_t n = 0;
    for (int i = 0; i < b->n; i++) {
        const Stmt *s = b->v[i];
        if (s->kind == S_DECL && s->buf->space == SP_REG) n += own_elements(s->buf);
        n += sink_registers(&s->body) + sink_registers(&s->other);
    }
    return n;
}

static Search not_plain(void *arg, Expr *e) {
    (void)arg;
    return e->kind == E_LOAD || (e->kind == E_VAR && e->var->kind == V_LET) ? SEARCH_FOUND : SEARCH_ON;
}

bool sink_possible(Ctx *c, Block *b, bool lanes) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        switch (s->kind) {
        case S_DECL: case S_STORE: case S_LET: break;
        case S_FOR: if (s->free && (!lanes || expr_max(c, s->e) > MOST_LANES)) return false; break;
        case S_IF: break;
        default: return false;
        }
        if (lanes && (s->kind == S_IF || s->kind == S_FOR) && expr_search(c, s->e, not_plain, NULL)) return false;
        if (s->kind == S_DECL && (lanes ? !own_elements(s->buf) : s->buf->space != SP_REG)) return false;
        if (!sink_possible(c, &s->body, lanes) || !sink_possible(c, &s->other, lanes)) return false;
    }
    return true;
}

/* ---- one statement under its tile loops ---- */

static Expr *fix_node(void *arg, Expr *e) {
    Sink *t = arg;
    if (e->kind == E_VAR) {
        Expr *to = map_getp(t->fresh, e->var);
        if (!to) to = map_getp(t->value, e->var);
        /* A value itself speaks of inner variables: those of the loops around this statement. */
        return to ? expr_subst(t->c, to, t->fresh) : e;
    }
    Buf *wide = e->kind == E_LOAD ? map_getp(t->wide, e->buf) : NULL;
    if (!wide) return e;
    Expr *index[2 * MAX_RANK];
    int rank = e->buf->rank;
    for (int i = 0; i < rank; i++) index[i] = e->arg[i];
    for (int i = 0; i < t->n; i++) index[rank + i] = map_getp(t->fresh, t->inner[i].at);
    return expr_load(t->c, wide, 1, index, e->nargs > e->buf->rank ? e->arg[e->buf->rank] : NULL);
}

static Expr *fix(Sink *t, Expr *e) { return e ? expr_rewrite(t->c, e, fix_node, t) : NULL; }

static Block *open_inner(Sink *t, Block *to) {
    t->fresh = map_new(t->c);
    for (int i = 0; i < t->n; i++) {
        const Inner *d = &t->inner[i];
        Stmt *s = stmt_for(t->p, to, d->at->name, expr_subst(t->c, d->trip, t->fresh), true);
        s->mode = (uint8_t)d->mode;
        s->width = (uint8_t)d->width;
        map_putp(t->fresh, d->at, expr_var(t->c, s->var));
        to = &s->body;
    }
    return to;
}

static void emit_store(Sink *t, Buf *b, int n, Expr *const *index, Expr *value, Expr *mask, Block *to) {
    Block *in = open_inner(t, to);
    Buf *wide = map_getp(t->wide, b);
    Expr *at[2 * MAX_RANK];
    int k = 0;
    for (int i = 0; i < n; i++) at[i] = fix(t, index[i]);
    for (; wide && k < t->n; k++) at[n + k] = map_getp(t->fresh, t->inner[k].at);
    stmt_store(t->p, in, wide ? wide : b, at, fix(t, value), fix(t, mask));
}

/* Its own dims, then those of the tile. */
static Buf *widen(Sink *t, Space space, DType dt, const char *name, int rank, Expr *const *dim, Block *to) {
    Expr *d[2 * MAX_RANK];
    for (int i = 0; i < rank; i++) d[i] = dim[i];
    for (int i = 0; i < t->n; i++)
        d[rank + i] = expr_int(t->c, t->inner[i].width ? t->inner[i].width : (int64_t)t->inner[i].trip->bits);
    Buf *b = buf_new(t->p, space, dt, t->n + rank, d, name);
    stmt_decl(t->p, to, b);
    return b;
}

static Search varies(void *arg, Expr *e) {
    const Sink *t = arg;
    if (e->kind == E_LOAD && map_getp(t->wide, e->buf)) return SEARCH_FOUND;
    if (e->kind != E_VAR) return SEARCH_ON;
    for (int i = 0; i < t->n; i++)
        if (e->var == t->inner[i].at) return SEARCH_FOUND;
    Expr *v = map_getp(t->value, e->var);
    return v && expr_search(t->c, v, varies, arg) ? SEARCH_FOUND : SEARCH_ON;
}

static void sink(Sink *t, Block *from, Block *to);

static void sink_stmt(Sink *t, Stmt *s, Block *to) {
    switch (s->kind) {
    case S_DECL:
        map_putp(t->wide, s->buf, widen(t, s->buf->space, s->buf->dt, s->buf->name, s->buf->rank, s->buf->dim, to));
        return;
    case S_STORE:
        emit_store(t, s->buf, s->nindex, s->index, s->e, s->mask, to);
        return;
    case S_LET:
        if (expr_search(t->c, s->e, varies, t)) { /* a register a tile element */
            Buf *b = widen(t, SP_REG, (DType)s->e->type.dt, s->var->name, 0, NULL, to);
            Expr *at[MAX_INNER];
            for (int i = 0; i < t->n; i++) at[i] = expr_var(t->c, t->inner[i].at);
            map_putp(t->value, s->var, expr_load(t->c, b, 1, at, NULL));
            Block *in = open_inner(t, to);
            for (int i = 0; i < t->n; i++) at[i] = map_getp(t->fresh, t->inner[i].at);
            stmt_store(t->p, in, b, at, fix(t, s->e), NULL);
        } else {
            t->fresh = map_new(t->c);
            Stmt *l = stmt_let(t->p, to, s->var->name, fix(t, s->e));
            map_putp(t->value, s->var, expr_var(t->c, l->var));
        }
        return;
    case S_FOR: {
        t->fresh = map_new(t->c);
        Stmt *l = stmt_for(t->p, to, s->var->name, fix(t, s->e), s->free);
        if (s->free && is_const(s->e)) l->mode = L_UNROLL; /* lanes: registers of their own */
        map_putp(t->value, s->var, expr_var(t->c, l->var));
        sink(t, &s->body, &l->body);
        return;
    }
    default: { /* S_IF: sink_possible lets nothing else through, and its condition does not vary */
        t->fresh = map_new(t->c);
        Stmt *b = stmt_if(t->p, to, fix(t, s->e));
        sink(t, &s->body, &b->body);
        sink(t, &s->other, &b->other);
        return;
    }
    }
}

static void sink(Sink *t, Block *from, Block *to) {
    for (int i = 0; i < from->n; i++) sink_stmt(t, from->v[i], to);
}

/* ---- the loops around ---- */

/* The iterations of an axis that one form of the tile takes: `trip` tiles of `size`, from `start` on. */
typedef struct Part { Expr *start, *trip; int64_t size; int n; Inner inner[2]; } Part;

static void around(Sink *t, int k, Block *to);

/* The axis is start + size * outer + inner. */
static void put_part(Sink *t, int k, Block *to, const Part *p) {
    Ctx *c = t->c;
    const Axis *a = &t->plan->axis[k];
    Expr *at = p->start;
    if (!is_value(p->trip, 1)) {
        Stmt *s = stmt_for(t->p, to, a->var->name, p->trip, true);
        at = expr_add(c, at, expr_mul(c, expr_int(c, p->size), expr_var(c, s->var)));
        to = &s->body;
    }
    Sink saved = *t;
    for (int i = 0; i < p->n; i++) {
        Inner d = p->inner[i];
        int64_t scale = i == p->n - 1 ? 1 : t->plan->lanes;
        if (d.mode == L_VECTOR && d.trip) { /* fewer lanes at the end: what is left behind the vectors before */
            Expr *rest = expr_sub(c, a->trip, at);
            d.trip = expr2(c, E_MAX, expr2(c, E_MIN, expr_int(c, d.width), rest), expr_int(c, 0));
        } else if (d.mode == L_VECTOR) d.trip = expr_int(c, d.width);
        d.at = var_new(c, V_LOOP, scalar(I64), a->var->name, 0, expr_max(c, d.trip) - 1);
        d.at->def = d.trip;
        int place = t->plan->axis[k].vectors ? t->n : t->rows++; /* vectors are the innermost loops */
        memmove(&t->inner[place + 1], &t->inner[place], (size_t)(t->n++ - place) * sizeof d);
        t->inner[place] = d;
        at = expr_add(c, at, expr_mul(c, expr_int(c, scale), expr_var(c, d.at)));
    }
    map_putp(t->value, a->var, at);
    around(t, k + 1, to);
    t->n = saved.n;
    t->rows = saved.rows;
    memcpy(t->inner, saved.inner, sizeof t->inner);
}

static Inner unrolled(Ctx *c, int64_t trip) { return (Inner){.trip = expr_int(c, trip), .mode = L_UNROLL}; }

static int put(Part *out, int n, Expr *start, Expr *trip, int64_t size, int ninner, const Inner *inner) {
    if (is_value(trip, 0)) return n;
    out[n] = (Part){.start = start, .trip = trip, .size = size, .n = ninner};
    for (int i = 0; i < ninner; i++) out[n].inner[i] = inner[i];
    return n + 1;
}

static int vector_parts(Sink *t, const Axis *a, Part *out) {
    Ctx *c = t->c;
    int lanes = t->plan->lanes;
    int64_t size = (int64_t)a->vectors * lanes, trip, most = expr_max(c, a->trip);
    Inner whole = {.mode = L_VECTOR, .width = lanes}, some = whole;
    some.trip = expr_int(c, 0); /* not all lanes; the trip is found in put_part() */
    Inner both[2] = {unrolled(c, a->vectors), whole};
    if (!is_int(a->trip, &trip) && most <= 2 * lanes) { /* never long: no loop, only lanes that stay empty */
        both[0] = unrolled(c, (most + lanes - 1) / lanes);
        both[1] = some;
        return put(out, 0, expr_int(c, 0), expr_int(c, 1), size, most > lanes ? 2 : 1, most > lanes ? both : &some);
    }
    Expr *tiles = expr_fdiv(c, a->trip, expr_int(c, size)), *done = expr_mul(c, tiles, expr_int(c, size));
    int n = put(out, 0, expr_int(c, 0), tiles, size, a->vectors > 1 ? 2 : 1, a->vectors > 1 ? both : &whole);
    if (is_int(a->trip, &trip)) {
        int64_t rest = trip % size, vectors = (rest + lanes - 1) / lanes;
        Inner left[2] = {unrolled(c, vectors), rest % lanes ? some : whole};
        return rest ? put(out, n, done, expr_int(c, 1), size, vectors > 1 ? 2 : 1, vectors > 1 ? left : left + 1) : n;
    }
    Expr *rest = expr_sub(c, a->trip, done);
    Expr *vectors = expr_fdiv(c, expr_add(c, rest, expr_int(c, lanes - 1)), expr_int(c, lanes));
    return put(out, n, done, vectors, lanes, 1, &some);
}

static int row_parts(Sink *t, const Axis *a, Part *out) {
    Ctx *c = t->c;
    Expr *size = expr_int(c, a->rows), *tiles = expr_fdiv(c, a->trip, size), *done = expr_mul(c, tiles, size);
    Expr *rest = expr_sub(c, a->trip, done);
    int64_t left;
    Inner rows = unrolled(c, a->rows), one = unrolled(c, 1);
    int n = put(out, 0, expr_int(c, 0), tiles, a->rows, 1, &rows);
    if (!is_int(rest, &left)) return put(out, n, done, rest, 1, 1, &one);
    Inner few = unrolled(c, left);
    return left ? put(out, n, done, expr_int(c, 1), a->rows, 1, &few) : n;
}

static int parts(Sink *t, int k, Part *out) {
    const Axis *a = &t->plan->axis[k];
    if (a->vectors) return vector_parts(t, a, out);
    if (a->rows) return row_parts(t, a, out);
    return put(out, 0, expr_int(t->c, 0), a->trip, 1, 0, NULL);
}

static void around(Sink *t, int k, Block *to) {
    Part p[2];
    if (k == t->plan->n) {
        t->wide = map_new(t->c);
        sink(t, t->body, to);
        return;
    }
    int n = parts(t, k, p);
    for (int i = 0; i < n; i++)
        if (t->only[k] < 0 || t->only[k] == i) put_part(t, k, to, &p[i]);
}

/* What is left over gets loops of its own from the outermost axis on when there are few iterations around it: so there are
   long chains of loops for threads to share. */
static void apart(Sink *t, int k, int64_t around_it, Block *to) {
    enum { FEW = 16 };
    Part p[2];
    if (k == t->plan->n) { around(t, 0, to); return; }
    int n = parts(t, k, p);
    int64_t trips = n ? trip_guess(p[0].trip) : 1;
    for (int i = 0; i < n; i++) {
        t->only[k] = n > 1 && around_it <= FEW ? i : -1;
        apart(t, k + 1, around_it * trips, to);
        if (t->only[k] < 0) return;
    }
}

void sink_nest(Program *p, const Plan *plan, Block *body, Block *to) {
    Sink t = {.p = p, .c = p->c, .plan = plan, .body = body, .value = map_new(p->c)};
    apart(&t, 0, 1, to);
}
