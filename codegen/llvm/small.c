/* Floats of 16 bits and less by arithmetic on their bits, all lanes at once: exact when widened to f32,
   rounded once to the nearest even when narrowed. The formats, and what overflow becomes, are those of
   ir/eval.c. f16 has instructions on machines with AVX2 and on AArch64. bf16 has some too, which lose
   denormals, so they are not used. */
#include "llvm.h"


enum { M = 23, BIAS = 127 }; /* f32 */

/* Arithmetic on u32 lanes. */
typedef struct Lanes { Fn *f; int n; } Lanes;
static Val k(Lanes l, uint32_t v) { return const_bits(l.f->u, vector(U32, l.n), v); }
static Val and(Lanes l, Val a, uint32_t b) { return LLVMBuildAnd(l.f->b, a, k(l, b), ""); }
static Val or(Lanes l, Val a, Val b) { return LLVMBuildOr(l.f->b, a, b, ""); }
static Val add(Lanes l, Val a, Val b) { return LLVMBuildAdd(l.f->b, a, b, ""); }
static Val up(Lanes l, Val a, int by) { return LLVMBuildShl(l.f->b, a, k(l, (uint32_t)by), ""); }
static Val down(Lanes l, Val a, int by) { return LLVMBuildLShr(l.f->b, a, k(l, (uint32_t)by), ""); }
static Val is(Lanes l, LLVMIntPredicate p, Val a, uint32_t b) {
    return LLVMBuildICmp(l.f->b, p, a, k(l, b), "");
}
static Val choose(Lanes l, Val cond, Val a, Val b) { return LLVMBuildSelect(l.f->b, cond, a, b, ""); }
static Val floats(Lanes l, Val a) {
    return LLVMBuildBitCast(l.f->b, a, type_reg(l.f->u, vector(F32, l.n)), "");
}
static Val bits(Lanes l, Val a) { return LLVMBuildBitCast(l.f->b, a, type_reg(l.f->u, vector(U32, l.n)), ""); }
static Val power(Lanes l, int x) { return const_bits(l.f->u, vector(F32, l.n), (uint32_t)(x + BIAS) << M); }

static LLVMTypeRef half(Lanes l) {
    LLVMTypeRef t = LLVMHalfTypeInContext(l.f->u->cx);
    return l.n > 1 ? LLVMVectorType(t, (unsigned)l.n) : t;
}

/* Exponent and mantissa moved into place make a float that is 2^(127 - bias) too small, denormals included. */
Val small_widen(Fn *f, Val v, Type from) {
    Lanes l = {f, from.lanes};
    const SmallFormat *t = &gd_small_formats[from.dt];
    if (from.dt == F16 && f->g->has_half)
        return LLVMBuildFPExt(f->b, LLVMBuildBitCast(f->b, v, half(l), ""), type_reg(f->u, vector(F32, l.n)), "");
    v = LLVMBuildZExt(f->b, v, type_reg(f->u, vector(U32, l.n)), "");
    if (from.dt == BF16) return floats(l, up(l, v, 16));
    if (from.dt == F8E8M0) {
        Val r = choose(l, is(l, LLVMIntEQ, v, 0), k(l, 1u << (M - 1)), up(l, v, M));
        return floats(l, choose(l, is(l, LLVMIntEQ, v, 255), k(l, 0x7fc00000), r));
    }
    uint32_t ones = (1u << (t->e + t->m)) - 1, inf = ones >> t->m << t->m;
    Val mag = and(l, v, ones), sign = up(l, and(l, v, ones + 1), 31 - t->e - t->m);
    Val r = bits(l, LLVMBuildFMul(f->b, floats(l, up(l, mag, M - t->m)), power(l, BIAS - t->bias), ""));
    if (t->top == SMALL_IEEE)
        r = choose(l, is(l, LLVMIntUGE, mag, inf),
                   or(l, k(l, 0x7f800000), up(l, and(l, mag, ones - inf), M - t->m)), r);
    if (t->top == SMALL_FN) r = choose(l, is(l, LLVMIntEQ, mag, ones), k(l, 0x7fc00000), r);
    if (t->top == SMALL_FNUZ) r = choose(l, is(l, LLVMIntEQ, v, ones + 1), k(l, 0x7fc00000), r);
    return floats(l, or(l, r, sign));
}

