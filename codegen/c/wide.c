/* Operations on vectors that compilers do not find by themselves: fused multiply-add, square root, rounding;
   and conversions. An instruction is asked for where the target has it at the vector's width; a wider vector
   is done in halves; what is left goes lane by lane through the scalar function. */
#include "gen.h"

static void halves(Gen *g, ExprKind op, Type t, Text *to, int arity) {
    Type h = vector((DType)t.dt, t.lanes / 2);
    const char *fn = vector_op(g, op, h, h), *v = c_type(g, t);
    text_printf(to, "    union { %s v; %s h[2]; } x = {a}%s%s;\n", v, c_type(g, h),
                arity > 1 ? ", y = {b}" : "", arity > 2 ? ", z = {c}" : "");
    for (int i = 0; i < 2; i++)
        text_printf(
            to, arity > 2 ? "    x.h[%d] = %s(x.h[%d], y.h[%d], z.h[%d]);\n" : "    x.h[%d] = %s(x.h[%d]);\n",
            i, fn, i, i, i);
    text_put(to, "    return x.v;\n");
}

/* The feature that has op at this width, and the instruction. */
static const char *feature(ExprKind op, int bytes) {
    if (bytes == 64) return "defined(__AVX512F__)";
    if (op == E_FMA) return "defined(__FMA__)";
    if (bytes == 32) return "defined(__AVX__)";
    return op == E_SQRT ? "defined(__SSE2__)" : "defined(__SSE4_1__)";
}

static const char *instruction(Gen *g, ExprKind op, Type t, int bytes) {
    const char *s = t.dt == F32 ? "ps" : "pd", *mask = t.dt == F32 ? "0xffff" : "0xff";
    const char *width = bytes == 64 ? "512" : bytes == 32 ? "256" : "";
    int mode = op == E_FLOOR ? 9 : op == E_CEIL ? 10 : op == E_TRUNC ? 11 : 8;
    if (op == E_FMA)
        return bytes == 64
                   ? gd_format(g->c, "    return __builtin_ia32_vfmadd%s512_mask(a, b, c, %s, 4);\n", s, mask)
                   : gd_format(g->c, "    return __builtin_ia32_vfmadd%s%s(a, b, c);\n", s, width);
    if (op == E_SQRT)
        return bytes < 64
                   ? gd_format(g->c, "    return __builtin_ia32_sqrt%s%s(a);\n", s, width)
                   : gd_format(g->c,
                               "#if defined(__clang__)\n    return __builtin_ia32_sqrt%s512(a, 4);\n#else\n"
                               "    return __builtin_ia32_sqrt%s512_mask(a, a, %s, 4);\n#endif\n",
                               s, s, mask);
    return bytes == 64 ? gd_format(g->c, "    return __builtin_ia32_rndscale%s_mask(a, %d, a, %s, 4);\n", s,
                                   mode, mask)
                       : gd_format(g->c, "    return __builtin_ia32_round%s%s(a, %d);\n", s, width, mode);
}

void vector_wide(Gen *g, ExprKind op, Type t, Text *to) {
    int bytes = t.lanes * gd_dtypes[t.dt].bytes, arity = op == E_FMA ? 3 : 1;
    bool has = bytes == 64 || bytes == 32 || bytes == 16;
    if (has) text_printf(to, "#if %s\n%s", feature(op, bytes), instruction(g, op, t, bytes));
    if (bytes == 16 && op == E_FMA)
        text_printf(to,
                    "#elif defined(__aarch64__) && !defined(__clang__)\n    return "
                    "__builtin_aarch64_fma%s(b, c, a);\n",
                    t.dt == F32 ? "v4sf" : "v2df");
    if (has) text_put(to, "#else\n");
    if (bytes > 16) {
        halves(g, op, t, to, arity);
        text_put(to, has ? "#endif\n}\n" : "}\n");
        return;
    }
    Form f = scalar_form(g, op, (DType)t.dt, (DType)t.dt);
    text_printf(to, "    for (int i = 0; i < %d; i++) a[i] = ", t.lanes);
    put_form(to, &f, arity, (const char *const[]){"a[i]", "b[i]", "c[i]"});
    text_put(to, has ? ";\n    return a;\n#endif\n}\n" : ";\n    return a;\n}\n");
}

/* ---- conversions ---- */

