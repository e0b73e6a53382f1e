#!/usr/bin/env python3
"""Training steps of gradc and PyTorch side by side: A B A B, milliseconds a step, minimum and median over all rounds.

    python3 bench/train_compare.py --gradc build/gradc [--threads 1] [--compile] [cnn lstm resnet18 gpt]

Needs PyTorch. The networks (examples/), losses and optimizers are the same; both begin with random weights and learn random data.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import time
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODELS = {"cnn": "keras_cnn/cnn.model", "lstm": "models/lstm.model", "gpt": "models/gpt.model",
          "resnet18": "models/resnet18.model"}
BATCH = {"cnn": 32, "lstm": 32, "gpt": 8, "resnet18": 32}


def networks(torch):
    nn, F = torch.nn, torch.nn.functional

    def cnn():
        return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(),
                             nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1600, 10)), (1, 28, 28), 10

    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.lstm = nn.Embedding(128, 256), nn.LSTM(256, 256, 2, batch_first=True)
            self.dense = nn.Linear(256, 128)

        def forward(self, x):
            return self.dense(self.lstm(self.embedding(x))[0]).flatten(0, 1)

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
            self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
            same = stride == 1 and inputs == outputs
            self.short = nn.Identity() if same else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x):
            return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.short(x))

    def resnet18():
        layers, inputs = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()], 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
            inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)), (3, 32, 32), 10

    class Attention(nn.Module):
        def __init__(self, width, heads, tokens):
            super().__init__()
            self.heads, self.qkv, self.project = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.register_buffer("mask", torch.triu(torch.ones(tokens, tokens, dtype=torch.bool), 1))

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in self.qkv(x).split(c, 2))
            a = (q @ k.transpose(-2, -1) * (1 / math.sqrt(c // self.heads))).masked_fill(self.mask, -math.inf).softmax(-1)
            return self.project((a @ v).transpose(1, 2).reshape(b, t, c))

    class Layer(nn.Module):
        def __init__(self, width, heads, tokens):
            super().__init__()
            self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width, heads, tokens), nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class Gpt(nn.Module):
        def __init__(self, layers=6, width=384, heads=6, tokens=128, vocabulary=65):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(tokens, width)
            self.layers = nn.Sequential(*[Layer(width, heads, tokens) for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, x):
            return self.head(self.norm(self.layers(self.tokens(x) + self.positions.weight[None]))).flatten(0, 1)

    return {"cnn": cnn, "resnet18": resnet18, "lstm": lambda: (Lstm(), (64,), 128), "gpt": lambda: (Gpt(), (128,), 65)}


class Torch:
    def __init__(self, name, compiled, channels_last):
        import torch
        self.torch, batch = torch, BATCH[name]
        torch.manual_seed(0)
        model, shape, classes = networks(torch)[name]()
        if channels_last and len(shape) == 3:
            model = model.to(memory_format=torch.channels_last)
        parameters, rate = model.parameters(), 1e-3
        self.optimizer = {"gpt": lambda: torch.optim.AdamW(parameters, rate),
                          "resnet18": lambda: torch.optim.SGD(parameters, .1, momentum=.9, weight_decay=5e-4)}.get(
                              name, lambda: torch.optim.Adam(parameters, rate))()
        if len(shape) == 3:
            self.x = torch.rand(batch, *shape)
            if channels_last:
                self.x = self.x.contiguous(memory_format=torch.channels_last)
            self.y = torch.randint(0, classes, (batch,))
        else:
            self.x = torch.randint(0, classes, (batch, *shape))
            self.y = torch.randint(0, classes, (batch * shape[0],))
        self.model = torch.compile(model) if compiled else model
        for _ in range(3):
            self.step()

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        self.torch.nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()

    def times(self, seconds):
        out, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or len(out) < 3:
            start = time.perf_counter()
            self.step()
            out.append((time.perf_counter() - start) * 1e3)
        return out


def gradc_times(gradc, name, seconds, options):
    command = [gradc, "bench", EXAMPLES / MODELS[name], "--part", "step", "--metrics", "loss", "--seconds", str(seconds), "--json",
               *options]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return answer["min_ms"], answer["median_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradc", default="build/gradc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--option", action="append", default=[], help="for gradc, as --option=--target=x86-64-v3")
    parser.add_argument("names", nargs="*", choices=[*MODELS, []])
    a = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(a.threads)
    import torch
    torch.set_num_threads(a.threads)
    for name in a.names or MODELS:
        peer, ours, theirs = Torch(name, a.compile, a.channels_last), [], []
        for _ in range(a.rounds):
            ours.append(gradc_times(a.gradc, name, a.seconds, ["--threads", str(a.threads), *a.option]))
            theirs += peer.times(a.seconds)
        best, middle = min(t[0] for t in ours), statistics.median(t[1] for t in ours)
        print(f"{name:10} {a.threads} thread{'s' * (a.threads > 1)}  gradc {best:8.2f} {middle:8.2f}   "
              f"torch {min(theirs):8.2f} {statistics.median(theirs):8.2f}   ratio {min(theirs) / best:5.2f} "
              f"{statistics.median(theirs) / middle:5.2f}", flush=True)


if __name__ == "__main__":
    main()
