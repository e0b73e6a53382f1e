/* Random numbers, and dropout. They come from a counter: element i of a tensor is a function of the seed and
   of i alone, so they are the same on every machine, in any order, and every time a program runs.

   random_bits is the row (Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
   2011); distributions are formulas over it. */
#include "build.h"
#include "lower.h"
#include "train.h"

/* ---- the row ---- */

static void bits_shape(Node *n) {
    const Attr *dims = node_attr(n, "dims");
    const Value *key = n->nin ? n->in[0] : NULL;
    if (key && key->rank >= 0 && (key->dt != I64 || key->rank != 1)) node_error(n, 302, "i64[2]", "the key is not two i64 numbers");
    else if (key && key->rank >= 0) node_require(n, expr2(n->graph->c, E_EQ, key->dim[0], expr_int(n->graph->c, 2)), "the key has 2 numbers");
    node_out(n, 0, U32, dims->n, dims->dims);
}

static Expr *word(Ctx *c, uint32_t v) { return expr_const(c, scalar(U32), v); }

/* m * x as two words. */
static Expr *multiply(Ctx *c, uint32_t m, Expr *x, Expr **low) {
    Expr *p = expr_mul(c, expr_const(c, scalar(U64), m), expr_cast(c, x, U64));
    *low = expr_cast(c, p, U32);
    return expr_cast(c, expr2(c, E_SHR, p, expr_const(c, scalar(U64), 32)), U32);
}

/* Word i of the input `key`, and its halves. */
static Expr *key_word(Lower *L, Node *n, int i, bool high) {
    Ctx *c = L->c;
    Expr *at = expr_int(c, i), *w = expr_cast(c, lower_elem(L, n->in[0], &at), U64);
    return expr_cast(c, high ? expr2(c, E_SHR, w, expr_const(c, scalar(U64), 32)) : w, U32);
}

/* Word 0 of Philox with the element's position as the counter. */
static Expr *bits_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    bool keyed = n->nin > 0 && n->in[0];
    Ctx *c = L->c;
    const Attr *dims = node_attr(n, "dims");
    uint64_t seed = (uint64_t)attr_int(n, "seed");
    uint32_t bump[2] = {0, 0};
    Expr *key[2] = {word(c, (uint32_t)seed), word(c, (uint32_t)(seed >> 32))};
    for (int i = 0; i < 2 && keyed; i++) key[i] = expr2(c, E_XOR, key[i], key_word(L, n, 0, i));
    Expr *flat = expr_int(c, 0), *x[4], *low[2];
    for (int i = 0; i < dims->n; i++) flat = expr_add(c, expr_mul(c, flat, dims->dims[i]), idx[i]);
    Expr *position = expr_cast(c, flat, U64);
    x[0] = expr_cast(c, position, U32);
    x[1] = expr_cast(c, expr2(c, E_SHR, position, expr_const(c, scalar(U64), 32)), U32);
    x[2] = word(c, (uint32_t)attr_int(n, "stream"));
    x[3] = keyed ? key_word(L, n, 1, false) : word(c, 0);
    for (int round = 0; round < 10; round++) {
        Expr *h0 = multiply(c, 0xD2511F53u, x[0], &low[0]), *h1 = multiply(c, 0xCD9E8D57u, x[2], &low[1]);
        x[0] = expr2(c, E_XOR, expr2(c, E_XOR, h1, x[1]), expr_add(c, key[0], word(c, bump[0])));
        x[2] = expr2(c, E_XOR, expr2(c, E_XOR, h0, x[3]), expr_add(c, key[1], word(c, bump[1])));
        x[1] = low[1];
        x[3] = low[0];
        bump[0] += 0x9E3779B9u;
        bump[1] += 0xBB67AE85u;
    }
    return x[0];
}

/* ---- distributions ---- */

/* Without a seed, one that no other node of the model has. */
static int64_t import_seed(Import *n) {
    if (!import_has(n, "seed")) {
        int64_t own = n->seed && *n->seed ? *n->seed - 1 : *n->g->next_id;
        if (n->seed) *n->seed = own + 1;
        return own;
    }
    const ImportAttr *a = import_attr(n, "seed");
    return a->kind == IM_INT ? import_int(n, "seed", 0)
                             : (int64_t)gd_to_bits(F64, import_float(n, "seed", 0));
}

