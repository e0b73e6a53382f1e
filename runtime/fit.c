/* The training loop: fit.h.

   Everything is a pure function of data, options and seed: the order of records is that of (seed, epoch), a step
   reads nothing but its batch and the state. So a run that is resumed from a checkpoint makes the same weights as one
   that was never interrupted: the checkpoint holds the whole state, and where in which epoch it was. */
#define _POSIX_C_SOURCE 200809L
#include "fit.h"
#include "atomic.h"
#include "checkpoint.h"
#include "element.h"
#include "history.h"
#include "progress.h"
#include "shuffle.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { METRICS = 32 };

/* A program that is bound to the state, and which of its outputs are no states: the batch's loss, then metrics. */
typedef struct Run {
    GradcCall call;
    int loss, nmetrics, metric[METRICS];
} Run;

typedef struct Fit {
    const GradcTrainer *t;
    const GradcFit *o;
    void *state;
    GradcData *data, *valid;        /* valid: NULL, or the same as data when a part of it is kept back */
    int64_t *order, *valid_order;   /* records of an epoch, in order */
    int64_t count, valid_count;
    Run step, eval;                 /* of a whole batch */
    Run step_any, eval_any;         /* of the last batch of an epoch */
    GradcPorts step_ports, eval_ports;
    GradcLoader *loader, *valid_loader;
    GradcHistory *history;
    GradcEvents *events;
    GradcProgress progress;
    GradcPosition at;               /* what a checkpoint says of where the run is */
    int64_t batch, epochs;
    double began, epoch_began;
    int64_t first;                  /* steps done before this run */
    bool validated;                 /* valid_value holds something */
    int nmetrics;
    char label[2][METRICS][64];     /* loss, accuracy ...; val_loss ... */
    double value[METRICS], valid_value[METRICS]; /* by data output of step and eval, but the batch's own loss */
} Fit;

/* ---- data ---- */

/* Which records are for training and which for validation: the last part is kept back, as in Keras; all of them
   when nothing is to be trained. */
static int split(Fit *f, bool train, GradcError *e) {
    int64_t n = f->count = gradc_data_count(f->data);
    double part = f->o->valid_split;
    if (!train) f->count = 0, f->valid = f->data;
    else if (part > 0 && !f->valid) {
        f->count = part < 1 ? (int64_t)((double)n * (1 - part)) : 0;
        if (f->count < 1 || f->count == n)
            return gradc_error(e, 601, NULL, "--valid-split: %g of %lld records leaves none", part, (long long)n);
        f->valid = f->data;
    }
    if (f->valid) f->valid_count = f->valid == f->data ? n - f->count : gradc_data_count(f->valid);
    f->order = calloc((size_t)f->count + 1, sizeof *f->order);
    f->valid_order = calloc((size_t)f->valid_count + 1, sizeof *f->valid_order);
    if (!f->order || !f->valid_order) return gradc_error(e, 506, NULL, "out of memory");
    for (int64_t i = 0; i < f->valid_count; i++) f->valid_order[i] = f->valid == f->data ? f->count + i : i;
    return 0;
}

static int open_run(Run *r, const Fit *f, const GradcProgram *p, GradcError *e) {
    int n = 0;
    for (int i = 0; i < p->nout && n <= METRICS; i++) {
        if (!gradc_trainer_data_out(f->t, p, i)) continue;
        if (n++) r->metric[n - 2] = i;
        else r->loss = i;
    }
    if (!n) return gradc_error(e, 901, NULL, "%s has no loss", p->name);
    r->nmetrics = n - 1;
    return gradc_trainer_open(&r->call, f->t, p, f->state, e);
}

/* Numbers of classes and rows that the model does not have. */
static int check_limits(const GradcTrainer *t, const GradcProgram *p, const GradcPorts *m, const GradcData *d, GradcError *e) {
    int status = 0;
    for (int k = 0; k < t->nlimits; k++)
        for (int i = 0; !status && i < m->n; i++)
            if (!strcmp(p->in[m->port[i]].name, t->limits[k].port))
                status = gradc_data_limit(d, m->feed[i].field, t->limits[k].limit, t->limits[k].ignored, e);
    return status;
}

static int open_side(Fit *f, bool eval, GradcData *d, GradcError *e) {
    const GradcTrainer *t = f->t;
    const GradcProgram *p = eval ? t->eval : t->step, *any = eval ? t->eval_any : t->step_any;
    GradcPorts *m = eval ? &f->eval_ports : &f->step_ports;
    GradcLoader **l = eval ? &f->valid_loader : &f->loader;
    int status = open_run(eval ? &f->eval : &f->step, f, p, e);
    if (!status && any) status = open_run(eval ? &f->eval_any : &f->step_any, f, any, e);
    if (!status) status = gradc_ports_match(m, t, any ? any : p, d, e);
    if (!status) status = check_limits(t, any ? any : p, m, d, e);
    if (!status) status = gradc_loader_open(l, d, m->feed, m->n, f->batch, e);
    return status;
}

