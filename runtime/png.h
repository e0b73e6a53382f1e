/* Images as PNG files (W3C Recommendation PNG, second edition): 8-bit RGB, not interlaced, compressed by zlib. */
#ifndef GRADC_PNG_H
#define GRADC_PNG_H
#include "tensor.h"

/* rgb: rows from the top, three bytes a pixel. All or nothing. */
int gradc_png_write(const char *path, int64_t width, int64_t height, const uint8_t *rgb, GradcError *e);
#endif
