/* The command line of an emitted executable, over a table the generated code provides: `./model NAME=VALUE
   ...`. `gradc run` fills the same table from the JIT and uses the same pieces, so both behave alike. */
#ifndef GRADC_PROGRAM_H
#define GRADC_PROGRAM_H
#include "tensor.h"

/* A dim is a size, or -(1 + index of a symbol), or (outputs only) GRADC_DIM_COMPUTED. Names are safe
   as file names. */
#define GRADC_DIM_COMPUTED INT64_MIN
typedef struct GradcPort { const char *name; int dtype; int rank; const int64_t *dims; } GradcPort;

/* What `run` may return; other values are the model's own, described by status_text. */
enum { GRADC_RUN_OK = 0, GRADC_RUN_SHAPE = 1, GRADC_RUN_ARENA = 2, GRADC_RUN_INDEX = 3 };

typedef struct GradcProgram {
    const char *name, *version;
    int nsyms;
    const char *const *sym_names;
    const int64_t *sym_lo, *sym_hi; /* sym_hi INT64_MAX: no bound */
    int nin, nout;
    const GradcPort *in, *out;
    /* Writes the dims of all outputs, one after the other, for the given symbols. A dim that depends on a
       symbol that is not set comes out as -1. Not set is -1, or INT64_MIN for one that may be negative. */
    void (*out_dims)(const int64_t *syms, int64_t *dims);
    /* syms: one value a symbol. Those of the inputs are set by the caller; those that only the data decides
       are not set until run sets them. arena_bytes may be too small only when there are such symbols without a
       bound. */
    size_t (*arena_bytes)(const int64_t *syms);
    /* Pointers in port order. An output with a dim of -1 (only the data decides its size) is NULL on entry:
       it is put into the arena, and run sets the pointer. */
    int (*run)(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t arena_bytes);
    const char *(*status_text)(int status);
} GradcProgram;

/* All an executable's main has to call. Returns the exit status. */
int gradc_program_main(const GradcProgram *p, int argc, char **argv);

/* For an executable whose weights are the file EXECUTABLE.weights: that file in memory. NULL after a failure. */
const void *gradc_weights_map(const char *argv0, size_t bytes, GradcError *e);

/* ---- its pieces ---- */

/* The command line as written, not yet held against a program. Strings point into argv. */
typedef struct GradcArgs {
    const char **values; int nvalues; /* NAME=VALUE or VALUE */
    const char **dims; int ndims;     /* SYMBOL=SIZE */
    const char *out;                  /* directory, or NULL: print */
    int threads, repeat;              /* 0: not given */
    bool time, help, version;
    GradcRead *read;                  /* of @FILE; NULL: .npy only. The caller may set it after parsing */
} GradcArgs;

/* argv without the program's name. */
int gradc_args_parse(GradcArgs *a, int argc, char **argv, GradcError *e);
void gradc_args_free(GradcArgs *a);

/* One call of a program: inputs go in, symbols are bound on the way, run as often as wanted, outputs are in
   out. */
typedef struct GradcCall {
    const GradcProgram *program;
    /* An output is owned by the call or lies in its arena: valid until run again or closed. */
    GradcTensor *in, *out;
    int64_t *syms;         /* -1: not bound */
    int *binder;           /* who bound each symbol: an input's index, or one of the negative marks of call.c */
    const void **ins;
    void **outs;
    bool *placed;          /* outputs that lie where the caller said */
    bool settled;          /* every output has its memory, for the sizes settled_syms */
    int64_t *settled_syms, *dims; /* dims: of all outputs, one after the other */
    void *arena;
    size_t arena_bytes;
} GradcCall;

int gradc_call_open(GradcCall *c, const GradcProgram *p, GradcError *e);
void gradc_call_close(GradcCall *c);
int gradc_call_dim(GradcCall *c, const char *symbol, int64_t size, GradcError *e);
/* Holds the tensor against port i, binds its symbols and takes it over (*t is emptied). */
int gradc_call_set(GradcCall *c, int i, GradcTensor *t, GradcError *e);
/* Output i, whose sizes are numbers, lies at data from now on: memory of the caller, who keeps it. What is there may be
   read by the program first (a trainable model's state). */
int gradc_call_place(GradcCall *c, int i, void *data, GradcError *e);
/* All dims and inputs of a command line. Values with a shape of their own go first, so that `rand` follows
   them. */
int gradc_call_args(GradcCall *c, const GradcArgs *a, GradcError *e);
int gradc_call_run(GradcCall *c, GradcError *e);

/* What a command line asks of an open call: the inputs that are not set yet, run (repeatedly), print to f or write to a->out. */
int gradc_call_command(GradcCall *c, const GradcArgs *a, FILE *f, GradcError *e);
/* Everything between the command line and the exit: bind, run (repeatedly), print to f or write to a->out. */
int gradc_program_run(const GradcProgram *p, const GradcArgs *a, FILE *f, GradcError *e);
/* "f32[N,3]": a computed dim prints as ?. Returns buf. */
char *gradc_port_text(char *buf, size_t size, const GradcProgram *p, const GradcPort *port);
void gradc_program_help(const GradcProgram *p, FILE *f);
void gradc_set_threads(int n); /* of OpenMP, where it is linked; else nothing */
/* Threads that wait for work soon sleep, so that a program next to others does not spend its turns on waiting, unless the
   environment says how they wait. OpenMP's libraries read that when they are loaded: where one is linked, the program begins
   anew, once. */
void gradc_calm_threads(char **argv);
#endif
