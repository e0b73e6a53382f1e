/* Recipes of training (ir/train): losses, metrics, optimizers, schedules and initialisers, each against its formula in
   double written here once more, run by the interpreter. tests/oracle/recipes.py compares what this program computes with
   Keras and PyTorch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "codegen.h"
#include "grad.h"
#include "loop.h"
#include "ops/build.h"
#include "passes.h"
#include "train/recipe.h"

static uint64_t seed = 11;
static double rnd(void) { /* in [-1, 1) */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) / (1ull << 52) - 1;
}

/* ---- what is computed, for the oracle: a line of JSON a case to the file that RECIPES_DUMP names ---- */

static FILE *dump;
static void put_list(const char *key, const double *v, int n) {
    if (!dump) return;
    fprintf(dump, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) fprintf(dump, "%s%.17g", i ? ", " : "", v[i]);
    fprintf(dump, "]");
}
static void put_case(const char *kind, const char *text, bool torch) {
    if (dump) fprintf(dump, "{\"kind\": \"%s\", \"text\": \"%s\", \"torch\": %s", kind, text, torch ? "true" : "false");
}
static void put_text(const char *key, const char *v) {
    if (dump) fprintf(dump, ", \"%s\": \"%s\"", key, v);
}
static void put_end(void) {
    if (dump) fprintf(dump, "}\n");
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
    assert_true(n->p->syms.n <= 8);
    return n;
}

static void net_run(Net *n) {
    const void *in[MOST];
    int64_t syms[8];
    int k = 0;
    for (int i = 0; i < n->g->in.n; i++) {
        bool changed = false;
        for (int s = 0; s < n->g->states.n; s++) changed |= n->g->states.v[s]->in == i && n->g->states.v[s]->out >= 0;
        if (!changed) in[k++] = n->in[i];
    }
    assert_int_equal(loop_interpret(n->g->c, n->p, &(LoopArgs){in, n->out, syms}), 0);
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

static void rmsprop(Ref *r, const double *grad, bool torch, double lr, const double *k) { /* rho momentum eps centered decay */
    EACH {
        double *v = &r->s[0][i], *a = &r->s[1][i], *b = &r->s[2][i], g = grad[i] + (torch ? k[4] * r->w[i] : 0);
        if (!torch) r->w[i] *= 1 - lr * k[4];
        *v = k[0] * *v + (1 - k[0]) * g * g;
        *a = k[0] * *a + (1 - k[0]) * g;
        double h = k[3] != 0 ? *v - *a * *a : *v, d = torch ? g / (sqrt(h) + k[2]) : g / sqrt(h + k[2]);
        *b = k[1] * *b + d;
        r->w[i] -= lr * *b;
    }
}
static void rmsprop_keras(Ref *r, const double *g, int t, double lr, const double *k) { (void)t; rmsprop(r, g, false, lr, k); }
static void rmsprop_torch(Ref *r, const double *g, int t, double lr, const double *k) { (void)t; rmsprop(r, g, true, lr, k); }
static void adagrad_keras(Ref *r, const double *g, int t, double lr, const double *k) {
    (void)t;
    EACH {
        r->s[0][i] += g[i] * g[i];
        r->w[i] -= lr * g[i] / sqrt(r->s[0][i] + k[0]);
    }
}
static void adagrad_torch(Ref *r, const double *grad, int t, double lr, const double *k) { /* eps lr_decay decay */
    EACH {
        double g = grad[i] + k[2] * r->w[i];
        r->s[0][i] += g * g;
        r->w[i] -= lr / (1 + (t - 1) * k[1]) * g / (sqrt(r->s[0][i]) + k[0]);
    }
}
static void adadelta(Ref *r, const double *g, int t, double lr, const double *k) { /* rho eps */
    (void)t;
    EACH {
        double *v = &r->s[0][i], *u = &r->s[1][i];
        *v = k[0] * *v + (1 - k[0]) * g[i] * g[i];
        double d = sqrt(*u + k[1]) / sqrt(*v + k[1]) * g[i];
        *u = k[0] * *u + (1 - k[0]) * d * d;
        r->w[i] -= lr * d;
    }
}
static void adamax_keras(Ref *r, const double *g, int t, double lr, const double *k) {
    EACH {
        double *m = &r->s[0][i], *u = &r->s[1][i];
        *m += (g[i] - *m) * (1 - k[0]);
        *u = fmax(k[1] * *u, fabs(g[i]));
        r->w[i] -= lr * *m / ((1 - pow(k[0], t)) * (*u + k[2]));
    }
}
static void adamax_torch(Ref *r, const double *g, int t, double lr, const double *k) {
    EACH {
        double *m = &r->s[0][i], *u = &r->s[1][i];
        *m = k[0] * *m + (1 - k[0]) * g[i];
        *u = fmax(k[1] * *u, fabs(g[i]) + k[2]);
        r->w[i] -= lr / (1 - pow(k[0], t)) * *m / *u;
    }
}
static void nadam(Ref *r, const double *g, int t, double lr, const double *k) { /* b1 b2 eps momentum_decay */
    double product = 1, mu = 0;
    for (int j = 1; j <= t; j++) product *= mu = k[0] * (1 - .5 * pow(.96, j * k[3]));
    double next = k[0] * (1 - .5 * pow(.96, (t + 1) * k[3]));
    EACH {
        double *m = &r->s[0][i], *v = &r->s[1][i];
        *m = k[0] * *m + (1 - k[0]) * g[i];
        *v = k[1] * *v + (1 - k[1]) * g[i] * g[i];
        double mhat = next * *m / (1 - product * next) + (1 - mu) * g[i] / (1 - product);
        r->w[i] -= lr * mhat / (sqrt(*v / (1 - pow(k[1], t))) + k[2]);
    }
}
static void radam(Ref *r, const double *g, int t, double lr, const double *k) {
    double most = 2 / (1 - k[1]) - 1, rho = most - 2 * t * pow(k[1], t) / (1 - pow(k[1], t));
    double rect = sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho));
    EACH {
        double *m = &r->s[0][i], *v = &r->s[1][i];
        *m = k[0] * *m + (1 - k[0]) * g[i];
        *v = k[1] * *v + (1 - k[1]) * g[i] * g[i];
        double mhat = *m / (1 - pow(k[0], t));
        r->w[i] -= lr * mhat * (rho > 5 ? rect * sqrt(1 - pow(k[1], t)) / (sqrt(*v) + k[2]) : 1);
    }
}
static void lion(Ref *r, const double *g, int t, double lr, const double *k) { /* b1 b2 decay */
    (void)t;
    EACH {
        double *m = &r->s[0][i], c = k[0] * *m + (1 - k[0]) * g[i];
        r->w[i] -= lr * ((c > 0) - (c < 0) + k[2] * r->w[i]);
        *m = k[1] * *m + (1 - k[1]) * g[i];
    }
}
static void lamb(Ref *r, const double *g, int t, double lr, const double *k) { /* b1 b2 eps, decay: decoupled, in the step */
    double u[N], a = 0, b = 0;
    EACH {
        double *m = &r->s[0][i], *v = &r->s[1][i];
        r->w[i] -= lr * k[3] * r->w[i];
        *m = k[0] * *m + (1 - k[0]) * g[i];
        *v = k[1] * *v + (1 - k[1]) * g[i] * g[i];
        u[i] = *m / (1 - pow(k[0], t)) / (sqrt(*v / (1 - pow(k[1], t))) + k[2]) + k[4] * r->w[i];
        a += r->w[i] * r->w[i];
        b += u[i] * u[i];
    }
    EACH r->w[i] -= lr * sqrt(a / b) * u[i];
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
    {"rmsprop", false, 1e-3, {.9, 0, 1e-7}, rmsprop_keras},
    {"rmsprop lr=.02 rho=.8 momentum=.5 epsilon=1e-3 centered=1 weight_decay=.1", false, .02, {.8, .5, 1e-3, 1, .1}, rmsprop_keras},
    {"rmsprop", true, .01, {.99, 0, 1e-8}, rmsprop_torch},
    {"rmsprop lr=.02 alpha=.8 momentum=.5 eps=1e-3 centered=1 weight_decay=.1", true, .02, {.8, .5, 1e-3, 1, .1}, rmsprop_torch},
    {"adagrad", false, 1e-3, {1e-7}, adagrad_keras},
    {"adagrad lr_decay=.1 weight_decay=.01", true, .01, {1e-10, .1, .01}, adagrad_torch},
    {"adadelta", false, 1e-3, {.95, 1e-7}, adadelta},
    {"adadelta", true, 1, {.9, 1e-6}, adadelta},
    {"adamax", false, 1e-3, {.9, .999, 1e-7}, adamax_keras},
    {"adamax", true, 2e-3, {.9, .999, 1e-8}, adamax_torch},
    {"nadam", false, 1e-3, {.9, .999, 1e-7, 1}, nadam},
    {"nadam", true, 2e-3, {.9, .999, 1e-8, 4e-3}, nadam},
    {"radam", false, 1e-3, {.9, .999, 1e-7}, radam},
    {"radam", true, 1e-3, {.9, .999, 1e-8}, radam},
    {"lion weight_decay=.1", false, 1e-3, {.9, .99, .1}, lion},
    {"lion", true, 1e-4, {.9, .99}, lion},
    {"lamb weight_decay=.1", false, 1e-3, {.9, .999, 1e-7, .1}, lamb},
    {"lamb weight_decay=.1", true, 1e-3, {.9, .999, 1e-8, 0, .1}, lamb},
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
            else if (v->dt == F64) ((double *)n->in[s->in])[k] = r.arg[0].v;
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
        if (s->kind == ST_SLOT && s->init && g->in.v[s->in]->rank)
            for (int k = 0; k < N; k++) ref.s[0][k] = recipe(c, s->init).arg[0].v;
    }
    double all[STEPS * N];
    put_case("optimizer", rule->text, rule->torch);
    put_list("w", ref.w, N);
    for (int t = 1; t <= STEPS; t++) {
        double *gd = all + (t - 1) * N;
        EACH gd[i] = gf[i] = (float)(rnd() * (i ? 1 : 1e-3));
        net_run(net);
        rule->step(&ref, gd, t, lr, rule->k);
        EACH if (!(fabs(wf[i] - ref.w[i]) <= 1e-5 * (1 + fabs(ref.w[i]))))
            fail_msg("%s (%s), step %d, element %d: %.9g, not %.9g, g %.9g", rule->text, rule->torch ? "torch" : "keras", t, i,
                     (double)wf[i], ref.w[i], gd[i]);
    }
    double last[N];
    EACH last[i] = (double)wf[i];
    put_list("g", all, STEPS * N);
    put_list("out", last, N);
    put_end();
}

