/* The command line from end to end: the binary is run by its argument vector, and its exit status, its answer and its errors
   are held against what users rely on. The C API beside it: two objects in two threads. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "child.h"
#include "gradc.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], model_path[128];
static const char model[] = "<ir_version: 8, opset_import: [\"\" : 17]>\n"
                            "m (float[N, 3] x) => (float[N, 3] y) { t = Mul (x, x) y = Sqrt (t) }\n";

static const char *path(const char *name) {
    static char buf[4][256];
    static int k;
    k = (k + 1) % 4;
    snprintf(buf[k], sizeof buf[k], "%s/%s", dir, name);
    return buf[k];
}

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(path(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void run(Ran *r, const char *program, ...) {
    const char *argv[32] = {program};
    va_list ap;
    va_start(ap, program);
    for (int n = 1; n < 31 && (argv[n] = va_arg(ap, const char *)); n++) {}
    va_end(ap);
    run_child(r, false, argv);
    assert_true(r->status >= 0);
}
#define gradc(r, ...) run((r), binary, __VA_ARGS__, NULL)

static void has(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("\"%s\" is not in:\n%s", part, text);
}

static Ran r;
static const char answer[] = "y f32[1,3] = [[1, 2, 3]]\n";

static void runs(void **state) {
    (void)state;
    static const char *const backends[] = {"llvm", "c", "interp"};
    for (int i = 0; i < 3; i++) {
        gradc(&r, "run", path("m.onnxtxt"), "x=[-1,2,-3]", "--backend", backends[i], "--threads", "2");
        if (r.status == 3) continue; /* a build without LLVM, a machine without a C compiler */
        assert_string_equal(r.err, "");
        assert_string_equal(r.out, answer);
        assert_int_equal(r.status, 0);
    }
}

static void compiles(void **state) {
    (void)state;
    gradc(&r, "compile", path("m.onnxtxt"), "-o", path("exe"));
    if (r.status == 3) return;
    assert_string_equal(r.err, "");
    run(&r, path("exe"), "x=[-1,2,-3]", NULL);
    assert_string_equal(r.out, answer);
    gradc(&r, "compile", path("m.onnxtxt"), "--emit=c", "-o", path("generated"));
    assert_int_equal(r.status, 0);
    assert_int_equal(access(path("generated/m.c"), R_OK), 0);
    assert_int_equal(access(path("generated/m.h"), R_OK), 0);
    gradc(&r, "compile", path("m.onnxtxt"), "-o", path("m.o"), "--target=x86-64-v3");
    assert_int_equal(r.status, 0);
    assert_string_equal(r.out, "");
}

static void shows(void **state) {
    (void)state;
    gradc(&r, "ir", path("m.onnxtxt"), "--after", "fuse", "--full");
    assert_int_equal(r.status, 0);
    assert_memory_equal(r.out, "graph", 5);
    write_file("m.gir", r.out);
    gradc(&r, "ir", path("m.gir"), "--full");
    assert_int_equal(r.status, 0);
    write_file("m.lir", r.out);
    gradc(&r, "run", path("m.lir"), "x=[-1,2,-3]", "--backend=interp");
    assert_string_equal(r.out, answer);
    gradc(&r, "ir", path("m.onnxtxt"), "--all");
    has(r.out, "; after plan\n");
    gradc(&r, "inspect", path("m.onnxtxt"), "--json");
    has(r.out, "\"type\": \"f32[N,3]\"");
    gradc(&r, "ops", "Conv");
    has(r.out, "attributes strides");
    gradc(&r, "check", path("m.onnxtxt"));
    assert_int_equal(r.status, 0);
    gradc(&r, "bench", path("m.onnxtxt"), "--seconds", "0.05", "--json", "--profile", "--dim=N=4");
    assert_true(r.status == 0 || r.status == 3);
}

static void verifies(void **state) {
    (void)state;
    gradc(&r, "verify", path("m.onnxtxt"), "--dim", "N=37");
    has(r.out, "equal bits");
    has(r.out, " 0 failed\n");
    assert_int_equal(r.status, 0);
}

/* ---- gradients ---- */

static const char linear[] = "<ir_version: 8, opset_import: [\"\" : 17]>\n"
                             "m (float[N, 4] x) => (float[N, 2] y) <float[4, 2] w = {1, -2, 3, -4, 5, -6, 7, -8}, float[2] b = {1, 2}>\n"
                             "{ h = MatMul (x, w) s = Add (h, b) y = Tanh (s) }\n";

