/* For the files of this room that read data sets: what stands behind a GradcData. A reader (dataidx.c,
   datacsv.c ...) gets the parsed SPEC and leaves fields, count and, for messages, where in which file each
   record lies. */
#ifndef GRADC_DATASET_H
#define GRADC_DATASET_H
#include "data.h"
#include <sys/stat.h>

enum { DATA_FIELDS = 32, DATA_OPTIONS = 64, DATA_CHANNELS = 64 };
enum { LAYOUT_NONE, LAYOUT_CHW, LAYOUT_HWC };

typedef struct DataOption {
    const char *key, *value;
    bool used;
} DataOption; /* value "": a bare word */

typedef struct DataSpec {
    char *text; /* owned; the others point into it */
    const char *kind, *path;
    int n;
    DataOption options[DATA_OPTIONS];
} DataSpec;

/* A file as it was when it was read. Records first..first+count-1 lie in it, from byte `header`, `step` bytes
   each (0: not of equal size, or packed). */
typedef struct DataFile {
    const char *path;
    struct stat st;
    int64_t first, count, header, step;
} DataFile;

typedef struct DataField {
    GradcField pub;
    /* Record r begins at base + r*step bytes; of varying length: at element starts[r], up to starts[r+1].
       Elements are in host order; element (i,j,k) stands at i*strides[0] + ... */
    const char *base;
    size_t step;
    const int64_t *starts;
    int64_t strides[GRADC_MAX_RANK];
    int layout;
    int file;    /* the first DataFile that holds this field's records */
    size_t at;   /* bytes before it in a record of the file */
    bool scaled; /* value*num/den, minus mean, over std */
    double num, den;
    int nmean, nstd; /* 0: none, 1, or one a channel */
    double mean[DATA_CHANNELS], std[DATA_CHANNELS];
    const char *const *names; /* of classes, or NULL */
} DataField;

typedef struct DataBlock {
    void *p;
    size_t mapped;
} DataBlock; /* mapped 0: from malloc */

struct GradcData {
    DataSpec spec;
    int64_t count;
    int nfields, nfiles, nblocks, room_files, room_blocks;
    DataField fields[DATA_FIELDS];
    DataFile *files;
    DataBlock *blocks;
    int64_t tokens, window, stride; /* of a text */
};

/* ---- what the readers share (datafile.c, data.c) ---- */

/* Zeroed memory that lives as long as the data set; NULL with error 506. n*size is checked. */
void *data_alloc(GradcData *d, size_t n, size_t size, GradcError *e);
char *data_string(GradcData *d, const char *s, size_t n, GradcError *e);
int data_spec(DataSpec *s, const char *text, GradcError *e);
/* scale, mean, std, layout; then every option must have been used. */
int data_common_options(GradcData *d, GradcError *e);
bool data_is_common(const char *key); /* is it one of those, or classes? */
/* The option's value, marked as used; NULL when it is not given. */
const char *data_option(GradcData *d, const char *key);
int data_integer(GradcData *d, const char *key, int64_t low, int64_t *v,
                 GradcError *e); /* *v stays when not given */
bool data_number(const char *s, size_t n, double *v,
                 float *single); /* all of s is a finite or infinite decimal number */

/* All bytes of a file, unpacked when it is a gzip; remembers the file, whose index is *file. The memory may
   be written to. An empty file is an error. */
int data_bytes(GradcData *d, const char *path, unsigned char **bytes, size_t *n, int *file, GradcError *e);
int data_note(GradcData *d, const char *path, const struct stat *st, int *file, GradcError *e);
/* Sorted names of DIR's files that contain `part` and end in `end`. */
int data_list(GradcData *d, const char *dir, const char *part, const char *end, char ***names, int *n,
              GradcError *e);
char *data_path(GradcData *d, const char *dir, const char *name, GradcError *e); /* DIR/NAME */

/* A field of records of equal size that lie `step` bytes apart; NULL with an error when there are too many.
 */
DataField *data_add(GradcData *d, const char *name, int dtype, int rank, const int64_t *dims,
                    const void *base, size_t step, GradcError *e);
/* Makes an integer field a class: checks its values against the option `classes` or finds out how many there
 * are. */
int data_classes(GradcData *d, int field, int64_t classes, GradcError *e);
/* The same for the last field of one integer a record, if there is one; without the option only when its
   values look like classes (from 0, not many more than there are records). */
int data_find_label(GradcData *d, GradcError *e);
/* Element k of an integer field's record. */
int64_t data_get(const DataField *f, const char *p);
/* Reverses the bytes of each element of a host whose order is not the file's. */
void data_swap(void *p, size_t bytes, size_t unit);
bool data_big_endian(void);

int data_idx(GradcData *d, GradcError *e);
int data_cifar(GradcData *d, GradcError *e);
int data_raw(GradcData *d, GradcError *e);
int data_npz(GradcData *d, GradcError *e);
int data_csv(GradcData *d, GradcError *e);
int data_names(GradcData *d, GradcError *e);
int data_text(GradcData *d, GradcError *e);
#endif
