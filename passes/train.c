/* train: a model becomes one of the programs that training consists of.

   Needs: a graph with states (ir/train.h) and a TrainSpec; for TRAIN_STEP the layers in their training
   behaviour, otherwise in that of inference. Promises, by PassOptions.train: step        inputs, target ->
   batch_loss and the metrics; parameters, slots, counters and metrics' sums have their next values eval
   inputs, target -> batch_loss and the metrics; only the metrics' sums change input-grad  inputs, target ->
   batch_loss, d_INPUT for every float input run         the model itself; parameters are read only The order
   of nodes is: model, loss, metrics, gradient (passes/grad.c), updates of parameters in the order of the
   states. So nothing reads a state after its new value is made, and `elide` writes it in place. Every state
   is visited a fixed number of times, so it ends.

     w -> y = x w          w, target -> ...; dw = grad; w.next = w - rate * dw */
#include "ops/build.h"
#include "grad.h"
#include "passes.h"
#include "train.h"
#include <fnmatch.h>
#include <math.h>

typedef struct Training {
    Graph *g;
    const TrainSpec *s;
    Map *names, *attrs; /* of composite text */
    Value *prediction, *target, *loss;
    VEC(Value *) params, grads;
} Training;

static Value *text(Training *t, const char *formula, const char *const *names, Value *const *values, int n) {
    Map *m = map_new(t->g->c);
    for (int i = 0; i < n; i++) map_puts(m, names[i], values[i]);
    return graph_text(t->g, formula, m, t->attrs);
}
#define TEXT(t, formula, names, ...)                                                                         \
    text(t, formula, (const char *const[]){names}, (Value *const[]){__VA_ARGS__},                            \
         (int)(sizeof((Value *[]){__VA_ARGS__}) / sizeof(Value *)))
#define NAMES(...) __VA_ARGS__

static void number(Training *t, const char *name, double v) {
    Attr *a = gd_new(t->g->c, Attr);
    *a = (Attr){.kind = AT_FLOAT, .f = v};
    map_puts(t->attrs, name, a);
}

static Value *sum_all(Graph *g, Value *v) {
    int64_t axes[MAX_RANK];
    for (int i = 0; i < v->rank; i++) axes[i] = i;
    return v->rank ? build_reduce(g, "reduce_sum", v, v->rank, axes, false) : v;
}

/* ---- the model's end: outputs make room, the loss begins ---- */

static void input_gradients(Training *t, int inputs);

static Value *prediction(Training *t) {
    Graph *g = t->g;
    Value *first = NULL;
    for (int i = 0; i < g->out.n; i++) {
        bool state = false;
        for (int k = 0; k < g->states.n; k++) state |= g->states.v[k]->out == i;
        if (state) continue;
        if (t->s->output && !strcmp(t->s->output, g->out_names.v[i])) return g->out.v[i];
        if (!first) first = g->out.v[i];
    }
    if (t->s->output || !first)
        gd_fail(g->c, 601, "name an output of the model",
                "the loss is about output \"%s\", and there is none", t->s->output ? t->s->output : "");
    return first;
}

/* Only what states become stays an output. */
static void drop_outputs(Graph *g) {
    int n = 0;
    for (int i = 0; i < g->out.n; i++)
        for (int k = 0; k < g->states.n; k++) {
            if (g->states.v[k]->out != i) continue;
            g->out.v[n] = g->out.v[i];
            g->out_names.v[n] = g->out_names.v[i];
            g->states.v[k]->out = n++;
            break;
        }
    g->out.n = g->out_names.n = n;
}

static const char *free_name(Graph *g, const char *name) {
    const char *s = name;
    for (int i = 1, clash = 1; clash; i++) {
        clash = 0;
        for (int k = 0; k < g->in.n; k++) clash |= !strcmp(g->in_names.v[k], s);
        if (clash) s = gd_format(g->c, "%s_%d", name, i);
    }
    return s;
}

/* ---- a training algorithm of the model's own ---- */

static bool becomes_state(const Graph *g, const Value *v) {
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->out >= 0 && g->out.v[g->states.v[i]->out] == v) return true;
    return false;
}

