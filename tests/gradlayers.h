/* Cases for test_gradops.c: the layers of networks, control flow, and what else a model may have in it. */
#ifndef GD_GRADLAYERS_H
#define GD_GRADLAYERS_H
#include "gradcheck.h"

#define X1 "N=1 W=9; N=2 W=9; N=1 W=10; N=3 W=11; N=2 W=12; N=1 W=13; N=2 W=14; N=4 W=9; N=1 W=17; N=2 W=23"
#define X2 "N=1 H=7 W=7; N=2 H=7 W=8; N=1 H=8 W=7; N=2 H=9 W=7; N=1 H=7 W=11; N=3 H=8 W=8; N=1 H=9 W=10; N=2 H=7 W=9; N=1 H=12 W=8; N=1 H=13 W=7"
#define X3 "N=1 D=3 H=4 W=5; N=2 D=3 H=3 W=3; N=1 D=4 H=3 W=5; N=1 D=5 H=3 W=4; N=1 D=3 H=5 W=7; N=2 D=4 H=4 W=4; N=1 D=6 H=3 W=3; N=1 D=3 H=6 W=4; N=1 D=3 H=3 W=8; N=3 D=3 H=4 W=3"
#define NCW "N=1 C=1 W=3; N=2 C=1 W=4; N=1 C=3 W=5; N=2 C=4 W=2; N=3 C=5 W=3; N=5 C=2 W=7; N=7 C=3 W=2; N=4 C=5 W=4; N=2 C=17 W=2; N=3 C=2 W=11"
#define TEN "N=1; N=2; N=3; N=4; N=5; N=6; N=7; N=8; N=9; N=11"

/* ---- products ---- */

#define MKN "M=1 K=1 N=1; M=2 K=3 N=4; M=3 K=1 N=2; M=1 K=5 N=3; M=4 K=4 N=4; M=7 K=2 N=3; M=2 K=7 N=1; M=5 K=3 N=5; M=1 K=17 N=2; M=3 K=2 N=11"
#define FREE_A "B=1 A=1 M=1 K=2 N=3; B=2 A=1 M=2 K=1 N=2; B=2 A=2 M=3 K=2 N=1; B=3 A=1 M=2 K=3 N=4; B=4 A=4 M=1 K=2 N=2; B=1 A=1 M=5 K=3 N=2; B=5 A=1 M=2 K=2 N=3; B=3 A=3 M=3 K=3 N=3; B=7 A=1 M=1 K=4 N=2; B=2 A=2 M=4 K=5 N=1"
static const GradCase products[] = {
    {"MatMul", "net (double[M,K] a, double[K,N] b) => (double[M,N] y) { y0 = MatMul(a, b) y = Sin(y0) }", MKN, .second = true},
    {"MatMul, batches", "net (double[3,M,K] a, double[3,K,N] b) => (double[3,M,N] y) { y = MatMul(a, b) }", MKN, .second = true},
    {"MatMul, a batch of 1 or B", "net (double[A,M,K] a, double[B,K,N] b) => (double[p,q,r] y) { y = MatMul(a, b) }", FREE_A, .second = true},
    {"MatMul, more axes left", "net (double[2,1,M,K] a, double[3,K,N] b) => (double[2,3,M,N] y) { y = MatMul(a, b) }", MKN, .second = true},
    {"MatMul, more axes right", "net (double[M,K] a, double[2,3,K,N] b) => (double[2,3,M,N] y) { y = MatMul(a, b) }", .dims = MKN},
    {"MatMul, one matrix", "net (double[2,M,K] a, double[K,N] b) => (double[2,M,N] y) { y = MatMul(a, b) }", .dims = MKN},
    {"MatMul, a vector left", "net (double[K] a, double[M,K,N] b) => (double[M,N] y) { y = MatMul(a, b) }", .dims = MKN},
    {"MatMul, a vector right", "net (double[M,N,K] a, double[K] b) => (double[M,N] y) { y = MatMul(a, b) }", .dims = MKN},
    {"MatMul, vectors", "net (double[K] a, double[K] b) => (double y) { y = MatMul(a, b) }", "K=1; K=2; K=3; K=4; K=5; K=6; K=7; K=8; K=9; K=11", .second = true},
    {"Gemm", "net (double[M,K] a, double[K,N] b, double[N] c) => (double[M,N] y) { y = Gemm<alpha=0.5, beta=1.5>(a, b, c) }", MKN, .second = true},
    {"Gemm, both turned", "net (double[K,M] a, double[N,K] b, double[M,1] c) => (double[M,N] y) { y = Gemm<transA=1, transB=1>(a, b, c) }", MKN, .second = true},
    {"Gemm, turned, no c", "net (double[K,M] a, double[K,N] b) => (double[M,N] y) { y = Gemm<transA=1, alpha=2.0>(a, b) }", .dims = MKN},
    {"Gemm, a scalar c", "net (double[M,K] a, double[N,K] b, double c) => (double[M,N] y) { y = Gemm<transB=1>(a, b, c) }", .dims = MKN},
};

/* ---- convolution ---- */

