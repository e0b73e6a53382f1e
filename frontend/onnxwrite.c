/* The writer of onnxwrite.h: an Export becomes the messages of onnx.proto, protobuf-c packs them.

   Everything lies in the arena; a constant's bytes are written from where they lie when memory form and file form agree.
   Terminates: one message for each tensor and node; graphs nest as deep as regions do. */
#include "onnxwrite.h"
#include "export.h"
#include "onnx.h"

enum { IR_VERSION = 10, IR_OPSET = 22 /* the youngest of that IR version; each has one of its own from there to */, IR_NEWEST = 13 };

typedef struct Writer { Ctx *c; Export *x; } Writer;

static char *text(Writer *w, const char *s) { return gd_strdup(w->c, s ? s : ""); }

/* ---- tensors ---- */

/* Elements of less than a byte share bytes in the file, the first one in the low bits. */
static int bits_of(DType t) { return t == I4 || t == U4 || t == F4E2M1 ? 4 : t == I2 || t == U2 ? 2 : 0; }

static void *packed(Writer *w, const ExportRef *r, size_t count, int bits, size_t *n) {
    const uint8_t *from = r->data;
    size_t each = (size_t)(8 / bits);
    uint8_t *to = gd_alloc(w->c, *n = (count + each - 1) / each);
    for (size_t i = 0; i < count; i++) to[i / each] |= (uint8_t)((from[i] & ((1u << bits) - 1)) << (i % each * (size_t)bits));
    return to;
}

/* Files are little-endian. */
static void *little(Writer *w, const void *data, size_t bytes, size_t width) {
    const uint16_t probe = 1;
    if (width < 2 || *(const uint8_t *)&probe) return (void *)data;
    char *to = gd_alloc(w->c, bytes);
    for (size_t i = 0; i < bytes; i++) to[i] = ((const char *)data)[i / width * width + width - 1 - i % width];
    return to;
}

static PbTensor *tensor(Writer *w, const ExportRef *r) {
    PbTensor *t = gd_new(w->c, PbTensor);
    onnx__tensor_proto__init(t);
    size_t count = 1, width = (size_t)gd_dtypes[r->dt].bytes;
    for (int i = 0; i < r->rank; i++) count *= (size_t)r->ints[i];
    t->name = text(w, r->name);
    t->has_data_type = true;
    t->data_type = gd_dtypes[r->dt].onnx;
    t->n_dims = (size_t)r->rank;
    t->dims = (int64_t *)r->ints;
    if (r->dt == STRING) {
        const char *const *s = r->data;
        t->n_string_data = count;
        t->string_data = gd_new_array(w->c, ProtobufCBinaryData, count ? count : 1);
        for (size_t i = 0; i < count; i++) t->string_data[i] = (ProtobufCBinaryData){s[i] ? strlen(s[i]) : 0, (uint8_t *)s[i]};
        return t;
    }
    bool complex = gd_dtypes[r->dt].kind == DK_COMPLEX;
    t->has_raw_data = true;
    t->raw_data.len = count * width;
    t->raw_data.data = bits_of(r->dt) ? packed(w, r, count, bits_of(r->dt), &t->raw_data.len)
                                      : little(w, r->data, count * width, complex ? width / 2 : width);
    return t;
}

/* ---- types ---- */

static PbValueInfo *info(Writer *w, const ExportRef *r) {
    PbValueInfo *v = gd_new(w->c, PbValueInfo);
    PbType *t = gd_new(w->c, PbType);
    Onnx__TypeProto__Tensor *tensor = gd_new(w->c, Onnx__TypeProto__Tensor);
    onnx__value_info_proto__init(v);
    onnx__type_proto__init(t);
    onnx__type_proto__tensor__init(tensor);
    v->name = text(w, r->name);
    v->type = t;
    t->tensor_type = tensor;
    tensor->has_elem_type = true;
    tensor->elem_type = gd_dtypes[r->dt].onnx;
    if (r->rank < 0) return v;
    PbShape *shape = tensor->shape = gd_new(w->c, PbShape);
    onnx__tensor_shape_proto__init(shape);
    shape->n_dim = (size_t)r->rank;
    shape->dim = gd_new_array(w->c, PbDim *, r->rank ? r->rank : 1);
    for (int i = 0; i < r->rank; i++) {
        PbDim *d = shape->dim[i] = gd_new(w->c, PbDim);
        int64_t size;
        onnx__tensor_shape_proto__dimension__init(d);
        if (!r->dim) continue;
        if (is_int(r->dim[i], &size)) {
            d->has_dim_value = true;
            d->dim_value = size;
        } else if (r->dim[i]->kind == E_VAR && !r->dim[i]->var->data) d->dim_param = text(w, r->dim[i]->var->name);
    }
    return v;
}

/* ---- nodes ---- */

static PbGraph *graph(Writer *w, const ExportGraph *g, const char *name);

