#!/usr/bin/env python3
"""Whole networks and single layers against PyTorch in double: answers with random parameters, then one step of training each,
the loss, the gradient of every parameter and the running statistics.

  tests/oracle/models.py build/gradc [forward] [gradients]

Run it in the folder of the sources. Needs the packages torch (2.0 or newer) and numpy; takes two to five minutes. Parameters go over as
safetensors. Every line has the largest difference; answers may be 1e-5 apart, the gradient of a parameter 1e-4 of its largest
element in f32 and 1e-9 in f64. Prints a closing line.
"""
import sys
import numpy as np
import torch
import torch.nn as nn
import networks, tool
from networks import LAYERS
from tool import describe, params, rng, run


def compare(name, path, inputs, net, last=lambda y: y):
    p = params(path)
    got = run(path, dict(p, **inputs))
    doubles = {k: torch.tensor(v).double() for k, v in p.items()}
    x, = (torch.tensor(v) for v in inputs.values())
    with torch.no_grad():
        want = last(net(doubles, x.double() if x.is_floating_point() else x)).numpy()
    worst = np.abs(got - want).max() if got.shape == want.shape else np.inf
    tool.told(worst <= 1e-5, name, f"{worst:.1e}")


def normal(*shape):
    return rng.standard_normal(shape).astype("f")


def forward():
    softmax, log_softmax = lambda y: torch.softmax(y, 1), lambda y: torch.log_softmax(y, 1)
    compare("cnn", "examples/keras_cnn/cnn.model", {"image": normal(4, 28, 28, 1)}, networks.cnn, softmax)
    compare("char_rnn linear", "examples/char_rnn/linear.model", {"line": normal(8, 1, 57)}, networks.char_rnn, log_softmax)
    compare("char_rnn tanh", "examples/char_rnn/tanh.model", {"line": normal(8, 3, 57)}, networks.char_rnn_tanh, log_softmax)
    compare("lstm", "examples/models/lstm.model", {"tokens": rng.integers(0, 128, (3, 64))}, networks.lstm)
    compare("gpt", "examples/models/gpt.model", {"tokens": rng.integers(0, 65, (2, 128))}, networks.gpt)
    compare("resnet18", "examples/models/resnet18.model", {"image": normal(2, 3, 32, 32)}, networks.Resnet(False))
    x = normal(2, 6, 5)
    for kind, cls in (("gru", nn.GRU), ("lstm", nn.LSTM), ("rnn", nn.RNN)):
        compare(kind, describe(f"input x: f32[N, T, 5]\n{kind} 7 layers=2 bidirectional"), {"x": x}, networks.recurrent(kind, cls))
    compare("keras gru", describe("input x: f32[N, T, 5]\ngru 7", "keras"), {"x": x}, networks.keras_gru)
    compare("keras lstm", describe("input x: f32[N, T, 5]\nlstm 7 sequence", "keras"), {"x": x}, networks.keras_lstm)
    for line, net in LAYERS.items():
        compare(line, describe(f"input x: f32[N, 4, 8, 8]\n{line}\noutput output = it"), {"x": normal(2, 4, 8, 8)},
                lambda p, v: net(v, p))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    tool.gradc = sys.argv[1]
    import gradients
    torch.manual_seed(0)
    for check in sys.argv[2:] or ("forward", "gradients"):
        {"forward": forward, "gradients": gradients.gradients}[check]()
    print(f"{tool.count['passed']} passed, {tool.count['failed']} failed")
    sys.exit(tool.count["failed"] > 0)