static int open_data(Fit *f, bool train, GradcError *e) {
    if (!f->o->data)
        return gradc_error(e, 602,
                           "--data idx:DIR, cifar:DIR, npz:FILE, csv:FILE,label=COL, names:DIR, text:FILE or raw:...",
                           "no data was named");
    int status = gradc_data_open(&f->data, f->o->data, e);
    if (!status && train && f->o->valid) status = gradc_data_open(&f->valid, f->o->valid, e);
    f->batch = f->o->batch ? f->o->batch : f->t->batch_symbol ? f->t->batch : 1;
    if (!status && f->batch > 1 && !f->t->batch_symbol)
        status = gradc_error(e, 601, NULL, "--batch: the model takes one sample a step");
    if (!status && f->batch > f->t->batch && f->t->batch_symbol)
        status = gradc_error(e, 601, "compile it with --batch", "--batch: the program is made for %lld samples a step, not for %lld",
                             (long long)f->t->batch, (long long)f->batch);
    if (!status) status = open_side(f, !train, f->data, e);
    if (!status) status = split(f, train, e); /* a text's windows are known only now */
    if (!status && train && f->valid) status = open_side(f, true, f->valid, e);
    return status;
}

static void close_all(Fit *f) {
    GradcError ignored;
    gradc_loader_close(f->loader);
    gradc_loader_close(f->valid_loader);
    if (f->step.call.program) gradc_call_close(&f->step.call);
    if (f->eval.call.program) gradc_call_close(&f->eval.call);
    if (f->step_any.call.program) gradc_call_close(&f->step_any.call);
    if (f->eval_any.call.program) gradc_call_close(&f->eval_any.call);
    if (f->valid != f->data) gradc_data_close(f->valid);
    gradc_data_close(f->data);
    gradc_history_close(f->history);
    gradc_events_close(f->events, &ignored);
    gradc_progress_break(&f->progress);
    free(f->order);
    free(f->valid_order);
    free(f->state);
}

/* ---- steps ---- */

static double number(const GradcTensor *t) {
    return t->dtype == GRADC_F64 ? *(const double *)t->data : (double)*(const float *)t->data;
}

static double batch_loss(const Run *r) { return number(&r->call.out[r->loss]); }

static void read_metrics(const Run *r, double *value) {
    for (int k = 0; k < r->nmetrics; k++) value[k] = number(&r->call.out[r->metric[k]]);
}

/* Place of the first element that is infinite or no number; -1: all are well. */
static int64_t not_finite(const GradcTensor *x) {
    size_t size = gradc_dtype_size(x->dtype);
    if (gradc_types[x->dtype].kind != FLOAT) return -1;
    for (size_t k = 0; k < x->bytes / size; k++)
        if (!isfinite(gradc_get_float(x->dtype, (const char *)x->data + k * size))) return (int64_t)k;
    return -1;
}

/* The first state that is not a number any more: what a user looks at when the loss is none. */
static const char *broken_state(const Fit *f) {
    for (int i = 0; i < f->t->nstates; i++) {
        GradcTensor x = gradc_state_tensor(f->t, f->state, i);
        if (f->t->states[i].kind <= GRADC_SLOT && not_finite(&x) >= 0) return f->t->states[i].name;
    }
    return NULL;
}

/* The record of the batch that brought such a value, if one did. */
static void broken_record(const Fit *f, const GradcBatch *b, char *text, size_t size) {
    char where[400];
    snprintf(text, size, "its data are finite");
    for (int i = 0; i < f->step_ports.n; i++) {
        const GradcTensor *x = &b->tensors[i];
        const GradcFeed *feed = &f->step_ports.feed[i];
        int64_t k = not_finite(x), inner = 1;
        if (k < 0) continue;
        for (int d = feed->batch_axis + 1; d < x->rank; d++) inner *= x->dims[d];
        int64_t record = b->records[k / inner % b->n];
        snprintf(text, size, "%s has such a value in field %s",
                 gradc_data_place(f->data, feed->field, record, where, sizeof where), gradc_data_field(f->data, feed->field)->name);
        return;
    }
}

static const char remedy[] = "a smaller learning rate, --clip-global 1, or data without such values; the last checkpoint is whole";

