/* Memory, text, diagnostics, files: see base.h. */
#define _GNU_SOURCE
#include "base.h"
#include <errno.h>
#include <locale.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct Chunk Chunk;
struct Chunk { Chunk *next; size_t used, size; };
/* A block large enough to be a mapping of its own stands behind this. */
typedef struct Big Big;
struct Big { Big *next, *last; size_t mapped, bytes; };
typedef struct Deferred Deferred;
struct Deferred { Deferred *next; void (*fn)(void *); void *arg; };

struct Ctx {
    Chunk *chunks;
    Big *bigs;
    size_t bytes;
    int64_t made, *allocations; /* counted together with those of scratch */
    Budget budget;
    double deadline;
    Deferred *deferred;
    jmp_buf *door;
    VEC(Diag) diags;
    const char *where, *stage;
    void (*watch)(void *arg, const char *stage);
    void *watcher;
    void *slots[SLOTS];
    Diag emergency; /* for running out of memory while saying so */
};

enum { ALIGN = 16, CHUNK = 64 << 10, BIG = 64 << 10, BIG_HEAD = 64, TEXT_FLUSH = 1 << 20 };

static const struct { int code, status; const char *title; } codes[] = {
#define E(code, status, title) {code, status, title},
#include "errors.def"
#undef E
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

Ctx *gd_open(const Budget *budget) {
    Ctx *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->allocations = &c->made;
    if (budget) c->budget = *budget;
    if (!c->budget.max_bytes) c->budget.max_bytes = (size_t)8 << 30;
    if (!c->budget.max_nodes) c->budget.max_nodes = 1000000;
    if (!c->budget.max_folded) c->budget.max_folded = (size_t)1 << 30;
    if (c->budget.max_seconds > 0) c->deadline = now() + c->budget.max_seconds;
    return c;
}

void gd_close(Ctx *c) {
    if (!c) return;
    for (Deferred *d = c->deferred, *next; d; d = next) {
        next = d->next;
        d->fn(d->arg);
        free(d);
    }
    for (Chunk *k = c->chunks, *next; k; k = next) { next = k->next; free(k); }
    for (Big *b = c->bigs, *next; b; b = next) { next = b->next; munmap(b, b->mapped); }
    free(c);
}

int gd_enter(Ctx *c, void (*body)(Ctx *, void *), void *arg) {
    jmp_buf door, *outer = c->door;
    int before = c->diags.n;
    c->door = &door;
    if (!setjmp(door)) body(c, arg);
    c->door = outer;
    if (c->emergency.code) return gd_code_status(c->emergency.code);
    return c->diags.n > before ? gd_code_status(c->diags.v[before].code) : EXIT_OK;
}

void gd_leave(Ctx *c) {
    if (!c->door) { fputs("gradc: left without a door\n", stderr); abort(); }
    longjmp(*c->door, 1);
}

static char *vformat(Ctx *c, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = gd_alloc(c, (size_t)(n < 0 ? 0 : n) + 1);
    if (n >= 0) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

char *gd_format(Ctx *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    char *p = vformat(c, fmt, ap);
    va_end(ap);
    return p;
}

static void record(Ctx *c, int code, const char *help, const char *fmt, va_list ap) {
    const char *s = vformat(c, fmt, ap);
    Diag d = {code, c->where ? gd_format(c, "%s: %s", c->where, s) : s, help ? gd_strdup(c, help) : NULL};
    vec_push(c, &c->diags, d);
}

void gd_error(Ctx *c, int code, const char *help, const char *fmt, ...) {
    if (c->diags.n >= 200) gd_leave(c); /* a hostile file must not flood the terminal */
    va_list ap;
    va_start(ap, fmt);
    record(c, code, help, fmt, ap);
    va_end(ap);
}

void gd_fail(Ctx *c, int code, const char *help, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    record(c, code, help, fmt, ap);
    va_end(ap);
    gd_leave(c);
}

void gd_bug(Ctx *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    const char *s = vformat(c, fmt, ap);
    va_end(ap);
    gd_fail(c, 901, "this is a fault of gradc, not of the model; please report it with the model", "in %s: %s",
            c->stage ? c->stage : "?", s);
}

int gd_error_count(const Ctx *c) { return c->diags.n + (c->emergency.code != 0); }
const Diag *gd_diag(const Ctx *c, int i) { return i < c->diags.n ? &c->diags.v[i] : &c->emergency; }
const char *gd_code_title(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) return codes[i].title;
    return "?";
}
int gd_code_status(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].code == code) return codes[i].status;
    return EXIT_INTERNAL;
}
void gd_set_where(Ctx *c, const char *where) { c->where = where ? gd_strdup(c, where) : NULL; }
const char *gd_where(const Ctx *c) { return c->where; }
void gd_watch(Ctx *c, void (*fn)(void *, const char *), void *arg) {
    c->watch = fn;
    c->watcher = arg;
}
void gd_set_stage(Ctx *c, const char *stage) {
    c->stage = stage;
    if (c->watch && stage) c->watch(c->watcher, stage);
}
const Budget *gd_budget(const Ctx *c) { return &c->budget; }
size_t gd_bytes_used(const Ctx *c) { return c->bytes; }
int64_t gd_allocations(const Ctx *c) { return *c->allocations; }
void **gd_slot(Ctx *c, int slot) { return &c->slots[slot]; }

