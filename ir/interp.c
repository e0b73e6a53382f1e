/* The reference interpreter, first half: from statements to code for a register machine.

   Every expression is flattened into instructions over slots. One that loads nothing depends on variables
   only, so it is computed in the outermost scope where they are all known (its level), once: that takes index
   arithmetic out of the inner loops. One that loads is computed where it stands, once a statement. Sums are
   regrouped by level, which i64 arithmetic allows; nothing else is reordered. Register buffers are slots
   themselves.

   A scope is what a loop body, a branch or a nest adds to the code. Its code is collected apart and appended
   to the outer one's when it ends, so that hoisted code comes before it. Slots of values with a level live
   until the nest ends; those of one statement are taken from a region of their own (TEMP), placed behind the
   others at the end.

   It ends because each statement and each subexpression is visited once; calls expand through rows that never
   recurse. */
#include "interp.h"

#define TEMP 0x80000000u
enum { HERE = -1 }; /* level of what loads: valid in this statement */

typedef struct Scope {
    VEC(Ins) code;
    uint64_t epoch;
} Scope;
typedef struct Known {
    uint32_t slot;
    int level;
    uint64_t epoch;
} Known;
typedef struct Value {
    uint32_t slot;
    int level;
    bool shared;
} Value; /* shared: a register, that a later store changes */
typedef struct Reg {
    uint32_t slot;
    int64_t n;
} Reg;

typedef struct Maker {
    Ctx *c, *s;
    const Program *p;
    Code *code;
    VEC(Scope) scopes;
    Map *known;       /* Expr to Known */
    Map *checks;      /* (slots) of I_INSIDE to Known */
    Map *mems, *regs; /* Buf to 1 + index in code->mem, to Reg */
    Map *allocated;   /* roots that an ALLOC gives their place */
    uint32_t top, temp, most, most_temp;
    int floor; /* scope below which nothing is hoisted */
    bool nest;
    uint64_t epoch, statement;
} Maker;

static Value expression(Maker *m, Expr *e);

/* ---- slots and scopes ---- */

static int here(const Maker *m) { return m->scopes.n - 1; }

static uint32_t keep(Maker *m, int64_t lanes) {
    uint32_t at = m->top;
    if (lanes > (1 << 28) || at + (uint64_t)lanes > (1u << 28))
        gd_fail(m->c, 501, NULL, "the interpreter needs too many registers");
    m->top += (uint32_t)lanes;
    if (m->top > m->most) m->most = m->top;
    return at;
}

static uint32_t temporary(Maker *m, int lanes) {
    uint32_t at = m->temp;
    m->temp += (uint32_t)lanes;
    if (m->temp > m->most_temp) m->most_temp = m->temp;
    return at | TEMP;
}

static void put(Maker *m, int level, Ins i) {
    vec_push(m->s, &m->scopes.v[level == HERE ? here(m) : level].code, i);
}

static void open_scope(Maker *m) {
    Scope s = {.epoch = ++m->epoch};
    vec_push(m->s, &m->scopes, s);
}
static Scope close_scope(Maker *m) { return m->scopes.v[--m->scopes.n]; }
static void append(Maker *m, const Scope *s) {
    for (int i = 0; i < s->code.n; i++) put(m, HERE, s->code.v[i]);
}

static bool lookup(const Maker *m, const Known *k, Value *v) {
    if (!k) return false;
    *v = (Value){k->slot, k->level, false};
    if (k->level == HERE) return k->epoch == m->statement;
    return k->level < m->scopes.n && m->scopes.v[k->level].epoch == k->epoch;
}

static void remember(Maker *m, Map *map, const void *key, size_t n, Value v) {
    Known *k = gd_new(m->s, Known);
    *k = (Known){v.slot, v.level, v.level == HERE ? m->statement : m->scopes.v[v.level].epoch};
    map_put(map, key, n, k);
}
static void learn(Maker *m, Expr *e, Value v) { remember(m, m->known, &e, sizeof e, v); }

static int deeper(int a, int b) { return a == HERE || b == HERE ? HERE : a > b ? a : b; }
/* Where hoisting ends: at the nest. Outside of nests nothing is hoisted: symbols that the data decides change between
   statements, and what was kept from before a loop would lie in slots that nests in the loop use. */
