/* The runtime's tensors: formats, made-up data, values of a command line, printing, NumPy files. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include "tensor.h"

static GradcError err;

/* ---- errors ---- */

enum {
    EXIT_OK = 0,
    EXIT_INVALID = 1,
    EXIT_USAGE = 2,
    EXIT_UNSUPPORTED = 3,
    EXIT_LIMIT = 4,
    EXIT_IO = 5,
    EXIT_MEMORY = 6,
    EXIT_INTERNAL = 70
};

static void statuses_agree(void **state) {
    (void)state;
#define E(code, status, title) assert_int_equal(gradc_error_status(code), status);
#include "errors.def"
#undef E
}

static void errors_are_blocks(void **state) {
    (void)state;
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    GradcError e;
    assert_int_equal(gradc_error(&e, 602, "a remedy", "input %s is missing", "x"), 2);
    gradc_error_print(f, "model", &e);
    gradc_error(&e, 101, NULL, "gone");
    gradc_error_print(f, "model", &e);
    fclose(f);
    assert_string_equal(
        text, "model: error[E0602]: input x is missing\n  help: a remedy\nmodel: error[E0101]: gone\n");
    free(text);
}

/* ---- formats ---- */

static void halves(void **state) {
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        float f = gradc_f16_to_f32((uint16_t)h), b = gradc_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) assert_int_equal(gradc_f32_to_f16(f), h);
        if (!isnan(b)) assert_int_equal(gradc_f32_to_bf16(b), h);
        assert_int_equal(isnan(f) != 0, (h & 0x7c00) == 0x7c00 && (h & 0x3ff));
        assert_int_equal(isnan(b) != 0, (h & 0x7f80) == 0x7f80 && (h & 0x7f));
    }
    assert_int_equal(gradc_f32_to_f16(65519.0f), 0x7bff);
    assert_int_equal(gradc_f32_to_f16(65520.0f), 0x7c00); /* a tie goes to even, here to infinity */
    assert_int_equal(gradc_f32_to_f16(-2049.0f), 0xe800);
    assert_int_equal(gradc_f32_to_f16(2051.0f), 0x6802);
    assert_int_equal(gradc_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(gradc_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(gradc_f32_to_f16(-0.0f), 0x8000);
    assert_int_equal(gradc_f32_to_bf16(1.00390625f), 0x3f80); /* half of the last place */
    assert_int_equal(gradc_f32_to_bf16(1.01171875f), 0x3f82);
    assert_true(isnan(gradc_f16_to_f32(gradc_f32_to_f16(NAN))) &&
                isnan(gradc_bf16_to_f32(gradc_f32_to_bf16(NAN))));
}

static void shapes_are_checked(void **state) {
    (void)state;
    size_t count, bytes;
    int64_t huge[] = {INT64_MAX, 0}, wide[] = {1 << 30, 1 << 30, 8}, many[17] = {0};
    assert_int_equal(gradc_shape_bytes(GRADC_F32, 2, huge, &count, &bytes, &err), 4);
    assert_int_equal(gradc_shape_bytes(GRADC_F32, 3, wide, &count, &bytes, &err), 4);
    assert_int_equal(gradc_shape_bytes(GRADC_F32, 17, many, &count, &bytes, &err), 4);
    assert_int_equal(gradc_shape_bytes(GRADC_F32, 1, (int64_t[]){-1}, &count, &bytes, &err), 1);
    assert_int_equal(gradc_shape_bytes(GRADC_F64, 2, (int64_t[]){3, 5}, &count, &bytes, &err), 0);
    assert_int_equal(count, 15);
    assert_int_equal(bytes, 120);
    assert_int_equal(gradc_shape_bytes(GRADC_F64, 0, NULL, &count, &bytes, &err), 0);
    assert_int_equal(count, 1);
    char text[8];
    assert_string_equal(gradc_shape_text(text, sizeof text, GRADC_F32, 3, (int64_t[]){100, 200, 300}),
                        "f32[100");
}

/* ---- made-up data ---- */

/* The known answers of Random123 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3"). */
static void philox_answers(void **state) {
    (void)state;
    static const uint32_t answers[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        gradc_philox(answers[i], answers[i] + 4, out);
        assert_memory_equal(out, answers[i] + 6, sizeof out);
    }
}

static void random_data(void **state) {
    (void)state;
    int64_t dims[] = {999};
    GradcTensor wide, t;
    assert_int_equal(gradc_tensor_new(&wide, GRADC_F32, 1, dims, &err), 0);
    assert_int_equal(gradc_tensor_random(&wide, 7, &err), 0);
    for (int i = 0; i < 999; i++) assert_true(((float *)wide.data)[i] >= -1 && ((float *)wide.data)[i] < 1);
    assert_int_equal(gradc_tensor_new(&t, GRADC_F16, 1, dims, &err), 0);
    assert_int_equal(gradc_tensor_random(&t, 7, &err), 0);
    for (int i = 0; i < 999; i++) /* the wider one cut off, towards -1 */
        assert_true(fabsf(((float *)wide.data)[i] - gradc_f16_to_f32(((uint16_t *)t.data)[i])) < 0x1p-10f);
    gradc_tensor_free(&t);
    gradc_tensor_free(&wide);
    static const struct {
        int dtype, top;
    } whole[] = {{GRADC_U8, 9}, {GRADC_I4, 7}, {GRADC_U2, 3}, {GRADC_I2, 1}, {GRADC_BOOL, 1}};
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        int low = 100, high = -100;
        assert_int_equal(gradc_tensor_new(&t, whole[k].dtype, 1, dims, &err), 0);
        assert_int_equal(gradc_tensor_random(&t, 1, &err), 0);
        for (int i = 0; i < 999; i++) {
            int v = ((int8_t *)t.data)[i];
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
        assert_int_equal(low, 0);
        assert_int_equal(high, whole[k].top);
        gradc_tensor_free(&t);
    }
    assert_int_equal(gradc_tensor_new(&t, GRADC_STRING, 1, dims, &err), 0);
    assert_int_equal(gradc_tensor_random(&t, 1, &err), 1);
    gradc_tensor_free(&t);
}

/* ---- values and printing ---- */

static char *print(const GradcTensor *t, size_t limit) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    gradc_tensor_print(f, "x", t, limit);
    fclose(f);
    return text;
}

