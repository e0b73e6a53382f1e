/* Recurrent layers: RNN, GRU, LSTM. The input's part of all gates is one product over all steps, outside the
   loop; the loop carries the state and collects it. Gate order and biases are ONNX's; a sequence shorter than
   the others keeps its state behind its end, and its outputs there are 0.

   Going backwards, steps behind a sequence's end come first and leave the initial state as it is. */
#include "build.h"
#include "loops.h"

enum { MOST_ACTIVATIONS = 3 };

typedef struct Activation {
    const char *op;
    double alpha, beta;
    bool has_alpha, has_beta;
} Activation;

/* What all directions share. */
typedef struct Layer {
    Import *n;
    int gates, nact;
    Value *x, *lengths; /* [T, B, I]; [B, 1] or NULL */
    Expr *steps, *batch, *hidden;
    double clip;
    bool clips, input_forget, before_reset, batch_first;
    DType t, w; /* of the model, and what is computed in */
} Layer;

/* One direction. */
typedef struct Direction {
    Layer *layer;
    Activation act[MOST_ACTIVATIONS];
    Value *xw, *r, *bias_r, *peep[3]; /* xw: [T, B, G * H]; bias_r: GRU's, inside the reset */
    bool backwards;
    int index;
} Direction;

static Value *wide(const Layer *l, Value *v) { return build_cast(l->n->g, v, l->w); }

/* Slice `which` of v's axis, that axis gone. */
static Value *of_axis(Graph *g, Value *v, int axis, Expr *which) {
    return build_squeeze(g, build_slice_axis(g, v, axis, which, expr_int(g->c, 1)), axis);
}

/* The part of gate k along the last axis. */
static Value *gate(Graph *g, const Layer *l, Value *v, int k) {
    Ctx *c = g->c;
    return v->rank < 1
               ? v
               : build_slice_axis(g, v, v->rank - 1, expr_mul(c, expr_int(c, k), l->hidden), l->hidden);
}

/* a[.., K] by rows of b[M, K] */
static Value *by_rows(Graph *g, Value *a, Value *b) { return build_contract(g, a, b, 0, a->rank - 1, 1); }

/* ---- activations ---- */

