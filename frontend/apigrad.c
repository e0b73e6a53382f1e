/* The gradient that the compiler derives against differences, in double: gradc_gradcheck; and what is in its way:
   gradc_check_train.

   Two programs are made of a model: the loss, and the loss with its gradient by every parameter and every input of floats.
   Along a direction v, an element's or a random one, <gradient, v> is held against (f(x + h v) - f(x - h v)) / 2h. Where they
   differ the step is made smaller, so that a kink nearby (relu, max) leaves it; where they still differ the gradient is looked
   at on either side of x: when it is right on both, x itself is a kink, which counts as such and as no error.

   Terminates: tensors, directions and steps are counted; the model is run a fixed number of times for each. */
#define _GNU_SOURCE
#include "gradmodel.h"
#include "ops/build.h"
#include "train/recipe.h"
#include <math.h>
#include <stdlib.h>

enum { STEPS = 3, OPEN_SIZE = 3, MOST_SUBJECTS = 1 << 12 };
static const double first_step = 1e-5, finer = 8;

/* One of the two programs, its inputs, and its answers: the loss, the gradient by each subject. */
typedef struct Compiled {
    Program *p;
    GradcCall *call;
    const void **ins;
    void **outs;
} Compiled;

typedef struct Check {
    Gradc *g;
    const GradcGradOptions *o;
    Ctx *c;
    Build b;
    GradModel m;
    Compiled loss, gradient;
    bool interpreter;
    int64_t *syms;   /* scratch */
    int *port;       /* of each subject */
    uint64_t random;
    VEC(GradcGradRow) rows;
    double at;       /* the loss at x */
} Check;

static double rnd(Check *k) { /* -1 .. 1: Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014 */
    uint64_t z = k->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)(int64_t)(z ^ (z >> 31)) * 0x1p-63;
}

/* ---- the programs ---- */

static void close_call(void *call) { gradc_call_close(call); }

/* States are inputs like others here: nothing is written in their place. */
static void compile(Check *k, Graph *g, const char *name, Compiled *to) {
    Build *b = &k->b;
    GradcError e;
    Loaded l;
    g->name = name;
    g->states.n = 0;
    b->graph = g;
    b->program = NULL;
    build_finish(b);
    to->p = b->program;
    if (!k->interpreter) build_load(b, k->g->set.backend, &l);
    to->call = gd_new(k->c, GradcCall);
    if (gradc_call_open(to->call, k->interpreter ? session_ports(to->p) : l.program, &e)) session_fail(k->c, &e);
    gd_defer(k->c, close_call, to->call);
}

static void compile_both(Check *k) {
    Graph *g;
    GradModel *m = &k->m, only;
    Value *of[MOST_SUBJECTS], *d[MOST_SUBJECTS];
    grad_model(&k->b, true, &only);
    graph_output(only.g, "loss", only.loss);
    compile(k, only.g, "loss", &k->loss);
    grad_model(&k->b, true, m);
    g = m->g;
    if (m->subjects.n > MOST_SUBJECTS) gd_fail(k->c, 502, NULL, "more than %d tensors have a gradient", MOST_SUBJECTS);
    k->port = gd_new_array(k->c, int, m->subjects.n);
    for (int i = 0; i < m->subjects.n; i++) {
        of[i] = m->subjects.v[i].v;
        for (int j = 0; j < g->in.n; j++)
            if (g->in.v[j] == of[i]) k->port[i] = j;
    }
    graph_grad(g, m->loss, m->subjects.n, of, d);
    if (gd_error_count(k->c)) gd_leave(k->c);
    graph_output(g, "loss", m->loss);
    for (int i = 0; i < m->subjects.n; i++) graph_output(g, gd_format(k->c, "d_%s", m->subjects.v[i].name), d[i]);
}

/* ---- running ---- */

typedef struct Run { const Compiled *p; LoopArgs a; int status; } Run;

static void interpret(Ctx *scratch, void *arg) {
    Run *r = arg;
    r->status = loop_interpret(scratch, r->p->p, &r->a);
}

/* The loss; the gradients are where the program's outputs are. */
static double evaluate(Check *k, Compiled *p) {
    GradcError e;
    GradcCall *call = p->call;
    gd_check_time(k->c);
    if (!k->interpreter) {
        if (gradc_call_run(call, &e)) session_fail(k->c, &e);
        return *(double *)call->out[0].data;
    }
    Run r = {.p = p};
    int64_t *syms = k->syms;
    void *outs[MOST_SUBJECTS + 1];
    for (int i = 0; i < call->program->nsyms; i++) syms[i] = call->syms[i];
    for (int i = 0; i < call->program->nout; i++) outs[i] = p->outs[i];
    r.a = (LoopArgs){p->ins, outs, syms};
    gd_scratch(k->c, interpret, &r);
    if (r.status) gd_fail(k->c, 303, NULL, "the program ended with status %d", r.status);
    return *(double *)outs[0];
}

