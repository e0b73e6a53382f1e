/* Expressions. A value that only depends on variables holds until the scope it was computed in ends; one that
   read memory, or a symbol that the data decides, holds for the statement. So shared index arithmetic is
   built once, and nothing is used where it does not dominate. */
#include "llvm.h"

static Memo *memo_at(Gen *g, uint32_t id) {
    if (id >= g->nmemo) {
        uint32_t n = id < 512 ? 1024 : 2 * id;
        Memo *bigger = gd_new_array(g->c, Memo, n);
        if (g->nmemo) memcpy(bigger, g->memo, g->nmemo * sizeof *bigger);
        g->memo = bigger;
        g->nmemo = n;
    }
    return &g->memo[id];
}

int memo_mark(Gen *g) { return g->trail.n; }
void memo_release(Gen *g, int mark) {
    while (g->trail.n > mark) {
        g->trail.n--;
        g->memo[g->trail.v[g->trail.n].id] = g->trail.v[g->trail.n].old;
    }
}

static void memo_put(Fn *f, uint32_t id, Val v) {
    Gen *g = f->g;
    Memo *m = memo_at(g, id);
    vec_push(g->c, &g->trail, ((__typeof__(*g->trail.v)){id, *m}));
    *m = (Memo){v, f->serial, f->touched ? g->stmts : 0};
}

static Val gen_var(Fn *f, Var *v) {
    Gen *g = f->g;
    Val known = map_getp(f->vars, v);
    if (known) return known;
    if (f->kind != FN_RUN || v->kind != V_SYM)
        gd_bug(g->c, "LLVM: variable %s is not known in %s", v->name, f->name);
    for (int i = 0; i < g->p->syms.n; i++) {
        if (g->p->syms.v[i] != v) continue;
        f->touched = true;
        Val at = const_int(f->u, i);
        LLVMTypeRef i64 = type_int(f->u, 64);
        return LLVMBuildLoad2(f->b, i64, LLVMBuildGEP2(f->b, i64, f->syms, &at, 1, ""), v->name);
    }
    gd_bug(g->c, "LLVM: symbol %s is not the program's", v->name);
}

Val gen_splat(Fn *f, Val v, int lanes) {
    if (lanes == 1) return v;
    if (LLVMIsConstant(v)) return const_splat(v, lanes);
    LLVMTypeRef t = LLVMVectorType(LLVMTypeOf(v), (unsigned)lanes);
    LLVMTypeRef index = LLVMVectorType(type_int(f->u, 32), (unsigned)lanes);
    Val first = LLVMBuildInsertElement(f->b, LLVMGetPoison(t), v, const_i32(f->u, 0), "");
    return LLVMBuildShuffleVector(f->b, first, LLVMGetPoison(t), LLVMConstNull(index), "");
}

static Val gen_zip(Fn *f, const Expr *e, const Val *args) {
    Val lane[UINT8_MAX];
    unsigned n = e->type.lanes, first = e->kind == E_ZIP_HI ? n / 2 : 0;
    for (unsigned i = 0; i < n; i++) lane[i] = const_i32(f->u, (i % 2 ? n : 0) + first + i / 2);
    return LLVMBuildShuffleVector(f->b, args[0], args[1], LLVMConstVector(lane, n), "");
}

static Val compute(Fn *f, Expr *e) {
    if (e->kind == E_LOAD) return gen_load(f, e);
    if (e->kind == E_LANE) return const_lanes(f->u, e->type);
    if (e->kind == E_CALL) gd_bug(f->g->c, "LLVM: %s was not expanded", gd_math_name(e->call));
    Val args[3];
    if (e->nargs > 3) gd_bug(f->g->c, "LLVM: %d operands", e->nargs);
    for (int i = 0; i < e->nargs; i++) args[i] = gen_expr(f, e->arg[i]);
    if (e->kind == E_ZIP_LO || e->kind == E_ZIP_HI) return gen_zip(f, e, args);
    return gen_scalar(f, e, args);
}

Val gen_expr(Fn *f, Expr *e) {
    if (is_const(e)) return const_bits(f->u, e->type, e->bits);
    if (e->kind == E_VAR) return gen_var(f, e->var);
    Memo *m = memo_at(f->g, e->id);
    if (m->v && m->fn == f->serial && (!m->stmt || m->stmt == f->g->stmts)) {
        f->touched |= m->stmt != 0;
        return m->v;
    }
    bool outer = f->touched;
    f->touched = false;
    Val v = compute(f, e);
    memo_put(f, e->id, v);
    f->touched |= outer;
    return v;
}
