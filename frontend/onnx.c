/* An ONNX model becomes a graph: names are resolved, functions of the model put in place of their calls, and
   every node is handed to the import function of its op's row.

   All problems of a model come out at once: what a faulty node should have made is a value of unknown shape
   (rank -1), and nodes that use one are passed over in silence. The caller gets a graph only when there was
   no error.

   Terminates: each node is imported once for each call of the function it is in, calls are nested at most
   MAX_NEST deep, and m->nodes is held against the budget. */
#include "onnxgraph.h"
#include <limits.h>

static const char *esc(Model *m, const char *s) { return gd_escape(m->c, s, strlen(s)); }

/* ---- names ---- */

static Value *unknown(Scope *s) {
    Value *v = value_new(s->g, F32, 0, NULL);
    v->rank = -1;
    return v;
}
static bool is_unknown(const Value *v) { return v && v->rank < 0 && !v->sequence; }

/* Every name of a graph is made once. */
static void claim(Model *m, Scope *s, const char *name, const char *maker) {
    const char *first = map_gets(s->makers, name);
    if (first) gd_error(m->c, 202, NULL, "\"%s\" is made twice: by %s and by %s", esc(m, name), first, maker);
    else map_puts(s->makers, name, (void *)maker);
}

static void define(Scope *s, const char *name, Value *v) { map_puts(s->values, name, v); }

/* The value of a name; NULL for one that a function's caller left out. user is who asks. */
Value *onnx_resolve(Model *m, Scope *s, const char *name, const char *user) {
    for (Scope *at = s; at; at = at->outer) {
        if (map_has(at->values, name, strlen(name))) return map_gets(at->values, name);
        const char *maker = map_gets(at->makers, name);
        if (!maker) continue;
        gd_error(m->c, 203, "nodes must stand in an order in which every value is made before it is used",
                 "%s uses \"%s\" before %s makes it", user, esc(m, name), maker);
        define(at, name, unknown(at));
        return map_gets(at->values, name);
    }
    gd_error(m->c, 201, NULL, "%s uses \"%s\", which nothing makes", user, esc(m, name));
    define(s, name, unknown(s)); /* said once */
    return map_gets(s->values, name);
}

const char *onnx_node_label(Model *m, const Scope *s, const PbNode *p, size_t index) {
    const char *op = *p->domain && strcmp(p->domain, "ai.onnx")
                         ? gd_format(m->c, "%s.%s", p->domain, p->op_type)
                         : p->op_type;
    if (!*p->name) return gd_format(m->c, "%s%zu %s", s->path, index, esc(m, op));
    return gd_format(m->c, "%s%zu %s \"%s\"", s->path, index, esc(m, op), esc(m, p->name));
}

/* ---- versions ---- */

static const char *domain_of(const char *domain) { return strcmp(domain, "ai.onnx") ? domain : ""; }

static void read_opsets(Model *m, Map *opsets, PbOpset *const *v, size_t n, bool report) {
    static const struct {
        const char *domain;
        int newest;
    } known[] = {{"", 28}, {"ai.onnx.ml", 5}, {"ai.onnx.preview.training", 1}};
    for (size_t i = 0; i < n; i++) {
        const char *domain = domain_of(v[i]->domain);
        int64_t version = v[i]->version, newest = INT_MAX;
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (!strcmp(known[k].domain, domain)) newest = known[k].newest;
        const char *name = *domain ? esc(m, domain) : "ai.onnx";
        if (version < 1 && report)
            gd_error(m->c, 204, NULL, "opset %lld of %s does not exist", (long long)version, name);
        if (version > newest && report)
            gd_error(m->c, 401, gd_format(m->c, "export the model for opset %d or older", (int)newest),
                     "opset %lld of %s is newer than what this program knows", (long long)version, name);
        if (version < 1) version = 1;
        map_puts(opsets, domain, (void *)(intptr_t)(version < newest ? version : newest));
    }
}

