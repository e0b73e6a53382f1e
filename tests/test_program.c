/* The command line of an emitted executable, over a program written by hand: a symbolic batch, two inputs, an
   output of computed dims, and one whose size only the data decides.

     scale(x: f32[N,3], w: f32[3]) -> (y: f32[N,3], twice: f32[?], where: i64[K])
   y = x * w; twice = the elements of y, each two times; where = the flat indices of y that are not 0, in the
   arena. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "program.h"

enum { N, K };

static void scale_dims(const int64_t *syms, int64_t *dims) {
    const int64_t d[] = {syms[N], 3, syms[N] < 0 ? -1 : 6 * syms[N], syms[K]};
    memcpy(dims, d, sizeof d);
}
static size_t scale_arena(const int64_t *syms) { return syms[N] >= 0 ? 16 : 0; }

static int runs; /* how often scale_run was entered */
static int scale_run(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t arena_bytes) {
    const float *x = ins[0], *w = ins[1];
    float *y = outs[0], *twice = outs[1];
    int64_t *where = outs[2] ? outs[2] : arena, k = 0;
    runs++;
    if (syms[K] != -1 || (uintptr_t)arena % GRADC_ALIGN) return 90;
    for (int64_t i = 0; i < 3 * syms[N]; i++) {
        y[i] = x[i] * w[i % 3];
        twice[2 * i] = twice[2 * i + 1] = y[i];
        if (y[i] > 1e6f) return 17;
        if (y[i] < -1e6f) return GRADC_RUN_INDEX;
        if (y[i] == 0) continue;
        if ((size_t)(k + 1) * sizeof *where > arena_bytes) { syms[K] = k; return GRADC_RUN_ARENA; }
        where[k++] = i;
    }
    outs[2] = where;
    syms[K] = k;
    return GRADC_RUN_OK;
}
static const char *scale_status(int status) {
    return status == 17 ? "an element of y is over a million" : NULL;
}

static const int64_t x_dims[] = {-1, 3}, w_dims[] = {3}, twice_dims[] = {GRADC_DIM_COMPUTED},
                     where_dims[] = {-2};
static const GradcPort scale_in[] = {{"x", GRADC_F32, 2, x_dims}, {"w", GRADC_F32, 1, w_dims}};
static const GradcPort scale_out[] = {
    {"y", GRADC_F32, 2, x_dims}, {"twice", GRADC_F32, 1, twice_dims}, {"where", GRADC_I64, 1, where_dims}};
static const char *const scale_syms[] = {"N", "K"};
static const int64_t scale_lo[] = {0, 0}, scale_hi[] = {1000, INT64_MAX};
static const GradcProgram scale = {"scale",  "0.1.0",   2,          scale_syms,  scale_lo,  scale_hi,    2, 3,
                                   scale_in, scale_out, scale_dims, scale_arena, scale_run, scale_status};

static GradcError err;
typedef struct Line { int argc; char *argv[12]; } Line;
#define LINE(...) (Line){(int)(sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)), {__VA_ARGS__}}

/* What the program prints for these words; NULL and err when it fails. */
static char *answer(const GradcProgram *p, Line l, int *status) {
    char *text = NULL;
    size_t n;
    GradcArgs a;
    err = (GradcError){0};
    if ((*status = gradc_args_parse(&a, l.argc, l.argv, &err))) return NULL;
    FILE *f = open_memstream(&text, &n);
    *status = gradc_program_run(p, &a, f, &err);
    fclose(f);
    gradc_args_free(&a);
    if (!*status) return text;
    assert_string_equal(text, "");
    free(text);
    return NULL;
}

/* ---- what it answers ---- */

