/* Control flow: if and loop, with regions, and what ONNX builds of them (If, Loop, Scan).

   loop carries values through its region: the region's arguments are what is carried, its outputs are [the condition to
   go on,] the next carried values, then elements of scan outputs, which are collected along a new first axis. The number
   of the iteration is a symbol. A carried value whose dims change from one iteration to the next has symbols for them:
   `inner` inside the region, `syms` behind the loop. */
#include "build.h"
#include "lower.h"
#include "loops.h"

/* ---- loop: shape ---- */

typedef struct Parts { int carried, scans; bool cond; Graph *body; Expr *trip; const Attr *inner, *syms; Var *iter; } Parts;

static Parts parts(const Node *n) {
    Parts p = {.carried = n->nin - 1, .scans = (int)attr_int(n, "scans"), .cond = attr_int(n, "while") != 0, .body = n->region[0]};
    const Attr *trip = node_attr(n, "trip");
    p.trip = trip->kind == AT_DIM ? trip->dim : NULL;
    p.inner = node_attr(n, "inner");
    p.syms = node_attr(n, "syms");
    p.iter = node_attr(n, "iter")->syms[0];
    return p;
}

/* What is known of a dim behind the loop: the symbols of the last iteration have names of their own there. */
static Expr *behind(Ctx *c, const Parts *p, Expr *e) {
    Map *m = map_new(c);
    for (int i = 0; i < p->inner->n; i++) map_putp(m, p->inner->syms[i], expr_var(c, p->syms->syms[i + p->cond]));
    return expr_subst(c, e, m);
}

static Expr *loop_count(Ctx *c, const Parts *p) { return p->cond ? expr_var(c, p->syms->syms[0]) : p->trip; }

/* Does a dim depend on a symbol of the region? Symbols made after the iteration's own are the region's. */
typedef struct Local { const Var *iter; const Attr *inner; } Local;
static Search is_local(void *arg, Expr *e) {
    const Local *l = arg;
    if (e->kind != E_VAR) return SEARCH_ON;
    bool local = e->var->kind == V_SYM && e->var->data && e->var->id >= l->iter->id;
    for (int i = 0; i < l->inner->n; i++) local |= e->var == l->inner->syms[i];
    return local ? SEARCH_FOUND : SEARCH_ON;
}
static bool local_to(Ctx *c, Expr *e, const Var *iter, const Attr *inner) {
    return expr_search(c, e, is_local, &(Local){iter, inner});
}
static bool local_dim(const Parts *p, Expr *e) { return local_to(p->body->c, e, p->iter, p->inner); }

static bool same_kind(const Value *a, const Value *b) { return a->dt == b->dt && a->rank == b->rank && a->sequence == b->sequence; }

static bool is_inner(const Attr *inner, const Expr *e) {
    for (int i = 0; i < inner->n; i++)
        if (e->kind == E_VAR && e->var == inner->syms[i]) return true;
    return false;
}

/* A carried value, before the loop or after an iteration, against the region's argument. Dims may be written differently:
   checks before the loop say that they are the same. */
static bool carries(Ctx *c, const Parts *p, const Value *arg, const Value *v) {
    bool fits = same_kind(arg, v);
    for (int k = 0; fits && k < arg->rank; k++) {
        Expr *same = expr2(c, E_EQ, arg->dim[k], v->dim[k]);
        fits = !is_const(same) || same->bits || is_inner(p->inner, arg->dim[k]);
    }
    return fits;
}

/* Whether inputs, outputs, symbols and the region belong together: a node read from a text may be anything. */
static bool loop_fits(Node *n) {
    Ctx *c = n->graph->c;
    const Attr *iter = node_attr(n, "iter");
    if (n->nregions != 1 || iter->n != 1 || n->nin < 1) { node_error(n, 205, NULL, "a loop has one region and counts in one symbol"); return false; }
    Parts p = parts(n);
    const Value *goes = p.cond && p.body->out.n ? p.body->out.v[0] : NULL;
    int symbols = p.cond + p.inner->n;
    bool fits = p.scans >= 0 && n->nout == p.carried + p.scans && p.body->in.n == p.carried &&
                p.body->out.n == p.cond + p.carried + p.scans && (p.trip || p.cond);
    fits = fits && (!p.trip || type_eq(p.trip->type, scalar(I64))) && (!p.cond || (goes->dt == BOOL && !goes->rank));
    fits = fits && (!n->in[0] || (n->in[0]->dt == BOOL && !n->in[0]->rank));
    for (int i = 0; fits && i < p.carried; i++)
        fits = n->in[1 + i] && carries(c, &p, p.body->in.v[i], n->in[1 + i]) && carries(c, &p, p.body->in.v[i], p.body->out.v[p.cond + i]);
    for (int i = 0; fits && i < p.scans; i++) {
        const Value *e = p.body->out.v[p.cond + p.carried + i];
        fits = e->rank >= 0 && e->rank < MAX_RANK && !e->sequence;
        for (int k = 0; fits && k < e->rank; k++) symbols += local_dim(&p, e->dim[k]);
    }
    fits = fits && p.syms->n == symbols;
    if (!fits) node_error(n, 301, NULL, "what the loop carries and collects does not fit its region");
    return fits;
}

