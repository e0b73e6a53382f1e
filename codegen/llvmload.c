/* Finds and loads the module gradc_llvm.so, which holds the LLVM back end: beside the executable (a build
   folder), in ../lib/gradc from there (an installation), beside the library this code is in, where the build
   installs it. The module stays loaded: LLVM does not like to be unloaded. It carries its own copy of the
   IR's code, so it works in any program that links libgradc, and must be of the same version: both compare
   GRADC_VERSION. */
#define _GNU_SOURCE
#include "codegen.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

#ifndef GRADC_VERSION
#error "the build defines GRADC_VERSION"
#endif
#define MODULE "gradc_llvm.so"

static const char *folder_of(Ctx *c, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? gd_strndup(c, path, (size_t)(slash - path)) : ".";
}

static const char *executable_folder(Ctx *c) {
    char *path = realpath("/proc/self/exe", NULL);
    const char *folder = path ? folder_of(c, path) : NULL;
    free(path);
    return folder;
}

static const char *library_folder(Ctx *c) {
    Dl_info info;
    return dladdr((void *)llvm_backend, &info) && info.dli_fname ? folder_of(c, info.dli_fname) : NULL;
}

static const char *try_path(Ctx *c, const char *folder, const char *below) {
    const char *path = folder ? gd_format(c, "%s/%s" MODULE, folder, below) : NULL;
    return path && !access(path, R_OK) ? path : NULL;
}

static const char *find_module(Ctx *c) {
    const char *folders[] = {executable_folder(c), library_folder(c)}, *path = NULL;
    for (int i = 0; i < 2 && !path; i++) {
        path = try_path(c, folders[i], "");
        if (!path) path = try_path(c, folders[i], "gradc/");
        if (!path) path = try_path(c, folders[i], "../lib/gradc/");
    }
#ifdef GRADC_LIBDIR
    if (!path) path = try_path(c, GRADC_LIBDIR, "");
#endif
    return path;
}

const Backend *llvm_backend(Ctx *c) {
    const char *help = "use --backend c, or install the LLVM back end", *path = find_module(c);
    if (!path) gd_fail(c, 405, help, "the LLVM back end (" MODULE ") is not installed");
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!module) gd_fail(c, 405, help, "the LLVM back end cannot be loaded: %s", dlerror());
    const Backend *(*open)(const char *) = NULL;
    void *symbol = dlsym(module, "gradc_llvm_backend");
    memcpy(&open, &symbol, sizeof open);
    const Backend *b = open ? open(GRADC_VERSION) : NULL;
    if (!b) gd_fail(c, 405, help, "%s is of another version of gradc", path);
    return b;
}