static void test_optimizers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) within(optimize, (void *)&rules[i]);
}

/* ---- losses ---- */

/* Predictions as [outer, classes, inner]; t has the same places, or one class number for each of outer and inner. */
typedef struct Shape { int outer, classes, inner; } Shape;
typedef struct Loss {
    const char *text;
    bool torch, strict;
    const char *made; /* what makes p of x, over its class axis: "" (x itself), "softmax", "log_softmax", "sigmoid" */
    Shape shape;
    enum { ANY, PROBS, SIGNS, POSITIVE, CLASSES } target;
    double (*value)(const struct Loss *l, const double *p, const double *t);
    double k[4];
    bool weighted;
} Loss;

static int at(const Loss *l, int o, int c, int i) { return (o * l->shape.classes + c) * l->shape.inner + i; }
static int places(const Loss *l) { return l->shape.outer * l->shape.classes * l->shape.inner; }
#define OVER_SAMPLES(l) for (int o = 0; o < (l)->shape.outer; o++) for (int i = 0; i < (l)->shape.inner; i++)
#define OVER_CLASSES(l) for (int c = 0; c < (l)->shape.classes; c++)

static const double class_weight[5] = {1, 2, .5, 0, 3};
static double sample_weight(int o) { return .5 + o; }

static double mean_of(const Loss *l, const double *p, const double *t, double (*f)(double, double, const double *)) {
    double sum = 0;
    for (int i = 0; i < places(l); i++) {
        int o = i / (l->shape.classes * l->shape.inner);
        sum += f(p[i], t[i], l->k) * (l->weighted ? sample_weight(o) : 1);
    }
    return sum / places(l);
}
#define ELEMENTWISE(NAME, F)                                                                                            \
    static double NAME##_1(double p, double t, const double *k) { (void)k; return F; }                                  \
    static double NAME(const Loss *l, const double *p, const double *t) { return mean_of(l, p, t, NAME##_1); }
ELEMENTWISE(mse, (p - t) * (p - t))
ELEMENTWISE(mae, fabs(p - t))
ELEMENTWISE(huber, fabs(p - t) <= k[0] ? .5 * (p - t) * (p - t) : k[0] * fabs(p - t) - .5 * k[0] * k[0])

static double clamp(double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; }
static double bce_1(double p, double t, const double *k) { /* smoothing, positive weight - 1 */
    double q = clamp(p, 1e-7, 1 - 1e-7), y = t * (1 - k[0]) + .5 * k[0];
    return -((1 + k[1]) * y * log(q) + (1 - y) * log(1 - q));
}
static double bce(const Loss *l, const double *p, const double *t) { return mean_of(l, p, t, bce_1); }
static double bce_exact_1(double p, double t, const double *k) {
    double y = t * (1 - k[0]) + .5 * k[0];
    return -((1 + k[1]) * y * fmax(log(p), -100) + (1 - y) * fmax(log(1 - p), -100));
}
static double bce_exact(const Loss *l, const double *p, const double *t) { return mean_of(l, p, t, bce_exact_1); }
static double bce_scores_1(double p, double t, const double *k) { return bce_exact_1(1 / (1 + exp(-p)), t, k); }
static double bce_scores(const Loss *l, const double *p, const double *t) { return mean_of(l, p, t, bce_scores_1); }

/* log p of each place, from what p is. */
static void logs(const Loss *l, const double *p, double *out, bool scores, bool clipped) {
    OVER_SAMPLES(l) {
        double sum = 0;
        OVER_CLASSES(l) sum += scores ? exp(p[at(l, o, c, i)]) : p[at(l, o, c, i)];
        OVER_CLASSES(l) {
            double v = p[at(l, o, c, i)];
            out[at(l, o, c, i)] = scores ? v - log(sum) : clipped ? log(clamp(v / sum, 1e-7, 1 - 1e-7)) : log(v);
        }
    }
}

/* k: ignored class (or -1), smoothing, class weights?; how they are averaged differs. */
static double sparse_of(const Loss *l, const double *logp, const double *t) {
    double sum = 0, divisor = 0;
    OVER_SAMPLES(l) {
        int y = (int)t[o * l->shape.inner + i];
        double u = 0, v, w = l->k[2] != 0 && y >= 0 ? class_weight[y] : 1;
        bool counted = y != l->k[0];
        OVER_CLASSES(l) u -= logp[at(l, o, c, i)] / l->shape.classes * (l->k[2] != 0 ? l->torch ? class_weight[c] : w : 1);
        v = counted ? (1 - l->k[1]) * -logp[at(l, o, y, i)] * w + l->k[1] * u : 0;
        sum += v * (l->weighted ? sample_weight(o) : 1);
        divisor += counted ? l->torch ? w : 1 : 0;
    }
    return sum / divisor;
}
static double sparse(const Loss *l, const double *p, const double *t) {
    double logp[200];
    logs(l, p, logp, false, false);
    return sparse_of(l, logp, t);
}
static double sparse_clipped(const Loss *l, const double *p, const double *t) {
    double logp[200];
    logs(l, p, logp, false, true);
    return sparse_of(l, logp, t);
}
static double sparse_scores(const Loss *l, const double *p, const double *t) {
    double logp[200];
    logs(l, p, logp, true, false);
    return sparse_of(l, logp, t);
}
static double nll(const Loss *l, const double *p, const double *t) { return sparse_of(l, p, t); }

static double dense_of(const Loss *l, const double *logp, const double *t) {
    double sum = 0;
    OVER_SAMPLES(l) {
        double v = 0, w = 0;
        OVER_CLASSES(l) {
            double y = t[at(l, o, c, i)] * (1 - l->k[1]) + l->k[1] / l->shape.classes;
            w += y * class_weight[c];
            v -= y * logp[at(l, o, c, i)] * (l->k[2] != 0 && l->torch ? class_weight[c] : 1);
        }
        sum += v * (l->k[2] != 0 && !l->torch ? w : 1) * (l->weighted ? sample_weight(o) : 1);
    }
    return sum / (l->shape.outer * l->shape.inner);
}
static double dense(const Loss *l, const double *p, const double *t) {
    double logp[200];
    logs(l, p, logp, false, false);
    return dense_of(l, logp, t);
}
static double dense_clipped(const Loss *l, const double *p, const double *t) {
    double logp[200];
    logs(l, p, logp, false, true);
    return dense_of(l, logp, t);
}
static double dense_scores(const Loss *l, const double *p, const double *t) {
    double logp[200];
    logs(l, p, logp, true, false);
    return dense_of(l, logp, t);
}

ELEMENTWISE(smooth_l1, fabs(p - t) < k[0] ? .5 * (p - t) * (p - t) / k[0] : fabs(p - t) - .5 * k[0])
ELEMENTWISE(mape, 100 * fabs(p - t) / fmax(fabs(t), 1e-7))
ELEMENTWISE(msle, pow(log((1 + fmax(p, 1e-7)) / (1 + fmax(t, 1e-7))), 2))
ELEMENTWISE(log_cosh, log(cosh(p - t)))
ELEMENTWISE(poisson, p - t * log(p + k[0]))
ELEMENTWISE(poisson_log, exp(p) - t * p)
ELEMENTWISE(hinge, fmax(1 - t * p, 0))
ELEMENTWISE(squared_hinge, pow(fmax(1 - t * p, 0), 2))
ELEMENTWISE(soft_margin, log(1 + exp(-t * p)))
ELEMENTWISE(hinge_embedding, t > 0 ? p : fmax(k[0] - p, 0))
ELEMENTWISE(kl_torch, t * (log(t) - p))
ELEMENTWISE(kl_torch_log, exp(t) * (t - p))
ELEMENTWISE(kl_batchmean, 5 * t * (log(t) - p))
/* k: gamma, alpha, balanced? */
ELEMENTWISE(focal, pow(1 - (t * p + (1 - t) * (1 - p)), k[0]) * -(t * log(p) + (1 - t) * log(1 - p)) *
                       (k[2] != 0 ? t * k[1] + (1 - t) * (1 - k[1]) : 1))
ELEMENTWISE(focal_scores, focal_1(1 / (1 + exp(-p)), t, k))

/* The mean over samples of what f makes of the sums over classes. */
#define CLASSWISE(NAME, EACH_CLASS, END)                                                                                \
    static double NAME(const Loss *l, const double *ps, const double *ts) {                                             \
        double total = 0;                                                                                               \
        OVER_SAMPLES(l) {                                                                                               \
            double a = 0, b = 0, d = 0, most = -INFINITY;                                                               \
            OVER_CLASSES(l) {                                                                                           \
                double p = ps[at(l, o, c, i)], t = ts[at(l, o, c, i)];                                                  \
                EACH_CLASS;                                                                                             \
            }                                                                                                           \
            (void)a, (void)b, (void)d, (void)most;                                                                      \
            total += (END) * (l->weighted ? sample_weight(o) : 1);                                                         \
        }                                                                                                               \
        return total / (l->shape.outer * l->shape.inner);                                                               \
    }
CLASSWISE(kl_keras, a += t * log(t / clamp(p, 1e-7, 1)), a)
CLASSWISE(cosine_keras, (a += p * p, b += t * t, d += p * t), -d / sqrt(a * b))
CLASSWISE(cosine_torch, (a += p * p, b += t * t, d += p * t), 1 - d / sqrt((a + 1e-12) * (b + 1e-12)))
CLASSWISE(categorical_hinge, (a += t * p, most = fmax(most, (1 - t) * p)), fmax(1 + most - a, 0))
CLASSWISE(categorical_focal, a -= t * log(p) * l->k[1] * pow(1 - p, l->k[0]), a)
static double multi_margin(const Loss *l, const double *p, const double *t) {
    double sum = 0;
    OVER_SAMPLES(l) {
        int y = (int)t[o * l->shape.inner + i];
        OVER_CLASSES(l) if (c != y) sum += fmax(l->k[0] - p[at(l, o, y, i)] + p[at(l, o, c, i)], 0) / l->shape.classes;
    }
    return sum / (l->shape.outer * l->shape.inner);
}

#define FLAT {4, 5, 1}
#define TOKENS {6, 5, 1} /* [2,3,5] in the graph */
#define IMAGE {3, 5, 4}
static const Loss losses[] = {
    {"mse", false, false, "", FLAT, ANY, mse, {0}, true},
    {"mse_loss", true, false, "", FLAT, ANY, mse, {0}, false},
    {"mean_absolute_error", false, false, "", FLAT, ANY, mae, {0}, false},
    {"huber delta=0.4", false, false, "", FLAT, ANY, huber, {.4}, false},
    {"binary_crossentropy", false, false, "sigmoid", FLAT, PROBS, bce_exact, {0}, true},
    {"binary_crossentropy", false, true, "sigmoid", FLAT, PROBS, bce, {0}, false},
    {"binary_crossentropy label_smoothing=.2", false, true, "sigmoid", FLAT, PROBS, bce, {.2}, false},
    {"bce", true, true, "sigmoid", FLAT, PROBS, bce_exact, {0}, false},
    {"bce", true, false, "sigmoid", FLAT, PROBS, bce_exact, {0}, false},
    {"bce_with_logits pos_weight=3", true, false, "", FLAT, PROBS, bce_scores, {0, 2}, false},
    {"bce_with_logits", false, false, "", FLAT, PROBS, bce_scores, {0}, false},
    {"sparse_categorical_crossentropy", false, false, "softmax", FLAT, CLASSES, sparse, {-1}, true},
    {"sparse_categorical_crossentropy", false, true, "softmax", FLAT, CLASSES, sparse_clipped, {-1}, false},
    {"sparse_categorical_crossentropy", false, false, "sigmoid", FLAT, CLASSES, sparse_clipped, {-1}, false},
    {"sparse_categorical_crossentropy from_logits=true", false, false, "", TOKENS, CLASSES, sparse_scores, {-1}, false},
    {"sparse_categorical_crossentropy ignore_class=2 class_weight=1:2:.5:0:3", false, false, "softmax", FLAT, CLASSES, sparse, {2, 0, 1}, false},
    {"cross_entropy", true, false, "", IMAGE, CLASSES, sparse_scores, {-100}, false},
    {"cross_entropy", true, false, "softmax", FLAT, CLASSES, sparse, {-100}, false},
    {"cross_entropy", true, true, "softmax", FLAT, CLASSES, sparse_scores, {-100}, false},
    {"cross_entropy axis=-1", true, false, "", TOKENS, CLASSES, sparse_scores, {-100}, false},
    {"cross_entropy label_smoothing=.1 weight=1:2:.5:0:3 ignore_index=2", true, false, "", IMAGE, CLASSES, sparse_scores, {2, .1, 1}, false},
    {"cross_entropy label_smoothing=.1 weight=1:2:.5:0:3", false, false, "", FLAT, CLASSES, sparse_scores, {-1, .1, 1}, false},
    {"nll", true, false, "log_softmax", IMAGE, CLASSES, nll, {-100}, false},
    {"nll_loss weight=1:2:.5:0:3", true, false, "", FLAT, CLASSES, nll, {-100, 0, 1}, false},
    {"categorical_crossentropy", false, false, "softmax", FLAT, PROBS, dense, {0}, true},
    {"categorical_crossentropy label_smoothing=.1", false, true, "softmax", FLAT, PROBS, dense_clipped, {0, .1}, false},
    {"categorical_crossentropy", true, false, "", IMAGE, PROBS, dense_scores, {0}, false},
    {"cce from_logits=1 class_weight=1:2:.5:0:3", false, false, "", TOKENS, PROBS, dense_scores, {0, 0, 1}, false},
    {"cce class_weight=1:2:.5:0:3", true, false, "", FLAT, PROBS, dense_scores, {0, 0, 1}, false},
    {"smooth_l1 beta=.3", true, false, "", FLAT, ANY, smooth_l1, {.3}, false},
    {"mape", false, false, "", FLAT, POSITIVE, mape, {0}, true},
    {"msle", false, false, "sigmoid", FLAT, POSITIVE, msle, {0}, false},
    {"log_cosh", false, false, "", FLAT, ANY, log_cosh, {0}, false},
    {"poisson", false, false, "sigmoid", FLAT, POSITIVE, poisson, {1e-7}, false},
    {"poisson log_input=false", true, false, "sigmoid", FLAT, POSITIVE, poisson, {1e-8}, false},
    {"poisson_nll", true, false, "", FLAT, POSITIVE, poisson_log, {0}, false},
    {"kl", false, false, "softmax", FLAT, PROBS, kl_keras, {0}, false},
    {"kl_divergence", false, true, "softmax", TOKENS, PROBS, kl_keras, {0}, false},
    {"kl_div", true, false, "log_softmax", FLAT, PROBS, kl_torch, {0}, false},
    {"kl_div log_target=true", true, false, "log_softmax", FLAT, ANY, kl_torch_log, {0}, false},
    {"kl_div reduction=batchmean", true, false, "log_softmax", FLAT, PROBS, kl_batchmean, {0}, false},
    {"cosine_similarity", false, false, "", FLAT, ANY, cosine_keras, {0}, true},
    {"cosine axis=1", true, false, "", IMAGE, ANY, cosine_torch, {0}, false},
    {"hinge", false, false, "", FLAT, SIGNS, hinge, {0}, false},
    {"squared_hinge", false, false, "", FLAT, SIGNS, squared_hinge, {0}, false},
    {"soft_margin", true, false, "", FLAT, SIGNS, soft_margin, {0}, false},
    {"hinge_embedding margin=.7", true, false, "", FLAT, SIGNS, hinge_embedding, {.7}, false},
    {"categorical_hinge", false, false, "", FLAT, PROBS, categorical_hinge, {0}, false},
    {"multi_margin", true, false, "", IMAGE, CLASSES, multi_margin, {1}, false},
    {"binary_focal_crossentropy", false, false, "sigmoid", FLAT, PROBS, focal, {2, .25, 0}, false},
    {"focal", false, true, "sigmoid", FLAT, PROBS, focal, {2, .25, 0}, false},
    {"sigmoid_focal_loss gamma=1.5", true, false, "", FLAT, PROBS, focal_scores, {1.5, .25, 1}, false},
    {"categorical_focal_crossentropy", false, false, "softmax", FLAT, PROBS, categorical_focal, {2, .25}, false},
};

static Value *made_of(Graph *g, const char *how, Value *x, int axis) {
    if (!*how) return x;
    Map *values = map_new(g->c), *attrs = map_new(g->c);
    int64_t *list = gd_new(g->c, int64_t);
    Attr *a = gd_new(g->c, Attr);
    *list = axis;
    *a = (Attr){.kind = AT_INTS, .n = 1, .ints = list};
    map_puts(values, "x", x);
    map_puts(attrs, "axes", a);
    if (!strcmp(how, "sigmoid")) return graph_text(g, "sigmoid(x)", values, NULL);
    return graph_text(g, !strcmp(how, "softmax") ? "d = x - detach(reduce_max(x, axes=axes)); e = exp(d); e / reduce_sum(e, axes=axes)"
                                                 : "d = x - detach(reduce_max(x, axes=axes)); d - log(reduce_sum(exp(d), axes=axes))", values, attrs);
}

static void make_p(const Loss *l, const double *x, double *p) {
    for (int k = 0; k < places(l); k++) p[k] = !strcmp(l->made, "sigmoid") ? 1 / (1 + exp(-x[k])) : x[k];
    if (strcmp(l->made, "softmax") && strcmp(l->made, "log_softmax")) return;
    logs(l, x, p, true, false);
    for (int k = 0; k < places(l) && !strcmp(l->made, "softmax"); k++) p[k] = exp(p[k]);
}

static void set(void *to, DType dt, int i, double v) {
    if (dt == F64) ((double *)to)[i] = v;
    else if (dt == F32) ((float *)to)[i] = (float)v;
    else ((int64_t *)to)[i] = (int64_t)v;
}
static double get(const void *from, DType dt, int i) {
    return dt == F64 ? ((const double *)from)[i] : dt == F32 ? (double)((const float *)from)[i] : (double)((const int64_t *)from)[i];
}

static void near(const char *what, const Loss *l, double got, double want, double tol) {
    if (!(fabs(got - want) <= tol * (1 + fabs(want))))
        fail_msg("%s (%s%s, of %s): %s %.17g, not %.17g", l->text, l->torch ? "torch" : "keras", l->strict ? ", strict" : "", l->made, what, got, want);
}

static void random_target(const Loss *l, double *t) {
    for (int k = 0; k < places(l); k++)
        t[k] = l->target == CLASSES ? floor((rnd() + 1) * .5 * l->shape.classes) : l->target == PROBS ? (rnd() + 1) / 2 :
               l->target == SIGNS ? rnd() > 0 ? 1 : -1 : l->target == POSITIVE ? rnd() + 1.1 : rnd();
    if (l->target != PROBS) return;
    OVER_SAMPLES(l) { /* probabilities of a class add up to 1 */
        double sum = 0;
        OVER_CLASSES(l) sum += t[at(l, o, c, i)];
        OVER_CLASSES(l) t[at(l, o, c, i)] /= sum;
    }
}

static void loss_in(Ctx *c, const Loss *l, DType dt) {
    bool tokens = l->shape.outer == 6, image = l->shape.inner > 1;
    const int64_t dims[3] = {tokens ? 2 : l->shape.outer, tokens ? 3 : 5, tokens ? 5 : 4};
    int axis = tokens ? 2 : 1, rank = tokens || image ? 3 : 2;
    TrainSpec spec = {.torch = l->torch, .strict = l->strict, .loss = recipe(c, l->text)};
    Graph *g = graph_new(c, "net");
    Value *x = input(g, "x", dt, rank, dims), *p = made_of(g, l->made, x, axis), *dx, *weight = NULL;
    DType tt;
    int trank;
    Expr *tdim[MAX_RANK];
    if (!loss_target(g, &spec, p, &tt, &trank, tdim)) gd_leave(c);
    assert_int_equal(tt, l->target == CLASSES ? I64 : dt);
    assert_int_equal(trank, rank - (l->target == CLASSES));
    Value *target = graph_input(g, "target", tt, trank, tdim);
    if (l->weighted) weight = input(g, "weight", dt, 1, dims);
    Value *loss = loss_build(g, &spec, p, target, weight);
    if (!loss) gd_leave(c);
    assert_int_equal(loss->dt, dt);
    assert_int_equal(loss->rank, 0);
    graph_output(g, "loss", loss);
    graph_grad(g, loss, 1, &x, &dx);
    graph_output(g, "dx", dx);
    Net *n = net_of(g);
    double xs[200], ps[200], t[200], tol = dt == F64 ? 1e-12 : 2e-6;
    for (int k = 0; k < places(l); k++) set(net_in(n, "x"), dt, k, xs[k] = (float)(2 * rnd()));
    random_target(l, t);
    for (int k = 0; k < places(l) / (l->target == CLASSES ? l->shape.classes : 1); k++) {
        set(net_in(n, "target"), tt, k, t[k]);
        if (tt != I64) t[k] = get(net_in(n, "target"), tt, k);
    }
    for (int o = 0; o < l->shape.outer && l->weighted; o++) set(net_in(n, "weight"), dt, o, sample_weight(o));
    net_run(n);
    make_p(l, xs, ps);
    near("value", l, get(n->out[0], dt, 0), l->value(l, ps, t), tol);
    if (dt == F64) {
        const double shape[4] = {(double)dims[0], (double)dims[1], rank > 2 ? (double)dims[2] : 0, axis};
        put_case("loss", l->text, l->torch);
        put_text("made", l->made);
        put_text("strict", l->strict ? "yes" : "");
        put_text("sparse", tt == I64 ? "yes" : "");
        put_text("weighted", l->weighted ? "yes" : "");
        put_list("shape", shape, 4);
        put_list("x", xs, places(l));
        put_list("t", t, places(l) / (tt == I64 ? l->shape.classes : 1));
        put_list("value", n->out[0], 1);
        put_list("dx", n->out[1], places(l));
        put_end();
    }
    for (int k = 0; k < places(l) && dt == F64; k++) {
        double keep = xs[k], h = 1e-6, side[2];
        for (int s = 0; s < 2; s++) {
            xs[k] = keep + (s ? h : -h);
            make_p(l, xs, ps);
            side[s] = l->value(l, ps, t);
        }
        xs[k] = keep;
        near("gradient", l, get(n->out[1], dt, k), (side[1] - side[0]) / (2 * h), 1e-7);
    }
}

static void loss_case(Ctx *c, void *arg) {
    loss_in(c, arg, F64);
    loss_in(c, arg, F32);
}
static void test_losses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) within(loss_case, (void *)&losses[i]);
}

