/* The formula language: the reader, which knows only syntax (formula.h), and its algebra of expressions,
   gd_formula.

   Reading is recursive descent with one precedence table. Each step consumes text, nesting is counted, so it
   ends. */
#include "formula.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { MAX_DEPTH = 200, MAX_ARGS = 32, MAX_NAMES = 16 };

struct Formula {
    Ctx *c;
    const char *text, *at;
    const Algebra *a;
    void *self;
    Map *bound;
    int depth;
};

/* Binary operators by level, loosest first; a longer spelling stands before its prefix. */
static const struct {
    const char *text;
    int level;
} ops[FORMULA_OPS] = {
    [FO_OROR] = {"||", 1}, [FO_ANDAND] = {"&&", 2}, [FO_OR] = {"|", 3},  [FO_XOR] = {"^", 4},
    [FO_AND] = {"&", 5},   [FO_EQ] = {"==", 6},     [FO_NE] = {"!=", 6}, [FO_LT] = {"<", 7},
    [FO_LE] = {"<=", 7},   [FO_GT] = {">", 7},      [FO_GE] = {">=", 7}, [FO_SHL] = {"<<", 8},
    [FO_SHR] = {">>", 8},  [FO_ADD] = {"+", 9},     [FO_SUB] = {"-", 9}, [FO_MUL] = {"*", 10},
    [FO_DIV] = {"/", 10},  [FO_REM] = {"%", 10},    [FO_NEG] = {"-", 0}, [FO_NOT] = {"!", 0},
    [FO_INV] = {"~", 0},   [FO_SELECT] = {"?:", 0}};

const char *gd_formula_op(FormulaOp op) { return ops[op].text; }

void gd_formula_fail(Formula *f, const char *fmt, ...) {
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    gd_bug(f->c, "formula: %s at column %d, before \"%.40s\", of \"%.400s\"", what,
           (int)(f->at - f->text) + 1, f->at, f->text);
}

/* ---- words ---- */

static void space(Formula *f) {
    while (isspace((unsigned char)*f->at)) f->at++;
}
static bool eat(Formula *f, char ch) {
    space(f);
    if (*f->at != ch) return false;
    f->at++;
    return true;
}
static void need(Formula *f, char ch) {
    if (!eat(f, ch)) gd_formula_fail(f, "'%c' is missing", ch);
}
static bool letter(char ch) { return isalnum((unsigned char)ch) || ch == '_'; }
static bool starts_name(Formula *f) {
    space(f);
    return letter(*f->at) && !isdigit((unsigned char)*f->at);
}
static const char *word(Formula *f) {
    const char *start = f->at;
    while (letter(*f->at)) f->at++;
    return gd_strndup(f->c, start, (size_t)(f->at - start));
}

static double to_double(Formula *f, const char *s, size_t n) {
    const char *end, *copy = gd_strndup(f->c, s, n);
    double d = gd_strtod(copy, &end);
    if (*end) gd_formula_fail(f, "malformed number");
    return d;
}

static FormulaNum number(Formula *f) {
    const char *s = f->at;
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X'), whole = true;
    for (f->at += hex ? 2 : 0; letter(*f->at) || *f->at == '.'; f->at++) {
        bool exponent = hex ? *f->at == 'p' || *f->at == 'P' : *f->at == 'e' || *f->at == 'E';
        whole = whole && !exponent && *f->at != '.';
        if (exponent && (f->at[1] == '-' || f->at[1] == '+')) f->at++;
    }
    size_t n = (size_t)(f->at - s);
    FormulaNum num = {.whole = whole};
    if (whole) {
        char *end;
        num.i = strtoull(gd_strndup(f->c, s, n), &end, hex ? 16 : 10);
        if (*end) gd_formula_fail(f, "malformed number");
        num.d = (double)num.i;
    } else num.d = to_double(f, s, n);
    return num;
}

/* ---- grammar ---- */

static void *expression(Formula *f);

static FormulaNum signed_number(Formula *f) {
    bool minus = eat(f, '-');
    space(f);
    if (!isdigit((unsigned char)*f->at)) gd_formula_fail(f, "a number is missing");
    FormulaNum n = number(f);
    return minus ? (FormulaNum){n.whole, 0 - n.i, -n.d} : n;
}

