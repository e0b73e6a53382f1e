/* Data sets that are not what they should be, given to a program that trains: it ends within two seconds with the status of that fault
   and a message that names the file and, where there is one, record, line or byte; never by a signal. Files that change while they are in
   use, and disks without room: the checkpoint that was there stays whole and is gone on from. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <zip.h>
#include <zlib.h>
#include "child.h"
#include "gradc.h"
#include "scratch.h"
#include "trained.h"

#if defined(__SANITIZE_ADDRESS__)
enum { SECONDS = 20 };
#else
enum { SECONDS = 2 };
#endif
static Ran ran;
static char cnn[200], rnn[200]; /* programs that train */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void train(const char *program, const char *spec, const char *out, const char *epochs, const char *more) {
    char path[200];
    snprintf(path, sizeof path, "%s", at(out));
    const char *const argv[] = {program, "train", "--quiet", "--data", spec, "--epochs", epochs, "-o", path, more, NULL};
    run_child(&ran, false, argv);
}

/* The directory stands for @ in spec. */
static const char *in_dir(const char *spec) {
    static char text[600];
    size_t n = 0;
    for (const char *p = spec; *p && n < 500; p++)
        if (*p == '@') n += (size_t)sprintf(text + n, "%s", dir);
        else text[n++] = *p;
    text[n] = 0;
    return text;
}

static void refused(const char *program, const char *spec, int code, const char *message) {
    char want[32];
    double start = now();
    train(program, in_dir(spec), "never", "1", NULL);
    double seconds = now() - start;
    snprintf(want, sizeof want, "error[E%04d]: ", code);
    if (ran.status < 1 || ran.status > 6 || !strstr(ran.err, want) || !strstr(ran.err, message))
        fail_msg("%s: status %d, not %s%s:\n%s", spec, ran.status, want, message, ran.err);
    if (seconds > SECONDS) fail_msg("%s: %g seconds", spec, seconds);
    if (!access(at("never"), F_OK)) fail_msg("%s: a checkpoint was written", spec);
    assert_string_equal(ran.out, "");
}

static void put_text(const char *name, const char *text) { put(name, text, strlen(text)); }

static void folder(const char *name) {
    if (mkdir(at(name), 0777)) assert_int_equal(errno, EEXIST);
}

/* ---- readers ---- */

