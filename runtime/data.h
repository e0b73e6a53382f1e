/* Data sets: what `gradc train` and `gradc eval` read their batches from.

   A data set is a row of records; a record has fields (x, y ...), each a small tensor. It is opened from a
   SPEC:

     SPEC = KIND:PATH[,OPTION]...   options are KEY=VALUE or a bare word; commas inside [ ] do not split

     idx:DIR     train-images*, train-labels* (with `test`: t10k-*), plain or gzip, told apart by content.
                 x u8[28,28] or as the file says, y the class
     cifar:DIR   data_batch_1..5.bin (`test`: test_batch.bin), or CIFAR-100's train.bin and test.bin with a
                 third field `coarse`; class names from *.meta.txt and *_label_names.txt beside them.
                 x u8[3,32,32]
     npz:FILE    every array of a .npz is a field, its first axis the records; `x=NAME,y=NAME` choose and
                 rename. FILE may be a .npy, which is x; then `y=OTHER.npy` (other names likewise) adds fields
     csv:FILE,label=COL
                 numeric columns in the file's order are x f32[F], column COL (a name of the header, or a
                 number from 0) is y: classes when all its cells are whole numbers from 0 or when some are no
                 numbers (the class table is then sorted by bytes, or given by `labels=A:B:C`), else f32.
                 Cells may be quoted. `header=yes|no` (default: found out), `sep=;` `sep=tab`, `drop=COL:COL`,
                 `missing=NUMBER` (what an empty cell stands for; without it, an error)
     names:DIR   DIR's *.txt in byte order, one class each, named after the file; one sample a line. Accents
                 are taken off; of the rest a-z A-Z and " .,;'" stay (57 symbols). x is the letters' numbers,
                 of its own length in each record; y the class; `length` i64[] the number of letters
     text:FILE   x[T] the characters' numbers, y[T] those of the characters that follow. Characters are
                 Unicode code points, or bytes when the file is not UTF-8; the table is sorted. `length=T`
                 (default 64), `stride=S` (default T), `table=FILE` takes the table from another text
     raw:FILE,NAME=DTYPE[DIMS]...
                 no header: record after record, each its fields in the order given, little-endian, nothing
                 between them. `header=BYTES` are skipped first, `classes=K` makes the last integer field a
                 class. CIFAR-10 is raw:FILE,y=u8[],x=u8[3,32,32]

   Options of every kind, for the first floating or image field (x): `scale=A` or `scale=A/B` (idx and cifar:
   1/255), `mean=M:M:M`, `std=S:S:S` (one, or one a channel): value*scale, minus mean, over std, worked out in
   double and rounded once. They apply where the batch is floating; an integer batch receives the values as
   stored. `layout=nhwc|nchw`: the order of an image's axes (cifar: the order to hand out; elsewhere: how the
   file has it). `classes=K`: labels must be below K.

   All of it is checked when opening: sizes, magic numbers, labels. Records stay in memory; a plain file of
   more than half the machine's memory is mapped. Functions return 0 or an exit status with the failure in *e,
   which names file, record and byte offset (of the unpacked bytes of a gzip). A GradcData that is not being
   opened or closed may be read by several threads at once. */
#ifndef GRADC_DATA_H
#define GRADC_DATA_H
#include "tensor.h"

typedef struct GradcData GradcData;

typedef struct GradcField {
    const char *name;
    int dtype, rank;
    int64_t dims[GRADC_MAX_RANK]; /* of one record; -1 (only dims[0]): differs from record to record */
    int64_t classes;              /* > 0: the integers 0..classes-1; a batch may want them one-hot */
} GradcField;

/* d is NULL after a failure. */
int gradc_data_open(GradcData **d, const char *spec, GradcError *e);
void gradc_data_close(GradcData *d); /* d may be NULL */

int64_t gradc_data_count(const GradcData *d); /* records, at least one */
int gradc_data_fields(const GradcData *d);
const GradcField *gradc_data_field(const GradcData *d, int i);
int gradc_data_find(const GradcData *d, const char *name); /* a field's index; -1: there is none */
/* Name of a class of field i ("7", "Arabic", "\n"); NULL when it has only its number. */
const char *gradc_data_class(const GradcData *d, int i, int64_t k);
/* Elements along the axis whose size is -1, for one record; 0 for a field without such an axis. */
int64_t gradc_data_length(const GradcData *d, int i, int64_t record);
/* A text's windows have T characters from now on (a model that fixes T); the number of records changes. Other
   kinds: error 603 when T is not what they have. */
int gradc_data_window(GradcData *d, int64_t T, GradcError *e);

/* Can field i fill a batch of this dtype and shape? dims[batch_axis] is the number of records (any value).
   The record's shape must be the field's up to axes of 1, or one of the two is flat, or both are the same
   image channels-first and channels-last; classes may also go one-hot into one more axis at the end, of at
   least as many elements. A field of varying length needs [T] or [T,classes], T = -1: to be chosen for each
   batch. */
int gradc_data_fits(const GradcData *d, int i, int dtype, int rank, const int64_t *dims, int batch_axis,
                    GradcError *e);
/* Gathers n records into to, whose dims must fit and have n at batch_axis. Shorter records are filled up with
   zeros (one-hot: zero rows); a longer one, a class that does not fit and a value that to's integer type
   cannot hold are errors. */
int gradc_data_fill(const GradcData *d, int i, const int64_t *records, int64_t n, GradcTensor *to,
                    int batch_axis, GradcError *e);
/* All values of a field are whole numbers in 0..limit-1 (labels that go into the model as numbers), or `ignored` (0: nothing
   besides). */
int gradc_data_limit(const GradcData *d, int i, int64_t limit, int64_t ignored, GradcError *e);
/* "FILE: record 7 (byte 123)" of the record that field i has, as messages say it; returns buf. */
char *gradc_data_place(const GradcData *d, int i, int64_t record, char *buf, size_t size);
/* The files are what they were when opened (size, time, identity); to be called once an epoch. */
int gradc_data_unchanged(const GradcData *d, GradcError *e);
/* Is a file of it mapped? Then it has to be unchanged whenever records are gathered; the loader sees to that. */
bool gradc_data_mapped(const GradcData *d);

/* ---- batches, gathered ahead by a thread ---- */

/* One tensor of a batch. dims[batch_axis] is ignored; a dim of -1 is the longest record's length. */
typedef struct GradcFeed {
    int field, dtype, rank, batch_axis;
    int64_t dims[GRADC_MAX_RANK];
} GradcFeed;

typedef struct GradcBatch {
    int64_t n;              /* records; the last batch of an epoch may have fewer */
    int64_t index;          /* 0, 1, ... in the epoch */
    const int64_t *records; /* which */
    GradcTensor *tensors;   /* one a feed, not owned; valid until the next call of gradc_loader_next */
} GradcBatch;

typedef struct GradcLoader GradcLoader;

/* Batches of `batch` records. The data set must outlive the loader. l is NULL after a failure. */
int gradc_loader_open(GradcLoader **l, const GradcData *d, const GradcFeed *feeds, int nfeeds, int64_t batch,
                      GradcError *e);
/* Begins with batch `first` of the n records in this order (copied); what was under way is dropped. The order
   of batches depends on nothing else. */
int gradc_loader_start(GradcLoader *l, const int64_t *order, int64_t n, int64_t first, GradcError *e);
/* *b is the next batch, or NULL after the last. A failure of the thread arrives with the batch it concerns.
 */
int gradc_loader_next(GradcLoader *l, const GradcBatch **b, GradcError *e);
void gradc_loader_close(GradcLoader *l); /* waits for the thread; l may be NULL */
#endif
