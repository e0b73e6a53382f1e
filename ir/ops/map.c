/* Functions of one element, by formula: elementary functions and activations. Arithmetic, comparisons and
   logic of several inputs are in arith.c.

   `value` is the definition: folding, lowering, documentation and the gradient's test come from it. `vjp` is
   the cotangent of the input from that of the output, g; y is the output. At a kink it is the subgradient
   that PyTorch takes. */
#include "build.h"
#include "export.h"

/* An attribute of the same name and default as in ONNX. */
#define F(name, def) {name, AT_FLOAT, def, false}

/* A row that ONNX has under one name, or that is ours alone; both read their attributes by name. */
#define UNARY .kind = OP_MAP, .in = "x", .out = "y"
#define FLOATS UNARY, .types = "float"
#define NUMBERS UNARY, .types = "num"

/* Gelu(approximate): two functions in ONNX under one name. */
static void import_gelu(Import *n) {
    if (!import_need(n, 1, 1)) return;
    const char *how = import_string(n, "approximate", "none");
    bool tanh = !strcmp(how, "tanh");
    if (!tanh && strcmp(how, "none"))
        import_error(n, 204, "none or tanh", "attribute approximate: \"%s\"",
                     gd_escape(n->g->c, how, strlen(how)));
    else n->out[0] = make(n->g, tanh ? "gelu_tanh" : "gelu", n->in[0]);
}

/* Before version 7 the slopes are the channels', whatever the rank. */
static void import_prelu(Import *n) {
    if (!import_need(n, 2, 2) || !import_same_types(n, 0, 2)) return;
    Value *x = n->in[0], *slope = n->in[1];
    if (n->opset < 7 && slope->rank == 1 && x->rank > 2 && !is_value(slope->dim[0], 1))
        for (int i = 2; i < x->rank; i++) slope = build_unsqueeze(n->g, slope, slope->rank);
    n->out[0] = make(n->g, "prelu", x, build_fit(n->g, slope, x));
}

/* Its default constants have more digits from version 6 on. */
static void import_selu(Import *n) {
    if (!import_need(n, 1, 1)) return;
    bool old = n->opset < 6;
    import_has(n, "consumed_inputs");
    Node *m = node_begin(n->g, "selu");
    node_input(m, n->in[0]);
    node_float(m, "alpha", import_float(n, "alpha", old ? 1.6732 : 1.67326319217681884765625));
    node_float(m, "gamma", import_float(n, "gamma", old ? 1.0507 : 1.05070102214813232421875));
    n->out[0] = node_finish(m);
}

/* a * sigmoid(alpha a) * b */
static void import_swiglu(Import *n) {
    if (!import_need(n, 2, 2) || !import_same_types(n, 0, 2)) return;
    Node *m = node_begin(n->g, "swish");
    node_input(m, n->in[0]);
    node_float(m, "alpha", import_float(n, "alpha", 1));
    n->out[0] = make(n->g, "mul", node_finish(m), n->in[1]);
}

/* ---- export ---- */

/* For training only. */
static void export_detach(Export *x, Node *n) { export_out(x, n, 0, export_op(x, "Identity", n->out[0]->dt, export_in(x, n, 0))); }