/* The ways to run, the losses, and a table with a line for each tensor. */
static void checks_gradients(void **state) {
    (void)state;
    static const char *const backends[] = {"interp", "llvm", "c"};
    write_file("linear.onnxtxt", linear);
    for (int i = 0; i < 3; i++) {
        gradc(&r, "gradcheck", path("linear.onnxtxt"), "--backend", backends[i], "--seed", "3", "--dim", "N=2", "--threads", "1");
        if (r.status == 3) continue;
        assert_string_equal(r.err, "");
        has(r.out, "gradient of a projection of the outputs\n");
        has(r.out, "ok   param w      [4,2]      8 of 8            0");
        has(r.out, "ok   input x      [2,4]      8 of 8            0");
        has(r.out, "3 passed, 0 failed\n");
        assert_int_equal(r.status, 0);
    }
    gradc(&r, "gradcheck", path("linear.onnxtxt"), "--loss", "mse", "--backend=interp", "--samples=3", "--json");
    has(r.out, "\"loss\": \"mse\"");
    has(r.out, "\"name\": \"target\"");
    has(r.out, "\"compared\": 5"); /* three elements, and two directions */
    assert_int_equal(r.status, 0);
    gradc(&r, "gradcheck", path("linear.onnxtxt"), "--loss", "frob", "--backend=interp");
    assert_int_equal(r.status, 2);
    gradc(&r, "gradcheck", path("linear.onnxtxt"), "--samples", "0");
    assert_int_equal(r.status, 2);
}

/* At zero relu has a kink, of a tie max has one: they are told, and no errors. */
static void knows_kinks(void **state) {
    (void)state;
    write_file("kink.onnxtxt", "<ir_version: 8, opset_import: [\"\" : 17]> m (float[4] x) => (float[4] y, float[1] z, float[4] w)\n"
                               "{ y = Relu (x) n = Neg (x) p = Relu (n) w = Sub (y, p) z = ReduceMax (x) }\n");
    gradc(&r, "gradcheck", path("kink.onnxtxt"), "x=[0,1,-1,1]", "--backend=interp", "--json");
    assert_int_equal(r.status, 0);
    has(r.out, "\"ok\": true");
    assert_null(strstr(r.out, "\"kinks\": 0"));
}

/* What a model takes out of differentiation itself makes a gradient that differences contradict. */
static void finds_wrong_gradients(void **state) {
    (void)state;
    write_file("wrong.gir", "graph m(x_0 \"x\": f32[3]) -> (\"y\": f32[3])\n{\n  detach_1: f32[3] = detach x_0\n"
                            "  mul_2: f32[3] = mul x_0, detach_1\n  return mul_2\n}\n");
    gradc(&r, "gradcheck", path("wrong.gir"), "x=[1,2,3]", "--backend=interp");
    assert_int_equal(r.status, 1);
    has(r.out, "FAIL input x");
    has(r.out, "0 passed, 1 failed\n");
    has(r.err, "gradc: error[E0604]: ");
}

/* Three nodes in the way, of which each would do; and what the loss does not need. */
static void checks_training(void **state) {
    (void)state;
    write_file("cut.onnxtxt", "<ir_version: 8, opset_import: [\"\" : 17]> m (float[N, 2] x) => (float[N, 2] y)\n"
                              "<float[2, 2] w = {1, 2, 3, 4}, float[2] b = {1, 2}, float[2] idle = {1, 2}> {\n"
                              "  h = MatMul (x, w) r = Round (h) s = Add (r, b) whole = Cast<to = 7> (s) k = Cast<to = 1> (whole)\n"
                              "  zero = Constant<value_float = 0.0> () c = Greater (k, zero) f = Cast<to = 1> (c) y = Abs (f) }\n");
    gradc(&r, "check", path("cut.onnxtxt"));
    assert_int_equal(r.status, 0);
    gradc(&r, "check", "--train", path("cut.onnxtxt"));
    assert_int_equal(r.status, 3);
    has(r.err, "cut.onnxtxt: node 1 Round: rint passes no gradient: its derivative is zero");
    has(r.err, "cut.onnxtxt: node 3 Cast: cast passes no gradient: its answer is whole numbers");
    has(r.err, "cut.onnxtxt: node 6 Greater: greater passes no gradient: its answer is true or false");
    has(r.err, "  help: a smooth step in its place");
    int n = 0;
    for (const char *s = r.err; (s = strstr(s, "E0404")); s++) n++;
    assert_int_equal(n, 3);
    gradc(&r, "check", "--train", path("cut.onnxtxt"), "--json");
    has(r.out, "\"code\": \"E0404\"");
    gradc(&r, "check", "--train", path("linear.onnxtxt"), "--loss=mse", "--optimizer=sgd");
    has(r.out, "linear.onnxtxt: ok\n");
    assert_int_equal(r.status, 0);
    /* beside a way nothing is in the way */
    write_file("relu.onnxtxt", "<ir_version: 8, opset_import: [\"\" : 17]> m (float[N, 2] x) => (float[N, 2] y)\n"
                               "<float[2, 2] w = {1, 2, 3, 4}, float[2] idle = {1, 2}> {\n"
                               "  h = MatMul (x, w) r = Round (h) z = Constant<value_float = 0.0> () c = Greater (h, z) y = Where (c, h, r) }\n");
    gradc(&r, "check", "--train", path("relu.onnxtxt"));
    assert_string_equal(r.err, "");
    has(r.out, "note: idle: the loss does not depend on it\n");
    assert_int_equal(r.status, 0);
}

