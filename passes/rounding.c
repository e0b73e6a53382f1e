/* Rewrites that change rounding: a part of `simplify`, left out by --numerics=strict.

   A factor per output channel of a convolution goes into its weights, a summand into its bias, which is how a
   batch normalisation behind it disappears. The result is a sum of as many products as before, with fewer
   roundings afterwards: its error is not larger. The nodes say so in their notes. Only constants are changed,
   when compiling. */
#include "edit.h"
#include "ops/build.h"

static Node *made_by(const Value *v, const char *op) {
    return v->def && v->def->op == op_named(op) && !v->data && v->uses == 1 ? v->def : NULL;
}

/* Does k, broadcast to the rank of y, vary along one axis only? */
static bool along(const Value *k, const Value *y, int axis) {
    if (!k->data || k->dt != y->dt || k->rank > y->rank || !dt_float(k->dt)) return false;
    for (int i = 0; i < k->rank; i++) {
        int a = y->rank - k->rank + i;
        if (!is_value(k->dim[i], 1) && (a != axis || k->dim[i] != y->dim[a])) return false;
    }
    return true;
}

/* k's elements along that one axis, as a tensor of the given rank that varies along another. */
static Value *turned(Graph *g, Value *k, int rank, int axis) {
    Expr *dim[MAX_RANK];
    for (int i = 0; i < rank; i++) dim[i] = i == axis ? value_count(g->c, k) : expr_int(g->c, 1);
    return build_reshape(g, k, rank, dim);
}

/* Nodes over constants, made from position `from` on, are folded at once; NULL when that cannot be. */
static Value *folded(Graph *g, Value *v, int from) {
    Map *with = map_new(g->c);
    for (int i = from; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nin; k++)
            if (n->in[k] && map_getp(with, n->in[k])) n->in[k] = map_getp(with, n->in[k]);
        if (!fold_node(n, with, NULL)) return NULL;
    }
    g->nodes.n = from;
    Value *to = map_getp(with, v);
    return to ? to : v;
}

static Value *fold2(Graph *g, const char *op, Value *a, Value *b) {
    int from = g->nodes.n;
    if (!a || !b) return NULL;
    return folded(g, make(g, op, a, b), from);
}

static Value *conv_like(Graph *g, const Node *like, Value *w, Value *b, const char *note) {
    Node *n = node_begin(g, like->op->name);
    node_input(n, like->in[0]);
    node_input(n, w);
    if (b) node_input(n, b);
    for (int i = 0; i < MAX_ATTRS; i++) n->attr[i] = like->attr[i];
    n->label = like->label;
    n->note = note;
    return node_finish(n);
}

/* conv(x, w, b) * k = conv(x, w * k, b * k) */
static Value *scaled_conv(Graph *g, Node *conv, Value *k, int from) {
    Value *w = conv->in[1], *b = conv->nin > 2 ? conv->in[2] : NULL;
    if (!w->data || (b && !b->data) || !along(k, conv->out[0], 1)) return NULL;
    w = fold2(g, "mul", w, folded(g, turned(g, k, w->rank, 0), from));
    if (b && !(b = fold2(g, "mul", b, folded(g, turned(g, k, b->rank, b->rank - 1), from)))) return NULL;
    return !w ? NULL : conv_like(g, conv, w, b, "a factor was folded into the weights: rounding changed");
}

/* conv(x, w, b) + k = conv(x, w, b + k), and the same with minus */
static Value *shifted_conv(Graph *g, Node *conv, Value *k, bool minus, int from) {
    Value *b = conv->nin > 2 ? conv->in[2] : NULL, *y = conv->out[0];
    if ((b && !b->data) || !along(k, y, 1)) return NULL;
    if (!(k = folded(g, turned(g, k, 1, 0), from))) return NULL;
    if (k->dim[0] != y->dim[1]) { /* one number for all channels */
        int start = g->nodes.n;
        k = folded(g, build_broadcast(g, k, 1, &y->dim[1]), start);
    }
    from = g->nodes.n;
    if (b) b = fold2(g, minus ? "sub" : "add", folded(g, turned(g, b, 1, 0), from), k);
    else b = minus ? folded(g, make(g, "neg", k), from) : k;
    return !b ? NULL
              : conv_like(g, conv, conv->in[1], b,
                          conv->note ? conv->note : "a summand was folded into the bias: rounding changed");
}

/* (a . w) * k = a . (w * k), for a matrix w of constants whose free axis is the last of the output */
static Value *scaled_contract(Graph *g, Node *n, Value *k, int from) {
    Value *w = n->in[1], *y = n->out[0];
    const Attr *axes = node_attr(n, "b_contract");
    if (!w->data || w->rank != 2 || axes->n != 1 || !along(k, y, y->rank - 1)) return NULL;
    w = fold2(g, "mul", w, folded(g, turned(g, k, 2, axes->ints[0] == 0 ? 1 : 0), from));
    return !w ? NULL : conv_like(g, n, w, NULL, "a factor was folded into the weights: rounding changed");
}

Value *rounding_rule(Graph *g, Node *n) {
    bool mul = n->op == op_named("mul"), add = n->op == op_named("add"), sub = n->op == op_named("sub");
    if (!mul && !add && !sub) return NULL;
    for (int i = 0; i < (sub ? 1 : 2); i++) {
        Node *conv = made_by(n->in[i], "conv"), *contract = mul ? made_by(n->in[i], "contract") : NULL;
        Value *k = n->in[1 - i], *to = NULL;
        if (conv && mul) to = scaled_conv(g, conv, k, g->nodes.n);
        else if (conv) to = shifted_conv(g, conv, k, sub, g->nodes.n);
        else if (contract) to = scaled_contract(g, contract, k, g->nodes.n);
        if (to) return to;
    }
    return NULL;
}
