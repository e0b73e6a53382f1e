/* Files that are no sound models, given to the gradc binary as a user would: it says what is wrong, ends with the status of
   that fault within two seconds and 256 MiB, prints nothing but printable characters, and writes nothing. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "onnx.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
enum { ROOM = 1 << 15, CUTS = 1500, SECONDS = 2, KILOBYTES = 256 << 10 };
#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static char dir[64], binary[4096];
typedef struct Ran { int status; char out[ROOM], err[ROOM]; } Ran;
static Ran ran;
static double worst_seconds;
static long worst_kilobytes;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_pipe(int fd, char *to) {
    size_t n = 0;
    for (ssize_t k; n < ROOM - 1 && (k = read(fd, to + n, ROOM - 1 - n)) > 0;) n += (size_t)k;
    to[n] = 0;
    close(fd);
}

/* Runs gradc, or another program, in the empty directory; its output must fit the pipes. */
static void run(const char *const *argv, bool limited) {
    int out[2], err[2], status;
    struct rusage used;
    posix_spawn_file_actions_t fa;
    pid_t pid;
    assert_false(pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC));
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, out[1], 1);
    posix_spawn_file_actions_adddup2(&fa, err[1], 2);
    double start = now();
    assert_int_equal(posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    close(out[1]);
    close(err[1]);
    read_pipe(err[0], ran.err);
    read_pipe(out[0], ran.out);
    assert_int_equal(wait4(pid, &status, 0, &used), pid);
    double seconds = now() - start;
    if (!WIFEXITED(status)) fail_msg("%s %s: ended by signal %d\n%s", argv[1], argv[2], WTERMSIG(status), ran.err);
    ran.status = WEXITSTATUS(status);
    if (!limited) return;
    if (seconds > worst_seconds) worst_seconds = seconds;
    if (used.ru_maxrss > worst_kilobytes) worst_kilobytes = used.ru_maxrss;
    if (SANITIZED) return;
    if (seconds > SECONDS) fail_msg("%s %s: %g seconds", argv[1], argv[2], seconds);
    if (used.ru_maxrss > KILOBYTES) fail_msg("%s %s: %ld KiB", argv[1], argv[2], used.ru_maxrss);
}

static void put(const char *name, const void *bytes, size_t n) {
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* Only model.onnx is there, and no temporary file either. */
static void nothing_written(void) {
    DIR *d = opendir(".");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (*e->d_name != '.' && strcmp(e->d_name, "model.onnx")) fail_msg("%s was written", e->d_name);
    closedir(d);
}

static void printable(const char *text) {
    for (const char *p = text; *p; p++)
        if (!isprint((unsigned char)*p) && *p != '\n') fail_msg("byte %d is printed:\n%s", (unsigned char)*p, text);
}

/* model.onnx must be refused with the code and the status, by `check` (where statuses of models are 3) and by `compile`. */
static void refused(const char *what, int code, int status, int check_status) {
    const char *const ways[][7] = {{binary, "check", "model.onnx"},
                                   {binary, "compile", "model.onnx", "-o", "made"},
                                   {binary, "compile", "model.onnx", "--emit=c", "-o", "made"}};
    char want[32];
    snprintf(want, sizeof want, "error[E%04d]: ", code);
    for (int i = 0; i < 3; i++) {
        run(ways[i], true);
        if (ran.status != (i ? status : check_status)) fail_msg("%s: way %d: status %d\n%s", what, i, ran.status, ran.err);
        if (!strstr(ran.err, want)) fail_msg("%s: no %s in\n%s", what, want, ran.err);
        assert_string_equal(ran.out, "");
        printable(ran.err);
        nothing_written();
    }
}

/* ---- bytes ---- */

static void garbage(void **state) {
    (void)state;
    static char bytes[1 << 20];
    uint64_t x = 1;
    put("model.onnx", "", 0);
    refused("empty file", 102, 1, 1);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)((x = x * 6364136223846793005u + 1442695040888963407u) >> 56);
    put("model.onnx", bytes, sizeof bytes);
    refused("noise", 103, 1, 1);
    memset(bytes, 0, sizeof bytes);
    put("model.onnx", bytes, sizeof bytes);
    refused("zeros", 103, 1, 1);
    memset(bytes, '<', sizeof bytes);
    put("model.onnx", bytes, sizeof bytes);
    refused("text", 104, 1, 1);
    put("model.onnx", "graph g(x: f32[N]) -> (", 23);
    refused("half a graph", 104, 1, 1);
}

