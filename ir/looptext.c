/* Loop programs as text: docs/loop-ir.md. One statement a line, two spaces of indent a level.

   The text is complete and depends on the program only: parsing it and printing the result gives the text
   again. Names are made unique where they are visible: name, name_1, ... A name that leaves its scope is free
   for the next one, so every nest may have its n, h and w. A value that a statement uses more than once is
   printed once, on a line `$1 = ...` of its own before the statement, so the text grows no faster than the
   program. */
#include "text.h"

typedef struct Taken {
    int live, next;
} Taken; /* of a name: used now; where to look for a free suffix */
typedef struct Undo {
    Taken *taken, before;
} Undo;
typedef struct Live {
    int first, last;
} Live; /* nests that touch a buffer */

typedef struct Printer {
    Text *t;
    Ctx *s; /* scratch */
    const Program *p;
    bool brief;
    Map *names; /* Var, Buf, shared Expr to Named */
    Map *taken;
    VEC(Undo) undo;
    VEC(Buf *) views; /* in order of appearance, bases first */
    Map *seen;        /* bufs that are in views, or no views */
    Map *live;
    VEC(const char *) nests;
    int order, indent;
    uint32_t mark;
} Printer;

/* ---- names ---- */

static Taken *taken(Printer *k, const char *name) {
    Taken *t = map_gets(k->taken, name);
    if (!t) {
        t = gd_new(k->s, Taken);
        map_puts(k->taken, name, t);
    }
    return t;
}

static void take(Printer *k, Taken *t, int next) {
    vec_push(k->s, &k->undo, ((Undo){t, *t}));
    t->live = 1;
    t->next = next;
}

static const char *unique(Printer *k, const char *name) {
    Taken *t = taken(k, name);
    bool word = text_keyword(name, strlen(name));
    if (!t->live && !word) {
        take(k, t, t->next);
        return name;
    }
    for (int i = t->next + 1;; i++) {
        const char *other = gd_format(k->s, "%s_%d", name, i);
        Taken *o = taken(k, other);
        if (o->live) continue;
        take(k, t, i);
        if (word) t->live = 0;
        take(k, o, o->next);
        return other;
    }
}

static const char *define(Printer *k, const void *thing, const char *name) {
    Named *n = gd_new(k->s, Named);
    *n = (Named){unique(k, name ? name : "x"), k->order++};
    map_putp(k->names, thing, n);
    return n->name;
}

/* Names given since undo.n was mark become free. */
static void forget(Printer *k, int mark) {
    while (k->undo.n > mark) {
        Undo *u = &k->undo.v[--k->undo.n];
        *u->taken = u->before;
    }
}

static const char *name_of(const Printer *k, const Buf *b) {
    const Named *n = map_getp(k->names, b);
    return n ? n->name : b->name;
}

/* ---- pieces ---- */

static void expr(Printer *k, const Expr *e) { expr_print_named(k->t, e, k->names); }

static void line(Printer *k) {
    for (int i = 0; i < k->indent; i++) text_put(k->t, "  ");
}

/* A string that is escaped already, kept within its clause and its line. */
static void clause(Text *t, const char *s, bool quoted) {
    size_t n = strlen(s);
    while (!quoted && n && *s == ' ') {
        s++;
        n--;
    }
    while (!quoted && n && s[n - 1] == ' ') n--;
    for (size_t i = 0; i < n; i++) {
        unsigned char ch = (unsigned char)s[i];
        if (ch < ' ' || ch > 126 || (quoted ? ch == '"' : ch == ';')) text_printf(t, "\\x%02x", ch);
        else text_putn(t, s + i, 1);
    }
}

static bool says(const char *s) { return s && s[strspn(s, " ")]; }

static void exprs(Printer *k, int n, Expr *const *list) {
    text_put(k->t, "[");
    for (int i = 0; i < n; i++) {
        if (i) text_put(k->t, ", ");
        expr(k, list[i]);
    }
    text_put(k->t, "]");
}

/* name: f32[2, 3] stride [...] of base + origin @offset "label" */
static void buffer(Printer *k, const Buf *b, const char *what) {
    text_printf(k->t, "%s %s: ", what, define(k, b, b->name));
    type_print(k->t, (Type){(uint8_t)b->dt, b->lanes});
    if (b->rank) exprs(k, b->rank, b->dim);
    if (b->stride) {
        text_put(k->t, " stride ");
        exprs(k, b->rank, b->stride);
    }
    if (b->base) {
        text_printf(k->t, " of %s at ", name_of(k, b->base));
        expr(k, b->origin);
    }
    if (b->offset && b->space == SP_ARENA && !b->base) {
        text_put(k->t, " @ ");
        expr(k, b->offset);
    }
    if (b->label && !b->base) {
        text_put(k->t, " \"");
        clause(k->t, b->label, true);
        text_put(k->t, "\"");
    }
}

