/* pack: what vector loops read with gaps is copied into the order in which the loops read it: constants while compiling,
   other buffers by loops of their own, before those that read them often enough.

   Needs: the loops of tile. Promises: the same values, read without gaps: the dims of a packed buffer are the loops its
   address moves with, outermost first, and lanes beyond the end are zero. The copy stands outside of all loops that
   neither move the address nor store what is copied: the weights of a recurrent layer are packed once, not once a step,
   but the operands of a long reduction block by block. Every load is looked at once: it ends.

     for t in 2, k in 9: unroll j in 2: vector l in 16: .. w[32*t + 16*j + l, k] ..   const w: f32[64,9]
   becomes
     .. w_packed[t, k, j, l] ..                                                       const w_packed: f32[2,9,2,16] */
#include "nest.h"
#include <stddef.h>

enum { MAX_DEPTH = 24, MAX_LEVELS = 64 };

/* A block of the body, of a loop, branch or nest. around: the statement it belongs to; NULL: the body. Inside a nest: of the
   nest, and of loops in order around those that are free. */
typedef struct Level { Block out; Stmt *around; } Level;

typedef struct Pack {
    Program *p;
    Ctx *c;
    const Machine *m;
    Stmt *nest;
    Stmt *loops[MAX_DEPTH]; /* of the nest, around the statement being looked at */
    int depth, ifs, outer;  /* outer: loops that are levels */
    Level level[MAX_LEVELS];
    int levels, first;      /* first: the nest's own level */
    Map *made;              /* Shape -> packed Buf, of constants */
    Map *copied;            /* Shape -> packed Buf, of the nest */
} Pack;

/* An address as loops, outermost first, and what is left of it. */
typedef struct Shape {
    const Buf *buf;
    Expr *base;
    int64_t n;
    Expr *trip[MAX_DEPTH], *width[MAX_DEPTH], *step[MAX_DEPTH];
    const Stmt *loop[MAX_DEPTH]; /* from here on not part of the key */
} Shape;
enum { SHAPE_KEY = offsetof(Shape, loop) };

/* A trip that depends on a loop around (the last block of many is shorter): the longest. */
static Expr *room_for(Pack *t, Expr *trip) {
    for (int i = 0; i < t->depth; i++)
        if (expr_uses(trip, t->loops[i]->var) && expr_max(t->c, trip) < INT64_MAX) return expr_int(t->c, expr_max(t->c, trip));
    return trip;
}

/* The loops from number `from` on that move the address of a load; trips as the loops have them, width: room for them. index: their variables. */
static bool shape_of(Pack *t, Expr *load, int from, Shape *s, Expr **index) {
    Ctx *c = t->c;
    memset(s, 0, sizeof *s); /* it is a key */
    s->buf = load->buf;
    s->base = buf_address(c, load->buf, load->arg);
    for (int i = from; i < t->depth; i++) {
        Stmt *l = t->loops[i];
        Expr *rest, *step;
        if (!expr_uses(s->base, l->var)) continue;
        if (!expr_affine(c, s->base, l->var, &rest, &step)) return false;
        for (int k = 0; k < t->depth; k++)
            if (expr_uses(step, t->loops[k]->var)) return false;
        s->trip[s->n] = l->e;
        s->width[s->n] = l->mode == L_VECTOR ? expr_int(c, l->width) : room_for(t, l->e);
        s->step[s->n] = step;
        s->loop[s->n] = l;
        index[s->n++] = expr_var(c, l->var);
        s->base = rest;
    }
    return true;
}

static int64_t product(Ctx *c, const Shape *s) {
    int64_t n, total = 1;
    for (int64_t i = 0; i < s->n; i++) {
        if (!is_int(s->width[i], &n)) return -1;
        total = gd_mul(c, total, n);
    }
    return total;
}

/* ---- constants ---- */

