/* The invariants of graph.h. Each pass is followed by this check, so it is linear and asks no row for shapes:
   it looks at what the next pass relies on. */
#include "graphtext.h"
#include "op.h"
#include "text.h"
#include "train.h"

typedef struct Verifier {
    Ctx *c; /* of the message */
    Ctx *s; /* scratch */
    const Graph *top;
    const char *fault;
    bool printable; /* the fault is one that the printer lives with */
    Map *where;     /* Value -> the Graph it can be used in now; NULL: no more */
    Map *ids;
    Map *defined; /* symbols, as long as they are */
    Map *read;    /* symbols that some read node defines */
    Map *good;    /* expressions that use defined symbols only */
} Verifier;

static bool fail(Verifier *k, const char *fmt, ...) GD_PRINTF(2, 3);
static bool fail(Verifier *k, const char *fmt, ...) {
    char s[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    if (!k->fault) k->fault = gd_strdup(k->c, s);
    return false;
}

static bool dislocated(Verifier *k, const char *at, const char *what, const char *of) {
    k->printable = !k->fault;
    return fail(k, "%s: %s%s", at, what, of);
}

static const char *name(Verifier *k, const Value *v) { return value_name_text(k->s, v); }

/* ---- expressions ---- */

static bool expr_good(Verifier *k, const Expr *e, const char *what) {
    if (!e) return fail(k, "%s: an expression is missing", what);
    if (map_getp(k->good, e)) return true;
    if (e->kind == E_LOAD || e->kind == E_LANE || e->kind == E_CALL || e->type.lanes != 1)
        return fail(k, "%s: %s is no expression over symbols", what, expr_text(k->s, e));
    if (e->kind == E_VAR && (e->var->kind != V_SYM || !map_getp(k->defined, e->var)))
        return dislocated(k, what, "uses a symbol that is not defined here: ", e->var->name);
    for (int i = 0; i < e->nargs; i++)
        if (!expr_good(k, e->arg[i], what)) return false;
    map_putp(k->good, e, (void *)e);
    return true;
}

static bool index_good(Verifier *k, const Expr *e, const char *what) {
    if (!expr_good(k, e, what)) return false;
    return type_eq(e->type, scalar(I64)) || fail(k, "%s: %s is no i64", what, expr_text(k->s, e));
}

/* ---- values ---- */

static int64_t count_of(const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    if (v->rank < 0 || !value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++)
        if (dims[i] < 0 || __builtin_mul_overflow(n, dims[i], &n)) return -1;
    return n;
}

static bool elements_good(Verifier *k, const Value *v) {
    int64_t n = count_of(v);
    if (!v->data && !v->elems) return true;
    if (v->sequence || n < 0) return fail(k, "%s has elements, but no size", name(k, v));
    if (v->data && (uintptr_t)v->data % 64) return fail(k, "the data of %s is not aligned", name(k, v));
    if (!v->elems) return true;
    if (n > MAX_ELEMS) return fail(k, "%s has more known elements than are followed", name(k, v));
    for (int64_t i = 0; i < n; i++) {
        if (!expr_good(k, v->elems[i], name(k, v))) return false;
        if (!type_eq(v->elems[i]->type, scalar(v->dt)))
            return fail(k, "a known element of %s has another type", name(k, v));
    }
    return true;
}

static bool type_good(Verifier *k, const Value *v) {
    int64_t d, bytes = 1;
    if (v->dt >= DTYPES) return fail(k, "%s has no dtype", name(k, v));
    if (v->rank > MAX_RANK || v->rank < (v->sequence ? -1 : 0))
        return fail(k, "%s has rank %d", name(k, v), v->rank);
    for (int i = 0; i < v->rank; i++) {
        if (!index_good(k, v->dim[i], name(k, v))) return false;
        if (!is_int(v->dim[i], &d)) continue;
        if (d < 0) return fail(k, "%s has a negative dim", name(k, v));
        if (__builtin_mul_overflow(bytes, d ? d : 1, &bytes))
            return fail(k, "the size of %s overflows", name(k, v));
    }
    return true;
}

static bool layout_good(Verifier *k, const Value *v) {
    unsigned seen = 0;
    for (int i = 0; v->order && i < v->rank; i++) {
        if (v->order[i] >= v->rank || seen >> v->order[i] & 1)
            return fail(k, "the order of %s is no permutation", name(k, v));
        seen |= 1u << v->order[i];
    }
    if (v->place > PL_LOCAL || (v->place == PL_LOCAL && v->local_axis > v->rank))
        return fail(k, "%s has no sane place", name(k, v));
    if (v->place == PL_LOCAL && !v->def) return fail(k, "%s is local, but nothing computes it", name(k, v));
    return true;
}

/* A value comes into being in g. */
static bool define(Verifier *k, const Graph *g, const Value *v) {
    if (map_has(k->ids, &v->id, sizeof v->id)) return dislocated(k, name(k, v), "its id is taken", "");
    if (v->id < 0 || v->id >= *k->top->next_id)
        return fail(k, "%s: its id is not one of this graph", name(k, v));
    map_put(k->ids, &v->id, sizeof v->id, k);
    map_putp(k->where, v, (void *)g);
    return type_good(k, v) && elements_good(k, v) && layout_good(k, v);
}

static bool usable(Verifier *k, const Value *v, const char *by) {
    if (!v) return fail(k, "%s uses no value where it needs one", by);
    return map_getp(k->where, v) ||
           dislocated(k, by, "uses a value that is not made before it: ", name(k, v));
}

/* ---- nodes ---- */

bool op_makes(const Op *op, int outputs) {
    size_t length = op->out ? strlen(op->out) : 0;
    return (length && op->out[length - 1] == '*') || outputs == op_outputs(op);
}

static bool attr_good(Verifier *k, const Node *n, int i, const char *at) {
    const AttrDef *d = &n->op->attrs[i];
    const Attr *a = &n->attr[i];
    if (a->kind == AT_NONE) return !d->required || fail(k, "%s: attribute %s is missing", at, d->name);
    if (a->kind != d->kind) return fail(k, "%s: attribute %s is of another kind", at, d->name);
    if (a->kind == AT_STRING && !a->s) return fail(k, "%s: attribute %s has no text", at, d->name);
    if (a->kind == AT_DTYPE && (a->i < 0 || a->i >= DTYPES))
        return fail(k, "%s: attribute %s is no dtype", at, d->name);
    if (a->kind == AT_DIM) return expr_good(k, a->dim, at);
    for (int j = 0; a->kind == AT_DIMS && j < a->n; j++)
        if (!expr_good(k, a->dims[j], at)) return false;
    for (int j = 0; a->kind == AT_SYMS && j < a->n; j++) {
        const Var *v = a->syms[j];
        if (v->kind != V_SYM || !v->data || map_getp(k->defined, v))
            return fail(k, "%s defines symbol %s wrongly", at, v->name);
        if (v->def && !index_good(k, v->def, at)) return false;
        map_putp(k->defined, v, (void *)v);
    }
    return true;
}

/* A state that a run changes is an input and an output of one type, and only one state is there. */
static bool states_good(Verifier *k, const Graph *g) {
    for (int i = 0; i < g->states.n; i++) {
        const StateVar *s = g->states.v[i];
        if (s->in < 0 || s->in >= g->in.n || s->out < -1 || s->out >= g->out.n) return fail(k, "a state is no input");
        for (int j = 0; j < i; j++)
            if (g->states.v[j]->in == s->in || (s->out >= 0 && g->states.v[j]->out == s->out))
                return fail(k, "state %s is there twice", name(k, g->in.v[s->in]));
        if (s->out < 0) continue;
        const Value *v = g->in.v[s->in], *next = g->out.v[s->out];
        bool same = v->dt == next->dt && v->rank == next->rank;
        for (int d = 0; same && d < v->rank; d++) same = v->dim[d] == next->dim[d];
        if (!same) return fail(k, "state %s becomes a value of another type", name(k, v));
    }
    return true;
}

static bool graph_good(Verifier *k, const Graph *g);

static bool region_good(Verifier *k, const Node *n, const Graph *g, const char *at) {
    if (g->outer != n->graph || g->c != n->graph->c || g->next_id != n->graph->next_id || g->consts.n)
        return fail(k, "%s: a region does not belong to its graph", at);
    return graph_good(k, g);
}

static bool node_good(Verifier *k, const Graph *g, const Node *n) {
    int min, max = op_arity(n->op, &min);
    const char *at = n->nout && n->out[0] ? name(k, n->out[0]) : n->op->name;
    if (!op_is_core(n->op)) return fail(k, "%s is no op of the graph IR", n->op->onnx ? n->op->onnx : at);
    if (n->graph != g) return fail(k, "%s does not belong to its graph", at);
    if (n->nin < min || (max >= 0 && n->nin > max)) return fail(k, "%s has %d inputs", at, n->nin);
    if (!op_makes(n->op, n->nout)) return fail(k, "%s has %d outputs", at, n->nout);
    for (int i = 0; i < n->nin; i++)
        if ((n->in[i] || i < min) && !usable(k, n->in[i], at)) return false;
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++)
        if (!attr_good(k, n, i, at)) return false;
    for (int i = 0; i < n->nregions; i++)
        if (!region_good(k, n, n->region[i], at)) return false;
    for (int i = 0; i < n->nout; i++) {
        const Value *v = n->out[i];
        if (!v) return fail(k, "%s has no output %d", at, i);
        if (v->def != n || v->port != i) return fail(k, "%s is not output %d of its node", name(k, v), i);
        if (!define(k, g, v)) return false;
    }
    return true;
}

