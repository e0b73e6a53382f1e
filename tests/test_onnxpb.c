/* ONNX files as bytes: every damage is an error and never a crash; tensors of every dtype; external data
   stays below the model. With GRADC_DATA naming a directory of models and test data, all of it is read. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>
#include "onnx.h"

static char message[1024];
static Budget budget;

/* Runs body in a Ctx of its own; the code of the first error, 0 for none. */
static int attempt(void (*body)(Ctx *, void *), void *arg) {
    Ctx *c = gd_open(&budget);
    gd_enter(c, body, arg);
    int code = gd_error_count(c) ? gd_diag(c, 0)->code : 0;
    snprintf(message, sizeof message, "%s", code ? gd_diag(c, 0)->message : "");
    gd_close(c);
    return code;
}

typedef struct Bytes { const uint8_t *p; size_t n; } Bytes;
static void read_model(Ctx *c, void *arg) { pb_model(c, ((Bytes *)arg)->p, ((Bytes *)arg)->n); }
static int read_bytes(const void *p, size_t n) { return attempt(read_model, &(Bytes){p, n}); }

static const char *example(void) {
    static char path[4096];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 64, "../examples/fashion_cnn/fashion_cnn.onnx");
    return path;
}

/* The example, as bytes to damage. */
static uint8_t *example_bytes(size_t *n) {
    FILE *f = fopen(example(), "rb");
    assert_non_null(f);
    uint8_t *p = malloc(1 << 22);
    *n = fread(p, 1, 1 << 22, f);
    fclose(f);
    assert_true(*n > 1000 && *n < 1 << 22);
    return p;
}

/* ---- damaged files ---- */

static void cut_anywhere(void **state) {
    (void)state;
    size_t n;
    uint8_t *p = example_bytes(&n);
    assert_int_equal(read_bytes(p, n), 0);
    assert_true(pb_is_model(p, n));
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1); /* so that a tool sees a byte read past the end */
        memcpy(exact, p, cut);
        int code = read_bytes(exact, cut); /* 102: at a field's end before the graph; 0: at one behind it */
        if (code != 103 && code != 102 && !(code == 0 && n - cut < 16))
            fail_msg("cut at %zu: E%d %s", cut, code, message);
        assert_int_equal(pb_is_model(exact, cut), code == 0);
        free(exact);
    }
    free(p);
}

static void flipped_bits(void **state) {
    (void)state;
    size_t n;
    uint8_t *p = example_bytes(&n);
    for (size_t at = 0; at < n; at += at < 600 || at + 3000 > n ? 1 : 97)
        for (int bit = 0; bit < 8; bit++) {
            p[at] ^= (uint8_t)(1 << bit);
            int code = read_bytes(p, n);
            assert_true(code == 0 || code == 102 || code == 103 || code == 501);
            p[at] ^= (uint8_t)(1 << bit);
        }
    free(p);
}

static void garbage(void **state) {
    (void)state;
    uint8_t bytes[400];
    for (uint32_t seed = 0; seed < 20000; seed++) {
        for (uint32_t i = 0; i < sizeof bytes / 16; i++)
            gradc_philox((uint32_t[4]){i, seed, 0, 0}, (uint32_t[2]){1, 2},
                         (uint32_t *)(void *)(bytes + 16 * i));
        size_t n = seed % sizeof bytes;
        bytes[0] = 0x3a; /* the graph, so that it is not over at the first byte */
        bytes[1] = (uint8_t)(n > 2 ? (n - 2) & 127 : 0);
        int code = read_bytes(bytes, n);
        assert_true(code == 0 || code == 102 || code == 103);
    }
}