static int parse(GradcTensor *t, const char *value, int dtype, int rank, const int64_t *dims) {
    return gradc_value_parse(t, value, &(GradcWant){.dtype = dtype, .rank = rank, .dims = dims}, &err);
}

static const int64_t any[] = {-1, -1, -1, -1}, two_three[] = {2, 3}, three[] = {3};

static const struct {
    const char *value;
    int dtype, rank;
    const int64_t *dims;
    const char *printed;
} values[] = {
    {"3", GRADC_F32, 0, NULL, "x f32[] = 3\n"},
    {"0.1", GRADC_F32, 2, two_three, "x f32[2,3] = [[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]\n"},
    {"[1,2;3,4]", GRADC_F64, 2, any, "x f64[2,2] = [[1, 2], [3, 4]]\n"},
    {"[[1,2],[3,4]]", GRADC_I64, 2, any, "x i64[2,2] = [[1, 2], [3, 4]]\n"},
    {" [1 , 2,3] ", GRADC_I8, 1, any, "x i8[3] = [1, 2, 3]\n"},
    {"[1,2,3]", GRADC_U8, 3, any, "x u8[1,1,3] = [[[1, 2, 3]]]\n"},
    {"[]", GRADC_F32, 2, any, "x f32[0,0] = []\n"},
    {"[1;2;3]", GRADC_F32, 2, any, "x f32[3,1] = [[1], [2], [3]]\n"},
    {"[-1e-45,1e38,inf,-inf,nan,-0]", GRADC_F32, 1, any, "x f32[6] = [-1e-45, 1e+38, inf, -inf, nan, -0]\n"},
    {"[0.1,1e-7,65504]", GRADC_F16, 1, any, "x f16[3] = [0.1, 1e-07, 65504]\n"},
    {"[-128,127,0x7f]", GRADC_I8, 1, any, "x i8[3] = [-128, 127, 127]\n"},
    {"18446744073709551615", GRADC_U64, 0, NULL, "x u64[] = 18446744073709551615\n"},
    {"-9223372036854775808", GRADC_I64, 0, NULL, "x i64[] = -9223372036854775808\n"},
    {"1e3", GRADC_I32, 0, NULL, "x i32[] = 1000\n"},
    {"[true,false,1,0]", GRADC_BOOL, 1, any, "x bool[4] = [true, false, true, false]\n"},
    {"\"a\\\"b\\n\"", GRADC_STRING, 0, NULL, "x string[] = \"a\\\"b\\x0a\"\n"},
    {"[\"a\",\"];b\"]", GRADC_STRING, 1, any, "x string[2] = [\"a\", \"];b\"]\n"},
    {"zeros", GRADC_STRING, 1, three, "x string[3] = [\"\", \"\", \"\"]\n"},
    {"[1+2j,-3j,nan+infj,5]", GRADC_C64, 1, any, "x c64[4] = [1+2j, 0-3j, nan+infj, 5+0j]\n"},
    {"ones", GRADC_BF16, 1, three, "x bf16[3] = [1, 1, 1]\n"},
    {"zeros", GRADC_I4, 1, three, "x i4[3] = [0, 0, 0]\n"},
    {"[-8,7]", GRADC_I4, 1, any, "x i4[2] = [-8, 7]\n"},
    {"[0,0.5,1,1.5,2,3,4,6,-6]", GRADC_F4E2M1, 1, any, "x f4e2m1[9] = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -6]\n"},
    {"[448,nan]", GRADC_F8E4M3FN, 1, any, "x f8e4m3fn[2] = [448, nan]\n"},
    {"[2,0.25]", GRADC_F8E8M0, 1, any, "x f8e8m0[2] = [2, 0.25]\n"},
};