/* dims outermost first; element (i..) = source[base + sum i * step], or 0 beyond the trip of a vector loop. */
static void fill(const Shape *s, int bytes, int64_t d, int64_t at, char **to, int64_t source) {
    const char *from = s->buf->data;
    if (d == s->n) {
        if (at >= 0 && at < source) memcpy(*to, from + at * bytes, (size_t)bytes);
        *to += bytes;
        return;
    }
    int64_t trip = (int64_t)s->trip[d]->bits, width = (int64_t)s->width[d]->bits, step = (int64_t)s->step[d]->bits;
    for (int64_t i = 0; i < width; i++) {
        if (i < trip) { fill(s, bytes, d + 1, at + i * step, to, source); continue; }
        int64_t skip = bytes;
        for (int64_t k = d + 1; k < s->n; k++) skip *= (int64_t)s->width[k]->bits;
        *to += skip;
    }
}

static Buf *packed_const(Pack *t, const Shape *s, int64_t source) {
    Buf *b = map_get(t->made, s, SHAPE_KEY);
    if (b) return b;
    int64_t count = product(t->c, s), base = (int64_t)s->base->bits;
    int bytes = gd_dtypes[s->buf->dt].bytes;
    b = buf_new(t->p, SP_CONST, s->buf->dt, (int)s->n, s->width, gd_format(t->c, "%s_packed", s->buf->name));
    char *data = gd_alloc_aligned(t->c, (size_t)gd_mul(t->c, count, bytes)), *to = data;
    fill(s, bytes, 0, base, &to, source);
    b->data = data;
    b->label = s->buf->label;
    map_put(t->made, s, SHAPE_KEY, b);
    return b;
}

static Expr *pack_const(Pack *t, Expr *e) {
    Ctx *c = t->c;
    Shape s;
    Expr *index[MAX_DEPTH];
    int64_t total, source, n;
    if (!is_int(buf_size(c, e->buf), &source) || !shape_of(t, e, 0, &s, index) || !is_const(s.base)) return e;
    for (int64_t i = 0; i < s.n; i++) {
        /* a vector loop that may reach to the end of the constant does */
        if (!is_int(s.trip[i], &n) && is_int(s.width[i], &n) && expr_max(c, s.trip[i]) == n) s.trip[i] = s.width[i];
        if (!is_const(s.trip[i]) || !is_const(s.step[i])) return e;
    }
    total = product(c, &s);
    return total < 0 || total > 2 * source + 4096 ? e : expr_load(c, packed_const(t, &s, source), 1, index, NULL);
}

/* ---- copies at run time ---- */

/* A number for sizes to be compared by. */
static Expr *likely(void *c, Expr *e) {
    enum { USUAL = 64 };
    if (e->kind != E_VAR) return e;
    return expr_int(c, e->var->hi < USUAL ? e->var->hi : e->var->lo > USUAL ? e->var->lo : USUAL);
}

static int64_t guess(Ctx *c, Expr *e) {
    int64_t n = 0, lo, hi;
    if (is_int(expr_rewrite(c, e, likely, c), &n)) return n;
    expr_range(c, e, &lo, &hi);
    return lo > 1 ? lo : 1;
}

static int64_t more(Pack *t, int64_t times, const Stmt *loop) {
    int64_t n = loop->kind == S_FOR ? guess(t->c, loop->e) : 1;
    return n > 0 && times < INT32_MAX ? times * n : times;
}

/* Known before the nest: no loop variable, nothing from memory, no size that only the data decides. */
static Search unknown(void *arg, Expr *e) {
    (void)arg;
    if (e->kind == E_LOAD) return SEARCH_FOUND;
    return e->kind == E_VAR && (e->var->kind != V_SYM || e->var->data) ? SEARCH_FOUND : SEARCH_ON;
}

/* Is it worth a copy? Lanes apart are read one by one, so a copy pays once they are read again; rows far apart cost cache and
   address translation. */
