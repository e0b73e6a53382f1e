/* Memory, text, diagnostics and limits: what everything else stands on.

   A Ctx is one compilation. It owns one arena: everything allocated lives until the compilation ends, nothing is
   freed singly, but for large blocks (weights, files), which gd_release gives back. Allocation never returns NULL: on exhaustion (or a reached limit, or an internal error) control
   leaves through the jump that gd_enter set, so no caller checks. Resources other than memory (files, processes,
   modules) are registered with gd_defer, which runs them when the Ctx ends, last one first.

   There are two doors for what goes wrong. gd_error is the user's fault: it is recorded and returns, so that all
   problems of a model come out at once; the caller goes on with whatever is sane. gd_bug is ours: it does not return. */
#ifndef GD_BASE_H
#define GD_BASE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_OK = 0, EXIT_INVALID = 1, EXIT_USAGE = 2, EXIT_UNSUPPORTED = 3, EXIT_LIMIT = 4, EXIT_IO = 5,
       EXIT_MEMORY = 6, EXIT_INTERNAL = 70 };

#if defined(__GNUC__)
#define GD_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define GD_NORETURN __attribute__((noreturn))
#else
#define GD_PRINTF(fmt, args)
#define GD_NORETURN
#endif

/* What a compilation may use. Zero fields mean the default. */
typedef struct Budget {
    size_t max_bytes;    /* arena bytes in all                    default 8 GiB */
    int64_t max_nodes;   /* graph nodes after inlining            default 1,000,000 */
    double max_seconds;  /* wall time                             default none */
    size_t max_folded;   /* bytes of constants made by folding    default 1 GiB */
    int64_t fail_at;     /* tests: the allocation with this number finds no memory   default none */
} Budget;

typedef struct Diag {
    int code;            /* errors.def */
    const char *message; /* one line: where and what */
    const char *help;    /* the nearest remedy, or NULL */
} Diag;

typedef struct Ctx Ctx;

Ctx *gd_open(const Budget *budget); /* NULL when even this much memory is missing */
void gd_close(Ctx *c);

/* Run body(arg) with the doors open: returns 0, or the exit status of what ended it. Errors recorded by gd_error
   also give their status when body returns. Calls nest. */
int gd_enter(Ctx *c, void (*body)(Ctx *, void *), void *arg);

void gd_error(Ctx *c, int code, const char *help, const char *fmt, ...) GD_PRINTF(4, 5);
GD_NORETURN void gd_fail(Ctx *c, int code, const char *help, const char *fmt, ...) GD_PRINTF(4, 5); /* and leave */
GD_NORETURN void gd_bug(Ctx *c, const char *fmt, ...) GD_PRINTF(2, 3);
GD_NORETURN void gd_leave(Ctx *c); /* leave through gd_enter because of errors already recorded */
int gd_error_count(const Ctx *c);
const Diag *gd_diag(const Ctx *c, int i);
const char *gd_code_title(int code);
int gd_code_status(int code);
void gd_set_where(Ctx *c, const char *where); /* prefix of messages: the model's file name; may be NULL */
const char *gd_where(const Ctx *c);
void gd_set_stage(Ctx *c, const char *stage); /* the pass that runs: for gd_bug, and for who watches; NULL: none */
void gd_watch(Ctx *c, void (*fn)(void *arg, const char *stage), void *arg);
void gd_check_time(Ctx *c);                   /* leaves when max_seconds is over; call it in long loops */
const Budget *gd_budget(const Ctx *c);
void gd_defer(Ctx *c, void (*fn)(void *), void *arg); /* what cannot be registered for want of memory is run at once */
/* Runs fn with a Ctx of its own for what is not needed afterwards; it is closed at the end, or with c. What ends fn early
   ends the caller too. */
void gd_scratch(Ctx *c, void (*fn)(Ctx *scratch, void *arg), void *arg);
size_t gd_bytes_used(const Ctx *c);
int64_t gd_allocations(const Ctx *c); /* how many there were so far */
/* State that a file of ir/ keeps for the whole compilation (its tables); zero at first. */
enum { SLOT_EXPR, SLOT_MATH, SLOT_GRAPH, SLOTS };
void **gd_slot(Ctx *c, int slot);

