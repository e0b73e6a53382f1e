/* The values of parameters, from a safetensors file. */
#ifndef GD_PARAMS_H
#define GD_PARAMS_H
#include "expr.h"

typedef struct Params Params;

/* Leaves with the problem when the file cannot be read. It is closed with the context. */
Params *params_open(Ctx *c, const char *path);
/* The elements of that tensor, for states_fix and export_graph (a StateData): NULL when it is not there, or, which is
   reported, of another dtype or shape. */
const void *params_data(void *params, const char *name, DType dt, int rank, const int64_t *dims);
#endif
