/* The ONNX importer: models written as ONNX text become graphs, faulty ones come back with all their
   problems, and hostile ones do no harm. With GRADC_DATA every model below it is imported and read back from
   its own graph text. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <ftw.h>
#include "frontend.h"
#include "onnx.h"
#include "passes.h"

typedef struct Job {
    FrontFile file;
    FrontOptions options;
    void (*edit)(Ctx *, PbModel *); /* of the model between reading and importing */
    const char *printed;
} Job;

static void import(Ctx *c, void *arg) {
    Job *j = arg;
    FrontFile f = j->file;
    gd_set_stage(c, "import");
    if (j->edit) { /* through the file's own form */
        PbModel *m = pb_model_text(c, f.bytes, f.n);
        j->edit(c, m);
        f.n = onnx__model_proto__get_packed_size(m);
        f.bytes = gd_alloc_aligned(c, f.n);
        onnx__model_proto__pack(m, (uint8_t *)f.bytes);
        f.format = FF_ONNX;
    }
    Graph *g = front_graph(c, &f, &j->options);
    graph_verify(g);
    Text *t = text_new(c);
    graph_print(t, g);
    j->printed = t->s;
}

static void reparse(Ctx *c, void *arg) {
    Job *j = arg;
    Graph *g = graph_parse(c, j->file.bytes, j->file.n);
    graph_verify(g);
    Text *t = text_new(c);
    graph_print(t, g);
    j->printed = t->s;
}

/* The text of a graph says all of it. */
static void reads_back(const char *text) {
    Ctx *c = gd_open(NULL);
    Job j = {.file = {.path = "-", .bytes = (char *)text, .n = strlen(text)}};
    if (gd_enter(c, reparse, &j)) fail_msg("%s\n%s", gd_diag(c, 0)->message, text);
    assert_string_equal(j.printed, text);
    gd_close(c);
}

#define OPSET "<ir_version: 8, opset_import: [\"\" : 17]> "

static Job job_of(const char *model) {
    const char *text = *model == '<' ? model : NULL;
    char *own = NULL;
    if (!text && asprintf(&own, OPSET "%s", model) < 0) abort();
    if (!own) own = strdup(text);
    return (Job){.file = {.path = "model.onnx", .format = FF_ONNX_TEXT, .bytes = own, .n = strlen(own)}};
}

/* The model becomes this graph. */
static void gives_by(const char *model, FrontOptions options, const char *graph) {
    Ctx *c = gd_open(NULL);
    Job j = job_of(model);
    j.options = options;
    if (gd_enter(c, import, &j)) fail_msg("E%d %s\n%s", gd_diag(c, 0)->code, gd_diag(c, 0)->message, model);
    assert_string_equal(j.printed, graph);
    reads_back(j.printed);
    free(j.file.bytes);
    gd_close(c);
}
static void gives(const char *model, const char *graph) {
    gives_by(model, (FrontOptions){.prefix = "g"}, graph);
}

/* The model has exactly these problems: lines "E201 part of the message". */
static void has_by(const char *model, FrontOptions options, const char *problems) {
    Ctx *c = gd_open(&(Budget){.max_nodes = 20000});
    Job j = job_of(model);
    j.options = options;
    assert_int_not_equal(gd_enter(c, import, &j), EXIT_OK);
    int n = 0;
    for (const char *s = problems; *s; n++) {
        size_t len = strcspn(s, "\n");
        char *want = strndup(s + 5, len - 5);
        const Diag *d = n < gd_error_count(c) ? gd_diag(c, n) : NULL;
        if (!d || d->code != atoi(s + 1) || !(strstr(d->message, want) || (d->help && strstr(d->help, want))))
            fail_msg("problem %d: E%d %s (%s)\nis not: %.*s\n", n, d ? d->code : 0, d ? d->message : "none",
                     d && d->help ? d->help : "", (int)len, s);
        free(want);
        s += len + (s[len] == '\n');
    }
    if (n != gd_error_count(c)) fail_msg("one more: %s", gd_diag(c, n)->message);
    free(j.file.bytes);
    gd_close(c);
}
static void has(const char *model, const char *problems) { has_by(model, (FrontOptions){0}, problems); }

