/* Layers with windows: convolutions and pooling. Keras's images have their channels last, the graph's second: views
   around the op, which later passes take away. */
#include "model.h"
#include "ops/build.h"

/* ---- layouts ---- */

static Value *channels_second(Layer *l, Value *x) {
    int64_t perm[MAX_RANK];
    if (l->d->torch || x->rank < 3) return x;
    for (int i = 0; i < x->rank; i++) perm[i] = i == 0 ? 0 : i == 1 ? x->rank - 1 : i - 1;
    return build_transpose(l->g, x, perm);
}

static Value *channels_back(Layer *l, Value *y) {
    int64_t perm[MAX_RANK];
    if (l->d->torch || y->rank < 3) return y;
    for (int i = 0; i < y->rank; i++) perm[i] = i == 0 ? 0 : i == y->rank - 1 ? 1 : i + 1;
    return build_transpose(l->g, y, perm);
}

/* [k..., a, b] -> [b, a, k...] */
static Value *kernel_first(Layer *l, Value *w) {
    int64_t perm[MAX_RANK];
    for (int i = 0; i < w->rank; i++) perm[i] = i == 0 ? w->rank - 1 : i == 1 ? w->rank - 2 : i - 2;
    return build_transpose(l->g, w, perm);
}

static int channel_axis(const Layer *l, const Value *x) { return l->d->torch ? 1 : x->rank - 1; }

/* The number of spatial axes that the name says; 0 after an error. */
static int spatial_axes(Layer *l) {
    const Value *x = l->in[0];
    const char *digit = strpbrk(l->row->name, "123");
    int n = digit ? *digit - '0' : x->rank - 2;
    if (x->rank == n + 2 && n > 0 && n < 4) return n;
    layer_error(l, 301, l->d->torch ? "[N, C, spatial axes]" : "[N, spatial axes, C]", "the input is %s, which has not %d axes",
                value_type_text(l->c, x), n > 0 ? n + 2 : 4);
    return 0;
}

static bool positive(Layer *l, const char *name, int n, const int64_t *v) {
    for (int i = 0; i < n; i++)
        if (v[i] < 1 || v[i] > 1 << 20) {
            layer_error(l, 204, NULL, "%s is %lld", name, (long long)v[i]);
            return false;
        }
    return true;
}

/* ONNX's attributes of a window: strides, dilations, padding. Returns how many. */
static int window_attrs(Layer *l, int n, const int64_t *stride, const int64_t *dilation, ImportAttr *attr) {
    int k = 0;
    const char *word = layer_text(l, "pad", NULL);
    attr[k++] = at_ints(l->c, "strides", n, stride);
    attr[k++] = at_ints(l->c, "dilations", n, dilation);
    if (word) {
        attr[k++] = at_string("auto_pad", !strcmp(word, "same") ? "SAME_UPPER" : "VALID");
        return k;
    }
    int64_t pad[8];
    layer_sizes(l, "pad", n, 0, pad);
    for (int i = 0; i < n; i++) {
        if (pad[i] < 0 || pad[i] > 1 << 20) layer_error(l, 204, NULL, "pad is %lld", (long long)pad[i]);
        pad[n + i] = pad[i];
    }
    attr[k++] = at_ints(l->c, "pads", 2 * n, pad);
    return k;
}

/* ---- convolution ---- */

/* The result with its activation, which lies between the op and the view where it can: so it is part of the op's nest. */
static void finish(Layer *l, Value *y) {
    bool elementwise = l->activation && !strstr(l->activation, "softmax");
    if (elementwise) {
        y = layer_activate(l, l->activation, l->alpha, y);
        l->activation = NULL;
    }
    l->out[0] = channels_back(l, y);
}

static int64_t product(const int64_t *v, int n) {
    int64_t p = 1;
    for (int i = 0; i < n; i++) p *= v[i];
    return p;
}

static Value *bias(Layer *l, DType dt, int64_t n, int64_t fan) {
    if (!layer_flag(l, "bias")) return NULL;
    return layer_param(l, "bias", "bias", dt, 1, &n, l->d->torch ? layer_uniform(l, fan) : "zeros", layer_text(l, "bias_init", NULL), fan, n);
}

