/* Golden files: one idea each. `golden [DIR|FILE...]` runs them (tests/golden when none are given), `golden
   --bless ...` rewrites what they expect.

   A file says what it shows, which passes run on what text, and the exact text that comes out:

       # bind: a value used twice is computed once
       passes: unroll bind
       options: opt=2 registers=16 lanes=8 threads=2 numerics=strict        (all optional)
       --- input
       (graph or loop IR)
       --- output
       (the same)

   Both texts are verified on the way; the output is also read back and printed again, and must stay as it is.
 */
#include "passes.h"
#include "lower.h"
#include <dirent.h>
#include <stdlib.h>

typedef struct Golden {
    const char *path;
    char *head, *input, *output; /* parts of the file */
    const char *passes;
    PassOptions o;
    Text *result;
} Golden;

/* ---- the file ---- */

static char *cut(Ctx *c, char *text, const char *line, const char *path) {
    char *at = strstr(text, line);
    if (!at || (at != text && at[-1] != '\n')) gd_fail(c, 104, NULL, "%s: no line %s", path, line);
    *at = 0;
    return at + strlen(line);
}

static void option(Ctx *c, Golden *g, const char *word) {
    long long n = strchr(word, '=') ? atoll(strchr(word, '=') + 1) : 0;
    if (!strncmp(word, "opt=", 4)) g->o.opt = (int)n;
    else if (!strncmp(word, "lanes=", 6)) g->o.machine.lanes = (int)n;
    else if (!strncmp(word, "registers=", 10)) g->o.machine.registers = (int)n;
    else if (!strncmp(word, "threads=", 8)) g->o.threads = (int)n;
    else if (!strcmp(word, "numerics=strict")) g->o.numerics = NUM_STRICT;
    else if (!strcmp(word, "numerics=fast")) g->o.numerics = NUM_FAST;
    else gd_fail(c, 104, NULL, "%s: option %s", g->path, word);
}

static void read_head(Ctx *c, Golden *g) {
    char *save, *word, *text = gd_strdup(c, g->head);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *inner;
        if (!strncmp(line, "passes:", 7)) g->passes = gd_strdup(c, line + 7);
        if (strncmp(line, "options:", 8)) continue;
        for (word = strtok_r(line + 8, " ", &inner); word; word = strtok_r(NULL, " ", &inner))
            option(c, g, word);
    }
    if (!g->passes) gd_fail(c, 104, NULL, "%s: no line passes:", g->path);
}

static void read_file(Ctx *c, Golden *g) {
    size_t n;
    char *text = gd_read_file(c, g->path, 1 << 20, &n);
    g->head = gd_strndup(c, text, n);
    g->input = cut(c, g->head, "--- input\n", g->path);
    g->output = cut(c, g->input, "--- output\n", g->path);
    g->o =
        (PassOptions){.opt = 2,
                      .numerics = NUM_DEFAULT,
                      .threads = 0,
                      .machine = {.lanes = 8, .registers = 16, .fma = true, .l1 = 32 << 10, .l2 = 512 << 10}};
    read_head(c, g);
}

/* ---- running it ---- */

typedef struct State {
    Graph *g;
    Program *p;
} State;

static State parse(Ctx *c, const char *text) {
    State s = {NULL, NULL};
    const char *first = text;
    while (*first == '\n' || *first == ';') first = *first == ';' ? strchr(first, '\n') : first + 1;
    if (!strncmp(first, "graph", 5)) s.g = graph_parse(c, text, strlen(text));
    else s.p = loop_parse(c, text, strlen(text));
    return s;
}

static void verify(const State *s) {
    if (s->p) loop_verify(s->p);
    else graph_verify(s->g);
}

static void print(Text *t, const State *s) {
    if (s->p) loop_print(t, s->p);
    else graph_print(t, s->g);
}

static void run_pass(Ctx *c, const Golden *g, State *s, const char *name) {
    const Pass *pass = pass_named(name);
    if (!pass || (pass->level == PASS_LOOP) != (s->p != NULL))
        gd_fail(c, 104, NULL, "%s: pass %s cannot run here", g->path, name);
    gd_set_stage(c, name);
    if (pass->level == PASS_LOWER) s->p = lower_graph(s->g);
    else if (s->p) pass->loop(s->p, &g->o);
    else pass->graph(s->g, &g->o);
    if (gd_error_count(c)) gd_leave(c);
    if (s->p) s->p->after = pass->name;
    else s->g->after = pass->name;
    verify(s);
}

static void run(Ctx *c, void *arg) {
    Golden *g = arg;
    read_file(c, g);
    State s = parse(c, g->input), again;
    verify(&s);
    char *save, *list = gd_strdup(c, g->passes);
    for (char *word = strtok_r(list, " ", &save); word; word = strtok_r(NULL, " ", &save))
        run_pass(c, g, &s, word);
    g->result = text_new(c);
    print(g->result, &s);
    again = parse(c, g->result->s);
    Text *twice = text_new(c);
    print(twice, &again);
    if (strcmp(g->result->s, twice->s))
        gd_fail(c, 901, NULL, "%s: read back and printed again it is another text:\n%s", g->path, twice->s);
}

/* ---- many of them ---- */

static void show_difference(const Golden *g) {
    const char *want = g->output, *got = g->result->s;
    int line = 1;
    for (; *want && *want == *got; want++, got++) line += *want == '\n';
    while (want > g->output && want[-1] != '\n') {
        want--;
        got--;
    }
    printf("FAIL %s: line %d of the output\n  expected: %.*s\n  got:      %.*s\n", g->path, line,
           (int)strcspn(want, "\n"), want, (int)strcspn(got, "\n"), got);
    printf("---- all of it ----\n%s----\n", g->result->s);
}

static bool one(const char *path, bool bless) {
    Ctx *c = gd_open(NULL);
    Golden g = {.path = path};
    bool ok = gd_enter(c, run, &g) == 0;
    for (int i = 0; !ok && i < gd_error_count(c); i++) printf("FAIL %s: %s\n", path, gd_diag(c, i)->message);
    if (ok && strcmp(g.result->s, g.output)) {
        if (bless) {
            const char *text = gd_format(c, "%s--- input\n%s--- output\n%s", g.head, g.input, g.result->s);
            gd_write_file(c, path, text, strlen(text));
            printf("blessed %s\n", path);
        } else {
            show_difference(&g);
            ok = false;
        }
    }
    gd_close(c);
    return ok;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

typedef struct Count {
    int passed, failed;
} Count;

static void many(const char *path, bool bless, Count *k) {
    struct dirent **names;
    int n = scandir(path, &names, NULL, by_name);
    if (n < 0) { /* a file */
        if (one(path, bless)) k->passed++;
        else k->failed++;
        return;
    }
    for (int i = 0; i < n; i++) {
        char file[4096];
        size_t len = strlen(names[i]->d_name);
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (len > 4 && !strcmp(names[i]->d_name + len - 4, ".txt")) many(file, bless, k);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv) {
    bool bless = argc > 1 && !strcmp(argv[1], "--bless");
    Count k = {0, 0};
    for (int i = 1 + bless; i < argc; i++) many(argv[i], bless, &k);
    if (argc == 1 + bless) many("tests/golden", bless, &k);
    printf("%d passed, %d failed\n", k.passed, k.failed);
    return k.failed || !k.passed;
}
