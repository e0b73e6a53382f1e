/* pack: constants that vector loops read are copied, while compiling, into the order in which the loops read them.

   Needs: the loops of tile. Promises: the same values, read without gaps: the dims of a packed constant are the loops
   its address moves with, outermost first, and lanes beyond the end are zero. Every load is looked at once: it ends.

     for t in 2, k in 9: unroll j in 2: vector l in 16: .. w[32*t + 16*j + l, k] ..   const w: f32[64,9]
   becomes
     .. w_packed[t, k, j, l] ..                                                       const w_packed: f32[2,9,2,16] */
#include "nest.h"

enum { MAX_DEPTH = 24 };

typedef struct Pack {
    Program *p;
    Ctx *c;
    Stmt *loops[MAX_DEPTH]; /* around the statement being looked at */
    int depth;
    Map *made;              /* (constant, offset, loops' trips and steps) -> packed Buf */
} Pack;

typedef struct Shape { const Buf *buf; int64_t base; int64_t n; int64_t trip[MAX_DEPTH], width[MAX_DEPTH], step[MAX_DEPTH]; } Shape;

/* dims outermost first; element (i..) = source[base + sum i * step], or 0 beyond the trip of a vector loop. */
static void fill(const Shape *s, int bytes, int64_t d, int64_t at, char **to, int64_t source) {
    const char *from = s->buf->data;
    if (d == s->n) {
        if (at >= 0 && at < source) memcpy(*to, from + at * bytes, (size_t)bytes);
        *to += bytes;
        return;
    }
    for (int64_t i = 0; i < s->width[d]; i++) {
        if (i < s->trip[d]) { fill(s, bytes, d + 1, at + i * s->step[d], to, source); continue; }
        int64_t skip = bytes;
        for (int64_t k = d + 1; k < s->n; k++) skip *= s->width[k];
        *to += skip;
    }
}

static Buf *packed(Pack *t, const Shape *s, int64_t source) {
    Buf *b = map_get(t->made, s, sizeof *s);
    if (b) return b;
    Expr *dim[MAX_DEPTH];
    int64_t count = 1;
    for (int64_t i = 0; i < s->n; i++) {
        dim[i] = expr_int(t->c, s->width[i]);
        count = gd_mul(t->c, count, s->width[i]);
    }
    int bytes = gd_dtypes[s->buf->dt].bytes;
    b = buf_new(t->p, SP_CONST, s->buf->dt, (int)s->n, dim, gd_format(t->c, "%s_packed", s->buf->name));
    char *data = gd_alloc_aligned(t->c, (size_t)gd_mul(t->c, count, bytes)), *to = data;
    fill(s, bytes, 0, s->base, &to, source);
    b->data = data;
    b->label = s->buf->label;
    map_put(t->made, s, sizeof *s, b);
    return b;
}

static Expr *pack_load(void *arg, Expr *e) {
    Pack *t = arg;
    Ctx *c = t->c;
    if (e->kind != E_LOAD || e->buf->space != SP_CONST || e->nargs > e->buf->rank || !buf_root(e->buf)->data || e->buf->base) return e;
    Expr *at = buf_address(c, e->buf, e->arg), *index[MAX_DEPTH], *size = buf_size(c, e->buf);
    Stmt *vector = t->loops[t->depth - 1];
    int64_t total = 1, source;
    if (!expr_uses(at, vector->var) || !is_int(size, &source)) return e;
    Shape s;
    memset(&s, 0, sizeof s); /* it is a key */
    s.buf = e->buf;
    for (int i = 0; i < t->depth; i++) {
        Stmt *l = t->loops[i];
        Expr *base, *step;
        int64_t trip = 0, by;
        if (!expr_uses(at, l->var)) continue;
        if (!expr_affine(c, at, l->var, &base, &step) || !is_int(step, &by)) return e;
        bool fixed = is_int(l->e, &trip);
        if (!fixed && l->mode == L_VECTOR && expr_max(c, l->e) == l->width) { /* reaches to the end of the constant */
            trip = l->width;
        } else if (!fixed) return e;
        s.trip[s.n] = trip;
        s.width[s.n] = l->mode == L_VECTOR ? l->width : trip;
        s.step[s.n] = by;
        total = gd_mul(c, total, s.width[s.n]);
        index[s.n++] = expr_var(c, l->var);
        at = base;
    }
    if (!is_int(at, &s.base) || total > 2 * source + 4096) return e;
    Buf *b = packed(t, &s, source);
    return expr_load(c, b, 1, index, NULL);
}

static void pack_block(Pack *t, Block *b) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (t->depth && t->loops[t->depth - 1]->mode == L_VECTOR && s->e) s->e = expr_rewrite(t->c, s->e, pack_load, t);
        bool loop = s->kind == S_FOR && t->depth < MAX_DEPTH;
        if (loop) t->loops[t->depth++] = s;
        pack_block(t, &s->body);
        if (loop) t->depth--;
        pack_block(t, &s->other);
    }
}

/* ---- constants nobody reads any more ---- */

typedef struct Used { Map *map; uint32_t mark; } Used;
static void use_load(void *arg, Expr *e) {
    if (e->kind == E_LOAD) map_putp(((Used *)arg)->map, buf_root(e->buf), e->buf);
}
static bool use_stmt(void *arg, Stmt *s) {
    Used *u = arg;
    stmt_walk(s, u->mark, use_load, u);
    return true;
}

static void release_unread(Program *p, const Map *read) {
    Map *kept = map_new(p->c);
    for (int i = 0; i < p->consts.n; i++)
        if (map_getp(read, p->consts.v[i])) map_putp(kept, p->consts.v[i]->data, p);
    for (int i = 0; i < p->consts.n; i++)
        if (!map_getp(kept, p->consts.v[i]->data)) gd_release(p->c, p->consts.v[i]->data);
}

void pass_pack(Program *p, const PassOptions *o) {
    Pack t = {.p = p, .c = p->c, .made = map_new(p->c)};
    pack_block(&t, &p->body);
    Used u = {map_new(p->c), expr_mark(p->c)};
    block_walk(&p->body, use_stmt, &u);
    int n = 0;
    if (o->release) release_unread(p, u.map);
    for (int i = 0; i < p->consts.n; i++)
        if (map_getp(u.map, p->consts.v[i])) p->consts.v[n++] = p->consts.v[i];
    p->consts.n = n;
}
