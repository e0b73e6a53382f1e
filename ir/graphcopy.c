/* Regions taken apart and copied, for the gradients of what has regions. See grad.h.

   A copy shares constants and everything from around the region, and has symbols of its own wherever its nodes define some:
   a symbol is defined once. Copies are of a node's regions, which are fewer and smaller: it ends. */
#include "grad.h"

/* ---- what a region reads from around it ---- */

typedef struct Captures { Ctx *c; Map *own, *seen; ValueList list; } Captures;

static void note(Captures *k, Value *v) {
    if (!v || map_getp(k->own, v) || map_getp(k->seen, v)) return;
    map_putp(k->seen, v, v);
    vec_push(k->c, &k->list, v);
}

static void look(Captures *k, const Graph *g) {
    for (int i = 0; i < g->in.n; i++) map_putp(k->own, g->in.v[i], k);
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        for (int j = 0; j < n->nin; j++) note(k, n->in[j]);
        for (int j = 0; j < n->nregions; j++) look(k, n->region[j]);
        for (int j = 0; j < n->nout; j++) map_putp(k->own, n->out[j], k);
    }
    for (int i = 0; i < g->out.n; i++) note(k, g->out.v[i]);
}

ValueList graph_captures(const Node *n) {
    Ctx *c = n->graph->c;
    Captures k = {.c = c, .own = map_new(c), .seen = map_new(c)};
    for (int i = 0; i < n->nregions; i++) look(&k, n->region[i]);
    return k.list;
}

/* ---- copies ---- */

typedef struct Copy { Ctx *c; Map *with, *vars; } Copy;

static Value *now(const Copy *k, Value *v) {
    Value *to = v ? map_getp(k->with, v) : NULL;
    return to ? to : v;
}

static Expr **exprs(const Copy *k, int64_t n, Expr *const *e) {
    Expr **copy = gd_new_array(k->c, Expr *, n > 0 ? n : 1);
    for (int64_t i = 0; i < n; i++) copy[i] = expr_subst(k->c, e[i], k->vars);
    return copy;
}

static Value *copy_value(Copy *k, Graph *to, const Value *v) {
    Value *copy = value_new(to, v->dt, 0, NULL);
    int id = copy->id;
    int64_t n = 1, d;
    *copy = *v;
    copy->id = id;
    copy->mark = NULL;
    copy->dim = exprs(k, v->rank, v->dim);
    for (int i = 0; i < v->rank; i++) n = is_int(copy->dim[i], &d) ? n * d : 0;
    if (v->elems) copy->elems = exprs(k, n, v->elems);
    map_putp(k->with, v, copy);
    return copy;
}

static void copy_symbols(Copy *k, Graph *to, Attr *a) {
    Var **syms = gd_new_array(k->c, Var *, a->n ? a->n : 1);
    for (int i = 0; i < a->n; i++) {
        Var *s = a->syms[i];
        syms[i] = graph_data_symbol(to, s->name, s->def ? expr_subst(k->c, s->def, k->vars) : NULL);
        syms[i]->lo = s->lo;
        syms[i]->hi = s->hi;
        map_putp(k->vars, s, expr_var(k->c, syms[i]));
    }
    a->syms = syms;
}

static void copy_attr(Copy *k, Graph *to, Attr *a) {
    switch (a->kind) {
    case AT_DIM: a->dim = expr_subst(k->c, a->dim, k->vars); break;
    case AT_DIMS: a->dims = exprs(k, a->n, a->dims); break;
    case AT_SYMS: copy_symbols(k, to, a); break;
    case AT_NONE: case AT_INT: case AT_FLOAT: case AT_STRING: case AT_INTS: case AT_FLOATS: case AT_DTYPE: break;
    }
}

static Graph *copy_region(Copy *k, Graph *outer, const Graph *from) {
    Graph *to = graph_region(outer);
    for (int i = 0; i < from->in.n; i++) {
        vec_push(k->c, &to->in, copy_value(k, to, from->in.v[i]));
        vec_push(k->c, &to->in_names, from->in_names.v[i]);
    }
    graph_copy_nodes(to, from, k->with, k->vars);
    for (int i = 0; i < from->out.n; i++) graph_output(to, from->out_names.v[i], now(k, from->out.v[i]));
    return to;
}

