/* The parts of `plan`: packing pieces of memory that live for a while into one line of bytes, and the
   question whether two of them may be one. */
#ifndef GD_ARENA_H
#define GD_ARENA_H
#include "loop.h"

enum { PLACE = 64 }; /* every piece starts at a multiple */

typedef struct Piece {
    int first, last; /* alive, both ends included */
    int64_t size;    /* a multiple of PLACE */
    int64_t at;      /* where it was put */
    int64_t rank;    /* order of placing: largest first */
} Piece;

/* Sets at of every piece so that no two overlap in both time and place; returns the end of the last. */
int64_t arena_pack(Ctx *c, int n, Piece *pieces);

/* May y lie where x lies, if the nest is the last to read x and the first to write y? (inplace.c) */
bool may_replace(Ctx *c, const Stmt *nest, const Buf *x, const Buf *y);
#endif