static int stop_on_nan(const Fit *f, const GradcBatch *b, double loss, GradcError *e) {
    char data[500];
    const char *name = broken_state(f);
    broken_record(f, b, data, sizeof data);
    return gradc_error(e, 605, remedy, "the loss is %g at step %lld (epoch %lld, batch %lld): %.300s; first tensor that is not finite: %.100s",
                       loss, (long long)f->at.step + 1, (long long)f->at.epoch + 1, (long long)b->index + 1, data,
                       name ? name : "none of the states");
}

/* *ran: what ran, whose outputs are the answers. */
static int run_batch(Fit *f, bool eval, const GradcBatch *b, const Run **ran, GradcError *e) {
    GradcError inner;
    Run *r = eval ? &f->eval : &f->step, *any = eval ? &f->eval_any : &f->step_any;
    if (any->call.program && b->n != f->t->batch) r = any;
    *ran = r;
    int status = gradc_ports_set(eval ? &f->eval_ports : &f->step_ports, &r->call, b, e);
    if (status || !(status = gradc_call_run(&r->call, &inner))) return status;
    gradc_error(e, inner.code, inner.help, "batch %lld (its first record: %lld): %.380s", (long long)b->index + 1,
                (long long)b->records[0], inner.text);
    return status;
}

static int validate(Fit *f, GradcError *e) {
    const GradcBatch *b;
    const Run *ran;
    gradc_state_reset_metrics(f->t, f->state);
    int status = gradc_loader_start(f->valid_loader, f->valid_order, f->valid_count, 0, e);
    while (!status && !(status = gradc_loader_next(f->valid_loader, &b, e)) && b)
        if (!(status = run_batch(f, true, b, &ran, e))) read_metrics(ran, f->valid_value), f->validated = true;
    return status;
}

/* ---- what the user sees ---- */

static int list_metrics(const Fit *f, GradcMetric *m, bool valid) {
    for (int k = 0; k < f->nmetrics; k++)
        m[k] = (GradcMetric){f->label[valid][k], valid ? f->valid_value[k] : f->value[k]};
    return f->nmetrics;
}

static void show_step(Fit *f, const Run *ran) {
    GradcMetric m[METRICS];
    read_metrics(ran, f->value);
    gradc_progress_step(&f->progress, f->at.batch, m, list_metrics(f, m, false));
}

/* A row of the history, points of the curves. */
static int log_epoch(Fit *f, double seconds, GradcError *e) {
    double row[2 * METRICS + 2];
    int n = 0, status = 0;
    double lr = gradc_state_get(f->t, f->state, "train/lr");
    GradcMetric m[2 * METRICS];
    n = list_metrics(f, m, false);
    if (f->valid) n += list_metrics(f, m + n, true);
    gradc_progress_end(&f->progress, f->at.batch, m, n);
    if (!f->o->log) return 0;
    for (int i = 0; i < n; i++) row[i] = m[i].value;
    row[n] = seconds;
    row[n + 1] = lr;
    status = gradc_history_row(f->history, f->at.epoch, row, e);
    for (int i = 0; !status && i < n; i++) {
        char tag[80];
        snprintf(tag, sizeof tag, "epoch_%s", m[i].name);
        status = gradc_events_scalar(f->events, tag, f->at.epoch, m[i].value, e);
    }
    return status ? status : gradc_events_scalar(f->events, "learning_rate", f->at.epoch, lr, e);
}

static int open_log(Fit *f, GradcError *e) {
    const char *names[2 * METRICS + 2];
    int n = 0;
    if (!f->o->log) return 0;
    for (int v = 0; v < (f->valid ? 2 : 1); v++)
        for (int k = 0; k < f->nmetrics; k++) names[n++] = f->label[v][k];
    names[n++] = "seconds";
    names[n++] = "lr";
    int status = gradc_history_open(&f->history, f->o->log, names, n, f->at.epoch, e);
    return status ? status : gradc_events_open(&f->events, f->o->log, e);
}

/* A step may leave weights that are no numbers behind a loss that was one: these never take the place of good ones. */
static int save(const Fit *f, const char *path, GradcError *e) {
    const char *broken = path ? broken_state(f) : NULL;
    if (!path) return 0;
    if (broken)
        return gradc_error(e, 605, remedy, "%.100s is not finite after step %lld (epoch %lld): no checkpoint was written", broken,
                           (long long)f->at.step, (long long)f->at.epoch + 1);
    return gradc_checkpoint_save(path, f->t, f->state, GRADC_SAVE_ALL, &f->at, e);
}

/* ---- epochs ---- */

