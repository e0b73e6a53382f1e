/* Saved parameters and checkpoints: round trips, hostile files, full disks, kills in the middle of writing;
   history, event files, progress. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "checkpoint.h"
#include "history.h"
#include "progress.h"
#include "safetensors.h"
#include "scratch.h"

static GradcError err;

static char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *p = malloc(1 << 22);
    *n = fread(p, 1, 1 << 22, f);
    fclose(f);
    return p;
}

static int files(void) { /* in the directory */
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *entry; (entry = readdir(d));) n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

/* ---- safetensors ---- */

static void round_trip(void **state) {
    (void)state;
    unsigned char bytes[3] = {1, 2, 3};
    float w[2][3] = {{1, 2, 3}, {-0.f, INFINITY, 6}};
    double one = 1;
    const GradcNamed tensors[] = {
        {"mask", {.dtype = GRADC_U8, .rank = 1, .dims = {3}, .data = bytes, .bytes = 3}},
        {"layer \"1\"\\\n\xc3\xa9",
         {.dtype = GRADC_F32, .rank = 2, .dims = {2, 3}, .data = w, .bytes = sizeof w}},
        {"scalar", {.dtype = GRADC_F64, .rank = 0, .data = &one, .bytes = 8}},
        {"none", {.dtype = GRADC_BF16, .rank = 2, .dims = {0, 4}, .data = w, .bytes = 0}},
    };
    const GradcPair meta[] = {{"made by", "a \"test\""}};
    GradcSafetensors s;
    assert_int_equal(gradc_safetensors_write(at("a.safetensors"), tensors, 4, meta, 1, &err), 0);
    assert_int_equal(gradc_safetensors_read(&s, at("a.safetensors"), &err), 0);
    assert_int_equal(s.n, 4);
    for (int i = 0; i < 4; i++) {
        const GradcTensor *t = gradc_safetensors_find(&s, tensors[i].name), *want = &tensors[i].tensor;
        assert_non_null(t);
        assert_true(t->dtype == want->dtype && t->rank == want->rank && t->bytes == want->bytes);
        if (t->rank) assert_memory_equal(t->dims, want->dims, (size_t)t->rank * 8);
        if (t->bytes) assert_memory_equal(t->data, want->data, t->bytes);
        assert_int_equal((uintptr_t)t->data % gradc_dtype_size(t->dtype), 0);
    }
    assert_string_equal(gradc_safetensors_meta(&s, "made by"), "a \"test\"");
    assert_null(gradc_safetensors_meta(&s, "x"));
    assert_null(gradc_safetensors_find(&s, "x"));
    gradc_safetensors_free(&s);
    assert_int_equal(files(), 1);
    GradcNamed twice[] = {tensors[0], tensors[0]};
    assert_int_equal(gradc_safetensors_write(at("b.safetensors"), twice, 2, NULL, 0, &err), 1);
    assert_int_equal(err.code, 202);
    twice[1].name = "\xff";
    assert_int_equal(gradc_safetensors_write(at("b.safetensors"), twice, 2, NULL, 0, &err), 1);
    twice[1].name = "__metadata__";
    assert_int_equal(gradc_safetensors_write(at("b.safetensors"), twice, 2, NULL, 0, &err), 1);
    twice[1].name = "x";
    twice[1].tensor.dtype = GRADC_I4;
    assert_int_equal(gradc_safetensors_write(at("b.safetensors"), twice, 2, NULL, 0, &err), 3);
    assert_int_equal(files(), 1);
}

/* A file of this header and `bytes` bytes of data is refused with this message. */
static void refused(const char *header, size_t bytes, const char *text) {
    char file[1024] = {0};
    size_t n = strlen(header);
    GradcSafetensors s;
    file[0] = (char)(n & 255), file[1] = (char)(n >> 8);
    memcpy(file + 8, header, n);
    put("h.safetensors", file, 8 + n + bytes);
    int status = gradc_safetensors_read(&s, at("h.safetensors"), &err);
    if (!text) {
        if (status) fail_msg("%s: %s", header, err.text);
        gradc_safetensors_free(&s);
        return;
    }
    if (!status || !strstr(err.text, text))
        fail_msg("%s: %s (not %s)", header, status ? err.text : "accepted", text);
    assert_true(!s.n && !s.tensors && !s.data);
}

