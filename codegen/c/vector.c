/* Vectors as C text, in two versions side by side: GCC's and Clang's vector extensions, and structures with
   loops for any other C99 compiler. Both give the same bits. No instruction set is needed: what the machine
   has no instruction for, the compilers split. Where they would not find an instruction by themselves (fma,
   rounding, minimum, masked memory), wide.c asks for it, still without the intrinsics' header, which takes
   longer to read than most models.

   A vector of bools is a vector of integers, 0 and -1, as wide as what was compared; masks of other widths
   are converted.

   Templates: $v the vector's type, $u the same as unsigned integers, $m as signed ones, $n its name, $W a
   vector of the element's width, $V of the width minus one. */
#include "gen.h"

typedef struct Row {
    ExprKind op;
    const char *text;
} Row;

#define SIGN "($u)-($v){0}"
static const Row float_rows[] = {
    {E_ADD, "a + b"},
    {E_SUB, "a - b"},
    {E_MUL, "a * b"},
    {E_DIV, "a / b"},
    {E_NEG, "-a"},
    {E_ABS, "($v)(($u)a & ~" SIGN ")"},
    {E_COPYSIGN, "$n_keep(($v)((($u)a & ~" SIGN ") | (($u)b & " SIGN ")))"},
    {E_MIN, "($v)(($u)$n_lesser(a, b) | ($u)$n_lesser(b, a))"}, /* NaN | x is NaN, -0 | +0 is -0 */
    {E_ISNAN, "($m)(a != a)"},
};
static const Row int_rows[] = {
    {E_ADD, "($v)(($u)a + ($u)b)"},
    {E_SUB, "($v)(($u)a - ($u)b)"},
    {E_MUL, "($v)(($u)a * ($u)b)"},
    {E_FMA, "($v)(($u)a * ($u)b + ($u)c)"},
    {E_NEG, "($v)-($u)a"},
    {E_NOT, "~a"},
    {E_ABS, "($v)((($u)a ^ ($u)(a < ($v){0})) - ($u)(a < ($v){0}))"},
    {E_SHL, "($v)((($u)a << (($u)b & $V)) & ($u)(($u)b < $W))"},
};
static const Row unsigned_rows[] = {{E_SHR, "(a >> (b & $V)) & ($v)(b < $W)"}};
static const Row signed_rows[] = {{E_SHR, "a >> ($v)($n_select(($m)(($u)b < $W), b, ($v)$V))"}};
static const Row any_rows[] = {
    {E_AND, "a & b"},
    {E_OR, "a | b"},
    {E_XOR, "a ^ b"},
    {E_EQ, "($m)(a == b)"},
    {E_NE, "($m)(a != b)"},
    {E_LT, "($m)(a < b)"},
    {E_LE, "($m)(a <= b)"},
    /* The sum of two disjoint sets of bits: GCC rewrites their union into three operations, this into a
       blend. */
    {E_SELECT, "($v)((($u)a & ($u)m) + (($u)b & ~($u)m))"},
    {E_MIN, "$n_select(($m)(a < b), a, b)"},
    {E_MAX, "$n_select(($m)(a < b), b, a)"},
};

static const char *find(const Row *r, size_t n, ExprKind op) {
    for (; n--; r++)
        if (r->op == op) return r->text;
    return NULL;
}
#define FIND(rows, op) find(rows, sizeof rows / sizeof *rows, op)

static const char *gnu_text(DType t, ExprKind op) {
    const char *any = FIND(any_rows, op);
    if (dt_float(t)) {
        const char *s = FIND(float_rows, op);
        return s ? s : any;
    }
    if (any) return any;
    if (c_sub_byte(t) || dt_small(t)) return NULL;
    const char *s = FIND(int_rows, op);
    if (s) return s;
    return gd_dtypes[t].kind == DK_INT ? FIND(signed_rows, op) : FIND(unsigned_rows, op);
}

static DType unsigned_of(DType t) {
    int n = gd_dtypes[t].bytes;
    return n == 1 ? U8 : n == 2 ? U16 : n == 4 ? U32 : U64;
}