static void idx(void **state) {
    (void)state;
    size_t n, m;
    char name[60], gz[64];
    unsigned char *x = (unsigned char *)bytes_of("train-images-idx3-ubyte", &n), *y = (unsigned char *)bytes_of("train-labels-idx1-ubyte", &m);
    folder("idx");
    snprintf(name, sizeof name, "idx/train-images-idx3-ubyte");
    snprintf(gz, sizeof gz, "%s.gz", name);
#define WITH(bytes, size, code, message) put(name, bytes, size), refused(cnn, "idx:@/idx", code, message)
    put("idx/train-labels-idx1-ubyte", y, m);
    refused(cnn, "idx:@/idx", 101, "idx: no file of this folder is named train-images*");
    WITH(x, 0, 103, "train-images-idx3-ubyte: the file is empty");
    WITH(x, 3, 103, "truncated: 3 bytes");
    WITH(x, 10, 103, "truncated: 10 bytes where the header has 16 (byte 10)");
    WITH(x, 16, 103, "truncated in record 0 (byte 16)");
    WITH(x, n - 1, 103, "truncated in record 42 (byte ");
    memset(x + 4, 0xff, 12); /* 2^96 */
    WITH(x, n, 103, "more than any file has (byte 4)");
    memset(x + 4, 0x7f, 4), memset(x + 8, 0, 8), x[11] = x[15] = 1; /* 2^31 records of a pixel */
    WITH(x, n, 103, "truncated in record ");
    x[7] = x[4] = x[5] = x[6] = 0;
    WITH(x, n, 103, "size 0 of axis 0 (byte 4)");
    free(x);
    x = (unsigned char *)bytes_of("train-images-idx3-ubyte", &n);
    put(name, x, n);
    y[8 + 17] = 10;
    put("idx/train-labels-idx1-ubyte", y, m);
    refused(cnn, "idx:@/idx", 303, "train-labels-idx1-ubyte: record 17 (byte 25): label 10 of y is not in 0..9");
    refused(cnn, "idx:@/idx,classes=10", 303, "record 17 (byte 25)");
    put("idx/train-labels-idx1-ubyte", y, m - 1);
    refused(cnn, "idx:@/idx", 103, "truncated in record 42");
    unlink(at(name));
    gzFile z = gzopen(at(gz), "wb");
    assert_int_equal(gzwrite(z, x, (unsigned)n), n);
    gzclose(z);
    char *packed = bytes_of(gz, &n);
    const size_t cuts[] = {2, 9, 11, n / 2, n - 9, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        put(gz, packed, cuts[i]);
        refused(cnn, "idx:@/idx", 103, "train-images-idx3-ubyte.gz: ");
    }
    packed[n / 2] ^= 0x55;
    put(gz, packed, n);
    refused(cnn, "idx:@/idx", 103, "damaged gzip");
    unlink(at(gz));
    folder("idx/train-images-idx3-ubyte");
    refused(cnn, "idx:@/idx", 101, "is a directory");
    refused(cnn, "idx:@/train-images-idx3-ubyte", 101, "Not a directory");
    refused(cnn, "idx:@/nowhere", 101, "nowhere: No such file or directory");
    free(packed);
    free(x);
    free(y);
#undef WITH
}

static void cifar(void **state) {
    (void)state;
    static unsigned char records[2 * 3073];
    char name[40];
    folder("cifar");
    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "cifar/data_batch_%d.bin", i);
        put(name, records, sizeof records);
    }
    refused(cnn, "cifar:@/cifar", 603, "x is u8[3,32,32] a record, the model takes f32[1,12,12]");
    put("cifar/data_batch_4.bin", records, 5000);
    refused(cnn, "cifar:@/cifar", 103, "data_batch_4.bin: truncated in record 1 (byte 5000)");
    records[3073] = 200;
    put("cifar/data_batch_4.bin", records, sizeof records);
    refused(cnn, "cifar:@/cifar", 303, "data_batch_4.bin: record 1 (byte 3073): label 200 of y is not in 0..9");
    put("cifar/data_batch_4.bin", "", 0);
    refused(cnn, "cifar:@/cifar", 103, "data_batch_4.bin: the file is empty");
    unlink(at("cifar/data_batch_4.bin"));
    refused(cnn, "cifar:@/cifar", 101, "data_batch_4.bin: No such file or directory");
}

/* A .npy with this header and these bytes behind it. */
static size_t npy(unsigned char *to, const char *dtype, const char *shape, const void *data, size_t n) {
    char header[200];
    int size = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", dtype, shape);
    size_t padded = ((size_t)size + 11 + 63) / 64 * 64 - 10;
    memcpy(to, "\x93NUMPY\x01\0", 8);
    to[8] = (unsigned char)padded, to[9] = 0;
    memset(to + 10, ' ', padded);
    memcpy(to + 10, header, (size_t)size);
    to[10 + padded - 1] = '\n';
    if (n) memcpy(to + 10 + padded, data, n);
    return 10 + padded + n;
}

typedef struct Array { const char *dtype, *shape; const void *data; size_t n; } Array;

static void put_npy(const char *name, Array a) {
    static unsigned char bytes[1 << 16];
    put(name, bytes, npy(bytes, a.dtype, a.shape, a.data, a.n));
}

