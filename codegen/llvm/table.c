/* The table P_program of runtime/program.h as constants, the functions it points to, and main. Fields stand
   in the order of that header; what a pointer and a size_t are is the target's business. */
#include "llvm.h"
#include "program.h"

enum { HEAP_START = 65536 }; /* bytes of the arena's tail to begin with, where there is a heap */

static Val global(Unit *u, Val init, const char *name) {
    Val v = LLVMAddGlobal(u->m, LLVMTypeOf(init), name);
    LLVMSetInitializer(v, init);
    LLVMSetGlobalConstant(v, true);
    LLVMSetLinkage(v, LLVMPrivateLinkage);
    return v;
}

static Val text(Unit *u, const char *s) {
    Val v = global(u, LLVMConstStringInContext(u->cx, s, (unsigned)strlen(s), false), "text");
    LLVMSetUnnamedAddress(v, LLVMGlobalUnnamedAddr);
    return v;
}

/* n constants of type t; never an empty array. */
static Val array(Unit *u, LLVMTypeRef t, Val *v, int n, const char *name) {
    if (!n) return LLVMConstNull(type_ptr(u));
    return global(u, LLVMConstArray2(t, v, (uint64_t)n), name);
}

/* ---- ports ---- */

static int64_t port_dim(const Program *p, const Expr *e) {
    int64_t n;
    if (is_int(e, &n)) return n;
    for (int i = 0; e->kind == E_VAR && i < p->syms.n; i++)
        if (p->syms.v[i] == e->var) return -1 - i;
    return GRADC_DIM_COMPUTED;
}

static Val ports(Gen *g, Unit *u, Space space, int *count) {
    Program *p = g->p;
    LLVMTypeRef at = type_ptr(u), i32 = type_int(u, 32), fields[] = {at, i32, i32, at};
    LLVMTypeRef port = LLVMStructTypeInContext(u->cx, fields, 4, false);
    Val *all = gd_new_array(g->c, Val, p->params.n);
    int n = 0;
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        if (b->space != space) continue;
        Val *dims = gd_new_array(g->c, Val, b->rank);
        for (int d = 0; d < b->rank; d++) dims[d] = const_int(u, port_dim(p, b->dim[d]));
        Val v[] = {text(u, p->port_names.v[i]), const_i32(u, b->dt), const_i32(u, b->rank),
                   array(u, type_int(u, 64), dims, b->rank, "dims")};
        all[n++] = LLVMConstStructInContext(u->cx, v, 4, false);
    }
    *count = n;
    return array(u, port, all, n, "ports");
}

/* ---- functions of the symbols ---- */

static void begin(Fn *f, Gen *g, const char *name, LLVMTypeRef result, LLVMTypeRef *args, int n) {
    fn_begin(f, g, &g->units[0], FN_RUN, name, LLVMFunctionType(result, args, (unsigned)n, false));
    LLVMSetLinkage(f->f, LLVMInternalLinkage);
    f->syms = LLVMGetParam(f->f, 0);
}

/* -1 when a symbol it depends on is not known yet. */
static Val dim_value(Fn *f, Expr *e) {
    Program *p = f->g->p;
    Val unknown = NULL, v = gen_expr(f, e);
    for (int i = 0; i < p->syms.n; i++) {
        if (!expr_uses(e, p->syms.v[i])) continue;
        Val n = gen_expr(f, expr_var(f->g->c, p->syms.v[i]));
        Val open = p->syms.v[i]->lo >= 0 ? LLVMBuildICmp(f->b, LLVMIntSLT, n, const_int(f->u, 0), "")
                                         : LLVMBuildICmp(f->b, LLVMIntEQ, n, const_int(f->u, INT64_MIN), "");
        unknown = unknown ? LLVMBuildOr(f->b, unknown, open, "") : open;
    }
    return unknown ? LLVMBuildSelect(f->b, unknown, const_int(f->u, -1), v, "") : v;
}

static Val out_dims(Gen *g, Unit *u) {
    Fn f;
    LLVMTypeRef i64 = type_int(u, 64), args[] = {type_ptr(u), type_ptr(u)};
    begin(&f, g, gd_format(g->c, "%s_out_dims", g->prefix), LLVMVoidTypeInContext(u->cx), args, 2);
    int64_t at = 0;
    for (int i = 0; i < g->p->params.n; i++) {
        Buf *b = g->p->params.v[i];
        for (int d = 0; b->space == SP_OUT && d < b->rank; d++) {
            Val place = const_int(u, at++), v = dim_value(&f, b->dim[d]);
            LLVMBuildStore(f.b, v, LLVMBuildGEP2(f.b, i64, LLVMGetParam(f.f, 1), &place, 1, ""));
        }
    }
    LLVMBuildRetVoid(f.b);
    fn_end(&f);
    return f.f;
}

