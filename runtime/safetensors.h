/* safetensors files: a length of 8 bytes (little-endian), a JSON object NAME -> {dtype, shape, data_offsets},
   the elements. Any tool of the ecosystem opens them. Writing is all or nothing: a temporary file in the same
   directory, fsync, rename, fsync of the directory. Reading takes a file for hostile: the header is bounded,
   names are unique, every tensor's bytes lie inside the file and cover it without gap or overlap. */
#ifndef GRADC_SAFETENSORS_H
#define GRADC_SAFETENSORS_H
#include "tensor.h"

typedef struct GradcNamed {
    const char *name;   /* UTF-8 without a zero; not "__metadata__" */
    GradcTensor tensor; /* when writing: not owned */
} GradcNamed;

typedef struct GradcPair {
    const char *key, *value;
} GradcPair;

typedef struct GradcSafetensors {
    int n, nmeta;
    GradcNamed *tensors; /* in the order of the header */
    GradcPair *meta;     /* sorted by key: a file may have very many */
    void *data; /* owns what the tensors point to */
} GradcSafetensors;

/* Tensors go into the file by falling alignment, as other writers do, so that all are aligned. An I/O error
   (disk full ...) is error 106 and leaves an old file of that name as it was; a dtype safetensors has no name
   for is 403, a name twice 202. */
int gradc_safetensors_write(const char *path, const GradcNamed *tensors, int n, const GradcPair *meta,
                            int nmeta, GradcError *e);
/* After a failure *s is empty. */
int gradc_safetensors_read(GradcSafetensors *s, const char *path, GradcError *e);
void gradc_safetensors_free(GradcSafetensors *s);
const GradcTensor *gradc_safetensors_find(const GradcSafetensors *s, const char *name); /* NULL: not there */
const char *gradc_safetensors_meta(const GradcSafetensors *s, const char *key);         /* NULL: not there */
#endif
