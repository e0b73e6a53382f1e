/* For the files of this room only: elements of each dtype (how they look, how numbers go in and out of them),
   and the first half of writing a file. */
#ifndef GRADC_ELEMENT_H
#define GRADC_ELEMENT_H
#include "tensor.h"

enum { FLOAT, SIGNED, UNSIGNED, BOOLEAN, COMPLEX, TEXT };
/* What the top of a float's encodings means: IEEE infinity and NaNs, one NaN of all ones, a NaN in place of
   -0, or only numbers. POWER is E8M0: a bare exponent, all ones for NaN. */
enum { IEEE, ONES_NAN, ZERO_NAN, FINITE, POWER };

typedef struct GradcType {
    const char *name;
    unsigned char size, kind, bits, mantissa, top;
    unsigned char bias;
} GradcType;
extern const GradcType gradc_types[GRADC_DTYPES];

double gradc_get_float(int dtype, const void *p);
/* single is v rounded once more from its source where that matters (decimal text), else (float)v. False when
   v is a number and the format has none that near: *p is then infinity or the largest number. */
bool gradc_put_float(int dtype, double v, float single, void *p);
uint64_t gradc_get_unsigned(int dtype, const void *p);
int64_t gradc_get_signed(int dtype, const void *p);
bool gradc_put_integer(int dtype, bool negative, uint64_t magnitude, void *p); /* false: out of range */
double gradc_power2(int k); /* 2^k, for normal results */

/* As gradc_read_decimal: printf speaks the locale of the host program. */
void gradc_write_decimal(char *buf, size_t size, int digits, double v);

/* gradc_npy_read from a stream, which stays open; path is for messages. */
int gradc_npy_read_stream(GradcTensor *t, FILE *f, const char *path, int dtype, GradcError *e);
/* gradc_npy_write up to the moment the file takes its name: what renaming temp to path completes. */
int gradc_npy_prepare(const GradcTensor *t, const char *path, char *temp, size_t room, GradcError *e);
#endif
