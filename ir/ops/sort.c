/* Whole slices at once: sorting, and what rests on it (TopK, Unique, NonMaxSuppression).

   argsort is a stable bottom-up merge sort of positions: equal elements stay in the order of their positions, -0 equals
   +0, and a NaN is larger than every number and equal to every NaN. A pass over runs of w elements and one over runs of
   2w make a round, so the result always lies in the first of the two buffers; w quadruples, so the rounds end. */
#include "build.h"
#include "export.h"
#include "lower.h"
#include <math.h>

static int axis_of(const Node *n) {
    int64_t axis = attr_int(n, "axis");
    return (int)(axis < 0 ? axis + n->in[0]->rank : axis);
}

/* ---- order ---- */

/* a < b, NaN above all numbers. */
static Expr *before(Ctx *c, Expr *a, Expr *b) {
    Expr *less = expr2(c, E_LT, a, b);
    if (!dt_float((DType)a->type.dt)) return less;
    Expr *nan_a = expr_op(c, E_ISNAN, a->type, 1, &a), *nan_b = expr_op(c, E_ISNAN, b->type, 1, &b);
    return expr2(c, E_OR, less, expr_and(c, nan_b, expr1(c, E_NOT, nan_a)));
}

static Expr *widen(Ctx *c, Expr *e) {
    DType t = (DType)e->type.dt;
    return dt_small(t) ? expr_cast(c, e, F32) : t == BOOL ? expr_cast(c, e, U8) : e;
}

/* Is slice b to come before slice a (both positions along an axis)? The answer may need statements. */
typedef Expr *Earlier(Lower *L, void *arg, Expr *b, Expr *a);

/* A slice of two position buffers: at[axis] runs, the other entries are fixed. */
typedef struct Sort { Expr **at; int axis; Expr *size; Earlier *earlier; void *arg; } Sort;

static Expr *get(Lower *L, const Sort *s, Buf *b, Expr *k) {
    s->at[s->axis] = k;
    return lower_load(L, b, s->at);
}

static Expr *least(Ctx *c, Expr *a, Expr *b) { return expr2(c, E_MIN, a, b); }

/* to = from with every two neighbouring runs of w positions merged. left and right are the next of either run. */
static void merge(Lower *L, const Sort *s, Buf *from, Buf *to, Expr *w) {
    Ctx *c = L->c;
    Expr *zero = expr_int(c, 0), *one = expr_int(c, 1), *last = expr_sub(c, s->size, one);
    Buf *left = lower_reg(L, I64, "left"), *mid = lower_reg(L, I64, "mid"), *right = lower_reg(L, I64, "right"),
        *end = lower_reg(L, I64, "end");
    lower_store(L, left, NULL, zero);
    lower_store(L, mid, NULL, zero);
    lower_store(L, right, NULL, zero);
    lower_store(L, end, NULL, zero);
    Expr *k = lower_open(L, "k", s->size, false);
    lower_open_if(L, expr2(c, E_LE, lower_load(L, end, NULL), k)); /* the next two runs */
    Expr *half = lower_let(L, "half", least(c, expr_add(c, k, w), s->size));
    lower_store(L, left, NULL, k);
    lower_store(L, mid, NULL, half);
    lower_store(L, right, NULL, half);
    lower_store(L, end, NULL, least(c, expr_add(c, half, w), s->size));
    lower_close(L, 1);
    Expr *l = lower_let(L, "l", lower_load(L, left, NULL)), *r = lower_let(L, "r", lower_load(L, right, NULL));
    Expr *a = lower_let(L, "a", get(L, s, from, least(c, l, last))), *b = lower_let(L, "b", get(L, s, from, least(c, r, last)));
    Expr *rest = expr2(c, E_LT, l, lower_load(L, mid, NULL)), *none = expr2(c, E_LE, lower_load(L, end, NULL), r);
    Expr *stays = expr2(c, E_OR, none, expr1(c, E_NOT, s->earlier(L, s->arg, b, a)));
    Expr *first = lower_let(L, "first", expr_and(c, rest, stays));
    s->at[s->axis] = k;
    lower_store(L, to, s->at, expr_select(c, first, a, b));
    lower_store(L, left, NULL, expr_add(c, l, expr_select(c, first, one, zero)));
    lower_store(L, right, NULL, expr_add(c, r, expr_select(c, first, zero, one)));
    lower_close(L, 1);
}

