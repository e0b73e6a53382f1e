/* Building expressions: hash-consing, constant folding and the index simplifier.

   i64 arithmetic is kept as a canonical sum: terms in order of their factors' ids, each a product of factors with one
   constant coefficient, the constant last. Two indices are equal exactly when their canonical sums are, so the passes
   compare pointers. The rules for fdiv, fmod and comparisons take multiples out of the sum and then ask the ranges of
   what is left. Every rule replaces an expression by one with fewer divisions or terms, so it ends. */
#include "loop.h"

enum { MAX_TERMS = 64, MAX_FACTORS = 8, MAX_ARGS = 32 };

typedef struct Table { Expr **slots; uint32_t n, cap; int vars; } Table;

static Table *table(Ctx *c) {
    void **s = gd_slot(c, SLOT_EXPR);
    if (!*s) {
        Table *t = gd_new(c, Table);
        t->cap = 1024;
        t->slots = gd_new_array(c, Expr *, t->cap);
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
}

/* The one place where an Expr is made. bits carries whatever leaf the kind has. */
static Expr *cons(Ctx *c, ExprKind kind, Type type, uint64_t bits, int n, Expr *const *args) {
    Table *t = table(c);
    uint64_t h = (uint64_t)kind * 0x9e3779b97f4a7c15u ^ ((uint64_t)type.dt << 8 | type.lanes) ^ bits * 0xff51afd7ed558ccdu;
    for (int i = 0; i < n; i++) h = (h ^ args[i]->id) * 0x100000001b3u + 0x9e3779b9u;
    uint32_t hash = (uint32_t)(h ^ h >> 32), at;
    for (at = hash & (t->cap - 1); t->slots[at]; at = (at + 1) & (t->cap - 1)) {
        Expr *e = t->slots[at];
        if (e->hash == hash && e->kind == kind && type_eq(e->type, type) && e->bits == bits && e->nargs == n &&
            (!n || !memcmp(e->arg, args, (size_t)n * sizeof *args)))
            return e;
    }
    Expr *e = gd_alloc(c, sizeof *e + (size_t)n * sizeof *args);
    e->kind = (uint8_t)kind;
    e->nargs = (uint8_t)n;
    e->type = type;
    e->hash = hash;
    e->id = ++t->n;
    e->bits = bits;
    if (n) memcpy(e->arg, args, (size_t)n * sizeof *args);
    t->slots[at] = e;
    if (2 * t->n > t->cap) rehash(c, t);
    return e;
}

/* ---- leaves ---- */

Expr *expr_const(Ctx *c, Type t, uint64_t bits) { return cons(c, E_CONST, t, bits, 0, NULL); }
Expr *expr_int(Ctx *c, int64_t v) { return expr_const(c, scalar(I64), (uint64_t)v); }
Expr *expr_bool(Ctx *c, bool v) { return expr_const(c, scalar(BOOL), v); }
Expr *expr_num(Ctx *c, DType t, double v) { return expr_const(c, scalar(t), gd_to_bits(t, v)); }
Expr *expr_var(Ctx *c, Var *v) { return cons(c, E_VAR, v->type, (uintptr_t)v, 0, NULL); }
Expr *expr_lane(Ctx *c, Type t) { return cons(c, E_LANE, t, 0, 0, NULL); }
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
    return cons(c, E_LOAD, t, (uintptr_t)b, n, args);
}
Expr *expr_call(Ctx *c, int row, int n, Expr *const *args) {
    return cons(c, E_CALL, args[0]->type, (uint64_t)row, n, args);
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

/* ---- canonical sums of i64 ---- */

typedef struct Term { int64_t coef; int n; Expr *factor[MAX_FACTORS]; } Term;
typedef struct Sum { int n; int64_t k; bool full; Term t[MAX_TERMS]; } Sum;

static int term_compare(const Term *a, const Term *b) {
    if (a->n != b->n) return a->n < b->n ? 1 : -1;
    for (int i = 0; i < a->n; i++)
        if (a->factor[i] != b->factor[i]) return a->factor[i]->id < b->factor[i]->id ? -1 : 1;
    return 0;
}

/* Adds a term, keeping the order; sum->full says that it no longer fits and the caller must not simplify. */
static void sum_put(Sum *s, const Term *t) {
    if (!t->coef) return;
    if (!t->n) { s->full |= __builtin_add_overflow(s->k, t->coef, &s->k); return; }
    int i = 0, order = 1;
    while (i < s->n && (order = term_compare(&s->t[i], t)) < 0) i++;
    if (i < s->n && !order) {
        s->full |= __builtin_add_overflow(s->t[i].coef, t->coef, &s->t[i].coef);
        if (!s->t[i].coef) memmove(&s->t[i], &s->t[i + 1], (size_t)(--s->n - i) * sizeof *t);
        return;
    }
    if (s->n == MAX_TERMS) { s->full = true; return; }
    memmove(&s->t[i + 1], &s->t[i], (size_t)(s->n++ - i) * sizeof *t);
    s->t[i] = *t;
}

static void term_times(Term *t, Expr *factor, bool *full) {
    if (t->n == MAX_FACTORS) { *full = true; return; }
    int i = t->n++;
    for (; i > 0 && t->factor[i - 1]->id > factor->id; i--) t->factor[i] = t->factor[i - 1];
    t->factor[i] = factor;
}

/* e is canonical already: a chain of ADD over products. Adds scale * e to the sum. */
static void sum_add(Sum *s, const Expr *e, int64_t scale) {
    for (; e->kind == E_ADD; e = e->arg[0]) sum_add(s, e->arg[1], scale);
    Term t = {.coef = scale};
    for (; e->kind == E_MUL; e = e->arg[0]) {
        int64_t k;
        if (is_int(e->arg[1], &k)) s->full |= __builtin_mul_overflow(t.coef, k, &t.coef);
        else term_times(&t, e->arg[1], &s->full);
    }
    if (e->kind == E_CONST) s->full |= __builtin_mul_overflow(t.coef, (int64_t)e->bits, &t.coef);
    else term_times(&t, (Expr *)e, &s->full);
    sum_put(s, &t);
}

static Expr *raw2(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    return cons(c, op, op == E_EQ || op == E_NE || op == E_LT || op == E_LE ? (Type){BOOL, a->type.lanes} : a->type, 0, 2,
                (Expr *[]){a, b});
}

static Expr *term_expr(Ctx *c, const Term *t) {
    Expr *e = t->n ? t->factor[0] : expr_int(c, t->coef);
    for (int i = 1; i < t->n; i++) e = raw2(c, E_MUL, e, t->factor[i]);
    return t->n && t->coef != 1 ? raw2(c, E_MUL, e, expr_int(c, t->coef)) : e;
}

static Expr *sum_expr(Ctx *c, const Sum *s) {
    Expr *e = NULL;
    for (int i = 0; i < s->n; i++) {
        Expr *t = term_expr(c, &s->t[i]);
        e = e ? raw2(c, E_ADD, e, t) : t;
    }
    if (!e) return expr_int(c, s->k);
    return s->k ? raw2(c, E_ADD, e, expr_int(c, s->k)) : e;
}

static Sum *sum_of(Ctx *c, Expr *a, int64_t sa, Expr *b, int64_t sb) {
    Sum *s = gd_new(c, Sum);
    sum_add(s, a, sa);
    if (b) sum_add(s, b, sb);
    return s;
}

static Expr *linear(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    Sum *s = sum_of(c, a, 1, b, op == E_ADD ? 1 : -1);
    return s->full ? raw2(c, op, a, b) : sum_expr(c, s);
}

static Expr *product(Ctx *c, Expr *a, Expr *b) {
    Sum *x = sum_of(c, a, 1, NULL, 0), *y = sum_of(c, b, 1, NULL, 0), *r = gd_new(c, Sum);
    for (int i = 0; i <= x->n; i++)
        for (int j = 0; j <= y->n; j++) {
            Term t = i < x->n ? x->t[i] : (Term){.coef = x->k};
            Term u = j < y->n ? y->t[j] : (Term){.coef = y->k};
            r->full |= __builtin_mul_overflow(t.coef, u.coef, &t.coef);
            for (int f = 0; f < u.n; f++) term_times(&t, u.factor[f], &r->full);
            sum_put(r, &t);
        }
    return x->full || y->full || r->full ? raw2(c, E_MUL, a, b) : sum_expr(c, r);
}

/* ---- ranges ---- */

/* Saturating arithmetic: INT64_MIN and INT64_MAX stand for no bound and absorb. */
static int64_t sat_add(int64_t a, int64_t b) {
    int64_t r;
    if (a == INT64_MIN || b == INT64_MIN) return INT64_MIN;
    if (a == INT64_MAX || b == INT64_MAX) return INT64_MAX;
    return __builtin_add_overflow(a, b, &r) ? (a < 0 ? INT64_MIN : INT64_MAX) : r;
}
static int64_t sat_mul(int64_t a, int64_t b) {
    int64_t r;
    bool negative = (a < 0) != (b < 0);
    if (!a || !b) return 0;
    if (a == INT64_MIN || a == INT64_MAX || b == INT64_MIN || b == INT64_MAX) return negative ? INT64_MIN : INT64_MAX;
    return __builtin_mul_overflow(a, b, &r) ? (negative ? INT64_MIN : INT64_MAX) : r;
}
static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }

