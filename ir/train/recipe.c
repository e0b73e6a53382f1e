/* Rows of text become nodes: recipe.h.

   Faults of a recipe (an unknown name, an unknown argument, a word that is none of those allowed) are the user's; a line
   that does not parse is ours. Every loop runs over a table. */
#include "recipe.h"
#include <stdlib.h>

typedef const Row *RowAt(int i);
static const struct { const char *what; RowAt *at; } tables[] = {
    {"loss", loss_row}, {"optimizer", optimizer_row}, {"metric", metric_row}, {"schedule", schedule_row}, {"init", init_row},
};

static RowAt *table_of(const char *what) {
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (!strcmp(tables[i].what, what)) return tables[i].at;
    return NULL;
}

bool recipe_row(const char *kind, int i, const char **name, const char **doc) {
    RowAt *at = table_of(kind);
    const Row *row = at ? at(i) : NULL;
    if (!row) return false;
    *name = row->name;
    *doc = row->doc;
    return true;
}

/* ---- names ---- */

static size_t word_length(const char *s) { return strcspn(s, " "); }
static const char *next_word(const char *s) {
    s += word_length(s);
    return s + (*s == ' ');
}

bool name_in(const char *names, const char *name) {
    size_t n = strlen(name);
    for (const char *s = names; *s; s = next_word(s))
        if (word_length(s) == n && !strncmp(s, name, n)) return true;
    return false;
}

static const char *first_name(Ctx *c, const char *names) { return gd_strndup(c, names, word_length(names)); }

/* Edits from one name to the other (Levenshtein), of names up to 63 bytes; longer ones are far from everything. */
static int distance(const char *a, const char *b, size_t nb) {
    int row[64];
    if (nb > 63) return 1000;
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 0; a[i]; i++) {
        int corner = row[0];
        row[0] = (int)i + 1;
        for (size_t j = 0; j < nb; j++) {
            int change = corner + (a[i] != b[j]), best = row[j] < row[j + 1] ? row[j] + 1 : row[j + 1] + 1;
            corner = row[j + 1];
            row[j + 1] = change < best ? change : best;
        }
    }
    return row[nb];
}

/* Words among which the nearest to a wrong name is looked for. */
typedef struct Nearest { Ctx *c; const char *name, *best; int distance; Text *all; } Nearest;

static Nearest nearest_to(Ctx *c, const char *name) { return (Nearest){c, name, NULL, 1 + (int)strlen(name) / 3, text_new(c)}; }

static void nearest_among(Nearest *n, const char *names) {
    text_printf(n->all, "%s%.*s", n->all->n ? ", " : "", (int)word_length(names), names);
    for (const char *s = names; *s; s = next_word(s)) {
        int d = distance(n->name, s, word_length(s));
        if (d > n->distance || (n->best && d == n->distance)) continue;
        n->distance = d;
        n->best = gd_strndup(n->c, s, word_length(s));
    }
}

static const char *nearest_help(const Nearest *n) {
    const char *all = n->all->n ? n->all->s : "none";
    return n->best ? gd_format(n->c, "%s? There are: %s", n->best, all) : gd_format(n->c, "there are: %s", all);
}

static const char *shown(Ctx *c, const char *s) { return gd_escape(c, s, strlen(s)); }

static const Row *find_row(Ctx *c, const char *what, const char *name) {
    RowAt *at = table_of(what);
    for (int i = 0; at(i); i++)
        if (name_in(at(i)->name, name)) return at(i);
    Nearest n = nearest_to(c, name);
    for (int i = 0; at(i); i++) nearest_among(&n, at(i)->name);
    gd_error(c, 601, nearest_help(&n), "there is no %s \"%s\"", what, shown(c, name));
    return NULL;
}

/* ---- arguments ---- */

static int find_arg(const Row *row, const char *name) {
    for (int i = 0; i < ROW_ARGS && row->args[i].name; i++)
        if (name_in(row->args[i].name, name)) return i;
    return -1;
}

static bool truth(const char *s, double *v) {
    bool yes = !strcmp(s, "true") || !strcmp(s, "True") || !strcmp(s, "yes");
    if (!yes && strcmp(s, "false") && strcmp(s, "False") && strcmp(s, "no")) return false;
    *v = yes;
    return true;
}

