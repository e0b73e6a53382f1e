/* Data sets, the order of records, batches gathered ahead: on small files made here, and on real ones where
   GRADC_DATA names them. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>
#include <zlib.h>
#include "data.h"
#include "scratch.h"
#include "shuffle.h"

static GradcError err;

static void put_text(const char *name, const char *text) { put(name, text, strlen(text)); }

static void put_gz(const char *name, const void *bytes, size_t n) {
    gzFile z = gzopen(at(name), "wb");
    assert_int_equal(gzwrite(z, bytes, (unsigned)n), n);
    gzclose(z);
}

static char *spec(const char *fmt, ...) {
    static char text[400], format[300];
    va_list ap;
    const char *d = strchr(fmt, '@'); /* stands for the directory */
    snprintf(format, sizeof format, "%.*s%s%s", (int)(d - fmt), fmt, dir, d + 1);
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return text;
}

static GradcData *open_data(const char *s) {
    GradcData *d;
    int status = gradc_data_open(&d, s, &err);
    if (status) fail_msg("%s: %s", s, err.text);
    return d;
}

/* Opening fails with this code, and the message has this text. */
static void refused(const char *s, int code, const char *text) {
    GradcData *d;
    assert_int_not_equal(gradc_data_open(&d, s, &err), 0);
    assert_null(d);
    if (err.code != code || !strstr(err.text, text))
        fail_msg("%s: E%d %s (not E%d '%s')", s, err.code, err.text, code, text);
}

static GradcTensor tensor(int dtype, int rank, ...) {
    GradcTensor t;
    int64_t dims[GRADC_MAX_RANK];
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++) dims[i] = va_arg(ap, int);
    va_end(ap);
    assert_int_equal(gradc_tensor_new(&t, dtype, rank, dims, &err), 0);
    memset(t.data, 0xa5, t.bytes);
    return t;
}

static void fill(GradcData *d, const char *field, const int64_t *records, int64_t n, GradcTensor *t,
                 int axis) {
    if (gradc_data_fill(d, gradc_data_find(d, field), records, n, t, axis, &err)) fail_msg("%s", err.text);
}

/* ---- idx ---- */

/* Three pictures of 2x2 and their labels. */
static const unsigned char pictures[] = {0, 0, 8, 3,  0,   0,   0, 3, 0, 0, 0, 2, 0, 0,
                                         0, 2, 0, 51, 102, 255, 1, 2, 3, 4, 5, 6, 7, 8};
static const unsigned char labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1};

static void put_idx(void) {
    put("train-images-idx3-ubyte", pictures, sizeof pictures);
    put("train-labels-idx1-ubyte", labels, sizeof labels);
}

static void idx_fills(void **state) {
    (void)state;
    put_idx();
    GradcData *d = open_data(spec("idx:@"));
    assert_int_equal(gradc_data_count(d), 3);
    assert_int_equal(gradc_data_fields(d), 2);
    assert_int_equal(gradc_data_field(d, 1)->classes, 3);
    const int64_t order[] = {2, 0};
    GradcTensor x = tensor(GRADC_F32, 4, 2, 1, 2, 2), flat = tensor(GRADC_F64, 2, 2, 4),
                same = tensor(GRADC_U8, 3, 2, 2, 2);
    fill(d, "x", order, 2, &x, 0);
    const float want[] = {5 / 255.f, 6 / 255.f, 7 / 255.f, 8 / 255.f, 0, 51 / 255.f, 102 / 255.f, 1};
    assert_memory_equal(x.data, want, sizeof want);
    fill(d, "x", order, 2, &flat, 0);
    assert_true(((double *)flat.data)[0] == 5 / 255. && ((double *)flat.data)[7] == 1);
    fill(d, "x", order, 2, &same, 0);
    assert_memory_equal(same.data, "\x05\x06\x07\x08\0\x33\x66\xff", 8);
    GradcTensor y = tensor(GRADC_I64, 1, 2), hot = tensor(GRADC_F32, 2, 2, 10),
                column = tensor(GRADC_F32, 2, 2, 1);
    fill(d, "y", order, 2, &y, 0);
    assert_true(((int64_t *)y.data)[0] == 1 && ((int64_t *)y.data)[1] == 2);
    fill(d, "y", order, 2, &hot, 0);
    for (int i = 0; i < 20; i++) assert_true(((float *)hot.data)[i] == (i == 1 || i == 12));
    fill(d, "y", order, 2, &column, 0);
    assert_true(((float *)column.data)[0] == 1 && ((float *)column.data)[1] == 2);
    /* the batch along the second axis */
    GradcTensor second = tensor(GRADC_F32, 3, 2, 2, 2);
    fill(d, "x", order, 2, &second, 1);
    const float turned[] = {5 / 255.f, 6 / 255.f, 0, 51 / 255.f, 7 / 255.f, 8 / 255.f, 102 / 255.f, 1};
    assert_memory_equal(second.data, turned, sizeof turned);
    const int64_t narrow[] = {2, 2}, odd[] = {2, 5};
    assert_int_equal(gradc_data_fits(d, 1, GRADC_F32, 2, narrow, 0, &err), 1);
    assert_int_equal(gradc_data_fits(d, 0, GRADC_F32, 2, odd, 0, &err), 1);
    assert_non_null(strstr(err.text, "u8[2,2]"));
    assert_int_equal(gradc_data_limit(d, 1, 3, 0, &err), 0);
    assert_int_equal(gradc_data_limit(d, 1, 2, 0, &err), 1);
    assert_non_null(
        strstr(err.text, "train-labels-idx1-ubyte: record 0 (byte 8): label 2 of y is not in 0..1"));
    GradcTensor *all[] = {&x, &flat, &same, &y, &hot, &column, &second};
    for (int i = 0; i < 7; i++) gradc_tensor_free(all[i]);
    gradc_data_close(d);
}

