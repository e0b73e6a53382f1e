/* Statements of a model description: inputs, names, blocks, repetition, loops over a sequence: see model.h.

   A statement is carried out where it stands, so a description's order is the graph's. Every statement takes a token or is an
   error that passes the line over; how often blocks and repetitions are read again is held against the budget of nodes. So
   it ends. */
#include "modelloop.h"
#include "ops/build.h"

struct ModelBlock {
    const char *name;
    int body, end;      /* tokens: behind its {, at its } */
    int n;
    const char *param[MOST_ARGS];
    Opnd def[MOST_ARGS]; /* NONE: must be given */
    bool broken;        /* it had an error already */
};

/* ---- names ---- */

Env *env_new(Desc *d, Env *up) {
    Env *e = gd_new(d->c, Env);
    *e = (Env){.up = up, .names = map_new(d->c)};
    return e;
}

void env_bind(Desc *d, Env *e, const char *name, Opnd o) {
    Opnd *own = gd_new(d->c, Opnd);
    *own = o;
    if (o.kind == OD_VALUE && o.v[0]->def && !o.v[0]->label) o.v[0]->label = name;
    if (!map_gets(e->names, name)) vec_push(d->c, &e->order, name);
    map_puts(e->names, name, own);
}

static const char *const reserved[] = {"for", "in", "along", "from", "as", "it"};
enum { RESERVED = sizeof reserved / sizeof *reserved };

static bool is_reserved(const char *name) {
    for (int i = 0; i < RESERVED; i++)
        if (!strcmp(reserved[i], name)) return true;
    return false;
}

static const char *new_name(Desc *d, const char *what) {
    const Tok *t = model_peek(d);
    const char *name = model_word(d, what);
    if (name && is_reserved(name)) {
        model_error(d, t, 104, "choose another name", "%s is a word of the language", name);
        return NULL;
    }
    return name;
}

/* ---- lines and braces ---- */

static bool opens(const Tok *t) { return t->kind == TK_PUNCT && *t->text == '{'; }
static bool closes(const Tok *t) { return t->kind == TK_PUNCT && *t->text == '}'; }

/* To the end of the line; what stands in braces there belongs to it. */
static void pass_over(Desc *d) {
    int open = 0;
    for (; model_peek(d)->kind != TK_END; d->at++) {
        const Tok *t = model_peek(d);
        if (!open && (t->kind == TK_LINE || closes(t))) return;
        open += opens(t) - closes(t);
    }
}

int model_braces(Desc *d, int *end) {
    const Tok *first = model_peek(d);
    if (!model_want(d, "{")) return -1;
    int body = d->at, open = 1;
    for (; model_peek(d)->kind != TK_END; d->at++) {
        open += opens(model_peek(d)) - closes(model_peek(d));
        if (open) continue;
        *end = d->at++;
        return body;
    }
    model_error(d, first, 104, NULL, "the } that closes this { is missing");
    return -1;
}

static void statement(Desc *d);

static void count_step(Desc *d) {
    int64_t most = gd_budget(d->c)->max_nodes;
    gd_check_time(d->c);
    if (++d->steps > most)
        gd_fail(d->c, 502, "raise it with --max-nodes", "more than %lld statements are carried out", (long long)most);
}

void model_statements(Desc *d, int from, int end) {
    int back = d->at;
    for (d->at = from; d->at < end;) {
        d->failed = false;
        if (model_peek(d)->kind == TK_LINE) d->at++;
        else statement(d);
    }
    d->at = back;
    d->failed = false;
}

/* ---- inputs ---- */

Expr *model_dim(Desc *d, const char *name) {
    Expr *e = map_gets(d->dims.named, name);
    if (e) return e;
    e = dims_open(&d->dims, d->root, name, 1);
    map_puts(d->dims.named, name, e);
    return e;
}