/* ---- metrics ---- */

enum { SAMPLES = 16, CLASS_COUNT = 4, BATCHES = 3 };
/* What the model says and what is, of all batches. yes, is: decisions at each class (one class: of a probability). */
typedef struct Seen {
    int n, classes;
    double p[SAMPLES * BATCHES][CLASS_COUNT], t[SAMPLES * BATCHES][CLASS_COUNT];
    int truth[SAMPLES * BATCHES], best[SAMPLES * BATCHES];
    double loss; /* mean of the batches' */
} Seen;
typedef struct Metric {
    const char *text, *loss;
    bool torch;
    double (*value)(const Seen *d);
} Metric;

static double accuracy(const Seen *d) {
    int hits = 0;
    for (int i = 0; i < d->n; i++) hits += d->best[i] == d->truth[i];
    return (double)hits / d->n;
}
static double accuracy_but_2(const Seen *d) {
    int hits = 0, n = 0;
    for (int i = 0; i < d->n; i++) {
        hits += d->truth[i] != 2 && d->best[i] == d->truth[i];
        n += d->truth[i] != 2;
    }
    return (double)hits / n;
}
static double top_2(const Seen *d) {
    int hits = 0;
    for (int i = 0; i < d->n; i++) {
        int above = 0;
        for (int c = 0; c < d->classes; c++) above += d->p[i][c] > d->p[i][d->truth[i]];
        hits += above < 2;
    }
    return (double)hits / d->n;
}
static double sum_over(const Seen *d, double (*f)(double, double)) {
    double sum = 0;
    for (int i = 0; i < d->n; i++)
        for (int c = 0; c < d->classes; c++) sum += f(d->p[i][c], d->t[i][c]);
    return sum;
}
static double absolute(double p, double t) { return fabs(p - t); }
static double square(double p, double t) { return (p - t) * (p - t); }
static double target_sum(double p, double t) { (void)p; return t; }
static double target_square(double p, double t) { (void)p; return t * t; }
static double mean_absolute(const Seen *d) { return sum_over(d, absolute) / (d->n * d->classes); }
static double mean_square(const Seen *d) { return sum_over(d, square) / (d->n * d->classes); }
static double root_mean_square(const Seen *d) { return sqrt(mean_square(d)); }
static double r2(const Seen *d) {
    double n = d->n * d->classes, m = sum_over(d, target_sum) / n;
    return 1 - sum_over(d, square) / (sum_over(d, target_square) - n * m * m);
}
/* Counts of class c, of all classes together (c = -1: probabilities beyond .5). */
typedef struct Counts { double tp, fp, tn, fn; } Counts;
static Counts counts(const Seen *d, int only) {
    Counts k = {0, 0, 0, 0};
    for (int i = 0; i < d->n; i++)
        for (int c = 0; c < d->classes; c++) {
            if (only >= 0 && c != only) continue;
            bool said = only >= 0 ? d->best[i] == c : d->p[i][c] > .5, is = only >= 0 ? d->truth[i] == c : d->t[i][c] > .5;
            *(is ? said ? &k.tp : &k.fn : said ? &k.fp : &k.tn) += 1;
        }
    return k;
}
static double precision_of(Counts k) { return k.tp / fmax(k.tp + k.fp, 1); }
static double recall_of(Counts k) { return k.tp / fmax(k.tp + k.fn, 1); }
static double f1_of(Counts k) { return 2 * k.tp / fmax(2 * k.tp + k.fp + k.fn, 1); }
static double iou_of(Counts k) { return k.tp / fmax(k.tp + k.fp + k.fn, 1); }
/* Over the classes that occurred: recall asks the target alone. */
static double macro(const Seen *d, double (*f)(Counts)) {
    double sum = 0, n = 0;
    for (int c = 0; c < d->classes; c++) {
        Counts k = counts(d, c);
        n += k.tp + k.fn + (f == recall_of ? 0 : k.fp) > 0;
        sum += f(k);
    }
    return sum / n;
}
static double precision(const Seen *d) { return precision_of(counts(d, -1)); }
static double recall(const Seen *d) { return recall_of(counts(d, -1)); }
static double f1(const Seen *d) { return f1_of(counts(d, -1)); }
static double false_negatives(const Seen *d) { return counts(d, -1).fn; }
static double macro_precision(const Seen *d) { return macro(d, precision_of); }
static double macro_recall(const Seen *d) { return macro(d, recall_of); }
static double macro_f1(const Seen *d) { return macro(d, f1_of); }
static double macro_iou(const Seen *d) { return macro(d, iou_of); }
static double true_negatives(const Seen *d) {
    double sum = 0;
    for (int c = 0; c < d->classes; c++) sum += counts(d, c).tn;
    return sum;
}
static double auc(const Seen *d) {
    double x[200], y[200], area = 0, pos = 0, neg = 0;
    for (int k = 0; k < 200; k++) {
        double th = k == 0 ? -1e-7 : k == 199 ? 1 + 1e-7 : k / 199.0;
        x[k] = y[k] = 0;
        for (int i = 0; i < d->n; i++)
            for (int c = 0; c < d->classes; c++)
                if (d->p[i][c] > (float)th) *(d->t[i][c] > .5 ? &y[k] : &x[k]) += 1;
    }
    pos = y[0], neg = x[0];
    for (int k = 0; k + 1 < 200; k++) area += (x[k] - x[k + 1]) / neg * (y[k] + y[k + 1]) / pos / 2;
    return area;
}
static double mean_loss(const Seen *d) { return d->loss; }
static double perplexity(const Seen *d) { return exp(d->loss); }

