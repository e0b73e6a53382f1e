/* The graph IR as text: printing, parsing, what is refused; and the verifier. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "import.h"

typedef struct Job {
    const char *text;
    size_t n;
    const char *printed;
} Job;

static const char *print(const Graph *g) {
    Text *t = text_new(g->c);
    graph_print(t, g);
    return t->s;
}

static void parse(Ctx *c, void *arg) {
    Job *j = arg;
    Graph *g = graph_parse(c, j->text, j->n);
    graph_verify(g);
    j->printed = print(g);
}

/* The text must be what is printed of the graph it says. */
static void stands(const char *text) {
    Ctx *c = gd_open(NULL);
    Job j = {text, strlen(text), NULL};
    int status = gd_enter(c, parse, &j);
    if (status) fail_msg("E%d %s\n%s", gd_diag(c, 0)->code, gd_diag(c, 0)->message, text);
    assert_string_equal(j.printed, text);
    gd_close(c);
}

static void becomes(const char *text, const char *printed) {
    Ctx *c = gd_open(NULL);
    Job j = {text, strlen(text), NULL};
    int status = gd_enter(c, parse, &j);
    if (status) fail_msg("E%d %s\n%s", gd_diag(c, 0)->code, gd_diag(c, 0)->message, text);
    assert_string_equal(j.printed, printed);
    gd_close(c);
}

static void refused(const char *text, int code, const char *message) {
    Ctx *c = gd_open(NULL);
    Job j = {text, strlen(text), NULL};
    assert_int_not_equal(gd_enter(c, parse, &j), EXIT_OK);
    int last = gd_error_count(c) - 1;
    if (gd_diag(c, last)->code != code || !strstr(gd_diag(c, last)->message, message))
        fail_msg("E%d %s, expected E%d %s", gd_diag(c, last)->code, gd_diag(c, last)->message, code, message);
    gd_close(c);
}

/* ---- printing ---- */

static Value *conv(Graph *g, Value *x, Value *w, Value *b, int64_t stride) {
    Node *n = node_begin(g, "conv");
    node_input(n, x);
    node_input(n, w);
    node_input(n, b);
    node_ints(n, "strides", 2, (int64_t[]){stride, stride});
    node_ints(n, "dilations", 2, (int64_t[]){1, 1});
    return node_finish(n);
}

static void build(Ctx *c, void *arg) {
    const char **text = arg;
    Graph *g = graph_new(c, "net");
    Expr *n = expr_var(c, graph_symbol(g, "N", 1, INT64_MAX));
    Value *x =
        graph_input(g, "in.put \\x22", F32, 4, (Expr *[]){n, expr_int(c, 1), expr_int(c, 4), expr_int(c, 4)});
    float *w = gd_alloc_aligned(c, 18 * sizeof *w);
    for (int i = 0; i < 18; i++) w[i] = i < 9 ? 0 : (float)i / 8;
    float *b = gd_alloc_aligned(c, 2 * sizeof *b);
    b[0] = 0.1f;
    b[1] = -0.0f;
    Value *wv = graph_const(g, F32, 4, (int64_t[]){2, 1, 3, 3}, w),
          *bv = graph_const(g, F32, 1, (int64_t[]){2}, b);
    wv->label = "conv.weight";
    wv->source = 0;
    g->label = "0 Conv \"c\"";
    Value *y = conv(g, x, wv, bv, 1);
    g->label = NULL;
    y->label = "y1";
    static const uint8_t order[] = {0, 2, 3, 1};
    y->order = order;
    y->place = PL_INLINE;
    y->def->note = "first layer";
    Value *z = make(g, "relu", y);
    z->place = PL_ROOT;
    graph_output(g, "out", z);
    graph_verify(g);
    Text *t = text_new(c);
    graph_print(t, g);
    text[0] = t->s;
    t = text_new(c);
    graph_print_brief(t, g);
    text[1] = t->s;
}

