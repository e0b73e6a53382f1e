/* Random loop programs: see randomprogram.h.

   A program has inputs f32[24] and f32[6,4], positions i64[8] below 24, a constant f32[16], a symbol N
   in 1..9, and a few temporaries and outputs of the same sizes or f32[N]. A nest fills each of them in order,
   now and then in a loop: loops over its elements, with registers, local rows, reductions, branches, checks,
   lets and masked loads inside. Expressions are taken up again within their scope, so that there is much to
   share and to hoist. */
#include "randomprogram.h"

enum { DEPTH = 4, POOL = 48 };

typedef struct Gen {
    Ctx *c;
    Program *p;
    Random r;
    Block *block, *top; /* where statements go, and nests */
    Expr *var[16];      /* loop variables in scope */
    int nvar;
    Expr *pool[POOL]; /* f32 values that may be used again here */
    int npool;
    Buf *readable[32];
    int nreadable;
    Buf *reg[8];
    int nreg, own; /* from own on: declared inside the innermost free loop, so stores to them are its own */
    Buf *positions;
    Var *size;
} Gen;

static int below(Gen *g, int n) { return random_below(&g->r, n); }
static Expr *num(Gen *g, int64_t v) { return expr_int(g->c, v); }

/* An index that is always below dim. */
static Expr *inside(Gen *g, Expr *dim) {
    Ctx *c = g->c;
    Expr *v = g->nvar ? g->var[below(g, g->nvar)] : num(g, 0);
    if (g->nvar && below(g, 3)) {
        for (int i = 0; i < g->nvar; i++) {
            Expr *e = g->var[(i + below(g, g->nvar)) % g->nvar];
            if (expr_less(c, e, dim)) return e;
        }
    }
    if (below(g, 4) == 0) {
        Expr *at = expr_fmod(c, v, num(g, 8));
        Expr *e = expr_load(c, g->positions, 1, &at, NULL);
        return expr_fmod(c, e, dim);
    }
    if (below(g, 2))
        return expr_fmod(c, expr_add(c, expr_mul(c, v, num(g, 1 + below(g, 3))), num(g, below(g, 5))), dim);
    return expr_fmod(c, expr_fdiv(c, v, num(g, 2)), dim);
}

static Expr *condition(Gen *g) {
    Ctx *c = g->c;
    Expr *v = g->nvar ? g->var[below(g, g->nvar)] : expr_var(c, g->size);
    Expr *e = expr2(c, E_LT, v, below(g, 2) ? num(g, below(g, 6)) : expr_var(c, g->size));
    return below(g, 3) ? e : expr1(c, E_NOT, e);
}

static Expr *load(Gen *g) {
    Ctx *c = g->c;
    if (g->nreg && below(g, 4) == 0) {
        Buf *b = g->reg[below(g, g->nreg)];
        Expr *at[1];
        for (int i = 0; i < b->rank; i++) at[i] = inside(g, b->dim[i]);
        return expr_load(c, b, 1, at, NULL);
    }
    Buf *b = g->readable[below(g, g->nreadable)];
    Expr *at[2], *mask = NULL;
    for (int i = 0; i < b->rank; i++) at[i] = inside(g, b->dim[i]);
    if (below(g, 4) == 0) { /* outside of the buffer wherever the mask is false */
        Expr *v = g->nvar ? g->var[below(g, g->nvar)] : num(g, 3);
        at[0] = expr_add(c, v, num(g, below(g, 3) - 1));
        mask = expr_and(c, expr2(c, E_LE, num(g, 0), at[0]), expr2(c, E_LT, at[0], b->dim[0]));
    }
    return expr_load(c, b, 1, at, mask);
}

static Expr *keep(Gen *g, Expr *e) {
    if (g->npool < POOL) g->pool[g->npool++] = e;
    return e;
}

/* Products and sums of positions, which have much in common. */
static Expr *whole(Gen *g) {
    Ctx *c = g->c;
    Expr *p[3], *at = expr_int(c, 0);
    for (int i = 0; i < 3; i++) {
        Expr *k =
            below(g, 2) && g->nvar ? expr_fmod(c, g->var[below(g, g->nvar)], num(g, 8)) : num(g, below(g, 3));
        p[i] = expr_load(c, g->positions, 1, &k, NULL);
    }
    for (int i = 0; i < 3; i++) {
        at = expr_add(c, expr_mul(c, p[below(g, 3)], p[below(g, 3)]), at);
        if (below(g, 3) == 0) at = expr_mul(c, at, p[below(g, 3)]);
    }
    return below(g, 2) ? at : expr2(c, E_MAX, at, expr_mul(c, p[0], p[1]));
}

