/* The syntax of formulas, apart from what they compute.

   A formula is `name = expr;` bindings and one final expression, with C's operators and precedence:
     ?:  ||  &&  |  ^  &  == !=  < <= > >=  << >>  + -  * / %  and unary - ! ~
   Operands are names, numbers (decimal, hex, hex float), calls f(a, b, key=value) and parentheses. A key's
   value is a number, a [list] of numbers, a "string" or a name. `a, b = f(x);` binds the results of one call,
   and the final expression may be a list `y, m`.

   What a value is, the caller says: the parser drives the callbacks of an Algebra, bottom up and left to
   right. gd_formula (expr.h) is the algebra of scalar and vector expressions; the composite ops of the graph
   IR are another one. */
#ifndef GD_FORMULA_H
#define GD_FORMULA_H
#include "expr.h"

/* Operators, in the order of the table in formula.c. */
typedef enum FormulaOp {
    FO_OROR, FO_ANDAND, FO_OR, FO_XOR, FO_AND, FO_EQ, FO_NE, FO_LT, FO_LE, FO_GT, FO_GE, FO_SHL, FO_SHR,
    FO_ADD, FO_SUB, FO_MUL, FO_DIV, FO_REM, FO_NEG, FO_NOT, FO_INV, FO_SELECT /* cond ? a : b */, FORMULA_OPS
} FormulaOp;
const char *gd_formula_op(FormulaOp op); /* as written; "?:" for FO_SELECT */

/* A number as written: whole ones (no point, no exponent) have i, modulo 2^64; d is its value. */
typedef struct FormulaNum {
    bool whole;
    uint64_t i;
    double d;
} FormulaNum;

typedef enum FormulaKeyKind { FK_NUM, FK_LIST, FK_STRING, FK_NAME } FormulaKeyKind;
typedef struct FormulaKey {
    const char *key;
    FormulaKeyKind kind;
    int n;            /* FK_LIST: how many */
    FormulaNum *num;  /* FK_NUM: one, FK_LIST: n */
    const char *text; /* FK_STRING, FK_NAME */
} FormulaKey;

typedef struct Formula Formula; /* a formula being read: where we are, for messages */

/* Values are the caller's pointers, never NULL. Where a callback returns NULL, the name is unknown. */
typedef struct Algebra {
    void *(*literal)(Formula *f, void *self, FormulaNum n);
    void *(*name)(Formula *f, void *self, const char *name); /* a name that no binding has */
    void *(*op)(Formula *f, void *self, FormulaOp op, int n, void *const *args);
    void *(*call)(Formula *f, void *self, const char *name, int n, void *const *args, int nkeys,
                  const FormulaKey *keys);
    /* Result i of a call; NULL: calls have one result. */
    void *(*item)(Formula *f, void *self, void *call, int i);
} Algebra;

/* Reads the whole text, gives its results (at most max) and returns how many. Formulas are the compiler's
   own: what is wrong with one is a gd_bug that shows the text and the place. */
int gd_formula_read(Ctx *c, const char *text, const Algebra *a, void *self, void **results, int max);
GD_NORETURN void gd_formula_fail(Formula *f, const char *fmt, ...) GD_PRINTF(2, 3);

/* gd_formula with calls of elementary functions replaced by their bodies. */
Expr *gd_formula_inline(Ctx *c, const char *text, const Map *names, DType literal);
#endif
