/* Training end to end, through the public API: the example's network learns from a small data set made here. The same weights to the bit from
   both back ends and any number of threads, and from a run that was interrupted; what was learned is found again by eval
   and by the exported model. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "fit.h"
#include "gradc.h"
#include "safetensors.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL "examples/fashion_cnn/fashion_cnn.onnx"
enum { RECORDS = 72, SIDE = 28 };

static char dir[] = "/tmp/gradc-train-XXXXXX";

static void path_of(char *to, const char *name) { snprintf(to, 256, "%s/%s", dir, name); }

static void big_endian(FILE *f, uint32_t v) {
    for (int i = 3; i >= 0; i--) fputc((int)(v >> 8 * i & 255), f);
}

/* Class k: a bright bar in row 2k, and noise. */
static void make_data(const char *images, const char *labels) {
    char path[256];
    uint32_t counter[4] = {0}, key[2] = {7, 0}, word[4];
    path_of(path, images);
    FILE *x = fopen(path, "wb");
    path_of(path, labels);
    FILE *y = fopen(path, "wb");
    assert_true(x && y);
    big_endian(x, 0x803), big_endian(x, RECORDS), big_endian(x, SIDE), big_endian(x, SIDE);
    big_endian(y, 0x801), big_endian(y, RECORDS);
    for (int r = 0; r < RECORDS; r++) {
        fputc(r % 10, y);
        for (int i = 0; i < SIDE * SIDE; i++) {
            counter[0]++;
            gradc_philox(counter, key, word);
            fputc(i / SIDE == 2 * (r % 10) ? 255 : (int)(word[0] & 63), x);
        }
    }
    fclose(x);
    fclose(y);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(dir)) return -1;
    make_data("train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    make_data("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    return 0;
}

static Gradc *open_model(const char *backend, const char *threads) {
    Gradc *g = gradc_open();
    static const char *const options[][2] = {{"loss", "sparse_categorical_crossentropy"}, {"optimizer", "adam"}, {"metrics", "accuracy"},
                                             {"batch", "16"}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) assert_int_equal(gradc_option(g, options[i][0], options[i][1]), 0);
    if (backend) assert_int_equal(gradc_option(g, "backend", backend), 0);
    if (threads) assert_int_equal(gradc_option(g, "threads", threads), 0);
    assert_int_equal(gradc_load(g, MODEL), 0);
    return g;
}

static void must(const Gradc *g, int status) {
    for (int i = 0; status && i < gradc_problem_count(g); i++) print_error("%s\n", gradc_problem(g, i).text);
    assert_int_equal(status, 0);
}

static void train(const char *backend, const char *threads, const char *out, int64_t steps, bool resume) {
    Gradc *g = open_model(backend, threads);
    const GradcTrainer *t;
    GradcError e = {0};
    char spec[300], path[256];
    must(g, gradc_trainer(g, GRADC_PART_EVAL, &t));
    snprintf(spec, sizeof spec, "idx:%s", dir);
    path_of(path, out);
    GradcFit o = {.data = spec, .out = path, .epochs = steps ? 4 : 24, .max_steps = steps, .seed = 3, .quiet = true, .resume = resume};
    FILE *sink = fopen("/dev/null", "w");
    int status = gradc_fit(t, &o, sink, &e);
    if (status) print_error("%s\n", e.text);
    assert_int_equal(status, 0);
    fclose(sink);
    gradc_close(g);
}

/* Every state but the metrics' sums: file a is file b. */
static void same(const char *a, const char *b) {
    char path[256];
    GradcSafetensors x, y;
    GradcError e = {0};
    path_of(path, a);
    assert_int_equal(gradc_safetensors_read(&x, path, &e), 0);
    path_of(path, b);
    assert_int_equal(gradc_safetensors_read(&y, path, &e), 0);
    assert_int_equal(x.n, y.n);
    for (int i = 0; i < x.n; i++) {
        const GradcTensor *t = gradc_safetensors_find(&y, x.tensors[i].name);
        assert_non_null(t);
        assert_int_equal(t->bytes, x.tensors[i].tensor.bytes);
        if (memcmp(t->data, x.tensors[i].tensor.data, t->bytes)) fail_msg("%s and %s differ in %s", a, b, x.tensors[i].name);
    }
    gradc_safetensors_free(&x);
    gradc_safetensors_free(&y);
}

static void equal_bits(void **state) {
    (void)state;
    train("c", "1", "c1", 12, false);
    train("c", "3", "c3", 12, false);
    same("c1", "c3");
#ifdef GRADC_LLVM
    train("llvm", "2", "l2", 12, false);
    same("c1", "l2");
#endif
}

