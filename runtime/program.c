/* An emitted executable from its command line to its exit: bind, run, print or write.

   stdout carries only the answer; times and errors go to stderr. Files are written all or none: every output
   is complete in a temporary file before the first of them takes its name. */
#define _POSIX_C_SOURCE 200809L
#include "program.h"
#include "element.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- threads ---- */

#if defined(__GNUC__)
extern void omp_set_num_threads(int n) __attribute__((weak));
void gradc_set_threads(int n) {
    if (omp_set_num_threads && n > 0) omp_set_num_threads(n);
}
static bool linked(void) { return omp_set_num_threads; }
#else
void gradc_set_threads(int n) { (void)n; }
static bool linked(void) { return false; }
#endif

/* By default GCC's threads spin for milliseconds, and LLVM's for 200 of them: with busy cores each of the many short nests of a
   run then waits for the scheduler. 3000 turns are some 50 microseconds. */
void gradc_calm_threads(char **argv) {
    static const char *const how[][2] = {{"GOMP_SPINCOUNT", "3000"}, {"KMP_BLOCKTIME", "0"}};
    if (getenv("OMP_WAIT_POLICY") || getenv(how[0][0]) || getenv(how[1][0])) return;
    for (int i = 0; i < 2; i++)
        if (setenv(how[i][0], how[i][1], 0)) return;
    if (linked()) execv("/proc/self/exe", argv); /* when that fails the run goes on, only waiting longer */
}

/* ---- help ---- */

static void print_ports(const GradcProgram *p, FILE *f, const char *title, const GradcPort *port, int n) {
    char shape[512];
    int width = 0;
    for (int i = 0; i < n; i++) {
        int w = (int)strlen(port[i].name);
        if (w > width && w <= 32) width = w;
    }
    fprintf(f, "\n%s\n", title);
    for (int i = 0; i < n; i++)
        fprintf(f, "  %-*s  %s\n", width, port[i].name, gradc_port_text(shape, sizeof shape, p, &port[i]));
}

static void print_symbols(const GradcProgram *p, FILE *f) {
    if (p->nsyms) fputs("\nsizes\n", f);
    for (int s = 0; s < p->nsyms; s++) {
        bool given = false;
        for (int i = 0; i < p->nin; i++)
            for (int d = 0; d < p->in[i].rank; d++) given = given || p->in[i].dims[d] == -1 - (int64_t)s;
        fprintf(f, "  %s  %lld..", p->sym_names[s], (long long)p->sym_lo[s]);
        if (p->sym_hi[s] != INT64_MAX) fprintf(f, "%lld", (long long)p->sym_hi[s]);
        fputs(given ? "\n" : "  (the data decides)\n", f);
    }
}

void gradc_program_help(const GradcProgram *p, FILE *f) {
    fprintf(f, "usage: %s %s[options]\n", p->name, p->nin ? "NAME=VALUE ... " : "");
    print_ports(p, f, "inputs", p->in, p->nin);
    print_ports(p, f, "outputs", p->out, p->nout);
    print_symbols(p, f);
    fputs("\nvalues\n"
          "  @FILE.npy        a NumPy file\n"
          "  rand, rand:SEED  made up: floats from -1 to 1, integers from 0 to 9\n"
          "  zeros, ones, 3   every element the same\n"
          "  \"text\"           a string\n"
          "  [1,2,3] [1,2;3,4] [[1,2],[3,4]]\n"
          "\noptions\n"
          "  --dim NAME=SIZE  a size that the values leave open\n"
          "  --out DIR        write the outputs to DIR/NAME.npy instead of printing them (a / in NAME: _)\n"
          "  --threads N      use N threads; the answer does not depend on it\n"
          "  --repeat K       run K times\n"
          "  --time           print how long the runs took, on stderr\n"
          "  --help, --version\n", f);
}

/* ---- running ---- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static int run_often(GradcCall *c, const GradcArgs *a, GradcError *e) {
    int n = a->repeat > 0 ? a->repeat : 1, status = 0;
    double *ms = malloc((size_t)n * sizeof *ms);
    if (!ms) return gradc_error(e, 506, NULL, "out of memory");
    for (int k = 0; !status && k < n; k++) {
        double start = now();
        status = gradc_call_run(c, e);
        ms[k] = now() - start;
    }
    if (!status && a->time) {
        qsort(ms, (size_t)n, sizeof *ms, by_size);
        fprintf(stderr, "time: %d run%s, min %.3f ms, median %.3f ms, max %.3f ms\n", n, n == 1 ? "" : "s",
                ms[0], n % 2 ? ms[n / 2] : (ms[n / 2 - 1] + ms[n / 2]) / 2, ms[n - 1]);
    }
    free(ms);
    return status;
}

/* ---- the answer ---- */

