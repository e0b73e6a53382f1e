/* From a program to machine code: the target, the units, LLVM's passes, and the threads that run them.

   The program comes tiled, vectorised and unrolled, so LLVM is left to do what it is best at: registers,
   addresses, instructions. Its vectorisers and unrollers would only undo the schedule, and cost most of its
   time.

   How nests are spread over units depends on the program only, and each unit is compiled by itself, so the
   output does not depend on how many threads there are. */
#define _GNU_SOURCE
#include "llvm.h"
#include <llvm-c/Analysis.h>
#include <llvm/Config/llvm-config.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- target ---- */

static void init_targets(void) {
    LLVMInitializeAllTargetInfos();
    LLVMInitializeAllTargets();
    LLVMInitializeAllTargetMCs();
    LLVMInitializeAllAsmPrinters();
    LLVMInitializeAllAsmParsers();
}

/* A processor with AVX-512 is named x86-64-v3 and its features, for the sake of C compilers; to LLVM the
   features alone do not mean vectors of 512 bits. */
const char *machine_cpu(const Target *t) {
    static const char *const v4[] = {"+avx512f", "+avx512bw", "+avx512cd", "+avx512dq", "+avx512vl"};
    bool all = !strcmp(t->cpu, "x86-64-v3");
    for (size_t i = 0; i < sizeof v4 / sizeof *v4; i++) all = all && strstr(t->features, v4[i]);
    return all ? "x86-64-v4" : t->cpu;
}

/* How instructions are ordered for, where that is known: it decides whether a large tile fits the registers. */
static const char *machine_tune(Ctx *c, const Target *t) {
    if (!t->native) return NULL;
    char *name = LLVMGetHostCPUName(), *copy = gd_strdup(c, name);
    LLVMDisposeMessage(name);
    return copy;
}

static LLVMTargetMachineRef open_machine(const Target *t, int opt, char **error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_targets);
    LLVMTargetRef target;
    if (LLVMGetTargetFromTriple(t->triple, &target, error)) return NULL;
    LLVMTargetMachineOptionsRef o = LLVMCreateTargetMachineOptions();
    LLVMTargetMachineOptionsSetCPU(o, machine_cpu(t));
    LLVMTargetMachineOptionsSetFeatures(o, t->features);
    static const LLVMCodeGenOptLevel levels[] = {LLVMCodeGenLevelNone, LLVMCodeGenLevelLess, LLVMCodeGenLevelDefault};
    LLVMTargetMachineOptionsSetCodeGenOptLevel(o, levels[opt <= 0 ? 0 : opt == 1 ? 1 : 2]);
    LLVMTargetMachineOptionsSetRelocMode(o, LLVMRelocPIC);
    LLVMTargetMachineRef tm = LLVMCreateTargetMachineWithOptions(target, t->triple, o);
    LLVMDisposeTargetMachineOptions(o);
    return tm;
}

/* ---- units ---- */

void gen_close(void *gen) {
    Gen *g = gen;
    for (int i = 0; i < g->nunits; i++) {
        Unit *u = &g->units[i];
        if (u->object) LLVMDisposeMemoryBuffer(u->object);
        if (u->error) free(u->error);
        if (u->at) LLVMDisposeBuilder(u->at);
        if (u->entry) LLVMDisposeBuilder(u->entry);
        if (u->m) LLVMDisposeModule(u->m);
        if (u->cx) LLVMContextDispose(u->cx);
        *u = (Unit){0};
    }
    if (g->layout) LLVMDisposeTargetData(g->layout);
    if (g->tm) LLVMDisposeTargetMachine(g->tm);
    g->layout = NULL;
    g->tm = NULL;
}

static void open_unit(Gen *g, Unit *u) {
    u->cx = LLVMContextCreate();
    LLVMContextSetDiscardValueNames(u->cx, g->jit);
    u->m = LLVMModuleCreateWithNameInContext(g->prefix, u->cx);
    LLVMSetTarget(u->m, g->o->target->triple);
    LLVMSetModuleDataLayout(u->m, g->layout);
    u->at = LLVMCreateBuilderInContext(u->cx);
    u->entry = LLVMCreateBuilderInContext(u->cx);
}

static bool count(void *arg, Stmt *s) {
    *(int64_t *)arg += s->kind == S_STORE || s->kind == S_LET;
    return true;
}

typedef struct Spread { Gen *g; int64_t all, sofar; } Spread;

static bool spread(void *arg, Stmt *s) {
    Spread *w = arg;
    if (s->kind != S_NEST) return true;
    int64_t size = 1;
    block_walk(&s->body, count, &size);
    if (!w->g) w->all += size;
    else map_putp(w->g->unit_of, s, &w->g->units[w->sofar * w->g->nunits / w->all]);
    w->sofar += size;
    return false;
}

