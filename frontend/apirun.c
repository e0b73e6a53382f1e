/* Running through the C API: the interpreter, test data, back ends against one another, and time. */
#define _GNU_SOURCE
#include "session.h"
#include "verify.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- inputs from a command line ---- */

static void close_call(void *call) { gradc_call_close(call); }

/* The inputs as values say, or random ones. */
static void read_inputs(Ctx *c, const GradcProgram *p, const GradcArgs *values, VerifyData *d) {
    GradcCall *call = gd_new(c, GradcCall);
    GradcError e = {0};
    GradcArgs a = values ? *values : (GradcArgs){0};
    if (gradc_call_open(call, p, &e)) session_fail(c, &e);
    gd_defer(c, close_call, call);
    if (!a.nvalues) {
        a.values = gd_new_array(c, const char *, p->nin + 1);
        for (int i = 0; i < p->nin; i++) a.values[i] = gd_format(c, "rand:%d", i + 1);
        a.nvalues = values ? 0 : p->nin;
    }
    if (gradc_call_args(call, &a, &e)) session_fail(c, &e);
    d->nin = p->nin;
    d->in = call->in;
    for (int i = 0; i < p->nin; i++)
        if (!d->in[i].data) gd_fail(c, 602, NULL, "input %s is missing", p->in[i].name);
}

/* ---- the interpreter ---- */

typedef struct Interpret { Gradc *g; const GradcArgs *values; int n; const GradcTensor *out; const char *const *names; } Interpret;

static void interpret(Ctx *c, void *arg) {
    Interpret *r = arg;
    Build b;
    build_begin(&b, r->g, c);
    build_read(&b);
    build_finish(&b);
    const GradcProgram *p = session_ports(b.program);
    VerifyData d = {0};
    VerifyOptions o = {.mode = VM_STATIC};
    read_inputs(c, p, r->values, &d);
    r->out = verify_interpret(c, b.program, &d, &o);
    r->n = p->nout;
    r->names = (const char *const *)&b.program->port_names.v[p->nin];
}

int gradc_interpret(Gradc *g, const GradcArgs *values, int *n, const GradcTensor **out, const char *const **names) {
    Interpret r = {.g = g, .values = values};
    int status = session_run(g, interpret, &r);
    *n = r.n;
    *out = r.out;
    *names = r.names;
    return status;
}

/* ---- test data ---- */

typedef VEC(GradcCheck) Checks;
typedef struct Verify {
    Gradc *g;
    int n;
    const char *const *dirs;
    VerifyOptions o;
    Checks checks;
    Build b;
    Loaded loaded;
    bool interpreter;
} Verify;

static const char *output_name(const Program *p, int nin, int i) { return p->port_names.v[nin + i]; }

/* "output 0, element 3 of 9: ..." and "output 0 is ..." without the first words, which stand elsewhere. */
static const char *what_differs(const char *text) {
    if (strncmp(text, "output ", 7)) return text;
    text += 7 + strspn(text + 7, "0123456789");
    return text + strspn(text, ", ");
}

static void check_dir(Ctx *c, Verify *v, const char *dir) {
    VerifyData d = {0};
    verify_data(c, v->g->path, dir, &d);
    GradcTensor *out = v->interpreter ? verify_interpret(c, v->b.program, &d, &v->o) : verify_run(c, v->loaded.program, &d, &v->o);
    for (int i = 0; i < d.nout; i++) {
        VerifyData one = {.nout = 1, .out = &d.out[i]};
        VerifyReport r;
        verify_compare(c, &one, &out[i], 1, &v->o, &r);
        GradcCheck k = {dir, output_name(v->b.program, d.nin, i), r.ok, r.abs, r.rel, r.ulp, gd_strdup(c, what_differs(r.text))};
        vec_push(c, &v->checks, k);
    }
}

static bool exists(const char *path) {
    struct stat st;
    return !stat(path, &st);
}

static int by_name(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    size_t n = strlen(x), m = strlen(y);
    return n != m ? (n > m) - (n < m) : strcmp(x, y); /* _2 before _10 */
}