void gd_check_time(Ctx *c) {
    if (c->deadline > 0 && now() > c->deadline)
        gd_fail(c, 503, "raise it with --max-seconds", "stopped after %g seconds", c->budget.max_seconds);
}

/* Leaves without allocating: the message stands in the Ctx itself. */
static GD_NORETURN void exhausted(Ctx *c, int code, const char *message, const char *help) {
    c->emergency = (Diag){code, message, help};
    gd_leave(c);
}

void gd_defer(Ctx *c, void (*fn)(void *), void *arg) {
    bool fails = ++*c->allocations == c->budget.fail_at;
    Deferred *d = fails ? NULL : malloc(sizeof *d);
    if (!d) {
        fn(arg);
        exhausted(c, 506, "out of memory", NULL);
    }
    *d = (Deferred){c->deferred, fn, arg};
    c->deferred = d;
}

static void close_scratch(void *arg) {
    Ctx **s = arg;
    gd_close(*s);
    *s = NULL;
}

void gd_scratch(Ctx *c, void (*fn)(Ctx *, void *), void *arg) {
    Ctx **s = gd_new(c, Ctx *);
    Budget b = c->budget;
    b.max_bytes -= c->bytes;
    if (!b.max_bytes) b.max_bytes = 1;
    if (!(*s = gd_open(&b))) exhausted(c, 506, "out of memory", NULL);
    (*s)->allocations = c->allocations;
    gd_defer(c, close_scratch, s);
    int status = gd_enter(*s, fn, arg);
    if (status) {
        const Diag *d = gd_diag(*s, 0);
        gd_fail(c, d->code, d->help, "%s", d->message);
    }
    close_scratch(s);
}

static void *alloc_big(Ctx *c, size_t bytes) {
    size_t mapped = bytes + BIG_HEAD;
    Big *b = bytes < SIZE_MAX - BIG_HEAD ? mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                         : MAP_FAILED;
    if (b == MAP_FAILED) exhausted(c, 506, "out of memory", NULL);
    *b = (Big){c->bigs, NULL, mapped, bytes};
    if (c->bigs) c->bigs->last = b;
    c->bigs = b;
    c->bytes += bytes;
    return (char *)b + BIG_HEAD;
}

void gd_release(Ctx *c, const void *p) {
    Big *b = c->bigs;
    while (b && (const char *)b + BIG_HEAD != p) b = b->next;
    if (!b) return;
    if (b->last) b->last->next = b->next;
    else c->bigs = b->next;
    if (b->next) b->next->last = b->last;
    c->bytes -= b->bytes;
    munmap(b, b->mapped);
}

static void *alloc(Ctx *c, size_t bytes, size_t align) {
    if (++*c->allocations == c->budget.fail_at) exhausted(c, 506, "out of memory", NULL);
    if (bytes > c->budget.max_bytes || c->bytes > c->budget.max_bytes - bytes)
        exhausted(c, 501, "the compilation needs more memory than it may use", "raise it with --max-memory");
    if (bytes >= BIG) return alloc_big(c, bytes);
    Chunk *k = c->chunks;
    size_t at = k ? ((uintptr_t)k + k->used + align - 1) / align * align - (uintptr_t)k : 0;
    if (!k || at > k->size || bytes > k->size - at) {
        size_t want = bytes + sizeof(Chunk) + align;
        if (want < CHUNK) want = CHUNK;
        k = calloc(1, want);
        if (!k) exhausted(c, 506, "out of memory", NULL);
        k->size = want;
        k->used = sizeof(Chunk);
        if (c->chunks && want > CHUNK) { /* a big one must not hide the half-used small one */
            k->next = c->chunks->next;
            c->chunks->next = k;
        } else {
            k->next = c->chunks;
            c->chunks = k;
        }
        at = ((uintptr_t)k + k->used + align - 1) / align * align - (uintptr_t)k;
    }
    k->used = at + bytes;
    c->bytes += bytes;
    return (char *)k + at;
}