static void hostile_headers(void **state) {
    (void)state;
#define W(shape, offsets) "{\"w\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    refused(W("[2]", "[0,8]"), 8, NULL);
    refused(W("[2]", "[0,8]"), 7, "'w': its bytes do not lie inside the file");
    refused(W("[2]", "[0,8]"), 9, "end at byte 8");
    refused(W("[2]", "[1,9]"), 9, "gap");
    refused(W("[3]", "[0,8]"), 8, "do not match its dtype and shape");
    refused(W("[2]", "[8,0]"), 8, "inside");
    refused(W("[2]", "[-8,0]"), 8, "inside");
    refused(W("[2]", "[0,8,9]"), 8, "entry");
    refused(W("[-2]", "[0,8]"), 8, "no number from 0");
    refused(W("[2.5]", "[0,8]"), 8, "no number from 0");
    refused(W("[4611686018427387904,4]", "[0,0]"), 0, "too large");
    refused(W("[99999999999999999999]", "[0,0]"), 0, "header");
    refused(W("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "more than 16 axes");
    refused("{\"w\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype F33");
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"w\":{\"dtype\":\"F32\","
            "\"shape\":[2],"
            "\"data_offsets\":[0,8]}}",
            8, "duplicate");
    refused("{\"v\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"w\":{\"dtype\":\"U8\","
            "\"shape\":[2],"
            "\"data_offsets\":[1,3]}}",
            3, "overlap");
    refused("{\"__metadata__\":[]}", 0, "not an object");
    refused("{\"__metadata__\":{\"a\":1}}", 0, "not a string");
    refused("[1]", 0, "not an object");
    refused("{\"w\":1}", 0, "entry");
    refused("{\"w\"", 0, "header");
    refused("{}", 0, NULL);
    refused("", 0, "length");
    refused("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"w\":{\"dtype\":\"F32\","
            "\"shape\":[1],"
            "\"data_offsets\":[1,5]}}",
            5, NULL); /* not aligned: copied */
#undef W
    size_t n;
    GradcSafetensors s;
    char *bytes = slurp(at("a.safetensors"), &n);
    for (size_t i = 0; i < n; i++) { /* every truncation is an error; every flipped byte is one or is read */
        put("h.safetensors", bytes, i);
        assert_int_not_equal(gradc_safetensors_read(&s, at("h.safetensors"), &err), 0);
        bytes[i] ^= 0x11;
        put("h.safetensors", bytes, n);
        if (!gradc_safetensors_read(&s, at("h.safetensors"), &err)) gradc_safetensors_free(&s);
        bytes[i] ^= 0x11;
    }
    memset(bytes, 0xff, 8); /* a header of 2^64 bytes */
    put("h.safetensors", bytes, n);
    assert_int_equal(gradc_safetensors_read(&s, at("h.safetensors"), &err), 1);
    free(bytes);
    assert_int_equal(gradc_safetensors_read(&s, at("nowhere"), &err), 5);
    assert_int_equal(gradc_safetensors_read(&s, dir, &err), 5);
}

/* ---- checkpoints ---- */

static const int64_t w_dims[] = {2, 3}, m_dims[] = {2, 3};
static const GradcState states[] = {
    {"w", GRADC_PARAM, GRADC_F32, 2, w_dims, 0},
    {"norm/mean", GRADC_BUFFER, GRADC_F32, 1, w_dims, 64},
    {"w/m", GRADC_SLOT, GRADC_F32, 2, m_dims, 128},
    {"train/step", GRADC_COUNTER, GRADC_I64, 0, NULL, 192},
    {"accuracy", GRADC_METRIC, GRADC_F64, 0, NULL, 256},
};
static const GradcTrainer trainer = {.name = "t", .nstates = 5, .states = states, .state_bytes = 320};

static void fill_state(unsigned char *p, unsigned seed) {
    for (size_t i = 0; i < trainer.state_bytes; i++) p[i] = (unsigned char)(i * 7 + seed);
}

static bool equal_states(const unsigned char *a, const unsigned char *b, unsigned kinds) {
    static const size_t sizes[] = {24, 8, 24, 8, 8};
    for (int i = 0; i < 5; i++)
        if (kinds >> states[i].kind & 1 && memcmp(a + states[i].offset, b + states[i].offset, sizes[i]))
            return false;
    return true;
}

static const GradcPosition here = {.seed = UINT64_MAX - 1,
                                   .epoch = 3,
                                   .batch = 17,
                                   .step = 317,
                                   .batch_size = 32,
                                   .records = 3200,
                                   .best_epoch = 2,
                                   .waited = 1,
                                   .best = 0.1};

static void checkpoint_round_trip(void **state) {
    (void)state;
    unsigned char a[320], b[320] = {0};
    GradcPosition found;
    fill_state(a, 1);
    assert_int_equal(gradc_checkpoint_save(at("c.safetensors"), &trainer, a, GRADC_SAVE_ALL, &here, &err), 0);
    assert_int_equal(gradc_checkpoint_load(at("c.safetensors"), &trainer, b, GRADC_SAVE_ALL, &found, &err),
                     0);
    assert_true(equal_states(a, b, GRADC_SAVE_ALL));
    assert_true(found.seed == here.seed && found.epoch == 3 && found.batch == 17 && found.step == 317 &&
                found.batch_size == 32 && found.records == 3200 && found.best_epoch == 2 &&
                found.waited == 1 && found.best == .1);
    /* parameters only: the rest of the state stays */
    memset(b, 0, sizeof b);
    assert_int_equal(gradc_checkpoint_load(at("c.safetensors"), &trainer, b, GRADC_SAVE_PARAMS, NULL, &err),
                     0);
    assert_true(equal_states(a, b, GRADC_SAVE_PARAMS));
    for (int i = 128; i < 320; i++) assert_int_equal(b[i], 0);
    assert_int_equal(gradc_checkpoint_save(at("p.safetensors"), &trainer, a, GRADC_SAVE_PARAMS, NULL, &err),
                     0);
    assert_int_equal(gradc_checkpoint_load(at("p.safetensors"), &trainer, b, GRADC_SAVE_PARAMS, NULL, &err),
                     0);
    assert_int_equal(gradc_checkpoint_load(at("p.safetensors"), &trainer, b, GRADC_SAVE_ALL, &found, &err),
                     1);
    assert_non_null(strstr(err.text, "no tensor 'w/m'"));
    assert_int_equal(gradc_checkpoint_load(at("p.safetensors"), &trainer, b, GRADC_SAVE_PARAMS, &found, &err),
                     1);
    assert_non_null(strstr(err.text, "no place in a training run"));
    /* the same state twice is the same file */
    size_t n, m;
    assert_int_equal(gradc_checkpoint_save(at("d.safetensors"), &trainer, a, GRADC_SAVE_ALL, &here, &err), 0);
    char *one = slurp(at("c.safetensors"), &n), *two = slurp(at("d.safetensors"), &m);
    assert_true(n == m && !memcmp(one, two, n));
    free(one);
    free(two);
}

static void checkpoint_of_another_model(void **state) {
    (void)state;
    static const int64_t other_dims[] = {3, 2};
    GradcState other[5];
    unsigned char b[320];
    GradcPosition found;
    memcpy(other, states, sizeof other);
    GradcTrainer t = {.nstates = 5, .states = other, .state_bytes = 320};
    other[0].dims = other_dims;
    assert_int_equal(gradc_checkpoint_load(at("c.safetensors"), &t, b, GRADC_SAVE_ALL, &found, &err), 1);
    assert_non_null(strstr(err.text, "tensor 'w' is f32[2,3], the model has f32[3,2]"));
    other[0] = states[0];
    other[2].name = "w/v";
    assert_int_equal(gradc_checkpoint_load(at("c.safetensors"), &t, b, GRADC_SAVE_ALL, &found, &err), 1);
    assert_non_null(strstr(err.text, "no tensor 'w/v'"));
    t.nstates = 2; /* a model that knows less may take the parameters, but not go on */
    other[2] = states[2];
    assert_int_equal(gradc_checkpoint_load(at("c.safetensors"), &t, b, GRADC_SAVE_ALL, NULL, &err), 0);
    assert_int_equal(gradc_checkpoint_load(at("c.safetensors"), &t, b, GRADC_SAVE_ALL, &found, &err), 1);
    assert_non_null(strstr(err.text, "the model has no state '"));
}

/* Whatever bit is flipped: an error and the old state, except in the metadata's and the names' free text. */
static void damage_is_found(void **state) {
    (void)state;
    size_t n;
    unsigned char a[320], b[320], c[320];
    GradcPosition found;
    char *bytes = slurp(at("c.safetensors"), &n);
    size_t header = 8 + ((unsigned char)bytes[0] | (size_t)(unsigned char)bytes[1] << 8);
    fill_state(a, 1);
    for (size_t i = 0; i < n; i++) {
        bytes[i] ^= 4;
        put("e.safetensors", bytes, n);
        bytes[i] ^= 4;
        memset(b, 9, sizeof b);
        memset(c, 9, sizeof c);
        if (!gradc_checkpoint_load(at("e.safetensors"), &trainer, b, GRADC_SAVE_ALL, &found, &err)) {
            assert_true(i < header);
            assert_true(equal_states(a, b, GRADC_SAVE_ALL));
        } else assert_memory_equal(b, c, sizeof b);
        if (i < header) continue;
        assert_int_equal(err.code, 103);
        assert_non_null(strstr(err.text, "is damaged: its checksum is"));
    }
    free(bytes);
}

/* ---- disks and kills ---- */

static void full_disk(void **state) {
    (void)state;
    unsigned char a[320], b[320], c[320];
    fill_state(a, 2);
    fill_state(b, 3);
    assert_int_equal(gradc_checkpoint_save(at("f.safetensors"), &trainer, a, GRADC_SAVE_ALL, &here, &err), 0);
    int before = files();
    struct stat st;
    assert_int_equal(stat(at("f.safetensors"), &st), 0);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t size = 0; size < (rlim_t)st.st_size; size += 100) {
        limit = (struct rlimit){size, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
        int status = gradc_checkpoint_save(at("f.safetensors"), &trainer, b, GRADC_SAVE_ALL, &here, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(status, 5);
        assert_int_equal(err.code, 106);
        assert_non_null(strstr(err.text, "File too large"));
        assert_int_equal(files(), before); /* the temporary file is gone */
        assert_int_equal(gradc_checkpoint_load(at("f.safetensors"), &trainer, c, GRADC_SAVE_ALL, NULL, &err),
                         0);
        assert_true(equal_states(a, c, GRADC_SAVE_ALL));
    }
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(
        gradc_checkpoint_save(at("none/f.safetensors"), &trainer, b, GRADC_SAVE_ALL, &here, &err), 5);
    assert_int_equal(gradc_checkpoint_save("/proc/f.safetensors", &trainer, b, GRADC_SAVE_ALL, &here, &err),
                     5);
}

/* A child saves as fast as it can, each time another state; it is killed at any moment. What is there is
 * always whole. */
static void killed_while_writing(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    static float w[N];
    static const int64_t dims[] = {N};
    static const GradcState big = {"w", GRADC_PARAM, GRADC_F32, 1, dims, 0};
    const GradcTrainer t = {.nstates = 1, .states = &big, .state_bytes = sizeof w};
    int64_t last = -1;
    assert_int_equal(
        gradc_checkpoint_save(at("k.safetensors"), &t, w, GRADC_SAVE_ALL, &(GradcPosition){0}, &err), 0);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            for (int64_t step = last + 1;; step++) {
                for (int i = 0; i < N; i++) w[i] = (float)step;
                if (gradc_checkpoint_save(at("k.safetensors"), &t, w, GRADC_SAVE_ALL,
                                          &(GradcPosition){.step = step}, &err))
                    _exit(1);
            }
        }
        nanosleep(&(struct timespec){0, 3000000 + round * 1700000}, NULL);
        kill(child, SIGKILL);
        int how;
        waitpid(child, &how, 0);
        assert_true(WIFSIGNALED(how));
        GradcPosition found;
        if (gradc_checkpoint_load(at("k.safetensors"), &t, w, GRADC_SAVE_ALL, &found, &err))
            fail_msg("%s", err.text);
        for (int i = 0; i < N; i++) assert_true(w[i] == (float)found.step);
        assert_true(found.step >= last || last < 0);
        last = found.step;
    }
}

