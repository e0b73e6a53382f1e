/* What a compiled model says of its input: m_input_grad of the C sources' call in a shared library, by both back ends, against the program
   made in this process; attacks and maps of saliency upon the library's table, and what the command line writes. All to the bit. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include "attack.h"
#include "checkpoint.h"
#include "child.h"
#include "fit.h"
#include "gradc.h"
#include "scratch.h"
#include "trained.h"

enum { N = 5, PIXELS = SIDE * SIDE };

/* cnn.h of the C sources. */
typedef struct Inputs { int64_t N; const float *image; const int64_t *target; } Inputs;
typedef struct Gradients { float batch_loss; float *d_image; } Gradients;
typedef struct Library {
    void *handle;
    const GradcProgram *program;
    size_t (*arena_bytes)(const Inputs *);
    int (*input_grad)(const Inputs *, const void *, void *, Gradients *);
} Library;

static Gradc *g;
static const GradcTrainer *t;
static void *state_of_model;
static GradcCall call; /* of the program made here */
static float image[N * PIXELS];
static int64_t target[N] = {0, 1, 2, 3, 9};
static Ran ran;

static void must(const Gradc *from, int status) {
    for (int i = 0; status && i < gradc_problem_count(from); i++) print_error("%s\n", gradc_problem(from, i).text);
    assert_int_equal(status, 0);
}

static GradcTensor tensor(bool of_target) {
    return of_target ? (GradcTensor){.dtype = GRADC_I64, .rank = 1, .dims = {N}, .data = target, .bytes = sizeof target}
                     : (GradcTensor){.dtype = GRADC_F32, .rank = 4, .dims = {N, 1, SIDE, SIDE}, .data = image, .bytes = sizeof image};
}

static void open_call(GradcCall *c, const GradcProgram *p) {
    GradcError e;
    assert_int_equal(gradc_trainer_open(c, t, p, state_of_model, &e), 0);
    for (int i = 0; i < p->nin; i++) {
        GradcTensor in = tensor(!strcmp(p->in[i].name, "target"));
        if (gradc_trainer_data_in(t, p, i)) assert_int_equal(gradc_call_set(c, i, &in, &e), 0);
    }
}

static const GradcTensor *output(const GradcCall *c, const char *name) {
    for (int i = 0; i < c->program->nout; i++)
        if (!strcmp(c->program->out[i].name, name)) return &c->out[i];
    fail_msg("no output %s", name);
    return NULL;
}

/* A network that has learned a little, and five images. */
static int begin(void **state) {
    char weights[200];
    GradcError e;
    if (!find_binary() || make_trained(state)) return -1;
    uint32_t counter[4] = {9, 9}, word[4];
    for (int i = 0; i < N * PIXELS; i++) {
        next_word(counter, word);
        image[i] = (float)(word[0] >> 8) / (1 << 24);
    }
    snprintf(weights, sizeof weights, "%s", at("weights"));
    g = gradc_open();
    must(g, gradc_load(g, at("cnn.model")));
    must(g, gradc_trainer(g, GRADC_PART_INPUT_GRAD | GRADC_PART_EVAL, &t));
    GradcFit o = {.data = images_spec(), .out = weights, .epochs = 3, .seed = 5, .quiet = true};
    FILE *sink = fopen("/dev/null", "w");
    if (gradc_fit(t, &o, sink, &e)) fail_msg("%s", e.text);
    fclose(sink);
    state_of_model = gradc_state_new(t);
    assert_int_equal(gradc_state_init(t, state_of_model, 0, &e), 0);
    assert_int_equal(gradc_checkpoint_load(weights, t, state_of_model, GRADC_SAVE_PARAMS, NULL, &e), 0);
    open_call(&call, t->input_grad);
    GradcTensor x = tensor(false), y = tensor(true);
    return gradc_npy_write(&x, at("x.npy"), &e) || gradc_npy_write(&y, at("y.npy"), &e);
}

static int end(void **state) {
    gradc_call_close(&call);
    free(state_of_model);
    gradc_close(g);
    return remove_dir(state);
}

static void *symbol(const Library *l, const char *name) {
    void *p = dlsym(l->handle, name);
    if (!p) fail_msg("%s: %s", name, dlerror());
    return p;
}

static Library open_library(const char *backend) {
    char name[40];
    Library l;
    snprintf(name, sizeof name, "%s.so", backend);
    Gradc *maker = gradc_open();
    must(maker, gradc_option(maker, "backend", backend));
    must(maker, gradc_option(maker, "target", "native")); /* a library is made for any machine unless one is named */
    must(maker, gradc_option(maker, "opt", "1"));
    must(maker, gradc_load(maker, at("cnn.model")));
    must(maker, gradc_write_trainer(maker, "so", at(name)));
    gradc_close(maker);
    l.handle = dlopen(at(name), RTLD_NOW | RTLD_LOCAL);
    if (!l.handle) fail_msg("%s", dlerror());
    l.program = symbol(&l, "cnn_grad_program");
    *(void **)&l.arena_bytes = symbol(&l, "cnn_input_grad_arena_bytes");
    *(void **)&l.input_grad = symbol(&l, "cnn_input_grad");
    return l;
}