static const struct { const char *value; int dtype, rank; const int64_t *dims; int code;
} bad_values[] = {
    {"", GRADC_F32, 0, NULL, 601},           {"x", GRADC_F32, 0, NULL, 601},
    {"1 2", GRADC_F32, 0, NULL, 601},        {"[1,2", GRADC_F32, 1, any, 601},
    {"[1,,2]", GRADC_F32, 1, any, 601},      {"[1,2]]", GRADC_F32, 1, any, 601},
    {"[[1,2],[3]]", GRADC_F32, 2, any, 601}, {"[1,2;3]", GRADC_F32, 2, any, 601},
    {"[1,[2]]", GRADC_F32, 2, any, 601},     {"[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", GRADC_F32, 2, any, 601},
    {"rand:x", GRADC_F32, 0, NULL, 601},     {"rand:-1", GRADC_F32, 0, NULL, 601},
    {"rand:1.5", GRADC_F32, 0, NULL, 601},   {"1e400", GRADC_F64, 0, NULL, 601},
    {"0x", GRADC_I32, 0, NULL, 601},         {"0x11111111111111111", GRADC_U64, 0, NULL, 601},
    {"1e", GRADC_F32, 0, NULL, 601},         {"\"a", GRADC_STRING, 0, NULL, 601},
    {"\"\\q\"", GRADC_STRING, 0, NULL, 601}, {"\"\\x00\"", GRADC_STRING, 0, NULL, 601},
    {"3", GRADC_STRING, 0, NULL, 601},       {"\"a\"", GRADC_F32, 0, NULL, 601},
    {"1+2", GRADC_C64, 0, NULL, 601},        {"ones", GRADC_STRING, 0, NULL, 601},
    {"rand", GRADC_STRING, 0, NULL, 603},    {"1e39", GRADC_F32, 0, NULL, 603},
    {"70000", GRADC_F16, 0, NULL, 603},      {"449", GRADC_I8, 0, NULL, 603},
    {"-1", GRADC_U8, 0, NULL, 603},          {"1.5", GRADC_I32, 0, NULL, 603},
    {"8", GRADC_I4, 0, NULL, 603},           {"2", GRADC_BOOL, 0, NULL, 603},
    {"nan", GRADC_I32, 0, NULL, 603},        {"18446744073709551616", GRADC_U64, 0, NULL, 603},
    {"true", GRADC_F32, 0, NULL, 603},       {"7", GRADC_F4E2M1, 0, NULL, 603},
    {"zeros", GRADC_F8E8M0, 0, NULL, 603},   {"3", GRADC_F8E8M0, 0, NULL, 603},
    {"[1,2]", GRADC_F32, 1, three, 603},     {"[[1,2],[3,4]]", GRADC_F32, 1, any, 603},
    {"[]", GRADC_F32, 1, three, 603},        {"@missing.npy", GRADC_F32, 0, NULL, 101},
};