static void idx_packed(void **state) {
    (void)state;
    unlink(at("train-images-idx3-ubyte"));
    unlink(at("train-labels-idx1-ubyte"));
    put_gz("t10k-images-idx3-ubyte.gz", pictures, sizeof pictures);
    put_gz("t10k-labels-idx1-ubyte", labels, sizeof labels); /* gzip by content, whatever its name says */
    GradcData *d = open_data(spec("idx:@,test,scale=2,mean=1,std=0.5"));
    GradcTensor x = tensor(GRADC_F32, 2, 1, 4);
    fill(d, "x", (int64_t[]){1}, 1, &x, 0);
    assert_memory_equal(x.data, ((float[]){2, 6, 10, 14}), 16);
    gradc_tensor_free(&x);
    gradc_data_close(d);
    refused(spec("idx:@"), 101, "train-images");
    /* cut off in the stream */
    struct stat st;
    assert_int_equal(stat(at("t10k-images-idx3-ubyte.gz"), &st), 0);
    assert_int_equal(truncate(at("t10k-images-idx3-ubyte.gz"), st.st_size / 2), 0);
    refused(spec("idx:@,test"), 103, "cut off");
    unlink(at("t10k-images-idx3-ubyte.gz"));
    unlink(at("t10k-labels-idx1-ubyte"));
}

static void idx_hostile(void **state) {
    (void)state;
    unsigned char bad[sizeof pictures + 1] = {0};
    put_idx();
    for (size_t n = 1; n < sizeof pictures; n++) { /* every truncation */
        put("train-images-idx3-ubyte", pictures, n);
        refused(spec("idx:@"), 103, "truncated");
    }
    put("train-images-idx3-ubyte", pictures, 25);
    refused(spec("idx:@"), 103, "truncated in record 2 (byte 25)");
    put("train-images-idx3-ubyte", "", 0);
    refused(spec("idx:@"), 103, "empty");
    memcpy(bad, pictures, sizeof pictures);
    put("train-images-idx3-ubyte", bad, sizeof bad); /* one byte more */
    refused(spec("idx:@"), 103, "goes on to byte 29");
    bad[2] = 7;
    put("train-images-idx3-ubyte", bad, sizeof pictures);
    refused(spec("idx:@"), 103, "wrong magic number 00000703 (byte 0)");
    memset(bad + 4, 0xff, 12), bad[2] = 0x0e; /* sizes that lie: 2^96 doubles */
    put("train-images-idx3-ubyte", bad, sizeof pictures);
    refused(spec("idx:@"), 103, "more than any file has");
    memcpy(bad, pictures, sizeof pictures);
    bad[4] = 0x10; /* 2^28 records */
    put("train-images-idx3-ubyte", bad, sizeof pictures);
    refused(spec("idx:@"), 103, "truncated in record 3");
    put_idx();
    refused(spec("idx:@,classes=2"), 303,
            "train-labels-idx1-ubyte: record 0 (byte 8): label 2 of y is not in 0..1");
    put("train-labels-idx1-ubyte", "\0\0\x08\x01\0\0\0\x02\0\1", 10);
    refused(spec("idx:@"), 103, "has 3 records");
    put_idx();
    refused(spec("idx:@,color=1"), 601, "no option color");
    refused(spec("idx:@,scale=x"), 601, "scale");
    refused(spec("idx:@,mean=1:2:3"), 601, "1 channels");
    refused("idx", 601, "not a data set");
    refused("jpeg:.", 601, "no kind of data is named jpeg");
    refused("idx:/nowhere", 101, "/nowhere");
}

