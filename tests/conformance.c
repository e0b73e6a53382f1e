/* ONNX conformance: walks directories of ONNX's official cases and holds every model against its test data.

       conformance [OPTION...] [DIR...]           (DIR: $GRADC_DATA/onnx-backend when none is given)
       --backend LIST   of c, llvm, interp; the outputs of several must be equal to the bit    (llvm)
       --mode MODE      static, symbolic, folded                                               (static)
       --known FILE     cases that are known to fail: NAME MODES REASON a line; they are skipped
       --sample N       every Nth case       --only TEXT    cases with TEXT in their name
       --opt N          -O of the passes and the back end      --threads N     --jobs N     --time SECONDS (of a case)
       --list           prints the cases that pass too, with the largest differences: absolute, relative, ulp

   Every case runs in a process of its own with a time limit, so that a crash counts as a failure and is not the end.
   For the C back end the cases of a batch are compiled by one call of the compiler into one shared library.
   Results come back through shared memory. The last line is `N passed, N failed`, and `, N skipped` where some were. */
#define _GNU_SOURCE
#include "verify.h"
#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 64, MAX_BACKENDS = 3 };

typedef struct Case { const char *name, *model, *data; bool ramp; const char *prefix; } Case;
typedef enum State { UNTRIED, WORKING, PASSED, FAILED, SKIPPED } State;
typedef struct Result { State state; int back_ends; VerifyReport r; char text[500]; } Result;

typedef struct Run {
    Ctx *c;
    VEC(Case) cases;
    Result *results;      /* shared with the children */
    const char *backend[MAX_BACKENDS];
    int nbackends;
    const char *mode;
    VerifyOptions o;
    Map *known;           /* name to reason */
    int sample, jobs, seconds;
    const char *only;
    bool list;
} Run;

static bool uses(const Run *r, const char *backend) {
    for (int i = 0; i < r->nbackends; i++)
        if (!strcmp(r->backend[i], backend)) return true;
    return false;
}

/* ---- which cases there are ---- */

static bool exists(const char *path) { return access(path, R_OK) == 0; }

