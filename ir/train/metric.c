/* Metrics: sums since the epoch began, and the value to show as a formula over them.

   A batch's part of each sum is a line over p, t, loss and what else the row's kind says; sums are f64, so counts are exact
   and small parts of long epochs are not lost. */
#include "recipe.h"
#include <math.h>

enum { ROW_SUMS = 4 };
typedef enum MetricKind {
    MK_LOSS,    /* loss: the batch's mean; n: its samples */
    MK_CLASSES, /* best: where the predictions are largest, truth: the target's class, counted: bool, does the place count */
    MK_VALUES   /* p, t: floats of one shape */
} MetricKind;

typedef struct MetricRow {
    Row row;
    MetricKind kind;
    RowLine lines[ROW_LINES];
    const char *sums[ROW_SUMS]; /* which of the lines' names are summed up */
    const char *value;          /* over the sums so far */
} MetricRow;

#define MEAN .sums = {"sum", "n"}, .value = "sum / max(n, 1)"
#define THRESHOLD {"threshold", NAN, NAN, NULL}

static const MetricRow rows[] = {
    {.row = {"loss", {{0}}, "The mean loss of the samples so far."},
     .kind = MK_LOSS, .lines = {{"sum", "loss * n", NULL}}, MEAN},
    {.row = {"accuracy acc categorical_accuracy sparse_categorical_accuracy binary_accuracy", {THRESHOLD},
             "How often the largest prediction is the target's class; of a single probability, how often it lies on the target's side."},
     .kind = MK_CLASSES, .lines = {{"sum", "counted && best == truth ? one : 0", NULL}, {"n", "counted ? one : 0", NULL}}, MEAN},
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

static void see_classes(Scope *s, const Seen *e) {
    Graph *g = s->g;
    Value *best, *truth, *counted;
    scope_name(s, "one", const_scalar(g, s->dt, 1));
    if (yes_or_no(e)) {
        scope_number(s, "limit", threshold(s, e));
        best = scope_text(s, "p > limit");
        truth = scope_text(s, "t > 0.5");
    } else {
        best = argmax(g, scope_value(s, "p"), e->axis);
        truth = e->sparse ? e->target : argmax(g, e->target, e->axis);
    }
    counted = e->sparse && e->ignored == e->ignored ? make(g, "not_equal", truth, const_scalar(g, I64, e->ignored))
                                                    : make(g, "equal", truth, truth);
    scope_name(s, "best", best);
    scope_name(s, "truth", truth);
    scope_name(s, "counted", counted);
}

static void see(Scope *s, const Seen *e, MetricKind kind) {
    Graph *g = s->g;
    Expr *samples = e->p->rank ? e->p->dim[0] : expr_int(g->c, 1);
    scope_name(s, "n", build_scalar(g, s->dt, samples));
    scope_name(s, "p", build_cast(g, e->p, s->dt));
    if (e->loss) scope_name(s, "loss", build_cast(g, e->loss, s->dt));
    if (!e->sparse) scope_name(s, "t", build_cast(g, e->target, s->dt));
    if (kind == MK_CLASSES) see_classes(s, e);
}

/* ---- sums ---- */

static void add_sums(Scope *s, const MetricRow *m, const char *label) {
    Graph *g = s->g;
    for (int i = 0; i < ROW_SUMS && m->sums[i]; i++) {
        const char *name = gd_format(g->c, "metric/%s/%s", label, m->sums[i]);
        Value *part = build_cast(g, sum_all(g, scope_value(s, m->sums[i])), F64);
        Value *was = state_new(g, ST_METRIC, name, F64, 0, NULL, NULL), *next = make(g, "add", was, part);
        state_next(g, was, next);
        scope_name(s, m->sums[i], next);
    }
}

Value *metric_build(Graph *g, const TrainSpec *spec, const Recipe *r, Value *p, Value *target, Value *loss, const char **label) {
    Scope s;
    Seen e = {.spec = spec, .p = p, .target = target, .loss = loss};
    Recipe recipe = *r;
    if (!recipe.name) recipe.name = "accuracy";
    *label = recipe.name;
    if (!scope_open(&s, g, "metric", &recipe, spec->torch) || !loss_classes(g, spec, p, &e.sparse, &e.axis, &e.ignored)) return NULL;
    const MetricRow *m = (const MetricRow *)s.row;
    s.dt = recipe_wide(p);
    see(&s, &e, m->kind);
    scope_lines(&s, m->lines, ROW_LINES);
    add_sums(&s, m, *label);
    return build_cast(g, scope_text(&s, m->value), F32);
}
