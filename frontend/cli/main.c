/* The command line: words to options and verbs. Everything it does goes through gradc.h. One table of verbs, one of the
   options that are not the library's. Terminates: each turn consumes a word. */
#define _GNU_SOURCE
#include "cli.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct { const char *name, *words, *doc; Verb *run; bool json, model; } verbs[] = {
    {"compile", "MODEL -o OUT", "write native code, C or LLVM code", cli_compile, false, true},
    {"run", "MODEL NAME=VALUE ...", "compile in process, run once, print the outputs", cli_run, false, true},
    {"verify", "MODEL [DIR ...]", "compare with test data, or all back ends with one another", cli_verify, true, true},
    {"bench", "MODEL [NAME=VALUE ...]", "measure", cli_bench, true, true},
    {"inspect", "MODEL", "inputs, outputs, sizes, work, ops", cli_inspect, true, true},
    {"check", "MODEL", "everything that would stop compilation", cli_check, true, true},
    {"ir", "MODEL", "print what the compiler makes of it", cli_ir, false, true},
    {"train", "MODEL --data SPEC -o FILE", "train the model on data", cli_train, true, true},
    {"eval", "MODEL --data SPEC --params FILE", "loss and metrics over all of the data", cli_eval, true, true},
    {"export", "MODEL --params FILE -o OUT.onnx", "write the trained model as ONNX, for inference", cli_export, false, true},
    {"attack", "fgsm|pgd MODEL NAME=VALUE ... --params FILE", "change an input a little so that the loss rises", cli_attack, false, true},
    {"gradcheck", "MODEL [NAME=VALUE ...]", "the gradients it derives against differences in double", cli_gradcheck, true, true},
    {"saliency", "MODEL NAME=VALUE ... --params FILE -o MAP.png", "a map of what the loss depends on in an image", cli_saliency, false, true},
    {"ops", "[OP]", "the op table", cli_ops, true, false},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* Options of verbs; the library has its own. */
typedef enum Own { OUT, OUT_DIR, EMIT, TRAIN, SAMPLES, EPS, STEPS, AFTER, ALL, CHANGED, FULL, DATA, SECONDS, RTOL, ATOL, REPEAT, TIME, JSON, QUIET, VERBOSE, COLOR,
                   HELP, VERSION, OWNS } Own;
static const struct { const char *name, *value, *verbs, *doc; } owns[OWNS] = {
    [TRAIN] = {"train", NULL, "compile check", "as a model that trains (compile: an executable with the verbs train, eval and run, or sources with that API)"},
    [SAMPLES] = {"samples", "N", "gradcheck", "elements of a tensor that are compared at most (64)"},
    [EPS] = {"eps", "X", "attack", "how far an element may move (0.1)"},
    [STEPS] = {"steps", "N", "attack", "of pgd (10)"},
    [OUT] = {"output", "OUT", "compile train export saliency", "the file to write (a directory with --emit c); also -o OUT"},
    [OUT_DIR] = {"out", "DIR", "run attack", "write the outputs to DIR/NAME.npy instead of printing them"},
    [EMIT] = {"emit", "KIND", "compile", "exe, c, so, obj, asm, ll or bc (exe, or by OUT's suffix)"},
    [AFTER] = {"after", "PASS", "ir", "the IR after PASS"},
    [ALL] = {"all", NULL, "ir", "the IR after every pass"},
    [CHANGED] = {"changed", NULL, "ir", "the IR after every pass that changed it"},
    [FULL] = {"full", NULL, "ir", "with the constants' data: can be read again as .gir or .lir"},
    [DATA] = {"data", "DIR", "bench train eval", "inputs from DIR: NAME.npy or input_K.pb; a SPEC for train and eval: idx:DIR, csv:FILE,label=COL ..."},
    [SECONDS] = {"seconds", "S", "bench", "how long to measure (3)"},
    [RTOL] = {"rtol", "X", "verify gradcheck", "relative tolerance (1e-3; of gradients 1e-6)"},
    [ATOL] = {"atol", "X", "verify gradcheck", "absolute tolerance (1e-7; of gradients 1e-9)"},
    [REPEAT] = {"repeat", "K", "run", "run K times"},
    [TIME] = {"time", NULL, "run", "print how long the runs took, on stderr"},
    [JSON] = {"json", NULL, NULL, "the answer as one JSON document"},
    [QUIET] = {"quiet", NULL, NULL, "no progress; also -q"},
    [VERBOSE] = {"verbose", NULL, NULL, "say more, on stderr; also -v"},
    [COLOR] = {"color", "WHEN", NULL, "auto, always or never"},
    [HELP] = {"help", NULL, NULL, "this text; also -h"},
    [VERSION] = {"version", NULL, NULL, "the version"},
};