static const struct { const char *bytes; size_t n; int code; const char *message;
} broken[] = {
    {"", 0, 102, "there is no graph in it"},
    {"\x08\x07", 2, 102, "there is no graph in it"},
    {"\x3a\x00", 2, 0, ""},
    {"\x3a", 1, 103, "byte 1, in graph: a length is cut off"},
    {"\x3a\x05", 2, 103, "byte 2, in graph: a length reaches past the end of its message"},
    {"\x3a\x00\x3a\x00", 4, 103, "byte 4, in graph: a field that may stand once stands twice"},
    {"\x3a\xff\xff\xff\xff\x0f", 6, 103, "byte 6, in graph: a length reaches past the end of its message"},
    {"\x00", 1, 103, "byte 1, in ModelProto: a field has an impossible number"},
    {"\xff\xff\xff\xff\xff\xff", 6, 103, "byte 5, in ModelProto: a tag is cut off"},
    {"\x0a\x00", 2, 103, "byte 2, in ir_version: a field has the wrong wire type"},
    {"\x38\x01", 2, 103, "byte 1, in graph: a field has the wrong wire type"},
    {"\x0b\x0c", 2, 103, "byte 1, in ir_version: a field has the wrong wire type"},
    {"\xf3\x07\xf4\x07", 4, 103, "byte 2, in ModelProto: a field has an unknown wire type"},
    {"\x3a\x04\x12\x02"
     "a\0",
     6, 103, "byte 4, in graph.name: a name has a zero byte"},
    {"\x3a\x05\x2a\x03\x22\x01\x00", 7, 103,
     "byte 6, in graph.initializer.float_data: a list of numbers ends within a number"},
    {"\x3a\x05\x2a\x03\x0a\x01\x80", 7, 103,
     "byte 7, in graph.initializer.dims: a list of numbers ends within a number"},
    {"\xf8\x07\x05\x3a\x00", 5, 0, ""}, /* a field nobody knows */
};

static void broken_wires(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        int code = read_bytes(broken[i].bytes, broken[i].n);
        assert_string_equal(message, broken[i].message);
        assert_int_equal(code, broken[i].code);
    }
}

/* Messages within messages, the innermost one empty: field[i % 3] holds the next. */
static size_t nest(uint8_t *end, int depth, const uint8_t *tags, int ntags) {
    uint8_t *p = end;
    for (int i = depth - 1; i >= 0; i--) {
        size_t n = (size_t)(end - p);
        uint8_t head[8] = {tags[i % ntags]}, *h = head + 1;
        for (; n > 127; n >>= 7) *h++ = (uint8_t)(n | 128);
        *h++ = (uint8_t)n;
        p -= h - head;
        memcpy(p, head, (size_t)(h - head));
    }
    return (size_t)(end - p);
}

static void deep_nesting(void **state) {
    (void)state;
    size_t room = 1 << 20, n;
    uint8_t *p = malloc(room);
    const uint8_t graphs[] = {0x0a, 0x2a, 0x32}; /* node, attribute, g */
    for (int depth = 10; depth < 150000; depth *= 4) {
        n = nest(p + room - 8, depth, graphs, 3);
        uint8_t head[6] = {0x3a}, *h = head + 1; /* the model's graph */
        for (size_t k = n; ; k >>= 7) { *h++ = (uint8_t)(k > 127 ? k | 128 : k); if (k < 128) break; }
        memcpy(p + room - 8 - n - (size_t)(h - head), head, (size_t)(h - head));
        n += (size_t)(h - head);
        assert_int_equal(read_bytes(p + room - 8 - n, n), depth < 98 ? 0 : 504);
    }
    free(p);
}

static void limits(void **state) {
    (void)state;
    uint8_t nodes[64] = {0x3a, 62};
    for (int i = 2; i < 64; i += 2) nodes[i] = 0x0a, nodes[i + 1] = 0;
    budget.max_nodes = 31;
    assert_int_equal(read_bytes(nodes, 64), 0);
    budget.max_nodes = 30;
    assert_int_equal(read_bytes(nodes, 64), 502);
    budget = (Budget){.max_bytes = 4096};
    assert_int_equal(read_bytes(nodes, 64), 501);
    budget = (Budget){0};
}

/* ---- tensors ---- */

typedef struct Want { PbTensor t; PbSource *s; const char *path; int code; const char *text; } Want;

