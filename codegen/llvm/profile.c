/* Calls and nanoseconds of every nest, where EmitOptions.profile asks for them: two counters a nest, in
   memory of the generated unit, and P_profile to read them. The clock is read in `run`, around the call of
   the nest's function. */
#include "llvm.h"

enum { MONOTONIC = 1 }; /* CLOCK_MONOTONIC of Linux */

static LLVMTypeRef counters_type(Gen *g, Unit *u) {
    return LLVMArrayType2(type_int(u, 64), 2 * (uint64_t)g->nests.n);
}
static Val counters(Gen *g, Unit *u) {
    return LLVMGetNamedGlobal(u->m, gd_format(g->c, "%s_counters", g->prefix));
}

/* struct timespec: two longs. */
Val profile_start(Fn *f) {
    LLVMTypeRef word = type_size(f->g, f->u), i64 = type_int(f->u, 64), i32 = type_int(f->u, 32);
    LLVMTypeRef type = LLVMFunctionType(i32, (LLVMTypeRef[]){i32, type_ptr(f->u)}, 2, false);
    LLVMTypeRef spec = LLVMStructTypeInContext(f->u->cx, (LLVMTypeRef[]){word, word}, 2, false);
    Val at = gen_alloca(f, spec, "clock");
    LLVMBuildCall2(f->b, type, external(f->u, "clock_gettime", type), (Val[]){const_i32(f->u, MONOTONIC), at}, 2,
                   "");
    Val part[2];
    for (unsigned i = 0; i < 2; i++) {
        Val v = LLVMBuildLoad2(f->b, word, LLVMBuildStructGEP2(f->b, spec, at, i, ""), "");
        part[i] = LLVMBuildIntCast2(f->b, v, i64, true, "");
    }
    return LLVMBuildAdd(f->b, LLVMBuildMul(f->b, part[0], const_int(f->u, 1000000000), ""), part[1], "");
}

static void count(Fn *f, int which, Val by) {
    LLVMTypeRef i64 = type_int(f->u, 64);
    Val at = const_int(f->u, which), p = LLVMBuildGEP2(f->b, i64, counters(f->g, f->u), &at, 1, "");
    LLVMBuildStore(f->b, LLVMBuildAdd(f->b, LLVMBuildLoad2(f->b, i64, p, ""), by, ""), p);
}

void profile_stop(Fn *f, const char *nest, Val start) {
    Val end = profile_start(f);
    for (int i = 0; i < f->g->nests.n; i++) {
        if (strcmp(f->g->nests.v[i], nest)) continue;
        count(f, 2 * i, const_int(f->u, 1));
        count(f, 2 * i + 1, LLVMBuildSub(f->b, end, start, ""));
        return;
    }
}

static bool name_nest(void *arg, Stmt *s) {
    Gen *g = arg;
    if (s->kind == S_NEST) vec_push(g->c, &g->nests, s->nest->name);
    return s->kind != S_NEST;
}

/* int P_profile(int nest, uint64_t *calls, uint64_t *ns): 0, or -1 past the last. */
void gen_profile(Gen *g) {
    Unit *u = &g->units[0];
    LLVMTypeRef at = type_ptr(u), i32 = type_int(u, 32), i64 = type_int(u, 64);
    block_walk(&g->p->body, name_nest, g);
    Val all = LLVMAddGlobal(u->m, counters_type(g, u), gd_format(g->c, "%s_counters", g->prefix));
    LLVMSetInitializer(all, LLVMConstNull(counters_type(g, u)));
    LLVMSetLinkage(all, LLVMInternalLinkage);
    Fn f;
    fn_begin(&f, g, u, FN_RUN, gd_format(g->c, "%s_profile", g->prefix),
             LLVMFunctionType(i32, (LLVMTypeRef[]){i32, at, at}, 3, false));
    LLVMBasicBlockRef past = new_block(&f, "past"), has = new_block(&f, "has");
    Val which = LLVMGetParam(f.f, 0);
    LLVMBuildCondBr(f.b, LLVMBuildICmp(f.b, LLVMIntULT, which, const_i32(u, g->nests.n), ""), has, past);
    LLVMPositionBuilderAtEnd(f.b, past);
    LLVMBuildRet(f.b, const_i32(u, -1));
    LLVMPositionBuilderAtEnd(f.b, has);
    LLVMTypeRef pair = LLVMArrayType2(i64, 2);
    for (int k = 0; k < 2; k++) {
        Val p = LLVMBuildGEP2(f.b, pair, all, (Val[]){LLVMBuildZExt(f.b, which, i64, ""), const_i32(u, k)}, 2, "");
        LLVMBuildStore(f.b, LLVMBuildLoad2(f.b, i64, p, ""), LLVMGetParam(f.f, 1 + (unsigned)k));
    }
    LLVMBuildRet(f.b, const_i32(u, 0));
    fn_end(&f);
}
