/* Graphs, values and symbols: see graph.h. Nodes are in node.c. */
#include "graph.h"
#include "op.h"
#include "train.h"
#include <stdlib.h>

typedef struct GraphState { Map *names; int syms; } GraphState; /* symbol names taken in this compilation */

static GraphState *state(Ctx *c) {
    void **s = gd_slot(c, SLOT_GRAPH);
    if (!*s) {
        GraphState *t = gd_new(c, GraphState);
        t->names = map_new(c);
        *s = t;
    }
    return *s;
}

/* ---- graphs and symbols ---- */

Graph *graph_new(Ctx *c, const char *name) {
    Graph *g = gd_new(c, Graph);
    g->c = c;
    g->name = name;
    g->after = "import";
    g->next_id = gd_new(c, int);
    return g;
}

Graph *graph_region(Graph *outer) {
    Graph *g = gd_new(outer->c, Graph);
    g->c = outer->c;
    g->name = outer->name;
    g->outer = outer;
    g->next_id = outer->next_id;
    return g;
}

Graph *graph_outermost(Graph *g) {
    while (g->outer) g = g->outer;
    return g;
}

static bool name_char(char ch, bool first) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_' || (!first && ch >= '0' && ch <= '9');
}

/* Letters, digits and _ of name (at most 40), made different from every symbol so far. */
static const char *symbol_name(Graph *g, const char *name) {
    Ctx *c = g->c;
    char clean[48];
    size_t n = 0;
    for (const char *s = name; *s && n < 40; s++)
        if (name_char(*s, n == 0)) clean[n++] = *s;
    clean[n] = 0;
    if (!n) strcpy(clean, "D");
    const char *unique = gd_strdup(c, clean);
    /* Unique in its outermost graph: programs of one model call their sizes alike. */
    const void *top = graph_outermost(g)->next_id;
    for (int i = 1; map_gets(state(c)->names, gd_format(c, "%p %s", top, unique)); i++) unique = gd_format(c, "%s_%d", clean, i);
    map_puts(state(c)->names, gd_format(c, "%p %s", top, unique), g);
    return unique;
}

Var *graph_symbol(Graph *g, const char *name, int64_t lo, int64_t hi) {
    Graph *top = graph_outermost(g);
    Var *v = var_new(g->c, V_SYM, scalar(I64), symbol_name(g, name), lo, hi);
    vec_push(g->c, &top->syms, v);
    return v;
}

Var *graph_data_symbol(Graph *g, const char *name, Expr *bound) {
    Var *v = graph_symbol(g, name, 0, bound ? expr_max(g->c, bound) : INT64_MAX);
    v->data = true;
    v->def = bound;
    return v;
}

void graph_rename(Graph *g, Var *symbol, const char *name) { symbol->name = symbol_name(g, name); }

/* ---- values ---- */

Value *value_new(Graph *g, DType dt, int rank, Expr *const *dim) {
    Value *v = gd_new(g->c, Value);
    v->id = (*g->next_id)++;
    v->dt = dt;
    v->rank = rank;
    v->source = -1;
    v->dim = gd_new_array(g->c, Expr *, rank > 0 ? rank : 1);
    for (int i = 0; i < rank; i++) v->dim[i] = dim[i];
    return v;
}

Value *graph_input(Graph *g, const char *name, DType dt, int rank, Expr *const *dim) {
    Value *v = value_new(g, dt, rank, dim);
    v->label = name;
    vec_push(g->c, &g->in, v);
    vec_push(g->c, &g->in_names, name);
    return v;
}

void graph_output(Graph *g, const char *name, Value *v) {
    vec_push(g->c, &g->out, v);
    vec_push(g->c, &g->out_names, name);
}

Value *graph_const(Graph *g, DType dt, int rank, const int64_t *dim, const void *data) {
    Graph *top = graph_outermost(g);
    Expr *e[MAX_RANK];
    for (int i = 0; i < rank; i++) e[i] = expr_int(g->c, dim[i]);
    Value *v = value_new(g, dt, rank, e);
    v->data = data;
    vec_push(g->c, &top->consts, v);
    return v;
}

Value *const_ints(Graph *g, int n, const int64_t *v) {
    int64_t dim = n, *data = gd_alloc_aligned(g->c, (size_t)(n > 0 ? n : 1) * sizeof *data);
    if (n) memcpy(data, v, (size_t)n * sizeof *data);
    return graph_const(g, I64, 1, &dim, data);
}

Value *const_scalar(Graph *g, DType dt, double x) {
    void *data = gd_alloc_aligned(g->c, 16);
    bool number = gd_dtypes[dt].kind != DK_STRING && gd_dtypes[dt].kind != DK_COMPLEX; /* else zero bytes */
    if (number) gd_store_bits(dt, data, dt_small(dt) ? expr_cast(g->c, expr_num(g->c, F32, x), dt)->bits : gd_to_bits(dt, x));
    return graph_const(g, dt, 0, NULL, data);
}

