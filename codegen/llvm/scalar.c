/* The scalar instructions of scalar.def as LLVM instructions, on scalars and vectors alike. What they mean
   stands in ir/eval.c; nothing here may give another bit. LLVM's own division and shifts are undefined where
   ours are 0, so those operands are replaced before, or the result after; with constants and known ranges
   nothing of that is left. */
#include "llvm.h"
#include <math.h>

static Val choose(Fn *f, Val cond, Val a, Val b) { return LLVMBuildSelect(f->b, cond, a, b, ""); }
static Val icmp(Fn *f, LLVMIntPredicate p, Val a, Val b) { return LLVMBuildICmp(f->b, p, a, b, ""); }
static Val fcmp(Fn *f, LLVMRealPredicate p, Val a, Val b) { return LLVMBuildFCmp(f->b, p, a, b, ""); }

static Val call(Fn *f, const char *name, int n, Val *args) {
    LLVMTypeRef t = LLVMTypeOf(args[0]);
    return intrinsic(f, name, 1, &t, n, args);
}

/* ---- what must not be merged ---- */

/* LLVM before version 23 merges (a & k) | (b & ~k) and a selection between that and a into one vpternlog of
   AVX-512 whose truth table is of another order of the operands. An empty piece of assembly keeps v out of such
   patterns; it is of one register, so wider vectors go through in halves. */
static Val keep(Fn *f, Val v) {
    LLVMTypeRef t = LLVMTypeOf(v);
    if (!f->g->keeps || LLVMGetTypeKind(t) != LLVMVectorTypeKind) return v;
    unsigned n = LLVMGetVectorSize(t);
    unsigned long long bits = LLVMSizeOfTypeInBits(f->g->layout, t);
    if (bits > 128 && bits > 32u * (unsigned)f->g->o->target->lanes) {
        Val half[2], index[64];
        if (n > 64) gd_bug(f->g->c, "LLVM: a vector of %u lanes", n);
        for (unsigned h = 0; h < 2; h++) {
            for (unsigned i = 0; i < n / 2; i++) index[i] = const_i32(f->u, (int)(h * n / 2 + i));
            half[h] = keep(f, LLVMBuildShuffleVector(f->b, v, LLVMGetPoison(t), LLVMConstVector(index, n / 2), ""));
        }
        for (unsigned i = 0; i < n; i++) index[i] = const_i32(f->u, (int)i);
        return LLVMBuildShuffleVector(f->b, half[0], half[1], LLVMConstVector(index, n), "");
    }
    if (bits != 128 && bits != 256 && bits != 512) return v;
    LLVMTypeRef type = LLVMFunctionType(t, &t, 1, false);
    Val empty = LLVMGetInlineAsm(type, "", 0, "=x,0", 4, false, false, LLVMInlineAsmDialectATT, false);
    return LLVMBuildCall2(f->b, type, empty, &v, 1, "");
}

/* How many operations on bits v ends with: 0, 1, or 2 for more; registers may hold any number. */
static int logic_depth(Val v) {
    if (!LLVMIsAInstruction(v)) return 0;
    LLVMOpcode op = LLVMGetInstructionOpcode(v);
    if (op == LLVMBitCast) return logic_depth(LLVMGetOperand(v, 0));
    if (op == LLVMAnd || op == LLVMOr || op == LLVMXor || op == LLVMAdd || op == LLVMSub) /* bits apart: a + b is a | b */
        return logic_depth(LLVMGetOperand(v, 0)) || logic_depth(LLVMGetOperand(v, 1)) ? 2 : 1;
    if (op != LLVMLoad) return 0;
    Val at = LLVMGetOperand(v, 0);
    while (LLVMIsAGetElementPtrInst(at)) at = LLVMGetOperand(at, 0);
    return LLVMIsAAllocaInst(at) ? 2 : 0;
}

static Val keep_logic(Fn *f, Val v) { return f->g->keeps && logic_depth(v) > 1 ? keep(f, v) : v; }

static GD_NORETURN void undefined(Fn *f, const Expr *e) {
    gd_bug(f->g->c, "LLVM: instruction %d is not defined on %s", e->kind, gd_dtypes[e->arg[0]->type.dt].name);
}

/* ---- floats ---- */

/* A compare and a select are one minps or maxps of x86, which answers with its second operand when one is a NaN
   or both are zeros. So, taken in both orders:
     min: the answers differ only in those cases, where their bitwise or is a NaN, or -0 if there is a -0: right;
     max: the or gives the NaN, but the wrong zero. Subtracting the bits in which the answers differ mends that:
          it is the sign only, and -0 - -0 = +0. A NaN stays one.
   Where the machine has instructions with our meaning, they are used. */
