/* See gradmodel.h. Outputs, states and inputs are visited once each: it ends. */
#include "gradmodel.h"
#include "ops/build.h"
#include "train/recipe.h"

static bool is_state_output(const Graph *g, int i) {
    for (int k = 0; k < g->states.n; k++)
        if (g->states.v[k]->out == i) return true;
    return false;
}

/* ---- losses ---- */

/* The sum of v's elements, each times sin(0.7 i + 1 + 0.37 which): no two outputs and no two elements weigh the same. */
static Value *projected(Graph *g, Value *v, int which) {
    Expr *n = value_count(g->c, v);
    Value *i = build_iota(g, v->dt, 1, &n, 0);
    i = make(g, "add", make(g, "mul", i, const_scalar(g, v->dt, .7)), const_scalar(g, v->dt, 1 + .37 * which));
    return sum_all(g, make(g, "mul", build_reshape(g, v, 1, &n), make(g, "sin", i)));
}

static Value *projection(Graph *g) {
    Value *sum = NULL;
    for (int i = 0; i < g->out.n; i++) {
        Value *v = g->out.v[i];
        if (is_state_output(g, i) || !grad_float(v)) continue;
        Value *part = projected(g, v, i);
        if (sum && sum->dt != part->dt) part = build_cast(g, part, sum->dt);
        sum = sum ? make(g, "add", sum, part) : part;
    }
    if (!sum) gd_fail(g->c, 404, NULL, "no output is of floats: there is no gradient");
    return sum;
}

static Value *prediction(Graph *g) {
    for (int i = 0; i < g->out.n; i++)
        if (!is_state_output(g, i) && (!g->train->output || !strcmp(g->train->output, g->out_names.v[i]))) return g->out.v[i];
    gd_fail(g->c, 601, "name an output of the model", "the loss is about output \"%s\", and there is none",
            g->train->output ? g->train->output : "");
}

static const char *free_name(const Graph *g, const char *name) {
    const char *s = name;
    for (int i = 0, k = 1; i < g->in.n; i++)
        if (!strcmp(g->in_names.v[i], s)) {
            s = gd_format(g->c, "%s_%d", name, k++);
            i = -1;
        }
    return s;
}

static void described(GradModel *m) {
    Graph *g = m->g;
    Value *p = prediction(g);
    DType dt;
    int rank, axis = 0;
    bool sparse = false;
    double ignored;
    Expr *dim[MAX_RANK];
    if (!loss_target(g, g->train, p, &dt, &rank, dim)) gd_leave(g->c);
    m->target = graph_input(g, free_name(g, "target"), dt, rank, dim);
    m->loss = loss_build(g, g->train, p, m->target, NULL);
    if (!m->loss) gd_leave(g->c);
    m->about = g->train->loss.name;
    if (loss_classes(g, g->train, p, &sparse, &axis, &ignored) && sparse && !is_int(p->dim[axis], &m->classes)) m->classes = 2;
}

/* The number that the model's own training algorithm puts out, and that no state becomes. */
static void own_loss(GradModel *m) {
    Graph *g = m->g;
    const OwnTraining *own = &g->train->own;
    for (int i = own->from; i < own->to; i++) {
        Value *v = g->out.v[i];
        bool state = false, named = g->train->output && !strcmp(g->train->output, g->out_names.v[i]);
        for (int k = 0; k < g->states.n; k++) state |= g->states.v[k]->out >= 0 && g->out.v[g->states.v[k]->out] == v;
        if (!grad_float(v) || !is_value(value_count(g->c, v), 1) || (m->loss && !named) || (state && !named)) continue;
        if (g->train->output && !named) continue;
        m->loss = v;
        m->about = g->out_names.v[i];
    }
    if (!m->loss) gd_fail(g->c, 601, "--loss-output NAME", "the model's training algorithm puts out no number that could be its loss");
    if (m->loss->rank) m->loss = build_reshape(g, m->loss, 0, NULL);
    for (int i = 0; own->target && i < g->in.n; i++)
        if (!strcmp(g->in_names.v[i], own->target)) m->target = g->in.v[i];
    const Value *p = g->out.v[0]; /* classes lie along axis 1 in ONNX */
    if (m->target && !grad_float(m->target) && (p->rank < 2 || !is_int(p->dim[1], &m->classes))) m->classes = 2;
}

/* The regularisers' part of it. */
static Value *with_penalty(Graph *g, Value *loss) {
    for (int i = 0; i < g->states.n; i++) {
        const StateVar *s = g->states.v[i];
        Value *w = g->in.v[s->in];
        if (s->kind != ST_PARAM) continue;
        if (s->l1 != 0) loss = make(g, "add", loss, make(g, "mul", const_scalar(g, w->dt, s->l1), sum_all(g, make(g, "abs", w))));
        if (s->l2 != 0) loss = make(g, "add", loss, make(g, "mul", const_scalar(g, w->dt, s->l2), sum_all(g, make(g, "mul", w, w))));
    }
    return loss;
}

/* ---- the model ---- */

static void list_subjects(GradModel *m) {
    Graph *g = m->g;
    for (int pass = 1; pass >= 0; pass--) /* parameters first */
        for (int i = 0; i < g->in.n; i++) {
            Value *v = g->in.v[i];
            const StateVar *s = state_of(g, v);
            GradSubject subject = {v, g->in_names.v[i], s != NULL};
            if (grad_float(v) && (s ? s->kind == ST_PARAM : 1) && subject.param == pass) vec_push(g->c, &m->subjects, subject);
        }
    if (!m->subjects.n) gd_fail(g->c, 404, NULL, "the model has neither parameters nor inputs of floats");
}

void grad_model(Build *b, bool wide, GradModel *m) {
    *m = (GradModel){0};
    TrainPart part = b->g->set.train.part;
    b->front.states = true;
    build_part(b, part == TP_NONE ? TP_STEP : part);
    b->pass.train = TP_NONE;
    Graph *g = m->g = front_graph(b->c, &b->file, &b->front);
    if (gd_error_count(b->c)) gd_leave(b->c);
    session_train(b->c, g, &b->g->set.train);
    m->init = train_init(b->c, g, "init");
    if (wide) {
        graph_widen(m->init);
        graph_widen(g);
        if (gd_error_count(b->c)) gd_leave(b->c);
    }
    if (g->train->own.given) own_loss(m);
    else if (g->train->loss.name) described(m);
    else {
        m->loss = projection(g);
        m->about = "a projection of the outputs";
    }
    m->loss = with_penalty(g, m->loss);
    g->out.n = g->out_names.n = 0;
    for (int i = 0; i < g->states.n; i++) g->states.v[i]->out = -1;
    list_subjects(m);
}
