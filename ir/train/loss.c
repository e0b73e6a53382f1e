/* Losses: rows of text, and what stands around the text: the target's type, class scores or probabilities as log p = d - lse,
   weights, and the mean.

   Probabilities that a softmax or a sigmoid made are not looked at: d, lse and the scores x are taken from its nodes, so the
   loss is exact where probabilities round to 0 or 1, and its gradient by the scores is p - t in one pass. */
#include "recipe.h"
#include <math.h>

typedef enum Input {
    IN_PLAIN,   /* p */
    IN_CLASSES, /* d, lse: log p = d - lse, kept along the class axis */
    IN_LOGS,    /* the same, p being log p */
    IN_BINARY,  /* x: scores, or p alone */
    IN_SCORES,  /* p; of class numbers also here, where the target's class is */
    IN_LAST,    /* p, and axes: the class axis */
    IN_KL       /* the same, and d, lse where p is a softmax */
} Input;

/* The lines bind l, the loss of every element (or of every sample, with the class axis kept), and may bind weights, by whose
   sum the sum of l is divided; else its count divides. */
typedef struct LossRow {
    Row row;
    Input input;
    bool sparse; /* the target is class numbers */
    RowLine lines[ROW_LINES];
} LossRow;

#define REDUCTION {"reduction", 0, 0, "mean sum batchmean sum_over_batch_size"}
#define AXIS {"axis dim", -1, 1, NULL}

#define AXIS_LAST {"axis dim", -1, -1, NULL}
#define SIGN {"y", "t > 0 ? one : -1", NULL}

#define SPARSE_ARGS(LOGITS_KERAS)                                                                                       \
    {"from_logits", LOGITS_KERAS, 1, NULL}, {"ignore_index ignore_class", NAN, -100, NULL},                             \
        {"label_smoothing", 0, 0, NULL}, {"class_weight weight", 0, 0, "*"}, AXIS, REDUCTION
#define SPARSE_LINES                                                                                                    \
    {"valid", "target != ignore", "ignore_index?"}, {"l", "lse - reduce_sum(here ? d : 0, axes=axes)", NULL},            \
        {"w", "reduce_sum(here ? classes : 0, axes=axes)", "class_weight"}, {"l", "w * l", "class_weight"},             \
        {"u", "lse - reduce_sum(d, axes=axes) / count", "label_smoothing"},                                             \
        {"u", "w * u", "label_smoothing class_weight keras"},                                                           \
        {"u", "reduce_sum(classes * (lse - d), axes=axes) / count", "label_smoothing class_weight torch"},              \
        {"l", "(1 - label_smoothing) * l + label_smoothing * u", "label_smoothing"},                                    \
        {"l", "valid ? l : 0", "ignore_index?"}, {"weights", "w", "class_weight torch"},                                \
        {"weights", "valid ? one : 0", "ignore_index?"}, {"weights", "valid ? w : 0", "ignore_index? class_weight torch"}
#define SPARSE(LOGITS_KERAS) .input = IN_CLASSES, .sparse = true, .lines = {SPARSE_LINES}

#define BINARY_LINES                                                                                                    \
    {"t", "t * (1 - label_smoothing) + 0.5 * label_smoothing", "label_smoothing"}, {"l", "softplus(x) - x * t", "@x"},  \
        {"l", "(1 - t) * x + (1 + (pos_weight - 1) * t) * softplus(-x)", "@x pos_weight?"},                             \
        {"q", "min(max(p, 1e-7), 1 - 1e-7)", "!@x keras"}, {"a", "log(q)", "!@x keras"}, {"b", "log(1 - q)", "!@x keras"}, \
        {"a", "max(log(p), -100)", "!@x torch"}, {"b", "max(log(1 - p), -100)", "!@x torch"},                           \
        {"l", "-(t * a + (1 - t) * b)", "!@x"}, {"l", "-(pos_weight * t * a + (1 - t) * b)", "!@x pos_weight?"}
#define BINARY_ARGS(LOGITS)                                                                                             \
    {"from_logits", LOGITS, LOGITS, NULL}, {"label_smoothing", 0, 0, NULL}, {"pos_weight", NAN, NAN, NULL}, REDUCTION

