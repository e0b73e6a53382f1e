/* Attention in its forms: products, a mask and softmax, in composite text. Heads become axis 1: [batch,
   heads, length, size]. A key that may not be seen has the score -inf; a row that sees no key at all is zero.
   What is stored in fewer bits than f32 is computed in f32 and rounded at the end. */
#include "build.h"
#include "loops.h"
#include <math.h>

static DType wide_type(DType t) { return t == F64 ? F64 : F32; }

/* [B, L, H * D] -> [B, H, L, D] */
static Value *split_heads(Import *n, Value *v, int64_t heads) {
    static const int64_t perm[] = {0, 2, 1, 3};
    Ctx *c = n->g->c;
    if (heads < 1) {
        import_error(n, 204, "set q_num_heads and kv_num_heads", "inputs of 3 axes need the number of heads");
        return NULL;
    }
    Expr *h = expr_int(c, heads), *dim[] = {v->dim[0], v->dim[1], h, expr_fdiv(c, v->dim[2], h)};
    Value *split = build_reshape(n->g, v, 4, dim);
    return split->rank < 0 ? NULL : build_transpose(n->g, split, perm);
}

/* [B, H, L, D] -> [B, L, H * D] */
static Value *join_heads(Graph *g, Value *v) {
    static const int64_t perm[] = {0, 2, 1, 3};
    Value *t = build_transpose(g, v, perm);
    if (t->rank < 0) return t;
    return build_reshape(g, t, 3, (Expr *[]){t->dim[0], t->dim[1], expr_mul(g->c, t->dim[2], t->dim[3])});
}

/* Each key and value head serves several query heads that follow one another. */
static Value *repeat_heads(Import *n, Value *v, Expr *heads) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (v->rank < 0 || v->dim[1] == heads) return v;
    import_require(n, expr2(c, E_EQ, expr_fmod(c, heads, v->dim[1]), expr_int(c, 0)),
                   "the key heads do not divide the query heads");
    Expr *each = expr_fdiv(c, heads, v->dim[1]), *wide[] = {v->dim[0], v->dim[1], each, v->dim[2], v->dim[3]};
    Expr *dim[] = {v->dim[0], heads, v->dim[2], v->dim[3]};
    return build_reshape(g, build_broadcast(g, build_unsqueeze(g, v, 2), 5, wide), 4, dim);
}

/* Formulas may name inf. */
static Value *formula(Graph *g, const char *text, const Map *values) {
    Map *attrs = map_new(g->c);
    Attr *inf = gd_new(g->c, Attr);
    *inf = (Attr){.kind = AT_FLOAT, .f = INFINITY};
    map_puts(attrs, "inf", inf);
    return graph_text(g, text, values, attrs);
}

/* Over the last axis of four; rows of -inf become 0. */
#define SOFTMAX                                                                                              \
    "m = reduce_max(x, axes=[3]); e = exp(x - detach(m == -inf ? 0 : m)); "                                  \
    "s = reduce_sum(e, axes=[3]); e / (s == 0 ? 1 : s)"

static Value *softmax(Graph *g, Value *x) {
    Map *values = map_new(g->c);
    map_puts(values, "x", x);
    return formula(g, SOFTMAX, values);
}

/* ---- Attention ---- */

typedef struct Heads {
    Value *q, *k, *v;
    Expr *past;
    DType t;
    bool three;
} Heads;

static bool read_heads(Import *n, Heads *h) {
    Value **in[] = {&h->q, &h->k, &h->v};
    int64_t heads[] = {import_int(n, "q_num_heads", 0), import_int(n, "kv_num_heads", 0)};
    for (int i = 0; i < 3; i++) {
        Value *v = n->in[i];
        if (v->rank < 0) return false;
        if (v->rank != n->in[0]->rank || (v->rank != 3 && v->rank != 4)) {
            import_error(n, 301, NULL, "input %d has %d axes: all need 3, or all 4", i, v->rank);
            return false;
        }
        *in[i] = v->rank == 3 ? split_heads(n, v, heads[i > 0]) : v;
        if (!*in[i]) return false;
    }
    h->t = n->in[0]->dt;
    h->three = n->in[0]->rank == 3;
    h->past = expr_int(n->g->c, 0);
    return true;
}

