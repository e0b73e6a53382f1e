/* Training: state, and what a description says about how to train. passes/train.c makes the programs of a trainable model
   from these.

   A program that trains is `state', answers = step(state, batch)`. State is what a run leaves changed: parameters, running
   statistics, the optimizer's slots, counters, the metrics' sums. In the graph a state is an input, and if the program
   changes it an output too, which takes the place of the input's memory when the program ends. So to every pass a state
   is an input and an output like others; lowering gives both one buffer.

   Losses, optimizers, metrics, schedules and initialisers are rows of text in the language of composites (import.h,
   graph_text). A Recipe names a row and its arguments; where Keras and PyTorch disagree a row has both, and the
   description says which. */
#ifndef GD_TRAIN_H
#define GD_TRAIN_H
#include "graph.h"

/* ---- state ---- */

typedef enum StateKind {
    ST_PARAM,   /* trainable */
    ST_BUFFER,  /* moves with training but has no gradient: running statistics; and frozen parameters */
    ST_SLOT,    /* the optimizer's: NAME/SLOT for the parameter NAME */
    ST_COUNTER, /* scalars: train/step, train/seed, train/lr ... */
    ST_METRIC,  /* sums since the epoch began: zero then */
    ST_KINDS
} StateKind;
extern const char *const gd_state_kinds[ST_KINDS]; /* param, buffer, slot, counter, metric */

struct StateVar {
    StateKind kind;
    int in, out;         /* positions among the graph's inputs and outputs; out -1: only read */
    const char *init;    /* its first value: a recipe of initialisers ("glorot_uniform", "constant value=1"); NULL: zeros */
    Value *from;         /* or this constant (weights that a model file brings); NULL: none */
    int64_t fan_in, fan_out; /* for initialisers; 0: from the shape, axis 0 being the outputs (OIHW) */
    double l1, l2;       /* regulariser: l1 sum|w| + l2 sum w^2 joins the loss */
};

/* A new state of that shape: its value before the run. name: as in checkpoints; made unique. Float states of the kind ST_PARAM
   get a gradient. */
Value *state_new(Graph *g, StateKind kind, const char *name, DType dt, int rank, const int64_t *dim, const char *init);
StateVar *state_of(Graph *g, const Value *v);           /* NULL: v is not a state */
StateVar *state_named(Graph *g, const char *name);
/* Where the value of a state comes from: elements row-major, NULL where there are none. */
typedef const void *StateData(void *arg, const char *name, DType dt, int rank, const int64_t *dims);
/* From data (may be NULL), or what the model brings; without either an error is reported and the elements are undefined. */
const void *state_data(Graph *g, const StateVar *s, StateData *data, void *arg);
/* All states of a graph that does not change them become constants. */
void states_fix(Graph *g, StateData *data, void *arg);
void state_next(Graph *g, const Value *v, Value *next); /* its value after the run; once per state */
/* Scalars that programs share, made when first asked for: steps done before this one (i64), the run's seed (i64), the base
   learning rate (f32), batches of one epoch (i64, 1 until the trainer knows). */
Value *train_step_number(Graph *g);
Value *train_update_number(Graph *g); /* of those, updates of the parameters: fewer when gradients accumulate */
Value *train_seed(Graph *g);
Value *train_rate(Graph *g, double initial);
Value *train_epoch_steps(Graph *g);

/* ---- what to train, and how ---- */

enum { MAX_RECIPE_ARGS = 16 };
typedef struct RecipeArg { const char *name; double v; const char *text; /* NULL: a number */ } RecipeArg;
typedef struct Recipe {
    const char *name;    /* NULL: none */
    int n;
    RecipeArg arg[MAX_RECIPE_ARGS];
} Recipe;

/* "adam lr=1e-3 epsilon=1e-8": words, commas or blanks between them. Whether there is such a row, and such an argument, is asked
   where it is used. false and *what: what was expected, *at: where (bytes). */
bool recipe_parse(Ctx *c, const char *text, Recipe *r, const char **what, size_t *at);
const RecipeArg *recipe_arg(const Recipe *r, const char *name); /* NULL: not given */

typedef struct ParamGroup { const char *pattern; double rate, decay; } ParamGroup; /* factor of the rate; weight decay, NAN: as everywhere */

/* The training algorithm that a model brings itself: its outputs are outputs from..to of the graph, the states' next values are
   set. */
typedef struct OwnTraining {
    bool given;
    int from, to;
    const char *target;  /* the input that the algorithm adds; NULL: none */
    Graph *init;         /* seed -> first values, under their states' names; NULL: none */
} OwnTraining;

struct TrainSpec {
    OwnTraining own;     /* takes the place of loss and optimizer */
    bool torch;          /* semantics torch; else keras */
    bool strict;         /* losses by the letter: no logits form of softmax followed by cross-entropy */
    Recipe loss, optimizer, schedule;
    VEC(Recipe) metrics;
    int64_t batch, epochs, accumulate; /* 0: not said */
    double clip_norm, clip_value, clip_global; /* 0: no clipping */
    VEC(const char *) frozen;          /* patterns of parameter names: * and ? */
    VEC(ParamGroup) groups;
    const char *output;                /* the output that the loss looks at; NULL: the first */
};

/* ---- the rows ---- */

/* Each returns NULL after gd_error: an unknown name (help: the nearest or all names), an unknown argument, a shape or a dtype
   that does not fit. `what` in messages: "loss", "metric" ... */

/* The target that a loss expects for predictions p: dtype and shape ([N] of i64 for sparse classes, p's shape for mse ...). */
bool loss_target(Graph *g, const TrainSpec *s, const Value *p, DType *dt, int *rank, Expr **dim);
/* Mean loss over the batch's samples: f32 [], in double for double predictions. weight: per sample [N], may be NULL. The reductions are Keras's
   or PyTorch's. p may be a softmax or sigmoid whose logits are then used instead (not with strict). */
Value *loss_build(Graph *g, const TrainSpec *s, Value *p, Value *target, Value *weight);

/* A metric over the epoch so far: adds its states, sets their next values, and returns the value to show (f32 []).
   NULL recipe name "accuracy": binary, categorical or sparse by loss and shape. *label: the name to show. */
Value *metric_build(Graph *g, const TrainSpec *s, const Recipe *m, Value *p, Value *target, Value *loss, const char **label);

/* The factor by which the base rate is multiplied at a step: pure function of the step number; f32 []. */
Value *schedule_build(Graph *g, const Recipe *r);

/* One step of one parameter: w and its gradient dw (clipped, regularised) at the rate given; makes the slots as states, sets
   their next values, returns the new w. */
Value *optimizer_build(Graph *g, const TrainSpec *s, Value *w, Value *dw, Value *rate, double decay);
double optimizer_rate(const TrainSpec *s); /* the base rate: lr=, or the default of these semantics */

/* The first value of a state: seed i64 [], index: position among the states (each has its own stream of numbers). */
Value *init_build(Graph *g, const StateVar *s, DType dt, int rank, const int64_t *dim, Value *seed, int index);

/* For help texts and `gradc ops`-like listings: row i of "loss", "optimizer", "metric", "schedule", "init"; false past the last. */
bool recipe_row(const char *kind, int i, const char **name, const char **doc);

/* ---- the programs of a trainable model (passes/train.c) ---- */

typedef enum TrainPart { TP_NONE, TP_STEP, TP_EVAL, TP_RUN, TP_INPUT_GRAD, TP_PARTS } TrainPart;
extern const char *const gd_train_parts[TP_PARTS]; /* none, step, eval, run, input-grad */
#endif