static const LossRow rows[] = {
    {.row = {"sparse_categorical_crossentropy sparse_categorical_cross_entropy", {SPARSE_ARGS(0)},
             "Minus the log probability of the target's class."},
     SPARSE(0)},
    {.row = {"cross_entropy cross_entropy_loss", {SPARSE_ARGS(1)},
             "Minus the log of the softmax of scores at the target's class."},
     SPARSE(1)},
    {.row = {"categorical_crossentropy categorical_cross_entropy cce",
             {{"from_logits", 0, 1, NULL}, {"label_smoothing", 0, 0, NULL}, {"class_weight weight", 0, 0, "*"}, AXIS,
              REDUCTION},
             "Minus the sum over classes of target times log probability."},
     .input = IN_CLASSES,
     .lines = {{"t", "t * (1 - label_smoothing) + label_smoothing / count", "label_smoothing"},
               {"l", "lse * reduce_sum(t, axes=axes) - reduce_sum(t * d, axes=axes)", "!class_weight"},
               {"l", "reduce_sum(classes * t * (lse - d), axes=axes)", "class_weight torch"},
               {"l", "reduce_sum(classes * t, axes=axes) * reduce_sum(t * (lse - d), axes=axes)", "class_weight keras"}}},
    {.row = {"nll nll_loss negative_log_likelihood",
             {{"ignore_index ignore_class", NAN, -100, NULL}, {"label_smoothing", 0, 0, NULL},
              {"class_weight weight", 0, 0, "*"}, AXIS, REDUCTION},
             "Minus the target's class among log probabilities."},
     .input = IN_LOGS,
     .sparse = true,
     .lines = {SPARSE_LINES}},
    {.row = {"binary_crossentropy binary_cross_entropy bce", {BINARY_ARGS(0)},
             "-(t log p + (1 - t) log(1 - p)), for probabilities."},
     .input = IN_BINARY,
     .lines = {BINARY_LINES}},
    {.row = {"bce_with_logits binary_cross_entropy_with_logits bcewithlogits", {BINARY_ARGS(1)},
             "The same for p = sigmoid(x), from the scores x: softplus(x) - x t."},
     .input = IN_BINARY,
     .lines = {BINARY_LINES}},
    {.row = {"mse mean_squared_error mse_loss", {REDUCTION}, "(p - t)^2"},
     .lines = {{"e", "p - t", NULL}, {"l", "e * e", NULL}}},
    {.row = {"mae mean_absolute_error l1 l1_loss", {REDUCTION}, "|p - t|"}, .lines = {{"l", "abs(p - t)", NULL}}},
    {.row = {"huber huber_loss", {{"delta", 1, 1, NULL}, REDUCTION},
             "e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2); e = p - t"},
     .lines = {{"e", "p - t", NULL},
               {"a", "abs(e)", NULL},
               {"l", "a <= delta ? 0.5 * e * e : delta * (a - 0.5 * delta)", NULL}}},
    {.row = {"smooth_l1 smooth_l1_loss", {{"beta", 1, 1, NULL}, REDUCTION},
             "e^2 / (2 beta) where |e| < beta, else |e| - beta / 2"},
     .lines = {{"e", "p - t", NULL}, {"a", "abs(e)", NULL}, {"l", "a < beta ? 0.5 / beta * e * e : a - 0.5 * beta", NULL}}},
    {.row = {"mape mean_absolute_percentage_error", {REDUCTION}, "100 |p - t| / max(|t|, 1e-7)"},
     .lines = {{"l", "100 * abs((p - t) / max(abs(t), 1e-7))", NULL}}},
    {.row = {"msle mean_squared_logarithmic_error", {REDUCTION}, "(log(1 + p) - log(1 + t))^2, p and t at least 1e-7"},
     .lines = {{"e", "log(1 + max(p, 1e-7)) - log(1 + max(t, 1e-7))", NULL}, {"l", "e * e", NULL}}},
    {.row = {"log_cosh logcosh", {REDUCTION}, "log(cosh(p - t))"},
     .lines = {{"e", "p - t", NULL}, {"l", "e + softplus(-2 * e) - 0.6931471805599453", NULL}}},
    {.row = {"poisson poisson_nll poisson_nll_loss", {{"log_input", 0, 1, NULL}, {"epsilon eps", 1e-7, 1e-8, NULL}, REDUCTION},
             "p - t log(p + epsilon); log_input: exp(p) - t p"},
     .lines = {{"l", "p - t * log(p + epsilon)", "!log_input"}, {"l", "exp(p) - t * p", "log_input"}}},
    {.row = {"kl_divergence kl kld kl_div kullback_leibler_divergence",
             {AXIS_LAST, {"log_target", 0, 0, NULL}, REDUCTION},
             "keras: the sum over classes of t log(t / p), of probabilities at least 1e-7; torch: t (log t - p), p being log "
             "probabilities, and its mean over all elements unless reduction=batchmean"},
     .input = IN_KL,
     .lines = {{"q", "min(max(p, 1e-7), 1)", "keras !@d"},
               {"t", "min(max(t, 1e-7), 1)", "keras"},
               {"l", "reduce_sum(t * log(t / q), axes=axes)", "keras !@d"},
               {"l", "reduce_sum(t * (log(t) - (d - lse)), axes=axes)", "keras @d"},
               {"l", "t * log(max(t, 1.2e-38)) - t * p", "torch !log_target"},
               {"l", "exp(t) * (t - p)", "torch log_target"}}},
    {.row = {"cosine_similarity cosine cosine_embedding cosine_embedding_loss", {AXIS_LAST, REDUCTION},
             "keras: minus the cosine of the angle between p and t; torch: 1 minus it"},
     .input = IN_LAST,
     .lines = {{"a", "p * reciprocal(sqrt(max(reduce_sum(p * p, axes=axes), 1e-12)))", "keras"},
               {"b", "t * reciprocal(sqrt(max(reduce_sum(t * t, axes=axes), 1e-12)))", "keras"},
               {"l", "-reduce_sum(a * b, axes=axes)", "keras"},
               {"a", "sqrt((reduce_sum(p * p, axes=axes) + 1e-12) * (reduce_sum(t * t, axes=axes) + 1e-12))", "torch"},
               {"l", "1 - reduce_sum(p * t, axes=axes) / a", "torch"}}},
    {.row = {"hinge", {REDUCTION}, "max(1 - t p, 0), t being -1 or 1 (0 counts as -1)"},
     .lines = {SIGN, {"l", "max(1 - y * p, 0)", NULL}}},
    {.row = {"squared_hinge", {REDUCTION}, "max(1 - t p, 0)^2"},
     .lines = {SIGN, {"a", "max(1 - y * p, 0)", NULL}, {"l", "a * a", NULL}}},
    {.row = {"soft_margin soft_margin_loss", {REDUCTION}, "log(1 + exp(-t p)), t being -1 or 1 (0 counts as -1)"},
     .lines = {SIGN, {"l", "softplus(-y * p)", NULL}}},
    {.row = {"hinge_embedding hinge_embedding_loss", {{"margin", 1, 1, NULL}, REDUCTION},
             "p where t is 1, else max(margin - p, 0)"},
     .lines = {{"l", "t > 0 ? p : max(margin - p, 0)", NULL}}},
    {.row = {"categorical_hinge", {AXIS_LAST, REDUCTION}, "max(1 + max((1 - t) p) - sum(t p), 0) over classes"},
     .input = IN_LAST,
     .lines = {{"l", "max(1 + reduce_max((1 - t) * p, axes=axes) - reduce_sum(t * p, axes=axes), 0)", NULL}}},
    {.row = {"multi_margin multi_margin_loss", {{"margin", 1, 1, NULL}, AXIS, REDUCTION},
             "the mean over classes of max(margin - p[t] + p, 0), the target's own left out"},
     .input = IN_SCORES,
     .sparse = true,
     .lines = {{"own", "reduce_sum(here ? p : 0, axes=axes)", NULL},
               {"l", "reduce_sum(here ? 0 : max(margin - own + p, 0), axes=axes) / count", NULL}}},
    {.row = {"binary_focal_crossentropy focal sigmoid_focal_loss binary_focal_cross_entropy",
             {{"from_logits", 0, 1, NULL}, {"gamma", 2, 2, NULL}, {"alpha", .25, .25, NULL},
              {"apply_class_balancing", 0, 1, NULL}, {"label_smoothing", 0, 0, NULL}, REDUCTION},
             "binary cross-entropy times (1 - p_t)^gamma, p_t = t p + (1 - t)(1 - p), and by alpha for t = 1, "
             "1 - alpha for t = 0"},
     .input = IN_BINARY,
     .lines = {{"t", "t * (1 - label_smoothing) + 0.5 * label_smoothing", "label_smoothing"},
               {"p", "sigmoid(x)", "@x"},
               {"l", "softplus(x) - x * t", "@x"},
               {"q", "min(max(p, 1e-7), 1 - 1e-7)", "!@x"},
               {"l", "-(t * log(q) + (1 - t) * log(1 - q))", "!@x"},
               {"l", "pow(1 - (t * p + (1 - t) * (1 - p)), gamma) * l", NULL},
               {"l", "(t * alpha + (1 - t) * (1 - alpha)) * l", "apply_class_balancing"}}},
    {.row = {"categorical_focal_crossentropy categorical_focal_cross_entropy",
             {{"from_logits", 0, 1, NULL}, {"gamma", 2, 2, NULL}, {"alpha", .25, .25, NULL}, {"label_smoothing", 0, 0, NULL},
              {"class_weight weight", 0, 0, "*"}, AXIS, REDUCTION},
             "the sum over classes of -alpha (1 - p)^gamma t log p"},
     .input = IN_CLASSES,
     .lines = {{"t", "t * (1 - label_smoothing) + label_smoothing / count", "label_smoothing"},
               {"a", "d - lse", NULL},
               {"e", "-(t * a) * (alpha * pow(1 - exp(a), gamma))", NULL},
               {"e", "classes * e", "class_weight"},
               {"l", "reduce_sum(e, axes=axes)", NULL}}},
};
const Row *loss_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

