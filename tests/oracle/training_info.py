"""Writes tests/corpus/trains.onnx, a model with training information, and tests/corpus/trains.txt: its loss in each of 20 steps and
what its initializers are afterwards, by onnx's reference evaluator over the same file.

The evaluator has no Gradient: here it is differences in double over the part of the graph that the node names.

    python3 tests/oracle/training_info.py
"""
import os

import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

TRAIN = "ai.onnx.preview.training"
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "corpus")
BATCH, FEATURES, HIDDEN, CLASSES, STEPS = 4, 5, 6, 3, 20


def array(name, a):
    return nh.from_array(np.asarray(a), name)


def value(name, t, dims):
    return h.make_tensor_value_info(name, t, dims)


def model():
    weights = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES), "b2": (CLASSES,)}
    start = {k: np.zeros(s, np.float32) for k, s in weights.items()}
    start["b1"] += np.float32(0.125)
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w1"], ["p1"]), h.make_node("Add", ["p1", "b1"], ["q1"]),
         h.make_node("Tanh", ["q1"], ["h1"]), h.make_node("MatMul", ["h1", "w2"], ["p2"]),
         h.make_node("Add", ["p2", "b2"], ["scores"])],
        "classifier", [value("x", T.FLOAT, ["N", FEATURES])], [value("scores", T.FLOAT, ["N", CLASSES])],
        [array(k, v) for k, v in start.items()])
    adam, moments = ["rate", "t"], []
    names = list(weights)
    for part in (names, ["d_" + k for k in names], ["m_" + k for k in names], ["v_" + k for k in names]):
        adam += part
    for k, s in weights.items():
        moments += [array("m_" + k, np.zeros(s, np.float32)), array("v_" + k, np.zeros(s, np.float32))]
    after = [p + k + "_next" for p in ("", "m_", "v_") for k in names]
    algorithm = h.make_graph(
        [h.make_node("SoftmaxCrossEntropyLoss", ["scores", "label"], ["loss"], reduction="mean"),
         h.make_node("Gradient", names + ["x", "label"], ["d_" + k for k in names], domain=TRAIN, xs=names, zs=["x", "label"], y="loss"),
         h.make_node("Adam", adam, after, domain=TRAIN, alpha=0.9, beta=0.999, epsilon=1e-6),
         h.make_node("Add", ["t", "one"], ["t_next"])],
        "step", [value("label", T.INT64, ["N"])],
        [value("loss", T.FLOAT, []), value("t_next", T.INT64, [])] +
        [value(a, T.FLOAT, weights[a.replace("_next", "").split("_")[-1]]) for a in after],
        [array("rate", np.float32(0.05)), array("t", np.int64(7)), array("one", np.int64(1))] + moments)
    n = FEATURES * HIDDEN
    initialization = h.make_graph(
        [h.make_node("Range", ["from", "to", "by"], ["r"]), h.make_node("Cos", ["r"], ["c"]),
         h.make_node("Reshape", ["c", "shape"], ["w1_first"]),
         h.make_node("RandomNormal", [], ["noise"], mean=0.0, scale=0.0, shape=[HIDDEN, CLASSES]),
         h.make_node("Add", ["noise", "ramp"], ["w2_first"]), h.make_node("Identity", ["zero"], ["t_first"])],
        "begin", [], [value("w1_first", T.FLOAT, weights["w1"]), value("w2_first", T.FLOAT, weights["w2"]), value("t_first", T.INT64, [])],
        [array("from", np.float32(0)), array("to", np.float32(n)), array("by", np.float32(1)), array("zero", np.int64(0)),
         array("shape", np.int64([FEATURES, HIDDEN])), array("ramp", np.linspace(-1, 1, HIDDEN * CLASSES, dtype=np.float32).reshape(HIDDEN, CLASSES))])
    m = h.make_model(graph, ir_version=8, opset_imports=[h.make_opsetid("", 17), h.make_opsetid(TRAIN, 1)], producer_name="trains")
    info = m.training_info.add()
    info.algorithm.CopyFrom(algorithm)
    info.initialization.CopyFrom(initialization)
    for k, v in [("w1", "w1_first"), ("w2", "w2_first"), ("t", "t_first")]:
        info.initialization_binding.add(key=k, value=v)
    for k, v in [(a.replace("_next", ""), a) for a in after] + [("t", "t_next")]:
        info.update_binding.add(key=k, value=v)
    return m


