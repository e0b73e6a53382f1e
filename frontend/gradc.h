/* The compiler as a library. Everything that the command line does is here; the command line is a thin user of it.

     Gradc *g = gradc_open();
     int status = gradc_option(g, "dim", "N=1..64");
     if (!status) status = gradc_load(g, "model.onnx");
     if (!status) status = gradc_write(g, "c", "generated");
     for (int i = 0; i < gradc_problem_count(g); i++) puts(gradc_problem(g, i).text);
     gradc_close(g);

   An object is the options and the path of a model. Each action reads the model anew and runs the whole pipeline within
   the limits of the options max-memory, max-nodes and max-seconds, so actions do not depend on one another. An object
   belongs to one thread at a time; several objects may be used by several threads at once.

   A function that returns int returns 0, or the exit status that a program should end with: 1 the model is invalid or a
   comparison failed, 2 usage, 3 unsupported, 4 limit reached, 5 input or output, 6 memory, 70 internal. What is wrong is
   told by gradc_problem. What an action hands out (text, tables) lives until the next action on the object, or until
   gradc_close; a program that gradc_jit loaded lives until gradc_close. */
#ifndef GRADC_H
#define GRADC_H
#include "program.h"
#include "trainer.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct Gradc Gradc;

/* "0.1.0". */
const char *gradc_version(void);

/* A new object with the default options; NULL when there is no memory for one. */
Gradc *gradc_open(void);
/* Ends it, with the programs it loaded. NULL is allowed. */
void gradc_close(Gradc *g);

/* ---- problems ---- */

/* code: a number of docs/errors.md, title: its meaning in general. text: where and what, one line. help: the nearest
   remedy, or NULL. */
typedef struct GradcProblem { int code, status; const char *title, *text, *help; } GradcProblem;
/* What the last call on the object found wrong; all problems of a model come at once. */
int gradc_problem_count(const Gradc *g);
GradcProblem gradc_problem(const Gradc *g, int i);

/* From now on fn is called at the beginning of each stage of an action (reading, each pass, the back end), and with NULL
   at its end; fn NULL: no more. */
void gradc_watch(Gradc *g, void (*fn)(void *arg, const char *stage), void *arg);

/* ---- options ---- */

/* Sets an option: name and value are those of the command line's long options, without the two dashes ("target",
   "x86-64-v3"). An option without a value takes NULL. "dim" adds up, "no-PASS" too; any other replaces what was set
   before. */
int gradc_option(Gradc *g, const char *name, const char *value);
/* The table of options: value is what stands for the value in a help text, NULL when there is none; NULL name: past
   the last. */
typedef struct GradcOptionInfo { const char *name, *value, *doc; } GradcOptionInfo;
GradcOptionInfo gradc_option_at(int i);
/* The passes in order; NULL name: past the last. optional: "no-NAME" is an option. */
typedef struct GradcPassInfo { const char *name, *doc; int level, lowest_opt; bool optional; } GradcPassInfo;
GradcPassInfo gradc_pass_at(int i);

/* ---- actions ---- */

/* The model that the actions are about: a path, or "-" for the standard input (which is then good for one action). The
   file is looked at by the actions: here only that it is there. */
int gradc_load(Gradc *g, const char *path);

/* Compiles and writes. emit: exe, c, so, obj, asm, ll or bc, NULL: by the end of out's name. out: a file; with c: a
   directory, which is made. */
int gradc_write(Gradc *g, const char *emit, const char *out);

/* Compiles into this process. The program's tables are those of program.h: gradc_call_open and gradc_call_run call it.
   With the option threads, OpenMP is loaded and told. */
int gradc_jit(Gradc *g, const GradcProgram **program);
/* With the option profile: the counters of nest i of a program that gradc_jit loaded. NULL name: past the last. */
typedef struct GradcNest {
    const char *name, *source, *schedule;
    double macs;              /* of one run, open sizes at their lowest */
    uint64_t calls, ns;       /* so far */
} GradcNest;
GradcNest gradc_profile(const Gradc *g, const GradcProgram *program, int nest);

/* ---- training ---- */

/* A trainable model, compiled into this process: its programs and the table of its state (trainer.h; fit.h trains with it). What to
   train is said by the description, or by the options loss, optimizer, metrics, schedule, batch, semantics ... The step is
   always made; parts: which other programs. Lives until gradc_close. */
enum { GRADC_PART_EVAL = 1 << 2, GRADC_PART_RUN = 1 << 3, GRADC_PART_INPUT_GRAD = 1 << 4 };
int gradc_trainer(Gradc *g, unsigned parts, const GradcTrainer **trainer);
/* A trainable model as an executable that trains by itself, a shared library, or C sources: as gradc_write. */
int gradc_write_trainer(Gradc *g, const char *emit, const char *out);
/* The model for inference as ONNX, with the parameters of a safetensors file; NULL: those the model brings. */
int gradc_export(Gradc *g, const char *params, const char *out);

/* Runs the model once in the reference interpreter. values: as in program.h's GradcArgs. *out: the outputs, with their names. */
int gradc_interpret(Gradc *g, const GradcArgs *values, int *n, const GradcTensor **out, const char *const **names);

/* The IR as text: after the pass that the option stop-after names, else after all of them. full: with the data of
   constants, so that the text can be loaded again; otherwise the form for readers. */