/* Symbols and values of a region end with it. */
static void forget(Verifier *k, const Graph *g) {
    for (int i = 0; i < g->in.n; i++) map_putp(k->where, g->in.v[i], NULL);
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        for (int j = 0; j < n->nout; j++)
            if (n->out[j]) map_putp(k->where, n->out[j], NULL);
        for (int j = 0; j < MAX_ATTRS && n->op->attrs[j].name; j++)
            for (int s = 0; n->attr[j].kind == AT_SYMS && s < n->attr[j].n; s++) {
                map_putp(k->defined, n->attr[j].syms[s], NULL);
                k->good = map_new(k->s);
            }
    }
}

static bool graph_good(Verifier *k, const Graph *g) {
    if (g->in_names.n != g->in.n || g->out_names.n != g->out.n)
        return fail(k, "inputs or outputs without names");
    for (int i = 0; i < g->in.n; i++) {
        const Value *v = g->in.v[i];
        if (v->def || v->data || v->elems) return fail(k, "input %s is made by something", name(k, v));
        if (!define(k, g, v)) return false;
    }
    for (int i = 0; i < g->consts.n; i++) {
        const Value *v = g->consts.v[i];
        if (v->def || !v->data || v->sequence) return fail(k, "constant %s has no data", name(k, v));
        if (!define(k, g, v)) return false;
    }
    for (int i = 0; i < g->nodes.n; i++)
        if (!node_good(k, g, g->nodes.v[i])) return false;
    for (int i = 0; i < g->out.n; i++)
        if (!usable(k, g->out.v[i], g->outer ? "yield" : "return")) return false;
    if (!states_good(k, g)) return false;
    if (g->outer) forget(k, g);
    return true;
}