/* ---- graphs ---- */

static void simple(void **state) {
    (void)state;
    gives("net (float[N,3] x, float[3] b) => (float[N,3] y) <float[3] w = {1, 2, 3}> { [\"first\"] t = "
          "Add(x, w)\n y = Mul(t, b) }",
          "graph g(x_1 \"x\": f32[N,3], b_2 \"b\": f32[3]) -> (\"y\": f32[N,3]) after import\n"
          "  where N in 1..inf\n{\n"
          "  const w_0 \"w\" #0: f32[3] = [1.0, 2.0, 3.0]\n"
          "  add_3 \"t\": f32[N,3] = add x_1, w_0 ; 0 Add \"first\"\n"
          "  mul_5 \"y\": f32[N,3] = mul add_3, b_2 ; 1 Mul\n"
          "  return mul_5\n}\n");
}

static void outputs_of_any_sort(void **state) {
    (void)state;
    gives("net (float[2] x) => (float[2] x, float[1] c, float[2] y, float[2] y2) <float[1] c = {4}>"
          " { y = Relu(x)\n y2 = Identity(y) }",
          "graph g(x_1 \"x\": f32[2]) -> (\"x\": f32[2], \"c\": f32[1], \"y\": f32[2], \"y2\": f32[2]) after "
          "import\n{\n"
          "  const c_0 \"c\" #0: f32[1] = [4.0]\n"
          "  relu_2 \"y\": f32[2] = relu x_1 ; 0 Relu\n"
          "  return x_1, c_0, relu_2, relu_2\n}\n");
}

/* An initializer with an input's name is a constant; an input that is given is one too. */
static void constants(void **state) {
    (void)state;
    gives("net (float[2] x, float[2] w = {5, 6}) => (float[2] y) { y = Add(x, w) }",
          "graph g(x_1 \"x\": f32[2]) -> (\"y\": f32[2]) after import\n{\n"
          "  const w_0 \"w\" #0: f32[2] = [5.0, 6.0]\n"
          "  add_2 \"y\": f32[2] = add x_1, w_0 ; 0 Add\n"
          "  return add_2\n}\n");
    GradcTensor t;
    GradcError e;
    assert_int_equal(gradc_tensor_new(&t, GRADC_I64, 1, (int64_t[]){2}, &e), 0);
    ((int64_t *)t.data)[0] = 3;
    ((int64_t *)t.data)[1] = 2;
    const GradcTensor *given[] = {NULL, &t};
    gives_by("net (float[N] x, int64[2] s) => (float[a,b] y) { y = Reshape(x, s) }",
             (FrontOptions){
                 .prefix = "g", .given = given, .ngiven = 2, .dims = (const char *const[]){"N=6", NULL}},
             "graph g(x_0 \"x\": f32[6]) -> (\"y\": f32[3,2]) after import\n{\n"
             "  const s_1 \"s\": i64[2] = [3, 2]\n"
             "  reshape_2 \"y\": f32[3,2] = reshape x_0 {dims=[3,2]} ; 0 Reshape\n"
             "  return reshape_2\n}\n");
    gradc_tensor_free(&t);
}

/* Sizes that only the data decides are named as the model names them. */
static void data_dims(void **state) {
    (void)state;
    gives("net (int64[1] s) => (float[boxes] y) { y = ConstantOfShape(s) }",
          "graph g(s_0 \"s\": i64[1]) -> (\"y\": f32[boxes]) after import\n{\n"
          "  const c_2: f32[] = [0.0]\n"
          "  read s_0 {syms=[boxes in -inf..inf]} ; 0 ConstantOfShape\n"
          "  broadcast_3 \"y\": f32[boxes] = broadcast c_2 {dims=[boxes]} ; 0 ConstantOfShape\n"
          "  return broadcast_3\n}\n");
}

