/* Making nodes: attributes, shapes, checks, known elements. See graph.h. */
#include "graph.h"
#include "op.h"
#include "lower.h"

/* ---- making ---- */

Node *node_begin(Graph *g, const char *name) {
    const Op *op = op_named(name);
    if (!op) gd_bug(g->c, "no op is named %s", name);
    if ((*g->next_id) > gd_budget(g->c)->max_nodes * 4) gd_fail(g->c, 502, "raise --max-nodes", "the graph has too many nodes");
    Node *n = gd_new(g->c, Node);
    n->op = op;
    n->graph = g;
    n->label = g->label;
    n->attr = gd_new_array(g->c, Attr, MAX_ATTRS);
    for (int i = 0; i < MAX_ATTRS && op->attrs[i].name; i++) {
        const AttrDef *d = &op->attrs[i];
        if (d->required) continue;
        if (d->kind == AT_INT) n->attr[i] = (Attr){.kind = AT_INT, .i = (int64_t)d->def};
        if (d->kind == AT_FLOAT) n->attr[i] = (Attr){.kind = AT_FLOAT, .f = d->def};
    }
    return n;
}

void node_input(Node *n, Value *v) {
    if (!(n->nin & (n->nin - 1))) { /* a power of two: full */
        Value **more = gd_new_array(n->graph->c, Value *, n->nin ? 2 * n->nin : 1);
        if (n->nin) memcpy(more, n->in, (size_t)n->nin * sizeof *more);
        n->in = more;
    }
    n->in[n->nin++] = v;
}

static Attr *slot(Node *n, const char *name, AttrKind kind) {
    int i = op_attr(n->op, name);
    if (i < 0 || n->op->attrs[i].kind != kind) gd_bug(n->graph->c, "op %s has no attribute %s of this kind", n->op->name, name);
    n->attr[i].kind = kind;
    return &n->attr[i];
}

void node_int(Node *n, const char *attr, int64_t v) { slot(n, attr, AT_INT)->i = v; }
void node_float(Node *n, const char *attr, double v) { slot(n, attr, AT_FLOAT)->f = v; }
void node_string(Node *n, const char *attr, const char *v) { slot(n, attr, AT_STRING)->s = gd_strdup(n->graph->c, v); }
void node_dim(Node *n, const char *attr, Expr *v) { slot(n, attr, AT_DIM)->dim = v; }
void node_dtype(Node *n, const char *attr, DType v) { slot(n, attr, AT_DTYPE)->i = v; }

#define LIST_SETTER(NAME, KIND, T, FIELD)                                                                     \
    void NAME(Node *n, const char *attr, int count, T const *v) {                                            \
        Attr *a = slot(n, attr, KIND);                                                                       \
        if (count < 0) count = 0; /* the rank of a value that failed */                                      \
        T *copy = gd_alloc_array(n->graph->c, (size_t)(count > 0 ? count : 1), sizeof(T));                   \
        if (count) memcpy(copy, v, (size_t)count * sizeof(T));                                               \
        a->n = count;                                                                                        \
        a->FIELD = copy;                                                                                     \
    }
LIST_SETTER(node_ints, AT_INTS, int64_t, ints)
LIST_SETTER(node_floats, AT_FLOATS, double, floats)
LIST_SETTER(node_dims, AT_DIMS, Expr *, dims)
LIST_SETTER(node_syms, AT_SYMS, Var *, syms)

const Attr *node_attr(const Node *n, const char *name) {
    int i = op_attr(n->op, name);
    if (i < 0) gd_bug(n->graph->c, "op %s has no attribute %s", n->op->name, name);
    return &n->attr[i];
}
int64_t attr_int(const Node *n, const char *name) { return node_attr(n, name)->i; }
double attr_float(const Node *n, const char *name) { return node_attr(n, name)->f; }
const char *attr_string(const Node *n, const char *name) { return node_attr(n, name)->s; }

/* ---- checks ---- */

void node_error(const Node *n, int code, const char *help, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n->label) gd_error(n->graph->c, code, help, "node %s: %s", n->label, text);
    else gd_error(n->graph->c, code, help, "%s: %s", n->op->name, text);
}

