/* Parameters from a safetensors file: see params.h. */
#include "params.h"
#include "safetensors.h"
#include "session.h"

struct Params {
    Ctx *c;
    GradcSafetensors file;
};

static void close_params(void *p) { gradc_safetensors_free(&((Params *)p)->file); }

Params *params_open(Ctx *c, const char *path) {
    Params *p = gd_new(c, Params);
    GradcError e;
    p->c = c;
    if (gradc_safetensors_read(&p->file, path, &e)) session_fail(c, &e);
    gd_defer(c, close_params, p);
    return p;
}

const void *params_data(void *params, const char *name, DType dt, int rank, const int64_t *dims) {
    Params *p = params;
    const GradcTensor *t = gradc_safetensors_find(&p->file, name);
    if (!t) return NULL;
    bool fits = (DType)t->dtype == dt && t->rank == rank;
    for (int i = 0; fits && i < rank; i++) fits = t->dims[i] == dims[i];
    if (fits) return t->data;
    gd_error(p->c, 603, "take the parameters of this model", "parameter \"%s\" has another dtype or shape than the model's",
             gd_escape(p->c, name, strlen(name)));
    return t->data;
}
