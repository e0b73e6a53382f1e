/* Fisher-Yates from the end: position i swaps with one of 0..i, drawn from a word of 64 bits that depends on
   (seed, epoch, i) only. The word is scaled down by a multiplication; no value's chance is off by more than
   one part in 2^64 / n. */
#include "shuffle.h"
#include "tensor.h"
#include <math.h>
#include <stdlib.h>

enum {
    SHUFFLE = 0x73687566,
    SPLIT = 0x73706c74
}; /* streams of their own beside the model's random numbers */

/* The upper 64 bits of a product of 128: schoolbook on halves. */
static uint64_t scale(uint64_t a, uint64_t b) {
    uint64_t low = (uint32_t)a * (b & 0xffffffff), middle = (a >> 32) * (b & 0xffffffff) + (low >> 32);
    uint64_t other = (uint32_t)a * (b >> 32) + (middle & 0xffffffff);
    return (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
}

static void permute(uint32_t stream, uint64_t seed, uint64_t epoch, int64_t *records, int64_t n) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t counter[4] = {(uint32_t)i, (uint32_t)((uint64_t)i >> 32), (uint32_t)epoch,
                               stream ^ (uint32_t)(epoch >> 32)},
                 w[4];
        gradc_philox(counter, key, w);
        int64_t j = (int64_t)scale((uint64_t)w[1] << 32 | w[0], (uint64_t)i + 1), t = records[i];
        records[i] = records[j];
        records[j] = t;
    }
}

void gradc_shuffle(uint64_t seed, uint64_t epoch, int64_t *records, int64_t n) {
    permute(SHUFFLE, seed, epoch, records, n);
}

static int rising(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t gradc_split(int64_t n, double fraction, int seeded, uint64_t seed, int64_t *records) {
    if (!(fraction > 0)) fraction = 0;
    if (fraction > 1) fraction = 1;
    int64_t train = (int64_t)floor((double)n * (1.0 - fraction));
    if (train < 1 && n > 0) train = 1;
    for (int64_t i = 0; i < n; i++) records[i] = i;
    if (!seeded || train == n) return train;
    permute(SPLIT, seed, 0, records, n);
    qsort(records, (size_t)train, sizeof *records, rising);
    qsort(records + train, (size_t)(n - train), sizeof *records, rising);
    return train;
}
