#!/usr/bin/env python3
"""Training side by side: gradc, PyTorch (eager and compiled), Keras. One table.

    python3 bench/train_compare.py --gradc build/gradc [--threads 1] [cnn char_rnn lstm resnet18 gpt]
    python3 bench/train_compare.py --gradc build/gradc --keras tensorflow,jax --data DIR fit

A step (forward, backward, update) of the networks of examples/: every contestant begins with the same parameters on the same
batch and must have the same losses over three steps; then they take turns, A B A B, each a process of its own. Milliseconds, medians
over all rounds. PyTorch is measured eager and by torch.compile (needs a C++ compiler), images also with channels last; `best` is the
quickest of them, `ratio` its median by gradc's. Memory, in MB: gradc's is all that the executable which trains had at its peak;
PyTorch's (eager) what the process had at its peak beyond what it had after the import and a step of a tiny network; `exact` is what
gradc plans: the arena and the state (parameters, and what the optimizer keeps of them).

`fit` is one epoch of the Keras CNN over all of DIR (idx files): Keras's fit, after a first fit that compiles, beside the
whole command `gradc train`, which compiles each time. The losses of the epoch must agree within 5 percent.

Needs PyTorch and numpy; for fit a Python with Keras and its back ends, best an environment of its own (--keras-python):
`python3 -m venv ../keras && ../keras/bin/pip install keras tensorflow-cpu jax`. Run it on an idle machine.
"""
import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
MODELS = {"cnn": ("keras_cnn/cnn.model", 32), "char_rnn": ("char_rnn/linear.model", 1), "lstm": ("models/lstm.model", 32),
          "resnet18": ("models/resnet18.model", 32), "gpt": ("models/gpt.model", 8)}
IMAGES = ("cnn", "resnet18")
AGREE = (1e-4, 1e-3, 1e-2)  # relative, of the first losses: ResNet-18's rate makes rounding grow, between PyTorch's variants too
PAUSE = .3  # seconds between turns: threads that spin for work give up


class Peer:
    """A process that answers lines with JSON."""

    def __init__(self, command, **environment):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL, env={**os.environ, **environment})

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(self.process.args)}: ended with {self.process.wait()}")
        time.sleep(PAUSE)
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def checked(command, **more):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if r.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{r.stderr}")
    return r.stdout


def peak(command):
    """Bytes of a process at its peak, as last seen before it ended."""
    process, most = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), 0
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status") as f:
                found = re.search(r"VmHWM:\s+(\d+)", f.read())
            if found and os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(command[0]):
                most = max(most, int(found.group(1)) * 1024)
        except OSError:
            pass
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
    return most


class Gradc:
    def __init__(self, name, a, folder):
        self.a, self.folder = a, Path(folder)
        self.model, self.batch = EXAMPLES / MODELS[name][0], MODELS[name][1]
        self.options = ["--threads", a.threads, "--metrics", "loss", *a.option, *(["--dim", "T=8"] if name == "char_rnn" else [])]

    def learn(self, weights, data, steps):
        log = self.folder / "log"
        checked([self.a.gradc, "train", self.model, "--data", f"npz:{data}", "--params", weights, "-o", self.folder / "w.safetensors",
                 "--batch", self.batch, "--epochs", steps, "--log", log, "-q", *self.options])
        return [float(row["loss"]) for row in csv.DictReader(open(log / "history.csv"))]

    def time(self, seconds):
        answer = json.loads(checked([self.a.gradc, "bench", self.model, "--part", "step", "--seconds", seconds, "--batch", self.batch, "--json",
                                     *self.options]))
        time.sleep(PAUSE)
        return answer["median_ms"]

    def memory(self, weights, data):
        """Of the executable that trains, and exactly."""
        program = str(self.folder / "program")
        thread = self.options.index("--threads")
        checked([self.a.gradc, "compile", "--train", self.model, "-o", program, "--batch", self.batch, *self.options[:thread], *self.options[thread + 2:]])
        epochs = {"char_rnn": 20000, "cnn": 200}.get(self.model.stem, 5)  # long enough to be looked at
        trained = peak([program, "train", "--data", f"npz:{data}", "--params", str(weights), "-o", str(self.folder / "m.safetensors"),
                        "--batch", str(self.batch), "--epochs", str(epochs), "--threads", str(self.a.threads), "-q"])
        about = json.loads(checked([self.a.gradc, "inspect", self.model, "--part", "step", "--json", *self.options,
                                    *(["--dim", f"N={self.batch}"] if self.batch > 1 else [])]))
        state = os.path.getsize(self.folder / "m.safetensors")
        return trained, about["arena_bytes"] + state


