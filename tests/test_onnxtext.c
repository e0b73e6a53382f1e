/* The ONNX text syntax: what it says is what the structs hold, errors name line and column, and every model
   printed as text reads back as the same model (all of a directory of models when GRADC_DATA names one). */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <ftw.h>
#include "onnx.h"

static char message[1024];

/* Runs body in a Ctx of its own; the code of the first error, 0 for none. */
static int attempt(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    gd_enter(c, body, arg);
    int code = gd_error_count(c) ? gd_diag(c, 0)->code : 0;
    snprintf(message, sizeof message, "%s", code ? gd_diag(c, 0)->message : "");
    gd_close(c);
    return code;
}

/* ---- what is read ---- */

static const char everything[] =
    "<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1], producer_name: \"a \\\"test\\\"\", "
    "model_version: -3,\n"
    " metadata_props: [\"key\": \"value\", \"k\": \"\"]>\n"
    "agraph (float[N, 128] X, float[\"M + 1\",?] \"input/1\", float s = {1.5}, seq(optional(int64[])) q, "
    "\"seq\")\n"
    "    => (float[N] C, map(string, float[2]) m, sparse_tensor(double[3]) sp, opaque(a.b,C) o)\n"
    "<float[2] b = {1.0, -2e-1}, int4[3] w = {1, -2, 7}, float[3,2] e = [\"location\": \"w.bin\", "
    "\"offset\": \"17\"],\n"
    " uint64 u = {18446744073709551615}, string[2] t = {\"x\", \"y\\\\\"}, float[4] T>\n"
    "{ # a comment\n"
    "  T = MatMul(X, \"input/1\")\n"
    "  [\"node 2\"] S, _ = Add <axis = 1, f : float = 2, g = 0.5, h = [1, 2], i = [0.5, inf, -nan], j = "
    "\"s\", k = [\"a\", \"b\"],\n"
    "     e : ints = [], l = float[2] {1, 2}, n = float[2] name = {3, 4}, y = seq(float[2]), r : ints = "
    "@attr, p = @other> (T, , b)\n"
    "  C = local.sub.Op:two (,) <then_branch = g1 () => (float z) { z = Identity(T) }, gs = [a () => () {}, "
    "\"b-c\" () => () {}]>\n"
    "}\n"
    "<opset_import: [\"\" : 10], domain: \"local\", doc_string: \"square\">\n"
    "square <alpha: float = 4.0, gamma> (x, float[N] y) => (z) <float[N] t> { z = Mul(x, x) }\n";

