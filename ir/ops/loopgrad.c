/* The gradient of `loop`: a second loop that goes back through the iterations.

     forward:   h[t+1], y[t] = body(h[t], x[t]; w)           t = 0 .. T-1
     backward:  dh, dx[t] = vjp of body at h[t], x[t]        t = T-1 .. 0,  dh carried;  dw = sum over t

   The backward region starts as a copy of the body at iteration T-1-it, and the sweep of ir/grad.c runs over the copy. Of what
   the sweep then reads, cheap things are computed again; the rest, and the values carried at the start of each iteration, the
   forward loop collects for it.

   What a captured value gets is a sum over iterations. Where the body reads a slice that moves with the iteration
   (x[t]), the slices' cotangents are collected and are the answer. Where an iteration adds a product (dw += h' dz), its
   operands are collected and one product over all iterations follows the loop: its chain runs over the iterations first. The
   rest is carried as a running sum, last iteration first.

   Every loop makes one loop of the same number of regions: it ends. */
#include "build.h"
#include "grad.h"
#include "loops.h"

typedef struct Back {
    Ctx *c;
    Grad *G, in;          /* around the loop; in the backward region */
    Node *n;              /* the forward loop */
    LoopParts p;
    Graph *b;             /* the backward region */
    int copied;           /* its first nodes are copies of the body's */
    Var *iter;
    Expr *trip, *t;       /* iterations that ran; the one that is gone back through */
    Map *with, *origin;   /* forward value -> its copy, and back */
    ValueList captures;   /* wanted ones */
    ValueList carried, init, next, scans; /* of the backward loop */
    Map *sum_at, *scan_at;                /* value of b -> its place among those, plus 1 */
    Node *loop;           /* the backward loop, when it stands */
} Back;

static Value *fit(Graph *g, Value *v, const Value *like) { return build_reshape(g, v, like->rank, like->dim); }

/* x[at], without that axis */
static Value *element(Graph *g, Value *x, Expr *at) {
    return build_squeeze(g, build_slice_axis(g, x, 0, at, expr_int(g->c, 1)), 0);
}

/* Made by the backward region, or carried into an iteration. */
static bool in_region(const Back *k, const Value *v) {
    bool carried = false;
    for (int i = 0; i < k->carried.n; i++) carried |= k->carried.v[i] == v;
    return carried || (v->def && v->def->graph == k->b) || map_getp(k->origin, v);
}

static bool local(const Graph *b, Var *iter, Expr *e) {
    static const Attr none = {.kind = AT_SYMS};
    return loop_local_dim(&(LoopParts){.body = (Graph *)b, .iter = iter, .inner = &none}, e);
}

/* Has it one size in all iterations? */
static bool steady(const Graph *b, Var *iter, const Value *v) {
    if (v->rank < 0 || v->rank >= MAX_RANK || v->sequence || v->optional) return false;
    for (int i = 0; i < v->rank; i++)
        if (local(b, iter, v->dim[i])) return false;
    return true;
}

/* ---- what the forward loop collects ---- */

/* Output of the forward loop that has body value e of every iteration; made when there is none yet. */
static Value *collected(Back *k, Value *e) {
    Node *n = k->n;
    Graph *body = k->p.body;
    for (int i = k->p.cond + k->p.carried; i < body->out.n; i++)
        if (body->out.v[i] == e) return n->out[i - k->p.cond];
    Expr *dim[MAX_RANK] = {k->trip};
    for (int i = 0; i < e->rank; i++) dim[i + 1] = e->dim[i];
    Value *v = value_new(n->graph, e->dt, e->rank + 1, dim), **out = gd_new_array(k->c, Value *, n->nout + 1);
    memcpy(out, n->out, (size_t)n->nout * sizeof *out);
    v->def = n;
    v->port = n->nout;
    out[n->nout++] = v;
    n->out = out;
    graph_output(body, "kept", e);
    node_int(n, "scans", ++k->p.scans);
    return v;
}

static bool is_collected(const Back *k, const Value *e) {
    for (int i = k->p.cond + k->p.carried; i < k->p.body->out.n; i++)
        if (k->p.body->out.v[i] == e) return true;
    return false;
}

/* ---- sums over iterations ---- */

/* start of a slice = base + way * it with way 1 or -1, along one axis of size 1, all else the same in every iteration. */
typedef struct Moving { int axis, way; Expr *base; } Moving;

