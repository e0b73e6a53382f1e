/* Random loop programs for differential tests: every access is inside its buffer, every temporary is written
   before it is read, and the same seed gives the same program. */
#ifndef RANDOMPROGRAM_H
#define RANDOMPROGRAM_H
#include "loop.h"

typedef struct Random {
    uint64_t state;
} Random;
static inline uint32_t random_next(Random *r) { /* splitmix64 */
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 16);
}
static inline int random_below(Random *r, int n) { return (int)(random_next(r) % (uint32_t)n); }

Program *random_program(Ctx *c, uint64_t seed);
/* Runs it on inputs made from the seed. Outputs one after the other; the status. */
int random_run(Ctx *c, Program *p, uint64_t seed, float *out, int *n);
enum { RANDOM_MAX_OUT = 4096 };
#endif
