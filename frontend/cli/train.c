/* The verbs of trainable models: train, eval, export. */
#include "cli.h"

int cli_train(Cli *c) {
    const GradcTrainer *t;
    GradcError e;
    if (c->nwords) return cli_fail(c, 601, NULL, "train takes one model; what is %.80s?", c->words[0]);
    int status = cli_problems(c, gradc_trainer(c->g, GRADC_PART_EVAL, &t));
    if (status) return status;
    c->fit.out = c->out;
    c->fit.quiet = c->quiet;
    c->fit.json = c->json;
    c->fit.data = c->data;
    gradc_stop_on_signals(&c->fit);
    status = gradc_fit(t, &c->fit, stdout, &e);
    if (!status) gradc_stop_end(&c->fit);
    return status ? cli_error(c, &e) : 0;
}

int cli_eval(Cli *c) {
    const GradcTrainer *t;
    GradcError e;
    if (c->nwords) return cli_fail(c, 601, NULL, "eval takes one model; what is %.80s?", c->words[0]);
    int status = cli_problems(c, gradc_trainer(c->g, GRADC_PART_EVAL, &t));
    if (status) return status;
    c->fit.json = c->json;
    c->fit.data = c->data;
    status = gradc_evaluate(t, &c->fit, stdout, &e);
    return status ? cli_error(c, &e) : 0;
}

int cli_export(Cli *c) {
    if (c->nwords) return cli_fail(c, 601, NULL, "export takes one model; what is %.80s?", c->words[0]);
    if (!c->out) return cli_fail(c, 601, "-o MODEL.onnx", "export: no output was named");
    return cli_problems(c, gradc_export(c->g, c->fit.params, c->out));
}