static const char two[] =
    "net (float[N,M,?] x, float[N,2] y) => (float[N,2] z) { z = Relu(y)\n w = Relu(x) }";

static void open_dims(void **state) {
    (void)state;
    const char *const by_name[] = {"N=1..64", "x_dim2=0..inf", "M=7", NULL}, *const zero[] = {"N=8", "N=0",
                                                                                              NULL};
    const char *const bad[] = {"K=3", "N=x", "N=4..2", "=3", "N", "N=-1", NULL};
    gives_by(two, (FrontOptions){.prefix = "g", .dims = by_name},
             "graph g(x_0 \"x\": f32[N,7,x_dim2], y_1 \"y\": f32[N,2]) -> (\"z\": f32[N,2]) after import\n"
             "  where N in 1..64, x_dim2 in 0..inf\n{\n"
             "  relu_2 \"z\": f32[N,2] = relu y_1 ; 0 Relu\n"
             "  relu_4 \"w\": f32[N,7,x_dim2] = relu x_0 ; 1 Relu\n"
             "  return relu_2\n}\n");
    gives_by(two, (FrontOptions){.prefix = "g", .fixed = true, .dims = zero},
             "graph g(x_0 \"x\": f32[0,1,1], y_1 \"y\": f32[0,2]) -> (\"z\": f32[0,2]) after import\n{\n"
             "  relu_2 \"z\": f32[0,2] is [] = relu y_1 ; 0 Relu\n"
             "  relu_4 \"w\": f32[0,1,1] is [] = relu x_0 ; 1 Relu\n"
             "  return relu_2\n}\n");
    gives_by(two, (FrontOptions){.prefix = "g", .symbolic = true},
             "graph g(x_0 \"x\": f32[N,M,x_dim2], y_1 \"y\": f32[N,y_dim1]) -> (\"z\": f32[N,y_dim1]) after "
             "import\n"
             "  where N in 1..inf, M in 1..inf, x_dim2 in 1..inf, y_dim1 in 1..inf\n{\n"
             "  relu_2 \"z\": f32[N,y_dim1] = relu y_1 ; 0 Relu\n"
             "  relu_4 \"w\": f32[N,M,x_dim2] = relu x_0 ; 1 Relu\n"
             "  return relu_2\n}\n");
    has_by(two, (FrontOptions){.dims = bad},
           "E601 write NAME=8\nE601 --dim N=4..2\nE601 --dim =3\nE601 --dim N\nE601 --dim N=-1\nE601 the "
           "open dims are N, M, x_dim2");
}

/* ---- functions of the model ---- */

#define LOCAL "<ir_version: 8, opset_import: [\"\" : 17, \"l\" : 1]> "
#define BODY(text) "<domain: \"l\", opset_import: [\"\" : 17]> " text "\n"

