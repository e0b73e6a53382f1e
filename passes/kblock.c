/* Long reductions in blocks that stay in the cache. A nest

     for i.. { reg acc; acc = init; for k1, k2 { acc = f(acc, i, k1, k2) }; out[i] = acc }

   whose operands do not fit in L2 becomes, with k2 in blocks of 100,

     for i.. { out[i] = init }
     for k1, b { for i.. { reg acc; acc = out[i]; for k in 100 { acc = f(acc, i, k1, 100*b + k) }; out[i] = acc } }

   Each output goes through the same steps in the same order, so the bits are the same: a store and a load of its own type
   change nothing. The nest must end in that store alone, without an epilogue. Each nest is looked at once: it ends. */
#include "tile.h"

enum { MAX_REDUCTION = 6 };

typedef struct Reduction {
    Ctx *c;
    Stmt *loops[MAX_AXES], *red[MAX_REDUCTION]; /* over outputs; of the reduction, outermost first */
    int n, nred;
    Stmt *decl, *init, *store;
    Block *step;      /* what the innermost loop does */
    Accesses acc;
} Reduction;

/* The pattern, or false. */
static bool find(Program *p, Reduction *r, Stmt *top) {
    Block *b = nest_chain(top, MAX_AXES, r->loops, &r->n);
    if (b->n != 4) return false;
    r->decl = b->v[0];
    r->init = b->v[1];
    r->store = b->v[3];
    Stmt *s = b->v[2];
    if (r->decl->kind != S_DECL || r->init->kind != S_STORE || s->kind != S_FOR || r->store->kind != S_STORE) return false;
    const Buf *acc = r->decl->buf;
    const Expr *e = r->store->e;
    bool plain = acc->space == SP_REG && !acc->rank && r->init->buf == acc && !r->init->mask && !r->store->mask &&
                 r->store->buf->dt == acc->dt && e->kind == E_LOAD && e->buf == acc;
    for (; plain && s->kind == S_FOR && !s->free && s->mode == L_SERIAL && r->nred < MAX_REDUCTION; s = s->body.v[0]) {
        r->red[r->nred++] = s;
        r->step = &s->body;
        if (s->body.n != 1) break;
    }
    if (!plain || !r->nred || r->step->n != 1 || r->step->v[0]->kind != S_STORE || r->step->v[0]->buf != acc) return false;
    for (int i = 0; i < r->nred; i++)
        for (int k = 0; k < i; k++)
            if (expr_uses(r->red[i]->e, r->red[k]->var)) return false;
    nest_accesses(p, b, &r->acc);
    for (int i = 0; i < r->acc.n; i++)
        if (r->acc.v[i].load && buf_root(r->acc.v[i].buf) == buf_root(r->store->buf)) return false;
    return true;
}

static int64_t times(int64_t a, int64_t b) {
    int64_t r;
    return __builtin_mul_overflow(a, b, &r) ? INT64_MAX : r;
}

/* Elements that a load touches while the first `fixed` loops of the reduction stand still: at most one for each iteration of
   the loops that move it, and no more than lie between its first and last address. */
static int64_t touched(Reduction *r, const Access *a, int fixed) {
    int64_t count = 1, span = 1, step;
    for (int i = 0; i < r->n + r->nred - fixed; i++) {
        const Stmt *loop = i < r->n ? r->loops[i] : r->red[fixed + i - r->n];
        int64_t trip = trip_guess(loop->e);
        if (!expr_uses(a->at, loop->var)) continue;
        count = times(count, trip);
        if (!access_stride(r->c, a, loop->var, &step)) span = INT64_MAX;
        else if (span < INT64_MAX && __builtin_add_overflow(span, times(step < 0 ? -step : step, trip - 1), &span)) span = INT64_MAX;
    }
    return count < span ? count : span;
}

static int64_t footprint(Reduction *r, int fixed) {
    int64_t bytes = 0;
    for (int i = 0; i < r->acc.n; i++) {
        const Access *a = &r->acc.v[i];
        bool seen = false;
        for (int k = 0; k < i; k++) seen |= r->acc.v[k].at == a->at && buf_root(r->acc.v[k].buf) == buf_root(a->buf);
        if (!a->load || !a->inner || seen) continue;
        int64_t more = times(touched(r, a, fixed), gd_dtypes[a->buf->dt].bytes);
        if (__builtin_add_overflow(bytes, more, &bytes)) return INT64_MAX;
    }
    return bytes;
}

