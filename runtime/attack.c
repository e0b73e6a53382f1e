/* Attacks and saliency: see attack.h. The call's input tensor is replaced by a copy while it moves, and put back. */
#include "attack.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the program's ports ---- */

typedef struct Ports { int x, dx, loss; } Ports;

static int find_ports(const GradcCall *c, const char *input, Ports *p, GradcError *e) {
    const GradcProgram *program = c->program;
    *p = (Ports){-1, -1, -1};
    for (int i = 0; i < program->nin; i++)
        if (!strcmp(program->in[i].name, input)) p->x = i;
    for (int i = 0; i < program->nout; i++) {
        const char *name = program->out[i].name;
        if (!strncmp(name, "d_", 2) && !strcmp(name + 2, input)) p->dx = i;
        if (!strcmp(name, "batch_loss")) p->loss = i;
    }
    if (p->x < 0 || p->dx < 0)
        return gradc_error(e, 602, NULL, "%s: the program gives no gradient of an input \"%.100s\"", program->name,
                           input);
    int t = program->in[p->x].dtype;
    if (t != GRADC_F32 && t != GRADC_F64)
        return gradc_error(e, 403, "f32 and f64 are", "input %.100s: %s is not changed", input, gradc_dtype_name(t));
    return 0;
}

static double get(const GradcTensor *t, size_t i) {
    return t->dtype == GRADC_F32 ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}
static void put(GradcTensor *t, size_t i, double v) {
    if (t->dtype == GRADC_F32) ((float *)t->data)[i] = (float)v;
    else ((double *)t->data)[i] = v;
}

static int gradient(GradcCall *c, const Ports *p, double *loss, GradcError *e) {
    int status = gradc_call_run(c, e);
    if (!status && loss) *loss = p->loss < 0 ? (double)NAN : get(&c->out[p->loss], 0);
    return status;
}

/* ---- attacks ---- */

static double clipped(double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; }

/* A point within eps of x: element i depends on the seed and i only. */
static void draw(GradcTensor *to, const GradcTensor *x, const GradcAttack *a) {
    uint32_t key[2] = {(uint32_t)a->seed, (uint32_t)(a->seed >> 32)}, word[4] = {0};
    size_t n = gradc_tensor_count(x);
    for (size_t i = 0; i < n; i++) {
        uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)((uint64_t)i / 4 >> 32), 0, 0};
        if (i % 4 == 0) gradc_philox(counter, key, word);
        double u = ldexp((double)word[i % 4], -31) - 1;
        put(to, i, clipped(get(x, i) + a->eps * u, a->lo, a->hi));
    }
}

/* One step along the sign, then back into the allowed. */
static void move(GradcTensor *to, const GradcTensor *x, const GradcTensor *dx, const GradcAttack *a, double step) {
    size_t n = gradc_tensor_count(x);
    for (size_t i = 0; i < n; i++) {
        double d = get(dx, i), from = get(x, i), sign = d > 0 ? 1 : d < 0 ? -1 : 0;
        double v = get(to, i) + (a->targeted ? -step : step) * sign;
        put(to, i, clipped(clipped(v, from - a->eps, from + a->eps), a->lo, a->hi));
    }
}

static int options_fit(const GradcAttack *a, GradcError *e) {
    if (!(a->eps >= 0) || isinf(a->eps)) return gradc_error(e, 601, NULL, "eps: %g is no size of a change", a->eps);
    if (!(a->lo <= a->hi)) return gradc_error(e, 601, NULL, "valid inputs from %g to %g: there are none", a->lo, a->hi);
    if (a->steps < 0 || !(a->step >= 0)) return gradc_error(e, 601, NULL, "%d steps of %g", a->steps, a->step);
    return 0;
}