void *gd_alloc(Ctx *c, size_t bytes) { return alloc(c, bytes, ALIGN); }
void *gd_alloc_aligned(Ctx *c, size_t bytes) { return alloc(c, bytes, 64); }
void *gd_alloc_array(Ctx *c, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) gd_fail(c, 505, NULL, "%zu x %zu bytes overflow", n, size);
    return alloc(c, bytes, ALIGN);
}

char *gd_strndup(Ctx *c, const char *s, size_t n) {
    char *p = gd_alloc(c, n + 1);
    if (n) memcpy(p, s, n);
    return p;
}
char *gd_strdup(Ctx *c, const char *s) { return gd_strndup(c, s, strlen(s)); }

char *gd_escape(Ctx *c, const char *s, size_t n) {
    char *p = gd_alloc(c, 4 * n + 1), *q = p;
    for (size_t i = 0; i < n; i++) {
        unsigned char ch = (unsigned char)s[i];
        if (ch >= ' ' && ch < 127 && ch != '"' && ch != '\\') *q++ = (char)ch;
        else q += sprintf(q, "\\x%02x", ch);
    }
    return p;
}

void gd_vec_grow(Ctx *c, void *vec, size_t size) {
    VEC(char) *v = vec;
    int cap = v->cap ? 2 * v->cap : 8;
    if (cap < v->cap) gd_fail(c, 505, NULL, "a list is too long");
    char *p = gd_alloc_array(c, (size_t)cap, size);
    if (v->n) memcpy(p, v->v, (size_t)v->n * size);
    v->v = p;
    v->cap = cap;
}

/* Open addressing over entries kept in insertion order. */
typedef struct Entry { uint64_t hash; const char *key; size_t n; void *value; } Entry;
struct Map { Ctx *c; VEC(Entry) entries; int *slots; int nslots; };

uint64_t gd_hash(const void *bytes, size_t n) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (const unsigned char *p = bytes; n--; p++) h = (h ^ *p) * 0x100000001b3u;
    return h ^ h >> 32;
}

Map *map_new(Ctx *c) {
    Map *m = gd_new(c, Map);
    m->c = c;
    return m;
}

static int *slot(const Map *m, uint64_t hash, const void *key, size_t n) {
    for (int i = (int)(hash & (uint64_t)(m->nslots - 1));; i = (i + 1) & (m->nslots - 1)) {
        int e = m->slots[i];
        if (!e) return &m->slots[i];
        const Entry *x = &m->entries.v[e - 1];
        if (x->hash == hash && x->n == n && !memcmp(x->key, key, n)) return &m->slots[i];
    }
}

int map_count(const Map *m) { return m->entries.n; }
void *map_value(const Map *m, int i) { return m->entries.v[i].value; }
bool map_has(const Map *m, const void *key, size_t n) { return m->nslots && *slot(m, gd_hash(key, n), key, n); }
void *map_get(const Map *m, const void *key, size_t n) {
    int e = m->nslots ? *slot(m, gd_hash(key, n), key, n) : 0;
    return e ? m->entries.v[e - 1].value : NULL;
}
void map_put(Map *m, const void *key, size_t n, void *value) {
    if (2 * (m->entries.n + 1) > m->nslots) {
        m->nslots = m->nslots ? 2 * m->nslots : 16;
        m->slots = gd_new_array(m->c, int, m->nslots);
        for (int i = 0; i < m->entries.n; i++) {
            const Entry *x = &m->entries.v[i];
            *slot(m, x->hash, x->key, x->n) = i + 1;
        }
    }
    uint64_t hash = gd_hash(key, n);
    int *s = slot(m, hash, key, n);
    if (*s) { m->entries.v[*s - 1].value = value; return; }
    Entry x = {hash, gd_strndup(m->c, key, n), n, value};
    vec_push(m->c, &m->entries, x);
    *s = m->entries.n;
}

Text *text_new(Ctx *c) {
    Text *t = gd_new(c, Text);
    t->c = c;
    t->cap = 256;
    t->s = gd_alloc(c, t->cap);
    return t;
}
void text_flush(Text *t) {
    if (t->file) gd_file_put(t->file, t->s, t->n);
    if (t->file) t->n = 0;
}
void text_putn(Text *t, const char *s, size_t n) {
    if (t->n + n >= TEXT_FLUSH) text_flush(t);
    if (t->n + n + 1 > t->cap) {
        size_t cap = 2 * (t->n + n + 1);
        char *p = gd_alloc(t->c, cap);
        memcpy(p, t->s, t->n);
        gd_release(t->c, t->s);
        t->s = p;
        t->cap = cap;
    }
    memcpy(t->s + t->n, s, n);
    t->n += n;
    t->s[t->n] = 0;
}
void text_put(Text *t, const char *s) { text_putn(t, s, strlen(s)); }
void text_printf(Text *t, const char *fmt, ...) {
    char small[256];
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof small) {
        char *p = gd_alloc(t->c, (size_t)n + 1);
        vsnprintf(p, (size_t)n + 1, fmt, again);
        text_putn(t, p, (size_t)n);
    } else if (n > 0) text_putn(t, small, (size_t)n);
    va_end(again);
}

