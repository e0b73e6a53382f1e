/* See gradcheck.h. A derivative is compared along random directions: sum(dx * r) with (f(x + h r) - f(x - h r)) / 2h, so that one
   wrong element anywhere shows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "codegen.h"
#include "frontend.h"
#include "grad.h"
#include "interp.h"
#include "ops/build.h"
#include "passes.h"
#include "gradcheck.h"

enum { MOST_PORTS = 24, DIRECTIONS = 2, RUNS = 5, MOST_ELEMENTS = 1 << 16 };

static uint64_t seed;
static double rnd(void) { /* -1 .. 1 */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(seed >> 11) / (double)(1ll << 52) - 1;
}

typedef struct Model { const GradCase *k; int order, opt, lanes; bool single; Program *p; Graph *g; } Model;

/* ---- the model with its loss and gradients ---- */

static char *source(const Model *m, Ctx *c) {
    Text *t = text_new(c);
    text_put(t, "<ir_version: 10, opset_import: [\"\" : 24]> ");
    const char *s = m->k->text;
    for (const char *at; m->single && (at = strstr(s, "double")); s = at + 6) {
        text_putn(t, s, (size_t)(at - s));
        text_put(t, "float");
    }
    text_put(t, s);
    return t->s;
}

static Value *weighted(Graph *g, Value *v, int which) {
    Expr *n = value_count(g->c, v);
    DType dt = v->dt;
    int64_t axis = 0;
    Value *i = build_iota(g, dt, 1, &n, 0);
    i = make(g, "add", make(g, "mul", i, const_scalar(g, dt, .7)), const_scalar(g, dt, 1 + .37 * which));
    return build_reduce(g, "reduce_sum", make(g, "mul", build_reshape(g, v, 1, &n), make(g, "sin", i)), 1, &axis, false);
}

static void build(Ctx *c, Model *m) {
    char *text = source(m, c);
    FrontFile f = {"net.onnxtxt", FF_ONNX_TEXT, text, strlen(text)};
    FrontOptions o = {.prefix = "net"};
    Graph *g = front_graph(c, &f, &o);
    DType dt = m->single ? F32 : F64;
    Value *of[MOST_PORTS], *d[MOST_PORTS], *loss = NULL;
    int n = 0;
    assert_true(g->in.n < MOST_PORTS);
    for (int i = 0; i < g->in.n; i++)
        if (g->in.v[i]->dt == dt) of[n++] = g->in.v[i];
    for (int i = 0; i < g->out.n; i++) {
        if (g->out.v[i]->dt != dt) continue;
        Value *part = weighted(g, g->out.v[i], i);
        loss = loss ? make(g, "add", loss, part) : part;
    }
    graph_grad(g, loss, n, of, d);
    if (gd_error_count(c)) gd_leave(c);
    if (m->order == 2) {
        loss = NULL;
        for (int i = 0; i < n; i++) {
            Value *part = weighted(g, d[i], i);
            loss = loss ? make(g, "add", loss, part) : part;
        }
        graph_grad(g, loss, n, of, d);
        if (gd_error_count(c)) gd_leave(c);
    }
    g->out.n = g->out_names.n = 0;
    graph_output(g, "loss", loss);
    for (int i = 0; i < n; i++) graph_output(g, gd_format(c, "d%d", i), d[i]);
    const Target *target = target_named(c, "native");
    PassOptions po = {.opt = m->opt, .numerics = NUM_STRICT, .threads = 2,
                      .machine = {m->lanes ? m->lanes : target->lanes, target->registers, true, target->l1, target->l2}};
    m->g = g;
    m->p = passes_run(g, &po);
}

/* ---- data ---- */

typedef struct Data { int64_t syms[64], count[MOST_PORTS]; void *in[MOST_PORTS], *out[MOST_PORTS]; int nin, nout; } Data;

static void set_symbols(const Program *p, const char *dims, Data *d) {
    for (int i = 0; i < p->syms.n; i++) {
        const Var *v = p->syms.v[i];
        size_t n = strlen(v->name);
        assert_true(i < 64);
        d->syms[i] = -1;
        for (const char *s = dims; !v->data && s && *s && *s != ';'; s++)
            if (!strncmp(s, v->name, n) && s[n] == '=' && (s == dims || s[-1] == ' ')) d->syms[i] = strtoll(s + n + 1, NULL, 10);
        if (!v->data && d->syms[i] < 0) fail_msg("symbol %s has no value in \"%s\"", v->name, dims ? dims : "");
    }
}

