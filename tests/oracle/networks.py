"""The networks of examples/ and a few more in PyTorch: functions of a dict of parameters, under the names gradc gives them, and an
input, of any dtype, and differentiable by both."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call


def part(p, prefix):
    return {k[len(prefix):]: v for k, v in p.items() if k.startswith(prefix)}


def module(net, p, *inputs, **more):
    return functional_call(net.to(next(iter(p.values())).dtype), p, inputs, more)


# ---- the examples: all but the last softmax ----

def cnn(p, x):
    h = x.permute(0, 3, 1, 2)
    for q in ("conv2d", "conv2d_1"):
        h = F.max_pool2d(F.relu(F.conv2d(h, p[q + "/kernel"].permute(3, 2, 0, 1), p[q + "/bias"])), 2)
    return h.permute(0, 2, 3, 1).reshape(len(h), -1) @ p["dense/kernel"] + p["dense/bias"]


def char_rnn(p, x):
    h = torch.zeros(x.shape[1], 128, dtype=x.dtype)
    for row in x:
        c = torch.cat((row, h), 1)
        h = F.linear(c, p["i2h.weight"], p["i2h.bias"])
    return F.linear(c, p["i2o.weight"], p["i2o.bias"])


def char_rnn_tanh(p, x):
    h = torch.zeros(x.shape[1], 128, dtype=x.dtype)
    for row in x:
        h = torch.tanh(F.linear(row, p["w_x.weight"], p["w_x.bias"]) + F.linear(h, p["w_h.weight"]))
    return F.linear(h, p["out.weight"], p["out.bias"])


def lstm(p, x):
    h = module(nn.LSTM(256, 256, 2, batch_first=True), part(p, "lstm1."), F.embedding(x, p["embedding1.weight"]))[0]
    return F.linear(h, p["linear1.weight"], p["linear1.bias"])


def transformer(p, h, heads):
    t, width = h.shape[1:]
    a = F.layer_norm(h, (width,), p["ln1.weight"], p["ln1.bias"])
    hidden = torch.triu(torch.ones(t, t, dtype=bool), 1)
    net = nn.MultiheadAttention(width, heads, batch_first=True)
    h = h + module(net, part(p, "attention1."), a, a, a, attn_mask=hidden, need_weights=False)[0]
    a = F.layer_norm(h, (width,), p["ln2.weight"], p["ln2.bias"])
    a = F.gelu(F.linear(a, p["linear1.weight"], p["linear1.bias"]))
    return h + F.linear(a, p["linear2.weight"], p["linear2.bias"])


def gpt(p, x):
    h = F.embedding(x, p["te.weight"]) + p["pe.weight"][None]
    for i in range(1, 7):
        h = transformer(part(p, f"transformer{i}."), h, 6)
    return F.linear(F.layer_norm(h, (384,), p["ln1.weight"], p["ln1.bias"]), p["linear1.weight"])


class Resnet:
    """train: batches' own statistics, and the running ones move in p; else the running ones count."""

    def __init__(self, train):
        self.train = train

    def conv(self, p, v, name, norm, **more):
        y, q = F.conv2d(v, p[name + ".weight"], **more), part(p, norm + ".")
        return F.batch_norm(y, q["running_mean"], q["running_var"], q["weight"], q["bias"], self.train)

    def residual(self, p, v):
        y = F.relu(self.conv(p, v, "conv1", "bn1", padding=1))
        return F.relu(self.conv(p, y, "conv2", "bn2", padding=1) + v)

    def widening(self, p, v):
        shortcut = self.conv(p, v, "conv1", "bn1", stride=2)
        y = F.relu(self.conv(p, v, "conv2", "bn2", stride=2, padding=1))
        return F.relu(self.conv(p, y, "conv3", "bn3", padding=1) + shortcut)

    def __call__(self, p, x):
        h = F.relu(self.conv(p, x, "conv1", "bn1", padding=1))
        for i in (1, 2):
            h = self.residual(part(p, f"residual{i}."), h)
        for i in range(1, 4):
            h = self.residual(part(p, f"residual{i + 2}."), self.widening(part(p, f"widening{i}."), h))
        return F.linear(h.mean((2, 3)), p["linear1.weight"], p["linear1.bias"])


# ---- recurrent layers: PyTorch's are its own, Keras's equations are written out ----

def recurrent(kind, cls):
    return lambda p, x: module(cls(5, 7, 2, batch_first=True, bidirectional=True), part(p, kind + "1."), x)[0]


def keras_gru(p, x):
    h = torch.zeros(len(x), 7, dtype=x.dtype)
    for i in range(x.shape[1]):
        a = x[:, i] @ p["gru/kernel"] + p["gru/bias"][0]
        b = h @ p["gru/recurrent_kernel"] + p["gru/bias"][1]
        z, r = torch.sigmoid(a[:, :7] + b[:, :7]), torch.sigmoid(a[:, 7:14] + b[:, 7:14])
        h = z * h + (1 - z) * torch.tanh(a[:, 14:] + r * b[:, 14:])
    return h


