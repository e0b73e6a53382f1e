/* Constants of the program: one array of bytes in which each begins at a multiple of 64. It is part of the
   unit, or (weights file or extern) the caller hands it over behind the inputs. In this process (JIT) nothing
   is copied: a constant is where the program has it. Bytes of one array are what LLVM passes on fastest, but it takes
   several times their size in memory: where objects are linked anyway, a large blob becomes one of its own that LLVM never sees. */
#include "llvm.h"
#include <limits.h>

enum { ALIGN = 64, APART = 1 << 20 };

static Val declare(Gen *g, Unit *u) {
    const char *name = gd_format(g->c, "%s_weights", g->prefix);
    Val v = LLVMGetNamedGlobal(u->m, name);
    if (v) return v;
    v = LLVMAddGlobal(u->m, LLVMArrayType2(type_int(u, 8), g->blob.bytes), name);
    LLVMSetGlobalConstant(v, true);
    LLVMSetAlignment(v, ALIGN);
    if (g->nunits > 1 || g->apart) LLVMSetVisibility(v, LLVMHiddenVisibility);
    else LLVMSetLinkage(v, LLVMInternalLinkage);
    return v;
}

int weights_port(const Gen *g) {
    int n = 0;
    for (int i = 0; i < g->p->params.n; i++) n += g->p->params.v[i]->space == SP_IN;
    return n;
}

void weights_place(Gen *g) {
    Captures all;
    captures_of(g, &g->p->body, &all);
    if (g->jit) return;
    for (int i = 0; i < all.bufs.n; i++) {
        Buf *b = all.bufs.v[i];
        if (b->space != SP_CONST) continue;
        if (b->dt == STRING) gd_fail(g->c, 403, NULL, "constants of type string cannot be compiled into a file");
        blob_add(g->c, &g->blob, b);
    }
    if (!g->blob.bytes) return;
    g->extern_weights = g->o->weights == WEIGHTS_FILE || g->o->weights == WEIGHTS_EXTERN;
    if (g->extern_weights && g->o->table)
        gd_fail(g->c, 601, "use --weights embed or object",
                "an executable or library of this kind carries its weights");
    if (g->extern_weights) return;
    if (g->blob.bytes > UINT_MAX)
        gd_fail(g->c, 505, "--weights file or extern keeps them out of the code",
                "%zu bytes of constants do not fit an object", g->blob.bytes);
    g->apart = g->linked && g->blob.bytes >= APART;
    if (g->apart) return;
    Unit *u = &g->units[g->nunits - 1];
    char *bytes = blob_copy(g->c, &g->blob);
    LLVMSetInitializer(declare(g, u), LLVMConstStringInContext(u->cx, bytes, (unsigned)g->blob.bytes, true));
    gd_release(g->c, bytes);
}

Val weights_pointer(Fn *f, Buf *root) {
    Gen *g = f->g;
    if (g->jit) return LLVMConstIntToPtr(const_int(f->u, (int64_t)(uintptr_t)root->data), type_ptr(f->u));
    size_t at = blob_at(&g->blob, root);
    if (at == SIZE_MAX) gd_bug(g->c, "LLVM: constant %s was not placed", root->name);
    Val offset = const_int(f->u, (int64_t)at), blob = g->extern_weights ? f->weights : declare(g, f->u);
    return LLVMBuildGEP2(f->b, type_int(f->u, 8), blob, &offset, 1, root->name);
}