/* The call of cnn.h. */
static void same_gradient(const Library *l) {
    static float d[N * PIXELS];
    GradcError e;
    Inputs in = {N, image, target};
    Gradients out = {.d_image = d};
    void *arena = NULL;
    assert_int_equal(posix_memalign(&arena, 64, l->arena_bytes(&in) + 64), 0);
    assert_int_equal(l->input_grad(&in, state_of_model, arena, &out), 0);
    free(arena);
    assert_int_equal(gradc_call_run(&call, &e), 0);
    const GradcTensor *want = output(&call, "d_image");
    assert_int_equal(want->bytes, sizeof d);
    assert_memory_equal(want->data, d, sizeof d);
    assert_memory_equal(output(&call, "batch_loss")->data, &out.batch_loss, sizeof(float));
    float largest = 0;
    for (int i = 0; i < N * PIXELS; i++) largest = fmaxf(largest, fabsf(d[i]));
    assert_true(largest > 0);
}

static const GradcAttack fgsm = {.eps = .05, .lo = -INFINITY, .hi = INFINITY},
                         pgd = {.eps = .1, .lo = 0, .hi = 1, .steps = 5, .random = true, .seed = 4};

static void same_attack(GradcCall *c, const GradcAttack *a) {
    GradcTensor mine, theirs;
    GradcAttackResult r, s;
    GradcError e;
    assert_int_equal(gradc_attack(&call, "image", a, &mine, &r, &e), 0);
    assert_int_equal(gradc_attack(c, "image", a, &theirs, &s, &e), 0);
    assert_memory_equal(mine.data, theirs.data, mine.bytes);
    assert_memory_equal(&r, &s, sizeof r);
    assert_true(r.after > r.before && r.largest <= a->eps + 1e-6);
    gradc_tensor_free(&mine);
    gradc_tensor_free(&theirs);
}

static void library(const char *backend) {
    Library l = open_library(backend);
    GradcCall c;
    GradcTensor mine, theirs;
    GradcError e;
    same_gradient(&l);
    open_call(&c, l.program);
    same_attack(&c, &fgsm);
    same_attack(&c, &pgd);
    for (int kind = GRADC_SALIENCY_GRADIENT; kind <= GRADC_SALIENCY_PRODUCT; kind++) {
        assert_int_equal(gradc_saliency(&call, "image", (GradcSaliency)kind, false, &mine, &e), 0);
        assert_int_equal(gradc_saliency(&c, "image", (GradcSaliency)kind, false, &theirs, &e), 0);
        assert_memory_equal(mine.data, theirs.data, mine.bytes);
        gradc_tensor_free(&mine);
        gradc_tensor_free(&theirs);
    }
    gradc_call_close(&c);
    dlclose(l.handle);
}

static void by_c(void **state) {
    (void)state;
    library("c");
}

static void by_llvm(void **state) {
    (void)state;
#ifdef GRADC_LLVM
    library("llvm");
#else
    skip();
#endif
}

/* ---- the command line ---- */

static void attack_verb(const char *method, const GradcAttack *a, const char *eps) {
    char model[200], x[210], y[210], folder[200], loss[100];
    GradcTensor want, written;
    GradcAttackResult r;
    GradcError e;
    snprintf(model, sizeof model, "%s", at("cnn.model"));
    snprintf(x, sizeof x, "image=@%s", at("x.npy"));
    snprintf(y, sizeof y, "target=@%s", at("y.npy"));
    snprintf(folder, sizeof folder, "%s", at("changed"));
    const char *const argv[] = {binary, "attack", method, model, "--params", at("weights"), x, y, "--eps", eps, "--seed", "4", "--out", folder, NULL};
    run_child(&ran, false, argv);
    if (ran.status) fail_msg("%s", ran.err);
    assert_int_equal(gradc_attack(&call, "image", a, &want, &r, &e), 0);
    snprintf(loss, sizeof loss, "loss: %.6g before, %.6g after; largest change of an element: %.6g\n", r.before, r.after, r.largest);
    assert_string_equal(ran.out, loss);
    assert_int_equal(gradc_npy_read(&written, at("changed/image.npy"), -1, &e), 0);
    assert_int_equal(written.bytes, want.bytes);
    assert_memory_equal(written.data, want.data, want.bytes);
    gradc_tensor_free(&written);
    gradc_tensor_free(&want);
}

static void verbs(void **state) {
    (void)state;
    char model[200], x[210], y[210], picture[200];
    GradcTensor map, in = tensor(false);
    GradcError e;
    attack_verb("fgsm", &fgsm, "0.05");
    attack_verb("pgd", &(GradcAttack){.eps = .1, .lo = -INFINITY, .hi = INFINITY, .steps = 10, .random = true, .seed = 4}, "0.1");
    snprintf(model, sizeof model, "%s", at("cnn.model"));
    snprintf(x, sizeof x, "image=@%s", at("x.npy"));
    snprintf(y, sizeof y, "target=@%s", at("y.npy"));
    snprintf(picture, sizeof picture, "%s", at("map.png"));
    const char *const argv[] = {binary, "saliency", model, "--params", at("weights"), x, y, "-o", picture, NULL},
               *const nothing[] = {binary, "attack", "fgsm", model, x, y, NULL};
    run_child(&ran, false, argv);
    if (ran.status) fail_msg("%s", ran.err);
    assert_int_equal(gradc_saliency(&call, "image", GRADC_SALIENCY_GRADIENT, false, &map, &e), 0);
    assert_int_equal(gradc_saliency_write(at("mine.png"), &map, 0, &in, false, 0, 1, &e), 0);
    same_files("map.png", "mine.png");
    gradc_tensor_free(&map);
    run_child(&ran, false, nothing);
    assert_int_equal(ran.status, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_c), cmocka_unit_test(by_llvm), cmocka_unit_test(verbs)};
    return cmocka_run_group_tests(tests, begin, end);
}