static FormulaKey key_value(Formula *f, const char *key) {
    FormulaKey k = {.key = key};
    VEC(FormulaNum) list = {0};
    if (eat(f, '[')) {
        k.kind = FK_LIST;
        if (!eat(f, ']')) {
            do vec_push(f->c, &list, signed_number(f));
            while (eat(f, ','));
            need(f, ']');
        }
    } else if (eat(f, '"')) {
        const char *end = strchr(f->at, '"');
        if (!end) gd_formula_fail(f, "'\"' is missing");
        k.kind = FK_STRING;
        k.text = gd_strndup(f->c, f->at, (size_t)(end - f->at));
        f->at = end + 1;
    } else if (starts_name(f)) {
        k.kind = FK_NAME;
        k.text = word(f);
    } else vec_push(f->c, &list, signed_number(f)); /* kind is FK_NUM */
    k.num = list.v;
    k.n = list.n;
    return k;
}

/* Is a single '=' (not "==") next? Then it is taken. */
static bool eat_assign(Formula *f) {
    space(f);
    return f->at[0] == '=' && f->at[1] != '=' && eat(f, '=');
}

static void *call(Formula *f, const char *name) {
    void *args[MAX_ARGS];
    FormulaKey keys[MAX_ARGS];
    int n = 0, nkeys = 0;
    if (!eat(f, ')')) {
        do {
            const char *start = f->at, *key = starts_name(f) ? word(f) : NULL;
            if (n == MAX_ARGS || nkeys == MAX_ARGS) gd_formula_fail(f, "too many arguments");
            if (key && eat_assign(f)) keys[nkeys++] = key_value(f, key);
            else {
                f->at = start;
                if (nkeys) gd_formula_fail(f, "an argument without a key stands behind one with a key");
                args[n++] = expression(f);
            }
        } while (eat(f, ','));
        need(f, ')');
    }
    void *v = f->a->call(f, f->self, name, n, args, nkeys, keys);
    if (!v) gd_formula_fail(f, "there is no function %s of these arguments", name);
    return v;
}

static void *operand(Formula *f) {
    if (eat(f, '(')) {
        void *v = expression(f);
        need(f, ')');
        return v;
    }
    FormulaOp prefix = eat(f, '-') ? FO_NEG : eat(f, '!') ? FO_NOT : eat(f, '~') ? FO_INV : FORMULA_OPS;
    if (prefix != FORMULA_OPS) {
        if (++f->depth > MAX_DEPTH) gd_formula_fail(f, "nested too deeply");
        void *v = operand(f);
        f->depth--;
        return f->a->op(f, f->self, prefix, 1, &v);
    }
    if (isdigit((unsigned char)*f->at)) return f->a->literal(f, f->self, number(f));
    if (!starts_name(f)) gd_formula_fail(f, "a value is missing");
    const char *name = word(f);
    if (eat(f, '(')) return call(f, name);
    void *v = map_gets(f->bound, name);
    if (!v) v = f->a->name(f, f->self, name);
    if (!v) gd_formula_fail(f, "%s is not known", name);
    return v;
}

/* The binary operator that comes next, if its level is at least this one. */
static FormulaOp next_op(Formula *f, int level) {
    FormulaOp best = FORMULA_OPS;
    size_t length = 0;
    space(f);
    for (int i = FO_OROR; i <= FO_REM; i++) {
        size_t n = strlen(ops[i].text);
        if (n > length && !strncmp(f->at, ops[i].text, n)) {
            best = (FormulaOp)i;
            length = n;
        }
    }
    if (best == FORMULA_OPS || ops[best].level < level) return FORMULA_OPS;
    f->at += length;
    return best;
}

static void *binary(Formula *f, int level) {
    void *v = operand(f);
    for (FormulaOp op; (op = next_op(f, level)) != FORMULA_OPS;) {
        void *right = binary(f, ops[op].level + 1);
        v = f->a->op(f, f->self, op, 2, (void *[]){v, right});
    }
    return v;
}

