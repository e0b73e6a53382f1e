/* What the C back end writes: sources with a typed face that C and C++ compile, weights in every place they
   can be, objects, libraries and executables; loading into this process; targets and tools. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>
#include "codegen.h"
#include "heap.h"

static void within(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, body, arg);
    if (status) fail_msg("status %d: %s", status, gd_error_count(c) ? gd_diag(c, 0)->message : "");
    gd_close(c);
}

/* y = x w + b for n rows, as one nest on threads. Port names are no identifiers. */
static const char dense[] = "program dense after plan\nsym N in 1..inf\nin x: f32[N, 3] as \"my-input\"\nout "
                            "y: f32[N, 2] as \"int\"\n"
                            "const w: f32[3, 2] = [1.0, 2.0, 3.0, -4.0, 0.1, inf]\nconst b: f32[2] = [0.5, "
                            "-0.25]\narena t: f32[N, 2] @ 0\narena_bytes N*8\n\n"
                            "nest product ; macs 6\n  parallel n in N\n    each j in 2\n      reg acc: f32\n "
                            "     acc = b[j]\n      for k in 2\n"
                            "        acc = fma(x[n, k], w[k, j], acc)\n      t[n, j] = acc\nnest last\n  "
                            "parallel n in N\n    each j in 2\n      y[n, j] = t[n, j] + f32(n)\n";
/* The data decides the size of the output. */
static const char positive[] =
    "program positive after plan grows\nsym M in 0..inf data\nin x: f32[8]\nout y: i64[M]\narena n: i64[1] @ "
    "0\narena_bytes 64\n\n"
    "nest count\n  n[0] = 0\n  for i in 8\n    n[0] = n[0] + i64(0.0 < x[i])\nlet M = n[0]\nalloc y\nnest "
    "fill\n  n[0] = 0\n"
    "  for j in 8\n    if 0.0 < x[j]\n      let at = n[0]\n      y[at] = j\n      n[0] = at + 1\n";

static Program *parse(Ctx *c, const char *text) {
    Program *p = loop_parse(c, text, strlen(text));
    loop_verify(p);
    return p;
}

static const float xs[6] = {1, 2, 9, -1, 0.5f, 9}, want[4] = {7.5f, -6.25f, 2.0f, -3.25f};

static void run_tool(Ctx *c, Text *out, const char *first, ...) {
    VEC(const char *) a = {0};
    va_list ap;
    va_start(ap, first);
    for (const char *s = first; s; s = va_arg(ap, const char *)) vec_push(c, &a, s);
    va_end(ap);
    vec_push(c, &a, NULL);
    int status = tool_run(c, a.v, out);
    if (status) fail_msg("%s ended with %d: %.2000s", first, status, out->s);
}

static EmitOptions options(Ctx *c, Weights w) {
    return (EmitOptions){.target = target_named(c, "native"), .weights = w, .openmp = true, .opt = 2};
}

/* ---- sources ---- */

static const char user[] =
    "#include <stdio.h>\n#include <stdlib.h>\n#include \"dense.h\"\n"
    "int main(int argc, char **argv) {\n    float x[6] = {1, 2, 9, -1, 0.5f, 9}, y[4];\n    void *blob = "
    "NULL;\n"
    "    if (argc > 1) {\n        FILE *f = fopen(argv[1], \"rb\");\n        blob = malloc(4096);\n        "
    "if (!f || !fread(blob, 1, 4096, f)) return 3;\n    }\n"
    "    dense_inputs in = {.N = 2, .my_input = x};\n    dense_outputs out = {.x_int = y};\n    SET;\n"
    "    void *arena = malloc(dense_arena_bytes(&in));\n    int status = dense_run(&in, &out, arena);\n"
    "    printf(\"%d %zu %g %g %g %g\\n\", status, dense_arena_bytes(&in), (double)y[0], (double)y[1], "
    "(double)y[2], (double)y[3]);\n"
    "    in.N = 0;\n    status = dense_run(&in, &out, arena);\n    in.N = INT64_MAX / 2;\n"
    "    printf(\"%d %d %s\\n\", status, dense_run(&in, &out, arena) == DENSE_ARENA, "
    "dense_status_text(status));\n    free(blob);\n    free(arena);\n"
    "    return 0;\n}\n";