static int opset_of(Model *m, Scope *s, const char *domain) {
    int version = (int)(intptr_t)map_gets(s->opsets, domain);
    if (version) return version;
    if (!*domain && m->pb->ir_version >= 3)
        gd_error(m->c, 204, "opset_import must name the version of every domain that is used",
                 "the model does not say which opset of ai.onnx it is made for");
    map_puts(s->opsets, domain,
             (void *)(intptr_t)1); /* files of IR versions 1 and 2 mean opset 1; and said once */
    return 1;
}

static const char *function_key(Ctx *c, const char *domain, const char *name, const char *overload) {
    return gd_format(c, "%s\n%s\n%s", domain_of(domain), name, overload);
}

static const char *remedy(Model *m, const char *domain, const char *op) {
    const Op *other = op_onnx(domain, op, INT_MAX);
    if (other)
        return gd_format(m->c, "the form of opset %d and later is supported: convert the model",
                         other->since);
    if (*domain && op_onnx("", op, INT_MAX))
        return gd_format(m->c, "the standard operator %s is supported: export the model without this domain",
                         esc(m, op));
    return "have it exported as a function of standard operators; `gradc ops` lists what is supported";
}

/* What a node means: a row, or a function of the model. False after an error. */
static bool find_op(Model *m, Scope *s, const PbNode *p, const char *label, const Op **op,
                    const PbFunction **f) {
    const char *domain = domain_of(p->domain);
    int opset = opset_of(m, s, domain);
    *op = op_onnx(domain, p->op_type, opset);
    *f = *op ? NULL : map_gets(m->functions, function_key(m->c, p->domain, p->op_type, p->overload));
    if (*op || *f) return true;
    gd_error(m->c, 401, remedy(m, domain, p->op_type),
             "node %s: operator %s%s%s of opset %d is not supported", label, esc(m, domain),
             *domain ? "." : "", esc(m, p->op_type), opset);
    return false;
}

/* Operators that are not supported, in the graphs of a node that is not imported. */
static void look_over(Model *m, Scope *s, const PbNode *p, const char *label) {
    for (size_t i = 0; i < p->n_attribute; i++) {
        const PbGraph *g = p->attribute[i]->g;
        Scope inner = *s;
        inner.path =
            gd_format(m->c, "%.*s.%s/", (int)strcspn(label, " "), label, esc(m, p->attribute[i]->name));
        for (size_t k = 0; g && k < g->n_node; k++) {
            const Op *op;
            const PbFunction *f;
            const char *at = onnx_node_label(m, &inner, g->node[k], k);
            find_op(m, s, g->node[k], at, &op, &f);
            look_over(m, &inner, g->node[k], at);
        }
    }
}

/* ---- constants ---- */

static void define_constant(Model *m, Scope *s, const char *name, bool ok, const GradcTensor *t) {
    Value *v = ok ? graph_const(s->g, (DType)t->dtype, t->rank, t->dims, t->data) : unknown(s);
    v->label = esc(m, name);
    v->source = m->consts++;
    define(s, name, ok ? onnx_state(m, s, name, v) : v);
}

static void initializers(Model *m, Scope *s, const PbGraph *g) {
    GradcTensor t;
    for (size_t i = 0; i < g->n_initializer; i++) {
        PbTensor *p = g->initializer[i];
        const char *what = gd_format(m->c, "initializer \"%s\"", esc(m, p->name));
        claim(m, s, p->name, what);
        define_constant(m, s, p->name, pb_tensor(m->src, p, what, &t), &t);
    }
    for (size_t i = 0; i < g->n_sparse_initializer; i++) {
        PbSparse *p = g->sparse_initializer[i];
        const char *name = p->values ? p->values->name : "",
                   *what = gd_format(m->c, "initializer \"%s\"", esc(m, name));
        claim(m, s, name, what);
        define_constant(m, s, name, pb_sparse(m->src, p, what, &t), &t);
    }
}

static void add_hints(Map *h, const PbGraph *g) {
    for (size_t i = 0; i < g->n_value_info; i++) map_puts(h, g->value_info[i]->name, g->value_info[i]);
    for (size_t i = 0; i < g->n_output; i++) map_puts(h, g->output[i]->name, g->output[i]);
}

