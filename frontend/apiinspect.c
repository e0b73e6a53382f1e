/* The op table, the sizes and the work of a model, as tables of the C API. */
#include "session.h"
#include "train.h"
#include "op.h"
#include <stdlib.h>

/* ---- ops ---- */

static const char *kind_name(OpKind k) {
    switch (k) {
    case OP_MAP: return "map";
    case OP_VIEW: return "view";
    case OP_REDUCE: return "reduce";
    case OP_CONTRACT: return "contract";
    case OP_WINDOW: return "window";
    case OP_GATHER: return "gather";
    case OP_SORT: return "sort";
    case OP_RANDOM: return "random";
    case OP_CONTROL: return "control";
    case OP_SEQUENCE: return "sequence";
    case OP_BUILD: return "build";
    }
    return "?";
}

static const char *attr_kind(AttrKind k) {
    switch (k) {
    case AT_INT: return "int";
    case AT_FLOAT: return "float";
    case AT_STRING: return "string";
    case AT_INTS: return "ints";
    case AT_FLOATS: return "floats";
    case AT_DIM: return "dim";
    case AT_DIMS: return "dims";
    case AT_DTYPE: return "dtype";
    case AT_SYMS: return "symbols";
    case AT_NONE: break;
    }
    return "";
}

bool gradc_op_at(int i, GradcOpInfo *out) {
    const Op *op = i < 0 ? NULL : op_at(i);
    if (!op) return false;
    *out = (GradcOpInfo){.name = op->name, .onnx = op->onnx, .since = op->since, .kind = kind_name(op->kind), .in = op->in,
                         .out = op->out, .types = op->types, .value = op->value, .doc = op->doc,
                         .no_gradient = op->flags & OF_NO_GRAD};
    for (int k = 0; k < 4; k++) {
        out->vjp[k] = op->vjp[k];
        out->gradient = out->gradient || op->vjp[k];
    }
    out->gradient = out->gradient || op->grad;
    for (int k = 0; k < MAX_ATTRS && op->attrs[k].name; k++, out->nattrs++) {
        out->attrs[k].name = op->attrs[k].name;
        out->attrs[k].kind = attr_kind(op->attrs[k].kind);
        out->attrs[k].def = op->attrs[k].def;
        out->attrs[k].required = op->attrs[k].required;
    }
    return true;
}

/* ---- inspect ---- */

static const char *format_name(FrontFormat f) {
    switch (f) {
    case FF_ONNX: return "ONNX";
    case FF_ONNX_TEXT: return "ONNX text";
    case FF_GRAPH_TEXT: return "graph IR";
    case FF_LOOP_TEXT: return "loop IR";
    case FF_MODEL: return "model description";
    case FF_UNKNOWN: break;
    }
    return "unknown";
}

typedef VEC(GradcInfoOp) Ops;

/* Terminates: regions nest as the file does, which the reader has bounded. */
static void count_ops(const Graph *g, Ops *ops, GradcInfo *out) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        int k = 0;
        while (k < ops->n && strcmp(ops->v[k].name, n->op->name)) k++;
        if (k == ops->n) {
            GradcInfoOp op = {n->op->name, 0};
            vec_push(g->c, ops, op);
        }
        ops->v[k].count++;
        out->nodes++;
        for (int r = 0; r < n->nregions; r++) count_ops(n->region[r], ops, out);
    }
}

static int by_count(const void *a, const void *b) {
    const GradcInfoOp *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return strcmp(x->name, y->name);
}

