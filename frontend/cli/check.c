/* gradc check: everything that would stop compilation, or with --train training, all at once. */
#include "cli.h"
#include <jansson.h>

static json_t *problems_json(const Cli *c) {
    json_t *list = json_array();
    for (int i = 0; i < gradc_problem_count(c->g); i++) {
        GradcProblem p = gradc_problem(c->g, i);
        char code[8];
        snprintf(code, sizeof code, "E%04d", p.code);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?, s:i}", "code", code, "title", p.title, "text", p.text, "help",
                                              p.help, "status", p.status));
    }
    return list;
}

static void print_json(const Cli *c, int status, int nnotes, const char *const *notes) {
    json_t *list = json_array();
    for (int i = 0; i < nnotes; i++) json_array_append_new(list, json_string(notes[i]));
    json_t *all = json_pack("{s:s, s:b, s:i, s:o, s:o}", "model", c->model, "ok", !status, "status", status, "problems", problems_json(c),
                            "notes", list);
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

int cli_check(Cli *c) {
    int nnotes = 0;
    const char *const *notes = NULL;
    if (c->nwords) return cli_fail(c, 601, NULL, "%s takes one model; what is %.80s?", c->verb, c->words[0]);
    int status = c->train ? gradc_check_train(c->g, &nnotes, &notes) : gradc_check(c->g);
    if (c->json) {
        print_json(c, status, nnotes, notes);
        return status;
    }
    cli_problems(c, status);
    for (int i = 0; i < nnotes; i++) printf("%s: note: %s\n", c->model, notes[i]);
    if (!status && !c->quiet) printf("%s: ok\n", c->model);
    return status;
}