static void values_parse(void **state) {
    (void)state;
    GradcTensor t;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (parse(&t, values[i].value, values[i].dtype, values[i].rank, values[i].dims))
            fail_msg("%s: %s", values[i].value, err.text);
        char *text = print(&t, 100);
        assert_string_equal(text, values[i].printed);
        free(text);
        gradc_tensor_free(&t);
    }
    for (size_t i = 0; i < sizeof bad_values / sizeof *bad_values; i++) {
        err.code = 0;
        int status =
            parse(&t, bad_values[i].value, bad_values[i].dtype, bad_values[i].rank, bad_values[i].dims);
        if (!status || err.code != bad_values[i].code)
            fail_msg("%s: E%d %s", bad_values[i].value, err.code, err.text);
        assert_int_equal(status, gradc_error_status(err.code));
        assert_null(t.data);
    }
}

/* Every encoding of the narrow floats prints as a number that reads back as the same encoding. */
static void narrow_floats_read_back(void **state) {
    (void)state;
    static const int dtypes[] = {GRADC_F8E4M3FN,   GRADC_F8E4M3FNUZ, GRADC_F8E5M2,
                                 GRADC_F8E5M2FNUZ, GRADC_F8E8M0,     GRADC_F4E2M1};
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++)
        for (int code = 0; code < (dtypes[k] == GRADC_F4E2M1 ? 16 : 256); code++) {
            unsigned char element = (unsigned char)code;
            GradcTensor t = {.dtype = dtypes[k], .data = &element, .bytes = 1}, back;
            char value[64], *text = print(&t, 100);
            assert_int_equal(sscanf(text, "x %*[a-z0-9][] = %63s", value), 1);
            if (parse(&back, value, dtypes[k], 0, NULL)) fail_msg("%s: %s", text, err.text);
            if (strcmp(value, "nan")) assert_int_equal(*(unsigned char *)back.data, code);
            gradc_tensor_free(&back);
            free(text);
        }
}

static void long_tensors_are_shortened(void **state) {
    (void)state;
    GradcTensor t;
    assert_int_equal(gradc_tensor_new(&t, GRADC_I32, 2, (int64_t[]){2, 60}, &err), 0);
    for (int i = 0; i < 120; i++) ((int *)t.data)[i] = i;
    char *text = print(&t, 100);
    assert_string_equal(text,
                        "x i32[2,60] = [[0, 1, 2, ..., 57, 58, 59], [60, 61, 62, ..., 117, 118, 119]]\n");
    free(text);
    gradc_tensor_free(&t);
}

