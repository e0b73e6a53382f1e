/* The index simplifier: rules for scalar i64 expressions (dims, indices, addresses, and comparisons of them).

   Sums are canonical: terms in order of their factors' ids, each a product of factors with one constant
   coefficient, the constant last. Two indices are equal exactly when their canonical sums are, so the passes
   compare pointers. Values are taken as numbers that do not overflow, which is true of every size and address
   of a program that fits memory.

   How it proves that something is not negative: by the ranges of its parts; by putting for every loop
   variable that end of its range that makes the whole smallest (n*H + h < N*H is seen although N has no
   number); and by writing each symbol as its least value plus something. A rule puts fewer terms, divisions
   or smaller divisors in place of what it finds, and proofs look at parts of what they are asked, with a
   bound on the depth: so all of it ends. What was found is kept (expr_fact): a part that many expressions share is
   looked at once. */
#include "index.h"

enum { MAX_TERMS = 64, MAX_FACTORS = 8, MAX_PROOF = 3 };
enum { LOWER_BOUND = E_KINDS, UPPER_BOUND, PROOF }; /* facts, next to those about operators; PROOF + depth */

static bool never_negative(Ctx *c, Expr *e, int depth);

/* ---- canonical sums ---- */

typedef struct Term {
    int64_t coef;
    int n;
    Expr *factor[MAX_FACTORS];
} Term;
/* full: it did not fit (or a coefficient overflowed), and the caller must leave the expression as it is. */
typedef struct Sum {
    int n;
    int64_t k;
    bool full;
    Term t[MAX_TERMS];
} Sum;

static void sum_clear(Sum *s) {
    s->n = 0;
    s->k = 0;
    s->full = false;
}

/* Terms of more factors first, then by ids: a graded order, so the leading term of a product is the product
   of the leading terms, which is what makes divide's polynomial division end. */
static int term_compare(const Term *a, const Term *b) {
    if (a->n != b->n) return a->n < b->n ? 1 : -1;
    for (int i = 0; i < a->n; i++)
        if (a->factor[i] != b->factor[i]) return a->factor[i]->id < b->factor[i]->id ? -1 : 1;
    return 0;
}

static int sum_find(const Sum *s, const Term *t, bool *found) {
    int i = 0, order = 1;
    while (i < s->n && (order = term_compare(&s->t[i], t)) < 0) i++;
    *found = i < s->n && !order;
    return i;
}

static void sum_put(Sum *s, const Term *t) {
    if (!t->coef) return;
    if (!t->n) {
        s->full |= __builtin_add_overflow(s->k, t->coef, &s->k);
        return;
    }
    bool found;
    int i = sum_find(s, t, &found);
    if (found) {
        s->full |= __builtin_add_overflow(s->t[i].coef, t->coef, &s->t[i].coef);
        if (!s->t[i].coef) memmove(&s->t[i], &s->t[i + 1], (size_t)(--s->n - i) * sizeof *t);
        return;
    }
    if (s->n == MAX_TERMS) {
        s->full = true;
        return;
    }
    memmove(&s->t[i + 1], &s->t[i], (size_t)(s->n++ - i) * sizeof *t);
    s->t[i] = *t;
}

static void term_times(Term *t, Expr *factor, bool *full) {
    if (t->n == MAX_FACTORS) {
        *full = true;
        return;
    }
    int i = t->n++;
    for (; i > 0 && t->factor[i - 1]->id > factor->id; i--) t->factor[i] = t->factor[i - 1];
    t->factor[i] = factor;
}

/* e is canonical already: a chain of ADD over products. Adds scale * e. */
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

static void sum_of(Sum *s, const Expr *e) {
    sum_clear(s);
    sum_add(s, e, 1);
}

/* Adds t times all of u. */
static void sum_add_product(Sum *s, const Term *t, const Sum *u) {
    s->full |= u->full;
    for (int i = 0; i <= u->n; i++) {
        Term p = *t;
        s->full |= __builtin_mul_overflow(p.coef, i < u->n ? u->t[i].coef : u->k, &p.coef);
        for (int f = 0; i < u->n && f < u->t[i].n; f++) term_times(&p, u->t[i].factor[f], &s->full);
        sum_put(s, &p);
    }
}

