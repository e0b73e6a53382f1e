/* Graphs as text: docs/graph-ir.md. One value or node a line, two spaces of indent a level.

   The complete form says all that a graph is, so parsing it and printing the result gives the text again. A
   value goes by a word and its id (conv_17), so it keeps its name from pass to pass. Labels of nodes are
   comments at the end of their line, notes are comments on a line before; comments that start with ;; say
   what follows from the rest. The length is linear in the graph's: what a comment lists is cut off. */
#include "text.h"
#include "graphtext.h"
#include "train.h"
#include "op.h"
#include <ctype.h>

typedef struct Printer {
    Text *t;
    Ctx *s; /* scratch */
    const Graph *top;
    bool brief;
    Map *names; /* Var to Named */
    Map *taken; /* names of symbols */
    Map *read;  /* symbols that a read node defines */
    int order, indent;
} Printer;

/* ---- names ---- */

static void put_name(Text *t, const Value *v) {
    char stem[32];
    size_t n = 0;
    if (v->def) {
        text_printf(t, "%s_%d", v->def->op->name, v->id);
        return;
    }
    for (const char *s = v->label ? v->label : ""; *s && n < 24; s++) {
        if (*s == '\\' && s[1] == 'x' && s[2] && s[3]) s += 3; /* an escaped byte */
        else if ((isalnum((unsigned char)*s) && (n || !isdigit((unsigned char)*s))) || *s == '_')
            stem[n++] = *s;
        else if (n && stem[n - 1] != '_') stem[n++] = '_';
    }
    while (n && stem[n - 1] == '_') n--;
    if (!n) stem[n++] = v->data ? 'c' : 'x';
    text_printf(t, "%.*s_%d", (int)n, stem, v->id);
}

static void name(Printer *k, const Value *v) {
    if (v) put_name(k->t, v);
    else text_put(k->t, "_");
}

static const char *symbol(Printer *k, const Var *v) {
    Named *n = map_getp(k->names, v);
    if (n) return n->name;
    const char *unique = v->name;
    for (int i = 1; map_gets(k->taken, unique) || text_keyword(unique, strlen(unique)); i++)
        unique = gd_format(k->s, "%s_%d", v->name, i);
    n = gd_new(k->s, Named);
    *n = (Named){unique, k->order++};
    map_puts(k->taken, unique, n);
    map_putp(k->names, v, n);
    return n->name;
}

static void indent(Printer *k) {
    for (int i = 0; i < k->indent; i++) text_put(k->t, "  ");
}

static void comment(Printer *k, const char *s) {
    for (; *s; s++) {
        if (*s == '\n' || *s == '\r') text_put(k->t, "\\x0a");
        else text_putn(k->t, s, 1);
    }
}

static void label(Printer *k, const char *s) {
    if (s) text_printf(k->t, " \"%s\"", s);
}

/* ---- types ---- */

static void put_type(Text *t, const Value *v, const Map *names) {
    text_printf(t, "%s%s%s[", v->optional ? "opt(" : "", v->sequence ? "seq(" : "", gd_dtypes[v->dt].name);
    if (v->rank < 0) text_put(t, "*");
    for (int i = 0; i < v->rank; i++) {
        if (i) text_put(t, ",");
        expr_print_named(t, v->dim[i], names);
    }
    text_printf(t, "]%s%s", v->sequence ? ")" : "", v->optional ? ")" : "");
}

const char *value_type_text(Ctx *c, const Value *v) {
    Text *t = text_new(c);
    put_type(t, v, NULL);
    return t->s;
}

const char *value_name_text(Ctx *c, const Value *v) {
    Text *t = text_new(c);
    put_name(t, v);
    return t->s;
}

/* ---- elements ---- */

static int64_t count_of(const Value *v) {
    int64_t dims[MAX_RANK], n = 1;
    if (!value_static(v, dims)) return -1;
    for (int i = 0; i < v->rank; i++) n *= dims[i];
    return n;
}

bool value_data_inline(const Value *v) {
    if (v->dt == STRING) return true;
    return count_of(v) <= (v->def ? MAX_ELEMS : INLINE_DATA) && gd_dtypes[v->dt].kind != DK_COMPLEX;
}