int64_t gd_mul(Ctx *c, int64_t a, int64_t b) {
    int64_t r;
    if (__builtin_mul_overflow(a, b, &r)) gd_fail(c, 505, NULL, "%lld x %lld overflows", (long long)a, (long long)b);
    return r;
}
int64_t gd_add(Ctx *c, int64_t a, int64_t b) {
    int64_t r;
    if (__builtin_add_overflow(a, b, &r)) gd_fail(c, 505, NULL, "%lld + %lld overflows", (long long)a, (long long)b);
    return r;
}

static void close_fd(void *arg) {
    int *fd = arg;
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

char *gd_read_file(Ctx *c, const char *path, size_t max, size_t *n) {
    int *fd = gd_new(c, int);
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) gd_fail(c, 101, NULL, "%s: %s", path, strerror(errno));
    gd_defer(c, close_fd, fd);
    if (fstat(*fd, &st) || !S_ISREG(st.st_mode)) {
        close_fd(fd);
        gd_fail(c, 101, NULL, "%s: not a regular file", path);
    }
    size_t size = (size_t)st.st_size, at = 0;
    if (size > max || size > c->budget.max_bytes - c->bytes) {
        close_fd(fd);
        gd_fail(c, 501, "raise it with --max-memory", "%s: %zu bytes are more than allowed", path, size);
    }
    char *p = gd_alloc_aligned(c, size + 1);
    for (ssize_t k; at < size; at += (size_t)k)
        if ((k = read(*fd, p + at, size - at)) <= 0) break;
    close_fd(fd);
    if (at < size) gd_fail(c, 101, NULL, "%s: read %zu of %zu bytes", path, at, size);
    *n = size;
    return p;
}

struct GdFile {
    Ctx *c;
    const char *path;
    char *temp; /* NULL: closed */
    int fd;
};

static void drop_file(void *arg) {
    GdFile *f = arg;
    if (f->fd >= 0) close(f->fd);
    if (f->temp) unlink(f->temp);
    f->fd = -1;
    f->temp = NULL;
}

static GD_NORETURN void file_fail(GdFile *f) {
    int e = errno;
    drop_file(f);
    gd_fail(f->c, 106, NULL, "%s: %s", f->path, strerror(e));
}

GdFile *gd_file_open(Ctx *c, const char *path) {
    GdFile *f = gd_new(c, GdFile);
    char *temp = gd_format(c, "%s.XXXXXX", path);
    *f = (GdFile){.c = c, .path = gd_strdup(c, path), .fd = -1};
    gd_defer(c, drop_file, f);
    if ((f->fd = mkstemp(temp)) < 0) file_fail(f);
    f->temp = temp;
    mode_t mask = umask(0);
    umask(mask);
    fchmod(f->fd, 0666 & ~mask);
    return f;
}

void gd_file_put(GdFile *f, const void *bytes, size_t n) {
    for (size_t at = 0; at < n;) {
        ssize_t k = write(f->fd, (const char *)bytes + at, n - at);
        if (k < 0 && errno != EINTR) file_fail(f);
        if (k > 0) at += (size_t)k;
    }
}

void gd_file_close(GdFile *f) {
    bool ok = !fsync(f->fd);
    ok = !close(f->fd) && ok;
    f->fd = -1;
    if (!ok || rename(f->temp, f->path)) file_fail(f);
    f->temp = NULL;
}

void gd_write_file(Ctx *c, const char *path, const void *bytes, size_t n) {
    GdFile *f = gd_file_open(c, path);
    gd_file_put(f, bytes, n);
    gd_file_close(f);
}

double gd_strtod(const char *s, const char **end) {
    char copy[512], *stop;
    const char *point = localeconv()->decimal_point;
    size_t n = strspn(s, "+-.0123456789abcdefABCDEFinfINFxXpPtTyY"), more = strlen(point) - 1;
    if (n + more + 1 > sizeof copy) n = sizeof copy - more - 1;
    const char *dot = memchr(s, '.', n);
    size_t before = dot ? (size_t)(dot - s) : n;
    memcpy(copy, s, before);
    copy[before] = 0;
    if (dot) {
        strcpy(copy + before, point);
        memcpy(copy + before + more + 1, dot + 1, n - before - 1);
        copy[n + more] = 0;
    }
    double v = strtod(copy, &stop);
    size_t read = (size_t)(stop - copy);
    *end = s + (dot && read > before ? read - more : read);
    return v;
}
