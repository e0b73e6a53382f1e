/* Atomic replacement of files. Small pieces are gathered so that a header of many parts costs one call. */
#define _POSIX_C_SOURCE 200809L
#include "atomic.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_through(GradcAtomic *f, const char *p, size_t n) {
    while (n) {
        ssize_t k = write(f->fd, p, n < (size_t)1 << 30 ? n : (size_t)1 << 30);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) {
            if (!f->why) f->why = k < 0 ? errno : ENOSPC;
            return false;
        }
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static bool flush(GradcAtomic *f) {
    size_t n = f->used;
    f->used = 0;
    return !f->why && write_through(f, f->buffer, n);
}

bool gradc_atomic_write(GradcAtomic *f, const void *p, size_t n) {
    if (f->why) return false;
    if (n > sizeof f->buffer - f->used && !flush(f)) return false;
    if (n > sizeof f->buffer) return write_through(f, p, n);
    if (n) memcpy(f->buffer + f->used, p, n);
    f->used += n;
    return true;
}

/* O_EXCL: a name that someone else has taken, or a link laid in its place, is stepped over. */
int gradc_atomic_open(GradcAtomic *f, const char *path, GradcError *e) {
    f->path = path;
    f->used = 0;
    f->why = 0;
    f->fd = -1;
    struct stat st;
    if (!stat(path, &st) && !S_ISREG(st.st_mode)) /* a device or a pipe would be gone afterwards */
        return gradc_error(e, 106, "name a file", "%s: %s", path, S_ISDIR(st.st_mode) ? "is a directory" : "is there and is no regular file");
    for (int i = 0; i < 100 && f->fd < 0; i++) {
        int n = snprintf(f->temp, sizeof f->temp, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        if (n < 0 || (size_t)n >= sizeof f->temp) {
            errno = ENAMETOOLONG;
            break;
        }
        f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd < 0 && errno != EEXIST) break;
    }
    return f->fd >= 0 ? 0 : gradc_error(e, 106, NULL, "%s: %s", path, strerror(errno));
}

int gradc_atomic_check(const char *path, GradcError *e) {
    GradcAtomic f;
    int status = gradc_atomic_open(&f, path, e);
    if (status) return status;
    close(f.fd);
    unlink(f.temp);
    return 0;
}

/* The new name must be on the disk too; a file system that cannot sync a directory says EINVAL. */
static bool sync_directory(const char *path) {
    char dir[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof dir) return true;
    memcpy(dir, path, n);
    dir[n] = 0;
    int fd = open(n ? dir : ".", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == EACCES;
    bool ok = !fsync(fd) || errno == EINVAL;
    close(fd);
    return ok;
}

int gradc_atomic_close(GradcAtomic *f, bool ok, GradcError *e) {
    struct stat st;
    ok = ok && flush(f);
    /* A target that exists keeps its permissions. */
    if (ok && !stat(f->path, &st) && S_ISREG(st.st_mode))
        ok = !fchmod(f->fd, st.st_mode & 0777) || errno == EPERM;
    if (ok && fsync(f->fd)) ok = false;
    if (!ok && !f->why) f->why = errno;
    if (close(f->fd) && ok) ok = false, f->why = errno;
    if (ok && rename(f->temp, f->path)) ok = false, f->why = errno;
    if (!ok) {
        unlink(f->temp);
        return gradc_error(e, 106, "the old file, if there was one, is as it was", "%s: %s", f->path,
                           strerror(f->why));
    }
    return sync_directory(f->path) ? 0
                                   : gradc_error(e, 106, NULL, "%s: the directory cannot be synced: %s",
                                                 f->path, strerror(errno));
}
