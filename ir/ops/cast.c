/* Conversions between dtypes. The scalar instruction cast (scalar.def) rounds to nearest even, turns float
   overflow into infinity or NaN and saturates to integers; what ONNX wants beside that is done to the value
   before it. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"

static bool floats(DType t) { return dt_float(t) || dt_small(t); }
static bool numeric(DType t) { return floats(t) || dt_int(t) || t == BOOL; }

static int width(DType t) {
    switch (t) {
    case I4: case U4: case F4E2M1: return 4;
    case I2: case U2: return 2;
    default: return 8 * gd_dtypes[t].bytes;
    }
}

/* ---- cast ---- */

/* The largest finite value of the types that `saturate` is about; 0 of others. */
static double largest(DType t) {
    switch (t) {
    case F8E4M3FN: return 448;
    case F8E4M3FNUZ: return 240;
    case F8E5M2: case F8E5M2FNUZ: return 57344;
    default: return 0;
    }
}

/* x as the power of two that f8e8m0 keeps: up, down or to the nearest, a tie up. What has no such power is
   the nearest one with saturate and NaN without it. Subnormals below 2^-127 are less than the least power. */
static Expr *to_power(Ctx *c, Expr *x, bool saturate, const char *mode) {
    const char *round = !strcmp(mode, "down") ? "a"
                        : !strcmp(mode, "nearest") ? "a < 0x800000 ? a + 0x200000 : a + 0x400000"
                                                   : "a < 0x800000 ? a + 0x3fffff : a + 0x7fffff";
    Map *names = map_new(c);
    map_puts(names, "x", expr_cast(c, x, F32));
    map_puts(names, "a", gd_formula(c, "as_u32(x) & 0x7fffffff", names, U32));
    map_puts(names, "b", gd_formula(c, round, names, U32));
    map_puts(names, "p", gd_formula(c, "b < 0x800000 ? b & 0x400000 : b & 0x7f800000", names, U32));
    return gd_formula(c,
                      saturate ? "isnan(x) ? x : as_f32(p == 0 ? 0x400000 : p > 0x7f000000 ? 0x7f000000 : p)"
                               : "as_f32(p == 0 || p > 0x7f000000 ? 0x7fc00000 : p)",
                      names, F32);
}

/* f64 as f32, made odd where that is not exact: rounding once more, to fewer bits, is then rounding once. */
static Expr *odd_f32(Ctx *c, Expr *x) {
    Map *names = map_new(c);
    map_puts(names, "x", x);
    return gd_formula(c, "t = f32(x); d = f64(t); b = as_u32(t); w = abs(d) > abs(x) ? b - 1 : b;"
                         "as_f32(d == x || isnan(x) ? b : w | 1)", names, F64);
}

static Expr *to_small(Ctx *c, Expr *x, DType to, bool saturate, const char *mode) {
    double top = saturate ? largest(to) : 0;
    if (to == F8E8M0) return expr_cast(c, to_power(c, x, saturate, mode), to);
    DType t = (DType)x->type.dt;
    if (top != 0) x = expr2(c, E_MIN, expr2(c, E_MAX, x, expr_num(c, t, -top)), expr_num(c, t, top));
    if (to == F4E2M1) x = expr_select(c, expr1(c, E_ISNAN, x), expr_num(c, t, -0.0), x);
    return expr_cast(c, t == F64 ? odd_f32(c, x) : x, to);
}

/* Small floats convert from and to f32 only. To integers of less than a byte through i32, whose low bits are
   taken. */
static Expr *convert(Lower *L, Expr *x, DType to, bool saturate, const char *mode) {
    Ctx *c = L->c;
    if ((DType)x->type.dt == to) return x;
    if (dt_small((DType)x->type.dt)) x = expr_cast(c, x, F32);
    DType from = (DType)x->type.dt;
    if (dt_small(to)) return to_small(c, dt_float(from) ? x : expr_cast(c, x, F32), to, saturate, mode);
    if (dt_float(from) && to == BOOL) return expr2(c, E_NE, x, expr_num(c, from, 0)); /* NaN is not zero */
    if (dt_float(from) && width(to) < 8) x = expr_cast(c, x, I32);
    return expr_cast(c, x, to);
}

