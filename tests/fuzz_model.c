/* Fuzz target: any bytes as a model file of any format, through its reader and, when that makes a graph, through all passes.
   Errors are what is expected of most; what must not happen is a crash, a leak, an internal error, or more time and memory
   than the budget. Built with -DGRADC_FUZZ=ON and clang it is a libFuzzer program; else tests/fuzz_main.c drives it over a
   corpus. */
#define _GNU_SOURCE
#include "frontend.h"
#include "passes.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void compile(Ctx *c, void *arg) {
    FrontOptions front = {.last = true};
    PassOptions pass = {.opt = 2, .release = true, .threads = 2, .machine = {.lanes = 8, .registers = 16, .fma = true, .l1 = 32 << 10, .l2 = 1 << 20}};
    FrontFile f = front_open(c, arg);
    if (f.format == FF_LOOP_TEXT) {
        passes_resume(loop_parse(c, f.bytes, f.n), &pass);
        return;
    }
    Graph *g = front_graph(c, &f, &front);
    if (!gd_error_count(c)) passes_run(g, &pass);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    const Budget budget = {.max_bytes = 256 << 20, .max_nodes = 2000, .max_seconds = 4, .max_folded = 1 << 20};
    char path[64];
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    Ctx *c = gd_open(&budget);
    if (!c) abort();
    if (gd_enter(c, compile, path) == EXIT_INTERNAL) {
        for (int i = 0; i < gd_error_count(c); i++) fprintf(stderr, "%s\n", gd_diag(c, i)->message);
        abort();
    }
    gd_close(c);
    close(fd);
    return 0;
}