#define SPARSE "sparse_categorical_crossentropy"
static const Metric metrics[] = {
    {"loss", SPARSE, false, mean_loss},
    {"perplexity", SPARSE, false, perplexity},
    {"accuracy", SPARSE, false, accuracy},
    {"accuracy", "cross_entropy", true, accuracy},
    {"accuracy", SPARSE " ignore_class=2", false, accuracy_but_2},
    {"accuracy", "categorical_crossentropy", false, accuracy},
    {"accuracy", "binary_crossentropy", false, accuracy},
    {"top_k k=2", SPARSE, false, top_2},
    {"top_k_categorical_accuracy k=2", "categorical_crossentropy", false, top_2},
    {"mae", "mse", false, mean_absolute},
    {"mse", "mae", true, mean_square},
    {"rmse", "mse", false, root_mean_square},
    {"r2", "mse", false, r2},
    {"precision", "binary_crossentropy", false, precision},
    {"recall", "binary_crossentropy", false, recall},
    {"f1", "categorical_crossentropy", false, f1},
    {"false_negatives", "binary_crossentropy", false, false_negatives},
    {"precision", SPARSE, false, macro_precision},
    {"recall", SPARSE, true, macro_recall},
    {"f1", SPARSE, false, macro_f1},
    {"true_negatives", SPARSE, false, true_negatives},
    {"auc", "binary_crossentropy", false, auc},
    {"confusion_matrix", SPARSE, false, macro_recall},
    {"confusion_matrix", "categorical_crossentropy", false, macro_recall},
    {"mean_iou", SPARSE, false, macro_iou},
};