/* Stopped after 1, 5 (an epoch's end) and 8 steps, and resumed each time. */
static void resumed(void **state) {
    (void)state;
    static const int64_t stops[] = {1, 5, 8, 12};
    for (int i = 0; i < 4; i++) train(NULL, NULL, "r", stops[i], i > 0);
    train(NULL, NULL, "whole", 12, false);
    same("r", "whole");
}

static void number_in(const char *text, const char *name, double *v) {
    const char *s = strstr(text, name);
    assert_non_null(s);
    *v = atof(s + strlen(name));
}

static void learned(void **state) {
    (void)state;
    char spec[300], path[256], *text = NULL;
    size_t n;
    const GradcTrainer *t;
    GradcError e = {0};
    double accuracy;
    train(NULL, NULL, "w", 0, false);
    Gradc *g = open_model(NULL, NULL);
    must(g, gradc_trainer(g, GRADC_PART_EVAL, &t));
    snprintf(spec, sizeof spec, "idx:%s,test", dir);
    path_of(path, "w");
    GradcFit o = {.data = spec, .params = path};
    FILE *f = open_memstream(&text, &n);
    assert_int_equal(gradc_evaluate(t, &o, f, &e), 0);
    fclose(f);
    number_in(text, "accuracy: ", &accuracy);
    assert_true(accuracy > .9);
    free(text);
    gradc_close(g);
}

static void exported(void **state) {
    (void)state;
    char params[256], out[256];
    GradcInfo info;
    path_of(params, "w");
    path_of(out, "w.onnx");
    Gradc *g = open_model(NULL, NULL);
    must(g, gradc_export(g, params, out));
    gradc_close(g);
    g = gradc_open();
    must(g, gradc_load(g, out));
    must(g, gradc_inspect(g, &info));
    assert_int_equal(info.parameters, 34826);
    gradc_close(g);
}

/* ---- the C sources, by their own calls ---- */

static const char program[] =
    "#include \"fashion_cnn.h\"\n"
    "#include <stdio.h>\n"
    "#include <stdlib.h>\n"
    "static int put(void *f, const void *p, size_t n) { return fwrite(p, 1, n, f) != n; }\n"
    "static int get(void *f, void *p, size_t n) { return fread(p, 1, n, f) != n; }\n"
    "static float x[16 * 784];\n"
    "static int64_t y[16];\n"
    "int main(int argc, char **argv) {\n"
    "    void *state = malloc(FASHION_CNN_STATE_BYTES), *arena = malloc(FASHION_CNN_TRAIN_ARENA_BYTES);\n"
    "    fashion_cnn_inputs in = {.N = 16, .image = x, .target = y};\n"
    "    fashion_cnn_metrics out;\n"
    "    for (int i = 0; i < 16 * 784; i++) x[i] = (float)(i * 7 % 13) / 13;\n"
    "    for (int i = 0; i < 16; i++) y[i] = i % 10;\n"
    "    if (argc < 2 || fashion_cnn_init_state(state, 3)) return 1;\n"
    "    for (int i = 0; i < 4; i++) {\n"
    "        in.N = i < 3 ? 16 : 5;\n"
    "        if (fashion_cnn_train_step(&in, state, arena, &out) || !(out.batch_loss > 0)) return 2;\n"
    "    }\n"
    "    FILE *f = fopen(argv[1], \"w+b\");\n"
    "    if (!f || fashion_cnn_save(state, put, f) || fseek(f, 0, SEEK_SET)) return 3;\n"
    "    return fashion_cnn_load(state, get, f) || fclose(f) ? 4 : 0;\n"
    "}\n";

/* What the program above does, in this process. */
static void same_steps(const GradcTrainer *t, void *state) {
    static float x[16 * 784];
    static int64_t y[16];
    GradcError e = {0};
    for (int i = 0; i < 16 * 784; i++) x[i] = (float)(i * 7 % 13) / 13;
    for (int i = 0; i < 16; i++) y[i] = i % 10;
    assert_int_equal(gradc_state_init(t, state, 3, &e), 0);
    for (int step = 0; step < 4; step++) {
        GradcCall c;
        int64_t n = step < 3 ? 16 : 5;
        const GradcProgram *p = n == 16 ? t->step : t->step_any;
        assert_int_equal(gradc_trainer_open(&c, t, p, state, &e), 0);
        for (int i = 0; i < p->nin; i++) {
            bool target = !strcmp(p->in[i].name, "target");
            if (!gradc_trainer_data_in(t, p, i)) continue;
            GradcTensor in = {.dtype = target ? GRADC_I64 : GRADC_F32, .rank = target ? 1 : 4, .dims = {n, 1, 28, 28}, .data = target ? (void *)y : x};
            assert_int_equal(gradc_call_set(&c, i, &in, &e), 0);
        }
        assert_int_equal(gradc_call_run(&c, &e), 0);
        gradc_call_close(&c);
    }
}

