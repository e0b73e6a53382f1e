/* Layers of a model description: their arguments as written, their names, their parameters: see model.h. */
#include "model.h"
#include "ops/build.h"
#include "op.h"
#include <math.h>

/* ---- rows ---- */

const LayerRow *layer_at(int i) {
    const LayerRow *const rooms[] = {gd_layers_dense, gd_layers_conv, gd_layers_seq};
    for (int r = 0; r < 3; r++)
        for (const LayerRow *row = rooms[r]; row->name; row++)
            if (!i--) return row;
    return NULL;
}

const LayerRow *layer_named(const char *name) {
    const LayerRow *row;
    for (int i = 0; (row = layer_at(i)); i++)
        if (!strcmp(row->name, name) || (row->alias && !strcmp(row->alias, name))) return row;
    return NULL;
}

/* ---- activations ---- */

/* keras: the slope that Keras's function has, layer: that of its layer. */
static const struct {
    const char *name, *formula;
    double torch, keras, layer;
} activations[] = {
    {"relu", "relu(x)", 0, 0, 0},
    {"relu6", "clip(x, 0, 6)", 0, 0, 0},
    {"leaky_relu", "leaky_relu(x, alpha=alpha)", .01, .2, .3},
    {"elu", "elu(x, alpha=alpha)", 1, 1, 1},
    {"celu", "celu(x, alpha=alpha)", 1, 1, 1},
    {"selu", "selu(x)", 0, 0, 0},
    {"gelu", "gelu(x)", 0, 0, 0},
    {"gelu_tanh", "gelu_tanh(x)", 0, 0, 0},
    {"sigmoid", "sigmoid(x)", 0, 0, 0},
    {"hard_sigmoid", "hard_sigmoid(x, alpha=0.16666666666666666, beta=0.5)", 0, 0, 0},
    {"log_sigmoid", "-softplus(-x)", 0, 0, 0},
    {"tanh", "tanh(x)", 0, 0, 0},
    {"hard_tanh", "clip(x, -1, 1)", 0, 0, 0},
    {"tanh_shrink", "x - tanh(x)", 0, 0, 0},
    {"silu", "swish(x)", 0, 0, 0},
    {"swish", "swish(x)", 0, 0, 0},
    {"hard_silu", "hard_swish(x)", 0, 0, 0},
    {"hard_swish", "hard_swish(x)", 0, 0, 0},
    {"mish", "mish(x)", 0, 0, 0},
    {"softplus", "softplus(x)", 0, 0, 0},
    {"softsign", "softsign(x)", 0, 0, 0},
    {"soft_shrink", "shrink(x, bias=alpha, lambd=alpha)", .5, .5, .5},
    {"hard_shrink", "shrink(x, bias=0.0, lambd=alpha)", .5, .5, .5},
    {"threshold", "thresholded_relu(x, alpha=alpha)", 1, 1, 1},
    {"exponential", "exp(x)", 0, 0, 0},
    {"softmax", NULL, 0, 0, 0},
    {"log_softmax", NULL, 0, 0, 0},
};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

static int activation_at(const char *name) {
    for (int i = 0; i < ACTIVATIONS; i++)
        if (!strcmp(activations[i].name, name)) return i;
    return -1;
}
bool layer_activation(const char *name) { return activation_at(name) >= 0; }

void layer_number(Ctx *c, Map *attrs, const char *name, double v) {
    Attr *a = gd_new(c, Attr);
    *a = (Attr){.kind = AT_FLOAT, .f = v};
    map_puts(attrs, name, a);
}

Value *layer_activate(Layer *l, const char *name, double alpha, Value *x) {
    Ctx *c = l->c;
    int i = activation_at(name);
    if (x->rank < 0 || i < 0) return x;
    if (!activations[i].formula) {
        Value *y = x;
        ImportAttr axis = at_int("axis", layer_has(l, "axis") ? layer_int(l, "axis") : -1);
        layer_onnx(l, !strcmp(name, "softmax") ? "Softmax" : "LogSoftmax", 1, &x, 1, &axis, 1, &y);
        return y;
    }
    bool own = l->row && !strcmp(l->row->name, "activation");
    Map *values = map_new(c), *attrs = map_new(c);
    map_puts(values, "x", x);
    if (isnan(alpha)) alpha = l->d->torch ? activations[i].torch : own ? activations[i].layer : activations[i].keras;
    layer_number(c, attrs, "alpha", alpha);
    return graph_text(l->g, activations[i].formula, values, attrs);
}

