/* P_run_raw: checks the arena, finds the buffers, runs the body in order. Symbols of the inputs are read
   once; those that the data decides are read from and written to the caller's array, so every use sees the
   newest value. */
#include "llvm.h"
#include "heap.h"
#include "program.h"

static Val array_at(Fn *f, LLVMTypeRef t, Val array, int64_t i) {
    Val at = const_int(f->u, i);
    return LLVMBuildGEP2(f->b, t, array, &at, 1, "");
}
static Val pointer_at(Fn *f, Val array, int i, const char *name) {
    return LLVMBuildLoad2(f->b, type_ptr(f->u), array_at(f, type_ptr(f->u), array, i), name);
}

void run_set_symbol(Fn *f, Var *v, Val to) {
    if (f->kind != FN_RUN) gd_bug(f->g->c, "LLVM: symbol %s is set inside a nest", v->name);
    for (int i = 0; i < f->g->p->syms.n; i++)
        if (f->g->p->syms.v[i] == v) LLVMBuildStore(f->b, to, array_at(f, type_int(f->u, 64), f->syms, i));
}

static void bind_symbols(Fn *f) {
    Program *p = f->g->p;
    LLVMTypeRef i64 = type_int(f->u, 64);
    for (int i = 0; i < p->syms.n; i++) {
        Var *v = p->syms.v[i];
        if (v->data) continue;
        Val n = LLVMBuildLoad2(f->b, i64, array_at(f, i64, f->syms, i), v->name);
        map_putp(f->vars, v, n);
        if (v->lo > INT64_MIN)
            gen_check(f, LLVMBuildICmp(f->b, LLVMIntSGE, n, const_int(f->u, v->lo), ""), GRADC_RUN_SHAPE);
        if (v->hi < INT64_MAX)
            gen_check(f, LLVMBuildICmp(f->b, LLVMIntSLE, n, const_int(f->u, v->hi), ""), GRADC_RUN_SHAPE);
    }
}

/* ---- the arena's size ---- */

typedef struct Sum { Fn *f; Map *known; Val over; } Sum;

static Val part(Sum *s, Expr *e) {
    Fn *f = s->f;
    Val known = map_getp(s->known, e), args[3];
    if (known) return known;
    if (e->nargs == 0 || e->kind == E_LOAD) return gen_expr(f, e);
    for (int i = 0; i < e->nargs; i++) args[i] = part(s, e->arg[i]);
    if (e->type.dt == I64 && (e->kind == E_ADD || e->kind == E_MUL)) {
        LLVMTypeRef i64 = type_int(f->u, 64);
        Val pair = intrinsic(f, e->kind == E_ADD ? "llvm.sadd.with.overflow" : "llvm.smul.with.overflow", 1, &i64,
                             2, args);
        s->over = LLVMBuildOr(f->b, s->over, LLVMBuildExtractValue(f->b, pair, 1, ""), "");
        known = LLVMBuildExtractValue(f->b, pair, 0, "");
    } else known = gen_scalar(f, e, args);
    map_putp(s->known, e, known);
    return known;
}

/* Symbols without a bound can make it overflow: then no arena is large enough. */
Val run_arena_bytes(Fn *f) {
    Gen *g = f->g;
    Expr *e = g->p->arena;
    if (!e) return const_int(f->u, 0);
    if (expr_max(g->c, e) < INT64_MAX) return gen_expr(f, e);
    Sum s = {f, map_new(g->c), LLVMConstInt(type_int(f->u, 1), 0, false)};
    Val n = part(&s, e);
    s.over = LLVMBuildOr(f->b, s.over, LLVMBuildICmp(f->b, LLVMIntSLT, n, const_int(f->u, 0), ""), "");
    return LLVMBuildSelect(f->b, s.over, const_int(f->u, -1), n, "");
}

/* ---- storage that comes and goes ---- */

static Val heap_call(Fn *f, const char *name, LLVMTypeRef result, int n, Val *args) {
    LLVMTypeRef t[4];
    for (int i = 0; i < n; i++) t[i] = LLVMTypeOf(args[i]);
    LLVMTypeRef type = LLVMFunctionType(result, t, (unsigned)n, false);
    return LLVMBuildCall2(f->b, type, external(f->u, name, type), args, (unsigned)n, "");
}

static Val slot_of(Fn *f, Buf *b) {
    Val slot = map_getp(f->g->slots, buf_root(b));
    if (f->kind != FN_RUN || !slot) gd_bug(f->g->c, "LLVM: %s is allocated inside a nest", b->name);
    return slot;
}

static void set_output(Fn *f, Buf *b, Val to) {
    if (buf_root(b)->space == SP_OUT)
        LLVMBuildStore(f->b, to, array_at(f, type_ptr(f->u), f->outs, buf_root(b)->port));
}

/* An output that the caller has a place for keeps it. */
void run_alloc(Fn *f, Buf *b) {
    Gen *g = f->g;
    LLVMTypeRef p = type_ptr(f->u);
    Val slot = slot_of(f, b), null = LLVMConstNull(p);
    LLVMBasicBlockRef after = NULL;
    if (b->space == SP_OUT) {
        LLVMBasicBlockRef none = new_block(f, "alloc");
        after = new_block(f, "");
        Val has = LLVMBuildLoad2(f->b, p, slot, "");
        LLVMBuildCondBr(f->b, LLVMBuildICmp(f->b, LLVMIntEQ, has, null, ""), none, after);
        LLVMPositionBuilderAtEnd(f->b, none);
    }
    int mark = memo_mark(g);
    Expr *bytes = expr_mul(g->c, buf_size(g->c, b), expr_int(g->c, gd_dtypes[b->dt].bytes));
    Val size = LLVMBuildTruncOrBitCast(f->b, gen_expr(f, bytes), type_size(g, f->u), "");
    Val got = heap_call(f, "gradc_heap_alloc", p, 2, (Val[]){f->heap, size});
    gen_check(f, LLVMBuildICmp(f->b, LLVMIntNE, got, null, ""), GRADC_RUN_ARENA);
    LLVMBuildStore(f->b, got, slot);
    set_output(f, b, got);
    if (!after) return;
    memo_release(g, mark);
    LLVMBuildBr(f->b, after);
    LLVMPositionBuilderAtEnd(f->b, after);
}