static void loop_shape(Node *n) {
    Ctx *c = n->graph->c;
    if (!loop_fits(n)) return;
    Parts p = parts(n);
    Expr *dim[MAX_RANK];
    for (int i = 0; i < p.carried; i++) {
        const Value *arg = p.body->in.v[i];
        for (int k = 0; k < arg->rank; k++) dim[k] = behind(c, &p, arg->dim[k]);
        node_out(n, i, arg->dt, arg->rank, dim);
    }
    int at = p.cond + p.inner->n; /* the symbols of dims that only the region knows come last */
    for (int i = 0; i < p.scans; i++) {
        const Value *e = p.body->out.v[p.cond + p.carried + i];
        dim[0] = loop_count(c, &p);
        for (int k = 0; k < e->rank && k + 1 < MAX_RANK; k++)
            dim[k + 1] = local_dim(&p, e->dim[k]) ? expr_var(c, p.syms->syms[at++]) : e->dim[k];
        node_out(n, p.carried + i, e->dt, e->rank + 1, dim);
    }
}

/* ---- loop: lowering ---- */

/* A value whose dims are only known in the region lies on the heap, with its dims beside it. */
typedef struct Carried { Buf *now, *dims; bool varies; } Carried;

static bool uses_inner(const Parts *p, const Value *v) {
    for (int k = 0; k < v->rank; k++)
        for (int i = 0; i < p->inner->n; i++)
            if (expr_uses(v->dim[k], p->inner->syms[i])) return true;
    return false;
}

static void store_scalar(Lower *L, Buf *b, Expr *const *idx, Expr *e) {
    Stmt *s = lower_open_nest(L, "set");
    stmt_store(L->p, lower_block(L), b, idx, e, NULL);
    lower_close_nest(L, s);
}

static void let_symbol(Lower *L, Var *v, Expr *e) {
    Stmt *s = stmt_new(L->p, lower_block(L), S_LET);
    s->var = v;
    s->e = e;
}

static void move_buf(Lower *L, Buf *to, Buf *from) {
    Stmt *s = stmt_new(L->p, lower_block(L), S_MOVE);
    s->buf = to;
    s->from = from;
}

/* v in a heap buffer of its own dims, which then becomes `to`; dims are noted for whoever asks later. */
static void carry_moving(Lower *L, Value *v, const Carried *to) {
    Ctx *c = L->c;
    Buf *b = buf_new(L->p, SP_HEAP, v->dt, v->rank, v->dim, "next");
    stmt_new(L->p, lower_block(L), S_ALLOC)->buf = b;
    lower_copy(L, v, b);
    for (int k = 0; k < v->rank; k++) {
        Expr *at = expr_int(c, k);
        store_scalar(L, to->dims, &at, v->dim[k]);
    }
    move_buf(L, to->now, b);
}

static void loop_begin(Lower *L, Node *n, const Parts *p, Carried *cur) {
    Ctx *c = L->c;
    for (int i = 0; i < p->carried; i++) {
        Value *arg = p->body->in.v[i];
        Expr *rank = expr_int(c, arg->rank);
        cur[i].varies = uses_inner(p, arg);
        if (cur[i].varies) {
            cur[i].now = buf_new(L->p, SP_HEAP, arg->dt, arg->rank, arg->dim, "carried");
            cur[i].dims = buf_new(L->p, SP_ARENA, I64, 1, &rank, "dims");
            carry_moving(L, n->in[1 + i], &cur[i]);
        } else {
            cur[i].now = lower_buf(L, n->out[i]);
            lower_copy(L, n->in[1 + i], cur[i].now);
        }
        map_putp(L->bufs, arg, cur[i].now);
    }
}

/* At the top of an iteration: the symbols of dims that change. Symbols were given out axis by axis, in order. */
static void read_dims(Lower *L, const Parts *p, const Carried *cur, bool inside) {
    Ctx *c = L->c;
    int at = 0;
    for (int i = 0; i < p->carried; i++) {
        const Value *arg = p->body->in.v[i];
        for (int k = 0; k < arg->rank && cur[i].varies; k++) {
            if (at >= p->inner->n || arg->dim[k] != expr_var(c, p->inner->syms[at])) continue;
            Expr *index = expr_int(c, k);
            let_symbol(L, inside ? p->inner->syms[at] : p->syms->syms[at + p->cond], expr_load(c, cur[i].dims, 1, &index, NULL));
            at++;
        }
    }
}

