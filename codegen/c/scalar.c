/* The scalar instructions as C text. Most are an operator of C; where C leaves something undefined or does it
   otherwise (wrapping, x / 0, shifts, NaN) a small static function is made, which optimising compilers reduce
   to the same instructions. Each function is total and does what gd_eval does.

   Templates. $t the C type. Integers: $u the unsigned type that is computed in, $n the type's name, $W its
   width, $[ and $] around what must be wrapped to the width. Floats: $N the name, $b the type of the bits, $f
   $l $s suffixes of functions, literals and instructions, $S the sign bit, $I infinity, $F the mantissa, $H its
   hidden bit, $M its width, $Q 2^M. */
#include "gen.h"

/* ---- templates ---- */

void put_template(Text *t, const char *text, const char *keys, const char *const *values) {
    for (const char *at; (at = strchr(text, '$')); text = at + 2) {
        text_putn(t, text, (size_t)(at - text));
        text_put(t, values[strchr(keys, at[1]) - keys]);
    }
    text_put(t, text);
}

bool helper_new(Gen *g, const char *name) {
    if (map_gets(g->helpers, name)) return false;
    map_puts(g->helpers, name, g->helpers);
    return true;
}

static const char INT_KEYS[] = "tunW[]", FLOAT_KEYS[] = "tNbflsSIFHQM";

static void int_values(Gen *g, DType t, const char **v) {
    bool wide = gd_dtypes[t].bytes == 8, sub = c_sub_byte(t), is_signed = gd_dtypes[t].kind == DK_INT;
    int w = c_width(t);
    v[0] = c_elem(t);
    v[1] = wide ? "uint64_t" : "uint32_t";
    v[2] = gd_dtypes[t].name;
    v[3] = gd_format(g->c, "%d", w);
    v[4] = !sub        ? gd_format(g->c, "(%s)(", v[0])
           : is_signed ? gd_format(g->c, "(%s)((int32_t)(((", v[0])
                       : gd_format(g->c, "(%s)((", v[0]);
    v[5] = !sub        ? ")"
           : is_signed ? gd_format(g->c, ") & %du) ^ %du) - %d)", (1 << w) - 1, 1 << (w - 1), 1 << (w - 1))
                       : gd_format(g->c, ") & %du)", (1 << w) - 1);
}

static const char *const f32_values[] = {"float",     "f32",       "uint32_t",    "f",
                                         "f",         "s",         "0x80000000u", "0x7f800000u",
                                         "0x7fffffu", "0x800000u", "8388608.0f",  "23"};
static const char *const f64_values[] = {"double",
                                         "f64",
                                         "uint64_t",
                                         "",
                                         "",
                                         "d",
                                         "UINT64_C(0x8000000000000000)",
                                         "UINT64_C(0x7ff0000000000000)",
                                         "UINT64_C(0xfffffffffffff)",
                                         "UINT64_C(0x10000000000000)",
                                         "4503599627370496.0",
                                         "52"};

/* ---- the functions ---- */

typedef struct Row {
    ExprKind op;
    int arity;
    const char *text;
} Row;

