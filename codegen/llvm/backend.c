/* The back end's two doors: files, and programs loaded into this process. Everything but an executable or a
   shared library is one module; those two are linked from several objects, compiled at once. */
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

/* By the C compiler's driver, which knows where the system's libraries are. The result takes its place whole. */
static void link_objects(Gen *g, bool shared, const char *path) {
    Ctx *c = g->c;
    ToolArgs a = tool_compiler(c);
    const char *dir = tool_temp_dir(c), *out = gd_format(c, "%s.linked", path);
    if (shared) vec_push(c, &a, "-shared");
    for (int i = 0; i < g->nunits; i++) {
        LLVMMemoryBufferRef m = g->units[i].object;
        const char *o = gd_format(c, "%s/unit%d.o", dir, i);
        gd_write_file(c, o, LLVMGetBufferStart(m), LLVMGetBufferSize(m));
        vec_push(c, &a, o);
    }
    if (g->apart) {
        ToolArgs as = tool_compiler(c);
        const char *o = gd_format(c, "%s/weights.o", dir);
        vec_push(c, &as, "-fPIC");
        vec_push(c, &as, NULL);
        blob_object(c, &g->blob, as.v, dir, g->prefix, true, o);
        vec_push(c, &a, o);
    }
    if (!shared || g->heap) vec_push(c, &a, tool_runtime(c, "libgradc_runtime.a"));
    const char *const rest[] = {"-lm", "-o", out, g->o->openmp ? "-lgomp" : NULL, NULL};
    for (int i = 0; i < 5; i++) vec_push(c, &a, rest[i]);
    Text *err = text_new(c);
    int failed = tool_run(c, a.v, err);
    if (!failed && !rename(out, path)) return;
    int why = errno;
    unlink(out);
    if (failed)
        gd_fail(c, 701, "the text above comes from the linker", "%s: %s ended with %d\n%.4000s", path, a.v[0],
                failed, err->s);
    gd_fail(c, 106, NULL, "%s: %s", path, strerror(why));
}

/* Beside the output. */
static void write_weights(Gen *g, const char *path) {
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) + 1 : 0;
    blob_write(g->c, &g->blob, gd_format(g->c, "%.*s%s.weights", n, path, g->prefix));
}

static void llvm_write(Program *p, const EmitOptions *o, Emit kind, const char *path) {
    enum { UNITS = 16 };
    bool linked = kind == EMIT_EXE || kind == EMIT_SO;
    if (kind == EMIT_C) gd_fail(p->c, 601, "use --backend c", "the LLVM back end writes no C");
    Gen *g = gen_open(p, o, false, linked ? UNITS : 1);
    g->linked = linked;
    gen_build(g);
    if (g->blob.bytes && o->weights == WEIGHTS_FILE) write_weights(g, path);
    switch (kind) {
    case EMIT_EXE: case EMIT_SO:
        gen_compile(g, LLVMObjectFile);
        link_objects(g, kind == EMIT_SO, path);
        break;
    case EMIT_OBJ: write_object(g, LLVMObjectFile, path); break;
    case EMIT_ASM: write_object(g, LLVMAssemblyFile, path); break;
    case EMIT_LL: write_text(g, path); break;
    case EMIT_BC: write_bitcode(g, path); break;
    case EMIT_C: break;
    }
    gen_close(g);
}

static const Backend llvm = {"llvm", llvm_write, jit_load};

/* What codegen/llvmload.c looks up; NULL when the caller is of another version. */
__attribute__((visibility("default"))) const Backend *gradc_llvm_backend(const char *version);
const Backend *gradc_llvm_backend(const char *version) { return strcmp(version, GRADC_VERSION) ? NULL : &llvm; }
