/* The faces of a program: the header and the typed functions that a person calls, the table that the command
   line of an executable reads, the counters of a profile. */
#include "gen.h"

bool arena_grows(const Gen *g) { return g->heap; }

static int ports(const Gen *g, Space space) {
    int n = 0;
    for (int i = 0; i < g->p->params.n; i++) n += g->p->params.v[i]->space == space;
    return n;
}

/* Symbols come first, as the shapes of what follows are told in them. */
void name_fields(Gen *g) {
    Program *p = g->p;
    Map *in = map_new(g->c), *out = map_new(g->c);
    g->sym_field = gd_new_array(g->c, const char *, p->syms.n);
    g->port_field = gd_new_array(g->c, const char *, p->params.n);
    if (g->raw_weights) map_puts(in, "weights", g);
    for (int i = 0; i < p->syms.n; i++)
        g->sym_field[i] = name_field(g->c, p->syms.v[i]->data ? out : in, p->syms.v[i]->name);
    for (int i = 0; i < p->params.n; i++)
        g->port_field[i] = name_field(g->c, p->params.v[i]->space == SP_IN ? in : out, p->port_names.v[i]);
}

/* ---- the header ---- */

static const char *shape_text(Gen *g, const Buf *b) {
    Text *t = text_new(g->c);
    text_printf(t, "%s[", gd_dtypes[b->dt].name);
    for (int i = 0; i < b->rank; i++) {
        if (i) text_put(t, ",");
        expr_print(t, b->dim[i]);
    }
    text_put(t, "]");
    return t->s;
}

static const char *range_text(Gen *g, const Var *v) {
    const char *lo = v->lo == INT64_MIN ? "" : gd_format(g->c, "%lld", (long long)v->lo);
    return v->hi == INT64_MAX ? gd_format(g->c, "%s or more", lo)
                              : gd_format(g->c, "%s to %lld", lo, (long long)v->hi);
}

static void put_members(Gen *g, Space space) {
    Program *p = g->p;
    Text *t = g->out;
    bool any = false;
    for (int i = 0; i < p->syms.n; i++) {
        const Var *v = p->syms.v[i];
        if (v->data != (space == SP_OUT)) continue;
        text_printf(t, "    int64_t %s; /* %s */\n", g->sym_field[i],
                    v->data ? "set by run" : range_text(g, v));
        any = true;
    }
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        if (b->space != space) continue;
        text_printf(t, "    %s%s *%s; /* ", space == SP_IN ? "const " : "", c_elem(b->dt), g->port_field[i]);
        put_comment(t, shape_text(g, b));
        text_put(t, " */\n");
        any = true;
    }
    if (space == SP_IN && g->raw_weights) {
        text_printf(t, "    const void *weights; /* the %zu bytes of %s.weights, on a multiple of 64 */\n",
                    g->blob.bytes, g->prefix);
        any = true;
    }
    if (!any) text_put(t, "    int unused;\n");
}

