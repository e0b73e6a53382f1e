/* Expressions as C text, with no more parentheses than a person would write.

   i64 arithmetic on sizes and loop variables cannot overflow (every size fits memory), so it is printed
   plainly; where the contents of a tensor come in, it wraps as the instruction set says, through a function.
 */
#include "gen.h"

/* ---- plain index arithmetic ---- */

/* Does the data of a tensor decide it? */
static bool from_data(Gen *g, const Expr *e) {
    if (e->kind == E_CONST || e->kind == E_LANE) return false;
    if (e->kind == E_VAR) return e->var->kind == V_LET && e->var->def && from_data(g, e->var->def);
    if (e->kind == E_LOAD || e->kind == E_CAST || e->kind == E_BITS) return true;
    uintptr_t known = (uintptr_t)map_getp(g->data, e);
    if (known) return known == 2;
    bool r = false;
    for (int i = 0; i < e->nargs && !r; i++) r = from_data(g, e->arg[i]);
    map_putp(g->data, e, (void *)(uintptr_t)(r ? 2 : 1));
    return r;
}

static bool never_negative(Gen *g, Expr *e) { return expr_less(g->c, expr_int(g->c, -1), e); }

static bool is_index(const Expr *e) { return e->type.dt == I64 && e->type.lanes == 1; }

static void open(Gen *g, bool paren) {
    if (paren) text_put(g->out, "(");
}
static void close(Gen *g, bool paren) {
    if (paren) text_put(g->out, ")");
}

/* x * -k and -k, as k: what is printed behind a minus. NULL: it is nothing of the kind. */
static Expr *negated(Gen *g, Expr *e) {
    int64_t k;
    if (is_int(e, &k) && k < 0 && k != INT64_MIN) return expr_int(g->c, -k);
    if (e->kind == E_MUL && is_int(e->arg[1], &k) && k < 0 && k != INT64_MIN)
        return k == -1 ? e->arg[0] : expr_mul(g->c, e->arg[0], expr_int(g->c, -k));
    return NULL;
}

static bool put_index(Gen *g, const Expr *e, int prec) {
    Expr *a = e->arg[0], *b = e->nargs > 1 ? e->arg[1] : NULL, *n;
    bool add = prec > P_ADD, mul = prec > P_MUL;
    switch (e->kind) {
    case E_ADD:
        n = negated(g, b);
        open(g, add);
        put_expr(g, a, P_ADD);
        text_put(g->out, n ? " - " : " + ");
        put_expr(g, n ? n : b, P_MUL);
        close(g, add);
        return true;
    case E_SUB:
        open(g, add);
        put_expr(g, a, P_ADD);
        text_put(g->out, " - ");
        put_expr(g, b, P_MUL);
        close(g, add);
        return true;
    case E_NEG:
        open(g, prec > P_UNARY);
        text_put(g->out, "-");
        put_expr(g, a, P_POSTFIX);
        close(g, prec > P_UNARY);
        return true;
    case E_MUL:
        n = is_value(b, -1) ? a : NULL;
        open(g, n ? prec > P_UNARY : mul);
        if (n) text_put(g->out, "-");
        put_expr(g, a, n ? P_POSTFIX : P_MUL);
        if (!n) {
            text_put(g->out, " * ");
            put_expr(g, b, P_UNARY);
        }
        close(g, n ? prec > P_UNARY : mul);
        return true;
    case E_FDIV:
    case E_FMOD:
        if (!never_negative(g, a) || !expr_less(g->c, expr_int(g->c, 0), b)) return false;
        open(g, mul);
        put_expr(g, a, P_MUL);
        text_put(g->out, e->kind == E_FDIV ? " / " : " % ");
        put_expr(g, b, P_UNARY);
        close(g, mul);
        return true;
    default: return false;
    }
}

/* ---- buffers ---- */

bool put_register(Gen *g, Buf *b, Expr *const *index) {
    Buf *root = buf_root(b);
    Reg *r = map_getp(g->uses->regs, root);
    int64_t i;
    if (!r || r->array || !is_int(buf_address(g->c, b, index), &i)) return false;
    text_put(g->out, r->name[i]);
    return true;
}

void put_pointer(Gen *g, Buf *b, Expr *const *index) {
    Expr *at = buf_address(g->c, b, index);
    text_put(g->out, spelling(g, buf_root(b), buf_root(b)->name));
    if (is_value(at, 0)) return;
    text_put(g->out, " + ");
    put_expr(g, at, P_MUL);
}

