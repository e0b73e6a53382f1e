/* Losses of ir/train: values against formulas in double, written here once more, in f32 and f64; gradients against central
   differences of the formulas. */
#include "recipes.h"
#include "grad.h"

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

static void make_p(const Loss *l, const double *x, double *p) {
    for (int k = 0; k < places(l); k++) p[k] = !strcmp(l->made, "sigmoid") ? 1 / (1 + exp(-x[k])) : x[k];
    if (strcmp(l->made, "softmax") && strcmp(l->made, "log_softmax")) return;
    logs(l, x, p, true, false);
    for (int k = 0; k < places(l) && !strcmp(l->made, "softmax"); k++) p[k] = exp(p[k]);
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

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses)};
    return run_recipe_tests(tests, sizeof tests / sizeof *tests);
}
