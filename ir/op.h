/* The op rows: everything gradc knows about an op stands in its row, and the row stands in one file of ir/ops/.

   From the rows come the text form, ONNX import, checks, shape inference, folding, lowering, gradients, `gradc ops`,
   docs/ops.md and the tests of every row. No pass compares op names: it asks kind and flags.

   Two sorts of rows:
   * rows of the graph IR (kind MAP ... CONTROL): nodes exist of them;
   * BUILD rows: an op of ONNX that is a small graph of others. import makes that graph, no node of it exists.

   To add an op: add its row to the file of its family. To add a family: a file, and one line in families.def. */
#ifndef GD_OP_H
#define GD_OP_H
#include "graph.h"
#include "loop.h"

typedef enum OpKind {
    OP_MAP,      /* an element of the output from the elements at the same (broadcast) place: a formula */
    OP_VIEW,     /* moves elements: an element of the output is one element of the input, or a constant */
    OP_REDUCE,   /* an accumulator over axes */
    OP_CONTRACT, /* sums of products: contract, conv */
    OP_WINDOW,   /* pooling and the like */
    OP_GATHER,   /* reads or writes where data says */
    OP_SORT,     /* whole slices at once */
    OP_RANDOM,
    OP_CONTROL,  /* if, loop, read, check */
    OP_SEQUENCE,
    OP_BUILD
} OpKind;

enum { /* flags */
    OF_CHEAP = 1,    /* a few scalar instructions: recomputing costs less than memory */
    OF_NO_GRAD = 2,  /* constant almost everywhere, or of integers: the gradient is zero */
    OF_EFFECT = 4,   /* kept although unused */
    OF_COMMUTES = 8, /* inputs 0 and 1 may change places without changing a bit */
    OF_SAME_DATA = 32, /* the output's elements in row-major order are those of input 0 (reshape) */
    OF_MONOTONE = 16, /* max(f(a), f(b)) = f(max(a, b)) */
    OF_AXISWISE = 64, /* a view whose axis i comes from axis i of the input */
    OF_OWN = 128,    /* always in memory of its own */
    OF_IMAGE = 256,  /* a contraction over images: inputs of [N, C, spatial ..] */
    OF_KERNEL = 512  /* ... whose output is no image but a kernel, [M, C, spatial ..] */
};

typedef struct AttrDef {
    const char *name;
    AttrKind kind;
    double def;          /* default of INT and FLOAT */
    bool required;
} AttrDef;

typedef struct Lower Lower;   /* lower.h */
typedef struct Import Import; /* import.h */
typedef struct Grad Grad;     /* grad.h */
typedef struct Export Export; /* export.h */

enum { MAX_ATTRS = 12 };
struct Op {
    const char *name;    /* lower case; of a BUILD row: NULL, the ONNX name serves */
    OpKind kind;
    unsigned flags;
    const char *in;      /* names: "x w b?" (? may be left out, * any number, at the end) */
    const char *out;     /* "y"; "y mask?" */
    AttrDef attrs[MAX_ATTRS];
    const char *types;   /* dtypes of the first input: "float", "int", "num" (both), "bool", "any"; NULL: any */
    const char *result;  /* MAP: "bool", "i64" ... when not that of the last input */

    const char *onnx;    /* ONNX name, "Conv" or "ai.onnx.ml:Scaler"; several forms: more rows */
    int since;           /* first ONNX version of this form, 0: from the first on */
    int settings;        /* from this input of ONNX on (1: the first) they say how, not what: no weights; 0: none does */
    void (*import)(Import *n); /* NULL: inputs in order, attributes by name */

    const char *value;   /* MAP: formula over the input names and the attributes' names */
    const char *vjp[4];  /* MAP: cotangent of each input: formula over inputs, attributes, y and g; "0": none */

    void (*shape)(Node *n); /* NULL for MAP: broadcast */
    /* Element idx of output port, as an expression; may emit loops and accumulators. */
    Expr *(*elem)(Lower *L, Node *n, int port, Expr *const *idx);
    /* For ops that are not element by element: statements that fill the buffers of all outputs. */
    void (*lower)(Lower *L, Node *n);
    /* Is the output a place where input i lies as it is, from element lo[axis] on? Then its producer may write there
       (pad, concat). step[axis], 1 when it is called: how far apart its elements are (interleave). */
    bool (*holds)(const Node *n, int i, Expr **lo, Expr **step);
    /* Does the node read an element of input i more than a few times, or in an order of its own? (NULL: no) */
    bool (*rereads)(const Node *n, int i);
    /* Given the cotangents of the outputs (NULL: zero), adds those of the inputs with grad_add. */
    void (*grad)(Grad *G, Node *n, Value *const *dy);
    /* The row as ONNX nodes. NULL: the op of its ONNX name; a MAP row without one: its formula. */
    void (*export)(Export *x, Node *n);

    const char *doc;     /* one sentence; then, where it helps, the definition */
};

const Op *op_at(int i);                               /* all rows, family by family; NULL past the last */
const Op *op_named(const char *name);                 /* NULL when there is none */
const Op *op_onnx(const char *domain, const char *name, int opset); /* the form valid at that version; NULL: none */
int op_arity(const Op *op, int *min);                 /* most inputs, -1: any number; *min: fewest */
int op_outputs(const Op *op);
int op_attr(const Op *op, const char *name);          /* index into attrs, -1: none */
static inline bool op_is_core(const Op *op) { return op->kind != OP_BUILD; }
#endif
