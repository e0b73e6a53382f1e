/* cse: equal nodes become one.

   Needs: nodes in order.
   Promises: no two nodes that one of them could see have the same op, attributes and inputs; nodes with an
   effect or regions of their own, random ones and those that define symbols are left alone. Constants made by
   the compiler that are equal in type and bytes become one; the model's own stay apart: two parameters may be
   equal only at first. Nodes are visited once, after their inputs, so it ends.

     a = add x, y
     b = add y, x          ->     a = add x, y
     c = mul a, b                 c = mul a, a */
#include "passes.h"
#include "op.h"

typedef struct Key {
    Ctx *c;
    char *s;
    size_t n, cap;
} Key;
typedef struct Seen {
    struct Seen *outer;
    Map *nodes;
} Seen; /* one a graph; a region sees those around it */
typedef struct Cse {
    Ctx *c;
    Map *with;
    Key key;
} Cse;

static void key_put(Key *k, const void *bytes, size_t n) {
    if (k->n + n > k->cap) {
        char *more = gd_alloc(k->c, k->cap = 2 * (k->n + n) + 256);
        if (k->n) memcpy(more, k->s, k->n);
        k->s = more;
    }
    if (n) memcpy(k->s + k->n, bytes, n);
    k->n += n;
}
#define key_add(k, x) key_put((k), &(x), sizeof(x))

static void key_attr(Key *k, const Attr *a) {
    key_add(k, a->kind);
    switch (a->kind) {
    case AT_NONE: break;
    case AT_INT:
    case AT_DTYPE: key_add(k, a->i); break;
    case AT_FLOAT: key_add(k, a->f); break;
    case AT_STRING: key_put(k, a->s, strlen(a->s) + 1); break;
    case AT_DIM: key_add(k, a->dim); break;
    case AT_INTS:
        key_add(k, a->n);
        key_put(k, a->ints, (size_t)a->n * sizeof *a->ints);
        break;
    case AT_FLOATS:
        key_add(k, a->n);
        key_put(k, a->floats, (size_t)a->n * sizeof *a->floats);
        break;
    case AT_DIMS:
        key_add(k, a->n);
        key_put(k, a->dims, (size_t)a->n * sizeof *a->dims);
        break;
    case AT_SYMS: break;
    }
}

static bool comparable(const Node *n) {
    if (n->nregions || n->op->kind == OP_RANDOM || (n->op->flags & OF_EFFECT)) return false;
    for (int i = 0; i < MAX_ATTRS; i++)
        if (n->attr[i].kind == AT_SYMS) return false;
    return true;
}

static void node_key(Key *k, const Node *n) {
    k->n = 0;
    key_add(k, n->op);
    for (int i = 0; i < MAX_ATTRS; i++) key_attr(k, &n->attr[i]);
    int first = 0;
    if ((n->op->flags & OF_COMMUTES) && n->nin >= 2 && n->in[0]->id > n->in[1]->id) {
        key_add(k, n->in[1]);
        key_add(k, n->in[0]);
        first = 2;
    }
    if (n->nin > first) key_put(k, n->in + first, (size_t)(n->nin - first) * sizeof *n->in);
}

static Node *find(const Seen *s, const Key *k) {
    for (; s; s = s->outer) {
        Node *n = map_get(s->nodes, k->s, k->n);
        if (n) return n;
    }
    return NULL;
}

static Value *now(const Cse *k, Value *v) {
    Value *to = v ? map_getp(k->with, v) : NULL;
    return to ? to : v;
}

static void merge(Cse *k, Graph *g, Seen *outer) {
    Seen seen = {outer, map_new(k->c)};
    int kept = 0;
    for (int i = 0; i < g->nodes.n; i++) {
        Node *n = g->nodes.v[i], *same = NULL;
        for (int j = 0; j < n->nin; j++) n->in[j] = now(k, n->in[j]);
        for (int j = 0; j < n->nregions; j++) merge(k, n->region[j], &seen);
        if (comparable(n)) {
            node_key(&k->key, n);
            same = find(&seen, &k->key);
            if (!same) map_put(seen.nodes, k->key.s, k->key.n, n);
        }
        if (!same) g->nodes.v[kept++] = n;
        for (int j = 0; same && j < n->nout; j++) map_putp(k->with, n->out[j], same->out[j]);
    }
    g->nodes.n = kept;
    for (int i = 0; i < g->out.n; i++) g->out.v[i] = now(k, g->out.v[i]);
}

/* The first constants with these bytes. Long ones are compared in full only when they begin alike. */
static void merge_constants(Cse *k, Graph *g) {
    enum { BEGIN = 256 };
    Map *known = map_new(k->c);
    for (int i = 0; i < g->consts.n; i++) {
        Value *v = g->consts.v[i];
        int64_t dims[MAX_RANK], n = gd_dtypes[v->dt].bytes;
        if (v->source >= 0 || v->dt == STRING || !value_static(v, dims)) continue;
        for (int a = 0; a < v->rank; a++) n *= dims[a];
        k->key.n = 0;
        key_add(&k->key, v->dt);
        key_add(&k->key, v->rank);
        key_put(&k->key, dims, (size_t)v->rank * sizeof *dims);
        key_put(&k->key, v->data, (size_t)(n < BEGIN ? n : BEGIN));
        Value *same = map_get(known, k->key.s, k->key.n);
        if (!same) map_put(known, k->key.s, k->key.n, v);
        else if (!memcmp(same->data, v->data, (size_t)n)) map_putp(k->with, v, same);
    }
}

void pass_cse(Graph *g, const PassOptions *o) {
    (void)o;
    Cse k = {.c = g->c, .with = map_new(g->c), .key = {.c = g->c}};
    merge_constants(&k, g);
    merge(&k, g, NULL);
}
