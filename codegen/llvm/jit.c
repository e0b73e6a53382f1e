/* A program in this process: units compiled as for a file, their objects linked in memory by ORC's JIT
   linker. What the code calls is found in the process; libgomp, which may not be in it, is loaded first.
   Without libgomp the program is compiled serially: the answer is the same. */
#define _GNU_SOURCE
#include "llvm.h"
#include "heap.h"
#include <dlfcn.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>

static void check(Ctx *c, LLVMErrorRef e) {
    if (!e) return;
    char *text = LLVMGetErrorMessage(e), *copy = gd_escape(c, text, strlen(text));
    LLVMDisposeErrorMessage(text);
    gd_bug(c, "LLVM's JIT: %s", copy);
}

static void close_jit(void *jit) { LLVMConsumeError(LLVMOrcDisposeLLJIT(jit)); }

static LLVMOrcLLJITRef open_jit(Ctx *c) {
    LLVMOrcLLJITRef jit;
    check(c, LLVMOrcCreateLLJIT(&jit, NULL));
    gd_defer(c, close_jit, jit);
    LLVMOrcDefinitionGeneratorRef process;
    char prefix = LLVMOrcLLJITGetGlobalPrefix(jit);
    check(c, LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, prefix, NULL, NULL));
    LLVMOrcJITDylibAddGenerator(LLVMOrcLLJITGetMainJITDylib(jit), process);
    return jit;
}

/* The parts of the runtime that generated code calls: linked into this module, not to be looked for in the
   process. */
static void define_runtime(Ctx *c, LLVMOrcLLJITRef jit) {
    const struct { const char *name; void *at; } parts[] = {{"gradc_heap_init", (void *)gradc_heap_init},
                                                            {"gradc_heap_alloc", (void *)gradc_heap_alloc},
                                                            {"gradc_heap_free", (void *)gradc_heap_free}};
    enum { PARTS = sizeof parts / sizeof *parts };
    LLVMOrcCSymbolMapPair pairs[PARTS];
    for (int i = 0; i < PARTS; i++) {
        pairs[i].Name = LLVMOrcLLJITMangleAndIntern(jit, parts[i].name);
        pairs[i].Sym.Address = (LLVMOrcExecutorAddress)(uintptr_t)parts[i].at;
        pairs[i].Sym.Flags =
            (LLVMJITSymbolFlags){LLVMJITSymbolGenericFlagsExported | LLVMJITSymbolGenericFlagsCallable, 0};
    }
    check(c, LLVMOrcJITDylibDefine(LLVMOrcLLJITGetMainJITDylib(jit), LLVMOrcAbsoluteSymbols(pairs, PARTS)));
}

static void *find(Ctx *c, LLVMOrcLLJITRef jit, const char *name) {
    LLVMOrcExecutorAddress at;
    check(c, LLVMOrcLLJITLookup(jit, &at, name));
    return (void *)(uintptr_t)at;
}

void jit_load(Program *p, const EmitOptions *o, Loaded *out) {
    enum { UNITS = 16 };
    Ctx *c = p->c;
    EmitOptions here = *o;
    if (here.openmp && !dlopen("libgomp.so.1", RTLD_NOW | RTLD_GLOBAL)) here.openmp = false;
    here.main = false;
    Gen *g = gen_open(p, &here, true, UNITS);
    gen_build(g);
    gen_compile(g, LLVMObjectFile);
    LLVMOrcLLJITRef jit = open_jit(c);
    define_runtime(c, jit);
    for (int i = 0; i < g->nunits; i++) {
        LLVMMemoryBufferRef object = g->units[i].object;
        g->units[i].object = NULL;
        check(c, LLVMOrcLLJITAddObjectFile(jit, LLVMOrcLLJITGetMainJITDylib(jit), object));
    }
    out->program = find(c, jit, gd_format(c, "%s_program", g->prefix));
    if (o->profile) {
        void *f = find(c, jit, gd_format(c, "%s_profile", g->prefix));
        memcpy(&out->profile, &f, sizeof f);
    } else out->profile = NULL;
    gen_close(g);
}
