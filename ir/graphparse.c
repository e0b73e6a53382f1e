/* Graphs from text: the other direction of graphtext.c.

   The text is a user's: what is wrong with it is E104 with line and column. A node with declared types
   becomes just that node; its op's row is asked in a graph of its own, and what it says must be what is
   declared, so a text cannot claim shapes that are not so. A node without types is made as if it were
   imported: types, known elements and checks are added. Every step takes a word or a line, and nesting is
   counted, so it ends. */
#include "text.h"
#include "graphtext.h"
#include "train.h"
#include "op.h"
#include <ctype.h>
#include <stdlib.h>

enum { MAX_REGIONS = 64 };

typedef struct Bound {
    Value *v;
} Bound;
typedef struct Into {
    Value *v;
    const char *name;
    int line;
} Into;

typedef struct Reader {
    Parser s;
    Ctx *c;
    Graph *top;
    Map *values;        /* name -> Bound */
    VEC(Bound *) bound; /* in order: those of a region are undone at its end */
    Map *ids;           /* taken */
    VEC(Into) into;
    const char *note;
    int depth;
} Reader;

/* A value as written where it is defined. */
typedef struct Written {
    const char *name, *label;
    bool typed, sequence, optional;
    DType dt;
    int rank;
    Expr *dim[MAX_RANK];
    int64_t source;
    uint8_t *order;
    Place place;
    int64_t local_axis;
    Into into;
    Expr **elems;
    const void *data;
} Written;

/* ---- lines ---- */

static bool at_end(Reader *r) {
    parse_space(&r->s);
    return r->s.at == r->s.end || *r->s.at == '\n' || *r->s.at == '\r' || *r->s.at == ';';
}

static const char *line_end(Reader *r) {
    const char *q = memchr(r->s.at, '\n', (size_t)(r->s.end - r->s.at));
    return q ? q : r->s.end;
}

/* The comment at the place, without its ';' and the space behind it; NULL for one that starts with ;; or
   none. */
static const char *comment(Reader *r) {
    const char *from = r->s.at, *to = line_end(r);
    if (from == to || *from != ';' || (from + 1 < to && from[1] == ';')) return NULL;
    from++;
    if (from < to && *from == ' ') from++;
    if (to > from && to[-1] == '\r') to--;
    return gd_strndup(r->c, from, (size_t)(to - from));
}

/* Goes to the next line with anything but comments; the last of those is the note of a node that follows. */
static void next_line(Reader *r) {
    if (!at_end(r)) parse_fail(&r->s, NULL, "what follows is not understood");
    r->note = NULL;
    for (bool first = true; at_end(r); first = false) {
        const char *s = first ? NULL : comment(r); /* the first one is the label of the line that ends */
        if (s) r->note = s;
        r->s.at = line_end(r);
        if (r->s.at == r->s.end) return;
        r->s.at++;
        r->s.line++;
        r->s.line_start = r->s.at;
    }
    gd_check_time(r->c);
}

/* ---- words ---- */

/* "..." as it stands: labels are printable, quotes within them are written as \x22. */
static const char *quoted(Reader *r) {
    parse_need(&r->s, "\"");
    const char *from = r->s.at;
    while (r->s.at < r->s.end && *r->s.at != '"' && *r->s.at != '\n') r->s.at++;
    const char *text = gd_strndup(r->c, from, (size_t)(r->s.at - from));
    if (r->s.at == r->s.end || *r->s.at != '"') parse_fail(&r->s, NULL, "'\"' is missing");
    r->s.at++;
    return text;
}

