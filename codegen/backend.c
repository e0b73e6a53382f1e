/* Back ends by name. */
#include "codegen.h"

const Backend *backend_named(Ctx *c, const char *name) {
    if (!strcmp(name, "c")) return &backend_c;
    if (!strcmp(name, "llvm")) return llvm_backend(c);
    gd_fail(c, 601, "--backend llvm or c", "there is no back end called %s", name);
}
