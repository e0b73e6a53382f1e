/* plan: every temporary gets its place in one arena.

   Needs: the final order of statements (nothing moves after it).
   Promises: offset is set for every ARENA buffer; two buffers that are alive at the same time never overlap;
   every place is a multiple of 64 bytes; arena is exactly the end of the last one. HEAP buffers are freed
   after their last use. Buffers that nothing uses are gone from the list.

   Time is counted in statements of the body: a nest is one moment. A buffer lives from the first to the last
   moment that touches it or a view of it; one that carries something round a loop (touched outside of the
   loop too, or read first) lives for all of the loop. What is used within one iteration only is written there
   before it is read: lowering makes it so.

   Sizes are a number times a unit: 1, or an expression in the inputs' symbols, such as N. Buffers with one
   unit are packed in numbers, the largest first into the tightest gap, in a few orders of which the best is
   kept. Packs with different units that are never alive together share a slot as large as the larger of them.
   Symbols that only the data decides are taken at their bound. A nest that is the last to read one buffer and
   the first to write another of the same size may write it in place (inplace.c): the two are one from then
   on. One round over buffers, pairs of those that meet at worst: it ends.

     t0: f32[1024]  live 0..1           arena 8192 bytes
     t1: f32[1024]  live 1..2      ->     t0 @0, t1 @4096, t2 @0
     t2: f32[1024]  live 2..3 */
#include "passes.h"
#include "arena.h"
#include <stdlib.h>

typedef struct Touch {
    int at;
    bool read;
} Touch; /* one for each moment: the first thing done then */
typedef struct Life {
    Buf *buf;
    int first, last;
    int end;           /* last, or that of what took over its place */
    bool freed, given; /* given: another took over its place */
    struct Life *host; /* whose place it took over; NULL: has its own */
    struct Life *next; /* dies at the same moment */
    VEC(Touch) touch;
} Life;
typedef struct Span {
    int first, last;
} Span;

typedef struct Plan {
    Program *p;
    Ctx *c;
    Life *life;   /* by Buf.id of roots */
    Life **dying; /* by moment, in order of ids: those whose last it is */
    int now;
    uint32_t mark;
    VEC(Span) loops;   /* inner ones first */
    VEC(Stmt *) nests; /* by moment; NULL: no nest */
} Plan;

/* ---- when is what alive ---- */

static void touch(Plan *k, Buf *b, bool read) {
    Life *l = &k->life[buf_root(b)->id];
    if (l->touch.n && l->touch.v[l->touch.n - 1].at == k->now) return;
    if (!l->touch.n) l->first = k->now;
    l->buf = buf_root(b);
    l->last = k->now;
    vec_push(k->c, &l->touch, ((Touch){k->now, read}));
}

static void see(void *arg, Expr *e) {
    if (e->kind == E_LOAD) touch(arg, e->buf, true);
}
static Expr *see_expr(void *arg, Expr *e) {
    Plan *k = arg;
    expr_walk(e, k->mark, see, k);
    return e;
}
static bool see_stmt(void *arg, Stmt *s) {
    Plan *k = arg;
    stmt_exprs(s, see_expr, k);
    if (s->from) touch(k, s->from, true);
    if (s->buf) touch(k, s->buf, false);
    return true;
}

static void see_block(Plan *k, Block *b) {
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        int first = k->now;
        k->mark = expr_mark(k->c);
        if (s->kind == S_FOR || s->kind == S_WHILE || s->kind == S_IF) {
            stmt_exprs(s, see_expr, k);
            k->now++;
            see_block(k, &s->body);
            see_block(k, &s->other);
            if (s->kind == S_WHILE) { /* asked again after the body */
                k->mark = expr_mark(k->c);
                stmt_exprs(s, see_expr, k);
            }
            if (s->kind != S_IF) vec_push(k->c, &k->loops, ((Span){first, k->now}));
        } else {
            Block one = {&s, 1, 1};
            block_walk(&one, see_stmt, k);
        }
        while (k->nests.n < k->now) vec_push(k->c, &k->nests, NULL);
        vec_push(k->c, &k->nests, s->kind == S_NEST ? s : NULL);
        k->now++;
    }
}

/* Does l carry anything into the loop, round it, or out of it? */
static bool carried(const Life *l, Span loop) {
    int i = 0;
    while (i < l->touch.n && l->touch.v[i].at < loop.first) i++;
    if (i == l->touch.n || l->touch.v[i].at > loop.last) return false;
    return l->touch.v[i].read || l->first < loop.first || l->last > loop.last;
}

