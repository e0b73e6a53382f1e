/* NumPy's .npy files. A file is hostile until proven sound: the header is short and parsed by a grammar that
   has no recursion, the shape is multiplied with checks, and memory is taken only as far as a file of that
   length can fill it. Writing goes to a temporary file beside the target, which then takes its name: a reader
   never sees half a file. */
#define _POSIX_C_SOURCE 200809L
#include "element.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEADER = 1 << 16 };

typedef struct Header {
    const char *path, *p; /* p: where the parser is in the text */
    char order, kind;     /* of descr: '<f4' */
    int64_t size;
    bool fortran;
    int rank;
    int64_t dims[GRADC_MAX_RANK];
    GradcError *e;
} Header;

static const struct { char kind; unsigned char size, dtype; } kinds[] = {
    {'f', 4, GRADC_F32}, {'f', 8, GRADC_F64}, {'f', 2, GRADC_F16}, {'V', 2, GRADC_BF16},
    {'i', 1, GRADC_I8}, {'i', 2, GRADC_I16}, {'i', 4, GRADC_I32}, {'i', 8, GRADC_I64},
    {'u', 1, GRADC_U8}, {'u', 2, GRADC_U16}, {'u', 4, GRADC_U32}, {'u', 8, GRADC_U64},
    {'b', 1, GRADC_BOOL}, {'c', 8, GRADC_C64}, {'c', 16, GRADC_C128},
    /* What these hold in a file of a one-byte type, when the caller knows better than the header. */
    {'V', 1, GRADC_F8E4M3FN}, {'V', 1, GRADC_F8E4M3FNUZ}, {'V', 1, GRADC_F8E5M2}, {'V', 1, GRADC_F8E5M2FNUZ},
    {'V', 1, GRADC_F8E8M0}, {'V', 1, GRADC_F4E2M1},
    {'i', 1, GRADC_I4}, {'u', 1, GRADC_U4}, {'i', 1, GRADC_I2}, {'u', 1, GRADC_U2},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static bool big_endian(void) {
    const uint16_t one = 1;
    unsigned char first;
    memcpy(&first, &one, 1);
    return !first;
}

static int corrupt(Header *h, const char *what) {
    return gradc_error(h->e, 103, "write it again, for example with numpy.save", "%s: %s", h->path, what);
}

/* ---- the header: a Python dict of three keys ---- */

static void skip(Header *h) {
    while (*h->p == ' ' || *h->p == '\t' || *h->p == '\n' || *h->p == '\r') h->p++;
}

static bool take(Header *h, const char *s) {
    skip(h);
    size_t n = strlen(s);
    if (strncmp(h->p, s, n)) return false;
    h->p += n;
    return true;
}

static bool read_integer(Header *h, int64_t *v) {
    skip(h);
    const char *start = h->p;
    for (*v = 0; *h->p >= '0' && *h->p <= '9'; h->p++) {
        int d = *h->p - '0';
        if (*v > (INT64_MAX - d) / 10) return false;
        *v = *v * 10 + d;
    }
    if (h->p > start && *h->p == 'L') h->p++; /* Python 2 wrote long integers so */
    return h->p > start;
}

/* A string without escapes, as every key and every simple descr is. Returns its length, -1 for none. */
static int read_string(Header *h, char *buf, int room) {
    skip(h);
    char quote = *h->p;
    int n = 0;
    if (quote != '\'' && quote != '"') return -1;
    for (h->p++; *h->p && *h->p != quote && *h->p != '\\' && n < room - 1; h->p++) buf[n++] = *h->p;
    buf[n] = 0;
    return *h->p == quote ? (h->p++, n) : -1;
}

static int read_descr(Header *h) {
    char descr[16];
    skip(h);
    if (*h->p == '[')
        return gradc_error(h->e, 603, "save each field as a file of its own", "%s: a structured array",
                           h->path);
    if (read_string(h, descr, sizeof descr) < 3) return corrupt(h, "the header has no dtype");
    Header number = {.p = descr + 2};
    h->order = descr[0];
    h->kind = descr[1];
    if (!strchr("<>|=", h->order) || !read_integer(&number, &h->size) || *number.p)
        return corrupt(h, "the header's dtype is not understood");
    return 0;
}

static int read_shape(Header *h) {
    if (!take(h, "(")) return corrupt(h, "the header has no shape");
    for (h->rank = 0; !take(h, ")"); h->rank++) {
        int64_t v;
        if (!read_integer(h, &v)) return corrupt(h, "the header's shape is not understood");
        if (h->rank == GRADC_MAX_RANK)
            return gradc_error(h->e, 505, NULL, "%s: more than %d axes", h->path, (int)GRADC_MAX_RANK);
        h->dims[h->rank] = v;
        if (!take(h, ",")) {
            if (!take(h, ")")) return corrupt(h, "the header's shape is not understood");
            h->rank++;
            break;
        }
    }
    return 0;
}

static int read_dict(Header *h) {
    int seen = 0;
    if (!take(h, "{")) return corrupt(h, "the header is not a dict");
    while (!take(h, "}")) {
        char key[16];
        int status = 0, bit;
        if (read_string(h, key, sizeof key) < 0 || !take(h, ":"))
            return corrupt(h, "the header is not understood");
        if (!strcmp(key, "descr")) bit = 1, status = read_descr(h);
        else if (!strcmp(key, "shape")) bit = 2, status = read_shape(h);
        else if (!strcmp(key, "fortran_order")) {
            bit = 4;
            h->fortran = take(h, "True");
            if (!h->fortran && !take(h, "False")) return corrupt(h, "fortran_order is not True or False");
        } else return corrupt(h, "the header has an unknown key");
        if (status) return status;
        if (seen & bit) return corrupt(h, "the header has a key twice");
        seen |= bit;
        if (!take(h, ",")) {
            if (!take(h, "}")) return corrupt(h, "the header is not understood");
            break;
        }
    }
    skip(h);
    if (seen != 7) return corrupt(h, "the header lacks a key");
    return *h->p ? corrupt(h, "the header has text after the dict") : 0;
}

/* The dtype of descr: the wanted one if its bytes look so in a file, else the one NumPy means. */
static int header_dtype(Header *h, int want) {
    char kind = h->kind == 'f' && h->size == 1 ? 'V' : h->kind; /* ml_dtypes calls its 8-bit floats f1 */
    int found = -1;
    for (int i = KINDS - 1; i >= 0; i--) {
        if (kinds[i].kind != kind || kinds[i].size != h->size) continue;
        if (kinds[i].dtype == want) return want;
        found = i;
    }
    if (found < 0 || (kind == 'V' && h->size == 1)) return -1;
    return kinds[found].dtype;
}

/* ---- the elements ---- */

/* Reads up to n bytes, growing with what arrives; a pipe does not tell its length. */
static int read_bytes(FILE *f, Header *h, GradcTensor *t, size_t known) {
    size_t n = t->bytes, room = known >= n ? n : n < 1 << 20 ? n : 1 << 20, at = 0;
    char *data = NULL;
    for (;;) {
        void *more = NULL;
        if (posix_memalign(&more, GRADC_ALIGN, room ? room : 1)) {
            free(data);
            return gradc_error(h->e, 506, NULL, "%s: out of memory for %zu bytes", h->path, n);
        }
        if (at) memcpy(more, data, at);
        free(data);
        data = more;
        t->data = data;
        t->owned = true;
        at += fread(data + at, 1, room - at, f);
        if (at < room || room == n) break;
        room = room > n / 2 ? n : 2 * room;
    }
    if (ferror(f)) return gradc_error(h->e, 101, NULL, "%s: %s", h->path, strerror(errno));
    if (at < n)
        return gradc_error(h->e, 103, "the file is cut off; copy or write it again",
                           "%s: truncated: %zu bytes of data where the shape needs %zu", h->path, at, n);
    if (fgetc(f) != EOF) return corrupt(h, "there are bytes after the data of the shape");
    return 0;
}

static void swap_bytes(char *p, size_t bytes, size_t unit) {
    for (size_t at = 0; at < bytes; at += unit)
        for (size_t i = 0, j = unit - 1; i < j; i++, j--) {
            char b = p[at + i];
            p[at + i] = p[at + j];
            p[at + j] = b;
        }
}

/* Column-major to row-major: walks the target in order and keeps the source's offset by an odometer. */
static int transpose(Header *h, GradcTensor *t) {
    size_t size = gradc_dtype_size(t->dtype), step[GRADC_MAX_RANK], n = t->bytes / size, from = 0;
    int64_t index[GRADC_MAX_RANK] = {0};
    GradcTensor to;
    int status = gradc_tensor_new(&to, t->dtype, t->rank, t->dims, h->e);
    if (status) return status;
    for (int i = 0; i < t->rank; i++) step[i] = i ? step[i - 1] * (size_t)t->dims[i - 1] : 1;
    for (size_t k = 0; k < n; k++) {
        memcpy((char *)to.data + k * size, (char *)t->data + from * size, size);
        for (int i = t->rank - 1; i >= 0; i--) {
            from += step[i];
            if (++index[i] < t->dims[i]) break;
            from -= step[i] * (size_t)t->dims[i];
            index[i] = 0;
        }
    }
    gradc_tensor_free(t);
    *t = to;
    return 0;
}

/* Generated code relies on a bool being 0 or 1 and on narrow types being in range. */
static int check_elements(Header *h, GradcTensor *t) {
    int low = 0, high = 0;
    unsigned char *p = t->data;
    switch (t->dtype) {
    case GRADC_BOOL:
        for (size_t i = 0; i < t->bytes; i++) p[i] = p[i] != 0;
        return 0;
    case GRADC_F4E2M1: case GRADC_U4: high = 15; break;
    case GRADC_U2: high = 3; break;
    case GRADC_I4: low = -8, high = 7; break;
    case GRADC_I2: low = -2, high = 1; break;
    default: return 0;
    }
    for (size_t i = 0; i < t->bytes; i++) {
        int v = low ? (signed char)p[i] : p[i];
        if (v < low || v > high)
            return gradc_error(h->e, 603, NULL, "%s: element %zu is %d, which does not fit in %s", h->path, i,
                               v, gradc_dtype_name(t->dtype));
    }
    return 0;
}

/* ---- reading ---- */

static int read_header(FILE *f, Header *h, char *text) {
    unsigned char start[12];
    size_t got = fread(start, 1, 8, f), length, prefix;
    if (got < 8 || memcmp(start, "\x93NUMPY", 6)) {
        if (ferror(f)) return gradc_error(h->e, 101, NULL, "%s: %s", h->path, strerror(errno));
        if (!got || memcmp(start, "\x93NUMPY", got < 6 ? got : 6))
            return gradc_error(h->e, 103, "write it with numpy.save", "%s: not a .npy file", h->path);
        return corrupt(h, "truncated in the header");
    }
    if (start[6] < 1 || start[6] > 3) return corrupt(h, "a version other than 1, 2 and 3");
    prefix = start[6] == 1 ? 2 : 4;
    if (fread(start + 8, 1, prefix, f) < prefix) return corrupt(h, "truncated in the header");
    length = start[8] | (size_t)start[9] << 8;
    if (prefix == 4) length |= (size_t)start[10] << 16 | (size_t)start[11] << 24;
    if (length >= MAX_HEADER) return corrupt(h, "the header is longer than any shape needs");
    if (fread(text, 1, length, f) < length) return corrupt(h, "truncated in the header");
    text[length] = 0;
    if (strlen(text) < length) return corrupt(h, "the header has a zero byte");
    h->p = text;
    return read_dict(h);
}

/* How many bytes a regular file still holds; 0 for anything else. */
static int remaining(FILE *f, Header *h, size_t need, size_t *n) {
    struct stat st;
    off_t at = ftello(f);
    *n = 0;
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode) || at < 0) return 0;
    *n = st.st_size > at ? (size_t)(st.st_size - at) : 0;
    if (*n >= need) return 0;
    return gradc_error(h->e, 103, "the file is cut off; copy or write it again",
                       "%s: truncated: %zu bytes of data where the shape needs %zu", h->path, *n, need);
}

