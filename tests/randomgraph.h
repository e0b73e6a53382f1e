/* Random graphs for differential tests: the same seed gives the same graph, and no node fails. */
#ifndef RANDOMGRAPH_H
#define RANDOMGRAPH_H
#include "graph.h"
#include "loop.h"
#include "randomprogram.h"

Graph *random_graph(Ctx *c, uint64_t seed);
/* Runs its program on inputs made from the seed: the bytes of all outputs one after the other; the status. */
int random_graph_run(Ctx *c, const Program *p, uint64_t seed, char *out, size_t max, size_t *n);
#endif
