/* The reference interpreter, second half: running the code.

   Every access is checked: each index against its dim (I_INSIDE, or proved by ranges when the code was made),
   and the elements touched against the size of the storage, so that no program, however wrong, leaves its
   memory. What a buffer holds before it is written is a fixed pattern, not 0, so that reading it too early is
   seen. */
#include "interp.h"
#include <stdlib.h>

enum { GARBAGE = 0xa5, STATUS_SHAPE = 1 };

typedef struct Machine {
    Ctx *c, *s;
    const Program *p;
    Code *code;
    LoopArgs *args;
    uint64_t *r;
    char *arena;
    int64_t arena_bytes;
    const Stmt *nest;
} Machine;

/* ---- faults ---- */

static void show_variable(void *arg, Expr *e) {
    void **a = arg;
    Machine *m = a[0];
    if (e->kind != E_VAR || e->type.lanes != 1) return;
    const Slot *s = map_getp(m->code->vars, e->var);
    if (s) text_printf(a[1], " %s=%lld", e->var->name, (long long)m->r[s->at]);
}

static GD_NORETURN void outside(Machine *m, const Ins *i) {
    const Stmt *s =
        i->kind == I_STORE || i->kind == I_STORE32 || i->kind == I_STORE64 || i->kind == I_STORE_REG ? i->at
                                                                                                     : NULL;
    Expr *e = s ? expr_load(m->p->c, s->buf, s->e->type.lanes, s->index, s->mask) : (Expr *)i->at;
    Text *t = text_new(m->c);
    expr_walk(e, expr_mark(m->p->c), show_variable, (void *[]){m, t});
    gd_bug(m->c, "nest %s: %s %s is outside the buffer:%s", m->nest ? m->nest->nest->name : "-",
           s ? "store to" : "load from", expr_text(m->p->c, e), t->s);
}

/* ---- storage ---- */

static size_t bytes_of(Machine *m, const Mem *x, int64_t n) {
    int64_t bytes;
    if (n < 0) n = 0;
    if (__builtin_mul_overflow(n, (int64_t)gd_dtypes[x->buf->dt].bytes, &bytes))
        gd_fail(m->c, 505, NULL, "%s: %lld elements overflow", x->buf->name, (long long)n);
    return (size_t)bytes;
}

static void *room(Machine *m, Mem *x, Ctx *owner, size_t bytes) {
    if (x->room < bytes || !x->p) {
        x->p = gd_alloc_aligned(owner, bytes + 1);
        x->room = bytes;
    }
    (void)m;
    memset(x->p, GARBAGE, bytes);
    return x->p;
}

static void place_output(Machine *m, Mem *x) {
    void **out = &m->args->out[x->buf->port];
    if (*out) {
        x->p = *out;
        return;
    }
    x->room = 0;
    *out = room(m, x, m->c, bytes_of(m, x, x->n));
}

static void bind(Machine *m, const Ins *i) {
    Mem *x = &m->code->mem.v[i->mem];
    x->n = (int64_t)m->r[i->a] > 0 ? (int64_t)m->r[i->a] : 0;
    size_t bytes = bytes_of(m, x, x->n);
    switch (x->buf->space) {
    case SP_IN: x->p = (char *)(uintptr_t)m->args->in[x->buf->port]; break;
    case SP_OUT: place_output(m, x); break;
    case SP_CONST:
        if (!x->buf->data)
            gd_fail(m->c, 206, "print it with its data", "constant %s has no data", x->buf->name);
        x->p = (char *)(uintptr_t)x->buf->data;
        break;
    case SP_ARENA:
        if (!i->b) {
            room(m, x, m->s, bytes);
            break;
        }
        x->p = m->arena + m->r[i->b];
        if ((int64_t)m->r[i->b] < 0 || (int64_t)bytes > m->arena_bytes - (int64_t)m->r[i->b])
            gd_bug(m->c, "%s lies outside the arena", x->buf->name);
        break;
    case SP_HEAP:
    case SP_LOCAL:
    case SP_REG: gd_bug(m->c, "%s cannot be bound", x->buf->name);
    }
}

static void heap_alloc(Machine *m, Mem *x, int64_t n) {
    x->n = n > 0 ? n : 0;
    if (x->buf->space == SP_OUT) {
        place_output(m, x);
        return;
    }
    if (x->own) gd_bug(m->c, "%s is allocated twice", x->buf->name);
    size_t bytes = bytes_of(m, x, x->n);
    if (bytes >= gd_budget(m->c)->max_bytes || !(x->own = malloc(bytes + 1)))
        gd_fail(m->c, 501, "raise it with --max-memory", "%s needs %zu bytes", x->buf->name, bytes);
    x->p = x->own;
    memset(x->p, GARBAGE, bytes);
}

static void heap_free(Machine *m, Mem *x) {
    if (!x->own) gd_bug(m->c, "%s is freed but has no storage", x->buf->name);
    free(x->own);
    x->own = NULL;
    x->p = NULL;
    x->n = 0;
}

