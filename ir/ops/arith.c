/* Arithmetic, comparisons and logic of several inputs, element by element with numpy's broadcasting. */
#include "build.h"
#include "export.h"
#include "lower.h"
#include "windows.h"
#include <math.h>

/* ---- integer powers ---- */

/* x^y for y >= 0 by squaring, from the highest bit of y down; modulo 2^64. */
static void power_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    Expr *const *xy = arg;
    Ctx *c = L->c;
    Expr *square = expr_mul(c, acc[0], acc[0]);
    Expr *bit = expr2(c, E_AND, expr2(c, E_SHR, xy[1], expr_sub(c, expr_int(c, 62), k[0])), expr_int(c, 1));
    next[0] = expr_select(c, expr2(c, E_EQ, bit, expr_int(c, 1)), expr_mul(c, square, xy[0]), square);
}

/* A negative power of an integer is 1 / x^-y, which truncates to 0 unless x is 1 or -1. */
static Expr *pow_int_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Value *z = n->out[0];
    Expr *xy[2], *one = expr_int(c, 1), *zero = expr_int(c, 0), *r = one;
    int64_t y;
    for (int i = 0; i < 2; i++) xy[i] = lower_broadcast(L, n->in[i], z->rank, z->dim, idx);
    if (is_int(xy[1], &y) && y >= 0 && y <= 16) {
        for (int64_t i = 0; i < y; i++) r = expr_mul(c, r, xy[0]);
        return r;
    }
    Accum a = {
        .nloops = 1, .nacc = 1, .trip = {expr_int(c, 63)}, .init = {one}, .step = power_step, .arg = xy};
    lower_accum(L, &a, 2, xy, &r);
    Expr *odd = expr2(c, E_EQ, expr2(c, E_AND, xy[1], one), one), *minus = expr_int(c, -1);
    Expr *inverse =
        expr_select(c, expr2(c, E_EQ, xy[0], one), one,
                    expr_select(c, expr2(c, E_EQ, xy[0], minus), expr_select(c, odd, minus, one), zero));
    return expr_select(c, expr2(c, E_LT, xy[1], zero), inverse, r);
}

/* ---- ONNX ---- */

/* Before version 7 the second input lies along the first from `axis` on: ones behind it say the same. */
static Value *legacy_broadcast(Import *n, Value *a, Value *b) {
    if (n->opset >= 7) return b;
    bool broadcast = import_int(n, "broadcast", 0) != 0, given = import_has(n, "axis");
    int64_t axis = import_int(n, "axis", 0);
    import_has(n, "consumed_inputs");
    if (!broadcast || !given || a->rank < 0 || b->rank < 0) return b;
    if (axis < 0) axis += a->rank;
    if (axis < 0 || axis + b->rank > a->rank) {
        import_error(n, 204, NULL, "attribute axis: %d axes from axis %lld on do not fit into %d", b->rank,
                     (long long)axis, a->rank);
        return b;
    }
    for (int i = (int)axis + b->rank; i < a->rank; i++) b = build_unsqueeze(n->g, b, b->rank);
    return b;
}

/* The row of this name. */
static void import_binary(Import *n) {
    if (!import_need(n, 2, 2) || !import_same_types(n, 0, 2)) return;
    Value *a = n->in[0], *b = legacy_broadcast(n, a, n->in[1]);
    if (!(dt_int(a->dt) || dt_float(a->dt) || dt_small(a->dt) || a->dt == BOOL)) {
        import_error(n, 403, NULL, "%s of %s", n->op, gd_dtypes[a->dt].name);
        return;
    }
    n->out[0] = make(n->g, op_onnx(n->domain, n->op, n->opset)->name, a, b);
}

static void import_mod(Import *n) {
    if (!import_need(n, 2, 2) || !import_same_types(n, 0, 2)) return;
    bool truncates = import_int(n, "fmod", 0) != 0;
    const char *op = truncates ? "rem" : dt_int(n->in[0]->dt) ? "mod" : "mod_float";
    n->out[0] = make(n->g, op, n->in[0], n->in[1]);
}

static void import_shift(Import *n) {
    if (!import_need(n, 2, 2) || !import_same_types(n, 0, 2)) return;
    const char *way = import_string(n, "direction", "");
    bool left = !strcmp(way, "LEFT");
    if (!left && strcmp(way, "RIGHT"))
        import_error(n, 204, "LEFT or RIGHT", "attribute direction: \"%s\"",
                     gd_escape(n->g->c, way, strlen(way)));
    else n->out[0] = make(n->g, left ? "shift_left" : "shift_right", n->in[0], n->in[1]);
}

