/* Types and expressions: one language for dims, indices and values.

   An Expr is immutable and hash-consed within one Ctx: equal expressions are equal pointers, so == compares them. It is
   built only through expr_* below, which fold constants and, on i64 (dims and indices), keep sums and products in
   one canonical affine order; the rules stand one a line in expr.c. Folding uses the interpreter's own arithmetic.

   Leaves: a constant, a variable (loop variable, let, dim symbol), an element of a buffer (LOAD).
   Operators: the rows of scalar.def, and calls of the elementary functions of math.def, which the pass `expand`
   replaces by scalar instructions before a back end sees them.

   A type is an element type and a lane count: f32 is one float, v16f32 sixteen. bool lanes are truth values. */
#ifndef GD_EXPR_H
#define GD_EXPR_H
#include "base.h"

typedef enum DType {
#define D(NAME, text, bytes, kind, ctype, onnx) NAME,
#include "dtype.def"
#undef D
    DTYPES, DT_NONE = DTYPES
} DType;

typedef enum DKind { DK_FLOAT, DK_SMALL, DK_INT, DK_UINT, DK_BOOL, DK_STRING, DK_COMPLEX } DKind;
typedef struct DTypeRow { const char *name; int bytes; DKind kind; const char *ctype; int onnx; } DTypeRow;
extern const DTypeRow gd_dtypes[DTYPES];
DType gd_dtype_named(const char *name);   /* DT_NONE when there is none */
DType gd_dtype_from_onnx(int data_type);
static inline bool dt_int(DType t) { return gd_dtypes[t].kind == DK_INT || gd_dtypes[t].kind == DK_UINT; }
static inline bool dt_float(DType t) { return gd_dtypes[t].kind == DK_FLOAT; } /* f32, f64: what arithmetic knows */
static inline bool dt_small(DType t) { return gd_dtypes[t].kind == DK_SMALL; } /* stored only; computed in f32 */

/* The formats of the small floats that have a sign: e exponent bits, m mantissa bits. What the top codes mean: IEEE: infinity and
   NaN. FN: no infinity, only all ones is NaN. FNUZ: no infinity and no -0, whose code is NaN. FINITE: neither; overflow and
   NaN give the largest. (OCP 8-bit Floating Point Specification; OCP Microscaling Formats; ONNX, "Float stored in 8 bits",
   "in 4 bits".) */
typedef enum SmallTop { SMALL_IEEE, SMALL_FN, SMALL_FNUZ, SMALL_FINITE } SmallTop;
typedef struct SmallFormat { int e, m, bias; SmallTop top; } SmallFormat;
extern const SmallFormat gd_small_formats[DTYPES];

typedef struct Type { uint8_t dt; uint8_t lanes; } Type;
static inline Type scalar(DType t) { return (Type){(uint8_t)t, 1}; }
static inline Type vector(DType t, int lanes) { return (Type){(uint8_t)t, (uint8_t)lanes}; }
static inline bool type_eq(Type a, Type b) { return a.dt == b.dt && a.lanes == b.lanes; }

typedef enum ExprKind {
    E_CONST, E_VAR, E_LOAD,
    E_CALL,  /* an elementary function: call names the row of math.def */
    E_LANE,  /* the vector 0, 1, 2, ... of its type */
    E_ZIP_LO, E_ZIP_HI, /* a0 b0 a1 b1 ..: the first, the second half of two vectors, lanes in turn */
#define O(NAME, text, arity, result, form) E_##NAME,
#include "scalar.def"
#undef O
    E_KINDS
} ExprKind;

typedef struct Expr Expr;
typedef struct Var Var;
typedef struct Buf Buf; /* loop.h */

typedef enum VarKind { V_SYM, V_LOOP, V_LET } VarKind;
/* A name for one value. lo and hi (inclusive) bound an i64 variable; INT64_MAX means unbounded. They are set before any
   expression is made of it: what is proved with them is remembered. */
struct Var {
    VarKind kind;
    Type type;
    int id;            /* unique in its Ctx, in order of making */
    const char *name;  /* a checked identifier (letters, digits, _); printed as name, name_1, ... */
    int64_t lo, hi;
    Expr *def;         /* V_LET: its value, for reading only. V_LOOP: trip count. V_SYM: a size it never exceeds, or NULL */
    bool data;         /* V_SYM: only the data decides it (NonZero ...); else the caller's inputs do */
};

struct Expr {
    uint8_t kind;      /* ExprKind */
    uint8_t nargs;
    Type type;
    uint32_t hash, id;
    uint32_t mark : 29, busy : 1; /* of the walks that come by */
    uint32_t loads : 1;           /* a LOAD stands in it */
    uint32_t index : 1;           /* scalar i64 or bool, and so is all it is made of; no load, no call */
    union {
        uint64_t bits; /* E_CONST: the element's bits, every lane alike; integers sign- or zero-extended to 64 */
        Var *var;
        Buf *buf;      /* E_LOAD: args are the index, one a dim; then, when masked, the mask */
        int call;      /* E_CALL: row of math.def */
    };
    Expr *arg[];
};

/* ---- making them ---- */
Expr *expr_int(Ctx *c, int64_t v);                     /* i64 */
Expr *expr_const(Ctx *c, Type t, uint64_t bits);
Expr *expr_num(Ctx *c, DType t, double v);             /* v converted to t */
Expr *expr_bool(Ctx *c, bool v);
Var *var_new(Ctx *c, VarKind kind, Type t, const char *name, int64_t lo, int64_t hi);
Expr *expr_var(Ctx *c, Var *v);
Expr *expr_op(Ctx *c, ExprKind op, Type t, int n, Expr *const *args); /* t matters for OWN results only */
Expr *expr_call(Ctx *c, int row, int n, Expr *const *args);
Expr *expr_lane(Ctx *c, Type t);
Expr *expr_zip(Ctx *c, bool high, Expr *a, Expr *b);
/* mask: NULL, a scalar bool, or (vectors) an i64: only so many leading lanes are read. What is not read is 0, and not
   accessed. */
