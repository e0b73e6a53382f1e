/* A compilation for the C API, step by step: target, file, passes, back end; and what actions have in common. */
#define _GNU_SOURCE
#include "session.h"
#include "params.h"
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

double session_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void time_pass(void *arg, const char *pass, double seconds) {
    Text *t = arg;
    text_printf(t, "%9.3f ms  %s\n", 1e3 * seconds, pass);
}

void build_begin(Build *b, Gradc *g, Ctx *c) {
    const Settings *s = &g->set;
    const char *name = s->target ? s->target : "native";
    *b = (Build){.g = g, .c = c, .target = target_named(c, name)};
    if (!b->target)
        gd_fail(c, 601, "native, generic, x86-64, x86-64-v2, x86-64-v3, x86-64-v4, aarch64, or an LLVM triple",
                "--target: there is no target %s", gd_escape(c, name, strlen(name)));
    const Target *t = b->target;
    g->printed = text_new(c);
    g->times = text_new(c);
    b->pass = (PassOptions){.opt = s->opt, .numerics = s->numerics, .threads = s->threads == 1 ? 1 : 2,
                            .machine = {t->lanes, t->registers, t->fma, t->l1, t->l2},
                            .skip = s->skip, .stop_after = s->stop_after, .print_after = s->print_after,
                            .print = g->printed, .dump_dir = s->dump_dir,
                            .timing = s->time_passes ? time_pass : NULL, .arg = g->times};
    b->front = (FrontOptions){.dims = s->dims, .fixed = s->fixed, .symbolic = s->symbolic, .prefix = s->prefix,
                              .states = s->train.part != TP_NONE || s->params};
    build_part(b, s->train.part);
}

/* Which of a trainable model's programs is read next. A loss that an option names takes the place of the model's own algorithm. */
void build_part(Build *b, TrainPart part) {
    b->pass.train = part;
    b->front.training = part == TP_STEP;
    b->front.own = b->g->set.train.loss ? OWN_NONE : part == TP_RUN || b->g->set.params ? OWN_STATES : OWN_ALGORITHM;
}

/* Parameters become constants, of a program that infers. */
static void give_params(Build *b) {
    if (!b->graph || b->pass.train != TP_NONE)
        gd_fail(b->c, 601, "leave out --params", "a program that trains, or is IR already, has no parameters to fix");
    Params *params = params_open(b->c, b->g->set.params);
    if (!b->graph->states.n) gd_fail(b->c, 601, "leave out --params", "this model has no parameters");
    states_fix(b->graph, params_data, params);
    if (gd_error_count(b->c)) gd_leave(b->c);
}

void build_read(Build *b) {
    if (!b->g->path) gd_fail(b->c, 601, "gradc_load", "no model was given");
    double start = session_now();
    gd_set_stage(b->c, "read");
    b->file = front_open(b->c, b->g->path);
    b->front.last = b->pass.release;
    if (b->file.format != FF_LOOP_TEXT) b->graph = front_graph(b->c, &b->file, &b->front);
    else {
        b->program = loop_parse(b->c, b->file.bytes, b->file.n);
        if (b->front.prefix) b->program->name = b->front.prefix;
    }
    if (gd_error_count(b->c)) gd_leave(b->c);
    if (b->g->set.params) give_params(b);
    if (b->graph && b->pass.train != TP_NONE) session_train(b->c, b->graph, &b->g->set.train);
    if (b->pass.timing) b->pass.timing(b->pass.arg, "read", session_now() - start);
}

static bool stops_before_loops(const char *pass) {
    const Pass *p = pass ? pass_named(pass) : NULL;
    return pass && (!p || p->level != PASS_LOOP);
}

/* The work of the nests is counted straight after lowering, while their loops are plain. */
void build_passes(Build *b) {
    PassOptions first = b->pass;
    bool more = !stops_before_loops(b->pass.stop_after);
    if (!b->graph) {
        passes_resume(b->program, &b->pass);
        return;
    }
    if (more) first.stop_after = "lower";
    b->program = passes_run(b->graph, &first);
    if (b->program) session_count(b->program);
    if (more) passes_resume(b->program, &b->pass);
}

void build_finish(Build *b) {
    b->pass.stop_after = NULL;
    build_passes(b);
}

bool build_openmp(const Build *b) { return GRADC_HAS_OPENMP && b->pass.threads != 1; }