/* ---- what the target is ---- */

static const LossRow *open_loss(Scope *s, Graph *g, const TrainSpec *spec) {
    return scope_open(s, g, "loss", &spec->loss, spec->torch) ? (const LossRow *)s->row : NULL;
}

static bool by_class(const LossRow *l) { return l->input == IN_CLASSES || l->input == IN_LOGS || l->input == IN_SCORES; }
static bool by_axis(const LossRow *l) { return l->input == IN_LAST || l->input == IN_KL; }

int class_axis(const Scope *s, const Value *p) {
    int64_t axis = (int64_t)scope_arg(s, "axis");
    if (p->rank < 1) scope_error(s, 301, NULL, "a single number has no classes");
    else if (axis < -p->rank || axis >= p->rank)
        scope_error(s, 301, "axis=-1", "axis %lld is outside predictions of %d axes", (long long)axis, p->rank);
    else return (int)(axis < 0 ? axis + p->rank : axis);
    return -1;
}

static int axis_of(const Scope *s, const LossRow *l, const Value *p) {
    if (by_class(l) || by_axis(l)) return class_axis(s, p);
    return p->rank ? p->rank - 1 : 0;
}

static bool floats(const Scope *s, const Value *p) {
    if (p->rank < 0) return false;
    if (dt_float(p->dt) || dt_small(p->dt)) return true;
    scope_error(s, 302, "an output of floats", "predictions of %s", gd_dtypes[p->dt].name);
    return false;
}

