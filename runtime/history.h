/* What a training run leaves for people to look at: history.csv and history.json (a row, an entry an epoch),
   and TensorBoard's event files (`tensorboard --logdir DIR`). */
#ifndef GRADC_HISTORY_H
#define GRADC_HISTORY_H
#include "tensor.h"

typedef struct GradcHistory GradcHistory;

/* DIR/history.csv with the columns epoch and names[0..n-1] (loss, metrics, val_..., seconds, lr), and
   DIR/history.json, a list for each. DIR is made when it is not there. first_epoch > 0: a run goes on, rows
   of earlier epochs are kept and later ones dropped; error 603 when the file has other columns. Both files
   are replaced whole at each row. h is NULL after a failure. */
int gradc_history_open(GradcHistory **h, const char *dir, const char *const *names, int n,
                       int64_t first_epoch, GradcError *e);
int gradc_history_row(GradcHistory *h, int64_t epoch, const double *values,
                      GradcError *e);      /* NAN: not measured; an empty cell */
void gradc_history_close(GradcHistory *h); /* h may be NULL */

typedef struct GradcEvents GradcEvents;

/* A new file DIR/events.out.tfevents.SECONDS.HOST.PID; DIR is made when it is not there. */
int gradc_events_open(GradcEvents **ev, const char *dir, GradcError *e);
/* One point of the curve `tag` ("epoch_loss"), now; it is in the file when the call returns. */
int gradc_events_scalar(GradcEvents *ev, const char *tag, int64_t step, double value, GradcError *e);
int gradc_events_close(GradcEvents *ev, GradcError *e); /* ev may be NULL */

uint32_t gradc_crc32c(const void *p, size_t n); /* Castagnoli's polynomial, as in iSCSI (RFC 3720) */
#endif