void expr_range(Ctx *c, const Expr *e, int64_t *lo, int64_t *hi) {
    int64_t al, ah, bl, bh, d;
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    switch (e->kind) {
    case E_CONST: *lo = *hi = (int64_t)e->bits; return;
    case E_VAR: *lo = e->var->lo; *hi = e->var->hi; return;
    case E_ADD: case E_MUL: case E_MIN: case E_MAX:
        expr_range(c, e->arg[0], &al, &ah);
        expr_range(c, e->arg[1], &bl, &bh);
        break;
    case E_FDIV: case E_FMOD:
        expr_range(c, e->arg[0], &al, &ah);
        if (!is_int(e->arg[1], &d) || d <= 0) return;
        if (e->kind == E_FMOD) { *lo = 0; *hi = al >= 0 ? lesser(ah, d - 1) : d - 1; return; }
        *lo = al == INT64_MIN ? al : (al - (al < 0 ? d - 1 : 0)) / d;
        *hi = ah == INT64_MAX ? ah : (ah - (ah < 0 ? d - 1 : 0)) / d;
        return;
    case E_SELECT:
        expr_range(c, e->arg[1], &al, &ah);
        expr_range(c, e->arg[2], &bl, &bh);
        *lo = lesser(al, bl);
        *hi = greater(ah, bh);
        return;
    default: return;
    }
    if (e->kind == E_ADD) { *lo = sat_add(al, bl); *hi = sat_add(ah, bh); }
    else if (e->kind == E_MIN) { *lo = lesser(al, bl); *hi = lesser(ah, bh); }
    else if (e->kind == E_MAX) { *lo = greater(al, bl); *hi = greater(ah, bh); }
    else {
        int64_t p = sat_mul(al, bl), q = sat_mul(al, bh), r = sat_mul(ah, bl), s = sat_mul(ah, bh);
        *lo = lesser(lesser(p, q), lesser(r, s));
        *hi = greater(greater(p, q), greater(r, s));
    }
}

