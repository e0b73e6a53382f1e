/* Sizes as tensors: an i64 expression over symbols becomes nodes over i64 tensors of one element.

   A symbol is where it was met first: a dim of a tensor (Shape), or an element of one (read). Expressions are shared within
   one graph and those in it; an expression computed in a branch is computed again outside.
   Division floors in the IR and truncates in ONNX, and a size of 0 must not divide: both are put right here. */
#include "export.h"

/* A symbol's value: the tensor itself (axis < 0), or its size along an axis. */
typedef struct ExportSymbol { ExportRef *r; int axis; } ExportSymbol;

static void define(Export *x, const Var *v, ExportRef *r, int axis) {
    if (map_getp(x->symbols, v)) return;
    ExportSymbol *s = gd_new(x->c, ExportSymbol);
    *s = (ExportSymbol){r, axis};
    map_putp(x->symbols, v, s);
}

void export_symbol(Export *x, const Var *v, ExportRef *one) { define(x, v, one, -1); }

void export_sizes(Export *x, const Value *v, ExportRef *r) {
    for (int i = 0; i < v->rank; i++)
        if (v->dim[i]->kind == E_VAR) define(x, v->dim[i]->var, r, i);
}

static ExportRef *size_of(Export *x, ExportRef *r, int axis) {
    ExportNode *e = export_node(x, "Shape");
    export_arg(x, e, r);
    export_int(x, e, "start", axis);
    export_int(x, e, "end", axis + 1);
    return export_result(x, e, I64);
}

static ExportRef *symbol(Export *x, const Var *v) {
    const ExportSymbol *s = map_getp(x->symbols, v);
    if (s) return s->axis < 0 ? s->r : size_of(x, s->r, s->axis);
    gd_error(x->c, 406, "give it a number with --dim", "the size %s is nowhere a size of its own", v->name);
    return export_list(x, 1, (int64_t[]){1});
}

static ExportRef *one_of(Export *x, DType dt, uint64_t bits) {
    void *p = gd_alloc(x->c, 16);
    int64_t n = 1;
    gd_store_bits(dt, p, bits);
    return export_const(x, dt, 1, &n, p);
}

/* ---- operators ---- */

static ExportRef *modulo(Export *x, ExportRef *a, ExportRef *b, bool truncate) {
    ExportNode *e = export_node(x, "Mod");
    export_arg(x, e, a);
    export_arg(x, e, b);
    if (truncate) export_int(x, e, "fmod", 1);
    return export_result(x, e, a->dt);
}

/* fn(a, b) for b != 0, and 0 where b is 0. */
static ExportRef *division(Export *x, const Expr *e, ExportRef *a, ExportRef *b) {
    int64_t lo, hi;
    ExportRef *safe = b, *q;
    expr_range(x->c, e->arg[1], &lo, &hi);
    bool integer = dt_int(a->dt), zero = integer && lo <= 0 && hi >= 0;
    ExportRef *none = zero ? one_of(x, a->dt, 0) : NULL, *is_none = zero ? export_op(x, "Equal", BOOL, b, none) : NULL;
    if (zero) safe = export_op(x, "Where", a->dt, is_none, one_of(x, a->dt, 1), b);
    int64_t alo, ahi;
    expr_range(x->c, e->arg[0], &alo, &ahi);
    if (e->kind == E_FMOD || e->kind == E_REM) q = modulo(x, a, safe, e->kind == E_REM);
    else if (e->kind == E_DIV || (alo >= 0 && lo >= 0)) q = export_op(x, "Div", a->dt, a, safe);
    else q = export_op(x, "Div", a->dt, export_op(x, "Sub", a->dt, a, modulo(x, a, safe, false)), safe);
    return zero ? export_op(x, "Where", a->dt, is_none, none, q) : q;
}