void put_element(Gen *g, Buf *b, Expr *const *index) {
    text_put(g->out, spelling(g, buf_root(b), buf_root(b)->name));
    text_put(g->out, "[");
    put_expr(g, buf_address(g->c, b, index), P_COND);
    text_put(g->out, "]");
}

static void put_zero(Gen *g, Type t) {
    if (t.lanes > 1) text_printf(g->out, "%s(", vector_splat(g, t));
    put_const(g, g->out, (DType)t.dt, 0, P_COND);
    if (t.lanes > 1) text_put(g->out, ")");
}

/* What may be in memory that only the caller wrote is brought into the type's range. */
static void put_scalar_load(Gen *g, const Expr *e, int prec) {
    DType t = (DType)e->type.dt;
    bool foreign = buf_root(e->buf)->space == SP_IN;
    if (foreign && t == BOOL) {
        open(g, prec > P_BITAND);
        put_element(g, e->buf, e->arg);
        text_put(g->out, " & 1");
        close(g, prec > P_BITAND);
    } else if (foreign && c_sub_byte(t)) {
        Form f = scalar_form(g, E_CAST, t == I4 || t == I2 ? I8 : U8, t);
        text_printf(g->out, "%s(", f.text);
        put_element(g, e->buf, e->arg);
        text_put(g->out, ")");
    } else put_element(g, e->buf, e->arg);
}

static void put_vector_load(Gen *g, const Expr *e, const Expr *count) {
    Type t = e->type;
    if (buf_root(e->buf)->space == SP_REG && buf_root(e->buf)->lanes > 1) {
        put_element(g, e->buf, e->arg);
        return;
    }
    bool wrap = c_sub_byte((DType)t.dt) && buf_root(e->buf)->space == SP_IN;
    Type memory = wrap ? vector(t.dt == I4 || t.dt == I2 ? I8 : U8, t.lanes) : t;
    if (wrap) text_printf(g->out, "%s(", vector_op(g, E_CAST, memory, t));
    text_printf(g->out, "%s(", vector_load(g, memory, count != NULL));
    put_pointer(g, e->buf, e->arg);
    if (count) {
        text_put(g->out, ", ");
        put_expr(g, count, P_COND);
    }
    text_put(g->out, wrap ? "))" : ")");
}

static void put_load(Gen *g, const Expr *e, int prec) {
    const Expr *mask = e->nargs > e->buf->rank ? e->arg[e->buf->rank] : NULL;
    bool guarded = mask && mask->type.dt == BOOL;
    bool narrow = guarded && e->type.lanes == 1 && !dt_float((DType)e->type.dt) && e->type.dt != BOOL &&
                  gd_dtypes[e->type.dt].bytes < 4;
    bool paren = guarded && !narrow && prec > P_COND;
    if (narrow) text_printf(g->out, "(%s)", c_elem((DType)e->type.dt));
    open(g, paren || narrow);
    if (guarded) {
        put_expr(g, mask, P_OR);
        text_put(g->out, " ? ");
        prec = P_COND + 1;
    }
    if (!put_register(g, e->buf, e->arg)) {
        if (e->type.lanes > 1) put_vector_load(g, e, guarded ? NULL : mask);
        else put_scalar_load(g, e, prec);
    }
    if (guarded) {
        text_put(g->out, " : ");
        put_zero(g, e->type.dt == BOOL && e->type.lanes > 1 ? vector(I8, e->type.lanes) : e->type);
    }
    close(g, paren || narrow);
}

/* ---- operators on scalars ---- */

/* A comparison that is decided by the range of the type, or by comparing a thing with itself: compilers warn.
 */
static bool decided(const Expr *e, bool *value) {
    bool equal = e->kind == E_EQ || e->kind == E_NE, order = e->kind == E_LT || e->kind == E_LE;
    if ((!equal && !order) || e->type.lanes > 1) return false;
    DType t = (DType)e->arg[0]->type.dt;
    if (!dt_float(t) && e->arg[0] == e->arg[1]) {
        *value = e->kind == E_EQ || e->kind == E_LE;
        return true;
    }
    if (!dt_int(t) || equal) return false;
    bool is_signed = gd_dtypes[t].kind == DK_INT;
    uint64_t hi = ~0ull >> (64 - c_width(t) + is_signed), lo = is_signed ? 0 - hi - 1 : 0;
    for (int i = 0; i < 2; i++) {
        const Expr *k = e->arg[i];
        bool end = (i == 1) == (e->kind == E_LT); /* x < lo, lo <= x; hi < x, x <= hi */
        if (!is_const(k) || k->bits != (end ? lo : hi)) continue;
        *value = e->kind == E_LE;
        return true;
    }
    return false;
}

