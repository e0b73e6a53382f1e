/* bind: what is used twice is computed once, and what a loop does not change is computed before it.

   Needs: straight code (unroll), no calls (expand).
   Promises: afterwards no value but what expr_cheap names stands twice in one statement (Program.bound);
   values that statements of a nest share are LETs before their first use; loop-invariant ones stand before
   the loop. The meaning stays: nothing is loaded that was not loaded before, and every load sees the same
   stores.

   How. Each nest is walked once in order. An occurrence of an expression is a value, named by the expression
   and by a stamp: the time of the last store to anything it loads (a loop's stores also count at its
   beginning and end). Equal name, equal value. A value that loads also belongs to the condition under which
   it was found (branch, loop that may not run, what follows a check), because it must not be computed outside
   of that; others are free. The second step goes from uses to operands: the place of a value is the last
   common place before all its uses, then out of the loops that leave it alone. The third step rebuilds the
   statements. Each step visits a value once, so it ends.

     each j in 8                                    let t = sqrt(s[i])
       $1 = sqrt(s[i])                     ->       each j in 8
       y[i, j] = x[i, j] * $1 + $1                    y[i, j] = x[i, j] * t + t */
#include "passes.h"

typedef struct Region Region;
struct Region {
    Region *outer;
    int at; /* its statement in outer */
    int depth;
    Block *block;
    uint32_t clock;             /* when it was entered */
    bool loop, wall;            /* wall: nothing moves out of it */
    int light;                  /* loads moved out of it so far */
    struct Val **first, **last; /* lets to put before each statement */
};

/* What must hold for control to come here. Two values that load may be one when one's condition contains the
 * other's. */
typedef struct Cond {
    struct Cond *outer;
    Region *region;
} Cond;

typedef struct Val Val;
struct Val {
    Expr *e;
    uint32_t stamp;
    bool loads; /* reads memory: only safe under its condition */
    bool leaf;  /* a register: stays as it is, unless */
    bool many;  /* a sum or product of i64 that is written more than once */
    bool term;  /* it stands in such a one, or in several */
    bool bound;
    int depth; /* of the deepest variable in it */
    int uses;
    Cond *cond;
    Region *region; /* with at: where it is computed */
    int at;
    Stmt *let;   /* it is this statement's value */
    Expr *built; /* the expression over bound variables */
    Expr *out;   /* what its users write: built, or a variable */
    Val *same;   /* the next value of the same expression */
    Val *after;  /* the next let before the same statement */
    Val *arg[];
};

/* What is known of an expression, by its id; valid for one nest. */
typedef struct Seen {
    uint32_t nest, epoch;
    int depth;
    bool plain;
    Val *now, *all;
} Seen;
typedef struct Depth {
    uint32_t nest;
    int depth;
} Depth;

typedef struct Bind {
    Program *p;
    Ctx *c, *s; /* s: scratch */
    int max_light;
    uint32_t nest, epoch, clock;
    VEC(Seen) seen;   /* by Expr.id */
    VEC(Depth) var;   /* by Var.id */
    uint32_t *stamp;  /* by Buf.id of a root: its last store */
    VEC(Val *) vals;  /* operands before what uses them */
    VEC(Val *) roots; /* of the statements' expressions, in order; NULL: stays as it is */
    VEC(Region *) regions;
    int next_root, next_region;
    Stmt *stmt; /* in hand */
    Region *region;
    int at;
    Cond *cond;
} Bind;

/* ---- what an expression is ---- */

static Seen *seen(Bind *b, const Expr *e) {
    while ((uint32_t)b->seen.n <= e->id) vec_push(b->s, &b->seen, (Seen){0});
    return &b->seen.v[e->id];
}

static int var_depth(const Bind *b, const Var *v) {
    return v->id < b->var.n && b->var.v[v->id].nest == b->nest ? b->var.v[v->id].depth : 0;
}
static void set_depth(Bind *b, const Var *v, int depth) {
    while (b->var.n <= v->id) vec_push(b->s, &b->var, (Depth){0});
    b->var.v[v->id] = (Depth){b->nest, depth};
}

