/* Sums of products: contract (the general dot product) and conv.

   Both are one fma chain per output element, in index order: contract over its contracting axes as listed, conv over the
   kernel's axes and then the input channels, starting at the bias. No pass changes that order, so the bits are the same
   whatever the tiles, threads and vectors are. Padding is not conv's business: a pad node comes before it. */
#include "build.h"
#include "export.h"
#include "lower.h"
#include "grad.h"
#include "windows.h"

static DType accumulator(DType t) { return dt_small(t) ? F32 : t; }
static Expr *widen(Ctx *c, Expr *e) { return dt_small((DType)e->type.dt) ? expr_cast(c, e, F32) : e; }

/* ---- contract ---- */

/* Axes of an input by role. free: neither batch nor contracting, in order. */
typedef struct Roles { int nbatch, ncontract, nfree; const int64_t *batch, *contract; int free[MAX_RANK]; } Roles;

static Roles roles(const Node *n, int i) {
    const Attr *b = node_attr(n, i ? "b_batch" : "a_batch"), *k = node_attr(n, i ? "b_contract" : "a_contract");
    Roles r = {b->n, k->n, 0, b->ints, k->ints, {0}};
    for (int axis = 0; axis < n->in[i]->rank; axis++) {
        bool taken = false;
        for (int j = 0; j < b->n; j++) taken |= b->ints[j] == axis;
        for (int j = 0; j < k->n; j++) taken |= k->ints[j] == axis;
        if (!taken) r.free[r.nfree++] = axis;
    }
    return r;
}

/* Does each list name axes of its input, none twice? */
static bool roles_fit(Node *n) {
    static const char *const lists[2][2] = {{"a_batch", "a_contract"}, {"b_batch", "b_contract"}};
    bool fits = true;
    for (int i = 0; i < 2; i++) {
        uint64_t seen = 0;
        for (int k = 0; k < 2; k++) {
            const Attr *l = node_attr(n, lists[i][k]);
            fits = fits && l->n == node_attr(n, lists[1 - i][k])->n;
            for (int j = 0; fits && j < l->n; j++) {
                fits = l->ints[j] >= 0 && l->ints[j] < n->in[i]->rank && !(seen >> l->ints[j] & 1);
                if (fits) seen |= (uint64_t)1 << l->ints[j];
            }
        }
    }
    if (!fits) node_error(n, 204, NULL, "the batch and contracting axes do not fit the inputs");
    return fits;
}

static void contract_shape(Node *n) {
    const Value *a = n->in[0], *b = n->in[1];
    if (!roles_fit(n)) return;
    Roles ra = roles(n, 0), rb = roles(n, 1);
    Expr *dim[2 * MAX_RANK];
    int rank = 0;
    Ctx *c = n->graph->c;
    if (a->dt != b->dt) node_error(n, 302, NULL, "the two inputs are %s and %s", gd_dtypes[a->dt].name, gd_dtypes[b->dt].name);
    for (int i = 0; i < ra.nbatch; i++)
        dim[rank++] = node_same_dim(n, a->dim[ra.batch[i]], b->dim[rb.batch[i]], "batch dims of the inputs differ");
    for (int i = 0; i < ra.ncontract; i++) {
        Expr *p = a->dim[ra.contract[i]], *q = b->dim[rb.contract[i]];
        node_same_dim(n, p, q, gd_format(c, "the contracted dims are %s and %s", expr_text(c, p), expr_text(c, q)));
    }
    for (int i = 0; i < ra.nfree; i++) dim[rank++] = a->dim[ra.free[i]];
    for (int i = 0; i < rb.nfree; i++) dim[rank++] = b->dim[rb.free[i]];
    if (rank > MAX_RANK) { node_error(n, 504, NULL, "the output would have %d axes", rank); return; }
    node_out(n, 0, a->dt, rank, dim);
}

typedef struct ContractStep { Node *n; Expr *at[2][MAX_RANK]; Roles r[2]; } ContractStep;

