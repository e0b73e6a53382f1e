/* Files of data sets: bytes in memory, unpacked, and the proof that a file is still the one that was read.
   Memory is taken as bytes arrive, so a file that claims more than it has costs nothing; what unpacks to more
   than half the machine's memory is refused. Every loop ends with the file. */
#define _GNU_SOURCE
#include "dataset.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

enum { FIRST_ROOM = 1 << 20 };

/* ---- memory that lives as long as the data set ---- */

static int keep(GradcData *d, void *p, size_t mapped, GradcError *e) {
    if (d->nblocks == d->room_blocks) {
        int room = d->room_blocks ? 2 * d->room_blocks : 16;
        DataBlock *more = realloc(d->blocks, (size_t)room * sizeof *more);
        if (!more) return gradc_error(e, 506, NULL, "out of memory for a data set");
        d->blocks = more;
        d->room_blocks = room;
    }
    d->blocks[d->nblocks++] = (DataBlock){p, mapped};
    return 0;
}

void *data_alloc(GradcData *d, size_t n, size_t size, GradcError *e) {
    void *p = calloc(n ? n : 1, size ? size : 1);
    if (!p) gradc_error(e, 506, NULL, "out of memory for %zu times %zu bytes of a data set", n, size);
    else if (keep(d, p, 0, e)) free(p), p = NULL;
    return p;
}

char *data_string(GradcData *d, const char *s, size_t n, GradcError *e) {
    char *p = data_alloc(d, n + 1, 1, e);
    if (p) memcpy(p, s, n);
    return p;
}

char *data_path(GradcData *d, const char *dir, const char *name, GradcError *e) {
    size_t n = strlen(dir), m = strlen(name);
    char *p = data_alloc(d, n + m + 2, 1, e);
    if (p) sprintf(p, "%s/%s", dir, name);
    return p;
}

/* ---- what is remembered of a file ---- */

int data_note(GradcData *d, const char *path, const struct stat *st, int *file, GradcError *e) {
    if (d->nfiles == d->room_files) {
        int room = d->room_files ? 2 * d->room_files : 8;
        DataFile *more = realloc(d->files, (size_t)room * sizeof *more);
        if (!more) return gradc_error(e, 506, NULL, "out of memory for a data set");
        d->files = more;
        d->room_files = room;
    }
    char *name = data_string(d, path, strlen(path), e);
    if (!name) return gradc_error_status(e->code);
    *file = d->nfiles++;
    d->files[*file] = (DataFile){.path = name, .st = *st};
    return 0;
}

static bool same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int gradc_data_unchanged(const GradcData *d, GradcError *e) {
    for (int i = 0; i < d->nfiles; i++) {
        struct stat st;
        if (stat(d->files[i].path, &st))
            return gradc_error(e, 101, "leave the data alone while it is in use",
                               "%s: %s (it was there when training began)", d->files[i].path,
                               strerror(errno));
        if (!same(&st, &d->files[i].st))
            return gradc_error(e, 101,
                               "leave the data alone while it is in use; start again with the new data",
                               "%s: the file changed since it was opened (%lld bytes then, %lld now)",
                               d->files[i].path, (long long)d->files[i].st.st_size, (long long)st.st_size);
    }
    return 0;
}

bool gradc_data_mapped(const GradcData *d) {
    bool mapped = false;
    for (int i = 0; i < d->nblocks; i++) mapped |= d->blocks[i].mapped > 0;
    return mapped;
}

/* ---- bytes ---- */

static size_t most(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages / 2 * (size_t)size : (size_t)1 << 30;
}

static int out_of_memory(const char *path, size_t n, GradcError *e) {
    return gradc_error(e, 506, NULL, "%s: out of memory for %zu bytes", path, n);
}

static int map_file(GradcData *d, const char *path, int fd, size_t n, unsigned char **bytes, GradcError *e) {
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    *bytes = p;
    int status = keep(d, p, n, e);
    if (status) munmap(p, n);
    return status;
}

/* gzread gives plain files as they are and knows gzip by its magic number. expect is the size if it is plain.
 */
