/* Metrics: sums since the epoch began, and the value to show as a formula over them.

   A batch's part of each sum is a line over p, t, loss and what else the row's kind says; sums are f64, so counts are exact
   and small parts of long epochs are not lost. */
#include "recipe.h"
#include <math.h>

enum { ROW_SUMS = 4 };
typedef enum MetricKind {
    MK_LOSS,      /* loss: the batch's mean; n: its samples */
    MK_CLASSES,   /* best: where the predictions are largest, truth: the target's class, counted: bool, does the place count */
    MK_VALUES,    /* p, t: floats of one shape, places: how many */
    MK_DECISIONS, /* said, is: bool; of class numbers at each class, and summed up class by class; else all together */
    MK_RANKS,     /* p, here: where the target's class is, axes: the class axis, counted */
    MK_CURVE,     /* above: probability beyond each threshold, [places, thresholds]; is [places, 1] */
    MK_MATRIX     /* matrix: counts [target's class, predicted class]; diagonal: bool */
} MetricKind;

typedef struct MetricRow {
    Row row;
    MetricKind kind;
    RowLine lines[ROW_LINES];
    const char *sums[ROW_SUMS]; /* which of the lines' names are summed up */
    const char *value;          /* over the sums so far */
} MetricRow;

#define MEAN .sums = {"sum", "n"}, .value = "sum / max(n, 1)"
#define THRESHOLD {"threshold thresholds", NAN, NAN, NULL}
#define DECIDED .kind = MK_DECISIONS
#define HITS {"hits", "said && is ? one : 0", NULL}
#define SAID {"says", "said ? one : 0", NULL}
#define IS {"real", "is ? one : 0", NULL}
/* The mean over the classes that occurred. */
#define OVER_CLASSES(SCORE, OCCURS) \
    "score = " SCORE "; sum = reduce_sum(score, axes=all, keepdims=0);" \
    "sum / max(reduce_sum(" OCCURS " > 0 ? one64 : 0, axes=all, keepdims=0), 1)"
#define COUNTS(NAME, TEXT, DOC)                                                                                         \
    {.row = {NAME, {THRESHOLD}, DOC}, DECIDED, .lines = {{"sum", TEXT, NULL}}, .sums = {"sum"},                          \
     .value = "reduce_sum(sum, axes=all, keepdims=0)"}
#define ERROR_MEAN(NAME, TEXT, VALUE, DOC)                                                                              \
    {.row = {NAME, {{0}}, DOC}, .kind = MK_VALUES, .lines = {{"sum", TEXT, NULL}, {"n", "places", NULL}},               \
     .sums = {"sum", "n"}, .value = VALUE}