/* ---- problems ---- */

static void print_problem(const Cli *c, int code, const char *text, const char *help) {
    fflush(stdout);
    if (c->color) fprintf(stderr, "gradc: \033[1;31merror[E%04d]\033[0m: %s\n", code, text);
    else fprintf(stderr, "gradc: error[E%04d]: %s\n", code, text);
    if (help && *help) fprintf(stderr, "  help: %s\n", help);
}

int cli_problems(const Cli *c, int status) {
    for (int i = 0; status && i < gradc_problem_count(c->g); i++) {
        GradcProblem p = gradc_problem(c->g, i);
        print_problem(c, p.code, p.text, p.help);
    }
    fputs(gradc_times(c->g), stderr);
    return status;
}

int cli_error(const Cli *c, const GradcError *e) {
    print_problem(c, e->code, e->text, e->help);
    return gradc_error_status(e->code);
}

int cli_fail(const Cli *c, int code, const char *help, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    print_problem(c, code, text, help);
    return gradc_error_status(code);
}

/* ---- help ---- */

static bool word_in(const char *list, const char *word) {
    size_t n = strlen(word);
    for (; list && *list; list += strcspn(list, " "), list += *list == ' ')
        if (!strncmp(list, word, n) && (list[n] == ' ' || !list[n])) return true;
    return false;
}

static void help_option(const char *name, const char *value, const char *doc) {
    char left[64];
    snprintf(left, sizeof left, "--%s%s%s", name, value ? " " : "", value ? value : "");
    printf("  %-22s %s\n", left, doc);
}

/* Has the option another line in a help text already? */
static bool listed_elsewhere(const char *name) {
    GradcOptionInfo o;
    for (int i = 0; i < OWNS; i++)
        if (!strcmp(owns[i].name, name)) return true;
    for (int i = 0; (o = gradc_option_at(i)).name; i++)
        if (!strcmp(o.name, name)) return true;
    return false;
}

static void help_common(void) {
    GradcOptionInfo o;
    puts("\noptions");
    for (int i = 0; (o = gradc_option_at(i)).name; i++) help_option(o.name, o.value, o.doc);
    for (int i = 0; i < OWNS; i++)
        if (!owns[i].verbs) help_option(owns[i].name, owns[i].value, owns[i].doc);
    puts("\npasses, in order, with the lowest level that runs them; --no-NAME leaves one of those out");
    GradcPassInfo p;
    for (int i = 0; (p = gradc_pass_at(i)).name; i++) {
        if (p.optional) printf("  -O%d  %-14s %s\n", p.lowest_opt, p.name, p.doc);
        else printf("       %-14s %s\n", p.name, p.doc);
    }
}

static int help(const char *verb) {
    int v = 0;
    while (verb && v < VERBS && strcmp(verbs[v].name, verb)) v++;
    if (verb && v < VERBS) {
        printf("usage: gradc %s %s [options]\n\n%s\n", verbs[v].name, verbs[v].words, verbs[v].doc);
        bool any = false;
        for (int i = 0; i < OWNS; i++) {
            if (!word_in(owns[i].verbs, verb)) continue;
            if (!any) printf("\noptions of %s\n", verb);
            any = true;
            help_option(owns[i].name, owns[i].value, owns[i].doc);
        }
        for (int i = 0; gradc_fit_option_at(i).name; i++) {
            GradcFitOption o = gradc_fit_option_at(i);
            if (!gradc_fit_option_of(verb, o) || listed_elsewhere(o.name)) continue;
            if (!any) printf("\noptions of %s\n", verb);
            any = true;
            help_option(o.name, o.value, o.doc);
        }
        help_common();
        return 0;
    }
    puts("usage: gradc VERB MODEL [options]\n\nverbs");
    for (int i = 0; i < VERBS; i++) printf("  %-8s %-24s %s\n", verbs[i].name, verbs[i].words, verbs[i].doc);
    puts("\nMODEL is a file, or - for the standard input: .onnx, .onnxtxt (ONNX text), .model (docs/model.md),\n"
         ".gir (graph IR), .lir (loop IR)\n"
         "`gradc VERB --help` lists the options");
    return 0;
}

/* ---- words ---- */

static int real(const Cli *c, const char *name, const char *value, double *out) {
    float single;
    char *end;
    strtod(value, &end);
    *out = gradc_read_decimal(value, &single);
    if (*value && !*end && *out >= 0 && strlen(value) < 400) return 0;
    return cli_fail(c, 601, NULL, "--%s: \"%.60s\" is not a number", name, value);
}

