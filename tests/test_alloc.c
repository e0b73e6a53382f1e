/* Memory that runs out: compilations in which one allocation, each in turn, finds none. Every one ends with status 6,
   closes what it opened, frees what it took, and leaves no half-written file. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "codegen.h"
#include "frontend.h"
#include "passes.h"
#include <dirent.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64];

/* From the file to C sources with the weights in an object. */
static void compile(Ctx *c, void *path) {
    FrontOptions front = {.last = true, .prefix = "m"};
    PassOptions pass = {.opt = 2, .release = true, .threads = 2, .machine = {.lanes = 8, .registers = 16, .fma = true, .l1 = 32 << 10, .l2 = 1 << 20}};
    EmitOptions emit = {.target = target_named(c, "generic"), .prefix = "m", .weights = WEIGHTS_FILE, .opt = 2};
    Program *p = passes_run(front_read(c, path, &front), &pass);
    backend_named(c, "c")->write(p, &emit, EMIT_C, dir);
}

static int count_files(const char *path, const char *part) {
    int n = 0;
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.' && strstr(e->d_name, part);
    closedir(d);
    return n;
}

static int64_t attempt(const char *path, int64_t fail_at, int want) {
    Ctx *c = gd_open(&(Budget){.fail_at = fail_at});
    assert_non_null(c);
    int status = gd_enter(c, compile, (void *)path);
    int64_t n = gd_allocations(c);
    if (status != want)
        fail_msg("%s: allocation %lld: status %d: %s", path, (long long)fail_at, status,
                 gd_error_count(c) ? gd_diag(c, 0)->message : "no error");
    if (status && !gd_diag(c, 0)->message) fail_msg("allocation %lld: no message", (long long)fail_at);
    gd_close(c);
    return n;
}

/* The first `dense` allocations, and of the rest `more`, evenly. */
static void exhaust(const char *path, int status, int64_t dense, int64_t more) {
    int64_t n = attempt(path, 0, status), step = n > dense ? (n - dense) / more + 1 : 1;
    int files = count_files("/proc/self/fd", "");
    size_t used = mallinfo2().uordblks;
    for (int64_t i = 1; i <= n; i += i < dense ? 1 : step) attempt(path, i, EXIT_MEMORY);
    assert_int_equal(count_files("/proc/self/fd", ""), files);
    assert_int_equal(count_files(dir, ""), 3); /* m.c, m.h and m.weights of the whole run, none that is temporary */
    assert_true(mallinfo2().uordblks < used + 16384); /* what malloc caches counts as used; a sanitizer sees the last byte */
    attempt(path, n + 1, status);
}

static void example(void **state) {
    (void)state;
    exhaust("examples/fashion_cnn/fashion_cnn.onnx", 0, 300, 300);
}

static void control_flow(void **state) {
    (void)state;
    exhaust("tests/corpus/loop.onnxtxt", 0, 100, 200);
    exhaust("tests/corpus/branch.onnx", 0, 100, 200);
}

static void while_errors_are_told(void **state) {
    (void)state;
    exhaust("tests/corpus/strings.onnx", EXIT_UNSUPPORTED, 1000, 100);
    exhaust("tests/corpus/external.onnx", EXIT_INVALID, 1000, 100);
}

static int begin(void **state) {
    (void)state;
    strcpy(dir, "/tmp/gradc-alloc-XXXXXX");
    return !mkdtemp(dir);
}

static int end(void **state) {
    (void)state;
    static const char *const files[] = {"m.c", "m.h", "m.weights"};
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(example), cmocka_unit_test(control_flow),
                                       cmocka_unit_test(while_errors_are_told)};
    return cmocka_run_group_tests(tests, begin, end);
}
