/* A program as C sources: P.c and P.h. The parts are printed in one order and put together in another, since
   what an expression needs (helpers, math.h) is only known when it has been printed.

   C leaves some things to the compiler that would change bits. The text settles them by itself: contraction
   of a * b + c is switched off for this file (a pragma of the standard, which GCC ignores, and one of GCC's),
   -ffast-math and excess precision are refused. So any -O and any -march give the same results. Two faults of
   compilers are kept away from (docs/numerics.md): one of GCC's by a pragma, one of Clang's by vector_keep. */
#include "gen.h"
#include "embedded.h"

static const char about[] = "   Any C99 compiler will do; the results are the same to the bit with each, at "
                            "any -O and for any processor. Fastest with\n"
                            "   -O3, -march for the processor at hand%s; where that has no fused "
                            "multiply-add, link with -lm. No function\n"
                            "   allocates memory or writes to variables of its own. */\n";

static const char settings[] =
    "#if defined(__FAST_MATH__)\n#error \"-ffast-math changes results: compile this file without "
    "it\"\n#endif\n"
    "#if defined(__FLT_EVAL_METHOD__) && (__FLT_EVAL_METHOD__ == 1 || __FLT_EVAL_METHOD__ == 2)\n"
    "#error \"excess precision changes results: compile this file with -msse2 -mfpmath=sse\"\n#endif\n"
    "/* One operation rounds once: a * b + c is not contracted. */\n"
    "#if defined(__GNUC__) && !defined(__clang__)\n"
    "#pragma GCC optimize(\"fp-contract=off\", \"no-math-errno\", \"no-trapping-math\")\n"
    "#if __GNUC__ < 14 /* conditional loads of several columns were taken from the wrong rows */\n"
    "#pragma GCC optimize(\"no-tree-loop-if-convert\")\n#endif\n"
    "#else\n#pragma STDC FP_CONTRACT OFF\n#endif\n\n"
    "#if defined(__GNUC__) && (__GNUC__ >= 10 || defined(__clang__)) && !defined(__TINYC__) && "
    "!defined(GRADC_PLAIN)\n"
    "#define GRADC_GNU 1\n"
    "#if defined(__SSE4_1__) || defined(__aarch64__)\n#define GRADC_ROUNDS 1\n#endif\n"
    "#if defined(__clang__) && __clang_major__ < 23 && defined(__AVX512F__)\n"
    "#define GRADC_KEEP 1 /* logic on bits and a selection became one wrong instruction */\n#endif\n"
    "#pragma GCC diagnostic ignored \"-Wpsabi\"\n"
    "#define INLINE static inline __attribute__((always_inline, unused))\n"
    "#define NEST static __attribute__((noinline))\n"
    "#define LINE __attribute__((aligned(64)))\n"
    "#define LANE(v, i) (v)[i]\n"
    "#else\n#define GRADC_GNU 0\n#if defined(__GNUC__)\n#define INLINE static inline "
    "__attribute__((unused))\n#else\n#define INLINE static inline\n#endif\n#define NEST static\n#define "
    "LINE\n#define LANE(v, i) (v).e[i]\n#endif\n";

/* ---- what the program needs ---- */

static bool gather(void *arg, Stmt *s) {
    Gen *g = arg;
    if (s->kind == S_NEST) {
        vec_push(g->c, &g->nest_list, s);
        map_putp(g->nest_ids, s, (void *)(uintptr_t)g->nest_list.n);
    }
    g->heap = g->heap || s->kind == S_ALLOC || s->kind == S_FREE || s->kind == S_MOVE;
    return s->kind != S_NEST;
}

static char *upper(Ctx *c, const char *s) {
    char *r = gd_strdup(c, s);
    for (char *q = r; *q; q++)
        if (*q >= 'a' && *q <= 'z') *q = (char)(*q - 'a' + 'A');
    return r;
}

static Gen *gen_new(Program *p, const EmitOptions *o) {
    Ctx *c = p->c;
    Gen *g = gd_new(c, Gen);
    *g = (Gen){.c = c, .p = p, .o = o, .prefix = o->prefix ? o->prefix : p->name};
    g->macro = upper(c, g->prefix);
    g->scalars = text_new(c);
    g->gnu = text_new(c);
    g->plain = text_new(c);
    Map **maps[] = {&g->helpers, &g->names, &g->spelled, &g->data, &g->widths, &g->logic, &g->nest_uses, &g->nest_ids};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) *maps[i] = map_new(c);
    block_walk(&p->body, gather, g);
    Uses all;
    uses_of(g, &p->body, &all);
    place_consts(g, &all);
    name_fields(g);
    static const char *const own[] = {
        "run",      "run_raw",     "inputs",  "outputs", "arena_bytes", "needed",    "weights", "constants",
        "profile",  "status_text", "program", "now",     "count",       "calls",     "ns",      "out_dims",
        "arena_of", "in",          "out",     "mapped",  "run_mapped",  "sym_names", "sym_lo",  "sym_hi"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        name_take(g, gd_format(c, "%s_%s", g->prefix, own[i]));
    name_take(g, gd_format(c, "%s_ARENA_BYTES", g->macro));
    name_take(g, gd_format(c, "%s_H", g->macro));
    return g;
}