#define CONV1(W, ATTRS) "net (double[N,4,W] x, double[" W "] w, double[6] b) => (double[N,6,p] y) { y = Conv" ATTRS "(x, w, b) }"
#define CONV2(W, ATTRS) "net (double[N,4,H,W] x, double[" W "] w, double[4] b) => (double[N,4,p,q] y) { y = Conv" ATTRS "(x, w, b) }"
#define CONV3(W, ATTRS) "net (double[N,2,D,H,W] x, double[" W "] w, double[2] b) => (double[N,2,p,q,r] y) { y = Conv" ATTRS "(x, w, b) }"
#define TURN1(W, B, ATTRS) "net (double[N,4,W] x, double[" W "] w, double[" B "] b) => (double[N," B ",p] y) { y = ConvTranspose" ATTRS "(x, w, b) }"
#define TURN2(W, ATTRS) "net (double[N,4,H,W] x, double[" W "] w) => (double[N,r,p,q] y) { y = ConvTranspose" ATTRS "(x, w) }"
#define TURN3(W, ATTRS) "net (double[N,2,D,H,W] x, double[" W "] w) => (double[N,s,p,q,r] y) { y = ConvTranspose" ATTRS "(x, w) }"
#define SMALL1 "N=1 W=2; N=2 W=3; N=1 W=4; N=3 W=5; N=2 W=6; N=1 W=7; N=2 W=1; N=4 W=3; N=1 W=11; N=2 W=13"
#define SMALL2 "N=1 H=2 W=3; N=2 H=2 W=2; N=1 H=3 W=2; N=2 H=4 W=3; N=1 H=2 W=5; N=3 H=3 W=3; N=1 H=5 W=4; N=2 H=1 W=4; N=1 H=6 W=2; N=1 H=7 W=1"
#define SMALL3 "N=1 D=2 H=2 W=2; N=2 D=1 H=2 W=3; N=1 D=3 H=2 W=2; N=1 D=2 H=3 W=2; N=1 D=2 H=2 W=4; N=2 D=2 H=2 W=1; N=1 D=1 H=1 W=5; N=1 D=3 H=1 W=3; N=3 D=2 H=1 W=2; N=1 D=4 H=2 W=2"
#define DEFORM "N=1 W=4 V=3; N=2 W=4 V=3; N=1 W=5 V=4; N=2 W=6 V=5; N=3 W=4 V=3; N=1 W=7 V=6; N=2 W=8 V=7; N=1 W=9 V=8; N=4 W=5 V=4; N=1 W=12 V=11"
static const GradCase convs[] = {
    {"Conv 1", CONV1("6,4,3", ""), X1, .second = true},
    {"Conv 1, stride", CONV1("6,4,3", "<strides=[2]>"), X1, .second = true},
    {"Conv 1, stride above the kernel", CONV1("6,4,2", "<strides=[3], pads=[1,0]>"), X1, .second = true},
    {"Conv 1, stride 4", CONV1("6,4,5", "<strides=[4], pads=[0,3]>"), .dims = X1},
    {"Conv 1, stride 9", CONV1("6,4,3", "<strides=[9]>"), .dims = X1},
    {"Conv 1, dilated", CONV1("6,4,3", "<dilations=[3], pads=[2,1]>"), X1, .second = true},
    {"Conv 1, stride and dilation", CONV1("6,4,3", "<strides=[2], dilations=[2], pads=[2,1]>"), .dims = X1},
    {"Conv 1, stride and dilation without common factor", CONV1("6,4,3", "<strides=[3], dilations=[2], pads=[1,2]>"), .dims = X1},
    {"Conv 1, groups", CONV1("6,2,3", "<group=2, strides=[2]>"), X1, .second = true},
    {"Conv 1, SAME_UPPER", CONV1("6,4,4", "<auto_pad=\"SAME_UPPER\">"), .dims = X1},
    {"Conv 1, SAME_LOWER, stride", CONV1("6,4,4", "<auto_pad=\"SAME_LOWER\", strides=[2]>"), .dims = X1},
    {"Conv 1, the kernel's size open", "net (double[N,2,W] x, double[M,2,K] w) => (double[N,M,p] y) { y = Conv<strides=[2]>(x, w) }",
     .dims = "N=1 W=5 M=1 K=1; N=2 W=5 M=2 K=2; N=1 W=7 M=3 K=3; N=2 W=8 M=1 K=4; N=3 W=6 M=2 K=5; N=1 W=9 M=2 K=2; N=1 W=11 M=4 K=3; N=2 W=13 M=1 K=7; N=1 W=6 M=5 K=1; N=4 W=7 M=2 K=4"},
    {"Conv 2", CONV2("4,4,3,3", ""), X2, .second = true},
    {"Conv 2, no bias", "net (double[N,3,H,W] x, double[2,3,3,2] w) => (double[N,2,p,q] y) { y0 = Conv<pads=[1,0,1,1]>(x, w) y = Tanh(y0) }", X2, .lo = -1, .hi = 1, .second = true},
    {"Conv 2, pads", CONV2("4,4,3,2", "<pads=[1,2,0,1]>"), .dims = X2},
    {"Conv 2, strides", CONV2("4,4,3,3", "<strides=[2,3], pads=[1,1,1,1]>"), X2, .second = true},
    {"Conv 2, dilations", CONV2("4,4,2,3", "<dilations=[2,1], pads=[0,1,2,1]>"), .dims = X2},
    {"Conv 2, strides and dilations", CONV2("4,4,3,2", "<strides=[1,2], dilations=[2,3], pads=[2,0,1,1]>"), X2, .second = true},
    {"Conv 2, groups", CONV2("4,2,3,3", "<group=2, pads=[1,1,1,1]>"), .dims = X2},
    {"Conv 2, depthwise", CONV2("4,1,3,3", "<group=4, strides=[2,2], pads=[1,1,1,1]>"), X2, .second = true},
    {"Conv 2, 1x1 with strides", CONV2("4,4,1,1", "<strides=[2,2]>"), .dims = X2},
    {"Conv 2, SAME_UPPER", CONV2("4,4,3,2", "<auto_pad=\"SAME_UPPER\", strides=[2,2]>"), .dims = X2},
    {"Conv 2, SAME_LOWER, dilated", CONV2("4,4,2,2", "<auto_pad=\"SAME_LOWER\", dilations=[2,3]>"), .dims = X2},
    {"Conv 2, VALID", CONV2("4,4,2,5", "<auto_pad=\"VALID\", strides=[3,1]>"), .dims = X2},
    {"Conv 2, sizes known", CONV2("4,4,3,3", "<strides=[2,2], pads=[1,1,1,1]>"), X2, .fixed = true, .second = true},
    {"Conv 2, sizes known, all attributes", CONV2("4,2,3,2", "<group=2, strides=[3,2], dilations=[2,3], pads=[1,2,0,1]>"), .dims = X2, .fixed = true},
    {"Conv 2, sizes known, SAME_UPPER", CONV2("4,4,3,2", "<auto_pad=\"SAME_UPPER\", strides=[2,2]>"), .dims = X2, .fixed = true},
    {"Conv 3", CONV3("2,2,2,2,2", "<pads=[0,1,0,1,0,1]>"), X3, .second = true},
    {"Conv 3, all attributes", CONV3("2,1,2,2,3", "<group=2, strides=[1,2,2], dilations=[2,1,1], pads=[1,0,1,0,1,0]>"), .dims = X3},
    {"two convolutions", "net (double[N,2,H,W] x, double[3,2,3,3] w, double[2,3,2,2] v) => (double[N,2,p,q] y) { a = Conv<pads=[1,1,1,1]>(x, w) b = Tanh(a) "
     "y = Conv<strides=[2,2]>(b, v) }", X2, .lo = -.5, .hi = .5, .second = true},
    {"convolution, normalisation, pooling, product, softmax", "net (double[N,2,H,W] x, double[3,2,3,3] w, double[3] s, double[3] b, double[3] m, double[3] v, double[3,4] u) => (double[N,4] y) { "
     "a = Conv(x, w) c = BatchNormalization(a, s, b, m, v) d = Tanh(c) e = AveragePool<kernel_shape=[2,2]>(d) f = GlobalMaxPool(e) g = Flatten(f) h = MatMul(g, u) y = Softmax(h) }",
     X2, .lo = .1, .hi = 1, .second = true},
    {"ConvTranspose 1", TURN1("4,3,3", "3", ""), SMALL1, .second = true},
    {"ConvTranspose 1, stride", TURN1("4,3,3", "3", "<strides=[2], pads=[1,1], output_padding=[1]>"), SMALL1, .second = true},
    {"ConvTranspose 1, stride above the kernel", TURN1("4,3,2", "3", "<strides=[3]>"), .dims = SMALL1},
    {"ConvTranspose 1, groups, dilated", TURN1("4,2,3", "4", "<group=2, dilations=[2], pads=[1,0]>"), SMALL1, .second = true},
    {"ConvTranspose 2", TURN2("4,3,3,2", ""), SMALL2, .second = true},
    {"ConvTranspose 2, strides", TURN2("4,3,3,3", "<strides=[2,3], pads=[1,0,1,1], output_padding=[1,2]>"), .dims = SMALL2},
    {"ConvTranspose 2, all attributes", TURN2("4,2,2,3", "<group=2, strides=[2,1], dilations=[1,2], pads=[0,1,1,0], output_padding=[1,0]>"), SMALL2, .second = true},
    {"ConvTranspose 2, SAME_UPPER", TURN2("4,3,3,3", "<auto_pad=\"SAME_UPPER\", strides=[2,2]>"), .dims = SMALL2},
    {"ConvTranspose 2, SAME_LOWER", TURN2("4,3,3,2", "<auto_pad=\"SAME_LOWER\", strides=[2,1]>"), .dims = SMALL2},
    {"ConvTranspose 2, output_shape", "net (double[N,2,3,2] x, double[2,2,3,3] w) => (double[N,2,p,q] y) { y = ConvTranspose<strides=[2,3], output_shape=[6,7]>(x, w) }", .dims = TEN},
    {"ConvTranspose 2, sizes known", TURN2("4,2,2,3", "<group=2, strides=[2,3], pads=[0,1,1,0], output_padding=[1,0]>"), .dims = SMALL2, .fixed = true},
    {"ConvTranspose 3", TURN3("2,2,2,2,2", "<strides=[1,2,1], pads=[0,1,0,0,0,1]>"), SMALL3, .second = true},
    {"ConvTranspose 3, groups", TURN3("2,1,2,1,2", "<group=2, strides=[2,1,2], dilations=[1,1,2]>"), .dims = SMALL3},
    {"DeformConv", "net (double[N,2,4,W] x, double[3,2,2,2] w, double[N,8,3,V] o) => (double[N,3,3,V] y) { y = DeformConv(x, w, o) }", DEFORM, .second = true},
    {"DeformConv, bias and mask", "net (double[N,2,4,W] x, double[2,2,2,2] w, double[N,8,3,V] o, double[2] b, double[N,4,3,V] m) => (double[N,2,3,V] y) { y = DeformConv(x, w, o, b, m) }", .dims = DEFORM},
    {"DeformConv, groups, strides, dilations, pads", "net (double[N,4,5,W] x, double[4,2,2,2] w, double[N,16,3,V] o, double[4] b, double[N,8,3,V] m) => (double[N,4,3,V] y) { "
     "y = DeformConv<group=2, offset_group=2, strides=[2,1], dilations=[2,1], pads=[1,0,1,0]>(x, w, o, b, m) }", .dims = DEFORM},
    {"CausalConvWithState", "net (double[N,3,W] x, double[3,1,3] w, double[3] b, double[N,3,2] p) => (double[N,3,W] y, double[N,3,2] s) { y, s = CausalConvWithState<activation=\"silu\">(x, w, b, p) }", .dims = X1},
    {"CausalConvWithState, no past", "net (double[N,C,W] x, double[C,1,3] w) => (double[N,C,W] y) { y = CausalConvWithState(x, w) }", .dims = NCW},
    {"Col2Im", "net (double[N,8,9] x) => (double[N,2,p,q] y) <int64[2] i = {4,4}, int64[2] k = {2,2}> { y0 = Col2Im(x, i, k) y = Sin(y0) }", TEN, .second = true},
    {"Col2Im, all attributes", "net (double[N,12,6] x) => (double[N,2,p,q] y) <int64[2] i = {5,6}, int64[2] k = {3,2}> { "
     "y = Col2Im<strides=[2,2], dilations=[1,2], pads=[1,0,0,1]>(x, i, k) }", TEN, .second = true},
};

