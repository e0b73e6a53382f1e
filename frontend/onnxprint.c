/* protobuf-c structs to the ONNX text syntax: what pb_model_text reads gives the same model again, but for
   comments of the model (doc_string below the top, metadata of nodes), which the syntax has no place for.

   Attributes always carry their type, so nothing depends on how a number looks. Recursion is bounded by the
   depth of the structs, which both readers limit. */
#include "onnxtext.h"
#include "expr.h"
#include <strings.h>

typedef struct Printer { Text *t; Ctx *c; PbSource *s; int indent; } Printer;

static GD_NORETURN void unsayable(Printer *p, const char *what) {
    gd_fail(p->c, 402, "write a binary .onnx file", "ONNX text has no words for %s", what);
}

static void quoted(Printer *p, const char *s, size_t n) {
    if (memchr(s, 0, n)) unsayable(p, "a zero byte in a string");
    text_put(p->t, "\"");
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"' || s[i] == '\\') text_put(p->t, "\\");
        text_putn(p->t, s + i, 1);
    }
    text_put(p->t, "\"");
}

/* Length of the identifier at the start of s. */
static size_t identifier(const char *s) {
    size_t n = 0;
    while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || s[n] == '_' ||
           (n && s[n] >= '0' && s[n] <= '9'))
        n++;
    return n;
}

/* Words that begin a type or are a number. */
static bool reserved(const char *s) {
    static const char *const words[] = {"seq",    "map", "optional", "sparse_tensor",
                                        "opaque", "inf", "infinity", "nan"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(s, words[i])) return true;
    for (int i = 1; i < PB_TYPES; i++)
        if (!strcmp(s, pb_type_names[i])) return true;
    return false;
}

/* Quoted unless it is an identifier that can be taken for nothing else. */
static void name(Printer *p, const char *s) {
    size_t n = strlen(s);
    if (n && identifier(s) == n && !reserved(s)) text_put(p->t, s);
    else quoted(p, s, n);
}

/* Where the syntax wants identifiers, with dots between them or alone. */
static void plain(Printer *p, const char *s, bool dots) {
    size_t n = identifier(s), at = n;
    while (n && dots && s[at] == '.') at += 1 + (n = identifier(s + at + 1));
    if (!n || s[at]) unsayable(p, gd_format(p->c, "the name \"%s\" here", gd_escape(p->c, s, strlen(s))));
    text_put(p->t, s);
}

static void names(Printer *p, char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i) text_put(p->t, ", ");
        name(p, list[i]);
    }
}

/* And the closing bracket. */
static void entries(Printer *p, PbEntry *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i) text_put(p->t, ", ");
        quoted(p, list[i]->key, strlen(list[i]->key));
        text_put(p->t, ": ");
        quoted(p, list[i]->value, strlen(list[i]->value));
    }
    text_put(p->t, "]");
}

static void newline(Printer *p) {
    text_put(p->t, "\n");
    for (int i = 0; i < p->indent; i++) text_put(p->t, "  ");
}

/* ---- types ---- */

static void element_type(Printer *p, int type) {
    if (type <= 0 || type >= PB_TYPES) unsayable(p, gd_format(p->c, "the element type %d", type));
    text_put(p->t, pb_type_names[type]);
}

static void shape(Printer *p, const PbShape *s) {
    if (!s) { text_put(p->t, "[]"); return; }
    for (size_t i = 0; i < s->n_dim; i++) {
        const PbDim *d = s->dim[i];
        text_put(p->t, i ? "," : "[");
        if (d->has_dim_value) text_printf(p->t, "%lld", (long long)d->dim_value);
        else if (*d->dim_param) name(p, d->dim_param);
        else text_put(p->t, "?");
    }
    if (s->n_dim) text_put(p->t, "]");
}