static void make_activation(Layer *l) {
    l->out[0] = layer_activate(l, l->activation, layer_has(l, "alpha") ? layer_float(l, "alpha") : NAN, l->in[0]);
}
static const LayerRow activation_row = {
    .name = "activation", .min = 1, .max = 1, .positions = 1, .arg = {{"alpha", 'f', 0}, {"axis", 'n', -1}}, .make = make_activation};

/* ---- ONNX forms ---- */

ImportAttr at_int(const char *name, int64_t v) { return (ImportAttr){.name = name, .kind = IM_INT, .i = v}; }
ImportAttr at_float(const char *name, double v) { return (ImportAttr){.name = name, .kind = IM_FLOAT, .f = v}; }
ImportAttr at_string(const char *name, const char *s) {
    return (ImportAttr){.name = name, .kind = IM_STRING, .s = s, .n = (int)strlen(s)};
}
ImportAttr at_ints(Ctx *c, const char *name, int n, const int64_t *v) {
    int64_t *copy = gd_new_array(c, int64_t, n ? n : 1);
    memcpy(copy, v, (size_t)n * sizeof *v);
    return (ImportAttr){.name = name, .kind = IM_INTS, .n = n, .ints = copy};
}

Value *layer_onnx(Layer *l, const char *op, int nin, Value *const *in, int nattr, const ImportAttr *attr, int nout, Value **out) {
    enum { OPSET = 22 };
    const Op *row = op_onnx("", op, OPSET);
    if (!row) gd_bug(l->c, "there is no form of ONNX's %s", op);
    ImportAttr *own = gd_new_array(l->c, ImportAttr, nattr ? nattr : 1);
    bool *wanted = gd_new_array(l->c, bool, nout);
    for (int i = 0; i < nattr; i++) own[i] = attr[i];
    Import n = {.g = l->g, .op = op, .domain = "", .opset = OPSET, .nin = nin, .nout = nout, .nattr = nattr, .attr = own,
                .wanted = wanted, .label = l->g->label};
    n.in = gd_new_array(l->c, Value *, nin ? nin : 1);
    n.out = gd_new_array(l->c, Value *, nout);
    for (int i = 0; i < nin; i++) n.in[i] = in[i];
    for (int i = 0; i < nout; i++) wanted[i] = true;
    if (row->import) row->import(&n);
    else import_default(&n, row);
    for (int i = 0; i < nout; i++) {
        out[i] = n.out[i];
        if (out[i]) continue;
        out[i] = value_new(l->g, F32, 0, NULL); /* it failed, and said so */
        out[i]->rank = -1;
    }
    return out[0];
}

/* ---- arguments as values ---- */

static const Opnd *given(const Layer *l, const char *name, const ArgDef **def) {
    for (int i = 0; i < MOST_ARGS && l->row->arg[i].name; i++) {
        if (strcmp(l->row->arg[i].name, name)) continue;
        if (def) *def = &l->row->arg[i];
        return &l->arg[i];
    }
    gd_bug(l->c, "layer %s has no argument %s", l->row->name, name);
}

