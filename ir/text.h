/* The parts of the text form that printer, parser and verifier share. */
#ifndef GD_TEXT_H
#define GD_TEXT_H
#include "loop.h"

/* How a variable, a buffer or a shared expression is called in one text, and its rank in order of appearance. */
typedef struct Named { const char *name; int order; } Named;
/* expr_print with names: Var*, Buf* or Expr* to Named*; what is not in the map goes by its own name. Of e itself the
   text is printed, not the name. */
void expr_print_named(Text *t, const Expr *e, const Map *names);
void type_print(Text *t, Type type);
/* The words that cannot be names. */
bool text_keyword(const char *s, size_t n);
bool text_identifier(const char *s); /* letters, digits, _; no digit first; no keyword */

/* A constant as it stands in a text: in an expression, or (bare) where its type is known. */
void const_print(Text *t, Type type, uint64_t bits, bool bare);
/* A number of type t from n characters; false when they are none. */
bool const_parse(Ctx *c, DType t, const char *s, size_t n, uint64_t *bits);

/* The first line of a statement, under its own names, for messages. */
const char *stmt_text(Ctx *c, const Stmt *s);

/* What is wrong with op over these arguments giving type t; NULL: nothing. */
const char *expr_fault(ExprKind op, Type t, int n, Expr *const *args);
/* The first broken invariant in words and where, NULL: none. */
const char *loop_fault(const Program *p);
enum { INLINE_DATA = 8 }; /* elements of a constant that stand beside it; more are in a data section */

/* ---- the parser's expressions (exprparse.c) ---- */

typedef struct Parser {
    Ctx *c;
    const char *at, *end, *line_start;
    int line, depth;
    Program *p;
    Map *names; /* to Name */
    VEC(Expr *) shared; /* $1, $2, ... of the statement */
} Parser;
/* What a name stands for now; both NULL: nothing. */
typedef struct Name { Var *var; Buf *buf; } Name;

GD_NORETURN void parse_fail(Parser *s, const char *help, const char *fmt, ...) GD_PRINTF(3, 4);
void parse_space(Parser *s);                     /* skips spaces, not line ends */
bool parse_eat(Parser *s, const char *token);    /* a symbol, or a whole word */
void parse_need(Parser *s, const char *token);
const char *parse_word(Parser *s);               /* a name or keyword; fails when there is none */
bool parse_peek_word(Parser *s);
int64_t parse_int(Parser *s);                    /* [-]digits, inf, -inf */
Expr *parse_expr(Parser *s);
Expr *parse_index(Parser *s);                    /* an i64 expression */
int parse_list(Parser *s, const char *close, Expr **list, int max); /* i64 expressions up to close */
Type parse_type(Parser *s);
int parse_lanes(Parser *s, const Buf *b);         /* the v16 of x.v16[i] */
#endif
