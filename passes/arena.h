/* Packing pieces of memory that live for a while into one line of bytes: the numbers behind `plan`. */
#ifndef GD_ARENA_H
#define GD_ARENA_H
#include "base.h"

enum { PLACE = 64 }; /* every piece starts at a multiple */

typedef struct Piece {
    int first, last;   /* alive, both ends included */
    int64_t size;      /* a multiple of PLACE */
    int64_t at;        /* where it was put */
    int64_t rank;      /* order of placing: largest first */
} Piece;

/* Sets at of every piece so that no two overlap in both time and place; returns the end of the last. */
int64_t arena_pack(Ctx *c, int n, Piece *pieces);
#endif
