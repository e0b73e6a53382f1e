/* Expressions as text, in the language of formulas (formula.h) with the loop IR's leaves: docs/loop-ir.md.

   The text depends on what an expression is, not on the order in which its parts were made: the terms of an
   index sum are printed in order of appearance of their variables, then by their text. So parsing a text and
   printing the result gives the text again. Precedence is C's; parentheses stand where the tree would
   otherwise be read differently. */
#include "text.h"
#include <ctype.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>

enum { P_SELECT = 1, P_OR = 3, P_XOR, P_AND, P_EQUAL, P_LESS, P_SHIFT, P_SUM, P_PRODUCT, P_UNARY, P_PRIMARY };

typedef struct Printer {
    Text *t;
    const Map *names;
    const Expr *whole; /* is printed although it has a name */
    size_t limit;      /* of the text: what is left out is ... */
    char *scratch;     /* for reordering what was just printed */
    size_t room;
} Printer;

static int print(Printer *p, const Expr *e, int level);

/* ---- words ---- */

bool text_keyword(const char *s, size_t n) {
    static const char *const words[] = {"if", "else", "in", "count", "mod", "true", "false", "inf", "nan"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == n && !memcmp(words[i], s, n)) return true;
    return false;
}

bool text_identifier(const char *s) {
    if (!s || !(isalpha((unsigned char)*s) || *s == '_')) return false;
    for (const char *q = s; *q; q++)
        if (!isalnum((unsigned char)*q) && *q != '_') return false;
    return true;
}

void type_print(Text *t, Type type) {
    if (type.lanes > 1) text_printf(t, "v%d", type.lanes);
    text_put(t, gd_dtypes[type.dt].name);
}

static const char *name_of(const Printer *p, const void *thing, const char *own, int *order) {
    const Named *n = p->names ? map_getp(p->names, thing) : NULL;
    if (!n) return own;
    *order = n->order;
    return n->name;
}

/* ---- constants ---- */

/* The C library's decimal point may be another than '.'. */
static void with_point(char *s) {
    const char *point = localeconv()->decimal_point;
    char *at = *point && strcmp(point, ".") ? strstr(s, point) : NULL;
    if (!at) return;
    *at = '.';
    memmove(at + 1, at + strlen(point), strlen(at + strlen(point)) + 1);
}

bool const_parse(Ctx *c, DType t, const char *s, size_t n, uint64_t *bits) {
    char *end, *copy = gd_strndup(c, s, n);
    bool minus = *copy == '-', whole = n > 0;
    const char *digits = copy + minus;
    if (!isdigit((unsigned char)*digits) && strcmp(digits, "inf") && strcmp(digits, "nan")) return false;
    for (const char *q = digits; *q; q++) whole = whole && isdigit((unsigned char)*q);
    bool hex = digits[0] == '0' && digits[1] == 'x' && !strpbrk(digits, ".p");
    if (whole || hex) { /* exact, and modulo 2^64 */
        uint64_t v = strtoull(digits, &end, hex ? 16 : 10);
        if (*end) return false;
        if (minus) v = 0 - v;
        if (dt_int(t)) {
            *bits = gd_load_bits(t, &v);
            return true;
        }
        if (hex) return false;
    } else if (dt_int(t)) return false;
    char *dot = strchr(copy, '.');
    const char *point = localeconv()->decimal_point;
    if (dot && strcmp(point, ".")) copy = gd_format(c, "%.*s%s%s", (int)(dot - copy), copy, point, dot + 1);
    if (t == F32) { /* rounded once */
        float f = strtof(copy, &end);
        *bits = gd_to_bits(t, (double)f);
    } else *bits = gd_to_bits(t, strtod(copy, &end));
    return !*end && (dt_float(t) || dt_small(t));
}

/* The shortest decimal number that reads back as the same value; whole ones are written out. */
static void float_print(Text *t, DType type, uint64_t bits) {
    double d = gd_to_double(type, bits);
    char s[64];
    if (isinf(d)) {
        text_put(t, d < 0 ? "-inf" : "inf");
        return;
    }
    bool whole = fabs(d) < 1e9 && d == trunc(d);
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, whole ? "%.*f" : "%.*g", digits, d);
        if (whole) break;
        uint64_t back =
            type == F32 ? gd_to_bits(F32, (double)strtof(s, NULL)) : gd_to_bits(type, strtod(s, NULL));
        if (back == bits) break;
    }
    with_point(s);
    text_put(t, s);
    if (!strpbrk(s, ".e")) text_put(t, ".0");
}

