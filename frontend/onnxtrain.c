/* The training information of a model (TrainingInfoProto): its own algorithm instead of a loss and an optimizer that
   are named. What the update bindings assign to is state; an initializer that none names stays a constant. The algorithm's
   graph goes on where the model's ends, in the same names; its outputs become the states' next values. The
   initialization graph makes first values.

   Bindings are looked at once, and problems of all of them come out together. */
#include "onnxgraph.h"
#include "ops/build.h"
#include "train.h"

/* An initializer that is no constant. */
typedef struct Bound {
    const char *first, *next; /* names of values: by the initialization, by the algorithm; NULL: none */
    bool own;                 /* the algorithm's initializer, not the model's */
    Value *state;             /* NULL: not imported */
} Bound;

static const char *esc(Model *m, const char *s) { return gd_escape(m->c, s, strlen(s)); }

static PbTraining *info(const Model *m) { return m->pb->training_info[0]; }

/* ---- bindings ---- */

static bool makes(const PbGraph *g, const char *name) {
    for (size_t i = 0; g && i < g->n_initializer; i++)
        if (!strcmp(g->initializer[i]->name, name)) return true;
    for (size_t i = 0; g && i < g->n_sparse_initializer; i++)
        if (g->sparse_initializer[i]->values && !strcmp(g->sparse_initializer[i]->values->name, name)) return true;
    return false;
}

static bool puts_out(const PbGraph *g, const char *name) {
    for (size_t i = 0; g && i < g->n_output; i++)
        if (!strcmp(g->output[i]->name, name)) return true;
    return false;
}

static Bound *bound(Model *m, const char *what, const char *key) {
    Bound *b = map_gets(m->bound, key);
    bool models = makes(m->pb->graph, key), own = makes(info(m)->algorithm, key);
    if (!models && !own)
        gd_error(m->c, 201, "keys are initializers of the model or of its algorithm", "%s: no initializer is called \"%s\"", what,
                 esc(m, key));
    if (b) return b;
    b = gd_new(m->c, Bound);
    *b = (Bound){.own = !models};
    map_puts(m->bound, key, b);
    return b;
}

static void read_bindings(Model *m, PbEntry *const *v, size_t n, bool update) {
    const PbTraining *t = info(m);
    const char *what = update ? "update_binding" : "initialization_binding";
    for (size_t i = 0; i < n; i++) {
        const char *value = v[i]->value;
        Bound *b = bound(m, what, v[i]->key);
        const char **to = update ? &b->next : &b->first;
        if (*to) gd_error(m->c, 202, "one value for each initializer", "%s: \"%s\" is assigned to twice", what, esc(m, v[i]->key));
        *to = value;
        bool there = update ? puts_out(t->algorithm, value) || puts_out(m->pb->graph, value) : puts_out(t->initialization, value);
        if (!there)
            gd_error(m->c, 201, update ? "values are outputs of the algorithm or of the model" : "values are outputs of the initialization",
                     "%s: \"%s\" becomes \"%s\", and no output is called that", what, esc(m, v[i]->key), esc(m, value));
    }
}

/* Which initializers are state. Whether training information is what the caller asks for is in the options. */
void onnx_training_begin(Model *m) {
    if (!m->o->states || m->o->own == OWN_NONE || !m->pb->n_training_info) return;
    const PbTraining *t = info(m);
    m->bound = map_new(m->c);
    if (m->pb->n_training_info > 1)
        gd_error(m->c, 402, "join them into one algorithm", "the model has %zu training algorithms, to be run one after the other",
                 m->pb->n_training_info);
    if (!t->n_update_binding)
        gd_error(m->c, 201, "say --loss and --optimizer to train by those", "the model's training algorithm assigns to nothing: it has no update_binding");
    read_bindings(m, t->initialization_binding, t->n_initialization_binding, false);
    read_bindings(m, t->update_binding, t->n_update_binding, true);
}

/* The algorithm that goes on where the model ends; NULL: none is asked for. */
const PbGraph *onnx_algorithm(const Model *m) { return m->bound && m->o->own == OWN_ALGORITHM ? info(m)->algorithm : NULL; }

/* What an initializer of a model with its own algorithm is. */
Value *onnx_bound_state(Model *m, Scope *s, const char *name, Value *constant) {
    Bound *b = s->g->outer ? NULL : map_gets(m->bound, name);
    int64_t dims[MAX_RANK];
    if (!b) return constant;
    if (constant->dt == STRING || !value_static(constant, dims)) {
        gd_error(m->c, 302, NULL, "update_binding: \"%s\" is %s: numbers can be trained", esc(m, name), value_type_text(m->c, constant));
        return constant;
    }
    bool number = dt_float(constant->dt) || dt_small(constant->dt);
    StateKind kind = !b->own ? number && b->next ? ST_PARAM : ST_BUFFER : constant->rank ? ST_SLOT : ST_COUNTER;
    b->state = state_new(s->g, kind, esc(m, name), constant->dt, constant->rank, dims, NULL);
    state_of(s->g, b->state)->from = constant;
    return b->state;
}

