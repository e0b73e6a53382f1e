/* Buffers: where they are, loads and stores with their masks.

   A scalar mask never becomes a branch around a load: the address is selected instead, and where the mask is
   false it is that of a row of zeros. A count mask becomes LLVM's masked load or store. Constant parts of an
   index are kept apart from the rest, so that they end in the instruction. Everything is aligned as its
   element is. */
#include "llvm.h"

enum { LOCAL_ALIGN = 64 };

Val gen_alloca(Fn *f, LLVMTypeRef t, const char *name) {
    LLVMPositionBuilderBefore(f->u->entry, f->entry_end);
    return LLVMBuildAlloca(f->u->entry, t, name);
}

void gen_decl(Fn *f, Buf *b) {
    Gen *g = f->g;
    int64_t n;
    if (b->base) return;
    if (!is_int(buf_size(g->c, b), &n)) gd_bug(g->c, "LLVM: the size of %s is not known", b->name);
    LLVMTypeRef t = type_mem(f->u, vector(b->dt, b->lanes ? b->lanes : 1));
    Val at = gen_alloca(f, LLVMArrayType2(t, (uint64_t)(n ? n : 1)), b->name);
    if (b->space == SP_LOCAL || b->lanes <= 1) LLVMSetAlignment(at, LOCAL_ALIGN);
    map_putp(f->bufs, b, at);
}

/* The address of a root. In `run` it is made where it is asked for, since symbols and the heap change. */
Val buf_pointer(Fn *f, Buf *root) {
    Gen *g = f->g;
    Val known = map_getp(f->bufs, root);
    if (known) return known;
    if (f->kind != FN_RUN) gd_bug(g->c, "LLVM: buffer %s is not known in %s", root->name, f->name);
    Val slot = map_getp(g->slots, root);
    if (slot) return LLVMBuildLoad2(f->b, type_ptr(f->u), slot, root->name);
    if (root->space == SP_CONST) return weights_pointer(f, root);
    if (root->space != SP_ARENA || !root->offset) gd_bug(g->c, "LLVM: buffer %s has no place", root->name);
    Val offset = gen_expr(f, root->offset);
    return LLVMBuildGEP2(f->b, type_int(f->u, 8), f->arena, &offset, 1, root->name);
}

static Val element_pointer(Fn *f, Buf *b, Expr *const *index) {
    Gen *g = f->g;
    Expr *at = buf_address(g->c, b, index), *rest = NULL;
    LLVMTypeRef elem = type_mem(f->u, vector(b->dt, b->space == SP_REG && b->lanes ? b->lanes : 1));
    Val p = buf_pointer(f, buf_root(b));
    int64_t k = 0;
    if (at->kind == E_ADD && is_int(at->arg[1], &k)) rest = at->arg[0];
    else if (!is_int(at, &k)) rest = at;
    if (rest) {
        Val v = gen_expr(f, rest);
        p = LLVMBuildGEP2(f->b, elem, p, &v, 1, "");
    }
    if (!k) return p;
    Val v = const_int(f->u, k);
    return LLVMBuildGEP2(f->b, elem, p, &v, 1, "");
}

/* The number of leading lanes to be touched, as bools. */
static Val lane_mask(Fn *f, Expr *count, int lanes) {
    int64_t lo, hi;
    expr_range(f->g->c, count, &lo, &hi);
    Val n = gen_expr(f, count);
    LLVMTypeRef i64 = type_int(f->u, 64);
    if (lo < 0) n = intrinsic(f, "llvm.smax", 1, &i64, 2, (Val[]){n, const_int(f->u, 0)});
    if (hi > lanes) n = intrinsic(f, "llvm.smin", 1, &i64, 2, (Val[]){n, const_int(f->u, lanes)});
    n = gen_splat(f, LLVMBuildTrunc(f->b, n, type_int(f->u, 32), ""), lanes);
    return LLVMBuildICmp(f->b, LLVMIntULT, const_lanes(f->u, vector(I32, lanes)), n, "");
}

