#!/usr/bin/env python3
"""Model descriptions against PyTorch and numpy: forward results with random parameters.

  tests/oracle/models.py build/gradc

Run it in the folder of the sources. Needs the packages torch and numpy. Prints the largest difference of every model and a
closing line; a difference above 1e-5 fails.
"""
import os, re, subprocess, sys, tempfile
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

GRADC = sys.argv[1]
DIR = tempfile.mkdtemp()
rng = np.random.default_rng(0)
T = torch.tensor
count = {"passed": 0, "failed": 0}


def compare(name, got, want):
    want = np.asarray(want)
    worst = np.abs(got - want).max() if got.shape == want.shape else np.inf
    ok = worst <= 1e-5
    count["passed" if ok else "failed"] += 1
    print("ok  " if ok else "FAIL", name.replace("\n", "; "), worst)


def params(path):
    """Random values of all inputs but the first, as `gradc inspect` lists them."""
    lines = subprocess.run([GRADC, "inspect", path], capture_output=True, text=True, check=True).stdout.splitlines()
    start = next(i for i, l in enumerate(lines) if l.startswith("inputs"))
    found = {}
    for line in lines[start + 1:]:
        if not line.startswith(" "):
            break
        name, kind = line.split()[:2]
        dims = [int(d) for d in re.search(r"\[(.*)\]", kind).group(1).split(",")]
        v = rng.standard_normal(dims) * (.05 if len(dims) > 1 else .1)
        found[name] = (np.abs(v) + .5 if re.search("running_var|moving_variance", name) else v).astype("f")
    return found


def run(path, values):
    args = []
    for name, v in values.items():
        file = os.path.join(DIR, name.replace("/", "_") + ".npy")
        np.save(file, v)
        args.append(f"{name}=@{file}")
    subprocess.run([GRADC, "run", path, *args, "--out", DIR], check=True, capture_output=True)
    return np.load(os.path.join(DIR, "output.npy"))


def describe(body, semantics="torch"):
    path = os.path.join(DIR, "text.model")
    with open(path, "w") as f:
        f.write(f"model text\nsemantics {semantics}\n{body}\n")
    return path


def part(p, prefix):
    return {k[len(prefix):]: T(v) for k, v in p.items() if k.startswith(prefix)}


# ---- the examples ----

def cnn():
    path = "examples/keras_cnn/cnn.model"
    p, x = params(path), rng.standard_normal((4, 28, 28, 1)).astype("f")
    h = T(x).permute(0, 3, 1, 2)
    for q in ("conv2d", "conv2d_1"):
        h = F.max_pool2d(F.relu(F.conv2d(h, T(p[q + "/kernel"]).permute(3, 2, 0, 1), T(p[q + "/bias"]))), 2)
    y = torch.softmax(h.permute(0, 2, 3, 1).reshape(4, -1) @ T(p["dense/kernel"]) + T(p["dense/bias"]), 1)
    compare("cnn", run(path, dict(p, image=x)), y)


def char_rnn():
    path = "examples/char_rnn/linear.model"
    p, x = params(path), rng.standard_normal((8, 1, 57)).astype("f")
    h = torch.zeros(1, 128)
    for row in T(x):
        c = torch.cat((row, h), 1)
        h = F.linear(c, T(p["i2h.weight"]), T(p["i2h.bias"]))
        o = F.linear(c, T(p["i2o.weight"]), T(p["i2o.bias"]))
    compare("char_rnn linear", run(path, dict(p, line=x)), torch.log_softmax(o, 1))
    path = "examples/char_rnn/tanh.model"
    p, x = params(path), rng.standard_normal((8, 3, 57)).astype("f")
    h = torch.zeros(3, 128)
    for row in T(x):
        h = torch.tanh(F.linear(row, T(p["w_x.weight"]), T(p["w_x.bias"])) + F.linear(h, T(p["w_h.weight"])))
    y = F.linear(h, T(p["out.weight"]), T(p["out.bias"]))
    compare("char_rnn tanh", run(path, dict(p, line=x)), torch.log_softmax(y, 1))


def lstm():
    path = "examples/models/lstm.model"
    p, x = params(path), rng.integers(0, 128, (3, 64))
    net = nn.LSTM(256, 256, 2, batch_first=True)
    net.load_state_dict(part(p, "lstm1."))
    y = F.linear(net(F.embedding(T(x), T(p["embedding1.weight"])))[0], T(p["linear1.weight"]), T(p["linear1.bias"]))
    compare("lstm", run(path, dict(p, tokens=x)), y.detach())