static void heap_take(Machine *m, Mem *to, Mem *from) {
    if (!from->own) gd_bug(m->c, "%s takes over %s, which has no storage", to->buf->name, from->buf->name);
    if (to->buf->space == SP_OUT) {
        to->n = from->n;
        place_output(m, to);
        memcpy(to->p, from->p, bytes_of(m, to, to->n));
        heap_free(m, from);
        return;
    }
    if (to->own) heap_free(m, to);
    to->own = from->own;
    to->p = from->p;
    to->n = from->n;
    from->own = NULL;
    from->p = NULL;
    from->n = 0;
}

static void symbol(Machine *m, const Ins *i) {
    const Var *v = i->at;
    int64_t n = (int64_t)m->r[i->a];
    if (n < v->lo || n > v->hi)
        gd_bug(m->c, "symbol %s becomes %lld, outside its range", v->name, (long long)n);
    m->r[i->dst] = (uint64_t)n;
}

/* ---- accesses that are not plain ---- */

/* How many leading lanes an access touches. */
static int active(Machine *m, const Ins *i) {
    if (i->mask == MASK_NONE) return (int)i->lanes;
    int64_t n = (int64_t)m->r[i->b];
    if (i->mask == MASK_BOOL) return n ? (int)i->lanes : 0;
    return n < 0 ? 0 : n > (int64_t)i->lanes ? (int)i->lanes : (int)n;
}

/* Element offset of an access of n elements in storage of size elements. */
static inline int64_t offset(Machine *m, const Ins *i, int64_t n, int64_t size) {
    int64_t at = (int64_t)(m->r[i->a] + (uint64_t)i->k);
    if (at < 0 || at > size - n || (i->d && !m->r[i->d])) outside(m, i);
    return at;
}

static void load(Machine *m, const Ins *i) {
    const Mem *x = &m->code->mem.v[i->mem];
    int n = active(m, i), bytes = gd_dtypes[i->dt].bytes;
    const char *p = n ? x->p + offset(m, i, n, x->n) * bytes : NULL;
    for (int k = 0; k < (int)i->lanes; k++)
        m->r[i->dst + (uint32_t)k] = k < n ? gd_load_bits((DType)i->dt, p + k * bytes) : 0;
}

static void store(Machine *m, const Ins *i) {
    const Mem *x = &m->code->mem.v[i->mem];
    int n = active(m, i), bytes = gd_dtypes[i->dt].bytes;
    char *p = n ? x->p + offset(m, i, n, x->n) * bytes : NULL;
    for (int k = 0; k < n; k++) gd_store_bits((DType)i->dt, p + k * bytes, m->r[i->dst + (uint32_t)k]);
}

static void load_reg(Machine *m, const Ins *i) {
    int n = active(m, i);
    int64_t at = n ? offset(m, i, 1, i->n) : 0;
    uint64_t *to = m->r + i->dst, *from = m->r + i->mem + at * i->lanes;
    for (int k = 0; k < (int)i->lanes; k++) to[k] = k < n ? from[k] : 0;
}

static void store_reg(Machine *m, const Ins *i) {
    int n = active(m, i);
    int64_t at = n ? offset(m, i, 1, i->n) : 0;
    memmove(m->r + i->mem + at * i->lanes, m->r + i->dst, (size_t)n * sizeof *m->r);
}

static void eval_slow(uint64_t *r, const Ins *i) {
    for (uint32_t k = 0; k < i->lanes; k++) {
        uint64_t v[3] = {r[i->a + k], r[i->b + k], r[i->d + k]};
        r[i->dst + k] = gd_eval((ExprKind)i->op, (DType)i->dt, (DType)i->res, v);
    }
}

static void fill(uint64_t *to, uint32_t n, uint64_t v) {
    for (uint32_t k = 0; k < n; k++) to[k] = v;
}

/* ---- the loop ---- */

