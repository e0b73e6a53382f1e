/* One node of an ONNX model on its way into the graph IR: what a row's import function gets. Neutral of file formats: the
   binary and the text front end fill the same struct.

   import reads inputs and attributes, makes nodes in n->g, and sets n->out[0..nout). Whatever differs between opsets is
   decided here, so the graph IR has one form of each op. */
#ifndef GD_IMPORT_H
#define GD_IMPORT_H
#include "op.h"

typedef struct ImportTensor { DType dt; int rank; int64_t *dims; const void *data; } ImportTensor;
typedef enum ImportKind { IM_FLOAT = 1, IM_INT, IM_STRING, IM_TENSOR, IM_GRAPH, IM_FLOATS, IM_INTS, IM_STRINGS, IM_TENSORS,
                          IM_GRAPHS, IM_TYPE, IM_SPARSE } ImportKind;
typedef struct ImportAttr {
    const char *name;
    ImportKind kind;
    int n;                   /* lists; length of a string */
    int64_t i;
    double f;
    const char *s;           /* NUL-terminated, may hold further NULs: n */
    const int64_t *ints;
    const double *floats;
    const char *const *strings;
    ImportTensor tensor;
    const void *graph;       /* the front end's own; import_region makes a Graph of it */
    DType type;              /* TYPE: element type; tensor has the shape: rank -1 when there is none, dim -1 when it is open */
    bool sequence;           /* TYPE: of a sequence of such tensors */
    bool used;               /* asked for: what stays false is reported */
} ImportAttr;

struct Import {
    Graph *g;
    const char *op, *domain; /* "" for ai.onnx */
    int opset;
    int nin, nout;           /* nout: outputs the model names, the last of them may be unused */
    Value **in;              /* NULL: left out */
    Value **out;             /* to be set; NULL stays unset when the model does not use it */
    const bool *wanted;      /* which outputs are used */
    int nattr;
    ImportAttr *attr;
    const char *label;
    /* The front end makes a region's graph; its inputs get the given types (n->region_in in order). */
    Graph *(*region)(Import *n, const ImportAttr *a, int nargs, Value *const *like);
    /* What a named tensor is as a function of others, at the values that this node's inputs have: y, made again where need be
       from nx tensors (floats, which must not be taken for constants) and nz more, whose names come in that order, as the
       inputs do. leaf[0..nx): what stands for the first nx, to be replaced by the inputs where it is something else.
       NULL after an error. */
    Value *(*retrace)(Import *n, const char *y, int nx, int nz, const char *const *names, Value **leaf);
    int64_t *seed;           /* the node's own plus 1, zero before it has drawn one; NULL: the node is imported once */
    void *front, *scope;     /* the front end's own */
};

/* Attributes: the value, or the default when absent; a wrong kind is an error. */
const ImportAttr *import_attr(Import *n, const char *name);
int64_t import_int(Import *n, const char *name, int64_t def);
double import_float(Import *n, const char *name, double def);
const char *import_string(Import *n, const char *name, const char *def);
bool import_has(Import *n, const char *name);
int import_ints(Import *n, const char *name, const int64_t **v); /* count; 0 and NULL when absent */
int import_floats(Import *n, const char *name, const double **v);
DType import_dtype(Import *n, const char *name, DType def);      /* an int attribute holding TensorProto.DataType */
Value *import_in(Import *n, int i);                              /* NULL when left out or beyond nin */
bool import_need(Import *n, int min, int max);                   /* input count; error and false when outside */
/* A list that is an attribute before some version and an (optional) input after: expressions. Count, or -1 absent. */
int import_list(Import *n, const char *attr, int input, Expr ***v);
/* The same where only numbers will do (axes): error when they are not known when compiling. */
int import_const_list(Import *n, const char *attr, int input, const int64_t **v);
void import_error(Import *n, int code, const char *help, const char *fmt, ...) GD_PRINTF(4, 5);
void import_default(Import *n, const Op *op); /* inputs in order, attributes by name */
/* Makes nodes from composite text: "m = reduce_mean(x, axes=axes); x - m". values: name -> Value; attrs (may be NULL): name
   -> Attr, which stand as numbers in the text or are handed on by key=name. */
Value *graph_text(Graph *g, const char *text, const Map *values, const Map *attrs);
#endif
