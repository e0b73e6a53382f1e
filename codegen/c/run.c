/* P_run_raw: checks sizes, finds the buffers, runs the body in order. */
#include "gen.h"
#include "heap.h"

static bool has_alloc(const Block *b, const Buf *root) {
    for (int i = 0; i < b->n; i++) {
        const Stmt *s = b->v[i];
        if ((s->kind == S_ALLOC && buf_root(s->buf) == root) ||
            (s->kind == S_MOVE && buf_root(s->buf) == root))
            return true;
        if (has_alloc(&s->body, root) || has_alloc(&s->other, root)) return true;
    }
    return false;
}

/* ---- the heap ---- */

void put_alloc(Gen *g, Buf *b) {
    Buf *root = buf_root(b);
    const char *s = spelling(g, root, root->name);
    bool out = root->space == SP_OUT;
    if (out) {
        line(g, "if (!%s) {", s);
        g->indent++;
    }
    begin_line(g);
    text_printf(g->out, "%s = gradc_heap_alloc(&heap, (size_t)", s);
    put_expr(g, buf_size(g->c, root), P_UNARY);
    text_printf(g->out, " * sizeof *%s);\n", s);
    line(g, "if (!%s) return %d;", s, GRADC_RUN_ARENA);
    if (!out) return;
    line(g, "outs[%d] = %s;", root->port, s);
    g->indent--;
    line(g, "}");
}

void put_free(Gen *g, Buf *b) {
    const char *s = spelling(g, buf_root(b), b->name);
    line(g, "gradc_heap_free(&heap, %s);", s);
    line(g, "%s = NULL;", s);
}

/* What the target had before is free then. An output whose size only the data decides has no place of the caller's, so it
   can take one over. */
void put_move(Gen *g, Buf *to, Buf *from) {
    const char *t = spelling(g, buf_root(to), to->name), *f = spelling(g, buf_root(from), from->name);
    if (buf_root(to)->space == SP_HEAP) line(g, "gradc_heap_free(&heap, %s);", t);
    line(g, "%s = %s;", t, f);
    line(g, "%s = NULL;", f);
    if (buf_root(to)->space == SP_OUT) line(g, "outs[%d] = %s;", buf_root(to)->port, t);
}

/* ---- where things are ---- */

static void put_symbols(Gen *g) {
    Program *p = g->p;
    for (int i = 0; i < p->syms.n; i++) {
        Var *v = p->syms.v[i];
        bool used = map_getp(g->uses->live, v) != NULL;
        if (v->data) {
            if (used) line(g, "int64_t %s = -1;", name_var(g, v));
            continue;
        }
        const char *s = used ? name_var(g, v) : gd_format(g->c, "syms[%d]", i);
        if (used) line(g, "const int64_t %s = syms[%d];", s, i);
    }
    for (int i = 0; i < p->syms.n; i++) {
        Var *v = p->syms.v[i];
        if (v->data) continue;
        const char *s = map_getp(g->uses->live, v) ? spelling(g, v, v->name) : gd_format(g->c, "syms[%d]", i);
        if (v->lo > INT64_MIN) line(g, "if (%s < %lld) return %d;", s, (long long)v->lo, GRADC_RUN_SHAPE);
        if (v->hi < INT64_MAX) line(g, "if (%s > %lld) return %d;", s, (long long)v->hi, GRADC_RUN_SHAPE);
    }
}

static void put_buffer(Gen *g, const Touched *t) {
    Buf *b = t->buf;
    const char *e = c_elem(b->dt);
    bool moves = b->space == SP_HEAP || (b->space == SP_OUT && has_alloc(&g->p->body, b));
    begin_line(g);
    switch (b->space) {
    case SP_IN: text_printf(g->out, "const %s *const %s = ins[%d];\n", e, name_buf(g, b), b->port); break;
    case SP_OUT:
        text_printf(g->out, "%s *%s%s = outs[%d];\n", e, moves ? "" : "const ", name_buf(g, b), b->port);
        break;
    case SP_HEAP: text_printf(g->out, "%s *%s = NULL;\n", e, name_buf(g, b)); break;
    case SP_CONST:
        text_printf(g->out, "const %s *const %s = %s;\n", e, name_buf(g, b), const_pointer(g, b));
        break;
    case SP_ARENA:
        if (!b->offset) gd_bug(g->c, "C: buffer %s has no place", b->name);
        text_printf(g->out, "%s *const %s = (%s *)(void *)(memory + ", e, name_buf(g, b), e);
        put_expr(g, b->offset, P_MUL);
        text_put(g->out, ");\n");
        break;
    default: break;
    }
}

static void put_arena(Gen *g) {
    bool needs = g->p->arena && !is_value(g->p->arena, 0);
    if (needs) {
        line(g, "unsigned char *const memory = arena;");
        line(g, "const size_t needed = %s_needed(syms);", g->prefix);
        line(g, "if (needed > arena_bytes || needed == SIZE_MAX) return %d;", GRADC_RUN_ARENA);
    } else if (!g->heap) line(g, "(void)arena, (void)arena_bytes;");
    if (!g->heap) return;
    line(g, "const size_t used = %s;", needs ? "(needed + 63) & ~(size_t)63" : "0");
    line(g, "GradcHeap heap;");
    line(g, "gradc_heap_init(&heap, (unsigned char *)arena + (used < arena_bytes ? used : 0), arena_bytes > "
            "used ? arena_bytes - used : 0);");
}

/* ---- sizes ---- */

/* The arena's bytes for given symbols. Symbols without a bound could make the sum overflow: then no arena is
 * large enough. */
static void put_needed(Gen *g) {
    Expr *e = g->p->arena;
    if (!e || is_value(e, 0)) return;
    int mark = scope_begin(g);
    bool open = expr_max(g->c, e) == INT64_MAX;
    text_printf(g->out, "\nstatic size_t %s_needed(const int64_t *syms) {\n", g->prefix);
    g->indent++;
    if (is_const(e)) line(g, "(void)syms;");
    for (int i = 0; i < g->p->syms.n; i++)
        if (expr_uses(e, g->p->syms.v[i]))
            line(g, "const int64_t %s = syms[%d];", name_var(g, g->p->syms.v[i]), i);
    if (open) {
        Text *before = g->out;
        g->out = text_new(g->c);
        bool known = put_double(g, e);
        Text *bound = g->out;
        g->out = before;
        if (known) line(g, "if (%s > 9e18) return SIZE_MAX;", bound->s);
    }
    begin_line(g);
    text_put(g->out, "return (size_t)");
    put_expr(g, e, P_UNARY);
    text_put(g->out, ";\n");
    g->indent--;
    text_put(g->out, "}\n");
    scope_end(g, mark);
}

void put_run(Gen *g) {
    Program *p = g->p;
    Uses *u = gd_new(g->c, Uses);
    put_needed(g);
    uses_of(g, &p->body, u);
    g->uses = u;
    int mark = scope_begin(g);
    text_printf(g->out,
                "\nint %s_run_raw(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t "
                "arena_bytes) {\n",
                g->prefix);
    g->indent++;
    if (u->checks) line(g, "int status;");
    if (g->o->profile && g->nest_list.n) line(g, "uint64_t start;");
    put_symbols(g);
    put_arena(g);
    for (int i = 0; i < u->bufs.n; i++) put_buffer(g, &u->bufs.v[i]);
    line(g, "(void)ins, (void)outs, (void)syms;");
    put_block(g, &p->body);
    line(g, "return 0;");
    g->indent--;
    text_put(g->out, "}\n");
    scope_end(g, mark);
}