static void contract_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    ContractStep *s = arg;
    Expr *e[2];
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < s->r[i].ncontract; j++) s->at[i][s->r[i].contract[j]] = k[j];
        e[i] = widen(L->c, lower_elem(L, s->n->in[i], s->at[i]));
    }
    next[0] = expr3(L->c, E_FMA, e[0], e[1], acc[0]);
}

static Expr *contract_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    DType dt = n->in[0]->dt;
    ContractStep s = {.n = n, .r = {roles(n, 0), roles(n, 1)}};
    int o = 0;
    for (int i = 0; i < s.r[0].nbatch; i++, o++) s.at[0][s.r[0].batch[i]] = s.at[1][s.r[1].batch[i]] = idx[o];
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < s.r[i].nfree; j++) s.at[i][s.r[i].free[j]] = idx[o++];
    Accum a = {.nloops = s.r[0].ncontract, .nacc = 1, .step = contract_step, .arg = &s,
               .init = {expr_const(L->c, scalar(accumulator(dt)), 0)}};
    for (int i = 0; i < a.nloops; i++) a.trip[i] = n->in[0]->dim[s.r[0].contract[i]];
    Expr *sum;
    lower_accum(L, &a, n->out[0]->rank, idx, &sum);
    return dt_small(dt) ? expr_cast(L->c, sum, dt) : sum;
}

bool contract_free_axis(const Node *n, int y_axis, int *operand, int *axis) {
    Roles r[2] = {roles(n, 0), roles(n, 1)};
    int i = y_axis - r[0].nbatch;
    if (i < 0) return false;
    *operand = i >= r[0].nfree;
    *axis = r[*operand].free[*operand ? i - r[0].nfree : i];
    return true;
}

static bool all_inputs(const Node *n, int i) { (void)n; (void)i; return true; }

/* The cotangent of input i: a product of dy and the other input over the other's free axes. first: dy comes first. */
static Value *operand_grad(Graph *g, const Node *n, Value *dy, int i, bool first, int64_t *perm) {
    Roles r[2] = {roles(n, 0), roles(n, 1)};
    const Roles *me = &r[i], *other = &r[1 - i];
    int nb = me->nbatch, from = nb + (i ? 0 : r[0].nfree); /* the other's free axes in dy */
    int64_t ybatch[MAX_RANK], ycontract[MAX_RANK], ocontract[MAX_RANK];
    for (int k = 0; k < nb; k++) ybatch[k] = k;
    for (int k = 0; k < other->nfree; k++) { ycontract[k] = from + k; ocontract[k] = other->free[k]; }
    Node *d = node_begin(g, "contract");
    node_input(d, first ? dy : n->in[1 - i]);
    node_input(d, first ? n->in[1 - i] : dy);
    node_ints(d, first ? "a_batch" : "b_batch", nb, ybatch);
    node_ints(d, first ? "b_batch" : "a_batch", nb, other->batch);
    node_ints(d, first ? "a_contract" : "b_contract", other->nfree, ycontract);
    node_ints(d, first ? "b_contract" : "a_contract", other->nfree, ocontract);
    /* Its axes: batch, my free axes and the other's contracting ones in the order of its axes, dy's before or behind. */
    int at = nb, mine = nb + (first ? 0 : other->ncontract);
    for (int k = 0; k < nb; k++) perm[me->batch[k]] = k;
    for (int k = 0; k < me->nfree; k++) perm[me->free[k]] = mine++;
    at += first ? me->nfree : 0;
    for (int axis = 0; axis < n->in[1 - i]->rank; axis++)
        for (int k = 0; k < other->ncontract; k++)
            if (other->contract[k] == axis) perm[me->contract[k]] = at++;
    return node_finish(d);
}

/* With out = batch, free a, free b: da = dout . b over b's free axes, then the axes go back to a's order; likewise db. The
   operands stand in the order that needs no going back, if there is one. */