static Val arena_bytes(Gen *g, Unit *u) {
    Fn f;
    LLVMTypeRef size = type_size(g, u), arg = type_ptr(u);
    begin(&f, g, gd_format(g->c, "%s_arena_bytes", g->prefix), size, &arg, 1);
    Val v = run_arena_bytes(&f);
    if (g->heap) { /* something to begin with; not when it is too much already */
        Val more = LLVMBuildAdd(f.b, v, const_int(u, HEAP_START), "");
        v = LLVMBuildSelect(f.b, LLVMBuildICmp(f.b, LLVMIntULT, more, v, ""), v, more, "");
    }
    if (LLVMGetIntTypeWidth(size) < 64) {
        Val most = const_int(u, UINT32_MAX);
        v = LLVMBuildSelect(f.b, LLVMBuildICmp(f.b, LLVMIntULT, v, most, ""), v, most, "");
    }
    LLVMBuildRet(f.b, LLVMBuildTruncOrBitCast(f.b, v, size, ""));
    fn_end(&f);
    return f.f;
}

static Val status_text(Gen *g, Unit *u) {
    static const char *const texts[] = {"ok", "a size is out of range", "the arena is too small",
                                        "an index is out of range"};
    enum { TEXTS = sizeof texts / sizeof *texts };
    Fn f;
    Val all[TEXTS];
    LLVMTypeRef at = type_ptr(u), arg = type_int(u, 32);
    for (int i = 0; i < TEXTS; i++) all[i] = text(u, texts[i]);
    Val list = array(u, at, all, TEXTS, "texts");
    begin(&f, g, gd_format(g->c, "%s_status_text", g->prefix), at, &arg, 1);
    Val status = LLVMGetParam(f.f, 0), known = LLVMBuildICmp(f.b, LLVMIntULT, status, const_i32(u, TEXTS), "");
    Val which = LLVMBuildSelect(f.b, known, status, const_i32(u, 0), "");
    Val v = LLVMBuildLoad2(f.b, at, LLVMBuildGEP2(f.b, at, list, &which, 1, ""), "");
    LLVMBuildRet(f.b, LLVMBuildSelect(f.b, known, v, text(u, "a check of the model failed"), ""));
    fn_end(&f);
    return f.f;
}

/* ---- the table ---- */

void gen_table(Gen *g) {
    Program *p = g->p;
    Unit *u = &g->units[0];
    int n = p->syms.n, nin, nout;
    Val *names = gd_new_array(g->c, Val, n), *lo = gd_new_array(g->c, Val, n), *hi = gd_new_array(g->c, Val, n);
    for (int i = 0; i < n; i++) {
        names[i] = text(u, p->syms.v[i]->name);
        lo[i] = const_int(u, p->syms.v[i]->lo);
        hi[i] = const_int(u, p->syms.v[i]->hi);
    }
    LLVMTypeRef at = type_ptr(u), i64 = type_int(u, 64);
    Val in = ports(g, u, SP_IN, &nin), out = ports(g, u, SP_OUT, &nout);
    Val run = LLVMGetNamedFunction(u->m, gd_format(g->c, "%s_run_raw", g->prefix));
    Val fields[] = {text(u, g->prefix), text(u, GRADC_VERSION), const_i32(u, n),
                    array(u, at, names, n, "sym_names"), array(u, i64, lo, n, "sym_lo"),
                    array(u, i64, hi, n, "sym_hi"), const_i32(u, nin), const_i32(u, nout), in, out,
                    out_dims(g, u), arena_bytes(g, u), run, status_text(g, u)};
    Val init = LLVMConstStructInContext(u->cx, fields, sizeof fields / sizeof *fields, false);
    LLVMSetLinkage(global(u, init, gd_format(g->c, "%s_program", g->prefix)), LLVMExternalLinkage);
}

void gen_main(Gen *g) {
    Unit *u = &g->units[0];
    LLVMTypeRef at = type_ptr(u), i32 = type_int(u, 32);
    LLVMTypeRef inner = LLVMFunctionType(i32, (LLVMTypeRef[]){at, i32, at}, 3, false);
    Fn f;
    fn_begin(&f, g, u, FN_RUN, "main", LLVMFunctionType(i32, (LLVMTypeRef[]){i32, at}, 2, false));
    Val program = LLVMGetNamedGlobal(u->m, gd_format(g->c, "%s_program", g->prefix));
    Val args[] = {program, LLVMGetParam(f.f, 0), LLVMGetParam(f.f, 1)};
    LLVMBuildRet(f.b, LLVMBuildCall2(f.b, inner, external(u, "gradc_program_main", inner), args, 3, ""));
    fn_end(&f);
}