static void *expression(Formula *f) {
    if (++f->depth > MAX_DEPTH) gd_formula_fail(f, "nested too deeply");
    void *v = binary(f, 1);
    if (eat(f, '?')) {
        void *a = expression(f);
        need(f, ':');
        void *b = expression(f);
        v = f->a->op(f, f->self, FO_SELECT, 3, (void *[]){v, a, b});
    }
    f->depth--;
    return v;
}

/* `a, b = expr;` and nothing taken when the text does not start so. */
static bool binding(Formula *f) {
    const char *start = f->at, *names[MAX_NAMES];
    int n = 0;
    do {
        if (!starts_name(f) || n == MAX_NAMES) {
            f->at = start;
            return false;
        }
        names[n++] = word(f);
    } while (eat(f, ','));
    if (!eat_assign(f)) {
        f->at = start;
        return false;
    }
    void *v = expression(f);
    need(f, ';');
    if (n > 1 && !f->a->item) gd_formula_fail(f, "calls have one result here");
    for (int i = 0; i < n; i++) map_puts(f->bound, names[i], n == 1 ? v : f->a->item(f, f->self, v, i));
    return true;
}

int gd_formula_read(Ctx *c, const char *text, const Algebra *a, void *self, void **results, int max) {
    Formula f = {.c = c, .text = text, .at = text, .a = a, .self = self, .bound = map_new(c)};
    int n = 0;
    while (binding(&f)) continue;
    do {
        if (n == max) gd_formula_fail(&f, "too many results");
        results[n++] = expression(&f);
    } while (eat(&f, ','));
    space(&f);
    if (*f.at) gd_formula_fail(&f, "the formula should end");
    return n;
}

/* ---- the algebra of expressions ---- */

/* A literal is a constant whose type is not decided yet: f64, or i64 (u64 beyond its range) when whole. */
typedef struct Value {
    Expr *e;
    bool literal;
} Value;
typedef struct Scope {
    Ctx *c;
    const Map *names;
    DType literal;
    bool calls;
} Scope;

static void *value(Scope *s, Expr *e, bool literal) {
    Value *v = gd_new(s->c, Value);
    *v = (Value){e, literal};
    return v;
}

static Expr *typed(Formula *f, Scope *s, const Value *v, Type t) {
    if (!v->literal) return t.lanes > 1 && v->e->type.lanes == 1 ? expr_splat(s->c, v->e, t.lanes) : v->e;
    DType from = (DType)v->e->type.dt, to = (DType)t.dt;
    double d = gd_to_double(from, v->e->bits);
    if (dt_small(to)) gd_formula_fail(f, "no arithmetic on %s", gd_dtypes[to].name);
    if (from == F64 && !dt_float(to) && d != trunc(d))
        gd_formula_fail(f, "%g is not a value of %s", d, gd_dtypes[to].name);
    return expr_const(s->c, t, gd_eval(E_CAST, from, to, &v->e->bits));
}

/* Brings operands to one type: that of those that are no literals. Returns true when all are literals; those
   become f64, or i64 where the formula's literals are integers or bits are asked for. */
static bool meet(Formula *f, Scope *s, bool bits, int n, void *const *args, Expr **out) {
    Type t = {0, 0};
    for (int i = 0; i < n; i++) {
        const Value *v = args[i];
        if (v->literal) continue;
        if (dt_small((DType)v->e->type.dt))
            gd_formula_fail(f, "no arithmetic on %s", gd_dtypes[v->e->type.dt].name);
        if (t.lanes &&
            (v->e->type.dt != t.dt || (v->e->type.lanes != t.lanes && v->e->type.lanes != 1 && t.lanes != 1)))
            gd_formula_fail(f, "%s meets %s", gd_dtypes[t.dt].name, gd_dtypes[v->e->type.dt].name);
        t.dt = v->e->type.dt;
        if (v->e->type.lanes > t.lanes) t.lanes = v->e->type.lanes;
    }
    bool literals = !t.lanes;
    if (literals) t = scalar(bits || dt_int(s->literal) ? I64 : F64);
    for (int i = 0; i < n; i++) out[i] = typed(f, s, args[i], t);
    return literals;
}