static Map *hints(Model *m, const PbGraph *g) {
    Map *h = map_new(m->c);
    add_hints(h, g);
    return h;
}

/* ---- nodes ---- */

static void walk_nodes(Model *m, Scope *s, PbNode *const *node, size_t n);

/* Values made since a node began have sizes, and the node's label where they have no name. */
static void check_sizes(Model *m, Graph *g, int from, const char *label) {
    for (int i = from; i < g->nodes.n; i++)
        for (int k = 0; k < g->nodes.v[i]->nout; k++) {
            Value *v = g->nodes.v[i]->out[k];
            int64_t bytes = gd_dtypes[v->dt].bytes, d;
            for (int a = 0; a < v->rank; a++)
                if (is_int(v->dim[a], &d) && d > 0 && __builtin_mul_overflow(bytes, d, &bytes)) {
                    gd_error(m->c, 505, NULL, "node %s: the size of %s overflows", label,
                             value_type_text(m->c, v));
                    v->rank = -1;
                }
        }
}

static void check_attributes(Model *m, const Op *op, Import *n) {
    static const char *const harmless[] = {"consumed_inputs", "training_mode", "is_test", "kernel_shape"};
    for (int i = 0; i < n->nattr; i++) {
        bool known = n->attr[i].used || op_attr(op, n->attr[i].name) >= 0;
        for (size_t k = 0; k < sizeof harmless / sizeof *harmless; k++)
            known |= !strcmp(harmless[k], n->attr[i].name);
        if (!known)
            gd_error(m->c, 204, "leave it out, or say the opset that has it",
                     "node %s: %s of opset %d has no attribute %s", n->label, esc(m, n->op), n->opset,
                     esc(m, n->attr[i].name));
    }
}

/* What is known of a region's argument is known of it inside too. */
static Expr **known_elems(Graph *g, const Value *x) {
    int64_t n;
    if (!value_known(x) || !is_int(value_count(g->c, x), &n)) return NULL;
    Expr **e = gd_new_array(g->c, Expr *, n ? n : 1);
    for (int64_t i = 0; i < n; i++) e[i] = value_elem(g, x, i);
    return e;
}

/* The graph of an attribute; its inputs are of the types of like. NULL when the attribute is missing or no
   graph. */
static Graph *make_region(Import *n, const ImportAttr *a, int nargs, Value *const *like) {
    Model *m = n->front;
    if (!a || a->kind != IM_GRAPH) {
        import_error(n, 204, NULL, "a graph is missing among the attributes");
        return NULL;
    }
    const Subgraph *sub = a->graph;
    const PbGraph *pb = sub->pb;
    Scope s = {.outer = sub->scope,
               .g = graph_region(n->g),
               .values = map_new(m->c),
               .makers = map_new(m->c),
               .opsets = sub->scope->opsets,
               .hints = hints(m, pb),
               .attrs = sub->scope->attrs,
               .path = sub->path};
    if (++m->depth > MAX_NEST)
        gd_fail(m->c, 504, NULL, "node %s: graphs are nested more than %d deep", n->label, MAX_NEST);
    if ((int)pb->n_input != nargs)
        import_error(n, 205, NULL, "the graph %s has %zu inputs, not %d", esc(m, a->name), pb->n_input,
                     nargs);
    for (size_t i = 0; i < pb->n_input; i++) {
        const char *name = pb->input[i]->name;
        const Value *x = (int)i < nargs ? like[i] : NULL;
        Value *v = graph_input(s.g, esc(m, name), x ? x->dt : F32, x ? x->rank : 0, x ? x->dim : NULL);
        if (x) {
            v->sequence = x->sequence;
            v->optional = x->optional;
            v->elems = known_elems(n->g, x);
        } else v->rank = -1;
        claim(m, &s, name, "an input");
        define(&s, name, v);
    }
    initializers(m, &s, pb);
    walk_nodes(m, &s, pb->node, pb->n_node);
    for (size_t i = 0; i < pb->n_output; i++) {
        const char *name = pb->output[i]->name;
        graph_output(s.g, esc(m, name),
                     onnx_resolve(m, &s, name, gd_format(m->c, "output \"%s\" of a graph", esc(m, name))));
    }
    m->depth--;
    return s.g;
}

