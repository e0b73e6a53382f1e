/* What the options of training do, each seen in the weights, the numbers that are shown or the files that are left: accumulated
   gradients, clipping, frozen parameters, parts of the data kept back, batches of fewer samples, early stopping, the best epoch, values
   that are not finite. The model is linear, so that what a step does is worked out here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include <sys/stat.h>
#include "checkpoint.h"
#include "fit.h"
#include "gradc.h"
#include "safetensors.h"
#include "scratch.h"

enum { RECORDS = 10, F = 3 };
static const char model[] = "model line\nsemantics torch\ninput x: f32[N, 3]\nlinear 1 init=zeros bias_init=zeros\n"
                            "train\n    loss mse\n    optimizer sgd lr=0.1\n    metrics mae\n    batch 4\n";
static struct { float x[F], y; } data[RECORDS];
static char file[300], said[4096];

static Gradc *open_model(const char *const *options) {
    Gradc *g = gradc_open();
    for (; options && *options; options += 2) assert_int_equal(gradc_option(g, options[0], options[1]), 0);
    assert_int_equal(gradc_load(g, at("line.model")), 0);
    return g;
}

/* Trains with these options of the model; what is said at the end is `said`. Answers the status. */
static int fit(const char *const *options, GradcFit o, GradcError *e) {
    const GradcTrainer *t;
    FILE *f = fmemopen(said, sizeof said, "w");
    Gradc *g = open_model(options);
    if (gradc_trainer(g, GRADC_PART_EVAL, &t)) fail_msg("%s", gradc_problem(g, 0).text);
    o.data = file;
    o.quiet = true;
    int status = gradc_fit(t, &o, f, e);
    fclose(f);
    gradc_close(g);
    return status;
}

static void trained(const char *const *options, GradcFit o) {
    GradcError e;
    o.out = o.out ? o.out : at("w");
    if (fit(options, o, &e)) fail_msg("%s", e.text);
}

/* The weights, then the bias. */
static void weights_of(const char *name, float w[F + 1]) {
    GradcSafetensors s;
    GradcError e;
    if (gradc_safetensors_read(&s, at(name), &e)) fail_msg("%s", e.text);
    memcpy(w, gradc_safetensors_find(&s, "linear1.weight")->data, F * sizeof *w);
    memcpy(w + F, gradc_safetensors_find(&s, "linear1.bias")->data, sizeof *w);
    gradc_safetensors_free(&s);
}

/* The gradient of the mean square error of all records, by double arithmetic. */
static void gradient(const float *w, int n, double g[F + 1]) {
    memset(g, 0, (F + 1) * sizeof *g);
    for (int r = 0; r < n; r++) {
        double p = (double)w[F];
        for (int i = 0; i < F; i++) p += (double)(w[i] * data[r].x[i]);
        for (int i = 0; i <= F; i++) g[i] += 2 * (p - (double)data[r].y) * (i < F ? (double)data[r].x[i] : 1) / n;
    }
}

static void near(const float *w, const double *want) {
    for (int i = 0; i <= F; i++)
        if (fabs((double)w[i] - want[i]) > 1e-6 * (1 + fabs(want[i]))) fail_msg("weight %d: %g, not %g", i, (double)w[i], want[i]);
}

static double shown(const char *name) {
    const char *p = strstr(said, name);
    if (!p) fail_msg("no %s in %s", name, said);
    return atof(p + strlen(name));
}

/* ---- steps ---- */

/* One batch of all records: w = -lr g. */
static void one_step(void **state) {
    (void)state;
    float w[F + 1], zero[F + 1] = {0};
    double g[F + 1];
    trained((const char *const[]){"batch", "10", NULL}, (GradcFit){.epochs = 1});
    weights_of("w", w);
    gradient(zero, RECORDS, g);
    for (int i = 0; i <= F; i++) g[i] *= -.1;
    near(w, g);
    trained((const char *const[]){"batch", "10", NULL}, (GradcFit){.epochs = 1, .rate = .5}); /* the rate of the command line */
    weights_of("w", w);
    for (int i = 0; i <= F; i++) g[i] *= 5;
    near(w, g);
}

/* Two batches of five and their mean are the batch of ten; until then nothing moves. */
static void accumulated(void **state) {
    (void)state;
    float w[F + 1], zero[F + 1] = {0};
    double g[F + 1];
    static const char *const options[] = {"batch", "5", "accumulate", "2", NULL};
    trained(options, (GradcFit){.epochs = 1});
    weights_of("w", w);
    gradient(zero, RECORDS, g);
    for (int i = 0; i <= F; i++) g[i] *= -.1;
    near(w, g);
    trained(options, (GradcFit){.epochs = 1, .max_steps = 1});
    weights_of("w", w);
    assert_memory_equal(w, zero, sizeof zero);
    trained(options, (GradcFit){.epochs = 1, .resume = true}); /* half of a mean is part of the checkpoint */
    weights_of("w", w);
    near(w, g);
}

