/* The ONNX importer's parts: onnx.c (graphs, nodes, functions), onnxtype.c (types and dims), onnxattr.c
   (attributes), onnxstate.c (weights that train), onnxgradient.c (a part of a graph made again), onnxtrain.c
   (training information). */
#ifndef GD_ONNXGRAPH_H
#define GD_ONNXGRAPH_H
#include "onnx.h"
#include "frontend.h"
#include "import.h"

enum { MAX_NEST = 64 }; /* of graphs, function calls and gradients in one another */

/* One --dim. */
typedef struct DimOption {
    const char *text, *name;
    int64_t lo, hi;
    bool used;
} DimOption;

typedef struct Model {
    Ctx *c;
    PbModel *pb;
    PbSource *src;
    const FrontOptions *o;
    VEC(DimOption) dims;
    Map *named;             /* dim_param -> Expr, what stands for it */
    Map *hinted;            /* symbols that got their names by type_hint */
    Map *functions;         /* domain, name and overload -> PbFunction */
    VEC(const char *) open; /* names of the dims that were left open, for messages */
    Map *settings;          /* names of initializers that are no weights (onnxstate.c) */
    Map *seeds;             /* node label -> its Import.seed, where nodes may be imported again */
    Map *bound;             /* names of initializers that the model's own training changes -> Bound (onnxtrain.c); NULL: it is not asked for */
    bool constants;         /* no initializer is a state now */
    int64_t nodes;          /* imported so far, those of functions counted at every call */
    int64_t consts;
    int depth; /* of subgraphs and function calls */
} Model;

/* Where names mean something: a graph, or the body of a function at one call. */
typedef struct Scope Scope;
struct Scope {
    Scope *outer; /* of a subgraph, the graph around it; a function's body sees nothing outside */
    Graph *g;
    Map *values;      /* name -> Value */
    Map *makers;      /* name -> text: which input, initializer or node makes it */
    Map *opsets;      /* domain -> version, as a pointer */
    Map *hints;       /* name -> PbValueInfo: what the model says about values; NULL in a function */
    Map *attrs;       /* in a function: attribute -> BoundAttr; NULL outside */
    const char *path; /* what the labels of its nodes start with */
    PbNode *const *nodes; /* all of them; those before `at` are imported */
    size_t at;
};

/* An attribute that a function's body refers to: graphs in it see the names of where it was written. */
typedef struct BoundAttr {
    PbAttr *a;
    Scope *scope;
} BoundAttr;
/* ImportAttr.graph */
typedef struct Subgraph {
    const PbGraph *pb;
    Scope *scope;
    const char *path;
} Subgraph;

/* ---- onnx.c ---- */
/* path: whose directory external data may lie in; NULL: none. */
Graph *onnx_graph(Ctx *c, PbModel *pb, const char *path, const char *name, const FrontOptions *o);
/* What the parts need of one another: the value of a name (user: who asks; an unknown one after an error), a node's name in
   messages, and the import of one node. */
Value *onnx_resolve(Model *m, Scope *s, const char *name, const char *user);
const char *onnx_node_label(Model *m, const Scope *s, const PbNode *p, size_t index);
void onnx_import_node(Model *m, Scope *s, const PbNode *p, const char *label);
/* Initializers, inputs and nodes of a graph, and of one that goes on in the same names (may be NULL). */
void onnx_body(Model *m, Scope *s, const PbGraph *g, const PbGraph *more);

/* ---- onnxtrain.c ---- */
void onnx_training_begin(Model *m);
const PbGraph *onnx_algorithm(const Model *m);
Value *onnx_bound_state(Model *m, Scope *s, const char *name, Value *constant);
void onnx_training_end(Model *m, Scope *s, int from);

/* ---- onnxgradient.c ---- */
/* Import.retrace */
Value *onnx_retrace(Import *n, const char *y, int nx, int nz, const char *const *names, Value **leaf);

/* ---- onnxstate.c ---- */
/* What an initializer is: itself, or, in a model that trains, a state that begins as this constant. */
Value *onnx_state(Model *m, Scope *s, const char *name, Value *constant);

/* ---- onnxtype.c ---- */
void dims_read(Model *m);   /* the --dim options; E601 */
/* What stands for an open dim of this name, at least lo: a symbol, or what an option says. */
Expr *dims_open(Model *m, Graph *g, const char *name, int64_t lo);
void dims_finish(Model *m); /* E601 for those that name no dim */
/* A graph input of the type in the file; NULL after an error. */
Value *type_input(Model *m, Graph *g, const PbValueInfo *v);
/* Element type and nesting (axes: and rank) of v against what the file says; false after an error. */
bool type_agrees(Model *m, const char *what, const Value *v, const PbType *t, bool axes);
/* Sizes that only the data decides get the names that the model has for them. */
void type_hint(Model *m, Graph *g, const Value *v, const PbValueInfo *p);
/* TYPE attributes: dtype and shape, -1 for an open dim. */
bool type_attr(Model *m, const PbType *t, ImportAttr *out);

/* ---- onnxattr.c ---- */
/* The attributes of a node as rows want them; false after an error. */
bool attrs_convert(Model *m, Scope *s, const char *label, const PbNode *p, Import *n);
/* The attribute as it stands where the function was called; NULL: not given there. */
PbAttr *attr_resolve(Scope *s, PbAttr *a, Scope **where);
#endif