static const double *gradient_of(const Check *k, int subject) {
    const Compiled *p = &k->gradient;
    return k->interpreter ? p->outs[subject + 1] : p->call->out[subject + 1].data;
}

/* ---- inputs ---- */

/* The first values of states, parameters moved a little: zeros and ones are no place to look at gradients from. */
static void set_states(Check *k, const Graph *g, int nstates, StateVar *const *states, Program *init) {
    int64_t seed = (int64_t)k->o->seed, none = 0;
    const void *in[] = {&seed};
    GradcError e;
    if (!nstates) return;
    void **out = gd_new_array(k->c, void *, nstates);
    if (loop_interpret(k->c, init, &(LoopArgs){in, out, &none})) gd_fail(k->c, 303, NULL, "the states' first values cannot be made");
    for (int i = 0; i < nstates; i++) {
        const Value *v = g->in.v[states[i]->in];
        int64_t dims[MAX_RANK];
        GradcTensor t = {.dtype = (int)v->dt, .rank = v->rank, .data = out[i]};
        size_t n;
        value_static(v, dims);
        if (v->rank) memcpy(t.dims, dims, (size_t)v->rank * sizeof *dims);
        if (gradc_shape_bytes(t.dtype, t.rank, t.dims, &n, &t.bytes, &e)) session_fail(k->c, &e);
        double *x = t.data, square = 0;
        bool moves = states[i]->kind == ST_PARAM && v->dt == F64;
        for (size_t j = 0; moves && j < n; j++) square += x[j] * x[j];
        double by = square > 0 ? .1 * sqrt(square / (double)n) : .1;
        for (size_t j = 0; moves && j < n; j++) x[j] += by * rnd(k);
        if (gradc_call_set(k->gradient.call, states[i]->in, &t, &e)) session_fail(k->c, &e);
    }
}

/* Whose value the caller gives: by name, else in order. */
static bool *given_inputs(Check *k) {
    const GradcArgs *a = k->o->values;
    const GradcProgram *p = k->gradient.call->program;
    bool *given = gd_new_array(k->c, bool, p->nin + 1);
    int plain = 0;
    for (int w = 0; a && w < a->nvalues; w++) {
        bool named = false;
        for (int i = 0; i < p->nin; i++) {
            size_t n = strlen(p->in[i].name);
            if (strncmp(a->values[w], p->in[i].name, n) || a->values[w][n] != '=') continue;
            named = given[i] = true;
        }
        plain += !named;
    }
    for (int i = 0; i < p->nin && plain; i++)
        if (!given[i] && !k->gradient.call->in[i].data) given[i] = true, plain--;
    return given;
}

/* Sizes that nothing decides are 3, or as near to it as they may. */
static void set_sizes(Check *k) {
    const GradcArgs *a = k->o->values;
    GradcCall *call = k->gradient.call;
    const GradcProgram *p = call->program;
    GradcError e;
    for (int w = 0; a && w < a->nvalues; w++) {
        const char *equals = strchr(a->values[w], '=');
        if (gradc_value_has_shape(a->values[w]) || (equals && gradc_value_has_shape(equals + 1))) return;
    }
    for (int s = 0; s < p->nsyms; s++) {
        bool of_input = false;
        for (int i = 0; i < p->nin; i++)
            for (int d = 0; d < p->in[i].rank; d++) of_input |= p->in[i].dims[d] == -1 - (int64_t)s;
        int64_t n = p->sym_lo[s] > OPEN_SIZE ? p->sym_lo[s] : p->sym_hi[s] < OPEN_SIZE ? p->sym_hi[s] : OPEN_SIZE;
        if (of_input && gradc_call_dim(call, p->sym_names[s], n, &e)) session_fail(k->c, &e);
    }
}

