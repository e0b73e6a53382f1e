/* A model with the loss that its gradient is asked of, as one graph: for what looks at gradients themselves (gradcheck,
   check --train) rather than at a program that trains. */
#ifndef GD_GRADMODEL_H
#define GD_GRADMODEL_H
#include "grad.h"
#include "session.h"
#include "train.h"

/* What has a gradient: a parameter, or an input of floats. */
typedef struct GradSubject { Value *v; const char *name; bool param; } GradSubject;

typedef struct GradModel {
    Graph *g;             /* without outputs */
    Value *loss;
    const char *about;    /* what the loss is, for people */
    Graph *init;          /* makes the states' first values: an output each, in the order of g->states */
    VEC(GradSubject) subjects;
    Value *target;        /* the input that the loss, or the algorithm, added; NULL: none */
    int64_t classes;      /* it holds class numbers below this; 0: it does not */
} GradModel;

/* Reads b's file (opened) as a model that trains, its layers in their training behaviour unless --part says otherwise. The
   loss is the description's, an option's, that of the model's own training algorithm, or else the sum of all outputs, each
   element times a fixed number of its own. wide: in double (graph_widen). */
void grad_model(Build *b, bool wide, GradModel *m);
#endif
