/* Initialisers: the first value of a state, from the run's seed. Element i of state k is a function of (seed, k, i) alone. */
#include "recipe.h"
#include "../ops/loops.h"
#include <math.h>

/* A line's u is uniform in [0, 1), z normal; fan_in, fan_out, fan (their mean) and one are numbers; of a matrix eye is the
   identity. x: the first value as a matrix of not more rows than columns, which the loops then change. */
typedef struct InitRow {
    Row row;
    RowLine lines[ROW_LINES];
    bool matrix; /* of two axes only */
    bool any;    /* of any dtype */
    struct { int times; const char *next; } loops[2];
} InitRow;

#define GAIN {"gain", 1, 1, NULL}
#define SCALE(BY) {"scale", BY, BY, NULL}
#define MODE(DEF) {"mode", DEF, DEF, "fan_in fan_out fan_avg"}
#define SLOPE {"negative_slope a", 0, 0, NULL}
#define FAN {"fan", "fan_in", "mode=0"}, {"fan", "fan_out", "mode=1"}
#define WIDE(VARIANCE) {"limit", "gain * sqrt(3 * " VARIANCE ")", NULL}, {"y", "limit * (2 * u - 1)", NULL}
/* A normal number between a and b: the normal distribution's inverse at a uniform place between its values there (Wichura
   1988, algorithm AS 241, PPND7). */
#define PLACE(X) "0.5 + 0.5 * erf(0.7071067811865476 * " X ")"
#define INVERSE                                                                                                         \
              "r = 0.180625 - q * q;"                                                                                   \
              "c = q * (((59.10937472 * r + 159.29113202) * r + 50.434271938) * r + 3.3871327179) /"                    \
              "    (((67.1875636 * r + 78.757757664) * r + 17.895169469) * r + 1);"                                     \
              "t = sqrt(-log(max(0.5 - abs(q), 1e-8))) - 1.6;"                                                          \
              "o = (((0.17023821103 * t + 1.3067284816) * t + 2.75681539) * t + 1.4234372777) /"                        \
              "    ((0.12021132975 * t + 0.7370016425) * t + 1);"                                                       \
              "min(max(abs(q) <= 0.425 ? c : q < 0 ? -o : o, a), b)"
#define BETWEEN(WHEN)                                                                                                   \
    {"from", PLACE("a"), WHEN}, {"to", PLACE("b"), WHEN}, {"q", "from + (to - from) * u - 0.5", WHEN}, {"z", INVERSE, WHEN}
/* Keras cuts at two deviations and makes up for the variance that this costs; PyTorch does not cut. */
#define NORMAL(VARIANCE)                                                                                                \
    {"a", "-2 * one", "keras"}, {"b", "2 * one", "keras"}, BETWEEN("keras"), {"z", "z / 0.87962566103423978", "keras"},  \
        {"y", "gain * sqrt(" VARIANCE ") * z", NULL}
/* Newton's iteration for the polar factor (Schulz 1933): singular values go to 1 and nothing else changes. The first loop's
   polynomial brings small ones up fast (Jordan 2024), the second is exact in the limit. */
#define TIMES "a_batch=[], b_batch=[], a_contract=[1], b_contract=[0]"
#define POLAR "s = contract(x, x, a_batch=[], b_batch=[], a_contract=[1], b_contract=[1]);"