static void add_case(Run *r, const char *name, const char *model, const char *data, bool ramp) {
    if (r->only && !strstr(name, r->only)) return;
    Case k = {name, model, data, ramp, gd_format(r->c, "k%d", r->cases.n)};
    vec_push(r->c, &r->cases, k);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void add_file(Run *r, const char *dir, const char *file) {
    const char *dot = strrchr(file, '.');
    if (!dot || strcmp(dot, ".onnx")) return;
    char *name = gd_strndup(r->c, file, (size_t)(dot - file));
    char *output = gd_format(r->c, "%s/%s_output_0.pb", dir, name);
    if (exists(output)) add_case(r, name, gd_format(r->c, "%s/%s", dir, file), output, true);
}

/* Below dir; ends at directories that hold a model, and at depth 4. */
static void find_cases(Run *r, const char *dir, int depth) {
    const char *model = gd_format(r->c, "%s/model.onnx", dir), *slash = strrchr(dir, '/');
    if (exists(model)) {
        for (int i = 0;; i++) {
            char *data = gd_format(r->c, "%s/test_data_set_%d", dir, i);
            if (!exists(data)) return;
            const char *name = slash ? slash + 1 : dir;
            add_case(r, i ? gd_format(r->c, "%s:%d", name, i) : gd_strdup(r->c, name), model, data, false);
        }
    }
    struct dirent **entry;
    int n = scandir(dir, &entry, NULL, by_name);
    for (int i = 0; i < n; i++) {
        const char *e = entry[i]->d_name;
        struct stat st;
        char *path = gd_format(r->c, "%s/%s", dir, e);
        if (*e != '.' && !stat(path, &st)) {
            if (S_ISDIR(st.st_mode) && depth < 4) find_cases(r, path, depth + 1);
            else add_file(r, dir, e);
        }
        free(entry[i]);
    }
    if (n >= 0) free(entry);
}

/* Lines of NAME MODES REASON; MODES is `all` or modes with commas between. */
static void read_known(Run *r, const char *path) {
    size_t n;
    char *text = gd_read_file(r->c, path, SIZE_MAX, &n), *line, *rest = gd_strndup(r->c, text, n);
    while ((line = strsep(&rest, "\n"))) {
        char *name = strsep(&line, " "), *modes = strsep(&line, " ");
        if (!modes || *name == '#') continue;
        if (!strcmp(modes, "all") || strstr(modes, r->mode)) map_puts(r->known, name, line ? line : "");
    }
}

/* ---- one case, in a process of its own ---- */

typedef struct Job { Run *r; const Case *k; Result *to; const char *dir, *library; } Job;

static void read_data(Ctx *c, const Job *j, VerifyData *d) {
    if (j->k->ramp) verify_ramp(c, j->k->model, j->k->data, d);
    else verify_data(c, j->k->model, j->k->data, d);
}

static VerifyOptions options(const Job *j) {
    VerifyOptions o = j->r->o;
    o.prefix = j->k->prefix;
    return o;
}

static EmitOptions emit_options(const Job *j, const Program *p) {
    const VerifyOptions *o = &j->r->o;
    return (EmitOptions){.target = o->target, .prefix = p->name, .weights = WEIGHTS_EMBED, .openmp = o->threads > 1,
                         .table = true, .opt = o->opt};
}

static void emit(Ctx *c, void *arg) {
    Job *j = arg;
    VerifyData d;
    VerifyOptions o = options(j);
    read_data(c, j, &d);
    Program *p = verify_program(c, j->k->model, &d, &o);
    EmitOptions e = emit_options(j, p);
    backend_c.write(p, &e, EMIT_C, j->dir);
}

static const GradcProgram *compiled(Ctx *c, const Job *j) {
    void *h = dlopen(j->library, RTLD_NOW | RTLD_LOCAL);
    const GradcProgram *p = h ? dlsym(h, gd_format(c, "%s_program", j->k->prefix)) : NULL;
    if (!p) gd_fail(c, 701, NULL, "%s", dlerror());
    return p;
}

static GradcTensor *run_with(Ctx *c, const Job *j, const char *backend, const VerifyData *d, Program **p, int *nout) {
    VerifyOptions o = options(j);
    Loaded l = {0};
    if (!strcmp(backend, "c")) l.program = compiled(c, j);
    else if (!*p) *p = verify_program(c, j->k->model, d, &o);
    if (!strcmp(backend, "interp")) {
        *nout = (*p)->params.n - (o.mode == VM_FOLDED ? 0 : d->nin);
        return verify_interpret(c, *p, d, &o);
    }
    if (!strcmp(backend, "llvm")) {
        EmitOptions e = emit_options(j, *p);
        backend_named(c, "llvm")->load(*p, &e, &l);
    }
    *nout = l.program->nout;
    return verify_run(c, l.program, d, &o);
}

static void try_case(Ctx *c, void *arg) {
    Job *j = arg;
    Run *r = j->r;
    VerifyData d;
    Program *p = NULL;
    GradcTensor *first = NULL;
    read_data(c, j, &d);
    for (int i = 0; i < r->nbackends; i++) {
        int nout;
        GradcTensor *out = run_with(c, j, r->backend[i], &d, &p, &nout);
        if (!i) verify_compare(c, &d, first = out, nout, &r->o, &j->to->r);
        else if (!verify_equal(first, out, nout, j->to->text, sizeof j->to->text)) {
            size_t n = strlen(j->to->text);
            snprintf(j->to->text + n, sizeof j->to->text - n, " (%s, %s)", r->backend[0], r->backend[i]);
            j->to->state = FAILED;
            return;
        }
    }
    j->to->state = j->to->r.ok ? PASSED : FAILED;
    if (!j->to->r.ok) snprintf(j->to->text, sizeof j->to->text, "wrong: %s", j->to->r.text);
}

/* The child's part: what went wrong is written to the result. */
static int child(Job *j, void (*body)(Ctx *, void *)) {
    Ctx *c = gd_open(NULL);
    if (!c) return EXIT_MEMORY;
    alarm((unsigned)j->r->seconds);
    int status = gd_enter(c, body, j);
    if (status && gd_error_count(c)) {
        const Diag *d = gd_diag(c, 0);
        const char *path = strstr(d->message, ".onnx: "), *m = path ? path + 7 : d->message;
        snprintf(j->to->text, sizeof j->to->text, "E%d %.480s", d->code, m);
    }
    if (status) j->to->state = FAILED;
    return status;
}

static void fork_child(Job *j, void (*body)(Ctx *, void *)) {
    int status;
    j->to->state = WORKING;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) _exit(child(j, body));
    while (waitpid(pid, &status, 0) < 0) {}
    if (WIFSIGNALED(status)) {
        int s = WTERMSIG(status);
        if (s == SIGALRM) snprintf(j->to->text, sizeof j->to->text, "took more than %d s", j->r->seconds);
        else snprintf(j->to->text, sizeof j->to->text, "crash: %s", strsignal(s));
        j->to->state = FAILED;
    }
}

/* ---- batches ---- */

static const char *object_of(Ctx *c, const char *dir, const Case *k) { return gd_format(c, "%s/%s.o", dir, k->prefix); }