def gpt():
    path = "examples/models/gpt.model"
    p, x = params(path), rng.integers(0, 65, (2, 128))
    h = F.embedding(T(x), T(p["te.weight"])) + T(p["pe.weight"])[None]
    for i in range(1, 7):
        t = part(p, f"transformer{i}.")
        a = F.layer_norm(h, (384,), t["ln1.weight"], t["ln1.bias"])
        net = nn.MultiheadAttention(384, 6, batch_first=True)
        net.load_state_dict(part(p, f"transformer{i}.attention1."))
        hidden = torch.triu(torch.ones(128, 128, dtype=bool), 1)
        h = h + net(a, a, a, attn_mask=hidden, need_weights=False)[0]
        a = F.layer_norm(h, (384,), t["ln2.weight"], t["ln2.bias"])
        a = F.gelu(F.linear(a, t["linear1.weight"], t["linear1.bias"]))
        h = h + F.linear(a, t["linear2.weight"], t["linear2.bias"])
    y = F.linear(F.layer_norm(h, (384,), T(p["ln1.weight"]), T(p["ln1.bias"])), T(p["linear1.weight"]))
    compare("gpt", run(path, dict(p, tokens=x)), y.detach())


def resnet():
    path = "examples/models/resnet18.model"
    p, x = params(path), rng.standard_normal((2, 3, 32, 32)).astype("f")
    t = {k: T(v) for k, v in p.items()}

    def conv(v, name, norm, **more):
        y = F.conv2d(v, t[name + ".weight"], **more)
        return F.batch_norm(y, t[norm + ".running_mean"], t[norm + ".running_var"], t[norm + ".weight"], t[norm + ".bias"])

    def residual(v, q):
        y = F.relu(conv(v, q + "conv1", q + "bn1", padding=1))
        return F.relu(conv(y, q + "conv2", q + "bn2", padding=1) + v)

    def widening(v, q):
        shortcut = conv(v, q + "conv1", q + "bn1", stride=2)
        y = F.relu(conv(v, q + "conv2", q + "bn2", stride=2, padding=1))
        return F.relu(conv(y, q + "conv3", q + "bn3", padding=1) + shortcut)

    h = F.relu(conv(T(x), "conv1", "bn1", padding=1))
    h = residual(residual(h, "residual1."), "residual2.")
    for i in range(1, 4):
        h = residual(widening(h, f"widening{i}."), f"residual{i + 2}.")
    y = F.linear(h.mean((2, 3)), t["linear1.weight"], t["linear1.bias"])
    compare("resnet18", run(path, dict(p, image=x)), y)


# ---- layers ----

def recurrent():
    x = rng.standard_normal((2, 6, 5)).astype("f")
    for kind, cls in (("gru", nn.GRU), ("lstm", nn.LSTM), ("rnn", nn.RNN)):
        path = describe(f"input x: f32[N, T, 5]\n{kind} 7 layers=2 bidirectional")
        p = params(path)
        net = cls(5, 7, 2, batch_first=True, bidirectional=True)
        net.load_state_dict(part(p, kind + "1."))
        compare(kind, run(path, dict(p, x=x)), net(T(x))[0].detach())
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    path = describe("input x: f32[N, T, 5]\ngru 7", "keras")
    p, h = params(path), np.zeros((2, 7))
    for i in range(6):
        a = x[:, i] @ p["gru/kernel"] + p["gru/bias"][0]
        b = h @ p["gru/recurrent_kernel"] + p["gru/bias"][1]
        z, r = sigmoid(a[:, :7] + b[:, :7]), sigmoid(a[:, 7:14] + b[:, 7:14])
        h = z * h + (1 - z) * np.tanh(a[:, 14:] + r * b[:, 14:])
    compare("keras gru", run(path, dict(p, x=x)), h)
    path = describe("input x: f32[N, T, 5]\nlstm 7 sequence", "keras")
    p, h, c, all_h = params(path), np.zeros((2, 7)), np.zeros((2, 7)), []
    for i in range(6):
        a = x[:, i] @ p["lstm/kernel"] + h @ p["lstm/recurrent_kernel"] + p["lstm/bias"]
        gate = [a[:, k * 7:k * 7 + 7] for k in range(4)]
        c = sigmoid(gate[1]) * c + sigmoid(gate[0]) * np.tanh(gate[2])
        h = sigmoid(gate[3]) * np.tanh(c)
        all_h.append(h)
    compare("keras lstm", run(path, dict(p, x=x)), np.stack(all_h, 1))


