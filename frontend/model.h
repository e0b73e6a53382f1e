/* The text description of a model, `.model` (docs/model.md is the language): its parts.

   modellex.c text -> tokens; model.c statements, blocks, loops; modelexpr.c expressions; modelcall.c layers' arguments
   and parameters; modeldense.c, modelconv.c, modelseq.c layers; modeltrain.c the train block.

   Statements are carried out as they are read: a layer makes its nodes at once. A block or a loop's body is read again at each
   use, from its first token on. After an error the rest of the line is passed over, what the line would have made is bad,
   and whatever uses something bad is silent; so every problem is told once. */
#ifndef GD_MODEL_H
#define GD_MODEL_H
#include "onnxgraph.h"
#include "train.h"

enum { MOST_INPUTS = 16, MOST_ARGS = 16, MOST_DEPTH = 40 };

/* ---- tokens ---- */

typedef enum TokKind { TK_END, TK_LINE, TK_WORD, TK_NUMBER, TK_SIZE, TK_STRING, TK_PUNCT } TokKind;
typedef struct Tok {
    TokKind kind;
    const char *s;     /* where in the text, and how long */
    size_t n;
    const char *text;  /* WORD, STRING, PUNCT */
    double v;          /* NUMBER */
    bool whole;
    int nsize;         /* SIZE: 3x3 */
    int64_t size[4];
} Tok;
typedef VEC(Tok) Toks;

/* ---- what names and expressions stand for ---- */

typedef enum OpndKind { OD_NONE, OD_BAD, OD_VALUE, OD_NUMBER, OD_DIM, OD_WORD, OD_SIZE } OpndKind;
typedef struct Opnd {
    OpndKind kind;
    int nv;            /* VALUE: results, of which the first counts where one is meant */
    Value **v;
    double num;
    bool whole;
    Expr *dim;         /* a size that is not a number: N, N*2 */
    const char *word;  /* WORD, and strings */
    int nsize;
    const int64_t *size;
    const Tok *at;
} Opnd;

/* Names. A block's environment sees the description's, a loop's body all around it. */
typedef struct Env Env;
struct Env {
    Env *up;
    Map *names;        /* -> Opnd */
    VEC(const char *) order;
};

typedef struct ModelBlock ModelBlock;
typedef struct Desc {
    Ctx *c;
    const char *text;
    size_t ntext;
    Tok *t;            /* all tokens; the last is END */
    int at;
    bool failed;       /* in this statement */
    bool torch;
    Model dims;        /* --dim, as for ONNX; only its fields of dims are used */
    const FrontOptions *o;
    Graph *g;          /* where nodes are made: the model, or a loop's body */
    Graph *root;
    Env *env, *top;
    Opnd it;           /* the result of the statement before */
    const char *it_name;
    Map *blocks;       /* -> ModelBlock */
    Map *told;         /* errors by place */
    Map *sites;        /* place of a layer -> its name */
    Map *counts;       /* names of layers and uses of blocks -> themselves; "#" and a base -> int, the next number */
    const char *prefix;/* of parameters, in a block */
    const char *path;  /* tells uses of a block, and iterations of a repeat, apart */
    int depth, inputs, dropouts;
    bool outputs;      /* an output statement was there */
    int64_t steps;     /* statements carried out, against the budget of nodes */
    TrainSpec *train;
} Desc;

/* ---- modellex.c ---- */
void model_lex(Desc *d);
/* "line 3, column 5: ..."; once a place and message. Nothing more is said in this statement. */
void model_error(Desc *d, const Tok *at, int code, const char *help, const char *fmt, ...) GD_PRINTF(5, 6);
void model_expected(Desc *d, const char *what); /* ..., not "x" */
const char *model_place(Desc *d, const char *s); /* line 3, column 5 */
const char *model_nearest(const char *word, const char *const *names, int n); /* NULL: none is near */
const Tok *model_peek(Desc *d);
bool model_is(Desc *d, const char *punct_or_word);
bool model_take(Desc *d, const char *punct_or_word);
bool model_want(Desc *d, const char *punct);
const char *model_word(Desc *d, const char *what); /* NULL after an error */
bool model_line_ends(Desc *d);

/* ---- modelexpr.c ---- */
Opnd model_expression(Desc *d);
Opnd model_primary(Desc *d);                         /* one operand: a number, a name, (an expression) */
Opnd model_named(Desc *d, const char *name, const Tok *at);
Opnd opnd_value(Desc *d, Value *v);                  /* bad when its node failed */
Opnd opnd_bad(void);
Value *model_tensor(Desc *d, const Opnd *o, const Value *like); /* a number becomes a constant of like's dtype; NULL: none */
Expr *opnd_dim(Desc *d, const Opnd *o);              /* NULL: no size */

