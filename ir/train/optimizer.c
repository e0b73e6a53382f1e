/* Optimizers: one step of one parameter, as lines over

     w, g   the parameter and its gradient         r   the rate
     slots  what the optimizer keeps of the parameter, under their names, before the step
     t      this step's number, from 1 on: in f64, for the scalars only

   Scalars are computed once for the tensor, in f64, and rounded. Lines bind w and the slots anew: their last values are the
   outcome. */
#include "recipe.h"
#include <math.h>

enum { ROW_SLOTS = 4, ROW_SCALARS = 6 };
typedef struct Slot { const char *name, *init, *when; } Slot; /* init NULL: zeros */
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
    .slots = {{"m", NULL, NULL}, {"v", NULL, NULL}, {"vmax", NULL, "amsgrad"}},                                         \
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
     .slots = {{"momentum_buffer", NULL, "momentum"}},
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
        if (init && strchr(init, '%')) init = gd_format(g->c, "constant value=%.17g", scope_arg(s, init + 1));
        const char *slot = gd_format(g->c, "%s/%s", name, o->slots[i].name);
        was[i] = scope_name(s, o->slots[i].name, state_new(g, ST_SLOT, slot, s->dt, w->rank, dims, init));
    }
}

static void make_scalars(Scope *s, const OptimizerRow *o) {
    Graph *g = s->g;
    DType dt = s->dt;
    Value *done = train_update_number(g);
    scope_name(s, "first", make(g, "equal", done, const_scalar(g, I64, 0)));
    scope_name(s, "t", make(g, "add", build_cast(g, done, F64), const_scalar(g, F64, 1)));
    s->dt = F64;
    scope_lines(s, o->scalars, ROW_SCALARS);
    s->dt = dt;
    for (int i = 0; i < ROW_SCALARS && o->scalars[i].name; i++) {
        Value *v = scope_value(s, o->scalars[i].name);
        if (v) scope_name(s, o->scalars[i].name, build_cast(g, v, dt));
    }
}

Value *optimizer_build(Graph *g, const TrainSpec *spec, Value *w, Value *dw, Value *rate, double decay) {
    Scope s;
    Value *was[ROW_SLOTS] = {0};
    if (!scope_open(&s, g, "optimizer", &spec->optimizer, spec->torch)) return NULL;
    const OptimizerRow *o = (const OptimizerRow *)s.row;
    if (!isnan(decay)) scope_set(&s, "weight_decay", decay);
    s.dt = recipe_wide(w);
    make_slots(&s, o, w, was);
    make_scalars(&s, o);
    scope_name(&s, "w", build_cast(g, w, s.dt));
    scope_name(&s, "g", build_cast(g, dw, s.dt));
    scope_name(&s, "r", build_cast(g, rate, s.dt));
    scope_lines(&s, o->lines, ROW_LINES);
    for (int i = 0; i < ROW_SLOTS; i++)
        if (was[i]) state_next(g, was[i], scope_value(&s, o->slots[i].name));
    return build_cast(g, scope_value(&s, "w"), w->dt);
}
