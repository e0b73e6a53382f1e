/* Attributes of an ONNX node as import functions of op rows want them.

   In a function's body an attribute may stand for one of the call (ref_attr_name). Calls nest, and a
   reference is resolved when its call is made, so what a scope binds is never a reference itself. */
#include "onnxgraph.h"

PbAttr *attr_resolve(Scope *s, PbAttr *a, Scope **where) {
    *where = s;
    if (!*a->ref_attr_name) return a;
    BoundAttr *b = s->attrs ? map_gets(s->attrs, a->ref_attr_name) : NULL;
    if (!b) return NULL;
    *where = b->scope;
    return b->a;
}

static bool tensor_of(Model *m, const char *label, const char *name, PbTensor *t, PbSparse *sparse,
                      ImportTensor *out) {
    GradcTensor x;
    const char *what = gd_format(m->c, "node %s: attribute %s", label, name);
    if (!(sparse ? pb_sparse(m->src, sparse, what, &x) : pb_tensor(m->src, t, what, &x))) return false;
    *out = (ImportTensor){.dt = (DType)x.dtype, .rank = x.rank, .data = x.data};
    out->dims = gd_new_array(m->c, int64_t, x.rank ? x.rank : 1);
    memcpy(out->dims, x.dims, (size_t)x.rank * sizeof *x.dims);
    return true;
}

static void lists_of(Ctx *c, const PbAttr *a, ImportAttr *out) {
    if (out->kind == IM_INTS) {
        out->n = (int)a->n_ints;
        out->ints = a->ints;
    } else if (out->kind == IM_FLOATS) {
        double *v = gd_new_array(c, double, a->n_floats ? a->n_floats : 1);
        for (size_t i = 0; i < a->n_floats; i++) v[i] = (double)a->floats[i];
        out->n = (int)a->n_floats;
        out->floats = v;
    } else {
        const char **v = gd_new_array(c, const char *, a->n_strings ? a->n_strings : 1);
        for (size_t i = 0; i < a->n_strings; i++)
            v[i] = gd_strndup(c, (const char *)a->strings[i].data, a->strings[i].len);
        out->n = (int)a->n_strings;
        out->strings = v;
    }
}

static bool missing(Model *m, const char *label, const char *name) {
    gd_error(m->c, 204, NULL, "node %s: attribute %s has no value", label, name);
    return false;
}

/* a is no reference; its graphs see the names of scope. The labels in a graph start with its node's number.
 */
static bool convert(Model *m, Scope *scope, const char *label, const char *name, const PbAttr *a,
                    ImportAttr *out) {
    static const ImportKind kinds[PA_TYPES_END] = {
        [PA_FLOAT] = IM_FLOAT,   [PA_INT] = IM_INT,         [PA_STRING] = IM_STRING,
        [PA_TENSOR] = IM_TENSOR, [PA_GRAPH] = IM_GRAPH,     [PA_FLOATS] = IM_FLOATS,
        [PA_INTS] = IM_INTS,     [PA_STRINGS] = IM_STRINGS, [PA_TENSORS] = IM_TENSORS,
        [PA_GRAPHS] = IM_GRAPHS, [PA_SPARSE] = IM_SPARSE,   [PA_TYPE] = IM_TYPE};
    out->kind = kinds[pb_attr_type(a)];
    switch (out->kind) {
    case IM_FLOAT: out->f = (double)a->f; return true;
    case IM_INT: out->i = a->i; return true;
    case IM_STRING:
        out->n = (int)a->s.len;
        out->s = gd_strndup(m->c, (const char *)a->s.data, a->s.len);
        return true;
    case IM_TENSOR:
        return a->t ? tensor_of(m, label, name, a->t, NULL, &out->tensor) : missing(m, label, name);
    case IM_SPARSE:
        if (!a->sparse_tensor) return missing(m, label, name);
        return tensor_of(m, label, name, NULL, a->sparse_tensor, &out->tensor);
    case IM_GRAPH: {
        if (!a->g) return missing(m, label, name);
        Subgraph *s = gd_new(m->c, Subgraph);
        *s = (Subgraph){a->g, scope, gd_format(m->c, "%.*s.%s/", (int)strcspn(label, " "), label, name)};
        out->graph = s;
        return true;
    }
    case IM_TYPE: return a->tp ? type_attr(m, a->tp, out) : missing(m, label, name);
    case IM_FLOATS:
    case IM_INTS:
    case IM_STRINGS: lists_of(m->c, a, out); return true;
    case IM_TENSORS:
    case IM_GRAPHS: break; /* no operator has them */
    }
    return true;
}

bool attrs_convert(Model *m, Scope *s, const char *label, const PbNode *p, Import *n) {
    bool ok = true;
    n->attr = gd_new_array(m->c, ImportAttr, p->n_attribute ? p->n_attribute : 1);
    for (size_t i = 0; i < p->n_attribute; i++) {
        Scope *where;
        PbAttr *a = p->attribute[i];
        const char *name = gd_escape(m->c, a->name, strlen(a->name));
        for (int k = 0; k < n->nattr; k++)
            if (!strcmp(n->attr[k].name, a->name)) {
                gd_error(m->c, 202, NULL, "node %s: attribute %s stands twice", label, name);
                ok = false;
            }
        if (*a->ref_attr_name && !s->attrs) {
            gd_error(m->c, 204, NULL, "node %s: attribute %s refers to one of a function, but this is none",
                     label, name);
            ok = false;
        }
        PbAttr *given = attr_resolve(s, a, &where);
        if (!given) continue;
        ImportAttr *out = &n->attr[n->nattr++];
        out->name = a->name;
        ok &= convert(m, where, label, name, given, out);
    }
    return ok;
}