static void functions(void **state) {
    (void)state;
    gives(LOCAL "net (float[2] x) => (float[2] y) { t = Relu(x)\n y = l.scaled <alpha = 0.5>(t, x)\n u = "
                "l.scaled(t) }\n" BODY("scaled <alpha: float = 0.25> (a, b) => (c) { t = LeakyRelu <alpha: "
                                       "float = @alpha>(a)\n c = l.twice(t) }")
                    BODY("twice (t) => (r) { one = Constant <value = float {2}>()\n r = Mul(t, one) }"),
          "graph g(x_0 \"x\": f32[2]) -> (\"y\": f32[2]) after import\n{\n"
          "  const one_5 \"one\": f32[] = [2.0]\n"
          "  const one_10 \"one\": f32[] = [2.0]\n"
          "  relu_1 \"t\": f32[2] = relu x_0 ; 0 Relu\n"
          "  leaky_relu_3 \"t\": f32[2] = leaky_relu relu_1 {alpha=0.5} ; 1/0 LeakyRelu\n"
          "  mul_6 \"r\": f32[2] = mul leaky_relu_3, one_5 ; 1/1/1 Mul\n"
          "  leaky_relu_8 \"t\": f32[2] = leaky_relu relu_1 {alpha=0.25} ; 2/0 LeakyRelu\n"
          "  mul_11 \"r\": f32[2] = mul leaky_relu_8, one_10 ; 2/1/1 Mul\n"
          "  return mul_6\n}\n");
    has(LOCAL "net (float[2] x) => (float[2] y) { y = l.f(x) }\n" BODY("f (a) => (b) { b = l.f(a) }"),
        "E504 functions are nested more than 64 deep");
    has(LOCAL "net (float[2] x) => (float[2] y) { y = l.f(x, x) }\n" BODY("f (a) => (b) { b = Relu(c) }"),
        "E205 node 0 l.f: the function has 1 inputs and 1 outputs, not 2 and 1\nE201 node 0/0 Relu uses "
        "\"c\"");
    has(LOCAL
        "net (float[2] x) => (float[2] y) { y = l.f <k = 2>(x) }\n" BODY("f <j> (a) => (b) { b = Relu(a) }"),
        "E204 node 0 l.f: the function has no attribute k");
    has("net (float[2] x) => (float[2] y) { y = LeakyRelu <alpha: float = @a>(x) }",
        "E204 attribute alpha refers to one of a function, but this is none");
}

/* A function that calls another twice, and so on: 2^40 nodes in a few lines. */
static void calls_are_counted(void **state) {
    (void)state;
    char text[8192];
    int n = snprintf(text, sizeof text, LOCAL "net (float[2] x) => (float[2] y) { y = l.f40(x) }\n");
    for (int i = 40; i > 0; i--)
        n += snprintf(text + n, sizeof text - (size_t)n,
                      BODY("f%d (a) => (c) { b = l.f%d(a)\n c = l.f%d(b) }"), i, i - 1, i - 1);
    snprintf(text + n, sizeof text - (size_t)n, BODY("f0 (a) => (c) { c = Identity(a) }"));
    has(text, "E502 more than 20000 nodes");
}

/* ---- graphs within nodes ---- */

static void subgraphs(void **state) {
    (void)state;
    gives("net (bool c, float[2] x) => (float[2] y) { t = Neg(x)\n"
          " y = If(c) <then_branch = a () => (float[2] u) { u = Add(t, x) }, else_branch = b () => (float[2] "
          "u) <float[2] k = {1, 2}>"
          " { t = Relu(x)\n u = Add(t, k) }>\n } ",
          "graph g(c_0 \"c\": bool[], x_1 \"x\": f32[2]) -> (\"y\": f32[2]) after import\n{\n"
          "  const k_6 \"k\" #0: f32[2] = [1.0, 2.0]\n"
          "  neg_2 \"t\": f32[2] = neg x_1 ; 0 Neg\n"
          "  if_11 \"y\": f32[2] = if c_0 {syms=[]} ; 1 If\n"
          "    region () {\n"
          "      add_4 \"u\": f32[2] = add neg_2, x_1 ; 1.then_branch/0 Add\n"
          "      yield add_4 \"u\"\n"
          "    }\n"
          "    region () {\n"
          "      relu_7 \"t\": f32[2] = relu x_1 ; 1.else_branch/0 Relu\n"
          "      add_9 \"u\": f32[2] = add relu_7, k_6 ; 1.else_branch/1 Add\n"
          "      yield add_9 \"u\"\n"
          "    }\n"
          "  return if_11\n}\n");
}

static void subgraph_faults(void **state) {
    (void)state;
    has("net (bool c, float[2] x) => (float[2] y) {\n"
        " y = If(c) <then_branch = a () => (float[2] u) { u = Add(x, later) }, else_branch = b () => "
        "(float[2] u) { u = Foo(x) }>\n"
        " later = Relu(x) }",
        "E203 node 0.then_branch/0 Add uses \"later\" before node 1 Relu makes it\n"
        "E401 node 0.else_branch/0 Foo: operator Foo of opset 17 is not supported");
    has("net (bool c, float[2] x) => (float[2] y) {\n"
        " z = Foo(x)\n"
        " y = If(z) <then_branch = a () => (float[2] u) { u = Bar(x) }, else_branch = b () => (float[2] u) { "
        "u = Relu(x) }> }",
        "E401 node 0 Foo\nE401 node 1.then_branch/0 Bar");
}