def row(name, a):
    with tempfile.TemporaryDirectory() as folder:
        variants = [[], ["--compile"]] if not a.eager else [[]]
        if name in IMAGES:
            variants += [v + ["--channels-last"] for v in variants]
        peers = {" ".join(["eager", *v]) if "--compile" not in v else " ".join(["compiled", *v[1:]]):
                 Peer([sys.executable, HERE / "peer_torch.py", name, a.threads, *v]) for v in variants}
        weights, data = f"{folder}/weights.safetensors", f"{folder}/data.npz"
        gradc, losses = Gradc(name, a, folder), {}
        for label, peer in peers.items():
            losses[label] = peer.ask("learn", weights, data, len(AGREE))
        losses["gradc"] = gradc.learn(weights, data, len(AGREE))
        for label, found in losses.items():
            if any(abs(x - y) > bound * abs(x) for x, y, bound in zip(losses["eager"], found, AGREE)) or len(found) != len(AGREE):
                raise SystemExit(f"{name}: the losses differ: {losses}")
        memory, (resident, exact) = peers["eager"].ask("memory"), gradc.memory(weights, data)
        ours, theirs = [], {label: [] for label in peers}
        for _ in range(a.rounds):
            ours.append(gradc.time(a.seconds))
            for label, peer in peers.items():
                theirs[label] += peer.ask("time", a.seconds)
        for peer in peers.values():
            peer.close()
    middle, medians = statistics.median(ours), {label: statistics.median(t) for label, t in theirs.items()}
    eager = min(v for k, v in medians.items() if k.startswith("eager"))
    compiled = min((v for k, v in medians.items() if k.startswith("compiled")), default=float("nan"))
    best = min(medians, key=medians.get)
    print(f"| {name} | {middle:.3f} | {eager:.3f} | {compiled:.3f} | {best.replace('--', '')} | {medians[best] / middle:.2f} | "
          f"{resident / 1e6:.1f} | {exact / 1e6:.1f} | {memory / 1e6:.1f} |", flush=True)


def fit(a):
    print(f"\n| one epoch of the Keras CNN, {a.threads} thread(s) | seconds, median | loss |\n|---|---|---|")
    peers = {f"Keras fit, {b}": Peer([a.keras_python, HERE / "peer_keras.py", a.data, a.threads], KERAS_BACKEND=b) for b in a.keras.split(",")}
    seconds, losses = {"gradc train": [], **{k: [] for k in peers}}, {"gradc train": [], **{k: [] for k in peers}}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(a.rounds):
            start = time.perf_counter()
            answer = json.loads(checked([a.gradc, "train", EXAMPLES / MODELS["cnn"][0], "--data", f"idx:{a.data}", "-o", f"{folder}/w.safetensors",
                                         "--epochs", 1, "--batch", 32, "--seed", turn, "--threads", a.threads, "--json", "-q", *a.option]))
            seconds["gradc train"].append(time.perf_counter() - start)
            losses["gradc train"].append(answer["loss"])
            time.sleep(PAUSE)
            for label, peer in peers.items():
                spent, loss = peer.ask("fit", turn)
                seconds[label].append(spent)
                losses[label].append(loss)
    for peer in peers.values():
        peer.close()
    for label, s in seconds.items():
        print(f"| {label} | {statistics.median(s):.2f} | {statistics.mean(losses[label]):.4f} |", flush=True)
        if abs(statistics.mean(losses[label]) / statistics.mean(losses["gradc train"]) - 1) > .05:
            raise SystemExit("the losses differ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gradc", default="build/gradc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="of a turn")
    parser.add_argument("--eager", action="store_true", help="no torch.compile")
    parser.add_argument("--keras", default="tensorflow", help="back ends for fit: tensorflow,jax,torch")
    parser.add_argument("--keras-python", default=sys.executable)
    parser.add_argument("--data", help="for fit: a folder of idx files")
    parser.add_argument("--option", action="append", default=[], help="for gradc, as --option=--target=x86-64-v3")
    parser.add_argument("names", nargs="*", choices=[*MODELS, "fit", []])
    a = parser.parse_args()
    steps = [n for n in a.names or MODELS if n != "fit"]
    if steps:
        print(f"| a step, {a.threads} thread(s): ms | gradc | PyTorch eager | compiled | best | ratio | MB gradc | exact | MB PyTorch |\n"
              "|---|---|---|---|---|---|---|---|---|")
    for name in steps:
        row(name, a)
    if "fit" in a.names:
        if not a.data:
            parser.error("fit needs --data")
        fit(a)


if __name__ == "__main__":
    main()