void layer_error(Layer *l, int code, const char *help, const char *fmt, ...) {
    char what[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    model_error(l->d, l->at, code, help, "%s: %s", l->row->name, what);
}

bool layer_has(const Layer *l, const char *name) {
    for (int i = 0; i < MOST_ARGS && l->row->arg[i].name; i++)
        if (!strcmp(l->row->arg[i].name, name)) return l->arg[i].kind != OD_NONE;
    return false;
}

int64_t layer_int(Layer *l, const char *name) {
    const ArgDef *def = NULL;
    const Opnd *o = given(l, name, &def);
    if (o->kind == OD_NONE) return (int64_t)def->def;
    if (o->kind == OD_NUMBER && o->whole) return (int64_t)o->num;
    layer_error(l, 204, NULL, "%s is a whole number known when compiling", name);
    return (int64_t)def->def;
}

double layer_float(Layer *l, const char *name) {
    const ArgDef *def = NULL;
    const Opnd *o = given(l, name, &def);
    if (o->kind == OD_NONE) return def->def;
    if (o->kind != OD_NUMBER) layer_error(l, 204, NULL, "%s is a number", name);
    return o->num;
}

bool layer_flag(Layer *l, const char *name) {
    const ArgDef *def = NULL;
    const Opnd *o = given(l, name, &def);
    return o->kind == OD_NONE ? def->def != 0 : o->num != 0;
}

const char *layer_text(Layer *l, const char *name, const char *otherwise) {
    const Opnd *o = given(l, name, NULL);
    return o->kind == OD_WORD ? o->word : otherwise;
}

void layer_sizes(Layer *l, const char *name, int n, int64_t otherwise, int64_t *v) {
    const Opnd *o = given(l, name, NULL);
    for (int i = 0; i < n; i++) v[i] = otherwise;
    if (o->kind == OD_NUMBER && o->whole)
        for (int i = 0; i < n; i++) v[i] = (int64_t)o->num;
    else if (o->kind == OD_SIZE && o->nsize == n)
        for (int i = 0; i < n; i++) v[i] = o->size[i];
    else if (o->kind != OD_NONE) layer_error(l, 204, n == 2 ? "3, or 3x3" : n == 1 ? "a number" : "3, or 3x3x3", "%s is no size of %d axes", name, n);
}

int layer_axis(Layer *l, const char *name, int rank) {
    int64_t axis = layer_int(l, name);
    if (axis >= -rank && axis < rank) return (int)(axis < 0 ? axis + rank : axis);
    layer_error(l, 204, NULL, "axis %lld is outside a tensor of %d axes", (long long)axis, rank);
    return -1;
}

int64_t layer_channels(Layer *l, const Value *x, int axis) {
    int64_t n = 0;
    if (x->rank < 0) return 0;
    if (axis < 0 || axis >= x->rank) {
        layer_error(l, 301, NULL, "the input %s has too few axes", value_type_text(l->c, x));
        return 0;
    }
    if (is_int(x->dim[axis], &n) && n > 0) return n;
    layer_error(l, 402, "give it a number, or fix it by --dim", "axis %d of %s must be known: parameters depend on it", axis,
                value_type_text(l->c, x));
    return 0;
}

/* ---- names and parameters ---- */

/* The same place in the text, in the same use of a block, is the same layer. */
static const char *layer_path(Layer *l) {
    Desc *d = l->d;
    if (l->path) return l->path;
    if (l->name) l->path = gd_format(d->c, "%s%s", d->prefix, l->name);
    else {
        const char *site = gd_format(d->c, "%s@%ld", d->path, (long)(l->at - d->t)), *base = d->torch ? l->row->torch : l->row->keras;
        l->path = map_gets(d->sites, site);
        if (!l->path) l->path = model_unused_name(d, base);
        map_puts(d->sites, site, (void *)l->path);
    }
    map_puts(d->counts, l->path, d);
    return l->path;
}

/* What went wrong has been told. */
static Value *bad_value(Layer *l, DType dt) {
    Value *v = value_new(l->g, dt, 0, NULL);
    v->rank = -1;
    return v;
}

static Value *known_state(Layer *l, const char *name, DType dt, int rank, const int64_t *dim) {
    const StateVar *s = state_named(l->d->root, name);
    if (!s) return NULL;
    Value *v = l->d->root->in.v[s->in];
    bool same = v->dt == dt && v->rank == rank;
    for (int i = 0; same && i < rank; i++) same = is_value(v->dim[i], dim[i]);
    if (same) return v;
    layer_error(l, 202, "layers of one name share their parameters", "parameter %s is %s already", name, value_type_text(l->c, v));
    return bad_value(l, dt);
}

static Value *state(Layer *l, StateKind kind, const char *keras, const char *torch, DType dt, int rank, const int64_t *dim,
                    const char *init) {
    Desc *d = l->d;
    const char *name = gd_format(l->c, d->torch ? "%s.%s" : "%s/%s", layer_path(l), d->torch ? torch : keras);
    Value *v = known_state(l, name, dt, rank, dim);
    if (v) return v;
    int64_t count = 1;
    for (int i = 0; i < rank; i++)
        if (__builtin_mul_overflow(count, dim[i], &count)) {
            layer_error(l, 505, NULL, "the size of parameter %s overflows", name);
            return bad_value(l, dt);
        }
    v = state_new(d->root, kind, name, dt, rank, dim, init);
    v->label = name;
    return v;
}

Value *layer_param(Layer *l, const char *keras, const char *torch, DType dt, int rank, const int64_t *dim, const char *init,
                   const char *given, int64_t fan_in, int64_t fan_out) {
    Value *v = state(l, ST_PARAM, keras, torch, dt, rank, dim, given ? given : init);
    StateVar *s = state_of(l->d->root, v);
    if (!s) return v;
    s->fan_in = fan_in;
    s->fan_out = fan_out;
    if (rank > 1 && layer_has(l, "l1")) s->l1 = layer_float(l, "l1");
    if (rank > 1 && layer_has(l, "l2")) s->l2 = layer_float(l, "l2");
    return v;
}

Value *layer_buffer(Layer *l, const char *keras, const char *torch, DType dt, int rank, const int64_t *dim, const char *init) {
    return state(l, ST_BUFFER, keras, torch, dt, rank, dim, init);
}

const char *layer_uniform(Layer *l, int64_t fan) {
    double bound = 1 / sqrt(fan > 0 ? (double)fan : 1);
    return gd_format(l->c, "uniform low=%.17g high=%.17g", -bound, bound);
}

/* ---- arguments as written ---- */

static const struct {
    const char *other, *name;
} spellings[] = {
    {"strides", "stride"},     {"padding", "pad"},         {"use_bias", "bias"},          {"dilation_rate", "dilation"},
    {"dilations", "dilation"}, {"kernel_size", "kernel"},  {"pool_size", "size"},         {"epsilon", "eps"},
    {"negative_slope", "alpha"}, {"num_heads", "heads"},   {"return_sequences", "sequence"}, {"num_layers", "layers"},
    {"kernel_initializer", "init"}, {"bias_initializer", "bias_init"}, {"dim", "axis"},   {"p", "rate"},
    {"kernel_regularizer", "l2"}, {"num_groups", "groups"}, {"out_channels", "filters"},  {"out_features", "units"},
};

static int arg_index(const LayerRow *row, const char *name) {
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++)
        if (!strcmp(spellings[i].other, name)) {
            int k = arg_index(row, spellings[i].name);
            if (k >= 0) return k;
        }
    for (int i = 0; i < MOST_ARGS && row->arg[i].name; i++)
        if (!strcmp(row->arg[i].name, name)) return i;
    return -1;
}

