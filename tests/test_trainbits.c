/* Bits of training: after 100 steps the weights, and all other state, are equal to the last bit whoever made the code (the
   reference interpreter, the C back end with gcc and clang, LLVM), at any level of optimisation and on any number of threads. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "checkpoint.h"
#include "safetensors.h"
#include "data.h"
#include "child.h"
#include "scratch.h"
#include "session.h"
#include "shuffle.h"
#include "trained.h"

enum { STEPS = 100, BATCH = 8, SEED = 3, PORTS = 128, SYMBOLS = 16 };
#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
static Ran ran;

typedef struct Subject { const char *name, *spec; int64_t records; } Subject;

static void must(const Gradc *g, int status) {
    for (int i = 0; status && i < gradc_problem_count(g); i++) print_error("%s\n", gradc_problem(g, i).text);
    assert_int_equal(status, 0);
}

static Gradc *open_model(const Subject *s, const char *backend, const char *opt) {
    char file[64];
    Gradc *g = gradc_open();
    snprintf(file, sizeof file, "%s.model", s->name);
    must(g, gradc_option(g, "backend", backend));
    if (opt) must(g, gradc_option(g, "opt", opt));
    must(g, gradc_load(g, at(file)));
    return g;
}

static bool installed(const char *program) {
    char command[100];
    snprintf(command, sizeof command, "command -v %s >/dev/null", program);
    return !system(command);
}

/* ---- the interpreter ---- */

typedef struct Interpreted { const Subject *subject; Gradc *g; const GradcTrainer *t; char *state; } Interpreted;

static void *memory_of(const Interpreted *w, const char *port) {
    int i = gradc_state_index(w->t, port);
    return i < 0 ? NULL : w->state + w->t->states[i].offset;
}

/* Every input that is no state gets its records, in memory of its own. */
static void feed(const Interpreted *w, const GradcData *d, const char *port, const int64_t *records, int64_t n, GradcTensor *to) {
    GradcError e;
    bool target = !strcmp(port, w->t->target);
    const GradcField *f = gradc_data_field(d, target);
    int64_t dims[5] = {n};
    int rank = target ? 1 : f->rank + 1;
    if (!target) memcpy(dims + 1, f->dims, (size_t)f->rank * sizeof *dims);
    assert_int_equal(gradc_tensor_new(to, target ? GRADC_I64 : GRADC_F32, rank, dims, &e), 0);
    if (gradc_data_fill(d, target, records, n, to, 0, &e)) fail_msg("%s", e.text);
}

static void step(const Interpreted *w, Ctx *c, const Program *p, const GradcData *d, const int64_t *records, int64_t n) {
    const void *in[PORTS];
    void *out[PORTS];
    GradcTensor data[4] = {{0}};
    int nin = 0, nout = 0, ndata = 0;
    int64_t syms[SYMBOLS] = {n}; /* the batch, then those that the program itself finds */
    assert_true(p->params.n <= PORTS && p->syms.n <= SYMBOLS && !p->syms.v[0]->data);
    for (int i = 0; i < p->params.n; i++) {
        const char *port = p->port_names.v[i];
        void *state = memory_of(w, port);
        if (p->params.v[i]->space == SP_OUT) out[nout++] = state;
        else if (state) in[nin++] = state;
        else {
            feed(w, d, port, records, n, &data[ndata]);
            in[nin++] = data[ndata++].data;
        }
    }
    assert_int_equal(loop_interpret(c, p, &(LoopArgs){in, out, syms}), 0);
    for (int i = 0; i < ndata; i++) gradc_tensor_free(&data[i]);
}

/* The training loop by the interpreter: the same order of records, the same batches. */
static void interpret(Ctx *c, void *arg) {
    Interpreted *w = arg;
    GradcData *d;
    GradcError e;
    Build b;
    int64_t order[64], batches = (w->subject->records + BATCH - 1) / BATCH;
    build_begin(&b, w->g, c);
    build_read(&b);
    build_finish(&b);
    assert_int_equal(gradc_data_open(&d, w->subject->spec, &e), 0);
    assert_int_equal(gradc_data_count(d), w->subject->records);
    for (int k = 0; k < STEPS; k++) {
        int64_t at = k % batches * BATCH, left = w->subject->records - at;
        if (!at) gradc_state_reset_metrics(w->t, w->state);
        for (int64_t i = 0; i < w->subject->records; i++) order[i] = i;
        gradc_shuffle(SEED, (uint64_t)(k / batches), order, w->subject->records);
        step(w, c, b.program, d, order + at, left < BATCH ? left : BATCH);
    }
    gradc_data_close(d);
}

