/* Columns back to an image: every column is a block of elements, and where blocks overlap they are summed.

   An element of the image collects from the kernel's positions in order: position k reaches pixel p from the column q with
   q * stride + k * dilation - pad = p, where there is one. So nothing is written twice and the order of the sum is fixed;
   its gradient reads the image at the same places. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"

/* x is [N, C, kernel.., columns..] with as many kernel as column axes. */
static int spatial(const Node *n) { return (n->in[0]->rank - 2) / 2; }

static bool lists_fit(Node *n) {
    int s = spatial(n);
    const Attr *stride = node_attr(n, "strides");
    bool fits = n->in[0]->rank == 2 + 2 * s && s > 0 && stride->n == s && node_attr(n, "dilations")->n == s && node_attr(n, "pads")->n == s;
    for (int i = 0; i < s && fits; i++) fits = stride->ints[i] > 0;
    if (!fits) node_error(n, 204, NULL, "strides, dilations or pads do not fit a tensor of %d axes", n->in[0]->rank);
    return fits;
}

static void col2im_shape(Node *n) {
    const Value *x = n->in[0];
    const Attr *image = node_attr(n, "image");
    Expr *dim[MAX_RANK];
    if (!lists_fit(n)) return;
    if (image->n != spatial(n)) { node_error(n, 301, NULL, "the image has %d axes instead of %d", image->n, spatial(n)); return; }
    for (int i = 0; i < 2 + image->n; i++) dim[i] = i < 2 ? x->dim[i] : image->dims[i - 2];
    node_out(n, 0, x->dt, 2 + image->n, dim);
}

typedef struct Collect { Node *n; Expr *const *idx; } Collect;

static void collect_step(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next) {
    const Collect *w = arg;
    Ctx *c = L->c;
    Value *x = w->n->in[0];
    int s = spatial(w->n);
    DType wide = (DType)acc[0]->type.dt;
    Expr *at[MAX_RANK], *there = expr_bool(c, true), *zero = expr_int(c, 0);
    at[0] = w->idx[0];
    at[1] = w->idx[1];
    for (int i = 0; i < s; i++) {
        Expr *stride = expr_int(c, node_attr(w->n, "strides")->ints[i]), *step = expr_int(c, node_attr(w->n, "dilations")->ints[i]);
        Expr *from = expr_sub(c, expr_add(c, w->idx[2 + i], expr_int(c, node_attr(w->n, "pads")->ints[i])), expr_mul(c, k[i], step));
        Expr *q = expr_fdiv(c, from, stride), *exact = expr2(c, E_EQ, expr_fmod(c, from, stride), zero);
        there = expr_and(c, expr_and(c, there, exact), expr_and(c, expr2(c, E_LE, zero, q), expr2(c, E_LT, q, x->dim[2 + s + i])));
        at[2 + i] = k[i];
        at[2 + s + i] = q;
    }
    Expr *e = lower_guarded(L, there, x, at, expr_const(c, scalar(x->dt), 0));
    next[0] = expr_add(c, acc[0], expr_cast(c, e, wide));
}

static Expr *col2im_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    const Value *x = n->in[0];
    Collect w = {n, idx};
    Accum a = {.nloops = spatial(n), .nacc = 1, .step = collect_step, .arg = &w,
               .init = {expr_const(L->c, scalar(dt_small(x->dt) ? F32 : x->dt), 0)}};
    for (int i = 0; i < a.nloops; i++) a.trip[i] = x->dim[2 + i];
    Expr *sum;
    lower_accum(L, &a, n->out[0]->rank, idx, &sum);
    return expr_cast(L->c, sum, x->dt);
}

static void col2im_grad(Grad *G, Node *n, Value *const *dy) {
    Node *d = node_begin(G->g, "im2col");
    int s = spatial(n);
    node_input(d, dy[0]);
    node_dims(d, "sizes", 2 * s, n->in[0]->dim + 2);
    static const char *const lists[] = {"strides", "dilations", "pads"};
    for (int i = 0; i < 3; i++) node_ints(d, lists[i], s, node_attr(n, lists[i])->ints);
    grad_add(G, n->in[0], node_finish(d));
}