/* f32[N, 3]; [N, 3] is of f32. */
static bool read_type(Desc *d, const char *name, bool fixed, DType *dt, int *rank, Expr **dim) {
    const Tok *t = model_peek(d);
    int64_t size, count = 1;
    *dt = F32;
    *rank = 0;
    if (t->kind == TK_WORD) {
        *dt = gd_dtype_named(t->text);
        d->at++;
        if (*dt == DT_NONE || *dt == STRING) {
            model_error(d, t, 207, "f32, f64, i64, i32, u8, bool ...", "there is no dtype %s", t->text);
            return false;
        }
    }
    if (!model_want(d, "[")) return false;
    while (!model_is(d, "]")) {
        t = model_peek(d);
        if (*rank == MAX_RANK) model_error(d, t, 504, NULL, "more than %d axes", MAX_RANK);
        else if (t->kind == TK_NUMBER && t->whole) {
            bool open = d->o->symbolic && !fixed;
            dim[*rank] = open ? dims_open(&d->dims, d->root, gd_format(d->c, "%.32s_dim%d", name, *rank), 1) : expr_int(d->c, (int64_t)t->v);
            d->at++;
        } else if (t->kind == TK_WORD) {
            Opnd o = model_named(d, t->text, t);
            d->at++;
            dim[*rank] = o.kind == OD_WORD && !fixed ? model_dim(d, t->text) : opnd_dim(d, &o);
            if (!dim[*rank]) model_error(d, t, 104, NULL, "%s is no size", t->text);
        } else model_expected(d, "a size, a number or a name,");
        if (!d->failed && is_int(dim[*rank], &size) && __builtin_mul_overflow(count, size, &count))
            model_error(d, t, 505, NULL, "the size of %s overflows", name);
        if (d->failed) return false;
        ++*rank;
        if (!model_is(d, "]") && !model_want(d, ",")) return false;
    }
    return model_want(d, "]");
}

static Value *given_input(Desc *d, const Tok *at, int i, DType dt, int rank) {
    const GradcTensor *t = i < d->o->ngiven ? d->o->given[i] : NULL;
    if (!t) return NULL;
    if ((DType)t->dtype != dt || t->rank != rank) {
        model_error(d, at, 603, NULL, "the value given for this input is of another dtype or rank");
        return NULL;
    }
    return graph_const(d->root, dt, rank, t->dims, t->data);
}

static void input_statement(Desc *d) {
    do {
        DType dt;
        int rank;
        Expr *dim[MAX_RANK];
        const Tok *at = model_peek(d);
        const char *name = new_name(d, "the input's name");
        if (!name || !model_want(d, ":")) return;
        for (int i = 0; i < d->root->in.n; i++)
            if (!strcmp(d->root->in_names.v[i], name)) model_error(d, at, 202, NULL, "there is an input %s already", name);
        if (d->g != d->root || d->env != d->top) model_error(d, at, 104, NULL, "inputs stand outside of blocks and loops");
        if (d->failed || !read_type(d, name, false, &dt, &rank, dim)) {
            env_bind(d, d->env, name, opnd_bad());
            d->it = opnd_bad();
            return;
        }
        Value *v = given_input(d, at, d->inputs++, dt, rank);
        d->it = opnd_value(d, v ? v : graph_input(d->root, name, dt, rank, dim));
        d->it_name = name;
        env_bind(d, d->env, name, d->it);
    } while (model_take(d, ","));
}

/* param NAME: f32[128, 384] init=normal: a parameter of one's own. */
static void param_statement(Desc *d) {
    DType dt;
    int rank;
    Expr *dim[MAX_RANK];
    int64_t size[MAX_RANK];
    const Tok *at = model_peek(d);
    const char *name = new_name(d, "the parameter's name"), *init = "zeros";
    if (!name || !model_want(d, ":") || !read_type(d, name, true, &dt, &rank, dim)) {
        if (name) env_bind(d, d->env, name, opnd_bad());
        return;
    }
    if (model_take(d, "init")) {
        model_take(d, "=");
        const Tok *t = model_peek(d);
        if (t->kind == TK_STRING || t->kind == TK_WORD) {
            const char *s = t->s, *end = s;
            for (; !model_line_ends(d); d->at++) end = model_peek(d)->s + model_peek(d)->n;
            init = t->kind == TK_STRING ? t->text : gd_strndup(d->c, s, (size_t)(end - s));
        } else model_expected(d, "an initialiser");
    }
    for (int i = 0; i < rank; i++)
        if (!is_int(dim[i], &size[i])) model_error(d, at, 402, NULL, "the sizes of a parameter are numbers");
    if (d->failed) {
        env_bind(d, d->env, name, opnd_bad());
        return;
    }
    const char *full = gd_format(d->c, "%s%s", d->prefix, name);
    StateVar *s = state_named(d->root, full);
    Value *v = s ? d->root->in.v[s->in] : state_new(d->root, ST_PARAM, full, dt, rank, size, init);
    env_bind(d, d->env, name, opnd_value(d, v));
}

