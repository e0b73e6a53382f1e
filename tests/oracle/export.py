#!/usr/bin/env python3
"""Exported models against ONNX Runtime: every model given is exported by gradc, checked by onnx.checker (with shape inference),
run by ONNX Runtime on the same inputs as the original, and read again by gradc, whose answers must have the same bits.

  tests/oracle/export.py --gradc build/gradc [--sample N] [--only TEXT] [--export 'CMD {model} {out}'] PATH ...

PATH: a model.onnx with test_data_set_* beside it, a folder of such folders, or a bare model (random inputs). Needs the
packages onnx, onnxruntime and numpy. The expected answers are those of the test data, else ONNX Runtime's on the original;
cases that ONNX Runtime itself cannot run are counted apart, the bits are then compared by gradc alone.
"""
import argparse, collections, glob, os, random, shlex, subprocess, sys, tempfile
import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

ort.set_default_logger_severity(4)

def models(paths):
    for p in paths:
        if os.path.isfile(p): yield p
        else: yield from sorted(glob.glob(os.path.join(p, "**", "*.onnx"), recursive=True))

def given(model, path):
    """Inputs and expected outputs, by the names in the graph; None where a value is no tensor."""
    weights = {t.name for t in model.graph.initializer}
    names = [i for i in model.graph.input if i.name not in weights]
    sets = sorted(glob.glob(os.path.join(os.path.dirname(path), "test_data_set_*")))
    if not sets:
        rng = np.random.default_rng(1)
        feeds = {}
        for i in names:
            t = i.type.tensor_type
            shape = [d.dim_value or 2 for d in t.shape.dim]
            feeds[i.name] = rng.standard_normal(shape).astype(onnx.helper.tensor_dtype_to_np_dtype(t.elem_type))
        return feeds, None
    def read(kind, values):
        found = {}
        for k, v in enumerate(values):
            f = os.path.join(sets[0], f"{kind}_{k}.pb")
            if not os.path.exists(f): continue
            if not v.type.HasField("tensor_type"): return None
            t = onnx.TensorProto()
            t.ParseFromString(open(f, "rb").read())
            found[v.name] = t
        return found
    feeds, outs = read("input", names), read("output", model.graph.output)
    if feeds is None or outs is None: return None, None
    return {k: numpy_helper.to_array(t) for k, t in feeds.items()}, {k: numpy_helper.to_array(t) for k, t in outs.items()}

def runtime(path, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in s.get_outputs()], s.run(None, feeds)))

def same(a, b, rtol, atol):
    if a.dtype.itemsize == 1 == b.dtype.itemsize and a.dtype.kind != b.dtype.kind: a, b = a.view(np.uint8), b.view(np.uint8)
    if a.shape != b.shape: return f"shapes {a.shape} and {b.shape}"
    if a.dtype != b.dtype: return f"dtypes {a.dtype} and {b.dtype}"
    if a.dtype.kind in "OUSb": return None if (a == b).all() else "different"
    x, y = a.astype(np.float64) if a.dtype.kind != "c" else a, b.astype(np.float64) if b.dtype.kind != "c" else b
    if np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True): return None
    return f"largest difference {np.nanmax(np.abs(x - y)):.3g}"

def gradc_run(gradc, backend, model, feeds, folder):
    os.makedirs(folder, exist_ok=True)
    args = []
    for i, (k, v) in enumerate(feeds.items()):
        f = os.path.join(folder, f"in{i}.pb")
        open(f, "wb").write(numpy_helper.from_array(np.ascontiguousarray(v)).SerializeToString())
        args.append(f"{k}=@{f}")
    r = subprocess.run([gradc, "run", model, *args, "--backend", backend, "--out", folder], capture_output=True, text=True, timeout=300)
    if r.returncode: return None, r.stderr.strip().split("\n")[0]
    return {os.path.basename(f): open(f, "rb").read() for f in sorted(glob.glob(folder + "/*.npy"))}, None

def one(path, o, folder):
    out = os.path.join(folder, "out.onnx")
    model = onnx.load(path)
    feeds, want = given(model, path)
    if feeds is None: return "skipped", "no tensors"
    r = subprocess.run([w.format(model=path, out=out) for w in shlex.split(o.export)], capture_output=True, text=True)
    if r.returncode:
        kind = {3: "unsupported", 1: "refused"}.get(r.returncode, "FAILED")
        return kind, (r.stderr.strip().split("\n") or [""])[0]
    try: onnx.checker.check_model(onnx.load(out), full_check=True)
    except Exception as e: return "CHECK", str(e).replace("\n", " ")[:300]
    problem, note = None, ""
    try: got = runtime(out, feeds)
    except Exception as e: got, problem = None, str(e).replace("\n", " ")[:300]
    if want is None or got is None:
        try: want = runtime(path, feeds)
        except Exception as e:
            if got is None: problem, note = None, problem
    if got is None and problem: return "RUNTIME", problem
    tolerance = o.rtol
    for k, v in (want or {}).items():
        if got is None: break
        if v.dtype.itemsize < 4 and v.dtype.kind not in "iub": tolerance = 1e-2
        d = same(got[k], v, tolerance, o.atol)
        if d: # test data are rounded, some more than others: the original's answers count as well
            try: d = same(got[k], runtime(path, feeds)[k], tolerance, o.atol)
            except Exception: pass
        if d: return "DIFFERS", f"output {k}: {d}"
    if not o.no_bits:
        a, why = gradc_run(o.gradc, o.backend, path, feeds, os.path.join(folder, "a"))
        b, again = gradc_run(o.gradc, o.backend, out, feeds, os.path.join(folder, "b"))
        if a is not None and b is None: return "REIMPORT", again
        if a is not None and a != b: return "BITS", "the file read again gives other bits"
    return ("ok" if got is not None else "ok, not in ONNX Runtime"), note

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("paths", nargs="+")
    p.add_argument("--gradc", default="build/gradc")
    p.add_argument("--backend", default="interp", help="who runs the models that gradc reads")
    p.add_argument("--export", default=None)
    p.add_argument("--sample", type=int, default=0)
    p.add_argument("--only", default="")
    p.add_argument("--rtol", type=float, default=1e-5)
    p.add_argument("--atol", type=float, default=1e-6)
    p.add_argument("--no-bits", action="store_true")
    p.add_argument("--all", action="store_true")
    p.add_argument("-q", action="store_true")
    o = p.parse_args()
    o.export = o.export or shlex.quote(o.gradc) + " export {model} -o {out}"
    cases = [m for m in models(o.paths) if o.only in m]
    if o.sample and o.sample < len(cases): cases = sorted(random.Random(1).sample(cases, o.sample))
    count = collections.Counter()
    for path in cases:
        with tempfile.TemporaryDirectory() as folder:
            try: kind, what = one(path, o, folder)
            except Exception as e: kind, what = "FAILED", f"{type(e).__name__}: {e}"
        count[kind] += 1
        if (kind != "ok" or o.all) and (not o.q or kind.isupper()): print(f"{kind}: {os.path.basename(os.path.dirname(path))}: {what}", flush=True)
    print(", ".join(f"{n} {k}" for k, n in sorted(count.items())))
    sys.exit(any(k.isupper() for k in count))

main()
