/* for x in sequence { ... }: a loop over an axis of run-time length, with the same parameters at every step.

   A name that exists before the loop and that the body assigns to is carried from one iteration to the next. The other names
   belong to an iteration. Where something behind the loop asks for them they are those of the last one: then the last
   iteration is taken out of the loop and stands behind it, and what nobody asks for is computed in neither.

     h = zeros(1, 4)                    h' = loop (T - 1 times) carrying h { h = f(x[t], h) }
     for x in s { h = f(x, h); y = g(h) }    h = f(x[T - 1], h');  y = g(h) */
#include "modelloop.h"
#include "ops/build.h"
#include "ops/loops.h"

typedef struct Carried { const char *name; Value *init, *arg; } Carried;
typedef struct For {
    Desc *d;
    const Tok *at;
    const char *var;
    Value *seq;
    int axis, body, end;
    Expr *trip;
    VEC(Carried) carried;
    VEC(const char *) own; /* names that belong to an iteration */
    bool ends_carried;     /* the last statement assigns to carried names only */
} For;

static const Opnd *lookup(const Desc *d, const char *name) {
    for (const Env *e = d->env; e; e = e->up) {
        const Opnd *o = map_gets(e->names, name);
        if (o) return o;
    }
    return NULL;
}

static bool listed(const For *f, const char *name) {
    bool found = false;
    for (int i = 0; i < f->carried.n; i++) found |= !strcmp(f->carried.v[i].name, name);
    for (int i = 0; i < f->own.n; i++) found |= !strcmp(f->own.v[i], name);
    return found;
}

static bool is_carried(const For *f, const char *name) {
    for (int i = 0; i < f->carried.n; i++)
        if (!strcmp(f->carried.v[i].name, name)) return true;
    return false;
}

/* What the body assigns to. */
static void assigned(For *f) {
    Desc *d = f->d;
    for (int i = f->body; i < f->end; i++) {
        bool starts = i == f->body || d->t[i - 1].kind == TK_LINE || (d->t[i - 1].kind == TK_PUNCT && strchr("{}", *d->t[i - 1].text));
        if (!starts || d->t[i].kind == TK_LINE) continue;
        int n = model_targets(&d->t[i]);
        f->ends_carried = n > 0;
        for (int k = 0; k < n; k++) {
            const char *name = d->t[i + 2 * k].text;
            const Opnd *o = lookup(d, name);
            if (!listed(f, name) && o && o->kind == OD_NUMBER && strcmp(name, f->var))
                model_error(d, &d->t[i], 302, "zeros(N, 128) makes a tensor", "%s is a number before the loop", name);
            else if (!listed(f, name) && o && o->kind == OD_VALUE) vec_push(d->c, &f->carried, ((Carried){.name = name, .init = o->v[0]}));
            else if (!listed(f, name)) vec_push(d->c, &f->own, name);
            f->ends_carried &= is_carried(f, name);
        }
    }
}

/* Is one of the iteration's names used behind the loop? */
static bool asked_for(const For *f) {
    if (!f->ends_carried) return true;
    for (const Tok *t = &f->d->t[f->end]; t->kind != TK_END; t++)
        for (int i = 0; i < f->own.n && t->kind == TK_WORD; i++)
            if (!strcmp(t->text, f->own.v[i])) return true;
    return false;
}

static Value *element(Graph *g, const For *f, Expr *i) {
    return build_squeeze(g, build_slice_axis(g, f->seq, f->axis, i, expr_int(g->c, 1)), f->axis);
}

/* One reading of the body, in this environment. false after an error. */
static bool iteration(const For *f, Env *env, Expr *i) {
    Desc *d = f->d;
    Env *outer = d->env;
    int errors = gd_error_count(d->c);
    d->env = env;
    d->it = opnd_value(d, element(d->g, f, i));
    env_bind(d, env, f->var, d->it);
    model_statements(d, f->body, f->end);
    d->env = outer;
    return gd_error_count(d->c) == errors && d->it.kind != OD_BAD;
}

/* A carried value after the iteration, of the type it had. */
static Value *next_value(const For *f, const Carried *k, const Env *env) {
    Desc *d = f->d;
    const Opnd *o = map_gets(env->names, k->name);
    Value *v = o ? (o->kind == OD_VALUE ? o->v[0] : NULL) : k->arg;
    bool same = v && v->rank == k->arg->rank && v->dt == k->arg->dt;
    for (int i = 0; same && i < v->rank; i++) {
        Expr *eq = expr2(d->c, E_EQ, v->dim[i], k->arg->dim[i]);
        same = !is_const(eq) || eq->bits;
    }
    if (same) return build_reshape(d->g, v, v->rank, k->arg->dim);
    model_error(d, f->at, 301, "zeros(...) of that size before the loop", "%s is %s before an iteration and %s after it", k->name,
                value_type_text(d->c, k->arg), v ? value_type_text(d->c, v) : "no tensor");
    return NULL;
}