/* ---- blocks ---- */

static void block_statement(Desc *d) {
    ModelBlock *b = gd_new(d->c, ModelBlock);
    const Tok *at = model_peek(d);
    b->name = new_name(d, "the block's name");
    if (b->name && (layer_named(b->name) || layer_activation(b->name))) model_error(d, at, 202, NULL, "there is a layer %s already", b->name);
    if (b->name && map_gets(d->blocks, b->name)) model_error(d, at, 202, NULL, "there is a block %s already", b->name);
    if (d->failed) return;
    map_puts(d->blocks, b->name, b);
    b->broken = true;
    if (model_take(d, "(")) {
        while (!model_is(d, ")")) {
            const char *p = b->n < MOST_ARGS ? new_name(d, "an argument's name") : NULL;
            if (!p) { model_expected(d, "fewer arguments"); return; }
            b->param[b->n] = p;
            if (model_take(d, "=")) b->def[b->n] = model_expression(d);
            if (d->failed) return;
            b->n++;
            if (!model_is(d, ")") && !model_want(d, ",")) return;
        }
        d->at++;
    }
    b->body = model_braces(d, &b->end);
    b->broken = b->body < 0;
}

bool model_block(Desc *d, const char *name) { return map_gets(d->blocks, name) != NULL; }

const char *model_unused_name(Desc *d, const char *base) {
    const char *key = gd_format(d->c, "#%s%s", d->prefix, base);
    int *next = map_gets(d->counts, key);
    if (!next) map_puts(d->counts, key, next = gd_new(d->c, int));
    for (;;) {
        int i = (*next)++;
        const char *s = d->torch ? gd_format(d->c, "%s%s%d", d->prefix, base, i + 1)
                        : i      ? gd_format(d->c, "%s%s_%d", d->prefix, base, i)
                                 : gd_format(d->c, "%s%s", d->prefix, base);
        if (!map_gets(d->counts, s)) return s;
    }
}

/* Parameters of a block's layers begin with a name of the use: block1. or block/. */
static const char *use_prefix(Desc *d, const char *site, const char *name, const char *given) {
    const char *sep = d->torch ? "." : "/", *prefix = given ? gd_format(d->c, "%s%s%s", d->prefix, given, sep) : map_gets(d->sites, site);
    if (!prefix) {
        const char *s = model_unused_name(d, name);
        map_puts(d->counts, s, d);
        prefix = gd_format(d->c, "%s%s", s, sep);
    }
    map_puts(d->sites, site, (void *)prefix);
    return prefix;
}

/* Binds arguments to the parameters in env; *name: of the use. */
static bool bind_arguments(Desc *d, const ModelBlock *b, Env *env, const Tok *at, int n, const Opnd *arg, int nkeys, const char *const *key,
                           const Opnd *value, const char **name) {
    Opnd set[MOST_ARGS] = {{0}};
    int missing = 0, first = 0;
    for (int k = 0; k < nkeys; k++) {
        int i = 0;
        while (i < b->n && strcmp(b->param[i], key[k])) i++;
        if (i < b->n) set[i] = value[k];
        else if (!strcmp(key[k], "name") && value[k].kind == OD_WORD) *name = value[k].word;
        else {
            const char *near = model_nearest(key[k], b->param, b->n);
            model_error(d, at, 204, near ? gd_format(d->c, "is it %s?", near) : NULL, "block %s has no argument %s", b->name, key[k]);
            return false;
        }
    }
    for (int i = 0; i < b->n; i++) missing += set[i].kind == OD_NONE && b->def[i].kind == OD_NONE;
    if (b->n && set[0].kind == OD_NONE && missing > n && (!n || arg[0].kind != OD_VALUE) && d->it.kind != OD_NONE) set[first++] = d->it;
    int next = 0;
    for (int i = 0; i < n; i++) {
        while (next < b->n && set[next].kind != OD_NONE) next++;
        if (next == b->n) {
            model_error(d, at, 205, NULL, "block %s takes %d arguments", b->name, b->n);
            return false;
        }
        set[next] = arg[i];
    }
    for (int i = 0; i < b->n; i++) {
        if (set[i].kind == OD_NONE) set[i] = b->def[i];
        if (set[i].kind == OD_NONE) {
            model_error(d, at, 205, NULL, "block %s needs its argument %s", b->name, b->param[i]);
            return false;
        }
        env_bind(d, env, b->param[i], set[i]);
    }
    return true;
}

