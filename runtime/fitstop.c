/* Signals that end a training run: fit.h. A signal belongs to the process, so its note is the one thing here that is not
   a run's own. The handler is gone after its first call (SA_RESETHAND): a second signal ends the process at once, and the
   checkpoint on the disk is the last one, whole as ever. */
#define _POSIX_C_SOURCE 200809L
#include "fit.h"

static volatile sig_atomic_t seen;

static void note(int sig) { seen = sig; }

void gradc_stop_on_signals(GradcFit *o) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction old, ours = {.sa_handler = note, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigemptyset(&ours.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (!sigaction(signals[i], NULL, &old) && old.sa_handler == SIG_DFL) sigaction(signals[i], &ours, NULL);
    o->stop = &seen;
}

void gradc_stop_end(const GradcFit *o) {
    if (!o->stop || !*o->stop) return;
    fflush(stdout);
    signal(*o->stop, SIG_DFL);
    raise(*o->stop);
}