/* c's input is `at`, which moves; x is where it began. */
static int attack(GradcCall *c, const Ports *p, const GradcAttack *a, const GradcTensor *x, GradcAttackResult *r,
                  GradcError *e) {
    GradcTensor *at = &c->in[p->x];
    int steps = a->steps ? a->steps : 1, status = gradient(c, p, &r->before, e);
    double size = !a->steps ? a->eps : a->step > 0 ? a->step : 2.5 * a->eps / steps;
    bool drawn = a->steps && a->random;
    if (!status && drawn) draw(at, x, a);
    for (int i = 0; i < steps && !status; i++) {
        if (i || drawn) status = gradient(c, p, NULL, e);
        if (!status) move(at, x, &c->out[p->dx], a, size);
    }
    if (!status) status = gradient(c, p, &r->after, e);
    size_t n = gradc_tensor_count(x);
    for (size_t i = 0; i < n; i++) r->largest = fmax(r->largest, fabs(get(at, i) - get(x, i)));
    return status;
}

int gradc_attack(GradcCall *c, const char *input, const GradcAttack *a, GradcTensor *out, GradcAttackResult *result,
                 GradcError *e) {
    Ports p;
    GradcTensor copy = {0};
    GradcAttackResult r = {0};
    int status = options_fit(a, e);
    if (!status) status = find_ports(c, input, &p, e);
    if (!status) status = gradc_tensor_copy(&copy, &c->in[p.x], e);
    if (status) return status;
    GradcTensor x = c->in[p.x];
    c->in[p.x] = copy;
    status = attack(c, &p, a, &x, &r, e);
    copy = c->in[p.x];
    c->in[p.x] = x;
    if (status) gradc_tensor_free(&copy);
    else *out = copy;
    if (result) *result = r;
    return status;
}

/* ---- saliency ---- */

/* Sizes of a batch of images, and the distances of its elements. */
typedef struct Image { int64_t n, c, h, w, sn, sc, sh, sw; } Image;

static int image_of(const GradcTensor *t, bool channels_last, Image *m, GradcError *e) {
    const int64_t *d = t->dims;
    char shape[400];
    *m = (Image){.c = 1, .h = 1, .sn = 1};
    if (t->rank < 2 || t->rank > 4)
        return gradc_error(e, 402, "[N, C, H, W], [N, H, W] or [N, F]", "%s is no batch of images",
                           gradc_shape_text(shape, sizeof shape, t->dtype, t->rank, d));
    m->n = d[0];
    m->w = t->rank < 4 ? d[t->rank - 1] : d[channels_last ? 2 : 3];
    if (t->rank == 3) m->h = d[1];
    if (t->rank == 4) {
        m->h = d[channels_last ? 1 : 2];
        m->c = d[channels_last ? 3 : 1];
    }
    bool last = channels_last && t->rank == 4;
    m->sc = last ? 1 : m->h * m->w;
    m->sw = last ? m->c : 1;
    m->sh = m->w * m->sw;
    m->sn = m->c * m->h * m->w;
    return 0;
}

static size_t element(const Image *m, int64_t n, int64_t c, int64_t y, int64_t x) {
    return (size_t)(n * m->sn + c * m->sc + y * m->sh + x * m->sw);
}

int gradc_saliency(GradcCall *c, const char *input, GradcSaliency kind, bool channels_last, GradcTensor *map,
                   GradcError *e) {
    Ports p;
    Image m;
    int status = find_ports(c, input, &p, e);
    if (!status) status = image_of(&c->in[p.x], channels_last, &m, e);
    if (!status) status = gradient(c, &p, NULL, e);
    if (!status) status = gradc_tensor_new(map, GRADC_F32, 3, (const int64_t[]){m.n, m.h, m.w}, e);
    if (status) return status;
    const GradcTensor *x = &c->in[p.x], *dx = &c->out[p.dx];
    float *to = map->data;
    for (int64_t n = 0; n < m.n; n++) {
        double top = 0;
        for (int64_t i = 0; i < m.h * m.w; i++) {
            double v = 0;
            for (int64_t k = 0; k < m.c; k++) {
                size_t at = element(&m, n, k, i / m.w, i % m.w);
                v = fmax(v, fabs(kind == GRADC_SALIENCY_PRODUCT ? get(dx, at) * get(x, at) : get(dx, at)));
            }
            to[n * m.h * m.w + i] = (float)v;
            top = fmax(top, v);
        }
        for (int64_t i = 0; i < m.h * m.w && top > 0; i++) to[n * m.h * m.w + i] = (float)(to[n * m.h * m.w + i] / top);
    }
    return 0;
}
