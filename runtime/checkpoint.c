/* Checkpoints over safetensors.c. Loading is in two rounds, check everything and then copy, so a state is
   either the file's or what it was. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoint.h"
#include "safetensors.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char format[] = "gradc checkpoint 1", position_name[] = "gradc/position",
                  best_name[] = "gradc/best";
enum { INTEGERS = 8 };

/* Of all that makes the tensor what it is. */
static uint32_t checksum(const char *name, const GradcTensor *t) {
    const char *dtype = gradc_dtype_name(t->dtype);
    uLong crc = crc32_z(0, (const Bytef *)name, strlen(name) + 1);
    crc = crc32_z(crc, (const Bytef *)dtype, strlen(dtype) + 1);
    for (int i = 0; i < t->rank; i++) {
        unsigned char dim[8];
        for (int k = 0; k < 8; k++) dim[k] = (unsigned char)((uint64_t)t->dims[i] >> 8 * k);
        crc = crc32_z(crc, dim, 8);
    }
    return (uint32_t)crc32_z(crc, t->data, t->bytes);
}

/* ---- saving ---- */

typedef struct Saved {
    int n;
    GradcNamed *tensors;
    GradcPair *meta; /* format, then the checksums */
    char *text;      /* of keys and values */
    size_t used, room;
} Saved;

static const char *keep(Saved *s, const char *prefix, const char *text) {
    size_t n = (size_t)snprintf(s->text + s->used, s->room - s->used, "%s%s", prefix, text) + 1;
    s->used += n;
    return s->text + s->used - n;
}

static void add(Saved *s, const char *name, GradcTensor t) {
    char hex[16];
    snprintf(hex, sizeof hex, "%08x", (unsigned)checksum(name, &t));
    s->tensors[s->n] = (GradcNamed){name, t};
    s->meta[++s->n] = (GradcPair){keep(s, "crc32/", name), keep(s, "", hex)};
}

static GradcTensor vector(int dtype, int64_t n, void *data) {
    return (GradcTensor){.dtype = dtype, .rank = 1, .dims = {n}, .data = data, .bytes = (size_t)n * 8};
}

int gradc_checkpoint_save(const char *path, const GradcTrainer *t, const void *state, unsigned kinds,
                          const GradcPosition *at, GradcError *e) {
    int64_t integers[INTEGERS];
    double best;
    Saved s = {.room = 256};
    for (int i = 0; i < t->nstates; i++) s.room += strlen(t->states[i].name) + 32;
    s.tensors = calloc((size_t)t->nstates + 2, sizeof *s.tensors);
    s.meta = calloc((size_t)t->nstates + 3, sizeof *s.meta);
    s.text = malloc(s.room);
    int status = 0;
    if (!s.tensors || !s.meta || !s.text) status = gradc_error(e, 506, NULL, "%s: out of memory", path);
    else {
        s.meta[0] = (GradcPair){"format", format};
        for (int i = 0; i < t->nstates; i++)
            if (kinds >> t->states[i].kind & 1)
                add(&s, t->states[i].name, gradc_state_tensor(t, (void *)state, i));
        if (at) {
            memcpy(integers,
                   (int64_t[INTEGERS]){(int64_t)at->seed, at->epoch, at->batch, at->step, at->batch_size,
                                       at->records, at->best_epoch, at->waited},
                   sizeof integers);
            best = at->best;
            add(&s, position_name, vector(GRADC_I64, INTEGERS, integers));
            add(&s, best_name, vector(GRADC_F64, 1, &best));
        }
        status = gradc_safetensors_write(path, s.tensors, s.n, s.meta, s.n + 1, e);
    }
    free(s.tensors);
    free(s.meta);
    free(s.text);
    return status;
}

/* ---- loading ---- */