static const MetricRow rows[] = {
    {.row = {"loss", {{0}}, "The mean loss of the samples so far."},
     .kind = MK_LOSS, .lines = {{"sum", "loss * n", NULL}}, MEAN},
    {.row = {"accuracy acc categorical_accuracy sparse_categorical_accuracy binary_accuracy", {THRESHOLD},
             "How often the largest prediction is the target's class; of a single probability, how often "
             "it lies on the target's side."},
     .kind = MK_CLASSES,
     .lines = {{"sum", "counted && best == truth ? one : 0", NULL}, {"n", "counted ? one : 0", NULL}}, MEAN},
    {.row = {"top_k_categorical_accuracy top_k top_k_accuracy sparse_top_k_categorical_accuracy", {{"k", 5, 5, NULL}},
             "How often the target's class is among the k largest predictions."},
     .kind = MK_RANKS,
     .lines = {{"own", "reduce_sum(here ? p : 0, axes=axes)", NULL},
               {"above", "reduce_sum(p > own ? one : 0, axes=axes)", NULL},
               {"sum", "counted && above < k && own == own ? one : 0", NULL},
               {"n", "counted ? one : 0", NULL}},
     MEAN},
    ERROR_MEAN("mae mean_absolute_error", "abs(p - t)", "sum / max(n, 1)", "The mean of |p - t|."),
    ERROR_MEAN("mse mean_squared_error", "(p - t) * (p - t)", "sum / max(n, 1)", "The mean of (p - t)^2."),
    ERROR_MEAN("rmse root_mean_squared_error", "(p - t) * (p - t)", "sqrt(sum / max(n, 1))",
               "The root of the mean of (p - t)^2."),
    ERROR_MEAN("mape mean_absolute_percentage_error", "100 * abs((p - t) / max(abs(t), 1e-7))", "sum / max(n, 1)",
               "The mean of 100 |p - t| / |t|."),
    {.row = {"r2 r2_score", {{0}}, "1 - sum (p - t)^2 / sum (t - mean t)^2."},
     .kind = MK_VALUES,
     .lines = {{"e", "(p - t) * (p - t)", NULL}, {"tt", "t * t", NULL}, {"sum", "t", NULL}, {"n", "places", NULL}},
     .sums = {"e", "tt", "sum", "n"},
     .value = "v = tt - sum * sum / max(n, 1); v > 0 ? 1 - e / v : 0"},
    {.row = {"precision", {THRESHOLD}, "Of what was said to be, how much is. Of class numbers: the mean over classes."},
     DECIDED, .lines = {HITS, SAID, IS}, .sums = {"hits", "says", "real"},
     .value = OVER_CLASSES("hits / max(says, 1)", "says + real")},
    {.row = {"recall sensitivity", {THRESHOLD},
             "Of what is, how much was said to be. Of class numbers: the mean over classes."},
     DECIDED, .lines = {HITS, IS}, .sums = {"hits", "real"}, .value = OVER_CLASSES("hits / max(real, 1)", "real")},
    {.row = {"f1 f1_score", {THRESHOLD}, "The harmonic mean of precision and recall. Of class numbers: the mean over classes."},
     DECIDED, .lines = {HITS, SAID, IS}, .sums = {"hits", "says", "real"},
     .value = OVER_CLASSES("2 * hits / max(says + real, 1)", "says + real")},
    COUNTS("true_positives tp", "said && is ? one : 0", "How many were said to be and are."),
    COUNTS("false_positives fp", "said && !is ? one : 0", "How many were said to be and are not."),
    COUNTS("true_negatives tn", "!said && !is ? one : 0", "How many were said not to be and are not."),
    COUNTS("false_negatives fn", "!said && is ? one : 0", "How many were said not to be and are."),
    {.row = {"auc roc_auc", {{"num_thresholds", 200, 200, NULL}},
             "The area under the curve of true positives over false positives, by trapezoids between fixed "
             "thresholds (as Keras)."},
     .kind = MK_CURVE,
     .lines = {{"tp", "reduce_sum(above && is ? one : 0, axes=[0], keepdims=0)", NULL},
               {"fp", "reduce_sum(above && !is ? one : 0, axes=[0], keepdims=0)", NULL},
               {"pos", "reduce_sum(is ? one : 0, axes=[0,1], keepdims=0)", NULL},
               {"neg", "reduce_sum(is ? zero : 1, axes=[0,1], keepdims=0)", NULL}},
     .sums = {"tp", "fp", "pos", "neg"},
     .value = "y = tp / max(pos, 1); x = fp / max(neg, 1);"
              "dx = slice(x, start=first, size=size, step=[1]) - slice(x, start=second, size=size, step=[1]);"
              "h = 0.5 * (slice(y, start=first, size=size, step=[1]) + slice(y, start=second, size=size, step=[1]));"
              "reduce_sum(dx * h, axes=[0], keepdims=0)"},
    {.row = {"perplexity", {{0}}, "e to the mean loss of the samples so far."},
     .kind = MK_LOSS, .lines = {{"sum", "loss * n", NULL}}, .sums = {"sum", "n"}, .value = "exp(sum / max(n, 1))"},
    {.row = {"confusion_matrix confusion balanced_accuracy", {THRESHOLD},
             "Counts by target's and predicted class, in the state metric/NAME/matrix; shown is the mean over classes of how "
             "often they were found."},
     .kind = MK_MATRIX, .sums = {"matrix"},
     .value = "rows = reduce_sum(matrix, axes=[1]); found = diagonal ? matrix : 0;"
              "s = reduce_sum(found / max(rows, 1), axes=[0,1], keepdims=0);"
              "s / max(reduce_sum(rows > 0 ? one64 : 0, axes=[0,1], keepdims=0), 1)"},
    {.row = {"mean_iou iou", {THRESHOLD}, "The mean over classes of hits over (said or is)."},
     .kind = MK_MATRIX, .sums = {"matrix"},
     .value = "d = diagonal ? matrix : 0; hits = reduce_sum(d, axes=[1], keepdims=0);"
              "any = reduce_sum(matrix, axes=[1], keepdims=0) + reduce_sum(matrix, axes=[0], keepdims=0) - hits;"
              "s = reduce_sum(hits / max(any, 1), axes=[0], keepdims=0);"
              "s / max(reduce_sum(any > 0 ? one64 : 0, axes=[0], keepdims=0), 1)"},
};
const Row *metric_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