static Expr *raw2(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    bool truth = op == E_EQ || op == E_NE || op == E_LT || op == E_LE;
    return expr_cons(c, op, scalar(truth ? BOOL : I64), 0, 2, (Expr *[]){a, b});
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

/* The term t = o * (x fmod d); its partner is o * d * (x fdiv d), and both together are o * x. */
static bool partner(Ctx *c, const Sum *s, const Term *t, int factor, Term *o, int *at) {
    Expr *x = t->factor[factor]->arg[0], *d = t->factor[factor]->arg[1], *q = expr_fdiv(c, x, d);
    bool full = false, found;
    int64_t k = 1;
    *o = *t;
    memmove(&o->factor[factor], &o->factor[factor + 1], (size_t)(--o->n - factor) * sizeof(Expr *));
    if (q->kind != E_FDIV) return false;
    Term want = *o;
    term_times(&want, q, &full);
    if (!is_int(d, &k)) term_times(&want, d, &full);
    if (full || __builtin_mul_overflow(want.coef, k, &want.coef)) return false;
    *at = sum_find(s, &want, &found);
    return found && s->t[*at].coef == want.coef;
}

/* (x fdiv d) * d + x fmod d = x. A d that is itself a product stands expanded in the partner and is not
   found, which costs form, not truth. */
static bool recombine(Ctx *c, Sum *s) {
    bool any = false;
    for (int i = 0; i < s->n && !any; i++)
        for (int f = 0; f < s->t[i].n; f++) any |= s->t[i].factor[f]->kind == E_FDIV;
    for (int i = 0; any && i < s->n; i++)
        for (int f = 0; f < s->t[i].n; f++) {
            Term o;
            int at;
            if (s->t[i].factor[f]->kind != E_FMOD || !partner(c, s, &s->t[i], f, &o, &at)) continue;
            Sum x;
            sum_of(&x, s->t[i].factor[f]->arg[0]);
            Term mod = s->t[i], div = s->t[at];
            mod.coef = -mod.coef;
            div.coef = -div.coef;
            sum_put(s, &mod);
            sum_put(s, &div);
            sum_add_product(s, &o, &x);
            return true;
        }
    return false;
}

static Expr *close_sum(Ctx *c, Sum *s) {
    for (int i = 0; i < MAX_TERMS && !s->full && recombine(c, s); i++) {}
    return s->full ? NULL : sum_expr(c, s);
}

static Expr *linear(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    Sum s;
    sum_of(&s, a);
    sum_add(&s, b, op == E_ADD ? 1 : -1);
    Expr *e = close_sum(c, &s);
    return e ? e : raw2(c, op, a, b);
}

static Expr *product(Ctx *c, Expr *a, Expr *b) {
    Sum x, y, r;
    sum_of(&x, a);
    sum_of(&y, b);
    sum_clear(&r);
    for (int i = 0; i <= x.n; i++) sum_add_product(&r, i < x.n ? &x.t[i] : &(Term){.coef = x.k}, &y);
    Expr *e = x.full || y.full ? NULL : close_sum(c, &r);
    return e ? e : raw2(c, E_MUL, a, b);
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
    if (a == INT64_MIN || a == INT64_MAX || b == INT64_MIN || b == INT64_MAX)
        return negative ? INT64_MIN : INT64_MAX;
    return __builtin_mul_overflow(a, b, &r) ? (negative ? INT64_MIN : INT64_MAX) : r;
}
static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t greater(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t floor_div(int64_t a, int64_t d) { return a / d - (a % d < 0); } /* d > 0 */
static int64_t floor_mod(int64_t a, int64_t d) { return a % d < 0 ? a % d + d : a % d; }

static void cast_range(const Expr *e, int64_t *lo, int64_t *hi) {
    DType t = (DType)e->arg[0]->type.dt;
    int bits = t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : t == BOOL ? 1 : 8 * gd_dtypes[t].bytes;
    if (gd_dtypes[t].kind == DK_INT) {
        *lo = -(1ll << (bits - 1));
        *hi = (1ll << (bits - 1)) - 1;
    } else {
        *lo = 0;
        *hi = (1ll << bits) - 1;
    }
}

void expr_range(Ctx *c, const Expr *e, int64_t *lo, int64_t *hi) {
    int64_t al, ah, bl, bh, d;
    *lo = INT64_MIN;
    *hi = INT64_MAX;
    if (e->type.dt != I64 || e->type.lanes != 1) return;
    switch (e->kind) {
    case E_CONST: *lo = *hi = (int64_t)e->bits; return;
    case E_VAR:
        *lo = e->var->lo;
        *hi = e->var->hi;
        return;
    case E_ADD:
    case E_MUL:
    case E_MIN:
    case E_MAX:
        expr_range(c, e->arg[0], &al, &ah);
        expr_range(c, e->arg[1], &bl, &bh);
        break;
    case E_FDIV:
    case E_FMOD:
        expr_range(c, e->arg[0], &al, &ah);
        expr_range(c, e->arg[1], &bl, &bh);
        if (bl <= 0) return;
        if (e->kind == E_FMOD) {
            *lo = 0;
            *hi = al >= 0 ? lesser(ah, sat_add(bh, -1)) : sat_add(bh, -1);
            return;
        }
        if (al >= 0) *lo = bh == INT64_MAX ? 0 : al / bh;
        else *lo = al == INT64_MIN ? al : floor_div(al, bl);
        *hi = ah == INT64_MAX ? ah : ah >= 0 ? ah / bl : bh == INT64_MAX ? -1 : floor_div(ah, bh);
        return;
    case E_SELECT:
        expr_range(c, e->arg[1], &al, &ah);
        expr_range(c, e->arg[2], &bl, &bh);
        *lo = lesser(al, bl);
        *hi = greater(ah, bh);
        return;
    case E_CAST:
        if (is_int(e->arg[0], &d) || !(dt_int((DType)e->arg[0]->type.dt) || e->arg[0]->type.dt == BOOL))
            return;
        if (e->arg[0]->type.dt != U64 && e->arg[0]->type.dt != I64) cast_range(e, lo, hi);
        return;
    default: return;
    }
    if (e->kind == E_ADD) {
        *lo = sat_add(al, bl);
        *hi = sat_add(ah, bh);
    } else if (e->kind == E_MIN) {
        *lo = lesser(al, bl);
        *hi = lesser(ah, bh);
    } else if (e->kind == E_MAX) {
        *lo = greater(al, bl);
        *hi = greater(ah, bh);
    } else {
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

static int64_t least(Ctx *c, const Expr *e) {
    int64_t lo, hi;
    expr_range(c, e, &lo, &hi);
    return lo;
}

/* ---- proofs ---- */

static Expr *bound(Ctx *c, Expr *e, bool upper);

static Expr *find_bound(Ctx *c, Expr *e, bool upper) {
    int64_t k, lo, hi;
    Expr *a, *b;
    switch (e->kind) {
    case E_CONST: return e;
    case E_VAR:
        if (e->var->kind == V_SYM) return e;
        if (e->var->kind == V_LET && e->var->def && !e->var->def->loads && (a = bound(c, e->var->def, upper)))
            return a;
        if (e->var->kind == V_LOOP && e->var->def)
            return upper ? (a = bound(c, e->var->def, true)) ? expr_sub(c, a, expr_int(c, 1)) : NULL
                         : expr_int(c, 0);
        break;
    case E_ADD:
        a = bound(c, e->arg[0], upper);
        b = a ? bound(c, e->arg[1], upper) : NULL;
        if (b) return expr_add(c, a, b);
        break;
    case E_MUL:
        if (is_int(e->arg[1], &k)) {
            a = bound(c, e->arg[0], upper == (k >= 0));
            if (a) return expr_mul(c, a, e->arg[1]);
        } else if (least(c, e->arg[0]) >= 0 && least(c, e->arg[1]) >= 0) {
            a = bound(c, e->arg[0], upper);
            b = a ? bound(c, e->arg[1], upper) : NULL;
            if (b) return expr_mul(c, a, b);
        }
        break;
    case E_FDIV:
        if (is_int(e->arg[1], &k) && k > 0 && (a = bound(c, e->arg[0], upper)))
            return expr_fdiv(c, a, e->arg[1]);
        break;
    case E_FMOD:
        if (least(c, e->arg[1]) > 0) {
            if (!upper) return expr_int(c, 0);
            if (e->arg[1]->kind == E_CONST || (e->arg[1]->kind == E_VAR && e->arg[1]->var->kind == V_SYM))
                return expr_sub(c, e->arg[1], expr_int(c, 1));
        }
        break;
    case E_MIN:
    case E_MAX:
    case E_SELECT:
        a = bound(c, e->arg[e->nargs - 2], upper);
        b = bound(c, e->arg[e->nargs - 1], upper);
        if (a && b) return expr2(c, e->kind == E_SELECT ? upper ? E_MAX : E_MIN : e->kind, a, b);
        if (e->kind == E_MIN && upper) return a ? a : b;
        if (e->kind == E_MAX && !upper) return a ? a : b;
        break;
    default: break;
    }
    expr_range(c, e, &lo, &hi);
    if (upper) return hi == INT64_MAX ? NULL : expr_int(c, hi);
    return lo == INT64_MIN ? NULL : expr_int(c, lo);
}

/* A bound of e that no loop variable stands in, NULL when there is none. Each part is bounded by itself. */
static Expr *bound(Ctx *c, Expr *e, bool upper) {
    uint32_t about = upper ? UPPER_BOUND : LOWER_BOUND;
    Expr *b;
    return expr_fact(c, about, e, NULL, &b) ? b : expr_learn(c, about, e, NULL, find_bound(c, e, upper));
}

/* With every variable v written as v.lo + v', v' >= 0: are all coefficients of the polynomial at least 0?
   Multiplying a term out, the coefficient of each subset of its primed factors collects the least values of
   the others. */
static bool positive_shifted(Ctx *c, const Expr *e) {
    Sum s, r;
    sum_of(&s, e);
    sum_clear(&r);
    for (int i = 0; i < s.n && !s.full; i++) {
        const Term *t = &s.t[i];
        for (unsigned subset = 0; subset < 1u << t->n; subset++) {
            Term u = {.coef = t->coef};
            for (int f = 0; f < t->n; f++) {
                int64_t lo = least(c, t->factor[f]);
                if (lo < 0) return false;
                if (subset >> f & 1) term_times(&u, t->factor[f], &r.full);
                else r.full |= __builtin_mul_overflow(u.coef, lo, &u.coef);
            }
            sum_put(&r, &u);
        }
    }
    if (s.full || r.full || __builtin_add_overflow(s.k, r.k, &r.k) || r.k < 0) return false;
    for (int i = 0; i < r.n; i++)
        if (r.t[i].coef < 0) return false;
    return true;
}

static bool shown(Ctx *c, Expr *e) { return least(c, e) >= 0 || positive_shifted(c, e); }

/* The last try takes a loop variable that several terms share, in which e is affine with a stride of one sign, to the
   worse end of its range. */
static bool prove(Ctx *c, Expr *e, int depth) {
    if (shown(c, e)) return true;
    Expr *low = bound(c, e, false), *base, *stride;
    if (low && low != e && shown(c, low)) return true;
    if (depth == MAX_PROOF) return false;
    Sum s;
    sum_of(&s, e);
    for (int i = 0; i < s.n && !s.full; i++)
        for (int f = 0; f < s.t[i].n; f++) {
            Expr *x = s.t[i].factor[f];
            if (x->kind != E_VAR || x->var->kind != V_LOOP || !x->var->def) continue;
            if (!expr_affine(c, e, x->var, &base, &stride)) continue;
            if (never_negative(c, stride, depth + 1)) return never_negative(c, base, depth + 1);
            if (!never_negative(c, product(c, stride, expr_int(c, -1)), depth + 1)) continue;
            Expr *last = linear(c, E_SUB, x->var->def, expr_int(c, 1));
            return never_negative(c, linear(c, E_ADD, base, product(c, stride, last)), depth + 1);
        }
    return false;
}

/* Is e >= 0 for all values of its variables? */
static bool never_negative(Ctx *c, Expr *e, int depth) {
    Expr *yes;
    if (is_const(e)) return (int64_t)e->bits >= 0;
    if (expr_fact(c, PROOF + (uint32_t)depth, e, NULL, &yes)) return yes;
    return expr_learn(c, PROOF + (uint32_t)depth, e, NULL, prove(c, e, depth) ? e : NULL);
}

bool expr_less(Ctx *c, Expr *a, Expr *b) {
    return never_negative(c, expr_sub(c, expr_sub(c, b, a), expr_int(c, 1)), 0);
}

/* ---- division ---- */

static int64_t gcd(int64_t a, int64_t b) {
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a < 0 ? -a : a;
}

/* Is t a multiple of the term d? Then q is the quotient. */
static bool term_divides(const Term *t, const Term *d, Term *q) {
    *q = *t;
    if (t->coef == INT64_MIN || t->coef % d->coef) return false;
    q->coef = t->coef / d->coef;
    for (int i = 0; i < d->n; i++) {
        int f = 0;
        while (f < q->n && q->factor[f] != d->factor[i]) f++;
        if (f == q->n) return false;
        memmove(&q->factor[f], &q->factor[f + 1], (size_t)(--q->n - f) * sizeof(Expr *));
    }
    return true;
}

/* s = d*q + what is left in s, by long division on the leading term of d. Every step takes away a term for
 * smaller ones. */
static void divide_sum(Sum *s, const Sum *d, Sum *q) {
    Term t, lead = d->n ? d->t[0] : (Term){.coef = d->k};
    sum_clear(q);
    for (int steps = 0, i = 0; i < s->n && steps < MAX_TERMS && !s->full; i++) {
        if (!term_divides(&s->t[i], &lead, &t)) continue;
        sum_put(q, &t);
        t.coef = -t.coef;
        sum_add_product(s, &t, d);
        steps++;
        i = -1;
    }
    if (d->n) return;
    int64_t whole = floor_div(s->k, d->k);
    q->full |= __builtin_add_overflow(q->k, whole, &q->k);
    s->k = floor_mod(s->k, d->k);
}

/* s = g*y + b with 0 <= b < g and g dividing k: what is left has a common part with the divisor. */
static bool split_common(Ctx *c, const Sum *s, int64_t k, int64_t *g, Expr **y, Expr **b) {
    int64_t most = k;
    for (;;) { /* the common divisors from the largest on */
        *g = 1;
        for (int i = 0; i < s->n; i++) {
            int64_t h = gcd(k, s->t[i].coef);
            if (h <= most && h > *g) *g = h;
        }
        if (*g == 1) return false;
        Sum whole, rest;
        sum_clear(&whole);
        sum_clear(&rest);
        for (int i = 0; i < s->n; i++) {
            Term t = s->t[i];
            if (t.coef % *g) {
                sum_put(&rest, &t);
                continue;
            }
            t.coef /= *g;
            sum_put(&whole, &t);
        }
        whole.k = floor_div(s->k, *g);
        rest.k = floor_mod(s->k, *g);
        *y = sum_expr(c, &whole);
        *b = sum_expr(c, &rest);
        if (never_negative(c, *b, 0) && expr_less(c, *b, expr_int(c, *g))) return true;
        most = *g - 1;
    }
}

/* r fdiv k, r fmod k for a constant k > 1 and an r that has no multiple of k and no constant outside 0..k-1.
 */
static Expr *divide_rest(Ctx *c, ExprKind op, const Sum *s, Expr *r, int64_t k) {
    int64_t m, g;
    Expr *d = expr_int(c, k), *y, *b;
    if (r->kind == E_FMOD && is_int(r->arg[1], &m) && m > 0 && m % k == 0) {
        if (op == E_FMOD) return expr_fmod(c, r->arg[0], d); /* x % (k*j) % k = x % k */
        return expr_fmod(c, expr_fdiv(c, r->arg[0], d), expr_int(c, m / k)); /* x % (k*j) / k = x / k % j */
    }
    if (op == E_FDIV && r->kind == E_FDIV && is_int(r->arg[1], &m) && m > 0 &&
        !__builtin_mul_overflow(m, k, &m))
        return expr_fdiv(c, r->arg[0], expr_int(c, m)); /* x / m / k = x / (m*k) */
    if (split_common(c, s, k, &g, &y, &b)) {                 /* (g*y + b) / (g*j) = y / j */
        Expr *q = expr2(c, op, y, expr_int(c, k / g));
        return op == E_FDIV ? q : linear(c, E_ADD, product(c, q, expr_int(c, g)), b);
    }
    return raw2(c, op, r, d);
}

/* a = d*q + r: a fdiv d = q + r fdiv d, a fmod d = r fmod d, and both are finished when 0 <= r < d. Floor
   division makes this true for any sign of q. The divisor must be known to be positive. */
static Expr *divide(Ctx *c, ExprKind op, Expr *a, Expr *d) {
    Sum s, q, by;
    int64_t k = 0;
    if (is_value(d, 0)) return d; /* x / 0 = x % 0 = 0 */
    if (least(c, d) <= 0) return raw2(c, op, a, d);
    sum_of(&s, a);
    sum_of(&by, d);
    if (s.full || by.full) return raw2(c, op, a, d);
    divide_sum(&s, &by, &q);
    if (s.full || q.full) return raw2(c, op, a, d);
    Expr *rest = close_sum(c, &s), *whole = close_sum(c, &q);
    if (!rest || !whole) return raw2(c, op, a, d);
    if (never_negative(c, rest, 0) && expr_less(c, rest, d)) return op == E_FDIV ? whole : rest;
    Expr *up = expr_add(c, rest, d); /* -d <= r < 0 */
    if (never_negative(c, up, 0) && expr_less(c, rest, expr_int(c, 0)))
        return op == E_FDIV ? expr_sub(c, whole, expr_int(c, 1)) : up;
    if (is_int(d, &k)) rest = divide_rest(c, op, &s, rest, k);
    else if (by.n > 1 || by.k) return raw2(c, op, a, d); /* taken apart only when it comes out even */
    else rest = raw2(c, op, rest, d);
    return op == E_FDIV ? expr_add(c, whole, rest) : rest;
}

/* ---- comparison ---- */

/* Puts the terms of s on two sides: those with coefficient > 0, and the others negated. */
static void sides(Ctx *c, const Sum *s, Expr **plus, Expr **minus) {
    Sum p, m;
    sum_clear(&p);
    sum_clear(&m);
    for (int i = 0; i < s->n; i++) {
        Term t = s->t[i];
        if (t.coef > 0) {
            sum_put(&p, &t);
            continue;
        }
        t.coef = -t.coef;
        sum_put(&m, &t);
    }
    if (s->k > 0) p.k = s->k;
    else m.k = -s->k;
    *plus = sum_expr(c, &p);
    *minus = sum_expr(c, &m);
}

/* Comparisons are written with what both sides share taken away, without factors common to all terms, and
   with < in place of <=. */
static Expr *compare(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    if (a == b) return expr_bool(c, op == E_EQ || op == E_LE);
    if (a->loads || b->loads) return raw2(c, op, a, b); /* data may be any number: sums of it wrap */
    Sum s;
    sum_of(&s, b);
    sum_add(&s, a, -1);
    if (op == E_LE) s.full |= __builtin_add_overflow(s.k, 1, &s.k);
    Expr *d = s.full || s.k == INT64_MIN ? NULL : close_sum(c, &s), *one = expr_int(c, 1), *plus, *minus;
    if (!d) return raw2(c, op, a, b);
    bool equality = op == E_EQ || op == E_NE;
    if (never_negative(c, expr_sub(c, d, one), 0)) return expr_bool(c, op != E_EQ);
    Expr *back = expr_sub(c, expr_int(c, 0), d);
    if (never_negative(c, equality ? expr_sub(c, back, one) : back, 0)) return expr_bool(c, op == E_NE);
    int64_t g = 0;
    for (int i = 0; i < s.n; i++) {
        if (s.t[i].coef == INT64_MIN) return raw2(c, op, a, b);
        g = gcd(g, s.t[i].coef);
    }
    if (g == 0) return raw2(c, op, a, b);
    if (equality && s.k % g) return expr_bool(c, op == E_NE);
    bool flip = equality && s.t[0].coef < 0;
    for (int i = 0; i < s.n; i++) s.t[i].coef /= flip ? -g : g;
    s.k = equality ? s.k / (flip ? -g : g) : floor_div(s.k - 1, g) + 1; /* g*X + k > 0: X > -k/g */
    sides(c, &s, &plus, &minus);
    if (!equality) return raw2(c, E_LT, minus, plus);
    int64_t k;
    if (is_int(minus, &k) && k == 0 && s.k > 0) { /* x + 3 == 0: x == -3 */
        minus = expr_int(c, -s.k);
        s.k = 0;
        plus = sum_expr(c, &s);
    }
    return raw2(c, op, plus, minus);
}

static Expr *extreme(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    int64_t neutral = op == E_MIN ? INT64_MAX : INT64_MIN;
    if (a == b || is_value(b, neutral)) return a;
    if (is_value(a, neutral)) return b;
    if (never_negative(c, expr_sub(c, b, a), 0)) return op == E_MIN ? a : b;
    if (never_negative(c, expr_sub(c, a, b), 0)) return op == E_MIN ? b : a;
    for (int i = 0; i < 2; i++) { /* min(min(x, y), y) = min(x, y), min(max(x, y), y) = y */
        Expr *x = i ? b : a, *y = i ? a : b;
        if ((x->kind == E_MIN || x->kind == E_MAX) && (x->arg[0] == y || x->arg[1] == y))
            return x->kind == op ? x : y;
    }
    return a->id < b->id ? raw2(c, op, a, b) : raw2(c, op, b, a);
}

/* ---- the door ---- */

static Expr *rules(Ctx *c, ExprKind op, Expr *const *a) {
    int64_t k;
    switch (op) {
    case E_ADD:
    case E_SUB: return linear(c, op, a[0], a[1]);
    case E_NEG: return product(c, a[0], expr_int(c, -1));
    case E_MUL: return product(c, a[0], a[1]);
    case E_FMA: return linear(c, E_ADD, product(c, a[0], a[1]), a[2]);
    case E_FDIV:
    case E_FMOD: return divide(c, op, a[0], a[1]);
    case E_DIV:
    case E_REM: /* truncation and floor agree where nothing is negative */
        if (!never_negative(c, a[0], 0) || !never_negative(c, a[1], 0)) return NULL;
        return divide(c, op == E_DIV ? E_FDIV : E_FMOD, a[0], a[1]);
    case E_SHL: return is_int(a[1], &k) && k >= 0 && k < 62 ? product(c, a[0], expr_int(c, 1ll << k)) : NULL;
    case E_SHR:
        return is_int(a[1], &k) && k >= 0 && k < 62 ? divide(c, E_FDIV, a[0], expr_int(c, 1ll << k)) : NULL;
    case E_AND:
        return is_int(a[1], &k) && k >= 0 && k < INT64_MAX && !(k & (k + 1))
                   ? divide(c, E_FMOD, a[0], expr_int(c, k + 1))
                   : NULL;
    case E_ABS: return never_negative(c, a[0], 0) ? a[0] : NULL;
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE: return compare(c, op, a[0], a[1]);
    case E_MIN:
    case E_MAX: return extreme(c, op, a[0], a[1]);
    default: return NULL;
    }
}

Expr *index_op(Ctx *c, ExprKind op, int n, Expr *const *a) {
    Expr *b = n > 1 ? a[1] : NULL, *e;
    if (n > 2) return rules(c, op, a);
    return expr_fact(c, op, a[0], b, &e) ? e : expr_learn(c, op, a[0], b, rules(c, op, a));
}