/* ---- im2col: the other way ---- */

static void im2col_shape(Node *n) {
    const Value *x = n->in[0];
    const Attr *sizes = node_attr(n, "sizes");
    int s = x->rank - 2;
    Expr *dim[MAX_RANK];
    if (s < 1 || sizes->n != 2 * s || 2 + 2 * s > MAX_RANK || node_attr(n, "strides")->n != s || node_attr(n, "dilations")->n != s ||
        node_attr(n, "pads")->n != s) {
        node_error(n, 204, NULL, "sizes, strides, dilations or pads do not fit a tensor of %d axes", x->rank);
        return;
    }
    for (int i = 0; i < 2 + 2 * s; i++) dim[i] = i < 2 ? x->dim[i] : sizes->dims[i - 2];
    node_out(n, 0, x->dt, 2 + 2 * s, dim);
}

static Expr *im2col_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    Value *x = n->in[0];
    int s = x->rank - 2;
    Expr *at[MAX_RANK] = {idx[0], idx[1]}, *inside = expr_bool(c, true), *zero = expr_int(c, 0);
    for (int i = 0; i < s; i++) {
        Expr *q = expr_mul(c, idx[2 + s + i], expr_int(c, node_attr(n, "strides")->ints[i]));
        Expr *k = expr_mul(c, idx[2 + i], expr_int(c, node_attr(n, "dilations")->ints[i]));
        at[2 + i] = expr_sub(c, expr_add(c, q, k), expr_int(c, node_attr(n, "pads")->ints[i]));
        inside = expr_and(c, inside, expr_and(c, expr2(c, E_LE, zero, at[2 + i]), expr2(c, E_LT, at[2 + i], x->dim[2 + i])));
    }
    return lower_guarded(L, inside, x, at, expr_const(c, scalar(x->dt), 0));
}

static void im2col_grad(Grad *G, Node *n, Value *const *dy) {
    Node *d = node_begin(G->g, "col2im");
    int s = n->in[0]->rank - 2;
    node_input(d, dy[0]);
    node_dims(d, "image", s, n->in[0]->dim + 2);
    static const char *const lists[] = {"strides", "dilations", "pads"};
    for (int i = 0; i < 3; i++) node_ints(d, lists[i], s, node_attr(n, lists[i])->ints);
    grad_add(G, n->in[0], node_finish(d));
}

/* ---- ONNX ---- */

static void import_col2im(Import *n) {
    Ctx *c = n->g->c;
    Expr **image, **block, *dim[MAX_RANK], *all = expr_int(c, 1), *one = all;
    const int64_t *given[3];
    int64_t list[3][MAX_RANK];
    int errors = gd_error_count(c), count[3];
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0) return;
    const Value *x = n->in[0];
    int s = import_list(n, NULL, 1, &image), nb = import_list(n, NULL, 2, &block);
    count[0] = import_ints(n, "strides", &given[0]);
    count[1] = import_ints(n, "dilations", &given[1]);
    count[2] = import_ints(n, "pads", &given[2]);
    if (gd_error_count(c) > errors) return;
    if (x->rank != 3 || s < 1 || nb != s || 2 + 2 * s > MAX_RANK) {
        import_error(n, 301, NULL, "image_shape and block_shape have %d and %d entries, the tensor %d axes", s, nb, x->rank);
        return;
    }
    for (int k = 0; k < 3; k++) {
        if (given[k] && count[k] != (k == 2 ? 2 * s : s)) {
            import_error(n, 204, NULL, "strides, dilations or pads do not have an entry for each of %d axes", s);
            return;
        }
        for (int i = 0; i < s; i++) list[k][i] = given[k] ? given[k][i] : k < 2;
    }
    for (int i = 0; i < s; i++) {
        Expr *edge = expr_int(c, given[2] ? given[2][i] + given[2][s + i] : 0), *last = expr_sub(c, block[i], one);
        Expr *room = expr_sub(c, expr_sub(c, expr_add(c, image[i], edge), expr_mul(c, last, expr_int(c, list[1][i]))), one);
        if (list[0][i] < 1) { import_error(n, 204, NULL, "a stride of %lld", (long long)list[0][i]); return; }
        dim[2 + i] = block[i];
        dim[2 + s + i] = expr_add(c, expr_fdiv(c, room, expr_int(c, list[0][i])), one);
        all = expr_mul(c, all, block[i]);
    }
    dim[0] = x->dim[0];
    dim[1] = expr_fdiv(c, x->dim[1], all);
    Node *m = node_begin(n->g, "col2im");
    node_input(m, build_reshape(n->g, n->in[0], 2 + 2 * s, dim));
    node_dims(m, "image", s, image);
    node_ints(m, "strides", s, list[0]);
    node_ints(m, "dilations", s, list[1]);
    node_ints(m, "pads", s, list[2]);
    n->out[0] = node_finish(m);
}