/* One more batch of random predictions. */
static void more(Seen *d, bool one, bool reals) {
    for (int k = 0; k < SAMPLES; k++, d->n++) {
        double sum = 0, most = -1;
        d->truth[d->n] = one ? rnd() > .2 : (int)((rnd() + 1) * .5 * d->classes);
        for (int c = 0; c < d->classes; c++) sum += d->p[d->n][c] = (rnd() + 1) / 2 + (d->truth[d->n] == c && !one ? .3 : 0);
        for (int c = 0; c < d->classes; c++) {
            if (!one) d->p[d->n][c] /= sum;
            d->p[d->n][c] = (float)d->p[d->n][c];
            d->t[d->n][c] = reals ? (float)rnd() : one ? d->truth[d->n] : d->truth[d->n] == c;
            if (d->p[d->n][c] > most) most = d->p[d->n][d->best[d->n] = c];
        }
        if (one) d->best[d->n] = d->p[d->n][0] > .5;
    }
}

static void metric_case(Ctx *c, void *arg) {
    const Metric *m = arg;
    bool sparse = strstr(m->loss, "sparse") || !strcmp(m->loss, "cross_entropy"), reals = strlen(m->loss) == 3;
    Seen d = {.classes = !strcmp(m->loss, "binary_crossentropy") ? 1 : CLASS_COUNT};
    const int64_t dims[2] = {SAMPLES, d.classes};
    TrainSpec spec = {.torch = m->torch, .loss = recipe(c, m->loss)};
    Graph *g = graph_new(c, "net");
    Value *p = input(g, "p", F32, 2, dims), *loss = input(g, "loss", F32, 0, NULL);
    Value *target = input(g, "target", sparse ? I64 : F32, sparse ? 1 : 2, dims);
    Recipe r = recipe(c, m->text);
    const char *label;
    Value *v = metric_build(g, &spec, &r, p, target, loss, &label);
    if (!v) gd_leave(c);
    assert_string_equal(label, r.name);
    graph_output(g, "value", v);
    Net *n = net_of(g);
    for (int b = 0; b < BATCHES; b++) {
        float batch_loss = (float)rnd();
        more(&d, d.classes == 1, reals);
        for (int k = 0; k < SAMPLES; k++) {
            int from = d.n - SAMPLES + k;
            for (int i = 0; i < d.classes; i++) {
                set(net_in(n, "p"), F32, k * d.classes + i, d.p[from][i]);
                if (!sparse) set(net_in(n, "target"), F32, k * d.classes + i, d.t[from][i]);
            }
            if (sparse) set(net_in(n, "target"), I64, k, d.truth[from]);
        }
        set(net_in(n, "loss"), F32, 0, batch_loss);
        d.loss = (d.loss * b + (double)batch_loss) / (b + 1);
        net_run(n);
        int out = -1;
        for (int i = 0; i < g->out.n; i++)
            if (!strcmp(g->out_names.v[i], "value")) out = i;
        double got = get(n->out[out], F32, 0), want = m->value(&d);
        if (!(fabs(got - want) <= 1e-5 * (1 + fabs(want))))
            fail_msg("%s of %s, batch %d: %.9g, not %.9g", m->text, m->loss, b, got, want);
        if (b + 1 < BATCHES) continue;
        put_case("metric", m->text, m->torch);
        put_text("loss", m->loss);
        for (int k = 0; k < d.n; k++) put_list(gd_format(c, "p%d", k), d.p[k], d.classes);
        for (int k = 0; k < d.n; k++) put_list(gd_format(c, "t%d", k), d.t[k], d.classes);
        put_list("value", &got, 1);
        put_end();
    }
}
static void test_metrics(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++) within(metric_case, (void *)&metrics[i]);
}

