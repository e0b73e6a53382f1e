/* Constants of the program: one array of bytes in which each begins at a multiple of 64. It is part of the
   unit, or (weights file or extern) the caller hands it over behind the inputs. In this process (JIT) nothing
   is copied: a constant is where the program has it. Bytes of one array are what LLVM passes on fastest (100
   MB: under a second, three times their size in memory). */
#include "llvm.h"
#include <limits.h>

enum { ALIGN = 64 };

static size_t bytes_of(Gen *g, Buf *b) {
    int64_t n;
    if (!is_int(buf_size(g->c, b), &n)) gd_bug(g->c, "LLVM: the size of constant %s is not known", b->name);
    return (size_t)gd_mul(g->c, n, gd_dtypes[b->dt].bytes);
}

static Val declare(Gen *g, Unit *u) {
    const char *name = gd_format(g->c, "%s_weights", g->prefix);
    Val v = LLVMGetNamedGlobal(u->m, name);
    if (v) return v;
    v = LLVMAddGlobal(u->m, LLVMArrayType2(type_int(u, 8), g->blob_bytes), name);
    LLVMSetGlobalConstant(v, true);
    LLVMSetAlignment(v, ALIGN);
    if (g->nunits > 1) LLVMSetVisibility(v, LLVMHiddenVisibility);
    else LLVMSetLinkage(v, LLVMInternalLinkage);
    return v;
}

int weights_port(const Gen *g) {
    int n = 0;
    for (int i = 0; i < g->p->params.n; i++) n += g->p->params.v[i]->space == SP_IN;
    return n;
}

static void place(Gen *g, Buf *b) {
    if (b->dt == STRING) gd_fail(g->c, 403, NULL, "constants of type string cannot be compiled into a file");
    map_putp(g->weights, b, (void *)(uintptr_t)(g->blob_bytes + 1));
    int64_t end = gd_add(g->c, (int64_t)g->blob_bytes, gd_add(g->c, (int64_t)bytes_of(g, b), ALIGN - 1));
    g->blob_bytes = (size_t)end & ~(size_t)(ALIGN - 1);
}

void weights_place(Gen *g) {
    Captures all;
    captures_of(g, &g->p->body, &all);
    g->weights = map_new(g->c);
    if (g->jit) return;
    for (int i = 0; i < all.bufs.n; i++)
        if (all.bufs.v[i]->space == SP_CONST) place(g, all.bufs.v[i]);
    if (!g->blob_bytes) return;
    char *blob = gd_alloc(g->c, g->blob_bytes);
    for (int i = 0; i < all.bufs.n; i++) {
        Buf *b = all.bufs.v[i];
        if (b->space == SP_CONST) memcpy(blob + (uintptr_t)map_getp(g->weights, b) - 1, b->data, bytes_of(g, b));
    }
    g->blob = blob;
    g->extern_weights = g->o->weights == WEIGHTS_FILE || g->o->weights == WEIGHTS_EXTERN;
    if (g->extern_weights && g->o->table)
        gd_fail(g->c, 601, "use --weights embed or object",
                "an executable or library of this kind carries its weights");
    if (g->extern_weights) return;
    if (g->blob_bytes > UINT_MAX)
        gd_fail(g->c, 505, "--weights file or extern keeps them out of the code",
                "%zu bytes of constants do not fit an object", g->blob_bytes);
    Unit *u = &g->units[g->nunits - 1];
    LLVMSetInitializer(declare(g, u), LLVMConstStringInContext(u->cx, blob, (unsigned)g->blob_bytes, true));
}

Val weights_pointer(Fn *f, Buf *root) {
    Gen *g = f->g;
    if (g->jit) return LLVMConstIntToPtr(const_int(f->u, (int64_t)(uintptr_t)root->data), type_ptr(f->u));
    uintptr_t at = (uintptr_t)map_getp(g->weights, root);
    if (!at) gd_bug(g->c, "LLVM: constant %s was not placed", root->name);
    Val offset = const_int(f->u, (int64_t)at - 1), blob = g->extern_weights ? f->weights : declare(g, f->u);
    return LLVMBuildGEP2(f->b, type_int(f->u, 8), blob, &offset, 1, root->name);
}
