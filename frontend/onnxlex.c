/* The words of the ONNX text syntax: see onnxtext.h. Every reader advances or leaves. */
#include "onnxtext.h"

void cursor_open(Cursor *r, Ctx *c, const char *text, size_t n) {
    *r = (Cursor){.c = c, .start = text, .p = text, .end = text + n};
    const char *zero = n ? memchr(text, 0, n) : NULL;
    if (zero) cursor_fail(r, zero, "the file may be a binary model", "a zero byte");
}

/* ---- errors ---- */

void cursor_fail(Cursor *r, const char *at, const char *help, const char *what) {
    int line = 1, column = 1;
    for (const char *p = r->start; p < at; p++) {
        if (*p == '\n') line++, column = 1;
        else column += ((unsigned char)*p & 0xc0) != 0x80; /* a UTF-8 character is one column */
    }
    gd_fail(r->c, 104, help, "line %d, column %d: %s", line, column, what);
}

void cursor_expected(Cursor *r, const char *what) {
    size_t n = cursor_word(r), rest = (size_t)(r->end - r->p);
    if (!rest) cursor_fail(r, r->p, NULL, gd_format(r->c, "%s is expected, but the text ends", what));
    if (!n) n = 1;
    if (n > 40) n = 40;
    cursor_fail(r, r->p, NULL, gd_format(r->c, "%s is expected, not \"%s\"", what, gd_escape(r->c, r->p, n)));
}

/* ---- characters and names ---- */

static bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }

char cursor_next(Cursor *r) {
    while (r->p < r->end) {
        if (*r->p == '#')
            while (r->p < r->end && *r->p != '\n') r->p++;
        else if (*r->p == ' ' || (*r->p >= '\t' && *r->p <= '\r')) r->p++;
        else return *r->p;
    }
    return 0;
}

bool cursor_match(Cursor *r, char ch) {
    if (cursor_next(r) != ch) return false;
    r->p++;
    return true;
}

void cursor_want(Cursor *r, char ch) {
    if (!cursor_match(r, ch)) cursor_expected(r, (char[]){ch, 0});
}

size_t cursor_word(Cursor *r) {
    size_t n = 0;
    if (!letter(cursor_next(r))) return 0;
    while (r->p + n < r->end && (letter(r->p[n]) || digit(r->p[n]))) n++;
    return n;
}

bool cursor_is(Cursor *r, const char *word) {
    size_t n = strlen(word);
    return cursor_word(r) == n && !memcmp(r->p, word, n);
}

char *cursor_identifier(Cursor *r, const char *what) {
    size_t n = cursor_word(r);
    if (!n) cursor_expected(r, what);
    r->p += n;
    return gd_strndup(r->c, r->p - n, n);
}

char *cursor_string(Cursor *r, size_t *n) {
    if (cursor_next(r) != '"') cursor_expected(r, "a string in quotes");
    const char *open = r->p++;
    while (r->p < r->end && *r->p != '"') r->p += *r->p == '\\' && r->p + 1 < r->end ? 2 : 1;
    if (r->p >= r->end) cursor_fail(r, open, NULL, "the closing \" of this string is missing");
    char *s = gd_alloc(r->c, (size_t)(r->p - open)), *to = s;
    for (const char *p = open + 1; p < r->p; p++) *to++ = *p == '\\' ? *++p : *p;
    r->p++;
    if (n) *n = (size_t)(to - s);
    return s;
}

char *cursor_name(Cursor *r) {
    return cursor_next(r) == '"' ? cursor_string(r, NULL) : cursor_identifier(r, "a name");
}

/* ---- numbers ---- */

/* inf, infinity or nan, in any case: how long; 0 for anything else. */
static size_t special(Cursor *r) {
    static const char *const words[] = {"inf", "infinity", "nan"};
    size_t n = cursor_word(r);
    for (int i = 0; i < 3; i++) {
        size_t k = 0;
        while (k < n && words[i][k] && (r->p[k] | 32) == words[i][k]) k++;
        if (k == n && n && !words[i][k]) return n;
    }
    return 0;
}

bool cursor_at_number(Cursor *r) {
    char ch = cursor_next(r);
    return digit(ch) || ch == '-' || special(r);
}

static void read_digits(Cursor *r, Number *n) {
    const char *from = r->p;
    char buf[400];
    n->whole = true;
    for (; r->p < r->end && digit(*r->p); r->p++) {
        uint64_t d = (uint64_t)(*r->p - '0');
        n->large = n->large || n->magnitude > (UINT64_MAX - d) / 10;
        if (!n->large) n->magnitude = n->magnitude * 10 + d;
    }
    if (r->p == from) cursor_expected(r, "a number");
    if (r->p < r->end && *r->p == '.') {
        n->whole = false;
        for (r->p++; r->p < r->end && digit(*r->p);) r->p++;
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        n->whole = false;
        r->p++;
        if (r->p < r->end && (*r->p == '-' || *r->p == '+')) r->p++;
        if (r->p == r->end || !digit(*r->p)) cursor_fail(r, r->p, NULL, "digits of an exponent are expected");
        while (r->p < r->end && digit(*r->p)) r->p++;
    }
    size_t length = (size_t)(r->p - from);
    if (length >= sizeof buf) cursor_fail(r, from, NULL, "a number of too many digits");
    memcpy(buf, from, length);
    buf[length] = 0;
    n->v = gradc_read_decimal(buf, &n->single);
}

Number cursor_number(Cursor *r) {
    Number n = {.negative = cursor_match(r, '-')};
    n.at = r->p - n.negative;
    size_t word = special(r);
    if (word) {
        n.v = (*r->p | 32) == 'i' ? __builtin_inf() : __builtin_nan("");
        n.single = (float)n.v;
        r->p += word;
    } else read_digits(r, &n);
    if (n.negative) n.v = -n.v, n.single = -n.single;
    return n;
}

int64_t number_int(Cursor *r, const Number *n) {
    if (!n->whole) cursor_fail(r, n->at, NULL, "an integer is expected");
    if (n->large || n->magnitude > (uint64_t)INT64_MAX + n->negative)
        cursor_fail(r, n->at, NULL, "this does not fit in 64 bits");
    return n->negative ? (int64_t)(0 - n->magnitude) : (int64_t)n->magnitude;
}

int64_t cursor_int(Cursor *r) {
    if (!cursor_at_number(r)) cursor_expected(r, "an integer");
    Number n = cursor_number(r);
    return number_int(r, &n);
}
