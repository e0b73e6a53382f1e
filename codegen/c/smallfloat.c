/* Floats of 16 bits and less, by integer arithmetic on their bits: exact when widened, rounded once to the
   nearest even when narrowed. The formats and what overflow becomes are those of gd_eval (OCP 8-bit Floating
   Point Specification; OCP Microscaling Formats; ONNX). */
#include "gen.h"

/* A denormal is its mantissa times a power of two; everything else is the same exponent and mantissa moved.
 */
static void widen(Text *t, const SmallFormat *f) {
    unsigned ones = (1u << (f->e + f->m)) - 1, inf = ones >> f->m << f->m;
    text_printf(t,
                "    union { uint32_t u; float f; } x;\n    const uint32_t sign = (uint32_t)(a & %uu) << %d, "
                "m = a & %uu;\n",
                ones + 1, 31 - f->e - f->m, ones);
    text_printf(t, "    x.u = (m << %d) + 0x%08xu;\n", 23 - f->m, (unsigned)(127 - f->bias) << 23);
    text_printf(t, "    if (m < %uu) x.f = (float)m * %s0x1p-%df;\n", 1u << f->m, "", f->bias - 1 + f->m);
    if (f->top == SMALL_IEEE)
        text_printf(t, "    if (m >= %uu) x.u = 0x7f800000u | (m & %uu) << %d;\n", inf, (1u << f->m) - 1,
                    23 - f->m);
    if (f->top == SMALL_FN) text_printf(t, "    if (m == %uu) x.u = 0x7fc00000u;\n", ones);
    if (f->top == SMALL_FNUZ) text_printf(t, "    if (a == %uu) x.u = 0x7fc00000u;\n", ones + 1);
    text_put(t, "    x.u |= sign;\n    return x.f;\n}\n");
}

const char *small_to_float(Gen *g, DType from) {
    const char *name = gd_format(g->c, "f32_from_%s", gd_dtypes[from].name);
    if (!helper_new(g, name)) return name;
    Text *t = g->scalars;
    text_printf(t, "INLINE float %s(%s a) {\n", name, c_elem(from));
    if (from == BF16)
        text_put(t,
                 "    union { uint32_t u; float f; } x;\n    x.u = (uint32_t)a << 16;\n    return x.f;\n}\n");
    else if (from == F8E8M0)
        text_put(t, "    union { uint32_t u; float f; } x;\n    x.u = a == 0 ? 0x400000u : a == 255 ? "
                    "0x7fc00000u : (uint32_t)a << 23;\n"
                    "    return x.f;\n}\n");
    else widen(t, &gd_small_formats[from]);
    return name;
}

/* A power of two without a sign; halfway rounds up. */
static void narrow_e8m0(Text *t, DType from) {
    text_printf(t, "    union { float f; uint32_t u; } x = {%sa};\n", from == F64 ? "(float)" : "");
    text_put(
        t, "    const uint32_t e = x.u >> 23 & 255u, m = x.u & 0x7fffffu;\n"
           "    return (uint8_t)(e == 255 ? 255 : e + (m > 0x400000u || (m == 0x400000u && e != 0)));\n}\n");
}

/* Let the value be n * 2^q with an integer n. Above the least normal the code is the float's own, with the
   exponent's bias exchanged, shifted right; below it is n shifted by more. Half of the last place minus one,
   plus its parity, is added first: a carry runs into the exponent by itself. */
static void narrow(Text *t, const SmallFormat *f, DType from, const char *type) {
    int M = from == F32 ? 23 : 52, bias = from == F32 ? 127 : 1023, drop = M - f->m;
    const char *u = from == F32 ? "uint32_t" : "uint64_t", *k = from == F32 ? "u" : "ull";
    unsigned ones = (1u << (f->e + f->m)) - 1, inf = ones >> f->m << f->m;
    unsigned last = f->top == SMALL_IEEE ? inf - 1 : f->top == SMALL_FN ? ones - 1 : ones;
    text_printf(t, "    union { %s f; %s u; } x = {a};\n", c_elem(from), u);
    text_printf(t, "    const uint32_t sign = (uint32_t)(x.u >> %d) << %d;\n", from == F32 ? 31 : 63,
                f->e + f->m);
    text_printf(t, "    %s m = x.u << 1 >> 1;\n    const int e = (int)(m >> %d), least = e == 0 ? 1 : e;\n",
                u, M);
    text_printf(t, "    int by = %d;\n", drop);
    switch (f->top) { /* overflow and NaN */
    case SMALL_IEEE:
        text_printf(t, "    if (a != a) return (%s)(sign | 0x%xu);\n", type, inf | 1u << (f->m - 1));
        break;
    case SMALL_FN: text_printf(t, "    if (a != a) return (%s)(sign | 0x%xu);\n", type, ones); break;
    case SMALL_FNUZ: text_printf(t, "    if (a != a) return 0x%x;\n", ones + 1); break;
    case SMALL_FINITE: text_printf(t, "    if (a != a) return 0x%x;\n", ones); break;
    }
    text_printf(t, "    if (e == 0 || least < %d) {\n        by += %d - least;\n", bias - f->bias + 1,
                bias - f->bias + 1);
    text_printf(t, "        if (by > %d) by = %d;\n        if (e != 0) m = (m & 0x%llx%s) | 0x%llx%s;\n",
                M + 2, M + 2, (1ull << M) - 1, k, 1ull << M, k);
    text_printf(t, "    } else m -= (%s)%d << %d;\n", u, bias - f->bias, M);
    text_printf(t, "    m = (m + (((%s)1 << (by - 1)) - 1) + (m >> by & 1)) >> by;\n", u);
    if (f->top == SMALL_FNUZ)
        text_printf(t, "    return (%s)(m > %uu ? %uu : m == 0 ? 0 : sign | (uint32_t)m);\n}\n", type, last,
                    ones + 1);
    else
        text_printf(t, "    return (%s)(sign | (uint32_t)(m > %uu ? %uu : m));\n}\n", type, last,
                    f->top == SMALL_IEEE ? inf
                    : f->top == SMALL_FN ? ones
                                   : ones);
}

const char *small_from_float(Gen *g, DType to, DType from) {
    const char *name = gd_format(g->c, "%s_from_%s", gd_dtypes[to].name, gd_dtypes[from].name);
    if (!helper_new(g, name)) return name;
    text_printf(g->scalars, "INLINE %s %s(%s a) {\n", c_elem(to), name, c_elem(from));
    if (to == F8E8M0) narrow_e8m0(g->scalars, from);
    else narrow(g->scalars, &gd_small_formats[to], from, c_elem(to));
    return name;
}
