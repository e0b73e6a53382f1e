/* The back end "c": sources as they are, or compiled by the system's C compiler into whatever is asked for;
   `load` makes a shared library in a temporary directory. What the compiler makes is written beside its place
   and then moved there, so a failed run leaves nothing behind. */
#define _GNU_SOURCE
#include "codegen.h"
#include "embedded.h"
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef ToolArgs Args;

static void add(Ctx *c, Args *a, const char *s) { vec_push(c, a, s); }

/* -march, and -m for each feature. The full vector width is asked for by name, or compilers keep to half of
 * it. */
static void add_target(Ctx *c, Args *a, const Target *t) {
    if (!t) return;
    if (strcmp(t->cpu, "generic")) add(c, a, gd_format(c, "-march=%s", t->cpu));
    for (const char *f = t->features ? t->features : ""; *f; f += strcspn(f, ","), f += *f == ',')
        add(c, a, gd_format(c, "-m%.*s", (int)strcspn(f, ",") - 1, f + 1));
    if (t->lanes == 16) add(c, a, "-mprefer-vector-width=512");
}

/* ---- sources ---- */

static const char *prefix_of(const Program *p, const EmitOptions *o) {
    return o->prefix ? o->prefix : p->name;
}

static void write_text(Ctx *c, const char *dir, const char *name, const char *s, size_t n) {
    gd_write_file(c, gd_format(c, "%s/%s", dir, name), s, n);
}

static void write_sources(Program *p, const EmitOptions *o, const char *dir, CSources *s) {
    Ctx *c = p->c;
    const char *P = prefix_of(p, o);
    c_emit(p, o, gd_format(c, "%s/%s.c", dir, P), s);
    write_text(c, dir, gd_format(c, "%s.h", P), s->header->s, s->header->n);
    if (!o->table) return;
    write_text(c, dir, "program.h", gd_text_program_h, strlen(gd_text_program_h));
    write_text(c, dir, "tensor.h", gd_text_tensor_h, strlen(gd_text_tensor_h));
}

static const char *folder_of(Ctx *c, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? gd_strndup(c, path, (size_t)(slash - path + 1)) : "";
}

/* Weights outside of the source: a file, or an object (whose path is returned) made in dir. */
static char *write_weights(Program *p, const EmitOptions *o, const char *dir, const CSources *s,
                           const char *file, const char *object) {
    Ctx *c = p->c;
    if (!s->blob.bytes) return NULL;
    if (o->weights == WEIGHTS_FILE) blob_write(c, &s->blob, file);
    if (o->weights != WEIGHTS_OBJECT) return NULL;
    Args a = tool_compiler(c);
    add(c, &a, "-fPIC");
    add(c, &a, NULL);
    blob_object(c, &s->blob, a.v, dir, prefix_of(p, o), false, object);
    return gd_strdup(c, object);
}

static void emit_sources(Program *p, const EmitOptions *o, const char *dir) {
    Ctx *c = p->c;
    CSources s;
    if (mkdir(dir, 0777) && errno != EEXIST) gd_fail(c, 106, NULL, "%s: %s", dir, strerror(errno));
    write_sources(p, o, dir, &s);
    const char *P = prefix_of(p, o);
    if (s.blob.bytes)
        write_weights(p, o, tool_temp_dir(c), &s, gd_format(c, "%s/%s.weights", dir, P),
                      gd_format(c, "%s/%s_weights.o", dir, P));
}

/* ---- compiled ---- */

static void add_common(Program *p, const EmitOptions *o, Args *a) {
    Ctx *c = p->c;
    add(c, a, gd_format(c, "-O%d", o->opt < 0 ? 0 : o->opt > 3 ? 3 : o->opt));
    add(c, a, "-std=gnu99");
    add_target(c, a, o->target);
    add(c, a, "-fPIC");
    if (o->openmp && tool_accepts(c, "-fopenmp")) add(c, a, "-fopenmp");
}

/* Across file systems it is copied beside its place first, so that the last step is a rename all the same. */
static void move_to(Ctx *c, const char *from, const char *to) {
    if (!rename(from, to)) return;
    size_t n;
    struct stat st;
    char *bytes = gd_read_file(c, from, SIZE_MAX, &n);
    gd_write_file(c, to, bytes, n);
    if (!stat(from, &st)) chmod(to, st.st_mode & 0777);
}

