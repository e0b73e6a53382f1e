/* The words of the ONNX text syntax, for onnxtext.c and onnxprint.c: names of types, and a cursor over the
   text with what can be read at it. What is not found there leaves with E104. */
#ifndef GD_ONNXTEXT_H
#define GD_ONNXTEXT_H
#include "onnx.h"

enum { PB_TYPES = 27 };
extern const char *const pb_type_names[PB_TYPES];     /* by TensorProto.DataType; [0] is NULL */
extern const char *const pb_attr_names[PA_TYPES_END]; /* [0] is NULL */

typedef struct Cursor {
    Ctx *c;
    const char *start, *p, *end; /* no zero byte lies between */
    int depth;                   /* of graphs and types being read */
    int64_t nodes;
} Cursor;

void cursor_open(Cursor *r, Ctx *c, const char *text, size_t n);
/* "line 2, column 7: a type is expected, not "foo"". */
GD_NORETURN void cursor_expected(Cursor *r, const char *what);
GD_NORETURN void cursor_fail(Cursor *r, const char *at, const char *help, const char *what);

char cursor_next(Cursor *r);            /* the next that is no space or comment; 0: the end. Stays there */
bool cursor_match(Cursor *r, char ch);  /* passes it */
void cursor_want(Cursor *r, char ch);
size_t cursor_word(Cursor *r);          /* length of the identifier ahead; 0: none. Stays before it */
bool cursor_is(Cursor *r, const char *word); /* the identifier ahead is this one */
char *cursor_identifier(Cursor *r, const char *what);
char *cursor_string(Cursor *r, size_t *n);   /* "...", with \" and \\ */
char *cursor_name(Cursor *r);                /* an identifier or a string */

/* A number as written. whole: it has no point and no exponent; magnitude is exact unless it is large. */
typedef struct Number {
    const char *at;
    bool whole, negative, large;
    uint64_t magnitude;
    double v;
    float single;
} Number;
bool cursor_at_number(Cursor *r);
Number cursor_number(Cursor *r);
int64_t cursor_int(Cursor *r);
int64_t number_int(Cursor *r, const Number *n); /* leaves when it is none */
#endif
