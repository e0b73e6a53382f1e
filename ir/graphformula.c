/* Composite text: small graphs written as formulas (formula.h), as import.h's graph_text makes them.

   The operators are rows of the graph IR, a call is a node of the op it names: f(x, y, attr=value). A number
   takes the dtype of what it meets. Names are those of values, then those of attributes; an attribute as an
   operand is a number, and as `key=name` it is handed on whole. */
#include "import.h"
#include "formula.h"
#include <math.h>

typedef struct Operand {
    Value *v;
    Node *call;
    double number;
} Operand; /* v NULL: a number */
typedef struct Maker {
    Graph *g;
    const Map *values, *attrs;
} Maker;

static Operand *operand(Maker *m, Value *v, Node *call, double number) {
    Operand *o = gd_new(m->g->c, Operand);
    *o = (Operand){v, call, number};
    return o;
}

static void *literal(Formula *f, void *self, FormulaNum n) {
    (void)f;
    return operand(self, NULL, NULL, n.d);
}

static void *named(Formula *f, void *self, const char *name) {
    Maker *m = self;
    Value *v = m->values ? map_gets(m->values, name) : NULL;
    const Attr *a = m->attrs ? map_gets(m->attrs, name) : NULL;
    if (v) return operand(m, v, NULL, 0);
    if (!a) return NULL;
    if (a->kind == AT_INT) return operand(m, NULL, NULL, (double)a->i);
    if (a->kind == AT_FLOAT) return operand(m, NULL, NULL, a->f);
    if (a->kind == AT_DIM) return operand(m, value_of_exprs(m->g, 0, 1, &a->dim), NULL, 0);
    gd_formula_fail(f, "attribute %s is no number", name);
}

/* Numbers become constants of the dtype of the first operand that has one. */
static void inputs(Formula *f, Maker *m, Node *n, int count, void *const *args, DType dt) {
    for (int i = 0; i < count && dt == DT_NONE; i++) {
        const Operand *o = args[i];
        if (o->v) dt = o->v->dt;
    }
    for (int i = 0; i < count; i++) {
        const Operand *o = args[i];
        if (!o->v && dt == DT_NONE) gd_formula_fail(f, "%s of numbers only", n->op->name);
        node_input(n, o->v ? o->v : const_scalar(m->g, dt, o->number));
    }
}

static double fold(Formula *f, FormulaOp op, double a, double b) {
    switch (op) {
    case FO_ADD: return a + b;
    case FO_SUB: return a - b;
    case FO_MUL: return a * b;
    case FO_DIV: return a / b;
    case FO_NEG: return -a;
    default: gd_formula_fail(f, "%s of numbers only", gd_formula_op(op));
    }
}

static const char *op_name(FormulaOp op, bool truth) {
    static const char *const names[FORMULA_OPS] = {
        [FO_OROR] = "or",         [FO_ANDAND] = "and",  [FO_OR] = "bit_or",        [FO_XOR] = "bit_xor",
        [FO_AND] = "bit_and",     [FO_EQ] = "equal",    [FO_NE] = "not_equal",     [FO_LT] = "less",
        [FO_LE] = "less_equal",   [FO_GT] = "greater",  [FO_GE] = "greater_equal", [FO_SHL] = "shift_left",
        [FO_SHR] = "shift_right", [FO_ADD] = "add",     [FO_SUB] = "sub",          [FO_MUL] = "mul",
        [FO_DIV] = "div",         [FO_REM] = "rem",     [FO_NEG] = "neg",          [FO_NOT] = "not",
        [FO_INV] = "bit_not",     [FO_SELECT] = "where"};
    if (truth && op == FO_OR) return "or";
    if (truth && op == FO_AND) return "and";
    if (truth && op == FO_XOR) return "xor";
    return names[op];
}

static void *operator(Formula *f, void *self, FormulaOp op, int count, void *const *args) {
    Maker *m = self;
    const Operand *a = args[0], *b = count > 1 ? args[1] : a;
    if (count < 3 && !a->v && !b->v) return operand(m, NULL, NULL, fold(f, op, a->number, b->number));
    Node *n = node_begin(m->g, op_name(op, a->v && a->v->dt == BOOL));
    if (count < 3) inputs(f, m, n, count, args, DT_NONE);
    else {
        inputs(f, m, n, 1, args, BOOL);
        inputs(f, m, n, 2, args + 1, DT_NONE);
    }
    return operand(m, node_finish(n), n, 0);
}

/* ---- calls ---- */

