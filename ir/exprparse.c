/* Expressions from text: the other direction of exprtext.c.

   Precedence climbing over one table. The text is a user's, so operands are held against the rules of
   expr_fault before anything is built of them, and nesting is counted: each step consumes text or fails. */
#include "text.h"
#include <ctype.h>

enum { MAX_DEPTH = 500, MAX_OPERANDS = 32 };

/* ---- places and words ---- */

void parse_fail(Parser *s, const char *help, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    gd_fail(s->c, 104, help, "line %d, column %d: %s", s->line, (int)(s->at - s->line_start) + 1, what);
}

void parse_space(Parser *s) {
    while (s->at < s->end && *s->at == ' ') s->at++;
}

static bool letter(char ch) { return isalnum((unsigned char)ch) || ch == '_'; }

static size_t word_length(const Parser *s) {
    const char *q = s->at;
    if (q == s->end || isdigit((unsigned char)*q)) return 0;
    while (q < s->end && letter(*q)) q++;
    return (size_t)(q - s->at);
}

bool parse_peek_word(Parser *s) {
    parse_space(s);
    return word_length(s) > 0;
}

bool parse_eat(Parser *s, const char *token) {
    parse_space(s);
    size_t n = strlen(token);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, token, n)) return false;
    if (letter(*token) && word_length(s) != n) return false;
    s->at += n;
    return true;
}

void parse_need(Parser *s, const char *token) {
    if (!parse_eat(s, token)) parse_fail(s, NULL, "'%s' is missing", token);
}

const char *parse_word(Parser *s) {
    parse_space(s);
    size_t n = word_length(s);
    if (!n) parse_fail(s, NULL, "a name is missing");
    if (n > 1000) parse_fail(s, NULL, "a name is too long");
    const char *w = gd_strndup(s->c, s->at, n);
    s->at += n;
    return w;
}

static bool starts_number(const Parser *s) {
    const char *q = s->at;
    if (q < s->end && *q == '-') q++;
    if (q < s->end && isdigit((unsigned char)*q)) return true;
    return s->end - q >= 3 && (!memcmp(q, "inf", 3) || !memcmp(q, "nan", 3)) &&
           (s->end - q == 3 || !letter(q[3]));
}

/* Characters of a number, with its sign. */
static size_t number_length(const Parser *s) {
    const char *q = s->at;
    if (q < s->end && *q == '-') q++;
    bool hex = s->end - q > 1 && q[0] == '0' && q[1] == 'x';
    for (; q < s->end && (letter(*q) || (*q == '.' && !(q + 1 < s->end && q[1] == '.')));
         q++) { /* 1..9 is a range */
        bool exponent = hex ? *q == 'p' : *q == 'e';
        if (exponent && q + 1 < s->end && (q[1] == '-' || q[1] == '+')) q++;
    }
    return (size_t)(q - s->at);
}

static Expr *number(Parser *s, DType t) {
    size_t n = number_length(s);
    uint64_t bits;
    if (!const_parse(s->c, t, s->at, n, &bits))
        parse_fail(s, NULL, "'%.*s' is not a number of type %s", (int)(n > 80 ? 80 : n), s->at,
                   gd_dtypes[t].name);
    s->at += n;
    return expr_const(s->c, scalar(t), bits);
}

int64_t parse_int(Parser *s) {
    if (parse_eat(s, "inf")) return INT64_MAX;
    if (parse_eat(s, "-inf")) return INT64_MIN;
    parse_space(s);
    if (!starts_number(s)) parse_fail(s, NULL, "a whole number is missing");
    return (int64_t)number(s, I64)->bits;
}

/* ---- types ---- */

/* v16f32 or f32; DT_NONE when the word is no type. */
static Type type_of(const char *word) {
    Type t = {DT_NONE, 1};
    if (word[0] == 'v' && isdigit((unsigned char)word[1])) {
        int lanes = 0;
        for (word++; isdigit((unsigned char)*word); word++)
            lanes = lanes < 1000 ? 10 * lanes + (*word - '0') : lanes;
        if (lanes < 2 || lanes > 64) return t;
        t.lanes = (uint8_t)lanes;
    }
    t.dt = (uint8_t)gd_dtype_named(word);
    return t;
}

Type parse_type(Parser *s) {
    const char *start = s->at, *w = parse_word(s);
    Type t = type_of(w);
    if (t.dt == DT_NONE) {
        s->at = start;
        parse_fail(s, NULL, "'%.80s' is not a type", w);
    }
    return t;
}

static int lanes_of(Parser *s, const char *digits) {
    int n = 0;
    for (; isdigit((unsigned char)*digits); digits++) n = n < 1000 ? 10 * n + (*digits - '0') : n;
    if (*digits || n < 2 || n > 64) parse_fail(s, NULL, "a number of lanes lies between 2 and 64");
    return n;
}

/* ---- operators ---- */

static Expr *checked(Parser *s, ExprKind op, Type t, int n, Expr *const *args) {
    const char *fault = expr_fault(op, t, n, args);
    if (fault) parse_fail(s, NULL, "%s", fault);
    return expr_op(s->c, op, t, n, args);
}