static int digit(char ch) {
    return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* The bytes themselves: the inverse of gd_escape. */
static const char *unescaped(Reader *r) {
    char *text = (char *)quoted(r), *to = text;
    for (const char *s = text; *s; s++) {
        bool byte = s[0] == '\\' && s[1] == 'x' && s[2] && digit(s[2]) >= 0 && digit(s[3]) >= 0;
        *to++ = byte ? (char)(digit(s[2]) * 16 + digit(s[3])) : *s;
        if (byte) s += 3;
    }
    *to = 0;
    return text;
}

static double real(Reader *r) {
    parse_space(&r->s);
    const char *from = r->s.at;
    uint64_t bits;
    while (r->s.at < r->s.end && (isalnum((unsigned char)*r->s.at) || strchr("+-.", *r->s.at))) r->s.at++;
    if (const_parse(r->c, F64, from, (size_t)(r->s.at - from), &bits)) return gd_to_double(F64, bits);
    r->s.at = from;
    parse_fail(&r->s, NULL, "a number is missing");
}

/* ---- symbols ---- */

static Var *symbol(Reader *r, bool data) {
    Parser *s = &r->s;
    const char *start = s->at, *word = parse_word(s);
    bool bad = map_gets(s->names, word) || text_keyword(word, strlen(word));
    if (bad) {
        s->at = start;
        parse_fail(s, NULL, "'%.80s' cannot be the name of a symbol here", word);
    }
    parse_need(s, "in");
    int64_t lo = parse_int(s);
    parse_need(s, "..");
    int64_t hi = parse_int(s);
    if (lo > hi) parse_fail(s, NULL, "the range of %.80s is empty", word);
    Var *v = graph_symbol(r->top, word, lo, hi);
    if (parse_eat(s, "max")) v->def = parse_index(s);
    v->data = data || parse_eat(s, "data");
    if (!v->data && lo < 0) parse_fail(s, NULL, "%.80s is a size, but its range is negative", word);
    Name *n = gd_new(r->c, Name);
    n->var = v;
    map_puts(s->names, word, n);
    return v;
}

/* ---- values ---- */

static void type(Reader *r, Written *w) {
    Parser *s = &r->s;
    w->typed = true;
    w->optional = parse_eat(s, "opt");
    if (w->optional) parse_need(s, "(");
    w->sequence = parse_eat(s, "seq");
    if (w->sequence) parse_need(s, "(");
    Type t = parse_type(s);
    if (t.lanes != 1) parse_fail(s, NULL, "a tensor's elements are no vectors");
    w->dt = (DType)t.dt;
    parse_need(s, "[");
    if (w->sequence && parse_eat(s, "*")) {
        w->rank = -1;
        parse_need(s, "]");
    } else w->rank = parse_list(s, "]", w->dim, MAX_RANK);
    int64_t bytes = gd_dtypes[w->dt].bytes, d;
    for (int i = 0; i < w->rank; i++) {
        if (!is_int(w->dim[i], &d)) continue;
        if (d < 0) parse_fail(s, NULL, "a dim is negative");
        bytes = gd_mul(r->c, bytes, d ? d : 1);
    }
    if (w->sequence) parse_need(s, ")");
    if (w->optional) parse_need(s, ")");
}

static int64_t count_of(Reader *r, int rank, Expr *const *dim) {
    int64_t n = 1, d;
    for (int i = 0; i < rank; i++) {
        if (!is_int(dim[i], &d)) parse_fail(&r->s, NULL, "the number of elements is not known");
        n = gd_mul(r->c, n, d);
    }
    return rank < 0 ? -1 : n;
}

static Expr *element(Reader *r, DType t) {
    Parser *s = &r->s;
    parse_space(s);
    const char *from = s->at, *to = from;
    uint64_t bits;
    while (to < s->end && !strchr(",] \n", *to)) to++;
    s->at = to;
    parse_space(s);
    bool alone = s->at < s->end && (*s->at == ',' || *s->at == ']');
    if (alone && const_parse(r->c, t, from, (size_t)(to - from), &bits))
        return expr_const(r->c, scalar(t), bits);
    s->at = from;
    Expr *e = parse_expr(s);
    if (!type_eq(e->type, scalar(t)))
        parse_fail(s, NULL, "an element of type %s is wanted", gd_dtypes[t].name);
    return e;
}

/* [a, b, ...]: data when all are numbers, else (where that is allowed) expressions. */
static void elements(Reader *r, Written *w, bool exprs) {
    Parser *s = &r->s;
    int bytes = gd_dtypes[w->dt].bytes;
    bool known = true;
    if (!w->typed || w->sequence) parse_fail(s, NULL, "elements without a tensor's type");
    int64_t n = count_of(r, w->rank, w->dim), i = 0;
    parse_need(s, "[");
    if (n > s->end - s->at || (exprs && n > MAX_ELEMS))
        parse_fail(s, NULL, "%lld elements are too many", (long long)n);
    Expr **e = gd_new_array(r->c, Expr *, n ? n : 1);
    char *data = gd_alloc_aligned(r->c, (size_t)(n ? n : 1) * (size_t)bytes);
    for (; i < n; i++) {
        if (i) parse_need(s, ",");
        if (w->dt == STRING) {
            ((const char **)(void *)data)[i] = unescaped(r);
            continue;
        }
        e[i] = element(r, w->dt);
        if (is_const(e[i])) gd_store_bits(w->dt, data + i * bytes, e[i]->bits);
        else known = false;
    }
    parse_need(s, "]");
    if (!known && !exprs) parse_fail(s, NULL, "an element is no number");
    if (known) w->data = data;
    else w->elems = e;
}

static void order(Reader *r, Written *w) {
    Parser *s = &r->s;
    unsigned seen = 0;
    parse_need(s, "[");
    w->order = gd_new_array(r->c, uint8_t, w->rank > 0 ? w->rank : 1);
    for (int i = 0; i < w->rank; i++) {
        if (i) parse_need(s, ",");
        int64_t axis = parse_int(s);
        if (axis < 0 || axis >= w->rank || seen >> axis & 1)
            parse_fail(s, NULL, "the order of %d axes is a permutation", w->rank);
        seen |= 1u << axis;
        w->order[i] = (uint8_t)axis;
    }
    parse_need(s, "]");
}

static Written written(Reader *r, const char *word) {
    Parser *s = &r->s;
    Written w = {.name = word, .source = -1};
    parse_space(s);
    if (s->at < s->end && *s->at == '"') w.label = quoted(r);
    if (parse_eat(s, "#")) w.source = parse_int(s);
    if (w.source < -1) parse_fail(s, NULL, "a position is negative");
    if (!parse_eat(s, ":")) return w;
    type(r, &w);
    if (parse_eat(s, "order")) {
        parse_need(s, "=");
        order(r, &w);
    }
    if (parse_eat(s, "root")) w.place = PL_ROOT;
    else if (parse_eat(s, "inline")) w.place = PL_INLINE;
    else if (parse_eat(s, "local")) {
        w.place = PL_LOCAL;
        w.local_axis = parse_int(s);
        if (w.local_axis < 0 || w.local_axis > w.rank)
            parse_fail(s, NULL, "there is no axis %lld", (long long)w.local_axis);
    }
    if (parse_eat(s, "into")) {
        w.into.line = s->line;
        w.into.name = parse_word(s);
    }
    if (parse_eat(s, "is")) elements(r, &w, true);
    return w;
}

/* The digits at the end of a name as the printer makes them; NULL: none. */
static const char *suffix(const char *name) {
    const char *u = strrchr(name, '_');
    bool number = u && isdigit((unsigned char)u[1]) && (u[1] != '0' || !u[2]) && strlen(u) <= 9;
    return number && !u[1 + strspn(u + 1, "0123456789")] ? u + 1 : NULL;
}

/* The id is the number at the end of the name, when it is free. */
static int id_of(Reader *r, const char *name) {
    const char *digits = suffix(name);
    int *next = r->top->next_id, id = digits ? (int)strtol(digits, NULL, 10) : *next;
    if (id > gd_budget(r->c)->max_nodes || map_has(r->ids, &id, sizeof id)) id = *next;
    if (id >= *next) *next = id + 1;
    map_put(r->ids, &id, sizeof id, r);
    return id;
}

static void define(Reader *r, const Written *w, Value *v) {
    Bound *b = map_gets(r->values, w->name);
    if (!strcmp(w->name, "_")) parse_fail(&r->s, NULL, "'_' is no name");
    if (b && b->v) parse_fail(&r->s, NULL, "the name '%.80s' is in use", w->name);
    if (!b) {
        b = gd_new(r->c, Bound);
        map_puts(r->values, w->name, b);
    }
    b->v = v;
    vec_push(r->c, &r->bound, b);
    v->id = id_of(r, w->name);
    v->label = w->label || suffix(w->name) ? w->label : w->name; /* a name that a person chose */
    v->source = w->source;
    v->order = w->order;
    v->place = (uint8_t)w->place;
    v->local_axis = (uint8_t)w->local_axis;
    if (w->into.name) {
        vec_push(r->c, &r->into, w->into);
        r->into.v[r->into.n - 1].v = v;
    }
}

static Value *make_value(Graph *g, const Written *w) {
    Value *v = value_new(g, w->dt, w->rank, w->dim);
    (*g->next_id)--; /* define gives the id */
    v->sequence = w->sequence;
    v->optional = w->optional;
    v->elems = w->elems;
    v->data = w->data;
    return v;
}

static Value *used(Reader *r) {
    Parser *s = &r->s;
    parse_space(s);
    const char *start = s->at, *word = parse_word(s);
    if (!strcmp(word, "_")) return NULL;
    Bound *b = map_gets(r->values, word);
    if (!b || !b->v) {
        s->at = start;
        parse_fail(s, NULL, "there is no value '%.80s' here", word);
    }
    return b->v;
}

static void arguments(Reader *r, Graph *g) {
    parse_need(&r->s, "(");
    if (parse_eat(&r->s, ")")) return;
    do {
        Written w = written(r, parse_word(&r->s));
        if (!w.typed || w.elems || w.data)
            parse_fail(&r->s, NULL, "an input has a type and no known elements");
        Value *v = make_value(g, &w);
        if (!w.label && !g->outer) w.label = w.name;
        define(r, &w, v);
        vec_push(r->c, &g->in, v);
        vec_push(r->c, &g->in_names, v->label);
    } while (parse_eat(&r->s, ","));
    parse_need(&r->s, ")");
}

static void constant(Reader *r, Graph *g) {
    Written w = written(r, parse_word(&r->s));
    if (!w.typed || w.elems || w.data || w.sequence)
        parse_fail(&r->s, NULL, "a constant has the type of a tensor");
    count_of(r, w.rank, w.dim);
    if (parse_eat(&r->s, "=")) elements(r, &w, false);
    Value *v = make_value(g, &w);
    define(r, &w, v);
    vec_push(r->c, &r->top->consts, v);
    next_line(r);
}

/* ---- nodes ---- */

typedef VEC(Expr *) Exprs;

static void exprs(Reader *r, Exprs *e) {
    parse_need(&r->s, "[");
    if (parse_eat(&r->s, "]")) return;
    do {
        vec_push(r->c, e, parse_expr(&r->s));
        if (!type_eq(e->v[e->n - 1]->type, e->v[0]->type))
            parse_fail(&r->s, NULL, "the elements differ in type");
    } while (parse_eat(&r->s, ","));
    parse_need(&r->s, "]");
}

static void symbols(Reader *r, Node *n, const char *name) {
    VEC(Var *) v = {0};
    parse_need(&r->s, "[");
    if (!parse_eat(&r->s, "]")) {
        do vec_push(r->c, &v, symbol(r, true));
        while (parse_eat(&r->s, ","));
        parse_need(&r->s, "]");
    }
    node_syms(n, name, v.n, v.v);
}

static void numbers(Reader *r, Node *n, const AttrDef *d) {
    VEC(int64_t) ints = {0};
    VEC(double) floats = {0};
    parse_need(&r->s, "[");
    if (!parse_eat(&r->s, "]")) {
        do {
            if (d->kind == AT_INTS) vec_push(r->c, &ints, parse_int(&r->s));
            else vec_push(r->c, &floats, real(r));
        } while (parse_eat(&r->s, ","));
        parse_need(&r->s, "]");
    }
    if (d->kind == AT_INTS) node_ints(n, d->name, ints.n, ints.v);
    else node_floats(n, d->name, floats.n, floats.v);
}

static void attribute(Reader *r, Node *n) {
    Parser *s = &r->s;
    const char *start = s->at, *word = parse_word(s);
    int i = op_attr(n->op, word);
    if (i < 0) {
        s->at = start;
        parse_fail(s, NULL, "%s has no attribute '%.80s'", n->op->name, word);
    }
    const AttrDef *d = &n->op->attrs[i];
    Exprs e = {0};
    parse_need(s, "=");
    switch (d->kind) {
    case AT_INT: node_int(n, d->name, parse_int(s)); break;
    case AT_FLOAT: node_float(n, d->name, real(r)); break;
    case AT_STRING: node_string(n, d->name, unescaped(r)); break;
    case AT_INTS:
    case AT_FLOATS: numbers(r, n, d); break;
    case AT_DIM: node_dim(n, d->name, parse_expr(s)); break;
    case AT_DIMS:
        exprs(r, &e);
        node_dims(n, d->name, e.n, e.v);
        break;
    case AT_DTYPE: node_dtype(n, d->name, (DType)parse_type(s).dt); break;
    case AT_SYMS: symbols(r, n, d->name); break;
    case AT_NONE: break;
    }
}

static void operands(Reader *r, Node *n) {
    Parser *s = &r->s;
    if (!at_end(r) && *s->at != '{') {
        do node_input(n, used(r));
        while (parse_eat(s, ","));
    }
    if (!parse_eat(s, "{") || parse_eat(s, "}")) return;
    do attribute(r, n);
    while (parse_eat(s, ","));
    parse_need(s, "}");
}

static void required(Reader *r, const Node *n) {
    for (int i = 0; i < MAX_ATTRS && n->op->attrs[i].name; i++)
        if (n->op->attrs[i].required && n->attr[i].kind == AT_NONE)
            parse_fail(&r->s, NULL, "%s needs attribute %s", n->op->name, n->op->attrs[i].name);
}

/* Leaves when the row finds a fault with the node, or other types than those declared. */
static void compare(Reader *r, const Node *n, int line) {
    Graph *apart = graph_new(r->c, r->top->name);
    Node *twin = gd_new(r->c, Node);
    int errors = gd_error_count(r->c);
    *twin = *n;
    twin->graph = apart;
    node_finish(twin);
    if (gd_error_count(r->c) > errors)
        gd_fail(r->c, 104, "the messages above say why", "line %d: %s does not fit its inputs and attributes",
                line, n->op->name);
    for (int i = 0; i < n->nout; i++) {
        const Value *v = n->out[i], *t = twin->out[i];
        bool same = v->dt == t->dt && v->rank == t->rank && v->sequence == t->sequence;
        for (int k = 0; same && k < v->rank; k++) same = v->dim[k] == t->dim[k];
        if (!same)
            gd_fail(r->c, 104, NULL, "line %d: %s makes %s, not %s", line, n->op->name,
                    value_type_text(r->c, t), value_type_text(r->c, v));
    }
}

static void finish(Reader *r, Node *n, Written *w, int nout, int line) {
    int types = 0;
    for (int i = 0; i < nout; i++) types += w[i].typed;
    if (!op_makes(n->op, nout))
        gd_fail(r->c, 104, NULL, "line %d: %s has %d outputs, not %d", line, n->op->name, op_outputs(n->op),
                nout);
    n->nout = nout;
    if (types < nout) { /* made, not described */
        node_finish(n);
        for (int i = 0; i < nout; i++) {
            Value *v = n->out[i];
            if (w[i].typed) gd_fail(r->c, 104, NULL, "line %d: either all outputs have a type or none", line);
            if (v->rank < 0 && !v->sequence) gd_leave(r->c); /* its error is out */
            define(r, &w[i], v);
        }
        return;
    }
    n->out = gd_new_array(r->c, Value *, nout ? nout : 1);
    for (int i = 0; i < nout; i++) {
        Value *v = n->out[i] = make_value(n->graph, &w[i]);
        v->def = n;
        v->port = i;
    }
    compare(r, n, line);
    for (int i = 0; i < nout; i++) define(r, &w[i], n->out[i]);
    vec_push(r->c, &n->graph->nodes, n);
}

/* `into` may name a value that comes later, at most at the end of the region or of one around it. */
static void settle_into(Reader *r, int from) {
    int left = from;
    for (int i = from; i < r->into.n; i++) {
        const Bound *b = map_gets(r->values, r->into.v[i].name);
        if (b && b->v) r->into.v[i].v->into = b->v;
        else r->into.v[left++] = r->into.v[i];
    }
    r->into.n = left;
}

static void body(Reader *r, Graph *g);

static void regions(Reader *r, Node *n) {
    VEC(Graph *) v = {0};
    while (!at_end(r) && parse_eat(&r->s, "region")) {
        Graph *g = graph_region(n->graph);
        int mark = r->bound.n, into = r->into.n;
        if (++r->depth > MAX_REGIONS)
            gd_fail(r->c, 504, NULL, "line %d: regions are nested more than %d deep", r->s.line, MAX_REGIONS);
        arguments(r, g);
        parse_need(&r->s, "{");
        next_line(r);
        body(r, g);
        parse_need(&r->s, "}");
        next_line(r);
        settle_into(r, into);
        while (r->bound.n > mark) r->bound.v[--r->bound.n]->v = NULL;
        r->depth--;
        vec_push(r->c, &v, g);
    }
    n->region = v.v;
    n->nregions = v.n;
}

/* The '=' between outputs and op, if the line has one: neither in quotes nor of `order=`, `==` or `<=`. */
static const char *equals_sign(Reader *r) {
    bool quote = false;
    for (const char *q = r->s.at, *end = line_end(r); q < end && (quote || *q != ';'); q++) {
        if (*q == '"') quote = !quote;
        if (quote || *q != '=') continue;
        bool order = q - r->s.line_start > 5 && !memcmp(q - 5, "order", 5);
        if (q + 1 < end && q[1] == '=') q++;
        else if (!order && (q == r->s.line_start || !strchr("!<>", q[-1]))) return q;
    }
    return NULL;
}

/* a: T, b: T = op x, y {attr=value} ; label
   The types may use symbols that an attribute defines, so the outputs are read last. */
static void node(Reader *r, Graph *g) {
    Parser *s = &r->s, outputs = *s, rest;
    const char *note = r->note, *word = parse_word(s), *start = outputs.at;
    int line = s->line;
    VEC(Written) w = {0};
    parse_space(s);
    bool makes = s->at < s->end && strchr(":,=\"#", *s->at);
    if (makes) {
        const char *equals = equals_sign(r);
        if (!equals) parse_fail(s, NULL, "'=' is missing");
        s->at = equals + 1;
        parse_space(s);
        start = s->at;
        word = parse_word(s);
    }
    if (!op_named(word)) {
        s->at = start;
        parse_fail(s, "`gradc ops` lists them", "there is no op '%.80s'", word);
    }
    Node *n = node_begin(g, word);
    operands(r, n);
    required(r, n);
    n->note = note;
    n->label = at_end(r) ? comment(r) : NULL;
    rest = *s;
    if (makes) {
        *s = outputs;
        do vec_push(r->c, &w, written(r, parse_word(s)));
        while (parse_eat(s, ","));
        parse_need(s, "=");
        *s = rest;
    }
    next_line(r);
    regions(r, n);
    finish(r, n, w.v, w.n, line);
}

static void body(Reader *r, Graph *g) {
    Parser *s = &r->s;
    const char *end = g->outer ? "yield" : "return";
    while (!parse_eat(s, end)) {
        if (s->at == s->end) parse_fail(s, NULL, "'%s' is missing", end);
        if (!g->outer && parse_eat(s, "const")) constant(r, g);
        else node(r, g);
    }
    while (!at_end(r)) {
        Value *v = used(r);
        if (!v) parse_fail(s, NULL, "an output is missing");
        parse_space(s);
        const char *name = s->at < s->end && *s->at == '"' ? quoted(r) : NULL;
        graph_output(g, name, v);
        if (!parse_eat(s, ",")) break;
    }
    next_line(r);
}

/* ---- data sections ---- */

static void hex_element(Reader *r, char *p, int bytes) {
    Parser *s = &r->s;
    for (int i = bytes - 1; i >= 0; i--, s->at += 2) {
        int high = s->at < s->end ? digit(s->at[0]) : -1,
            low = high >= 0 && s->at + 1 < s->end ? digit(s->at[1]) : -1;
        if (low < 0) parse_fail(s, NULL, "an element has %d hexadecimal digits", 2 * bytes);
        p[i] = (char)(high * 16 + low);
    }
}

/* "data" starts the next section: t is no hexadecimal digit. */
static bool is_hex(Reader *r) {
    const char *q = r->s.at;
    return !at_end(r) && digit(*q) >= 0 && !(r->s.end - q > 4 && !memcmp(q, "data", 4));
}

static void data_section(Reader *r) {
    Parser *s = &r->s;
    Value *v = used(r);
    int64_t i = 0;
    if (!v || v->data || v->elems || v->dt == STRING || v->sequence)
        parse_fail(s, NULL, "this value takes no data");
    int64_t n = count_of(r, v->rank, v->dim);
    int bytes = gd_dtypes[v->dt].bytes;
    char *p = gd_alloc_aligned(r->c, (size_t)gd_mul(r->c, n ? n : 1, bytes));
    next_line(r);
    while (i < n || is_hex(r)) {
        if (i == n || s->at == s->end) parse_fail(s, NULL, "%lld elements are wanted", (long long)n);
        if (!is_hex(r)) parse_fail(s, NULL, "%lld elements are wanted, not %lld", (long long)n, (long long)i);
        hex_element(r, p + i * bytes, bytes);
        int64_t run = s->at < s->end && *s->at == '*' ? (s->at++, parse_int(s)) : 1;
        if (run < 1 || run > n - i) parse_fail(s, NULL, "%lld elements are wanted", (long long)n);
        for (int64_t k = 1; k < run; k++) memcpy(p + (i + k) * bytes, p + i * bytes, (size_t)bytes);
        i += run;
        if (at_end(r)) next_line(r);
    }
    v->data = p;
}

/* ---- the whole ---- */

static void settle(Reader *r) {
    settle_into(r, 0);
    if (r->into.n)
        gd_fail(r->c, 104, NULL, "line %d: there is no value '%.80s'", r->into.v[0].line, r->into.v[0].name);
    for (int i = 0; i < r->top->consts.n; i++)
        if (!r->top->consts.v[i]->data)
            gd_fail(r->c, 104, "the brief form of a graph cannot be read", "constant %s has no data",
                    value_name_text(r->c, r->top->consts.v[i]));
}

static void number_nodes(Graph *g) {
    for (int i = 0; i < g->nodes.n; i++) {
        g->nodes.v[i]->id = (*g->next_id)++;
        for (int k = 0; k < g->nodes.v[i]->nregions; k++) number_nodes(g->nodes.v[i]->region[k]);
    }
}

/* ("name": type, ...) of the head, when the body is known. */
static void results(Reader *r) {
    Graph *g = r->top;
    int i = 0;
    parse_need(&r->s, "(");
    if (!parse_eat(&r->s, ")")) {
        do {
            Written w = {.name = quoted(r)};
            parse_need(&r->s, ":");
            type(r, &w);
            const Value *v = i < g->out.n ? g->out.v[i] : NULL;
            bool same = v && v->dt == w.dt && v->rank == w.rank && v->sequence == w.sequence &&
                        v->optional == w.optional;
            for (int k = 0; same && k < w.rank; k++) same = w.dim[k] == v->dim[k];
            if (!same) parse_fail(&r->s, NULL, "output %d is not what the graph returns", i);
            g->out_names.v[i++] = w.name;
        } while (parse_eat(&r->s, ","));
        parse_need(&r->s, ")");
    }
    if (i != g->out.n) parse_fail(&r->s, NULL, "the graph returns %d values, not %d", g->out.n, i);
}

static int position(Reader *r, const Value *v) {
    for (int i = 0; i < r->top->in.n; i++)
        if (r->top->in.v[i] == v) return i;
    parse_fail(&r->s, NULL, "a state is an input");
}

/* A state that the top graph changes, after its `return`. */
static void state(Reader *r) {
    Parser *s = &r->s;
    StateVar *v = gd_new(r->c, StateVar);
    const char *kind = parse_word(s);
    int k = 0;
    while (k < ST_KINDS && strcmp(gd_state_kinds[k], kind)) k++;
    if (k == ST_KINDS) parse_fail(s, "param, buffer, slot, counter or metric", "there is no state %.40s", kind);
    *v = (StateVar){.kind = (StateKind)k, .in = position(r, used(r)), .out = -1};
    if (parse_eat(s, "->")) {
        int64_t out = parse_int(s);
        if (out < 0 || out >= r->top->out.n) parse_fail(s, NULL, "there is no output %lld", (long long)out);
        v->out = (int)out;
    }
    if (parse_eat(s, "from")) v->from = used(r);
    if (v->from && !v->from->data) parse_fail(s, NULL, "a state begins as a constant");
    if (parse_eat(s, "init")) v->init = unescaped(r);
    if (parse_eat(s, "fan")) v->fan_in = parse_int(s), v->fan_out = parse_int(s);
    if (parse_eat(s, "l1")) v->l1 = real(r);
    if (parse_eat(s, "l2")) v->l2 = real(r);
    vec_push(r->c, &r->top->states, v);
    next_line(r);
}

/* The head's first line uses symbols of its second, and those of the body. */
static void head(Reader *r, Parser *outputs) {
    Parser *s = &r->s;
    parse_need(s, "graph");
    r->top = graph_new(r->c, parse_word(s));
    Parser inputs = *s;
    s->at = line_end(r);
    next_line(r);
    if (parse_eat(s, "where")) {
        do symbol(r, false);
        while (parse_eat(s, ","));
        next_line(r);
    }
    parse_need(s, "{");
    Parser inside = *s;
    *s = inputs;
    arguments(r, r->top);
    parse_need(s, "->");
    *outputs = *s;
    const char *end = line_end(r), *after = NULL; /* the last " after " of the line */
    for (const char *q = s->at; q + 7 <= end; q++)
        if (!memcmp(q, " after ", 7)) after = q;
    if (after) {
        s->at = after + 7;
        r->top->after = parse_word(s);
        if (!at_end(r)) parse_fail(s, NULL, "what follows is not understood");
    }
    *s = inside;
    next_line(r);
}

Graph *graph_parse(Ctx *c, const char *text, size_t n) {
    Reader r = {.c = c, .values = map_new(c), .ids = map_new(c)};
    r.s = (Parser){.c = c, .at = text, .end = text + n, .line_start = text, .line = 1, .names = map_new(c)};
    Parser outputs;
    int errors = gd_error_count(c);
    if (at_end(&r)) next_line(&r);
    head(&r, &outputs);
    body(&r, r.top);
    while (parse_eat(&r.s, "state")) state(&r);
    parse_need(&r.s, "}");
    next_line(&r);
    while (parse_eat(&r.s, "data")) data_section(&r);
    if (r.s.at != r.s.end) parse_fail(&r.s, NULL, "what follows is not understood");
    settle(&r);
    r.s = outputs;
    results(&r);
    number_nodes(r.top);
    if (gd_error_count(c) > errors) gd_leave(c);
    const char *fault = graph_fault(r.top);
    if (fault) gd_fail(c, 104, NULL, "%s", fault);
    return r.top;
}