static void convolve(Layer *l, int64_t filters, int64_t groups, bool depthwise) {
    int n = spatial_axes(l);
    if (!n) return;
    bool torch = l->d->torch;
    Value *x = l->in[0];
    int64_t in = layer_channels(l, x, channel_axis(l, x)), kernel[3], stride[3], dilation[3], dim[5];
    layer_sizes(l, "kernel", n, depthwise ? 3 : 0, kernel);
    layer_sizes(l, "stride", n, 1, stride);
    layer_sizes(l, "dilation", n, 1, dilation);
    if (depthwise) {
        groups = in;
        filters = in * filters;
    }
    if (l->d->failed || !positive(l, "kernel", n, kernel) || !positive(l, "stride", n, stride) || !positive(l, "dilation", n, dilation) ||
        !positive(l, "filters", 1, &filters) || !positive(l, "groups", 1, &groups))
        return;
    if (in % groups || filters % groups) {
        layer_error(l, 204, NULL, "%lld groups do not divide %lld channels and %lld filters", (long long)groups, (long long)in, (long long)filters);
        return;
    }
    int64_t fan_in = in / groups * product(kernel, n), fan_out = (depthwise ? filters / in : filters) * product(kernel, n);
    for (int i = 0; i < n; i++) dim[torch ? 2 + i : i] = kernel[i];
    dim[torch ? 1 : n] = torch || !depthwise ? in / groups : in;
    dim[torch ? 0 : n + 1] = torch || !depthwise ? filters : filters / in;
    if (depthwise && !torch) { /* Keras counts the channels among the inputs of a depthwise kernel */
        fan_in = in * product(kernel, n);
        fan_out = filters / in * product(kernel, n);
    }
    Value *w = layer_param(l, "kernel", "weight", x->dt, n + 2, dim,
                           torch ? layer_uniform(l, fan_in) : "glorot_uniform", layer_text(l, "init", NULL), fan_in, fan_out);
    Value *b = bias(l, x->dt, filters, fan_in), *in3[3] = {channels_second(l, x), w, b};
    if (l->d->failed) return;
    if (!torch && depthwise) { /* [k..., C, m]: output c * m + j is of channel c */
        Expr *flat[5];
        for (int i = 0; i < n; i++) flat[i] = expr_int(l->c, kernel[i]);
        flat[n] = expr_int(l->c, 1);
        flat[n + 1] = expr_int(l->c, filters);
        w = build_reshape(l->g, w, n + 2, flat);
    }
    in3[1] = torch ? w : kernel_first(l, w);
    ImportAttr attr[8];
    int k = window_attrs(l, n, stride, dilation, attr);
    attr[k++] = at_int("group", groups);
    Value *y;
    layer_onnx(l, "Conv", b ? 3 : 2, in3, k, attr, 1, &y);
    finish(l, y);
}

static void make_conv(Layer *l) { convolve(l, layer_int(l, "filters"), layer_int(l, "groups"), false); }
static void make_depthwise(Layer *l) { convolve(l, layer_int(l, "multiplier"), 1, true); }

/* Keras: without padding a kernel shorter than its stride still fills stride elements; with "same" the output has
   stride times the input's elements, and what is cut off is split as the convolution's padding is. */
static void transposed_padding(Layer *l, int n, const int64_t *kernel, const int64_t *stride, int64_t *pads, int64_t *more) {
    const char *word = layer_text(l, "pad", NULL);
    int64_t given[3];
    layer_sizes(l, "output_padding", n, 0, more);
    if (!word) {
        layer_sizes(l, "pad", n, 0, given);
        for (int i = 0; i < n; i++) pads[i] = pads[n + i] = given[i];
        if (l->d->torch) return;
    }
    for (int i = 0; i < n; i++) {
        int64_t over = kernel[i] - stride[i];
        if (over < 0) more[i] -= over;
        if (word) pads[i] = pads[n + i] = 0;
        if (!word || strcmp(word, "same") || over < 0) continue;
        pads[i] = over / 2;
        pads[n + i] = over - over / 2;
    }
}

