/* The walk of export.h: nodes in their order, each by its row; then what nothing needs is dropped and everything
   that stays is named.

   Invariant: a tensor is made before it is used, in the graph where it is used or one around it, as in the graph IR.
   Terminates: each node is exported once; formulas of rows are nodes of rows that are no formulas of themselves. */
#include "export.h"
#include "import.h"
#include "train.h"

/* ---- tensors and nodes ---- */

static ExportRef *ref_new(Export *x, DType dt, const char *name) {
    ExportRef *r = gd_new(x->c, ExportRef);
    *r = (ExportRef){.name = name, .dt = dt, .rank = -1, .home = x->at};
    vec_push(x->c, &x->all, r);
    return r;
}

ExportNode *export_node(Export *x, const char *op) {
    ExportNode *e = gd_new(x->c, ExportNode);
    e->op = op;
    e->name = x->label;
    return e;
}

void export_arg(Export *x, ExportNode *e, ExportRef *r) { vec_push(x->c, &e->in, r); }

/* A node takes its place with its first output: what its arguments needed to be computed stands before it. */
ExportRef *export_result(Export *x, ExportNode *e, DType dt) {
    ExportRef *r = ref_new(x, dt, NULL);
    if (!e->out.n) vec_push(x->c, &x->at->nodes, e);
    r->by = e;
    vec_push(x->c, &e->out, r);
    return r;
}

void export_int(Export *x, ExportNode *e, const char *name, int64_t v) {
    vec_push(x->c, &e->attr, ((ExportAttr){.name = name, .kind = EX_INT, .i = v}));
}
void export_float(Export *x, ExportNode *e, const char *name, double v) {
    vec_push(x->c, &e->attr, ((ExportAttr){.name = name, .kind = EX_FLOAT, .f = v}));
}
void export_string(Export *x, ExportNode *e, const char *name, const char *v) {
    vec_push(x->c, &e->attr, ((ExportAttr){.name = name, .kind = EX_STRING, .s = v}));
}
void export_ints(Export *x, ExportNode *e, const char *name, int n, const int64_t *v) {
    int64_t *copy = gd_new_array(x->c, int64_t, n ? n : 1);
    for (int i = 0; i < n; i++) copy[i] = v[i];
    vec_push(x->c, &e->attr, ((ExportAttr){.name = name, .kind = EX_INTS, .n = n, .ints = copy}));
}
void export_subgraph(Export *x, ExportNode *e, const char *name, ExportGraph *g) {
    vec_push(x->c, &e->attr, ((ExportAttr){.name = name, .kind = EX_GRAPH, .graph = g}));
}

ExportRef *export_op_(Export *x, const char *op, DType dt, ExportRef *const *in) {
    ExportNode *e = export_node(x, op);
    for (int i = 0; in[i]; i++) export_arg(x, e, in[i]);
    return export_result(x, e, dt);
}

ExportRef *export_cast(Export *x, ExportRef *r, DType to) {
    if (r->dt == to) return r;
    ExportNode *e = export_node(x, "Cast");
    export_arg(x, e, r);
    export_int(x, e, "to", gd_dtypes[to].onnx);
    return export_result(x, e, to);
}

/* ---- constants ---- */

void export_since(Export *x, int opset) {
    if (opset > x->opset) x->opset = opset;
}

/* Dtypes that are younger than the opset written otherwise. */
static void young(Export *x, DType t) {
    export_since(x, t == F4E2M1 ? 23 : t == F8E8M0 ? 24 : t == I2 || t == U2 ? 25 : 0);
}

ExportRef *export_const(Export *x, DType dt, int rank, const int64_t *dim, const void *data) {
    ExportRef *r = ref_new(x, dt, NULL);
    int64_t *copy = gd_new_array(x->c, int64_t, rank ? rank : 1);
    for (int i = 0; i < rank; i++) copy[i] = dim[i];
    r->rank = rank;
    r->ints = copy;
    r->data = data;
    r->home = x->top;
    vec_push(x->c, &x->consts, r);
    young(x, dt);
    return r;
}

