/* The passes on random programs: after each of them the verifier is content and the interpreter gives the
   same bits. The runner: order, options, what it prints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "passes.h"
#include "arena.h"
#include "randomprogram.h"

static const PassOptions usual = {
    .opt = 2, .numerics = NUM_DEFAULT, .threads = 2, .machine = {8, 16, true, 32768, 1 << 20}};

/* ---- the same bits ---- */

typedef struct Results {
    int status, n;
    float v[RANDOM_MAX_OUT];
} Results;

static bool same(const Results *a, const Results *b) {
    if (a->status != b->status || a->n != b->n) return false;
    for (int i = 0; i < a->n && !a->status; i++)
        if (memcmp(&a->v[i], &b->v[i], 4) && !(a->v[i] != a->v[i] && b->v[i] != b->v[i])) return false;
    return true;
}

static void through_passes(Ctx *c, void *arg) {
    static Results before, after;
    uint64_t seed = *(uint64_t *)arg;
    Program *p = random_program(c, seed);
    loop_verify(p);
    before.status = random_run(c, p, seed, before.v, &before.n);
    for (int i = 0; i < gd_pass_count; i++) {
        const Pass *pass = &gd_passes[i];
        if (pass->level != PASS_LOOP) continue;
        gd_set_stage(c, pass->name);
        pass->loop(p, &usual);
        p->after = pass->name;
        loop_verify(p);
        after.status = random_run(c, p, seed, after.v, &after.n);
        if (!same(&before, &after)) gd_bug(c, "seed %llu: other results", (unsigned long long)seed);
    }
}

static void random_programs(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        Ctx *c = gd_open(NULL);
        if (gd_enter(c, through_passes, &seed)) fail_msg("seed %d: %s", (int)seed, gd_diag(c, 0)->message);
        gd_close(c);
    }
}

/* ---- packing ---- */

static void packing(void **state) {
    (void)state;
    Random r = {7};
    for (int round = 0; round < 200; round++) {
        Ctx *c = gd_open(NULL);
        int n = 1 + random_below(&r, 60);
        Piece *p = gd_new_array(c, Piece, n);
        int64_t sum = 0, end = 0;
        for (int i = 0; i < n; i++) {
            p[i].first = random_below(&r, 40);
            p[i].last = p[i].first + random_below(&r, 8);
            p[i].size = PLACE * (1 + random_below(&r, 50));
            sum += p[i].size;
        }
        int64_t total = arena_pack(c, n, p);
        for (int i = 0; i < n; i++) {
            assert_true(p[i].at >= 0 && p[i].at % PLACE == 0);
            if (p[i].at + p[i].size > end) end = p[i].at + p[i].size;
            for (int k = 0; k < i; k++) {
                bool alive = p[i].first <= p[k].last && p[k].first <= p[i].last;
                bool over = p[i].at < p[k].at + p[k].size && p[k].at < p[i].at + p[i].size;
                assert_false(alive && over);
            }
        }
        assert_int_equal(total, end);
        assert_true(total <= sum);
        gd_close(c);
    }
}

/* ---- the runner ---- */

typedef struct Job {
    PassOptions o;
    const char *after;
    Text *print;
    int passes;
} Job;

static void count_pass(void *arg, const char *pass, double seconds) {
    Job *j = arg;
    assert_non_null(pass_named(pass));
    assert_true(seconds >= 0);
    j->passes++;
}

static void resume(Ctx *c, void *arg) {
    Job *j = arg;
    Program *p = random_program(c, 5);
    j->o.print = j->print = text_new(c);
    j->o.timing = count_pass;
    j->o.arg = j;
    passes_resume(p, &j->o);
    j->after = p->after;
}

static int run_job(Ctx **c, Job *j) {
    *c = gd_open(NULL);
    return gd_enter(*c, resume, j);
}

static void stops_where_told(void **state) {
    (void)state;
    Ctx *c;
    Job j = {.o = usual};
    j.o.stop_after = "bind";
    j.o.print_after = "bind";
    assert_int_equal(run_job(&c, &j), 0);
    assert_string_equal(j.after, "bind");
    assert_int_equal(strncmp(j.print->s, "; after bind\nprogram rnd after bind", 34), 0);
    gd_close(c);
    j = (Job){.o = usual};
    j.o.print_after = "changed";
    assert_int_equal(run_job(&c, &j), 0);
    assert_string_equal(j.after, "plan");
    assert_non_null(strstr(j.print->s, "; after plan\n"));
    gd_close(c);
}

static void levels_and_skipping(void **state) {
    (void)state;
    Ctx *c;
    Job all = {.o = usual}, low = {.o = usual}, skip = {.o = usual};
    low.o.opt = 0;
    skip.o.skip = (const char *const[]){"parallelize", NULL};
    assert_int_equal(run_job(&c, &all), 0);
    gd_close(c);
    assert_int_equal(run_job(&c, &low), 0);
    gd_close(c);
    assert_int_equal(run_job(&c, &skip), 0);
    gd_close(c);
    assert_true(low.passes < all.passes);
    assert_int_equal(skip.passes, all.passes - 1);
}

static void wrong_options(void **state) {
    (void)state;
    Ctx *c;
    Job j = {.o = usual};
    j.o.stop_after = "nothing";
    assert_int_equal(run_job(&c, &j), EXIT_USAGE);
    assert_string_equal(gd_diag(c, 0)->message, "--stop-after: no pass is named nothing");
    assert_non_null(strstr(gd_diag(c, 0)->help, "infer, train, grad"));
    gd_close(c);
    j = (Job){.o = usual};
    j.o.skip = (const char *const[]){"plan", NULL};
    assert_int_equal(run_job(&c, &j), EXIT_USAGE);
    gd_close(c);
}

static void dumps(void **state) {
    (void)state;
    char dir[] = "passes-XXXXXX";
    assert_non_null(mkdtemp(dir));
    Ctx *c;
    Job j = {.o = usual};
    j.o.dump_dir = dir;
    assert_int_equal(run_job(&c, &j), 0);
    int files = 0;
    for (int i = 0; i < gd_pass_count; i++) {
        const char *path = gd_format(c, "%s/%02d-%s.lir", dir, i + 1, gd_passes[i].name);
        struct stat s;
        if (stat(path, &s)) continue;
        size_t n;
        char *text = gd_read_file(c, path, 1 << 20, &n);
        assert_non_null(loop_parse(c, text, n));
        files++;
        unlink(path);
    }
    assert_int_equal(files, j.passes);
    assert_int_equal(rmdir(dir), 0);
    gd_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_programs),  cmocka_unit_test(packing),
        cmocka_unit_test(stops_where_told), cmocka_unit_test(levels_and_skipping),
        cmocka_unit_test(wrong_options),    cmocka_unit_test(dumps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