static void elements(Printer *k, const Value *v, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (i) text_put(k->t, ", ");
        if (v->dt == STRING) {
            const char *s = ((const char *const *)v->data)[i];
            text_printf(k->t, "\"%s\"", gd_escape(k->s, s, strlen(s)));
        } else
            const_print(k->t, scalar(v->dt),
                        gd_load_bits(v->dt, (const char *)v->data + i * gd_dtypes[v->dt].bytes), true);
    }
}

static void known(Printer *k, const Value *v) {
    int64_t n = count_of(v);
    if (v->data && value_data_inline(v)) {
        text_put(k->t, v->def ? " is [" : " = [");
        elements(k, v, n);
        text_put(k->t, "]");
    } else if (v->elems && !v->data) {
        text_put(k->t, " is [");
        for (int64_t i = 0; i < n; i++) {
            if (i) text_put(k->t, ", ");
            expr_print_named(k->t, v->elems[i], k->names);
        }
        text_put(k->t, "]");
    }
}

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
static void data_section(Printer *k, const Value *v) {
    int bytes = gd_dtypes[v->dt].bytes, column = 0;
    int64_t n = count_of(v), run;
    const unsigned char *p = v->data;
    text_put(k->t, "data ");
    name(k, v);
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

static void data_of(Printer *k, const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        for (int j = 0; j < n->nout; j++)
            if (n->out[j] && n->out[j]->data && !value_data_inline(n->out[j])) data_section(k, n->out[j]);
        for (int j = 0; j < n->nregions; j++) data_of(k, n->region[j]);
    }
}

/* ---- values ---- */

static void value(Printer *k, const Value *v) {
    static const char *const places[] = {[PL_ROOT] = " root", [PL_INLINE] = " inline", [PL_LOCAL] = " local"};
    name(k, v);
    if (!v) return;
    label(k, v->label);
    if (v->source >= 0) text_printf(k->t, " #%lld", (long long)v->source);
    text_put(k->t, ": ");
    put_type(k->t, v, k->names);
    if (v->order) {
        text_put(k->t, " order=[");
        for (int i = 0; i < v->rank; i++) text_printf(k->t, "%s%d", i ? "," : "", v->order[i]);
        text_put(k->t, "]");
    }
    if (v->place) text_put(k->t, places[v->place]);
    if (v->place == PL_LOCAL) text_printf(k->t, " %d", v->local_axis);
    if (v->into) {
        text_put(k->t, " into ");
        name(k, v->into);
    }
    known(k, v);
}

static void arguments(Printer *k, const Graph *g) {
    text_put(k->t, "(");
    for (int i = 0; i < g->in.n; i++) {
        if (i) text_put(k->t, ", ");
        value(k, g->in.v[i]);
    }
    text_put(k->t, ")");
}

static void constant(Printer *k, const Value *v) {
    indent(k);
    text_put(k->t, "const ");
    value(k, v);
    if (k->brief && !value_data_inline(v)) {
        text_put(k->t, " ;; ");
        elements(k, v, 4);
        text_put(k->t, ", ...");
    }
    text_put(k->t, "\n");
}

/* ---- nodes ---- */

static void limit(Text *t, int64_t v) {
    if (v == INT64_MAX || v == INT64_MIN) text_put(t, v < 0 ? "-inf" : "inf");
    else text_printf(t, "%lld", (long long)v);
}

static void range(Printer *k, const Var *v) {
    text_printf(k->t, "%s in ", symbol(k, v));
    limit(k->t, v->lo);
    text_put(k->t, "..");
    limit(k->t, v->hi);
    if (!v->def) return;
    text_put(k->t, " max ");
    expr_print_named(k->t, v->def, k->names);
}

