/* One line that says what gradc is doing, for who looks at a terminal. */
#define _GNU_SOURCE
#include "cli.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void show(void *verb, const char *stage) {
    char line[80];
    int n = stage ? snprintf(line, sizeof line, "\r\033[K%s: %s", (const char *)verb, stage)
                  : snprintf(line, sizeof line, "\r\033[K");
    if (n > 0) fwrite(line, 1, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1, stderr);
    fflush(stderr);
}

void cli_progress(const Cli *c) {
    const char *term = getenv("TERM");
    if (!c->quiet && isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb")))
        gradc_watch(c->g, show, (void *)c->verb);
}