static int64_t elements(Ctx *c, const Program *p, const Value *v, const int64_t *syms) {
    Map *m = map_new(c);
    for (int i = 0; i < p->syms.n; i++) map_putp(m, p->syms.v[i], expr_int(c, syms[i]));
    int64_t n;
    assert_true(is_int(expr_subst(c, value_count(c, v), m), &n) && n <= MOST_ELEMENTS);
    return n;
}

static void fill(const GradCase *k, DType dt, void *to, int64_t n) {
    double lo = k->lo, hi = k->hi;
    if (lo == 0 && hi == 0) { lo = -2; hi = 2; }
    for (int64_t i = 0; i < n; i++) {
        double r = (rnd() + 1) / 2, x = lo + (hi - lo) * r;
        int64_t w = (int64_t)(r * (double)(k->most + 1));
        gd_store_bits(dt, (char *)to + i * gd_dtypes[dt].bytes, dt_float(dt) ? gd_to_bits(dt, x) : (uint64_t)(dt == BOOL ? r > .5 : w));
    }
}

static void make_data(Ctx *c, const Model *m, const char *dims, Data *d) {
    const Graph *g = m->g;
    set_symbols(m->p, dims, d);
    d->nin = g->in.n;
    d->nout = g->out.n;
    for (int i = 0; i < d->nin; i++) {
        const Value *v = g->in.v[i];
        d->count[i] = elements(c, m->p, v, d->syms);
        d->in[i] = gd_alloc_aligned(c, (size_t)(d->count[i] + 1) * 8);
        fill(m->k, v->dt, d->in[i], d->count[i]);
    }
    for (int i = 0; i < d->nout; i++) d->out[i] = gd_alloc_aligned(c, (size_t)(elements(c, m->p, g->out.v[i], d->syms) + 1) * 8);
}

/* ---- comparing ---- */

typedef struct Check { Model m; double *worst; int opt, order, compared; } Check;

static double run(Ctx *c, const Check *k, Data *d, void *const *out) {
    const Program *p = k->m.p;
    void *outs[MOST_PORTS];
    for (int i = 0; i < d->nout; i++) outs[i] = out[i];
    int64_t syms[64];
    memcpy(syms, d->syms, sizeof syms);
    int status = loop_interpret(c, p, &(LoopArgs){(const void *const *)d->in, outs, syms});
    if (status) fail_msg("%s: status %d", k->m.k->name, status);
    return *(double *)outs[0];
}

static void compare(Ctx *c, const Check *k, Data *d, int i, const double *dx) {
    const double h = 1e-5;
    double *x = d->in[i], *at = gd_alloc_aligned(c, (size_t)(d->count[i] + 1) * 8), side[2], have = 0, size = 1;
    double *r = gd_alloc(c, (size_t)(d->count[i] + 1) * 8);
    void *out[MOST_PORTS];
    for (int o = 0; o < d->nout; o++) out[o] = gd_alloc_aligned(c, (size_t)(elements(c, k->m.p, k->m.g->out.v[o], d->syms) + 1) * 8);
    for (int64_t e = 0; e < d->count[i]; e++) {
        r[e] = rnd();
        have += dx[e] * r[e];
        size += fabs(dx[e] * r[e]);
    }
    for (int s = 0; s < 2; s++) {
        for (int64_t e = 0; e < d->count[i]; e++) at[e] = x[e] + (s ? h : -h) * r[e];
        d->in[i] = at;
        side[s] = run(c, k, d, out);
        d->in[i] = x;
    }
    double want = (side[1] - side[0]) / (2 * h), error = fabs(want - have) / size, noise = 1e-15 * fabs(side[0]) / h / size;
    if (!(error <= 2e-7 + noise)) fail_msg("%s, order %d, input %d: %.12g, not %.12g", k->m.k->name, k->order, i, have, want);
    if (error > *k->worst) *k->worst = error;
}