static void check_everything(Ctx *c, void *arg) {
    (void)arg;
    PbModel *m = pb_model_text(c, everything, sizeof everything - 1);
    PbGraph *g = m->graph;
    assert_int_equal(m->ir_version, 8);
    assert_int_equal(m->model_version, -3);
    assert_int_equal(m->n_opset_import, 2);
    assert_string_equal(m->opset_import[1]->domain, "local");
    assert_string_equal(m->producer_name, "a \"test\"");
    assert_string_equal(m->metadata_props[0]->value, "value");
    assert_int_equal(g->n_input, 5);
    assert_string_equal(g->input[0]->type->tensor_type->shape->dim[0]->dim_param, "N");
    assert_int_equal(g->input[0]->type->tensor_type->shape->dim[1]->dim_value, 128);
    assert_string_equal(g->input[1]->name, "input/1");
    assert_string_equal(g->input[1]->type->tensor_type->shape->dim[0]->dim_param, "M + 1");
    assert_false(g->input[1]->type->tensor_type->shape->dim[1]->has_dim_value);
    assert_int_equal(g->input[2]->type->tensor_type->shape->n_dim, 0);
    assert_null(g->input[3]->type->sequence_type->elem_type->optional_type->elem_type->tensor_type->shape);
    assert_null(g->input[4]->type);
    assert_int_equal(g->n_output, 4);
    assert_int_equal(g->output[1]->type->map_type->key_type, 8);
    assert_int_equal(g->output[2]->type->sparse_tensor_type->elem_type, 11);
    assert_string_equal(g->output[3]->type->opaque_type->domain, "a.b");
    assert_int_equal(g->n_value_info, 1);
    assert_int_equal(g->n_initializer, 6);
    static const char *const data[] = {"s f32[] = 1.5\n",
                                       "b f32[2] = [1, -0.2]\n",
                                       "w i4[3] = [1, -2, 7]\n",
                                       NULL,
                                       "u u64[] = 18446744073709551615\n",
                                       "t string[2] = [\"x\", \"y\\\\\"]\n"};
    for (size_t i = 0; i < 6; i++) {
        GradcTensor t;
        char *text = NULL;
        size_t n;
        if (!data[i]) continue;
        assert_true(pb_tensor(pb_source(c, NULL), g->initializer[i], "t", &t));
        FILE *f = open_memstream(&text, &n);
        gradc_tensor_print(f, g->initializer[i]->name, &t, 100);
        fclose(f);
        assert_string_equal(text, data[i]);
        free(text);
    }
    assert_int_equal(g->initializer[3]->data_location, 1);
    assert_string_equal(g->initializer[3]->external_data[1]->value, "17");

    PbNode *n = g->node[1];
    assert_int_equal(g->n_node, 3);
    assert_string_equal(n->name, "node 2");
    assert_string_equal(n->output[1], "_");
    assert_int_equal(n->n_input, 3);
    assert_string_equal(n->input[1], "");
    static const AttrType kinds[] = {PA_INT,    PA_FLOAT,   PA_FLOAT,    PA_INTS,   PA_FLOATS,
                                     PA_STRING, PA_STRINGS, PA_INTS,     PA_TENSOR, PA_TENSOR,
                                     PA_TYPE,   PA_INTS,    PA_UNDEFINED};
    assert_int_equal(n->n_attribute, 13);
    for (size_t i = 0; i < 13; i++) assert_int_equal(pb_attr_type(n->attribute[i]), kinds[i]);
    assert_true(n->attribute[1]->f == 2);
    assert_int_equal(n->attribute[3]->ints[1], 2);
    assert_true(n->attribute[4]->floats[1] > 1e38f &&
                n->attribute[4]->floats[2] != n->attribute[4]->floats[2]);
    assert_string_equal(n->attribute[9]->t->name, "name");
    assert_string_equal(n->attribute[11]->ref_attr_name, "attr");
    n = g->node[2];
    assert_string_equal(n->domain, "local.sub");
    assert_string_equal(n->op_type, "Op");
    assert_string_equal(n->overload, "two");
    assert_int_equal(n->n_input, 1);
    assert_string_equal(n->attribute[0]->g->node[0]->op_type, "Identity");
    assert_int_equal(n->attribute[1]->n_graphs, 2);
    assert_string_equal(n->attribute[1]->graphs[1]->name, "b-c");

    PbFunction *f = m->functions[0];
    assert_int_equal(m->n_functions, 1);
    assert_string_equal(f->domain, "local");
    assert_string_equal(f->attribute[0], "gamma");
    assert_string_equal(f->attribute_proto[0]->name, "alpha");
    assert_int_equal(f->n_input, 2);
    assert_int_equal(f->n_value_info, 2); /* y and t */
    assert_int_equal(f->n_node, 1);
}

static void it_says_what_is_meant(void **state) {
    (void)state;
    int code = attempt(check_everything, NULL);
    if (code) fail_msg("E%d %s", code, message);
}

/* ---- what is refused ---- */

static void read_text(Ctx *c, void *arg) { pb_model_text(c, arg, strlen(arg)); }