static Val extreme(Fn *f, bool max, Type t, Val a, Val b) {
    if (f->g->has_minimum) return call(f, max ? "llvm.maximum" : "llvm.minimum", 2, (Val[]){a, b});
    LLVMRealPredicate beats = max ? LLVMRealOGT : LLVMRealOLT;
    LLVMTypeRef bits = type_reg(f->u, vector(t.dt == F32 ? I32 : I64, t.lanes)), real = type_reg(f->u, t);
    Val p = LLVMBuildBitCast(f->b, choose(f, fcmp(f, beats, a, b), a, b), bits, "");
    Val q = LLVMBuildBitCast(f->b, choose(f, fcmp(f, beats, b, a), b, a), bits, "");
    Val both = LLVMBuildBitCast(f->b, LLVMBuildOr(f->b, p, q, ""), real, "");
    if (!max) return both;
    return LLVMBuildFSub(f->b, both, LLVMBuildBitCast(f->b, LLVMBuildXor(f->b, p, q, ""), real, ""), "");
}

/* With a constant that is no NaN one instruction does: x stays unless the constant beats it, and nothing
   beats a NaN. Zeros do not beat each other, so x keeps its sign: right for min with +0 and max with -0; max
   with +0 adds +0. */
static Val extreme_const(Fn *f, bool max, Type t, Val x, Val k, double value) {
    Val r = choose(f, fcmp(f, max ? LLVMRealOLT : LLVMRealOGT, x, k), k, x);
    return max && value == 0 && !signbit(value) ? LLVMBuildFAdd(f->b, r, const_bits(f->u, t, 0), "") : r;
}

static Val float_extreme(Fn *f, Expr *e, Val *a) {
    bool max = e->kind == E_MAX;
    for (int i = 2; i--;) {
        if (!is_const(e->arg[i])) continue;
        double k = gd_to_double((DType)e->type.dt, e->arg[i]->bits);
        if (!isnan(k) && (max || k != 0 || !signbit(k))) return extreme_const(f, max, e->type, a[1 - i], a[i], k);
    }
    return extreme(f, max, e->type, a[0], a[1]);
}

static Val gen_float(Fn *f, Expr *e, Val *a) {
    LLVMBuilderRef b = f->b;
    switch ((ExprKind)e->kind) {
    case E_ADD: return LLVMBuildFAdd(b, a[0], a[1], "");
    case E_SUB: return LLVMBuildFSub(b, a[0], a[1], "");
    case E_MUL: return LLVMBuildFMul(b, a[0], a[1], "");
    case E_DIV: return LLVMBuildFDiv(b, a[0], a[1], "");
    case E_REM: return LLVMBuildFRem(b, a[0], a[1], "");
    case E_NEG: return LLVMBuildFNeg(b, a[0], "");
    case E_ABS: return call(f, "llvm.fabs", 1, a);
    case E_MIN: case E_MAX: return float_extreme(f, e, a);
    case E_FMA: return call(f, "llvm.fma", 3, a);
    case E_SQRT: return call(f, "llvm.sqrt", 1, a);
    case E_FLOOR: return call(f, "llvm.floor", 1, a);
    case E_CEIL: return call(f, "llvm.ceil", 1, a);
    case E_TRUNC: return call(f, "llvm.trunc", 1, a);
    case E_RINT: return call(f, "llvm.rint", 1, a);
    case E_COPYSIGN: return keep(f, call(f, "llvm.copysign", 2, a));
    case E_EQ: return fcmp(f, LLVMRealOEQ, a[0], a[1]);
    case E_NE: return fcmp(f, LLVMRealUNE, a[0], a[1]);
    case E_LT: return fcmp(f, LLVMRealOLT, a[0], a[1]);
    case E_LE: return fcmp(f, LLVMRealOLE, a[0], a[1]);
    case E_ISNAN: return fcmp(f, LLVMRealUNO, a[0], a[0]);
    default: undefined(f, e);
    }
}

/* ---- integers ---- */

static int int_width(DType t) { return t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : type_bits(t); }

Val wrap_small(Fn *f, Val v, Type t) {
    int width = int_width((DType)t.dt);
    if (width >= 8 || t.dt == BOOL) return v;
    if (!type_signed((DType)t.dt)) return LLVMBuildAnd(f->b, v, const_bits(f->u, t, (1u << width) - 1), "");
    Val by = const_bits(f->u, t, (uint64_t)(8 - width));
    return LLVMBuildAShr(f->b, LLVMBuildShl(f->b, v, by, ""), by, "");
}

