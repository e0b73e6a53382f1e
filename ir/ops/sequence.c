/* Sequences and optionals whose length is known while compiling: lists of values. They exist during import only, no node
   makes or takes one; what is done to them becomes views of their tensors. A position may be a symbol: then an element is
   a `pick` among those that it can be, whatever their sizes. An optional is what it holds, or nothing. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"

/* ---- pick: one of several tensors ---- */

static Expr *is_which(Ctx *c, const Node *n, int i) {
    return expr2(c, E_EQ, node_attr(n, "which")->dim, expr_int(c, i));
}

/* The last one stands for every other number. */
static void pick_shape(Node *n) {
    Ctx *c = n->graph->c;
    Expr *dim[MAX_RANK];
    const Value *last = n->in[n->nin - 1];
    if (!type_eq(node_attr(n, "which")->dim->type, scalar(I64))) { node_error(n, 204, NULL, "attribute which is no integer"); return; }
    for (int k = 0; last && k < last->rank; k++) dim[k] = last->dim[k];
    for (int i = n->nin - 2; i >= 0; i--) {
        const Value *v = n->in[i];
        if (!v || !last || v->rank != last->rank || v->dt != last->dt) {
            node_error(n, 301, NULL, "the tensors to pick from differ in type or number of axes");
            return;
        }
        for (int k = 0; k < v->rank; k++) dim[k] = expr_select(c, is_which(c, n, i), v->dim[k], dim[k]);
    }
    if (last) node_out(n, 0, last->dt, last->rank, dim);
}

static Expr *pick_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    Expr *others = expr_bool(c, true), *e = expr_const(c, scalar(n->out[0]->dt), 0);
    for (int i = 0; i < n->nin - 1; i++) others = expr_and(c, others, expr1(c, E_NOT, is_which(c, n, i)));
    e = lower_guarded(L, others, n->in[n->nin - 1], idx, e);
    for (int i = n->nin - 2; i >= 0; i--) e = lower_guarded(L, is_which(c, n, i), n->in[i], idx, e);
    return e;
}

static Value *pick(Graph *g, Expr *which, int count, Value *const *v) {
    int64_t k;
    if (is_int(which, &k) && k >= 0 && k < count) return v[k];
    bool same = true;
    for (int i = 1; i < count; i++) same = same && v[i] == v[0];
    if (same) return v[0];
    Node *n = node_begin(g, "pick");
    for (int i = 0; i < count; i++) node_input(n, v[i]);
    node_dim(n, "which", which);
    return node_finish(n);
}

/* dy where its own number was picked, zeros otherwise: cut or padded to the size that was not. */
static void pick_grad(Grad *G, Node *n, Value *const *dy) {
    Ctx *c = G->g->c;
    for (int i = 0; i < n->nin; i++) {
        Value *x = n->in[i];
        Expr *lo[MAX_RANK], *hi[MAX_RANK];
        for (int k = 0; k < x->rank; k++) {
            lo[k] = expr_int(c, 0);
            hi[k] = expr_sub(c, x->dim[k], dy[0]->dim[k]);
        }
        Value *zero = build_broadcast(G->g, const_scalar(G->g, x->dt, 0), x->rank, x->dim);
        Value *choice[] = {zero, build_pad(G->g, dy[0], lo, hi, NULL, NULL)};
        Expr *mine = i < n->nin - 1 ? is_which(c, n, i) : expr2(c, E_LE, expr_int(c, i), node_attr(n, "which")->dim);
        grad_add(G, x, pick(G->g, expr_select(c, mine, expr_int(c, 1), expr_int(c, 0)), 2, choice));
    }
}

/* ---- lists ---- */

typedef struct List { int n; Value **v; } List; /* n < 0: an optional that holds nothing */

static Value *list_value(Graph *g, DType dt, int n, Value **v) {
    Value *s = value_new(g, n > 0 ? v[0]->dt : dt, 0, NULL);
    List *l = gd_new(g->c, List);
    *l = (List){n, v};
    s->rank = -1;
    s->sequence = true;
    s->optional = n < 0;
    s->mark = l;
    return s;
}

/* The list of an input; NULL after an error. */
static const List *list_in(Import *n, int i) {
    Value *v = import_in(n, i);
    const List *l = v && v->sequence && !v->def ? v->mark : NULL;
    if (l && l->n >= 0) return l;
    if (v && (v->sequence || v->optional))
        import_error(n, 402, NULL, "input %d is a sequence whose length is not known when compiling", i);
    else if (v && v->rank >= 0) import_error(n, 302, NULL, "input %d is %s, not a sequence", i, value_type_text(n->g->c, v));
    return NULL;
}

