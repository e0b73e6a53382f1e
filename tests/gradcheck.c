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

enum { MOST_PORTS = 24, DIRECTIONS = 2, RUNS = 5, MOST_ELEMENTS = 1 << 16, MOST_SYMBOLS = 64 };

static uint64_t seed;
static double rnd(void) { /* -1 .. 1 */
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)(seed >> 11) / (double)(1ll << 52) - 1;
}

/* dims: of the only run, when they are fixed. value: no gradients, only the value whose gradient they would be. as: what
   doubles become. */
typedef struct Model { const GradCase *k; const char *dims; int order, opt, lanes; bool value; enum { DOUBLE, SINGLE, HALF } as; Program *p; Code *code; Mem *fresh; Graph *g; } Model;

/* ---- rows that were checked ---- */

/* Inputs by bits: those that were floats, and those that a gradient went to. */
typedef struct Checked { const Op *op; unsigned floats, reached; } Checked;

enum { MOST_ROWS = 600 };
static Checked checked[MOST_ROWS];
static int nchecked;

static Checked *find(const Op *op) {
    for (int i = 0; i < nchecked; i++)
        if (checked[i].op == op) return &checked[i];
    return NULL;
}

bool grad_checked(const Op *op) { return find(op) != NULL; }
unsigned grad_unchecked_inputs(const Op *op) {
    const Checked *k = find(op);
    return k ? k->floats & ~k->reached : 0;
}

static Checked *note(const Op *op) {
    Checked *k = op ? find(op) : NULL;
    if (k || !op) return k;
    assert_true(nchecked < MOST_ROWS);
    checked[nchecked].op = op;
    return &checked[nchecked++];
}

/* The row of the model's operator, from a node's label: "3 Conv", "0 ai.onnx.ml.Binarizer \"name\"". */
static const Op *origin(Ctx *c, const char *label, int opset) {
    const char *s = label ? strchr(label, ' ') : NULL;
    if (!s) return NULL;
    const char *name = gd_format(c, "%.*s", (int)strcspn(s + 1, " "), s + 1), *dot = strrchr(name, '.');
    return dot ? op_onnx(gd_format(c, "%.*s", (int)(dot - name), name), dot + 1, 1) : op_onnx("", name, opset);
}

static void note_rows(Graph *g, int n, Value *const *of, int opset) {
    Grad G = {g, map_new(g->c), map_new(g->c), NULL};
    for (int i = 0; i < n; i++) map_putp(G.wanted, of[i], of[i]);
    grad_want(&G, g, 0, g->nodes.n);
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *m = g->nodes.v[i];
        bool some = false, from = false, floats = false;
        unsigned inputs[2] = {0, 0};
        int last = -1; /* where there may be any number of them, they count as one */
        for (const char *s = m->op->in; s && *s; s += strcspn(s, " "), s += *s == ' ') last++;
        for (int k = 0; k < m->nin; k++) {
            bool reached = grad_wanted(&G, m->in[k]);
            unsigned bit = 1u << (k < last ? k : last);
            from |= reached;
            if (grad_float(m->in[k])) inputs[0] |= bit;
            if (reached) inputs[1] |= bit;
        }
        for (int k = 0; k < m->nout; k++) {
            some |= grad_wanted(&G, m->out[k]);
            floats |= grad_float(m->out[k]);
        }
        if (some) note(origin(g->c, m->label, opset));
        if (!some && !(from && floats)) continue;
        Checked *k = note(m->op);
        k->floats |= inputs[0];
        k->reached |= inputs[1];
    }
}

/* ---- the model with its loss and gradients ---- */

static int opset_of(const GradCase *k) { return k->opset ? k->opset : 24; }
static bool graph_text_given(const GradCase *k) { return !strncmp(k->text, "graph ", 6); }

static char *source(const Model *m, Ctx *c) {
    Text *t = text_new(c);
    if (!graph_text_given(m->k))
        text_put(t, gd_format(c, "<ir_version: 10, opset_import: [\"\" : %d, \"ai.onnx.ml\" : 1, \"ai.onnx.preview\" : 1, "
                                 "\"ai.onnx.preview.training\" : 1]> ", opset_of(m->k)));
    const char *s = m->k->text;
    for (const char *at; m->as && (at = strstr(s, "double")); s = at + 6) {
        text_putn(t, s, (size_t)(at - s));
        text_put(t, m->as == HALF ? "float16" : "float");
    }
    text_put(t, s);
    return t->s;
}

