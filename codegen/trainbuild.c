/* Files of a trainable model: each program is a unit of its own, by either back end; the face that joins them
   is C (c/trainer.c), so an executable or a library needs a C compiler, as linking does anyhow. */
#define _GNU_SOURCE
#include "codegen.h"
#include "embedded.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_text(Ctx *c, const char *dir, const char *name, const char *s, size_t n) {
    gd_write_file(c, gd_format(c, "%s/%s", dir, name), s, n);
}

static void write_face(Ctx *c, const TrainerUnit *u, const char *dir) {
    Text *source, *header;
    c_emit_trainer(c, u, &source, &header);
    write_text(c, dir, gd_format(c, "%s.c", u->prefix), source->s, source->n);
    write_text(c, dir, gd_format(c, "%s.h", u->prefix), header->s, header->n);
    write_text(c, dir, "trainer.h", gd_text_trainer_h, strlen(gd_text_trainer_h));
    write_text(c, dir, "program.h", gd_text_program_h, strlen(gd_text_program_h));
    write_text(c, dir, "tensor.h", gd_text_tensor_h, strlen(gd_text_tensor_h));
}

/* Both programs of every unit, as files of one kind in dir. objects: their paths; may be NULL. */
static void write_units(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, Emit kind,
                        const char *dir, ToolArgs *objects) {
    for (int i = 0; i < 2 * UNITS; i++) {
        EmitOptions mine = *o;
        Program *p = i % 2 ? u->any[i / 2] : u->program[i / 2];
        if (!p) continue;
        mine.prefix = gd_format(c, "%s_%s%s", u->prefix, unit_names[i / 2], i % 2 ? "_any" : "");
        mine.table = true;
        mine.main = false;
        const char *path = objects ? gd_format(c, "%s/%s.o", dir, mine.prefix) : dir;
        back->write(p, &mine, kind, path);
        if (objects) vec_push(c, objects, path);
    }
}

static void sources(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back,
                    const char *dir) {
    if (mkdir(dir, 0777) && errno != EEXIST) gd_fail(c, 106, NULL, "%s: %s", dir, strerror(errno));
    write_units(c, u, o, back, EMIT_C, dir, NULL);
    write_face(c, u, dir);
}

/* What parallel code needs: the C back end's is the C compiler's own, where it has any; LLVM's calls libgomp.
 */
static const char *openmp(Ctx *c, const EmitOptions *o, const Backend *back) {
    if (!o->openmp) return NULL;
    if (strcmp(back->name, "c")) return "-lgomp";
    return tool_accepts(c, "-fopenmp") ? "-fopenmp" : NULL;
}

static void linked(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, bool shared,
                   const char *path) {
    const char *dir = tool_temp_dir(c), *out = gd_format(c, "%s.linked", path), *threads = openmp(c, o, back);
    ToolArgs a = tool_compiler(c);
    write_face(c, u, dir);
    const char *const first[] = {"-O2", "-std=c99", "-fPIC", shared ? "-shared" : "-pie",
                                 gd_format(c, "%s/%s.c", dir, u->prefix)};
    for (int i = 0; i < 5; i++) vec_push(c, &a, first[i]);
    write_units(c, u, o, back, EMIT_OBJ, dir, &a);
    const char *const runtime[] = {"-lpthread", "-lz", "-lzip", "-ljansson"};
    if (!shared) vec_push(c, &a, tool_runtime(c, "libgradc_runtime.a"));
    for (int i = 0; i < 4 && !shared; i++) vec_push(c, &a, runtime[i]);
    if (threads) vec_push(c, &a, threads);
    const char *const last[] = {"-lm", "-o", out};
    for (int i = 0; i < 3; i++) vec_push(c, &a, last[i]);
    tool_need(c, &a, u->prefix);
    if (rename(out, path)) {
        int why = errno;
        unlink(out);
        gd_fail(c, 106, NULL, "%s: %s", path, strerror(why));
    }
}

void trainer_write(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, Emit kind,
                   const char *path) {
    switch (kind) {
    case EMIT_C: sources(c, u, o, back, path); return;
    case EMIT_EXE:
    case EMIT_SO: linked(c, u, o, back, kind == EMIT_SO, path); return;
    case EMIT_OBJ:
    case EMIT_ASM:
    case EMIT_LL:
    case EMIT_BC: break;
    }
    gd_fail(c, 601, "exe, so or c; `--part step` compiles one program by itself",
            "a trainable model is several programs: it has no one object");
}
