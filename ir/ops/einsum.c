/* Einstein sums by contractions, diagonals, and determinants.

   An Einsum is folded from the left: each operand loses what only it has (sums) and what it has twice (diagonals), then
   meets what there is so far in one contract: shared labels that are needed later are batch axes, the others are
   contracted. The labels of an ellipsis are numbered from its right end, as broadcasting counts. */
#include "build.h"
#include "export.h"
#include "grad.h"
#include "lower.h"

/* ---- diagonal ---- */

static void diagonal_shape(Node *n) {
    const Value *x = n->in[0];
    int64_t first = attr_int(n, "first"), second = attr_int(n, "second");
    Expr *dim[MAX_RANK];
    if (first < 0 || first >= second || second >= x->rank) {
        node_error(n, 204, NULL, "axes %lld and %lld of a tensor of %d axes have no diagonal", (long long)first, (long long)second, x->rank);
        return;
    }
    node_same_dim(n, x->dim[first], x->dim[second], "a diagonal of axes of different sizes");
    for (int i = 0; i < x->rank - 1; i++) dim[i] = x->dim[i < second ? i : i + 1];
    node_out(n, 0, x->dt, x->rank - 1, dim);
}

static Expr *diagonal_elem(Lower *L, Node *n, int port, Expr *const *idx) {
    (void)port;
    int64_t first = attr_int(n, "first"), second = attr_int(n, "second");
    Expr *at[MAX_RANK];
    for (int i = 0; i < n->in[0]->rank; i++) at[i] = i == second ? idx[first] : idx[i < second ? i : i - 1];
    return lower_elem(L, n->in[0], at);
}

static void diagonal_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    const Value *x = n->in[0];
    int first = (int)attr_int(n, "first"), second = (int)attr_int(n, "second");
    Value *mine = make(g, "equal", build_iota(g, I64, x->rank, x->dim, first), build_iota(g, I64, x->rank, x->dim, second));
    grad_add(G, n->in[0], make(g, "where", mine, build_unsqueeze(g, dy[0], second), const_scalar(g, x->dt, 0)));
}

/* ---- Einsum ---- */

enum { ELLIPSIS = 128, LABELS = ELLIPSIS + MAX_RANK, TERMS = 64 };

/* A tensor and the label of each of its axes; of an output only labels. */
typedef struct Term { Value *v; int n, label[MAX_RANK]; } Term;

static int axis_with(const Term *t, int label) {
    for (int i = 0; i < t->n; i++)
        if (t->label[i] == label) return i;
    return -1;
}

