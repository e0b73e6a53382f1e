/* Progress is for terminals: gradc runs with a pseudo-terminal as stderr. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Ran ran;
static char *const out = ran.out, *const err = ran.err;
static char dir[64];

static int run(bool terminal, const char *const *argv) {
    run_child(&ran, terminal, argv);
    return ran.status;
}

static const char erase[] = "\r\033[K", model[] = "examples/fashion_cnn/fashion_cnn.onnx";

static void erased(void) {
    size_t n = strlen(err), k = strlen(erase);
    assert_true(n > k && !strcmp(err + n - k, erase));
}

static void shown_on_terminals(void **state) {
    (void)state;
    const char *const compile[] = {binary, "compile", model, "--emit=c", "-o", dir, NULL},
                      *const verify[] = {binary, "verify", model, "--dim=N=1", "--backend=c", NULL},
                      *const bench[] = {binary, "bench", model, "--dim=N=1", "--seconds=0.01", "--backend=c", NULL};
    setenv("TERM", "xterm", 1);
    assert_int_equal(run(true, compile), 0);
    assert_non_null(strstr(err, "\r\033[Kcompile: read\r\033[K"));
    assert_non_null(strstr(err, "compile: fuse"));
    erased();
    assert_string_equal(out, "");
    assert_int_equal(run(true, verify), 0);
    assert_non_null(strstr(err, "verify: "));
    erased();
    assert_null(strchr(out, '\033'));
    assert_int_equal(run(true, bench), 0);
    assert_non_null(strstr(err, "bench: measure"));
    erased();
    assert_null(strchr(out, '\033'));
}

static void errors_stand_alone(void **state) {
    (void)state;
    const char *const compile[] = {binary, "compile", "README.md", "--emit=c", "-o", dir, "--color=never", NULL};
    assert_int_equal(run(true, compile), 1);
    const char *last = strstr(err, "\r\033[Kgradc: error[E0");
    assert_non_null(last);
    assert_null(strchr(last + 3, '\r'));
}

static void silent_elsewhere(void **state) {
    (void)state;
    const char *const compile[] = {binary, "compile", model, "--emit=c", "-o", dir, NULL},
                      *const quiet[] = {binary, "compile", "-q", model, "--emit=c", "-o", dir, NULL};
    assert_int_equal(run(false, compile), 0);
    assert_string_equal(err, "");
    assert_int_equal(run(true, quiet), 0);
    assert_string_equal(err, "");
    setenv("TERM", "dumb", 1);
    assert_int_equal(run(true, compile), 0);
    assert_string_equal(err, "");
}

static int begin(void **state) {
    (void)state;
    if (!find_binary()) return 1;
    strcpy(dir, "/tmp/gradc-progress-XXXXXX");
    return !mkdtemp(dir);
}

static int end(void **state) {
    (void)state;
    static const char *const files[] = {"fashion_cnn.c", "fashion_cnn.h"};
    for (int i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        unlink(path);
    }
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shown_on_terminals), cmocka_unit_test(errors_stand_alone),
                                       cmocka_unit_test(silent_elsewhere)};
    return cmocka_run_group_tests(tests, begin, end);
}
