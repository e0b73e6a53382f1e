/* The face of a trainable model in C: P.h and P.c over the units of its programs (P_init, P_step, P_eval,
   P_infer, P_grad), and the table P_trainer of runtime/trainer.h.

   Every program finds its ports in one of two places: data in the caller's P_inputs, state at its offset in
   the block that the caller keeps. P_save and P_load move all states but the metrics' behind a header that is
   known now: together a safetensors file, of one layout. Nothing allocates, and the arena is the caller's. */
#include "gen.h"

typedef struct Face {
    Ctx *c;
    const TrainerUnit *u;
    const GradcTrainer *t;
    const char *P, *M;
    Map *taken; /* fields of P_inputs */
    Map *field; /* data port or symbol -> its field */
    Text *h, *s;
} Face;

/* No name of a unit with a word of a face's behind it is a name of the face: P_infer_run, P_run. */
const char *const unit_names[UNITS] = {"init", "step", "eval", "infer", "grad"};

/* Of a unit: its field of the table, its call, and the call's struct of outputs. reads: the state stays as it
 * is. */
static const struct {
    const char *field, *call, *out;
    bool reads;
} parts[UNITS] = {[UNIT_INIT] = {"init", NULL, NULL, false},
                  [UNIT_STEP] = {"step", "train_step", "metrics", false},
                  [UNIT_EVAL] = {"eval", "eval_step", "metrics", false},
                  [UNIT_RUN] = {"run", "run", "outputs", true},
                  [UNIT_INPUT_GRAD] = {"input_grad", "input_grad", "gradients", true}};

/* The program whose ports the face shows: that for any number of samples, where there are two. */
static const Program *shown(const Face *f, int k) { return f->u->any[k] ? f->u->any[k] : f->u->program[k]; }

static void put_name(Text *t, const char *s) {
    text_put(t, "\"");
    for (; *s; s++)
        text_printf(t, *s < ' ' || *s > 126 || *s == '"' || *s == '\\' || *s == '?' ? "\\%03o" : "%c",
                    (unsigned char)*s);
    text_put(t, "\"");
}

static int state_at(const Face *f, const Program *p, int port) {
    return gradc_state_index(f->t, p->port_names.v[port]);
}

static bool of_inputs(const Program *p, Var *symbol) {
    for (int i = 0; i < p->params.n; i++)
        for (int d = 0; p->params.v[i]->space == SP_IN && d < p->params.v[i]->rank; d++)
            if (expr_uses(p->params.v[i]->dim[d], symbol)) return true;
    return false;
}

/* ---- types ---- */

static void put_member(Face *f, const Program *p, int i, const char *field, bool constant) {
    const Buf *b = p->params.v[i];
    text_printf(f->h, "    %s%s *%s; /* ", constant ? "const " : "", c_elem(b->dt), field);
    put_comment(f->h, p->port_names.v[i]);
    text_printf(f->h, ": %s[", gd_dtypes[b->dt].name);
    for (int d = 0; d < b->rank; d++) {
        text_put(f->h, d ? "," : "");
        expr_print(f->h, b->dim[d]);
    }
    text_put(f->h, "] */\n");
}

/* One struct for all programs: symbols first, then whatever any of them reads. */
static void put_inputs(Face *f) {
    text_printf(
        f->h,
        "/* Open sizes, and data; each call reads what its program needs. */\ntypedef struct %s_inputs {\n",
        f->P);
    for (int pass = 0; pass < 2; pass++)
        for (int k = UNIT_STEP; k < UNITS; k++) {
            const Program *p = shown(f, k);
            for (int i = 0; p && !pass && i < p->syms.n; i++) {
                const char *name = p->syms.v[i]->name;
                if (map_gets(f->field, name) || !of_inputs(p, p->syms.v[i])) continue;
                const char *field = name_field(f->c, f->taken, name);
                map_puts(f->field, name, (void *)field);
                text_printf(f->h, "    int64_t %s;\n", field);
            }
            for (int i = 0; p && pass && i < p->params.n; i++) {
                const char *name = p->port_names.v[i];
                if (p->params.v[i]->space != SP_IN || state_at(f, p, i) >= 0 ||
                    map_gets(f->field, gd_format(f->c, "in %s", name)))
                    continue;
                const char *field = name_field(f->c, f->taken, name);
                map_puts(f->field, gd_format(f->c, "in %s", name), (void *)field);
                put_member(f, p, i, field, true);
            }
        }
    text_printf(f->h, "} %s_inputs;\n\n", f->P);
}