int64_t expr_max(Ctx *c, const Expr *e) {
    int64_t lo, hi;
    expr_range(c, e, &lo, &hi);
    return hi;
}

/* Is e >= 0 for all values of its variables? Loop variables are first replaced by whichever end of their range is worse,
   so that n*H + h < N*H is seen although N has no number. */
static bool never_negative(Ctx *c, Expr *e, int depth) {
    int64_t lo, hi;
    expr_range(c, e, &lo, &hi);
    if (lo >= 0) return true;
    if (depth > 8) return false;
    Sum *s = sum_of(c, e, 1, NULL, 0);
    for (int i = 0; i < s->n && !s->full; i++)
        for (int f = 0; f < s->t[i].n; f++) {
            const Expr *x = s->t[i].factor[f];
            if (x->kind != E_VAR || x->var->kind != V_LOOP || !x->var->def) continue;
            Expr *end = s->t[i].coef > 0 ? expr_int(c, 0) : expr_sub(c, x->var->def, expr_int(c, 1));
            return never_negative(c, expr_subst1(c, e, x->var, end), depth + 1);
        }
    return false;
}

bool expr_less(Ctx *c, Expr *a, Expr *b) {
    return never_negative(c, expr_sub(c, expr_sub(c, b, a), expr_int(c, 1)), 0);
}