/* ---- what the lines see ---- */

typedef struct Seen { const TrainSpec *spec; Value *p, *target, *loss; bool sparse; int axis; double ignored; } Seen;

static Value *argmax(Graph *g, Value *v, int axis) {
    Node *n = node_begin(g, "argmax");
    node_input(n, v);
    node_int(n, "axis", axis);
    node_int(n, "keepdims", 0);
    return node_finish(n);
}

/* One number says yes or no: classes lie along no axis, or along one of size 1. */
static bool yes_or_no(const Seen *e) {
    return !e->sparse && (loss_binary(e->spec) || !e->p->rank || is_value(e->p->dim[e->axis], 1));
}

static double threshold(const Scope *s, const Seen *e) {
    if (scope_when(s, "threshold?")) return scope_arg(s, "threshold");
    return scores_not_probabilities(s->g, e->spec, e->p, e->axis) ? 0 : .5;
}

static Value *all_true(Graph *g, Value *like) { return make(g, "equal", like, like); }

static Value *counted(Scope *s, const Seen *e, Value *truth) {
    if (!e->sparse || isnan(e->ignored)) return all_true(s->g, truth);
    return make(s->g, "not_equal", truth, const_scalar(s->g, I64, e->ignored));
}

/* The class that a place belongs to: where its target is largest, unless that is a number already. */
static Value *truth_of(Graph *g, const Seen *e) { return e->sparse ? e->target : argmax(g, e->target, e->axis); }

static void see_classes(Scope *s, const Seen *e) {
    Graph *g = s->g;
    if (yes_or_no(e)) {
        scope_number(s, "limit", threshold(s, e));
        scope_name(s, "best", scope_text(s, "p > limit"));
        scope_name(s, "truth", scope_text(s, "t > 0.5"));
    } else {
        scope_name(s, "best", argmax(g, scope_value(s, "p"), e->axis));
        scope_name(s, "truth", truth_of(g, e));
    }
    scope_name(s, "counted", counted(s, e, scope_value(s, "truth")));
}

static void see_values(Scope *s, const Seen *e) {
    Graph *g = s->g;
    Value *p = scope_value(s, "p");
    if (e->sparse) scope_name(s, "t", build_cast(g, one_hot(g, e->target, p, e->axis), s->dt));
    scope_name(s, "places", build_scalar(g, s->dt, value_count(g->c, p)));
}