static int base(const Maker *m) { return m->nest ? m->floor : HERE; }

static uint32_t place(Maker *m, int level, int lanes) {
    return level == HERE ? temporary(m, lanes) : keep(m, lanes);
}

static void begin_statement(Maker *m) {
    m->statement = ++m->epoch;
    m->temp = 0;
}

/* ---- expressions ---- */

static Value constant(Maker *m, Expr *e) {
    int level = base(m);
    Value v = {place(m, level, e->type.lanes), level, false};
    bool lane = e->kind == E_LANE;
    put(m, v.level,
        (Ins){.kind = lane ? I_LANES : I_CONST,
              .dst = v.slot,
              .lanes = e->type.lanes,
              .dt = e->type.dt,
              .k = lane ? 0 : (int64_t)e->bits});
    return v;
}

static uint32_t slot_of(const Maker *m, const Var *v) {
    const Slot *s = map_getp(m->code->vars, v);
    return s ? s->at : 0;
}
static void set_slot(Maker *m, const Var *v, uint32_t at) {
    Slot *s = gd_new(m->s, Slot);
    s->at = at;
    map_putp(m->code->vars, v, s);
}

static Value variable(Maker *m, Expr *e) {
    Value v;
    if (e->var->kind == V_SYM && slot_of(m, e->var))
        return (Value){slot_of(m, e->var), base(m), false};
    if (!lookup(m, map_getp(m->known, e), &v))
        gd_bug(m->c, "variable %s is used outside its scope", e->var->name);
    return v;
}

static Value operation(Maker *m, ExprKind op, Type arg, Type res, int n, const Value *v) {
    int level = base(m);
    for (int i = 0; i < n; i++) level = deeper(level, v[i].level);
    Value out = {place(m, level, res.lanes), level, false};
    Ins i = {
        .kind = I_EVAL, .op = (uint8_t)op, .dt = arg.dt, .res = res.dt, .lanes = res.lanes, .dst = out.slot};
    i.a = v[0].slot;
    i.b = n > 1 ? v[1].slot : i.a;
    i.d = n > 2 ? v[2].slot : i.a;
    i.fn = gd_lanes(op, (DType)arg.dt);
    if (op == E_SPLAT) i.kind = I_SPLAT;
    else if (op == E_ZIP_LO || op == E_ZIP_HI) {
        i.kind = I_ZIP;
        i.k = op == E_ZIP_HI ? res.lanes / 2 : 0;
    }
    else if (!i.fn) i.kind = I_EVAL_SLOW;
    put(m, level, i);
    return out;
}

typedef struct Part {
    Value x, times;
    bool product;
} Part;

/* The sum of the parts that are known further out is a value of its own; the others are added to it. */
static Value sum(Maker *m, Expr *e) {
    enum { PARTS = 80 };
    Type t = e->type;
    Expr *term[PARTS], *outer = NULL;
    Part part[PARTS];
    int n = 0, level = base(m), levels[PARTS];
    for (Expr *r = e;; r = r->arg[0]) {
        bool last = r->kind != E_ADD || n == PARTS - 1;
        term[n++] = last ? r : r->arg[1];
        if (last) break;
    }
    for (int i = 0; i < n; i++) {
        Part *q = &part[i];
        q->product = term[i]->kind == E_MUL;
        q->x = expression(m, q->product ? term[i]->arg[0] : term[i]);
        if (q->product) q->times = expression(m, term[i]->arg[1]);
        levels[i] = deeper(base(m), q->product ? deeper(q->x.level, q->times.level) : q->x.level);
        level = deeper(level, levels[i]);
    }
    for (int i = 0; i < n; i++)
        if (levels[i] != level) outer = outer ? expr_add(m->p->c, outer, term[i]) : term[i];
    Value v = {0};
    if (outer) v = expression(m, outer);
    for (int i = n - 1; i >= 0; i--) {
        const Part *q = &part[i];
        if (levels[i] != level) continue;
        Value args[3] = {q->x, q->times, v};
        if (q->product) v = operation(m, v.slot ? E_FMA : E_MUL, t, t, v.slot ? 3 : 2, args);
        else v = v.slot ? operation(m, E_ADD, t, t, 2, (Value[]){v, q->x}) : q->x;
    }
    return v;
}