/* What the iteration made becomes what the next one starts from. A result that is itself a carried argument (two values
   that change places) is saved before anything is overwritten. */
static void carry(Lower *L, const Parts *p, const Carried *cur) {
    Buf **saved = gd_new_array(L->c, Buf *, p->carried ? p->carried : 1);
    for (int i = 0; i < p->carried; i++) {
        Value *v = p->body->out.v[p->cond + i];
        bool argument = false;
        for (int k = 0; k < p->carried; k++) argument |= v == p->body->in.v[k] && k != i;
        if (!argument || cur[i].varies) continue;
        saved[i] = buf_new(L->p, SP_ARENA, v->dt, v->rank, v->dim, "saved");
        lower_copy(L, v, saved[i]);
    }
    for (int i = 0; i < p->carried; i++) {
        Value *v = p->body->out.v[p->cond + i];
        if (v == p->body->in.v[i]) continue;
        if (cur[i].varies) { carry_moving(L, v, &cur[i]); continue; }
        if (saved[i]) {
            Buf *arg = map_getp(L->bufs, v);
            map_putp(L->bufs, v, saved[i]);
            lower_copy(L, v, cur[i].now);
            map_putp(L->bufs, v, arg);
        } else lower_copy(L, v, cur[i].now);
    }
}

static void scan_begin(Lower *L, Node *n, const Parts *p, int i, Carried *scan) {
    Ctx *c = L->c;
    Value *v = n->out[p->carried + i];
    const Value *e = p->body->out.v[p->cond + p->carried + i];
    Expr *dim[MAX_RANK], *zero = expr_int(c, 0), *rank = expr_int(c, e->rank);
    for (int k = 0; k < v->rank; k++) {
        dim[k] = k ? e->dim[k - 1] : p->trip; /* room for all iterations there can be */
        scan->varies |= k && local_dim(p, dim[k]);
    }
    if (scan->varies) {
        Expr *none[MAX_RANK];
        for (int k = 0; k < v->rank; k++) none[k] = zero;
        scan->dims = buf_new(L->p, SP_ARENA, I64, 1, &rank, "dims");
        scan->now = buf_new(L->p, SP_HEAP, v->dt, v->rank, dim, "scan");
        Buf *empty = buf_new(L->p, SP_HEAP, v->dt, v->rank, none, "empty");
        stmt_new(L->p, lower_block(L), S_ALLOC)->buf = empty;
        move_buf(L, scan->now, empty);
        for (int k = 0; k < e->rank; k++) {
            Expr *at = expr_int(c, k);
            store_scalar(L, scan->dims, &at, zero);
        }
    } else if (p->cond) {
        scan->now = lower_temp(L, v->dt, v->rank, dim, "scan");
        map_putp(L->bufs, v, buf_view(L->p, scan->now, zero, v->rank, v->dim, NULL));
    } else scan->now = lower_buf(L, v);
}

/* The first iteration tells how large an element is: room for all of them is made then. */
static void scan_room(Lower *L, const Parts *p, Value *e, const Carried *scan) {
    Ctx *c = L->c;
    lower_open_if(L, expr2(c, E_EQ, expr_var(c, p->iter), expr_int(c, 0)));
    L->scope->floor = true;
    Buf *b = buf_new(L->p, SP_HEAP, e->dt, scan->now->rank, scan->now->dim, "room");
    stmt_new(L->p, lower_block(L), S_ALLOC)->buf = b;
    move_buf(L, scan->now, b);
    for (int k = 0; k < e->rank; k++) {
        Expr *at = expr_int(c, k);
        store_scalar(L, scan->dims, &at, e->dim[k]);
    }
    lower_close(L, 1);
}

