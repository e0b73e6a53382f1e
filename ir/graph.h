/* The graph IR: what is computed. Values (tensors) and nodes (an op applied to values), in an order in which every value
   is made before it is used. docs/graph-ir.md has the text form.

   Shapes are known when a node is made: node_new asks the op's row. A dim is an i64 expression over symbols. A size
   that only the data decides is a symbol too: a `read` node defines it from the elements of an integer tensor, and from
   there on shapes and attributes are expressions again; so no op takes a shape, an axis or a range as a tensor.

   A value whose elements are known (constants, or expressions over symbols: shapes computed from shapes) carries
   them in elems; folding happens when the node is made, by the same element functions that lowering uses.

   A region (a branch of `if`, the body of `loop`) is a Graph whose nodes may use values of the graphs around it. */
#ifndef GD_GRAPH_H
#define GD_GRAPH_H
#include "expr.h"

typedef struct Op Op; /* op.h */
typedef struct Value Value;
typedef struct Node Node;
typedef struct Graph Graph;
typedef struct StateVar StateVar;         /* train.h */
typedef struct TrainSpec TrainSpec;

enum { MAX_RANK = 16, MAX_ELEMS = 64 /* largest value whose elements are followed symbolically */ };

/* Where a value lives, decided by `fuse`. */
typedef enum Place {
    PL_UNSET,
    PL_ROOT,   /* a buffer, filled by a nest of its own */
    PL_INLINE, /* computed where it is used */
    PL_LOCAL   /* a slice over the axes from local_axis on, kept inside the nest that uses it */
} Place;

struct Value {
    int id;
    DType dt;
    bool sequence;        /* a sequence of such tensors (rank -1: of any shape) */
    bool optional;
    int rank;
    Expr **dim;
    Node *def;            /* NULL: input, constant, or a region's argument */
    int port;             /* which output of def */
    const void *data;     /* constant: elements row-major in memory form, 64-aligned */
    Expr **elems;         /* known elements, at most MAX_ELEMS; NULL: not known */
    const char *label;    /* the model's name for it, escaped; may be NULL */
    int64_t source;       /* bytes of data in the model's file order: position among constants, -1: made here */
    /* passes */
    const uint8_t *order; /* `layout`: axes from outermost to innermost in memory; NULL: row-major */
    uint8_t place, local_axis;
    Value *into;          /* `fuse`: its storage is part of this value's storage (a pad, a concat, a reshape) */
    int uses;             /* graph_count_uses */
    void *mark;           /* the running pass's own */
};

typedef enum AttrKind { AT_NONE, AT_INT, AT_FLOAT, AT_STRING, AT_INTS, AT_FLOATS, AT_DIM, AT_DIMS, AT_DTYPE, AT_SYMS } AttrKind;
typedef struct Attr {
    AttrKind kind;
    int n;                /* INTS, FLOATS, DIMS, SYMS */
    union {
        int64_t i;        /* INT, and DTYPE as DType */
        double f;
        const char *s;
        const int64_t *ints;
        const double *floats;
        Expr *dim;        /* an i64 expression */
        Expr **dims;
        Var **syms;       /* symbols the node defines */
    };
} Attr;

struct Node {
    int id;
    const Op *op;
    int nin, nout, nregions;
    Value **in;           /* NULL: an optional input left out */
    Value **out;
    Attr *attr;           /* parallel to op->attrs */
    Graph **region;
    Graph *graph;
    const char *label;    /* the model's node it came from, escaped: `17 Conv "conv1"` */
    const char *note;     /* for readers: why not fused, what changed in rounding */
};

struct Graph {
    Ctx *c;
    const char *name;     /* checked identifier */
    const char *after;    /* the last pass that ran */
    Graph *outer;         /* of a region */
    VEC(Var *) syms;      /* of the outermost graph: all symbols, those of the inputs first */
    VEC(Value *) in, out;
    VEC(const char *) in_names, out_names; /* the model's names of inputs and outputs, escaped */
    VEC(StateVar *) states;  /* of the outermost graph: inputs that a run changes */
    bool training;        /* of the outermost graph, while it is made: layers behave as in training */
    bool draws;           /* likewise: random numbers differ from step to step (as in training) */
    Value *key;           /* likewise: what they follow besides their own seed, i64[2]; NULL: nothing */
    TrainSpec *train;     /* what the description says of training; NULL: nothing */
    VEC(Value *) consts;  /* of the outermost graph */
    VEC(Node *) nodes;
    const char *label;    /* given to the nodes made now: the model's node that is being imported */
    int *next_id;         /* shared by a graph and its regions */
};

