/* The options: one table that gradc_option, the command line and its help read. The table itself is constant; what is set
   goes into the object. Values that only a model can judge (a dim's name) are looked at by the action. */
#include "session.h"
#include <limits.h>
#include <stdlib.h>

typedef struct Setting Setting;
struct Setting {
    const char *name, *value, *doc;
    /* NULL, or what would be right. */
    const char *(*set)(Settings *s, const char *value);
};

static bool number(const char *s, double most, double *out) {
    const char *end;
    if (*s < '0' || *s > '9') return false;
    *out = gd_strtod(s, &end);
    return end != s && !*end && *out <= most;
}

/* "512M", "2G", bytes. */
static bool size(const char *s, size_t *out) {
    char *end;
    if (*s < '0' || *s > '9') return false;
    unsigned long long v = strtoull(s, &end, 10);
    int shift = *end == 'K' || *end == 'k' ? 10 : *end == 'M' || *end == 'm' ? 20 : *end == 'G' || *end == 'g' ? 30 : 0;
    if (shift) end++;
    if (!strcmp(end, "iB") || !strcmp(end, "B")) end += strlen(end);
    if (*end || !v || v > (unsigned long long)LLONG_MAX >> shift) return false;
    *out = (size_t)v << shift;
    return true;
}

static int one_of(const char *v, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(v, names[i])) return i;
    return -1;
}

static const char *set_backend(Settings *s, const char *v) {
    static const char *const names[] = {"llvm", "c", "interp", NULL};
    s->backend = v;
    return one_of(v, names) < 0 ? "llvm, c or interp" : NULL;
}
static const char *set_target(Settings *s, const char *v) { s->target = v; return *v ? NULL : "native, or a name"; }
static const char *set_dim(Settings *s, const char *v) {
    if (s->ndims == MAX_LIST) return "at most 64 of them";
    s->dims[s->ndims++] = v;
    return strchr(v, '=') ? NULL : "NAME=8 or NAME=1..64";
}
static const char *set_static(Settings *s, const char *v) { (void)v; s->fixed = true; return NULL; }
static const char *set_symbolic(Settings *s, const char *v) { (void)v; s->symbolic = true; return NULL; }
static const char *set_opt(Settings *s, const char *v) {
    s->opt = *v - '0';
    return *v >= '0' && *v <= '3' && !v[1] ? NULL : "0, 1, 2 or 3";
}
static const char *set_numerics(Settings *s, const char *v) {
    static const char *const names[] = {"strict", "default", "fast", NULL};
    int i = one_of(v, names);
    if (i >= 0) s->numerics = (Numerics)i;
    return i < 0 ? "strict, default or fast" : NULL;
}
static const char *set_threads(Settings *s, const char *v) {
    double n;
    if (!number(v, 4096, &n) || n < 1 || n != (int)n) return "a number from 1 to 4096";
    s->threads = (int)n;
    return NULL;
}
static const char *set_weights(Settings *s, const char *v) {
    static const char *const names[] = {"embed", "object", "file", "extern", NULL};
    s->weights = one_of(v, names);
    return s->weights < 0 ? "embed, object, file or extern" : NULL;
}
static const char *set_prefix(Settings *s, const char *v) {
    bool ok = *v && strlen(v) <= 40 && (*v < '0' || *v > '9');
    for (const char *p = v; *p; p++)
        ok = ok && ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_');
    s->prefix = v;
    return ok ? NULL : "letters, digits and _, at most 40, no digit first";
}
static const char *set_memory(Settings *s, const char *v) {
    return size(v, &s->budget.max_bytes) ? NULL : "bytes, or 512M, 8G";
}
static const char *set_nodes(Settings *s, const char *v) {
    double n;
    if (!number(v, 1e15, &n) || n < 1) return "a number";
    s->budget.max_nodes = (int64_t)n;
    return NULL;
}
static const char *set_seconds(Settings *s, const char *v) {
    return number(v, 1e9, &s->budget.max_seconds) && s->budget.max_seconds > 0 ? NULL : "seconds";
}
static const char *set_stop(Settings *s, const char *v) { s->stop_after = v; return NULL; }
static const char *set_print(Settings *s, const char *v) { s->print_after = v; return NULL; }
static const char *set_dump(Settings *s, const char *v) { s->dump_dir = v; return *v ? NULL : "a directory"; }
static const char *set_time(Settings *s, const char *v) { (void)v; s->time_passes = true; return NULL; }
static const char *set_profile(Settings *s, const char *v) { (void)v; s->profile = true; return NULL; }

