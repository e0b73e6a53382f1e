/* TensorBoard's event files: TFRecords (length, its masked CRC-32C, bytes, theirs) of Event messages. The two
   messages written here are short enough to be encoded by hand: Event {wall_time=1 double, step=2 int64,
   file_version=3 string, summary=5 {value=1 {tag=1 string, simple_value=2 float}}}. */
#define _POSIX_C_SOURCE 200809L
#include "history.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TAG = 1024 };
struct GradcEvents {
    FILE *f;
    char *path;
};

uint32_t gradc_crc32c(const void *p, size_t n) {
    const unsigned char *s = p;
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= s[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0x82f63b78 & (0 - (crc & 1)));
    }
    return ~crc;
}

/* ---- protobuf ---- */

typedef struct Bytes {
    unsigned char p[TAG + 256];
    size_t n;
} Bytes;

static void put_fixed(Bytes *b, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) b->p[b->n++] = (unsigned char)(v >> 8 * i);
}

static void put_varint(Bytes *b, uint64_t v) {
    for (; v >= 0x80; v >>= 7) b->p[b->n++] = (unsigned char)(v | 0x80);
    b->p[b->n++] = (unsigned char)v;
}

static void put_bytes(Bytes *b, int field, const void *p, size_t n) {
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_time(Bytes *b) {
    struct timespec now;
    uint64_t bits;
    clock_gettime(CLOCK_REALTIME, &now);
    double seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    memcpy(&bits, &seconds, sizeof bits);
    put_varint(b, 1 << 3 | 1);
    put_fixed(b, bits, 8);
}

/* ---- records ---- */

static uint32_t masked(const void *p, size_t n) {
    uint32_t crc = gradc_crc32c(p, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static int put_record(GradcEvents *ev, const Bytes *b, GradcError *e) {
    Bytes head = {.n = 0}, tail = {.n = 0};
    put_fixed(&head, b->n, 8);
    put_fixed(&head, masked(head.p, 8), 4);
    put_fixed(&tail, masked(b->p, b->n), 4);
    if (fwrite(head.p, 1, head.n, ev->f) == head.n && fwrite(b->p, 1, b->n, ev->f) == b->n &&
        fwrite(tail.p, 1, 4, ev->f) == 4 && !fflush(ev->f))
        return 0;
    return gradc_error(e, 106, NULL, "%s: %s", ev->path, strerror(errno));
}

int gradc_events_scalar(GradcEvents *ev, const char *tag, int64_t step, double value, GradcError *e) {
    Bytes scalar = {.n = 0}, summary = {.n = 0}, event = {.n = 0};
    float single = (float)value;
    uint32_t bits;
    size_t n = strlen(tag);
    memcpy(&bits, &single, sizeof bits);
    put_bytes(&scalar, 1, tag, n < TAG ? n : TAG);
    put_varint(&scalar, 2 << 3 | 5);
    put_fixed(&scalar, bits, 4);
    put_bytes(&summary, 1, scalar.p, scalar.n);
    put_time(&event);
    put_varint(&event, 2 << 3);
    put_varint(&event, (uint64_t)step);
    put_bytes(&event, 5, summary.p, summary.n);
    return put_record(ev, &event, e);
}

/* ---- files ---- */

int gradc_events_open(GradcEvents **to, const char *dir, GradcError *e) {
    char host[256] = "", name[400];
    Bytes event = {.n = 0};
    *to = NULL;
    if (mkdir(dir, 0777) && errno != EEXIST) return gradc_error(e, 106, NULL, "%s: %s", dir, strerror(errno));
    gethostname(host, sizeof host - 1);
    for (char *p = host; *p; p++)
        if (*p == '/') *p = '_';
    snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%ld", (long long)time(NULL), host,
             (long)getpid());
    GradcEvents *ev = calloc(1, sizeof *ev);
    size_t room = strlen(dir) + strlen(name) + 2;
    if (ev) ev->path = malloc(room);
    if (!ev || !ev->path) {
        free(ev);
        return gradc_error(e, 506, NULL, "out of memory");
    }
    snprintf(ev->path, room, "%s/%s", dir, name);
    int status =
        (ev->f = fopen(ev->path, "ab")) ? 0 : gradc_error(e, 106, NULL, "%s: %s", ev->path, strerror(errno));
    put_time(&event);
    put_bytes(&event, 3, "brain.Event:2", 13);
    if (!status) status = put_record(ev, &event, e);
    if (!status) return *to = ev, 0;
    GradcError ignored; /* the first failure is the one to tell */
    gradc_events_close(ev, &ignored);
    return status;
}

int gradc_events_close(GradcEvents *ev, GradcError *e) {
    int status = 0;
    if (!ev) return 0;
    if (ev->f && fclose(ev->f)) status = gradc_error(e, 106, NULL, "%s: %s", ev->path, strerror(errno));
    free(ev->path);
    free(ev);
    return status;
}
