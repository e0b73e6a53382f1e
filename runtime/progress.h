/* The line a training run shows while an epoch is under way, in Keras's form:
     Epoch 1/5
     1875/1875 ━━━━━━━━━━━━━━━━━━━━ 5s 2ms/step - accuracy: 0.9123 - loss: 0.3012
   On a terminal the second line is redrawn, ten times a second at most, no wider than the terminal. Elsewhere
   each epoch is one line, written when it ends: epoch 1/5: 1875 steps, 5.2 s - accuracy: 0.9123 - loss:
   0.3012 */
#ifndef GRADC_PROGRESS_H
#define GRADC_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct GradcMetric {
    const char *name;
    double value;
} GradcMetric;

typedef struct GradcProgress {
    FILE *f;
    bool terminal, wide; /* wide: UTF-8 may be written */
    int64_t epoch, epochs, steps, first;
    double start, drawn; /* seconds on the monotonic clock */
    bool on_line;        /* the cursor stands behind a drawn line */
} GradcProgress;

/* f NULL: says nothing. Finds out what f is: a terminal, of UTF-8. */
void gradc_progress_open(GradcProgress *p, FILE *f);
/* An epoch from 0 of `epochs` begins with step `first` of `steps` (0: not known). */
void gradc_progress_epoch(GradcProgress *p, int64_t epoch, int64_t epochs, int64_t steps, int64_t first);
void gradc_progress_step(GradcProgress *p, int64_t done, const GradcMetric *m, int n);
/* The epoch is over after `done` steps. m may hold more than the steps showed (val_...). */
void gradc_progress_end(GradcProgress *p, int64_t done, const GradcMetric *m, int n);
/* Goes to a new line if one is half-written, so that something else (an error) can be printed. */
void gradc_progress_break(GradcProgress *p);
double gradc_seconds(void); /* of the monotonic clock */
#endif