/* A constant whole power of few factors is a product: exactly as good, and cheaper. */
static Value *plain_power(Graph *g, Value *x, Value *y) {
    if (y->rank < 0 || y->rank > x->rank || !value_known(y) || !is_value(value_count(g->c, y), 1))
        return NULL;
    Expr *e = value_elem(g, y, 0);
    if (!is_const(e)) return NULL;
    double p = gd_to_double(y->dt, e->bits);
    if (p == 1) return x;
    if (p == 2) return make(g, "mul", x, x);
    if (p == 3) return make(g, "mul", make(g, "mul", x, x), x);
    return p == -1 && !dt_int(x->dt) ? make(g, "reciprocal", x) : NULL;
}

/* The result has the type of the base; an integer to a float power goes through f64. */
static void import_pow(Import *n) {
    if (!import_need(n, 2, 2)) return;
    Graph *g = n->g;
    Value *x = n->in[0], *y = legacy_broadcast(n, x, n->in[1]), *z;
    if (x->rank < 0 || y->rank < 0) return;
    if ((z = plain_power(g, x, y))) n->out[0] = z;
    else if (!dt_int(x->dt)) n->out[0] = make(g, "pow", x, build_cast(g, y, x->dt));
    else if (dt_int(y->dt))
        n->out[0] = build_cast(g, make(g, "pow_int", build_cast(g, x, I64), build_cast(g, y, I64)), x->dt);
    else n->out[0] = build_cast(g, make(g, "pow", build_cast(g, x, F64), build_cast(g, y, F64)), x->dt);
}

/* Any number of inputs, from left to right. */
static void import_chain(Import *n) {
    static const struct {
        const char *onnx, *row;
    } rows[] = {{"Max", "max"}, {"Min", "min"}, {"Sum", "add"}, {"Mean", "add"}};
    if (!import_need(n, 1, -1) || !import_same_types(n, 0, n->nin)) return;
    int k = 0;
    while (k < 3 && strcmp(rows[k].onnx, n->op)) k++;
    import_has(n, "consumed_inputs");
    Value *v = n->in[0];
    for (int i = 1; i < n->nin; i++) {
        if (!n->in[i]) { import_error(n, 205, NULL, "input %d is left out", i); return; }
        v = make(n->g, rows[k].row, v, n->in[i]);
    }
    if (!strcmp(n->op, "Mean")) v = make(n->g, "div", v, const_scalar(n->g, v->dt, n->nin));
    n->out[0] = v;
}

/* A bound: one element, the infinity (or the type's own end) when it is left out. */
static Value *bound(Import *n, Value *x, const char *attr, int input, bool upper) {
    Graph *g = n->g;
    double none = upper ? INFINITY : -INFINITY;
    if (n->opset < 11) return const_scalar(g, x->dt, import_float(n, attr, none));
    Value *v = import_in(n, input);
    if (!v || v->rank < 0) return const_scalar(g, x->dt, none);
    return v->rank ? build_reshape(g, v, 0, NULL) : v;
}

static void import_clip(Import *n) {
    if (!import_need(n, 1, n->opset < 11 ? 1 : 3) || !import_same_types(n, 0, 3)) return;
    import_has(n, "consumed_inputs");
    Value *x = n->in[0], *lo = bound(n, x, "min", 1, false), *hi = bound(n, x, "max", 2, true);
    n->out[0] = make(n->g, "clip", x, lo, hi);
}

static void import_where(Import *n) {
    if (!import_need(n, 3, 3) || !import_same_types(n, 1, 3)) return;
    n->out[0] = make(n->g, "where", n->in[0], n->in[1], n->in[2]);
}

#define BINARY .kind = OP_MAP, .in = "a b", .out = "y"
#define ARITHMETIC BINARY, .types = "num", .import = import_binary
#define COMPARE BINARY, .flags = OF_CHEAP | OF_NO_GRAD, .result = "bool", .import = import_binary, \
                .vjp = {"0", "0"}
#define LOGIC BINARY, .types = "bool", .import = import_binary, .vjp = {"0", "0"}
#define BITWISE BINARY, .types = "int", .vjp = {"0", "0"}

/* ---- export ---- */