static bool is_index(const Expr *e) { return e->type.dt == I64 && e->type.lanes == 1; }
static bool linear_op(const Expr *e) {
    return is_index(e) && (e->kind == E_ADD || e->kind == E_SUB || e->kind == E_MUL || e->kind == E_NEG);
}

/* plain: index arithmetic that back ends do where it stands; constants and variables. */
static Seen examine(Bind *b, const Expr *e) {
    Seen s = *seen(b, e);
    if (s.nest == b->nest) return s;
    s = (Seen){.nest = b->nest,
               .plain = linear_op(e) || e->kind == E_CONST || e->kind == E_VAR || e->kind == E_LANE};
    if (e->kind == E_VAR) s.depth = var_depth(b, e->var);
    for (int i = 0; i < e->nargs; i++) {
        Seen a = examine(b, e->arg[i]);
        s.plain = s.plain && a.plain;
        if (a.depth > s.depth) s.depth = a.depth;
    }
    return *seen(b, e) = s;
}

static bool is_register(const Expr *e) {
    if (e->kind != E_LOAD || e->buf->space != SP_REG || e->nargs > e->buf->rank) return false;
    for (int i = 0; i < e->nargs; i++)
        if (!is_const(e->arg[i])) return false;
    return true;
}

/* ---- first step: values and their uses ---- */

/* The latest place that comes before both. */
static void used_at(Val *v, Region *r, int at) {
    if (!v->region) {
        v->region = r;
        v->at = at;
        return;
    }
    Region *s = v->region;
    int i = v->at;
    while (s->depth > r->depth) {
        i = s->at;
        s = s->outer;
    }
    while (r->depth > s->depth) {
        at = r->at;
        r = r->outer;
    }
    while (s != r) {
        i = s->at;
        s = s->outer;
        at = r->at;
        r = r->outer;
    }
    v->region = s;
    v->at = i < at ? i : at;
}

static Cond *condition(Bind *b, Cond *outer, Region *r) {
    Cond *n = gd_new(b->s, Cond);
    *n = (Cond){outer, r};
    return n;
}
static Cond *outermost(Cond *n) {
    while (n->outer) n = n->outer;
    return n;
}
static bool contains(const Cond *outer, const Cond *n) {
    while (n && n != outer) n = n->outer;
    return n != NULL;
}

static Val *visit(Bind *b, Expr *e) {
    Seen s = examine(b, e);
    if (s.plain) return NULL;
    if (s.epoch == b->epoch) return s.now;
    Val *args[32], *v = NULL;
    bool leaf = is_register(e), loads = e->kind == E_LOAD && !leaf;
    uint32_t stamp = e->kind == E_LOAD ? b->stamp[buf_root(e->buf)->id] : 0;
    for (int i = 0; i < e->nargs; i++) {
        args[i] = visit(b, e->arg[i]);
        if (!args[i]) continue;
        loads = loads || args[i]->loads;
        if (args[i]->stamp > stamp) stamp = args[i]->stamp;
    }
    Cond *cond = loads ? b->cond : outermost(b->cond);
    for (Val *x = seen(b, e)->all; x; x = x->same)
        if (x->stamp == stamp && contains(x->cond, cond) && (!v || contains(x->cond, v->cond))) v = x;
    if (!v) {
        v = gd_alloc(b->s, sizeof *v + e->nargs * sizeof *args);
        *v = (Val){.e = e, .stamp = stamp, .loads = loads, .leaf = leaf, .depth = s.depth, .cond = cond};
        for (int i = 0; i < e->nargs; i++)
            if ((v->arg[i] = args[i])) args[i]->uses++;
        v->same = seen(b, e)->all;
        seen(b, e)->all = v;
        vec_push(b->s, &b->vals, v);
    }
    seen(b, e)->epoch = b->epoch;
    return seen(b, e)->now = v;
}

static Expr *note_root(void *arg, Expr *e) {
    Bind *b = arg;
    Val *v = visit(b, e);
    vec_push(b->s, &b->roots, v);
    if (!v) return e;
    if (b->stmt->kind == S_LET && b->stmt->var->kind == V_LET && !v->uses) v->let = b->stmt;
    v->uses++;
    used_at(v, b->region, b->at);
    return e;
}