static int set_own(Cli *c, Own o, const char *v) {
    double n;
    switch (o) {
    case OUT: case OUT_DIR: c->out = v; return *v ? 0 : cli_fail(c, 601, NULL, "the output has no name");
    case EMIT: c->emit = v; return 0;
    case AFTER: c->after = v; return 0;
    case TRAIN: c->train = true; return 0;
    case SAMPLES:
        if (real(c, "samples", v, &n)) return 2;
        c->samples = n >= 1 && n <= 1e9 ? (int64_t)n : 0;
        return c->samples ? 0 : cli_fail(c, 601, NULL, "--samples: a number from 1 to 1000000000");
    case EPS: return real(c, "eps", v, &c->eps);
    case STEPS:
        if (real(c, "steps", v, &n)) return 2;
        c->steps = n >= 1 && n <= 1e6 ? (int)n : 0;
        return c->steps ? 0 : cli_fail(c, 601, NULL, "--steps: a number from 1 to 1000000");
    case ALL: c->all = true; return 0;
    case CHANGED: c->changed = true; return 0;
    case FULL: c->full = true; return 0;
    case DATA: c->data = v; return 0;
    case SECONDS: return real(c, "seconds", v, &c->seconds);
    case RTOL: return real(c, "rtol", v, &c->rtol);
    case ATOL: return real(c, "atol", v, &c->atol);
    case REPEAT:
        if (real(c, "repeat", v, &n)) return 2;
        c->repeat = n >= 1 && n <= 1e6 ? (int)n : 0;
        return c->repeat ? 0 : cli_fail(c, 601, NULL, "--repeat: a number from 1 to 1000000");
    case TIME: c->time = true; return 0;
    case JSON: c->json = true; return 0;
    case QUIET: c->quiet = true; return 0;
    case VERBOSE: c->verbose = true; return 0;
    case COLOR:
        if (strcmp(v, "auto")) c->color = !strcmp(v, "always");
        return !strcmp(v, "auto") || !strcmp(v, "always") || !strcmp(v, "never")
                   ? 0 : cli_fail(c, 601, "auto, always or never", "--color: \"%.60s\" will not do", v);
    case HELP: exit(help(c->verb));
    case VERSION: printf("gradc %s\n", gradc_version()); exit(0);
    case OWNS: break;
    }
    return 0;
}

/* Does the option take a word? Unknown ones do not: the library names them in its error. */
static bool takes_value(const char *name, Own own) {
    GradcOptionInfo o;
    if (own < OWNS) return owns[own].value != NULL;
    for (int i = 0; gradc_fit_option_at(i).name; i++)
        if (!strcmp(gradc_fit_option_at(i).name, name)) return gradc_fit_option_at(i).value != NULL;
    for (int i = 0; (o = gradc_option_at(i)).name; i++)
        if (!strcmp(o.name, name)) return o.value != NULL;
    return false;
}

/* An option of a verb about training; -1: none of them. Batch and threads are the compiler's business too. */
static int fit_option(Cli *c, const char *name, const char *value) {
    GradcError e;
    int status = c->verb ? gradc_fit_option(&c->fit, c->verb, name, value, &e) : -1;
    if (status > 0) return cli_error(c, &e);
    return !status && (!strcmp(name, "batch") || !strcmp(name, "threads")) ? -1 : status;
}

static int option(Cli *c, const char *name, const char *value) {
    Own own = 0;
    while (own < OWNS && strcmp(owns[own].name, name)) own++;
    if (own < OWNS && owns[own].verbs && c->verb && !word_in(owns[own].verbs, c->verb))
        return cli_fail(c, 601, "gradc VERB --help lists the options", "%s has no option --%s", c->verb, name);
    if (own < OWNS && owns[own].value && !value) return cli_fail(c, 601, NULL, "--%s needs a value: %s", name, owns[own].value);
    if (own < OWNS && !owns[own].value && value) return cli_fail(c, 601, NULL, "--%s takes no value", name);
    if (own < OWNS) return set_own(c, own, value);
    int status = fit_option(c, name, value);
    if (status >= 0) return status;
    if (!strcmp(name, "backend")) c->backend = value;
    if (!strcmp(name, "threads")) c->threads = value;
    if (!strcmp(name, "profile")) c->profile = true;
    return cli_problems(c, gradc_option(c->g, name, value));
}