static bool type_fits(const char *types, DType dt) {
    if (!types || !strcmp(types, "any")) return true;
    bool fl = dt_float(dt) || dt_small(dt);
    if (!strcmp(types, "float")) return fl;
    if (!strcmp(types, "int")) return dt_int(dt);
    if (!strcmp(types, "num")) return fl || dt_int(dt);
    if (!strcmp(types, "bool")) return dt == BOOL;
    return gd_dtype_named(types) == dt;
}

static bool inputs_fit(Node *n) {
    int min, max = op_arity(n->op, &min);
    if (n->nin < min || (max >= 0 && n->nin > max)) {
        node_error(n, 205, NULL, "%s takes %d%s inputs, not %d", n->op->name, min, max < 0 ? " or more" : "", n->nin);
        return false;
    }
    for (int i = 0; i < min; i++)
        if (!n->in[i]) {
            node_error(n, 205, NULL, "input %d is missing", i);
            return false;
        }
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank < 0 && !n->in[i]->sequence) return false; /* of a node that failed: said already */
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && (n->in[i]->sequence || n->in[i]->optional) && n->op->kind != OP_CONTROL && n->op->kind != OP_SEQUENCE) {
            node_error(n, 302, "take a tensor out of it first", "input %d is %s, not a tensor", i, value_type_text(n->graph->c, n->in[i]));
            return false;
        }
    if (n->nin && n->in[0] && !type_fits(n->op->types, n->in[0]->dt)) {
        node_error(n, 302, NULL, "%s takes %s, not %s", n->op->name, n->op->types, gd_dtypes[n->in[0]->dt].name);
        return false;
    }
    return true;
}

static void check_node(Node *n, Expr *cond, const char *what) {
    Node *check = node_begin(n->graph, "check");
    node_dim(check, "cond", cond);
    node_string(check, "what", what);
    check->label = n->label;
    node_finish(check);
}

void node_require(Node *n, Expr *cond, const char *what) {
    if (is_const(cond)) {
        if (!cond->bits) node_error(n, 301, NULL, "%s", what);
        return;
    }
    check_node(n, cond, what);
}

Expr *node_same_dim(Node *n, Expr *a, Expr *b, const char *what) {
    if (a == b) return a;
    node_require(n, expr2(n->graph->c, E_EQ, a, b), what);
    return is_const(b) ? b : a;
}

int node_axis(Node *n, int64_t axis, int rank) {
    if (axis < -rank || axis >= (rank ? rank : 1)) {
        node_error(n, 204, NULL, "axis %lld is outside a tensor of rank %d", (long long)axis, rank);
        return 0;
    }
    return (int)(axis < 0 ? axis + rank : axis);
}

/* No dim is negative, and the bytes that the numbers among them make (zeros aside) are a number. */
static void check_sizes(const Node *n, DType dt, int rank, Expr *const *dim) {
    int64_t bytes = gd_dtypes[dt].bytes, d;
    for (int i = 0; i < rank; i++) {
        if (!is_int(dim[i], &d)) continue;
        if (d < 0) { node_error(n, 301, NULL, "axis %d of the result would have %lld elements", i, (long long)d); return; }
        if (!d || !__builtin_mul_overflow(bytes, d, &bytes)) continue;
        node_error(n, 505, NULL, "the size of the result overflows");
        return;
    }
}

void node_out(Node *n, int port, DType dt, int rank, Expr *const *dim) {
    Value *v = n->out[port];
    if (!v) return;
    check_sizes(n, dt, rank, dim);
    v->dt = dt;
    v->rank = rank;
    v->dim = gd_new_array(n->graph->c, Expr *, rank > 0 ? rank : 1);
    for (int i = 0; i < rank; i++) v->dim[i] = dim[i];
}

/* ---- the shape of a MAP: numpy's broadcasting ---- */

