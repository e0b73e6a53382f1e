/* tile: chains of free loops become loops over register tiles.

   Needs: nests as lowering leaves them. Promises: the same values; inner loops of a tile are marked UNROLL and VECTOR, and what
   they accumulate into is a register with a dim for each of them. A chain without an axis along which memory is
   contiguous stays as it is. Each chain is looked at once, and what lies inside a chain that is not tiled is looked at
   in turn: it ends.

     for m in 128 { for n in 64 { reg acc; acc = 0; for k in 32: acc = fma(a[m,k], b[k,n], acc); c[m,n] = acc } }
   becomes, with 16 lanes and a tile of 8 x 3 (and one of 8 x 1 for what is left)
     for m in 16, n in 1 { reg acc[8,3,16]; ...; for k in 32: unroll i in 8, j in 3: vector l in 16: acc[i,j,l] = fma(a[8*m+i,k], b[..], ..) */
#include "tile.h"

enum { MAX_AROUND = 32 };

typedef struct Tiler {
    Program *p;
    Ctx *c;
    const PassOptions *o;
    Stmt *nest, *around[MAX_AROUND]; /* loops and branches around the nest, outermost first */
    int naround;
} Tiler;

/* ---- axes: split where a division takes them apart, merged where memory does not tell them apart ---- */

typedef struct Split { Var *v; int64_t by; Ctx *c; } Split;

static void find_division(void *arg, Expr *e) {
    Split *s = arg;
    int64_t k, trip;
    if ((e->kind != E_FDIV && e->kind != E_FMOD) || e->arg[0]->kind != E_VAR || e->arg[0]->var != s->v) return;
    if (is_int(e->arg[1], &k) && k > 1 && is_int(s->v->def, &trip) && trip % k == 0 && k < trip && k > s->by) s->by = k;
}

typedef struct Walk { Ctx *c; uint32_t mark; void (*fn)(void *, Expr *); void *arg; } Walk;

static bool walk_stmt(void *arg, Stmt *s) {
    Walk *w = arg;
    stmt_walk(s, w->mark, w->fn, w->arg);
    return true;
}

static void walk_block(Ctx *c, Block *b, void (*fn)(void *, Expr *), void *arg) {
    Walk w = {c, expr_mark(c), fn, arg};
    block_walk(b, walk_stmt, &w);
}

/* for v in A*B with v fdiv B or v fmod B somewhere: for v1 in A, v2 in B. Any loop: the order stays. */
static bool split_loop(Tiler *t, Stmt *loop) {
    Ctx *c = t->c;
    int64_t trip;
    Split s = {loop->var, 1, c};
    if (loop->mode != L_SERIAL || !is_int(loop->e, &trip)) return false;
    walk_block(c, &loop->body, find_division, &s);
    if (s.by == 1) return false;
    Block body = {0}, holder = {0};
    Stmt *inner = stmt_for(t->p, &holder, loop->var->name, expr_int(c, s.by), loop->free);
    Stmt *outer = stmt_for(t->p, NULL, loop->var->name, expr_int(c, trip / s.by), loop->free);
    Map *vars = map_new(c);
    map_putp(vars, loop->var, expr_add(c, expr_mul(c, expr_var(c, outer->var), expr_int(c, s.by)), expr_var(c, inner->var)));
    block_copy(t->p, &loop->body, &body, vars);
    inner->body = body;
    loop->var = outer->var;
    loop->e = outer->e;
    loop->body = holder;
    return true;
}

static void split_all(Tiler *t, Block *b) {
    for (int i = 0; i < b->n; i++) {
        while (b->v[i]->kind == S_FOR && split_loop(t, b->v[i])) continue;
        split_all(t, &b->v[i]->body);
        split_all(t, &b->v[i]->other);
    }
}