static void scalar_print(Text *t, DType type, uint64_t bits, bool bare) {
    const char *name = gd_dtypes[type].name;
    if (type == BOOL) {
        text_put(t, bits ? "true" : "false");
        return;
    }
    bool whole = dt_int(type), fraction = dt_float(type) || dt_small(type);
    if (!whole && (!fraction || (isnan(gd_to_double(type, bits)) && bits != gd_to_bits(type, (double)NAN)))) {
        text_printf(t, "as_%s(u%d(0x%llx))", name, 8 * gd_dtypes[type].bytes, (unsigned long long)bits);
        return;
    }
    bool plain = bare || type == I64 || type == F32;
    if (!plain) text_printf(t, "%s(", name);
    if (fraction && isnan(gd_to_double(type, bits))) text_put(t, "nan");
    else if (fraction) float_print(t, type, bits);
    else if (gd_dtypes[type].kind == DK_INT) text_printf(t, "%lld", (long long)bits);
    else text_printf(t, "%llu", (unsigned long long)bits);
    if (!plain) text_put(t, ")");
}

void const_print(Text *t, Type type, uint64_t bits, bool bare) {
    if (type.lanes > 1) text_printf(t, "splat%d(", type.lanes);
    scalar_print(t, (DType)type.dt, bits, bare);
    if (type.lanes > 1) text_put(t, ")");
}

/* ---- index sums ---- */

typedef struct Piece {
    size_t from, n;
    int order;
    bool minus, constant;
} Piece;

static int piece_order(const Printer *p, const Piece *a, const Piece *b) {
    if (a->constant != b->constant) return a->constant ? 1 : -1;
    if (a->minus != b->minus) return a->minus ? 1 : -1;
    if (a->order != b->order) return a->order < b->order ? -1 : 1;
    int d = memcmp(p->t->s + a->from, p->t->s + b->from, a->n < b->n ? a->n : b->n);
    return d ? d : a->n < b->n ? -1 : a->n > b->n;
}

/* Prints the pieces, which are the end of the text, in order and with the separator between them. */
static void arrange(Printer *p, Piece *piece, int n, const char *between) {
    size_t from = piece[0].from, length = p->t->n - from;
    for (int i = 1; i < n; i++) {
        Piece x = piece[i];
        int k = i;
        for (; k > 0 && piece_order(p, &x, &piece[k - 1]) < 0; k--) piece[k] = piece[k - 1];
        piece[k] = x;
    }
    if (length > p->room) {
        p->room = 2 * length;
        p->scratch = gd_alloc(p->t->c, p->room);
    }
    memcpy(p->scratch, p->t->s + from, length);
    p->t->n = from;
    bool sum = !between;
    if (sum && piece[0].minus && piece[n - 1].constant && !piece[n - 1].minus) { /* 3-x for -x+3 */
        Piece last = piece[n - 1];
        memmove(piece + 1, piece, (size_t)(n - 1) * sizeof *piece);
        piece[0] = last;
    }
    for (int i = 0; i < n; i++) {
        if (sum && (i || piece[i].minus)) text_put(p->t, piece[i].minus ? "-" : "+");
        else if (i) text_put(p->t, between);
        text_putn(p->t, p->scratch + (piece[i].from - from), piece[i].n);
    }
}

static int print_product(Printer *p, const Expr *e, bool without_sign) {
    enum { FACTORS = 64 };
    Piece piece[FACTORS];
    int n = 0, order = -1;
    for (;; e = e->arg[0]) {
        const Expr *f = e->kind == E_MUL && n < FACTORS - 1 ? e->arg[1] : e;
        int64_t k;
        bool number = is_int(f, &k);
        piece[n] = (Piece){.from = p->t->n, .constant = number, .order = -1};
        if (number && without_sign && k < 0 && k != INT64_MIN) text_printf(p->t, "%lld", (long long)-k);
        else piece[n].order = print(p, f, P_UNARY);
        piece[n].n = p->t->n - piece[n].from;
        if (piece[n].order > order) order = piece[n].order;
        if (number && without_sign && k == -1) p->t->n = piece[n].from; /* -x, not x*-1 */
        else n++;
        if (f == e) break;
    }
    arrange(p, piece, n, "*");
    return order;
}

