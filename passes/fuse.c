/* fuse: which values get memory, which are computed where they are used, and which lie inside another's memory.

   Needs: layouts. Promises: every value has a place, and any choice computes the same, so the rules are about cost only:
   an element should be computed about once, memory is written and read as seldom as that allows, and at most one
   convolution or contraction goes into a nest. Nodes are visited once, users before makers: it ends.

     c = conv x, w; b = add c, s; r = relu b   becomes   c inline, b inline, r root: one nest with an epilogue */
#include "op.h"
#include "passes.h"

enum { CHEAP_WEIGHT = 4, MOST_WEIGHT = 1000, LOCAL_BYTES = 16 << 10, MOST_DEPTH = 64 };

typedef struct Use { Node *node; int i; } Use; /* node NULL: an output of the graph */
typedef struct Info {
    VEC(Use) uses;
    bool outside;   /* used in a region below the value's graph */
    bool many;      /* INLINE: an element is computed several times */
    Value *root;    /* the value whose nest computes this one; NULL: several */
    bool lent;      /* another value is a view of its memory */
    bool heavy;     /* ROOT: the nest has its contraction already */
    int weight;     /* see weigh */
    bool behind;
    int depth;      /* INLINE: values between this one and what has memory */
} Info;

typedef struct Fuse { Ctx *c; Graph *g; const PassOptions *o; bool off; } Fuse;

static Info *info(Ctx *c, Value *v) {
    if (!v->mark) v->mark = gd_new(c, Info);
    return v->mark;
}

static void clear(Graph *g) {
    for (int i = 0; i < g->in.n; i++) g->in.v[i]->mark = NULL;
    for (int i = 0; i < g->consts.n; i++) g->consts.v[i]->mark = NULL;
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nout; k++) n->out[k]->mark = NULL;
        for (int k = 0; k < n->nregions; k++) clear(n->region[k]);
    }
}

static bool cheap(const Op *op) { return op->flags & OF_CHEAP; }

static void note_use(Ctx *c, Graph *g, Value *v, Node *n, int i) {
    if (!v) return;
    Info *f = info(c, v);
    Use u = {n, i};
    vec_push(c, &f->uses, u);
    if (v->def && v->def->graph != g) f->outside = true;
}

static void collect(Ctx *c, Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nin; k++) note_use(c, g, n->in[k], n, k);
        for (int k = 0; k < n->nregions; k++) collect(c, n->region[k]);
    }
    for (int i = 0; i < g->out.n; i++) note_use(c, g, g->out.v[i], NULL, i);
}

/* ---- questions ---- */