static const struct { const char *text, *message;
} refused[] = {
    {"", "line 1, column 1: a name is expected, but the text ends"},
    {"<ir_version: 8>\n", "line 2, column 1: a name is expected, but the text ends"},
    {"<version: 8> g () => () {}", "line 1, column 2: a key of the model (ir_version, opset_import, "
                                   "producer_name, ...) is expected, not \"version\""},
    {"<ir_version: x> g () => () {}", "line 1, column 14: an integer is expected, not \"x\""},
    {"<ir_version: 8.5> g () => () {}", "line 1, column 14: an integer is expected"},
    {"<ir_version: 9223372036854775808> g () => () {}", "line 1, column 14: this does not fit in 64 bits"},
    {"g () -> () {}", "line 1, column 6: = is expected, not \"-\""},
    {"g () = > () {}", "line 1, column 8: => is expected, not \">\""},
    {"g (float[N X) => () {}", "line 1, column 12: ] is expected, not \"X\""},
    {"g (float[-] X) => () {}", "line 1, column 11: a number is expected, not \"]\""},
    {"g (float[*] X) => () {}", "line 1, column 10: a size, a name or ? is expected, not \"*\""},
    {"g (seq(x) X) => () {}", "line 1, column 8: a type is expected, not \"x\""},
    {"g (float[N] x = {1}) => () {}", "line 1, column 16: the dims of a constant have to be numbers"},
    {"g (x = {1}) => () {}", "line 1, column 7: a constant needs a tensor type with a shape"},
    {"g () => () <float x = 1> {}", "line 1, column 23: { is expected, not \"1\""},
    {"g () => () <float16 x = {1.0}> {}",
     "line 1, column 26: elements of float16 are written as the integers of their bits"},
    {"g () => () <int4[1] x = {8}> {}", "line 1, column 26: this does not fit in int4"},
    {"g () => () <uint2[1] x = {-1}> {}", "line 1, column 27: this does not fit in uint2"},
    {"g () => () <uint64 x = {-1}> {}", "line 1, column 25: this does not fit in uint64"},
    {"g () => () <int8 x = {99999999999}> {}", "line 1, column 23: this does not fit in 32 bits"},
    {"g () => () <float x = {1e}> {}", "line 1, column 26: digits of an exponent are expected"},
    {"g () => () { x = }", "line 1, column 18: an operator is expected, not \"}\""},
    {"g () => () {\n  x Add(y)\n}", "line 2, column 5: = is expected, not \"Add\""},
    {"g () => () { x = A <a> () }", "line 1, column 22: = is expected, not \">\""},
    {"g () => () { x = A <a = > () }", "line 1, column 25: a value is expected, not \">\""},
    {"g () => () { x = A <a = []> () }", "line 1, column 26: an empty list needs the type of its elements"},
    {"g () => () { x = A <a : int = []> () }",
     "line 1, column 32: a list where one value of kind int is expected"},
    {"g () => () { x = A <a : int = 1.5> () }",
     "line 1, column 31: attribute a: a value of kind int is expected, not one of kind float"},
    {"g () => () { x = A <a = [1, 2.5]> () }",
     "line 1, column 29: attribute a: a value of kind int is expected, not one of kind float"},
    {"g () => () { x = A <a : what = 1> () }",
     "line 1, column 25: the type of an attribute (float, int, string, tensor, graph, floats, ...) is "
     "expected, not \"what\""},
    {"g () => () { x = A <a = \"open> () }", "line 1, column 25: the closing \" of this string is missing"},
    {"g () => () { \"\xc3\xa9\xc3\xa9\" A() }", "line 1, column 19: = is expected, not \"A\""},
    {"g () => () {} <domain: 3> f () => () {}",
     "line 1, column 24: a string in quotes is expected, not \"3\""},
    {"g () => () {} <ir_version: 3> f () => () {}",
     "line 1, column 16: opset_import, domain, overload or doc_string is expected, not \"ir_version\""},
    {"g () => () {} }", "line 1, column 15: a name is expected, not \"}\""},
};

static void errors_name_the_place(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int code = attempt(read_text, (void *)refused[i].text);
        assert_string_equal(message, refused[i].message);
        assert_int_equal(code, 104);
    }
}

static void read_zero(Ctx *c, void *arg) { (void)arg; pb_model_text(c, "g\0", 2); }
static void read_prefix(Ctx *c, void *n) {
    pb_model_text(c, gd_strndup(c, everything, *(size_t *)n), *(size_t *)n);
}

/* Cut anywhere, the text is an error or (before the function) a shorter model; deep nesting is a limit. */
static void hostile_text(void **state) {
    (void)state;
    assert_int_equal(attempt(read_zero, NULL), 104);
    size_t whole = sizeof everything - 1;
    for (size_t n = 0; n < whole; n++) {
        int code = attempt(read_prefix, &n);
        assert_true(code == 104 || (n > whole - 200 && !code));
    }
    char *deep = malloc(300000), *p = deep;
    p += sprintf(p, "g (");
    for (int i = 0; i < 50000; i++) p += sprintf(p, "seq(");
    assert_int_equal(attempt(read_text, deep), 504);
    for (p = deep; p < deep + 290000;) p += sprintf(p, "g () => () { x = A <a = ");
    assert_int_equal(attempt(read_text, deep), 504);
    free(deep);
}