static void type(Printer *p, const PbType *t) {
    if (t && t->tensor_type) {
        element_type(p, t->tensor_type->elem_type);
        shape(p, t->tensor_type->shape);
        return;
    }
    if (t && t->sequence_type) {
        text_put(p->t, "seq(");
        type(p, t->sequence_type->elem_type);
    } else if (t && t->optional_type) {
        text_put(p->t, "optional(");
        type(p, t->optional_type->elem_type);
    } else if (t && t->map_type) {
        text_put(p->t, "map(");
        element_type(p, t->map_type->key_type);
        text_put(p->t, ", ");
        type(p, t->map_type->value_type);
    } else if (t && t->sparse_tensor_type) {
        text_put(p->t, "sparse_tensor(");
        element_type(p, t->sparse_tensor_type->elem_type);
        shape(p, t->sparse_tensor_type->shape);
    } else if (t && t->opaque_type) {
        const char *domain = t->opaque_type->domain, *of = t->opaque_type->name;
        text_put(p->t, "opaque(");
        if (*domain) plain(p, domain, true);
        if (*domain) text_put(p->t, ",");
        if (*domain || *of) plain(p, of, !*domain);
    } else unsayable(p, "a type that is not given");
    text_put(p->t, ")");
}

static void value_infos(Printer *p, PbValueInfo *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i) text_put(p->t, ", ");
        if (list[i]->type) {
            type(p, list[i]->type);
            text_put(p->t, " ");
        }
        name(p, list[i]->name);
    }
}

/* ---- tensors ---- */

static void element(Printer *p, const GradcTensor *t, size_t i) {
    char buf[64];
    const char *at = (const char *)t->data + i * gradc_dtype_size(t->dtype);
    int64_t v = 0;
    switch ((DType)t->dtype) {
    case F32: case F64: gradc_float_text(buf, sizeof buf, t->dtype, at); text_put(p->t, buf); return;
    case C64: case C128: {
        int part = t->dtype == C64 ? F32 : F64;
        for (size_t k = 0; k < 2; k++) {
            gradc_float_text(buf, sizeof buf, part, at + k * gradc_dtype_size(part));
            text_printf(p->t, "%s%s", k ? ", " : "", buf);
        }
        return;
    }
    case STRING: { const char *s; memcpy(&s, at, sizeof s); quoted(p, s, strlen(s)); return; }
    case U64: {
        uint64_t u;
        memcpy(&u, at, sizeof u);
        text_printf(p->t, "%llu", (unsigned long long)u);
        return;
    }
    case I64: memcpy(&v, at, sizeof v); break;
    case I32: { int32_t w; memcpy(&w, at, sizeof w); v = w; break; }
    case U32: { uint32_t w; memcpy(&w, at, sizeof w); v = w; break; }
    case I16: { int16_t h; memcpy(&h, at, sizeof h); v = h; break; }
    case U16: case F16: case BF16: { uint16_t h; memcpy(&h, at, sizeof h); v = h; break; }
    case I8: case I4: case I2: v = *(const int8_t *)at; break;
    default: v = *(const uint8_t *)at;
    }
    text_printf(p->t, "%lld", (long long)v);
}

static void tensor(Printer *p, PbTensor *t, bool named) {
    GradcTensor v;
    element_type(p, t->data_type);
    for (size_t i = 0; i < t->n_dims; i++) text_printf(p->t, "%s%lld", i ? "," : "[", (long long)t->dims[i]);
    if (t->n_dims) text_put(p->t, "]");
    if (named || *t->name) {
        text_put(p->t, " ");
        name(p, t->name);
        text_put(p->t, " =");
    }
    if (t->data_location == 1) {
        if (!t->n_external_data) unsayable(p, "external data without a location");
        text_put(p->t, " [");
        entries(p, t->external_data, t->n_external_data);
        return;
    }
    if (!pb_tensor(p->s, t, gd_format(p->c, "tensor \"%s\"", gd_escape(p->c, t->name, strlen(t->name))), &v))
        gd_leave(p->c);
    text_put(p->t, " {");
    for (size_t i = 0, n = gradc_tensor_count(&v); i < n; i++) {
        if (i) text_put(p->t, ", ");
        element(p, &v, i);
    }
    text_put(p->t, "}");
}

