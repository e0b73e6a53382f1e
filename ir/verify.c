/* The verifier: every invariant of loop.h and expr.h that can be checked, in one walk over the program.

   loop_fault says what is wrong first, and where; loop_verify makes a bug of it, loop_parse a user's error.
   The walk keeps what is in scope, and for every variable the loops it depends on (one bit a loop level), so
   that a store whose place is the same in all iterations of a loop that claims to be free is found. It visits
   a statement once and an expression once a statement, so it ends. */
#include "text.h"

/* ---- expressions ---- */

static bool number_type(DType t) { return dt_float(t) || dt_int(t); }

static const char *operand_fault(ExprKind op, Type t) {
    DType dt = (DType)t.dt;
    switch (op) {
    case E_ADD:
    case E_SUB:
    case E_MUL:
    case E_DIV:
    case E_REM:
    case E_NEG:
    case E_ABS:
    case E_MIN:
    case E_MAX:
    case E_FMA:
    case E_LT:
    case E_LE: return number_type(dt) ? NULL : "arithmetic is of f32, f64 and integers";
    case E_SQRT:
    case E_FLOOR:
    case E_CEIL:
    case E_TRUNC:
    case E_RINT:
    case E_COPYSIGN:
    case E_ISNAN: return dt_float(dt) ? NULL : "this operator is of f32 and f64";
    case E_FDIV:
    case E_FMOD:
    case E_SHL:
    case E_SHR: return dt_int(dt) ? NULL : "this operator is of integers";
    case E_AND:
    case E_OR:
    case E_XOR:
    case E_NOT: return dt_int(dt) || dt == BOOL ? NULL : "logic is of integers and bools";
    case E_EQ:
    case E_NE: return dt != STRING && gd_dtypes[dt].bytes <= 8 ? NULL : "this type cannot be compared";
    default: return NULL;
    }
}

static const char *conversion_fault(ExprKind op, Type to, Type from) {
    DType t = (DType)to.dt, f = (DType)from.dt;
    if (to.lanes != from.lanes) return "a conversion keeps the number of lanes";
    if (op == E_BITS) {
        bool opaque = t == STRING || f == STRING || t == BOOL || f == BOOL || t == C128 || f == C128;
        return opaque || gd_dtypes[t].bytes != gd_dtypes[f].bytes ? "a bit cast is between types of one size"
                                                                  : NULL;
    }
    if (t == STRING || f == STRING || gd_dtypes[t].kind == DK_COMPLEX || gd_dtypes[f].kind == DK_COMPLEX)
        return "this type cannot be converted";
    if ((dt_small(t) && f != F32) || (dt_small(f) && t != F32))
        return "small floats convert from and to f32 only";
    return NULL;
}

const char *expr_fault(ExprKind op, Type t, int n, Expr *const *a) {
    static const struct {
        uint8_t arity, result;
    } row[E_KINDS] = {
#define RESULT_SAME 0
#define RESULT_BOOL 1
#define RESULT_OWN 2
#define O(NAME, text, arity, result, form) [E_##NAME] = {arity, RESULT_##result},
#include "scalar.def"
#undef O
    };
    if (op == E_ZIP_LO || op == E_ZIP_HI) {
        bool zips = n == 2 && type_eq(a[0]->type, a[1]->type) && type_eq(a[0]->type, t);
        return zips && t.lanes > 1 && t.dt != BOOL ? NULL : "a zip takes two vectors of numbers of one type";
    }
    if (n != row[op].arity) return "an operator has the wrong number of operands";
    Type first = a[0]->type;
    if (op == E_SPLAT)
        return first.lanes != 1 || t.dt != first.dt ? "a splat makes a vector of a scalar" : NULL;
    if (op == E_CAST || op == E_BITS) return conversion_fault(op, t, first);
    if (op == E_SELECT) {
        if (first.dt != BOOL || first.lanes != a[1]->type.lanes) return "a selection has one bool a lane";
        return !type_eq(a[1]->type, a[2]->type) || !type_eq(t, a[1]->type)
                   ? "both sides of a selection have one type"
                   : NULL;
    }
    for (int i = 1; i < n; i++)
        if (!type_eq(a[i]->type, first)) return "the operands differ in type";
    const char *fault = operand_fault(op, first);
    if (fault) return fault;
    return NULL;
}