static void make_conv_transpose(Layer *l) {
    int n = spatial_axes(l);
    if (!n) return;
    bool torch = l->d->torch;
    Value *x = l->in[0];
    int64_t in = layer_channels(l, x, channel_axis(l, x)), kernel[3], stride[3], dilation[3], dim[5], filters = layer_int(l, "filters"),
            pads[6], more[3], groups = layer_int(l, "groups");
    layer_sizes(l, "kernel", n, 0, kernel);
    layer_sizes(l, "stride", n, 1, stride);
    layer_sizes(l, "dilation", n, 1, dilation);
    if (l->d->failed || !positive(l, "kernel", n, kernel) || !positive(l, "stride", n, stride) || !positive(l, "filters", 1, &filters) ||
        !positive(l, "dilation", n, dilation) || !positive(l, "groups", 1, &groups))
        return;
    if (in % groups || filters % groups || (groups > 1 && !torch)) {
        layer_error(l, 204, NULL, "%lld groups do not divide %lld channels and %lld filters", (long long)groups, (long long)in, (long long)filters);
        return;
    }
    for (int i = 0; i < n; i++) dim[torch ? 2 + i : i] = kernel[i];
    dim[torch ? 0 : n + 1] = in;
    dim[torch ? 1 : n] = filters / groups;
    int64_t fan = filters / groups * product(kernel, n), whole = in * product(kernel, n);
    Value *w = layer_param(l, "kernel", "weight", x->dt, n + 2, dim, torch ? layer_uniform(l, fan) : "glorot_uniform",
                           layer_text(l, "init", NULL), fan, whole);
    Value *b = bias(l, x->dt, filters, fan), *in3[3] = {channels_second(l, x), NULL, b}, *y;
    transposed_padding(l, n, kernel, stride, pads, more);
    if (l->d->failed) return;
    in3[1] = torch ? w : kernel_first(l, w);
    ImportAttr attr[] = {at_ints(l->c, "strides", n, stride), at_ints(l->c, "dilations", n, dilation), at_ints(l->c, "pads", 2 * n, pads),
                         at_ints(l->c, "output_padding", n, more), at_int("group", groups)};
    layer_onnx(l, "ConvTranspose", b ? 3 : 2, in3, 5, attr, 1, &y);
    finish(l, y);
}

/* ---- pooling ---- */

static void pool(Layer *l, const char *op) {
    int n = spatial_axes(l);
    int64_t size[3], stride[3], dilation[3] = {1, 1, 1};
    bool average = !strcmp(op, "AveragePool");
    ImportAttr attr[8];
    Value *y;
    if (!n) return;
    layer_sizes(l, "size", n, 2, size);
    for (int i = 0; i < n; i++) stride[i] = size[i];
    if (layer_has(l, "stride")) layer_sizes(l, "stride", n, 1, stride);
    if (l->d->failed || !positive(l, "size", n, size) || !positive(l, "stride", n, stride)) return;
    int k = window_attrs(l, n, stride, dilation, attr);
    attr[k++] = at_ints(l->c, "kernel_shape", n, size);
    if (average) attr[k++] = at_int("count_include_pad", l->d->torch);
    Value *x = channels_second(l, l->in[0]);
    layer_onnx(l, op, 1, &x, k, attr, 1, &y);
    l->out[0] = channels_back(l, y);
}
static void make_maxpool(Layer *l) { pool(l, "MaxPool"); }
static void make_avgpool(Layer *l) { pool(l, "AveragePool"); }

/* [N, C]: the mean or the largest over all spatial axes. */
static void global_pool(Layer *l, bool mean) {
    Value *x = l->in[0];
    int64_t axes[MAX_RANK];
    int n = 0, channels = channel_axis(l, x);
    if (x->rank < 3) {
        layer_error(l, 301, NULL, "the input %s has no spatial axes", value_type_text(l->c, x));
        return;
    }
    Expr *count = expr_int(l->c, 1);
    for (int i = 1; i < x->rank; i++)
        if (i != channels) {
            axes[n++] = i;
            count = expr_mul(l->c, count, x->dim[i]);
        }
    Value *y = build_reduce(l->g, mean ? "reduce_sum" : "reduce_max", x, n, axes, layer_flag(l, "keep"));
    l->out[0] = mean ? make(l->g, "div", y, build_scalar(l->g, x->dt, count)) : y;
}
static void make_global_avgpool(Layer *l) { global_pool(l, true); }
static void make_global_maxpool(Layer *l) { global_pool(l, false); }

/* Every element becomes a square of the given size. */
static void make_upsample(Layer *l) {
    Value *x = l->in[0];
    int n = x->rank - 2, first = l->d->torch ? 2 : 1, rank = 0, at = 0;
    int64_t by[3];
    Expr *wide[MAX_RANK], *thin[MAX_RANK], *dim[MAX_RANK];
    if (n < 1 || n > 3) {
        layer_error(l, 301, NULL, "the input is %s", value_type_text(l->c, x));
        return;
    }
    layer_sizes(l, "size", n, 2, by);
    if (l->d->failed || !positive(l, "size", n, by)) return;
    for (int i = 0; i < x->rank; i++) {
        bool spatial = i >= first && i < first + n;
        thin[rank] = wide[rank] = dim[at] = x->dim[i];
        rank++;
        if (spatial) {
            thin[rank] = expr_int(l->c, 1);
            wide[rank++] = expr_int(l->c, by[i - first]);
            dim[at] = expr_mul(l->c, x->dim[i], wide[rank - 1]);
        }
        at++;
    }
    Value *v = build_broadcast(l->g, build_reshape(l->g, x, rank, thin), rank, wide);
    l->out[0] = build_reshape(l->g, v, at, dim);
}