/* order: positions 0.. along the axis, sorted; other: as large. */
static void sort(Lower *L, const Sort *s, Buf *order, Buf *other) {
    Ctx *c = L->c;
    Expr *k = lower_open(L, "k", s->size, true);
    s->at[s->axis] = k;
    lower_store(L, order, s->at, k);
    lower_close(L, 1);
    Buf *width = lower_reg(L, I64, "width");
    lower_store(L, width, NULL, expr_int(c, 1));
    lower_open_while(L, expr2(c, E_LT, lower_load(L, width, NULL), s->size));
    Expr *w = lower_let(L, "w", lower_load(L, width, NULL));
    merge(L, s, order, other, w);
    merge(L, s, other, order, expr_mul(c, w, expr_int(c, 2)));
    lower_store(L, width, NULL, expr_mul(c, w, expr_int(c, 4)));
    lower_close(L, 1);
}

/* ---- argsort ---- */

static void argsort_shape(Node *n) {
    const Value *x = n->in[0];
    int64_t axis = attr_int(n, "axis");
    if (axis < -x->rank || axis >= x->rank) {
        node_error(n, 204, NULL, "axis %lld is outside a tensor of %d axes", (long long)axis, x->rank);
        return;
    }
    for (int i = 0; i < 2; i++) node_out(n, i, I64, x->rank, x->dim);
}

typedef struct Slice { Value *x; Expr **at; int axis; bool descending; } Slice;

static Expr *element_earlier(Lower *L, void *arg, Expr *b, Expr *a) {
    Slice *s = arg;
    s->at[s->axis] = a;
    Expr *x = widen(L->c, lower_elem(L, s->x, s->at));
    s->at[s->axis] = b;
    Expr *y = widen(L->c, lower_elem(L, s->x, s->at));
    return s->descending ? before(L->c, x, y) : before(L->c, y, x);
}

static void argsort_lower(Lower *L, Node *n) {
    Value *x = n->in[0];
    Buf *order = lower_buf(L, n->out[0]), *other = lower_buf(L, n->out[1]);
    int axis = axis_of(n);
    Expr *at[MAX_RANK];
    for (int k = 0; k < x->rank; k++)
        if (k != axis) at[k] = lower_open(L, "i", x->dim[k], true);
    Slice slice = {x, at, axis, attr_int(n, "descending") != 0};
    Sort s = {at, axis, x->dim[axis], element_earlier, &slice};
    sort(L, &s, order, other);
    lower_close(L, x->rank - 1);
}

static Value *argsort(Graph *g, Value *x, int axis, bool descending) {
    Node *n = node_begin(g, "argsort");
    node_input(n, x);
    node_int(n, "axis", axis);
    node_int(n, "descending", descending);
    return node_finish(n);
}

static Value *gather(Graph *g, const char *op, Value *x, Value *i, int axis) {
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_input(n, i);
    node_int(n, "axis", axis);
    return node_finish(n);
}

static void import_topk(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Expr **k;
    int errors = gd_error_count(c);
    if (!import_need(n, 1, 2) || n->in[0]->rank < 0) return;
    Value *x = n->in[0];
    int axis = import_axis(n, import_int(n, "axis", -1), x->rank), count = 1;
    bool largest = import_int(n, "largest", 1) != 0;
    import_int(n, "sorted", 1); /* sorted also where any order would do */
    Expr *fixed = expr_int(c, import_int(n, "k", 0));
    if (import_has(n, "k")) k = &fixed;
    else count = import_list(n, NULL, 1, &k);
    if (axis < 0 || gd_error_count(c) > errors) return;
    if (count != 1) { import_error(n, 205, NULL, "k is missing, or no single number"); return; }
    Expr *fits = expr_and(c, expr2(c, E_LE, expr_int(c, 0), k[0]), expr2(c, E_LE, k[0], x->dim[axis]));
    import_require(n, fits, gd_format(c, "k = %s is not within the %s elements of the axis", expr_text(c, k[0]), expr_text(c, x->dim[axis])));
    if (gd_error_count(c) > errors) return;
    Value *i = build_slice_axis(g, argsort(g, x, axis, largest), axis, expr_int(c, 0), k[0]);
    n->out[0] = gather(g, "gather_elements", x, i, axis);
    if (n->nout > 1) n->out[1] = i;
}