ExportRef *export_list(Export *x, int n, const int64_t *v) {
    int64_t *copy = gd_new_array(x->c, int64_t, n ? n : 1), count = n;
    for (int i = 0; i < n; i++) copy[i] = v[i];
    return export_const(x, I64, 1, &count, copy);
}

ExportRef *export_number(Export *x, DType dt, double v) {
    void *p = gd_alloc(x->c, 16);
    gd_store_bits(dt, p, gd_to_bits(dt, v));
    return export_const(x, dt, 0, NULL, p);
}

/* ---- values ---- */

static const char *unescape(Ctx *c, const char *s) {
    char *t = gd_strdup(c, s), *to = t;
    for (; *s; to++) {
        unsigned byte;
        if (s[0] == '\\' && s[1] == 'x' && sscanf(s + 2, "%2x", &byte) == 1) {
            *to = (char)byte;
            s += 4;
        } else *to = *s++;
    }
    *to = 0;
    return t;
}

static const char *label_of(Export *x, const Value *v) { return v->label ? unescape(x->c, v->label) : NULL; }

static ExportRef *constant(Export *x, const Value *v, const void *data) {
    int64_t dim[MAX_RANK];
    if (!value_static(v, dim)) gd_bug(x->c, "a constant of open size");
    ExportRef *r = export_const(x, v->dt, v->rank, dim, data);
    r->name = label_of(x, v);
    return r;
}

ExportRef *export_value(Export *x, Value *v) {
    if (!v) return NULL;
    ExportRef *r = map_getp(x->values, v);
    if (r) return r;
    if (v->data) {
        map_putp(x->values, v, r = constant(x, v, v->data));
        return r;
    }
    if (v->elems && v->rank < 2) { /* not kept: where it is computed may be a branch */
        int64_t n = 1;
        if (v->rank) is_int(v->dim[0], &n);
        r = v->rank ? export_dims(x, (int)n, v->elems) : export_scalar(x, v->elems[0]);
        return export_cast(x, r, v->dt);
    }
    if (!gd_error_count(x->c)) gd_bug(x->c, "a value is used before it is exported");
    return ref_new(x, v->dt, NULL);
}

void export_out(Export *x, const Node *n, int port, ExportRef *r) {
    Value *v = n->out[port];
    map_putp(x->values, v, r);
    young(x, v->dt);
    if (!r->name) r->name = label_of(x, v);
    export_sizes(x, v, r);
}

/* ---- graphs within graphs ---- */

static ExportGraph *graph_of(Export *x, ExportGraph *outer) {
    ExportGraph *g = gd_new(x->c, ExportGraph);
    g->outer = outer;
    g->exprs = map_new(x->c);
    return g;
}

ExportGraph *export_open(Export *x) { return x->at = graph_of(x, x->at); }
void export_close(Export *x) { x->at = x->at->outer; }

ExportRef *export_argument(Export *x, DType dt, int rank) {
    ExportRef *r = ref_new(x, dt, NULL);
    r->rank = rank;
    r->given = true;
    vec_push(x->c, &x->at->in, r);
    return r;
}

/* An output is made by a node of its own graph, and of no other output. */
void export_yield(Export *x, ExportRef *r) {
    bool taken = r->home != x->at || !r->by;
    for (int i = 0; i < x->at->out.n; i++) taken |= x->at->out.v[i] == r;
    vec_push(x->c, &x->at->out, taken ? export_op(x, "Identity", r->dt, r) : r);
}

/* ---- nodes ---- */

void export_fail(Export *x, const Node *n, const char *help, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    node_error(n, 406, help, "%s: %s", n->op->name, text);
    for (int i = 0; i < n->nout; i++) export_out(x, n, i, ref_new(x, n->out[i]->dt, NULL));
}

/* Functions of small floats are computed in f32 and rounded once; ONNX has some of them for f32 only. */
static bool computed_wide(const Node *n) {
    bool function = n->op->kind == OP_MAP && !(n->op->flags & OF_CHEAP);
    return function && n->nin && dt_small(n->in[0]->dt) && dt_small(n->out[0]->dt);
}