static void changes_are_seen(void **state) {
    (void)state;
    put_idx();
    GradcData *d = open_data(spec("idx:@"));
    assert_int_equal(gradc_data_unchanged(d, &err), 0);
    put("train-labels-idx1-ubyte", labels, sizeof labels - 1);
    assert_int_equal(gradc_data_unchanged(d, &err), 5);
    assert_non_null(strstr(
        err.text, "train-labels-idx1-ubyte: the file changed since it was opened (11 bytes then, 10 now)"));
    unlink(at("train-labels-idx1-ubyte"));
    assert_int_equal(gradc_data_unchanged(d, &err), 5);
    gradc_data_close(d);
}

/* More than half of the memory is not read but mapped: where such a file becomes shorter, its pages are gone. */
static void shrinks_while_mapped(void **state) {
    (void)state;
    int64_t size = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2 + (1 << 20), record = size / 64;
    GradcData *d;
    GradcLoader *l;
    const GradcBatch *b;
    put("sparse", "", 1);
    if (truncate(at("sparse"), record * 64)) skip(); /* no file of holes */
    int status = gradc_data_open(&d, spec("raw:@/sparse,x=u8[1024],rest=u8[%lld]", (long long)record - 1024), &err);
    if (status) skip(); /* the address space is limited */
    GradcFeed feed = {0, GRADC_F32, 2, 0, {-1, 1024}};
    assert_true(gradc_data_mapped(d));
    assert_int_equal(gradc_loader_open(&l, d, &feed, 1, 1, &err), 0);
    assert_int_equal(gradc_loader_start(l, (int64_t[]){0}, 1, 0, &err), 0);
    assert_int_equal(gradc_loader_next(l, &b, &err), 0);
    assert_int_equal(b->n, 1);
    assert_int_equal(truncate(at("sparse"), 100), 0);
    assert_int_equal(gradc_loader_start(l, (int64_t[]){63, 1}, 2, 0, &err), 0);
    assert_int_equal(gradc_loader_next(l, &b, &err), 5);
    assert_non_null(strstr(err.text, "sparse: the file changed since it was opened"));
    gradc_loader_close(l);
    gradc_data_close(d);
    unlink(at("sparse"));
}

/* ---- CIFAR, raw ---- */

static void put_cifar(void) {
    static unsigned char records[2][3073];
    for (int b = 1; b <= 5; b++) {
        for (int r = 0; r < 2; r++) {
            records[r][0] = (unsigned char)((2 * (b - 1) + r) % 10);
            for (int i = 0; i < 3072; i++) records[r][1 + i] = (unsigned char)(i / 1024 * 100 + i % 7 + b);
        }
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", b);
        put(name, records, sizeof records);
    }
    put_text("batches.meta.txt", "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
}

static void cifar_turns(void **state) {
    (void)state;
    put_cifar();
    GradcData *d = open_data(spec("cifar:@,mean=0.5:0.25:0,std=1:1:2"));
    assert_int_equal(gradc_data_count(d), 10);
    assert_string_equal(gradc_data_class(d, 1, 9), "truck");
    assert_null(gradc_data_class(d, 1, 10));
    GradcTensor chw = tensor(GRADC_F32, 4, 1, 3, 32, 32), hwc = tensor(GRADC_F32, 4, 1, 32, 32, 3),
                u8 = tensor(GRADC_U8, 4, 1, 32, 32, 3);
    const int64_t last = 9;
    fill(d, "x", &last, 1, &chw, 0);
    fill(d, "x", &last, 1, &hwc, 0);
    fill(d, "x", &last, 1, &u8, 0);
    const double mean[] = {.5, .25, 0}, std[] = {1, 1, 2};
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < 1024; i++) {
            int v = c * 100 + (c * 1024 + i) % 7 + 5;
            float want = (float)((v / 255. - mean[c]) / std[c]), have = ((float *)chw.data)[c * 1024 + i];
            assert_true(fabsf(have - want) < 1e-6f);
            assert_true(have == ((float *)hwc.data)[i * 3 + c]);
            assert_int_equal(((unsigned char *)u8.data)[i * 3 + c], v);
        }
    gradc_data_close(d);
    /* handed out channels-last: flat batches too */
    d = open_data(spec("cifar:@,layout=nhwc,mean=0.5:0.25:0,std=1:1:2"));
    GradcTensor flat = tensor(GRADC_F32, 2, 1, 3072), back = tensor(GRADC_F32, 4, 1, 3, 32, 32);
    fill(d, "x", &last, 1, &flat, 0);
    assert_memory_equal(flat.data, hwc.data, hwc.bytes);
    fill(d, "x", &last, 1, &back, 0);
    assert_memory_equal(back.data, chw.data, chw.bytes);
    gradc_data_close(d);
    /* the same bytes as a raw file */
    d = open_data(spec(
        "raw:@/data_batch_5.bin,y=u8[],x=u8[3,32,32],scale=1/255,layout=nchw,mean=0.5:0.25:0,std=1:1:2"));
    fill(d, "x", (int64_t[]){1}, 1, &back, 0);
    assert_memory_equal(back.data, chw.data, chw.bytes);
    assert_int_equal(gradc_data_field(d, 0)->classes, 10);
    gradc_data_close(d);
    refused(spec("raw:@/data_batch_5.bin,y=u8[],x=u8[3,32,31]"), 103,
            "truncated in record 2 (byte 6146): records have 2977 bytes");
    refused(spec("raw:@/data_batch_5.bin,y=u8[],x=u8[3,32,32],classes=9"), 303,
            "data_batch_5.bin: record 1 (byte 3073): label 9");
    refused(spec("raw:@/data_batch_5.bin,y=u9[]"), 601, "y=u9[]");
    assert_int_equal(truncate(at("data_batch_3.bin"), 4000), 0);
    refused(spec("cifar:@"), 103, "data_batch_3.bin: truncated in record 1 (byte 4000)");
    unsigned char bad = 10;
    put_cifar();
    FILE *f = fopen(at("data_batch_2.bin"), "r+b");
    fseek(f, 3073, SEEK_SET);
    fwrite(&bad, 1, 1, f);
    fclose(f);
    refused(spec("cifar:@"), 303, "data_batch_2.bin: record 1 (byte 3073): label 10 of y is not in 0..9");
    refused(spec("cifar:@,test"), 101, "test_batch.bin");
    GradcTensor *all[] = {&chw, &hwc, &u8, &flat, &back};
    for (int i = 0; i < 5; i++) gradc_tensor_free(all[i]);
}

