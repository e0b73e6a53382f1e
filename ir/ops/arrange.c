/* ONNX's movers of data, as small graphs of the rows in view.c: what an opset calls an axis, a shape or a
   range becomes expressions here, numbers where they are known, symbols of a `read` where only the data knows
   them. */
#include "build.h"

static bool shaped(Import *n, int min, int max) { return import_need(n, min, max) && n->in[0]->rank >= 0; }

static Expr *at_least(Ctx *c, Expr *e, int64_t v) { return expr2(c, E_MAX, e, expr_int(c, v)); }

static bool rank_fits(Import *n, int rank) {
    if (rank > MAX_RANK)
        import_error(n, 504, NULL, "the output would have %d axes, at most %d are possible", rank, MAX_RANK);
    return rank <= MAX_RANK;
}

/* ---- dims: Reshape, Flatten, Squeeze, Unsqueeze, Expand, Tile ---- */

/* The size that a -1 stands for: elements of x over the product of the other dims. Equal ones cancel. */
static Expr *inferred(Ctx *c, const Value *x, int n, Expr *const *other) {
    bool used[MAX_RANK] = {false};
    Expr *total = expr_int(c, 1), *by = total;
    for (int i = 0; i < x->rank; i++) {
        int k = 0;
        while (k < n && (used[k] || other[k] != x->dim[i])) k++;
        if (k < n) used[k] = true;
        else total = expr_mul(c, total, x->dim[i]);
    }
    for (int k = 0; k < n; k++)
        if (!used[k]) by = expr_mul(c, by, other[k]);
    return expr_fdiv(c, total, by);
}

/* A target known when compiling gives plain dims; one that data decides is a choice between -1, 0 and the
   size. */
static void import_reshape(Import *n) {
    Ctx *c = n->g->c;
    Expr **want, *dim[MAX_RANK], *is_rest[MAX_RANK], *other[MAX_RANK], *one = expr_int(c, 1);
    int errors = gd_error_count(c), rests = 0;
    if (!shaped(n, 1, 2)) return;
    const Value *x = n->in[0];
    import_has(n, "consumed_inputs");
    int rank = import_list(n, "shape", 1, &want);
    bool zero_counts = import_int(n, "allowzero", 0) != 0;
    if (rank < 0) import_error(n, 205, NULL, "the shape is missing");
    if (gd_error_count(c) > errors || !rank_fits(n, rank)) return;
    for (int k = 0; k < rank; k++) {
        int64_t v;
        is_rest[k] = expr2(c, E_EQ, want[k], expr_int(c, -1));
        rests += is_const(is_rest[k]) && is_rest[k]->bits;
        bool number = is_int(want[k], &v);
        if ((number && v < -1) || rests > 1 || (number && !v && !zero_counts && k >= x->rank)) {
            import_error(n, 303, "at most one -1; 0 copies a dim of the input",
                         "dim %d of the target shape: %s", k, expr_text(c, want[k]));
            return;
        }
        dim[k] = want[k];
        if (!zero_counts && k < x->rank)
            dim[k] = expr_select(c, expr2(c, E_EQ, want[k], expr_int(c, 0)), x->dim[k], want[k]);
    }
    for (int k = 0; k < rank; k++) other[k] = expr_select(c, is_rest[k], one, dim[k]);
    for (int k = 0; k < rank; k++) {
        Expr *mine = other[k];
        other[k] = one;
        if (!is_const(is_rest[k]) || is_rest[k]->bits)
            dim[k] = expr_select(c, is_rest[k], inferred(c, x, rank, other), dim[k]);
        other[k] = mine;
    }
    n->out[0] = build_reshape(n->g, n->in[0], rank, dim);
}

static void import_flatten(Import *n) {
    if (!shaped(n, 1, 1)) return;
    const Value *x = n->in[0];
    int64_t axis = import_int(n, "axis", 1);
    Expr *dim[2] = {expr_int(n->g->c, 1), expr_int(n->g->c, 1)};
    if (axis < -x->rank || axis > x->rank) { import_axis(n, axis, x->rank); return; }
    if (axis < 0) axis += x->rank;
    for (int i = 0; i < x->rank; i++) dim[i >= axis] = expr_mul(n->g->c, dim[i >= axis], x->dim[i]);
    n->out[0] = build_reshape(n->g, n->in[0], 2, dim);
}