static bool pays(Pack *t, const Shape *s, int64_t times) {
    enum { READ_LANES = 4, READ_ROWS = 48, FAR = 128 };
    int64_t size = gd_dtypes[s->buf->dt].bytes, n;
    bool far = false;
    if (!is_value(s->step[s->n - 1], 1)) return times >= READ_LANES;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t trip = guess(t->c, s->width[i]);
        size = trip > 0 && size < INT32_MAX ? size * trip : size;
        far |= !is_int(s->step[i], &n) || n >= FAR;
    }
    return far && size > t->m->l1 / 2 && times >= READ_ROWS;
}

static bool changed_by(Stmt *s, const Shape *shape, const Expr *e) { return stmt_changes(s, buf_root((Buf *)shape->buf), e); }

/* The outermost level at which the source has its values. */
static int level_for(Pack *t, const Shape *s) {
    int at = t->levels - 1;
    while (at > 0 && t->level[at].around->kind != S_IF &&
           !changed_by(t->level[at].around, s, s->base))
        at--;
    return at;
}

/* How often an element of the copy is read, about: the trips of loops around it that do not move the address. */
static int64_t reuse(Pack *t, const Shape *s, const Expr *at) {
    int64_t times = 1;
    for (int i = t->outer; i < t->depth; i++)
        if (!expr_uses(at, t->loops[i]->var)) times = more(t, times, t->loops[i]);
    for (int i = level_for(t, s) + 1; i < t->levels; i++) times = more(t, times, t->level[i].around);
    return times;
}

/* ---- blocks turned round in registers ---- */

/* The loop along which the source is contiguous, when whole vectors of it can be read there: lanes of the copy lie apart in the
   source, and both lanes and this loop fill vectors. -1: none. */
static int turned_loop(Pack *t, const Shape *s) {
    int last = (int)s->n - 1;
    int64_t lanes = (int64_t)s->width[last]->bits, trip;
    if (gd_dtypes[s->buf->dt].bytes != 4 || s->buf->dt == BOOL || lanes > t->m->lanes || !is_value(s->trip[last], lanes)) return -1;
    for (int d = 0; d < last; d++)
        if (is_value(s->step[d], 1) && is_int(s->trip[d], &trip) && trip >= lanes && is_value(s->width[d], trip)) return d;
    return -1;
}

/* rows[i] becomes lane i of what were its lanes: each round takes halves in turn, and log2 n rounds come round. */
static void turn(Pack *t, Block *in, Expr **rows, int n) {
    Expr *next[MAX_LEVELS];
    for (int round = 1; round < n; round *= 2) {
        for (int i = 0; i < n; i++) {
            Expr *zip = expr_zip(t->c, i % 2, rows[i / 2], rows[i / 2 + n / 2]);
            next[i] = expr_var(t->c, stmt_let(t->p, in, "z", zip)->var);
        }
        memcpy(rows, next, (size_t)n * sizeof *next);
    }
}

/* to[.., k.., l] = source for a block of as many k as there are lanes, k from its first on. */
static void copy_turned(Pack *t, Expr *load, const Shape *s, Buf *to, Map *vars, Expr **index, int along, Expr *first, Block *in) {
    Ctx *c = t->c;
    int last = (int)s->n - 1, lanes = (int)s->width[last]->bits;
    Expr *rows[MAX_LEVELS], *at[MAX_RANK];
    map_putp(vars, s->loop[along]->var, first);
    for (int l = 0; l < lanes; l++) {
        map_putp(vars, s->loop[last]->var, expr_int(c, l));
        for (int i = 0; i < load->buf->rank; i++) at[i] = expr_subst(c, load->arg[i], vars);
        rows[l] = expr_var(c, stmt_let(t->p, in, "r", expr_load(c, load->buf, lanes, at, NULL))->var);
    }
    turn(t, in, rows, lanes);
    index[last] = expr_int(c, 0);
    for (int l = 0; l < lanes; l++) {
        index[along] = expr_add(c, first, expr_int(c, l));
        stmt_store(t->p, in, to, index, rows[l], NULL);
    }
}

