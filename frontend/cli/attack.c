/* The verbs that ask a trained model for the gradient of its input: attack, saliency. */
#define _GNU_SOURCE
#include "attack.h"
#include "checkpoint.h"
#include "cli.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Probe {
    const GradcTrainer *t;
    void *state;
    GradcCall call;
    const char *input; /* the first of floats */
} Probe;

static const char *float_input(const Probe *p) {
    const GradcProgram *g = p->t->input_grad;
    for (int i = 0; i < g->nin; i++)
        if (gradc_trainer_data_in(p->t, g, i) && (g->in[i].dtype == GRADC_F32 || g->in[i].dtype == GRADC_F64)) return g->in[i].name;
    return NULL;
}

/* The input-gradient program with its parameters and the words' values. */
static int open_probe(Cli *c, Probe *p) {
    GradcError e;
    GradcArgs a;
    *p = (Probe){0};
    int status = cli_problems(c, gradc_trainer(c->g, GRADC_PART_INPUT_GRAD, &p->t));
    if (status) return status;
    if (!c->fit.params) return cli_fail(c, 601, "--params FILE", "%s looks at a trained model: no parameters were named", c->verb);
    p->state = gradc_state_new(p->t);
    status = p->state ? gradc_state_init(p->t, p->state, 0, &e) : gradc_error(&e, 506, NULL, "out of memory");
    if (!status) status = gradc_checkpoint_load(c->fit.params, p->t, p->state, GRADC_SAVE_PARAMS, NULL, &e);
    if (!status) status = gradc_trainer_open(&p->call, p->t, p->t->input_grad, p->state, &e);
    cli_values(c, &a);
    if (!status) status = gradc_call_args(&p->call, &a, &e);
    p->input = status ? NULL : float_input(p);
    return status ? cli_error(c, &e) : 0;
}

static void close_probe(Probe *p) {
    if (p->call.program) gradc_call_close(&p->call);
    free(p->state);
}

int cli_attack(Cli *c) {
    Probe p;
    GradcError e;
    GradcTensor out = {0};
    GradcAttackResult r;
    bool pgd = c->method && !strcmp(c->method, "pgd");
    if (!c->method) return cli_fail(c, 601, "gradc attack fgsm MODEL ..., or pgd", "attack: which one?");
    GradcAttack a = {.eps = c->eps, .lo = -INFINITY, .hi = INFINITY, .steps = pgd ? c->steps ? c->steps : 10 : 0, .random = pgd, .seed = c->fit.seed};
    int status = open_probe(c, &p);
    if (!status && (status = gradc_attack(&p.call, p.input, &a, &out, &r, &e))) cli_error(c, &e);
    if (!status && c->out) status = cli_write_tensor(c, &out, p.input);
    if (!status) printf("loss: %.6g before, %.6g after; largest change of an element: %.6g\n", r.before, r.after, r.largest);
    gradc_tensor_free(&out);
    close_probe(&p);
    return status;
}

static const GradcTensor *input_tensor(const Probe *p) {
    for (int i = 0; i < p->call.program->nin; i++)
        if (!strcmp(p->call.program->in[i].name, p->input)) return &p->call.in[i];
    return NULL;
}

int cli_saliency(Cli *c) {
    Probe p;
    GradcError e;
    GradcTensor map = {0};
    if (!c->out) return cli_fail(c, 601, "-o MAP.png", "saliency: no output was named");
    int status = open_probe(c, &p);
    if (!status) {
        const GradcTensor *x = input_tensor(&p);
        bool last = x->rank == 4 && x->dims[3] <= 4 && x->dims[1] > 4;
        status = gradc_saliency(&p.call, p.input, GRADC_SALIENCY_GRADIENT, last, &map, &e);
        if (!status) status = gradc_saliency_write(c->out, &map, 0, x, last, 0, 1, &e);
        if (status) cli_error(c, &e);
    }
    gradc_tensor_free(&map);
    close_probe(&p);
    return status;
}
