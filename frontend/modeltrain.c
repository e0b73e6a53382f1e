/* The train block of a model description: lines of `key value...`, most of them recipes (ir/train.h), up to the end of the
   text or a closing brace. */
#include "model.h"

/* The rest of the line, without its comment. */
static const char *rest(Desc *d) {
    const char *s = model_peek(d)->s, *end = s;
    if (model_line_ends(d)) return "";
    while (!model_line_ends(d)) {
        end = model_peek(d)->s + model_peek(d)->n;
        d->at++;
    }
    return gd_strndup(d->c, s, (size_t)(end - s));
}

static void recipe(Desc *d, const char *text, const Tok *at, const char *kind, Recipe *r) {
    const char *what;
    size_t where;
    if (recipe_parse(d->c, text, r, &what, &where)) return;
    Tok there = *at;
    there.s += where;
    model_error(d, &there, 104, NULL, "%s: %s is expected", kind, what);
}

/* accuracy, top_k k=5: arguments belong to the name before them. */
static void metrics(Desc *d, TrainSpec *t) {
    while (!d->failed && !model_line_ends(d)) {
        const Tok *first = model_peek(d);
        const char *end = first->s;
        if (model_take(d, ",")) continue;
        do {
            end = model_peek(d)->s + model_peek(d)->n;
            d->at++;
            bool named = model_is(d, "=") || model_is(d, "-") || model_is(d, ".");
            const Tok *next = model_peek(d);
            named |= d->at > 0 && d->t[d->at - 1].kind == TK_PUNCT;
            named |= next->kind == TK_WORD && next[1].kind == TK_PUNCT && !strcmp(next[1].text, "=");
            if (!named) break;
        } while (!model_line_ends(d) && !model_is(d, ","));
        Recipe r;
        recipe(d, gd_strndup(d->c, first->s, (size_t)(end - first->s)), first, "metric", &r);
        if (!d->failed) vec_push(d->c, &t->metrics, r);
    }
}

static int64_t count(Desc *d, const char *what) {
    const Tok *t = model_peek(d);
    if (t->kind == TK_NUMBER && t->whole && t->v >= 1) {
        d->at++;
        return (int64_t)t->v;
    }
    model_expected(d, gd_format(d->c, "a whole number for %s", what));
    return 0;
}

static double number(Desc *d, const char *what) {
    const Tok *t = model_peek(d);
    if (t->kind == TK_NUMBER) {
        d->at++;
        return t->v;
    }
    model_expected(d, gd_format(d->c, "a number for %s", what));
    return 0;
}

/* clip norm=1.0, value=.5, global=1 */
static void clip(Desc *d, TrainSpec *t) {
    static const char *const kinds[] = {"norm", "value", "global"};
    double *to[] = {&t->clip_norm, &t->clip_value, &t->clip_global};
    while (!d->failed && !model_line_ends(d)) {
        if (model_take(d, ",")) continue;
        int i = 0;
        while (i < 3 && !model_is(d, kinds[i])) i++;
        if (i == 3) { model_expected(d, "norm, value or global"); return; }
        d->at++;
        model_take(d, "=");
        *to[i] = number(d, "clip");
    }
}

/* Names of parameters with * and ?, which are no tokens: as far as blanks and commas. */
static const char *pattern(Desc *d) {
    const char *s = model_peek(d)->s, *p = s, *end = d->text + d->ntext;
    if (model_peek(d)->kind == TK_STRING) return d->t[d->at++].text;
    while (p < end && !strchr(" \t\r\n,;#{}", *p)) p++;
    if (p == s) model_expected(d, "a name of parameters");
    while (model_peek(d)->kind != TK_END && model_peek(d)->kind != TK_LINE && model_peek(d)->s < p) d->at++;
    return gd_strndup(d->c, s, (size_t)(p - s));
}

/* group *.bias rate=2 decay=0 */
static void group(Desc *d, TrainSpec *t) {
    ParamGroup g = {.pattern = pattern(d), .rate = 1, .decay = __builtin_nan("")};
    while (!d->failed && !model_line_ends(d)) {
        bool rate = model_is(d, "rate");
        if (model_take(d, ",")) continue;
        if (!rate && !model_is(d, "decay")) { model_expected(d, "rate or decay"); return; }
        d->at++;
        if (!model_want(d, "=")) return;
        *(rate ? &g.rate : &g.decay) = number(d, "group");
    }
    if (!d->failed) vec_push(d->c, &t->groups, g);
}

static void frozen(Desc *d, TrainSpec *t) {
    while (!d->failed && !model_line_ends(d)) {
        if (model_take(d, ",")) continue;
        const char *p = pattern(d);
        if (!d->failed) vec_push(d->c, &t->frozen, p);
    }
}

static const char *const keys[] = {"loss",       "optimizer", "metrics", "schedule", "batch", "epochs",
                                   "accumulate", "clip",      "freeze",  "group",    "output", "strict"};
enum { KEYS = sizeof keys / sizeof *keys };

static void setting(Desc *d, TrainSpec *t) {
    const Tok *at = model_peek(d);
    const char *key = model_word(d, "loss, optimizer, metrics, schedule, batch, epochs ...");
    if (!key) return;
    const Tok *value = model_peek(d);
    if (!strcmp(key, "metric")) key = "metrics";
    bool none = model_line_ends(d) && strcmp(key, "strict");
    int k = 0;
    while (k < KEYS && strcmp(key, keys[k])) k++;
    if (k == KEYS) {
        const char *near = model_nearest(key, keys, KEYS);
        model_error(d, at, 104, near ? gd_format(d->c, "is it %s?", near) : "loss, optimizer, metrics, schedule, batch, epochs, accumulate, clip, freeze, group, output, strict",
                    "a train block knows no %s", key);
    } else if (none) model_expected(d, gd_format(d->c, "a value for %s", key));
    else if (!strcmp(key, "loss")) recipe(d, rest(d), value, key, &t->loss);
    else if (!strcmp(key, "optimizer")) recipe(d, rest(d), value, key, &t->optimizer);
    else if (!strcmp(key, "schedule")) recipe(d, rest(d), value, key, &t->schedule);
    else if (!strcmp(key, "metrics")) metrics(d, t);
    else if (!strcmp(key, "batch")) t->batch = count(d, key);
    else if (!strcmp(key, "epochs")) t->epochs = count(d, key);
    else if (!strcmp(key, "accumulate")) t->accumulate = count(d, key);
    else if (!strcmp(key, "clip")) clip(d, t);
    else if (!strcmp(key, "freeze")) frozen(d, t);
    else if (!strcmp(key, "group")) group(d, t);
    else if (!strcmp(key, "output")) t->output = model_word(d, "the name of an output");
    else t->strict = true;
    if (!d->failed && !model_line_ends(d)) model_expected(d, "the end of the line");
}

void model_train(Desc *d) {
    TrainSpec *t = gd_new(d->c, TrainSpec);
    bool braces = model_take(d, "{");
    d->train = t;
    while (model_peek(d)->kind != TK_END && !model_is(d, "}")) {
        d->failed = false;
        if (model_peek(d)->kind == TK_LINE) {
            d->at++;
            continue;
        }
        setting(d, t);
        while (!model_line_ends(d)) d->at++;
        if (!braces && model_is(d, "}")) break;
    }
    d->failed = false;
    if (braces) model_want(d, "}");
}