static void raw_numbers(void **state) {
    (void)state;
    const unsigned char bytes[] = {9, 9, 9, /* header */ 0, 0, 128, 63, 255, 255, 0, 0, 0, 64, 7, 0};
    put("numbers.raw", bytes, sizeof bytes);
    GradcData *d = open_data(spec("raw:@/numbers.raw,x=f32[1],t=i16[],header=3"));
    GradcTensor x = tensor(GRADC_F16, 2, 2, 1), t = tensor(GRADC_I32, 1, 2), narrow = tensor(GRADC_U8, 1, 2);
    fill(d, "x", (int64_t[]){0, 1}, 2, &x, 0);
    assert_true(((uint16_t *)x.data)[0] == 0x3c00 && ((uint16_t *)x.data)[1] == 0x4000);
    fill(d, "t", (int64_t[]){0, 1}, 2, &t, 0);
    assert_true(((int32_t *)t.data)[0] == -1 && ((int32_t *)t.data)[1] == 7);
    assert_int_equal(gradc_data_field(d, 1)->classes, 0); /* one is negative: numbers, not classes */
    assert_int_equal(gradc_data_fill(d, 1, (int64_t[]){1, 0}, 2, &narrow, 0, &err), 1);
    assert_non_null(strstr(err.text, "numbers.raw: record 0 (byte 7): element 0 of t does not fit into u8"));
    gradc_tensor_free(&x);
    gradc_tensor_free(&t);
    gradc_tensor_free(&narrow);
    gradc_data_close(d);
}

/* ---- npz ---- */