static void *take_literal(Formula *f, void *self, FormulaNum n) {
    (void)f;
    Scope *s = self;
    if (!n.whole) return value(s, expr_num(s->c, F64, n.d), true);
    return value(s, expr_const(s->c, scalar(n.i > INT64_MAX ? U64 : I64), n.i), true);
}

static void *take_name(Formula *f, void *self, const char *name) {
    (void)f;
    Scope *s = self;
    Expr *e = s->names ? map_gets(s->names, name) : NULL;
    if (e) return value(s, e, false);
    if (!strcmp(name, "inf")) return value(s, expr_num(s->c, F64, INFINITY), true);
    if (!strcmp(name, "nan")) return value(s, expr_num(s->c, F64, NAN), true);
    if (!strcmp(name, "pi")) return value(s, expr_num(s->c, F64, 0x1.921fb54442d18p1), true);
    return NULL;
}

static void want_bool(Formula *f, const Expr *e) {
    if (e->type.dt != BOOL) gd_formula_fail(f, "a truth value is missing");
}

static void *select_of(Formula *f, Scope *s, void *const *args) {
    Expr *cond = ((Value *)args[0])->e, *arm[2];
    want_bool(f, cond);
    bool literals = meet(f, s, false, 2, args + 1, arm);
    if (literals && !is_const(cond)) { /* nothing but the formula decides the type */
        for (int i = 0; i < 2; i++) arm[i] = typed(f, s, args[i + 1], scalar(s->literal));
        literals = false;
    }
    int lanes = cond->type.lanes > arm[0]->type.lanes ? cond->type.lanes : arm[0]->type.lanes;
    for (int i = 0; i < 2; i++)
        if (arm[i]->type.lanes < lanes) arm[i] = expr_splat(s->c, arm[i], lanes);
    if (cond->type.lanes < lanes) cond = expr_splat(s->c, cond, lanes);
    return value(s, expr_select(s->c, cond, arm[0], arm[1]), literals);
}

/* What an operator means: the instruction, whether its operands are swapped, whether they are truth values.
 */
static const struct {
    ExprKind op;
    bool swap, truth;
} meaning[FORMULA_OPS] = {
    [FO_OROR] = {E_OR, false, true},  [FO_ANDAND] = {E_AND, false, true}, [FO_OR] = {E_OR, false, false},
    [FO_XOR] = {E_XOR, false, false}, [FO_AND] = {E_AND, false, false},   [FO_EQ] = {E_EQ, false, false},
    [FO_NE] = {E_NE, false, false},   [FO_LT] = {E_LT, false, false},     [FO_LE] = {E_LE, false, false},
    [FO_GT] = {E_LT, true, false},    [FO_GE] = {E_LE, true, false},      [FO_SHL] = {E_SHL, false, false},
    [FO_SHR] = {E_SHR, false, false}, [FO_ADD] = {E_ADD, false, false},   [FO_SUB] = {E_SUB, false, false},
    [FO_MUL] = {E_MUL, false, false}, [FO_DIV] = {E_DIV, false, false},   [FO_REM] = {E_REM, false, false},
    [FO_NEG] = {E_NEG, false, false}, [FO_NOT] = {E_NOT, false, true},    [FO_INV] = {E_NOT, false, false}};

static bool bitwise(ExprKind op) {
    return op == E_AND || op == E_OR || op == E_XOR || op == E_NOT || op == E_SHL || op == E_SHR;
}

static void *apply(Formula *f, Scope *s, const char *name, ExprKind op, bool swap, bool truth, int n,
                   void *const *args) {
    Expr *e[3];
    bool minus = op == E_NEG && ((Value *)args[0])->e->type.dt == I64; /* of a whole number is whole */
    bool literal = meet(f, s, minus || (bitwise(op) && !truth), n, args, e);
    DType t = (DType)e[0]->type.dt;
    bool whole = bitwise(op) || op == E_FDIV || op == E_FMOD, real = op == E_SQRT || op == E_COPYSIGN;
    if ((whole && dt_float(t)) || (real && !dt_float(t)))
        gd_formula_fail(f, "%s on %s", name, gd_dtypes[t].name);
    for (int i = 0; i < n && truth; i++) want_bool(f, e[i]);
    if (swap) {
        Expr *first = e[0];
        e[0] = e[1];
        e[1] = first;
    }
    Expr *r = expr_op(s->c, op, e[0]->type, n, e);
    return value(s, r, literal && r->type.dt != BOOL);
}

