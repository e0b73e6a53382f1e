/* Drives a fuzz target without a fuzzer: every file named, every file of a directory named, in order of the names. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static int run_file(const char *path) {
    enum { ROOM = 1 << 22 };
    FILE *f = fopen(path, "rb");
    uint8_t *room = malloc(ROOM);
    if (!f || !room) {
        perror(path);
        exit(5);
    }
    size_t n = fread(room, 1, ROOM, f);
    fclose(f);
    uint8_t *exact = malloc(n ? n : 1); /* so that a tool sees a byte read past the end */
    if (!exact) exit(6);
    memcpy(exact, room, n);
    free(room);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return 1;
}

static int run(const char *path) {
    struct dirent **list;
    int n = scandir(path, &list, NULL, alphasort), done = 0;
    if (n < 0) return run_file(path);
    for (int i = 0; i < n; i++) {
        char below[4096];
        snprintf(below, sizeof below, "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.') done += run_file(below);
        free(list[i]);
    }
    free(list);
    return done;
}

int main(int argc, char **argv) {
    int done = 0;
    for (int i = 1; i < argc; i++) done += run(argv[i]);
    printf("%d inputs\n", done);
    return done ? 0 : 2;
}