static void import_squeeze(Import *n) {
    Ctx *c = n->g->c;
    Expr *dim[MAX_RANK], *drop[MAX_RANK], **list, *one = expr_int(c, 1);
    int rank = 0, errors = gd_error_count(c);
    if (!shaped(n, 1, 2)) return;
    const Value *x = n->in[0];
    int count = import_list(n, "axes", 1, &list);
    if (gd_error_count(c) > errors || !import_axis_set(n, count, list, x->rank, drop)) return;
    for (int i = 0; i < x->rank; i++) {
        Expr *is_one = expr2(c, E_EQ, x->dim[i], one);
        if (count < 0) {
            drop[i] = expr_bool(c, is_value(x->dim[i], 1));
            import_require(n, expr2(c, E_EQ, is_one, drop[i]),
                           "an axis of unknown size turned out to be 1: give the axes");
        } else
            import_require(
                n, expr2(c, E_OR, expr1(c, E_NOT, drop[i]), is_one),
                gd_format(c, "axis %d has %s elements and cannot be squeezed", i, expr_text(c, x->dim[i])));
        rank += count >= 0 ? 1 : !drop[i]->bits;
    }
    if (count > 0) rank -= count;
    dims_without(c, x->rank, drop, x->dim, rank, dim);
    n->out[0] = build_reshape(n->g, n->in[0], rank, dim);
}

static void import_unsqueeze(Import *n) {
    Ctx *c = n->g->c;
    Expr *dim[MAX_RANK], *add[MAX_RANK], **list, *one = expr_int(c, 1), *zero = expr_int(c, 0), *at = zero;
    int errors = gd_error_count(c);
    if (!shaped(n, 1, 2)) return;
    const Value *x = n->in[0];
    int count = import_list(n, "axes", 1, &list), rank = x->rank + count;
    if (count < 0) import_error(n, 204, NULL, "the axes are missing");
    if (gd_error_count(c) > errors || !rank_fits(n, rank) || !import_axis_set(n, count, list, rank, add))
        return;
    for (int i = 0; i < rank; i++) {
        Expr *old = one;
        for (int k = 0; k < x->rank; k++)
            old = expr_select(c, expr2(c, E_EQ, at, expr_int(c, k)), x->dim[k], old);
        dim[i] = expr_select(c, add[i], one, old);
        at = expr_add(c, at, expr_select(c, add[i], zero, one));
    }
    n->out[0] = build_reshape(n->g, n->in[0], rank, dim);
}

/* numpy's rule for two dims, of which either may give way. */
static Expr *wider(Import *n, Expr *a, Expr *b) {
    Ctx *c = n->g->c;
    Expr *one = expr_int(c, 1), *a1 = expr2(c, E_EQ, a, one), *b1 = expr2(c, E_EQ, b, one);
    if (a == b || is_value(b, 1)) return a;
    if (is_value(a, 1)) return b;
    import_require(n, expr2(c, E_OR, expr2(c, E_EQ, a, b), expr2(c, E_OR, a1, b1)),
                   gd_format(c, "dims %s and %s do not broadcast", expr_text(c, a), expr_text(c, b)));
    return is_const(a) ? a : is_const(b) ? b : expr_select(c, a1, b, a);
}

static void import_expand(Import *n) {
    Ctx *c = n->g->c;
    Expr **want, *dim[MAX_RANK];
    int errors = gd_error_count(c);
    if (!shaped(n, 2, 2)) return;
    const Value *x = n->in[0];
    int count = import_list(n, NULL, 1, &want), rank = count > x->rank ? count : x->rank;
    if (gd_error_count(c) > errors || !rank_fits(n, rank)) return;
    for (int i = 0; i < rank; i++) {
        int a = i - (rank - x->rank), b = i - (rank - count);
        dim[i] = a < 0 ? want[b] : b < 0 ? x->dim[a] : wider(n, x->dim[a], want[b]);
    }
    n->out[0] = build_broadcast(n->g, n->in[0], rank, dim);
}