void put_header(Gen *g) {
    Text *t = g->out;
    const char *P = g->prefix, *M = g->macro;
    int64_t most = g->p->arena ? expr_max(g->c, g->p->arena) : 0;
    text_printf(t,
                "/* %s.h: made by gradc. */\n#ifndef %s_H\n#define %s_H\n#include <stddef.h>\n#include "
                "<stdint.h>\n\n",
                P, M, M);
    text_put(t, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    text_printf(t,
                "/* What run returns; other values are checks of the model itself. */\nenum { %s_OK = 0, "
                "%s_SHAPE = 1, %s_ARENA = 2, %s_INDEX = 3 };\n\n",
                M, M, M, M);
    if (!arena_grows(g) && most < INT64_MAX)
        text_printf(t,
                    "/* Enough for all sizes that the inputs may have. */\n#define %s_ARENA_BYTES %lld\n\n",
                    M, (long long)most);
    if (g->raw_weights) text_printf(t, "#define %s_WEIGHTS_BYTES %zu\n\n", M, g->blob.bytes);
    text_printf(t, "typedef struct %s_inputs {\n", P);
    put_members(g, SP_IN);
    text_printf(t,
                "} %s_inputs;\n\n/* The caller's memory, of these shapes; it overlaps neither the inputs nor "
                "the arena. */\ntypedef struct %s_outputs {\n",
                P, P);
    put_members(g, SP_OUT);
    text_printf(t, "} %s_outputs;\n\n", P);
    if (arena_grows(g))
        text_printf(t,
                    "/* How much to begin with; when run returns %s_ARENA, it needs more. An output whose "
                    "size only the data decides lies in\n"
                    "   the arena afterwards, if its pointer was NULL. */\n",
                    M);
    else
        text_put(
            t, "/* Bytes of working memory for inputs of these sizes; the pointers are not looked at. */\n");
    text_printf(t, "size_t %s_arena_bytes(const %s_inputs *in);\n\n", P, P);
    text_printf(t,
                "/* 0 or a status. Allocates nothing, writes to nothing but the outputs and the arena: safe "
                "to call from many threads at\n"
                "   once with an arena each. An arena on a multiple of 64 is fastest. */\nint %s_run(const "
                "%s_inputs *in, %s_outputs *out, void *arena%s);\n\n",
                P, P, P, arena_grows(g) ? ", size_t arena_bytes" : "");
    text_printf(t,
                "/* The same by position: pointers in order, then%s the symbols in order. */\n"
                "int %s_run_raw(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t "
                "arena_bytes);\n\n",
                g->raw_weights ? " the weights," : "", P);
    text_printf(t, "const char *%s_status_text(int status);\n\n", P);
    if (g->o->profile)
        text_printf(t,
                    "/* How often nest number `nest` ran, and how long. Returns -1 past the last one. */\n"
                    "int %s_profile(int nest, uint64_t *calls, uint64_t *ns);\n\n",
                    P);
    text_put(t, "#ifdef __cplusplus\n}\n#endif\n#endif\n");
}

/* ---- the typed functions ---- */

static void put_syms(Gen *g) {
    begin_line(g);
    text_put(g->out, "int64_t syms[] = {");
    for (int i = 0; i < g->p->syms.n; i++) {
        if (i) text_put(g->out, ", ");
        if (g->p->syms.v[i]->data) text_put(g->out, g->p->syms.v[i]->lo >= 0 ? "-1" : "INT64_MIN");
        else text_printf(g->out, "in->%s", g->sym_field[i]);
    }
    text_put(g->out, g->p->syms.n ? "};\n" : "0};\n");
}

static void put_pointers(Gen *g, Space space) {
    const char *comma = "";
    begin_line(g);
    text_put(g->out, space == SP_IN ? "const void *const ins[] = {" : "void *outs[] = {");
    for (int i = 0; i < g->p->params.n; i++) {
        if (g->p->params.v[i]->space != space) continue;
        text_printf(g->out, "%s%s->%s", comma, space == SP_IN ? "in" : "out", g->port_field[i]);
        comma = ", ";
    }
    if (space == SP_IN && g->raw_weights) {
        text_printf(g->out, "%sin->weights", comma);
        comma = ", ";
    }
    text_put(g->out, *comma ? "};\n" : "NULL};\n");
}

static void put_arena_bytes(Gen *g) {
    bool needs = g->p->arena && !is_value(g->p->arena, 0);
    const char *tail = g->heap ? gd_format(g->c, " + %d", HEAP_START) : "";
    text_printf(g->out, "\nsize_t %s_arena_bytes(const %s_inputs *in) {\n", g->prefix, g->prefix);
    if (needs) put_syms(g);
    line(g, "(void)in;");
    if (needs) line(g, "return %s_needed(syms)%s;", g->prefix, tail);
    else line(g, "return 0%s;", tail);
    text_put(g->out, "}\n");
}

void put_typed(Gen *g) {
    const char *P = g->prefix;
    g->indent = 1;
    put_arena_bytes(g);
    text_printf(g->out, "\nint %s_run(const %s_inputs *in, %s_outputs *out, void *arena%s) {\n", P, P, P,
                g->heap ? ", size_t arena_bytes" : "");
    put_pointers(g, SP_IN);
    put_pointers(g, SP_OUT);
    put_syms(g);
    if (!g->heap) line(g, "const size_t arena_bytes = %s_arena_bytes(in);", P);
    line(g, "const int status = %s_run_raw(ins, outs, syms, arena, arena_bytes);", P);
    line(g, "(void)in, (void)out;");
    for (int i = 0; i < g->p->syms.n; i++)
        if (g->p->syms.v[i]->data) line(g, "out->%s = syms[%d];", g->sym_field[i], i);
    for (int i = 0; g->heap && i < g->p->params.n; i++)
        if (g->p->params.v[i]->space == SP_OUT)
            line(g, "out->%s = outs[%d];", g->port_field[i], g->p->params.v[i]->port);
    line(g, "return status;");
    text_put(g->out, "}\n");
    text_printf(g->out, "\nconst char *%s_status_text(int status) {\n", P);
    line(g, "static const char *const text[] = {\"ok\", \"a size is out of range\", \"the arena is too "
            "small\", \"an index is out of range\"};");
    line(g, "return status >= 0 && status < 4 ? text[status] : \"a check of the model failed\";");
    text_put(g->out, "}\n");
    g->indent = 0;
}

/* ---- the table ---- */

static int64_t port_dim(const Program *p, const Expr *e) {
    int64_t n;
    if (is_int(e, &n)) return n;
    for (int i = 0; e->kind == E_VAR && i < p->syms.n; i++)
        if (p->syms.v[i] == e->var) return -1 - i;
    return GRADC_DIM_COMPUTED;
}

static void put_string(Text *t, const char *s) {
    text_put(t, "\"");
    for (; *s; s++)
        text_printf(t, *s < ' ' || *s > 126 || *s == '"' || *s == '\\' || *s == '?' ? "\\%03o" : "%c",
                    (unsigned char)*s);
    text_put(t, "\"");
}

static void put_ports(Gen *g, Space space) {
    Program *p = g->p;
    Text *t = g->out;
    const char *word = space == SP_IN ? "in" : "out";
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        if (b->space != space || !b->rank) continue;
        text_printf(t, "static const int64_t %s_%s%d[] = {", g->prefix, word, b->port);
        for (int d = 0; d < b->rank; d++) {
            int64_t n = port_dim(p, b->dim[d]);
            if (n == GRADC_DIM_COMPUTED) text_printf(t, "%sGRADC_DIM_COMPUTED", d ? ", " : "");
            else text_printf(t, "%s%lld", d ? ", " : "", (long long)n);
        }
        text_put(t, "};\n");
    }
    if (!ports(g, space)) return;
    text_printf(t, "static const GradcPort %s_%s[] = {\n", g->prefix, word);
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        if (b->space != space) continue;
        text_put(t, "    {");
        put_string(t, p->port_names.v[i]);
        text_printf(t, ", %d, %d, ", (int)b->dt, b->rank);
        if (b->rank) text_printf(t, "%s_%s%d},\n", g->prefix, word, b->port);
        else text_put(t, "NULL},\n");
    }
    text_put(t, "};\n");
}

