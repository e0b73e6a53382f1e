/* Tensors at the edge of a compiled model: what `gradc run` and every emitted executable read, make up, print
   and write. This room stands alone: C99 and POSIX, nothing of the compiler.

   Nothing here exits or prints an error by itself: a function that can fail returns 0 or the exit status the
   program should end with, and describes the failure in a GradcError. After a failure the tensor it was to
   fill is empty. */
#ifndef GRADC_TENSOR_H
#define GRADC_TENSOR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { GRADC_MAX_RANK = 16, GRADC_ALIGN = 64 };

/* Types narrower than a byte (F4E2M1, I4, U4, I2, U2) are stored one element a byte, integers sign-extended.
   A STRING element is a `const char *`; the characters follow the pointers in the same allocation. */
enum {
    GRADC_F32, GRADC_F64, GRADC_F16, GRADC_BF16,
    GRADC_I8, GRADC_I16, GRADC_I32, GRADC_I64,
    GRADC_U8, GRADC_U16, GRADC_U32, GRADC_U64, GRADC_BOOL,
    GRADC_F8E4M3FN, GRADC_F8E4M3FNUZ, GRADC_F8E5M2, GRADC_F8E5M2FNUZ, GRADC_F8E8M0, GRADC_F4E2M1,
    GRADC_I4, GRADC_U4, GRADC_I2, GRADC_U2, GRADC_STRING, GRADC_C64, GRADC_C128, GRADC_DTYPES
};

typedef struct GradcTensor {
    int dtype, rank;
    int64_t dims[GRADC_MAX_RANK];
    void *data;   /* row-major; not NULL even without elements; aligned to GRADC_ALIGN when owned */
    size_t bytes; /* of the elements */
    bool owned;   /* gradc_tensor_free frees data */
} GradcTensor;

/* code is a number of docs/errors.md, 0 when nothing failed; help may be empty. */
typedef struct GradcError {
    int code;
    char text[512], help[1024];
} GradcError;

#if defined(__GNUC__)
#define GRADC_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define GRADC_PRINTF(fmt, args)
#endif

int gradc_error(GradcError *e, int code, const char *help, const char *fmt, ...) GRADC_PRINTF(4, 5);
int gradc_error_status(int code);
void gradc_error_print(FILE *f, const char *program, const GradcError *e);

const char *gradc_dtype_name(int dtype); /* "f32"; "?" for a number that is no dtype */
int gradc_dtype_named(const char *name); /* -1 when there is none */
size_t gradc_dtype_size(int dtype);      /* bytes of one element in memory */

/* Round to nearest even, overflow to infinity; a NaN stays a NaN of the same sign, without its payload. */
float gradc_f16_to_f32(uint16_t h);
uint16_t gradc_f32_to_f16(float f);
float gradc_bf16_to_f32(uint16_t h);
uint16_t gradc_f32_to_bf16(float f);

/* Decimal text of less than 400 characters, with a point whatever the locale of the host program is. *single
   is rounded from the text too, not from the result. */
double gradc_read_decimal(const char *s, float *single);

/* Number of elements and bytes; a negative dim, a rank over the limit or an overflow is an error. The product
   of the dims other than 0 must not overflow either, so code that multiplies them in any order is safe. */
int gradc_shape_bytes(int dtype, int rank, const int64_t *dims, size_t *count, size_t *bytes, GradcError *e);
/* "f32[2,?]": a negative dim prints as ?. Returns buf. */
char *gradc_shape_text(char *buf, size_t size, int dtype, int rank, const int64_t *dims);

/* The elements' bytes are undefined. */
int gradc_tensor_new(GradcTensor *t, int dtype, int rank, const int64_t *dims, GradcError *e);
int gradc_tensor_copy(GradcTensor *to, const GradcTensor *from, GradcError *e); /* owned; strings too */
void gradc_tensor_free(GradcTensor *t);
size_t gradc_tensor_count(const GradcTensor *t);

/* Philox 4x32-10: four words that depend on counter and key only. */
void gradc_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* Floats uniform in [-1,1), integers in 0..9 (or as far as the type goes), bools 0 or 1. Element i depends on
   seed and i only, and a narrower float is the wider one cut off, so a model in f16 and one in f32 see the
   same data. */
int gradc_tensor_random(GradcTensor *t, uint64_t seed, GradcError *e);

/* One float as text: as few digits as read back to the same bits; inf, nan. */
void gradc_float_text(char *buf, size_t size, int dtype, const void *p);
/* `name f32[2,3] = [[1, 2, 3], [4, 5, 6]]` and a newline. Numbers have as few digits as read back to the same
   bits. A tensor of more than limit elements shows only the edges of each axis. */
enum { GRADC_PRINT_LIMIT = 100 };
void gradc_tensor_print(FILE *f, const char *name, const GradcTensor *t, size_t limit);

/* What a VALUE of the command line should become. */
typedef int GradcRead(GradcTensor *t, const char *path, int dtype, GradcError *e);
typedef struct GradcWant {
    int dtype, rank;
    const int64_t *dims;   /* -1: whatever the value has */
    const int64_t *sizes;  /* what a value without a shape of its own takes for a -1; NULL: 1 */
    const char *text;      /* dtype and shape in words, for messages; NULL: from dims */
    uint64_t seed;         /* of a plain `rand` */
    GradcRead *read;       /* of `@FILE`; NULL: gradc_npy_read */
} GradcWant;

/* VALUE is @FILE, rand, rand:SEED, zeros, ones, one number, bool or "text" (which fills the whole tensor), or
   a list: [1,2,3], rows by semicolons [1,2;3,4], nested [[1,2],[3,4]]. A list of lower rank gets leading dims
   of 1. */
int gradc_value_parse(GradcTensor *t, const char *value, const GradcWant *want, GradcError *e);
/* A file or a list; the others take their shape from the model. */
bool gradc_value_has_shape(const char *value);

/* NumPy files, versions 1 to 3, either byte order, C or Fortran order. dtype is what the caller hopes for
   (-1: takes anything): it decides what a one-byte void element, an i1 or a u1 stands for; any other type is
   returned as found. bf16 travels as |V2 and 8-bit and 4-bit floats as |V1, since NumPy has no names for
   them: `x.view('V2')`. */
int gradc_npy_read(GradcTensor *t, const char *path, int dtype, GradcError *e);
int gradc_npy_write(const GradcTensor *t, const char *path, GradcError *e); /* all or nothing */
/* DIR/NAME.npy; slashes of the name (conv2d/kernel, ../x) are no directories: DIR/conv2d_kernel.npy. False: too long. */
bool gradc_npy_path(char *path, size_t room, const char *dir, const char *name);
#endif
