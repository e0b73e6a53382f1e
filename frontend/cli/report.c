/* The verbs that answer with numbers: inspect, verify, bench. Each prints a table for people, or one JSON document. */
#define _GNU_SOURCE
#include "cli.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_json(json_t *j) {
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

/* JSON has no infinity. */
static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* 1234567 as 1.23 M */
static const char *short_number(char *buf, size_t size, double v) {
    static const char *const unit[] = {"", " k", " M", " G", " T"};
    int u = 0;
    while (v >= 1000 && u < 4) v /= 1000, u++;
    snprintf(buf, size, u ? "%.3g%s" : "%.0f%s", v, unit[u]);
    return buf;
}

static int one_model(const Cli *c) {
    return c->nwords ? cli_fail(c, 601, NULL, "%s takes one model; what is %.80s?", c->verb, c->words[0]) : 0;
}

/* ---- inspect ---- */

static json_t *ports_json(int n, const GradcInfoPort *p) {
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_pack("{s:s, s:s}", "name", p[i].name, "type", p[i].type));
    return a;
}

static void inspect_json(const GradcInfo *i) {
    json_t *ops = json_object(), *syms = json_array();
    for (int k = 0; k < i->nops; k++) json_object_set_new(ops, i->ops[k].name, json_integer(i->ops[k].count));
    for (int k = 0; k < i->nsyms; k++) {
        const GradcInfoSymbol *s = &i->syms[k];
        json_array_append_new(syms, json_pack("{s:s, s:I, s:o, s:b}", "name", s->name, "min", (json_int_t)s->lo, "max",
                                              s->hi == INT64_MAX ? json_null() : json_integer(s->hi), "data", s->data));
    }
    json_t *j = json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:o, s:I, s:I, s:I, s:o, s:s, s:o, s:i}", "name", i->name, "format", i->format,
                          "inputs", ports_json(i->nin, i->in), "outputs", ports_json(i->nout, i->out), "sizes", syms, "nodes",
                          (json_int_t)i->nodes, "ops", ops, "parameters", (json_int_t)i->parameters, "weight_bytes",
                          (json_int_t)i->weight_bytes, "packed_bytes", (json_int_t)i->packed_bytes, "arena_bytes",
                          i->arena_bytes < 0 ? json_null() : json_integer(i->arena_bytes), "arena", i->arena, "macs", real(i->macs),
                          "nests", i->nests);
    print_json(j);
}

static void print_ports(const char *title, int n, const GradcInfoPort *p) {
    for (int i = 0; i < n; i++) printf("%-12s %s  %s\n", i ? "" : title, p[i].name, p[i].type);
}

static void inspect_text(const GradcInfo *i) {
    char a[32], b[32];
    printf("%-12s %s (%s)\n", "model", i->name, i->format);
    print_ports("inputs", i->nin, i->in);
    print_ports("outputs", i->nout, i->out);
    for (int k = 0; k < i->nsyms; k++) {
        const GradcInfoSymbol *s = &i->syms[k];
        printf("%-12s %s in %lld..", k ? "" : "open sizes", s->name, (long long)s->lo);
        if (s->hi != INT64_MAX) printf("%lld", (long long)s->hi);
        puts(s->data ? "  (the data decides)" : "");
    }
    if (!i->nsyms) printf("%-12s none: every size is known\n", "open sizes");
    printf("%-12s %lld (%s), weights %lld bytes, packed %lld bytes\n", "parameters", (long long)i->parameters,
           short_number(a, sizeof a, (double)i->parameters), (long long)i->weight_bytes, (long long)i->packed_bytes);
    printf("%-12s %s multiply-adds a run%s\n", "work", short_number(b, sizeof b, i->macs), i->nsyms ? ", open sizes at their lowest" : "");
    printf("%-12s ", "arena");
    if (i->arena_bytes >= 0) printf("%lld bytes", (long long)i->arena_bytes);
    else printf("the data decides");
    if (i->nsyms) printf("  = %s", i->arena);
    printf("\n%-12s %lld in %d nests\n", "nodes", (long long)i->nodes, i->nests);
    for (int k = 0; k < i->nops; k++) printf("%12lld %s\n", (long long)i->ops[k].count, i->ops[k].name);
}

int cli_inspect(Cli *c) {
    GradcInfo i;
    int status = one_model(c);
    if (!status) status = cli_problems(c, gradc_inspect(c->g, &i));
    if (status) return status;
    if (c->json) inspect_json(&i);
    else inspect_text(&i);
    return 0;
}

/* ---- verify ---- */

static json_t *check_json(const GradcCheck *k) {
    return json_pack("{s:s, s:s?, s:b, s:o, s:o, s:o, s:s}", "subject", k->subject, "output", k->output, "ok", k->ok, "max_abs",
                     real(k->max_abs), "max_rel", real(k->max_rel), "max_ulp", real(k->max_ulp), "text", k->text);
}

static void check_text(const GradcCheck *k) {
    printf("%-4s %s", k->ok ? "ok" : "FAIL", k->subject);
    if (k->output) printf("  %s", k->output);
    if (k->output || !k->ok) printf("  max abs %.3g  max rel %.3g  max ulp %.0f", k->max_abs, k->max_rel, k->max_ulp);
    else printf("  equal bits");
    printf("%s%s\n", *k->text ? "  " : "", k->text);
}

