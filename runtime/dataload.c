/* Batches gathered ahead. One thread fills a ring of slots in the order given; the caller holds one of them
   while the others fill. Slot b % nslots belongs to the thread while batch b is not yet filled or was given
   back, so the two never touch the same one. Counters change under the mutex only; filling happens outside of
   it. Small batches have many slots, and the thread is woken when half of them are free: a switch of threads
   costs more than a step on one record. */
#define _POSIX_C_SOURCE 200809L
#include "data.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { FEWEST = 3, MOST = 64, ROOM = 1 << 20 /* bytes, where there are more slots than the fewest */ };

typedef struct Slot {
    GradcBatch batch;
    size_t *rooms; /* bytes behind each tensor: it only grows */
    int status;
    GradcError error;
} Slot;

struct GradcLoader {
    const GradcData *d;
    int nfeeds, nslots, low; /* low: with so many batches ahead, the thread goes on */
    GradcFeed *feeds;
    int64_t size;          /* records of a full batch */
    int64_t *order, n;     /* of the epoch */
    int64_t total;         /* batches of the epoch */
    int64_t filled, given; /* batches filled so far; of those, given back by the caller */
    bool holds;            /* the caller has batch `given` */
    bool busy, stop, running;
    Slot slots[MOST];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t room, ready; /* the thread waits for room, the caller until a batch is ready */
};

/* ---- one batch ---- */

static int shape(const GradcLoader *l, const GradcFeed *f, const int64_t *records, int64_t n, GradcTensor *t,
                 size_t *room, GradcError *e) {
    int64_t dims[GRADC_MAX_RANK], longest = 0;
    size_t count, bytes;
    for (int64_t r = 0; r < n; r++) {
        int64_t length = gradc_data_length(l->d, f->field, records[r]);
        if (length > longest) longest = length;
    }
    for (int i = 0; i < f->rank; i++)
        dims[i] = i == f->batch_axis ? n : f->dims[i] < 0 ? longest : f->dims[i];
    int status = gradc_shape_bytes(f->dtype, f->rank, dims, &count, &bytes, e);
    if (status) return status;
    if (!t->owned || bytes > *room) {
        gradc_tensor_free(t);
        *room = bytes;
        return gradc_tensor_new(t, f->dtype, f->rank, dims, e);
    }
    memcpy(t->dims, dims, (size_t)f->rank * sizeof *dims);
    t->bytes = bytes;
    return 0;
}

static void fill(GradcLoader *l, int64_t index, Slot *s) {
    int64_t first = index * l->size;
    GradcBatch *b = &s->batch;
    b->index = index;
    b->n = l->n - first < l->size ? l->n - first : l->size;
    b->records = l->order + first;
    /* A file that is mapped and has become shorter would end the process. */
    s->status = gradc_data_mapped(l->d) ? gradc_data_unchanged(l->d, &s->error) : 0;
    for (int i = 0; i < l->nfeeds && !s->status; i++) {
        const GradcFeed *f = &l->feeds[i];
        s->status = shape(l, f, b->records, b->n, &b->tensors[i], &s->rooms[i], &s->error);
        if (!s->status)
            s->status =
                gradc_data_fill(l->d, f->field, b->records, b->n, &b->tensors[i], f->batch_axis, &s->error);
    }
}

