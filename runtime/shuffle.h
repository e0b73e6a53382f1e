/* The order of records: a pure function of its arguments, the same on every machine (Philox 4x32-10,
 * Fisher-Yates). */
#ifndef GRADC_SHUFFLE_H
#define GRADC_SHUFFLE_H
#include <stdint.h>

/* Puts the n records into the order of one epoch. What comes out depends on seed, epoch and the order that
 * comes in. */
void gradc_shuffle(uint64_t seed, uint64_t epoch, int64_t *records, int64_t n);
#endif