static void *take_op(Formula *f, void *self, FormulaOp op, int n, void *const *args) {
    if (op == FO_SELECT) return select_of(f, self, args);
    return apply(f, self, ops[op].text, meaning[op].op, meaning[op].swap, meaning[op].truth, n, args);
}

/* ---- functions ---- */

typedef struct Function {
    const char *name;
    int arity;
    ExprKind op;
} Function;
static const Function functions[] = {
#define O(NAME, text, arity, result, form) {text, arity, E_##NAME},
#include "scalar.def"
#undef O
};

static const Function *function_named(const char *name) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (functions[i].op < E_CAST && !strcmp(functions[i].name, name)) return &functions[i];
    return NULL;
}

/* i32(x) converts, as_i32(x) takes the bits. A literal whose bits are taken is as wide as the result: a float
   when it has a point, else an integer. */
static void *convert(Formula *f, Scope *s, bool bits, DType to, const Value *v) {
    if (v->literal && !bits) return value(s, typed(f, s, v, scalar(to)), false);
    int width = gd_dtypes[to].bytes;
    DType whole = width == 8 ? U64 : width == 4 ? U32 : width == 2 ? U16 : U8, real = width == 8 ? F64 : F32;
    Expr *e = v->literal ? typed(f, s, v, scalar(v->e->type.dt == F64 ? real : whole)) : v->e;
    if (bits && gd_dtypes[e->type.dt].bytes != width)
        gd_formula_fail(f, "as_%s of %s", gd_dtypes[to].name, gd_dtypes[e->type.dt].name);
    return value(s, expr_op(s->c, bits ? E_BITS : E_CAST, (Type){(uint8_t)to, e->type.lanes}, 1, &e), false);
}

static void *elementary(Formula *f, Scope *s, const char *name, int n, void *const *args) {
    Expr *e[3];
    if (n < 1 || n > 3) return NULL;
    bool literal = meet(f, s, false, n, args, e), constant = true;
    int row = gd_math_row(name, (DType)e[0]->type.dt);
    if (row < 0) return NULL;
    if (gd_math_arity(row) != n) gd_formula_fail(f, "%s takes %d arguments", name, gd_math_arity(row));
    for (int i = 0; i < n; i++) constant = constant && is_const(e[i]);
    return value(s, constant || !s->calls ? gd_math_body(s->c, row, e) : expr_call(s->c, row, n, e), literal);
}

static void *take_call(Formula *f, void *self, const char *name, int n, void *const *args, int nkeys,
                       const FormulaKey *keys) {
    Scope *s = self;
    if (nkeys) gd_formula_fail(f, "%s takes no %s=", name, keys[0].key);
    bool bits = !strncmp(name, "as_", 3);
    DType to = gd_dtype_named(bits ? name + 3 : name);
    if (to != DT_NONE && n == 1) return convert(f, s, bits, to, args[0]);
    const Function *fn = function_named(name);
    if (!fn) return elementary(f, s, name, n, args);
    if (fn->arity != n) gd_formula_fail(f, "%s takes %d arguments", name, fn->arity);
    if (fn->op == E_SELECT) return select_of(f, s, args);
    return apply(f, s, name, fn->op, false, false, n, args);
}

static Expr *formula(Ctx *c, const char *text, const Map *names, DType literal, bool calls) {
    static const Algebra algebra = {take_literal, take_name, take_op, take_call, NULL};
    Scope s = {c, names, literal, calls};
    void *result;
    gd_formula_read(c, text, &algebra, &s, &result, 1);
    const Value *v = result;
    if (!v->literal) return v->e;
    return expr_const(c, scalar(literal), gd_eval(E_CAST, (DType)v->e->type.dt, literal, &v->e->bits));
}

Expr *gd_formula(Ctx *c, const char *text, const Map *names, DType literal) {
    return formula(c, text, names, literal, true);
}
Expr *gd_formula_inline(Ctx *c, const char *text, const Map *names, DType literal) {
    return formula(c, text, names, literal, false);
}
