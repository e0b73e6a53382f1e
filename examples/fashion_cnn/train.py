#!/usr/bin/python3
"""Train a small CNN on Fashion-MNIST once and write it as fashion_cnn.onnx.

Only PyTorch and NumPy are needed, and the images of Debian's dataset-fashion-mnist. The run is seeded and uses
one thread, so a second run on the same machine gives the same model. The test images are looked at once, at the
end: no epoch is chosen by its test accuracy.
"""
import argparse
import gzip
import math
import struct
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent


def read_idx(path, rank):
    """A gzipped idx file as an array: two zero bytes, the type (8: uint8), the rank, the sizes, the data."""
    with gzip.open(path) as file:
        data = file.read()
    magic, *sizes = struct.unpack(f">{rank + 1}I", data[:4 * (rank + 1)].ljust(4 * (rank + 1), b"\0"))
    if magic != 0x0800 | rank or len(data) != 4 * (rank + 1) + math.prod(sizes):
        raise SystemExit(f"{path}: not an idx file of rank {rank}, or cut short")
    return np.frombuffer(data, np.uint8, offset=4 * (rank + 1)).reshape(sizes)


def load(folder, part):
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz", 1)
    scaled = images.astype(np.float32)[:, None] / np.float32(255)
    return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))


def network():
    """Gives logits: the softmax joins at export, since the loss wants it fused with the logarithm."""
    return nn.Sequential(OrderedDict(
        conv1=nn.Conv2d(1, 32, 3), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(32, 64, 3), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(), dense=nn.Linear(1600, 10)))


def train(model, images, labels, epochs, batch):
    """AdamW, the learning rate rising for a tenth of the steps and then falling along a cosine to zero."""
    steps = epochs * math.ceil(len(images) / batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.1)
    for epoch in range(epochs):
        start, total = time.monotonic(), 0.0
        for rows in torch.randperm(len(images)).split(batch):
            x = images[rows]
            # A mirrored garment is a garment of the same class: half of each batch is flipped.
            mirrored = torch.rand(len(rows), 1, 1, 1) < 0.5
            x = torch.where(mirrored, x.flip(3), x)
            loss = F.cross_entropy(model(x), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        spent = time.monotonic() - start
        print(f"epoch {epoch + 1:2}: loss {total / len(images):.4f}, {spent:.0f} s", flush=True)


@torch.no_grad()
def accuracy(model, images, labels):
    hits = sum((model(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500)))
    return hits / len(images)


def export(model, path):
    """Opset 13, a symbolic batch. verbose=False keeps source lines, and so paths, out of the doc strings."""
    model = nn.Sequential(OrderedDict(model.named_children(), softmax=nn.Softmax(1))).eval()
    torch.onnx.export(
        model, torch.zeros(2, 1, 28, 28), str(path), opset_version=13, verbose=False,
        input_names=["image"], output_names=["probabilities"],
        dynamic_axes={"image": {0: "N"}, "probabilities": {0: "N"}})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--output", type=Path, default=HERE / "fashion_cnn.onnx")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(options.seed)

    model = network()
    print("parameters:", sum(p.numel() for p in model.parameters()))
    train(model, *load(options.data, "train"), options.epochs, options.batch)
    print(f"test accuracy: {accuracy(model, *load(options.data, 't10k')):.2%}")
    export(model, options.output)
    print("wrote", options.output.name, options.output.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
