/* Spectra: DFT, STFT and the mel filters. A transform is a sum of products with tables of cosines and sines;
   the angle of term j of frequency k is taken from k j modulo the length, in whole numbers, so tables are
   exact however long they are. */
#include "build.h"
#include "sample.h"

static DType wide_type(DType t) { return t == F64 ? F64 : F32; }

/* The only element of an integer input as an expression; NULL after an error. */
static Expr *scalar_input(Import *n, Value *v, const char *what) {
    Expr **e = NULL;
    if (v->rank >= 0 && v->rank <= 1 && dt_int(v->dt))
        e = value_read(n->g, build_cast(n->g, v, I64), what, NULL);
    if (!e && v->rank >= 0) import_error(n, 301, NULL, "the %s is no integer", what);
    return e ? e[0] : NULL;
}

/* The cosines or sines of 2 pi k j / length, [K, J]. `twice`: terms of frequencies that stand for two count
 * double. */
static Value *table(Graph *g, DType t, const char *function, Expr *k, Expr *j, Expr *length, bool twice) {
    Ctx *c = g->c;
    Expr *dim[] = {k, j};
    Map *values = map_new(c);
    map_puts(values, "k", build_iota(g, I64, 2, dim, 0));
    map_puts(values, "j", build_iota(g, I64, 2, dim, 1));
    map_puts(values, "n", build_scalar(g, I64, length));
    map_puts(values, "turn", build_cast(g, graph_text(g, "mod(k * j, n)", values, NULL), F64));
    map_puts(values, "length", build_scalar(g, F64, length));
    Value *v = make(g, function, graph_text(g, "turn / length * 6.283185307179586", values, NULL));
    if (twice) {
        map_puts(values, "v", v);
        v = graph_text(g, "j == 0 || 2 * j == n ? v : 2 * v", values, NULL);
    }
    return build_cast(g, v, t);
}

/* Sums along an axis with the rows of a table in its place. */
static Value *transform(Graph *g, Value *x, int axis, Value *rows) {
    int64_t perm[MAX_RANK];
    Value *y = build_contract(g, x, rows, 0, axis, 1);
    for (int i = 0; i < x->rank; i++) perm[i] = i < axis ? i : i == axis ? x->rank - 1 : i - 1;
    return y->rank < 0 ? y : build_transpose(g, y, perm);
}

/* Element `which` of the last axis, which has one (real) or two (complex) elements. */
static Value *part(Graph *g, Value *x, Expr *which) {
    Value *v = build_slice_axis(g, x, x->rank - 1, which, expr_int(g->c, 1));
    return build_squeeze(g, build_cast(g, v, wide_type(x->dt)), x->rank - 1);
}

static Value *real_part(Graph *g, Value *x) { return part(g, x, expr_int(g->c, 0)); }

/* NULL for a real signal; zeros for one of which only the call decides that it is real. */
static Value *imaginary_part(Graph *g, Value *x) {
    Expr *parts = x->dim[x->rank - 1];
    if (is_value(parts, 1)) return NULL;
    Value *v = part(g, x, expr_sub(g->c, parts, expr_int(g->c, 1)));
    if (is_value(parts, 2) || v->rank < 0) return v;
    Map *values = map_new(g->c);
    map_puts(values, "parts", build_scalar(g, I64, parts));
    map_puts(values, "v", v);
    return graph_text(g, "parts == 2 ? v : 0", values, NULL);
}

/* re (and im) along an axis become complex frequencies, or signals: sum (re + i im) (cos -+ i sin). real:
   only the real part of a signal whose other half of frequencies is understood. */
static Value *spectrum(Graph *g, Value *re, Value *im, int axis, Expr *length, Expr *count, bool inverse,
                       bool real) {
    Expr *terms = re->dim[axis];
    Value *cosine = table(g, re->dt, "cos", count, terms, length, real),
          *sine = table(g, re->dt, "sin", count, terms, length, real);
    if (inverse) sine = make(g, "neg", sine);
    Value *y[2] = {transform(g, re, axis, cosine),
                   real ? NULL : make(g, "neg", transform(g, re, axis, sine))};
    if (im) {
        y[0] = make(g, "add", y[0], transform(g, im, axis, sine));
        if (y[1]) y[1] = make(g, "add", y[1], transform(g, im, axis, cosine));
    }
    for (int i = 0; i < 2 && y[i]; i++) {
        if (inverse) y[i] = make(g, "div", y[i], build_scalar(g, re->dt, length));
        y[i] = build_unsqueeze(g, y[i], re->rank);
    }
    return y[1] ? build_concat(g, 2, y, re->rank) : y[0];
}

/* Frequencies of a real signal that differ: half of them and one. */
static Expr *half(Ctx *c, Expr *length) {
    return expr_add(c, expr_fdiv(c, length, expr_int(c, 2)), expr_int(c, 1));
}