static double norm(const double *g, int n) {
    double s = 0;
    for (int i = 0; i < n; i++) s += g[i] * g[i];
    return sqrt(s);
}

static void clipped(void **state) {
    (void)state;
    float w[F + 1], zero[F + 1] = {0};
    double g[F + 1], want[F + 1];
    gradient(zero, RECORDS, g);
    trained((const char *const[]){"batch", "10", "clip-global", "0.25", NULL}, (GradcFit){.epochs = 1});
    weights_of("w", w);
    assert_true(norm(g, F + 1) > .25);
    for (int i = 0; i <= F; i++) want[i] = -.1 * g[i] * .25 / norm(g, F + 1);
    near(w, want);
    trained((const char *const[]){"batch", "10", "clip-norm", "0.25", NULL}, (GradcFit){.epochs = 1});
    weights_of("w", w);
    for (int i = 0; i <= F; i++) {
        double n = norm(i < F ? g : g + F, i < F ? F : 1);
        want[i] = -.1 * g[i] * (n > .25 ? .25 / n : 1);
    }
    near(w, want);
    trained((const char *const[]){"batch", "10", "clip-value", "0.125", NULL}, (GradcFit){.epochs = 1});
    weights_of("w", w);
    for (int i = 0; i <= F; i++) want[i] = -.1 * fmax(fmin(g[i], .125), -.125);
    near(w, want);
    trained((const char *const[]){"batch", "10", "clip-global", "1000", NULL}, (GradcFit){.epochs = 1}); /* larger than it is */
    weights_of("w", w);
    for (int i = 0; i <= F; i++) want[i] = -.1 * g[i];
    near(w, want);
}

static void frozen(void **state) {
    (void)state;
    float w[F + 1], zero[F] = {0};
    trained((const char *const[]){"freeze", "*.weight", NULL}, (GradcFit){.epochs = 3});
    weights_of("w", w);
    assert_memory_equal(w, zero, sizeof zero);
    assert_true(w[F] != 0);
}

/* ---- samples ---- */

/* Ten records in batches of four are 4, 4 and 2; the mean is over samples, not over batches. */
static void counted(void **state) {
    (void)state;
    double error = 0, square = 0;
    trained(NULL, (GradcFit){.epochs = 1, .rate = 1e-30});
    for (int r = 0; r < RECORDS; r++) error += fabs((double)data[r].y) / RECORDS, square += (double)(data[r].y * data[r].y) / RECORDS;
    assert_true(fabs(shown("mae: ") - error) < 1e-4 * error);
    assert_true(fabs(shown("loss: ") - square) < 1e-4 * square);
    assert_int_equal(shown("mae: ") > 0 ? strstr(said, " - 3 steps - ") != NULL : 0, 1);
}

/* The last three of ten are kept back: what is learned is that of a file without them, and validation is about them alone. */
static void kept_back(void **state) {
    (void)state;
    char part[300];
    float w[F + 1], v[F + 1];
    GradcError e;
    const GradcTrainer *t;
    put("part", data, 7 * sizeof *data);
    put("rest", data + 7, 3 * sizeof *data);
    snprintf(part, sizeof part, "raw:%s/rest,x=f32[3],y=f32[1]", dir);
    trained(NULL, (GradcFit){.epochs = 3, .valid_split = .3});
    weights_of("w", w);
    double loss = shown("val_loss: "), mae = shown("val_mae: ");
    snprintf(file, sizeof file, "raw:%s/part,x=f32[3],y=f32[1]", dir);
    trained(NULL, (GradcFit){.epochs = 3, .valid = part, .out = at("v")});
    snprintf(file, sizeof file, "raw:%s/data,x=f32[3],y=f32[1]", dir);
    weights_of("v", v);
    assert_memory_equal(w, v, sizeof w);
    assert_true(loss == shown("val_loss: ") && mae == shown("val_mae: "));
    Gradc *g = open_model(NULL);
    assert_int_equal(gradc_trainer(g, GRADC_PART_EVAL, &t), 0);
    FILE *f = fmemopen(said, sizeof said, "w");
    assert_int_equal(gradc_evaluate(t, &(GradcFit){.data = part, .params = at("w")}, f, &e), 0);
    fclose(f);
    gradc_close(g);
    assert_true(loss == shown("loss: ") && mae == shown("mae: ") && strstr(said, " - 3 records"));
    static const double none[] = {.9999, 1, 2};
    for (int i = 0; i < 3; i++) {
        int status = fit(NULL, (GradcFit){.epochs = 1, .valid_split = none[i]}, &e);
        if (status != 2 || !strstr(e.text, "--valid-split: ")) fail_msg("%g: %d %s", none[i], status, status ? e.text : "");
    }
}