/* The mean over the samples of the epoch so far. */
static Value *running_mean(Training *t, const char *name, Value *v) {
    Graph *g = t->g;
    Expr *count = t->prediction->rank ? t->prediction->dim[0] : expr_int(g->c, 1);
    Value *sum = state_new(g, ST_METRIC, gd_format(g->c, "metric/%s/sum", name), F64, 0, NULL, NULL);
    Value *n = state_new(g, ST_METRIC, gd_format(g->c, "metric/%s/n", name), F64, 0, NULL, NULL);
    Value *more = build_scalar(g, F64, count);
    Value *sum_now = TEXT(t, "s + v * n", NAMES("s", "v", "n"), sum, build_cast(g, v, F64), more);
    Value *n_now = make(g, "add", n, more);
    state_next(g, sum, sum_now);
    state_next(g, n, n_now);
    return build_cast(g, TEXT(t, "s / max(n, 1)", NAMES("s", "n"), sum_now, n_now), F32);
}

typedef struct Shown { const char *name; Value *v; } Shown;

/* Its loss is the output that an option names, else the first number it puts out that no state becomes; the other such numbers
   are reported beside it. The updates are there already; other programs than the step leave them out. */
static void own_algorithm(Training *t, TrainPart part, int inputs) {
    Graph *g = t->g;
    const OwnTraining *own = &t->s->own;
    VEC(Shown) shown = {0};
    for (int i = own->from; i < own->to; i++) {
        Value *v = g->out.v[i];
        bool number = (v->dt == F32 || v->dt == F64) && is_value(value_count(g->c, v), 1);
        Shown s = {g->out_names.v[i], number && v->rank ? build_reshape(g, v, 0, NULL) : v};
        bool wanted = t->s->output && !strcmp(t->s->output, s.name);
        if (!number || (becomes_state(g, v) && !wanted)) continue;
        vec_push(g->c, &shown, s);
        if (wanted || (!t->loss && !t->s->output)) t->loss = s.v;
    }
    if (!t->loss)
        gd_fail(g->c, 601, "--loss-output NAME names one number that the algorithm puts out",
                t->s->output ? "the loss is about \"%s\", and the algorithm puts out no number of that name"
                             : "the model's training algorithm puts out no number that could be its loss%s",
                t->s->output ? t->s->output : "");
    t->prediction = g->out.v[0];
    if (part != TP_STEP)
        for (int i = 0; i < g->states.n; i++) g->states.v[i]->out = -1;
    drop_outputs(g);
    if (part == TP_INPUT_GRAD) { input_gradients(t, inputs); return; }
    graph_output(g, "batch_loss", t->loss);
    graph_output(g, "loss", running_mean(t, "loss", t->loss));
    for (int i = 0; i < shown.n; i++)
        if (shown.v[i].v != t->loss) graph_output(g, shown.v[i].name, running_mean(t, shown.v[i].name, shown.v[i].v));
    Value *number_of = train_step_number(g);
    if (part == TP_STEP) state_next(g, number_of, TEXT(t, "s + 1", "s", number_of));
}

static bool begin_loss(Training *t) {
    Graph *g = t->g;
    DType dt;
    int rank;
    Expr *dim[MAX_RANK];
    t->prediction = prediction(t);
    drop_outputs(g);
    if (!loss_target(g, t->s, t->prediction, &dt, &rank, dim)) return false;
    t->target = graph_input(g, free_name(g, "target"), dt, rank, dim);
    t->loss = loss_build(g, t->s, t->prediction, t->target, NULL);
    return t->loss != NULL;
}

static void add_metrics(Training *t) {
    Graph *g = t->g;
    Recipe loss = {.name = "loss"};
    graph_output(g, "batch_loss", t->loss);
    for (int i = -1; i < t->s->metrics.n; i++) {
        const char *label;
        const Recipe *m = i < 0 ? &loss : &t->s->metrics.v[i];
        Value *v = metric_build(g, t->s, m, t->prediction, t->target, t->loss, &label);
        if (v) graph_output(g, label, v);
    }
}

/* ---- gradients ---- */

static bool matches(const char *pattern, const char *name) { return !fnmatch(pattern, name, 0); }

static const char *state_name(const Graph *g, const StateVar *s) { return g->in_names.v[s->in]; }

static void freeze(Training *t) {
    Graph *g = t->g;
    for (int p = 0; p < t->s->frozen.n; p++) {
        bool any = false;
        for (int i = 0; i < g->states.n; i++) {
            StateVar *s = g->states.v[i];
            if (s->kind != ST_PARAM || !matches(t->s->frozen.v[p], state_name(g, s))) continue;
            s->kind = ST_BUFFER;
            any = true;
        }
        if (!any)
            gd_error(g->c, 601, "names of parameters, with * and ?", "freeze: no parameter is called %s",
                     t->s->frozen.v[p]);
    }
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->kind == ST_PARAM) vec_push(g->c, &t->params, g->in.v[g->states.v[i]->in]);
    if (!t->params.n) gd_fail(g->c, 404, NULL, "the model has no parameters to train");
}

