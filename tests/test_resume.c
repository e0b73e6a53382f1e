/* Kill and resume: training is ended by SIGKILL at random moments, a checkpoint being written or not, and goes on with --resume, perhaps
   to be killed again. In the end the weights, the best epoch's and the history are those of a run that nobody disturbed, byte for byte.
   The moments come from a number that is printed; GRADC_SEED repeats them. They are counted in epochs that have ended and in parts of an
   epoch, so they are spread over the run on a fast machine and on a busy one; a run that ends before its kill is a moment too. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <time.h>
#include "child.h"
#include "gradc.h"
#include "scratch.h"
#include "trained.h"

enum { EPOCHS = 6, MOMENTS = 20, JIT_MOMENTS = 2 };
static uint64_t seed, first_seed;
static double epoch_seconds; /* of the run that nobody disturbed */
static int kills, missed;

static uint64_t below(uint64_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % n;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- a run ---- */

typedef struct Way { const char *program, *model; } Way; /* model NULL: the program is the model */

static pid_t start(const Way *w, const char *out, bool resume, int *lines) {
    char path[200], log[200], name[40];
    const char *argv[32] = {w->program, "train"};
    int n = 2, ends[2];
    pid_t pid;
    posix_spawn_file_actions_t fa;
    snprintf(path, sizeof path, "%s", at(out));
    snprintf(name, sizeof name, "%s.log", out);
    snprintf(log, sizeof log, "%s", at(name));
    if (w->model) argv[n++] = w->model;
    const char *const rest[] = {"--data", images_spec(), "--epochs", "6", "--seed", "3", "--valid-split", ".2", "--save-every", "1",
                                "--save-best", "--threads", "1", "--log", log, "-o", path};
    memcpy(argv + n, rest, sizeof rest);
    n += (int)(sizeof rest / sizeof *rest);
    if (resume) argv[n++] = "--resume";
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, ends[1], 2);
    assert_int_equal(posix_spawn(&pid, w->program, &fa, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    close(ends[1]);
    *lines = ends[0];
    return pid;
}

/* Reads until so many epochs have ended, or the run has; what it says of itself goes to text. */
static void wait_for_epochs(int fd, int epochs, char *text, size_t size) {
    size_t n = 0;
    char ch;
    for (int seen = 0; seen < epochs;) {
        ssize_t k = read(fd, &ch, 1);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) break;
        if (n + 1 < size) text[n++] = ch;
        seen += ch == '\n';
    }
    text[n] = 0;
}

static void whole_run(const Way *w, const char *out, bool resume) {
    char text[4096];
    int fd, status;
    pid_t pid = start(w, out, resume, &fd);
    wait_for_epochs(fd, 1000, text, sizeof text);
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) fail_msg("status %x: %s (seed %llu)", (unsigned)status, text, (unsigned long long)first_seed);
}

/* Killed after a number of epochs and a part of one. */
static void killed_run(const Way *w, const char *out, bool resume) {
    char text[4096];
    int fd, status;
    pid_t pid = start(w, out, resume, &fd);
    wait_for_epochs(fd, (int)below(EPOCHS), text, sizeof text);
    usleep((useconds_t)(epoch_seconds * 1e6 / 1000 * (double)below(1000)));
    kill(pid, SIGKILL);
    close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status)) kills++;
    else if (WEXITSTATUS(status)) fail_msg("status %d: %s (seed %llu)", WEXITSTATUS(status), text, (unsigned long long)first_seed);
    else missed++;
}

/* ---- what is left ---- */