/* ---- unique ---- */

static void unique_shape(Node *n) {
    const Value *x = n->in[0];
    Expr *one = expr_int(n->graph->c, 1);
    if (x->rank != 2) { node_error(n, 301, NULL, "a tensor of %d axes instead of rows", x->rank); return; }
    for (int i = 0; i < 6; i++) node_out(n, i, I64, 1, i == 3 ? &one : &x->dim[0]);
}

/* below: row b < row a, the first difference decides; otherwise: do the rows differ? */
typedef struct Rows { Value *x; bool below; } Rows;

static Expr *row_compare(Lower *L, void *arg, Expr *b, Expr *a) {
    const Rows *rows = arg;
    Ctx *c = L->c;
    Expr *zero = expr_int(c, 0);
    Buf *sign = lower_reg(L, I64, "sign");
    lower_store(L, sign, NULL, zero);
    Expr *l = lower_open(L, "l", rows->x->dim[1], false), *from[] = {a, l}, *to[] = {b, l};
    Expr *x = widen(c, lower_elem(L, rows->x, from)), *y = widen(c, lower_elem(L, rows->x, to)), *now = lower_load(L, sign, NULL);
    Expr *here = expr_select(c, before(c, y, x), expr_int(c, -1), expr_select(c, before(c, x, y), expr_int(c, 1), zero));
    lower_store(L, sign, NULL, expr_select(c, expr2(c, E_EQ, now, zero), here, now));
    lower_close(L, 1);
    Expr *result = lower_load(L, sign, NULL);
    return rows->below ? expr2(c, E_LT, result, zero) : expr2(c, E_NE, result, zero);
}

/* Rows in order: each begins a group, or belongs to the group before. rank[i] becomes the first row equal to i (the
   sort is stable), and in order of value the groups are numbered on the way. */
static void number_groups(Lower *L, Node *n, Buf *order, Buf *rank) {
    Ctx *c = L->c;
    Expr *m = n->in[0]->dim[0], *zero = expr_int(c, 0), *one = expr_int(c, 1);
    Buf *first = lower_buf(L, n->out[0]), *inverse = lower_buf(L, n->out[1]), *groups = lower_reg(L, I64, "groups"), *head = lower_reg(L, I64, "head");
    Rows differ = {n->in[0], false};
    lower_store(L, groups, NULL, zero);
    lower_store(L, head, NULL, zero);
    Expr *k = lower_open(L, "k", m, false), *previous = expr2(c, E_MAX, expr_sub(c, k, one), zero);
    Expr *row = lower_let(L, "row", lower_load(L, order, &k)), *back = lower_let(L, "back", lower_load(L, order, &previous));
    Expr *other = row_compare(L, &differ, row, back);
    lower_open_if(L, expr2(c, E_OR, expr2(c, E_EQ, k, zero), other));
    Expr *g = lower_let(L, "g", lower_load(L, groups, NULL));
    lower_store(L, first, &g, row);
    lower_store(L, groups, NULL, expr_add(c, g, one));
    lower_store(L, head, NULL, row);
    lower_close(L, 1);
    lower_store(L, rank, &row, lower_load(L, head, NULL));
    lower_store(L, inverse, &row, expr_sub(c, lower_load(L, groups, NULL), one));
    lower_close(L, 1);
    Expr *at = zero;
    lower_store(L, lower_buf(L, n->out[3]), &at, lower_load(L, groups, NULL));
}

