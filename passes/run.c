/* The runner: goes through the table in order. For every row that is enabled: run, verify, print or dump,
   time.

   The state is what a pass sees: a graph until `lower`, a program from there on. One table, one round: it
   ends. */
#include "edit.h"
#include "lower.h"
#include <errno.h>
#include <sys/stat.h>
#include <time.h>

#define ROW_PASS_GRAPH(name) .graph = pass_##name
#define ROW_PASS_LOWER(name) .graph = NULL
#define ROW_PASS_LOOP(name) .loop = pass_##name
const Pass gd_passes[] = {
#define P(pass, lvl, lowest, purpose)                                                                        \
    {.name = #pass, .level = lvl, .opt = lowest, .doc = purpose, ROW_##lvl(pass)},
#include "passes.def"
#undef P
};
const int gd_pass_count = sizeof gd_passes / sizeof *gd_passes;

const Pass *pass_named(const char *name) {
    for (int i = 0; i < gd_pass_count; i++)
        if (!strcmp(gd_passes[i].name, name)) return &gd_passes[i];
    return NULL;
}

typedef struct Run {
    Ctx *c;
    Graph *g;
    Program *p;
    const PassOptions *o;
    const char *last; /* the text after the pass before; only kept when changes are asked for */
} Run;

/* ---- options ---- */

static bool listed(const char *const *names, const char *name) {
    for (; names && *names; names++)
        if (!strcmp(*names, name)) return true;
    return false;
}

static const char *all_names(Ctx *c) {
    Text *t = text_new(c);
    for (int i = 0; i < gd_pass_count; i++) text_printf(t, "%s%s", i ? ", " : "passes: ", gd_passes[i].name);
    return t->s;
}

static void need_pass(Ctx *c, const char *option, const char *name) {
    if (!pass_named(name))
        gd_fail(c, 601, all_names(c), "%s: no pass is named %s", option, gd_escape(c, name, strlen(name)));
}

static void check_options(Ctx *c, const PassOptions *o) {
    const char *print = o->print_after;
    if (o->stop_after) need_pass(c, "--stop-after", o->stop_after);
    if (print && strcmp(print, "all") && strcmp(print, "changed")) need_pass(c, "--print-after", print);
    for (int i = 0; o->skip && o->skip[i]; i++) {
        need_pass(c, "--no-PASS", o->skip[i]);
        if (pass_named(o->skip[i])->opt == ALWAYS)
            gd_fail(c, 601, "only optional passes can be left out", "--no-%s: what follows needs this pass",
                    o->skip[i]);
    }
}

/* ---- what a reader gets ---- */

/* Constants are left out of texts once they are more than a person reads. */
enum { READABLE = 1 << 16 };

static bool graph_readable(const Graph *g) {
    int64_t bytes = 0;
    for (int i = 0; i < g->consts.n && bytes <= READABLE; i++) {
        int64_t n = value_bytes(g->c, g->consts.v[i]);
        if (n > 0) bytes = gd_add(g->c, bytes, n);
    }
    return bytes <= READABLE;
}

static bool program_readable(const Program *p) {
    int64_t bytes = 0, n;
    for (int i = 0; i < p->consts.n && bytes <= READABLE; i++)
        if (is_int(buf_size(p->c, p->consts.v[i]), &n))
            bytes = gd_add(p->c, bytes, n * gd_dtypes[p->consts.v[i]->dt].bytes);
    return bytes <= READABLE;
}

static const char *state_text(const Run *r, bool complete) {
    Text *t = text_new(r->c);
    if (r->p && complete && program_readable(r->p)) loop_print(t, r->p);
    else if (r->p) loop_print_brief(t, r->p);
    else if (complete && graph_readable(r->g)) graph_print(t, r->g);
    else graph_print_brief(t, r->g);
    return t->s;
}

static void print(Run *r, const char *pass) {
    const PassOptions *o = r->o;
    if (!o->print_after || !o->print) return;
    bool changes = !strcmp(o->print_after, "changed");
    if (!changes && strcmp(o->print_after, "all") && strcmp(o->print_after, pass)) return;
    const char *text = state_text(r, false);
    bool same = changes && r->last && !strcmp(text, r->last);
    r->last = text;
    if (same) text_printf(o->print, "; after %s: no change\n", pass);
    else text_printf(o->print, "; after %s\n%s", pass, text);
}

static void dump(const Run *r, int number, const char *pass) {
    Ctx *c = r->c;
    const char *dir = r->o->dump_dir;
    if (!dir) return;
    if (mkdir(dir, 0777) && errno != EEXIST) gd_fail(c, 106, NULL, "%s: %s", dir, strerror(errno));
    const char *text = state_text(r, true);
    gd_write_file(c, gd_format(c, "%s/%02d-%s.%s", dir, number, pass, r->p ? "lir" : "gir"), text,
                  strlen(text));
}

/* ---- the round ---- */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void run_pass(Run *r, const Pass *pass) {
    if (pass->level == PASS_GRAPH) pass->graph(r->g, r->o);
    else if (pass->level == PASS_LOOP) pass->loop(r->p, r->o);
    else r->p = lower_graph(r->g);
    if (gd_error_count(r->c)) gd_leave(r->c);
    if (r->p) r->p->after = pass->name;
    else r->g->after = pass->name;
}

static void verify(const Run *r) {
    if (r->p) loop_verify(r->p);
    else graph_verify(r->g);
}

static void run(Run *r, const char *after) {
    const PassOptions *o = r->o;
    const Pass *done =
        after ? pass_named(after) : NULL; /* a program without a word about it: straight from lowering */
    check_options(r->c, o);
    if (o->print_after && !strcmp(o->print_after, "changed")) r->last = state_text(r, false);
    for (int i = done ? (int)(done - gd_passes) + 1 : 0; i < gd_pass_count; i++) {
        const Pass *pass = &gd_passes[i];
        if ((pass->level == PASS_LOOP) != (r->p != NULL)) continue;
        if (pass->opt == ALWAYS || (o->opt >= pass->opt && !listed(o->skip, pass->name))) {
            double start = seconds();
            gd_set_stage(r->c, pass->name);
            run_pass(r, pass);
            double stop = seconds();
            verify(r);
            print(r, pass->name);
            dump(r, i + 1, pass->name);
            if (o->timing) o->timing(o->arg, pass->name, stop - start);
            gd_check_time(r->c);
        }
        if (o->stop_after && !strcmp(o->stop_after, pass->name)) break;
    }
    gd_set_stage(r->c, NULL);
}

Program *passes_run(Graph *g, const PassOptions *o) {
    Run r = {.c = g->c, .g = g, .o = o};
    run(&r, g->after);
    return r.p;
}

void passes_resume(Program *p, const PassOptions *o) {
    Run r = {.c = p->c, .p = p, .o = o};
    run(&r, p->after);
}
