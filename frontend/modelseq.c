/* Layers over sequences: recurrent cells in a loop over the time axis, attention.

   The input's part of all gates is one product over all steps, in front of the loop; gates have the order of the framework
   whose parameters these are: Keras i f c o and z r h, PyTorch i f g o and r z n. GRU's reset comes behind the product in
   both. */
#include "model.h"
#include "ops/build.h"
#include "ops/loops.h"
#include <math.h>

/* ---- products ---- */

/* x W: Keras's matrices are [in, out], PyTorch's [out, in]. */
Value *layer_through(const Layer *l, Graph *g, Value *x, Value *w) {
    return build_contract(g, x, w, 0, x->rank - 1, l->d->torch ? 1 : 0);
}

/* ---- recurrent cells ---- */

typedef struct Cell {
    Layer *l;
    int gates, nstate;
    int64_t units;
    Value *w, *r, *b, *br; /* br: added to the state's part, inside; NULL: b has both */
    const char *activation;
} Cell;

static Value *gate(const Cell *c, Graph *g, Value *v, int k) {
    return build_slice_axis(g, v, v->rank - 1, expr_int(g->c, k * c->units), expr_int(g->c, c->units));
}

static Value *text2(Graph *g, const char *formula, int n, const char *const *name, Value *const *v) {
    Map *values = map_new(g->c);
    for (int i = 0; i < n; i++) map_puts(values, name[i], v[i]);
    return graph_text(g, formula, values, NULL);
}

static void lstm_step(const Cell *c, Graph *g, Value *xt, Value *const *state, Value **next) {
    Value *all = make(g, "add", xt, layer_through(c->l, g, state[0], c->r)), *v[5];
    int out = 3, now = 2; /* both frameworks: i f c o */
    v[0] = gate(c, g, all, 0);
    v[1] = gate(c, g, all, 1);
    v[2] = gate(c, g, all, now);
    v[3] = gate(c, g, all, out);
    v[4] = state[1];
    static const char *const names[] = {"i", "f", "n", "o", "c"};
    next[1] = text2(g, "sigmoid(f) * c + sigmoid(i) * tanh(n)", 5, names, v);
    v[4] = next[1];
    next[0] = text2(g, "sigmoid(o) * tanh(c)", 5, names, v);
}

static void gru_step(const Cell *c, Graph *g, Value *xt, Value *const *state, Value **next) {
    static const char *const names[] = {"xz", "xr", "xn", "hz", "hr", "hn", "h"};
    int z = c->l->d->torch ? 1 : 0;
    Value *h = layer_through(c->l, g, state[0], c->r);
    if (c->br) h = make(g, "add", h, c->br);
    Value *v[] = {gate(c, g, xt, z), gate(c, g, xt, 1 - z), gate(c, g, xt, 2), gate(c, g, h, z), gate(c, g, h, 1 - z), gate(c, g, h, 2), state[0]};
    next[0] = text2(g, "z = sigmoid(xz + hz); z * h + (1 - z) * tanh(xn + sigmoid(xr + hr) * hn)", 7, names, v);
}

static void rnn_step(const Cell *c, Graph *g, Value *xt, Value *const *state, Value **next) {
    next[0] = layer_activate(&(Layer){.d = c->l->d, .g = g, .c = c->l->c, .row = c->l->row}, c->activation, NAN,
                             make(g, "add", xt, layer_through(c->l, g, state[0], c->r)));
}

/* ---- parameters ---- */

static const char *suffixed(Layer *l, const char *name, int layer, bool back) {
    if (l->d->torch) return gd_format(l->c, "%s_l%d%s", name, layer, back ? "_reverse" : "");
    return layer ? gd_format(l->c, "%s%s_%d", back ? "backward_" : "", name, layer) : gd_format(l->c, "%s%s", back ? "backward_" : "", name);
}

static Value *weight(Layer *l, const char *keras, const char *torch, int layer, bool back, DType dt, int rank, int64_t a, int64_t b,
                     const char *init, const char *given, int64_t units) {
    int64_t dim[2] = {a, b};
    return layer_param(l, suffixed(l, keras, layer, back), suffixed(l, torch, layer, back), dt, rank, dim, l->d->torch ? layer_uniform(l, units) : init,
                       given, l->d->torch ? 0 : a, l->d->torch ? 0 : b);
}