static void contract_grad(Grad *G, Node *n, Value *const *dy) {
    for (int i = 0; i < 2; i++) {
        if (!grad_wanted(G, n->in[i])) continue;
        int64_t perm[MAX_RANK];
        Roles me = roles(n, i);
        bool last = true; /* the contracting axes are behind the free ones */
        for (int k = 0; k < me.ncontract; k++)
            for (int j = 0; j < me.nfree; j++) last &= me.free[j] < me.contract[k];
        Value *v = operand_grad(G->g, n, dy[0], i, last, perm);
        if (v->rank >= 0) grad_add(G, n->in[i], build_transpose(G->g, v, perm));
    }
}

/* numpy's matmul: a [.., M, K] and b [.., K, N], leading dims broadcast, rank 1 on either side. */
static Value *expand_batch(Graph *g, Value *v, int rank, Expr *const *dim) {
    Expr *want[MAX_RANK];
    for (int i = 0; i < rank; i++) want[i] = i < rank - 2 ? dim[i] : v->dim[v->rank - rank + i];
    return build_broadcast(g, v, rank, want);
}

static bool all_ones(const Value *v, int n) {
    for (int i = 0; i < n; i++)
        if (!is_value(v->dim[i], 1)) return false;
    return true;
}

Value *build_matmul(Graph *g, Value *a, Value *b) {
    Ctx *c = g->c;
    if (a->rank < 0 || b->rank < 0) return a;
    bool a1 = a->rank == 1, b1 = b->rank == 1;
    if (a1) a = build_reshape(g, a, 2, (Expr *[]){expr_int(c, 1), a->dim[0]});
    if (b1) b = build_reshape(g, b, 2, (Expr *[]){b->dim[0], expr_int(c, 1)});
    if (a->rank < 2 || b->rank < 2) {
        gd_error(c, 301, "use Mul for scalars", "node %s: matrix product of a scalar", g->label ? g->label : "?");
        return a;
    }
    int rank = a->rank > b->rank ? a->rank : b->rank, nb = rank - 2;
    int64_t batch[MAX_RANK], ka = a->rank - 1, kb = b->rank - 2;
    Node *n;
    if (all_ones(b, b->rank - 2)) { /* one matrix for all rows: no batch */
        Value *m = b->rank == 2 ? b : build_reshape(g, b, 2, b->dim + b->rank - 2);
        n = node_begin(g, "contract");
        kb = 0;
        node_input(n, a);
        node_input(n, m);
        nb = 0;
        rank = a->rank > rank ? a->rank : rank;
    } else {
        Node probe = {.graph = g, .label = g->label, .op = op_named("contract")};
        Expr *dim[MAX_RANK];
        for (int i = 0; i < nb; i++) {
            Expr *p = i < rank - a->rank ? expr_int(c, 1) : a->dim[i - (rank - a->rank)];
            Expr *q = i < rank - b->rank ? expr_int(c, 1) : b->dim[i - (rank - b->rank)];
            dim[i] = node_broadcast_dim(&probe, p, q);
            batch[i] = i;
        }
        a = expand_batch(g, a, rank, dim);
        b = expand_batch(g, b, rank, dim);
        ka = rank - 1;
        kb = rank - 2;
        n = node_begin(g, "contract");
        node_input(n, a);
        node_input(n, b);
    }
    node_ints(n, "a_batch", nb, batch);
    node_ints(n, "b_batch", nb, batch);
    node_ints(n, "a_contract", 1, &ka);
    node_ints(n, "b_contract", 1, &kb);
    Value *y = node_finish(n);
    if (y->rank < 0) return y;
    Expr *dim[MAX_RANK];
    int r = 0;
    if (b->rank > a->rank && nb == 0)
        for (int i = 0; i < b->rank - a->rank; i++) dim[r++] = expr_int(c, 1);
    int lead = r;
    for (int i = 0; i < y->rank; i++)
        if (!(a1 && i == y->rank - 2) && !(b1 && i == y->rank - 1)) dim[r++] = y->dim[i];
    return a1 || b1 || lead ? build_reshape(g, y, r, dim) : y;
}

