/* Training and evaluating a trainable model (trainer.h) on a data set (data.h): `gradc train`, `gradc eval`, and the verbs train and
   eval of an executable that trains. */
#ifndef GRADC_FIT_H
#define GRADC_FIT_H
#include "data.h"
#include <signal.h>
#include "trainer.h"

/* What the command line says; 0 or NULL: not said. */
typedef struct GradcFit {
    const char *data, *valid;     /* SPECs of data.h */
    const char *params;           /* parameters to begin with (train), or to use (eval): a safetensors file */
    const char *out;              /* the trained parameters and all that resuming needs: a safetensors file, written after every
                                     epoch and at the end */
    const char *log;              /* directory of history.csv and TensorBoard's event files */
    double valid_split;           /* this part of the data, the last, is for validation */
    double rate;                  /* base learning rate instead of the description's */
    int64_t epochs, batch, max_steps;
    int64_t early_stopping;       /* epochs without a better validation (or training) loss that end it */
    int64_t save_every;           /* steps between checkpoints, besides those after epochs */
    int64_t threads;              /* of an executable; 0: all there are */
    uint64_t seed;
    bool seeded, resume, save_best, quiet, json;
    const volatile sig_atomic_t *stop; /* a signal's number, as soon as training is to end: after the step under way, with a
                                          checkpoint; NULL: nobody asks */
} GradcFit;

/* For programs whose only business is to train: the first SIGINT, SIGTERM or SIGHUP makes o->stop say so, a second one ends the
   process as ever. What is ignored (nohup) stays ignored. */
void gradc_stop_on_signals(GradcFit *o);
/* When one has come, the process ends by it now, as its parent expects; else nothing happens. */
void gradc_stop_end(const GradcFit *o);

/* One option of a verb, its name without dashes; value NULL: none was given. Answers 0, an exit status, or -1: the verb has no such
   option. */
int gradc_fit_option(GradcFit *o, const char *verb, const char *name, const char *value, GradcError *e);
typedef struct GradcFitOption { const char *name, *value, *verbs, *doc; } GradcFitOption;
GradcFitOption gradc_fit_option_at(int i); /* NULL name: past the last */
bool gradc_fit_option_of(const char *verb, GradcFitOption o); /* is it one of the verb's? */

/* Trains. Ends with one line on f: loss, metrics, seconds, steps a second. Progress goes to stderr, and there a run that was
   stopped says what it has saved. */
int gradc_fit(const GradcTrainer *t, const GradcFit *o, FILE *f, GradcError *e);
/* Loss and metrics over all of o->data, one line on f (or a JSON document). */
int gradc_evaluate(const GradcTrainer *t, const GradcFit *o, FILE *f, GradcError *e);

/* The model's answers with the parameters of a file: values as in program.h. params NULL: first values of seed 0. */
int gradc_trainer_run(const GradcTrainer *t, const char *params, const GradcArgs *a, FILE *f, GradcError *e);

/* All that an executable that trains has to call: `./model train|eval|run ...`. Returns the exit status. */
int gradc_trainer_main(const GradcTrainer *t, int argc, char **argv);

/* ---- feed.c: from fields of a data set to ports of a program ---- */

typedef struct GradcPorts {
    int n;
    int port[16];           /* of the program's data inputs */
    bool batched[16];       /* the port has the batch's axis; else a batch is one record */
    GradcFeed feed[16];
} GradcPorts;
/* Which field goes to which port: by name, else the target takes the class (or `y`), the others the rest in order. Sizes that do not fit
   are errors that name port and field. */
int gradc_ports_match(GradcPorts *m, const GradcTrainer *t, const GradcProgram *p, GradcData *d, GradcError *e);
/* Hands a batch to a call. The tensors stay the batch's. */
int gradc_ports_set(const GradcPorts *m, GradcCall *c, const GradcBatch *b, GradcError *e);
#endif
