/* parallelize: outer loops over output elements run on threads.

   Needs: nests in their final loop structure; loops marked free have independent iterations.
   Promises: a PARALLEL loop is free, contains no other, and uses no register or stack buffer declared outside
   of it; its iterations are enough to be dealt evenly to many threads where the nest allows that; many
   small ones are run some hundreds at a time. Nothing else changes, so the bits of the result do not depend on threads. A nest is entered once from the top and
   only downwards, so it ends.

   Is it worth it? Starting and joining threads costs one to a few microseconds, so a loop must do ten
   microseconds of work. The work is estimated from the statements, in picoseconds of one core, with symbols
   at their lowest. When that is too little but more sizes could make it enough, the program decides: `if work
   { parallel } else { serial }`.

     each n in 4                                       parallel p in 224
       each h in 56                                      each i in 4096
         each i in 4096                       ->           y[p//56, p mod 56, i] = ...
           y[n, h, i] = ... */
#include "passes.h"

enum {
    WORTH = 10 * 1000 * 1000, /* picoseconds of work that pay for threads */
    GRAIN = 1000 * 1000,      /* of one iteration of a merged loop, at least */
    FINE = 50 * 1000,         /* ... while there are FEW iterations */
    MANY = 512,               /* iterations that 64 threads share evenly */
    FEW = 8, /* iterations too few to stand alone: inner loops are merged in, or asked first */
    MAX_MERGE = 4,
    OP = 150,
    CALL = 3000,
    MEMORY = 20 /* of an instruction, of an elementary function, of a byte in memory */
};

typedef struct Par {
    Program *p;
    Ctx *c;
    uint32_t mark;
    int64_t sum, memory;
    Map *declared;
    bool found;
} Par;

/* ---- how much a statement does ---- */

static bool on_stack(const Buf *b) { return b->space == SP_REG || b->space == SP_LOCAL; }

static void count(void *arg, Expr *e) {
    Par *w = arg;
    if (e->kind == E_CONST || e->kind == E_VAR || e->kind == E_LANE) return;
    if (e->type.dt == I64 && e->type.lanes == 1) return; /* indices: mostly part of an address */
    w->sum += e->kind == E_CALL ? CALL : OP;
    if (e->kind == E_LOAD && !on_stack(e->buf))
        w->sum += w->memory * gd_dtypes[e->type.dt].bytes * e->type.lanes;
}

static int64_t own_work(Par *w, Stmt *s) {
    w->mark = expr_mark(w->c);
    w->sum = OP;
    w->memory = s->kind == S_STORE && on_stack(s->buf) ? MEMORY / 10 : MEMORY / 2; /* accumulators mostly read caches */
    if (s->e) expr_walk(s->e, w->mark, count, w);
    if (s->kind == S_STORE && !on_stack(s->buf))
        w->sum += MEMORY * gd_dtypes[s->e->type.dt].bytes * s->e->type.lanes;
    return w->sum;
}

/* Over symbols only: a variable of a loop around is taken at its highest. */
static Expr *at_most(void *arg, Expr *e) {
    Par *w = arg;
    if (e->kind != E_VAR || e->var->kind == V_SYM) return e;
    return expr_int(w->c, e->var->hi == INT64_MAX ? 1 : e->var->hi);
}

static int64_t sat_mul(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}
static int64_t sat_add(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_add_overflow(a, b, &r) ? INT64_MAX : r;
}

/* Picoseconds: a number, and a part that depends on symbols (NULL: none). */
typedef struct Work {
    int64_t k;
    Expr *e;
} Work;

static Work plus(Ctx *c, Work a, Work b) {
    return (Work){sat_add(a.k, b.k), !a.e ? b.e : !b.e ? a.e : expr_add(c, a.e, b.e)};
}
static Expr *whole(Ctx *c, Work a) { return a.e ? expr_add(c, a.e, expr_int(c, a.k)) : expr_int(c, a.k); }