/* ---- views ---- */

static void note_view(Printer *k, Buf *b) {
    if (!b || map_has(k->seen, &b, sizeof b)) return;
    map_putp(k->seen, b, b);
    if (!b->base) return;
    note_view(k, b->base);
    vec_push(k->s, &k->views, b);
}

static void note_live(Printer *k, Buf *b) {
    b = buf_root(b);
    if (b->space != SP_ARENA || !b->offset) return;
    Live *l = map_getp(k->live, b);
    if (!l) {
        l = gd_new(k->s, Live);
        l->first = k->nests.n - 1;
        map_putp(k->live, b, l);
    }
    l->last = k->nests.n - 1;
}

static void note_load(void *arg, Expr *e) {
    Printer *k = arg;
    if (e->kind != E_LOAD) return;
    note_view(k, e->buf);
    note_live(k, e->buf);
}

static Expr *note_expr(void *arg, Expr *e) {
    Printer *k = arg;
    expr_walk(e, k->mark, note_load, k);
    return e;
}

static bool note_stmt(void *arg, Stmt *s) {
    Printer *k = arg;
    if (s->kind == S_NEST) {
        vec_push(k->s, &k->nests, s->nest->name);
        k->mark = expr_mark(k->p->c);
    }
    stmt_exprs(s, note_expr, k);
    if (s->buf) {
        note_view(k, s->buf);
        note_live(k, s->buf);
    }
    if (s->from) note_view(k, s->from);
    return true;
}

/* ---- statements ---- */

typedef struct Shared {
    Printer *k;
    uint32_t once, twice;
    VEC(Expr *) list;
    Map *map;
    int n;
} Shared;

static void count_uses(Shared *h, Expr *e) {
    if (expr_cheap(e)) return;
    if (e->mark == h->twice) return;
    if (e->mark == h->once) {
        e->mark = h->twice;
        vec_push(h->k->s, &h->list, e);
        return;
    }
    e->mark = h->once;
    for (int i = 0; i < e->nargs; i++) count_uses(h, e->arg[i]);
}

static Expr *count_expr(void *arg, Expr *e) {
    count_uses(arg, e);
    return e;
}

static void print_shared(void *arg, Expr *e) {
    Shared *h = arg;
    if (!map_has(h->map, &e, sizeof e)) return;
    Printer *k = h->k;
    Named *n = gd_new(k->s, Named);
    *n = (Named){gd_format(k->s, "$%d", ++h->n), -1};
    line(k);
    text_printf(k->t, "%s = ", n->name);
    expr(k, e);
    text_put(k->t, "\n");
    map_putp(k->names, e, n);
}
static Expr *print_shared_in(void *arg, Expr *e) {
    Shared *h = arg;
    expr_walk(e, h->once, print_shared, h);
    return e;
}

/* Lines for what the statement uses more than once. The returned list is to be unnamed afterwards. */
static Shared shared(Printer *k, Stmt *s) {
    Shared h = {.k = k, .once = expr_mark(k->p->c)};
    h.twice = expr_mark(k->p->c);
    stmt_exprs(s, count_expr, &h);
    if (!h.list.n) return h;
    h.map = map_new(k->s);
    for (int i = 0; i < h.list.n; i++) map_putp(h.map, h.list.v[i], h.list.v[i]);
    h.once = expr_mark(k->p->c);
    stmt_exprs(s, print_shared_in, &h);
    return h;
}

static void block(Printer *k, const Block *b);

static const char *loop_word(const Stmt *s) {
    switch ((LoopMode)s->mode) {
    case L_PARALLEL: return "parallel";
    case L_VECTOR: return "vector";
    case L_UNROLL: return s->free ? "unroll" : "unroll for";
    case L_SERIAL: break;
    }
    return s->free ? "each" : "for";
}

static void limit(Text *t, int64_t v) {
    if (v == INT64_MAX) text_put(t, "inf");
    else if (v == INT64_MIN) text_put(t, "-inf");
    else text_printf(t, "%lld", (long long)v);
}