/* The fields of a program's data outputs, in the order of its ports: NULL for states. */
static const char **out_fields(Face *f, const Program *p) {
    Map *taken = map_new(f->c);
    const char **r = gd_new_array(f->c, const char *, p->params.n + 1);
    for (int i = 0; i < p->params.n; i++)
        if (p->params.v[i]->space == SP_OUT && state_at(f, p, i) < 0)
            r[i] = name_field(f->c, taken, p->port_names.v[i]);
    return r;
}

static void put_outputs(Face *f, int k) {
    const Program *p = shown(f, k);
    if (!p) return;
    const char **field = out_fields(f, p);
    text_printf(f->h, "typedef struct %s_%s {\n", f->P, parts[k].out);
    for (int i = 0; i < p->params.n; i++) {
        if (!field[i]) continue;
        if (p->params.v[i]->rank) put_member(f, p, i, field[i], false);
        else text_printf(f->h, "    %s %s;\n", c_elem(p->params.v[i]->dt), field[i]);
    }
    text_printf(f->h, "} %s_%s;\n\n", f->P, parts[k].out);
}

/* ---- calls ---- */

static void put_signature(Face *f, Text *t, int k) {
    text_printf(t, "int %s_%s(const %s_inputs *in, %s, void *arena, %s_%s *out)", f->P, parts[k].call, f->P,
                parts[k].reads ? "const void *state" : "void *state", f->P, parts[k].out);
}

static void put_syms(Face *f, const Program *p, const char *at) {
    text_printf(f->s, "    int64_t syms[%d] = {0};\n", p->syms.n + 1);
    for (int i = 0; i < p->syms.n; i++) {
        if (of_inputs(p, p->syms.v[i]))
            text_printf(f->s, "    syms[%d] = %s%s;\n", i, at,
                        (const char *)map_gets(f->field, p->syms.v[i]->name));
        else text_printf(f->s, "    syms[%d] = %s;\n", i, p->syms.v[i]->lo >= 0 ? "-1" : "INT64_MIN");
    }
}

static void put_size(Face *f, int k) {
    const Program *p = shown(f, k);
    text_printf(f->s, "size_t %s_%s_arena_bytes(const %s_inputs *in) {\n", f->P, parts[k].call, f->P);
    put_syms(f, p, "in->");
    text_printf(f->s, "    (void)in;\n    return %s_%s%s_program.arena_bytes(syms);\n}\n\n", f->P,
                unit_names[k], f->u->any[k] ? "_any" : "");
}

static void put_part(Face *f, int k) {
    const Program *p = shown(f, k);
    const char **field = out_fields(f, p);
    put_size(f, k);
    put_signature(f, f->s, k);
    text_printf(f->s, " {\n    %sunsigned char *s = state;\n", parts[k].reads ? "const " : "");
    put_syms(f, p, "in->");
    text_printf(f->s, "    const void *ins[%d] = {0};\n    void *outs[%d] = {0};\n", p->params.n + 1,
                p->params.n + 1);
    for (int i = 0; i < p->params.n; i++) {
        const Buf *b = p->params.v[i];
        int state = state_at(f, p, i);
        if (b->space == SP_IN && state >= 0)
            text_printf(f->s, "    ins[%d] = s + %zu;\n", b->port, f->t->states[state].offset);
        else if (b->space == SP_IN)
            text_printf(f->s, "    ins[%d] = in->%s;\n", b->port,
                        (const char *)map_gets(f->field, gd_format(f->c, "in %s", p->port_names.v[i])));
        else if (state >= 0)
            text_printf(f->s, "    outs[%d] = s + %zu;\n", b->port, f->t->states[state].offset);
        else text_printf(f->s, "    outs[%d] = %sout->%s;\n", b->port, b->rank ? "" : "&", field[i]);
    }
    text_put(f->s, "    (void)s;\n    (void)in;\n");
    const char *symbol = f->u->any[k] ? map_gets(f->field, f->t->batch_symbol) : NULL;
    if (symbol)
        text_printf(f->s,
                    "    if (in->%s == %lld) return %s_%s_run_raw(ins, outs, syms, arena, "
                    "%s_%s_program.arena_bytes(syms));\n",
                    symbol, (long long)f->t->batch, f->P, unit_names[k], f->P, unit_names[k]);
    const char *any = f->u->any[k] ? "_any" : "";
    text_printf(
        f->s, "    return %s_%s%s_run_raw(ins, outs, syms, arena, %s_%s%s_program.arena_bytes(syms));\n}\n\n",
        f->P, unit_names[k], any, f->P, unit_names[k], any);
}