int cli_verify(Cli *c) {
    int n, failed = 0;
    const GradcCheck *k;
    int status = gradc_verify(c->g, c->nwords, c->words, c->rtol, c->atol, &n, &k);
    cli_problems(c, status);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        failed += !k[i].ok;
        if (c->json) json_array_append_new(list, check_json(&k[i]));
        else check_text(&k[i]);
    }
    if (c->json)
        print_json(json_pack("{s:s, s:b, s:i, s:i, s:o}", "model", c->model, "ok", !status, "passed", n - failed, "failed", failed,
                             "comparisons", list));
    else {
        json_decref(list);
        printf("%d passed, %d failed\n", n - failed, failed);
    }
    if (failed) cli_fail(c, 604, "gradc verify MODEL DIR --rtol X --atol X", "%s: %d of %d comparisons failed", c->model, failed, n);
    return status;
}

/* ---- bench ---- */

static json_t *bench_json(const GradcBench *b) {
    json_t *nests = json_array();
    for (int i = 0; i < b->nnests; i++) {
        const GradcNest *n = &b->nests[i];
        double us = n->calls ? 1e-3 * (double)n->ns / b->samples : 0;
        json_array_append_new(nests, json_pack("{s:s, s:s, s:s, s:o, s:o, s:I}", "name", n->name, "source", n->source, "schedule",
                                               n->schedule, "us", real(us), "macs", real(n->macs), "calls", (json_int_t)n->calls));
    }
    return json_pack("{s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "samples", b->samples, "threads", b->threads, "min_ms",
                     real(b->min_ms), "median_ms", real(b->median_ms), "p95_ms", real(b->p95_ms), "macs", real(b->macs), "gflops",
                     real(b->gflops), "peak_gflops", real(b->peak_gflops), "peak_share",
                     b->peak_gflops > 0 ? real(b->gflops / b->peak_gflops) : json_null(), "compile_seconds", real(b->compile_seconds),
                     "nests", nests);
}

static int by_time(const void *a, const void *b) {
    const GradcNest *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

/* The slowest first. Times are of one run of the model. */
static void print_profile(const GradcBench *b) {
    uint64_t sum = 0;
    GradcNest *n = malloc(((size_t)b->nnests + 1) * sizeof *n);
    if (!n) return;
    memcpy(n, b->nests, (size_t)b->nnests * sizeof *n);
    qsort(n, (size_t)b->nnests, sizeof *n, by_time);
    for (int i = 0; i < b->nnests; i++) sum += n[i].ns;
    puts("       us  share  GFLOP/s  nest            from, schedule");
    for (int i = 0; i < b->nnests; i++) {
        double us = 1e-3 * (double)n[i].ns / b->samples;
        printf("%9.1f %5.1f%% %8.1f  %-14s  %s; %s\n", us, sum ? 100.0 * (double)n[i].ns / (double)sum : 0,
               n[i].macs > 0 && us > 0 ? 2e-3 * n[i].macs / us : 0, n[i].name, n[i].source, n[i].schedule);
    }
    free(n);
}

static void bench_text(const GradcBench *b) {
    char macs[32];
    printf("%d runs on %d thread%s, compiled in %.2f s\n", b->samples, b->threads, b->threads > 1 ? "s" : "", b->compile_seconds);
    printf("min %.4g ms  median %.4g ms  p95 %.4g ms\n", b->min_ms, b->median_ms, b->p95_ms);
    printf("%s multiply-adds a run, %.1f GFLOP/s", short_number(macs, sizeof macs, b->macs), b->gflops);
    if (b->peak_gflops > 0)
        printf(", %.1f %% of %.0f GFLOP/s (measured: one core times %d)", 100 * b->gflops / b->peak_gflops, b->peak_gflops, b->threads);
    putchar('\n');
    if (b->nnests) print_profile(b);
}

/* NAME=@DIR/NAME.npy for every input. */
static int values_of_data(Cli *c, GradcArgs *a) {
    GradcInfo info;
    int status = cli_problems(c, gradc_inspect(c->g, &info));
    if (status) return status;
    if (c->nwords) return cli_fail(c, 601, NULL, "give values or --data, not both");
    c->words = realloc(c->words, ((size_t)info.nin + 1) * sizeof *c->words);
    for (int i = 0; c->words && i < info.nin; i++) {
        char *s = NULL, file[4096];
        bool npy = gradc_npy_path(file, sizeof file, c->data, info.in[i].name) && !access(file, R_OK);
        int n = npy ? asprintf(&s, "%s=@%s", info.in[i].name, file) : asprintf(&s, "%s=@%s/input_%d.pb", info.in[i].name, c->data, i);
        if (n < 0) return 6;
        c->words[c->nwords++] = s;
    }
    a->values = c->words;
    a->nvalues = c->nwords;
    return c->words ? 0 : cli_fail(c, 506, NULL, "out of memory");
}

int cli_bench(Cli *c) {
    GradcArgs a;
    GradcBench b;
    int status = 0;
    cli_values(c, &a);
    if (c->data) status = values_of_data(c, &a);
    if (!status) status = cli_problems(c, gradc_bench(c->g, &a, c->seconds, &b));
    if (!status && c->json) {
        json_t *j = bench_json(&b);
        json_object_set_new(j, "model", json_string(c->model));
        print_json(j);
    } else if (!status) bench_text(&b);
    for (int i = 0; c->data && i < c->nwords; i++) free((char *)c->words[i]);
    return status;
}
