/* A graph becomes a program: a buffer for every value that has memory, a nest for every such value or node.

   Nodes are lowered in order, so a nest only reads what earlier nests wrote. A value stored inside another (a pad, a
   concat, a reshape: Value.into) gets a view of that one's buffer, and the node that would have copied it only writes
   what is left over. */
#include "lower.h"
#include "train.h"

/* ---- buffers ---- */

/* Does a size follow from the inputs' symbols, through the bounds of the symbols that data decides? */
static Search unbounded(void *ctx, Expr *e) {
    if (e->kind != E_VAR || !e->var->data) return SEARCH_ON;
    return !e->var->def || expr_search(ctx, e->var->def, unbounded, ctx) ? SEARCH_FOUND : SEARCH_ON;
}

static bool value_data_sized(Ctx *c, const Value *v) {
    for (int i = 0; i < v->rank; i++)
        if (expr_on_data(c, v->dim[i])) return true;
    return false;
}

/* Strides of v's own buffer when its axes lie in the order that `layout` chose. */
static void set_strides(Ctx *c, Buf *b, const Value *v) {
    if (!v->order) return;
    b->stride = gd_new_array(c, Expr *, v->rank);
    Expr *step = expr_int(c, 1);
    for (int i = v->rank - 1; i >= 0; i--) {
        b->stride[v->order[i]] = step;
        step = expr_mul(c, step, v->dim[v->order[i]]);
    }
}

static Expr *stride_of(Ctx *c, const Buf *b, int axis) {
    if (b->stride) return b->stride[axis];
    Expr *s = expr_int(c, 1);
    for (int i = axis + 1; i < b->rank; i++) s = expr_mul(c, s, b->dim[i]);
    return s;
}

/* A reshape that is another shape of its input's memory. */
static bool lent(const Value *v) { return v->into && v->def && (v->def->op->flags & OF_SAME_DATA) && v->into == v->def->in[0]; }

/* Where input i lies in n's output. */
static bool held(const Node *n, int i, Expr **lo, Expr **step) {
    for (int k = 0; k < n->out[0]->rank; k++) step[k] = expr_int(n->graph->c, 1);
    return n->op->holds && n->op->holds(n, i, lo, step);
}

static Buf *view_into(Lower *L, Value *v) {
    Ctx *c = L->c;
    Value *w = v->into;
    Buf *base = lower_buf(L, w);
    const Node *n = w->def;
    if (lent(v)) return buf_view(L->p, base, expr_int(c, 0), v->rank, v->dim, NULL);
    if (n->op->flags & OF_SAME_DATA) return buf_view(L->p, base, expr_int(c, 0), v->rank, v->dim, NULL);
    int which = 0;
    while (which < n->nin && n->in[which] != v) which++;
    Expr *lo[MAX_RANK], *step[MAX_RANK], *stride[MAX_RANK], *origin = expr_int(c, 0);
    if (which == n->nin || !held(n, which, lo, step)) gd_bug(c, "a value is stored in one that does not hold it");
    for (int i = 0; i < v->rank; i++) {
        stride[i] = stride_of(c, base, i);
        origin = expr_add(c, origin, expr_mul(c, lo[i], stride[i]));
        stride[i] = expr_mul(c, stride[i], step[i]);
    }
    return buf_view(L->p, base, origin, v->rank, v->dim, stride);
}

static Buf *const_buf(Lower *L, Value *v) {
    Buf *b = buf_new(L->p, SP_CONST, v->dt, v->rank, v->dim, gd_format(L->c, "w%d", v->id));
    b->data = v->data;
    b->label = v->label;
    return b;
}

Buf *lower_temp(Lower *L, DType dt, int rank, Expr *const *dim, const char *name) {
    bool heap = false;
    for (int i = 0; i < rank; i++) heap = heap || expr_search(L->c, dim[i], unbounded, L->c);
    Buf *b = buf_new(L->p, heap ? SP_HEAP : SP_ARENA, dt, rank, dim, name);
    if (heap) stmt_new(L->p, lower_block(L), S_ALLOC)->buf = b;
    return b;
}

static Buf *temporary(Lower *L, Value *v) {
    Buf *b = lower_temp(L, v->dt, v->rank, v->dim, gd_format(L->c, "t%d", v->id));
    set_strides(L->c, b, v);
    b->label = v->label;
    return b;
}

Buf *lower_buf(Lower *L, Value *v) {
    Buf *b = map_getp(L->bufs, v);
    if (b) return b;
    if (v->data) b = const_buf(L, v);
    else if (v->into) b = view_into(L, v);
    else b = temporary(L, v);
    map_putp(L->bufs, v, b);
    return b;
}

static Buf *port(Lower *L, Space space, const Value *v, int i, const char *name) {
    Buf *b = buf_new(L->p, space, v->dt, v->rank, v->dim, gd_format(L->c, "%s%d", space == SP_IN ? "in" : "out", i));
    b->port = i;
    b->label = name;
    L->p->port_names.v[L->p->port_names.n - 1] = name;
    return b;
}