/* The regularisers' part of the loss. */
static Value *penalty(Training *t) {
    Graph *g = t->g;
    Value *loss = t->loss;
    for (int i = 0; i < t->params.n; i++) {
        const StateVar *s = state_of(g, t->params.v[i]);
        Value *w = t->params.v[i];
        number(t, "l1", s->l1);
        number(t, "l2", s->l2);
        if (s->l1 != 0) loss = make(g, "add", loss, sum_all(g, TEXT(t, "l1 * abs(w)", "w", w)));
        if (s->l2 != 0) loss = make(g, "add", loss, sum_all(g, TEXT(t, "l2 * (w * w)", "w", w)));
    }
    return loss;
}

static Value *norm_of(Training *t, int from, int to) {
    Value *sum = NULL;
    for (int i = from; i < to; i++) {
        Value *s = sum_all(t->g, TEXT(t, "g * g", "g", t->grads.v[i]));
        sum = sum ? make(t->g, "add", sum, s) : s;
    }
    return make(t->g, "sqrt", sum);
}

/* Keras scales by c / max(norm, c), torch.nn.utils.clip_grad_norm_ by min(c / (norm + 1e-6), 1). */
static void scale_to(Training *t, int from, int to, double most) {
    number(t, "c", most);
    Value *norm = norm_of(t, from, to);
    Value *scale = TEXT(t, t->s->torch ? "min(c / (n + 1e-6), 1)" : "c / max(n, c)", "n", norm);
    for (int i = from; i < to; i++) t->grads.v[i] = make(t->g, "mul", t->grads.v[i], scale);
}

static void clip(Training *t) {
    const TrainSpec *s = t->s;
    number(t, "c", s->clip_value);
    for (int i = 0; i < t->grads.n && s->clip_value > 0; i++)
        t->grads.v[i] = TEXT(t, "max(min(g, c), -c)", "g", t->grads.v[i]);
    for (int i = 0; i < t->grads.n && s->clip_norm > 0; i++) scale_to(t, i, i + 1, s->clip_norm);
    if (s->clip_global > 0) scale_to(t, 0, t->grads.n, s->clip_global);
}

/* The mean over `accumulate` batches: summed up in slots. The last of them is true in the returned value. */
static Value *accumulate(Training *t, int64_t steps) {
    Graph *g = t->g;
    number(t, "k", (double)steps);
    Value *last = TEXT(t, "s % k == k - 1", "s", train_step_number(g));
    for (int i = 0; i < t->grads.n; i++) {
        const Value *w = t->params.v[i];
        int64_t dims[MAX_RANK];
        value_static(w, dims);
        const char *name = gd_format(g->c, "%s/accumulated", state_name(g, state_of(g, w)));
        Value *sum = state_new(g, ST_SLOT, name, w->dt, w->rank, dims, NULL);
        Value *mean = TEXT(t, "a + g / k", NAMES("a", "g"), sum, t->grads.v[i]);
        state_next(g, sum, TEXT(t, "last ? 0 : m", NAMES("last", "m"), last, mean));
        t->grads.v[i] = mean;
    }
    return last;
}

/* ---- updates ---- */

static const ParamGroup *group_of(const TrainSpec *s, const char *name) {
    for (int i = 0; i < s->groups.n; i++)
        if (matches(s->groups.v[i].pattern, name)) return &s->groups.v[i];
    return NULL;
}

static void update(Training *t, Value *rate, int i) {
    Graph *g = t->g;
    Value *w = t->params.v[i];
    const ParamGroup *group = group_of(t->s, state_name(g, state_of(g, w)));
    if (group && group->rate != 1) {
        number(t, "k", group->rate);
        rate = TEXT(t, "k * r", "r", rate);
    }
    Value *next = optimizer_build(g, t->s, w, t->grads.v[i], rate, group ? group->decay : NAN);
    if (next) state_next(g, w, next);
}

/* Between the updates of accumulated gradients parameters and slots stay what they are. */
static void only_when(Training *t, Value *last, int first_slot) {
    Graph *g = t->g;
    for (int i = 0; i < g->states.n; i++) {
        const StateVar *s = g->states.v[i];
        if (s->out < 0 || (s->kind != ST_PARAM && (s->kind != ST_SLOT || i < first_slot))) continue;
        Value *was = g->in.v[s->in], **next = &g->out.v[s->out];
        *next = TEXT(t, "last ? next : was", NAMES("last", "next", "was"), last, *next, was);
    }
}