/* The groups again, in the order of their first rows. */
static void renumber(Lower *L, Node *n, Buf *rank) {
    Ctx *c = L->c;
    Expr *m = n->in[0]->dim[0], *one = expr_int(c, 1);
    Buf *first = lower_buf(L, n->out[0]), *inverse = lower_buf(L, n->out[1]), *groups = lower_reg(L, I64, "groups");
    lower_store(L, groups, NULL, expr_int(c, 0));
    Expr *i = lower_open(L, "i", m, false), *head = lower_let(L, "head", lower_load(L, rank, &i)), *g = lower_let(L, "g", lower_load(L, groups, NULL));
    lower_open_if(L, expr2(c, E_EQ, head, i));
    lower_store(L, first, &g, i);
    lower_store(L, inverse, &i, g);
    lower_store(L, groups, NULL, expr_add(c, g, one));
    lower_close(L, 1);
    lower_open_if(L, expr2(c, E_LT, head, i));
    lower_store(L, inverse, &i, lower_load(L, inverse, &head));
    lower_close(L, 2);
}

static void unique_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *x = n->in[0];
    Buf *inverse = lower_buf(L, n->out[1]), *counts = lower_buf(L, n->out[2]), *order = lower_buf(L, n->out[4]), *rank = lower_buf(L, n->out[5]);
    Expr *at[1], *i;
    Rows below = {x, true};
    Sort s = {at, 0, x->dim[0], row_compare, &below};
    sort(L, &s, order, rank);
    number_groups(L, n, order, rank);
    if (!attr_int(n, "sorted")) renumber(L, n, rank);
    i = lower_open(L, "i", x->dim[0], true);
    lower_store(L, counts, &i, expr_int(c, 0));
    lower_close(L, 1);
    i = lower_open(L, "i", x->dim[0], false);
    Expr *g = lower_let(L, "g", lower_load(L, inverse, &i));
    lower_store(L, counts, &g, expr_add(c, lower_load(L, counts, &g), expr_int(c, 1)));
    lower_close(L, 1);
}