/* Keras: the bias of LSTM's forget gate begins at 1. */
static void forget_bias(Layer *l, Value *b, DType dt, int64_t units) {
    StateVar *s = state_of(l->d->root, b);
    int64_t n = 4 * units, bytes = gd_dtypes[dt].bytes;
    if (!s || s->from || layer_has(l, "bias_init")) return;
    uint8_t *data = gd_alloc_aligned(l->c, (size_t)(n * bytes));
    for (int64_t i = 0; i < n; i++) gd_store_bits(dt, data + i * bytes, gd_to_bits(dt, i >= units && i < 2 * units));
    s->from = graph_const(l->d->root, dt, 1, &n, data);
}

static void cell_parameters(Cell *c, int64_t in, int layer, bool back, DType dt) {
    Layer *l = c->l;
    bool torch = l->d->torch;
    int64_t u = c->units, wide = c->gates * u;
    c->w = weight(l, "kernel", "weight_ih", layer, back, dt, 2, torch ? wide : in, torch ? in : wide, "glorot_uniform", layer_text(l, "init", NULL), u);
    c->r = weight(l, "recurrent_kernel", "weight_hh", layer, back, dt, 2, torch ? wide : u, torch ? u : wide, "orthogonal", NULL, u);
    c->b = c->br = NULL;
    if (l->d->failed || !layer_flag(l, "bias")) return;
    const char *given = layer_text(l, "bias_init", NULL);
    if (torch) {
        c->b = weight(l, "bias", "bias_ih", layer, back, dt, 1, wide, 0, "zeros", given, u);
        c->br = weight(l, "bias", "bias_hh", layer, back, dt, 1, wide, 0, "zeros", given, u);
        if (c->gates == 3 || l->d->failed) return;
        c->b = make(l->g, "add", c->b, c->br);
        c->br = NULL;
    } else if (c->gates == 3) { /* [2, 3 units]: the input's and the state's */
        Value *both = weight(l, "bias", "", layer, back, dt, 2, 2, wide, "zeros", given, u);
        Expr *one = expr_int(l->c, 1);
        if (l->d->failed) return;
        c->b = build_squeeze(l->g, build_slice_axis(l->g, both, 0, expr_int(l->c, 0), one), 0);
        c->br = build_squeeze(l->g, build_slice_axis(l->g, both, 0, one, one), 0);
    } else {
        c->b = weight(l, "bias", "", layer, back, dt, 1, wide, 0, "zeros", given, u);
        if (c->gates == 4) forget_bias(l, c->b, dt, u);
    }
}

/* ---- the loop ---- */

typedef void Step(const Cell *c, Graph *g, Value *xt, Value *const *state, Value **next);

/* x [T, N, C]: all h [T, N, units], and the states behind the last step. */
static bool over_time(Cell *c, Step *step, Value *x, bool back, Value *const *init, Value **y, Value **last) {
    static const char *const names[] = {"h", "c"};
    Layer *l = c->l;
    Graph *g = l->g, *body = graph_region(g);
    int errors = gd_error_count(l->c);
    Expr *steps = x->dim[0], *dim[] = {x->dim[1], expr_int(l->c, c->units)};
    Value *xw = layer_through(l, g, x, c->w), *state[2], *next[2], *first[2];
    if (c->b) xw = make(g, "add", xw, c->b);
    if (xw->rank != 3) return false;
    Var *iter = loop_iteration(g, steps);
    Expr *at = expr_var(l->c, iter);
    if (back) at = expr_sub(l->c, expr_sub(l->c, steps, expr_int(l->c, 1)), at);
    body->label = g->label;
    for (int i = 0; i < c->nstate; i++) {
        first[i] = init[i] ? build_reshape(g, init[i], 2, dim) : build_broadcast(g, const_scalar(g, x->dt, 0), 2, dim);
        state[i] = graph_input(body, names[i], x->dt, 2, dim);
    }
    step(c, body, build_squeeze(body, build_slice_axis(body, xw, 0, at, expr_int(l->c, 1)), 0), state, next);
    if (gd_error_count(l->c) > errors) return false;
    for (int i = 0; i < c->nstate; i++) graph_output(body, names[i], build_reshape(body, next[i], 2, dim));
    graph_output(body, "y", next[0]);
    Node *loop = make_loop(g, body, c->nstate, first, 1, steps, iter);
    if (gd_error_count(l->c) > errors) return false;
    for (int i = 0; i < c->nstate; i++) last[i] = loop->out[i];
    *y = back ? build_reverse(g, loop->out[c->nstate], 0) : loop->out[c->nstate];
    return true;
}

