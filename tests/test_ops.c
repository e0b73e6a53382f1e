/* Op rows: every row is complete; formulas give derivatives that differences confirm; views, reductions and what is built of
   them give what plain C gives, whether their inputs have memory, are computed where they are used, are constants, or have
   dims that only the caller knows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "lower.h"
#include "ops/build.h"

static uint64_t seed = 1;
static uint32_t rnd(uint32_t n) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % n;
}

static void show_errors(Ctx *c) {
    for (int i = 0; i < gd_error_count(c); i++) fprintf(stderr, "E%d %s\n", gd_diag(c, i)->code, gd_diag(c, i)->message);
}

/* ---- rows ---- */

static int words(const char *s) {
    int n = s && *s;
    for (; s && *s; s++) n += *s == ' ';
    return n;
}

static void test_rows(void **state) {
    (void)state;
    const Op *op;
    for (int i = 0; (op = op_at(i)); i++) {
        const char *name = op->name ? op->name : op->onnx;
        if (!op->doc || strlen(op->doc) < 4 || !strchr(".?", op->doc[strlen(op->doc) - 1])) fail_msg("%s has no doc sentence", name);
        if (op->kind == OP_BUILD) {
            if (op->name || !op->onnx || !op->import) fail_msg("%s: a BUILD row has an ONNX name and import", name);
            continue;
        }
        if (!op->name || op_named(op->name) != op) fail_msg("row %d: no name of its own", i);
        if (!op->value && !op->elem && !op->lower) fail_msg("%s: nothing computes it", name);
        if (op->kind == OP_MAP && op->value)
            for (int k = 0; k < words(op->in); k++)
                if (!op->vjp[k]) fail_msg("%s: no vjp of input %d", name, k);
        if (!op->grad && !(op->flags & OF_NO_GRAD) && !op->vjp[0] && op->kind != OP_CONTRACT && op->kind != OP_WINDOW && op->kind != OP_CONTROL)
            fail_msg("%s has neither gradient nor OF_NO_GRAD", name);
    }
}

/* ---- formulas ---- */

typedef struct Formulas { const Op *op; int tested; bool bad; } Formulas;

static double eval(Ctx *c, const Op *op, const char *text, const double *x, double y) {
    Map *names = map_new(c);
    const char *s = op->in;
    for (int i = 0; *s; i++) {
        size_t n = strcspn(s, " ");
        bool truth = !strcmp(op->name, "where") && i == 0;
        map_put(names, s, n, truth ? expr_bool(c, x[i] > 0) : expr_num(c, F64, x[i]));
        s += n + (s[n] == ' ');
    }
    for (int i = 0; i < MAX_ATTRS && op->attrs[i].name; i++) map_puts(names, op->attrs[i].name, expr_num(c, F64, op->attrs[i].def));
    map_puts(names, "y", expr_num(c, F64, y));
    map_puts(names, "g", expr_num(c, F64, 1));
    Expr *e = gd_formula(c, text, names, F64);
    return is_const(e) ? gd_to_double((DType)e->type.dt, e->bits) : NAN;
}

/* Where two central differences agree the function is smooth, and the formula must agree with them. */
static void derivative(Ctx *c, void *arg) {
    Formulas *f = arg;
    const Op *op = f->op;
    static const double range[][2] = {{-3, -.1}, {.1, .9}, {1.1, 3}};
    int n = words(op->in);
    for (int trial = 0; trial < 30; trial++) {
        double x[4] = {0}, h = 1e-5;
        for (int i = 0; i < n; i++) {
            const double *r = range[(trial + i * rnd(3)) % 3];
            x[i] = r[0] + (r[1] - r[0]) * rnd(1000) / 1000;
        }
        double y = eval(c, op, op->value, x, 0);
        for (int i = 0; i < n; i++) {
            double at = x[i], d[2];
            for (int k = 0; k < 2; k++) {
                double step = h * (k + 1);
                x[i] = at + step;
                double up = eval(c, op, op->value, x, 0);
                x[i] = at - step;
                d[k] = (up - eval(c, op, op->value, x, 0)) / (2 * step);
            }
            x[i] = at;
            if (!(fabs(d[0] - d[1]) <= 1e-6 * (1 + fabs(d[0])))) continue;
            double v = eval(c, op, op->vjp[i], x, y);
            f->tested++;
            if (fabs(v - d[0]) <= 1e-6 * (1 + fabs(d[0]))) continue;
            fprintf(stderr, "%s: at %g, %g the derivative of input %d is %.9g, not %.9g\n", op->name, x[0], x[1], i, d[0], v);
            f->bad = true;
        }
    }
}

