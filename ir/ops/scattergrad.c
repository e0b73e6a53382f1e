/* The gradients of scatter_elements and scatter_nd, by scatters and gathers at the same places.

   Several updates of one element meet in the order of their numbers. Of those that replace only the last is still there; sums pass
   everything on; the extreme's cotangent is shared evenly among its equals; a factor's has the product of all others. */
#include "build.h"
#include "scatter.h"

/* The scatter n of other values. */
static Value *write_again(Graph *g, const Node *n, Value *x, Value *u, const char *reduction) {
    const char *attr = op_attr(n->op, "axis") >= 0 ? "axis" : "batch_dims";
    Node *m = node_begin(g, n->op->name);
    node_input(m, x);
    node_input(m, n->in[1]);
    node_input(m, u);
    node_int(m, attr, attr_int(n, attr));
    node_string(m, "reduction", reduction);
    return node_finish(m);
}

/* What x has where the updates went. */
static Value *read_back(Graph *g, const Node *n, Value *x) {
    bool elements = op_attr(n->op, "axis") >= 0;
    const Value *u = n->in[2];
    Node *m = node_begin(g, elements ? "gather_elements" : "gather_nd");
    node_input(m, x);
    node_input(m, elements ? build_broadcast(g, n->in[1], u->rank, u->dim) : n->in[1]);
    node_int(m, elements ? "axis" : "batch_dims", attr_int(n, elements ? "axis" : "batch_dims"));
    return node_finish(m);
}

static Value *zeros_like(Graph *g, const Value *x) { return build_broadcast(g, const_scalar(g, x->dt, 0), x->rank, x->dim); }

/* ---- updates that replace ---- */

/* A place from the first element on, however it is counted; -1: not known. */
static int64_t place(const Value *i, int64_t at, const Expr *dim) {
    int64_t v = (int64_t)gd_load_bits(i->dt, (const char *)i->data + at * gd_dtypes[i->dt].bytes), size;
    if (i->dt == I32) v = (int32_t)v;
    if (v >= 0) return v;
    return is_int(dim, &size) ? v + size : -1;
}

/* Are the places known while compiling, with no two the same? Of scatter_elements those along the axis count, of scatter_nd
   whole tuples. */
static bool surely_distinct(const Node *n) {
    enum { MOST = 1024 };
    const Value *x = n->in[0], *i = n->in[1], *u = n->in[2];
    bool elements = op_attr(n->op, "axis") >= 0;
    int64_t dim[MAX_RANK], count = 1, inner = 1, size = 1;
    int axis = elements ? (int)attr_int(n, "axis") : 0;
    if (axis < 0) axis += x->rank;
    if (!i->data || (i->dt != I32 && i->dt != I64) || !value_static(i, dim) || i->rank < 1) return false;
    if (elements ? i->dim[axis] != u->dim[axis] : attr_int(n, "batch_dims") != 0) return false;
    for (int k = 0; k < i->rank; k++) {
        count *= dim[k];
        if (elements && k > axis) inner *= dim[k];
    }
    if (count > MOST) return false;
    size = elements ? dim[axis] : dim[i->rank - 1];
    for (int64_t a = 0; elements && a < count; a++) { /* and the ones before it along the axis */
        int64_t p = place(i, a, x->dim[axis]);
        if (p < 0) return false;
        for (int64_t back = a / inner % size, b = a; back > 0; back--)
            if (place(i, b -= inner, x->dim[axis]) == p) return false;
    }
    for (int64_t a = 0; !elements && a < count; a += size)
        for (int64_t b = 0; b <= a; b += size) { /* b = a only looks whether all are known */
            bool same = true;
            for (int64_t k = 0; k < size; k++) {
                int64_t p = place(i, a + k, x->dim[k]);
                if (p < 0) return false;
                same = same && place(i, b + k, x->dim[k]) == p;
            }
            if (same && b < a) return false;
        }
    return size > 0;
}