static void of_graph(const Graph *g, GradcInfo *out) {
    Ops ops = {0};
    count_ops(g, &ops, out);
    if (ops.n) qsort(ops.v, (size_t)ops.n, sizeof *ops.v, by_count);
    out->ops = ops.v;
    out->nops = ops.n;
    for (int i = 0; i < g->consts.n; i++) {
        const Value *v = g->consts.v[i];
        int64_t dims[MAX_RANK], n = 1;
        if (!value_static(v, dims) || v->source < 0) continue;
        for (int k = 0; k < v->rank; k++) n *= dims[k];
        if (dt_float(v->dt) || dt_small(v->dt)) out->parameters += n;
        out->weight_bytes += n * gd_dtypes[v->dt].bytes;
    }
    for (int i = 0; i < g->states.n; i++) { /* a description's parameters: their values are elsewhere */
        const Value *v = g->in.v[g->states.v[i]->in];
        int64_t dims[MAX_RANK], n = 1;
        if (g->states.v[i]->kind != ST_PARAM || g->states.v[i]->from || !value_static(v, dims)) continue;
        for (int k = 0; k < v->rank; k++) n *= dims[k];
        out->parameters += n;
        out->weight_bytes += n * gd_dtypes[v->dt].bytes;
    }
}

static void of_ports(const Program *p, GradcInfo *out) {
    const GradcProgram *g = session_ports(p);
    GradcInfoPort *port = gd_new_array(p->c, GradcInfoPort, p->params.n + 1);
    GradcInfoSymbol *sym = gd_new_array(p->c, GradcInfoSymbol, p->syms.n + 1);
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        Text *t = text_new(p->c);
        text_printf(t, "%s[", gd_dtypes[b->dt].name);
        for (int d = 0; d < b->rank; d++) {
            if (d) text_put(t, ",");
            expr_print(t, b->dim[d]);
        }
        text_put(t, "]");
        port[i] = (GradcInfoPort){p->port_names.v[i], t->s};
    }
    for (int i = 0; i < p->syms.n; i++)
        sym[i] = (GradcInfoSymbol){p->syms.v[i]->name, p->syms.v[i]->lo, p->syms.v[i]->hi, p->syms.v[i]->data};
    out->nin = g->nin;
    out->nout = g->nout;
    out->in = port;
    out->out = port + g->nin;
    out->nsyms = p->syms.n;
    out->syms = sym;
}

static int64_t lowest(const Program *p, Expr *e) {
    Map *m = map_new(p->c);
    int64_t v;
    for (int i = 0; i < p->syms.n; i++)
        if (!p->syms.v[i]->data) map_putp(m, p->syms.v[i], expr_int(p->c, p->syms.v[i]->lo > 1 ? p->syms.v[i]->lo : 1));
    return is_int(expr_subst(p->c, e, m), &v) ? v : -1;
}

static bool count_nests(void *arg, Stmt *s) {
    if (s->kind == S_NEST) ++*(int *)arg;
    return s->kind != S_NEST;
}

static void of_program(Program *p, GradcInfo *out) {
    Text *t = text_new(p->c);
    out->name = p->name;
    of_ports(p, out);
    for (int i = 0; i < p->consts.n; i++) {
        int64_t n;
        if (is_int(buf_size(p->c, p->consts.v[i]), &n)) out->packed_bytes += n * gd_dtypes[p->consts.v[i]->dt].bytes;
    }
    out->arena_bytes = p->arena ? lowest(p, p->arena) : 0;
    if (p->grows) out->arena_bytes = -1;
    if (p->arena) expr_print(t, p->arena);
    else text_put(t, "0");
    if (p->grows) text_put(t, " and what the data decides");
    out->arena = t->s;
    out->macs = session_macs(p);
    block_walk(&p->body, count_nests, &out->nests);
}

typedef struct Inspect { Gradc *g; GradcInfo *out; } Inspect;

static void inspect(Ctx *c, void *arg) {
    Inspect *i = arg;
    Build b;
    build_begin(&b, i->g, c);
    build_read(&b);
    i->out->format = format_name(b.file.format);
    if (b.graph) of_graph(b.graph, i->out);
    build_finish(&b);
    of_program(b.program, i->out);
}

int gradc_inspect(Gradc *g, GradcInfo *out) {
    *out = (GradcInfo){0};
    return session_run(g, inspect, &(Inspect){g, out});
}