static void test_derivatives(void **state) {
    (void)state;
    const Op *op;
    bool bad = false;
    for (int i = 0; (op = op_at(i)); i++) {
        if (op->kind != OP_MAP || !op->value || (op->flags & OF_NO_GRAD)) continue;
        Ctx *c = gd_open(NULL);
        Formulas f = {.op = op};
        if (gd_enter(c, derivative, &f)) show_errors(c);
        if (!f.tested) fprintf(stderr, "%s: no derivative could be tested\n", op->name);
        bad = bad || f.bad || !f.tested;
        gd_close(c);
    }
    assert_false(bad);
}

/* ---- running small graphs ---- */

enum { MAX_IN = 3, MODE_ROOT = 0, MODE_INLINE, MODE_CONST, MODE_SYMBOLIC, MODES };
static const char *const mode_names[] = {"with memory", "inlined", "constant", "with symbolic dims"};

typedef struct Tensor { DType dt; int rank; int64_t dim[6]; double v[512]; } Tensor;
typedef Value *Build(Graph *g, Value *const *in);
typedef struct Job { Build *build; int nin; const Tensor *in; Tensor out; int mode; int status; } Job;

static int64_t count(const Tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

static Tensor tensor(DType dt, int rank, const int64_t *dim) {
    Tensor t = {.dt = dt, .rank = rank};
    for (int i = 0; i < rank; i++) t.dim[i] = dim[i];
    for (int64_t i = 0; i < count(&t); i++) t.v[i] = (double)rnd(19) - 9;
    return t;
}

static void *memory(Ctx *c, const Tensor *t) {
    char *p = gd_alloc_aligned(c, 512 * 8);
    for (int64_t i = 0; i < count(t); i++) gd_store_bits(t->dt, p + i * gd_dtypes[t->dt].bytes, gd_to_bits(t->dt, t->v[i]));
    return p;
}

static void place(Graph *g, int mode) {
    for (int i = 0; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.v[i]->nout; k++) {
            Value *v = g->nodes.v[i]->out[k];
            bool must = g->nodes.v[i]->op->lower || v == g->out.v[0];
            v->place = v->data || (mode == MODE_INLINE && !must) ? PL_INLINE : PL_ROOT;
        }
}

static void job(Ctx *c, void *arg) {
    Job *j = arg;
    Graph *g = graph_new(c, "t");
    Value *in[MAX_IN + 1] = {0};
    const void *data[MAX_IN];
    int64_t size[6 * MAX_IN];
    for (int i = 0; i < j->nin; i++) {
        const Tensor *t = &j->in[i];
        Expr *dim[6];
        for (int k = 0; k < t->rank; k++) {
            dim[k] = expr_int(c, t->dim[k]);
            if (j->mode != MODE_SYMBOLIC) continue;
            size[g->syms.n] = t->dim[k];
            dim[k] = expr_var(c, graph_symbol(g, "N", 0, INT64_MAX));
        }
        data[i] = memory(c, t);
        if (j->mode == MODE_CONST) in[i] = graph_const(g, t->dt, t->rank, t->dim, data[i]);
        else in[i] = graph_input(g, "x", t->dt, t->rank, dim);
    }
    Value *y = j->build(g, in);
    if (gd_error_count(c)) return;
    graph_output(g, "y", y);
    place(g, j->mode);
    Program *p = lower_graph(g);
    loop_verify(p);
    for (int i = 0; i < p->syms.n; i++) if (p->syms.v[i]->data) size[i] = -1;
    void *out = NULL;
    LoopArgs a = {data, &out, size};
    j->status = loop_interpret(c, p, &a);
    Map *sizes = map_new(c);
    for (int i = 0; i < p->syms.n; i++) map_putp(sizes, p->syms.v[i], expr_int(c, size[i]));
    j->out = (Tensor){.dt = y->dt, .rank = y->rank};
    for (int i = 0; i < y->rank; i++) j->out.dim[i] = (int64_t)expr_subst(c, y->dim[i], sizes)->bits;
    for (int64_t i = 0; i < count(&j->out) && i < 512 && !j->status; i++)
        j->out.v[i] = gd_to_double(y->dt, gd_load_bits(y->dt, (char *)out + i * gd_dtypes[y->dt].bytes));
}

static void print_tensor(const char *what, const Tensor *t) {
    fprintf(stderr, "%s %s[", what, gd_dtypes[t->dt].name);
    for (int i = 0; i < t->rank; i++) fprintf(stderr, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    fprintf(stderr, "] =");
    for (int64_t i = 0; i < count(t) && i < 60; i++) fprintf(stderr, " %g", t->v[i]);
    fprintf(stderr, "\n");
}

static bool same(const Tensor *a, const Tensor *b) {
    if (a->rank != b->rank || a->dt != b->dt) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    for (int64_t i = 0; i < count(a); i++)
        if (a->v[i] != b->v[i] && !(isnan(a->v[i]) && isnan(b->v[i]))) return false;
    return true;
}

/* In every mode of the mask the graph gives want. */
static void expect_in(unsigned modes, const char *name, Build *build, int nin, const Tensor *in, const Tensor *want) {
    for (int mode = 0; mode < MODES; mode++) {
        if (!(modes >> mode & 1)) continue;
        Ctx *c = gd_open(NULL);
        Job j = {build, nin, in, .mode = mode};
        int status = gd_enter(c, job, &j);
        if (status) show_errors(c);
        if (status || j.status || !same(&j.out, want)) {
            print_tensor("want", want);
            print_tensor("have", &j.out);
            gd_close(c);
            fail_msg("%s, %s: status %d, %d", name, mode_names[mode], status, j.status);
        }
        gd_close(c);
    }
}
static void expect(const char *name, Build *build, int nin, const Tensor *in, const Tensor *want) {
    expect_in((1 << MODES) - 1, name, build, nin, in, want);
}

#define DIMS(...) (const int64_t[]){__VA_ARGS__}
static Expr *num(Graph *g, int64_t v) { return expr_int(g->c, v); }

/* ---- views ---- */

static Value *do_transpose(Graph *g, Value *const *in) { return build_transpose(g, in[0], DIMS(2, 0, 1)); }
static void test_transpose(void **state) {
    (void)state;
    Tensor x = tensor(F32, 3, DIMS(2, 3, 4)), y = tensor(F32, 3, DIMS(4, 2, 3));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++) y.v[(k * 2 + i) * 3 + j] = x.v[(i * 3 + j) * 4 + k];
    expect("transpose", do_transpose, 1, &x, &y);
}

/* Merged, split, and through shapes that share no boundary; the transposes keep the reshapes from being copies. */
static Value *do_reshape(Graph *g, Value *const *in) {
    Ctx *c = g->c;
    Value *t = build_transpose(g, in[0], DIMS(1, 0, 2));
    Expr *const *d = t->dim;
    Value *merged = build_reshape(g, t, 3, (Expr *[]){d[0], num(g, 1), expr_mul(c, d[1], d[2])});
    Value *back = build_reshape(g, merged, 4, (Expr *[]){d[0], d[1], d[2], num(g, 1)});
    Value *other = build_reshape(g, back, 2, (Expr *[]){num(g, 6), num(g, 4)});
    return build_reshape(g, other, 3, (Expr *[]){num(g, 2), num(g, 3), num(g, 4)});
}
static void test_reshape(void **state) {
    (void)state;
    Tensor x = tensor(I32, 3, DIMS(4, 3, 2)), y = tensor(I32, 3, DIMS(2, 3, 4));
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 2; k++) y.v[(j * 4 + i) * 2 + k] = x.v[(i * 3 + j) * 2 + k];
    expect("reshape", do_reshape, 1, &x, &y);
}