void export_default(Export *x, Node *n) {
    ExportNode *e = export_node(x, n->op->onnx);
    int last = n->nin;
    while (last && !n->in[last - 1]) last--;
    bool wide = computed_wide(n);
    for (int i = 0; i < last; i++) {
        ExportRef *r = export_in(x, n, i);
        export_arg(x, e, wide && r ? export_cast(x, r, F32) : r);
    }
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++) {
        const char *name = n->op->attrs[i].name;
        const Attr *a = &n->attr[i];
        switch (a->kind) {
        case AT_INT: export_int(x, e, name, a->i); break;
        case AT_FLOAT: export_float(x, e, name, a->f); break;
        case AT_STRING: export_string(x, e, name, a->s); break;
        case AT_INTS: export_ints(x, e, name, a->n, a->ints); break;
        case AT_NONE: break;
        default: gd_bug(x->c, "row %s needs an export function", n->op->name);
        }
    }
    for (int i = 0; i < n->nout; i++) {
        ExportRef *r = export_result(x, e, wide ? F32 : n->out[i]->dt);
        export_out(x, n, i, wide ? export_cast(x, r, n->out[i]->dt) : r);
    }
}

void export_text(Export *x, Node *n, const char *text, const Map *values, const Map *attrs) {
    Graph *scratch = graph_region(n->graph);
    scratch->label = n->label;
    Value *y = graph_text(scratch, text, values, attrs);
    for (int i = 0; i < scratch->nodes.n; i++)
        if (scratch->nodes.v[i]->op == n->op) {
            export_fail(x, n, NULL, "ONNX has no such operator");
            return;
        }
    export_nodes(x, scratch);
    export_out(x, n, 0, export_cast(x, export_value(x, y), n->out[0]->dt));
}

/* The inputs under their names in the row; small floats as f32, in which formulas are computed. */
static void name_inputs(Export *x, Node *n, Map *values) {
    const char *s = n->op->in;
    for (int i = 0; i < n->nin; i++) {
        size_t len = strcspn(s, " ");
        Value *v = n->in[i];
        if (dt_small(v->dt)) {
            Value *wide = value_new(n->graph, F32, v->rank, v->dim);
            map_putp(x->values, wide, export_cast(x, export_value(x, v), F32));
            v = wide;
        }
        map_put(values, s, len, v);
        s += len + (s[len] == ' ');
    }
}

void export_formula(Export *x, Node *n) {
    Map *values = map_new(x->c), *attrs = map_new(x->c);
    if (!n->op->value) {
        export_fail(x, n, NULL, "ONNX has no such operator");
        return;
    }
    name_inputs(x, n, values);
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++) map_puts(attrs, n->op->attrs[i].name, &n->attr[i]);
    export_text(x, n, n->op->value, values, attrs);
}

static void one(Export *x, Node *n) {
    const char *onnx = n->op->onnx, *label = x->label;
    if (n->label) x->label = n->label;
    if (n->op->export) n->op->export(x, n);
    else if (onnx && !strchr(onnx, ':')) export_default(x, n);
    else if (n->op->kind == OP_MAP) export_formula(x, n);
    else export_fail(x, n, NULL, "ONNX has no such operator");
    x->label = label;
}

void export_nodes(Export *x, Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        gd_check_time(x->c);
        one(x, g->nodes.v[i]);
    }
}

/* ---- the whole ---- */

static void inputs(Export *x, StateData *state, void *arg) {
    Graph *g = x->g;
    for (int i = 0; i < g->in.n; i++) {
        Value *v = g->in.v[i];
        const char *name = unescape(x->c, g->in_names.v[i]);
        StateVar *s = state_of(g, v);
        if (s) {
            ExportRef *r = constant(x, v, state_data(g, s, state, arg));
            r->name = name;
            map_putp(x->values, v, r);
            continue;
        }
        if (v->sequence || v->optional || v->rank < 0) {
            gd_error(x->c, 406, "take tensors out of it", "input \"%s\" is no tensor", g->in_names.v[i]);
            continue;
        }
        ExportRef *r = export_argument(x, v->dt, v->rank);
        r->name = name;
        r->dim = v->dim;
        map_putp(x->values, v, r);
        young(x, v->dt);
        export_sizes(x, v, r);
    }
}