/* The arena of init lies behind the state, inside its block. */
static void put_init(Face *f) {
    const Program *p = f->u->program[UNIT_INIT];
    text_printf(f->s,
                "int %s_init_state(void *state, uint64_t seed) {\n    unsigned char *s = state;\n    int64_t "
                "syms[%d] = {0}, value = (int64_t)seed;\n",
                f->P, p->syms.n ? p->syms.n : 1);
    text_printf(f->s, "    const void *ins[1];\n    void *outs[%d];\n    ins[0] = &value;\n", p->params.n);
    for (int i = 0; i < p->params.n; i++)
        if (p->params.v[i]->space == SP_OUT)
            text_printf(f->s, "    outs[%d] = s + %zu;\n", p->params.v[i]->port,
                        f->t->states[state_at(f, p, i)].offset);
    text_printf(f->s, "    return %s_init_run_raw(ins, outs, syms, s + %zu, %zu);\n}\n\n", f->P,
                f->t->state_bytes, f->u->init_arena);
    text_printf(f->s, "void %s_reset_metrics(void *state) {\n    unsigned char *s = state;\n    (void)s;\n",
                f->P);
    for (int i = 0; i < f->t->nstates; i++)
        if (f->t->states[i].kind == GRADC_METRIC)
            text_printf(f->s, "    memset(s + %zu, 0, %zu);\n", f->t->states[i].offset,
                        gradc_state_size(&f->t->states[i]));
    text_put(f->s, "}\n\n");
}

/* ---- save and load ---- */