enum { PATH_ROOM = 4096 };
typedef struct Pending {
    char path[PATH_ROOM], temp[PATH_ROOM];
} Pending; /* temp is empty when there is none */

/* A directory of that name would make rename fail after other files have taken their names. w: of n before. */
static int prepare(Pending *w, int n, const char *dir, const char *name, const GradcTensor *t, GradcError *e) {
    struct stat st;
    if (!gradc_npy_path(w->path, sizeof w->path, dir, name))
        return gradc_error(e, 106, NULL, "%.200s: %s", dir, strerror(ENAMETOOLONG));
    for (int k = 1; k <= n; k++)
        if (!strcmp(w[-k].path, w->path))
            return gradc_error(e, 106, NULL, "%.400s: two outputs would be this file", w->path);
    if (!lstat(w->path, &st) && S_ISDIR(st.st_mode))
        return gradc_error(e, 106, NULL, "%.400s: %s", w->path, strerror(EISDIR));
    return gradc_npy_prepare(t, w->path, w->temp, sizeof w->temp, e);
}

static int write_outputs(const GradcCall *c, const char *dir, GradcError *e) {
    const GradcProgram *p = c->program;
    int status = 0;
    if (mkdir(dir, 0777) && errno != EEXIST)
        return gradc_error(e, 106, NULL, "%.400s: %s", dir, strerror(errno));
    Pending *w = calloc((size_t)p->nout + 1, sizeof *w);
    if (!w) return gradc_error(e, 506, NULL, "out of memory");
    for (int i = 0; !status && i < p->nout; i++) status = prepare(&w[i], i, dir, p->out[i].name, &c->out[i], e);
    for (int i = 0; !status && i < p->nout; i++) {
        if (rename(w[i].temp, w[i].path))
            status = gradc_error(e, 106, NULL, "%.400s: %s", w[i].path, strerror(errno));
        else w[i].temp[0] = 0;
    }
    for (int i = 0; i < p->nout; i++)
        if (w[i].temp[0]) unlink(w[i].temp);
    free(w);
    return status;
}

static int print_outputs(const GradcCall *c, FILE *f, GradcError *e) {
    for (int i = 0; i < c->program->nout; i++)
        gradc_tensor_print(f, c->program->out[i].name, &c->out[i], GRADC_PRINT_LIMIT);
    if (!fflush(f) && !ferror(f)) return 0;
    return gradc_error(e, 106, NULL, "the outputs cannot be printed: %s", strerror(errno));
}

int gradc_call_command(GradcCall *c, const GradcArgs *a, FILE *f, GradcError *e) {
    if (a->threads > 0) gradc_set_threads(a->threads);
    int status = gradc_call_args(c, a, e);
    if (!status) status = run_often(c, a, e);
    if (!status) status = a->out ? write_outputs(c, a->out, e) : print_outputs(c, f, e);
    return status;
}

int gradc_program_run(const GradcProgram *p, const GradcArgs *a, FILE *f, GradcError *e) {
    GradcCall c;
    int status = gradc_call_open(&c, p, e);
    if (status) return status;
    status = gradc_call_command(&c, a, f, e);
    gradc_call_close(&c);
    return status;
}

int gradc_program_main(const GradcProgram *p, int argc, char **argv) {
    GradcArgs a;
    GradcError e = {0, "", ""};
    gradc_calm_threads(argv);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error of the write */
    int status = gradc_args_parse(&a, argc > 0 ? argc - 1 : 0, argv + 1, &e);
    if (!status) {
        if (a.help) gradc_program_help(p, stdout);
        else if (a.version) printf("%s %s\n", p->name, p->version);
        else status = gradc_program_run(p, &a, stdout, &e);
        gradc_args_free(&a);
    }
    if (!status && fflush(stdout)) status = gradc_error(&e, 106, NULL, "stdout: %s", strerror(errno));
    if (status) gradc_error_print(stderr, p->name, &e);
    return status;
}
