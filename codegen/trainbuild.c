/* Files of a trainable model: each program is a unit of its own, by either back end; the face that joins them is C
   (c/trainer.c), so an executable or a library needs a C compiler, as linking does anyhow. */
#define _GNU_SOURCE
#include "codegen.h"
#include "embedded.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const units[] = {"init", "step", "eval", "run", "input_grad"};
enum { UNITS = sizeof units / sizeof *units };

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

static EmitOptions unit_options(Ctx *c, const TrainerUnit *u, const EmitOptions *o, int i, const char *any) {
    EmitOptions mine = *o;
    mine.prefix = gd_format(c, "%s_%s%s", u->prefix, units[i], any);
    mine.table = true;
    mine.main = false;
    return mine;
}

static void sources(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, const char *dir) {
    if (mkdir(dir, 0777) && errno != EEXIST) gd_fail(c, 106, NULL, "%s: %s", dir, strerror(errno));
    for (int i = 0; i < UNITS; i++) {
        EmitOptions mine = unit_options(c, u, o, i, ""), any = unit_options(c, u, o, i, "_any");
        if (u->program[i]) back->write(u->program[i], &mine, EMIT_C, dir);
        if (u->any[i]) back->write(u->any[i], &any, EMIT_C, dir);
    }
    write_face(c, u, dir);
}

static void need(Ctx *c, ToolArgs *a, const char *what) {
    Text *err = text_new(c);
    vec_push(c, a, NULL);
    int status = tool_run(c, a->v, err);
    if (status) gd_fail(c, 701, "the text above comes from the C compiler", "%s: %s ended with %d\n%.4000s", what, a->v[0], status, err->s);
}

static void linked(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, bool shared, const char *path) {
    const char *dir = tool_temp_dir(c), *out = gd_format(c, "%s.linked", path);
    ToolArgs a = tool_compiler(c);
    write_face(c, u, dir);
    const char *const first[] = {"-O2", "-std=c99", "-fPIC", shared ? "-shared" : "-pie", gd_format(c, "%s/%s.c", dir, u->prefix)};
    for (int i = 0; i < 5; i++) vec_push(c, &a, first[i]);
    for (int i = 0; i < UNITS; i++) {
        EmitOptions mine = unit_options(c, u, o, i, ""), any = unit_options(c, u, o, i, "_any");
        const char *object = gd_format(c, "%s/%s.o", dir, units[i]), *other = gd_format(c, "%s/%s_any.o", dir, units[i]);
        if (!u->program[i]) continue;
        back->write(u->program[i], &mine, EMIT_OBJ, object);
        vec_push(c, &a, object);
        if (!u->any[i]) continue;
        back->write(u->any[i], &any, EMIT_OBJ, other);
        vec_push(c, &a, other);
    }
    if (!shared) vec_push(c, &a, tool_runtime(c, "libgradc_runtime.a"));
    const char *const rest[] = {"-lm", "-lpthread", "-lz", "-lzip", "-ljansson", "-o", out, o->openmp ? "-lgomp" : NULL};
    for (int i = shared ? 5 : 0; i < 8; i++)
        if (rest[i]) vec_push(c, &a, rest[i]);
    if (shared) vec_push(c, &a, "-lm");
    need(c, &a, u->prefix);
    if (rename(out, path)) {
        int why = errno;
        unlink(out);
        gd_fail(c, 106, NULL, "%s: %s", path, strerror(why));
    }
}

void trainer_write(Ctx *c, const TrainerUnit *u, const EmitOptions *o, const Backend *back, Emit kind, const char *path) {
    switch (kind) {
    case EMIT_C: sources(c, u, o, back, path); return;
    case EMIT_EXE:
    case EMIT_SO: linked(c, u, o, back, kind == EMIT_SO, path); return;
    case EMIT_OBJ:
    case EMIT_ASM:
    case EMIT_LL:
    case EMIT_BC: break;
    }
    gd_fail(c, 601, "exe, so or c; `--part step` compiles one program by itself", "a trainable model is several programs: it has no one object");
}
