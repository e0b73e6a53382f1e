/* Progress on a terminal and in a log. A line is made whole in memory, cut to the terminal's width by
 * characters, and written at once. */
#define _DEFAULT_SOURCE
#include "progress.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 20, LINE = 1024 };

double gradc_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool utf8(void) {
    const char *names[] = {getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG")};
    for (int i = 0; i < 3; i++)
        if (names[i] && *names[i]) return strstr(names[i], "UTF-8") || strstr(names[i], "utf8");
    return false;
}

void gradc_progress_open(GradcProgress *p, FILE *f) {
    const char *term = getenv("TERM");
    *p = (GradcProgress){.f = f};
    p->terminal = f && isatty(fileno(f)) && !(term && !strcmp(term, "dumb"));
    p->wide = utf8();
}

/* ---- parts of a line ---- */

typedef struct Line {
    char text[LINE];
    size_t n;
} Line;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
add(Line *l, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(l->text + l->n, LINE - l->n, fmt, ap);
    va_end(ap);
    if (n > 0) l->n = l->n + (size_t)n < LINE ? l->n + (size_t)n : LINE - 1;
}

/* As Keras: four decimals, and an exponent for what is small. */
static void add_metrics(Line *l, const GradcMetric *m, int n) {
    for (int i = 0; i < n; i++) {
        double v = m[i].value, size = fabs(v);
        add(l,
            size > 1e-3 && size < 1e7 ? " - %s: %.4f"
            : v == 0                  ? " - %s: %.1f"
                                      : " - %s: %.4e",
            m[i].name, v);
    }
}

static void add_time(Line *l, double seconds) {
    long s = (long)seconds;
    if (s >= 3600) add(l, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else if (s >= 60) add(l, "%ld:%02ld", s / 60, s % 60);
    else add(l, "%lds", s);
}

static void add_per_step(Line *l, double seconds) {
    if (seconds >= 1 || seconds <= 0) add(l, " %.0fs/step", seconds);
    else if (seconds >= 1e-3) add(l, " %.0fms/step", seconds * 1e3);
    else add(l, " %.0fus/step", seconds * 1e6);
}

static void add_bar(const GradcProgress *p, Line *l, int64_t done) {
    int full = p->steps > 0 ? (int)((double)done / (double)p->steps * BAR) : 0;
    if (full > BAR) full = BAR;
    if (!p->steps) return;
    add(l, " %s", p->wide ? "" : "[");
    if (p->wide) { /* what is to come is dark */
        for (int i = 0; i < full; i++) add(l, "\xe2\x94\x81");
        if (full < BAR) add(l, "\x1b[2m");
        for (int i = full; i < BAR; i++) add(l, "\xe2\x94\x81");
        if (full < BAR) add(l, "\x1b[0m");
        return;
    }
    for (int i = 0; i < BAR; i++) add(l, "%c", i < full ? '=' : i == full ? '>' : '.');
    add(l, "]");
}

/* ---- the terminal ---- */

static int width(FILE *f) {
    struct winsize size;
    return !ioctl(fileno(f), TIOCGWINSZ, &size) && size.ws_col > 20 ? size.ws_col : 80;
}

/* Cuts after `columns` characters; escapes take no room. */
static void cut(Line *l, int columns) {
    bool escape = false;
    for (size_t i = 0; i < l->n; i++) {
        unsigned char c = (unsigned char)l->text[i];
        if (c == 0x1b) escape = true;
        else if (escape) escape = c != 'm';
        else if ((c & 0xc0) != 0x80 && columns-- == 0) {
            l->n = i;
            l->text[i] = 0;
            return;
        }
    }
}

static void draw(GradcProgress *p, int64_t done, const GradcMetric *m, int n, bool over) {
    Line l = {.n = 0};
    double now = gradc_seconds(), spent = now - p->start;
    double each = done > p->first ? spent / (double)(done - p->first) : 0;
    if (p->steps) {
        char total[24];
        int digits = snprintf(total, sizeof total, "%lld", (long long)p->steps);
        add(&l, "%*lld/%s", digits, (long long)done, total);
    } else add(&l, "%lld/Unknown", (long long)done);
    add_bar(p, &l, done);
    add(&l, " ");
    add_time(&l, over || !p->steps
                     ? spent
                     : each * (double)(p->steps - done)); /* Keras: what is left, at the end what was spent */
    add_per_step(&l, each);
    add_metrics(&l, m, n);
    cut(&l, width(p->f) - 1);
    fprintf(p->f, "\r%s\x1b[K%s", l.text, over ? "\n" : "");
    fflush(p->f);
    p->drawn = now;
    p->on_line = !over;
}

/* ---- an epoch ---- */

void gradc_progress_epoch(GradcProgress *p, int64_t epoch, int64_t epochs, int64_t steps, int64_t first) {
    p->epoch = epoch;
    p->epochs = epochs;
    p->steps = steps;
    p->first = first;
    p->start = gradc_seconds();
    p->drawn = p->start - 1;
    p->on_line = false;
    if (p->terminal) fprintf(p->f, "Epoch %lld/%lld\n", (long long)epoch + 1, (long long)epochs);
}

void gradc_progress_step(GradcProgress *p, int64_t done, const GradcMetric *m, int n) {
    if (p->terminal && gradc_seconds() - p->drawn >= 0.1) draw(p, done, m, n, false);
}

void gradc_progress_end(GradcProgress *p, int64_t done, const GradcMetric *m, int n) {
    if (!p->f) return;
    if (p->terminal) {
        draw(p, done, m, n, true);
        return;
    }
    Line l = {.n = 0};
    add(&l, "epoch %lld/%lld: %lld steps, %.1f s", (long long)p->epoch + 1, (long long)p->epochs,
        (long long)done, gradc_seconds() - p->start);
    add_metrics(&l, m, n);
    fprintf(p->f, "%s\n", l.text);
    fflush(p->f);
}

void gradc_progress_break(GradcProgress *p) {
    if (!p->f || !p->on_line) return;
    putc('\n', p->f);
    fflush(p->f);
    p->on_line = false;
}
