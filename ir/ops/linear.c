/* Sequence layers with a state of fixed size: linear attention, whose state is a matrix of keys by values
   that a loop carries from step to step, and causal convolution, whose state is the end of the input. */
#include "build.h"
#include "loops.h"
#include <math.h>

typedef struct Linear {
    Import *n;
    Value *q, *k, *v;    /* [B, T, H, D] */
    Value *decay, *beta; /* [B, T, H, 1 or D], [B, T, 1 or H, 1]; NULL: none */
    Expr *qheads, *heads;
    Var *iter;
} Linear;

static Value *wide(Graph *g, Value *v) { return build_cast(g, v, v->dt == F64 ? F64 : F32); }

/* [B, T, H * D] -> [B, T, H, D] */
static Value *split_heads(Import *n, Value *v, Expr *heads) {
    Ctx *c = n->g->c;
    if (v->rank != 3) {
        if (v->rank >= 0) import_error(n, 301, NULL, "a sequence of %d axes, not 3", v->rank);
        return NULL;
    }
    import_require(n, expr2(c, E_EQ, expr_fmod(c, v->dim[2], heads), expr_int(c, 0)),
                   "the heads do not divide the last axis");
    return build_reshape(n->g, wide(n->g, v), 4,
                         (Expr *[]){v->dim[0], v->dim[1], heads, expr_fdiv(c, v->dim[2], heads)});
}

/* The part of this step: [B, H, D]. */
static Value *now(Graph *body, const Linear *l, Value *v) {
    return build_squeeze(body, build_slice_axis(body, v, 1, expr_var(body->c, l->iter), expr_int(body->c, 1)),
                         1);
}

/* sum over d of a[B, H, d] * s[B, H, d, m] */
static Value *read_state(Graph *g, Value *a, Value *s) {
    Node *n = node_begin(g, "contract");
    node_input(n, a);
    node_input(n, s);
    node_ints(n, "a_batch", 2, (const int64_t[]){0, 1});
    node_ints(n, "b_batch", 2, (const int64_t[]){0, 1});
    node_ints(n, "a_contract", 1, (const int64_t[]){2});
    node_ints(n, "b_contract", 1, (const int64_t[]){2});
    return node_finish(n);
}

/* State S becomes exp(g) S + k (b (v - S' k))', or without what the rule leaves out; the result is q' S, each
   state serving several query heads. */
static Value *linear_step(Graph *body, const Linear *l, Value *state, Value **next) {
    Ctx *c = body->c;
    Value *q = now(body, l, l->q), *k = now(body, l, l->k), *v = now(body, l, l->v);
    if (l->decay)
        state = make(body, "mul", state, build_unsqueeze(body, make(body, "exp", now(body, l, l->decay)), 3));
    if (l->beta)
        v = make(body, "mul", now(body, l, l->beta), make(body, "sub", v, read_state(body, k, state)));
    state =
        make(body, "add", state, make(body, "mul", build_unsqueeze(body, k, 3), build_unsqueeze(body, v, 2)));
    *next = state;
    if (state->rank != 4) return state;
    if (l->heads != l->qheads) {
        Expr *each = expr_fdiv(c, l->qheads, l->heads),
             *d[] = {state->dim[0], l->heads, each, state->dim[2], state->dim[3]};
        Expr *dim[] = {state->dim[0], l->qheads, state->dim[2], state->dim[3]};
        state = build_reshape(body, build_broadcast(body, build_unsqueeze(body, state, 2), 5, d), 4, dim);
    }
    return read_state(body, q, state);
}