/* A directory of test data, or of such directories. */
static void check_below(Ctx *c, Verify *v, const char *dir) {
    VEC(const char *) sets = {0};
    DIR *d = opendir(dir);
    if (!d) gd_fail(c, 101, NULL, "%s: no such directory", dir);
    for (struct dirent *e; (e = readdir(d));)
        if (!strncmp(e->d_name, "test_data_set_", 14)) vec_push(c, &sets, gd_format(c, "%s/%s", dir, e->d_name));
    closedir(d);
    if (sets.n) qsort(sets.v, (size_t)sets.n, sizeof *sets.v, by_name);
    for (int i = 0; i < sets.n; i++) check_dir(c, v, sets.v[i]);
    if (sets.n) return;
    if (!exists(gd_format(c, "%s/output_0.pb", dir)))
        gd_fail(c, 101, "a directory of input_0.pb, output_0.pb ..., or of test_data_set_0 ...", "%s: there is no test data", dir);
    check_dir(c, v, dir);
}

static void verify_dirs(Ctx *c, Verify *v) {
    const char *backend = v->g->set.backend;
    v->interpreter = backend && !strcmp(backend, "interp");
    build_read(&v->b);
    build_finish(&v->b);
    if (!v->interpreter) build_load(&v->b, backend, &v->loaded);
    session_threads(v->g->set.threads);
    gd_set_stage(c, "run");
    for (int i = 0; i < v->n; i++) check_below(c, v, v->dirs[i]);
}

/* ---- back ends against one another ---- */

/* The interpreter takes tens of nanoseconds a multiply-add. */
static const double interpretable = 3e8;

static void compare_way(Ctx *c, Verify *v, const char *way, const GradcTensor *have, const GradcTensor *want, int n) {
    char why[300] = "";
    bool ok = verify_equal(have, want, n, why, sizeof why);
    GradcCheck k = {.subject = way, .ok = ok, .text = gd_strdup(c, why)};
    for (int i = 0; !ok && i < n; i++) {
        VerifyData one = {.nout = 1, .out = (GradcTensor *)&want[i]};
        VerifyReport r;
        verify_compare(c, &one, &have[i], 1, &v->o, &r);
        k.max_abs = fmax(k.max_abs, r.abs), k.max_rel = fmax(k.max_rel, r.rel), k.max_ulp = fmax(k.max_ulp, r.ulp);
    }
    vec_push(c, &v->checks, k);
}

static void compare_backend(Ctx *c, Verify *v, const char *backend, const VerifyData *d, const GradcTensor **want) {
    Loaded l = {0};
    build_load(&v->b, backend, &l);
    for (int threads = 1; threads <= (build_openmp(&v->b) ? 3 : 1); threads++) {
        gd_set_stage(c, gd_format(c, "%s, run", backend));
        session_threads(threads);
        v->o.threads = threads;
        GradcTensor *have = verify_run(c, l.program, d, &v->o);
        if (!*want) *want = have;
        compare_way(c, v, gd_format(c, "%s, %d thread%s", backend, threads, threads > 1 ? "s" : ""), have, *want, l.program->nout);
    }
}

static void verify_ways(Ctx *c, Verify *v) {
    VerifyData d = {0};
    const GradcTensor *want = NULL;
    build_read(&v->b);
    build_finish(&v->b);
    const GradcProgram *p = session_ports(v->b.program);
    session_threads(3);
    read_inputs(c, p, NULL, &d);
    if (session_macs(v->b.program) <= interpretable) {
        gd_set_stage(c, "interp, run");
        want = verify_interpret(c, v->b.program, &d, &v->o);
        compare_way(c, v, "interp", want, want, p->nout);
    }
    const char *backend = v->g->set.backend;
#if GRADC_HAS_LLVM
    if (!backend || strcmp(backend, "c")) compare_backend(c, v, "llvm", &d, &want);
#endif
    if (backend ? !strcmp(backend, "c") : tool_cc(c) != NULL) compare_backend(c, v, "c", &d, &want);
}

static void verify(Ctx *c, void *arg) {
    Verify *v = arg;
    build_begin(&v->b, v->g, c);
    v->o.target = v->b.target;
    v->o.opt = v->g->set.opt;
    v->o.threads = v->g->set.threads;
    if (v->n) verify_dirs(c, v);
    else verify_ways(c, v);
}

int gradc_verify(Gradc *g, int n, const char *const *dirs, double rtol, double atol, int *nchecks, const GradcCheck **checks) {
    Verify v = {.g = g, .n = n, .dirs = dirs, .o = {.mode = VM_STATIC, .rtol = rtol, .atol = atol}};
    int status = session_run(g, verify, &v);
    *nchecks = v.checks.n;
    *checks = v.checks.v;
    for (int i = 0; i < v.checks.n && !status; i++)
        if (!v.checks.v[i].ok) status = EXIT_INVALID;
    return status;
}
