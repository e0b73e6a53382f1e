/* A VALUE of the command line: a file, made-up data, a number, or a list by a small recursive grammar. */
#define _POSIX_C_SOURCE 200809L
#include "element.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Parser {
    const char *value, *p; /* the whole text, and where we are */
    int dtype, rank;       /* rank: -1 until the first element or empty list tells */
    int64_t dims[GRADC_MAX_RANK];
    char *elements, *pool; /* a string element is an offset into the pool while both grow */
    size_t bytes, room, pool_bytes, pool_room;
    GradcError *e;
} Parser;

static int bad(Parser *q, const char *what) {
    return gradc_error(
        q->e, 601, "a value is @FILE.npy, rand, rand:SEED, zeros, ones, 3, \"text\", [1,2,3] or [1,2;3,4]",
        "%.100s: %s at column %d", q->value, what, (int)(q->p - q->value) + 1);
}

static int append(Parser *q, char **to, size_t *n, size_t *room, const void *from, size_t size) {
    if (*room - *n < size) {
        size_t want = *room ? 2 * *room : 256;
        while (want - *n < size) want *= 2;
        char *grown = realloc(*to, want);
        if (!grown) return gradc_error(q->e, 506, NULL, "out of memory for a value");
        *to = grown;
        *room = want;
    }
    memcpy(*to + *n, from, size);
    *n += size;
    return 0;
}