/* ---- pooling ---- */

#define POOL1(OP, ATTRS) "net (double[N,2,W] x) => (double[N,2,p] y) { y0 = " OP "" ATTRS "(x) y = Sin(y0) }"
#define POOL2(OP, ATTRS) "net (double[N,2,H,W] x) => (double[N,2,p,q] y) { y0 = " OP "" ATTRS "(x) y = Sin(y0) }"
#define POOL3(OP, ATTRS) "net (double[N,2,D,H,W] x) => (double[N,2,p,q,r] y) { y0 = " OP "" ATTRS "(x) y = Sin(y0) }"
/* Regions lie inside the image, more or less, and have a size. */
#define ROI(ATTRS) "net (double[2,2,6,7] x, double[N,4] r, int64[N] i) => (double[N,2,p,q] y) <double[4] c = {1,1,5,4}> { a = Tanh(r) b = Add(a, c) y = RoiAlign" ATTRS "(x, b, i) }"
static const GradCase pools[] = {
    {"MaxPool 1, ceil_mode", POOL1("MaxPool", "<kernel_shape=[3], strides=[2], ceil_mode=1>"), X1, .second = true},
    {"MaxPool 1, stride above the kernel", POOL1("MaxPool", "<kernel_shape=[2], strides=[3]>"), .dims = X1},
    {"MaxPool 2", POOL2("MaxPool", "<kernel_shape=[2,2], strides=[2,2]>"), X2, .second = true},
    {"MaxPool 2, all attributes", POOL2("MaxPool", "<kernel_shape=[3,2], strides=[1,2], dilations=[2,3], pads=[1,0,2,1], ceil_mode=1>"), X2, .second = true},
    {"MaxPool 2, SAME_UPPER", POOL2("MaxPool", "<kernel_shape=[3,2], strides=[2,2], auto_pad=\"SAME_UPPER\">"), .dims = X2},
    {"MaxPool 2, SAME_LOWER", POOL2("MaxPool", "<kernel_shape=[3,2], strides=[2,1], auto_pad=\"SAME_LOWER\">"), .dims = X2},
    {"MaxPool 2, sizes known", POOL2("MaxPool", "<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>"), .dims = X2, .fixed = true},
    {"MaxPool 3", POOL3("MaxPool", "<kernel_shape=[2,2,3], strides=[1,2,1], pads=[0,1,1,1,0,0]>"), X3, .second = true},
    {"AveragePool 1", POOL1("AveragePool", "<kernel_shape=[3], strides=[2]>"), X1, .second = true},
    {"AveragePool 1, ceil_mode", POOL1("AveragePool", "<kernel_shape=[4], strides=[3], pads=[1,2], ceil_mode=1>"), .dims = X1},
    {"AveragePool 1, ceil_mode, padding counts", POOL1("AveragePool", "<kernel_shape=[4], strides=[3], pads=[1,2], ceil_mode=1, count_include_pad=1>"), .dims = X1},
    {"AveragePool 2", POOL2("AveragePool", "<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]>"), X2, .second = true},
    {"AveragePool 2, padding counts", POOL2("AveragePool", "<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1], count_include_pad=1>"), .dims = X2},
    {"AveragePool 2, dilated", POOL2("AveragePool", "<kernel_shape=[2,3], strides=[1,3], dilations=[3,2], pads=[1,2,0,1]>"), X2, .second = true},
    {"AveragePool 2, stride above the kernel", POOL2("AveragePool", "<kernel_shape=[2,1], strides=[3,2]>"), .dims = X2},
    {"AveragePool 2, SAME_UPPER", POOL2("AveragePool", "<kernel_shape=[3,2], strides=[2,2], auto_pad=\"SAME_UPPER\">"), .dims = X2},
    {"AveragePool 2, SAME_LOWER, padding counts", POOL2("AveragePool", "<kernel_shape=[2,2], auto_pad=\"SAME_LOWER\", count_include_pad=1>"), .dims = X2},
    {"AveragePool 2, sizes known", POOL2("AveragePool", "<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], ceil_mode=1>"), .dims = X2, .fixed = true},
    {"AveragePool 3", POOL3("AveragePool", "<kernel_shape=[2,2,2], strides=[1,2,1], pads=[0,1,1,1,0,0]>"), .dims = X3},
    {"LpPool 1, p = 1", POOL1("LpPool", "<kernel_shape=[3], strides=[2], p=1>"), .dims = X1},
    {"LpPool 2", POOL2("LpPool", "<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]>"), X2, .second = true},
    {"LpPool 2, p = 3, dilated, ceil_mode", POOL2("LpPool", "<kernel_shape=[2,2], dilations=[2,1], strides=[2,2], ceil_mode=1, p=3>"), .dims = X2},
    {"LpPool 3, SAME_UPPER", POOL3("LpPool", "<kernel_shape=[2,2,2], auto_pad=\"SAME_UPPER\">"), .dims = X3},
    {"GlobalMaxPool", POOL2("GlobalMaxPool", ""), X2, .second = true},
    {"GlobalAveragePool", POOL2("GlobalAveragePool", ""), X2, .second = true},
    {"GlobalAveragePool 3", POOL3("GlobalAveragePool", ""), .dims = X3},
    {"GlobalLpPool", POOL2("GlobalLpPool", ""), X2, .second = true},
    {"GlobalLpPool, p = 3", POOL1("GlobalLpPool", "<p=3>"), .dims = X1},
    {"MaxUnpool", "net (double[N,2,4,6] x, double[N,2,2,3] z) => (double[N,2,p,q] y) { a, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) b = Mul(a, z) "
     "y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(b, i) }", TEN, .second = true},
    {"MaxUnpool, windows that overlap", "net (double[N,2,7] x, double[N,2,3] z) => (double[N,2,p] y) { a, i = MaxPool<kernel_shape=[3], strides=[2]>(x) b = Mul(a, z) "
     "y0 = MaxUnpool<kernel_shape=[3], strides=[2]>(b, i) y = Sin(y0) }", TEN, .second = true},
    {"MaxUnpool, output_shape", "net (double[N,1,4,4] x) => (double[p,q,r,s] y) { a, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) b = Sin(a) n = Shape<end=1>(x) o = Constant<value_ints=[1,5,6]>() "
     "w = Concat<axis=0>(n, o) y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(b, i, w) }", .dims = TEN},
    {"RoiAlign", ROI("<sampling_ratio=2, output_height=2, output_width=3>"), TEN, .most = 1},
    {"RoiAlign, as many samples as fit", ROI("<output_height=2, output_width=2, spatial_scale=0.5>"), TEN, .most = 1},
    {"RoiAlign, output_half_pixel", ROI("<sampling_ratio=2, output_height=3, output_width=2, coordinate_transformation_mode=\"output_half_pixel\">"), TEN, .most = 1},
    {"RoiAlign, max", ROI("<sampling_ratio=2, output_height=2, output_width=2, mode=\"max\">"), TEN, .most = 1},
};