static void loop_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Parts p = parts(n);
    Carried *cur = gd_new_array(c, Carried, p.carried ? p.carried : 1);
    Carried *scan = gd_new_array(c, Carried, p.scans ? p.scans : 1);
    Buf *go = NULL, *count = NULL;
    Expr *zero = expr_int(c, 0), *it = expr_var(c, p.iter);
    loop_begin(L, n, &p, cur);
    for (int i = 0; i < p.scans; i++) scan_begin(L, n, &p, i, &scan[i]);
    if (p.cond) {
        go = buf_new(L->p, SP_ARENA, BOOL, 0, NULL, "go");
        count = buf_new(L->p, SP_ARENA, I64, 0, NULL, "count");
        if (n->in[0]) lower_copy(L, n->in[0], go);
        else store_scalar(L, go, NULL, expr_bool(c, true));
        store_scalar(L, count, NULL, zero);
        Expr *on = expr_load(c, go, 1, NULL, NULL), *done = expr_load(c, count, 1, NULL, NULL);
        lower_open_while(L, p.trip ? expr_and(c, on, expr2(c, E_LT, done, p.trip)) : on);
        let_symbol(L, p.iter, done);
    } else {
        Expr *k = lower_open(L, "it", p.trip, false);
        L->scope->floor = true;
        let_symbol(L, p.iter, k);
    }
    read_dims(L, &p, cur, true);
    lower_nodes(L, p.body);
    for (int i = 0; i < p.scans; i++) {
        Value *e = p.body->out.v[p.cond + p.carried + i];
        Expr *size = value_count(c, e);
        if (scan[i].varies) scan_room(L, &p, e, &scan[i]);
        lower_copy(L, e, buf_view(L->p, scan[i].now, expr_mul(c, it, size), e->rank, e->dim, NULL));
    }
    if (p.cond) {
        lower_copy(L, p.body->out.v[0], go);
        store_scalar(L, count, NULL, expr_add(c, it, expr_int(c, 1)));
    }
    carry(L, &p, cur);
    lower_close(L, 1);
    if (p.cond) let_symbol(L, p.syms->syms[0], expr_load(c, count, 1, NULL, NULL));
    read_dims(L, &p, cur, false);
    for (int i = 0, at = p.cond + p.inner->n; i < p.scans; i++)
        for (int k = 1; k < n->out[p.carried + i]->rank && scan[i].varies; k++) {
            Expr *index = expr_int(c, k - 1);
            if (at < p.syms->n && n->out[p.carried + i]->dim[k] == expr_var(c, p.syms->syms[at]))
                let_symbol(L, p.syms->syms[at++], expr_load(c, scan[i].dims, 1, &index, NULL));
        }
    for (int i = 0; i < n->nout; i++) {
        const Carried *from = i < p.carried ? &cur[i] : &scan[i - p.carried];
        Value *v = n->out[i];
        if (!from->varies) continue;
        Buf *b = buf_new(L->p, SP_HEAP, v->dt, v->rank, v->dim, "result");
        move_buf(L, b, from->now);
        map_putp(L->bufs, v, b);
    }
}

/* ---- loop: making one ---- */

/* A value of the region defined at its very start, in the place of argument `arg`. */
static void define_argument(Graph *body, Value *arg, Value *with, int first) {
    Map *m = map_new(body->c);
    map_putp(m, arg, with);
    graph_replace(body, m);
    int made = body->nodes.n - first;
    Node **last = gd_new_array(body->c, Node *, made ? made : 1);
    for (int i = 0; i < made; i++) last[i] = body->nodes.v[first + i];
    memmove(body->nodes.v + made, body->nodes.v, (size_t)first * sizeof(Node *));
    for (int i = 0; i < made; i++) body->nodes.v[i] = last[i];
}

void loop_argument(Graph *body, int arg, Value *(*make_value)(Graph *, void *), void *data) {
    int first = body->nodes.n;
    Value *old = body->in.v[arg], *v = make_value(body, data);
    define_argument(body, old, v, first);
}

/* A carried value's dims inside the region: sym[k] where axis k changes from one iteration to the next. */
typedef struct CarriedType { Value *like; Var *sym[MAX_RANK]; } CarriedType;
typedef struct Making {
    Import *n;
    const ImportAttr *attr;
    int lead, carried, tail;     /* arguments before, carried, and after */
    int results;                 /* outputs of the region before the carried ones */
    Value *arg[3 * MAX_ELEMS];   /* types of all arguments */
    CarriedType *type;
} Making;

static bool same_type(Import *n, const Value *a, const Value *b, int i) {
    if (a->rank < 0 || b->rank < 0) return false;
    if (a->dt == b->dt && a->rank == b->rank && !a->sequence && !b->sequence) return true;
    import_error(n, a->dt == b->dt ? 402 : 302, "a carried value keeps its dtype and its number of axes",
                 "carried value %d is %s before an iteration and %s after it", i, value_type_text(n->g->c, a),
                 value_type_text(n->g->c, b));
    return false;
}

/* Axes whose dim the region changes get a symbol; true when there were any. */
static bool widen_type(Making *m, CarriedType *t, const Value *next) {
    Graph *g = m->n->g;
    Value *wide = value_new(g, t->like->dt, t->like->rank, t->like->dim);
    bool changed = false;
    for (int k = 0; k < wide->rank; k++) {
        if (t->sym[k] || t->like->dim[k] == next->dim[k]) continue;
        t->sym[k] = graph_data_symbol(g, "D", NULL);
        wide->dim[k] = expr_var(g->c, t->sym[k]);
        changed = true;
    }
    if (changed) t->like = wide;
    return changed;
}

