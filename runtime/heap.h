/* Memory for buffers whose size only the data decides, inside the tail of a program's arena. Deterministic:
   the same calls give the same offsets. A GradcHeap lives on the stack of `run`; everything else stands in
   the region itself. The C sources that need it carry this file and heap.c as static functions. */
#ifndef GRADC_HEAP_H
#define GRADC_HEAP_H
#include <stddef.h>
#include <stdint.h>

typedef struct GradcHeap {
    unsigned char *base; /* the first block, on a cache line */
    size_t bytes;        /* of all blocks, a multiple of 64 */
} GradcHeap;

void gradc_heap_init(GradcHeap *h, void *memory, size_t bytes);
/* Aligned to 64 bytes; NULL when no free block is large enough. An allocation of no bytes is a place of its
 * own. */
void *gradc_heap_alloc(GradcHeap *h, size_t bytes);
void gradc_heap_free(GradcHeap *h, void *p); /* p may be NULL */
#endif