/* Which updates are still there: each writes its number, and the last one stands. */
static Value *last_written(Graph *g, const Node *n) {
    const Value *x = n->in[0], *u = n->in[2];
    Expr *count = value_count(g->c, u);
    Value *number = build_reshape(g, build_iota(g, I64, 1, &count, 0), u->rank, u->dim);
    Value *none = build_broadcast(g, const_scalar(g, I64, -1), x->rank, x->dim);
    return make(g, "equal", read_back(g, n, write_again(g, n, none, number, "none")), number);
}

static void replace_grad(Grad *G, Node *n, Value *dy) {
    Graph *g = G->g;
    if (grad_wanted(G, n->in[0])) grad_add(G, n->in[0], write_again(g, n, dy, zeros_like(g, n->in[2]), "none"));
    if (!grad_wanted(G, n->in[2])) return;
    Value *du = read_back(g, n, dy);
    grad_add(G, n->in[2], surely_distinct(n) ? du : make(g, "where", last_written(g, n), du, const_scalar(g, du->dt, 0)));
}

/* ---- extremes and products ---- */

static void extreme_grad(Grad *G, Node *n, Value *dy) {
    Graph *g = G->g;
    Value *part[2] = {n->in[0], n->in[2]}, *y[2] = {n->out[0], read_back(g, n, n->out[0])}, *mine[2];
    for (int i = 0; i < 2; i++) mine[i] = build_cast(g, make(g, "equal", part[i], y[i]), dy->dt);
    Value *share = make(g, "div", dy, write_again(g, n, mine[0], mine[1], "add"));
    grad_add(G, n->in[0], make(g, "mul", mine[0], share));
    if (grad_wanted(G, n->in[2])) grad_add(G, n->in[2], make(g, "mul", mine[1], read_back(g, n, share)));
}

/* p: dy times the product of all that are not 0. The others of a 0 give p if there is no further 0, those of another factor
   p over it if there is none at all. */
static Value *others(Graph *g, Value *x, Value *zeros, Value *p) {
    Map *values = map_new(g->c);
    map_puts(values, "x", x);
    map_puts(values, "zeros", zeros);
    map_puts(values, "p", p);
    return graph_text(g, "x == 0 ? (zeros == 1 ? p : 0) : zeros == 0 ? p / (x == 0 ? 1 : x) : 0", values, NULL);
}

static void product_grad(Grad *G, Node *n, Value *dy) {
    Graph *g = G->g;
    Value *part[2] = {n->in[0], n->in[2]}, *zero = const_scalar(g, dy->dt, 0), *one = const_scalar(g, dy->dt, 1), *none[2], *factor[2];
    for (int i = 0; i < 2; i++) {
        Value *is = make(g, "equal", part[i], zero);
        none[i] = build_cast(g, is, dy->dt);
        factor[i] = make(g, "where", is, one, part[i]);
    }
    Value *zeros = write_again(g, n, none[0], none[1], "add");
    Value *p = make(g, "mul", dy, write_again(g, n, factor[0], factor[1], "mul"));
    grad_add(G, n->in[0], others(g, n->in[0], zeros, p));
    if (grad_wanted(G, n->in[2])) grad_add(G, n->in[2], others(g, n->in[2], read_back(g, n, zeros), read_back(g, n, p)));
}

void scatter_grad(Grad *G, Node *n, Value *const *dy) {
    ExprKind op = E_SELECT;
    scatter_combination(n, &op);
    if (op == E_MAX || op == E_MIN) extreme_grad(G, n, dy[0]);
    else if (op == E_MUL) product_grad(G, n, dy[0]);
    else if (op == E_SELECT) replace_grad(G, n, dy[0]);
    else {
        grad_add(G, n->in[0], dy[0]);
        if (grad_wanted(G, n->in[2])) grad_add(G, n->in[2], read_back(G->g, n, dy[0]));
    }
}