/* An input that nobody gave: floats on both sides of zero (positive: above it), whole numbers that choose something. */
static void fill(Check *k, int port, bool positive) {
    const GradModel *m = &k->m;
    const Value *v = m->g->in.v[port];
    GradcTensor *t = &k->gradient.call->in[port];
    size_t n = t->bytes / gradc_dtype_size(t->dtype);
    int64_t most = v == m->target && m->classes ? m->classes : t->dtype == GRADC_I64 || t->dtype == GRADC_I32 ? session_table_rows(m->g, v) : 0;
    for (size_t i = 0; i < n; i++) {
        double r = rnd(k), whole = most ? floor((r + 1) / 2 * (double)most) : 0;
        if (t->dtype == GRADC_F64) ((double *)t->data)[i] = v == m->target || positive ? .05 + .45 * (r + 1) : 1.5 * r;
        else if (most && t->dtype == GRADC_I64) ((int64_t *)t->data)[i] = (int64_t)whole;
        else if (most && t->dtype == GRADC_I32) ((int32_t *)t->data)[i] = (int32_t)whole;
    }
}

static void share_inputs(Check *k) {
    GradcCall *from = k->gradient.call, *to = k->loss.call;
    GradcError e;
    int nin = from->program->nin;
    const void **ins = k->loss.ins = k->gradient.ins = gd_new_array(k->c, const void *, nin + 1);
    if (to->program->nin != nin) gd_bug(k->c, "the loss has other inputs than its gradient");
    for (int i = 0; i < nin; i++) {
        GradcTensor t = from->in[i];
        t.owned = false;
        ins[i] = t.data;
        if (gradc_call_set(to, i, &t, &e)) session_fail(k->c, &e);
    }
    k->syms = gd_new_array(k->c, int64_t, from->program->nsyms + to->program->nsyms + 1);
    k->loss.outs = gd_new_array(k->c, void *, 1);
    k->gradient.outs = gd_new_array(k->c, void *, k->m.subjects.n + 1);
    k->loss.outs[0] = gd_alloc_aligned(k->c, sizeof(double));
    k->gradient.outs[0] = gd_alloc_aligned(k->c, sizeof(double));
    for (int i = 0; k->interpreter && i < k->m.subjects.n; i++)
        k->gradient.outs[i + 1] = gd_alloc_aligned(k->c, from->in[k->port[i]].bytes + 1);
}

static void set_inputs(Check *k) {
    GradcCall *call = k->gradient.call;
    const GradcArgs *given = k->o->values;
    GradcArgs a = given ? *given : (GradcArgs){0};
    GradcError e;
    int nin = call->program->nin, missing = 0;
    bool *theirs = given_inputs(k);
    set_sizes(k);
    for (int i = 0; i < nin; i++) missing += !call->in[i].data;
    const char **values = gd_new_array(k->c, const char *, missing + a.nvalues + 1);
    for (int i = 0; i < a.nvalues; i++) values[i] = a.values[i];
    for (int i = a.nvalues; i < missing; i++) values[i] = gd_format(k->c, "rand:%d", i + 1);
    bool *ours = gd_new_array(k->c, bool, nin + 1);
    for (int i = 0; i < nin; i++) ours[i] = !call->in[i].data && !theirs[i];
    a.values = values;
    if (missing > a.nvalues) a.nvalues = missing;
    if (missing && gradc_call_args(call, &a, &e)) session_fail(k->c, &e);
    for (int i = 0; i < nin; i++)
        if (ours[i]) fill(k, i, false);
    share_inputs(k);
    if (isfinite(k->at = evaluate(k, &k->gradient))) return;
    for (int i = 0; i < nin; i++) /* outside the domain of a logarithm or a root? */
        if (ours[i]) fill(k, i, true);
    k->at = evaluate(k, &k->gradient);
    if (!isfinite(k->at)) gd_fail(k->c, 604, "give inputs by NAME=VALUE", "the loss of these inputs is %g", k->at);
}

/* ---- one direction ---- */

/* An element (r NULL), or all of them: r, of length 1. */
typedef struct Direction { int subject; int64_t element, n; const double *r; double *x, *was; } Direction;

/* Everything is where it was, but for x, which lies t along the direction. */
static void move(const Direction *d, double t) {
    if (!d->r) d->x[d->element] = d->was[d->element] + t;
    for (int64_t i = 0; d->r && i < d->n; i++) d->x[i] = d->was[i] + t * d->r[i];
}

static double derived(Check *k, const Direction *d, double t) {
    move(d, t);
    evaluate(k, &k->gradient);
    move(d, 0);
    const double *dx = gradient_of(k, d->subject);
    double sum = 0;
    if (!d->r) return dx[d->element];
    for (int64_t i = 0; i < d->n; i++) sum += dx[i] * d->r[i];
    return sum;
}

typedef struct Difference { double slope, size; } Difference; /* size: of the loss */