void need_vector(Gen *g, Type t) {
    const char *name = type_text(g, t);
    if (!helper_new(g, name)) return;
    text_printf(g->gnu, "typedef %s %s __attribute__((vector_size(%d)));\n", c_elem((DType)t.dt), name,
                t.lanes * gd_dtypes[t.dt].bytes);
    text_printf(g->plain, "typedef struct { %s e[%d]; } %s;\n", c_elem((DType)t.dt), t.lanes, name);
}

/* ---- bodies ---- */

static void signature(Text *t, const char *result, const char *name, int n, const char *const *types,
                      const char *args) {
    text_printf(t, "INLINE %s %s(", result, name);
    for (int i = 0; i < n; i++)
        text_printf(t, "%s%s%s%c", i ? ", " : "", types[i], types[i][strlen(types[i]) - 1] == '*' ? "" : " ",
                    args[i]);
    text_put(t, ") {\n");
}

/* r[i] = op(a[i], b[i], c[i]); select takes m, a, b. */
void put_lanes(Gen *g, Text *to, ExprKind op, Type arg, Type res, int arity, const char *result) {
    static const char *const abc[] = {"LANE(a, i)", "LANE(b, i)", "LANE(c, i)"}, *const mab[] = {
                                                                                     "LANE(m, i)",
                                                                                     "LANE(a, i)",
                                                                                     "LANE(b, i)"};
    Form f = scalar_form(g, op, (DType)arg.dt, (DType)res.dt);
    text_printf(to, "    %s r = {0};\n    for (int i = 0; i < %d; i++) LANE(r, i) = ", result, arg.lanes);
    put_form(to, &f, arity, op == E_SELECT ? mab : abc);
    text_put(to, res.dt == BOOL ? " ? -1 : 0;\n    return r;\n}\n" : ";\n    return r;\n}\n");
}

static void put_gnu(Gen *g, Text *to, const char *text, Type t) {
    const char *name = type_text(g, t), *width = "", *most = "", *u = "", *m = "";
    if (strstr(text, "$u")) u = c_type(g, vector(unsigned_of((DType)t.dt), t.lanes));
    if (strstr(text, "$m")) m = c_mask(g, t.lanes, gd_dtypes[t.dt].bytes);
    if (strstr(text, "$W")) {
        const char *splat = vector_splat(g, vector(unsigned_of((DType)t.dt), t.lanes));
        width = gd_format(g->c, "%s(%d)", splat, c_width((DType)t.dt));
        most = gd_format(g->c, "%s(%d)", splat, c_width((DType)t.dt) - 1);
    }
    const char *v[] = {c_type(g, t), u, m, name, width, most};
    text_put(to, "    return ");
    put_template(to, text, "vumnWV", v);
    text_put(to, ";\n}\n");
}

static bool is_compare(ExprKind op) {
    return op == E_EQ || op == E_NE || op == E_LT || op == E_LE || op == E_ISNAN;
}
static bool is_wide(ExprKind op) {
    return op == E_FMA || op == E_SQRT || op == E_FLOOR || op == E_CEIL || op == E_TRUNC || op == E_RINT;
}

static int arity_of(ExprKind op) {
    static const uint8_t n[E_KINDS] = {
#define O(NAME, text, arity, result, form) [E_##NAME] = arity,
#include "scalar.def"
#undef O
    };
    return n[op];
}

/* NaN if one is NaN; +0 if one is. Each compiler has the instructions it makes of one form only. */
static void put_max(Gen *g, Text *to, Type t) {
    const char *n = type_text(g, t), *v = c_type(g, t),
               *u = c_type(g, vector(unsigned_of((DType)t.dt), t.lanes));
    text_printf(to,
                "#if defined(__clang__)\n    return (%s)(((%s)%s_greater(a, b) & (%s)%s_greater(b, a)) | "
                "(%s)(a != a) | (%s)(b != b));\n",
                v, u, n, u, n, u, u);
    text_printf(to, "#else\n    return -(%s)((%s)%s_lesser(-a, -b) | (%s)%s_lesser(-b, -a));\n#endif\n}\n", v,
                u, n, u, n);
}