static void stretch(Plan *k) {
    for (int i = 0; i < k->loops.n; i++)
        for (int j = 0; j < k->p->nbufs; j++) {
            Life *l = &k->life[j];
            if (!l->touch.n || l->buf->space != SP_ARENA || !carried(l, k->loops.v[i])) continue;
            if (k->loops.v[i].first < l->first) l->first = k->loops.v[i].first;
            if (k->loops.v[i].last > l->last) l->last = k->loops.v[i].last;
        }
}

static void list_dying(Plan *k) {
    k->dying = gd_new_array(k->c, Life *, k->now + 1);
    for (int i = k->p->nbufs - 1; i >= 0; i--) {
        Life *l = &k->life[i];
        if (!l->touch.n) continue;
        l->next = k->dying[l->last];
        k->dying[l->last] = l;
    }
}

/* ---- sizes ---- */

/* At least e (up) or at most e, without symbols that only the data decides. */
static Expr *bound(Plan *k, Expr *e, bool up) {
    Ctx *c = k->c;
    int64_t lo, hi, n;
    if (!expr_on_data(c, e)) return e;
    if (e->kind == E_VAR && !up) return expr_int(c, e->var->lo > 0 ? e->var->lo : 0);
    if (e->kind == E_VAR && e->var->def) return bound(k, e->var->def, true);
    if (e->kind == E_MUL && is_int(e->arg[1], &n))
        return expr_mul(c, bound(k, e->arg[0], up == (n >= 0)), e->arg[1]);
    if (e->kind == E_ADD || e->kind == E_MUL || e->kind == E_MIN || e->kind == E_MAX)
        return expr2(c, (ExprKind)e->kind, bound(k, e->arg[0], up), bound(k, e->arg[1], up));
    if (e->kind == E_SUB) return expr_sub(c, bound(k, e->arg[0], up), bound(k, e->arg[1], !up));
    if (e->kind == E_FDIV && is_int(e->arg[1], &n) && n > 0)
        return expr_fdiv(c, bound(k, e->arg[0], up), e->arg[1]);
    if (e->kind == E_SELECT)
        return expr2(c, up ? E_MAX : E_MIN, bound(k, e->arg[1], up), bound(k, e->arg[2], up));
    expr_range(c, e, &lo, &hi);
    if (up ? hi == INT64_MAX : lo == INT64_MIN) gd_bug(c, "no bound of %s is known", expr_text(c, e));
    return expr_int(c, up ? hi : lo);
}