static PbAttr *attribute(Writer *w, const ExportAttr *a) {
    PbAttr *p = gd_new(w->c, PbAttr);
    onnx__attribute_proto__init(p);
    p->name = text(w, a->name);
    p->has_type = true;
    switch (a->kind) {
    case EX_INT:
        p->type = PA_INT;
        p->has_i = true;
        p->i = a->i;
        break;
    case EX_FLOAT:
        p->type = PA_FLOAT;
        p->has_f = true;
        p->f = (float)a->f;
        break;
    case EX_STRING:
        p->type = PA_STRING;
        p->has_s = true;
        p->s = (ProtobufCBinaryData){strlen(a->s), (uint8_t *)text(w, a->s)};
        break;
    case EX_INTS:
        p->type = PA_INTS;
        p->n_ints = (size_t)a->n;
        p->ints = (int64_t *)a->ints;
        break;
    case EX_GRAPH:
        p->type = PA_GRAPH;
        p->g = graph(w, a->graph, a->name);
        break;
    }
    return p;
}

static PbNode *node(Writer *w, const ExportNode *e) {
    PbNode *p = gd_new(w->c, PbNode);
    onnx__node_proto__init(p);
    int last = e->in.n;
    while (last && !e->in.v[last - 1]) last--;
    p->op_type = text(w, e->op);
    p->name = text(w, e->name);
    p->n_input = (size_t)last;
    p->input = gd_new_array(w->c, char *, last ? last : 1);
    for (int i = 0; i < last; i++) p->input[i] = text(w, e->in.v[i] ? e->in.v[i]->name : "");
    p->n_output = (size_t)e->out.n;
    p->output = gd_new_array(w->c, char *, e->out.n ? e->out.n : 1);
    for (int i = 0; i < e->out.n; i++) p->output[i] = text(w, e->out.v[i]->name);
    p->n_attribute = (size_t)e->attr.n;
    p->attribute = gd_new_array(w->c, PbAttr *, e->attr.n ? e->attr.n : 1);
    for (int i = 0; i < e->attr.n; i++) p->attribute[i] = attribute(w, &e->attr.v[i]);
    return p;
}

static PbGraph *graph(Writer *w, const ExportGraph *g, const char *name) {
    PbGraph *p = gd_new(w->c, PbGraph);
    onnx__graph_proto__init(p);
    p->name = text(w, name);
    p->node = gd_new_array(w->c, PbNode *, g->nodes.n ? g->nodes.n : 1);
    for (int i = 0; i < g->nodes.n; i++)
        if (g->nodes.v[i]->live) p->node[p->n_node++] = node(w, g->nodes.v[i]);
    p->n_input = (size_t)g->in.n;
    p->input = gd_new_array(w->c, PbValueInfo *, g->in.n ? g->in.n : 1);
    for (int i = 0; i < g->in.n; i++) p->input[i] = info(w, g->in.v[i]);
    p->n_output = (size_t)g->out.n;
    p->output = gd_new_array(w->c, PbValueInfo *, g->out.n ? g->out.n : 1);
    for (int i = 0; i < g->out.n; i++) p->output[i] = info(w, g->out.v[i]);
    if (g->outer) return p;
    const Export *x = w->x;
    p->initializer = gd_new_array(w->c, PbTensor *, x->consts.n ? x->consts.n : 1);
    for (int i = 0; i < x->consts.n; i++)
        if (x->consts.v[i]->live) p->initializer[p->n_initializer++] = tensor(w, x->consts.v[i]);
    return p;
}

/* ---- the model ---- */

char *onnx_bytes(Ctx *c, Graph *g, StateData *param, void *arg, size_t *n) {
    Writer w = {c, export_graph(g, param, arg)};
    PbModel m;
    PbOpset opset, *opsets[] = {&opset};
    onnx__model_proto__init(&m);
    onnx__operator_set_id_proto__init(&opset);
    opset.has_version = true;
    opset.version = w.x->opset;
    opset.domain = text(&w, "");
    m.has_ir_version = true;
    m.ir_version = w.x->opset > IR_OPSET ? IR_VERSION + w.x->opset - IR_OPSET : IR_VERSION;
    if (m.ir_version > IR_NEWEST) m.ir_version = IR_NEWEST;
    m.producer_name = text(&w, "gradc");
    m.n_opset_import = 1;
    m.opset_import = opsets;
    m.graph = graph(&w, w.x->top, g->name);
    *n = protobuf_c_message_get_packed_size(&m.base);
    if (*n > INT32_MAX) gd_fail(c, 402, NULL, "the model has %zu bytes: an ONNX file holds at most 2 GiB", *n);
    char *bytes = gd_alloc(c, *n ? *n : 1);
    protobuf_c_message_pack(&m.base, (uint8_t *)bytes);
    return bytes;
}

void onnx_write(Ctx *c, Graph *g, StateData *param, void *arg, const char *path) {
    size_t n;
    char *bytes = onnx_bytes(c, g, param, arg, &n);
    gd_write_file(c, path, bytes, n);
}