/* The bits shifted right by `drop`, to nearest even: half of the last place minus one, plus its parity, is
   added first, and a carry runs into the exponent by itself. */
static Val round_off(Lanes l, Val a, int drop) {
    return down(l, add(l, add(l, a, k(l, (1u << (drop - 1)) - 1)), and(l, down(l, a, drop), 1)), drop);
}

/* A power of two without a sign; halfway rounds up. */
static Val narrow_e8m0(Lanes l, Val mag) {
    Val e = down(l, mag, M), rest = and(l, mag, (1u << M) - 1), b = is(l, LLVMIntUGT, rest, 1u << (M - 1));
    Val half_way = LLVMBuildAnd(l.f->b, is(l, LLVMIntEQ, rest, 1u << (M - 1)), is(l, LLVMIntNE, e, 0), "");
    Val one = LLVMBuildZExt(l.f->b, or(l, b, half_way), type_reg(l.f->u, vector(U32, l.n)), "");
    return choose(l, is(l, LLVMIntEQ, e, 255), k(l, 255), add(l, e, one));
}

/* Below the least normal number adding 2^(23 - m) times it rounds to the right place, and leaves the code in
   the low bits. */
static Val narrow(Lanes l, const SmallFormat *t, Val mag) {
    uint32_t ones = (1u << (t->e + t->m)) - 1, inf = ones >> t->m << t->m;
    uint32_t last = t->top == SMALL_IEEE ? inf - 1 : t->top == SMALL_FN ? ones - 1 : ones;
    uint32_t over = t->top == SMALL_IEEE ? inf : t->top == SMALL_FNUZ ? ones + 1 : ones;
    int least = 1 - t->bias;
    Val r = round_off(l, add(l, mag, k(l, (uint32_t)(t->bias - BIAS) << M)), M - t->m);
    if (t->bias != BIAS) {
        Val magic = power(l, least - t->m + M);
        Val sum = LLVMBuildFAdd(l.f->b, floats(l, mag), magic, "");
        Val tiny = LLVMBuildSub(l.f->b, bits(l, sum), bits(l, magic), "");
        r = choose(l, is(l, LLVMIntULT, mag, (uint32_t)(least + BIAS) << M), tiny, r);
    }
    return choose(l, is(l, LLVMIntUGT, r, last), k(l, over), r);
}

Val small_narrow(Fn *f, Val v, Type to) {
    Lanes l = {f, to.lanes};
    const SmallFormat *t = &gd_small_formats[to.dt];
    LLVMTypeRef type = type_reg(f->u, to);
    if (to.dt == F16 && f->g->has_half)
        return LLVMBuildBitCast(f->b, LLVMBuildFPTrunc(f->b, v, half(l), ""), type, "");
    Val u = bits(l, v), mag = and(l, u, 0x7fffffff), nan = is(l, LLVMIntUGT, mag, 0x7f800000), r;
    if (to.dt == F8E8M0) return LLVMBuildTrunc(f->b, narrow_e8m0(l, mag), type, "");
    uint32_t ones = (1u << (t->e + t->m)) - 1, inf = ones >> t->m << t->m;
    Val sign = and(l, down(l, u, 31 - t->e - t->m), ones + 1);
    r = narrow(l, t, mag);
    if (t->top == SMALL_FNUZ) { /* its NaN has no sign, nor has its zero */
        Val bare = or(l, is(l, LLVMIntEQ, r, 0), is(l, LLVMIntEQ, r, ones + 1));
        r = choose(l, nan, k(l, ones + 1), choose(l, bare, r, or(l, r, sign)));
    } else if (t->top == SMALL_FINITE) r = choose(l, nan, k(l, ones), or(l, r, sign));
    else r = or(l, choose(l, nan, k(l, t->top == SMALL_IEEE ? inf | 1u << (t->m - 1) : ones), r), sign);
    return LLVMBuildTrunc(f->b, r, type, "");
}