/* ---- functions of the model ---- */

static bool function_has(const PbFunction *f, const char *attr) {
    for (size_t i = 0; i < f->n_attribute; i++)
        if (!strcmp(f->attribute[i], attr)) return true;
    for (size_t i = 0; i < f->n_attribute_proto; i++)
        if (!strcmp(f->attribute_proto[i]->name, attr)) return true;
    return false;
}

static void bind(Model *m, Scope *inner, const char *name, PbAttr *a, Scope *where) {
    BoundAttr *b = gd_new(m->c, BoundAttr);
    *b = (BoundAttr){a, where};
    map_puts(inner->attrs, name, b);
}

/* Attributes of the call, with the function's defaults under them. A reference keeps its own name in the
   body. */
static void bind_attributes(Model *m, Scope *s, Scope *inner, const PbNode *p, const PbFunction *f,
                            const char *label) {
    for (size_t i = 0; i < f->n_attribute_proto; i++)
        bind(m, inner, f->attribute_proto[i]->name, f->attribute_proto[i], inner);
    for (size_t i = 0; i < p->n_attribute; i++) {
        PbAttr *a = p->attribute[i];
        Scope *where;
        PbAttr *given = attr_resolve(s, a, &where);
        if (!function_has(f, a->name))
            gd_error(m->c, 204, NULL, "node %s: the function has no attribute %s", label, esc(m, a->name));
        if (given) bind(m, inner, a->name, given, where);
    }
}

static void call_function(Model *m, Scope *s, const PbNode *p, const PbFunction *f, Import *n) {
    Scope inner = {.g = s->g,
                   .values = map_new(m->c),
                   .makers = map_new(m->c),
                   .opsets = map_new(m->c),
                   .attrs = map_new(m->c)};
    inner.path = gd_format(m->c, "%.*s/", (int)strcspn(n->label, " "), n->label);
    if (++m->depth > MAX_NEST)
        gd_fail(m->c, 504, "a function may not call itself",
                "node %s: functions are nested more than %d deep", n->label, MAX_NEST);
    read_opsets(m, inner.opsets, m->pb->opset_import, m->pb->n_opset_import, false);
    read_opsets(m, inner.opsets, f->opset_import, f->n_opset_import, false);
    bind_attributes(m, s, &inner, p, f, n->label);
    if (n->nin > (int)f->n_input || n->nout > (int)f->n_output)
        import_error(n, 205, NULL, "the function has %zu inputs and %zu outputs, not %d and %d", f->n_input,
                     f->n_output, n->nin, n->nout);
    for (size_t i = 0; i < f->n_input; i++) {
        claim(m, &inner, f->input[i], "an input");
        define(&inner, f->input[i], import_in(n, (int)i));
    }
    walk_nodes(m, &inner, f->node, f->n_node);
    for (int i = 0; i < n->nout && i < (int)f->n_output; i++)
        if (n->wanted[i])
            n->out[i] =
                onnx_resolve(m, &inner, f->output[i], gd_format(m->c, "the function of node %s", n->label));
    m->depth--;
}

/* ---- one node ---- */

static int without_empty(char *const *name, size_t n) {
    while (n && !*name[n - 1]) n--;
    return (int)n;
}

static void define_outputs(Model *m, Scope *s, const PbNode *p, Import *n, bool failed) {
    for (int i = 0; i < n->nout; i++) {
        if (!n->wanted[i]) continue;
        Value *v = failed ? NULL : n->out[i];
        if (!v && !failed)
            import_error(n, 402, "leave the output out", "output %d (\"%s\") is not supported", i,
                         esc(m, p->output[i]));
        if (!v) v = unknown(s);
        if (!v->label && !is_unknown(v)) v->label = esc(m, p->output[i]);
        const PbValueInfo *hint = s->hints ? map_gets(s->hints, p->output[i]) : NULL;
        if (hint) type_hint(m, s->g, v, hint);
        define(s, p->output[i], v);
    }
}