/* The loop itself, `trip` times; results of all iterations as the last output when they are collected. NULL after an error. */
static Node *loop(For *f, Expr *trip, bool collect) {
    Desc *d = f->d;
    Graph *g = d->g, *body = graph_region(g);
    Var *iter = loop_iteration(g, trip);
    Env *env = env_new(d, d->env);
    Value **init = gd_new_array(d->c, Value *, f->carried.n ? f->carried.n : 1);
    bool ok = true;
    d->g = body;
    for (int i = 0; i < f->carried.n; i++) {
        Carried *k = &f->carried.v[i];
        init[i] = k->init;
        k->arg = graph_input(body, k->name, k->init->dt, k->init->rank, k->init->dim);
        env_bind(d, env, k->name, opnd_value(d, k->arg));
    }
    ok = iteration(f, env, expr_var(d->c, iter));
    for (int i = 0; ok && i < f->carried.n; i++) {
        Value *v = next_value(f, &f->carried.v[i], env);
        ok = v != NULL;
        if (ok) graph_output(body, f->carried.v[i].name, v);
    }
    if (ok && collect) {
        ok = d->it.kind == OD_VALUE;
        if (ok) graph_output(body, "collected", d->it.v[0]);
    }
    d->g = g;
    return ok ? make_loop(g, body, f->carried.n, init, collect, trip, iter) : NULL;
}

/* The axis of the iterations goes where the sequence has it. */
static Value *place_axis(Graph *g, Value *v, int axis) {
    int64_t perm[MAX_RANK];
    if (v->rank < 0 || axis >= v->rank) return v;
    for (int i = 0; i < v->rank; i++) perm[i] = i == axis ? 0 : i < axis ? i + 1 : i;
    return build_transpose(g, v, perm);
}

static void spoil(For *f) {
    Desc *d = f->d;
    for (int i = 0; i < f->carried.n; i++) env_bind(d, d->env, f->carried.v[i].name, opnd_bad());
    for (int i = 0; i < f->own.n; i++) env_bind(d, d->env, f->own.v[i], opnd_bad());
    d->failed = true;
}

static bool read_for(For *f) {
    Desc *d = f->d;
    f->at = model_peek(d);
    f->var = model_word(d, "a name for the element");
    if (!f->var) return false;
    if (!model_take(d, "in")) { model_expected(d, "in"); return false; }
    const Tok *t = model_peek(d);
    Opnd seq = model_expression(d), axis = {.kind = OD_NUMBER, .whole = true};
    if (!d->failed && model_take(d, "along")) axis = model_primary(d);
    if (d->failed) return false;
    f->body = model_braces(d, &f->end);
    if (f->body < 0 || seq.kind == OD_BAD) { d->failed = true; return false; }
    if (seq.kind == OD_WORD) model_error(d, t, 201, NULL, "the name %s is not known", seq.word);
    else if (seq.kind != OD_VALUE || !seq.v[0]->rank) model_error(d, t, 302, NULL, "a loop goes over an axis of a tensor");
    else if (axis.kind != OD_NUMBER || axis.num < -seq.v[0]->rank || axis.num >= seq.v[0]->rank) model_error(d, t, 204, NULL, "%s has no such axis", value_type_text(d->c, seq.v[0]));
    if (d->failed) return false;
    f->seq = seq.v[0];
    f->axis = (int)(axis.num < 0 ? axis.num + f->seq->rank : axis.num);
    f->trip = f->seq->dim[f->axis];
    assigned(f);
    return !d->failed;
}

/* Iterations are not none. */
static void need_one(For *f) {
    Node probe = {.graph = f->d->g, .op = op_named("loop"), .label = gd_format(f->d->c, "for at %s", model_place(f->d, f->at->s))};
    node_require(&probe, expr2(f->d->c, E_LE, expr_int(f->d->c, 1), f->trip), "the last iteration of a loop over nothing is asked for");
}

Opnd model_for(Desc *d, bool collect) {
    For f = {.d = d};
    int errors = gd_error_count(d->c);
    if (!read_for(&f)) return opnd_bad();
    if (++d->depth > MOST_DEPTH) model_error(d, f.at, 504, NULL, "loops are nested more than %d deep", MOST_DEPTH);
    bool last = !collect && asked_for(&f);
    if (last) need_one(&f);
    Expr *trip = last ? expr_sub(d->c, f.trip, expr_int(d->c, 1)) : f.trip;
    Node *n = NULL;
    bool ok = !d->failed && gd_error_count(d->c) == errors, runs = (f.carried.n || collect) && !is_value(trip, 0);
    Opnd before = d->it, result = {0};
    if (ok && runs) ok = (n = loop(&f, trip, collect)) != NULL && gd_error_count(d->c) == errors;
    for (int i = 0; ok && n && i < f.carried.n; i++) env_bind(d, d->env, f.carried.v[i].name, opnd_value(d, n->out[i]));
    d->it = before;
    if (ok && last) {
        ok = iteration(&f, d->env, expr_sub(d->c, f.trip, expr_int(d->c, 1)));
        result = d->it;
    } else if (ok && collect && n) result = opnd_value(d, place_axis(d->g, n->out[f.carried.n], f.axis));
    else if (ok && f.carried.n) result = *lookup(d, f.carried.v[f.carried.n - 1].name);
    d->depth--;
    if (ok && collect && !n) model_error(d, f.at, 301, NULL, "a loop over nothing has no results");
    if (ok && !d->failed) return result;
    spoil(&f);
    return opnd_bad();
}