static bool same_dims(const Value *a, const Value *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

static bool same_order(const Value *a, const Value *b) {
    return a->order == b->order || (a->order && b->order && !memcmp(a->order, b->order, (size_t)a->rank));
}

static bool heavy_kind(const Op *op) { return op->kind == OP_CONTRACT || op->kind == OP_WINDOW; }

static bool needs_memory(const Value *v) {
    const Info *f = v->mark;
    if (v->def->op->lower || v->sequence || f->outside) return true;
    for (int i = 0; i < f->uses.n; i++) {
        const Node *n = f->uses.v[i].node;
        if (!n || n->op->lower || n->op->kind == OP_CONTROL || n->op->kind == OP_SEQUENCE) return true;
    }
    return false;
}

/* Are elements of v read more than once by one use? */
static bool use_rereads(const Value *v, const Use *u) {
    const Node *n = u->node;
    if (n->op->rereads && n->op->rereads(n, u->i)) return true;
    if (n->op->kind == OP_MAP && !same_dims(v, n->out[0])) return true;
    for (int k = 0; k < n->nout; k++) {
        const Info *f = n->out[k]->mark;
        if (f && n->out[k]->place == PL_INLINE && f->many) return true;
    }
    return false;
}

static bool read_many(const Value *v) {
    const Info *f = v->mark;
    for (int i = 0; i < f->uses.n; i++)
        if (use_rereads(v, &f->uses.v[i])) return true;
    return false;
}

/* The one nest all uses are in, or NULL. */
static Value *common_root(const Value *v) {
    const Info *f = v->mark;
    Value *root = NULL;
    for (int i = 0; i < f->uses.n; i++) {
        const Node *n = f->uses.v[i].node;
        if (!n || n->nout != 1) return NULL;
        Value *y = n->out[0], *r = y->place == PL_ROOT ? y : ((Info *)y->mark)->root;
        if (!r || (root && r != root)) return NULL;
        root = r;
    }
    return root;
}

/* From v to its root by element-by-element nodes of v's own shape only. */
static bool straight_to_root(const Value *v) {
    for (;;) {
        const Info *f = v->mark;
        if (f->uses.n != 1 || !f->uses.v[0].node) return false;
        const Node *n = f->uses.v[0].node;
        if (n->op->kind != OP_MAP || !same_dims(v, n->out[0])) return false;
        if (n->out[0]->place == PL_ROOT) return true;
        v = n->out[0];
    }
}

/* Is all memory of the root's shape that goes into x in the root's order? Vectors then run through it without gaps. */
static bool in_order(const Value *x, const Value *root, int depth) {
    enum { DEEPEST = 8 };
    if (!x || x->data || !same_dims(x, root)) return true;
    if (!same_order(x, root)) return false;
    bool fine = true;
    for (int i = 0; x->def && x->def->op->kind == OP_MAP && i < x->def->nin && depth < DEEPEST; i++)
        fine = fine && in_order(x->def->in[i], root, depth + 1);
    return fine;
}

/* The same for what joins v on its way to the root. */
static bool in_order_to_root(const Value *v, const Value *root) {
    while (v != root) {
        const Node *n = ((const Info *)v->mark)->uses.v[0].node;
        for (int i = 0; i < n->nin; i++)
            if (!in_order(n->in[i], root, 0)) return false;
        v = n->out[0];
    }
    return true;
}

/* A reduced value is computed once a row of the root's nest when the axes it varies along are loops outside of the
   axes it is broadcast along. Only rows of the same rank are recognised (keepdims). */
static bool once_a_row(const Value *v, const Value *root) {
    if (v->rank != root->rank) return false;
    bool inner = false;
    for (int i = 0; i < root->rank; i++) {
        int axis = root->order ? root->order[i] : i;
        if (is_value(v->dim[axis], 1) && !is_value(root->dim[axis], 1)) inner = true;
        else if (!is_value(v->dim[axis], 1) && inner) return false;
    }
    return true;
}

/* An index map without divisions. */
static bool plain_view(const Node *n) {
    if (n->op->kind != OP_VIEW || n->op->holds) return false;
    return !(n->op->flags & OF_SAME_DATA);
}

static int64_t row_bytes(const Value *v, int axis) {
    int64_t bytes = gd_dtypes[v->dt].bytes, d;
    for (int i = axis; i < v->rank; i++) {
        if (!is_int(v->dim[i], &d)) return INT64_MAX;
        bytes = d && bytes > INT64_MAX / d ? INT64_MAX : bytes * d;
    }
    return bytes;
}

/* The first axis of the rows within which an expensive value is used again, for a LOCAL place; -1: none. */
static int local_axis(const Value *v, const Value *root) {
    const Info *f = v->mark;
    int axis = -1;
    if (!same_dims(v, root) || root->order || v->order) return -1;
    for (int i = 0; i < f->uses.n; i++) {
        const Node *n = f->uses.v[i].node;
        const Value *y = n->out[0];
        if (n->op->kind != OP_REDUCE || y->rank != v->rank) continue;
        for (int a = v->rank - 1; a >= 0; a--)
            if (is_value(y->dim[a], 1) && !is_value(v->dim[a], 1) && (axis < 0 || a < axis)) axis = a;
    }
    return axis >= 0 && row_bytes(v, axis) <= LOCAL_BYTES ? axis : -1;
}

/* Makers before users: what computing an element costs when whatever is cheap before it is computed with it (instructions
   and memory accesses), and whether a contraction or pooling of full size stands right before it, used by it alone. */
static void weigh(Ctx *c, Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nregions; k++) weigh(c, n->region[k]);
        int w = n->op->kind == OP_VIEW ? 0 : cheap(n->op) ? 1 : 10;
        bool behind = false;
        for (int k = 0; k < n->nin; k++) {
            Value *x = n->in[k];
            if (!x || x->data) continue;
            const Info *f = info(c, x);
            w += x->def && cheap(x->def->op) ? f->weight : 1;
            if (!x->def || f->uses.n != 1 || !n->nout || !same_dims(x, n->out[0])) continue;
            behind |= heavy_kind(x->def->op) || (x->def->op->kind == OP_MAP && f->behind);
        }
        for (int k = 0; k < n->nout; k++) {
            info(c, n->out[k])->weight = w < MOST_WEIGHT ? w : MOST_WEIGHT;
            info(c, n->out[k])->behind = behind;
        }
    }
}