static void cast_to(Node *n, DType to) {
    DType from = n->in[0]->dt;
    if (from != to && (!numeric(from) || !numeric(to))) {
        node_error(n, 403, NULL, "a conversion from %s to %s", gd_dtypes[from].name, gd_dtypes[to].name);
        return;
    }
    node_out(n, 0, to, n->in[0]->rank, n->in[0]->dim);
}

static void cast_shape(Node *n) { cast_to(n, (DType)attr_int(n, "to")); }

static Expr *cast_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    const char *mode = attr_string(n, "round_mode");
    return convert(L, lower_elem(L, n->in[0], idx), n->out[0]->dt, attr_int(n, "saturate") != 0,
                   mode ? mode : "up");
}

/* Between floats the cotangent is converted back; an integer has none. */
static void cast_grad(Grad *G, Node *n, Value *const *dy) {
    if (floats(n->in[0]->dt) && floats(n->out[0]->dt))
        grad_add(G, n->in[0], build_cast(G->g, dy[0], n->in[0]->dt));
}

static void castlike_shape(Node *n) { cast_to(n, n->in[1]->dt); }
static Expr *castlike_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    return convert(L, lower_elem(L, n->in[0], idx), n->out[0]->dt, true, "up");
}

/* ---- bitcast ---- */

static void bitcast_shape(Node *n) {
    DType from = n->in[0]->dt, to = (DType)attr_int(n, "to");
    if (!numeric(from) || !numeric(to) || width(from) != width(to))
        node_error(n, 302, "both must have the same number of bits", "the bits of %s as %s",
                   gd_dtypes[from].name, gd_dtypes[to].name);
    else node_out(n, 0, to, n->in[0]->rank, n->in[0]->dim);
}

static Expr *bitcast_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Expr *x = lower_elem(L, n->in[0], idx);
    DType to = n->out[0]->dt;
    if ((DType)x->type.dt == BOOL) x = expr_cast(L->c, x, U8);
    if (to == BOOL) return expr_cast(L->c, x, BOOL);
    return (DType)x->type.dt == to ? x : expr_op(L->c, E_BITS, (Type){(uint8_t)to, x->type.lanes}, 1, &x);
}

/* ---- ONNX ---- */

static DType dtype_named(Import *n, const char *s) { /* Cast before version 6 names it */
    static const struct { const char *name; DType t; } names[] = {
        {"FLOAT", F32}, {"DOUBLE", F64}, {"FLOAT16", F16}, {"INT8", I8}, {"INT16", I16}, {"INT32", I32},
        {"INT64", I64}, {"UINT8", U8}, {"UINT16", U16}, {"UINT32", U32}, {"UINT64", U64}, {"BOOL", BOOL},
        {"STRING", STRING}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, s)) return names[i].t;
    import_error(n, 204, NULL, "attribute to: there is no dtype \"%s\"", gd_escape(n->g->c, s, strlen(s)));
    return DT_NONE;
}

static void import_cast(Import *n) {
    if (!import_need(n, 1, 1)) return;
    DType to = n->opset < 6 ? dtype_named(n, import_string(n, "to", "")) : import_dtype(n, "to", DT_NONE);
    if (n->opset >= 6 && to == DT_NONE && !import_has(n, "to"))
        import_error(n, 204, NULL, "attribute to is missing");
    const char *mode = import_string(n, "round_mode", "up");
    int64_t saturate = import_int(n, "saturate", 1);
    if (to == DT_NONE) return;
    if (strcmp(mode, "up") && strcmp(mode, "down") && strcmp(mode, "nearest")) {
        import_error(n, 204, "up, down or nearest", "attribute round_mode: \"%s\"",
                     gd_escape(n->g->c, mode, strlen(mode)));
        return;
    }
    if (n->in[0]->dt == to) { n->out[0] = n->in[0]; return; }
    Node *m = node_begin(n->g, "cast");
    node_input(m, n->in[0]);
    node_dtype(m, "to", to);
    node_int(m, "saturate", saturate);
    if (to == F8E8M0) node_string(m, "round_mode", mode);
    n->out[0] = node_finish(m);
}

