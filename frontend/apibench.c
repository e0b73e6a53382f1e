/* Time: a model's, and the machine's own peak to hold it against. */
#define _GNU_SOURCE
#include "session.h"
#include <stdlib.h>

/* ---- the peak ---- */

/* Twelve independent chains of fused multiply-adds: more than any pipeline is deep and wide, fewer than there are
   registers. 1 * 0 + x: values stay finite. */
enum { CHAINS = 12, ROUNDS = 2000 };
#if defined(__x86_64__)
#define FMA(w, n) "vfmadd231ps %%" w "13, %%" w "14, %%" w n "\n"
#define TWELVE(w) FMA(w, "0") FMA(w, "1") FMA(w, "2") FMA(w, "3") FMA(w, "4") FMA(w, "5") \
                  FMA(w, "6") FMA(w, "7") FMA(w, "8") FMA(w, "9") FMA(w, "10") FMA(w, "11")
#define CLOBBERS "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm13", "xmm14"
#define KERNEL(name, w, isa)                                                          \
    __attribute__((target(isa))) static void name(void) {                             \
        for (int i = 0; i < ROUNDS; i++) __asm__ volatile(TWELVE(w) ::: CLOBBERS);    \
    }
KERNEL(chains16, "zmm", "avx512f")
KERNEL(chains8, "ymm", "avx2,fma")
static void clear8(void) { __asm__ volatile("vzeroall" ::: CLOBBERS); }
#elif defined(__aarch64__)
static void chains4(void) {
    for (int i = 0; i < ROUNDS; i++)
        __asm__ volatile("fmla v0.4s, v13.4s, v14.4s\n fmla v1.4s, v13.4s, v14.4s\n fmla v2.4s, v13.4s, v14.4s\n"
                         "fmla v3.4s, v13.4s, v14.4s\n fmla v4.4s, v13.4s, v14.4s\n fmla v5.4s, v13.4s, v14.4s\n"
                         "fmla v6.4s, v13.4s, v14.4s\n fmla v7.4s, v13.4s, v14.4s\n fmla v8.4s, v13.4s, v14.4s\n"
                         "fmla v9.4s, v13.4s, v14.4s\n fmla v10.4s, v13.4s, v14.4s\n fmla v11.4s, v13.4s, v14.4s\n" ::
                             : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v13", "v14");
}
#endif

/* GFLOP/s of one core at the target's vector width; 0: not known for this machine. */
static double peak(const Target *t) {
    void (*chains)(void) = NULL;
    int lanes = t->lanes;
#if defined(__x86_64__)
    if (!t->fma) return 0;
    clear8(); /* no denormals or NaNs left from before */
    chains = lanes == 16 ? chains16 : chains8;
    if (lanes != 16) lanes = 8;
#elif defined(__aarch64__)
    chains = chains4;
    lanes = 4;
#endif
    if (!chains) return 0;
    double best = 0, end = session_now() + 0.15;
    while (session_now() < end) {
        double start = session_now();
        for (int i = 0; i < 16; i++) chains();
        double rate = 16.0 * ROUNDS * CHAINS * lanes * 2 / (session_now() - start) * 1e-9;
        if (rate > best) best = rate;
    }
    return best;
}

/* ---- the model ---- */

typedef struct Bench {
    Gradc *g;
    const GradcProgram *p;
    const GradcTrainer *trainer; /* p is one of its programs; NULL: a model for inference */
    const GradcArgs *values;
    double seconds;
    GradcBench *out;
} Bench;

static void close_call(void *call) { gradc_call_close(call); }

/* A program of training runs on a state as training begins with. */
static int open_with_state(Ctx *c, GradcCall *call, const Bench *b, GradcError *e) {
    void *state = gradc_state_new(b->trainer);
    if (!state) return gradc_error(e, 506, NULL, "out of memory for a state of %zu bytes", b->trainer->state_bytes);
    gd_defer(c, free, state);
    int status = gradc_state_init(b->trainer, state, 0, e);
    return status ? status : gradc_trainer_open(call, b->trainer, b->p, state, e);
}

static GradcCall *open_call(Ctx *c, const Bench *b) {
    GradcCall *call = gd_new(c, GradcCall);
    GradcError e = {0};
    GradcArgs a = b->values ? *b->values : (GradcArgs){0};
    if (b->trainer ? open_with_state(c, call, b, &e) : gradc_call_open(call, b->p, &e)) session_fail(c, &e);
    gd_defer(c, close_call, call);
    if (!a.nvalues) {
        a.values = gd_new_array(c, const char *, b->p->nin + 1);
        for (int i = 0; i < b->p->nin; i++)
            if (!call->in[i].data) a.values[a.nvalues++] = gd_format(c, "rand:%d", i + 1);
    }
    if (gradc_call_args(call, &a, &e)) session_fail(c, &e);
    return call;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef VEC(double) Times;

/* At least three runs, however long they take. */
static void sample(Ctx *c, GradcCall *call, double seconds, int least, Times *ms) {
    GradcError e = {0};
    double end = session_now() + seconds;
    while (ms->n < least || session_now() < end) {
        double start = session_now();
        if (gradc_call_run(call, &e)) session_fail(c, &e);
        double t = 1e3 * (session_now() - start);
        vec_push(c, ms, t);
        if (ms->n >= 10000000) break;
    }
}

static void measure(Ctx *c, void *arg) {
    Bench *b = arg;
    GradcBench *r = b->out;
    Times warm = {0}, ms = {0};
    GradcCall *call = open_call(c, b);
    r->threads = session_threads(b->g->set.threads);
    gd_set_stage(c, "measure");
    sample(c, call, b->seconds / 10, 1, &warm);
    VEC(GradcNest) nests = {0};
    GradcNest n;
    for (int i = 0; (n = gradc_profile(b->g, b->p, i)).name; i++) vec_push(c, &nests, n);
    sample(c, call, b->seconds, 3, &ms);
    for (int i = 0; i < nests.n; i++) { /* without the warm-up */
        n = gradc_profile(b->g, b->p, i);
        nests.v[i].calls = n.calls - nests.v[i].calls;
        nests.v[i].ns = n.ns - nests.v[i].ns;
    }
    qsort(ms.v, (size_t)ms.n, sizeof *ms.v, by_size);
    r->samples = ms.n;
    r->min_ms = ms.v[0];
    r->median_ms = ms.n % 2 ? ms.v[ms.n / 2] : (ms.v[ms.n / 2 - 1] + ms.v[ms.n / 2]) / 2;
    r->p95_ms = ms.v[(int)(0.95 * (ms.n - 1) + 0.5)];
    r->gflops = r->median_ms > 0 ? 2 * r->macs / r->median_ms * 1e-6 : 0;
    r->nests = nests.v;
    r->nnests = nests.n;
    const Target *here = target_named(c, "native");
    r->peak_gflops = here ? peak(here) * r->threads : 0;
}

int gradc_bench(Gradc *g, const GradcArgs *values, double seconds, GradcBench *out) {
    double start = session_now();
    *out = (GradcBench){0};
    Bench b = {.g = g, .values = values, .seconds = seconds, .out = out};
    TrainPart part = g->set.train.part;
    int status = part ? gradc_trainer(g, 1u << part, &b.trainer) : gradc_jit(g, &b.p);
    if (status) return status;
    if (part) b.p = g->jitted->loaded.program;
    out->compile_seconds = session_now() - start;
    out->macs = session_macs(g->jitted->program);
    return session_run(g, measure, &b);
}