/* A node that is imported again draws the same random numbers. */
static int64_t *seed_of(Model *m, const char *label) {
    int64_t *seed = m->seeds ? map_gets(m->seeds, label) : NULL;
    if (m->seeds && !seed) map_puts(m->seeds, label, seed = gd_new(m->c, int64_t));
    return seed;
}

void onnx_import_node(Model *m, Scope *s, const PbNode *p, const char *label) {
    Ctx *c = m->c;
    const Op *op;
    const PbFunction *f;
    int errors = gd_error_count(c), nin = without_empty(p->input, p->n_input),
        nout = without_empty(p->output, p->n_output);
    bool *wanted = gd_new_array(c, bool, nout ? nout : 1), known = true;
    Import n = {.g = s->g,
                .op = p->op_type,
                .domain = domain_of(p->domain),
                .nin = nin,
                .nout = nout,
                .wanted = wanted,
                .label = label,
                .region = make_region,
                .retrace = onnx_retrace,
                .scope = s,
                .seed = seed_of(m, label),
                .front = m};
    n.in = gd_new_array(c, Value *, nin ? nin : 1);
    n.out = gd_new_array(c, Value *, nout ? nout : 1);
    for (int i = 0; i < nout; i++) wanted[i] = *p->output[i] != 0;
    for (int i = 0; i < nin; i++) {
        n.in[i] = *p->input[i] ? onnx_resolve(m, s, p->input[i], gd_format(c, "node %s", label)) : NULL;
        known = known && !is_unknown(n.in[i]);
    }
    bool found = find_op(m, s, p, label, &op, &f);
    n.opset = opset_of(m, s, n.domain);
    if (found && f) call_function(m, s, p, f, &n);
    else if (found && known && attrs_convert(m, s, label, p, &n)) {
        const char *outer = s->g->label;
        int first = s->g->nodes.n;
        s->g->label = label;
        if (op->import) op->import(&n);
        else import_default(&n, op);
        s->g->label = outer;
        check_sizes(m, s->g, first, label);
        if (gd_error_count(c) == errors) check_attributes(m, op, &n);
    } else look_over(m, s, p, label);
    define_outputs(m, s, p, &n, gd_error_count(c) > errors || (!f && !known));
}

static void walk_nodes(Model *m, Scope *s, PbNode *const *node, size_t n) {
    const char **label = gd_new_array(m->c, const char *, n ? n : 1);
    s->nodes = node;
    for (size_t i = 0; i < n; i++) {
        label[i] = onnx_node_label(m, s, node[i], i);
        const char *maker = gd_format(m->c, "node %s", label[i]);
        for (size_t k = 0; k < node[i]->n_output; k++)
            if (*node[i]->output[k]) claim(m, s, node[i]->output[k], maker);
    }
    for (size_t i = 0; i < n; i++) {
        if (++m->nodes > gd_budget(m->c)->max_nodes)
            gd_fail(m->c, 502, "raise it with --max-nodes", "more than %lld nodes",
                    (long long)gd_budget(m->c)->max_nodes);
        gd_check_time(m->c);
        s->at = i;
        onnx_import_node(m, s, node[i], label[i]);
    }
}

/* ---- the model ---- */

/* What stands for input number i: a constant that the caller gives, or an input of the graph. */
static Value *input(Model *m, Scope *s, const PbValueInfo *v, int i) {
    const GradcTensor *t = i < m->o->ngiven ? m->o->given[i] : NULL;
    if (!t) return type_input(m, s->g, v);
    Value *known = graph_const(s->g, (DType)t->dtype, t->rank, t->dims, t->data);
    known->label = esc(m, v->name);
    return type_agrees(m, gd_format(m->c, "input \"%s\"", known->label), known, v->type, true) ? known : NULL;
}

/* An input with an initializer of its name has a default: it is taken for the constant that it nearly always
   is. */