/* Saturating, NaN to 0. What fits is converted (the rest as 0), then the lanes beyond the range are set. */
static void float_to_int(Gen *g, Type from, Type to, Text *t) {
    DType ft = (DType)from.dt, it = (DType)to.dt;
    int n = from.lanes, size = gd_dtypes[ft].bytes, w = c_width(it);
    bool is_signed = gd_dtypes[it].kind == DK_INT, steps = gd_dtypes[it].bytes < size;
    Type same = vector(mask_dtype(size), n), signed_to = vector(mask_dtype(gd_dtypes[it].bytes), n);
    const char *v = c_type(g, from), *m = c_type(g, same), *r = c_type(g, to), *sm = c_type(g, signed_to);
    const char *splat = vector_splat(g, from), *ints = vector_splat(g, to), *literal = ft == F32 ? "f" : "";
    double limit = is_signed ? (double)(1ull << (w - 1)) : w == 64 ? 0x1p64 : (double)(1ull << w);
    uint64_t hi = ~0ull >> (64 - w + is_signed);
    text_printf(t, "    const %s over = (%s)(a >= %s(%.1f%s)), under = (%s)(a <= %s(%s%.1f%s));\n", m, m,
                splat, limit, literal, m, splat, is_signed ? "-" : "", is_signed ? limit : 0.0, literal);
    text_printf(t, "    const %s in = (%s)((%s)a & ~over & ~under & (%s)(a == a));\n", v, v, m, m);
    if (steps)
        text_printf(t, "    %s r = __builtin_convertvector(__builtin_convertvector(in, %s), %s);\n", r, m, r);
    else text_printf(t, "    %s r = __builtin_convertvector(in, %s);\n", r, r);
    text_printf(t, "    r |= (%s)__builtin_convertvector(over, %s) & %s(", r, sm, ints);
    put_const(g, t, it, hi, P_COND);
    text_put(t, ");\n");
    if (is_signed) {
        text_printf(t, "    r |= __builtin_convertvector(under, %s) & %s(", sm, ints);
        put_const(g, t, it, 0 - hi - 1, P_COND);
        text_put(t, ");\n");
    }
    text_put(t, "    return r;\n}\n");
}

static void from_half(Gen *g, Type from, Text *t) {
    Type u = vector(U32, from.lanes);
    const char *v = c_type(g, vector(F32, from.lanes)), *uv = c_type(g, u), *k = vector_splat(g, u), *s;
    if (from.dt == BF16) {
        text_printf(t, "    return (%s)(__builtin_convertvector(a, %s) << %s(16));\n}\n", v, uv, k);
        return;
    }
    if (from.lanes == 16)
        text_printf(t,
                    "#if defined(__AVX512F__)\n    typedef short V __attribute__((vector_size(32)));\n"
                    "    return __builtin_ia32_vcvtph2ps512_mask((V)a, (%s){0}, 0xffff, 4);\n#else\n",
                    v);
    s = vector_splat(g, vector(F32, from.lanes));
    text_printf(t, "    const %s h = __builtin_convertvector(a, %s), m = h & %s(0x7fff);\n", uv, uv, k);
    text_printf(t,
                "    const %s small = (%s)(__builtin_convertvector(m, %s) * %s(0x1p-24f)), top = (%s)(m >= "
                "%s(0x7c00));\n",
                uv, uv, v, s, uv, k);
    text_printf(t,
                "    const %s tiny = (%s)(m < %s(0x400)), r = ((m << %s(13)) + %s(0x38000000)) + (top & "
                "%s(0x38000000));\n",
                uv, uv, k, k, k, k);
    text_printf(t, "    return (%s)((r & ~tiny) | (small & tiny) | (h & %s(0x8000)) << %s(16));\n", v, k, k);
    text_put(t, from.lanes == 16 ? "#endif\n}\n" : "}\n");
}

/* GCC 12 has no code at -O0 for some conversions of more than a register. */
static void cast_halves(Gen *g, Type from, Type to, Text *t) {
    Type a = vector((DType)from.dt, from.lanes / 2), b = vector((DType)to.dt, to.lanes / 2);
    const char *fn = vector_op(g, E_CAST, a, b), *wf = c_type(g, from), *wt = c_type(g, to);
    text_printf(t, "    union { %s v; %s h[2]; } x = {a};\n    union { %s v; %s h[2]; } y;\n", wf,
                c_type(g, a), wt, c_type(g, b));
    text_printf(t, "    y.h[0] = %s(x.h[0]);\n    y.h[1] = %s(x.h[1]);\n    return y.v;\n}\n", fn, fn);
}

void vector_cast(Gen *g, Type from, Type to, Text *t) {
    DType a = (DType)from.dt, b = (DType)to.dt;
    if (from.lanes * gd_dtypes[a].bytes > 64 || to.lanes * gd_dtypes[b].bytes > 64)
        cast_halves(g, from, to, t);
    else if ((a == F16 || a == BF16) && b == F32) from_half(g, from, t);
    else if (dt_float(a) && dt_int(b) && !c_sub_byte(b)) float_to_int(g, from, to, t);
    else if (dt_small(a) || dt_small(b) || c_sub_byte(b)) put_lanes(g, t, E_CAST, from, to, 1, c_type(g, to));
    else text_printf(t, "    return __builtin_convertvector(a, %s);\n}\n", c_type(g, to));
}