static int long_option(Cli *c, int argc, char **argv, int *i) {
    char name[64];
    const char *word = argv[*i] + 2, *equals = strchr(word, '='), *value = equals ? equals + 1 : NULL;
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    if (n >= sizeof name) return cli_fail(c, 601, NULL, "there is no option %.80s", argv[*i]);
    memcpy(name, word, n);
    name[n] = 0;
    Own own = 0;
    while (own < OWNS && strcmp(owns[own].name, name)) own++;
    if (!value && takes_value(name, own) && *i + 1 < argc) value = argv[++*i];
    return option(c, name, value);
}

static int short_option(Cli *c, int argc, char **argv, int *i) {
    const char *w = argv[*i];
    if (w[1] == 'O' && w[2]) return option(c, "opt", w + 2);
    if (w[1] == 'o' && w[2]) return option(c, "output", w + 2);
    if (!strcmp(w, "-o")) return option(c, "output", *i + 1 < argc ? argv[++*i] : NULL);
    if (!strcmp(w, "-q")) return option(c, "quiet", NULL);
    if (!strcmp(w, "-v")) return option(c, "verbose", NULL);
    if (!strcmp(w, "-h")) return option(c, "help", NULL);
    return cli_fail(c, 601, "gradc --help lists the options", "there is no option %.60s", w);
}

static int verb_index(const char *name) {
    int v = 0;
    while (v < VERBS && strcmp(verbs[v].name, name)) v++;
    return v;
}

/* -3 and -.5 are values. */
static bool is_option(const char *w) { return w[0] == '-' && w[1] && !strchr("0123456789.", w[1]) && strncmp(w, "-inf", 4); }

static int sort_words(Cli *c, int argc, char **argv) {
    bool only_words = false;
    int status = 0;
    for (int i = 1; i < argc && !c->verb; i++) /* options may stand before the verb, but need to know it */
        if (!is_option(argv[i]) && verb_index(argv[i]) < VERBS) c->verb = argv[i];
    const char *verb = c->verb;
    if (verb && !strcmp(verb, "gradcheck")) c->rtol = 1e-6, c->atol = 1e-9;
    for (int i = 1; i < argc && !status; i++) {
        const char *w = argv[i];
        if (!only_words && !strcmp(w, "--")) only_words = true;
        else if (!only_words && is_option(w)) status = w[1] == '-' ? long_option(c, argc, argv, &i) : short_option(c, argc, argv, &i);
        else if (verb && w == verb) verb = NULL;
        else if (verb || !c->verb) status = !strcmp(w, "help") ? (exit(help(i + 1 < argc ? argv[i + 1] : NULL)), 0)
                           : cli_fail(c, 601, "gradc --help lists the verbs", "there is no verb %.60s", w);
        else if (!c->model) c->model = w;
        else c->words[c->nwords++] = w;
    }
    return status;
}

static int run_verb(Cli *c) {
    if (!c->verb) {
        help(NULL);
        return gradc_error_status(601);
    }
    int v = verb_index(c->verb);
    if (verbs[v].run == cli_attack && c->model && (!strcmp(c->model, "fgsm") || !strcmp(c->model, "pgd"))) {
        c->method = c->model;
        c->model = c->nwords ? c->words[0] : NULL;
        if (c->nwords) memmove(c->words, c->words + 1, (size_t)--c->nwords * sizeof *c->words);
    }
    if (c->json && !verbs[v].json) return cli_fail(c, 601, NULL, "%s has no option --json", c->verb);
    if (verbs[v].model && !c->model)
        return cli_fail(c, 601, "gradc VERB --help", "%s needs a model: gradc %s %s", c->verb, c->verb, verbs[v].words);
    if (verbs[v].run == cli_compile || verbs[v].run == cli_bench || verbs[v].run == cli_verify || verbs[v].run == cli_gradcheck) cli_progress(c);
    if (verbs[v].model) {
        int status = cli_problems(c, gradc_load(c->g, c->model));
        if (status) return status;
    }
    return verbs[v].run(c);
}

int main(int argc, char **argv) {
    Cli c = {.g = gradc_open(), .seconds = 3, .eps = .1, .rtol = 1e-3, .atol = 1e-7, .samples = 64};
    const char *plain = getenv("NO_COLOR");
    gradc_calm_threads(argv);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error of the write */
    c.color = isatty(2) && !(plain && *plain);
    c.words = calloc((size_t)argc + 1, sizeof *c.words);
    int status = c.g && c.words ? sort_words(&c, argc, argv) : cli_fail(&c, 506, NULL, "out of memory");
    if (!status) status = run_verb(&c);
    if (fflush(stdout) || ferror(stdout)) status = status ? status : cli_fail(&c, 106, NULL, "stdout: %s", strerror(errno));
    free(c.words);
    gradc_close(c.g);
    return status;
}
