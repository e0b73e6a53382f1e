/* history.csv and history.json. All rows are in memory, so each new one replaces both files whole: no reader
 * ever meets half a row. */
#define _POSIX_C_SOURCE 200809L
#include "history.h"
#include "atomic.h"
#include "dataset.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct GradcHistory {
    char *csv, *json; /* paths */
    int n;            /* columns beside the epoch */
    char **names;
    int64_t rows, room;
    int64_t *epochs;
    double *values; /* rows x n */
};

/* ---- text ---- */

/* A cell that needs quotes gets them (RFC 4180). */
static void print_name(FILE *f, const char *s) {
    if (!s[strcspn(s, ",\"\r\n")]) {
        fputs(s, f);
        return;
    }
    putc('"', f);
    for (; *s; s++) {
        if (*s == '"') putc('"', f);
        putc(*s, f);
    }
    putc('"', f);
}

static char *csv_text(const GradcHistory *h, int64_t rows, size_t *n) {
    char *text = NULL, number[64];
    FILE *f = open_memstream(&text, n);
    if (!f) return NULL;
    fputs("epoch", f);
    for (int i = 0; i < h->n; i++) putc(',', f), print_name(f, h->names[i]);
    putc('\n', f);
    for (int64_t r = 0; r < rows; r++) {
        fprintf(f, "%lld", (long long)h->epochs[r]);
        for (int i = 0; i < h->n; i++) {
            const double *v = &h->values[r * h->n + i];
            *number = 0;
            if (!isnan(*v)) gradc_float_text(number, sizeof number, GRADC_F64, v);
            fprintf(f, ",%s", number);
        }
        putc('\n', f);
    }
    if (!fclose(f)) return text;
    free(text);
    return NULL;
}

static char *json_text(const GradcHistory *h) {
    json_t *root = json_object(), *epochs = json_array();
    for (int64_t r = 0; r < h->rows; r++) json_array_append_new(epochs, json_integer(h->epochs[r]));
    json_object_set_new(root, "epoch", epochs);
    for (int i = 0; i < h->n; i++) {
        json_t *column = json_array();
        for (int64_t r = 0; r < h->rows; r++) {
            double v = h->values[r * h->n + i];
            json_array_append_new(column, isfinite(v) ? json_real(v) : json_null());
        }
        json_object_set_new(root, h->names[i], column);
    }
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return text;
}

static int replace(const char *path, const char *text, size_t n, GradcError *e) {
    GradcAtomic file;
    if (!text) return gradc_error(e, 506, NULL, "%s: out of memory", path);
    int status = gradc_atomic_open(&file, path, e);
    return status ? status : gradc_atomic_close(&file, gradc_atomic_write(&file, text, n), e);
}

static int write_both(const GradcHistory *h, GradcError *e) {
    size_t n;
    char *csv = csv_text(h, h->rows, &n), *json = json_text(h);
    int status = replace(h->csv, csv, n, e);
    if (!status) status = replace(h->json, json, json ? strlen(json) : 0, e);
    free(csv);
    free(json);
    return status;
}

/* ---- rows ---- */

static bool add_row(GradcHistory *h, int64_t epoch, const double *values) {
    if (h->rows == h->room) {
        int64_t room = h->room ? 2 * h->room : 16;
        int64_t *epochs = realloc(h->epochs, (size_t)room * sizeof *epochs);
        if (epochs) h->epochs = epochs;
        double *more = realloc(h->values, ((size_t)room * (size_t)h->n + 1) * sizeof *more);
        if (more) h->values = more;
        if (!epochs || !more) return false;
        h->room = room;
    }
    h->epochs[h->rows] = epoch;
    if (h->n) memcpy(h->values + h->rows * h->n, values, (size_t)h->n * sizeof *values);
    h->rows++;
    return true;
}

int gradc_history_row(GradcHistory *h, int64_t epoch, const double *values, GradcError *e) {
    if (!add_row(h, epoch, values)) return gradc_error(e, 506, NULL, "%s: out of memory", h->csv);
    return write_both(h, e);
}

/* ---- a run that goes on ---- */

