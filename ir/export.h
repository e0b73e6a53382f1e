/* A graph on its way out, into the operators of ONNX: what a row's export function gets. Neutral of file formats: the front
   end that writes a file walks the finished Export.

   Rows of the graph IR become one or a few ONNX nodes. A row without an export function has the ONNX op of its name, inputs
   in order and attributes by name; a MAP row without such a name goes by its formula. Sizes that only a run knows are
   computed by nodes of their own (export_dims). Nodes that nothing needs are left out at the end, so a row may look
   through the node before it (a convolution takes a pad's place) without asking who else uses it. */
#ifndef GD_EXPORT_H
#define GD_EXPORT_H
#include "op.h"
#include "train.h"

enum { EXPORT_OPSET = 21 }; /* raised by what is younger */

typedef struct ExportNode ExportNode;
typedef struct ExportGraph ExportGraph;

/* A tensor of the file: its name is final once export_graph returns. */
typedef struct ExportRef {
    const char *name;      /* bytes as the model has them */
    DType dt;
    int rank;              /* of constants, inputs and outputs */
    Expr *const *dim;      /* of inputs and outputs; NULL: constants have ints */
    const int64_t *ints;
    const void *data;      /* constants, row-major in memory form; NULL: none */
    ExportGraph *home;
    const ExportNode *by;
    bool live, given;      /* given: an input */
} ExportRef;

typedef enum ExportKind { EX_INT, EX_FLOAT, EX_STRING, EX_INTS, EX_GRAPH } ExportKind;
typedef struct ExportAttr {
    const char *name;
    ExportKind kind;
    int n;
    int64_t i;
    double f;
    const char *s;
    const int64_t *ints;
    ExportGraph *graph;
} ExportAttr;

struct ExportNode {
    const char *op, *name;
    VEC(ExportRef *) in, out;   /* in: NULL where left out */
    VEC(ExportAttr) attr;
    bool live;
};

struct ExportGraph {
    ExportGraph *outer;
    VEC(ExportNode *) nodes;
    VEC(ExportRef *) in, out;
    Map *exprs;                 /* Expr -> ExportRef i64 [1], computed in this graph */
};

typedef struct Export {
    Ctx *c;
    Graph *g;                   /* outermost */
    ExportGraph *top, *at;      /* at: where nodes are made now */
    VEC(ExportRef *) consts, all;
    Map *values;                /* Value -> ExportRef */
    Map *symbols;               /* Var -> ExportSymbol */
    const char *label;          /* of the node that is exported */
    int opset;
} Export;

/* Everything reachable from the graph's outputs; the next values of states are no outputs. g must be as the front end made it:
   not yet fused. States become constants (state_data). Leaves with all problems at once: E406 for rows that ONNX has no form of. */
Export *export_graph(Graph *g, StateData *state, void *arg);

/* ---- for rows ---- */

ExportRef *export_value(Export *x, Value *v);                     /* NULL stays NULL */
static inline ExportRef *export_in(Export *x, const Node *n, int i) { return i < n->nin ? export_value(x, n->in[i]) : NULL; }
void export_out(Export *x, const Node *n, int port, ExportRef *r); /* the node's output is that tensor */
ExportNode *export_node(Export *x, const char *op);
void export_arg(Export *x, ExportNode *e, ExportRef *r);          /* NULL: left out */
ExportRef *export_result(Export *x, ExportNode *e, DType dt);     /* the next output */
void export_int(Export *x, ExportNode *e, const char *name, int64_t v);
void export_float(Export *x, ExportNode *e, const char *name, double v);
void export_string(Export *x, ExportNode *e, const char *name, const char *v);
void export_ints(Export *x, ExportNode *e, const char *name, int n, const int64_t *v);
void export_subgraph(Export *x, ExportNode *e, const char *name, ExportGraph *g);
/* A node without attributes, of one output of that dtype. Ends at the first NULL. */
ExportRef *export_op_(Export *x, const char *op, DType dt, ExportRef *const *in);
#define export_op(x, op, dt, ...) export_op_((x), (op), (dt), (ExportRef *const[]){__VA_ARGS__, NULL})
void export_since(Export *x, int opset); /* an op that is younger than EXPORT_OPSET */
ExportRef *export_cast(Export *x, ExportRef *r, DType to);

ExportRef *export_const(Export *x, DType dt, int rank, const int64_t *dim, const void *data);
ExportRef *export_list(Export *x, int n, const int64_t *v);       /* i64 [n] */
ExportRef *export_number(Export *x, DType dt, double v);          /* rank 0 */
ExportRef *export_dims(Export *x, int n, Expr *const *e);         /* i64 [n], computed where it must be */
ExportRef *export_scalar(Export *x, Expr *e);                     /* the same of rank 0, of e's dtype */
ExportRef *export_reshape(Export *x, ExportRef *r, int rank, Expr *const *dim);
void export_symbol(Export *x, const Var *v, ExportRef *one);      /* the symbol's value is this i64 [1] */
void export_sizes(Export *x, const Value *v, ExportRef *r);       /* symbols that are dims of v are r's sizes */

/* A graph within one: nodes are made in it until export_close. */
ExportGraph *export_open(Export *x);
void export_close(Export *x);
ExportRef *export_argument(Export *x, DType dt, int rank);        /* an input of it; rank -1: any */
void export_yield(Export *x, ExportRef *r);                       /* an output of it */
void export_nodes(Export *x, Graph *g);                           /* all nodes of g, in order */

/* The row as a formula over other rows. */
void export_text(Export *x, Node *n, const char *text, const Map *values, const Map *attrs);
void export_formula(Export *x, Node *n);                          /* a MAP row by its own */
void export_default(Export *x, Node *n);
void export_fail(Export *x, const Node *n, const char *help, const char *fmt, ...) GD_PRINTF(4, 5); /* E406 */
#endif