static Value *do_slice(Graph *g, Value *const *in) {
    return build_slice(g, in[0], (Expr *[]){num(g, 1), num(g, 5)}, (Expr *[]){num(g, 2), num(g, 3)}, (Expr *[]){num(g, 2), num(g, -2)});
}
static void test_slice(void **state) {
    (void)state;
    Tensor x = tensor(F32, 2, DIMS(4, 6)), y = tensor(F32, 2, DIMS(2, 3));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) y.v[i * 3 + j] = x.v[(1 + 2 * i) * 6 + 5 - 2 * j];
    expect("slice", do_slice, 1, &x, &y);
}

static Value *do_pad(Graph *g, Value *const *in) {
    return build_pad(g, in[0], (Expr *[]){num(g, 1), num(g, -1)}, (Expr *[]){num(g, 2), num(g, 1)}, DIMS(2, 0), in[1]);
}
static void test_pad(void **state) {
    (void)state;
    Tensor in[2] = {tensor(F32, 2, DIMS(2, 3)), tensor(F32, 0, NULL)}, y = tensor(F32, 2, DIMS(7, 3));
    in[1].v[0] = 7;
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 3; j++) {
            bool inside = (i == 1 || i == 4) && j < 2;
            y.v[i * 3 + j] = inside ? in[0].v[(i - 1) / 3 * 3 + j + 1] : 7;
        }
    expect("pad", do_pad, 2, in, &y);
}