static int read_open(FILE *f, Header *h, int want, GradcTensor *t, char *text) {
    size_t count, known;
    int status = read_header(f, h, text);
    if (status) return status;
    int dtype = header_dtype(h, want);
    if (dtype < 0)
        return gradc_error(h->e, 603,
                           "save numbers or bools; a type NumPy lacks goes as x.view('V1') or x.view('V2')",
                           "%s: elements of NumPy type %c%lld are not read here", h->path,
                           h->kind > ' ' && h->kind < 127 ? h->kind : '?', (long long)h->size);
    if ((status = gradc_shape_bytes(dtype, h->rank, h->dims, &count, &t->bytes, h->e))) return status;
    t->dtype = dtype;
    t->rank = h->rank;
    memcpy(t->dims, h->dims, sizeof t->dims);
    if ((status = remaining(f, h, t->bytes, &known))) return status;
    if ((status = read_bytes(f, h, t, known))) return status;
    bool complex = h->kind == 'c', foreign = h->order == (big_endian() ? '<' : '>');
    if (foreign) swap_bytes(t->data, t->bytes, gradc_dtype_size(dtype) / (complex ? 2 : 1));
    if (h->fortran && h->rank > 1 && (status = transpose(h, t))) return status;
    return check_elements(h, t);
}