/* The region is made again until the types of what it carries stand: at most once an axis. */
static Graph *make_body(Making *m) {
    Import *n = m->n;
    for (;;) {
        int errors = gd_error_count(n->g->c);
        for (int i = 0; i < m->carried; i++) m->arg[m->lead + i] = m->type[i].like;
        Graph *body = n->region(n, m->attr, m->lead + m->carried + m->tail, m->arg);
        if (!body || gd_error_count(n->g->c) > errors) return NULL;
        if (body->out.n < m->results + m->carried) {
            import_error(n, 205, NULL, "the body has %d outputs, at least %d are needed", body->out.n, m->results + m->carried);
            return NULL;
        }
        bool changed = false;
        for (int i = 0; i < m->carried; i++) {
            if (!same_type(n, m->type[i].like, body->out.v[m->results + i], i)) return NULL;
            changed |= widen_type(m, &m->type[i], body->out.v[m->results + i]);
        }
        if (!changed) return body;
    }
}

/* Arguments from `from` on leave the region's head (they were defined inside). */
static void drop_arguments(Graph *body, int from, int count) {
    for (int i = from; i + count < body->in.n; i++) {
        body->in.v[i] = body->in.v[i + count];
        body->in_names.v[i] = body->in_names.v[i + count];
    }
    body->in.n -= count;
    body->in_names.n -= count;
}

static Node *loop_node(Graph *g, Graph *body, Value *cond, bool is_while, int carried, Value *const *init, int scans, Expr *trip,
                       Var *iter, int ninner, Var *const *inner) {
    Ctx *c = g->c;
    Attr carries = {.n = ninner, .syms = (Var **)inner};
    Var **outer = gd_new_array(c, Var *, ninner + 1 + scans * MAX_RANK);
    int n = 0;
    if (is_while) outer[n++] = graph_data_symbol(g, "count", trip);
    for (int i = 0; i < ninner; i++) outer[n++] = graph_data_symbol(g, "D", NULL);
    for (int i = body->out.n - scans; i < body->out.n; i++)
        for (int k = 0; k < body->out.v[i]->rank; k++)
            if (local_to(c, body->out.v[i]->dim[k], iter, &carries)) outer[n++] = graph_data_symbol(g, "D", NULL);
    Node *node = node_begin(g, "loop");
    node_input(node, cond);
    for (int i = 0; i < carried; i++) node_input(node, init[i]);
    if (trip) node_dim(node, "trip", trip);
    node_int(node, "while", is_while);
    node_int(node, "scans", scans);
    node_syms(node, "iter", 1, &iter);
    node_syms(node, "inner", ninner, inner);
    node_syms(node, "syms", n, outer);
    node->region = gd_new(c, Graph *);
    node->region[0] = body;
    node->nregions = 1;
    node->nout = carried + scans;
    node_finish(node);
    return node;
}

Node *make_loop(Graph *g, Graph *body, int carried, Value *const *init, int scans, Expr *trip, Var *iter) {
    return loop_node(g, body, NULL, false, carried, init, scans, trip, iter, 0, NULL);
}

Var *loop_iteration(Graph *g, Expr *trip) {
    Var *v = graph_data_symbol(g, "it", NULL);
    int64_t most = trip ? expr_max(g->c, trip) : INT64_MAX;
    v->hi = most == INT64_MAX ? most : most - 1;
    return v;
}

static Node *finish_loop(Making *m, Graph *body, Value *cond, bool is_while, Value *const *init, Expr *trip, Var *iter) {
    VEC(Var *) inner = {0};
    for (int i = 0; i < m->carried; i++)
        for (int k = 0; k < MAX_RANK; k++)
            if (m->type[i].sym[k]) vec_push(m->n->g->c, &inner, m->type[i].sym[k]);
    int scans = body->out.n - m->results - m->carried;
    return loop_node(m->n->g, body, cond, is_while, m->carried, init, scans, trip, iter, inner.n, inner.v);
}

static Value *iteration_number(Graph *body, void *iter) {
    Expr *e = expr_var(body->c, iter);
    return value_of_exprs(body, 0, 1, &e);
}
static Value *always_true(Graph *body, void *unused) { (void)unused; return const_scalar(body, BOOL, 1); }

static bool is_true(const Value *v) { return v && v->data && v->dt == BOOL && *(const uint8_t *)v->data; }