/* ---- there and back ---- */

/* NaNs are equal whatever their payload. */
static bool same_float(float a, float b) { return !memcmp(&a, &b, sizeof a) || (a != a && b != b); }
static bool same_double(double a, double b) { return !memcmp(&a, &b, sizeof a) || (a != a && b != b); }

static void compare_types(const PbType *a, const PbType *b) {
    assert_int_equal(!a, !b);
    if (!a) return;
    size_t n = protobuf_c_message_get_packed_size(&a->base), k = protobuf_c_message_get_packed_size(&b->base);
    uint8_t *x = malloc(n + 1), *y = malloc(k + 1);
    protobuf_c_message_pack(&a->base, x);
    protobuf_c_message_pack(&b->base, y);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static void compare_values(PbValueInfo *const *a, size_t n, PbValueInfo *const *b, size_t k) {
    assert_int_equal(n, k);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(a[i]->name, b[i]->name);
        compare_types(a[i]->type, b[i]->type);
    }
}

static bool same_element(const GradcTensor *a, const GradcTensor *b, size_t i, size_t size) {
    switch (a->dtype) {
    case GRADC_F32: return same_float(((float *)a->data)[i], ((float *)b->data)[i]);
    case GRADC_F64: return same_double(((double *)a->data)[i], ((double *)b->data)[i]);
    case GRADC_STRING: return !strcmp(((const char **)a->data)[i], ((const char **)b->data)[i]);
    default: return !memcmp((const char *)a->data + i * size, (const char *)b->data + i * size, size);
    }
}

static void compare_tensors(Ctx *c, PbTensor *a, PbTensor *b) {
    GradcTensor x, y;
    assert_true(pb_tensor(pb_source(c, NULL), a, a->name, &x));
    assert_true(pb_tensor(pb_source(c, NULL), b, b->name, &y));
    assert_string_equal(a->name, b->name);
    assert_int_equal(x.dtype, y.dtype);
    assert_int_equal(x.rank, y.rank);
    assert_memory_equal(x.dims, y.dims, sizeof x.dims);
    for (size_t i = 0; i < gradc_tensor_count(&x); i++)
        assert_true(same_element(&x, &y, i, gradc_dtype_size(x.dtype)));
}

static void compare_graphs(Ctx *c, PbGraph *a, PbGraph *b);

static void compare_attrs(Ctx *c, PbAttr *a, PbAttr *b) {
    assert_string_equal(a->name, b->name);
    assert_string_equal(a->ref_attr_name, b->ref_attr_name);
    assert_int_equal(pb_attr_type(a), pb_attr_type(b));
    if (*a->ref_attr_name) return;
    switch (pb_attr_type(a)) {
    case PA_TENSOR: compare_tensors(c, a->t, b->t); return;
    case PA_GRAPH: compare_graphs(c, a->g, b->g); return;
    case PA_TYPE: compare_types(a->tp, b->tp); return;
    case PA_INT: assert_int_equal(a->i, b->i); return;
    case PA_FLOAT: assert_true(same_float(a->f, b->f)); return;
    case PA_STRING:
        assert_int_equal(a->s.len, b->s.len);
        assert_memory_equal(a->s.data, b->s.data, a->s.len);
        return;
    case PA_INTS:
        assert_int_equal(a->n_ints, b->n_ints);
        for (size_t i = 0; i < a->n_ints; i++) assert_int_equal(a->ints[i], b->ints[i]);
        return;
    case PA_FLOATS:
        assert_int_equal(a->n_floats, b->n_floats);
        for (size_t i = 0; i < a->n_floats; i++) assert_true(same_float(a->floats[i], b->floats[i]));
        return;
    case PA_STRINGS:
        assert_int_equal(a->n_strings, b->n_strings);
        for (size_t i = 0; i < a->n_strings; i++) assert_int_equal(a->strings[i].len, b->strings[i].len);
        return;
    default: fail_msg("an attribute of kind %d", a->type);
    }
}