static void one_shape(Ctx *c, Check *k, const char *dims) {
    Data d = {0};
    make_data(c, &k->m, dims, &d);
    run(c, k, &d, d.out);
    for (int i = 0, o = 1; i < d.nin; i++) {
        if (k->m.g->in.v[i]->dt != F64) continue;
        for (int times = 0; times < DIRECTIONS; times++) compare(c, k, &d, i, d.out[o]);
        o++;
    }
    k->compared++;
}

static void check_job(Ctx *c, void *arg) {
    Check *k = arg;
    build(c, &k->m);
    const char *dims = k->m.k->dims;
    for (int i = 0; !dims && i < RUNS; i++) one_shape(c, k, NULL);
    for (; dims; dims = strchr(dims, ';') ? strchr(dims, ';') + 1 : NULL) one_shape(c, k, dims + (*dims == ' '));
}

static void enter(const GradCase *k, void (*job)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, job, arg);
    if (status) fail_msg("%s: %s", k->name, gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
    gd_close(c);
}

int grad_check(const GradCase *k, int opt, double *worst) {
    int compared = 0;
    for (int order = 1; order <= 1 + k->second; order++) {
        Check check = {.m = {.k = k, .order = order, .opt = opt}, .worst = worst, .order = order};
        seed = 1;
        enter(k, check_job, &check);
        compared = check.compared;
    }
    return compared;
}

/* ---- bits ---- */

typedef struct Bits { Model m; const char *backend; float *out[MOST_PORTS]; int64_t count[MOST_PORTS]; int nout, level; } Bits;

static void bits_job(Ctx *c, void *arg) {
    Bits *b = arg;
    Data d = {0};
    build(c, &b->m);
    const char *dims = b->m.k->dims;
    if (dims && strrchr(dims, ';')) dims = strrchr(dims, ';') + 2;
    make_data(c, &b->m, dims, &d);
    if (!b->backend) assert_int_equal(loop_interpret(c, b->m.p, &(LoopArgs){(const void *const *)d.in, d.out, d.syms}), 0);
    else {
        Loaded l;
        EmitOptions e = {.target = target_named(c, "native"), .prefix = "net", .table = true, .opt = b->level};
        backend_named(c, b->backend)->load(b->m.p, &e, &l);
        size_t bytes = l.program->arena_bytes(d.syms) + (1 << 20);
        assert_int_equal(l.program->run((const void *const *)d.in, d.out, d.syms, gd_alloc_aligned(c, bytes), bytes), 0);
    }
    b->nout = d.nout;
    for (int i = 0; i < d.nout; i++) {
        b->count[i] = elements(c, b->m.p, b->m.g->out.v[i], d.syms);
        b->out[i] = malloc((size_t)(b->count[i] + 1) * sizeof(float));
        memcpy(b->out[i], d.out[i], (size_t)b->count[i] * sizeof(float));
    }
}

void grad_bits(const GradCase *k) {
    static const struct { const char *backend; int lanes, opt, level; } ways[] = {
        {NULL, 1, 1, 0}, {NULL, 16, 3, 0}, {NULL, 8, 3, 0}, {"c", 0, 1, 0},
#ifdef GRADC_LLVM
        {"llvm", 0, 3, 2}, {"c", 0, 3, 3},
#endif
    };
    Bits first = {0};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        Bits b = {.m = {.k = k, .order = 1, .opt = ways[w].opt, .lanes = ways[w].lanes, .single = true}, .backend = ways[w].backend,
                  .level = ways[w].level};
        seed = 3;
        enter(k, bits_job, &b);
        for (int i = 0; i < b.nout; i++) {
            for (int64_t e = 0; w && e < b.count[i]; e++) {
                float x = first.out[i][e], y = b.out[i][e];
                if (memcmp(&x, &y, sizeof x) && !(isnan(x) && isnan(y))) fail_msg("%s: way %zu, output %d, element %lld: %.9g, not %.9g", k->name, w, i, (long long)e, y, x);
            }
            if (w) free(b.out[i]);
        }
        if (!w) first = b;
    }
    for (int i = 0; i < first.nout; i++) free(first.out[i]);
}