static bool set_carried(Making *m, int count, Value *const *init) {
    m->carried = count;
    m->type = gd_new_array(m->n->g->c, CarriedType, count ? count : 1);
    if (m->lead + count + m->tail > 3 * MAX_ELEMS) {
        import_error(m->n, 504, NULL, "more than %d values are carried", 3 * MAX_ELEMS);
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (!init[i] || init[i]->rank < 0 || init[i]->sequence || init[i]->optional) {
            if (init[i] && (init[i]->sequence || init[i]->optional))
                import_error(m->n, 402, NULL, "carried value %d is a sequence or an optional", i);
            return false;
        }
        m->type[i].like = value_new(m->n->g, init[i]->dt, init[i]->rank, init[i]->dim); /* without what is known of the first */
    }
    return true;
}

static void import_loop(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 2, -1)) return;
    Value *count = import_in(n, 0), *cond = import_in(n, 1);
    Expr *trip = NULL;
    if (count) {
        Expr **e = count->rank <= 1 ? value_read(g, count, "trip", NULL) : NULL;
        if (!e) { import_error(n, 301, NULL, "the trip count is not a scalar"); return; }
        trip = expr2(g->c, E_MAX, e[0], expr_int(g->c, 0));
    }
    Var *iter = loop_iteration(g, trip);
    Making m = {.n = n, .attr = import_attr(n, "body"), .lead = 2, .results = 1};
    if (!set_carried(&m, n->nin - 2, n->in + 2)) return;
    m.arg[0] = value_new(g, I64, 0, NULL);
    m.arg[1] = value_new(g, BOOL, 0, NULL);
    Graph *body = make_body(&m);
    if (!body) return;
    loop_argument(body, 1, always_true, NULL);
    loop_argument(body, 0, iteration_number, iter);
    drop_arguments(body, 0, 2);
    bool is_while = !is_true(body->out.v[0]) || (cond && !is_true(cond)) || !trip;
    if (!is_while) {
        body->out.n--;
        body->out_names.n--;
        memmove(body->out.v, body->out.v + 1, (size_t)body->out.n * sizeof *body->out.v);
        memmove(body->out_names.v, body->out_names.v + 1, (size_t)body->out.n * sizeof *body->out_names.v);
        m.results = 0;
    }
    if (!trip && body->out.n > m.results + m.carried) {
        import_error(n, 402, "give it a trip count", "a loop without a trip count collects outputs");
        return;
    }
    Node *loop = finish_loop(&m, body, is_while ? cond : NULL, is_while, n->in + 2, trip, iter);
    for (int i = 0; loop && i < n->nout && i < loop->nout; i++) n->out[i] = loop->out[i];
}

/* ---- Scan ---- */

typedef struct ScanInput { Value *x; int axis; Expr *at; } ScanInput;

static Value *scan_slice(Graph *body, void *arg) {
    ScanInput *s = arg;
    return build_squeeze(body, build_slice_axis(body, s->x, s->axis, s->at, expr_int(body->c, 1)), s->axis);
}

static int64_t listed(const int64_t *v, int n, int i) { return i >= 0 && i < n ? v[i] : 0; }

static void import_scan(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    const int64_t *in_axes, *in_dirs, *out_axes, *out_dirs;
    int nin_axes = import_ints(n, "scan_input_axes", &in_axes), nin_dirs = import_ints(n, "scan_input_directions", &in_dirs);
    int nout_axes = import_ints(n, "scan_output_axes", &out_axes), nout_dirs = import_ints(n, "scan_output_directions", &out_dirs);
    int scans = (int)import_int(n, "num_scan_inputs", 0), states = n->nin - scans;
    if (scans < 1 || states < 0) { import_error(n, 204, NULL, "num_scan_inputs: %d of %d inputs", scans, n->nin); return; }
    ScanInput *in = gd_new_array(c, ScanInput, scans);
    Making m = {.n = n, .attr = import_attr(n, "body"), .tail = scans};
    if (!set_carried(&m, states, n->in)) return;
    Node probe = {.graph = g, .label = g->label, .op = op_named("loop")};
    Expr *trip = NULL;
    for (int i = 0; i < scans; i++) {
        Value *x = n->in[states + i];
        if (x->rank < 1) { import_error(n, 301, NULL, "scan input %d has no axis", i); return; }
        in[i] = (ScanInput){x, import_axis(n, listed(in_axes, nin_axes, i), x->rank), NULL};
        if (in[i].axis < 0) return;
        Expr *d = x->dim[in[i].axis];
        trip = trip ? node_same_dim(&probe, trip, d, "the scan inputs are of different length") : d;
    }
    Var *iter = loop_iteration(g, trip);
    for (int i = 0; i < scans; i++) {
        Expr *dim[MAX_RANK], *it = expr_var(c, iter);
        int rank = 0;
        for (int k = 0; k < in[i].x->rank; k++)
            if (k != in[i].axis) dim[rank++] = in[i].x->dim[k];
        in[i].at = listed(in_dirs, nin_dirs, i) ? expr_sub(c, expr_sub(c, trip, expr_int(c, 1)), it) : it;
        m.arg[states + i] = value_new(g, in[i].x->dt, rank, dim);
    }
    Graph *body = make_body(&m);
    if (!body) return;
    for (int i = scans - 1; i >= 0; i--) loop_argument(body, states + i, scan_slice, &in[i]);
    drop_arguments(body, states, scans);
    Node *loop = finish_loop(&m, body, NULL, false, n->in, trip, iter);
    for (int i = 0; loop && i < n->nout && i < loop->nout; i++) {
        Value *v = loop->out[i];
        int64_t axis = listed(out_axes, nout_axes, i - states), perm[MAX_RANK];
        if (i >= states && listed(out_dirs, nout_dirs, i - states)) v = build_reverse(g, v, 0);
        if (i >= states && v->rank > 0 && (axis = import_axis(n, axis, v->rank)) > 0) {
            for (int k = 0; k < v->rank; k++) perm[k] = k < axis ? k + 1 : k == axis ? 0 : k;
            v = build_transpose(g, v, perm);
        }
        n->out[i] = v;
    }
}

