/* infer: shapes and known elements again, with what is known now.

   Needs: nothing; it may run whenever more has become known (a size was fixed, a tensor was folded).
   Promises: no symbol is left whose value is known: one with a range of a single number, or one read from a tensor
   whose elements are known. Sizes, attributes and known elements that followed from them are numbers now; a check
   that holds is gone, and one that cannot hold is an error. Every round puts at least one symbol away, so it ends.

     N in 4..4
     n = read s      ; s = [N * 2]         ->      y: f32[8] = broadcast x {dims=[8]}
     y: f32[n] = broadcast x {dims=[n]} */
#include "passes.h"
#include "op.h"
#include "lower.h"

typedef struct Infer { Ctx *c; Graph *g; const Op *read, *check; Map *known; } Infer;

/* ---- what is known ---- */

static int64_t count_of(const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    if (!value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++) n *= dims[i];
    return n;
}

static Expr *now(const Infer *k, Expr *e) { return e ? expr_subst(k->c, e, k->known) : NULL; }

static void learn(Infer *k, Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int j = 0; j < n->nregions; j++) learn(k, n->region[j]);
        if (n->op != k->read || !value_known(n->in[0])) continue;
        const Attr *a = node_attr(n, "syms");
        for (int j = 0; j < a->n && count_of(n->in[0]) == a->n; j++)
            map_putp(k->known, a->syms[j], now(k, expr_cast(k->c, value_elem(g, n->in[0], j), I64)));
    }
}

static int drop_symbols(Infer *k) {
    Graph *g = k->g;
    int n = 0, before = g->syms.n;
    for (int i = 0; i < g->syms.n; i++)
        if (!map_getp(k->known, g->syms.v[i])) g->syms.v[n++] = g->syms.v[i];
    g->syms.n = n;
    return before - n;
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

static void put_graph(Infer *k, Graph *g) {
    int kept = 0;
    for (int i = 0; i < g->in.n; i++) put_value(k, g->in.v[i]);
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        put_node(k, n);
        for (int j = 0; j < n->nregions; j++) put_graph(k, n->region[j]);
        if (stays(k, n)) g->nodes.v[kept++] = n;
    }
    g->nodes.n = kept;
}

void pass_infer(Graph *g, const PassOptions *o) {
    (void)o;
    Infer k = {.c = g->c, .g = g, .read = op_named("read"), .check = op_named("check")};
    for (;;) {
        k.known = map_new(g->c);
        for (int i = 0; i < g->syms.n; i++)
            if (g->syms.v[i]->lo == g->syms.v[i]->hi) map_putp(k.known, g->syms.v[i], expr_int(g->c, g->syms.v[i]->lo));
        learn(&k, g);
        if (!drop_symbols(&k)) return;
        for (int i = 0; i < g->syms.n; i++) g->syms.v[i]->def = now(&k, g->syms.v[i]->def);
        put_graph(&k, g);
        gd_check_time(g->c);
    }
}