/* ---- schedules ---- */

typedef struct Plan {
    const char *text;
    bool torch;
    int64_t step, epoch_steps, epochs;
    double want;
} Plan;
static const double pi = 3.14159265358979323846;
#define COSINE(u) (.5 * (1 + cos(pi * (u))))

static void plan_case(Ctx *c, void *arg) {
    const Plan *p = arg;
    Graph *g = graph_new(c, "net");
    TrainSpec spec = {.torch = p->torch, .epochs = p->epochs};
    g->train = &spec;
    Recipe r = recipe(c, p->text);
    train_step_number(g);
    train_epoch_steps(g);
    Value *f = schedule_build(g, &r);
    if (!f) gd_leave(c);
    graph_output(g, "factor", f);
    Net *n = net_of(g);
    *(int64_t *)net_in(n, "train/step") = p->step;
    *(int64_t *)net_in(n, "train/epoch_steps") = p->epoch_steps;
    net_run(n);
    double got = *(float *)n->out[0];
    put_case("schedule", p->text, p->torch);
    put_list("at", (const double[]){(double)p->step, (double)p->epoch_steps, (double)p->epochs}, 3);
    put_list("value", &got, 1);
    put_end();
    if (!(fabs(got - p->want) <= 1e-6 * (1 + fabs(p->want))))
        fail_msg("%s (%s), step %lld: %.9g, not %.9g", p->text, p->torch ? "torch" : "keras", (long long)p->step, got, p->want);
}
static void test_schedules(void **state) {
    (void)state;
    const Plan plans[] = {
        {"constant", false, 7, 10, 3, 1},
        {"constant warmup=10", false, 4, 10, 3, .4},
        {"constant warmup=10 warmup_start=.5", false, 4, 10, 3, .7},
        {"constant warmup=10", false, 10, 10, 3, 1},
        {"step steps=10 gamma=.5", false, 29, 10, 3, .25},
        {"step_lr step_size=2 gamma=.1", true, 49, 10, 9, .01},
        {"step gamma=.5", false, 29, 10, 3, .25},
        {"piecewise boundaries=5:10 values=1:.5:.25", false, 5, 1, 1, 1},
        {"piecewise boundaries=5:10 values=1:.5:.25", false, 6, 1, 1, .5},
        {"piecewise boundaries=5:10 values=1:.5:.25", false, 99, 1, 1, .25},
        {"multistep milestones=2:4 gamma=.3", true, 20, 10, 9, .3},
        {"multistep milestones=2:4 gamma=.3", true, 40, 10, 9, .09},
        {"exponential steps=10 gamma=.9", false, 5, 1, 1, sqrt(.9)},
        {"exponential decay_steps=10 decay_rate=.9 staircase=true", false, 25, 1, 1, .81},
        {"exponential_lr gamma=.9", true, 35, 10, 5, .9 * .9 * .9},
        {"inverse_time decay_steps=10 decay_rate=.5", false, 30, 1, 1, .4},
        {"inverse_sqrt steps=4", false, 16, 1, 1, .5},
        {"cosine steps=100", false, 25, 1, 1, COSINE(.25)},
        {"cosine steps=100 alpha=.1", false, 200, 1, 1, .1},
        {"cosine", false, 15, 10, 3, .5},
        {"cosine_decay decay_steps=100 warmup=20", false, 45, 1, 1, COSINE(.25)},
        {"cosine warmup=10", false, 20, 10, 3, .5},
        {"cosine T_max=4", true, 25, 10, 8, .5},
        {"cosine T_max=4", true, 60, 10, 8, .5},
        {"cosine_restarts steps=10", false, 5, 1, 1, .5},
        {"cosine_restarts steps=10 m_mul=.5", false, 20, 1, 1, .25},
        {"cosine_restarts steps=10", false, 30, 1, 1, 1},
        {"cosine_restarts T_0=2", true, 30, 10, 9, .5},
        {"polynomial steps=10 power=2 end=.1", false, 5, 1, 1, .9 * .25 + .1},
        {"polynomial_lr total_iters=5", true, 21, 10, 9, .6},
        {"linear start=.2 end=1 steps=10", false, 5, 1, 1, .6},
        {"one_cycle steps=100", true, 0, 1, 1, 1. / 25},
        {"one_cycle steps=100", true, 29, 1, 1, 1},
        {"one_cycle steps=100", false, 64, 1, 1, 4e-6 + (1 - 4e-6) * .5},
        {"one_cycle steps=100", true, 99, 1, 1, 4e-6},
        {"one_cycle", true, 99, 10, 10, 4e-6},
    };
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) within(plan_case, (void *)&plans[i]);
}

/* ---- initialisers ---- */

typedef struct Init {
    const char *text;
    bool torch;
    double mean, deviation, low, high;
} Init;
enum { INIT_OUT = 96, INIT_IN = 20, INIT_KERNEL = 9, INIT_COUNT = INIT_OUT * INIT_IN * INIT_KERNEL };

static float *init_of(Ctx *c, const char *text, bool torch, int rank, const int64_t *dim, int64_t from, int index) {
    Graph *g = graph_new(c, "net");
    TrainSpec spec = {.torch = torch};
    g->train = &spec;
    StateVar s = {.init = text};
    Value *v = init_build(g, &s, F32, rank, dim, graph_input(g, "seed", I64, 0, NULL), index);
    if (!v) gd_leave(c);
    graph_output(g, "w", v);
    Net *n = net_of(g);
    *(int64_t *)n->in[0] = from;
    net_run(n);
    return n->out[0];
}

static void init_case(Ctx *c, void *arg) {
    const Init *t = arg;
    const int64_t dim[4] = {INIT_OUT, INIT_IN, 3, 3};
    float *w = init_of(c, t->text, t->torch, 4, dim, 5, 0), *again = init_of(c, t->text, t->torch, 4, dim, 5, 0);
    float *other = init_of(c, t->text, t->torch, 4, dim, 6, 0), *next = init_of(c, t->text, t->torch, 4, dim, 5, 1);
    double sum = 0, squares = 0, low = INFINITY, high = -INFINITY, cross = 0, n = INIT_COUNT;
    assert_memory_equal(w, again, INIT_COUNT * sizeof(float));
    for (int i = 0; i < INIT_COUNT; i++) {
        sum += (double)w[i];
        squares += (double)w[i] * (double)w[i];
        cross += ((double)w[i] - t->mean) * ((double)next[i] - t->mean);
        low = fmin(low, (double)w[i]);
        high = fmax(high, (double)w[i]);
    }
    double mean = sum / n, deviation = sqrt(squares / n - mean * mean);
    if (!(fabs(mean - t->mean) <= 5 * t->deviation / sqrt(n)) || !(fabs(deviation - t->deviation) <= .03 * t->deviation) ||
        !(low >= t->low && high <= t->high))
        fail_msg("%s (%s): mean %g, deviation %g, in [%g, %g]", t->text, t->torch ? "torch" : "keras", mean, deviation, low, high);
    if (t->deviation <= 0) return;
    assert_memory_not_equal(w, other, INIT_COUNT * sizeof(float));
    assert_true(fabs(cross / n) < 5 * t->deviation * t->deviation / sqrt(n));
}