/* In training every step has numbers of its own: i64[2], the run's seed and the step. */
static Value *step_key(Graph *g) {
    Graph *top = graph_outermost(g);
    Value *part[] = {build_unsqueeze(top, train_seed(top), 0), build_unsqueeze(top, train_step_number(top), 0)};
    return build_concat(top, 2, part, 0);
}

static Value *random_bits(Graph *g, int64_t seed, int stream, int rank, Expr *const *dim) {
    const Graph *top = graph_outermost(g);
    Value *key = top->training || top->draws ? step_key(g) : top->key;
    Node *m = node_begin(g, "random_bits");
    if (key) node_input(m, key);
    node_dims(m, "dims", rank, dim);
    node_int(m, "seed", seed);
    node_int(m, "stream", stream);
    return node_finish(m);
}

/* Uniform in [0, 1), of 24 bits. */
static Value *uniform(Graph *g, DType t, int64_t seed, int stream, int rank, Expr *const *dim) {
    Value *bits = random_bits(g, seed, stream, rank, dim);
    Value *top = make(g, "shift_right", bits, const_scalar(g, U32, 8));
    return make(g, "mul", build_cast(g, top, t), const_scalar(g, t, 0x1p-24));
}

/* The transform of Box and Muller. */
static Value *normal(Graph *g, DType t, int64_t seed, int rank, Expr *const *dim) {
    Map *values = map_new(g->c);
    map_puts(values, "u", uniform(g, t, seed, 0, rank, dim));
    map_puts(values, "v", uniform(g, t, seed, 1, rank, dim));
    return graph_text(g, "sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v)", values, NULL);
}

static DType wide_type(DType t) { return t == F64 ? F64 : F32; }

static void random_of(Import *n, DType t, int rank, Expr *const *dim) {
    Graph *g = n->g;
    int64_t seed = import_seed(n);
    bool is_normal = !strncmp(n->op, "RandomNormal", 12);
    DType w = wide_type(t);
    double a = is_normal ? import_float(n, "mean", 0) : import_float(n, "low", 0);
    double b = is_normal ? import_float(n, "scale", 1) : import_float(n, "high", 1) - a;
    if (t == DT_NONE || (!dt_float(t) && !dt_small(t))) {
        import_error(n, 302, "a float", "random numbers of such a dtype");
        return;
    }
    Value *v = is_normal ? normal(g, w, seed, rank, dim) : uniform(g, w, seed, 0, rank, dim);
    v = make(g, "add", make(g, "mul", v, const_scalar(g, w, b)), const_scalar(g, w, a));
    n->out[0] = build_cast(g, v, t);
}

static void import_random(Import *n) {
    const int64_t *shape;
    Expr *dim[MAX_RANK];
    int rank = import_ints(n, "shape", &shape);
    if (rank > MAX_RANK) {
        import_error(n, 504, NULL, "a tensor of %d axes", rank);
        return;
    }
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0) {
            import_error(n, 204, NULL, "attribute shape: %lld", (long long)shape[i]);
            return;
        }
        dim[i] = expr_int(n->g->c, shape[i]);
    }
    random_of(n, import_dtype(n, "dtype", F32), rank, dim);
}

static void import_random_like(Import *n) {
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    random_of(n, import_dtype(n, "dtype", n->in[0]->dt), n->in[0]->rank, n->in[0]->dim);
}

static void import_bernoulli(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    DType w = wide_type(x->dt);
    Value *u = uniform(g, w, import_seed(n), 0, x->rank, x->dim);
    n->out[0] = build_cast(g, make(g, "less", u, build_cast(g, x, w)), import_dtype(n, "dtype", x->dt));
}

/* By inversion: the number of classes whose running sum of probabilities does not reach beyond u. */
static void import_multinomial(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    DType t = import_dtype(n, "dtype", I32), w = wide_type(x->dt);
    int64_t samples = import_int(n, "sample_size", 1), last = 2;
    if (x->rank != 2 || samples < 1) {
        import_error(n, 301, NULL, "the input is no matrix, or no sample is asked for");
        return;
    }
    Map *values = map_new(c);
    Expr *dim[3] = {x->dim[0], expr_int(c, samples), expr_int(c, 1)};
    map_puts(values, "x", build_cast(g, build_unsqueeze(g, x, 1), w));
    map_puts(values, "u", uniform(g, w, import_seed(n), 0, 3, dim));
    Value *p = graph_text(g, "exp(x - reduce_max(x, axes=[2]))", values, NULL);
    map_puts(values, "p", p);
    map_puts(values, "sum", graph_text(g, "cumsum(p, axis=2)", values, NULL));
    map_puts(values, "all", graph_text(g, "reduce_sum(p, axes=[2])", values, NULL));
    Value *below = build_cast(g, graph_text(g, "sum <= u * all", values, NULL), I64);
    Value *most = build_scalar(g, I64, expr_sub(c, x->dim[1], expr_int(c, 1)));
    n->out[0] = build_cast(g, make(g, "min", build_reduce(g, "reduce_sum", below, 1, &last, false), most), t);
}