static void copy_node(Copy *k, Graph *to, const Node *from) {
    Node *n = gd_new(k->c, Node);
    *n = *from;
    n->id = (*to->next_id)++;
    n->graph = to;
    n->in = gd_new_array(k->c, Value *, n->nin ? n->nin : 1);
    n->out = gd_new_array(k->c, Value *, n->nout ? n->nout : 1);
    n->attr = gd_new_array(k->c, Attr, MAX_ATTRS);
    n->region = gd_new_array(k->c, Graph *, n->nregions ? n->nregions : 1);
    for (int i = 0; i < n->nin; i++) n->in[i] = now(k, from->in[i]);
    memcpy(n->attr, from->attr, MAX_ATTRS * sizeof *n->attr);
    for (int i = 0; i < MAX_ATTRS; i++) copy_attr(k, to, &n->attr[i]);
    for (int i = 0; i < n->nregions; i++) n->region[i] = copy_region(k, to, from->region[i]);
    for (int i = 0; i < n->nout; i++) {
        n->out[i] = copy_value(k, to, from->out[i]);
        n->out[i]->def = n;
    }
    vec_push(k->c, &to->nodes, n);
}

void graph_copy_nodes(Graph *to, const Graph *from, Map *with, Map *vars) {
    Copy k = {to->c, with, vars};
    for (int i = 0; i < from->nodes.n; i++) {
        const Node *n = from->nodes.v[i];
        bool defines = n->nout || n->nregions;
        for (int j = 0; j < MAX_ATTRS; j++) defines |= n->attr[j].kind == AT_SYMS;
        if (defines) copy_node(&k, to, n);
    }
}

/* ---- what nothing needs ---- */

typedef struct Needed { Ctx *c; Map *values, *syms; uint32_t mark; } Needed;

static void need_symbol(void *arg, Expr *e) {
    Needed *k = arg;
    if (e->kind == E_VAR) map_putp(k->syms, e->var, e);
}
static void need_expr(Needed *k, Expr *e) {
    if (e) expr_walk(e, k->mark, need_symbol, k);
}

static void need_value(Needed *k, const Value *v) {
    int64_t n = 1, d;
    if (!v || map_getp(k->values, v)) return;
    map_putp(k->values, v, k);
    for (int i = 0; i < v->rank; i++) {
        need_expr(k, v->dim[i]);
        n = is_int(v->dim[i], &d) ? n * d : 0;
    }
    for (int64_t i = 0; v->elems && i < n; i++) need_expr(k, v->elems[i]);
}

static void need_region(Needed *k, const Graph *g);
static void need_node(Needed *k, const Node *n) {
    for (int i = 0; i < n->nin; i++) need_value(k, n->in[i]);
    for (int i = 0; i < n->nout; i++) need_value(k, n->out[i]);
    for (int i = 0; i < MAX_ATTRS; i++) {
        const Attr *a = &n->attr[i];
        if (a->kind == AT_DIM) need_expr(k, a->dim);
        for (int j = 0; a->kind == AT_DIMS && j < a->n; j++) need_expr(k, a->dims[j]);
    }
    for (int i = 0; i < n->nregions; i++) need_region(k, n->region[i]);
}
static void need_region(Needed *k, const Graph *g) {
    for (int i = 0; i < g->in.n; i++) need_value(k, g->in.v[i]);
    for (int i = 0; i < g->nodes.n; i++) need_node(k, g->nodes.v[i]);
    for (int i = 0; i < g->out.n; i++) need_value(k, g->out.v[i]);
}

static bool is_needed(const Needed *k, const Node *n) {
    bool defines = n->nout > 0;
    for (int i = 0; i < n->nout; i++)
        if (map_getp(k->values, n->out[i])) return true;
    for (int i = 0; i < MAX_ATTRS; i++) {
        const Attr *a = &n->attr[i];
        defines |= a->kind == AT_SYMS;
        for (int j = 0; a->kind == AT_SYMS && j < a->n; j++)
            if (map_getp(k->syms, a->syms[j])) return true;
    }
    return !defines;
}

void graph_drop_unused(Graph *g, int first) {
    Needed k = {g->c, map_new(g->c), map_new(g->c), expr_mark(g->c)};
    bool *keep = gd_new_array(g->c, bool, g->nodes.n ? g->nodes.n : 1);
    for (int i = 0; i < g->out.n; i++) need_value(&k, g->out.v[i]);
    for (int i = g->nodes.n - 1; i >= 0; i--) {
        keep[i] = i < first || is_needed(&k, g->nodes.v[i]);
        if (keep[i]) need_node(&k, g->nodes.v[i]);
    }
    int n = 0;
    for (int i = 0; i < g->nodes.n; i++)
        if (keep[i]) g->nodes.v[n++] = g->nodes.v[i];
    g->nodes.n = n;
}