static void orthogonal_case(Ctx *c, void *arg) {
    static const int64_t shapes[][2] = {{32, 32}, {8, 40}, {40, 8}, {1, 1}, {60, 60}};
    (void)arg;
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        int m = (int)shapes[k][0], n = (int)shapes[k][1], few = m < n ? m : n, many = m < n ? n : m;
        float *w = init_of(c, "orthogonal gain=2", false, 2, shapes[k], 3, 0);
        for (int a = 0; a < few; a++)
            for (int b = 0; b < few; b++) {
                double dot = 0;
                for (int i = 0; i < many; i++)
                    dot += m < n ? (double)w[a * n + i] * (double)w[b * n + i] : (double)w[i * n + a] * (double)w[i * n + b];
                if (!(fabs(dot - (a == b ? 4 : 0)) < 2e-5)) fail_msg("%d x %d: %d . %d = %g", m, n, a, b, dot);
            }
    }
}

static void test_initialisers(void **state) {
    (void)state;
    const double in = INIT_IN * INIT_KERNEL, out = INIT_OUT * INIT_KERNEL, avg = (in + out) / 2, cut = .87962566103423978;
    const Init inits[] = {
        {"zeros", false, 0, 0, 0, 0},
        {"ones", false, 1, 0, 1, 1},
        {"constant value=2.5", false, 2.5, 0, 2.5, 2.5},
        {"uniform", false, 0, .05 / sqrt(3), -.05, .05},
        {"uniform low=2 high=6", true, 4, 2 / sqrt(3), 2, 6},
        {"normal", false, 0, .05, -.3, .3},
        {"normal mean=3", true, 3, 1, -3, 9},
        {"truncated_normal", false, 0, .05 * cut, -.1, .1},
        {"trunc_normal std=.5 high=1", true, -.5 * .0552479, .5 * .9415462, -2, 1},
        {"glorot_uniform", false, 0, sqrt(1 / avg), -sqrt(3 / avg), sqrt(3 / avg)},
        {"glorot_normal", false, 0, sqrt(1 / avg), -2 * sqrt(1 / avg) / cut, 2 * sqrt(1 / avg) / cut},
        {"xavier_normal gain=2", true, 0, 2 * sqrt(1 / avg), -2, 2},
        {"he_uniform", false, 0, sqrt(2 / in), -sqrt(6 / in), sqrt(6 / in)},
        {"kaiming_uniform a=1 mode=fan_out", true, 0, sqrt(1 / out), -sqrt(3 / out), sqrt(3 / out)},
        {"he_normal", false, 0, sqrt(2 / in), -2 * sqrt(2 / in) / cut, 2 * sqrt(2 / in) / cut},
        {"lecun_uniform", false, 0, sqrt(1 / in), -sqrt(3 / in), sqrt(3 / in)},
        {"lecun_normal", false, 0, sqrt(1 / in), -2 * sqrt(1 / in) / cut, 2 * sqrt(1 / in) / cut},
        {"torch_default", true, 0, sqrt(1 / in / 3), -sqrt(1 / in), sqrt(1 / in)},
    };
    for (size_t i = 0; i < sizeof inits / sizeof *inits; i++) within(init_case, (void *)&inits[i]);
    within(orthogonal_case, NULL);
}

/* ---- faults ---- */

static void fault_case(Ctx *c, void *arg) {
    const char *const *f = arg; /* loss, optimizer, metric, schedule, initialiser; one of them is wrong */
    const int64_t dim[2] = {4, 5};
    TrainSpec spec = {.loss = recipe(c, f[0]), .optimizer = recipe(c, f[1])};
    Graph *g = graph_new(c, "net");
    Value *p = input(g, "p", F32, 2, dim), *t = input(g, "t", I64, 1, dim), *w = state_new(g, ST_PARAM, "w", F32, 2, dim, NULL);
    Recipe metric = recipe(c, f[2]), schedule = recipe(c, f[3]);
    StateVar s = {.init = f[4]};
    const char *label;
    bool ok = loss_build(g, &spec, p, t, NULL) && optimizer_build(g, &spec, w, p, const_scalar(g, F32, 1), NAN) &&
              metric_build(g, &spec, &metric, p, t, p, &label) && schedule_build(g, &schedule) &&
              init_build(g, &s, F32, 2, dim, graph_input(g, "seed", I64, 0, NULL), 0);
    assert_false(ok);
}
static void test_faults(void **state) {
    (void)state;
    static const char *const faults[][7] = {
        {"cross_entrpy", "adam", "accuracy", "constant", "zeros", "there is no loss \"cross_entrpy\"", "cross_entropy?"},
        {"cross_entropy smoothing=1", "adam", "accuracy", "constant", "zeros", "has no argument \"smoothing\"", "label_smoothing"},
        {"cross_entropy reduction=men", "adam", "accuracy", "constant", "zeros", "reduction is \"men\"", "mean?"},
        {"cross_entropy class_weight=1:x", "adam", "accuracy", "constant", "zeros", "class_weight is \"1:x\"", "colons"},
        {"cross_entropy class_weight=1:2", "adam", "accuracy", "constant", "zeros", "2 class weights for 5 classes", NULL},
        {"cross_entropy axis=3", "adam", "accuracy", "constant", "zeros", "axis 3 is outside", NULL},
        {"mse", "adam", "accuracy", "constant", "zeros", "predictions of 2 axes, a target of 1 axes", NULL},
        {"cross_entropy", "adm", "accuracy", "constant", "zeros", "there is no optimizer \"adm\"", "adam?"},
        {"cross_entropy", "adam beta3=1", "accuracy", "constant", "zeros", "optimizer adam has no argument", "beta1"},
        {"cross_entropy", "adam", "acuracy", "constant", "zeros", "there is no metric", "accuracy?"},
        {"cross_entropy", "adam", "accuracy", "cosin", "zeros", "there is no schedule", "cosine?"},
        {"cross_entropy", "adam", "accuracy", "piecewise boundaries=1:2 values=1:2", "zeros", "2 boundaries, 2 values", NULL},
        {"cross_entropy", "adam", "accuracy", "constant", "glorot", "there is no init", "glorot_uniform"},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        Ctx *c = gd_open(NULL);
        assert_int_not_equal(gd_enter(c, fault_case, (void *)faults[i]), 0);
        assert_true(gd_error_count(c) >= 1);
        const Diag *d = gd_diag(c, 0);
        if (!strstr(d->message, faults[i][5])) fail_msg("%s", d->message);
        if (faults[i][6] && (!d->help || !strstr(d->help, faults[i][6]))) fail_msg("%s: %s", d->message, d->help ? d->help : "no help");
        gd_close(c);
    }
}

/* ---- a whole step: the same bits from the interpreter and both back ends, of a batch whose size is open ---- */

enum { OPEN = 5, WIDTH = 6, KINDS = 4, BYTES = 1 << 12 };
typedef struct Step {
    const char *loss, *optimizer, *metric[6], *schedule;
    bool torch;
    const char *backend;
    unsigned char out[MOST][BYTES]; /* of each output; sizes below */
    size_t bytes[MOST];
    int n;
} Step;

