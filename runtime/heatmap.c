/* Saliency maps as pictures: gradc_saliency_write of attack.h. */
#include "attack.h"
#include "png.h"
#include <stdlib.h>

enum { WANTED = 224, GAP = 4 /* pixels between the two halves */ };

/* From what does not matter to what does: black, blue, red, orange, pale yellow; straight lines between them. */
static void colour(double v, double rgb[3]) {
    static const double anchor[5][3] = {{0, 0, 4}, {60, 24, 120}, {190, 50, 80}, {250, 140, 30}, {255, 250, 190}};
    double at = (v > 0 ? v < 1 ? v : 1 : 0) * 4;
    int i = at < 4 ? (int)at : 3;
    for (int k = 0; k < 3; k++) rgb[k] = anchor[i][k] + (anchor[i + 1][k] - anchor[i][k]) * (at - i);
}

static uint8_t byte(double v) { return (uint8_t)(v > 0 ? v < 255 ? v + 0.5 : 255 : 0); }

static double value(const GradcTensor *t, int64_t i) {
    return t->dtype == GRADC_F32 ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}

typedef struct Picture {
    const GradcTensor *map, *image;
    int64_t sample, h, w, channels;
    bool last;
    double lo, hi;
} Picture;

/* Pixel of the image, 0 to 255 a channel: RGB of three channels, else gray of the first. */
static void pixel(const Picture *p, int64_t y, int64_t x, double rgb[3]) {
    for (int k = 0; k < 3; k++) {
        int64_t c = p->channels == 3 ? k : 0, plane = p->h * p->w, at = y * p->w + x;
        int64_t i = p->sample * p->channels * plane + (p->last ? at * p->channels + c : c * plane + at);
        rgb[k] = 255 * (value(p->image, i) - p->lo) / (p->hi > p->lo ? p->hi - p->lo : 1);
    }
}

static int fits(Picture *p, GradcError *e) {
    const GradcTensor *m = p->map, *t = p->image;
    bool map = m->dtype == GRADC_F32 && m->rank == 3 && p->sample >= 0 && p->sample < m->dims[0];
    if (!map) return gradc_error(e, 603, NULL, "there is no map of sample %lld", (long long)p->sample);
    p->h = m->dims[1];
    p->w = m->dims[2];
    if (!t) return 0;
    p->channels = t->rank != 4 ? 1 : t->dims[p->last ? 3 : 1];
    bool floats = t->dtype == GRADC_F32 || t->dtype == GRADC_F64;
    if (!floats || t->rank < 2 || t->dims[0] != m->dims[0] || !p->channels ||
        gradc_tensor_count(t) != gradc_tensor_count(m) * (size_t)p->channels)
        return gradc_error(e, 603, NULL, "the image does not have the map's size");
    return 0;
}

static void draw(const Picture *p, int64_t zoom, int64_t width, uint8_t *out) {
    const float *map = (const float *)p->map->data + p->sample * p->h * p->w;
    int64_t right = p->image ? p->w * zoom + GAP : 0;
    for (int64_t y = 0; y < p->h * zoom; y++)
        for (int64_t x = 0; x < p->w * zoom; x++) {
            double v = (double)map[y / zoom * p->w + x / zoom], heat[3], rgb[3] = {0};
            colour(v, heat);
            if (p->image) pixel(p, y / zoom, x / zoom, rgb);
            /* Rec. 709 luma under the map, which covers more the more it says */
            double gray = 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2], cover = p->image ? 0.35 + 0.55 * v : 1;
            for (int k = 0; k < 3; k++) {
                if (p->image) out[(y * width + x) * 3 + k] = byte(rgb[k]);
                out[(y * width + right + x) * 3 + k] = byte(heat[k] * cover + gray * (1 - cover));
            }
        }
}

int gradc_saliency_write(const char *path, const GradcTensor *map, int64_t sample, const GradcTensor *image,
                         bool channels_last, double lo, double hi, GradcError *e) {
    Picture p = {.map = map, .image = image, .sample = sample, .last = channels_last, .lo = lo, .hi = hi};
    int status = fits(&p, e);
    if (status) return status;
    int64_t side = p.h > p.w ? p.h : p.w, zoom = side && side < WANTED ? (WANTED + side - 1) / side : 1;
    int64_t width = p.w * zoom * (image ? 2 : 1) + (image ? GAP : 0);
    uint8_t *out = calloc((size_t)(width * p.h * zoom) + 1, 3);
    if (!out) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    draw(&p, zoom, width, out);
    status = gradc_png_write(path, width, p.h * zoom, out, e);
    free(out);
    return status;
}