static bool letter(int ch) { return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z'); }

/* Reads the labels up to a comma, an arrow or the end; ellipsis: how many axes it stands for, counted when < 0. */
static const char *read_term(Import *n, const char *s, Term *t, int ellipsis) {
    int letters = 0, rank = t->v ? t->v->rank : 0;
    for (const char *p = s; *p && *p != ',' && *p != '-'; p++) letters += letter(*p);
    if (ellipsis < 0) ellipsis = rank - letters;
    t->n = 0;
    for (; *s && *s != ',' && *s != '-'; s++) {
        if (*s == ' ') continue;
        bool dots = !strncmp(s, "...", 3);
        int count = dots ? ellipsis : 1;
        if ((!dots && !letter(*s)) || t->n + count > MAX_RANK || count < 0) {
            import_error(n, 204, NULL, "the equation is not understood at \"%.20s\"", gd_escape(n->g->c, s, strlen(s)));
            return NULL;
        }
        for (int k = count - 1; k >= 0; k--) t->label[t->n++] = dots ? ELLIPSIS + k : *s;
        if (dots) s += 2;
    }
    if (t->v && t->n != rank) {
        import_error(n, 301, NULL, "an operand of %d axes has %d labels in the equation", rank, t->n);
        return NULL;
    }
    return s;
}

/* Without an arrow: the axes of the ellipsis, then every letter that occurs once, in order. */
static void implied_output(const Term *term, int count, Term *out) {
    int uses[LABELS] = {0};
    for (int i = 0; i < count; i++)
        for (int k = 0; k < term[i].n; k++) uses[term[i].label[k]]++;
    out->n = 0;
    for (int l = LABELS - 1; l >= ELLIPSIS; l--)
        if (uses[l] && out->n < MAX_RANK) out->label[out->n++] = l;
    for (int l = 0; l < ELLIPSIS; l++)
        if (uses[l] == 1 && out->n < MAX_RANK) out->label[out->n++] = l;
}

static void drop_label(Term *t, int axis) {
    for (int k = axis; k + 1 < t->n; k++) t->label[k] = t->label[k + 1];
    t->n--;
}

static void take_diagonals(Graph *g, Term *t) {
    for (int i = t->n - 1; i > 0; i--) {
        int first = axis_with(t, t->label[i]);
        if (first == i) continue;
        Node *d = node_begin(g, "diagonal");
        node_input(d, t->v);
        node_int(d, "first", first);
        node_int(d, "second", i);
        t->v = node_finish(d);
        drop_label(t, i);
    }
}

/* Axes of size 1 that other operands have in full are broadcast: the operand does not depend on them. What stands in
   this operand alone and not in the output is summed. */
static void take_own(Graph *g, Term *term, int count, int me, const Term *out) {
    Term *t = &term[me];
    for (int i = t->n - 1; i >= 0 && t->v->rank >= 0; i--) {
        bool shared = false, fuller = false;
        int64_t axis = i;
        for (int j = 0; j < count; j++) {
            int k = j == me ? -1 : axis_with(&term[j], t->label[i]);
            if (k < 0) continue;
            shared = true;
            fuller = fuller || (term[j].v->rank > k && !is_value(term[j].v->dim[k], 1));
        }
        if (is_value(t->v->dim[i], 1) && fuller) t->v = build_squeeze(g, t->v, i);
        else if (!shared && axis_with(out, t->label[i]) < 0) t->v = build_reduce(g, "reduce_sum", t->v, 1, &axis, false);
        else continue;
        drop_label(t, i);
    }
}

/* a = a times b, summed over the shared labels that nothing needs any more. */
static void contract_terms(Graph *g, Term *a, const Term *b, const Term *later, int nlater, const Term *out) {
    int64_t batch[2][MAX_RANK], sum[2][MAX_RANK];
    int nb = 0, ns = 0;
    Term r = {.n = 0};
    for (int i = 0; i < a->n; i++) {
        int k = axis_with(b, a->label[i]);
        bool needed = axis_with(out, a->label[i]) >= 0;
        for (int j = 0; j < nlater; j++) needed = needed || axis_with(&later[j], a->label[i]) >= 0;
        if (k < 0) continue;
        if (needed) r.label[r.n++] = a->label[i];
        if (needed) batch[0][nb] = i, batch[1][nb++] = k;
        else sum[0][ns] = i, sum[1][ns++] = k;
    }
    for (int i = 0; i < a->n; i++)
        if (axis_with(b, a->label[i]) < 0 && r.n < MAX_RANK) r.label[r.n++] = a->label[i];
    for (int i = 0; i < b->n; i++)
        if (axis_with(a, b->label[i]) < 0 && r.n < MAX_RANK) r.label[r.n++] = b->label[i];
    Node *n = node_begin(g, "contract");
    node_input(n, a->v);
    node_input(n, b->v);
    node_ints(n, "a_batch", nb, batch[0]);
    node_ints(n, "b_batch", nb, batch[1]);
    node_ints(n, "a_contract", ns, sum[0]);
    node_ints(n, "b_contract", ns, sum[1]);
    r.v = node_finish(n);
    *a = r;
}

static bool read_equation(Import *n, const char *s, Term *term, int count, Term *out) {
    int ellipsis = 0;
    for (int i = 0; i < count; i++) {
        term[i].v = n->in[i];
        if (i && *s++ != ',') { import_error(n, 205, NULL, "the equation has fewer operands than the %d inputs", count); return false; }
        if (!(s = read_term(n, s, &term[i], -1))) return false;
        for (int k = 0; k < term[i].n; k++)
            if (term[i].label[k] - ELLIPSIS >= ellipsis) ellipsis = term[i].label[k] - ELLIPSIS + 1;
    }
    if (*s == ',') { import_error(n, 205, NULL, "the equation has more operands than the %d inputs", count); return false; }
    if (!*s) { implied_output(term, count, out); return true; }
    if (s[1] != '>') { import_error(n, 204, NULL, "the equation has a - without a >"); return false; }
    return read_term(n, s + 2, out, ellipsis);
}

static void import_einsum(Import *n) {
    Graph *g = n->g;
    Term term[TERMS], out = {0};
    int64_t perm[MAX_RANK];
    const char *equation = import_string(n, "equation", NULL);
    if (!import_need(n, 1, TERMS) || !import_same_types(n, 0, n->nin)) return;
    if (!equation) { import_error(n, 204, NULL, "attribute equation is missing"); return; }
    for (int i = 0; i < n->nin; i++)
        if (!n->in[i] || n->in[i]->rank < 0) return;
    if (!read_equation(n, equation, term, n->nin, &out)) return;
    for (int i = 0; i < out.n; i++) {
        bool found = axis_with(&out, out.label[i]) == i, made = false;
        for (int k = 0; k < n->nin; k++) made = made || axis_with(&term[k], out.label[i]) >= 0;
        if (!found || !made) { import_error(n, 204, NULL, "the equation's output names a label twice, or one that no operand has"); return; }
    }
    for (int i = 0; i < n->nin; i++) take_diagonals(g, &term[i]);
    for (int i = 0; i < n->nin; i++)
        if (term[i].v->rank < 0) return;
    for (int i = 0; i < n->nin; i++) take_own(g, term, n->nin, i, &out);
    for (int i = 1; i < n->nin; i++) contract_terms(g, &term[0], &term[i], term + i + 1, n->nin - i - 1, &out);
    if (term[0].v->rank < 0) return;
    for (int i = 0; i < out.n; i++) perm[i] = axis_with(&term[0], out.label[i]);
    n->out[0] = build_transpose(g, term[0].v, perm);
}

/* ---- Det ---- */

static void det_shape(Node *n) {
    const Value *x = n->in[0];
    if (x->rank < 2) { node_error(n, 301, NULL, "a tensor of %d axes is no matrix", x->rank); return; }
    node_same_dim(n, x->dim[x->rank - 1], x->dim[x->rank - 2], "the matrix is not square");
    node_out(n, 0, x->dt, x->rank - 2, x->dim);
    node_out(n, 1, dt_small(x->dt) ? F32 : x->dt, x->rank, x->dim);
}

/* A matrix of a batch while it is eliminated. */
typedef struct Matrix { Buf *b; Expr **at; int rank; Expr *size; } Matrix;

static Expr **place(const Matrix *m, Expr *i, Expr *j) {
    m->at[m->rank - 2] = i;
    m->at[m->rank - 1] = j;
    return m->at;
}
static Expr *entry(Lower *L, const Matrix *m, Expr *i, Expr *j) { return lower_load(L, m->b, place(m, i, j)); }

/* The row from k on whose entry in column k is largest, into a register. */
static Expr *find_pivot(Lower *L, const Matrix *m, Expr *k, Expr *below) {
    Ctx *c = L->c;
    Buf *row = lower_reg(L, I64, "row"), *best = lower_reg(L, m->b->dt, "best");
    lower_store(L, row, NULL, k);
    lower_store(L, best, NULL, expr1(c, E_ABS, entry(L, m, k, k)));
    Expr *r = expr_add(c, lower_open(L, "i", below, false), expr_add(c, k, expr_int(c, 1)));
    Expr *v = lower_let(L, "v", expr1(c, E_ABS, entry(L, m, r, k)));
    lower_open_if(L, expr2(c, E_LT, lower_load(L, best, NULL), v));
    lower_store(L, row, NULL, r);
    lower_store(L, best, NULL, v);
    lower_close(L, 2);
    return lower_let(L, "pivot", lower_load(L, row, NULL));
}

static void swap_rows(Lower *L, const Matrix *m, Expr *k, Expr *p) {
    Expr *j = lower_open(L, "j", m->size, true);
    Expr *a = lower_let(L, "a", entry(L, m, k, j)), *b = lower_let(L, "b", entry(L, m, p, j));
    lower_store(L, m->b, place(m, k, j), b);
    lower_store(L, m->b, place(m, p, j), a);
    lower_close(L, 1);
}

/* Elimination with row pivoting; the product of the pivots, its sign turned by every exchange. */
static void det_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *x = n->in[0];
    Buf *y = lower_buf(L, n->out[0]);
    DType dt = n->out[1]->dt;
    Expr *at[MAX_RANK], *one = expr_int(c, 1), *zero = expr_num(c, dt, 0);
    Matrix m = {lower_buf(L, n->out[1]), at, x->rank, x->dim[x->rank - 1]};
    for (int i = 0; i < x->rank - 2; i++) at[i] = lower_open(L, "b", x->dim[i], true);
    for (int i = x->rank - 2; i < x->rank; i++) at[i] = lower_open(L, "i", m.size, true);
    lower_store(L, m.b, at, expr_cast(c, lower_elem(L, x, at), dt));
    lower_close(L, 2);
    Buf *det = lower_reg(L, dt, "det");
    lower_store(L, det, NULL, expr_num(c, dt, 1));
    Expr *k = lower_open(L, "k", m.size, false), *next = expr_add(c, k, one), *below = expr_sub(c, expr_sub(c, m.size, k), one);
    Expr *p = find_pivot(L, &m, k, below);
    lower_open_if(L, expr2(c, E_NE, p, k));
    swap_rows(L, &m, k, p);
    lower_store(L, det, NULL, expr1(c, E_NEG, lower_load(L, det, NULL)));
    lower_close(L, 1);
    Expr *top = lower_let(L, "top", entry(L, &m, k, k));
    lower_store(L, det, NULL, expr_mul(c, lower_load(L, det, NULL), top));
    Expr *r = expr_add(c, lower_open(L, "i", below, true), next);
    Expr *by = expr_select(c, expr2(c, E_EQ, top, zero), zero, expr2(c, E_DIV, entry(L, &m, r, k), top));
    by = lower_let(L, "by", expr1(c, E_NEG, by));
    Expr *j = expr_add(c, lower_open(L, "j", below, true), next), *above = entry(L, &m, k, j);
    lower_store(L, m.b, place(&m, r, j), expr3(c, E_FMA, by, above, entry(L, &m, r, j)));
    lower_close(L, 3);
    lower_store(L, y, at, expr_cast(c, lower_load(L, det, NULL), x->dt));
    lower_close(L, x->rank - 2);
}