static const struct {
    const char *onnx, *op;
    bool alpha, beta;
    double a, b;
} functions[] = {
    {"Sigmoid", "sigmoid", false, false, 0, 0},
    {"Tanh", "tanh", false, false, 0, 0},
    {"Relu", "relu", false, false, 0, 0},
    {"Affine", NULL, true, true, 1, 0},
    {"ScaledTanh", "tanh", true, true, 1, 1},
    {"LeakyRelu", "leaky_relu", true, false, .01, 0},
    {"ThresholdedRelu", "thresholded_relu", true, false, 1, 0},
    {"HardSigmoid", "hard_sigmoid", true, true, .2, .5},
    {"Elu", "elu", true, false, 1, 0},
    {"Softsign", "softsign", false, false, 0, 0},
    {"Softplus", "softplus", false, false, 0, 0},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static int lower_case(int ch) { return ch >= 'A' && ch <= 'Z' ? ch + 32 : ch; }
static bool same_name(const char *a, const char *b) {
    while (*a && lower_case(*a) == lower_case(*b)) {
        a++;
        b++;
    }
    return !*a && !*b;
}

static Value *scaled(Graph *g, Value *x, double by) {
    return by == 1 ? x : make(g, "mul", x, const_scalar(g, x->dt, by));
}

static Value *activate(Graph *g, const Layer *l, const Activation *a, Value *x) {
    if (l->clips) x = make(g, "clip", x, const_scalar(g, x->dt, -l->clip), const_scalar(g, x->dt, l->clip));
    if (!a->op) return make(g, "add", scaled(g, x, a->alpha), const_scalar(g, x->dt, a->beta));
    if (!strcmp(a->op, "tanh") && a->has_beta)
        return scaled(g, make(g, "tanh", scaled(g, x, a->beta)), a->alpha);
    Node *n = node_begin(g, a->op);
    node_input(n, x);
    if (a->has_alpha) node_float(n, "alpha", a->alpha);
    if (a->has_beta) node_float(n, "beta", a->beta);
    return node_finish(n);
}

/* The names in order, direction by direction; alphas and betas belong to those that have them, in order. */
static bool read_activations(Import *n, int directions, int nact, const char *const *usual, Direction *d) {
    const ImportAttr *names = import_has(n, "activations") ? import_attr(n, "activations") : NULL;
    const double *alpha, *beta;
    int nalpha = import_floats(n, "activation_alpha", &alpha),
        nbeta = import_floats(n, "activation_beta", &beta), a = 0, b = 0;
    if (names && (names->kind != IM_STRINGS || names->n < directions * nact)) {
        import_error(n, 204, NULL, "attribute activations: %d are needed", directions * nact);
        return false;
    }
    for (int i = 0; i < directions * nact; i++) {
        const char *name = names ? names->strings[i] : usual[i % nact];
        int f = 0;
        while (f < FUNCTIONS && !same_name(functions[f].onnx, name)) f++;
        if (f == FUNCTIONS) {
            import_error(n, 204, NULL, "attribute activations: there is no \"%s\"",
                         gd_escape(n->g->c, name, strlen(name)));
            return false;
        }
        Activation *act = &d[i / nact].act[i % nact];
        *act = (Activation){functions[f].op, functions[f].a, functions[f].b, functions[f].alpha,
                            functions[f].beta};
        if (act->has_alpha && a < nalpha) act->alpha = alpha[a++];
        if (act->has_beta && b < nbeta) act->beta = beta[b++];
    }
    return true;
}

/* ---- one step ---- */

/* state[0] is h, state[1] LSTM's c: what they become, from the input's part xt of the gates. */
typedef void Step(Graph *g, const Direction *d, Value *xt, Value *const *state, Value **next);

static void rnn_step(Graph *g, const Direction *d, Value *xt, Value *const *state, Value **next) {
    next[0] = activate(g, d->layer, &d->act[0], make(g, "add", xt, by_rows(g, state[0], d->r)));
}

static void gru_step(Graph *g, const Direction *d, Value *xt, Value *const *state, Value **next) {
    Ctx *c = g->c;
    const Layer *l = d->layer;
    Value *h = state[0], *inner, *update, *reset, *zero_h;
    Expr *two = expr_mul(c, expr_int(c, 2), l->hidden);
    if (d->r->rank != 2) return;
    if (l->before_reset) {
        Value *hr = by_rows(g, h, d->r);
        update = make(g, "add", gate(g, l, xt, 0), gate(g, l, hr, 0));
        reset = make(g, "add", gate(g, l, xt, 1), gate(g, l, hr, 1));
        inner = gate(g, l, hr, 2);
        if (d->bias_r) inner = make(g, "add", inner, d->bias_r);
        reset = activate(g, l, &d->act[0], reset);
        inner = make(g, "mul", reset, inner);
    } else {
        Value *hr = by_rows(g, h, build_slice_axis(g, d->r, 0, expr_int(c, 0), two));
        update = make(g, "add", gate(g, l, xt, 0), gate(g, l, hr, 0));
        reset = activate(g, l, &d->act[0], make(g, "add", gate(g, l, xt, 1), gate(g, l, hr, 1)));
        inner = by_rows(g, make(g, "mul", reset, h), build_slice_axis(g, d->r, 0, two, l->hidden));
    }
    update = activate(g, l, &d->act[0], update);
    zero_h = activate(g, l, &d->act[1], make(g, "add", gate(g, l, xt, 2), inner));
    Value *keep = make(g, "mul", update, h), *rest = make(g, "sub", const_scalar(g, h->dt, 1), update);
    next[0] = make(g, "add", make(g, "mul", rest, zero_h), keep);
}

static Value *peep(Graph *g, const Direction *d, int k, Value *gate, Value *cell) {
    return d->peep[k] ? make(g, "add", gate, make(g, "mul", d->peep[k], cell)) : gate;
}

static void lstm_step(Graph *g, const Direction *d, Value *xt, Value *const *state, Value **next) {
    const Layer *l = d->layer;
    Value *all = make(g, "add", xt, by_rows(g, state[0], d->r)), *c = state[1];
    Value *in = activate(g, l, &d->act[0], peep(g, d, 0, gate(g, l, all, 0), c));
    Value *forget = l->input_forget ? make(g, "sub", const_scalar(g, in->dt, 1), in)
                                    : activate(g, l, &d->act[0], peep(g, d, 2, gate(g, l, all, 2), c));
    Value *now = activate(g, l, &d->act[1], gate(g, l, all, 3));
    next[1] = make(g, "add", make(g, "mul", forget, c), make(g, "mul", in, now));
    Value *out = activate(g, l, &d->act[0], peep(g, d, 1, gate(g, l, all, 1), next[1]));
    Layer unclipped = *l;
    unclipped.clips = false;
    next[0] = make(g, "mul", out, activate(g, &unclipped, &d->act[2], next[1]));
}

/* ---- the loop of one direction ---- */

/* What a model's shapes leave open is checked here: the state is of one size at all steps. */
static Value *of_state(Graph *g, const Layer *l, Value *v) {
    return build_reshape(g, v, 2, (Expr *[]){l->batch, l->hidden});
}

/* result: the states at the end, and h of all steps [T, B, H] as result[2]. */
static bool run_direction(const Direction *d, Step *step, int nstate, Value *const *init, Value **result) {
    static const char *const names[] = {"h", "c"};
    const Layer *l = d->layer;
    Graph *g = l->n->g;
    Ctx *c = g->c;
    int errors = gd_error_count(c);
    Var *iter = loop_iteration(g, l->steps);
    Graph *body = graph_region(g);
    Expr *dim[] = {l->batch, l->hidden}, *at = expr_var(c, iter);
    if (d->backwards) at = expr_sub(c, expr_sub(c, l->steps, expr_int(c, 1)), at);
    Value *state[2], *next[2];
    for (int i = 0; i < nstate; i++) state[i] = graph_input(body, names[i], l->w, 2, dim);
    step(body, d, of_axis(body, d->xw, 0, at), state, next);
    for (int i = 0; i < nstate; i++) next[i] = of_state(body, l, next[i]);
    if (gd_error_count(c) > errors) return false;
    Value *y = next[0];
    if (l->lengths) {
        Value *live = make(body, "less", build_scalar(body, I64, at), l->lengths);
        for (int i = 0; i < nstate; i++) next[i] = make(body, "where", live, next[i], state[i]);
        y = make(body, "where", live, y, const_scalar(body, l->w, 0));
    }
    for (int i = 0; i < nstate; i++) graph_output(body, names[i], next[i]);
    graph_output(body, "y", y);
    Node *loop = make_loop(g, body, nstate, init, 1, l->steps, iter);
    if (gd_error_count(c) > errors) return false;
    for (int i = 0; i < nstate; i++) result[i] = loop->out[i];
    result[2] = d->backwards ? build_reverse(g, loop->out[nstate], 0) : loop->out[nstate];
    return true;
}

/* The weights of one direction: X W' and the biases that go with it, R, what stays inside. */
static bool read_weights(Direction *d, bool own_bias) {
    Layer *l = d->layer;
    Import *n = l->n;
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr *dir = expr_int(c, d->index), *width = expr_mul(c, expr_int(c, l->gates), l->hidden),
         *zero = expr_int(c, 0);
    Value *b = import_in(n, 3), *p = l->gates == 4 ? import_in(n, 7) : NULL;
    d->r = wide(l, of_axis(g, n->in[2], 0, dir));
    d->xw = by_rows(g, l->x, wide(l, of_axis(g, n->in[1], 0, dir)));
    if (b && b->rank == 2) {
        b = wide(l, of_axis(g, b, 0, dir));
        Value *bw = build_slice_axis(g, b, 0, zero, width), *br = build_slice_axis(g, b, 0, width, width);
        if (own_bias) { /* of GRU's hidden gate the recurrent bias stays inside the reset */
            Expr *two = expr_mul(c, expr_int(c, 2), l->hidden), *lo[] = {zero}, *hi[] = {l->hidden};
            d->bias_r = gate(g, l, br, 2);
            br = build_pad(g, build_slice_axis(g, br, 0, zero, two), lo, hi, NULL, NULL);
        }
        d->xw = make(g, "add", d->xw, make(g, "add", bw, br));
    }
    if (p && p->rank == 2) {
        p = wide(l, of_axis(g, p, 0, dir));
        for (int i = 0; i < 3; i++) d->peep[i] = gate(g, l, p, i);
    }
    return d->xw->rank == 3 && d->r->rank == 2;
}

/* [D, B, H], or [B, D, H] when the batch comes first: of one direction, or zeros. */
static Value *initial(const Layer *l, int input, int direction) {
    Graph *g = l->n->g;
    Value *v = import_in(l->n, input);
    if (v && v->rank == 3)
        return of_state(g, l, wide(l, of_axis(g, v, l->batch_first ? 1 : 0, expr_int(g->c, direction))));
    return build_broadcast(g, const_scalar(g, l->w, 0), 2, (Expr *[]){l->batch, l->hidden});
}

static bool read_layer(Import *n, Layer *l, int gates) {
    static const int64_t swap[] = {1, 0, 2};
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 3, gates == 4 ? 8 : 6) || !import_same_types(n, 0, 4)) return false;
    for (int i = 0; i < 3; i++) {
        if (n->in[i]->rank < 0) return false;
        if (n->in[i]->rank != 3) {
            import_error(n, 301, NULL, "input %d has %d axes, not 3", i, n->in[i]->rank);
            return false;
        }
    }
    Value *lengths = import_in(n, 4);
    *l = (Layer){.n = n,
                 .gates = gates,
                 .t = n->in[0]->dt,
                 .w = n->in[0]->dt == F64 ? F64 : F32,
                 .hidden = n->in[2]->dim[2]};
    l->batch_first = import_int(n, "layout", 0) != 0;
    l->clips = import_has(n, "clip");
    l->clip = import_float(n, "clip", 0);
    l->input_forget = gates == 4 && import_int(n, "input_forget", 0);
    l->before_reset = gates == 3 && import_int(n, "linear_before_reset", 0);
    import_int(n, "hidden_size", 0);
    import_int(n, "output_sequence", 0);
    l->x = wide(l, l->batch_first ? build_transpose(g, n->in[0], swap) : n->in[0]);
    if (l->x->rank != 3) return false;
    l->steps = l->x->dim[0];
    l->batch = l->x->dim[1];
    if (lengths && lengths->rank == 1)
        l->lengths = build_reshape(g, build_cast(g, lengths, I64), 2, (Expr *[]){l->batch, expr_int(c, 1)});
    return true;
}