static Val shift(Fn *f, Expr *e, DType t, Val *a) {
    int width = int_width(t);
    Type vt = {(uint8_t)t, e->arg[0]->type.lanes};
    bool keeps_sign = e->kind == E_SHR && type_signed(t);
    Val far = keeps_sign ? const_bits(f->u, vt, (uint64_t)width - 1) : const_bits(f->u, vt, 0);
    Val near = icmp(f, LLVMIntULT, a[1], const_bits(f->u, vt, (uint64_t)width));
    if (keeps_sign) return LLVMBuildAShr(f->b, a[0], choose(f, near, a[1], far), "");
    Val r = e->kind == E_SHL ? LLVMBuildShl(f->b, a[0], a[1], "") : LLVMBuildLShr(f->b, a[0], a[1], "");
    return choose(f, near, r, far);
}

/* Unsigned, or signed with both known not to be negative: then flooring is truncating. */
static Val divide_unsigned(Fn *f, ExprKind op, Val a, Val b, Val none, bool may_be_zero) {
    bool quotient = op == E_DIV || op == E_FDIV;
    Val is_zero = may_be_zero ? icmp(f, LLVMIntEQ, b, none) : NULL;
    if (is_zero) b = choose(f, is_zero, LLVMBuildNot(f->b, none, ""), b);
    Val r = quotient ? LLVMBuildUDiv(f->b, a, b, "") : LLVMBuildURem(f->b, a, b, "");
    return is_zero ? choose(f, is_zero, none, r) : r;
}

/* 0 and -1 as divisors become 1: the remainder 0 is then right for both, the quotient is put right after. */
static Val divide_signed(Fn *f, ExprKind op, Type t, Val a, Val b, bool is_positive) {
    LLVMBuilderRef at = f->b;
    Val none = const_bits(f->u, t, 0), one = const_bits(f->u, t, 1), is_zero = NULL, is_minus = NULL, d = b;
    if (!is_positive) {
        is_zero = icmp(f, LLVMIntEQ, b, none);
        is_minus = icmp(f, LLVMIntEQ, b, const_bits(f->u, t, ~0ull));
        d = choose(f, LLVMBuildOr(at, is_zero, is_minus, ""), one, b);
    }
    Val r = LLVMBuildSRem(at, a, d, ""), down = NULL;
    if (op == E_REM) return r;
    if (op != E_DIV)
        down = LLVMBuildAnd(at, icmp(f, LLVMIntNE, r, none),
                            icmp(f, LLVMIntSLT, LLVMBuildXor(at, r, d, ""), none), "");
    if (op == E_FMOD) return choose(f, down, LLVMBuildAdd(at, r, d, ""), r);
    Val q = LLVMBuildSDiv(at, a, d, "");
    if (down) q = choose(f, down, LLVMBuildSub(at, q, one, ""), q);
    if (is_positive) return q;
    return choose(f, is_zero, none, choose(f, is_minus, LLVMBuildNeg(at, a, ""), q));
}

static Val divide(Fn *f, Expr *e, DType t, Val *a) {
    ExprKind op = (ExprKind)e->kind;
    Type vt = {(uint8_t)t, e->arg[0]->type.lanes};
    const Expr *by = e->arg[1];
    int64_t alo = INT64_MIN, blo = INT64_MIN, hi, k = 0;
    if (vt.dt == I64 && vt.lanes == 1) {
        expr_range(f->g->c, e->arg[0], &alo, &hi);
        expr_range(f->g->c, by, &blo, &hi);
    }
    if (is_const(by)) blo = k = (int64_t)by->bits;
    Val none = const_bits(f->u, vt, 0);
    if (!type_signed(t) || (alo >= 0 && blo > 0))
        return divide_unsigned(f, op, a[0], a[1], none, type_signed(t) ? false : !k);
    if (k > 0 && !(k & (k - 1)) && (op == E_FDIV || op == E_FMOD)) {
        if (op == E_FMOD) return LLVMBuildAnd(f->b, a[0], const_bits(f->u, vt, (uint64_t)k - 1), "");
        return LLVMBuildAShr(f->b, a[0], const_bits(f->u, vt, (uint64_t)__builtin_ctzll((uint64_t)k)), "");
    }
    return divide_signed(f, op, vt, a[0], a[1], blo > 0);
}

