/* Constants: in the source, or in one blob in which each begins at a multiple of 64. */
#include "gen.h"
#include <inttypes.h>

static size_t elements(Gen *g, const Buf *b) {
    int64_t n;
    if (!is_int(buf_size(g->c, b), &n)) gd_bug(g->c, "C: the size of constant %s is not known", b->name);
    return (size_t)n;
}

void place_consts(Gen *g, Uses *u) {
    for (int i = 0; i < u->bufs.n; i++) {
        Buf *b = u->bufs.v[i].buf;
        if (b->space != SP_CONST) continue;
        vec_push(g->c, &g->consts, b);
        blob_add(g->c, &g->blob, b);
    }
    g->raw_weights = g->blob.bytes && (g->o->weights == WEIGHTS_FILE || g->o->weights == WEIGHTS_EXTERN);
}

const char *const_pointer(Gen *g, Buf *b) {
    size_t at = blob_at(&g->blob, b);
    const char *e = c_elem(b->dt);
    if (at == SIZE_MAX) gd_bug(g->c, "C: constant %s was not placed", b->name);
    switch (g->o->weights) {
    case WEIGHTS_EMBED: return spelling(g, &b->data, b->name);
    case WEIGHTS_HOST:
        for (int i = 0; i < g->consts.n; i++)
            if (g->consts.v[i] == b) return gd_format(g->c, "%s_constants[%d]", g->prefix, i);
        return NULL;
    case WEIGHTS_OBJECT:
        return gd_format(g->c, "(const %s *)(const void *)(%s_weights + %llu)", e, g->prefix,
                         (unsigned long long)at);
    default: {
        int nin = 0;
        for (int i = 0; i < g->p->params.n; i++) nin += g->p->params.v[i]->space == SP_IN;
        return gd_format(g->c, "(const %s *)(const void *)((const unsigned char *)ins[%d] + %llu)", e, nin,
                         (unsigned long long)at);
    }
    }
}

/* ---- numbers, fast: a model may have millions ---- */

/* 0x1.8p-3: no rounding and no search, so a hundred times as fast as the shortest decimal. */
static int hex_float(char *s, bool negative, uint64_t mantissa, int digits, int exponent, bool normal) {
    char *q = s;
    if (negative) *q++ = '-';
    *q++ = '0';
    *q++ = 'x';
    *q++ = normal ? '1' : '0';
    while (digits && !(mantissa & 15)) {
        mantissa >>= 4;
        digits--;
    }
    if (digits) *q++ = '.';
    for (int i = digits - 1; i >= 0; i--) *q++ = "0123456789abcdef"[mantissa >> (4 * i) & 15];
    return (int)(q - s) + sprintf(q, "p%d", exponent);
}

static int float_text(char *s, uint64_t bits, bool f64) {
    double v = gd_to_double(f64 ? F64 : F32, bits);
    const char *end = f64 ? "" : "f";
    if (v != v) return sprintf(s, f64 ? "(double)NAN" : "NAN");
    if (v - v != 0) return sprintf(s, "%s%s", f64 ? "(double)" : "", v < 0 ? "-INFINITY" : "INFINITY");
    double k = v * 1000; /* few digits: decimal */
    if (v == 0 || (k == (double)(int64_t)k && k < 1e6 && k > -1e6)) {
        int64_t n = (int64_t)k, a = n < 0 ? -n : n;
        char t[32];
        int len = sprintf(t, "%" PRId64 ".%03" PRId64, a / 1000, a % 1000);
        while (t[len - 1] == '0' && t[len - 2] != '.') t[--len] = 0;
        double back = f64 ? (double)a / 1000 : (double)((float)a / 1000);
        if (back == (v < 0 ? -v : v))
            return sprintf(s, "%s%s%s", bits >> (f64 ? 63 : 31) & 1 ? "-" : "", t, end);
    }
    int m = f64 ? 52 : 23, e = (int)(bits >> m & (f64 ? 0x7ff : 0xff)), bias = f64 ? 1023 : 127;
    uint64_t frac = bits & ((1ull << m) - 1);
    int n = hex_float(s, bits >> (f64 ? 63 : 31) & 1, f64 ? frac : frac << 1, f64 ? 13 : 6,
                      e ? e - bias : 1 - bias, e != 0);
    return n + sprintf(s + n, "%s", end);
}