/* ---- training ---- */

static const char *set_loss(Settings *s, const char *v) { s->train.loss = v; return *v ? NULL : "a name"; }
static const char *set_optimizer(Settings *s, const char *v) { s->train.optimizer = v; return *v ? NULL : "a name"; }
static const char *set_schedule(Settings *s, const char *v) { s->train.schedule = v; return *v ? NULL : "a name"; }
static const char *set_output(Settings *s, const char *v) { s->train.output = v; return *v ? NULL : "a name"; }
static const char *add_to(const char **list, int *n, const char *v) {
    if (*n == MAX_LIST) return "at most 64 of them";
    list[(*n)++] = v;
    return *v ? NULL : "a name";
}
static const char *set_metrics(Settings *s, const char *v) { return add_to(s->train.metrics, &s->train.nmetrics, v); }
static const char *set_freeze(Settings *s, const char *v) { return add_to(s->train.freeze, &s->train.nfreeze, v); }
static const char *set_semantics(Settings *s, const char *v) {
    static const char *const names[] = {"keras", "torch", NULL};
    int i = one_of(v, names);
    s->train.torch = i ? 1 : -1;
    return i < 0 ? "keras or torch" : NULL;
}
static const char *set_strict(Settings *s, const char *v) { (void)v; s->train.strict = true; return NULL; }
static const char *count(const char *v, int64_t *to) {
    double n;
    if (!number(v, 1e9, &n) || n < 1 || n != (double)(int64_t)n) return "a number from 1 on";
    *to = (int64_t)n;
    return NULL;
}
static const char *set_params(Settings *s, const char *v) { return *v ? (s->params = v, NULL) : "a file"; }
static const char *set_batch(Settings *s, const char *v) { return count(v, &s->train.batch); }
static const char *set_accumulate(Settings *s, const char *v) { return count(v, &s->train.accumulate); }
static const char *positive(const char *v, double *to) { return number(v, 1e30, to) && *to > 0 ? NULL : "a number above 0"; }
static const char *set_clip_value(Settings *s, const char *v) { return positive(v, &s->train.clip_value); }
static const char *set_clip_norm(Settings *s, const char *v) { return positive(v, &s->train.clip_norm); }
static const char *set_clip_global(Settings *s, const char *v) { return positive(v, &s->train.clip_global); }
static const char *set_part(Settings *s, const char *v) {
    for (int i = TP_STEP; i < TP_PARTS; i++)
        if (!strcmp(v, gd_train_parts[i])) s->train.part = (TrainPart)i;
    return s->train.part ? NULL : "step, eval, run or input-grad";
}

