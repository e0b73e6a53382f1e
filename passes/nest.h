/* What the passes that restructure loops ask of a nest: which memory its statements touch, and how an address moves
   with a loop variable. */
#ifndef GD_NEST_H
#define GD_NEST_H
#include "passes.h"

typedef struct Access {
    Buf *buf;
    Expr *at;       /* element offset in the root's storage */
    Expr *load;     /* the LOAD, or NULL: a store */
    Expr *mask;     /* may be NULL */
    bool inner;     /* below a loop of the block that was searched */
} Access;
typedef VEC(Access) Accesses;

/* Every load and store of the block, except of registers and temporaries declared inside it. */
void nest_accesses(Program *p, Block *b, Accesses *out);
/* Is anything but addresses decided by v: masks, conditions, trip counts? (Values may be.) */
bool nest_controls(Ctx *c, Block *b, Var *v);
/* The distance in elements between neighbouring values of v: true and a number, or false. */
bool access_stride(Ctx *c, const Access *a, Var *v, int64_t *stride);
/* Does s store into root's storage, or make a variable that stands in e? */
bool stmt_changes(Stmt *s, const Buf *root, const Expr *e);
/* A copy of the block with variables replaced (Map of Var to Expr; buffers declared inside are copied too). */
void block_copy(Program *p, const Block *from, Block *to, Map *vars);
/* A chain of free loops, each the only statement of the one around it; returns the innermost body. */
Block *nest_chain(Stmt *s, int max, Stmt **loops, int *n);
#endif