static void export_named(Export *x, Node *n, const char *op) {
    ExportNode *e = export_node(x, op);
    for (int i = 0; i < n->nin; i++) export_arg(x, e, export_in(x, n, i));
    if (!strcmp(n->op->name, "rem")) export_int(x, e, "fmod", 1);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_rem(Export *x, Node *n) { export_named(x, n, "Mod"); }
static void export_pow(Export *x, Node *n) { export_named(x, n, "Pow"); }
static void export_max(Export *x, Node *n) { export_named(x, n, "Max"); }
static void export_min(Export *x, Node *n) { export_named(x, n, "Min"); }

static void export_not_equal(Export *x, Node *n) {
    ExportRef *same = export_op(x, "Equal", BOOL, export_in(x, n, 0), export_in(x, n, 1));
    export_out(x, n, 0, export_op(x, "Not", BOOL, same));
}

/* ONNX takes single bounds. */
static void export_clip(Export *x, Node *n) {
    if (!n->in[1]->rank && !n->in[2]->rank) export_named(x, n, "Clip");
    else export_formula(x, n);
}

static void export_shift(Export *x, Node *n) {
    bool right = !strcmp(n->op->name, "shift_right");
    if (gd_dtypes[n->in[0]->dt].kind != DK_UINT) {
        export_fail(x, n, "cast to an unsigned dtype", "a shift of %s", gd_dtypes[n->in[0]->dt].name);
        return;
    }
    ExportNode *e = export_node(x, "BitShift");
    for (int i = 0; i < n->nin; i++) export_arg(x, e, export_in(x, n, i));
    export_string(x, e, "direction", right ? "RIGHT" : "LEFT");
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

/* A sum under a window over the number of its elements is one op in ONNX. */
static void export_div(Export *x, Node *n) {
    if (!export_mean(x, n)) export_default(x, n);
}

const Op gd_ops_arith[] = {
    {.name = "add", ARITHMETIC, .flags = OF_CHEAP | OF_COMMUTES, .onnx = "Add", .value = "a + b",
     .vjp = {"g", "g"}, .doc = "a + b; integers wrap."},
    {.name = "sub", ARITHMETIC, .flags = OF_CHEAP, .onnx = "Sub", .value = "a - b", .vjp = {"g", "-g"},
     .doc = "a - b; integers wrap."},
    {.name = "mul", ARITHMETIC, .flags = OF_CHEAP | OF_COMMUTES, .onnx = "Mul", .value = "a * b",
     .vjp = {"g * b", "g * a"}, .doc = "a * b; integers wrap."},
    {.name = "div", .export = export_div, ARITHMETIC, .flags = OF_CHEAP, .onnx = "Div", .value = "a / b",
     .vjp = {"g / b", "-g * y / b"}, .doc = "a / b; integers truncate, and x / 0 is 0."},
    {.name = "rem", .export = export_rem, BINARY, .types = "num", .value = "a % b", .vjp = {"g", "-g * trunc(a / b)"},
     .doc = "The remainder of truncating division, with the sign of a: C's fmod."},
    {.name = "mod", .export = export_rem, BINARY, .flags = OF_NO_GRAD, .types = "int", .value = "fmod(a, b)", .vjp = {"0", "0"},
     .doc = "The remainder of flooring division of integers, with the sign of b."},
    {.name = "mod_float", BINARY, .types = "float",
     .value = "r = a % b; r != 0 && (r < 0) != (b < 0) ? r + b : r", .vjp = {"g", "-g * floor(a / b)"},
     .doc = "The remainder of flooring division, with the sign of b."},
    {.name = "pow", .export = export_pow, BINARY, .types = "float", .value = "pow(a, b)",
     .vjp = {"b == 0 ? 0 : g * b * pow(a, b - 1)", "a > 0 ? g * y * log(a) : 0"}, .doc = "a to the power b."},
    {.name = "pow_int", .export = export_pow, BINARY, .flags = OF_NO_GRAD, .types = "i64", .elem = pow_int_elem, .vjp = {"0", "0"},
     .doc = "a to the power b of 64-bit integers, modulo 2^64; a negative power truncates."},
    {.name = "max", .export = export_max, BINARY, .flags = OF_CHEAP | OF_COMMUTES, .types = "num", .value = "max(a, b)",
     .vjp = {"a > b ? g : a == b ? 0.5 * g : 0", "b > a ? g : a == b ? 0.5 * g : 0"},
     .doc = "The larger one, NaN if either is. Of equals, each gets half of the gradient."},
    {.name = "min", .export = export_min, BINARY, .flags = OF_CHEAP | OF_COMMUTES, .types = "num", .value = "min(a, b)",
     .vjp = {"a < b ? g : a == b ? 0.5 * g : 0", "b < a ? g : a == b ? 0.5 * g : 0"},
     .doc = "The smaller one, NaN if either is. Of equals, each gets half of the gradient."},
    {.name = "clip", .export = export_clip, .kind = OP_MAP, .flags = OF_CHEAP, .in = "x lo hi", .out = "y", .types = "num",
     .value = "min(max(x, lo), hi)",
     .vjp = {"x < lo || x > hi ? 0 : g", "x < lo && lo <= hi ? g : 0", "x > hi || lo > hi ? g : 0"},
     .doc = "x, at least lo, and then at most hi."},
    {.name = "where", .kind = OP_MAP, .flags = OF_CHEAP, .in = "c a b", .out = "y", .types = "bool",
     .value = "c ? a : b", .vjp = {"0", "c ? g : 0", "c ? 0 : g"}, .onnx = "Where", .import = import_where,
     .doc = "a where c is true, b elsewhere."},

    {.name = "equal", COMPARE, .onnx = "Equal", .value = "a == b", .doc = "Is a equal to b?"},
    {.name = "not_equal", .export = export_not_equal, COMPARE, .value = "a != b", .doc = "Is a different from b?"},
    {.name = "less", COMPARE, .types = "num", .onnx = "Less", .value = "a < b", .doc = "Is a less than b?"},
    {.name = "less_equal", COMPARE, .types = "num", .onnx = "LessOrEqual", .value = "a <= b",
     .doc = "Is a less than or equal to b?"},
    {.name = "greater", COMPARE, .types = "num", .onnx = "Greater", .value = "a > b",
     .doc = "Is a greater than b?"},
    {.name = "greater_equal", COMPARE, .types = "num", .onnx = "GreaterOrEqual", .value = "a >= b",
     .doc = "Is a greater than or equal to b?"},

    {.name = "and", LOGIC, .flags = OF_CHEAP | OF_NO_GRAD | OF_COMMUTES, .onnx = "And", .value = "a && b",
     .doc = "Are both true?"},
    {.name = "or", LOGIC, .flags = OF_CHEAP | OF_NO_GRAD | OF_COMMUTES, .onnx = "Or", .value = "a || b",
     .doc = "Is either true?"},
    {.name = "xor", LOGIC, .flags = OF_CHEAP | OF_NO_GRAD | OF_COMMUTES, .onnx = "Xor", .value = "a != b",
     .doc = "Is exactly one true?"},
    {.name = "not", .kind = OP_MAP, .flags = OF_CHEAP | OF_NO_GRAD, .in = "x", .out = "y", .types = "bool",
     .onnx = "Not", .value = "!x", .vjp = {"0"}, .doc = "Is x false?"},

    {.name = "bit_and", BITWISE, .flags = OF_CHEAP | OF_NO_GRAD | OF_COMMUTES, .onnx = "BitwiseAnd",
     .import = import_binary, .value = "a & b", .doc = "Bits set in both."},
    {.name = "bit_or", BITWISE, .flags = OF_CHEAP | OF_NO_GRAD | OF_COMMUTES, .onnx = "BitwiseOr",
     .import = import_binary, .value = "a | b", .doc = "Bits set in either."},
    {.name = "bit_xor", BITWISE, .flags = OF_CHEAP | OF_NO_GRAD | OF_COMMUTES, .onnx = "BitwiseXor",
     .import = import_binary, .value = "a ^ b", .doc = "Bits set in exactly one."},
    {.name = "bit_not", .kind = OP_MAP, .flags = OF_CHEAP | OF_NO_GRAD, .in = "x", .out = "y", .types = "int",
     .onnx = "BitwiseNot", .value = "~x", .vjp = {"0"}, .doc = "Every bit the other way."},
    {.name = "shift_left", .export = export_shift, BITWISE, .flags = OF_CHEAP | OF_NO_GRAD, .value = "a << b",
     .doc = "a shifted left by b bits; 0 when b is its width or more."},
    {.name = "shift_right", .export = export_shift, BITWISE, .flags = OF_CHEAP | OF_NO_GRAD, .value = "a >> b",
     .doc = "a shifted right by b bits, the sign kept; 0 (or -1) when b is its width or more."},

    {.kind = OP_BUILD, .onnx = "Mod", .import = import_mod, .doc = "mod, or rem with fmod = 1."},
    {.kind = OP_BUILD, .onnx = "BitShift", .import = import_shift, .doc = "shift_left or shift_right."},
    {.kind = OP_BUILD, .onnx = "Pow", .settings = 2, .import = import_pow,
     .doc = "Power, of mixed types too; the result has the base's."},
    {.kind = OP_BUILD, .onnx = "Clip", .settings = 2, .import = import_clip,
     .doc = "x between two bounds, either of which may be left out."},
    {.kind = OP_BUILD, .onnx = "Max", .import = import_chain, .doc = "The largest of any number of inputs."},
    {.kind = OP_BUILD, .onnx = "Min", .import = import_chain, .doc = "The smallest of any number of inputs."},
    {.kind = OP_BUILD, .onnx = "Sum", .import = import_chain, .doc = "The sum of any number of inputs."},
    {.kind = OP_BUILD, .onnx = "Mean", .import = import_chain, .doc = "The mean of any number of inputs."},
};
const int gd_ops_arith_n = sizeof gd_ops_arith / sizeof *gd_ops_arith;