/* a (outer, its only statement b) can be one loop when every address moves by trip(b) * step(b) for a step of a. */
static bool mergeable(Tiler *t, Stmt *a, Stmt *b, const Accesses *acc) {
    Ctx *c = t->c;
    if (nest_controls(c, &b->body, a->var) || nest_controls(c, &b->body, b->var)) return false;
    if (expr_uses(b->e, a->var)) return false;
    for (int i = 0; i < acc->n; i++) {
        Expr *base, *sa, *sb, *at = acc->v[i].at;
        bool ua = expr_uses(at, a->var), ub = expr_uses(at, b->var);
        if (!ua && !ub) continue;
        if (!expr_affine(c, at, a->var, &base, &sa) || !expr_affine(c, at, b->var, &base, &sb)) return false;
        if (sa != expr_mul(c, sb, b->e)) return false;
        if (acc->v[i].buf->space == SP_REG || acc->v[i].buf->space == SP_LOCAL) return false;
    }
    return true;
}

typedef struct InValue { Ctx *c; Var *a, *b; bool found; } InValue;
static Search value_use(void *arg, Expr *e) { /* outside of addresses */
    const InValue *u = arg;
    if (e->kind == E_LOAD) return SEARCH_SKIP;
    return e->kind == E_VAR && (e->var == u->a || e->var == u->b) ? SEARCH_FOUND : SEARCH_ON;
}
static bool stmt_values(void *arg, Stmt *s) {
    InValue *u = arg;
    if (s->kind == S_STORE || s->kind == S_LET) u->found |= expr_search(u->c, s->e, value_use, u);
    return true;
}

static bool merge_pair(Tiler *t, Stmt *a, const Accesses *acc, bool contraction) {
    Ctx *c = t->c;
    Stmt *b = a->body.v[0];
    int64_t k;
    InValue use = {c, a->var, b->var, false};
    block_walk(&b->body, stmt_values, &use);
    if (use.found || !mergeable(t, a, b, acc)) return false;
    if (contraction && is_int(a->e, &k) != is_int(b->e, &k)) return false; /* a number of rows is worth more */
    Stmt *one = stmt_for(t->p, NULL, b->var->name, expr_mul(c, a->e, b->e), true);
    Map *vars = map_new(c);
    map_putp(vars, a->var, expr_fdiv(c, expr_var(c, one->var), b->e));
    map_putp(vars, b->var, expr_fmod(c, expr_var(c, one->var), b->e));
    block_copy(t->p, &b->body, &one->body, vars);
    a->var = one->var;
    a->e = one->e;
    a->body = one->body;
    return true;
}

static bool has_loop(const Block *b) {
    for (int i = 0; i < b->n; i++)
        if (b->v[i]->kind == S_FOR || has_loop(&b->v[i]->body)) return true;
    return false;
}

static void merge_axes(Tiler *t, Stmt *top) {
    Stmt *loops[MAX_AXES];
    int n;
    for (bool again = true; again;) {
        again = false;
        Block *body = nest_chain(top, MAX_AXES, loops, &n);
        Accesses acc = {0};
        nest_accesses(t->p, body, &acc);
        for (int i = n - 2; i >= 0 && !again; i--) again = merge_pair(t, loops[i], &acc, has_loop(body));
    }
}

/* ---- the plan ---- */

static bool loop_from_zero(void *arg, Stmt *s) {
    Walk *w = arg;
    if (s->kind == S_FOR) map_putp(w->arg, s->var, expr_int(w->c, 0));
    return true;
}

/* How often loops around the nest run it over the same values at the same places. */
static int64_t runs_again(Tiler *t, const Access *a) {
    int64_t times = 1;
    if (!t->naround) return 1;
    Walk own = {.c = t->c, .arg = map_new(t->c)};
    block_walk(&t->nest->body, loop_from_zero, &own);
    Expr *base = expr_subst(t->c, a->at, own.arg);
    for (int i = t->naround - 1; i >= 0; i--) {
        Stmt *s = t->around[i];
        if (s->kind != S_FOR || times > INT32_MAX || stmt_changes(s, buf_root(a->buf), base)) break;
        times *= trip_guess(s->e);
    }
    return times;
}