static bool tensor_in(Import *n, int i) {
    Value *v = import_in(n, i);
    if (v && v->rank >= 0 && !v->sequence && !v->optional) return true;
    if (v && (v->sequence || v->optional)) import_error(n, 302, NULL, "input %d is %s, not a tensor", i, value_type_text(n->g->c, v));
    return false;
}

/* A position in a list of n, from 0 on; `last` where the input is left out. NULL after an error. */
static Expr *position(Import *n, int input, int count, int last) {
    Ctx *c = n->g->c;
    Expr **list, *size = expr_int(c, count);
    int errors = gd_error_count(c), given = import_list(n, NULL, input, &list);
    if (last < 0) import_error(n, 303, NULL, "the sequence is empty");
    if (gd_error_count(c) > errors) return NULL;
    Expr *p = given == 1 ? list[0] : expr_int(c, last);
    if (given > 1) { import_error(n, 301, NULL, "%d positions instead of one", given); return NULL; }
    p = expr_select(c, expr2(c, E_LT, p, expr_int(c, 0)), expr_add(c, p, size), p);
    import_require(n, expr_and(c, expr2(c, E_LE, expr_int(c, 0), p), expr2(c, E_LE, p, expr_int(c, last))),
                   gd_format(c, "position %s in a sequence of %d", expr_text(c, p), count));
    return gd_error_count(c) > errors ? NULL : p;
}

static void import_empty(Import *n) {
    DType dt = import_dtype(n, "dtype", F32);
    if (dt != DT_NONE) n->out[0] = list_value(n->g, dt, 0, NULL);
}

static void import_construct(Import *n) {
    if (!import_need(n, 1, -1) || !import_same_types(n, 0, n->nin)) return;
    Value **v = gd_new_array(n->g->c, Value *, n->nin);
    for (int i = 0; i < n->nin; i++) {
        if (!tensor_in(n, i)) return;
        v[i] = n->in[i];
    }
    n->out[0] = list_value(n->g, F32, n->nin, v);
}

/* Item j of the new list is what was at j, the new one, or what was at j - 1. */
static void import_insert(Import *n) {
    Ctx *c = n->g->c;
    if (!import_need(n, 2, 3)) return;
    const List *l = list_in(n, 0);
    if (!l || !tensor_in(n, 1)) return;
    Expr *p = position(n, 2, l->n, l->n);
    if (!p) return;
    if (l->n && l->v[0]->dt != n->in[1]->dt) { import_error(n, 302, NULL, "a tensor of another type in a sequence"); return; }
    Value **v = gd_new_array(c, Value *, l->n + 1);
    for (int j = 0; j <= l->n; j++) {
        Expr *at = expr_int(c, j), *less = expr2(c, E_LT, at, p), *same = expr2(c, E_EQ, at, p);
        Expr *which = expr_select(c, less, expr_int(c, 0), expr_select(c, same, expr_int(c, 1), expr_int(c, 2)));
        v[j] = pick(n->g, which, 3, (Value *[]){j < l->n ? l->v[j] : n->in[1], n->in[1], j ? l->v[j - 1] : n->in[1]});
    }
    n->out[0] = list_value(n->g, F32, l->n + 1, v);
}

static void import_erase(Import *n) {
    Ctx *c = n->g->c;
    if (!import_need(n, 1, 2)) return;
    const List *l = list_in(n, 0);
    if (!l) return;
    Expr *p = position(n, 1, l->n, l->n - 1);
    if (!p) return;
    Value **v = gd_new_array(c, Value *, l->n);
    for (int j = 0; j < l->n - 1; j++) {
        Expr *less = expr2(c, E_LT, expr_int(c, j), p);
        v[j] = pick(n->g, expr_select(c, less, expr_int(c, 0), expr_int(c, 1)), 2, l->v + j);
    }
    n->out[0] = list_value(n->g, n->in[0]->dt, l->n - 1, v);
}

static void import_at(Import *n) {
    if (!import_need(n, 2, 2)) return;
    const List *l = list_in(n, 0);
    Expr *p = l ? position(n, 1, l->n, l->n - 1) : NULL;
    if (p) n->out[0] = pick(n->g, p, l->n, l->v);
}

static void import_length(Import *n) {
    if (!import_need(n, 1, 1)) return;
    const List *l = list_in(n, 0);
    if (l) n->out[0] = build_scalar(n->g, I64, expr_int(n->g->c, l->n));
}

/* ---- SplitToSequence, ConcatFromSequence ---- */