bool expr_cheap(const Expr *e) {
    if (e->kind == E_CONST || e->kind == E_VAR || e->kind == E_LANE) return true;
    if (e->kind != E_LOAD) return e->index;
    bool cheap = e->buf->space == SP_REG;
    for (int i = 0; i < e->nargs; i++) cheap = cheap && e->arg[i]->index;
    return cheap;
}

/* ---- the walk ---- */

enum { LEVELS = 63 };
#define ALL_LOOPS UINT64_MAX

typedef struct Known {
    bool live, gone;
    uint64_t loops;
    int level;
} Known; /* of a variable or buffer */

typedef struct Check {
    Ctx *c, *s;
    const Program *p;
    const char *fault; /* the first one */
    const Stmt *nest, *stmt;
    Map *known; /* Var or Buf to Known */
    VEC(Known *) scope;
    Map *bufs; /* whose dims were checked */
    Map *stmts, *nests;
    bool free[LEVELS]; /* the loops around, outermost first: iterations in any order, and more than one */
    int level;
    uint64_t guard; /* loops that the branches around depend on */
    uint32_t mark;
    uint64_t loops; /* that the expression at hand depends on */
} Check;

static void fault(Check *k, const char *fmt, ...) GD_PRINTF(2, 3);
static void fault(Check *k, const char *fmt, ...) {
    if (k->fault) return;
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    const char *at = k->stmt ? stmt_text(k->s, k->stmt) : "its head";
    k->fault = gd_format(k->c, "%s %s: `%s`: %s", k->nest ? "nest" : "program",
                         k->nest ? k->nest->nest->name : k->p->name, at, what);
}

static Known *known(Check *k, const void *thing) {
    Known *n = map_getp(k->known, thing);
    if (!n) {
        n = gd_new(k->s, Known);
        map_putp(k->known, thing, n);
    }
    return n;
}

static void enter_scope(Check *k, const void *thing, const char *name, uint64_t loops) {
    Known *n = known(k, thing);
    if (n->live || n->gone) fault(k, "%s is defined by two statements", name);
    *n = (Known){.live = true, .loops = loops, .level = k->level};
    vec_push(k->s, &k->scope, n);
}

static void leave_scope(Check *k, int mark) {
    while (k->scope.n > mark) {
        Known *n = k->scope.v[--k->scope.n];
        n->live = false;
        n->gone = true;
    }
}

/* ---- buffers ---- */

static void symbolic(void *arg, Expr *e) {
    Check *k = arg;
    if (e->kind == E_LOAD || (e->kind == E_VAR && e->var->kind != V_SYM))
        fault(k, "dims, strides and places of buffers use symbols only");
}

static void dim(Check *k, const Buf *b, Expr *e) {
    if (!e || !type_eq(e->type, scalar(I64))) {
        fault(k, "buffer %s: a dim is not i64", b->name);
        return;
    }
    expr_walk(e, expr_mark(k->p->c), symbolic, k);
}

static void buffer(Check *k, Buf *b) {
    if (!b) {
        fault(k, "a buffer is missing");
        return;
    }
    if (map_has(k->bufs, &b, sizeof b)) return;
    map_putp(k->bufs, b, b);
    if (!text_identifier(b->name)) fault(k, "a buffer has no proper name");
    if (b->rank < 0 || b->rank > 30) {
        fault(k, "buffer %s has %d dims", b->name, b->rank);
        return;
    }
    for (int i = 0; i < b->rank; i++) {
        dim(k, b, b->dim[i]);
        if (b->stride) dim(k, b, b->stride[i]);
    }
    if (b->lanes < 1 || (b->lanes > 1 && b->space != SP_REG))
        fault(k, "buffer %s: only registers are vectors", b->name);
    if (b->base) {
        dim(k, b, b->origin);
        if (b->base->dt != b->dt || b->base->space != b->space || b->base->lanes != b->lanes)
            fault(k, "view %s differs from its base in type or space", b->name);
        buffer(k, b->base);
    }
}

static void constant_size(Check *k, Buf *b) {
    int64_t n;
    if (!is_int(buf_size(k->p->c, b), &n)) fault(k, "the size of %s is not a number", b->name);
}

static bool in_scope(Check *k, Buf *b) {
    Buf *root = buf_root(b);
    if (known(k, root)->live) return true;
    bool declared = root->space == SP_REG || root->space == SP_LOCAL;
    fault(k, declared ? "%s is not declared here" : "buffer %s is not in the program's lists", root->name);
    return false;
}