/* ---- division, comparison ---- */

/* Is the term a multiple of d (a positive constant or one factor)? Then q is the quotient. */
static bool term_divides(const Term *t, const Expr *d, Term *q) {
    int64_t k;
    *q = *t;
    if (is_int(d, &k)) { q->coef = t->coef / k; return t->coef % k == 0; }
    for (int i = 0; i < t->n; i++)
        if (t->factor[i] == d) {
            memmove(&q->factor[i], &q->factor[i + 1], (size_t)(--q->n - i) * sizeof(Expr *));
            return true;
        }
    return false;
}

/* a = d*q + r with every multiple of d in q: a fdiv d = q + r fdiv d, a fmod d = r fmod d, and both are finished when
   0 <= r < d. Floor division makes this true for any sign of q. */
static Expr *divide(Ctx *c, ExprKind op, Expr *a, Expr *d) {
    int64_t k, inner;
    if (is_int(d, &k) && k <= 0) return raw2(c, op, a, d);
    if (is_value(d, 1)) return op == E_FDIV ? a : expr_int(c, 0);
    Sum *s = sum_of(c, a, 1, NULL, 0), *q = gd_new(c, Sum), *r = gd_new(c, Sum);
    if (s->full) return raw2(c, op, a, d);
    for (int i = 0; i < s->n; i++) {
        Term t;
        if (term_divides(&s->t[i], d, &t)) sum_put(q, &t);
        else sum_put(r, &s->t[i]);
    }
    r->k = s->k;
    if (is_int(d, &k)) { r->k = (s->k % k + k) % k; q->k += (s->k - r->k) / k; }
    Expr *rest = sum_expr(c, r), *whole = sum_expr(c, q);
    if (never_negative(c, rest, 0) && expr_less(c, rest, d)) return op == E_FDIV ? whole : rest;
    if (op == E_FMOD) return raw2(c, E_FMOD, rest, d);
    if (rest->kind == E_FDIV && is_int(rest->arg[1], &inner) && inner > 0 && is_int(d, &k)) /* (x / a) / b = x / (a*b) */
        rest = divide(c, E_FDIV, rest->arg[0], expr_int(c, gd_mul(c, inner, k)));
    else rest = raw2(c, E_FDIV, rest, d);
    return q->n || q->k ? expr_add(c, whole, rest) : rest;
}

static Expr *compare(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    if (a == b) return expr_bool(c, op == E_EQ || op == E_LE);
    bool less = expr_less(c, a, b), more = expr_less(c, b, a);
    if (less || more) return expr_bool(c, op == E_NE || (less && op != E_EQ));
    if (op == E_LE && never_negative(c, expr_sub(c, b, a), 0)) return expr_bool(c, true);
    if (op == E_LT && never_negative(c, expr_sub(c, a, b), 0)) return expr_bool(c, false);
    return raw2(c, op, a, b);
}

static Expr *extreme(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    if (a == b) return a;
    if (never_negative(c, expr_sub(c, b, a), 0)) return op == E_MIN ? a : b;
    if (never_negative(c, expr_sub(c, a, b), 0)) return op == E_MIN ? b : a;
    return a->id < b->id ? raw2(c, op, a, b) : raw2(c, op, b, a);
}

