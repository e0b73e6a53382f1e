/* A first-fit allocator over a row of blocks: header, bytes, header, bytes ... A header takes one cache line,
   so what follows it is aligned. Neighbouring free blocks are joined while searching, so no list has to be
   kept; a search looks at every block at most once. */
#include "heap.h"

enum { HEAP_LINE = 64 };

typedef struct HeapBlock {
    size_t bytes; /* with this header */
    size_t used;
} HeapBlock;

static HeapBlock *heap_block(const GradcHeap *h, size_t at) { return (HeapBlock *)(void *)(h->base + at); }

void gradc_heap_init(GradcHeap *h, void *memory, size_t bytes) {
    size_t skip = (size_t)(-(uintptr_t)memory & (HEAP_LINE - 1));
    h->base = memory ? (unsigned char *)memory + (skip < bytes ? skip : 0) : NULL;
    h->bytes = memory && skip < bytes ? (bytes - skip) & ~(size_t)(HEAP_LINE - 1) : 0;
    if (h->bytes == 0) return;
    heap_block(h, 0)->bytes = h->bytes;
    heap_block(h, 0)->used = 0;
}

void *gradc_heap_alloc(GradcHeap *h, size_t bytes) {
    size_t at, need;
    if (bytes > h->bytes) return NULL;
    need = (bytes + HEAP_LINE - 1 + HEAP_LINE) & ~(size_t)(HEAP_LINE - 1);
    for (at = 0; at < h->bytes; at += heap_block(h, at)->bytes) {
        HeapBlock *b = heap_block(h, at);
        if (b->used) continue;
        while (at + b->bytes < h->bytes && !heap_block(h, at + b->bytes)->used)
            b->bytes += heap_block(h, at + b->bytes)->bytes;
        if (b->bytes < need) continue;
        if (b->bytes > need) {
            HeapBlock *rest = heap_block(h, at + need);
            rest->bytes = b->bytes - need;
            rest->used = 0;
            b->bytes = need;
        }
        b->used = 1;
        return (unsigned char *)(void *)b + HEAP_LINE;
    }
    return NULL;
}

void gradc_heap_free(GradcHeap *h, void *p) {
    (void)h;
    if (p) ((HeapBlock *)(void *)((unsigned char *)p - HEAP_LINE))->used = 0;
}