static void attr_value(Printer *k, const Attr *a) {
    bool list = a->kind == AT_INTS || a->kind == AT_FLOATS || a->kind == AT_DIMS || a->kind == AT_SYMS;
    if (list) text_put(k->t, "[");
    for (int i = 0; i < (list ? a->n : 1); i++) {
        if (i) text_put(k->t, a->kind == AT_SYMS ? ", " : ",");
        switch (a->kind) {
        case AT_INT: text_printf(k->t, "%lld", (long long)a->i); break;
        case AT_INTS: text_printf(k->t, "%lld", (long long)a->ints[i]); break;
        case AT_FLOAT: const_print(k->t, scalar(F64), gd_to_bits(F64, a->f), true); break;
        case AT_FLOATS: const_print(k->t, scalar(F64), gd_to_bits(F64, a->floats[i]), true); break;
        case AT_STRING: text_printf(k->t, "\"%s\"", gd_escape(k->s, a->s, strlen(a->s))); break;
        case AT_DIM: expr_print_named(k->t, a->dim, k->names); break;
        case AT_DIMS: expr_print_named(k->t, a->dims[i], k->names); break;
        case AT_DTYPE: text_put(k->t, gd_dtypes[a->i].name); break;
        case AT_SYMS: range(k, a->syms[i]); break;
        case AT_NONE: break;
        }
    }
    if (list) text_put(k->t, "]");
}

static bool is_default(const Attr *a, const AttrDef *d) {
    if (a->kind == AT_NONE) return true;
    if (d->required) return false;
    return (a->kind == AT_INT && a->i == (int64_t)d->def) || (a->kind == AT_FLOAT && a->f == d->def);
}

static void attributes(Printer *k, const Node *n) {
    bool any = false;
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++) {
        if (is_default(&n->attr[i], &n->op->attrs[i])) continue;
        text_printf(k->t, "%s%s=", any ? ", " : " {", n->op->attrs[i].name);
        attr_value(k, &n->attr[i]);
        any = true;
    }
    if (any) text_put(k->t, "}");
}

/* What is computed in the nest of a root value: the values without memory of their own that it needs. */
enum { GROUP_SHOWN = 16, GROUP_SEEN = 64 };
typedef struct Group {
    const Value *v[GROUP_SEEN];
    int n;
} Group;

static void gather(Group *q, const Node *n) {
    for (int i = 0; i < n->nin && q->n < GROUP_SEEN; i++) {
        const Value *v = n->in[i];
        if (!v || !v->def || v->data || (v->place != PL_INLINE && v->place != PL_LOCAL)) continue;
        bool seen = false;
        for (int j = 0; j < q->n; j++) seen = seen || q->v[j] == v;
        if (seen) continue;
        q->v[q->n++] = v;
        gather(q, v->def);
    }
}

static void group(Printer *k, const Node *n) {
    bool root = false;
    for (int i = 0; i < n->nout; i++) root = root || (n->out[i] && n->out[i]->place == PL_ROOT);
    Group q = {.n = 0};
    if (root) gather(&q, n);
    if (!q.n) return;
    indent(k);
    text_put(k->t, ";; with");
    for (int i = 0; i < q.n && i < GROUP_SHOWN; i++) {
        text_put(k->t, i ? ", " : " ");
        name(k, q.v[i]);
    }
    text_put(k->t, q.n > GROUP_SHOWN ? ", ...\n" : "\n");
}

static void body(Printer *k, const Graph *g);

static void region(Printer *k, const Graph *g) {
    indent(k);
    text_put(k->t, "region ");
    arguments(k, g);
    text_put(k->t, " {\n");
    k->indent++;
    body(k, g);
    k->indent--;
    indent(k);
    text_put(k->t, "}\n");
}

static void node(Printer *k, const Node *n) {
    if (n->note) {
        indent(k);
        text_put(k->t, "; ");
        comment(k, n->note);
        text_put(k->t, "\n");
    }
    group(k, n);
    indent(k);
    for (int i = 0; i < n->nout; i++) {
        if (i) text_put(k->t, ", ");
        value(k, n->out[i]);
    }
    text_printf(k->t, "%s%s", n->nout ? " = " : "", n->op->name);
    for (int i = 0; i < n->nin; i++) {
        text_put(k->t, i ? ", " : " ");
        name(k, n->in[i]);
    }
    attributes(k, n);
    if (n->label) {
        text_put(k->t, " ; ");
        comment(k, n->label);
    }
    text_put(k->t, "\n");
    k->indent++;
    for (int i = 0; i < n->nregions; i++) region(k, n->region[i]);
    k->indent--;
}

static void body(Printer *k, const Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) node(k, g->nodes.v[i]);
    indent(k);
    text_put(k->t, g->outer ? "yield" : "return");
    for (int i = 0; i < g->out.n; i++) {
        text_put(k->t, i ? ", " : " ");
        name(k, g->out.v[i]);
        if (g->outer) label(k, g->out_names.v[i]);
    }
    text_put(k->t, "\n");
}