def part_of(nodes, y, cut):
    """The nodes between the names in cut and y."""
    needed, chosen = {y}, []
    for node in reversed(nodes):
        if any(o in needed and o not in cut for o in node.output):
            chosen.append(node)
            needed |= set(node.input)
    return chosen[::-1]


class Gradient(OpRun):
    op_domain = TRAIN
    nodes = []

    def _run(self, *inputs, xs=None, y=None, zs=None):
        names = list(xs) + list(zs or [])
        given = {k: np.asarray(v, np.float64 if v.dtype == np.float32 else v.dtype) for k, v in zip(names, inputs)}
        kind = {np.dtype("float64"): T.DOUBLE, np.dtype("int64"): T.INT64}
        graph = h.make_graph(part_of(Gradient.nodes, y, set(names)), "part",
                             [value(k, kind[v.dtype], list(v.shape)) for k, v in given.items()], [value(y, T.DOUBLE, None)])
        run = ReferenceEvaluator(h.make_model(graph, ir_version=8, opset_imports=[h.make_opsetid("", 17)]))
        out = []
        for k in xs:
            d = np.zeros(given[k].shape)
            for at in np.ndindex(*d.shape):
                was, side = given[k][at], []
                for step in (1e-5, -1e-5):
                    given[k][at] = was + step
                    side.append(float(run.run(None, given)[0]))
                given[k][at] = was
                d[at] = (side[0] - side[1]) / 2e-5
            out.append(d.astype(np.float32))
        return tuple(out)


def batch(step):
    i, j = np.meshgrid(np.arange(BATCH), np.arange(FEATURES), indexing="ij")
    x = (((7 * i + 3 * j + 5 * step) % 11) / 8 - 0.5).astype(np.float32)
    return {"x": x, "label": ((np.arange(BATCH) + step) % CLASSES).astype(np.int64)}


def combined(m):
    a = m.training_info[0].algorithm
    g = onnx.GraphProto()
    g.CopyFrom(m.graph)
    for field in ("node", "input", "output", "initializer", "value_info"):
        getattr(g, field).extend(getattr(a, field))
    return g


def main():
    m = model()
    path = os.path.join(HERE, "trains.onnx")
    onnx.save(m, path)
    m = onnx.load(path)
    info, g = m.training_info[0], combined(m)
    opsets = list(m.opset_import)
    state = {t.name: nh.to_array(t).copy() for t in g.initializer}
    first = ReferenceEvaluator(h.make_model(info.initialization, ir_version=8, opset_imports=opsets))
    made = dict(zip(first.output_names, first.run(None, {})))
    for b in info.initialization_binding:
        state[b.key] = np.asarray(made[b.value])
    Gradient.nodes = list(g.node)
    keys = [b.key for b in info.update_binding]
    for t in g.initializer:
        if t.name in keys:
            g.input.append(value(t.name, t.data_type, list(t.dims)))
    kept = [t for t in g.initializer if t.name not in keys]
    del g.initializer[:]
    g.initializer.extend(kept)
    step = ReferenceEvaluator(h.make_model(g, ir_version=8, opset_imports=opsets), new_ops=[Gradient])
    lines = []
    for s in range(STEPS):
        out = dict(zip(step.output_names, step.run(None, {**batch(s), **{k: state[k] for k in keys}})))
        lines.append("loss %.9g" % float(out["loss"]))
        for b in info.update_binding:
            state[b.key] = np.asarray(out[b.value]).astype(state[b.key].dtype).reshape(state[b.key].shape)
    for k in keys:
        lines.append(" ".join([k] + ["%.9g" % v for v in state[k].ravel()]))
    with open(os.path.join(HERE, "trains.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


main()