static bool moving(const Back *k, const Node *n, Moving *m) {
    if (n->op != op_named("slice")) return false;
    const Attr *start = node_attr(n, "start"), *size = node_attr(n, "size"), *step = node_attr(n, "step");
    m->axis = -1;
    for (int i = 0; i < start->n; i++) {
        Expr *base, *stride;
        if (local(k->b, k->iter, size->dims[i]) || local(k->b, k->iter, step->dims[i])) return false;
        if (!local(k->b, k->iter, start->dims[i])) {
            if (!is_value(step->dims[i], 1)) return false;
            continue;
        }
        if (m->axis >= 0 || !is_value(size->dims[i], 1) || !expr_affine(k->c, start->dims[i], k->iter, &base, &stride)) return false;
        m->way = is_value(stride, 1) ? 1 : is_value(stride, -1) ? -1 : 0;
        if (!m->way || local(k->b, k->iter, base)) return false;
        m->axis = i;
        m->base = base;
    }
    return m->axis >= 0;
}

/* The tensor whose elements along axis 0 are u in iterations 0, 1, ..; NULL: u is something else. */
static Value *known_stack(const Back *k, const Value *u) {
    Moving m;
    const Node *n = u->def;
    if (!n || n->op != op_named("reshape")) return NULL;
    const Value *s = n->in[0];
    if (!s->def || s->rank != u->rank + 1 || !moving(k, s->def, &m) || m.axis != 0 || m.way > 0) return NULL;
    Value *x = s->def->in[0];
    if (in_region(k, x) || x->dim[0] != k->trip || m.base != expr_sub(k->c, k->trip, expr_int(k->c, 1))) return NULL;
    for (int i = 0; i < u->rank; i++)
        if (x->dim[i + 1] != u->dim[i] || s->dim[i + 1] != u->dim[i]) return NULL;
    return x;
}

/* Value u of every iteration, as [T, ...] in the order of the forward loop: a tensor there is, or a scan of the backward loop. */
typedef struct Stack { Value *known; int scan; } Stack;

static int scan_of(Back *k, Value *u) {
    size_t at = (size_t)map_getp(k->scan_at, u);
    if (at) return (int)at - 1;
    vec_push(k->c, &k->scans, u);
    map_putp(k->scan_at, u, (void *)(size_t)k->scans.n);
    return k->scans.n - 1;
}

static Stack stacked(Back *k, Value *u) {
    Value *known = known_stack(k, u), *e = map_getp(k->origin, u);
    if (!known && e) known = collected(k, e);
    return (Stack){known, known ? -1 : scan_of(k, u)};
}

static Value *stack_value(const Back *k, Stack s) {
    return s.known ? s.known : build_reverse(k->G->g, k->loop->out[k->carried.n + s.scan], 0);
}

/* How the sum of a value over all iterations comes about. It is planned before the backward loop stands, and made behind it. */
typedef enum SumKind { SUM_ADD, SUM_VIEW, SUM_PRODUCT, SUM_RUNNING } SumKind;
typedef struct Sum Sum;
struct Sum {
    SumKind kind;
    const Node *n;     /* VIEW, PRODUCT: what an iteration does */
    Sum *a, *b;        /* ADD; VIEW: a */
    Stack of[2];       /* PRODUCT */
    int carried;       /* RUNNING */
};

static int running_sum(Back *k, Value *u) {
    size_t at = (size_t)map_getp(k->sum_at, u);
    if (at) return (int)at - 1;
    Value *so_far = graph_input(k->b, "sum", u->dt, u->rank, u->dim);
    vec_push(k->c, &k->carried, so_far);
    vec_push(k->c, &k->init, grad_filled(k->G->g, u, 0));
    vec_push(k->c, &k->next, make(k->b, "add", so_far, u));
    map_putp(k->sum_at, u, (void *)(size_t)k->carried.n);
    return k->carried.n - 1;
}

static bool stackable(const Back *k, const Value *v) {
    const Value *e = map_getp(k->origin, v);
    return steady(k->b, k->iter, v) && (!e || steady(k->p.body, k->p.iter, e));
}