/* ---- accesses ---- */

typedef struct Access {
    Value at, ok, mask;
    int64_t k;
    MaskKind kind;
} Access;

/* Is the index within dim i? Left out where the ranges of both show it. */
static bool needs_check(Maker *m, const Buf *b, int i, Expr *index) {
    int64_t lo, hi, least, most;
    expr_range(m->c, index, &lo, &hi);
    expr_range(m->c, b->dim[i], &least, &most);
    return lo < 0 || hi >= least;
}

static Value inside(Maker *m, Value ok, Value index, Value dim) {
    uint32_t key[3] = {ok.slot, index.slot, dim.slot};
    int level = deeper(deeper(ok.slot ? ok.level : base(m), index.level), deeper(dim.level, base(m)));
    Value v;
    if (level != HERE && lookup(m, map_get(m->checks, key, sizeof key), &v) && v.level == level) return v;
    v = (Value){place(m, level, 1), level, false};
    put(m, level,
        (Ins){.kind = I_INSIDE, .dst = v.slot, .a = index.slot, .b = dim.slot, .d = ok.slot, .lanes = 1});
    if (level != HERE) remember(m, m->checks, key, sizeof key, v);
    return v;
}

static Access access(Maker *m, Buf *b, Expr *const *index, Expr *mask) {
    Access a = {0};
    Value idx[32], dim[32];
    bool check[32];
    int deepest = base(m);
    for (int i = 0; i < b->rank; i++) {
        check[i] = needs_check(m, b, i, index[i]);
        if (!check[i]) continue;
        idx[i] = expression(m, index[i]);
        dim[i] = expression(m, b->dim[i]);
        deepest = deeper(deepest, idx[i].level);
    }
    for (int pass = 0; pass < 2; pass++) /* what is known further out first */
        for (int i = 0; i < b->rank; i++)
            if (check[i] && (idx[i].level == deepest) == (pass == 1)) a.ok = inside(m, a.ok, idx[i], dim[i]);
    Expr *address = buf_address(m->p->c, b, index);
    if (address->kind == E_ADD && is_int(address->arg[1], &a.k)) address = address->arg[0];
    a.at = expression(m, address);
    if (mask) {
        a.kind = mask->type.dt == BOOL ? MASK_BOOL : MASK_COUNT;
        a.mask = expression(m, mask);
    }
    return a;
}

static uint32_t mem_of(Maker *m, Buf *b) {
    b = buf_root(b);
    uintptr_t known = (uintptr_t)map_getp(m->mems, b);
    if (known) return (uint32_t)known - 1;
    Mem mem = {.buf = b};
    vec_push(m->s, &m->code->mem, mem);
    map_putp(m->mems, b, (void *)(uintptr_t)m->code->mem.n);
    return (uint32_t)m->code->mem.n - 1;
}

static Reg *reg_of(Maker *m, Buf *b) {
    Reg *r = map_getp(m->regs, buf_root(b));
    if (!r) gd_bug(m->c, "register %s is used but not declared", b->name);
    return r;
}

/* A register element at a constant place, not masked: its slot. */
static bool fixed_reg(Maker *m, Buf *b, Expr *const *index, const Expr *mask, uint32_t *slot) {
    int64_t at;
    if (b->space != SP_REG || mask || !is_int(buf_address(m->p->c, b, index), &at)) return false;
    Reg *r = reg_of(m, b);
    for (int i = 0; i < b->rank; i++)
        if (needs_check(m, b, i, index[i])) return false;
    if (at < 0 || at >= r->n) return false;
    *slot = r->slot + (uint32_t)at * b->lanes;
    return true;
}

static Ins access_ins(Maker *m, Buf *b, const Access *a, int lanes) {
    Ins i = {.dt = (uint8_t)b->dt,
             .lanes = (uint32_t)lanes,
             .a = a->at.slot,
             .b = a->mask.slot,
             .d = a->ok.slot,
             .k = a->k,
             .mask = (uint8_t)a->kind};
    if (b->space == SP_REG) {
        Reg *r = reg_of(m, b);
        i.mem = r->slot;
        i.n = r->n;
    } else i.mem = mem_of(m, b);
    return i;
}

