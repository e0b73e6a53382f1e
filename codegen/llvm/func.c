/* Functions: one a nest, and two a parallel loop.

   A nest's function has a parameter for every variable and buffer it uses, so that LLVM knows of each buffer
   that no other overlaps it. A parallel loop becomes a `chunk`, which runs some consecutive iterations and is
   like a nest's function, and a `thread`, which libgomp calls once on every thread with the captured values
   in a struct: it works out the thread's share and calls the chunk. Which thread runs an iteration never
   matters for its result. */
#include "llvm.h"

enum { ARENA_ALIGN = 64 };

static void describe(Fn *f) {
    const Target *t = f->g->o->target;
    fn_attribute(f->u, f->f, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
    if (*t->cpu) fn_attribute_text(f->u, f->f, "target-cpu", machine_cpu(t));
    if (f->g->tune) fn_attribute_text(f->u, f->f, "tune-cpu", f->g->tune);
    if (*t->features) fn_attribute_text(f->u, f->f, "target-features", t->features);
    if (t->lanes > 1) fn_attribute_text(f->u, f->f, "prefer-vector-width", gd_format(f->g->c, "%d", 32 * t->lanes));
}

void fn_begin(Fn *f, Gen *g, Unit *u, FnKind kind, const char *name, LLVMTypeRef type) {
    *f = (Fn){.g = g, .u = u, .kind = kind, .b = u->at, .name = name, .serial = ++g->fns};
    f->vars = map_new(g->c);
    f->bufs = map_new(g->c);
    f->f = LLVMGetNamedFunction(u->m, name);
    if (!f->f) f->f = LLVMAddFunction(u->m, name, type);
    describe(f);
    f->resume = LLVMGetInsertBlock(u->at);
    LLVMBasicBlockRef entry = new_block(f, "entry"), body = new_block(f, "body");
    LLVMPositionBuilderAtEnd(u->at, entry);
    f->entry_end = LLVMBuildBr(u->at, body);
    LLVMPositionBuilderAtEnd(u->at, body);
}

void fn_end(Fn *f) {
    if (f->resume) LLVMPositionBuilderAtEnd(f->b, f->resume);
}

/* ---- captured values as parameters ---- */

static void parameter_types(Unit *u, const Captures *uses, LLVMTypeRef *t) {
    for (int i = 0; i < uses->vars.n; i++) *t++ = type_reg(u, uses->vars.v[i]->type);
    for (int i = 0; i < uses->bufs.n; i++) *t++ = type_ptr(u);
}

static void arguments(Fn *f, const Captures *uses, Val *v) {
    for (int i = 0; i < uses->vars.n; i++) *v++ = gen_expr(f, expr_var(f->g->c, uses->vars.v[i]));
    for (int i = 0; i < uses->bufs.n; i++) *v++ = buf_pointer(f, uses->bufs.v[i]);
}

static unsigned known_align(const Gen *g, const Buf *b) {
    if (b->space == SP_LOCAL || b->space == SP_ARENA) return ARENA_ALIGN;
    if (b->space == SP_CONST)
        return g->jit ? 1u << (__builtin_ctzll((uintptr_t)b->data | ARENA_ALIGN)) : ARENA_ALIGN;
    return (unsigned)gd_dtypes[b->dt].bytes;
}

static void buffer_attributes(Fn *f, const Captures *uses, int which, unsigned at) {
    Gen *g = f->g;
    Buf *b = uses->bufs.v[which];
    bool alone = true;
    int64_t n;
    for (int i = 0; i < uses->bufs.n && alone; i++) alone = i == which || bufs_disjoint(g, b, uses->bufs.v[i]);
    if (alone) fn_attribute(f->u, f->f, at, "noalias", 0);
    if (b->space == SP_IN || b->space == SP_CONST) fn_attribute(f->u, f->f, at, "readonly", 0);
    fn_attribute(f->u, f->f, at, "align", known_align(g, b));
    if (is_int(buf_size(g->c, b), &n) && n > 0 && b->space != SP_REG)
        fn_attribute(f->u, f->f, at, "dereferenceable", (uint64_t)n * (uint64_t)gd_dtypes[b->dt].bytes);
}

static void bind_parameters(Fn *f, const Captures *uses, unsigned from) {
    for (int i = 0; i < uses->vars.n; i++, from++) {
        Val v = LLVMGetParam(f->f, from);
        LLVMSetValueName2(v, uses->vars.v[i]->name, strlen(uses->vars.v[i]->name));
        map_putp(f->vars, uses->vars.v[i], v);
    }
    for (int i = 0; i < uses->bufs.n; i++, from++) {
        Val v = LLVMGetParam(f->f, from);
        LLVMSetValueName2(v, uses->bufs.v[i]->name, strlen(uses->bufs.v[i]->name));
        map_putp(f->bufs, uses->bufs.v[i], v);
        buffer_attributes(f, uses, i, from + 1);
    }
}

/* ---- nests ---- */

static LLVMTypeRef nest_type(Unit *u, const Captures *uses, LLVMTypeRef *t) {
    parameter_types(u, uses, t);
    LLVMTypeRef result = uses->checks ? type_int(u, 32) : LLVMVoidTypeInContext(u->cx);
    return LLVMFunctionType(result, t, (unsigned)(uses->vars.n + uses->bufs.n), false);
}

static void nest_body(Gen *g, Unit *u, Stmt *s, const Captures *uses, const char *name, LLVMTypeRef type,
                      bool local) {
    Fn f;
    fn_begin(&f, g, u, FN_NEST, name, type);
    if (local) LLVMSetLinkage(f.f, LLVMInternalLinkage);
    else LLVMSetVisibility(f.f, LLVMHiddenVisibility);
    fn_attribute(u, f.f, (unsigned)LLVMAttributeFunctionIndex, "noinline", 0);
    bind_parameters(&f, uses, 0);
    gen_block(&f, &s->body);
    if (uses->checks) LLVMBuildRet(f.b, const_i32(u, GRADC_RUN_OK));
    else LLVMBuildRetVoid(f.b);
    fn_end(&f);
}

void gen_nest(Fn *f, Stmt *s) {
    Gen *g = f->g;
    if (f->kind != FN_RUN) gd_bug(g->c, "LLVM: nest %s inside %s", s->nest->name, f->name);
    gd_check_time(g->c);
    Captures uses;
    captures_of(g, &s->body, &uses);
    Unit *u = map_getp(g->unit_of, s);
    const char *name = gd_format(g->c, "%s_nest_%s", g->prefix, s->nest->name);
    int n = uses.vars.n + uses.bufs.n;
    LLVMTypeRef *t = gd_new_array(g->c, LLVMTypeRef, n), type = nest_type(u, &uses, t);
    nest_body(g, u, s, &uses, name, type, u == f->u);
    Val callee = LLVMGetNamedFunction(f->u->m, name), *args = gd_new_array(g->c, Val, n);
    if (!callee) {
        type = nest_type(f->u, &uses, t);
        callee = LLVMAddFunction(f->u->m, name, type);
        LLVMSetVisibility(callee, LLVMHiddenVisibility);
        fn_attribute(f->u, callee, (unsigned)LLVMAttributeFunctionIndex, "nounwind", 0);
    }
    arguments(f, &uses, args);
    Val start = g->o->profile ? profile_start(f) : NULL;
    Val status = LLVMBuildCall2(f->b, type, callee, args, (unsigned)n, "");
    if (start) profile_stop(f, s->nest->name, start);
    if (!uses.checks) return;
    LLVMBasicBlockRef fails = new_block(f, "failed"), after = new_block(f, "");
    LLVMBuildCondBr(f->b, LLVMBuildICmp(f->b, LLVMIntEQ, status, const_i32(f->u, GRADC_RUN_OK), ""), after, fails);
    LLVMPositionBuilderAtEnd(f->b, fails);
    LLVMBuildRet(f->b, status);
    LLVMPositionBuilderAtEnd(f->b, after);
}

/* ---- parallel loops ---- */

enum { FIXED = 3 }; /* the chunk's own parameters: from, to, failed */

typedef struct Outlined { const char *chunk, *thread; LLVMTypeRef chunk_type, thread_type, frame; } Outlined;

static void gen_chunk(Gen *g, Unit *u, Stmt *s, const Captures *uses, const Outlined *o) {
    Fn f;
    fn_begin(&f, g, u, FN_CHUNK, o->chunk, o->chunk_type);
    LLVMSetLinkage(f.f, LLVMInternalLinkage);
    fn_attribute(u, f.f, (unsigned)LLVMAttributeFunctionIndex, "noinline", 0);
    f.failed = LLVMGetParam(f.f, 2);
    bind_parameters(&f, uses, FIXED);
    gen_loop(&f, s, LLVMGetParam(f.f, 0), LLVMGetParam(f.f, 1), false);
    LLVMBuildRetVoid(f.b);
    fn_end(&f);
}

static Val frame_field(Fn *f, const Outlined *o, Val frame, int i) {
    return LLVMBuildStructGEP2(f->b, o->frame, frame, (unsigned)i, "");
}

static Val omp_number(Fn *f, const char *name) {
    LLVMTypeRef t = LLVMFunctionType(type_int(f->u, 32), NULL, 0, false);
    Val v = LLVMBuildCall2(f->b, t, external(f->u, name, t), NULL, 0, "");
    return LLVMBuildZExt(f->b, v, type_int(f->u, 64), "");
}

/* frame: trip count, place for a failure, captured values. The first trip % n threads run one more iteration. */
static void gen_thread(Gen *g, Unit *u, const Captures *uses, const Outlined *o) {
    Fn f;
    int n = uses->vars.n + uses->bufs.n;
    LLVMTypeRef i64 = type_int(u, 64);
    Val *args = gd_new_array(g->c, Val, n + FIXED);
    fn_begin(&f, g, u, FN_CHUNK, o->thread, o->thread_type);
    LLVMSetLinkage(f.f, LLVMInternalLinkage);
    Val frame = LLVMGetParam(f.f, 0), trip = LLVMBuildLoad2(f.b, i64, frame_field(&f, o, frame, 0), "trip");
    for (int i = FIXED - 1; i < n + FIXED; i++)
        args[i] = LLVMBuildLoad2(f.b, LLVMStructGetTypeAtIndex(o->frame, (unsigned)i - 1),
                                 frame_field(&f, o, frame, i - 1), "");
    Val me = omp_number(&f, "omp_get_thread_num"), all = omp_number(&f, "omp_get_num_threads");
    Val each = LLVMBuildUDiv(f.b, trip, all, ""), more = LLVMBuildURem(f.b, trip, all, "");
    Val before = intrinsic(&f, "llvm.umin", 1, &i64, 2, (Val[]){me, more});
    args[0] = LLVMBuildAdd(f.b, LLVMBuildMul(f.b, me, each, ""), before, "from");
    Val one = LLVMBuildZExt(f.b, LLVMBuildICmp(f.b, LLVMIntULT, me, more, ""), i64, "");
    args[1] = LLVMBuildAdd(f.b, args[0], LLVMBuildAdd(f.b, each, one, ""), "to");
    LLVMBuildCall2(f.b, o->chunk_type, LLVMGetNamedFunction(u->m, o->chunk), args, (unsigned)(n + FIXED), "");
    LLVMBuildRetVoid(f.b);
    fn_end(&f);
}

static Outlined outline(Fn *f, Stmt *s, const Captures *uses) {
    Gen *g = f->g;
    Unit *u = f->u;
    int n = uses->vars.n + uses->bufs.n, serial = f->parallel++;
    LLVMTypeRef *t = gd_new_array(g->c, LLVMTypeRef, n + FIXED), none = LLVMVoidTypeInContext(u->cx);
    LLVMTypeRef p = type_ptr(u);
    t[0] = t[1] = type_int(u, 64);
    t[2] = p;
    parameter_types(u, uses, t + FIXED);
    Outlined o = {.chunk = gd_format(g->c, "%s_chunk%d", f->name, serial),
                  .thread = gd_format(g->c, "%s_thread%d", f->name, serial)};
    o.chunk_type = LLVMFunctionType(none, t, (unsigned)(n + FIXED), false);
    o.thread_type = LLVMFunctionType(none, &p, 1, false);
    o.frame = LLVMStructTypeInContext(u->cx, t + 1, (unsigned)(n + FIXED - 1), false);
    gen_chunk(g, u, s, uses, &o);
    gen_thread(g, u, uses, &o);
    return o;
}

/* GOMP_parallel(thread, frame, 0, 0): as many threads as OpenMP thinks right. */
static void call_threads(Fn *f, const Outlined *o, Val *args, int n) {
    LLVMTypeRef p = type_ptr(f->u), i32 = type_int(f->u, 32);
    LLVMTypeRef t = LLVMFunctionType(LLVMVoidTypeInContext(f->u->cx), (LLVMTypeRef[]){p, p, i32, i32}, 4, false);
    Val frame = gen_alloca(f, o->frame, "frame");
    for (int i = 1; i < n; i++) LLVMBuildStore(f->b, args[i], frame_field(f, o, frame, i - 1));
    Val zero = const_i32(f->u, 0);
    LLVMBuildCall2(f->b, t, external(f->u, "GOMP_parallel", t),
                   (Val[]){LLVMGetNamedFunction(f->u->m, o->thread), frame, zero, zero}, 4, "");
}

/* With a single iteration no thread is woken. */
static void call_chunk(Fn *f, const Outlined *o, Val *args, int n, bool several) {
    if (several) { call_threads(f, o, args, n); return; }
    LLVMBasicBlockRef many = new_block(f, "many"), few = new_block(f, "few"), after = new_block(f, "");
    LLVMBuildCondBr(f->b, LLVMBuildICmp(f->b, LLVMIntSGT, args[1], const_int(f->u, 1), ""), many, few);
    LLVMPositionBuilderAtEnd(f->b, many);
    call_threads(f, o, args, n);
    LLVMBuildBr(f->b, after);
    LLVMPositionBuilderAtEnd(f->b, few);
    LLVMBuildCall2(f->b, o->chunk_type, LLVMGetNamedFunction(f->u->m, o->chunk), args, (unsigned)n, "");
    LLVMBuildBr(f->b, after);
    LLVMPositionBuilderAtEnd(f->b, after);
}

void gen_parallel(Fn *f, Stmt *s) {
    Gen *g = f->g;
    Captures uses;
    int64_t lo, hi;
    expr_range(g->c, s->e, &lo, &hi);
    captures_of(g, &(Block){.v = &s, .n = 1}, &uses);
    Outlined o = outline(f, s, &uses);
    int n = uses.vars.n + uses.bufs.n + FIXED;
    Val *args = gd_new_array(g->c, Val, n), unset = const_int(f->u, -1);
    args[0] = const_int(f->u, 0);
    args[1] = gen_expr(f, s->e);
    args[2] = LLVMConstNull(type_ptr(f->u));
    if (uses.checks) {
        args[2] = gen_alloca(f, type_int(f->u, 64), "failed");
        LLVMBuildStore(f->b, unset, args[2]);
    }
    arguments(f, &uses, args + FIXED);
    call_chunk(f, &o, args, n, lo > 1);
    if (!uses.checks) return;
    Val v = LLVMBuildLoad2(f->b, type_int(f->u, 64), args[2], "");
    LLVMBasicBlockRef fails = new_block(f, "failed"), after = new_block(f, "");
    LLVMBuildCondBr(f->b, LLVMBuildICmp(f->b, LLVMIntEQ, v, unset, ""), after, fails);
    LLVMPositionBuilderAtEnd(f->b, fails);
    LLVMBuildRet(f->b, LLVMBuildTrunc(f->b, v, type_int(f->u, 32), ""));
    LLVMPositionBuilderAtEnd(f->b, after);
}