static const Row float_rows[] = {
    {E_REM, 2, /* long division of the mantissas, bit by bit: exact */
     "    union { $t f; $b u; } x = {a}, y = {b};\n"
     "    const $b sign = x.u & $S;\n"
     "    $b m = x.u & ~$S, n = y.u & ~$S;\n"
     "    int p = (int)(m >> $M), q = (int)(n >> $M);\n"
     "    if (n == 0 || m >= $I || n > $I) return (a - a) / (b - b);\n"
     "    if (m < n) return a;\n"
     "    if (p == 0) for (p = 1; m >> $M == 0; m <<= 1) p--;\n"
     "    else m = (m & $F) | $H;\n"
     "    if (q == 0) for (q = 1; n >> $M == 0; n <<= 1) q--;\n"
     "    else n = (n & $F) | $H;\n"
     "    for (; p > q; p--) {\n"
     "        if (m >= n) m -= n;\n"
     "        m <<= 1;\n"
     "    }\n"
     "    if (m >= n) m -= n;\n"
     "    for (; m != 0 && m >> $M == 0; m <<= 1) p--;\n"
     "    x.u = m == 0 ? sign : p > 0 ? sign | ((m - $H) | ($b)p << $M) : sign | m >> (1 - p);\n"
     "    return x.f;\n"},
    {E_ABS, 1,
     "#if GRADC_GNU\n    return __builtin_fabs$f(a);\n#else\n"
     "    union { $t f; $b u; } x = {a};\n    x.u &= ~$S;\n    return x.f;\n#endif\n"},
    /* NaN if one is NaN; -0 < +0. With `if (a != b) return a + b` before it, GCC 14.2 -O3 for AVX-512 takes the AND for NaN too. */
    {E_MIN, 2,
     "    union { $t f; $b u; } x = {a}, y = {b};\n"
     "    if (a < b) return a;\n    if (b < a) return b;\n    x.u |= y.u;\n"
     "    return a == b ? x.f : a + b;\n"},
    {E_MAX, 2,
     "    union { $t f; $b u; } x = {a}, y = {b};\n"
     "    if (a > b) return a;\n    if (b > a) return b;\n    x.u &= y.u;\n"
     "    return a == b ? x.f : a + b;\n"},
    {E_FMA, 3,
     "#if GRADC_GNU\n    return __builtin_fma$f(a, b, c);\n#else\n    return fma$f(a, b, c);\n#endif\n"},
    {E_SQRT, 1,
     "#if GRADC_GNU && defined(__clang__) && defined(__SSE2__)\n"
     "    typedef $t V __attribute__((vector_size(16)));\n    const V x = {a};\n    return "
     "__builtin_ia32_sqrtp$s(x)[0];\n"
     "#elif GRADC_GNU\n    return __builtin_sqrt$f(a);\n#else\n    return sqrt$f(a);\n#endif\n"},
    {E_COPYSIGN, 2,
     "#if GRADC_GNU\n    return __builtin_copysign$f(a, b);\n#else\n"
     "    union { $t f; $b u; } x = {a}, y = {b};\n    x.u = (x.u & ~$S) | (y.u & $S);\n    return "
     "x.f;\n#endif\n"},
    {E_RINT, 1, /* adding 2^M leaves no place for a fraction */
     "#if GRADC_ROUNDS\n    return __builtin_rint$f(a);\n#else\n"
     "    const $t x = $N_abs(a);\n    return x < $Q ? $N_copysign((x + $Q) - $Q, a) : a;\n#endif\n"},
    {E_FLOOR, 1,
     "#if GRADC_ROUNDS\n    return __builtin_floor$f(a);\n#else\n"
     "    const $t r = $N_rint(a);\n    return r > a ? $N_copysign(r - 1, a) : r;\n#endif\n"},
    {E_CEIL, 1,
     "#if GRADC_ROUNDS\n    return __builtin_ceil$f(a);\n#else\n"
     "    const $t r = $N_rint(a);\n    return r < a ? $N_copysign(r + 1, a) : r;\n#endif\n"},
    {E_TRUNC, 1,
     "#if GRADC_ROUNDS\n    return __builtin_trunc$f(a);\n#else\n"
     "    const $t x = $N_abs(a), r = $N_rint(x);\n    return $N_copysign(r > x ? r - 1 : r, a);\n#endif\n"},
    {E_ISNAN, 1, "    return a != a;\n"},
};