static const char cxx[] = "#include \"dense.h\"\nint f(dense_inputs *in, dense_outputs *out, void *arena) { "
                          "return dense_run(in, out, arena); }\n";

static void sources(Ctx *c, void *arg) {
    Weights w = *(Weights *)arg;
    const char *dir = tool_temp_dir(c), *exe = gd_format(c, "%s/user", dir);
    EmitOptions o = options(c, w);
    backend_c.write(parse(c, dense), &o, EMIT_C, dir);
    gd_write_file(c, gd_format(c, "%s/user.c", dir), user, strlen(user));
    gd_write_file(c, gd_format(c, "%s/x.cc", dir), cxx, strlen(cxx));
    Text *out = text_new(c);
    char *object = gd_format(c, "%s/dense_weights.o", dir), *file = gd_format(c, "%s/dense.weights", dir);
    assert_int_equal(!access(object, R_OK), w == WEIGHTS_OBJECT);
    assert_int_equal(!access(file, R_OK), w == WEIGHTS_FILE);
    bool given = w == WEIGHTS_FILE || w == WEIGHTS_EXTERN;
    if (w == WEIGHTS_EXTERN) {
        CSources s;
        c_emit(parse(c, dense), &o, NULL, &s);
        blob_write(c, &s.blob, file);
    }
    run_tool(c, out, "gcc", "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-O2",
             gd_format(c, "%s/user.c", dir), gd_format(c, "%s/dense.c", dir),
             given ? "-DSET=in.weights = blob" : "-DSET=(void)0", "-o", exe, "-lm",
             w == WEIGHTS_OBJECT ? object : NULL, NULL);
    run_tool(c, out, "g++", "-Wall", "-Wextra", "-Werror", "-c", gd_format(c, "%s/x.cc", dir), "-o",
             gd_format(c, "%s/x.o", dir), NULL);
    out = text_new(c);
    run_tool(c, out, exe, given ? file : NULL, NULL);
    assert_string_equal(out->s, "0 16 7.5 -6.25 2 -3.25\n1 1 a size is out of range\n");
}

static void places_of_weights(void **state) {
    (void)state;
    for (Weights w = WEIGHTS_EMBED; w <= WEIGHTS_EXTERN; w++) within(sources, &w);
}

/* The same program and options give the same bytes. */
static void deterministic_body(Ctx *c, void *arg) {
    (void)arg;
    CSources a, b;
    EmitOptions o = options(c, WEIGHTS_EMBED);
    o.table = true;
    c_emit(parse(c, dense), &o, NULL, &a);
    c_emit(parse(c, dense), &o, NULL, &b);
    assert_string_equal(a.source->s, b.source->s);
    assert_string_equal(a.header->s, b.header->s);
    assert_null(strstr(a.source->s, "malloc"));
}
static void deterministic(void **state) {
    (void)state;
    within(deterministic_body, NULL);
}

/* ---- compiled ---- */

typedef int Run(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t arena_bytes);

static void call_library(Ctx *c, const char *path) {
    void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); /* OpenMP's threads stay */
    if (!h) fail_msg("%s", dlerror());
    Run *run;
    *(void **)&run = dlsym(h, "dense_run_raw");
    float y[4] = {0};
    int64_t syms[1] = {2};
    assert_int_equal(run((const void *const[]){xs}, (void *[]){y}, syms, gd_alloc(c, 16), 16), 0);
    assert_memory_equal(y, want, sizeof want);
    assert_int_equal(run((const void *const[]){xs}, (void *[]){y}, syms, gd_alloc(c, 16), 15),
                     GRADC_RUN_ARENA);
}