static const char printed[] =
    "graph net(in_put_0 \"in.put \\x22\": f32[N,1,4,4]) -> (\"out\": f32[N,2,2,2]) after import\n"
    "  where N in 1..inf\n"
    "{\n"
    "  const conv_weight_1 \"conv.weight\" #0: f32[2,1,3,3]\n"
    "  const c_2: f32[2] = [0.1, -0.0]\n"
    "  ; first layer\n"
    "  conv_3 \"y1\": f32[N,2,2,2] order=[0,2,3,1] inline = conv in_put_0, conv_weight_1, c_2 "
    "{strides=[1,1], dilations=[1,1]}"
    " ; 0 Conv \"c\"\n"
    "  ;; with conv_3\n"
    "  relu_5: f32[N,2,2,2] root = relu conv_3\n"
    "  return relu_5\n"
    "}\n"
    "data conv_weight_1\n"
    "  00000000*9 3f900000 3fa00000 3fb00000 3fc00000 3fd00000 3fe00000 3ff00000 40000000 40080000\n";

static void prints(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    const char *text[2];
    assert_int_equal(gd_enter(c, build, text), EXIT_OK);
    assert_string_equal(text[0], printed);
    assert_null(strstr(text[1], "\ndata "));
    assert_non_null(strstr(text[1], "f32[2,1,3,3] ;; 0.0, 0.0, 0.0, 0.0, ...\n"));
    gd_close(c);
    stands(printed);
}

/* ---- round trips of everything a line can say ---- */

#define HEAD "graph g(x_0 \"x\": f32[N,4]) -> (\"y\": f32[N,4]) after import\n  where N in 1..64\n{\n"
#define TAIL "  return y_1\n}\n"

static void every_dtype(void **state) {
    (void)state;
    stands("graph g() -> (\"y\": f64[]) after import\n{\n"
           "  const c_0: f32[4] = [nan, -inf, 1e-45, 3.4028235e+38]\n"
           "  const c_1: f64[2] = [0.1, 1e-310]\n"
           "  const c_2: f16[2] = [0.1, 65504.0]\n"
           "  const c_3: bf16[] = [-2.0]\n"
           "  const c_4: i8[2] = [-128, 127]\n"
           "  const c_5: u64[1] = [18446744073709551615]\n"
           "  const c_6: i64[1] = [-9223372036854775808]\n"
           "  const c_7: bool[2] = [true, false]\n"
           "  const c_8: f8e4m3fn[2] = [448.0, -0.016]\n"
           "  const c_9: i4[2] = [-8, 7]\n"
           "  const c_10: string[3] = [\"a\\x22b\", \"\", \"\\xff\\x0a; {\"]\n"
           "  const c_11: c64[1]\n"
           "  const c_12: f32[0,3] = []\n"
           "  const c_13: f64[] = [2.0]\n"
           "  const c_14: f32[2] = [as_f32(u32(0x7fc00001)), -0.0]\n"
           "  return c_13\n}\n"
           "data c_11\n  400000003f800000\n");
}

static void every_attribute(void **state) {
    (void)state;
    stands("graph g(x_0 \"x\": f32[N,4], s_1 \"s\": i64[2]) -> (\"y\": f32[N,4], \"z\": f16[N,8], \"k\": "
           "f32[n,m]) after fold\n"
           "  where N in 1..64\n{\n"
           "  leaky_relu_2: f32[N,4] = leaky_relu x_0 {alpha=0.25}\n"
           "  cast_3: f16[N,4] = cast x_0 {to=f16}\n"
           "  concat_4: f16[N,8] = concat cast_3, cast_3 {axis=1}\n"
           "  read s_1 {syms=[n in 0..64 max N, m in -inf..inf]} ; 3 Expand\n"
           "  check {cond=0 < m+1, what=\"size \\x22m\\x22\"}\n"
           "  reduce_sum_5: f32[1,1] = reduce_sum x_0 {axes=[0,1]}\n"
           "  broadcast_6: f32[n,m] = broadcast reduce_sum_5 {dims=[n,m]}\n"
           "  exprs_7: i64[2] is [N*2, 4] = exprs {values=[N*2,4]}\n"
           "  return leaky_relu_2, concat_4, broadcast_6\n}\n");
}

