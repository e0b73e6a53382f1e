/* Elements taken where index tensors say. */
#ifndef GD_SAMPLE_H
#define GD_SAMPLE_H
#include "import.h"

/* y[i] = x[j], where j is i but for the given axes: there it is the element of that axis's index tensor (i64,
   broadcast over the output), kept inside x. */
Value *build_sample(Graph *g, Value *x, int n, const int64_t *axes, Value *const *index);
#endif
