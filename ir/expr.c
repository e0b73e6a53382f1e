/* Building expressions: hash-consing, constant folding and the rules that hold for every type; those for
   scalar i64 are in index.c. Walks and substitution.

   Every rule gives an expression with fewer operators, or one that was there already, so building ends. No
   rule changes a bit of a result: floats are left alone but for what is exact (the payload of a NaN does not
   count). */
#include "index.h"

enum { MAX_ARGS = 32 };

/* What was once found out about a and b: index.h. */
typedef struct Fact {
    const Expr *a, *b;
    Expr *answer;
    uint32_t about;
} Fact;

typedef struct Table {
    Expr **slots;
    Fact *facts;
    uint32_t n, cap, nfacts, fact_cap, mark;
    int vars;
} Table;

static Table *table(Ctx *c) {
    void **s = gd_slot(c, SLOT_EXPR);
    if (!*s) {
        Table *t = gd_new(c, Table);
        t->cap = 1024;
        t->slots = gd_new_array(c, Expr *, t->cap);
        t->fact_cap = 1024;
        t->facts = gd_new_array(c, Fact, t->fact_cap);
        *s = t;
    }
    return *s;
}

static void rehash(Ctx *c, Table *t) {
    Expr **old = t->slots;
    uint32_t n = t->cap;
    t->cap *= 2;
    t->slots = gd_new_array(c, Expr *, t->cap);
    for (uint32_t i = 0; i < n; i++) {
        if (!old[i]) continue;
        uint32_t at = old[i]->hash & (t->cap - 1);
        while (t->slots[at]) at = (at + 1) & (t->cap - 1);
        t->slots[at] = old[i];
    }
    gd_release(c, old);
}

/* The one place where an Expr is made. bits carries whatever leaf the kind has. */
Expr *expr_cons(Ctx *c, ExprKind kind, Type type, uint64_t bits, int n, Expr *const *args) {
    Table *t = table(c);
    uint64_t h = (uint64_t)kind * 0x9e3779b97f4a7c15u ^ ((uint64_t)type.dt << 8 | type.lanes) ^
                 bits * 0xff51afd7ed558ccdu;
    for (int i = 0; i < n; i++) h = (h ^ args[i]->id) * 0x100000001b3u + 0x9e3779b9u;
    uint32_t hash = (uint32_t)(h ^ h >> 32), at;
    for (at = hash & (t->cap - 1); t->slots[at]; at = (at + 1) & (t->cap - 1)) {
        Expr *e = t->slots[at];
        if (e->hash == hash && e->kind == kind && type_eq(e->type, type) && e->bits == bits &&
            e->nargs == n && (!n || !memcmp(e->arg, args, (size_t)n * sizeof *args)))
            return e;
    }
    Expr *e = gd_alloc(c, sizeof *e + (size_t)n * sizeof *args);
    e->kind = (uint8_t)kind;
    e->nargs = (uint8_t)n;
    e->type = type;
    e->hash = hash;
    e->id = ++t->n;
    e->bits = bits;
    e->loads = kind == E_LOAD;
    e->index = kind != E_LOAD && kind != E_CALL && type.lanes == 1 && (type.dt == I64 || type.dt == BOOL);
    for (int i = 0; i < n; i++) {
        e->loads |= args[i]->loads;
        e->index &= args[i]->index;
    }
    if (n) memcpy(e->arg, args, (size_t)n * sizeof *args);
    t->slots[at] = e;
    if (2 * t->n > t->cap) rehash(c, t);
    return e;
}

/* ---- what is known of expressions ---- */

static Fact *fact_slot(const Table *t, uint32_t about, const Expr *a, const Expr *b) {
    uint64_t h = (a->id * 0x9e3779b97f4a7c15u ^ (b ? b->id : 0)) * 0xff51afd7ed558ccdu + about * 0x100000001b3u;
    uint32_t at = (uint32_t)(h ^ h >> 32) & (t->fact_cap - 1);
    for (; t->facts[at].a; at = (at + 1) & (t->fact_cap - 1)) {
        const Fact *f = &t->facts[at];
        if (f->a == a && f->b == b && f->about == about) break;
    }
    return &t->facts[at];
}

bool expr_fact(Ctx *c, uint32_t about, const Expr *a, const Expr *b, Expr **answer) {
    const Fact *f = fact_slot(table(c), about, a, b);
    *answer = f->answer;
    return f->a;
}

Expr *expr_learn(Ctx *c, uint32_t about, const Expr *a, const Expr *b, Expr *answer) {
    Table *t = table(c);
    *fact_slot(t, about, a, b) = (Fact){a, b, answer, about};
    if (2 * ++t->nfacts <= t->fact_cap) return answer;
    Fact *old = t->facts;
    uint32_t n = t->fact_cap;
    t->fact_cap *= 2;
    t->facts = gd_new_array(c, Fact, t->fact_cap);
    for (uint32_t i = 0; i < n; i++)
        if (old[i].a) *fact_slot(t, old[i].about, old[i].a, old[i].b) = old[i];
    gd_release(c, old);
    return answer;
}

