/* Tables of comma-separated values (RFC 4180: quotes, doubled quotes, line ends in quotes; also CR LF, blank
   lines, a byte order mark). The text is walked twice: once for the number of rows and columns, once for the
   cells, which are then unquoted in place. Every walk ends with the text. */
#define _POSIX_C_SOURCE 200809L
#include "dataset.h"
#include "element.h"
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 1 << 16 };
enum { FEATURE, LABEL, DROPPED };

typedef struct Cell {
    char *p;
    size_t n;
    bool quoted;
} Cell;

typedef struct Csv {
    GradcData *d;
    char *text, *end, *at; /* at: the next character */
    char sep;
    int64_t line; /* of at, from 1 */
    int columns;
    Cell *row;
    int64_t row_line;    /* where the row began */
    Cell *names;         /* of the header, or NULL */
    unsigned char *role; /* of each column */
    int label;           /* a column, or -1 */
    bool header, missing;
    double missing_value;
    GradcError *e;
} Csv;

static int wrong(Csv *c, const char *at, const char *what) {
    return gradc_error(c->e, 103, "the format is that of RFC 4180; other separators go with sep=",
                       "%s: line %lld (byte %lld): %s", c->d->spec.path, (long long)c->line,
                       (long long)(at - c->text), what);
}

/* Takes one cell; *last: it ends its row. Doubled quotes stay. */
static int read_cell(Csv *c, Cell *cell, bool *last) {
    char *p = c->at;
    *cell = (Cell){p, 0, *p == '"'};
    if (cell->quoted) {
        for (p = ++cell->p;; p++) {
            if (p == c->end) return wrong(c, cell->p, "a quote is never closed");
            if (*p == '\n') c->line++;
            if (*p != '"') continue;
            if (p + 1 < c->end && p[1] == '"') p++;
            else break;
        }
        cell->n = (size_t)(p++ - cell->p);
    } else {
        while (p < c->end && *p != c->sep && *p != '\n' && *p != '\r') p++;
        cell->n = (size_t)(p - cell->p);
    }
    if (p < c->end && *p == '\r' && (p + 1 == c->end || p[1] == '\n')) p++;
    *last = p >= c->end || *p == '\n';
    if (!*last && *p != c->sep)
        return wrong(c, p, cell->quoted ? "characters after a closing quote" : "a bare carriage return");
    c->line += p < c->end && *p == '\n';
    c->at = p < c->end ? p + 1 : p;
    return 0;
}

/* The next row that is not blank; *n 0 at the end. */
static int read_row(Csv *c, int *n) {
    *n = 0;
    while (c->at < c->end && (*c->at == '\n' || (*c->at == '\r' && c->at + 1 < c->end && c->at[1] == '\n'))) {
        c->at += *c->at == '\r' ? 2 : 1;
        c->line++;
    }
    c->row_line = c->line;
    for (bool last = c->at >= c->end; !last;) {
        if (*n == COLUMNS) return wrong(c, c->at, "more than 65536 columns");
        if (c->columns && *n == c->columns) break;
        int status = read_cell(c, &c->row[(*n)++], &last);
        if (status) return status;
        if (last) return 0;
        if (c->at == c->end) { /* a separator ends the file: one more cell, empty */
            if (*n < COLUMNS) c->row[(*n)++] = (Cell){c->end, 0, false};
            return 0;
        }
    }
    if (*n)
        return gradc_error(c->e, 103, "every row has one cell a column",
                           "%s: line %lld (byte %lld): more cells than the %d of the first row",
                           c->d->spec.path, (long long)c->row_line, (long long)(c->at - c->text), c->columns);
    return 0;
}

static void rewind_text(Csv *c) {
    bool mark = c->end - c->text >= 3 && !memcmp(c->text, "\xef\xbb\xbf", 3);
    c->at = c->text + (mark ? 3 : 0);
    c->line = 1;
}

static bool number(const Cell *cell) {
    double v;
    float single;
    return data_number(cell->p, cell->n, &v, &single);
}

/* ---- columns ---- */

/* A column by name, or by its number from 0. */
static int find_column(Csv *c, const char *key, size_t n, int *column) {
    for (int i = 0; c->header && i < c->columns; i++)
        if (c->names[i].n == n && !memcmp(c->names[i].p, key, n)) return *column = i, 0;
    char *end;
    long v = strtol(key, &end, 10);
    if (n && end == key + n && v >= 0 && v < c->columns) return *column = (int)v, 0;
    return gradc_error(c->e, 602,
                       c->header ? "columns go by the names of the first line, or by numbers from 0"
                                 : "there is no header, so columns are numbers from 0",
                       "%s: no column is named '%.*s' (there are %d)", c->d->spec.path,
                       (int)(n < 100 ? n : 100), key, c->columns);
}