Opnd model_use_block(Desc *d, const char *name, const Tok *at, int n, const Opnd *arg, int nkeys, const char *const *key, const Opnd *value) {
    ModelBlock *b = map_gets(d->blocks, name);
    Env *env = env_new(d, d->top), *outer = d->env;
    const char *prefix = d->prefix, *path = d->path, *given = NULL;
    int errors = gd_error_count(d->c);
    Opnd before = d->it;
    if (b->broken) { d->failed = true; return opnd_bad(); }
    if (++d->depth > MOST_DEPTH) {
        model_error(d, at, 504, "a block may not use itself", "blocks are nested more than %d deep", MOST_DEPTH);
        d->depth--;
        return opnd_bad();
    }
    if (!bind_arguments(d, b, env, at, n, arg, nkeys, key, value, &given)) { d->depth--; return opnd_bad(); }
    const char *site = gd_format(d->c, "%s@%ld", path, (long)(at - d->t));
    d->prefix = use_prefix(d, site, name, given);
    d->path = site;
    d->env = env;
    if (b->n) d->it = *(Opnd *)map_gets(env->names, b->param[0]);
    const char *it_name = d->it_name;
    model_statements(d, b->body, b->end);
    Opnd result = d->it;
    d->it_name = it_name;
    d->it = before;
    d->env = outer;
    d->prefix = prefix;
    d->path = path;
    d->depth--;
    if (gd_error_count(d->c) > errors) { b->broken = d->failed = true; return opnd_bad(); }
    return result;
}

/* ---- repeat ---- */

/* repeat 6 as i { ... }, or repeat 6 LAYER on one line */
static void repeat_statement(Desc *d) {
    const Tok *at = model_peek(d);
    Opnd count = model_primary(d);
    const char *index = NULL, *path = d->path;
    if (d->failed) return;
    if (count.kind != OD_NUMBER || !count.whole || count.num < 0) {
        model_error(d, at, 204, "repeat 6 { ... }", "how often is a whole number known when compiling");
        return;
    }
    if (model_take(d, "as") && !(index = new_name(d, "a name for the number of the repetition"))) return;
    int body = d->at, end = body;
    if (model_is(d, "{")) {
        body = model_braces(d, &end);
        if (body < 0) return;
    } else {
        if (model_line_ends(d)) { model_expected(d, "{ or a layer"); return; }
        pass_over(d);
        end = d->at;
    }
    int errors = gd_error_count(d->c);
    for (int64_t i = 0; i < (int64_t)count.num && gd_error_count(d->c) == errors; i++) {
        count_step(d); /* of an empty body too */
        d->path = gd_format(d->c, "%s@%d#%lld", path, body, (long long)i);
        if (index) env_bind(d, d->env, index, (Opnd){.kind = OD_NUMBER, .num = (double)i, .whole = true});
        model_statements(d, body, end);
    }
    d->path = path;
}

/* ---- what makes a value ---- */

static bool adjacent(const Tok *t) { return t[0].kind != TK_END && t[1].kind == TK_PUNCT && *t[1].text == '(' && t[1].s == t->s + t->n; }

static bool operates(const Tok *t) { return t->kind == TK_PUNCT && !strchr("({.", *t->text); }