static void places(void **state) {
    (void)state;
    stands(HEAD "  relu_1: f32[N,4] local 1 = relu x_0\n"
                "  ;; with relu_1\n"
                "  neg_2: f32[N,4] root into pad_4 = neg relu_1\n"
                "  pad_4: f32[N+2,4] = pad neg_2 {lo=[1,0], hi=[1,0], interior=[0,0]}\n"
                "  slice_5: f32[N,4] = slice pad_4 {start=[1,0], size=[N,4], step=[1,1]}\n"
                "  return slice_5\n}\n");
    refused(HEAD "  neg_2: f32[N,4] into nothing_3 = neg x_0\n  return neg_2\n}\n", 104,
            "there is no value 'nothing_3'");
    refused(HEAD "  neg_2: f32[N,4] into neg_3 = neg x_0\n  neg_3: f32[N,4] into neg_2 = neg neg_2\n  return "
                 "neg_3\n}\n",
            104, "lies in itself");
    refused(HEAD "  neg_2: f32[N,4] order=[1,1] = neg x_0\n  return neg_2\n}\n", 104, "permutation");
}

static void regions(void **state) {
    (void)state;
    stands("graph g(c_0 \"c\": bool[], x_1 \"x\": f32[4]) -> (\"y\": f32[D]) after import\n{\n"
           "  if_9 \"y\": f32[D] = if c_0 {syms=[D in 0..inf]} ; 0 If\n"
           "    region () {\n"
           "      neg_2: f32[4] = neg x_1\n"
           "      yield neg_2 \"then\"\n"
           "    }\n"
           "    region () {\n"
           "      concat_4: f32[8] = concat x_1, x_1 {axis=0}\n"
           "      yield concat_4\n"
           "    }\n"
           "  return if_9\n}\n");
    refused("graph g(c_0 \"c\": bool[], x_1 \"x\": f32[4]) -> (\"y\": f32[4]) after import\n{\n"
            "  if_9: f32[4] = if c_0 {syms=[]}\n"
            "    region () {\n      neg_2: f32[4] = neg x_1\n      yield neg_2\n    }\n"
            "    region () {\n      yield neg_2\n    }\n"
            "  return if_9\n}\n",
            104, "line 9, column 13: there is no value 'neg_2' here");
}

/* Names, types, checks and attributes' defaults are made for a text that does not have them. */
static void by_hand(void **state) {
    (void)state;
    becomes("; a comment\n\ngraph mlp(x: f32[N,2], y: f32[M,2]) -> (\"sum\": f32[2,2])   after import\n\n  "
            "where N in 1..8, M in 1..8\n{\n"
            "  const w: f32[2,2] = [1, 2, 3, 4]   ; weights\n"
            "\n  s = sub x, y\n  m = add s, w {}\n  return m\n}\n",
            "graph mlp(x_0 \"x\": f32[N,2], y_1 \"y\": f32[M,2]) -> (\"sum\": f32[2,2]) after import\n"
            "  where N in 1..8, M in 1..8\n{\n"
            "  const w_2 \"w\": f32[2,2] = [1.0, 2.0, 3.0, 4.0]\n"
            "  check {cond=N == M | (N == 1 | M == 1), what=\"dims N and M do not broadcast\"}\n"
            "  sub_6 \"s\": f32[N == 1 ? M : N,2] = sub x_0, y_1\n"
            "  check {cond=(N == 1 ? M : N) == 2 | (N == 1 ? M : N) == 1, what=\"dims N == 1 ? M : N and 2 "
            "do not broadcast\"}\n"
            "  add_10 \"m\": f32[2,2] = add sub_6, w_2\n"
            "  return add_10\n}\n");
}