static void needs(Gen *g, ExprKind op, Type t) {
    bool is_int = !dt_float((DType)t.dt);
    if (op == E_COPYSIGN) vector_keep(g, t);
    if ((op == E_MIN || op == E_MAX) && !is_int) vector_pick(g, true, t);
    if (op == E_MAX && !is_int) vector_pick(g, false, t);
    if ((op == E_MIN || op == E_MAX || op == E_SHR) && is_int) vector_op(g, E_SELECT, t, t);
}

const char *vector_op(Gen *g, ExprKind op, Type arg, Type res) {
    const char *from = type_text(g, arg), *name;
    if (op == E_CAST) name = gd_format(g->c, "%s_from_%s", type_text(g, res), from);
    else if (op == E_BITS) name = gd_format(g->c, "%s_bits_of_%s", type_text(g, res), from);
    else name = gd_format(g->c, "%s_%s", from, op_word(op));
    if (!helper_new(g, name)) return name;
    const char *a = c_type(g, arg), *mask = "";
    if (is_compare(op) || op == E_SELECT) mask = c_mask(g, arg.lanes, gd_dtypes[arg.dt].bytes);
    const char *result = is_compare(op) ? mask : c_type(g, res), *types[] = {op == E_SELECT ? mask : a, a, a};
    Text *gnu = text_new(g->c), *plain = text_new(g->c);
    int n = arity_of(op);
    signature(gnu, result, name, n, types, op == E_SELECT ? "mab" : "abc");
    signature(plain, result, name, n, types, op == E_SELECT ? "mab" : "abc");
    needs(g, op, arg);
    if (is_compare(op)) res.dt = BOOL;
    const char *text = gnu_text((DType)arg.dt, op);
    if (op == E_CAST) vector_cast(g, arg, res, gnu);
    else if (op == E_BITS && !c_sub_byte((DType)res.dt)) text_printf(gnu, "    return (%s)a;\n}\n", result);
    else if (dt_float((DType)arg.dt) && is_wide(op)) vector_wide(g, op, arg, gnu);
    else if (op == E_MAX && dt_float((DType)arg.dt)) put_max(g, gnu, arg);
    else if (text) put_gnu(g, gnu, text, arg);
    else put_lanes(g, gnu, op, arg, res, n, result);
    put_lanes(g, plain, op, arg, res, n, result);
    text_putn(g->gnu, gnu->s, gnu->n);
    text_putn(g->plain, plain->s, plain->n);
    return name;
}

/* ---- what is no instruction of the loop IR ---- */

const char *vector_splat(Gen *g, Type t) {
    const char *name = gd_format(g->c, "%s_splat", type_text(g, t));
    if (!helper_new(g, name)) return name;
    const char *v = c_type(g, t), *e = c_elem((DType)t.dt);
    signature(g->gnu, v, name, 1, &e, "a");
    text_printf(g->gnu, "    return (%s){", v);
    for (int i = 0; i < t.lanes; i++) text_put(g->gnu, i ? ", a" : "a");
    text_put(g->gnu, "};\n}\n");
    signature(g->plain, v, name, 1, &e, "a");
    text_printf(g->plain, "    %s r = {0};\n    for (int i = 0; i < %d; i++) r.e[i] = a;\n    return r;\n}\n",
                v, t.lanes);
    return name;
}

const char *vector_lane(Gen *g, Type t) {
    const char *name = gd_format(g->c, "%s_lane", type_text(g, t));
    if (!helper_new(g, name)) return name;
    const char *v = c_type(g, t);
    Text *numbers = text_new(g->c);
    for (int i = 0; i < t.lanes; i++) text_printf(numbers, "%s%d", i ? ", " : "", i);
    text_printf(g->gnu, "INLINE %s %s(void) {\n    return (%s){%s};\n}\n", v, name, v, numbers->s);
    text_printf(g->plain, "INLINE %s %s(void) {\n    const %s r = {{%s}};\n    return r;\n}\n", v, name, v,
                numbers->s);
    return name;
}