/* ---- the heap: runtime/heap.h and heap.c, as static functions ---- */

static void put_heap(Text *t) {
    const char *s = strstr(gd_text_heap_h, "typedef struct GradcHeap {"), *end = strstr(s, "} GradcHeap;");
    text_put(t, "\n/* The arena's tail, for buffers whose size only the data decides. */\n");
    text_putn(t, s, (size_t)(end - s));
    text_put(t, "} GradcHeap;\n\n");
    for (s = strstr(gd_text_heap_c, "enum {"); s && *s; s = end) {
        end = strchr(s, '\n') + 1;
        if (!strncmp(s, "void ", 5)) text_put(t, "static inline ");
        text_putn(t, s, (size_t)(end - s));
    }
}

/* ---- together ---- */

static void put_prologue(Gen *g, Text *t) {
    const char *parallel = g->o->openmp ? ", -fopenmp" : "";
    text_printf(t, "/* %s.c: made by gradc", g->prefix);
    if (g->o->target) text_printf(t, " for %s", g->o->target->name);
    text_put(t, ".\n");
    text_printf(t, about, parallel);
    if (g->o->profile) text_put(t, "#ifndef _POSIX_C_SOURCE\n#define _POSIX_C_SOURCE 199309L\n#endif\n");
    text_printf(t, "#include \"%s.h\"\n", g->prefix);
    if (g->o->table) text_put(t, "#include \"program.h\"\n");
    if (g->math) text_put(t, "#include <math.h>\n");
    text_put(t, "#include <stdbool.h>\n");
    if (g->o->profile) text_put(t, "#include <time.h>\n");
    text_put(t, "\n");
    text_put(t, settings);
}

static void put_helpers(Gen *g, Text *t) {
    if (g->heap) put_heap(t);
    if (g->scalars->n) {
        text_put(t, "\n/* ---- scalars: total, and with wrapping integers ---- */\n\n");
        text_putn(t, g->scalars->s, g->scalars->n);
    }
    if (!g->gnu->n) return;
    text_put(
        t,
        "\n/* ---- vectors ---- */\n\n#if GRADC_GNU\n"
        "#pragma GCC diagnostic push\n#pragma GCC diagnostic ignored \"-Wconversion\"\n" /* masks of built-in
                                                                                            functions: */
        "#pragma GCC diagnostic ignored \"-Wsign-conversion\"\n#pragma GCC diagnostic ignored "
        "\"-Woverflow\"\n\n");
    text_putn(t, g->gnu->s, g->gnu->n);
    text_put(t, "\n#pragma GCC diagnostic pop\n#else\n\n");
    text_putn(t, g->plain->s, g->plain->n);
    text_put(t, "\n#endif\n");
}

void c_emit(Program *p, const EmitOptions *o, const char *path, CSources *out) {
    Gen *g = gen_new(p, o);
    if (o->table && g->raw_weights && (!o->main || o->weights == WEIGHTS_EXTERN))
        gd_fail(g->c, 601, "use --weights embed or object",
                "what is called by a table must carry its weights");
    Text *code = text_new(g->c), *source = text_new(g->c), *header = text_new(g->c);
    name_consts(g);
    g->out = code;
    for (int i = 0; i < g->nest_list.n; i++) put_nest(g, g->nest_list.v[i]);
    if (o->profile) put_profile(g);
    put_run(g);
    put_typed(g);
    if (o->table) put_table(g);
    if (path) source->file = gd_file_open(g->c, path);
    put_prologue(g, source);
    put_helpers(g, source);
    g->out = source;
    put_consts(g);
    text_putn(source, code->s, code->n);
    text_flush(source);
    if (path) gd_file_close(source->file);
    g->out = header;
    put_header(g);
    *out = (CSources){.source = path ? NULL : source, .header = header};
    if (o->weights != WEIGHTS_EMBED && o->weights != WEIGHTS_HOST) out->blob = g->blob;
    if (o->weights != WEIGHTS_HOST) return;
    out->nconstants = g->consts.n;
    out->constants = gd_new_array(g->c, const void *, g->consts.n);
    for (int i = 0; i < g->consts.n; i++) out->constants[i] = g->consts.v[i]->data;
}