/* A float constant c for which max(x, c) is c > x ? c : x, bit for bit: not NaN, and no zero (+0 counts for
   max, where relu takes care of it). */
static const Expr *simple_bound(const Expr *e, const Expr **x) {
    for (int i = 1; i >= 0; i--) {
        const Expr *k = e->arg[i];
        if (!is_const(k) || !dt_float((DType)k->type.dt)) continue;
        double v = gd_to_double((DType)k->type.dt, k->bits);
        if (v != v || (v == 0 && (e->kind == E_MIN || k->bits != 0))) continue;
        *x = e->arg[1 - i];
        return k;
    }
    return NULL;
}

/* a < b ? a : b, and a < b ? b : a, of floats. */
static bool put_picked(Gen *g, const Expr *e) {
    if (e->kind != E_SELECT || e->arg[0]->kind != E_LT || !type_eq(e->arg[0]->arg[0]->type, e->type))
        return false;
    const Expr *a = e->arg[0]->arg[0], *b = e->arg[0]->arg[1];
    bool lesser = e->arg[1] == a && e->arg[2] == b, greater = e->arg[1] == b && e->arg[2] == a;
    if (!dt_float((DType)e->type.dt) || (!lesser && !greater)) return false;
    text_printf(g->out, "%s(",
                e->type.lanes > 1 ? vector_pick(g, lesser, e->type)
                                  : scalar_pick(g, lesser, (DType)e->type.dt));
    put_expr(g, e->arg[1], P_COND);
    text_put(g->out, ", ");
    put_expr(g, e->arg[2], P_COND);
    text_put(g->out, ")");
    return true;
}

static bool put_bounded(Gen *g, const Expr *e) {
    if (put_picked(g, e)) return true;
    const Expr *x, *k = (e->kind == E_MIN || e->kind == E_MAX) ? simple_bound(e, &x) : NULL;
    if (!k) return false;
    bool relu = e->kind == E_MAX && k->bits == 0, vec = e->type.lanes > 1;
    const char *fn = relu  ? (vec ? vector_relu(g, e->type) : scalar_relu(g, (DType)e->type.dt))
                     : vec ? vector_pick(g, e->kind == E_MIN, e->type)
                           : scalar_pick(g, e->kind == E_MIN, (DType)e->type.dt);
    text_printf(g->out, "%s(", fn);
    if (!relu) {
        put_expr(g, k, P_COND);
        text_put(g->out, ", ");
    }
    put_expr(g, x, P_COND);
    text_put(g->out, ")");
    return true;
}

static void put_operator(Gen *g, const Expr *e, int prec) {
    Form f =
        scalar_form(g, (ExprKind)e->kind, (DType)e->arg[e->kind == E_SELECT]->type.dt, (DType)e->type.dt);
    Text *t = g->out;
    if (f.kind == '=') {
        put_expr(g, e->arg[0], prec);
        return;
    }
    bool paren = f.cast ? prec > P_UNARY : prec > f.prec;
    open(g, paren);
    if (f.cast) text_printf(t, "(%s)(", f.cast);
    switch (f.kind) {
    case 'i':
        put_expr(g, e->arg[0], f.arg);
        text_put(t, f.text);
        put_expr(g, e->arg[1], f.arg == f.prec ? f.prec + 1 : f.arg);
        break;
    case 'p':
    case 'k':
        text_printf(t, f.kind == 'k' ? "(%s)" : "%s", f.text);
        put_expr(g, e->arg[0], f.arg);
        break;
    case 'z':
        put_expr(g, e->arg[0], f.arg);
        text_printf(t, " != %s", f.text);
        break;
    case 't':
        put_expr(g, e->arg[0], P_OR);
        text_put(t, " ? ");
        put_expr(g, e->arg[1], f.arg);
        text_put(t, " : ");
        put_expr(g, e->arg[2], f.arg);
        break;
    default:
        text_printf(t, "%s(", f.text);
        for (int i = 0; i < e->nargs; i++) {
            if (i) text_put(t, ", ");
            put_expr(g, e->arg[i], P_COND);
        }
        text_put(t, ")");
    }
    close(g, f.cast != NULL);
    close(g, paren);
}