static int compile(Ctx *c, const Run *r, const char *const *source, int n, Text *err) {
    const char **argv = gd_new_array(c, const char *, n + 16);
    const char *opt = gd_format(c, "-O%d", r->o.opt > 1 ? 1 : r->o.opt);
    const char *const head[] = {tool_cc(c), opt, "-std=gnu99", "-w", "-march=native", "-fPIC", "-c"};
    int k = 0;
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) argv[k++] = head[i];
    if (r->o.threads > 1) argv[k++] = "-fopenmp";
    for (int i = 0; i < n; i++) argv[k++] = source[i];
    return tool_run(c, argv, err);
}

/* The compiler goes on after a faulty source; what has no object then failed. The worker stands in the batch's directory,
   where the objects come to lie. */
static void compile_batch(Ctx *c, Run *r, int from, int to, const char *dir, const char *library) {
    const char **source = gd_new_array(c, const char *, BATCH), **argv = gd_new_array(c, const char *, BATCH + 8);
    int n = 0, k = 0;
    for (int i = from; i < to; i++)
        if (r->results[i].state == WORKING) source[n++] = gd_format(c, "%s/%s.c", dir, r->cases.v[i].prefix);
    if (!n) return;
    compile(c, r, source, n, NULL);
    const char *const head[] = {tool_cc(c), "-shared", "-o", library};
    for (int i = 0; i < 4; i++) argv[k++] = head[i];
    if (r->o.threads > 1) argv[k++] = "-fopenmp";
    for (int i = from; i < to; i++) {
        Result *x = &r->results[i];
        if (x->state != WORKING) continue;
        const char *object = object_of(c, dir, &r->cases.v[i]);
        if (exists(object)) {
            argv[k++] = object;
            continue;
        }
        Text *err = text_new(c);
        const char *one = gd_format(c, "%s/%s.c", dir, r->cases.v[i].prefix);
        compile(c, r, &one, 1, err);
        const char *e = strstr(err->s, "error:");
        snprintf(x->text, sizeof x->text, "C compiler: %.400s", e ? e : err->s);
        *strchrnul(x->text, '\n') = 0;
        x->state = FAILED;
    }
    argv[k++] = "-lm";
    tool_run(c, argv, NULL);
}

typedef struct Batch { Run *r; int from, to; } Batch;

static void run_batch(Ctx *c, void *arg) {
    Batch *b = arg;
    Run *r = b->r;
    bool with_c = uses(r, "c");
    const char *dir = with_c ? tool_temp_dir(c) : NULL, *library = with_c ? gd_format(c, "%s/batch.so", dir) : NULL;
    if (with_c && chdir(dir)) gd_fail(c, 101, NULL, "%s cannot be entered", dir);
    for (int i = b->from; i < b->to; i++) {
        Job j = {r, &r->cases.v[i], &r->results[i], dir, library};
        if (with_c && j.to->state == UNTRIED) fork_child(&j, emit);
    }
    if (with_c) compile_batch(c, r, b->from, b->to, dir, library);
    for (int i = b->from; i < b->to; i++) {
        Job j = {r, &r->cases.v[i], &r->results[i], dir, library};
        if (j.to->state == UNTRIED || j.to->state == WORKING) fork_child(&j, try_case);
    }
    if (with_c && chdir("/")) gd_fail(c, 101, NULL, "/ cannot be entered");
}

/* A worker takes every jobs-th batch. */
static int work(Run *r, int worker) {
    int batch = BATCH < r->cases.n / r->jobs + 1 ? BATCH : r->cases.n / r->jobs + 1, status = 0;
    for (int from = worker * batch; from < r->cases.n && !status; from += r->jobs * batch) {
        Batch b = {r, from, from + batch < r->cases.n ? from + batch : r->cases.n};
        Ctx *c = gd_open(NULL);
        status = c ? gd_enter(c, run_batch, &b) : EXIT_MEMORY;
        if (c && gd_error_count(c)) fprintf(stderr, "conformance: %s\n", gd_diag(c, 0)->message);
        if (c) gd_close(c);
    }
    return status;
}

static void run_all(Run *r) {
    if (uses(r, "llvm")) backend_named(r->c, "llvm"); /* loaded once, before the processes part */
    fflush(NULL);
    for (int w = 0; w < r->jobs; w++)
        if (fork() == 0) _exit(work(r, w));
    while (wait(NULL) > 0) {}
}

/* ---- the answer ---- */