static void copies_own_their_strings(void **state) {
    (void)state;
    GradcTensor t, copy;
    assert_int_equal(parse(&t, "[\"ab\",\"\",\"c\"]", GRADC_STRING, 1, any), 0);
    assert_int_equal(gradc_tensor_copy(&copy, &t, &err), 0);
    gradc_tensor_free(&t);
    assert_string_equal(((char **)copy.data)[0], "ab");
    assert_string_equal(((char **)copy.data)[2], "c");
    gradc_tensor_free(&copy);
}

/* ---- NumPy files ---- */

static const char file[] = "runtime-test.npy";

static void put_file(const void *bytes, size_t n) {
    FILE *f = fopen(file, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* A version 1 file of a header as given. */
static int read_header(GradcTensor *t, const char *header, const void *data, size_t n, int dtype) {
    char bytes[1024] = "\x93NUMPY\x01";
    size_t length = strlen(header);
    bytes[8] = (char)(length & 255);
    bytes[9] = (char)(length >> 8);
    memcpy(bytes + 10, header, length);
    if (n) memcpy(bytes + 10 + length, data, n);
    put_file(bytes, 10 + length + n);
    return gradc_npy_read(t, file, dtype, &err);
}

static void npy_round_trip(void **state) {
    (void)state;
    for (int dtype = 0; dtype < GRADC_DTYPES; dtype++) {
        GradcTensor t, back;
        if (dtype == GRADC_STRING) continue;
        for (int rank = 0; rank < 4; rank++) {
            assert_int_equal(gradc_tensor_new(&t, dtype, rank, (int64_t[]){2, 3, 0}, &err), 0);
            assert_int_equal(gradc_tensor_random(&t, 3, &err), 0);
            assert_int_equal(gradc_npy_write(&t, file, &err), 0);
            if (gradc_npy_read(&back, file, dtype, &err))
                fail_msg("%s: %s", gradc_dtype_name(dtype), err.text);
            assert_int_equal(back.dtype, dtype);
            assert_int_equal(back.rank, rank);
            assert_memory_equal(back.dims, t.dims, sizeof t.dims);
            assert_memory_equal(back.data, t.data, t.bytes);
            gradc_tensor_free(&t);
            gradc_tensor_free(&back);
        }
    }
    unlink(file);
}

static void npy_other_forms(void **state) {
    (void)state;
    GradcTensor t;
    const unsigned char fortran[] = {1, 4, 2, 5, 3, 6}, big[] = {0, 1, 2, 0}, truth[] = {0, 1, 7};
    assert_int_equal(
        read_header(&t, "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", fortran, 6, -1), 0);
    assert_memory_equal(t.data, ((unsigned char[]){1, 2, 3, 4, 5, 6}), 6);
    gradc_tensor_free(&t);
    assert_int_equal(read_header(&t, "{\"shape\":(2,),'fortran_order':False,'descr':'>i2'}\n", big, 4, -1),
                     0);
    assert_int_equal(((int16_t *)t.data)[0], 1);
    assert_int_equal(((int16_t *)t.data)[1], 512);
    gradc_tensor_free(&t);
    assert_int_equal(
        read_header(&t, "{'descr': '|b1', 'fortran_order': False, 'shape': (3L,)}", truth, 3, -1), 0);
    assert_int_equal(((unsigned char *)t.data)[2], 1);
    gradc_tensor_free(&t);
    assert_int_equal(
        read_header(&t, "{'descr': '<f4', 'fortran_order': False, 'shape': ()}", "\0\0\x80?", 4, -1), 0);
    assert_int_equal(t.rank, 0);
    gradc_tensor_free(&t);
    unlink(file);
}

static const struct { const char *header; int code; } bad_headers[] = {
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", 505},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}", 103},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 103},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)}", 505},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 103},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 103},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': ()", 103},
    {"{'descr': '<f4', 'shape': ()}", 103},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", 103},
    {"{'descr': '<f4', 'fortran_order': Maybe, 'shape': ()}", 103},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", 103},
    {"{'descr': '<f16', 'fortran_order': False, 'shape': ()}", 603},
    {"{'descr': '|O', 'fortran_order': False, 'shape': ()}", 103},
    {"{'descr': '<U4', 'fortran_order': False, 'shape': ()}", 603},
    {"{'descr': [('a','<f4')], 'fortran_order': False, 'shape': ()}", 603},
    {"", 103},
};