static void *work(void *arg) {
    GradcLoader *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        if (l->filled >= l->total || l->filled >= l->given + l->nslots) {
            pthread_cond_wait(&l->room, &l->mutex);
            continue;
        }
        Slot *s = &l->slots[l->filled % l->nslots];
        int64_t index = l->filled;
        l->busy = true;
        pthread_mutex_unlock(&l->mutex);
        fill(l, index, s);
        pthread_mutex_lock(&l->mutex);
        l->busy = false;
        l->filled++;
        pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* ---- the caller's side ---- */

/* As many as ROOM has, of records that are 64 long where they vary. */
static int count_slots(const GradcFeed *feeds, int nfeeds, int64_t batch) {
    size_t all = 1;
    for (int i = 0; i < nfeeds; i++) {
        int64_t dims[GRADC_MAX_RANK];
        size_t count, bytes;
        GradcError none;
        for (int k = 0; k < feeds[i].rank; k++)
            dims[k] = k == feeds[i].batch_axis ? batch : feeds[i].dims[k] < 0 ? 64 : feeds[i].dims[k];
        if (gradc_shape_bytes(feeds[i].dtype, feeds[i].rank, dims, &count, &bytes, &none) || bytes > ROOM) return FEWEST;
        all += bytes;
    }
    return all > ROOM / FEWEST ? FEWEST : all < ROOM / MOST ? MOST : (int)(ROOM / all);
}

/* Signals are the business of the thread that opens the loader. */
static bool start_thread(GradcLoader *l) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    l->running = !pthread_create(&l->thread, NULL, work, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return l->running;
}

int gradc_loader_open(GradcLoader **to, const GradcData *d, const GradcFeed *feeds, int nfeeds, int64_t batch,
                      GradcError *e) {
    *to = NULL;
    if (batch < 1) return gradc_error(e, 601, NULL, "a batch of %lld records", (long long)batch);
    for (int i = 0; i < nfeeds; i++) {
        const GradcFeed *f = &feeds[i];
        int status = gradc_data_fits(d, f->field, f->dtype, f->rank, f->dims, f->batch_axis, e);
        if (status) return status;
    }
    GradcLoader *l = calloc(1, sizeof *l);
    if (!l) return gradc_error(e, 506, NULL, "out of memory");
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->ready, NULL);
    l->d = d;
    l->size = batch;
    l->nfeeds = nfeeds;
    l->nslots = count_slots(feeds, nfeeds, batch);
    l->low = l->nslots == FEWEST ? FEWEST - 1 : l->nslots / 2;
    l->feeds = calloc((size_t)nfeeds + 1, sizeof *l->feeds);
    bool ok = l->feeds != NULL;
    for (int i = 0; i < l->nslots; i++) {
        Slot *s = &l->slots[i];
        s->batch.tensors = calloc((size_t)nfeeds + 1, sizeof *s->batch.tensors);
        s->rooms = calloc((size_t)nfeeds + 1, sizeof *s->rooms);
        ok &= s->batch.tensors && s->rooms;
    }
    if (ok && nfeeds) memcpy(l->feeds, feeds, (size_t)nfeeds * sizeof *feeds);
    if (!ok || !start_thread(l)) {
        gradc_loader_close(l);
        return gradc_error(e, 506, NULL, "no memory or thread for reading ahead");
    }
    *to = l;
    return 0;
}

int gradc_loader_start(GradcLoader *l, const int64_t *order, int64_t n, int64_t first, GradcError *e) {
    int64_t *copy = malloc(((size_t)n + 1) * sizeof *copy);
    if (!copy) return gradc_error(e, 506, NULL, "out of memory for the order of %lld records", (long long)n);
    if (n) memcpy(copy, order, (size_t)n * sizeof *copy);
    pthread_mutex_lock(&l->mutex);
    l->total = 0; /* nothing more to fill; what is being filled ends */
    while (l->busy) pthread_cond_wait(&l->ready, &l->mutex);
    free(l->order);
    l->order = copy;
    l->n = n;
    l->filled = l->given = first;
    l->holds = false;
    l->total = n / l->size + (n % l->size != 0);
    pthread_cond_signal(&l->room);
    pthread_mutex_unlock(&l->mutex);
    return 0;
}

int gradc_loader_next(GradcLoader *l, const GradcBatch **b, GradcError *e) {
    int status = 0;
    *b = NULL;
    pthread_mutex_lock(&l->mutex);
    if (l->holds) {
        l->given++;
        l->holds = false;
        if (l->filled - l->given <= l->low) pthread_cond_signal(&l->room);
    }
    if (l->given < l->total) {
        while (l->filled <= l->given) pthread_cond_wait(&l->ready, &l->mutex);
        Slot *s = &l->slots[l->given % l->nslots];
        l->holds = true;
        status = s->status;
        if (status) *e = s->error;
        else *b = &s->batch;
    }
    pthread_mutex_unlock(&l->mutex);
    return status;
}

void gradc_loader_close(GradcLoader *l) {
    if (!l) return;
    if (l->running) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        pthread_cond_signal(&l->room);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    for (int i = 0; i < l->nslots; i++) {
        for (int k = 0; k < l->nfeeds && l->slots[i].batch.tensors; k++)
            gradc_tensor_free(&l->slots[i].batch.tensors[k]);
        free(l->slots[i].batch.tensors);
        free(l->slots[i].rooms);
    }
    pthread_cond_destroy(&l->room);
    pthread_cond_destroy(&l->ready);
    pthread_mutex_destroy(&l->mutex);
    free(l->order);
    free(l->feeds);
    free(l);
}