static Difference difference(Check *k, const Direction *d, double t, double h) {
    double side[2];
    for (int s = 0; s < 2; s++) {
        move(d, t + (s ? h : -h));
        side[s] = evaluate(k, &k->loss);
    }
    move(d, 0);
    return (Difference){(side[1] - side[0]) / (2 * h), fmax(fabs(side[0]), fabs(side[1]))};
}

/* At most rtol where they agree. What both are below cannot be told apart from what is lost in the difference, or was allowed. */
static double relative(const Check *k, double a, Difference b, double h) {
    double lost = 64 * 0x1p-52 * b.size / h, floor = (k->o->atol + lost) / k->o->rtol;
    double error = fabs(a - b.slope) / fmax(fmax(fabs(a), fabs(b.slope)), floor);
    return error == error ? error : INFINITY;
}

/* Is the gradient right on both sides of x? Then x is where it jumps. */
static bool is_kink(Check *k, const Direction *d, double h) {
    for (int s = -1; s <= 1; s += 2) {
        double t = s * h, fine = h / 4, worst = INFINITY;
        for (int step = 0; step < STEPS && worst > k->o->rtol; step++, t /= finer, fine /= finer)
            worst = fmin(worst, relative(k, derived(k, d, t), difference(k, d, t, fine), fine));
        if (worst > k->o->rtol) return false;
    }
    return true;
}

static void compare(Check *k, const Direction *d, double have, GradcGradRow *row) {
    double size = d->r ? 1 : fmax(1, fabs(d->was[d->element])), h = first_step * size, best = INFINITY;
    Difference first = {0, 0};
    for (int step = 0; step < STEPS && best > k->o->rtol; step++, h /= finer) {
        Difference now = difference(k, d, 0, h);
        if (!step) first = now;
        best = fmin(best, relative(k, have, now, h));
    }
    row->compared++;
    if (best > k->o->rtol && is_kink(k, d, first_step * size)) {
        row->kinks++;
        return;
    }
    if (best > k->o->rtol) row->ok = false;
    if (row->error >= best) return;
    row->error = best;
    row->derived = have;
    row->difference = first.slope;
    row->at = d->r ? -1 : d->element;
}

/* ---- all of a tensor ---- */

static const char *place(Check *k, const GradcTensor *t, int64_t at) {
    Text *s = text_new(k->c);
    int64_t index[GRADC_MAX_RANK];
    if (at < 0) return "a direction";
    for (int d = t->rank - 1; d >= 0; at /= t->dims[d--]) index[d] = at % t->dims[d];
    text_put(s, "[");
    for (int d = 0; d < t->rank; d++) text_printf(s, "%s%lld", d ? "," : "", (long long)index[d]);
    text_put(s, "]");
    return s->s;
}

static const char *type_text(Check *k, const GradcTensor *t) {
    Text *s = text_new(k->c);
    text_put(s, "[");
    for (int d = 0; d < t->rank; d++) text_printf(s, "%s%lld", d ? "," : "", (long long)t->dims[d]);
    text_put(s, "]");
    return s->s;
}

/* All elements, or so many of them and two directions in which all change. The gradient at x is kept: others are asked for on
   the way. */
static void check_tensor(Check *k, int subject, const double *dx) {
    const GradSubject *s = &k->m.subjects.v[subject];
    GradcTensor *t = &k->gradient.call->in[k->port[subject]];
    Direction d = {.subject = subject, .n = (int64_t)(t->bytes / sizeof(double)), .x = t->data};
    GradcGradRow row = {.name = s->name, .kind = s->param ? "param" : "input", .shape = type_text(k, t), .elements = d.n, .ok = true,
                        .error = -1, .at = -1, .place = ""};
    double *was = gd_new_array(k->c, double, d.n + 1), *r = gd_new_array(k->c, double, d.n + 1);
    bool all = d.n <= k->o->samples;
    if (d.n) memcpy(was, t->data, t->bytes);
    d.was = was;
    for (int64_t i = 0; i < (all ? d.n : k->o->samples); i++) {
        d.element = all ? i : (int64_t)((rnd(k) + 1) / 2 * (double)(d.n - 1));
        compare(k, &d, dx[d.element], &row);
    }
    for (int i = 0; !all && i < 2; i++) {
        double length = 0, sum = 0;
        for (int64_t j = 0; j < d.n; j++) r[j] = rnd(k), length += r[j] * r[j];
        for (int64_t j = 0; j < d.n; j++) r[j] /= sqrt(length), sum += dx[j] * r[j];
        d.r = r;
        compare(k, &d, sum, &row);
    }
    if (row.error >= 0) row.place = place(k, t, row.at);
    if (row.error < 0) row.error = 0;
    vec_push(k->c, &k->rows, row);
}