static void npy_hostile(void **state) {
    (void)state;
    GradcTensor t;
    for (size_t i = 0; i < sizeof bad_headers / sizeof *bad_headers; i++) {
        int status = read_header(&t, bad_headers[i].header, "\0\0\0\0", 4, -1);
        if (!status || err.code != bad_headers[i].code)
            fail_msg("%s: E%d %s", bad_headers[i].header, err.code, err.text);
        assert_null(t.data);
    }
    assert_int_equal(
        read_header(&t, "{'descr': '<i1', 'fortran_order': False, 'shape': (2,)}", "\x07\x08", 2, GRADC_I4),
        1);
    assert_int_equal(err.code, 603);
    assert_int_equal(gradc_npy_read(&t, ".", -1, &err), 5);
    unlink(file);
}

static void npy_cut_and_flipped(void **state) {
    (void)state;
    GradcTensor t;
    char bytes[256];
    assert_int_equal(gradc_tensor_new(&t, GRADC_F32, 2, (int64_t[]){2, 3}, &err), 0);
    assert_int_equal(gradc_tensor_random(&t, 3, &err), 0);
    assert_int_equal(gradc_npy_write(&t, file, &err), 0);
    gradc_tensor_free(&t);
    FILE *f = fopen(file, "rb");
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_int_equal(n, 64 + 64 + 24);
    for (size_t cut = 0; cut < n; cut++) {
        put_file(bytes, cut);
        assert_int_equal(gradc_npy_read(&t, file, GRADC_F32, &err), 1);
        assert_int_equal(err.code, 103);
        assert_null(t.data);
    }
    for (size_t at = 0; at < 128; at++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] ^= (char)(1 << bit);
            put_file(bytes, n);
            if (!gradc_npy_read(&t, file, GRADC_F32, &err)) gradc_tensor_free(&t);
            bytes[at] ^= (char)(1 << bit);
        }
    put_file("\x93NUMPY\x02\x00\xff\xff\xff\x7f", 12);
    assert_int_equal(gradc_npy_read(&t, file, -1, &err), 1);
    unlink(file);
}

static void npy_write_fails_whole(void **state) {
    (void)state;
    GradcTensor t;
    assert_int_equal(parse(&t, "[\"a\"]", GRADC_STRING, 1, any), 0);
    assert_int_equal(gradc_npy_write(&t, file, &err), 1);
    gradc_tensor_free(&t);
    assert_int_equal(parse(&t, "[1]", GRADC_F32, 1, any), 0);
    assert_int_equal(gradc_npy_write(&t, "missing-directory/x.npy", &err), 5);
    assert_int_equal(err.code, 106);
    gradc_tensor_free(&t);
    assert_int_equal(access(file, F_OK), -1);
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
        cmocka_unit_test(statuses_agree), cmocka_unit_test(errors_are_blocks), cmocka_unit_test(halves),
        cmocka_unit_test(shapes_are_checked), cmocka_unit_test(philox_answers), cmocka_unit_test(random_data),
        cmocka_unit_test(values_parse), cmocka_unit_test(narrow_floats_read_back),
        cmocka_unit_test(long_tensors_are_shortened), cmocka_unit_test(copies_own_their_strings),
        cmocka_unit_test(npy_round_trip), cmocka_unit_test(npy_other_forms), cmocka_unit_test(npy_hostile),
        cmocka_unit_test(npy_cut_and_flipped), cmocka_unit_test(npy_write_fails_whole),
    };
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
