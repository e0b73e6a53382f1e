/* Tensors as text. Recursion is one level an axis. */
#include "element.h"
#include <math.h>
#include <string.h>

void gradc_float_text(char *buf, size_t size, int dtype, const void *p) {
    double v = gradc_get_float(dtype, p);
    if (isnan(v) || isinf(v)) {
        snprintf(buf, size, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    if (v > -1e7 && v < 1e7 && v == (double)(int64_t)v) { snprintf(buf, size, "%.0f", v); return; }
    for (int digits = 1; digits <= 17; digits++) {
        unsigned char again[8];
        float single;
        gradc_write_decimal(buf, size, digits, v);
        double back = gradc_read_decimal(buf, &single);
        if (gradc_put_float(dtype, back, single, again) && !memcmp(again, p, gradc_types[dtype].size)) return;
    }
}

static void print_text(FILE *f, const char *s) {
    putc('"', f);
    for (; s && *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c < ' ' || c == 127) fprintf(f, "\\x%02x", c);
        else putc(c, f);
    }
    putc('"', f);
}

static void print_element(FILE *f, int dtype, const char *p) {
    char buf[64];
    switch (gradc_types[dtype].kind) {
    case SIGNED: fprintf(f, "%lld", (long long)gradc_get_signed(dtype, p)); return;
    case UNSIGNED: fprintf(f, "%llu", (unsigned long long)gradc_get_unsigned(dtype, p)); return;
    case BOOLEAN: fputs(*p ? "true" : "false", f); return;
    case TEXT: { const char *s; memcpy(&s, p, sizeof s); print_text(f, s); return; }
    case COMPLEX: {
        int part = dtype == GRADC_C64 ? GRADC_F32 : GRADC_F64;
        gradc_float_text(buf, sizeof buf, part, p);
        fputs(buf, f);
        gradc_float_text(buf, sizeof buf, part, p + gradc_types[part].size);
        fprintf(f, "%s%sj", buf[0] == '-' ? "" : "+", buf);
        return;
    }
    default: gradc_float_text(buf, sizeof buf, dtype, p); fputs(buf, f);
    }
}

/* Prints the axes from `axis` on; edge < 0 shows everything. Returns the element after the block. */
static const char *print_axis(FILE *f, const GradcTensor *t, int axis, const char *p, int64_t edge) {
    size_t stride = gradc_dtype_size(t->dtype);
    if (axis == t->rank) { print_element(f, t->dtype, p); return p + stride; }
    for (int i = axis + 1; i < t->rank; i++) stride *= (size_t)t->dims[i];
    int64_t n = t->dims[axis];
    putc('[', f);
    for (int64_t i = 0; i < n; i++) {
        if (i) fputs(", ", f);
        if (edge >= 0 && n > 2 * edge && i == edge) {
            fputs("..., ", f);
            i = n - edge;
        }
        print_axis(f, t, axis + 1, p + (size_t)i * stride, edge);
    }
    putc(']', f);
    return p;
}

void gradc_tensor_print(FILE *f, const char *name, const GradcTensor *t, size_t limit) {
    char shape[512];
    int wide = 0;
    for (int i = 0; i < t->rank; i++) wide += t->dims[i] > 2;
    fprintf(f, "%s %s = ", name, gradc_shape_text(shape, sizeof shape, t->dtype, t->rank, t->dims));
    if (!gradc_tensor_count(t)) { /* its other axes may be long: brackets alone would fill the terminal */
        fputs("[]\n", f);
        return;
    }
    int64_t edge = gradc_tensor_count(t) <= limit ? -1 : wide <= 2 ? 3 : wide == 3 ? 2 : 1;
    print_axis(f, t, 0, t->data, edge);
    putc('\n', f);
}