static int64_t batches(const Fit *f) { return (f->count + f->batch - 1) / f->batch; }

static void order_of_epoch(Fit *f) {
    for (int64_t i = 0; i < f->count; i++) f->order[i] = i;
    gradc_shuffle(f->at.seed, (uint64_t)f->at.epoch, f->order, f->count);
}

static int signal_seen(const Fit *f) { return f->o->stop ? *f->o->stop : 0; }

static bool steps_done(const Fit *f) { return signal_seen(f) || (f->o->max_steps && f->at.step >= f->o->max_steps); }

static bool epochs_done(const Fit *f) {
    return f->at.epoch >= f->epochs || (f->o->early_stopping && f->at.waited >= f->o->early_stopping);
}

/* One epoch from batch at.batch on. */
static int run_epoch(Fit *f, GradcError *e) {
    const GradcBatch *b;
    const Run *ran;
    if (f->at.batch == 0) gradc_state_reset_metrics(f->t, f->state);
    order_of_epoch(f);
    f->epoch_began = gradc_seconds();
    gradc_progress_epoch(&f->progress, f->at.epoch, f->epochs, batches(f), f->at.batch);
    int status = gradc_data_unchanged(f->data, e);
    if (!status) status = gradc_loader_start(f->loader, f->order, f->count, f->at.batch, e);
    while (!status && !steps_done(f) && !(status = gradc_loader_next(f->loader, &b, e)) && b) {
        status = run_batch(f, false, b, &ran, e);
        double loss = status ? 0 : batch_loss(ran);
        if (!status && !isfinite(loss)) status = stop_on_nan(f, b, loss, e);
        if (status) break;
        f->at.step++;
        f->at.batch++;
        show_step(f, ran);
        if (f->o->save_every && f->at.step % f->o->save_every == 0 && f->at.batch < batches(f))
            status = save(f, f->o->out, e);
    }
    return status;
}

/* Is this epoch's loss the best so far? Validation's where there is one. */
static bool note_best(Fit *f) {
    double loss = f->valid ? f->valid_value[0] : f->value[0];
    bool better = f->at.best_epoch < 0 || !(f->at.best <= loss);
    if (better) f->at.best = loss, f->at.best_epoch = f->at.epoch;
    f->at.waited = better ? 0 : f->at.waited + 1;
    return better;
}

/* The best goes first: a run that is killed between the two does this epoch again. */
static int end_epoch(Fit *f, GradcError *e) {
    int status = f->valid ? validate(f, e) : 0;
    bool best = !status && note_best(f);
    if (!status) status = log_epoch(f, gradc_seconds() - f->epoch_began, e);
    f->at.epoch++;
    f->at.batch = 0;
    if (!status && best && f->o->save_best && f->o->out) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s.best", f->o->out) >= (int)sizeof path)
            return gradc_error(e, 106, NULL, "the name of the output is too long");
        status = save(f, path, e);
    }
    return status ? status : save(f, f->o->out, e);
}

static int train(Fit *f, GradcError *e) {
    int status = 0;
    while (!status && !epochs_done(f) && !steps_done(f)) {
        status = run_epoch(f, e);
        if (status) break;
        if (f->at.batch < batches(f)) /* steps_done; a run that did nothing leaves the file alone */
            return f->at.step > f->first ? save(f, f->o->out, e) : 0;
        status = end_epoch(f, e);
    }
    return status;
}

/* ---- the whole ---- */

/* First values, parameters to begin with, or the state of an interrupted run. */
static int begin_state(Fit *f, GradcError *e) {
    const GradcFit *o = f->o;
    if (!(f->state = gradc_state_new(f->t)))
        return gradc_error(e, 506, NULL, "out of memory for a state of %zu bytes", f->t->state_bytes);
    f->at = (GradcPosition){.seed = o->seed, .best_epoch = -1};
    if (o->resume && !o->out) return gradc_error(e, 601, "-o FILE", "--resume: there is no file to go on from");
    if (o->resume) return gradc_checkpoint_load(o->out, f->t, f->state, GRADC_SAVE_ALL, &f->at, e);
    int status = gradc_state_init(f->t, f->state, o->seed, e);
    if (!status && o->params) status = gradc_checkpoint_load(o->params, f->t, f->state, GRADC_SAVE_PARAMS, NULL, e);
    return status;
}