/* ---- leaves ---- */

Expr *expr_const(Ctx *c, Type t, uint64_t bits) { return expr_cons(c, E_CONST, t, bits, 0, NULL); }
Expr *expr_int(Ctx *c, int64_t v) { return expr_const(c, scalar(I64), (uint64_t)v); }
Expr *expr_bool(Ctx *c, bool v) { return expr_const(c, scalar(BOOL), v); }
Expr *expr_num(Ctx *c, DType t, double v) { return expr_const(c, scalar(t), gd_to_bits(t, v)); }
Expr *expr_var(Ctx *c, Var *v) { return expr_cons(c, E_VAR, v->type, (uintptr_t)v, 0, NULL); }
Expr *expr_lane(Ctx *c, Type t) { return expr_cons(c, E_LANE, t, 0, 0, NULL); }
Expr *expr_zip(Ctx *c, bool high, Expr *a, Expr *b) { return expr2(c, high ? E_ZIP_HI : E_ZIP_LO, a, b); }
/* A mask that is decided leaves no mask, or no access. */
Expr *expr_load(Ctx *c, Buf *b, int lanes, Expr *const *index, Expr *mask) {
    Type t = vector(b->dt, b->lanes > 1 ? b->lanes : lanes);
    if (mask && is_const(mask)) {
        bool count = mask->type.dt != BOOL;
        if (count ? (int64_t)mask->bits <= 0 : !mask->bits) return expr_const(c, t, 0);
        if (!count || (int64_t)mask->bits >= t.lanes) mask = NULL;
    }
    Expr *args[MAX_ARGS];
    int n = 0;
    if (b->rank >= MAX_ARGS) gd_bug(c, "%s: rank %d", b->name, b->rank);
    for (; n < b->rank; n++) args[n] = index[n];
    if (mask) args[n++] = mask;
    return expr_cons(c, E_LOAD, t, (uintptr_t)b, n, args);
}
Expr *expr_call(Ctx *c, int row, int n, Expr *const *args) {
    return expr_cons(c, E_CALL, args[0]->type, (uint64_t)row, n, args);
}
Var *var_new(Ctx *c, VarKind kind, Type t, const char *name, int64_t lo, int64_t hi) {
    Var *v = gd_new(c, Var);
    *v = (Var){.kind = kind, .type = t, .id = table(c)->vars++, .name = name, .lo = lo, .hi = hi};
    return v;
}
bool is_int(const Expr *e, int64_t *v) {
    if (e->kind != E_CONST || e->type.dt != I64 || e->type.lanes != 1) return false;
    *v = (int64_t)e->bits;
    return true;
}

/* ---- operators in general ---- */

static bool in_chain(ExprKind op, const Expr *chain, const Expr *e) {
    for (; chain->kind == op; chain = chain->arg[0])
        if (chain->arg[1] == e) return true;
    return chain == e;
}

/* not (a < b), of integers or for == and !=, is a comparison again. (With a NaN, not (a < b) is not b <= a.)
 */
static Expr *negation(Ctx *c, Expr *a) {
    Expr *swap[2] = {a->nargs == 2 ? a->arg[1] : NULL, a->nargs ? a->arg[0] : NULL};
    bool exact = a->nargs && !dt_float((DType)a->arg[0]->type.dt);
    switch (a->kind) {
    case E_NOT: return a->arg[0];
    case E_EQ: return expr_op(c, E_NE, a->type, 2, a->arg);
    case E_NE: return expr_op(c, E_EQ, a->type, 2, a->arg);
    case E_LT: return exact ? expr_op(c, E_LE, a->type, 2, swap) : NULL;
    case E_LE: return exact ? expr_op(c, E_LT, a->type, 2, swap) : NULL;
    default: return NULL;
    }
}

/* Of bools. Constants have all lanes alike, so the rules hold for vectors too. */
static Expr *logic(Ctx *c, ExprKind op, Expr *const *a) {
    if (op == E_NOT) return negation(c, a[0]);
    if (op != E_AND && op != E_OR && op != E_EQ && op != E_NE) return NULL;
    for (int i = 0; i < 2; i++) {
        if (!is_const(a[i])) continue;
        bool truth = a[i]->bits;
        if (op == E_AND || op == E_OR) return truth == (op == E_OR) ? a[i] : a[1 - i];
        return truth == (op == E_EQ) ? a[1 - i] : expr1(c, E_NOT, a[1 - i]);
    }
    if (op == E_EQ || op == E_NE) return NULL;
    return in_chain(op, a[0], a[1]) ? a[0] : in_chain(op, a[1], a[0]) ? a[1] : NULL;
}

