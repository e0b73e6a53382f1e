/* LLVM's types and constants for ours. A bool is i1 as a value and a byte in memory; types narrower than a
   byte are a byte that holds the wrapped number; small floats and strings are integers of their size, moved
   but not computed. */
#include "llvm.h"

LLVMTypeRef type_int(Unit *u, int bits) { return LLVMIntTypeInContext(u->cx, (unsigned)bits); }
LLVMTypeRef type_ptr(Unit *u) { return LLVMPointerTypeInContext(u->cx, 0); }
LLVMTypeRef type_size(Gen *g, Unit *u) { return LLVMIntPtrTypeInContext(u->cx, g->layout); }

static LLVMTypeRef element(Unit *u, DType t) {
    if (t == F32) return LLVMFloatTypeInContext(u->cx);
    if (t == F64) return LLVMDoubleTypeInContext(u->cx);
    return type_int(u, type_bits(t));
}
static LLVMTypeRef lanes_of(LLVMTypeRef t, int lanes) {
    return lanes > 1 ? LLVMVectorType(t, (unsigned)lanes) : t;
}

LLVMTypeRef type_reg(Unit *u, Type t) {
    return lanes_of(t.dt == BOOL ? type_int(u, 1) : element(u, (DType)t.dt), t.lanes);
}
LLVMTypeRef type_mem(Unit *u, Type t) { return lanes_of(element(u, (DType)t.dt), t.lanes); }

Val const_int(Unit *u, int64_t v) { return LLVMConstInt(type_int(u, 64), (uint64_t)v, true); }
Val const_i32(Unit *u, int v) { return LLVMConstInt(type_int(u, 32), (uint64_t)(int64_t)v, true); }

Val const_splat(Val v, int lanes) {
    if (lanes == 1) return v;
    Val all[255];
    for (int i = 0; i < lanes; i++) all[i] = v;
    return LLVMConstVector(all, (unsigned)lanes);
}

Val const_bits(Unit *u, Type t, uint64_t bits) {
    LLVMTypeRef elem = type_reg(u, scalar((DType)t.dt));
    if (t.dt == BOOL) return const_splat(LLVMConstInt(elem, bits & 1, false), t.lanes);
    int width = type_bits((DType)t.dt);
    Val v = LLVMConstInt(type_int(u, width), width < 64 ? bits & ((1ull << width) - 1) : bits, false);
    return const_splat(dt_float((DType)t.dt) ? LLVMConstBitCast(v, elem) : v, t.lanes);
}

Val const_lanes(Unit *u, Type t) {
    Val all[255];
    for (int i = 0; i < t.lanes; i++) all[i] = const_bits(u, scalar((DType)t.dt), gd_to_bits((DType)t.dt, i));
    return t.lanes == 1 ? all[0] : LLVMConstVector(all, t.lanes);
}

Val intrinsic(Fn *f, const char *name, int ntypes, LLVMTypeRef *types, int n, Val *args) {
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) gd_bug(f->g->c, "LLVM has no %s", name);
    Val fn = LLVMGetIntrinsicDeclaration(f->u->m, id, types, (size_t)ntypes);
    return LLVMBuildCall2(f->b, LLVMIntrinsicGetType(f->u->cx, id, types, (size_t)ntypes), fn, args, (unsigned)n,
                          "");
}

Val external(Unit *u, const char *name, LLVMTypeRef type) {
    Val f = LLVMGetNamedFunction(u->m, name);
    if (f) return f;
    f = LLVMAddFunction(u->m, name, type);
    fn_attribute(u, f, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
    return f;
}

void fn_attribute(Unit *u, Val f, unsigned at, const char *name, uint64_t v) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(f, at, LLVMCreateEnumAttribute(u->cx, kind, v));
}
void fn_attribute_text(Unit *u, Val f, const char *name, const char *value) {
    LLVMAddAttributeAtIndex(f, (unsigned)LLVMAttributeFunctionIndex,
                            LLVMCreateStringAttribute(u->cx, name, (unsigned)strlen(name), value,
                                                      (unsigned)strlen(value)));
}
