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
    IN_BINARY   /* x: scores, or p alone */
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
             {{"from_logits", 0, 1, NULL}, {"label_smoothing", 0, 0, NULL}, {"class_weight weight", 0, 0, "*"}, AXIS, REDUCTION},
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
};
const Row *loss_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

/* ---- what the target is ---- */

static const LossRow *open_loss(Scope *s, Graph *g, const TrainSpec *spec) {
    return scope_open(s, g, "loss", &spec->loss, spec->torch) ? (const LossRow *)s->row : NULL;
}

static bool by_class(const LossRow *l) { return l->input == IN_CLASSES || l->input == IN_LOGS; }

int class_axis(const Scope *s, const Value *p) {
    int64_t axis = (int64_t)scope_arg(s, "axis");
    if (p->rank < 1) scope_error(s, 301, NULL, "a single number has no classes");
    else if (axis < -p->rank || axis >= p->rank)
        scope_error(s, 301, "axis=-1", "axis %lld is outside predictions of %d axes", (long long)axis, p->rank);
    else return (int)(axis < 0 ? axis + p->rank : axis);
    return -1;
}

static int axis_of(const Scope *s, const LossRow *l, const Value *p) {
    if (by_class(l)) return class_axis(s, p);
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
static void probabilities(Scope *s) {
    scope_name(s, "d", scope_text(s, "log(min(max(p / reduce_sum(p, axes=axes), 1e-7), 1 - 1e-7))"));
    scope_name(s, "lse", const_scalar(s->g, s->dt, 0));
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

static bool classes(Scope *s, const LossRow *l, bool strict, Value *p, Value *target) {
    Graph *g = s->g;
    int axis = class_axis(s, p);
    LogSoftmax log;
    if (axis < 0 || !class_weights(s, p, axis)) return false;
    scope_ints(s, "axes", 1, (const int64_t[]){axis});
    scope_name(s, "count", build_scalar(g, s->dt, p->dim[axis]));
    scope_name(s, "one", const_scalar(g, s->dt, 1));
    if (l->sparse) {
        scope_name(s, "here", one_hot(g, target, p, axis));
        scope_name(s, "target", build_unsqueeze(g, target, axis));
        if (scope_when(s, "ignore_index?")) scope_name(s, "ignore", const_scalar(g, I64, scope_arg(s, "ignore_index")));
    } else scope_name(s, "t", target);
    Value *x = scope_value(s, "p");
    bool found = log_softmax_of(p, axis, &log);
    if (l->input == IN_LOGS) {
        if (!found) log = (LogSoftmax){x, const_scalar(g, s->dt, 0)};
    } else if (!strict) {
        if (!found) found = softmax_of(g, p, axis, &log);
        if (!found && !scope_when(s, "from_logits")) { probabilities(s); return true; }
    } else if (!scope_when(s, "from_logits")) { probabilities(s); return true; }
    else found = false;
    if (l->input != IN_LOGS && !found) {
        log.d = scope_text(s, "p - detach(reduce_max(p, axes=axes))");
        scope_name(s, "d", log.d);
        log.lse = scope_text(s, "log(reduce_sum(exp(d), axes=axes))");
    }
    scope_name(s, "d", log.d);
    scope_name(s, "lse", log.lse);
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
    scope_error(s, target->rank == rank ? 302 : 301, l->sparse ? "class numbers, one axis less than the predictions" : "floats of the predictions' shape",
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
    if (by_class(l)) {
        if (!classes(&s, l, spec->strict, p, target)) return NULL;
    } else if (l->input == IN_BINARY) binary(&s, spec->strict, p, target);
    else scope_name(&s, "t", target);
    scope_lines(&s, l->lines, ROW_LINES);
    return reduced(&s, weighted(&s, scope_value(&s, "l"), weight), p);
}
