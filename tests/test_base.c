/* The foundation: arena, maps, diagnostics; and the tensors of the runtime, which must agree with dtype.def. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "expr.h"
#include "tensor.h"

static void refuse(Ctx *c, void *arg) { (void)arg; gd_fail(c, 204, "a remedy", "attribute %d", 7); }
static void exhaust(Ctx *c, void *arg) { (void)arg; for (;;) gd_alloc(c, 1000); }
static void overflow(Ctx *c, void *arg) { (void)arg; gd_mul(c, INT64_MAX, 2); }

static void doors(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    assert_int_equal(gd_enter(c, refuse, NULL), EXIT_INVALID);
    assert_string_equal(gd_diag(c, 0)->message, "attribute 7");
    assert_string_equal(gd_diag(c, 0)->help, "a remedy");
    assert_int_equal(gd_enter(c, overflow, NULL), EXIT_LIMIT);
    gd_close(c);
}

static void budget_is_kept(void **state) {
    (void)state;
    Ctx *c = gd_open(&(Budget){.max_bytes = 1 << 20});
    assert_int_equal(gd_enter(c, exhaust, NULL), EXIT_LIMIT);
    assert_true(gd_bytes_used(c) <= 1 << 20);
    gd_close(c);
}

static void maps_and_text(void **state) {
    (void)state;
    Ctx *c = gd_open(NULL);
    Map *m = map_new(c);
    static int values[1000];
    for (int i = 0; i < 1000; i++) map_puts(m, gd_format(c, "key %d", i), &values[i]);
    for (int i = 0; i < 1000; i++) assert_ptr_equal(map_gets(m, gd_format(c, "key %d", i)), &values[i]);
    assert_null(map_gets(m, "key 1000"));
    assert_string_equal(gd_escape(c, "a\"\n*", 4), "a\\x22\\x0a*");
    gd_close(c);
}

static void dtypes_agree(void **state) {
    (void)state;
#define D(NAME, text, bytes, kind, ctype, onnx) \
    assert_int_equal(GRADC_##NAME, NAME); assert_int_equal(gradc_dtype_size(NAME), bytes); \
    assert_string_equal(gradc_dtype_name(NAME), text);
#include "dtype.def"
#undef D
    assert_int_equal(GRADC_DTYPES, DTYPES);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(doors), cmocka_unit_test(budget_is_kept),
                                       cmocka_unit_test(maps_and_text), cmocka_unit_test(dtypes_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