/* ---- normalisation ---- */

#define BATCH_NORM(ATTRS, OUTS, NAMES) "net (double[N,C,W] x, double[C] s, double[C] b, double[C] m, double[C] v) => (double[N,C,W] y" OUTS ") { y" NAMES " = BatchNormalization" ATTRS "(x, s, b, m, v) }"
#define NORM(OP, ATTRS, S) "net (double[N,C,W] x, double[" S "] s, double[" S "] b) => (double[N,C,W] y) { y0 = " OP "" ATTRS "(x, s, b) y = Sin(y0) }"
#define ALONE(OP, ATTRS) "net (double[N,C,W] x) => (double[N,C,W] y) { y0 = " OP "" ATTRS "(x) y = Sin(y0) }"
static const GradCase norms[] = {
    {"BatchNormalization", BATCH_NORM("<epsilon=0.01>", "", ""), NCW, .lo = .2, .hi = 2, .second = true},
    {"BatchNormalization, training", BATCH_NORM("<training_mode=1, momentum=0.8, epsilon=0.1>", ", double[C] n, double[C] w", ", n, w"), NCW, .lo = .2, .hi = 2, .second = true},
    {"BatchNormalization 9, training", BATCH_NORM("<momentum=0.8, epsilon=0.1>", ", double[C] n, double[C] w, double[C] o, double[C] q", ", n, w, o, q"), .dims = NCW, .lo = .2, .hi = 2, .opset = 9},
    {"BatchNormalization, matrices", "net (double[N,C] x, double[C] s, double[C] b, double[C] m, double[C] v) => (double[N,C] y, double[C] n, double[C] w) { "
     "y, n, w = BatchNormalization<training_mode=1, epsilon=0.1>(x, s, b, m, v) }", "N=1 C=1; N=2 C=1; N=3 C=2; N=2 C=3; N=5 C=7; N=7 C=3; N=4 C=4; N=11 C=1; N=2 C=17; N=6 C=5", .lo = .2, .hi = 2},
    {"BatchNormalization 3", "net (double[N,2,D,H,W] x, double[2] s, double[2] b, double[2] m, double[2] v) => (double[N,2,D,H,W] y, double[2] n, double[2] w) { "
     "y, n, w = BatchNormalization<training_mode=1, epsilon=0.1>(x, s, b, m, v) }", SMALL3, .lo = .2, .hi = 2},
    {"InstanceNormalization", NORM("InstanceNormalization", "<epsilon=0.1>", "C"), NCW, .second = true},
    {"InstanceNormalization 2", "net (double[N,3,H,W] x, double[3] s, double[3] b) => (double[N,3,H,W] y) { y = InstanceNormalization(x, s, b) }", .dims = X2},
    {"GroupNormalization", "net (double[N,4,H,W] x, double[4] s, double[4] b) => (double[N,4,H,W] y) { y = GroupNormalization<num_groups=2, epsilon=0.1>(x, s, b) }", SMALL2, .second = true},
    {"GroupNormalization 18", "net (double[N,6,W] x, double[3] s, double[3] b) => (double[N,6,W] y) { y = GroupNormalization<num_groups=3, epsilon=0.1>(x, s, b) }", .dims = SMALL1, .opset = 18},
    {"GroupNormalization, one group", "net (double[N,C,W] x, double[C] s, double[C] b) => (double[N,C,W] y) { y = GroupNormalization<num_groups=1, epsilon=0.1>(x, s, b) }", .dims = NCW},
    {"LayerNormalization", NORM("LayerNormalization", "<epsilon=0.1>", "W"), NCW, .second = true},
    {"LayerNormalization, axis 1", NORM("LayerNormalization", "<axis=1, epsilon=0.1>", "C,W"), .dims = NCW},
    {"LayerNormalization, axis 0, broadcast scale", "net (double[N,C,W] x, double[C,1] s) => (double[N,C,W] y) { y = LayerNormalization<axis=0, epsilon=0.1>(x, s) }", .dims = NCW},
    {"LayerNormalization, statistics", "net (double[N,C,W] x, double[W] s) => (double[N,C,W] y, double[N,C,1] m, double[N,C,1] r) { y, m, r = LayerNormalization<epsilon=0.1, stash_type=11>(x, s) }", NCW, .second = true, .only_double = true},
    {"RMSNormalization", "net (double[N,C,W] x, double[W] s) => (double[N,C,W] y) { y0 = RMSNormalization<epsilon=0.1>(x, s) y = Sin(y0) }", NCW, .second = true},
    {"RMSNormalization, axis 1", "net (double[N,C,W] x, double[C,W] s) => (double[N,C,W] y) { y = RMSNormalization<axis=1, epsilon=0.1>(x, s) }", .dims = NCW},
    {"MeanVarianceNormalization", "net (double[N,2,H,W] x) => (double[N,2,H,W] y) { y = MeanVarianceNormalization(x) }", .dims = X2, .second = true},
    {"MeanVarianceNormalization, one axis", ALONE("MeanVarianceNormalization", "<axes=[-1]>"), .dims = NCW},
    {"LpNormalization", ALONE("LpNormalization", "<axis=1>"), NCW, .lo = .3, .hi = 2, .second = true},
    {"LpNormalization, p = 1", ALONE("LpNormalization", "<axis=0, p=1>"), NCW, .second = true},
    {"LRN", ALONE("LRN", "<size=3, alpha=0.5>"), NCW, .second = true},
    {"LRN, an even size, beta = 1", ALONE("LRN", "<size=4, alpha=0.5, beta=1.0, bias=2.0>"), .dims = NCW},
    {"LRN, beta = 1/2", ALONE("LRN", "<size=5, alpha=0.5, beta=0.5>"), .dims = NCW},
    {"LRN, another beta", "net (double[N,3,H,W] x) => (double[N,3,H,W] y) { y = LRN<size=2, alpha=0.5, beta=0.3>(x) }", .dims = SMALL2},
    {"Softmax", ALONE("Softmax", "<axis=1>"), NCW, .second = true},
    {"Softmax 11", ALONE("Softmax", "<axis=1>"), .dims = NCW, .opset = 11},
    {"LogSoftmax", ALONE("LogSoftmax", "<axis=0>"), NCW, .second = true},
    {"LogSoftmax 11", ALONE("LogSoftmax", "<axis=2>"), .dims = NCW, .opset = 11},
};

/* ---- attention ---- */