static int print_sum(Printer *p, const Expr *e) {
    enum { TERMS = 80 };
    Piece piece[TERMS];
    int n = 0, order = -1;
    for (;; e = e->arg[0]) {
        const Expr *f = e->kind == E_ADD && n < TERMS - 1 ? e->arg[1] : e;
        int64_t k = 0;
        bool number = is_int(f, &k), scaled = f->kind == E_MUL && is_int(f->arg[1], &k);
        piece[n] = (Piece){.from = p->t->n,
                           .constant = number,
                           .order = -1,
                           .minus = (number || scaled) && k < 0 && k != INT64_MIN};
        if (number) text_printf(p->t, "%lld", (long long)(piece[n].minus ? -k : k));
        else piece[n].order = f->kind == E_MUL ? print_product(p, f, piece[n].minus) : print(p, f, P_SUM + 1);
        piece[n].n = p->t->n - piece[n].from;
        if (piece[n].order > order) order = piece[n].order;
        n++;
        if (f == e) break;
    }
    arrange(p, piece, n, NULL);
    return order;
}

/* The operands of a commutative index operator. */
static int print_pair(Printer *p, const Expr *e, int level, const char *between) {
    Piece piece[2];
    for (int i = 0; i < 2; i++) {
        piece[i] = (Piece){.from = p->t->n, .constant = is_const(e->arg[i])};
        piece[i].order = print(p, e->arg[i], level);
        piece[i].n = p->t->n - piece[i].from;
    }
    arrange(p, piece, 2, between);
    return piece[0].order > piece[1].order ? piece[0].order : piece[1].order;
}

/* ---- operators ---- */

static const struct {
    const char *text;
    uint8_t arity, form, level;
} rows[E_KINDS] = {
#define FORM_I 'I'
#define FORM_P 'P'
#define FORM_F 'F'
#define O(NAME, text, arity, result, form) [E_##NAME] = {text, arity, FORM_##form, 0},
#include "scalar.def"
#undef O
    [E_ZIP_LO] = {"zip_lo", 2, FORM_F, 0},
    [E_ZIP_HI] = {"zip_hi", 2, FORM_F, 0},
};

static int level_of(const Expr *e) {
    switch (e->kind) {
    case E_SELECT: return P_SELECT;
    case E_OR: return P_OR;
    case E_XOR: return P_XOR;
    case E_AND: return P_AND;
    case E_EQ:
    case E_NE: return P_EQUAL;
    case E_LT:
    case E_LE: return P_LESS;
    case E_SHL:
    case E_SHR: return P_SHIFT;
    case E_ADD:
    case E_SUB: return P_SUM;
    case E_MUL:
    case E_DIV:
    case E_REM:
    case E_FDIV:
    case E_FMOD: return P_PRODUCT;
    case E_NEG:
    case E_NOT: return P_UNARY;
    default: return P_PRIMARY;
    }
}

static int more(int a, int b) { return a > b ? a : b; }

static int print_args(Printer *p, const Expr *e) {
    int order = -1;
    for (int i = 0; i < e->nargs; i++) {
        if (i) text_put(p->t, ", ");
        order = more(order, print(p, e->arg[i], 0));
    }
    text_put(p->t, ")");
    return order;
}

static int print_load(Printer *p, const Expr *e) {
    const Buf *b = e->buf;
    int order = -1, ignored = -1;
    const Expr *mask = e->nargs > b->rank ? e->arg[b->rank] : NULL;
    if (mask) text_put(p->t, "(");
    text_put(p->t, name_of(p, b, b->name, &ignored));
    if (e->type.lanes > 1 && b->lanes == 1) text_printf(p->t, ".v%d", e->type.lanes);
    for (int i = 0; i < b->rank; i++) {
        text_put(p->t, i ? ", " : "[");
        order = more(order, print(p, e->arg[i], 0));
    }
    if (b->rank) text_put(p->t, "]");
    if (mask) {
        text_put(p->t, mask->type.dt == BOOL ? " if " : " count ");
        order = more(order, print(p, mask, 0));
        text_put(p->t, ")");
    }
    return order;
}

static int print_select(Printer *p, const Expr *e) {
    int order = print(p, e->arg[0], P_SELECT + 1);
    text_put(p->t, " ? ");
    order = more(order, print(p, e->arg[1], P_SELECT + 1));
    text_put(p->t, " : ");
    return more(order, print(p, e->arg[2], P_SELECT));
}

