/* Trainable models through the C API: the programs of one model, and the table that joins them
   (runtime/trainer.h).

   The model is read anew for each program, since layers behave differently in training. The step is made
   first: its states are the table, and the other programs find theirs by name. Open batch sizes are bounded
   by the batch, so the arena of a step is exact. */
#define _GNU_SOURCE
#include "train.h"
#include "train/recipe.h"
#include "onnxwrite.h"
#include "params.h"
#include "session.h"
#include <stdlib.h>

typedef struct Bundle {
    Build b;
    Ctx *c;
    GradcTrainer *t;
    Graph *read; /* as the model says it, batch open */
    Graph *step; /* after the pass `train`: its states */
    Program *init, *program[TP_PARTS];
    Program *any[TP_PARTS]; /* step and eval for any number of samples; program's are for a whole batch */
    const char **whole,
        **part; /* --dim options for a whole batch, and for part of one; NULL: the size is not open */
    Recipe loss, optimizer;
} Bundle;

/* ---- what the options say over what the description says ---- */

static Recipe recipe(Ctx *c, const char *option, const char *text) {
    Recipe r;
    const char *what;
    size_t at;
    if (!recipe_parse(c, text, &r, &what, &at))
        gd_fail(c, 601, "NAME ARGUMENT=VALUE ...", "--%s: %s is expected at \"%s\"", option, what,
                gd_escape(c, text + at, strlen(text + at)));
    return r;
}

/* What a training algorithm of the model's own decides itself. */
static void check_own(Ctx *c, const TrainSettings *o) {
    const struct { const char *option; bool given; } theirs[] = {
        {"optimizer", o->optimizer}, {"schedule", o->schedule}, {"metrics", o->nmetrics}, {"freeze", o->nfreeze}, {"accumulate", o->accumulate},
        {"clip-value", o->clip_value}, {"clip-norm", o->clip_norm}, {"clip-global", o->clip_global}, {"strict-loss", o->strict}};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        if (theirs[i].given)
            gd_error(c, 601, "with --loss and --optimizer it is trained by those instead",
                     "--%s: the model brings a training algorithm of its own", theirs[i].option);
    if (gd_error_count(c)) gd_leave(c);
}

