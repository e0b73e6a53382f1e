/* Gradients of whole models against central differences, for tables of cases. */
#ifndef GD_GRADCHECK_H
#define GD_GRADCHECK_H
#include <stdbool.h>
#include <stdint.h>
#include "op.h"

/* A model in ONNX's text form from its name on, `net (double[N,3] x, int64[2] i) => (double[N] y) { ... }`, or in that of the
   graph IR, `graph net(..`. The loss is a weighted sum of all outputs of doubles; asked for is the gradient of every input of
   doubles, and it must not be zero everywhere but for the inputs that the case calls flat. */
typedef struct GradCase {
    const char *name, *text;
    const char *dims; /* "N=1 M=3; N=2 M=7": values of the symbols, run by run; NULL: there are none, five runs */
    double lo, hi;    /* of doubles; both 0: -2, 2 */
    int64_t most;     /* integers are in 0..most */
    bool second;      /* the second derivative too: the gradient of a weighted sum of the gradients */
    bool fixed;       /* each run has a model of its own, in which the symbols are numbers */
    bool whole;       /* doubles are whole numbers: some are 0, some are equal */
    bool rough;       /* something is rounded to f32: a wide step, which suits what is linear, and 1e-5 */
    unsigned flat;    /* bit i: the derivative by double input i is zero everywhere */
    bool only_double; /* something in the model is double whatever the inputs are */
    int opset;        /* 0: 24 */
} GradCase;

/* In double, by the interpreter, opt being the level of the passes. Fails the test at the first wrong number; returns how many
   shapes were compared. *worst becomes the largest error relative to the size of what was compared, when that is larger. */
int grad_check(const GradCase *k, int opt, double *worst);
/* The same model in float: loss and gradients have equal bits from the interpreter and every back end, whatever the schedule. */
void grad_bits(const GradCase *k);
/* The same model in f16 has a program with gradients, which runs. */
void grad_half(const GradCase *k);
/* Has a case that was checked nodes of this row, from and to floats that the inputs reach, or (BUILD rows) a gradient through
   nodes that it made? */
bool grad_checked(const Op *op);
/* Inputs (bits) that were floats in such nodes, but never any that a gradient had to go to. */
unsigned grad_unchecked_inputs(const Op *op);
#endif