/* Memory: zeroed, aligned to 16 (gd_alloc_aligned: to 64, for tensors). */
void *gd_alloc(Ctx *c, size_t bytes);
void *gd_alloc_aligned(Ctx *c, size_t bytes);
void *gd_alloc_array(Ctx *c, size_t n, size_t size); /* checked n*size */
/* Nothing will read the block at p (NULL: none) any more. Gives back what is large enough to be a mapping of its own
   (64 KiB); other pointers, also those that are not of this Ctx, are left alone. */
void gd_release(Ctx *c, const void *p);
#define gd_new(c, T) ((T *)gd_alloc((c), sizeof(T)))
#define gd_new_array(c, T, n) ((T *)gd_alloc_array((c), (size_t)(n), sizeof(T)))
char *gd_strdup(Ctx *c, const char *s);
char *gd_strndup(Ctx *c, const char *s, size_t n);
char *gd_format(Ctx *c, const char *fmt, ...) GD_PRINTF(2, 3);
/* Bytes of a model made fit for a message or a comment: printable ASCII kept, the rest, " and \ as \xNN. */
char *gd_escape(Ctx *c, const char *s, size_t n);

/* Growing arrays: VEC(int) v = {0}; vec_push(c, &v, 3); v.v[0]; v.n. */
#define VEC(T) struct { T *v; int n, cap; }
void gd_vec_grow(Ctx *c, void *vec, size_t size);
#define vec_push(c, p, x) (((p)->n == (p)->cap ? gd_vec_grow((c), (p), sizeof *(p)->v) : (void)0), \
                           (p)->v[(p)->n++] = (x))

/* Hash map from bytes to pointer; insertion order is kept in keys/values, so walks are deterministic. */
typedef struct Map Map;
Map *map_new(Ctx *c);
void *map_get(const Map *m, const void *key, size_t n);   /* NULL when absent */
bool map_has(const Map *m, const void *key, size_t n);
void map_put(Map *m, const void *key, size_t n, void *value); /* copies the key; replaces */
int map_count(const Map *m);
void *map_value(const Map *m, int i);                     /* of the i-th key put */
#define map_gets(m, s) map_get((m), (s), strlen(s))
#define map_puts(m, s, v) map_put((m), (s), strlen(s), (v))
static inline void *map_getp(const Map *m, const void *p) { return map_get(m, &p, sizeof p); }
static inline void map_putp(Map *m, const void *p, void *v) { map_put(m, &p, sizeof p, v); }
uint64_t gd_hash(const void *bytes, size_t n);

/* A file being written, all or nothing: a temporary file in the same directory, which gd_file_close syncs and renames. What
   is not closed when the Ctx ends is removed. Leave with E106. */
typedef struct GdFile GdFile;
GdFile *gd_file_open(Ctx *c, const char *path);
void gd_file_put(GdFile *f, const void *bytes, size_t n);
void gd_file_close(GdFile *f);

/* Text being written. Lives in the arena; s is always NUL-terminated and moves when it grows. Where there is a file behind
   it, it goes there whenever there is enough of it, and s is what is left: text_flush. */
typedef struct Text { Ctx *c; char *s; size_t n, cap; GdFile *file; } Text;
Text *text_new(Ctx *c);
void text_put(Text *t, const char *s);
void text_putn(Text *t, const char *s, size_t n);
void text_flush(Text *t);
void text_printf(Text *t, const char *fmt, ...) GD_PRINTF(2, 3);

/* Checked arithmetic: leave with E505 on overflow. */
int64_t gd_mul(Ctx *c, int64_t a, int64_t b);
int64_t gd_add(Ctx *c, int64_t a, int64_t b);

/* Whole files. gd_read_file leaves with E101 when it cannot; a regular file of at most max bytes. */
char *gd_read_file(Ctx *c, const char *path, size_t max, size_t *n);
/* strtod with '.' for the point, whatever the locale. *end: behind the number, s when there is none. */
double gd_strtod(const char *s, const char **end);
/* gd_file_open, put, close. */
void gd_write_file(Ctx *c, const char *path, const void *bytes, size_t n);
#endif
