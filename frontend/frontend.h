/* Who comes in: a model file of any format becomes a graph.

   The format is recognised by what is in the file, then by the end of its name. Every reader reports all
   problems it finds (gd_error) and leaves when there were any, so a graph that is returned is sound. */
#ifndef GD_FRONTEND_H
#define GD_FRONTEND_H
#include "graph.h"
#include "tensor.h"

/* The training algorithm that a model brings itself (ONNX's training information), where states are asked for: none of it; what
   it trains is state, nothing else; its step goes on where the model ends. */
typedef enum OwnUse { OWN_NONE, OWN_STATES, OWN_ALGORITHM } OwnUse;
typedef struct FrontOptions {
    /* Of --dim: "NAME=8", "NAME=1..64", "NAME=0..inf"; NULL-ended, may be NULL. A dim that the model leaves
       open goes by the model's name for it, else by INPUT_dimAXIS: x_dim0. */
    const char *const *dims;
    bool fixed;    /* --static: every open dim is 1 */
    bool symbolic; /* --symbolic: every dim of an input is open, also those that the model gives as numbers */
    /* Inputs that become constants, by their position; NULL: stays an input. Kept, not copied. */
    const GradcTensor *const *given;
    int ngiven;
    /* Float weights become states (ir/train.h) instead of constants: a model that trains. */
    bool states;
    /* Layers behave as in training: dropout drops, normalisation uses and moves the batch's statistics. Asks for states. */
    bool training;
    OwnUse own;
    bool last;     /* the file's bytes are not needed for another graph: they are given back */
    const char *prefix; /* the graph's name, an identifier; NULL: made from the file's name */
} FrontOptions;

typedef enum FrontFormat { FF_UNKNOWN, FF_ONNX, FF_ONNX_TEXT, FF_GRAPH_TEXT, FF_LOOP_TEXT, FF_MODEL } FrontFormat;
/* A file as found: path "-" is stdin. */
typedef struct FrontFile {
    const char *path;
    FrontFormat format;
    char *bytes;
    size_t n;
} FrontFile;
FrontFile front_open(Ctx *c, const char *path);
/* Makes the graph. Loop IR text is no graph (E102): its reader is loop_parse. */
Graph *front_graph(Ctx *c, const FrontFile *f, const FrontOptions *o);
Graph *front_read(Ctx *c, const char *path, const FrontOptions *o);
/* Letters, digits and _ of s, at most 40, no digit first; otherwise when there are none. */
const char *front_identifier(Ctx *c, const char *s, const char *otherwise);
#endif