/* Sizes of the parts: a list; or one size, the last part being what is left. -1 after an error. */
static int part_sizes(Import *n, Expr *dim, Expr ***sizes) {
    Ctx *c = n->g->c;
    int64_t all, size = 1;
    int errors = gd_error_count(c);
    Value *split = import_in(n, 1);
    if (split && split->rank > 0) {
        int count = import_list(n, NULL, 1, sizes);
        Expr *sum = expr_int(c, 0);
        for (int i = 0; i < count; i++) sum = expr_add(c, sum, (*sizes)[i]);
        import_require(n, expr2(c, E_EQ, sum, dim), "the parts do not have as many elements together as the axis");
        return gd_error_count(c) > errors ? -1 : count;
    }
    if (!is_int(dim, &all) || (split && !value_ints(n->g, split, 1, &size))) {
        import_error(n, 402, "fix the size of the axis", "how many parts there are must be known when compiling");
        return -1;
    }
    if (size < 1 || (all + size - 1) / size > 65536) {
        import_error(n, 303, NULL, "parts of %lld elements of %lld", (long long)size, (long long)all);
        return -1;
    }
    int count = (int)((all + size - 1) / size);
    *sizes = gd_new_array(c, Expr *, count ? count : 1);
    for (int i = 0; i < count; i++) (*sizes)[i] = expr_int(c, i < count - 1 ? size : all - i * size);
    return count;
}

static void import_split_to_sequence(Import *n) {
    Ctx *c = n->g->c;
    Expr **size, *at = expr_int(c, 0);
    if (!import_need(n, 1, 2) || !tensor_in(n, 0)) return;
    Value *x = n->in[0];
    int axis = import_axis(n, import_int(n, "axis", 0), x->rank);
    bool keep = import_int(n, "keepdims", 1) || import_in(n, 1);
    int count = axis < 0 ? -1 : part_sizes(n, x->dim[axis], &size);
    if (count < 0) return;
    Value **v = gd_new_array(c, Value *, count ? count : 1);
    for (int i = 0; i < count; i++) {
        v[i] = build_slice_axis(n->g, x, axis, at, size[i]);
        if (!keep) v[i] = build_squeeze(n->g, v[i], axis);
        at = expr_add(c, at, size[i]);
    }
    n->out[0] = list_value(n->g, x->dt, count, v);
}

static void import_concat_from_sequence(Import *n) {
    if (!import_need(n, 1, 1)) return;
    const List *l = list_in(n, 0);
    bool new_axis = import_int(n, "new_axis", 0) != 0;
    if (!l) return;
    if (!import_has(n, "axis")) { import_error(n, 204, NULL, "attribute axis is missing"); return; }
    if (!l->n || l->v[0]->rank < 0) {
        if (!l->n) import_error(n, 303, NULL, "an empty sequence has nothing to put together");
        return;
    }
    int axis = import_axis(n, import_int(n, "axis", 0), l->v[0]->rank + new_axis);
    if (axis < 0) return;
    Value **v = gd_new_array(n->g->c, Value *, l->n);
    for (int i = 0; i < l->n; i++) v[i] = new_axis ? build_unsqueeze(n->g, l->v[i], axis) : l->v[i];
    n->out[0] = build_concat(n->g, l->n, v, axis);
}

/* ---- SequenceMap ---- */

/* The body once for a position: its arguments become the values given, its nodes those of the graph. */
static Graph *map_once(Import *n, Value **args) {
    Graph *g = n->g, *body = n->region(n, import_attr(n, "body"), n->nin, args);
    if (!body) return NULL;
    Map *given = map_new(g->c);
    for (int k = 0; k < body->in.n && k < n->nin; k++) map_putp(given, body->in.v[k], args[k]);
    graph_replace(body, given);
    for (int k = 0; k < body->nodes.n; k++) {
        Node *m = body->nodes.v[k];
        m->graph = g;
        for (int r = 0; r < m->nregions; r++) m->region[r]->outer = g;
        vec_push(g->c, &g->nodes, m);
    }
    return body;
}