/* A layer with its arguments, or an expression. */
static Opnd right_side(Desc *d) {
    const Tok *t = model_peek(d);
    if (t->kind == TK_WORD && !adjacent(t)) {
        bool layer = model_block(d, t->text) || layer_named(t->text) || layer_activation(t->text), bound = false;
        for (const Env *e = d->env; e && !bound; e = e->up) bound = map_gets(e->names, t->text) != NULL;
        bound |= !strcmp(t->text, "it") || map_gets(d->dims.named, t->text) || !strcmp(t->text, "pi") || !strcmp(t->text, "inf");
        if ((layer && !bound) || (!bound && !operates(t + 1))) {
            d->at++;
            return model_layer(d, t->text, t, false);
        }
    }
    Opnd o = model_expression(d);
    if (d->failed) return opnd_bad();
    if (o.kind != OD_WORD && o.kind != OD_SIZE) return o;
    if (o.kind == OD_WORD && o.at->kind == TK_STRING) return o;
    model_error(d, t, 201, NULL, o.kind == OD_WORD ? "the name %s is not known" : "a tensor or a number is expected", o.word);
    return opnd_bad();
}

/* How many names stand before a single =: `y, h = ...`; 0: this is no assignment. */
static int targets(const Tok *t) {
    for (int n = 1;; n++, t += 2) {
        if (t->kind != TK_WORD) return 0;
        if (t[1].kind != TK_PUNCT) return 0;
        if (!strcmp(t[1].text, "=")) return n;
        if (strcmp(t[1].text, ",")) return 0;
    }
}
int model_targets(const Tok *t) { return targets(t); }

static void bind_results(Desc *d, int n, const char *const *name, const Tok *at, Opnd o) {
    if (!d->failed && n > 1 && (o.kind != OD_VALUE || o.nv < n) && o.kind != OD_BAD)
        model_error(d, at, 205, NULL, "there %s %d result%s for %d names", o.nv == 1 ? "is" : "are", o.nv ? o.nv : 1, o.nv > 1 ? "s" : "", n);
    for (int i = 0; i < n; i++) {
        bool bad = d->failed || o.kind == OD_BAD;
        env_bind(d, d->env, name[i], bad ? opnd_bad() : n == 1 ? o : opnd_value(d, o.v[i]));
    }
}

static void assignment(Desc *d, int n) {
    const char *name[MOST_INPUTS];
    const Tok *at = model_peek(d);
    for (int i = 0; i < n; i++, d->at += 2) {
        const Tok *t = model_peek(d);
        if (n > MOST_INPUTS) { model_error(d, at, 504, NULL, "more than %d names", MOST_INPUTS); return; }
        if (is_reserved(t->text)) { model_error(d, t, 104, "choose another name", "%s is a word of the language", t->text); return; }
        name[i] = t->text;
    }
    Opnd o = model_take(d, "for") ? model_for(d, true) : right_side(d);
    bind_results(d, n, name, at, o);
    if (!d->failed && o.kind != OD_VALUE && o.kind != OD_BAD) return; /* a number is no result to go on from */
    d->it = d->failed ? opnd_bad() : *(Opnd *)map_gets(d->env->names, name[0]);
    d->it_name = name[0];
}

/* output NAME, or output NAME = ..., or several of them. */
static void output_statement(Desc *d) {
    if (d->g != d->root || d->env != d->top) model_error(d, model_peek(d), 104, NULL, "outputs stand outside of blocks and loops");
    while (!d->failed) {
        const Tok *t = model_peek(d);
        const char *name = model_word(d, "the output's name");
        if (!name) return;
        Opnd o = model_take(d, "=") ? right_side(d) : model_named(d, name, t);
        if (o.kind == OD_WORD) {
            if (d->it.kind == OD_VALUE && model_line_ends(d) && !d->outputs) o = d->it; /* a name for what came last */
            else model_error(d, t, 201, NULL, "the name %s is not known", name);
        }
        if (d->failed) return;
        for (int i = 0; i < d->root->out.n; i++)
            if (!strcmp(d->root->out_names.v[i], name)) model_error(d, t, 202, NULL, "there is an output %s already", name);
        if (o.kind == OD_VALUE && !d->failed) graph_output(d->root, name, o.v[0]);
        else if (o.kind != OD_BAD) model_error(d, t, 302, NULL, "output %s is no tensor", name);
        d->outputs = true;
        if (!model_take(d, ",")) return;
    }
}