bool loss_classes(Graph *g, const TrainSpec *spec, const Value *p, bool *sparse, int *axis, double *ignored) {
    Scope s;
    const LossRow *l = open_loss(&s, g, spec);
    if (!l) return false;
    *ignored = l->sparse ? scope_arg(&s, "ignore_index") : NAN;
    *sparse = l->sparse;
    return (*axis = axis_of(&s, l, p)) >= 0;
}

bool loss_binary(const TrainSpec *spec) {
    for (size_t i = 0; spec->loss.name && i < sizeof rows / sizeof *rows; i++)
        if (name_in(rows[i].row.name, spec->loss.name)) return rows[i].input == IN_BINARY;
    return false;
}

bool loss_target(Graph *g, const TrainSpec *spec, const Value *p, DType *dt, int *rank, Expr **dim) {
    Scope s;
    const LossRow *l = open_loss(&s, g, spec);
    if (!l || !floats(&s, p)) return false;
    int axis = axis_of(&s, l, p);
    if (axis < 0) return false;
    *dt = l->sparse ? I64 : recipe_wide(p);
    *rank = 0;
    for (int i = 0; i < p->rank; i++)
        if (!l->sparse || i != axis) dim[(*rank)++] = p->dim[i];
    return true;
}

/* ---- what the lines see ---- */