/* Further inputs that are sequences give an element to each position, tensors are the same for all. */
static void import_map(Import *n) {
    Ctx *c = n->g->c;
    int errors = gd_error_count(c);
    if (!import_need(n, 1, -1)) return;
    const List *l = list_in(n, 0);
    if (!l) return;
    Value **args = gd_new_array(c, Value *, n->nin), ***out = gd_new_array(c, Value **, n->nout ? n->nout : 1);
    for (int o = 0; o < n->nout; o++) out[o] = gd_new_array(c, Value *, l->n ? l->n : 1);
    for (int i = 0; i < l->n; i++) {
        for (int k = 0; k < n->nin; k++) {
            const List *more = n->in[k] && n->in[k]->sequence ? list_in(n, k) : NULL;
            args[k] = more && i < more->n ? more->v[i] : n->in[k];
            if (more && more->n != l->n) import_error(n, 301, NULL, "sequences of %d and %d tensors", l->n, more->n);
            if (!more && !tensor_in(n, k)) return;
        }
        Graph *body = gd_error_count(c) > errors ? NULL : map_once(n, args);
        if (!body || gd_error_count(c) > errors) return;
        if (body->out.n < n->nout) { import_error(n, 205, NULL, "the body has %d outputs instead of %d", body->out.n, n->nout); return; }
        for (int o = 0; o < n->nout; o++) out[o][i] = body->out.v[o];
    }
    for (int o = 0; o < n->nout; o++) n->out[o] = list_value(n->g, n->in[0]->dt, l->n, out[o]);
}

/* ---- optionals ---- */

static bool run_time_optional(Import *n, const Value *v) {
    if (!v || !v->optional || v->mark) return false;
    import_error(n, 402, NULL, "whether the optional holds something must be known when compiling");
    return true;
}

static bool nothing(const Value *v) { return !v || (v->sequence && v->mark && !v->def && ((const List *)v->mark)->n < 0); }

static void import_optional(Import *n) {
    if (!import_need(n, 0, 1)) return;
    import_attr(n, "type");
    Value *v = import_in(n, 0);
    n->out[0] = v ? v : list_value(n->g, F32, -1, NULL);
}

static void import_has_element(Import *n) {
    Value *v = import_in(n, 0);
    if (!import_need(n, 0, 1) || run_time_optional(n, v)) return;
    n->out[0] = const_scalar(n->g, BOOL, !nothing(v));
}

static void import_get_element(Import *n) {
    if (!import_need(n, 1, 1) || run_time_optional(n, n->in[0])) return;
    if (nothing(n->in[0])) import_error(n, 303, NULL, "the optional holds nothing");
    else n->out[0] = n->in[0];
}

/* A chain of branches: is it the first one, else is it the second one ... */
static ExportRef *choose(Export *x, Node *n, int i) {
    ExportRef *mine = export_in(x, n, i);
    if (i == n->nin - 1) return mine;
    ExportRef *cond = export_scalar(x, is_which(x->c, n, i));
    ExportNode *e = export_node(x, "If");
    export_arg(x, e, cond);
    for (int branch = 0; branch < 2; branch++) {
        ExportGraph *g = export_open(x);
        export_yield(x, branch ? choose(x, n, i + 1) : mine);
        export_close(x);
        export_subgraph(x, e, branch ? "else_branch" : "then_branch", g);
    }
    return export_result(x, e, mine->dt);
}

static void export_pick(Export *x, Node *n) { export_out(x, n, 0, choose(x, n, 0)); }

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_sequence[] = {
    {.name = "pick", .export = export_pick, .kind = OP_VIEW, .in = "x more*", .out = "y", .attrs = {{"which", AT_DIM, 0, true}}, .shape = pick_shape,
     .elem = pick_elem, .grad = pick_grad, .doc = "The tensor with that number, the last one for any other number."},
    {BUILD = "SequenceEmpty", .import = import_empty, .doc = "A sequence of no tensors."},
    {BUILD = "SequenceConstruct", .import = import_construct, .doc = "A sequence of the inputs."},
    {BUILD = "SequenceInsert", .import = import_insert, .doc = "A sequence with one tensor more, by default at the end."},
    {BUILD = "SequenceErase", .import = import_erase, .doc = "A sequence without one of its tensors, by default the last."},
    {BUILD = "SequenceAt", .import = import_at, .doc = "A tensor of a sequence."},
    {BUILD = "SequenceLength", .import = import_length, .doc = "How many tensors a sequence has."},
    {BUILD = "SplitToSequence", .import = import_split_to_sequence, .doc = "Parts of a tensor along an axis."},
    {BUILD = "ConcatFromSequence", .import = import_concat_from_sequence, .doc = "The tensors of a sequence put together along an axis, or a new one."},
    {BUILD = "SequenceMap", .import = import_map, .doc = "A sequence of what a graph makes of each tensor."},
    {BUILD = "Optional", .import = import_optional, .doc = "What it holds, or nothing."},
    {BUILD = "OptionalHasElement", .import = import_has_element, .doc = "Does the optional hold something?"},
    {BUILD = "OptionalGetElement", .import = import_get_element, .doc = "What the optional holds."},
};
const int gd_ops_sequence_n = sizeof gd_ops_sequence / sizeof *gd_ops_sequence;