static void put_npz(const char *name, Array x, Array y) {
    static unsigned char bytes[2][1 << 16];
    int code;
    unlink(at(name));
    zip_t *z = zip_open(at(name), ZIP_CREATE, &code);
    assert_non_null(z);
    zip_file_add(z, "x.npy", zip_source_buffer(z, bytes[0], npy(bytes[0], x.dtype, x.shape, x.data, x.n), 0), 0);
    zip_file_add(z, "y.npy", zip_source_buffer(z, bytes[1], npy(bytes[1], y.dtype, y.shape, y.data, y.n), 0), 0);
    assert_int_equal(zip_close(z), 0);
}

static void numpy(void **state) {
    (void)state;
    enum { N = 10 };
    static float values[N * TIME * WIDTH];
    int64_t classes[N] = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0};
    const Array x = {"<f4", "(10, 7, 5)", values, sizeof values}, y = {"<i8", "(10,)", classes, sizeof classes};
    static const struct { const char *dtype, *shape; size_t n; int code; const char *message; } bad[] = {
        {"<f4", "(10, 7, 5)", sizeof values - 3, 103, "truncated: 1397 bytes of data where the shape needs 1400"},
        {"<f4", "(10, 7, 5)", 0, 103, "truncated"},
        {"<f4", "(1099511627776, 7, 5)", 4, 103, "truncated: 4 bytes"},
        {"<f4", "(4611686018427387904, 8, 5)", 4, 103, "more than any file has"},
        {"<f4", "(99999999999999999999999, 7, 5)", 4, 103, ""},
        {"<f4", "(-10, 7, 5)", sizeof values, 103, "shape"},
        {"<f4", "(9, 7, 5)", sizeof values, 103, "bytes after the data"},
        {"<f4", "(0, 7, 5)", 0, 303, "holds no records"},
        {"<f4", "()", 4, 303, "holds no records"},
        {"|O", "(10, 7, 5)", sizeof values, 103, "dtype"},
        {"<f4", "(10, 35", sizeof values, 103, ""},
        {"<f4", "(10, 6, 5)", sizeof values - 200, 603, "the model takes f32[7,5]"},
        {"<f4", "(9, 7, 5)", sizeof values - 140, 103, "10 records"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_npz("bad.npz", (Array){bad[i].dtype, bad[i].shape, values, bad[i].n}, y);
        refused(rnn, "npz:@/bad.npz", bad[i].code, bad[i].message);
        refused(rnn, "npz:@/bad.npz", bad[i].code, "bad.npz");
        put_npy("bad.npy", (Array){bad[i].dtype, bad[i].shape, values, bad[i].n});
        put_npy("y.npy", y);
        refused(rnn, "npz:@/bad.npy,y=@/y.npy", bad[i].code, i + 1 < sizeof bad / sizeof *bad ? bad[i].message : "9");
    }
    for (int v = -1; v <= 3; v += 4) {
        classes[6] = v;
        put_npz("bad.npz", x, y);
        refused(rnn, "npz:@/bad.npz", 303, v < 0 ? "bad.npz: record 6: label -1 of y is not in 0..2" : "record 6: label 3 of y");
    }
    classes[6] = 0;
    values[4 * TIME * WIDTH + 3] = NAN;
    put_npz("bad.npz", x, y);
    refused(rnn, "npz:@/bad.npz", 605, "bad.npz: record 4 has such a value in field x");
    values[4 * TIME * WIDTH + 3] = 0;
    put_npz("bad.npz", x, y);
    size_t n;
    char *bytes = bytes_of("bad.npz", &n);
    for (size_t k = 0; k < n; k += k < 40 ? 8 : n / 20) {
        put("bad.npz", bytes, k);
        refused(rnn, "npz:@/bad.npz", 103, "bad.npz: neither a .npz nor a .npy file");
    }
    free(bytes);
    refused(rnn, "npz:@/cifar", 101, "is a directory");
    refused(rnn, "npz:@/nowhere", 101, "nowhere: No such file");
    assert_int_equal(mkfifo(at("pipe"), 0666), 0);
    refused(rnn, "npz:@/pipe", 101, "pipe: not a regular file");
    refused(rnn, "npz:@/y.npy,y=@/pipe", 101, "pipe: not a regular file");
    refused(rnn, "csv:@/pipe,label=0", 101, "pipe: not a regular file");
}

