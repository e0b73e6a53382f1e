/* Weights outside the source: a file, or an object that the assembler makes of it without looking at the
   bytes (.incbin), so that 200 MB take as long as copying them, and no memory here. */
#define _GNU_SOURCE
#include "codegen.h"
#include <errno.h>
#include <sys/wait.h>

enum { ALIGN = 64 };

size_t blob_size(Ctx *c, const Buf *b) {
    int64_t n;
    if (!is_int(buf_size(c, b), &n)) gd_bug(c, "the size of constant %s is not known", b->name);
    return (size_t)gd_mul(c, n, gd_dtypes[b->dt].bytes);
}

void blob_add(Ctx *c, Blob *b, const Buf *constant) {
    if (!b->at) b->at = map_new(c);
    vec_push(c, &b->consts, constant);
    map_putp(b->at, constant, (void *)(uintptr_t)(b->bytes + 1));
    int64_t end = gd_add(c, (int64_t)b->bytes, gd_add(c, (int64_t)blob_size(c, constant), ALIGN - 1));
    b->bytes = (size_t)end & ~(size_t)(ALIGN - 1);
}

size_t blob_at(const Blob *b, const Buf *constant) {
    return (b->at ? (uintptr_t)map_getp(b->at, constant) : 0) - 1;
}

void *blob_copy(Ctx *c, const Blob *b) {
    char *bytes = b->bytes ? gd_alloc_aligned(c, b->bytes) : NULL;
    for (int i = 0; i < b->consts.n; i++) {
        size_t n = blob_size(c, b->consts.v[i]);
        if (n) memcpy(bytes + blob_at(b, b->consts.v[i]), b->consts.v[i]->data, n);
    }
    return bytes;
}

void blob_write(Ctx *c, const Blob *b, const char *path) {
    static const char zeros[ALIGN];
    GdFile *f = gd_file_open(c, path);
    for (int i = 0; i < b->consts.n; i++) {
        size_t n = blob_size(c, b->consts.v[i]);
        gd_file_put(f, b->consts.v[i]->data, n);
        gd_file_put(f, zeros, -n & (ALIGN - 1));
    }
    gd_file_close(f);
}

void blob_object(Ctx *c, const Blob *b, const char *const *cc, const char *dir, const char *prefix, bool hidden,
                 const char *object) {
    char *bytes = gd_format(c, "%s/%s.weights", dir, prefix),
         *source = gd_format(c, "%s/%s_weights.S", dir, prefix);
    Text *s = text_new(c), *err = text_new(c);
    blob_write(c, b, bytes);
    text_printf(s, "    .section .rodata\n    .globl %s_weights\n", prefix);
    if (hidden) text_printf(s, "    .hidden %s_weights\n", prefix);
    text_printf(s, "    .type %s_weights, %%object\n    .balign 64\n%s_weights:\n    .incbin \"", prefix, prefix);
    for (const char *p = bytes; *p; p++) text_printf(s, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    text_printf(s, "\"\n    .size %s_weights, %zu\n    .section .note.GNU-stack,\"\",%%progbits\n", prefix,
                b->bytes);
    gd_write_file(c, source, s->s, s->n);
    VEC(const char *) argv = {0};
    for (; *cc; cc++) vec_push(c, &argv, *cc);
    const char *const rest[] = {"-c", source, "-o", object, NULL};
    for (int i = 0; i < 5; i++) vec_push(c, &argv, rest[i]);
    int status = tool_run(c, argv.v, err);
    if (status)
        gd_fail(c, 701, "--weights embed needs no assembler", "%s ended with %d: %s", argv.v[0], status,
                err->s);
}
