/* Expressions of a model description: numbers, sizes and tensors, with the operators and the precedence of formulas
   (ir/formula.h), calls of layers, blocks and functions, and x[...] as in numpy.

   Recursive descent; nesting is counted, so it ends. */
#include "model.h"
#include "ops/build.h"
#include <math.h>

Opnd opnd_bad(void) { return (Opnd){.kind = OD_BAD}; }

Opnd opnd_value(Desc *d, Value *v) {
    if (!v || v->rank < 0) return opnd_bad();
    Opnd o = {.kind = OD_VALUE, .nv = 1, .v = gd_new_array(d->c, Value *, 1)};
    o.v[0] = v;
    return o;
}

static Opnd number(double v, bool whole) {
    return (Opnd){.kind = OD_NUMBER, .num = v, .whole = whole && fabs(v) < 9e15};
}

Expr *opnd_dim(Desc *d, const Opnd *o) {
    if (o->kind == OD_DIM) return o->dim;
    return o->kind == OD_NUMBER && o->whole ? expr_int(d->c, (int64_t)o->num) : NULL;
}

static Opnd of_dim(Expr *e) {
    int64_t v;
    if (is_int(e, &v)) return number((double)v, true);
    return (Opnd){.kind = OD_DIM, .dim = e};
}

Value *model_tensor(Desc *d, const Opnd *o, const Value *like) {
    DType dt = like ? like->dt : F32;
    switch (o->kind) {
    case OD_VALUE: return o->v[0];
    case OD_NUMBER: return const_scalar(d->g, dt, o->num);
    case OD_DIM: return build_scalar(d->g, like ? dt : I64, o->dim);
    case OD_NONE:
    case OD_BAD:
    case OD_WORD:
    case OD_SIZE: break;
    }
    return NULL;
}

/* ---- names ---- */

Opnd model_named(Desc *d, const char *name, const Tok *at) {
    for (const Env *e = d->env; e; e = e->up) {
        const Opnd *o = map_gets(e->names, name);
        if (o) return *o;
    }
    if (!strcmp(name, "it")) {
        if (d->it.kind == OD_NONE) model_error(d, at, 201, "an input comes first", "there is nothing before this that \"it\" could be");
        return d->it.kind == OD_NONE ? opnd_bad() : d->it;
    }
    Expr *dim = map_gets(d->dims.named, name);
    if (dim) return of_dim(dim);
    if (!strcmp(name, "pi")) return number(0x1.921fb54442d18p1, false);
    if (!strcmp(name, "inf")) return number(INFINITY, false);
    return (Opnd){.kind = OD_WORD, .word = name, .at = at};
}

/* ---- operators ---- */

typedef struct Operator { const char *text; int level; const char *op; } Operator;
static const Operator operators[] = {
    {"||", 1, "or"},     {"&&", 2, "and"},        {"==", 3, "equal"},   {"!=", 3, "not_equal"},
    {"<", 4, "less"},    {"<=", 4, "less_equal"}, {">", 4, "greater"},  {">=", 4, "greater_equal"},
    {"+", 5, "add"},     {"-", 5, "sub"},         {"*", 6, "mul"},      {"/", 6, "div"},
    {"%", 6, "rem"},
};
enum { OPERATORS = sizeof operators / sizeof *operators };

static Opnd of_numbers(Desc *d, const Tok *at, char op, double a, double b, bool whole) {
    switch (op) {
    case '+': return number(a + b, whole);
    case '-': return number(a - b, whole);
    case '*': return number(a * b, whole);
    case '/': return number(a / b, whole && b != 0 && fmod(a, b) == 0);
    case '%': return number(fmod(a, b), whole && b != 0);
    default: break;
    }
    model_error(d, at, 104, "one side must be a tensor", "numbers are not compared");
    return opnd_bad();
}

static Opnd of_dims(Desc *d, const Tok *at, char op, Expr *a, Expr *b) {
    Ctx *c = d->c;
    if ((op == '/' || op == '%') && is_value(b, 0)) {
        model_error(d, at, 303, NULL, "a size is divided by 0");
        return opnd_bad();
    }
    switch (op) {
    case '+': return of_dim(expr_add(c, a, b));
    case '-': return of_dim(expr_sub(c, a, b));
    case '*': return of_dim(expr_mul(c, a, b));
    case '/': return of_dim(expr_fdiv(c, a, b));
    case '%': return of_dim(expr_fmod(c, a, b));
    default: break;
    }
    model_error(d, at, 104, "one side must be a tensor", "sizes are not compared");
    return opnd_bad();
}