/* The stores of s, wherever in it, happen now. Says whether it may end the run (a check). */
static bool touch(Bind *b, const Stmt *s) {
    bool checks = s->kind == S_CHECK;
    if (s->buf) b->stamp[buf_root(s->buf)->id] = b->clock;
    if (s->from) b->stamp[buf_root(s->from)->id] = b->clock;
    for (int i = 0; i < s->body.n; i++) checks |= touch(b, s->body.v[i]);
    for (int i = 0; i < s->other.n; i++) checks |= touch(b, s->other.v[i]);
    return checks;
}

typedef struct Kept {
    uint32_t *at, stamp;
} Kept;
typedef VEC(Kept) Keep;
static void keep(Bind *b, Keep *k, const Stmt *s) {
    if (s->buf) {
        uint32_t *at = &b->stamp[buf_root(s->buf)->id];
        vec_push(b->s, k, ((Kept){at, *at}));
    }
    for (int i = 0; i < s->body.n; i++) keep(b, k, s->body.v[i]);
    for (int i = 0; i < s->other.n; i++) keep(b, k, s->other.v[i]);
}

static void walk(Bind *b, Block *block, Region *r);

static void walk_inside(Bind *b, Stmt *s, Block *block) {
    Region *r = gd_new(b->s, Region), *here = b->region;
    Cond *cond = b->cond;
    int at = b->at;
    int64_t lo = 0, hi;
    if (s->kind == S_FOR) expr_range(b->c, s->e, &lo, &hi);
    *r = (Region){.outer = here,
                  .at = at,
                  .depth = here->depth + 1,
                  .block = block,
                  .clock = b->clock,
                  .loop = s->kind != S_IF,
                  .wall = s->kind == S_FOR && s->mode == L_PARALLEL};
    vec_push(b->s, &b->regions, r);
    if (s->kind == S_FOR) set_depth(b, s->var, r->depth);
    if (r->wall) b->cond = condition(b, NULL, r);
    else if (lo < 1) b->cond = condition(b, cond, r);
    walk(b, block, r);
    b->region = here;
    b->at = at;
    b->cond = cond;
}

static void walk_stmt(Bind *b, Stmt *s) {
    b->stmt = s;
    b->epoch++;
    if (s->kind != S_WHILE) stmt_exprs(s, note_root, b);
    b->clock++;
    if (s->kind == S_IF) {
        Keep kept = {0};
        for (int i = 0; i < s->body.n; i++) keep(b, &kept, s->body.v[i]);
        walk_inside(b, s, &s->body);
        for (int i = kept.n - 1; i >= 0; i--) *kept.v[i].at = kept.v[i].stamp;
        b->clock++;
        walk_inside(b, s, &s->other);
        b->clock++;
    } else if (s->kind == S_FOR || s->kind == S_WHILE) {
        touch(b, s);
        walk_inside(b, s, &s->body);
        b->clock++;
    } else if (s->kind == S_LET) set_depth(b, s->var, b->region->depth);
    if (touch(b, s)) b->cond = condition(b, b->cond, b->region);
}

static void walk(Bind *b, Block *block, Region *r) {
    Cond *cond = b->cond;
    b->region = r;
    for (int i = 0; i < block->n; i++) {
        b->at = i;
        walk_stmt(b, block->v[i]);
    }
    b->cond = cond;
}

/* ---- second step: places ---- */

/* A load, or what costs no more. */
static bool is_light(const Expr *e) {
    while (e->kind == E_SPLAT || e->kind == E_CAST || e->kind == E_BITS) e = e->arg[0];
    return e->kind == E_LOAD || e->kind == E_VAR;
}

