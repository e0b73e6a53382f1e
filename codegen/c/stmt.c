/* Statements, and a nest as a function of its own: it takes the pointers and sizes it uses, what it writes
   first.

   Elements of REG buffers that are single variables are declared where they are first stored, or, when that
   is inside a loop or branch, just before it. */
#include "gen.h"

void begin_line(Gen *g) {
    for (int i = 0; i < g->indent; i++) text_put(g->out, "    ");
}

void line(Gen *g, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = gd_alloc(g->c, (size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    begin_line(g);
    text_putn(g->out, s, (size_t)n);
    text_put(g->out, "\n");
}

/* Breaks what was printed from start on, one line, at blanks. Nothing in it is a string. */
static void wrap(Gen *g, size_t start) {
    enum { WIDTH = 110 };
    Text *t = g->out;
    size_t n = t->n - start;
    if (n <= WIDTH) return;
    const char *s = gd_strndup(g->c, t->s + start, n);
    t->n = start;
    for (size_t room = WIDTH; n > room;) {
        size_t indent = strspn(s, " "), cut = room;
        while (cut > indent && s[cut] != ' ') cut--;
        if (cut <= indent) cut = indent + strcspn(s + indent, " ");
        if (cut >= n) break;
        text_putn(t, s, cut);
        text_put(t, "\n");
        g->indent += 2;
        begin_line(g);
        g->indent -= 2;
        s += cut + 1;
        n -= cut + 1;
        room = g->indent < 14 ? (size_t)(WIDTH - 4 * (g->indent + 2)) : 40;
    }
    text_putn(t, s, n);
}

/* ---- declarations ---- */

static const char *element_type(Gen *g, const Buf *b) {
    int lanes = b->lanes ? b->lanes : 1;
    return b->dt == BOOL && lanes > 1 ? c_mask(g, lanes, 4) : c_type(g, vector(b->dt, lanes));
}

/* acc_0_3: the indices of element i. */
static const char *element_name(Gen *g, const Buf *b, int64_t i) {
    const char *s = "";
    for (int d = b->rank - 1; d >= 0; d--) {
        int64_t n;
        if (!is_int(b->dim[d], &n) || n < 1) return gd_format(g->c, "%s_%lld", b->name, (long long)i);
        s = gd_format(g->c, "_%lld%s", (long long)(i % n), s);
        i /= n;
    }
    return gd_format(g->c, "%s%s", b->name, s);
}

static void declare_array(Gen *g, Buf *b, int64_t n) {
    const char *type = b->space == SP_REG ? element_type(g, b) : c_elem(b->dt), *name = name_buf(g, b);
    line(g, "%s %s[%lld]%s;", type, name, (long long)(n > 0 ? n : 1),
         b->lanes > 1 && b->space == SP_REG ? "" : " LINE");
}

static void put_decl(Gen *g, Buf *b) {
    if (b->base) return;
    Reg *r = map_getp(g->uses->regs, b);
    if (r->array) {
        if (r->any_read) declare_array(g, b, r->n);
        return;
    }
    r->name = gd_new_array(g->c, const char *, r->n);
    for (int64_t i = 0; i < r->n; i++)
        if (r->read[i]) r->name[i] = name_take(g, element_name(g, b, i));
    vec_push(g->c, &g->pending, b);
}

/* Declares what is still open, a line for each buffer. */
static void flush(Gen *g, int from) {
    for (int k = from; k < g->pending.n; k++) {
        Buf *b = g->pending.v[k];
        Reg *r = map_getp(g->uses->regs, b);
        bool any = false;
        for (int64_t i = 0; i < r->n; i++) {
            if (!r->read[i] || r->declared[i]) continue;
            if (!any) begin_line(g);
            text_printf(g->out, "%s%s%s", any ? "" : element_type(g, b), any ? ", " : " ", r->name[i]);
            r->declared[i] = 1;
            any = true;
        }
        if (any) text_put(g->out, ";\n");
    }
    g->pending.n = from;
}

static void put_let(Gen *g, Stmt *s) {
    if (s->var->kind == V_SYM) {
        begin_line(g);
        text_printf(g->out, "%s = ", spelling(g, s->var, s->var->name));
        put_expr(g, s->e, P_COND);
        text_put(g->out, ";\n");
        for (int i = 0; i < g->p->syms.n; i++)
            if (g->p->syms.v[i] == s->var) line(g, "syms[%d] = %s;", i, spelling(g, s->var, s->var->name));
        return;
    }
    if (!map_getp(g->uses->live, s->var)) return;
    Type t = s->var->type;
    bool mask = t.dt == BOOL && t.lanes > 1;
    int width = mask ? mask_width(g, s->e) : 0;
    if (mask && !width) width = 4;
    const char *type = mask ? c_mask(g, t.lanes, width) : c_type(g, t);
    begin_line(g);
    const char *name = name_take(g, s->var->name);
    text_printf(g->out, "const %s %s = ", type, name);
    if (mask) put_mask(g, s->e, width);
    else put_expr(g, s->e, P_COND);
    text_put(g->out, ";\n");
    map_putp(g->spelled, s->var, (void *)name);
    if (t.lanes > 1) map_putp(g->logic, s->var, (void *)(uintptr_t)logic_depth(g, s->e));
    if (mask) map_putp(g->widths, s->var, (void *)(uintptr_t)width);
}

/* ---- stores ---- */

static void put_value(Gen *g, const Expr *e) {
    if (e->type.dt == BOOL && e->type.lanes == 1) text_put(g->out, "(uint8_t)");
    put_expr(g, e, e->type.dt == BOOL ? P_UNARY : P_COND);
}

/* Is the element stored to itself? */
static bool keeps(Gen *g, const Stmt *s, int64_t i) {
    int64_t from;
    return s->e->kind == E_LOAD && buf_root(s->e->buf) == buf_root(s->buf) &&
           s->e->nargs == s->e->buf->rank && is_int(buf_address(g->c, s->e->buf, s->e->arg), &from) &&
           from == i;
}

/* A store to a variable; false: it has no variable. */
static bool store_register(Gen *g, Stmt *s) {
    Buf *root = buf_root(s->buf);
    Reg *r = map_getp(g->uses->regs, root);
    int64_t i;
    if (r && !r->any_read) return true;
    if (!r || r->array || !is_int(buf_address(g->c, s->buf, s->index), &i)) return false;
    if (!r->read[i] || keeps(g, s, i)) return true;
    if (s->mask) flush(g, 0);
    begin_line(g);
    if (s->mask) {
        text_put(g->out, "if (");
        put_expr(g, s->mask, P_COND);
        text_put(g->out, ") ");
    }
    if (!r->declared[i]) text_printf(g->out, "%s ", element_type(g, root));
    r->declared[i] = 1;
    text_printf(g->out, "%s = ", r->name[i]);
    if (s->e->type.dt == BOOL && s->e->type.lanes > 1) put_mask(g, s->e, 4);
    else put_expr(g, s->e, P_COND);
    text_put(g->out, ";\n");
    return true;
}

static void put_vector_store(Gen *g, Stmt *s, const Expr *count) {
    Buf *root = buf_root(s->buf);
    Type t = s->e->type;
    if (root->space == SP_REG && root->lanes > 1) {
        put_element(g, s->buf, s->index);
        text_put(g->out, " = ");
        if (t.dt == BOOL) put_mask(g, s->e, 4);
        else put_expr(g, s->e, P_COND);
        text_put(g->out, ";\n");
        return;
    }
    text_printf(g->out, "%s(", vector_store(g, t, count != NULL));
    put_pointer(g, s->buf, s->index);
    if (count) {
        text_put(g->out, ", ");
        put_expr(g, count, P_COND);
    }
    text_put(g->out, ", ");
    if (t.dt == BOOL) put_mask(g, s->e, 1);
    else put_expr(g, s->e, P_COND);
    text_put(g->out, ");\n");
}

static void put_store(Gen *g, Stmt *s) {
    bool guarded = s->mask && s->mask->type.dt == BOOL;
    if (store_register(g, s)) return;
    begin_line(g);
    if (guarded) {
        text_put(g->out, "if (");
        put_expr(g, s->mask, P_COND);
        text_put(g->out, ") ");
    }
    if (s->e->type.lanes > 1) {
        put_vector_store(g, s, guarded ? NULL : s->mask);
        return;
    }
    put_element(g, s->buf, s->index);
    text_put(g->out, " = ");
    put_value(g, s->e);
    text_put(g->out, ";\n");
}

/* ---- control ---- */

enum { STATUSES = 65536 };

static void put_check(Gen *g, Stmt *s) {
    begin_line(g);
    text_put(g->out, "if (!");
    put_expr(g, s->e, P_UNARY);
    if (!g->skip) text_printf(g->out, ") return %d;\n", s->status);
    else {
        if (s->status < 0 || s->status >= STATUSES) gd_bug(g->c, "C: status %d", s->status);
        const char *key = gd_format(g->c, "%s * %d + %d", g->iteration, STATUSES, s->status);
        text_printf(g->out, ") {\n");
        g->indent++;
        line(g, "if (%s < %s) %s = %s;", key, g->status, g->status, key);
        line(g, "goto %s;", g->skip);
        g->indent--;
        line(g, "}");
    }
}

static bool has_check(Block *b) {
    for (int i = 0; i < b->n; i++)
        if (b->v[i]->kind == S_CHECK || has_check(&b->v[i]->body) || has_check(&b->v[i]->other)) return true;
    return false;
}

static void put_inner(Gen *g, Block *b) {
    g->indent++;
    put_block(g, b);
    g->indent--;
}

static void put_for_line(Gen *g, Stmt *s, const char *i) {
    begin_line(g);
    text_printf(g->out, "for (int64_t %s = 0; %s < ", i, i);
    put_expr(g, s->e, P_SHIFT);
    text_printf(g->out, "; %s++) {\n", i);
}

/* The outermost parallel loop is the one that runs on threads. A failed check ends its iteration only; behind
   the loop the status of the first iteration that failed is returned, however many threads there were. */
static void put_parallel(Gen *g, Stmt *s) {
    bool checks = has_check(&s->body);
    int mark = scope_begin(g);
    const char *i = name_var(g, s->var);
    if (checks) {
        g->status = name_take(g, "failed");
        g->skip = name_take(g, "next");
        g->iteration = i;
        line(g, "int64_t %s = INT64_MAX;", g->status);
    }
    text_printf(g->out, "#ifdef _OPENMP\n#pragma omp parallel for schedule(static)%s%s%s\n#endif\n",
                checks ? " reduction(min : " : "", checks ? g->status : "", checks ? ")" : "");
    put_for_line(g, s, i);
    g->in_parallel = true;
    put_inner(g, &s->body);
    g->in_parallel = false;
    if (checks) line(g, "%s:;", g->skip);
    line(g, "}");
    if (checks) line(g, "if (%s < INT64_MAX) return (int)(%s %% %d);", g->status, g->status, STATUSES);
    g->skip = g->status = g->iteration = NULL;
    scope_end(g, mark);
}

static void put_for(Gen *g, Stmt *s) {
    if (s->mode == L_PARALLEL && g->o->openmp && !g->in_parallel) {
        put_parallel(g, s);
        return;
    }
    int mark = scope_begin(g);
    put_for_line(g, s, name_var(g, s->var));
    put_inner(g, &s->body);
    line(g, "}");
    scope_end(g, mark);
}

static void put_condition(Gen *g, const char *word, Stmt *s) {
    begin_line(g);
    text_printf(g->out, "%s (", word);
    put_expr(g, s->e, P_COND);
    text_put(g->out, ") {\n");
    put_inner(g, &s->body);
    if (s->kind == S_IF && s->other.n) {
        line(g, "} else {");
        put_inner(g, &s->other);
    }
    line(g, "}");
}

static void put_stmt(Gen *g, Stmt *s) {
    size_t start = g->out->n;
    switch (s->kind) {
    case S_FOR:
        flush(g, 0);
        put_for(g, s);
        break;
    case S_WHILE:
        flush(g, 0);
        put_condition(g, "while", s);
        break;
    case S_IF:
        flush(g, 0);
        put_condition(g, "if", s);
        break;
    case S_LET: put_let(g, s), wrap(g, start); break;
    case S_STORE: put_store(g, s), wrap(g, start); break;
    case S_DECL: put_decl(g, s->buf); break;
    case S_CHECK: put_check(g, s); break;
    case S_NEST: put_call(g, s); break;
    case S_ALLOC: put_alloc(g, s->buf); break;
    case S_FREE: put_free(g, s->buf); break;
    case S_MOVE: put_move(g, s->buf, s->from); break;
    }
}

void put_block(Gen *g, Block *b) {
    int mark = scope_begin(g), open = g->pending.n;
    for (int i = 0; i < b->n; i++) put_stmt(g, b->v[i]);
    if (g->pending.n > open) g->pending.n = open;
    scope_end(g, mark);
}

/* ---- nests ---- */

static void put_note(Gen *g, const char *before, const char *s) {
    if (!s || !*s) return;
    text_printf(g->out, "\n   %s", before);
    put_comment(g->out, s);
}

static void put_nest_comment(Gen *g, const NestInfo *n) {
    text_put(g->out, "\n/* ");
    put_comment(g->out, n->source && *n->source ? n->source : n->name);
    put_note(g, "schedule: ", n->schedule);
    put_note(g, "", n->note);
    if (n->macs > 0) text_printf(g->out, "\n   %.4g million multiply-adds", n->macs / 1e6);
    text_put(g->out, " */\n");
}

/* A list that goes on in the next line when this one is full. */
typedef struct List {
    size_t line;
    bool any;
} List;
static void put_item(Gen *g, List *l, const char *s) {
    if (l->any) text_put(g->out, ",");
    if (g->out->n - l->line + strlen(s) > 114) {
        text_put(g->out, "\n        ");
        l->line = g->out->n - 8;
    } else if (l->any) text_put(g->out, " ");
    text_put(g->out, s);
    l->any = true;
}

static void put_parameters(Gen *g, const Uses *u, size_t line_at) {
    List l = {line_at, false};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < u->bufs.n; i++) {
            const Touched *t = &u->bufs.v[i];
            if (t->written != !pass) continue;
            const char *alone = bufs_overlap(g, u, t->buf) ? "" : "restrict ";
            put_item(g, &l,
                     gd_format(g->c, "%s%s *%s%s", t->written ? "" : "const ", c_elem(t->buf->dt), alone,
                               name_buf(g, t->buf)));
        }
    for (int i = 0; i < u->vars.n; i++)
        put_item(g, &l, gd_format(g->c, "%s %s", c_type(g, u->vars.v[i]->type), name_var(g, u->vars.v[i])));
    if (!l.any) text_put(g->out, "void");
}

void put_nest(Gen *g, Stmt *nest) {
    Uses *u = gd_new(g->c, Uses);
    uses_of(g, &nest->body, u);
    map_putp(g->nest_uses, nest, u);
    g->uses = u;
    put_nest_comment(g, nest->nest);
    int mark = scope_begin(g);
    size_t line_at = g->out->n;
    text_printf(g->out, "NEST %s nest_%s(", u->checks ? "int" : "void", name_fit(g->c, nest->nest->name));
    put_parameters(g, u, line_at);
    text_put(g->out, ") {\n");
    put_inner(g, &nest->body);
    if (u->checks) text_put(g->out, "    return 0;\n");
    text_put(g->out, "}\n");
    scope_end(g, mark);
    gd_check_time(g->c);
}

void put_call(Gen *g, Stmt *nest) {
    const Uses *u = map_getp(g->nest_uses, nest);
    int id = (int)(uintptr_t)map_getp(g->nest_ids, nest);
    if (g->o->profile) line(g, "start = %s_now();", g->prefix);
    List l = {g->out->n, false};
    begin_line(g);
    text_printf(g->out, "%snest_%s(", u->checks ? "if ((status = " : "", name_fit(g->c, nest->nest->name));
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < u->bufs.n; i++)
            if (u->bufs.v[i].written == !pass)
                put_item(g, &l, spelling(g, u->bufs.v[i].buf, u->bufs.v[i].buf->name));
    for (int i = 0; i < u->vars.n; i++) put_item(g, &l, spelling(g, u->vars.v[i], u->vars.v[i]->name));
    text_put(g->out, u->checks ? ")) != 0) return status;\n" : ");\n");
    if (g->o->profile) line(g, "%s_count(%d, start);", g->prefix, id - 1);
}
