/* Random graphs: see randomgraph.h.

   Values are images f32[N,C,H,W] with small odd sizes, rows [N,K] and what views, reductions and products
   make of them; N is a number or a symbol. Constants stand among them, also such as simplify looks for (ones,
   zeros, factors per channel). Every node takes any value that fits it, so results are used several times, or
   never. */
#include "randomgraph.h"
#include "op.h"
#include <stdlib.h>

typedef struct Gen {
    Ctx *c;
    Graph *g;
    Random r;
    VEC(Value *) v;
} Gen;

static int below(Gen *k, int n) { return random_below(&k->r, n); }
static Expr *num(Gen *k, int64_t v) { return expr_int(k->c, v); }
static Value *add(Gen *k, Value *v) {
    vec_push(k->c, &k->v, v);
    return v;
}

static Value *some(Gen *k, int rank) { /* of that rank; -1: any */
    for (int i = 0; i < 50; i++) {
        Value *v = k->v.v[k->v.n - 1 - below(k, k->v.n < 12 ? k->v.n : below(k, 3) ? 12 : k->v.n)];
        if (v->dt == F32 && v->rank >= 0 && (rank < 0 || v->rank == rank)) return v;
    }
    return NULL;
}

static bool size(const Value *v, int axis, int64_t *n) { return is_int(v->dim[axis], n); }

static Value *constant(Gen *k, int rank, const int64_t *dim, int kind) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    float *data = gd_alloc_aligned(k->c, (size_t)(n ? n : 1) * sizeof *data);
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(below(k, 33) - 16) / 8;
        data[i] = kind == 0 ? x : kind == 1 ? 1.0f : kind == 2 ? 0.0f : -0.0f;
    }
    Value *v = graph_const(k->g, F32, rank, dim, data);
    if (below(k, 2)) v->source = k->g->consts.n;
    return v;
}

/* ---- nodes ---- */

static void unary(Gen *k) {
    static const char *const ops[] = {"relu",  "neg",  "abs",  "sigmoid",  "tanh",      "exp",
                                      "floor", "rint", "sign", "softplus", "hard_swish"};
    Value *x = some(k, -1);
    if (!x) return;
    const char *op = ops[below(k, (int)(sizeof ops / sizeof *ops))];
    add(k, make(k->g, op, x));
    if (below(k, 5) == 0) add(k, make(k->g, op, k->v.v[k->v.n - 1]));
}

static bool broadcasts(const Value *a, const Value *b) {
    for (int i = 1; i <= a->rank && i <= b->rank; i++) {
        Expr *p = a->dim[a->rank - i], *q = b->dim[b->rank - i];
        if (p != q && !is_value(p, 1) && !is_value(q, 1)) return false;
    }
    return true;
}

static void binary(Gen *k) {
    static const char *const ops[] = {"add", "sub", "mul", "max", "min", "div"};
    Value *a = some(k, -1), *b = some(k, -1);
    if (!a || !b || !broadcasts(a, b) || a->rank + b->rank > 8) return;
    const char *op = ops[below(k, 6)];
    add(k, below(k, 2) ? make(k->g, op, a, b) : make(k->g, op, b, a));
    if (below(k, 4) == 0) add(k, make(k->g, op, b, a));
}

/* With a constant per channel or for all. */
static void scale(Gen *k) {
    static const char *const ops[] = {"add", "sub", "mul", "div"};
    Value *a = some(k, -1);
    int64_t dim[4] = {1, 1, 1, 1};
    int rank = 0;
    if (!a) return;
    if (a->rank == 4 && below(k, 2) && size(a, 1, &dim[1])) rank = 4;
    else if (a->rank && below(k, 2) && size(a, a->rank - 1, &dim[0])) rank = 1;
    Value *b = constant(k, rank, dim, below(k, 4));
    const char *op = ops[below(k, 4)];
    add(k, below(k, 3) ? make(k->g, op, a, b) : make(k->g, op, b, a));
}

static void choose(Gen *k) {
    Value *a = some(k, -1), *b = some(k, -1);
    if (!a || !b || a->rank != b->rank || !broadcasts(a, b)) return;
    Value *less = make(k->g, "less", a, b);
    add(k, make(k->g, "where", below(k, 2) ? less : make(k->g, "not", less), a, b));
}

