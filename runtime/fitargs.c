/* The words of a training command line: one table for `gradc train`, `gradc eval` and executables that train. */
#include "fit.h"
#include <stdlib.h>
#include <string.h>

typedef enum Kind { TEXT, COUNT, REAL, SEED, FLAG } Kind;

#define O(name, value, kind, field, verbs, doc) {{name, value, verbs, doc}, kind, offsetof(GradcFit, field)}
static const struct { GradcFitOption pub; Kind kind; size_t at; } options[] = {
    O("data", "SPEC", TEXT, data, "train eval",
      "idx:DIR, cifar:DIR, npz:FILE, csv:FILE,label=COL, names:DIR, text:FILE, raw:... (`idx:DIR,test`: the test set)"),
    O("output", "FILE", TEXT, out, "train",
      "the trained parameters, and all that resuming needs (safetensors); also -o FILE"),
    O("params", "FILE", TEXT, params, "train eval run export attack saliency",
      "parameters to use, or to begin with (safetensors)"),
    O("valid", "SPEC", TEXT, valid, "train", "data for validation after each epoch"),
    O("valid-split", "PART", REAL, valid_split, "train", "this part of the data, the last, is for validation: 0.1"),
    O("epochs", "N", COUNT, epochs, "train", "how often all of the data is seen"),
    O("batch", "N", COUNT, batch, "train eval", "samples of a step"),
    O("lr", "X", REAL, rate, "train", "base learning rate"),
    O("seed", "N", SEED, seed, "train attack gradcheck", "of first values, order and dropout (0)"),
    O("max-steps", "N", COUNT, max_steps, "train", "end after so many steps"),
    O("early-stopping", "N", COUNT, early_stopping, "train", "end after N epochs without a better validation loss"),
    O("save-best", NULL, FLAG, save_best, "train", "keep the parameters of the best epoch too, in FILE.best"),
    O("save-every", "N", COUNT, save_every, "train", "a checkpoint after every N steps, besides those after epochs"),
    O("resume", NULL, FLAG, resume, "train", "go on from FILE, where its run stopped"),
    O("log", "DIR", TEXT, log, "train", "history.csv and TensorBoard's event files"),
    O("threads", "N", COUNT, threads, "train eval run", "how many threads (all); the answer's bits never depend on it"),
    O("json", NULL, FLAG, json, "train eval", "the answer as one JSON document"),
    O("quiet", NULL, FLAG, quiet, "train eval", "no progress; also -q"),
};
enum { OPTIONS = sizeof options / sizeof *options };

GradcFitOption gradc_fit_option_at(int i) { return i >= 0 && i < OPTIONS ? options[i].pub : (GradcFitOption){0}; }

bool gradc_fit_option_of(const char *verb, GradcFitOption o) {
    size_t n = strlen(verb);
    for (const char *v = o.verbs; v && *v; v += strcspn(v, " "), v += *v == ' ')
        if (!strncmp(v, verb, n) && (v[n] == ' ' || !v[n])) return true;
    return false;
}

static int count(const char *name, const char *v, int64_t least, int64_t *to, GradcError *e) {
    char *end;
    long long n = strtoll(v, &end, 10);
    if (end == v || *end || n < least)
        return gradc_error(e, 601, NULL, "--%s: \"%.60s\" is not a whole number from %lld on", name, v,
                           (long long)least);
    *to = n;
    return 0;
}

int gradc_fit_option(GradcFit *o, const char *verb, const char *name, const char *value, GradcError *e) {
    int i = 0, status = 0;
    while (i < OPTIONS && strcmp(options[i].pub.name, name)) i++;
    if (i == OPTIONS || !gradc_fit_option_of(verb, options[i].pub)) return -1;
    void *to = (char *)o + options[i].at;
    int64_t n = 0;
    float single;
    if (options[i].kind == FLAG) {
        if (value) return gradc_error(e, 601, NULL, "--%s takes no value", name);
        *(bool *)to = true;
        return 0;
    }
    if (!value) return gradc_error(e, 601, NULL, "--%s needs a value: %s", name, options[i].pub.value);
    switch (options[i].kind) {
    case TEXT: *(const char **)to = value; break;
    case COUNT: status = count(name, value, 1, to, e); break;
    case SEED:
        status = count(name, value, 0, &n, e);
        *(uint64_t *)to = (uint64_t)n;
        break;
    case REAL: {
        char *end;
        strtod(value, &end);
        *(double *)to = gradc_read_decimal(value, &single);
        if (end == value || *end || !(*(double *)to >= 0)) status = gradc_error(e, 601, NULL, "--%s: \"%.60s\" is not a number from 0 on", name, value);
        break;
    }
    case FLAG: break;
    }
    return status;
}
