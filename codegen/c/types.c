/* How types and constants are spelled. */
#include "gen.h"
#include <stdlib.h>

bool c_sub_byte(DType t) { return t == I4 || t == U4 || t == I2 || t == U2; }
int c_width(DType t) {
    return t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : t == BOOL ? 1 : 8 * gd_dtypes[t].bytes;
}

const char *c_elem(DType t) { return gd_dtypes[t].ctype; }

DType mask_dtype(int width) { return width == 1 ? I8 : width == 2 ? I16 : width == 4 ? I32 : I64; }

const char *type_text(Gen *g, Type t) {
    const char *s = gd_dtypes[t.dt].name;
    return t.lanes > 1 ? gd_format(g->c, "v%d%s", t.lanes, s) : s;
}

/* Types that differ only in what they mean share one vector type: v16u16 holds sixteen f16. */
static DType storage(DType t) {
    if (dt_small(t)) return gd_dtypes[t].bytes == 2 ? U16 : U8;
    return t == I4 || t == I2 ? I8 : t == U4 || t == U2 ? U8 : t;
}

const char *c_type(Gen *g, Type t) {
    if (t.dt == STRING || t.dt == C64 || t.dt == C128)
        gd_fail(g->c, 403, NULL, "values of type %s cannot be compiled to C", gd_dtypes[t.dt].name);
    if (t.lanes == 1) return t.dt == BOOL ? "bool" : c_elem((DType)t.dt);
    if (t.dt == BOOL) gd_bug(g->c, "C: a vector of bools has no type of its own");
    t.dt = (uint8_t)storage((DType)t.dt);
    need_vector(g, t);
    return type_text(g, t);
}

const char *c_mask(Gen *g, int lanes, int width) { return c_type(g, vector(mask_dtype(width), lanes)); }

/* ---- constants ---- */

/* As few digits as read back to the same bits. */
static void put_float(Gen *g, Text *t, DType dt, uint64_t bits, int prec) {
    double v = gd_to_double(dt, bits);
    const char *suffix = dt == F32 ? "f" : "";
    bool negative = dt == F32 ? bits >> 31 & 1 : bits >> 63;
    char s[64];
    g->math = g->math || v - v != 0;
    if (v != v) {
        text_put(t, dt == F32 ? "NAN" : "(double)NAN");
        return;
    }
    if (negative && prec > P_UNARY) text_put(t, "(");
    if (v - v != 0) {
        snprintf(s, sizeof s, "%s%sINFINITY", negative ? "-" : "", dt == F32 ? "" : "(double)");
        suffix = "";
    } else {
        int digits = 1, most = dt == F32 ? 9 : 17;
        for (; digits <= most; digits++) {
            snprintf(s, sizeof s, "%.*g", digits, v);
            if ((dt == F32 ? (double)strtof(s, NULL) : strtod(s, NULL)) == v) break;
        }
        for (char *q = s; *q; q++)
            if (*q == ',') *q = '.'; /* whatever the locale */
        if (!strpbrk(s, ".en")) strcat(s, ".0");
    }
    text_put(t, s);
    text_put(t, suffix);
    if (negative && prec > P_UNARY) text_put(t, ")");
}

static void put_signed(Text *t, DType dt, int64_t v, int prec) {
    bool least = (dt == I32 && v == INT32_MIN) || v == INT64_MIN;
    if (least) {
        text_put(t, dt == I32 ? "INT32_MIN" : "INT64_MIN");
        return;
    }
    const char *form = v > INT32_MAX || v < -INT32_MAX ? "INT64_C(%lld)" : "%lld";
    if (v < 0 && prec > P_UNARY) text_put(t, "(");
    if (v < 0) text_put(t, "-");
    text_printf(t, form, v < 0 ? -(long long)v : (long long)v);
    if (v < 0 && prec > P_UNARY) text_put(t, ")");
}

void put_const(Gen *g, Text *t, DType dt, uint64_t bits, int prec) {
    switch (gd_dtypes[dt].kind) {
    case DK_FLOAT: put_float(g, t, dt, bits, prec); break;
    case DK_INT: put_signed(t, dt, (int64_t)bits, prec); break;
    case DK_BOOL: text_put(t, bits ? "true" : "false"); break;
    case DK_UINT:
    case DK_SMALL:
        if (dt == U64 && bits > UINT32_MAX) text_printf(t, "UINT64_C(%llu)", (unsigned long long)bits);
        else text_printf(t, dt == U32 || dt == U64 ? "%lluu" : "%llu", (unsigned long long)bits);
        break;
    default: gd_fail(g->c, 403, NULL, "a constant of type %s cannot be compiled to C", gd_dtypes[dt].name);
    }
}
