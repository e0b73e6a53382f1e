/* What the files of the command line share: the words of the command line, sorted. */
#ifndef GRADC_CLI_H
#define GRADC_CLI_H
#include "fit.h"
#include "gradc.h"

typedef struct Cli {
    Gradc *g;
    const char *verb, *model;
    const char **words;          /* behind the model */
    int nwords;
    const char *out, *emit, *after, *data;
    double seconds, rtol, atol;
    int repeat;
    const char *backend, *threads; /* as given, NULL: not given */
    GradcFit fit;                  /* options of train and eval */
    const char *method;            /* attack: fgsm, pgd */
    double eps;                    /* attack: how far an element may move */
    int steps;
    int64_t samples;               /* gradcheck: elements of a tensor */
    bool train;                    /* compile, check: the model as one that trains */
    bool json, quiet, verbose, all, changed, full, time, profile, color;
} Cli;

/* A verb's work: the exit status. What it prints to stdout is the answer, whole or not at all where that is possible. */
typedef int Verb(Cli *c);
Verb cli_compile, cli_run, cli_ir, cli_check, cli_inspect, cli_verify, cli_bench, cli_ops, cli_train, cli_eval, cli_export, cli_attack, cli_saliency, cli_gradcheck;

/* From now on the stage that an action is at stands on the last line of the terminal, and is gone when the action ends;
   nothing where stderr is no terminal, or with --quiet. */
void cli_progress(const Cli *c);
/* Prints the problems of the last call, and gives status back. */
int cli_problems(const Cli *c, int status);
/* A problem that the command line itself finds. */
int cli_fail(const Cli *c, int code, const char *help, const char *fmt, ...) GRADC_PRINTF(4, 5);
int cli_error(const Cli *c, const GradcError *e);
/* As --out's NAME.npy; a name is a model's: its slashes are no directories. */
int cli_write_tensor(const Cli *c, const GradcTensor *t, const char *name);
/* Values of a run: the words, or NAME=@FILE for every input_K.pb or NAME.npy of --data. */
void cli_values(const Cli *c, GradcArgs *a);
#endif