static void fails(void **state) {
    (void)state;
    const struct { int status; const char *err, *words[4]; } cases[] = {
        {5, "gradc: error[E0101]: ", {"check", "missing.onnx"}},
        {2, "gradc: error[E0601]: there is no verb", {"frobnicate"}},
        {2, "gradc: error[E0601]: there is no option --frob", {"ir", "m.onnxtxt", "--frob"}},
        {2, "gradc: error[E0601]: --opt:", {"ir", "m.onnxtxt", "-O7"}},
        {2, "no pass is named xyz", {"ir", "m.onnxtxt", "--after", "xyz"}},
        {2, "gradc: error[E0601]: --no-lower: ", {"ir", "m.onnxtxt", "--no-lower"}},
        {2, "gradc: error[E0602]: ", {"run", "m.onnxtxt", "--backend=interp"}},
        {1, "gradc: error[E0603]: ", {"run", "m.onnxtxt", "x=[1,2]", "--backend=interp"}},
        {1, "gradc: error[E0102]: ", {"check", "empty"}},
        {3, "gradc: error[E0401]: ", {"check", "bad.onnxtxt"}},
        {4, "gradc: error[E0501]: ", {"ir", "m.onnxtxt", "--max-memory=10K"}},
        {5, "gradc: error[E0106]: ", {"compile", "m.onnxtxt", "--emit=c", "-omissing/dir"}},
    };
    write_file("empty", "");
    write_file("bad.onnxtxt", "<ir_version: 8, opset_import: [\"\" : 17]>\n"
                              "m (float[3] x) => (float[3] y) { t = Frob (x) u = Glorp (t) y = Abs (u) }\n");
    assert_int_equal(chdir(dir), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const *w = cases[i].words;
        run(&r, binary, w[0], w[1], w[2], w[3], NULL);
        has(r.err, cases[i].err);
        if (r.status != cases[i].status) fail_msg("case %zu: status %d, not %d", i, r.status, cases[i].status);
        if (strcmp(w[0], "check")) assert_string_equal(r.out, "");
    }
    gradc(&r, "check", path("bad.onnxtxt"));
    has(r.err, "Frob");
    has(r.err, "Glorp"); /* everything at once */
}

static void *compile_in_thread(void *arg) {
    Gradc *g = gradc_open();
    const char *text;
    char *copy = NULL;
    if (!gradc_option(g, "dim", arg) && !gradc_load(g, model_path) && !gradc_ir(g, 1, &text)) copy = strdup(text);
    gradc_close(g);
    return copy;
}

static void two_at_once(void **state) {
    (void)state;
    static char dims[][8] = {"N=5", "N=6", "N=5", "N=6"};
    pthread_t t[4];
    void *text[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, compile_in_thread, dims[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], &text[i]);
    for (int i = 0; i < 4; i++) assert_non_null(text[i]);
    assert_string_equal(text[0], text[2]);
    assert_string_equal(text[1], text[3]);
    assert_string_not_equal(text[0], text[1]);
    for (int i = 0; i < 4; i++) free(text[i]);
}

/* Every code has its page, under its title. */
static void pages(void **state) {
    (void)state;
    static const struct { int code; const char *title; } codes[] = {
#define E(number, status, title) {number, title},
#include "errors.def"
#undef E
    };
    static char all[1 << 20];
    FILE *f = fopen("docs/errors.md", "r");
    assert_non_null(f);
    all[fread(all, 1, sizeof all - 1, f)] = 0;
    fclose(f);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        char head[200];
        snprintf(head, sizeof head, "\n## E%04d: %s\n", codes[i].code, codes[i].title);
        has(all, head);
    }
}

/* A limit of file sizes is an error that is told, not the end by a signal. */
static void limited(void **state) {
    (void)state;
    static Ran r;
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){16, old.rlim_max}), 0);
    gradc(&r, "run", path("m.onnxtxt"), "x=[-1,2,-3]", "--backend=interp", "--out", path("generated"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(r.status, 5);
    has(r.err, "E0106");
}

static int begin(void **state) {
    (void)state;
    if (!find_binary()) return 1;
    strcpy(dir, "/tmp/gradc-cli-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    write_file("m.onnxtxt", model);
    strcpy(model_path, path("m.onnxtxt"));
    return 0;
}

static int end(void **state) {
    (void)state;
    static const char *const files[] = {"linear.onnxtxt", "kink.onnxtxt", "wrong.gir", "cut.onnxtxt", "relu.onnxtxt", "m.onnxtxt", "m.gir", "m.lir", "m.o", "exe", "empty", "bad.onnxtxt",
                                        "generated/m.c", "generated/m.h", "generated"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) remove(path(files[i]));
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages), cmocka_unit_test(runs), cmocka_unit_test(compiles), cmocka_unit_test(shows),
        cmocka_unit_test(verifies), cmocka_unit_test(checks_gradients), cmocka_unit_test(knows_kinks),
        cmocka_unit_test(finds_wrong_gradients), cmocka_unit_test(checks_training), cmocka_unit_test(two_at_once), cmocka_unit_test(fails),
        cmocka_unit_test(limited),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
