#!/usr/bin/env python3
"""Textbook programs, trained by gradc and by PyTorch, several seeds each: do both learn the same?

    python3 bench/accuracy.py --gradc build/gradc fashion:DIR mnist:DIR char_rnn:DIR char_rnn_tanh:DIR

fashion, mnist: examples/keras_cnn/cnn.model on all of the data (DIR has train-images-idx3-ubyte(.gz) ...), 5 epochs of batches
of 32, and the same program in PyTorch with Keras's first values and Adam; the accuracies on the test set. Fails when the means
are more than 0.5 points apart.

char_rnn, char_rnn_tanh: examples/char_rnn/ on surnames (DIR has one .txt a language), one name a step; the loss averaged over
each 1,000 steps. Both see every name once in an epoch, in an order of their own. Fails when the curves are further apart than
the seeds explain: more than four standard errors between the means over the last half of the run, or windows more than
two and a half standard errors apart in more than a quarter of the run.

Needs PyTorch and numpy; downloads nothing. One thread. PyTorch takes some minutes a seed. The last results: bench/results/.
"""
import argparse
import csv
import gzip
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WINDOW = 1000


def checked(command):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


# ---- the Keras CNN ----

def idx(folder, name):
    path = next(p for p in (folder / name, folder / (name + ".gz")) if p.exists())
    raw = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    sizes = struct.unpack(f">{raw[3]}I", raw[4:4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


def idx_tensors(folder, part):
    images = torch.tensor(idx(folder, part + "-images-idx3-ubyte")[:, None], dtype=torch.float32) / 255
    return images, torch.tensor(idx(folder, part + "-labels-idx1-ubyte"), dtype=torch.int64)


def cnn_torch(folder, seed, epochs):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Flatten(), nn.Linear(1600, 10))
    for layer in net:
        if hasattr(layer, "weight"):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, eps=1e-7)
    images, labels = idx_tensors(folder, "train")
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    images, labels = idx_tensors(folder, "t10k")
    with torch.no_grad():
        scores = torch.cat([net(x) for x in images.split(500)])
    return 100 * (scores.argmax(1) == labels).double().mean().item(), F.cross_entropy(scores, labels).item()


def cnn_gradc(gradc, folder, seed, epochs, work):
    model, weights = EXAMPLES / "keras_cnn/cnn.model", work / "cnn.safetensors"
    checked([gradc, "train", model, "--data", f"idx:{folder}", "-o", weights, "--seed", seed, "--epochs", epochs, "--batch", 32,
             "--threads", 1, "-q"])
    answer = json.loads(checked([gradc, "eval", model, "--data", f"idx:{folder},test", "--params", weights, "--threads", 1, "--json"]))
    return 100 * answer["accuracy"], answer["loss"]


def cnn(name, folder, a, work):
    ours, theirs = [], []
    print(f"{name}: the CNN of examples/keras_cnn, {a.epochs} epochs, batch 32, Adam; test accuracy in percent, test loss")
    for seed in range(a.seeds):
        ours.append(cnn_gradc(a.gradc, folder, seed, a.epochs, work))
        theirs.append(cnn_torch(folder, seed, a.epochs))
        print("  seed %d   gradc %6.2f %.4f   PyTorch %6.2f %.4f" % (seed, *ours[-1], *theirs[-1]), flush=True)
    means = [statistics.mean(r[k] for r in runs) for runs in (ours, theirs) for k in (0, 1)]
    points = means[0] - means[2]
    print("  mean     gradc %6.2f %.4f   PyTorch %6.2f %.4f   difference %+.2f points: %s\n" % (
        *means, points, "ok" if abs(points) <= .5 else "FAIL"), flush=True)
    return abs(points) <= .5


# ---- the character RNN ----

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;'"


def read_names(folder):
    """One-hot letters [T, 1, 57] and the class of every name."""
    out = []
    for label, path in enumerate(sorted(folder.glob("*.txt"), key=lambda p: p.name.encode())):
        for line in path.read_text(encoding="utf-8").split("\n"):
            plain = [c for c in unicodedata.normalize("NFD", line.strip()) if unicodedata.category(c) != "Mn" and c in LETTERS]
            if plain:
                x = torch.zeros(len(plain), 1, len(LETTERS))
                x[range(len(plain)), 0, [LETTERS.index(c) for c in plain]] = 1
                out.append((x, torch.tensor([label])))
    return out


class Linear(nn.Module):
    """PyTorch's tutorial: the hidden state has no nonlinearity."""
    rate = .005

    def __init__(self, classes):
        super().__init__()
        self.i2h, self.i2o = nn.Linear(57 + 128, 128), nn.Linear(57 + 128, classes)

    def forward(self, line):
        h = torch.zeros(1, 128)
        for x in line:
            c = torch.cat((x, h), 1)
            h = self.i2h(c)
        return F.log_softmax(self.i2o(c), 1)


class Tanh(nn.Module):
    rate = .01

    def __init__(self, classes):
        super().__init__()
        self.w_x, self.w_h, self.out = nn.Linear(57, 128), nn.Linear(128, 128, bias=False), nn.Linear(128, classes)

    def forward(self, line):
        h = torch.zeros(1, 128)
        for x in line:
            h = torch.tanh(self.w_x(x) + self.w_h(h))
        return F.log_softmax(self.out(h), 1)