/* ---- history, events, progress ---- */

static void expect_text(const char *path, const char *want) {
    size_t n;
    char *text = slurp(path, &n);
    text[n] = 0;
    assert_string_equal(text, want);
    free(text);
}

static void history_rows(void **state) {
    (void)state;
    const char *const names[] = {"loss", "val_\"loss\"", "seconds"};
    GradcHistory *h;
    assert_int_equal(gradc_history_open(&h, at("log"), names, 3, 0, &err), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(
            gradc_history_row(h, i, (double[]){.1 * (i + 1), i == 1 ? NAN : 1e-7, i == 2 ? INFINITY : 2},
                              &err),
            0);
    gradc_history_close(h);
    const char head[] = "epoch,loss,\"val_\"\"loss\"\"\",seconds\n0,0.1,1e-07,2\n1,0.2,,2\n";
    char want[200];
    snprintf(want, sizeof want, "%s2,0.30000000000000004,1e-07,inf\n3,0.4,1e-07,2\n", head);
    expect_text(at("log/history.csv"), want);
    /* a run that goes on at epoch 2 */
    assert_int_equal(gradc_history_open(&h, at("log"), names, 3, 2, &err), 0);
    expect_text(at("log/history.csv"), head);
    assert_int_equal(gradc_history_row(h, 2, (double[]){3, 4, 5}, &err), 0);
    gradc_history_close(h);
    snprintf(want, sizeof want, "%s2,3,4,5\n", head);
    expect_text(at("log/history.csv"), want);
    size_t n;
    char *json = slurp(at("log/history.json"), &n);
    json[n] = 0;
    assert_non_null(strstr(json, "\"val_\\\"loss\\\"\""));
    assert_non_null(strstr(json, "null"));
    free(json);
    assert_int_equal(gradc_history_open(&h, at("log"), names, 2, 2, &err), 1); /* other columns */
    assert_null(h);
    put("log/history.csv", "epoch,loss,\"val_\"\"loss\"\"\",seconds\n0,0.1,x,2\n", 44);
    assert_int_equal(gradc_history_open(&h, at("log"), names, 3, 2, &err), 1);
    assert_int_equal(gradc_history_open(&h, "/proc/nowhere", names, 3, 0, &err), 5);
}

/* The records' frames are sound; tools read the rest. */
static void event_files(void **state) {
    (void)state;
    assert_int_equal(gradc_crc32c("123456789", 9), 0xe3069283u); /* RFC 3720's check value */
    GradcEvents *ev;
    size_t n, records = 0;
    char path[400] = "";
    assert_int_equal(gradc_events_open(&ev, at("events"), &err), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(gradc_events_scalar(ev, "epoch_loss", i, 1.5 / (i + 1), &err), 0);
    assert_int_equal(gradc_events_close(ev, &err), 0);
    DIR *d = opendir(at("events"));
    for (struct dirent *entry; (entry = readdir(d));)
        if (!strncmp(entry->d_name, "events.out.tfevents.", 20))
            snprintf(path, sizeof path, "%s/%s", at("events"), entry->d_name);
    closedir(d);
    unsigned char *p = (unsigned char *)slurp(path, &n);
    for (size_t k = 0; k < n; records++) {
        uint64_t length;
        uint32_t sums[2], crc;
        memcpy(&length, p + k, 8);
        memcpy(&sums[0], p + k + 8, 4);
        crc = gradc_crc32c(p + k, 8);
        assert_int_equal(sums[0], (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u));
        assert_true(length < n - k - 12);
        memcpy(&sums[1], p + k + 12 + length, 4);
        crc = gradc_crc32c(p + k + 12, length);
        assert_int_equal(sums[1], (uint32_t)((crc >> 15 | crc << 17) + 0xa282ead8u));
        k += 16 + length;
    }
    assert_int_equal(records, 4);
    /* the last: step 2, epoch_loss = 0.5 */
    assert_memory_equal(p + n - 4 - 23,
                        "\x10\x02\x2a\x13\x0a\x11\x0a\x0a"
                        "epoch_loss\x15\0\0\0\x3f",
                        23);
    free(p);
    assert_int_equal(gradc_events_open(&ev, "/proc/nowhere", &err), 5);
}

static void progress_lines(void **state) {
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    GradcProgress p;
    const GradcMetric m[] = {{"accuracy", .9123}, {"loss", 1e-5}, {"val_loss", 0}};
    gradc_progress_open(&p, NULL); /* says nothing */
    gradc_progress_epoch(&p, 0, 1, 10, 0);
    gradc_progress_step(&p, 1, m, 3);
    gradc_progress_end(&p, 10, m, 3);
    gradc_progress_open(&p, f); /* no terminal: a line an epoch */
    gradc_progress_epoch(&p, 1, 5, 1875, 0);
    gradc_progress_step(&p, 3, m, 3);
    gradc_progress_break(&p);
    gradc_progress_end(&p, 1875, m, 3);
    fflush(f);
    assert_string_equal(
        text, "epoch 2/5: 1875 steps, 0.0 s - accuracy: 0.9123 - loss: 1.0000e-05 - val_loss: 0.0\n");
    fseek(f, 0, SEEK_SET);
    p.terminal = true;
    p.wide = false;
    gradc_progress_epoch(&p, 0, 2, 1875, 0);
    p.start -= 10;
    gradc_progress_step(&p, 1500, m, 2);
    gradc_progress_step(&p, 1501, m, 2); /* too soon after */
    gradc_progress_break(&p);
    gradc_progress_break(&p);
    gradc_progress_end(&p, 1875, m, 1);
    fclose(f);
    assert_non_null(strstr(text, "Epoch 1/2\n\r1500/1875 [================>...] 2s 7ms/step - accuracy: "
                                 "0.9123 - loss: 1.0000e\x1b[K\n\r1875/1875 "
                                 "[====================] 10s 5ms/step - accuracy: 0.9123\x1b[K\n"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(hostile_headers),
        cmocka_unit_test(checkpoint_round_trip),
        cmocka_unit_test(checkpoint_of_another_model),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(killed_while_writing),
        cmocka_unit_test(history_rows),
        cmocka_unit_test(event_files),
        cmocka_unit_test(progress_lines),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
