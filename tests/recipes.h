/* What tests of recipes share: graphs of training that the interpreter runs, and the file of cases for tests/oracle/recipes.py,
   which compares what was computed with Keras and PyTorch. */
#ifndef RECIPES_H
#define RECIPES_H
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "loop.h"
#include "ops/build.h"
#include "passes.h"
#include "train.h"

static uint64_t seed = 11;
static inline double rnd(void) { /* in [-1, 1) */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) / (1ull << 52) - 1;
}

/* ---- what is computed, for the oracle: a line of JSON a case to the file that RECIPES_DUMP names ---- */

static FILE *dump;
static inline void put_list(const char *key, const double *v, int n) {
    if (!dump) return;
    fprintf(dump, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) fprintf(dump, "%s%.17g", i ? ", " : "", v[i]);
    fprintf(dump, "]");
}
static inline void put_case(const char *kind, const char *text, bool torch) {
    if (dump) fprintf(dump, "{\"kind\": \"%s\", \"text\": \"%s\", \"torch\": %s", kind, text, torch ? "true" : "false");
}
static inline void put_text(const char *key, const char *v) {
    if (dump) fprintf(dump, ", \"%s\": \"%s\"", key, v);
}
static inline void put_end(void) {
    if (dump) fprintf(dump, "}\n");
}

/* ---- a graph that runs ---- */

enum { MOST = 64 };
typedef struct Net {
    Graph *g;
    Program *p;
    void *in[MOST], *out[MOST]; /* by the graph's positions; a changed state's memory is its output's */
} Net;

static inline void within(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, body, arg);
    if (status) fail_msg("%s", gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
    gd_close(c);
}

static inline void *room(Ctx *c, const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    assert_true(value_static(v, dims));
    for (int i = 0; i < v->rank; i++) n *= dims[i];
    return gd_alloc_aligned(c, (size_t)(n ? n : 1) * 8);
}

static inline Net *net_of(Graph *g) {
    Ctx *c = g->c;
    Net *n = gd_new(c, Net);
    n->g = g;
    if (gd_error_count(c)) gd_leave(c);
    assert_true(g->in.n <= MOST && g->out.n <= MOST);
    for (int i = 0; i < g->in.n; i++) n->in[i] = room(c, g->in.v[i]);
    for (int i = 0; i < g->out.n; i++) n->out[i] = room(c, g->out.v[i]);
    for (int i = 0; i < g->states.n; i++)
        if (g->states.v[i]->out >= 0) n->in[g->states.v[i]->in] = n->out[g->states.v[i]->out];
    PassOptions o = {.opt = 2, .numerics = NUM_STRICT, .threads = 1, .machine = {8, 16, true, 32768, 1 << 20}};
    n->p = passes_run(g, &o);
    assert_true(n->p->syms.n <= 8);
    return n;
}

static inline void net_run(Net *n) {
    const void *in[MOST];
    int64_t syms[8];
    int k = 0;
    for (int i = 0; i < n->g->in.n; i++) {
        bool changed = false;
        for (int s = 0; s < n->g->states.n; s++) changed |= n->g->states.v[s]->in == i && n->g->states.v[s]->out >= 0;
        if (!changed) in[k++] = n->in[i];
    }
    assert_int_equal(loop_interpret(n->g->c, n->p, &(LoopArgs){in, n->out, syms}), 0);
}

static inline void *net_in(Net *n, const char *name) {
    for (int i = 0; i < n->g->in.n; i++)
        if (!strcmp(n->g->in_names.v[i], name)) return n->in[i];
    fail_msg("no input %s", name);
    return NULL;
}

static inline Recipe recipe(Ctx *c, const char *text) {
    Recipe r;
    const char *what;
    size_t at;
    if (!recipe_parse(c, text, &r, &what, &at)) fail_msg("%s: %s", text, what);
    return r;
}

static inline Value *input(Graph *g, const char *name, DType dt, int rank, const int64_t *dim) {
    Expr *e[MAX_RANK];
    for (int i = 0; i < rank; i++) e[i] = expr_int(g->c, dim[i]);
    return graph_input(g, name, dt, rank, e);
}

static inline Value *made_of(Graph *g, const char *how, Value *x, int axis) {
    if (!*how) return x;
    Map *values = map_new(g->c), *attrs = map_new(g->c);
    int64_t *list = gd_new(g->c, int64_t);
    Attr *a = gd_new(g->c, Attr);
    *list = axis;
    *a = (Attr){.kind = AT_INTS, .n = 1, .ints = list};
    map_puts(values, "x", x);
    map_puts(attrs, "axes", a);
    if (!strcmp(how, "sigmoid")) return graph_text(g, "sigmoid(x)", values, NULL);
    return graph_text(g, !strcmp(how, "softmax") ? "d = x - detach(reduce_max(x, axes=axes)); e = exp(d); e / reduce_sum(e, axes=axes)"
                                                 : "d = x - detach(reduce_max(x, axes=axes)); d - log(reduce_sum(exp(d), axes=axes))", values, attrs);
}

static inline void set(void *to, DType dt, int i, double v) {
    if (dt == F64) ((double *)to)[i] = v;
    else if (dt == F32) ((float *)to)[i] = (float)v;
    else ((int64_t *)to)[i] = (int64_t)v;
}
static inline double get(const void *from, DType dt, int i) {
    return dt == F64 ? ((const double *)from)[i] : dt == F32 ? (double)((const float *)from)[i] : (double)((const int64_t *)from)[i];
}

static inline int run_recipe_tests(const struct CMUnitTest *tests, size_t n) {
    const char *to = getenv("RECIPES_DUMP");
    dump = to ? fopen(to, "a") : NULL;
    int failed = _cmocka_run_group_tests("recipes", tests, n, NULL, NULL);
    if (dump) fclose(dump);
    return failed;
}
#endif
