/* Classifies the Fashion-MNIST test images with the compiled model and prints accuracy, speed and arena size.
 *
 *     classify [IMAGES LABELS [BATCH]]
 *
 * The two files are gzipped idx files, as the data set is published. What the model asks of a program is in
 * classify(): fill the inputs, hand over an arena, call run. Only the run calls are timed. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, posix_memalign */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <zlib.h>

#include "fashion_cnn.h"

#define DATA "/usr/share/datasets/fashion-mnist/t10k-"

enum { SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, MAX_ITEMS = 1000000, MAX_BATCH = 65536 };
enum { ALIGNMENT = 64 }; /* of the arena: a cache line, and the widest vector */

typedef struct {
    size_t count;
    uint8_t *bytes;
} Items;

static void fail(const char *subject, const char *what) {
    fprintf(stderr, "classify: %s: %s\n", subject, what);
    exit(1);
}

/* malloc would do for all but the arena; one way for the four buffers keeps the program short. */
static void *allocate(size_t size) {
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, size > 0 ? size : 1)) fail("memory", "not enough of it");
    return memory;
}

static size_t big_endian(const uint8_t *p) {
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* gzread counts in int: MAX_ITEMS images are 784 MB, which fits. */
static void read_exactly(gzFile file, const char *path, uint8_t *bytes, size_t size) {
    if (gzread(file, bytes, (unsigned)size) != (int)size) fail(path, "cut short, or damaged");
}

/* An idx file is two zero bytes, the element type (8: unsigned bytes), the rank, the sizes in big endian, the
 * items. An item is an image at rank 3 and a label at rank 1. */
static Items load(const char *path, unsigned rank) {
    Items items;
    uint8_t header[16];
    size_t item = rank == 3 ? PIXELS : 1;
    gzFile file = gzopen(path, "rb");
    if (!file) fail(path, "cannot be opened");
    read_exactly(file, path, header, 4 + 4 * rank);
    if (header[0] || header[1] || header[2] != 8 || header[3] != rank)
        fail(path, rank == 3 ? "not an idx file of images" : "not an idx file of labels");
    if (rank == 3 && (big_endian(header + 8) != SIDE || big_endian(header + 12) != SIDE))
        fail(path, "its images are not 28 x 28");
    items.count = big_endian(header + 4);
    if (items.count == 0 || items.count > MAX_ITEMS) fail(path, "says it holds no items, or over a million");
    items.bytes = allocate(items.count * item);
    read_exactly(file, path, items.bytes, items.count * item);
    /* One byte more must meet the end: only then has zlib compared the checksum. */
    if (gzread(file, header, 1) != 0 || gzclose(file) != Z_OK) fail(path, "damaged, or longer than it says");
    return items;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int likeliest(const float *probabilities) {
    int best = 0;
    for (int c = 1; c < CLASSES; c++)
        if (probabilities[c] > probabilities[best]) best = c;
    return best;
}

static void classify(Items images, Items labels, size_t batch) {
    float *pixels = allocate(batch * PIXELS * sizeof *pixels);
    float *probabilities = allocate(batch * CLASSES * sizeof *probabilities);
    fashion_cnn_inputs in = { .N = (int64_t)batch, .image = pixels };
    fashion_cnn_outputs out = { .output = probabilities };
    size_t arena_bytes = fashion_cnn_arena_bytes(&in); /* the last batch may be shorter, and needs no more */
    void *arena = allocate(arena_bytes);
    size_t hits = 0;
    double spent = 0;
    for (size_t first = 0; first < images.count; first += batch) {
        size_t n = images.count - first < batch ? images.count - first : batch;
        const uint8_t *bytes = images.bytes + first * PIXELS;
        for (size_t i = 0; i < n * PIXELS; i++) pixels[i] = (float)bytes[i] / 255.0f;
        in.N = (int64_t)n;
        double start = seconds();
        if (fashion_cnn_run(&in, &out, arena)) fail("fashion_cnn_run", "refused the batch");
        spent += seconds() - start;
        for (size_t i = 0; i < n; i++)
            hits += likeliest(probabilities + i * CLASSES) == labels.bytes[first + i];
    }
    double count = (double)images.count;
    printf("accuracy  %.2f %% (%zu of %zu)\n", 100.0 * (double)hits / count, hits, images.count);
    printf("speed     %.0f images/s in batches of %zu\n", spent > 0 ? count / spent : 0.0, batch);
    printf("arena     %zu bytes\n", arena_bytes);
    free(arena);
    free(probabilities);
    free(pixels);
}

int main(int argc, char **argv) {
    char *end = NULL;
    long batch = argc == 4 ? strtol(argv[3], &end, 10) : 100;
    if ((argc != 1 && argc != 3 && argc != 4) || (end && *end) || batch < 1 || batch > MAX_BATCH) {
        fprintf(stderr, "usage: classify [IMAGES.gz LABELS.gz [BATCH]], BATCH from 1 to %d\n", MAX_BATCH);
        return 2;
    }
    Items images = load(argc > 1 ? argv[1] : DATA "images-idx3-ubyte.gz", 3);
    Items labels = load(argc > 1 ? argv[2] : DATA "labels-idx1-ubyte.gz", 1);
    if (labels.count != images.count) fail("labels", "not as many as there are images");
    classify(images, labels, (size_t)batch < images.count ? (size_t)batch : images.count);
    free(labels.bytes);
    free(images.bytes);
    return 0;
}