/* ---- nests ---- */

Stmt *lower_open_nest(Lower *L, const char *name) {
    Block none = {0};
    Stmt *s = stmt_nest(L->p, &none, name);
    Scope *scope = gd_new(L->c, Scope);
    *scope = (Scope){.outer = L->scope, .stmt = s, .block = &s->body, .memo = map_new(L->c), .depth = L->scope->depth + 1,
                     .floor = true};
    L->scope = scope;
    L->sources = text_new(L->c);
    return s;
}

void lower_close_nest(Lower *L, Stmt *s) {
    s->nest->source = L->sources->n ? L->sources->s : NULL;
    L->sources = NULL;
    if (s->body.n) { lower_close(L, 1); return; }
    L->scope = L->scope->outer;
}

/* for every index, in memory order: b[index] = v[index] */
static void fill(Lower *L, Value *v, Buf *b, Expr *(*elem)(Lower *, Value *, Expr *const *)) {
    static const char *const letters[] = {"i", "j", "k", "l", "m", "n"};
    static const char *const image[] = {"n", "c", "h", "w", "d"};
    Expr *idx[MAX_RANK];
    int opened = 0;
    for (int i = 0; i < v->rank; i++) {
        int axis = v->order ? v->order[i] : i;
        if (is_value(v->dim[axis], 1)) { idx[axis] = expr_int(L->c, 0); continue; }
        const char *name = v->rank >= 3 && v->rank <= 5 && v->order ? image[axis] : letters[axis < 6 ? axis : 5];
        idx[axis] = lower_open(L, name, v->dim[axis], true);
        opened++;
    }
    Expr *e = elem(L, v, idx);
    stmt_store(L->p, lower_block(L), b, idx, e, NULL);
    lower_close(L, opened);
}

/* The parts of w that no input stored in it fills: everything, or the slabs around the inputs that lie inside. */
static void fill_rest(Lower *L, Node *n, Value *w, Buf *b) {
    Ctx *c = L->c;
    int inside = 0, holds = 0;
    Expr *at[MAX_RANK], *step[MAX_RANK];
    for (int i = 0; i < n->nin; i++) {
        inside += n->in[i] && n->in[i]->into == w;
        holds += held(n, i, at, step);
    }
    if (!inside && holds < 2) { fill(L, w, b, lower_compute); return; }
    if (n->op->flags & OF_SAME_DATA) return;
    if (holds > 1) { /* a concat: the inputs not stored in it are copied, each to its place */
        for (int i = 0; i < n->nin; i++) {
            Value *v = n->in[i];
            Expr *lo[MAX_RANK], *idx[MAX_RANK];
            if (!v || v->into == w) continue;
            held(n, i, lo, step);
            for (int k = 0; k < w->rank; k++) {
                int axis = w->order ? w->order[k] : k;
                idx[axis] = lower_open(L, "i", v->dim[axis], true);
                at[axis] = expr_add(c, expr_mul(c, idx[axis], step[axis]), lo[axis]);
            }
            stmt_store(L->p, lower_block(L), b, at, lower_elem(L, v, idx), NULL);
            lower_close(L, w->rank);
        }
        return;
    }
    /* a pad: for each axis the slabs before and after the input, as wide as the input along the axes done before */
    const Value *v = n->in[0];
    Expr *lo[MAX_RANK], *idx[MAX_RANK];
    held(n, 0, lo, step);
    for (int axis = 0; axis < w->rank; axis++)
        for (int side = 0; side < 2; side++) {
            Expr *from = side ? expr_add(c, lo[axis], v->dim[axis]) : expr_int(c, 0);
            Expr *size = side ? expr_sub(c, w->dim[axis], from) : lo[axis];
            if (is_value(size, 0)) continue;
            for (int k = 0; k < w->rank; k++) {
                int a = w->order ? w->order[k] : k;
                Expr *trip = a == axis ? size : a < axis ? v->dim[a] : w->dim[a];
                Expr *shift = a == axis ? from : a < axis ? lo[a] : expr_int(c, 0);
                idx[a] = expr_add(c, lower_open(L, "i", trip, true), shift);
            }
            stmt_store(L->p, lower_block(L), b, idx, lower_compute(L, w, idx), NULL);
            lower_close(L, w->rank);
        }
}

