/* SPEC text: KIND:PATH[,OPTION]... Options are kept in order and marked when a reader asks for them, so what
   nobody asked for is an error of the user's, named. */
#define _POSIX_C_SOURCE 200809L
#include "dataset.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char grammar[] = "KIND:PATH[,OPTION]... with KIND idx, cifar, npz, csv, names, text or raw";

/* Cuts *s at its first comma outside of brackets. */
static char *next(char **s) {
    char *start = *s;
    int depth = 0;
    for (; **s; ++*s) {
        if (**s == '[') depth++;
        if (**s == ']' && depth) depth--;
        if (**s != ',' || depth) continue;
        *(*s)++ = 0;
        return start;
    }
    *s = NULL;
    return start;
}

int data_spec(DataSpec *s, const char *text, GradcError *e) {
    char *at = s->text = strdup(text);
    if (!at) return gradc_error(e, 506, NULL, "out of memory");
    char *colon = strchr(at, ':');
    if (!colon || colon == at || !colon[1] || colon[1] == ',')
        return gradc_error(e, 601, grammar, "'%s' is not a data set", text);
    *colon = 0;
    s->kind = at;
    at = colon + 1;
    s->path = next(&at);
    while (at) {
        char *option = next(&at), *equal = strchr(option, '=');
        if (s->n == DATA_OPTIONS)
            return gradc_error(e, 601, NULL, "'%s': more than %d options", text, (int)DATA_OPTIONS);
        if (equal) *equal = 0;
        if (!*option) return gradc_error(e, 601, grammar, "'%s': an option without a name", text);
        for (int i = 0; i < s->n; i++)
            if (!strcmp(s->options[i].key, option))
                return gradc_error(e, 601, NULL, "'%s': option %s is given twice", text, option);
        s->options[s->n++] = (DataOption){option, equal ? equal + 1 : "", false};
    }
    return 0;
}

const char *data_option(GradcData *d, const char *key) {
    for (int i = 0; i < d->spec.n; i++)
        if (!strcmp(d->spec.options[i].key, key)) {
            d->spec.options[i].used = true;
            return d->spec.options[i].value;
        }
    return NULL;
}

int data_integer(GradcData *d, const char *key, int64_t low, int64_t *v, GradcError *e) {
    const char *s = data_option(d, key);
    if (!s) return 0;
    char *end;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    if (!*s || *end || errno || n < low)
        return gradc_error(e, 601, NULL, "option %s of %s:%s: '%s' is not a number of at least %lld", key,
                           d->spec.kind, d->spec.path, s, (long long)low);
    *v = n;
    return 0;
}

/* [+-] digits [. digits] [e[+-]digits], inf, nan; with spaces around it. The grammar is checked here because
   strtod takes hexadecimals and depends on the locale. */
bool data_number(const char *s, size_t n, double *v, float *single) {
    char buf[400];
    while (n && (*s == ' ' || *s == '\t')) s++, n--;
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t')) n--;
    if (!n || n >= sizeof buf) return false;
    size_t i = s[0] == '+' || s[0] == '-', digits = 0;
    if (n - i == 3 && (!strncmp(s + i, "inf", 3) || !strncmp(s + i, "nan", 3))) i = n, digits = 1;
    for (; i < n && s[i] >= '0' && s[i] <= '9'; i++) digits++;
    if (i < n && s[i] == '.')
        for (i++; i < n && s[i] >= '0' && s[i] <= '9'; i++) digits++;
    if (!digits) return false;
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        size_t start = i += 1 + (i + 1 < n && (s[i + 1] == '+' || s[i + 1] == '-'));
        while (i < n && s[i] >= '0' && s[i] <= '9') i++;
        if (i == start) return false;
    }
    if (i != n) return false;
    memcpy(buf, s, n);
    buf[n] = 0;
    *v = gradc_read_decimal(buf, single);
    return true;
}

/* ---- options every kind has ---- */

static int bad_value(GradcData *d, const char *key, const char *value, const char *want, GradcError *e) {
    return gradc_error(e, 601, NULL, "option %s of %s:%s: '%s' is not %s", key, d->spec.kind, d->spec.path,
                       value, want);
}

