/* Gradients of structural rows: of sum(r * op(x, v)) with random r, in f64, against central differences of the same
   graph run by the interpreter. (Gradients of formulas: test_ops.c.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "lower.h"
#include "grad.h"
#include "ops/build.h"

enum { X = 24, MAX_Y = 512 };
static const int64_t x_dims[] = {2, 3, 4};
#define DIMS(...) (const int64_t[]){__VA_ARGS__}
#define EXPRS(...) (Expr *[]){__VA_ARGS__}

static uint64_t seed = 1;
static double rnd(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 40) / (1 << 22) - 2;
}

/* ---- the ops under test ---- */

static struct { const char *op; int n, keep, exclusive, reverse, mode, lo, hi; const int64_t *axes; } k; /* what they read */

static Expr *num(Graph *g, int64_t v) { return expr_int(g->c, v); }
static Value *do_reshape(Graph *g, Value *const *in) { return build_reshape(g, in[0], 2, EXPRS(num(g, 4), num(g, 6))); }
static Value *do_transpose(Graph *g, Value *const *in) { return build_transpose(g, in[0], DIMS(2, 0, 1)); }
static Value *do_reverse(Graph *g, Value *const *in) { return build_reverse(g, in[0], 1); }
static Value *do_broadcast(Graph *g, Value *const *in) {
    Value *row = build_reduce(g, "reduce_sum", in[0], 1, DIMS(1), true);
    return build_broadcast(g, row, 4, EXPRS(num(g, 2), num(g, 2), num(g, 5), num(g, 4)));
}
static Value *do_slice(Graph *g, Value *const *in) {
    return build_slice(g, in[0], EXPRS(num(g, 1), num(g, 2), num(g, 0)), EXPRS(num(g, 1), num(g, 2), num(g, 2)),
                       EXPRS(num(g, 1), num(g, -2), num(g, 3)));
}
static Value *do_pad(Graph *g, Value *const *in) {
    return build_pad(g, in[0], EXPRS(num(g, 1), num(g, -1), num(g, 2)), EXPRS(num(g, 0), num(g, 2), num(g, 1)), DIMS(2, 0, 1), in[1]);
}
static Value *do_concat(Graph *g, Value *const *in) {
    return build_concat(g, 3, (Value *[]){in[0], build_reverse(g, in[0], 2), in[0]}, 1);
}
static Value *do_extend(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "extend");
    node_input(n, in[0]);
    node_dims(n, "lo", 3, EXPRS(num(g, 0), num(g, k.lo), num(g, 2)));
    node_dims(n, "hi", 3, EXPRS(num(g, 0), num(g, k.hi), num(g, 1)));
    node_int(n, "mode", k.mode);
    return node_finish(n);
}
static Value *do_reduce(Graph *g, Value *const *in) { return build_reduce(g, k.op, in[0], k.n, k.axes, k.keep); }
static Value *do_masked(Graph *g, Value *const *in) {
    Node *n = node_begin(g, k.op);
    node_input(n, in[0]);
    node_ints(n, "axes", 0, NULL);
    node_dims(n, "mask", 3, EXPRS(num(g, 0), num(g, 1), num(g, 1)));
    return node_finish(n);
}
static Value *do_running(Graph *g, Value *const *in) {
    Node *n = node_begin(g, k.op);
    node_input(n, in[0]);
    node_int(n, "axis", 1);
    node_int(n, "exclusive", k.exclusive);
    node_int(n, "reverse", k.reverse);
    return node_finish(n);
}