/* ---- bools of arithmetic, casts of small floats: as other instructions ---- */

/* Arithmetic on bools is arithmetic on one bit. */
static Expr *bool_logic(Ctx *c, const Expr *e) {
    Expr *a = e->arg[0], *b = e->nargs > 1 ? e->arg[1] : NULL;
    switch (e->kind) {
    case E_ADD:
    case E_SUB: return expr2(c, E_XOR, a, b);
    case E_MUL:
    case E_DIV:
    case E_FDIV:
    case E_MIN: return expr2(c, E_AND, a, b);
    case E_MAX: return expr2(c, E_OR, a, b);
    case E_REM:
    case E_FMOD: return expr2(c, E_AND, a, expr1(c, E_NOT, a));
    case E_SHL:
    case E_SHR: return expr2(c, E_AND, a, expr1(c, E_NOT, b));
    case E_FMA: return expr2(c, E_XOR, expr2(c, E_AND, a, b), e->arg[2]);
    case E_NEG:
    case E_ABS:
    case E_FLOOR:
    case E_CEIL:
    case E_TRUNC:
    case E_RINT: return a;
    default: return NULL;
    }
}

/* Small floats are cast by way of f32. */
static Expr *two_casts(Ctx *c, const Expr *e) {
    if (e->kind != E_CAST) return NULL;
    DType from = (DType)e->arg[0]->type.dt, to = (DType)e->type.dt;
    if (from == to || from == F32 || to == F32) return NULL;
    if (!dt_small(from) && !(dt_small(to) && from != F64)) return NULL;
    return expr_cast(c, expr_cast(c, e->arg[0], F32), to);
}

static Expr *same_as(Gen *g, const Expr *e) {
    Ctx *c = g->c;
    if (e->nargs && e->kind != E_LOAD && e->kind != E_SELECT && e->kind != E_CAST && e->kind != E_BITS &&
        e->kind != E_SPLAT && e->arg[0]->type.dt == BOOL)
        return bool_logic(c, e);
    if (e->kind == E_CAST && dt_small((DType)e->type.dt) && e->arg[0]->type.dt == BOOL)
        return two_casts(c, e);
    if ((e->kind == E_CAST || e->kind == E_BITS) && e->arg[0]->type.dt == BOOL && e->type.lanes > 1 &&
        e->type.dt != BOOL)
        return expr_select(
            c, e->arg[0],
            expr_const(c, e->type, dt_float((DType)e->type.dt) ? gd_to_bits((DType)e->type.dt, 1) : 1),
            expr_const(c, e->type, 0));
    return two_casts(c, e);
}

/* ---- vectors ---- */

int mask_width(Gen *g, const Expr *e) {
    switch (e->kind) {
    case E_CONST:
    case E_SPLAT: return 0;
    case E_VAR: return (int)(uintptr_t)map_getp(g->widths, e->var);
    case E_LOAD: return buf_root(e->buf)->space == SP_REG && buf_root(e->buf)->lanes > 1 ? 4 : 1;
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE:
    case E_ISNAN:
    case E_CAST:
        if (e->arg[0]->type.dt != BOOL) return gd_dtypes[e->arg[0]->type.dt].bytes;
        break;
    case E_BITS: return gd_dtypes[e->arg[0]->type.dt].bytes;
    default: break;
    }
    for (int i = e->kind == E_SELECT; i < e->nargs; i++) {
        int w = mask_width(g, e->arg[i]);
        if (w) return w;
    }
    return 0;
}

static void put_mask_call(Gen *g, const char *fn, const Expr *e, int width) {
    text_printf(g->out, "%s(", fn);
    for (int i = 0; i < e->nargs; i++) {
        if (i) text_put(g->out, ", ");
        put_mask(g, e->arg[i], width);
    }
    text_put(g->out, ")");
}

static void put_compare(Gen *g, const Expr *e) {
    Type t = e->arg[0]->type;
    text_printf(g->out, "%s(", vector_op(g, (ExprKind)e->kind, t, t));
    for (int i = 0; i < e->nargs; i++) {
        if (i) text_put(g->out, ", ");
        put_expr(g, e->arg[i], P_COND);
    }
    text_put(g->out, ")");
}

