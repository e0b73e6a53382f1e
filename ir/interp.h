/* The two halves of the interpreter: interp.c makes code of a program, interprun.c runs it. */
#ifndef GD_INTERP_H
#define GD_INTERP_H
#include "loop.h"

/* Registers ("slots") are 64-bit words; a vector takes as many as it has lanes. Slot 0 is not used. Jumps count from the
   instruction after the jump. */
typedef enum InsKind {
    I_END, I_NEST,                    /* at: the nest that begins (for messages) */
    I_CONST, I_LANES,                 /* dst = k in every lane; dst = 0, 1, 2, ... as dt */
    I_COPY, I_SPLAT,                  /* dst = a */
    I_ZIP,                            /* dst = lanes of a and b in turn, beginning with lane k */
    I_EVAL, I_EVAL_SLOW,              /* dst = fn(a, b, d); dst = gd_eval(op, dt, res, ...) */
    I_INSIDE,                         /* dst = 0 <= a < b, and d where d is not 0 */
    I_LOAD32, I_LOAD64, I_LOAD,       /* dst = mem[a + k] under mask b, provided that d */
    I_STORE32, I_STORE64, I_STORE,    /* mem[a + k] = dst under mask b, provided that d */
    I_LOAD_REG, I_STORE_REG,          /* the same with the n elements whose slots begin at mem */
    I_FOR, I_NEXT,                    /* dst = 0, jump k if not dst < a; ++dst, jump k if dst < a */
    I_JUMP, I_UNLESS,                 /* jump k; jump k if not a */
    I_CHECK,                          /* return k unless a */
    I_FORGET,                         /* lanes words from dst on get k: what a register holds before its first store */
    I_SYMBOL,                         /* dst = a for the symbol at, within its range */
    I_ARENA,                          /* the planned arena has a bytes */
    I_BIND,                           /* mem gets its place: a elements, at byte b of the arena where b is not 0 */
    I_LOCAL,                          /* mem has a elements, whose values are not defined */
    I_ALLOC, I_FREE, I_TAKE           /* heap; TAKE: mem takes over the storage of mem k */
} InsKind;
typedef enum MaskKind { MASK_NONE, MASK_BOOL, MASK_COUNT } MaskKind;

typedef struct Ins {
    uint8_t kind, op, dt, res, mask;
    uint32_t lanes, dst, a, b, d, mem;
    int64_t k;
    union { GdLanes *fn; int64_t n; };
    const void *at; /* loads: the Expr; stores, and most others: the Stmt */
} Ins;

typedef struct Mem {
    Buf *buf;
    char *p;
    int64_t n;         /* elements */
    size_t room;       /* bytes, of storage made by the interpreter */
    void *own;         /* HEAP: to be freed */
} Mem;

typedef struct Code {
    VEC(Ins) ins;
    VEC(Mem) mem;
    uint32_t slots;
    Map *vars; /* Var to its Slot */
} Code;
typedef struct Slot { uint32_t at; } Slot;

/* Everything lives in s; expressions are made in p->c. */
Code *interp_compile(Ctx *s, const Program *p);
int interp_run(Ctx *c, Ctx *s, const Program *p, Code *code, LoopArgs *a);
#endif
