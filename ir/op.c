/* The registry of op rows, over the families of families.def. */
#include "op.h"

#define F(name) extern const Op gd_ops_##name[]; extern const int gd_ops_##name##_n;
#include "ops/families.def"
#undef F

static const struct { const Op *rows; const int *n; } families[] = {
#define F(name) {gd_ops_##name, &gd_ops_##name##_n},
#include "ops/families.def"
#undef F
};

const Op *op_at(int i) {
    for (size_t f = 0; i >= 0 && f < sizeof families / sizeof *families; f++) {
        if (i < *families[f].n) return &families[f].rows[i];
        i -= *families[f].n;
    }
    return NULL;
}

const Op *op_named(const char *name) {
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (int i = 0; i < *families[f].n; i++) {
            const Op *op = &families[f].rows[i];
            if (op->name && !strcmp(op->name, name)) return op;
        }
    return NULL;
}

/* A row's ONNX name is NAME of the standard domain, or DOMAIN:NAME. */
static bool onnx_is(const char *row, const char *domain, const char *name) {
    const char *colon = strchr(row, ':');
    if (!colon) return !*domain && !strcmp(row, name);
    size_t n = (size_t)(colon - row);
    return strlen(domain) == n && !strncmp(row, domain, n) && !strcmp(colon + 1, name);
}

const Op *op_onnx(const char *domain, const char *name, int opset) {
    const Op *best = NULL;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (int i = 0; i < *families[f].n; i++) {
            const Op *op = &families[f].rows[i];
            if (!op->onnx || op->since > opset || !onnx_is(op->onnx, domain, name)) continue;
            if (!best || op->since > best->since) best = op;
        }
    return best;
}

/* Counts the words of "x w b? rest*": fewest, and most or -1. */
int op_arity(const Op *op, int *min) {
    int max = 0;
    *min = 0;
    for (const char *s = op->in; s && *s;) {
        size_t n = strcspn(s, " ");
        char last = s[n - 1];
        if (last == '*') max = -1;
        else {
            if (max >= 0) max++;
            if (last != '?') *min += 1;
        }
        s += n + (s[n] == ' ');
    }
    return max;
}

int op_outputs(const Op *op) {
    int n = op->out && *op->out;
    for (const char *s = op->out; s && *s; s++) n += *s == ' ';
    return n;
}

int op_attr(const Op *op, const char *name) {
    for (int i = 0; i < MAX_ATTRS && op->attrs[i].name; i++)
        if (!strcmp(op->attrs[i].name, name)) return i;
    return -1;
}