static void step(Training *t) {
    Graph *g = t->g;
    freeze(t);
    Value *loss = penalty(t);
    Value **d = gd_new_array(g->c, Value *, t->params.n);
    graph_grad(g, loss, t->params.n, t->params.v, d);
    for (int i = 0; i < t->params.n; i++) vec_push(g->c, &t->grads, d[i]);
    if (gd_error_count(g->c)) return;
    Value *last = t->s->accumulate > 1 ? accumulate(t, t->s->accumulate) : NULL;
    int first_slot = g->states.n;
    clip(t);
    Value *rate = train_rate(g, optimizer_rate(t->s)), *factor = schedule_build(g, &t->s->schedule);
    if (factor) rate = make(g, "mul", rate, factor);
    for (int i = 0; i < t->params.n; i++) update(t, rate, i);
    if (gd_error_count(g->c)) return;
    if (last) only_when(t, last, first_slot);
    Value *number_of = train_step_number(g);
    state_next(g, number_of, TEXT(t, "s + 1", "s", number_of));
}

static void input_gradients(Training *t, int inputs) {
    Graph *g = t->g;
    VEC(Value *) of = {0};
    VEC(const char *) names = {0};
    for (int i = 0; i < inputs; i++) {
        Value *v = g->in.v[i];
        if (!(dt_float(v->dt) || dt_small(v->dt)) || state_of(g, v)) continue;
        vec_push(g->c, &of, v);
        vec_push(g->c, &names, g->in_names.v[i]);
    }
    if (!of.n) gd_fail(g->c, 404, NULL, "no input is of floats: there is no gradient of an input");
    Value **d = gd_new_array(g->c, Value *, of.n);
    graph_grad(g, t->loss, of.n, of.v, d);
    graph_output(g, "batch_loss", t->loss);
    for (int i = 0; i < of.n; i++) graph_output(g, gd_format(g->c, "d_%s", names.v[i]), d[i]);
}

static void need_spec(Graph *g) {
    if (!g->states.n)
        gd_fail(g->c, 404, "weights of a model that trains are states",
                "the model has no parameters to train");
    if (g->train && g->train->own.given) return;
    if (!g->train || !g->train->loss.name)
        gd_error(g->c, 601, "--loss, or a train block", "no loss was named");
    if (g->train && !g->train->optimizer.name)
        gd_error(g->c, 601, "--optimizer, or a train block", "no optimizer was named");
    if (gd_error_count(g->c)) gd_leave(g->c);
}

void pass_train(Graph *g, const PassOptions *o) {
    if (o->train == TP_NONE || o->train == TP_RUN) return;
    need_spec(g);
    Training t = {.g = g, .s = g->train, .attrs = map_new(g->c)};
    int inputs = g->in.n;
    if (t.s->own.given) own_algorithm(&t, o->train, inputs);
    else if (begin_loss(&t)) {
        if (o->train == TP_INPUT_GRAD) input_gradients(&t, inputs);
        else add_metrics(&t);
        if (o->train == TP_STEP && !gd_error_count(g->c)) step(&t);
    }
    if (gd_error_count(g->c)) gd_leave(g->c);
}

Graph *train_init(Ctx *c, const Graph *model, const char *name) {
    const OwnTraining *own = model->train ? &model->train->own : NULL;
    Graph *g = own && own->init ? own->init : graph_new(c, name);
    Value *seed = own && own->init ? g->in.v[0] : graph_input(g, "seed", I64, 0, NULL);
    Map *made = map_new(c); /* by an initialization of the model's own */
    for (int i = 0; i < g->out.n; i++) map_puts(made, g->out_names.v[i], g->out.v[i]);
    g->name = name;
    g->out.n = g->out_names.n = 0;
    for (int i = 0; i < model->states.n; i++) {
        const StateVar *s = model->states.v[i];
        const Value *like = model->in.v[s->in];
        int64_t dims[MAX_RANK];
        if (!value_static(like, dims)) gd_bug(c, "state %s has an open size", state_name(model, s));
        Value *v = map_gets(made, state_name(model, s));
        if (!v && s->from) v = graph_const(g, like->dt, like->rank, dims, s->from->data);
        else if (!v && !strcmp(state_name(model, s), "train/seed")) v = seed;
        else if (!v) v = init_build(g, s, like->dt, like->rank, dims, seed, i);
        if (v) graph_output(g, state_name(model, s), v);
    }
    g->after = "train";
    if (gd_error_count(c)) gd_leave(c);
    return g;
}