static bool set_arg(Scope *s, int i, const RecipeArg *a) {
    Ctx *c = s->g->c;
    const RowArg *def = &s->row->args[i];
    const char *what = s->what, *row = first_name(c, s->row->name);
    s->arg[i] = a->v;
    if (!def->words) {
        if (!a->text || truth(a->text, &s->arg[i])) return true;
        gd_error(c, 601, "a number", "%s %s: %s is \"%s\"", what, row, a->name, shown(c, a->text));
        return false;
    }
    s->word[i] = a->text ? a->text : gd_format(c, "%.17g", a->v);
    if (!strcmp(def->words, "*")) {
        s->arg[i] = 1;
        return true;
    }
    int at = 0;
    Nearest n = nearest_to(c, s->word[i]);
    for (const char *w = def->words; *w; w = next_word(w), at++) {
        const char *word = first_name(c, w);
        s->arg[i] = at;
        if (!strcmp(word, s->word[i])) return true;
        nearest_among(&n, word);
    }
    gd_error(c, 601, nearest_help(&n), "%s %s: %s is \"%s\"", what, row, a->name, shown(c, s->word[i]));
    return false;
}

static bool set_args(Scope *s, const Recipe *r) {
    Ctx *c = s->g->c;
    bool ok = true;
    for (int i = 0; i < ROW_ARGS && s->row->args[i].name; i++)
        s->arg[i] = s->torch ? s->row->args[i].torch : s->row->args[i].keras;
    for (int i = 0; i < r->n; i++) {
        int at = find_arg(s->row, r->arg[i].name);
        if (at >= 0) {
            ok &= set_arg(s, at, &r->arg[i]);
            continue;
        }
        Nearest n = nearest_to(c, r->arg[i].name);
        for (int k = 0; k < ROW_ARGS && s->row->args[k].name; k++) nearest_among(&n, s->row->args[k].name);
        gd_error(c, 601, nearest_help(&n), "%s %s has no argument \"%s\"", s->what, first_name(c, s->row->name),
                 shown(c, r->arg[i].name));
        ok = false;
    }
    for (int i = 0; i < ROW_ARGS && s->row->args[i].name; i++)
        scope_number(s, first_name(c, s->row->args[i].name), s->arg[i]);
    return ok;
}

bool scope_open(Scope *s, Graph *g, const char *what, const Recipe *r, bool torch) {
    *s = (Scope){.g = g, .what = what, .torch = torch, .dt = F32, .values = map_new(g->c), .attrs = map_new(g->c)};
    s->row = find_row(g->c, what, r->name ? r->name : "");
    return s->row && set_args(s, r);
}

void scope_set(Scope *s, const char *name, double v) {
    int i = find_arg(s->row, name);
    if (i < 0) return;
    s->arg[i] = v;
    scope_number(s, name, v);
}

static int known_arg(const Scope *s, const char *name, size_t n) {
    int i = find_arg(s->row, gd_strndup(s->g->c, name, n));
    if (i < 0) gd_bug(s->g->c, "%s %s has no argument %.*s", s->what, s->row->name, (int)n, name);
    return i;
}

double scope_arg(const Scope *s, const char *name) { return s->arg[known_arg(s, name, strlen(name))]; }
const char *scope_word(const Scope *s, const char *name) { return s->word[known_arg(s, name, strlen(name))]; }

int scope_list(Scope *s, const char *name, const double **v) {
    const char *text = scope_word(s, name);
    VEC(double) list = {0};
    for (const char *at = text; at && *at;) {
        const char *end;
        double x = gd_strtod(at, &end);
        if (end == at || (*end && *end != ':')) {
            scope_error(s, 601, "numbers with colons between them: 1:0.5:2", "%s is \"%s\"", name, shown(s->g->c, text));
            return -1;
        }
        vec_push(s->g->c, &list, x);
        at = end + (*end == ':');
    }
    *v = list.v;
    return text ? list.n : -1;
}

void scope_error(const Scope *s, int code, const char *help, const char *fmt, ...) {
    va_list args;
    char text[400];
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    gd_error(s->g->c, code, help, "%s %s: %s", s->what, first_name(s->g->c, s->row->name), text);
}

/* ---- lines ---- */

static bool holds(const Scope *s, const char *w, size_t n) {
    if (n == 5 && !strncmp(w, "torch", n)) return s->torch;
    if (n == 5 && !strncmp(w, "keras", n)) return !s->torch;
    if (*w == '@') return scope_value(s, gd_strndup(s->g->c, w + 1, n - 1)) != NULL;
    const char *eq = memchr(w, '=', n);
    bool given = w[n - 1] == '?';
    double v = s->arg[known_arg(s, w, eq ? (size_t)(eq - w) : n - given)];
    return given ? v == v : eq ? v == gd_strtod(eq + 1, &eq) : v != 0;
}