static int64_t gcd(int64_t a, int64_t b) {
    if (a < 0) a = -a;
    if (b < 0) b = -b;
    while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* The largest number that divides every term of a sum. */
static int64_t content(const Expr *e, int64_t so_far) {
    int64_t n;
    for (; e->kind == E_ADD; e = e->arg[0]) so_far = content(e->arg[1], so_far);
    if (is_int(e, &n)) return gcd(so_far, n);
    return gcd(so_far, e->kind == E_MUL && is_int(e->arg[1], &n) ? n : 1);
}

/* bytes of b <= unit * number, number a multiple of 64; *unit NULL: 1. A small factor is not worth rounding
 * up. */
static int64_t size_of(Plan *k, const Buf *b, Expr **unit) {
    enum { WORTH_ROUNDING = 512 };
    Ctx *c = k->c;
    Expr *bytes = bound(k, expr_mul(c, buf_size(c, b), expr_int(c, gd_dtypes[b->dt].bytes)), true);
    int64_t n;
    *unit = NULL;
    if (is_int(bytes, &n)) return gd_add(c, n, PLACE - 1) & -PLACE;
    n = content(bytes, 0);
    if (n % PLACE && n < WORTH_ROUNDING) {
        *unit = expr_fdiv(c, expr_add(c, bytes, expr_int(c, PLACE - 1)), expr_int(c, PLACE));
        return PLACE;
    }
    *unit = expr_fdiv(c, bytes, expr_int(c, n));
    return gd_add(c, n, PLACE - 1) & -PLACE;
}

/* ---- in place ---- */

static bool temporary(const Life *l) { return l->touch.n && l->buf->space == SP_ARENA; }

/* What dies in the nest where another of its size is born gives it its place. */
static void join(Plan *k) {
    for (int i = 0; i < k->p->nbufs; i++) {
        Life *y = &k->life[i];
        Stmt *nest = temporary(y) && y->first < k->nests.n ? k->nests.v[y->first] : NULL;
        for (Life *x = nest ? k->dying[y->first] : NULL; x && !y->host; x = x->next) {
            Expr *ux, *uy;
            if (x == y || !temporary(x) || x->given || x->first == x->last) continue;
            if (size_of(k, x->buf, &ux) != size_of(k, y->buf, &uy) || ux != uy ||
                !may_replace(k->c, nest, x->buf, y->buf))
                continue;
            y->host = x;
            x->given = true;
        }
    }
}

static Life *host_of(Life *l) {
    while (l->host) l = l->host;
    return l;
}

/* ---- packs: buffers with one unit ---- */

typedef struct Pack {
    Expr *unit;
    VEC(Life *) life;
    VEC(Piece) piece;
} Pack;
/* Part of a pack that no other part is alive with: what a slot takes. */
typedef struct Part {
    Pack *pack;
    int from, n, first, last;
    int64_t size, likely;
    Expr *bytes;
    struct Slot *slot;
} Part;
typedef struct Slot {
    VEC(Part *) parts;
    int64_t likely;
    Expr *bytes, *at;
} Slot;

static Pack *pack_of(Plan *k, Map *packs, Expr *unit) {
    Pack *p = map_getp(packs, unit);
    if (p) return p;
    p = gd_new(k->c, Pack);
    p->unit = unit;
    map_putp(packs, unit, p);
    return p;
}

static Expr *times(Ctx *c, Expr *unit, int64_t n) {
    return unit ? expr_mul(c, unit, expr_int(c, n)) : expr_int(c, n);
}

/* A size with symbols that a user is likely to give, to compare packs by. */
static Expr *likely(void *c, Expr *e) {
    enum { USUAL = 64 };
    if (e->kind != E_VAR) return e;
    return expr_int(c, e->var->hi < USUAL ? e->var->hi : e->var->lo > USUAL ? e->var->lo : USUAL);
}

static int by_first(const void *a, const void *b) {
    const Life *x = *(Life *const *)a, *y = *(Life *const *)b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->buf->id < y->buf->id ? -1 : 1;
}

typedef VEC(Part *) Parts;

static void add_part(Plan *k, Parts *parts, Pack *pack, int from, int n, int last) {
    Part *t = gd_new(k->c, Part);
    int64_t size;
    *t = (Part){.pack = pack, .from = from, .n = n, .first = pack->piece.v[from].first, .last = last};
    t->size = arena_pack(k->c, n, pack->piece.v + from);
    t->bytes = times(k->c, pack->unit, t->size);
    t->likely = is_int(expr_rewrite(k->c, t->bytes, likely, k->c), &size) ? size : INT64_MAX;
    vec_push(k->c, parts, t);
}

/* Packs are cut where nothing of theirs is alive. One pack alone stays whole. */
static void cut(Plan *k, Parts *parts, Pack *p, bool whole) {
    int from = 0, last = 0;
    qsort(p->life.v, (size_t)p->life.n, sizeof *p->life.v, by_first);
    for (int i = 0; i < p->life.n; i++) {
        const Life *l = p->life.v[i];
        Expr *unit;
        if (i > from && l->first > last && !whole) {
            add_part(k, parts, p, from, i - from, last);
            from = i;
            last = 0;
        }
        vec_push(k->c, &p->piece,
                 ((Piece){.first = l->first, .last = l->end, .size = size_of(k, l->buf, &unit)}));
        if (l->end > last) last = l->end;
    }
    add_part(k, parts, p, from, p->life.n - from, last);
}

/* ---- slots: parts that are never alive together ---- */

static int by_likely(const void *a, const void *b) {
    const Part *x = *(Part *const *)a, *y = *(Part *const *)b;
    if (x->likely != y->likely) return x->likely > y->likely ? -1 : 1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->pack->life.v[x->from]->buf->id < y->pack->life.v[y->from]->buf->id ? -1 : 1;
}

static bool fits(const Slot *s, const Part *t) {
    for (int i = 0; i < s->parts.n; i++)
        if (t->first <= s->parts.v[i]->last && s->parts.v[i]->first <= t->last) return false;
    return true;
}

static Expr *fill_slots(Plan *k, Parts *parts) {
    VEC(Slot *) slots = {0};
    if (parts->n) qsort(parts->v, (size_t)parts->n, sizeof *parts->v, by_likely);
    for (int i = 0; i < parts->n; i++) {
        Part *t = parts->v[i];
        Slot *best = NULL; /* the tightest: parts come largest first */
        for (int j = 0; j < slots.n; j++)
            if (fits(slots.v[j], t) && (!best || slots.v[j]->likely <= best->likely)) best = slots.v[j];
        if (!best) {
            best = gd_new(k->c, Slot);
            best->likely = t->likely;
            vec_push(k->c, &slots, best);
        }
        best->bytes = best->bytes ? expr2(k->c, E_MAX, best->bytes, t->bytes) : t->bytes;
        t->slot = best;
        vec_push(k->c, &best->parts, t);
    }
    Expr *end = expr_int(k->c, 0);
    for (int j = 0; j < slots.n; j++) {
        slots.v[j]->at = end;
        end = expr_add(k->c, end, slots.v[j]->bytes);
    }
    return end;
}

/* ---- all of it ---- */

static void place_arena(Plan *k) {
    Program *p = k->p;
    Map *packs = map_new(k->c);
    VEC(Pack *) all = {0};
    Parts parts = {0};
    for (int i = 0; i < p->nbufs; i++) k->life[i].end = k->life[i].last;
    for (int i = 0; i < p->nbufs; i++) {
        Life *l = &k->life[i], *h = host_of(l);
        if (l->last > h->end) h->end = l->last;
    }
    for (int i = 0; i < p->nbufs; i++) {
        Life *l = &k->life[i];
        Expr *unit;
        if (!temporary(l) || l->host) continue;
        size_of(k, l->buf, &unit);
        Pack *to = pack_of(k, packs, unit);
        if (!to->life.n) vec_push(k->c, &all, to);
        vec_push(k->c, &to->life, l);
    }
    for (int i = 0; i < all.n; i++) cut(k, &parts, all.v[i], all.n == 1);
    p->arena = fill_slots(k, &parts);
    for (int i = 0; i < parts.n; i++) {
        const Part *t = parts.v[i];
        for (int j = t->from; j < t->from + t->n; j++)
            t->pack->life.v[j]->buf->offset =
                expr_add(k->c, t->slot->at, times(k->c, t->pack->unit, t->pack->piece.v[j].at));
    }
    for (int i = 0; i < p->nbufs; i++)
        if (k->life[i].host) k->life[i].buf->offset = host_of(&k->life[i])->buf->offset;
}

/* ---- HEAP: freed after the last use ---- */

static bool releases(const Stmt *s, const Buf *b) {
    return (s->kind == S_FREE && s->buf == b) || (s->kind == S_MOVE && s->from == b);
}

/* In the innermost block that has all uses of a buffer, behind the statement with the last one. Time runs as
 * in see_block. */
static void put_frees(Plan *k, Block *b) {
    Block out = {0};
    int start = k->now;
    for (int i = 0; i < b->n; i++) {
        Stmt *s = b->v[i];
        int first = k->now;
        if (s->kind == S_FOR || s->kind == S_WHILE || s->kind == S_IF) {
            k->now++;
            put_frees(k, &s->body);
            put_frees(k, &s->other);
        }
        vec_push(k->c, &out, s);
        for (int at = first; at <= k->now; at++)
            for (Life *l = k->dying[at]; l; l = l->next) {
                if (l->freed || l->buf->space != SP_HEAP || l->first < start) continue;
                l->freed = true;
                if (!releases(s, l->buf)) stmt_new(k->p, &out, S_FREE)->buf = l->buf;
            }
        k->now++;
    }
    *b = out;
}

static bool has_alloc(void *arg, Stmt *s) {
    if (s->kind == S_ALLOC) *(bool *)arg = true;
    return s->kind != S_NEST;
}

/* Only what is used stays. */
static void list_used(Plan *k) {
    Program *p = k->p;
    int n = 0;
    for (int i = 0; i < p->bufs.n; i++) {
        Buf *b = p->bufs.v[i];
        if (k->life[b->id].touch.n) p->bufs.v[n++] = b;
    }
    p->bufs.n = n;
}

void pass_plan(Program *p, const PassOptions *o) {
    (void)o;
    Plan k = {.p = p, .c = p->c, .life = gd_new_array(p->c, Life, p->nbufs)};
    see_block(&k, &p->body);
    stretch(&k);
    list_dying(&k);
    join(&k);
    place_arena(&k);
    p->grows = false;
    block_walk(&p->body, has_alloc, &p->grows);
    k.now = 0;
    if (p->grows) put_frees(&k, &p->body);
    list_used(&k);
}
