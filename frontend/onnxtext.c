/* The ONNX text syntax to protobuf-c structs, as onnx/docs/Syntax.md defines it; three points it leaves open
   are settled: elements of types narrower than a byte are one number each, a list may hold values of any
   kind, and the name of a graph that is a value may be quoted.

   A recursive descent, one function a rule. Terminates: each rule reads at least one word, and graphs and
   types, which nest, are counted. */
#include "onnxtext.h"

enum { MAX_DEPTH = 100 };

#define NEW(r, name, T) init_##name(gd_alloc((r)->c, sizeof(T)))
#define INIT(name, T) static T *init_##name(T *m) { onnx__##name##__init(m); return m; }
INIT(model_proto, PbModel)
INIT(graph_proto, PbGraph)
INIT(node_proto, PbNode)
INIT(function_proto, PbFunction)
INIT(attribute_proto, PbAttr)
INIT(tensor_proto, PbTensor)
INIT(value_info_proto, PbValueInfo)
INIT(type_proto, PbType)
INIT(type_proto__tensor, Onnx__TypeProto__Tensor)
INIT(type_proto__sequence, Onnx__TypeProto__Sequence)
INIT(type_proto__map, Onnx__TypeProto__Map)
INIT(type_proto__optional, Onnx__TypeProto__Optional)
INIT(type_proto__sparse_tensor, Onnx__TypeProto__SparseTensor)
INIT(type_proto__opaque, Onnx__TypeProto__Opaque)
INIT(tensor_shape_proto, PbShape)
INIT(tensor_shape_proto__dimension, PbDim)
INIT(operator_set_id_proto, PbOpset)
INIT(string_string_entry_proto, PbEntry)

