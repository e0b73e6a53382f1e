/* Col2Im: blocks that overlap are put back into an image and added up. Each element of the image reads, for every place in a
   block, the block that has it there, if there is one; the sum runs over the places in order. */
#include "build.h"
#include "sample.h"
#include "windows.h"

typedef struct Columns {
    Import *n;
    int spatial;
    Expr **block, **image, *out[MAX_RANK]; /* of each axis: size of both, and how many blocks lie on it */
    Expr *places, *pixels;
    Window win;
} Columns;

static bool read_columns(Import *n, Columns *s) {
    Ctx *c = n->g->c;
    const int64_t *pads;
    *s = (Columns){.n = n, .places = expr_int(c, 1), .pixels = expr_int(c, 1)};
    s->spatial = import_list(n, NULL, 1, &s->image);
    int npads = import_ints(n, "pads", &pads);
    if (import_list(n, NULL, 2, &s->block) != s->spatial || s->spatial < 1 || s->spatial > MAX_RANK - 2) {
        import_error(n, 301, NULL, "the shapes of image and block do not fit each other");
        return false;
    }
    if (!import_window_moves(n, s->spatial, &s->win)) return false;
    if (npads && npads != 2 * s->spatial) { import_error(n, 204, NULL, "attribute pads has %d entries", npads); return false; }
    for (int i = 0; i < s->spatial; i++) {
        s->win.lo[i] = expr_int(c, npads ? pads[i] : 0);
        s->win.hi[i] = expr_int(c, npads ? pads[s->spatial + i] : 0);
        Expr *whole = expr_add(c, s->image[i], expr_add(c, s->win.lo[i], s->win.hi[i]));
        Expr *room = expr_sub(c, whole, window_reach(c, s->block[i], s->win.dilations[i]));
        import_require(n, expr2(c, E_AND, expr2(c, E_LE, expr_int(c, 0), room), expr2(c, E_LT, expr_int(c, 0), s->block[i])),
                       "a block without elements, or larger than the image");
        s->out[i] = expr_add(c, expr_fdiv(c, room, expr_int(c, s->win.strides[i])), expr_int(c, 1));
        s->places = expr_mul(c, s->places, s->block[i]);
        s->pixels = expr_mul(c, s->pixels, s->image[i]);
    }
    return true;
}

/* By channel and place (rows) and by pixel (columns): the number of the block that has the pixel there, and whether there is
   one. */
static Value *block_of(const Columns *s, Expr *rows, Value **there) {
    Graph *g = s->n->g;
    Ctx *c = g->c;
    Expr *dim[] = {rows, s->pixels}, *places = s->places, *pixels = s->pixels;
    Map *v = map_new(c);
    Value *row = build_iota(g, I64, 2, dim, 0), *column = build_iota(g, I64, 2, dim, 1), *number = NULL;
    *there = NULL;
    for (int i = 0; i < s->spatial; i++) {
        places = expr_fdiv(c, places, s->block[i]);
        pixels = expr_fdiv(c, pixels, s->image[i]);
        const struct { const char *name; Expr *e; } sizes[] = {
            {"places", places}, {"pixels", pixels}, {"block", s->block[i]}, {"image", s->image[i]}, {"out", s->out[i]},
            {"pad", s->win.lo[i]}, {"stride", expr_int(c, s->win.strides[i])}, {"dilation", expr_int(c, s->win.dilations[i])}};
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) map_puts(v, sizes[k].name, build_scalar(g, I64, sizes[k].e));
        map_puts(v, "row", row);
        map_puts(v, "column", column);
        map_puts(v, "t", graph_text(g, "mod(column / pixels, image) + pad - mod(row / places, block) * dilation", v, NULL));
        map_puts(v, "number", number ? number : const_scalar(g, I64, 0));
        Value *here = graph_text(g, "t >= 0 && mod(t, stride) == 0 && t / stride < out", v, NULL);
        *there = *there ? make(g, "and", *there, here) : here;
        number = graph_text(g, "number * out + t / stride", v, NULL);
    }
    return number;
}

static void import_col2im(Import *n) {
    Graph *g = n->g;
    Ctx *c = g->c;
    Columns s;
    if (!import_need(n, 3, 3) || n->in[0]->rank < 0) return;
    Value *x = n->in[0], *there;
    if (x->rank != 3) { import_error(n, 301, NULL, "columns of %d axes, not 3", x->rank); return; }
    if (!read_columns(n, &s)) return;
    Value *number = block_of(&s, x->dim[1], &there);
    Value *y = build_sample(g, x, 1, (const int64_t[]){2}, &number);
    y = make(g, "where", there, y, const_scalar(g, x->dt, 0));
    Expr *channels = expr_fdiv(c, x->dim[1], s.places), *split[] = {x->dim[0], channels, s.places, s.pixels};
    Expr *dim[MAX_RANK] = {x->dim[0], channels};
    for (int i = 0; i < s.spatial; i++) dim[2 + i] = s.image[i];
    y = build_reshape(g, y, 4, split);
    if (y->rank != 4) return;
    n->out[0] = build_reshape(g, build_reduce(g, "reduce_sum", y, 1, (const int64_t[]){2}, false), 2 + s.spatial, dim);
}

const Op gd_ops_columns[] = {
    {.kind = OP_BUILD, .onnx = "Col2Im", .import = import_col2im, .doc = "Blocks put back into an image; where they overlap they add up."},
};
const int gd_ops_columns_n = sizeof gd_ops_columns / sizeof *gd_ops_columns;