static void unknown_argument(Layer *l, const Tok *at, const char *word) {
    const char *names[MOST_ARGS + ACTIVATIONS];
    int n = 0;
    for (int i = 0; i < MOST_ARGS && l->row->arg[i].name; i++) names[n++] = l->row->arg[i].name;
    int args = n;
    for (int i = 0; i < ACTIVATIONS && l->row->activates; i++) names[n++] = activations[i].name;
    const char *near = model_nearest(word, names, n), *help = near ? gd_format(l->c, "is it %s?", near) : NULL;
    Text *t = text_new(l->c);
    for (int i = 0; i < args; i++) text_printf(t, "%s%s", i ? ", " : "it takes ", names[i]);
    if (l->row->activates) text_put(t, args ? ", and an activation" : "it takes an activation");
    if (!help && t->n) help = t->s;
    model_error(l->d, at, 204, help, "%s does not know %s", l->row->name, word);
}

static void take(Layer *l, int i, Opnd o, const Tok *at) {
    if (l->arg[i].kind != OD_NONE) model_error(l->d, at, 202, NULL, "%s of %s is given twice", l->row->arg[i].name, l->row->name);
    l->arg[i] = o;
}

/* The value of an argument that is named; what it may be depends on its kind. */
static void named_argument(Layer *l, int i, bool call, const Tok *at) {
    Desc *d = l->d;
    char kind = l->row->arg[i].kind;
    bool equals = model_take(d, "=");
    const Tok *t = model_peek(d);
    if (kind == 'b' && !equals) {
        take(l, i, (Opnd){.kind = OD_NUMBER, .num = 1, .whole = true}, at);
        return;
    }
    if ((kind == 'w' || kind == 'i' || kind == 'p' || kind == 'b') && (t->kind == TK_WORD || t->kind == TK_STRING)) {
        d->at++;
        bool yes = !strcmp(t->text, "true") || !strcmp(t->text, "True") || !strcmp(t->text, "yes");
        bool no = !strcmp(t->text, "false") || !strcmp(t->text, "False") || !strcmp(t->text, "no");
        if (kind == 'p' && strcmp(t->text, "same") && strcmp(t->text, "valid"))
            model_error(d, t, 204, "valid, same, 1 or 1x1", "%s is no padding", t->text);
        if (kind == 'b' && !yes && !no) model_error(d, t, 104, NULL, "true or false is expected, not \"%s\"", t->text);
        take(l, i, kind == 'b' ? (Opnd){.kind = OD_NUMBER, .num = yes, .whole = true} : (Opnd){.kind = OD_WORD, .word = t->text, .at = t}, at);
        return;
    }
    if (kind == 'w' || kind == 'i') { model_expected(d, gd_format(d->c, "a word for %s", l->row->arg[i].name)); return; }
    Opnd o = call ? model_expression(d) : model_primary(d);
    if (d->failed) return;
    if (o.kind == OD_WORD) model_error(d, t, 204, NULL, "%s of %s is a number, not %s", l->row->arg[i].name, l->row->name, o.word);
    else if (o.kind == OD_VALUE) model_error(d, t, 204, NULL, "%s of %s is a number, not a tensor", l->row->arg[i].name, l->row->name);
    else if (o.kind == OD_BAD) d->failed = true;
    else take(l, i, o, at);
}