static void import_matmul(Import *n) {
    if (!import_need(n, 2, 2)) return;
    n->out[0] = build_matmul(n->g, n->in[0], n->in[1]);
}

static Value *scaled(Graph *g, Value *v, double by) { return by == 1.0 ? v : make(g, "mul", v, const_scalar(g, v->dt, by)); }

/* alpha * A' * B' + beta * C */
static void import_gemm(Import *n) {
    if (!import_need(n, 2, 3)) return;
    Graph *g = n->g;
    const int64_t swap[] = {1, 0};
    Value *a = n->in[0], *b = n->in[1], *bias = import_in(n, 2);
    import_int(n, "broadcast", 0);
    if (a->rank != 2 || b->rank != 2) {
        if (a->rank >= 0 && b->rank >= 0) import_error(n, 301, NULL, "the inputs have %d and %d axes, not 2", a->rank, b->rank);
        return;
    }
    if (import_int(n, "transA", 0)) a = build_transpose(g, a, swap);
    if (import_int(n, "transB", 0)) b = build_transpose(g, b, swap);
    Value *y = scaled(g, build_matmul(g, a, b), import_float(n, "alpha", 1));
    n->out[0] = bias ? make(g, "add", y, scaled(g, bias, import_float(n, "beta", 1))) : (import_float(n, "beta", 1), y);
}

/* ---- conv ---- */

static void conv_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *x = n->in[0], *w = n->in[1], *b = n->nin > 2 ? n->in[2] : NULL;
    Expr *dim[MAX_RANK], *group = expr_int(c, attr_int(n, "group"));
    if (x->rank < 3 || w->rank != x->rank) {
        node_error(n, 301, NULL, "the input has %d axes and the kernel %d: both need the same, at least 3", x->rank, w->rank);
        return;
    }
    if (x->dt != w->dt || (b && b->dt != x->dt)) node_error(n, 302, NULL, "input, kernel and bias have different types");
    if (attr_int(n, "group") < 1) { node_error(n, 204, NULL, "group: %lld is not positive", (long long)attr_int(n, "group")); return; }
    node_require(n, expr2(c, E_EQ, x->dim[1], expr_mul(c, w->dim[1], group)),
                 gd_format(c, "the input has %s channels, the kernel expects %s", expr_text(c, x->dim[1]),
                           expr_text(c, expr_mul(c, w->dim[1], group))));
    node_require(n, expr2(c, E_EQ, expr_fmod(c, w->dim[0], group), expr_int(c, 0)), "group does not divide the output channels");
    if (b) node_require(n, expr2(c, E_EQ, value_count(c, b), w->dim[0]), "the bias does not have one element an output channel");
    dim[0] = x->dim[0];
    dim[1] = w->dim[0];
    if (window_shape(n, x, w->dim + 2, dim)) node_out(n, 0, x->dt, x->rank, dim);
}

typedef struct ConvStep { Node *n; Expr *const *idx; Expr *group_base; } ConvStep;

static void conv_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    ConvStep *s = arg;
    Ctx *c = L->c;
    Node *n = s->n;
    int spatial = n->in[0]->rank - 2;
    Expr *x[MAX_RANK], *w[MAX_RANK];
    x[0] = s->idx[0];
    x[1] = expr_add(c, s->group_base, k[spatial]);
    w[0] = s->idx[1];
    w[1] = k[spatial];
    for (int i = 0; i < spatial; i++) {
        x[2 + i] = window_at(c, n, i, s->idx[2 + i], k[i]);
        w[2 + i] = k[i];
    }
    next[0] = expr3(c, E_FMA, widen(c, lower_elem(L, n->in[0], x)), widen(c, lower_elem(L, n->in[1], w)), acc[0]);
}