/* -1 when a symbol it depends on is not known yet. */
static void put_dim(Gen *g, Expr *e, int at) {
    const char *unknown = "";
    for (int i = 0; i < g->p->syms.n; i++) {
        Var *v = g->p->syms.v[i];
        if (v->data && expr_uses(e, v))
            unknown = gd_format(g->c, "%s%s%s %s", unknown, *unknown ? " || " : "", spelling(g, v, v->name),
                                v->lo >= 0 ? "< 0" : "== INT64_MIN");
    }
    begin_line(g);
    text_printf(g->out, "dims[%d] = ", at);
    if (*unknown) text_printf(g->out, "%s ? -1 : ", unknown);
    put_expr(g, e, P_OR);
    text_put(g->out, ";\n");
}

static void put_out_dims(Gen *g) {
    Program *p = g->p;
    int mark = scope_begin(g), at = 0;
    text_printf(g->out, "\nstatic void %s_out_dims(const int64_t *syms, int64_t *dims) {\n", g->prefix);
    g->indent = 1;
    line(g, "(void)syms, (void)dims;");
    for (int i = 0; i < p->syms.n; i++) {
        bool used = false;
        for (int k = 0; k < p->params.n; k++)
            for (int d = 0; p->params.v[k]->space == SP_OUT && d < p->params.v[k]->rank; d++)
                used = used || expr_uses(p->params.v[k]->dim[d], p->syms.v[i]);
        if (used) line(g, "const int64_t %s = syms[%d];", name_var(g, p->syms.v[i]), i);
    }
    for (int k = 0; k < p->params.n; k++)
        for (int d = 0; p->params.v[k]->space == SP_OUT && d < p->params.v[k]->rank; d++)
            put_dim(g, p->params.v[k]->dim[d], at++);
    g->indent = 0;
    text_put(g->out, "}\n");
    scope_end(g, mark);
}

static void put_bounds(Gen *g) {
    Program *p = g->p;
    Text *t = g->out;
    if (!p->syms.n) return;
    text_printf(t, "static const char *const %s_sym_names[] = {", g->prefix);
    for (int i = 0; i < p->syms.n; i++) {
        if (i) text_put(t, ", ");
        put_string(t, p->syms.v[i]->name);
    }
    for (int hi = 0; hi < 2; hi++) {
        text_printf(t, "};\nstatic const int64_t %s_sym_%s[] = {", g->prefix, hi ? "hi" : "lo");
        for (int i = 0; i < p->syms.n; i++) {
            if (i) text_put(t, ", ");
            put_const(g, t, I64, (uint64_t)(hi ? p->syms.v[i]->hi : p->syms.v[i]->lo), P_COND);
        }
    }
    text_put(t, "};\n");
}