/* Real or complex: one part or two. An open number of parts is taken for two. */
static void require_parts(Import *n, Expr *last) {
    Ctx *c = n->g->c;
    Expr *real = expr2(c, E_EQ, last, expr_int(c, 1)), *complex = expr2(c, E_EQ, last, expr_int(c, 2));
    import_require(n, expr2(c, E_OR, real, complex), "the last axis has 1 element (real) or 2 (complex)");
}

/* Along one axis. length: NULL, as many elements as there are (or as their half of frequencies stands for,
   at least one). */
static Value *dft_along(Import *n, int axis, Expr *length) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Value *x = n->in[0];
    bool inverse = import_int(n, "inverse", 0) != 0, onesided = import_int(n, "onesided", 0) != 0,
         real = inverse && onesided;
    Expr *two = expr_int(c, 2), *one = expr_int(c, 1), *size = x->dim[axis];
    if (!length) length = real ? expr2(c, E_MAX, expr_mul(c, two, expr_sub(c, size, one)), one) : size;
    import_require(n, expr2(c, E_LT, expr_int(c, 0), length), "a transform of no elements");
    Expr *terms = expr2(c, E_MIN, size, real ? half(c, length) : length);
    x = build_slice_axis(g, x, axis, expr_int(c, 0), terms);
    if (x->rank < 0) return x;
    Value *im = imaginary_part(g, x);
    Expr *count = onesided && !inverse ? half(c, length) : length;
    return build_cast(g, spectrum(g, real_part(g, x), im, axis, length, count, inverse, real), x->dt);
}

/* Along an axis that only the data knows, from `axis` on: one of two graphs. */
static Value *dft_chosen(Import *n, int axis, Expr *which, Expr *length) {
    Graph *g = n->g;
    Ctx *c = g->c;
    int rank = n->in[0]->rank;
    if (axis == rank - 2) return dft_along(n, axis, length);
    Expr *here = axis_is(c, which, axis, rank);
    Value *y[2], *cond = value_of_exprs(g, 0, 1, &here);
    Graph **region = gd_new_array(c, Graph *, 2);
    for (int i = 0; i < 2; i++) {
        n->g = region[i] = graph_region(g);
        y[i] = i ? dft_chosen(n, axis + 1, which, length) : dft_along(n, axis, length);
        graph_output(region[i], "y", y[i]);
    }
    n->g = g;
    if (y[0]->rank != rank || y[1]->rank != rank) return y[0];
    Var *syms[MAX_RANK];
    int nsyms = 0;
    for (int k = 0; k < rank; k++)
        if (y[0]->dim[k] != y[1]->dim[k]) syms[nsyms++] = graph_data_symbol(g, "D", NULL);
    Node *choice = node_begin(g, "if");
    node_input(choice, cond);
    node_syms(choice, "syms", nsyms, syms);
    choice->region = region;
    choice->nregions = 2;
    choice->nout = 1;
    return node_finish(choice);
}

static void import_dft(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 1, 3) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *given = import_in(n, 1), *where = import_in(n, 2);
    int64_t at = n->opset < 20 ? import_int(n, "axis", 1) : -2;
    Expr *length = given ? scalar_input(n, given, "length") : NULL;
    if ((given && !length) || x->rank < 2) return;
    require_parts(n, x->dim[x->rank - 1]);
    if (where && !import_const_scalar(n, 2, &at)) {
        Expr *which = scalar_input(n, where, "axis"), *rank = expr_int(c, x->rank);
        if (!which) return;
        Expr *axis = expr_fmod(c, which, rank);
        import_require(n, expr2(c, E_LT, axis, expr_int(c, x->rank - 1)),
                       "the last axis holds the real and the imaginary part");
        n->out[0] = dft_chosen(n, 0, which, length);
        return;
    }
    int axis = import_axis(n, at, x->rank);
    if (axis == x->rank - 1)
        import_error(n, 204, NULL, "the last axis holds the real and the imaginary part");
    else if (axis >= 0) n->out[0] = dft_along(n, axis, length);
}

/* Frames of [B, N] as [B, frames, length]. */
static Value *frames(Graph *g, Value *x, Expr *count, Expr *length, Expr *step) {
    Ctx *c = g->c;
    Expr *dim[] = {count, length}, *column[] = {count, expr_int(c, 1)};
    Value *start = make(g, "mul", build_iota(g, I64, 2, column, 0), build_scalar(g, I64, step));
    Value *at = make(g, "add", start, build_iota(g, I64, 2, dim, 1));
    Value *row = build_broadcast(g, const_scalar(g, I64, 0), 2, column);
    return build_sample(g, build_unsqueeze(g, x, 1), 2, (const int64_t[]){1, 2}, (Value *const[]){row, at});
}