/* ---- attributes and nodes ---- */

static void graph(Printer *p, PbGraph *g);

static void number(Printer *p, float f) {
    char buf[64];
    gradc_float_text(buf, sizeof buf, F32, &f);
    text_put(p->t, buf);
}

/* The i-th value of a list, or the only one. */
static void value(Printer *p, PbAttr *a, AttrType kind, size_t i) {
    switch (kind) {
    case PA_FLOAT: number(p, a->f); return;
    case PA_FLOATS: number(p, a->floats[i]); return;
    case PA_INT: text_printf(p->t, "%lld", (long long)a->i); return;
    case PA_INTS: text_printf(p->t, "%lld", (long long)a->ints[i]); return;
    case PA_STRING: quoted(p, a->s.len ? (const char *)a->s.data : "", a->s.len); return;
    case PA_STRINGS:
        quoted(p, a->strings[i].len ? (const char *)a->strings[i].data : "", a->strings[i].len);
        return;
    case PA_TENSOR: tensor(p, a->t, false); return;
    case PA_TENSORS: tensor(p, a->tensors[i], false); return;
    case PA_GRAPH: graph(p, a->g); return;
    case PA_GRAPHS: graph(p, a->graphs[i]); return;
    case PA_TYPE: type(p, a->tp); return;
    case PA_TYPES: type(p, a->type_protos[i]); return;
    default: unsayable(p, "a sparse tensor");
    }
}

static bool is_list(const PbAttr *a, AttrType kind, size_t *n) {
    switch (kind) {
    case PA_FLOATS: *n = a->n_floats; return true;
    case PA_INTS: *n = a->n_ints; return true;
    case PA_STRINGS: *n = a->n_strings; return true;
    case PA_TENSORS: *n = a->n_tensors; return true;
    case PA_GRAPHS: *n = a->n_graphs; return true;
    case PA_TYPES: *n = a->n_type_protos; return true;
    case PA_SPARSES: *n = a->n_sparse_tensors; return true;
    default: *n = 1; return false;
    }
}

static void attr(Printer *p, PbAttr *a) {
    AttrType kind = pb_attr_type(a);
    size_t n;
    bool list = is_list(a, kind, &n), missing = (kind == PA_TENSOR && !a->t) || (kind == PA_GRAPH && !a->g);
    if (!*a->ref_attr_name && (kind == PA_UNDEFINED || missing)) unsayable(p, "an attribute without a value");
    plain(p, a->name, false);
    if (kind != PA_UNDEFINED) text_printf(p->t, ": %s", pb_attr_names[kind]);
    text_put(p->t, " = ");
    if (*a->ref_attr_name) {
        text_put(p->t, "@");
        name(p, a->ref_attr_name);
        return;
    }
    if (list) text_put(p->t, "[");
    for (size_t i = 0; i < n; i++) {
        if (i) text_put(p->t, ", ");
        value(p, a, kind, i);
    }
    if (list) text_put(p->t, "]");
}

static void attrs(Printer *p, PbAttr *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (i) text_put(p->t, ", ");
        attr(p, list[i]);
    }
}

static void nodes(Printer *p, PbNode *const *list, size_t n) {
    text_put(p->t, "{");
    p->indent++;
    for (size_t i = 0; i < n; i++) {
        const PbNode *o = list[i];
        newline(p);
        if (*o->name) {
            text_put(p->t, "[");
            name(p, o->name);
            text_put(p->t, "] ");
        }
        names(p, o->output, o->n_output);
        text_put(p->t, " = ");
        if (*o->domain) plain(p, o->domain, true);
        if (*o->domain) text_put(p->t, ".");
        plain(p, o->op_type, false);
        if (*o->overload) text_put(p->t, ":");
        if (*o->overload) plain(p, o->overload, false);
        if (o->n_attribute) {
            text_put(p->t, " <");
            attrs(p, o->attribute, o->n_attribute);
            text_put(p->t, ">");
        }
        text_put(p->t, " (");
        names(p, o->input, o->n_input);
        text_put(p->t, ")");
    }
    p->indent--;
    newline(p);
    text_put(p->t, "}");
}