/* A comparison of bools: == is not xor, and so on. */
static Expr *bool_compare(Ctx *c, const Expr *e) {
    Expr *a = e->arg[0], *b = e->arg[1];
    switch (e->kind) {
    case E_EQ: return expr1(c, E_NOT, expr2(c, E_XOR, a, b));
    case E_NE: return expr2(c, E_XOR, a, b);
    case E_LT: return expr2(c, E_AND, expr1(c, E_NOT, a), b);
    default: return expr2(c, E_OR, expr1(c, E_NOT, a), b);
    }
}

static void put_own_mask(Gen *g, const Expr *e, int width) {
    Ctx *c = g->c;
    Type m = vector(mask_dtype(width), e->type.lanes);
    Expr *same = same_as(g, e);
    if (same) {
        put_mask(g, same, width);
        return;
    }
    switch (e->kind) {
    case E_CONST: text_printf(g->out, "%s(%s)", vector_splat(g, m), e->bits ? "-1" : "0"); return;
    case E_SPLAT:
        text_printf(g->out, "%s(", vector_splat(g, m));
        put_expr(g, e->arg[0], P_OR);
        text_put(g->out, " ? -1 : 0)");
        return;
    case E_VAR: text_put(g->out, spelling(g, e->var, e->var->name)); return;
    case E_LOAD: put_load(g, e, P_COND); return;
    case E_EQ:
    case E_NE:
    case E_LT:
    case E_LE:
    case E_ISNAN:
        if (e->arg[0]->type.dt == BOOL) put_mask(g, bool_compare(c, e), width);
        else put_compare(g, e);
        return;
    case E_CAST: put_compare(g, expr2(c, E_NE, e->arg[0], expr_const(c, e->arg[0]->type, 0))); return;
    case E_BITS: {
        Expr *one = expr_const(c, e->arg[0]->type, 1);
        put_compare(g, expr2(c, E_EQ, expr2(c, E_AND, e->arg[0], one), one));
        return;
    }
    case E_SELECT:
        if (e->arg[0]->type.lanes > 1) {
            put_mask_call(g, vector_op(g, E_SELECT, m, m), e, width);
            return;
        }
        text_put(g->out, "(");
        put_expr(g, e->arg[0], P_OR);
        text_put(g->out, " ? ");
        put_mask(g, e->arg[1], width);
        text_put(g->out, " : ");
        put_mask(g, e->arg[2], width);
        text_put(g->out, ")");
        return;
    default: put_mask_call(g, vector_op(g, (ExprKind)e->kind, m, m), e, width);
    }
}

void put_mask(Gen *g, const Expr *e, int width) {
    int own = mask_width(g, e);
    if (own && own != width) {
        int n = e->type.lanes;
        text_printf(g->out, "%s(",
                    vector_op(g, E_CAST, vector(mask_dtype(own), n), vector(mask_dtype(width), n)));
        put_own_mask(g, e, own);
        text_put(g->out, ")");
    } else put_own_mask(g, e, width);
}

/* As deep as expressions are; an operation whose first operand is one looks no further. */
int logic_depth(Gen *g, const Expr *e) {
    if (e->type.dt == BOOL || gd_dtypes[e->type.dt].bytes < 4) return 0;
    switch (e->kind) {
    case E_ADD: /* of bits that lie apart compilers make a | b */
    case E_SUB:
        if (!dt_int((DType)e->type.dt)) return 0;
        /* fall through */
    case E_AND:
    case E_OR:
    case E_XOR: return logic_depth(g, e->arg[0]) || logic_depth(g, e->arg[1]) ? 2 : 1;
    case E_NOT:
    case E_BITS: return logic_depth(g, e->arg[0]);
    case E_VAR: return (int)(uintptr_t)map_getp(g->logic, e->var);
    case E_LOAD: return dt_int((DType)e->type.dt) && buf_root(e->buf)->space == SP_REG ? 2 : 0;
    default: return 0;
    }
}

/* Should operand i be kept from what uses it (vector_keep)? Integers from selections; floats that are made by
   logic from everything, as here compilers also see through x * 1 and the like. */
static bool keeps_apart(Gen *g, const Expr *e, int i) {
    if (e->kind == E_BITS ? !dt_float((DType)e->type.dt) : e->kind != E_SELECT || !i) return false;
    return dt_int((DType)e->arg[i]->type.dt) && logic_depth(g, e->arg[i]) > 1;
}