static int read_scale(GradcData *d, DataField *f, GradcError *e) {
    const char *s = data_option(d, "scale");
    float single;
    if (!s) return 0;
    size_t n = strcspn(s, "/");
    f->den = 1;
    if (!data_number(s, n, &f->num, &single) ||
        (s[n] && !data_number(s + n + 1, strlen(s + n + 1), &f->den, &single)) || f->den == 0)
        return bad_value(d, "scale", s, "a number or a fraction A/B", e);
    f->scaled = true;
    return 0;
}

static int read_list(GradcData *d, DataField *f, const char *key, double *to, int *n, GradcError *e) {
    const char *s = data_option(d, key);
    float single;
    for (*n = 0; s; ++*n) {
        size_t m = strcspn(s, ":");
        if (*n == DATA_CHANNELS || !data_number(s, m, &to[*n], &single) || (to == f->std && to[*n] == 0))
            return bad_value(d, key, s, "a list of numbers N:N:N", e);
        s = s[m] ? s + m + 1 : NULL;
    }
    return 0;
}

/* Size of the axis that mean and std run along: an image's channels, or the columns of a row. */
static int64_t channels(const DataField *f) {
    if (f->pub.rank == 1) return f->pub.dims[0];
    return f->layout == LAYOUT_CHW ? f->pub.dims[0] : f->layout == LAYOUT_HWC ? f->pub.dims[2] : 1;
}

/* Hands the same bytes out with the axes in the other order. */
static void turn(DataField *f, int layout) {
    static const int to_hwc[3] = {1, 2, 0}, to_chw[3] = {2, 0, 1};
    DataField old = *f;
    for (int i = 0; i < 3; i++) {
        int from = layout == LAYOUT_HWC ? to_hwc[i] : to_chw[i];
        f->pub.dims[i] = old.pub.dims[from];
        f->strides[i] = old.strides[from];
    }
    f->layout = layout;
}

static int read_layout(GradcData *d, DataField *f, GradcError *e) {
    const char *s = data_option(d, "layout");
    if (!s) return 0;
    int layout = !strcmp(s, "nhwc") ? LAYOUT_HWC : !strcmp(s, "nchw") ? LAYOUT_CHW : LAYOUT_NONE;
    if (!layout) return bad_value(d, "layout", s, "nhwc or nchw", e);
    if (f->pub.rank == 2 && f->pub.dims[0] >= 0) return 0; /* one channel: both are the same */
    if (f->pub.rank != 3)
        return gradc_error(e, 601, NULL, "option layout of %s:%s: %s is no image of three axes", d->spec.kind,
                           d->spec.path, f->pub.name);
    if (f->layout && f->layout != layout) turn(f, layout);
    f->layout = layout;
    return 0;
}

bool data_is_common(const char *key) {
    static const char *const keys[] = {"classes", "scale", "mean", "std", "layout"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i])) return true;
    return false;
}

int data_common_options(GradcData *d, GradcError *e) {
    DataField *f = &d->fields[0];
    int status;
    for (int i = 0; i < d->nfields; i++)
        if (!strcmp(d->fields[i].pub.name, "x")) f = &d->fields[i];
    if ((status = read_layout(d, f, e)) || (status = read_scale(d, f, e)) ||
        (status = read_list(d, f, "mean", f->mean, &f->nmean, e)) ||
        (status = read_list(d, f, "std", f->std, &f->nstd, e)))
        return status;
    if ((f->nmean > 1 && f->nmean != channels(f)) || (f->nstd > 1 && f->nstd != channels(f)))
        return gradc_error(e, 601, "give one number, or one a channel",
                           "options mean and std of %s:%s: %s has %lld channels", d->spec.kind, d->spec.path,
                           f->pub.name, (long long)channels(f));
    f->scaled |= f->nmean || f->nstd;
    if (f->scaled && f->pub.classes)
        return gradc_error(e, 601, NULL,
                           "options scale, mean and std of %s:%s: %s holds classes, not quantities",
                           d->spec.kind, d->spec.path, f->pub.name);
    for (int i = 0; i < d->spec.n; i++)
        if (!d->spec.options[i].used)
            return gradc_error(e, 601, "the kinds and their options are listed by --help",
                               "%s:%s has no option %s", d->spec.kind, d->spec.path, d->spec.options[i].key);
    return 0;
}