static Expr *value(Gen *g, int depth) {
    static const ExprKind two[] = {E_ADD, E_SUB, E_MUL, E_MAX, E_MIN};
    Ctx *c = g->c;
    if (g->npool && below(g, 4) == 0) return g->pool[below(g, g->npool)];
    if (depth <= 0 || below(g, 6) == 0)
        return below(g, 8) ? keep(g, load(g)) : expr_num(c, F32, below(g, 7) - 3);
    switch (below(g, 8)) {
    case 0: return keep(g, expr_select(c, condition(g), value(g, depth - 1), value(g, depth - 1)));
    case 1: return keep(g, expr3(c, E_FMA, value(g, depth - 1), value(g, depth - 1), value(g, depth - 1)));
    case 2: {
        Expr *x = value(g, depth - 1);
        return keep(g, expr_call(c, gd_math_row("exp", F32), 1, &x));
    }
    case 3: return keep(g, expr_cast(c, below(g, 2) ? inside(g, num(g, 100)) : whole(g), F32));
    default: return keep(g, expr2(c, two[below(g, 5)], value(g, depth - 1), value(g, depth - 1)));
    }
}

/* ---- statements ---- */

typedef struct Mark {
    Block *block;
    int nvar, npool, nreg, own, nreadable;
} Mark;
static Mark enter(Gen *g, Block *b) {
    Mark m = {g->block, g->nvar, g->npool, g->nreg, g->own, g->nreadable};
    g->block = b;
    return m;
}
/* What was made inside is forgotten. */
static void leave(Gen *g, Mark m) {
    g->block = m.block;
    g->nvar = m.nvar;
    g->nreg = m.nreg;
    g->own = m.own;
    g->nreadable = m.nreadable;
    g->npool = m.npool;
}

static Stmt *loop(Gen *g, Expr *trip, bool is_free) {
    Stmt *s = stmt_for(g->p, g->block, "i", trip, is_free);
    if (below(g, 4) == 0 && is_const(trip)) s->mode = L_UNROLL;
    return s;
}

static void statements(Gen *g, int depth);

static void reduction(Gen *g) {
    Buf *acc = buf_new(g->p, SP_REG, F32, 0, NULL, "acc");
    stmt_decl(g->p, g->block, acc);
    stmt_store(g->p, g->block, acc, NULL, value(g, 2), NULL);
    Stmt *s = loop(
        g, below(g, 3) ? num(g, 1 + below(g, 5)) : expr_sub(g->c, expr_var(g->c, g->size), num(g, 1)), false);
    Mark m = enter(g, &s->body);
    g->var[g->nvar++] = expr_var(g->c, s->var);
    if (below(g, 2)) statements(g, 1);
    Expr *old = expr_load(g->c, acc, 1, NULL, NULL);
    stmt_store(g->p, g->block, acc, NULL, expr3(g->c, E_FMA, value(g, 2), value(g, 1), old), NULL);
    leave(g, m);
    g->reg[g->nreg++] = acc;
}

/* A register tile, or a row on the stack. */
static void row(Gen *g, Space space) {
    Expr *n = num(g, 2 + below(g, 3));
    Buf *b = buf_new(g->p, space, F32, 1, &n, "row");
    stmt_decl(g->p, g->block, b);
    Stmt *s = loop(g, n, true);
    Mark m = enter(g, &s->body);
    Expr *i = expr_var(g->c, s->var);
    g->var[g->nvar++] = i;
    g->own = g->nreg;
    stmt_store(g->p, g->block, b, &i, value(g, 3), NULL);
    leave(g, m);
    if (space == SP_REG) g->reg[g->nreg++] = b;
    else g->readable[g->nreadable++] = b;
}

static void branch(Gen *g, int depth) {
    Expr *v = g->nvar ? g->var[below(g, g->nvar)] : expr_var(g->c, g->size);
    bool low = below(g, 2); /* v < 3: under it, an access that is outside of the buffer otherwise */
    Stmt *s = stmt_if(g->p, g->block, low ? expr2(g->c, E_LT, v, num(g, 3)) : condition(g));
    for (int side = 0; side < 2; side++) {
        Mark m = enter(g, side ? &s->other : &s->body);
        if (side == 0 && low) {
            Expr *at[2] = {expr_mul(g->c, v, num(g, 2)), num(g, 1)};
            keep(g, expr_load(g->c, g->readable[1], 1, at, NULL));
        }
        statements(g, depth - 1);
        leave(g, m);
    }
}

/* What follows may rely on it. */
static void check(Gen *g) {
    Expr *n = expr_var(g->c, g->size), *at = expr_mul(g->c, n, num(g, 3));
    Stmt *s = stmt_new(g->p, g->block, S_CHECK);
    s->e = expr2(g->c, E_LE, n, num(g, 7));
    s->status = 100;
    keep(g, expr_load(g->c, g->readable[0], 1, &at, NULL));
}

static void statements(Gen *g, int depth) {
    for (int n = 1 + below(g, 3); n > 0; n--) switch (below(g, depth > 0 ? 6 : 2) + (below(g, 16) == 0) * 6) {
        case 0: keep(g, expr_var(g->c, stmt_let(g->p, g->block, "x", value(g, 3))->var)); break;
        case 1:
            if (g->nreg > g->own) {
                Buf *b = g->reg[g->own + below(g, g->nreg - g->own)];
                Expr *at = b->rank ? inside(g, b->dim[0]) : NULL;
                stmt_store(g->p, g->block, b, &at, value(g, 2), NULL);
            }
            break;
        case 2:
            if (g->nreg < 6) reduction(g);
            break;
        case 3:
            if (g->nreg < 6) row(g, SP_REG);
            break;
        case 4:
            if (g->nreadable < 30) row(g, SP_LOCAL);
            break;
        case 5: branch(g, depth); break;
        default: check(g); break;
        }
}