/* May `pack` copy what is read, because lanes along v are apart? Constants; and what the nest only reads, at places that its
   loops alone decide, if they or loops around the nest read them again. */
static Search not_loops(void *arg, Expr *e) {
    (void)arg;
    bool decided = e->kind == E_VAR && (e->var->kind == V_LET || (e->var->kind == V_SYM && e->var->data));
    return decided || e->kind == E_LOAD ? SEARCH_FOUND : SEARCH_ON;
}

static bool packable(Tiler *t, const Accesses *acc, const Access *a, int n, Stmt *const *loops) {
    enum { READ_AGAIN = 4 };
    const Buf *root = buf_root(a->buf);
    if (a->mask) return false;
    if (a->buf->space == SP_CONST) return true;
    if (!a->inner || (root->space != SP_IN && root->space != SP_OUT && root->space != SP_ARENA)) return false;
    if (expr_search(t->c, a->at, not_loops, NULL)) return false;
    for (int i = 0; i < acc->n; i++)
        if (!acc->v[i].load && buf_root(acc->v[i].buf) == root) return false;
    int64_t times = runs_again(t, a);
    for (int i = 0; i < n; i++)
        if (!expr_uses(a->at, loops[i]->var) && times < READ_AGAIN) times *= trip_guess(loops[i]->e);
    return times >= READ_AGAIN;
}

/* Along v all addresses stand still or move by one element, but for those that are copied into any order. */
static int vector_score(Tiler *t, Block *body, const Accesses *acc, Var *v, int n, Stmt *const *loops) {
    int score = 0;
    int64_t step;
    bool packs = has_loop(body);
    if (nest_controls(t->c, body, v)) return -1;
    for (int i = 0; i < acc->n; i++) {
        const Access *a = &acc->v[i];
        if (!access_stride(t->c, a, v, &step)) return -1;
        if (step != 0 && step != 1 && !(packs && packable(t, acc, a, n, loops))) return -1;
        score += step == 1 ? (a->load ? 1 : 4) : 0;
    }
    return score;
}

static int pick_vector(Tiler *t, Block *body, const Accesses *acc, int n, Stmt *const *loops) {
    int best = -1, most = 0;
    for (int i = 0; i < n; i++) {
        int64_t trip = trip_guess(loops[i]->e);
        int score = trip < 3 ? -1 : vector_score(t, body, acc, loops[i]->var, n, loops);
        if (score > 0) score = 4 * score + (trip >= t->o->machine.lanes ? 2 : 0) + (i == n - 1);
        if (score > most) { most = score; best = i; }
    }
    return best;
}

/* Rows reuse the vectors of a step: some access of the reduction moves with the vector axis and not with the row. */
static bool reuses(Tiler *t, const Accesses *acc, Var *vec, Var *row, Block *body) {
    int64_t sv, sr;
    bool some = false;
    if (nest_controls(t->c, body, row)) return false;
    for (int i = 0; i < acc->n; i++) {
        if (!acc->v[i].inner) continue;
        if (!access_stride(t->c, &acc->v[i], vec, &sv) || !access_stride(t->c, &acc->v[i], row, &sr)) return false;
        some |= sv != 0 && sr == 0;
    }
    return some;
}

/* Bytes that one vector's worth of the moving operands has over all loops inside: trips of the reductions. */
static int64_t reduction_trips(const Block *b) {
    int64_t most = 1;
    for (int i = 0; i < b->n; i++)
        if (b->v[i]->kind == S_FOR) {
            int64_t n = trip_guess(b->v[i]->e) * reduction_trips(&b->v[i]->body);
            if (n > most) most = n;
        }
    return most;
}