/* The range of a variable where its definition does not say it. */
static void range(Printer *k, const Var *v, Expr *def) {
    int64_t lo, hi;
    if (!type_eq(v->type, scalar(I64))) return;
    expr_range(k->p->c, def, &lo, &hi);
    if (v->kind == V_LOOP) {
        lo = 0;
        hi = hi == INT64_MAX ? hi : hi - 1;
    }
    if (v->lo == lo && v->hi == hi) return;
    text_put(k->t, ": ");
    limit(k->t, v->lo);
    text_put(k->t, "..");
    limit(k->t, v->hi);
}

/* Loops that contain nothing but the next loop of the same kind share a line. */
static const Stmt *loop_line(Printer *k, const Stmt *s) {
    const char *word = loop_word(s);
    text_printf(k->t, "%s ", word);
    for (;;) {
        size_t name = k->t->n;
        text_put(k->t, "?"); /* the trip count is printed before its variable has a name */
        range(k, s->var, s->e);
        text_put(k->t, " in ");
        expr(k, s->e);
        if (s->mode == L_VECTOR && !is_value(s->e, s->width)) text_printf(k->t, " width %d", s->width);
        char *rest = gd_strdup(k->s, k->t->s + name + 1);
        k->t->n = name;
        text_printf(k->t, "%s%s", define(k, s->var, s->var->name), rest);
        const Stmt *next = s->body.n == 1 ? s->body.v[0] : NULL;
        if (!next || next->kind != S_FOR || strcmp(loop_word(next), word) || !expr_cheap(next->e)) return s;
        text_put(k->t, ", ");
        s = next;
    }
}

static void nest_line(Printer *k, const NestInfo *n) {
    text_printf(k->t, "nest %s", n->name);
    const char *const word[] = {"source", "schedule", "note"}, *const text[] = {n->source, n->schedule,
                                                                                n->note};
    for (int i = 0; i < 3; i++) {
        if (!says(text[i])) continue;
        text_printf(k->t, " ; %s ", word[i]);
        clause(k->t, text[i], false);
    }
    if (k->brief) {
        if (n->macs > 0) text_printf(k->t, " ; %.3g MMAC", n->macs * 1e-6);
        if (n->bytes > 0) text_printf(k->t, " ; %.3g MB", n->bytes * 1e-6);
        return;
    }
    const double number[] = {n->macs, n->bytes};
    for (int i = 0; i < 2; i++) {
        if (number[i] == 0) continue;
        text_put(k->t, i ? " ; bytes " : " ; macs ");
        const_print(k->t, scalar(F64), gd_to_bits(F64, number[i]), true);
    }
}

static void store_line(Printer *k, const Stmt *s) {
    text_put(k->t, name_of(k, s->buf));
    if (s->e->type.lanes > 1 && s->buf->lanes == 1) text_printf(k->t, ".v%d", s->e->type.lanes);
    if (s->nindex) exprs(k, s->nindex, s->index);
    text_put(k->t, " = ");
    expr(k, s->e);
    if (!s->mask) return;
    text_put(k->t, s->mask->type.dt == BOOL ? " if " : " count ");
    expr(k, s->mask);
}

static void decl_lines(Printer *k, const Stmt *s) {
    buffer(k, s->buf, s->buf->space == SP_REG ? "reg" : "local");
    for (int i = 0; i < k->views.n; i++) {
        if (buf_root(k->views.v[i]) != s->buf) continue;
        text_put(k->t, "\n");
        line(k);
        buffer(k, k->views.v[i], "view");
    }
}

static void let_line(Printer *k, const Stmt *s) {
    size_t name = k->t->n;
    expr(k, s->e);
    char *value = gd_strdup(k->s, k->t->s + name);
    k->t->n = name;
    const Named *known = s->var->kind == V_SYM ? map_getp(k->names, s->var) : NULL;
    text_printf(k->t, "let %s", known ? known->name : define(k, s->var, s->var->name));
    if (s->var->kind != V_SYM) range(k, s->var, s->e);
    text_printf(k->t, " = %s", value);
}

static void inner(Printer *k, const Block *b) {
    int mark = k->undo.n;
    k->indent++;
    block(k, b);
    k->indent--;
    forget(k, mark);
}