static Expr *pair(Parser *s, ExprKind op, Expr *a, Expr *b) {
    return checked(s, op, a->type, 2, (Expr *[]){a, b});
}

/* Longer spellings before their prefixes. */
static const struct {
    const char *text;
    int level;
    ExprKind op;
    bool swap;
} binary[] = {{"==", 6, E_EQ, false},  {"!=", 6, E_NE, false},  {"<<", 8, E_SHL, false},
              {">>", 8, E_SHR, false}, {"<=", 7, E_LE, false},  {">=", 7, E_LE, true},
              {"<", 7, E_LT, false},   {">", 7, E_LT, true},    {"//", 10, E_FDIV, false},
              {"|", 3, E_OR, false},   {"^", 4, E_XOR, false},  {"&", 5, E_AND, false},
              {"+", 9, E_ADD, false},  {"-", 9, E_SUB, false},  {"*", 10, E_MUL, false},
              {"/", 10, E_DIV, false}, {"%", 10, E_REM, false}, {"mod", 10, E_FMOD, false}};

static Expr *unary(Parser *s);

static Expr *climb(Parser *s, int least) {
    Expr *a = unary(s);
    for (;;) {
        const char *start = s->at;
        size_t i = 0, n = sizeof binary / sizeof *binary;
        while (i < n && !parse_eat(s, binary[i].text)) i++;
        if (i == n || binary[i].level < least) {
            s->at = start;
            return a;
        }
        Expr *b = climb(s, binary[i].level + 1);
        a = binary[i].swap ? pair(s, binary[i].op, b, a) : pair(s, binary[i].op, a, b);
    }
}

Expr *parse_expr(Parser *s) {
    if (++s->depth > MAX_DEPTH)
        gd_fail(s->c, 504, NULL, "line %d: expressions are nested more than %d deep", s->line, MAX_DEPTH);
    Expr *e = climb(s, 0);
    if (parse_eat(s, "?")) {
        Expr *a = parse_expr(s);
        parse_need(s, ":");
        Expr *b = parse_expr(s);
        e = checked(s, E_SELECT, a->type, 3, (Expr *[]){e, a, b});
    }
    s->depth--;
    return e;
}

Expr *parse_index(Parser *s) {
    parse_space(s);
    const char *start = s->at;
    Expr *e = parse_expr(s);
    if (type_eq(e->type, scalar(I64))) return e;
    s->at = start;
    parse_fail(s, NULL, "an i64 is wanted here");
}

int parse_list(Parser *s, const char *close, Expr **list, int max) {
    int n = 0;
    if (parse_eat(s, close)) return 0;
    do {
        if (n == max) parse_fail(s, NULL, "more than %d dims", max);
        list[n++] = parse_index(s);
    } while (parse_eat(s, ","));
    parse_need(s, close);
    return n;
}

/* ---- operands ---- */

int parse_lanes(Parser *s, const Buf *b) {
    const char *w = parse_word(s);
    if (*w != 'v' || b->lanes > 1)
        parse_fail(s, NULL, "'.v16' and the like make a vector of a scalar buffer");
    return lanes_of(s, w + 1);
}

static Expr *load(Parser *s, Buf *b) {
    Expr *index[MAX_OPERANDS];
    int lanes = 1, n = 0;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        lanes = parse_lanes(s, b);
    }
    if (b->rank) {
        parse_need(s, "[");
        n = parse_list(s, "]", index, MAX_OPERANDS);
    }
    if (n != b->rank) parse_fail(s, NULL, "%s has %d dims, not %d", b->name, b->rank, n);
    return expr_load(s->c, b, lanes, index, NULL);
}

/* (x[i] if cond), (x.v16[i] count n); or any other expression and ')'. */
static Expr *parentheses(Parser *s) {
    Expr *e = parse_expr(s);
    bool condition = parse_eat(s, "if"), count = !condition && parse_eat(s, "count");
    if (condition || count) {
        if (e->kind != E_LOAD || e->nargs != e->buf->rank) parse_fail(s, NULL, "only a load has a mask");
        Expr *mask = count ? parse_index(s) : parse_expr(s);
        if (condition && !type_eq(mask->type, scalar(BOOL)))
            parse_fail(s, NULL, "a condition is wanted here");
        if (count && e->type.lanes == 1) parse_fail(s, NULL, "only a vector has a count");
        e = expr_load(s->c, e->buf, e->type.lanes, e->arg, mask);
    }
    parse_need(s, ")");
    return e;
}

static bool is_type_function(const char *w, Type *t, ExprKind *op) {
    *op = !strncmp(w, "as_", 3) ? E_BITS : E_CAST;
    *t = type_of(*op == E_BITS ? w + 3 : w);
    return t->dt != DT_NONE && t->lanes == 1;
}

static int operator_named(const char *w) {
    static const struct {
        const char *text;
        int arity;
    } rows[E_KINDS] = {
#define O(NAME, text, arity, result, form) [E_##NAME] = {text, arity},
#include "scalar.def"
#undef O
        [E_ZIP_LO] = {"zip_lo", 2},
        [E_ZIP_HI] = {"zip_hi", 2},
    };
    for (int i = 0; i < E_KINDS; i++)
        if (rows[i].text && isalpha((unsigned char)*rows[i].text) && !strcmp(rows[i].text, w)) return i;
    return -1;
}