void build_load(Build *b, const char *backend, Loaded *out) {
    if (!b->target->native && b->g->set.target && strcmp(b->g->set.target, "generic")) {
        const Target *here = target_named(b->c, "native");
        bool same = here && here->triple && b->target->triple && !strcmp(here->triple, b->target->triple);
        if (!same || here->lanes < b->target->lanes)
            gd_fail(b->c, 601, "leave out --target, or use compile", "this machine cannot run code for %s", b->target->name);
    }
    EmitOptions o = {.target = b->target, .prefix = b->program->name, .weights = WEIGHTS_EMBED, .openmp = build_openmp(b),
                     .table = true, .profile = b->g->set.profile, .opt = b->g->set.opt};
    double start = session_now();
#if GRADC_HAS_LLVM
    const char *name = backend ? backend : "llvm";
#else
    const char *name = backend ? backend : "c";
#endif
    gd_set_stage(b->c, name);
    backend_named(b->c, name)->load(b->program, &o, out);
    if (b->pass.timing) b->pass.timing(b->pass.arg, name, session_now() - start);
}

/* ---- threads ---- */

/* OpenMP is not linked: a program that asks for no code should not pay for it. */
int session_threads(int n) {
    long there = sysconf(_SC_NPROCESSORS_ONLN);
    void *gomp = n == 1 ? NULL : dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!gomp) gomp = dlopen("libgomp.so.1", RTLD_NOW | RTLD_NOLOAD);
    void (*set)(int) = NULL;
    int (*max)(void) = NULL;
    void *set_symbol = gomp ? dlsym(gomp, "omp_set_num_threads") : NULL;
    void *max_symbol = gomp ? dlsym(gomp, "omp_get_max_threads") : NULL;
    memcpy(&set, &set_symbol, sizeof set);
    memcpy(&max, &max_symbol, sizeof max);
    if (n > 0 && set) set(n);
    return n > 0 ? n : max ? max() : there > 0 ? (int)there : 1;
}

/* ---- what a program is ---- */

typedef struct Nests { int want; const NestInfo *found; double macs; } Nests;

static bool count_nest(void *arg, Stmt *s) {
    Nests *n = arg;
    if (s->kind != S_NEST) return true;
    if (n->want-- == 0) n->found = s->nest;
    n->macs += s->nest->macs;
    return false;
}

const NestInfo *session_nest(Program *p, int i) {
    Nests n = {.want = i};
    block_walk(&p->body, count_nest, &n);
    return n.found;
}

double session_macs(Program *p) {
    Nests n = {.want = -1};
    block_walk(&p->body, count_nest, &n);
    return n.macs;
}

static int64_t port_dim(const Program *p, Expr *dim) {
    int64_t v;
    if (is_int(dim, &v)) return v;
    for (int i = 0; dim->kind == E_VAR && i < p->syms.n; i++)
        if (p->syms.v[i] == dim->var) return -1 - (int64_t)i;
    return GRADC_DIM_COMPUTED;
}

const GradcProgram *session_ports(const Program *p) {
    Ctx *c = p->c;
    GradcProgram *g = gd_new(c, GradcProgram);
    GradcPort *port = gd_new_array(c, GradcPort, p->params.n + 1);
    const char **names = gd_new_array(c, const char *, p->syms.n + 1);
    int64_t *lo = gd_new_array(c, int64_t, p->syms.n + 1), *hi = gd_new_array(c, int64_t, p->syms.n + 1);
    for (int i = 0; i < p->syms.n; i++) names[i] = p->syms.v[i]->name, lo[i] = p->syms.v[i]->lo, hi[i] = p->syms.v[i]->hi;
    int nin = 0;
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        int64_t *dims = gd_new_array(c, int64_t, b->rank + 1);
        for (int d = 0; d < b->rank; d++) dims[d] = port_dim(p, b->dim[d]);
        port[i] = (GradcPort){p->port_names.v[i], (int)b->dt, b->rank, dims};
        nin += b->space == SP_IN;
    }
    *g = (GradcProgram){.name = p->name, .version = GRADC_VERSION, .nsyms = p->syms.n, .sym_names = names, .sym_lo = lo,
                        .sym_hi = hi, .nin = nin, .nout = p->params.n - nin, .in = port, .out = port + nin};
    return g;
}
