/* Weights of an ONNX model that trains: float initializers become states, which begin as the file has them.

   An initializer stays a constant when it is a scalar, or when a node reads it where it says how rather than what (a size, a
   scale of Resize, the bounds of Clip): such inputs are listed here by operator, first index. */
#include "onnxgraph.h"
#include "train.h"

static const struct { const char *op; size_t from; } settings[] = {
    {"Resize", 1}, {"Upsample", 1}, {"Pad", 1}, {"Clip", 1}, {"Range", 0}, {"ConstantOfShape", 0}, {"Tile", 1}, {"TopK", 1},
    {"Slice", 1}, {"Expand", 1}, {"OneHot", 1}, {"Dropout", 1}, {"Pow", 1}, {"QuantizeLinear", 1}, {"DequantizeLinear", 1},
    {"RoiAlign", 1}, {"CumSum", 1}, {"MelWeightMatrix", 0}, {"STFT", 1}, {"Trilu", 1}};

static bool reads_setting(const PbNode *n, const char *name) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (strcmp(n->op_type, settings[i].op)) continue;
        for (size_t k = settings[i].from; k < n->n_input; k++)
            if (!strcmp(n->input[k], name)) return true;
    }
    return false;
}

/* Only the outermost graph's nodes are looked at: a weight that a subgraph reads is one all the same. */
static bool trainable(const Model *m, const char *name, const Value *v) {
    if (!m->o->states || (v->dt != F32 && v->dt != F64) || !v->rank) return false;
    const PbGraph *g = m->pb->graph;
    for (size_t i = 0; i < g->n_node; i++)
        if (reads_setting(g->node[i], name)) return false;
    return true;
}

Value *onnx_state(Model *m, Graph *g, const char *name, Value *constant) {
    int64_t dims[MAX_RANK];
    if (g->outer || !trainable(m, name, constant) || !value_static(constant, dims)) return constant;
    Value *v = state_new(g, ST_PARAM, constant->label ? constant->label : "weight", constant->dt, constant->rank, dims, NULL);
    state_of(g, v)->from = constant;
    return v;
}