/* [r * d] is [r, d] read as one axis, where the first is a repetition. */
static void import_tile(Import *n) {
    Ctx *c = n->g->c;
    Expr **list, *times[MAX_RANK], *split[2 * MAX_RANK], *wide[2 * MAX_RANK], *dim[MAX_RANK],
        *one = expr_int(c, 1);
    int errors = gd_error_count(c), rank = 0;
    if (!shaped(n, 2, n->opset < 6 ? 3 : 2)) return;
    const Value *x = n->in[0];
    for (int i = 0; i < x->rank; i++) times[i] = one;
    int count = import_list(n, NULL, 1, &list);
    if (n->opset < 6) {
        int64_t axis = 0;
        if (!import_const_scalar(n, 2, &axis))
            import_error(n, 402, "make it a constant of the model", "the axis must be known when compiling");
        int k = import_axis(n, axis, x->rank);
        if (gd_error_count(c) > errors || k < 0 || count != 1) return;
        times[k] = list[0];
    } else {
        if (gd_error_count(c) > errors) return;
        if (count != x->rank) {
            import_error(n, 301, NULL, "%d repeats for %d axes", count, x->rank);
            return;
        }
        for (int i = 0; i < count; i++) times[i] = at_least(c, list[i], 0);
    }
    for (int i = 0; i < x->rank; i++) {
        dim[i] = expr_mul(c, times[i], x->dim[i]);
        if (times[i] != one) { split[rank] = one; wide[rank++] = times[i]; }
        split[rank] = wide[rank] = x->dim[i];
        rank++;
    }
    if (!rank_fits(n, rank)) return;
    Value *v = build_broadcast(n->g, build_reshape(n->g, n->in[0], rank, split), rank, wide);
    n->out[0] = build_reshape(n->g, v, x->rank, dim);
}

/* ---- axes: Transpose, DepthToSpace, SpaceToDepth ---- */

static void import_transpose(Import *n) {
    if (!shaped(n, 1, 1)) return;
    const int64_t *given;
    int64_t perm[MAX_RANK];
    int count = import_ints(n, "perm", &given), rank = n->in[0]->rank;
    if (given && count != rank) {
        import_error(n, 204, "every axis once", "attribute perm has %d entries for %d axes", count, rank);
        return;
    }
    for (int i = 0; i < rank; i++) {
        perm[i] = given ? given[i] : rank - 1 - i;
        if (perm[i] < 0) perm[i] += rank;
    }
    n->out[0] = build_transpose(n->g, n->in[0], perm);
}

/* The input of a mover of blocks, and its block size; 0 after an error. */
static int64_t block_size(Import *n) {
    if (!shaped(n, 1, 1)) return 0;
    int64_t b = import_int(n, "blocksize", 0);
    if (n->in[0]->rank != 4) import_error(n, 301, NULL, "a tensor of %d axes, not 4", n->in[0]->rank);
    else if (b < 1 || b > INT32_MAX)
        import_error(n, 204, NULL, "attribute blocksize: %lld is not positive", (long long)b);
    else return b;
    return 0;
}

static Value *shuffled(Graph *g, Value *x, Expr *const *six, const int64_t *perm, Expr *const *four) {
    return build_reshape(g, build_transpose(g, build_reshape(g, x, 6, six), perm), 4, four);
}

static void import_depth_to_space(Import *n) {
    static const int64_t depth_first[] = {0, 3, 4, 1, 5, 2}, column_first[] = {0, 1, 4, 2, 5, 3};
    int64_t b = block_size(n);
    const char *mode = import_string(n, "mode", "DCR");
    if (!b) return;
    bool crd = !strcmp(mode, "CRD");
    if (!crd && strcmp(mode, "DCR")) {
        import_error(n, 204, "DCR or CRD", "attribute mode: \"%s\"", gd_escape(n->g->c, mode, strlen(mode)));
        return;
    }
    Ctx *c = n->g->c;
    Expr *const *d = n->in[0]->dim, *k = expr_int(c, b), *deep = expr_fdiv(c, d[1], expr_int(c, b * b));
    Expr *four[] = {d[0], deep, expr_mul(c, d[2], k), expr_mul(c, d[3], k)};
    Expr *six[] = {d[0], crd ? deep : k, k, crd ? k : deep, d[2], d[3]};
    n->out[0] = shuffled(n->g, n->in[0], six, crd ? column_first : depth_first, four);
}