static Expr *conv_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    static const char *const names[][4] = {{"kw", "ic"}, {"kh", "kw", "ic"}, {"kd", "kh", "kw", "ic"}};
    Ctx *c = L->c;
    const Value *x = n->in[0], *w = n->in[1], *b = n->nin > 2 ? n->in[2] : NULL;
    int spatial = x->rank - 2;
    Expr *per_group = expr_fdiv(c, w->dim[0], expr_int(c, attr_int(n, "group")));
    ConvStep s = {n, idx, expr_mul(c, expr_fdiv(c, idx[1], per_group), w->dim[1])};
    Accum a = {.nloops = spatial + 1, .nacc = 1, .step = conv_step, .arg = &s};
    DType dt = x->dt;
    Expr *at[MAX_RANK] = {idx[1]};
    for (int i = 0; b && i < b->rank; i++) at[i] = i == b->rank - 1 ? idx[1] : expr_int(c, 0);
    a.init[0] = b ? widen(c, lower_elem(L, (Value *)b, at)) : expr_const(c, scalar(accumulator(dt)), 0);
    for (int i = 0; i < spatial; i++) a.trip[i] = w->dim[2 + i];
    a.trip[spatial] = w->dim[1];
    for (int i = 0; i <= spatial && spatial <= 3; i++) a.name[i] = names[spatial - 1][i];
    Expr *sum;
    lower_accum(L, &a, n->out[0]->rank, idx, &sum);
    return dt_small(dt) ? expr_cast(c, sum, dt) : sum;
}

/* The attributes that say how a window moves, from a finished description. */
Value *build_conv(Graph *g, Value *x, Value *w, Value *b, const Window *win, int64_t group) {
    Node *conv = node_begin(g, "conv");
    node_input(conv, x);
    node_input(conv, w);
    if (b) node_input(conv, b);
    node_ints(conv, "strides", win->spatial, win->strides);
    node_ints(conv, "dilations", win->spatial, win->dilations);
    node_int(conv, "group", group);
    return node_finish(conv);
}

static void import_conv(Import *n) {
    if (!import_need(n, 2, 3)) return;
    Value *x = n->in[0], *w = n->in[1];
    Window win;
    if (x->rank < 0 || w->rank < 0) return;
    if (x->rank < 3 || w->rank != x->rank) {
        import_error(n, 301, NULL, "the input has %d axes and the kernel %d: both need the same, at least 3", x->rank, w->rank);
        return;
    }
    if (!import_window(n, x, w->dim + 2, &win)) return;
    n->out[0] = build_conv(n->g, window_pad(n->g, x, &win, 0), w, import_in(n, 2), &win, import_int(n, "group", 1));
}

static void import_conv_transpose(Import *n) {
    if (!import_need(n, 2, 3)) return;
    Ctx *c = n->g->c;
    Value *x = n->in[0], *w = n->in[1];
    Window win;
    const int64_t *more, *shape;
    int64_t group = import_int(n, "group", 1);
    if (x->rank < 0 || w->rank < 0) return;
    if (x->rank < 3 || w->rank != x->rank || group < 1) {
        import_error(n, 301, NULL, "the input has %d axes and the kernel %d: both need the same, at least 3", x->rank, w->rank);
        return;
    }
    int nmore = import_ints(n, "output_padding", &more), nshape = import_ints(n, "output_shape", &shape);
    const char *auto_pad = import_string(n, "auto_pad", "NOTSET");
    if (!import_window_moves(n, x->rank - 2, &win)) return;
    const int64_t *pads;
    int npads = import_ints(n, "pads", &pads), spatial = win.spatial;
    if ((nmore && nmore != spatial) || (nshape && nshape < spatial) || (npads && npads != 2 * spatial)) {
        import_error(n, 204, NULL, "output_padding, output_shape or pads does not have an entry for each of %d axes", spatial);
        return;
    }
    Expr *lo[MAX_RANK], *hi[MAX_RANK], *zero = expr_int(c, 0);
    int64_t interior[MAX_RANK] = {0};
    lo[0] = lo[1] = hi[0] = hi[1] = zero;
    for (int i = 0; i < spatial; i++) {
        Expr *stride = expr_int(c, win.strides[i]), *extra = expr_int(c, nmore ? more[i] : 0);
        Expr *edge = expr_sub(c, window_reach(c, w->dim[2 + i], win.dilations[i]), expr_int(c, 1));
        Expr *before = expr_int(c, npads ? pads[i] : 0), *after = expr_int(c, npads ? pads[spatial + i] : 0);
        /* without pads: stride * (in - 1) + extra + reach */
        Expr *full = expr_add(c, expr_mul(c, stride, expr_sub(c, x->dim[2 + i], expr_int(c, 1))),
                              expr_add(c, extra, expr_add(c, edge, expr_int(c, 1))));
        bool same = !strncmp(auto_pad, "SAME", 4);
        if (nshape || same) {
            Expr *want = nshape ? expr_int(c, shape[nshape - spatial + i]) : expr_mul(c, x->dim[2 + i], stride);
            Expr *total = expr_sub(c, full, want), *half = expr_fdiv(c, total, expr_int(c, 2));
            bool upper = !strcmp(auto_pad, "SAME_UPPER");
            before = upper ? half : expr_sub(c, total, half);
            after = expr_sub(c, total, before);
        }
        lo[2 + i] = expr_sub(c, edge, before);
        hi[2 + i] = expr_add(c, expr_sub(c, edge, after), extra);
        interior[2 + i] = win.strides[i] - 1;
        win.strides[i] = 1;
    }
    Value *spread = build_pad(n->g, x, lo, hi, interior, NULL);
    n->out[0] = build_conv(n->g, spread, turned_kernel(n->g, w, group), import_in(n, 2), &win, group);
}

