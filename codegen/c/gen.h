/* The inside of the C back end: what its files share.

   A Gen is one program on its way to C. Text is printed in one walk, statement by statement, into `out`;
   helper functions that an expression needs (v16f32_fma, i32_div ...) are made when they are first asked for
   and land in texts of their own, which the finished file shows above everything else. Nothing is printed
   that is not used.

   Names. `names` knows every identifier that means something at the current place; a name that is taken gets
   a number. Names of a function end with it, so another nest may use them again. */
#ifndef GD_C_GEN_H
#define GD_C_GEN_H
#include "codegen.h"

/* How strongly printed text binds, weakest first. */
enum {
    P_COND = 1,
    P_OR,
    P_AND,
    P_BITOR,
    P_BITXOR,
    P_BITAND,
    P_EQ,
    P_REL,
    P_SHIFT,
    P_ADD,
    P_MUL,
    P_UNARY,
    P_POSTFIX
};

typedef struct Touched {
    Buf *buf;
    bool read, written;
} Touched;

/* A buffer of a nest's own. The elements of a REG buffer are single variables unless some access has no
   constant index, or not the width of an element; LOCAL buffers are arrays. */
typedef struct Reg {
    bool array, any_read;
    int64_t n;
    uint8_t *read, *declared; /* by element */
    const char **name;
} Reg;

/* What a piece of program needs from outside, and what of its own is alive. */
typedef struct Uses {
    VEC(Touched) bufs; /* roots of IN, OUT, CONST, ARENA and HEAP buffers, in order of first use */
    VEC(Var *) vars;   /* made outside, in order of their ids */
    Map *live;         /* Var*: read by something that is printed */
    Map *regs;         /* Buf* of REG and LOCAL -> Reg* */
    bool checks;
} Uses;

typedef struct Name {
    bool taken;
    int next;
} Name;

typedef struct Gen {
    Ctx *c;
    Program *p;
    const EmitOptions *o;
    const char *prefix, *macro; /* fashion_cnn, FASHION_CNN */
    Text *out;
    int indent;
    Text *scalars, *gnu, *plain; /* helpers: on scalars; on vectors, in two versions */
    Map *helpers;                /* name -> itself */
    Map *names;                  /* identifier -> Name* */
    VEC(const char *) scope;     /* names the open function has taken */
    Map *spelled;                /* Var*, Buf* -> identifier */
    Map *data;                   /* Expr* of i64 -> 2 when the data decides it, else 1 */
    Map *widths;                 /* Var* of a vector of bools -> bytes a lane of its mask */
    Map *logic;                  /* Var* of a vector -> how many operations on bits it ends with */
    Uses *uses;                  /* of the open function */
    VEC(Buf *) consts;           /* used, in order */
    Blob blob;                   /* all constants, wherever they are put */
    bool raw_weights; /* one more entry of ins is the blob */
    bool in_parallel; /* a failed check leaves through `skip` */
    const char *status, *skip, *iteration;
    bool heap, math;                      /* the heap, math.h are needed */
    VEC(Stmt *) nest_list;                /* in order; also their numbers in the profile */
    const char **sym_field, **port_field; /* members of P_inputs and P_outputs */
    Map *nest_uses, *nest_ids;            /* S_NEST -> Uses*; -> its number, plus one */
    VEC(Buf *) pending;                   /* REG buffers with elements not declared yet */
} Gen;

/* ---- names.c ---- */
const char *name_take(Gen *g, const char *want); /* until the scope ends */
const char *name_var(Gen *g, Var *v);            /* takes a name for it */
const char *name_buf(Gen *g, Buf *root);
const char *spelling(Gen *g, const void *var_or_buf, const char *what);
int scope_begin(Gen *g);
void scope_end(Gen *g, int mark);
char *name_fit(Ctx *c, const char *s);                         /* any text to letters, digits and _ */
const char *name_field(Ctx *c, Map *fields, const char *want); /* a member of a struct */
void put_comment(Text *t, const char *s);                      /* nothing in s can end the comment */

/* ---- types.c ---- */
const char *c_type(Gen *g, Type t); /* of a value; a vector of bools has none */
const char *c_elem(DType t);        /* of an element in memory */
const char *c_mask(Gen *g, int lanes, int width);
DType mask_dtype(int width);
const char *type_text(Gen *g, Type t); /* f32, v16f32: what helpers are named by */
bool c_sub_byte(DType t);
int c_width(DType t); /* bits of an integer type */
void put_const(Gen *g, Text *t, DType dt, uint64_t bits, int prec);