static int report(Run *r) {
    int passed = 0, failed = 0, skipped = 0;
    for (int i = 0; i < r->cases.n; i++) {
        const Case *k = &r->cases.v[i];
        const Result *x = &r->results[i];
        if (x->state == SKIPPED) skipped++;
        else if (x->state == PASSED) {
            passed++;
            if (r->list) printf("ok   %s %.3g %.3g %.0f\n", k->name, x->r.abs, x->r.rel, x->r.ulp);
        } else {
            failed++;
            printf("FAIL %s: %s\n", k->name, *x->text ? x->text : "not finished");
        }
    }
    printf("%d passed, %d failed", passed, failed);
    if (skipped) printf(", %d skipped", skipped);
    printf("\n");
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- the command line ---- */

static const char *const modes[] = {"static", "symbolic", "folded"};

static void set_mode(Run *r, const char *word) {
    for (int i = 0; i < 3; i++)
        if (!strcmp(word, modes[i])) r->o.mode = (VerifyMode)i, r->mode = modes[i];
    if (strcmp(r->mode, word)) gd_fail(r->c, 601, NULL, "--mode is static, symbolic or folded");
}

static void set_backends(Run *r, const char *list) {
    r->nbackends = 0;
    for (char *words = gd_strdup(r->c, list), *w; (w = strsep(&words, ","));) {
        if (r->nbackends == MAX_BACKENDS || (strcmp(w, "c") && strcmp(w, "llvm") && strcmp(w, "interp")))
            gd_fail(r->c, 601, NULL, "--backend is a list of c, llvm and interp");
        r->backend[r->nbackends++] = w;
    }
}

static int whole(Run *r, const char *option, const char *word) {
    char *end;
    long v = strtol(word, &end, 10);
    if (*end || end == word || v < 0 || v > 1000000) gd_fail(r->c, 601, NULL, "%s: %s is no number", option, word);
    return (int)v;
}

static char **options_of(Run *r, char **argv) {
    const char *known = NULL;
    for (; *argv && !strncmp(*argv, "--", 2); argv++) {
        const char *o = *argv, *v;
        if (!strcmp(o, "--list")) {
            r->list = true;
            continue;
        }
        if (!(v = *++argv)) gd_fail(r->c, 601, NULL, "%s wants a value", o);
        if (!strcmp(o, "--backend")) set_backends(r, v);
        else if (!strcmp(o, "--mode")) set_mode(r, v);
        else if (!strcmp(o, "--known")) known = v;
        else if (!strcmp(o, "--only")) r->only = v;
        else if (!strcmp(o, "--sample")) r->sample = whole(r, o, v);
        else if (!strcmp(o, "--opt")) r->o.opt = whole(r, o, v);
        else if (!strcmp(o, "--threads")) r->o.threads = whole(r, o, v);
        else if (!strcmp(o, "--jobs")) r->jobs = whole(r, o, v);
        else if (!strcmp(o, "--time")) r->seconds = whole(r, o, v);
        else gd_fail(r->c, 601, NULL, "there is no option %s", o);
    }
    if (known) read_known(r, known);
    return argv;
}

static void find_all(Run *r, char **dirs) {
    const char *data = getenv("GRADC_DATA");
    char *standard[] = {data ? gd_format(r->c, "%s/onnx-backend", data) : NULL, NULL};
    for (char **d = *dirs ? dirs : standard; *d; d++) {
        char *whole_path = realpath(*d, NULL);
        if (!whole_path) gd_fail(r->c, 101, NULL, "%s: there is no such directory", *d);
        find_cases(r, whole_path, 0);
        free(whole_path);
    }
}

static void choose(Run *r) {
    int n = 0;
    for (int i = 0; r->sample > 1 && i < r->cases.n; i += r->sample) r->cases.v[n++] = r->cases.v[i];
    if (n) r->cases.n = n;
    size_t bytes = (size_t)(r->cases.n + 1) * sizeof *r->results;
    r->results = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->results == MAP_FAILED) gd_fail(r->c, 506, NULL, "no shared memory");
    for (int i = 0; i < r->cases.n; i++)
        if (map_has(r->known, r->cases.v[i].name, strlen(r->cases.v[i].name)))
            r->results[i].state = SKIPPED;
}

typedef struct Main { char **argv; int status; } Main;

static void body(Ctx *c, void *arg) {
    Main *m = arg;
    Run r = {.c = c, .backend = {"llvm"}, .nbackends = 1, .mode = modes[0], .sample = 1, .jobs = 1, .seconds = 60, .known = map_new(c)};
    r.o = (VerifyOptions){.target = target_named(c, "native"), .opt = 3, .threads = 1, .rtol = 1e-3, .atol = 1e-7};
    find_all(&r, options_of(&r, m->argv + 1));
    if (r.jobs < 1) r.jobs = 1;
    choose(&r);
    run_all(&r);
    m->status = report(&r);
}

int main(int argc, char **argv) {
    (void)argc;
    Main m = {argv, 0};
    Ctx *c = gd_open(NULL);
    if (!c) return EXIT_MEMORY;
    int status = gd_enter(c, body, &m);
    for (int i = 0; i < gd_error_count(c); i++) fprintf(stderr, "conformance: %s\n", gd_diag(c, i)->message);
    gd_close(c);
    return status ? status : m.status;
}