static bool not_finite(const Buf *b, size_t n) {
    const char *p = b->data;
    for (size_t i = 0; dt_float(b->dt) && i < n; i++) {
        double v = gd_to_double(b->dt, gd_load_bits(b->dt, p + i * (size_t)gd_dtypes[b->dt].bytes));
        if (v - v != 0) return true;
    }
    return false;
}

static int element_text(Gen *g, char *s, DType t, uint64_t bits) {
    switch (gd_dtypes[t].kind) {
    case DK_FLOAT: return float_text(s, bits, t == F64);
    case DK_INT:
        if ((int64_t)bits == INT64_MIN) return sprintf(s, "INT64_MIN");
        return sprintf(s, (int64_t)bits > INT32_MAX || (int64_t)bits < -INT32_MAX ? "INT64_C(%lld)" : "%lld",
                       (long long)bits);
    case DK_STRING:
    case DK_COMPLEX:
        gd_fail(g->c, 403, NULL, "constants of type %s cannot be compiled to C", gd_dtypes[t].name);
    default:
        return sprintf(s,
                       t == U64 && bits > UINT32_MAX ? "UINT64_C(%llu)"
                       : t == U64 || t == U32        ? "%lluu"
                                                     : "%llu",
                       (unsigned long long)bits);
    }
}

static void put_array(Gen *g, Buf *b) {
    size_t n = elements(g, b), size = (size_t)gd_dtypes[b->dt].bytes, column = 0;
    const char *name = spelling(g, &b->data, b->name);
    text_put(g->out, "\n");
    if (b->label) {
        text_put(g->out, "/* ");
        put_comment(g->out, b->label);
        text_put(g->out, " */\n");
    }
    text_printf(g->out, "static const %s %s[%zu] LINE = {", c_elem(b->dt), name, n ? n : 1);
    char s[80];
    for (size_t i = 0; i < n; i++) {
        int k = element_text(g, s, b->dt, gd_load_bits(b->dt, (const char *)b->data + i * size));
        if (i == 0 || column + (size_t)k + 2 > 118) {
            text_put(g->out, i ? ",\n    " : "\n    ");
            column = 4;
        } else {
            text_putn(g->out, ", ", 2);
            column += 2;
        }
        text_putn(g->out, s, (size_t)k);
        column += (size_t)k;
    }
    text_put(g->out, n ? "};\n" : "0};\n");
}

/* Before anything is written: code uses the names, and the head must know of <math.h>. */
void name_consts(Gen *g) {
    for (int i = 0; i < g->consts.n && g->o->weights == WEIGHTS_EMBED; i++) {
        Buf *b = g->consts.v[i];
        map_putp(g->spelled, &b->data, (void *)name_take(g, gd_format(g->c, "%s_data", b->name)));
        if (not_finite(b, elements(g, b))) g->math = true;
    }
}

void put_consts(Gen *g) {
    if (!g->consts.n) return;
    switch (g->o->weights) {
    case WEIGHTS_EMBED:
        for (int i = 0; i < g->consts.n; i++) put_array(g, g->consts.v[i]);
        break;
    case WEIGHTS_HOST:
        text_printf(g->out,
                    "\n/* Set by the program that loads this code: its constants are in that process. "
                    "*/\nconst void *%s_constants[%d];\n",
                    g->prefix, g->consts.n);
        break;
    case WEIGHTS_OBJECT:
        text_printf(
            g->out,
            "\n/* %zu bytes, from an object of their own. */\nextern const unsigned char %s_weights[];\n",
            g->blob.bytes, g->prefix);
        break;
    default: break;
    }
}