static void compiled(Ctx *c, void *arg) {
    Weights w = *(Weights *)arg;
    const char *dir = tool_temp_dir(c);
    EmitOptions o = options(c, w);
    Text *out = text_new(c);
    char *so = gd_format(c, "%s/dense.so", dir), *object = gd_format(c, "%s/dense.o", dir),
         *exe = gd_format(c, "%s/dense", dir);
    backend_c.write(parse(c, dense), &o, EMIT_SO, so);
    call_library(c, so);
    backend_c.write(parse(c, dense), &o, EMIT_OBJ, object);
    run_tool(c, out, "cc", "-shared", "-fopenmp", object, "-o", so, NULL);
    call_library(c, so);
    backend_c.write(parse(c, dense), &o, EMIT_ASM, gd_format(c, "%s/dense.s", dir));
    size_t n;
    assert_non_null(strstr(gd_read_file(c, gd_format(c, "%s/dense.s", dir), 1 << 20, &n), "dense_run_raw"));
    o.table = o.main = true;
    backend_c.write(parse(c, dense), &o, EMIT_EXE, exe);
    out = text_new(c);
    run_tool(c, out, exe, "[1,2,9;-1,0.5,9]", NULL);
    assert_string_equal(out->s, "int f32[2,2] = [[7.5, -6.25], [2, -3.25]]\n");
}

static void objects_and_executables(void **state) {
    (void)state;
    within(compiled, &(Weights){WEIGHTS_EMBED});
    within(compiled, &(Weights){WEIGHTS_OBJECT});
}

static void mapped_body(Ctx *c, void *arg) {
    (void)arg;
    const char *exe = gd_format(c, "%s/model", tool_temp_dir(c));
    EmitOptions o = options(c, WEIGHTS_FILE);
    o.table = o.main = true;
    backend_c.write(parse(c, dense), &o, EMIT_EXE, exe);
    Text *out = text_new(c);
    run_tool(c, out, exe, "[1,2,9;-1,0.5,9]", NULL);
    assert_string_equal(out->s, "int f32[2,2] = [[7.5, -6.25], [2, -3.25]]\n");
    assert_int_equal(truncate(gd_format(c, "%s.weights", exe), 5), 0);
    assert_int_equal(tool_run(c, (const char *const[]){exe, "[1,2,9]", NULL}, out), EXIT_INVALID);
}
static void mapped_weights(void **state) {
    (void)state;
    within(mapped_body, NULL);
}

static void loaded(Ctx *c, void *arg) {
    (void)arg;
    Loaded l, m;
    EmitOptions o = options(c, WEIGHTS_EMBED);
    o.profile = true;
    o.prefix = "other";
    backend_c.load(parse(c, dense), &o, &l);
    float y[4] = {0};
    int64_t syms[1] = {2}, dims[2];
    uint64_t calls, ns;
    assert_int_equal(l.program->run((const void *const[]){xs}, (void *[]){y}, syms, gd_alloc(c, 16),
                                    l.program->arena_bytes(syms)),
                     0);
    assert_memory_equal(y, want, sizeof want);
    assert_int_equal(l.profile(1, &calls, &ns), 0);
    assert_int_equal(calls, 1);
    assert_int_equal(l.profile(2, &calls, &ns), -1);
    assert_string_equal(l.program->in[0].name, "my-input");
    assert_int_equal(l.program->in[0].dims[0], -1);
    l.program->out_dims(syms, dims);
    assert_int_equal(dims[0], 2);

    o.profile = false;
    o.prefix = NULL;
    backend_c.load(parse(c, positive), &o, &m);
    static const float x[8] = {-1, 2, 0, 3, -2, 5, 1, 0};
    void *outs[1] = {NULL};
    int64_t open[1] = {-1};
    m.program->out_dims(open, dims);
    assert_int_equal(dims[0], -1);
    size_t bytes = m.program->arena_bytes(open);
    assert_int_equal(m.program->run((const void *const[]){x}, outs, open, gd_alloc_aligned(c, bytes), bytes),
                     0);
    assert_int_equal(open[0], 4);
    assert_memory_equal(outs[0], ((int64_t[]){1, 3, 5, 6}), 32);
    outs[0] = NULL;
    assert_int_equal(m.program->run((const void *const[]){x}, outs, open, gd_alloc_aligned(c, 128), 128),
                     GRADC_RUN_ARENA);
}
static void into_this_process(void **state) {
    (void)state;
    within(loaded, NULL);
}

