/* Conversions between element types: what ir/eval.c's convert says. */
#include "llvm.h"

static int width_of(DType t) { return t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : type_bits(t); }

/* The largest float (double) below 2^k. */
static uint64_t below_power(DType real, int k) { return gd_to_bits(real, (double)(1ull << (k - 1)) * 2) - 1; }

/* Saturating, NaN to 0. LLVM's own saturating conversion of vectors goes lane by lane on x86; this does not.
   Bounds that the float type cannot hold (2^31 - 1 in f32) are replaced by the largest float below, and what
   lies beyond is selected. */
static Val saturate(Fn *f, Val v, Type from, DType to) {
    Unit *u = f->u;
    LLVMBuilderRef b = f->b;
    bool is_signed = type_signed(to);
    int digits = from.dt == F32 ? 24 : 53, power = width_of(to) - is_signed, bits = width_of(to) <= 32 ? 32 : 64;
    bool exact = power <= digits, as_signed = is_signed || power < 32;
    DType real = (DType)from.dt;
    double top = (double)(1ull << (power - 1)) * 2;
    Val lo = const_bits(u, from, gd_to_bits(real, is_signed ? -top : 0)), none = const_bits(u, from, 0);
    Val hi = const_bits(u, from, exact ? gd_to_bits(real, top - 1) : below_power(real, power));
    v = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealORD, v, v, ""), v, none, "");
    Val over = exact ? NULL : LLVMBuildFCmp(b, LLVMRealOGE, v, const_bits(u, from, gd_to_bits(real, top)), "");
    v = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOGT, v, lo, ""), v, lo, "");
    v = LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealOLT, v, hi, ""), v, hi, "");
    Type wide = vector(bits == 32 ? I32 : I64, from.lanes);
    LLVMTypeRef t = type_reg(u, wide);
    Val r = as_signed ? LLVMBuildFPToSI(b, v, t, "") : LLVMBuildFPToUI(b, v, t, "");
    if (over) r = LLVMBuildSelect(b, over, const_bits(u, wide, ~0ull >> (64 - power)), r, "");
    return bits > type_bits(to) ? LLVMBuildTrunc(b, r, type_reg(u, vector(to, from.lanes)), "") : r;
}

Val gen_cast(Fn *f, Val v, Type from, Type to) {
    DType s = (DType)from.dt, d = (DType)to.dt;
    LLVMBuilderRef b = f->b;
    LLVMTypeRef t = type_reg(f->u, to);
    if (s == d) return v;
    if (dt_small(s) && d == F32) return small_widen(f, v, from);
    if (s == F32 && dt_small(d)) return small_narrow(f, v, to);
    if ((!dt_float(s) && !dt_int(s) && s != BOOL) || (!dt_float(d) && !dt_int(d) && d != BOOL))
        gd_bug(f->g->c, "LLVM: cast from %s to %s", gd_dtypes[s].name, gd_dtypes[d].name);
    if (dt_float(s) && dt_float(d)) return d == F64 ? LLVMBuildFPExt(b, v, t, "") : LLVMBuildFPTrunc(b, v, t, "");
    if (dt_float(s) && d == BOOL) return LLVMBuildFCmp(b, LLVMRealUNE, v, const_bits(f->u, from, 0), "");
    if (dt_float(s)) return saturate(f, v, from, d);
    if (dt_float(d)) return type_signed(s) ? LLVMBuildSIToFP(b, v, t, "") : LLVMBuildUIToFP(b, v, t, "");
    if (d == BOOL) return LLVMBuildICmp(b, LLVMIntNE, v, const_bits(f->u, from, 0), "");
    if (s == BOOL) return wrap_small(f, LLVMBuildZExt(b, v, t, ""), to);
    return wrap_small(f, LLVMBuildIntCast2(b, v, t, type_signed(s), ""), to);
}
