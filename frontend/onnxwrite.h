/* A graph to an ONNX file for inference: ir/export.h says what nodes, this what bytes. */
#ifndef GD_ONNXWRITE_H
#define GD_ONNXWRITE_H
#include "graph.h"
#include "train.h"

/* The file's bytes. g: as front_graph makes it, before any pass; of a trainable model the program that infers. States become
   initialisers under their names, from param (may be NULL) or from the constants the model brought. Leaves with all problems
   at once. */
char *onnx_bytes(Ctx *c, Graph *g, StateData *param, void *arg, size_t *n);
/* All or nothing, as gd_write_file. */
void onnx_write(Ctx *c, Graph *g, StateData *param, void *arg, const char *path);
#endif
