/* The loop IR: what the generated program does, statement by statement. A closed set, known to every loop pass and to
   both back ends; docs/loop-ir.md has the text form.

   A Program is one entry function: parameters (buffers bound to the caller's pointers, dim symbols), constants, and a
   body. The body is a list of statements; a Nest groups those that one group of graph nodes became, and is
   the unit that is scheduled, timed and printed as one function.

   Order is semantics. Loops run their iterations in order, unless their mode says that order cannot matter:
   PARALLEL, UNROLL and VECTOR loops have independent iterations (lowering marks loops over output elements
   as free = true, and only free loops may be moved, split or given a mode). A reduction is an ordinary loop that
   updates a buffer; no pass may change the order of its updates.

   Register tiles are buffers too (space REG): an accumulator is a REG buffer with no dims, a tile one with dims;
   once their indices are constant both back ends keep them in registers. So there is one kind of store.

   A vector load or store touches as many consecutive elements of the storage as it has lanes, starting at the element its
   index names, whatever the strides of the dims are.

   A LET whose variable is a symbol (V_SYM, data) is where a size that only the data decides becomes known; it stands at
   the top level of the body or in a loop or branch of it, never inside a nest.

   After `bind` (Program.bound) an expression inside a statement is a tree but for what expr_cheap allows: a shared value is
   bound by LET (the verifier checks), so a back end prints what it sees and never computes a value twice. */
#ifndef GD_LOOP_H
#define GD_LOOP_H
#include "expr.h"

typedef enum Space {
    SP_IN,     /* the caller's, read only */
    SP_OUT,    /* the caller's; one whose size only the data decides has an ALLOC, which takes the arena's tail when the
                  caller passes no place */
    SP_CONST,  /* known when compiling: data is set */
    SP_ARENA,  /* temporary, placed by `plan`: offset is set */
    SP_HEAP,   /* temporary whose size only the data decides: ALLOC and FREE, inside the arena's tail */
    SP_LOCAL,  /* small, on the stack, inside one nest */
    SP_REG     /* registers */
} Space;

struct Buf {
    const char *name;     /* checked identifier */
    int id;
    Space space;
    DType dt;
    uint8_t lanes;        /* REG only: element is a vector */
    int rank;
    Expr **dim;           /* sizes */
    Expr **stride;        /* in elements; NULL: row-major over dim */
    Buf *base;            /* a view: element 0 lies `origin` elements into base; NULL: storage of its own */
    Expr *origin;
    const void *data;     /* SP_CONST */
    int port;             /* position among the inputs (SP_IN), or among the outputs (SP_OUT) */
    Expr *offset;         /* SP_ARENA after plan: bytes */
    const char *label;    /* what a reader of the dump wants: the model's name for it, escaped; may be NULL */
};

typedef enum StmtKind { S_FOR, S_WHILE, S_IF, S_LET, S_STORE, S_DECL, S_ALLOC, S_FREE, S_MOVE, S_CHECK, S_NEST } StmtKind;
typedef enum LoopMode { L_SERIAL, L_PARALLEL, L_UNROLL, L_VECTOR } LoopMode;
typedef struct Stmt Stmt;
typedef VEC(Stmt *) Block;

/* Where a nest came from and how it was scheduled: only for readers and for the profile, never for meaning. */
typedef struct NestInfo {
    const char *name;     /* checked identifier, unique in the program */
    const char *source;   /* graph nodes it came from, escaped */
    const char *schedule; /* what tile and its friends chose, and who chose */
    const char *note;     /* why something was not fused, what changed in rounding */
    double macs, bytes;   /* for one run with every symbol at its lowest, at least 1 */
} NestInfo;

struct Stmt {
    StmtKind kind;
    uint8_t mode;         /* FOR: LoopMode */
    bool free;            /* FOR: iterations are independent */
    uint8_t width;        /* FOR, mode VECTOR: lanes; the trip count is that, or less: then only so many lanes live */
    Var *var;             /* FOR, LET */
    Expr *e;              /* FOR: trip count; WHILE, IF, CHECK: condition; LET, STORE: the value */
    Expr *mask;           /* STORE: NULL, a scalar bool, or (vectors) an i64: only so many leading lanes are written */
    Buf *buf;             /* STORE, DECL, ALLOC, FREE; MOVE: takes over the storage of from, a HEAP buffer that then has none */
    Buf *from;
    int nindex;
    Expr **index;         /* STORE */
    int status;           /* CHECK: what run returns when e is false */
    Block body, other;    /* FOR, WHILE, IF (then / else), NEST */
    NestInfo *nest;
};