/* Out of the loops that leave v alone. */
static void hoist(const Bind *b, Val *v) {
    Region *r = v->region, *best = NULL, *left = NULL;
    int at = v->at, best_at = 0;
    while (!r->wall && r->depth > v->depth && v->stamp < r->clock &&
           (!v->loads || r->depth > v->cond->region->depth)) {
        bool loop = r->loop;
        at = r->at;
        if (loop) left = r;
        r = r->outer;
        if (loop) {
            best = r;
            best_at = at;
        }
    }
    if (!best || (is_light(v->e) && left->light++ >= b->max_light)) return;
    v->region = best;
    v->at = best_at;
    v->bound = true;
}

/* Sums and products of i64 are not bound, and change their form when they are built again: what several of
   them share must be a variable. */
static void place(Bind *b) {
    for (int i = b->vals.n - 1; i >= 0; i--) {
        Val *v = b->vals.v[i];
        bool sum = linear_op(v->e);
        v->many = v->many || (sum && v->uses > 1);
        if (!v->leaf && !sum) hoist(b, v);
        v->bound = v->bound || v->term || (v->uses > 1 && !v->leaf && !sum);
        for (int k = 0; k < v->e->nargs; k++) {
            Val *a = v->arg[k];
            if (!a) continue;
            used_at(a, v->region, v->at);
            if (!sum) continue;
            if (linear_op(a->e)) a->many = a->many || v->many;
            else a->term = a->term || (!a->e->index && (v->many || a->uses > 1));
        }
    }
}

/* ---- third step: statements ---- */

static const char *name_of(const Expr *e) {
    switch (e->kind) {
    case E_LOAD: return "v";
    case E_SPLAT: return "s";
    case E_FDIV:
    case E_DIV: return "q";
    case E_FMOD:
    case E_REM: return "r";
    default: return e->type.dt == BOOL ? "c" : "t";
    }
}

static Expr *build(const Bind *b, const Val *v) {
    Expr *e = v->e, *args[32];
    bool changed = false;
    for (int i = 0; i < e->nargs; i++) {
        args[i] = v->arg[i] ? v->arg[i]->out : e->arg[i];
        changed = changed || args[i] != e->arg[i];
    }
    if (!changed) return e;
    if (e->kind == E_LOAD)
        return expr_load(b->c, e->buf, e->type.lanes, args,
                         e->nargs > e->buf->rank ? args[e->buf->rank] : NULL);
    if (e->kind == E_CALL) return expr_call(b->c, e->call, e->nargs, args);
    return expr_op(b->c, (ExprKind)e->kind, e->type, e->nargs, args);
}

/* A bound value becomes a variable: of a LET that already stands in its place, or of a new one. */
static void bind_value(const Bind *b, Val *v) {
    Region *r = v->region;
    if (v->let && r->block->v[v->at] == v->let) {
        v->out = expr_var(b->c, v->let->var);
        return;
    }
    v->let = stmt_let(b->p, NULL, name_of(v->e), v->built);
    v->out = expr_var(b->c, v->let->var);
    if (!r->first) {
        r->first = gd_new_array(b->s, Val *, r->block->n);
        r->last = gd_new_array(b->s, Val *, r->block->n);
    }
    if (r->first[v->at]) r->last[v->at]->after = v;
    else r->first[v->at] = v;
    r->last[v->at] = v;
}

static void build_all(Bind *b) {
    for (int i = 0; i < b->vals.n; i++) {
        Val *v = b->vals.v[i];
        v->out = v->built = build(b, v);
        if (v->bound) bind_value(b, v);
    }
}

static Expr *take_root(void *arg, Expr *e) {
    Bind *b = arg;
    const Val *v = b->roots.v[b->next_root++];
    return !v ? e : v->bound && v->let == b->stmt ? v->built : v->out;
}

static void put_lets(const Bind *b, Block *out, const Region *r, int at) {
    for (const Val *v = r->first ? r->first[at] : NULL; v; v = v->after) vec_push(b->c, out, v->let);
}