/* What --dim is given: "N=1 M=3; .." up to the semicolon. */
static const char *const *words(Ctx *c, const char *s) {
    const char **list = gd_new_array(c, const char *, MOST_SYMBOLS + 1);
    for (int n = 0; *s && *s != ';'; s += strspn(s, " ")) {
        size_t size = strcspn(s, " ;");
        assert_true(n < MOST_SYMBOLS);
        list[n++] = gd_format(c, "%.*s", (int)size, s);
        s += size;
    }
    return list;
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
    FrontFile f = {"net", graph_text_given(m->k) ? FF_GRAPH_TEXT : FF_ONNX_TEXT, text, strlen(text)};
    FrontOptions o = {.prefix = "net", .dims = m->dims ? words(c, m->dims) : NULL};
    Graph *g = front_graph(c, &f, &o);
    DType dt = m->as == DOUBLE ? F64 : m->as == SINGLE ? F32 : F16;
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
    if (m->as == DOUBLE) note_rows(g, n, of, opset_of(m->k));
    if (!m->value || m->order == 2) graph_grad(g, loss, n, of, d);
    if (gd_error_count(c)) gd_leave(c);
    if (m->order == 2) {
        if (m->as == DOUBLE) note_rows(g, n, of, opset_of(m->k));
        loss = NULL;
        for (int i = 0; i < n; i++) {
            Value *part = weighted(g, d[i], i);
            loss = loss ? make(g, "add", loss, part) : part;
        }
        if (!m->value) graph_grad(g, loss, n, of, d);
        if (gd_error_count(c)) gd_leave(c);
    }
    g->out.n = g->out_names.n = 0;
    graph_output(g, "loss", loss);
    for (int i = 0; i < n && !m->value; i++) graph_output(g, gd_format(c, "d%d", i), d[i]);
    const Target *target = target_named(c, "native");
    PassOptions po = {.opt = m->opt, .numerics = NUM_STRICT, .threads = 2,
                      .machine = {m->lanes ? m->lanes : target->lanes, target->registers, true, target->l1, target->l2}};
    m->g = g;
    m->p = passes_run(g, &po);
    m->code = interp_compile(c, m->p);
    m->fresh = gd_new_array(c, Mem, m->code->mem.n + 1);
    for (int i = 0; i < m->code->mem.n; i++) m->fresh[i] = m->code->mem.v[i];
}

/* ---- data ---- */

typedef struct Data { int64_t syms[MOST_SYMBOLS], count[MOST_PORTS]; void *in[MOST_PORTS], *out[MOST_PORTS]; int nin, nout; } Data;

