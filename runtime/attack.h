/* What a model's gradient with respect to its input is good for: inputs that mislead it, and maps of what it looks at.

   All of it works on an open call of an input-gradient program (trainer.h: data -> batch_loss, d_INPUT) whose inputs are
   set, and leaves them as they were. Inputs of f32 and f64. The result is a function of the inputs and the options alone. */
#ifndef GRADC_ATTACK_H
#define GRADC_ATTACK_H
#include "program.h"

/* x + change, |change| <= eps for every element and lo <= x + change <= hi, so that the loss rises.
   FGSM (Goodfellow, Shlens, Szegedy: "Explaining and harnessing adversarial examples", 2015): one step of eps along the
   gradient's sign. PGD (Madry et al.: "Towards deep learning models resistant to adversarial attacks", 2018): steps of a
   smaller size, each followed by the projection onto what is allowed. */
typedef struct GradcAttack {
    double eps;
    double lo, hi;     /* of valid inputs; -INFINITY, INFINITY: any */
    int steps;         /* of PGD; 0: FGSM */
    double step;       /* their size; 0: 2.5 eps / steps */
    bool random;       /* PGD starts from a point drawn from within eps (Philox, seed), else from x */
    uint64_t seed;
    bool targeted;     /* the target is what shall be answered: the loss falls instead */
} GradcAttack;

typedef struct GradcAttackResult {
    double before, after; /* batch_loss of the input and of the output */
    double largest;       /* change of an element */
} GradcAttackResult;

/* *out: the changed input `input`, owned by the caller. result may be NULL. */
int gradc_attack(GradcCall *c, const char *input, const GradcAttack *a, GradcTensor *out, GradcAttackResult *result,
                 GradcError *e);

typedef enum GradcSaliency {
    GRADC_SALIENCY_GRADIENT, /* |d_x| (Simonyan, Vedaldi, Zisserman: "Deep inside convolutional networks", 2014) */
    GRADC_SALIENCY_PRODUCT   /* |d_x * x| */
} GradcSaliency;

/* The largest over the channels, divided by the largest of the sample: *map is f32 [N, H, W] with elements from 0 to 1. x is
   [N, C, H, W] (channels_last: [N, H, W, C]), [N, H, W], or [N, F]: a map of one row. */
int gradc_saliency(GradcCall *c, const char *input, GradcSaliency kind, bool channels_last, GradcTensor *map, GradcError *e);

/* A sample's map as a PNG: the image (its values from lo to hi; gray or RGB) on the left, on the right the image in gray with
   the map over it. image NULL: the map alone. Small images are enlarged. */
int gradc_saliency_write(const char *path, const GradcTensor *map, int64_t sample, const GradcTensor *image, bool channels_last,
                         double lo, double hi, GradcError *e);
#endif