static ExportRef *operation(Export *x, const Expr *e, ExportRef *const *a) {
    static const struct { ExprKind kind; const char *op, *truth; } ops[] = {
        {E_ADD, "Add", NULL}, {E_SUB, "Sub", NULL}, {E_MUL, "Mul", NULL}, {E_NEG, "Neg", NULL}, {E_ABS, "Abs", NULL},
        {E_MIN, "Min", "And"}, {E_MAX, "Max", "Or"}, {E_AND, "BitwiseAnd", "And"}, {E_OR, "BitwiseOr", "Or"},
        {E_XOR, "BitwiseXor", "Xor"}, {E_NOT, "BitwiseNot", "Not"}, {E_EQ, "Equal", "Equal"}, {E_LT, "Less", NULL},
        {E_LE, "LessOrEqual", NULL}, {E_SELECT, "Where", "Where"}, {E_SQRT, "Sqrt", NULL}, {E_FLOOR, "Floor", NULL},
        {E_CEIL, "Ceil", NULL}, {E_RINT, "Round", NULL}};
    DType dt = (DType)e->type.dt;
    switch ((int)e->kind) {
    case E_CAST: return export_cast(x, a[0], dt);
    case E_NE: return export_op(x, "Not", BOOL, export_op(x, "Equal", BOOL, a[0], a[1]));
    case E_DIV: case E_REM: case E_FDIV: case E_FMOD:
        return division(x, e, a[0], a[1]);
    default: break;
    }
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (ops[i].kind != e->kind) continue;
        bool truth = e->arg[e->nargs - 1]->type.dt == BOOL;
        const char *op = truth ? ops[i].truth : ops[i].op;
        ExportRef *in[4] = {a[0], e->nargs > 1 ? a[1] : NULL, e->nargs > 2 ? a[2] : NULL, NULL};
        if (op) return export_op_(x, op, dt, in);
    }
    gd_error(x->c, 406, NULL, "the size %s has no form in ONNX", expr_text(x->c, e));
    return a[0];
}

/* ---- expressions ---- */

static ExportRef *computed(Export *x, const Expr *e) {
    for (ExportGraph *g = x->at; g; g = g->outer) {
        ExportRef *r = map_getp(g->exprs, e);
        if (r) return r;
    }
    return NULL;
}

/* Arguments come first: expr_walk visits them before. */
static void compute(void *arg, Expr *e) {
    Export *x = arg;
    ExportRef *a[3], *r;
    if (computed(x, e)) return;
    if (e->kind == E_CONST) r = one_of(x, (DType)e->type.dt, e->bits);
    else if (e->kind == E_VAR) r = symbol(x, e->var);
    else {
        for (int i = 0; i < e->nargs && i < 3; i++) a[i] = computed(x, e->arg[i]);
        if (e->nargs && e->nargs <= 3 && e->kind != E_CALL && e->kind != E_LOAD) r = operation(x, e, a);
        else {
            gd_error(x->c, 406, NULL, "the size %s has no form in ONNX", expr_text(x->c, e));
            r = one_of(x, (DType)e->type.dt, 0);
        }
    }
    map_putp(x->at->exprs, e, r);
}

static ExportRef *single(Export *x, Expr *e) {
    expr_walk(e, expr_mark(x->c), compute, x);
    return computed(x, e);
}

ExportRef *export_scalar(Export *x, Expr *e) {
    if (is_const(e)) {
        void *p = gd_alloc(x->c, 16);
        gd_store_bits((DType)e->type.dt, p, e->bits);
        return export_const(x, (DType)e->type.dt, 0, NULL, p);
    }
    ExportRef *r = single(x, e);
    return export_op(x, "Squeeze", r->dt, r, export_list(x, 1, (int64_t[]){0}));
}

static ExportRef *numbers(Export *x, int n, Expr *const *e) {
    DType dt = (DType)e[0]->type.dt;
    int64_t count = n;
    char *p = gd_alloc(x->c, (size_t)n * 16);
    for (int i = 0; i < n; i++) gd_store_bits(dt, p + i * gd_dtypes[dt].bytes, e[i]->bits);
    return export_const(x, dt, 1, &count, p);
}

/* Runs of numbers are one constant each. */
ExportRef *export_dims(Export *x, int n, Expr *const *e) {
    VEC(ExportRef *) part = {0};
    if (!n) return export_list(x, 0, NULL);
    for (int i = 0; i < n;) {
        int from = i;
        while (i < n && is_const(e[i])) i++;
        if (i > from) vec_push(x->c, &part, numbers(x, i - from, e + from));
        else vec_push(x->c, &part, single(x, e[i++]));
    }
    if (part.n == 1) return part.v[0];
    ExportNode *cat = export_node(x, "Concat");
    for (int i = 0; i < part.n; i++) export_arg(x, cat, part.v[i]);
    export_int(x, cat, "axis", 0);
    return export_result(x, cat, (DType)e[0]->type.dt);
}

/* One size that is not known is what is left over, where the others are known and positive. */
ExportRef *export_reshape(Export *x, ExportRef *r, int rank, Expr *const *dim) {
    int64_t to[MAX_RANK];
    int open = 0;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (is_int(dim[i], &to[i])) empty |= to[i] == 0;
        else to[i] = -1, open++;
    }
    ExportNode *e = export_node(x, "Reshape");
    export_arg(x, e, r);
    if (!open || (open == 1 && !empty)) export_arg(x, e, export_list(x, rank, to));
    else export_arg(x, e, export_dims(x, rank, dim));
    if (empty || open > 1) export_int(x, e, "allowzero", 1);
    return export_result(x, e, r->dt);
}
