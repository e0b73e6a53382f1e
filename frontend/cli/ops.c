/* ops: the op table, or one op's page. An op of the graph IR may come from several forms of ONNX ops, and an ONNX op may
   have a row a version. */
#define _GNU_SOURCE
#include "cli.h"
#include <jansson.h>
#include <string.h>
#include <strings.h>

static const char *gradient(const GradcOpInfo *o) {
    return o->no_gradient ? "zero" : o->gradient ? "yes" : !strcmp(o->kind, "build") ? "by parts" : "no";
}

static json_t *op_json(const GradcOpInfo *o) {
    json_t *attrs = json_array(), *vjp = json_array();
    for (int i = 0; i < o->nattrs; i++)
        json_array_append_new(attrs, json_pack("{s:s, s:s, s:f, s:b}", "name", o->attrs[i].name, "kind", o->attrs[i].kind, "default",
                                               o->attrs[i].def, "required", o->attrs[i].required));
    for (int i = 0; i < 4 && o->vjp[i]; i++) json_array_append_new(vjp, json_string(o->vjp[i]));
    return json_pack("{s:s?, s:s?, s:i, s:s, s:s?, s:s?, s:s, s:s?, s:o, s:s, s:o, s:s?}", "name", o->name, "onnx", o->onnx, "since",
                     o->since, "kind", o->kind, "in", o->in, "out", o->out, "types", o->types ? o->types : "any", "value", o->value,
                     "vjp", vjp, "gradient", gradient(o), "attrs", attrs, "doc", o->doc);
}

static void op_line(const GradcOpInfo *o) {
    char onnx[80] = "";
    if (o->onnx && o->since > 0) snprintf(onnx, sizeof onnx, "%s from %d", o->onnx, o->since);
    else if (o->onnx) snprintf(onnx, sizeof onnx, "%s", o->onnx);
    printf("%-20s %-30s %-9s %-6s %s\n", o->name ? o->name : "-", onnx, o->kind, o->types ? o->types : "any", gradient(o));
}

static void op_page(const GradcOpInfo *o) {
    printf("%s\n", o->name ? o->name : o->onnx);
    if (o->doc) printf("  %s\n", o->doc);
    if (o->onnx) printf("  %-10s %s", "ONNX", o->onnx);
    if (o->onnx && o->since > 0) printf(", from version %d", o->since);
    if (o->onnx) putchar('\n');
    printf("  %-10s %s\n  %-10s %s\n", "kind", o->kind, "dtypes", o->types ? o->types : "any");
    if (o->in) printf("  %-10s %s\n", "inputs", o->in);
    if (o->out) printf("  %-10s %s\n", "outputs", o->out);
    for (int i = 0; i < o->nattrs; i++) {
        printf("  %-10s %s: %s", i ? "" : "attributes", o->attrs[i].name, o->attrs[i].kind);
        if (o->attrs[i].required) puts(", required");
        else if (!strcmp(o->attrs[i].kind, "int") || !strcmp(o->attrs[i].kind, "float")) printf(" = %g\n", o->attrs[i].def);
        else putchar('\n');
    }
    if (o->value) printf("  %-10s %s\n", "value", o->value);
    printf("  %-10s %s\n", "gradient", gradient(o));
    for (int i = 0; i < 4 && o->vjp[i]; i++) printf("  %-10s %s\n", i ? "" : "vjp", o->vjp[i]);
}

static bool is_op(const GradcOpInfo *o, const char *name) {
    return !name || (o->name && !strcasecmp(o->name, name)) || (o->onnx && !strcasecmp(o->onnx, name));
}

int cli_ops(Cli *c) {
    GradcOpInfo o;
    int found = 0;
    json_t *list = json_array();
    if (c->nwords) return cli_fail(c, 601, NULL, "ops takes one name; what is %.80s?", c->words[0]);
    if (!c->model && !c->json) printf("%-20s %-30s %-9s %-6s %s\n", "graph IR", "ONNX", "kind", "dtypes", "gradient");
    for (int i = 0; gradc_op_at(i, &o); i++) {
        if (!is_op(&o, c->model)) continue;
        if (c->json) json_array_append_new(list, op_json(&o));
        else if (c->model) op_page(&o);
        else op_line(&o);
        found++;
    }
    int status = found ? 0 : cli_fail(c, 401, "gradc ops lists them", "there is no op %.80s", c->model ? c->model : "");
    if (c->json && !status) {
        json_dumpf(list, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
    }
    json_decref(list);
    return status;
}
