/* The pipeline: one ordered table (passes.def), one runner. A pass changes a graph or a program in place and neither prints,
   times nor verifies: the runner does, after every row. */
#ifndef GD_PASSES_H
#define GD_PASSES_H
#include "graph.h"
#include "loop.h"
#include "train.h"

typedef enum Numerics { NUM_STRICT, NUM_DEFAULT, NUM_FAST } Numerics;

/* What the machine is, as far as passes ask; the driver fills it from codegen's Target. */
typedef struct Machine {
    int lanes;         /* f32 lanes of a vector register; 1: none */
    int registers;     /* vector registers */
    bool fma;
    int64_t l1, l2;    /* bytes of one core */
} Machine;

typedef struct PassOptions {
    int opt;                    /* 0 to 3 */
    Numerics numerics;
    Machine machine;
    int threads;                /* hint only: 1 makes no parallel loops; results never depend on it */
    bool release;               /* nobody but the resulting program reads the graph's constants: dropped ones are given back */
    TrainPart train;            /* which program of a trainable model; TP_NONE: the model as it is */
    const char *grad;           /* LOSS or LOSS:NAME,...: outputs d_NAME are added (all float inputs); may be NULL */
    const char *const *skip;    /* names of passes left out, NULL-ended; may be NULL */
    const char *stop_after;     /* may be NULL */
    const char *print_after;    /* pass name, "all" or "changed"; may be NULL */
    Text *print;                /* where to */
    const char *dump_dir;       /* one file a pass, numbered; may be NULL */
    void (*timing)(void *arg, const char *pass, double seconds);
    void *arg;
} PassOptions;

enum { ALWAYS = -1 };
typedef enum PassLevel { PASS_GRAPH, PASS_LOWER, PASS_LOOP } PassLevel;
typedef struct Pass {
    const char *name;
    PassLevel level;
    int opt;                    /* lowest -O that runs it; ALWAYS: cannot be left out */
    const char *doc;
    void (*graph)(Graph *, const PassOptions *);
    void (*loop)(Program *, const PassOptions *);
} Pass;
extern const Pass gd_passes[];
extern const int gd_pass_count;
const Pass *pass_named(const char *name); /* NULL when there is none */

#define PROTO_PASS_GRAPH(name) void pass_##name(Graph *g, const PassOptions *o);
#define PROTO_PASS_LOWER(name)
#define PROTO_PASS_LOOP(name) void pass_##name(Program *p, const PassOptions *o);
#define P(name, level, opt, doc) PROTO_##level(name)
#include "passes.def"
#undef P

/* Runs graph passes, lowering, loop passes: those after g->after. NULL when stop_after is a graph pass. Leaves when a pass
   recorded errors, or when the options name a pass that does not exist or cannot be left out. */
Program *passes_run(Graph *g, const PassOptions *o);
/* The program that makes the first values of a trained model's states: seed (i64) in, one output a state, in order and under
   its name. model: the graph of the step, after `train`. */
Graph *train_init(Ctx *c, const Graph *model, const char *name);
/* From a program that went through the passes up to p->after. */
void passes_resume(Program *p, const PassOptions *o);
#endif