/* ---- the whole ---- */

static void find_read(Verifier *k, const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        for (int j = 0; j < MAX_ATTRS && n->op->attrs[j].name; j++)
            for (int s = 0; n->attr[j].kind == AT_SYMS && s < n->attr[j].n; s++)
                map_putp(k->read, n->attr[j].syms[s], n->attr[j].syms[s]);
        for (int j = 0; j < n->nregions; j++) find_read(k, n->region[j]);
    }
}

static bool symbols_good(Verifier *k) {
    for (int i = 0; i < k->top->syms.n; i++) {
        const Var *v = k->top->syms.v[i];
        if (v->kind != V_SYM || v->lo > v->hi || !text_identifier(v->name))
            return fail(k, "a symbol is not sane");
        if (!map_getp(k->read, v)) map_putp(k->defined, v, (void *)v);
    }
    for (int i = 0; i < k->top->syms.n; i++) {
        const Var *v = k->top->syms.v[i];
        if (!map_getp(k->read, v) && v->def && !index_good(k, v->def, v->name)) return false;
    }
    return true;
}

/* A value's storage is part of another's, which is not part of its own. */
static bool into_good(Verifier *k, const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        for (int j = 0; j < n->nout; j++) {
            const Value *v = n->out[j];
            int steps = 0;
            for (const Value *w = v ? v->into : NULL; w; w = w->into) {
                if (!map_has(k->where, &w, sizeof w))
                    return fail(k, "%s lies in a value that does not exist", name(k, v));
                if (w == v || ++steps > 1000) return fail(k, "%s lies in itself", name(k, v));
            }
        }
        for (int j = 0; j < n->nregions; j++)
            if (!into_good(k, n->region[j])) return false;
    }
    return true;
}

typedef struct Job {
    const Graph *g;
    const char *fault;
    bool printable;
} Job;

static void verify(Ctx *s, void *arg) {
    Job *j = arg;
    Verifier k = {.c = j->g->c,
                  .s = s,
                  .top = j->g,
                  .where = map_new(s),
                  .ids = map_new(s),
                  .defined = map_new(s),
                  .read = map_new(s),
                  .good = map_new(s)};
    find_read(&k, j->g);
    if (j->g->outer || !text_identifier(j->g->name)) fail(&k, "the graph has no sane name");
    else if (symbols_good(&k) && graph_good(&k, j->g)) into_good(&k, j->g);
    j->fault = k.fault;
    j->printable = k.printable;
}

const char *graph_fault(const Graph *g) {
    Job j = {g, NULL, false};
    gd_scratch(g->c, verify, &j);
    return j.fault;
}

void graph_verify(const Graph *g) {
    Job j = {g, NULL, false};
    gd_scratch(g->c, verify, &j);
    Text *t = text_new(g->c);
    if (j.fault && j.printable) graph_print_brief(t, g);
    if (j.fault) gd_bug(g->c, "broken graph: %s\n%.100000s", j.fault, t->s);
}