int gradc_npy_read_stream(GradcTensor *t, FILE *f, const char *path, int dtype, GradcError *e) {
    *t = (GradcTensor){0};
    Header h = {.path = path, .e = e};
    char *text = malloc(MAX_HEADER);
    int status =
        text ? read_open(f, &h, dtype, t, text) : gradc_error(e, 506, NULL, "%s: out of memory", path);
    free(text);
    if (status) gradc_tensor_free(t);
    return status;
}

int gradc_npy_read(GradcTensor *t, const char *path, int dtype, GradcError *e) {
    *t = (GradcTensor){0};
    FILE *f = fopen(path, "rb");
    if (!f) return gradc_error(e, 101, NULL, "%s: %s", path, strerror(errno));
    int status = gradc_npy_read_stream(t, f, path, dtype, e);
    fclose(f);
    return status;
}

/* ---- writing ---- */

/* Version 1; the header is padded so that the data starts at a multiple of 64. Returns its length. */
static size_t write_header(char *out, size_t room, const GradcTensor *t, int kind) {
    char text[640];
    char order = kinds[kind].size == 1 || kinds[kind].kind == 'V' ? '|' : big_endian() ? '>' : '<';
    size_t n = (size_t)snprintf(text, sizeof text, "{'descr': '%c%c%d', 'fortran_order': False, 'shape': (",
                                order, kinds[kind].kind, kinds[kind].size);
    for (int i = 0; i < t->rank; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%lld%s", i ? " " : "", (long long)t->dims[i],
                              i < t->rank - 1 || t->rank == 1 ? "," : "");
    n += (size_t)snprintf(text + n, sizeof text - n, "), }");
    size_t total = (10 + n + 1 + 63) / 64 * 64;
    if (total > room) return 0;
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((total - 10) & 255);
    out[9] = (char)((total - 10) >> 8);
    memcpy(out + 10, text, n);
    memset(out + 10 + n, ' ', total - 10 - n);
    out[total - 1] = '\n';
    return total;
}

