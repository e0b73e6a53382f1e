/* Programs run by argument vector (never a shell), temporary directories, and the files installed with gradc.
 */
#define _GNU_SOURCE
#include "codegen.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Everything that is read goes to err, as far as it is asked for; the loop ends when the program closes its
 * end. */
static void drain(int fd, Text *err) {
    char buffer[4096];
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return;
        if (err && err->n < 1 << 20) text_putn(err, buffer, (size_t)n);
    }
}

int tool_run(Ctx *c, const char *const *argv, Text *err) {
    int ends[2], status = 0;
    pid_t pid;
    posix_spawn_file_actions_t fa;
    if (pipe2(ends, O_CLOEXEC)) gd_fail(c, 701, NULL, "%s: %s", argv[0], strerror(errno));
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, ends[1], 1);
    posix_spawn_file_actions_adddup2(&fa, ends[1], 2);
    int failed = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(ends[1]);
    if (failed) {
        close(ends[0]);
        gd_fail(c, 701, NULL, "%s: %s", argv[0], strerror(failed));
    }
    drain(ends[0], err);
    close(ends[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- which compiler ---- */

static bool runnable(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* The first word of command, along PATH. */
static bool on_path(Ctx *c, const char *command) {
    char *name = gd_strndup(c, command, strcspn(command, " \t"));
    const char *path = getenv("PATH");
    if (!*name) return false;
    if (strchr(name, '/')) return runnable(name);
    for (; path && *path; path += strcspn(path, ":"), path += *path == ':')
        if (runnable(gd_format(c, "%.*s/%s", (int)strcspn(path, ":"), path, name))) return true;
    return false;
}

const char *tool_cc(Ctx *c) {
    static const char *const names[] = {"cc", "gcc", "clang"};
    const char *cc = getenv("CC");
    if (cc && on_path(c, cc)) return cc;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (on_path(c, names[i])) return names[i];
    return NULL;
}

/* ---- temporary files ---- */

/* Files only: nothing makes directories in there. */
static void remove_dir(void *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(path);
}

const char *tool_temp_dir(Ctx *c) {
    const char *base = getenv("TMPDIR");
    char *path = gd_format(c, "%s/gradc-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(path))
        gd_fail(c, 106, "set TMPDIR to a directory that can be written", "%s: %s", path, strerror(errno));
    gd_defer(c, remove_dir, path);
    return path;
}

/* ---- what is installed with gradc ---- */

/* Beside the executable (a build folder), or where an installation puts it: PREFIX/bin, PREFIX/lib/gradc. */
const char *tool_runtime(Ctx *c, const char *name) {
    static const char *const places[] = {"", "../lib/gradc/", "../lib/", "../", "../include/gradc/"};
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        *(strrchr(self, '/') + 1) = 0;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            char *path = gd_format(c, "%s%s%s", self, places[i], name);
            if (!access(path, R_OK)) return path;
        }
    }
#if defined(GRADC_LIBDIR)
    char *path = gd_format(c, "%s/%s", GRADC_LIBDIR, name);
    if (!access(path, R_OK)) return path;
#endif
    gd_fail(c, 405, "reinstall gradc, or keep its files together", "%s is not installed", name);
}

ToolArgs tool_compiler(Ctx *c) {
    ToolArgs a = {0};
    const char *cc = tool_cc(c);
    if (!cc)
        gd_fail(c, 405, "install gcc or clang, set CC, or use --emit obj (llvm) or --emit c",
                "no C compiler was found");
    for (size_t n; *(cc += strspn(cc, " \t")); cc += n) {
        n = strcspn(cc, " \t");
        vec_push(c, &a, gd_strndup(c, cc, n));
    }
    return a;
}

void tool_need(Ctx *c, ToolArgs *a, const char *what) {
    Text *err = text_new(c);
    vec_push(c, a, NULL);
    int status = tool_run(c, a->v, err);
    if (status)
        gd_fail(c, 701, "the text above comes from the compiler or the linker", "%s: %s ended with %d\n%.4000s", what, a->v[0],
                status, err->s);
}

bool tool_accepts(Ctx *c, const char *option) {
    const char *dir = tool_temp_dir(c), *source = gd_format(c, "%s/probe.c", dir);
    ToolArgs a = tool_compiler(c);
    gd_write_file(c, source, "int main(void) { return 0; }\n", 29);
    const char *const rest[] = {option, source, "-o", gd_format(c, "%s/probe", dir), NULL};
    for (int i = 0; i < 5; i++) vec_push(c, &a, rest[i]);
    return tool_run(c, a.v, text_new(c)) == 0;
}