/* A run that is resumed must see the same data in the same batches. */
static int check_position(Fit *f, GradcError *e) {
    GradcPosition *at = &f->at;
    if (f->o->resume && (at->batch_size != f->batch || at->records != f->count))
        return gradc_error(
            e, 603, "the same --data, --valid-split and --batch",
            "--resume: the run had %lld records in batches of %lld, this one has %lld in batches of %lld",
            (long long)at->records, (long long)at->batch_size, (long long)f->count, (long long)f->batch);
    at->batch_size = f->batch;
    at->records = f->count;
    if (!f->o->resume || f->o->rate > 0) {
        gradc_state_set(f->t, f->state, "train/epoch_steps", (double)batches(f));
        if (f->o->rate > 0) gradc_state_set(f->t, f->state, "train/lr", f->o->rate);
    }
    return 0;
}

static void label_metrics(Fit *f) {
    const Run *r = f->step.call.program ? &f->step : &f->eval;
    f->nmetrics = r->nmetrics;
    for (int k = 0; k < f->nmetrics; k++) {
        const char *s = r->call.program->out[r->metric[k]].name;
        snprintf(f->label[0][k], sizeof *f->label[0], "%s", s);
        snprintf(f->label[1][k], sizeof *f->label[1], "val_%.59s", s);
    }
}

static void print_answer(FILE *out, bool json, char (*label)[64], const double *value, int n, const char *extra) {
    fputs(json ? "{" : "", out);
    for (int i = 0; i < n; i++) {
        if (json && !isfinite(value[i])) fprintf(out, "%s\"%s\": null", i ? ", " : "", label[i]);
        else fprintf(out, json ? "%s\"%s\": %.9g" : "%s%s: %.6g", i ? (json ? ", " : " - ") : "", label[i], value[i]);
    }
    fprintf(out, json ? "%s}\n" : "%s\n", extra);
}

static void answer(Fit *f, FILE *out) {
    char extra[256];
    double seconds = gradc_seconds() - f->began, steps = (double)(f->at.step - f->first);
    int n = steps > 0 || f->validated ? f->nmetrics : 0;
    const char *form = f->o->json ? "%s\"steps\": %lld, \"seconds\": %.6g, \"steps_per_second\": %.6g"
                                  : "%s%lld steps - %.1f s - %.1f steps/s";
    snprintf(extra, sizeof extra, form, !n ? "" : f->o->json ? ", " : " - ", (long long)f->at.step, seconds,
             seconds > 0 ? steps / seconds : 0.0);
    print_answer(out, f->o->json, f->label[f->validated], f->validated ? f->valid_value : f->value, n, extra);
}

/* What a user who pressed a key, or a batch system that ended the job, wants to know. */
static void tell_stopped(const Fit *f) {
    const char *out = f->o->out;
    bool done = f->at.step > f->first;
    fprintf(stderr, "%s: stopped by signal %d (%s) after step %lld, in epoch %lld of %lld; %s%s\n", f->t->name, signal_seen(f),
            strsignal(signal_seen(f)), (long long)f->at.step, (long long)f->at.epoch + 1, (long long)f->epochs,
            !out ? "nothing is saved: there is no -o FILE" : !done ? "nothing new to save in " : "--resume goes on from ", out ? out : "");
}

int gradc_fit(const GradcTrainer *t, const GradcFit *o, FILE *out, GradcError *e) {
    Fit f = {.t = t, .o = o};
    f.epochs = o->epochs ? o->epochs : t->epochs ? t->epochs : 1;
    gradc_progress_open(&f.progress, o->quiet ? NULL : stderr);
    int status = begin_state(&f, e);
    if (!status && o->out) status = gradc_atomic_check(o->out, e); /* not after an epoch of hours */
    if (!status) status = open_data(&f, true, e);
    if (!status) status = check_position(&f, e);
    if (!status) label_metrics(&f);
    if (!status) status = open_log(&f, e);
    f.first = f.at.step;
    f.began = gradc_seconds();
    if (!status) status = train(&f, e);
    gradc_progress_break(&f.progress);
    if (!status) answer(&f, out);
    if (!status && !epochs_done(&f) && signal_seen(&f)) tell_stopped(&f);
    close_all(&f);
    return status;
}

int gradc_evaluate(const GradcTrainer *t, const GradcFit *o, FILE *out, GradcError *e) {
    Fit f = {.t = t, .o = o};
    char extra[128];
    int status = begin_state(&f, e);
    if (!status) status = open_data(&f, false, e);
    if (!status) status = validate(&f, e);
    if (!status) {
        label_metrics(&f);
        snprintf(extra, sizeof extra, o->json ? ", \"records\": %lld" : " - %lld records", (long long)f.valid_count);
        print_answer(out, o->json, f.label[0], f.valid_value, f.nmetrics, extra);
    }
    close_all(&f);
    return status;
}