/* Probabilities by Keras's letter: of sum 1, and at least 1e-7 away from 0 and 1. */
static LogSoftmax probabilities(Scope *s) {
    Value *logs = scope_text(s, "log(min(max(p / reduce_sum(p, axes=axes), 1e-7), 1 - 1e-7))");
    return (LogSoftmax){logs, const_scalar(s->g, s->dt, 0)};
}

static bool class_weights(Scope *s, const Value *p, int axis) {
    const double *v;
    Ctx *c = s->g->c;
    int n = scope_list(s, "class_weight", &v);
    int64_t classes;
    if (n < 0) return !scope_when(s, "class_weight");
    if (is_int(p->dim[axis], &classes) && classes != n) {
        scope_error(s, 301, NULL, "%d class weights for %lld classes", n, (long long)classes);
        return false;
    }
    int64_t dim[MAX_RANK];
    for (int i = axis; i < p->rank; i++) dim[i - axis] = i == axis ? n : 1;
    void *data = gd_alloc_aligned(c, (size_t)n * (size_t)gd_dtypes[s->dt].bytes);
    for (int i = 0; i < n; i++) {
        if (s->dt == F64) ((double *)data)[i] = v[i];
        else ((float *)data)[i] = (float)v[i];
    }
    scope_name(s, "classes", graph_const(s->g, s->dt, p->rank - axis, dim, data));
    return true;
}

/* here: where along the class axis the target's class is. */
static void class_numbers(Scope *s, const Value *p, Value *target, int axis) {
    scope_name(s, "here", one_hot(s->g, target, p, axis));
    scope_name(s, "target", build_unsqueeze(s->g, target, axis));
}

/* log p = d - lse from scores: the largest is taken out, so that exp does not overflow. */
static void log_softmax(Scope *s, LogSoftmax *l) {
    l->d = scope_name(s, "d", scope_text(s, "p - detach(reduce_max(p, axes=axes))"));
    l->lse = scope_text(s, "log(reduce_sum(exp(d), axes=axes))");
}

/* d and lse, by what p is: log probabilities, probabilities or scores. strict: its nodes are not looked at. */
static LogSoftmax logs_of(Scope *s, const LossRow *l, bool strict, Value *p, int axis) {
    LogSoftmax log;
    if (l->input == IN_LOGS) {
        if (log_softmax_of(p, axis, &log)) return log;
        return (LogSoftmax){scope_value(s, "p"), const_scalar(s->g, s->dt, 0)};
    }
    if (!strict && softmax_of(s->g, p, axis, &log)) return log;
    if (!scope_when(s, "from_logits")) return probabilities(s);
    if (strict || !log_softmax_of(p, axis, &log)) log_softmax(s, &log);
    return log;
}

static bool classes(Scope *s, const LossRow *l, bool strict, Value *p, Value *target) {
    Graph *g = s->g;
    int axis = class_axis(s, p);
    if (axis < 0) return false;
    scope_ints(s, "axes", 1, (const int64_t[]){axis});
    scope_name(s, "count", build_scalar(g, s->dt, p->dim[axis]));
    if (l->sparse) class_numbers(s, p, target, axis);
    else scope_name(s, "t", target);
    if (l->input == IN_SCORES) return true;
    if (!class_weights(s, p, axis)) return false;
    if (l->sparse && scope_when(s, "ignore_index?"))
        scope_name(s, "ignore", const_scalar(g, I64, scope_arg(s, "ignore_index")));
    LogSoftmax log = logs_of(s, l, strict, p, axis);
    scope_name(s, "d", log.d);
    scope_name(s, "lse", log.lse);
    return true;
}

