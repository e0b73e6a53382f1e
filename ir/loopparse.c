/* Loop programs from text: the other direction of looptext.c.

   The text is a user's: whatever is wrong with it is E104 with line and column, and what only the whole
   program shows (a broken invariant) is E104 too. Blocks are by indentation, two spaces a level. Every step
   takes a line or a word, and nesting is counted, so it ends. */
#include "text.h"
#include <ctype.h>

enum { MAX_INDENT = 200, MAX_DIMS = 30 };

typedef struct Reader {
    Parser s;
    int indent;        /* of the line at hand; -1: the text is over */
    VEC(Name *) bound; /* names, in order of definition */
    Ctx *c;
    Program *p;
} Reader;

/* ---- lines ---- */

static const char *line_end(const Reader *r) {
    const char *q = memchr(r->s.at, '\n', (size_t)(r->s.end - r->s.at));
    return q ? q : r->s.end;
}

/* Goes to the first line at or after the place that is not blank. */
static void find_line(Reader *r) {
    Parser *s = &r->s;
    for (;;) {
        s->line_start = s->at;
        if (s->at == s->end) {
            r->indent = -1;
            return;
        }
        parse_space(s);
        if (s->at < s->end && *s->at == '\r') s->at++;
        if (s->at == s->end || *s->at == '\n' || *s->at == ';') {
            s->at = line_end(r);
            if (s->at == s->end) continue;
            s->at++;
            s->line++;
            continue;
        }
        int64_t spaces = s->at - s->line_start;
        if (spaces % 2) parse_fail(s, "indent by two spaces a level", "the line starts at an odd column");
        if (spaces / 2 > MAX_INDENT)
            gd_fail(r->c, 504, NULL, "line %d: more than %d levels", s->line, MAX_INDENT);
        r->indent = (int)(spaces / 2);
        return;
    }
}

static bool at_end(Reader *r) {
    Parser *s = &r->s;
    parse_space(s);
    return s->at == s->end || *s->at == '\n' || *s->at == '\r' || *s->at == ';';
}

static void end_line(Reader *r) {
    if (!at_end(r)) parse_fail(&r->s, NULL, "what follows is not understood");
    r->s.at = line_end(r);
    if (r->s.at < r->s.end) {
        r->s.at++;
        r->s.line++;
    }
    find_line(r);
}

/* ---- names ---- */

static Name *name_entry(Reader *r, const char *word) {
    Name *n = map_gets(r->s.names, word);
    if (!n) {
        n = gd_new(r->c, Name);
        map_puts(r->s.names, word, n);
    }
    return n;
}

static void define(Reader *r, const char *word, Var *v, Buf *b) {
    Name *n = name_entry(r, word);
    if (n->var || n->buf) parse_fail(&r->s, NULL, "the name '%.80s' is in use", word);
    if (text_keyword(word, strlen(word))) parse_fail(&r->s, NULL, "'%.80s' cannot be a name", word);
    n->var = v;
    n->buf = b;
    vec_push(r->c, &r->bound, n);
}

static void forget(Reader *r, int mark) {
    while (r->bound.n > mark) *r->bound.v[--r->bound.n] = (Name){0};
}

static Buf *known_buf(Reader *r) {
    parse_space(&r->s);
    const char *start = r->s.at, *word = parse_word(&r->s);
    const Name *n = map_gets(r->s.names, word);
    if (n && n->buf) return n->buf;
    r->s.at = start;
    parse_fail(&r->s, NULL, "there is no buffer '%.80s' here", word);
}

/* ---- strings and numbers ---- */

static const char *quoted(Reader *r) {
    Parser *s = &r->s;
    parse_need(s, "\"");
    const char *start = s->at, *stop = line_end(r);
    while (s->at < stop && *s->at != '"') s->at++;
    if (s->at == stop) parse_fail(s, NULL, "'\"' is missing");
    return gd_strndup(r->c, start, (size_t)(s->at++ - start));
}