static Work stmt_work(Par *w, Stmt *s);
static Work block_work(Par *w, const Block *b) {
    Work sum = {0};
    for (int i = 0; i < b->n; i++) sum = plus(w->c, sum, stmt_work(w, b->v[i]));
    return sum;
}
static Work stmt_work(Par *w, Stmt *s) {
    int64_t trip;
    Work inside = plus(w->c, block_work(w, &s->body), block_work(w, &s->other)), own = {own_work(w, s), NULL};
    if (s->kind == S_FOR) {
        Expr *n = expr_rewrite(w->c, s->e, at_most, w);
        if (is_int(n, &trip)) {
            inside.k = sat_mul(inside.k, trip);
            if (inside.e) inside.e = expr_mul(w->c, inside.e, n);
        } else inside = (Work){0, expr_mul(w->c, whole(w->c, inside), n)};
    }
    return plus(w->c, inside, own);
}

static int64_t least(Par *w, Work work) {
    int64_t lo, hi;
    expr_range(w->c, whole(w->c, work), &lo, &hi);
    return lo;
}

/* With every symbol at its largest, or large: not a bound, but what is small then is not meant to be large.
 */
static Expr *large(void *c, Expr *e) {
    enum { LARGE = 65543 };
    if (e->kind != E_VAR) return e;
    return expr_int(c, e->var->hi != INT64_MAX ? e->var->hi : e->var->lo > LARGE ? e->var->lo : LARGE);
}
static bool can_grow(Par *w, Expr *work) {
    int64_t n;
    return !is_int(expr_rewrite(w->c, work, large, w->c), &n) || n >= WORTH;
}

/* ---- may it? ---- */

static void check_load(void *arg, Expr *e) {
    Par *w = arg;
    if (e->kind == E_LOAD && on_stack(e->buf) && map_getp(w->declared, buf_root(e->buf))) w->found = true;
}
static Expr *check_expr(void *arg, Expr *e) {
    Par *w = arg;
    expr_walk(e, w->mark, check_load, w);
    return e;
}
static bool check_stmt(void *arg, Stmt *s) {
    Par *w = arg;
    if (s->buf && s->kind != S_DECL && map_getp(w->declared, buf_root(s->buf))) w->found = true;
    stmt_exprs(s, check_expr, w);
    return !w->found;
}
/* Does the loop touch a register or stack buffer declared outside of it? */
static bool shares(Par *w, Stmt *loop) {
    w->mark = expr_mark(w->c);
    w->found = false;
    block_walk(&loop->body, check_stmt, w);
    return w->found;
}

/* ---- making it so ---- */

/* The loops that become one, from s inwards, while their iterations are few and what is left inside is
 * enough. */
static int merged(Par *w, Stmt *s, Stmt **loop) {
    int64_t lo, hi;
    Expr *trips = s->e;
    int n = 1;
    loop[0] = s;
    for (; n < MAX_MERGE; n++) {
        Stmt *in = s->body.n == 1 ? s->body.v[0] : NULL;
        expr_range(w->c, trips, &lo, &hi);
        if (!in || in->kind != S_FOR || !in->free || in->mode != L_SERIAL || lo >= MANY) break;
        for (int i = 0; i < n; i++)
            if (expr_uses(in->e, loop[i]->var)) return n;
        if (least(w, block_work(w, &in->body)) < (lo < FEW ? FINE : GRAIN)) break;
        trips = expr_mul(w->c, trips, in->e);
        loop[n] = s = in;
    }
    return n;
}