static Expr *select(Ctx *c, Expr *const *a) {
    Expr *yes = a[1], *no = a[2];
    if (yes == no) return yes;
    if (is_const(a[0])) return a[0]->bits ? yes : no;
    if (a[0]->kind == E_NOT) return expr_select(c, a[0]->arg[0], no, yes);
    if (yes->kind == E_SELECT && yes->arg[0] == a[0]) return expr_select(c, a[0], yes->arg[1], no);
    if (no->kind == E_SELECT && no->arg[0] == a[0]) return expr_select(c, a[0], yes, no->arg[2]);
    if (yes->type.dt == BOOL && is_const(yes) && is_const(no))
        return yes->bits ? a[0] : expr1(c, E_NOT, a[0]);
    return NULL;
}

static int value_bits(DType t) { /* of an integer, or of a float's significand */
    switch (t) {
    case F32: return 24;
    case F64: return 53;
    case BOOL: return 1;
    case I4:
    case U4: return 4;
    case I2:
    case U2: return 2;
    default: return 8 * gd_dtypes[t].bytes;
    }
}

/* Does every value of type t survive a trip through type via? */
static bool keeps(DType t, DType via) {
    bool whole = dt_int(t) || t == BOOL;
    if (dt_small(t)) return dt_float(via);
    if (dt_float(t)) return via == F64;
    return whole && (dt_int(via) || dt_float(via)) && value_bits(via) >= value_bits(t);
}

static Expr *cast(Ctx *c, Type to, Expr *a) {
    if (type_eq(to, a->type)) return a;
    if (a->kind != E_CAST) return NULL;
    Expr *x = a->arg[0];
    DType from = (DType)x->type.dt, via = (DType)a->type.dt;
    int64_t lo, hi, limit;
    if (from == to.dt && keeps(from, via)) return x;
    if (from != I64 || to.dt != I64 || x->type.lanes != 1 || !dt_int(via) || gd_dtypes[via].bytes > 4)
        return NULL;
    expr_range(c, x, &lo, &hi);
    limit = 1ll << (value_bits(via) - (gd_dtypes[via].kind == DK_INT));
    return lo >= (gd_dtypes[via].kind == DK_INT ? -limit : 0) && hi < limit ? x : NULL;
}

static Type result_type(ExprKind op, Type t, Expr *const *a) {
    static const uint8_t how[E_KINDS] = {
#define O(NAME, text, arity, result, form) [E_##NAME] = RESULT_##result,
#define RESULT_SAME 0
#define RESULT_BOOL 1
#define RESULT_OWN 2
#include "scalar.def"
#undef O
    };
    if (op == E_SELECT) return a[1]->type;
    return how[op] == RESULT_SAME ? a[0]->type : how[op] == RESULT_BOOL ? (Type){BOOL, a[0]->type.lanes} : t;
}

Expr *expr_op(Ctx *c, ExprKind op, Type t, int n, Expr *const *args) {
    uint64_t v[3] = {0};
    bool folds = true;
    for (int i = 0; i < n; i++) {
        folds = folds && is_const(args[i]);
        v[i] = args[i]->bits;
    }
    t = result_type(op, t, args);
    Type at = args[0]->type;
    if (op == E_ZIP_LO || op == E_ZIP_HI) return expr_cons(c, op, at, 0, n, args);
    if (folds) return expr_const(c, t, gd_eval(op, (DType)at.dt, (DType)t.dt, v));
    Expr *e = NULL;
    bool whole = dt_int((DType)at.dt) || at.dt == BOOL;
    if (whole && (op == E_FLOOR || op == E_CEIL || op == E_TRUNC || op == E_RINT)) e = args[0];
    else if (whole && op == E_ISNAN) e = expr_const(c, t, 0);
    else if (op == E_SELECT) e = select(c, args);
    else if (op == E_CAST) e = cast(c, t, args[0]);
    else if (op == E_SPLAT) e = t.lanes == 1 ? args[0] : NULL;
    else if (op == E_BITS) e = type_eq(t, at) ? args[0] : NULL;
    else if (op == E_NEG && args[0]->kind == E_NEG) e = args[0]->arg[0];
    else if (at.dt == I64 && at.lanes == 1) e = index_op(c, op, n, args);
    else if (at.dt == BOOL) e = logic(c, op, args);
    return e ? e : expr_cons(c, op, t, 0, n, args);
}