/* ---- export ---- */

static bool in_order(const int64_t *axes, int n) {
    for (int i = 0; i < n; i++)
        if (axes[i] != i) return false;
    return true;
}

/* numpy's matrix product as it stands: batch axes first, then rows and the contracted axis, in b the other way round. */
static bool is_matmul(const Node *n, const Roles *a, const Roles *b) {
    int nb = a->nbatch;
    if (a->ncontract != 1 || !in_order(a->batch, nb) || !in_order(b->batch, nb)) return false;
    if (a->contract[0] != n->in[0]->rank - 1 || b->contract[0] != nb) return false;
    return nb ? a->nfree == 1 && b->nfree == 1 : b->nfree <= 1;
}

/* A matrix that is another one turned round: that one. */
static Value *unturned(Value *v, bool *turned) {
    const Node *d = v->def;
    *turned = v->rank == 2 && d && !strcmp(d->op->name, "transpose") && node_attr(d, "perm")->ints[0] == 1;
    return *turned ? d->in[0] : v;
}

static bool export_gemm(Export *x, Node *n, const Roles *a, const Roles *b) {
    bool turn[2], matrices = n->in[0]->rank == 2 && n->in[1]->rank == 2 && a->ncontract == 1 && !a->nbatch;
    DType t = n->in[0]->dt;
    if (!matrices || (t != F32 && t != F64)) return false;
    Value *v[2] = {unturned(n->in[0], &turn[0]), unturned(n->in[1], &turn[1])};
    turn[0] ^= a->contract[0] == 0;
    turn[1] ^= b->contract[0] == 1;
    if (!turn[0] && !turn[1]) return false;
    ExportNode *e = export_node(x, "Gemm");
    for (int i = 0; i < 2; i++) export_arg(x, e, export_value(x, v[i]));
    if (turn[0]) export_int(x, e, "transA", 1);
    if (turn[1]) export_int(x, e, "transB", 1);
    export_out(x, n, 0, export_result(x, e, t));
    return true;
}