static uint8_t *example(const char *root, size_t *n) {
    char path[4200];
    snprintf(path, sizeof path, "%s/examples/fashion_cnn/fashion_cnn.onnx", root);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    uint8_t *p = malloc(1 << 20);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static char root[4096];

/* Every cut near the beginning, where most fields are, then evenly. */
static void cut(void **state) {
    (void)state;
    size_t n;
    uint8_t *p = example(root, &n);
    for (size_t k = 1, step = n / (CUTS / 2); k < n; k += k < CUTS / 2 ? 1 : step) {
        const char *const check[] = {binary, "check", "model.onnx", NULL};
        put("model.onnx", p, k);
        run(check, true);
        if (ran.status == 0) fail_msg("cut at byte %zu: accepted", k);
        if (ran.status != 1 || !strstr(ran.err, "error[E010")) fail_msg("cut at byte %zu: status %d\n%s", k, ran.status, ran.err);
        printable(ran.err);
    }
    put("model.onnx", p, n - 1);
    refused("a byte short", 103, 1, 1);
    free(p);
}

/* ---- models ---- */

#define NEW(type, name, lower) \
    static type *name(void) { \
        type *p = calloc(1, sizeof *p); \
        onnx__##lower##__init(p); \
        return p; \
    }
NEW(PbNode, new_node, node_proto)
NEW(PbTensor, new_tensor, tensor_proto)
NEW(PbEntry, new_entry, string_string_entry_proto)

typedef struct Made {
    PbModel model;
    PbGraph graph;
    PbOpset opset;
    PbValueInfo value[2];
    PbType type[2];
    Onnx__TypeProto__Tensor tensor[2];
    PbShape shape[2];
    PbDim dim[2][4];
    PbDim *dims[2][4];
    PbOpset *opsets[1];
    PbValueInfo *in[1], *out[1];
    PbNode *node[4];
    PbTensor *init[1];
} Made;

/* x f32[dims] -> y, opset 17, without nodes. */
static Made *model(char *x, char *y, int rank, const int64_t *dims) {
    Made *m = calloc(1, sizeof *m);
    onnx__model_proto__init(&m->model);
    onnx__graph_proto__init(&m->graph);
    onnx__operator_set_id_proto__init(&m->opset);
    m->model.has_ir_version = 1;
    m->model.ir_version = 8;
    m->opset.has_version = 1;
    m->opset.version = 17;
    m->opsets[0] = &m->opset;
    m->model.opset_import = m->opsets;
    m->model.n_opset_import = 1;
    m->model.graph = &m->graph;
    m->graph.name = "g";
    for (int i = 0; i < 2; i++) {
        onnx__value_info_proto__init(&m->value[i]);
        onnx__type_proto__init(&m->type[i]);
        onnx__type_proto__tensor__init(&m->tensor[i]);
        onnx__tensor_shape_proto__init(&m->shape[i]);
        m->value[i].name = i ? y : x;
        m->value[i].type = &m->type[i];
        m->type[i].tensor_type = &m->tensor[i];
        m->tensor[i].has_elem_type = 1;
        m->tensor[i].elem_type = 1;
        m->tensor[i].shape = &m->shape[i];
        m->shape[i].dim = m->dims[i];
        m->shape[i].n_dim = (size_t)rank;
        for (int d = 0; d < rank; d++) {
            onnx__tensor_shape_proto__dimension__init(&m->dim[i][d]);
            m->dims[i][d] = &m->dim[i][d];
            m->dim[i][d].has_dim_value = 1;
            m->dim[i][d].dim_value = dims[d];
        }
    }
    m->in[0] = &m->value[0];
    m->out[0] = &m->value[1];
    m->graph.input = m->in;
    m->graph.output = m->out;
    m->graph.n_input = m->graph.n_output = 1;
    m->graph.node = m->node;
    m->graph.initializer = m->init;
    return m;
}

static void node(Made *m, char *name, char *op, char *a, char *b, char *y) {
    PbNode *n = new_node();
    n->name = name;
    n->op_type = op;
    n->n_input = b ? 2 : 1;
    n->input = calloc(2, sizeof(char *));
    n->output = calloc(1, sizeof(char *));
    n->input[0] = a;
    n->input[1] = b;
    n->n_output = 1;
    n->output[0] = y;
    m->node[m->graph.n_node++] = n;
}

static PbTensor *initializer(Made *m, char *name, int rank, const int64_t *dims) {
    PbTensor *t = new_tensor();
    t->name = name;
    t->has_data_type = 1;
    t->data_type = 1;
    t->n_dims = (size_t)rank;
    t->dims = calloc((size_t)rank, sizeof *t->dims);
    memcpy(t->dims, dims, (size_t)rank * sizeof *dims);
    m->init[m->graph.n_initializer++] = t;
    return t;
}

static void save(Made *m) {
    size_t n = onnx__model_proto__get_packed_size(&m->model);
    uint8_t *p = malloc(n);
    onnx__model_proto__pack(&m->model, p);
    put("model.onnx", p, n);
    free(p);
    for (size_t i = 0; i < m->graph.n_node; i++) {
        free(m->node[i]->input);
        free(m->node[i]->output);
        free(m->node[i]);
    }
    for (size_t i = 0; i < m->graph.n_initializer; i++) {
        for (size_t k = 0; k < m->init[i]->n_external_data; k++) free(m->init[i]->external_data[k]);
        free(m->init[i]->external_data);
        free(m->init[i]->dims);
        free(m->init[i]);
    }
    free(m);
}

static void huge(void **state) {
    (void)state;
    static const int64_t big[] = {(int64_t)1 << 40, (int64_t)1 << 40}, top[] = {INT64_MAX, 2}, large[] = {1 << 20, 1 << 20};
    Made *m = model("x", "y", 1, (const int64_t[]){4});
    initializer(m, "w", 2, big);
    node(m, "", "Add", "x", "w", "y");
    save(m);
    refused("initializer of 2^80 elements", 505, 4, 4);
    m = model("x", "y", 1, (const int64_t[]){4});
    initializer(m, "w", 2, large);
    node(m, "", "Add", "x", "w", "y");
    save(m);
    refused("initializer without its data", 206, 1, 3);
    m = model("x", "y", 2, top);
    node(m, "", "Abs", "x", NULL, "y");
    save(m);
    refused("input of 2^64 elements", 505, 4, 4);
}

static void cycle(void **state) {
    (void)state;
    Made *m = model("x", "y", 1, (const int64_t[]){4});
    node(m, "", "Add", "x", "b", "a");
    node(m, "", "Abs", "a", NULL, "b");
    node(m, "", "Neg", "b", NULL, "y");
    save(m);
    refused("cycle", 203, 1, 3);
    m = model("x", "y", 1, (const int64_t[]){4});
    node(m, "", "Add", "x", "y", "y");
    save(m);
    refused("a node that uses itself", 203, 1, 3);
}

static void outside(void **state) {
    (void)state;
    static const char *const places[] = {"missing.bin", "../secret.bin", "a/../../secret.bin", "/etc/passwd", "", "."};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        Made *m = model("x", "y", 1, (const int64_t[]){4});
        PbTensor *t = initializer(m, "w", 1, (const int64_t[]){4});
        t->has_data_location = 1;
        t->data_location = 1;
        t->n_external_data = 1;
        t->external_data = calloc(1, sizeof *t->external_data);
        t->external_data[0] = new_entry();
        t->external_data[0]->key = "location";
        t->external_data[0]->value = (char *)places[i];
        node(m, "", "Add", "x", "w", "y");
        save(m);
        refused(places[i], 105, 1, 3);
    }
}

