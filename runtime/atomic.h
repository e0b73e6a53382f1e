/* Files of this room that appear whole or not at all: bytes go to a temporary file beside the target, which
   takes the target's name when all of them are on the disk. What was there before stays until then, whatever
   happens to the process. */
#ifndef GRADC_ATOMIC_H
#define GRADC_ATOMIC_H
#include "tensor.h"

typedef struct GradcAtomic {
    int fd, why; /* why: errno of the first failure */
    bool nameless; /* temp is none yet */
    size_t used;
    const char *path;
    char temp[4096];
    char buffer[1 << 16];
} GradcAtomic;

/* Error 106 now if the file could not be written later; nothing is changed. */
int gradc_atomic_check(const char *path, GradcError *e);
int gradc_atomic_open(GradcAtomic *f, const char *path, GradcError *e);
bool gradc_atomic_write(GradcAtomic *f, const void *p,
                        size_t n); /* false after a failure, which close reports */
/* ok: fsync, rename, fsync of the directory. Otherwise, or when one of these fails, the temporary file goes
   and the target stays; the error is 106. */
int gradc_atomic_close(GradcAtomic *f, bool ok, GradcError *e);
#endif
