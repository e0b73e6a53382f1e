#!/usr/bin/env python3
"""ONNX files of the networks whose training is measured (bench/train_compare.py), with random weights.

    python3 bench/train_models.py FOLDER [cnn lstm resnet18 gpt ...]

    cnn       28x28x1: conv 32 3x3, relu, max pool 2, conv 64 3x3, relu, max pool 2, dense 10
    lstm      characters: embedding 256, two LSTM layers of 256, dense 128; 64 steps
    resnet18  32x32x3, the first convolution 3x3 with stride 1 (CIFAR form)
    gpt       6 layers of 384, 6 heads, 128 tokens of a vocabulary of 65
The batch is open: N.
"""
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

F32, I64 = TensorProto.FLOAT, TensorProto.INT64


class Net:
    def __init__(self, name):
        self.name, self.nodes, self.weights, self.random = name, [], [], np.random.default_rng(0)

    def const(self, name, array):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weight(self, name, *shape, fan=None):
        bound = 1 / np.sqrt(fan or np.prod(shape[1:]))
        return self.const(name, self.random.uniform(-bound, bound, shape).astype(np.float32))

    def full(self, name, value, *shape):
        return self.const(name, np.full(shape, value, np.float32))

    def ints(self, name, *values):
        return self.const(name, np.array(values, np.int64))

    def op(self, op, *inputs, outputs=1, **attributes):
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x, name, inputs, outputs, bias=True):
        y = self.op("MatMul", x, self.weight(name + ".weight", inputs, outputs, fan=inputs))
        return self.op("Add", y, self.weight(name + ".bias", outputs, fan=inputs)) if bias else y

    def save(self, path, x, dtype, shape, y, classes):
        graph = helper.make_graph(
            self.nodes, self.name, [helper.make_tensor_value_info(x, dtype, shape)],
            [helper.make_tensor_value_info(y, F32, classes)], self.weights)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def cnn(path):
    net = Net("cnn")
    y = "x"
    for name, inputs, outputs in (("conv1", 1, 32), ("conv2", 32, 64)):
        w = net.weight(name + ".weight", outputs, inputs, 3, 3)
        y = net.op("Relu", net.op("Conv", y, w, net.weight(name + ".bias", outputs, fan=inputs * 9)))
        y = net.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = net.dense(net.op("Flatten", y), "dense", 1600, 10)
    net.save(path, "x", F32, ["N", 1, 28, 28], y, ["N", 10])


def lstm(path, width=256, layers=2, steps=64, vocabulary=128):
    net = Net("lstm")
    y = net.op("Gather", net.weight("embedding", vocabulary, width, fan=1), "x")
    y = net.op("Transpose", y, perm=[1, 0, 2])
    for i in range(layers):
        w, r = (net.weight(f"lstm{i}.{k}", 1, 4 * width, width, fan=width) for k in "wr")
        b = net.weight(f"lstm{i}.b", 1, 8 * width, fan=width)
        y = net.op("LSTM", y, w, r, b, outputs=3, hidden_size=width)[0]
        y = net.op("Squeeze", y, net.ints(f"lstm{i}.axes", 1))
    y = net.dense(net.op("Transpose", y, perm=[1, 0, 2]), "dense", width, vocabulary)
    y = net.op("Reshape", y, net.ints("rows", -1, vocabulary))
    net.save(path, "x", I64, ["N", steps], y, ["R", vocabulary])


def resnet18(path):
    net = Net("resnet18")

    def conv(x, name, inputs, outputs, kernel, stride):
        w = net.weight(name + ".weight", outputs, inputs, kernel, kernel)
        y = net.op("Conv", x, w, strides=[stride] * 2, pads=[kernel // 2] * 4)
        norm = [net.full(f"{name}.{k}", v, outputs) for k, v in (("scale", 1), ("shift", 0), ("mean", 0), ("var", 1))]
        return net.op("BatchNormalization", y, *norm, epsilon=1e-5, momentum=0.9)

    y, inputs = net.op("Relu", conv("x", "first", 3, 64, 3, 1)), 64
    for stage, (outputs, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2))):
        for block in range(2):
            name, by = f"stage{stage}.{block}", stride if block == 0 else 1
            z = net.op("Relu", conv(y, name + ".conv1", inputs, outputs, 3, by))
            z = conv(z, name + ".conv2", outputs, outputs, 3, 1)
            if by != 1 or inputs != outputs:
                y = conv(y, name + ".short", inputs, outputs, 1, by)
            y, inputs = net.op("Relu", net.op("Add", z, y)), outputs
    y = net.dense(net.op("Flatten", net.op("GlobalAveragePool", y)), "dense", 512, 10)
    net.save(path, "x", F32, ["N", 3, 32, 32], y, ["N", 10])


def gpt(path, layers=6, width=384, heads=6, tokens=128, vocabulary=65):
    net = Net("gpt")
    size = width // heads

    def norm(x, name):
        return net.op("LayerNormalization", x, net.full(name + ".scale", 1, width), net.full(name + ".shift", 0, width), axis=-1)

    split = net.ints("split", 0, tokens, heads, size)
    join = net.ints("join", 0, tokens, width)
    parts = net.ints("parts", width, width, width)
    scale = net.op("Constant", value_float=size**-0.5)
    mask = net.op("Constant", value=numpy_helper.from_array(np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)))
    y = net.op("Gather", net.weight("tokens", vocabulary, width, fan=1), "x")
    y = net.op("Add", y, net.weight("positions", tokens, width, fan=1))
    for i in range(layers):
        q, k, v = net.op("Split", net.dense(norm(y, f"norm{i}.0"), f"qkv{i}", width, 3 * width), parts, outputs=3, axis=2)
        q, k, v = (net.op("Transpose", net.op("Reshape", t, split), perm=p)
                   for t, p in ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3])))
        a = net.op("Softmax", net.op("Add", net.op("Mul", net.op("MatMul", q, k), scale), mask), axis=-1)
        a = net.op("Reshape", net.op("Transpose", net.op("MatMul", a, v), perm=[0, 2, 1, 3]), join)
        y = net.op("Add", y, net.dense(a, f"project{i}", width, width))
        h = net.op("Gelu", net.dense(norm(y, f"norm{i}.1"), f"up{i}", width, 4 * width))
        y = net.op("Add", y, net.dense(h, f"down{i}", 4 * width, width))
    y = net.dense(norm(y, "norm"), "head", width, vocabulary, bias=False)
    net.save(path, "x", I64, ["N", tokens], net.op("Reshape", y, net.ints("rows", -1, vocabulary)), ["R", vocabulary])


NETS = {f.__name__: f for f in (cnn, lstm, resnet18, gpt)}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or NETS:
        NETS[name](folder / f"{name}.onnx")
