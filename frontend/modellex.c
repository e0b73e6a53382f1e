/* Tokens of a model description, and how problems in it are told: see model.h.

   Lines end statements, except inside ( ) and [ ]. Every byte is looked at once. */
#include "model.h"
#include <ctype.h>
#include <stdlib.h>

/* ---- errors ---- */

const char *model_place(Desc *d, const char *s) {
    int line = 1, column = 1;
    for (const char *p = d->text; p < s; p++) {
        if (*p == '\n') line++, column = 1;
        else column += ((unsigned char)*p & 0xc0) != 0x80; /* a UTF-8 character is one column */
    }
    return gd_format(d->c, "line %d, column %d", line, column);
}

static const char *shown(Desc *d, const Tok *t) {
    if (t->kind == TK_END) return "the end of the text";
    if (t->kind == TK_LINE) return "the end of the line";
    return gd_format(d->c, "\"%s\"", gd_escape(d->c, t->s, t->n > 40 ? 40 : t->n));
}

void model_error(Desc *d, const Tok *at, int code, const char *help, const char *fmt, ...) {
    char what[1024];
    va_list ap;
    if (d->failed) return;
    d->failed = true;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    const char *message = gd_format(d->c, "%s: %s", model_place(d, at->s), what);
    if (map_gets(d->told, message)) return;
    map_puts(d->told, message, d);
    gd_error(d->c, code, help, "%s", message);
}

void model_expected(Desc *d, const char *what) {
    const Tok *t = model_peek(d);
    model_error(d, t, 104, NULL, "%s is expected, not %s", what, shown(d, t));
}

/* Levenshtein's distance between words of fewer than 32 letters. */
static int distance(const char *a, const char *b) {
    int row[33], n = (int)strlen(b), m = (int)strlen(a);
    if (n > 31 || m > 31) return 99;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]), best = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = replace < best + 1 ? replace : best + 1;
        }
    }
    return row[n];
}

const char *model_nearest(const char *word, const char *const *names, int n) {
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2;
    for (int i = 0; i < n; i++) {
        int k = distance(word, names[i]);
        if (k < least) {
            least = k;
            best = names[i];
        }
    }
    return best;
}

/* ---- tokens ---- */

static bool digit(char ch) { return ch >= '0' && ch <= '9'; }
static bool letter(char ch) { return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || ch == '_'; }

/* 3x3, 1x28x28: whole numbers with an x between them. NULL: not that. */
static const char *size_token(const char *s, const char *end, Tok *t) {
    int n = 0;
    const char *p = s;
    while (p < end && digit(*p) && n < 4) {
        int64_t v = 0;
        for (; p < end && digit(*p); p++) v = v < 1000000000 ? v * 10 + (*p - '0') : v;
        t->size[n++] = v;
        if (p + 1 >= end || *p != 'x' || !digit(p[1])) break;
        p++;
    }
    t->nsize = n;
    return n > 1 && (p == end || (!letter(*p) && *p != '.')) ? p : NULL;
}

static const char *number_token(Desc *d, const char *s, const char *end, Tok *t) {
    const char *p = s;
    bool whole = true;
    while (p < end && digit(*p)) p++;
    if (p < end && *p == '.') {
        whole = false;
        for (p++; p < end && digit(*p);) p++;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        const char *q = p + 1;
        if (q < end && (*q == '+' || *q == '-')) q++;
        if (q < end && digit(*q)) {
            whole = false;
            for (p = q; p < end && digit(*p);) p++;
        }
    }
    const char *behind;
    t->v = gd_strtod(gd_strndup(d->c, s, (size_t)(p - s)), &behind);
    t->whole = whole && t->v < 9e15;
    return p;
}

static const char *string_token(Desc *d, const char *s, const char *end, Tok *t) {
    const char *p = s + 1;
    while (p < end && *p != '"' && *p != '\n') p++;
    t->text = gd_strndup(d->c, s + 1, (size_t)(p - s - 1));
    if (p < end && *p == '"') return p + 1;
    t->s = s;
    t->n = (size_t)(p - s);
    model_error(d, t, 104, NULL, "the closing \" of this string is missing");
    return p;
}

