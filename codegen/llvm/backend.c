/* The back end's two doors: files, and programs loaded into this process. Everything but an executable or a shared
   library is one module; those two are linked from several objects, compiled at once. */
#include "llvm.h"
#include <errno.h>
#include <llvm-c/BitWriter.h>
#include <stdio.h>
#include <unistd.h>

static void write_text(Gen *g, const char *path) {
    Unit *u = &g->units[0];
    gen_optimize(g, u);
    char *s = LLVMPrintModuleToString(u->m);
    char *copy = gd_strdup(g->c, s);
    LLVMDisposeMessage(s);
    gd_write_file(g->c, path, copy, strlen(copy));
}

static void write_bitcode(Gen *g, const char *path) {
    Unit *u = &g->units[0];
    gen_optimize(g, u);
    u->object = LLVMWriteBitcodeToMemoryBuffer(u->m);
    gd_write_file(g->c, path, LLVMGetBufferStart(u->object), LLVMGetBufferSize(u->object));
}

static void write_object(Gen *g, LLVMCodeGenFileType kind, const char *path) {
    gen_compile(g, kind);
    LLVMMemoryBufferRef m = g->units[0].object;
    gd_write_file(g->c, path, LLVMGetBufferStart(m), LLVMGetBufferSize(m));
}

/* By the C compiler's driver, which knows where the system's libraries are. The result takes its place at once. */
static void link_objects(Gen *g, bool shared, const char *path) {
    Ctx *c = g->c;
    const char *cc = tool_cc(c), *dir = tool_temp_dir(c), **argv = gd_new_array(c, const char *, g->nunits + 16);
    if (!cc) gd_fail(c, 701, "install one, set CC, or write an object with --emit obj", "no C compiler to link with was found");
    int n = 0;
    argv[n++] = cc;
    if (shared) argv[n++] = "-shared";
    for (int i = 0; i < g->nunits; i++) {
        LLVMMemoryBufferRef m = g->units[i].object;
        const char *o = gd_format(c, "%s/unit%d.o", dir, i);
        gd_write_file(c, o, LLVMGetBufferStart(m), LLVMGetBufferSize(m));
        argv[n++] = o;
    }
    const char *out = gd_format(c, "%s.linked", path);
    argv[n++] = "-o";
    argv[n++] = out;
    argv[n++] = tool_runtime(c, "libgradc_runtime.a");
    if (g->o->openmp) argv[n++] = "-lgomp";
    argv[n++] = "-lm";
    argv[n] = NULL;
    Text *err = text_new(c);
    int failed = tool_run(c, argv, err);
    if (!failed && !rename(out, path)) return;
    int why = errno;
    unlink(out);
    if (failed) gd_fail(c, 701, NULL, "%s cannot link %s: %s", cc, path, gd_escape(c, err->s, err->n));
    gd_fail(c, 106, NULL, "%s: %s", path, strerror(why));
}

static void llvm_write(Program *p, const EmitOptions *o, Emit kind, const char *path) {
    enum { UNITS = 16 };
    bool linked = kind == EMIT_EXE || kind == EMIT_SO;
    Gen *g = gen_open(p, o, false, linked ? UNITS : 1);
    gen_build(g);
    switch (kind) {
    case EMIT_EXE: case EMIT_SO:
        gen_compile(g, LLVMObjectFile);
        link_objects(g, kind == EMIT_SO, path);
        break;
    case EMIT_OBJ: write_object(g, LLVMObjectFile, path); break;
    case EMIT_ASM: write_object(g, LLVMAssemblyFile, path); break;
    case EMIT_LL: write_text(g, path); break;
    case EMIT_BC: write_bitcode(g, path); break;
    case EMIT_C: gd_fail(p->c, 601, "--backend c", "the LLVM back end writes no C");
    }
    gen_close(g);
}

static const Backend llvm = {"llvm", llvm_write, jit_load};

/* What codegen/llvmload.c looks up; NULL when the caller is of another version. */
__attribute__((visibility("default"))) const Backend *gradc_llvm_backend(const char *version);
const Backend *gradc_llvm_backend(const char *version) { return strcmp(version, GRADC_VERSION) ? NULL : &llvm; }