/* ---- expressions in a statement ---- */

static void access(Check *k, Buf *b, int nindex, Expr *const *index, int lanes, const Expr *mask) {
    buffer(k, b);
    if (k->fault || !in_scope(k, b)) return;
    if (nindex != b->rank) {
        fault(k, "%s has %d dims, not %d", b->name, b->rank, nindex);
        return;
    }
    for (int i = 0; i < nindex; i++)
        if (!type_eq(index[i]->type, scalar(I64))) fault(k, "an index of %s is not i64", b->name);
    if (b->space == SP_REG && lanes != b->lanes)
        fault(k, "register %s has %d lanes, not %d", b->name, b->lanes, lanes);
    if (gd_dtypes[b->dt].bytes > 8) fault(k, "%s is of a type that cannot be a value", b->name);
    bool condition = !mask || type_eq(mask->type, scalar(BOOL)),
         count = mask && lanes > 1 && type_eq(mask->type, scalar(I64));
    if (!condition && !count) fault(k, "a mask is a bool, or for vectors a number of lanes");
}

static void node(Check *k, Expr *e) {
    if (e->kind == E_VAR) {
        const Known *v = known(k, e->var);
        if (!v->live) fault(k, "variable %s is used outside its scope", e->var->name);
        k->loops |= v->loops;
    } else if (e->kind == E_LOAD) {
        const Expr *mask = e->nargs > e->buf->rank ? e->arg[e->buf->rank] : NULL;
        access(k, e->buf, mask ? e->nargs - 1 : e->nargs, e->arg, e->type.lanes, mask);
        if (!k->fault && e->type.dt != e->buf->dt) fault(k, "a load of %s has another type", e->buf->name);
        if (e->buf->space != SP_IN && e->buf->space != SP_CONST)
            k->loops = ALL_LOOPS; /* who knows what was stored */
    } else if (e->kind == E_CALL) {
        for (int i = 0; i < e->nargs; i++)
            if (!type_eq(e->arg[i]->type, e->type))
                fault(k, "the arguments of %s differ in type", gd_math_name(e->call));
    } else if (e->kind != E_CONST && e->kind != E_LANE) {
        const char *wrong = expr_fault((ExprKind)e->kind, e->type, e->nargs, e->arg);
        if (wrong) fault(k, "%s: %s", wrong, expr_text(k->s, e));
    }
}

static void walk(Check *k, Expr *e) {
    if (k->fault) return;
    if (e->mark == k->mark) {
        if (k->p->bound && !expr_cheap(e)) fault(k, "a value is computed twice: %s", expr_text(k->s, e));
        return;
    }
    e->mark = k->mark;
    for (int i = 0; i < e->nargs; i++) walk(k, e->arg[i]);
    node(k, e);
}

/* All expressions of one statement are walked with one mark. Returns the loops that e depends on. */
static uint64_t expr(Check *k, Expr *e, Type want) {
    if (!e) {
        fault(k, "an expression is missing");
        return 0;
    }
    k->loops = 0;
    walk(k, e);
    if (!k->fault && want.dt != DT_NONE && !type_eq(e->type, want))
        fault(k, "an expression has the wrong type: %s", expr_text(k->s, e));
    return k->loops;
}

/* ---- statements ---- */

static void block(Check *k, Block *b);

static void inner(Check *k, Block *b) {
    int mark = k->scope.n;
    block(k, b);
    leave_scope(k, mark);
}

static void loop(Check *k, Stmt *s) {
    int64_t trip = 0;
    expr(k, s->e, scalar(I64));
    if (k->fault) return;
    if (!s->var || s->var->kind != V_LOOP || s->var->def != s->e || !type_eq(s->var->type, scalar(I64))) {
        fault(k, "the variable of a loop is an i64 with the trip count as its definition");
        return;
    }
    bool constant = is_int(s->e, &trip);
    if ((s->mode == L_PARALLEL || s->mode == L_VECTOR) && !s->free)
        fault(k, "only free loops are parallel or vectors");
    if (s->mode == L_UNROLL && !constant) fault(k, "the trip count is not a number");
    if (s->mode == L_VECTOR && (!s->width || expr_max(k->p->c, s->e) > s->width))
        fault(k, "the loop is longer than its vector");
    int mark = k->scope.n;
    bool tracked = k->level < LEVELS;
    enter_scope(k, s->var, s->var->name, tracked ? 1ull << k->level : ALL_LOOPS);
    if (tracked) k->free[k->level] = s->free && !(constant && trip <= 1);
    k->level++;
    block(k, &s->body);
    k->level--;
    leave_scope(k, mark);
}