static const char *json_string(Ctx *c, const char *s) {
    Text *t = text_new(c);
    for (; *s; s++) text_printf(t, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    return t->s;
}

/* The safetensors header of all states that last: padded with blanks to a multiple of 8, as the format asks.
 */
static Text *file_header(Face *f) {
    static const char *const names[GRADC_DTYPES] = {
        [GRADC_F32] = "F32",  [GRADC_F64] = "F64", [GRADC_F16] = "F16", [GRADC_BF16] = "BF16",
        [GRADC_I8] = "I8",    [GRADC_I16] = "I16", [GRADC_I32] = "I32", [GRADC_I64] = "I64",
        [GRADC_U8] = "U8",    [GRADC_U16] = "U16", [GRADC_U32] = "U32", [GRADC_U64] = "U64",
        [GRADC_BOOL] = "BOOL"};
    Text *t = text_new(f->c);
    size_t at = 0;
    for (int i = 0; i < f->t->nstates; i++) {
        const GradcState *s = &f->t->states[i];
        if (s->kind == GRADC_METRIC) continue;
        if (!names[s->dtype])
            gd_fail(f->c, 405, NULL, "a state of type %s has no place in a safetensors file",
                    gradc_dtype_name(s->dtype));
        text_printf(t, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", at ? "," : "{", json_string(f->c, s->name),
                    names[s->dtype]);
        for (int d = 0; d < s->rank; d++) text_printf(t, "%s%lld", d ? "," : "", (long long)s->dims[d]);
        size_t end = at + gradc_state_size(s);
        text_printf(t, "],\"data_offsets\":[%zu,%zu]}", at, end);
        at = end;
    }
    text_put(t, "}");
    while (t->n % 8) text_put(t, " ");
    return t;
}

static void put_file(Face *f) {
    Text *t = f->s, *head = file_header(f);
    const char *P = f->P;
    text_printf(t, "static const unsigned char %s_header[%zu + 8] = {", P, head->n);
    for (size_t i = 0; i < head->n + 8; i++)
        text_printf(t, "%s%u,", i % 24 ? "" : "\n    ",
                    i < 8 ? (unsigned)(head->n >> (8 * i) & 255) : (unsigned)(unsigned char)head->s[i - 8]);
    text_printf(t, "\n};\nstatic const struct { size_t offset, bytes; } %s_saved[] = {\n", P);
    int n = 0;
    for (int i = 0; i < f->t->nstates; i++) {
        const GradcState *s = &f->t->states[i];
        if (s->kind == GRADC_METRIC) continue;
        text_printf(t, "    {%zu, %zu},\n", s->offset, gradc_state_size(s));
        n++;
    }
    text_put(t, "};\n\n");
    text_printf(
        t,
        "int %s_save(const void *state, int (*write)(void *to, const void *bytes, size_t n), void *to) {\n"
        "    const unsigned char *s = state;\n    int status = write(to, %s_header, sizeof %s_header);\n"
        "    for (size_t i = 0; !status && i < %d; i++) status = write(to, s + %s_saved[i].offset, "
        "%s_saved[i].bytes);\n    return status;\n}\n\n",
        P, P, P, n, P, P);
    text_printf(t,
                "int %s_load(void *state, int (*read)(void *from, void *bytes, size_t n), void *from) {\n"
                "    unsigned char *s = state, ch;\n    int status = 0;\n"
                "    for (size_t i = 0; !status && i < sizeof %s_header; i++)\n"
                "        if (!(status = read(from, &ch, 1)) && ch != %s_header[i]) status = %s_FORMAT;\n"
                "    for (size_t i = 0; !status && i < %d; i++) status = read(from, s + %s_saved[i].offset, "
                "%s_saved[i].bytes);\n    return status;\n}\n\n",
                P, P, P, f->M, n, P, P);
}

/* ---- the table ---- */

static void put_states(Face *f) {
    Text *t = f->s;
    const GradcTrainer *r = f->t;
    for (int i = 0; i < r->nstates; i++) {
        if (!r->states[i].rank) continue;
        text_printf(t, "static const int64_t state%d[] = {", i);
        for (int d = 0; d < r->states[i].rank; d++)
            text_printf(t, "%s%lld", d ? ", " : "", (long long)r->states[i].dims[d]);
        text_put(t, "};\n");
    }
    text_put(t, "static const GradcState states[] = {\n");
    for (int i = 0; i < r->nstates; i++) {
        const GradcState *s = &r->states[i];
        text_put(t, "    {");
        put_name(t, s->name);
        text_printf(t, ", %d, %d, %d, %s, %zu},\n", s->kind, s->dtype, s->rank,
                    s->rank ? gd_format(f->c, "state%d", i) : "NULL", s->offset);
    }
    text_put(t, "    {NULL, 0, 0, 0, NULL, 0}};\nstatic const GradcLimit limits[] = {\n");
    for (int i = 0; i < r->nlimits; i++) {
        text_put(t, "    {");
        put_name(t, r->limits[i].port);
        text_printf(t, ", %lld, %lld},\n", (long long)r->limits[i].limit, (long long)r->limits[i].ignored);
    }
    text_printf(t,
                "    {NULL, 0, 0}};\nconst GradcTrainer %s_trainer = {\n    .name = \"%s\", "
                ".version = \"%s\",\n",
                f->P, f->P, r->version);
    for (int k = 0; k < UNITS; k++)
        for (int any = 0; any < 2; any++)
            if (any ? f->u->any[k] : f->u->program[k])
                text_printf(t, "    .%s%s = &%s_%s%s_program,\n", parts[k].field, any ? "_any" : "", f->P,
                            unit_names[k], any ? "_any" : "");
    text_printf(t, "    .nstates = %d, .states = states, .state_bytes = %zu,\n    .target = ", r->nstates,
                r->state_bytes);
    put_name(t, r->target);
    text_printf(t, ", .nlimits = %d, .limits = limits", r->nlimits);
    if (r->batch_symbol) text_put(t, ", .batch_symbol = "), put_name(t, r->batch_symbol);
    text_put(t, ", .optimizer = "), put_name(t, r->optimizer);
    text_put(t, ", .loss = "), put_name(t, r->loss);
    text_printf(t, ",\n    .batch = %lld, .epochs = %lld};\n\n", (long long)r->batch, (long long)r->epochs);
}

/* ---- the files ---- */

static void put_limits(Face *f) {
    text_printf(f->h, "/* Of the state, on a multiple of 64. */\n#define %s_STATE_BYTES %zu\n", f->M,
                f->t->state_bytes + f->u->init_arena);
    for (int k = UNIT_STEP; k < UNITS; k++) {
        const Program *p = shown(f, k);
        int64_t most = p ? expr_max(f->c, p->arena) : 0;
        static const char *const names[UNITS] = {[UNIT_STEP] = "TRAIN_ARENA",
                                                 [UNIT_EVAL] = "EVAL_ARENA",
                                                 [UNIT_RUN] = "ARENA",
                                                 [UNIT_INPUT_GRAD] = "GRAD_ARENA"};
        if (p && !p->grows && most < INT64_MAX)
            text_printf(f->h, "#define %s_%s_BYTES %lld /* %s_%s, all sizes that the inputs may have */\n",
                        f->M, names[k], (long long)most, f->P, parts[k].call);
    }
    text_put(f->h, "\n");
}

void c_emit_trainer(Ctx *c, const TrainerUnit *u, Text **source, Text **header) {
    Face f = {.c = c,
              .u = u,
              .t = u->trainer,
              .P = u->prefix,
              .taken = map_new(c),
              .field = map_new(c),
              .h = text_new(c),
              .s = text_new(c)};
    char *M = gd_strdup(c, u->prefix);
    for (char *p = M; *p; p++) *p = (char)(*p >= 'a' && *p <= 'z' ? *p - 32 : *p);
    f.M = M;
    text_printf(f.h,
                "/* %s.h: made by gradc. A model that trains: state' = step(state, batch). */\n#ifndef "
                "%s_H\n#define %s_H\n#include <stddef.h>\n#include <stdint.h>\n\n",
                f.P, M, M);
    text_put(f.h, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    text_printf(f.h,
                "/* What a call returns; other values are checks of the model itself. */\nenum { %s_OK = 0, "
                "%s_SHAPE = 1, %s_ARENA = 2, %s_INDEX = 3, %s_FORMAT = -1 };\n\n",
                M, M, M, M, M);
    put_limits(&f);
    put_inputs(&f);
    for (int k = UNIT_STEP; k < UNITS; k++)
        if (k != UNIT_EVAL) put_outputs(&f, k);
    text_printf(f.h,
                "/* First values of parameters, slots and counters: a pure function of the seed. */\nint "
                "%s_init_state(void *state, uint64_t seed);\n",
                f.P);
    text_printf(f.h,
                "/* An epoch begins: the metrics' sums are zero. */\nvoid %s_reset_metrics(void *state);\n\n",
                f.P);
    text_printf(
        f.s, "/* %s.c: made by gradc. */\n#include \"%s.h\"\n#include \"trainer.h\"\n#include <string.h>\n",
        f.P, f.P);
    for (int k = 0; k < UNITS; k++)
        for (int any = 0; any < 2; any++)
            if (any ? u->any[k] : u->program[k])
                text_printf(f.s,
                            "extern const GradcProgram %s_%s%s_program;\nint %s_%s%s_run_raw(const void "
                            "*const *, void **, int64_t *, void *, size_t);\n",
                            f.P, unit_names[k], any ? "_any" : "", f.P, unit_names[k], any ? "_any" : "");
    text_put(f.s, "\n");
    put_init(&f);
    for (int k = UNIT_STEP; k < UNITS; k++) {
        if (!u->program[k]) continue;
        text_printf(f.h, "size_t %s_%s_arena_bytes(const %s_inputs *in);\n", f.P, parts[k].call, f.P);
        put_signature(&f, f.h, k);
        text_put(f.h, ";\n");
        put_part(&f, k);
    }
    text_printf(f.h,
                "\n/* The state as a safetensors file, and back: write and read move n bytes and return 0, "
                "or a status that ends the call.\n   %s_FORMAT: a file of another model. */\n",
                M);
    text_printf(
        f.h,
        "int %s_save(const void *state, int (*write)(void *to, const void *bytes, size_t n), void *to);\n",
        f.P);
    text_printf(f.h,
                "int %s_load(void *state, int (*read)(void *from, void *bytes, size_t n), void "
                "*from);\n\n#ifdef __cplusplus\n}\n#endif\n#endif\n",
                f.P);
    put_file(&f);
    put_states(&f);
    if (u->main)
        text_printf(f.s,
                    "int gradc_trainer_main(const GradcTrainer *t, int argc, char **argv);\nint main(int "
                    "argc, char **argv) { return gradc_trainer_main(&%s_trainer, argc, argv); }\n",
                    f.P);
    *source = f.s;
    *header = f.h;
}