static void faults(void **state) {
    (void)state;
    refused("", 104, "line 1, column 1: 'graph' is missing");
    refused("graph", 104, "a name is missing");
    refused("graph g(x: f32[3]) -> ", 104, "'{' is missing");
    refused("graph g(x: f32[3]) -> (\"y\": f32[3]) after import\n{\n  return x", 104, "'}' is missing");
    refused("graph g(x: f32[3]) -> (\"y\": f32[4]) after import\n{\n  return x\n}\n", 104,
            "output 0 is not what the graph returns");
    refused("graph g(x: f33[3]) -> () after import\n{\n  return\n}\n", 104,
            "line 1, column 12: 'f33' is not a type");
    refused("graph g(x: f32[-3]) -> () after import\n{\n  return\n}\n", 104, "a dim is negative");
    refused("graph g(x: f32[2,9223372036854775807]) -> () after import\n{\n  return\n}\n", 505, "overflows");
    refused("graph g(x: f32[N]) -> () after import\n{\n  return\n}\n", 104, "the name 'N' is not known");
    refused("graph g(x: f32[3], x: f32[3]) -> () after import\n{\n  return\n}\n", 104,
            "the name 'x' is in use");
    refused(HEAD "  return x_0\n}\ntrailing", 104, "line 6, column 1: what follows");
    refused(HEAD "  y_1: f32[N,4] = rellu x_0\n" TAIL, 104, "line 4, column 19: there is no op 'rellu'");
    refused(HEAD "  y_1: f32[N,4] = relu z_0\n" TAIL, 104, "line 4, column 24: there is no value 'z_0' here");
    refused(HEAD "  y_1: f32[N,4] = relu x_0 {slope=1}\n" TAIL, 104, "relu has no attribute 'slope'");
    refused(HEAD "  y_1: f32[N,4] = relu x_0, x_0\n" TAIL, 104,
            "relu does not fit its inputs and attributes");
    refused(HEAD "  y_1: f32[N,5] = relu x_0\n" TAIL, 104, "line 4: relu makes f32[N,4], not f32[N,5]");
    refused(HEAD "  y_1: i32[N,4] = relu x_0\n" TAIL, 104, "line 4: relu makes f32[N,4], not i32[N,4]");
    refused(HEAD "  y_1: f32[N,4] = concat x_0, x_0\n" TAIL, 104, "concat needs attribute axis");
    refused(HEAD "  y_1: f32[N,4] = leaky_relu x_0 {alpha=x}\n" TAIL, 104, "a number is missing");
    refused(HEAD "  y_1: f32[N,4], z_2: f32[N,4] = relu x_0\n" TAIL, 104, "relu has 1 outputs, not 2");
    refused(HEAD "  relu x_0\n  return x_0\n}\n", 104, "relu has 1 outputs, not 0");
    refused(HEAD "  const c_1: f32[2]\n  return x_0\n}\n", 104, "constant x_1 has no data");
    refused(HEAD "  const c_1: f32[2] = [1]\n  return x_0\n}\n", 104, "',' is missing");
    refused(HEAD "  const c_1: f32[2] = [1, 2, 3]\n  return x_0\n}\n", 104, "']' is missing");
    refused(HEAD "  const c_1: f32[N] = [1]\n  return x_0\n}\n", 104, "the number of elements is not known");
    refused(HEAD "  const c_1: f32[9999999999,9999999999] = [1]\n  return x_0\n}\n", 505, "overflows");
    refused(HEAD "  const c_1: f32[999999999] = [1]\n  return x_0\n}\n", 104,
            "999999999 elements are too many");
    refused(HEAD "  const c_1: i8[1] = [1.5]\n  return x_0\n}\n", 104, "type i8");
    refused(HEAD "  const c_1: i8[9]\n  return x_0\n}\ndata c_1\n  00*8\n", 104, "9 elements are wanted");
    refused(HEAD "  const c_1: i8[9]\n  return x_0\n}\ndata c_1\n  00*10\n", 104, "9 elements are wanted");
    refused(HEAD "  return x_0\n}\ndata x_0\n  00\n", 104, "the number of elements is not known");
    refused("graph g(x: f32[N]) -> (\"y\": f32[N]) after import\n  where N in 5..4\n{\n  return x\n}\n", 104,
            "range of N is empty");
    refused(
        "graph g(x: f32[k]) -> (\"y\": f32[k]) after import\n{\n  read x {syms=[k in 0..9]}\n  return x\n}\n",
        104, "'k'");
    refused(HEAD "  y_1: f32[k,4] = relu x_0\n" TAIL, 104, "'k'");
}

/* Every beginning of a text, and texts with one byte changed, are read or refused, and what is read prints
   and reads again. */