static void by_interpreter(const Subject *s, const char *out) {
    GradcError e;
    Interpreted w = {.subject = s};
    int64_t batches = (s->records + BATCH - 1) / BATCH;
    Gradc *g = open_model(s, "c", "0");
    must(g, gradc_trainer(g, 0, &w.t));
    w.state = gradc_state_new(w.t);
    assert_int_equal(gradc_state_init(w.t, w.state, SEED, &e), 0);
    gradc_state_set(w.t, w.state, "train/epoch_steps", (double)batches);
    w.g = open_model(s, "c", NULL);
    must(w.g, gradc_option(w.g, "part", "step"));
    must(w.g, gradc_option(w.g, "dim", "N=1..8"));
    must(w.g, session_run(w.g, interpret, &w));
    GradcPosition at_end = {.seed = SEED, .epoch = STEPS / batches, .batch = STEPS % batches, .step = STEPS, .batch_size = BATCH, .records = s->records};
    assert_int_equal(gradc_checkpoint_save(at(out), w.t, w.state, GRADC_SAVE_ALL, &at_end, &e), 0);
    free(w.state);
    gradc_close(w.g);
    gradc_close(g);
}

/* ---- executables ---- */

/* Every state of the two files; places in the run have no part in it (the interpreter's loss is nobody's best). */
static void same_states(const char *a, const char *b) {
    GradcSafetensors x, y;
    GradcError e;
    assert_int_equal(gradc_safetensors_read(&x, at(a), &e), 0);
    assert_int_equal(gradc_safetensors_read(&y, at(b), &e), 0);
    assert_int_equal(x.n, y.n);
    for (int i = 0; i < x.n; i++) {
        const GradcTensor *t = &x.tensors[i].tensor, *u = gradc_safetensors_find(&y, x.tensors[i].name);
        if (!strncmp(x.tensors[i].name, "gradc/", 6)) continue;
        assert_non_null(u);
        if (t->bytes != u->bytes || memcmp(t->data, u->data, t->bytes)) fail_msg("%s and %s differ in %s", a, b, x.tensors[i].name);
    }
    gradc_safetensors_free(&x);
    gradc_safetensors_free(&y);
}

static void run_trained(const Subject *s, const char *program, const char *threads, const char *out) {
    char path[200];
    snprintf(path, sizeof path, "%s", at(out));
    const char *const argv[] = {at(program), "train",  "--data",    s->spec,   "--epochs", "99", "--max-steps", "100", "--seed",
                                "3",         "--quiet", "--threads", threads, "-o",       path, NULL};
    run_child(&ran, false, argv);
    if (ran.status) fail_msg("%s: status %d: %s", program, ran.status, ran.err);
}

/* One executable on 1, 2 and 3 threads, against the interpreter and against all before it. */
static void executable(const Subject *s, const char *backend, const char *cc, const char *opt) {
    char name[64], out[80], first[64];
    const char *old = getenv("CC");
    char *kept = old ? strdup(old) : NULL;
    snprintf(name, sizeof name, "%s-%s-%s-O%s", s->name, backend, cc ? cc : "", opt);
    snprintf(first, sizeof first, "%s.first", s->name);
    if (cc) setenv("CC", cc, 1);
    Gradc *g = open_model(s, backend, opt);
    must(g, gradc_write_trainer(g, "exe", at(name)));
    gradc_close(g);
    if (kept) setenv("CC", kept, 1);
    else unsetenv("CC");
    free(kept);
    for (int threads = 1; threads <= 3; threads++) {
        snprintf(out, sizeof out, "%s-%d", name, threads);
        run_trained(s, name, (char[]){(char)('0' + threads), 0}, out);
        if (access(at(first), F_OK)) assert_int_equal(rename(at(out), at(first)), 0);
        else same_files(first, out);
    }
}

static void all_ways(const Subject *s) {
    char interpreted[64], first[64];
    snprintf(interpreted, sizeof interpreted, "%s.interpreted", s->name);
    snprintf(first, sizeof first, "%s.first", s->name);
    by_interpreter(s, interpreted);
    const char *clang = installed("clang-19") ? "clang-19" : "clang";
    if (SANITIZED) executable(s, "c", NULL, "1"); /* what links such a runtime is in $CC */
    if (!SANITIZED && installed("gcc")) executable(s, "c", "gcc", "2");
    if (!SANITIZED && installed(clang)) executable(s, "c", clang, "1");
#ifdef GRADC_LLVM
    executable(s, "llvm", NULL, "3");
    executable(s, "llvm", NULL, "0");
#endif
    same_states(first, interpreted);
}

static void images(void **state) {
    (void)state;
    all_ways(&(Subject){"cnn", images_spec(), IMAGES});
}

static void sequences(void **state) {
    (void)state;
    all_ways(&(Subject){"rnn", sequences_spec(), SEQUENCES});
}

static int begin(void **state) { return find_binary() ? make_trained(state) : -1; }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(images), cmocka_unit_test(sequences)};
    return cmocka_run_group_tests(tests, begin, remove_dir);
}
