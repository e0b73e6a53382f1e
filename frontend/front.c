/* Which format a file is in, and its reader: see frontend.h. */
#include "frontend.h"
#include "onnx.h"
#include "onnxgraph.h"
#include "model.h"
#include <ctype.h>
#include <errno.h>
#include <unistd.h>

const char *front_identifier(Ctx *c, const char *s, const char *otherwise) {
    char clean[41];
    size_t n = 0;
    for (; *s && n < 40; s++)
        if ((isalnum((unsigned char)*s) && (unsigned char)*s < 128 && (n || !isdigit((unsigned char)*s))) ||
            *s == '_')
            clean[n++] = *s;
    clean[n] = 0;
    return gd_strdup(c, n ? clean : otherwise);
}

/* ---- bytes ---- */

static char *read_stdin(Ctx *c, size_t *n) {
    Text *t = text_new(c);
    char *buf = gd_alloc(c, 1 << 16);
    for (ssize_t k; (k = read(STDIN_FILENO, buf, 1 << 16)) != 0;) {
        if (k > 0) text_putn(t, buf, (size_t)k);
        else if (errno != EINTR) gd_fail(c, 101, NULL, "stdin: %s", strerror(errno));
    }
    char *bytes = gd_alloc_aligned(c, t->n + 1);
    memcpy(bytes, t->s, t->n);
    *n = t->n;
    return bytes;
}

/* ---- formats ---- */

/* The first word of a text whose comments start with ';' or '#'; "" when it starts with something else. */
static const char *first_word(Ctx *c, const FrontFile *f) {
    const char *s = f->bytes, *end = s + f->n;
    for (; s < end && (isspace((unsigned char)*s) || *s == ';' || *s == '#'); s++)
        if (*s == ';' || *s == '#')
            while (s + 1 < end && s[1] != '\n') s++;
    const char *start = s;
    while (s < end && isalpha((unsigned char)*s)) s++;
    return start == s && s < end ? gd_strndup(c, s, 1) : gd_strndup(c, start, (size_t)(s - start));
}

static const struct {
    FrontFormat format;
    const char *suffix;
} suffixes[] = {
    {FF_ONNX, ".onnx"}, {FF_ONNX_TEXT, ".onnxtxt"}, {FF_GRAPH_TEXT, ".gir"}, {FF_LOOP_TEXT, ".lir"}, {FF_MODEL, ".model"}};

static FrontFormat recognise(Ctx *c, const FrontFile *f) {
    const char *word = first_word(c, f);
    if (!strcmp(word, "graph")) return FF_GRAPH_TEXT;
    if (!strcmp(word, "program")) return FF_LOOP_TEXT;
    if (!strcmp(word, "<")) return FF_ONNX_TEXT;
    if (!strcmp(word, "model")) return FF_MODEL;
    if (pb_is_model(f->bytes, f->n)) return FF_ONNX;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t n = strlen(f->path), k = strlen(suffixes[i].suffix);
        if (n > k && !strcmp(f->path + n - k, suffixes[i].suffix)) return suffixes[i].format;
    }
    return FF_UNKNOWN;
}

FrontFile front_open(Ctx *c, const char *path) {
    FrontFile f = {.path = path};
    bool standard = !strcmp(path, "-");
    gd_set_where(c, standard ? "stdin" : path);
    f.bytes = standard ? read_stdin(c, &f.n) : gd_read_file(c, path, SIZE_MAX, &f.n);
    f.format = recognise(c, &f);
    return f;
}

/* ---- graphs ---- */

static const char *graph_name(Ctx *c, const FrontFile *f, const FrontOptions *o) {
    if (o->prefix) return gd_strdup(c, o->prefix);
    const char *slash = strrchr(f->path, '/'), *base = slash ? slash + 1 : f->path, *dot = strrchr(base, '.');
    return front_identifier(c, dot && dot > base ? gd_strndup(c, base, (size_t)(dot - base)) : base, "model");
}

Graph *front_graph(Ctx *c, const FrontFile *f, const FrontOptions *o) {
    const char *path = strcmp(f->path, "-") ? f->path : NULL;
    Graph *g;
    PbModel *m;
    switch (f->format) {
    case FF_ONNX:
        m = pb_model(c, f->bytes, f->n); /* a copy, tensors and all */
        if (o->last) gd_release(c, f->bytes);
        return onnx_graph(c, m, path, graph_name(c, f, o), o);
    case FF_ONNX_TEXT: return onnx_graph(c, pb_model_text(c, f->bytes, f->n), path, graph_name(c, f, o), o);
    case FF_GRAPH_TEXT:
        g = graph_parse(c, f->bytes, f->n);
        if (o->prefix) g->name = gd_strdup(c, o->prefix);
        return g;
    case FF_MODEL: return model_graph(c, f->bytes, f->n, graph_name(c, f, o), o);
    case FF_LOOP_TEXT: gd_fail(c, 102, NULL, "this is loop IR: there is no graph in it");
    case FF_UNKNOWN: break;
    }
    gd_fail(c, 102, "ONNX (.onnx), ONNX text (.onnxtxt), model descriptions (.model), graph IR (.gir) and loop IR (.lir) are read",
            f->n ? "the format is not recognised" : "the file is empty");
}

Graph *front_read(Ctx *c, const char *path, const FrontOptions *o) {
    FrontFile f = front_open(c, path);
    return front_graph(c, &f, o);
}
