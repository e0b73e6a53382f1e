/* elide: a copy into the caller's memory at the end is left out where what is copied may be computed there at once.

   Needs: a program fresh from lowering, nests in order. Promises: for a nest that only copies a temporary, whole and in
   order, to an output, the temporary becomes a view of the output and the copy is gone, if
   * the output is stored by that nest alone, and the temporary is not stored after it;
   * from the first nest that stores the temporary on, nobody reads the output, except that nest, where it is the only one
     that stores the temporary and reads each element before the same place is written (may_replace).
   This is how a state's new value is written over the old one: the output then is the state itself. Every copy is looked at
   once, so it ends.

     nest sgd  { for i in 9: t5[i] = out0[i] - 0.1 * t4[i] }        nest sgd { for i in 9: out0[i] = out0[i] - 0.1 * t4[i] }
     nest copy { for i in 9: out0[i] = t5[i] }                 -> */
#include "arena.h"
#include "nest.h"

static bool same_exprs(int n, Expr *const *a, Expr *const *b) {
    for (int i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

/* The store of a nest that is nothing but `to[i, ..] = from[i, ..]` over all of both; NULL: it is something else. */
static Stmt *whole_copy(Program *p, Stmt *nest) {
    if (nest->kind != S_NEST || nest->body.n != 1) return NULL;
    Stmt *s = nest->body.v[0];
    Expr *count = expr_int(p->c, 1);
    for (; s->kind == S_FOR && s->free && s->body.n == 1; s = s->body.v[0]) count = expr_mul(p->c, count, s->e);
    if (s->kind != S_STORE || s->mask || s->e->kind != E_LOAD) return NULL;
    Buf *to = s->buf, *from = s->e->buf;
    bool plain = to->space == SP_OUT && from->space == SP_ARENA && !to->base && !from->base && !to->stride && !from->stride;
    if (!plain || to->dt != from->dt || to->rank != from->rank || s->e->nargs != from->rank) return NULL;
    bool same = same_exprs(to->rank, to->dim, from->dim) && same_exprs(to->rank, s->index, s->e->arg);
    return same && count == buf_size(p->c, to) ? s : NULL;
}

typedef struct Touch { bool loads_out, stores_out, stores_temp; } Touch;

static Touch touch(Program *p, Stmt *s, const Buf *out, const Buf *temp) {
    Touch t = {0};
    Accesses all = {0};
    Block one = {0};
    vec_push(p->c, &one, s);
    nest_accesses(p, &one, &all);
    for (int i = 0; i < all.n; i++) {
        const Buf *root = buf_root(all.v[i].buf);
        t.loads_out |= root == out && all.v[i].load;
        t.stores_out |= root == out && !all.v[i].load;
        t.stores_temp |= root == temp && !all.v[i].load;
    }
    return t;
}

static bool may_elide(Program *p, int copy, const Buf *out, const Buf *temp) {
    int stored = 0, reads = -1, first = -1;
    for (int i = 0; i < p->body.n; i++) {
        if (i == copy) continue;
        if (p->body.v[i]->kind == S_ALLOC && p->body.v[i]->buf == out) return false; /* its place is found late */
        Touch t = touch(p, p->body.v[i], out, temp);
        if (t.stores_out || (t.stores_temp && i > copy)) return false;
        stored += t.stores_temp;
        if (t.stores_temp && first < 0) first = i;
        if (t.loads_out) reads = i;
    }
    if (first < 0 || reads < first) return first >= 0;
    const Stmt *nest = p->body.v[first];
    return reads == first && stored == 1 && nest->kind == S_NEST && may_replace(p->c, nest, out, temp);
}

static void forget(Program *p, const Buf *b) {
    int n = 0;
    for (int i = 0; i < p->bufs.n; i++)
        if (p->bufs.v[i] != b) p->bufs.v[n++] = p->bufs.v[i];
    p->bufs.n = n;
}

void pass_elide(Program *p, const PassOptions *o) {
    (void)o;
    for (int i = p->body.n - 1; i >= 0; i--) {
        Stmt *s = whole_copy(p, p->body.v[i]);
        if (!s || !may_elide(p, i, s->buf, s->e->buf)) continue;
        Buf *temp = s->e->buf;
        temp->space = SP_OUT;
        temp->base = s->buf;
        temp->origin = expr_int(p->c, 0);
        forget(p, temp);
        memmove(p->body.v + i, p->body.v + i + 1, sizeof *p->body.v * (size_t)(p->body.n - i - 1));
        p->body.n--;
    }
}
