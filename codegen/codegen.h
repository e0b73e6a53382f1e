/* What a code generator is asked for, and what it answers. A generator sees the loop IR only; both print what `plan`
   left and decide nothing: the order of statements, the vectors, the threads and the arena are all in the program.

   Every generated unit has, with P the prefix (Program.name unless another is given):
     int P_run_raw(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t arena_bytes);
     const GradcProgram P_program;      the table of runtime/program.h, where `table` asks for it
     int main(int, char **);            calls gradc_program_main(&P_program, ...), where `main` asks for it
   The C sources add the typed face of docs/api.md: P_inputs, P_outputs, P_arena_bytes, P_run. */
#ifndef GD_CODEGEN_H
#define GD_CODEGEN_H
#include "loop.h"
#include "program.h"
#include "trainer.h"

/* The machine that code is made for. One table in codegen/target.c knows the names that --target takes. */
typedef struct Target {
    const char *name;      /* as given */
    const char *triple;    /* LLVM */
    const char *cpu;       /* LLVM's and the C compiler's -march name */
    const char *features;  /* LLVM, may be empty */
    int lanes;             /* f32 lanes of a vector register: 16, 8, 4; 1: no vectors */
    int registers;         /* vector registers */
    bool fma;              /* fused multiply-add in hardware */
    int64_t l1, l2;        /* data cache bytes of one core */
    bool native;           /* this very machine: may be run here */
} Target;
/* NULL when there is no such target; "native" reads the CPU's features and caches. */
const Target *target_named(Ctx *c, const char *name);

typedef enum Weights { WEIGHTS_EMBED, WEIGHTS_OBJECT, WEIGHTS_FILE, WEIGHTS_EXTERN,
    WEIGHTS_HOST /* where this process has them: for `load` of the C back end only */ } Weights;
typedef struct EmitOptions {
    const Target *target;
    const char *prefix;    /* checked C identifier */
    Weights weights;
    bool openmp;           /* parallel loops run on OpenMP's threads (pragma or libgomp's entry points) */
    bool table, main;
    bool profile;          /* count calls and nanoseconds of every nest: P_profile(int nest, uint64_t *calls, uint64_t *ns) */
    int opt;               /* 0 to 3 */
} EmitOptions;

/* codegen/weights.c: constants as one array of bytes, each at a multiple of 64. They stay where they are until it is written. */
typedef struct Blob { VEC(const Buf *) consts; Map *at; size_t bytes; } Blob;
void blob_add(Ctx *c, Blob *b, const Buf *constant);
size_t blob_at(const Blob *b, const Buf *constant); /* its offset; SIZE_MAX: it is not in there */
size_t blob_size(Ctx *c, const Buf *constant);      /* its bytes */
void *blob_copy(Ctx *c, const Blob *b);             /* NULL when empty */
void blob_write(Ctx *c, const Blob *b, const char *path);
/* As an object file with the symbol PREFIX_weights. cc: the compiler and its options, NULL-ended; hidden: not for other libraries. */
void blob_object(Ctx *c, const Blob *b, const char *const *cc, const char *dir, const char *prefix, bool hidden, const char *object);

/* blob: the constants that are not in the source (OBJECT, FILE, EXTERN), may be empty; constants (HOST): what P_constants must hold. */
typedef struct CSources { Text *source, *header; Blob blob; const void **constants; int nconstants; } CSources;
/* codegen/c/c.c: the sources as text. path: the source is written there as it is made, since the constants in it may be
   large, and out->source is NULL; or NULL. */
void c_emit(Program *p, const EmitOptions *o, const char *path, CSources *out);

/* codegen/c/trainer.c: the typed face of a trainable model, and its table. Each program is emitted as a unit PREFIX_step ...
   with a table of its own. */
enum { UNIT_INIT, UNIT_STEP, UNIT_EVAL, UNIT_RUN, UNIT_INPUT_GRAD, UNITS };
extern const char *const unit_names[UNITS]; /* init, step, eval, infer, grad */
typedef struct TrainerUnit {
    const char *prefix;
    const GradcTrainer *trainer; /* states, target ...; its programs are not looked at */
    Program *program[UNITS];     /* NULL: left out */
    Program *any[UNITS];         /* where that is for a whole batch: PREFIX_step_any, for any number of samples; else NULL */
    size_t init_arena;           /* bytes behind the state that init works in */
    bool main;                   /* gradc_trainer_main is called */
} TrainerUnit;
void c_emit_trainer(Ctx *c, const TrainerUnit *u, Text **source, Text **header);

/* A program loaded into this process; closed when the Ctx closes. */
typedef struct Loaded {
    const GradcProgram *program;
    int (*profile)(int nest, uint64_t *calls, uint64_t *ns); /* NULL unless asked for; returns 0, or -1 past the last */
} Loaded;

typedef enum Emit { EMIT_EXE, EMIT_C, EMIT_SO, EMIT_OBJ, EMIT_ASM, EMIT_LL, EMIT_BC } Emit;

/* A back end, found by name: "c", "llvm", "interp". */
typedef struct Backend {
    const char *name;
    /* Writes files of one kind; path is the output file (EMIT_C: directory). Leaves with an error when it cannot. */
    void (*write)(Program *p, const EmitOptions *o, Emit kind, const char *path);
    void (*load)(Program *p, const EmitOptions *o, Loaded *out);
} Backend;
const Backend *backend_named(Ctx *c, const char *name); /* leaves with E405 when this build lacks it */
/* codegen/llvmload.c: backend_named's "llvm". It stands in a module of its own (libLLVM costs 17 ms at start), loaded when
   it is first asked for. */
const Backend *llvm_backend(Ctx *c);

extern const Backend backend_c; /* codegen/cbuild.c */

/* codegen/trainbuild.c: a trainable model as sources (path: a directory), executable or shared library, its programs by that back end. */
void trainer_write(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, Emit kind, const char *path);

/* codegen/tool.c: run a program by argument vector (no shell), wait, capture what it prints. Returns its exit status. */
int tool_run(Ctx *c, const char *const *argv, Text *err);
const char *tool_cc(Ctx *c);                         /* $CC, cc, gcc or clang, whichever there is first; or NULL */
typedef VEC(const char *) ToolArgs;
ToolArgs tool_compiler(Ctx *c);                      /* the words of tool_cc: $CC may hold options too; E405 when there is none */
void tool_need(Ctx *c, ToolArgs *a, const char *what); /* runs it; E701, which begins with `what`, unless it ends with 0 */
bool tool_accepts(Ctx *c, const char *option);       /* does the C compiler make a program with it? */
const char *tool_temp_dir(Ctx *c);                   /* removed when the Ctx closes */
const char *tool_runtime(Ctx *c, const char *name);  /* a file installed with gradc (libgradc_runtime.a, headers) */
#endif
