/* vectorize: a loop marked VECTOR becomes one statement on vectors.

   Needs: loops that tile marked. Promises: the same values; what cannot be done on vectors becomes an ordinary loop, so
   no VECTOR loop is left. A register indexed by the loop becomes a register of vectors, where all its uses agree.
   Registers are taken back until nothing changes, each once: it ends.

     vector l in 16: acc[i, l] = fma(x[n, i], w[k, l], acc[i, l])    reg acc: f32[6,16]
   becomes
     acc[i] = fma(splat(x[n, i]), w[k, 0], acc[i])                    reg acc: v16f32[6] */
#include "nest.h"

typedef struct Vec {
    Program *p;
    Ctx *c;
    Stmt *loop;     /* being rewritten */
    Expr *count;    /* NULL: all lanes live */
    Map *done;      /* Expr -> Expr */
    Map *regs;      /* Buf -> Reg, of the nest */
    bool changed;
} Vec;

typedef struct Reg { Buf *buf, *wide; int width; bool bad; } Reg;

/* ---- may it? ---- */

static bool contiguous(Ctx *c, Buf *b, Expr *const *index, Var *v, int64_t *step) {
    Access a = {.buf = b, .at = buf_address(c, b, index)};
    return access_stride(c, &a, v, step) && (*step == 0 || *step == 1);
}

typedef struct Fit { Ctx *c; Var *v; } Fit;

static Search misfit(void *arg, Expr *e) {
    const Fit *f = arg;
    int64_t step;
    if (e->kind != E_LOAD) return SEARCH_ON;
    if (e->nargs > e->buf->rank && expr_uses(e->arg[e->buf->rank], f->v)) return SEARCH_FOUND;
    return contiguous(f->c, e->buf, e->arg, f->v, &step) ? SEARCH_SKIP : SEARCH_FOUND;
}

static bool fits(Ctx *c, const Stmt *loop) {
    Fit f = {c, loop->var};
    for (int i = 0; i < loop->body.n; i++) {
        Stmt *s = loop->body.v[i];
        int64_t step;
        if (s->kind != S_STORE || (s->mask && expr_uses(s->mask, loop->var))) return false;
        if (!contiguous(c, s->buf, s->index, loop->var, &step) || step != 1 || expr_search(c, s->e, misfit, &f)) return false;
    }
    return true;
}

/* ---- registers ---- */

static Reg *reg_of(Vec *t, Buf *b) {
    if (b->space != SP_REG || !b->rank || b->lanes > 1) return NULL;
    Reg *r = map_getp(t->regs, b);
    if (!r) {
        r = gd_new(t->c, Reg);
        r->buf = b;
        map_putp(t->regs, b, r);
    }
    return r;
}

/* Seen with an index from inside loop (NULL: from elsewhere). */
static void see(Vec *t, Buf *b, Expr *const *index, const Stmt *loop) {
    Reg *r = reg_of(t, b);
    Expr *base, *step;
    int64_t dim;
    if (!r || r->bad) return;
    Expr *last = index[b->rank - 1];
    bool good = loop && loop->mode == L_VECTOR && (!r->width || r->width == loop->width) &&
                expr_affine(t->c, last, loop->var, &base, &step) && is_value(step, 1) &&
                is_value(expr_fmod(t->c, base, expr_int(t->c, loop->width)), 0) && is_int(b->dim[b->rank - 1], &dim) &&
                dim % loop->width == 0;
    for (int i = 0; good && i < b->rank - 1; i++) good = !expr_uses(index[i], loop->var);
    if (good) r->width = loop->width;
    else { r->bad = true; t->changed = true; }
}

typedef struct SeeLoad { Vec *t; const Stmt *loop; } SeeLoad;
static void see_load(void *arg, Expr *e) {
    SeeLoad *s = arg;
    if (e->kind == E_LOAD) see(s->t, e->buf, e->arg, s->loop);
}