static void import_space_to_depth(Import *n) {
    static const int64_t perm[] = {0, 3, 5, 1, 2, 4};
    int64_t b = block_size(n);
    if (!b) return;
    Ctx *c = n->g->c;
    Expr *const *d = n->in[0]->dim, *k = expr_int(c, b), *h = expr_fdiv(c, d[2], k),
                *w = expr_fdiv(c, d[3], k);
    Expr *six[] = {d[0], d[1], h, k, w, k}, *four[] = {d[0], expr_mul(c, d[1], expr_int(c, b * b)), h, w};
    n->out[0] = shuffled(n->g, n->in[0], six, perm, four);
}

/* ---- parts: Slice, Split, Concat ---- */

/* A bound of a range: v, counted from the end where negative, within lo..hi. Numbers beyond 2^31 are what
   exporters write for "to the end" (or the start): then no axis is that long, which is checked where it is
   not known. */
static Expr *slice_bound(Import *n, Expr *v, Expr *dim, Expr *lo, Expr *hi) {
    Ctx *c = n->g->c;
    int64_t k;
    if (is_int(v, &k) && (k >= INT32_MAX || k < -INT32_MAX)) {
        import_require(n, expr2(c, E_LE, dim, expr_int(c, INT32_MAX)),
                       "an axis longer than 2^31 - 1 under a slice to its end");
        return k > 0 ? hi : lo;
    }
    v = expr_select(c, expr2(c, E_LT, v, expr_int(c, 0)), expr_add(c, v, dim), v);
    return expr2(c, E_MAX, expr2(c, E_MIN, v, hi), lo);
}

/* The elements first, first + step, ... before end (behind it when step < 0). forward: step > 0. */
static void slice_range(Import *n, Expr *start, Expr *end, Expr *step, Expr *dim, bool forward, Expr **first,
                        Expr **size) {
    Ctx *c = n->g->c;
    Expr *zero = expr_int(c, 0), *one = expr_int(c, 1), *last = expr_sub(c, dim, one);
    *first = slice_bound(n, start, dim, zero, forward ? dim : last);
    end = slice_bound(n, end, dim, forward ? zero : expr_int(c, -1), forward ? dim : last);
    Expr *reach = forward ? expr_sub(c, end, *first) : expr_sub(c, *first, end),
         *stride = forward ? step : expr_sub(c, zero, step);
    *size = at_least(c, expr_fdiv(c, expr_add(c, reach, expr_sub(c, stride, one)), stride), 0);
}

/* Range i of the node along an axis of that size; both directions where only the data knows the step's
   sign. */
static void slice_along(Import *n, Expr *start, Expr *end, Expr *step, Expr *dim, Expr **first, Expr **size) {
    Ctx *c = n->g->c;
    Expr *forward = expr2(c, E_LT, expr_int(c, 0), step), *f[2], *s[2];
    for (int way = 0; way < 2; way++)
        if (!is_const(forward) || forward->bits == (uint64_t)way)
            slice_range(n, start, end, step, dim, way, &f[way], &s[way]);
    *first = is_const(forward) ? f[forward->bits] : expr_select(c, forward, f[1], f[0]);
    *size = is_const(forward) ? s[forward->bits] : expr_select(c, forward, s[1], s[0]);
}

