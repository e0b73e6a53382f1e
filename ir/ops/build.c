/* Making the common nodes: see build.h. */
#include "build.h"

static bool same_dims(const Value *x, int rank, Expr *const *dim) {
    if (x->rank != rank) return false;
    for (int i = 0; i < rank; i++)
        if (x->dim[i] != dim[i]) return false;
    return true;
}

static Value *with_dims(Graph *g, const char *op, Value *x, int rank, Expr *const *dim) {
    if (x->rank < 0 || rank < 0 || same_dims(x, rank, dim)) return x;
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_dims(n, "dims", rank, dim);
    return node_finish(n);
}
Value *build_reshape(Graph *g, Value *x, int rank, Expr *const *dim) {
    return with_dims(g, "reshape", x, rank, dim);
}
Value *build_broadcast(Graph *g, Value *x, int rank, Expr *const *dim) {
    return with_dims(g, "broadcast", x, rank, dim);
}

Value *build_fit(Graph *g, Value *x, const Value *like) {
    bool fits = x->rank <= like->rank;
    for (int i = 0; i < x->rank && fits; i++)
        fits = is_value(x->dim[i], 1) || x->dim[i] == like->dim[like->rank - x->rank + i];
    return fits || x->rank < 0 || like->rank < 0 ? x : build_broadcast(g, x, like->rank, like->dim);
}

Value *build_transpose(Graph *g, Value *x, const int64_t *perm) {
    bool nothing = true;
    for (int i = 0; i < x->rank; i++) nothing = nothing && perm[i] == i;
    if (nothing) return x;
    Node *n = node_begin(g, "transpose");
    node_input(n, x);
    node_ints(n, "perm", x->rank, perm);
    return node_finish(n);
}

Value *build_slice(Graph *g, Value *x, Expr *const *start, Expr *const *size, Expr *const *step) {
    Expr *one = expr_int(g->c, 1), *ones[MAX_RANK];
    bool nothing = true;
    for (int i = 0; i < x->rank; i++) {
        ones[i] = one;
        nothing = nothing && is_value(start[i], 0) && size[i] == x->dim[i] && (!step || step[i] == one);
    }
    if (nothing) return x;
    Node *n = node_begin(g, "slice");
    node_input(n, x);
    node_dims(n, "start", x->rank, start);
    node_dims(n, "size", x->rank, size);
    node_dims(n, "step", x->rank, step ? step : ones);
    return node_finish(n);
}

Value *build_slice_axis(Graph *g, Value *x, int axis, Expr *start, Expr *size) {
    Expr *from[MAX_RANK], *count[MAX_RANK];
    for (int i = 0; i < x->rank; i++) {
        from[i] = i == axis ? start : expr_int(g->c, 0);
        count[i] = i == axis ? size : x->dim[i];
    }
    return build_slice(g, x, from, count, NULL);
}

Value *build_reverse(Graph *g, Value *x, int axis) {
    Node *n = node_begin(g, "reverse");
    node_input(n, x);
    node_ints(n, "axes", 1, (const int64_t[]){axis});
    return node_finish(n);
}

Value *build_pad(Graph *g, Value *x, Expr *const *lo, Expr *const *hi, const int64_t *interior,
                 Value *value) {
    static const int64_t none[MAX_RANK] = {0};
    bool nothing = true;
    if (!interior) interior = none;
    for (int i = 0; i < x->rank; i++)
        nothing = nothing && is_value(lo[i], 0) && is_value(hi[i], 0) && !interior[i];
    if (nothing) return x;
    Node *n = node_begin(g, "pad");
    node_input(n, x);
    if (value) node_input(n, value);
    node_dims(n, "lo", x->rank, lo);
    node_dims(n, "hi", x->rank, hi);
    node_ints(n, "interior", x->rank, interior);
    return node_finish(n);
}

Value *build_concat(Graph *g, int count, Value *const *x, int axis) {
    if (count == 1) return x[0];
    Node *n = node_begin(g, "concat");
    for (int i = 0; i < count; i++) node_input(n, x[i]);
    node_int(n, "axis", axis);
    return node_finish(n);
}

Value *build_cast(Graph *g, Value *x, DType to) {
    if (x->dt == to) return x;
    Node *n = node_begin(g, "cast");
    node_input(n, x);
    node_dtype(n, "to", to);
    return node_finish(n);
}

Value *build_reduce(Graph *g, const char *op, Value *x, int count, const int64_t *axes, bool keep) {
    if (!count) return x;
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_ints(n, "axes", count, axes);
    node_int(n, "keepdims", keep);
    return node_finish(n);
}

Value *build_iota(Graph *g, DType dt, int rank, Expr *const *dim, int axis) {
    Node *n = node_begin(g, "iota");
    node_dims(n, "dims", rank, dim);
    node_int(n, "axis", axis);
    node_dtype(n, "to", dt);
    return node_finish(n);
}

Value *build_scalar(Graph *g, DType dt, Expr *e) {
    int64_t v;
    if (is_int(e, &v) && !dt_int(dt)) return const_scalar(g, dt, (double)v);
    if (dt_small(dt)) return build_cast(g, build_scalar(g, F32, e), dt);
    e = expr_cast(g->c, e, dt);
    return value_of_exprs(g, 0, 1, &e);
}

