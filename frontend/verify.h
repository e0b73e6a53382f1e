/* A model held against its test data: compile it, run it through one or more back ends, compare.

   Data lies as ONNX has it: a directory of input_0.pb, input_1.pb ... and output_0.pb ..., which correspond to the
   model's inputs and outputs by position. */
#ifndef GD_VERIFY_H
#define GD_VERIFY_H
#include "codegen.h"
#include "frontend.h"
#include "passes.h"

typedef enum VerifyMode {
    VM_STATIC,   /* sizes as the model gives them */
    VM_SYMBOLIC, /* every dim of an input is open, but for the lengths of i64 lists: they decide ranks */
    VM_FOLDED    /* inputs are constants */
} VerifyMode;

typedef struct VerifyOptions {
    VerifyMode mode;
    const Target *target;
    int opt, threads;
    double rtol, atol;
    const char *prefix; /* of the program */
} VerifyOptions;

/* What the model should be given, and what it should answer. */
typedef struct VerifyData {
    int nin, nout;
    GradcTensor *in, *out;
    /* For FrontOptions.dims: N=0..inf for named sizes that are 0 in the data; and NAME_dim0=N of the lists. */
    const char **zeros, **lengths;
} VerifyData;

/* How far apart outputs are. ulp counts the values of the output's own type that lie between. */
typedef struct VerifyReport {
    bool ok;
    double abs, rel, ulp; /* the largest of each */
    char text[300];       /* the first difference that is too large */
} VerifyReport;

/* Reads the files. Leaves with E402 for a model whose inputs or outputs are no tensors. */
void verify_data(Ctx *c, const char *model, const char *dir, VerifyData *out);
/* arange(n) / n in the shape of the one input, and the output that stands in a file. */
void verify_ramp(Ctx *c, const char *model, const char *output, VerifyData *out);

Program *verify_program(Ctx *c, const char *model, const VerifyData *d, const VerifyOptions *o);
/* Outputs of a loaded program; of the interpreter. They live as long as c. */
GradcTensor *verify_run(Ctx *c, const GradcProgram *p, const VerifyData *d, const VerifyOptions *o);
GradcTensor *verify_interpret(Ctx *c, const Program *p, const VerifyData *d, const VerifyOptions *o);

void verify_compare(Ctx *c, const VerifyData *d, const GradcTensor *out, int nout, const VerifyOptions *o, VerifyReport *r);
/* Equal to the bit, but for the payloads of NaN? why says where not. */
bool verify_equal(const GradcTensor *a, const GradcTensor *b, int n, char *why, size_t size);
#endif