/* x along an axis of N elements, once without each of them: N rows of N - 1 take the axis' place. */
static Value *leave_out(Graph *g, Value *x, int axis) {
    Ctx *c = g->c;
    Expr *dim[] = {x->dim[axis], expr_sub(c, x->dim[axis], expr_int(c, 1))};
    Value *out = build_iota(g, I64, 2, dim, 0), *at = build_iota(g, I64, 2, dim, 1);
    Value *beyond = build_cast(g, make(g, "greater_equal", at, out), I64);
    Node *n = node_begin(g, "gather");
    node_input(n, x);
    node_input(n, make(g, "add", at, beyond));
    node_int(n, "axis", axis);
    return node_finish(n);
}

/* The derivative by an entry is its cofactor, also where the matrix is singular: the determinant without its row and
   column, signed like a chessboard. */
static void det_grad(Grad *G, Node *n, Value *const *dy) {
    Graph *g = G->g;
    Value *x = n->in[0];
    int lead = x->rank - 2;
    int64_t perm[MAX_RANK];
    if (!dy[0]) return;
    if (x->rank + 2 > MAX_RANK) { node_error(n, 404, NULL, "the gradient would need %d axes", x->rank + 2); return; }
    Value *minors = leave_out(g, leave_out(g, x, lead + 1), lead); /* [.., row, rows, column, columns] */
    for (int i = 0; i < lead + 4; i++) perm[i] = i;
    perm[lead + 1] = lead + 2;
    perm[lead + 2] = lead + 1;
    Value *cofactor = make(g, "det", build_transpose(g, minors, perm));
    Value *place = make(g, "add", build_iota(g, I64, 2, x->dim + lead, 0), build_iota(g, I64, 2, x->dim + lead, 1));
    Value *odd = make(g, "equal", make(g, "bit_and", place, const_scalar(g, I64, 1)), const_scalar(g, I64, 1));
    Value *d = build_unsqueeze(g, build_unsqueeze(g, dy[0], lead), lead);
    d = make(g, "mul", cofactor, d);
    grad_add(G, x, make(g, "where", odd, make(g, "neg", d), d));
}