static void statement(Printer *k, Stmt *s) {
    int mark = k->undo.n;
    const Block *body = &s->body;
    Shared h = shared(k, s);
    line(k);
    switch (s->kind) {
    case S_FOR: body = &loop_line(k, s)->body; break;
    case S_WHILE:
        text_put(k->t, "while ");
        expr(k, s->e);
        break;
    case S_IF:
        text_put(k->t, "if ");
        expr(k, s->e);
        break;
    case S_LET: let_line(k, s); break;
    case S_STORE: store_line(k, s); break;
    case S_DECL: decl_lines(k, s); break;
    case S_ALLOC: text_printf(k->t, "alloc %s", name_of(k, s->buf)); break;
    case S_FREE: text_printf(k->t, "free %s", name_of(k, s->buf)); break;
    case S_MOVE: text_printf(k->t, "move %s from %s", name_of(k, s->buf), name_of(k, s->from)); break;
    case S_CHECK:
        text_put(k->t, "check ");
        expr(k, s->e);
        text_printf(k->t, " status %d", s->status);
        break;
    case S_NEST: nest_line(k, s->nest); break;
    }
    text_put(k->t, "\n");
    for (int i = 0; i < h.list.n; i++) map_putp(k->names, h.list.v[i], NULL);
    inner(k, body);
    if (s->other.n) {
        line(k);
        text_put(k->t, "else\n");
        inner(k, &s->other);
    }
    if (s->kind == S_FOR) forget(k, mark);
}

static void block(Printer *k, const Block *b) {
    for (int i = 0; i < b->n; i++) statement(k, b->v[i]);
}

/* ---- the head ---- */

static int64_t elements(const Printer *k, const Buf *b) {
    int64_t n;
    return is_int(buf_size(k->p->c, b), &n) ? n : -1;
}

static void inline_data(Printer *k, const Buf *b, int64_t n) {
    text_put(k->t, " = [");
    for (int64_t i = 0; i < n; i++) {
        if (i) text_put(k->t, ", ");
        if (b->dt == STRING) {
            text_put(k->t, "\"");
            clause(
                k->t,
                gd_escape(k->s, ((const char *const *)b->data)[i], strlen(((const char *const *)b->data)[i])),
                true);
            text_put(k->t, "\"");
            continue;
        }
        const char *at = (const char *)b->data + (size_t)i * (size_t)gd_dtypes[b->dt].bytes;
        const_print(k->t, scalar(b->dt), gd_load_bits(b->dt, at), true);
    }
    text_put(k->t, "]");
}

static bool is_inline(const Printer *k, const Buf *b) {
    int64_t n = elements(k, b);
    return b->data && n >= 0 && (b->dt == STRING || (n <= INLINE_DATA && gd_dtypes[b->dt].bytes <= 8));
}

static void sym_line(Printer *k, const Var *v) {
    text_printf(k->t, "sym %s in ", define(k, v, v->name));
    limit(k->t, v->lo);
    text_put(k->t, "..");
    limit(k->t, v->hi);
    if (v->data) text_put(k->t, " data");
    if (v->def) {
        text_put(k->t, " max ");
        expr(k, v->def);
    }
    text_put(k->t, "\n");
}

static void buffer_lines(Printer *k) {
    const Program *p = k->p;
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        buffer(k, b, b->space == SP_IN ? "in" : "out");
        if (i < p->port_names.n && strcmp(p->port_names.v[i], name_of(k, b))) {
            text_put(k->t, " as \"");
            clause(k->t, p->port_names.v[i], true);
            text_put(k->t, "\"");
        }
        text_put(k->t, "\n");
    }
    for (int i = 0; i < p->consts.n; i++) {
        const Buf *b = p->consts.v[i];
        buffer(k, b, "const");
        if (is_inline(k, b)) inline_data(k, b, elements(k, b));
        text_put(k->t, "\n");
    }
    for (int i = 0; i < p->bufs.n; i++) {
        const Buf *b = p->bufs.v[i];
        const Live *l = map_getp(k->live, b);
        buffer(k, b, b->space == SP_HEAP ? "heap" : "arena");
        if (l && l->first >= 0)
            text_printf(k->t, " ; live %s..%s", k->nests.v[l->first], k->nests.v[l->last]);
        text_put(k->t, "\n");
    }
    for (int i = 0; i < k->views.n; i++) {
        Space space = buf_root(k->views.v[i])->space;
        if (space == SP_REG || space == SP_LOCAL) continue;
        buffer(k, k->views.v[i], "view");
        text_put(k->t, "\n");
    }
}