/* Bytes of an element that is moved as it is, 0 for the others. */
static int plain(DType t, MaskKind mask) {
    bool raw = dt_float(t) || t == U32 || t == I64 || t == U64;
    return mask == MASK_NONE && raw ? gd_dtypes[t].bytes : 0;
}

static Value load(Maker *m, Expr *e) {
    Buf *b = e->buf;
    Expr *mask = e->nargs > b->rank ? e->arg[b->rank] : NULL;
    Value v = {.level = HERE};
    if (fixed_reg(m, b, e->arg, mask, &v.slot)) {
        v.shared = true;
        return v;
    }
    Access a = access(m, b, e->arg, mask);
    Ins i = access_ins(m, b, &a, e->type.lanes);
    i.kind = b->space == SP_REG          ? I_LOAD_REG
             : plain(b->dt, a.kind) == 4 ? I_LOAD32
             : plain(b->dt, a.kind)      ? I_LOAD64
                                         : I_LOAD;
    i.at = e;
    i.dst = v.slot = temporary(m, e->type.lanes);
    put(m, HERE, i);
    return v;
}

static Value expression(Maker *m, Expr *e) {
    Value v, args[3];
    if (e->kind == E_VAR) return variable(m, e);
    if (lookup(m, map_getp(m->known, e), &v)) return v;
    if (is_const(e) || e->kind == E_LANE) v = constant(m, e);
    else if (e->kind == E_LOAD) {
        v = load(m, e);
        if (v.shared) return v;
    } else if (e->kind == E_CALL) v = expression(m, gd_math_body(m->p->c, e->call, e->arg));
    else if (e->kind == E_ADD && type_eq(e->type, scalar(I64)) && !e->loads) v = sum(m, e);
    else {
        for (int i = 0; i < e->nargs; i++) args[i] = expression(m, e->arg[i]);
        v = operation(m, (ExprKind)e->kind, e->arg[0]->type, e->type, e->nargs, args);
    }
    learn(m, e, v);
    return v;
}

/* ---- statements ---- */

static void block(Maker *m, const Block *b);

/* The value in slots of its own: what a let, a loop or a register needs. */
static void move(Maker *m, Value v, uint32_t to, int lanes) {
    int n = m->scopes.v[here(m)].code.n;
    Ins *last = n ? &m->scopes.v[here(m)].code.v[n - 1] : NULL;
    bool fresh = last && v.level == HERE && !v.shared && v.slot & TEMP && last->dst == v.slot;
    if (fresh && (last->kind == I_EVAL || last->kind == I_EVAL_SLOW || last->kind == I_SPLAT ||
                  last->kind == I_LOAD32 || last->kind == I_LOAD64 || last->kind == I_LOAD ||
                  last->kind == I_LOAD_REG))
        last->dst = to;
    else put(m, HERE, (Ins){.kind = I_COPY, .dst = to, .a = v.slot, .lanes = (uint32_t)lanes});
}

static Value kept(Maker *m, Expr *e) {
    Value v = expression(m, e);
    if (v.level != HERE) return v;
    uint32_t at = keep(m, e->type.lanes);
    move(m, v, at, e->type.lanes);
    return (Value){at, here(m), false};
}

static bool uses_data(const Buf *b, const Var *v) {
    for (int i = 0; i < b->rank; i++)
        if (expr_uses(b->dim[i], v) || (b->stride && expr_uses(b->stride[i], v))) return true;
    return false;
}

static void bind(Maker *m, Buf *b) {
    if (b->base || map_getp(m->allocated, b) || b->space == SP_HEAP) return;
    Ins i = {.kind = I_BIND, .mem = mem_of(m, b), .a = expression(m, buf_size(m->p->c, b)).slot};
    if (b->space == SP_ARENA && m->p->arena && b->offset) i.b = expression(m, b->offset).slot;
    put(m, HERE, i);
}