/* Positions as a constant; negative ones count from the end. */
static Value *indices(Graph *g, int rank, const int64_t *dim, const int64_t *v) {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= dim[i];
    int64_t *data = gd_alloc_aligned(g->c, (size_t)n * sizeof *data);
    memcpy(data, v, (size_t)n * sizeof *data);
    return graph_const(g, I64, rank, dim, data);
}
/* A reader or (with updates u) a writer of x at i, attr being its axis or number of batch axes. */
static Value *at(Graph *g, const char *op, Value *x, Value *i, Value *u, const char *attr, int64_t v) {
    Node *n = node_begin(g, op);
    node_input(n, x);
    node_input(n, i);
    if (u) node_input(n, u);
    node_int(n, attr, v);
    if (u) node_string(n, "reduction", k.mode ? "add" : "none");
    return node_finish(n);
}
static Value *do_gather(Graph *g, Value *const *in) { return at(g, "gather", in[0], indices(g, 2, DIMS(2, 2), DIMS(0, -1, 2, 0)), NULL, "axis", 1); }
static Value *do_gather_elements(Graph *g, Value *const *in) {
    return at(g, "gather_elements", in[0], indices(g, 3, DIMS(2, 2, 2), DIMS(0, -1, 2, 0, 1, 1, 1, 1)), NULL, "axis", 2);
}
static Value *do_gather_nd(Graph *g, Value *const *in) {
    return at(g, "gather_nd", in[0], indices(g, 3, DIMS(2, 2, 1), DIMS(0, -1, 2, 2)), NULL, "batch_dims", 1);
}
static Value *some_rows(Graph *g, Value *x) { return build_slice_axis(g, build_reverse(g, x, 2), 1, num(g, 0), num(g, 2)); }
static Value *do_scatter_elements(Graph *g, Value *const *in) {
    return at(g, "scatter_elements", in[0], indices(g, 3, DIMS(1, 2, 1), DIMS(2, -3)), some_rows(g, in[0]), "axis", 1);
}
static Value *do_scatter_nd(Graph *g, Value *const *in) {
    return at(g, "scatter_nd", in[0], indices(g, 3, DIMS(2, 2, 1), DIMS(2, -3, 1, 0)), some_rows(g, in[0]), "batch_dims", 1);
}
static Value *do_topk(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "argsort");
    node_input(n, in[0]);
    node_int(n, "axis", 2);
    node_int(n, "descending", 1);
    return at(g, "gather_elements", in[0], build_slice_axis(g, node_finish(n), 2, num(g, 0), num(g, 2)), NULL, "axis", 2);
}
static Value *do_reverse_sequence(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "reverse_sequence");
    node_input(n, in[0]);
    node_input(n, indices(g, 1, DIMS(3), DIMS(1, 4, 2)));
    node_int(n, "batch_axis", 1);
    node_int(n, "time_axis", 2);
    return node_finish(n);
}
static Value *square(Graph *g, Value *x) { return build_slice_axis(g, x, 2, num(g, 0), num(g, 3)); }
static Value *do_diagonal(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "diagonal");
    node_input(n, square(g, in[0]));
    node_int(n, "first", 1);
    node_int(n, "second", 2);
    return node_finish(n);
}
static Value *do_det(Graph *g, Value *const *in) { return make(g, "det", square(g, in[0])); }
static Value *do_pick(Graph *g, Value *const *in) {
    Node *n = node_begin(g, "pick");
    node_input(n, square(g, in[0]));
    node_input(n, build_reverse(g, in[0], 0));
    node_dim(n, "which", num(g, k.mode));
    return node_finish(n);
}
static Value *blocks(Graph *g, const char *op, Value *x, const char *sizes, int n, Expr *const *size) {
    Node *m = node_begin(g, op);
    node_input(m, x);
    node_dims(m, sizes, n, size);
    node_ints(m, "strides", 2, DIMS(2, 1));
    node_ints(m, "dilations", 2, DIMS(1, 2));
    node_ints(m, "pads", 2, DIMS(1, 1));
    return node_finish(m);
}
static Value *do_col2im(Graph *g, Value *const *in) {
    Value *x = build_reshape(g, in[0], 6, EXPRS(num(g, 1), num(g, 1), num(g, 2), num(g, 3), num(g, 2), num(g, 2)));
    return blocks(g, "col2im", x, "image", 2, EXPRS(num(g, 4), num(g, 5)));
}
static Value *do_im2col(Graph *g, Value *const *in) {
    Value *x = build_reshape(g, in[0], 4, EXPRS(num(g, 1), num(g, 1), num(g, 4), num(g, 6)));
    return blocks(g, "im2col", x, "sizes", 4, EXPRS(num(g, 2), num(g, 3), num(g, 3), num(g, 4)));
}

/* ---- running them ---- */

typedef Value *Build(Graph *g, Value *const *in);
typedef struct Job { Build *build; double x[X], v, r[MAX_Y]; bool grad; double loss, dx[X], dv; } Job;

static Value *loss_of(Graph *g, Value *y, const double *r) {
    int64_t dims[MAX_RANK], all[MAX_RANK];
    double *data = gd_alloc_aligned(g->c, MAX_Y * sizeof *data);
    memcpy(data, r, MAX_Y * sizeof *data);
    assert_true(value_static(y, dims));
    for (int i = 0; i < y->rank; i++) all[i] = i;
    Value *weight = graph_const(g, F64, y->rank, dims, data);
    graph_output(g, "loss", build_reduce(g, "reduce_sum", make(g, "mul", y, weight), y->rank, all, false));
    return weight;
}

/* What pass grad does, for rows with a grad function only. */
static void backward(Graph *g, int forward, Value *y, Value *dy, Value *const *in) {
    Grad G = {g, map_new(g->c), map_new(g->c), NULL};
    for (int i = 0; i < 2; i++) map_putp(G.wanted, in[i], g);
    for (int i = 0; i < forward; i++) map_putp(G.wanted, g->nodes.v[i]->out[0], g);
    map_putp(G.adjoint, y, dy);
    for (int i = forward - 1; i >= 0; i--) {
        Node *n = g->nodes.v[i];
        Value *d = map_getp(G.adjoint, n->out[0]);
        if (d && n->op->grad) n->op->grad(&G, n, &d);
    }
    for (int i = 0; i < 2; i++) {
        Value *d = map_getp(G.adjoint, in[i]);
        if (d) graph_output(g, "d", d);
    }
}

