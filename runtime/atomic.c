/* Atomic replacement of files. Small pieces are gathered so that a header of many parts costs one call. Where the file system
   can, the file has no name until it is whole, so a process that is killed leaves nothing behind. */
#define _GNU_SOURCE
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

/* DIR of DIR/NAME; false when it has no room. */
static bool directory(const char *path, char *dir, size_t size) {
    const char *slash = strrchr(path, '/');
    size_t n = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    return (size_t)snprintf(dir, size, "%.*s", n ? (int)n : 1, n ? path : ".") < size;
}

static bool next_name(GradcAtomic *f, int i) {
    int n = snprintf(f->temp, sizeof f->temp, "%s.%ld-%d.tmp", f->path, (long)getpid(), i);
    if (n >= 0 && (size_t)n < sizeof f->temp) return true;
    errno = ENAMETOOLONG;
    return false;
}

/* A file without a name, which /proc gives one later; -1 where there is no such thing. */
static int open_nameless(const char *path) {
#ifdef O_TMPFILE
    char dir[4096];
    if (!access("/proc/self/fd", X_OK) && directory(path, dir, sizeof dir)) return open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
#endif
    (void)path;
    return -1;
}

/* O_EXCL: a name that someone else has taken, or a link laid in its place, is stepped over. */
int gradc_atomic_open(GradcAtomic *f, const char *path, GradcError *e) {
    struct stat st;
    f->path = path;
    f->used = 0;
    f->why = 0;
    if (!stat(path, &st) && !S_ISREG(st.st_mode)) /* a device or a pipe would be gone afterwards */
        return gradc_error(e, 106, "name a file", "%s: %s", path, S_ISDIR(st.st_mode) ? "is a directory" : "is there and is no regular file");
    f->fd = open_nameless(path);
    f->nameless = f->fd >= 0;
    for (int i = 0; i < 100 && f->fd < 0 && next_name(f, i); i++) {
        f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd < 0 && errno != EEXIST) break;
    }
    return f->fd >= 0 ? 0 : gradc_error(e, 106, NULL, "%s: %s", path, strerror(errno));
}

/* The name from which rename takes it, if it has none yet. */
static bool name_it(GradcAtomic *f) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", f->fd);
    for (int i = 0; f->nameless && i < 100 && next_name(f, i); i++) {
        f->nameless = linkat(AT_FDCWD, link, AT_FDCWD, f->temp, AT_SYMLINK_FOLLOW) != 0;
        if (f->nameless && errno != EEXIST) break;
    }
    return !f->nameless;
}

int gradc_atomic_check(const char *path, GradcError *e) {
    GradcAtomic f;
    int status = gradc_atomic_open(&f, path, e);
    if (status) return status;
    close(f.fd);
    if (!f.nameless) unlink(f.temp);
    return 0;
}

/* The new name must be on the disk too; a file system that cannot sync a directory says EINVAL. */
static bool sync_directory(const char *path) {
    char dir[4096];
    if (!directory(path, dir, sizeof dir)) return true;
    int fd = open(dir, O_RDONLY | O_CLOEXEC);
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
    if (ok && (fsync(f->fd) || !name_it(f))) ok = false;
    if (!ok && !f->why) f->why = errno;
    if (close(f->fd) && ok) ok = false, f->why = errno;
    if (ok && rename(f->temp, f->path)) ok = false, f->why = errno;
    if (!ok) {
        if (!f->nameless) unlink(f->temp);
        return gradc_error(e, 106, "the old file, if there was one, is as it was", "%s: %s", f->path,
                           strerror(f->why));
    }
    return sync_directory(f->path) ? 0
                                   : gradc_error(e, 106, NULL, "%s: the directory cannot be synced: %s",
                                                 f->path, strerror(errno));
}