/* ---- the heap ---- */

static void heap(void **state) {
    (void)state;
    static unsigned char memory[4096 + 13];
    GradcHeap h;
    for (size_t skip = 0; skip < 14; skip++) {
        gradc_heap_init(&h, memory + skip, 4096 - skip);
        void *a = gradc_heap_alloc(&h, 100), *b = gradc_heap_alloc(&h, 0), *d = gradc_heap_alloc(&h, 1000);
        assert_true(a && b && d && a != b && (uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
        memset(a, 1, 100);
        memset(d, 2, 1000);
        assert_null(gradc_heap_alloc(&h, 4000));
        assert_null(gradc_heap_alloc(&h, SIZE_MAX));
        gradc_heap_free(&h, a);
        gradc_heap_free(&h, b);
        gradc_heap_free(&h, NULL);
        assert_ptr_equal(gradc_heap_alloc(&h, 190), a); /* both places joined */
        gradc_heap_free(&h, a);
        gradc_heap_free(&h, d);
        assert_ptr_equal(gradc_heap_alloc(&h, 3800), a);
    }
    gradc_heap_init(&h, NULL, 0);
    assert_null(gradc_heap_alloc(&h, 0));
    gradc_heap_init(&h, memory, 40);
    assert_null(gradc_heap_alloc(&h, 0));
}

/* ---- targets, tools ---- */

static void targets_body(Ctx *c, void *arg) {
    (void)arg;
    static const char *const names[] = {
        "native", "generic", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64", "riscv64-unknown-linux-gnu"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const Target *t = target_named(c, names[i]);
        assert_non_null(t);
        assert_string_equal(t->name, names[i]);
        assert_true(t->l1 >= 4096 && t->l2 >= t->l1 && t->registers >= 16);
        assert_true(t->lanes == 1 || t->lanes == 4 || t->lanes == 8 || t->lanes == 16);
    }
    assert_null(target_named(c, "pdp11"));
    assert_true(target_named(c, "native")->native);
    Text *out = text_new(c);
    assert_int_equal(
        tool_run(c, (const char *const[]){"sh", "-c", "echo out; echo err >&2; exit 7", NULL}, out), 7);
    assert_string_equal(out->s, "out\nerr\n");
    setenv("CC", "gcc -pipe", 1);
    assert_string_equal(tool_cc(c), "gcc -pipe");
    setenv("CC", "no-such-compiler", 1);
    assert_non_null(tool_cc(c));
    unsetenv("CC");
    struct stat st;
    const char *dir = tool_temp_dir(c);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}
static void targets_and_tools(void **state) {
    (void)state;
    within(targets_body, NULL);
}

static void no_such_tool(Ctx *c, void *arg) {
    (void)arg;
    tool_run(c, (const char *const[]){"no-such-program-here", NULL}, NULL);
}
static void no_llvm_from_c(Ctx *c, void *arg) {
    (void)arg;
    EmitOptions o = options(c, WEIGHTS_EMBED);
    backend_c.write(parse(c, dense), &o, EMIT_LL, "x.ll");
}
static void refusals(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    assert_int_equal(gd_enter(c, no_such_tool, NULL), EXIT_IO);
    assert_int_equal(gd_enter(c, no_llvm_from_c, NULL), EXIT_UNSUPPORTED);
    gd_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_of_weights),       cmocka_unit_test(deterministic),
        cmocka_unit_test(objects_and_executables), cmocka_unit_test(mapped_weights),
        cmocka_unit_test(into_this_process),       cmocka_unit_test(heap),
        cmocka_unit_test(targets_and_tools),       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
