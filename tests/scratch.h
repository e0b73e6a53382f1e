/* A directory of a test's own, gone when the test ends, and files in it. After cmocka.h. */
#ifndef GRADC_SCRATCH_H
#define GRADC_SCRATCH_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    strcpy(dir, "/tmp/gradc-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

/* dir/NAME; the last four stay. */
static char *at(const char *name) {
    static char path[4][200];
    static int next;
    char *p = path[next++ % 4];
    assert_true(snprintf(p, 200, "%s/%s", dir, name) < 200);
    return p;
}

static inline void put(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(at(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}
#endif