static void import_stft(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 2, 4) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *window = import_in(n, 2), *given = import_in(n, 3);
    bool onesided = import_int(n, "onesided", 1) != 0;
    if (x->rank == 2) x = build_unsqueeze(g, x, 2);
    if (x->rank != 3 || (window && window->rank != 1)) {
        import_error(n, 301, NULL, "a signal of %d axes, not 3, or a window that is no vector",
                     n->in[0]->rank);
        return;
    }
    require_parts(n, x->dim[2]);
    Expr *step = scalar_input(n, n->in[1], "step"), *zero = expr_int(c, 0), *one = expr_int(c, 1);
    Expr *length = given ? scalar_input(n, given, "length") : window ? window->dim[0] : x->dim[1];
    if (!step || !length) return;
    import_require(n, expr2(c, E_AND, expr2(c, E_LT, zero, step), expr2(c, E_LE, length, x->dim[1])),
                   "frames longer than the signal, or a step of 0");
    import_require(n, expr2(c, E_LT, zero, length), "frames of no elements");
    Expr *count = expr_add(c, expr_fdiv(c, expr_sub(c, x->dim[1], length), step), one);
    Value *p[2] = {real_part(g, x), imaginary_part(g, x)};
    for (int i = 0; i < 2 && p[i]; i++) {
        if (p[i]->rank < 0) return;
        p[i] = frames(g, p[i], count, length, step);
        if (window) p[i] = make(g, "mul", p[i], build_cast(g, window, p[i]->dt));
        if (p[i]->rank < 0) return;
    }
    Expr *bins = onesided ? expr_select(c, expr2(c, E_EQ, x->dim[2], one), half(c, length), length) : length;
    n->out[0] = build_cast(g, spectrum(g, p[0], p[1], 2, length, bins, false, false), n->in[0]->dt);
}

/* Triangles between neighbouring points that are equally far apart on the mel scale, 2595 log10(1 + f / 700).
 */
static void import_mel(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Value *in[5];
    if (!import_need(n, 5, 5)) return;
    for (int i = 0; i < 5; i++) {
        if (n->in[i]->rank < 0) return;
        in[i] = build_cast(g, build_reshape(g, n->in[i], 0, NULL), i < 3 ? I64 : F64);
    }
    DType t = import_dtype(n, "output_datatype", F32);
    Expr *bins = scalar_input(n, in[0], "number of bins"), *length = scalar_input(n, in[1], "length");
    if (!bins || !length || t == DT_NONE) return;
    Expr *dim[] = {half(c, length), bins};
    Map *values = map_new(c);
    map_puts(values, "row", build_iota(g, I64, 2, dim, 0));
    map_puts(values, "bins", build_scalar(g, F64, bins));
    map_puts(values, "length", build_scalar(g, F64, length));
    map_puts(values, "rate", build_cast(g, in[2], F64));
    map_puts(values, "from",
             graph_text(g, "2595 * log1p(f / 700) / 2.302585092994046",
                        (map_puts(values, "f", in[3]), values), NULL));
    map_puts(values, "to",
             graph_text(g, "2595 * log1p(f / 700) / 2.302585092994046",
                        (map_puts(values, "f", in[4]), values), NULL));
    static const char *const point[] = {"lower", "centre", "higher"};
    for (int i = 0; i < 3; i++) {
        Value *at = make(g, "add", build_iota(g, F64, 2, dim, 1), const_scalar(g, F64, i));
        map_puts(values, "i", at);
        map_puts(values, "hertz",
                 graph_text(g,
                            "700 * expm1((i * ((to - from) / (bins + 2)) + from) / 2595 * 2.302585092994046)",
                            values, NULL));
        map_puts(values, point[i],
                 build_cast(g, graph_text(g, "floor((length + 1) * hertz / rate)", values, NULL), I64));
    }
    map_puts(values, "up", build_cast(g, graph_text(g, "centre - lower", values, NULL), F64));
    map_puts(values, "down", build_cast(g, graph_text(g, "higher - centre", values, NULL), F64));
    map_puts(values, "rising", build_cast(g, graph_text(g, "row - lower", values, NULL), F64));
    map_puts(values, "falling", build_cast(g, graph_text(g, "higher - row", values, NULL), F64));
    Value *y = graph_text(g,
                          "row >= centre && row < higher ? falling / down : row == centre && up == 0 ? 1 : "
                          "row >= lower && row <= centre && up != 0 ? rising / up : 0 * up",
                          values, NULL);
    n->out[0] = build_cast(g, y, t);
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_signal[] = {
    {BUILD = "DFT", .import = import_dft,
     .doc = "The discrete Fourier transform along an axis, or its inverse."},
    {BUILD = "STFT", .settings = 2, .import = import_stft, .doc = "The transforms of overlapping frames."},
    {BUILD = "MelWeightMatrix", .settings = 1, .import = import_mel,
     .doc = "From frequencies to mel bins: triangular filters."},
};
const int gd_ops_signal_n = sizeof gd_ops_signal / sizeof *gd_ops_signal;