/* Letters: batch, contracted, free of a, free of b. */
static void export_einsum(Export *x, Node *n, const Roles *r) {
    char term[2][MAX_RANK + 1] = {{0}}, out[2 * MAX_RANK + 1] = {0};
    char next = 'a';
    int o = 0;
    for (int k = 0; k < r[0].nbatch; k++) out[o++] = term[0][r[0].batch[k]] = term[1][r[1].batch[k]] = next++;
    for (int k = 0; k < r[0].ncontract; k++) term[0][r[0].contract[k]] = term[1][r[1].contract[k]] = next++;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < r[i].nfree; k++, next++) {
            if (next == 'z' + 1) next = 'A';
            out[o++] = term[i][r[i].free[k]] = next;
        }
    ExportNode *e = export_node(x, "Einsum");
    for (int i = 0; i < 2; i++) export_arg(x, e, export_in(x, n, i));
    export_string(x, e, "equation", gd_format(x->c, "%s,%s->%s", term[0], term[1], out));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_contract(Export *x, Node *n) {
    Roles r[2] = {roles(n, 0), roles(n, 1)};
    if (export_gemm(x, n, &r[0], &r[1])) return;
    if (is_matmul(n, &r[0], &r[1]))
        export_out(x, n, 0, export_op(x, "MatMul", n->out[0]->dt, export_in(x, n, 0), export_in(x, n, 1)));
    else export_einsum(x, n, r);
}

/* ONNX convolves floats only: integers are exact in double as long as sums stay below 2^53. */
static void export_conv(Export *x, Node *n) {
    Value *v = n->in[0], *b = n->nin > 2 ? n->in[2] : NULL;
    DType t = v->dt, as = dt_int(t) ? F64 : t;
    int64_t pads[2 * MAX_RANK];
    bool padded = window_padding(n, 0, &v, pads);
    ExportNode *e;
    ExportRef *in[3] = {export_value(x, v), export_in(x, n, 1), export_value(x, b)};
    if (b && b->rank != 1) in[2] = export_reshape(x, in[2], 1, &n->in[1]->dim[0]);
    for (int i = 0; i < 3; i++)
        if (in[i]) in[i] = export_cast(x, in[i], as);
    e = export_node(x, "Conv");
    for (int i = 0; i < 3; i++) export_arg(x, e, in[i]);
    window_attrs(x, e, n);
    if (padded) export_ints(x, e, "pads", 2 * (v->rank - 2), pads);
    if (attr_int(n, "group") != 1) export_int(x, e, "group", attr_int(n, "group"));
    export_out(x, n, 0, export_cast(x, export_result(x, e, as), t));
}

const Op gd_ops_contract[] = {
    {.name = "contract", .export = export_contract, .kind = OP_CONTRACT, .in = "a b", .out = "y", .types = "num",
     .attrs = {{"a_batch", AT_INTS, 0, true}, {"b_batch", AT_INTS, 0, true}, {"a_contract", AT_INTS, 0, true},
               {"b_contract", AT_INTS, 0, true}},
     .shape = contract_shape, .elem = contract_elem, .rereads = all_inputs, .grad = contract_grad,
     .doc = "Sums of products over the contracting axes: y[batch, free a, free b] = sum a * b, one fma chain in index order."},
    {.name = "conv", .export = export_conv, .kind = OP_CONTRACT, .flags = OF_IMAGE, .in = "x w b?", .out = "y", .types = "num",
     .attrs = {{"strides", AT_INTS, 0, true}, {"dilations", AT_INTS, 0, true}, {"group", AT_INT, 1, false}},
     .shape = conv_shape, .elem = conv_elem, .rereads = all_inputs, .grad = conv_grad,
     .doc = "Cross-correlation of x[N, C, ...] with w[M, C/group, ...], no padding: the chain starts at the bias and runs over "
            "the kernel's axes, then the channels."},
    {.kind = OP_BUILD, .onnx = "MatMul", .import = import_matmul, .doc = "Matrix product with numpy's broadcasting."},
    {.kind = OP_BUILD, .onnx = "Gemm", .import = import_gemm, .doc = "alpha * A' * B' + beta * C."},
    {.kind = OP_BUILD, .onnx = "Conv", .import = import_conv, .doc = "Convolution with padding: pad, then conv."},
    {.kind = OP_BUILD, .onnx = "ConvTranspose", .import = import_conv_transpose,
     .doc = "Transposed convolution: the input spread by the strides, then conv with the kernel turned round."},
};
const int gd_ops_contract_n = sizeof gd_ops_contract / sizeof *gd_ops_contract;