static bool write_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t k = write(fd, p, n < (size_t)1 << 30 ? n : (size_t)1 << 30);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

/* O_EXCL: a name that someone else has taken, or a link laid in its place, is stepped over. */
static int open_beside(const char *path, char *temp, size_t room) {
    for (int i = 0; i < 100; i++) {
        int n = snprintf(temp, room, "%s.%ld-%d.tmp", path, (long)getpid(), i);
        if (n < 0 || (size_t)n >= room) { errno = ENAMETOOLONG; return -1; }
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

int gradc_npy_prepare(const GradcTensor *t, const char *path, char *temp, size_t room, GradcError *e) {
    char header[704];
    int kind = 0;
    *temp = 0;
    while (kind < KINDS && kinds[kind].dtype != t->dtype) kind++;
    if (kind == KINDS)
        return gradc_error(e, 603, "print it instead", "%s: NumPy files cannot hold %s", path,
                           gradc_dtype_name(t->dtype));
    size_t n = write_header(header, sizeof header, t, kind);
    if (!n) return gradc_error(e, 901, NULL, "%s: the header does not fit", path);
    int fd = open_beside(path, temp, room);
    if (fd < 0) {
        *temp = 0;
        return gradc_error(e, 106, NULL, "%s: %s", path, strerror(errno));
    }
    bool ok = write_all(fd, header, n) && write_all(fd, t->data, t->bytes) && !fsync(fd);
    int why = errno;
    if (close(fd) && ok) ok = false, why = errno;
    if (ok) return 0;
    unlink(temp);
    *temp = 0;
    return gradc_error(e, 106, NULL, "%s: %s", path, strerror(why));
}

bool gradc_npy_path(char *path, size_t room, const char *dir, const char *name) {
    int at = snprintf(path, room, "%s/", dir), n = snprintf(path, room, "%s/%s.npy", dir, name);
    if (at < 0 || n < 0 || (size_t)n >= room) return false;
    for (char *s = path + at; (s = strchr(s, '/'));) *s = '_';
    return true;
}

int gradc_npy_write(const GradcTensor *t, const char *path, GradcError *e) {
    char temp[4096];
    int status = gradc_npy_prepare(t, path, temp, sizeof temp, e);
    if (status || !rename(temp, path)) return status;
    int why = errno;
    unlink(temp);
    return gradc_error(e, 106, NULL, "%s: %s", path, strerror(why));
}