static bool read_linear(Import *n, Linear *l) {
    Ctx *c = n->g->c;
    int64_t qheads = import_int(n, "q_num_heads", 0), heads = import_int(n, "kv_num_heads", 0);
    const char *rule = import_string(n, "update_rule", "gated_delta");
    bool gated = !strcmp(rule, "gated") || !strcmp(rule, "gated_delta"),
         delta = !strcmp(rule, "delta") || !strcmp(rule, "gated_delta");
    Value *decay = import_in(n, 4), *beta = import_in(n, 5);
    import_int(n, "chunk_size", 0);
    if (!gated && !delta && strcmp(rule, "linear")) {
        import_error(n, 204, "linear, gated, delta or gated_delta", "attribute update_rule: \"%s\"",
                     gd_escape(c, rule, strlen(rule)));
        return false;
    }
    if (qheads < 1 || heads < 1 || qheads % heads) {
        import_error(n, 204, NULL, "%lld query heads and %lld key heads", (long long)qheads,
                     (long long)heads);
        return false;
    }
    if (gated != (decay != NULL) || delta != (beta != NULL)) {
        import_error(n, 205, NULL, "update rule %s does not go with the inputs decay and beta as given",
                     rule);
        return false;
    }
    *l = (Linear){.n = n, .qheads = expr_int(c, qheads), .heads = expr_int(c, heads)};
    l->q = split_heads(n, n->in[0], l->qheads);
    l->k = split_heads(n, n->in[1], l->heads);
    l->v = split_heads(n, n->in[2], l->heads);
    if (decay) l->decay = split_heads(n, decay, l->heads);
    if (beta) l->beta = split_heads(n, beta, beta->rank == 3 ? beta->dim[2] : l->heads);
    return l->q && l->k && l->v && (!decay || l->decay) && (!beta || l->beta) && l->q->rank == 4 &&
           l->k->rank == 4 && l->v->rank == 4;
}

static Value *query_scale(Linear *l) {
    Graph *g = l->n->g;
    double scale = import_float(l->n, "scale", 0);
    int64_t size;
    if (scale == 0 && is_int(l->k->dim[3], &size)) scale = 1 / sqrt((double)size);
    if (scale != 0) return const_scalar(g, l->q->dt, scale);
    return make(g, "reciprocal", make(g, "sqrt", build_scalar(g, l->q->dt, l->k->dim[3])));
}

static void import_linear_attention(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Linear l;
    if (!import_need(n, 3, 6)) return;
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank < 0) return;
    if (!read_linear(n, &l)) return;
    l.q = make(g, "mul", l.q, query_scale(&l));
    Value *past = import_in(n, 3), *init, *next;
    DType state_type = past ? past->dt : n->in[0]->dt;
    Expr *dim[] = {l.k->dim[0], l.heads, l.k->dim[3], l.v->dim[3]}, *steps = l.k->dim[1];
    init = past ? build_cast(g, past, l.q->dt) : build_broadcast(g, const_scalar(g, l.q->dt, 0), 4, dim);
    l.iter = loop_iteration(g, steps);
    Graph *body = graph_region(g);
    int errors = gd_error_count(c);
    Value *state = graph_input(body, "state", l.q->dt, 4, dim), *y = linear_step(body, &l, state, &next);
    if (gd_error_count(c) > errors) return;
    graph_output(body, "state", next);
    graph_output(body, "y", y);
    Node *loop = make_loop(g, body, 1, &init, 1, steps, l.iter);
    if (gd_error_count(c) > errors) return;
    Value *all =
        build_transpose(g, loop->out[1], (const int64_t[]){1, 0, 2, 3}); /* [T, B, H, D] -> [B, T, H, D] */
    if (all->rank != 4) return;
    all =
        build_reshape(g, all, 3, (Expr *[]){all->dim[0], all->dim[1], expr_mul(c, all->dim[2], all->dim[3])});
    n->out[0] = build_cast(g, all, n->in[0]->dt);
    if (n->nout > 1) n->out[1] = build_cast(g, loop->out[0], state_type);
}