const char *vector_zip(Gen *g, bool high, Type t) {
    const char *name = gd_format(g->c, "%s_zip_%s", type_text(g, t), high ? "hi" : "lo");
    if (!helper_new(g, name)) return name;
    const char *v = c_type(g, t), *types[] = {v, v}, *m = c_mask(g, t.lanes, gd_dtypes[t.dt].bytes);
    int first = high ? t.lanes / 2 : 0;
    Text *numbers = text_new(g->c);
    for (int i = 0; i < t.lanes; i++)
        text_printf(numbers, "%s%d", i ? ", " : "", (i % 2 ? t.lanes : 0) + first + i / 2);
    signature(g->gnu, v, name, 2, types, "ab");
    text_printf(g->gnu,
                "#if defined(__clang__)\n    return __builtin_shufflevector(a, b, %s);\n"
                "#else\n    return __builtin_shuffle(a, b, (%s){%s});\n#endif\n}\n",
                numbers->s, m, numbers->s);
    signature(g->plain, v, name, 2, types, "ab");
    text_printf(g->plain,
                "    %s r = {0};\n    for (int i = 0; i < %d; i++) r.e[i] = i %% 2 ? b.e[%d + i / 2] : a.e[%d + i / "
                "2];\n    return r;\n}\n",
                v, t.lanes, first, first);
    return name;
}

/* a < b ? a : b as one instruction, a register at a time: GCC does not see it in a blend; Clang 14 does, and
   takes -0 for +0 when one side is a constant. */
static void put_pick(Gen *g, Text *to, bool lesser, Type t) {
    int bytes = t.lanes * gd_dtypes[t.dt].bytes;
    const char *s = t.dt == F32 ? "ps" : "pd", *word = lesser ? "min" : "max", *v = c_type(g, t);
    bool named = bytes == 64 || bytes == 32 || bytes == 16;
    if (bytes == 64)
        text_printf(
            to,
            "#if defined(__AVX512F__) && defined(__clang__)\n    return __builtin_ia32_%s%s512(a, b, 4);\n"
            "#elif defined(__AVX512F__)\n    return __builtin_ia32_%s%s512_mask(a, b, a, %s, 4);\n#else\n",
            word, s, word, s, t.dt == F32 ? "0xffff" : "0xff");
    else if (named)
        text_printf(to, "#if defined(%s)\n    return __builtin_ia32_%s%s%s(a, b);\n#else\n",
                    bytes == 32 ? "__AVX__" : "__SSE2__", word, s, bytes == 32 ? "256" : "");
    if (bytes > 16) {
        Type h = vector((DType)t.dt, t.lanes / 2);
        const char *fn = vector_pick(g, lesser, h);
        text_printf(to, "    union { %s v; %s h[2]; } x = {a}, y = {b};\n", v, c_type(g, h));
        for (int i = 0; i < 2; i++) text_printf(to, "    x.h[%d] = %s(x.h[%d], y.h[%d]);\n", i, fn, i, i);
        text_put(to, "    return x.v;\n");
    } else {
        const char *select = vector_op(g, E_SELECT, t, t), *mask = c_mask(g, t.lanes, gd_dtypes[t.dt].bytes);
        text_printf(to, "    return %s((%s)(a %s b), a, b);\n", select, mask, lesser ? "<" : ">");
    }
    text_put(to, named ? "#endif\n}\n" : "}\n");
}

const char *vector_pick(Gen *g, bool lesser, Type t) {
    const char *name = gd_format(g->c, "%s_%s", type_text(g, t), lesser ? "lesser" : "greater");
    if (!helper_new(g, name)) return name;
    const char *v = c_type(g, t), *types[] = {v, v};
    Text *gnu = text_new(g->c);
    signature(gnu, v, name, 2, types, "ab");
    put_pick(g, gnu, lesser, t);
    text_putn(g->gnu, gnu->s, gnu->n);
    signature(g->plain, v, name, 2, types, "ab");
    text_printf(
        g->plain,
        "    for (int i = 0; i < %d; i++) a.e[i] = a.e[i] %s b.e[i] ? a.e[i] : b.e[i];\n    return a;\n}\n",
        t.lanes, lesser ? "<" : ">");
    return name;
}

