"""What the programs of this folder share: gradc as a command, parameters and data in files, the count of what passed."""
import json, os, re, struct, subprocess, tempfile
import numpy as np

FOLDER = tempfile.TemporaryDirectory() # gone when the program ends
DIR = FOLDER.name
rng = np.random.default_rng(0)
count = {"passed": 0, "failed": 0}
gradc = "build/gradc"


def told(ok, name, what):
    count["passed" if ok else "failed"] += 1
    print("ok  " if ok else "FAIL", name.replace("\n", "; "), what, flush=True)


def command(*words):
    r = subprocess.run([gradc, *map(str, words)], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}:\n{r.stderr}")
    return r.stdout


def describe(body, semantics="torch", dtype=None):
    """The path of a description with this text; dtype: in place of f32."""
    path = os.path.join(DIR, "text.model")
    text = body if body.lstrip().startswith(("#", "model")) else f"model text\nsemantics {semantics}\n{body}\n"
    if dtype:
        text = re.sub(r"zeros\((.*?)\)", rf"cast(zeros(\1), {dtype})", text.replace("f32[", dtype + "["))
    with open(path, "w") as f:
        f.write(text)
    return path


def params(path):
    """Random values of all inputs but the first, as `gradc inspect` lists them."""
    lines = command("inspect", path).splitlines()
    start, found = next(i for i, l in enumerate(lines) if l.startswith("inputs")), {}
    for line in lines[start + 1:]:
        if not line.startswith(" "):
            break
        name, kind = line.split()[:2]
        dims = [int(d) for d in re.search(r"\[(.*)\]", kind).group(1).split(",")]
        v = rng.standard_normal(dims) * (.05 if len(dims) > 1 else .1)
        v = np.abs(v) + .5 if re.search("running_var|moving_variance", name) else v
        found[name] = v.astype("f8" if kind.startswith("f64") else "f4")
    return found


def run(path, values):
    args = []
    for name, v in values.items():
        file = os.path.join(DIR, name.replace("/", "_") + ".npy")
        np.save(file, v)
        args.append(f"{name}=@{file}")
    command("run", path, *args, "--out", DIR)
    return np.load(os.path.join(DIR, "output.npy"))


# ---- safetensors: the length of a JSON header, the header, the tensors ----

DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}


def write_tensors(path, tensors):
    names, at, header = {np.dtype(v): k for k, v in DTYPES.items()}, 0, {}
    for k, v in tensors.items():
        header[k] = {"dtype": names[v.dtype], "shape": v.shape, "data_offsets": [at, at + v.nbytes]}
        at += v.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(v).tobytes() for v in tensors.values()))


def read_tensors(path):
    with open(path, "rb") as f:
        raw = f.read()
    size = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8:8 + size]), raw[8 + size:]
    return {k: np.frombuffer(data[slice(*t["data_offsets"])], DTYPES[t["dtype"]]).reshape(t["shape"])
            for k, t in header.items() if k != "__metadata__" and t["dtype"] in DTYPES}


# ---- one step of training ----

RATE = 2. ** 20


def step(path, values, data, options=()):
    """The loss, the gradient of every parameter and the running statistics after one step of gradient descent on all of data
    (arrays with samples first, by the names of inputs; and target). The rate is a power of two and large: (w - w') / rate
    then has the gradient's own precision."""
    weights, archive, after = (os.path.join(DIR, f) for f in ("w.safetensors", "data.npz", "after.safetensors"))
    write_tensors(weights, values)
    np.savez(archive, **data)
    command("train", path, "--data", "npz:" + archive, "--params", weights, "-o", after, "--optimizer", f"sgd lr={RATE:.0f}",
            "--batch", len(data["target"]), "--max-steps", 1, "--epochs", 1, "-q", *options)
    now = read_tensors(after)
    loss = float(now["metric/loss/sum"] / now["metric/loss/n"])
    moved = {k: (values[k].astype("f8") - now[k]) / RATE for k in values}
    return loss, moved, {k: now[k] for k in values}