LAYERS = {
    "conv2d 6 3x3 stride=2 pad=1 groups=2": lambda x, t: F.conv2d(x, t["conv1.weight"], t["conv1.bias"], 2, 1, 1, 2),
    "conv2d 6 3x3 pad=same dilation=2 gelu": lambda x, t: F.gelu(F.conv2d(x, t["conv1.weight"], t["conv1.bias"], 1, "same", 2)),
    "conv_transpose2d 6 3x3 stride=2 pad=1 output_padding=1 groups=2":
        lambda x, t: F.conv_transpose2d(x, t["convt1.weight"], t["convt1.bias"], 2, 1, 1, 2),
    "depthwise 3x3 multiplier=2 pad=1 dilation=2": lambda x, t: F.conv2d(x, t["conv1.weight"], t["conv1.bias"], 1, 1, 2, 4),
    "maxpool 3x3 stride=2 pad=1": lambda x, t: F.max_pool2d(x, 3, 2, 1),
    "avgpool 3x3 stride=2 pad=1": lambda x, t: F.avg_pool2d(x, 3, 2, 1),
    "global_avgpool": lambda x, t: x.mean((2, 3)),
    "global_maxpool": lambda x, t: x.amax((2, 3)),
    "groupnorm 2": lambda x, t: F.group_norm(x, 2, t["gn1.weight"], t["gn1.bias"]),
    "layernorm": lambda x, t: F.layer_norm(x, (8,), t["ln1.weight"], t["ln1.bias"]),
    "prelu": lambda x, t: F.prelu(x, t["prelu1.weight"]),
    "upsample 2": lambda x, t: F.interpolate(x, scale_factor=2),
    "zero_pad 1x2": lambda x, t: F.pad(x, (2, 2, 1, 1)),
    "flatten": lambda x, t: x.flatten(1),
    "transpose 0 2 3 1": lambda x, t: x.permute(0, 2, 3, 1),
    "reshape N (4*8) -1": lambda x, t: x.reshape(2, 32, -1),
    "mean axis=1 keep": lambda x, t: x.mean(1, keepdim=True),
    "y = x[:, 1:3, -1] * 2 + 1": lambda x, t: x[:, 1:3, -1] * 2 + 1,
    "a, b = split(x, 2, axis=1)\nconcat(b, a, axis=1)": lambda x, t: torch.cat((x[:, 2:], x[:, :2]), 1),
    "leaky_relu": lambda x, t: F.leaky_relu(x), "hard_sigmoid": lambda x, t: F.hardsigmoid(x), "hard_tanh": lambda x, t: F.hardtanh(x),
    "hard_silu": lambda x, t: F.hardswish(x), "silu": lambda x, t: F.silu(x), "mish": lambda x, t: F.mish(x), "elu": lambda x, t: F.elu(x),
    "celu": lambda x, t: F.celu(x), "selu": lambda x, t: F.selu(x), "gelu": lambda x, t: F.gelu(x), "relu6": lambda x, t: F.relu6(x),
    "gelu_tanh": lambda x, t: F.gelu(x, approximate="tanh"), "softplus": lambda x, t: F.softplus(x), "softsign": lambda x, t: F.softsign(x),
    "soft_shrink": lambda x, t: F.softshrink(x), "hard_shrink": lambda x, t: F.hardshrink(x), "log_sigmoid": lambda x, t: F.logsigmoid(x),
    "tanh_shrink": lambda x, t: F.tanhshrink(x), "softmax axis=1": lambda x, t: torch.softmax(x, 1),
}


def layers():
    for line, want in LAYERS.items():
        path = describe(f"input x: f32[N, 4, 8, 8]\n{line}\noutput output = it")
        p, x = params(path), rng.standard_normal((2, 4, 8, 8)).astype("f")
        compare(line, run(path, dict(p, x=x)), want(T(x), {k: T(v) for k, v in p.items()}))


for check in (cnn, char_rnn, lstm, gpt, resnet, recurrent, layers):
    check()
print(f"{count['passed']} passed, {count['failed']} failed")
sys.exit(count["failed"] > 0)