/* Bad already, or a word that nothing defines: then an error. */
static bool unknown_word(Desc *d, const Opnd *o) {
    VEC(const char *) names = {0};
    if (o->kind == OD_BAD || o->kind == OD_NONE) return true;
    if (o->kind != OD_WORD && o->kind != OD_SIZE) return false;
    if (o->kind == OD_SIZE) {
        model_error(d, o->at, 104, NULL, "such a size has no value to compute with");
        return true;
    }
    for (const Env *e = d->env; e; e = e->up)
        for (int i = 0; i < e->order.n; i++) vec_push(d->c, &names, e->order.v[i]);
    const char *near = model_nearest(o->word, names.v, names.n);
    model_error(d, o->at, 201, near ? gd_format(d->c, "is it %s?", near) : NULL, "the name %s is not known", o->word);
    return true;
}

static Opnd apply(Desc *d, const Tok *at, const char *op, int n, Opnd *o) {
    Value *like = NULL, *in[3];
    for (int i = 0; i < n; i++)
        if (unknown_word(d, &o[i])) return opnd_bad();
    for (int i = n - 1; i >= 0; i--)
        if (o[i].kind == OD_VALUE) like = o[i].v[0];
    if (n == 3 && o[1].kind != OD_VALUE && o[2].kind != OD_VALUE) like = NULL;
    else if (n == 3) like = o[1].kind == OD_VALUE ? o[1].v[0] : o[2].v[0];
    for (int i = 0; i < n; i++) in[i] = model_tensor(d, &o[i], n == 3 && !i ? NULL : like);
    const char *outer = d->g->label;
    d->g->label = gd_format(d->c, "at %s", model_place(d, at->s));
    Node *node = node_begin(d->g, op);
    for (int i = 0; i < n; i++) node_input(node, in[i]);
    Value *v = node_finish(node);
    d->g->label = outer;
    if (v->rank < 0) d->failed = true;
    return opnd_value(d, v);
}

static Opnd binary_of(Desc *d, const Tok *at, const Operator *op, Opnd a, Opnd b) {
    bool truth = op->level <= 2;
    Opnd both[2] = {a, b};
    if (unknown_word(d, &a) || unknown_word(d, &b)) return opnd_bad();
    if (a.kind == OD_VALUE || b.kind == OD_VALUE) return apply(d, at, op->op, 2, both);
    if (a.kind == OD_NUMBER && b.kind == OD_NUMBER && !truth)
        return of_numbers(d, at, *op->text, a.num, b.num, a.whole && b.whole);
    Expr *p = opnd_dim(d, &a), *q = opnd_dim(d, &b);
    if (p && q && !truth) return of_dims(d, at, *op->text, p, q);
    model_error(d, at, 302, NULL, "%s does not go with these", op->text);
    return opnd_bad();
}

/* ---- x[...] ---- */

typedef struct Cut { Expr *start, *size; bool one; } Cut;

static Expr *from_end(Desc *d, Expr *e, Expr *size) {
    int64_t v;
    return is_int(e, &v) && v < 0 ? expr_add(d->c, e, size) : e;
}

/* i, from:to, :to, from:, : of an axis of that size. false after an error. */
static bool read_cut(Desc *d, Expr *size, Cut *cut) {
    Expr *lo = expr_int(d->c, 0), *hi = size;
    bool range = false;
    if (!model_is(d, ":")) {
        Opnd o = model_expression(d);
        if (d->failed || o.kind == OD_BAD) return false;
        lo = opnd_dim(d, &o);
        if (!lo) { model_expected(d, "a whole number or a size in [ ]"); return false; }
        lo = from_end(d, lo, size);
    }
    if (model_take(d, ":")) {
        range = true;
        if (!model_is(d, ",") && !model_is(d, "]")) {
            Opnd o = model_expression(d);
            if (d->failed || o.kind == OD_BAD) return false;
            hi = opnd_dim(d, &o);
            if (!hi) { model_expected(d, "a whole number or a size behind :"); return false; }
            hi = from_end(d, hi, size);
        }
    }
    *cut = (Cut){lo, range ? expr_sub(d->c, hi, lo) : expr_int(d->c, 1), !range};
    return true;
}