static void import_castlike(Import *n) {
    if (!import_need(n, 2, 2)) return;
    const char *mode = import_string(n, "round_mode", "up");
    Node *m = node_begin(n->g, "cast");
    node_input(m, n->in[0]);
    node_dtype(m, "to", n->in[1]->dt);
    node_int(m, "saturate", import_int(n, "saturate", 1));
    if (n->in[1]->dt == F8E8M0) node_string(m, "round_mode", mode);
    n->out[0] = node_finish(m);
}

static void import_bitcast(Import *n) {
    if (!import_need(n, 1, 1)) return;
    DType to = import_dtype(n, "to", DT_NONE);
    if (to == DT_NONE) { import_error(n, 204, NULL, "attribute to is missing or no dtype"); return; }
    Node *m = node_begin(n->g, "bitcast");
    node_input(m, n->in[0]);
    node_dtype(m, "to", to);
    n->out[0] = node_finish(m);
}

static void export_cast_row(Export *x, Node *n) {
    ExportNode *e = export_node(x, "Cast");
    bool like = !strcmp(n->op->name, "castlike");
    const char *mode = like ? NULL : attr_string(n, "round_mode");
    export_arg(x, e, export_in(x, n, 0));
    export_int(x, e, "to", gd_dtypes[n->out[0]->dt].onnx);
    if (!like && !attr_int(n, "saturate")) export_int(x, e, "saturate", 0);
    if (mode && n->out[0]->dt == F8E8M0) export_string(x, e, "round_mode", mode);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_bitcast(Export *x, Node *n) {
    ExportNode *e = export_node(x, "BitCast");
    export_since(x, 26);
    export_arg(x, e, export_in(x, n, 0));
    export_int(x, e, "to", gd_dtypes[n->out[0]->dt].onnx);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

const Op gd_ops_cast[] = {
    {.name = "cast", .export = export_cast_row, .kind = OP_MAP, .flags = OF_CHEAP, .in = "x", .out = "y",
     .attrs = {{"to", AT_DTYPE, 0, true}, {"saturate", AT_INT, 1, false},
               {"round_mode", AT_STRING, 0, false}}, .shape = cast_shape, .elem = cast_elem,
     .grad = cast_grad,
     .doc = "x as another dtype: to nearest even between floats, towards zero and saturating to integers "
            "(of less than a byte: modulo 2^bits, as between integers). saturate: what f8 cannot hold "
            "becomes its largest value, instead of infinity or NaN. round_mode: of f8e8m0."},
    {.name = "castlike", .export = export_cast_row, .kind = OP_MAP, .flags = OF_CHEAP, .in = "x like", .out = "y",
     .shape = castlike_shape, .elem = castlike_elem, .grad = cast_grad,
     .doc = "x as the dtype of like, which is not read otherwise."},
    {.name = "bitcast", .export = export_bitcast, .kind = OP_MAP, .flags = OF_CHEAP | OF_NO_GRAD, .in = "x", .out = "y",
     .attrs = {{"to", AT_DTYPE, 0, true}}, .shape = bitcast_shape, .elem = bitcast_elem,
     .doc = "The bits of x taken as another dtype of the same width."},
    {.kind = OP_BUILD, .onnx = "Cast", .import = import_cast,
     .doc = "Conversion to the dtype of attribute to."},
    {.kind = OP_BUILD, .onnx = "CastLike", .import = import_castlike,
     .doc = "Conversion to the dtype of the second input."},
    {.kind = OP_BUILD, .onnx = "BitCast", .import = import_bitcast,
     .doc = "The same bits under another dtype."},
};
const int gd_ops_cast_n = sizeof gd_ops_cast / sizeof *gd_ops_cast;
