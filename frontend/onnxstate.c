/* Weights of an ONNX model that trains: float initializers become states, which begin as the file has them. An initializer stays
   a constant when it is a scalar, or when a node reads it where it says how rather than what (Op.settings: a size, a scale of
   Resize, the bounds of Clip). */
#include "onnxgraph.h"
#include "train.h"

/* Names of the initializers that nodes read as settings. */
static Map *settings(const Model *m, const Scope *s) {
    Map *names = map_new(m->c);
    const PbGraph *g = m->pb->graph;
    for (size_t i = 0; i < g->n_node; i++) {
        const PbNode *n = g->node[i];
        const char *domain = strcmp(n->domain, "ai.onnx") ? n->domain : "";
        const Op *op = op_onnx(domain, n->op_type, (int)(intptr_t)map_gets(s->opsets, domain));
        if (!op || !op->settings) continue;
        for (size_t k = (size_t)op->settings - 1; k < n->n_input; k++) map_puts(names, n->input[k], names);
    }
    return names;
}

/* Only the outermost graph's nodes are looked at: a weight that a subgraph reads is one all the same. */
Value *onnx_state(Model *m, Scope *s, const char *name, Value *constant) {
    int64_t dims[MAX_RANK];
    if (m->bound) return onnx_bound_state(m, s, name, constant);
    if (m->constants || !m->o->states || s->g->outer || (constant->dt != F32 && constant->dt != F64)) return constant;
    if (!constant->rank || !value_static(constant, dims)) return constant;
    if (!m->settings) m->settings = settings(m, s);
    if (map_gets(m->settings, name)) return constant;
    const char *label = constant->label ? constant->label : "weight";
    Value *v = state_new(s->g, ST_PARAM, label, constant->dt, constant->rank, dims, NULL);
    state_of(s->g, v)->from = constant;
    return v;
}