static const Setting settings[] = {
    {"backend", "NAME", "llvm, c or interp: who makes the code (llvm; c where that is missing)", set_backend},
    {"target", "NAME", "native, generic, x86-64-v2, x86-64-v3, x86-64-v4, aarch64, or an LLVM triple", set_target},
    {"dim", "NAME=SIZE", "fix an open dim (N=8) or bound it (N=1..64)", set_dim},
    {"static", NULL, "every open dim is 1", set_static},
    {"symbolic", NULL, "every dim of an input is open", set_symbolic},
    {"opt", "0..3", "how hard to optimise; also -O0 to -O3 (3)", set_opt},
    {"numerics", "GRADE", "strict, default or fast: how exact", set_numerics},
    {"threads", "N", "how many threads (all); the answer's bits never depend on it", set_threads},
    {"weights", "PLACE", "embed, object, file or extern: where emitted constants live", set_weights},
    {"prefix", "NAME", "the C identifier that emitted names start with", set_prefix},
    {"params", "FILE", "values of the model's parameters: safetensors, as training writes them", set_params},
    {"max-memory", "BYTES", "what compiling may use: 512M, 8G (8G)", set_memory},
    {"max-nodes", "N", "largest graph (1000000)", set_nodes},
    {"max-seconds", "S", "longest compilation", set_seconds},
    {"stop-after", "PASS", "end the pipeline there", set_stop},
    {"print-after", "PASS", "print the IR after a pass, after all, or when changed", set_print},
    {"dump-ir", "DIR", "write the IR after every pass into DIR, numbered", set_dump},
    {"time-passes", NULL, "print how long each pass took", set_time},
    {"profile", NULL, "count calls and time of every nest", set_profile},
    {"part", "PROGRAM", "look at a program of training: step, eval, run or input-grad", set_part},
    {"loss", "RECIPE", "what to minimise, over what the description says: \"huber delta=2\"", set_loss},
    {"optimizer", "RECIPE", "how: \"adam lr=1e-3\"", set_optimizer},
    {"schedule", "RECIPE", "of the learning rate: \"cosine steps=1000\"", set_schedule},
    {"metrics", "RECIPE", "what to report besides the loss; may be said again", set_metrics},
    {"semantics", "WHOSE", "keras or torch: whose defaults and formulas", set_semantics},
    {"batch", "N", "samples of a step", set_batch},
    {"accumulate", "N", "steps whose gradients' mean makes one update", set_accumulate},
    {"freeze", "PATTERN", "parameters that stay as they are; may be said again", set_freeze},
    {"clip-value", "X", "gradients' elements stay within -X and X", set_clip_value},
    {"clip-norm", "X", "each gradient's norm is at most X", set_clip_norm},
    {"clip-global", "X", "the norm of all gradients together is at most X", set_clip_global},
    {"loss-output", "NAME", "the output that the loss is about (the first)", set_output},
    {"strict-loss", NULL, "no logits form of softmax followed by cross-entropy", set_strict},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

typedef struct Option { Gradc *g; const char *name, *value; } Option;

static bool skip_pass(Ctx *c, Option *o) {
    Settings *s = &o->g->set;
    if (strncmp(o->name, "no-", 3)) return false;
    const Pass *p = pass_named(o->name + 3);
    if (!p) return false;
    if (o->value) gd_fail(c, 601, NULL, "--%s takes no value", o->name);
    if (p->opt == ALWAYS) gd_fail(c, 601, "only optional passes can be left out", "--%s: what follows needs this pass", o->name);
    if (s->nskip == MAX_LIST) gd_fail(c, 601, NULL, "--%s: too many of them", o->name);
    s->skip[s->nskip++] = p->name;
    return true;
}

static void set_option(Ctx *c, void *arg) {
    Option *o = arg;
    int i = 0;
    while (i < SETTINGS && strcmp(settings[i].name, o->name)) i++;
    if (i == SETTINGS && skip_pass(c, o)) return;
    const char *name = gd_escape(c, o->name, strlen(o->name));
    if (i == SETTINGS) gd_fail(c, 601, "--help lists the options", "there is no option --%s", name);
    if (settings[i].value && !o->value) gd_fail(c, 601, NULL, "--%s needs a value: %s", name, settings[i].value);
    if (!settings[i].value && o->value) gd_fail(c, 601, NULL, "--%s takes no value", name);
    const char *kept = o->value ? session_keep(o->g, o->value) : NULL;
    if (o->value && !kept) gd_fail(c, 506, NULL, "out of memory");
    Settings trial = o->g->set;
    const char *right = settings[i].set(&trial, kept);
    if (right) gd_fail(c, 601, right, "--%s: \"%s\" will not do", name, gd_escape(c, kept, strlen(kept)));
    o->g->set = trial;
}

int gradc_option(Gradc *g, const char *name, const char *value) {
    return session_run(g, set_option, &(Option){g, name, value});
}

GradcOptionInfo gradc_option_at(int i) {
    if (i < 0 || i >= SETTINGS) return (GradcOptionInfo){0};
    return (GradcOptionInfo){settings[i].name, settings[i].value, settings[i].doc};
}

GradcPassInfo gradc_pass_at(int i) {
    if (i < 0 || i >= gd_pass_count) return (GradcPassInfo){0};
    const Pass *p = &gd_passes[i];
    return (GradcPassInfo){p->name, p->doc, (int)p->level, p->opt == ALWAYS ? 0 : p->opt, p->opt != ALWAYS};
}