/* Zeros around the spatial axes. */
static void make_zero_pad(Layer *l) {
    Value *x = l->in[0];
    int n = x->rank - 2, first = l->d->torch ? 2 : 1;
    int64_t by[3];
    Expr *lo[MAX_RANK];
    if (n < 1 || n > 3) {
        layer_error(l, 301, NULL, "the input is %s", value_type_text(l->c, x));
        return;
    }
    layer_sizes(l, "size", n, 1, by);
    for (int i = 0; i < x->rank; i++) lo[i] = expr_int(l->c, i >= first && i < first + n ? by[i - first] : 0);
    for (int i = 0; i < n; i++)
        if (by[i] < 0 || by[i] > 1 << 20) layer_error(l, 204, NULL, "size is %lld", (long long)by[i]);
    if (!l->d->failed) l->out[0] = build_pad(l->g, x, lo, lo, NULL, NULL);
}

#define PARAM {"bias", 'b', 1}, {"init", 'i', 0}, {"bias_init", 'i', 0}, {"l1", 'f', 0}, {"l2", 'f', 0}
#define CONV .min = 1, .max = 1, .positions = 2, .activates = true, .make = make_conv, .arg = {{"filters", 'n', 0}, {"kernel", 's', 0},    \
    {"stride", 's', 1}, {"pad", 'p', 0}, {"dilation", 's', 1}, {"groups", 'n', 1}, PARAM}
#define TRANSPOSED .min = 1, .max = 1, .positions = 2, .activates = true, .make = make_conv_transpose, .arg = {{"filters", 'n', 0},        \
    {"kernel", 's', 0}, {"stride", 's', 1}, {"pad", 'p', 0}, {"output_padding", 's', 0}, {"dilation", 's', 1}, {"groups", 'n', 1}, PARAM}
#define DEPTHWISE .min = 1, .max = 1, .positions = 1, .activates = true, .make = make_depthwise, .arg = {{"kernel", 's', 3},               \
    {"stride", 's', 1}, {"pad", 'p', 0}, {"dilation", 's', 1}, {"multiplier", 'n', 1}, PARAM}
#define POOL .min = 1, .max = 1, .positions = 2, .arg = {{"size", 's', 2}, {"stride", 's', 0}, {"pad", 'p', 0}}

const LayerRow gd_layers_conv[] = {
    {"conv1d", NULL, CONV, .keras = "conv1d", .torch = "conv", .doc = "Convolution over one axis: filters, kernel."},
    {"conv2d", NULL, CONV, .keras = "conv2d", .torch = "conv", .doc = "Convolution over two axes: filters, kernel."},
    {"conv3d", NULL, CONV, .keras = "conv3d", .torch = "conv", .doc = "Convolution over three axes: filters, kernel."},
    {"depthwise_conv1d", NULL, DEPTHWISE, .keras = "depthwise_conv1d", .torch = "conv", .doc = "Each channel convolved for itself."},
    {"depthwise_conv2d", "depthwise", DEPTHWISE, .keras = "depthwise_conv2d", .torch = "conv", .doc = "Each channel convolved for itself."},
    {"conv1d_transpose", "conv_transpose1d", TRANSPOSED, .keras = "conv1d_transpose", .torch = "convt", .doc = "The transposed convolution."},
    {"conv2d_transpose", "conv_transpose2d", TRANSPOSED, .keras = "conv2d_transpose", .torch = "convt", .doc = "The transposed convolution."},
    {"conv3d_transpose", "conv_transpose3d", TRANSPOSED, .keras = "conv3d_transpose", .torch = "convt", .doc = "The transposed convolution."},
    {"maxpool", "max_pool", POOL, .make = make_maxpool, .doc = "The largest element under a window; the stride is the size unless given."},
    {"avgpool", "avg_pool", POOL, .make = make_avgpool, .doc = "The mean under a window."},
    {"global_avgpool", "global_average_pooling", 1, 1, 0, .arg = {{"keep", 'b', 0}}, .make = make_global_avgpool, .doc = "The mean of each channel: [N, C]."},
    {"global_maxpool", "global_max_pooling", 1, 1, 0, .arg = {{"keep", 'b', 0}}, .make = make_global_maxpool, .doc = "The largest element of each channel: [N, C]."},
    {"upsample", NULL, 1, 1, 1, .arg = {{"size", 's', 2}}, .make = make_upsample, .doc = "Each element repeated size times along the spatial axes."},
    {"zero_pad", "zero_padding", 1, 1, 1, .arg = {{"size", 's', 1}}, .make = make_zero_pad, .doc = "Zeros around the spatial axes."},
    {0}};