static void npz_reads(void **state) {
    (void)state;
    int64_t dims[] = {4, 2};
    GradcTensor x = tensor(GRADC_F32, 2, 4, 2), y = tensor(GRADC_I32, 1, 4);
    for (int i = 0; i < 8; i++) ((float *)x.data)[i] = (float)i;
    for (int i = 0; i < 4; i++) ((int32_t *)y.data)[i] = 3 - i;
    assert_int_equal(gradc_npy_write(&x, at("a.npy"), &err), 0);
    assert_int_equal(gradc_npy_write(&y, at("b.npy"), &err), 0);
    int code;
    zip_t *zip = zip_open(at("s.npz"), ZIP_CREATE | ZIP_TRUNCATE, &code);
    zip_file_add(zip, "images.npy", zip_source_file(zip, at("a.npy"), 0, -1), 0);
    zip_file_add(zip, "labels.npy", zip_source_file(zip, at("b.npy"), 0, -1), 0);
    assert_int_equal(zip_close(zip), 0);
    static const char *const specs[] = {"npz:@/s.npz,x=images,y=labels", "npz:@/a.npy,y=%s/b.npy",
                                        "npz:@/s.npz"};
    for (int i = 0; i < 3; i++) {
        GradcData *d = open_data(spec(specs[i], dir));
        assert_int_equal(gradc_data_count(d), 4);
        assert_int_equal(gradc_data_find(d, i == 2 ? "labels" : "y"), 1);
        GradcTensor b = tensor(GRADC_F32, 2, 2, 2), hot = tensor(GRADC_F32, 2, 2, 4);
        fill(d, i == 2 ? "images" : "x", (int64_t[]){3, 1}, 2, &b, 0);
        assert_memory_equal(b.data, ((float[]){6, 7, 2, 3}), 16);
        fill(d, i == 2 ? "labels" : "y", (int64_t[]){3, 1}, 2, &hot, 0);
        assert_memory_equal(hot.data, ((float[]){1, 0, 0, 0, 0, 0, 1, 0}), 32);
        gradc_tensor_free(&b);
        gradc_tensor_free(&hot);
        gradc_data_close(d);
    }
    refused(spec("npz:@/s.npz,x=pictures"), 602, "no array named pictures");
    struct stat st;
    assert_int_equal(stat(at("s.npz"), &st), 0);
    FILE *f = fopen(at("s.npz"), "rb"); /* flip bytes: an error or the same data, never a crash */
    char *bytes = malloc((size_t)st.st_size);
    assert_int_equal(fread(bytes, 1, (size_t)st.st_size, f), st.st_size);
    fclose(f);
    for (int i = 0; i < st.st_size; i += 3) {
        GradcData *d;
        bytes[i] ^= 0x55;
        put("t.npz", bytes, (size_t)st.st_size);
        if (!gradc_data_open(&d, spec("npz:@/t.npz"), &err)) gradc_data_close(d);
        bytes[i] ^= 0x55;
    }
    free(bytes);
    assert_int_equal(truncate(at("s.npz"), st.st_size - 30), 0);
    refused(spec("npz:@/s.npz"), 103, "s.npz");
    dims[0] = 3;
    gradc_tensor_free(&y);
    assert_int_equal(gradc_tensor_new(&y, GRADC_I32, 1, dims, &err), 0);
    memset(y.data, 0, y.bytes);
    assert_int_equal(gradc_npy_write(&y, at("b.npy"), &err), 0);
    refused(spec("npz:@/a.npy,y=%s/b.npy", dir), 103, "y has");
    gradc_tensor_free(&x);
    gradc_tensor_free(&y);
}

/* ---- csv ---- */

static void csv_reads(void **state) {
    (void)state;
    put_text("iris.csv", "\xef\xbb\xbfsepal,petal,kind\r\n5.1,1e-1,\"set\"\"osa\"\r\n\r\n6,-.5,"
                         "virginica\r\n4.5,2,\"set\"\"osa\"");
    GradcData *d = open_data(spec("csv:@/iris.csv,label=kind"));
    assert_int_equal(gradc_data_count(d), 3);
    assert_int_equal(gradc_data_field(d, 0)->dims[0], 2);
    assert_int_equal(gradc_data_field(d, 1)->classes, 2);
    assert_string_equal(gradc_data_class(d, 1, 0), "set\"osa");
    assert_string_equal(gradc_data_class(d, 1, 1), "virginica");
    GradcTensor x = tensor(GRADC_F32, 2, 3, 2), y = tensor(GRADC_I64, 1, 3);
    fill(d, "x", (int64_t[]){0, 1, 2}, 3, &x, 0);
    assert_memory_equal(x.data, ((float[]){5.1f, .1f, 6, -.5f, 4.5f, 2}), 24);
    fill(d, "y", (int64_t[]){0, 1, 2}, 3, &y, 0);
    assert_memory_equal(y.data, ((int64_t[]){0, 1, 0}), 24);
    gradc_data_close(d);
    d = open_data(spec("csv:@/iris.csv,label=kind,labels=virginica:set\"osa"));
    fill(d, "y", (int64_t[]){0, 1, 2}, 3, &y, 0);
    assert_memory_equal(y.data, ((int64_t[]){1, 0, 1}), 24);
    gradc_data_close(d);
    refused(spec("csv:@/iris.csv,label=kind,labels=virginica"), 303, "record 0: the label 'set\"osa'");
    refused(spec("csv:@/iris.csv,label=species"), 602, "species");
    refused(spec("csv:@/iris.csv,label=sepal"), 303,
            "line 2 (byte 31): column 2 'kind': 'set\"\"osa' is not a number");
    gradc_tensor_free(&x);
    gradc_tensor_free(&y);
    put_text("n.csv", "1;0.5;3\n2;;0\n7;2;1\n");
    refused(spec("csv:@/n.csv,label=2,sep=;"), 303, "line 2 (byte 10): column 1 is empty");
    d = open_data(spec("csv:@/n.csv,label=2,sep=;,missing=-1,drop=0"));
    assert_int_equal(gradc_data_field(d, 1)->classes, 4);
    x = tensor(GRADC_F64, 2, 3, 1);
    fill(d, "x", (int64_t[]){0, 1, 2}, 3, &x, 0);
    assert_memory_equal(x.data, ((double[]){.5, -1, 2}), 24);
    gradc_tensor_free(&x);
    gradc_data_close(d);
    put_text("n.csv", "a,b\n1,2.5\n3,-4\n");
    d = open_data(spec("csv:@/n.csv,label=b")); /* numbers that are no classes */
    assert_int_equal(gradc_data_field(d, 1)->dtype, GRADC_F32);
    gradc_data_close(d);
    put_text("n.csv", "1,2\n3\n");
    refused(spec("csv:@/n.csv,label=1"), 103, "line 2: 1 cells where the first row has 2");
    put_text("n.csv", "1,2\n3,4,5\n");
    refused(spec("csv:@/n.csv,label=1"), 103, "line 2");
    put_text("n.csv", "1,\"2\n3,4\n");
    refused(spec("csv:@/n.csv,label=1"), 103, "never closed");
    put_text("n.csv", "1,\"2\"x\n3,4\n");
    refused(spec("csv:@/n.csv,label=1"), 103, "after a closing quote");
    put_text("n.csv", "a,b\n");
    refused(spec("csv:@/n.csv,label=b,header=yes"), 303, "no rows");
    put_text("n.csv", "\n\n");
    refused(spec("csv:@/n.csv,label=b"), 303, "no rows");
}