static void branch(Check *k, Stmt *s) {
    uint64_t guard = k->guard;
    k->guard |= expr(k, s->e, scalar(BOOL));
    if (s->kind == S_WHILE) k->guard = guard;
    inner(k, &s->body);
    inner(k, &s->other);
    k->guard = guard;
}

static void let(Check *k, Stmt *s) {
    Type any = {DT_NONE, 1};
    uint64_t loops = expr(k, s->e, s->var ? s->var->type : any);
    if (k->fault) return;
    if (!s->var || s->var->kind == V_LOOP) {
        fault(k, "a let has no variable of its own");
        return;
    }
    if (s->var->kind == V_LET) {
        if (s->var->def != s->e) fault(k, "the definition of %s is another one", s->var->name);
        enter_scope(k, s->var, s->var->name, loops);
        return;
    }
    if (k->nest) fault(k, "symbol %s is set inside a nest", s->var->name);
    if (!s->var->data) fault(k, "symbol %s comes from the inputs", s->var->name);
    bool listed = false;
    for (int i = 0; i < k->p->syms.n; i++) listed |= k->p->syms.v[i] == s->var;
    if (!listed) fault(k, "symbol %s is not in the program's list", s->var->name);
    known(k, s->var)->live = true;
}

/* Iterations of a free loop must not write to one place. */
static void independent(Check *k, Buf *b, uint64_t loops) {
    const Known *root = known(k, buf_root(b));
    for (int i = root->level; i < k->level && i < LEVELS; i++)
        if (k->free[i] && !(loops >> i & 1)) fault(k, "all iterations of a free loop store to one place");
}

static void store(Check *k, Stmt *s) {
    uint64_t loops = k->guard;
    if (!s->buf) {
        fault(k, "a store has no buffer");
        return;
    }
    for (int i = 0; i < s->nindex; i++) loops |= expr(k, s->index[i], scalar(I64));
    if (s->mask)
        loops |=
            expr(k, s->mask, (Type){DT_NONE, 1}); /* before the value: a walk sees only what is new to it */
    expr(k, s->e, (Type){DT_NONE, 1});
    if (k->fault) return;
    access(k, s->buf, s->nindex, s->index, s->e->type.lanes, s->mask);
    if (s->buf->space == SP_IN || s->buf->space == SP_CONST) fault(k, "%s is read only", s->buf->name);
    if (s->e->type.dt != s->buf->dt) fault(k, "the value has another type than %s", s->buf->name);
    if (!k->fault) independent(k, s->buf, loops);
}

static void declare(Check *k, Stmt *s) {
    Buf *b = s->buf;
    buffer(k, b);
    if (k->fault) return;
    if (b->base || (b->space != SP_REG && b->space != SP_LOCAL)) {
        fault(k, "%s is declared, but no register or local", b->name);
        return;
    }
    if (b->space == SP_REG) constant_size(k, b);
    else if (expr_max(k->p->c, buf_size(k->p->c, b)) == INT64_MAX)
        fault(k, "local %s has no largest size", b->name);
    enter_scope(k, b, b->name, 0);
}

static void heap(Check *k, Stmt *s) {
    if (k->nest) fault(k, "storage changes hands inside a nest");
    buffer(k, s->buf);
    if (k->fault || !in_scope(k, s->buf)) return;
    bool out = s->buf->space == SP_OUT && s->kind != S_FREE;
    if (s->buf->base || (s->buf->space != SP_HEAP && !out)) fault(k, "%s is not on the heap", s->buf->name);
    if (s->kind != S_MOVE) return;
    buffer(k, s->from);
    if (k->fault || !in_scope(k, s->from)) return;
    if (s->from->base || s->from->space != SP_HEAP || s->from->dt != s->buf->dt || s->from == s->buf)
        fault(k, "%s cannot be moved there", s->from->name);
}

static void nest(Check *k, Stmt *s) {
    if (k->nest) {
        fault(k, "a nest stands inside a nest");
        return;
    }
    if (!s->nest || !text_identifier(s->nest->name)) {
        k->stmt = NULL;
        fault(k, "a nest has no proper name");
        return;
    }
    if (map_has(k->nests, s->nest->name, strlen(s->nest->name))) fault(k, "two nests have this name");
    map_puts(k->nests, s->nest->name, s);
    k->nest = s;
    inner(k, &s->body);
    k->nest = NULL;
}