static void skip(Parser *q) {
    while (*q->p == ' ' || *q->p == '\t' || *q->p == '\n' || *q->p == '\r') q->p++;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static int hex_digit(char c) {
    if (digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
static bool word(Parser *q, const char *w) {
    size_t n = strlen(w);
    if (strncmp(q->p, w, n) || digit(q->p[n]) || letter(q->p[n])) return false;
    q->p += n;
    return true;
}

/* A number as written, before it meets a dtype. whole: magnitude is exact. */
typedef struct Number { double v; float single; bool negative, whole; uint64_t magnitude; } Number;

static void apply_sign(Number *n) {
    if (n->negative) n->v = -n->v, n->single = -n->single;
}

static int read_hex(Parser *q, Number *n) {
    const char *start = q->p;
    for (int d; (d = hex_digit(*q->p)) >= 0; q->p++) {
        if (n->magnitude >> 60) return bad(q, "a number of more than 64 bits");
        n->magnitude = n->magnitude << 4 | (uint64_t)d;
    }
    if (q->p == start) return bad(q, "hexadecimal digits are missing");
    n->whole = true;
    n->v = (double)n->magnitude;
    n->single = (float)n->magnitude;
    apply_sign(n);
    return 0;
}

static int read_digits(Parser *q, Number *n) {
    const char *start = q->p;
    bool plain = true;
    int seen = 0;
    n->whole = true;
    for (; digit(*q->p); q->p++, seen++) {
        uint64_t d = (uint64_t)(*q->p - '0');
        if (n->magnitude > (UINT64_MAX - d) / 10) n->whole = false;
        else n->magnitude = n->magnitude * 10 + d;
    }
    if (*q->p == '.')
        for (plain = false, q->p++; digit(*q->p); q->p++) seen++;
    if (!seen) return bad(q, "a number is expected");
    if (*q->p == 'e' || *q->p == 'E') {
        plain = false;
        q->p++;
        if (*q->p == '-' || *q->p == '+') q->p++;
        if (!digit(*q->p)) return bad(q, "an exponent is expected");
        while (digit(*q->p)) q->p++;
    }
    char buf[400];
    if ((size_t)(q->p - start) >= sizeof buf) return bad(q, "too long a number");
    memcpy(buf, start, (size_t)(q->p - start));
    buf[q->p - start] = 0;
    n->v = gradc_read_decimal(buf, &n->single);
    if (!plain) { /* 1e3 and 3.0 are integers too, as far as a double is exact about it */
        n->whole = n->v < 9007199254740992.0 && n->v == (double)(uint64_t)n->v;
        n->magnitude = n->whole ? (uint64_t)n->v : 0;
    }
    apply_sign(n);
    return isinf(n->v) ? bad(q, "a number too large for any type") : 0;
}

static int read_number(Parser *q, Number *n) {
    *n = (Number){0};
    if (*q->p == '-' || *q->p == '+') n->negative = *q->p++ == '-';
    bool infinite = !strncmp(q->p, "inf", 3);
    if (infinite || !strncmp(q->p, "nan", 3)) { /* a j may follow */
        q->p += 3;
        n->v = n->single = infinite ? INFINITY : NAN;
        apply_sign(n);
        return 0;
    }
    if (q->p[0] == '0' && (q->p[1] == 'x' || q->p[1] == 'X')) {
        q->p += 2;
        return read_hex(q, n);
    }
    return read_digits(q, n);
}

static int misfit(Parser *q, const char *start) {
    return gradc_error(q->e, 603, NULL, "%.*s does not fit in %s",
                       (int)(q->p - start > 60 ? 60 : q->p - start), start, gradc_dtype_name(q->dtype));
}

static int read_complex(Parser *q, char *out) {
    const char *start = q->p;
    int part = q->dtype == GRADC_C64 ? GRADC_F32 : GRADC_F64;
    Number parts[2] = {{0}}, n;
    int status = read_number(q, &n);
    if (status) return status;
    bool imaginary = *q->p == 'j';
    parts[imaginary] = n;
    if (imaginary) q->p++;
    else if (*q->p == '+' || *q->p == '-') {
        if ((status = read_number(q, &parts[1]))) return status;
        if (*q->p++ != 'j') { q->p--; return bad(q, "j is expected"); }
    }
    for (int i = 0; i < 2; i++)
        if (!gradc_put_float(part, parts[i].v, parts[i].single, out + (size_t)i * gradc_types[part].size))
            return misfit(q, start);
    return 0;
}

static int read_text(Parser *q, char *out) {
    size_t offset = q->pool_bytes;
    if (*q->p != '"') return bad(q, "a \"text\" is expected");
    for (q->p++; *q->p != '"'; q->p++) {
        char c = *q->p;
        if (!c) return bad(q, "the closing \" is missing");
        if (c == '\\') {
            c = *++q->p;
            if (c == 'n') c = '\n';
            else if (c == 't') c = '\t';
            else if (c == 'x') {
                int high = hex_digit(q->p[1]), low = high < 0 ? -1 : hex_digit(q->p[2]);
                if (low < 0 || !(high | low)) return bad(q, "two hexadecimal digits, not 00, are expected");
                c = (char)(16 * high + low);
                q->p += 2;
            } else if (c != '"' && c != '\\') return bad(q, "an unknown escape");
        }
        int status = append(q, &q->pool, &q->pool_bytes, &q->pool_room, &c, 1);
        if (status) return status;
    }
    q->p++;
    memcpy(out, &offset, sizeof offset);
    return append(q, &q->pool, &q->pool_bytes, &q->pool_room, "", 1);
}

/* One element into out, of room for the largest dtype. */
static int read_element(Parser *q, char *out) {
    const char *start = q->p;
    Number n;
    int kind = gradc_types[q->dtype].kind;
    if (kind == TEXT) return read_text(q, out);
    if (kind == COMPLEX) return read_complex(q, out);
    bool truth = word(q, "true");
    if (truth || word(q, "false")) {
        if (kind != BOOLEAN) return misfit(q, start);
        *out = truth;
        return 0;
    }
    int status = read_number(q, &n);
    if (status) return status;
    bool fits = kind == FLOAT ? gradc_put_float(q->dtype, n.v, n.single, out)
                              : n.whole && gradc_put_integer(q->dtype, n.negative, n.magnitude, out);
    return fits ? 0 : misfit(q, start);
}

/* Whether the list at p (on its bracket) separates rows by semicolons of its own level. */
static bool has_rows(const char *p) {
    int depth = 0;
    for (bool quoted = false; *p; p++) {
        if (*p == '\\' && quoted && p[1]) p++;
        else if (*p == '"') quoted = !quoted;
        else if (quoted) continue;
        else if (*p == '[') depth++;
        else if (*p == ']' && !--depth) return false;
        else if (*p == ';' && depth == 1) return true;
    }
    return false;
}

static int set_rank(Parser *q, int rank) {
    if (q->rank >= 0 && q->rank != rank) return bad(q, "lists are nested to different depths");
    q->rank = rank;
    return 0;
}

static int set_dim(Parser *q, int axis, int64_t n) {
    if (q->dims[axis] >= 0 && q->dims[axis] != n) return bad(q, "rows differ in length");
    q->dims[axis] = n;
    return 0;
}

/* Recursion ends at GRADC_MAX_RANK: each level is an axis. */
static int read_list(Parser *q, int axis) {
    bool rows = has_rows(q->p);
    int64_t row = 0, n = 0;
    int status, last = axis + rows;
    if (last >= GRADC_MAX_RANK) return bad(q, "lists are nested too deep");
    q->p++;
    skip(q);
    if (*q->p == ']') {
        q->p++;
        status = set_rank(q, axis + 1);
        return status ? status : set_dim(q, axis, 0);
    }
    for (;;) {
        char element[16];
        skip(q);
        if (*q->p == '[') status = read_list(q, last + 1);
        else if (!(status = set_rank(q, last + 1)) && !(status = read_element(q, element)))
            status = append(q, &q->elements, &q->bytes, &q->room, element, gradc_types[q->dtype].size);
        if (status) return status;
        n++;
        skip(q);
        char c = *q->p;
        if (c != ',' && c != ';' && c != ']')
            return bad(q, c ? ", or ] is expected" : "the closing ] is missing");
        if (c != ',' && rows) {
            if ((status = set_dim(q, last, n))) return status;
            row++;
            n = 0;
        }
        q->p++;
        if (c == ']') return set_dim(q, axis, rows ? row : n);
    }
}

static const char *wanted(const GradcWant *w, char *buf, size_t size) {
    return w->text ? w->text : gradc_shape_text(buf, size, w->dtype, w->rank, w->dims);
}

static int compare_shape(const GradcTensor *t, const GradcWant *w, GradcError *e) {
    char have[512], want[512];
    bool same = t->dtype == w->dtype && t->rank == w->rank;
    for (int i = 0; same && i < w->rank; i++) same = w->dims[i] < 0 || w->dims[i] == t->dims[i];
    if (same) return 0;
    const char *help = t->dtype == w->dtype ? NULL : "convert it where it was made (NumPy: x.astype)";
    return gradc_error(e, 603, help, "it is %.200s, but %.200s is wanted",
                       gradc_shape_text(have, sizeof have, t->dtype, t->rank, t->dims),
                       wanted(w, want, sizeof want));
}

/* A list of lower rank lacks leading axes of one row. `[]` stands for any shape without elements. */
static void raise_rank(GradcTensor *t, const GradcWant *w) {
    int more = w->rank - t->rank;
    if (t->rank == 1 && !t->bytes) {
        bool empty = false;
        for (int i = 0; i < w->rank; i++) empty = empty || w->dims[i] <= 0;
        if (!empty) return;
        for (int i = 0; i < w->rank; i++) t->dims[i] = w->dims[i] < 0 ? 0 : w->dims[i];
        t->rank = w->rank;
    } else if (more > 0) {
        memmove(t->dims + more, t->dims, (size_t)t->rank * sizeof *t->dims);
        for (int i = 0; i < more; i++) t->dims[i] = 1;
        t->rank = w->rank;
    }
}

/* Offsets become pointers into a pool behind the elements. */
static int attach_pool(GradcTensor *t, const char *pool, size_t pool_bytes, GradcError *e) {
    char *data = NULL, *strings;
    void *raw = NULL;
    if (posix_memalign(&raw, GRADC_ALIGN, t->bytes + pool_bytes + 1))
        return gradc_error(e, 506, NULL, "out of memory for a tensor of strings");
    data = raw;
    strings = data + t->bytes;
    if (pool_bytes) memcpy(strings, pool, pool_bytes);
    for (size_t i = 0; i < t->bytes; i += sizeof(char *)) {
        size_t offset;
        memcpy(&offset, (char *)t->data + i, sizeof offset);
        const char *s = strings + offset;
        memcpy(data + i, &s, sizeof s);
    }
    free(t->data);
    t->data = data;
    return 0;
}

static int parse_list(GradcTensor *t, Parser *q, const GradcWant *w) {
    int status = read_list(q, 0);
    skip(q);
    if (!status && *q->p) status = bad(q, "text after the closing ]");
    if (!status) status = gradc_tensor_new(t, q->dtype, q->rank, q->dims, q->e);
    if (status) return status;
    if (q->bytes) memcpy(t->data, q->elements, q->bytes);
    raise_rank(t, w);
    return compare_shape(t, w, q->e);
}

static int new_filled(GradcTensor *t, const GradcWant *w, GradcError *e) {
    int64_t dims[GRADC_MAX_RANK];
    for (int i = 0; i < w->rank; i++)
        dims[i] = w->dims[i] >= 0 ? w->dims[i] : w->sizes ? w->sizes[i] : 1;
    return gradc_tensor_new(t, w->dtype, w->rank, dims, e);
}

static int parse_random(GradcTensor *t, Parser *q, const GradcWant *w) {
    uint64_t seed = w->seed;
    if (*q->p == ':') {
        Number n;
        q->p++;
        int status = read_number(q, &n);
        if (status) return status;
        if (!n.whole || n.negative) return bad(q, "a seed is an integer from 0 on");
        seed = n.magnitude;
    }
    if (*q->p) return bad(q, "text after rand");
    int status = new_filled(t, w, q->e);
    return status ? status : gradc_tensor_random(t, seed, q->e);
}

static int parse_fill(GradcTensor *t, Parser *q, const GradcWant *w) {
    char element[16] = {0};
    size_t size = gradc_dtype_size(w->dtype);
    int status = 0;
    bool one = !strcmp(q->p, "ones"), text = gradc_types[w->dtype].kind == TEXT;
    if (text && !strcmp(q->p, "zeros")) status = append(q, &q->pool, &q->pool_bytes, &q->pool_room, "", 1);
    else if (one && !text) {
        Parser unit = {.value = "1", .p = "1", .dtype = w->dtype, .e = q->e};
        status = read_element(&unit, element);
    } else if (one || strcmp(q->p, "zeros")) {
        status = read_element(q, element);
        if (!status && *q->p) status = bad(q, "text after the value");
    } else if (gradc_types[w->dtype].top == POWER) return gradc_error(q->e, 603, NULL, "f8e8m0 has no zero");
    if (!status) status = new_filled(t, w, q->e);
    if (status) return status;
    for (size_t i = 0; i < t->bytes; i += size) memcpy((char *)t->data + i, element, size);
    return 0;
}

bool gradc_value_has_shape(const char *value) {
    Parser q = {.p = value};
    skip(&q);
    return *q.p == '@' || *q.p == '[';
}

int gradc_value_parse(GradcTensor *t, const char *value, const GradcWant *want, GradcError *e) {
    Parser q = {.value = value, .p = value, .dtype = want->dtype, .rank = -1, .e = e};
    int status;
    *t = (GradcTensor){0};
    for (int i = 0; i < GRADC_MAX_RANK; i++) q.dims[i] = -1;
    if (!gradc_dtype_size(want->dtype) || want->rank < 0 || want->rank > GRADC_MAX_RANK)
        return gradc_error(e, 901, NULL, "dtype %d or rank %d is wrong", want->dtype, want->rank);
    skip(&q);
    bool file = *q.p == '@';
    if (file) {
        status = (want->read ? want->read : gradc_npy_read)(t, q.p + 1, want->dtype, e);
        if (!status) status = compare_shape(t, want, e);
    } else if (*q.p == '[') status = parse_list(t, &q, want);
    else if (word(&q, "rand")) status = parse_random(t, &q, want);
    else status = parse_fill(t, &q, want);
    if (!status && want->dtype == GRADC_STRING && !file) status = attach_pool(t, q.pool, q.pool_bytes, e);
    free(q.elements);
    free(q.pool);
    if (status) gradc_tensor_free(t);
    return status;
}