/* Consecutive nests share a unit, so that each has about the same number of statements. */
static void spread_nests(Gen *g, int most) {
    Spread w = {0};
    block_walk(&g->p->body, spread, &w);
    enum { STATEMENTS = 2000 };
    int64_t n = w.all / STATEMENTS + 1;
    g->nunits = (int)(n < most ? n : most);
    g->units = gd_new_array(g->c, Unit, g->nunits);
    g->unit_of = map_new(g->c);
    w = (Spread){g, w.all, 0};
    block_walk(&g->p->body, spread, &w);
}

Gen *gen_open(Program *p, const EmitOptions *o, bool jit, int most) {
    Ctx *c = p->c;
    char *error = NULL;
    Gen *g = gd_new(c, Gen);
    *g = (Gen){.c = c, .p = p, .o = o, .jit = jit, .slots = map_new(c)};
    g->prefix = o->prefix ? o->prefix : p->name;
    gd_defer(c, gen_close, g);
    g->tm = open_machine(o->target, o->opt, &error);
    if (!g->tm)
        gd_fail(c, 405, "see --help for --target", "LLVM does not know the target %s: %s", o->target->triple,
                error ? error : "");
    g->tune = machine_tune(c, o->target);
    bool arm = !strncmp(o->target->triple, "aarch64", 7);
    g->has_minimum = arm || !strncmp(o->target->triple, "wasm", 4);
    g->has_half = arm || (!strncmp(o->target->triple, "x86_64", 6) && o->target->lanes >= 8);
    g->keeps = LLVM_VERSION_MAJOR < 23 && strstr(o->target->features, "+avx512f");
    g->layout = LLVMCreateTargetDataLayout(g->tm);
    spread_nests(g, most);
    for (int i = 0; i < g->nunits; i++) open_unit(g, &g->units[i]);
    return g;
}

void gen_build(Gen *g) {
    weights_place(g);
    if (g->o->profile) gen_profile(g);
    gen_run(g);
    if (g->o->table || g->o->main || g->jit) gen_table(g);
    if (g->o->main) gen_main(g);
}

/* ---- passes ---- */

static const char *pipeline(int opt) {
    if (opt <= 0) return NULL;
    if (opt == 1) return "function(sroa,early-cse,simplifycfg)";
    return "function(sroa,early-cse<memssa>,instcombine<no-verify-fixpoint>,simplifycfg,loop-mssa(licm),early-cse<memssa>)";
}

static char *message(LLVMErrorRef e) {
    char *text = LLVMGetErrorMessage(e), *copy = strdup(text);
    LLVMDisposeErrorMessage(text);
    return copy;
}

/* Runs on any thread: nothing of the Ctx is touched. */
static void optimize(Unit *u, LLVMTargetMachineRef tm, int opt) {
    char *error = NULL;
    if (LLVMVerifyModule(u->m, LLVMReturnStatusAction, &error)) u->error = strdup(error);
    LLVMDisposeMessage(error);
    const char *passes = pipeline(opt);
    if (u->error || !passes) return;
    LLVMPassBuilderOptionsRef o = LLVMCreatePassBuilderOptions();
    LLVMErrorRef e = LLVMRunPasses(u->m, passes, tm, o);
    if (e) u->error = message(e);
    LLVMDisposePassBuilderOptions(o);
}

static void report(Gen *g) {
    for (int i = 0; i < g->nunits; i++)
        if (g->units[i].error)
            gd_bug(g->c, "LLVM: %s", gd_escape(g->c, g->units[i].error, strlen(g->units[i].error)));
}

void gen_optimize(Gen *g, Unit *u) {
    optimize(u, g->tm, g->o->opt);
    report(g);
}

typedef struct Work { Gen *g; LLVMCodeGenFileType kind; atomic_int next; } Work;

static void *work(void *arg) {
    Work *w = arg;
    Gen *g = w->g;
    char *error = NULL;
    LLVMTargetMachineRef tm = open_machine(g->o->target, g->o->opt, &error);
    for (int i; tm && (i = atomic_fetch_add(&w->next, 1)) < g->nunits;) {
        Unit *u = &g->units[i];
        optimize(u, tm, g->o->opt);
        char *why = NULL;
        if (u->error || !LLVMTargetMachineEmitToMemoryBuffer(tm, u->m, w->kind, &why, &u->object)) continue;
        u->error = strdup(why);
        LLVMDisposeMessage(why);
    }
    if (tm) LLVMDisposeTargetMachine(tm);
    else LLVMDisposeMessage(error);
    return NULL;
}

void gen_compile(Gen *g, LLVMCodeGenFileType kind) {
    enum { MOST = 16 };
    Work w = {g, kind, 0};
    pthread_t thread[MOST];
    int started = 0, want = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (want > g->nunits) want = g->nunits;
    while (started < want - 1 && started < MOST && !pthread_create(&thread[started], NULL, work, &w)) started++;
    work(&w);
    for (int i = 0; i < started; i++) pthread_join(thread[i], NULL);
    report(g);
}
