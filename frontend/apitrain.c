/* Trainable models through the C API: the programs of one model, and the table that joins them (runtime/trainer.h).

   The model is read anew for each program, since layers behave differently in training. The step is made first: its states are
   the table, and the other programs find theirs by name. Open batch sizes are bounded by the batch, so the arena of a
   step is exact. */
#define _GNU_SOURCE
#include "train.h"
#include "onnxwrite.h"
#include "safetensors.h"
#include "session.h"
#include <stdlib.h>

typedef struct Bundle {
    Build b;
    Ctx *c;
    GradcTrainer *t;
    Graph *step;              /* after the pass `train`: its states */
    Program *program[TP_PARTS + 1]; /* by part; the last one: init */
    Program *any[TP_PARTS];   /* step and eval for any number of samples; program's are for a whole batch */
    const char **whole;       /* --dim options for a whole batch; NULL: the size is not open */
    Recipe loss, optimizer;
} Bundle;

/* ---- what the options say over what the description says ---- */

static Recipe recipe(Ctx *c, const char *option, const char *text) {
    Recipe r;
    const char *what;
    size_t at;
    if (!recipe_parse(c, text, &r, &what, &at))
        gd_fail(c, 601, "NAME ARGUMENT=VALUE ...", "--%s: %s is expected at \"%s\"", option, what, gd_escape(c, text + at, strlen(text + at)));
    return r;
}

void session_train(Ctx *c, Graph *g, const TrainSettings *o) {
    if (!g->train) g->train = gd_new(c, TrainSpec);
    TrainSpec *s = g->train;
    if (o->loss) s->loss = recipe(c, "loss", o->loss);
    if (o->optimizer) s->optimizer = recipe(c, "optimizer", o->optimizer);
    if (o->schedule) s->schedule = recipe(c, "schedule", o->schedule);
    if (o->torch) s->torch = o->torch > 0;
    if (o->batch) s->batch = o->batch;
    if (o->accumulate) s->accumulate = o->accumulate;
    if (o->nmetrics) s->metrics.n = 0;
    for (int i = 0; i < o->nmetrics; i++) {
        Recipe r = recipe(c, "metrics", o->metrics[i]);
        vec_push(c, &s->metrics, r);
    }
    for (int i = 0; i < o->nfreeze; i++) vec_push(c, &s->frozen, o->freeze[i]);
    if (o->clip_value) s->clip_value = o->clip_value;
    if (o->clip_norm) s->clip_norm = o->clip_norm;
    if (o->clip_global) s->clip_global = o->clip_global;
    if (o->output) s->output = o->output;
    s->strict |= o->strict;
}

/* ---- one program ---- */

static const char *part_name(Bundle *k, const char *model, const char *part) {
    char *s = (char *)gd_format(k->c, "%s_%s", model, part);
    for (char *p = s; *p; p++)
        if (*p == '-') *p = '_';
    return s;
}

/* The open first dim of what the loss looks at: its size is the batch. */
static const char *batch_symbol(const Graph *g) {
    for (int i = 0; i < g->out.n; i++) {
        const Value *v = g->out.v[i];
        if (g->train->output && strcmp(g->train->output, g->out_names.v[i])) continue;
        bool open = v->rank && v->dim[0]->kind == E_VAR && v->dim[0]->var->kind == V_SYM && !v->dim[0]->var->data;
        return open ? v->dim[0]->var->name : NULL;
    }
    return NULL;
}

static Graph *read_part(Bundle *k, TrainPart part) {
    Build *b = &k->b;
    b->front.states = true;
    b->front.training = part == TP_STEP;
    b->pass.train = part;
    Graph *g = front_graph(k->c, &b->file, &b->front);
    if (gd_error_count(k->c)) gd_leave(k->c);
    session_train(k->c, g, &b->g->set.train);
    return g;
}

/* Bounds the batch's dim, unless the user did. */
static void bound_batch(Bundle *k) {
    Build *b = &k->b;
    Graph *g = read_part(k, TP_RUN);
    const char *symbol = batch_symbol(g);
    int64_t batch = g->train->batch ? g->train->batch : symbol ? 32 : 1;
    k->t->batch = batch;
    k->t->epochs = g->train->epochs;
    k->t->name = g->name;
    k->t->batch_symbol = symbol;
    int n = 0;
    for (; symbol && b->front.dims && b->front.dims[n]; n++)
        if (!strncmp(b->front.dims[n], symbol, strlen(symbol)) && b->front.dims[n][strlen(symbol)] == '=') return;
    if (!symbol) return;
    const char **dims = gd_new_array(k->c, const char *, n + 2);
    k->whole = gd_new_array(k->c, const char *, n + 2);
    for (int i = 0; i < n; i++) dims[i] = k->whole[i] = b->front.dims[i];
    dims[n] = gd_format(k->c, "%s=1..%lld", symbol, (long long)batch);
    k->whole[n] = gd_format(k->c, "%s=%lld", symbol, (long long)batch);
    b->front.dims = dims;
}