/* ---- problems ---- */

static void names(void **state) {
    (void)state;
    has("net (float[2] x) => (float[2] y) { y = Add(x, z) }",
        "E201 node 0 Add uses \"z\", which nothing makes");
    has("net (float[2] x) => (float[2] z) { y = Relu(x) }", "E201 output \"z\" uses \"z\"");
    has("net (float[2] x) => (float[2] y) { y = Relu(x)\n y = Neg(x) }",
        "E202 \"y\" is made twice: by node 0 Relu and by node 1 Neg");
    has("net (float[2] x, float[2] x) => (float[2] y) { y = Relu(x) }",
        "E202 \"x\" is made twice: by an input and by an input");
    has("net (float[2] x) => (float[2] y) { [\"a\"] x = Relu(x)\n y = Relu(x) }",
        "E202 by an input and by node 0 Relu \"a\"");
    has("net (float[2] x) => (float[2] y) { y = Add(x, b)\n b = Relu(x) }",
        "E203 node 0 Add uses \"b\" before node 1 Relu makes it");
    has("net (float[2] x) => (float[2] y) { a = Add(x, b)\n b = Relu(a)\n y = Neg(b) }",
        "E203 node 0 Add uses \"b\"");
    has("net (float[2] x) => (float[2] y) { y = Add(x, y) }",
        "E203 node 0 Add uses \"y\" before node 0 Add makes it");
}

static void operators(void **state) {
    (void)state;
    has("net (float[2] x) => (float[2] y) { [\"n\"] y = Foo(x) }",
        "E401 node 0 Foo \"n\": operator Foo of opset 17 is not supported");
    has("<ir_version: 8, opset_import: [\"\" : 17, \"com.microsoft\" : 1]> net (float[2] x) => (float[2] y) "
        "{ y = com.microsoft.Relu(x) }",
        "E401 the standard operator Relu is supported: export the model without this domain");
    has("<ir_version: 8, opset_import: [\"\" : 8]> net (float[2] x, int64[2] n) => (float[2] y) "
        "{ y = Scan<num_scan_inputs=1>(n, x) }",
        "E402 leave sequence_lens out");
    has("<ir_version: 8, opset_import: [\"\" : 29]> net (float[2] x) => (float[2] y) { y = Relu(x) }",
        "E401 opset 29 of ai.onnx is newer than what this program knows");
    has("<ir_version: 8> net (float[2] x) => (float[2] y) { y = Relu(x) }", "E204 does not say which opset");
    has("net (float[2] x) => (float[2] y) { y = Relu <slope = 1>(x) }",
        "E204 node 0 Relu: Relu of opset 17 has no attribute slope");
    has("net (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = \"1\">(x) }",
        "E204 attribute alpha: a float was expected, not a string");
    has("net (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 1.0, alpha = 2.0>(x) }",
        "E202 attribute alpha stands twice");
    has("net (float[2] x) => (float[2] y) { y = Relu(x, x) }", "E205 Relu takes 1 inputs, not 2");
    has("net (float[2] x) => (float[2] y) { y = Add(x, ) }", "E205 Add takes 2 inputs, not 1");
    has("net (float[2] x) => (float[2] y) { y = Add(, x) }", "E205 input 0 is left out");
    has("net (float[2] x) => (float[2] y) { y, z = Relu(x) }", "E402 output 1 (\"z\") is not supported");
}

/* A problem is said once, where it is; everything is looked at. */
static void all_at_once(void **state) {
    (void)state;
    has("net (float[2] x, float[3] w) => (float[2] y, float[2] q) {\n"
        " a = Foo(x)\n b = Relu(a)\n c = Bar(b)\n d = Add(b, c)\n e = Add(x, w)\n f = Mul(e, e)\n y = "
        "Concat(d, f)\n q = Baz(f) }",
        "E401 operator Foo\nE401 operator Bar\nE301 node 4 Add: dims 2 and 3 do not broadcast\nE401 operator "
        "Baz");
}