/* Keys and values of before come first. */
static bool join_past(Import *n, Heads *h) {
    Value *key = import_in(n, 4), *value = import_in(n, 5);
    if (!key && !value) return true;
    if (!key || !value) {
        import_error(n, 205, NULL, "past_key and past_value come together");
        return false;
    }
    if (key->rank != 4 || value->rank != 4) return false;
    h->past = key->dim[2];
    h->k = build_concat(n->g, 2, (Value *[]){key, h->k}, 2);
    h->v = build_concat(n->g, 2, (Value *[]){value, h->v}, 2);
    return h->k->rank == 4 && h->v->rank == 4;
}

static Value *both(Graph *g, Value *a, Value *b) { return !a ? b : !b ? a : make(g, "and", a, b); }

/* Which keys j a query i may see by position: causal, sliding windows, and padding at the end. NULL: all. */
static Value *visible(Import *n, const Heads *h) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Value *length = import_in(n, 6), *seen = NULL;
    int64_t left = import_int(n, "left_window_size", -1), right = import_int(n, "right_window_size", -1);
    bool causal = import_int(n, "is_causal", 0) != 0;
    Expr *dim[] = {h->q->dim[2], h->k->dim[2]};
    Value *i = build_iota(g, I64, 2, dim, 0), *j = build_iota(g, I64, 2, dim, 1);
    if (length && length->rank < 0) return NULL;
    if (length) {
        Expr *column[] = {h->q->dim[0], expr_int(c, 1), expr_int(c, 1), expr_int(c, 1)};
        length = build_reshape(g, build_cast(g, length, I64), 4, column);
        seen = make(g, "less", j, length);
    }
    if (!causal && left < 0 && right < 0) return seen;
    Value *offset =
        length ? make(g, "sub", length, build_scalar(g, I64, h->q->dim[2])) : build_scalar(g, I64, h->past);
    Value *ahead =
        make(g, "sub", j, make(g, "add", i, offset)); /* how far key j lies behind the query's place */
    if (causal) seen = both(g, seen, make(g, "less_equal", ahead, const_scalar(g, I64, 0)));
    if (right >= 0) seen = both(g, seen, make(g, "less_equal", ahead, const_scalar(g, I64, (double)right)));
    if (left >= 0) seen = both(g, seen, make(g, "less_equal", const_scalar(g, I64, (double)-left), ahead));
    return seen;
}

/* A mask may end before the keys do: those behind it are not seen. */
static Value *whole_mask(Import *n, Value *mask, Expr *keys) {
    Ctx *c = n->g->c;
    int last = mask->rank - 1;
    if (mask->rank < 1 || mask->dim[last] == keys) return mask;
    Expr *lo[MAX_RANK], *hi[MAX_RANK], *missing = expr_sub(c, keys, mask->dim[last]);
    import_require(n, expr2(c, E_LE, expr_int(c, 0), missing),
                   "the mask has more columns than there are keys");
    for (int i = 0; i <= last; i++) {
        lo[i] = expr_int(c, 0);
        hi[i] = i == last ? missing : lo[i];
    }
    return build_pad(n->g, mask, lo, hi, NULL,
                     const_scalar(n->g, mask->dt, mask->dt == BOOL ? 0 : -INFINITY));
}

/* Scores with the mask and what is not visible. */
static Value *masked(Import *n, const Heads *h, Value *x) {
    Graph *g = n->g;
    Value *mask = import_in(n, 3), *seen = visible(n, h);
    Map *values = map_new(g->c);
    map_puts(values, "x", x);
    if (mask && mask->rank >= 0) {
        mask = whole_mask(n, mask, h->k->dim[2]);
        map_puts(values, "mask", mask->dt == BOOL ? mask : build_cast(g, mask, x->dt));
        x = formula(g, mask->dt == BOOL ? "mask ? x : -inf" : "mask == -inf ? -inf : x + mask", values);
        map_puts(values, "x", x);
    }
    if (!seen) return x;
    map_puts(values, "seen", seen);
    return formula(g, "seen ? x : -inf", values);
}

static Value *scaled(Import *n, Value *q) {
    Graph *g = n->g;
    Ctx *c = g->c;
    double scale = import_float(n, "scale", 0);
    int64_t size;
    if (import_has(n, "scale")) return make(g, "mul", q, const_scalar(g, q->dt, scale));
    if (is_int(q->dim[3], &size)) return make(g, "mul", q, const_scalar(g, q->dt, 1 / sqrt((double)size)));
    return make(g, "div", q,
                make(g, "sqrt", build_scalar(g, q->dt, expr2(c, E_MAX, q->dim[3], expr_int(c, 1)))));
}