static void convert(Gen *k) {
    static const DType types[] = {F16, BF16, F64, I32};
    Value *x = some(k, -1);
    if (!x) return;
    Node *n = node_begin(k->g, "cast");
    node_input(n, x);
    node_dtype(n, "to", types[below(k, 4)]);
    Value *y = node_finish(n);
    if (below(k, 2) && y->dt != I32) y = make(k->g, "abs", y);
    n = node_begin(k->g, "cast");
    node_input(n, y);
    node_dtype(n, "to", F32);
    add(k, node_finish(n));
}

static void transpose(Gen *k) {
    Value *x = some(k, -1);
    int64_t perm[MAX_RANK];
    if (!x || x->rank < 2) return;
    for (int i = 0; i < x->rank; i++) perm[i] = i;
    for (int i = x->rank - 1; i > 0; i--) {
        int j = below(k, i + 1);
        int64_t t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
    Node *n = node_begin(k->g, "transpose");
    node_input(n, x);
    node_ints(n, "perm", x->rank, perm);
    add(k, node_finish(n));
}

/* Two axes become one, or one of even size two. */
static void reshape(Gen *k) {
    Value *x = some(k, -1);
    Expr *dim[MAX_RANK];
    int rank = 0;
    int64_t s;
    if (!x || x->rank < 1) return;
    int at = below(k, x->rank);
    for (int i = 0; i < x->rank; i++) {
        if (i == at && size(x, i, &s) && s % 2 == 0 && x->rank < 5) {
            dim[rank++] = num(k, 2);
            dim[rank++] = num(k, s / 2);
        } else if (i == at && i + 1 < x->rank) {
            dim[rank++] = expr_mul(k->c, x->dim[i], x->dim[i + 1]);
            i++;
        } else dim[rank++] = x->dim[i];
    }
    Node *n = node_begin(k->g, "reshape");
    node_input(n, x);
    node_dims(n, "dims", rank, dim);
    add(k, node_finish(n));
}

static void slice(Gen *k) {
    Value *x = some(k, -1);
    Expr *start[MAX_RANK], *count[MAX_RANK], *step[MAX_RANK];
    if (!x) return;
    for (int i = 0; i < x->rank; i++) {
        int64_t s;
        start[i] = num(k, 0);
        count[i] = x->dim[i];
        step[i] = num(k, 1);
        if (below(k, 2) || !size(x, i, &s) || s < 2) continue;
        int64_t by = 1 + below(k, 2), from = below(k, (int)s), most = (s - 1 - from) / by + 1;
        start[i] = num(k, from);
        step[i] = num(k, by);
        count[i] = num(k, 1 + below(k, (int)most));
    }
    Node *n = node_begin(k->g, "slice");
    node_input(n, x);
    node_dims(n, "start", x->rank, start);
    node_dims(n, "size", x->rank, count);
    node_dims(n, "step", x->rank, step);
    add(k, node_finish(n));
}

static void pad(Gen *k) {
    Value *x = some(k, -1);
    Expr *lo[MAX_RANK], *hi[MAX_RANK];
    int64_t inner[MAX_RANK] = {0}, s;
    if (!x) return;
    for (int i = 0; i < x->rank; i++) {
        lo[i] = num(k, below(k, 2));
        hi[i] = num(k, below(k, 2));
        if (below(k, 8) == 0) inner[i] = 1;
        if (below(k, 8) == 0 && size(x, i, &s) && s > 2) hi[i] = num(k, -1);
    }
    Node *n = node_begin(k->g, "pad");
    node_input(n, x);
    if (below(k, 2)) node_input(n, constant(k, 0, NULL, below(k, 3)));
    node_dims(n, "lo", x->rank, lo);
    node_dims(n, "hi", x->rank, hi);
    node_ints(n, "interior", x->rank, inner);
    add(k, node_finish(n));
}

static void concat(Gen *k) {
    Value *x = some(k, -1);
    if (!x || !x->rank) return;
    int axis = below(k, x->rank), used = 0;
    Node *n = node_begin(k->g, "concat");
    node_int(n, "axis", axis);
    for (int i = 0; i < 12 && used < 3; i++) {
        Value *v = i ? some(k, x->rank) : x;
        bool fits = v != NULL;
        for (int a = 0; fits && a < x->rank; a++) fits = a == axis || v->dim[a] == x->dim[a];
        if (!fits) continue;
        node_input(n, v);
        used++;
    }
    add(k, node_finish(n));
}

static void reduce(Gen *k) {
    static const char *const ops[] = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"};
    Value *x = some(k, -1);
    int64_t axes[MAX_RANK];
    int count = 0;
    if (!x) return;
    for (int i = 0; i < x->rank; i++)
        if (below(k, 2)) axes[count++] = i;
    Node *n = node_begin(k->g, ops[below(k, 4)]);
    node_input(n, x);
    node_ints(n, "axes", count, axes);
    node_int(n, "keepdims", below(k, 2));
    Value *y = add(k, node_finish(n));
    if (broadcasts(x, y)) add(k, make(k->g, "sub", x, y)); /* as softmax and normalisations do */
}

static void contract(Gen *k) {
    Value *a = some(k, 2);
    int64_t dim[2], one = 1, zero = 0;
    if (!a || !size(a, 1, &dim[0])) return;
    dim[1] = 1 + below(k, 40);
    Value *b = below(k, 2) ? constant(k, 2, dim, 0) : some(k, 2);
    if (!b || b->dim[0] != a->dim[1]) return;
    Node *n = node_begin(k->g, "contract");
    node_input(n, a);
    node_input(n, b);
    node_ints(n, "a_batch", 0, NULL);
    node_ints(n, "b_batch", 0, NULL);
    node_ints(n, "a_contract", 1, &one);
    node_ints(n, "b_contract", 1, &zero);
    add(k, node_finish(n));
    if (below(k, 2)) scale(k);
}

static void conv(Gen *k) {
    Value *x = some(k, 4);
    int64_t c, h, w, dim[4];
    if (!x || !size(x, 1, &c) || !size(x, 2, &h) || !size(x, 3, &w)) return;
    int64_t group = c % 2 == 0 && below(k, 4) == 0 ? (below(k, 2) ? c : 2) : 1;
    int64_t strides[] = {1 + below(k, 2), 1 + below(k, 2)}, dilations[] = {1 + (below(k, 5) == 0), 1};
    dim[0] = group * (1 + below(k, group == c ? 2 : 20));
    dim[1] = c / group;
    dim[2] = 1 + below(k, 3);
    dim[3] = 1 + below(k, 3);
    if ((dim[2] - 1) * dilations[0] + 1 > h || dim[3] > w) return;
    Node *n = node_begin(k->g, "conv");
    node_input(n, x);
    node_input(n, constant(k, 4, dim, 0));
    if (below(k, 2)) node_input(n, constant(k, 1, dim, 0));
    node_ints(n, "strides", 2, strides);
    node_ints(n, "dilations", 2, dilations);
    node_int(n, "group", group);
    Value *y = add(k, node_finish(n));
    if (below(k, 2)) { /* a normalisation behind it */
        int64_t per[] = {dim[0], 1, 1};
        y = add(k, make(k->g, "mul", y, constant(k, 3, per, 0)));
        y = add(k, make(k->g, "add", y, constant(k, 3, per, 0)));
    }
    if (below(k, 2)) add(k, make(k->g, "relu", y));
}

static void pool(Gen *k) {
    Value *x = some(k, 4);
    int64_t h, w, strides[] = {1 + below(k, 2), 1 + below(k, 2)}, dilations[] = {1, 1};
    if (!x || !size(x, 2, &h) || !size(x, 3, &w) || h < 2 || w < 2) return;
    Node *n = node_begin(k->g, below(k, 2) ? "pool_max" : "pool_sum");
    node_input(n, x);
    node_dims(n, "kernel", 2, (Expr *[]){num(k, 1 + below(k, 2)), num(k, 2)});
    node_ints(n, "strides", 2, strides);
    node_ints(n, "dilations", 2, dilations);
    add(k, node_finish(n));
}

static void running(Gen *k) {
    Value *x = some(k, -1);
    if (!x || !x->rank) return;
    Node *n = node_begin(k->g, "cumsum");
    node_input(n, x);
    node_int(n, "axis", below(k, x->rank));
    add(k, node_finish(n));
}

static int64_t bytes_at_most(const Value *v) { /* with every symbol at 4 */
    int64_t n = 4;
    for (int i = 0; i < v->rank; i++) {
        int64_t d = v->dim[i]->kind == E_CONST ? (int64_t)v->dim[i]->bits : 8;
        n *= d;
    }
    return n;
}

Graph *random_graph(Ctx *c, uint64_t seed) {
    static void (*const make_node[])(Gen *) = {unary,    unary,     binary,  binary, scale, scale,  choose,
                                               convert,  transpose, reshape, slice,  pad,   concat, reduce,
                                               contract, contract,  conv,    conv,   conv,  pool,   running};
    Gen k = {.c = c, .g = graph_new(c, "random"), .r = {seed}};
    Expr *batch =
        below(&k, 2) ? num(&k, 1 + below(&k, 3)) : expr_var(c, graph_symbol(k.g, "N", 1, 1 + below(&k, 20)));
    Expr *image[] = {batch, num(&k, 1 + below(&k, 20)), num(&k, 3 + below(&k, 7)), num(&k, 3 + below(&k, 7))};
    Expr *rows[] = {batch, num(&k, 1 + below(&k, 40))};
    add(&k, graph_input(k.g, "image", F32, 4, image));
    add(&k, graph_input(k.g, "rows", F32, 2, rows));
    int64_t dim[] = {1 + below(&k, 4), 1 + below(&k, 20)};
    add(&k, constant(&k, 2, dim, 0));
    for (int n = 2 + below(&k, 14); n > 0; n--) {
        int before = k.v.n;
        make_node[below(&k, (int)(sizeof make_node / sizeof *make_node))](&k);
        while (k.v.n > before && bytes_at_most(k.v.v[k.v.n - 1]) > 60000)
            k.v.n--; /* too large to go on from */
    }
    int outputs = 1 + below(&k, 3);
    for (int i = 0; i < outputs; i++) {
        Value *v = k.v.v[k.v.n - 1 - below(&k, i ? k.v.n : 1)];
        graph_output(k.g, gd_format(c, "y%d", i), v);
    }
    return k.g;
}

/* ---- running ---- */

static Expr *known(void *syms, Expr *e) {
    const void **s = syms;
    const Program *p = s[0];
    for (int i = 0; i < p->syms.n && e->kind == E_VAR; i++)
        if (p->syms.v[i] == e->var) return expr_int(p->c, ((const int64_t *)s[1])[i]);
    return e;
}

int random_graph_run(Ctx *c, const Program *p, uint64_t seed, char *out, size_t max, size_t *n) {
    Random r = {seed}, sizes = {seed + 1}; /* of their own: a pass may put a symbol away */
    int64_t syms[4], count;
    const void *in[4], *env[] = {p, syms};
    void *outs[8] = {NULL};
    for (int i = 0; i < p->syms.n && i < 4; i++) syms[i] = 1 + random_below(&sizes, (int)p->syms.v[i]->hi);
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        if (b->space != SP_IN || !is_int(expr_rewrite(p->c, buf_size(p->c, b), known, env), &count)) continue;
        float *data = gd_alloc_aligned(c, (size_t)count * sizeof *data + 1);
        for (int64_t k = 0; k < count; k++) data[k] = (float)(random_below(&r, 41) - 20) / 8;
        in[b->port] = data;
    }
    int status = loop_interpret(c, p, &(LoopArgs){in, outs, syms});
    *n = 0;
    for (int i = 0; i < p->params.n && !status; i++) {
        const Buf *b = p->params.v[i];
        if (b->space != SP_OUT || !is_int(expr_rewrite(p->c, buf_size(p->c, b), known, env), &count))
            continue;
        size_t bytes = (size_t)count * (size_t)gd_dtypes[b->dt].bytes;
        if (*n + bytes > max) break;
        memcpy(out + *n, outs[b->port], bytes);
        *n += bytes;
    }
    return status;
}