/* The most negative number over -1 wraps to itself. */
static const Row signed_rows[] = {
    {E_ADD, 2, "    return $[($u)a + ($u)b$];\n"},
    {E_SUB, 2, "    return $[($u)a - ($u)b$];\n"},
    {E_MUL, 2, "    return $[($u)a * ($u)b$];\n"},
    {E_FMA, 3, "    return $[($u)a * ($u)b + ($u)c$];\n"},
    {E_NEG, 1, "    return $[0u - ($u)a$];\n"},
    {E_NOT, 1, "    return $[~($u)a$];\n"},
    {E_ABS, 1, "    return ($t)(a < 0 ? $[0u - ($u)a$] : a);\n"},
    {E_DIV, 2, "    return ($t)(b == 0 ? 0 : b == -1 ? $[0u - ($u)a$] : a / b);\n"},
    {E_REM, 2, "    return ($t)(b == 0 || b == -1 ? 0 : a % b);\n"},
    {E_FDIV, 2,
     "    if (b == 0) return 0;\n    if (b == -1) return $[0u - ($u)a$];\n"
     "    return ($t)(a / b - (a % b != 0 && (a < 0) != (b < 0)));\n"},
    {E_FMOD, 2,
     "    const $t r = ($t)(b == 0 || b == -1 ? 0 : a % b);\n"
     "    return ($t)(r != 0 && (r < 0) != (b < 0) ? r + b : r);\n"},
    {E_SHL, 2, "    return ($t)(($u)b < $Wu ? $[($u)a << b$] : 0);\n"},
    {E_SHR, 2, "    return ($t)(a >> (($u)b < $Wu ? b : $W - 1));\n"},
};
static const Row unsigned_rows[] = {
    {E_ADD, 2, "    return $[($u)a + ($u)b$];\n"},
    {E_SUB, 2, "    return $[($u)a - ($u)b$];\n"},
    {E_MUL, 2, "    return $[($u)a * ($u)b$];\n"},
    {E_FMA, 3, "    return $[($u)a * ($u)b + ($u)c$];\n"},
    {E_NEG, 1, "    return $[0u - ($u)a$];\n"},
    {E_NOT, 1, "    return $[~($u)a$];\n"},
    {E_DIV, 2, "    return ($t)(b == 0 ? 0 : a / b);\n"},
    {E_REM, 2, "    return ($t)(b == 0 ? 0 : a % b);\n"},
    {E_SHL, 2, "    return ($t)(b < $Wu ? $[($u)a << b$] : 0);\n"},
    {E_SHR, 2, "    return ($t)(b < $Wu ? a >> b : 0);\n"},
};
static const Row any_rows[] = {
    {E_MIN, 2, "    return a < b ? a : b;\n"},
    {E_MAX, 2, "    return a < b ? b : a;\n"},
};

/* ---- making them ---- */

const char *op_word(ExprKind op) {
    static const char *const infix[E_KINDS] = {
        [E_ADD] = "add", [E_SUB] = "sub", [E_MUL] = "mul", [E_DIV] = "div", [E_REM] = "rem",
        [E_AND] = "and", [E_OR] = "or",   [E_XOR] = "xor", [E_SHL] = "shl", [E_SHR] = "shr",
        [E_EQ] = "eq",   [E_NE] = "ne",   [E_LT] = "lt",   [E_LE] = "le"};
    static const char *const words[E_KINDS] = {
#define O(NAME, text, arity, result, form) [E_##NAME] = text,
#include "scalar.def"
#undef O
    };
    return infix[op] ? infix[op] : words[op];
}

static const Row *find(const Row *r, size_t n, ExprKind op) {
    for (; n--; r++)
        if (r->op == op) return r;
    return NULL;
}
#define FIND(rows, op) find(rows, sizeof rows / sizeof *rows, op)

static const Row *row_of(DType t, ExprKind op) {
    const Row *r = dt_float(t)                   ? FIND(float_rows, op)
                   : gd_dtypes[t].kind == DK_INT ? FIND(signed_rows, op)
                                                 : FIND(unsigned_rows, op);
    return r || dt_float(t) ? r : FIND(any_rows, op);
}

static void begin_function(Text *t, const char *result, const char *name, int n, const char *const *types) {
    text_printf(t, "INLINE %s %s(", result, name);
    for (int i = 0; i < n; i++) text_printf(t, "%s%s %c", i ? ", " : "", types[i], 'a' + i);
    text_put(t, ") {\n");
}

