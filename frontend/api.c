/* The C API's object and its actions: see gradc.h. Every action opens a Ctx of its own and reads the model anew. Invariant:
   `last` is the Ctx of the last call that can fail, so problems and results are its; a Ctx that a loaded program lives in
   moves to `jitted` instead. */
#define _GNU_SOURCE
#include "session.h"
#include "onnx.h"
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

const char *gradc_version(void) { return GRADC_VERSION; }

/* ---- the object ---- */

Gradc *gradc_open(void) {
    Gradc *g = calloc(1, sizeof *g);
    if (g) g->set = (Settings){.backend = NULL, .opt = 3, .numerics = NUM_DEFAULT, .weights = -1};
    return g;
}

void gradc_close(Gradc *g) {
    if (!g) return;
    gd_close(g->last);
    for (Jitted *j = g->jitted, *next; j; j = next) {
        next = j->next;
        gd_close(j->c); /* j lies in it */
    }
    for (Kept *k = g->kept, *next; k; k = next) next = k->next, free(k);
    free(g);
}

const char *session_keep(Gradc *g, const char *s) {
    Kept *k = malloc(sizeof *k + strlen(s) + 1);
    if (!k) return NULL;
    strcpy(k->text, s);
    k->next = g->kept;
    g->kept = k;
    return k->text;
}

int session_run(Gradc *g, void (*body)(Ctx *, void *), void *arg) {
    gd_close(g->last);
    g->printed = g->times = NULL;
    g->last = gd_open(&g->set.budget);
    g->exhausted = !g->last;
    if (!g->last) return EXIT_MEMORY;
    gd_watch(g->last, g->progress, g->watcher);
    int status = gd_enter(g->last, body, arg);
    if (g->progress) g->progress(g->watcher, NULL);
    return status;
}

void gradc_watch(Gradc *g, void (*fn)(void *, const char *), void *arg) {
    g->progress = fn;
    g->watcher = arg;
}

/* ---- problems ---- */

int gradc_problem_count(const Gradc *g) { return g->exhausted ? 1 : g->last ? gd_error_count(g->last) : 0; }

GradcProblem gradc_problem(const Gradc *g, int i) {
    static const Diag memory = {506, "out of memory", NULL};
    const Diag *d = g->last ? gd_diag(g->last, i) : &memory;
    return (GradcProblem){d->code, gd_code_status(d->code), gd_code_title(d->code), d->message, d->help};
}

GD_NORETURN void session_fail(Ctx *c, const GradcError *e) { gd_fail(c, e->code, *e->help ? e->help : NULL, "%s", e->text); }

const char *gradc_printed(const Gradc *g) { return g->printed ? g->printed->s : ""; }
const char *gradc_times(const Gradc *g) { return g->times ? g->times->s : ""; }

int gradc_read_value(GradcTensor *t, const char *path, int dtype, GradcError *e) { return pb_read_value(t, path, dtype, e); }

/* ---- load ---- */

typedef struct Load { Gradc *g; const char *path; } Load;

static void load(Ctx *c, void *arg) {
    Load *l = arg;
    if (strcmp(l->path, "-") && access(l->path, R_OK)) gd_fail(c, 101, NULL, "%s: %s", l->path, strerror(errno));
    l->g->path = session_keep(l->g, l->path);
    if (!l->g->path) gd_fail(c, 506, NULL, "out of memory");
}

int gradc_load(Gradc *g, const char *path) { return session_run(g, load, &(Load){g, path}); }

/* ---- write ---- */

static const struct { const char *name, *suffix; Emit kind; } kinds[] = {
    {"exe", "", EMIT_EXE}, {"c", ".c", EMIT_C}, {"so", ".so", EMIT_SO}, {"obj", ".o", EMIT_OBJ},
    {"asm", ".s", EMIT_ASM}, {"ll", ".ll", EMIT_LL}, {"bc", ".bc", EMIT_BC}};
enum { KINDS = sizeof kinds / sizeof *kinds };

Emit session_emit(Ctx *c, const char *emit, const char *out) {
    size_t n = strlen(out);
    if (!emit) {
        for (int i = 1; i < KINDS; i++) {
            size_t k = strlen(kinds[i].suffix);
            if (n > k && !strcmp(out + n - k, kinds[i].suffix)) return kinds[i].kind;
        }
        return EMIT_EXE;
    }
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(emit, kinds[i].name)) return kinds[i].kind;
    gd_fail(c, 601, "exe, c, so, obj, asm, ll or bc", "--emit: there is no kind %s", gd_escape(c, emit, strlen(emit)));
}

/* Code that leaves this machine is made for any machine of its kind; executables are for here. */
static bool portable(Emit kind) { return kind != EMIT_EXE; }

const char *session_backend(const Build *b, Emit kind) {
    const char *named = b->g->set.backend;
    if (kind == EMIT_C && (!named || !strcmp(named, "c"))) return "c";
    if (kind == EMIT_C) gd_fail(b->c, 601, "leave out --backend", "C is written by the back end c");
    if (named && !strcmp(named, "interp")) gd_fail(b->c, 601, "llvm or c", "the interpreter writes no files");
    if (named) return named;
#if GRADC_HAS_LLVM
    return "llvm";
#else
    return "c";
#endif
}