#define QKV "B=1 L=2 S=2; B=2 L=1 S=3; B=1 L=3 S=4; B=2 L=2 S=5; B=3 L=4 S=1; B=1 L=5 S=2; B=2 L=3 S=3; B=1 L=1 S=7; B=4 L=2 S=2; B=1 L=7 S=3"
#define ATTEND(MORE, ARGS, ATTRS) "net (double[B,2,L,4] q, double[B,2,S,4] k, double[B,2,S,3] v" MORE ") => (double[B,2,L,3] y) { y = Attention" ATTRS "(q, k, v" ARGS ") }"
static const GradCase attentions[] = {
    {"Attention", ATTEND("", "", ""), QKV, .second = true},
    {"Attention, causal", ATTEND("", "", "<is_causal=1>"), .dims = QKV},
    {"Attention, softcap, scale", ATTEND("", "", "<softcap=1.5, scale=0.7>"), .dims = QKV},
    {"Attention, mask added", ATTEND(", double[L,S] m", ", m", ""), QKV, .second = true},
    {"Attention, mask of truth", ATTEND(", bool[B,1,L,S] m", ", m", ""), .dims = QKV},
    {"Attention, 3 axes", "net (double[B,L,8] q, double[B,S,8] k, double[B,S,6] v) => (double[B,L,6] y) { y = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) }", QKV, .second = true},
    {"Attention, fewer key heads", "net (double[B,L,12] q, double[B,S,6] k, double[B,S,4] v) => (double[B,L,8] y) { y = Attention<q_num_heads=4, kv_num_heads=2, is_causal=1>(q, k, v) }", .dims = QKV},
    {"Attention, past", "net (double[B,2,L,4] q, double[B,2,S,4] k, double[B,2,S,3] v, double[B,2,3,4] pk, double[B,2,3,3] pv) => (double[B,2,L,3] y, double[B,2,p,4] nk, double[B,2,p,3] nv) { "
     "y, nk, nv = Attention<is_causal=1>(q, k, v, , pk, pv) }", .dims = QKV},
    {"Attention, scores too", "net (double[B,2,L,4] q, double[B,2,S,4] k, double[B,2,S,3] v) => (double[B,2,L,3] y, double[B,2,L,S] s) { y, , , s = Attention<qk_matmul_output_mode=3>(q, k, v) }", .dims = QKV},
    {"Attention, lengths", ATTEND(", int64[B] n", ", , , , n", ""), QKV, .most = 3},
    {"FlexAttention", "net (double[B,2,L,4] q, double[B,2,S,4] k, double[B,2,S,3] v, double w) => (double[B,2,L,3] y) { y = ai.onnx.preview.FlexAttention<"
     "score_mod = s (double[B,2,L,S] a) => (double[B,2,L,S] b) { c = Mul(a, w) b = Tanh(c) }>(q, k, v) }", QKV, .only_double = true, .opset = 26},
    {"RotaryEmbedding", "net (double[B,2,L,6] x, double[9,3] c, double[9,3] s, int64[B,L] p) => (double[B,2,L,6] y) { y = RotaryEmbedding(x, c, s, p) }", QKV, .most = 8, .second = true},
    {"RotaryEmbedding, interleaved, some dims", "net (double[B,L,12] x, double[B,L,2] c, double[B,L,2] s) => (double[B,L,12] y) { y = RotaryEmbedding<interleaved=1, rotary_embedding_dim=4, num_heads=2>(x, c, s) }", .dims = QKV},
    {"LinearAttention", "net (double[B,L,8] q, double[B,L,4] k, double[B,L,6] v) => (double[B,L,12] y, double[B,2,2,3] s) { y, s = LinearAttention<q_num_heads=4, kv_num_heads=2, update_rule=\"linear\">(q, k, v) }", .dims = QKV, .lo = -1, .hi = 1, .second = true},
    {"LinearAttention, gated delta, past", "net (double[B,L,4] q, double[B,L,4] k, double[B,L,6] v, double[B,2,2,3] p, double[B,L,2] d, double[B,L,2] b) => (double[B,L,6] y, double[B,2,2,3] s) { "
     "y, s = LinearAttention<q_num_heads=2, kv_num_heads=2>(q, k, v, p, d, b) }", .dims = QKV, .lo = -1, .hi = 1},
};

/* ---- images ---- */

#define RESIZE(ATTRS, SCALES) "net (double[N,2,H,W] x) => (double[p,q,r,s] y) <float[4] f = {1,1," SCALES "}> { y0 = Resize" ATTRS "(x, , f) y = Sin(y0) }"
#define GRID2(ATTRS) "net (double[N,2,H,W] x, double[N,3,2,2] g) => (double[N,2,3,2] y) { y = GridSample" ATTRS "(x, g) }"
#define ON_IMAGE .lo = -1.3, .hi = 1.3
static const GradCase images[] = {
    {"Resize, nearest", RESIZE("", "2,1.5"), .dims = X2},
    {"Resize, nearest, smaller", RESIZE("<nearest_mode=\"floor\", coordinate_transformation_mode=\"asymmetric\">", "0.5,0.7"), .dims = X2},
    {"Resize, nearest, ceil", RESIZE("<nearest_mode=\"round_prefer_ceil\", coordinate_transformation_mode=\"align_corners\">", "1.3,0.8"), .dims = X2},
    {"Resize, linear", RESIZE("<mode=\"linear\">", "2,1.5"), X2, .second = true},
    {"Resize, linear, smaller, align_corners", RESIZE("<mode=\"linear\", coordinate_transformation_mode=\"align_corners\">", "0.6,1.7"), .dims = X2},
    {"Resize, linear, pytorch_half_pixel", RESIZE("<mode=\"linear\", coordinate_transformation_mode=\"pytorch_half_pixel\">", "0.3,2"), .dims = X2},
    {"Resize, linear, antialias", RESIZE("<mode=\"linear\", antialias=1>", "0.5,0.4"), .dims = X2},
    {"Resize, linear, half_pixel_symmetric", RESIZE("<mode=\"linear\", coordinate_transformation_mode=\"half_pixel_symmetric\">", "1.3,0.6"), .dims = X2},
    {"Resize, cubic", RESIZE("<mode=\"cubic\">", "2,1.5"), .dims = X2, .second = true},
    {"Resize, cubic, exclude_outside", RESIZE("<mode=\"cubic\", exclude_outside=1, cubic_coeff_a=-0.5>", "0.7,1.4"), .dims = X2},
    {"Resize, cubic, antialias, exclude_outside", RESIZE("<mode=\"cubic\", antialias=1, exclude_outside=1>", "0.6,0.8"), .dims = X2},
    {"Resize, sizes", "net (double[N,2,H,W] x) => (double[p,q,5,6] y) <int64[2] z = {5,6}> { y = Resize<mode=\"linear\", axes=[2,3]>(x, , , z) }", .dims = X2},
    {"Resize, sizes, not_larger", "net (double[N,2,H,W] x) => (double[p,q,r,s] y) <int64[2] z = {5,9}> { y = Resize<mode=\"linear\", axes=[2,3], keep_aspect_ratio_policy=\"not_larger\">(x, , , z) }", .dims = X2},
    {"Resize, tf_crop_and_resize", "net (double[N,2,H,W] x) => (double[p,q,4,5] y) <float[4] o = {0.2,-0.3,0.9,1.2}, int64[2] z = {4,5}> { "
     "y = Resize<mode=\"linear\", axes=[2,3], coordinate_transformation_mode=\"tf_crop_and_resize\", extrapolation_value=3.0>(x, o, , z) }", .dims = X2},
    {"Resize 10", "net (double[N,2,H,W] x) => (double[p,q,r,s] y) <float[4] f = {1,1,2,1.5}> { y = Resize<mode=\"linear\">(x, f) }", .dims = X2, .opset = 10},
    {"Resize 1", "net (double[N,2,W] x) => (double[p,q,r] y) <float[3] f = {1,1,2.5}> { y = Resize<mode=\"cubic\">(x, , f) }", .dims = X1},
    {"Upsample 9", "net (double[N,2,H,W] x) => (double[p,q,r,s] y) <float[4] f = {1,1,2,3}> { y = Upsample<mode=\"linear\">(x, f) }", .dims = X2, .opset = 9},
    {"Upsample 7", "net (double[N,2,H,W] x) => (double[p,q,r,s] y) { y = Upsample<scales=[1.0,1.0,2.0,2.0]>(x) }", .dims = X2, .opset = 7},
    {"GridSample", GRID2(""), X2, ON_IMAGE, .second = true},
    {"GridSample, align_corners", GRID2("<align_corners=1>"), .dims = X2, ON_IMAGE},
    {"GridSample, border", GRID2("<padding_mode=\"border\">"), .dims = X2, ON_IMAGE},
    {"GridSample, reflection", GRID2("<padding_mode=\"reflection\">"), .dims = X2, ON_IMAGE},
    {"GridSample, reflection, align_corners", GRID2("<padding_mode=\"reflection\", align_corners=1>"), .dims = X2, .lo = -3, .hi = 3},
    {"GridSample, nearest", GRID2("<mode=\"nearest\">"), .dims = X2, ON_IMAGE, .flat = 2},
    {"GridSample, nearest, border", GRID2("<mode=\"nearest\", padding_mode=\"border\">"), .dims = X2, ON_IMAGE, .flat = 2},
    {"GridSample, cubic", GRID2("<mode=\"cubic\">"), .dims = X2, ON_IMAGE},
    {"GridSample, cubic, border", GRID2("<mode=\"cubic\", padding_mode=\"border\">"), .dims = X2, ON_IMAGE},
    {"GridSample, cubic, reflection", GRID2("<mode=\"cubic\", padding_mode=\"reflection\", align_corners=1>"), .dims = X2, ON_IMAGE},
    {"GridSample 1", "net (double[N,2,W] x, double[N,5,1] g) => (double[N,2,5] y) { y = GridSample(x, g) }", .dims = X1, ON_IMAGE},
    {"GridSample 3", "net (double[N,2,D,H,W] x, double[N,2,1,3,3] g) => (double[N,2,2,1,3] y) { y = GridSample(x, g) }", .dims = X3, ON_IMAGE},
    {"GridSample 16", GRID2("<mode=\"bilinear\">"), .dims = X2, ON_IMAGE, .opset = 16},
    {"AffineGrid", "net (double[N,2,3] t) => (double[N,3,4,2] y) { n = Shape<end=1>(t) o = Constant<value_ints=[2,3,4]>() s = Concat<axis=0>(n, o) y0 = AffineGrid(t, s) y = Sin(y0) }", TEN, .second = true},
    {"AffineGrid 3, align_corners", "net (double[N,3,4] t) => (double[N,2,3,4,3] y) { n = Shape<end=1>(t) o = Constant<value_ints=[2,2,3,4]>() s = Concat<axis=0>(n, o) y = AffineGrid<align_corners=1>(t, s) }", .dims = TEN},
    {"AffineGrid, GridSample", "net (double[N,2,H,W] x, double[N,2,3] t) => (double[N,2,3,3] y) { n = Shape<end=2>(x) o = Constant<value_ints=[3,3]>() s = Concat<axis=0>(n, o) g = AffineGrid(t, s) y = GridSample(x, g) }", X2, .lo = -.6, .hi = .6, .second = true},
};