/* to[i.., l] = source; lanes beyond the trip become 0. */
static void copy_vector(Pack *t, Expr *load, const Shape *s, Buf *to, Map *vars, Expr **index, Block *in) {
    Ctx *c = t->c;
    int last = (int)s->n - 1, lanes = (int)s->width[last]->bits;
    const Var *lane = s->loop[last]->var;
    Expr *trip = expr_subst(c, s->trip[last], vars), *at[MAX_RANK], *l = expr_int(c, 0);
    bool whole = is_value(trip, lanes), vector = is_value(s->step[last], 1);
    if (!vector) {
        Stmt *loop = stmt_for(t->p, in, lane->name, expr_int(c, lanes), true);
        loop->mode = L_UNROLL;
        in = &loop->body;
        l = expr_var(c, loop->var);
    }
    map_putp(vars, lane, l);
    index[last] = l;
    for (int i = 0; i < load->buf->rank; i++) at[i] = expr_subst(c, load->arg[i], vars);
    Expr *mask = whole ? NULL : vector ? trip : expr2(c, E_LT, l, trip);
    stmt_store(t->p, in, to, index, expr_load(c, load->buf, vector ? lanes : 1, at, mask), NULL);
}

/* Does the trip of loop d only depend on loops that are copied too? */
static bool trip_copied(Pack *t, const Shape *s, int64_t d) {
    for (int i = t->outer; i < t->depth; i++) {
        bool mine = false;
        for (int64_t k = 0; k < d; k++) mine |= s->loop[k] == t->loops[i];
        if (!mine && expr_uses(s->trip[d], t->loops[i]->var)) return false;
    }
    return true;
}

static Buf *copied(Pack *t, Expr *load, const Shape *s) {
    Ctx *c = t->c;
    Buf *b = map_get(t->copied, s, SHAPE_KEY);
    if (b) return b;
    b = buf_new(t->p, SP_ARENA, s->buf->dt, (int)s->n, s->width, gd_format(c, "%s_packed", s->buf->name));
    b->label = s->buf->label;
    int level = level_for(t, s);
    Block *in = &t->level[level].out;
    if (level < t->first) {
        Stmt *nest = stmt_nest(t->p, in, "pack");
        nest->nest->source = t->nest->nest->source;
        nest->nest->note = gd_format(c, "for %s", t->nest->nest->name);
        in = &nest->body;
    }
    Map *vars = map_new(c);
    Expr *index[MAX_DEPTH];
    int along = turned_loop(t, s), lanes = (int)s->width[s->n - 1]->bits;
    for (int i = t->outer, d = 0; i < t->depth; i++) {
        const Stmt *l = t->loops[i];
        map_putp(vars, l->var, expr_int(c, 0));
        if (d == s->n - 1 || s->loop[d] != l) continue;
        if (d++ == along) continue; /* comes innermost */
        Stmt *loop = stmt_for(t->p, in, l->var->name, expr_subst(c, s->trip[d - 1], vars), true);
        in = &loop->body;
        map_putp(vars, l->var, index[d - 1] = expr_var(c, loop->var));
    }
    if (along >= 0) {
        const Var *k = s->loop[along]->var;
        int64_t trip = (int64_t)s->trip[along]->bits, whole = trip - trip % lanes;
        Stmt *blocks = stmt_for(t->p, in, k->name, expr_int(c, trip / lanes), true);
        Expr *first = expr_mul(c, expr_var(c, blocks->var), expr_int(c, lanes));
        copy_turned(t, load, s, b, vars, index, along, first, &blocks->body);
        Stmt *rest = stmt_for(t->p, in, k->name, expr_int(c, trip - whole), true);
        map_putp(vars, k, index[along] = expr_add(c, expr_int(c, whole), expr_var(c, rest->var)));
        in = &rest->body;
    }
    copy_vector(t, load, s, b, vars, index, in);
    map_put(t->copied, s, SHAPE_KEY, b);
    return b;
}