static int print_infix(Printer *p, const Expr *e, int level, bool index) {
    const char *text = e->kind == E_FDIV ? "//" : e->kind == E_FMOD ? "mod" : rows[e->kind].text;
    bool tight = index && e->kind != E_FMOD && level >= P_SUM, whole = e->kind == E_FDIV || e->kind == E_FMOD;
    int order = print(p, e->arg[0], whole ? P_UNARY : level);
    text_printf(p->t, tight ? "%s" : " %s ", text);
    return more(order, print(p, e->arg[1], whole ? P_UNARY : level + 1));
}

static int print_operator(Printer *p, const Expr *e, int level) {
    bool index = e->nargs && type_eq(e->arg[0]->type, scalar(I64)), truth = e->arg[0]->type.dt == BOOL;
    if (index && e->kind == E_ADD) return print_sum(p, e);
    if (index && e->kind == E_MUL) return print_product(p, e, false);
    if (index && (e->kind == E_EQ || e->kind == E_NE))
        return print_pair(p, e, level + 1, e->kind == E_EQ ? " == " : " != ");
    if (index && (e->kind == E_MIN || e->kind == E_MAX)) {
        text_printf(p->t, "%s(", rows[e->kind].text);
        int order = print_pair(p, e, 0, ", ");
        text_put(p->t, ")");
        return order;
    }
    if (e->kind == E_SELECT) return print_select(p, e);
    if (e->kind == E_NEG || e->kind == E_NOT) {
        text_put(p->t, e->kind == E_NEG ? "-" : truth ? "!" : "~");
        return print(p, e->arg[0], P_UNARY + (e->kind == E_NEG)); /* never -- */
    }
    if (level != P_PRIMARY) return print_infix(p, e, level, index);
    if (e->kind == E_CAST) text_put(p->t, gd_dtypes[e->type.dt].name);
    else if (e->kind == E_BITS) text_printf(p->t, "as_%s", gd_dtypes[e->type.dt].name);
    else if (e->kind == E_SPLAT) text_printf(p->t, "splat%d", e->type.lanes);
    else text_put(p->t, rows[e->kind].text);
    text_put(p->t, "(");
    return print_args(p, e);
}

/* Returns the highest order of the variables in e, -1 when there is none. */
static int print(Printer *p, const Expr *e, int level) {
    int order = -1, own = level_of(e);
    if (p->limit && p->t->n > p->limit) {
        text_put(p->t, "...");
        return order;
    }
    const char *known = p->names && e != p->whole && e->nargs ? name_of(p, e, NULL, &order) : NULL;
    if (known) { /* shared, printed before */
        text_put(p->t, known);
        return order;
    }
    switch (e->kind) {
    case E_CONST: {
        size_t from = p->t->n;
        const_print(p->t, e->type, e->bits, false);
        if (p->t->s[from] == '-' && level > P_UNARY) { /* -(-2.0) */
            char *number = gd_strdup(p->t->c, p->t->s + from);
            p->t->n = from;
            text_printf(p->t, "(%s)", number);
        }
        return -1;
    }
    case E_VAR:
        order = e->var->id;
        text_put(p->t, name_of(p, e->var, e->var->name, &order));
        return order;
    case E_LOAD: return print_load(p, e);
    case E_CALL: text_printf(p->t, "%s(", gd_math_name(e->call)); return print_args(p, e);
    case E_LANE:
        text_put(p->t, "lane(");
        type_print(p->t, e->type);
        text_put(p->t, ")");
        return -1;
    default: break;
    }
    if (own < level) text_put(p->t, "(");
    order = print_operator(p, e, own);
    if (own < level) text_put(p->t, ")");
    return order;
}

void expr_print_named(Text *t, const Expr *e, const Map *names) {
    Printer p = {.t = t, .names = names, .whole = e};
    print(&p, e, 0);
}
void expr_print(Text *t, const Expr *e) { expr_print_named(t, e, NULL); }

/* For messages: not longer than a reader can stand, whatever e shares. */
const char *expr_text(Ctx *c, const Expr *e) {
    Text *t = text_new(c);
    Printer p = {.t = t, .whole = e, .limit = 1000};
    print(&p, e, 0);
    return t->s;
}