static void texts(void **state) {
    (void)state;
    static char wide[400 * 2 + 2];
    put_text("a.csv", "a,b,y\n1,2,0\n1,x,1\n");
    refused(rnn, "csv:@/a.csv,label=y", 303, "a.csv: line 3 (byte 14): column 1 'b': 'x' is not a number");
    put_text("a.csv", "a,b,y\n1,2,0\n1,2\n");
    refused(rnn, "csv:@/a.csv,label=y", 103, "a.csv: line 3: 2 cells where the first row has 3");
    put_text("a.csv", "a,b,y\n1,\"2,0\n1,2,1\n");
    refused(rnn, "csv:@/a.csv,label=y", 103, "a.csv: line ");
    put_text("a.csv", "a,b,y\n");
    refused(rnn, "csv:@/a.csv,label=y,header=yes", 303, "no rows");
    put_text("a.csv", "");
    refused(rnn, "csv:@/a.csv,label=y", 103, "the file is empty");
    refused(rnn, "csv:@/cifar,label=y", 101, "is a directory");
    for (int broken = 0; broken < 2; broken++) { /* 35 numbers, and a class that the model has not; then one that is none */
        for (int row = 0, n = 0; row < 2; row++, wide[n - 1] = '\n')
            for (int k = 0; k < 36; k++) n += sprintf(wide + n, broken && row && k == 7 ? "nan," : "%d,", k < 35 ? k % 9 : broken ? row : 3 * row);
        put_text("a.csv", wide);
        if (broken) refused(rnn, "csv:@/a.csv,label=35", 605, "a.csv: record 1 has such a value in field x");
        else refused(rnn, "csv:@/a.csv,label=35", 303, "a.csv: record 1: label 3 of y is not in 0..2");
    }
    put_text("b.txt", "\xff\xfe");
    folder("names");
    refused(rnn, "names:@/names", 101, "names: 0 files end in .txt");
    put_text("names/A.txt", "");
    refused(rnn, "names:@/names", 103, "A.txt: the file is empty");
    put_text("names/A.txt", "fine\n\xff\n");
    refused(rnn, "names:@/names", 103, "A.txt: line 2 (byte 5) is not UTF-8");
    unlink(at("names/A.txt"));
    folder("names/A.txt");
    refused(rnn, "names:@/names", 101, "A.txt: is a directory");
    refused(rnn, "names:@/b.txt", 101, "Not a directory");
    refused(rnn, "text:@/b.txt", 303, "too few for windows");
    put_text("b.txt", "");
    refused(rnn, "text:@/b.txt", 103, "the file is empty");
    refused(rnn, "text:@/names", 101, "is a directory");
    refused(rnn, "text:@/sequences,length=99999999999999", 303, "too few");
    refused(rnn, "text:@/sequences,length=0", 601, "length");
}