static Val int_op(Fn *f, Expr *e, DType t, Val *a) {
    LLVMBuilderRef b = f->b;
    bool is_signed = type_signed(t);
    switch ((ExprKind)e->kind) {
    case E_ADD: return LLVMBuildAdd(b, a[0], a[1], "");
    case E_SUB: return LLVMBuildSub(b, a[0], a[1], "");
    case E_MUL: return LLVMBuildMul(b, a[0], a[1], "");
    case E_DIV: case E_REM: case E_FDIV: case E_FMOD: return divide(f, e, t, a);
    case E_NEG: return LLVMBuildNeg(b, a[0], "");
    case E_ABS: {
        LLVMTypeRef type = LLVMTypeOf(a[0]);
        Val wraps = LLVMConstInt(type_int(f->u, 1), 0, false);
        return is_signed ? intrinsic(f, "llvm.abs", 1, &type, 2, (Val[]){a[0], wraps}) : a[0];
    }
    case E_MIN: return call(f, is_signed ? "llvm.smin" : "llvm.umin", 2, a);
    case E_MAX: return call(f, is_signed ? "llvm.smax" : "llvm.umax", 2, a);
    case E_FMA: return LLVMBuildAdd(b, LLVMBuildMul(b, a[0], a[1], ""), a[2], "");
    case E_FLOOR: case E_CEIL: case E_TRUNC: case E_RINT: return a[0];
    case E_AND: return LLVMBuildAnd(b, a[0], a[1], "");
    case E_OR: return LLVMBuildOr(b, a[0], a[1], "");
    case E_XOR: return LLVMBuildXor(b, a[0], a[1], "");
    case E_NOT: return LLVMBuildNot(b, a[0], "");
    case E_SHL: case E_SHR: return shift(f, e, t, a);
    case E_EQ: return icmp(f, LLVMIntEQ, a[0], a[1]);
    case E_NE: return icmp(f, LLVMIntNE, a[0], a[1]);
    case E_LT: return icmp(f, is_signed ? LLVMIntSLT : LLVMIntULT, a[0], a[1]);
    case E_LE: return icmp(f, is_signed ? LLVMIntSLE : LLVMIntULE, a[0], a[1]);
    case E_ISNAN: return LLVMConstNull(type_reg(f->u, e->type));
    default: undefined(f, e);
    }
}

static Val gen_int(Fn *f, Expr *e, Val *a) {
    Val r = int_op(f, e, (DType)e->arg[0]->type.dt, a);
    return e->type.dt == BOOL ? r : wrap_small(f, r, e->type);
}

/* Logic on i1; other arithmetic on bools is that of bytes, cut to one bit. */
static Val gen_bool(Fn *f, Expr *e, Val *a) {
    switch ((ExprKind)e->kind) {
    case E_AND: case E_OR: case E_XOR: case E_NOT: case E_EQ: case E_NE: case E_LT: case E_LE: case E_MIN:
    case E_MAX: return int_op(f, e, BOOL, a);
    default: break;
    }
    Val wide[3];
    for (int i = 0; i < e->nargs; i++)
        wide[i] = LLVMBuildZExt(f->b, a[i], type_reg(f->u, vector(U8, e->arg[i]->type.lanes)), "");
    Val r = int_op(f, e, U8, wide);
    return LLVMTypeOf(r) == type_reg(f->u, e->type) ? r : LLVMBuildTrunc(f->b, r, type_reg(f->u, e->type), "");
}

/* ---- all ---- */

static Val gen_bits(Fn *f, Val v, Type from, Type to) {
    if (from.dt == BOOL) return gen_cast(f, v, from, to);
    if (to.dt == BOOL) return LLVMBuildTrunc(f->b, v, type_reg(f->u, to), "");
    if (type_bits((DType)from.dt) != type_bits((DType)to.dt))
        gd_bug(f->g->c, "bits from %s to %s", gd_dtypes[from.dt].name, gd_dtypes[to.dt].name);
    v = LLVMBuildBitCast(f->b, v, type_reg(f->u, to), "");
    return dt_int((DType)to.dt) ? wrap_small(f, v, to) : v;
}

Val gen_scalar(Fn *f, Expr *e, Val *a) {
    Type from = e->arg[0]->type;
    if (e->kind == E_SELECT) {
        bool wide = from.lanes > 1 && dt_int((DType)e->type.dt) && type_bits((DType)e->type.dt) >= 32;
        return wide ? choose(f, a[0], keep_logic(f, a[1]), keep_logic(f, a[2])) : choose(f, a[0], a[1], a[2]);
    }
    if (e->kind == E_SPLAT) return gen_splat(f, a[0], e->type.lanes);
    for (int i = 0; i < e->nargs; i++)
        if (e->arg[i]->type.lanes != e->type.lanes)
            gd_bug(f->g->c, "LLVM: operands of %d and %d lanes", e->arg[i]->type.lanes, e->type.lanes);
    if (e->kind == E_CAST) return gen_cast(f, a[0], from, e->type);
    if (e->kind == E_BITS && from.lanes > 1 && dt_float((DType)e->type.dt)) a[0] = keep_logic(f, a[0]);
    if (e->kind == E_BITS) return gen_bits(f, a[0], from, e->type);
    if (dt_float((DType)from.dt)) return gen_float(f, e, a);
    if (from.dt == BOOL) return gen_bool(f, e, a);
    if (dt_int((DType)from.dt) || e->kind == E_EQ || e->kind == E_NE)
        return gen_int(f, e, a); /* others: equal bits */
    undefined(f, e);
}