static const char *op_function(Gen *g, ExprKind op, DType t) {
    const char *name = gd_format(g->c, "%s_%s", gd_dtypes[t].name, op_word(op));
    if (!helper_new(g, name)) return name;
    const Row *r = row_of(t, op);
    if (!r) gd_bug(g->c, "C: no %s on %s", op_word(op), gd_dtypes[t].name);
    if (op == E_RINT || op == E_TRUNC) op_function(g, E_ABS, t);
    if (op == E_FLOOR || op == E_CEIL || op == E_TRUNC) op_function(g, E_RINT, t);
    if (op == E_RINT || op == E_TRUNC || op == E_FLOOR || op == E_CEIL) op_function(g, E_COPYSIGN, t);
    if (op == E_FMA || op == E_SQRT) g->math = true;
    const char *ints[sizeof INT_KEYS], *types[] = {c_elem(t), c_elem(t), c_elem(t)};
    if (!dt_float(t)) int_values(g, t, ints);
    begin_function(g->scalars, op == E_ISNAN ? "bool" : c_elem(t), name, r->arity, types);
    if (dt_float(t)) put_template(g->scalars, r->text, FLOAT_KEYS, t == F32 ? f32_values : f64_values);
    else put_template(g->scalars, r->text, INT_KEYS, ints);
    text_put(g->scalars, "}\n");
    return name;
}

/* Saturates; NaN becomes 0. The upper bound is the first float that no longer fits, or the largest integer
 * itself. */
static const char *float_to_int(Gen *g, DType from, DType to) {
    const char *name = gd_format(g->c, "%s_from_%s", gd_dtypes[to].name, gd_dtypes[from].name),
               *type = c_elem(from);
    if (!helper_new(g, name)) return name;
    bool is_signed = gd_dtypes[to].kind == DK_INT;
    int w = c_width(to);
    uint64_t hi = ~0ull >> (64 - w + is_signed), lo = is_signed ? 0 - hi - 1 : 0;
    double limit = from == F32 ? (double)(float)hi : (double)hi;
    Text *t = g->scalars;
    begin_function(t, c_elem(to), name, 1, &type);
    text_printf(t, "    if (!(a > %s%.1f%s)) return ", is_signed ? "-" : "",
                is_signed ? -(double)(int64_t)lo : 0.0, from == F32 ? "f" : "");
    if (is_signed) {
        text_put(t, "a == a ? ");
        put_const(g, t, to, lo, P_COND);
        text_put(t, " : 0;\n");
    } else text_put(t, "0;\n");
    text_printf(t, "    if (a >= %.1f%s) return ", limit, from == F32 ? "f" : "");
    put_const(g, t, to, hi, P_COND);
    text_printf(t, ";\n    return (%s)a;\n}\n", c_elem(to));
    return name;
}

/* An integer to one of 2 or 4 bits, or to bool from its lowest bit. */
static const char *int_to_narrow(Gen *g, DType from, DType to) {
    const char *name =
        gd_format(g->c, "%s_from_%s%s", gd_dtypes[to].name, gd_dtypes[from].name, to == BOOL ? "_bit" : "");
    if (!helper_new(g, name)) return name;
    const char *v[sizeof INT_KEYS] = {0}, *type = c_elem(from);
    begin_function(g->scalars, to == BOOL ? "bool" : c_elem(to), name, 1, &type);
    if (to != BOOL) int_values(g, to, v);
    put_template(g->scalars, to == BOOL ? "    return (a & 1) != 0;\n}\n" : "    return $[($u)a$];\n}\n",
                 INT_KEYS, v);
    return name;
}

static const char *bits_function(Gen *g, DType from, DType to) {
    const char *name = gd_format(g->c, "%s_bits_of_%s", gd_dtypes[to].name, gd_dtypes[from].name),
               *type = c_elem(from);
    if (gd_dtypes[from].bytes != gd_dtypes[to].bytes)
        gd_bug(g->c, "C: bits of %s are not a %s", gd_dtypes[from].name, gd_dtypes[to].name);
    if (!helper_new(g, name)) return name;
    begin_function(g->scalars, c_elem(to), name, 1, &type);
    text_printf(g->scalars, "    union { %s from; %s to; } x = {a};\n    return x.to;\n}\n", type,
                c_elem(to));
    return name;
}

/* ---- what an instruction becomes ---- */

