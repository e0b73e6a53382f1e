/* Identifiers. Whatever a program's names are, the C text is valid: a name is made of letters, digits and _,
   is no keyword, no macro of the headers used, none of the helpers, and means one thing at a time. */
#include "gen.h"
#include <stdlib.h>

/* C and C++ (the header may be included there), macros of the headers and of common compilers, the names of
 * this file. */
static const char *const reserved[] = {
    "auto",     "break",        "case",          "char",      "const",     "continue",  "default",
    "do",       "double",       "else",          "enum",      "extern",    "float",     "for",
    "goto",     "if",           "inline",        "int",       "long",      "register",  "restrict",
    "return",   "short",        "signed",        "sizeof",    "static",    "struct",    "switch",
    "typedef",  "union",        "unsigned",      "void",      "volatile",  "while",     "asm",
    "typeof",   "bool",         "true",          "false",     "catch",     "class",     "delete",
    "explicit", "export",       "friend",        "mutable",   "namespace", "new",       "operator",
    "private",  "protected",    "public",        "template",  "this",      "throw",     "try",
    "typename", "using",        "virtual",       "and",       "or",        "not",       "xor",
    "bitand",   "bitor",        "compl",         "and_eq",    "or_eq",     "xor_eq",    "not_eq",
    "alignas",  "alignof",      "nullptr",       "constexpr", "decltype",  "noexcept",  "concept",
    "requires", "thread_local", "static_assert", "wchar_t",   "char8_t",   "char16_t",  "char32_t",
    "NULL",     "NAN",          "INFINITY",      "DOMAIN",    "SING",      "OVERFLOW",  "UNDERFLOW",
    "PLOSS",    "TLOSS",        "unix",          "linux",     "i386",      "vax",       "sun",
    "errno",    "offsetof",     "near",          "far",       "main",      "INLINE",    "NEST",
    "LANE",     "LINE",         "ins",           "outs",      "syms",      "arena",     "arena_bytes",
    "heap",     "status",       "size_t",        "ptrdiff_t", "HUGE_VAL",  "HUGE_VALF", "FLT_EVAL_METHOD",
    "memory",   "weights",      "start",         "needed",    "used",
};
static const char *const reserved_starts[] = {"_",       "INT",     "UINT",   "SIZE_",  "PTRDIFF_", "WCHAR_",
                                              "WINT_",   "SIG_",    "FP_",    "M_",     "GRADC",    "gradc",
                                              "int8_",   "int16_",  "int32_", "int64_", "uint8_",   "uint16_",
                                              "uint32_", "uint64_", "nest_",  "HEAP",   "Heap",     "bool_"};

/* f32_max, v16i32_add (the helpers), INT8_C: a number behind such a name would not help. */
static bool awkward(const char *s) {
    for (size_t i = 0; i < sizeof reserved_starts / sizeof *reserved_starts; i++)
        if (!strncmp(s, reserved_starts[i], strlen(reserved_starts[i]))) return true;
    if (*s == 'v' && s[1] >= '0' && s[1] <= '9') {
        s++;
        while (*s >= '0' && *s <= '9') s++;
    }
    for (int t = 0; t < DTYPES; t++) {
        size_t n = strlen(gd_dtypes[t].name);
        if (!strncmp(s, gd_dtypes[t].name, n) && (!s[n] || s[n] == '_')) return true;
    }
    return false;
}

static bool is_reserved(const char *s) {
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (!strcmp(s, reserved[i])) return true;
    return false;
}

static Name *name_of(Gen *g, const char *s) {
    Name *n = map_gets(g->names, s);
    if (n) return n;
    n = gd_new(g->c, Name);
    n->taken = is_reserved(s);
    map_puts(g->names, s, n);
    return n;
}

char *name_fit(Ctx *c, const char *s) {
    size_t n = strlen(s);
    char *r = gd_alloc(c, n + 2), *q = r;
    if (!n || (*s >= '0' && *s <= '9')) *q++ = 'x';
    for (; *s; s++)
        *q++ = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ? *s : '_';
    return r;
}

/* Number k of a name is only tried once while the names before it are taken: next remembers where to go on.
 */
const char *name_take(Gen *g, const char *want) {
    const char *s = name_fit(g->c, want);
    if (awkward(s)) s = gd_format(g->c, "x%s", s);
    Name *first = name_of(g, s), *n = first;
    const char *r = s;
    while (n->taken) {
        r = gd_format(g->c, "%s_%d", s, ++first->next);
        n = name_of(g, r);
    }
    n->taken = true;
    vec_push(g->c, &g->scope, r);
    return r;
}

int scope_begin(Gen *g) { return g->scope.n; }
void scope_end(Gen *g, int mark) {
    while (g->scope.n > mark) {
        const char *s = g->scope.v[--g->scope.n], *last = strrchr(s, '_');
        name_of(g, s)->taken = false;
        Name *base = last ? map_get(g->names, s, (size_t)(last - s)) : NULL; /* v_12 counts for v */
        int k = last ? (int)strtol(last + 1, NULL, 10) : 0;
        if (base && k > 0 && base->next >= k) base->next = k - 1;
    }
}

const char *name_var(Gen *g, Var *v) {
    const char *s = name_take(g, v->name);
    map_putp(g->spelled, v, (void *)s);
    return s;
}
const char *name_buf(Gen *g, Buf *root) {
    const char *s = name_take(g, root->name);
    map_putp(g->spelled, root, (void *)s);
    return s;
}
const char *spelling(Gen *g, const void *key, const char *what) {
    const char *s = map_getp(g->spelled, key);
    if (!s) gd_bug(g->c, "C: %s is used where it is not known", what);
    return s;
}

/* Members need only differ from each other and from keywords and macros. */
const char *name_field(Ctx *c, Map *fields, const char *want) {
    const char *s = name_fit(c, want), *r = s;
    if (*s == '_' || is_reserved(s)) s = r = gd_format(c, "x_%s", s);
    for (int i = 1; map_gets(fields, r); i++) r = gd_format(c, "%s_%d", s, i);
    map_puts(fields, r, (void *)r);
    return r;
}

/* A space goes between * and /, / and *, ? and ?, and no line ends in a backslash; bytes that are not
 * printable are not printed. */
void put_comment(Text *t, const char *s) {
    char last = 0;
    for (; s && *s; s++) {
        char ch = *s >= ' ' && *s < 127 ? *s : '?';
        if ((last == '*' && ch == '/') || (last == '/' && ch == '*') || (last == '?' && ch == '?'))
            text_putn(t, " ", 1);
        text_putn(t, &ch, 1);
        last = ch;
    }
    if (last == '\\') text_put(t, ".");
}
