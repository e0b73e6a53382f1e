/* What import functions of op rows call: attributes and inputs of one node of a model, with the errors that
   are the same for all of them. See import.h. */
#include "import.h"

void import_error(Import *n, int code, const char *help, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    gd_error(n->g->c, code, help, "node %s: %s", n->label, text);
}

/* ---- attributes ---- */

static const char *const kind_text[] = {
    "nothing",          "a float",          "an int",         "a string",          "a tensor",
    "a graph",          "a list of floats", "a list of ints", "a list of strings", "a list of tensors",
    "a list of graphs", "a type",           "a sparse tensor"};

const ImportAttr *import_attr(Import *n, const char *name) {
    for (int i = 0; i < n->nattr; i++)
        if (!strcmp(n->attr[i].name, name)) {
            n->attr[i].used = true;
            return &n->attr[i];
        }
    return NULL;
}

bool import_has(Import *n, const char *name) { return import_attr(n, name) != NULL; }

/* An attribute that says no type and has no field set is an empty list or nothing: the files of some
   exporters. */
static const ImportAttr *of_kind(Import *n, const char *name, ImportKind kind) {
    const ImportAttr *a = import_attr(n, name);
    if (!a || a->kind == kind) return a;
    bool list = kind == IM_FLOATS || kind == IM_INTS || kind == IM_STRINGS;
    if (list && !a->kind) return a;
    if (kind == IM_FLOATS && a->kind == IM_INTS && !a->n) return a;
    if (kind == IM_INTS && a->kind == IM_FLOATS && !a->n) return a;
    import_error(n, 204, NULL, "attribute %s: %s was expected, not %s", name, kind_text[kind],
                 kind_text[a->kind]);
    return NULL;
}

int64_t import_int(Import *n, const char *name, int64_t def) {
    const ImportAttr *a = of_kind(n, name, IM_INT);
    return a ? a->i : def;
}

double import_float(Import *n, const char *name, double def) {
    const ImportAttr *a = of_kind(n, name, IM_FLOAT);
    return a ? a->f : def;
}

const char *import_string(Import *n, const char *name, const char *def) {
    const ImportAttr *a = of_kind(n, name, IM_STRING);
    return a ? a->s : def;
}

int import_ints(Import *n, const char *name, const int64_t **v) {
    static const int64_t none = 0;
    const ImportAttr *a = of_kind(n, name, IM_INTS);
    *v = a ? (a->n ? a->ints : &none) : NULL;
    return a ? a->n : 0;
}

int import_floats(Import *n, const char *name, const double **v) {
    static const double none = 0;
    const ImportAttr *a = of_kind(n, name, IM_FLOATS);
    *v = a ? (a->n ? a->floats : &none) : NULL;
    return a ? a->n : 0;
}

DType import_dtype(Import *n, const char *name, DType def) {
    const ImportAttr *a = of_kind(n, name, IM_INT);
    if (!a) return def;
    DType t = a->i > 0 && a->i < 1000 ? gd_dtype_from_onnx((int)a->i) : DT_NONE;
    if (t == DT_NONE)
        import_error(n, 207, NULL, "attribute %s: there is no data type %lld", name, (long long)a->i);
    return t;
}

/* ---- inputs ---- */

Value *import_in(Import *n, int i) { return i >= 0 && i < n->nin ? n->in[i] : NULL; }

bool import_need(Import *n, int min, int max) {
    if (n->nin < min || (max >= 0 && n->nin > max)) {
        if (max < 0) import_error(n, 205, NULL, "%s takes at least %d inputs, not %d", n->op, min, n->nin);
        else if (min == max) import_error(n, 205, NULL, "%s takes %d inputs, not %d", n->op, min, n->nin);
        else import_error(n, 205, NULL, "%s takes %d to %d inputs, not %d", n->op, min, max, n->nin);
        return false;
    }
    for (int i = 0; i < min; i++)
        if (!n->in[i]) {
            import_error(n, 205, NULL, "input %d is left out, but %s needs it", i, n->op);
            return false;
        }
    return true;
}

/* How many elements the list has that an input holds: of rank 1, or a single one of rank 0. -1 after an
   error. */
static int64_t list_length(Import *n, int input, const Value *v) {
    int64_t len;
    if (v->rank < 0) return -1;
    if (!dt_int(v->dt) || v->rank > 1 || v->sequence) {
        import_error(n, 302, NULL, "input %d is %s: a list of integers was expected", input,
                     value_type_text(n->g->c, v));
        return -1;
    }
    if (!v->rank) return 1;
    if (is_int(v->dim[0], &len)) return len;
    import_error(n, 402, "give the input a fixed length",
                 "input %d has %s elements: how many must be known when compiling", input,
                 expr_text(n->g->c, v->dim[0]));
    return -1;
}