/* ---- epochs ---- */

static int64_t epochs_of(const char *name, int64_t *best, double *value) {
    GradcSafetensors s;
    GradcError e;
    if (gradc_safetensors_read(&s, at(name), &e)) fail_msg("%s", e.text);
    const int64_t *v = gradc_safetensors_find(&s, "gradc/position")->data;
    int64_t epochs = v[1];
    *best = v[6];
    *value = *(const double *)gradc_safetensors_find(&s, "gradc/best")->data;
    gradc_safetensors_free(&s);
    return epochs;
}

/* A rate at which the loss grows from the second epoch on: two epochs more are waited for. The best is the first, and its file is what a run
   of one epoch leaves; going on does not wait anew. */
static void stopped_early(void **state) {
    (void)state;
    int64_t best;
    double value;
    float w[F + 1], v[F + 1];
    GradcFit o = {.epochs = 50, .rate = 3, .valid_split = .3, .early_stopping = 2, .save_best = true};
    trained(NULL, o);
    int64_t epochs = epochs_of("w", &best, &value);
    if (epochs != best + 3) fail_msg("%lld epochs, the best %lld", (long long)epochs, (long long)best);
    trained(NULL, (GradcFit){.epochs = best + 1, .rate = 3, .valid_split = .3, .out = at("v")});
    weights_of("w.best", w);
    weights_of("v", v);
    assert_memory_equal(w, v, sizeof w);
    assert_true(fabs(shown("val_loss: ") - value) <= 1e-5 * value);
    o.resume = true;
    trained(NULL, o);
    assert_int_equal(epochs_of("w", &best, &value), epochs);
    o.resume = false;
    o.rate = .05; /* and one that learns all the time */
    o.epochs = 8;
    trained(NULL, o);
    assert_int_equal(epochs_of("w", &best, &value), 8);
}

/* ---- values that are not finite ---- */

static char *all_of(const char *name, size_t *n) {
    FILE *f = fopen(at(name), "rb");
    assert_non_null(f);
    char *p = malloc(1 << 16);
    *n = fread(p, 1, 1 << 16, f);
    fclose(f);
    return p;
}

/* The run ends with the tensor, the step and the batch; the checkpoint before it stays. */
static void not_finite(void **state) {
    (void)state;
    GradcError e;
    size_t n, m;
    trained(NULL, (GradcFit){.epochs = 1});
    char *good = all_of("w", &n);
    assert_int_equal(fit(NULL, (GradcFit){.epochs = 99, .rate = 1e6, .out = at("w"), .resume = true, .save_every = 1}, &e), 1);
    assert_int_equal(e.code, 605);
    if (!strstr(e.text, "step ") || !strstr(e.text, "finite")) fail_msg("%s", e.text);
    GradcSafetensors s;
    assert_int_equal(gradc_safetensors_read(&s, at("w"), &e), 0); /* of a later step, and finite */
    for (int i = 0; i < s.n; i++)
        for (size_t k = 0; s.tensors[i].tensor.dtype == GRADC_F32 && k < s.tensors[i].tensor.bytes / 4; k++)
            if (strncmp(s.tensors[i].name, "metric/", 7)) assert_true(isfinite(((float *)s.tensors[i].tensor.data)[k]));
    gradc_safetensors_free(&s);
    put("w", good, n);
    data[8].x[1] = NAN;
    put("data", data, sizeof data);
    assert_int_equal(fit(NULL, (GradcFit){.epochs = 3, .out = at("w"), .resume = true}, &e), 1);
    data[8].x[1] = 1;
    put("data", data, sizeof data);
    if (!strstr(e.text, "the loss is nan at step ") || !strstr(e.text, "(epoch 2, batch ") ||
        !strstr(e.text, "data: record 8 (byte 128) has such a value in field x; first tensor that is not finite: linear1.weight"))
        fail_msg("%s", e.text);
    char *left = all_of("w", &m);
    assert_true(n == m && !memcmp(good, left, n));
    free(good);
    free(left);
}

static int begin(void **state) {
    uint64_t seed = 5;
    if (make_dir(state)) return -1;
    put("line.model", model, strlen(model));
    for (int r = 0; r < RECORDS; r++) {
        for (int i = 0; i < F; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            data[r].x[i] = (float)((double)(seed >> 40) / (1 << 23) - 1);
        }
        data[r].y = 2 * data[r].x[0] - data[r].x[1] + .5f + .1f * (float)(r % 3);
    }
    put("data", data, sizeof data);
    snprintf(file, sizeof file, "raw:%s/data,x=f32[3],y=f32[1]", dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_step), cmocka_unit_test(accumulated), cmocka_unit_test(clipped), cmocka_unit_test(frozen),
        cmocka_unit_test(counted), cmocka_unit_test(kept_back), cmocka_unit_test(stopped_early), cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, begin, remove_dir);
}