static void compare_nodes(Ctx *c, PbNode *const *a, size_t n, PbNode *const *b, size_t k) {
    assert_int_equal(n, k);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(a[i]->name, b[i]->name);
        assert_string_equal(a[i]->op_type, b[i]->op_type);
        assert_string_equal(a[i]->domain, b[i]->domain);
        assert_int_equal(a[i]->n_input, b[i]->n_input);
        assert_int_equal(a[i]->n_output, b[i]->n_output);
        for (size_t j = 0; j < a[i]->n_input; j++) assert_string_equal(a[i]->input[j], b[i]->input[j]);
        for (size_t j = 0; j < a[i]->n_output; j++) assert_string_equal(a[i]->output[j], b[i]->output[j]);
        assert_int_equal(a[i]->n_attribute, b[i]->n_attribute);
        for (size_t j = 0; j < a[i]->n_attribute; j++)
            compare_attrs(c, a[i]->attribute[j], b[i]->attribute[j]);
    }
}

static void compare_graphs(Ctx *c, PbGraph *a, PbGraph *b) {
    assert_string_equal(a->name, b->name);
    compare_values(a->input, a->n_input, b->input, b->n_input);
    compare_values(a->output, a->n_output, b->output, b->n_output);
    compare_values(a->value_info, a->n_value_info, b->value_info, b->n_value_info);
    assert_int_equal(a->n_initializer, b->n_initializer);
    for (size_t i = 0; i < a->n_initializer; i++) compare_tensors(c, a->initializer[i], b->initializer[i]);
    compare_nodes(c, a->node, a->n_node, b->node, b->n_node);
}

static void compare_models(Ctx *c, PbModel *a, PbModel *b) {
    assert_int_equal(a->ir_version, b->ir_version);
    assert_int_equal(a->n_opset_import, b->n_opset_import);
    for (size_t i = 0; i < a->n_opset_import; i++) {
        assert_string_equal(a->opset_import[i]->domain, b->opset_import[i]->domain);
        assert_int_equal(a->opset_import[i]->version, b->opset_import[i]->version);
    }
    compare_graphs(c, a->graph, b->graph);
    assert_int_equal(a->n_functions, b->n_functions);
    for (size_t i = 0; i < a->n_functions; i++) {
        PbFunction *f = a->functions[i], *g = b->functions[i];
        assert_string_equal(f->name, g->name);
        assert_int_equal(f->n_input, g->n_input);
        assert_int_equal(f->n_attribute, g->n_attribute);
        assert_int_equal(f->n_attribute_proto, g->n_attribute_proto);
        compare_nodes(c, f->node, f->n_node, g->node, g->n_node);
    }
}

static void print_and_read(Ctx *c, void *path) {
    PbModel *m = pb_model_file(c, path);
    Text *t = text_new(c);
    pb_print(t, m);
    compare_models(c, m, pb_model_text(c, t->s, t->n));
}

static void print_text_again(Ctx *c, void *arg) {
    (void)arg;
    PbModel *m = pb_model_text(c, everything, sizeof everything - 1);
    m->graph->n_initializer = 0; /* external data cannot be compared here */
    m->graph->node[2]->n_attribute = 1;
    Text *t = text_new(c), *again = text_new(c);
    pb_print(t, m);
    PbModel *back = pb_model_text(c, t->s, t->n);
    compare_models(c, m, back);
    pb_print(again, back);
    assert_string_equal(t->s, again->s);
}

static const char *example(void) {
    static char path[4096];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 64, "../examples/fashion_cnn/fashion_cnn.onnx");
    return path;
}

static int models;
static int each_file(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)ftw;
    size_t n = strlen(path);
    if (type != FTW_F || n < 5 || strcmp(path + n - 5, ".onnx")) return 0;
    int code = attempt(print_and_read, (void *)path);
    if (code && code != 402) fail_msg("%s: E%d %s", path, code, message);
    models += !code;
    return 0;
}

static void there_and_back(void **state) {
    (void)state;
    int code = attempt(print_text_again, NULL);
    if (code) fail_msg("E%d %s", code, message);
    code = attempt(print_and_read, (void *)example());
    if (code) fail_msg("E%d %s", code, message);
    const char *data = getenv("GRADC_DATA");
    if (!data || !*data) return;
    nftw(data, each_file, 20, FTW_PHYS);
    print_message("%d models printed and read back\n", models);
    assert_true(models > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_says_what_is_meant),
                                       cmocka_unit_test(errors_name_the_place),
                                       cmocka_unit_test(hostile_text), cmocka_unit_test(there_and_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