/* Without the user's word: a header is a first row with words where the second has numbers. */
static int find_header(Csv *c, Cell *first) {
    const char *said = data_option(c->d, "header");
    int n;
    if (said && strcmp(said, "yes") && strcmp(said, "no"))
        return gradc_error(c->e, 601, NULL, "option header of csv:%s: '%s' is not yes or no", c->d->spec.path,
                           said);
    memcpy(first, c->row, (size_t)c->columns * sizeof *first);
    if (said) return c->header = *said == 'y', 0;
    int status = read_row(c, &n);
    for (int i = 0; !status && i < n && i < c->columns; i++)
        c->header |= !number(&first[i]) && first[i].n && number(&c->row[i]);
    return status;
}

static int choose_columns(Csv *c, int *features) {
    const char *label = data_option(c->d, "label"), *drop = data_option(c->d, "drop");
    int status, column;
    c->label = -1;
    if (label) {
        if ((status = find_column(c, label, strlen(label), &column))) return status;
        c->role[column] = LABEL;
        c->label = column;
    }
    for (const char *p = drop; p;) {
        size_t n = strcspn(p, ":");
        if ((status = find_column(c, p, n, &column))) return status;
        if (column == c->label)
            return gradc_error(c->e, 601, NULL, "csv:%s: the label's column is dropped", c->d->spec.path);
        c->role[column] = DROPPED;
        p = p[n] ? p + n + 1 : NULL;
    }
    *features = 0;
    for (int i = 0; i < c->columns; i++) *features += c->role[i] == FEATURE;
    return *features ? 0 : gradc_error(c->e, 303, NULL, "%s: no column is left for x", c->d->spec.path);
}

/* ---- cells ---- */

static void unquote(Cell *cell) {
    size_t to = 0;
    for (size_t from = 0; cell->quoted && from < cell->n; from++) {
        cell->p[to++] = cell->p[from];
        from += cell->p[from] == '"';
    }
    if (cell->quoted) cell->n = to;
    cell->quoted = false;
}

static int bad_cell(Csv *c, int column) {
    const Cell *cell = &c->row[column];
    char name[80] = "";
    if (c->header)
        snprintf(name, sizeof name, " '%.*s'", (int)(c->names[column].n < 60 ? c->names[column].n : 60),
                 c->names[column].p);
    if (!cell->n)
        return gradc_error(c->e, 303,
                           "say what it stands for with missing=NUMBER, or leave the column out with drop=",
                           "%s: line %lld (byte %lld): column %d%s is empty", c->d->spec.path,
                           (long long)c->row_line, (long long)(cell->p - c->text), column, name);
    return gradc_error(c->e, 303, "leave the column out with drop=, or turn it into numbers",
                       "%s: line %lld (byte %lld): column %d%s: '%.*s' is not a number", c->d->spec.path,
                       (long long)c->row_line, (long long)(cell->p - c->text), column, name,
                       (int)(cell->n < 60 ? cell->n : 60), cell->p);
}

static int read_cells(Csv *c, float *x, Cell *labels) {
    int n, status = 0;
    rewind_text(c);
    if (c->header) status = read_row(c, &n);
    while (!status && !(status = read_row(c, &n)) && n) {
        for (int i = 0; i < n; i++) {
            double v = c->missing_value;
            float single = (float)v;
            if (c->role[i] == LABEL) {
                unquote(&c->row[i]);
                *labels++ = c->row[i];
            }
            if (c->role[i] != FEATURE) continue;
            if (!(c->missing && !c->row[i].n) && !data_number(c->row[i].p, c->row[i].n, &v, &single))
                return bad_cell(c, i);
            *x++ = single;
        }
    }
    return status;
}

/* ---- labels ---- */

