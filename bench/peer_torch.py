#!/usr/bin/env python3
"""PyTorch's side of train_compare.py, a process of its own: the networks of examples/ under the names gradc gives their parameters.

    peer_torch.py NAME THREADS [--compile] [--channels-last]

Answers each line on its standard input with a line of JSON: `learn WEIGHTS DATA STEPS` writes the parameters (safetensors) and the
batch (npz) and trains so many steps from there: the losses; `time SECONDS`: milliseconds of each step; `memory`: bytes at the
peak of the steps so far, beyond what the process had after importing PyTorch and a step of a tiny network.
"""
import json
import os
import re
import struct
import sys
import time

NAME, THREADS, OPTIONS = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
os.environ["OMP_NUM_THREADS"] = str(THREADS)
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def resident(kind):
    """VmRSS: bytes now; VmHWM: at the peak."""
    with open("/proc/self/status") as f:
        return 1024 * int(re.search(kind + r":\s+(\d+)", f.read()).group(1))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding1, self.lstm1, self.linear1 = nn.Embedding(128, 256), nn.LSTM(256, 256, 2, batch_first=True), nn.Linear(256, 128)

    def forward(self, x):
        return self.linear1(self.lstm1(self.embedding1(x))[0]).flatten(0, 1)


def conv(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = conv(width, width, 3), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + x)


class Widening(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = conv(width // 2, width, 1, 2), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width // 2, width, 3, 2), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.bn3(self.conv3(F.relu(self.bn2(self.conv2(x))))) + self.bn1(self.conv1(x)))


class Resnet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.linear1 = conv(3, 64, 3), nn.BatchNorm2d(64), nn.Linear(512, 10)
        for i, width in enumerate((64, 64, 128, 256, 512), 1):
            setattr(self, f"residual{i}", Residual(width))
        for i, width in enumerate((128, 256, 512), 1):
            setattr(self, f"widening{i}", Widening(width))

    def forward(self, x):
        h = self.residual2(self.residual1(F.relu(self.bn1(self.conv1(x)))))
        h = self.residual3(self.widening1(h))
        h = self.residual4(self.widening2(h))
        h = self.residual5(self.widening3(h))
        return self.linear1(h.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.in_proj, self.out_proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in self.in_proj(x).split(c, 2))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))


class Transformer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln1, self.attention1, self.ln2 = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        x = x + self.attention1(self.ln1(x))
        return x + self.linear2(F.gelu(self.linear1(self.ln2(x))))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.te, self.pe = nn.Embedding(65, 384), nn.Embedding(128, 384)
        self.layers = [f"transformer{i}" for i in range(1, 7)]
        for name in self.layers:
            setattr(self, name, Transformer(384, 6))
        self.ln1, self.linear1 = nn.LayerNorm(384), nn.Linear(384, 65, bias=False)

    def forward(self, x):
        h = self.te(x) + self.pe.weight
        for name in self.layers:
            h = getattr(self, name)(h)
        return self.linear1(self.ln1(h)).flatten(0, 1)


class CharRnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.i2h, self.i2o = nn.Linear(57 + 128, 128), nn.Linear(57 + 128, 18)

    def forward(self, line):
        h = torch.zeros(1, 128)
        for x in line[0].unsqueeze(1):
            c = torch.cat((x, h), 1)
            h = self.i2h(c)
        return F.log_softmax(self.i2o(c), 1)


def cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(1600, 10))


NETWORKS = { # network, input's name, its shape with the batch, classes (of the input too where it is class numbers), optimizer
    "cnn": (cnn, "image", (32, 1, 28, 28), 10, lambda p: torch.optim.Adam(p, 1e-3, eps=1e-7)),
    "char_rnn": (CharRnn, "line", (1, 8, 57), 18, lambda p: torch.optim.SGD(p, .005)),
    "lstm": (Lstm, "tokens", (32, 64), 128, lambda p: torch.optim.Adam(p, 1e-3)),
    "resnet18": (Resnet18, "image", (32, 3, 32, 32), 10, lambda p: torch.optim.SGD(p, .1, momentum=.9, weight_decay=5e-4)),
    "gpt": (Gpt, "tokens", (8, 128), 65, lambda p: torch.optim.AdamW(p, 1e-3)),
}


def as_gradc(state):
    """Parameters as gradc names and lays them out."""
    state = {k.replace("in_proj.", "in_proj_"): v.detach().contiguous().numpy() for k, v in state.items() if "num_batches" not in k}
    if NAME != "cnn":
        return state
    dense = state["7.weight"].reshape(10, 64, 25).transpose(2, 1, 0).reshape(1600, 10)  # rows are channels first there, last here
    return {"conv2d/kernel": state["0.weight"].transpose(2, 3, 1, 0), "conv2d/bias": state["0.bias"],
            "conv2d_1/kernel": state["3.weight"].transpose(2, 3, 1, 0), "conv2d_1/bias": state["3.bias"],
            "dense/kernel": dense, "dense/bias": state["7.bias"]}


def write_safetensors(path, tensors):
    header, at = {}, 0
    for k, v in tensors.items():
        header[k] = {"dtype": "F32", "shape": v.shape, "data_offsets": [at, at + v.nbytes]}
        at += v.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(v).tobytes() for v in tensors.values()))


class Peer:
    def __init__(self):
        torch.set_num_threads(THREADS)
        torch.manual_seed(0)
        tiny = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))  # what the library loads when it is first used
        optimizer = torch.optim.Adam(tiny.parameters())
        F.cross_entropy(tiny(torch.rand(2, 1, 4, 4)), torch.tensor([0, 1])).backward()
        optimizer.step()
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")  # the peak begins anew
        self.before = resident("VmRSS")
        make, self.input, shape, classes, optimizer = NETWORKS[NAME]
        self.net = make()
        tokens = self.input == "tokens"
        self.x = torch.randint(0, classes, shape) if tokens else torch.rand(shape)
        self.y = torch.randint(0, classes, shape if tokens else shape[:1])
        self.data = {self.input: self.x.movedim(1, 3) if NAME == "cnn" else self.x, "target": self.y}
        if "--channels-last" in OPTIONS:
            self.net, self.x = self.net.to(memory_format=torch.channels_last), self.x.contiguous(memory_format=torch.channels_last)
        self.optimizer = optimizer(self.net.parameters())
        self.model = torch.compile(self.net) if "--compile" in OPTIONS else self.net

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.nll_loss(self.model(self.x), self.y) if NAME == "char_rnn" else F.cross_entropy(self.model(self.x), self.y.flatten())
        loss.backward()
        self.optimizer.step()
        return loss

    def learn(self, weights, data, steps):
        write_safetensors(weights, as_gradc(self.net.state_dict()))
        np.savez(data, **{k: v.numpy() for k, v in self.data.items()})
        return [self.step().item() for _ in range(int(steps))]

    def time(self, seconds):
        out, end = [], time.perf_counter() + float(seconds)
        while time.perf_counter() < end or len(out) < 3:
            start = time.perf_counter()
            self.step()
            out.append((time.perf_counter() - start) * 1e3)
        return out

    def memory(self):
        return resident("VmHWM") - self.before


if __name__ == "__main__":
    peer = Peer()
    for line in sys.stdin:
        word, *arguments = line.split()
        print(json.dumps(getattr(peer, word)(*arguments)), flush=True)
