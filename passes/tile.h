/* Between tile.c, which finds the nests and decides, and sink.c, which rewrites them. */
#ifndef GD_TILE_H
#define GD_TILE_H
#include "nest.h"

enum { MAX_AXES = 16, MAX_INNER = 4, MOST_LANES = 16 /* of a reduction, see lower_lanes */ };

/* One loop of a nest, as it is to be split. A plain axis has no inner part. */
typedef struct Axis {
    Var *var;
    Expr *trip;
    int vectors;     /* vector axis: vectors in a tile; 0: not the vector axis */
    int64_t rows;    /* iterations in a tile, 0: none */
    bool innermost;  /* of a nest without a reduction: the tile is the loop itself */
} Axis;

typedef struct Plan {
    int n;
    Axis axis[MAX_AXES]; /* in the order of the loops to be made, outermost first */
    int lanes;
} Plan;

/* Emits the nest `body` under the axes' loops into `to`: main parts and what is left over, tile loops moved inside. */
void sink_nest(Program *p, const Plan *plan, Block *body, Block *to);
/* Can body be moved into tile loops at all? lanes: also when it has free loops of its own, short ones. */
bool sink_possible(Ctx *c, Block *body, bool lanes);
int64_t sink_registers(const Block *body); /* that an element of a tile needs */

/* kblock.c: a reduction whose operands do not stay in the cache, in blocks, emitted into `to`. false: it stays as it is. */
bool block_reduction(Program *p, const Machine *m, Stmt *top, Block *to);

/* The register tile of a reduction: sets vectors and rows of the plan's axes. vec: the vector axis, row[]: axes that
   reuse its vectors, innermost first. panel: bytes a column of one vector reads in a whole reduction. each:
   accumulators of an element. */
void choose_tile(Plan *plan, const Machine *m, int vec, int nrow, const int *row, int64_t panel, int64_t each);
int64_t trip_guess(const Expr *trip); /* the number, or what to assume for a symbolic one */
#endif
