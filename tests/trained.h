/* Two small models that learn, one of images and one of sequences, and their data, in the directory of scratch.h. Together they
   have what makes training hard to repeat: dropout, running statistics, recurrences, momentum, slots, schedules, clipping,
   accumulated gradients, and a last batch of fewer samples. After cmocka.h and scratch.h. */
#ifndef GRADC_TRAINED_H
#define GRADC_TRAINED_H
#include "tensor.h"

enum { IMAGES = 43, SIDE = 12, SEQUENCES = 43, TIME = 7, WIDTH = 5 };

static const char cnn_model[] = "model cnn\n"
                                "semantics torch\n"
                                "input image: f32[N, 1, 12, 12]\n"
                                "conv2d 8 3x3 pad=1 bias=false\n"
                                "batchnorm relu\n"
                                "maxpool 2x2\n"
                                "conv2d 12 3x3 pad=1 relu\n"
                                "dropout .25\n"
                                "flatten\n"
                                "dense 10\n"
                                "train\n"
                                "    loss cross_entropy label_smoothing=0.1\n"
                                "    optimizer sgd lr=0.05 momentum=0.9 nesterov=1 weight_decay=5e-4\n"
                                "    schedule cosine steps=100 unit=step\n"
                                "    metrics accuracy\n"
                                "    clip global=1\n"
                                "    batch 8\n";

static const char rnn_model[] = "model rnn\n"
                                "input x: f32[N, 7, 5]\n"
                                "lines = lstm 6 sequence\n"
                                "hidden = zeros(N, 4)\n"
                                "for x in lines along 1 {\n"
                                "    joined = concat(x, hidden)\n"
                                "    hidden = dense(joined, 4, tanh, name=cell)\n"
                                "}\n"
                                "dense 3 softmax from hidden\n"
                                "train\n"
                                "    loss sparse_categorical_crossentropy\n"
                                "    optimizer adam lr=0.01 amsgrad=1\n"
                                "    metrics accuracy\n"
                                "    accumulate 2\n"
                                "    batch 8\n";

static inline void next_word(uint32_t counter[4], uint32_t word[4]) {
    static const uint32_t key[2] = {7, 0};
    counter[0]++;
    gradc_philox(counter, key, word);
}

/* Class k has a bright row k. */
static inline void make_images(const char *folder) {
    static unsigned char x[16 + IMAGES * SIDE * SIDE], y[8 + IMAGES];
    char name[200];
    uint32_t counter[4] = {0}, word[4];
    memcpy(x, (unsigned char[16]){0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE}, 16);
    memcpy(y, (unsigned char[8]){0, 0, 8, 1, 0, 0, 0, IMAGES}, 8);
    for (int r = 0; r < IMAGES; r++) {
        y[8 + r] = (unsigned char)(r % 10);
        for (int i = 0; i < SIDE * SIDE; i++) {
            next_word(counter, word);
            x[16 + r * SIDE * SIDE + i] = i / SIDE == r % 10 ? 255 : (unsigned char)(word[0] & 63);
        }
    }
    snprintf(name, sizeof name, "%s/train-images-idx3-ubyte", folder);
    put(name, x, sizeof x);
    snprintf(name, sizeof name, "%s/train-labels-idx1-ubyte", folder);
    put(name, y, sizeof y);
}

/* Raw records: f32[TIME, WIDTH], then the class, by which one column is higher. */
static inline void make_sequences(const char *name) {
    static struct { float x[TIME * WIDTH]; int32_t y; } all[SEQUENCES];
    uint32_t counter[4] = {1u << 30}, word[4];
    for (int r = 0; r < SEQUENCES; r++) {
        all[r].y = r % 3;
        for (int i = 0; i < TIME * WIDTH; i++) {
            next_word(counter, word);
            all[r].x[i] = (float)(word[0] >> 8) / (1 << 24) + (float)(i % WIDTH == r % 3);
        }
    }
    put(name, all, sizeof all);
}

/* SPECs of the two. */
static inline const char *images_spec(void) {
    static char s[300];
    snprintf(s, sizeof s, "idx:%s", dir);
    return s;
}
static inline const char *sequences_spec(void) {
    static char s[300];
    snprintf(s, sizeof s, "raw:%s/sequences,x=f32[7,5],y=i32[]", dir);
    return s;
}

static inline int make_trained(void **state) {
    if (make_dir(state)) return -1;
    put("cnn.model", cnn_model, strlen(cnn_model));
    put("rnn.model", rnn_model, strlen(rnn_model));
    make_images(".");
    make_sequences("sequences");
    return 0;
}

/* All bytes of a file of the directory; the caller frees them. */
static inline char *bytes_of(const char *name, size_t *n) {
    FILE *f = fopen(at(name), "rb");
    if (!f) fail_msg("%s is not there", name);
    char *p = malloc(1 << 22);
    *n = fread(p, 1, 1 << 22, f);
    fclose(f);
    return p;
}

static inline void same_files(const char *a, const char *b) {
    size_t n, m;
    char *p = bytes_of(a, &n), *q = bytes_of(b, &m);
    if (n != m || memcmp(p, q, n)) fail_msg("%s and %s differ", a, b);
    free(p);
    free(q);
}
#endif