static Graph *step_graph(Ctx *c, const Step *s, TrainSpec *spec) {
    Graph *g = graph_new(c, "step");
    Expr *batch = expr_var(c, graph_symbol(g, "N", 1, 1000)), *dim[2] = {batch, expr_int(c, WIDTH)}, *tdim[MAX_RANK];
    const int64_t wdim[2] = {WIDTH, KINDS};
    DType tt;
    int trank;
    *spec = (TrainSpec){.torch = s->torch, .loss = recipe(c, s->loss), .optimizer = recipe(c, s->optimizer), .epochs = 3};
    g->train = spec;
    Value *x = graph_input(g, "x", F32, 2, dim), *w = state_new(g, ST_PARAM, "w", F32, 2, wdim, NULL), *dw;
    Value *p = made_of(g, "softmax", build_matmul(g, x, w), 1);
    if (!loss_target(g, spec, p, &tt, &trank, tdim)) gd_leave(c);
    Value *target = graph_input(g, "target", tt, trank, tdim), *loss = loss_build(g, spec, p, target, NULL);
    if (!loss) gd_leave(c);
    graph_output(g, "loss", loss);
    for (int i = 0; i < 6 && s->metric[i]; i++) {
        Recipe m = recipe(c, s->metric[i]);
        const char *label;
        graph_output(g, m.name, metric_build(g, spec, &m, p, target, loss, &label));
    }
    graph_grad(g, loss, 1, &w, &dw);
    Recipe schedule = recipe(c, s->schedule);
    Value *rate = make(g, "mul", train_rate(g, optimizer_rate(spec)), schedule_build(g, &schedule)), *n = train_step_number(g);
    state_next(g, w, optimizer_build(g, spec, w, dw, rate, NAN));
    state_next(g, n, make(g, "add", n, const_scalar(g, I64, 1)));
    StateVar s0 = {.init = "he_normal"};
    graph_output(g, "first", init_build(g, &s0, F32, 2, wdim, graph_input(g, "seed", I64, 0, NULL), 3));
    return g;
}

static void step_case(Ctx *c, void *arg) {
    Step *s = arg;
    TrainSpec spec;
    Graph *g = step_graph(c, s, &spec);
    const void *in[MOST];
    void *out[MOST];
    int64_t syms[8] = {OPEN}, dims[MAX_RANK];
    int k = 0;
    if (gd_error_count(c)) gd_leave(c);
    s->n = g->out.n;
    for (int i = 0; i < g->out.n; i++) {
        const Value *v = g->out.v[i];
        assert_true(value_static(v, dims));
        s->bytes[i] = (size_t)gd_dtypes[v->dt].bytes;
        for (int d = 0; d < v->rank; d++) s->bytes[i] *= (size_t)dims[d];
        assert_true(s->bytes[i] <= BYTES);
        out[i] = gd_alloc_aligned(c, BYTES);
    }
    seed = 99;
    for (int i = 0; i < g->in.n; i++) {
        const Value *v = g->in.v[i];
        const StateVar *state = state_of(g, v);
        void *m = state && state->out >= 0 ? out[state->out] : gd_alloc_aligned(c, BYTES);
        if (!state || state->out < 0) in[k++] = m;
        if (v->dt == I64 && !state)
            for (int j = 0; j < OPEN; j++) ((int64_t *)m)[j] = j % KINDS;
        else if (!state || state->kind == ST_PARAM)
            for (int j = 0; j < OPEN * WIDTH; j++) ((float *)m)[j] = (float)(rnd() / 2 + .5);
        else if (state->init && v->dt == F32) *(float *)m = .5f;
        else if (state->init && v->dt == I64) *(int64_t *)m = 4;
    }
    const Target *target = target_named(c, "native");
    PassOptions o = {.opt = s->backend ? 3 : 0, .numerics = NUM_STRICT, .threads = 2,
                     .machine = {s->backend ? target->lanes : 1, target->registers, true, target->l1, target->l2}};
    Program *p = passes_run(g, &o);
    if (!s->backend) assert_int_equal(loop_interpret(c, p, &(LoopArgs){in, out, syms}), 0);
    else {
        Loaded l;
        EmitOptions e = {.target = target, .prefix = "net", .table = true, .opt = 2};
        backend_named(c, s->backend)->load(p, &e, &l);
        size_t bytes = l.program->arena_bytes(syms);
        assert_int_equal(l.program->run(in, out, syms, gd_alloc_aligned(c, bytes ? bytes : 1), bytes), 0);
    }
    for (int i = 0; i < s->n; i++) memcpy(s->out[i], out[i], s->bytes[i]);
}

static void test_bits(void **state) {
    (void)state;
    static const char *const backends[] = {"c",
#ifdef GRADC_LLVM
                                           "llvm",
#endif
                                           NULL};
    static Step steps[] = {
        {.loss = "sparse_categorical_crossentropy", .optimizer = "adam", .schedule = "cosine warmup=2",
         .metric = {"loss", "accuracy", "top_k k=2", "f1", "confusion_matrix", "auc"}},
        {.loss = "categorical_crossentropy label_smoothing=.1", .optimizer = "lamb weight_decay=.1", .schedule = "one_cycle",
         .metric = {"loss", "accuracy", "precision", "mean_iou", "perplexity", "r2"}, .torch = true},
        {.loss = "kl", .optimizer = "nadam", .schedule = "exponential", .metric = {"mae"}},
    };
    static Step other;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        within(step_case, &steps[i]);
        assert_true(isfinite(*(float *)steps[i].out[0]));
        for (int b = 0; backends[b]; b++) {
            other = steps[i];
            other.backend = backends[b];
            within(step_case, &other);
            for (int k = 0; k < other.n; k++)
                if (memcmp(other.out[k], steps[i].out[k], other.bytes[k]))
                    fail_msg("%s, %s: output %d differs in %s", steps[i].loss, steps[i].optimizer, k, backends[b]);
        }
    }
}

/* ---- docs/training.md has every row as it is ---- */

static void put_default(Text *t, const RowArg *a, double v) {
    const char *w = a->words;
    if (w && !strcmp(w, "*")) text_put(t, "-");
    else if (w) {
        for (int i = 0; i < (int)v; i++) w = strchr(w, ' ') + 1;
        text_putn(t, w, strcspn(w, " "));
    } else if (isnan(v)) text_put(t, "-");
    else text_printf(t, "%g", v);
}

static const char *row_text(Ctx *c, const Row *r) {
    Text *t = text_new(c);
    text_printf(t, "| `%.*s`", (int)strcspn(r->name, " "), r->name);
    for (const char *s = r->name + strcspn(r->name, " "); *s; s += strcspn(s, " ")) {
        s++;
        text_printf(t, ", %.*s", (int)strcspn(s, " "), s);
    }
    text_put(t, " | ");
    for (int i = 0; i < ROW_ARGS && r->args[i].name; i++) {
        const RowArg *a = &r->args[i];
        text_printf(t, "%s`%.*s` ", i ? ", " : "", (int)strcspn(a->name, " "), a->name);
        put_default(t, a, a->keras);
        if (!(a->keras == a->torch || (isnan(a->keras) && isnan(a->torch)))) {
            text_put(t, " (torch ");
            put_default(t, a, a->torch);
            text_put(t, ")");
        }
    }
    text_put(t, " | ");
    for (const char *d = r->doc; *d; d++) text_printf(t, "%s%c", *d == '|' ? "\\" : "", *d);
    text_put(t, " |\n");
    return t->s;
}

/* RECIPES_DOC=FILE writes the rows there. */
static void docs_case(Ctx *c, void *arg) {
    static const struct { const char *what; const Row *(*row)(int); } kinds[] = {
        {"loss", loss_row}, {"optimizer", optimizer_row}, {"metric", metric_row}, {"schedule", schedule_row}, {"init", init_row}};
    (void)arg;
    size_t n;
    FILE *out = getenv("RECIPES_DOC") ? fopen(getenv("RECIPES_DOC"), "w") : NULL;
    const char *text = gd_read_file(c, "docs/training.md", 1 << 20, &n), *name, *doc;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int i = 0;
        for (; kinds[k].row(i); i++) {
            const char *row = row_text(c, kinds[k].row(i));
            assert_true(recipe_row(kinds[k].what, i, &name, &doc) && *name && *doc);
            if (out) fputs(row, out);
            else if (!strstr(text, row)) fail_msg("docs/training.md lacks %s", row);
        }
        if (out) fputs("\n", out);
        assert_false(recipe_row(kinds[k].what, i, &name, &doc));
    }
    if (out) fclose(out);
}
static void test_docs(void **state) {
    (void)state;
    within(docs_case, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_optimizers), cmocka_unit_test(test_losses),
                                       cmocka_unit_test(test_metrics), cmocka_unit_test(test_schedules),
                                       cmocka_unit_test(test_initialisers), cmocka_unit_test(test_faults), cmocka_unit_test(test_bits),
                                       cmocka_unit_test(test_docs)};
    const char *to = getenv("RECIPES_DUMP");
    dump = to ? fopen(to, "w") : NULL;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (dump) fclose(dump);
    return failed;
}