static void import_attention(Import *n) {
    Graph *g = n->g;
    Heads h;
    if (!import_need(n, 3, 7) || !read_heads(n, &h) || !join_past(n, &h)) return;
    int64_t mode = import_int(n, "qk_matmul_output_mode", 0);
    double softcap = import_float(n, "softcap", 0);
    DType w = wide_type(h.t),
          precise = import_int(n, "softmax_precision", 0) ? import_dtype(n, "softmax_precision", w) : w;
    Value *stage[4], *k = repeat_heads(n, h.k, h.q->dim[1]), *v = repeat_heads(n, h.v, h.q->dim[1]);
    if (mode < 0 || mode > 3) {
        import_error(n, 204, "0 to 3", "attribute qk_matmul_output_mode: %lld", (long long)mode);
        return;
    }
    stage[0] = build_contract(g, scaled(n, build_cast(g, h.q, w)), build_cast(g, k, w), 2, 3, 3);
    stage[1] = stage[0];
    if (softcap > 0) {
        Value *cap = const_scalar(g, w, softcap);
        stage[1] = make(g, "mul", make(g, "tanh", make(g, "div", stage[0], cap)), cap);
    }
    stage[2] = masked(n, &h, stage[1]);
    if (stage[2]->rank != 4) return;
    stage[3] = build_cast(g, softmax(g, build_cast(g, stage[2], precise == F64 ? F64 : w)), w);
    Value *y = build_cast(g, build_contract(g, stage[3], build_cast(g, v, w), 2, 3, 2), h.t);
    n->out[0] = h.three && y->rank == 4 ? join_heads(g, y) : y;
    Value *more[] = {h.k, h.v, build_cast(g, stage[mode], h.t)};
    for (int i = 1; i < n->nout && i < 4; i++) n->out[i] = more[i - 1];
}

/* ---- FlexAttention: scores and probabilities go through graphs of the model ---- */

static Value *given_value(Graph *g, void *v) {
    (void)g;
    return v;
}

/* The nodes of the attribute's graph with x for its only input. */
static Value *apply_graph(Import *n, const char *name, Value *x) {
    Graph *g = n->g;
    if (!import_has(n, name) || x->rank < 0) return x;
    int errors = gd_error_count(g->c);
    Graph *body = n->region(n, import_attr(n, name), 1, &x);
    if (!body || gd_error_count(g->c) > errors) return x;
    if (body->in.n != 1 || body->out.n != 1) {
        import_error(n, 205, NULL, "%s needs one input and one output", name);
        return x;
    }
    loop_argument(body, 0, given_value, x);
    for (int i = 0; i < body->nodes.n; i++) {
        Node *m = body->nodes.v[i];
        m->graph = g;
        vec_push(g->c, &g->nodes, m);
        for (int k = 0; k < m->nregions; k++) m->region[k]->outer = g;
    }
    return body->out.v[0];
}

static void import_flex_attention(Import *n) {
    Graph *g = n->g;
    Heads h;
    if (!import_need(n, 3, 3) || !read_heads(n, &h)) return;
    DType w = wide_type(h.t),
          precise = import_int(n, "softmax_precision", 0) ? import_dtype(n, "softmax_precision", w) : w;
    Value *k = repeat_heads(n, h.k, h.q->dim[1]), *v = repeat_heads(n, h.v, h.q->dim[1]);
    bool single = precise == h.t || h.t == w;
    Value *x = build_contract(g, scaled(n, build_cast(g, h.q, w)), build_cast(g, k, w), 2, 3, 3);
    if (!single) precise = w;
    x = apply_graph(n, "score_mod", build_cast(g, x, precise));
    if (x->rank != 4) return;
    Value *p =
        apply_graph(n, "prob_mod", build_cast(g, softmax(g, build_cast(g, x, wide_type(x->dt))), precise));
    Value *y = build_cast(g, build_contract(g, build_cast(g, p, w), build_cast(g, v, w), 2, 3, 2), h.t);
    n->out[0] = h.three && y->rank == 4 ? join_heads(g, y) : y;
}

/* ---- RotaryEmbedding ---- */