static bool reads_again(const Node *n, int i) { (void)n; return i == 0; }

#define LISTS {"strides", AT_INTS, 0, true}, {"dilations", AT_INTS, 0, true}, {"pads", AT_INTS, 0, true}

/* ---- export ---- */

/* Kernel and column axes are one each in ONNX; padding behind is what makes the columns as many as there are. */
static void export_col2im(Export *x, Node *n) {
    Ctx *c = x->c;
    const Value *v = n->in[0];
    const Attr *image = node_attr(n, "image"), *lo = node_attr(n, "pads"), *strides = node_attr(n, "strides"), *dilations = node_attr(n, "dilations");
    int s = spatial(n);
    Expr *flat[3] = {v->dim[0], v->dim[1], expr_int(c, 1)};
    int64_t pads[2 * MAX_RANK];
    for (int i = 0; i < s; i++) {
        int64_t columns, kernel, size;
        if (!is_int(v->dim[2 + i], &kernel) || !is_int(v->dim[2 + s + i], &columns) || !is_int(image->dims[i], &size)) {
            export_fail(x, n, "fix the sizes with --dim", "an image whose size is not known when compiling");
            return;
        }
        int64_t behind = (columns - 1) * strides->ints[i] + (kernel - 1) * dilations->ints[i] + 1 - size - lo->ints[i];
        pads[i] = lo->ints[i];
        pads[s + i] = behind > 0 ? behind : 0;
        flat[1] = expr_mul(c, flat[1], v->dim[2 + i]);
        flat[2] = expr_mul(c, flat[2], v->dim[2 + s + i]);
    }
    ExportRef *in = export_reshape(x, export_in(x, n, 0), 3, flat), *size = export_dims(x, s, image->dims), *block = export_dims(x, s, v->dim + 2);
    ExportNode *e = export_node(x, "Col2Im");
    export_arg(x, e, in);
    export_arg(x, e, size);
    export_arg(x, e, block);
    export_ints(x, e, "pads", 2 * s, pads);
    export_ints(x, e, "strides", s, strides->ints);
    export_ints(x, e, "dilations", s, dilations->ints);
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

const Op gd_ops_col2im[] = {
    {.name = "col2im", .export = export_col2im, .kind = OP_WINDOW, .in = "x", .out = "y", .types = "num", .attrs = {{"image", AT_DIMS, 0, true}, LISTS},
     .onnx = "Col2Im", .import = import_col2im, .shape = col2im_shape, .elem = col2im_elem, .rereads = reads_again,
     .grad = col2im_grad, .doc = "An image of the blocks in the columns [N, C, kernel.., columns..], summed where they overlap; pads are those before."},
    {.name = "im2col", .kind = OP_VIEW, .in = "x", .out = "y", .types = "num", .attrs = {{"sizes", AT_DIMS, 0, true}, LISTS},
     .shape = im2col_shape, .elem = im2col_elem, .rereads = reads_again, .grad = im2col_grad,
     .doc = "The blocks of an image as columns, zeros outside: what col2im sums. sizes: kernel, then columns."},
};
const int gd_ops_col2im_n = sizeof gd_ops_col2im / sizeof *gd_ops_col2im;
