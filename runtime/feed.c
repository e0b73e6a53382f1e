/* Fields of a data set go to the data inputs of a program: fit.h. */
#include "fit.h"
#include <string.h>

static int symbol_named(const GradcProgram *p, const char *name) {
    for (int i = 0; name && i < p->nsyms; i++)
        if (!strcmp(p->sym_names[i], name)) return i;
    return -1;
}

/* The axis that is the batch; -1: none. */
static int batch_axis(const GradcPort *port, int symbol) {
    for (int d = 0; symbol >= 0 && d < port->rank; d++)
        if (port->dims[d] == -1 - symbol) return d;
    return -1;
}

static GradcFeed feed_of(const GradcPort *port, int field, int axis) {
    GradcFeed f = {.field = field, .dtype = port->dtype, .rank = port->rank, .batch_axis = axis};
    int at = 0;
    if (axis < 0) f.batch_axis = 0, f.rank++, f.dims[at++] = 1;
    for (int d = 0; d < port->rank; d++) f.dims[at++] = port->dims[d] < 0 ? -1 : port->dims[d];
    return f;
}

/* Is the field a thing to be learned: called y, or a class in a set whose other field is x? */
static int target_field(const GradcData *d) {
    int y = gradc_data_find(d, "y");
    for (int i = gradc_data_fields(d) - 1; y < 0 && i > 0; i--)
        if (gradc_data_field(d, i)->classes) y = i;
    return y >= 0 ? y : gradc_data_fields(d) - 1;
}

/* The first field that is nobody's yet, nor will be by its name. */
static int next_field(const GradcData *d, const GradcProgram *p, const bool *taken, int target) {
    for (int i = 0; i < gradc_data_fields(d); i++) {
        int k = 0;
        while (k < p->nin && strcmp(p->in[k].name, gradc_data_field(d, i)->name)) k++;
        if (k == p->nin && !taken[i] && i != target) return i;
    }
    return -1;
}

/* A text's windows are as long as the model fixes them. */
static int fix_window(GradcData *d, const GradcPort *port, int axis, int field, GradcError *e) {
    const GradcField *f = gradc_data_field(d, field);
    if (f->rank != 1 || f->dims[0] == -1 || f->classes == 0) return 0;
    for (int i = 0, n = 0; i < port->rank; i++)
        if (i != axis && n++ == 0 && port->dims[i] > 0 && port->dims[i] != f->dims[0] && gradc_data_find(d, "y") >= 0 &&
            gradc_data_field(d, gradc_data_find(d, "y"))->rank == 1)
            return gradc_data_window(d, port->dims[i], e);
    return 0;
}

int gradc_ports_match(GradcPorts *m, const GradcTrainer *t, const GradcProgram *p, GradcData *d, GradcError *e) {
    enum { MOST = sizeof m->port / sizeof *m->port };
    bool taken[256] = {false};
    int symbol = symbol_named(p, t->batch_symbol), target = target_field(d), status = 0;
    *m = (GradcPorts){0};
    for (int i = 0; !status && i < p->nin; i++) {
        const GradcPort *port = &p->in[i];
        char want[512];
        GradcError inner;
        if (!gradc_trainer_data_in(t, p, i)) continue;
        if (m->n == MOST) return gradc_error(e, 603, NULL, "the model has more than %d inputs of data", MOST);
        int field = gradc_data_find(d, port->name), axis = batch_axis(port, symbol);
        if (field < 0) field = t->target && !strcmp(port->name, t->target) ? target : next_field(d, p, taken, target);
        if (field < 0) return gradc_error(e, 603, NULL, "input %.100s: the data set has no field for it", port->name);
        taken[field] = true;
        status = fix_window(d, port, axis, field, e);
        GradcFeed f = feed_of(port, field, axis);
        if (!status && gradc_data_fits(d, field, f.dtype, f.rank, f.dims, f.batch_axis, &inner))
            status = gradc_error(e, inner.code, inner.help, "input %.60s, %.100s: %.300s", port->name,
                                 gradc_port_text(want, sizeof want, p, port), inner.text);
        m->port[m->n] = i;
        m->batched[m->n] = axis >= 0;
        m->feed[m->n++] = f;
    }
    return status;
}

int gradc_ports_set(const GradcPorts *m, GradcCall *c, const GradcBatch *b, GradcError *e) {
    int status = 0;
    for (int i = 0; !status && i < m->n; i++) {
        GradcTensor at = b->tensors[i];
        at.owned = false;
        if (!m->batched[i]) {
            at.rank--;
            memmove(at.dims, at.dims + 1, (size_t)at.rank * sizeof *at.dims);
        }
        status = gradc_call_set(c, m->port[i], &at, e);
    }
    return status;
}