/* ---- scalar.c, smallfloat.c: helpers on scalars ---- */
/* The text of an operator: infix, prefix, a call, a?b:c, or nothing (the operand itself). cast: the result is
   narrower than C's and is cast back. */
typedef struct Form {
    char kind;
    const char *text;
    int prec, arg;
    const char *cast;
} Form;
const char *op_word(ExprKind op); /* add, fma ... */
Form scalar_form(Gen *g, ExprKind op, DType arg, DType res);
const char *scalar_pick(Gen *g, bool lesser, DType t); /* a < b ? a : b */
const char *scalar_relu(Gen *g, DType t);
void put_form(Text *t, const Form *f, int n, const char *const *args); /* args bind as postfix */
bool helper_new(Gen *g, const char *name);                             /* false: it is there already */
const char *small_to_float(Gen *g, DType from);
const char *small_from_float(Gen *g, DType to, DType from);

/* Writes text with $x replaced by values[i] where keys[i] is x. */
void put_template(Text *t, const char *text, const char *keys, const char *const *values);

/* ---- vector.c, wide.c: helpers on vectors ---- */
const char *vector_op(Gen *g, ExprKind op, Type arg, Type res);
const char *vector_load(Gen *g, Type t, bool counted); /* BOOL: to a mask of bytes */
const char *vector_store(Gen *g, Type t, bool counted);
const char *vector_splat(Gen *g, Type t);
const char *vector_lane(Gen *g, Type t);
const char *vector_zip(Gen *g, bool high, Type t);
const char *vector_pick(Gen *g, bool lesser,
                        Type t); /* a < b ? a : b or a > b ? a : b; b when either is NaN */
const char *vector_relu(Gen *g, Type t);
const char *vector_keep(Gen *g, Type t); /* the operand, which is not merged with what uses it */
void vector_wide(Gen *g, ExprKind op, Type t,
                 Text *gnu); /* the body where instructions of the machine are asked for */
void vector_cast(Gen *g, Type from, Type to, Text *gnu);
void need_vector(Gen *g, Type t);
void put_lanes(Gen *g, Text *to, ExprKind op, Type arg, Type res, int arity, const char *result);

/* ---- expr.c ---- */
void put_expr(Gen *g, const Expr *e, int prec);
void put_mask(Gen *g, const Expr *e, int width);       /* a vector of bools as 0 and -1 of so many bytes */
int logic_depth(Gen *g, const Expr *e);                /* operations on bits that a vector ends with; 2: or more */
int mask_width(Gen *g, const Expr *e);                 /* the width it has by itself; 0: any */
void put_pointer(Gen *g, Buf *b, Expr *const *index);  /* to an element */
bool put_register(Gen *g, Buf *b, Expr *const *index); /* the variable, if the element is one */
void put_element(Gen *g, Buf *b, Expr *const *index);
bool put_double(Gen *g, const Expr *e); /* an upper bound of a size, computed in double */

/* ---- uses.c ---- */
void uses_of(Gen *g, Block *b, Uses *u);
bool bufs_overlap(Gen *g, const Uses *u, const Buf *b);

/* ---- stmt.c ---- */
void put_block(Gen *g, Block *b);
void line(Gen *g, const char *fmt, ...) GD_PRINTF(2, 3); /* indented, with a newline */
void begin_line(Gen *g);
void put_nest(Gen *g, Stmt *nest);
void put_call(Gen *g, Stmt *nest);

/* ---- run.c ---- */
void put_run(Gen *g);
void put_alloc(Gen *g, Buf *b);
void put_free(Gen *g, Buf *b);
void put_move(Gen *g, Buf *to, Buf *from);

/* ---- face.c ---- */
void name_fields(Gen *g);
void put_header(Gen *g);
void put_typed(Gen *g);
void put_table(Gen *g);
void put_profile(Gen *g);
bool arena_grows(const Gen *g);
enum { HEAP_START = 65536 }; /* bytes of tail to begin with */

/* ---- data.c ---- */
void place_consts(Gen *g, Uses *u);
void name_consts(Gen *g);
void put_consts(Gen *g);
const char *const_pointer(Gen *g, Buf *b);

#endif
