/* The elementary functions: rows of math.def, found by name and dtype, and put in the place of their calls.

   A row's text is read once per Ctx, over scalar parameters, and kept as a tape: its operations in order,
   arguments before their uses. gd_math_body replays the tape on the arguments at hand, at their lanes; equal
   bits lane by lane follow, since every instruction is defined so. A row calls only rows that stand before
   it, so expansion ends. */
#include "formula.h"

typedef struct Row {
    const char *name;
    int arity;
    const char *dtype, *text;
} Row;
static const Row rows[] = {
#define M(name, arity, dtype, text) {#name, arity, #dtype, text},
#include "math.def"
#undef M
};
enum { ROWS = sizeof rows / sizeof *rows, PARAMS = 2 };
static const char *const param_names[PARAMS] = {"x", "y"};

/* A leaf, or an operator over earlier steps. */
typedef struct Step {
    Expr *e;
    int n, arg[3];
} Step;
typedef struct Tape {
    VEC(Step) steps;
    Var *param[PARAMS];
} Tape;

int gd_math_row(const char *name, DType t) {
    for (int i = 0; i < ROWS; i++)
        if (!strcmp(rows[i].name, name) && !strcmp(rows[i].dtype, gd_dtypes[t].name)) return i;
    return -1;
}
const char *gd_math_name(int row) { return rows[row].name; }
int gd_math_arity(int row) { return rows[row].arity; }

static int record(Ctx *c, Tape *t, Map *at, Expr *e) {
    int *known = map_getp(at, e);
    if (known) return *known;
    Step s = {.e = e, .n = e->nargs};
    for (int i = 0; i < e->nargs; i++) s.arg[i] = record(c, t, at, e->arg[i]);
    vec_push(c, &t->steps, s);
    int *place = gd_new(c, int);
    *place = t->steps.n - 1;
    map_putp(at, e, place);
    return *place;
}

static const Tape *tape(Ctx *c, int row) {
    void **slot = gd_slot(c, SLOT_MATH);
    if (!*slot) *slot = gd_new_array(c, Tape *, ROWS);
    Tape **tapes = *slot;
    if (!tapes[row]) {
        Tape *t = gd_new(c, Tape);
        DType dt = gd_dtype_named(rows[row].dtype);
        Map *names = map_new(c);
        for (int i = 0; i < rows[row].arity; i++) {
            t->param[i] = var_new(c, V_LET, scalar(dt), param_names[i], INT64_MIN, INT64_MAX);
            map_puts(names, param_names[i], expr_var(c, t->param[i]));
        }
        record(c, t, map_new(c), gd_formula_inline(c, rows[row].text, names, dt));
        tapes[row] = t;
    }
    return tapes[row];
}

Expr *gd_math_body(Ctx *c, int row, Expr *const *args) {
    const Tape *t = tape(c, row);
    Expr **out = gd_new_array(c, Expr *, t->steps.n);
    uint8_t lanes = args[0]->type.lanes;
    for (int i = 0; i < t->steps.n; i++) {
        const Step *s = &t->steps.v[i];
        Type type = {s->e->type.dt, lanes};
        Expr *a[3];
        for (int k = 0; k < s->n; k++) a[k] = out[s->arg[k]];
        if (s->e->kind == E_CONST) out[i] = expr_const(c, type, s->e->bits);
        else if (s->e->kind == E_VAR) out[i] = args[s->e->var == t->param[0] ? 0 : 1];
        else out[i] = expr_op(c, (ExprKind)s->e->kind, type, s->n, a);
    }
    return out[t->steps.n - 1];
}