static const char *describe(Tiler *t, const Plan *plan) {
    Text *s = text_new(t->c);
    const char *between = "tile ";
    for (int i = 0; i < plan->n; i++) {
        const Axis *a = &plan->axis[i];
        if (!a->rows) continue;
        text_printf(s, "%s%lld %s", between, (long long)a->rows, a->var->name);
        between = " x ";
    }
    for (int i = 0; i < plan->n; i++) {
        const Axis *a = &plan->axis[i];
        if (a->vectors) text_printf(s, "%s%d vectors of %d %s", between, a->vectors, plan->lanes, a->var->name);
    }
    text_put(s, " (cost model)");
    return s->s;
}

/* Is there an axis for vectors? */
static bool vectors(Tiler *t, Stmt *top) {
    Stmt *loops[MAX_AXES];
    int n;
    Block *body = nest_chain(top, MAX_AXES, loops, &n);
    Accesses acc = {0};
    if (t->o->machine.lanes < 2 || !sink_possible(t->c, body, false)) return false;
    nest_accesses(t->p, body, &acc);
    return pick_vector(t, body, &acc, n, loops) >= 0;
}

static void move_axis(Plan *plan, int from, int to) {
    Axis a = plan->axis[from];
    for (; from > to; from--) plan->axis[from] = plan->axis[from - 1];
    for (; from < to; from++) plan->axis[from] = plan->axis[from + 1];
    plan->axis[to] = a;
}

/* Is anything in a loop read along v otherwise than one element after the other? */
static bool has_gaps(Tiler *t, const Accesses *acc, Var *v) {
    int64_t step;
    for (int i = 0; i < acc->n; i++)
        if (acc->v[i].inner && (!access_stride(t->c, &acc->v[i], v, &step) || step > 1 || step < 0)) return true;
    return false;
}

static bool plan_nest(Tiler *t, Plan *plan, Stmt *top, Block **body) {
    Stmt *loops[MAX_AXES];
    int n, row[2], nrow = 0;
    const Machine *m = &t->o->machine;
    *body = nest_chain(top, MAX_AXES, loops, &n);
    Accesses acc = {0};
    if (m->lanes < 2 || !sink_possible(t->c, *body, true)) return false;
    bool lanes = !sink_possible(t->c, *body, false);
    nest_accesses(t->p, *body, &acc);
    int vec = pick_vector(t, *body, &acc, n, loops);
    if (vec < 0 || (lanes && has_gaps(t, &acc, loops[vec]->var))) return false;
    bool reduction = has_loop(*body);
    plan->n = n;
    plan->lanes = m->lanes;
    int64_t trip;
    bool known = is_int(loops[vec]->e, &trip);
    if (known) while (plan->lanes > 4 && plan->lanes / 2 >= trip) plan->lanes /= 2;
    for (int i = 0; i < n; i++) plan->axis[i] = (Axis){.var = loops[i]->var, .trip = loops[i]->e};
    if (!reduction) {
        plan->axis[vec].vectors = known && trip <= 4 * plan->lanes ? (int)((trip + plan->lanes - 1) / plan->lanes) : 1;
        move_axis(plan, vec, n - 1);
        return true;
    }
    for (int i = n - 1; i >= 0 && nrow < 2 && !lanes; i--)
        if (i != vec && reuses(t, &acc, loops[vec]->var, loops[i]->var, *body)) row[nrow++] = i;
    int64_t column = reduction_trips(*body) * 4;
    choose_tile(plan, m, vec, nrow, row, column * plan->lanes, lanes ? sink_registers(*body) : 1);
    /* Weights that do not stay in L2 are read once a tile column; smaller ones once a tile of rows. */
    if (nrow && column * trip_guess(loops[vec]->e) > m->l2 / 2) {
        int first = 0;
        while (first < n && first < vec && trip_guess(loops[first]->e) == 1) first++;
        move_axis(plan, vec, first);
    }
    return true;
}

/* A nest without a reduction that writes along one axis and reads along another: the other one in blocks as long as a cache
   line, innermost, so that lines are used up while they are near. */
