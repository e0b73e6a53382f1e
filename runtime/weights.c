/* Weights in a file of their own: mapped, so that a start costs no reading and several processes share the
 * memory. */
#define _GNU_SOURCE
#include "program.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const void *gradc_weights_map(const char *argv0, size_t bytes, GradcError *e) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 9);
    if (n < 0) n = snprintf(path, sizeof path - 9, "%s", argv0);
    if (n < 0 || (size_t)n >= sizeof path - 9) {
        gradc_error(e, 101, "", "the path of the program is too long");
        return NULL;
    }
    memcpy(path + n, ".weights", 9);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *p = MAP_FAILED;
    if (fd < 0 || fstat(fd, &st))
        gradc_error(e, 101, "keep it beside the program", "%s: %s", path, strerror(errno));
    else if ((uintmax_t)st.st_size != bytes)
        gradc_error(e, 103, "it belongs to another program", "%s: %jd bytes, not %zu", path,
                    (intmax_t)st.st_size, bytes);
    else {
        p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) gradc_error(e, 101, "", "%s: %s", path, strerror(errno));
    }
    if (fd >= 0) close(fd);
    return p == MAP_FAILED ? NULL : p;
}