static Form infix(const char *text, int prec, int arg, const char *cast) {
    return (Form){'i', text, prec, arg, cast};
}
static Form call(const char *name) { return (Form){'c', name, P_POSTFIX, 0, NULL}; }
static Form cast_to(DType t) { return (Form){'k', t == BOOL ? "bool" : c_elem(t), P_UNARY, P_UNARY, NULL}; }
static const Form operand = {'=', NULL, 0, 0, NULL};

static Form cast_form(Gen *g, DType from, DType to) {
    if (dt_small(from) || dt_small(to)) {
        if (from == to) return operand;
        if (dt_small(from) && to == F32) return call(small_to_float(g, from));
        if (dt_small(to) && dt_float(from)) return call(small_from_float(g, to, from));
        gd_bug(g->c, "C: a cast from %s to %s is two", gd_dtypes[from].name, gd_dtypes[to].name);
    }
    if (to == BOOL) return (Form){'z', from == F32 ? "0.0f" : from == F64 ? "0.0" : "0", P_EQ, P_ADD, NULL};
    if (from == to) return operand;
    if (dt_float(from) && !dt_float(to)) return call(float_to_int(g, from, to));
    return c_sub_byte(to) && from != BOOL ? call(int_to_narrow(g, from, to)) : cast_to(to);
}

static Form bits_form(Gen *g, DType from, DType to) {
    if (from == to || !strcmp(c_elem(from), c_elem(to))) {
        if (to != BOOL && from != BOOL && !c_sub_byte(to)) return operand;
    }
    if (dt_float(from) || dt_float(to)) return call(bits_function(g, from, to));
    if (from == BOOL) return cast_to(to);
    return to == BOOL || c_sub_byte(to) ? call(int_to_narrow(g, from, to)) : cast_to(to);
}

static Form compare_form(ExprKind op, DType t) {
    int arg = t == BOOL ? P_POSTFIX : P_ADD;
    switch (op) {
    case E_EQ: return infix(" == ", P_EQ, arg, NULL);
    case E_NE: return infix(" != ", P_EQ, arg, NULL);
    case E_LT: return infix(" < ", P_REL, arg, NULL);
    default: return infix(" <= ", P_REL, arg, NULL);
    }
}

static Form bool_form(Gen *g, ExprKind op) {
    switch (op) {
    case E_AND: return infix(" && ", P_AND, P_EQ, NULL);
    case E_OR: return infix(" || ", P_OR, P_EQ, NULL);
    case E_XOR: return infix(" != ", P_EQ, P_POSTFIX, NULL);
    case E_NOT: return (Form){'p', "!", P_UNARY, P_UNARY, NULL};
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE: return compare_form(op, BOOL);
    default: gd_bug(g->c, "C: no %s on bool", op_word(op));
    }
}

/* What needs no function on integers: C computes in int or wider, the cast takes the low bits. */
static bool direct(ExprKind op, DType t) {
    bool narrow = gd_dtypes[t].bytes < 4, is_signed = gd_dtypes[t].kind == DK_INT;
    if (c_sub_byte(t)) return op == E_AND || op == E_OR || op == E_XOR;
    switch (op) {
    case E_AND:
    case E_OR:
    case E_XOR:
    case E_NOT: return true;
    case E_ADD:
    case E_SUB: return narrow || !is_signed;
    case E_MUL: return !is_signed ? t != U16 : narrow;
    case E_NEG: return narrow && is_signed;
    default: return false;
    }
}