int gradc_ir(Gradc *g, int full, const char **text);
/* What the option print-after printed in the last action, and time-passes; "" when nothing. */
const char *gradc_printed(const Gradc *g);
const char *gradc_times(const Gradc *g);
/* For GradcArgs.read: FILE of the value @FILE is .npy or, when it is called .pb, an ONNX TensorProto. */
int gradc_read_value(GradcTensor *t, const char *path, int dtype, GradcError *e);

/* Everything that would stop compilation, as problems. Returns 0 when there is none, 3 when the model was read but cannot
   be compiled, else the status of the first problem. */
int gradc_check(Gradc *g);

/* Everything that would stop training: every node at which the gradient ends of something that has no other way to the loss, as
   problems, all at once, each with a remedy. Without a loss every output has to have a gradient. What is only worth knowing
   (parameters that the loss does not depend on) comes in words. Returns as gradc_check. */
int gradc_check_train(Gradc *g, int *nnotes, const char *const **notes);

typedef struct GradcInfoPort { const char *name, *type; } GradcInfoPort;
typedef struct GradcInfoSymbol { const char *name; int64_t lo, hi; bool data; } GradcInfoSymbol; /* data: only the data decides it */
typedef struct GradcInfoOp { const char *name; int64_t count; } GradcInfoOp;
typedef struct GradcInfo {
    const char *name, *format;
    int nin, nout, nsyms, nops;
    const GradcInfoPort *in, *out;
    const GradcInfoSymbol *syms;
    const GradcInfoOp *ops;      /* of the graph as it was read, most frequent first; regions included */
    int64_t nodes, parameters;   /* parameters: elements of floating-point constants of the model, and of what it trains */
    int64_t weight_bytes;        /* of all constants of the model */
    int64_t packed_bytes;        /* of all constants of the compiled program */
    int64_t arena_bytes;         /* open sizes at their lowest; -1: not known before the data */
    const char *arena;           /* the same as an expression over the open sizes */
    double macs;                 /* multiply-adds of one run, open sizes at their lowest */
    int nests;
} GradcInfo;
/* What the model is, and what became of it. */
int gradc_inspect(Gradc *g, GradcInfo *out);

/* One way of running a model, held against expected values or against another way. */
typedef struct GradcCheck {
    const char *subject;         /* directory of the data, or the way of running: "c, 2 threads" */
    const char *output;          /* its name; NULL: all of them */
    bool ok;
    double max_abs, max_rel, max_ulp;
    const char *text;            /* the first difference that is too large; "" */
} GradcCheck;
/* Runs the model on test data: directories of input_0.pb ..., output_0.pb ..., or of such directories (test_data_set_0
   ...). Values are equal within |a - e| <= atol + rtol |e|. n is 0: random inputs, and all back ends and thread counts are
   held against each other bit for bit. Returns 1 when a comparison failed. */
int gradc_verify(Gradc *g, int n, const char *const *dirs, double rtol, double atol, int *nchecks, const GradcCheck **checks);

/* A tensor's gradient held against differences. */
typedef struct GradcGradRow {
    const char *name, *kind;     /* kind: param, input */
    const char *shape;           /* "[3,4]" */
    int64_t elements, compared, kinks; /* compared: elements, and directions when there are many; kinks: of them, no errors */
    bool ok;
    double error;                /* the largest relative error */
    double derived, difference;  /* there: what the compiler says, what differences say */
    int64_t at;                  /* the element; -1: a direction */
    const char *place;           /* "[1,2]" */
} GradcGradRow;
typedef struct GradcGradOptions {
    const GradcArgs *values;     /* inputs; NULL, or those that are missing: random */
    double rtol, atol;
    uint64_t seed;               /* of first values, inputs and choices */
    int64_t samples;             /* elements of a tensor that are compared at most */
} GradcGradOptions;
/* The gradient that the compiler derives, in double, against central differences: for every parameter and every input of
   floats, of the loss that is described or an option's, else of a weighted sum of the outputs (about says which). Returns 1
   when one is wrong. */
int gradc_gradcheck(Gradc *g, const GradcGradOptions *o, int *n, const GradcGradRow **rows, const char **about);

typedef struct GradcBench {
    int samples, threads;
    double min_ms, median_ms, p95_ms;
    double macs;                 /* of one run; open sizes at their lowest */
    double gflops;               /* 2 macs / median */
    double peak_gflops;          /* measured: fused multiply-adds of f32 vectors on one core, times threads */
    double compile_seconds;
    int nnests;
    const GradcNest *nests;      /* with the option profile */
} GradcBench;
/* Compiles into this process and runs for so many seconds after a warm-up. values may be NULL: random inputs. */
int gradc_bench(Gradc *g, const GradcArgs *values, double seconds, GradcBench *out);

/* ---- the op table ---- */

typedef struct GradcOpInfo {
    const char *name;            /* in the graph IR; NULL for an op of ONNX that becomes several */
    const char *onnx;            /* NULL: none */
    int since;                   /* first ONNX version of this form */
    const char *kind;            /* map, view, reduce, contract, window, gather, sort, random, control, sequence, build */
    const char *in, *out, *types, *value, *doc; /* may be NULL */
    const char *vjp[4];          /* of maps: the cotangent of each input */
    bool gradient;               /* has one */
    bool no_gradient;            /* it is zero almost everywhere */
    int nattrs;
    struct { const char *name, *kind; double def; bool required; } attrs[12];
} GradcOpInfo;
/* Row i of the op table; false past the last. */
bool gradc_op_at(int i, GradcOpInfo *out);

#ifdef __cplusplus
}
#endif
#endif