static int by_text(const void *a, const void *b) {
    const Cell *x = a, *y = b;
    int order = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static bool whole(const Cell *cell, int64_t *v) {
    char buf[24];
    char *end;
    if (!cell->n || cell->n > 18) return false;
    memcpy(buf, cell->p, cell->n);
    buf[cell->n] = 0;
    *v = strtoll(buf, &end, 10);
    return !*end && buf[0] >= '0' && buf[0] <= '9';
}

/* The sorted table of the cells' texts, or the one of the option `labels`; y is the place in it. */
static int text_labels(Csv *c, const Cell *labels, int64_t *y) {
    GradcData *d = c->d;
    const char *given = data_option(d, "labels");
    Cell *table = data_alloc(d, (size_t)d->count + (given ? strlen(given) : 0) + 1, sizeof *table, c->e);
    int64_t n = 0;
    if (!table) return gradc_error_status(c->e->code);
    for (const char *p = given; p; p = p[strcspn(p, ":")] ? p + strcspn(p, ":") + 1 : NULL)
        table[n++] = (Cell){(char *)p, strcspn(p, ":"), false};
    if (!given) {
        memcpy(table, labels, (size_t)d->count * sizeof *table);
        qsort(table, (size_t)d->count, sizeof *table, by_text);
        for (int64_t i = 0; i < d->count; i++)
            if (!n || by_text(&table[n - 1], &table[i])) table[n++] = table[i];
    }
    const char **names = data_alloc(d, (size_t)n, sizeof *names, c->e);
    if (!names) return gradc_error_status(c->e->code);
    for (int64_t i = 0; i < n; i++)
        if (!(names[i] = data_string(d, table[i].p, table[i].n, c->e))) return gradc_error_status(c->e->code);
    for (int64_t r = 0; r < d->count; r++) {
        if (!given)
            y[r] = (const Cell *)bsearch(&labels[r], table, (size_t)n, sizeof *table, by_text) - table;
        else
            for (y[r] = 0; y[r] < n && by_text(&labels[r], &table[y[r]]); y[r]++) {}
        if (y[r] == n)
            return gradc_error(c->e, 303, NULL,
                               "%s: record %lld: the label '%.*s' is not among labels=", d->spec.path,
                               (long long)r, (int)(labels[r].n < 60 ? labels[r].n : 60), labels[r].p);
    }
    DataField *f = data_add(d, "y", GRADC_I64, 0, NULL, y, sizeof *y, c->e);
    if (!f) return gradc_error_status(c->e->code);
    f->names = names;
    f->pub.classes = n;
    return 0;
}

static int add_labels(Csv *c, const Cell *labels) {
    GradcData *d = c->d;
    int64_t *y = data_alloc(d, (size_t)d->count, sizeof *y, c->e);
    float *real = data_alloc(d, (size_t)d->count, sizeof *real, c->e);
    bool integers = true, numbers = true;
    if (!y || !real) return gradc_error_status(c->e->code);
    for (int64_t r = 0; r < d->count; r++) {
        double v;
        integers &= whole(&labels[r], &y[r]);
        numbers &= data_number(labels[r].p, labels[r].n, &v, &real[r]);
    }
    for (int i = 0; i < d->spec.n; i++) numbers &= strcmp(d->spec.options[i].key, "labels") != 0;
    if (!numbers) return text_labels(c, labels, y);
    if (!integers)
        return data_add(d, "y", GRADC_F32, 0, NULL, real, sizeof *real, c->e)
                   ? 0
                   : gradc_error_status(c->e->code);
    if (!data_add(d, "y", GRADC_I64, 0, NULL, y, sizeof *y, c->e)) return gradc_error_status(c->e->code);
    return data_find_label(d, c->e);
}

/* ---- the whole ---- */

static int read_options(Csv *c) {
    const char *sep = data_option(c->d, "sep"), *missing = data_option(c->d, "missing");
    float single;
    c->sep = !sep ? ',' : !strcmp(sep, "tab") ? '\t' : sep[0];
    if (sep && (!sep[0] || (sep[1] && c->sep != '\t') || c->sep == '"' || c->sep == '\n'))
        return gradc_error(c->e, 601, NULL, "option sep of csv:%s: '%s' is not one character or tab",
                           c->d->spec.path, sep);
    c->missing = missing != NULL;
    if (missing && !data_number(missing, strlen(missing), &c->missing_value, &single))
        return gradc_error(c->e, 601, NULL, "option missing of csv:%s: '%s' is not a number", c->d->spec.path,
                           missing);
    return 0;
}

static int count_rows(Csv *c) {
    int n, status;
    int64_t rows = 0;
    rewind_text(c);
    while (!(status = read_row(c, &n)) && n) {
        if (n != c->columns)
            return gradc_error(c->e, 103, "every row has one cell a column",
                               "%s: line %lld: %d cells where the first row has %d", c->d->spec.path,
                               (long long)c->row_line, n, c->columns);
        rows++;
    }
    c->d->count = rows - c->header;
    return status;
}

int data_csv(GradcData *d, GradcError *e) {
    Csv c = {.d = d, .e = e};
    size_t n;
    int file, features, columns, status = data_bytes(d, d->spec.path, (unsigned char **)&c.text, &n, &file, e);
    if (status || (status = read_options(&c))) return status;
    c.end = c.text + n;
    Cell *first = data_alloc(d, COLUMNS, sizeof *first, e);
    c.row = data_alloc(d, COLUMNS, sizeof *c.row, e);
    c.role = data_alloc(d, COLUMNS, 1, e);
    if (!first || !c.row || !c.role) return gradc_error_status(e->code);
    rewind_text(&c);
    if ((status = read_row(&c, &columns))) return status;
    c.columns = columns;
    if (!c.columns) return gradc_error(e, 303, NULL, "%s: there are no rows", d->spec.path);
    c.names = first;
    if ((status = find_header(&c, first)) || (status = choose_columns(&c, &features)) ||
        (status = count_rows(&c)))
        return status;
    if (d->count < 1)
        return gradc_error(e, 303, NULL, "%s: there are no rows below the header", d->spec.path);
    Cell *labels = data_alloc(d, (size_t)d->count, sizeof *labels, e);
    size_t record = (size_t)features * sizeof(float);
    float *x = data_alloc(d, (size_t)d->count, record, e);
    if (!labels || !x) return gradc_error_status(e->code);
    if ((status = read_cells(&c, x, labels))) return status;
    int64_t dims[1] = {features};
    d->files[file].count = d->count;
    if (!data_add(d, "x", GRADC_F32, 1, dims, x, record, e)) return gradc_error_status(e->code);
    return c.label < 0 ? 0 : add_labels(&c, labels);
}
