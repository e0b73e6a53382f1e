/* Values in files of their own, as ONNX's test data has them: `.pb` files of a tensor, a sequence or an
   optional. Recursion over a value's nesting ends where pb_unpack's limit on nested messages does. */
#include "onnx.h"
#include <stdlib.h>

typedef struct File { PbSource *s; Ctx *c; } File;

static void read_sequence(File *f, Onnx__SequenceProto *q, PbValue *v);
static void read_optional(File *f, Onnx__OptionalProto *o, PbValue *v);

static void read_tensor(File *f, PbTensor *t, PbValue *v) {
    v->kind = VK_TENSOR;
    v->name = t->name;
    if (!pb_tensor(f->s, t, "the tensor", &v->tensor)) gd_leave(f->c);
}

static void read_sparse(File *f, PbSparse *t, PbValue *v) {
    v->kind = VK_TENSOR;
    v->name = t->values ? t->values->name : "";
    if (!pb_sparse(f->s, t, "the tensor", &v->tensor)) gd_leave(f->c);
}

static GD_NORETURN void unreadable(File *f, int kind) {
    gd_fail(f->c, 402, "tensors, sequences and optionals are", "elements of kind %d are not read", kind);
}

/* Which list the elements are in is said by elem_type; a writer that left it out is understood as well. */
static void read_sequence(File *f, Onnx__SequenceProto *q, PbValue *v) {
    int kind = q->elem_type                ? q->elem_type
               : q->n_sequence_values      ? VK_SEQUENCE
               : q->n_optional_values      ? VK_OPTIONAL
               : q->n_sparse_tensor_values ? VK_SPARSE
                                           : VK_TENSOR;
    size_t n = kind == VK_TENSOR ? q->n_tensor_values : kind == VK_SPARSE ? q->n_sparse_tensor_values
             : kind == VK_SEQUENCE ? q->n_sequence_values : kind == VK_OPTIONAL ? q->n_optional_values : 0;
    if (kind == VK_MAP || kind > VK_OPTIONAL || kind < 0) unreadable(f, kind);
    v->kind = VK_SEQUENCE;
    v->name = q->name;
    v->item = gd_new_array(f->c, PbValue, n);
    v->n = (int)n;
    for (size_t i = 0; i < n; i++) {
        if (kind == VK_TENSOR) read_tensor(f, q->tensor_values[i], &v->item[i]);
        else if (kind == VK_SPARSE) read_sparse(f, q->sparse_tensor_values[i], &v->item[i]);
        else if (kind == VK_SEQUENCE) read_sequence(f, q->sequence_values[i], &v->item[i]);
        else read_optional(f, q->optional_values[i], &v->item[i]);
    }
}

static void read_optional(File *f, Onnx__OptionalProto *o, PbValue *v) {
    v->kind = VK_OPTIONAL;
    v->name = o->name;
    v->item = gd_new(f->c, PbValue);
    if (o->tensor_value) read_tensor(f, o->tensor_value, v->item);
    else if (o->sparse_tensor_value) read_sparse(f, o->sparse_tensor_value, v->item);
    else if (o->sequence_value) read_sequence(f, o->sequence_value, v->item);
    else if (o->optional_value) read_optional(f, o->optional_value, v->item);
    else if (o->elem_type == VK_MAP) unreadable(f, o->elem_type);
    else return;
    v->n = 1;
}

void pb_value_file(Ctx *c, const char *path, ValueKind kind, PbValue *out) {
    size_t n;
    File f = {pb_source(c, path), c};
    *out = (PbValue){.name = ""};
    const char *where = gd_where(c), *bytes = gd_read_file(c, path, SIZE_MAX, &n);
    gd_set_where(c, path);
    void *m = pb_unpack(c,
                        kind == VK_SEQUENCE   ? &onnx__sequence_proto__descriptor
                        : kind == VK_OPTIONAL ? &onnx__optional_proto__descriptor
                                              : &onnx__tensor_proto__descriptor,
                        bytes, n);
    if (kind == VK_SEQUENCE) read_sequence(&f, m, out);
    else if (kind == VK_OPTIONAL) read_optional(&f, m, out);
    else read_tensor(&f, m, out);
    gd_set_where(c, where);
}

/* ---- as a value of a command line ---- */

typedef struct Call { const char *path; GradcTensor *to; GradcError *e; int status; } Call;

static void read_and_copy(Ctx *c, void *arg) {
    Call *call = arg;
    PbValue v;
    pb_value_file(c, call->path, VK_TENSOR, &v);
    call->status = gradc_tensor_copy(call->to, &v.tensor, call->e);
}

int pb_read_value(GradcTensor *t, const char *path, int dtype, GradcError *e) {
    size_t n = strlen(path);
    if (n < 3 || strcmp(path + n - 3, ".pb")) return gradc_npy_read(t, path, dtype, e);
    *t = (GradcTensor){0};
    Call call = {path, t, e, 0};
    Ctx *c = gd_open(NULL);
    if (!c) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    int status = gd_enter(c, read_and_copy, &call);
    if (status) {
        const Diag *d = gd_diag(c, 0);
        gradc_error(e, d->code, d->help, "%s", d->message);
    }
    gd_close(c);
    return status ? status : call.status;
}