static const struct { Line line; const char *text;
} answers[] = {
    {LINE("x=[1,2,3]", "w=[1,0,2]"),
     "y f32[1,3] = [[1, 0, 6]]\ntwice f32[6] = [1, 1, 0, 0, 6, 6]\nwhere i64[2] = [0, 2]\n"},
    {LINE("w=1", "x=[0,0,0;0,5,0]"),
     "y f32[2,3] = [[0, 0, 0], [0, 5, 0]]\n"
     "twice f32[12] = [0, 0, 0, 0, 0, 0, 0, 0, 5, 5, 0, 0]\nwhere i64[1] = [4]\n"},
    {LINE("[0,0,7]", "[0,0,-1]"),
     "y f32[1,3] = [[0, 0, -7]]\ntwice f32[6] = [0, 0, 0, 0, -7, -7]\nwhere i64[1] = [2]\n"},
    {LINE("w=ones", "zeros"),
     "y f32[1,3] = [[0, 0, 0]]\ntwice f32[6] = [0, 0, 0, 0, 0, 0]\nwhere i64[0] = []\n"},
    {LINE("x=zeros", "w=0", "--dim", "N=0"), "y f32[0,3] = []\ntwice f32[0] = []\nwhere i64[0] = []\n"},
    {LINE("x=-1", "w=1", "--dim=N=1", "--threads=2", "--repeat=3"),
     "y f32[1,3] = [[-1, -1, -1]]\ntwice f32[6] = [-1, -1, -1, -1, -1, -1]\nwhere i64[3] = [0, 1, 2]\n"},
    {LINE("--", "-1", "1"),
     "y f32[1,3] = [[-1, -1, -1]]\ntwice f32[6] = [-1, -1, -1, -1, -1, -1]\nwhere i64[3] = [0, 1, 2]\n"},
    {LINE("-1", "-.5"), "y f32[1,3] = [[0.5, 0.5, 0.5]]\n"
                        "twice f32[6] = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]\nwhere i64[3] = [0, 1, 2]\n"},
};

static void it_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        int status;
        char *text = answer(&scale, answers[i].line, &status);
        if (!text) fail_msg("line %zu: E%d %s", i, err.code, err.text);
        assert_string_equal(text, answers[i].text);
        free(text);
    }
}

/* ---- what it refuses ---- */

static const struct { Line line; int code; const char *text; } refused[] = {
    {{0}, 602, "inputs x, w are missing"},
    {LINE("x=1"), 602, "input w is missing"},
    {LINE("1", "2", "3"), 602, "3: there are only 2 inputs"},
    {LINE("z=1", "w=1"), 602, "there is no input z"},
    {LINE("x=1", "x=2", "w=1"), 602, "input x is given twice"},
    {LINE("x=1", "w=1", "--dim", "M=3"), 602, "--dim: there is no size M"},
    {LINE("x=1", "w=1", "--dim", "K=3"), 602, "--dim: only the data decides the size K"},
    {LINE("x=1", "w=1", "--dim", "N=1001"), 603, "--dim: N is 1001; it is from 0 to 1000"},
    {LINE("x=1", "w=1", "--dim", "N=1", "--dim", "N=2"), 603, "--dim: N is 1 already"},
    {LINE("x=1", "w=1", "--dim", "N=99999999999999999999"), 601, "--dim: 99999999999999999999 is not a size"},
    {LINE("x=1", "w=1", "--dim", "N"), 601, "--dim: N is not NAME=SIZE"},
    {LINE("x=1", "w=1", "--dim"), 601, "--dim needs a value"},
    {LINE("x=[1,2,3;4,5,6]", "w=1", "--dim", "N=1"), 603, "input x: dim 0 is 2, but N is 1 by --dim"},
    {LINE("x=1", "w=[1,2]"), 603, "input w: it is f32[2], but f32[3] is wanted"},
    {LINE("x=1", "w=[1,2;3,4]"), 603, "input w: it is f32[2,2], but f32[3] is wanted"},
    {LINE("x=\"a\"", "w=1"), 601, "input x: \"a\": a number is expected at column 1"},
    {LINE("x=@missing.npy", "w=1"), 101, "input x: missing.npy: No such file or directory"},
    {LINE("--threads", "0"), 601, "--threads: \"0\" is not a number from 1 to 1000000"},
    {LINE("--repeat=-1"), 601, "--repeat: \"-1\" is not a number from 1 to 1000000"},
    {LINE("--repeat=1x"), 601, "--repeat: \"1x\" is not a number from 1 to 1000000"},
    {LINE("--frobnicate"), 601, "unknown option --frobnicate"},
    {LINE("--time=3"), 601, "--time takes no value"},
    {LINE("--out="), 601, "--out: the directory is empty"},
    {LINE("x=2e6", "w=1"), 303, "an element of y is over a million"},
    {LINE("x=-2e6", "w=1"), 303, "the value of an input is out of range"},
};