static void import_det(Import *n) {
    if (import_need(n, 1, 1)) n->out[0] = make(n->g, "det", n->in[0]);
}

static void export_diagonal(Export *x, Node *n) {
    int64_t first = attr_int(n, "first"), second = attr_int(n, "second");
    char in[MAX_RANK + 1] = {0}, out[MAX_RANK + 1] = {0};
    int o = 0;
    for (int i = 0; i < n->in[0]->rank; i++) {
        in[i] = (char)('a' + (i == second ? first : i));
        if (i != second) out[o++] = in[i];
    }
    ExportNode *e = export_node(x, "Einsum");
    export_arg(x, e, export_in(x, n, 0));
    export_string(x, e, "equation", gd_format(x->c, "%s->%s", in, out));
    export_out(x, n, 0, export_result(x, e, n->out[0]->dt));
}

static void export_det(Export *x, Node *n) { export_out(x, n, 0, export_op(x, "Det", n->out[0]->dt, export_in(x, n, 0))); }

const Op gd_ops_einsum[] = {
    {.name = "diagonal", .export = export_diagonal, .kind = OP_VIEW, .flags = OF_CHEAP, .in = "x", .out = "y",
     .attrs = {{"first", AT_INT, 0, true}, {"second", AT_INT, 0, true}}, .shape = diagonal_shape, .elem = diagonal_elem,
     .grad = diagonal_grad, .doc = "The elements whose positions along two axes are equal; the second axis goes."},
    {.name = "det", .export = export_det, .kind = OP_SORT, .in = "x", .out = "y room", .types = "float", .onnx = "Det",
     .import = import_det, .shape = det_shape, .lower = det_lower, .grad = det_grad,
     .doc = "The determinant of square matrices, by elimination with row pivoting; `room` is what it works in."},
    {.kind = OP_BUILD, .onnx = "Einsum", .import = import_einsum, .doc = "The sum of products that an equation of labels describes."},
};
const int gd_ops_einsum_n = sizeof gd_ops_einsum / sizeof *gd_ops_einsum;
