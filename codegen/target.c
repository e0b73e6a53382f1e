/* The machines that code is made for: one table of names, and what this very machine is.

   For native the architecture's level is named by a name that every compiler knows, and what the processor
   has beyond it is listed feature by feature: a compiler older than the processor does not know the
   processor's name. */
#define _GNU_SOURCE
#include "codegen.h"
#include <stdlib.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define X86 "x86_64-pc-linux-gnu"
#define ARM "aarch64-linux-gnu"

/* Cache sizes where the machine is not at hand are those of the smallest common processors of the level. */
static const Target table[] = {
    {"x86-64", X86, "x86-64", "", 4, 16, false, 32 << 10, 256 << 10, false},
    {"x86-64-v2", X86, "x86-64-v2", "", 4, 16, false, 32 << 10, 256 << 10, false},
    {"x86-64-v3", X86, "x86-64-v3", "", 8, 16, true, 32 << 10, 256 << 10, false},
    {"x86-64-v4", X86, "x86-64-v4", "", 16, 32, true, 32 << 10, 1 << 20, false},
    {"aarch64", ARM, "generic", "", 4, 32, true, 32 << 10, 512 << 10, false},
};
enum { TARGETS = sizeof table / sizeof *table };

#if defined(__x86_64__)
static const char *const here = "x86-64";
#elif defined(__aarch64__)
static const char *const here = "aarch64";
#else
static const char *const here = "";
#endif

static const Target *row(const char *name) {
    for (int i = 0; i < TARGETS; i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

/* ---- caches ---- */

static int64_t cache_file(int index, const char *what, char *text, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, what);
    FILE *f = fopen(path, "r");
    bool ok = f && fgets(text, (int)n, f);
    if (f) fclose(f);
    if (!ok) return 0;
    char *end;
    long v = strtol(text, &end, 10);
    return *end == 'K' ? (int64_t)v << 10 : *end == 'M' ? (int64_t)v << 20 : v;
}

static int64_t cache_bytes(int level, int64_t otherwise) {
    int64_t v = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    v = sysconf(level == 1 ? _SC_LEVEL1_DCACHE_SIZE : _SC_LEVEL2_CACHE_SIZE);
#endif
    for (int i = 0; v <= 0 && i < 8; i++) {
        char text[64];
        if (cache_file(i, "level", text, sizeof text) != level) continue;
        cache_file(i, "type", text, sizeof text);
        if (!strncmp(text, "Instruction", 11)) continue;
        v = cache_file(i, "size", text, sizeof text);
    }
    return v >= 4096 && v <= (int64_t)1 << 32 ? v : otherwise;
}

/* ---- this machine ---- */

#if defined(__x86_64__)
/* In the order of the levels; what a level implies is known by its name. */
#define EACH_FEATURE(F)                                                                                      \
    F("avx512f")                                                                                             \
    F("avx512cd") F("avx512bw") F("avx512dq") F("avx512vl") F("avx512vbmi") F("avx512ifma") F("avx512vbmi2") \
        F("avx512vnni") F("avx512bitalg") F("avx512vpopcntdq") F("avx512bf16")

static bool has_v2(void) {
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") &&
           __builtin_cpu_supports("popcnt");
}
static bool has_v3(void) {
    unsigned a, b, c, d, ext = 0;
    if (__get_cpuid(0x80000001, &a, &b, &c, &d)) ext = c;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
    bool f16c = c >> 29 & 1, movbe = c >> 22 & 1, lzcnt = ext >> 5 & 1;
    return has_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && f16c && movbe && lzcnt;
}

static void detect(Ctx *c, Target *t) {
    __builtin_cpu_init();
    bool v3 = has_v3();
    t->cpu = v3 ? "x86-64-v3" : has_v2() ? "x86-64-v2" : "x86-64";
    t->fma = v3;
    t->lanes = v3 ? 8 : 4;
    if (!v3) return;
    Text *f = text_new(c);
#define F(name)                                                                                              \
    if (__builtin_cpu_supports(name)) text_printf(f, "%s+%s", f->n ? "," : "", name);
    EACH_FEATURE(F)
#undef F
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!wide) return;
    t->features = f->s;
    t->lanes = 16;
    t->registers = 32;
}
#else
static void detect(Ctx *c, Target *t) { (void)c, (void)t; }
#endif

static const Target *native(Ctx *c) {
    Target *t = gd_new(c, Target);
    const Target *base = row(here);
    if (!base) return NULL;
    *t = *base;
    t->name = "native";
    t->native = true;
    detect(c, t);
    t->l1 = cache_bytes(1, base->l1);
    t->l2 = cache_bytes(2, base->l2);
    return t;
}

/* Any LLVM triple: what is known of its architecture, else code without vectors. */
static const Target *triple(Ctx *c, const char *name) {
    Target *t = gd_new(c, Target);
    bool x86 = !strncmp(name, "x86_64-", 7),
         arm = !strncmp(name, "aarch64-", 8) || !strncmp(name, "arm64-", 6);
    *t = x86   ? *row("x86-64")
         : arm ? *row("aarch64")
               : (Target){.cpu = "generic", .lanes = 1, .registers = 16, .l1 = 16 << 10, .l2 = 128 << 10};
    t->name = t->triple = name;
    if (!x86 && !arm) t->features = "";
    return t;
}

const Target *target_named(Ctx *c, const char *name) {
    if (!strcmp(name, "native")) return native(c);
    if (!strcmp(name, "generic")) {
        const Target *base = row(here);
        Target *t = gd_new(c, Target);
        *t = base ? *base
                  : (Target){.cpu = "generic",
                             .features = "",
                             .lanes = 1,
                             .registers = 16,
                             .l1 = 16 << 10,
                             .l2 = 128 << 10};
        t->name = "generic";
        return t;
    }
    const Target *t = row(name);
    return t ? t : strchr(name, '-') ? triple(c, gd_strdup(c, name)) : NULL;
}