Expr *expr_and(Ctx *c, Expr *a, Expr *b) { return !a ? b : !b ? a : expr2(c, E_AND, a, b); }
Expr *expr_select(Ctx *c, Expr *cond, Expr *a, Expr *b) { return expr3(c, E_SELECT, cond, a, b); }
Expr *expr_cast(Ctx *c, Expr *a, DType t) {
    return expr_op(c, E_CAST, (Type){(uint8_t)t, a->type.lanes}, 1, &a);
}
Expr *expr_splat(Ctx *c, Expr *a, int lanes) {
    return expr_op(c, E_SPLAT, (Type){a->type.dt, (uint8_t)lanes}, 1, &a);
}

/* ---- walking ---- */

uint32_t expr_mark(Ctx *c) { return ++table(c)->mark; }

void expr_walk(Expr *e, uint32_t mark, void (*fn)(void *, Expr *), void *arg) {
    if (!e || e->mark == mark) return;
    e->mark = mark;
    for (int i = 0; i < e->nargs; i++) expr_walk(e->arg[i], mark, fn, arg);
    fn(arg, e);
}

static bool search(Expr *e, uint32_t mark, Search (*ask)(void *, Expr *), void *arg) {
    if (!e || e->mark == mark) return false;
    e->mark = mark;
    Search s = ask(arg, e);
    for (int i = 0; i < e->nargs && s == SEARCH_ON; i++)
        if (search(e->arg[i], mark, ask, arg)) return true;
    return s == SEARCH_FOUND;
}
bool expr_search(Ctx *c, Expr *e, Search (*ask)(void *, Expr *), void *arg) { return search(e, expr_mark(c), ask, arg); }

static Search on_data(void *arg, Expr *e) {
    (void)arg;
    return e->kind == E_VAR && e->var->data ? SEARCH_FOUND : SEARCH_ON;
}
bool expr_on_data(Ctx *c, Expr *e) { return expr_search(c, e, on_data, NULL); }

/* busy: this search went through it in vain. The marks are taken off again, on success by whoever stands
 * beside the path. */
static void forget(Expr *e) {
    if (!e->busy) return;
    e->busy = false;
    for (int i = 0; i < e->nargs; i++) forget(e->arg[i]);
}
static bool find(Expr *e, const Var *v) {
    if (e->kind == E_VAR) return e->var == v;
    if (e->busy) return false;
    for (int i = 0; i < e->nargs; i++) {
        if (!find(e->arg[i], v)) continue;
        while (i--) forget(e->arg[i]);
        return true;
    }
    e->busy = e->nargs > 0;
    return false;
}
bool expr_uses(const Expr *e, const Var *v) {
    bool yes = find((Expr *)e, v);
    forget((Expr *)e);
    return yes;
}

bool expr_affine(Ctx *c, Expr *e, Var *v, Expr **base, Expr **stride) {
    *base = expr_subst1(c, e, v, expr_int(c, 0));
    *stride = expr_sub(c, expr_subst1(c, e, v, expr_int(c, 1)), *base);
    return !expr_uses(*stride, v) && expr_add(c, *base, expr_mul(c, *stride, expr_var(c, v))) == e;
}

typedef struct Rewrite {
    Ctx *c;
    Map *done;
    Expr *(*fn)(void *, Expr *);
    void *arg;
} Rewrite;

static Expr *rewrite(Rewrite *r, Expr *e) {
    Expr *known = map_getp(r->done, e), *out = e, *args[MAX_ARGS];
    if (known) return known;
    bool changed = false;
    for (int i = 0; i < e->nargs; i++) changed |= (args[i] = rewrite(r, e->arg[i])) != e->arg[i];
    if (changed) {
        if (e->kind == E_LOAD)
            out = expr_load(r->c, e->buf, e->type.lanes, args,
                            e->nargs > e->buf->rank ? args[e->buf->rank] : NULL);
        else if (e->kind == E_CALL) out = expr_call(r->c, e->call, e->nargs, args);
        else out = expr_op(r->c, (ExprKind)e->kind, e->type, e->nargs, args);
    }
    out = r->fn(r->arg, out);
    map_putp(r->done, e, out);
    return out;
}

Expr *expr_rewrite(Ctx *c, Expr *e, Expr *(*fn)(void *, Expr *), void *arg) {
    Rewrite r = {c, map_new(c), fn, arg};
    return rewrite(&r, e);
}

static Expr *replace(void *arg, Expr *e) {
    Expr *to = e->kind == E_VAR ? map_getp(arg, e->var) : NULL;
    return to ? to : e;
}
Expr *expr_subst(Ctx *c, Expr *e, const Map *vars) { return expr_rewrite(c, e, replace, (void *)vars); }
Expr *expr_subst1(Ctx *c, Expr *e, Var *v, Expr *to) {
    if (!expr_uses(e, v)) return e;
    Map *m = map_new(c);
    map_putp(m, v, to);
    return expr_subst(c, e, m);
}
