/* Recipes of training (ir/train): losses, metrics, optimizers, schedules and initialisers, each against its formula in
   double written here once more, run by the interpreter. tests/oracle/torch_recipes.py compares the formulas of this file
   with PyTorch's own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "grad.h"
#include "loop.h"
#include "ops/build.h"
#include "passes.h"

static uint64_t seed = 11;
static double rnd(void) { /* in [-1, 1) */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) / (1ull << 52) - 1;
}

/* ---- a graph that runs ---- */

enum { MOST = 64 };
typedef struct Net {
    Graph *g;
    Program *p;
    void *in[MOST], *out[MOST]; /* by the graph's positions; a changed state's memory is its output's */
} Net;

static void within(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, body, arg);
    if (status) fail_msg("%s", gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
    gd_close(c);
}

static void *room(Ctx *c, const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    assert_true(value_static(v, dims));
    for (int i = 0; i < v->rank; i++) n *= dims[i];
    return gd_alloc_aligned(c, (size_t)(n ? n : 1) * 8);
}

static Net *net_of(Graph *g) {
    Ctx *c = g->c;
    Net *n = gd_new(c, Net);
    n->g = g;
    if (gd_error_count(c)) gd_leave(c);
    assert_true(g->in.n <= MOST && g->out.n <= MOST);
    for (int i = 0; i < g->in.n; i++) n->in[i] = room(c, g->in.v[i]);
    for (int i = 0; i < g->out.n; i++) n->out[i] = room(c, g->out.v[i]);
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->out >= 0) n->in[g->states.v[i]->in] = n->out[g->states.v[i]->out];
    PassOptions o = {.opt = 2, .numerics = NUM_STRICT, .threads = 1, .machine = {8, 16, true, 32768, 1 << 20}};
    n->p = passes_run(g, &o);
    return n;
}

static void net_run(Net *n) {
    const void *in[MOST];
    int k = 0;
    for (int i = 0; i < n->g->in.n; i++) {
        bool changed = false;
        for (int s = 0; s < n->g->states.n; s++) changed |= n->g->states.v[s]->in == i && n->g->states.v[s]->out >= 0;
        if (!changed) in[k++] = n->in[i];
    }
    assert_int_equal(loop_interpret(n->g->c, n->p, &(LoopArgs){in, n->out, NULL}), 0);
}

static void *net_in(Net *n, const char *name) {
    for (int i = 0; i < n->g->in.n; i++)
        if (!strcmp(n->g->in_names.v[i], name)) return n->in[i];
    fail_msg("no input %s", name);
    return NULL;
}

static Recipe recipe(Ctx *c, const char *text) {
    Recipe r;
    const char *what;
    size_t at;
    if (!recipe_parse(c, text, &r, &what, &at)) fail_msg("%s: %s", text, what);
    return r;
}

static Value *input(Graph *g, const char *name, DType dt, int rank, const int64_t *dim) {
    Expr *e[MAX_RANK];
    for (int i = 0; i < rank; i++) e[i] = expr_int(g->c, dim[i]);
    return graph_input(g, name, dt, rank, e);
}

/* ---- optimizers ---- */

enum { N = 6, STEPS = 20, SLOT_COUNT = 4 };
typedef struct Ref { double w[N], s[SLOT_COUNT][N]; } Ref;
typedef struct Rule {
    const char *text;
    bool torch;
    double lr, k[6]; /* numbers for the formula */
    void (*step)(Ref *r, const double *g, int t, double lr, const double *k);
} Rule;
#define EACH for (int i = 0; i < N; i++)

static void sgd_keras(Ref *r, const double *g, int t, double lr, const double *k) {
    (void)t;
    EACH {
        double *m = &r->s[0][i];
        r->w[i] -= lr * k[2] * r->w[i];
        *m = k[0] * *m - lr * g[i];
        r->w[i] += k[1] != 0 ? k[0] * *m - lr * g[i] : *m;
    }
}
static void sgd_torch(Ref *r, const double *g, int t, double lr, const double *k) { /* momentum nesterov decay dampening */
    EACH {
        double *b = &r->s[0][i], d = g[i] + k[2] * r->w[i];
        *b = t == 1 ? d : k[0] * *b + (1 - k[3]) * d;
        r->w[i] -= lr * (k[1] != 0 ? d + k[0] * *b : *b);
    }
}
static void adam_keras(Ref *r, const double *g, int t, double lr, const double *k) { /* b1 b2 eps decay amsgrad */
    double a = lr * sqrt(1 - pow(k[1], t)) / (1 - pow(k[0], t));
    EACH {
        double *m = &r->s[0][i], *v = &r->s[1][i], *x = &r->s[2][i];
        r->w[i] -= lr * k[3] * r->w[i];
        *m += (g[i] - *m) * (1 - k[0]);
        *v += (g[i] * g[i] - *v) * (1 - k[1]);
        *x = fmax(*x, *v);
        r->w[i] -= a * *m / (sqrt(k[4] != 0 ? *x : *v) + k[2]);
    }
}
static void adam_torch(Ref *r, const double *grad, int t, double lr, const double *k) { /* b1 b2 eps L2 amsgrad decay */
    EACH {
        double *m = &r->s[0][i], *v = &r->s[1][i], *x = &r->s[2][i], g = grad[i] + k[3] * r->w[i];
        r->w[i] *= 1 - lr * k[5];
        *m = k[0] * *m + (1 - k[0]) * g;
        *v = k[1] * *v + (1 - k[1]) * g * g;
        *x = fmax(*x, *v);
        double mhat = *m / (1 - pow(k[0], t)), vhat = (k[4] != 0 ? *x : *v) / (1 - pow(k[1], t));
        r->w[i] -= lr * mhat / (sqrt(vhat) + k[2]);
    }
}