Expr *expr_load(Ctx *c, Buf *b, int lanes, Expr *const *index, Expr *mask);
static inline Expr *expr1(Ctx *c, ExprKind op, Expr *a) { return expr_op(c, op, a->type, 1, &a); }
static inline Expr *expr2(Ctx *c, ExprKind op, Expr *a, Expr *b) {
    return expr_op(c, op, a->type, 2, (Expr *[]){a, b});
}
static inline Expr *expr3(Ctx *c, ExprKind op, Expr *a, Expr *b, Expr *d) {
    return expr_op(c, op, b->type, 3, (Expr *[]){a, b, d});
}
static inline Expr *expr_add(Ctx *c, Expr *a, Expr *b) { return expr2(c, E_ADD, a, b); }
static inline Expr *expr_sub(Ctx *c, Expr *a, Expr *b) { return expr2(c, E_SUB, a, b); }
static inline Expr *expr_mul(Ctx *c, Expr *a, Expr *b) { return expr2(c, E_MUL, a, b); }
static inline Expr *expr_fdiv(Ctx *c, Expr *a, Expr *b) { return expr2(c, E_FDIV, a, b); }
static inline Expr *expr_fmod(Ctx *c, Expr *a, Expr *b) { return expr2(c, E_FMOD, a, b); }
Expr *expr_and(Ctx *c, Expr *a, Expr *b);              /* of bools; NULL counts as true */
Expr *expr_select(Ctx *c, Expr *cond, Expr *a, Expr *b);
Expr *expr_cast(Ctx *c, Expr *a, DType t);
Expr *expr_splat(Ctx *c, Expr *a, int lanes);

/* ---- asking them ---- */
static inline bool is_const(const Expr *e) { return e->kind == E_CONST; }
bool is_int(const Expr *e, int64_t *v);                /* a constant i64? */
static inline bool is_value(const Expr *e, int64_t v) { int64_t x; return is_int(e, &x) && x == v; }
void expr_range(Ctx *c, const Expr *e, int64_t *lo, int64_t *hi); /* of an i64; INT64_MIN/MAX: not known */
bool expr_less(Ctx *c, Expr *a, Expr *b);               /* provably a < b, by ranges and trip counts */
bool expr_uses(const Expr *e, const Var *v);
/* Visits every subexpression once, arguments first; once in all walks with the same mark. Expressions share so much
   that recursion without marks may take exponential time. */
uint32_t expr_mark(Ctx *c);
void expr_walk(Expr *e, uint32_t mark, void (*fn)(void *, Expr *), void *arg);
/* Is there a subexpression that is FOUND? Below one that is SKIPped nothing is looked at; each is asked once. e may be NULL. */
typedef enum Search { SEARCH_ON, SEARCH_FOUND, SEARCH_SKIP } Search;
bool expr_search(Ctx *c, Expr *e, Search (*ask)(void *, Expr *), void *arg);
bool expr_on_data(Ctx *c, Expr *e);                     /* uses a symbol that only the data decides */
/* e = base + stride * v with base free of v? (both i64) */
bool expr_affine(Ctx *c, Expr *e, Var *v, Expr **base, Expr **stride);
int64_t expr_max(Ctx *c, const Expr *e);               /* upper bound of a dim, INT64_MAX when there is none */

/* Replace variables: map from Var* (map_putp) to Expr*. Unchanged parts are shared. */
Expr *expr_subst(Ctx *c, Expr *e, const Map *vars);
Expr *expr_subst1(Ctx *c, Expr *e, Var *v, Expr *to);
Expr *expr_rewrite(Ctx *c, Expr *e, Expr *(*fn)(void *, Expr *), void *arg); /* bottom up, memoised */

/* The one evaluation of scalar instructions: interpreter, folding and the tests call this. Elements are widened to 64
   bits as in Expr.bits. out may alias an argument. */
uint64_t gd_eval(ExprKind op, DType arg, DType res, const uint64_t *a);
/* op over n lanes at once, for the interpreter's speed. */
typedef void GdLanes(int n, uint64_t *out, const uint64_t *a, const uint64_t *b, const uint64_t *d);
GdLanes *gd_lanes(ExprKind op, DType arg); /* NULL: no fast form. The function reads a, b and d, whatever its arity */
void gd_eval_lanes(ExprKind op, DType arg, DType res, int lanes, uint64_t *out, const uint64_t *const *args);
uint64_t gd_to_bits(DType t, double v);
double gd_to_double(DType t, uint64_t bits);
uint64_t gd_load_bits(DType t, const void *p);         /* one element of memory */
void gd_store_bits(DType t, void *p, uint64_t bits);

/* Elementary functions (math.def): found by name and dtype; body gives the value for given arguments. */
int gd_math_row(const char *name, DType t);            /* -1 when there is none */
const char *gd_math_name(int row);
int gd_math_arity(int row);
Expr *gd_math_body(Ctx *c, int row, Expr *const *args);

/* Formulas: the text language of op rows and math.def. Names are looked up in the map (const char * to Expr*). */
Expr *gd_formula(Ctx *c, const char *text, const Map *names, DType literal);

/* Text. Sums and products of dims print as people write them: N*2+1. */
void expr_print(Text *t, const Expr *e);
const char *expr_text(Ctx *c, const Expr *e);
#endif