static void raw(void **state) {
    (void)state;
    size_t n;
    char *bytes = bytes_of("sequences", &n), many[700] = "raw:@/bad,x=f32[";
    int32_t v;
#define RAW(more) "raw:@/bad,x=f32[7,5],y=i32[]" more
    for (int k = -1; k <= 3; k += 4) {
        v = k;
        memcpy(bytes + 9 * 144 + 140, &v, 4);
        put("bad", bytes, n);
        refused(rnn, RAW(""), 303, "bad: record 9 (byte 1436): label ");
    }
    put("bad", bytes, n - 5);
    refused(rnn, RAW(""), 103, "bad: truncated in record 42 (byte 6187)");
    put("bad", bytes, 143);
    refused(rnn, RAW(""), 103, "bad: truncated in record 0 (byte 143)");
    put("bad", bytes, 0);
    refused(rnn, RAW(""), 103, "the file is empty");
    put("bad", bytes, n);
    refused(rnn, RAW(",header=6192"), 103, "truncated in record 0");
    refused(rnn, RAW(",header=9223372036854775807"), 103, "truncated in record 0");
    refused(rnn, RAW(",header=-1"), 601, "header");
    refused(rnn, "raw:@/bad,x=f32[2147483647,2147483647,2147483647],y=i32[]", 505, "raw:");
    refused(rnn, "raw:@/bad,x=f32[0],y=i32[]", 601, "no dtype with a shape");
    refused(rnn, "raw:@/bad,x=f32[-7,5],y=i32[]", 601, "no dtype with a shape");
    for (int i = 0; i < 200; i++) strcat(many, "1,");
    strcat(many, "1]");
    refused(rnn, many, 601, "no dtype with a shape");
    refused(rnn, "raw:@/bad,x=f32[7,5],x=i32[]", 601, "option x is given twice");
    refused(rnn, "", 601, "is not a data set");
    refused(rnn, "raw:", 601, "is not a data set");
    if (geteuid()) {
        chmod(at("bad"), 0);
        refused(rnn, RAW(""), 101, "bad: Permission denied");
    }
    free(bytes);
#undef RAW
}

/* A batch of more samples than there are is one smaller batch; more than the program is made for is none. */
static void batches(void **state) {
    (void)state;
    make_sequences("few");
    assert_int_equal(truncate(at("few"), 5 * 144), 0);
    char spec[300], path[200];
    snprintf(spec, sizeof spec, "raw:%s/few,x=f32[7,5],y=i32[]", dir);
    snprintf(path, sizeof path, "%s", at("few.out"));
    const char *const fits[] = {rnn, "train", "-q", "--data", spec, "--epochs", "2", "-o", path, NULL},
               *const beyond[] = {rnn, "train", "-q", "--data", spec, "--batch", "9", NULL},
               *const none[] = {rnn, "train", "-q", "--data", spec, "--batch", "0", NULL},
               *const split[] = {rnn, "train", "-q", "--data", spec, "--valid-split", ".1", NULL};
    run_child(&ran, false, fits);
    assert_int_equal(ran.status, 0);
    assert_non_null(strstr(ran.out, " - 2 steps - "));
    run_child(&ran, false, beyond);
    assert_int_equal(ran.status, 2);
    assert_non_null(strstr(ran.err, "the program is made for 8 samples a step, not for 9"));
    run_child(&ran, false, none);
    assert_int_equal(ran.status, 2);
    run_child(&ran, false, split); /* .1 of 5 records is a part of one */
    if (ran.status && !strstr(ran.err, "--valid-split: ")) fail_msg("%s", ran.err);
}

/* ---- files that change ---- */

static void rewrite(const char *name, int how) {
    size_t n;
    char *bytes = bytes_of("sequences", &n), other[100];
    snprintf(other, sizeof other, "%s.other", name);
    FILE *f;
    switch (how) {
    case 0: assert_int_equal(truncate(at(name), (off_t)n / 2), 0); break;
    case 1: assert_non_null(f = fopen(at(name), "ab")), fwrite(bytes, 1, 144, f), fclose(f); break;
    case 2: put(other, bytes, n), assert_int_equal(rename(at(other), at(name)), 0); break;
    default: assert_int_equal(unlink(at(name)), 0);
    }
    free(bytes);
}