static Expr *call(Parser *s, const char *w) {
    Expr *args[MAX_OPERANDS];
    int n = 0, op = operator_named(w), row;
    do {
        if (n == MAX_OPERANDS) parse_fail(s, NULL, "too many arguments");
        args[n++] = parse_expr(s);
    } while (parse_eat(s, ","));
    parse_need(s, ")");
    if (!strncmp(w, "splat", 5) && isdigit((unsigned char)w[5]))
        return checked(s, E_SPLAT, vector((DType)args[0]->type.dt, lanes_of(s, w + 5)), n, args);
    if (op >= 0 && op != E_CAST && op != E_BITS && op != E_SPLAT)
        return checked(s, (ExprKind)op, args[0]->type, n, args);
    row = gd_math_row(w, (DType)args[0]->type.dt);
    if (row < 0)
        parse_fail(s, NULL, "there is no function '%.80s' of %s", w, gd_dtypes[args[0]->type.dt].name);
    if (n != gd_math_arity(row)) parse_fail(s, NULL, "%s takes %d arguments", w, gd_math_arity(row));
    for (int i = 1; i < n; i++)
        if (!type_eq(args[i]->type, args[0]->type))
            parse_fail(s, NULL, "the arguments of %s differ in type", w);
    return expr_call(s->c, row, n, args);
}

static Expr *function(Parser *s, const char *w) {
    Type t;
    ExprKind op;
    if (!strcmp(w, "lane")) {
        t = parse_type(s);
        parse_need(s, ")");
        if (!dt_int((DType)t.dt) && !dt_float((DType)t.dt)) parse_fail(s, NULL, "lanes are numbers");
        return expr_lane(s->c, t);
    }
    if (!is_type_function(w, &t, &op)) return call(s, w);
    const char *start = s->at;
    parse_space(s);
    if (op == E_CAST &&
        starts_number(s)) { /* f64(0.1): the number itself, not one of another type converted */
        size_t n = number_length(s);
        const char *after = s->at + n;
        while (after < s->end && *after == ' ') after++;
        if (after < s->end && *after == ')') {
            Expr *e = number(s, (DType)t.dt);
            parse_need(s, ")");
            return e;
        }
    }
    s->at = start;
    Expr *e = parse_expr(s);
    parse_need(s, ")");
    t.lanes = e->type.lanes;
    return checked(s, op, t, 1, &e);
}

static Expr *operand(Parser *s) {
    parse_space(s);
    if (parse_eat(s, "(")) return parentheses(s);
    if (s->at < s->end && *s->at == '$') {
        s->at++;
        int64_t k = parse_int(s);
        if (k < 1 || k > s->shared.n)
            parse_fail(s, NULL, "$%lld is not defined for this statement", (long long)k);
        return s->shared.v[k - 1];
    }
    if (starts_number(s)) {
        size_t n = number_length(s);
        bool hex = n > 2 && s->at[1] == 'x', whole = true;
        for (size_t i = hex ? 2 : 0; i < n; i++)
            whole = whole && (hex ? isxdigit : isdigit)((unsigned char)s->at[i]);
        return number(s, whole ? I64 : F32);
    }
    const char *start = s->at, *w = parse_word(s);
    if (!strcmp(w, "true") || !strcmp(w, "false")) return expr_bool(s->c, *w == 't');
    if (s->at < s->end && *s->at == '(') {
        s->at++;
        return function(s, w);
    }
    const Name *name = map_gets(s->names, w);
    if (name && name->var) return expr_var(s->c, name->var);
    if (name && name->buf) return load(s, name->buf);
    s->at = start;
    parse_fail(s, NULL,
               text_keyword(w, strlen(w)) ? "'%.80s' is not a value" : "the name '%.80s' is not known here",
               w);
}

static Expr *unary(Parser *s) {
    if (++s->depth > MAX_DEPTH)
        gd_fail(s->c, 504, NULL, "line %d: expressions are nested more than %d deep", s->line, MAX_DEPTH);
    parse_space(s);
    const char *start = s->at;
    bool signed_number = s->at < s->end && *s->at == '-' && starts_number(s);
    Expr *e;
    if (signed_number) {
        s->at++;
        Expr *positive = operand(s); /* -0.0 and the lowest i64 come out right too */
        e = checked(s, E_NEG, positive->type, 1, &positive);
    } else if (parse_eat(s, "-")) {
        e = unary(s);
        e = checked(s, E_NEG, e->type, 1, &e);
    } else if ((s->end - s->at < 2 || s->at[1] != '=') && (parse_eat(s, "!") || parse_eat(s, "~"))) {
        bool truth = s->at[-1] == '!';
        e = unary(s);
        if (truth != (e->type.dt == BOOL)) {
            s->at = start;
            parse_fail(s, NULL, "! is of bools, ~ of integers");
        }
        e = checked(s, E_NOT, e->type, 1, &e);
    } else e = operand(s);
    s->depth--;
    return e;
}