/* ---- spectra ---- */

static const GradCase spectra[] = {
    {"DFT", "net (double[N,C,W,2] x) => (double[N,C,W,2] y) <int64 a = {2}> { y0 = DFT(x, , a) y = Sin(y0) }", NCW, .second = true},
    {"DFT, real, onesided", "net (double[N,C,W,1] x) => (double[N,C,p,2] y) <int64 a = {-2}> { y = DFT<onesided=1>(x, , a) }", .dims = NCW},
    {"DFT, inverse", "net (double[N,C,W,2] x) => (double[N,C,W,2] y) <int64 a = {1}> { y = DFT<inverse=1>(x, , a) }", .dims = NCW},
    {"DFT, a length", "net (double[N,C,W,1] x) => (double[N,C,4,2] y) <int64 a = {2}, int64 n = {4}> { y = DFT(x, n, a) }", .dims = NCW},
    {"DFT 17", "net (double[N,C,W,1] x) => (double[N,C,W,2] y) { y = DFT<axis=2>(x) }", .dims = NCW, .opset = 17},
    {"STFT", "net (double[N,W,1] x, double[5] w) => (double[N,p,q,2] y) <int64 s = {2}> { y0 = STFT(x, s, w) y = Sin(y0) }", X1, .second = true},
    {"STFT, complex", "net (double[N,W,2] x) => (double[N,p,q,2] y) <int64 s = {3}, int64 n = {4}> { y = STFT<onesided=0>(x, s, , n) }", .dims = X1},
};

/* ---- losses and steps of optimizers ---- */

#define LOSS(OP, ATTRS, OUT) "net (double[N,C] x, int64[N] t, double[C] w) => (double" OUT " y) { y = " OP "" ATTRS "(x, t, w) }"
#define NC "N=1 C=3; N=2 C=3; N=3 C=4; N=2 C=5; N=5 C=7; N=7 C=3; N=4 C=4; N=11 C=3; N=2 C=17; N=6 C=5"
#define POSITIVE .lo = .2, .hi = 2
static const GradCase losses[] = {
    {"NegativeLogLikelihoodLoss", LOSS("NegativeLogLikelihoodLoss", "", ""), NC, POSITIVE, .most = 2, .second = true, .flat = 0x10000},
    {"NegativeLogLikelihoodLoss, sum, ignored", LOSS("NegativeLogLikelihoodLoss", "<reduction=\"sum\", ignore_index=1>", ""), NC, POSITIVE, .most = 2},
    {"NegativeLogLikelihoodLoss, none, places", "net (double[N,3,H,W] x, int64[N,H,W] t) => (double[N,H,W] y) { y = NegativeLogLikelihoodLoss<reduction=\"none\">(x, t) }", SMALL2, .most = 2},
    {"SoftmaxCrossEntropyLoss", LOSS("SoftmaxCrossEntropyLoss", "", ""), NC, POSITIVE, .most = 2, .second = true},
    {"SoftmaxCrossEntropyLoss, none, ignored", LOSS("SoftmaxCrossEntropyLoss", "<reduction=\"none\", ignore_index=1>", "[N]"), NC, POSITIVE, .most = 2},
    {"SoftmaxCrossEntropyLoss, log_prob", "net (double[N,3,W] x, int64[N,W] t) => (double y, double[N,3,W] p) { y, p = SoftmaxCrossEntropyLoss<reduction=\"sum\">(x, t) }", SMALL1, .most = 2},
    {"Adam", "net (double r, double[N] x, double[N] g, double[N] v, double[N] h) => (double[N] y, double[N] a, double[N] b) <int64 t = {3}> { "
     "y, a, b = ai.onnx.preview.training.Adam<norm_coefficient=0.1, norm_coefficient_post=0.2, epsilon=0.01>(r, t, x, g, v, h) }", TEN, POSITIVE, .second = true},
    {"Adagrad", "net (double r, double[N] x, double[N] g, double[N] h) => (double[N] y, double[N] a) <int64 t = {3}> { "
     "y, a = ai.onnx.preview.training.Adagrad<decay_factor=0.1, norm_coefficient=0.1, epsilon=0.01>(r, t, x, g, h) }", TEN, POSITIVE, .second = true},
    {"Momentum", "net (double r, double[N] x, double[N] g, double[N] v) => (double[N] y, double[N] a) <int64 t = {3}> { "
     "y, a = ai.onnx.preview.training.Momentum<alpha=0.9, beta=0.8, norm_coefficient=0.1, mode=\"nesterov\">(r, t, x, g, v) }", TEN, POSITIVE},
    {"Momentum, standard", "net (double r, double[N] x, double[N] g, double[N] v) => (double[N] y, double[N] a) <int64 t = {0}> { "
     "y, a = ai.onnx.preview.training.Momentum<alpha=0.9, beta=0.8, norm_coefficient=0.1, mode=\"standard\">(r, t, x, g, v) }", TEN, POSITIVE},
};

/* ---- control flow: more of it in test_rnngrad.c ---- */

