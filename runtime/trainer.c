/* The state of a trainable model, and calls of its programs upon it: trainer.h. */
#define _POSIX_C_SOURCE 200809L
#include "trainer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- state ---- */

void *gradc_state_new(const GradcTrainer *t) {
    void *p = NULL;
    if (posix_memalign(&p, GRADC_ALIGN, t->state_bytes ? t->state_bytes : GRADC_ALIGN)) return NULL;
    memset(p, 0, t->state_bytes);
    return p;
}

int gradc_state_index(const GradcTrainer *t, const char *name) {
    for (int i = 0; i < t->nstates; i++)
        if (!strcmp(t->states[i].name, name)) return i;
    return -1;
}

size_t gradc_state_size(const GradcState *s) {
    size_t n = gradc_dtype_size(s->dtype);
    for (int d = 0; d < s->rank; d++) n *= (size_t)s->dims[d];
    return n;
}

GradcTensor gradc_state_tensor(const GradcTrainer *t, void *state, int i) {
    const GradcState *s = &t->states[i];
    GradcTensor r = {
        .dtype = s->dtype, .rank = s->rank, .data = (char *)state + s->offset, .bytes = gradc_state_size(s)};
    if (s->rank) memcpy(r.dims, s->dims, (size_t)s->rank * sizeof *r.dims);
    return r;
}

int gradc_state_init(const GradcTrainer *t, void *state, uint64_t seed, GradcError *e) {
    GradcCall c;
    int64_t value = (int64_t)seed;
    GradcTensor in = {.dtype = GRADC_I64, .data = &value, .bytes = sizeof value};
    memset(state, 0, t->state_bytes);
    int status = gradc_trainer_open(&c, t, t->init, state, e);
    if (status) return status;
    status = gradc_call_set(&c, 0, &in, e);
    if (!status) status = gradc_call_run(&c, e);
    gradc_call_close(&c);
    return status;
}

void gradc_state_reset_metrics(const GradcTrainer *t, void *state) {
    for (int i = 0; i < t->nstates; i++)
        if (t->states[i].kind == GRADC_METRIC)
            memset((char *)state + t->states[i].offset, 0, gradc_state_size(&t->states[i]));
}

void gradc_state_set(const GradcTrainer *t, void *state, const char *name, double value) {
    int i = gradc_state_index(t, name);
    if (i < 0) return;
    void *p = (char *)state + t->states[i].offset;
    if (t->states[i].dtype == GRADC_I64) *(int64_t *)p = (int64_t)value;
    if (t->states[i].dtype == GRADC_F32) *(float *)p = (float)value;
}

double gradc_state_get(const GradcTrainer *t, const void *state, const char *name) {
    int i = gradc_state_index(t, name);
    const void *p = i < 0 ? NULL : (const char *)state + t->states[i].offset;
    if (i >= 0 && t->states[i].dtype == GRADC_I64) return (double)*(const int64_t *)p;
    return i >= 0 && t->states[i].dtype == GRADC_F32 ? (double)*(const float *)p : (double)NAN;
}

/* ---- calls ---- */

bool gradc_trainer_data_in(const GradcTrainer *t, const GradcProgram *p, int i) {
    return gradc_state_index(t, p->in[i].name) < 0;
}

bool gradc_trainer_data_out(const GradcTrainer *t, const GradcProgram *p, int i) {
    return gradc_state_index(t, p->out[i].name) < 0;
}

int gradc_trainer_open(GradcCall *c, const GradcTrainer *t, const GradcProgram *p, void *state, GradcError *e) {
    int status = gradc_call_open(c, p, e);
    for (int i = 0; !status && i < p->nin; i++) {
        int s = gradc_state_index(t, p->in[i].name);
        if (s < 0) continue;
        GradcTensor at = gradc_state_tensor(t, state, s);
        status = gradc_call_set(c, i, &at, e);
    }
    for (int i = 0; !status && i < p->nout; i++) {
        int s = gradc_state_index(t, p->out[i].name);
        if (s >= 0) status = gradc_call_place(c, i, (char *)state + t->states[s].offset, e);
    }
    if (status) gradc_call_close(c);
    return status;
}