static void import_unique(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    if (!import_need(n, 1, 1) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *rows;
    bool flat = !import_has(n, "axis");
    int axis = flat ? 0 : import_axis(n, import_int(n, "axis", 0), x->rank);
    if (axis < 0) return;
    Expr *count = value_count(c, x), *zero = expr_int(c, 0);
    if (flat) x = build_reshape(g, x, 1, &count);
    int64_t perm[MAX_RANK] = {axis};
    Expr *two[] = {x->dim[axis], expr_int(c, 1)};
    for (int i = 0, k = 1; i < x->rank; i++)
        if (i != axis) {
            perm[k++] = i;
            two[1] = expr_mul(c, two[1], x->dim[i]);
        }
    rows = build_reshape(g, build_transpose(g, x, perm), 2, two);
    Node *u = node_begin(g, "unique");
    node_input(u, rows);
    node_int(u, "sorted", import_int(n, "sorted", 1));
    node_finish(u);
    if (u->out[0]->rank < 0) return;
    Expr **groups = value_read(g, u->out[3], "unique", two[0]);
    Value *first = build_slice(g, u->out[0], &zero, groups, NULL);
    n->out[0] = gather(g, "gather", x, first, axis);
    if (n->nout > 1) n->out[1] = first;
    if (n->nout > 2) n->out[2] = u->out[1];
    if (n->nout > 3) n->out[3] = build_slice(g, u->out[2], &zero, groups, NULL);
}

/* ---- non-maximum suppression ---- */

static void nms_shape(Node *n) {
    Ctx *c = n->graph->c;
    const Value *boxes = n->in[0], *scores = n->in[1], *order = n->in[2];
    Expr *dim[2], *one = expr_int(c, 1);
    if (boxes->rank != 3 || scores->rank != 3 || order->rank != 3 || boxes->dt != scores->dt || !dt_int(order->dt) || dt_int(boxes->dt)) {
        node_error(n, 301, NULL, "boxes of [batch, boxes, 4] and scores of [batch, classes, boxes] are expected");
        return;
    }
    node_same_dim(n, boxes->dim[0], scores->dim[0], "boxes and scores have different batches");
    node_same_dim(n, boxes->dim[1], scores->dim[2], "there is not one score for each box");
    node_require(n, expr2(c, E_EQ, boxes->dim[2], expr_int(c, 4)), "a box does not have 4 numbers");
    for (int i = 3; i < n->nin; i++)
        if (n->in[i] && (n->in[i]->rank || (i == 3 && !dt_int(n->in[i]->dt)))) {
            node_error(n, 302, NULL, "input %d is %s, not a single number", i, value_type_text(c, n->in[i]));
            return;
        }
    dim[0] = value_count(c, scores);
    dim[1] = expr_int(c, 3);
    node_out(n, 0, I64, 2, dim);
    node_out(n, 1, I64, 1, &one);
}

/* Corners and size of a box: lo and hi of either axis, whichever way round they are given. */
typedef struct Box { Expr *lo[2], *hi[2], *area; } Box;

static Box box_at(Lower *L, Node *n, Expr *batch, Expr *which) {
    Ctx *c = L->c;
    Expr *v[4], *at[] = {batch, which, NULL}, *size[2];
    Box b;
    for (int i = 0; i < 4; i++) {
        at[2] = expr_int(c, i);
        v[i] = lower_let(L, "v", widen(c, lower_elem(L, n->in[0], at)));
    }
    for (int i = 0; i < 2; i++) {
        Expr *half = expr_mul(c, v[2 + i], expr_num(c, (DType)v[0]->type.dt, 0.5));
        bool center = attr_int(n, "center") != 0;
        b.lo[i] = center ? expr_sub(c, v[i], half) : least(c, v[i], v[2 + i]);
        b.hi[i] = center ? expr_add(c, v[i], half) : expr2(c, E_MAX, v[i], v[2 + i]);
        size[i] = expr_sub(c, b.hi[i], b.lo[i]);
    }
    b.area = expr_mul(c, size[0], size[1]);
    return b;
}

/* Intersection over union above the threshold, both areas and the intersection positive. */
static Expr *overlaps(Ctx *c, const Box *a, const Box *b, Expr *threshold) {
    Expr *side[2], *zero = expr_num(c, (DType)a->area->type.dt, 0);
    for (int i = 0; i < 2; i++)
        side[i] = expr2(c, E_MAX, expr_sub(c, least(c, a->hi[i], b->hi[i]), expr2(c, E_MAX, a->lo[i], b->lo[i])), zero);
    Expr *common = expr_mul(c, side[0], side[1]), *all = expr_sub(c, expr_add(c, a->area, b->area), common);
    Expr *proper = expr_and(c, expr2(c, E_LT, zero, common), expr2(c, E_LT, zero, all));
    return expr_and(c, proper, expr2(c, E_LT, threshold, expr2(c, E_DIV, common, all)));
}

/* Boxes by falling score; one stays unless it overlaps one that stayed. */
static void nms_lower(Lower *L, Node *n) {
    Ctx *c = L->c;
    Value *scores = n->in[1];
    DType wide = dt_small(scores->dt) ? F32 : scores->dt;
    Buf *y = lower_buf(L, n->out[0]), *total = lower_buf(L, n->out[1]);
    Buf *found = lower_reg(L, I64, "found"), *stays = lower_reg(L, BOOL, "stays"), *other = lower_reg(L, I64, "other");
    Expr *zero = expr_int(c, 0), *one = expr_int(c, 1), *two = expr_int(c, 2);
    Expr *most = lower_let(L, "most", expr_cast(c, lower_elem(L, n->in[3], NULL), I64));
    Expr *overlap = lower_let(L, "overlap", expr_cast(c, lower_elem(L, n->in[4], NULL), wide));
    Expr *lowest = n->nin > 5 && n->in[5] ? lower_let(L, "lowest", expr_cast(c, lower_elem(L, n->in[5], NULL), wide)) : NULL;
    lower_store(L, found, NULL, zero);
    Expr *b = lower_open(L, "b", scores->dim[0], false), *cls = lower_open(L, "c", scores->dim[1], false);
    Expr *start = lower_let(L, "start", lower_load(L, found, NULL)), *k = lower_open(L, "k", scores->dim[2], false), *at[] = {b, cls, k};
    Expr *box = lower_let(L, "box", expr_cast(c, lower_elem(L, n->in[2], at), I64)), *now = lower_let(L, "now", lower_load(L, found, NULL));
    at[2] = box;
    Expr *good = expr2(c, E_LT, expr_sub(c, now, start), most);
    if (lowest) good = expr_and(c, good, expr2(c, E_LT, lowest, widen(c, lower_elem(L, scores, at))));
    lower_open_if(L, good);
    Box mine = box_at(L, n, b, box);
    lower_store(L, stays, NULL, expr_bool(c, true));
    lower_store(L, other, NULL, start);
    lower_open_while(L, expr_and(c, lower_load(L, stays, NULL), expr2(c, E_LT, lower_load(L, other, NULL), now)));
    Expr *j = lower_let(L, "j", lower_load(L, other, NULL)), *entry[] = {j, two};
    Box theirs = box_at(L, n, b, lower_let(L, "their", lower_load(L, y, entry)));
    lower_store(L, stays, NULL, expr1(c, E_NOT, overlaps(c, &mine, &theirs, overlap)));
    lower_store(L, other, NULL, expr_add(c, j, one));
    lower_close(L, 1);
    lower_open_if(L, lower_load(L, stays, NULL));
    Expr *triple[] = {b, cls, box};
    for (int i = 0; i < 3; i++) {
        entry[0] = now;
        entry[1] = expr_int(c, i);
        lower_store(L, y, entry, triple[i]);
    }
    lower_store(L, found, NULL, expr_add(c, now, one));
    lower_close(L, 5);
    lower_store(L, total, &zero, lower_load(L, found, NULL));
}

static Value *scalar_of(Graph *g, Value *v) { return v && v->rank > 0 ? build_reshape(g, v, 0, NULL) : v; }

static void import_nms(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    int64_t most;
    if (!import_need(n, 2, 5) || n->in[0]->rank < 0 || n->in[1]->rank < 0) return;
    Value *boxes = n->in[0], *scores = n->in[1], *count = scalar_of(g, import_in(n, 2));
    Value *overlap = scalar_of(g, import_in(n, 3)), *lowest = scalar_of(g, import_in(n, 4));
    if (scores->rank != 3) { import_error(n, 301, NULL, "the scores have %d axes, not 3", scores->rank); return; }
    Expr *per_class = scores->dim[2], *zero = expr_int(c, 0);
    if (count && count->rank == 0 && value_ints(g, count, 1, &most)) per_class = least(c, per_class, expr2(c, E_MAX, expr_int(c, most), zero));
    Node *m = node_begin(g, "nms");
    node_input(m, boxes);
    node_input(m, scores);
    node_input(m, argsort(g, scores, 2, true));
    node_input(m, count ? count : build_scalar(g, I64, zero));
    node_input(m, overlap ? overlap : const_scalar(g, F32, 0));
    if (lowest) node_input(m, lowest);
    node_int(m, "center", import_int(n, "center_point_box", 0));
    node_finish(m);
    if (m->out[0]->rank < 0) return;
    if (!count) per_class = zero;
    Expr *bound = expr_mul(c, expr_mul(c, scores->dim[0], scores->dim[1]), per_class);
    Expr **found = value_read(g, m->out[1], "selected", bound), *start[] = {zero, zero}, *size[] = {found[0], expr_int(c, 3)};
    n->out[0] = build_slice(g, m->out[0], start, size, NULL);
}

static bool reads_again(const Node *n, int i) { (void)n; return i == 0; }

#define BUILD .kind = OP_BUILD, .onnx
/* ---- export ---- */

static void export_argsort(Export *x, Node *n) {
    const Value *v = n->in[0];
    int64_t axis = attr_int(n, "axis");
    ExportRef *k = export_dims(x, 1, &v->dim[axis < 0 ? axis + v->rank : axis]);
    ExportNode *e = export_node(x, "TopK");
    export_arg(x, e, export_in(x, n, 0));
    export_arg(x, e, k);
    export_int(x, e, "axis", axis);
    export_int(x, e, "largest", attr_int(n, "descending"));
    export_result(x, e, v->dt);
    export_out(x, n, 0, export_result(x, e, I64));
}

/* ONNX's lists have as many entries as there are groups, which is what is read of ours. */
static void export_unique(Export *x, Node *n) {
    ExportNode *e = export_node(x, "Unique");
    export_arg(x, e, export_in(x, n, 0));
    export_int(x, e, "axis", 0);
    export_int(x, e, "sorted", attr_int(n, "sorted"));
    export_result(x, e, n->in[0]->dt);
    ExportRef *first = export_result(x, e, I64);
    for (int i = 1; i < 3; i++) {
        ExportRef *r = export_result(x, e, I64);
        export_out(x, n, i, r);
    }
    export_out(x, n, 0, first);
    export_out(x, n, 3, export_op(x, "Shape", I64, first));
}

static void export_nms(Export *x, Node *n) {
    static const DType types[] = {F32, F32, I64, F32, F32};
    static const int from[] = {0, 1, 3, 4, 5};
    ExportNode *e;
    ExportRef *in[5];
    for (int i = 0; i < 5; i++) {
        in[i] = export_in(x, n, from[i]);
        if (in[i]) in[i] = export_cast(x, in[i], types[i]);
    }
    e = export_node(x, "NonMaxSuppression");
    for (int i = 0; i < 5; i++) export_arg(x, e, in[i]);
    export_int(x, e, "center_point_box", attr_int(n, "center"));
    ExportRef *y = export_result(x, e, I64);
    export_out(x, n, 0, y);
    ExportNode *count = export_node(x, "Shape");
    export_arg(x, count, y);
    export_int(x, count, "end", 1);
    export_out(x, n, 1, export_result(x, count, I64));
}

#define SORT .kind = OP_SORT, .flags = OF_NO_GRAD, .rereads = reads_again

const Op gd_ops_sort[] = {
    {.name = "argsort", .export = export_argsort, SORT, .in = "x", .out = "i room", .attrs = {{"axis", AT_INT, 0, true}, {"descending", AT_INT, 0, false}},
     .shape = argsort_shape, .lower = argsort_lower,
     .doc = "Where the elements along an axis are in sorted order; equal ones stay in order, NaN counts as the largest. `room` "
            "is what the sort works in."},
    {.name = "unique", .export = export_unique, SORT, .in = "x", .out = "first inverse counts n order rank", .attrs = {{"sorted", AT_INT, 1, false}},
     .shape = unique_shape, .lower = unique_lower,
     .doc = "Groups of equal rows: first row and size of each of the n groups, and the group of each row. `order` and `rank` "
            "are what it works in."},
    {.name = "nms", .export = export_nms, SORT, .in = "boxes scores order most overlap lowest?", .out = "y n",
     .attrs = {{"center", AT_INT, 0, false}}, .shape = nms_shape, .lower = nms_lower,
     .doc = "The first n rows are (batch, class, box): boxes by falling score that overlap none chosen before."},
    {BUILD = "TopK", .settings = 2, .import = import_topk, .doc = "The k largest or smallest elements along an axis, in order, and where they are."},
    {BUILD = "Unique", .import = import_unique, .doc = "The different elements or slices, sorted or in the order of their first ones."},
    {BUILD = "NonMaxSuppression", .import = import_nms, .doc = "Boxes that overlap none with a higher score, class by class."},
};
const int gd_ops_sort_n = sizeof gd_ops_sort / sizeof *gd_ops_sort;