/* The axes that are summed over: all, but the classes' own where the target is a class number. */
static void see_decisions(Scope *s, const Seen *e, Scope *sums) {
    Graph *g = s->g;
    Value *p = scope_value(s, "p");
    int64_t axes[MAX_RANK], n = 0;
    for (int i = 0; i < p->rank; i++)
        if (!e->sparse || i != e->axis) axes[n++] = i;
    scope_ints(sums, "axes", (int)n, axes);
    if (e->sparse) {
        Value *best = argmax(g, p, e->axis), *valid = build_unsqueeze(g, counted(s, e, e->target), e->axis);
        scope_name(s, "valid", valid);
        scope_name(s, "best", one_hot(g, best, p, e->axis));
        scope_name(s, "said", scope_text(s, "best && valid"));
        scope_name(s, "is", one_hot(g, e->target, p, e->axis));
        return;
    }
    scope_number(s, "limit", threshold(s, e));
    scope_name(s, "said", scope_text(s, "p > limit"));
    scope_name(s, "is", scope_text(s, "t > 0.5"));
}

static void see_ranks(Scope *s, const Seen *e) {
    Graph *g = s->g;
    Value *truth = truth_of(g, e);
    scope_ints(s, "axes", 1, (const int64_t[]){e->axis});
    scope_name(s, "here", one_hot(g, truth, e->p, e->axis));
    scope_name(s, "counted", build_unsqueeze(g, counted(s, e, truth), e->axis));
}

/* Thresholds 0 - e, 1/(n-1), ..., 1 + e. */
static void see_curve(Scope *s, const Seen *e) {
    Graph *g = s->g;
    Ctx *c = g->c;
    int n = (int)scope_arg(s, "num_thresholds");
    if (n < 3) n = 3;
    double *at = gd_alloc_aligned(c, (size_t)n * sizeof *at);
    const int64_t dim[1] = {n};
    for (int i = 0; i < n; i++) at[i] = i == 0 ? -1e-7 : i == n - 1 ? 1 + 1e-7 : (double)i / (n - 1);
    Value *p = scope_value(s, "p");
    if (scores_not_probabilities(g, e->spec, e->p, e->axis)) p = make(g, "sigmoid", p);
    if (e->sparse) scope_name(s, "t", build_cast(g, one_hot(g, e->target, p, e->axis), s->dt));
    Expr *flat[2] = {value_count(c, p), expr_int(c, 1)};
    scope_name(s, "at", build_cast(g, graph_const(g, F64, 1, dim, at), s->dt));
    scope_name(s, "p", build_reshape(g, p, 2, flat));
    scope_name(s, "t", build_reshape(g, scope_value(s, "t"), 2, flat));
    scope_name(s, "above", scope_text(s, "p > at"));
    scope_name(s, "is", scope_text(s, "t > 0.5"));
    scope_ints(s, "first", 1, (const int64_t[]){0});
    scope_ints(s, "second", 1, (const int64_t[]){1});
    scope_ints(s, "size", 1, (const int64_t[]){n - 1});
}

/* One-hot rows of the target, transposed, times those of the prediction. */
static void see_matrix(Scope *s, const Seen *e) {
    Graph *g = s->g;
    Ctx *c = g->c;
    see_classes(s, e);
    Expr *classes = yes_or_no(e) ? expr_int(c, 2) : e->p->dim[e->axis];
    Value *best = build_cast(g, scope_value(s, "best"), I64), *truth = build_cast(g, scope_value(s, "truth"), I64);
    Expr *column[2] = {value_count(c, truth), expr_int(c, 1)}, *row[2] = {expr_int(c, 1), column[0]};
    Expr *tall[2] = {column[0], classes}, *wide[2] = {classes, column[0]}, *square[2] = {classes, classes};
    Value *here = make(g, "equal", build_reshape(g, truth, 2, row), build_iota(g, I64, 2, wide, 0));
    Value *there = make(g, "equal", build_reshape(g, best, 2, column), build_iota(g, I64, 2, tall, 1));
    here = make(g, "and", here, build_reshape(g, scope_value(s, "counted"), 2, row));
    scope_name(s, "matrix", build_matmul(g, build_cast(g, here, s->dt), build_cast(g, there, s->dt)));
    scope_name(s, "diagonal", make(g, "equal", build_iota(g, I64, 2, square, 0), build_iota(g, I64, 2, square, 1)));
}

