/* infer: shapes and known elements again, with what is known now.

   Needs: nothing; it may run whenever more has become known (a size was fixed, a tensor was folded).
   Promises: no symbol of an input is left that can be one number only, and none that is read from a tensor
   whose elements are known. Sizes, attributes and known elements that followed from them are numbers now; a
   check that holds is gone, and one that cannot hold is an error; of an `if` whose condition is known, the
   branch taken stands in its place. Every round puts at least one symbol or one `if` away, so it ends.

     N in 4..4
     n = read s      ; s = [N * 2]         ->      y: f32[8] = broadcast x {dims=[8]}
     y: f32[n] = broadcast x {dims=[n]} */
#include "passes.h"
#include "op.h"
#include "lower.h"

typedef struct Infer {
    Ctx *c;
    Graph *g;
    const Op *read, *check, *choice;
    Map *known, *with;
    bool changed;
} Infer;

/* ---- what is known ---- */

static int64_t count_of(const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    if (!value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++) n *= dims[i];
    return n;
}

static Expr *now(const Infer *k, Expr *e) { return e ? expr_subst(k->c, e, k->known) : NULL; }

/* The branch that an `if` takes, when that is known. */
static Graph *taken(const Infer *k, const Node *n) {
    return n->op == k->choice && n->in[0]->data ? n->region[*(const uint8_t *)n->in[0]->data ? 0 : 1] : NULL;
}

static void learn_read(Infer *k, Node *n) {
    const Attr *a = node_attr(n, "syms");
    for (int j = 0; j < a->n && count_of(n->in[0]) == a->n; j++)
        map_putp(k->known, a->syms[j], now(k, expr_cast(k->c, value_elem(n->graph, n->in[0], j), I64)));
}

/* Dims in which the branches differ had symbols. */
static void learn_choice(Infer *k, const Node *n, const Graph *branch) {
    for (int i = 0; i < n->nout; i++) {
        const Value *v = n->out[i], *r = branch->out.v[i];
        map_putp(k->with, v, (Value *)r);
        for (int a = 0; a < v->rank; a++)
            if (v->dim[a] != r->dim[a] && v->dim[a]->kind == E_VAR)
                map_putp(k->known, v->dim[a]->var, now(k, r->dim[a]));
    }
    k->changed = true;
}

static void learn(Infer *k, Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int j = 0; j < n->nregions; j++) learn(k, n->region[j]);
        if (n->op == k->read && value_known(n->in[0])) learn_read(k, n);
        if (taken(k, n)) learn_choice(k, n, taken(k, n));
    }
}

static void drop_symbols(Infer *k) {
    Graph *g = k->g;
    int n = 0;
    for (int i = 0; i < g->syms.n; i++) {
        if (!map_getp(k->known, g->syms.v[i])) g->syms.v[n++] = g->syms.v[i];
        else k->changed = true;
    }
    g->syms.n = n;
}

/* ---- putting it in ---- */

static void put_value(const Infer *k, Value *v) {
    for (int i = 0; i < v->rank; i++) v->dim[i] = now(k, v->dim[i]);
    if (!v->elems) return;
    int64_t n = count_of(v);
    Expr **e = gd_new_array(k->c, Expr *, n > 0 ? n : 1);
    for (int64_t i = 0; i < n; i++) e[i] = now(k, v->elems[i]);
    v->elems = e;
}

/* Elements that are all numbers are a constant's. */
static void settle(Infer *k, Value *v) {
    int64_t n = v->elems ? count_of(v) : -1, size = gd_dtypes[v->dt].bytes;
    if (n < 0) return;
    for (int64_t i = 0; i < n; i++)
        if (!is_const(v->elems[i])) return;
    char *data = gd_alloc_aligned(k->c, (size_t)((n ? n : 1) * size));
    for (int64_t i = 0; i < n; i++) gd_store_bits(v->dt, data + i * size, v->elems[i]->bits);
    v->data = data;
    v->elems = NULL;
}

static void put_node(Infer *k, Node *n) {
    for (int i = 0; i < MAX_ATTRS; i++) {
        Attr *a = &n->attr[i];
        if (a->kind == AT_DIM) a->dim = now(k, a->dim);
        if (a->kind != AT_DIMS) continue;
        Expr **dims = gd_new_array(k->c, Expr *, a->n ? a->n : 1);
        for (int j = 0; j < a->n; j++) dims[j] = now(k, a->dims[j]);
        a->dims = dims;
    }
    bool open = false;
    for (int i = 0; i < n->nout; i++) {
        put_value(k, n->out[i]);
        open = open || !value_known(n->out[i]);
    }
    if (open && n->nout) lower_fold_node(n);
    for (int i = 0; i < n->nout; i++) settle(k, n->out[i]);
}

/* Is the node still needed? A check that holds is not, nor is what only said what is known. */
static bool stays(Infer *k, Node *n) {
    if (n->op == k->read) {
        const Attr *a = node_attr(n, "syms");
        for (int j = 0; j < a->n; j++)
            if (!map_getp(k->known, a->syms[j])) return true;
        return false;
    }
    if (n->op != k->check) return true;
    const Expr *cond = node_attr(n, "cond")->dim;
    if (is_const(cond) && !cond->bits) node_error(n, 301, NULL, "%s", attr_string(n, "what"));
    return !is_const(cond);
}

static void put_graph(Infer *k, Graph *g);

/* The list of g's nodes is built anew: the nodes of a branch that is taken stand among them. */
static void put_nodes(Infer *k, Graph *g, Graph *from) {
    for (int i = 0; i < from->nodes.n; i++) {
        Node *n = from->nodes.v[i];
        Graph *branch = taken(k, n);
        put_node(k, n);
        n->graph = g;
        for (int j = 0; j < n->nregions; j++) n->region[j]->outer = g;
        if (branch) {
            put_nodes(k, g, branch);
            continue;
        }
        for (int j = 0; j < n->nregions; j++) put_graph(k, n->region[j]);
        if (stays(k, n)) vec_push(k->c, &g->nodes, n);
    }
}

static void put_graph(Infer *k, Graph *g) {
    Graph old = *g;
    g->nodes.v = NULL;
    g->nodes.n = g->nodes.cap = 0;
    for (int i = 0; i < g->in.n; i++) put_value(k, g->in.v[i]);
    put_nodes(k, g, &old);
}

void pass_infer(Graph *g, const PassOptions *o) {
    (void)o;
    Infer k = {.c = g->c,
               .g = g,
               .read = op_named("read"),
               .check = op_named("check"),
               .choice = op_named("if"),
               .changed = true};
    while (k.changed) {
        k.changed = false;
        k.known = map_new(g->c);
        k.with = map_new(g->c);
        for (int i = 0; i < g->syms.n; i++) {
            const Var *v = g->syms.v[i];
            if (!v->data && v->lo == v->hi) map_putp(k.known, v, expr_int(g->c, v->lo));
        }
        learn(&k, g);
        drop_symbols(&k);
        if (!k.changed) return;
        for (int i = 0; i < g->syms.n; i++) g->syms.v[i]->def = now(&k, g->syms.v[i]->def);
        put_graph(&k, g);
        graph_replace(g, k.with);
        gd_check_time(g->c);
    }
}