static void it_refuses(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int status;
        char *text = answer(&scale, refused[i].line, &status);
        if (text) fail_msg("line %zu was answered: %s", i, text);
        assert_string_equal(err.text, refused[i].text);
        assert_int_equal(err.code, refused[i].code);
        assert_int_equal(status, gradc_error_status(err.code));
    }
    int status;
    answer(&scale, LINE("x=1"), &status);
    assert_string_equal(err.help,
                        "expected are x f32[N,3], w f32[3]; give NAME=@FILE.npy, NAME=rand or NAME=[1,2,3]");
}

/* ---- symbols shared between inputs and within one ---- */

static void none_dims(const int64_t *syms, int64_t *dims) { (void)syms, (void)dims; }
static size_t none_arena(const int64_t *syms) { (void)syms; return 0; }
static int none_run(const void *const *ins, void **outs, int64_t *syms, void *arena, size_t bytes) {
    (void)ins, (void)outs, (void)syms, (void)arena, (void)bytes;
    return 0;
}
static const int64_t square_dims[] = {-1, -1}, row_dims[] = {-1}, pair_lo[] = {2};
static const GradcPort pair_in[] = {{"a", GRADC_I32, 2, square_dims}, {"b", GRADC_I32, 1, row_dims}};
static const GradcProgram pair = {"pair", "0",     1,    scale_syms, pair_lo,    scale_hi, 2,
                                  0,      pair_in, NULL, none_dims,  none_arena, none_run, NULL};

static void symbols_agree(void **state) {
    (void)state;
    int status;
    free(answer(&pair, LINE("a=[1,2;3,4]", "b=[1,2]"), &status));
    assert_int_equal(status, 0);
    free(answer(&pair, LINE("a=rand", "b=[1,2,3]"), &status)); /* b has a shape of its own, so a follows */
    assert_int_equal(status, 0);
    free(answer(&pair, LINE("a=rand", "b=rand"), &status)); /* the smallest that is allowed */
    assert_int_equal(status, 0);
    assert_null(answer(&pair, LINE("a=[1,2,3;3,4,5]", "b=1"), &status));
    assert_string_equal(err.text, "input a: dim 1 is 3, but N is 2");
    assert_null(answer(&pair, LINE("a=[1,2;3,4]", "b=[1,2,3]"), &status));
    assert_string_equal(err.text, "input b: dim 0 is 3, but N is 2 in input a");
    assert_null(answer(&pair, LINE("a=[1]", "b=[1]"), &status));
    assert_string_equal(err.text, "input a: N is 1; it is from 2 to 1000");
}

/* ---- calls ---- */

static void set(GradcCall *c, int i, const char *value) {
    GradcTensor t;
    const GradcPort *port = &c->program->in[i];
    int64_t dims[] = {-1, -1};
    assert_int_equal(gradc_value_parse(&t, value,
                                       &(GradcWant){.dtype = port->dtype, .rank = port->rank, .dims = dims},
                                       &err),
                     0);
    assert_int_equal(gradc_call_set(c, i, &t, &err), 0);
    assert_null(t.data);
}

static void calls_are_used_again(void **state) {
    (void)state;
    GradcCall c;
    assert_int_equal(gradc_call_open(&c, &scale, &err), 0);
    assert_int_equal(gradc_call_run(&c, &err), 2);
    assert_string_equal(err.text, "input x is missing");
    set(&c, 0, "[1,2,3;4,5,6]");
    set(&c, 1, "[1,1,1]");
    assert_int_equal(gradc_call_run(&c, &err), 0);
    assert_int_equal(c.out[0].dims[0], 2);
    void *kept = c.out[0].data;
    assert_int_equal(gradc_call_run(&c, &err), 0);
    assert_ptr_equal(c.out[0].data, kept);
    set(&c, 0, "[0,0,3]"); /* another batch */
    assert_int_equal(gradc_call_run(&c, &err), 0);
    assert_int_equal(c.out[0].dims[0], 1);
    assert_int_equal(c.out[2].dims[0], 1);
    assert_int_equal(((int64_t *)c.out[2].data)[0], 2);
    gradc_call_close(&c);
    assert_int_equal(gradc_call_open(&c, &pair, &err), 0); /* one input set anew leaves the other behind */
    set(&c, 0, "[1,2;3,4]");
    set(&c, 1, "[1,2]");
    set(&c, 0, "[1,2,3;4,5,6;7,8,9]");
    assert_int_equal(gradc_call_run(&c, &err), 1);
    assert_string_equal(err.text, "input b: dim 0 is 2, but N is 3 in input a");
    set(&c, 1, "[1,2,3]");
    assert_int_equal(gradc_call_run(&c, &err), 0);
    gradc_call_close(&c);
}