/* An executable's weights are a file that main maps, so here a pointer is kept, which nothing but main
 * writes. */
static void put_run_mapped(Gen *g) {
    const char *P = g->prefix;
    int nin = ports(g, SP_IN);
    text_printf(g->out,
                "\nstatic const void *%s_mapped;\n\n"
                "static int %s_run_mapped(const void *const *ins, void **outs, int64_t *syms, void *arena, "
                "size_t arena_bytes) {\n"
                "    const void *all[%d];\n    for (int i = 0; i < %d; i++) all[i] = ins[i];\n    all[%d] = "
                "%s_mapped;\n"
                "    return %s_run_raw(all, outs, syms, arena, arena_bytes);\n}\n",
                P, P, nin + 1, nin, nin, P, P);
}

void put_table(Gen *g) {
    Text *t = g->out;
    const char *P = g->prefix;
    bool needs = g->p->arena && !is_value(g->p->arena, 0), syms = g->p->syms.n > 0;
    put_out_dims(g);
    const char *run = g->raw_weights ? "run_mapped" : "run_raw";
    if (g->raw_weights) put_run_mapped(g);
    text_printf(t, "\nstatic size_t %s_arena_of(const int64_t *syms) {\n    (void)syms;\n    return ", P);
    if (needs) text_printf(t, "%s_needed(syms)", P);
    else text_put(t, "0");
    if (g->heap) text_printf(t, " + %d", HEAP_START);
    text_put(t, ";\n}\n\n");
    put_bounds(g);
    put_ports(g, SP_IN);
    put_ports(g, SP_OUT);
    text_printf(t,
                "\nextern const GradcProgram %s_program;\nconst GradcProgram %s_program = {\n    \"%s\", "
                "\"%s\", %d, ",
                P, P, P, GRADC_VERSION, g->p->syms.n);
    if (syms) text_printf(t, "%s_sym_names, %s_sym_lo, %s_sym_hi,\n", P, P, P);
    else text_put(t, "NULL, NULL, NULL,\n");
    int nin = ports(g, SP_IN), nout = ports(g, SP_OUT);
    text_printf(t, "    %d, %d, %s, %s,\n    %s_out_dims, %s_arena_of, %s_%s, %s_status_text};\n", nin, nout,
                nin ? gd_format(g->c, "%s_in", P) : "NULL", nout ? gd_format(g->c, "%s_out", P) : "NULL", P,
                P, P, run, P);
    if (!g->o->main) return;
    text_put(t, "\nint main(int argc, char **argv) {\n");
    if (g->raw_weights)
        text_printf(t,
                    "    GradcError e = {0};\n    %s_mapped = gradc_weights_map(argv[0], %s_WEIGHTS_BYTES, "
                    "&e);\n    if (!%s_mapped) {\n"
                    "        gradc_error_print(stderr, \"%s\", &e);\n        return "
                    "gradc_error_status(e.code);\n    }\n",
                    P, g->macro, P, P);
    text_printf(t, "    return gradc_program_main(&%s_program, argc, argv);\n}\n", P);
}

/* ---- the profile ---- */

void put_profile(Gen *g) {
    const char *P = g->prefix;
    int n = g->nest_list.n;
    text_printf(
        g->out,
        "\n/* The profile is the one thing that is not kept in the caller's memory. */\n"
        "static uint64_t %s_calls[%d], %s_ns[%d];\n\n"
        "INLINE uint64_t %s_now(void) {\n    struct timespec t;\n    clock_gettime(CLOCK_MONOTONIC, &t);\n"
        "    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;\n}\n\n"
        "INLINE void %s_count(int nest, uint64_t start) {\n    %s_calls[nest]++;\n    %s_ns[nest] += "
        "%s_now() - start;\n}\n\n"
        "int %s_profile(int nest, uint64_t *calls, uint64_t *ns) {\n    if (nest < 0 || nest >= %d) return "
        "-1;\n"
        "    *calls = %s_calls[nest];\n    *ns = %s_ns[nest];\n    return 0;\n}\n",
        P, n ? n : 1, P, n ? n : 1, P, P, P, P, P, P, n, P, P);
}
