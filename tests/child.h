/* Programs that tests run: what they write and how they end. After cmocka.h. */
#ifndef GRADC_CHILD_H
#define GRADC_CHILD_H
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;
enum { ROOM = 1 << 16 };
typedef struct Ran { int status; char out[ROOM], err[ROOM]; } Ran; /* status -1: ended by a signal */
static char binary[4096];                                          /* gradc, beside the test's own */

static inline bool find_binary(void) {
    ssize_t n = readlink("/proc/self/exe", binary, sizeof binary - 8);
    if (n < 0) return false;
    binary[n] = 0;
    strcpy(strrchr(binary, '/'), "/gradc");
    return true;
}

/* Opens both ends of a terminal, or of a pipe: what is written to ends[1] comes out of ends[0]. */
static inline void open_ends(bool terminal, int ends[2]) {
    struct termios raw;
    if (!terminal) {
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        return;
    }
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ends[1] = ends[0] >= 0 && !grantpt(ends[0]) && !unlockpt(ends[0]) ? open(ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;
    if (ends[1] < 0) {
        print_message("this system lends no terminal\n");
        skip();
    }
    assert_true(ends[1] >= 0 && !tcgetattr(ends[1], &raw));
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(ends[1], TCSANOW, &raw), 0);
}

/* Reads both until they end, in turns, so that the child never waits; what has no room is dropped. A terminal's end is EIO. */
static inline void collect(const int fd[2], char *to[2]) {
    struct pollfd p[2] = {{fd[0], POLLIN, 0}, {fd[1], POLLIN, 0}};
    size_t n[2] = {0};
    while ((p[0].fd >= 0 || p[1].fd >= 0) && poll(p, 2, -1) > 0)
        for (int i = 0; i < 2; i++) {
            char rest[4096];
            size_t room = ROOM - 1 - n[i];
            if (p[i].fd < 0 || !p[i].revents) continue;
            ssize_t k = read(p[i].fd, room ? to[i] + n[i] : rest, room ? room : sizeof rest);
            if (k > 0) n[i] += room ? (size_t)k : 0;
            else p[i].fd = -1;
        }
    for (int i = 0; i < 2; i++) to[i][n[i]] = 0, close(fd[i]);
}

/* terminal: stderr is one. */
static inline void run_child(Ran *r, bool terminal, const char *const *argv) {
    int o[2], e[2], status;
    pid_t pid;
    posix_spawn_file_actions_t fa;
    open_ends(false, o);
    open_ends(terminal, e);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, o[1], 1);
    posix_spawn_file_actions_adddup2(&fa, e[1], 2);
    assert_int_equal(posix_spawn(&pid, argv[0], &fa, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    close(o[1]);
    close(e[1]);
    collect((int[]){o[0], e[0]}, (char *[]){r->out, r->err});
    assert_int_equal(waitpid(pid, &status, 0), pid);
    r->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#endif