def rnn_torch(names, cell, seed, steps):
    torch.manual_seed(seed)
    net, losses, order = cell(1 + max(int(y) for _, y in names)), [], []
    for _ in range(steps):
        if not order:
            order = torch.randperm(len(names)).tolist()
        x, y = names[order.pop()]
        loss = F.nll_loss(net(x), y)
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in net.parameters():
                p -= net.rate * p.grad
        losses.append(loss.item())
    return np.reshape(losses, (-1, WINDOW)).mean(1)


def scalar(checkpoint, name):
    raw = checkpoint.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    return struct.unpack_from("<d", raw, 8 + size + json.loads(raw[8:8 + size])[name]["data_offsets"][0])[0]


def rnn_gradc(gradc, model, folder, seed, steps, work):
    """The executable, stopped and resumed every WINDOW steps: checkpoints have the sums of the epoch so far, the history the mean of
    an epoch that ended meanwhile."""
    program, weights, log = work / "rnn", work / f"rnn{seed}.safetensors", work / f"log{seed}"
    checked([gradc, "compile", "--train", model, "-o", program, "--batch", 1])
    curve, before, n_before, epochs = [], 0., 0, 0
    for end in range(WINDOW, steps + 1, WINDOW):
        checked([program, "train", "--data", f"names:{folder}", "-o", weights, "--seed", seed, "--max-steps", end, "--epochs", steps,
                 "--threads", 1, "--log", log, "-q", *(["--resume"] if curve else [])])
        total, n = scalar(weights, "metric/loss/sum"), round(scalar(weights, "metric/loss/n"))
        rows = list(csv.DictReader(open(log / "history.csv"))) if (log / "history.csv").exists() else []
        window = total - before
        if len(rows) > epochs:  # the epoch began with n_before steps and ended after WINDOW - n more
            window += float(rows[-1]["loss"]) * (n_before + WINDOW - n)
        curve.append(window / WINDOW)
        before, n_before, epochs = total, n, len(rows)
    return np.array(curve)


def rnn(name, folder, a, work):
    file, cell = {"char_rnn": ("linear", Linear), "char_rnn_tanh": ("tanh", Tanh)}[name]
    names = read_names(folder)
    ours = np.array([rnn_gradc(a.gradc, EXAMPLES / f"char_rnn/{file}.model", folder, s, a.steps, work) for s in range(a.seeds)])
    theirs = np.array([rnn_torch(names, cell, s, a.steps) for s in range(a.seeds)])

    def error(x, y):
        """The standard error of the difference of two means over seeds."""
        return np.sqrt((x.var(0, ddof=1) + y.var(0, ddof=1)) / len(x))

    print(f"{name}: {len(names)} names, {a.steps} steps, {a.seeds} seeds; mean loss of each {WINDOW} steps, mean and deviation over seeds")
    print("   steps    gradc          PyTorch        difference")
    for k, (x, y) in enumerate(zip(ours.T, theirs.T)):
        print(f"  {(k + 1) * WINDOW:6d}    {x.mean():.3f} ±{x.std(ddof=1):.3f}   {y.mean():.3f} ±{y.std(ddof=1):.3f}   {x.mean() - y.mean():+.3f}")
    # A window's noise is the same kind for all of the run, three seeds alone say little of it: pooled over windows.
    pooled = np.sqrt((error(ours, theirs) ** 2).mean())
    apart = float((np.abs(ours.mean(0) - theirs.mean(0)) > 2.5 * pooled).mean())
    half = ours.shape[1] // 2
    x, y = ours[:, half:].mean(1), theirs[:, half:].mean(1)
    distance, noise = float(x.mean() - y.mean()), float(error(x, y))
    # Two seeds that happen to agree do not make the noise zero: windows are samples of WINDOW names each.
    noise = max(noise, float(pooled / np.sqrt(ours.shape[1] - half)))
    ok = apart <= .25 and abs(distance) <= 4 * noise
    print(f"  last half: gradc {x.mean():.4f}, PyTorch {y.mean():.4f}, difference {distance:+.4f}, standard error {noise:.4f}; "
          f"{apart:.0%} of the windows are more than 2.5 standard errors ({pooled:.3f}) apart: {'ok' if ok else 'FAIL'}\n", flush=True)
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", nargs="+", metavar="NAME:DIR")
    parser.add_argument("--gradc", default="build/gradc")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100000)
    a = parser.parse_args()
    if a.seeds < 2 or a.steps < 2 * WINDOW or a.steps % WINDOW:
        parser.error(f"at least two seeds, and some thousands of steps (a multiple of {WINDOW})")
    torch.set_num_threads(1)
    passed = 0
    print(f"PyTorch {torch.__version__}\n")
    for program in a.programs:
        name, _, folder = program.partition(":")
        run = {"fashion": cnn, "mnist": cnn, "char_rnn": rnn, "char_rnn_tanh": rnn}.get(name)
        if not run or not Path(folder).is_dir():
            parser.error(f"{program}: fashion:DIR, mnist:DIR, char_rnn:DIR or char_rnn_tanh:DIR")
        with tempfile.TemporaryDirectory() as work:
            passed += run(name, Path(folder), a, Path(work))
    print(f"{passed} passed, {len(a.programs) - passed} failed")
    sys.exit(passed < len(a.programs))


if __name__ == "__main__":
    main()