/* Lists double when their length is a power of two. */
static void *grow(Cursor *r, void *list, size_t n, size_t size) {
    if (n & (n - 1)) return list;
    void *longer = gd_alloc_array(r->c, n ? 2 * n : 1, size);
    return n ? memcpy(longer, list, n * size) : longer;
}
#define PUSH(r, m, field, value) ((m)->field = grow((r), (m)->field, (m)->n_##field, sizeof *(m)->field), \
                                  (m)->field[(m)->n_##field++] = (value))
#define SET(m, field, value) ((m)->has_##field = true, (m)->field = (value))

static void enter(Cursor *r) {
    if (++r->depth > MAX_DEPTH)
        gd_fail(r->c, 504, NULL, "graphs or types are nested more than %d deep", MAX_DEPTH);
}

/* ---- types ---- */

const char *const pb_type_names[PB_TYPES] = {
    NULL, "float", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "double", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz",
    "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2",
};
enum { FLOAT = 1, INT64 = 7, STRING = 8, DOUBLE = 11, UINT32 = 12, UINT64 = 13, COMPLEX64 = 14,
       COMPLEX128 = 15, UINT4 = 21, INT4 = 22, FLOAT4E2M1 = 23, UINT2 = 25, INT2 = 26 };

static int peek_element_type(Cursor *r) {
    for (int i = 1; i < PB_TYPES; i++)
        if (cursor_is(r, pb_type_names[i])) return i;
    return 0;
}

static int element_type(Cursor *r) {
    int type = peek_element_type(r);
    if (!type) cursor_expected(r, "an element type (float, int64, ...)");
    r->p += strlen(pb_type_names[type]);
    return type;
}

static bool at_type(Cursor *r) {
    return peek_element_type(r) || cursor_is(r, "seq") || cursor_is(r, "map") || cursor_is(r, "optional") ||
           cursor_is(r, "sparse_tensor") || cursor_is(r, "opaque");
}

/* Nothing is a scalar, [] any shape (NULL). */
static PbShape *read_shape(Cursor *r) {
    PbShape *shape = NEW(r, tensor_shape_proto, PbShape);
    if (!cursor_match(r, '[')) return shape;
    if (cursor_match(r, ']')) return NULL;
    do {
        PbDim *dim = NEW(r, tensor_shape_proto__dimension, PbDim);
        if (!cursor_word(r) && cursor_at_number(r)) SET(dim, dim_value, cursor_int(r));
        else if (!cursor_match(r, '?')) {
            if (cursor_next(r) != '"' && !cursor_word(r)) cursor_expected(r, "a size, a name or ?");
            dim->dim_param = cursor_name(r);
        }
        PUSH(r, shape, dim, dim);
    } while (cursor_match(r, ','));
    cursor_want(r, ']');
    return shape;
}

static Onnx__TypeProto__Opaque *read_opaque(Cursor *r) {
    Onnx__TypeProto__Opaque *o = NEW(r, type_proto__opaque, Onnx__TypeProto__Opaque);
    if (!cursor_word(r)) return o;
    o->name = cursor_identifier(r, "a name");
    while (cursor_match(r, '.')) o->name = gd_format(r->c, "%s.%s", o->name, cursor_identifier(r, "a name"));
    if (!cursor_match(r, ',')) return o;
    o->domain = o->name;
    o->name = cursor_identifier(r, "a name");
    return o;
}

static PbType *read_type(Cursor *r) {
    PbType *t = NEW(r, type_proto, PbType);
    if (peek_element_type(r)) {
        t->tensor_type = NEW(r, type_proto__tensor, Onnx__TypeProto__Tensor);
        SET(t->tensor_type, elem_type, element_type(r));
        t->tensor_type->shape = read_shape(r);
        return t;
    }
    if (!at_type(r)) cursor_expected(r, "a type");
    char *kind = cursor_identifier(r, "a type");
    cursor_want(r, '(');
    enter(r);
    if (!strcmp(kind, "seq")) {
        t->sequence_type = NEW(r, type_proto__sequence, Onnx__TypeProto__Sequence);
        t->sequence_type->elem_type = read_type(r);
    } else if (!strcmp(kind, "optional")) {
        t->optional_type = NEW(r, type_proto__optional, Onnx__TypeProto__Optional);
        t->optional_type->elem_type = read_type(r);
    } else if (!strcmp(kind, "map")) {
        t->map_type = NEW(r, type_proto__map, Onnx__TypeProto__Map);
        SET(t->map_type, key_type, element_type(r));
        cursor_want(r, ',');
        t->map_type->value_type = read_type(r);
    } else if (!strcmp(kind, "sparse_tensor")) {
        t->sparse_tensor_type = NEW(r, type_proto__sparse_tensor, Onnx__TypeProto__SparseTensor);
        SET(t->sparse_tensor_type, elem_type, element_type(r));
        t->sparse_tensor_type->shape = read_shape(r);
    } else t->opaque_type = read_opaque(r);
    r->depth--;
    cursor_want(r, ')');
    return t;
}

static PbValueInfo *read_value_info(Cursor *r) {
    PbValueInfo *v = NEW(r, value_info_proto, PbValueInfo);
    if (at_type(r)) v->type = read_type(r);
    v->name = cursor_name(r);
    return v;
}

/* ---- tensors ---- */

static PbEntry *read_entry(Cursor *r) {
    PbEntry *e = NEW(r, string_string_entry_proto, PbEntry);
    e->key = cursor_string(r, NULL);
    cursor_want(r, ':');
    e->value = cursor_string(r, NULL);
    return e;
}

/* Types narrower than a byte are packed, the first element in the low bits. */
static void push_packed(Cursor *r, PbTensor *t, size_t k, const Number *n) {
    int type = t->data_type, bits = type == UINT2 || type == INT2 ? 2 : 4, each = 8 / bits;
    int64_t v = number_int(r, n), half = 1 << (bits - 1), low = type == INT4 || type == INT2 ? -half : 0;
    if (v < low || v >= low + 2 * half)
        cursor_fail(r, n->at, NULL, gd_format(r->c, "this does not fit in %s", pb_type_names[type]));
    if (k % (size_t)each == 0) PUSH(r, t, int32_data, 0);
    t->int32_data[t->n_int32_data - 1] |= (int32_t)(v & (2 * half - 1)) << (int)(k % (size_t)each) * bits;
}

static void push_number(Cursor *r, PbTensor *t, size_t k) {
    if (!cursor_at_number(r)) cursor_expected(r, "a number");
    Number n = cursor_number(r);
    switch (t->data_type) {
    case FLOAT: case COMPLEX64: PUSH(r, t, float_data, n.single); return;
    case DOUBLE: case COMPLEX128: PUSH(r, t, double_data, n.v); return;
    case INT64: PUSH(r, t, int64_data, number_int(r, &n)); return;
    case UINT32: case UINT64:
        if (!n.whole || n.large || (n.negative && n.magnitude))
            cursor_fail(r, n.at, NULL,
                        gd_format(r->c, "this does not fit in %s", pb_type_names[t->data_type]));
        PUSH(r, t, uint64_data, n.magnitude);
        return;
    case UINT4: case INT4: case FLOAT4E2M1: case UINT2: case INT2: push_packed(r, t, k, &n); return;
    default:
        if (!n.whole && strstr(pb_type_names[t->data_type], "float"))
            cursor_fail(r, n.at, "1.0 is 15360 in float16 and 16256 in bfloat16",
                        gd_format(r->c, "elements of %s are written as the integers of their bits",
                                  pb_type_names[t->data_type]));
        int64_t v = number_int(r, &n);
        if (v < INT32_MIN || v > INT32_MAX) cursor_fail(r, n.at, NULL, "this does not fit in 32 bits");
        PUSH(r, t, int32_data, (int32_t)v);
    }
}

static void push_string(Cursor *r, PbTensor *t) {
    ProtobufCBinaryData s;
    s.data = (uint8_t *)cursor_string(r, &s.len);
    PUSH(r, t, string_data, s);
}

/* The part of a constant behind its type and name. */
static PbTensor *read_data(Cursor *r, const PbType *type, char *name) {
    PbTensor *t = NEW(r, tensor_proto, PbTensor);
    if (!type || !type->tensor_type || !type->tensor_type->shape)
        cursor_fail(r, r->p, "float[2] {1, 2}", "a constant needs a tensor type with a shape");
    SET(t, data_type, type->tensor_type->elem_type);
    t->name = name;
    for (size_t i = 0; i < type->tensor_type->shape->n_dim; i++) {
        const PbDim *d = type->tensor_type->shape->dim[i];
        if (!d->has_dim_value)
            cursor_fail(r, r->p, "float[2] {1, 2}", "the dims of a constant have to be numbers");
        PUSH(r, t, dims, d->dim_value);
    }
    if (cursor_match(r, '[')) {
        SET(t, data_location, 1);
        do PUSH(r, t, external_data, read_entry(r));
        while (cursor_match(r, ','));
        cursor_want(r, ']');
        return t;
    }
    cursor_want(r, '{');
    if (cursor_match(r, '}')) return t;
    size_t k = 0;
    do {
        if (t->data_type == STRING) push_string(r, t);
        else push_number(r, t, k++);
    } while (cursor_match(r, ','));
    cursor_want(r, '}');
    return t;
}

/* ---- attributes ---- */

const char *const pb_attr_names[PA_TYPES_END] = {
    [PA_FLOAT] = "float", [PA_INT] = "int", [PA_STRING] = "string", [PA_TENSOR] = "tensor",
    [PA_GRAPH] = "graph", [PA_FLOATS] = "floats", [PA_INTS] = "ints", [PA_STRINGS] = "strings",
    [PA_TENSORS] = "tensors", [PA_GRAPHS] = "graphs", [PA_SPARSE] = "sparse_tensor",
    [PA_SPARSES] = "sparse_tensors", [PA_TYPE] = "type_proto", [PA_TYPES] = "type_protos",
};
/* The kind of a list's elements; PA_UNDEFINED for what is no list. */
static AttrType element_kind(AttrType t) {
    switch (t) {
    case PA_FLOATS: return PA_FLOAT;
    case PA_INTS: return PA_INT;
    case PA_STRINGS: return PA_STRING;
    case PA_TENSORS: return PA_TENSOR;
    case PA_GRAPHS: return PA_GRAPH;
    case PA_SPARSES: return PA_SPARSE;
    case PA_TYPES: return PA_TYPE;
    default: return PA_UNDEFINED;
    }
}
static AttrType list_kind(AttrType t) {
    AttrType list = PA_FLOATS;
    while (element_kind(list) != t) list++;
    return list;
}

static PbGraph *read_graph(Cursor *r);

/* A type, or a constant of it. */
static void read_typed(Cursor *r, PbAttr *a) {
    PbType *type = read_type(r);
    char next = cursor_next(r), *name = "";
    if (next != '{' && next != '=' && next != '"' && !cursor_word(r)) {
        SET(a, type, PA_TYPE);
        a->tp = type;
        return;
    }
    if (next != '{' && next != '=') name = cursor_name(r);
    cursor_match(r, '=');
    SET(a, type, PA_TENSOR);
    a->t = read_data(r, type, name);
}

/* One value into a, whose type says what is expected, if anything. */
static void read_single(Cursor *r, PbAttr *a, AttrType expected) {
    char next = cursor_next(r);
    const char *at = r->p;
    if (next == '"') { /* a string, or the quoted name of a graph */
        a->s.data = (uint8_t *)cursor_string(r, &a->s.len);
        SET(a, type, PA_STRING);
        a->has_s = cursor_next(r) != '(';
        if (!a->has_s) {
            r->p = at;
            a->s = (ProtobufCBinaryData){0, NULL};
            a->g = read_graph(r);
            a->type = PA_GRAPH;
        }
    } else if (at_type(r)) read_typed(r, a);
    else if (cursor_at_number(r)) {
        Number n = cursor_number(r);
        bool whole = n.whole && expected != PA_FLOAT;
        SET(a, type, whole ? PA_INT : PA_FLOAT);
        if (whole) SET(a, i, number_int(r, &n));
        else SET(a, f, n.single);
    } else if (cursor_word(r)) {
        a->g = read_graph(r);
        SET(a, type, PA_GRAPH);
    } else cursor_expected(r, "a value");
    if (expected != PA_UNDEFINED && (AttrType)a->type != expected)
        cursor_fail(r, at, NULL,
                    gd_format(r->c, "attribute %s: a value of kind %s is expected, not one of kind %s",
                              gd_escape(r->c, a->name, strlen(a->name)), pb_attr_names[expected],
                              pb_attr_names[a->type]));
}

static void push_value(Cursor *r, PbAttr *a, PbAttr *value) {
    switch ((AttrType)value->type) {
    case PA_FLOAT: PUSH(r, a, floats, value->f); return;
    case PA_INT: PUSH(r, a, ints, value->i); return;
    case PA_STRING: PUSH(r, a, strings, value->s); return;
    case PA_TENSOR: PUSH(r, a, tensors, value->t); return;
    case PA_GRAPH: PUSH(r, a, graphs, value->g); return;
    default: PUSH(r, a, type_protos, value->tp);
    }
}

/* What stands between [ and ]. Without an annotation the first element says what the others are. */
static void read_values(Cursor *r, PbAttr *a) {
    AttrType each = element_kind((AttrType)a->type);
    if (a->type && !each)
        cursor_fail(r, r->p, NULL,
                    gd_format(r->c, "a list where one value of kind %s is expected", pb_attr_names[a->type]));
    if (cursor_next(r) == ']') {
        if (!a->type) cursor_fail(r, r->p, "NAME: ints = []", "an empty list needs the type of its elements");
        return;
    }
    do {
        PbAttr *value = NEW(r, attribute_proto, PbAttr);
        value->name = a->name;
        read_single(r, value, each);
        each = (AttrType)value->type;
        push_value(r, a, value);
    } while (cursor_match(r, ','));
    SET(a, type, list_kind(each));
}

static AttrType annotation(Cursor *r) {
    for (int i = 1; i < PA_TYPES_END; i++)
        if (cursor_is(r, pb_attr_names[i])) {
            r->p += strlen(pb_attr_names[i]);
            return (AttrType)i;
        }
    cursor_expected(r, "the type of an attribute (float, int, string, tensor, graph, floats, ...)");
}

/* The part behind the name. */
static PbAttr *read_attr(Cursor *r, char *name) {
    PbAttr *a = NEW(r, attribute_proto, PbAttr);
    a->name = name;
    if (cursor_match(r, ':')) SET(a, type, annotation(r));
    cursor_want(r, '=');
    if (cursor_match(r, '@')) a->ref_attr_name = cursor_name(r);
    else if (cursor_match(r, '[')) {
        read_values(r, a);
        cursor_want(r, ']');
    } else read_single(r, a, (AttrType)a->type);
    return a;
}

/* ---- nodes ---- */

static void read_attrs(Cursor *r, PbNode *n) {
    if (!cursor_match(r, '<')) return;
    do PUSH(r, n, attribute, read_attr(r, cursor_identifier(r, "the name of an attribute")));
    while (cursor_match(r, ','));
    cursor_want(r, '>');
}

/* A name, or nothing before a comma, which is "". NULL at the list's end. */
static char *read_operand(Cursor *r) {
    if (cursor_next(r) == '"' || cursor_word(r)) return cursor_name(r);
    return cursor_next(r) == ',' ? "" : NULL;
}

static PbNode *read_node(Cursor *r) {
    PbNode *n = NEW(r, node_proto, PbNode);
    if (++r->nodes > gd_budget(r->c)->max_nodes)
        gd_fail(r->c, 502, "raise it with --max-nodes", "more than %lld nodes",
                (long long)gd_budget(r->c)->max_nodes);
    gd_check_time(r->c);
    if (cursor_match(r, '[')) {
        if (cursor_next(r) != ']') n->name = cursor_name(r);
        cursor_want(r, ']');
    }
    char *s = read_operand(r);
    for (; s; s = cursor_match(r, ',') ? read_operand(r) : NULL) PUSH(r, n, output, s);
    cursor_want(r, '=');
    n->op_type = cursor_identifier(r, "an operator");
    while (cursor_match(r, '.')) {
        n->domain = *n->domain ? gd_format(r->c, "%s.%s", n->domain, n->op_type) : n->op_type;
        n->op_type = cursor_identifier(r, "an operator");
    }
    if (cursor_match(r, ':')) n->overload = cursor_identifier(r, "the name of an overload");
    read_attrs(r, n);
    cursor_want(r, '(');
    for (s = read_operand(r); s; s = cursor_match(r, ',') ? read_operand(r) : NULL) PUSH(r, n, input, s);
    cursor_want(r, ')');
    if (!n->n_attribute) read_attrs(r, n);
    return n;
}

/* ---- graphs, functions, models ---- */

static void want_arrow(Cursor *r) {
    cursor_want(r, '=');
    if (r->p == r->end || *r->p != '>') cursor_expected(r, "=>");
    r->p++;
}

/* Inputs (a value with data is an input and an initialiser) or, within < >, initialisers and types. */
static void read_inputs(Cursor *r, PbGraph *g, bool inputs) {
    char close = inputs ? ')' : '>';
    if (cursor_match(r, close)) return;
    do {
        PbValueInfo *v = read_value_info(r);
        bool data = cursor_match(r, '=');
        if (data) PUSH(r, g, initializer, read_data(r, v->type, v->name));
        if (inputs) PUSH(r, g, input, v);
        else if (!data) PUSH(r, g, value_info, v);
    } while (cursor_match(r, ','));
    cursor_want(r, close);
}

static PbGraph *read_graph(Cursor *r) {
    PbGraph *g = NEW(r, graph_proto, PbGraph);
    enter(r);
    g->name = cursor_name(r);
    cursor_want(r, '(');
    read_inputs(r, g, true);
    want_arrow(r);
    cursor_want(r, '(');
    if (!cursor_match(r, ')')) {
        do PUSH(r, g, output, read_value_info(r));
        while (cursor_match(r, ','));
        cursor_want(r, ')');
    }
    if (cursor_match(r, '<')) read_inputs(r, g, false);
    cursor_want(r, '{');
    while (!cursor_match(r, '}')) PUSH(r, g, node, read_node(r));
    r->depth--;
    return g;
}

static PbOpset *read_opset(Cursor *r) {
    PbOpset *o = NEW(r, operator_set_id_proto, PbOpset);
    o->domain = cursor_string(r, NULL);
    cursor_want(r, ':');
    SET(o, version, cursor_int(r));
    return o;
}

/* Names with an optional type, which goes to the function's value_info. */
static void read_signature(Cursor *r, PbFunction *f, bool inputs) {
    cursor_want(r, '(');
    if (cursor_match(r, ')')) return;
    do {
        PbValueInfo *v = read_value_info(r);
        if (v->type) PUSH(r, f, value_info, v);
        if (inputs) PUSH(r, f, input, v->name);
        else PUSH(r, f, output, v->name);
    } while (cursor_match(r, ','));
    cursor_want(r, ')');
}

/* KEY: VALUE before a function. */
static void read_function_data(Cursor *r, PbFunction *f) {
    char **text = cursor_is(r, "doc_string") ? &f->doc_string : cursor_is(r, "domain") ? &f->domain
                : cursor_is(r, "overload") ? &f->overload : NULL;
    if (!text && !cursor_is(r, "opset_import"))
        cursor_expected(r, "opset_import, domain, overload or doc_string");
    cursor_identifier(r, "a key");
    cursor_want(r, ':');
    if (text) { *text = cursor_string(r, NULL); return; }
    cursor_want(r, '[');
    if (cursor_match(r, ']')) return;
    do PUSH(r, f, opset_import, read_opset(r));
    while (cursor_match(r, ','));
    cursor_want(r, ']');
}

static PbFunction *read_function(Cursor *r) {
    PbFunction *f = NEW(r, function_proto, PbFunction);
    if (cursor_match(r, '<')) {
        do read_function_data(r, f);
        while (cursor_match(r, ','));
        cursor_want(r, '>');
    }
    f->name = cursor_name(r);
    if (cursor_match(r, '<')) {
        do {
            char *name = cursor_name(r), next = cursor_next(r);
            if (next == ':' || next == '=') PUSH(r, f, attribute_proto, read_attr(r, name));
            else PUSH(r, f, attribute, name);
        } while (cursor_match(r, ','));
        cursor_want(r, '>');
    }
    read_signature(r, f, true);
    want_arrow(r);
    read_signature(r, f, false);
    if (cursor_match(r, '<')) {
        do PUSH(r, f, value_info, read_value_info(r));
        while (cursor_match(r, ','));
        cursor_want(r, '>');
    }
    cursor_want(r, '{');
    while (!cursor_match(r, '}')) PUSH(r, f, node, read_node(r));
    return f;
}

static void read_model_list(Cursor *r, PbModel *m, bool opsets) {
    cursor_want(r, '[');
    if (cursor_match(r, ']')) return;
    do {
        if (opsets) PUSH(r, m, opset_import, read_opset(r));
        else PUSH(r, m, metadata_props, read_entry(r));
    } while (cursor_match(r, ','));
    cursor_want(r, ']');
}

/* KEY: VALUE before the model's graph. */
static void read_model_data(Cursor *r, PbModel *m) {
    const struct { const char *key; char **text; protobuf_c_boolean *has; int64_t *number; } keys[] = {
        {"ir_version", NULL, &m->has_ir_version, &m->ir_version},
        {"model_version", NULL, &m->has_model_version, &m->model_version},
        {"producer_name", &m->producer_name, NULL, NULL},
        {"producer_version", &m->producer_version, NULL, NULL},
        {"domain", &m->domain, NULL, NULL},
        {"doc_string", &m->doc_string, NULL, NULL},
        {"opset_import", NULL, NULL, NULL},
        {"metadata_props", NULL, NULL, NULL},
    };
    size_t k = 0, n = sizeof keys / sizeof *keys;
    while (k < n && !cursor_is(r, keys[k].key)) k++;
    if (k == n) cursor_expected(r, "a key of the model (ir_version, opset_import, producer_name, ...)");
    cursor_identifier(r, "a key");
    cursor_want(r, ':');
    if (keys[k].text) *keys[k].text = cursor_string(r, NULL);
    else if (keys[k].has) *keys[k].has = true, *keys[k].number = cursor_int(r);
    else read_model_list(r, m, k == 6);
}

PbModel *pb_model_text(Ctx *c, const char *text, size_t n) {
    Cursor r;
    cursor_open(&r, c, text, n);
    PbModel *m = NEW(&r, model_proto, PbModel);
    if (cursor_match(&r, '<')) {
        do read_model_data(&r, m);
        while (cursor_match(&r, ','));
        cursor_want(&r, '>');
    }
    m->graph = read_graph(&r);
    while (cursor_next(&r)) PUSH(&r, m, functions, read_function(&r));
    return m;
}