Expr *node_broadcast_dim(Node *n, Expr *a, Expr *b) {
    Ctx *c = n->graph->c;
    if (a == b || is_value(b, 1)) return a;
    if (is_value(a, 1)) return b;
    int64_t k;
    bool ka = is_int(a, &k), kb = is_int(b, &k);
    const char *what = gd_format(c, "dims %s and %s do not broadcast", expr_text(c, a), expr_text(c, b));
    if (ka && kb) { node_error(n, 301, NULL, "%s", what); return a; }
    Expr *one = expr_int(c, 1), *a1 = expr2(c, E_EQ, a, one), *b1 = expr2(c, E_EQ, b, one);
    node_require(n, expr2(c, E_OR, expr2(c, E_EQ, a, b), ka ? b1 : kb ? a1 : expr2(c, E_OR, a1, b1)), what);
    return ka ? a : kb ? b : expr_select(c, a1, b, a); /* a number other than 1 decides */
}

static void map_shape(Node *n) {
    Expr *dim[MAX_RANK];
    int rank = 0;
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank > rank) rank = n->in[i]->rank;
    for (int k = 0; k < rank; k++) dim[k] = expr_int(n->graph->c, 1);
    DType dt = F32;
    for (int i = 0; i < n->nin; i++) {
        Value *v = n->in[i];
        if (!v) continue;
        dt = v->dt;
        for (int k = 0; k < v->rank; k++) dim[rank - v->rank + k] = node_broadcast_dim(n, dim[rank - v->rank + k], v->dim[k]);
    }
    for (int i = 0; i < n->nin; i++) { /* one type, but for the condition of a choice */
        bool condition = i == 0 && n->nin > 2 && n->in[0] && n->in[0]->dt == BOOL;
        if (n->in[i] && !condition && n->in[i]->dt != dt)
            node_error(n, 302, "insert a cast", "input %d is %s, input %d is %s", i, gd_dtypes[n->in[i]->dt].name, n->nin - 1, gd_dtypes[dt].name);
    }
    if (n->op->result) dt = gd_dtype_named(n->op->result);
    for (int i = 0; i < n->nout; i++) node_out(n, i, dt, rank, dim);
}

/* Small outputs whose elements follow from what is known become known, or constant. */
static void settle(Value *v) {
    Graph *g = v->def->graph;
    int64_t n = 1;
    if (!v->elems || !value_static(v, NULL)) return;
    for (int i = 0; i < v->rank; i++) n *= (int64_t)v->dim[i]->bits;
    for (int64_t i = 0; i < n; i++)
        if (!is_const(v->elems[i])) return;
    char *data = gd_alloc_aligned(g->c, (size_t)(n ? n : 1) * (size_t)gd_dtypes[v->dt].bytes);
    for (int64_t i = 0; i < n; i++) gd_store_bits(v->dt, data + i * gd_dtypes[v->dt].bytes, v->elems[i]->bits);
    v->data = data;
    v->elems = NULL;
}

Value *node_finish(Node *n) {
    Graph *g = n->graph;
    const Op *op = n->op;
    if (!n->nout) n->nout = op_outputs(op);
    n->out = gd_new_array(g->c, Value *, n->nout ? n->nout : 1);
    for (int i = 0; i < n->nout; i++) {
        n->out[i] = value_new(g, F32, 0, NULL);
        n->out[i]->rank = -1;
        n->out[i]->def = n;
        n->out[i]->port = i;
    }
    int errors = gd_error_count(g->c);
    if (inputs_fit(n)) {
        if (op->shape) op->shape(n);
        else map_shape(n);
        if (gd_error_count(g->c) > errors)
            for (int i = 0; i < n->nout; i++) n->out[i]->rank = -1;
        else lower_fold_node(n);
    }
    n->id = (*g->next_id)++;
    vec_push(g->c, &g->nodes, n);
    for (int i = 0; i < n->nout; i++) settle(n->out[i]);
    gd_check_time(g->c);
    return n->nout ? n->out[0] : NULL;
}

Value *make_(Graph *g, const char *op, Value *const *in) {
    Node *n = node_begin(g, op);
    for (; *in; in++) node_input(n, *in);
    return node_finish(n);
}
