/* Attacks and saliency on a linear model, whose answers are known: loss = t * sum w x, so d_x = t w. Images as PNG. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "attack.h"
#include "png.h"

enum { C = 2, H = 1, W = 4, N = C * H * W };
static const float w[N] = {1, -2, 0, .5f, -1, 3, 0, -.25f};

static size_t no_arena(const int64_t *syms) { (void)syms; return 0; }
static void out_dims(const int64_t *syms, int64_t *dims) {
    const int64_t all[] = {1, C, H, W};
    (void)syms;
    for (int i = 0; i < 4; i++) dims[i] = all[i];
}
static int run(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t bytes) {
    const float *x = ins[0], t = *(const float *)ins[1];
    float loss = 0, *dx = outs[1];
    (void)syms, (void)arena, (void)bytes;
    for (int i = 0; i < N; i++) {
        loss += t * w[i] * x[i];
        dx[i] = t * w[i];
    }
    *(float *)outs[0] = loss;
    return 0;
}
static const char *status_text(int status) { return status ? "failed" : "ok"; }

static const int64_t image[] = {1, C, H, W};
static const GradcPort in[] = {{"x", GRADC_F32, 4, image}, {"target", GRADC_F32, 0, NULL}};
static const GradcPort out[] = {{"batch_loss", GRADC_F32, 0, NULL}, {"d_x", GRADC_F32, 4, image}};
static const GradcProgram linear = {.name = "linear",
                                    .version = "1",
                                    .nin = 2,
                                    .nout = 2,
                                    .in = in,
                                    .out = out,
                                    .out_dims = out_dims,
                                    .arena_bytes = no_arena,
                                    .run = run,
                                    .status_text = status_text};

static GradcCall call;
static const float start[N] = {.5f, .5f, .5f, .5f, .05f, .95f, 1, 0};

static int open_call(void **state) {
    (void)state;
    GradcError e;
    GradcTensor x, t;
    assert_int_equal(gradc_call_open(&call, &linear, &e), 0);
    assert_int_equal(gradc_tensor_new(&x, GRADC_F32, 4, image, &e), 0);
    assert_int_equal(gradc_tensor_new(&t, GRADC_F32, 0, NULL, &e), 0);
    memcpy(x.data, start, sizeof start);
    *(float *)t.data = 1;
    assert_int_equal(gradc_call_set(&call, 0, &x, &e), 0);
    assert_int_equal(gradc_call_set(&call, 1, &t, &e), 0);
    return 0;
}
static int close_call(void **state) {
    (void)state;
    gradc_call_close(&call);
    return 0;
}

/* What eps and the valid range 0 to 1 leave of a move along the sign of s * w. */
static double expected(int i, double eps, double s) {
    double v = start[i] + (w[i] > 0 ? s : w[i] < 0 ? -s : 0) * eps;
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

static void check(const GradcAttack *a, double eps, double s) {
    GradcTensor t;
    GradcError e;
    GradcAttackResult r;
    assert_int_equal(gradc_attack(&call, "x", a, &t, &r, &e), 0);
    for (int i = 0; i < N; i++) assert_true(fabs((double)((float *)t.data)[i] - expected(i, eps, s)) < 1e-6);
    assert_true(s > 0 ? r.after > r.before : r.after < r.before);
    assert_true(fabs(r.largest - eps) < 1e-6);
    assert_memory_equal(call.in[0].data, start, sizeof start); /* as it was */
    gradc_tensor_free(&t);
}

static void fgsm(void **state) {
    (void)state;
    check(&(GradcAttack){.eps = .1, .lo = 0, .hi = 1}, .1, 1);
    check(&(GradcAttack){.eps = .1, .lo = 0, .hi = 1, .targeted = true}, .1, -1);
}

/* Steps that lead beyond eps end at eps; ones that do not, where they lead. */
static void pgd(void **state) {
    (void)state;
    check(&(GradcAttack){.eps = .1, .lo = 0, .hi = 1, .steps = 3, .step = .04}, .1, 1);
    check(&(GradcAttack){.eps = .1, .lo = 0, .hi = 1, .steps = 2, .step = .04}, .08, 1);
    check(&(GradcAttack){.eps = .1, .lo = 0, .hi = 1, .steps = 10}, .1, 1);
}

static void random_start(void **state) {
    (void)state;
    GradcAttack a = {.eps = .1, .lo = 0, .hi = 1, .steps = 1, .step = 1e-9, .random = true, .seed = 7};
    GradcTensor t[3];
    GradcError e;
    for (int k = 0; k < 3; k++) {
        a.seed = k == 2 ? 8 : 7;
        assert_int_equal(gradc_attack(&call, "x", &a, &t[k], NULL, &e), 0);
    }
    const float *p = t[0].data;
    for (int i = 0; i < N; i++) assert_true(fabs((double)(p[i] - start[i])) <= .1 + 1e-6 && p[i] >= 0 && p[i] <= 1);
    assert_memory_equal(t[0].data, t[1].data, t[0].bytes);
    assert_memory_not_equal(t[0].data, t[2].data, t[0].bytes);
    for (int k = 0; k < 3; k++) gradc_tensor_free(&t[k]);
}

static void refused(void **state) {
    (void)state;
    GradcTensor t;
    GradcError e;
    assert_int_equal(gradc_attack(&call, "y", &(GradcAttack){.hi = 1}, &t, NULL, &e), gradc_error_status(602));
    assert_int_equal(gradc_attack(&call, "x", &(GradcAttack){.eps = -1, .hi = 1}, &t, NULL, &e),
                     gradc_error_status(601));
    assert_int_equal(gradc_attack(&call, "x", &(GradcAttack){.eps = 1, .lo = 2, .hi = 1}, &t, NULL, &e),
                     gradc_error_status(601));
}

static void saliency(void **state) {
    (void)state;
    GradcTensor map;
    GradcError e;
    const float gradient[] = {1 / 3.f, 1, 0, .5f / 3}, product[] = {.5f / 2.85f, 1, 0, .25f / 2.85f};
    assert_int_equal(gradc_saliency(&call, "x", GRADC_SALIENCY_GRADIENT, false, &map, &e), 0);
    assert_int_equal(map.rank, 3);
    for (int i = 0; i < W; i++) assert_true(fabsf(((float *)map.data)[i] - gradient[i]) < 1e-6f);
    gradc_tensor_free(&map);
    assert_int_equal(gradc_saliency(&call, "x", GRADC_SALIENCY_PRODUCT, false, &map, &e), 0);
    for (int i = 0; i < W; i++) assert_true(fabsf(((float *)map.data)[i] - product[i]) < 1e-6f);
    gradc_tensor_free(&map);
    /* [N, H, W, C] of the same numbers: 4 channels, 1 column, 2 rows */
    assert_int_equal(gradc_saliency(&call, "x", GRADC_SALIENCY_GRADIENT, true, &map, &e), 0);
    assert_int_equal(map.dims[1], C);
    assert_int_equal(map.dims[2], H);
    assert_true(fabsf(((float *)map.data)[0] - 2 / 3.f) < 1e-6f && fabsf(((float *)map.data)[1] - 1) < 1e-6f);
    gradc_tensor_free(&map);
}

/* ---- PNG ---- */

static uint32_t word(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The rows of a PNG of this program's own kind. */
static uint8_t *read_png(const char *path, uint32_t *width, uint32_t *height) {
    uint8_t *file = malloc(1 << 20);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(file, 1, 1 << 20, f);
    fclose(f);
    assert_memory_equal(file, "\x89PNG\r\n\x1a\n", 8);
    *width = word(file + 16);
    *height = word(file + 20);
    uint32_t size = word(file + 33);
    assert_memory_equal(file + 37, "IDAT", 4);
    assert_int_equal(word(file + 41 + size), crc32(0, file + 37, size + 4));
    assert_memory_equal(file + n - 8, "IEND", 4);
    uLongf raw = (uLongf)(*width * 3 + 1) * *height;
    uint8_t *rows = malloc(raw);
    assert_int_equal(uncompress(rows, &raw, file + 41, size), Z_OK);
    free(file);
    return rows;
}

static void pictures(void **state) {
    (void)state;
    char path[] = "/tmp/gradc-test-XXXXXX";
    uint32_t width, height;
    GradcError e;
    GradcTensor map;
    const uint8_t rgb[] = {255, 0, 0, 0, 255, 0, 1, 2, 3, 4, 5, 6};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(gradc_png_write(path, 2, 2, rgb, &e), 0);
    uint8_t *rows = read_png(path, &width, &height);
    assert_int_equal(width, 2);
    assert_int_equal(height, 2);
    assert_memory_equal(rows + 1, rgb, 6);
    assert_memory_equal(rows + 8, rgb + 6, 6);
    free(rows);

    assert_int_equal(gradc_saliency(&call, "x", GRADC_SALIENCY_GRADIENT, false, &map, &e), 0);
    assert_int_equal(gradc_saliency_write(path, &map, 0, &call.in[0], false, 0, 1, &e), 0);
    rows = read_png(path, &width, &height);
    assert_int_equal(width, 2 * 224 + 4); /* 4 pixels of 56, twice, and the gap */
    assert_int_equal(height, 56);
    assert_int_equal(rows[1], 128); /* .5 */
    free(rows);
    assert_int_equal(gradc_saliency_write(path, &map, 1, NULL, false, 0, 1, &e), gradc_error_status(603));
    gradc_tensor_free(&map);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fgsm),         cmocka_unit_test(pgd),
                                       cmocka_unit_test(random_start), cmocka_unit_test(refused),
                                       cmocka_unit_test(saliency),     cmocka_unit_test(pictures)};
    return cmocka_run_group_tests(tests, open_call, close_call);
}