static void arena_grows(void **state) {
    (void)state;
    GradcCall c;
    assert_int_equal(gradc_call_open(&c, &scale, &err), 0);
    assert_int_equal(gradc_call_dim(&c, "N", 1000, &err), 0);
    GradcArgs a = {.values = (const char *[]){"1", "1"}, .nvalues = 2};
    assert_int_equal(gradc_call_args(&c, &a, &err), 0);
    runs = 0;
    assert_int_equal(gradc_call_run(&c, &err), 0);
    assert_int_equal(runs, 4); /* with 16, 8192, 16384, 32768 bytes: 3000 indices need 24000 */
    assert_true(c.arena_bytes >= 24000);
    assert_int_equal(c.out[2].dims[0], 3000);
    assert_int_equal(((int64_t *)c.out[2].data)[2999], 2999);
    runs = 0;
    assert_int_equal(gradc_call_run(&c, &err), 0);
    assert_int_equal(runs, 1);
    gradc_call_close(&c);
}

static size_t endless_arena(const int64_t *syms) { (void)syms; return SIZE_MAX; }

static void arena_ends(void **state) {
    (void)state;
    GradcProgram p = {"greedy", "0",  0,    NULL,      NULL,          NULL,     0,
                      0,        NULL, NULL, none_dims, endless_arena, none_run, NULL};
    int status;
    assert_null(answer(&p, (Line){0}, &status));
    assert_int_equal(err.code, 506);
    assert_int_equal(status, 6);
}

/* ---- files ---- */