static Form int_form(Gen *g, ExprKind op, DType t) {
    const char *cast = gd_dtypes[t].bytes < 4 ? c_elem(t) : NULL;
    if (op == E_FLOOR || op == E_CEIL || op == E_TRUNC || op == E_RINT) return operand;
    if (op == E_EQ || op == E_NE || op == E_LT || op == E_LE) return compare_form(op, t);
    if (gd_dtypes[t].kind == DK_UINT) { /* flooring is truncating */
        if (op == E_ABS) return operand;
        op = op == E_FDIV ? E_DIV : op == E_FMOD ? E_REM : op;
    }
    if (!direct(op, t)) return call(op_function(g, op, t));
    switch (op) {
    case E_ADD: return infix(" + ", P_ADD, P_ADD, cast);
    case E_SUB: return infix(" - ", P_ADD, P_ADD, cast);
    case E_MUL: return infix(" * ", P_MUL, P_MUL, cast);
    case E_AND: return infix(" & ", P_BITAND, P_UNARY, cast);
    case E_OR: return infix(" | ", P_BITOR, P_UNARY, cast);
    case E_XOR: return infix(" ^ ", P_BITXOR, P_UNARY, cast);
    default: return (Form){'p', op == E_NOT ? "~" : "-", P_UNARY, P_UNARY, cast};
    }
}

static Form float_form(Gen *g, ExprKind op, DType t) {
    switch (op) {
    case E_ADD: return infix(" + ", P_ADD, P_ADD, NULL);
    case E_SUB: return infix(" - ", P_ADD, P_ADD, NULL);
    case E_MUL: return infix(" * ", P_MUL, P_MUL, NULL);
    case E_DIV: return infix(" / ", P_MUL, P_MUL, NULL);
    case E_NEG: return (Form){'p', "-", P_UNARY, P_POSTFIX, NULL};
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE: return compare_form(op, t);
    default: return call(op_function(g, op, t));
    }
}

Form scalar_form(Gen *g, ExprKind op, DType arg, DType res) {
    if (op == E_SELECT)
        return (Form){'t', NULL, P_COND, P_COND + 1,
                      !dt_float(res) && res != BOOL && gd_dtypes[res].bytes < 4 ? c_elem(res) : NULL};
    if (op == E_CAST) return cast_form(g, arg, res);
    if (op == E_BITS) return bits_form(g, arg, res);
    if (arg == BOOL) return bool_form(g, op);
    if (dt_float(arg)) return float_form(g, op, arg);
    if (dt_small(arg) && (op == E_EQ || op == E_NE || op == E_LT || op == E_LE))
        return compare_form(op, arg); /* of codes */
    if (!dt_int(arg)) gd_bug(g->c, "C: no %s on %s", op_word(op), gd_dtypes[arg].name);
    return int_form(g, op, arg);
}

void put_form(Text *t, const Form *f, int n, const char *const *args) {
    if (f->cast) text_printf(t, "(%s)(", f->cast);
    switch (f->kind) {
    case '=': text_put(t, args[0]); break;
    case 'i': text_printf(t, "%s%s%s", args[0], f->text, args[1]); break;
    case 'p': text_printf(t, "%s%s", f->text, args[0]); break;
    case 'k': text_printf(t, "(%s)%s", f->text, args[0]); break;
    case 'z': text_printf(t, "%s != %s", args[0], f->text); break;
    case 't': text_printf(t, "%s ? %s : %s", args[0], args[1], args[2]); break;
    default:
        text_printf(t, "%s(", f->text);
        for (int i = 0; i < n; i++) text_printf(t, "%s%s", i ? ", " : "", args[i]);
        text_put(t, ")");
    }
    if (f->cast) text_put(t, ")");
}

/* a < b ? a : b and a > b ? a : b, so b when either is NaN; max(a, +0). One instruction each. */
const char *scalar_pick(Gen *g, bool lesser, DType t) {
    const char *name = gd_format(g->c, "%s_%s", gd_dtypes[t].name, lesser ? "lesser" : "greater"),
               *types[] = {c_elem(t), c_elem(t)};
    if (!helper_new(g, name)) return name;
    begin_function(g->scalars, c_elem(t), name, 2, types);
    text_printf(g->scalars, "    return a %s b ? a : b;\n}\n", lesser ? "<" : ">");
    return name;
}

const char *scalar_relu(Gen *g, DType t) {
    const char *name = gd_format(g->c, "%s_relu", gd_dtypes[t].name), *type = c_elem(t);
    if (!helper_new(g, name)) return name;
    begin_function(g->scalars, type, name, 1, &type);
    text_put(g->scalars, "    return a <= 0 ? 0 : a;\n}\n");
    return name;
}