/* Starts training, and when an epoch is over answers its process and the end of its messages. */
static pid_t begin_training(const char *spec, const char *out, int *messages) {
    char path[200], ch = 0;
    int ends[2];
    pid_t pid;
    posix_spawn_file_actions_t fa;
    snprintf(path, sizeof path, "%s", at(out));
    const char *const argv[] = {rnn, "train", "--data", spec, "--epochs", "1000000", "-o", path, NULL};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_adddup2(&fa, ends[1], 2);
    assert_int_equal(posix_spawn(&pid, argv[0], &fa, NULL, (char *const *)argv, environ), 0);
    posix_spawn_file_actions_destroy(&fa);
    close(ends[1]);
    while (ch != '\n') assert_int_equal(read(ends[0], &ch, 1), 1);
    *messages = ends[0];
    return pid;
}

static void changing(void **state) {
    (void)state;
    char spec[300], text[4096];
    snprintf(spec, sizeof spec, "raw:%s/changing,x=f32[7,5],y=i32[]", dir);
    for (int how = 0; how < 4; how++) {
        int fd, status;
        make_sequences("changing");
        unlink(at("changing.out"));
        pid_t pid = begin_training(spec, "changing.out", &fd);
        rewrite("changing", how);
        size_t n = 0;
        for (ssize_t k; (k = read(fd, text + n, sizeof text - 1 - n)) > 0;) /* the last of what it says */
            if ((n += (size_t)k) > sizeof text / 2) memmove(text, text + n - 1000, 1000), n = 1000;
        text[n] = 0;
        close(fd);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 5 || !strstr(text, "changing: ") || !strstr(text, how < 3 ? "the file changed since it was opened" : "No such file"))
            fail_msg("way %d: status %x: %s", how, (unsigned)status, text);
        make_sequences("changing");
        const char *const argv[] = {rnn, "eval", "-q", "--data", spec, "--params", at("changing.out"), NULL};
        run_child(&ran, false, argv); /* the last checkpoint is whole */
        if (ran.status) fail_msg("way %d: %s", how, ran.err);
    }
}

/* ---- disks without room ---- */

/* The run that goes on from what is there makes the file of a run without trouble. */
static void goes_on(const char *out) {
    train(rnn, sequences_spec(), out, "4", "--resume");
    if (ran.status) fail_msg("%s", ran.err);
    train(rnn, sequences_spec(), "undisturbed", "4", NULL);
    assert_int_equal(ran.status, 0);
    same_files(out, "undisturbed");
}

static void no_room(const char *text) {
    if (ran.status != 5 || !strstr(ran.err, "error[E0106]: ") || !strstr(ran.err, text)) fail_msg("status %d: %s", ran.status, ran.err);
}

static void limited(void **state) {
    (void)state;
    struct rlimit old;
    size_t n, m;
    train(rnn, sequences_spec(), "limited", "2", NULL);
    assert_int_equal(ran.status, 0);
    char *good = bytes_of("limited", &n);
    getrlimit(RLIMIT_FSIZE, &old);
    for (size_t size = 0; size < n; size += n / 4) {
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){size, old.rlim_max});
        train(rnn, sequences_spec(), "limited", "4", "--resume");
        setrlimit(RLIMIT_FSIZE, &old);
        no_room("limited: File too large");
        char *left = bytes_of("limited", &m);
        assert_true(n == m && !memcmp(good, left, n));
        free(left);
    }
    free(good);
    goes_on("limited");
}

