/* Fisher-Yates from the end: position i swaps with one of 0..i, drawn from a word of 64 bits that depends on
   (seed, epoch, i) only. The word is scaled down by a multiplication; no value's chance is off by more than
   one part in 2^64 / n. */
#include "shuffle.h"
#include "tensor.h"

enum { SHUFFLE = 0x73687566 }; /* a stream of its own beside the model's random numbers */

/* The upper 64 bits of a product of 128: schoolbook on halves. */
static uint64_t scale(uint64_t a, uint64_t b) {
    uint64_t low = (uint32_t)a * (b & 0xffffffff), middle = (a >> 32) * (b & 0xffffffff) + (low >> 32);
    uint64_t other = (uint32_t)a * (b >> 32) + (middle & 0xffffffff);
    return (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
}

void gradc_shuffle(uint64_t seed, uint64_t epoch, int64_t *records, int64_t n) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int64_t i = n - 1; i > 0; i--) {
        uint32_t counter[4] = {(uint32_t)i, (uint32_t)((uint64_t)i >> 32), (uint32_t)epoch,
                               SHUFFLE ^ (uint32_t)(epoch >> 32)},
                 w[4];
        gradc_philox(counter, key, w);
        int64_t j = (int64_t)scale((uint64_t)w[1] << 32 | w[0], (uint64_t)i + 1), t = records[i];
        records[i] = records[j];
        records[j] = t;
    }
}