static Expr *index_op(Ctx *c, ExprKind op, Expr *const *a) {
    switch (op) {
    case E_ADD: case E_SUB: return linear(c, op, a[0], a[1]);
    case E_NEG: return product(c, a[0], expr_int(c, -1));
    case E_MUL: return product(c, a[0], a[1]);
    case E_FDIV: case E_FMOD: return divide(c, op, a[0], a[1]);
    case E_EQ: case E_NE: case E_LT: case E_LE: return compare(c, op, a[0], a[1]);
    case E_MIN: case E_MAX: return extreme(c, op, a[0], a[1]);
    default: return NULL;
    }
}

/* ---- operators in general ---- */

static Expr *logic(Ctx *c, ExprKind op, Expr *const *a) {
    if (op == E_NOT && a[0]->kind == E_NOT) return a[0]->arg[0];
    if (op != E_AND && op != E_OR) return NULL;
    bool stop = op == E_OR; /* true or x = true, false and x = false */
    for (int i = 0; i < 2; i++)
        if (is_const(a[i]) && a[i]->type.lanes == 1) return (a[i]->bits != 0) == stop ? expr_bool(c, stop) : a[1 - i];
    return a[0] == a[1] ? a[0] : NULL;
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
        folds = folds && is_const(args[i]) && !dt_small((DType)args[i]->type.dt);
        v[i] = args[i]->bits;
    }
    t = result_type(op, t, args);
    if (folds && !dt_small((DType)t.dt)) return expr_const(c, t, gd_eval(op, (DType)args[0]->type.dt, (DType)t.dt, v));
    Type at = args[0]->type;
    Expr *e = NULL;
    if (at.dt == I64 && at.lanes == 1) e = index_op(c, op, args);
    else if (at.dt == BOOL) e = logic(c, op, args);
    if (!e && op == E_CAST && type_eq(t, at)) e = args[0];
    if (!e && op == E_SELECT && args[1] == args[2]) e = args[1];
    if (!e && op == E_SELECT && is_const(args[0])) e = args[args[0]->bits ? 1 : 2];
    if (!e && op == E_SPLAT && t.lanes == 1) e = args[0];
    return e ? e : cons(c, op, t, 0, n, args);
}


Expr *expr_and(Ctx *c, Expr *a, Expr *b) { return !a ? b : !b ? a : expr2(c, E_AND, a, b); }
Expr *expr_select(Ctx *c, Expr *cond, Expr *a, Expr *b) { return expr3(c, E_SELECT, cond, a, b); }
Expr *expr_cast(Ctx *c, Expr *a, DType t) { return expr_op(c, E_CAST, (Type){(uint8_t)t, a->type.lanes}, 1, &a); }
Expr *expr_splat(Ctx *c, Expr *a, int lanes) { return expr_op(c, E_SPLAT, (Type){a->type.dt, (uint8_t)lanes}, 1, &a); }

/* ---- walking ---- */

bool expr_uses(const Expr *e, const Var *v) {
    if (e->kind == E_VAR) return e->var == v;
    for (int i = 0; i < e->nargs; i++)
        if (expr_uses(e->arg[i], v)) return true;
    return false;
}

bool expr_affine(Ctx *c, Expr *e, Var *v, Expr **base, Expr **stride) {
    *base = expr_subst1(c, e, v, expr_int(c, 0));
    *stride = expr_sub(c, expr_subst1(c, e, v, expr_int(c, 1)), *base);
    return !expr_uses(*stride, v) && expr_add(c, *base, expr_mul(c, *stride, expr_var(c, v))) == e;
}

typedef struct Rewrite { Ctx *c; Map *done; Expr *(*fn)(void *, Expr *); void *arg; } Rewrite;

static Expr *rewrite(Rewrite *r, Expr *e) {
    Expr *known = map_getp(r->done, e), *out = e, *args[MAX_ARGS];
    if (known) return known;
    bool changed = false;
    for (int i = 0; i < e->nargs; i++) changed |= (args[i] = rewrite(r, e->arg[i])) != e->arg[i];
    if (changed) {
        if (e->kind == E_LOAD)
            out = expr_load(r->c, e->buf, e->type.lanes, args, e->nargs > e->buf->rank ? args[e->buf->rank] : NULL);
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