#define TB "T=1 B=1; T=2 B=1; T=3 B=2; T=1 B=3; T=5 B=2; T=4 B=5; T=7 B=1; T=2 B=7; T=6 B=3; T=3 B=4"
#define CELLS(OP, G) "net (double[T,B,3] x, double[1," G ",3] w, double[1," G ",2] r) => (double[T,1,B,2] y, double[1,B,2] h) { y, h = " OP "<hidden_size=2>(x, w, r) }"
static const GradCase flows[] = {
    {"If", "net (bool p, double[N] x, double[N] w) => (double[N] y) { v = Exp(x) y = If(p) <then_branch = t () => (double[N] a) { b = Mul(v, w) a = Sin(b) }, "
     "else_branch = e () => (double[N] a) { a = Mul(v, v) }> }", TEN, .second = true},
    {"Loop", "net (double[N] x, double[N] w) => (double[N] y, double[k,N] s) <int64 n = {4}, bool c = {1}> { y, s = Loop(n, c, x) <body = b (int64 i, bool d, double[N] h) => (bool d, double[N] g, double[N] g) { "
     "a = Mul(h, w) g = Sin(a) }> }", TEN, .second = true},
    {"Scan", "net (double[T,B] x, double[B] h0) => (double[B] y, double[T,B] s) { y, s = Scan<num_scan_inputs=1, body = b (double[B] h, double[B] xt) => (double[B] g, double[B] q) { "
     "a = Mul(h, xt) g = Sin(a) q = Exp(g) }>(h0, x) }", TB, .second = true},
    {"Scan 8", "net (double[B,T] x, double[B] h0) => (double[B] y, double[B,T] s) { y, s = Scan<num_scan_inputs=1, directions=[1], "
     "body = b (double h, double xt) => (double g, double q) { a = Mul(h, xt) g = Sin(a) q = Exp(g) }>(, h0, x) }", TB, .second = true,
     .opset = 8},
    {"RNN", CELLS("RNN", "2"), TB, .lo = -1, .hi = 1, .second = true},
    {"GRU", CELLS("GRU", "6"), TB, .lo = -1, .hi = 1, .second = true},
    {"LSTM", CELLS("LSTM", "8"), TB, .lo = -1, .hi = 1, .second = true},
    {"SequenceMap", "net (double[A,4] x, double w) => (double[p,2] y) { s = SplitToSequence<axis=0>(x) m = SequenceMap<body = b (double[1,4] a) => (double[1,2] c) { i = Constant<value_ints=[1,3]>() d = Mul(a, w) e = Sin(d) c = Gather<axis=1>(e, i) }>(s) "
     "y = ConcatFromSequence<axis=0>(m) }", .dims = "A=1; A=2; A=3; A=4; A=5; A=6; A=7; A=8; A=9; A=11", .fixed = true},
    {"SequenceAt, a place that only the data knows", "net (double[A,3] x, double[A,3] z, int64 i) => (double[A,3] y) { a = Sin(x) s = SequenceConstruct(x, z, a) b = SequenceAt(s, i) y = Sin(b) }",
     "A=1; A=2; A=3; A=4; A=5; A=6; A=7; A=8; A=9; A=11", .most = 2, .second = true},
    {"Gradient", "net (double[N] x, double[N] w) => (double[N] y) { a = Sin(x) b = Mul(a, w) c = Mul(b, x) y = ai.onnx.preview.training.Gradient<xs=[\"x\"], zs=[\"w\"], y=\"c\">(x, w) }", TEN, .second = true},
};

/* ---- sizes and places that only the data knows ---- */

