/* Types of an ONNX model: inputs and the dims that stay open.

   A dim without a number becomes a symbol: equal names are one symbol, a dim without a name is one of its
   own. A symbol is at least 1 unless --dim says otherwise; a bound of --dim is what the program then checks
   its inputs against. In the type of a sequence an open dim is another size in every element, so it is a
   symbol that nothing defines. */
#include "onnxgraph.h"
#include <errno.h>
#include <stdlib.h>

/* ---- --dim NAME=8, NAME=1..64 ---- */

/* A size at *s, which moves past it; "inf" is no bound. */
static bool parse_size(const char **s, int64_t *v) {
    if (!strncmp(*s, "inf", 3)) {
        *s += 3;
        *v = INT64_MAX;
        return true;
    }
    char *end;
    if (**s < '0' || **s > '9') return false;
    errno = 0;
    *v = strtoll(*s, &end, 10);
    *s = end;
    return !errno && *v < INT64_MAX;
}

static void read_dim(Model *m, const char *text) {
    const char *eq = strrchr(text, '='), *s = eq ? eq + 1 : text;
    DimOption d = {.text = text, .name = eq ? gd_strndup(m->c, text, (size_t)(eq - text)) : ""};
    bool ok = eq && eq > text && parse_size(&s, &d.lo);
    d.hi = d.lo;
    if (ok && !strncmp(s, "..", 2)) {
        s += 2;
        ok = parse_size(&s, &d.hi);
    }
    if (!ok || *s || d.lo > d.hi || d.lo == INT64_MAX)
        gd_error(m->c, 601, "write NAME=8, NAME=1..64 or NAME=0..inf", "--dim %s",
                 gd_escape(m->c, text, strlen(text)));
    else vec_push(m->c, &m->dims, d);
}

void dims_read(Model *m) {
    for (const char *const *s = m->o->dims; s && *s; s++) read_dim(m, *s);
}

void dims_finish(Model *m) {
    Text *t = text_new(m->c);
    for (int i = 0; i < m->open.n && i < 20; i++)
        text_printf(t, "%s%s", i ? ", " : "the open dims are ", m->open.v[i]);
    for (int i = 0; i < m->dims.n; i++)
        if (!m->dims.v[i].used)
            gd_error(m->c, 601, t->n ? t->s : "no dim of this model is open",
                     "--dim %s: the model has no such dim",
                     gd_escape(m->c, m->dims.v[i].text, strlen(m->dims.v[i].text)));
}

/* ---- dims ---- */

/* What stands for an open dim of this name; the option goes by the name itself or by the identifier made of
   it. */
Expr *dims_open(Model *m, Graph *g, const char *name, int64_t lo) {
    Ctx *c = m->c;
    const char *id = front_identifier(c, name, "D");
    vec_push(c, &m->open, gd_escape(c, name, strlen(name)));
    for (int i = m->dims.n - 1; i >= 0; i--) { /* the last option of a name counts */
        DimOption *d = &m->dims.v[i];
        if (strcmp(d->name, name) && strcmp(d->name, id)) continue;
        for (int k = 0; k <= i; k++) m->dims.v[k].used |= !strcmp(m->dims.v[k].name, d->name);
        return d->lo == d->hi ? expr_int(c, d->lo) : expr_var(c, graph_symbol(g, id, d->lo, d->hi));
    }
    return m->o->fixed ? expr_int(c, 1) : expr_var(c, graph_symbol(g, id, lo, INT64_MAX));
}

static Expr *input_dim(Model *m, Graph *g, const PbDim *d, const char *input, int axis) {
    bool number = d->has_dim_value && d->dim_value >= 0;
    if (number && !m->o->symbolic) return expr_int(m->c, d->dim_value);
    if (!*d->dim_param)
        return dims_open(m, g, gd_format(m->c, "%.32s_dim%d", input, axis), number && !d->dim_value ? 0 : 1);
    Expr *e = map_gets(m->named, d->dim_param);
    if (!e) {
        e = dims_open(m, g, d->dim_param, 1);
        map_puts(m->named, d->dim_param, e);
    }
    return e;
}

static Expr *element_dim(Model *m, Graph *g, const PbDim *d) {
    if (d->has_dim_value && d->dim_value >= 0) return expr_int(m->c, d->dim_value);
    return expr_var(m->c, graph_data_symbol(g, front_identifier(m->c, d->dim_param, "D"), NULL));
}

/* ---- types ---- */

typedef struct Shape {
    DType dt;
    bool sequence, optional;
    const PbShape *shape;
} Shape;

static const char *const no_map = "only tensors, and sequences and optionals of tensors, can be compiled";