void run_free(Fn *f, Buf *b) {
    LLVMTypeRef p = type_ptr(f->u);
    Val slot = slot_of(f, b), at = LLVMBuildLoad2(f->b, p, slot, b->name);
    heap_call(f, "gradc_heap_free", LLVMVoidTypeInContext(f->u->cx), 2, (Val[]){f->heap, at});
    LLVMBuildStore(f->b, LLVMConstNull(p), slot);
}

/* What the target had before is free then. */
void run_move(Fn *f, Buf *to, Buf *from) {
    LLVMTypeRef p = type_ptr(f->u);
    if (buf_root(to)->space == SP_HEAP) run_free(f, to);
    Val at = LLVMBuildLoad2(f->b, p, slot_of(f, from), from->name);
    LLVMBuildStore(f->b, at, slot_of(f, to));
    LLVMBuildStore(f->b, LLVMConstNull(p), slot_of(f, from));
    set_output(f, to, at);
}

static void add_slot(Fn *f, Buf *b) {
    if (!b || map_getp(f->g->slots, b)) return;
    Val slot = gen_alloca(f, type_ptr(f->u), b->name);
    LLVMBuildStore(f->b,
                   b->space == SP_OUT ? pointer_at(f, f->outs, b->port, b->name) : LLVMConstNull(type_ptr(f->u)),
                   slot);
    map_putp(f->g->slots, b, slot);
    f->g->heap = true;
}

static bool find_slots(void *arg, Stmt *s) {
    if (s->kind == S_ALLOC || s->kind == S_FREE || s->kind == S_MOVE) add_slot(arg, buf_root(s->buf));
    if (s->kind == S_MOVE) add_slot(arg, buf_root(s->from));
    return s->kind != S_NEST;
}

/* ---- the function ---- */

static void bind_buffers(Fn *f, Val ins) {
    Program *p = f->g->p;
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        if (map_getp(f->g->slots, b)) continue;
        map_putp(f->bufs, b, pointer_at(f, b->space == SP_IN ? ins : f->outs, b->port, b->name));
    }
    if (f->g->extern_weights) f->weights = pointer_at(f, ins, weights_port(f->g), "weights");
}

/* What plan did not place lies behind what it did. */
static void open_heap(Fn *f, Val need, Val have) {
    Gen *g = f->g;
    LLVMTypeRef size = type_size(g, f->u), words = LLVMArrayType2(type_int(f->u, 64), (sizeof(GradcHeap) + 7) / 8);
    Val aligned = LLVMBuildAdd(f->b, need, const_int(f->u, GRADC_ALIGN - 1), "");
    aligned = LLVMBuildAnd(f->b, aligned, const_int(f->u, -GRADC_ALIGN), "");
    Val most = intrinsic(f, "llvm.umin", 1, (LLVMTypeRef[]){type_int(f->u, 64)}, 2, (Val[]){aligned, have});
    Val tail = LLVMBuildGEP2(f->b, type_int(f->u, 8), f->arena, &most, 1, "");
    Val rest = LLVMBuildTruncOrBitCast(f->b, LLVMBuildSub(f->b, have, most, ""), size, "");
    f->heap = gen_alloca(f, words, "heap");
    heap_call(f, "gradc_heap_init", LLVMVoidTypeInContext(f->u->cx), 3, (Val[]){f->heap, tail, rest});
}

void gen_run(Gen *g) {
    Unit *u = &g->units[0];
    Program *p = g->p;
    LLVMTypeRef at = type_ptr(u), i64 = type_int(u, 64), types[] = {at, at, at, at, type_size(g, u)};
    Fn f;
    fn_begin(&f, g, u, FN_RUN, gd_format(g->c, "%s_run_raw", g->prefix),
             LLVMFunctionType(type_int(u, 32), types, 5, false));
    static const char *const names[] = {"ins", "outs", "syms", "arena", "arena_bytes"};
    for (unsigned i = 0; i < 5; i++) LLVMSetValueName2(LLVMGetParam(f.f, i), names[i], strlen(names[i]));
    f.outs = LLVMGetParam(f.f, 1);
    f.syms = LLVMGetParam(f.f, 2);
    f.arena = LLVMGetParam(f.f, 3);
    bind_symbols(&f);
    Val have = LLVMBuildIntCast2(f.b, LLVMGetParam(f.f, 4), i64, false, "");
    Val need = run_arena_bytes(&f);
    gen_check(&f, LLVMBuildICmp(f.b, LLVMIntUGE, have, need, ""), GRADC_RUN_ARENA);
    block_walk(&p->body, find_slots, &f);
    bind_buffers(&f, LLVMGetParam(f.f, 0));
    if (g->heap) open_heap(&f, need, have);
    gen_block(&f, &p->body);
    LLVMBuildRet(f.b, const_i32(u, GRADC_RUN_OK));
    fn_end(&f);
}