void session_train(Ctx *c, Graph *g, const TrainSettings *o) {
    if (!g->train) g->train = gd_new(c, TrainSpec);
    TrainSpec *s = g->train;
    if (s->own.given) check_own(c, o);
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

/* What the loss looks at; NULL: there is no such output. */
static const Value *prediction(const Graph *g) {
    for (int i = 0; i < g->out.n; i++)
        if (!g->train->output || !strcmp(g->train->output, g->out_names.v[i])) return g->out.v[i];
    return NULL;
}

/* The open first dim of the prediction: its size is the batch. */
static const char *batch_symbol(const Graph *g) {
    const Value *v = prediction(g);
    bool open =
        v && v->rank && v->dim[0]->kind == E_VAR && v->dim[0]->var->kind == V_SYM && !v->dim[0]->var->data;
    return open ? v->dim[0]->var->name : NULL;
}

static Graph *read_part(Bundle *k, TrainPart part) {
    Build *b = &k->b;
    b->front.states = true;
    build_part(b, part);
    Graph *g = front_graph(k->c, &b->file, &b->front);
    if (gd_error_count(k->c)) gd_leave(k->c);
    session_train(k->c, g, &b->g->set.train);
    return g;
}

/* The programs of training take up to a batch of samples, those that read the answers as many as the model
 * does. */
static void bound_batch(Bundle *k) {
    Build *b = &k->b;
    const char *const *said = b->front.dims;
    b->front.dims = NULL; /* which dim is the batch is seen where it is open */
    Graph *g = k->read = read_part(k, TP_RUN);
    b->front.dims = said;
    const char *symbol = batch_symbol(g);
    int64_t batch = g->train->batch ? g->train->batch : symbol ? 32 : 1;
    k->t->batch = batch;
    k->t->epochs = g->train->epochs;
    k->t->name = g->name;
    k->t->batch_symbol = symbol;
    int n = 0;
    for (; symbol && b->front.dims && b->front.dims[n]; n++)
        if (!strncmp(b->front.dims[n], symbol, strlen(symbol)) && b->front.dims[n][strlen(symbol)] == '=')
            gd_fail(k->c, 601, "--batch N", "--dim %s: the size of a batch is not an open dim in training",
                    symbol);
    if (!symbol) return;
    k->part = gd_new_array(k->c, const char *, n + 2);
    k->whole = gd_new_array(k->c, const char *, n + 2);
    for (int i = 0; i < n; i++) k->part[i] = k->whole[i] = b->front.dims[i];
    k->part[n] = gd_format(k->c, "%s=1..%lld", symbol, (long long)batch);
    k->whole[n] = gd_format(k->c, "%s=%lld", symbol, (long long)batch);
}

static Program *make_program(Bundle *k, Graph *g) {
    Build *b = &k->b;
    b->graph = g;
    b->program = NULL;
    build_finish(b);
    return b->program;
}

/* The states are those of the step before it is compiled; init makes their first values. */
static void make_init(Bundle *k, Graph *g) {
    PassOptions step = k->b.pass, first = step;
    first.stop_after = "train";
    k->loss = g->train->loss;
    k->optimizer = g->train->optimizer;
    passes_run(g, &first);
    k->step = g;
    k->b.pass.train = TP_NONE;
    k->init = make_program(k, train_init(k->c, g, part_name(k, k->t->name, "init")));
    k->b.pass = step;
}

/* Loops of known size are faster, so the programs of training are made for a whole batch; the last batch of
   an epoch, which has fewer samples, takes another one. */
static void make_part(Bundle *k, TrainPart part) {
    const char *const *dims = k->b.front.dims, *name = gd_train_parts[part];
    bool two = k->whole && (part == TP_STEP || part == TP_EVAL);
    for (int any = two; any >= 0; any--) {
        if (two) k->b.front.dims = any ? k->part : k->whole;
        Graph *g = read_part(k, part);
        g->name = part_name(k, k->t->name, any ? gd_format(k->c, "%s_any", name) : name);
        if (part == TP_STEP && !k->init) make_init(k, g);
        *(any ? &k->any[part] : &k->program[part]) = make_program(k, g);
    }
    k->b.front.dims = dims;
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
        if (p->params.v[i]->space == SP_IN && gradc_state_index(k->t, p->port_names.v[i]) < 0)
            name = p->port_names.v[i];
    return name;
}

int64_t session_table_rows(const Graph *g, const Value *in) {
    const Op *gather = op_named("gather");
    int64_t least = 0, rows;
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        if (n->op != gather || n->in[1] != in) continue;
        int64_t axis = attr_int(n, "axis");
        const Value *table = n->in[0];
        if (is_int(table->dim[axis < 0 ? axis + table->rank : axis], &rows) && (!least || rows < least)) least = rows;
    }
    return least;
}

/* What the data must keep to is known where it is read, with record and file. */
static void list_limits(Bundle *k) {
    Graph *g = k->read;
    GradcLimit *l = gd_new_array(k->c, GradcLimit, g->in.n + 1);
    const Value *p = prediction(g);
    bool sparse = false;
    int n = 0, axis = 0;
    double ignored;
    int64_t limit;
    for (int i = 0; i < g->in.n; i++)
        if ((limit = session_table_rows(g, g->in.v[i])) > 0) l[n++] = (GradcLimit){g->in_names.v[i], limit, 0};
    if (p && !g->train->own.given && loss_classes(g, g->train, p, &sparse, &axis, &ignored) && sparse && is_int(p->dim[axis], &limit))
        l[n++] = (GradcLimit){k->t->target, limit, ignored == ignored ? (int64_t)ignored : 0};
    k->t->limits = l;
    k->t->nlimits = n;
}

/* A model of class numbers alone (tokens) has no gradient of an input. */
static bool takes_floats(Graph *g) {
    for (int i = 0; i < g->in.n; i++)
        if ((dt_float(g->in.v[i]->dt) || dt_small(g->in.v[i]->dt)) && !state_of(g, g->in.v[i])) return true;
    return false;
}

enum { EVERY_PART = -1 }; /* that the model has */

static void make_all(Bundle *k, int parts) {
    bound_batch(k);
    if (parts == EVERY_PART && !takes_floats(k->read)) parts &= ~(1 << TP_INPUT_GRAD);
    for (int part = TP_STEP; part < TP_PARTS; part++)
        if (part == TP_STEP || parts >> part & 1) make_part(k, (TrainPart)part);
    list_states(k);
    k->t->version = GRADC_VERSION;
    k->t->loss = recipe_text(k->c, &k->loss);
    k->t->optimizer = recipe_text(k->c, &k->optimizer);
    if (k->read->train->own.given) k->t->loss = k->t->optimizer = "the model's own";
    k->t->target = target_port(k);
    list_limits(k);
}

