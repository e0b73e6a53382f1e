/* Schedules: the factor of the base rate as a pure function of the step, in f64 so that any step number is exact.

   Lines see s, the steps since the warm-up, and steps, the schedule's length or period. Both count updates of the parameters
   or, with unit=epoch, whole epochs. Before that, for `warmup` of them, the factor rises in a line from warmup_start to 1. */
#include "recipe.h"
#include <math.h>

/* What `steps` is when it is not given. */
typedef enum Length { LEN_RUN, LEN_EPOCH } Length;
typedef struct ScheduleRow {
    Row row;
    Length length;
    bool lists; /* boundaries and values */
    RowLine lines[ROW_LINES];
} ScheduleRow;

enum { UNIT_STEP, UNIT_EPOCH };
#define UNIT {"unit", UNIT_STEP, UNIT_EPOCH, "step epoch"}, {"warmup warmup_steps", 0, 0, NULL}, {"warmup_start", 0, 0, NULL}
#define STEPS {"steps decay_steps total_iters t_max T_max", NAN, NAN, NULL}
#define GAMMA(KERAS, TORCH) {"gamma decay_rate", KERAS, TORCH, NULL}
#define END {"end alpha end_factor", 0, 0, NULL}
#define PI "3.141592653589793"
#define PART {"u", "min(s / steps, 1)", NULL}

static const ScheduleRow rows[] = {
    {.row = {"constant none", {UNIT}, "1"}, .lines = {{"factor", "1", NULL}}},
    {.row = {"step step_lr step_decay", {{"steps step_size size", NAN, NAN, NULL}, GAMMA(.1, .1), UNIT},
             "gamma^floor(s / steps)"},
     .length = LEN_EPOCH,
     .lines = {{"factor", "pow(gamma, floor(s / steps))", NULL}}},
    {.row = {"piecewise multistep piecewise_constant multi_step",
             {{"boundaries milestones", 0, 0, "*"}, {"values", 0, 0, "*"}, GAMMA(.1, .1), UNIT},
             "values[k], or gamma^k: k boundaries are behind s (b1:b2:.., keras s > b, torch s >= b); values are factors"},
     .lists = true},
    {.row = {"exponential exponential_decay exponential_lr", {STEPS, GAMMA(.96, .95), {"staircase", 0, 0, NULL}, UNIT},
             "gamma^(s / steps); staircase: of whole numbers"},
     .length = LEN_EPOCH,
     .lines = {{"k", "s / steps", NULL}, {"k", "floor(k)", "staircase"}, {"factor", "pow(gamma, k)", NULL}}},
    {.row = {"inverse_time inverse_time_decay", {STEPS, GAMMA(.5, .5), {"staircase", 0, 0, NULL}, UNIT},
             "1 / (1 + gamma s / steps)"},
     .length = LEN_EPOCH,
     .lines = {{"k", "s / steps", NULL}, {"k", "floor(k)", "staircase"}, {"factor", "1 / (1 + gamma * k)", NULL}}},
    {.row = {"inverse_sqrt noam rsqrt", {STEPS, UNIT}, "sqrt(steps / max(s, steps))"},
     .length = LEN_EPOCH,
     .lines = {{"factor", "sqrt(steps / max(s, steps))", NULL}}},
    {.row = {"cosine cosine_decay cosine_annealing", {STEPS, END, UNIT},
             "end + (1 - end) (1 + cos(pi s / steps)) / 2; keras stays at the end, torch goes up again"},
     .lines = {PART,
               {"u", "s / steps", "torch"},
               {"factor", "end + (1 - end) * 0.5 * (1 + cos(" PI " * u))", NULL}}},
    {.row = {"cosine_restarts cosine_decay_restarts cosine_annealing_warm_restarts",
             {{"steps first_decay_steps T_0 t_0", NAN, NAN, NULL}, {"t_mul T_mult t_mult", 2, 1, NULL},
              {"m_mul", 1, 1, NULL}, END, UNIT},
             "cosine over periods of which each is t_mul times as long as the one before and begins at m_mul times its factor"},
     .length = LEN_EPOCH,
     .lines = {{"x", "s / steps", NULL},
               {"i", "floor(x)", "t_mul=1"},
               {"u", "x - i", "t_mul=1"},
               {"i", "floor(log(1 - x * (1 - t_mul)) * (1 / log(0 * x + t_mul)) + 1e-9)", "!t_mul=1"},
               {"p", "pow(t_mul, i)", "!t_mul=1"},
               {"u", "max((x - (1 - p) / (1 - t_mul)) / p, 0)", "!t_mul=1"},
               {"factor", "end + (1 - end) * 0.5 * pow(m_mul, i) * (1 + cos(" PI " * u))", NULL}}},
    {.row = {"polynomial polynomial_decay polynomial_lr", {STEPS, {"power", 1, 1, NULL}, END, UNIT},
             "end + (1 - end) (1 - s / steps)^power, then end"},
     .lines = {PART, {"factor", "(1 - end) * pow(1 - u, power) + end", NULL}}},
    {.row = {"linear linear_lr", {STEPS, {"start start_factor", 1, 1, NULL}, END, UNIT}, "from start to end in a line"},
     .lines = {PART, {"factor", "start + (end - start) * u", NULL}}},
    {.row = {"one_cycle onecycle",
             {STEPS, {"pct_start", .3, .3, NULL}, {"div_factor", 25, 25, NULL}, {"final_div_factor", 1e4, 1e4, NULL},
              {"unit", UNIT_STEP, UNIT_STEP, "step epoch"}, {"warmup", 0, 0, NULL}, {"warmup_start", 0, 0, NULL}},
             "up from 1 / div_factor along a cosine for pct_start of the steps, then down to that over final_div_factor"},
     .lines = {{"low", "1 / (0 * s + div_factor)", NULL},
               {"peak", "pct_start * steps - 1", NULL},
               {"u", "s / peak", NULL},
               {"d", "min((s - peak) / (steps - 1 - peak), 1)", NULL},
               {"factor", "s <= peak ? 1 + (low - 1) * 0.5 * (1 + cos(" PI " * u)) : "
                          "low / final_div_factor + (1 - low / final_div_factor) * 0.5 * (1 + cos(" PI " * d))", NULL}}},
};
const Row *schedule_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