/* ---- model.c ---- */
Graph *model_graph(Ctx *c, const char *text, size_t n, const char *name, const FrontOptions *o);
bool model_block(Desc *d, const char *name);         /* is there such a block? */
Opnd model_use_block(Desc *d, const char *name, const Tok *at, int n, const Opnd *arg, int nkeys, const char *const *key,
                     const Opnd *value);
Expr *model_dim(Desc *d, const char *name);          /* the size of that name, made when it is new */

/* conv1, conv2, ... behind the prefix with PyTorch; conv2d, conv2d_1, ... with Keras: the first that is free. */
const char *model_unused_name(Desc *d, const char *base);

/* ---- modeltrain.c ---- */
void model_train(Desc *d);

/* ---- modelcall.c: layers ---- */

typedef struct ArgDef {
    const char *name;
    char kind;         /* n whole number, f number, s size (3x3), p padding, w word, b yes or no, i initialiser, l list */
    double def;        /* n, f, b */
} ArgDef;

typedef struct Layer Layer;
typedef struct LayerRow {
    const char *name, *alias;
    int min, max;      /* inputs */
    int positions;     /* how many arguments need no name */
    bool activates;    /* takes an activation */
    ArgDef arg[MOST_ARGS];
    const char *keras, *torch; /* names of such a layer's parameters start so; NULL: it has none */
    void (*make)(Layer *l);
    const char *doc;
} LayerRow;

struct Layer {
    Desc *d;
    Graph *g;
    Ctx *c;
    const LayerRow *row;
    const Tok *at;
    int nin, nout;
    Value *in[MOST_INPUTS], *out[MOST_INPUTS];
    Opnd arg[MOST_ARGS];
    VEC(Opnd) list;    /* of the argument of kind l */
    const char *activation;
    double alpha;      /* of the activation; NAN: its own */
    const char *name;  /* name=; NULL: made */
    const char *path;  /* prefix and name of its parameters */
};

extern const LayerRow gd_layers_dense[], gd_layers_conv[], gd_layers_seq[];
const LayerRow *layer_named(const char *name);
const LayerRow *layer_at(int i);                     /* NULL past the last */
/* `conv2d 64 3x3 relu from x`, the name already read; or conv2d(x, 64, 3x3, relu) with call. */
Opnd model_layer(Desc *d, const char *name, const Tok *at, bool call);
bool layer_activation(const char *name);

bool layer_has(const Layer *l, const char *arg);
int64_t layer_int(Layer *l, const char *arg);        /* given, or the row's default */
double layer_float(Layer *l, const char *arg);
bool layer_flag(Layer *l, const char *arg);
const char *layer_text(Layer *l, const char *arg, const char *otherwise);
/* Sizes of n axes: 3, or 3x3. */
void layer_sizes(Layer *l, const char *arg, int n, int64_t otherwise, int64_t *v);
int layer_axis(Layer *l, const char *arg, int rank); /* -1 after an error */
void layer_error(Layer *l, int code, const char *help, const char *fmt, ...) GD_PRINTF(4, 5);
int64_t layer_channels(Layer *l, const Value *x, int axis); /* the size, a number; 0 after an error */

/* A parameter, by its name in Keras and in PyTorch; init: when the layer does not say. fan 0: from the shape. */
Value *layer_param(Layer *l, const char *keras, const char *torch, DType dt, int rank, const int64_t *dim, const char *init,
                   const char *given, int64_t fan_in, int64_t fan_out);
Value *layer_buffer(Layer *l, const char *keras, const char *torch, DType dt, int rank, const int64_t *dim, const char *init);
const char *layer_uniform(Layer *l, int64_t fan);    /* PyTorch's U(-1/sqrt(fan), 1/sqrt(fan)) */
Value *layer_activate(Layer *l, const char *name, double alpha, Value *x);
void layer_number(Ctx *c, Map *attrs, const char *name, double v); /* for graph_text */
/* x W over the last axis: Keras's matrices are [in, out], PyTorch's [out, in]. */
Value *layer_through(const Layer *l, Graph *g, Value *x, Value *w);
/* A form of ONNX: attributes are ints, floats and strings by name. */
Value *layer_onnx(Layer *l, const char *op, int nin, Value *const *in, int nattr, const ImportAttr *attr, int nout, Value **out);
ImportAttr at_int(const char *name, int64_t v);
ImportAttr at_float(const char *name, double v);
ImportAttr at_string(const char *name, const char *s);
ImportAttr at_ints(Ctx *c, const char *name, int n, const int64_t *v);
#endif