static void sources(void **state) {
    (void)state;
    char source[256], command[2048], saved[256];
    const GradcTrainer *t;
    GradcSafetensors x;
    GradcError e = {0};
    path_of(source, "src");
    path_of(saved, "saved");
    Gradc *g = open_model(NULL, NULL);
    must(g, gradc_write_trainer(g, "c", source));
    snprintf(command, sizeof command, "%s/main.c", source);
    FILE *f = fopen(command, "w");
    assert_true(f && fputs(program, f) >= 0 && !fclose(f));
    const char *cc = getenv("CC");
    snprintf(command, sizeof command, "%s -std=c99 -O1 -w -Wno-psabi %s/*.c -o %s/trains -lm && %s/trains %s", cc ? cc : "cc", source, source, source, saved);
    assert_int_equal(system(command), 0);
    must(g, gradc_trainer(g, 0, &t));
    void *here = gradc_state_new(t);
    same_steps(t, here);
    assert_int_equal(gradc_safetensors_read(&x, saved, &e), 0);
    for (int i = 0; i < t->nstates; i++) {
        GradcTensor mine = gradc_state_tensor(t, here, i);
        const GradcTensor *theirs = gradc_safetensors_find(&x, t->states[i].name);
        if (t->states[i].kind == GRADC_METRIC) continue;
        assert_non_null(theirs);
        if (memcmp(theirs->data, mine.data, mine.bytes)) fail_msg("the sources differ in %s", t->states[i].name);
    }
    gradc_safetensors_free(&x);
    free(here);
    gradc_close(g);
}

/* An executable by the C back end: what its units and its face are called must not clash. */
static void executable(void **state) {
    (void)state;
    char out[256], command[1024];
    path_of(out, "trains");
    Gradc *g = open_model("c", NULL);
    must(g, gradc_write_trainer(g, "exe", out));
    gradc_close(g);
    snprintf(command, sizeof command, "%s train --data idx:%s --epochs 4 --max-steps 12 --seed 3 --quiet -o %s.w >/dev/null", out, dir, out);
    assert_int_equal(system(command), 0);
    same("trains.w", "whole");
}

/* Class numbers have no gradient: the face of such a model is without that call. */
static void tokens(void **state) {
    (void)state;
    char model[256], source[256];
    path_of(model, "tokens.model");
    path_of(source, "tokens");
    FILE *f = fopen(model, "w");
    assert_true(f && fputs("model m\nsemantics torch\ninput t: i64[N, 4]\nembedding 7 3\nflatten\nlinear 5\n"
                           "train\n    loss cross_entropy\n    optimizer sgd\n", f) >= 0 && !fclose(f));
    Gradc *g = gradc_open();
    must(g, gradc_load(g, model));
    must(g, gradc_write_trainer(g, "c", source));
    gradc_close(g);
    snprintf(model, sizeof model, "%s/m_step.c", source);
    assert_int_equal(access(model, F_OK), 0);
    snprintf(model, sizeof model, "%s/m_grad.c", source);
    assert_int_not_equal(access(model, F_OK), 0);
}

static void told(void **state) {
    (void)state;
    const GradcTrainer *t;
    Gradc *g = gradc_open();
    assert_int_equal(gradc_load(g, MODEL), 0);
    assert_int_equal(gradc_trainer(g, 0, &t), 2); /* no loss, no optimizer */
    assert_int_equal(gradc_problem_count(g), 2);
    assert_int_equal(gradc_option(g, "loss", "sparse_categorical_crossentropi"), 0);
    assert_int_equal(gradc_option(g, "optimizer", "adam"), 0);
    assert_int_not_equal(gradc_trainer(g, 0, &t), 0);
    assert_non_null(strstr(gradc_problem(g, 0).help, "sparse_categorical_crossentropy"));
    gradc_close(g);
    g = open_model(NULL, NULL);
    assert_int_equal(gradc_option(g, "dim", "N=64"), 0); /* it is the batch */
    assert_int_equal(gradc_trainer(g, 0, &t), 2);
    gradc_close(g);
}

static int tear_down(void **state) {
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equal_bits), cmocka_unit_test(resumed), cmocka_unit_test(learned), cmocka_unit_test(sources), cmocka_unit_test(executable), cmocka_unit_test(tokens),
                                       cmocka_unit_test(exported), cmocka_unit_test(told)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
