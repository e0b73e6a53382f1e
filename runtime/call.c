/* One call of a program: inputs held against its ports, symbols bound on the way, outputs placed, the arena
   grown.

   Invariant: syms[s] is set if and only if binder[s] says who bound it. A symbol that no input mentions belongs
   to the data: it is unset whenever run is entered. */
#define _POSIX_C_SOURCE 200809L
#include "program.h"
#include <stdlib.h>
#include <string.h>

enum { UNBOUND = -1, BY_DIM = -2, BY_DEFAULT = -3 };

/* Index of the symbol of a dim; -1: it is a size or computed. */
static int dim_symbol(int64_t dim) { return dim < 0 && dim != GRADC_DIM_COMPUTED ? (int)(-1 - dim) : -1; }

static int64_t unset(const GradcProgram *p, int s) { return p->sym_lo[s] >= 0 ? -1 : INT64_MIN; }

static bool of_inputs(const GradcProgram *p, int symbol) {
    for (int i = 0; i < p->nin; i++)
        for (int d = 0; d < p->in[i].rank; d++)
            if (dim_symbol(p->in[i].dims[d]) == symbol) return true;
    return false;
}

int gradc_call_open(GradcCall *c, const GradcProgram *p, GradcError *e) {
    size_t ndims = 1;
    memset(c, 0, sizeof *c);
    for (int i = 0; i < p->nout; i++) {
        if (p->out[i].rank > GRADC_MAX_RANK)
            return gradc_error(e, 901, NULL, "output %s has rank %d", p->out[i].name, p->out[i].rank);
        ndims += (size_t)p->out[i].rank;
    }
    c->program = p;
    c->in = calloc((size_t)p->nin + 1, sizeof *c->in);
    c->out = calloc((size_t)p->nout + 1, sizeof *c->out);
    c->syms = calloc((size_t)p->nsyms + 1, sizeof *c->syms);
    c->binder = calloc((size_t)p->nsyms + 1, sizeof *c->binder);
    c->ins = calloc((size_t)p->nin + 1, sizeof *c->ins);
    c->outs = calloc((size_t)p->nout + 1, sizeof *c->outs);
    c->placed = calloc((size_t)p->nout + 1, sizeof *c->placed);
    c->settled_syms = calloc((size_t)p->nsyms + 1, sizeof *c->settled_syms);
    c->dims = calloc(ndims, sizeof *c->dims);
    if (!c->in || !c->out || !c->syms || !c->binder || !c->ins || !c->outs || !c->placed || !c->settled_syms || !c->dims) {
        gradc_call_close(c);
        return gradc_error(e, 506, NULL, "out of memory");
    }
    for (int s = 0; s < p->nsyms; s++) c->syms[s] = unset(p, s), c->binder[s] = UNBOUND;
    return 0;
}

void gradc_call_close(GradcCall *c) {
    for (int i = 0; c->in && i < c->program->nin; i++) gradc_tensor_free(&c->in[i]);
    for (int i = 0; c->out && i < c->program->nout; i++) gradc_tensor_free(&c->out[i]);
    free(c->in);
    free(c->out);
    free(c->syms);
    free(c->binder);
    free(c->ins);
    free(c->outs);
    free(c->placed);
    free(c->settled_syms);
    free(c->dims);
    free(c->arena);
    memset(c, 0, sizeof *c);
}