static void inputs(Model *m, Scope *s, const PbGraph *g) {
    int count = 0;
    for (size_t i = 0; i < g->n_input; i++) {
        const PbValueInfo *v = g->input[i];
        const char *name = esc(m, v->name);
        Value *known = map_gets(s->values, v->name);
        if (known && !strncmp(map_gets(s->makers, v->name), "init", 4)) {
            if (!is_unknown(known)) type_agrees(m, gd_format(m->c, "input \"%s\"", name), known, v->type, true);
            map_puts(s->makers, v->name, "an input");
            continue;
        }
        claim(m, s, v->name, "an input");
        Value *in = input(m, s, v, count++);
        define(s, v->name, in ? in : unknown(s));
    }
}

static void outputs(Model *m, Scope *s, const PbGraph *g) {
    for (size_t i = 0; i < g->n_output; i++) {
        const PbValueInfo *p = g->output[i];
        const char *name = esc(m, p->name), *what = gd_format(m->c, "output \"%s\"", name);
        Value *v = onnx_resolve(m, s, p->name, what);
        if (is_unknown(v)) continue;
        if (v->sequence || v->optional) {
            gd_error(m->c, 402, "make tensors of it: SequenceAt, ConcatFromSequence",
                     "%s is a sequence or an optional", what);
            continue;
        }
        type_agrees(m, what, v, p->type, false); /* exporters are careless with its shape */
        graph_output(s->g, name, v);
    }
    if (!g->n_output) gd_error(m->c, 205, NULL, "the graph has no output");
}

static void functions(Model *m) {
    for (size_t i = 0; i < m->pb->n_functions; i++) {
        PbFunction *f = m->pb->functions[i];
        const char *key = function_key(m->c, f->domain, f->name, f->overload);
        if (map_gets(m->functions, key))
            gd_error(m->c, 202, NULL, "function %s stands twice", esc(m, f->name));
        map_puts(m->functions, key, f);
        read_opsets(m, map_new(m->c), f->opset_import, f->n_opset_import, true);
    }
}

void onnx_body(Model *m, Scope *s, const PbGraph *g, const PbGraph *more) {
    size_t n = g->n_node + (more ? more->n_node : 0);
    PbNode **node = gd_new_array(m->c, PbNode *, n ? n : 1);
    for (size_t i = 0; i < n; i++) node[i] = i < g->n_node ? g->node[i] : more->node[i - g->n_node];
    initializers(m, s, g);
    if (more) initializers(m, s, more);
    inputs(m, s, g);
    if (more) inputs(m, s, more);
    if (!m->constants) dims_finish(m);
    if (more && s->hints) add_hints(s->hints, more);
    walk_nodes(m, s, node, n);
}

Graph *onnx_graph(Ctx *c, PbModel *pb, const char *path, const char *name, const FrontOptions *o) {
    int errors = gd_error_count(c);
    Model m = {.c = c,
               .pb = pb,
               .o = o,
               .src = pb_source(c, path),
               .named = map_new(c),
               .hinted = map_new(c),
               .functions = map_new(c)};
    Scope s = {.g = graph_new(c, name),
               .values = map_new(c),
               .makers = map_new(c),
               .opsets = map_new(c),
               .hints = hints(&m, pb->graph),
               .path = ""};
    s.g->training = o->training && !(pb->n_training_info && o->own != OWN_NONE); /* its own algorithm is meant as written */
    dims_read(&m);
    read_opsets(&m, s.opsets, pb->opset_import, pb->n_opset_import, true);
    if (map_gets(s.opsets, "ai.onnx.preview.training")) m.seeds = map_new(c);
    functions(&m);
    onnx_training_begin(&m);
    const PbGraph *algorithm = onnx_algorithm(&m);
    s.g->draws = algorithm != NULL;
    onnx_body(&m, &s, pb->graph, algorithm);
    outputs(&m, &s, pb->graph);
    int shown = s.g->out.n;
    if (algorithm) outputs(&m, &s, algorithm);
    onnx_training_end(&m, &s, shown);
    if (gd_error_count(c) > errors) gd_leave(c);
    return s.g;
}
