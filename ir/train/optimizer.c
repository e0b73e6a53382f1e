/* Optimizers: one step of one parameter, as lines over

     w, g   the parameter and its gradient         r   the rate
     slots  what the optimizer keeps of the parameter, under their names, before the step
     t      this step's number, from 1 on: in f64, for the scalars only

   Scalars are computed once for the tensor, in f64, and rounded. Lines bind w and the slots anew: their last values are the
   outcome. */
#include "recipe.h"
#include <math.h>

enum { ROW_SLOTS = 4, ROW_SCALARS = 6 };
/* init NULL: zeros; "%NAME": that argument's number. scalar: one number in f64, which the scalars bind anew. */
typedef struct Slot { const char *name, *init, *when; bool scalar; } Slot;
typedef struct OptimizerRow {
    Row row;
    Slot slots[ROW_SLOTS];
    RowLine scalars[ROW_SCALARS];
    RowLine lines[ROW_LINES];
} OptimizerRow;

#define LR(KERAS, TORCH) {"lr learning_rate", KERAS, TORCH, NULL}
#define WEIGHT_DECAY {"weight_decay", 0, 0, NULL}
/* PyTorch adds the decay to the gradient, Keras takes it off the parameter. */
#define DECAY {"g", "g + weight_decay * w", "weight_decay torch"}, {"w", "w - weight_decay * r * w", "weight_decay keras"}
#define DECOUPLED {"w", "w - weight_decay * r * w", "weight_decay"}

#define ADAM_ARGS {"beta1 beta_1 b1", .9, .9, NULL}, {"beta2 beta_2 b2", .999, .999, NULL}, {"epsilon eps", 1e-7, 1e-8, NULL}
#define ADAM                                                                                                            \
    .slots = {{"m", NULL, NULL, false}, {"v", NULL, NULL, false}, {"vmax", NULL, "amsgrad", false}},                                         \
    .scalars = {{"c", "sqrt(1 - pow(beta2, t)) / (1 - pow(beta1, t))", "keras"},                                        \
                {"c", "1 / (1 - pow(beta1, t))", "torch"},                                                              \
                {"k", "1 / sqrt(1 - pow(beta2, t))", "torch"}}
#define ADAM_LINES                                                                                                      \
    {"m", "beta1 * m + (1 - beta1) * g", NULL}, {"v", "beta2 * v + (1 - beta2) * (g * g)", NULL}, {"h", "v", "!amsgrad"}, \
        {"vmax", "max(vmax, v)", "amsgrad"}, {"h", "vmax", "amsgrad"},                                                  \
        {"w", "w - r * c * (m / (sqrt(h) + epsilon))", "keras"}, {"w", "w - r * c * (m / (k * sqrt(h) + epsilon))", "torch"}