/* One line of numbers; false when it is none. */
static bool parse_row(const GradcHistory *h, const char *line, size_t n, int64_t *epoch, double *values) {
    double v;
    float single;
    for (int i = 0; i <= h->n; i++) {
        size_t k = 0;
        while (k < n && line[k] != ',') k++;
        if ((i == h->n) != (k == n)) return false;
        if (!k && i) v = NAN;
        else if (!data_number(line, k, &v, &single)) return false;
        if (i) values[i - 1] = v;
        else if (!(fabs(v) < 1e15)) return false;
        else *epoch = (int64_t)v;
        line += k + 1;
        n -= k + (k < n);
    }
    return true;
}

static int keep_rows(GradcHistory *h, char *text, size_t n, int64_t first_epoch, GradcError *e) {
    size_t header_length = 0;
    char *header = csv_text(h, 0, &header_length);
    double *values = calloc((size_t)h->n + 1, sizeof *values);
    int status = 0;
    if (!header || !values) status = gradc_error(e, 506, NULL, "%s: out of memory", h->csv);
    else if (n < header_length || memcmp(text, header, header_length))
        status = gradc_error(e, 603, "log into another directory",
                             "%s: its columns are not those of this run", h->csv);
    for (size_t at = header_length, end; at < n && !status; at = end + 1) {
        int64_t epoch = 0;
        for (end = at; end < n && text[end] != '\n';) end++;
        if (!parse_row(h, text + at, end - at, &epoch, values))
            status = gradc_error(e, 103, "log into another directory",
                                 "%s: byte %zu: not a row of this history", h->csv, at);
        else if (epoch < first_epoch && !add_row(h, epoch, values))
            status = gradc_error(e, 506, NULL, "%s: out of memory", h->csv);
    }
    free(header);
    free(values);
    return status;
}

static int go_on(GradcHistory *h, int64_t first_epoch, GradcError *e) {
    char *text = NULL;
    size_t n = 0, room = 0;
    FILE *f = fopen(h->csv, "rb");
    if (!f) return errno == ENOENT ? 0 : gradc_error(e, 101, NULL, "%s: %s", h->csv, strerror(errno));
    for (size_t got = 1; got; n += got) {
        if (n == room) {
            char *more = realloc(text, room = room ? 2 * room : 4096);
            if (!more) break;
            text = more;
        }
        got = fread(text + n, 1, room - n, f);
    }
    int status = !text || ferror(f) || !feof(f) ? gradc_error(e, 101, NULL, "%s: reading stopped", h->csv)
                                                : keep_rows(h, text, n, first_epoch, e);
    fclose(f);
    free(text);
    return status;
}

/* ---- opening ---- */

static char *join(const char *dir, const char *name) {
    char *p = malloc(strlen(dir) + strlen(name) + 2);
    if (p) sprintf(p, "%s/%s", dir, name);
    return p;
}

static int open_files(GradcHistory *h, const char *dir, const char *const *names, int n, int64_t first_epoch,
                      GradcError *e) {
    h->csv = join(dir, "history.csv");
    h->json = join(dir, "history.json");
    h->names = calloc((size_t)n + 1, sizeof *h->names);
    bool ok = h->csv && h->json && h->names;
    for (int i = 0; i < n && ok; i++, h->n++) ok = (h->names[i] = strdup(names[i])) != NULL;
    if (!ok) return gradc_error(e, 506, NULL, "%s: out of memory", dir);
    if (mkdir(dir, 0777) && errno != EEXIST) return gradc_error(e, 106, NULL, "%s: %s", dir, strerror(errno));
    int status = first_epoch > 0 ? go_on(h, first_epoch, e) : 0;
    return status ? status : write_both(h, e);
}

int gradc_history_open(GradcHistory **to, const char *dir, const char *const *names, int n,
                       int64_t first_epoch, GradcError *e) {
    GradcHistory *h = *to = calloc(1, sizeof *h);
    if (!h) return gradc_error(e, 506, NULL, "out of memory");
    int status = open_files(h, dir, names, n, first_epoch, e);
    if (!status) return 0;
    gradc_history_close(h);
    *to = NULL;
    return status;
}

void gradc_history_close(GradcHistory *h) {
    if (!h) return;
    for (int i = 0; i < h->n; i++) free(h->names[i]);
    free(h->names);
    free(h->epochs);
    free(h->values);
    free(h->csv);
    free(h->json);
    free(h);
}