#define ABC1 "A=1 B=1 C=1; A=2 B=1 C=1; A=1 B=3 C=1; A=1 B=1 C=4; A=2 B=3 C=4; A=3 B=2 C=5; A=5 B=3 C=2; A=1 B=7 C=3; A=4 B=1 C=5; A=2 B=2 C=17"
static const GradCase by_data[] = {
    {"Slice by data", "net (double[A,B,9] x, int64[1] i, int64[1] j) => (double[A,B,p] y) <int64[1] f = {4}, int64[1] a = {2}> { e = Add(j, f) y0 = Slice(x, i, e, a) y = Sin(y0) }", ABC1, .most = 3, .second = true},
    {"Slice, a step by data", "net (double[A,B,9] x, int64[1] i, int64[1] j) => (double[A,B,p] y) <int64[1] f = {9}, int64[1] o = {1}, int64[1] a = {2}> { t = Add(j, o) y0 = Slice(x, i, f, a, t) y = Sin(y0) }",
     ABC1, .most = 3, .second = true},
    {"Slice, backwards by data", "net (double[A,9,C] x, int64[1] i, int64[1] j) => (double[A,p,C] y) <int64[1] f = {-9}, int64[1] o = {-1}, int64[1] a = {1}> { k = Neg(j) t = Add(k, o) s = Sub(o, i) y0 = Slice(x, s, f, a, t) y = Sin(y0) }",
     ABC1, .most = 3, .second = true},
    {"Slice, an axis by data", "net (double[4,5,C] x, int64[1] a) => (double[p,q,r] y) <int64[1] s = {1}, int64[1] e = {3}> { y0 = Slice(x, s, e, a) y = Sin(y0) }",
     "C=1; C=2; C=3; C=4; C=5; C=6; C=7; C=8; C=9; C=11", .most = 1},
    {"Split by data", "net (double[A,B,7] x, int64[1] i) => (double[A,B,p] y, double[A,B,q] z) <int64[1] f = {7}> { r = Sub(f, i) s = Concat<axis=0>(i, r) y, z0 = Split<axis=2>(x, s) z = Sin(z0) }", ABC1, .most = 5},
    {"Pad by data", "net (double[A,B,C] x, int64[6] p, double v) => (double[q,r,s] y) { y0 = Pad(x, p, v) y = Sin(y0) }", ABC1, .most = 2, .second = true},
    {"Pad, reflect by data", "net (double[A,B,9] x, int64[2] p) => (double[q,r,s] y) <int64[1] a = {2}> { y0 = Pad<mode=\"reflect\">(x, p, , a) y = Sin(y0) }", ABC1, .most = 4},
    {"Tile by data", "net (double[A,B,C] x, int64[3] n) => (double[p,q,r] y) <int64 o = {1}> { m = Add(n, o) y0 = Tile(x, m) y = Sin(y0) }", ABC1, .most = 2, .second = true},
    {"Expand by data", "net (double[A,1,C] x, int64[1] n) => (double[p,q,r] y) <int64[1] o = {1}> { m = Add(n, o) s = Concat<axis=0>(o, m, o) y0 = Expand(x, s) y = Sin(y0) }", ABC1, .most = 4, .second = true},
    {"Reshape by data", "net (double[A,B,C] x, int64[1] n) => (double[p,q] y) <int64[1] o = {1}, int64[1] w = {-1}> { z = Sub(n, n) e = Add(z, o) s = Concat<axis=0>(e, w) y0 = Reshape(x, s) y = Sin(y0) }", ABC1, .most = 4},
    {"TopK by data", "net (double[A,5,C] x, int64[1] n) => (double[A,p,C] y) <int64[1] o = {1}> { k = Add(n, o) y0, i = TopK<axis=1>(x, k) y = Sin(y0) }", ABC1, .most = 4, .second = true},
    {"Trilu by data", "net (double[A,B,C] x, int64 k) => (double[A,B,C] y) { y0 = Trilu(x, k) y = Sin(y0) }", ABC1, .most = 1},
    {"OneHot by data", "net (double[2] v, int64[A,C] i, int64[1] n) => (double[A,C,p] y) <int64[1] o = {1}> { d = Add(n, o) y0 = OneHot(i, d, v) y = Sin(y0) }", ABC1, .most = 4},
    {"ReduceSum, axes by data", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { y0 = ReduceSum(x, a) y = Sin(y0) }", ABC1, .most = 2, .second = true},
    {"ReduceMax, axes by data", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { y0 = ReduceMax(x, a) y = Sin(y0) }", ABC1, .most = 2, .second = true},
    {"ReduceL2, axes by data", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { y = ReduceL2(x, a) }", ABC1, .3, 2, .most = 2},
    {"ReduceLogSumExp, axes by data", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { y = ReduceLogSumExp(x, a) }", ABC1, .most = 2},
    {"CumSum, an axis by data", "net (double[A,B,C] x, int64 a) => (double[A,B,C] y) { y0 = CumSum(x, a) y = Sin(y0) }", ABC1, .most = 2},
    {"CumProd, an axis by data", "net (double[A,B,C] x, int64 a) => (double[A,B,C] y) { y0 = CumProd<reverse=1>(x, a) y = Sin(y0) }", ABC1, .most = 2},
    {"Unsqueeze, Squeeze by data", "net (double[A,B,C] x, int64[1] a) => (double[p,q,r] y) { u = Unsqueeze(x, a) s = Squeeze(u, a) y = Sin(s) }", ABC1, .most = 2},
    {"CenterCropPad by data", "net (double[A,B,C] x, int64[2] n) => (double[A,p,q] y) <int64 o = {1}> { m = Add(n, o) y0 = CenterCropPad<axes=[1,2]>(x, m) y = Sin(y0) }", ABC1, .most = 5},
    {"Gather by positions found", "net (double[A,B,C] x, int64[A] i) => (double[p,B,C] y) { m = Cast<to=9>(i) n = NonZero(m) u = Constant<value_ints=[-1]>() f = Reshape(n, u) y0 = Gather(x, f) y = Sin(y0) }", ABC1, .most = 3, .second = true},
    {"Resize by data", "net (double[N,1,H,W] x, float[2] f) => (double[p,q,r,s] y) <float[2] o = {1,1}> { k = Concat<axis=0>(o, f) y0 = Resize<mode=\"linear\">(x, , k) y = Sin(y0) }", X2, .lo = .6, .hi = 1.8},
    {"Resize, sizes by data", "net (double[N,1,H,W] x, int64[2] n) => (double[p,q,r,s] y) <int64 o = {2}> { m = Add(n, o) y0 = Resize<mode=\"cubic\", axes=[2,3]>(x, , , m) y = Sin(y0) }", X2, .most = 6},
    {"DFT, an axis by data", "net (double[N,C,W,2] x, int64 a) => (double[p,q,r,2] y) { y0 = DFT(x, , a) y = Sin(y0) }", NCW, .most = 2},
    {"DFT, a length by data", "net (double[N,C,W,1] x, int64 n) => (double[N,C,p,2] y) <int64 a = {2}, int64 o = {1}> { m = Add(n, o) y0 = DFT(x, m, a) y = Sin(y0) }", NCW, .most = 6},
    {"STFT, a step by data", "net (double[N,W,1] x, double[5] w, int64 n) => (double[N,p,q,2] y) <int64 o = {1}> { s = Add(n, o) y0 = STFT(x, s, w) y = Sin(y0) }", X1, .most = 3},
    {"AffineGrid, a size by data", "net (double[N,2,3] t, int64[2] n) => (double[p,q,r,2] y) <int64 o = {1}, int64[1] f = {2}> { b = Shape<end=1>(t) m = Add(n, o) s = Concat<axis=0>(b, f, m) y0 = AffineGrid(t, s) y = Sin(y0) }",
     TEN, .most = 4},
    {"Dropout, training by data", "net (double[A,B,C] x, bool t) => (double[A,B,C] y) <float r = {0.4}> { y0 = Dropout<seed=5>(x, r, t) y = Sin(y0) }", .dims = ABC1},
    {"If by data, sizes differ", "net (double[A,B,C] x, bool t) => (double[p,B,C] y) { a = Sin(x) y0 = If(t) <then_branch = t1 () => (double[A,B,C] b) { b = Mul(a, x) }, else_branch = e1 () => (double[q,B,C] d) { d = Concat<axis=0>(a, x) }> y = Sin(y0) }",
     .dims = ABC1, .second = true},
};

/* ---- the rest ---- */

#define N_M "N=1 M=1; N=1 M=2; N=2 M=1; N=3 M=2; N=2 M=3; N=5 M=7; N=7 M=3; N=4 M=4; N=11 M=1; N=1 M=17"
static const GradCase others[] = {
    {"Identity", "net (double[N,M] x) => (double[N,M] y) { y0 = Identity(x) y = Sin(y0) }", .dims = N_M},
    {"Gelu, PRelu, Selu, SwiGLU", "net (double[N,M] x, double[M] s) => (double[N,M] y) { a = Gelu(x) b = PRelu(a, s) c = Selu(b) y = SwiGLU<alpha=1.3>(c, x) }", N_M, .opset = 27},
    {"Cast, to float and back", "net (double[N,M] x) => (double[N,M] y) { a = Cast<to=1>(x) y = Cast<to=11>(a) }", .dims = N_M, .rough = true, .only_double = true},
    {"CastLike, to float and back", "net (double[N,M] x) => (double[N,M] y) <float f = {1}> { a = CastLike(x, f) y = CastLike(a, x) }", .dims = N_M, .rough = true, .only_double = true},
    {"DequantizeLinear", "net (int8[N,M] q, double[M] s) => (double[N,M] y) { y = DequantizeLinear<axis=1>(q, s) }", N_M, .most = 100},
    {"DequantizeLinear, blocks", "net (int8[N,6] q, double[N,3] s, int8[N,3] z) => (double[N,6] y) { y = DequantizeLinear<axis=1, block_size=2>(q, s, z) }", TEN, .most = 100},
    {"QuantizeLinear, DequantizeLinear", "net (double[N,M] x, double s) => (double[N,M] y) <int8 z = {3}> { a = Abs(s) h = Constant<value_float=0.1>() d = CastLike(h, s) t = Add(a, d) q = QuantizeLinear(x, t, z) y = DequantizeLinear(q, t, z) }", N_M, .flat = 1},
    {"DynamicQuantizeLinear", "net (double[N,M] x) => (double[N,M] y) { q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z) }", .dims = N_M},
    {"Bernoulli", "net (double[N,M] x) => (double[N,M] y) { y = Bernoulli<seed=3>(x) }", N_M, .lo = .1, .hi = .9, .flat = 1},
    {"Dropout, a ratio that is given", "net (double[N,M] x, double r) => (double[N,M] y) <bool t = {1}> { y = Dropout<seed=5>(x, r, t) }", N_M, .lo = .1, .hi = .9, .second = true},
    {"Range", "net (double a, double d, double[N] z) => (double[p] y) { e = Abs(d) h = Constant<value_float=0.5>() f = CastLike(h, a) s = Add(e, f) n = Size(z) m0 = CastLike(n, a) m = Sub(m0, f) w = Mul(m, s) "
     "l = Add(a, w) r = Range(a, l, s) y = Mul(r, z) }", .dims = TEN},
    {"Binarizer", "net (double[N,M] x) => (double[N,M] y) { y = ai.onnx.ml.Binarizer<threshold=0.3>(x) }", .dims = N_M, .flat = 1},
    {"ArrayFeatureExtractor", "net (double[N,5] x, int64[M] i) => (double[N,M] y) { y = ai.onnx.ml.ArrayFeatureExtractor(x, i) }", N_M, .most = 4},
    {"Scatter", "net (double[4,M] x, double[2,M] u, int64[2,M] i) => (double[4,M] y) { y = Scatter(x, i, u) }", "M=1; M=2; M=3; M=4; M=5; M=6; M=7; M=8; M=9; M=11", .most = 3, .opset = 10},
    {"Compress, flat", "net (double[N,3] x) => (double[p] y) <bool[2] k = {1,1}> { y = Compress(x, k) }", .dims = TEN},
    {"Unique, an axis", "net (double[N,M] x) => (double[p,q] y) { y = Unique<axis=1, sorted=0>(x) }", .dims = N_M},
    {"expm1", "graph net(x: f64[N,M]) -> (\"y\": f64[N,M]) after import\n  where N in 1..inf, M in 1..inf\n{\n  y = expm1 x\n  return y\n}\n", N_M, .second = true},
    {"log1p", "graph net(x: f64[N,M]) -> (\"y\": f64[N,M]) after import\n  where N in 1..inf, M in 1..inf\n{\n  y = log1p x\n  return y\n}\n", N_M, .lo = -.5, .hi = 2, .second = true},
    {"mod_float", "graph net(x: f64[N,M], z: f64[M]) -> (\"y\": f64[N,M]) after import\n  where N in 1..inf, M in 1..inf\n{\n  y = mod_float x, z\n  return y\n}\n", .dims = N_M},
    {"castlike", "graph net(x: f64[N,M], z: f64[]) -> (\"y\": f64[N,M]) after import\n  where N in 1..inf, M in 1..inf\n{\n  a = castlike x, z\n  y = sin a\n  return y\n}\n", N_M, .flat = 2},
    {"copy", "graph net(x: f64[N,M]) -> (\"y\": f64[N,M]) after import\n  where N in 1..inf, M in 1..inf\n{\n  a = copy x\n  y = sin a\n  return y\n}\n", N_M, .second = true},
    {"trunc", "graph net(x: f64[N,M]) -> (\"y\": f64[N,M]) after import\n  where N in 1..inf, M in 1..inf\n{\n  y = trunc x\n  return y\n}\n", .dims = N_M, .flat = 1},
};
#endif
