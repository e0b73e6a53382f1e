/* ONNX conformance: walks directories of ONNX's official cases and holds every model against its test data.

       conformance [OPTION...] [DIR...]           (DIR: $GRADC_DATA/onnx-backend when none is given)
       --backend LIST   of c, llvm, interp; the outputs of several must be equal to the bit    (llvm)
       --mode MODE      static, symbolic, folded                                               (static)
       --known FILE     cases that are known to fail: NAME MODES REASON a line; they are skipped
       --sample N       every Nth case       --only TEXT    cases with TEXT in their name
       --opt N          -O of the passes and of LLVM           --jobs N        --time SECONDS (of a case)
       --cc LIST        C compilers, and                       --cc-opt LIST   their -O levels  ($CC, cc, gcc or clang; 1)
       --threads LIST   how many threads run a program; the largest is what it is made for      (1)
       --ulp FILE       cases whose worst differences grew since the file was written fail
       --bless-ulp FILE writes it: NAME ULP ABS a line
       --list           prints the cases that pass too, with the largest differences: absolute, relative, ulp

   Every back end, compiler, level and number of threads is one variant of a case; all must answer with the bits of the
   first. The interpreter runs the program that is made for one thread.

   Every case runs in a process of its own with a time limit, so that a crash counts as a failure and is not the end.
   For the C back end the cases of a batch are emitted once, and compiled by one call of each compiler at each level into
   one shared library.
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

enum { BATCH = 64, MAX_BACKENDS = 3, MAX_LIST = 8, MAX_BUILDS = MAX_LIST * MAX_LIST };

typedef struct Case { const char *name, *model, *data; bool ramp; const char *prefix; } Case;
typedef enum State { UNTRIED, WORKING, PASSED, FAILED, SKIPPED } State;
typedef struct Result { State state; VerifyReport r; char text[500]; } Result;

/* A C compiler at one of its levels. */
typedef struct Build { ToolArgs cc; const char *name; int opt; bool openmp; } Build;
/* build: of the C back end, -1 for the others. */
typedef struct Variant { const char *backend; int build, threads; const char *name; } Variant;

typedef struct Run {
    Ctx *c;
    VEC(Case) cases;
    Result *results;      /* shared with the children */
    const char *backend[MAX_BACKENDS];
    int nbackends;
    const char *cc[MAX_LIST];
    int ncc, cc_opt[MAX_LIST], ncc_opt, threads[MAX_LIST], nthreads;
    VEC(Build) builds;
    VEC(Variant) variants;
    const char *mode, *ulp, *bless_ulp;
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

/* dir: where the sources lie; library: one a build. */
typedef struct Job { Run *r; const Case *k; Result *to; const char *dir, *const *library; } Job;

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

static const GradcProgram *compiled(Ctx *c, const Job *j, int build) {
    void *h = dlopen(j->library[build], RTLD_NOW | RTLD_LOCAL);
    const GradcProgram *p = h ? dlsym(h, gd_format(c, "%s_program", j->k->prefix)) : NULL;
    if (!p) gd_fail(c, 701, NULL, "%s", dlerror());
    return p;
}

/* What the variants of a case share. */
typedef struct Trial { const Job *j; VerifyData d; Program *serial, *threaded; Loaded jit; } Trial;

static Program *program_for(Ctx *c, Trial *t, bool threaded) {
    VerifyOptions o = options(t->j);
    Program **p = threaded && o.threads > 1 ? &t->threaded : &t->serial;
    if (p == &t->serial) o.threads = 1;
    if (!*p) *p = verify_program(c, t->j->k->model, &t->d, &o);
    return *p;
}

static GradcTensor *run_variant(Ctx *c, Trial *t, const Variant *v, int *nout) {
    VerifyOptions o = options(t->j);
    if (!strcmp(v->backend, "interp")) {
        Program *p = program_for(c, t, false);
        *nout = p->params.n - (o.mode == VM_FOLDED ? 0 : t->d.nin);
        return verify_interpret(c, p, &t->d, &o);
    }
    const GradcProgram *program;
    if (v->build >= 0) program = compiled(c, t->j, v->build);
    else {
        Program *p = program_for(c, t, true);
        EmitOptions e = emit_options(t->j, p);
        if (!t->jit.program) backend_named(c, "llvm")->load(p, &e, &t->jit);
        program = t->jit.program;
    }
    *nout = program->nout;
    o.threads = v->threads;
    return verify_run(c, program, &t->d, &o);
}

static void try_case(Ctx *c, void *arg) {
    Job *j = arg;
    Run *r = j->r;
    Trial t = {.j = j};
    GradcTensor *first = NULL;
    read_data(c, j, &t.d);
    for (int i = 0; i < r->variants.n; i++) {
        int nout;
        const Variant *v = &r->variants.v[i];
        snprintf(j->to->text, sizeof j->to->text, "(%s) ", v->name); /* where it was, should it crash */
        GradcTensor *out = run_variant(c, &t, v, &nout);
        if (!i) verify_compare(c, &t.d, first = out, nout, &r->o, &j->to->r);
        else if (!verify_equal(first, out, nout, j->to->text, sizeof j->to->text)) {
            size_t n = strlen(j->to->text);
            snprintf(j->to->text + n, sizeof j->to->text - n, " (%s; %s)", r->variants.v[0].name, v->name);
            j->to->state = FAILED;
            return;
        }
    }
    *j->to->text = 0;
    j->to->state = j->to->r.ok ? PASSED : FAILED;
    if (!j->to->r.ok) snprintf(j->to->text, sizeof j->to->text, "wrong: %s", j->to->r.text);
}

static void say(Result *x, const char *fmt, ...) GD_PRINTF(2, 3);
/* Behind the variant's name, where there is more than one. */
static void say(Result *x, const char *fmt, ...) {
    size_t n = strlen(x->text);
    va_list a;
    va_start(a, fmt);
    vsnprintf(x->text + n, sizeof x->text - n, fmt, a);
    va_end(a);
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
        if (j->r->variants.n == 1) *j->to->text = 0;
        say(j->to, "E%d %.400s", d->code, m);
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
        if (j->r->variants.n == 1) *j->to->text = 0;
        if (s == SIGALRM) say(j->to, "took more than %d s", j->r->seconds);
        else say(j->to, "crash: %s", strsignal(s));
        j->to->state = FAILED;
    }
}