/* max(a, +0): NaN stays, -0 becomes +0. */
const char *vector_relu(Gen *g, Type t) {
    const char *name = gd_format(g->c, "%s_relu", type_text(g, t));
    if (!helper_new(g, name)) return name;
    const char *v = c_type(g, t), *m = c_mask(g, t.lanes, gd_dtypes[t.dt].bytes);
    signature(g->gnu, v, name, 1, &v, "a");
    text_printf(g->gnu, "    return (%s)((%s)a & ~(%s)(a <= (%s){0}));\n}\n", v, m, m, v);
    signature(g->plain, v, name, 1, &v, "a");
    text_printf(g->plain,
                "    for (int i = 0; i < %d; i++) a.e[i] = a.e[i] <= 0 ? 0 : a.e[i];\n    return a;\n}\n",
                t.lanes);
    return name;
}

/* LLVM before version 23 merges (a & k) | (b & ~k) and a selection between that and a into one vpternlog whose
   truth table is of another order of the operands. What went through here is no part of a larger pattern. */
const char *vector_keep(Gen *g, Type t) {
    const char *name = gd_format(g->c, "%s_keep", type_text(g, t));
    if (!helper_new(g, name)) return name;
    int bytes = t.lanes * gd_dtypes[t.dt].bytes;
    const char *v = c_type(g, t);
    Text *gnu = text_new(g->c);
    signature(gnu, v, name, 1, &v, "a");
    text_put(gnu, "#if defined(GRADC_KEEP)\n");
    if (bytes > 64) {
        Type h = vector((DType)t.dt, t.lanes / 2);
        const char *half = vector_keep(g, h);
        text_printf(gnu, "    union { %s v; %s h[2]; } x = {a};\n", v, c_type(g, h));
        text_printf(gnu, "    x.h[0] = %s(x.h[0]);\n    x.h[1] = %s(x.h[1]);\n    a = x.v;\n", half, half);
    } else text_put(gnu, "    __asm__(\"\" : \"+x\"(a));\n");
    text_put(gnu, "#endif\n    return a;\n}\n");
    text_putn(g->gnu, gnu->s, gnu->n);
    text_printf(g->plain, "#define %s(a) (a)\n", name);
    return name;
}

/* ---- memory ---- */

/* The type of unaligned vectors in memory, which may hold any type. */
static const char *at_type(Gen *g, Type t) {
    const char *name = gd_format(g->c, "%s_at", type_text(g, t));
    if (helper_new(g, name))
        text_printf(g->gnu, "typedef %s %s __attribute__((vector_size(%d), aligned(%d), may_alias));\n",
                    c_elem((DType)t.dt), name, t.lanes * gd_dtypes[t.dt].bytes, gd_dtypes[t.dt].bytes);
    return name;
}