/* ---- names, text ---- */

static void names_read(void **state) {
    (void)state;
    assert_int_equal(mkdir(at("names"), 0777), 0);
    put_text("names/B.txt", "O'N\xc3\xa9"
                            "al\n\n \xc5\x9alusarski, X. \nA\n");
    put_text("names/A.txt", "\xc3\x9f\n\xe1\xba\xa4n");
    put_text("names/LICENSE", "no data");
    GradcData *d = open_data(spec("names:@/names"));
    assert_int_equal(gradc_data_count(d), 4);
    assert_int_equal(gradc_data_field(d, 0)->classes, 57);
    int y = gradc_data_find(d, "y");
    assert_string_equal(gradc_data_class(d, y, 0), "A");
    assert_int_equal(gradc_data_length(d, 0, 0), 2); /* the sharp s is left out, its line with it */
    assert_int_equal(gradc_data_length(d, 0, 1), 6);
    assert_int_equal(gradc_data_length(d, 0, 2), 13);
    GradcTensor hot = tensor(GRADC_F32, 3, 6, 2, 57), length = tensor(GRADC_I64, 1, 2);
    const int64_t two[] = {1, 0};
    fill(d, "x", two, 2, &hot, 1); /* time first, as the recurrent cells of ONNX */
    const char *const words[] = {"O'Neal", "An"};
    const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'";
    for (int t = 0; t < 6; t++)
        for (int n = 0; n < 2; n++)
            for (int k = 0; k < 57; k++) {
                bool one = t < (int)strlen(words[n]) && letters[k] == words[n][t];
                assert_true(((float *)hot.data)[(t * 2 + n) * 57 + k] == one);
            }
    fill(d, "length", two, 2, &length, 0);
    assert_memory_equal(length.data, ((int64_t[]){6, 2}), 16);
    GradcTensor shorter = tensor(GRADC_I32, 2, 2, 5);
    assert_int_equal(gradc_data_fill(d, 0, two, 2, &shorter, 0, &err), 1);
    assert_non_null(strstr(err.text, "B.txt: record 0: x has 6 elements, the model takes 5"));
    gradc_tensor_free(&shorter);
    gradc_tensor_free(&hot);
    gradc_tensor_free(&length);
    gradc_data_close(d);
    put_text("names/C.txt", "ok\nb\xff"
                            "d\n");
    refused(spec("names:@/names"), 103, "C.txt: line 2 (byte 4) is not UTF-8");
}

static void text_windows(void **state) {
    (void)state;
    put_text("corpus.txt", "hello w\xc3\xb6rld");
    GradcData *d = open_data(spec("text:@/corpus.txt,length=3"));
    assert_int_equal(gradc_data_count(d), 3);
    assert_int_equal(gradc_data_field(d, 0)->classes, 9);
    assert_string_equal(gradc_data_class(d, 0, 0), " ");
    assert_string_equal(gradc_data_class(d, 0, 8), "\xc3\xb6");
    GradcTensor x = tensor(GRADC_I64, 2, 2, 3), y = tensor(GRADC_F32, 3, 2, 3, 9);
    fill(d, "x", (int64_t[]){0, 2}, 2, &x, 0);
    assert_memory_equal(x.data, ((int64_t[]){3, 2, 4, 7, 8, 6}), 48); /* h e l, w o r */
    fill(d, "y", (int64_t[]){0, 2}, 2, &y, 0);
    assert_true(((float *)y.data)[2] == 1 && ((float *)y.data)[9 + 4] == 1);
    assert_int_equal(gradc_data_window(d, 10, &err), 0);
    assert_int_equal(gradc_data_count(d), 1);
    assert_int_equal(gradc_data_window(d, 11, &err), 1);
    gradc_data_close(d);
    d = open_data(spec("text:@/corpus.txt,length=3,stride=1"));
    assert_int_equal(gradc_data_count(d), 8);
    gradc_data_close(d);
    put_text("other.txt", "hold");
    d = open_data(spec("text:@/other.txt,length=2,table=%s/corpus.txt", dir));
    assert_int_equal(gradc_data_field(d, 0)->classes, 9);
    gradc_data_close(d);
    refused(spec("text:@/corpus.txt,length=2,table=%s/other.txt", dir), 303, "byte 1 is not in the table");
    put_text("other.txt", "a");
    refused(spec("text:@/other.txt"), 303, "too few");
    gradc_tensor_free(&x);
    gradc_tensor_free(&y);
}