static bool is_product(const Back *k, const Value *u) {
    const Node *n = u->def;
    return n && n->graph == k->b && n->op == op_named("contract") && stackable(k, n->in[0]) && stackable(k, n->in[1]) &&
           n->in[0]->rank + n->in[1]->rank < MAX_RANK && in_region(k, n->in[0]) && in_region(k, n->in[1]);
}

/* One product over all iterations. */
static Value *product(const Back *k, const Sum *s) {
    static const char *const lists[] = {"a_batch", "b_batch", "a_contract", "b_contract"};
    Node *p = node_begin(k->G->g, "contract");
    for (int i = 0; i < 2; i++) node_input(p, stack_value(k, s->of[i]));
    for (int i = 0; i < 4; i++) {
        const Attr *l = node_attr(s->n, lists[i]);
        int64_t axes[MAX_RANK] = {0};
        int first = i >= 2;
        for (int j = 0; j < l->n; j++) axes[first + j] = l->ints[j] + 1;
        node_ints(p, lists[i], l->n + first, axes);
    }
    return node_finish(p);
}

/* A view of one varying value that is the same view in every iteration: the sum of views is the view of the sum. */
static bool fixed_view(const Back *k, const Node *n) {
    if (n->graph != k->b || n->op->kind != OP_VIEW || !n->nin || !in_region(k, n->in[0]) || !steady(k->b, k->iter, n->in[0])) return false;
    for (int i = 1; i < n->nin; i++)
        if (n->in[i]) return false;
    for (int i = 0; i < MAX_ATTRS; i++) {
        const Attr *a = &n->attr[i];
        if (a->kind == AT_DIM && local(k->b, k->iter, a->dim)) return false;
        for (int j = 0; a->kind == AT_DIMS && j < a->n; j++)
            if (local(k->b, k->iter, a->dims[j])) return false;
    }
    return true;
}