static void semantics(Desc *d) {
    const Tok *t = model_peek(d);
    if (d->root->states.n || d->root->nodes.n) model_error(d, t, 104, "put it below the model's name", "semantics comes before the layers");
    d->torch = model_is(d, "torch") || model_is(d, "pytorch");
    if (d->torch || model_is(d, "keras")) d->at++;
    else model_expected(d, "keras or torch");
}

static void model_statement(Desc *d) {
    const char *name = new_name(d, "the model's name");
    if (name && !d->o->prefix) d->root->name = front_identifier(d->c, name, "model");
}

static void value_statement(Desc *d) {
    Opnd o = right_side(d);
    if (!d->failed && o.kind != OD_VALUE && o.kind != OD_BAD) model_error(d, model_peek(d), 104, "NAME = 3 gives a number a name", "a number by itself does nothing");
    d->it = d->failed ? opnd_bad() : o;
    d->it_name = NULL;
}

/* Everything up to the end of the line. */
static void statement(Desc *d) {
    static const struct {
        const char *word;
        void (*read)(Desc *);
    } statements[] = {{"input", input_statement},   {"param", param_statement},   {"block", block_statement}, {"repeat", repeat_statement},
                      {"output", output_statement}, {"semantics", semantics}, {"model", model_statement}, {"train", model_train}};
    const Tok *t = model_peek(d);
    int n = targets(t), first = d->at;
    size_t k = 0;
    count_step(d);
    while (k < sizeof statements / sizeof *statements && !model_is(d, statements[k].word)) k++;
    if (closes(t)) model_error(d, t, 104, NULL, "there is no { that this } would close");
    else if (n) assignment(d, n);
    else if (k < sizeof statements / sizeof *statements) {
        d->at++;
        statements[k].read(d);
    } else if (model_take(d, "for")) {
        Opnd o = model_for(d, false);
        if (o.kind != OD_NONE) d->it = d->failed ? opnd_bad() : o;
        d->it_name = NULL;
    } else value_statement(d);
    if (!d->failed && !model_line_ends(d)) model_expected(d, "the end of the line");
    if (d->failed) {
        d->at = d->at > first ? d->at : first + 1;
        if (d->t[d->at - 1].kind == TK_LINE) d->at--;
        pass_over(d);
        if (closes(model_peek(d)) && d->env == d->top && d->at == first) d->at++;
    }
}

/* ---- the whole ---- */

Graph *model_graph(Ctx *c, const char *text, size_t n, const char *name, const FrontOptions *o) {
    int errors = gd_error_count(c);
    Desc d = {.c = c, .text = text, .ntext = n, .o = o, .prefix = "", .path = ""};
    d.dims = (Model){.c = c, .o = o, .named = map_new(c)};
    d.root = d.g = graph_new(c, name);
    d.root->training = o->training;
    d.env = d.top = env_new(&d, NULL);
    d.blocks = map_new(c);
    d.told = map_new(c);
    d.sites = map_new(c);
    d.counts = map_new(c);
    dims_read(&d.dims);
    model_lex(&d);
    int last = 0;
    while (d.t[last].kind != TK_END) last++;
    model_statements(&d, 0, last);
    if (!d.inputs && gd_error_count(c) == errors) model_error(&d, &d.t[last], 205, "input x: f32[N, 28, 28, 1]", "an input is expected, but the text ends");
    else if (!d.outputs && d.it.kind == OD_VALUE) graph_output(d.root, d.it_name ? d.it_name : "output", d.it.v[0]);
    if (gd_error_count(c) == errors) dims_finish(&d.dims);
    if (gd_error_count(c) > errors) gd_leave(c);
    if (d.train) d.train->torch = d.torch;
    d.root->train = d.train;
    return d.root;
}