static void lower_node(Lower *L, Node *n) {
    if (n->op->kind == OP_CONTROL || n->op->kind == OP_SEQUENCE) {
        if (n->op->lower) n->op->lower(L, n);
        return;
    }
    if (n->op->lower) {
        for (int i = 0; i < n->nout; i++) lower_buf(L, n->out[i]);
        Stmt *s = lower_open_nest(L, n->op->name);
        if (n->label) text_put(L->sources, n->label);
        n->op->lower(L, n);
        lower_close_nest(L, s);
        return;
    }
    for (int i = 0; i < n->nout; i++) {
        Value *v = n->out[i];
        if (v->place != PL_ROOT || lent(v)) continue;
        Buf *b = lower_buf(L, v);
        Stmt *s = lower_open_nest(L, n->op->name);
        s->nest->note = n->note;
        fill_rest(L, n, v, b);
        lower_close_nest(L, s);
    }
}

void lower_copy(Lower *L, Value *v, Buf *to) {
    Stmt *s = lower_open_nest(L, "copy");
    fill(L, v, to, lower_elem);
    lower_close_nest(L, s);
}

void lower_nodes(Lower *L, Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        lower_node(L, g->nodes.v[i]);
        gd_check_time(L->c);
    }
}

/* The output in whose memory input i lies: a state that the program changes. -1: none. */
static int state_output(Graph *g, int i) {
    for (int k = 0; k < g->states.n; k++)
        if (g->states.v[k]->in == i) return g->states.v[k]->out;
    return -1;
}

/* Inputs, then outputs. copy: outputs that are filled by a copy at the end; a state's memory holds its old value till then. */
static void open_ports(Lower *L, Graph *g, Buf **copy, bool *alloc) {
    int nin = 0;
    for (int i = 0; i < g->in.n; i++)
        if (state_output(g, i) < 0) map_putp(L->bufs, g->in.v[i], port(L, SP_IN, g->in.v[i], nin++, g->in_names.v[i]));
    for (int i = 0; i < g->out.n; i++) {
        Value *v = g->out.v[i];
        int state = -1;
        for (int k = 0; k < g->in.n; k++)
            if (state_output(g, k) == i) state = k;
        Buf *b = port(L, SP_OUT, v, i, state >= 0 ? g->in_names.v[state] : g->out_names.v[i]);
        alloc[i] = value_data_sized(L->c, v);
        bool own = v->def && v->place == PL_ROOT && !v->into && !v->order && v->def->graph == g && !map_getp(L->bufs, v) &&
                   !alloc[i] && state < 0;
        if (own) map_putp(L->bufs, v, b);
        else copy[i] = b;
        if (state >= 0) map_putp(L->bufs, g->in.v[state], b);
    }
}

Program *lower_graph(Graph *g) {
    Ctx *c = g->c;
    Program *p = program_new(c, g->name);
    Lower L = {.c = c, .p = p, .g = g, .bufs = map_new(c), .where = map_new(c)};
    Scope top = {.block = &p->body, .memo = map_new(c), .floor = true};
    L.scope = &top;
    for (int i = 0; i < g->syms.n; i++) vec_push(c, &p->syms, g->syms.v[i]);
    Buf **copy = gd_new_array(c, Buf *, g->out.n ? g->out.n : 1);
    bool *alloc = gd_new_array(c, bool, g->out.n ? g->out.n : 1);
    open_ports(&L, g, copy, alloc);
    lower_nodes(&L, g);
    for (int i = 0; i < g->out.n; i++) {
        if (alloc[i]) stmt_new(p, &p->body, S_ALLOC)->buf = copy[i];
        if (copy[i] && map_getp(L.bufs, g->out.v[i]) != copy[i]) lower_copy(&L, g->out.v[i], copy[i]);
    }
    p->after = "lower";
    return p;
}

/* ---- folding ---- */

static int64_t small_count(const Value *v) {
    int64_t n = 1, dims[MAX_RANK];
    if (v->sequence || v->dt == STRING || !value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++) n = dims[i] > MAX_ELEMS ? MAX_ELEMS + 1 : n * dims[i];
    return n <= MAX_ELEMS ? n : -1;
}

static void fold_value(Lower *L, Value *v) {
    int64_t n = small_count(v), dims[MAX_RANK], k[MAX_RANK] = {0};
    if (n < 0) return;
    value_static(v, dims);
    Expr *idx[MAX_RANK], **elems = gd_new_array(L->c, Expr *, n ? n : 1);
    for (int64_t i = 0; i < n; i++) {
        for (int a = 0; a < v->rank; a++) idx[a] = expr_int(L->c, k[a]);
        elems[i] = lower_compute(L, v, idx);
        if (L->failed) return;
        for (int a = v->rank - 1; a >= 0 && ++k[a] == dims[a]; a--) k[a] = 0;
    }
    v->elems = elems;
}

void lower_fold_node(Node *n) {
    if (n->op->kind == OP_RANDOM || n->op->kind == OP_CONTROL || n->op->lower || (n->op->flags & OF_EFFECT)) return;
    Lower L = {.c = n->graph->c, .g = n->graph, .fold = true, .budget = 4096};
    for (int i = 0; i < n->nout && !L.failed; i++) fold_value(&L, n->out[i]);
}
