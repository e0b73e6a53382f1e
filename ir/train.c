/* State of a graph, and recipes: train.h. */
#include "train.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- state ---- */

const char *const gd_state_kinds[ST_KINDS] = {"param", "buffer", "slot", "counter", "metric"};

const char *const gd_train_parts[TP_PARTS] = {"none", "step", "eval", "run", "input-grad"};

static const char *unique_name(Graph *g, const char *name) {
    const char *s = name;
    for (int i = 1; state_named(g, s); i++) s = gd_format(g->c, "%s_%d", name, i);
    return s;
}

Value *state_new(Graph *g, StateKind kind, const char *name, DType dt, int rank, const int64_t *dim, const char *init) {
    Expr *e[MAX_RANK];
    for (int i = 0; i < rank; i++) e[i] = expr_int(g->c, dim[i]);
    StateVar *s = gd_new(g->c, StateVar);
    *s = (StateVar){.kind = kind, .in = g->in.n, .out = -1, .init = init};
    Value *v = graph_input(g, unique_name(g, name), dt, rank, e);
    vec_push(g->c, &g->states, s);
    return v;
}

StateVar *state_of(Graph *g, const Value *v) {
    for (int i = 0; i < g->states.n; i++)
        if (g->in.v[g->states.v[i]->in] == v) return g->states.v[i];
    return NULL;
}

StateVar *state_named(Graph *g, const char *name) {
    for (int i = 0; i < g->states.n; i++)
        if (!strcmp(g->in_names.v[g->states.v[i]->in], name)) return g->states.v[i];
    return NULL;
}

static size_t state_bytes(Graph *g, const Value *v) {
    int64_t dim[MAX_RANK], bytes = gd_dtypes[v->dt].bytes;
    if (!value_static(v, dim)) gd_bug(g->c, "state %s has an open size", v->label ? v->label : "");
    for (int i = 0; i < v->rank; i++) bytes = gd_mul(g->c, bytes, dim[i]);
    return (size_t)bytes;
}

const void *state_data(Graph *g, const StateVar *s, StateData *data, void *arg) {
    int64_t dim[MAX_RANK];
    Value *v = g->in.v[s->in];
    const char *name = g->in_names.v[s->in];
    const void *found = value_static(v, dim) && data ? data(arg, name, v->dt, v->rank, dim) : NULL;
    if (!found && s->from) found = s->from->data;
    if (found) return found;
    gd_error(g->c, 602, "--params FILE", "parameter \"%s\" has no value", name);
    return gd_alloc_aligned(g->c, state_bytes(g, v));
}

void states_fix(Graph *g, StateData *data, void *arg) {
    Map *with = map_new(g->c);
    for (int i = 0; i < g->states.n; i++) {
        int64_t dim[MAX_RANK];
        Value *v = g->in.v[g->states.v[i]->in];
        size_t bytes = state_bytes(g, v);
        void *copy = gd_alloc_aligned(g->c, bytes);
        memcpy(copy, state_data(g, g->states.v[i], data, arg), bytes);
        value_static(v, dim);
        Value *k = graph_const(g, v->dt, v->rank, dim, copy);
        k->label = v->label;
        map_putp(with, v, k);
    }
    int n = 0;
    for (int i = 0; i < g->in.n; i++) {
        if (map_getp(with, g->in.v[i])) continue;
        g->in.v[n] = g->in.v[i];
        g->in_names.v[n++] = g->in_names.v[i];
    }
    g->in.n = g->in_names.n = n;
    g->states.n = 0;
    graph_replace(g, with);
}

void state_next(Graph *g, const Value *v, Value *next) {
    StateVar *s = state_of(g, v);
    if (!s || s->out >= 0) gd_bug(g->c, "state %s has no next value to set", v->label ? v->label : "");
    s->out = g->out.n;
    graph_output(g, gd_format(g->c, "%s.next", g->in_names.v[s->in]), next);
}

static Value *shared(Graph *g, const char *name, DType dt, const char *init) {
    StateVar *s = state_named(g, name);
    return s ? g->in.v[s->in] : state_new(g, ST_COUNTER, name, dt, 0, NULL, init);
}

Value *train_step_number(Graph *g) { return shared(g, "train/step", I64, NULL); }
Value *train_update_number(Graph *g) {
    Value *steps = train_step_number(g);
    int64_t k = g->train ? g->train->accumulate : 0;
    return k > 1 ? make(g, "div", steps, const_scalar(g, I64, (double)k)) : steps;
}
Value *train_seed(Graph *g) { return shared(g, "train/seed", I64, NULL); }
Value *train_epoch_steps(Graph *g) { return shared(g, "train/epoch_steps", I64, "constant value=1"); }
Value *train_rate(Graph *g, double initial) {
    return shared(g, "train/lr", F32, gd_format(g->c, "constant value=%.17g", initial));
}

/* ---- recipes ---- */

typedef struct Words { Ctx *c; const char *s, *start; } Words;

static void skip(Words *w) {
    while (isspace((unsigned char)*w->s) || *w->s == ',') w->s++;
}

static const char *word(Words *w) {
    const char *start = w->s;
    while (isalnum((unsigned char)*w->s) || *w->s == '_') w->s++;
    return w->s > start ? gd_strndup(w->c, start, (size_t)(w->s - start)) : NULL;
}

static bool argument(Words *w, RecipeArg *a) {
    const char *start = ++w->s;
    const char *end;
    a->v = gd_strtod(start, &end);
    bool number = end > start && (!*end || isspace((unsigned char)*end) || *end == ',');
    if (number) {
        w->s = end;
        return true;
    }
    while (*w->s && !isspace((unsigned char)*w->s) && *w->s != ',') w->s++;
    a->v = 0;
    a->text = gd_strndup(w->c, start, (size_t)(w->s - start));
    return *a->text;
}

bool recipe_parse(Ctx *c, const char *text, Recipe *r, const char **what, size_t *at) {
    Words w = {c, text, text};
    *r = (Recipe){0};
    skip(&w);
    *what = "a name";
    bool ok = (r->name = word(&w)) != NULL;
    for (skip(&w); ok && *w.s; skip(&w)) {
        RecipeArg *a = &r->arg[r->n];
        *what = "argument=value";
        ok = r->n < MAX_RECIPE_ARGS && (a->name = word(&w)) && *w.s == '=';
        if (!ok) break;
        *what = "a number or a word";
        if ((ok = argument(&w, a))) r->n++;
    }
    *at = (size_t)(w.s - text);
    return ok;
}

const RecipeArg *recipe_arg(const Recipe *r, const char *name) {
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->arg[i].name, name)) return &r->arg[i];
    return NULL;
}