static void nest(Gen *g, Buf *b) {
    Stmt *s = stmt_nest(g->p, g->top, "nest");
    Mark whole = enter(g, &s->body);
    g->npool = 0;
    if (below(g, 3) == 0) statements(g, 1);
    Mark m[2];
    Expr *at[2];
    for (int i = 0; i < b->rank; i++) {
        Stmt *l = loop(g, b->dim[i], true);
        m[i] = enter(g, &l->body);
        g->own = g->nreg;
        g->var[g->nvar++] = at[i] = expr_var(g->c, l->var);
        if (below(g, 3) == 0) statements(g, 1);
    }
    statements(g, 2);
    stmt_store(g->p, g->block, b, at, value(g, DEPTH), NULL);
    for (int i = b->rank; i--;) leave(g, m[i]);
    leave(g, whole);
}

/* for i in 0..3 { once = f(carried, ...); carried = g(once, ...) }: one buffer goes round the loop, one does
 * not. */
static void control_loop(Gen *g, Buf *carried) {
    Expr *n24 = expr_int(g->c, 24);
    Buf *once = buf_new(g->p, SP_ARENA, F32, 1, &n24, "once");
    Block *top = g->top;
    Stmt *s = stmt_for(g->p, top, "i", num(g, 1 + below(g, 3)), false);
    int at = 0;
    while (g->readable[at] != carried) at++;
    g->top = &s->body;
    if (below(g, 2)) {
        nest(g, carried);
        nest(g, once);
    } else {
        nest(g, once);
        g->readable[at] = once;
        nest(g, carried);
        g->readable[at] = carried;
    }
    g->top = top;
}

Program *random_program(Ctx *c, uint64_t seed) {
    Gen g = {.c = c, .p = program_new(c, "rnd"), .r = {seed}};
    Expr *n24 = expr_int(c, 24), *six_four[] = {expr_int(c, 6), expr_int(c, 4)}, *n8 = expr_int(c, 8),
         *n16 = expr_int(c, 16);
    g.top = &g.p->body;
    g.size = var_new(c, V_SYM, scalar(I64), "N", 1, 9);
    vec_push(c, &g.p->syms, g.size);
    g.readable[g.nreadable++] = buf_new(g.p, SP_IN, F32, 1, &n24, "a");
    g.readable[g.nreadable++] = buf_new(g.p, SP_IN, F32, 2, six_four, "b");
    g.positions = buf_new(g.p, SP_IN, I64, 1, &n8, "positions");
    Buf *w = g.readable[g.nreadable++] = buf_new(g.p, SP_CONST, F32, 1, &n16, "w");
    float *data = gd_alloc_aligned(c, 64);
    for (int i = 0; i < 16; i++) data[i] = (float)(i - 7) / 4;
    w->data = data;
    int temporaries = 1 + below(&g, 5), outputs = 1 + below(&g, 2);
    for (int i = 0; i < temporaries + outputs; i++) {
        Expr *size = expr_var(c, g.size), *one[] = {below(&g, 2) ? n24 : size};
        Space space = i < temporaries ? SP_ARENA : SP_OUT;
        bool matrix = below(&g, 3) == 0;
        Buf *b = buf_new(g.p, space, F32, matrix ? 2 : 1, matrix ? six_four : one, gd_format(c, "t%d", i));
        nest(&g, b);
        g.readable[g.nreadable++] = b;
        if (space == SP_ARENA && below(&g, 5) == 0) control_loop(&g, b);
    }
    g.p->after = "lower";
    return g.p;
}

int random_run(Ctx *c, Program *p, uint64_t seed, float *out, int *n) {
    Random r = {seed};
    float a[24], b[24];
    int64_t positions[8], syms[1] = {1 + random_below(&r, 9)};
    for (int i = 0; i < 24; i++) {
        a[i] = (float)(random_below(&r, 17) - 8) / 8;
        b[i] = (float)(random_below(&r, 9) - 4) / 2;
    }
    for (int i = 0; i < 8; i++) positions[i] = random_below(&r, 24);
    const void *in[] = {a, b, positions};
    void *outs[4] = {NULL};
    int status = loop_interpret(c, p, &(LoopArgs){in, outs, syms});
    *n = 0;
    for (int i = 0; i < p->params.n; i++) {
        const Buf *x = p->params.v[i];
        int64_t size = x->rank == 2 ? 24 : x->dim[0]->kind == E_CONST ? 24 : syms[0];
        if (x->space != SP_OUT) continue;
        memcpy(out + *n, outs[x->port], (size_t)size * sizeof *out);
        *n += (int)size;
    }
    return status;
}
