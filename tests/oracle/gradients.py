"""One step of training against PyTorch in double: called by models.py."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import networks, tool
from networks import LAYERS, part
from tool import rng

# Constants that ONNX gives as attributes are f32 in a model of f64 too: 1/6, and the two of selu.
F32_CONSTANTS = ("hard_sigmoid", "selu")
RUNNING = ("running_mean", "running_var", "moving_mean", "moving_variance")


def oracle(values, net, x, loss):
    """The loss, gradients by name, and the running statistics after it."""
    p = {k: torch.tensor(v, dtype=torch.float64, requires_grad=not k.endswith(RUNNING)) for k, v in values.items()}
    y = loss(net(p, x))
    y.backward()
    return y.item(), {k: v.grad.numpy() for k, v in p.items() if v.requires_grad}, {k: v.numpy() for k, v in p.items() if not v.requires_grad}


def compare(name, path, data, net, loss, take=lambda x: x, options=()):
    """data: an array for the input and one for the target, samples first; what the network takes is take(the input)."""
    values = tool.params(path)
    double = any(v.dtype == np.float64 for v in values.values())
    x, target = (torch.tensor(v) for v in data.values())
    want_loss, want, want_running = oracle(values, net, take(x.double() if x.is_floating_point() else x), lambda y: loss(y, target))
    got_loss, got, after = tool.step(path, values, data, options)
    bound = 1e-4 if not double else 1e-6 if name in F32_CONSTANTS else 1e-9
    # What is zero in truth (the bias of attention's keys) is rounding in both: measured against the largest gradient of all.
    least = 1e-3 * max(np.abs(g).max() for g in want.values())
    worst, where = abs(got_loss - want_loss) / abs(want_loss), "the loss"
    for k in want:
        far = np.abs(got[k] - want[k]).max() / max(np.abs(want[k]).max(), least)
        worst, where = max((worst, where), (far if np.isfinite(far) else np.inf, k))
    for k in want_running:
        worst, where = max((worst, where), (np.abs(after[k] - want_running[k]).max() / np.abs(want_running[k]).max(), k))
    tool.told(worst <= bound, f"gradients of {name}, {'f64' if double else 'f32'}", f"{worst:.1e} ({where}, {len(want)} parameters)")


def time_first(x):
    return x.movedim(0, 1)


def classes(y, target):
    return F.cross_entropy(y, target)


def sequence_classes(y, target):
    return F.cross_entropy(y.flatten(0, 1), target.flatten())


def square(y, target):
    return F.mse_loss(y, target.double())


def example(path, dtype):
    with open("examples/" + path) as f:
        return tool.describe(f.read(), dtype=dtype)


def floats(dtype, *shape):
    return rng.standard_normal(shape).astype("f8" if dtype == "f64" else "f4")


def networks_of(dtype):
    """Those whose inputs are numbers, in either dtype."""
    compare("the Keras CNN", example("keras_cnn/cnn.model", dtype), {"image": floats(dtype, 8, 28, 28, 1), "target": rng.integers(0, 10, 8)},
            networks.cnn, classes)
    compare("char_rnn linear", example("char_rnn/linear.model", dtype), {"line": floats(dtype, 1, 8, 57), "target": rng.integers(0, 18, (1, 1))},
            networks.char_rnn, lambda y, t: classes(y, t[0]), time_first, ("--dim", "T=8"))
    compare("char_rnn tanh", example("char_rnn/tanh.model", dtype), {"line": floats(dtype, 4, 8, 57), "target": rng.integers(0, 18, 4)},
            networks.char_rnn_tanh, classes, time_first, ("--dim", "T=8"))
    with open("examples/models/resnet18.model") as f:
        blocks = f.read().split("input image")[0]
    resnet = networks.Resnet(True)
    for name, line in (("residual", "residual 8"), ("widening", "widening 12 stride=2")):
        path = tool.describe(f"{blocks}input x: f32[N, 8, 10, 10]\n{line}\ntrain\n  loss mse\n", dtype=dtype)
        shape = {"residual": (8, 10, 10), "widening": (12, 5, 5)}[name]
        compare(f"a {name} block of ResNet", path, {"x": floats(dtype, 6, 8, 10, 10), "target": floats(dtype, 6, *shape)},
                lambda p, x: getattr(resnet, name)(part(p, name + "1."), x), square)
    with open("examples/models/gpt.model") as f:
        block = f.read().split("block")[1].split("input")[0].replace("heads=6", "heads=4").replace("1536", "128").replace("384", "32")
    path = tool.describe(f"model block\nsemantics torch\nblock{block}input x: f32[N, 9, 32]\ntransformer\ntrain\n  loss mse\n", dtype=dtype)
    compare("a causal attention block", path, {"x": floats(dtype, 3, 9, 32), "target": floats(dtype, 3, 9, 32)},
            lambda p, x: networks.transformer(part(p, "transformer1."), x, 4), square)
    mse = "\ntrain\n  loss mse"
    x = floats(dtype, 3, 6, 5)
    for kind, cls in (("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)):
        compare(f"a bidirectional {kind} of two layers", tool.describe(f"input x: f32[N, 6, 5]\n{kind} 7 layers=2 bidirectional{mse}", dtype=dtype),
                {"x": x, "target": floats(dtype, 3, 6, 14)}, networks.recurrent(kind, cls), square)
    compare("Keras's GRU", tool.describe("input x: f32[N, 6, 5]\ngru 7" + mse, "keras", dtype), {"x": x, "target": floats(dtype, 3, 7)},
            networks.keras_gru, square)
    compare("Keras's LSTM", tool.describe("input x: f32[N, 6, 5]\nlstm 7 sequence" + mse, "keras", dtype),
            {"x": x, "target": floats(dtype, 3, 6, 7)}, networks.keras_lstm, square)
    compare("Keras's batch normalization", tool.describe("input x: f32[N, 6, 6, 5]\nbatchnorm" + mse, "keras", dtype),
            {"x": floats(dtype, 4, 6, 6, 5), "target": floats(dtype, 4, 6, 6, 5)}, networks.keras_batchnorm, square)
    layers(dtype)


def layers(dtype):
    """Behind a convolution of its own: a layer's parameters have gradients, and so has what it takes."""
    for line, net in LAYERS.items():
        path = tool.describe(f"input x: f32[N, 3, 8, 8]\nconv2d 4 1x1 name=before\n{line}\noutput output = it\ntrain\n  loss mse", dtype=dtype)
        shape = net(torch.zeros(2, 4, 8, 8), {k: torch.tensor(v, dtype=torch.float32) for k, v in tool.params(path).items()}).shape
        compare(line, path, {"x": 8 * floats(dtype, 2, 3, 8, 8), "target": floats(dtype, *shape)},
                lambda p, x: net(F.conv2d(x, p["before.weight"], p["before.bias"]), p), square)


def gradients():
    for dtype in ("f32", "f64"):
        networks_of(dtype)
    tokens = rng.integers(0, 65, (2, 128))
    compare("the GPT", example("models/gpt.model", None), {"tokens": tokens, "target": rng.integers(0, 65, (2, 128))}, networks.gpt, sequence_classes)
    compare("the LSTM language model", example("models/lstm.model", None),
            {"tokens": rng.integers(0, 128, (3, 64)), "target": rng.integers(0, 128, (3, 64))}, networks.lstm, sequence_classes)
    # In f64: among a million activations some are so near to zero that rounding to f32 takes them to the other side of relu.
    compare("ResNet-18", example("models/resnet18.model", "f64"), {"image": floats("f64", 8, 3, 32, 32), "target": rng.integers(0, 10, 8)},
            networks.Resnet(True), classes)