/* Every tensor of one of our files is what was saved. */
static int verify(const GradcSafetensors *s, const char *path, GradcError *e) {
    const char *made = gradc_safetensors_meta(s, "format");
    if (!made || strncmp(made, "gradc checkpoint ", 17))
        return 0; /* another tool's: there is nothing to hold it against */
    if (strcmp(made, format))
        return gradc_error(e, 603, "use the gradc that wrote it", "%s: its format is '%.40s'", path, made);
    for (int i = 0; i < s->n; i++) {
        const char *name = s->tensors[i].name;
        size_t room = strlen(name) + 16;
        char *key = malloc(room), hex[16];
        if (!key) return gradc_error(e, 506, NULL, "%s: out of memory", path);
        snprintf(key, room, "crc32/%s", name);
        const char *want = gradc_safetensors_meta(s, key);
        free(key);
        snprintf(hex, sizeof hex, "%08x", (unsigned)checksum(name, &s->tensors[i].tensor));
        if (!want || strcmp(want, hex))
            return gradc_error(e, 103, "copy it again, or take an older checkpoint",
                               "%s: tensor '%.100s' is damaged: its checksum is %s, "
                               "the file says %.20s",
                               path, name, hex, want ? want : "none");
    }
    return 0;
}

static int check_state(const GradcSafetensors *s, const char *path, const GradcState *state, GradcError *e) {
    const GradcTensor *t = gradc_safetensors_find(s, state->name);
    char has[200], wants[200];
    if (!t)
        return gradc_error(e, 603, "the file belongs to another model or optimizer, or holds parameters only",
                           "%s: there is no tensor '%.100s' (there are %d)", path, state->name, s->n);
    if (t->dtype == state->dtype && t->rank == state->rank &&
        (!t->rank || !memcmp(t->dims, state->dims, (size_t)t->rank * sizeof *t->dims)))
        return 0;
    return gradc_error(e, 603, "the file belongs to another model",
                       "%s: tensor '%.100s' is %s, the model has %s", path, state->name,
                       gradc_shape_text(has, sizeof has, t->dtype, t->rank, t->dims),
                       gradc_shape_text(wants, sizeof wants, state->dtype, state->rank, state->dims));
}

static int read_position(const GradcSafetensors *s, const char *path, GradcPosition *at, GradcError *e) {
    const GradcTensor *position = gradc_safetensors_find(s, position_name),
                      *best = gradc_safetensors_find(s, best_name);
    int64_t v[INTEGERS];
    double measured;
    if (!position || !best || position->dtype != GRADC_I64 || position->bytes != sizeof v ||
        best->dtype != GRADC_F64 || best->bytes != sizeof measured)
        return gradc_error(e, 603, "start from its parameters instead of resuming",
                           "%s: holds no place in a training run", path);
    memcpy(v, position->data, sizeof v);
    memcpy(&measured, best->data, sizeof measured);
    if (v[1] < 0 || v[2] < 0 || v[3] < 0)
        return gradc_error(e, 103, NULL, "%s: tensor '%s': a negative count", path, position_name);
    *at = (GradcPosition){(uint64_t)v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], measured};
    return 0;
}

static int check_known(const GradcSafetensors *s, const char *path, const GradcTrainer *t, GradcError *e) {
    for (int i = 0; i < s->n; i++)
        if (gradc_state_index(t, s->tensors[i].name) < 0 && strcmp(s->tensors[i].name, position_name) &&
            strcmp(s->tensors[i].name, best_name))
            return gradc_error(e, 603, "resume with the model and optimizer that wrote it",
                               "%s: the model has no state '%.100s'", path, s->tensors[i].name);
    return 0;
}

int gradc_checkpoint_load(const char *path, const GradcTrainer *t, void *state, unsigned kinds,
                          GradcPosition *at, GradcError *e) {
    GradcSafetensors s;
    GradcPosition found = {0};
    int status = gradc_safetensors_read(&s, path, e);
    if (status) return status;
    status = verify(&s, path, e);
    for (int i = 0; i < t->nstates && !status; i++)
        if (kinds >> t->states[i].kind & 1) status = check_state(&s, path, &t->states[i], e);
    if (!status && at) status = read_position(&s, path, &found, e);
    if (!status && at) status = check_known(&s, path, t, e);
    for (int i = 0; i < t->nstates && !status; i++)
        if (kinds >> t->states[i].kind & 1) {
            const GradcTensor *from = gradc_safetensors_find(&s, t->states[i].name);
            memcpy((char *)state + t->states[i].offset, from->data, from->bytes);
        }
    if (!status && at) *at = found;
    gradc_safetensors_free(&s);
    return status;
}
