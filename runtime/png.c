/* The writer of png.h: signature, header, one chunk of data, end. Each row goes unfiltered. */
#include "png.h"
#include "atomic.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { MAX_SIDE = 1 << 15 };

static void big_endian(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Length, type, data, checksum of type and data. */
static void chunk(GradcAtomic *f, const char *type, const uint8_t *data, size_t n) {
    uint8_t word[4];
    uLong crc = crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)n);
    big_endian(word, (uint32_t)n);
    gradc_atomic_write(f, word, 4);
    gradc_atomic_write(f, type, 4);
    gradc_atomic_write(f, data, n);
    big_endian(word, (uint32_t)crc);
    gradc_atomic_write(f, word, 4);
}

static int put(const char *path, const uint8_t *header, const uint8_t *data, size_t n, GradcError *e) {
    GradcAtomic *f = malloc(sizeof *f);
    if (!f) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    int status = gradc_atomic_open(f, path, e);
    if (!status) {
        gradc_atomic_write(f, "\x89PNG\r\n\x1a\n", 8);
        chunk(f, "IHDR", header, 13);
        chunk(f, "IDAT", data, n);
        chunk(f, "IEND", header, 0);
        status = gradc_atomic_close(f, true, e);
    }
    free(f);
    return status;
}

int gradc_png_write(const char *path, int64_t width, int64_t height, const uint8_t *rgb, GradcError *e) {
    uint8_t header[13] = {0};
    if (width < 1 || height < 1 || width > MAX_SIDE || height > MAX_SIDE)
        return gradc_error(e, 402, NULL, "%s: an image of %lld by %lld pixels", path, (long long)width,
                           (long long)height);
    size_t row = (size_t)width * 3, raw = (row + 1) * (size_t)height;
    uLongf packed = compressBound((uLong)raw);
    uint8_t *rows = malloc(raw), *data = malloc(packed);
    int status = 0;
    if (!rows || !data) status = gradc_error(e, 506, NULL, "%s: out of memory", path);
    for (int64_t y = 0; y < height && !status; y++) {
        rows[(size_t)y * (row + 1)] = 0; /* no filter */
        memcpy(rows + (size_t)y * (row + 1) + 1, rgb + (size_t)y * row, row);
    }
    if (!status && compress2(data, &packed, rows, (uLong)raw, 9) != Z_OK)
        status = gradc_error(e, 506, NULL, "%s: out of memory", path);
    big_endian(header, (uint32_t)width);
    big_endian(header + 4, (uint32_t)height);
    header[8] = 8; /* bits */
    header[9] = 2; /* RGB */
    if (!status) status = put(path, header, data, packed, e);
    free(rows);
    free(data);
    return status;
}