static const Rule rules[] = {
    {"sgd", false, .01, {0}, sgd_keras},
    {"sgd momentum=.9", false, .01, {.9}, sgd_keras},
    {"sgd momentum=.9 nesterov=true weight_decay=.1 lr=.05", false, .05, {.9, 1, .1}, sgd_keras},
    {"sgd", true, .01, {0}, sgd_torch},
    {"sgd momentum=.9 dampening=.3", true, .01, {.9, 0, 0, .3}, sgd_torch},
    {"sgd lr=.1, momentum=.9, nesterov=1, weight_decay=.2", true, .1, {.9, 1, .2}, sgd_torch},
    {"adam", false, 1e-3, {.9, .999, 1e-7}, adam_keras},
    {"adam lr=.01 beta1=.8 beta2=.95 epsilon=1e-3 amsgrad=1 weight_decay=.1", false, .01, {.8, .95, 1e-3, .1, 1}, adam_keras},
    {"adamw", false, 1e-3, {.9, .999, 1e-7, .004}, adam_keras},
    {"adam", true, 1e-3, {.9, .999, 1e-8}, adam_torch},
    {"adam lr=.01 b1=.8 b2=.95 eps=1e-3 amsgrad=1 weight_decay=.1", true, .01, {.8, .95, 1e-3, .1, 1}, adam_torch},
    {"adamw", true, 1e-3, {.9, .999, 1e-8, 0, 0, .01}, adam_torch},
};

/* The first value of a state, as the trainer makes it. */
static void start(Net *n) {
    Graph *g = n->g;
    for (int i = 0; i < g->states.n; i++) {
        const StateVar *s = g->states.v[i];
        const Value *v = g->in.v[s->in];
        int64_t dims[MAX_RANK], count = 1;
        if (!s->init || !value_static(v, dims)) continue;
        Recipe r = recipe(g->c, s->init);
        assert_string_equal(r.name, "constant");
        for (int k = 0; k < v->rank; k++) count *= dims[k];
        for (int64_t k = 0; k < count; k++) {
            if (v->dt == F32) ((float *)n->in[s->in])[k] = (float)r.arg[0].v;
            else ((int64_t *)n->in[s->in])[k] = (int64_t)r.arg[0].v;
        }
    }
}

static void optimize(Ctx *c, void *arg) {
    const Rule *rule = arg;
    const int64_t dim[2] = {2, 3};
    TrainSpec spec = {.torch = rule->torch, .optimizer = recipe(c, rule->text)};
    Graph *g = graph_new(c, "net");
    Value *w = state_new(g, ST_PARAM, "w", F32, 2, dim, NULL), *dw = input(g, "g", F32, 2, dim), *n = train_step_number(g);
    double lr = optimizer_rate(&spec);
    assert_true(lr == rule->lr);
    Value *next = optimizer_build(g, &spec, w, dw, train_rate(g, lr), NAN);
    if (!next) gd_leave(c);
    state_next(g, w, next);
    state_next(g, n, make(g, "add", n, const_scalar(g, I64, 1)));
    Net *net = net_of(g);
    start(net);
    Ref ref = {0};
    float *wf = net_in(net, "w"), *gf = net_in(net, "g");
    EACH ref.w[i] = wf[i] = (float)rnd();
    for (int i = 0; i < g->states.n; i++) { /* slots that do not start at zero */
        const StateVar *s = g->states.v[i];
        if (s->kind == ST_SLOT && s->init)
            for (int k = 0; k < N; k++) ref.s[0][k] = recipe(c, s->init).arg[0].v;
    }
    for (int t = 1; t <= STEPS; t++) {
        double gd[N];
        EACH gd[i] = gf[i] = (float)(rnd() * (i ? 1 : 1e-3));
        net_run(net);
        rule->step(&ref, gd, t, lr, rule->k);
        EACH if (!(fabs(wf[i] - ref.w[i]) <= 1e-5 * (1 + fabs(ref.w[i]))))
            fail_msg("%s (%s), step %d, element %d: %.9g, not %.9g", rule->text, rule->torch ? "torch" : "keras", t, i,
                     (double)wf[i], ref.w[i]);
    }
}

static void test_optimizers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) within(optimize, (void *)&rules[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_optimizers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