static int digit(char ch) {
    return isdigit((unsigned char)ch) ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static const char *unescaped(Ctx *c, const char *s) {
    char *out = gd_strdup(c, s), *q = out;
    for (; *s; s++) {
        bool hex = s[0] == '\\' && s[1] == 'x' && digit(s[2]) >= 0 && digit(s[3]) >= 0;
        *q++ = hex ? (char)(digit(s[2]) * 16 + digit(s[3])) : *s;
        if (hex) s += 3;
    }
    *q = 0;
    return out;
}

static double clause_number(Reader *r, const char *s, size_t n) {
    uint64_t bits;
    if (!const_parse(r->c, F64, s, n, &bits))
        parse_fail(&r->s, NULL, "'%.*s' is not a number", (int)(n > 80 ? 80 : n), s);
    return gd_to_double(F64, bits);
}

/* : lo..hi, where it is given. */
static bool range(Reader *r, Var *v) {
    if (!parse_eat(&r->s, ":")) return false;
    v->lo = parse_int(&r->s);
    parse_need(&r->s, "..");
    v->hi = parse_int(&r->s);
    return true;
}

/* ---- buffers ---- */

/* name: f32[2, 3] stride [...] of base at origin @ offset "label"; space is only asked when there is no base.
 */
static Buf *buffer(Reader *r, Space space, bool view) {
    Parser *s = &r->s;
    Expr *dim[MAX_DIMS], *stride[MAX_DIMS];
    const char *name = parse_word(s);
    parse_need(s, ":");
    parse_space(s);
    const char *start = s->at;
    Type t = parse_type(s);
    int rank = parse_eat(s, "[") ? parse_list(s, "]", dim, MAX_DIMS) : 0;
    bool strided = parse_eat(s, "stride");
    if (strided) {
        parse_need(s, "[");
        if (parse_list(s, "]", stride, MAX_DIMS) != rank)
            parse_fail(s, NULL, "%s has %d dims, but other strides", name, rank);
    }
    Buf *b;
    if (view) {
        parse_need(s, "of");
        Buf *base = known_buf(r);
        parse_need(s, "at");
        b = buf_view(r->p, base, parse_index(s), rank, dim, strided ? stride : NULL);
        b->name = name;
        if (b->dt != t.dt || b->lanes != t.lanes) {
            s->at = start;
            parse_fail(s, NULL, "a view has the type of its base");
        }
    } else {
        if (t.lanes > 1 && space != SP_REG) {
            s->at = start;
            parse_fail(s, NULL, "only registers are vectors");
        }
        b = buf_new(r->p, space, (DType)t.dt, rank, dim, name);
        b->lanes = t.lanes;
        if (strided) {
            b->stride = gd_new_array(r->c, Expr *, rank);
            for (int i = 0; i < rank; i++) b->stride[i] = stride[i];
        }
        if (space == SP_ARENA && parse_eat(s, "@")) b->offset = parse_index(s);
        parse_space(s);
        if (s->at < s->end && *s->at == '"') b->label = quoted(r);
    }
    define(r, name, NULL, b);
    return b;
}

static int64_t elements(Reader *r, const Buf *b) {
    int64_t n;
    if (!is_int(buf_size(r->c, b), &n) || n < 0)
        parse_fail(&r->s, NULL, "the size of constant %s is not known", b->name);
    gd_mul(r->c, n, gd_dtypes[b->dt].bytes);
    return n;
}

static void inline_data(Reader *r, Buf *b) {
    Parser *s = &r->s;
    int64_t n = elements(r, b), i = 0;
    int bytes = gd_dtypes[b->dt].bytes;
    parse_need(s, "[");
    char *p = n <= s->end - s->at ? gd_alloc_aligned(r->c, (size_t)n * (size_t)bytes)
                                  : NULL; /* an element has a character */
    if (!p) parse_fail(s, NULL, "%s has %lld elements", b->name, (long long)n);
    if (!parse_eat(s, "]")) {
        do {
            if (i == n) parse_fail(s, NULL, "%s has only %lld elements", b->name, (long long)n);
            parse_space(s);
            if (b->dt == STRING) {
                ((const char **)(void *)p)[i++] = unescaped(r->c, quoted(r));
                continue;
            }
            Expr *e = NULL;
            const char *start = s->at;
            while (s->at < s->end && !strchr(",] \n", *s->at)) s->at++;
            uint64_t bits;
            if (const_parse(r->c, b->dt, start, (size_t)(s->at - start), &bits))
                e = expr_const(r->c, scalar(b->dt), bits);
            else {
                s->at = start;
                e = parse_expr(s); /* true, or as_f32(...) */
            }
            if (!is_const(e) || !type_eq(e->type, scalar(b->dt)))
                parse_fail(s, NULL, "a number of type %s is wanted", gd_dtypes[b->dt].name);
            gd_store_bits(b->dt, p + i++ * bytes, e->bits);
        } while (parse_eat(s, ","));
        parse_need(s, "]");
    }
    if (i != n) parse_fail(s, NULL, "%s has %lld elements, not %lld", b->name, (long long)n, (long long)i);
    b->data = p;
}

/* One hexadecimal number of an element, the most significant digits first. */
static void hex_element(Reader *r, char *p, int bytes) {
    Parser *s = &r->s;
    for (int i = bytes - 1; i >= 0; i--, s->at += 2) {
        int high = s->at < s->end ? digit(s->at[0]) : -1,
            low = high >= 0 && s->at + 1 < s->end ? digit(s->at[1]) : -1;
        if (low < 0) parse_fail(s, NULL, "an element has %d hexadecimal digits", 2 * bytes);
        p[i] = (char)(high * 16 + low);
    }
}

static void data_section(Reader *r) {
    Parser *s = &r->s;
    Buf *b = known_buf(r);
    if (b->space != SP_CONST || b->base || b->data || b->dt == STRING)
        parse_fail(s, NULL, "%s takes no data", b->name);
    int64_t n = elements(r, b), i = 0;
    int bytes = gd_dtypes[b->dt].bytes;
    char *p = gd_alloc_aligned(r->c, (size_t)n * (size_t)bytes);
    end_line(r);
    while (r->indent > 0) {
        while (!at_end(r)) {
            if (i == n) parse_fail(s, NULL, "%s has only %lld elements", b->name, (long long)n);
            hex_element(r, p + i * bytes, bytes);
            int64_t run = s->at < s->end && *s->at == '*' ? (s->at++, parse_int(s)) : 1;
            if (run < 1 || run > n - i)
                parse_fail(s, NULL, "%s has only %lld elements", b->name, (long long)n);
            for (int64_t k = 1; k < run; k++) memcpy(p + (i + k) * bytes, p + i * bytes, (size_t)bytes);
            i += run;
        }
        end_line(r);
    }
    if (i != n) parse_fail(s, NULL, "%s has %lld elements, not %lld", b->name, (long long)n, (long long)i);
    b->data = p;
}

/* ---- statements ---- */

static void block(Reader *r, Block *to, int indent);

/* width 16, or the trip count when it is a number. */
static uint8_t vector_width(Reader *r, const Expr *trip) {
    int64_t width = 0;
    if (parse_eat(&r->s, "width")) width = parse_int(&r->s);
    else is_int(trip, &width);
    if (width < 1 || width > 64) parse_fail(&r->s, NULL, "a vector loop needs a width, 1 to 64");
    return (uint8_t)width;
}

static void loops(Reader *r, Block *to, LoopMode mode, bool free, int indent) {
    Parser *s = &r->s;
    int mark = r->bound.n;
    Stmt *f;
    do {
        const char *name = parse_word(s);
        Var given = {0};
        bool ranged = range(r, &given);
        parse_need(s, "in");
        f = stmt_for(r->p, to, name, parse_index(s), free);
        f->mode = (uint8_t)mode;
        if (mode == L_VECTOR) f->width = vector_width(r, f->e);
        if (ranged) {
            f->var->lo = given.lo;
            f->var->hi = given.hi;
        }
        define(r, name, f->var, NULL);
        to = &f->body;
    } while (parse_eat(s, ","));
    end_line(r);
    s->shared.n = 0;
    block(r, &f->body, indent + 1);
    forget(r, mark);
}

static Expr *condition(Reader *r) {
    Expr *e = parse_expr(&r->s);
    if (!type_eq(e->type, scalar(BOOL))) parse_fail(&r->s, NULL, "a condition is wanted here");
    return e;
}

static void branch(Reader *r, Block *to, StmtKind kind, int indent) {
    Stmt *f = stmt_new(r->p, to, kind);
    f->e = condition(r);
    end_line(r);
    r->s.shared.n = 0;
    block(r, &f->body, indent + 1);
    if (kind != S_IF || r->indent != indent || !parse_eat(&r->s, "else")) return;
    end_line(r);
    block(r, &f->other, indent + 1);
}

static void let(Reader *r, Block *to) {
    Parser *s = &r->s;
    const char *name = parse_word(s);
    const Name *known = map_gets(s->names, name);
    Var given = {0};
    bool symbol = known && known->var && known->var->kind == V_SYM, ranged = !symbol && range(r, &given);
    parse_need(s, "=");
    if (symbol) {
        Stmt *f = stmt_new(r->p, to, S_LET);
        f->var = known->var;
        f->e = parse_index(s);
        return;
    }
    Stmt *f = stmt_let(r->p, to, name, parse_expr(s));
    if (ranged) {
        f->var->lo = given.lo;
        f->var->hi = given.hi;
    }
    define(r, name, f->var, NULL);
}

/* ; source ... ; schedule ... ; note ... ; macs 1 ; bytes 2; anything else is a comment */
static void nest_clauses(Reader *r, NestInfo *n) {
    Parser *s = &r->s;
    const char *stop = line_end(r);
    while (parse_eat(s, ";")) {
        parse_space(s);
        const char *word = s->at, *end = memchr(word, ';', (size_t)(stop - word));
        if (!end) end = stop;
        s->at = end;
        while (end > word && (end[-1] == ' ' || end[-1] == '\r')) end--;
        const char *space = memchr(word, ' ', (size_t)(end - word));
        if (!space) continue;
        size_t len = (size_t)(space - word);
        while (*space == ' ') space++;
        const char *text = gd_strndup(r->c, space, (size_t)(end - space));
        if (len == 6 && !memcmp(word, "source", len)) n->source = text;
        else if (len == 8 && !memcmp(word, "schedule", len)) n->schedule = text;
        else if (len == 4 && !memcmp(word, "note", len)) n->note = text;
        else if (len == 4 && !memcmp(word, "macs", len)) n->macs = clause_number(r, text, strlen(text));
        else if (len == 5 && !memcmp(word, "bytes", len)) n->bytes = clause_number(r, text, strlen(text));
    }
}

static void nest(Reader *r, Block *to, int indent) {
    const char *name = parse_word(&r->s);
    if (map_has(r->p->nest_names, name, strlen(name)))
        parse_fail(&r->s, NULL, "there are two nests '%.80s'", name);
    Stmt *f = stmt_nest(r->p, to, name);
    nest_clauses(r, f->nest);
    end_line(r);
    block(r, &f->body, indent + 1);
}

static void store(Reader *r, Block *to) {
    Parser *s = &r->s;
    Expr *index[MAX_DIMS], *mask = NULL;
    parse_space(s);
    const char *start = s->at;
    Buf *b = known_buf(r);
    int lanes = b->lanes, n = 0;
    if (parse_eat(s, ".")) lanes = parse_lanes(s, b);
    if (b->rank && parse_eat(s, "[")) n = parse_list(s, "]", index, MAX_DIMS);
    if (n != b->rank) parse_fail(s, NULL, "%s has %d dims, not %d", b->name, b->rank, n);
    parse_need(s, "=");
    Expr *e = parse_expr(s);
    if (parse_eat(s, "if")) mask = condition(r);
    else if (parse_eat(s, "count")) mask = parse_index(s);
    if (e->type.dt != b->dt || e->type.lanes != lanes) {
        Text *t = text_new(r->c);
        type_print(t, e->type);
        s->at = start;
        parse_fail(s, NULL, "a value of type %s does not fit there", t->s);
    }
    stmt_store(r->p, to, b, index, e, mask);
}

static void declaration(Reader *r, Block *to, Space space) { stmt_decl(r->p, to, buffer(r, space, false)); }

static void heap(Reader *r, Block *to, StmtKind kind) {
    Stmt *f = stmt_new(r->p, to, kind);
    f->buf = known_buf(r);
    if (kind != S_MOVE) return;
    parse_need(&r->s, "from");
    f->from = known_buf(r);
}

static void check(Reader *r, Block *to) {
    Stmt *f = stmt_new(r->p, to, S_CHECK);
    f->e = condition(r);
    parse_need(&r->s, "status");
    int64_t status = parse_int(&r->s);
    if (status < 1 || status > 1000000) parse_fail(&r->s, NULL, "a status lies between 1 and 1000000");
    f->status = (int)status;
}

static void define_shared(Reader *r) {
    Parser *s = &r->s;
    if (parse_int(s) != s->shared.n + 1) parse_fail(s, NULL, "$%d is next", s->shared.n + 1);
    parse_need(s, "=");
    Expr *e = parse_expr(s);
    vec_push(r->c, &s->shared, e);
}

/* Is the line a store? Its first word is followed by an index, lanes, or =. */
static bool is_store(Reader *r) {
    const char *start = r->s.at;
    parse_word(&r->s);
    parse_space(&r->s);
    bool yes = r->s.at < r->s.end && *r->s.at && strchr("[.=", *r->s.at);
    r->s.at = start;
    return yes;
}

static void simple(Reader *r, Block *to) {
    Parser *s = &r->s;
    if (parse_eat(s, "let")) let(r, to);
    else if (parse_eat(s, "reg")) declaration(r, to, SP_REG);
    else if (parse_eat(s, "local")) declaration(r, to, SP_LOCAL);
    else if (parse_eat(s, "view")) buffer(r, SP_LOCAL, true);
    else if (parse_eat(s, "alloc")) heap(r, to, S_ALLOC);
    else if (parse_eat(s, "free")) heap(r, to, S_FREE);
    else if (parse_eat(s, "move")) heap(r, to, S_MOVE);
    else if (parse_eat(s, "check")) check(r, to);
    else parse_fail(s, NULL, "this is no statement");
}

static void statement(Reader *r, Block *to, int indent) {
    Parser *s = &r->s;
    if (*s->at == '$') {
        s->at++;
        define_shared(r);
        end_line(r);
        if (r->indent != indent) parse_fail(s, NULL, "the statement that uses $%d is missing", s->shared.n);
        return;
    }
    if (is_store(r)) store(r, to);
    else if (parse_eat(s, "for")) {
        loops(r, to, L_SERIAL, false, indent);
        return;
    } else if (parse_eat(s, "each")) {
        loops(r, to, L_SERIAL, true, indent);
        return;
    } else if (parse_eat(s, "parallel")) {
        loops(r, to, L_PARALLEL, true, indent);
        return;
    } else if (parse_eat(s, "vector")) {
        loops(r, to, L_VECTOR, true, indent);
        return;
    } else if (parse_eat(s, "unroll")) {
        loops(r, to, L_UNROLL, !parse_eat(s, "for"), indent);
        return;
    } else if (parse_eat(s, "while")) {
        branch(r, to, S_WHILE, indent);
        return;
    } else if (parse_eat(s, "if")) {
        branch(r, to, S_IF, indent);
        return;
    } else if (parse_eat(s, "nest")) {
        nest(r, to, indent);
        return;
    } else simple(r, to);
    end_line(r);
    s->shared.n = 0;
}

static void block(Reader *r, Block *to, int indent) {
    int mark = r->bound.n;
    while (r->indent == indent) {
        if (!indent && *r->s.at != '$' && !is_store(r) && parse_eat(&r->s, "data")) data_section(r);
        else statement(r, to, indent);
    }
    if (r->indent > indent) parse_fail(&r->s, NULL, "the line is indented too far");
    if (indent) forget(r, mark);
}

/* ---- the head ---- */

static void sym_line(Reader *r) {
    Parser *s = &r->s;
    const char *name = parse_word(s);
    parse_need(s, "in");
    Var *v = var_new(r->c, V_SYM, scalar(I64), name, 0, 0);
    v->lo = parse_int(s);
    parse_need(s, "..");
    v->hi = parse_int(s);
    if (v->lo > v->hi) parse_fail(s, NULL, "%s has an empty range", name);
    v->data = parse_eat(s, "data");
    if (parse_eat(s, "max")) v->def = parse_index(s);
    define(r, name, v, NULL);
    vec_push(r->c, &r->p->syms, v);
}

static void param_line(Reader *r, Space space) {
    buffer(r, space, false);
    if (parse_eat(&r->s, "as")) r->p->port_names.v[r->p->port_names.n - 1] = quoted(r);
}

static void const_line(Reader *r) {
    Buf *b = buffer(r, SP_CONST, false);
    if (parse_eat(&r->s, "=")) inline_data(r, b);
}

/* One line of the head; false when the body begins. */
static bool head_line(Reader *r) {
    Parser *s = &r->s;
    if (is_store(r)) return false;
    if (parse_eat(s, "sym")) sym_line(r);
    else if (parse_eat(s, "in")) param_line(r, SP_IN);
    else if (parse_eat(s, "out")) param_line(r, SP_OUT);
    else if (parse_eat(s, "const")) const_line(r);
    else if (parse_eat(s, "arena")) buffer(r, SP_ARENA, false);
    else if (parse_eat(s, "heap")) buffer(r, SP_HEAP, false);
    else if (parse_eat(s, "view")) buffer(r, SP_ARENA, true);
    else if (parse_eat(s, "arena_bytes")) r->p->arena = parse_index(s);
    else return false;
    end_line(r);
    return true;
}

Program *loop_parse(Ctx *c, const char *text, size_t n) {
    Reader *r = gd_new(c, Reader);
    *r = (Reader){.s = {.c = c, .at = text, .end = text + n, .line = 1, .names = map_new(c)}, .c = c};
    Parser *s = &r->s;
    find_line(r);
    if (r->indent) parse_fail(s, NULL, "a program begins with 'program NAME'");
    parse_need(s, "program");
    r->p = s->p = program_new(c, parse_word(s));
    if (parse_eat(s, "after")) r->p->after = parse_word(s);
    if (parse_eat(s, "lanes")) {
        int64_t lanes = parse_int(s);
        if (lanes < 0 || lanes > 64) parse_fail(s, NULL, "lanes lie between 0 and 64");
        r->p->lanes = (int)lanes;
    }
    r->p->bound = parse_eat(s, "bound");
    r->p->grows = parse_eat(s, "grows");
    end_line(r);
    while (!r->indent && *s->at != '$' && head_line(r)) {}
    if (r->indent >= 0) block(r, &r->p->body, 0);
    const char *fault = loop_fault(r->p);
    if (fault) gd_fail(c, 104, NULL, "not a valid program: %s", fault);
    return r->p;
}
