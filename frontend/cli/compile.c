/* The verbs that make or show code: compile, run, ir. */
#define _GNU_SOURCE
#include "cli.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int no_words(const Cli *c) {
    return c->nwords ? cli_fail(c, 601, NULL, "%s takes one model; what is %.80s?", c->verb, c->words[0]) : 0;
}

/* ---- compile ---- */

/* Without -o: beside where one stands, called as the model. */
static char *default_output(const Cli *c) {
    static const char *const suffix[][2] = {{"so", ".so"}, {"obj", ".o"}, {"asm", ".s"}, {"ll", ".ll"}, {"bc", ".bc"}};
    const char *slash = strrchr(c->model, '/'), *base = slash ? slash + 1 : c->model, *dot = strrchr(base, '.'), *end = "";
    if (!strcmp(base, "-")) base = "model", dot = NULL;
    size_t n = dot && dot > base ? (size_t)(dot - base) : strlen(base);
    for (size_t i = 0; c->emit && i < sizeof suffix / sizeof *suffix; i++)
        if (!strcmp(c->emit, suffix[i][0])) end = suffix[i][1];
    char *s = malloc(n + 8);
    if (!s) return NULL;
    memcpy(s, base, n);
    strcpy(s + n, end);
    if (!*end && !strcmp(s, base)) strcpy(s + n, ".out"); /* never over the model */
    return s;
}

int cli_compile(Cli *c) {
    int status = no_words(c);
    char *made = c->out || status ? NULL : default_output(c);
    const char *out = c->out ? c->out : made;
    if (!status && !out) status = cli_fail(c, 506, NULL, "out of memory");
    if (!status) status = cli_problems(c, c->train ? gradc_write_trainer(c->g, c->emit, out) : gradc_write(c->g, c->emit, out));
    fputs(gradc_printed(c->g), stderr);
    if (!status && c->verbose) fprintf(stderr, "%s\n", out);
    free(made);
    return status;
}

/* ---- run ---- */

void cli_values(const Cli *c, GradcArgs *a) {
    memset(a, 0, sizeof *a);
    a->values = c->words;
    a->nvalues = c->nwords;
    a->out = c->out;
    a->repeat = c->repeat;
    a->time = c->time;
    a->read = gradc_read_value;
}

int cli_write_tensor(const Cli *c, const GradcTensor *t, const char *name) {
    GradcError e;
    char path[4096];
    if (mkdir(c->out, 0777) && errno != EEXIST) return cli_fail(c, 106, NULL, "%s: %s", c->out, strerror(errno));
    if (!gradc_npy_path(path, sizeof path, c->out, name)) return cli_fail(c, 106, NULL, "%.200s: the name is too long", c->out);
    return gradc_npy_write(t, path, &e) ? cli_error(c, &e) : 0;
}

static int interpret(Cli *c, const GradcArgs *a) {
    int n;
    const GradcTensor *t;
    const char *const *names;
    int status = cli_problems(c, gradc_interpret(c->g, a, &n, &t, &names));
    fputs(gradc_printed(c->g), stderr);
    if (status) return status;
    for (int i = 0; c->out && i < n && !status; i++) status = cli_write_tensor(c, &t[i], names[i]);
    if (c->out) return status;
    for (int i = 0; i < n; i++) gradc_tensor_print(stdout, names[i], &t[i], GRADC_PRINT_LIMIT);
    return 0;
}

int cli_run(Cli *c) {
    GradcArgs a;
    GradcError e;
    const GradcProgram *p;
    cli_values(c, &a);
    if (c->backend && !strcmp(c->backend, "interp")) return interpret(c, &a);
    int status = c->fit.params ? cli_problems(c, gradc_option(c->g, "params", c->fit.params)) : 0;
    if (!status) status = cli_problems(c, gradc_jit(c->g, &p));
    fputs(gradc_printed(c->g), stderr);
    if (status) return status;
    status = gradc_program_run(p, &a, stdout, &e);
    return status ? cli_error(c, &e) : 0;
}

/* ---- ir ---- */

int cli_ir(Cli *c) {
    const char *text, *print = c->changed ? "changed" : c->all ? "all" : NULL;
    int status = no_words(c);
    if (!status && c->after) status = cli_problems(c, gradc_option(c->g, "stop-after", c->after));
    if (!status && print) status = cli_problems(c, gradc_option(c->g, "print-after", print));
    if (status) return status;
    status = gradc_ir(c->g, c->full, &text);
    const char *printed = gradc_printed(c->g);
    fputs(printed, stdout);
    if (!status && !*printed) fputs(text, stdout);
    return cli_problems(c, status);
}
