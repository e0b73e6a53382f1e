/* The words of a training command line: one table for `gradc train`, `gradc eval` and executables that train. */
#include "fit.h"
#include <stdlib.h>
#include <string.h>

typedef enum Kind { TEXT, COUNT, REAL, SEED, FLAG } Kind;

static const struct { GradcFitOption pub; Kind kind; size_t at; } options[] = {
#define O(name, value, verbs, kind, field, doc) {{name, value, verbs, doc}, kind, offsetof(GradcFit, field)}
    O("data", "SPEC", "train eval", TEXT, data, "idx:DIR, cifar:DIR, npz:FILE, csv:FILE,label=COL, names:DIR, text:FILE, raw:... (`idx:DIR,test`: the test set)"),
    O("output", "FILE", "train", TEXT, out, "the trained parameters, and all that resuming needs (safetensors); also -o FILE"),
    O("params", "FILE", "train eval run export", TEXT, params, "parameters to use, or to begin with (safetensors)"),
    O("valid", "SPEC", "train", TEXT, valid, "data for validation after each epoch"),
    O("valid-split", "PART", "train", REAL, valid_split, "this part of the data, the last, is for validation: 0.1"),
    O("epochs", "N", "train", COUNT, epochs, "how often all of the data is seen"),
    O("batch", "N", "train eval", COUNT, batch, "samples of a step"),
    O("lr", "X", "train", REAL, rate, "base learning rate"),
    O("seed", "N", "train", SEED, seed, "of first values, order and dropout (0)"),
    O("max-steps", "N", "train", COUNT, max_steps, "end after so many steps"),
    O("early-stopping", "N", "train", COUNT, early_stopping, "end after N epochs without a better validation loss"),
    O("save-best", NULL, "train", FLAG, save_best, "keep the parameters of the best epoch too, in FILE.best"),
    O("save-every", "N", "train", COUNT, save_every, "a checkpoint after every N steps, besides those after epochs"),
    O("resume", NULL, "train", FLAG, resume, "go on from FILE, where its run stopped"),
    O("log", "DIR", "train", TEXT, log, "history.csv and TensorBoard's event files"),
    O("json", NULL, "train eval", FLAG, json, "the answer as one JSON document"),
    O("quiet", NULL, "train eval", FLAG, quiet, "no progress; also -q"),
#undef O
};
enum { OPTIONS = sizeof options / sizeof *options };

GradcFitOption gradc_fit_option_at(int i) { return i >= 0 && i < OPTIONS ? options[i].pub : (GradcFitOption){0}; }

static int count(const char *name, const char *v, int64_t least, int64_t *to, GradcError *e) {
    char *end;
    long long n = strtoll(v, &end, 10);
    if (end == v || *end || n < least) return gradc_error(e, 601, NULL, "--%s: \"%.60s\" is not a whole number from %lld on", name, v, (long long)least);
    *to = n;
    return 0;
}

int gradc_fit_option(GradcFit *o, const char *name, const char *value, GradcError *e) {
    int i = 0, status = 0;
    while (i < OPTIONS && strcmp(options[i].pub.name, name)) i++;
    if (i == OPTIONS) return -1;
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