static void head(Printer *k) {
    const Program *p = k->p;
    text_printf(k->t, "program %s", p->name);
    if (p->after) text_printf(k->t, " after %s", p->after);
    if (p->lanes) text_printf(k->t, " lanes %d", p->lanes);
    if (p->bound) text_put(k->t, " bound");
    if (p->grows) text_put(k->t, " grows");
    text_put(k->t, "\n");
    for (int i = 0; i < p->syms.n; i++) sym_line(k, p->syms.v[i]);
    buffer_lines(k);
    if (p->arena) {
        text_put(k->t, "arena_bytes ");
        expr(k, p->arena);
        text_put(k->t, "\n");
    }
    text_put(k->t, "\n");
}

/* ---- data ---- */

static void hex(Text *t, const unsigned char *p, int bytes) {
    static const char digit[] = "0123456789abcdef";
    char s[32];
    for (int i = 0; i < bytes; i++) { /* the most significant first */
        s[2 * i] = digit[p[bytes - 1 - i] >> 4];
        s[2 * i + 1] = digit[p[bytes - 1 - i] & 15];
    }
    text_putn(t, s, (size_t)(2 * bytes));
}

/* Elements as hexadecimal numbers; 00*9 stands for nine times 00. */
static void data_section(Printer *k, const Buf *b) {
    int bytes = gd_dtypes[b->dt].bytes, column = 0;
    int64_t n = elements(k, b), run;
    const unsigned char *p = b->data;
    text_printf(k->t, "data %s", name_of(k, b));
    for (int64_t i = 0; i < n; i += run) {
        const unsigned char *at = p + i * bytes;
        for (run = 1; i + run < n && !memcmp(at, at + run * bytes, (size_t)bytes);) run++;
        text_put(k->t, column ? " " : "\n  ");
        hex(k->t, at, bytes);
        if (run > 3) text_printf(k->t, "*%lld", (long long)run);
        else run = 1;
        column = column >= 96 ? 0 : column + 2 * bytes + 1;
    }
    text_put(k->t, "\n");
}

/* ---- the doors ---- */

typedef struct Job {
    Text *t;
    const Program *p;
    bool brief;
} Job;

static void print(Ctx *s, void *arg) {
    const Job *j = arg;
    Printer k = {.t = j->t,
                 .s = s,
                 .p = j->p,
                 .brief = j->brief,
                 .names = map_new(s),
                 .taken = map_new(s),
                 .seen = map_new(s),
                 .live = map_new(s),
                 .mark = expr_mark(j->p->c)};
    block_walk((Block *)&j->p->body, note_stmt, &k);
    head(&k);
    block(&k, &j->p->body);
    for (int i = 0; !k.brief && i < j->p->consts.n; i++) {
        const Buf *b = j->p->consts.v[i];
        if (b->data && !is_inline(&k, b)) data_section(&k, b);
    }
}

void loop_print(Text *t, const Program *p) { gd_scratch(t->c, print, &(Job){t, p, false}); }
void loop_print_brief(Text *t, const Program *p) { gd_scratch(t->c, print, &(Job){t, p, true}); }

const char *stmt_text(Ctx *c, const Stmt *s) {
    Text *t = text_new(c);
    const char *buf = s->buf ? s->buf->name : "?", *e = s->e ? expr_text(c, s->e) : "?",
               *var = s->var ? s->var->name : "?";
    switch (s->kind) {
    case S_FOR: text_printf(t, "%s %s in %s", loop_word(s), var, e); break;
    case S_WHILE: text_printf(t, "while %s", e); break;
    case S_IF: text_printf(t, "if %s", e); break;
    case S_LET: text_printf(t, "let %s = %s", var, e); break;
    case S_STORE:
        text_put(t, buf);
        for (int i = 0; i < s->nindex; i++) text_printf(t, "%s%s", i ? ", " : "[", expr_text(c, s->index[i]));
        text_printf(t, "%s = %s", s->nindex ? "]" : "", e);
        if (s->mask)
            text_printf(t, " %s %s", s->mask->type.dt == BOOL ? "if" : "count", expr_text(c, s->mask));
        break;
    case S_DECL: text_printf(t, "%s %s", s->buf && s->buf->space == SP_REG ? "reg" : "local", buf); break;
    case S_ALLOC: text_printf(t, "alloc %s", buf); break;
    case S_FREE: text_printf(t, "free %s", buf); break;
    case S_MOVE: text_printf(t, "move %s from %s", buf, s->from ? s->from->name : "?"); break;
    case S_CHECK: text_printf(t, "check %s status %d", e, s->status); break;
    case S_NEST: text_printf(t, "nest %s", s->nest ? s->nest->name : "?"); break;
    }
    return t->s;
}