static void read_tensor(Ctx *c, void *arg) {
    Want *w = arg;
    GradcTensor t;
    PbSource *s = pb_source(c, w->path);
    bool ok = pb_tensor(s, &w->t, "t", &t);
    assert_int_equal(ok, !gd_error_count(c));
    assert_int_equal(s->fd, -1);
    if (!ok) { assert_null(t.data); return; }
    assert_int_equal((uintptr_t)t.data % GRADC_ALIGN, 0);
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    gradc_tensor_print(f, "t", &t, 100);
    fclose(f);
    snprintf(message, sizeof message, "%s", text);
    free(text);
}

static void check_tensor(Want *w) {
    char text[sizeof message];
    int code = attempt(read_tensor, w);
    if (!code) { /* attempt has cleared it */
        Ctx *c = gd_open(NULL);
        gd_enter(c, read_tensor, w);
        gd_close(c);
    }
    snprintf(text, sizeof text, "%s", message);
    assert_string_equal(text, w->text);
    assert_int_equal(code, w->code);
}

static PbTensor raw(int type, size_t rank, const int64_t *dims, const void *bytes, size_t n) {
    PbTensor t;
    onnx__tensor_proto__init(&t);
    t.has_data_type = t.has_raw_data = true;
    t.data_type = type;
    t.n_dims = rank;
    t.dims = (int64_t *)dims;
    t.raw_data = (ProtobufCBinaryData){n, (uint8_t *)bytes};
    return t;
}

static const int64_t one[] = {1}, two[] = {2}, three[] = {3}, five[] = {5}, empty[] = {2, 0}, minus[] = {-1},
                     many[17] = {0}, huge[] = {INT64_MAX / 2, 3}, big[] = {1 << 30, 1 << 30};