static void positional(Layer *l, Opnd o, const Tok *at) {
    int free = 0;
    while (free < l->row->positions && l->arg[free].kind != OD_NONE) free++;
    bool list = free < l->row->positions && l->row->arg[free].kind == 'l';
    if (list) vec_push(l->c, &l->list, o);
    else if (free < l->row->positions) take(l, free, o, at);
    else model_error(l->d, at, 204, NULL, "%s takes no %s number here", l->row->name, l->row->positions ? "further" : "such");
}

static void word_argument(Layer *l, const char *word, const Tok *at) {
    if (l->row->activates && layer_activation(word)) {
        if (l->activation) model_error(l->d, at, 202, NULL, "%s has two activations", l->row->name);
        l->activation = word;
    } else if (l->row->activates && !strcmp(word, "linear")) l->activation = NULL;
    else if (l->row->positions && l->row->arg[0].kind == 'w' && l->arg[0].kind == OD_NONE)
        take(l, 0, (Opnd){.kind = OD_WORD, .word = word, .at = at}, at);
    else unknown_argument(l, at, word);
}

static void input_argument(Layer *l, Opnd o, const Tok *at) {
    if (l->nin == l->row->max || l->nin == MOST_INPUTS) model_error(l->d, at, 205, NULL, "%s takes %d input%s", l->row->name, l->row->max, l->row->max == 1 ? "" : "s");
    else l->in[l->nin++] = o.v[0];
}

static void argument(Layer *l, bool call) {
    Desc *d = l->d;
    const Tok *t = model_peek(d), *after = t->kind == TK_END ? t : t + 1;
    bool equals = after->kind == TK_PUNCT && !strcmp(after->text, "="), word = t->kind == TK_WORD;
    if (word && equals && !strcmp(t->text, "name")) {
        d->at += 2;
        const Tok *n = model_peek(d);
        if (n->kind == TK_WORD || n->kind == TK_STRING) { l->name = n->text; d->at++; }
        else model_expected(d, "a name");
        return;
    }
    if (word && equals && l->row->activates && !strcmp(t->text, "activation")) {
        d->at += 2;
        const Tok *n = model_peek(d);
        const char *name = n->kind == TK_STRING ? (d->at++, n->text) : model_word(d, "an activation");
        if (name) word_argument(l, name, n);
        return;
    }
    int i = word ? arg_index(l->row, t->text) : -1;
    if (word && equals && i < 0) { unknown_argument(l, t, t->text); return; }
    if (i >= 0 && (equals || l->row->arg[i].kind == 'b' || !call)) {
        d->at++;
        named_argument(l, i, call, t);
        return;
    }
    if (word && l->row->activates && layer_activation(t->text) && !(after->kind == TK_PUNCT && *after->text == '(' && after->s == t->s + t->n)) {
        d->at++;
        word_argument(l, t->text, t);
        return;
    }
    Opnd o = call ? model_expression(d) : model_primary(d);
    if (d->failed) return;
    switch (o.kind) {
    case OD_VALUE: input_argument(l, o, t); break;
    case OD_WORD: word_argument(l, o.word, t); break;
    case OD_BAD: d->failed = true; break;
    case OD_NUMBER:
    case OD_DIM:
    case OD_SIZE: positional(l, o, t); break;
    case OD_NONE: break;
    }
}

