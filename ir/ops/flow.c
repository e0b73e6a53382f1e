/* What ONNX builds of `loop` and `if`: Loop, Scan, If.

   A loop's region is made from the model's subgraph with arguments of the types of what is carried. Where an iteration changes a
   dim of a carried value, that dim gets a symbol and the region is made again: at most once an axis, so it ends. */
#include "build.h"
#include "loops.h"

/* ---- Loop ---- */

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
    int carried = n->nin > 2 ? n->nin - 2 : 0; /* trip count and condition may be left out */
    Value *count = import_in(n, 0), *cond = import_in(n, 1);
    Expr *trip = NULL;
    if (count) {
        Expr **e = count->rank <= 1 ? value_read(g, count, "trip", NULL) : NULL;
        if (!e) { import_error(n, 301, NULL, "the trip count is not a scalar"); return; }
        trip = expr2(g->c, E_MAX, e[0], expr_int(g->c, 0));
    }
    Var *iter = loop_iteration(g, trip);
    Making m = {.n = n, .attr = import_attr(n, "body"), .lead = 2, .results = 1};
    if (!set_carried(&m, carried, n->in + 2)) return;
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

/* directions: the attribute with those of the inputs. */
static void scan(Import *n, const char *directions) {
    Graph *g = n->g;
    Ctx *c = g->c;
    const int64_t *in_axes, *in_dirs, *out_axes, *out_dirs;
    int nin_axes = import_ints(n, "scan_input_axes", &in_axes), nin_dirs = import_ints(n, directions, &in_dirs);
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

static void import_scan(Import *n) { scan(n, "scan_input_directions"); }

/* Opset 8: all inputs and outputs have a batch axis in front. A loop over it, and the scan of one sample inside. */
static void import_scan8(Import *n) {
    Graph *g = n->g, *outer = graph_region(g);
    Ctx *c = g->c;
    Node probe = {.graph = g, .label = g->label, .op = op_named("loop")};
    Value **whole = n->in, **result = n->out;
    Expr *batch = NULL;
    if (n->nin < 2) { import_error(n, 205, NULL, "%d inputs, at least 2 are needed", n->nin); return; }
    if (whole[0]) { import_error(n, 402, "leave sequence_lens out", "samples of different length"); return; }
    for (int i = 1; i < n->nin; i++) {
        if (!whole[i] || whole[i]->rank < 1) { import_error(n, 301, NULL, "input %d has no batch axis", i); return; }
        batch = batch ? node_same_dim(&probe, batch, whole[i]->dim[0], "the inputs have batches of different size")
                      : whole[i]->dim[0];
    }
    Var *iter = loop_iteration(g, batch);
    n->g = outer;
    n->in = gd_new_array(c, Value *, n->nin);
    n->out = gd_new_array(c, Value *, n->nout ? n->nout : 1);
    for (int i = 1; i < n->nin; i++) {
        Value *sample = build_slice_axis(outer, whole[i], 0, expr_var(c, iter), expr_int(c, 1));
        n->in[i - 1] = build_squeeze(outer, sample, 0);
    }
    n->nin--;
    scan(n, "directions");
    int made = 0;
    while (made < n->nout && n->out[made]) graph_output(outer, "sample", n->out[made++]);
    n->g = g;
    n->in = whole;
    n->nin++;
    n->out = result;
    Node *loop = made == n->nout ? make_loop(g, outer, 0, NULL, made, batch, iter) : NULL;
    for (int i = 0; loop && i < made; i++) n->out[i] = loop->out[i];
}

/* ---- If ---- */

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
    import_require(n, expr2(g->c, E_EQ, value_count(g->c, cond), expr_int(g->c, 1)), "the condition has one element");
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
    if (cond->rank) cond = build_reshape(g, cond, 0, NULL);
    Node *node = node_begin(g, "if");
    node_input(node, cond);
    node_syms(node, "syms", syms.n, syms.v);
    node->region = region;
    node->nregions = 2;
    node->nout = region[0]->out.n;
    node_finish(node);
    for (int i = 0; i < n->nout && i < node->nout; i++) n->out[i] = node->out[i];
}

const Op gd_ops_flow[] = {
    {.kind = OP_BUILD, .onnx = "Loop", .import = import_loop, .doc = "A loop with a trip count, a condition, or both."},
    {.kind = OP_BUILD, .onnx = "Scan", .since = 9, .import = import_scan, .doc = "A loop over the slices of its inputs."},
    {.kind = OP_BUILD, .onnx = "Scan", .import = import_scan8, .doc = "The form of opset 8, with a batch axis."},
    {.kind = OP_BUILD, .onnx = "If", .import = import_if, .doc = "One of two graphs; one whose condition is known is not a choice any more."},
};
const int gd_ops_flow_n = sizeof gd_ops_flow / sizeof *gd_ops_flow;