static void import_scan8(Import *n) {
    import_error(n, 402, "convert the model to opset 9 or newer", "Scan of opset 8 (with a batch axis)");
}

/* ---- if ---- */

static Expr *branch_dim(const Node *n, int i, int k, int *at) {
    const Value *a = n->region[0]->out.v[i], *b = n->region[1]->out.v[i];
    if (a->dim[k] == b->dim[k]) return a->dim[k];
    return expr_var(n->graph->c, node_attr(n, "syms")->syms[(*at)++]);
}

static bool branches_fit(Node *n) {
    const Attr *syms = node_attr(n, "syms");
    int differ = 0;
    bool fits = n->nregions == 2 && n->in[0]->dt == BOOL && !n->in[0]->rank;
    for (int r = 0; fits && r < 2; r++) fits = n->region[r]->out.n == n->nout && !n->region[r]->in.n;
    for (int i = 0; fits && i < n->nout; i++) {
        const Value *a = n->region[0]->out.v[i], *b = n->region[1]->out.v[i];
        fits = a->dt == b->dt && a->rank == b->rank && a->sequence == b->sequence;
        for (int k = 0; fits && k < a->rank; k++) differ += a->dim[k] != b->dim[k];
    }
    if (!fits || differ != syms->n) node_error(n, 301, NULL, "the outputs of the two branches do not fit together");
    return fits && differ == syms->n;
}

static void if_shape(Node *n) {
    int at = 0;
    if (!branches_fit(n)) return;
    for (int i = 0; i < n->nout; i++) {
        const Value *a = n->region[0]->out.v[i];
        Expr *dim[MAX_RANK];
        for (int k = 0; k < a->rank; k++) dim[k] = branch_dim(n, i, k, &at);
        node_out(n, i, a->dt, a->rank, dim);
    }
}

static void if_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    const Attr *syms = node_attr(n, "syms");
    Buf **out = gd_new_array(c, Buf *, n->nout ? n->nout : 1), **dims = gd_new_array(c, Buf *, n->nout ? n->nout : 1);
    for (int i = 0; i < n->nout; i++) {
        Value *v = n->out[i];
        bool varies = false;
        Expr *rank = expr_int(c, v->rank);
        for (int k = 0; k < v->rank; k++)
            for (int s = 0; s < syms->n; s++) varies |= expr_uses(v->dim[k], syms->syms[s]);
        out[i] = varies ? buf_new(L->p, SP_HEAP, v->dt, v->rank, v->dim, "chosen") : lower_buf(L, v);
        if (varies) dims[i] = buf_new(L->p, SP_ARENA, I64, 1, &rank, "dims");
        if (varies) map_putp(L->bufs, v, out[i]);
    }
    Stmt *s = lower_open_if(L, lower_elem(L, n->in[0], (Expr *[]){expr_int(c, 0)}));
    Block *then = L->scope->block;
    L->scope->floor = true;
    for (int branch = 0; branch < 2; branch++) {
        L->scope->block = branch ? &s->other : then;
        lower_nodes(L, n->region[branch]);
        for (int i = 0; i < n->nout; i++) {
            Value *v = n->region[branch]->out.v[i];
            Carried to = {out[i], dims[i], dims[i] != NULL};
            if (dims[i]) carry_moving(L, v, &to);
            else lower_copy(L, v, out[i]);
        }
    }
    L->scope->block = then;
    lower_close(L, 1);
    int at = 0;
    for (int i = 0; i < n->nout; i++)
        for (int k = 0; k < n->out[i]->rank; k++) {
            Expr *index = expr_int(c, k);
            if (at < syms->n && n->out[i]->dim[k] == expr_var(c, syms->syms[at]))
                let_symbol(L, syms->syms[at++], expr_load(c, dims[i], 1, &index, NULL));
        }
}