static int unpack(const char *path, gzFile z, size_t expect, unsigned char **bytes, size_t *n,
                  GradcError *e) {
    size_t room = expect ? expect + 1 : FIRST_ROOM, limit = most();
    unsigned char *p = malloc(room);
    for (*n = 0; p;) {
        size_t want = room - *n < (size_t)1 << 30 ? room - *n : (size_t)1 << 30;
        int got = gzread(z, p + *n, (unsigned)want);
        if (got < 0) {
            int code;
            const char *why = gzerror(z, &code);
            free(p);
            if (code == Z_ERRNO) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
            return gradc_error(e, 103, "copy or download the file again",
                               "%s: damaged gzip after %zu unpacked bytes: %s", path, *n,
                               code == Z_BUF_ERROR ? "the file is cut off" : why);
        }
        *n += (size_t)got;
        if (!got) break;
        if (*n < room) continue;
        if (room > limit) {
            free(p);
            return gradc_error(e, 501, "unpack it: a plain file is mapped",
                               "%s: unpacks to more than %zu bytes, half of this machine's memory", path,
                               limit);
        }
        unsigned char *more = realloc(p, room *= 2);
        if (!more) free(p);
        p = more;
    }
    if (!p) return out_of_memory(path, room, e);
    int code;
    gzerror(z, &code);
    if (code == Z_BUF_ERROR) { /* end of the file inside the stream */
        free(p);
        return gradc_error(e, 103, "copy or download the file again",
                           "%s: damaged gzip: the file is cut off after %zu unpacked bytes", path, *n);
    }
    *bytes = p;
    return 0;
}

static int read_open(GradcData *d, const char *path, int fd, unsigned char **bytes, size_t *n, int *file,
                     GradcError *e) {
    struct stat st, after;
    unsigned char magic[2] = {0};
    if (fstat(fd, &st)) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return gradc_error(e, 101, "name the file itself", "%s: is a directory", path);
    if (!S_ISREG(st.st_mode)) return gradc_error(e, 101, NULL, "%s: not a regular file", path);
    int status = data_note(d, path, &st, file, e);
    if (status) return status;
    bool packed = pread(fd, magic, 2, 0) == 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    if (!packed && (size_t)st.st_size > most()) {
        *n = (size_t)st.st_size;
        return map_file(d, path, fd, *n, bytes, e);
    }
    int again = dup(fd);
    gzFile z = again >= 0 ? gzdopen(again, "rb") : NULL;
    if (!z) {
        if (again >= 0) close(again);
        return out_of_memory(path, 0, e);
    }
    gzbuffer(z, 1 << 17);
    status = unpack(path, z, packed ? 0 : (size_t)st.st_size, bytes, n, e);
    gzclose(z);
    if (status) return status;
    if ((status = keep(d, *bytes, 0, e))) {
        free(*bytes);
        return status;
    }
    if (!fstat(fd, &after) && !same(&st, &after))
        return gradc_error(e, 101, "leave the data alone while it is in use",
                           "%s: the file changed while it was read", path);
    return *n ? 0 : gradc_error(e, 103, "copy or download the file again", "%s: the file is empty", path);
}

int data_bytes(GradcData *d, const char *path, unsigned char **bytes, size_t *n, int *file, GradcError *e) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make it wait */
    if (fd < 0) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    int status = read_open(d, path, fd, bytes, n, file, e);
    close(fd);
    return status;
}

/* ---- directories ---- */

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool ends_in(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static bool add_name(GradcData *d, char ***names, int *n, int *room, const char *name, GradcError *e) {
    if (*n == *room) {
        *room = *room ? 2 * *room : 16;
        char **more = data_alloc(d, (size_t)*room, sizeof *more, e);
        if (!more) return false;
        if (*n) memcpy(more, *names, (size_t)*n * sizeof *more);
        *names = more;
    }
    return ((*names)[(*n)++] = data_string(d, name, strlen(name), e)) != NULL;
}

int data_list(GradcData *d, const char *dir, const char *part, const char *end, char ***names, int *n,
              GradcError *e) {
    int room = 0;
    bool ok = true;
    DIR *stream = opendir(dir);
    if (!stream) return gradc_error(e, 101, NULL, "%s: %s", dir, strerror(errno));
    *names = NULL;
    *n = 0;
    for (struct dirent *entry; ok && (entry = readdir(stream));)
        if (entry->d_name[0] != '.' && strstr(entry->d_name, part) && ends_in(entry->d_name, end))
            ok = add_name(d, names, n, &room, entry->d_name, e);
    closedir(stream);
    if (!ok) return gradc_error_status(e->code);
    if (*n) qsort(*names, (size_t)*n, sizeof **names, by_bytes);
    return 0;
}