static void gradcheck(Ctx *c, void *arg) {
    Check *k = arg;
    k->c = c;
    build_begin(&k->b, k->g, c);
    k->b.pass.train = TP_NONE;
    k->interpreter = k->g->set.backend && !strcmp(k->g->set.backend, "interp");
    if (!k->g->path) gd_fail(c, 601, "gradc_load", "no model was given");
    gd_set_stage(c, "read");
    k->b.file = front_open(c, k->g->path);
    if (k->b.file.format == FF_LOOP_TEXT) gd_fail(c, 102, "a model that has gradients is a graph", "this is loop IR");
    compile_both(k);
    Graph *g = k->m.g, *init = k->m.init;
    int nstates = g->states.n;
    StateVar **states = g->states.v;
    compile(k, g, "gradient", &k->gradient);
    Program *first = NULL;
    if (nstates) {
        k->b.graph = init;
        k->b.program = NULL;
        build_finish(&k->b);
        first = k->b.program;
    }
    session_threads(k->g->set.threads);
    gd_set_stage(c, "compare");
    set_states(k, g, nstates, states, first);
    set_inputs(k);
    const double **dx = gd_new_array(c, const double *, k->m.subjects.n);
    for (int i = 0; i < k->m.subjects.n; i++) {
        size_t bytes = k->gradient.call->in[k->port[i]].bytes;
        double *copy = gd_alloc_aligned(c, bytes + 1);
        if (bytes) memcpy(copy, gradient_of(k, i), bytes);
        dx[i] = copy;
    }
    for (int i = 0; i < k->m.subjects.n; i++) check_tensor(k, i, dx[i]);
}

int gradc_gradcheck(Gradc *g, const GradcGradOptions *o, int *n, const GradcGradRow **rows, const char **about) {
    Check k = {.g = g, .o = o, .random = o->seed};
    int status = session_run(g, gradcheck, &k);
    *n = k.rows.n;
    *rows = k.rows.v;
    *about = k.m.about ? k.m.about : "";
    for (int i = 0; i < k.rows.n && !status; i++)
        if (!k.rows.v[i].ok) status = EXIT_INVALID;
    return status;
}

/* ---- what is in the way ---- */

typedef struct Way { Gradc *g; bool read; GradNotes notes; } Way;

/* What rows themselves say against their gradient comes with it. Then the step as a whole, where it is described. */
static void check_train(Ctx *c, void *arg) {
    Way *w = arg;
    Build b;
    GradModel m;
    VEC(Value *) of = {0};
    build_begin(&b, w->g, c);
    if (!w->g->path) gd_fail(c, 601, "gradc_load", "no model was given");
    b.file = front_open(c, w->g->path);
    if (b.file.format == FF_LOOP_TEXT) gd_fail(c, 102, "a model that trains is a graph", "this is loop IR");
    w->read = true;
    grad_model(&b, false, &m);
    for (int pass = 1; pass >= 0 && !of.n; pass--) /* parameters; a model without any: its inputs */
        for (int i = 0; i < m.subjects.n; i++)
            if (m.subjects.v[i].param == pass) vec_push(c, &of, m.subjects.v[i].v);
    grad_path(m.g, m.loss, of.n, of.v, &w->notes);
    Value **d = gd_new_array(c, Value *, of.n + 1);
    graph_grad(m.g, m.loss, of.n, of.v, d);
    if (gd_error_count(c)) gd_leave(c);
    bool described = m.g->train->loss.name && m.g->train->optimizer.name;
    if (described || m.g->train->own.given) {
        build_part(&b, TP_STEP);
        b.graph = front_graph(c, &b.file, &b.front);
        session_train(c, b.graph, &w->g->set.train);
    } else {
        graph_output(m.g, "loss", m.loss);
        for (int i = 0; i < of.n; i++) graph_output(m.g, gd_format(c, "d%d", i), d[i]);
        m.g->states.n = 0;
        b.pass.train = TP_NONE;
        b.graph = m.g;
    }
    build_finish(&b);
}

int gradc_check_train(Gradc *g, int *nnotes, const char *const **notes) {
    Way w = {.g = g};
    int status = session_run(g, check_train, &w);
    *nnotes = w.notes.n;
    *notes = w.notes.v;
    return session_check_status(g, status, w.read);
}
