/* The optimizers of ai.onnx.preview.training: one step each, as composite text over every tensor of the list.
   The inputs are the rate r and the number t of steps done, then all tensors, all gradients, and all states
   of one kind after the other. */
#include "build.h"

/* A formula gives the new value of the tensor or of one of its states, which later formulas then see under
 * their name. */
typedef struct Rule {
    const char *name, *formula;
} Rule;

static void number(Import *n, Map *attrs, const char *name, double def) {
    Attr *a = gd_new(n->g->c, Attr);
    *a = (Attr){.kind = AT_FLOAT, .f = import_float(n, name, def)};
    map_puts(attrs, name, a);
}

/* Per tensor: x, its gradient g, and the states in order. Steps are run in order; the last formulas of x and
   the states are the outputs. */
static void optimize(Import *n, Map *attrs, int nstate, const char *const *state, int nrule,
                     const Rule *rule) {
    Graph *g = n->g;
    int kinds = 2 + nstate, count = (n->nin - 2) / kinds;
    if (n->nin < 2 + kinds || (n->nin - 2) % kinds) {
        import_error(n, 205, NULL, "%d inputs are not 2 and %d for each tensor", n->nin, kinds);
        return;
    }
    for (int i = 0; i < n->nin; i++)
        if (!n->in[i] || n->in[i]->rank < 0) return;
    for (int k = 0; k < count; k++) {
        Map *values = map_new(g->c);
        Value *x = n->in[2 + k];
        DType t = x->dt, w = t == F64 ? F64 : F32;
        map_puts(values, "r", build_cast(g, n->in[0], w));
        map_puts(values, "t", build_cast(g, n->in[1], w));
        map_puts(values, "x", build_cast(g, x, w));
        map_puts(values, "g", build_cast(g, n->in[2 + count + k], w));
        for (int s = 0; s < nstate; s++)
            map_puts(values, state[s], build_cast(g, n->in[2 + (2 + s) * count + k], w));
        for (int i = 0; i < nrule; i++)
            map_puts(values, rule[i].name, graph_text(g, rule[i].formula, values, attrs));
        for (int s = -1; s < nstate; s++) {
            int out = (s + 1) * count + k;
            if (out < n->nout) n->out[out] = build_cast(g, map_gets(values, s < 0 ? "x" : state[s]), t);
        }
    }
}

#define REGULARIZED                                                                                          \
    { "g", "norm_coefficient * x + g" }

static void import_adam(Import *n) {
    static const char *const state[] = {"v", "h"};
    static const Rule rule[] = {
        REGULARIZED,
        {"v", "alpha * v + (1 - alpha) * g"},
        {"h", "beta * h + (1 - beta) * (g * g)"},
        {"rate", "t > 0 ? r * sqrt(1 - pow(beta, t)) / (1 - pow(alpha, t)) : r"},
        {"x", "(1 - norm_coefficient_post) * (x - rate * (v / (sqrt(h) + epsilon)))"}};
    Map *attrs = map_new(n->g->c);
    number(n, attrs, "alpha", .9);
    number(n, attrs, "beta", .999);
    number(n, attrs, "epsilon", 0);
    number(n, attrs, "norm_coefficient", 0);
    number(n, attrs, "norm_coefficient_post", 0);
    optimize(n, attrs, 2, state, sizeof rule / sizeof *rule, rule);
}

static void import_adagrad(Import *n) {
    static const char *const state[] = {"h"};
    static const Rule rule[] = {{"rate", "r / (1 + t * decay_factor)"},
                                REGULARIZED,
                                {"h", "h + g * g"},
                                {"x", "x - rate * g / (sqrt(h) + epsilon)"}};
    Map *attrs = map_new(n->g->c);
    number(n, attrs, "decay_factor", 0);
    number(n, attrs, "epsilon", 0);
    number(n, attrs, "norm_coefficient", 0);
    optimize(n, attrs, 1, state, sizeof rule / sizeof *rule, rule);
}

static void import_momentum(Import *n) {
    static const char *const state[] = {"v"};
    const char *mode = import_string(n, "mode", "standard");
    bool nesterov = !strcmp(mode, "nesterov");
    const Rule rule[] = {REGULARIZED,
                         {"v", "alpha * v + (t > 0 ? beta * g : g)"},
                         {"x", nesterov ? "x - r * (g + alpha * v)" : "x - r * v"}};
    Map *attrs = map_new(n->g->c);
    number(n, attrs, "alpha", 0);
    number(n, attrs, "beta", 0);
    number(n, attrs, "norm_coefficient", 0);
    if (!nesterov && strcmp(mode, "standard")) {
        import_error(n, 204, "standard or nesterov", "attribute mode: \"%s\"",
                     gd_escape(n->g->c, mode, strlen(mode)));
        return;
    }
    optimize(n, attrs, 1, state, sizeof rule / sizeof *rule, rule);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_optimizer[] = {
    {BUILD = "ai.onnx.preview.training:Adam", .import = import_adam, .doc = "One step of Adam."},
    {BUILD = "ai.onnx.preview.training:Adagrad", .import = import_adagrad, .doc = "One step of Adagrad."},
    {BUILD = "ai.onnx.preview.training:Momentum", .import = import_momentum,
     .doc = "One step of gradient descent with momentum."},
};
const int gd_ops_optimizer_n = sizeof gd_ops_optimizer / sizeof *gd_ops_optimizer;
