/* gradc gradcheck: the gradient that the compiler derives against differences in double, a line for each tensor. */
#define _GNU_SOURCE
#include "cli.h"
#include <jansson.h>
#include <math.h>
#include <string.h>

static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *row_json(const GradcGradRow *r) {
    return json_pack("{s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:s, s:o, s:o}", "kind", r->kind, "name", r->name, "shape", r->shape,
                     "ok", r->ok, "elements", (json_int_t)r->elements, "compared", (json_int_t)r->compared, "kinks",
                     (json_int_t)r->kinks, "error", real(r->error), "at", r->place, "derived", real(r->derived), "difference",
                     real(r->difference));
}

static void print_json(const Cli *c, const char *about, int status, int n, const GradcGradRow *rows) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, row_json(&rows[i]));
    json_t *j = json_pack("{s:s, s:s, s:b, s:o, s:o}", "model", c->model, "loss", about, "ok", !status, "rtol", real(c->rtol), "tensors",
                          list);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static void print_row(const GradcGradRow *r, int width, int shape) {
    printf("%-4s %-5s %-*s %-*s %6lld of %-8lld %5lld  %9.3g", r->ok ? "ok" : "FAIL", r->kind, width, r->name, shape, r->shape,
           (long long)r->compared, (long long)r->elements, (long long)r->kinks, r->error);
    if (*r->place) printf("  at %s: %.9g, differences say %.9g", r->place, r->derived, r->difference);
    putchar('\n');
}

static void print_table(const char *about, int n, const GradcGradRow *rows) {
    size_t width = 6, shape = 5;
    for (int i = 0; i < n; i++) {
        if (strlen(rows[i].name) > width) width = strlen(rows[i].name);
        if (strlen(rows[i].shape) > shape) shape = strlen(rows[i].shape);
    }
    printf("gradient of %s\n%-4s %-5s %-*s %-*s %6s    %-8s %5s  %9s\n", about, "", "", (int)width, "tensor", (int)shape, "shape",
           "tried", "elements", "kinks", "error");
    for (int i = 0; i < n; i++) print_row(&rows[i], (int)width, (int)shape);
}

int cli_gradcheck(Cli *c) {
    int n, failed = 0;
    const GradcGradRow *rows;
    const char *about;
    GradcArgs values;
    cli_values(c, &values);
    GradcGradOptions o = {.values = &values, .rtol = c->rtol, .atol = c->atol, .seed = c->fit.seed, .samples = c->samples};
    int status = gradc_gradcheck(c->g, &o, &n, &rows, &about);
    cli_problems(c, status);
    if (!n) return status;
    for (int i = 0; i < n; i++) failed += !rows[i].ok;
    if (c->json) print_json(c, about, status, n, rows);
    else {
        print_table(about, n, rows);
        printf("%d passed, %d failed\n", n - failed, failed);
    }
    if (failed) cli_fail(c, 604, "gradc gradcheck MODEL --rtol X --atol X", "%s: the gradients of %d of %d tensors are wrong", c->model, failed, n);
    return status;
}