static void import_slice(Import *n) {
    Ctx *c = n->g->c;
    Expr **starts, **ends, **axes, **steps, *first[MAX_RANK], *size[MAX_RANK], *step[MAX_RANK], *in[MAX_RANK];
    Expr *zero = expr_int(c, 0), *one = expr_int(c, 1);
    int errors = gd_error_count(c);
    if (!shaped(n, 1, 5)) return;
    const Value *x = n->in[0];
    int count = import_list(n, "starts", 1, &starts), nends = import_list(n, "ends", 2, &ends);
    int naxes = import_list(n, "axes", 3, &axes), nsteps = import_list(n, NULL, 4, &steps);
    if (gd_error_count(c) > errors || !import_axis_set(n, naxes, axes, x->rank, in)) return;
    if (count < 0 || nends != count || (naxes >= 0 && naxes != count) || (nsteps >= 0 && nsteps != count) ||
        count > x->rank) {
        import_error(n, 301, NULL,
                     "starts, ends, axes and steps have different lengths, or more than the tensor's %d axes",
                     x->rank);
        return;
    }
    for (int k = 0; k < x->rank; k++) {
        first[k] = zero;
        size[k] = x->dim[k];
        step[k] = one;
        for (int i = 0; i < count; i++) {
            Expr *mine = naxes >= 0 ? axis_is(c, axes[i], k, x->rank) : expr_bool(c, i == k),
                 *by = nsteps >= 0 ? steps[i] : one, *f, *s;
            if (is_const(mine) && !mine->bits) continue;
            import_require(n, expr2(c, E_NE, by, zero), "a step of 0");
            slice_along(n, starts[i], ends[i], by, x->dim[k], &f, &s);
            first[k] = expr_select(c, mine, f, first[k]);
            size[k] = expr_select(c, mine, s, size[k]);
            step[k] = expr_select(c, mine, by, step[k]);
        }
    }
    n->out[0] = build_slice(n->g, n->in[0], first, size, step);
}

/* Sizes from the attribute or input; else equal ones, the last of them smaller where num_outputs says how
   many. */
static void import_split(Import *n) {
    Ctx *c = n->g->c;
    Expr **size, *at = expr_int(c, 0);
    int errors = gd_error_count(c), count = n->nout;
    if (!shaped(n, 1, 2)) return;
    Value *x = n->in[0];
    int axis = import_axis(n, import_int(n, "axis", 0), x->rank), given = import_list(n, "split", 1, &size);
    bool uneven = n->opset >= 18;
    int64_t asked = import_int(n, "num_outputs", count);
    if (gd_error_count(c) > errors || axis < 0) return;
    if ((given >= 0 && given < count) || asked < count) {
        import_error(n, 205, NULL, "%d outputs, but %lld parts", count,
                     (long long)(given >= 0 ? given : asked));
        return;
    }
    Expr *parts = expr_int(c, asked), *dim = x->dim[axis],
         *part = expr_fdiv(c, expr_add(c, dim, expr_int(c, asked - 1)), parts);
    if (given < 0 && !uneven)
        import_require(
            n, expr2(c, E_EQ, expr_fmod(c, dim, parts), expr_int(c, 0)),
            gd_format(c, "%s elements do not split into %d equal parts", expr_text(c, dim), count));
    if (given >= 0) {
        Expr *sum = at;
        for (int i = 0; i < given; i++) sum = expr_add(c, sum, size[i]);
        import_require(n, expr2(c, E_EQ, sum, dim),
                       gd_format(c, "the parts have %s elements together, the axis %s", expr_text(c, sum),
                                 expr_text(c, dim)));
    }
    for (int i = 0; i < count; i++) {
        Expr *s = given >= 0 ? size[i] : part;
        if (given < 0 && uneven && i == asked - 1) s = at_least(c, expr_sub(c, dim, at), 0);
        n->out[i] = build_slice_axis(n->g, x, axis, at, s);
        at = expr_add(c, at, s);
    }
}

static void import_concat(Import *n) {
    if (!import_need(n, 1, -1) || n->in[0]->rank < 0) return;
    if (n->opset >= 4 && !import_has(n, "axis")) {
        import_error(n, 204, NULL, "attribute axis is missing");
        return;
    }
    int axis = import_axis(n, import_int(n, "axis", 1), n->in[0]->rank);
    if (axis >= 0) n->out[0] = build_concat(n->g, n->nin, n->in, axis);
}

/* ---- borders: Pad, CenterCropPad ---- */