/* ---- dropout ---- */

/* Is it known while compiling that v is false (or left out)? */
static bool surely_false(const Value *v) {
    return !v || (v->dt == BOOL && v->data && v->rank == 0 && !*(const uint8_t *)v->data);
}
static bool surely_true(const Value *v) { return v && v->dt == BOOL && v->data && *(const uint8_t *)v->data; }

static void drop(Import *n, Value *ratio, Value *training, DType mask_type) {
    Graph *g = n->g;
    Value *x = n->in[0];
    DType w = wide_type(x->dt);
    Map *values = map_new(g->c);
    map_puts(values, "x", build_cast(g, x, w));
    map_puts(values, "ratio", build_cast(g, ratio, w));
    map_puts(values, "u", uniform(g, w, import_seed(n), 0, x->rank, x->dim));
    Value *keep = graph_text(g, "u >= ratio", values, NULL);
    map_puts(values, "keep", keep);
    Value *y = build_cast(g, graph_text(g, "keep ? x / (1 - ratio) : 0", values, NULL), x->dt);
    if (!surely_true(training)) {
        keep = make(g, "or", keep, make(g, "not", training));
        y = make(g, "where", training, y, x);
    }
    n->out[0] = y;
    if (n->nout > 1) n->out[1] = build_cast(g, keep, mask_type);
}

/* A training mode since version 12, as an input; before version 7 an attribute says that there is none; in
   between dropout is what inference makes of it. */
static void import_dropout(Import *n) {
    Graph *g = n->g;
    if (!import_need(n, 1, 3) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *ratio = import_in(n, 1), *training = import_in(n, 2);
    DType mask_type = n->opset < 10 ? x->dt : BOOL;
    double given = import_float(n, "ratio", .5);
    import_has(n, "consumed_inputs");
    import_has(n, "seed");
    if ((n->opset < 7 && !import_int(n, "is_test", 0)) || graph_outermost(g)->training) training = const_scalar(g, BOOL, 1);
    if (!ratio) ratio = const_scalar(g, wide_type(x->dt), given);
    bool nothing =
        ratio->data && ratio->rank == 0 && gd_to_double(ratio->dt, gd_load_bits(ratio->dt, ratio->data)) == 0;
    if (!surely_false(training) && !nothing) {
        drop(n, ratio, training, mask_type);
        return;
    }
    n->out[0] = x;
    if (n->nout > 1) n->out[1] = build_broadcast(g, const_scalar(g, mask_type, 1), x->rank, x->dim);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_random[] = {
    {.name = "random_bits",
     .kind = OP_RANDOM,
     .flags = OF_NO_GRAD,
     .in = "key?",
     .out = "y",
     .attrs = {{"dims", AT_DIMS, 0, true}, {"seed", AT_INT, 0, true}, {"stream", AT_INT, 0, false}},
     .shape = bits_shape,
     .elem = bits_elem,
     .doc = "u32 words: the first of Philox 4x32-10 with the element's position as counter and the seed as "
            "key. The input key is i64[2], seed and step: its seed joins the seed, its step the counter."},
    {BUILD = "RandomNormal", .import = import_random, .doc = "Normal random numbers of a given shape."},
    {BUILD = "RandomUniform", .import = import_random, .doc = "Uniform random numbers of a given shape."},
    {BUILD = "RandomNormalLike", .import = import_random_like,
     .doc = "Normal random numbers of the input's shape."},
    {BUILD = "RandomUniformLike", .import = import_random_like,
     .doc = "Uniform random numbers of the input's shape."},
    {BUILD = "Bernoulli", .import = import_bernoulli,
     .doc = "1 with the probability that the input gives, else 0."},
    {BUILD = "Multinomial", .import = import_multinomial,
     .doc = "Classes drawn by the probabilities whose logarithms the input gives."},
    {BUILD = "Dropout", .settings = 2, .import = import_dropout,
     .doc = "The input; when training, elements are dropped at random and the others scaled up."},
};
const int gd_ops_random_n = sizeof gd_ops_random / sizeof *gd_ops_random;