static const OptimizerRow rows[] = {
    {.row = {"sgd gradient_descent",
             {LR(.01, .01), {"momentum", 0, 0, NULL}, {"nesterov", 0, 0, NULL}, {"dampening", 0, 0, NULL}, WEIGHT_DECAY},
             "Gradient descent, with momentum."},
     .slots = {{"momentum_buffer", NULL, "momentum", false}},
     .lines = {DECAY,
               {"momentum_buffer", "momentum * momentum_buffer - r * g", "momentum keras"},
               {"w", "w + momentum_buffer", "momentum !nesterov keras"},
               {"w", "w + (momentum * momentum_buffer - r * g)", "momentum nesterov keras"},
               {"momentum_buffer", "momentum * momentum_buffer + (first ? g : (1 - dampening) * g)", "momentum torch"},
               {"g", "g + momentum * momentum_buffer", "momentum nesterov torch"},
               {"g", "momentum_buffer", "momentum !nesterov torch"},
               {"w", "w - r * g", "!momentum keras"},
               {"w", "w - r * g", "torch"}}},
    {.row = {"adam", {LR(1e-3, 1e-3), ADAM_ARGS, {"amsgrad", 0, 0, NULL}, WEIGHT_DECAY},
             "Adam: steps by the mean gradient over the root of the mean square (Kingma and Ba 2015)."},
     ADAM,
     .lines = {DECAY, ADAM_LINES}},
    {.row = {"adamw", {LR(1e-3, 1e-3), ADAM_ARGS, {"amsgrad", 0, 0, NULL}, {"weight_decay", .004, .01, NULL}},
             "Adam whose weight decay is not part of the gradient (Loshchilov and Hutter 2019)."},
     ADAM,
     .lines = {DECOUPLED, ADAM_LINES}},
    {.row = {"rmsprop",
             {LR(1e-3, .01), {"rho alpha", .9, .99, NULL}, {"momentum", 0, 0, NULL}, {"epsilon eps", 1e-7, 1e-8, NULL},
              {"centered", 0, 0, NULL}, WEIGHT_DECAY},
             "Steps by the gradient over the root of its running mean square (centered: of its variance)."},
     .slots = {{"v", NULL, NULL, false}, {"mean", NULL, "centered", false}, {"momentum_buffer", NULL, "momentum", false}},
     .lines = {DECAY,
               {"v", "rho * v + (1 - rho) * (g * g)", NULL},
               {"h", "v", NULL},
               {"mean", "rho * mean + (1 - rho) * g", "centered"},
               {"h", "v - mean * mean", "centered"},
               {"d", "g / sqrt(h + epsilon)", "keras"},
               {"d", "g / (sqrt(h) + epsilon)", "torch"},
               {"momentum_buffer", "momentum * momentum_buffer + r * d", "momentum keras"},
               {"momentum_buffer", "momentum * momentum_buffer + d", "momentum torch"},
               {"w", "w - momentum_buffer", "momentum keras"},
               {"w", "w - r * momentum_buffer", "momentum torch"},
               {"w", "w - r * d", "!momentum"}}},
    {.row = {"adagrad",
             {LR(1e-3, .01), {"initial_accumulator_value", .1, 0, NULL}, {"epsilon eps", 1e-7, 1e-10, NULL},
              {"lr_decay", 0, 0, NULL}, WEIGHT_DECAY},
             "Steps by the gradient over the root of the sum of its squares (Duchi et al. 2011)."},
     .slots = {{"sum", "%initial_accumulator_value", NULL, false}},
     .scalars = {{"c", "1 / (1 + lr_decay * (t - 1))", NULL}},
     .lines = {DECAY,
               {"sum", "sum + g * g", NULL},
               {"w", "w - r * c * (g / sqrt(sum + epsilon))", "keras"},
               {"w", "w - r * c * (g / (sqrt(sum) + epsilon))", "torch"}}},
    {.row = {"adadelta", {LR(1e-3, 1), {"rho", .95, .9, NULL}, {"epsilon eps", 1e-7, 1e-6, NULL}, WEIGHT_DECAY},
             "Adagrad with running means, in units of the steps themselves (Zeiler 2012)."},
     .slots = {{"v", NULL, NULL, false}, {"u", NULL, NULL, false}},
     .lines = {DECAY,
               {"v", "rho * v + (1 - rho) * (g * g)", NULL},
               {"d", "sqrt(u + epsilon) / sqrt(v + epsilon) * g", NULL},
               {"u", "rho * u + (1 - rho) * (d * d)", NULL},
               {"w", "w - r * d", NULL}}},
    {.row = {"adamax", {LR(1e-3, 2e-3), ADAM_ARGS, WEIGHT_DECAY}, "Adam with the largest gradient in place of the root."},
     .slots = {{"m", NULL, NULL, false}, {"u", NULL, NULL, false}},
     .scalars = {{"c", "1 / (1 - pow(beta1, t))", NULL}},
     .lines = {DECAY,
               {"m", "beta1 * m + (1 - beta1) * g", NULL},
               {"u", "max(beta2 * u, abs(g))", "keras"},
               {"u", "max(beta2 * u, abs(g) + epsilon)", "torch"},
               {"w", "w - r * c * (m / (u + epsilon))", "keras"},
               {"w", "w - r * c * (m / u)", "torch"}}},
    {.row = {"nadam", {LR(1e-3, 2e-3), ADAM_ARGS, {"momentum_decay", 1, 4e-3, NULL}, WEIGHT_DECAY},
             "Adam with Nesterov's momentum (Dozat 2016)."},
     .slots = {{"m", NULL, NULL, false}, {"v", NULL, NULL, false}, {"mu_product", "constant value=1", NULL, true}},
     .scalars = {{"mu", "beta1 * (1 - 0.5 * pow(0.96, momentum_decay * t))", NULL},
                 {"after", "beta1 * (1 - 0.5 * pow(0.96, momentum_decay * (t + 1)))", NULL},
                 {"mu_product", "mu_product * mu", NULL},
                 {"a", "(1 - mu) / (1 - mu_product)", NULL},
                 {"b", "after / (1 - mu_product * after)", NULL},
                 {"k", "1 / sqrt(1 - pow(beta2, t))", NULL}},
     .lines = {DECAY,
               {"m", "beta1 * m + (1 - beta1) * g", NULL},
               {"v", "beta2 * v + (1 - beta2) * (g * g)", NULL},
               {"w", "w - r * ((a * g + b * m) / (k * sqrt(v) + epsilon))", NULL}}},
    {.row = {"radam", {LR(1e-3, 1e-3), ADAM_ARGS, WEIGHT_DECAY},
             "Adam whose first steps, while the mean square is not yet known, are plain momentum (Liu et al. 2020)."},
     .slots = {{"m", NULL, NULL, false}, {"v", NULL, NULL, false}},
     .scalars = {{"c", "1 / (1 - pow(beta1, t))", NULL},
                 {"most", "2 / (1 - beta2) - 1 + 0 * t", NULL},
                 {"rho", "most - 2 * t * pow(beta2, t) / (1 - pow(beta2, t))", NULL},
                 {"known", "rho > 5", NULL},
                 {"k", "sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)) * sqrt(1 - pow(beta2, t))", NULL}},
     .lines = {DECAY,
               {"m", "beta1 * m + (1 - beta1) * g", NULL},
               {"v", "beta2 * v + (1 - beta2) * (g * g)", NULL},
               {"w", "w - r * c * m * (known ? k / (sqrt(v) + epsilon) : 1)", NULL}}},
    {.row = {"lion", {LR(1e-3, 1e-4), {"beta1 beta_1 b1", .9, .9, NULL}, {"beta2 beta_2 b2", .99, .99, NULL}, WEIGHT_DECAY},
             "Steps of one size, by the sign of the momentum; decoupled decay (Chen et al. 2023)."},
     .slots = {{"m", NULL, NULL, false}},
     .lines = {DECOUPLED,
               {"w", "w - r * sign(beta1 * m + (1 - beta1) * g)", NULL},
               {"m", "beta2 * m + (1 - beta2) * g", NULL}}},
    {.row = {"lamb", {LR(1e-3, 1e-3), ADAM_ARGS, WEIGHT_DECAY},
             "Adam's step scaled to the size of the parameter it changes; torch: the decay is part of the step "
             "(You et al. 2020)."},
     .slots = {{"m", NULL, NULL, false}, {"v", NULL, NULL, false}},
     .scalars = {{"c", "1 / (1 - pow(beta1, t))", NULL}, {"k", "1 / sqrt(1 - pow(beta2, t))", NULL}},
     .lines = {{"w", "w - weight_decay * r * w", "weight_decay keras"},
               {"m", "beta1 * m + (1 - beta1) * g", NULL},
               {"v", "beta2 * v + (1 - beta2) * (g * g)", NULL},
               {"u", "c * m / (k * sqrt(v) + epsilon)", NULL},
               {"u", "u + weight_decay * w", "weight_decay torch"},
               {"a", "sqrt(reduce_sum(w * w, axes=all, keepdims=0))", NULL},
               {"b", "sqrt(reduce_sum(u * u, axes=all, keepdims=0))", NULL},
               {"w", "w - r * (a > 0 && b > 0 ? a / b : 1) * u", NULL}}},
};
const Row *optimizer_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

