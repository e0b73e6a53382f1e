/* Running through the C API: the interpreter, test data, back ends against one another, and time. */
#define _GNU_SOURCE
#include "session.h"
#include "verify.h"
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

/* ---- inputs from a command line ---- */

static void close_call(void *call) { gradc_call_close(call); }

/* The inputs as values say, or random ones. */
static void read_inputs(Ctx *c, const GradcProgram *p, const GradcArgs *values, VerifyData *d) {
    GradcCall *call = gd_new(c, GradcCall);
    GradcError e = {0};
    GradcArgs a = values ? *values : (GradcArgs){0};
    if (gradc_call_open(call, p, &e)) session_fail(c, &e);
    gd_defer(c, close_call, call);
    if (!a.nvalues) {
        a.values = gd_new_array(c, const char *, p->nin + 1);
        for (int i = 0; i < p->nin; i++) a.values[i] = gd_format(c, "rand:%d", i + 1);
        a.nvalues = values ? 0 : p->nin;
    }
    if (gradc_call_args(call, &a, &e)) session_fail(c, &e);
    d->nin = p->nin;
    d->in = call->in;
    for (int i = 0; i < p->nin; i++)
        if (!d->in[i].data) gd_fail(c, 602, NULL, "input %s is missing", p->in[i].name);
}

/* ---- the interpreter ---- */

typedef struct Interpret { Gradc *g; const GradcArgs *values; int n; const GradcTensor *out; const char *const *names; } Interpret;

static void interpret(Ctx *c, void *arg) {
    Interpret *r = arg;
    Build b;
    build_begin(&b, r->g, c);
    build_read(&b);
    build_finish(&b);
    const GradcProgram *p = session_ports(b.program);
    VerifyData d = {0};
    VerifyOptions o = {.mode = VM_STATIC};
    read_inputs(c, p, r->values, &d);
    r->out = verify_interpret(c, b.program, &d, &o);
    r->n = p->nout;
    r->names = (const char *const *)&b.program->port_names.v[p->nin];
}

int gradc_interpret(Gradc *g, const GradcArgs *values, int *n, const GradcTensor **out, const char *const **names) {
    Interpret r = {.g = g, .values = values};
    int status = session_run(g, interpret, &r);
    *n = r.n;
    *out = r.out;
    *names = r.names;
    return status;
}