/* A disk of 64 KiB, of which something else takes what is left after the first checkpoint. */
static void full(void **state) {
    (void)state;
    static char rest[1 << 16];
    folder("disk");
    if (geteuid() || mount("none", at("disk"), "tmpfs", 0, "size=64k")) skip();
    train(rnn, sequences_spec(), "disk/w", "2", NULL);
    int status = ran.status;
    FILE *f = fopen(at("disk/rest"), "wb");
    setvbuf(f, NULL, _IONBF, 0);
    for (size_t k = 0; k < sizeof rest && fwrite(rest, 1, 1, f) == 1; k += 512) fwrite(rest, 1, 511, f);
    fclose(f);
    size_t n, m;
    char *good = bytes_of("disk/w", &n);
    train(rnn, sequences_spec(), "disk/w", "4", "--resume");
    Ran filled = ran;
    char *left = bytes_of("disk/w", &m);
    bool same = n == m && !memcmp(good, left, n), alone = system("test $(ls \"$DISK\" | wc -l) = 2") == 0;
    unlink(at("disk/rest"));
    train(rnn, sequences_spec(), "disk/w", "4", "--resume");
    int resumed = ran.status;
    char *end = bytes_of("disk/w", &m);
    put("from_disk", end, m);
    umount(at("disk"));
    free(good), free(left), free(end);
    assert_int_equal(status, 0);
    ran = filled;
    no_room("disk/w: No space left on device");
    assert_true(same && alone);
    assert_int_equal(resumed, 0);
    train(rnn, sequences_spec(), "undisturbed", "4", NULL);
    same_files("from_disk", "undisturbed");
}

/* What is no file is not replaced by one; where no file can be, training does not even begin. */
static void no_file(void **state) {
    (void)state;
    struct stat st;
    train(rnn, sequences_spec(), "nowhere/w", "2", NULL);
    no_room("nowhere/w: No such file or directory");
    train(rnn, sequences_spec(), "cifar", "2", NULL);
    no_room("cifar: is a directory");
    train(rnn, sequences_spec(), "pipe", "2", NULL);
    no_room("pipe: is there and is no regular file");
    assert_true(!stat(at("pipe"), &st) && S_ISFIFO(st.st_mode));
}

/* ---- checkpoints that are not what they should be ---- */

static void checkpoints(void **state) {
    (void)state;
    size_t n;
    train(rnn, sequences_spec(), "point", "2", NULL);
    char *bytes = bytes_of("point", &n);
    const size_t cuts[] = {0, 7, 100, n / 2, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        put("point", bytes, cuts[i]);
        train(rnn, sequences_spec(), "point", "4", "--resume");
        if (ran.status != 1 || !strstr(ran.err, "point")) fail_msg("cut at %zu: status %d: %s", cuts[i], ran.status, ran.err);
    }
    bytes[n - 100] ^= 1;
    put("point", bytes, n);
    train(rnn, sequences_spec(), "point", "4", "--resume");
    if (ran.status != 1 || !strstr(ran.err, "is damaged: its checksum is")) fail_msg("%s", ran.err);
    train(rnn, sequences_spec(), "nothing", "4", "--resume");
    if (ran.status != 5 || !strstr(ran.err, "nothing: No such file")) fail_msg("%s", ran.err);
    train(cnn, images_spec(), "undisturbed", "4", "--resume");
    if (ran.status != 1 || !strstr(ran.err, "error[E0603]: ")) fail_msg("%s", ran.err);
    free(bytes);
}

static void make_program(const char *model, char *path, const char *name) {
    Gradc *g = gradc_open();
#ifndef GRADC_LLVM
    assert_int_equal(gradc_option(g, "opt", "1"), 0);
#endif
    assert_int_equal(gradc_load(g, at(model)), 0);
    snprintf(path, 200, "%s", at(name));
    if (gradc_write_trainer(g, "exe", path)) fail_msg("%s", gradc_problem(g, 0).text);
    gradc_close(g);
}

static int begin(void **state) {
    if (!find_binary() || make_trained(state)) return -1;
    make_program("cnn.model", cnn, "cnn.program");
    make_program("rnn.model", rnn, "rnn.program");
    return setenv("DISK", at("disk"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idx),      cmocka_unit_test(cifar), cmocka_unit_test(numpy),   cmocka_unit_test(texts),   cmocka_unit_test(raw),         cmocka_unit_test(batches),
        cmocka_unit_test(changing), cmocka_unit_test(limited), cmocka_unit_test(full), cmocka_unit_test(no_file), cmocka_unit_test(checkpoints),
    };
    return cmocka_run_group_tests(tests, begin, remove_dir);
}