static const char *list_name(Import *n, const char *attr, const Value *v) {
    return attr ? attr : v->label ? v->label : n->op;
}

/* An input whose producer failed, or one that is no list, counts as given and empty: its error is out
   already. */
int import_list(Import *n, const char *attr, int input, Expr ***out) {
    Ctx *c = n->g->c;
    const int64_t *ints;
    *out = NULL;
    if (attr && import_has(n, attr)) {
        int count = import_ints(n, attr, &ints);
        *out = gd_new_array(c, Expr *, count ? count : 1);
        for (int i = 0; i < count; i++) (*out)[i] = expr_int(c, ints[i]);
        return count;
    }
    Value *v = import_in(n, input);
    if (!v) return -1;
    int64_t len = list_length(n, input, v);
    *out = gd_new_array(c, Expr *, 1);
    if (len < 0) return 0;
    Expr **e = value_read(n->g, v, list_name(n, attr, v), NULL);
    if (!e) {
        import_error(n, 402, NULL, "input %d: a list of %lld elements is longer than %d", input,
                     (long long)len, MAX_ELEMS);
        return 0;
    }
    *out = e;
    return (int)len;
}

int import_const_list(Import *n, const char *attr, int input, const int64_t **out) {
    *out = NULL;
    if (attr && import_has(n, attr)) return import_ints(n, attr, out);
    Value *v = import_in(n, input);
    if (!v) return -1;
    int64_t len = list_length(n, input, v);
    int64_t *ints = gd_new_array(n->g->c, int64_t, len > 0 && len <= MAX_ELEMS ? len : 1);
    *out = ints;
    if (len < 0) return 0;
    if (len <= MAX_ELEMS && value_ints(n->g, v, (int)len, ints)) return (int)len;
    import_error(n, 402, "make it a constant of the model", "input %d (%s) must be known when compiling",
                 input, list_name(n, attr, v));
    return 0;
}

/* ---- a row without an import function ---- */

static bool take_list(Import *n, Node *m, const AttrDef *d) {
    Ctx *c = n->g->c;
    const int64_t *ints;
    const double *floats;
    if (d->kind == AT_FLOATS) {
        int count = import_floats(n, d->name, &floats);
        if (floats) node_floats(m, d->name, count, floats);
        return floats;
    }
    int count = import_ints(n, d->name, &ints);
    if (ints && d->kind == AT_INTS) node_ints(m, d->name, count, ints);
    if (ints && d->kind == AT_DIMS) {
        Expr **e = gd_new_array(c, Expr *, count ? count : 1);
        for (int i = 0; i < count; i++) e[i] = expr_int(c, ints[i]);
        node_dims(m, d->name, count, e);
    }
    return ints;
}

/* False: the model does not give the attribute, or not one of this kind. */
static bool take_attr(Import *n, Node *m, const AttrDef *d) {
    const ImportAttr *a = import_attr(n, d->name);
    DType t;
    if (!a) return false;
    switch (d->kind) {
    case AT_INT: node_int(m, d->name, import_int(n, d->name, 0)); break;
    case AT_FLOAT: node_float(m, d->name, import_float(n, d->name, 0)); break;
    case AT_STRING: node_string(m, d->name, import_string(n, d->name, "")); break;
    case AT_DIM: node_dim(m, d->name, expr_int(n->g->c, import_int(n, d->name, 0))); break;
    case AT_DTYPE:
        if ((t = import_dtype(n, d->name, DT_NONE)) == DT_NONE) return false;
        node_dtype(m, d->name, t);
        break;
    case AT_INTS:
    case AT_FLOATS:
    case AT_DIMS: return take_list(n, m, d);
    case AT_SYMS:
    case AT_NONE: return false;
    }
    return true;
}

void import_default(Import *n, const Op *op) {
    int min, max = op_arity(op, &min), errors = gd_error_count(n->g->c);
    if (!import_need(n, min, max)) return;
    Node *m = node_begin(n->g, op->name);
    for (int i = 0; i < n->nin; i++) node_input(m, n->in[i]);
    for (int i = 0; i < MAX_ATTRS && op->attrs[i].name; i++)
        if (!take_attr(n, m, &op->attrs[i]) && op->attrs[i].required && gd_error_count(n->g->c) == errors)
            import_error(n, 204, NULL, "attribute %s is missing", op->attrs[i].name);
    if (gd_error_count(n->g->c) > errors) return;
    node_finish(m);
    for (int i = 0; i < n->nout && i < m->nout; i++) n->out[i] = m->out[i];
}
