/* What conv and pooling share: how a window moves over the spatial axes (all axes from 2 on), and padding. */
#ifndef GD_WINDOWS_H
#define GD_WINDOWS_H
#include "export.h"
#include "import.h"

typedef struct Window {
    int spatial;
    int64_t strides[MAX_RANK], dilations[MAX_RANK];
    Expr *lo[MAX_RANK], *hi[MAX_RANK]; /* padding of each spatial axis */
    Expr *over[MAX_RANK];              /* ceil_mode: further padding at the end that counts as nothing */
} Window;

/* ONNX's strides and dilations, 1 where absent. false after an error. */
bool import_window_moves(Import *n, int spatial, Window *w);
/* These, and the padding from pads, auto_pad and ceil_mode. kernel: sizes of the spatial axes. */
bool import_window(Import *n, const Value *x, Expr *const *kernel, Window *w);
/* x with the window's padding around it. */
Value *window_pad(Graph *g, Value *x, const Window *w, double value);

/* Export. Is input 0 a pad of that value that a window's pads can say? Then *x is what is padded, pads are begins and ends. */
bool window_padding(const Node *n, double value, Value **x, int64_t *pads);
void window_attrs(Export *x, ExportNode *e, const Node *n); /* strides and dilations */
bool export_mean(Export *x, Node *div);                     /* the quotient is an average pooling: exported as one */

/* Convolution and its gradient: contract.c, convgrad.c. b: may be NULL. */
Value *build_conv(Graph *g, Value *x, Value *w, Value *b, const Window *win, int64_t group);
/* w[C, M/g, k...] -> [M, C/g, k...], each kernel turned round: what conv reads when it undoes a convolution. */
Value *turned_kernel(Graph *g, Value *w, int64_t group);
void conv_grad(Grad *G, Node *n, Value *const *dy);

/* Elements from the first to the last that a kernel touches. */
Expr *window_reach(Ctx *c, Expr *kernel, int64_t dilation);
/* Output sizes of the spatial axes for a node with strides and dilations, written to dim[2..]. */
bool window_shape(Node *n, const Value *x, Expr *const *kernel, Expr **dim);
/* Position in the input of spatial axis i under output position o and kernel position k. */
Expr *window_at(Ctx *c, const Node *n, int i, Expr *o, Expr *k);
#endif