static void put_vector(Gen *g, const Expr *e) {
    Text *t = g->out;
    Type type = e->type, arg = e->nargs ? e->arg[e->kind == E_SELECT]->type : type;
    DType dt = (DType)type.dt;
    bool rounds = e->kind == E_FLOOR || e->kind == E_CEIL || e->kind == E_TRUNC || e->kind == E_RINT;
    if ((dt_int(dt) && rounds) || (e->kind == E_ABS && gd_dtypes[dt].kind == DK_UINT) ||
        (e->kind == E_CAST && type_eq(type, arg))) {
        put_expr(g, e->arg[0], P_COND);
        return;
    }
    if (put_bounded(g, e)) return;
    bool scalar_cond = e->kind == E_SELECT && e->arg[0]->type.lanes == 1;
    if (scalar_cond) text_put(t, "(");
    else
        text_printf(t, "%s(",
                    e->kind == E_SPLAT                           ? vector_splat(g, type)
                    : e->kind == E_ZIP_LO || e->kind == E_ZIP_HI ? vector_zip(g, e->kind == E_ZIP_HI, type)
                                                                 : vector_op(g, (ExprKind)e->kind, arg, type));
    for (int i = 0; i < e->nargs; i++) {
        if (i) text_put(t, !scalar_cond ? ", " : i == 1 ? " ? " : " : ");
        if (e->kind == E_SELECT && !i && !scalar_cond) put_mask(g, e->arg[0], gd_dtypes[dt].bytes);
        else if (keeps_apart(g, e, i)) {
            text_printf(t, "%s(", vector_keep(g, e->arg[i]->type));
            put_expr(g, e->arg[i], P_COND);
            text_put(t, ")");
        } else put_expr(g, e->arg[i], scalar_cond ? P_OR : P_COND);
    }
    text_put(t, ")");
}

/* ---- all of them ---- */

void put_expr(Gen *g, const Expr *e, int prec) {
    bool value;
    Expr *same;
    if (e->type.lanes > 1 && e->type.dt == BOOL) {
        put_mask(g, e, mask_width(g, e) ? mask_width(g, e) : 4);
        return;
    }
    switch (e->kind) {
    case E_CONST:
        if (e->type.lanes == 1) {
            put_const(g, g->out, (DType)e->type.dt, e->bits, prec);
            return;
        }
        text_printf(g->out, "%s(", vector_splat(g, e->type));
        put_const(g, g->out, (DType)e->type.dt, e->bits, P_COND);
        text_put(g->out, ")");
        return;
    case E_VAR: text_put(g->out, spelling(g, e->var, e->var->name)); return;
    case E_LOAD: put_load(g, e, prec); return;
    case E_LANE: text_printf(g->out, "%s()", vector_lane(g, e->type)); return;
    case E_CALL: gd_bug(g->c, "C: %s was not expanded", gd_math_name(e->call));
    default: break;
    }
    if ((same = same_as(g, e))) {
        put_expr(g, same, prec);
        return;
    }
    if (e->type.lanes > 1) {
        put_vector(g, e);
        return;
    }
    if (decided(e, &value)) {
        text_put(g->out, value ? "true" : "false");
        return;
    }
    if (is_index(e) && !from_data(g, e) && put_index(g, e, prec)) return;
    if (put_bounded(g, e)) return;
    put_operator(g, e, prec);
}

/* A size that is not negative, from above, with every step of its computation below it too. */
bool put_double(Gen *g, const Expr *e) {
    Text *t = g->out;
    int64_t k;
    switch (e->kind) {
    case E_CONST: text_printf(t, "%.1f", is_int(e, &k) ? k < 0 ? -(double)k : (double)k : 0.0); return true;
    case E_VAR: text_printf(t, "(double)%s", spelling(g, e->var, e->var->name)); return true;
    case E_ADD:
    case E_SUB:
    case E_MAX:
    case E_SELECT:
    case E_MUL:
    case E_MIN:
        text_put(t, "(");
        if (!put_double(g, e->arg[e->kind == E_SELECT])) return false;
        text_put(t, e->kind == E_MUL ? " * " : " + ");
        if (!put_double(g, e->arg[1 + (e->kind == E_SELECT)])) return false;
        text_put(t, ")");
        return true;
    case E_FDIV:
    case E_DIV:
    case E_FMOD:
    case E_REM: return put_double(g, e->arg[0]);
    default: return false;
    }
}