static void hurt(const char *text, size_t n) {
    Ctx *c = gd_open(&(Budget){.max_bytes = 64 << 20, .max_nodes = 10000});
    char *copy = malloc(n ? n : 1); /* of its exact size: a sanitizer sees what reads past it */
    memcpy(copy, text, n);
    Job j = {copy, n, NULL};
    int status = gd_enter(c, parse, &j);
    if (status == EXIT_INTERNAL)
        fail_msg("%s\n%.*s", gd_diag(c, gd_error_count(c) - 1)->message, (int)n, text);
    if (status == EXIT_OK) stands(j.printed);
    free(copy);
    gd_close(c);
}

static const char victim[] =
    "graph g(c_0 \"c\": bool[], x_1 \"x\": f32[N,1,4,4]) -> (\"y\": f32[D]) after fuse\n  where N in "
    "1..64\n{\n"
    "  const w_2 \"w\" #0: f32[2,1,3,3]\n"
    "  const c_3: f32[2] = [0.1, -0.0]\n"
    "  conv_4: f32[N,2,2,2] order=[0,2,3,1] inline = conv x_1, w_2, c_3 {strides=[1,1], dilations=[1,1]} ; 0 "
    "Conv\n"
    "  exprs_5: i64[2] is [N, 8] = exprs {values=[N,8]}\n"
    "  ;; with conv_4\n  reshape_6: f32[N,8] root = reshape conv_4 {dims=[N,8]}\n"
    "  reduce_sum_7: f32[8] local 0 = reduce_sum reshape_6 {axes=[0], keepdims=0}\n"
    "  slice_8: f32[4] into concat_10 = slice reduce_sum_7 {start=[1], size=[4], step=[1]}\n"
    "  concat_10: f32[12] = concat reduce_sum_7, slice_8 {axis=0}\n"
    "  check {cond=N < 9 | N == 9, what=\"few\"}\n"
    "  if_20: f32[D] = if c_0 {syms=[D in 0..inf max N+4]}\n"
    "    region () {\n"
    "      neg_11: f32[12] = neg concat_10\n"
    "      yield neg_11\n"
    "    }\n"
    "    region () {\n"
    "      yield slice_8\n"
    "    }\n"
    "  return if_20\n}\n"
    "data w_2\n  00000000*9 3f900000*9\n";

static void survives(void **state) {
    (void)state;
    static const char bytes[] = "0129-_,.:;[]{}()\"=*#aNDxfic \n\\\x01\xff";
    char text[sizeof victim];
    uint64_t seed = 1;
    stands(victim);
    for (size_t n = 0; n < sizeof victim; n++) hurt(victim, n);
    for (int i = 0; i < 4000; i++) {
        memcpy(text, victim, sizeof victim);
        for (int k = 0; k < 1 + i % 3; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            text[(seed >> 33) % (sizeof victim - 1)] = bytes[(seed >> 20) % (sizeof bytes - 1)];
        }
        hurt(text, sizeof victim - 1);
    }
    for (int i = 0; i < 2000; i++) { /* a line left out, or a piece moved */
        size_t from, to, n = sizeof victim - 1;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        from = (seed >> 33) % n;
        to = from + (seed >> 20) % 40;
        if (to > n) to = n;
        memcpy(text, victim, from);
        memcpy(text + from, victim + to, n - to);
        hurt(text, n - (to - from));
    }
}

/* ---- the verifier ---- */

