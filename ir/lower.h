/* Lowering: from values to loops, by element functions.

   lower_elem gives element idx of a value as an expression. For a value with a buffer it is a load; for one that is
   computed where it is used, the op's own elem. An elem may need statements (an accumulator and its loop): they are
   emitted in the outermost place where all variables they depend on are known, which is how a row's maximum lands
   before the loop over the row. What was computed once for (value, idx) in a scope is found again there.

   The same functions fold: with L->fold set no program exists, indices are numbers, reductions run at once, and
   whatever is not known sets L->failed. */
#ifndef GD_LOWER_H
#define GD_LOWER_H
#include "op.h"

typedef struct Scope Scope;
struct Scope {
    Scope *outer;
    Var *var;         /* of the loop; NULL: a plain block (nest, branch) */
    Stmt *stmt;       /* appended to outer's block when the scope is closed */
    Block *block;
    Map *memo;        /* (value, idx, guard) -> Expr */
    int depth;
    bool floor;       /* of a nest: nothing is hoisted out of it */
};

struct Lower {
    Ctx *c;
    Program *p;
    Graph *g;
    Scope *scope;
    Expr *guard;      /* loads must not happen where this is false; NULL: true */
    bool fold, failed;
    int budget;       /* fold: steps left */
    Map *bufs;        /* Value -> Buf */
    Map *where;       /* Var or Buf made while lowering -> the Scope it belongs to */
    Text *sources;    /* labels of the nodes that went into the nest */
};

Expr *lower_elem(Lower *L, Value *v, Expr *const *idx);
/* The same by the op's element function, although v may have a buffer: what fills it. */
Expr *lower_compute(Lower *L, Value *v, Expr *const *idx);
/* cond ? v[idx] : otherwise, without touching v where cond is false. */
Expr *lower_guarded(Lower *L, Expr *cond, Value *v, Expr *const *idx, Expr *otherwise);
/* v's element with numpy broadcasting from an output of the given rank and dims. */
Expr *lower_broadcast(Lower *L, Value *v, int rank, Expr *const *dim, Expr *const *idx);

/* Runs nloops nested loops (0-based, trips given) and carries nacc accumulators through them: acc = step(k, acc). The loops
   are emitted where everything in deps (ndeps of them) is known. The order of iterations is the meaning. */
typedef struct Accum {
    int nloops, nacc;
    Expr *trip[MAX_RANK];
    const char *name[MAX_RANK];     /* of the loop variables; NULL: k */
    Expr *init[4];                  /* their types are the accumulators' */
    void (*step)(Lower *L, void *arg, Expr *const *k, Expr *const *acc, Expr **next);
    void *arg;
} Accum;
void lower_accum(Lower *L, const Accum *a, int ndeps, Expr *const *deps, Expr **result);
/* As lower_accum with one accumulator and op one of ADD, MUL, MIN, MAX; the last loop runs in 16 fixed lanes that a
   tree 8, 4, 2, 1 combines (docs/numerics.md). term gives what is combined. */
Expr *lower_lanes(Lower *L, ExprKind op, int nloops, Expr *const *trip, Expr *init, int ndeps, Expr *const *deps,
                  Expr *(*term)(Lower *L, void *arg, Expr *const *k), void *arg);

/* For op->lower: statements. Loops are opened and closed in pairs; emitted code goes to the innermost open one. */
Buf *lower_buf(Lower *L, Value *v);                        /* of a ROOT value */
Expr *lower_open(Lower *L, const char *name, Expr *trip, bool free); /* a loop; its variable */
Stmt *lower_open_if(Lower *L, Expr *cond);
Stmt *lower_open_while(Lower *L, Expr *cond);
void lower_close(Lower *L, int n);                         /* n scopes */
Block *lower_block(Lower *L);
void lower_store(Lower *L, Buf *b, Expr *const *idx, Expr *value);
Buf *lower_reg(Lower *L, DType dt, const char *name);      /* a scalar register, declared here */
Buf *lower_local(Lower *L, DType dt, int rank, Expr *const *dim, const char *name); /* a temporary of this nest */
Expr *lower_load(Lower *L, Buf *b, Expr *const *idx);
Expr *lower_let(Lower *L, const char *name, Expr *value);  /* bound here: its variable */

/* The whole graph becomes a program (places decided). For ops with regions: its nodes, and a copy nest. */
Program *lower_graph(Graph *g);
void lower_nodes(Lower *L, Graph *g);
void lower_copy(Lower *L, Value *v, Buf *to);
Stmt *lower_open_nest(Lower *L, const char *name);
void lower_close_nest(Lower *L, Stmt *nest);
/* A temporary that lives across nests: in the arena, or allocated here when only the data decides its size. */
Buf *lower_temp(Lower *L, DType dt, int rank, Expr *const *dim, const char *name);
/* Known elements of all outputs of n, when every element can be computed from what is known. */
void lower_fold_node(Node *n);
#endif