static int extend_mode;
static int extend_lo, extend_hi;
static Value *do_extend(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "extend");
    node_input(n, in[0]);
    node_dims(n, "lo", 1, (Expr *[]){num(g, extend_lo)});
    node_dims(n, "hi", 1, (Expr *[]){num(g, extend_hi)});
    node_int(n, "mode", extend_mode);
    return node_finish(n);
}
static void test_extend(void **state) {
    (void)state;
    static const int sizes[] = {5, 3, 1};
    for (extend_mode = 0; extend_mode < 3; extend_mode++)
        for (int s = 0; s < 3; s++)
            for (extend_lo = 0; extend_lo < 8; extend_lo += 2)
                for (extend_hi = 1; extend_hi < 8; extend_hi += 3) {
                    int d = sizes[s], n = d + extend_lo + extend_hi;
                    Tensor x = tensor(F32, 1, DIMS(d)), y = tensor(F32, 1, DIMS(n));
                    for (int i = 0; i < n; i++) {
                        int p = i - extend_lo;
                        if (extend_mode == 0) p = p < 0 ? 0 : p >= d ? d - 1 : p;
                        while (p < 0 || p >= d) {
                            if (extend_mode == 2) p += p < 0 ? d : -d;
                            else if (d == 1) p = 0;
                            else p = p < 0 ? -p : 2 * (d - 1) - p;
                        }
                        y.v[i] = x.v[p];
                    }
                    expect("extend", do_extend, 1, &x, &y);
                }
}

static Value *do_concat(Graph *g, Value *const *in) { return build_concat(g, 3, in, 1); }
static void test_concat(void **state) {
    (void)state;
    Tensor in[3] = {tensor(F32, 2, DIMS(2, 3)), tensor(F32, 2, DIMS(2, 0)), tensor(F32, 2, DIMS(2, 2))}, y = tensor(F32, 2, DIMS(2, 5));
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 5; j++) y.v[i * 5 + j] = j < 3 ? in[0].v[i * 3 + j] : in[2].v[i * 2 + j - 3];
    expect("concat", do_concat, 3, in, &y);
}

/* ---- reductions ---- */

static const char *reduce_op;
static int reduce_n, reduce_keep;
static const int64_t *reduce_axes;
static Value *do_reduce(Graph *g, Value *const *in) { return build_reduce(g, reduce_op, in[0], reduce_n, reduce_axes, reduce_keep); }

