/* Optimizers of ir/train: twenty steps each against its formula in double, written here once more. */
#include "recipes.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_optimizers)};
    return run_recipe_tests(tests, sizeof tests / sizeof *tests);
}