static Expr *pack_copy(Pack *t, Expr *e) {
    Ctx *c = t->c;
    Shape s;
    Expr *index[MAX_DEPTH];
    Space space = buf_root(e->buf)->space;
    if (t->ifs || (space != SP_IN && space != SP_OUT && space != SP_ARENA) || !shape_of(t, e, t->outer, &s, index) || !s.n) return e;
    Expr *at = buf_address(c, e->buf, e->arg), *size = expr_int(c, 1);
    if (s.n > MAX_RANK || !is_const(s.step[s.n - 1]) || changed_by(t->nest, &s, size) || !pays(t, &s, reuse(t, &s, at))) return e;
    for (int64_t i = 0; i < s.n; i++) {
        if (expr_search(c, s.width[i], unknown, NULL) || !trip_copied(t, &s, i)) return e;
        size = expr_mul(c, size, s.width[i]);
    }
    if (guess(c, size) > 2 * guess(c, buf_size(c, e->buf)) + 4096) return e;
    return expr_load(c, copied(t, e, &s), 1, index, NULL);
}

/* ---- all of it ---- */

static Expr *pack_load(void *arg, Expr *e) {
    Pack *t = arg;
    const Stmt *vector = t->loops[t->depth - 1];
    if (e->kind != E_LOAD || e->nargs > e->buf->rank) return e;
    if (!expr_uses(buf_address(t->c, e->buf, e->arg), vector->var)) return e;
    if (e->buf->space != SP_CONST) return pack_copy(t, e);
    return buf_root(e->buf)->data && !e->buf->base ? pack_const(t, e) : e;
}

static void pack_block(Pack *t, Block *b) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (t->depth && t->loops[t->depth - 1]->mode == L_VECTOR && s->e) s->e = expr_rewrite(t->c, s->e, pack_load, t);
        bool loop = s->kind == S_FOR && t->depth < MAX_DEPTH;
        if (loop) t->loops[t->depth++] = s;
        t->ifs += !loop;
        pack_block(t, &s->body);
        pack_block(t, &s->other);
        t->ifs -= !loop;
        t->depth -= loop;
    }
}

/* A loop in order around free ones that are no register tile: blocks of a long reduction. */
static bool around_free(const Stmt *s) {
    bool some = false;
    if (s->kind != S_FOR || s->free || s->mode != L_SERIAL) return false;
    for (int i = 0; i < s->body.n; i++) {
        const Stmt *in = s->body.v[i];
        some |= in->kind == S_FOR && ((in->free && in->mode == L_SERIAL) || around_free(in));
    }
    return some;
}

/* The statements of a block at a level. What is copied before one of them goes to the same block, or further out. */
static void pack_level(Pack *t, Stmt *around, Block *b) {
    if (t->levels == MAX_LEVELS) return;
    Level *level = &t->level[t->levels++];
    *level = (Level){.around = around};
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        if (s->kind == S_NEST) {
            t->nest = s;
            t->copied = map_new(t->c);
            t->first = t->levels;
            pack_level(t, s, &s->body);
            t->nest = NULL;
        } else if (!t->nest) {
            pack_level(t, s, &s->body);
            pack_level(t, s, &s->other);
        } else if (around_free(s) && t->depth < MAX_DEPTH) {
            t->loops[t->depth++] = s;
            t->outer++;
            pack_level(t, s, &s->body);
            t->outer--;
            t->depth--;
        } else {
            Block one = {&s, 1, 1};
            pack_block(t, &one);
        }
        vec_push(t->c, &level->out, s);
    }
    *b = level->out;
    t->levels--;
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
    Pack t = {.p = p, .c = p->c, .m = &o->machine, .made = map_new(p->c)};
    pack_level(&t, NULL, &p->body);
    Used u = {map_new(p->c), expr_mark(p->c)};
    block_walk(&p->body, use_stmt, &u);
    int n = 0;
    if (o->release) release_unread(p, u.map);
    for (int i = 0; i < p->consts.n; i++)
        if (map_getp(u.map, p->consts.v[i])) p->consts.v[n++] = p->consts.v[i];
    p->consts.n = n;
}