static Program *make_program(Bundle *k, Graph *g) {
    Build *b = &k->b;
    b->graph = g;
    b->program = NULL;
    build_finish(b);
    return b->program;
}

/* Loops of known size are faster; the last batch of an epoch, which has fewer samples, takes the other program. */
static void make_whole(Bundle *k, TrainPart part) {
    const char *const *dims = k->b.front.dims;
    if (!k->whole || (part != TP_STEP && part != TP_EVAL)) return;
    k->any[part] = k->program[part];
    k->b.front.dims = k->whole;
    Graph *g = read_part(k, part);
    g->name = part_name(k, k->t->name, gd_train_parts[part]);
    k->program[part] = make_program(k, g);
    k->b.front.dims = dims;
}

static void make_part(Bundle *k, TrainPart part) {
    Graph *g = read_part(k, part);
    bool two = k->whole && (part == TP_STEP || part == TP_EVAL);
    g->name = part_name(k, k->t->name, two ? gd_format(k->c, "%s_any", gd_train_parts[part]) : gd_train_parts[part]);
    if (part == TP_STEP) {
        PassOptions first = k->b.pass;
        first.stop_after = "train";
        k->loss = g->train->loss;
        k->optimizer = g->train->optimizer;
        passes_run(g, &first);
        k->step = g;
        Graph *init = train_init(k->c, g, part_name(k, k->t->name, "init"));
        TrainPart none = k->b.pass.train;
        k->b.pass.train = TP_NONE;
        k->program[TP_PARTS] = make_program(k, init);
        k->b.pass.train = none;
    }
    k->program[part] = make_program(k, g);
    make_whole(k, part);
}

/* ---- the table ---- */

static void list_states(Bundle *k) {
    const Graph *g = k->step;
    GradcState *s = gd_new_array(k->c, GradcState, g->states.n + 1);
    size_t at = 0;
    for (int i = 0; i < g->states.n; i++) {
        const StateVar *v = g->states.v[i];
        const Value *like = g->in.v[v->in];
        int64_t *dims = gd_new_array(k->c, int64_t, like->rank + 1);
        value_static(like, dims);
        s[i] = (GradcState){g->in_names.v[v->in], (int)v->kind, (int)like->dt, like->rank, dims, at};
        at += (gradc_state_size(&s[i]) + GRADC_ALIGN - 1) / GRADC_ALIGN * GRADC_ALIGN;
    }
    k->t->nstates = g->states.n;
    k->t->states = s;
    k->t->state_bytes = at;
}

static const char *recipe_text(Ctx *c, const Recipe *r) {
    Text *t = text_new(c);
    text_put(t, r->name ? r->name : "");
    for (int i = 0; i < r->n; i++) {
        if (r->arg[i].text) text_printf(t, " %s=%s", r->arg[i].name, r->arg[i].text);
        else text_printf(t, " %s=%g", r->arg[i].name, r->arg[i].v);
    }
    return t->s;
}

static const char *target_port(const Bundle *k) {
    const Program *p = k->program[TP_STEP];
    const char *name = NULL;
    for (int i = 0; i < p->params.n; i++)
        if (p->params.v[i]->space == SP_IN && gradc_state_index(k->t, p->port_names.v[i]) < 0) name = p->port_names.v[i];
    return name;
}

static void make_all(Bundle *k, unsigned parts) {
    bound_batch(k);
    for (int part = TP_STEP; part < TP_PARTS; part++)
        if (part == TP_STEP || parts >> part & 1) make_part(k, (TrainPart)part);
    list_states(k);
    k->t->version = GRADC_VERSION;
    k->t->loss = recipe_text(k->c, &k->loss);
    k->t->optimizer = recipe_text(k->c, &k->optimizer);
    k->t->target = target_port(k);
}