/* `--emit c -o x.c` means the directory of x.c and the prefix x. */
const char *session_directory(Build *b, const char *out) {
    size_t n = strlen(out);
    if (n < 3 || strcmp(out + n - 2, ".c")) return out;
    const char *slash = strrchr(out, '/'), *base = slash ? slash + 1 : out;
    if (!b->front.prefix) b->front.prefix = front_identifier(b->c, gd_strndup(b->c, base, strlen(base) - 2), "model");
    return slash ? gd_strndup(b->c, out, (size_t)(slash - out)) : ".";
}

typedef struct Write { Gradc *g; const char *emit, *out; } Write;

static void write_files(Ctx *c, void *arg) {
    Write *w = arg;
    Build b;
    Emit kind = session_emit(c, w->emit, w->out);
    Settings *s = &w->g->set;
    const char *target = s->target;
    if (!target && portable(kind)) s->target = "generic";
    build_begin(&b, w->g, c);
    b.pass.release = true;
    s->target = target;
    const char *backend = session_backend(&b, kind), *out = kind == EMIT_C ? session_directory(&b, w->out) : w->out;
    build_read(&b);
    build_finish(&b);
    bool compiled_c = !strcmp(backend, "c") && (kind == EMIT_EXE || kind == EMIT_SO || kind == EMIT_OBJ);
    EmitOptions o = {.target = b.target, .prefix = b.program->name, .openmp = build_openmp(&b), .opt = s->opt, .profile = s->profile,
                     .weights = s->weights >= 0 ? (Weights)s->weights : compiled_c ? WEIGHTS_OBJECT : WEIGHTS_EMBED,
                     .table = kind == EMIT_EXE || kind == EMIT_SO, .main = kind == EMIT_EXE};
    gd_set_stage(c, backend);
    backend_named(c, backend)->write(b.program, &o, kind, out);
}

int gradc_write(Gradc *g, const char *emit, const char *out) { return session_run(g, write_files, &(Write){g, emit, out}); }

/* ---- jit ---- */

typedef struct Jit { Gradc *g; Jitted *made; } Jit;

static void jit(Ctx *c, void *arg) {
    Jit *j = arg;
    Build b;
    const char *backend = j->g->set.backend;
    if (backend && !strcmp(backend, "interp")) gd_fail(c, 601, "llvm or c", "the interpreter makes no code");
    build_begin(&b, j->g, c);
    b.pass.release = true;
    build_read(&b);
    build_finish(&b);
    Jitted *made = gd_new(c, Jitted);
    made->c = c;
    made->program = b.program;
    build_load(&b, backend, &made->loaded);
    session_threads(j->g->set.threads);
    j->made = made;
}

int gradc_jit(Gradc *g, const GradcProgram **program) {
    Jit j = {g, NULL};
    int status = session_run(g, jit, &j);
    if (status) return status;
    g->last = NULL;
    j.made->next = g->jitted;
    g->jitted = j.made;
    *program = j.made->loaded.program;
    return 0;
}

GradcNest gradc_profile(const Gradc *g, const GradcProgram *program, int nest) {
    const Jitted *j = g->jitted;
    GradcNest r = {0};
    while (j && j->loaded.program != program) j = j->next;
    if (!j || !j->loaded.profile || j->loaded.profile(nest, &r.calls, &r.ns)) return (GradcNest){0};
    const NestInfo *info = session_nest(j->program, nest);
    if (!info) return (GradcNest){0};
    r.name = info->name;
    r.source = info->source ? info->source : "";
    r.schedule = info->schedule ? info->schedule : "";
    r.macs = info->macs;
    return r;
}

/* ---- ir ---- */

typedef struct Ir { Gradc *g; int full; const char *text; } Ir;

static void ir(Ctx *c, void *arg) {
    Ir *i = arg;
    Build b;
    Text *t = text_new(c);
    build_begin(&b, i->g, c);
    build_read(&b);
    build_passes(&b);
    if (b.program && i->full) loop_print(t, b.program);
    else if (b.program) loop_print_brief(t, b.program);
    else if (i->full) graph_print(t, b.graph);
    else graph_print_brief(t, b.graph);
    i->text = t->s;
}

int gradc_ir(Gradc *g, int full, const char **text) {
    Ir i = {g, full, ""};
    int status = session_run(g, ir, &i);
    *text = i.text;
    return status;
}

/* ---- check ---- */

typedef struct Check { Gradc *g; bool read; } Check;

static void check(Ctx *c, void *arg) {
    Check *k = arg;
    Build b;
    build_begin(&b, k->g, c);
    b.pass.release = true;
    k->read = true;
    build_read(&b);
    build_finish(&b);
}

/* What is no model at all, a wrong option or a missing file keeps its own status. */
static bool about_model(int code) { return (code > 200 && code < 500) || code == 105; }

int session_check_status(const Gradc *g, int status, bool read) {
    if (!status || !read || !gradc_problem_count(g)) return status;
    return about_model(gradc_problem(g, 0).code) ? EXIT_UNSUPPORTED : status;
}

int gradc_check(Gradc *g) {
    Check k = {g, false};
    int status = session_run(g, check, &k);
    return session_check_status(g, status, k.read);
}
