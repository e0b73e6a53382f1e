/* Statements. Control is structured: every statement is entered at one block and left at one, which the rest
   of its block follows. Loops are built rotated, with the test at the end: so LLVM's loop passes want them. */
#include "llvm.h"

LLVMBasicBlockRef new_block(Fn *f, const char *name) {
    return LLVMAppendBasicBlockInContext(f->u->cx, f->f, name);
}

static void scope(Fn *f, Block *b) {
    int mark = memo_mark(f->g);
    gen_block(f, b);
    memo_release(f->g, mark);
}

static void iteration(Fn *f, Stmt *s, Val i) {
    Val outer = f->index;
    map_putp(f->vars, s->var, i);
    if (s->mode == L_PARALLEL && f->kind == FN_CHUNK) f->index = outer ? outer : i;
    scope(f, &s->body);
    f->index = outer;
}

void gen_loop(Fn *f, Stmt *s, Val from, Val to, bool enters) {
    LLVMBasicBlockRef before = LLVMGetInsertBlock(f->b), body = new_block(f, s->var->name),
                      after = new_block(f, "");
    if (enters) LLVMBuildBr(f->b, body);
    else LLVMBuildCondBr(f->b, LLVMBuildICmp(f->b, LLVMIntSLT, from, to, ""), body, after);
    LLVMPositionBuilderAtEnd(f->b, body);
    Val i = LLVMBuildPhi(f->b, type_int(f->u, 64), s->var->name);
    iteration(f, s, i);
    Val next = LLVMBuildNSWAdd(f->b, i, const_int(f->u, 1), "");
    LLVMSetNUW(next, true);
    LLVMBasicBlockRef last = LLVMGetInsertBlock(f->b);
    LLVMBuildCondBr(f->b, LLVMBuildICmp(f->b, LLVMIntSLT, next, to, ""), body, after);
    LLVMAddIncoming(i, (Val[]){from, next}, (LLVMBasicBlockRef[]){before, last}, 2);
    LLVMMoveBasicBlockAfter(after, last);
    LLVMPositionBuilderAtEnd(f->b, after);
}

static void gen_for(Fn *f, Stmt *s) {
    int64_t n = -1;
    bool known = is_int(s->e, &n);
    if (known && n <= 0) return;
    if (s->mode == L_PARALLEL && f->kind != FN_CHUNK && f->g->o->openmp && n != 1) { gen_parallel(f, s); return; }
    if (known && (n == 1 || s->mode == L_UNROLL)) {
        for (int64_t i = 0; i < n; i++) iteration(f, s, const_int(f->u, i));
        return;
    }
    int64_t lo, hi;
    expr_range(f->g->c, s->e, &lo, &hi);
    gen_loop(f, s, const_int(f->u, 0), gen_expr(f, s->e), lo > 0);
}

static void gen_while(Fn *f, Stmt *s) {
    LLVMBasicBlockRef test = new_block(f, "while"), body = new_block(f, "do"), after = new_block(f, "");
    LLVMBuildBr(f->b, test);
    LLVMPositionBuilderAtEnd(f->b, test);
    int mark = memo_mark(f->g);
    LLVMBuildCondBr(f->b, gen_expr(f, s->e), body, after);
    LLVMPositionBuilderAtEnd(f->b, body);
    gen_block(f, &s->body);
    memo_release(f->g, mark);
    LLVMBuildBr(f->b, test);
    LLVMMoveBasicBlockAfter(after, LLVMGetInsertBlock(f->b));
    LLVMPositionBuilderAtEnd(f->b, after);
}

static void gen_if(Fn *f, Stmt *s) {
    if (is_const(s->e)) { scope(f, s->e->bits ? &s->body : &s->other); return; }
    Val cond = gen_expr(f, s->e);
    LLVMBasicBlockRef then = new_block(f, "then"), after = new_block(f, ""),
                      other = s->other.n ? new_block(f, "else") : after;
    LLVMBuildCondBr(f->b, cond, then, other);
    LLVMPositionBuilderAtEnd(f->b, then);
    scope(f, &s->body);
    LLVMBuildBr(f->b, after);
    if (s->other.n) {
        LLVMMoveBasicBlockAfter(other, LLVMGetInsertBlock(f->b));
        LLVMPositionBuilderAtEnd(f->b, other);
        scope(f, &s->other);
        LLVMBuildBr(f->b, after);
    }
    LLVMMoveBasicBlockAfter(after, LLVMGetInsertBlock(f->b));
    LLVMPositionBuilderAtEnd(f->b, after);
}

/* Among threads the first failure in the order of iterations counts, as if they had run one after the other. */
void gen_check(Fn *f, Val ok, int status) {
    LLVMBasicBlockRef fails = new_block(f, "failed"), after = new_block(f, "");
    LLVMBuildCondBr(f->b, ok, after, fails);
    LLVMPositionBuilderAtEnd(f->b, fails);
    if (f->kind == FN_CHUNK) {
        Val at = LLVMBuildShl(f->b, f->index, const_int(f->u, 32), "");
        at = LLVMBuildOr(f->b, at, const_int(f->u, (uint32_t)status), "");
        LLVMBuildAtomicRMW(f->b, LLVMAtomicRMWBinOpUMin, f->failed, at, LLVMAtomicOrderingMonotonic, false);
        LLVMBuildRetVoid(f->b);
    } else LLVMBuildRet(f->b, const_i32(f->u, status));
    LLVMPositionBuilderAtEnd(f->b, after);
}

static void gen_let(Fn *f, Stmt *s) {
    Val v = gen_expr(f, s->e);
    if (s->var->kind == V_SYM) run_set_symbol(f, s->var, v);
    else map_putp(f->vars, s->var, v);
}

static void gen_stmt(Fn *f, Stmt *s) {
    f->g->stmts++;
    f->touched = false;
    switch (s->kind) {
    case S_FOR: gen_for(f, s); break;
    case S_WHILE: gen_while(f, s); break;
    case S_IF: gen_if(f, s); break;
    case S_LET: gen_let(f, s); break;
    case S_STORE: gen_store(f, s); break;
    case S_DECL: gen_decl(f, s->buf); break;
    case S_ALLOC: run_alloc(f, s->buf); break;
    case S_FREE: run_free(f, s->buf); break;
    case S_MOVE: run_move(f, s->buf, s->from); break;
    case S_CHECK: gen_check(f, gen_expr(f, s->e), s->status); break;
    case S_NEST: gen_nest(f, s); break;
    }
}

void gen_block(Fn *f, Block *b) {
    for (int i = 0; i < b->n; i++) gen_stmt(f, b->v[i]);
}