static int run(Machine *m) {
    uint64_t *r = m->r;
    Mem *mem = m->code->mem.v;
    uint32_t ticks = 0;
    for (const Ins *i = m->code->ins.v;; i++) {
        switch ((InsKind)i->kind) {
        case I_END: return 0;
        case I_NEST: m->nest = i->at; break;
        case I_CONST: fill(r + i->dst, i->lanes, (uint64_t)i->k); break;
        case I_LANES:
            for (uint32_t k = 0; k < i->lanes; k++) r[i->dst + k] = gd_to_bits((DType)i->dt, k);
            break;
        case I_COPY: memmove(r + i->dst, r + i->a, i->lanes * sizeof *r); break;
        case I_SPLAT: fill(r + i->dst, i->lanes, r[i->a]); break;
        case I_ZIP:
            for (uint32_t k = 0; k < i->lanes; k++) r[i->dst + k] = r[(k % 2 ? i->b : i->a) + (uint64_t)i->k + k / 2];
            break;
        case I_EVAL: i->fn((int)i->lanes, r + i->dst, r + i->a, r + i->b, r + i->d); break;
        case I_EVAL_SLOW: eval_slow(r, i); break;
        case I_INSIDE: r[i->dst] = r[i->a] < r[i->b] && (int64_t)r[i->b] > 0 && (!i->d || r[i->d]); break;
        case I_LOAD32: {
            const char *p = mem[i->mem].p + 4 * offset(m, i, i->lanes, mem[i->mem].n);
            for (uint32_t k = 0; k < i->lanes; k++) {
                uint32_t v;
                memcpy(&v, p + 4 * k, 4);
                r[i->dst + k] = v;
            }
            break;
        }
        case I_LOAD64:
            memcpy(r + i->dst, mem[i->mem].p + 8 * offset(m, i, i->lanes, mem[i->mem].n), 8 * i->lanes);
            break;
        case I_STORE32: {
            char *p = mem[i->mem].p + 4 * offset(m, i, i->lanes, mem[i->mem].n);
            for (uint32_t k = 0; k < i->lanes; k++) {
                uint32_t v = (uint32_t)r[i->dst + k];
                memcpy(p + 4 * k, &v, 4);
            }
            break;
        }
        case I_STORE64:
            memcpy(mem[i->mem].p + 8 * offset(m, i, i->lanes, mem[i->mem].n), r + i->dst, 8 * i->lanes);
            break;
        case I_LOAD: load(m, i); break;
        case I_STORE: store(m, i); break;
        case I_LOAD_REG: load_reg(m, i); break;
        case I_STORE_REG: store_reg(m, i); break;
        case I_FOR:
            r[i->dst] = 0;
            if ((int64_t)r[i->a] <= 0) i += i->k;
            break;
        case I_NEXT:
            if (!(++ticks & 0xfffff)) gd_check_time(m->c);
            if ((int64_t)++r[i->dst] < (int64_t)r[i->a]) i += i->k;
            break;
        case I_JUMP:
            if (i->k < 0 && !(++ticks & 0xfffff)) gd_check_time(m->c);
            i += i->k;
            break;
        case I_UNLESS:
            if (!r[i->a]) i += i->k;
            break;
        case I_CHECK:
            if (!r[i->a]) return (int)i->k;
            break;
        case I_FORGET: fill(r + i->dst, i->lanes, (uint64_t)i->k); break;
        case I_SYMBOL: symbol(m, i); break;
        case I_ARENA:
            m->arena_bytes = (int64_t)r[i->a];
            m->arena = gd_alloc_aligned(m->s, (size_t)(m->arena_bytes > 0 ? m->arena_bytes : 0) + 1);
            memset(m->arena, GARBAGE, (size_t)(m->arena_bytes > 0 ? m->arena_bytes : 0));
            break;
        case I_BIND: bind(m, i); break;
        case I_LOCAL:
            mem[i->mem].n = (int64_t)r[i->a];
            if (mem[i->mem].n < 0 || bytes_of(m, &mem[i->mem], mem[i->mem].n) > mem[i->mem].room)
                gd_bug(m->c, "%s is larger than its bound", mem[i->mem].buf->name);
            memset(mem[i->mem].p, GARBAGE, bytes_of(m, &mem[i->mem], mem[i->mem].n));
            break;
        case I_ALLOC: heap_alloc(m, &mem[i->mem], (int64_t)r[i->a]); break;
        case I_FREE: heap_free(m, &mem[i->mem]); break;
        case I_TAKE: heap_take(m, &mem[i->mem], &mem[i->k]); break;
        }
    }
}

int interp_run(Ctx *c, Ctx *s, const Program *p, Code *code, LoopArgs *a) {
    Machine m = {
        .c = c, .s = s, .p = p, .code = code, .args = a, .r = gd_new_array(s, uint64_t, code->slots)};
    for (int i = 0; i < p->syms.n; i++) {
        const Var *v = p->syms.v[i];
        const Slot *slot = map_getp(code->vars, v);
        if (v->data) {
            m.r[slot->at] = (uint64_t)-1;
            continue;
        }
        if (a->syms[i] < v->lo || a->syms[i] > v->hi) return STATUS_SHAPE;
        m.r[slot->at] = (uint64_t)a->syms[i];
    }
    int status = run(&m);
    for (int i = 0; i < p->syms.n; i++) {
        const Slot *slot = map_getp(code->vars, p->syms.v[i]);
        if (p->syms.v[i]->data) a->syms[i] = (int64_t)m.r[slot->at];
    }
    return status;
}

/* ---- the door: all that a run needs lies in a Ctx of its own ---- */

typedef struct Run {
    Ctx *c;
    const Program *p;
    LoopArgs *a;
    int status;
} Run;

static void free_heap(void *arg) {
    Code *code = arg;
    for (int i = 0; i < code->mem.n; i++) free(code->mem.v[i].own);
}

static void do_run(Ctx *s, void *arg) {
    Run *r = arg;
    Code *code = interp_compile(s, r->p);
    gd_defer(s, free_heap, code);
    r->status = interp_run(r->c, s, r->p, code, r->a);
}

int loop_interpret(Ctx *c, const Program *p, LoopArgs *a) {
    Run r = {.c = c, .p = p, .a = a};
    gd_scratch(c, do_run, &r);
    return r.status;
}