/* ---- batches ---- */

static const char *object_of(Ctx *c, const char *dir, const Case *k) { return gd_format(c, "%s/%s.o", dir, k->prefix); }

/* The compiler's words, then those of head up to NULL. */
static ToolArgs command(Ctx *c, const Build *b, const char *const *head) {
    ToolArgs a = {0};
    for (int i = 0; i < b->cc.n; i++) vec_push(c, &a, b->cc.v[i]);
    for (int i = 0; head[i]; i++) vec_push(c, &a, head[i]);
    if (b->openmp) vec_push(c, &a, "-fopenmp");
    return a;
}

static void compile(Ctx *c, const Build *b, const char *const *source, int n, Text *err) {
    const char *opt = gd_format(c, "-O%d", b->opt);
    ToolArgs a = command(c, b, (const char *const[]){opt, "-std=gnu99", "-w", "-march=native", "-fPIC", "-c", NULL});
    for (int i = 0; i < n; i++) vec_push(c, &a, source[i]);
    vec_push(c, &a, NULL);
    tool_run(c, a.v, err);
}

typedef struct Batch {
    Run *r;
    int from, to;
    const char *dir;      /* of the sources */
    const char **library; /* of every build */
} Batch;

static void note_fault(Ctx *c, Batch *t, const Build *b, Result *x, const Case *k) {
    Text *err = text_new(c);
    const char *one = gd_format(c, "%s/%s.c", t->dir, k->prefix);
    compile(c, b, &one, 1, err);
    const char *e = strstr(err->s, "error:");
    *x->text = 0;
    say(x, "%s: %.400s", b->name, e ? e : err->s);
    *strchrnul(x->text, '\n') = 0;
    x->state = FAILED;
}

/* The compiler goes on after a faulty source; what has no object then failed. The worker stands in a directory of the
   build, where the objects come to lie. */
static void compile_batch(Ctx *c, Batch *t, int build) {
    Run *r = t->r;
    const Build *b = &r->builds.v[build];
    const char **source = gd_new_array(c, const char *, t->to - t->from + 1), *dir = tool_temp_dir(c);
    int n = 0;
    if (chdir(dir)) gd_fail(c, 101, NULL, "%s cannot be entered", dir);
    t->library[build] = gd_format(c, "%s/batch.so", dir);
    for (int i = t->from; i < t->to; i++)
        if (r->results[i].state == WORKING) source[n++] = gd_format(c, "%s/%s.c", t->dir, r->cases.v[i].prefix);
    if (!n) return;
    compile(c, b, source, n, NULL);
    ToolArgs a = command(c, b, (const char *const[]){"-shared", "-o", t->library[build], NULL});
    for (int i = t->from; i < t->to; i++) {
        if (r->results[i].state != WORKING) continue;
        const char *object = object_of(c, dir, &r->cases.v[i]);
        if (exists(object)) vec_push(c, &a, object);
        else note_fault(c, t, b, &r->results[i], &r->cases.v[i]);
    }
    vec_push(c, &a, "-lm");
    vec_push(c, &a, NULL);
    tool_run(c, a.v, NULL);
}