static void arguments(Layer *l, bool call) {
    Desc *d = l->d;
    if (call) {
        d->at++;
        while (!d->failed && !model_is(d, ")")) {
            argument(l, true);
            if (!model_is(d, ")") && !model_want(d, ",")) return;
        }
        if (!d->failed) model_want(d, ")");
        return;
    }
    while (!d->failed && !model_line_ends(d)) {
        if (model_take(d, ",")) continue;
        if (!model_take(d, "from")) { argument(l, false); continue; }
        do {
            const Tok *t = model_peek(d);
            Opnd o = model_expression(d);
            if (o.kind == OD_VALUE) input_argument(l, o, t);
            else if (o.kind == OD_WORD) model_error(d, t, 201, NULL, "the name %s is not known", o.word);
            else if (!d->failed && o.kind != OD_BAD) model_error(d, t, 302, NULL, "a tensor is expected behind from");
            else d->failed = true;
        } while (!d->failed && model_take(d, ","));
    }
}

/* ---- functions: rows of the graph IR that work element by element ---- */

static Opnd function(Desc *d, const Op *op, const Tok *at) {
    Opnd arg[4];
    Value *like = NULL;
    int n = 0, min, max = op_arity(op, &min);
    Node *node = node_begin(d->g, op->name);
    for (d->at++; !d->failed && !model_is(d, ")");) {
        const Tok *t = model_peek(d);
        const char *key = t->kind == TK_WORD && t[1].kind == TK_PUNCT && !strcmp(t[1].text, "=") ? t->text : NULL;
        if (key) d->at += 2;
        Opnd o = model_expression(d);
        if (d->failed || o.kind == OD_BAD) return opnd_bad();
        int a = key ? op_attr(op, key) : -1;
        bool fits = a >= 0 && o.kind == OD_NUMBER && (op->attrs[a].kind == AT_FLOAT || (op->attrs[a].kind == AT_INT && o.whole));
        if (key && !fits) model_error(d, t, 204, NULL, "%s takes no %s like that", op->name, key);
        else if (key && op->attrs[a].kind == AT_FLOAT) node_float(node, key, o.num);
        else if (key) node_int(node, key, (int64_t)o.num);
        else if (o.kind == OD_WORD) model_error(d, t, 201, NULL, "the name %s is not known", o.word);
        else if (o.kind == OD_SIZE || n == 4 || n == max) model_error(d, t, 205, NULL, "%s takes %d inputs", op->name, max);
        else arg[n++] = o;
        if (!d->failed && !model_is(d, ")")) model_want(d, ",");
    }
    if (d->failed || !model_want(d, ")")) return opnd_bad();
    for (int i = 0; i < n && !like; i++)
        if (arg[i].kind == OD_VALUE && (i || strcmp(op->name, "where"))) like = arg[i].v[0];
    if (!like || n < min) {
        model_error(d, at, 205, NULL, like ? "%s takes %d inputs" : "%s takes a tensor", op->name, min);
        return opnd_bad();
    }
    for (int i = 0; i < n; i++) node_input(node, model_tensor(d, &arg[i], like));
    node->label = gd_format(d->c, "%s at %s", op->name, model_place(d, at->s));
    Value *v = node_finish(node);
    if (v->rank < 0) d->failed = true;
    return opnd_value(d, v);
}