static void set_symbols(const Program *p, const char *dims, Data *d) {
    for (int i = 0; i < p->syms.n; i++) {
        const Var *v = p->syms.v[i];
        size_t n = strlen(v->name);
        assert_true(i < MOST_SYMBOLS);
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
        if (k->whole) x = rint(x);
        int64_t w = (int64_t)(r * (double)(k->most + 1));
        gd_store_bits(dt, (char *)to + i * gd_dtypes[dt].bytes, dt_float(dt) || dt_small(dt) ? gd_to_bits(dt, x) : (uint64_t)(dt == BOOL ? r > .5 : w));
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

/* value: the same model without gradients, which is what differences are taken of. */
typedef struct Check {
    Model m, value;
    double *worst;
    int order, compared, ninputs;
    bool doubles[MOST_PORTS];
    double slope[MOST_PORTS]; /* of each input: some derivative that is not zero */
} Check;

/* One of many runs of the same code: its memory is not that of the last one. */
typedef struct Once { Ctx *c; const Model *m; LoopArgs args; int status; } Once;

static void run_code(Ctx *s, void *arg) {
    Once *o = arg;
    Code *code = o->m->code;
    for (int i = 0; i < code->mem.n; i++) code->mem.v[i] = o->m->fresh[i];
    o->status = interp_run(o->c, s, o->m->p, code, &o->args);
}

static void run(Ctx *c, const Model *m, const int64_t *symbols, Data *d, int nout, void *const *out) {
    void *outs[MOST_PORTS];
    for (int i = 0; i < nout; i++) outs[i] = out[i];
    int64_t syms[MOST_SYMBOLS];
    memcpy(syms, symbols, sizeof syms);
    Once o = {c, m, {(const void *const *)d->in, outs, syms}, 0};
    gd_scratch(c, run_code, &o);
    if (o.status) fail_msg("%s: status %d", m->k->name, o.status);
}

static double value_at(Ctx *c, const Check *k, const char *dims, Data *d) {
    Data of = {0};
    double y;
    void *out = &y;
    set_symbols(k->value.p, dims, &of);
    run(c, &k->value, of.syms, d, 1, &out);
    return y;
}

static void compare(Ctx *c, Check *k, const char *dims, Data *d, int i, const double *dx) {
    const bool rough = k->m.k->rough;
    const double h = rough ? .1 : 1e-5, digits = rough ? 1e-7 : 1e-15;
    double *x = d->in[i], *at = gd_alloc_aligned(c, (size_t)(d->count[i] + 1) * 8), side[2], have = 0, size = 1;
    double *r = gd_alloc(c, (size_t)(d->count[i] + 1) * 8);
    for (int64_t e = 0; e < d->count[i]; e++) {
        r[e] = rnd();
        have += dx[e] * r[e];
        size += fabs(dx[e] * r[e]);
    }
    for (int s = 0; s < 2; s++) {
        for (int64_t e = 0; e < d->count[i]; e++) at[e] = x[e] + (s ? h : -h) * r[e];
        d->in[i] = at;
        side[s] = value_at(c, k, dims, d);
        d->in[i] = x;
    }
    double want = (side[1] - side[0]) / (2 * h), error = fabs(want - have) / size, noise = digits * fabs(side[0]) / h / size;
    if (!(error <= (rough ? 1e-5 : 2e-7) + noise)) fail_msg("%s, order %d, input %d: %.12g, not %.12g", k->m.k->name, k->order, i, have, want);
    if (error > *k->worst && !rough) *k->worst = error;
    if (fabs(want) > 1e-6) k->slope[i] = want;
}

static void one_shape(Ctx *c, Check *k, const char *dims) {
    Data d = {0};
    make_data(c, &k->m, dims, &d);
    run(c, &k->m, d.syms, &d, d.nout, d.out);
    for (int i = 0, o = 1; i < d.nin; i++) {
        if (k->m.g->in.v[i]->dt != F64) continue;
        for (int times = 0; times < DIRECTIONS; times++) compare(c, k, dims, &d, i, d.out[o]);
        o++;
    }
    k->ninputs = d.nin;
    for (int i = 0; i < d.nin; i++) k->doubles[i] = k->m.g->in.v[i]->dt == F64;
    k->compared++;
}

/* The next run's dims; NULL past the last. */
static const char *next_dims(const char *dims) {
    const char *end = dims ? strchr(dims, ';') : NULL;
    return end ? end + 1 + strspn(end + 1, " ") : NULL;
}

static void check_job(Ctx *c, void *arg) {
    Check *k = arg;
    build(c, &k->m);
    k->value = k->m;
    k->value.value = true;
    build(c, &k->value);
    const char *dims = k->m.dims ? k->m.dims : k->m.k->dims;
    for (int i = 0; !dims && i < RUNS; i++) one_shape(c, k, NULL);
    for (; dims; dims = k->m.dims ? NULL : next_dims(dims)) one_shape(c, k, dims);
}

/* Which inputs have a derivative at all is what the case says. */
static void check_slopes(const Check *k) {
    for (int i = 0, at = 0; i < k->ninputs; i++) {
        if (!k->doubles[i]) continue;
        bool none = k->slope[i] == 0;
        if (none != (bool)(k->m.k->flat >> at & 1))
            fail_msg("%s: the derivative by input %d is %s", k->m.k->name, i, none ? "zero everywhere" : "not zero");
        at++;
    }
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
        const char *dims = k->dims;
        do {
            if (k->fixed) check.m.dims = dims;
            enter(k, check_job, &check);
            dims = k->fixed ? next_dims(dims) : NULL;
        } while (dims);
        if (order == 1) check_slopes(&check);
        compared = check.compared;
    }
    return compared;
}

static void half_job(Ctx *c, void *arg) {
    Model *m = arg;
    Data d = {0};
    build(c, m);
    make_data(c, m, m->k->dims, &d);
    run(c, m, d.syms, &d, d.nout, d.out);
}

void grad_half(const GradCase *k) {
    Model m = {.k = k, .order = 1, .opt = 3, .as = HALF, .dims = k->fixed ? k->dims : NULL};
    seed = 1;
    enter(k, half_job, &m);
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
        Bits b = {.m = {.k = k, .order = 1, .opt = ways[w].opt, .lanes = ways[w].lanes, .as = SINGLE}, .backend = ways[w].backend,
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