static Value *extend(Graph *g, Value *x, Expr *const *lo, Expr *const *hi, int mode) {
    Ctx *c = g->c;
    Expr *from[MAX_RANK], *size[MAX_RANK], *before[MAX_RANK], *after[MAX_RANK], *zero = expr_int(c, 0);
    bool nothing = true;
    for (int i = 0; i < x->rank; i++) { /* negative: cut off first */
        from[i] = at_least(c, expr_sub(c, zero, lo[i]), 0);
        before[i] = at_least(c, lo[i], 0);
        after[i] = at_least(c, hi[i], 0);
        size[i] = expr_sub(c, expr_sub(c, x->dim[i], from[i]), at_least(c, expr_sub(c, zero, hi[i]), 0));
        nothing = nothing && is_value(before[i], 0) && is_value(after[i], 0);
    }
    x = build_slice(g, x, from, size, NULL);
    if (nothing) return x;
    Node *n = node_begin(g, "extend");
    node_input(n, x);
    node_dims(n, "lo", x->rank, before);
    node_dims(n, "hi", x->rank, after);
    node_int(n, "mode", mode);
    return node_finish(n);
}

/* The value to pad with, as rank 0; NULL: zero. */
static Value *pad_value(Import *n, const Value *x) {
    if (n->opset < 11) {
        double v = import_float(n, "value", 0);
        return v == 0 ? NULL : const_scalar(n->g, x->dt, v);
    }
    Value *v = import_in(n, 2);
    return v && v->rank > 0 ? build_reshape(n->g, v, 0, NULL) : v;
}

static void import_pad(Import *n) {
    static const char *const modes[] = {"edge", "reflect", "wrap", "constant"};
    Ctx *c = n->g->c;
    Expr **pads, **axes, *lo[MAX_RANK], *hi[MAX_RANK], *in[MAX_RANK];
    int errors = gd_error_count(c), m = 0;
    if (!shaped(n, 1, 4)) return;
    const Value *x = n->in[0];
    const char *mode = import_string(n, "mode", "constant");
    int count = import_list(n, n->opset < 2 ? "paddings" : "pads", 1, &pads),
        given = import_list(n, NULL, 3, &axes);
    int naxes = given < 0 ? x->rank : given;
    Value *value = pad_value(n, x);
    if (gd_error_count(c) > errors || !import_axis_set(n, given, axes, x->rank, in)) return;
    while (m < 4 && strcmp(modes[m], mode)) m++;
    if (m == 4) {
        import_error(n, 204, "constant, reflect, edge or wrap", "attribute mode: \"%s\"",
                     gd_escape(c, mode, strlen(mode)));
        return;
    }
    if (count != 2 * naxes) {
        import_error(n, 301, "begin and end of every axis", "pads has %d entries for %d axes",
                     count < 0 ? 0 : count, naxes);
        return;
    }
    for (int i = 0; i < x->rank; i++) lo[i] = hi[i] = expr_int(c, 0);
    for (int i = 0; i < naxes; i++)
        for (int k = 0; k < x->rank; k++) {
            Expr *mine = given >= 0 ? axis_is(c, axes[i], k, x->rank) : expr_bool(c, i == k);
            lo[k] = expr_select(c, mine, pads[i], lo[k]);
            hi[k] = expr_select(c, mine, pads[naxes + i], hi[k]);
        }
    n->out[0] = m == 3 ? build_pad(n->g, n->in[0], lo, hi, NULL, value) : extend(n->g, n->in[0], lo, hi, m);
}

/* Too long: half of what is too much goes on either side; too short: zeros. Either way one pad, the odd one
   at the end when zeros are added and at the end when elements are cut. */