static bool plan_turn(Tiler *t, Plan *plan, Stmt *top, Block **body) {
    enum { LINE = 16 };
    Stmt *loops[MAX_AXES];
    int n, across = -1, along = -1;
    int64_t step;
    *body = nest_chain(top, MAX_AXES, loops, &n);
    Accesses acc = {0};
    if (n < 2 || has_loop(*body) || !sink_possible(t->c, *body, false)) return false;
    nest_accesses(t->p, *body, &acc);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < acc.n; k++) {
            if (!access_stride(t->c, &acc.v[k], loops[i]->var, &step) || nest_controls(t->c, *body, loops[i]->var)) return false;
            if (step == 1 && !acc.v[k].load) along = i;
            if (step == 1 && acc.v[k].load && trip_guess(loops[i]->e) >= LINE && across < 0) across = i;
        }
    if (across < 0 || along < 0 || across == along) return false;
    plan->n = n;
    plan->lanes = 1;
    for (int i = 0; i < n; i++) plan->axis[i] = (Axis){.var = loops[i]->var, .trip = loops[i]->e};
    plan->axis[across].rows = LINE;
    move_axis(plan, across, 0);
    return true;
}

/* A reduction without an axis for vectors: elements side by side, so that one need not wait for the sums of another. */
static bool plan_chains(Tiler *t, Plan *plan, Stmt *top, Block **body) {
    enum { CHAINS = 8 };
    Stmt *loops[MAX_AXES];
    int n, across = -1;
    *body = nest_chain(top, MAX_AXES, loops, &n);
    if (!has_loop(*body) || !sink_possible(t->c, *body, false)) return false;
    for (int i = 0; i < n; i++)
        if (trip_guess(loops[i]->e) > 1 && !nest_controls(t->c, *body, loops[i]->var)) across = i;
    if (across < 0) return false;
    plan->n = n;
    plan->lanes = 1;
    for (int i = 0; i < n; i++) plan->axis[i] = (Axis){.var = loops[i]->var, .trip = loops[i]->e};
    int64_t trip = trip_guess(loops[across]->e);
    plan->axis[across].rows = trip < CHAINS ? trip : CHAINS;
    return true;
}

static void tile_block(Tiler *t, Block *b) {
    Block out = {0};
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        Plan plan = {0};
        Block *body;
        if (s->kind == S_FOR && s->free && s->mode == L_SERIAL) {
            Block blocks = {0};
            merge_axes(t, s);
            if (vectors(t, s) && block_reduction(t->p, &t->o->machine, s, &blocks)) {
                tile_block(t, &blocks);
                for (int k = 0; k < blocks.n; k++) vec_push(t->c, &out, blocks.v[k]);
                continue;
            }
            if (plan_nest(t, &plan, s, &body) || plan_turn(t, &plan, s, &body) || plan_chains(t, &plan, s, &body)) {
                sink_nest(t->p, &plan, body, &out);
                if (t->nest && (!t->nest->nest->schedule || has_loop(body))) t->nest->nest->schedule = describe(t, &plan);
                continue;
            }
        }
        tile_block(t, &s->body);
        tile_block(t, &s->other);
        vec_push(t->c, &out, s);
    }
    *b = out;
}

static void tile_level(Tiler *t, Block *b) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->kind == S_NEST) {
            t->nest = s;
            split_all(t, &s->body);
            tile_block(t, &s->body);
            gd_check_time(t->c);
            continue;
        }
        bool deep = t->naround == MAX_AROUND; /* the outermost ones are forgotten: fewer runs are counted */
        if (deep) memmove(t->around, t->around + 1, (MAX_AROUND - 1) * sizeof *t->around);
        t->naround -= deep;
        t->around[t->naround++] = s;
        tile_level(t, &s->body);
        tile_level(t, &s->other);
        t->naround--;
    }
}

void pass_tile(Program *p, const PassOptions *o) {
    Tiler t = {.p = p, .c = p->c, .o = o};
    tile_level(&t, &p->body);
}