static void begin(Bundle *k, Gradc *g, Ctx *c) {
    k->c = c;
    k->t = gd_new(c, GradcTrainer);
    build_begin(&k->b, g, c);
    if (!g->path) gd_fail(c, 601, "gradc_load", "no model was given");
    k->b.file = front_open(c, g->path);
    if (k->b.file.format == FF_LOOP_TEXT) gd_fail(c, 102, "a model that trains is a graph", "this is loop IR");
}

/* ---- in this process ---- */

typedef struct Train { Gradc *g; unsigned parts; Jitted *made; const GradcTrainer *t; } Train;

static void load_all(Ctx *c, void *arg) {
    Train *r = arg;
    Bundle k = {0};
    begin(&k, r->g, c);
    make_all(&k, r->parts);
    const GradcProgram **slot[] = {[TP_STEP] = &k.t->step, [TP_EVAL] = &k.t->eval, [TP_RUN] = &k.t->run,
                                   [TP_INPUT_GRAD] = &k.t->input_grad, [TP_PARTS] = &k.t->init};
    Jitted *made = gd_new(c, Jitted);
    *made = (Jitted){.c = c, .program = k.program[TP_STEP]};
    for (int i = 1; i <= TP_PARTS; i++) {
        if (!k.program[i]) continue;
        Loaded loaded;
        k.b.program = k.program[i];
        build_load(&k.b, r->g->set.backend, &loaded);
        *slot[i] = loaded.program;
        if (i == TP_STEP) made->loaded = loaded;
        if (i > TP_EVAL || !k.any[i]) continue;
        k.b.program = k.any[i];
        build_load(&k.b, r->g->set.backend, &loaded);
        *(i == TP_STEP ? &k.t->step_any : &k.t->eval_any) = loaded.program;
    }
    session_threads(r->g->set.threads);
    r->made = made;
    r->t = k.t;
}

int gradc_trainer(Gradc *g, unsigned parts, const GradcTrainer **trainer) {
    Train r = {g, parts, NULL, NULL};
    int status = session_run(g, load_all, &r);
    if (status) return status;
    g->last = NULL;
    r.made->next = g->jitted;
    g->jitted = r.made;
    *trainer = r.t;
    return 0;
}

/* ---- files ---- */

typedef struct Files { Gradc *g; const char *emit, *out; } Files;

static void write_all(Ctx *c, void *arg) {
    Files *w = arg;
    Settings *s = &w->g->set;
    Emit kind = session_emit(c, w->emit, w->out);
    const char *target = s->target;
    Bundle k = {0};
    if (!target && kind != EMIT_EXE) s->target = "generic";
    begin(&k, w->g, c);
    s->target = target;
    const char *backend = session_backend(&k.b, kind), *out = kind == EMIT_C ? session_directory(&k.b, w->out) : w->out;
    make_all(&k, ~0u);
    Program *init = k.program[TP_PARTS];
    int64_t arena = expr_max(c, init->arena);
    TrainerUnit u = {.prefix = k.t->name, .trainer = k.t, .main = kind == EMIT_EXE, .init_arena = (size_t)arena,
                     .program = {init, k.program[TP_STEP], k.program[TP_EVAL], k.program[TP_RUN], k.program[TP_INPUT_GRAD]},
                     .any = {NULL, k.any[TP_STEP], k.any[TP_EVAL], NULL, NULL}};
    EmitOptions o = {.target = k.b.target, .prefix = k.t->name, .openmp = build_openmp(&k.b), .opt = s->opt, .weights = WEIGHTS_EMBED};
    trainer_write(c, &u, &o, backend_named(c, backend), kind, out);
}

int gradc_write_trainer(Gradc *g, const char *emit, const char *out) { return session_run(g, write_all, &(Files){g, emit, out}); }

/* ---- export ---- */

typedef struct Export { Gradc *g; const char *params, *out; } Export;

static const GradcTensor *saved(void *arg, const char *name) { return gradc_safetensors_find(arg, name); }

static void free_saved(void *s) { gradc_safetensors_free(s); }

static void export_model(Ctx *c, void *arg) {
    Export *w = arg;
    Bundle k = {0};
    GradcSafetensors *s = gd_new(c, GradcSafetensors);
    GradcError e;
    begin(&k, w->g, c);
    Graph *g = read_part(&k, TP_RUN);
    if (w->params && gradc_safetensors_read(s, w->params, &e)) session_fail(c, &e);
    gd_defer(c, free_saved, s);
    onnx_write(c, g, saved, s, w->out);
    if (gd_error_count(c)) gd_leave(c);
}

int gradc_export(Gradc *g, const char *params, const char *out) { return session_run(g, export_model, &(Export){g, params, out}); }