double optimizer_rate(const TrainSpec *s) {
    const Recipe *r = &s->optimizer;
    const RecipeArg *given = recipe_arg(r, "lr");
    if (!given) given = recipe_arg(r, "learning_rate");
    if (given) return given->v;
    for (size_t i = 0; r->name && i < sizeof rows / sizeof *rows; i++)
        if (name_in(rows[i].row.name, r->name)) return s->torch ? rows[i].row.args[0].torch : rows[i].row.args[0].keras;
    return .01;
}

/* ---- one step ---- */

static void make_slots(Scope *s, const OptimizerRow *o, const Value *w, Value **was) {
    Graph *g = s->g;
    const char *name = g->in_names.v[state_of(g, w)->in];
    int64_t dims[MAX_RANK];
    value_static(w, dims);
    for (int i = 0; i < ROW_SLOTS && o->slots[i].name; i++) {
        if (!scope_when(s, o->slots[i].when)) continue;
        const char *init = o->slots[i].init;
        bool scalar = o->slots[i].scalar;
        if (init && *init == '%') init = gd_format(g->c, "constant value=%.17g", scope_arg(s, init + 1));
        const char *slot = gd_format(g->c, "%s/%s", name, o->slots[i].name);
        was[i] = state_new(g, ST_SLOT, slot, scalar ? F64 : s->dt, scalar ? 0 : w->rank, dims, init);
        scope_name(s, o->slots[i].name, was[i]);
    }
}