/* For a number of channels that only the call knows: y[b, c, t] = sum over k of x[b, c, t + k] * w[c, 0, k]. */
static Value *open_depthwise(Import *n, Value *x, Value *w, Value *bias) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr *reach = w->dim[2], *steps = expr_sub(c, x->dim[2], expr_sub(c, reach, expr_int(c, 1)));
    Expr *dim[] = {steps, reach};
    import_require(n, expr2(c, E_AND, expr2(c, E_EQ, x->dim[1], w->dim[0]), expr2(c, E_EQ, w->dim[1], expr_int(c, 1))),
                   "there is one kernel a channel");
    Node *windows = node_begin(g, "gather");
    node_input(windows, x);
    node_input(windows, make(g, "add", build_iota(g, I64, 2, dim, 0), build_iota(g, I64, 2, dim, 1)));
    node_int(windows, "axis", 2);
    Value *all = node_finish(windows); /* [B, C, T, K] */
    Node *sum = node_begin(g, "contract");
    node_input(sum, all);
    node_input(sum, build_squeeze(g, w, 1));
    node_ints(sum, "a_batch", 1, (const int64_t[]){1});
    node_ints(sum, "b_batch", 1, (const int64_t[]){0});
    node_ints(sum, "a_contract", 1, (const int64_t[]){3});
    node_ints(sum, "b_contract", 1, (const int64_t[]){1});
    Value *y = node_finish(sum);
    if (y->rank < 0) return y;
    y = build_transpose(g, y, (const int64_t[]){1, 0, 2});
    return bias ? make(g, "add", y, build_unsqueeze(g, bias, 1)) : y;
}

static Value *depthwise(Graph *g, Value *x, Value *w, Value *bias, int64_t channels) {
    Node *conv = node_begin(g, "conv");
    node_input(conv, x);
    node_input(conv, w);
    if (bias) node_input(conv, bias);
    node_ints(conv, "strides", 1, (const int64_t[]){1});
    node_ints(conv, "dilations", 1, (const int64_t[]){1});
    node_int(conv, "group", channels);
    return node_finish(conv);
}

/* One kernel a channel over the input and what came before it. */
static void import_causal_conv(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    int64_t channels;
    if (!import_need(n, 2, 4)) return;
    for (int i = 0; i < n->nin; i++)
        if (n->in[i] && n->in[i]->rank < 0) return;
    Value *x = n->in[0], *w = n->in[1], *past = import_in(n, 3), *bias = import_in(n, 2);
    const char *activation = import_string(n, "activation", "none");
    bool silu = !strcmp(activation, "silu") || !strcmp(activation, "swish");
    if (!silu && strcmp(activation, "none")) {
        import_error(n, 204, "none, silu or swish", "attribute activation: \"%s\"",
                     gd_escape(c, activation, strlen(activation)));
        return;
    }
    if (x->rank != 3 || w->rank != 3 || (bias && bias->rank != 1)) {
        import_error(n, 301, NULL, "input and kernel need 3 axes, the bias one");
        return;
    }
    Expr *reach = expr_sub(c, w->dim[2], expr_int(c, 1)), *zero = expr_int(c, 0);
    Value *all =
        past ? build_concat(g, 2, (Value *[]){past, x}, 2)
             : build_pad(g, x, (Expr *[]){zero, zero, reach}, (Expr *[]){zero, zero, zero}, NULL, NULL);
    if (all->rank != 3) return;
    Value *y = is_int(w->dim[0], &channels) ? depthwise(g, all, w, bias, channels) : open_depthwise(n, all, w, bias);
    n->out[0] = silu ? build_cast(g, make(g, "swish", wide(g, y)), x->dt) : y;
    if (n->nout > 1)
        n->out[1] = build_slice_axis(g, all, 2, expr_sub(c, all->dim[2], reach), reach);
}

const Op gd_ops_linear[] = {
    {.kind = OP_BUILD,
     .onnx = "LinearAttention",
     .import = import_linear_attention,
     .doc = "Attention without softmax: a state of keys by values, with decay and the delta rule."},
    {.kind = OP_BUILD,
     .onnx = "CausalConvWithState",
     .import = import_causal_conv,
     .doc = "One kernel a channel over the input and the end of what came before."},
};
const int gd_ops_linear_n = sizeof gd_ops_linear / sizeof *gd_ops_linear;