/* ---- graphs, functions, the model ---- */

static void graph(Printer *p, PbGraph *g) {
    if (g->n_sparse_initializer) unsayable(p, "a sparse initialiser");
    name(p, g->name);
    text_put(p->t, " (");
    value_infos(p, g->input, g->n_input);
    text_put(p->t, ") => (");
    value_infos(p, g->output, g->n_output);
    text_put(p->t, ")");
    if (g->n_value_info || g->n_initializer) {
        text_put(p->t, " <");
        for (size_t i = 0; i < g->n_initializer; i++) {
            text_put(p->t, i ? "," : "");
            newline(p);
            tensor(p, g->initializer[i], true);
        }
        if (g->n_value_info && g->n_initializer) text_put(p->t, ",");
        if (g->n_value_info) newline(p);
        value_infos(p, g->value_info, g->n_value_info);
        text_put(p->t, ">");
    }
    text_put(p->t, " ");
    nodes(p, g->node, g->n_node);
}

static void text_key(Printer *p, const char *key, const char *value, const char *separator) {
    if (!*value) return;
    text_printf(p->t, "%s%s: ", separator, key);
    quoted(p, value, strlen(value));
}

static void opsets(Printer *p, PbOpset *const *list, size_t n) {
    text_put(p->t, "opset_import: [");
    for (size_t i = 0; i < n; i++) {
        if (i) text_put(p->t, ", ");
        quoted(p, list[i]->domain, strlen(list[i]->domain));
        text_printf(p->t, ": %lld", (long long)list[i]->version);
    }
    text_put(p->t, "]");
}

static void function(Printer *p, PbFunction *f) {
    text_put(p->t, "\n<");
    opsets(p, f->opset_import, f->n_opset_import);
    text_key(p, "domain", f->domain, ", ");
    text_key(p, "overload", f->overload, ", ");
    text_key(p, "doc_string", f->doc_string, ", ");
    text_put(p->t, ">\n");
    name(p, f->name);
    if (f->n_attribute || f->n_attribute_proto) {
        text_put(p->t, " <");
        names(p, f->attribute, f->n_attribute);
        if (f->n_attribute && f->n_attribute_proto) text_put(p->t, ", ");
        attrs(p, f->attribute_proto, f->n_attribute_proto);
        text_put(p->t, ">");
    }
    text_put(p->t, " (");
    names(p, f->input, f->n_input);
    text_put(p->t, ") => (");
    names(p, f->output, f->n_output);
    text_put(p->t, ")");
    if (f->n_value_info) {
        text_put(p->t, " <");
        value_infos(p, f->value_info, f->n_value_info);
        text_put(p->t, ">");
    }
    text_put(p->t, " ");
    nodes(p, f->node, f->n_node);
    text_put(p->t, "\n");
}

void pb_print(Text *t, PbModel *m) {
    Printer p = {t, t->c, pb_source(t->c, NULL), 0};
    if (m->n_training_info) unsayable(&p, "training information");
    text_printf(t, "<ir_version: %lld, ", (long long)m->ir_version);
    opsets(&p, m->opset_import, m->n_opset_import);
    text_key(&p, "producer_name", m->producer_name, ", ");
    text_key(&p, "producer_version", m->producer_version, ", ");
    text_key(&p, "domain", m->domain, ", ");
    text_key(&p, "doc_string", m->doc_string, ", ");
    if (m->has_model_version) text_printf(t, ", model_version: %lld", (long long)m->model_version);
    if (m->n_metadata_props) {
        text_put(t, ", metadata_props: [");
        entries(&p, m->metadata_props, m->n_metadata_props);
    }
    text_put(t, ">\n");
    graph(&p, m->graph);
    text_put(t, "\n");
    for (size_t i = 0; i < m->n_functions; i++) function(&p, m->functions[i]);
}