static Val zeros(Fn *f, LLVMTypeRef t) {
    unsigned long long bytes = LLVMABISizeOfType(f->g->layout, t);
    const char *name = gd_format(f->g->c, "zeros.%llu", bytes);
    Val v = LLVMGetNamedGlobal(f->u->m, name);
    if (v) return v;
    LLVMTypeRef all = LLVMArrayType2(type_int(f->u, 8), bytes);
    v = LLVMAddGlobal(f->u->m, all, name);
    LLVMSetInitializer(v, LLVMConstNull(all));
    LLVMSetGlobalConstant(v, true);
    LLVMSetLinkage(v, LLVMPrivateLinkage);
    LLVMSetAlignment(v, LOCAL_ALIGN);
    return v;
}

static void mark_invariant(Fn *f, Val load) {
    unsigned kind = LLVMGetMDKindIDInContext(f->u->cx, "invariant.load", 14);
    LLVMSetMetadata(load, kind, LLVMMetadataAsValue(f->u->cx, LLVMMDNodeInContext2(f->u->cx, NULL, 0)));
}

static Val in_register(Fn *f, Val v, Type t) {
    return t.dt == BOOL ? LLVMBuildTrunc(f->b, v, type_reg(f->u, t), "") : v;
}
static Val in_memory(Fn *f, Val v, Type t) {
    return t.dt == BOOL ? LLVMBuildZExt(f->b, v, type_mem(f->u, t), "") : v;
}

Val gen_load(Fn *f, Expr *e) {
    Buf *b = e->buf, *root = buf_root(b);
    Expr *mask = e->nargs > b->rank ? e->arg[b->rank] : NULL;
    LLVMTypeRef t = type_mem(f->u, e->type);
    unsigned align = (unsigned)gd_dtypes[e->type.dt].bytes;
    f->touched = true;
    Val p = element_pointer(f, b, e->arg), v;
    if (mask && mask->type.dt != BOOL) {
        Val args[] = {p, const_i32(f->u, (int)align), lane_mask(f, mask, e->type.lanes), LLVMConstNull(t)};
        v = intrinsic(f, "llvm.masked.load", 2, (LLVMTypeRef[]){t, type_ptr(f->u)}, 4, args);
    } else {
        if (mask) p = LLVMBuildSelect(f->b, gen_expr(f, mask), p, zeros(f, t), "");
        v = LLVMBuildLoad2(f->b, t, p, "");
        if (root->space != SP_REG || root->lanes <= 1) LLVMSetAlignment(v, align);
    }
    if (root->space == SP_CONST || root->space == SP_IN) mark_invariant(f, v);
    v = in_register(f, v, e->type);
    return dt_int((DType)e->type.dt) ? wrap_small(f, v, e->type) : v;
}

void gen_store(Fn *f, Stmt *s) {
    Buf *b = s->buf, *root = buf_root(b);
    Type t = s->e->type;
    unsigned align = (unsigned)gd_dtypes[t.dt].bytes;
    if (s->mask && s->mask->type.dt != BOOL) {
        Val v = in_memory(f, gen_expr(f, s->e), t);
        Val args[] = {v, element_pointer(f, b, s->index), const_i32(f->u, (int)align),
                      lane_mask(f, s->mask, t.lanes)};
        intrinsic(f, "llvm.masked.store", 2, (LLVMTypeRef[]){LLVMTypeOf(v), type_ptr(f->u)}, 4, args);
        return;
    }
    LLVMBasicBlockRef after = NULL;
    int mark = memo_mark(f->g);
    if (s->mask) {
        Val cond = gen_expr(f, s->mask);
        LLVMBasicBlockRef then = new_block(f, "store");
        mark = memo_mark(f->g);
        after = new_block(f, "stored");
        LLVMBuildCondBr(f->b, cond, then, after);
        LLVMPositionBuilderAtEnd(f->b, then);
    }
    Val v = in_memory(f, gen_expr(f, s->e), t);
    Val st = LLVMBuildStore(f->b, v, element_pointer(f, b, s->index));
    if (root->space != SP_REG || root->lanes <= 1) LLVMSetAlignment(st, align);
    if (after) {
        LLVMBuildBr(f->b, after);
        LLVMPositionBuilderAtEnd(f->b, after);
        memo_release(f->g, mark);
    }
}