static bool along_axis(Scope *s, const LossRow *l, bool strict, Value *p, Value *target) {
    int axis = class_axis(s, p);
    LogSoftmax log;
    if (axis < 0) return false;
    scope_ints(s, "axes", 1, (const int64_t[]){axis});
    scope_name(s, "t", target);
    if (l->input == IN_KL && !strict && !s->torch && softmax_of(s->g, p, axis, &log)) {
        scope_name(s, "d", log.d);
        scope_name(s, "lse", log.lse);
    }
    return true;
}

static void binary(Scope *s, bool strict, Value *p, Value *target) {
    Value *x = strict ? NULL : sigmoid_of(p);
    if (!x && scope_when(s, "from_logits")) x = scope_value(s, "p");
    if (x) scope_name(s, "x", x);
    scope_name(s, "t", target);
}

bool scores_not_probabilities(Graph *g, const TrainSpec *spec, Value *p, int axis) {
    Scope s;
    LogSoftmax log;
    const LossRow *l = open_loss(&s, g, spec);
    if (!l || (l->input != IN_BINARY && l->input != IN_CLASSES) || !scope_when(&s, "from_logits")) return false;
    return l->input == IN_BINARY ? !sigmoid_of(p) : !softmax_of(g, p, axis, &log);
}

/* ---- the mean ---- */

/* One weight for each sample along l's axis 0. */
static Value *weighted(Scope *s, Value *l, Value *weight) {
    Expr *dim[MAX_RANK];
    if (!weight || l->rank < 1) return l;
    for (int i = 0; i < l->rank; i++) dim[i] = i ? expr_int(s->g->c, 1) : weight->dim[0];
    return make(s->g, "mul", l, build_reshape(s->g, build_cast(s->g, weight, l->dt), l->rank, dim));
}

static Value *reduced(Scope *s, Value *l, const Value *p) {
    enum { MEAN, SUM, BATCHMEAN };
    Graph *g = s->g;
    int how = (int)scope_arg(s, "reduction");
    Value *sum = sum_all(g, l), *weights = scope_value(s, "weights");
    if (how == SUM) return sum;
    if (how == BATCHMEAN && p->rank) return make(g, "div", sum, build_scalar(g, l->dt, p->dim[0]));
    if (weights) return make(g, "div", sum, sum_all(g, weights));
    return make(g, "div", sum, build_scalar(g, l->dt, value_count(g->c, l)));
}

static bool target_fits(const Scope *s, const LossRow *l, const Value *p, const Value *target) {
    int rank = p->rank - l->sparse;
    if (target->rank < 0) return false;
    if (target->rank == rank && (l->sparse ? dt_int(target->dt) : !dt_int(target->dt))) return true;
    scope_error(s, target->rank == rank ? 302 : 301,
                l->sparse ? "class numbers, one axis less than the predictions" : "floats of the predictions' shape",
                "predictions of %d axes, a target of %d axes of %s", p->rank, target->rank, gd_dtypes[target->dt].name);
    return false;
}

Value *loss_build(Graph *g, const TrainSpec *spec, Value *p, Value *target, Value *weight) {
    Scope s;
    const LossRow *l = open_loss(&s, g, spec);
    if (!l || !floats(&s, p) || !target_fits(&s, l, p, target)) return NULL;
    s.dt = recipe_wide(p);
    scope_name(&s, "p", build_cast(g, p, s.dt));
    target = build_cast(g, target, l->sparse ? I64 : s.dt);
    scope_name(&s, "one", const_scalar(g, s.dt, 1));
    if (by_class(l)) {
        if (!classes(&s, l, spec->strict, p, target)) return NULL;
    } else if (by_axis(l)) {
        if (!along_axis(&s, l, spec->strict, p, target)) return NULL;
    } else if (l->input == IN_BINARY) binary(&s, spec->strict, p, target);
    else scope_name(&s, "t", target);
    scope_lines(&s, l->lines, ROW_LINES);
    return reduced(&s, weighted(&s, scope_value(&s, "l"), weight), p);
}