static void rewrite(Bind *b, Region *r) {
    Block out = {0};
    for (int i = 0; i < r->block->n; i++) {
        Stmt *s = r->block->v[i];
        b->stmt = s;
        if (s->kind != S_WHILE) stmt_exprs(s, take_root, b);
        if (s->kind == S_IF || s->kind == S_FOR || s->kind == S_WHILE)
            rewrite(b, b->regions.v[b->next_region++]);
        if (s->kind == S_IF) rewrite(b, b->regions.v[b->next_region++]);
        put_lets(b, &out, r, i);
        vec_push(b->c, &out, s);
    }
    *r->block = out;
}

/* ---- conditions of while ---- */

typedef struct Twice {
    uint32_t mark;
    bool yes;
} Twice;
static void look(Twice *t, Expr *e) {
    if (expr_cheap(e)) return;
    t->yes = t->yes || e->mark == t->mark;
    e->mark = t->mark;
    for (int i = 0; i < e->nargs && !t->yes; i++) look(t, e->arg[i]);
}

/* while cond { body }, where cond shares something, has no place for a LET. So: go = cond; while go { body;
 * go = cond } */
static void open_while(Bind *b, Block *block) {
    Block out = {0};
    for (int i = 0; i < block->n; i++) {
        Stmt *s = block->v[i];
        open_while(b, &s->body);
        open_while(b, &s->other);
        Twice t = {expr_mark(b->c), false};
        if (s->kind == S_WHILE) look(&t, s->e);
        if (t.yes) {
            Buf *go = buf_new(b->p, SP_REG, BOOL, 0, NULL, "go");
            stmt_decl(b->p, &out, go);
            stmt_store(b->p, &out, go, NULL, s->e, NULL);
            stmt_store(b->p, &s->body, go, NULL, s->e, NULL);
            s->e = expr_load(b->c, go, 1, NULL, NULL);
        }
        vec_push(b->c, &out, s);
    }
    *block = out;
}

static bool open_nest(void *b, Stmt *s) {
    if (s->kind == S_NEST) open_while(b, &s->body);
    return s->kind != S_NEST;
}

/* ---- a nest; what stands between nests ---- */

static Region *begin(Bind *b, Block *block) {
    Region *r = gd_new(b->s, Region);
    *r = (Region){.block = block, .depth = 1, .clock = ++b->clock, .wall = true};
    b->nest++;
    b->vals.n = b->roots.n = b->regions.n = b->next_root = b->next_region = 0;
    b->cond = condition(b, NULL, r);
    return r;
}

static void bind_nest(Bind *b, Stmt *nest) {
    Region *r = begin(b, &nest->body);
    walk(b, &nest->body, r);
    place(b);
    build_all(b);
    rewrite(b, r);
    gd_check_time(b->c);
}

static void bind_control(Bind *b, Block *block);

/* A statement between nests: only what it shares with itself. */
static void bind_single(Bind *b, Block *out, Stmt *s) {
    Block alone = {&s, 1, 1};
    Region *r = begin(b, &alone);
    b->region = r;
    b->at = 0;
    b->stmt = s;
    b->epoch++;
    stmt_exprs(s, note_root, b);
    place(b);
    build_all(b);
    stmt_exprs(s, take_root, b);
    put_lets(b, out, r, 0);
}

static void bind_control(Bind *b, Block *block) {
    Block out = {0};
    for (int i = 0; i < block->n; i++) {
        Stmt *s = block->v[i];
        if (s->kind == S_NEST) bind_nest(b, s);
        else {
            if (s->kind != S_WHILE) bind_single(b, &out, s);
            bind_control(b, &s->body);
            bind_control(b, &s->other);
        }
        vec_push(b->c, &out, s);
    }
    *block = out;
}

typedef struct Job {
    Program *p;
    const PassOptions *o;
} Job;

static void bind(Ctx *scratch, void *arg) {
    const Job *j = arg;
    Program *p = j->p;
    Bind b = {.p = p, .c = p->c, .s = scratch, .max_light = j->o->machine.registers / 2};
    block_walk(&p->body, open_nest, &b);
    b.stamp = gd_new_array(scratch, uint32_t, p->nbufs);
    bind_control(&b, &p->body);
    p->bound = true;
}

void pass_bind(Program *p, const PassOptions *o) { gd_scratch(p->c, bind, &(Job){p, o}); }