/* Buffers get their place as soon as all symbols of their size are known: v, or at the start. */
static void bind_all(Maker *m, const Var *v) {
    const Program *p = m->p;
    for (int list = 0; list < 3; list++) {
        int n = list == 0 ? p->params.n : list == 1 ? p->consts.n : p->bufs.n;
        Buf **bufs = list == 0 ? p->params.v : list == 1 ? p->consts.v : p->bufs.v;
        for (int i = 0; i < n; i++) {
            bool now = !v || uses_data(bufs[i], v);
            for (int k = 0; !v && k < p->syms.n; k++)
                now = now && !(p->syms.v[k]->data && uses_data(bufs[i], p->syms.v[k]));
            if (now) bind(m, bufs[i]);
        }
    }
}

static void let(Maker *m, Stmt *s) {
    Value v = expression(m, s->e);
    if (s->var->kind == V_SYM) {
        put(m, HERE, (Ins){.kind = I_SYMBOL, .dst = slot_of(m, s->var), .a = v.slot, .at = s->var});
        begin_statement(m); /* what was computed from the symbol before is void */
        bind_all(m, s->var);
        return;
    }
    if (v.level == HERE) {
        uint32_t at = keep(m, s->var->type.lanes);
        move(m, v, at, s->var->type.lanes);
        v = (Value){at, here(m), false};
    }
    set_slot(m, s->var, v.slot);
    learn(m, expr_var(m->p->c, s->var), v);
}

static void store(Maker *m, Stmt *s) {
    Buf *b = s->buf;
    int lanes = s->e->type.lanes;
    uint32_t slot;
    if (fixed_reg(m, b, s->index, s->mask, &slot)) {
        move(m, expression(m, s->e), slot, lanes);
        return;
    }
    Access a = access(m, b, s->index, s->mask);
    Ins i = access_ins(m, b, &a, lanes);
    int bytes = a.kind == MASK_NONE && (dt_int(b->dt) || dt_float(b->dt)) ? gd_dtypes[b->dt].bytes : 0;
    i.kind = b->space == SP_REG ? I_STORE_REG : bytes == 4 ? I_STORE32 : bytes == 8 ? I_STORE64 : I_STORE;
    i.at = s;
    i.dst = expression(m, s->e).slot;
    put(m, HERE, i);
}

static void declare(Maker *m, Stmt *s) {
    Buf *b = s->buf;
    Expr *size = buf_size(m->p->c, b);
    int64_t n = expr_max(m->c, size);
    if (n == INT64_MAX) gd_bug(m->c, "%s has no largest size", b->name);
    if (b->space == SP_REG) {
        Reg *r = gd_new(m->s, Reg);
        *r = (Reg){keep(m, n * b->lanes), n};
        map_putp(m->regs, b, r);
        uint64_t bytes = 0xa5a5a5a5a5a5a5a5u;
        put(m, HERE,
            (Ins){.kind = I_FORGET,
                  .dst = r->slot,
                  .lanes = (uint32_t)n * b->lanes,
                  .k = (int64_t)gd_load_bits(b->dt, &bytes)});
        return;
    }
    uint32_t mem = mem_of(m, b);
    Mem *place = &m->code->mem.v[mem];
    place->room = (size_t)gd_mul(m->c, n, gd_dtypes[b->dt].bytes);
    place->p = gd_alloc_aligned(m->s, place->room);
    put(m, HERE, (Ins){.kind = I_LOCAL, .mem = mem, .a = expression(m, size).slot, .at = s});
}

/* FOR ... body ... NEXT. */
static void loop(Maker *m, Stmt *s) {
    Value trip = kept(m, s->e);
    uint32_t v = keep(m, 1);
    open_scope(m);
    set_slot(m, s->var, v);
    learn(m, expr_var(m->p->c, s->var), (Value){v, here(m), false});
    block(m, &s->body);
    Scope body = close_scope(m);
    put(m, HERE, (Ins){.kind = I_FOR, .dst = v, .a = trip.slot, .k = body.code.n + 1});
    append(m, &body);
    put(m, HERE, (Ins){.kind = I_NEXT, .dst = v, .a = trip.slot, .k = -body.code.n - 1});
}

static void while_loop(Maker *m, Stmt *s) {
    open_scope(m);
    uint32_t cond = expression(m, s->e).slot;
    int at = m->scopes.v[here(m)].code.n;
    put(m, HERE, (Ins){.kind = I_UNLESS, .a = cond});
    block(m, &s->body);
    Scope body = close_scope(m);
    body.code.v[at].k = body.code.n - at;
    append(m, &body);
    put(m, HERE, (Ins){.kind = I_JUMP, .k = -body.code.n - 1, .at = s});
}

