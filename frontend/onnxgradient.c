/* A part of a model made again, as a function of tensors that it names: what the node Gradient differentiates.

   Where the values that the node gets are those of the names, and the names are inputs or states, the part is there
   already. Otherwise the nodes between the names and y are imported once more, in a scope in which the names
   are other values. So a name in the middle of the model is cut off from what made it, a weight is no constant that is
   folded, and values that the model does not have may be given. `cse` makes one of what is the same.

   Terminates: nodes are looked at twice, and each is imported at most once for each Gradient, nested MAX_NEST deep. */
#include "onnxgraph.h"

typedef struct Part {
    Model *m;
    Map *depends; /* names whose values follow from the given ones, these included */
    Map *given;   /* name -> Value */
    Map *needed;  /* names that y follows from */
} Part;

/* ---- which nodes ---- */

/* Does fn hold for a name that the node uses, in its graphs too? Those are as deep as the reader allows. */
static bool any_use(const PbNode *p, bool (*fn)(Part *, const char *), Part *k) {
    bool any = false;
    for (size_t i = 0; i < p->n_input; i++) any |= fn(k, p->input[i]);
    for (size_t i = 0; i < p->n_attribute; i++) {
        const PbAttr *a = p->attribute[i];
        if (!strcmp(p->op_type, "Gradient") && !strcmp(a->name, "y") && a->s.len)
            any |= fn(k, gd_strndup(k->m->c, (const char *)a->s.data, a->s.len));
        for (size_t j = 0; a->g && j < a->g->n_node; j++) any |= any_use(a->g->node[j], fn, k);
        for (size_t j = 0; a->g && j < a->g->n_output; j++) any |= fn(k, a->g->output[j]->name);
    }
    return any;
}

static bool is_dependent(Part *k, const char *name) { return map_gets(k->depends, name) != NULL; }
static bool need(Part *k, const char *name) {
    if (!map_gets(k->given, name)) map_puts(k->needed, name, k);
    return false;
}

static void mark_dependent(Part *k, const Scope *s, bool *chosen) {
    for (size_t i = 0; i < s->at; i++) {
        const PbNode *p = s->nodes[i];
        if (!(chosen[i] = any_use(p, is_dependent, k))) continue;
        for (size_t j = 0; j < p->n_output; j++)
            if (*p->output[j]) map_puts(k->depends, p->output[j], k);
    }
}

static void mark_needed(Part *k, const Scope *s, bool *chosen) {
    for (size_t i = s->at; i-- > 0;) {
        const PbNode *p = s->nodes[i];
        bool some = false;
        for (size_t j = 0; j < p->n_output; j++) some |= map_gets(k->needed, p->output[j]) != NULL;
        chosen[i] = chosen[i] && some;
        if (chosen[i]) any_use(p, need, k);
    }
}

/* ---- again ---- */

static void give(Part *k, Scope *inner, const char *name) {
    Value *v = map_gets(k->given, name);
    if (v) map_puts(inner->values, name, v);
}

static void import_chosen(Part *k, Scope *inner, const Scope *s, const bool *chosen) {
    for (size_t i = 0; i < s->at; i++) {
        const PbNode *p = s->nodes[i];
        if (!chosen[i]) continue;
        if (++k->m->nodes > gd_budget(k->m->c)->max_nodes)
            gd_fail(k->m->c, 502, "raise it with --max-nodes", "more than %lld nodes", (long long)gd_budget(k->m->c)->max_nodes);
        gd_check_time(k->m->c);
        onnx_import_node(k->m, inner, p, onnx_node_label(k->m, s, p, i));
        for (size_t j = 0; j < p->n_output; j++) give(k, inner, p->output[j]);
    }
}

static Value *again(Import *n, const char *y, const char *user, int count, const char *const *names, Value *const *values) {
    Model *m = n->front;
    Scope *s = n->scope;
    Part k = {.m = m, .depends = map_new(m->c), .given = map_new(m->c), .needed = map_new(m->c)};
    Scope inner = {.outer = s, .g = s->g, .values = map_new(m->c), .makers = map_new(m->c), .opsets = s->opsets,
                   .hints = s->hints, .attrs = s->attrs, .path = s->path};
    Scope *around[MAX_NEST];
    bool *chosen[MAX_NEST];
    int depth = 0, errors = gd_error_count(m->c);
    for (Scope *at = s; at && depth < MAX_NEST; at = at->outer) around[depth++] = at;
    for (int i = 0; i < count; i++) {
        map_puts(k.depends, names[i], &k);
        map_puts(k.given, names[i], values[i]);
    }
    for (int i = 0; i < count; i++) give(&k, &inner, names[i]);
    need(&k, y);
    for (int i = depth; i-- > 0;) {
        chosen[i] = gd_new_array(m->c, bool, around[i]->at + 1);
        mark_dependent(&k, around[i], chosen[i]);
    }
    for (int i = 0; i < depth; i++) mark_needed(&k, around[i], chosen[i]);
    const char *label = s->g->label;
    for (int i = depth; i-- > 0;) import_chosen(&k, &inner, around[i], chosen[i]);
    s->g->label = label;
    return gd_error_count(m->c) > errors ? NULL : onnx_resolve(m, &inner, y, user);
}

/* An input of the graph, a state, or what such a thing stood for in a part that was made again. */
static bool independent(const Value *v) { return !v->def && !v->data && !v->elems; }

Value *onnx_retrace(Import *n, const char *y, int nx, int nz, const char *const *names, Value **leaf) {
    Model *m = n->front;
    Scope *s = n->scope;
    const char *user = gd_format(m->c, "node %s", n->label);
    int errors = gd_error_count(m->c);
    bool there = true;
    Value *of = onnx_resolve(m, s, y, user), **values = gd_new_array(m->c, Value *, nx + nz);
    for (int i = 0; i < nx + nz; i++) {
        const Value *own = onnx_resolve(m, s, names[i], user);
        Value *v = n->in[i];
        if (own && own->rank >= 0 && own->dt != v->dt)
            import_error(n, 302, NULL, "input %d is %s, and \"%s\" is %s", i, value_type_text(m->c, v),
                         gd_escape(m->c, names[i], strlen(names[i])), value_type_text(m->c, own));
        there = there && own == v && (i >= nx || independent(v));
        values[i] = v;
    }
    if (gd_error_count(m->c) > errors || !of || of->rank < 0) return NULL;
    if (of->def && of->def->graph != s->g) there = false;
    for (int i = 0; i < nx; i++) leaf[i] = values[i] = there ? n->in[i] : value_new(s->g, n->in[i]->dt, n->in[i]->rank, n->in[i]->dim);
    if (there) return of;
    if (++m->depth > MAX_NEST)
        gd_fail(m->c, 504, NULL, "node %s: gradients are nested more than %d deep", n->label, MAX_NEST);
    of = again(n, y, user, nx + nz, names, values);
    m->depth--;
    return of;
}