static const char *punct_token(Desc *d, const char *s, const char *end, Tok *t) {
    static const char *const two[] = {"==", "!=", "<=", ">=", "&&", "||"};
    for (size_t i = 0; i < sizeof two / sizeof *two && s + 1 < end; i++)
        if (!memcmp(s, two[i], 2)) {
            t->text = two[i];
            return s + 2;
        }
    t->text = gd_strndup(d->c, s, 1);
    if (!strchr("()[]{}=:,;+-*/%<>!?.&|", *s) || !*s) {
        t->s = s;
        t->n = 1;
        d->failed = false;
        model_error(d, t, 104, NULL, "the character \"%s\" has no meaning here", gd_escape(d->c, s, 1));
        return NULL;
    }
    return s + 1;
}

/* A statement goes on after a line that ends inside brackets. */
void model_lex(Desc *d) {
    Toks toks = {0};
    const char *s = d->text, *end = s + d->ntext;
    int open = 0;
    while (s < end) {
        Tok t = {.s = s};
        const char *next = s + 1;
        gd_check_time(d->c);
        if (*s == '#') {
            while (s < end && *s != '\n') s++;
            continue;
        }
        if (*s == '\n' || *s == ';') t.kind = TK_LINE;
        else if (isspace((unsigned char)*s)) {
            s++;
            continue;
        } else if (letter(*s)) {
            while (next < end && (letter(*next) || digit(*next))) next++;
            t.kind = TK_WORD;
            t.text = gd_strndup(d->c, s, (size_t)(next - s));
        } else if (digit(*s) && (next = size_token(s, end, &t))) t.kind = TK_SIZE;
        else if (digit(*s) || (*s == '.' && s + 1 < end && digit(s[1]))) {
            t.kind = TK_NUMBER;
            next = number_token(d, s, end, &t);
        } else if (*s == '"') {
            t.kind = TK_STRING;
            next = string_token(d, s, end, &t);
        } else {
            t.kind = TK_PUNCT;
            next = punct_token(d, s, end, &t);
            if (next && strchr("([", *s)) open++;
            if (next && strchr(")]", *s) && open) open--;
            if (next && strchr("{}", *s)) open = 0;
        }
        if (next) {
            t.n = (size_t)(next - s);
            if (t.kind != TK_LINE || !open) vec_push(d->c, &toks, t);
        }
        while (!next && s < end && *s != '\n') s++; /* what stands behind a byte without meaning is not looked at */
        if (next) s = next;
    }
    vec_push(d->c, &toks, ((Tok){.kind = TK_LINE, .s = end}));
    vec_push(d->c, &toks, ((Tok){.kind = TK_END, .s = end}));
    d->t = toks.v;
    d->failed = false;
}

/* ---- reading them ---- */

const Tok *model_peek(Desc *d) { return &d->t[d->at]; }

bool model_is(Desc *d, const char *text) {
    const Tok *t = model_peek(d);
    return (t->kind == TK_WORD || t->kind == TK_PUNCT) && !strcmp(t->text, text);
}

bool model_take(Desc *d, const char *text) {
    if (!model_is(d, text)) return false;
    d->at++;
    return true;
}

bool model_want(Desc *d, const char *punct) {
    if (model_take(d, punct)) return true;
    model_expected(d, gd_format(d->c, "\"%s\"", punct));
    return false;
}

const char *model_word(Desc *d, const char *what) {
    const Tok *t = model_peek(d);
    if (t->kind == TK_WORD) {
        d->at++;
        return t->text;
    }
    model_expected(d, what);
    return NULL;
}

bool model_line_ends(Desc *d) {
    const Tok *t = model_peek(d);
    return t->kind == TK_LINE || t->kind == TK_END || model_is(d, "}");
}