/* Many small iterations: MANY runs of neighbours at most, so that what they share is computed once a run (`bind`). */
static Stmt *in_runs(Par *w, Stmt *s) {
    Ctx *c = w->c;
    int64_t trip, runs = MANY / 2, even = MANY;
    if (is_int(s->e, &trip)) {
        while (even >= MANY / 8 && trip % even) even--;
        if (even >= MANY / 8) runs = even;
    }
    Expr *count = expr_int(c, runs), *one = expr_int(c, 1);
    Stmt *all = stmt_for(w->p, NULL, "p", count, true);
    Expr *p = expr_var(c, all->var), *from = expr_fdiv(c, expr_mul(c, p, s->e), count);
    Expr *to = expr_fdiv(c, expr_mul(c, expr_add(c, p, one), s->e), count);
    Stmt *run = stmt_for(w->p, &all->body, s->var->name, expr_sub(c, to, from), true);
    Map *vars = map_new(c);
    map_putp(vars, s->var, expr_add(c, from, expr_var(c, run->var)));
    for (int i = 0; i < s->body.n; i++) vec_push(c, &run->body, stmt_clone(w->p, s->body.v[i], vars));
    all->mode = L_PARALLEL;
    return all;
}

static Stmt *parallel(Par *w, Stmt *s) {
    Stmt *loop[MAX_MERGE];
    Ctx *c = w->c;
    int n = merged(w, s, loop);
    if (n == 1) {
        int64_t lo, hi;
        expr_range(c, s->e, &lo, &hi);
        if (lo > 2 * MANY && least(w, block_work(w, &s->body)) < GRAIN) return in_runs(w, s);
        s->mode = L_PARALLEL;
        return s;
    }
    Expr *trips = expr_int(c, 1);
    for (int i = 0; i < n; i++) trips = expr_mul(c, trips, loop[i]->e);
    Stmt *all = stmt_for(w->p, NULL, "p", trips, true);
    Expr *rest = expr_var(c, all->var);
    Map *vars = map_new(c);
    for (int i = n - 1; i >= 0; i--) {
        map_putp(vars, loop[i]->var, i ? expr_fmod(c, rest, loop[i]->e) : rest);
        rest = expr_fdiv(c, rest, loop[i]->e);
    }
    const Block *body = &loop[n - 1]->body;
    for (int i = 0; i < body->n; i++) vec_push(c, &all->body, stmt_clone(w->p, body->v[i], vars));
    all->mode = L_PARALLEL;
    return all;
}

static bool enter(Par *w, Block *b);

/* Puts s on threads, always or when the sizes make it worth it, and returns what stands in its place; or
 * leaves it. */
static Stmt *consider(Par *w, Stmt *s, bool *done) {
    Work work = stmt_work(w, s);
    Expr *all = whole(w->c, work), *pays;
    int64_t lo, hi, trip = 0;
    expr_range(w->c, all, &lo, &hi);
    *done = false;
    if (hi < WORTH || !can_grow(w, all)) return s;
    Stmt *loop[MAX_MERGE];
    if (is_int(s->e, &trip) && trip < FEW && merged(w, s, loop) == 1 && enter(w, &s->body)) {
        *done = true;
        return s;
    }
    if (trip == 1) return s;
    *done = true;
    if (lo >= WORTH) return parallel(w, s);
    pays = expr2(w->c, E_LE, expr_int(w->c, WORTH), all);
    Stmt *choice = stmt_if(w->p, NULL, pays);
    vec_push(w->c, &choice->other, stmt_clone(w->p, s, NULL));
    vec_push(w->c, &choice->body, parallel(w, s));
    return choice;
}

/* The statements of b and, where a loop cannot run on threads itself, those inside. */
static bool enter(Par *w, Block *b) {
    bool any = false, done;
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->kind == S_DECL) map_putp(w->declared, s->buf, s);
        if (s->kind == S_FOR && s->free && s->mode == L_SERIAL && !shares(w, s)) {
            b->v[i] = consider(w, s, &done);
            any |= done;
        } else {
            any |= enter(w, &s->body);
            any |= enter(w, &s->other);
        }
    }
    return any;
}

static bool in_nest(void *arg, Stmt *s) {
    Par *w = arg;
    if (s->kind != S_NEST) return true;
    w->declared = map_new(w->c);
    enter(w, &s->body);
    gd_check_time(w->c);
    return false;
}

void pass_parallelize(Program *p, const PassOptions *o) {
    Par w = {.p = p, .c = p->c};
    if (o->threads != 1) block_walk(&p->body, in_nest, &w);
}