static Opnd indexed(Desc *d, Opnd x, const Tok *at) {
    Expr *start[MAX_RANK], *size[MAX_RANK], *dim[MAX_RANK];
    bool gone[MAX_RANK] = {false};
    if (unknown_word(d, &x)) { d->failed = true; return opnd_bad(); }
    if (x.kind != OD_VALUE) { model_error(d, at, 302, NULL, "only a tensor has elements"); return opnd_bad(); }
    Value *v = x.v[0];
    int n = 0;
    for (int i = 0; i < v->rank; i++) { start[i] = expr_int(d->c, 0); size[i] = v->dim[i]; }
    do {
        Cut cut;
        if (n >= v->rank) { model_error(d, at, 301, NULL, "%s has fewer axes", value_type_text(d->c, v)); return opnd_bad(); }
        if (!read_cut(d, v->dim[n], &cut)) return opnd_bad();
        int64_t s, k, all;
        bool inside = !is_int(cut.start, &s) || s >= 0;
        inside &= !is_int(cut.size, &k) || k >= 0;
        inside &= !is_int(expr_add(d->c, cut.start, cut.size), &s) || !is_int(v->dim[n], &all) || s <= all;
        if (!inside) { model_error(d, at, 303, NULL, "the index of axis %d is outside of %s", n, value_type_text(d->c, v)); return opnd_bad(); }
        start[n] = cut.start;
        size[n] = cut.size;
        gone[n++] = cut.one;
    } while (model_take(d, ","));
    if (!model_want(d, "]")) return opnd_bad();
    Value *y = build_slice(d->g, v, start, size, NULL);
    int rank = 0;
    for (int i = 0; i < v->rank; i++)
        if (!gone[i]) dim[rank++] = size[i];
    return opnd_value(d, y->rank < 0 ? y : build_reshape(d->g, y, rank, dim));
}

/* ---- operands ---- */

static Opnd operand(Desc *d) {
    const Tok *t = model_peek(d);
    Opnd o = opnd_bad();
    if (++d->depth > MOST_DEPTH * 4) {
        model_error(d, t, 504, NULL, "nested too deeply");
        d->depth--;
        return o;
    }
    if (model_take(d, "(")) {
        o = model_expression(d);
        model_want(d, ")");
    } else if (model_take(d, "-")) {
        Opnd a = operand(d);
        if (a.kind == OD_NUMBER) o = number(-a.num, a.whole);
        else if (a.kind == OD_DIM) o = of_dim(expr_sub(d->c, expr_int(d->c, 0), a.dim));
        else o = apply(d, t, "neg", 1, &a);
    } else if (model_take(d, "!")) {
        Opnd a = operand(d);
        o = apply(d, t, "not", 1, &a);
    } else if (t->kind == TK_NUMBER) {
        d->at++;
        o = number(t->v, t->whole);
    } else if (t->kind == TK_SIZE) {
        d->at++;
        o = (Opnd){.kind = OD_SIZE, .nsize = t->nsize, .size = t->size, .at = t};
    } else if (t->kind == TK_STRING) {
        d->at++;
        o = (Opnd){.kind = OD_WORD, .word = t->text, .at = t};
    } else if (t->kind == TK_WORD) {
        d->at++;
        o = model_is(d, "(") && t[1].s == t->s + t->n ? model_layer(d, t->text, t, true) : model_named(d, t->text, t);
    } else model_expected(d, "a value");
    while (!d->failed && model_is(d, "[")) {
        d->at++;
        o = indexed(d, o, t);
    }
    d->depth--;
    return d->failed ? opnd_bad() : o;
}

Opnd model_primary(Desc *d) { return operand(d); }

static const Operator *next_operator(Desc *d, int level) {
    for (int i = 0; i < OPERATORS; i++)
        if (operators[i].level >= level && model_is(d, operators[i].text)) return &operators[i];
    return NULL;
}

static Opnd binary(Desc *d, int level) {
    Opnd a = operand(d);
    for (const Operator *op; !d->failed && (op = next_operator(d, level));) {
        const Tok *at = &d->t[d->at++];
        Opnd b = binary(d, op->level + 1);
        if (d->failed) return opnd_bad();
        a = binary_of(d, at, op, a, b);
    }
    return a;
}

Opnd model_expression(Desc *d) {
    Opnd o = opnd_bad();
    if (++d->depth > MOST_DEPTH * 4) model_error(d, model_peek(d), 504, NULL, "nested too deeply");
    else {
        o = binary(d, 1);
        const Tok *at = model_peek(d);
        if (!d->failed && model_take(d, "?")) {
            Opnd three[3] = {o};
            three[1] = model_expression(d);
            if (model_want(d, ":")) three[2] = model_expression(d);
            o = d->failed ? opnd_bad() : apply(d, at, "where", 3, three);
        }
    }
    d->depth--;
    return o;
}