static void build(Program *p, const EmitOptions *o, Emit kind, const char *path) {
    Ctx *c = p->c;
    const char *dir = tool_temp_dir(c), *P = prefix_of(p, o), *made = gd_format(c, "%s/made", dir);
    CSources s;
    write_sources(p, o, dir, &s);
    const char *file = kind == EMIT_EXE ? gd_format(c, "%s.weights", path)
                                        : gd_format(c, "%s%s.weights", folder_of(c, path), P);
    char *weights = write_weights(p, o, dir, &s, file, gd_format(c, "%s/%s_weights.o", dir, P));
    Args a = tool_compiler(c);
    add_common(p, o, &a);
    char *source = gd_format(c, "%s/%s.c", dir, P);
    if (kind == EMIT_ASM) add(c, &a, "-S");
    if (kind == EMIT_OBJ) add(c, &a, "-c");
    if (kind == EMIT_SO) add(c, &a, "-shared");
    add(c, &a, source);
    if (kind == EMIT_EXE || kind == EMIT_SO) {
        if (weights) add(c, &a, weights);
        if (kind == EMIT_EXE) add(c, &a, tool_runtime(c, "libgradc_runtime.a"));
        add(c, &a, "-lm");
    }
    char *object = kind == EMIT_OBJ && weights ? gd_format(c, "%s/code.o", dir) : (char *)made;
    add(c, &a, "-o");
    add(c, &a, object);
    tool_need(c, &a, P);
    if (object != made) { /* code and weights become one object */
        Args link = tool_compiler(c);
        const char *const rest[] = {"-r", "-nostdlib", object, weights, "-o", made};
        for (int i = 0; i < 6; i++) add(c, &link, rest[i]);
        tool_need(c, &link, P);
    }
    move_to(c, made, path);
}

static void write_c(Program *p, const EmitOptions *o, Emit kind, const char *path) {
    switch (kind) {
    case EMIT_C: emit_sources(p, o, path); break;
    case EMIT_EXE:
    case EMIT_SO:
    case EMIT_OBJ:
    case EMIT_ASM: build(p, o, kind, path); break;
    case EMIT_LL:
    case EMIT_BC: gd_fail(p->c, 405, "use --backend llvm", "the C back end makes no LLVM code");
    }
}

/* ---- loaded ---- */

static void unload(void *handle) { dlclose(handle); }

/* OpenMP's threads outlive the library that started them, so their code must stay. */
static void keep_threads(void) {
    static const char *const names[] = {"libgomp.so.1", "libomp.so.5", "libomp.so", "libiomp5.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *h = dlopen(names[i], RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
        if (h) dlclose(h);
    }
}

static void load_c(Program *p, const EmitOptions *o, Loaded *out) {
    Ctx *c = p->c;
    const char *dir = tool_temp_dir(c), *P = prefix_of(p, o), *library = gd_format(c, "%s/made.so", dir);
    EmitOptions mine = *o;
    CSources s;
    mine.table = true;
    mine.main = false;
    mine.weights = WEIGHTS_HOST;
    write_sources(p, &mine, dir, &s);
    Args a = tool_compiler(c);
    add_common(p, &mine, &a);
    const char *const rest[] = {"-shared", gd_format(c, "%s/%s.c", dir, P), "-o", library, "-lm"};
    for (int i = 0; i < 5; i++) add(c, &a, rest[i]);
    tool_need(c, &a, P);
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) gd_fail(c, 701, NULL, "%s", dlerror());
    keep_threads();
    gd_defer(c, unload, handle);
    const void **constants = dlsym(handle, gd_format(c, "%s_constants", P));
    for (int i = 0; i < s.nconstants; i++) constants[i] = s.constants[i];
    *out = (Loaded){.program = dlsym(handle, gd_format(c, "%s_program", P))};
    if (o->profile) *(void **)&out->profile = dlsym(handle, gd_format(c, "%s_profile", P));
    if (!out->program) gd_fail(c, 701, NULL, "%s", dlerror());
}

const Backend backend_c = {"c", write_c, load_c};