static void branch(Maker *m, Stmt *s) {
    uint32_t cond = expression(m, s->e).slot;
    open_scope(m);
    block(m, &s->body);
    Scope yes = close_scope(m);
    open_scope(m);
    block(m, &s->other);
    Scope no = close_scope(m);
    put(m, HERE, (Ins){.kind = I_UNLESS, .a = cond, .k = yes.code.n + (no.code.n > 0)});
    append(m, &yes);
    if (no.code.n) put(m, HERE, (Ins){.kind = I_JUMP, .k = no.code.n});
    append(m, &no);
}

static void nest(Maker *m, Stmt *s) {
    uint32_t top = m->top;
    int floor = m->floor;
    open_scope(m);
    m->floor = here(m);
    m->nest = true;
    put(m, HERE, (Ins){.kind = I_NEST, .at = s});
    block(m, &s->body);
    put(m, HERE, (Ins){.kind = I_NEST});
    Scope body = close_scope(m);
    append(m, &body);
    m->floor = floor;
    m->nest = false;
    m->top = top;
}

static void heap(Maker *m, Stmt *s) {
    Ins i = {.kind = s->kind == S_ALLOC  ? I_ALLOC
                     : s->kind == S_FREE ? I_FREE
                                         : I_TAKE,
             .mem = mem_of(m, s->buf),
             .at = s};
    if (s->kind == S_MOVE) i.k = mem_of(m, s->from);
    else if (s->kind == S_ALLOC) i.a = expression(m, buf_size(m->p->c, s->buf)).slot;
    put(m, HERE, i);
}

static void statement(Maker *m, Stmt *s) {
    begin_statement(m);
    switch (s->kind) {
    case S_FOR: loop(m, s); return;
    case S_WHILE: while_loop(m, s); return;
    case S_IF: branch(m, s); return;
    case S_LET: let(m, s); return;
    case S_STORE: store(m, s); return;
    case S_DECL: declare(m, s); return;
    case S_ALLOC:
    case S_FREE:
    case S_MOVE: heap(m, s); return;
    case S_CHECK: put(m, HERE, (Ins){.kind = I_CHECK, .a = expression(m, s->e).slot, .k = s->status}); return;
    case S_NEST: nest(m, s); return;
    }
}

static void block(Maker *m, const Block *b) {
    for (int i = 0; i < b->n; i++) statement(m, b->v[i]);
}

static bool note_alloc(void *arg, Stmt *s) {
    Maker *m = arg;
    if (s->kind == S_ALLOC) map_putp(m->allocated, buf_root(s->buf), s);
    return true;
}

static uint32_t behind(const Maker *m, uint32_t slot) {
    return slot & TEMP ? (slot & ~TEMP) + m->most : slot;
}

Code *interp_compile(Ctx *s, const Program *p) {
    Maker *m = gd_new(s, Maker);
    *m = (Maker){.c = p->c,
                 .s = s,
                 .p = p,
                 .code = gd_new(s, Code),
                 .known = map_new(s),
                 .checks = map_new(s),
                 .mems = map_new(s),
                 .regs = map_new(s),
                 .allocated = map_new(s),
                 .top = 1,
                 .most = 1};
    m->code->vars = map_new(s);
    block_walk((Block *)&p->body, note_alloc, m);
    open_scope(m);
    begin_statement(m);
    for (int i = 0; i < p->syms.n; i++) set_slot(m, p->syms.v[i], keep(m, 1));
    if (p->arena) put(m, HERE, (Ins){.kind = I_ARENA, .a = expression(m, p->arena).slot});
    bind_all(m, NULL);
    block(m, &p->body);
    put(m, HERE, (Ins){.kind = I_END});
    Scope all = close_scope(m);
    for (int i = 0; i < all.code.n; i++) {
        Ins x = all.code.v[i];
        x.dst = behind(m, x.dst);
        x.a = behind(m, x.a);
        x.b = behind(m, x.b);
        x.d = behind(m, x.d);
        vec_push(s, &m->code->ins, x);
    }
    m->code->slots = m->most + m->most_temp;
    return m->code;
}