/* ---- a layer ---- */

static Opnd unknown_layer(Desc *d, const char *name, const Tok *at) {
    VEC(const char *) names = {0};
    const LayerRow *row;
    for (int i = 0; (row = layer_at(i)); i++) {
        vec_push(d->c, &names, row->name);
        if (row->alias) vec_push(d->c, &names, row->alias);
    }
    for (int i = 0; i < ACTIVATIONS; i++) vec_push(d->c, &names, activations[i].name);
    const char *near = model_nearest(name, names.v, names.n);
    model_error(d, at, 401, near ? gd_format(d->c, "is it %s?", near) : "docs/model.md lists the layers", "there is no layer %s", name);
    return opnd_bad();
}

/* A block's arguments are numbers, words and tensors, by place or by name. */
static Opnd block_layer(Desc *d, const char *name, const Tok *at, bool call) {
    Opnd arg[MOST_ARGS], value[MOST_ARGS];
    const char *key[MOST_ARGS];
    int n = 0, nkeys = 0;
    if (call) d->at++;
    while (!d->failed && !(call ? model_is(d, ")") : model_line_ends(d))) {
        const Tok *t = model_peek(d);
        bool named = t->kind == TK_WORD && t[1].kind == TK_PUNCT && !strcmp(t[1].text, "=");
        if (!call && model_take(d, ",")) continue;
        if (!call && model_take(d, "from")) named = false;
        if (named) d->at += 2;
        Opnd o = call ? model_expression(d) : model_primary(d);
        if (n + nkeys == MOST_ARGS) model_error(d, t, 504, NULL, "too many arguments");
        else if (named) { key[nkeys] = t->text; value[nkeys++] = o; }
        else arg[n++] = o;
        if (call && !d->failed && !model_is(d, ")")) model_want(d, ",");
    }
    if (call && !d->failed) model_want(d, ")");
    return d->failed ? opnd_bad() : model_use_block(d, name, at, n, arg, nkeys, key, value);
}

/* Inputs that are left out: the result of the statement before is the first. */
static bool complete(Layer *l) {
    Desc *d = l->d;
    if (l->nin < l->row->min && d->it.kind == OD_VALUE) {
        for (int i = l->nin; i > 0; i--) l->in[i] = l->in[i - 1];
        l->in[0] = d->it.v[0];
        l->nin++;
    }
    if (l->nin >= l->row->min) return true;
    if (d->it.kind == OD_BAD) d->failed = true;
    else if (!l->nin) layer_error(l, 205, "an input statement comes first", "there is nothing to apply it to");
    else layer_error(l, 205, NULL, "it takes at least %d inputs", l->row->min);
    return false;
}

Opnd model_layer(Desc *d, const char *name, const Tok *at, bool call) {
    int errors = gd_error_count(d->c);
    const LayerRow *row = layer_named(name);
    if (model_block(d, name)) return block_layer(d, name, at, call);
    if (!row && layer_activation(name)) row = &activation_row;
    const Op *op = row ? NULL : op_named(name);
    if (!row && call && op && op->kind == OP_MAP) return function(d, op, at);
    if (!row) return unknown_layer(d, name, at);
    Layer l = {.d = d, .g = d->g, .c = d->c, .row = row, .at = at, .nout = 1, .alpha = NAN};
    if (row == &activation_row) l.activation = name;
    arguments(&l, call);
    if (d->failed || !complete(&l)) return opnd_bad();
    const char *outer = d->g->label;
    d->g->label = gd_format(d->c, "%s at %s", name, model_place(d, at->s));
    (row->make)(&l);
    if (row->activates && l.activation && !d->failed && l.out[0]) l.out[0] = layer_activate(&l, l.activation, l.alpha, l.out[0]);
    d->g->label = outer;
    if (gd_error_count(d->c) > errors) d->failed = true;
    if (d->failed) return opnd_bad();
    Opnd o = {.kind = OD_VALUE, .nv = l.nout, .v = gd_new_array(d->c, Value *, l.nout)};
    for (int i = 0; i < l.nout; i++) {
        o.v[i] = l.out[i];
        if (!l.out[i] || l.out[i]->rank < 0) return opnd_bad();
    }
    return o;
}
