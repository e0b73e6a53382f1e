/* Control flow: if and loop, with regions. (ONNX's If, Loop, Scan: flow.c; gradients: loopgrad.c, ifgrad.c.)

   loop carries values through its region: the region's arguments are what is carried, its outputs are [the condition to
   go on,] the next carried values, then elements of scan outputs, which are collected along a new first axis. The number
   of the iteration is a symbol. A carried value whose dims change from one iteration to the next has symbols for them:
   `inner` inside the region, `syms` behind the loop. */
#include "build.h"
#include "lower.h"
#include "loops.h"

/* ---- loop: shape ---- */

LoopParts loop_parts(const Node *n) {
    LoopParts p = {.carried = n->nin - 1, .scans = (int)attr_int(n, "scans"), .cond = attr_int(n, "while") != 0, .body = n->region[0]};
    const Attr *trip = node_attr(n, "trip");
    p.trip = trip->kind == AT_DIM ? trip->dim : NULL;
    p.inner = node_attr(n, "inner");
    p.syms = node_attr(n, "syms");
    p.iter = node_attr(n, "iter")->syms[0];
    return p;
}

/* What is known of a dim behind the loop: the symbols of the last iteration have names of their own there. */
static Expr *behind(Ctx *c, const LoopParts *p, Expr *e) {
    Map *m = map_new(c);
    for (int i = 0; i < p->inner->n; i++) map_putp(m, p->inner->syms[i], expr_var(c, p->syms->syms[i + p->cond]));
    return expr_subst(c, e, m);
}

Expr *loop_count(Ctx *c, const LoopParts *p) { return p->cond ? expr_var(c, p->syms->syms[0]) : p->trip; }

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
bool loop_local_dim(const LoopParts *p, Expr *e) { return local_to(p->body->c, e, p->iter, p->inner); }

static bool same_kind(const Value *a, const Value *b) { return a->dt == b->dt && a->rank == b->rank && a->sequence == b->sequence; }

static bool is_inner(const Attr *inner, const Expr *e) {
    for (int i = 0; i < inner->n; i++)
        if (e->kind == E_VAR && e->var == inner->syms[i]) return true;
    return false;
}

/* A carried value, before the loop or after an iteration, against the region's argument. Dims may be written differently:
   checks before the loop say that they are the same. */
static bool carries(Ctx *c, const LoopParts *p, const Value *arg, const Value *v) {
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
    LoopParts p = loop_parts(n);
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
        for (int k = 0; fits && k < e->rank; k++) symbols += loop_local_dim(&p, e->dim[k]);
    }
    fits = fits && p.syms->n == symbols;
    if (!fits) node_error(n, 301, NULL, "what the loop carries and collects does not fit its region");
    return fits;
}

static void loop_shape(Node *n) {
    Ctx *c = n->graph->c;
    if (!loop_fits(n)) return;
    LoopParts p = loop_parts(n);
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
            dim[k + 1] = loop_local_dim(&p, e->dim[k]) ? expr_var(c, p.syms->syms[at++]) : e->dim[k];
        node_out(n, p.carried + i, e->dt, e->rank + 1, dim);
    }
}

/* ---- loop: lowering ---- */

/* A value whose dims are only known in the region lies on the heap, with its dims beside it. */
typedef struct Carried { Buf *now, *dims; bool varies; } Carried;

static bool uses_inner(const LoopParts *p, const Value *v) {
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

static void loop_begin(Lower *L, Node *n, const LoopParts *p, Carried *cur) {
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
static void read_dims(Lower *L, const LoopParts *p, const Carried *cur, bool inside) {
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
static void carry(Lower *L, const LoopParts *p, const Carried *cur) {
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

static void scan_begin(Lower *L, Node *n, const LoopParts *p, int i, Carried *scan) {
    Ctx *c = L->c;
    Value *v = n->out[p->carried + i];
    const Value *e = p->body->out.v[p->cond + p->carried + i];
    Expr *dim[MAX_RANK], *zero = expr_int(c, 0), *rank = expr_int(c, e->rank);
    for (int k = 0; k < v->rank; k++) {
        dim[k] = k ? e->dim[k - 1] : p->trip; /* room for all iterations there can be */
        scan->varies |= k && loop_local_dim(p, dim[k]);
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
static void scan_room(Lower *L, const LoopParts *p, Value *e, const Carried *scan) {
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
    LoopParts p = loop_parts(n);
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

Node *loop_node(Graph *g, Graph *body, Value *cond, bool is_while, int carried, Value *const *init, int scans, Expr *trip,
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

const Op gd_ops_control[] = {
    {.name = "loop", .export = export_loop, .kind = OP_CONTROL, .in = "cond? init*", .out = "y*",
     .attrs = {{"trip", AT_DIM, 0, false}, {"while", AT_INT, 0, false}, {"scans", AT_INT, 0, false}, {"iter", AT_SYMS, 0, true},
               {"inner", AT_SYMS, 0, false}, {"syms", AT_SYMS, 0, false}},
     .shape = loop_shape, .lower = loop_lower, .grad = loop_grad,
     .doc = "Runs its region trip times, or while it says so, carrying values through and collecting others along a new first axis."},
    {.name = "if", .export = export_if, .kind = OP_CONTROL, .in = "cond", .out = "y*", .attrs = {{"syms", AT_SYMS, 0, false}},
     .shape = if_shape, .lower = if_lower, .grad = if_grad, .doc = "The outputs of the first region when cond is true, else those of the second."},
};
const int gd_ops_control_n = sizeof gd_ops_control / sizeof *gd_ops_control;
