/* Progress is for terminals: gradc runs with a pseudo-terminal as stderr. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
enum { ROOM = 1 << 16 };
static char binary[4096], dir[64], out[ROOM], err[ROOM];

static void collect(int fd, char *to) {
    size_t n = 0;
    for (ssize_t k; n < ROOM - 1 && (k = read(fd, to + n, ROOM - 1 - n)) > 0;) n += (size_t)k; /* a terminal's end is EIO */
    to[n] = 0;
    close(fd);
}

/* Opens both ends of a terminal, or of a pipe: what is written to ends[1] comes out of ends[0]. */
static void open_ends(bool terminal, int ends[2]) {
    struct termios raw;
    if (!terminal) {
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        return;
    }
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(ends[0] >= 0 && !grantpt(ends[0]) && !unlockpt(ends[0]));
    ends[1] = open(ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(ends[1] >= 0 && !tcgetattr(ends[1], &raw));
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(ends[1], TCSANOW, &raw), 0);
}

static int run(bool terminal, const char *const *argv) {
    int o[2], e[2], status;
    pid_t pid;
    posix_spawn_file_actions_t fa;
    open_ends(false, o);
    open_ends(terminal, e);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, o[1], 1);
    posix_spawn_file_actions_adddup2(&fa, e[1], 2);
    assert_int_equal(posix_spawn(&pid, binary, &fa, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    close(o[1]);
    close(e[1]);
    collect(e[0], err);
    collect(o[0], out);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
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
    ssize_t n = readlink("/proc/self/exe", binary, sizeof binary - 8);
    if (n < 0) return 1;
    binary[n] = 0;
    strcpy(strrchr(binary, '/'), "/gradc");
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