/* ---- the decision ---- */

static Place decide(Fuse *t, Value *v) {
    Node *n = v->def;
    Info *f = info(t->c, v);
    if (!f->uses.n && !n->op->lower) return PL_INLINE;
    if (needs_memory(v) || (n->op->flags & OF_OWN) || f->depth > MOST_DEPTH) return PL_ROOT; /* a nest is of a size that one can read and compile */
    if (t->off) return n->op->kind == OP_VIEW && !n->op->holds ? PL_INLINE : PL_ROOT;
    bool many = read_many(v), once = f->uses.n == 1 && !many;
    Value *root = common_root(v);
    if (heavy_kind(n->op)) {
        if (!once || !root || !straight_to_root(v) || !in_order_to_root(v, root) || info(t->c, root)->heavy) return PL_ROOT;
        info(t->c, root)->heavy = true;
        return PL_INLINE;
    }
    if (n->op->kind == OP_REDUCE) {
        if (root && (once ? straight_to_root(v) : once_a_row(v, root))) return PL_INLINE;
        return PL_ROOT;
    }
    if (n->op->kind == OP_SORT || n->op->kind == OP_RANDOM) return PL_ROOT;
    if (n->op->holds) return PL_ROOT; /* its inputs are written in place; computing it costs a choice an element */
    if (once && n->op->kind == OP_MAP && f->behind && !straight_to_root(v)) return PL_ROOT; /* stays an epilogue */
    if (once) return PL_INLINE;
    if (plain_view(n)) return PL_INLINE;
    if (n->op->kind == OP_VIEW) return many ? PL_ROOT : PL_INLINE;
    if (!v->rank && cheap(n->op) && f->weight <= CHEAP_WEIGHT) return PL_INLINE;
    if (cheap(n->op) && !many && f->weight <= CHEAP_WEIGHT && !f->behind) return PL_INLINE;
    if (root && !f->behind && (v->local_axis = (uint8_t)local_axis(v, root)) != (uint8_t)-1) return PL_LOCAL;
    return PL_ROOT;
}

static void place(Fuse *t, Value *v) {
    Info *f = info(t->c, v);
    v->into = NULL;
    for (int i = 0; i < f->uses.n; i++) {
        const Node *n = f->uses.v[i].node;
        for (int k = 0; n && k < n->nout; k++) {
            int below = n->out[k]->place == PL_ROOT ? 0 : info(t->c, n->out[k])->depth;
            if (below + 1 > f->depth) f->depth = below + 1;
        }
    }
    v->place = (uint8_t)decide(t, v);
    f->root = v->place == PL_ROOT ? v : common_root(v);
    f->many = v->place == PL_INLINE && f->uses.n && read_many(v);
    if (v->place == PL_ROOT && heavy_kind(v->def->op)) f->heavy = true;
    if (v->place == PL_ROOT && f->uses.n > 1 && heavy_kind(v->def->op) && !v->def->note)
        v->def->note = gd_format(t->c, "kept in memory: used %d times", f->uses.n);
}

