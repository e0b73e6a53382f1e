/* Random graphs through the whole pipeline: the program that comes out gives the bits of the program that
   lowering alone gives, at every level of optimisation and for machines of every width. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "passes.h"
#include "lower.h"
#include "randomgraph.h"

enum { MAX_BYTES = 1 << 20 };
typedef struct Job {
    uint64_t seed;
    PassOptions o;
    bool plain; /* every value in memory, nothing else done */
    int status;
    size_t n;
    char bytes[MAX_BYTES];
} Job;

static void run(Ctx *c, void *arg) {
    Job *j = arg;
    Graph *g = random_graph(c, j->seed);
    if (gd_error_count(c)) return;
    graph_verify(g);
    Program *p;
    if (j->plain) {
        for (int i = 0; i < g->nodes.n; i++)
            for (int k = 0; k < g->nodes.v[i]->nout; k++)
                if (!g->nodes.v[i]->out[k]->data) g->nodes.v[i]->out[k]->place = PL_ROOT;
        p = lower_graph(g);
        loop_verify(p);
    } else p = passes_run(g, &j->o);
    gd_set_stage(c, "run");
    j->status = random_graph_run(c, p, j->seed, j->bytes, MAX_BYTES, &j->n);
}

static void must_run(Job *j) {
    Ctx *c = gd_open(NULL);
    if (gd_enter(c, run, j))
        fail_msg("seed %d: %s", (int)j->seed, gd_diag(c, gd_error_count(c) - 1)->message);
    gd_close(c);
}

static bool same_bits(const char *a, const char *b, size_t n) {
    for (size_t i = 0; i + 4 <= n; i += 4) {
        float x, y;
        memcpy(&x, a + i, 4);
        memcpy(&y, b + i, 4);
        if (memcmp(&x, &y, 4) && !(x != x && y != y)) return false;
    }
    return true;
}

static void compare(uint64_t seed) {
    static const Machine machines[] = {{16, 32, true, 32 << 10, 1 << 20},
                                       {8, 16, true, 32 << 10, 512 << 10},
                                       {4, 16, false, 32 << 10, 256 << 10}};
    static Job plain, full;
    plain = (Job){.seed = seed, .plain = true};
    full = (Job){.seed = seed};
    full.o = (PassOptions){.opt = seed % 7 == 0 ? 0 : 1 + (int)(seed % 2),
                           .numerics = NUM_STRICT,
                           .threads = 2,
                           .machine = machines[seed % 3]};
    must_run(&plain);
    must_run(&full);
    if (plain.status != full.status || plain.n != full.n || !same_bits(plain.bytes, full.bytes, plain.n))
        fail_msg("seed %d: other results", (int)seed);
}

static void random_graphs(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) compare(seed);
}

/* Long chains: compile time grows with their length, not with the number of ways through shared values, and no recursion
   goes as deep as they are long. */
typedef struct Chain { const char *kind; int length; } Chain;

static void chain(Ctx *c, void *arg) {
    const Chain *k = arg;
    Graph *g = graph_new(c, "chain");
    Expr *dim[] = {expr_int(c, 4), expr_int(c, 8)};
    int64_t axis = 1;
    Value *x = graph_input(g, "x", F32, 2, dim);
    for (int i = 0; i < k->length; i++) {
        if (!strcmp(k->kind, "shared")) x = make(g, "mul", x, make(g, "sigmoid", x));
        else if (!strcmp(k->kind, "rows")) {
            Node *n = node_begin(g, "reduce_max");
            node_input(n, x);
            node_ints(n, "axes", 1, &axis);
            node_int(n, "keepdims", 1);
            x = make(g, "sub", x, node_finish(n));
        } else x = make(g, i % 2 ? "relu" : "neg", x);
    }
    graph_output(g, "y", x);
    PassOptions o = {.opt = 3, .numerics = NUM_STRICT, .threads = 2, .machine = {16, 32, true, 32 << 10, 1 << 20}};
    assert_non_null(passes_run(g, &o));
}

static void long_chains(void **state) {
    (void)state;
    static const Chain chains[] = {{"shared", 60}, {"rows", 1500}, {"maps", 20000}};
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        Chain k = chains[i];
        Ctx *c = gd_open(&(Budget){.max_seconds = 30});
        if (gd_enter(c, chain, &k)) fail_msg("%s: %s", k.kind, gd_error_count(c) ? gd_diag(c, 0)->message : "an error");
        gd_close(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_graphs), cmocka_unit_test(long_chains)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