static void see(Scope *s, const Seen *e, const MetricRow *m, Scope *sums) {
    Graph *g = s->g;
    Expr *samples = e->p->rank ? e->p->dim[0] : expr_int(g->c, 1);
    scope_name(s, "n", build_scalar(g, s->dt, samples));
    scope_name(s, "p", build_cast(g, e->p, s->dt));
    scope_name(s, "one", const_scalar(g, s->dt, 1));
    scope_name(s, "zero", const_scalar(g, s->dt, 0));
    if (e->loss) scope_name(s, "loss", build_cast(g, e->loss, s->dt));
    if (!e->sparse) scope_name(s, "t", build_cast(g, e->target, s->dt));
    switch (m->kind) {
    case MK_LOSS: break;
    case MK_CLASSES: see_classes(s, e); break;
    case MK_VALUES: see_values(s, e); break;
    case MK_DECISIONS: see_decisions(s, e, sums); break;
    case MK_RANKS: see_ranks(s, e); break;
    case MK_CURVE: see_curve(s, e); break;
    case MK_MATRIX: see_matrix(s, e); break;
    }
}

/* ---- sums ---- */

/* A batch's part: summed over all axes, over those that sums has, or as it is. */
static Value *part_of(const Scope *sums, MetricKind kind, Value *v) {
    if (kind == MK_CURVE || kind == MK_MATRIX) return v;
    const Attr *axes = map_gets(sums->attrs, "axes");
    return kind == MK_DECISIONS ? build_reduce(sums->g, "reduce_sum", v, axes->n, axes->ints, false) : sum_all(sums->g, v);
}

/* Their new values, under their names, in the scope sums; and all: its axes. */
static bool add_sums(Scope *sums, const Scope *s, const MetricRow *m, const char *label) {
    Graph *g = s->g;
    int64_t dims[MAX_RANK], all[MAX_RANK];
    for (int i = 0; i < ROW_SUMS && m->sums[i]; i++) {
        Value *part = build_cast(g, part_of(sums, m->kind, scope_value(s, m->sums[i])), F64);
        if (!value_static(part, dims)) {
            scope_error(s, 301, "a fixed number of classes", "counts of an open number of classes");
            return false;
        }
        Value *was = state_new(g, ST_METRIC, gd_format(g->c, "metric/%s/%s", label, m->sums[i]), F64, part->rank, dims, NULL);
        Value *next = make(g, "add", was, part);
        state_next(g, was, next);
        scope_name(sums, m->sums[i], next);
        for (int k = 0; k < part->rank; k++) all[k] = k;
        scope_ints(sums, "all", part->rank, all);
    }
    return true;
}

Value *metric_build(Graph *g, const TrainSpec *spec, const Recipe *r, Value *p, Value *target, Value *loss,
                    const char **label) {
    Scope s, sums;
    Seen e = {.spec = spec, .p = p, .target = target, .loss = loss};
    Recipe recipe = *r;
    if (!recipe.name) recipe.name = "accuracy";
    *label = recipe.name;
    if (!scope_open(&s, g, "metric", &recipe, spec->torch)) return NULL;
    if (!loss_classes(g, spec, p, &e.sparse, &e.axis, &e.ignored)) return NULL;
    const MetricRow *m = (const MetricRow *)s.row;
    s.dt = recipe_wide(p);
    if (p->rank < 0 || (m->kind == MK_LOSS && !loss)) return NULL;
    sums = s;
    sums.values = map_new(g->c);
    see(&s, &e, m, &sums);
    scope_lines(&s, m->lines, ROW_LINES);
    if (!add_sums(&sums, &s, m, *label)) return NULL;
    scope_name(&sums, "one64", const_scalar(g, F64, 1));
    if (scope_value(&s, "diagonal")) scope_name(&sums, "diagonal", scope_value(&s, "diagonal"));
    return build_cast(g, scope_text(&sums, m->value), F32);
}