static void run_batch(Ctx *c, void *arg) {
    Batch *b = arg;
    Run *r = b->r;
    b->dir = r->builds.n ? tool_temp_dir(c) : NULL;
    b->library = gd_new_array(c, const char *, MAX_BUILDS);
    for (int i = b->from; i < b->to; i++) {
        Job j = {r, &r->cases.v[i], &r->results[i], b->dir, b->library};
        if (r->builds.n && j.to->state == UNTRIED) fork_child(&j, emit);
    }
    for (int i = 0; i < r->builds.n; i++) compile_batch(c, b, i);
    for (int i = b->from; i < b->to; i++) {
        Job j = {r, &r->cases.v[i], &r->results[i], b->dir, b->library};
        if (j.to->state == UNTRIED || j.to->state == WORKING) fork_child(&j, try_case);
    }
    if (chdir("/")) gd_fail(c, 101, NULL, "/ cannot be entered");
}

/* A worker takes every jobs-th batch. */
static int work(Run *r, int worker) {
    int batch = BATCH < r->cases.n / r->jobs + 1 ? BATCH : r->cases.n / r->jobs + 1, status = 0;
    for (int from = worker * batch; from < r->cases.n && !status; from += r->jobs * batch) {
        Batch b = {.r = r, .from = from, .to = from + batch < r->cases.n ? from + batch : r->cases.n};
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

/* ---- the table of differences ---- */

static const char table_head[] =
    "# The largest difference of each official case from its reference: NAME ULP ABS. ULP counts the values of the output's own\n"
    "# type in between, ABS is the absolute difference; cases without a line have neither. Both are of the whole case, not of one\n"
    "# element. A case fails that gets worse by more than a factor of 2 (conformance --ulp). Written by conformance --bless-ulp.\n";

typedef struct Worst { double ulp, abs; } Worst;

static int by_case(const void *a, const void *b) {
    const Case *x = *(const Case *const *)a, *y = *(const Case *const *)b;
    return strcmp(x->name, y->name);
}

static void write_table(Run *r) {
    Text *t = text_new(r->c);
    const Case **k = gd_new_array(r->c, const Case *, r->cases.n + 1);
    for (int i = 0; i < r->cases.n; i++) k[i] = &r->cases.v[i];
    qsort(k, (size_t)r->cases.n, sizeof *k, by_case);
    text_put(t, table_head);
    for (int i = 0; i < r->cases.n; i++) {
        const Result *x = &r->results[k[i] - r->cases.v];
        if (x->state == PASSED && (x->r.ulp > 0 || x->r.abs > 0))
            text_printf(t, "%s %.3g %.3g\n", k[i]->name, x->r.ulp, x->r.abs);
    }
    gd_write_file(r->c, r->bless_ulp, t->s, t->n);
}

static bool grew(double now, double before) { return now > 2 * before * 1.01; }

/* One ulp more is what a different, equally good order of operations makes of a result that was exact. */
static void hold_against_table(Run *r) {
    size_t n;
    Map *table = map_new(r->c);
    static const Worst exact;
    char *text = gd_read_file(r->c, r->ulp, SIZE_MAX, &n), *line, *rest = gd_strndup(r->c, text, n);
    while ((line = strsep(&rest, "\n"))) {
        char *name = strsep(&line, " ");
        Worst *w = gd_new(r->c, Worst);
        if (*name != '#' && line && sscanf(line, "%lf %lf", &w->ulp, &w->abs) == 2) map_puts(table, name, w);
    }
    for (int i = 0; i < r->cases.n; i++) {
        Result *x = &r->results[i];
        const Worst *w = map_gets(table, r->cases.v[i].name);
        if (!w) w = &exact;
        if (x->state != PASSED || (!grew(x->r.abs, w->abs) && (x->r.ulp <= w->ulp + 1 || !grew(x->r.ulp, w->ulp))))
            continue;
        if (!w->ulp && x->r.ulp <= 1) continue;
        x->state = FAILED;
        snprintf(x->text, sizeof x->text, "worse than in %s: %.3g ulp, %.3g absolute; there %.3g, %.3g", r->ulp,
                 x->r.ulp, x->r.abs, w->ulp, w->abs);
    }
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

/* ---- the variants ---- */

/* Can it link programs for OpenMP? Some compilers come without its library. */
static void probe_openmp(Ctx *c, void *arg) {
    Build *b = arg;
    const char *dir = tool_temp_dir(c);
    const char *source = gd_format(c, "%s/probe.c", dir), *out = gd_format(c, "%s/probe.so", dir);
    static const char probe[] = "void probe(int *x) {\n#pragma omp parallel\n*x = 0;\n}\n";
    gd_write_file(c, source, probe, sizeof probe - 1);
    b->openmp = true;
    ToolArgs a = command(c, b, (const char *const[]){"-shared", "-fPIC", source, "-o", out, NULL});
    vec_push(c, &a, NULL);
    b->openmp = tool_run(c, a.v, NULL) == 0;
}

static ToolArgs words_of(Ctx *c, const char *s) {
    ToolArgs a = {0};
    for (size_t n; *(s += strspn(s, " ")); s += n) vec_push(c, &a, gd_strndup(c, s, n = strcspn(s, " ")));
    return a;
}

static void add_builds(Run *r) {
    Ctx *c = r->c;
    if (!r->ncc) r->cc[r->ncc++] = tool_cc(c);
    if (!r->cc[0]) gd_fail(c, 405, NULL, "no C compiler was found");
    for (int i = 0; i < r->ncc; i++) {
        Build b = {.cc = words_of(c, r->cc[i])};
        if (r->o.threads > 1) {
            probe_openmp(c, &b);
            if (!b.openmp) fprintf(stderr, "conformance: %s has no OpenMP: its programs run on one thread\n", r->cc[i]);
        }
        for (int k = 0; k < r->ncc_opt; k++) {
            b.opt = r->cc_opt[k];
            b.name = gd_format(c, "%s -O%d", r->cc[i], b.opt);
            vec_push(c, &r->builds, b);
        }
    }
}

static void add_threads(Run *r, const char *backend, int build, const char *name, bool threaded) {
    for (int i = 0; i < (threaded ? r->nthreads : 1); i++) {
        const char *full = r->o.threads > 1 ? gd_format(r->c, "%s, threads %d", name, threaded ? r->threads[i] : 1) : name;
        Variant v = {backend, build, threaded ? r->threads[i] : 1, full};
        vec_push(r->c, &r->variants, v);
    }
}

static void make_variants(Run *r) {
    for (int i = 0; i < r->nthreads; i++)
        if (r->threads[i] > r->o.threads) r->o.threads = r->threads[i];
    if (uses(r, "c")) add_builds(r);
    for (int i = 0; i < r->nbackends; i++) {
        const char *name = r->backend[i];
        if (strcmp(name, "c")) add_threads(r, name, -1, name, !strcmp(name, "llvm"));
        else
            for (int k = 0; k < r->builds.n; k++) add_threads(r, name, k, r->builds.v[k].name, r->builds.v[k].openmp);
    }
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

static int numbers(Run *r, const char *option, const char *list, int *to) {
    int n = 0;
    for (char *words = gd_strdup(r->c, list), *w; (w = strsep(&words, ","));) {
        if (n == MAX_LIST) gd_fail(r->c, 601, NULL, "%s: at most %d", option, MAX_LIST);
        to[n++] = whole(r, option, w);
    }
    return n;
}

static void set_compilers(Run *r, const char *list) {
    r->ncc = 0;
    for (char *words = gd_strdup(r->c, list), *w; (w = strsep(&words, ","));) {
        if (r->ncc == MAX_LIST) gd_fail(r->c, 601, NULL, "--cc: at most %d", MAX_LIST);
        r->cc[r->ncc++] = w;
    }
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
        else if (!strcmp(o, "--threads")) r->nthreads = numbers(r, o, v, r->threads);
        else if (!strcmp(o, "--cc")) set_compilers(r, v);
        else if (!strcmp(o, "--cc-opt")) r->ncc_opt = numbers(r, o, v, r->cc_opt);
        else if (!strcmp(o, "--ulp")) r->ulp = v;
        else if (!strcmp(o, "--bless-ulp")) r->bless_ulp = v;
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
    Run r = {.c = c, .backend = {"llvm"}, .nbackends = 1, .mode = modes[0], .sample = 1, .jobs = 1, .seconds = 60, .known = map_new(c),
             .cc_opt = {1}, .ncc_opt = 1, .threads = {1}, .nthreads = 1};
    r.o = (VerifyOptions){.target = target_named(c, "native"), .opt = 3, .threads = 1, .rtol = 1e-3, .atol = 1e-7};
    find_all(&r, options_of(&r, m->argv + 1));
    if (r.jobs < 1) r.jobs = 1;
    make_variants(&r);
    choose(&r);
    run_all(&r);
    if (r.bless_ulp) write_table(&r);
    if (r.ulp) hold_against_table(&r);
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