static void types(void **state) {
    (void)state;
    has("net (float x, map(string, float[2]) m) => (float[2] y) { y = Relu(m) }",
        "E402 input \"m\" is a map");
    has("net (seq(seq(float[2])) s) => (float[2] y) { y = Relu(s) }", "E402 input \"s\" is a nested type");
    has("net (sparse_tensor(float[2]) s) => (float[2] y) { y = Relu(s) }",
        "E402 input \"s\" is a sparse tensor");
    has("net (float[2] x) => (int64[2] y) { y = Relu(x) }",
        "E302 output \"y\" is declared as i64 of 1 axes, but it is f32[2]");
    gives("net (float[2] x) => (float[2,1] y) { y = Relu(x) }",
          "graph g(x_0 \"x\": f32[2]) -> (\"y\": f32[2]) after import\n{\n"
          "  relu_1 \"y\": f32[2] = relu x_0 ; 0 Relu\n  return relu_1\n}\n");
    has("net (float[2] x, int64[2] w = {1, 2}) => (float[2] y) <int64[2] v = {1}> { y = Relu(x) }",
        "E206 initializer \"v\"");
    has("net (float[4611686018427387904] x) => (float[N] y) { y = Relu(x) }",
        "E505 input \"x\": its size overflows");
    has("net (float[3000000000,3000000000] x) => (float[N] y) { y = Relu(x) }",
        "E505 input \"x\": its size overflows");
    has("net (float[3000000000,1] x, float[1,3000000000] z) => (float[N,M] y) { y = Add(x, z) }",
        "E505 node 0 Add: the size of");
    has("net (float[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1] x) => (float[N,M] y) { y = Add(x, x) }",
        "E402 input \"x\" has 17 axes");
}

static void without_shape(Ctx *c, PbModel *m) {
    (void)c;
    m->graph->input[0]->type->tensor_type->shape = NULL;
    m->graph->output[0]->type = NULL;
}

/* ---- hostile files ---- */

static const char hostile[] = "*/ \" \\ %n%s\n\r\t\x1b[31m ; } data \xff$(reboot)`x`";

static void rename_all(Ctx *c, PbModel *m) {
    PbGraph *g = m->graph;
    for (size_t i = 0; i < g->n_input; i++) {
        char *name = gd_format(c, "%s%zu", hostile, i);
        for (size_t k = 0; k < g->n_node; k++)
            for (size_t q = 0; q < g->node[k]->n_input; q++)
                if (!strcmp(g->node[k]->input[q], g->input[i]->name)) g->node[k]->input[q] = name;
        g->input[i]->name = name;
        g->input[i]->type->tensor_type->shape->dim[0]->dim_param = (char *)hostile;
        g->input[i]->type->tensor_type->shape->dim[0]->has_dim_value = 0;
    }
    g->output[0]->name = g->node[0]->output[0] = (char *)hostile;
    g->node[0]->name = (char *)hostile;
    g->name = (char *)hostile;
}

static void faulty_names(Ctx *c, PbModel *m) {
    rename_all(c, m);
    m->graph->node[0]->op_type = (char *)hostile;
    m->graph->node[0]->domain = (char *)hostile;
}

static void printable(const char *s) {
    for (; *s; s++)
        if ((*s < ' ' && *s != '\n') || *s == 127 || (unsigned char)*s > 127)
            fail_msg("byte %d in: %s", *s, s);
}