static Value *part(Graph *g, Value *x, Expr *from, Expr *count, int64_t step) {
    Expr *start[4], *size[4], *steps[4];
    for (int i = 0; i < 4; i++) {
        start[i] = i == 3 ? from : expr_int(g->c, 0);
        size[i] = i == 3 ? count : x->dim[i];
        steps[i] = expr_int(g->c, i == 3 ? step : 1);
    }
    return build_slice(g, x, start, size, steps);
}

/* The cache's rows at the positions, [B, L, D/2], so that they lie along x's axes. */
static Value *cache_rows(Import *n, Value *cache, Value *positions, bool length_first) {
    if (positions) {
        Node *m = node_begin(n->g, "gather");
        node_input(m, cache);
        node_input(m, positions);
        node_int(m, "axis", 0);
        cache = node_finish(m);
    }
    if (cache->rank >= 0 && cache->rank != 3)
        import_error(n, 301, "give position_ids, or a cache for each position", "a cache of %d axes",
                     cache->rank);
    return cache->rank == 3 ? build_unsqueeze(n->g, cache, length_first ? 2 : 1) : NULL;
}

static void import_rotary(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 3, 4) || n->in[0]->rank < 0 || !import_same_types(n, 0, 3)) return;
    Value *x = n->in[0], *whole = x;
    int64_t heads = import_int(n, "num_heads", 0), dims = import_int(n, "rotary_embedding_dim", 0);
    bool three = x->rank == 3, interleaved = import_int(n, "interleaved", 0) != 0;
    if (three && heads > 0) {
        Expr *h = expr_int(c, heads);
        whole = build_reshape(g, x, 4, (Expr *[]){x->dim[0], x->dim[1], h, expr_fdiv(c, x->dim[2], h)});
    }
    if (whole->rank != 4) {
        if (whole->rank >= 0) import_error(n, 301, "3 with num_heads, or 4", "an input of %d axes", x->rank);
        return;
    }
    Expr *zero = expr_int(c, 0), *all = dims ? expr_int(c, dims) : whole->dim[3],
         *half = expr_fdiv(c, all, expr_int(c, 2));
    Map *values = map_new(c);
    DType w = wide_type(x->dt);
    for (int i = 1; i < 3; i++) {
        Value *rows = cache_rows(n, n->in[i], import_in(n, 3), three);
        if (!rows) return;
        map_puts(values, i == 1 ? "c" : "s", build_cast(g, rows, w));
    }
    map_puts(values, "a", build_cast(g, part(g, whole, zero, half, interleaved ? 2 : 1), w));
    map_puts(
        values, "b",
        build_cast(g, part(g, whole, interleaved ? expr_int(c, 1) : half, half, interleaved ? 2 : 1), w));
    Value *turned[] = {graph_text(g, "c * a - s * b", values, NULL),
                       graph_text(g, "s * a + c * b", values, NULL)};
    if (turned[0]->rank != 4 || turned[1]->rank != 4) return;
    Value *y;
    if (interleaved) {
        for (int i = 0; i < 2; i++) turned[i] = build_unsqueeze(g, turned[i], 4);
        Expr *dim[] = {whole->dim[0], whole->dim[1], whole->dim[2], expr_mul(c, half, expr_int(c, 2))};
        y = build_reshape(g, build_concat(g, 2, turned, 4), 4, dim);
    } else y = build_concat(g, 2, turned, 3);
    y = build_cast(g, y, x->dt);
    if (all != whole->dim[3])
        y = build_concat(g, 2, (Value *[]){y, part(g, whole, all, expr_sub(c, whole->dim[3], all), 1)}, 3);
    n->out[0] = build_reshape(g, y, x->rank, x->dim);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_attention[] = {
    {BUILD = "Attention", .import = import_attention,
     .doc = "softmax(scale q k' + mask) v by heads, with keys and values of before, causal and windowed "
            "masks, and softcap."},
    {BUILD = "ai.onnx.preview:FlexAttention", .import = import_flex_attention,
     .doc = "Attention whose scores and probabilities go through graphs of the model."},
    {BUILD = "RotaryEmbedding", .import = import_rotary,
     .doc = "Pairs of elements turned by an angle that their position gives."},
};
const int gd_ops_attention_n = sizeof gd_ops_attention / sizeof *gd_ops_attention;