static void make_scalars(Scope *s, const OptimizerRow *o, Value **was) {
    Graph *g = s->g;
    DType dt = s->dt;
    Value *done = train_update_number(g);
    scope_name(s, "first", make(g, "equal", done, const_scalar(g, I64, 0)));
    scope_name(s, "t", make(g, "add", build_cast(g, done, F64), const_scalar(g, F64, 1)));
    s->dt = F64;
    scope_lines(s, o->scalars, ROW_SCALARS);
    s->dt = dt;
    for (int i = 0; i < ROW_SLOTS; i++)
        if (was[i] && o->slots[i].scalar) state_next(g, was[i], scope_value(s, o->slots[i].name));
    for (int i = 0; i < ROW_SCALARS && o->scalars[i].name; i++) {
        Value *v = scope_value(s, o->scalars[i].name);
        if (v && v->dt == F64) scope_name(s, o->scalars[i].name, build_cast(g, v, dt));
    }
}

Value *optimizer_build(Graph *g, const TrainSpec *spec, Value *w, Value *dw, Value *rate, double decay) {
    Scope s;
    Value *was[ROW_SLOTS] = {0};
    int64_t all[MAX_RANK];
    if (!scope_open(&s, g, "optimizer", &spec->optimizer, spec->torch)) return NULL;
    const OptimizerRow *o = (const OptimizerRow *)s.row;
    if (!isnan(decay)) scope_set(&s, "weight_decay", decay);
    s.dt = recipe_wide(w);
    for (int i = 0; i < w->rank; i++) all[i] = i;
    scope_ints(&s, "all", w->rank, all);
    make_slots(&s, o, w, was);
    make_scalars(&s, o, was);
    scope_name(&s, "w", build_cast(g, w, s.dt));
    scope_name(&s, "g", build_cast(g, dw, s.dt));
    scope_name(&s, "r", build_cast(g, rate, s.dt));
    scope_lines(&s, o->lines, ROW_LINES);
    for (int i = 0; i < ROW_SLOTS; i++)
        if (was[i] && !o->slots[i].scalar) state_next(g, was[i], scope_value(&s, o->slots[i].name));
    return build_cast(g, scope_value(&s, "w"), w->dt);
}
