/* Checkpoints: a trainer's state as one safetensors file. Every state is a tensor under its own name
   (parameters as the model names them, slots NAME/SLOT, counters train/...), the place in the run is
   gradc/position and gradc/best, and the metadata has a CRC-32 of each tensor (over name, dtype, shape and
   bytes), so a damaged file is found out and the tensor named. */
#ifndef GRADC_CHECKPOINT_H
#define GRADC_CHECKPOINT_H
#include "trainer.h"

/* Where a run stands: with the state and this, training goes on as if it had never stopped. */
typedef struct GradcPosition {
    uint64_t seed; /* of initial values and shuffles */
    int64_t epoch; /* epochs done */
    int64_t batch; /* batches done in the epoch that is under way */
    int64_t step;  /* updates since the beginning */
    int64_t batch_size,
        records;        /* of training: another number of either would change the order of the data */
    int64_t best_epoch; /* early stopping: the best epoch so far, -1: none, */
    int64_t waited;     /* and how many have passed since */
    double best;        /* what was measured in it */
} GradcPosition;

enum { /* which states: bits, one a GradcStateKind */
       GRADC_SAVE_PARAMS = 1 << GRADC_PARAM | 1 << GRADC_BUFFER, /* what inference needs */
       GRADC_SAVE_ALL = GRADC_SAVE_PARAMS | 1 << GRADC_SLOT | 1 << GRADC_COUNTER | 1 << GRADC_METRIC
};

/* Atomic: after an error (106: disk full ...) or a kill the file of that name is the last good one. at may be
 * NULL: no position. */
int gradc_checkpoint_save(const char *path, const GradcTrainer *t, const void *state, unsigned kinds,
                          const GradcPosition *at, GradcError *e);
/* Fills the states of these kinds; all of them must be there, with equal dtype and shape. The state is
   changed only if all is well. A file without checksums that another tool wrote is accepted for parameters.
   With at, the file must hold a position (a run to resume), and no tensor may be one the model does not know.
   Errors: 101, 103 damaged (names the tensor), 603 of another model. */
int gradc_checkpoint_load(const char *path, const GradcTrainer *t, void *state, unsigned kinds,
                          GradcPosition *at, GradcError *e);
#endif
