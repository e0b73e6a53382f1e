/* Gradient of ai.onnx.preview.training: the gradient of a tensor that the model names, as nodes. ir/grad.c makes it while
   the model is read, so what comes out is differentiated again like everything else: a Gradient of a Gradient is the
   second derivative.

   What stands for the tensors in xs is cut off from what made them: a value of its own where that is anything but an input
   of the graph, which after the sweep gives its place to the node's input. Every input is visited once: it ends. */
#include "grad.h"
#include "import.h"

static bool names(Import *n, const char *attr, int *count, const char *const **to) {
    const ImportAttr *a = import_attr(n, attr);
    if (a && a->kind != IM_STRINGS) {
        import_error(n, 204, "names of tensors", "attribute %s is no list of strings", attr);
        return false;
    }
    *count = a ? a->n : 0;
    *to = a ? a->strings : NULL;
    return true;
}

/* y's gradient by the first nx inputs. */
static void differentiate(Import *n, Value *y, int nx, Value *const *leaf) {
    Graph *g = n->g;
    Map *with = map_new(g->c);
    int errors = gd_error_count(g->c);
    Value **d = gd_new_array(g->c, Value *, nx);
    graph_grad(g, y, nx, leaf, d);
    if (gd_error_count(g->c) > errors) return;
    for (int i = 0; i < nx; i++)
        if (leaf[i] != n->in[i]) map_putp(with, leaf[i], n->in[i]);
    graph_replace(g, with);
    for (int i = 0; i < n->nout; i++) {
        Value *own = map_getp(with, d[i]);
        n->out[i] = own ? own : d[i];
    }
}

static void import_gradient(Import *n) {
    int nx, nz;
    const char *const *xs, *const *zs, *y = import_string(n, "y", NULL);
    if (!names(n, "xs", &nx, &xs) || !names(n, "zs", &nz, &zs)) return;
    if (!y && import_has(n, "y")) return; /* said already */
    if (!y || !nx) import_error(n, 204, NULL, "attribute %s is missing", y ? "xs" : "y");
    else if (n->nin != nx + nz)
        import_error(n, 205, "one input for every name in xs, then one for every name in zs",
                     "xs and zs name %d tensors, and there are %d inputs", nx + nz, n->nin);
    else if (n->nout > nx)
        import_error(n, 205, NULL, "%d outputs are gradients by %d tensors in xs", n->nout, nx);
    else if (import_need(n, nx + nz, nx + nz)) {
        const char **all = gd_new_array(n->g->c, const char *, nx + nz);
        Value **leaf = gd_new_array(n->g->c, Value *, nx);
        for (int i = 0; i < nx + nz; i++) all[i] = i < nx ? xs[i] : zs[i - nx];
        for (int i = 0; i < nx; i++)
            if (!grad_float(n->in[i])) {
                import_error(n, 302, "name it in zs", "the gradient by \"%s\" was asked for, which is %s",
                             gd_escape(n->g->c, xs[i], strlen(xs[i])), value_type_text(n->g->c, n->in[i]));
                return;
            }
        Value *of = n->retrace(n, y, nx, nz, all, leaf);
        if (of && !grad_float(of))
            import_error(n, 302, "a tensor of floats has a gradient", "y is %s", value_type_text(n->g->c, of));
        else if (of) differentiate(n, of, nx, leaf);
    }
}

const Op gd_ops_gradient[] = {
    {.kind = OP_BUILD, .onnx = "ai.onnx.preview.training:Gradient", .import = import_gradient,
     .doc = "The gradient of the tensor called y (of the sum of its elements) by those called xs, at the values of the inputs; "
            "those called zs are constants."},
};
const int gd_ops_gradient_n = sizeof gd_ops_gradient / sizeof *gd_ops_gradient;