static int64_t known_count(const Value *v) {
    int64_t n = 1;
    for (int i = 0; i < v->rank; i++) n *= (int64_t)v->dim[i]->bits;
    return n;
}

bool value_static(const Value *v, int64_t *dims) {
    if (v->rank < 0) return false;
    for (int i = 0; i < v->rank; i++) {
        int64_t d;
        if (!is_int(v->dim[i], &d)) return false;
        if (dims) dims[i] = d;
    }
    return true;
}

Expr *value_count(Ctx *c, const Value *v) {
    Expr *n = expr_int(c, 1);
    for (int i = 0; i < v->rank; i++) n = expr_mul(c, n, v->dim[i]);
    return n;
}

bool value_known(const Value *v) { return v->elems || (v->data && v->dt != STRING && known_count(v) <= MAX_ELEMS); }

Expr *value_elem(Graph *g, const Value *v, int64_t i) {
    if (v->elems) return v->elems[i];
    return expr_const(g->c, scalar(v->dt), gd_load_bits(v->dt, (const char *)v->data + i * gd_dtypes[v->dt].bytes));
}

bool value_ints(Graph *g, const Value *v, int n, int64_t *out) {
    if (!value_known(v) || !dt_int(v->dt) || known_count(v) > n) return false;
    for (int64_t i = 0; i < known_count(v); i++) {
        Expr *e = value_elem(g, v, i);
        if (!is_const(e)) return false;
        out[i] = (int64_t)e->bits;
    }
    return true;
}

Value *value_of_exprs(Graph *g, int rank, int n, Expr *const *e) {
    DType dt = n ? (DType)e[0]->type.dt : I64;
    bool known = true;
    for (int i = 0; i < n; i++) known = known && is_const(e[i]);
    if (known) {
        char *data = gd_alloc_aligned(g->c, (size_t)(n ? n : 1) * 8);
        int64_t d = n;
        for (int i = 0; i < n; i++) gd_store_bits(dt, data + i * gd_dtypes[dt].bytes, e[i]->bits);
        return graph_const(g, dt, rank, &d, data);
    }
    Node *node = node_begin(g, "exprs");
    node_dims(node, "values", n, e);
    node_int(node, "rank", rank);
    return node_finish(node);
}

Expr **value_read(Graph *g, Value *v, const char *name, Expr *bound) {
    Ctx *c = g->c;
    int64_t dims[MAX_RANK], n = 1;
    if (!value_static(v, dims)) return NULL;
    n = known_count(v);
    if (n > MAX_ELEMS) return NULL;
    Expr **out = gd_new_array(c, Expr *, n ? n : 1);
    if (value_known(v)) {
        for (int64_t i = 0; i < n; i++) out[i] = expr_cast(c, value_elem(g, v, i), I64);
        return out;
    }
    Var **syms = gd_new_array(c, Var *, n ? n : 1);
    for (int64_t i = 0; i < n; i++) {
        syms[i] = graph_data_symbol(g, name, bound);
        if (!bound) syms[i]->lo = INT64_MIN;
        out[i] = expr_var(c, syms[i]);
    }
    Node *node = node_begin(g, "read");
    node_input(node, v);
    node_syms(node, "syms", (int)n, syms);
    node_finish(node);
    return out;
}

/* ---- walks ---- */

static void clear_uses(Graph *g) {
    for (int i = 0; i < g->in.n; i++) g->in.v[i]->uses = 0;
    for (int i = 0; i < g->consts.n; i++) g->consts.v[i]->uses = 0;
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nout; k++)
            if (n->out[k]) n->out[k]->uses = 0;
        for (int k = 0; k < n->nregions; k++) clear_uses(n->region[k]);
    }
}

static void count_uses(Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nin; k++)
            if (n->in[k]) n->in[k]->uses++;
        for (int k = 0; k < n->nregions; k++) count_uses(n->region[k]);
    }
    for (int i = 0; i < g->out.n; i++) g->out.v[i]->uses++;
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->from) g->states.v[i]->from->uses++;
}

void graph_count_uses(Graph *g) {
    clear_uses(g);
    count_uses(g);
}

/* Chains of replacements are followed, so with may map a value to one that is itself replaced. */
static Value *replacement(Map *with, Value *v) {
    for (Value *to; v && (to = map_getp(with, v)); v = to) continue;
    return v;
}

void graph_replace(Graph *g, Map *with) {
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i];
        for (int k = 0; k < n->nin; k++) n->in[k] = replacement(with, n->in[k]);
        for (int k = 0; k < n->nregions; k++) graph_replace(n->region[k], with);
    }
    for (int i = 0; i < g->out.n; i++) g->out.v[i] = replacement(with, g->out.v[i]);
}