def keras_lstm(p, x):
    h, c, all_h = torch.zeros(len(x), 7, dtype=x.dtype), torch.zeros(len(x), 7, dtype=x.dtype), []
    for i in range(x.shape[1]):
        gate = (x[:, i] @ p["lstm/kernel"] + h @ p["lstm/recurrent_kernel"] + p["lstm/bias"]).split(7, 1)
        c = torch.sigmoid(gate[1]) * c + torch.sigmoid(gate[0]) * torch.tanh(gate[2])
        h = torch.sigmoid(gate[3]) * torch.tanh(c)
        all_h.append(h)
    return torch.stack(all_h, 1)


def keras_batchnorm(p, x):
    """Over the last axis of a batch; epsilon 1e-3."""
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2), correction=0)
    q = part(p, "batch_normalization/")
    with torch.no_grad():
        q["moving_mean"].copy_(.99 * q["moving_mean"] + .01 * mean)
        q["moving_variance"].copy_(.99 * q["moving_variance"] + .01 * var)
    return (x - mean) / torch.sqrt(var + 1e-3) * q["gamma"] + q["beta"]


# ---- layers of an image x [N, 4, 8, 8]: a line of a description, and what it computes ----

LAYERS = {
    "conv2d 6 3x3 stride=2 pad=1 groups=2 name=c": lambda x, p: F.conv2d(x, p["c.weight"], p["c.bias"], 2, 1, 1, 2),
    "conv2d 6 3x3 pad=same dilation=2 gelu name=c": lambda x, p: F.gelu(F.conv2d(x, p["c.weight"], p["c.bias"], 1, "same", 2)),
    "conv_transpose2d 6 3x3 stride=2 pad=1 output_padding=1 groups=2":
        lambda x, p: F.conv_transpose2d(x, p["convt1.weight"], p["convt1.bias"], 2, 1, 1, 2),
    "depthwise 3x3 multiplier=2 pad=1 dilation=2 name=c": lambda x, p: F.conv2d(x, p["c.weight"], p["c.bias"], 1, 1, 2, 4),
    "maxpool 3x3 stride=2 pad=1": lambda x, p: F.max_pool2d(x, 3, 2, 1),
    "avgpool 3x3 stride=2 pad=1": lambda x, p: F.avg_pool2d(x, 3, 2, 1),
    "global_avgpool": lambda x, p: x.mean((2, 3)),
    "global_maxpool": lambda x, p: x.amax((2, 3)),
    "groupnorm 2": lambda x, p: F.group_norm(x, 2, p["gn1.weight"], p["gn1.bias"]),
    "layernorm": lambda x, p: F.layer_norm(x, (8,), p["ln1.weight"], p["ln1.bias"]),
    "prelu": lambda x, p: F.prelu(x, p["prelu1.weight"]),
    "upsample 2": lambda x, p: F.interpolate(x, scale_factor=2),
    "zero_pad 1x2": lambda x, p: F.pad(x, (2, 2, 1, 1)),
    "flatten": lambda x, p: x.flatten(1),
    "transpose 0 2 3 1": lambda x, p: x.permute(0, 2, 3, 1),
    "reshape N (4*8) -1": lambda x, p: x.reshape(len(x), 32, -1),
    "mean axis=1 keep": lambda x, p: x.mean(1, keepdim=True),
    "y = it[:, 1:3, -1] * 2 + 1": lambda x, p: x[:, 1:3, -1] * 2 + 1,
    "a, b = split(it, 2, axis=1)\nconcat(b, a, axis=1)": lambda x, p: torch.cat((x[:, 2:], x[:, :2]), 1),
    "leaky_relu": lambda x, p: F.leaky_relu(x), "hard_sigmoid": lambda x, p: F.hardsigmoid(x), "hard_tanh": lambda x, p: F.hardtanh(x),
    "hard_silu": lambda x, p: F.hardswish(x), "silu": lambda x, p: F.silu(x), "mish": lambda x, p: F.mish(x), "elu": lambda x, p: F.elu(x),
    "celu": lambda x, p: F.celu(x), "selu": lambda x, p: F.selu(x), "gelu": lambda x, p: F.gelu(x), "relu6": lambda x, p: F.relu6(x),
    "gelu_tanh": lambda x, p: F.gelu(x, approximate="tanh"), "softplus": lambda x, p: F.softplus(x), "softsign": lambda x, p: F.softsign(x),
    "soft_shrink": lambda x, p: F.softshrink(x), "hard_shrink": lambda x, p: F.hardshrink(x), "log_sigmoid": lambda x, p: F.logsigmoid(x),
    "tanh_shrink": lambda x, p: F.tanhshrink(x), "softmax axis=1": lambda x, p: torch.softmax(x, 1),
}