/* Small whole numbers: their sums and products are exact in any order. */
static void reduce_case(DType dt, const int64_t *dim, int n, const int64_t *axes) {
    static const char *const ops[] = {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min"};
    for (int o = 0; o < 4; o++)
        for (reduce_keep = 0; reduce_keep < 2; reduce_keep++) {
            Tensor x = tensor(dt, 3, dim), y = {.dt = dt};
            bool gone[3] = {false};
            for (int i = 0; i < n; i++) gone[axes[i]] = true;
            for (int64_t i = 0; i < count(&x) && o == 1; i++) x.v[i] = rnd(3) ? 1 : -1;
            for (int i = 0; i < 3; i++)
                if (!gone[i] || reduce_keep) y.dim[y.rank++] = gone[i] ? 1 : dim[i];
            for (int64_t i = 0; i < count(&y); i++) {
                static const double start[] = {0, 1, -INFINITY, INFINITY};
                y.v[i] = dt == F32 ? start[o] : gd_to_double(dt, gd_to_bits(dt, start[o]));
            }
            for (int64_t i = 0; i < count(&x); i++) {
                int64_t k[3] = {i / (dim[1] * dim[2]), i / dim[2] % dim[1], i % dim[2]}, at = 0;
                for (int a = 0; a < 3; a++)
                    if (!gone[a]) at = at * dim[a] + k[a];
                double *r = &y.v[at], v = x.v[i];
                *r = o == 0 ? *r + v : o == 1 ? *r * v : o == 2 ? fmax(*r, v) : fmin(*r, v);
            }
            reduce_op = ops[o];
            reduce_n = n;
            reduce_axes = axes;
            expect(reduce_op, do_reduce, 1, &x, &y);
        }
}
static void test_reduce(void **state) {
    (void)state;
    reduce_case(F32, DIMS(2, 3, 4), 1, DIMS(2));
    reduce_case(F32, DIMS(2, 3, 37), 1, DIMS(2));
    reduce_case(F32, DIMS(2, 3, 4), 2, DIMS(0, 2));
    reduce_case(F32, DIMS(4, 3, 2), 1, DIMS(0));
    reduce_case(F32, DIMS(2, 3, 4), 3, DIMS(0, 1, 2));
    reduce_case(F32, DIMS(2, 3, 0), 1, DIMS(2));
    reduce_case(F32, DIMS(2, 0, 3), 1, DIMS(1));
    reduce_case(I32, DIMS(2, 3, 18), 1, DIMS(2));
    reduce_case(I64, DIMS(2, 3, 4), 1, DIMS(1));
}

static int arg_last, arg_most;
static Value *do_arg(Graph *g, Value *const *in) {
    Node *n = node_begin(g, arg_most ? "argmax" : "argmin");
    node_input(n, in[0]);
    node_int(n, "axis", 1);
    node_int(n, "keepdims", 0);
    node_int(n, "select_last_index", arg_last);
    return node_finish(n);
}
static void test_arg(void **state) {
    (void)state;
    for (arg_most = 0; arg_most < 2; arg_most++)
        for (arg_last = 0; arg_last < 2; arg_last++)
            for (int nan = 0; nan < 2; nan++) {
                Tensor x = tensor(F32, 3, DIMS(2, 7, 3)), y = tensor(I64, 2, DIMS(2, 3));
                for (int64_t i = 0; i < count(&x); i++) {
                    x.v[i] = rnd(3);
                    if (nan && !rnd(9)) x.v[i] = NAN;
                }
                for (int i = 0; i < 2; i++)
                    for (int k = 0; k < 3; k++) {
                        int best = 0;
                        for (int j = 1; j < 7; j++) {
                            double a = x.v[(i * 7 + j) * 3 + k], b = x.v[(i * 7 + best) * 3 + k];
                            bool more = arg_most ? a > b : a < b;
                            if (isnan(a) != isnan(b)) more = isnan(a);
                            if (more || (arg_last && (a == b || (isnan(a) && isnan(b))))) best = j;
                        }
                        y.v[i * 3 + k] = best;
                    }
                expect("argmax", do_arg, 1, &x, &y);
            }
}

static int run_exclusive, run_reverse, run_product;
static Value *do_running(Graph *g, Value *const *in) {
    Node *n = node_begin(g, run_product ? "cumprod" : "cumsum");
    node_input(n, in[0]);
    node_int(n, "axis", 1);
    node_int(n, "exclusive", run_exclusive);
    node_int(n, "reverse", run_reverse);
    return node_finish(n);
}
static void test_running(void **state) {
    (void)state;
    for (int m = 0; m < 8; m++) {
        run_exclusive = m & 1;
        run_reverse = m >> 1 & 1;
        run_product = m >> 2;
        Tensor x = tensor(F32, 3, DIMS(2, 5, 3)), y = tensor(F32, 3, DIMS(2, 5, 3));
        for (int i = 0; i < 6; i++) {
            double acc = run_product;
            for (int s = 0; s < 5; s++) {
                int j = run_reverse ? 4 - s : s, at = (i / 3 * 5 + j) * 3 + i % 3;
                double next = run_product ? acc * x.v[at] : acc + x.v[at];
                y.v[at] = run_exclusive ? acc : next;
                acc = next;
            }
        }
        expect("cumsum", do_running, 1, &x, &y);
    }
}

/* ---- casts ---- */

static DType cast_type;
static int cast_saturate;
static Value *do_cast(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "cast");
    node_input(n, in[0]);
    node_dtype(n, "to", cast_type);
    node_int(n, "saturate", cast_saturate);
    return node_finish(n);
}
static void cast_case(DType to, int saturate, double x, double want) {
    Tensor in = {.dt = F32, .rank = 1, .dim = {1}, .v = {x}}, y = {.dt = to, .rank = 1, .dim = {1}, .v = {want}};
    cast_type = to;
    cast_saturate = saturate;
    expect_in(1 << MODE_ROOT | 1 << MODE_CONST, gd_dtypes[to].name, do_cast, 1, &in, &y);
}
static void test_cast(void **state) {
    (void)state;
    cast_case(F16, 1, 1e6, INFINITY);
    cast_case(F16, 1, 0.1f, 0.0999755859375);
    cast_case(BF16, 1, 1.00390625, 1);
    cast_case(F8E4M3FN, 1, 1000, 448);
    cast_case(F8E4M3FN, 1, -INFINITY, -448);
    cast_case(F8E4M3FN, 0, 1000, NAN);
    cast_case(F8E4M3FN, 1, NAN, NAN);
    cast_case(F8E4M3FN, 1, 0.0009765625, 0);
    cast_case(F8E5M2, 1, INFINITY, 57344);
    cast_case(F8E5M2, 0, 1e9, INFINITY);
    cast_case(F8E4M3FNUZ, 1, 500, 240);
    cast_case(F8E5M2FNUZ, 0, -1e9, NAN);
    cast_case(F4E2M1, 1, 100, 6);
    cast_case(F4E2M1, 1, 2.5, 2);
    cast_case(F8E8M0, 1, 1.5, 2);
    cast_case(F8E8M0, 1, 1, 1);
    cast_case(F8E8M0, 1, 0, ldexp(1, -127));
    cast_case(F8E8M0, 1, INFINITY, ldexp(1, 127));
    cast_case(F8E8M0, 0, 0, NAN);
    cast_case(I8, 1, 300, 127);
    cast_case(U4, 1, -2, 14);
    cast_case(I4, 1, -3.7, -3);
    cast_case(BOOL, 1, NAN, 1);
    cast_case(BOOL, 1, -0.0, 0);
}