static const InitRow rows[] = {
    {.row = {"zeros zero", {{0}}, "0"}, .any = true, .lines = {{"y", "0", NULL}}},
    {.row = {"ones one", {{0}}, "1"}, .any = true, .lines = {{"y", "1", NULL}}},
    {.row = {"constant", {{"value", 0, 0, NULL}}, "value"}, .any = true, .lines = {{"y", "value", NULL}}},
    {.row = {"uniform random_uniform", {{"low minval", -.05, 0, NULL}, {"high maxval", .05, 1, NULL}},
             "uniform in [low, high)"},
     .lines = {{"y", "low + (high - low) * u", NULL}}},
    {.row = {"normal random_normal", {{"mean", 0, 0, NULL}, {"std stddev", .05, 1, NULL}}, "mean + std z, z normal"},
     .lines = {{"y", "mean + std * z", NULL}}},
    {.row = {"truncated_normal trunc_normal",
             {{"mean", 0, 0, NULL}, {"std stddev", .05, 1, NULL}, {"low", NAN, -2, NULL}, {"high", NAN, 2, NULL}},
             "normal between low and high: keras two deviations around the mean, torch -2 and 2"},
     .lines = {{"a", "-2 * one", NULL}, {"b", "2 * one", NULL},
               {"a", "(low - mean) / std * one", "low?"}, {"b", "(high - mean) / std * one", "high?"},
               BETWEEN(NULL), {"y", "mean + std * z", NULL}}},
    {.row = {"glorot_uniform xavier_uniform", {SCALE(1), GAIN}, "uniform, of variance gain^2 scale 2 / (fan_in + fan_out)"},
     .lines = {WIDE("scale / fan")}},
    {.row = {"glorot_normal xavier_normal", {SCALE(1), GAIN}, "normal, of variance gain^2 scale 2 / (fan_in + fan_out)"},
     .lines = {NORMAL("scale / fan")}},
    {.row = {"he_uniform kaiming_uniform", {SCALE(2), GAIN, SLOPE, MODE(0)},
             "uniform, of variance gain^2 scale / (1 + a^2) / fan"},
     .lines = {FAN, WIDE("scale / (1 + negative_slope * negative_slope) / fan")}},
    {.row = {"he_normal kaiming_normal", {SCALE(2), GAIN, SLOPE, MODE(0)},
             "normal, of variance gain^2 scale / (1 + a^2) / fan"},
     .lines = {FAN, NORMAL("scale / (1 + negative_slope * negative_slope) / fan")}},
    {.row = {"lecun_uniform", {SCALE(1), GAIN, MODE(0)}, "uniform, of variance gain^2 scale / fan_in"},
     .lines = {FAN, WIDE("scale / fan")}},
    {.row = {"lecun_normal", {SCALE(1), GAIN, MODE(0)}, "normal, of variance gain^2 scale / fan_in"},
     .lines = {FAN, NORMAL("scale / fan")}},
    {.row = {"fan_in_uniform torch_default", {SCALE(1), GAIN},
             "uniform in +-gain sqrt(scale / fan_in): what PyTorch gives its layers"},
     .lines = {{"limit", "gain * sqrt(scale / fan_in)", NULL}, {"y", "limit * (2 * u - 1)", NULL}}},
    {.row = {"identity eye", {GAIN}, "gain on the diagonal, else 0"}, .matrix = true, .lines = {{"y", "gain * eye", NULL}}},
    {.row = {"orthogonal orthogonal_", {GAIN},
             "orthonormal rows or columns (axis 0 against the others), any as likely as another: "
             "the polar factor of normal numbers"},
     .lines = {{"y", "z", NULL}},
     .loops = {{14, POLAR "3.4445 * x + contract(-4.775 * s + 2.0315 * contract(s, s, " TIMES "), x, " TIMES ")"},
               {8, POLAR "1.5 * x - 0.5 * contract(s, x, " TIMES ")"}}},
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

/* ---- loops ---- */

static Value *repeat(Graph *g, int times, const char *next, Value *x) {
    Var *iter = loop_iteration(g, expr_int(g->c, times));
    Graph *body = graph_region(g);
    Map *values = map_new(g->c);
    map_puts(values, "x", graph_input(body, "x", x->dt, x->rank, x->dim));
    graph_output(body, "x", graph_text(body, next, values, NULL));
    return make_loop(g, body, 1, &x, 0, expr_int(g->c, times), iter)->out[0];
}

/* Singular values of m x n normal numbers are hardly ever above sqrt(m) + sqrt(n) (Davidson and Szarek 2001). */
static Value *loops(Scope *s, const InitRow *row, int rank, const int64_t *dims, Value *y) {
    Graph *g = s->g;
    const int64_t swap[2] = {1, 0};
    int64_t m = rank ? dims[0] : 1, n = 1;
    for (int i = 1; i < rank; i++) n = gd_mul(g->c, n, dims[i]);
    if (!m || !n) return y;
    Value *x = build_reshape(g, y, 2, (Expr *const[]){expr_int(g->c, m), expr_int(g->c, n)});
    if (m > n) x = build_transpose(g, x, swap);
    x = make(g, "div", x, const_scalar(g, s->dt, 1.05 * (sqrt((double)m) + sqrt((double)n)) + 1));
    for (int i = 0; i < 2; i++) x = repeat(g, row->loops[i].times, row->loops[i].next, x);
    x = make(g, "mul", x, const_scalar(g, s->dt, scope_arg(s, "gain")));
    if (m > n) x = build_transpose(g, x, swap);
    return build_reshape(g, x, y->rank, y->dim);
}

static Value *eye(Graph *g, DType dt, Expr *const *dim) {
    return build_cast(g, make(g, "equal", build_iota(g, I64, 2, dim, 0), build_iota(g, I64, 2, dim, 1)), dt);
}

static void random_numbers(Scope *s, Value *key, int index, int rank, Expr *const *dim) {
    scope_name(s, "u", uniform(s, key, index, 0, rank, dim));
    scope_name(s, "v", uniform(s, key, index, 1, rank, dim));
    /* Box and Muller 1958 */
    scope_name(s, "z", scope_text(s, "sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v)"));
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
        random_numbers(&s, key, index, rank, dim);
        scope_name(&s, "one", const_scalar(g, s.dt, 1));
        if (rank == 2) scope_name(&s, "eye", eye(g, s.dt, dim));
    }
    const InitRow *row = (const InitRow *)s.row;
    if ((row->matrix && rank != 2) || (!number && !row->any)) {
        scope_error(&s, 301, row->matrix ? "another initialiser" : "zeros, ones or constant",
                    "a tensor of %d axes of %s", rank, gd_dtypes[dt].name);
        return NULL;
    }
    Value *y = scope_lines(&s, row->lines, ROW_LINES);
    if (row->loops[0].times) y = loops(&s, row, rank, dims, y);
    return build_broadcast(g, build_cast(g, y, dt), rank, dim);
}