#define HOSTILE "*/ \" \\ %n%s ?" "?/ \n#error x\n \x01\x7f\xff '; $(id) `id` "

static void names(void **state) {
    (void)state;
    Made *m = model(HOSTILE "x", HOSTILE "y", 1, (const int64_t[]){4});
    node(m, HOSTILE, "Frob" HOSTILE, HOSTILE "x", NULL, HOSTILE "y");
    save(m);
    refused("operator of a hostile name", 401, 3, 3);

    m = model(HOSTILE "x", HOSTILE "y", 1, (const int64_t[]){2});
    PbTensor *w = initializer(m, HOSTILE "w", 1, (const int64_t[]){2});
    float data[2] = {1, 2};
    w->has_raw_data = 1;
    w->raw_data = (ProtobufCBinaryData){sizeof data, (uint8_t *)data};
    m->graph.name = HOSTILE;
    node(m, HOSTILE, "Exp", HOSTILE "x", NULL, HOSTILE "t");
    node(m, HOSTILE, "Mul", HOSTILE "t", HOSTILE "w", HOSTILE "y");
    save(m);
    const char *const emit[] = {binary, "compile", "model.onnx", "--emit=c", "-o", "made", NULL};
    const char *const read[] = {"cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "made/model.c", NULL};
    const char *const show[] = {binary, "ir", "model.onnx", "--all", NULL};
    run(emit, true);
    if (ran.status) fail_msg("hostile names: %s", ran.err);
    run(show, true);
    assert_int_equal(ran.status, 0);
    printable(ran.out);
    const char *cc = getenv("CC");
    if (!cc || !strchr(cc, ' ')) {
        run(read, false);
        if (ran.status) fail_msg("the source made of hostile names does not compile:\n%s", ran.err);
    }
    static const char *const made[] = {"made/model.c", "made/model.h", "made"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) remove(made[i]);
    nothing_written();
}

static int begin(void **state) {
    (void)state;
    ssize_t n = readlink("/proc/self/exe", binary, sizeof binary - 8);
    if (n < 0 || !getcwd(root, sizeof root)) return 1;
    binary[n] = 0;
    strcpy(strrchr(binary, '/'), "/gradc");
    strcpy(dir, "/tmp/gradc-bad-XXXXXX");
    return !mkdtemp(dir) || chdir(dir) || setenv("TMPDIR", dir, 1);
}

static int end(void **state) {
    (void)state;
    if (!SANITIZED) printf("worst: %.3f s, %ld KiB\n", worst_seconds, worst_kilobytes);
    unlink("model.onnx");
    return chdir("/") || rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage), cmocka_unit_test(huge), cmocka_unit_test(cycle), cmocka_unit_test(outside),
        cmocka_unit_test(names), cmocka_unit_test(cut),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