Graph *graph_new(Ctx *c, const char *name);
Graph *graph_region(Graph *outer);
Graph *graph_outermost(Graph *g);
Var *graph_symbol(Graph *g, const char *name, int64_t lo, int64_t hi); /* checked and made unique */
Var *graph_data_symbol(Graph *g, const char *name, Expr *bound);       /* >= 0; bound (may be NULL): never exceeded */
void graph_rename(Graph *g, Var *symbol, const char *name);            /* the same */

Value *value_new(Graph *g, DType dt, int rank, Expr *const *dim);
Value *graph_input(Graph *g, const char *name, DType dt, int rank, Expr *const *dim);
void graph_output(Graph *g, const char *name, Value *v);
Value *graph_const(Graph *g, DType dt, int rank, const int64_t *dim, const void *data); /* data is kept, not copied */
Value *const_ints(Graph *g, int n, const int64_t *v);              /* i64[n] */
Value *const_scalar(Graph *g, DType dt, double v);                 /* rank 0 */
Value *value_of_exprs(Graph *g, int rank, int n, Expr *const *e);  /* i64 (or the exprs' dtype), rank 0 or 1 */
bool value_known(const Value *v);                                  /* elements known: elems, or constant and small */
Expr *value_elem(Graph *g, const Value *v, int64_t i);             /* element i of a known value */
Expr *value_count(Ctx *c, const Value *v);                         /* product of the dims */
bool value_static(const Value *v, int64_t *dims);                  /* all dims are numbers; dims may be NULL */
/* Are all elements numbers now? Then they are written to out (n at most), in order. */
bool value_ints(Graph *g, const Value *v, int n, int64_t *out);
/* The elements of an integer value as i64 expressions: known ones, or symbols of a `read` node made here. */
Expr **value_read(Graph *g, Value *v, const char *name, Expr *bound);

/* Makes a node at the end of g: outputs get types and shapes, known elements are folded. Attributes are set by
   name first through node_begin / node_attr..., so a call reads: begin, attributes, finish. Errors in the model go to
   node_error; the outputs are then of unknown shape and the caller goes on or stops at its next gd_error_count. */
Node *node_begin(Graph *g, const char *op);
void node_input(Node *n, Value *v);
void node_int(Node *n, const char *attr, int64_t v);
void node_float(Node *n, const char *attr, double v);
void node_string(Node *n, const char *attr, const char *v);
void node_ints(Node *n, const char *attr, int count, const int64_t *v);
void node_floats(Node *n, const char *attr, int count, const double *v);
void node_dim(Node *n, const char *attr, Expr *v);
void node_dims(Node *n, const char *attr, int count, Expr *const *v);
void node_dtype(Node *n, const char *attr, DType v);
void node_syms(Node *n, const char *attr, int count, Var *const *v);
Value *node_finish(Node *n); /* the first output */
/* The common case without attributes: make(g, "add", a, b). Ends at the first NULL: use node_input for optional ones. */
Value *make_(Graph *g, const char *op, Value *const *in);
#define make(g, op, ...) make_((g), (op), (Value *const[]){__VA_ARGS__, NULL})

const Attr *node_attr(const Node *n, const char *name); /* gd_bug when the row has no such attribute */
int64_t attr_int(const Node *n, const char *name);
double attr_float(const Node *n, const char *name);
const char *attr_string(const Node *n, const char *name);

/* The user's fault at a node: `node 17 Conv "conv1": ...`. */
void node_error(const Node *n, int code, const char *help, const char *fmt, ...) GD_PRINTF(4, 5);
/* cond must hold: nothing when it provably does, an error (E301) when it provably does not, else a `check` node that
   the program runs. what says it in words: "inputs a and b have 3 and N rows". */
void node_require(Node *n, Expr *cond, const char *what);
/* Both dims are the same size: require, and the better known of the two. */
Expr *node_same_dim(Node *n, Expr *a, Expr *b, const char *what);
Expr *node_broadcast_dim(Node *n, Expr *a, Expr *b); /* numpy's rule: equal, or one of them is 1 */
void node_out(Node *n, int port, DType dt, int rank, Expr *const *dim); /* for op->shape: sets an output's type */
int node_axis(Node *n, int64_t axis, int rank);                         /* negative from the end; error when outside */

/* Walks and edits for passes. */
void graph_count_uses(Graph *g);                    /* of all values, regions included; an output is a use */
void graph_replace(Graph *g, Map *with);            /* every use of a key value becomes the mapped value, regions too */
const char *value_type_text(Ctx *c, const Value *v); /* f32[N,3] */

/* Text both ways, the verifier. */
void graph_print(Text *t, const Graph *g);       /* complete */
void graph_print_brief(Text *t, const Graph *g); /* without the constants' data */
Graph *graph_parse(Ctx *c, const char *text, size_t n);
void graph_verify(const Graph *g);               /* gd_bug on the first broken invariant */
#endif