static void begin(Bundle *k, Gradc *g, Ctx *c) {
    k->c = c;
    k->t = gd_new(c, GradcTrainer);
    build_begin(&k->b, g, c);
    if (!g->path) gd_fail(c, 601, "gradc_load", "no model was given");
    k->b.file = front_open(c, g->path);
    if (k->b.file.format == FF_LOOP_TEXT)
        gd_fail(c, 102, "a model that trains is a graph", "this is loop IR");
}

/* ---- in this process ---- */

typedef struct Train {
    Gradc *g;
    unsigned parts;
    Jitted *made;
    const GradcTrainer *t;
} Train;

static const GradcProgram *load(Bundle *k, Program *p, Loaded *loaded) {
    if (!p) return NULL;
    k->b.program = p;
    build_load(&k->b, k->b.g->set.backend, loaded);
    return loaded->program;
}

static void load_all(Ctx *c, void *arg) {
    Train *r = arg;
    Bundle k = {0};
    Loaded other;
    begin(&k, r->g, c);
    make_all(&k, (int)r->parts);
    Jitted *made = gd_new(c, Jitted);
    GradcTrainer *t = k.t;
    Loaded loaded[TP_PARTS] = {0};
    for (int i = TP_STEP; i < TP_PARTS; i++) loaded[i].program = load(&k, k.program[i], &loaded[i]);
    t->step = loaded[TP_STEP].program;
    t->eval = loaded[TP_EVAL].program;
    t->run = loaded[TP_RUN].program;
    t->input_grad = loaded[TP_INPUT_GRAD].program;
    t->step_any = load(&k, k.any[TP_STEP], &other);
    t->eval_any = load(&k, k.any[TP_EVAL], &other);
    TrainPart part = r->g->set.train.part, shown = loaded[part].program ? part : TP_STEP; /* whose profile is asked for */
    *made = (Jitted){.c = c, .program = k.program[shown], .loaded = loaded[shown]};
    t->init = load(&k, k.init, &other);
    session_threads(r->g->set.threads);
    r->made = made;
    r->t = t;
}

_Static_assert(GRADC_PART_EVAL == 1 << TP_EVAL && GRADC_PART_RUN == 1 << TP_RUN &&
                   GRADC_PART_INPUT_GRAD == 1 << TP_INPUT_GRAD,
               "parts of gradc.h are those of train.h");

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

typedef struct Files {
    Gradc *g;
    const char *emit, *out;
} Files;

static void write_all(Ctx *c, void *arg) {
    Files *w = arg;
    Settings *s = &w->g->set;
    Emit kind = session_emit(c, w->emit, w->out);
    const char *target = s->target;
    Bundle k = {0};
    if (!target && kind != EMIT_EXE) s->target = "generic";
    begin(&k, w->g, c);
    s->target = target;
    const char *backend = session_backend(&k.b, kind),
               *out = kind == EMIT_C ? session_directory(&k.b, w->out) : w->out;
    make_all(&k, EVERY_PART);
    TrainerUnit u = {.prefix = k.t->name,
                     .trainer = k.t,
                     .main = kind == EMIT_EXE,
                     .init_arena = (size_t)expr_max(c, k.init->arena),
                     .program = {[UNIT_INIT] = k.init,
                                 [UNIT_STEP] = k.program[TP_STEP],
                                 [UNIT_EVAL] = k.program[TP_EVAL],
                                 [UNIT_RUN] = k.program[TP_RUN],
                                 [UNIT_INPUT_GRAD] = k.program[TP_INPUT_GRAD]},
                     .any = {[UNIT_STEP] = k.any[TP_STEP], [UNIT_EVAL] = k.any[TP_EVAL]}};
    EmitOptions o = {.target = k.b.target,
                     .prefix = k.t->name,
                     .openmp = build_openmp(&k.b),
                     .opt = s->opt,
                     .weights = WEIGHTS_EMBED};
    trainer_write(c, &u, &o, backend_named(c, backend), kind, out);
}

int gradc_write_trainer(Gradc *g, const char *emit, const char *out) {
    return session_run(g, write_all, &(Files){g, emit, out});
}

/* ---- export ---- */

typedef struct Export {
    Gradc *g;
    const char *params, *out;
} Export;

static void export_model(Ctx *c, void *arg) {
    Export *w = arg;
    Bundle k = {0};
    begin(&k, w->g, c);
    Graph *g = read_part(&k, TP_RUN);
    Params *params = w->params ? params_open(c, w->params) : NULL;
    onnx_write(c, g, params ? params_data : NULL, params, w->out);
    if (gd_error_count(c)) gd_leave(c);
}

int gradc_export(Gradc *g, const char *params, const char *out) {
    return session_run(g, export_model, &(Export){g, params, out});
}
