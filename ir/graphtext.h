/* What the graph IR's printer, parser and verifier share. */
#ifndef GD_GRAPHTEXT_H
#define GD_GRAPHTEXT_H
#include "graph.h"

const char *value_name_text(Ctx *c, const Value *v); /* conv_17: how texts call it */
bool value_data_inline(const Value *v);              /* its elements stand beside it, not in a data section */
bool op_makes(const Op *op, int outputs); /* can a node of it have that many? */
/* The first broken invariant in words and where; NULL: none. */
const char *graph_fault(const Graph *g);
#endif