static bool same_dims(const Value *a, const Value *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

static Sum *plan_sum(Back *k, Value *u) {
    Node *n = u->def;
    Sum *s = gd_new(k->c, Sum);
    s->n = n;
    if (is_product(k, u)) {
        s->kind = SUM_PRODUCT;
        for (int i = 0; i < 2; i++) s->of[i] = stacked(k, n->in[i]);
    } else if (n && n->graph == k->b && n->op == op_named("add") && same_dims(n->in[0], u) && same_dims(n->in[1], u)) {
        s->kind = SUM_ADD;
        s->a = plan_sum(k, n->in[0]);
        s->b = plan_sum(k, n->in[1]);
    } else if (n && fixed_view(k, n) && (n->op != op_named("slice") || is_product(k, n->in[0]))) {
        s->kind = SUM_VIEW;
        s->a = plan_sum(k, n->in[0]);
    } else {
        s->kind = SUM_RUNNING;
        s->carried = running_sum(k, u);
    }
    return s;
}

static Value *sum_value(const Back *k, const Sum *s) {
    Graph *g = k->G->g;
    switch (s->kind) {
    case SUM_ADD: {
        Value *a = sum_value(k, s->a);
        return make(g, "add", a, sum_value(k, s->b));
    }
    case SUM_VIEW: {
        Node *v = node_begin(g, s->n->op->name);
        node_input(v, sum_value(k, s->a));
        memcpy(v->attr, s->n->attr, MAX_ATTRS * sizeof *v->attr);
        return node_finish(v);
    }
    case SUM_PRODUCT: return product(k, s);
    case SUM_RUNNING: break;
    }
    return k->loop->out[s->carried];
}

/* The cotangents of slices that move with the iteration, put together: in the order of the backward loop along axis 0. */
static void place_slices(Back *k, Node *slice, Value *all) {
    Graph *g = k->G->g;
    Ctx *c = k->c;
    Value *x = slice->in[0];
    const Attr *start = node_attr(slice, "start"), *size = node_attr(slice, "size");
    Moving m;
    moving(k, slice, &m);
    int64_t perm[MAX_RANK];
    Expr *dim[MAX_RANK], *lo[MAX_RANK], *hi[MAX_RANK];
    for (int i = 0; i < x->rank; i++) { /* the slices' own axis, of size 1, goes; the iterations' takes its place */
        bool here = i == m.axis;
        perm[i < m.axis ? i : i + 1] = i + 1;
        if (here) perm[i] = 0;
        dim[i] = here ? k->trip : size->dims[i];
        lo[i] = !here ? start->dims[i] : m.way > 0 ? m.base : expr_sub(c, m.base, expr_sub(c, k->trip, expr_int(c, 1)));
        hi[i] = expr_sub(c, x->dim[i], expr_add(c, lo[i], dim[i]));
    }
    Value *v = build_reshape(g, build_transpose(g, all, perm), x->rank, dim);
    if (m.way < 0) v = build_reverse(g, v, m.axis);
    grad_add(k->G, x, fit(g, build_pad(g, v, lo, hi, NULL, NULL), x));
}

/* ---- what the backward region reads of the forward one ---- */

static bool again(const Node *n) { return n->op->kind == OP_VIEW || (n->op->flags & OF_CHEAP) || n->nregions; }

static void use(Map *used, const Value *v) {
    if (v) map_putp(used, v, used);
}
static void use_all(Map *used, const Node *n) {
    for (int i = 0; i < n->nin; i++) use(used, n->in[i]);
    if (!n->nregions) return;
    ValueList seen = graph_captures(n);
    for (int i = 0; i < seen.n; i++) use(used, seen.v[i]);
}

static bool uses_any(const Map *used, const Node *n) {
    for (int i = 0; i < n->nout; i++)
        if (map_getp(used, n->out[i])) return true;
    return false;
}

/* May v be had in the backward region without doing anything expensive again? */
static bool at_hand(const Back *k, const Map *have, const Value *v) {
    return !v || v->data || !map_getp(k->origin, v) || !v->def || map_getp(have, v);
}

/* Copies that are read by nodes made by the sweep and are not cheap, or need what is not cheap and not kept: these are kept by the
   forward loop. The order of nodes decides, so every choice knows those before it. */
static Map *choose_kept(Back *k) {
    Graph *b = k->b;
    Map *used = map_new(k->c), *have = map_new(k->c), *kept = map_new(k->c);
    for (int i = k->copied; i < b->nodes.n; i++) use_all(used, b->nodes.v[i]);
    for (int i = 0; i < k->next.n; i++) use(used, k->next.v[i]);
    for (int i = 0; i < k->scans.n; i++) use(used, k->scans.v[i]);
    for (int i = k->copied - 1; i >= 0; i--)
        if (b->nodes.v[i]->nregions && uses_any(used, b->nodes.v[i])) use_all(used, b->nodes.v[i]);
    for (int i = 0; i < k->copied; i++) {
        Node *n = b->nodes.v[i];
        bool cheap = again(n);
        for (int j = 0; j < n->nin && cheap && !n->nregions; j++) cheap = at_hand(k, have, n->in[j]);
        for (int j = 0; j < n->nout; j++) {
            Value *e = map_getp(k->origin, n->out[j]);
            bool keep = is_collected(k, e) || (!cheap && map_getp(used, n->out[j]) && !e->data);
            keep = keep && !n->nregions && steady(k->p.body, k->p.iter, e);
            if (keep) map_putp(kept, n->out[j], e);
            if (keep || cheap) map_putp(have, n->out[j], e);
        }
    }
    return kept;
}

/* Nodes from `first` on become the first ones of b. */
static void move_to_front(Graph *b, int first) {
    int made = b->nodes.n - first;
    Node **last = gd_new_array(b->c, Node *, made ? made : 1);
    for (int i = 0; i < made; i++) last[i] = b->nodes.v[first + i];
    memmove(b->nodes.v + made, b->nodes.v, (size_t)first * sizeof *last);
    for (int i = 0; i < made; i++) b->nodes.v[i] = last[i];
}

/* In the place of copy v the region reads what the forward loop collected. */
static void read_kept(Back *k, Map *with, Value *v) {
    map_putp(with, v, element(k->b, collected(k, map_getp(k->origin, v)), k->t));
}

static void bring_back(Back *k) {
    Graph *b = k->b;
    Map *kept = choose_kept(k), *with = map_new(k->c);
    int first = b->nodes.n, copied = k->copied;
    for (int i = 0; i < copied; i++)
        for (int j = 0; j < b->nodes.v[i]->nout; j++)
            if (map_getp(kept, b->nodes.v[i]->out[j])) read_kept(k, with, b->nodes.v[i]->out[j]);
    move_to_front(b, first);
    graph_replace(b, with);
    graph_drop_unused(b, 0);
    Map *used = map_new(k->c);
    for (int i = 0; i < b->nodes.n; i++) use_all(used, b->nodes.v[i]);
    for (int i = 0; i < b->out.n; i++) use(used, b->out.v[i]);
    first = b->nodes.n;
    with = map_new(k->c);
    for (int i = 0; i < k->p.carried; i++) {
        Value *v = map_getp(k->with, k->p.body->in.v[i]);
        if (map_getp(used, v)) read_kept(k, with, v);
    }
    move_to_front(b, first);
    graph_replace(b, with);
}

/* ---- the loop ---- */

/* What is carried is wanted when what it starts from is, or what it becomes; that may make more wanted: at most once a value. */
static Map *wanted_inside(Back *k) {
    Graph *body = k->p.body;
    Grad w = {body, NULL, map_new(k->c), NULL};
    ValueList seen = graph_captures(k->n);
    for (int i = 0; i < seen.n; i++)
        if (grad_wanted(k->G, seen.v[i])) {
            map_putp(w.wanted, seen.v[i], body);
            vec_push(k->c, &k->captures, seen.v[i]);
        }
    for (int i = 0; i < k->p.carried; i++)
        if (grad_wanted(k->G, k->n->in[1 + i])) map_putp(w.wanted, body->in.v[i], body);
    for (bool more = true; more;) {
        more = false;
        grad_want(&w, body, 0, body->nodes.n);
        for (int i = 0; i < k->p.carried; i++) {
            Value *arg = body->in.v[i];
            if (grad_wanted(&w, arg) || !grad_float(arg) || !grad_wanted(&w, body->out.v[k->p.cond + i])) continue;
            map_putp(w.wanted, arg, body);
            more = true;
        }
    }
    return w.wanted;
}

static void remember(Back *k, Value *forward, Value *copy) {
    map_putp(k->with, forward, copy);
    map_putp(k->origin, copy, forward);
}

/* The body's nodes at iteration t; arguments are values without a node until bring_back. */
static void copy_body(Back *k) {
    Graph *body = k->p.body;
    Map *vars = map_new(k->c);
    map_putp(vars, k->p.iter, k->t);
    for (int i = 0; i < k->p.carried; i++) {
        Value *arg = body->in.v[i];
        remember(k, arg, value_new(k->b, arg->dt, arg->rank, arg->dim));
    }
    graph_copy_nodes(k->b, body, k->with, vars);
    k->copied = k->b->nodes.n;
    for (int i = 0; i < body->nodes.n; i++)
        for (int j = 0; j < body->nodes.v[i]->nout; j++) {
            Value *v = body->nodes.v[i]->out[j];
            map_putp(k->origin, map_getp(k->with, v), v);
        }
}

static Value *copy_of(const Back *k, Value *v) {
    Value *copy = map_getp(k->with, v);
    return copy ? copy : v;
}

/* Cotangents of what an iteration makes, through the copy; leaves are slices of wanted captured values. */
static void sweep_body(Back *k, Value *const *dy, Map *wanted) {
    Graph *b = k->b, *body = k->p.body;
    Moving m;
    k->in = (Grad){b, map_new(k->c), map_new(k->c), map_new(k->c)};
    for (int i = 0; i < k->captures.n; i++) map_putp(k->in.wanted, k->captures.v[i], b);
    for (int i = 0; i < k->copied; i++) {
        Node *n = b->nodes.v[i];
        if (n->nin && grad_wanted(&k->in, n->in[0]) && !in_region(k, n->in[0]) && moving(k, n, &m)) map_putp(k->in.leaf, n, b);
    }
    for (int i = 0; i < k->p.carried; i++)
        if (map_getp(wanted, body->in.v[i])) map_putp(k->in.wanted, map_getp(k->with, body->in.v[i]), b);
    grad_want(&k->in, b, 0, k->copied);
    for (int i = 0; i < k->p.carried; i++) {
        Value *arg = body->in.v[i], *next = copy_of(k, body->out.v[k->p.cond + i]);
        if (!map_getp(wanted, arg)) continue;
        Value *d = graph_input(b, "d", arg->dt, arg->rank, arg->dim);
        vec_push(k->c, &k->carried, d);
        vec_push(k->c, &k->init, dy[i] ? fit(k->G->g, dy[i], k->n->in[1 + i]) : grad_filled(k->G->g, k->n->in[1 + i], 0));
        if (grad_wanted(&k->in, next)) grad_add(&k->in, next, fit(b, d, next));
    }
    for (int i = 0; i < k->p.scans; i++) {
        Value *e = copy_of(k, body->out.v[k->p.cond + k->p.carried + i]), *d = dy[k->p.carried + i];
        if (d && grad_wanted(&k->in, e)) grad_add(&k->in, e, fit(b, element(b, d, k->t), e));
    }
    grad_sweep(&k->in, 0, k->copied);
    for (int i = 0; i < k->p.carried; i++) {
        Value *arg = body->in.v[i];
        if (!map_getp(wanted, arg)) continue;
        Value *d = map_getp(k->in.adjoint, map_getp(k->with, arg));
        vec_push(k->c, &k->next, d ? fit(b, d, arg) : grad_filled(b, arg, 0));
    }
}

typedef struct Leaf { Node *slice; int scan; } Leaf;
typedef VEC(Leaf) Leaves;

static Leaves plan_leaves(Back *k) {
    Leaves list = {0};
    for (int i = 0; i < k->copied; i++) {
        Node *n = k->b->nodes.v[i];
        Value *d = map_getp(k->in.leaf, n) ? map_getp(k->in.adjoint, n->out[0]) : NULL;
        if (!d) continue;
        Leaf l = {n, scan_of(k, d)};
        vec_push(k->c, &list, l);
    }
    return list;
}

static bool scans_steady(Back *k) {
    for (int i = 0; i < k->scans.n; i++)
        if (!steady(k->b, k->iter, k->scans.v[i])) {
            node_error(k->n, 404, NULL, "a size that each iteration decides stands in the way of the loop's gradient");
            return false;
        }
    return true;
}

static bool possible(Node *n, const LoopParts *p) {
    if (p->inner->n)
        node_error(n, 404, "pad what is carried to one size", "a loop has no gradient when what it carries changes its size");
    else if (!p->trip)
        node_error(n, 404, "give the loop a trip count", "a loop that only its condition ends has no gradient: nothing bounds what must be kept");
    else return true;
    return false;
}

void loop_grad(Grad *G, Node *n, Value *const *dy) {
    Ctx *c = G->g->c;
    Back k = {.c = c, .G = G, .n = n, .p = loop_parts(n), .with = map_new(c), .origin = map_new(c), .sum_at = map_new(c), .scan_at = map_new(c)};
    if (!possible(n, &k.p)) return;
    int errors = gd_error_count(c);
    Map *wanted = wanted_inside(&k);
    k.trip = loop_count(c, &k.p);
    k.iter = loop_iteration(G->g, k.trip);
    k.t = expr_sub(c, expr_sub(c, k.trip, expr_int(c, 1)), expr_var(c, k.iter));
    k.b = graph_region(G->g);
    copy_body(&k);
    sweep_body(&k, dy, wanted);
    if (gd_error_count(c) > errors) return;
    Leaves leaves = plan_leaves(&k);
    Sum **sums = gd_new_array(c, Sum *, k.captures.n ? k.captures.n : 1);
    for (int i = 0; i < k.captures.n; i++) {
        Value *d = map_getp(k.in.adjoint, k.captures.v[i]);
        sums[i] = d ? plan_sum(&k, d) : NULL;
    }
    if (!scans_steady(&k)) return;
    for (int i = 0; i < k.next.n; i++) graph_output(k.b, "d", k.next.v[i]);
    for (int i = 0; i < k.scans.n; i++) graph_output(k.b, "kept", k.scans.v[i]);
    bring_back(&k);
    k.loop = make_loop(G->g, k.b, k.carried.n, k.init.v, k.scans.n, k.trip, k.iter);
    if (gd_error_count(c) > errors) return;
    for (int i = 0, at = 0; i < k.p.carried; i++)
        if (map_getp(wanted, k.p.body->in.v[i])) grad_add(G, n->in[1 + i], fit(G->g, k.loop->out[at++], n->in[1 + i]));
    for (int i = 0; i < leaves.n; i++) place_slices(&k, leaves.v[i].slice, k.loop->out[k.carried.n + leaves.v[i].scan]);
    for (int i = 0; i < k.captures.n; i++)
        if (sums[i]) grad_add(G, k.captures.v[i], fit(G->g, sum_value(&k, sums[i]), k.captures.v[i]));
}
