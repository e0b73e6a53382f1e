#!/usr/bin/env python3
"""gradc and ONNX Runtime side by side on ONNX models: A B A B, after checking that the outputs agree.

    python3 -m venv ../peers && ../peers/bin/pip install onnxruntime numpy
    ../peers/bin/python bench/compare.py --gradc build/gradc [--threads 1] MODEL.onnx ...

gradc's model runs as an executable of its own (--repeat, --time); open dims are 1. Times are ms: minimum and median over
all rounds. Give models real or random weights: constant ones are folded.
"""
import argparse
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


def once(executable, inputs, options, repeat):
    """Least and median milliseconds of so many runs, as the executable itself takes the time."""
    command = [executable, *inputs, "--repeat", str(repeat), "--time", *options]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return [float(re.search(word + r" ([\d.]+) ms", text).group(1)) for word in ("min", "median")]


def compare(model, gradc, threads, rounds, folder):
    executable = folder / "model"
    subprocess.run([gradc, "compile", model, "-o", executable, "--static"], check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    random, feed, inputs = np.random.default_rng(0), {}, []
    for i in session.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in i.shape]
        feed[i.name] = random.random(shape).astype(TYPES[i.type])
        np.save(folder / f"{len(inputs)}.npy", feed[i.name])
        inputs.append(f"@{folder}/{len(inputs)}.npy")
    expected = session.run(None, feed)
    if any(e.size > 8 and not (np.isfinite(e).all() and len(np.unique(e)) > 8) for e in expected if e.dtype.kind == "f"):
        raise SystemExit(f"{model}: outputs of a few values, or not finite, say nothing: give it other weights")
    common = ["--threads", str(threads)]
    subprocess.run([executable, *inputs, "--out", folder / "out", *common], check=True)
    worst = max(float(np.max(np.abs(np.load(f).reshape(e.shape) - e), initial=0))
                for f, e in zip(sorted((folder / "out").glob("*.npy")), expected)) if len(expected) == 1 else float("nan")
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(once(executable, inputs, common, 5))
        for _ in range(5):
            start = time.perf_counter()
            session.run(None, feed)
            theirs.append((time.perf_counter() - start) * 1e3)
    a, b = statistics.median(t[1] for t in ours), statistics.median(theirs)
    print(f"{Path(model).stem:28} gradc {min(t[0] for t in ours):8.2f} {a:8.2f}   onnxruntime {min(theirs):8.2f} {b:8.2f}   "
          f"ratio {b / a:5.2f}   largest difference {worst:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--gradc", default="build/gradc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            compare(model, options.gradc, options.threads, options.rounds, Path(folder))


if __name__ == "__main__":
    main()
