/* Initialisers: the first value of a state, from the run's seed. Element i of state k is a function of (seed, k, i) alone. */
#include "recipe.h"
#include <math.h>

/* A line's u and v are uniform in [0, 1), z is normal; fan_in, fan_out, fan (their mean) are numbers. */
typedef struct InitRow {
    Row row;
    RowLine lines[ROW_LINES];
} InitRow;

#define SPREAD(FAN) {"limit", "sqrt(3 * scale / " FAN ")", NULL}, {"y", "limit * (2 * u - 1)", NULL}
#define SCALE(BY) {"scale", BY, BY, NULL}

static const InitRow rows[] = {
    {.row = {"zeros zero", {{0}}, "0"}, .lines = {{"y", "0", NULL}}},
    {.row = {"ones one", {{0}}, "1"}, .lines = {{"y", "1", NULL}}},
    {.row = {"constant", {{"value", 0, 0, NULL}}, "value"}, .lines = {{"y", "value", NULL}}},
    {.row = {"glorot_uniform xavier_uniform", {SCALE(1)}, "uniform, variance scale / fan, fan = (fan_in + fan_out) / 2"},
     .lines = {SPREAD("fan")}},
    {.row = {"fan_in_uniform torch_default", {SCALE(1)}, "uniform in +-sqrt(scale / fan_in): what PyTorch gives its layers"},
     .lines = {{"limit", "sqrt(scale / fan_in)", NULL}, {"y", "limit * (2 * u - 1)", NULL}}},
};
const Row *init_row(int i) { return i < (int)(sizeof rows / sizeof *rows) ? &rows[i].row : NULL; }

/* ---- random numbers ---- */

/* Streams of initialisers have the top bit, so that no node of a model draws from them; DRAWS for each state. */
enum { DRAWS = 8 };

static Value *bits(Graph *g, Value *key, int index, int draw, int rank, Expr *const *dim) {
    Node *n = node_begin(g, "random_bits");
    node_input(n, key);
    node_dims(n, "dims", rank, dim);
    node_int(n, "seed", 0);
    node_int(n, "stream", (int64_t)0x80000000u + (int64_t)index * DRAWS + draw);
    return node_finish(n);
}

/* In [0, 1), of 24 bits. */
static Value *uniform(Scope *s, Value *key, int index, int draw, int rank, Expr *const *dim) {
    Value *top = make(s->g, "shift_right", bits(s->g, key, index, draw, rank, dim), const_scalar(s->g, U32, 8));
    return make(s->g, "mul", build_cast(s->g, top, s->dt), const_scalar(s->g, s->dt, 0x1p-24));
}

static Value *key_of(Graph *g, Value *seed) {
    const int64_t zero = 0;
    return build_concat(g, 2, (Value *const[]){build_unsqueeze(g, seed, 0), const_ints(g, 1, &zero)}, 0);
}

/* ---- fans ---- */

/* Axis 0 is the outputs, axis 1 the inputs, the others the kernel. */
static void fans(const StateVar *v, int rank, const int64_t *dim, double *in, double *out) {
    double kernel = 1;
    for (int i = 2; i < rank; i++) kernel *= (double)dim[i];
    *out = rank ? (double)dim[0] * kernel : 1;
    *in = rank > 1 ? (double)dim[1] * kernel : *out;
    if (v->fan_in > 0) *in = (double)v->fan_in;
    if (v->fan_out > 0) *out = (double)v->fan_out;
    if (*in < 1) *in = 1;
    if (*out < 1) *out = 1;
}

static void name_fans(Scope *s, const StateVar *v, int rank, const int64_t *dim) {
    double in, out;
    fans(v, rank, dim, &in, &out);
    scope_name(s, "fan_in", const_scalar(s->g, s->dt, in));
    scope_name(s, "fan_out", const_scalar(s->g, s->dt, out));
    scope_name(s, "fan", const_scalar(s->g, s->dt, (in + out) / 2));
}

static bool parse(Graph *g, const char *text, Recipe *r) {
    const char *what;
    size_t at;
    if (recipe_parse(g->c, text, r, &what, &at)) return true;
    gd_error(g->c, 601, gd_format(g->c, "%s at byte %zu", what, at), "initialiser \"%s\"", gd_escape(g->c, text, strlen(text)));
    return false;
}

Value *init_build(Graph *g, const StateVar *v, DType dt, int rank, const int64_t *dims, Value *seed, int index) {
    Scope s;
    Recipe r;
    Expr *dim[MAX_RANK];
    if (!parse(g, v->init ? v->init : "zeros", &r) || !scope_open(&s, g, "init", &r, g->train && g->train->torch)) return NULL;
    for (int i = 0; i < rank; i++) dim[i] = expr_int(g->c, dims[i]);
    bool number = dt_float(dt) || dt_small(dt);
    s.dt = !number ? dt : dt == F64 ? F64 : F32;
    if (number) {
        Value *key = key_of(g, seed);
        name_fans(&s, v, rank, dims);
        scope_name(&s, "u", uniform(&s, key, index, 0, rank, dim));
        scope_name(&s, "v", uniform(&s, key, index, 1, rank, dim));
    }
    Value *y = scope_lines(&s, ((const InitRow *)s.row)->lines, ROW_LINES);
    return build_broadcast(g, build_cast(g, y, dt), rank, dim);
}