/* Rows whose name ONNX has for some approximation or version of them. */
static void export_named(Export *x, Node *n, const char *op, const char *const *attrs) {
    ExportNode *e = export_node(x, op);
    for (int i = 0; i < n->nin; i++) export_arg(x, e, export_in(x, n, i));
    for (int i = 0; attrs && attrs[i]; i++) export_float(x, e, attrs[i], attr_float(n, attrs[i]));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_selu(Export *x, Node *n) { export_named(x, n, "Selu", (const char *const[]){"alpha", "gamma", NULL}); }

/* The slope may have fewer axes than x, not more. */
static void export_prelu(Export *x, Node *n) {
    if (n->in[1]->rank <= n->in[0]->rank) export_named(x, n, "PRelu", NULL);
    else export_formula(x, n);
}

static void export_gelu(Export *x, Node *n) {
    ExportNode *e = export_node(x, "Gelu");
    export_arg(x, e, export_in(x, n, 0));
    export_string(x, e, "approximate", strcmp(n->op->name, "gelu") ? "tanh" : "none");
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_by(Export *x, Node *n, const char *text) {
    Map *values = map_new(x->c);
    map_puts(values, "x", n->in[0]);
    export_text(x, n, text, values, NULL);
}

/* ONNX-ML's. */
static void export_binarize(Export *x, Node *n) {
    ExportRef *in = export_in(x, n, 0), *level = export_number(x, in->dt, attr_float(n, "threshold"));
    export_out(x, n, 0, export_cast(x, export_op(x, "Greater", BOOL, in, level), in->dt));
}

static void export_trunc(Export *x, Node *n) { export_by(x, n, "sign(x) * floor(abs(x))"); }
/* (e^x - 1) = tanh(x / 2) (e^x + 1) */
static void export_expm1(Export *x, Node *n) { export_by(x, n, "tanh(x * 0.5) * (exp(x) + 1)"); }
/* Kahan: what 1 + x loses is put right by x / ((1 + x) - 1). */
static void export_log1p(Export *x, Node *n) {
    export_by(x, n, "u = x + 1; d = u - 1; equal(d, 0) ? x : isinf(u) ? u : log(u) * (x / d)");
}

const Op gd_ops_map[] = {
    /* ---- simple ---- */
    {.name = "detach", .export = export_detach, .kind = OP_MAP, .flags = OF_CHEAP | OF_NO_GRAD, .in = "x", .out = "y", .value = "x",
     .vjp = {"0"}, .doc = "x, taken as a constant by differentiation."},
    {.name = "neg", NUMBERS, .flags = OF_CHEAP, .onnx = "Neg", .value = "-x", .vjp = {"-g"},
     .doc = "Minus x; integers wrap."},
    {.name = "abs", NUMBERS, .flags = OF_CHEAP, .onnx = "Abs", .value = "abs(x)",
     .vjp = {"x > 0 ? g : x < 0 ? -g : 0"}, .doc = "The absolute value. Its gradient at 0 is 0."},
    {.name = "sign", NUMBERS, .flags = OF_CHEAP | OF_NO_GRAD, .onnx = "Sign",
     .value = "x > 0 ? 1 : x < 0 ? -1 : x", .vjp = {"0"}, .doc = "1, 0 or -1."},
    {.name = "reciprocal", FLOATS, .flags = OF_CHEAP, .onnx = "Reciprocal", .value = "1 / x",
     .vjp = {"-g * y * y"}, .doc = "1 / x."},
    {.name = "floor", FLOATS, .flags = OF_CHEAP | OF_NO_GRAD | OF_MONOTONE, .onnx = "Floor",
     .value = "floor(x)", .vjp = {"0"}, .doc = "The largest integer not above x."},
    {.name = "ceil", FLOATS, .flags = OF_CHEAP | OF_NO_GRAD | OF_MONOTONE, .onnx = "Ceil", .value = "ceil(x)",
     .vjp = {"0"}, .doc = "The smallest integer not below x."},
    {.name = "rint", FLOATS, .flags = OF_CHEAP | OF_NO_GRAD | OF_MONOTONE, .onnx = "Round",
     .value = "rint(x)", .vjp = {"0"}, .doc = "The nearest integer, the even one of two."},
    {.name = "trunc", .export = export_trunc, FLOATS, .flags = OF_CHEAP | OF_NO_GRAD | OF_MONOTONE, .value = "trunc(x)", .vjp = {"0"},
     .doc = "The integer part."},
    {.name = "isnan", FLOATS, .flags = OF_CHEAP | OF_NO_GRAD, .result = "bool", .onnx = "IsNaN",
     .value = "isnan(x)", .vjp = {"0"}, .doc = "Is x not a number?"},
    {.name = "isinf", FLOATS, .flags = OF_CHEAP | OF_NO_GRAD, .result = "bool", .onnx = "IsInf",
     .attrs = {{"detect_negative", AT_INT, 1, false}, {"detect_positive", AT_INT, 1, false}},
     .value = "(detect_positive != 0 && x == inf) || (detect_negative != 0 && x == -inf)", .vjp = {"0"},
     .doc = "Is x infinite, with a sign that is asked for?"},

    /* ---- elementary functions ---- */
    {.name = "sqrt", FLOATS, .flags = OF_CHEAP, .onnx = "Sqrt", .value = "sqrt(x)", .vjp = {"g * 0.5 / y"},
     .doc = "The square root; NaN below 0."},
    {.name = "exp", FLOATS, .onnx = "Exp", .value = "exp(x)", .vjp = {"g * y"}, .doc = "e to the power x."},
    {.name = "log", FLOATS, .onnx = "Log", .value = "log(x)", .vjp = {"g / x"},
     .doc = "The natural logarithm."},
    {.name = "expm1", .export = export_expm1, FLOATS, .value = "expm1(x)", .vjp = {"g * (y + 1)"},
     .doc = "exp(x) - 1, accurate near 0."},
    {.name = "log1p", .export = export_log1p, FLOATS, .value = "log1p(x)", .vjp = {"g / (x + 1)"},
     .doc = "log(1 + x), accurate near 0."},
    {.name = "sin", FLOATS, .onnx = "Sin", .value = "sin(x)", .vjp = {"g * cos(x)"},
     .doc = "Sine of x radians."},
    {.name = "cos", FLOATS, .onnx = "Cos", .value = "cos(x)", .vjp = {"-g * sin(x)"},
     .doc = "Cosine of x radians."},
    {.name = "tan", FLOATS, .onnx = "Tan", .value = "tan(x)", .vjp = {"g * (1 + y * y)"},
     .doc = "Tangent of x radians."},
    {.name = "asin", FLOATS, .onnx = "Asin", .value = "asin(x)", .vjp = {"g / sqrt(1 - x * x)"},
     .doc = "The angle whose sine is x."},
    {.name = "acos", FLOATS, .onnx = "Acos", .value = "acos(x)", .vjp = {"-g / sqrt(1 - x * x)"},
     .doc = "The angle whose cosine is x."},
    {.name = "atan", FLOATS, .onnx = "Atan", .value = "atan(x)", .vjp = {"g / (1 + x * x)"},
     .doc = "The angle whose tangent is x."},
    {.name = "sinh", FLOATS, .onnx = "Sinh", .value = "sinh(x)", .vjp = {"g * cosh(x)"},
     .doc = "Hyperbolic sine."},
    {.name = "cosh", FLOATS, .onnx = "Cosh", .value = "cosh(x)", .vjp = {"g * sinh(x)"},
     .doc = "Hyperbolic cosine."},
    {.name = "asinh", FLOATS, .onnx = "Asinh", .value = "asinh(x)", .vjp = {"g / sqrt(x * x + 1)"},
     .doc = "Inverse of sinh."},
    {.name = "acosh", FLOATS, .onnx = "Acosh", .value = "acosh(x)", .vjp = {"g / sqrt(x * x - 1)"},
     .doc = "Inverse of cosh on x >= 1."},
    {.name = "atanh", FLOATS, .onnx = "Atanh", .value = "atanh(x)", .vjp = {"g / (1 - x * x)"},
     .doc = "Inverse of tanh."},
    {.name = "erf", FLOATS, .onnx = "Erf", .value = "erf(x)", .vjp = {"g * 1.1283791670955126 * exp(-x * x)"},
     .doc = "The error function."},

    /* ---- activations ---- */
    {.name = "tanh", FLOATS, .onnx = "Tanh", .value = "tanh(x)", .vjp = {"g * (1 - y * y)"},
     .doc = "Hyperbolic tangent."},
    {.name = "sigmoid", FLOATS, .onnx = "Sigmoid", .value = "sigmoid(x)", .vjp = {"g * y * (1 - y)"},
     .doc = "1 / (1 + exp(-x))."},
    {.name = "relu", NUMBERS, .flags = OF_CHEAP | OF_MONOTONE, .onnx = "Relu", .value = "max(x, 0)",
     .vjp = {"x <= 0 ? 0 : g"}, .doc = "The positive part. Its gradient at 0 is 0."},
    {.name = "leaky_relu", FLOATS, .flags = OF_CHEAP, .attrs = {F("alpha", .01)}, .onnx = "LeakyRelu",
     .value = "x < 0 ? alpha * x : x", .vjp = {"x > 0 ? g : alpha * g"},
     .doc = "x, scaled where it is negative."},
    {.name = "prelu", .export = export_prelu, .kind = OP_MAP, .flags = OF_CHEAP, .in = "x slope", .out = "y", .types = "num",
     .value = "x < 0 ? slope * x : x", .vjp = {"x > 0 ? g : slope * g", "x > 0 ? 0 : x * g"},
     .doc = "x, scaled by a learned slope where it is negative."},
    {.name = "elu", FLOATS, .attrs = {F("alpha", 1)}, .onnx = "Elu", .value = "x < 0 ? alpha * expm1(x) : x",
     .vjp = {"x > 0 ? g : g * (y + alpha)"}, .doc = "x, or alpha * (exp(x) - 1) where it is negative."},
    {.name = "selu", .export = export_selu, FLOATS,
     .attrs = {F("alpha", 1.67326319217681884765625), F("gamma", 1.05070102214813232421875)},
     .value = "gamma * (x < 0 ? alpha * expm1(x) : x)",
     .vjp = {"x > 0 ? g * gamma : g * (y + gamma * alpha)"},
     .doc = "elu scaled by gamma, so that activations normalise themselves."},
    {.name = "celu", FLOATS, .attrs = {F("alpha", 1)}, .onnx = "Celu",
     .value = "x < 0 ? alpha * expm1(x / alpha) : x", .vjp = {"x > 0 ? g : g * (y / alpha + 1)"},
     .doc = "elu with a continuous derivative."},
    {.name = "softplus", FLOATS, .onnx = "Softplus", .value = "max(x, 0) + log1p(exp(-abs(x)))",
     .vjp = {"g * sigmoid(x)"}, .doc = "log(1 + exp(x)) without overflow."},
    {.name = "softsign", FLOATS, .flags = OF_CHEAP, .onnx = "Softsign", .value = "x / (1 + abs(x))",
     .vjp = {"d = 1 + abs(x); g / (d * d)"}, .doc = "x / (1 + |x|)."},
    {.name = "hard_sigmoid", FLOATS, .flags = OF_CHEAP | OF_MONOTONE,
     .attrs = {F("alpha", .2), F("beta", .5)}, .onnx = "HardSigmoid",
     .value = "max(0, min(1, alpha * x + beta))",
     .vjp = {"t = alpha * x + beta; t > 0 && t < 1 ? alpha * g : 0"}, .doc = "A line clipped to [0, 1]."},
    {.name = "hard_swish", FLOATS, .flags = OF_CHEAP, .onnx = "HardSwish",
     .value = "x * max(0, min(1, x * 0.16666666666666666 + 0.5))",
     .vjp = {"x <= -3 ? 0 : x >= 3 ? g : g * (x * 0.3333333333333333 + 0.5)"},
     .doc = "x times a hard sigmoid of x."},
    {.name = "gelu", .export = export_gelu, FLOATS, .value = "0.5 * x * (1 + erf(x * 0.7071067811865476))",
     .vjp = {"g * (0.5 * (1 + erf(x * 0.7071067811865476)) + x * 0.3989422804014327 * exp(-0.5 * x * x))"},
     .doc = "x times the probability that a standard normal variable is below x."},
    {.name = "gelu_tanh", .export = export_gelu, FLOATS, .value = "x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))",
     .vjp = {"s = sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x));"
             "g * (s + x * s * (1 - s) * 1.5957691216057308 * (1 + 0.134145 * x * x))"},
     .doc = "gelu's approximation 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), with tanh as a "
            "sigmoid."},
    {.name = "swish", .export = export_formula, FLOATS, .attrs = {F("alpha", 1)}, .onnx = "Swish", .value = "x * sigmoid(alpha * x)",
     .vjp = {"s = sigmoid(alpha * x); g * (s + alpha * y * (1 - s))"}, .doc = "x * sigmoid(alpha * x)."},
    {.name = "mish", FLOATS, .onnx = "Mish",
     .value = "e = exp(min(x, 20)); n = e * (e + 2); x * (n / (n + 2))",
     .vjp = {"e = exp(min(x, 20)); n = e * (e + 2); t = n / (n + 2); g * (t + x * (1 - t * t) * sigmoid(x))"},
     .doc = "x * tanh(softplus(x)), where tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2) is used."},
    {.name = "thresholded_relu", FLOATS, .flags = OF_CHEAP, .attrs = {F("alpha", 1)},
     .onnx = "ThresholdedRelu", .value = "x <= alpha ? 0 : x", .vjp = {"x <= alpha ? 0 : g"},
     .doc = "x where it is above alpha, else 0."},
    {.name = "binarize", .export = export_binarize, FLOATS, .flags = OF_CHEAP | OF_NO_GRAD, .attrs = {F("threshold", 0)}, .onnx = "ai.onnx.ml:Binarizer",
     .value = "x > threshold ? 1 : 0", .vjp = {"0"}, .doc = "1 above the threshold, else 0."},
    {.name = "shrink", NUMBERS, .flags = OF_CHEAP, .attrs = {F("bias", 0), F("lambd", .5)}, .onnx = "Shrink",
     .value = "x < -lambd ? x + bias : x > lambd ? x - bias : 0", .vjp = {"x < -lambd || x > lambd ? g : 0"},
     .doc = "0 near 0, beyond it moved towards 0 by bias."},

    /* ---- ONNX names with more than one form ---- */
    {.kind = OP_BUILD, .onnx = "Gelu", .import = import_gelu,
     .doc = "gelu, or gelu_tanh with approximate = \"tanh\"."},
    {.kind = OP_BUILD, .onnx = "PRelu", .import = import_prelu,
     .doc = "x, scaled by slope where it is negative."},
    {.kind = OP_BUILD, .onnx = "Selu", .import = import_selu, .doc = "Scaled elu."},
    {.kind = OP_BUILD, .onnx = "SwiGLU", .import = import_swiglu,
     .doc = "swish of the first input times the second."},
};
const int gd_ops_map_n = sizeof gd_ops_map / sizeof *gd_ops_map;