static int entries(const char *dir) {
    DIR *d = opendir(dir);
    int n = 0;
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void files_are_written(void **state) {
    (void)state;
    int status;
    GradcTensor t;
    free(answer(&scale, LINE("x=[1,2,3]", "w=1", "--out", "program-test"), &status));
    assert_int_equal(status, 0);
    assert_int_equal(entries("program-test"), 3);
    assert_int_equal(gradc_npy_read(&t, "program-test/twice.npy", -1, &err), 0);
    assert_memory_equal(t.data, ((float[]){1, 1, 2, 2, 3, 3}), 24);
    gradc_tensor_free(&t);
    char *text = answer(&scale, LINE("x=@program-test/y.npy", "w=[2,2,2]"), &status);
    assert_non_null(strstr(text, "y f32[1,3] = [[2, 4, 6]]"));
    free(text);
    assert_null(answer(&scale, LINE("x=@program-test/where.npy", "w=1"), &status));
    assert_string_equal(err.text, "input x: it is i64[3], but f32[N,3] is wanted");
    assert_string_equal(err.help, "convert it where it was made (NumPy: x.astype)");
}

/* A slash of a name is no directory, and no way out of the one that was asked for. */
static void names_with_slashes(void **state) {
    (void)state;
    int status;
    GradcPort out[3];
    GradcProgram p = scale;
    memcpy(out, scale_out, sizeof out);
    p.out = out;
    out[0].name = "gpu_0/softmax_1", out[1].name = "../twice";
    free(answer(&p, LINE("x=[1,2,3]", "w=1", "--out", "program-test"), &status));
    assert_int_equal(status, 0);
    assert_int_equal(unlink("program-test/gpu_0_softmax_1.npy") | unlink("program-test/.._twice.npy"), 0);
    unlink("program-test/where.npy");
    out[1].name = "gpu_0_softmax_1";
    assert_null(answer(&p, LINE("x=[1,2,3]", "w=1", "--out", "program-test"), &status));
    assert_int_equal(err.code, 106);
    assert_string_equal(err.text, "program-test/gpu_0_softmax_1.npy: two outputs would be this file");
    assert_int_equal(rmdir("program-test"), 0);
}

/* The last output cannot be written: the first one keeps its old contents and nothing else stays. */
static void files_are_all_or_none(void **state) {
    (void)state;
    int status;
    GradcTensor t;
    unlink("program-test/where.npy");
    assert_int_equal(mkdir("program-test/where.npy", 0777), 0);
    assert_null(answer(&scale, LINE("x=[7,8,9]", "w=1", "--out=program-test"), &status));
    assert_int_equal(err.code, 106);
    assert_int_equal(entries("program-test"), 3);
    assert_int_equal(gradc_npy_read(&t, "program-test/y.npy", -1, &err), 0);
    assert_memory_equal(t.data, ((float[]){1, 2, 3}), 12);
    gradc_tensor_free(&t);
    assert_null(answer(&scale, LINE("x=1", "w=1", "--out=program-test/y.npy"), &status));
    assert_int_equal(err.code, 106);
    assert_null(answer(&scale, LINE("x=1", "w=1", "--out=program-test/a/b"), &status));
    assert_int_equal(status, 5);
    rmdir("program-test/where.npy");
    unlink("program-test/y.npy");
    unlink("program-test/twice.npy");
    assert_int_equal(rmdir("program-test"), 0);
}

/* ---- the whole ---- */

static void help_shows_shapes(void **state) {
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    gradc_program_help(&scale, f);
    fclose(f);
    static const char start[] =
        "usage: scale NAME=VALUE ... [options]\n\ninputs\n  x  f32[N,3]\n  w  f32[3]\n\noutputs\n"
        "  y      f32[N,3]\n  twice  f32[?]\n  where  i64[K]\n\nsizes\n  N  0..1000\n  K  0..  (the data "
        "decides)\n";
    assert_memory_equal(text, start, sizeof start - 1);
    free(text);
}

/* Runs main in a child; its output goes to files. Returns the exit status. */
static int main_of(Line l, char *out, char *errors, size_t room) {
    FILE *files[2] = {tmpfile(), tmpfile()};
    char *argv[14] = {"some/path", NULL};
    memcpy(argv + 1, l.argv, (size_t)l.argc * sizeof *argv);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        dup2(fileno(files[0]), 1);
        dup2(fileno(files[1]), 2);
        int status = gradc_program_main(&scale, l.argc + 1, argv);
        fflush(NULL);
        _exit(status);
    }
    int status;
    waitpid(child, &status, 0);
    for (int i = 0; i < 2; i++) {
        char *to = i ? errors : out;
        rewind(files[i]);
        to[fread(to, 1, room - 1, files[i])] = 0;
        fclose(files[i]);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void main_ends_as_promised(void **state) {
    (void)state;
    static char out[4096], errors[4096];
    assert_int_equal(main_of(LINE("--version"), out, errors, sizeof out), 0);
    assert_string_equal(out, "scale 0.1.0\n");
    assert_int_equal(main_of(LINE("-h"), out, errors, sizeof out), 0);
    assert_int_equal(strncmp(out, "usage: scale", 12), 0);
    assert_string_equal(errors, "");
    assert_int_equal(main_of(LINE("x=1"), out, errors, sizeof out), 2);
    assert_string_equal(out, "");
    assert_string_equal(
        errors,
        "scale: error[E0602]: input w is missing\n"
        "  help: expected are x f32[N,3], w f32[3]; give NAME=@FILE.npy, NAME=rand or NAME=[1,2,3]\n");
    assert_int_equal(main_of(LINE("x=1", "w=1", "--time", "--repeat", "4"), out, errors, sizeof out), 0);
    assert_int_equal(strncmp(errors, "time: 4 runs, min ", 18), 0);
    assert_non_null(strstr(out, "y f32[1,3] = [[1, 1, 1]]\n"));
    assert_int_equal(main_of(LINE("x=2e6", "w=1"), out, errors, sizeof out), 1);
    if (access("/dev/full", W_OK)) return;
    FILE *full = fopen("/dev/full", "w");
    GradcArgs a = {.values = (const char *[]){"1", "1"}, .nvalues = 2};
    assert_int_equal(gradc_program_run(&scale, &a, full, &err), 5);
    assert_int_equal(err.code, 106);
    fclose(full);
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
        cmocka_unit_test(it_answers), cmocka_unit_test(it_refuses), cmocka_unit_test(symbols_agree),
        cmocka_unit_test(calls_are_used_again), cmocka_unit_test(arena_grows), cmocka_unit_test(arena_ends),
        cmocka_unit_test(files_are_written), cmocka_unit_test(files_are_all_or_none),
        cmocka_unit_test(names_with_slashes),
        cmocka_unit_test(help_shows_shapes), cmocka_unit_test(main_ends_as_promised),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