static void statement(Check *k, Stmt *s) {
    k->stmt = s;
    k->mark = expr_mark(k->p->c);
    if (map_has(k->stmts, &s, sizeof s)) fault(k, "a statement stands in two places");
    map_putp(k->stmts, s, s);
    if (s->body.n && s->kind != S_FOR && s->kind != S_WHILE && s->kind != S_IF && s->kind != S_NEST)
        fault(k, "this statement has no body");
    if (s->other.n && s->kind != S_IF) fault(k, "only a branch has an else");
    switch (s->kind) {
    case S_FOR: loop(k, s); return;
    case S_WHILE:
    case S_IF: branch(k, s); return;
    case S_LET: let(k, s); return;
    case S_STORE: store(k, s); return;
    case S_DECL: declare(k, s); return;
    case S_ALLOC:
    case S_FREE:
    case S_MOVE: heap(k, s); return;
    case S_CHECK:
        expr(k, s->e, scalar(BOOL));
        if (s->status == 0) fault(k, "a check needs a status other than 0");
        return;
    case S_NEST: nest(k, s); return;
    }
}

static void block(Check *k, Block *b) {
    for (int i = 0; i < b->n && !k->fault; i++) statement(k, b->v[i]);
}

/* ---- the head ---- */

static void listed(Check *k, Buf *b, bool right_space) {
    buffer(k, b);
    if (k->fault) return;
    if (!right_space || b->base) fault(k, "buffer %s stands in the wrong list", b->name);
    if (known(k, b)->live) fault(k, "buffer %s is listed twice", b->name);
    known(k, b)->live = true;
}

static void head(Check *k) {
    const Program *p = k->p;
    int ports[2] = {0, 0};
    if (!text_identifier(p->name)) fault(k, "the program has no proper name");
    for (int i = 0; i < p->syms.n; i++) {
        Var *v = p->syms.v[i];
        if (v->kind != V_SYM || !type_eq(v->type, scalar(I64)) || !text_identifier(v->name))
            fault(k, "a symbol is no i64 symbol");
        if (v->lo > v->hi) fault(k, "symbol %s has an empty range", v->name);
        known(k, v)->live = !v->data;
    }
    if (p->port_names.n != p->params.n) fault(k, "every parameter needs a port name");
    for (int i = 0; i < p->params.n; i++) {
        Buf *b = p->params.v[i];
        listed(k, b, b->space == SP_IN || b->space == SP_OUT);
        if (b->space == SP_IN && ports[1]) fault(k, "inputs stand before outputs");
        if (b->port != ports[b->space == SP_OUT]++) fault(k, "%s has the wrong port number", b->name);
    }
    for (int i = 0; i < p->consts.n; i++) {
        listed(k, p->consts.v[i], p->consts.v[i]->space == SP_CONST);
        if (!k->fault) constant_size(k, p->consts.v[i]);
    }
    for (int i = 0; i < p->bufs.n; i++) {
        Buf *b = p->bufs.v[i];
        listed(k, b, b->space == SP_ARENA || b->space == SP_HEAP);
        if (k->fault || b->space != SP_ARENA) continue;
        if (!p->arena != !b->offset)
            fault(k, "%s: after `plan` every temporary has an offset, before it none", b->name);
        if (b->offset) dim(k, b, b->offset);
    }
    if (p->arena && !type_eq(p->arena->type, scalar(I64))) fault(k, "the arena's size is not i64");
}

typedef struct Job {
    const Program *p;
    const char *fault;
} Job;

static void check(Ctx *s, void *arg) {
    Job *j = arg;
    Check k = {.c = j->p->c,
               .s = s,
               .p = j->p,
               .known = map_new(s),
               .bufs = map_new(s),
               .stmts = map_new(s),
               .nests = map_new(s)};
    head(&k);
    if (!k.fault) block(&k, (Block *)&j->p->body);
    j->fault = k.fault;
}

const char *loop_fault(const Program *p) {
    Job j = {p, NULL};
    gd_scratch(p->c, check, &j);
    return j.fault;
}

void loop_verify(const Program *p) {
    const char *fault = loop_fault(p);
    if (fault) gd_bug(p->c, "%s", fault);
}