/* Every layer in one or both directions; the results are the sequence (or its end), h and c of the top layer. */
static void recurrent(Layer *l, int gates, int nstate, Step *step) {
    static const int64_t swap[] = {1, 0, 2};
    Graph *g = l->g;
    Value *x = l->in[0], *y = NULL, *last[2] = {NULL, NULL};
    bool both = layer_flag(l, "bidirectional"), back = layer_flag(l, "reverse"), time_first = layer_flag(l, "time_first");
    int64_t units = layer_int(l, "units"), layers = layer_int(l, "layers");
    const char *activation = gates == 1 ? layer_text(l, "activation", "tanh") : NULL;
    if (x->rank != 3) layer_error(l, 301, time_first ? "[T, N, C]" : "[N, T, C]", "the input is %s", value_type_text(l->c, x));
    else if (units < 1 || layers < 1 || layers > 1000) layer_error(l, 204, NULL, "%lld units in %lld layers", (long long)units, (long long)layers);
    else if (activation && !layer_activation(activation)) layer_error(l, 204, "tanh or relu", "there is no activation %s", activation);
    else if (l->nin > 1 && (layers > 1 || both || l->nin != 1 + nstate)) layer_error(l, 205, NULL, "%d initial states go with one layer of one direction", nstate);
    if (l->d->failed) return;
    x = time_first ? x : build_transpose(g, x, swap);
    for (int layer = 0; layer < layers; layer++) {
        Value *out[2], *state[2][2];
        int64_t in = layer_channels(l, x, 2);
        if (l->d->failed) return;
        for (int k = 0; k <= both; k++) {
            Cell c = {l, gates, nstate, units, NULL, NULL, NULL, NULL, activation};
            cell_parameters(&c, in, layer, k, x->dt);
            if (l->d->failed || !over_time(&c, step, x, k || back, &l->in[1], &out[k], state[k])) return;
        }
        y = x = both ? build_concat(g, 2, out, 2) : out[0];
        for (int i = 0; i < nstate; i++) last[i] = both ? build_concat(g, 2, (Value *[]){state[0][i], state[1][i]}, 1) : state[0][i];
    }
    bool sequence = layer_flag(l, "sequence") || (l->d->torch && !layer_flag(l, "last"));
    if (sequence) l->out[0] = time_first ? y : build_transpose(g, y, swap);
    else l->out[0] = last[0];
    for (int i = 0; i < nstate; i++) l->out[1 + i] = last[i];
    l->nout = 1 + nstate;
}
static void make_rnn(Layer *l) { recurrent(l, 1, 1, rnn_step); }
static void make_gru(Layer *l) { recurrent(l, 3, 1, gru_step); }
static void make_lstm(Layer *l) { recurrent(l, 4, 2, lstm_step); }

/* ---- attention ---- */

/* [N, T, H * D] -> [N, H, T, D] */
static Value *heads_apart(Graph *g, Value *v, int64_t heads) {
    static const int64_t perm[] = {0, 2, 1, 3};
    Ctx *c = g->c;
    Expr *h = expr_int(c, heads);
    return build_transpose(g, build_reshape(g, v, 4, (Expr *[]){v->dim[0], v->dim[1], h, expr_fdiv(c, v->dim[2], h)}), perm);
}

/* softmax(q k' / sqrt(D)) v over the keys that a query may see: those up to its own place. */
static Value *attend(Layer *l, Value *q, Value *k, Value *v, int64_t heads, bool causal) {
    static const int64_t perm[] = {0, 2, 1, 3};
    Graph *g = l->g;
    Ctx *c = l->c;
    if (q->rank != 3 || k->rank != 3 || v->rank != 3) return q->rank != 3 ? q : k->rank != 3 ? k : v;
    Expr *width = q->dim[2], *size = expr_fdiv(c, width, expr_int(c, heads));
    int64_t d = 1;
    is_int(size, &d);
    q = heads_apart(g, q, heads);
    k = heads_apart(g, k, heads);
    v = heads_apart(g, v, heads);
    Value *s = build_contract(g, q, k, 2, 3, 3), *probability = s;
    if (s->rank != 4) return s;
    s = make(g, "mul", s, const_scalar(g, s->dt, 1 / sqrt((double)d)));
    if (causal) {
        Expr *square[] = {s->dim[2], s->dim[3]};
        Value *seen = make(g, "less_equal", build_iota(g, I64, 2, square, 1), build_iota(g, I64, 2, square, 0));
        s = make(g, "where", seen, s, const_scalar(g, s->dt, -INFINITY));
    }
    ImportAttr axis = at_int("axis", -1);
    layer_onnx(l, "Softmax", 1, &s, 1, &axis, 1, &probability);
    Value *y = build_transpose(g, build_contract(g, probability, v, 2, 3, 2), perm);
    if (y->rank != 4) return y;
    return build_reshape(g, y, 3, (Expr *[]){y->dim[0], y->dim[1], width});
}