bool scope_when(const Scope *s, const char *when) {
    for (const char *w = when ? when : ""; *w; w = next_word(w)) {
        bool not = *w == '!';
        if (holds(s, w + not, word_length(w) - not) == not) return false;
    }
    return true;
}

void scope_number(Scope *s, const char *name, double v) {
    Attr *a = gd_new(s->g->c, Attr);
    *a = (Attr){.kind = AT_FLOAT, .f = v};
    map_puts(s->attrs, name, a);
}

void scope_ints(Scope *s, const char *name, int n, const int64_t *v) {
    Attr *a = gd_new(s->g->c, Attr);
    int64_t *list = gd_new_array(s->g->c, int64_t, n ? n : 1);
    for (int i = 0; i < n; i++) list[i] = v[i];
    *a = (Attr){.kind = AT_INTS, .n = n, .ints = list};
    map_puts(s->attrs, name, a);
}

Value *scope_name(Scope *s, const char *name, Value *v) {
    map_puts(s->values, name, v);
    return v;
}
Value *scope_value(const Scope *s, const char *name) { return map_gets(s->values, name); }
Value *scope_text(const Scope *s, const char *formula) { return graph_text(s->g, formula, s->values, s->attrs); }

/* A number, or an argument, alone is a constant of what is computed in. */
static Value *line_value(const Scope *s, const char *formula) {
    const char *end;
    double v = gd_strtod(formula, &end);
    const Attr *a = map_gets(s->attrs, formula);
    if (*end && !a) return scope_text(s, formula);
    return const_scalar(s->g, s->dt, a ? a->f : v);
}

Value *scope_lines(Scope *s, const RowLine *lines, int n) {
    Value *last = NULL;
    for (int i = 0; i < n && lines[i].name; i++)
        if (scope_when(s, lines[i].when)) last = scope_name(s, lines[i].name, line_value(s, lines[i].text));
    return last;
}

/* ---- shared ---- */

DType recipe_wide(const Value *v) { return v->dt == F64 ? F64 : F32; }

Value *sum_all(Graph *g, Value *v) {
    int64_t axes[MAX_RANK];
    for (int i = 0; i < v->rank; i++) axes[i] = i;
    return v->rank > 0 ? build_reduce(g, "reduce_sum", v, v->rank, axes, false) : v;
}

Value *mean_all(Graph *g, Value *v) { return make(g, "div", sum_all(g, v), build_scalar(g, v->dt, value_count(g->c, v))); }

/* In i32, whose lanes are as many as those of f32. */
Value *one_hot(Graph *g, Value *target, const Value *p, int axis) {
    Value *class = build_cast(g, build_unsqueeze(g, target, axis), I32);
    return make(g, "equal", class, build_iota(g, I32, p->rank, p->dim, axis));
}

static bool is(const Value *v, const char *op) { return v->def && !strcmp(v->def->op->name, op); }

/* A value before it was stored in fewer bits. */
static Value *computed(Value *v) {
    while (is(v, "cast") && dt_small(v->dt) && dt_float(v->def->in[0]->dt)) v = v->def->in[0];
    return v;
}

static bool sum_over(const Value *v, const Value *of, int axis) {
    if (!is(v, "reduce_sum") || v->def->in[0] != of || !attr_int(v->def, "keepdims")) return false;
    const Attr *axes = node_attr(v->def, "axes");
    return axes->n == 1 && (axes->ints[0] == axis || axes->ints[0] + of->rank == axis);
}

/* exp(d) / reduce_sum(exp(d)) */
bool softmax_of(Graph *g, Value *p, int axis, LogSoftmax *l) {
    p = computed(p);
    if (!is(p, "div")) return false;
    Value *e = p->def->in[0], *sum = p->def->in[1];
    if (!is(e, "exp") || !sum_over(sum, e, axis)) return false;
    *l = (LogSoftmax){e->def->in[0], make(g, "log", sum)};
    return true;
}

/* d - log(reduce_sum(exp(d))) */
bool log_softmax_of(Value *logp, int axis, LogSoftmax *l) {
    logp = computed(logp);
    if (!is(logp, "sub")) return false;
    Value *d = logp->def->in[0], *lse = logp->def->in[1];
    if (!is(lse, "log") || !is(lse->def->in[0], "reduce_sum")) return false;
    Value *e = lse->def->in[0]->def->in[0];
    if (!is(e, "exp") || e->def->in[0] != d || !sum_over(lse->def->in[0], e, axis)) return false;
    *l = (LogSoftmax){d, lse};
    return true;
}

Value *sigmoid_of(Value *p) {
    p = computed(p);
    return is(p, "sigmoid") ? p->def->in[0] : NULL;
}
