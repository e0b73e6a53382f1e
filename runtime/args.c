/* The command line of an emitted executable as words, not yet held against a program: what is an option, what
   is a value. Terminates: each turn consumes at least one word. */
#include "program.h"
#include <stdlib.h>
#include <string.h>

static const char help_line[] = "--help lists the inputs, the outputs and the options";

static bool digit(char c) { return c >= '0' && c <= '9'; }
/* -3, -.5 and -inf are values. */
static bool is_option(const char *word) {
    return word[0] == '-' && !digit(word[1]) && word[1] != '.' && strncmp(word, "-inf", 4) &&
           strncmp(word, "-nan", 4);
}

static int positive(const char *option, const char *text, int *to, GradcError *e) {
    long v = 0;
    const char *p = text;
    for (; digit(*p) && v < 1000000; p++) v = v * 10 + (*p - '0');
    if (p == text || *p || v < 1 || v > 1000000)
        return gradc_error(e, 601, NULL, "%s: \"%.60s\" is not a number from 1 to 1000000", option, text);
    *to = (int)v;
    return 0;
}

static const struct { const char *name; bool has_value; } options[] = {
    {"--dim", true}, {"--out", true}, {"--threads", true}, {"--repeat", true},
    {"--time", false}, {"--help", false}, {"-h", false}, {"--version", false},
};
enum { DIM, OUT, THREADS, REPEAT, TIME, HELP, H, VERSION, OPTIONS };

static int set_option(GradcArgs *a, int option, const char *value, GradcError *e) {
    switch (option) {
    case DIM: a->dims[a->ndims++] = value; return 0;
    case OUT: a->out = value; return *value ? 0 : gradc_error(e, 601, NULL, "--out: the directory is empty");
    case THREADS: return positive("--threads", value, &a->threads, e);
    case REPEAT: return positive("--repeat", value, &a->repeat, e);
    case TIME: a->time = true; return 0;
    case VERSION: a->version = true; return 0;
    default: a->help = true; return 0;
    }
}

/* `--name value` or `--name=value`; *i is at the option and ends at its last word. */
static int read_option(GradcArgs *a, int argc, char **argv, int *i, GradcError *e) {
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    int option = 0;
    while (option < OPTIONS && (strlen(options[option].name) != n || strncmp(options[option].name, word, n)))
        option++;
    if (option == OPTIONS) return gradc_error(e, 601, help_line, "unknown option %.60s", word);
    if (!options[option].has_value)
        return equals ? gradc_error(e, 601, help_line, "%s takes no value", options[option].name)
                      : set_option(a, option, "", e);
    if (!equals && *i + 1 == argc) return gradc_error(e, 601, help_line, "%s needs a value", word);
    return set_option(a, option, equals ? equals + 1 : argv[++*i], e);
}

int gradc_args_parse(GradcArgs *a, int argc, char **argv, GradcError *e) {
    bool only_values = false;
    int status = 0;
    memset(a, 0, sizeof *a);
    a->values = calloc((size_t)argc + 1, sizeof *a->values);
    a->dims = calloc((size_t)argc + 1, sizeof *a->dims);
    if (!a->values || !a->dims) status = gradc_error(e, 506, NULL, "out of memory");
    for (int i = 0; !status && i < argc; i++) {
        if (only_values || !is_option(argv[i])) a->values[a->nvalues++] = argv[i];
        else if (!strcmp(argv[i], "--")) only_values = true;
        else status = read_option(a, argc, argv, &i, e);
    }
    if (status) gradc_args_free(a);
    return status;
}

void gradc_args_free(GradcArgs *a) {
    free(a->values);
    free(a->dims);
    memset(a, 0, sizeof *a);
}
