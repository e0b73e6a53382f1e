/* Metrics on random data against plain C, schedules at some steps, initialisers by their moments, faults of recipes, a whole
   training step in all back ends, and docs/training.md against the rows. */
#include "recipes.h"
#include "codegen.h"
#include "grad.h"
#include "train/recipe.h"

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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics), cmocka_unit_test(test_schedules), cmocka_unit_test(test_initialisers),
        cmocka_unit_test(test_faults),  cmocka_unit_test(test_bits),      cmocka_unit_test(test_docs),
    };
    return run_recipe_tests(tests, sizeof tests / sizeof *tests);
}