static void list(Formula *f, Node *n, const AttrDef *d, const FormulaKey *k) {
    Ctx *c = n->graph->c;
    int64_t *ints = gd_new_array(c, int64_t, k->n ? k->n : 1);
    double *floats = gd_new_array(c, double, k->n ? k->n : 1);
    Expr **dims = gd_new_array(c, Expr *, k->n ? k->n : 1);
    for (int i = 0; i < k->n; i++) {
        if (!k->num[i].whole && d->kind != AT_FLOATS) gd_formula_fail(f, "%s takes whole numbers", d->name);
        ints[i] = (int64_t)k->num[i].i;
        floats[i] = k->num[i].d;
        dims[i] = expr_int(c, ints[i]);
    }
    if (d->kind == AT_INTS) node_ints(n, d->name, k->n, ints);
    else if (d->kind == AT_FLOATS) node_floats(n, d->name, k->n, floats);
    else if (d->kind == AT_DIMS) node_dims(n, d->name, k->n, dims);
    else gd_formula_fail(f, "%s takes no list", d->name);
}

static void number(Formula *f, Node *n, const AttrDef *d, FormulaNum k) {
    if (d->kind == AT_FLOAT) node_float(n, d->name, k.d);
    else if (!k.whole) gd_formula_fail(f, "%s takes a whole number", d->name);
    else if (d->kind == AT_INT) node_int(n, d->name, (int64_t)k.i);
    else if (d->kind == AT_DIM) node_dim(n, d->name, expr_int(n->graph->c, (int64_t)k.i));
    else gd_formula_fail(f, "%s takes no number", d->name);
}

static void hand_on(Formula *f, Maker *m, Node *n, const AttrDef *d, const char *name) {
    const Attr *a = m->attrs ? map_gets(m->attrs, name) : NULL;
    DType t = gd_dtype_named(name);
    if (!a && d->kind == AT_DTYPE && t != DT_NONE) node_dtype(n, d->name, t);
    else if (!a) gd_formula_fail(f, "there is no attribute %s", name);
    else if (a->kind == AT_INTS && d->kind == AT_DIMS) {
        Expr **dims = gd_new_array(m->g->c, Expr *, a->n ? a->n : 1);
        for (int i = 0; i < a->n; i++) dims[i] = expr_int(m->g->c, a->ints[i]);
        node_dims(n, d->name, a->n, dims);
    } else if (a->kind == d->kind) n->attr[op_attr(n->op, d->name)] = *a;
    else if (a->kind == AT_INT && d->kind == AT_DIM) node_dim(n, d->name, expr_int(m->g->c, a->i));
    else if (a->kind == AT_INT && d->kind == AT_FLOAT) node_float(n, d->name, (double)a->i);
    else gd_formula_fail(f, "attribute %s is not of the kind that %s takes", name, d->name);
}

static void *call(Formula *f, void *self, const char *name, int count, void *const *args, int nkeys,
                  const FormulaKey *keys) {
    Maker *m = self;
    const Op *op = op_named(name);
    if (!op) return NULL;
    Node *n = node_begin(m->g, name);
    inputs(f, m, n, count, args, DT_NONE);
    for (int i = 0; i < nkeys; i++) {
        int at = op_attr(op, keys[i].key);
        if (at < 0) gd_formula_fail(f, "%s has no attribute %s", name, keys[i].key);
        const AttrDef *d = &op->attrs[at];
        switch (keys[i].kind) {
        case FK_NUM: number(f, n, d, keys[i].num[0]); break;
        case FK_LIST: list(f, n, d, &keys[i]); break;
        case FK_STRING:
            if (d->kind != AT_STRING) gd_formula_fail(f, "%s takes no string", d->name);
            node_string(n, d->name, keys[i].text);
            break;
        case FK_NAME: hand_on(f, m, n, d, keys[i].text); break;
        }
    }
    return operand(m, node_finish(n), n, 0);
}

static void *item(Formula *f, void *self, void *result, int i) {
    const Operand *o = result;
    if (!o->call || i >= o->call->nout) gd_formula_fail(f, "there is no result %d", i);
    return operand(self, o->call->out[i], NULL, 0);
}

Value *graph_text(Graph *g, const char *text, const Map *values, const Map *attrs) {
    static const Algebra algebra = {literal, named, operator, call, item};
    Maker m = {g, values, attrs};
    void *result;
    gd_formula_read(g->c, text, &algebra, &m, &result, 1);
    const Operand *o = result;
    if (!o->v) gd_bug(g->c, "formula \"%.400s\" is a number", text);
    return o->v;
}