char *gradc_port_text(char *buf, size_t size, const GradcProgram *p, const GradcPort *port) {
    size_t at = (size_t)snprintf(buf, size, "%s[", gradc_dtype_name(port->dtype));
    for (int d = 0; d < port->rank && at < size; d++) {
        const char *comma = d ? "," : "";
        int s = dim_symbol(port->dims[d]);
        if (s >= 0) at += (size_t)snprintf(buf + at, size - at, "%s%s", comma, p->sym_names[s]);
        else if (port->dims[d] < 0) at += (size_t)snprintf(buf + at, size - at, "%s?", comma);
        else at += (size_t)snprintf(buf + at, size - at, "%s%lld", comma, (long long)port->dims[d]);
    }
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

/* ---- symbols ---- */

/* input: whose dim it is; NULL: an option said so. */
static int check_range(const GradcProgram *p, int s, int64_t size, const char *input, GradcError *e) {
    const char *who = input ? "input " : "--dim";
    if (size >= p->sym_lo[s] && size <= p->sym_hi[s]) return 0;
    if (!input) input = "";
    if (p->sym_hi[s] == INT64_MAX)
        return gradc_error(e, 603, NULL, "%s%.280s: %s is %lld; it is at least %lld", who, input, p->sym_names[s],
                           (long long)size, (long long)p->sym_lo[s]);
    return gradc_error(e, 603, NULL, "%s%.280s: %s is %lld; it is from %lld to %lld", who, input, p->sym_names[s],
                       (long long)size, (long long)p->sym_lo[s], (long long)p->sym_hi[s]);
}

int gradc_call_dim(GradcCall *c, const char *symbol, int64_t size, GradcError *e) {
    const GradcProgram *p = c->program;
    int s = 0;
    while (s < p->nsyms && strcmp(p->sym_names[s], symbol)) s++;
    if (s == p->nsyms)
        return gradc_error(e, 602, "--help lists the sizes", "--dim: there is no size %.60s", symbol);
    if (!of_inputs(p, s))
        return gradc_error(e, 602, NULL, "--dim: only the data decides the size %s", p->sym_names[s]);
    if (c->binder[s] != UNBOUND && c->syms[s] != size)
        return gradc_error(e, 603, NULL, "--dim: %s is %lld already", p->sym_names[s], (long long)c->syms[s]);
    int status = check_range(p, s, size, NULL, e);
    if (!status && c->binder[s] == UNBOUND) c->binder[s] = BY_DIM, c->syms[s] = size;
    return status;
}

static int read_dim(GradcCall *c, const char *text, GradcError *e) {
    const char *equals = strchr(text, '=');
    char name[64];
    int64_t size = 0;
    size_t n = equals ? (size_t)(equals - text) : 0;
    if (!n || !equals[1]) return gradc_error(e, 601, "--dim N=8", "--dim: %.60s is not NAME=SIZE", text);
    for (const char *d = equals + 1; *d; d++) {
        if (*d < '0' || *d > '9' || size > (INT64_MAX - 9) / 10)
            return gradc_error(e, 601, "--dim N=8", "--dim: %.60s is not a size", equals + 1);
        size = size * 10 + (*d - '0');
    }
    if (n >= sizeof name)
        return gradc_error(e, 602, "--help lists the sizes", "--dim: there is no size %.60s", text);
    memcpy(name, text, n);
    name[n] = 0;
    return gradc_call_dim(c, name, size, e);
}

/* ---- inputs ---- */

static int wrong_dim(GradcCall *c, int i, int d, int64_t have, int64_t want, int s, GradcError *e) {
    const GradcProgram *p = c->program;
    const char *name = p->in[i].name;
    int by = s < 0 ? UNBOUND : c->binder[s];
    if (s < 0)
        return gradc_error(e, 603, NULL, "input %s: dim %d is %lld, but %lld is wanted", name, d,
                           (long long)have, (long long)want);
    if (by >= 0 && by != i)
        return gradc_error(e, 603, NULL, "input %s: dim %d is %lld, but %s is %lld in input %s", name, d,
                           (long long)have, p->sym_names[s], (long long)want, p->in[by].name);
    const char *why = by == BY_DIM ? " by --dim" : by == BY_DEFAULT ? " where nothing says otherwise" : "";
    return gradc_error(e, 603, NULL, "input %s: dim %d is %lld, but %s is %lld%s", name, d, (long long)have,
                       p->sym_names[s], (long long)want, why);
}

/* What dim d of input i has to be: a size, what others bound its symbol to, or what an earlier dim of its own
   says; -1: free. */
static int64_t wanted_dim(const GradcCall *c, int i, const GradcTensor *t, int d) {
    const int64_t *dims = c->program->in[i].dims;
    int s = dim_symbol(dims[d]);
    if (s < 0) return dims[d];
    if (c->binder[s] != UNBOUND && c->binder[s] != i) return c->syms[s];
    for (int earlier = 0; earlier < d; earlier++)
        if (dims[earlier] == dims[d]) return t->dims[earlier];
    return -1;
}

int gradc_call_set(GradcCall *c, int i, GradcTensor *t, GradcError *e) {
    const GradcProgram *p = c->program;
    const GradcPort *port = &p->in[i];
    char have[512], want[512];
    if (t->dtype != port->dtype || t->rank != port->rank)
        return gradc_error(e, 603, NULL, "input %s: it is %.150s, but %.150s is wanted", port->name,
                           gradc_shape_text(have, sizeof have, t->dtype, t->rank, t->dims),
                           gradc_port_text(want, sizeof want, p, port));
    for (int d = 0; d < t->rank; d++) {
        int s = dim_symbol(port->dims[d]), status = s < 0 ? 0 : check_range(p, s, t->dims[d], port->name, e);
        int64_t wanted = wanted_dim(c, i, t, d);
        if (status) return status;
        if (wanted >= 0 && wanted != t->dims[d]) return wrong_dim(c, i, d, t->dims[d], wanted, s, e);
    }
    for (int d = 0; d < t->rank; d++) {
        int s = dim_symbol(port->dims[d]);
        if (s >= 0 && (c->binder[s] == UNBOUND || c->binder[s] == i))
            c->binder[s] = i, c->syms[s] = t->dims[d];
    }
    gradc_tensor_free(&c->in[i]);
    c->in[i] = *t;
    memset(t, 0, sizeof *t);
    return 0;
}

int gradc_call_place(GradcCall *c, int i, void *data, GradcError *e) {
    const GradcPort *port = &c->program->out[i];
    GradcTensor *t = &c->out[i];
    size_t count;
    gradc_tensor_free(t);
    int status = gradc_shape_bytes(port->dtype, port->rank, port->dims, &count, &t->bytes, e);
    if (status) return status;
    t->dtype = port->dtype;
    t->rank = port->rank;
    if (port->rank) memcpy(t->dims, port->dims, (size_t)port->rank * sizeof *t->dims);
    t->data = data;
    c->placed[i] = true;
    c->settled = false;
    return 0;
}

/* ---- a command line's values ---- */

/* The end of NAME in NAME=VALUE, NULL when the word is a VALUE alone. */
static const char *name_end(const char *word) {
    return strchr("@[\" ", *word) ? NULL : strchr(word, '=');
}

static int list_missing(GradcCall *c, const char *const *values, GradcError *e) {
    const GradcProgram *p = c->program;
    char help[1024] = "", names[400] = "", shape[400];
    size_t h = 0, n = 0;
    int missing = 0;
    for (int i = 0; i < p->nin; i++) {
        if (values[i] || c->in[i].data) continue;
        if (n < sizeof names)
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", missing ? ", " : "", p->in[i].name);
        missing++;
    }
    for (int i = 0; i < p->nin && h < sizeof help; i++)
        if (!c->in[i].data)
            h += (size_t)snprintf(help + h, sizeof help - h, "%s%s %s", h ? ", " : "expected are ", p->in[i].name,
                                  gradc_port_text(shape, sizeof shape, p, &p->in[i]));
    if (h < sizeof help)
        snprintf(help + h, sizeof help - h, "; give NAME=@FILE.npy, NAME=rand or NAME=[1,2,3]");
    return gradc_error(e, 602, help, missing == 1 ? "input %s is missing" : "inputs %s are missing", names);
}

static int no_such_input(GradcCall *c, const char *word, size_t n, GradcError *e) {
    const GradcProgram *p = c->program;
    char help[512];
    size_t h = (size_t)snprintf(help, sizeof help, p->nin ? "the inputs are " : "there are no inputs");
    for (int i = 0; i < p->nin && h < sizeof help; i++)
        h += (size_t)snprintf(help + h, sizeof help - h, "%s%s", i ? ", " : "", p->in[i].name);
    return gradc_error(e, 602, help, "there is no input %.*s", n > 60 ? 60 : (int)n, word);
}

/* Which VALUE is whose: names first, then what has no name goes to the inputs that are left, in order. */
static int assign(GradcCall *c, const GradcArgs *a, const char **values, GradcError *e) {
    const GradcProgram *p = c->program;
    for (int k = 0; k < a->nvalues; k++) {
        const char *word = a->values[k], *end = name_end(word);
        int i = 0;
        if (!end) continue;
        size_t n = (size_t)(end - word);
        while (i < p->nin && (strlen(p->in[i].name) != n || strncmp(p->in[i].name, word, n))) i++;
        if (i == p->nin) return no_such_input(c, word, n, e);
        if (values[i]) return gradc_error(e, 602, NULL, "input %s is given twice", p->in[i].name);
        values[i] = end + 1;
    }
    for (int k = 0, i = 0; k < a->nvalues; k++) {
        if (name_end(a->values[k])) continue;
        while (i < p->nin && (values[i] || c->in[i].data)) i++;
        if (i == p->nin)
            return gradc_error(e, 602, NULL, "%.60s: there are only %d inputs", a->values[k], p->nin);
        values[i] = a->values[k];
    }
    for (int i = 0; i < p->nin; i++)
        if (!values[i] && !c->in[i].data) return list_missing(c, values, e);
    return 0;
}

/* A symbol nothing else bound is 1, or as near to it as its range allows. */
static int64_t default_size(GradcCall *c, int s) {
    if (c->binder[s] == UNBOUND) {
        int64_t lo = c->program->sym_lo[s];
        c->binder[s] = BY_DEFAULT;
        c->syms[s] = lo > 1 ? lo : c->program->sym_hi[s] < 1 ? c->program->sym_hi[s] : 1;
    }
    return c->syms[s];
}

static int set_value(GradcCall *c, int i, const char *value, GradcRead *read, GradcError *e) {
    const GradcPort *port = &c->program->in[i];
    int64_t dims[GRADC_MAX_RANK], sizes[GRADC_MAX_RANK];
    bool shaped = gradc_value_has_shape(value);
    char text[512];
    GradcError inner;
    GradcTensor t;
    if (port->rank > GRADC_MAX_RANK)
        return gradc_error(e, 901, NULL, "input %s has rank %d", port->name, port->rank);
    for (int d = 0; d < port->rank; d++) {
        int s = dim_symbol(port->dims[d]);
        dims[d] = s < 0 ? port->dims[d] : -1;
        sizes[d] = s < 0 ? dims[d] : shaped ? 1 : default_size(c, s);
    }
    gradc_port_text(text, sizeof text, c->program, port);
    GradcWant want = {port->dtype, port->rank, dims, sizes, text, (uint64_t)i, read};
    int status = gradc_value_parse(&t, value, &want, &inner);
    if (status) {
        gradc_error(e, inner.code, inner.help, "input %.100s: %.390s", port->name, inner.text);
        return status;
    }
    status = gradc_call_set(c, i, &t, e);
    gradc_tensor_free(&t);
    return status;
}

int gradc_call_args(GradcCall *c, const GradcArgs *a, GradcError *e) {
    int nin = c->program->nin, status = 0;
    for (int k = 0; !status && k < a->ndims; k++) status = read_dim(c, a->dims[k], e);
    if (status) return status;
    const char **values = calloc((size_t)nin + 1, sizeof *values);
    if (!values) return gradc_error(e, 506, NULL, "out of memory");
    status = assign(c, a, values, e);
    for (int shaped = 1; shaped >= 0; shaped--)
        for (int i = 0; !status && i < nin; i++)
            if (values[i] && gradc_value_has_shape(values[i]) == shaped)
                status = set_value(c, i, values[i], a->read, e);
    free(values);
    return status;
}

/* ---- running ---- */

static int check_inputs(GradcCall *c, GradcError *e) {
    for (int i = 0; i < c->program->nin; i++) {
        if (!c->in[i].data) return gradc_error(e, 602, NULL, "input %s is missing", c->program->in[i].name);
        c->ins[i] = c->in[i].data;
        for (int d = 0; d < c->in[i].rank; d++) { /* another input may have been set anew since */
            int s = dim_symbol(c->program->in[i].dims[d]);
            if (s >= 0 && c->syms[s] != c->in[i].dims[d])
                return wrong_dim(c, i, d, c->in[i].dims[d], c->syms[s], s, e);
        }
    }
    for (int s = 0; s < c->program->nsyms; s++)
        if (c->binder[s] == UNBOUND) c->syms[s] = unset(c->program, s);
    return 0;
}

/* Outputs whose size is known get memory of their own, kept from call to call: there is nothing to do while the sizes stay. */
static int place_outputs(GradcCall *c, GradcError *e) {
    const GradcProgram *p = c->program;
    const int64_t *dims = c->dims;
    size_t syms = (size_t)p->nsyms * sizeof *c->syms;
    if (c->settled && !memcmp(c->settled_syms, c->syms, syms)) return 0;
    p->out_dims(c->syms, c->dims);
    c->settled = false;
    bool all = true;
    for (int i = 0; i < p->nout; i++) {
        const GradcPort *port = &p->out[i];
        GradcTensor *t = &c->out[i];
        bool known = true, same = (t->owned || c->placed[i]) && t->data;
        for (int d = 0; d < port->rank; d++) {
            known = known && dims[d] >= 0;
            same = same && t->dims[d] == dims[d];
        }
        if (!same) gradc_tensor_free(t);
        if (!same && known) {
            int status = gradc_tensor_new(t, port->dtype, port->rank, dims, e);
            if (status) return status;
        }
        all = all && (same || known);
        c->outs[i] = t->data;
        dims += port->rank;
    }
    memcpy(c->settled_syms, c->syms, syms);
    c->settled = all;
    return 0;
}

/* Outputs that run placed: their dims are known now. */
static int adopt_outputs(GradcCall *c, GradcError *e) {
    const GradcProgram *p = c->program;
    const int64_t *dims = c->dims;
    if (c->settled) return 0;
    p->out_dims(c->syms, c->dims);
    for (int i = 0; i < p->nout; dims += p->out[i].rank, i++) {
        GradcTensor *t = &c->out[i];
        size_t count;
        if (t->owned || c->placed[i]) continue;
        int status = gradc_shape_bytes(p->out[i].dtype, p->out[i].rank, dims, &count, &t->bytes, e);
        if (status) return status;
        if (!c->outs[i]) return gradc_error(e, 901, NULL, "output %s was not set", p->out[i].name);
        t->dtype = p->out[i].dtype;
        t->rank = p->out[i].rank;
        memcpy(t->dims, dims, (size_t)t->rank * sizeof *t->dims);
        t->data = c->outs[i];
    }
    return 0;
}

static int grow_arena(GradcCall *c, size_t bytes, GradcError *e) {
    void *arena = NULL;
    if (c->arena && bytes <= c->arena_bytes) return 0;
    free(c->arena);
    c->arena = NULL;
    if (bytes > PTRDIFF_MAX || posix_memalign(&arena, GRADC_ALIGN, bytes ? bytes : 1))
        return gradc_error(e, 506, "smaller inputs need less", "out of memory for an arena of %zu bytes",
                           bytes);
    c->arena = arena;
    c->arena_bytes = bytes;
    return 0;
}

static int describe(const GradcProgram *p, int status, GradcError *e) {
    const char *text = p->status_text ? p->status_text(status) : NULL;
    if (status == GRADC_RUN_SHAPE)
        return gradc_error(e, 301, NULL, "%s", text ? text : "shapes do not fit together");
    return gradc_error(e, 303, NULL, "%s", text ? text : "the value of an input is out of range");
}

/* Each turn of the loop doubles the arena, so it ends. */
static int run_placed(GradcCall *c, GradcError *e) {
    const GradcProgram *p = c->program;
    int status = grow_arena(c, p->arena_bytes(c->syms), e);
    while (!status) {
        int ran = p->run(c->ins, c->outs, c->syms, c->arena, c->arena_bytes);
        if (ran == GRADC_RUN_OK) return adopt_outputs(c, e);
        if (ran != GRADC_RUN_ARENA) return describe(p, ran, e);
        size_t more = c->arena_bytes < 4096 ? 8192 : 2 * c->arena_bytes;
        status = grow_arena(c, c->arena_bytes > PTRDIFF_MAX / 2 ? SIZE_MAX : more, e);
        for (int i = 0; i < p->nout; i++) c->outs[i] = c->out[i].owned || c->placed[i] ? c->out[i].data : NULL;
        for (int s = 0; s < p->nsyms; s++)
            if (c->binder[s] == UNBOUND) c->syms[s] = unset(c->program, s);
    }
    return status;
}

int gradc_call_run(GradcCall *c, GradcError *e) {
    int status = check_inputs(c, e);
    if (!status) status = place_outputs(c, e);
    return status ? status : run_placed(c, e);
}
