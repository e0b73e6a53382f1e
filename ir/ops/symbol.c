/* Where sizes and the program meet: known elements as a tensor, elements of a tensor as symbols, and checks. */
#include "export.h"
#include "import.h"
#include "lower.h"

/* ---- exprs: a tensor from expressions ---- */

static void exprs_shape(Node *n) {
    const Attr *a = node_attr(n, "values");
    Expr *dim = expr_int(n->graph->c, a->n);
    int64_t rank = attr_int(n, "rank");
    if (rank < 0 || rank > 1 || (!rank && a->n != 1)) node_error(n, 204, NULL, "%d values make no tensor of rank %lld", a->n, (long long)rank);
    else node_out(n, 0, a->n ? (DType)a->dims[0]->type.dt : I64, (int)attr_int(n, "rank"), &dim);
}

static Expr *exprs_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    Ctx *c = L->c;
    const Attr *a = node_attr(n, "values");
    if (!n->out[0]->rank) return a->dims[0];
    Expr *e = a->dims[a->n - 1];
    for (int i = a->n - 2; i >= 0; i--) e = expr_select(c, expr2(c, E_EQ, idx[0], expr_int(c, i)), a->dims[i], e);
    return e;
}

/* ---- read: symbols from a tensor ---- */

static void read_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *x = n->in[0];
    const Attr *a = node_attr(n, "syms");
    for (int i = 0; i < a->n; i++) {
        Expr *idx[MAX_RANK];
        int64_t rest = i;
        for (int k = x->rank - 1; k >= 0; k--) {
            idx[k] = expr_int(c, rest % (int64_t)x->dim[k]->bits);
            rest /= (int64_t)x->dim[k]->bits;
        }
        Stmt *s = stmt_new(L->p, lower_block(L), S_LET);
        s->var = a->syms[i];
        s->e = expr_cast(c, lower_elem(L, x, idx), I64);
    }
}

static void read_shape(Node *n) {
    int64_t count;
    if (!is_int(value_count(n->graph->c, n->in[0]), &count) || count != node_attr(n, "syms")->n)
        node_error(n, 301, NULL, "%s does not have an element for each of %d symbols", value_type_text(n->graph->c, n->in[0]),
                   node_attr(n, "syms")->n);
}

/* ---- check ---- */

static void check_shape(Node *n) {
    if (!type_eq(node_attr(n, "cond")->dim->type, scalar(BOOL))) node_error(n, 302, NULL, "the condition is no bool");
}

static void check_lower(Lower *L, Node *n) {
    Stmt *s = stmt_new(L->p, lower_block(L), S_CHECK);
    s->e = node_attr(n, "cond")->dim;
    s->status = 1; /* runtime/program.h: GRADC_RUN_SHAPE */
}

/* ---- export ---- */

static void export_exprs(Export *x, Node *n) {
    const Attr *a = node_attr(n, "values");
    export_out(x, n, 0, n->out[0]->rank ? export_dims(x, a->n, a->dims) : export_scalar(x, a->dims[0]));
}

static void export_read(Export *x, Node *n) {
    const Attr *a = node_attr(n, "syms");
    Expr *flat = expr_int(x->c, a->n);
    ExportRef *r = export_reshape(x, export_cast(x, export_in(x, n, 0), I64), 1, &flat);
    for (int i = 0; i < a->n; i++)
        export_symbol(x, a->syms[i], a->n == 1 ? r : export_op(x, "Gather", I64, r, export_list(x, 1, (int64_t[]){i})));
}

/* ONNX has no checks: its operators make their own. */
static void export_check(Export *x, Node *n) { (void)x; (void)n; }

const Op gd_ops_symbol[] = {
    {.name = "exprs", .export = export_exprs, .kind = OP_VIEW, .flags = OF_CHEAP | OF_NO_GRAD, .in = "", .out = "y",
     .attrs = {{"values", AT_DIMS, 0, true}, {"rank", AT_INT, 1, false}}, .shape = exprs_shape, .elem = exprs_elem,
     .doc = "A tensor of rank 0 or 1 whose elements are expressions over symbols."},
    {.name = "read", .export = export_read, .kind = OP_CONTROL, .flags = OF_EFFECT | OF_NO_GRAD, .in = "x", .out = "", .types = "int",
     .attrs = {{"syms", AT_SYMS, 0, true}}, .shape = read_shape, .lower = read_lower,
     .doc = "Defines a symbol for each element of an integer tensor: from here on sizes and positions may depend on it."},
    {.name = "check", .export = export_check, .kind = OP_CONTROL, .flags = OF_EFFECT | OF_NO_GRAD, .in = "", .out = "",
     .attrs = {{"cond", AT_DIM, 0, true}, {"what", AT_STRING, 0, false}}, .shape = check_shape, .lower = check_lower,
     .doc = "The program stops with a status when the condition on symbols does not hold."},
};
const int gd_ops_symbol_n = sizeof gd_ops_symbol / sizeof *gd_ops_symbol;