/* ---- storage inside another value's storage ---- */

static bool is_output(const Value *v) {
    const Graph *g = v->def->graph;
    for (int i = 0; i < g->out.n; i++)
        if (g->out.v[i] == v) return true;
    return false;
}

static bool may_lie_in(const Value *v, const Value *w) {
    if (!v || !v->def || v->data || v->place != PL_ROOT || v->into || v->dt != w->dt || v->def->graph != w->def->graph) return false;
    if (((const Info *)v->mark)->lent) return false;
    if (v->def->op->kind == OP_CONTROL || v->def->op->kind == OP_SEQUENCE) return false;
    return !is_output(v);
}

/* Is all of x in memory, row after row, for as long as values of y's graph need it? */
static bool may_lend(const Value *x, const Value *y) {
    int64_t dims[MAX_RANK];
    if (x->order || x->sequence || x->dt != y->dt) return false;
    if (x->data) return true;
    if (!x->def) return !y->def->graph->outer; /* an input; the arguments of a region change */
    return x->place == PL_ROOT && x->def->graph == y->def->graph && !is_output(x) &&
           (!x->into || ((const Info *)x->into->mark)->lent) && value_static(x, dims);
}

static bool never_negative(Ctx *c, Expr *e) {
    int64_t lo, hi;
    expr_range(c, e, &lo, &hi);
    return lo >= 0;
}

static void store_inside(Fuse *t, Node *n) {
    Value *w = n->out[0];
    if (w->place != PL_ROOT) return;
    if ((n->op->flags & OF_SAME_DATA) && n->in[0]) {
        Value *v = n->in[0];
        if (w->order || w->into) return;
        if (may_lie_in(v, w) && !v->order) v->into = w;
        else if (may_lend(v, w) && !is_output(w)) {
            w->into = v;
            info(t->c, v)->lent = true;
        }
        return;
    }
    if (!n->op->holds) return;
    for (int i = 0; i < n->nin; i++) {
        Value *v = n->in[i];
        Expr *lo[MAX_RANK], *step[MAX_RANK];
        bool twice = false, inside = true;
        for (int k = 0; v && k < v->rank; k++) step[k] = expr_int(t->c, 1);
        if (!may_lie_in(v, w) || !same_order(v, w) || !n->op->holds(n, i, lo, step)) continue;
        for (int k = 0; k < n->nin; k++) twice |= k != i && n->in[k] == v;
        for (int k = 0; k < v->rank; k++) {
            Expr *last = expr_add(t->c, lo[k], expr_mul(t->c, step[k], expr_sub(t->c, v->dim[k], expr_int(t->c, 1))));
            inside = inside && never_negative(t->c, lo[k]) &&
                     never_negative(t->c, expr_sub(t->c, expr_sub(t->c, w->dim[k], last), expr_int(t->c, 1)));
        }
        if (!twice && inside) v->into = w;
    }
}

static void fuse(Fuse *t, Graph *g) {
    for (int i = g->nodes.n - 1; i >= 0; i--) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nregions; k++) fuse(t, n->region[k]);
        for (int k = 0; k < n->nout; k++) place(t, n->out[k]);
    }
    for (int i = g->nodes.n - 1; i >= 0 && !t->off; i--)
        if (g->nodes.v[i]->nout == 1) store_inside(t, g->nodes.v[i]);
}

void pass_fuse(Graph *g, const PassOptions *o) {
    Fuse t = {.c = g->c, .g = g, .o = o, .off = o->opt == 0};
    clear(g);
    collect(g->c, g);
    weigh(g->c, g);
    fuse(&t, g);
}