static void raw_tensors(void **state) {
    (void)state;
    const struct {
        int type;
        size_t rank;
        const int64_t *dims;
        const char *bytes;
        size_t n;
        int code;
        const char *text;
    } rows[] = {
        {1, 1, one, "\0\0\x80\x3f", 4, 0, "t f32[1] = [1]\n"},
        {1, 0, NULL, "\0\0\x80\x3f", 4, 0, "t f32[] = 1\n"},
        {1, 2, empty, "", 0, 0, "t f32[2,0] = []\n"},
        {2, 1, two, "\x01\xff", 2, 0, "t u8[2] = [1, 255]\n"},
        {3, 1, two, "\x01\xff", 2, 0, "t i8[2] = [1, -1]\n"},
        {5, 1, one, "\xfe\xff", 2, 0, "t i16[1] = [-2]\n"},
        {7, 1, one, "\x02\0\0\0\0\0\0\x80", 8, 0, "t i64[1] = [-9223372036854775806]\n"},
        {9, 1, three, "\x00\x01\x02", 3, 0, "t bool[3] = [false, true, true]\n"},
        {10, 1, one, "\x00\x3c", 2, 0, "t f16[1] = [1]\n"},
        {16, 1, one, "\x80\x3f", 2, 0, "t bf16[1] = [1]\n"},
        {14, 1, one, "\0\0\x80\x3f\0\0\0\x40", 8, 0, "t c64[1] = [1+2j]\n"},
        {17, 1, two, "\x38\x7f", 2, 0, "t f8e4m3fn[2] = [1, nan]\n"},
        {24, 1, one, "\x80", 1, 0, "t f8e8m0[1] = [2]\n"},
        {22, 1, three, "\x8f\x07", 2, 0, "t i4[3] = [-1, -8, 7]\n"},
        {21, 1, three, "\x8f\x07", 2, 0, "t u4[3] = [15, 8, 7]\n"},
        {23, 1, three, "\x92\x07", 2, 0, "t f4e2m1[3] = [1, -0.5, 6]\n"},
        {26, 1, five, "\xe4\x02", 2, 0, "t i2[5] = [0, 1, -2, -1, -2]\n"},
        {25, 1, five, "\xe4\x02", 2, 0, "t u2[5] = [0, 1, 2, 3, 2]\n"},
        {1, 1, two, "\0\0\x80\x3f", 4, 206, "t: 4 bytes of data where f32[2] has 8"},
        {22, 1, three, "\x8f\x07\x00", 3, 206, "t: 3 bytes of data where i4[3] has 2"},
        {1, 1, minus, "", 0, 206, "t: dim 0 is negative (-1)"},
        {1, 2, huge, "", 0, 505, "t: a shape of more elements than this machine can address"},
        {1, 2, big, "", 0, 206,
         "t: 0 bytes of data where f32[1073741824,1073741824] has 4611686018427387904"},
        {1, 17, many, "", 0, 505, "t: rank 17: at most 16 axes are supported"},
        {0, 1, one, "", 0, 207, "t: data_type 0 is not one of ONNX's"},
        {99, 1, one, "", 0, 207, "t: data_type 99 is not one of ONNX's"},
        {8, 1, one, "a", 1, 206, "t: strings cannot be raw bytes"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char bytes[16];
        memcpy(bytes, rows[i].bytes, rows[i].n); /* may be normalised in place */
        Want w = {.t = raw(rows[i].type, rows[i].rank, rows[i].dims, bytes, rows[i].n),
                  .code = rows[i].code,
                  .text = rows[i].text};
        check_tensor(&w);
    }
}

static void listed_tensors(void **state) {
    (void)state;
    float floats[] = {1, 2};
    double doubles[] = {1, 2};
    int32_t ints[] = {1, -2, 0x3c00, 0x81, 300};
    int64_t longs[] = {1, 2};
    uint64_t natural[] = {1, UINT32_MAX, UINT64_MAX};
    ProtobufCBinaryData strings[] = {{2, (uint8_t *)"ab"}, {0, NULL}, {2, (uint8_t *)"a\0"}};
    const struct {
        int type;
        const int64_t *dims;
        size_t f, d, i, first, l, u, s;
        int code;
        const char *text;
    } rows[] = {
        {.type = 1, .dims = two, .f = 2, .text = "t f32[2] = [1, 2]\n"},
        {.type = 14, .dims = one, .f = 2, .text = "t c64[1] = [1+2j]\n"},
        {.type = 11, .dims = two, .d = 2, .text = "t f64[2] = [1, 2]\n"},
        {.type = 15, .dims = one, .d = 2, .text = "t c128[1] = [1+2j]\n"},
        {.type = 7, .dims = two, .l = 2, .text = "t i64[2] = [1, 2]\n"},
        {.type = 12, .dims = two, .u = 2, .text = "t u32[2] = [1, 4294967295]\n"},
        {.type = 13, .dims = three, .u = 3, .text = "t u64[3] = [1, 4294967295, 18446744073709551615]\n"},
        {.type = 6, .dims = two, .i = 2, .text = "t i32[2] = [1, -2]\n"},
        {.type = 5, .dims = two, .i = 2, .text = "t i16[2] = [1, -2]\n"},
        {.type = 3, .dims = two, .i = 2, .text = "t i8[2] = [1, -2]\n"},
        {.type = 9, .dims = two, .i = 2, .text = "t bool[2] = [true, true]\n"},
        {.type = 10, .dims = one, .i = 1, .first = 2, .text = "t f16[1] = [1]\n"},
        {.type = 22, .dims = two, .i = 1, .first = 3, .text = "t i4[2] = [1, -8]\n"},
        {.type = 8, .dims = two, .s = 2, .text = "t string[2] = [\"ab\", \"\"]\n"},
        {.type = 2, .dims = two, .i = 2, .code = 206, .text = "t: number 1, -2, does not fit in u8"},
        {.type = 3,
         .dims = one,
         .i = 1,
         .first = 4,
         .code = 206,
         .text = "t: number 0, 300, does not fit in i8"},
        {.type = 21,
         .dims = two,
         .i = 1,
         .first = 4,
         .code = 206,
         .text = "t: number 0, 300, does not fit in u4"},
        {.type = 10,
         .dims = one,
         .i = 1,
         .first = 1,
         .code = 206,
         .text = "t: number 0, -2, does not fit in f16"},
        {.type = 12, .dims = three, .u = 3, .code = 206, .text = "t: number 2 does not fit in u32"},
        {.type = 8, .dims = three, .s = 3, .code = 402, .text = "t: string 2 has a zero byte"},
        {.type = 1, .dims = two, .l = 2, .code = 206, .text = "t: 0 numbers of data where f32[2] has 2"},
        {.type = 1, .dims = one, .code = 206, .text = "t: 0 numbers of data where f32[1] has 1"},
        {.type = 1, .dims = one, .f = 2, .code = 206, .text = "t: 2 numbers of data where f32[1] has 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Want w = {
            .t = raw(rows[i].type, 1, rows[i].dims, NULL, 0), .code = rows[i].code, .text = rows[i].text};
        w.t.has_raw_data = false;
        w.t.n_float_data = rows[i].f, w.t.float_data = floats;
        w.t.n_double_data = rows[i].d, w.t.double_data = doubles;
        w.t.n_int32_data = rows[i].i, w.t.int32_data = ints + rows[i].first;
        w.t.n_int64_data = rows[i].l, w.t.int64_data = longs;
        w.t.n_uint64_data = rows[i].u, w.t.uint64_data = natural;
        w.t.n_string_data = rows[i].s, w.t.string_data = strings;
        check_tensor(&w);
    }
    Want twice = {.t = raw(1, 1, one, "abcd", 4),
                  .code = 206,
                  .text = "t: data is given twice, as raw_data and as numbers"};
    twice.t.n_float_data = 1, twice.t.float_data = floats;
    check_tensor(&twice);
    Onnx__TensorProto__Segment segment = ONNX__TENSOR_PROTO__SEGMENT__INIT;
    Want chunk = {.t = raw(1, 1, one, "abcd", 4),
                  .code = 402,
                  .text = "t: tensors stored in segments are not supported"};
    chunk.t.segment = &segment;
    check_tensor(&chunk);
}

/* ---- sparse tensors ---- */

typedef struct Sparse { PbSparse s; const char *text; int code; } Sparse;

static void read_sparse(Ctx *c, void *arg) {
    GradcTensor t;
    if (!pb_sparse(pb_source(c, NULL), &((Sparse *)arg)->s, "t", &t)) return;
    assert_int_equal(t.bytes, 24);
    assert_memory_equal(t.data, ((float[]){0, 1, 0, 0, 0, 2}), 24);
}

static void sparse_tensors(void **state) {
    (void)state;
    float v[] = {1, 2};
    int64_t linear[] = {1, 5}, coordinates[] = {0, 1, 1, 2}, two_two[] = {2, 2}, shape[] = {2, 3},
            wide[] = {1 << 20, 1 << 20};
    int64_t outside[] = {1, 6}, unsorted[] = {5, 1};
    PbTensor values = raw(1, 1, two, v, 8), index = raw(7, 1, two, linear, 16);
    Sparse s = {.s = ONNX__SPARSE_TENSOR_PROTO__INIT};
    s.s.values = &values, s.s.indices = &index, s.s.n_dims = 2, s.s.dims = shape;
    assert_int_equal(attempt(read_sparse, &s), 0);
    index = raw(7, 2, two_two, coordinates, 32);
    assert_int_equal(attempt(read_sparse, &s), 0);
    index = raw(7, 1, two, outside, 16);
    assert_int_equal(attempt(read_sparse, &s), 206);
    assert_string_equal(message, "t: sparse index 1 is outside the shape");
    index = raw(7, 1, two, unsorted, 16);
    assert_int_equal(attempt(read_sparse, &s), 206);
    assert_string_equal(message, "t: sparse index 1 is out of order");
    index = raw(6, 1, two, linear, 8);
    assert_int_equal(attempt(read_sparse, &s), 206);
    index = raw(7, 1, two, linear, 16);
    s.s.dims = wide;
    assert_int_equal(attempt(read_sparse, &s), 501);
    s.s.values = NULL;
    assert_int_equal(attempt(read_sparse, &s), 206);
}

/* ---- external data ---- */

static void put_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void external_data(void **state) {
    (void)state;
    mkdir("external-test", 0777);
    mkdir("external-test/sub", 0777);
    put_file("external-test/w.bin", "\0\0\x80\x3f\0\0\0\x40", 8);
    put_file("external-test/sub/w.bin", "\0\0\x80\x3f", 4);
    put_file("external-secret.bin", "\0\0\x80\x3f", 4);
    assert_int_equal(symlink("../external-secret.bin", "external-test/link.bin"), 0);
    assert_int_equal(symlink("sub", "external-test/linked"), 0);
    assert_int_equal(mkfifo("external-test/fifo", 0666), 0);
    char longest[600];
    memset(longest, 'a', sizeof longest);
    longest[sizeof longest - 1] = 0;
    const struct { const char *location, *offset, *length, *path; int code; const char *text;
    } rows[] = {
        {"w.bin", NULL, NULL, "external-test/m.onnx", 0, "t f32[1] = [1]\n"},
        {"w.bin", "4", "4", "external-test/m.onnx", 0, "t f32[1] = [2]\n"},
        {"./sub//w.bin", "0", NULL, "external-test/m.onnx", 0, "t f32[1] = [1]\n"},
        {"external-secret.bin", NULL, NULL, "m.onnx", 0, "t f32[1] = [1]\n"},
        {"w.bin", "5", NULL, "external-test/m.onnx", 105,
         "t: external data \"w.bin\" has 8 bytes; 4 from 5 on are wanted"},
        {"w.bin", "18446744073709551615", NULL, "external-test/m.onnx", 105,
         "t: external data \"w.bin\" has 8 bytes; 4 from 18446744073709551615 on are wanted"},
        {"w.bin", "18446744073709551616", NULL, "external-test/m.onnx", 105,
         "t: external data: offset \"18446744073709551616\" is not a number of bytes"},
        {"w.bin", "-4", NULL, "external-test/m.onnx", 105,
         "t: external data: offset \"-4\" is not a number of bytes"},
        {"w.bin", NULL, "8", "external-test/m.onnx", 206, "t: 8 bytes of data where f32[1] has 4"},
        {"../external-secret.bin", NULL, NULL, "external-test/m.onnx", 105,
         "t: external data \"../external-secret.bin\": leaves the model's directory"},
        {"sub/../w.bin", NULL, NULL, "external-test/m.onnx", 105,
         "t: external data \"sub/../w.bin\": leaves the model's directory"},
        {"/etc/passwd", NULL, NULL, "external-test/m.onnx", 105,
         "t: external data \"/etc/passwd\": not a relative path"},
        {"", NULL, NULL, "external-test/m.onnx", 105, "t: external data \"\": not a relative path"},
        {"link.bin", NULL, NULL, "external-test/m.onnx", 105, "t: external data \"link.bin\": it is a link"},
        {"linked/w.bin", NULL, NULL, "external-test/m.onnx", 105,
         "t: external data \"linked/w.bin\": Not a directory"},
        {"sub", NULL, NULL, "external-test/m.onnx", 105, "t: external data \"sub\": not a regular file"},
        {"sub/", NULL, NULL, "external-test/m.onnx", 105, "t: external data \"sub/\": not a regular file"},
        {".", NULL, NULL, "external-test/m.onnx", 105, "t: external data \".\": not a regular file"},
        {"fifo", NULL, NULL, "external-test/m.onnx", 105, "t: external data \"fifo\": not a regular file"},
        {"missing\n", NULL, NULL, "external-test/m.onnx", 105,
         "t: external data \"missing\\x0a\": No such file or directory"},
        {"w.bin", NULL, NULL, NULL, 105,
         "t: external data \"w.bin\": a model that is not a file has no directory"},
        {NULL, NULL, NULL, "external-test/m.onnx", 105, "t: external data has no location"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PbEntry e[3], *list[3] = {&e[0], &e[1], &e[2]};
        const char *values[] = {rows[i].location, rows[i].offset, rows[i].length},
                   *keys[] = {"location", "offset", "length"};
        Want w = {
            .t = raw(1, 1, one, NULL, 0), .path = rows[i].path, .code = rows[i].code, .text = rows[i].text};
        w.t.has_data_location = true;
        w.t.data_location = 1;
        w.t.external_data = list;
        for (int k = 0; k < 3; k++) {
            if (!values[k]) continue;
            PbEntry *to = list[w.t.n_external_data++];
            onnx__string_string_entry_proto__init(to);
            to->key = (char *)keys[k];
            to->value = (char *)values[k];
        }
        check_tensor(&w);
    }
    unlink("external-test/fifo");
    unlink("external-test/linked");
    unlink("external-test/link.bin");
    unlink("external-test/w.bin");
    unlink("external-test/sub/w.bin");
    unlink("external-secret.bin");
    rmdir("external-test/sub");
    assert_int_equal(rmdir("external-test"), 0);
}

/* ---- values in files ---- */

typedef struct ValueFile { const char *path; ValueKind kind; int n, inner; } ValueFile;

static void read_value(Ctx *c, void *arg) {
    ValueFile *f = arg;
    PbValue v;
    pb_value_file(c, f->path, f->kind, &v);
    f->n = v.kind == VK_TENSOR ? (int)gradc_tensor_count(&v.tensor) : v.n;
    f->inner = v.n ? (int)v.item[0].kind : 0;
}

static void put_message(const char *path, const ProtobufCMessage *m) {
    uint8_t bytes[512];
    size_t n = protobuf_c_message_get_packed_size(m);
    assert_true(n <= sizeof bytes);
    protobuf_c_message_pack(m, bytes);
    put_file(path, bytes, n);
}

static void values_in_files(void **state) {
    (void)state;
    const char *path = "value-test.pb";
    PbTensor t = raw(1, 1, two, "\0\0\x80\x3f\0\0\0\x40", 8), *list[] = {&t, &t, &t};
    Onnx__SequenceProto q = ONNX__SEQUENCE_PROTO__INIT, *qs[] = {&q};
    Onnx__OptionalProto o = ONNX__OPTIONAL_PROTO__INIT;
    GradcTensor v;
    GradcError e;
    put_message(path, &t.base);
    ValueFile f = {path, VK_TENSOR, 0, 0};
    assert_int_equal(attempt(read_value, &f), 0);
    assert_int_equal(f.n, 2);
    assert_int_equal(pb_read_value(&v, path, GRADC_F32, &e), 0);
    assert_true(v.owned && ((float *)v.data)[1] == 2);
    gradc_tensor_free(&v);
    q.n_tensor_values = 3, q.tensor_values = list, q.has_elem_type = true, q.elem_type = VK_TENSOR;
    put_message(path, &q.base);
    f.kind = VK_SEQUENCE;
    assert_int_equal(attempt(read_value, &f), 0);
    assert_int_equal(f.n, 3);
    assert_int_equal(f.inner, VK_TENSOR);
    Onnx__SequenceProto nested = ONNX__SEQUENCE_PROTO__INIT;
    nested.n_sequence_values = 1, nested.sequence_values = qs;
    put_message(path, &nested.base);
    assert_int_equal(attempt(read_value, &f), 0);
    assert_int_equal(f.inner, VK_SEQUENCE);
    q.elem_type = VK_MAP;
    put_message(path, &q.base);
    assert_int_equal(attempt(read_value, &f), 402);
    f.kind = VK_OPTIONAL;
    put_message(path, &o.base);
    assert_int_equal(attempt(read_value, &f), 0);
    assert_int_equal(f.n, 0);
    o.tensor_value = &t;
    put_message(path, &o.base);
    assert_int_equal(attempt(read_value, &f), 0);
    assert_int_equal(f.n, 1);
    put_file(path, "\x3a\x05", 2);
    assert_int_equal(pb_read_value(&v, path, GRADC_F32, &e), 1);
    assert_int_equal(e.code, 103);
    assert_null(v.data);
    unlink(path);
    assert_int_equal(pb_read_value(&v, path, GRADC_F32, &e), 5);
    assert_int_equal(pb_read_value(&v, "value-test.npy", GRADC_F32, &e), 5);
}

/* ---- real files ---- */

static int models, tensors, values;

static void visit_graph(PbSource *s, PbGraph *g);

static void visit_nodes(PbSource *s, PbNode *const *node, size_t n) {
    GradcTensor t;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < node[i]->n_attribute; k++) {
            PbAttr *a = node[i]->attribute[k];
            assert_true(*a->ref_attr_name || pb_attr_type(a) != PA_UNDEFINED);
            if (a->g) visit_graph(s, a->g);
            if (a->t) tensors += pb_tensor(s, a->t, a->name, &t);
            if (a->sparse_tensor) tensors += pb_sparse(s, a->sparse_tensor, a->name, &t);
        }
}

static void visit_graph(PbSource *s, PbGraph *g) {
    GradcTensor t;
    for (size_t i = 0; i < g->n_initializer; i++)
        tensors += pb_tensor(s, g->initializer[i], g->initializer[i]->name, &t);
    visit_nodes(s, g->node, g->n_node);
}

static void visit_values(Ctx *c, const char *dir, const char *stem, PbValueInfo *const *v, size_t n) {
    for (int set = 0;; set++) {
        if (access(gd_format(c, "%s/test_data_set_%d", dir, set), F_OK)) return;
        for (size_t i = 0; i < n; i++) {
            const PbType *t = v[i]->type;
            const char *path = gd_format(c, "%s/test_data_set_%d/%s_%zu.pb", dir, set, stem, i);
            PbValue value;
            if (access(path, F_OK)) continue;
            pb_value_file(c, path,
                          t->sequence_type   ? VK_SEQUENCE
                          : t->optional_type ? VK_OPTIONAL
                                             : VK_TENSOR,
                          &value);
            values++;
        }
    }
}

static void visit_model(Ctx *c, void *arg) {
    const char *path = arg;
    PbModel *m = pb_model_file(c, path);
    PbSource *s = pb_source(c, path);
    visit_graph(s, m->graph);
    for (size_t i = 0; i < m->n_functions; i++)
        visit_nodes(s, m->functions[i]->node, m->functions[i]->n_node);
    visit_values(c, s->dir, "input", m->graph->input, m->graph->n_input);
    visit_values(c, s->dir, "output", m->graph->output, m->graph->n_output);
    models++;
}

static int each_file(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)ftw;
    size_t n = strlen(path);
    if (type != FTW_F || n < 5 || strcmp(path + n - 5, ".onnx")) return 0;
    int code = attempt(visit_model, (void *)path);
    if (code) fail_msg("%s: E%d %s", path, code, message);
    return 0;
}

static void real_files(void **state) {
    (void)state;
    int code = attempt(visit_model, (void *)example());
    if (code) fail_msg("E%d %s", code, message);
    const char *data = getenv("GRADC_DATA");
    if (!data || !*data) return;
    nftw(data, each_file, 20, FTW_PHYS);
    print_message("%d models, %d tensors in them, %d values beside them\n", models, tensors, values);
    assert_true(models > 1);
}

/* The tests' files go into a directory of their own, which must be empty again at the end. */
static char work[4096];
static int enter_directory(void **state) {
    (void)state;
    snprintf(work, sizeof work, "%s/gradc-test-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : P_tmpdir);
    return !mkdtemp(work) || chdir(work);
}
static int leave_directory(void **state) {
    (void)state;
    return chdir("/") || rmdir(work);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere), cmocka_unit_test(flipped_bits), cmocka_unit_test(garbage),
        cmocka_unit_test(broken_wires), cmocka_unit_test(deep_nesting), cmocka_unit_test(limits),
        cmocka_unit_test(raw_tensors), cmocka_unit_test(listed_tensors), cmocka_unit_test(sparse_tensors),
        cmocka_unit_test(external_data), cmocka_unit_test(values_in_files), cmocka_unit_test(real_files),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
