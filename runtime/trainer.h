/* A trainable model: its programs, and the state they share. Emitted code provides the table, `gradc train` fills the same
   from the JIT; what trains is fit.h, upon the calls here.

   State is one block of memory: parameters, running statistics, the optimizer's slots, counters, the metrics' sums, each at
   its offset, a multiple of 64. A program finds a state by the name of a port: an input port reads it, an output port
   of that name is the state itself, which the program reads and leaves changed. Ports of other names are data. */
#ifndef GRADC_TRAINER_H
#define GRADC_TRAINER_H
#include "program.h"

typedef enum GradcStateKind { /* in the order of the compiler's StateKind */
    GRADC_PARAM,   /* trainable */
    GRADC_BUFFER,  /* running statistics, frozen parameters */
    GRADC_SLOT,    /* the optimizer's, NAME/SLOT */
    GRADC_COUNTER, /* train/step, train/seed, train/lr, train/epoch_steps */
    GRADC_METRIC   /* sums since the epoch began */
} GradcStateKind;

typedef struct GradcState {
    const char *name; /* escaped as in the model; unique */
    int kind, dtype, rank;
    const int64_t *dims;
    size_t offset;    /* bytes from the start of the state */
} GradcState;

/* What whole numbers of data may be: 0..limit-1 (classes, rows of an embedding), or `ignored`. */
typedef struct GradcLimit {
    const char *port;
    int64_t limit, ignored; /* ignored 0: nothing besides */
} GradcLimit;

typedef struct GradcTrainer {
    const char *name, *version;
    const GradcProgram *init;       /* seed (i64) -> every state */
    const GradcProgram *step;       /* data -> batch_loss, metrics; states change */
    const GradcProgram *eval;       /* the same for data that is only looked at: metrics' sums change */
    const GradcProgram *step_any, *eval_any; /* the same for any number of samples up to the batch, where step and eval are for a
                                       whole batch; NULL: they are for any */
    const GradcProgram *run;        /* inputs -> outputs */
    const GradcProgram *input_grad; /* data -> batch_loss, d_INPUT; NULL: not there */
    int nstates;
    const GradcState *states;
    size_t state_bytes;
    const char *batch_symbol;       /* the open size that is the batch; NULL: one sample a step */
    const char *target;             /* the port of step and eval that takes what is to be learned; the last data port */
    int nlimits;
    const GradcLimit *limits;       /* of data ports; for every program that has them */
    const char *optimizer, *loss;   /* as the description says, for people */
    int64_t batch, epochs;          /* what the description says; 0: nothing */
} GradcTrainer;

/* ---- state ---- */

/* Aligned memory for the state; NULL when there is none. Ended by free. */
void *gradc_state_new(const GradcTrainer *t);
int gradc_state_index(const GradcTrainer *t, const char *name); /* -1: none */
size_t gradc_state_size(const GradcState *s);                   /* bytes of its elements */
/* The state as a tensor that lies in the block: not owned. */
GradcTensor gradc_state_tensor(const GradcTrainer *t, void *state, int i);
/* First values of all states: a pure function of the seed. */
int gradc_state_init(const GradcTrainer *t, void *state, uint64_t seed, GradcError *e);
/* Zero sums: an epoch begins. */
void gradc_state_reset_metrics(const GradcTrainer *t, void *state);
/* Sets a scalar counter (train/lr ...) of an integer or f32 type; a model without it has no use for it. */
void gradc_state_set(const GradcTrainer *t, void *state, const char *name, double value);
double gradc_state_get(const GradcTrainer *t, const void *state, const char *name); /* NAN when there is none */

/* ---- calls ---- */

/* Opens a call of one of the programs with all of its states bound to the block. Data ports remain to be set. */
int gradc_trainer_open(GradcCall *c, const GradcTrainer *t, const GradcProgram *p, void *state, GradcError *e);
/* Is port i of the program data (not a state)? */
bool gradc_trainer_data_in(const GradcTrainer *t, const GradcProgram *p, int i);
bool gradc_trainer_data_out(const GradcTrainer *t, const GradcProgram *p, int i);
#endif