/* ---- order ---- */

static void shuffles(void **state) {
    (void)state;
    int64_t a[1000], b[1000], seen[1000] = {0};
    for (int i = 0; i < 1000; i++) a[i] = b[i] = i;
    gradc_shuffle(7, 3, a, 1000);
    gradc_shuffle(7, 3, b, 1000);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 1000; i++) seen[a[i]]++;
    for (int i = 0; i < 1000; i++) assert_int_equal(seen[i], 1);
    for (int i = 0; i < 1000; i++) b[i] = i;
    gradc_shuffle(7, 4, b, 1000);
    assert_memory_not_equal(a, b, sizeof a);
    for (int i = 0; i < 1000; i++) b[i] = i;
    gradc_shuffle(8, 3, b, 1000);
    assert_memory_not_equal(a, b, sizeof a);
    /* the numbers themselves, so that another machine or version gives the same */
    int64_t few[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    gradc_shuffle(42, 0, few, 8);
    char text[64] = "";
    for (int i = 0; i < 8; i++) sprintf(text + strlen(text), "%d ", (int)few[i]);
    assert_string_equal(text, "1 5 4 0 7 3 6 2 ");
    /* every order of 4 comes up equally often: chi squared of 24 cells over 24000 draws */
    int cells[256] = {0};
    for (int i = 0; i < 24000; i++) {
        int64_t p[4] = {0, 1, 2, 3};
        gradc_shuffle(1, (uint64_t)i, p, 4);
        cells[p[0] | p[1] << 2 | p[2] << 4 | p[3] << 6]++;
    }
    double chi = 0;
    int orders = 0;
    for (int i = 0; i < 256; i++)
        if (cells[i]) orders++, chi += (cells[i] - 1000.) * (cells[i] - 1000.) / 1000;
    assert_int_equal(orders, 24);
    assert_true(chi < 49.7); /* 23 degrees of freedom, p = 0.001 */
}

/* ---- batches ahead ---- */

static void loads(void **state) {
    (void)state;
    put_idx();
    GradcData *d = open_data(spec("idx:@"));
    GradcFeed feeds[2] = {{0, GRADC_U8, 3, 0, {-1, 2, 2}}, {1, GRADC_I64, 1, 0, {-1}}};
    GradcLoader *l;
    const GradcBatch *b;
    assert_int_equal(gradc_loader_open(&l, d, feeds, 2, 4, &err), 0);
    assert_int_equal(gradc_loader_next(l, &b, &err), 0);
    assert_null(b); /* nothing has begun */
    int64_t order[103];
    for (int i = 0; i < 103; i++) order[i] = i * i % 3;
    for (int epoch = 0; epoch < 3; epoch++) {
        assert_int_equal(gradc_loader_start(l, order, 103, 2 * epoch, &err), 0);
        for (int k = 2 * epoch; k < 26; k++) {
            assert_int_equal(gradc_loader_next(l, &b, &err), 0);
            assert_non_null(b);
            assert_int_equal(b->index, k);
            assert_int_equal(b->n, k == 25 ? 3 : 4);
            assert_int_equal(b->tensors[0].dims[0], b->n);
            assert_int_equal(b->tensors[0].bytes, 4 * b->n);
            for (int r = 0; r < b->n; r++) {
                int64_t record = order[4 * k + r];
                assert_int_equal(b->records[r], record);
                assert_memory_equal((char *)b->tensors[0].data + 4 * r, pictures + 16 + 4 * record, 4);
                assert_int_equal(((int64_t *)b->tensors[1].data)[r], labels[8 + record]);
            }
        }
        assert_int_equal(gradc_loader_next(l, &b, &err), 0);
        assert_null(b);
        assert_int_equal(gradc_loader_start(l, order, 103, 0, &err), 0); /* begun and dropped */
        assert_int_equal(gradc_loader_next(l, &b, &err), 0);
    }
    gradc_loader_close(l);
    feeds[0].dims[2] = 3;
    assert_int_equal(gradc_loader_open(&l, d, feeds, 2, 4, &err), 1);
    assert_null(l);
    gradc_data_close(d);
}