static void hostile_names(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    Job j = job_of("net (float[N] x, float[M] z) => (float[N] y) { y = Add(x, z) }");
    j.edit = rename_all;
    if (gd_enter(c, import, &j)) fail_msg("%s", gd_diag(c, 0)->message);
    printable(j.printed);
    assert_null(strstr(j.printed, "%n%s\n"));
    reads_back(j.printed);
    gd_close(c);
    c = gd_open(NULL);
    j.edit = faulty_names;
    assert_int_equal(gd_enter(c, import, &j), EXIT_UNSUPPORTED);
    for (int i = 0; i < gd_error_count(c); i++) {
        printable(gd_diag(c, i)->message);
        assert_null(strchr(gd_diag(c, i)->message, '\n'));
    }
    free(j.file.bytes);
    gd_close(c);
    c = gd_open(NULL);
    j = job_of("net (float[N] x) => (float[N] y) { y = Relu(x) }");
    j.edit = without_shape;
    assert_int_equal(gd_enter(c, import, &j), EXIT_UNSUPPORTED);
    assert_string_equal(gd_diag(c, 0)->message, "input \"x\" has no shape");
    free(j.file.bytes);
    gd_close(c);
}

static void pack(Ctx *c, void *arg) {
    FrontFile *f = arg;
    PbModel *m = pb_model_text(c, f->bytes, f->n);
    f->n = onnx__model_proto__get_packed_size(m);
    f->bytes = malloc(f->n);
    onnx__model_proto__pack(m, (uint8_t *)f->bytes);
}

static void survive(const char *bytes, size_t n) {
    Ctx *c = gd_open(&(Budget){.max_bytes = 64 << 20, .max_nodes = 10000, .max_folded = 1 << 20});
    Job j = {.file = {.path = "-", .format = FF_ONNX, .bytes = malloc(n ? n : 1), .n = n}};
    memcpy(j.file.bytes, bytes, n);
    int status = gd_enter(c, import, &j);
    if (status == EXIT_INTERNAL) fail_msg("%s", gd_diag(c, gd_error_count(c) - 1)->message);
    if (status == EXIT_OK) reads_back(j.printed);
    free(j.file.bytes);
    gd_close(c);
}

static void mutated(const char *bytes, size_t n, int rounds) {
    char *copy = malloc(n ? n : 1);
    uint64_t seed = n;
    for (int i = 0; i < rounds; i++) {
        memcpy(copy, bytes, n);
        for (int k = 0; k <= i % 4; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            copy[(seed >> 33) % n] = (char)(seed >> 24);
        }
        survive(copy, n);
    }
    free(copy);
}

static void damaged(void **state) {
    (void)state;
    static const char *const models[] = {
        LOCAL "net (float[N,3] x, int64[2] s, float[2] w = {1, 2}) => (float[N,3] y, float[a,b] r) <float[3] "
              "v = {1, 2, 3}>\n"
              "{ [\"n\"] t = Add(x, v)\n y = l.f <alpha = 0.5>(t)\n r = Reshape(t, s)\n q = Transpose <perm "
              "= [1, 0]>(t)\n"
              " z = Concat <axis = 1>(t, y) }\n" BODY(
                  "f <alpha: float = 0.25> (a) => (c) { c = LeakyRelu <alpha: float = @alpha>(a) }"),
        OPSET "net (bool c, float[2] x) => (float[2] y) { y = If(c) <then_branch = a () => (float[2] u) { u "
              "= Neg(x) },"
              " else_branch = b () => (float[2] u) { u = Relu(x) }> }",
        OPSET "net (int64 n, bool c, float[2] x) => (float[2] y, float[k,2] z) { y, z = Loop(n, c, x) <body "
              "= b (int64 i, bool d, float[2] h)"
              " => (bool d, float[2] g, float[2] g) { g = Add(h, h) }> }"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        Ctx *c = gd_open(NULL);
        FrontFile f = {.bytes = (char *)models[i], .n = strlen(models[i])};
        if (gd_enter(c, pack, &f)) fail_msg("%s", gd_diag(c, 0)->message);
        gd_close(c);
        for (size_t n = 0; n < f.n; n++) survive(f.bytes, n);
        mutated(f.bytes, f.n, 3000);
        free(f.bytes);
    }
}