Value *build_squeeze(Graph *g, Value *x, int axis) {
    Expr *dim[MAX_RANK];
    if (x->rank < 0) return x;
    for (int i = 0; i < x->rank - 1; i++) dim[i] = x->dim[i + (i >= axis)];
    return build_reshape(g, x, x->rank - 1, dim);
}

Value *build_unsqueeze(Graph *g, Value *x, int axis) {
    Expr *dim[MAX_RANK + 1];
    if (x->rank < 0) return x;
    for (int i = 0; i <= x->rank; i++) dim[i] = i == axis ? expr_int(g->c, 1) : x->dim[i - (i > axis)];
    return build_reshape(g, x, x->rank + 1, dim);
}

int import_axis(Import *n, int64_t axis, int rank) {
    if (rank < 0) return -1;
    if (axis >= -rank && axis < rank) return (int)(axis < 0 ? axis + rank : axis);
    import_error(n, 204, gd_format(n->g->c, "from %d to %d", -rank, rank - 1),
                 "axis %lld is outside a tensor of %d axes", (long long)axis, rank);
    return -1;
}

void import_require(Import *n, Expr *cond, const char *what) {
    Node probe = {.graph = n->g, .label = n->label, .op = op_named("reshape")};
    node_require(&probe, cond, what);
}

bool import_same_types(Import *n, int from, int to) {
    const Value *first = NULL;
    for (int i = from; i < to && i < n->nin; i++) {
        const Value *v = n->in[i];
        if (!v || v->rank < 0) continue;
        if (!first) first = v;
        if (v->dt == first->dt) continue;
        import_error(n, 302, "insert a Cast", "input %d is %s, but input %d is %s", i, gd_dtypes[v->dt].name,
                     from, gd_dtypes[first->dt].name);
        return false;
    }
    return true;
}

Expr *axis_is(Ctx *c, Expr *v, int i, int rank) {
    return expr2(c, E_OR, expr2(c, E_EQ, v, expr_int(c, i)), expr2(c, E_EQ, v, expr_int(c, i - rank)));
}

static bool axis_in_range(Import *n, Expr *v, int rank) {
    Ctx *c = n->g->c;
    int64_t k;
    if (is_int(v, &k)) return import_axis(n, k, rank) >= 0;
    Expr *inside =
        expr2(c, E_AND, expr2(c, E_LE, expr_int(c, -rank), v), expr2(c, E_LT, v, expr_int(c, rank)));
    import_require(n, inside, gd_format(c, "an axis outside a tensor of %d axes", rank));
    return true;
}

bool import_axis_set(Import *n, int count, Expr *const *axes, int rank, Expr **in) {
    Ctx *c = n->g->c;
    Expr *zero = expr_int(c, 0), *one = expr_int(c, 1), *members = zero;
    int errors = gd_error_count(c);
    for (int i = 0; i < count; i++)
        if (!axis_in_range(n, axes[i], rank)) return false;
    for (int i = 0; i < rank; i++) {
        in[i] = expr_bool(c, false);
        for (int k = 0; k < count; k++) in[i] = expr2(c, E_OR, in[i], axis_is(c, axes[k], i, rank));
        members = expr_add(c, members, expr_select(c, in[i], one, zero));
    }
    if (count > 0) import_require(n, expr2(c, E_EQ, members, expr_int(c, count)), "an axis is given twice");
    return gd_error_count(c) == errors;
}

void dims_without(Ctx *c, int rank, Expr *const *in, Expr *const *dim, int nout, Expr **out) {
    Expr *at = expr_int(c, 0), *one = expr_int(c, 1), *zero = at;
    for (int j = 0; j < nout; j++) out[j] = zero;
    for (int i = 0; i < rank; i++) {
        for (int j = 0; j < nout && j <= i; j++) {
            Expr *here = expr2(c, E_AND, expr1(c, E_NOT, in[i]), expr2(c, E_EQ, at, expr_int(c, j)));
            out[j] = expr_select(c, here, dim[i], out[j]);
        }
        at = expr_add(c, at, expr_select(c, in[i], zero, one));
    }
}

bool import_const_scalar(Import *n, int i, int64_t *v) {
    Value *x = import_in(n, i);
    return x && x->rank >= 0 && is_value(value_count(n->g->c, x), 1) && value_ints(n->g, x, 1, v);
}

Value *build_contract(Graph *g, Value *a, Value *b, int nbatch, int64_t ka, int64_t kb) {
    int64_t batch[MAX_RANK];
    for (int i = 0; i < nbatch; i++) batch[i] = i;
    Node *n = node_begin(g, "contract");
    node_input(n, a);
    node_input(n, b);
    node_ints(n, "a_batch", nbatch, batch);
    node_ints(n, "b_batch", nbatch, batch);
    node_ints(n, "a_contract", 1, &ka);
    node_ints(n, "b_contract", 1, &kb);
    return node_finish(n);
}