/* Looks through sequence and optional; false after an error. */
static bool flatten(Model *m, const char *what, const PbType *t, Shape *s) {
    *s = (Shape){.dt = DT_NONE};
    if (t && t->optional_type) {
        s->optional = true;
        t = t->optional_type->elem_type;
    }
    if (t && t->sequence_type) {
        s->sequence = true;
        t = t->sequence_type->elem_type;
    }
    if (!t || !t->tensor_type) {
        const char *is = !t                                     ? "no type"
                         : t->map_type                          ? "a map"
                         : t->sparse_tensor_type                ? "a sparse tensor"
                         : t->opaque_type                       ? "an opaque type"
                         : t->sequence_type || t->optional_type ? "a nested type"
                                                                : "no type";
        gd_error(m->c, 402, no_map, "%s is %s", what, is);
        return false;
    }
    s->dt = gd_dtype_from_onnx(t->tensor_type->elem_type);
    s->shape = t->tensor_type->shape;
    if (s->dt == DT_NONE)
        gd_error(m->c, 207, NULL, "%s: there is no data type %d", what, t->tensor_type->elem_type);
    if (s->shape && s->shape->n_dim > MAX_RANK) {
        gd_error(m->c, 402, NULL, "%s has %zu axes; at most %d can be compiled", what, s->shape->n_dim,
                 MAX_RANK);
        return false;
    }
    return s->dt != DT_NONE;
}

/* The bytes of a tensor of these dims, open ones counted once, must be a size. */
static bool size_fits(Model *m, const char *what, DType dt, int rank, Expr *const *dim) {
    int64_t bytes = gd_dtypes[dt].bytes, k;
    for (int i = 0; i < rank; i++)
        if (is_int(dim[i], &k) && k > 0 && __builtin_mul_overflow(bytes, k, &bytes)) {
            gd_error(m->c, 505, NULL, "%s: its size overflows", what);
            return false;
        }
    return true;
}

Value *type_input(Model *m, Graph *g, const PbValueInfo *v) {
    Ctx *c = m->c;
    Shape s;
    Expr *dim[MAX_RANK];
    const char *name = gd_escape(c, v->name, strlen(v->name)), *what = gd_format(c, "input \"%s\"", name);
    if (!flatten(m, what, v->type, &s)) return NULL;
    if (!s.shape && !s.sequence) {
        gd_error(
            c, 402,
            "export the model with the shapes of its inputs; sizes may stay open, the number of axes may not",
            "%s has no shape", what);
        return NULL;
    }
    int rank = s.shape ? (int)s.shape->n_dim : -1;
    for (int i = 0; i < rank; i++)
        dim[i] =
            s.sequence ? element_dim(m, g, s.shape->dim[i]) : input_dim(m, g, s.shape->dim[i], v->name, i);
    if (!size_fits(m, what, s.dt, rank, dim)) return NULL;
    Value *in = graph_input(g, name, s.dt, rank, dim);
    in->sequence = s.sequence;
    in->optional = s.optional;
    return in;
}

bool type_agrees(Model *m, const char *what, const Value *v, const PbType *t, bool axes) {
    Shape s;
    if (!t || (!t->tensor_type && !t->sequence_type && !t->optional_type)) return true; /* nothing is said */
    if (!flatten(m, what, t, &s)) return false;
    bool rank = !axes || v->sequence || !s.shape || v->rank == (int)s.shape->n_dim;
    if (v->dt == s.dt && v->sequence == s.sequence && rank) return true;
    gd_error(m->c, v->dt == s.dt ? 301 : 302, NULL, "%s is declared as %s%s%s of %d axes, but it is %s", what,
             s.optional ? "optional " : "", s.sequence ? "sequence of " : "", gd_dtypes[s.dt].name,
             s.shape ? (int)s.shape->n_dim : -1, value_type_text(m->c, v));
    return false;
}

void type_hint(Model *m, Graph *g, const Value *v, const PbValueInfo *p) {
    const PbType *t = p->type;
    const PbShape *s = t && t->tensor_type ? t->tensor_type->shape : NULL;
    if (!s || (int)s->n_dim != v->rank) return;
    for (int i = 0; i < v->rank; i++) {
        const char *name = s->dim[i]->dim_param;
        Var *x = v->dim[i]->kind == E_VAR ? v->dim[i]->var : NULL;
        if (!*name || !x || !x->data || map_getp(m->hinted, x) || map_gets(m->named, name)) continue;
        graph_rename(g, x, front_identifier(m->c, name, "D"));
        map_putp(m->hinted, x, x);
    }
}

bool type_attr(Model *m, const PbType *t, ImportAttr *out) {
    Shape s;
    if (!flatten(m, gd_format(m->c, "attribute %s", out->name), t, &s)) return false;
    int rank = s.shape ? (int)s.shape->n_dim : -1;
    out->type = s.dt;
    out->sequence = s.sequence;
    out->tensor =
        (ImportTensor){.dt = s.dt, .rank = rank, .dims = gd_new_array(m->c, int64_t, rank > 0 ? rank : 1)};
    for (int i = 0; i < rank; i++) {
        const PbDim *d = s.shape->dim[i];
        out->tensor.dims[i] = d->has_dim_value && d->dim_value >= 0 ? d->dim_value : -1;
    }
    return true;
}