static Value *f64(Graph *g, double v) { return const_scalar(g, F64, v); }

/* What is counted, and how much of it a run and an epoch are. */
static void clock(Scope *s, const ScheduleRow *row) {
    Graph *g = s->g;
    bool epochs = scope_arg(s, "unit") == UNIT_EPOCH, given = map_has(s->attrs, "steps", 5);
    int64_t k = g->train && g->train->accumulate > 1 ? g->train->accumulate : 1;
    int64_t run = row->length == LEN_RUN && g->train && g->train->epochs > 0 ? g->train->epochs : 1;
    Value *steps = scope_name(s, "s", build_cast(g, train_update_number(g), F64)), *epoch;
    double fixed = given ? scope_arg(s, "steps") : NAN;
    if (epochs || (given && isnan(fixed))) {
        epoch = make(g, "max", build_cast(g, train_epoch_steps(g), F64), f64(g, 1));
        if (k > 1) epoch = make(g, "ceil", make(g, "div", epoch, f64(g, (double)k)));
        scope_name(s, "epoch", epoch);
        if (epochs) steps = scope_name(s, "s", scope_text(s, "floor(s / epoch)"));
    }
    if (given) {
        Value *length = !isnan(fixed) ? f64(g, fixed) : epochs ? f64(g, (double)run)
                                      : make(g, "mul", scope_value(s, "epoch"), f64(g, (double)run));
        double warmup = scope_arg(s, "warmup");
        /* Keras's decay_steps begin behind it. */
        bool less = warmup > 0 && row->length == LEN_RUN && (s->torch || isnan(fixed));
        if (less) length = make(g, "max", make(g, "sub", length, f64(g, warmup)), f64(g, 1));
        scope_name(s, "steps", length);
    }
    scope_name(s, "since", steps);
    if (scope_arg(s, "warmup") > 0) scope_name(s, "s", scope_text(s, "max(s - warmup, 0)"));
}

static Value *piecewise(Scope *s) {
    Graph *g = s->g;
    const double *b, *v;
    int n = scope_list(s, "boundaries", &b), values = scope_list(s, "values", &v);
    if (n < 0 || (values >= 0 && values != n + 1)) {
        scope_error(s, 601, "boundaries=10:20 values=1:0.1:0.01", "%d boundaries, %d values",
                    n < 0 ? 0 : n, values < 0 ? 0 : values);
        return NULL;
    }
    double gamma = scope_arg(s, "gamma");
    Value *factor = f64(g, values >= 0 ? v[0] : 1);
    for (int i = 0; i < n; i++) {
        Value *beyond = make(g, s->torch ? "greater_equal" : "greater", scope_value(s, "s"), f64(g, b[i]));
        Value *there = values >= 0 ? f64(g, v[i + 1]) : make(g, "mul", factor, f64(g, gamma));
        factor = make(g, "where", beyond, there, factor);
    }
    return factor;
}

Value *schedule_build(Graph *g, const Recipe *r) {
    Scope s;
    const Recipe constant = {.name = "constant"};
    if (!scope_open(&s, g, "schedule", r->name ? r : &constant, g->train && g->train->torch)) return NULL;
    const ScheduleRow *row = (const ScheduleRow *)s.row;
    s.dt = F64;
    clock(&s, row);
    Value *factor = row->lists ? piecewise(&s) : scope_lines(&s, row->lines, ROW_LINES);
    if (!factor) return NULL;
    if (scope_arg(&s, "warmup") > 0) {
        scope_name(&s, "factor", factor);
        factor = scope_text(&s, "since < warmup ? warmup_start + (1 - warmup_start) / warmup * since : factor");
    }
    return build_cast(g, factor, F32);
}