typedef struct Program {
    Ctx *c;
    const char *name;     /* checked identifier: prefix of all emitted names */
    const char *after;    /* the last pass that ran */
    VEC(Var *) syms;      /* dim symbols in order: inputs' first, then those the data decides */
    VEC(Buf *) params;    /* inputs in order, then outputs in order */
    VEC(const char *) port_names; /* file-safe names of params */
    VEC(Buf *) consts;
    VEC(Buf *) bufs;      /* ARENA and HEAP */
    Block body;
    Expr *arena;          /* after plan: bytes, an expression in the inputs' symbols */
    bool grows;           /* HEAP buffers: the arena may turn out too small */
    bool bound;           /* `bind` ran: no statement computes a value twice */
    int lanes;            /* f32 lanes of the target's vector registers (16, 8, 4); 0: not vectorised */
    int nbufs;            /* buffers made so far, for Buf.id */
    Map *nest_names;
} Program;

Program *program_new(Ctx *c, const char *name);
/* Enters the buffer into the program's list for its space (params with the name as port name, consts, bufs); LOCAL and
   REG are declared by a statement. The dims, strides and origin of any buffer use symbols only. */
Buf *buf_new(Program *p, Space space, DType dt, int rank, Expr *const *dim, const char *name);
Buf *buf_view(Program *p, Buf *base, Expr *origin, int rank, Expr *const *dim, Expr *const *stride);
Expr *buf_address(Ctx *c, const Buf *b, Expr *const *index); /* element offset from the root of its storage */
Buf *buf_root(Buf *b);
Expr *buf_size(Ctx *c, const Buf *b);                        /* elements of storage it spans */

Stmt *stmt_for(Program *p, Block *to, const char *name, Expr *trip, bool free); /* var is made; fill body */
Stmt *stmt_let(Program *p, Block *to, const char *name, Expr *value);           /* .var is the new variable */
Stmt *stmt_store(Program *p, Block *to, Buf *b, Expr *const *index, Expr *value, Expr *mask);
Stmt *stmt_decl(Program *p, Block *to, Buf *b);
Stmt *stmt_if(Program *p, Block *to, Expr *cond);
Stmt *stmt_nest(Program *p, Block *to, const char *name); /* made unique: name, name_1, ... */
Stmt *stmt_new(Program *p, Block *to, StmtKind kind); /* to may be NULL */

/* Walks, in order; fn returns false to skip what lies inside. */
void block_walk(Block *b, bool (*fn)(void *, Stmt *), void *arg);
void stmt_walk(Stmt *s, uint32_t mark, void (*fn)(void *, Expr *), void *arg); /* expr_walk of every expression of s itself */
void stmt_exprs(Stmt *s, Expr *(*fn)(void *, Expr *), void *arg); /* replaces every expression of s itself */
/* A copy with fresh loop and let variables and REG/LOCAL buffers. vars (may be NULL): Var* to the Expr* that takes its
   place; what the copy made fresh is added to it. */
Stmt *stmt_clone(Program *p, const Stmt *s, Map *vars);

/* May stand several times in one statement: constants, variables, registers, and index arithmetic (scalar i64 and bool
   operators over such, without a load). */
bool expr_cheap(const Expr *e);

/* Text both ways, the verifier, the interpreter. */
void loop_print(Text *t, const Program *p);       /* complete: loop_parse gives the same program */
void loop_print_brief(Text *t, const Program *p); /* for readers: without the data of constants */
/* Leaves with E104 when the text is none, or the program breaks an invariant. Constants that the text gives no data for
   have none (data is NULL) and cannot be run. */
Program *loop_parse(Ctx *c, const char *text, size_t n);
void loop_verify(const Program *p); /* gd_bug on the first broken invariant */

typedef struct LoopArgs { const void *const *in; void **out; int64_t *syms; } LoopArgs;
/* Runs the program: 0 or the status of a failed CHECK. Outputs that are NULL are allocated in the Ctx. */
int loop_interpret(Ctx *c, const Program *p, LoopArgs *a);
#endif