/* All but the last two columns: seconds and, behind them, the rate. */
static void same_history(const char *a, const char *b) {
    char name[2][60], *text[2];
    for (int i = 0; i < 2; i++) {
        size_t n;
        snprintf(name[i], sizeof *name, "%.30s.log/history.csv", i ? b : a);
        text[i] = bytes_of(name[i], &n);
        text[i][n] = 0;
    }
    char *p = text[0], *q = text[1];
    for (int row = 0; row <= EPOCHS; row++) {
        size_t n = strcspn(p, "\n"), m = strcspn(q, "\n"), k = 0;
        if (p[n] != '\n' || q[m] != '\n') fail_msg("%s or %s ends in row %d", name[0], name[1], row);
        for (int commas = 0; k < n && k < m && p[k] == q[k] && commas < 5; k++) commas += p[k] == ',';
        if (p[k - 1] != ',' || q[k - 1] != ',') fail_msg("%s and %s differ in row %d:\n%.*s\n%.*s", name[0], name[1], row, (int)n, p, (int)m, q);
        p += n + 1;
        q += m + 1;
    }
    if (*p || *q) fail_msg("%s or %s has too many rows", name[0], name[1]);
    free(text[0]);
    free(text[1]);
}

static void one_moment(const Way *w, int i) {
    char out[16], best[32];
    snprintf(out, sizeof out, "k%d", i);
    snprintf(best, sizeof best, "%s.best", out);
    killed_run(w, out, false);
    while (below(2)) killed_run(w, out, !access(at(out), F_OK));
    whole_run(w, out, !access(at(out), F_OK));
    same_files("whole", out);
    same_files("whole.best", best);
    same_history("whole", out);
}

static char program[200];

static void executable(void **state) {
    (void)state;
    Way w = {program, NULL};
    Gradc *g = gradc_open();
#ifndef GRADC_LLVM
    assert_int_equal(gradc_option(g, "opt", "1"), 0);
#endif
    assert_int_equal(gradc_load(g, at("cnn.model")), 0);
    snprintf(program, sizeof program, "%s", at("trains"));
    int status = gradc_write_trainer(g, "exe", program);
    if (status) fail_msg("%s", gradc_problem(g, 0).text);
    gradc_close(g);
    double began = now();
    whole_run(&w, "whole", false);
    epoch_seconds = (now() - began) / EPOCHS;
    for (int i = 0; kills < MOMENTS && i < 3 * MOMENTS; i++) one_moment(&w, i);
    printf("%d kills, %d runs were faster; %.3f s an epoch\n", kills, missed, epoch_seconds);
    assert_true(kills > 0);
}

/* The same by the compiler itself, which makes the code anew each time; its weights are the executable's. */
static void in_process(void **state) {
    (void)state;
    char model[200];
    snprintf(model, sizeof model, "%s", at("cnn.model"));
    for (int i = 0; i < JIT_MOMENTS; i++) one_moment(&(Way){binary, model}, 3 * MOMENTS + i);
}

/* ---- signals that ask ---- */

/* Asked to end, a run ends after its step, with its state saved; it says so, and ends as its parent expects. */
static void asked_to_end(void **state) {
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    Way w = {program, NULL};
    for (int i = 0; i < 3; i++) {
        char out[32], text[4096];
        int fd, status;
        snprintf(out, sizeof out, "asked%d", i);
        pid_t pid = start(&w, out, false, &fd);
        wait_for_epochs(fd, 1, text, sizeof text);
        kill(pid, signals[i]);
        wait_for_epochs(fd, 1000, text, sizeof text);
        close(fd);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        bool over = strstr(text, "epoch 6/6"); /* it was faster */
        bool ended = WIFSIGNALED(status) && WTERMSIG(status) == signals[i];
        if (!ended && !(over && !status)) fail_msg("signal %d: status %x: %s", signals[i], (unsigned)status, text);
        if (!over && !strstr(text, "of 6; --resume goes on from ")) fail_msg("signal %d: %s", signals[i], text);
        whole_run(&w, out, true);
        same_files("whole", out);
    }
}

static int begin(void **state) {
    const char *given = getenv("GRADC_SEED");
    first_seed = seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000;
    printf("GRADC_SEED=%llu\n", (unsigned long long)first_seed);
    return find_binary() ? make_trained(state) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(executable), cmocka_unit_test(in_process), cmocka_unit_test(asked_to_end)};
    return cmocka_run_group_tests(tests, begin, remove_dir);
}
