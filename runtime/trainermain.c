/* The command line of an executable that trains: `./model train|eval|run ...`, the verb first. What is
   no option of fitargs.c goes to the words of program.h, for `run`. */
#define _POSIX_C_SOURCE 200809L
#include "fit.h"
#include "checkpoint.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int gradc_trainer_run(const GradcTrainer *t, const char *params, const GradcArgs *a, FILE *f, GradcError *e) {
    GradcCall c;
    void *state = gradc_state_new(t);
    if (!state) return gradc_error(e, 506, NULL, "out of memory for a state of %zu bytes", t->state_bytes);
    int status = gradc_state_init(t, state, 0, e);
    if (!status && params) status = gradc_checkpoint_load(params, t, state, GRADC_SAVE_PARAMS, NULL, e);
    if (!status && !(status = gradc_trainer_open(&c, t, t->run, state, e))) {
        status = gradc_call_command(&c, a, f, e);
        gradc_call_close(&c);
    }
    free(state);
    return status;
}

/* ---- help ---- */

static void help_verb(const char *verb, const char *doc) {
    GradcFitOption o;
    printf("\n%s: %s\n", verb, doc);
    for (int i = 0; (o = gradc_fit_option_at(i)).name; i++) {
        char left[64];
        if (!gradc_fit_option_of(verb, o)) continue;
        snprintf(left, sizeof left, "--%s%s%s", o.name, o.value ? " " : "", o.value ? o.value : "");
        printf("  %-20s %s\n", left, o.doc);
    }
}

static void help(const GradcTrainer *t) {
    size_t parameters = 0;
    for (int i = 0; i < t->nstates; i++)
        if (t->states[i].kind == GRADC_PARAM)
            parameters += gradc_state_size(&t->states[i]) / gradc_dtype_size(t->states[i].dtype);
    printf("usage: %s train|eval|run [options]\n\n%zu trainable parameters, %zu bytes of state; loss %s, optimizer "
           "%s, batch %lld, %lld epochs\n",
           t->name, parameters, t->state_bytes, t->loss, t->optimizer, (long long)t->batch, (long long)t->epochs);
    help_verb("train", "learn from data");
    help_verb("eval", "loss and metrics over all of the data");
    help_verb("run", "answers to inputs NAME=VALUE ...");
    for (int i = 0; i < t->run->nin; i++) {
        char shape[512];
        if (gradc_trainer_data_in(t, t->run, i))
            printf("  %s %s\n", t->run->in[i].name, gradc_port_text(shape, sizeof shape, t->run, &t->run->in[i]));
    }
    puts("\n--help, --version");
}

/* ---- words ---- */

typedef struct Words { GradcFit fit; const char *verb; char **rest; int nrest; bool help, version; } Words;

static int word(Words *w, int argc, char **argv, int *i, GradcError *e) {
    char name[64];
    const char *s = argv[*i], *equals = NULL;
    if (!strcmp(s, "-q")) s = "--quiet";
    if (!strcmp(s, "-o")) s = "--output";
    if (!strcmp(s, "-h") || !strcmp(s, "--help")) return w->help = true, 0;
    if (!strcmp(s, "--version")) return w->version = true, 0;
    if (strncmp(s, "--", 2)) {
        w->rest[w->nrest++] = argv[*i];
        return 0;
    }
    equals = strchr(s, '=');
    size_t n = equals ? (size_t)(equals - s) - 2 : strlen(s) - 2;
    if (n >= sizeof name) return gradc_error(e, 601, NULL, "there is no option %.80s", s);
    memcpy(name, s + 2, n);
    name[n] = 0;
    const char *value = equals ? equals + 1 : NULL;
    GradcFitOption o;
    for (int k = 0; !value && (o = gradc_fit_option_at(k)).name; k++)
        if (!strcmp(o.name, name) && o.value && gradc_fit_option_of(w->verb, o) && *i + 1 < argc) value = argv[++*i];
    int status = gradc_fit_option(&w->fit, w->verb, name, value, e);
    if (status < 0) w->rest[w->nrest++] = argv[*i]; /* of `run`, which knows what is wrong with it */
    return status < 0 ? 0 : status;
}

static int run_verb(const GradcTrainer *t, Words *w, GradcError *e) {
    const char *verb = w->verb;
    bool run = !strcmp(verb, "run");
    if (w->fit.threads) gradc_set_threads((int)(w->fit.threads < 4096 ? w->fit.threads : 4096));
    if (!run && w->nrest) return gradc_error(e, 601, "--help lists the options", "what is %.80s?", w->rest[0]);
    if (!strcmp(verb, "train")) {
        gradc_stop_on_signals(&w->fit);
        int status = gradc_fit(t, &w->fit, stdout, e);
        if (!status) gradc_stop_end(&w->fit);
        return status;
    }
    if (!strcmp(verb, "eval")) return gradc_evaluate(t, &w->fit, stdout, e);
    if (!run)
        return gradc_error(e, 601, "train, eval or run; --help says more",
                           *verb ? "there is no verb %.60s" : "what is to be done?%s", verb);
    GradcArgs a;
    int status = gradc_args_parse(&a, w->nrest, w->rest, e);
    if (status) return status;
    status = gradc_trainer_run(t, w->fit.params, &a, stdout, e);
    gradc_args_free(&a);
    return status;
}

int gradc_trainer_main(const GradcTrainer *t, int argc, char **argv) {
    gradc_calm_threads(argv);
    Words w = {.rest = calloc((size_t)argc + 1, sizeof *w.rest)};
    GradcError e = {0, "", ""};
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error of the write */
    int status = w.rest ? 0 : gradc_error(&e, 506, NULL, "out of memory");
    w.verb = argc > 1 && *argv[1] != '-' ? argv[1] : "";
    for (int i = *w.verb ? 2 : 1; !status && i < argc; i++) status = word(&w, argc, argv, &i, &e);
    if (!status) {
        if (w.help) help(t);
        else if (w.version) printf("%s %s\n", t->name, t->version);
        else status = run_verb(t, &w, &e);
    }
    if (!status && fflush(stdout)) status = gradc_error(&e, 106, NULL, "the answer cannot be printed");
    if (status) gradc_error_print(stderr, t->name, &e);
    free(w.rest);
    return status;
}
