/* The order of records: pure functions of their arguments, the same on every machine (Philox 4x32-10,
 * Fisher-Yates). */
#ifndef GRADC_SHUFFLE_H
#define GRADC_SHUFFLE_H
#include <stdint.h>

/* Puts the n records into the order of one epoch. What comes out depends on seed, epoch and the order that
 * comes in. */
void gradc_shuffle(uint64_t seed, uint64_t epoch, int64_t *records, int64_t n);

/* 0, 1 ... n-1 into records; returns how many of them, the first, are for training: floor(n * (1 -
   fraction)), as Keras splits. The rest are for validation, in rising order. seeded: which records go where
   is drawn (from seed), else the last ones validate. fraction is held to 0..1, and at least one record trains
   where there is one. */
int64_t gradc_split(int64_t n, double fraction, int seeded, uint64_t seed, int64_t *records);
#endif
