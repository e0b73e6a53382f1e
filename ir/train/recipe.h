/* What the five kinds of recipes share: a row of text, and the scope in which it becomes nodes.

   A row has a name (and further ones), arguments, each with its default in either semantics, and lines of composite text
   (import.h, graph_text). A line binds its name for those after it; which lines are used depends on the arguments. In a line
   arguments are numbers. Everything is computed in f32, or in f64 where the values given are f64. */
#ifndef GD_RECIPE_H
#define GD_RECIPE_H
#include "../ops/build.h"
#include "../train.h"

enum { ROW_ARGS = 12, ROW_LINES = 14 };

typedef struct RowArg {
    const char *name; /* "beta1 b1": further names behind the first */
    double keras, torch;
    const char *words; /* "mean sum none": it is one of these, as its position; "*": any text, scope_word has it */
} RowArg;

/* when: all of its words hold. keras, torch: the semantics; NAME: the argument is not 0; NAME?: it is not NaN, which is the
   default of what may be left out; NAME=2: it has that value; @NAME: a value of that name is bound; !WORD: it does not hold. */
typedef struct RowLine { const char *name, *text, *when; } RowLine;

typedef struct Row {
    const char *name; /* "categorical_crossentropy cce" */
    RowArg args[ROW_ARGS];
    const char *doc;
} Row;

typedef struct Scope {
    Graph *g;
    const char *what; /* "loss" */
    const Row *row;
    bool torch;
    DType dt; /* what is computed in */
    double arg[ROW_ARGS];
    const char *word[ROW_ARGS];
    Map *values, *attrs;
} Scope;

/* The row that a recipe names, and its arguments as numbers of the scope; false after an error. */
bool scope_open(Scope *s, Graph *g, const char *what, const Recipe *r, bool torch);
void scope_set(Scope *s, const char *name, double v); /* another value; nothing if the row has no such argument */
double scope_arg(const Scope *s, const char *name);
const char *scope_word(const Scope *s, const char *name); /* the text given; NULL: none */
bool scope_when(const Scope *s, const char *when);
void scope_number(Scope *s, const char *name, double v);
void scope_ints(Scope *s, const char *name, int n, const int64_t *v);
Value *scope_name(Scope *s, const char *name, Value *v); /* v itself */
Value *scope_value(const Scope *s, const char *name);
Value *scope_text(const Scope *s, const char *formula);
Value *scope_lines(Scope *s, const RowLine *lines, int n); /* the last one's value; NULL: no line was used */
/* Numbers "1:2:0.5" of an argument of any text: their count, -1 when there are none. */
int scope_list(Scope *s, const char *name, const double **v);
void scope_error(const Scope *s, int code, const char *help, const char *fmt, ...) GD_PRINTF(4, 5);

bool name_in(const char *names, const char *name); /* one of the words? */

/* The tables: row i, NULL past the last. */
const Row *loss_row(int i);
const Row *metric_row(int i);
const Row *schedule_row(int i);
const Row *optimizer_row(int i);
const Row *init_row(int i);

/* ---- what losses and metrics share ---- */

DType recipe_wide(const Value *v); /* f64 stays, else f32 */
Value *sum_all(Graph *g, Value *v);
Value *mean_all(Graph *g, Value *v);
/* The axis of p that the classes lie along; -1 after an error. */
int class_axis(const Scope *s, const Value *p);
/* Is the target of this loss a class number at each place? Where do the classes lie? Which class is left out (NaN: none)? false
   after an error. */
bool loss_classes(Graph *g, const TrainSpec *s, const Value *p, bool *sparse, int *axis, double *ignored);
bool loss_binary(const TrainSpec *s); /* of yes and no */
Value *one_hot(Graph *g, Value *target, const Value *p, int axis); /* bool, of p's shape */
/* log p = d - lse, from the nodes of p when it is a softmax or log softmax over that axis; false: it is neither. */
typedef struct LogSoftmax { Value *d, *lse; } LogSoftmax;
bool softmax_of(Graph *g, Value *p, int axis, LogSoftmax *l);
bool log_softmax_of(Value *logp, int axis, LogSoftmax *l);
Value *sigmoid_of(Value *p); /* x, p being sigmoid x; else NULL */
bool scores_not_probabilities(Graph *g, const TrainSpec *s, Value *p, int axis);
#endif