/* Which loop is split, and into how long blocks; false: none. */
static bool choose(Reduction *r, const Machine *m, int *level, int64_t *block) {
    enum { SHORTEST = 128, COLUMN = 48 /* lanes of a tile and its rows, about */ };
    int64_t trips = 1, budget = m->l2 / 10 * 6, size = gd_dtypes[r->decl->buf->dt].bytes;
    for (int i = 0; i < r->nred; i++) trips = times(trips, trip_guess(r->red[i]->e));
    if (times(times(trips, COLUMN), size) <= m->l2 / 4 || footprint(r, 0) <= budget) return false;
    for (int j = 0; j < r->nred; j++) {
        int64_t trip = trip_guess(r->red[j]->e), each = footprint(r, j + 1), inside = 1;
        for (int i = j + 1; i < r->nred; i++) inside = times(inside, trip_guess(r->red[i]->e));
        if (j < r->nred - 1 && each > budget && inside > SHORTEST) continue;
        int64_t n = each < budget ? budget / (each > 0 ? each : 1) : 1;
        if (times(n, inside) < SHORTEST) n = (SHORTEST + inside - 1) / inside;
        int64_t known, exact = n;
        bool sized = is_int(r->red[j]->e, &known);
        while (sized && exact > n / 2 && exact > 1 && known % exact) exact--;
        *level = j;
        *block = sized && exact > n / 2 && known % exact == 0 ? exact : n;
        return j > 0 || *block < trip;
    }
    return false;
}

static Block *open(Program *p, const Stmt *loop, Expr *trip, bool free, Map *vars, Block *to) {
    Stmt *s = stmt_for(p, to, loop->var->name, trip, free);
    map_putp(vars, loop->var, expr_var(p->c, s->var));
    return &s->body;
}

static void put_clone(Program *p, Block *to, const Stmt *s, Map *vars) { vec_push(p->c, to, stmt_clone(p, s, vars)); }

bool block_reduction(Program *p, const Machine *m, Stmt *top, Block *to) {
    Ctx *c = p->c;
    Reduction r = {.c = c};
    int level;
    int64_t block;
    if (!find(p, &r, top) || !choose(&r, m, &level, &block)) return false;
    Stmt *out = r.store;
    Map *vars = map_new(c);
    Block *in = to;
    for (int i = 0; i < r.n; i++) in = open(p, r.loops[i], expr_subst(c, r.loops[i]->e, vars), true, vars, in);
    Expr *index[MAX_RANK];
    for (int i = 0; i < out->nindex; i++) index[i] = expr_subst(c, out->index[i], vars);
    stmt_store(p, in, out->buf, index, expr_subst(c, r.init->e, vars), NULL);

    vars = map_new(c);
    in = to;
    for (int i = 0; i < level; i++) in = open(p, r.red[i], r.red[i]->e, false, vars, in);
    const Stmt *split = r.red[level];
    Expr *size = expr_int(c, block), *blocks = expr_fdiv(c, expr_add(c, split->e, expr_int(c, block - 1)), size);
    Expr *start = expr_int(c, 0), *trip = split->e;
    if (!is_value(blocks, 1)) {
        Stmt *b = stmt_for(p, in, "b", blocks, false);
        start = expr_mul(c, expr_var(c, b->var), size);
        trip = is_value(expr_fmod(c, split->e, size), 0) ? size : expr2(c, E_MIN, size, expr_sub(c, split->e, start));
        in = &b->body;
    }
    for (int i = 0; i < r.n; i++) in = open(p, r.loops[i], expr_subst(c, r.loops[i]->e, vars), true, vars, in);
    put_clone(p, in, r.decl, vars);
    Buf *acc = in->v[0]->buf;
    for (int i = 0; i < out->nindex; i++) index[i] = expr_subst(c, out->index[i], vars);
    stmt_store(p, in, acc, NULL, expr_load(c, out->buf, 1, index, NULL), NULL);
    Stmt *k = stmt_for(p, in, split->var->name, trip, false);
    map_putp(vars, split->var, expr_add(c, start, expr_var(c, k->var)));
    for (int i = 0; i < split->body.n; i++) put_clone(p, &k->body, split->body.v[i], vars);
    put_clone(p, in, out, vars);
    return true;
}