static void job(Ctx *c, void *arg) {
    Job *j = arg;
    Graph *g = graph_new(c, "t");
    Expr *d[3];
    for (int i = 0; i < 3; i++) d[i] = expr_int(c, x_dims[i]);
    Value *in[2] = {graph_input(g, "x", F64, 3, d), graph_input(g, "v", F64, 0, NULL)}, *y = j->build(g, in);
    int forward = g->nodes.n;
    Value *weight = loss_of(g, y, j->r);
    if (j->grad) backward(g, forward, y, weight, in);
    for (int i = 0; i < g->nodes.n; i++)
        for (int o = 0; o < g->nodes.v[i]->nout; o++) {
            Value *v = g->nodes.v[i]->out[o];
            v->place = v->data ? PL_INLINE : PL_ROOT;
        }
    const void *ins[] = {j->x, &j->v};
    void *out[3] = {0};
    assert_int_equal(loop_interpret(c, lower_graph(g), &(LoopArgs){ins, out, NULL}), 0);
    j->loss = *(double *)out[0];
    if (j->grad) memcpy(j->dx, out[1], sizeof j->dx);
    if (g->out.n > 2) j->dv = *(double *)out[2];
}

static void run(Job *j) {
    Ctx *c = gd_open(NULL);
    int status = gd_enter(c, job, j);
    if (status) fail_msg("%s", gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
    gd_close(c);
}

static void check(const char *name, Build *build) {
    Job j = {.build = build, .v = .7, .grad = true};
    for (int i = 0; i < X; i++) j.x[i] = rnd();
    for (int i = 0; i < MAX_Y; i++) j.r[i] = rnd();
    run(&j);
    for (int i = -1; i < X; i++) { /* -1: v */
        Job at[2] = {j, j};
        double h = 1e-6, have = i < 0 ? j.dv : j.dx[i];
        for (int s = 0; s < 2; s++) {
            at[s].grad = false;
            *(i < 0 ? &at[s].v : &at[s].x[i]) += s ? h : -h;
            run(&at[s]);
        }
        double want = (at[1].loss - at[0].loss) / (2 * h);
        if (!(fabs(want - have) <= 1e-6 * (1 + fabs(want)))) fail_msg("%s: d%s[%d] is %g, not %g", name, i < 0 ? "v" : "x", i, have, want);
    }
}

static void test_views(void **state) {
    (void)state;
    check("reshape", do_reshape);
    check("transpose", do_transpose);
    check("reverse", do_reverse);
    check("broadcast", do_broadcast);
    check("slice", do_slice);
    check("pad", do_pad);
    check("concat", do_concat);
    for (k.mode = 0; k.mode < 3; k.mode++)
        for (k.lo = 0; k.lo < 3; k.lo++)
            for (k.hi = 0; k.hi < 3; k.hi++) check("extend", do_extend);
}

static void test_reductions(void **state) {
    (void)state;
    static const char *const ops[] = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod"};
    static const int64_t axes[][2] = {{1}, {2}, {0, 2}};
    for (int o = 0; o < 4; o++) {
        k.op = ops[o];
        for (k.keep = 0; k.keep < 2; k.keep++)
            for (int a = 0; a < 3; a++) {
                k.axes = axes[a];
                k.n = 1 + (a == 2);
                check(k.op, do_reduce);
            }
        if (o < 3) check(k.op, do_masked);
    }
}

static void test_running(void **state) {
    (void)state;
    for (int m = 0; m < 8; m++) {
        k.op = m & 1 ? "cumprod" : "cumsum";
        k.exclusive = m >> 1 & 1;
        k.reverse = m >> 2;
        check(k.op, do_running);
    }
}

static void test_gathers(void **state) {
    (void)state;
    check("gather", do_gather);
    check("gather_elements", do_gather_elements);
    check("gather_nd", do_gather_nd);
    check("topk", do_topk);
    check("reverse_sequence", do_reverse_sequence);
    for (k.mode = 0; k.mode < 2; k.mode++) {
        check("scatter_elements", do_scatter_elements);
        check("scatter_nd", do_scatter_nd);
        check("pick", do_pick);
    }
}

static void test_matrices(void **state) {
    (void)state;
    check("diagonal", do_diagonal);
    check("det", do_det);
    check("col2im", do_col2im);
    check("im2col", do_im2col);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_views), cmocka_unit_test(test_reductions), cmocka_unit_test(test_running),
                                       cmocka_unit_test(test_gathers), cmocka_unit_test(test_matrices)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