static bool heads_fit(Layer *l, int64_t heads, int64_t width) {
    for (int i = 0; i < l->nin; i++)
        if (l->in[i]->rank != 3) layer_error(l, 301, "[N, T, C]", "input %d is %s", i + 1, value_type_text(l->c, l->in[i]));
    if (!l->d->failed && (heads < 1 || width % heads)) layer_error(l, 204, NULL, "%lld heads do not divide %lld channels", (long long)heads, (long long)width);
    return !l->d->failed;
}

static void make_attend(Layer *l) {
    int64_t heads = layer_int(l, "heads"), width = layer_channels(l, l->in[0], l->in[0]->rank - 1);
    if (heads_fit(l, heads, width)) l->out[0] = attend(l, l->in[0], l->in[1], l->in[2], heads, layer_flag(l, "causal"));
}

/* x through columns `part` of `of` of the joint matrix [3 C, C]. */
static Value *joint(Layer *l, Value *x, Value *w, Value *b, int64_t part, int64_t n, int64_t width) {
    Expr *from = expr_int(l->c, part * width), *size = expr_int(l->c, n * width);
    Value *y = build_contract(l->g, x, build_slice_axis(l->g, w, 0, from, size), 0, 2, 1);
    return b ? make(l->g, "add", y, build_slice_axis(l->g, b, 0, from, size)) : y;
}

static void torch_attention(Layer *l, int64_t heads, int64_t width) {
    Value *x = l->in[0], *other = l->nin > 1 ? l->in[1] : x, *b = NULL, *bo = NULL, *qkv[3];
    DType dt = x->dt;
    int64_t dim[2] = {3 * width, width}, square[2] = {width, width};
    Value *w = layer_param(l, "", "in_proj_weight", dt, 2, dim, "glorot_uniform", layer_text(l, "init", NULL), width, 3 * width);
    if (layer_flag(l, "bias")) b = layer_param(l, "", "in_proj_bias", dt, 1, dim, "zeros", NULL, 0, 0);
    Value *wo = layer_param(l, "", "out_proj.weight", dt, 2, square, layer_uniform(l, width), layer_text(l, "init", NULL), width, width);
    if (layer_flag(l, "bias")) bo = layer_param(l, "", "out_proj.bias", dt, 1, square, "zeros", NULL, 0, 0);
    if (l->d->failed) return;
    if (other == x) {
        Value *all = joint(l, x, w, b, 0, 3, width);
        for (int i = 0; i < 3; i++) qkv[i] = build_slice_axis(l->g, all, 2, expr_int(l->c, i * width), expr_int(l->c, width));
    } else
        for (int i = 0; i < 3; i++) qkv[i] = joint(l, i ? other : x, w, b, i, 1, width);
    Value *y = attend(l, qkv[0], qkv[1], qkv[2], heads, layer_flag(l, "causal"));
    y = build_contract(l->g, y, wo, 0, 2, 1);
    l->out[0] = bo ? make(l->g, "add", y, bo) : y;
}