static void broken(Ctx *c, void *arg) {
    static const uint8_t order[] = {1, 1};
    int what = *(int *)arg;
    Graph *g = graph_new(c, "net");
    Var *n = graph_symbol(g, "N", 1, 64);
    Value *x = graph_input(g, "x", F32, 2, (Expr *[]){expr_var(c, n), expr_int(c, 4)});
    Value *y = make(g, "relu", x), *z = make(g, "neg", y);
    Node *m = node_begin(g, "concat");
    node_input(m, z);
    node_int(m, "axis", 1);
    Value *v = node_finish(m), *k = const_scalar(g, F32, 1);
    graph_output(g, "v", v);
    graph_verify(g);
    switch (what) {
    case 0: z->id = y->id; break;
    case 1: g->nodes.v[0]->in[0] = z; break;
    case 2: y->rank = MAX_RANK + 1; break;
    case 3: y->dim[1] = expr_int(c, -1); break;
    case 4: y->dim[1] = expr_bool(c, true); break;
    case 5: g->syms.n = 0; break;
    case 6: y->port = 1; break;
    case 7: y->def = z->def; break;
    case 8: m->attr[0].kind = AT_NONE; break;
    case 9: m->attr[0].kind = AT_FLOAT; break;
    case 10: m->nin = 0; break;
    case 11: m->in[0] = NULL; break;
    case 12: k->data = NULL; break;
    case 13: k->data = (const char *)k->data + 4; break;
    case 14: y->order = order; break;
    case 15: y->place = PL_LOCAL + 1; break;
    case 16:
        y->into = z;
        z->into = y;
        break;
    case 17: z->into = value_new(g, F32, 0, NULL); break;
    case 18: g->nodes.n--; break;
    case 19: y->elems = gd_new_array(c, Expr *, 1); break;
    case 20: *g->next_id = 2; break;
    case 21: g->nodes.v[1]->graph = graph_new(c, "other"); break;
    case 22: g->out_names.n = 0; break;
    case 23: g->name = "a b"; break;
    case 24: y->rank = -1; break;
    case 25: y->dt = DTYPES; break;
    default: return;
    }
    graph_verify(g);
}

static void verifies(void **state) {
    (void)state;
    for (int what = 0; what < 26; what++) {
        Ctx *c = gd_open(NULL);
        if (gd_enter(c, broken, &what) != EXIT_INTERNAL) fail_msg("fault %d is not found", what);
        gd_close(c);
    }
}

/* ---- composite text ---- */

static void compose(Ctx *c, void *arg) {
    Graph *g = graph_new(c, "net");
    Map *values = map_new(c), *attrs = map_new(c);
    Value *x = graph_input(g, "x", F32, 2, (Expr *[]){expr_int(c, 2), expr_int(c, 4)});
    map_puts(values, "x", x);
    map_puts(attrs, "axes", &((Attr){.kind = AT_INTS, .n = 1, .ints = (const int64_t[]){1}}));
    map_puts(attrs, "eps", &((Attr){.kind = AT_FLOAT, .f = 0.5}));
    Value *y = graph_text(
        g, "m = reduce_sum(x, axes=axes); d = x - m / 4; h = cast(d, to=f16); d < 0 ? -d : d * (1 + eps)",
        values, attrs);
    graph_output(g, "y", y);
    graph_verify(g);
    *(const char **)arg = print(g);
}

static void composes(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    const char *text = "";
    if (gd_enter(c, compose, &text)) fail_msg("%s", gd_diag(c, 0)->message);
    assert_string_equal(
        text, "graph net(x_0 \"x\": f32[2,4]) -> (\"y\": f32[2,4]) after import\n{\n"
              "  const c_3: f32[] = [4.0]\n  const c_10: f32[] = [0.0]\n  const c_15: f32[] = [1.5]\n"
              "  reduce_sum_1: f32[2,1] = reduce_sum x_0 {axes=[1]}\n"
              "  div_4: f32[2,1] = div reduce_sum_1, c_3\n"
              "  sub_6: f32[2,4] = sub x_0, div_4\n"
              "  cast_8: f16[2,4] = cast sub_6 {to=f16}\n"
              "  less_11: bool[2,4] = less sub_6, c_10\n"
              "  neg_13: f32[2,4] = neg sub_6\n"
              "  mul_16: f32[2,4] = mul sub_6, c_15\n"
              "  where_18: f32[2,4] = where less_11, neg_13, mul_16\n"
              "  return where_18\n}\n");
    gd_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(prints),          cmocka_unit_test(every_dtype),
                                       cmocka_unit_test(every_attribute), cmocka_unit_test(places),
                                       cmocka_unit_test(regions),         cmocka_unit_test(by_hand),
                                       cmocka_unit_test(faults),          cmocka_unit_test(survives),
                                       cmocka_unit_test(verifies),        cmocka_unit_test(composes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