static void outputs(Export *x) {
    Graph *g = x->g;
    for (int i = 0; i < g->out.n; i++) {
        bool next = false;
        for (int k = 0; k < g->states.n; k++) next |= g->states.v[k]->out == i;
        if (next) continue;
        export_yield(x, export_value(x, g->out.v[i]));
        ExportRef *r = x->top->out.v[x->top->out.n - 1];
        r->name = unescape(x->c, g->out_names.v[i]);
        r->rank = g->out.v[i]->rank;
        r->dim = g->out.v[i]->dim;
    }
}

/* Last node first: what a live node reads is live. The graphs of a node read what was made before it. */
static void mark_live(ExportGraph *g) {
    for (int i = 0; i < g->out.n; i++) g->out.v[i]->live = true;
    for (int i = g->nodes.n - 1; i >= 0; i--) {
        ExportNode *e = g->nodes.v[i];
        for (int k = 0; k < e->out.n; k++) e->live |= e->out.v[k]->live;
        if (!e->live) continue;
        for (int k = 0; k < e->in.n; k++)
            if (e->in.v[k]) e->in.v[k]->live = true;
        for (int k = 0; k < e->attr.n; k++)
            if (e->attr.v[k].kind == EX_GRAPH) mark_live(e->attr.v[k].graph);
    }
}

static const char *unused_name(Export *x, Map *taken, const char *want) {
    const char *s = want;
    for (int i = 1; map_has(taken, s, strlen(s)); i++) s = gd_format(x->c, "%s_%d", want, i);
    map_puts(taken, s, x);
    return s;
}

/* The model's name for a node stands quoted in its label: `17 Conv "conv1"`. */
static void name_nodes(Export *x, ExportGraph *g, Map *taken) {
    for (int i = 0; i < g->nodes.n; i++) {
        ExportNode *e = g->nodes.v[i];
        const char *open = e->name ? strchr(e->name, '"') : NULL, *close = open ? strrchr(open + 1, '"') : NULL;
        if (!e->live) continue;
        e->name = close ? unused_name(x, taken, unescape(x->c, gd_strndup(x->c, open + 1, (size_t)(close - open - 1)))) : "";
        for (int k = 0; k < e->attr.n; k++)
            if (e->attr.v[k].kind == EX_GRAPH) name_nodes(x, e->attr.v[k].graph, taken);
    }
}

static bool interface(const Export *x, const ExportRef *r) {
    for (int i = 0; i < x->top->in.n; i++)
        if (x->top->in.v[i] == r) return true;
    for (int i = 0; i < x->top->out.n; i++)
        if (x->top->out.v[i] == r) return true;
    return false;
}

/* Inputs and outputs keep their names; the rest has the model's where they are free, else numbers. */
static void name_tensors(Export *x) {
    Map *taken = map_new(x->c);
    for (int i = 0; i < x->top->in.n; i++) x->top->in.v[i]->name = unused_name(x, taken, x->top->in.v[i]->name);
    for (int i = 0; i < x->top->out.n; i++) x->top->out.v[i]->name = unused_name(x, taken, x->top->out.v[i]->name);
    for (int round = 0, number = 0; round < 2; round++)
        for (int i = 0; i < x->all.n; i++) {
            ExportRef *r = x->all.v[i];
            bool named = r->name && *r->name;
            if (named == (round != 0) || interface(x, r) || !(r->live || r->given || r->by)) continue;
            r->name = unused_name(x, taken, named ? r->name : gd_format(x->c, "t%d", number++));
        }
}

Export *export_graph(Graph *g, StateData *state, void *arg) {
    Export *x = gd_new(g->c, Export);
    int errors = gd_error_count(g->c);
    *x = (Export){.c = g->c, .g = g, .values = map_new(g->c), .symbols = map_new(g->c), .opset = EXPORT_OPSET};
    x->at = x->top = graph_of(x, NULL);
    inputs(x, state, arg);
    export_nodes(x, g);
    outputs(x);
    if (gd_error_count(g->c) > errors) gd_leave(g->c);
    mark_live(x->top);
    name_tensors(x);
    name_nodes(x, x->top, map_new(x->c));
    return x;
}