/* Whatever memory there is, it is enough or the limit is reached. */
static void little_memory(void **state) {
    (void)state;
    bool enough = false;
    for (size_t bytes = 1000; !enough; bytes += 1000 + bytes / 50) {
        Ctx *c = gd_open(&(Budget){.max_bytes = bytes});
        Job j = job_of(
            "net (bool c, float[2,N] x) => (float[a,b] y) { t = Neg(x)\n y = If(c) <then_branch = a () => "
            "(float[2] u) { u = Add(t, x) }, else_branch = b () => (float[2] u) { u = Relu(x) }> }");
        int status = gd_enter(c, import, &j);
        if (status != EXIT_LIMIT && status != EXIT_OK) fail_msg("%s", gd_diag(c, 0)->message);
        enough = status == EXIT_OK;
        free(j.file.bytes);
        gd_close(c);
    }
}

/* ---- every model there is ---- */

static int imported, refused;

static const char *text_of(Graph *g) {
    Text *t = text_new(g->c);
    graph_print(t, g);
    return t->s;
}

/* The graph passes add what texts say of order, place and groups. */
static void load(Ctx *c, void *arg) {
    Job *j = arg;
    PassOptions o = {.opt = 2,
                     .machine = {.lanes = 8, .registers = 16, .fma = true, .l1 = 32 << 10, .l2 = 512 << 10}};
    gd_set_stage(c, "import");
    Graph *g = front_read(c, j->file.path, &j->options);
    graph_verify(g);
    j->printed = text_of(g);
    for (int i = 0; i < gd_pass_count && gd_passes[i].level == PASS_GRAPH; i++) {
        gd_set_stage(c, gd_passes[i].name);
        gd_passes[i].graph(g, &o);
        if (gd_error_count(c)) gd_leave(c);
        g->after = gd_passes[i].name;
        graph_verify(g);
        reads_back(text_of(g));
    }
}

static void one_file(const char *path, bool symbolic) {
    Ctx *c = gd_open(NULL);
    Job j = {.file = {.path = path}, .options = {.symbolic = symbolic}};
    int status = gd_enter(c, load, &j);
    if (status == EXIT_OK) reads_back(j.printed);
    else {
        if (status != EXIT_UNSUPPORTED && status != EXIT_INVALID)
            fail_msg("%s: status %d: %s", path, status, gd_diag(c, 0)->message);
        for (int i = 0; i < gd_error_count(c); i++) printable(gd_diag(c, i)->message);
        if (getenv("GRADC_VERBOSE")) printf("%s\n", gd_diag(c, 0)->message);
    }
    imported += status == EXIT_OK;
    refused += status != EXIT_OK;
    gd_close(c);
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *w) {
    (void)st, (void)w;
    size_t n = strlen(path);
    if (type != FTW_F || n < 5 || strcmp(path + n - 5, ".onnx") != 0) return 0;
    one_file(path, false);
    one_file(path, true);
    return 0;
}

static void every_model(void **state) {
    (void)state;
    const char *data = getenv("GRADC_DATA");
    if (!data) skip();
    assert_int_equal(nftw(data, visit, 16, FTW_PHYS), 0);
    printf("%d imported, %d refused\n", imported, refused);
    assert_true(imported > refused);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(simple),
                                       cmocka_unit_test(outputs_of_any_sort),
                                       cmocka_unit_test(constants),
                                       cmocka_unit_test(data_dims),
                                       cmocka_unit_test(open_dims),
                                       cmocka_unit_test(functions),
                                       cmocka_unit_test(calls_are_counted),
                                       cmocka_unit_test(subgraphs),
                                       cmocka_unit_test(subgraph_faults),
                                       cmocka_unit_test(names),
                                       cmocka_unit_test(operators),
                                       cmocka_unit_test(all_at_once),
                                       cmocka_unit_test(types),
                                       cmocka_unit_test(hostile_names),
                                       cmocka_unit_test(damaged),
                                       cmocka_unit_test(little_memory),
                                       cmocka_unit_test(every_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