/* query, key, value: kernel [C, H, D], bias [H, D]; attention_output: kernel [H, D, C], bias [C]. */
static void keras_attention(Layer *l, int64_t heads, int64_t width) {
    static const char *const parts[] = {"query", "key", "value"};
    Value *qkv[3], *x = l->in[0];
    DType dt = x->dt;
    int64_t size = layer_has(l, "key_dim") ? layer_int(l, "key_dim") : width / heads, inner = heads * size;
    Expr *flat[2] = {NULL, expr_int(l->c, inner)};
    if (size < 1) layer_error(l, 204, NULL, "key_dim is %lld", (long long)size);
    for (int i = 0; i < 3; i++) {
        Value *from = i && l->nin > 1 ? l->in[1] : x;
        int64_t in = layer_channels(l, from, 2), dim[3] = {in, heads, size};
        if (l->d->failed) return;
        flat[0] = expr_int(l->c, in);
        Value *w = layer_param(l, gd_format(l->c, "%s/kernel", parts[i]), "", dt, 3, dim, "glorot_uniform", layer_text(l, "init", NULL), in * heads, in * size);
        if (l->d->failed) return;
        qkv[i] = build_contract(l->g, from, build_reshape(l->g, w, 2, flat), 0, 2, 0);
        if (!layer_flag(l, "bias")) continue;
        Value *b = layer_param(l, gd_format(l->c, "%s/bias", parts[i]), "", dt, 2, dim + 1, "zeros", NULL, 0, 0);
        if (l->d->failed) return;
        qkv[i] = make(l->g, "add", qkv[i], build_reshape(l->g, b, 1, flat + 1));
    }
    int64_t dim[3] = {heads, size, width};
    Value *w = layer_param(l, "attention_output/kernel", "", dt, 3, dim, "glorot_uniform", layer_text(l, "init", NULL), heads * size, heads * width);
    if (l->d->failed) return;
    Value *y = attend(l, qkv[0], qkv[1], qkv[2], heads, layer_flag(l, "causal"));
    y = build_contract(l->g, y, build_reshape(l->g, w, 2, (Expr *[]){flat[1], expr_int(l->c, width)}), 0, 2, 0);
    if (layer_flag(l, "bias")) y = make(l->g, "add", y, layer_param(l, "attention_output/bias", "", dt, 1, dim + 2, "zeros", NULL, 0, 0));
    l->out[0] = y;
}

static void make_attention(Layer *l) {
    int64_t heads = layer_int(l, "heads"), width = layer_channels(l, l->in[0], l->in[0]->rank - 1);
    if (!heads_fit(l, heads, l->d->torch || !layer_has(l, "key_dim") ? width : heads)) return;
    if (l->d->torch) torch_attention(l, heads, width);
    else keras_attention(l, heads, width);
}

#define CELL .min = 1, .positions = 1
#define CELL_ARGS {"units", 'n', 0}, {"layers", 'n', 1}, {"sequence", 'b', 0}, {"last", 'b', 0}, {"bidirectional", 'b', 0}, {"reverse", 'b', 0},   \
    {"time_first", 'b', 0}, {"bias", 'b', 1}, {"init", 'i', 0}, {"bias_init", 'i', 0}, {"l1", 'f', 0}, {"l2", 'f', 0}

const LayerRow gd_layers_seq[] = {
    {"lstm", NULL, CELL, .max = 3, .arg = {CELL_ARGS}, .keras = "lstm", .torch = "lstm", .make = make_lstm,
     .doc = "Long short-term memory over [N, T, C]: units. Results: the sequence or its end, h, c."},
    {"gru", NULL, CELL, .max = 2, .arg = {CELL_ARGS}, .keras = "gru", .torch = "gru", .make = make_gru,
     .doc = "Gated recurrent units over [N, T, C]: units. Results: the sequence or its end, h."},
    {"rnn", "simple_rnn", CELL, .max = 2, .arg = {CELL_ARGS, {"activation", 'w', 0}}, .keras = "simple_rnn", .torch = "rnn", .make = make_rnn,
     .doc = "h = tanh(W x + R h + b) over [N, T, C]: units. Results: the sequence or its end, h."},
    {"attention", "multi_head_attention", 1, 2, 1, .arg = {{"heads", 'n', 1}, {"causal", 'b', 0}, {"key_dim", 'n', 0}, {"bias", 'b', 1}, {"init", 'i', 0}, {"l1", 'f', 0}, {"l2", 'f', 0}},
     .keras = "multi_head_attention", .torch = "attention", .make = make_attention,
     .doc = "Multi-head attention with its projections over [N, T, C]; with a second input keys and values come from it."},
    {"attend", "scaled_dot_product_attention", 3, 3, 0, .arg = {{"heads", 'n', 1}, {"causal", 'b', 0}}, .make = make_attend,
     .doc = "softmax(q k' / sqrt(D)) v of q, k, v [N, T, C] by heads."},
    {0}};