static void import_center_crop_pad(Import *n) {
    Ctx *c = n->g->c;
    Expr **want, *lo[MAX_RANK], *hi[MAX_RANK], *two = expr_int(c, 2), *zero = expr_int(c, 0);
    const int64_t *axes;
    int errors = gd_error_count(c);
    if (!shaped(n, 2, 2)) return;
    const Value *x = n->in[0];
    int count = import_list(n, NULL, 1, &want), naxes = import_ints(n, "axes", &axes);
    if (gd_error_count(c) > errors) return;
    if (!axes) naxes = x->rank;
    if (count != naxes) {
        import_error(n, 301, NULL, "a shape of %d entries for %d axes", count, naxes);
        return;
    }
    for (int i = 0; i < x->rank; i++) lo[i] = hi[i] = zero;
    for (int i = 0; i < naxes; i++) {
        int k = axes ? import_axis(n, axes[i], x->rank) : i;
        if (k < 0) return;
        Expr *more = expr_sub(c, want[i], x->dim[k]), *half = expr_fdiv(c, more, two);
        Expr *cut = expr_sub(c, zero, expr_fdiv(c, expr_sub(c, zero, more), two));
        lo[k] = expr_select(c, expr2(c, E_LE, zero, more), half, cut);
        hi[k] = expr_sub(c, more, lo[k]);
    }
    n->out[0] = build_pad(n->g, n->in[0], lo, hi, NULL, NULL);
}

/* ---- Trilu, Identity ---- */

/* Element (i, j) stays where j >= i + k (upper) or j <= i + k. */
static void import_trilu(Import *n) {
    if (!shaped(n, 1, 2)) return;
    Graph *g = n->g;
    Value *x = n->in[0], *k = import_in(n, 1);
    bool upper = import_int(n, "upper", 1) != 0;
    if (x->rank < 2) { import_error(n, 301, NULL, "a tensor of %d axes is no matrix", x->rank); return; }
    Expr *const *d = x->dim + x->rank - 2;
    Value *row = build_iota(g, I64, 2, d, 0), *column = build_iota(g, I64, 2, d, 1);
    if (k) row = make(g, "add", row, build_reshape(g, build_cast(g, k, I64), 0, NULL));
    Value *stays = make(g, upper ? "less_equal" : "greater_equal", row, column);
    n->out[0] = make(g, "where", stays, x, const_scalar(g, x->dt, 0));
}

static void import_identity(Import *n) {
    if (import_need(n, 1, 1)) n->out[0] = n->in[0];
}

#define BUILD .kind = OP_BUILD, .onnx

const Op gd_ops_arrange[] = {
    {BUILD = "Reshape", .import = import_reshape,
     .doc = "Other dims, the same elements; -1 is what is left, 0 a dim of the input."},
    {BUILD = "Flatten", .import = import_flatten,
     .doc = "Two axes: those before `axis` and those from it on."},
    {BUILD = "Squeeze", .import = import_squeeze, .doc = "Without the given axes of size 1."},
    {BUILD = "Unsqueeze", .import = import_unsqueeze, .doc = "With new axes of size 1."},
    {BUILD = "Expand", .settings = 2, .import = import_expand,
     .doc = "Repeated along axes of size 1, to a shape that may itself have axes of size 1."},
    {BUILD = "Tile", .settings = 2, .import = import_tile, .doc = "The whole tensor repeated along each axis."},
    {BUILD = "Transpose", .import = import_transpose, .doc = "Axes in another order, by default reversed."},
    {BUILD = "DepthToSpace", .import = import_depth_to_space, .doc = "Channels become blocks of pixels."},
    {BUILD = "SpaceToDepth", .import = import_space_to_depth, .doc = "Blocks of pixels become channels."},
    {BUILD = "Slice", .settings = 2, .import = import_slice, .doc = "Ranges of the axes, with steps of either sign."},
    {BUILD = "Split", .import = import_split, .doc = "Cut along an axis."},
    {BUILD = "Concat", .import = import_concat, .doc = "One after the other along an axis."},
    {BUILD = "Pad", .settings = 2, .import = import_pad,
     .doc = "Borders of a constant, or of the tensor's own elements; negative ones are cut off."},
    {BUILD = "CenterCropPad", .import = import_center_crop_pad,
     .doc = "Cut or padded with zeros on both sides, to a given shape."},
    {BUILD = "Trilu", .settings = 2, .import = import_trilu,
     .doc = "The upper or lower triangle of matrices, zeros elsewhere."},
    {BUILD = "Identity", .import = import_identity, .doc = "The input."},
};
const int gd_ops_arrange_n = sizeof gd_ops_arrange / sizeof *gd_ops_arrange;