/* ---- what states become ---- */

static bool fits(Model *m, const char *what, const char *key, const Value *state, const char *name, const Value *v) {
    bool same = v->dt == state->dt && v->rank == state->rank && !v->sequence && !v->optional;
    for (int i = 0; same && i < v->rank; i++) same = v->dim[i] == state->dim[i];
    if (!same)
        gd_error(m->c, v->dt == state->dt ? 301 : 302, NULL, "%s: \"%s\" is %s, and \"%s\", which it becomes, is %s", what, esc(m, key),
                 value_type_text(m->c, state), esc(m, name), value_type_text(m->c, v));
    return same;
}

static void assign(Model *m, Scope *s) {
    const PbTraining *t = info(m);
    for (size_t i = 0; i < t->n_update_binding; i++) {
        const PbEntry *e = t->update_binding[i];
        const Bound *b = map_gets(m->bound, e->key);
        Value *v = map_gets(s->values, e->value);
        if (!b->state || !v || v->rank < 0 || state_of(s->g, b->state)->out >= 0) continue; /* said already */
        if (fits(m, "update_binding", e->key, b->state, e->value, v)) state_next(s->g, b->state, v);
    }
}

/* ---- what is shown of a step ---- */

static bool scalar_float(Graph *g, const Value *v) {
    return v && v->rank >= 0 && !v->sequence && (v->dt == F32 || v->dt == F64) && is_value(value_count(g->c, v), 1);
}

/* Tensors that a Gradient differentiates are losses, whether the algorithm puts them out or not. */
static void put_out_losses(Model *m, Scope *s, const PbGraph *a) {
    for (size_t i = 0; i < a->n_node; i++) {
        const PbNode *p = a->node[i];
        if (strcmp(p->op_type, "Gradient")) continue;
        for (size_t k = 0; k < p->n_attribute; k++) {
            const PbAttr *at = p->attribute[k];
            if (strcmp(at->name, "y") || !at->s.len) continue;
            const char *y = gd_strndup(m->c, (const char *)at->s.data, at->s.len);
            Value *v = map_gets(s->values, y);
            if (scalar_float(s->g, v) && !puts_out(a, y) && !puts_out(m->pb->graph, y)) graph_output(s->g, esc(m, y), v);
        }
    }
}

static void describe(Model *m, Scope *s, int from) {
    Graph *g = s->g;
    const PbGraph *a = info(m)->algorithm;
    OwnTraining *own = &g->train->own;
    own->from = from;
    put_out_losses(m, s, a);
    own->to = g->out.n;
    for (size_t i = 0; i < a->n_input && !own->target; i++)
        if (!makes(a, a->input[i]->name)) own->target = esc(m, a->input[i]->name);
}

/* ---- first values ---- */

/* seed -> the values that are assigned, under their states' names. */
static Graph *initialization(Model *m, Map *opsets) {
    const PbTraining *t = info(m);
    const PbGraph *p = t->initialization;
    Graph *g = graph_new(m->c, "init");
    Value *seed = graph_input(g, "seed", I64, 0, NULL);
    Value *key[] = {build_unsqueeze(g, seed, 0), build_unsqueeze(g, const_scalar(g, I64, 0), 0)};
    Scope s = {.g = g, .values = map_new(m->c), .makers = map_new(m->c), .opsets = opsets, .path = "initialization/"};
    g->key = build_concat(g, 2, key, 0);
    if (p->n_input)
        gd_error(m->c, 205, NULL, "the graph of the initialization has an input, \"%s\": it may have none", esc(m, p->input[0]->name));
    Map *of_model = m->bound;
    m->bound = NULL;
    m->constants = true;
    onnx_body(m, &s, p, NULL);
    m->constants = false;
    m->bound = of_model;
    for (size_t i = 0; i < t->n_initialization_binding; i++) {
        const PbEntry *e = t->initialization_binding[i];
        const Bound *b = map_gets(m->bound, e->key);
        if (!b->state || !puts_out(p, e->value)) continue;
        Value *v = onnx_resolve(m, &s, e->value, gd_format(m->c, "output \"%s\" of the initialization", esc(m, e->value)));
        if (v && v->rank >= 0 && fits(m, "initialization_binding", e->key, b->state, e->value, v))
            graph_output(g, esc(m, e->key), v);
    }
    return g;
}

/* The bindings take effect: s is the model with its algorithm, whose outputs begin at `from`. */
void onnx_training_end(Model *m, Scope *s, int from) {
    if (!m->bound) return;
    Graph *g = s->g;
    g->train = gd_new(m->c, TrainSpec);
    g->train->own.given = true;
    if (!onnx_algorithm(m)) return;
    describe(m, s, from);
    assign(m, s);
    if (info(m)->initialization) g->train->own.init = initialization(m, s->opsets);
}