static void see_block(Vec *t, Block *b, const Stmt *loop) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        uint32_t mark = expr_mark(t->c);
        SeeLoad sl = {t, loop};
        stmt_walk(s, mark, see_load, &sl);
        if (s->kind == S_STORE) see(t, s->buf, s->index, loop);
        see_block(t, &s->body, s->kind == S_FOR && s->mode == L_VECTOR ? s : NULL);
        see_block(t, &s->other, NULL);
    }
}

static void bad_load(void *arg, Expr *e) {
    Vec *t = arg;
    Reg *r = e->kind == E_LOAD ? map_getp(t->regs, e->buf) : NULL;
    if (r && r->bad) t->changed = true;
}

/* Loops that do not fit, or touch a register that stays an array, are no vector loops. */
static void demote(Vec *t, Block *b) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        int64_t trip;
        if (s->kind == S_FOR && s->mode == L_VECTOR) {
            t->changed = false;
            for (int k = 0; k < s->body.n; k++) {
                Stmt *st = s->body.v[k];
                Reg *r = st->kind == S_STORE ? map_getp(t->regs, st->buf) : NULL;
                expr_walk(st->e, expr_mark(t->c), bad_load, t);
                if (r && r->bad) t->changed = true;
            }
            if (t->changed || !fits(t->c, s)) s->mode = is_int(s->e, &trip) && trip <= 4 ? L_UNROLL : L_SERIAL;
        }
        demote(t, &s->body);
        demote(t, &s->other);
    }
}

/* ---- rewriting ---- */

static Expr *vec(Vec *t, Expr *e);

static Expr *wide_arg(Vec *t, Expr *e) {
    Expr *v = vec(t, e);
    return v->type.lanes == 1 ? expr_splat(t->c, v, t->loop->width) : v;
}

static Expr *at_zero(Vec *t, Expr *e) { return expr_subst1(t->c, e, t->loop->var, expr_int(t->c, 0)); }

/* The lanes that live, when a scalar mask (may be NULL) is given too. */
static Expr *lane_mask(Vec *t, Expr *mask) {
    Expr *lanes = t->count ? t->count : expr_int(t->c, t->loop->width);
    return mask ? t->count ? expr_select(t->c, mask, lanes, expr_int(t->c, 0)) : mask : t->count;
}

/* The last dim is as long as the vector and the loop runs over it: reading all of it is safe. */
static bool whole_dim(Vec *t, const Buf *b, Expr *const *index) {
    return b->rank && is_value(b->dim[b->rank - 1], t->loop->width) && index[b->rank - 1]->kind == E_VAR &&
           index[b->rank - 1]->var == t->loop->var;
}

static int wide_index(Vec *t, const Reg *r, Expr *const *index, Expr **out) {
    int n = r->buf->rank - 1;
    for (int i = 0; i < n; i++) out[i] = index[i];
    if (r->wide->rank == n) return n;
    out[n] = expr_fdiv(t->c, at_zero(t, index[n]), expr_int(t->c, r->width));
    return n + 1;
}

static Expr *vec_load(Vec *t, Expr *e) {
    Ctx *c = t->c;
    Reg *r = map_getp(t->regs, e->buf);
    Expr *index[MAX_RANK + 8], *mask = e->nargs > e->buf->rank ? e->arg[e->buf->rank] : NULL;
    if (r && !r->bad) {
        wide_index(t, r, e->arg, index);
        return expr_load(c, r->wide, r->width, index, mask);
    }
    for (int i = 0; i < e->buf->rank; i++) index[i] = at_zero(t, e->arg[i]);
    int64_t step;
    contiguous(c, e->buf, e->arg, t->loop->var, &step);
    if (!step) return expr_load(c, e->buf, 1, index, mask);
    return expr_load(c, e->buf, t->loop->width, index, whole_dim(t, e->buf, e->arg) && !mask ? NULL : lane_mask(t, mask));
}