/* The first n lanes by an instruction with a mask; false: there is none for this type. */
static bool counted_wide(Gen *g, Type t, bool store, Text *to) {
    int size = gd_dtypes[t.dt].bytes, bytes = size * t.lanes;
    const char *v = c_type(g, t), *f = size == 4 ? "float" : "double", *s = size == 4 ? "ps" : "pd";
    Type ft = vector(size == 4 ? F32 : F64, t.lanes);
    if (size >= 4 && bytes == 64) {
        text_printf(
            to,
            "#if defined(__AVX512F__)\n    const unsigned k = n >= %d ? %s : (1u << (n < 0 ? 0 : n)) - 1u;\n",
            t.lanes, size == 4 ? "0xffffu" : "0xffu");
        const char *mask = size == 4 ? "(unsigned short)k" : "(unsigned char)k", *fv = c_type(g, ft);
        if (store)
            text_printf(to, "    __builtin_ia32_storeu%s512_mask((%s *)(void *)p, (%s)a, %s);\n#else\n", s, f,
                        fv, mask);
        else
            text_printf(to,
                        "    return (%s)__builtin_ia32_loadu%s512_mask((const %s *)(const void *)p, (%s){0}, "
                        "%s);\n#else\n",
                        v, s, f, fv, mask);
        return true;
    }
    if (size == 4 && (bytes == 32 || bytes == 16)) {
        const char *wide = bytes == 32 ? "256" : "", *fv = c_type(g, ft), *iv = c_mask(g, t.lanes, 4),
                   *lane = vector_lane(g, vector(I32, t.lanes));
        const char *splat = vector_splat(g, vector(I32, t.lanes));
        text_printf(to,
                    "#if defined(__AVX__)\n    const %s k = (%s)(%s() < %s((int32_t)(n < 0 ? 0 : n < %d ? n "
                    ": %d)));\n",
                    iv, iv, lane, splat, t.lanes, t.lanes);
        if (store)
            text_printf(to, "    __builtin_ia32_maskstoreps%s((%s *)(void *)p, k, (%s)a);\n#else\n", wide, fv,
                        fv);
        else
            text_printf(
                to, "    return (%s)__builtin_ia32_maskloadps%s((const %s *)(const void *)p, k);\n#else\n", v,
                wide, fv);
        return true;
    }
    return false;
}

/* Bools are bytes 0 and 1 in memory, 0 and -1 in a vector. */
const char *vector_load(Gen *g, Type t, bool counted) {
    const char *name = gd_format(g->c, "%s_load%s", type_text(g, t), counted ? "_n" : "");
    if (!helper_new(g, name)) return name;
    bool truth = t.dt == BOOL;
    Type st = truth ? vector(I8, t.lanes) : t;
    const char *v = c_type(g, st), *at = counted || truth ? NULL : at_type(g, t);
    const char *types[] = {gd_format(g->c, "const %s *", c_elem((DType)t.dt)), "int64_t"};
    const char *value = truth ? "(int8_t)-(p[i] & 1)" : "p[i]";
    for (int plain = 0; plain < 2; plain++) {
        Text *to = text_new(g->c), *all = plain ? g->plain : g->gnu;
        signature(to, v, name, counted ? 2 : 1, types, "pn");
        bool wide = !plain && counted && !truth && counted_wide(g, t, false, to);
        if (!plain && at) text_printf(to, "    return *(const %s *)p;\n}\n", at);
        else
            text_printf(
                to,
                "    %s r = {0};\n    for (int i = 0; i < %d%s; i++) LANE(r, i) = %s;\n    return r;\n%s}\n",
                v, t.lanes, counted ? " && i < n" : "", value, wide ? "#endif\n" : "");
        text_putn(all, to->s, to->n);
    }
    return name;
}

const char *vector_store(Gen *g, Type t, bool counted) {
    const char *name = gd_format(g->c, "%s_store%s", type_text(g, t), counted ? "_n" : "");
    if (!helper_new(g, name)) return name;
    bool truth = t.dt == BOOL;
    Type st = truth ? vector(I8, t.lanes) : t;
    const char *v = c_type(g, st), *at = counted || truth ? NULL : at_type(g, t),
               *e = gd_format(g->c, "%s *", c_elem((DType)t.dt));
    const char *types[] = {e, counted ? "int64_t" : v, v};
    const char *value = truth ? "LANE(a, i) & 1" : "LANE(a, i)";
    for (int plain = 0; plain < 2; plain++) {
        Text *to = text_new(g->c), *all = plain ? g->plain : g->gnu;
        signature(to, "void", name, counted ? 3 : 2, types, counted ? "pna" : "pa");
        bool wide = !plain && counted && !truth && counted_wide(g, t, true, to);
        if (!plain && at) text_printf(to, "    *(%s *)p = a;\n}\n", at);
        else
            text_printf(to, "    for (int i = 0; i < %d%s; i++) p[i] = %s%s;\n%s}\n", t.lanes,
                        counted ? " && i < n" : "", truth ? "(uint8_t)" : "",
                        truth ? "(LANE(a, i) & 1)" : value, wide ? "#endif\n" : "");
        text_putn(all, to->s, to->n);
    }
    return name;
}