static void import_recurrent(Import *n, int gates, int nact, const char *const *usual, Step *step) {
    static const int64_t batch_first[] = {2, 0, 1, 3}, state_first[] = {1, 0, 2};
    Graph *g = n->g;
    Layer l;
    if (!read_layer(n, &l, gates)) return;
    const char *way = import_string(n, "direction", "forward");
    int directions = strcmp(way, "bidirectional") ? 1 : 2, nstate = gates == 4 ? 2 : 1;
    Direction d[2] = {{.layer = &l}, {.layer = &l, .index = 1, .backwards = true}};
    d[0].backwards = !strcmp(way, "reverse");
    Value *all[3][2];
    if (!read_activations(n, directions, nact, usual, d)) return;
    for (int i = 0; i < directions; i++) {
        Value *init[2] = {initial(&l, 5, i), nstate > 1 ? initial(&l, 6, i) : NULL}, *result[3];
        if (!read_weights(&d[i], l.before_reset) || !run_direction(&d[i], step, nstate, init, result)) return;
        for (int k = 0; k < 3; k++)
            if (k == 2 || k < nstate)
                all[k][i] = build_unsqueeze(g, build_cast(g, result[k], l.t), k == 2 ? 1 : 0);
    }
    Value *y = build_concat(g, directions, all[2], 1);
    n->out[0] = l.batch_first ? build_transpose(g, y, batch_first) : y;
    for (int i = 0; i < nstate && i + 1 < n->nout; i++) {
        Value *v = build_concat(g, directions, all[i], 0);
        n->out[i + 1] = l.batch_first ? build_transpose(g, v, state_first) : v;
    }
}

static void import_rnn(Import *n) { import_recurrent(n, 1, 1, (const char *const[]){"Tanh"}, rnn_step); }
static void import_gru(Import *n) {
    import_recurrent(n, 3, 2, (const char *const[]){"Sigmoid", "Tanh"}, gru_step);
}
static void import_lstm(Import *n) {
    import_recurrent(n, 4, 3, (const char *const[]){"Sigmoid", "Tanh", "Tanh"}, lstm_step);
}

const Op gd_ops_rnn[] = {
    {.kind = OP_BUILD,
     .onnx = "RNN",
     .import = import_rnn,
     .doc = "h = f(W x + R h + b), step by step, in one or both directions."},
    {.kind = OP_BUILD,
     .onnx = "GRU",
     .import = import_gru,
     .doc = "Gated recurrent units, the reset before or behind the product."},
    {.kind = OP_BUILD,
     .onnx = "LSTM",
     .import = import_lstm,
     .doc = "Long short-term memory, with peepholes and coupled gates."},
};
const int gd_ops_rnn_n = sizeof gd_ops_rnn / sizeof *gd_ops_rnn;
