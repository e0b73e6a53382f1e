/* Weights outside the source: a file, or an object that the assembler makes of it without looking at the
   bytes (.incbin), so that 200 MB take as long as copying them. */
#define _GNU_SOURCE
#include "codegen.h"
#include <errno.h>
#include <sys/wait.h>

void weights_object(Ctx *c, const char *const *cc, const char *dir, const char *prefix, const void *blob,
                    size_t n, const char *object) {
    char *bytes = gd_format(c, "%s/%s.weights", dir, prefix),
         *source = gd_format(c, "%s/%s_weights.S", dir, prefix);
    Text *s = text_new(c), *err = text_new(c);
    gd_write_file(c, bytes, blob, n);
    text_printf(s,
                "    .section .rodata\n    .globl %s_weights\n    .type %s_weights, %%object\n    .balign "
                "64\n%s_weights:\n    .incbin \"",
                prefix, prefix, prefix);
    for (const char *p = bytes; *p; p++) text_printf(s, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
    text_printf(s, "\"\n    .size %s_weights, %zu\n    .section .note.GNU-stack,\"\",%%progbits\n", prefix,
                n);
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