/* The nodes of a region that is sure to run become nodes of the graph itself. */
static void splice(Graph *g, Graph *region) {
    for (int i = 0; i < region->nodes.n; i++) {
        region->nodes.v[i]->graph = g;
        vec_push(g->c, &g->nodes, region->nodes.v[i]);
        for (int k = 0; k < region->nodes.v[i]->nregions; k++) region->nodes.v[i]->region[k]->outer = g;
    }
}

static void import_if(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *cond = n->in[0];
    const ImportAttr *attr[] = {import_attr(n, "then_branch"), import_attr(n, "else_branch")};
    if (cond->dt != BOOL) { import_error(n, 302, NULL, "the condition is %s, not bool", gd_dtypes[cond->dt].name); return; }
    Expr *known = value_known(cond) && is_value(value_count(g->c, cond), 1) ? value_elem(g, cond, 0) : NULL;
    if (known && is_const(known)) {
        Graph *taken = n->region(n, attr[known->bits ? 0 : 1], 0, NULL);
        if (!taken) return;
        splice(g, taken);
        for (int i = 0; i < n->nout && i < taken->out.n; i++) n->out[i] = taken->out.v[i];
        return;
    }
    int errors = gd_error_count(g->c);
    Graph **region = gd_new_array(g->c, Graph *, 2);
    for (int i = 0; i < 2; i++) region[i] = n->region(n, attr[i], 0, NULL);
    if (!region[0] || !region[1] || gd_error_count(g->c) > errors) return;
    if (region[0]->out.n != region[1]->out.n) { import_error(n, 205, NULL, "the branches have different numbers of outputs"); return; }
    VEC(Var *) syms = {0};
    for (int i = 0; i < region[0]->out.n; i++) {
        const Value *a = region[0]->out.v[i], *b = region[1]->out.v[i];
        if (a->rank < 0 || b->rank < 0) return;
        if (a->sequence || b->sequence || a->optional || b->optional || a->rank != b->rank || a->dt != b->dt) {
            import_error(n, 402, NULL, "output %d is %s in one branch and %s in the other", i, value_type_text(g->c, a),
                         value_type_text(g->c, b));
            return;
        }
        for (int k = 0; k < a->rank; k++)
            if (a->dim[k] != b->dim[k]) vec_push(g->c, &syms, graph_data_symbol(g, "D", NULL));
    }
    Node *node = node_begin(g, "if");
    node_input(node, cond);
    node_syms(node, "syms", syms.n, syms.v);
    node->region = region;
    node->nregions = 2;
    node->nout = region[0]->out.n;
    node_finish(node);
    for (int i = 0; i < n->nout && i < node->nout; i++) n->out[i] = node->out[i];
}

const Op gd_ops_control[] = {
    {.name = "loop", .kind = OP_CONTROL, .in = "cond? init*", .out = "y*",
     .attrs = {{"trip", AT_DIM, 0, false}, {"while", AT_INT, 0, false}, {"scans", AT_INT, 0, false}, {"iter", AT_SYMS, 0, true},
               {"inner", AT_SYMS, 0, false}, {"syms", AT_SYMS, 0, false}},
     .shape = loop_shape, .lower = loop_lower,
     .doc = "Runs its region trip times, or while it says so, carrying values through and collecting others along a new first axis."},
    {.name = "if", .kind = OP_CONTROL, .in = "cond", .out = "y*", .attrs = {{"syms", AT_SYMS, 0, false}},
     .shape = if_shape, .lower = if_lower, .doc = "The outputs of the first region when cond is true, else those of the second."},
    {.kind = OP_BUILD, .onnx = "Loop", .import = import_loop, .doc = "A loop with a trip count, a condition, or both."},
    {.kind = OP_BUILD, .onnx = "Scan", .since = 9, .import = import_scan, .doc = "A loop over the slices of its inputs."},
    {.kind = OP_BUILD, .onnx = "Scan", .import = import_scan8, .doc = "The form of opset 8, with a batch axis."},
    {.kind = OP_BUILD, .onnx = "If", .import = import_if, .doc = "One of two graphs; one whose condition is known is not a choice any more."},
};
const int gd_ops_control_n = sizeof gd_ops_control / sizeof *gd_ops_control;