static void loader_passes_errors(void **state) {
    (void)state;
    put("big.raw", (unsigned char[]){1, 2, 200, 3}, 4);
    GradcData *d = open_data(spec("raw:@/big.raw,x=u8[]"));
    GradcFeed feed = {0, GRADC_I8, 1, 0, {-1}};
    GradcLoader *l;
    const GradcBatch *b;
    assert_int_equal(gradc_loader_open(&l, d, &feed, 1, 2, &err), 0);
    assert_int_equal(gradc_loader_start(l, (int64_t[]){0, 1, 2, 3}, 4, 0, &err), 0);
    assert_int_equal(gradc_loader_next(l, &b, &err), 0);
    assert_non_null(b);
    assert_int_equal(gradc_loader_next(l, &b, &err), 1);
    assert_null(b);
    assert_non_null(strstr(err.text, "big.raw: record 2 (byte 2)"));
    gradc_loader_close(l);
    gradc_data_close(d);
}

static void loader_varying(void **state) {
    (void)state;
    assert_int_equal(mkdir(at("words"), 0777), 0);
    put_text("words/w.txt", "a\nbcd\nef\nghij\nk\n");
    GradcData *d = open_data(spec("names:@/words"));
    GradcFeed feed = {0, GRADC_I32, 2, 0, {-1, -1}};
    GradcLoader *l;
    const GradcBatch *b;
    assert_int_equal(gradc_loader_open(&l, d, &feed, 1, 2, &err), 0);
    assert_int_equal(gradc_loader_start(l, (int64_t[]){0, 1, 2, 3, 4}, 5, 0, &err), 0);
    const int lengths[] = {3, 4, 1};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gradc_loader_next(l, &b, &err), 0);
        assert_int_equal(b->tensors[0].dims[1], lengths[i]);
    }
    assert_int_equal(*(int32_t *)b->tensors[0].data, 10);
    gradc_loader_close(l);
    gradc_data_close(d);
}

/* ---- real data ---- */

static void real_data(void **state) {
    (void)state;
    const char *root = getenv("GRADC_DATA");
    char s[300];
    if (!root) skip();
    snprintf(s, sizeof s, "idx:%s/mnist", root);
    GradcData *d = open_data(s);
    assert_int_equal(gradc_data_count(d), 60000);
    assert_int_equal(gradc_data_field(d, 1)->classes, 10);
    GradcTensor x = tensor(GRADC_F32, 2, 1, 784), y = tensor(GRADC_I64, 1, 5);
    fill(d, "y", (int64_t[]){0, 1, 2, 3, 59999}, 5, &y, 0);
    assert_memory_equal(y.data, ((int64_t[]){5, 0, 4, 1, 8}), 40);
    double sum = 0;
    fill(d, "x", (int64_t[]){0}, 1, &x, 0);
    for (int i = 0; i < 784; i++) sum += (double)((float *)x.data)[i];
    assert_true(fabs(sum - 27525 / 255.) < 1e-3);
    gradc_data_close(d);
    snprintf(s, sizeof s, "names:%s/names", root);
    d = open_data(s);
    assert_int_equal(gradc_data_count(d), 20050);
    assert_int_equal(gradc_data_field(d, gradc_data_find(d, "y"))->classes, 18);
    gradc_data_close(d);
    snprintf(s, sizeof s, "text:%s/tinyshakespeare/input.txt", root);
    d = open_data(s);
    assert_int_equal(gradc_data_field(d, 0)->classes, 65);
    assert_int_equal(gradc_data_count(d), (1115394 - 1) / 64);
    gradc_data_close(d);
    gradc_tensor_free(&x);
    gradc_tensor_free(&y);
}

static void fashion(void **state) {
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist", R_OK)) skip(); /* Debian's dataset-fashion-mnist */
    GradcData *d = open_data("idx:/usr/share/datasets/fashion-mnist,test");
    assert_int_equal(gradc_data_count(d), 10000);
    gradc_data_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx_fills),      cmocka_unit_test(idx_packed),
        cmocka_unit_test(idx_hostile),    cmocka_unit_test(changes_are_seen),
        cmocka_unit_test(shrinks_while_mapped),
        cmocka_unit_test(cifar_turns),    cmocka_unit_test(raw_numbers),
        cmocka_unit_test(npz_reads),      cmocka_unit_test(csv_reads),
        cmocka_unit_test(names_read),     cmocka_unit_test(text_windows),
        cmocka_unit_test(shuffles),
        cmocka_unit_test(loads),          cmocka_unit_test(loader_passes_errors),
        cmocka_unit_test(loader_varying), cmocka_unit_test(real_data),
        cmocka_unit_test(fashion),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