/* ---- the head ---- */

static void find_read(Printer *k, const Graph *g, bool naming) {
    for (int i = 0; i < g->nodes.n; i++) {
        const Node *n = g->nodes.v[i];
        for (int j = 0; j < MAX_ATTRS && n->op->attrs[j].name; j++)
            for (int s = 0; n->attr[j].kind == AT_SYMS && s < n->attr[j].n; s++) {
                if (naming) symbol(k, n->attr[j].syms[s]);
                else map_putp(k->read, n->attr[j].syms[s], n->attr[j].syms[s]);
            }
        for (int j = 0; j < n->nregions; j++) find_read(k, n->region[j], naming);
    }
}

/* Symbols are named in the order in which they are defined in the text, which is not that in which they are
   used. */
static void name_symbols(Printer *k) {
    find_read(k, k->top, false);
    for (int i = 0; i < k->top->syms.n; i++)
        if (!map_getp(k->read, k->top->syms.v[i])) symbol(k, k->top->syms.v[i]);
    find_read(k, k->top, true);
}

static void head(Printer *k) {
    const Graph *g = k->top;
    bool any = false;
    text_printf(k->t, "graph %s", g->name);
    arguments(k, g);
    text_put(k->t, " -> (");
    for (int i = 0; i < g->out.n; i++) {
        text_printf(k->t, "%s\"%s\": ", i ? ", " : "", g->out_names.v[i] ? g->out_names.v[i] : "");
        put_type(k->t, g->out.v[i], k->names);
    }
    text_printf(k->t, ") after %s\n", g->after);
    for (int i = 0; i < g->syms.n; i++) {
        const Var *v = g->syms.v[i];
        if (map_getp(k->read, v)) continue;
        text_put(k->t, any ? ", " : "  where ");
        range(k, v);
        if (v->data) text_put(k->t, " data");
        any = true;
    }
    text_put(k->t, any ? "\n{\n" : "{\n");
}

static void real(Printer *k, double v) { const_print(k->t, scalar(F64), gd_to_bits(F64, v), true); }

/* state param w_3 -> 1 from w_7 init "normal stddev=0.1" fan 9 288 l1 0.0 l2 1e-4 */
static void state(Printer *k, const StateVar *s) {
    indent(k);
    text_printf(k->t, "state %s ", gd_state_kinds[s->kind]);
    name(k, k->top->in.v[s->in]);
    if (s->out >= 0) text_printf(k->t, " -> %d", s->out);
    if (s->from) text_put(k->t, " from "), name(k, s->from);
    if (s->init) text_printf(k->t, " init \"%s\"", gd_escape(k->s, s->init, strlen(s->init)));
    if (s->fan_in || s->fan_out) text_printf(k->t, " fan %lld %lld", (long long)s->fan_in, (long long)s->fan_out);
    if (s->l1 != 0) text_put(k->t, " l1 "), real(k, s->l1);
    if (s->l2 != 0) text_put(k->t, " l2 "), real(k, s->l2);
    text_put(k->t, "\n");
}

typedef struct Job {
    Text *t;
    const Graph *g;
    bool brief;
} Job;

static void print(Ctx *s, void *arg) {
    const Job *j = arg;
    Printer k = {.t = j->t,
                 .s = s,
                 .top = j->g,
                 .brief = j->brief,
                 .names = map_new(s),
                 .taken = map_new(s),
                 .read = map_new(s)};
    name_symbols(&k);
    head(&k);
    k.indent++;
    for (int i = 0; i < j->g->consts.n; i++) constant(&k, j->g->consts.v[i]);
    body(&k, j->g);
    for (int i = 0; i < j->g->states.n; i++) state(&k, j->g->states.v[i]);
    text_put(k.t, "}\n");
    if (k.brief) return;
    for (int i = 0; i < j->g->consts.n; i++)
        if (!value_data_inline(j->g->consts.v[i])) data_section(&k, j->g->consts.v[i]);
    data_of(&k, j->g);
}

void graph_print(Text *t, const Graph *g) { gd_scratch(t->c, print, &(Job){t, g, false}); }
void graph_print_brief(Text *t, const Graph *g) { gd_scratch(t->c, print, &(Job){t, g, true}); }