static Expr *vec_new(Vec *t, Expr *e) {
    Ctx *c = t->c;
    int w = t->loop->width;
    Expr *args[8];
    if (e->kind == E_VAR) return expr_lane(c, vector(I64, w));
    if (e->kind == E_LOAD) return vec_load(t, e);
    for (int i = 0; i < e->nargs; i++) args[i] = wide_arg(t, e->arg[i]);
    if (e->kind == E_CALL) return expr_call(c, e->call, e->nargs, args);
    return expr_op(c, (ExprKind)e->kind, vector((DType)e->type.dt, w), e->nargs, args);
}

static Expr *vec(Vec *t, Expr *e) {
    if (!expr_uses(e, t->loop->var)) return e;
    Expr *known = map_getp(t->done, e);
    if (!known) map_putp(t->done, e, known = vec_new(t, e));
    return known;
}

static Search reads(void *buf, Expr *e) { return e->kind == E_LOAD && e->buf == buf ? SEARCH_FOUND : SEARCH_ON; }

static void vec_store(Vec *t, Stmt *s, Block *to) {
    Reg *r = map_getp(t->regs, s->buf);
    Expr *index[MAX_RANK + 8], *value = wide_arg(t, s->e);
    if (r && !r->bad) { /* lanes beyond the count keep what they hold; a first value needs no care */
        Ctx *c = t->c;
        int w = t->loop->width;
        wide_index(t, r, s->index, index);
        if (t->count && expr_search(t->c, s->e, reads, s->buf)) {
            Expr *live = expr_splat(c, expr_cast(c, t->count, I32), w);
            value = expr_select(c, expr2(c, E_LT, expr_lane(c, vector(I32, w)), live), value, expr_load(c, r->wide, w, index, NULL));
        }
        stmt_store(t->p, to, r->wide, index, value, s->mask);
        return;
    }
    for (int i = 0; i < s->nindex; i++) index[i] = at_zero(t, s->index[i]);
    stmt_store(t->p, to, s->buf, index, value, lane_mask(t, s->mask));
}

static void rewrite(Vec *t, Block *b) {
    Block out = {0};
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->kind == S_FOR && s->mode == L_VECTOR) {
            t->loop = s;
            t->done = map_new(t->c);
            t->count = is_value(s->e, s->width) ? NULL : s->e;
            for (int k = 0; k < s->body.n; k++) vec_store(t, s->body.v[k], &out);
            continue;
        }
        Reg *r = s->kind == S_DECL ? map_getp(t->regs, s->buf) : NULL;
        if (r && !r->bad && r->width) {
            Expr *dim[MAX_RANK + 8];
            int n = s->buf->rank - 1;
            for (int k = 0; k < n; k++) dim[k] = s->buf->dim[k];
            int64_t last = (int64_t)s->buf->dim[n]->bits / r->width;
            if (last > 1) dim[n++] = expr_int(t->c, last);
            r->wide = buf_new(t->p, SP_REG, s->buf->dt, n, dim, s->buf->name);
            r->wide->lanes = (uint8_t)r->width;
            s->buf = r->wide;
        }
        rewrite(t, &s->body);
        rewrite(t, &s->other);
        vec_push(t->c, &out, s);
    }
    *b = out;
}

static bool vectorize_nest(void *arg, Stmt *nest) {
    Vec *t = arg;
    if (nest->kind != S_NEST) return true;
    t->regs = map_new(t->c);
    do {
        demote(t, &nest->body);
        t->changed = false;
        see_block(t, &nest->body, NULL);
    } while (t->changed);
    rewrite(t, &nest->body);
    gd_check_time(t->c);
    return false;
}

void pass_vectorize(Program *p, const PassOptions *o) {
    Vec t = {.p = p, .c = p->c};
    block_walk(&p->body, vectorize_nest, &t);
    p->lanes = o->machine.lanes > 1 ? o->machine.lanes : 0;
}