/* ---- composites ---- */

static Value *do_softmax_like(Graph *g, Value *const *in) { /* sums before a loop that uses them */
    Value *s = build_reduce(g, "reduce_sum", in[0], 1, DIMS(1), true);
    Value *m = build_reduce(g, "reduce_max", make(g, "sub", in[0], s), 1, DIMS(0), true);
    return make(g, "add", make(g, "mul", in[0], s), m);
}
static void test_composite(void **state) {
    (void)state;
    Tensor x = tensor(F32, 2, DIMS(3, 20)), y = tensor(F32, 2, DIMS(3, 20));
    double sum[3] = {0}, most[20];
    for (int i = 0; i < 60; i++) sum[i / 20] += x.v[i];
    for (int j = 0; j < 20; j++) most[j] = -INFINITY;
    for (int i = 0; i < 60; i++) most[i % 20] = fmax(most[i % 20], x.v[i] - sum[i / 20]);
    for (int i = 0; i < 60; i++) y.v[i] = x.v[i] * sum[i / 20] + most[i % 20];
    expect("composite", do_softmax_like, 1, &x, &y);
}

static Value *do_pow_int(Graph *g, Value *const *in) { return make(g, "pow_int", in[0], in[1]); }
static void test_pow_int(void **state) {
    (void)state;
    Tensor in[2] = {tensor(I64, 1, DIMS(9)), tensor(I64, 1, DIMS(9))}, y = tensor(I64, 1, DIMS(9));
    static const int64_t x[] = {2, 3, -2, 0, 0, 1, -1, -1, 5}, p[] = {10, 7, 3, 0, 5, -3, -3, -2, -1}, z[] = {1024, 2187, -8, 1, 0, 1, -1, 1, 0};
    for (int i = 0; i < 9; i++) { in[0].v[i] = (double)x[i]; in[1].v[i] = (double)p[i]; y.v[i] = (double)z[i]; }
    expect("pow_int", do_pow_int, 2, in, &y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_derivatives), cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_reshape),  cmocka_unit_test(test_slice),       cmocka_unit_test(test_pad),
        cmocka_unit_test(test_extend),   cmocka_unit_test(test_concat),      cmocka_unit_test(test_reduce),
        cmocka_unit_test(test_arg),      cmocka_unit_test(test_running),     cmocka_unit_test(test_cast),
        cmocka_unit_test(test_composite), cmocka_unit_test(test_pow_int),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
