/* simplify: a node that does nothing, or undoes what another did, is replaced.

   Needs: nodes in order, known elements in place.
   Promises: the rules below change no bit of any result; rules of rounding.c, which do, run where --numerics
   allows them and leave a note. A rule looks at a node and at the nodes that made its inputs, which are
   simplified already, and answers a value to use instead: an older one, or a new node over older ones. So
   each application takes one node from the path to the inputs, and it ends.

     a = transpose x {perm=[0,2,3,1]}
     y = transpose a {perm=[0,3,1,2]}      ->     x in the place of y */
#include "edit.h"
#include "ops/build.h"

typedef Value *Rule(Graph *g, Node *n);

/* ---- asking ---- */

/* The node that made v, when it is of that op. */
static Node *made_by(const Value *v, const char *op) {
    return v && v->def && v->def->op == op_named(op) && !v->data ? v->def : NULL;
}

static bool same_dims(const Value *a, const Value *b) {
    if (a->rank != b->rank || a->dt != b->dt || a->sequence != b->sequence) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

/* Are all elements the number x, to the bit (so -0 is not 0)? */
static bool all_are(Graph *g, const Value *v, double x) {
    enum { MANY = 1 << 20 };
    int64_t size = gd_dtypes[v->dt].bytes, bytes = v->data && v->dt != STRING ? value_bytes(g->c, v) : -1;
    Expr *want = expr_cast(g->c, expr_num(g->c, dt_int(v->dt) || v->dt == BOOL ? v->dt : F64, x), v->dt);
    if (bytes <= 0 || bytes > MANY || !is_const(want)) return false;
    for (int64_t i = 0; i < bytes; i += size)
        if (gd_load_bits(v->dt, (const char *)v->data + i) != want->bits) return false;
    return true;
}

/* ---- arithmetic ---- */

static Value *either(Graph *g, Node *n, double neutral) {
    for (int i = 0; i < 2; i++)
        if (same_dims(n->in[i], n->out[0]) && all_are(g, n->in[1 - i], neutral)) return n->in[i];
    return NULL;
}
static Value *right(Graph *g, Node *n, double neutral) {
    return same_dims(n->in[0], n->out[0]) && all_are(g, n->in[1], neutral) ? n->in[0] : NULL;
}
static Value *times_one(Graph *g, Node *n) { return either(g, n, 1); }
static Value *over_one(Graph *g, Node *n) { return right(g, n, 1); }
/* -0 + 0 is 0, so only -0 is neutral among floats. */
static Value *plus_zero(Graph *g, Node *n) { return either(g, n, dt_int(n->out[0]->dt) ? 0 : -0.0); }
static Value *minus_zero(Graph *g, Node *n) { return right(g, n, 0); }

static Value *chosen(Graph *g, Node *n) {
    for (int i = 1; i <= 2; i++)
        if (all_are(g, n->in[0], i == 1) && same_dims(n->in[i], n->out[0])) return n->in[i];
    return NULL;
}

static Value *again(Graph *g, Node *n) { /* f(f(x)) = f(x) */
    (void)g;
    return n->in[0]->def && n->in[0]->def->op == n->op ? n->in[0] : NULL;
}
static Value *twice(Graph *g, Node *n) { /* f(f(x)) = x */
    (void)g;
    return n->in[0]->def && n->in[0]->def->op == n->op ? n->in[0]->def->in[0] : NULL;
}

static int int_bits(DType t) {
    return t == I4 || t == U4 ? 4 : t == I2 || t == U2 ? 2 : 8 * gd_dtypes[t].bytes;
}

/* Can every value of a be written in b? */
static bool widens(DType a, DType b) {
    if (a == F32) return b == F64;
    if (dt_small(a)) return dt_float(b);
    if (a == BOOL) return dt_int(b) || dt_float(b);
    if (!dt_int(a)) return false;
    bool is_signed = gd_dtypes[a].kind == DK_INT, to_signed = gd_dtypes[b].kind == DK_INT;
    int bits = int_bits(a) - is_signed;
    if (dt_float(b)) return bits <= (b == F32 ? 24 : 53);
    return dt_int(b) && (to_signed || !is_signed) && bits <= int_bits(b) - to_signed;
}

static Value *cast_back(Graph *g, Node *n) {
    (void)g;
    Value *x = n->in[0];
    if (x->dt == n->out[0]->dt) return x;
    Node *first = made_by(x, "cast");
    return first && first->in[0]->dt == n->out[0]->dt && widens(first->in[0]->dt, x->dt) ? first->in[0]
                                                                                         : NULL;
}

/* ---- views ---- */

static bool is_one(const Expr *e) { return is_value(e, 1); }

/* Transposes add up; one that only moves axes of one element is a reshape. */
static Value *transposes(Graph *g, Node *n) {
    Value *x = n->in[0];
    const int64_t *perm = node_attr(n, "perm")->ints;
    Node *first = made_by(x, "transpose");
    if (first) {
        int64_t both[MAX_RANK];
        for (int i = 0; i < x->rank; i++) both[i] = node_attr(first, "perm")->ints[perm[i]];
        return build_transpose(g, first->in[0], both);
    }
    int64_t last = -1;
    for (int i = 0; i < x->rank; i++) {
        if (is_one(x->dim[perm[i]])) continue;
        if (perm[i] < last) return NULL;
        last = perm[i];
    }
    return build_reshape(g, x, x->rank, n->out[0]->dim);
}

static Value *reshapes(Graph *g, Node *n) {
    Node *first = made_by(n->in[0], "reshape");
    if (first) return build_reshape(g, first->in[0], n->out[0]->rank, n->out[0]->dim);
    return same_dims(n->in[0], n->out[0]) ? n->in[0] : NULL;
}

static Value *broadcasts(Graph *g, Node *n) {
    Node *first = made_by(n->in[0], "broadcast");
    if (first) return build_broadcast(g, first->in[0], n->out[0]->rank, n->out[0]->dim);
    return same_dims(n->in[0], n->out[0]) ? n->in[0] : NULL;
}

static Value *reversed_twice(Graph *g, Node *n) {
    (void)g;
    Node *first = made_by(n->in[0], "reverse");
    const Attr *a = node_attr(n, "axes"), *b = first ? node_attr(first, "axes") : NULL;
    return b && a->n == b->n && !memcmp(a->ints, b->ints, (size_t)a->n * sizeof *a->ints) ? first->in[0]
                                                                                          : NULL;
}

static bool holds(const Expr *cond) { return is_const(cond) && cond->bits; }

/* A slice within one input of a concat. */
static Value *slice_of_concat(Graph *g, Node *n, Node *concat) {
    Ctx *c = g->c;
    int axis = (int)attr_int(concat, "axis");
    if (axis < 0) axis += n->in[0]->rank;
    Expr **start = node_attr(n, "start")->dims, **size = node_attr(n, "size")->dims,
         **step = node_attr(n, "step")->dims;
    Expr *from[MAX_RANK], *at = expr_int(c, 0), *end = expr_add(c, start[axis], size[axis]);
    if (!is_one(step[axis])) return NULL;
    for (int i = 0; i < concat->nin; i++) {
        Expr *next = expr_add(c, at, concat->in[i]->dim[axis]);
        if (holds(expr2(c, E_LE, at, start[axis])) && holds(expr2(c, E_LE, end, next))) {
            for (int k = 0; k < n->in[0]->rank; k++)
                from[k] = k == axis ? expr_sub(c, start[k], at) : start[k];
            return build_slice(g, concat->in[i], from, size, step);
        }
        at = next;
    }
    return NULL;
}

/* Part of a product that nothing else reads, cut along one axis that one operand alone has: the product of a part. */
static Value *slice_of_contract(Graph *g, Node *n, Node *contract) {
    Ctx *c = g->c;
    Value *y = n->in[0], *in[2] = {contract->in[0], contract->in[1]};
    Expr **start = node_attr(n, "start")->dims, **size = node_attr(n, "size")->dims,
         **step = node_attr(n, "step")->dims;
    int cut = -1;
    for (int i = 0; i < y->rank; i++) {
        if (size[i] == y->dim[i]) continue;
        if (cut >= 0) return NULL;
        cut = i;
    }
    int operand, axis;
    if (y->uses > 1 || cut < 0 || !contract_free_axis(contract, cut, &operand, &axis)) return NULL;
    Expr *from[MAX_RANK], *by[MAX_RANK], *take[MAX_RANK];
    for (int i = 0; i < in[operand]->rank; i++) {
        from[i] = i == axis ? start[cut] : expr_int(c, 0);
        take[i] = i == axis ? size[cut] : in[operand]->dim[i];
        by[i] = i == axis ? step[cut] : expr_int(c, 1);
    }
    in[operand] = build_slice(g, in[operand], from, take, by);
    Node *part = node_begin(g, "contract");
    for (int i = 0; i < 2; i++) node_input(part, in[i]);
    memcpy(part->attr, contract->attr, MAX_ATTRS * sizeof *part->attr);
    return node_finish(part);
}

static Value *slices(Graph *g, Node *n) {
    Ctx *c = g->c;
    Expr **start = node_attr(n, "start")->dims, **size = node_attr(n, "size")->dims,
         **step = node_attr(n, "step")->dims;
    Node *first = made_by(n->in[0], "slice"), *concat = made_by(n->in[0], "concat"),
         *contract = made_by(n->in[0], "contract");
    if (concat) return slice_of_concat(g, n, concat);
    if (contract) return slice_of_contract(g, n, contract);
    if (!first) return build_slice(g, n->in[0], start, size, step) == n->in[0] ? n->in[0] : NULL;
    Expr *from[MAX_RANK], *by[MAX_RANK];
    for (int i = 0; i < n->in[0]->rank; i++) {
        Expr *wide = node_attr(first, "step")->dims[i];
        from[i] = expr_add(c, node_attr(first, "start")->dims[i], expr_mul(c, start[i], wide));
        by[i] = expr_mul(c, step[i], wide);
    }
    return build_slice(g, first->in[0], from, size, by);
}

/* The value that a pad puts around: NULL zero. Equal when it is the same value, or the same constant. */
static bool same_filling(Graph *g, const Node *a, const Node *b) {
    const Value *x = a->nin > 1 ? a->in[1] : NULL, *y = b->nin > 1 ? b->in[1] : NULL;
    if (x == y) return true;
    if ((x && !x->data) || (y && !y->data)) return false;
    if (x && y) return !memcmp(x->data, y->data, (size_t)gd_dtypes[x->dt].bytes);
    return all_are(g, x ? x : y, 0);
}

static bool never_cuts(const Attr *a) {
    for (int i = 0; i < a->n; i++)
        if (!is_const(a->dims[i]) || (int64_t)a->dims[i]->bits < 0) return false;
    return true;
}

static Value *pads(Graph *g, Node *n) {
    Ctx *c = g->c;
    const Attr *lo = node_attr(n, "lo"), *hi = node_attr(n, "hi"), *inner = node_attr(n, "interior");
    Node *first = made_by(n->in[0], "pad");
    bool spreads = false;
    for (int i = 0; i < inner->n; i++) spreads = spreads || inner->ints[i];
    if (!first || spreads || !same_filling(g, n, first)) {
        bool nothing = !spreads;
        for (int i = 0; i < lo->n; i++)
            nothing = nothing && is_value(lo->dims[i], 0) && is_value(hi->dims[i], 0);
        return nothing ? n->in[0] : NULL;
    }
    const Attr *lo1 = node_attr(first, "lo"), *hi1 = node_attr(first, "hi");
    if (!never_cuts(lo) || !never_cuts(hi) || !never_cuts(lo1) || !never_cuts(hi1)) return NULL;
    Expr *l[MAX_RANK], *h[MAX_RANK];
    for (int i = 0; i < lo->n; i++) {
        l[i] = expr_add(c, lo->dims[i], lo1->dims[i]);
        h[i] = expr_add(c, hi->dims[i], hi1->dims[i]);
    }
    return build_pad(g, first->in[0], l, h, node_attr(first, "interior")->ints,
                     first->nin > 1 ? first->in[1] : NULL);
}

/* One input, or a concat along the same axis that nothing else uses. */
static Value *concats(Graph *g, Node *n) {
    int64_t axis = attr_int(n, "axis"), rank = n->out[0]->rank;
    bool nested = false;
    if (n->nin == 1) return n->in[0];
    VEC(Value *) in = {0};
    for (int i = 0; i < n->nin; i++) {
        Node *part = made_by(n->in[i], "concat");
        bool opens =
            part && n->in[i]->uses == 1 && (attr_int(part, "axis") + rank) % rank == (axis + rank) % rank;
        nested = nested || opens;
        if (!opens) vec_push(g->c, &in, n->in[i]);
        else
            for (int k = 0; k < part->nin; k++) vec_push(g->c, &in, part->in[k]);
    }
    return nested ? build_concat(g, in.n, in.v, (int)((axis + rank) % rank)) : NULL;
}

/* ---- the table ---- */

static const struct {
    const char *op;
    Rule *rule;
} rules[] = {
    {"mul", times_one},
    {"div", over_one},
    {"add", plus_zero},
    {"sub", minus_zero},
    {"where", chosen},
    {"relu", again},
    {"abs", again},
    {"floor", again},
    {"ceil", again},
    {"rint", again},
    {"trunc", again},
    {"sign", again},
    {"neg", twice},
    {"not", twice},
    {"bit_not", twice},
    {"cast", cast_back},
    {"castlike", cast_back},
    {"transpose", transposes},
    {"reshape", reshapes},
    {"broadcast", broadcasts},
    {"reverse", reversed_twice},
    {"slice", slices},
    {"pad", pads},
    {"concat", concats},
};

typedef struct Simplify {
    Ctx *c;
    Map *with, *rules;
    const PassOptions *o;
} Simplify;

static Value *apply(Simplify *k, Graph *g, Node *n) {
    const int *i = map_getp(k->rules, n->op);
    Value *to = i ? rules[*i].rule(g, n) : NULL;
    if (!to && k->o->numerics >= NUM_DEFAULT) to = rounding_rule(g, n);
    return to && same_dims(to, n->out[0]) ? to : NULL;
}

/* What takes the place of n's only output. A new node is looked at again. */
static Value *simpler(Simplify *k, Graph *g, Node *n) {
    enum { ENOUGH = 64 };
    Value *best = NULL;
    for (int i = 0; i < ENOUGH && n && n->nout == 1 && n->out[0]->rank >= 0; i++) {
        int made = g->nodes.n;
        Value *to = apply(k, g, n);
        if (!to) break;
        best = to;
        if (!to->label) to->label = n->out[0]->label;
        n = g->nodes.n > made && to->def == g->nodes.v[g->nodes.n - 1] ? to->def : NULL;
    }
    return best;
}

static Value *now(const Simplify *k, Value *v) {
    Value *to = v ? map_getp(k->with, v) : NULL;
    return to ? to : v;
}

/* The list of nodes is built anew, so what a rule makes stands before what uses it. */
static void walk(Simplify *k, Graph *g) {
    int n = g->nodes.n;
    Node **old = g->nodes.v;
    const char *label = g->label;
    g->nodes.v = NULL;
    g->nodes.n = g->nodes.cap = 0;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < old[i]->nin; j++) old[i]->in[j] = now(k, old[i]->in[j]);
        for (int j = 0; j < old[i]->nregions; j++) walk(k, old[i]->region[j]);
        g->label = old[i]->label;
        Value *to = simpler(k, g, old[i]);
        if (to) {
            to->uses += old[i]->out[0]->uses;
            map_putp(k->with, old[i]->out[0], to);
        } else vec_push(k->c, &g->nodes, old[i]);
        gd_check_time(k->c);
    }
    g->label = label;
    for (int i = 0; i < g->out.n; i++) g->out.v[i] = now(k, g->out.v[i]);
}

void pass_simplify(Graph *g, const PassOptions *o) {
    Simplify k = {g->c, map_new(g->c), map_new(g->c), o};
    for (int i = 0; i < (int)(sizeof rules / sizeof *rules); i++) {
        int *at = gd_new(g->c, int);
        *at = i;
        map_putp(k.rules, op_named(rules[i].op), at);
    }
    graph_count_uses(g);
    walk(&k, g);
}
