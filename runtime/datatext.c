/* Data sets of text: names (one file a class, one sample a line, letters only) and a corpus of characters cut
   into windows. The records of a corpus are views of one row of character numbers: x at the window's start, y
   one character on. */
#define _POSIX_C_SOURCE 200809L
#include "dataset.h"
#include <stdlib.h>
#include <string.h>

/* One code point; bytes that are no UTF-8 give -1 and a length of 1. Overlong forms and surrogates are none.
 */
static int32_t code_point(const unsigned char *p, size_t n, size_t *length) {
    *length = 1;
    if (p[0] < 0x80) return p[0];
    size_t more = p[0] >= 0xf0 && p[0] < 0xf5   ? 3
                  : p[0] >= 0xe0 && p[0] < 0xf0 ? 2
                  : p[0] >= 0xc2 && p[0] < 0xe0 ? 1
                                                : 0;
    if (!more || n <= more) return -1;
    int32_t c = p[0] & (0x3f >> more);
    for (size_t i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80) return -1;
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((more == 2 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
        (more == 3 && (c < 0x10000 || c > 0x10ffff)))
        return -1;
    *length = more + 1;
    return c;
}

/* ---- names ---- */

/* Base letters of U+00C0.. and U+1E00.. by the canonical decompositions of the Unicode Character Database; _
   has none that is a letter of ours. */
static const char latin[] =
    "AAAAAA_CEEEEIIII_NOOOOO__UUUUY__aaaaaa_ceeeeiiii_nooooo__uuuuy_yAaAaAaCcCcCcCcDd"
    "__EeEeEeEeEeGgGgGgGgHh__IiIiIiIiI___JjKk_LlLlLl____NnNnNn___OoOoOo__RrRrRrSsSsSs"
    "SsTtTt__UuUuUuUuUuUuWwYyYZzZzZz_________________________________Oo_____________U"
    "u____________________________AaIiOoUuUuUuUuUu_AaAa____GgKkOoOo__j___Gg__NnAa____"
    "AaAaEeEeIiIiOoOoRrRrUuUuSsTt__Hh______AaEeOoOoOoOoYy____________________________";
static const char latin_more[] =
    "AaBbBbBbCcDdDdDdDdDdEeEeEeEeEeFfGgHhHhHhHhHhIiIiKkKkKkLlLlLlLlMmMmMmNnNnNnNnOoOo"
    "OoOoPpPpRrRrRrRrSsSsSsSsSsTtTtTtTtUuUuUuUuUuVvVvWwWwWwWwWwXxXxYyZzZzZzhtwy______"
    "AaAaAaAaAaAaAaAaAaAaAaAaEeEeEeEeEeEeEeEeIiIiOoOoOoOoOoOoOoOoOoOoOoOoUuUuUuUuUuUu"
    "UuYyYyYyYy______";
static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'";
enum { LETTERS = sizeof letters - 1 };

/* The number of a letter; -1: the character is left out. */
static int letter(int32_t c) {
    if (c >= 0xc0 && c < 0xc0 + (int32_t)sizeof latin - 1) c = latin[c - 0xc0];
    else if (c >= 0x1e00 && c < 0x1e00 + (int32_t)sizeof latin_more - 1) c = latin_more[c - 0x1e00];
    else if (c == 0x212a || c == 0x212b) c = c == 0x212a ? 'K' : 'A'; /* kelvin, angstrom */
    else if (c == 0x37e) c = ';';                                     /* the Greek question mark */
    if (c <= 0 || c > 127) return -1;
    const char *at = strchr(letters, c);
    return at ? (int)(at - letters) : -1;
}

typedef struct Names {
    unsigned char *text;
    int64_t *starts;
    uint16_t *labels;
    int64_t *lengths;
} Names;

/* Walks the lines of all files; with to NULL it counts only. A line without a letter is no sample. */
static int walk_names(GradcData *d, char *const *paths, unsigned char *const *bytes, const size_t *sizes,
                      int n, Names *to, int64_t *samples, int64_t *total, GradcError *e) {
    *samples = *total = 0;
    for (int i = 0; i < n; i++) {
        size_t at = 0, line = 1;
        d->files[i].first = *samples;
        while (at < sizes[i]) {
            int64_t start = *total, blanks = 0; /* blanks: at the end so far */
            for (; at < sizes[i] && bytes[i][at] != '\n';) {
                size_t length;
                int32_t c = code_point(bytes[i] + at, sizes[i] - at, &length);
                if (c < 0)
                    return gradc_error(e, 103, "save it as UTF-8", "%s: line %zu (byte %zu) is not UTF-8",
                                       paths[i], line, at);
                int l = letter(c);
                at += length;
                if (l < 0 || (*total == start && c == ' '))
                    continue; /* blanks around a name are none of it */
                if (to) to->text[*total] = (unsigned char)l;
                blanks = c == ' ' ? blanks + 1 : 0;
                ++*total;
            }
            at++, line++;
            *total -= blanks;
            if (*total == start) continue;
            if (to)
                to->starts[*samples] = start, to->labels[*samples] = (uint16_t)i,
                to->lengths[*samples] = *total - start;
            ++*samples;
        }
        d->files[i].count = *samples - d->files[i].first;
    }
    if (to) to->starts[*samples] = *total;
    return 0;
}

static int add_names(GradcData *d, const Names *names, int n, char *const *labels, GradcError *e) {
    static const int64_t varying[1] = {-1};
    const char **table = data_alloc(d, LETTERS, sizeof *table, e),
               **classes = data_alloc(d, (size_t)n, sizeof *classes, e);
    if (!table || !classes) return gradc_error_status(e->code);
    for (int i = 0; i < LETTERS; i++)
        if (!(table[i] = data_string(d, letters + i, 1, e))) return gradc_error_status(e->code);
    for (int i = 0; i < n; i++)
        if (!(classes[i] = data_string(d, labels[i], strlen(labels[i]) - 4, e)))
            return gradc_error_status(e->code);
    DataField *x = data_add(d, "x", GRADC_U8, 1, varying, names->text, 0, e);
    if (!x) return gradc_error_status(e->code);
    x->starts = names->starts;
    x->names = table;
    x->pub.classes = LETTERS;
    DataField *length = data_add(d, "length", GRADC_I64, 0, NULL, names->lengths, sizeof *names->lengths, e);
    DataField *y =
        length ? data_add(d, "y", GRADC_U16, 0, NULL, names->labels, sizeof *names->labels, e) : NULL;
    if (!y) return gradc_error_status(e->code);
    y->names = classes;
    y->pub.classes = n;
    return 0;
}

int data_names(GradcData *d, GradcError *e) {
    char **files;
    int n, status = data_list(d, d->spec.path, "", ".txt", &files, &n, e);
    if (status) return status;
    if (!n || n > 65535)
        return gradc_error(e, 101, "names:DIR has one file LABEL.txt a class", "%s: %d files end in .txt",
                           d->spec.path, n);
    unsigned char **bytes = data_alloc(d, (size_t)n, sizeof *bytes, e);
    size_t *sizes = data_alloc(d, (size_t)n, sizeof *sizes, e);
    char **paths = data_alloc(d, (size_t)n, sizeof *paths, e);
    if (!bytes || !sizes || !paths) return gradc_error_status(e->code);
    for (int i = 0, file; i < n; i++) {
        if (!(paths[i] = data_path(d, d->spec.path, files[i], e))) return gradc_error_status(e->code);
        if ((status = data_bytes(d, paths[i], &bytes[i], &sizes[i], &file, e))) return status;
    }
    int64_t samples, total, most = 0;
    Names names;
    if ((status = walk_names(d, paths, bytes, sizes, n, NULL, &samples, &total, e))) return status;
    for (int i = 0; i < n; i++)
        most += (int64_t)sizes[i]; /* blanks are written before they turn out to be the last */
    names.text = data_alloc(d, (size_t)most, 1, e);
    names.starts = data_alloc(d, (size_t)samples + 1, sizeof *names.starts, e);
    names.labels = data_alloc(d, (size_t)samples, sizeof *names.labels, e);
    names.lengths = data_alloc(d, (size_t)samples, sizeof *names.lengths, e);
    if (!names.text || !names.starts || !names.labels || !names.lengths) return gradc_error_status(e->code);
    d->count = samples;
    if ((status = walk_names(d, paths, bytes, sizes, n, &names, &samples, &total, e))) return status;
    return add_names(d, &names, n, files, e);
}

/* ---- a corpus ---- */

enum { CODE_POINTS = 0x110000 };

typedef struct Corpus {
    const char *path;
    unsigned char *p;
    size_t n;
    bool utf8;
} Corpus;

static int read_corpus(GradcData *d, const char *path, Corpus *c, GradcError *e) {
    int file, status = data_bytes(d, path, &c->p, &c->n, &file, e);
    if (status) return status;
    c->path = path;
    c->utf8 = true;
    size_t length;
    for (size_t at = 0; at < c->n && c->utf8; at += length)
        c->utf8 = code_point(c->p + at, c->n - at, &length) >= 0;
    return 0;
}

static int32_t next(const Corpus *c, size_t *at) {
    size_t length = 1;
    int32_t v = c->utf8 ? code_point(c->p + *at, c->n - *at, &length) : c->p[*at];
    *at += length;
    return v;
}

/* Numbers in *number (0: not in the table, else 1 + the number) by order of code points. */
static int64_t make_table(const Corpus *c, uint32_t *number) {
    int64_t n = 0;
    for (size_t at = 0; at < c->n;) number[next(c, &at)] = 1;
    for (int i = 0; i < CODE_POINTS; i++)
        if (number[i]) number[i] = (uint32_t)++n;
    return n;
}

static const char **table_names(GradcData *d, const uint32_t *number, int64_t n, bool utf8, GradcError *e) {
    const char **names = data_alloc(d, (size_t)n, sizeof *names, e);
    for (int i = 0; i < CODE_POINTS && names; i++) {
        unsigned char s[4];
        size_t k = 0;
        if (!number[i]) continue;
        if (i < 0x80 || !utf8) s[k++] = (unsigned char)i;
        else if (i < 0x800) s[k++] = (unsigned char)(0xc0 | i >> 6);
        else if (i < 0x10000)
            s[k++] = (unsigned char)(0xe0 | i >> 12), s[k++] = (unsigned char)(0x80 | (i >> 6 & 0x3f));
        else
            s[k++] = (unsigned char)(0xf0 | i >> 18), s[k++] = (unsigned char)(0x80 | (i >> 12 & 0x3f)),
            s[k++] = (unsigned char)(0x80 | (i >> 6 & 0x3f));
        if (i >= 0x80 && utf8) s[k++] = (unsigned char)(0x80 | (i & 0x3f));
        if (!(names[number[i] - 1] = data_string(d, (char *)s, k, e))) return NULL;
    }
    return names;
}

int gradc_data_window(GradcData *d, int64_t T, GradcError *e) {
    if (!d->tokens) {
        if (d->fields[0].pub.rank && d->fields[0].pub.dims[0] == T) return 0;
        return gradc_error(e, 603, NULL, "%s:%s has no windows whose length could be chosen", d->spec.kind,
                           d->spec.path);
    }
    if (T < 1 || T >= d->tokens)
        return gradc_error(e, 303, "take shorter windows or more text",
                           "%s: %lld characters are too few for windows of %lld and the next", d->spec.path,
                           (long long)d->tokens, (long long)T);
    d->window = T;
    int64_t stride = d->stride ? d->stride : T;
    d->count = (d->tokens - 1 - T) / stride + 1;
    for (int i = 0; i < d->nfields; i++) {
        d->fields[i].pub.dims[0] = T;
        d->fields[i].step = (size_t)stride * gradc_dtype_size(d->fields[i].pub.dtype);
    }
    d->files[0].count = d->count;
    return 0;
}

static int add_corpus(GradcData *d, const Corpus *c, const uint32_t *number, const char **names,
                      int64_t classes, GradcError *e) {
    static const int64_t dims[1] = {1};
    int dtype = classes <= 256 ? GRADC_U8 : classes <= 65536 ? GRADC_U16 : GRADC_U32;
    size_t size = gradc_dtype_size(dtype), n = 0;
    for (size_t at = 0; at < c->n; n++) next(c, &at);
    char *tokens = data_alloc(d, n, size, e);
    if (!tokens) return gradc_error_status(e->code);
    for (size_t at = 0, k = 0; at < c->n; k++) {
        size_t here = at;
        uint32_t v = number[next(c, &at)];
        if (!v)
            return gradc_error(e, 303, "take the table from a text that has all characters",
                               "%s: the character at byte %zu is not in the table", c->path, here);
        v--;
        if (size == 1) tokens[k] = (char)v;
        else if (size == 2) ((uint16_t *)(void *)tokens)[k] = (uint16_t)v;
        else ((uint32_t *)(void *)tokens)[k] = v;
    }
    d->tokens = (int64_t)n;
    for (int i = 0; i < 2; i++) {
        DataField *f = data_add(d, i ? "y" : "x", dtype, 1, dims, tokens + (size_t)i * size, size, e);
        if (!f) return gradc_error_status(e->code);
        f->names = names;
        f->pub.classes = classes;
    }
    return 0;
}

int data_text(GradcData *d, GradcError *e) {
    Corpus c, of = {0};
    int64_t T = 64;
    const char *table = data_option(d, "table");
    int status;
    if ((status = data_integer(d, "length", 1, &T, e)) ||
        (status = data_integer(d, "stride", 1, &d->stride, e)) ||
        (status = read_corpus(d, d->spec.path, &c, e)) || (table && (status = read_corpus(d, table, &of, e))))
        return status;
    if (!table) of = c;
    if (of.utf8 != c.utf8) of.utf8 = c.utf8 = false;
    uint32_t *number = calloc(CODE_POINTS, sizeof *number);
    if (!number) return gradc_error(e, 506, NULL, "out of memory");
    int64_t classes = make_table(&of, number);
    const char **names = table_names(d, number, classes, of.utf8, e);
    status = names ? add_corpus(d, &c, number, names, classes, e) : gradc_error_status(e->code);
    free(number);
    return status ? status : gradc_data_window(d, T, e);
}
