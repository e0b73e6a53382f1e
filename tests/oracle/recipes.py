#!/usr/bin/env python3
"""Losses, optimizers, metrics and schedules against Keras and PyTorch.

  export RECIPES_DUMP=$PWD/cases.json; build/test_losses; build/test_optimizers; build/test_recipes
  tests/oracle/recipes.py cases.json

The test programs append what they computed, a line a case; here the frameworks compute the same. Needs the packages torch and
keras (with the PyTorch back end). Cases that neither framework has are listed, not counted as passed.
"""
import json, os, sys
os.environ["KERAS_BACKEND"] = "torch"
import numpy as np
import torch
import keras
import keras.optimizers as K

CLASS_WEIGHTS = torch.tensor([1, 2, .5, 0, 3], dtype=torch.float64)


def split(text):
    """"sgd lr=.1 nesterov=true" -> "sgd", {"lr": .1, "nesterov": 1.0}"""
    name, *rest = text.replace(",", " ").split()
    args = {}
    for r in rest:
        k, v = r.split("=")
        try:
            args[k] = float(v)
        except ValueError:
            args[k] = {"true": 1.0, "false": 0.0}.get(v, v)
    return name, args


def rename(args, names):
    out = {}
    for k, v in args.items():
        k = names.get(k, k)
        out[k] = bool(v) if k in ("nesterov", "amsgrad", "centered", "staircase", "log_target", "log_input", "from_logits") else v
    return out


def pairs(args, names):
    """b1, b2 -> betas for PyTorch."""
    a = rename(args, names)
    b = a.pop("beta1", None), a.pop("beta2", None)
    if b != (None, None):
        a["betas"] = (.9 if b[0] is None else b[0], .999 if b[1] is None else b[1])
    return a


# ---- optimizers ----

def optimizer_torch(c):
    name, args = split(c["text"])
    cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop,
           "adagrad": torch.optim.Adagrad, "adadelta": torch.optim.Adadelta, "adamax": torch.optim.Adamax,
           "nadam": torch.optim.NAdam, "radam": torch.optim.RAdam}.get(name)
    if cls is None:
        return None
    w = torch.nn.Parameter(torch.tensor(c["w"], dtype=torch.float64))
    if name == "sgd":
        args.setdefault("lr", .01)
    o = cls([w], **pairs(args, {"b1": "beta1", "b2": "beta2", "epsilon": "eps", "rho": "rho"}))
    for g in np.array(c["g"]).reshape(-1, len(c["w"])):
        w.grad = torch.tensor(g)
        o.step()
    return w.detach().numpy(), 2e-5


def optimizer_keras(c):
    name, args = split(c["text"])
    cls = {"sgd": K.SGD, "adam": K.Adam, "adamw": K.AdamW, "rmsprop": K.RMSprop, "adagrad": K.Adagrad, "adadelta": K.Adadelta,
           "adamax": K.Adamax, "nadam": K.Nadam, "lion": K.Lion, "lamb": K.Lamb}.get(name)
    if cls is None:
        return None
    o = cls(**rename(args, {"lr": "learning_rate", "beta1": "beta_1", "beta2": "beta_2"}))
    w = keras.Variable(np.array(c["w"], dtype="float32"))
    for g in np.array(c["g"]).reshape(-1, len(c["w"])):
        o.apply([torch.tensor(g, dtype=torch.float32)], [w])
    return w.value.detach().cpu().numpy(), 5e-5


# ---- losses ----

def given(c):
    shape = [int(v) for v in c["shape"][:3] if v]
    axis = int(c["shape"][3])
    x = torch.tensor(c["x"], dtype=torch.float64).reshape(shape).requires_grad_()
    p = {"": lambda v: v, "sigmoid": torch.sigmoid, "softmax": lambda v: torch.softmax(v, axis),
         "log_softmax": lambda v: torch.log_softmax(v, axis)}[c["made"]](x)
    t = torch.tensor(c["t"], dtype=torch.float64)
    if c["sparse"]:
        t = t.long().reshape([v for i, v in enumerate(shape) if i != axis])
    else:
        t = t.reshape(shape)
    return x, p, t, axis, shape


def loss_torch(c):
    import torch.nn.functional as F
    name, args = split(c["text"])
    x, p, t, axis, shape = given(c)
    args.pop("axis", None)
    w = args.pop("class_weight", args.pop("weight", None))
    w = CLASS_WEIGHTS if w is not None else None
    a = rename(args, {})
    scores = torch.log(p) if c["made"] == "softmax" and not c["strict"] else p
    move = lambda v: v.movedim(axis, 1)
    ce = lambda: F.cross_entropy(move(scores), t if c["sparse"] else move(t), weight=w, **{
        k: (int(v) if k == "ignore_index" else v) for k, v in a.items()})
    f = {"mse_loss": lambda: F.mse_loss(p, t), "bce": lambda: F.binary_cross_entropy(p, t),
         "bce_with_logits": lambda: F.binary_cross_entropy_with_logits(p, t, pos_weight=torch.tensor(a.get("pos_weight", 1.0))),
         "cross_entropy": ce, "categorical_crossentropy": ce, "cce": ce,
         "nll": lambda: F.nll_loss(p, t, weight=w), "nll_loss": lambda: F.nll_loss(p, t, weight=w),
         "smooth_l1": lambda: F.smooth_l1_loss(p, t, beta=a["beta"]),
         "poisson": lambda: F.poisson_nll_loss(p, t, log_input=False), "poisson_nll": lambda: F.poisson_nll_loss(p, t),
         "kl_div": lambda: F.kl_div(p, t, reduction=a.get("reduction", "mean"), log_target=a.get("log_target", False)),
         "cosine": lambda: (F.cosine_embedding_loss(p.movedim(1, -1).reshape(-1, 5), t.movedim(1, -1).reshape(-1, 5), torch.ones(1))),
         "soft_margin": lambda: F.soft_margin_loss(p, t), "hinge_embedding": lambda: F.hinge_embedding_loss(p, t, margin=a["margin"]),
         "multi_margin": lambda: F.multi_margin_loss(move(p).movedim(1, -1).reshape(-1, 5), t.reshape(-1)),
         }.get(name)
    return f and (f(), x)


def loss_keras(c):
    name, args = split(c["text"])
    x, p, t, axis, shape = given(c)
    if "class_weight" in args or "weight" in args or name == "mae":
        return None
    L = keras.losses
    cls = {"mse": L.MeanSquaredError, "mean_absolute_error": L.MeanAbsoluteError, "huber": L.Huber,
           "binary_crossentropy": L.BinaryCrossentropy, "sparse_categorical_crossentropy": L.SparseCategoricalCrossentropy,
           "categorical_crossentropy": L.CategoricalCrossentropy, "mape": L.MeanAbsolutePercentageError,
           "msle": L.MeanSquaredLogarithmicError, "log_cosh": L.LogCosh, "poisson": L.Poisson, "kl": L.KLDivergence,
           "kl_divergence": L.KLDivergence, "cosine_similarity": L.CosineSimilarity, "hinge": L.Hinge,
           "squared_hinge": L.SquaredHinge, "categorical_hinge": L.CategoricalHinge,
           "binary_focal_crossentropy": L.BinaryFocalCrossentropy, "focal": L.BinaryFocalCrossentropy,
           "categorical_focal_crossentropy": L.CategoricalFocalCrossentropy,
           "bce_with_logits": lambda **k: L.BinaryCrossentropy(from_logits=True, **k)}.get(name)
    if cls is None:
        return None
    a = rename(args, {})
    if "ignore_class" in a:
        a["ignore_class"] = int(a["ignore_class"])
    if name == "sparse_categorical_crossentropy" and c["made"] == "sigmoid":
        return None  # see docs/training.md: Keras's back ends differ on what is no probability
    weight = torch.tensor([.5 + i for i in range(shape[0])]) if c["weighted"] else None
    return cls(dtype="float64", **a)(t, p, sample_weight=weight), x


# ---- schedules ----

def schedule_keras(c):
    name, args = split(c["text"])
    S = K.schedules
    step = c["at"][0]
    a = rename(args, {"gamma": "decay_rate", "steps": "decay_steps", "end": "alpha"})
    if name == "exponential":
        s = S.ExponentialDecay(1.0, **a)
    elif name == "inverse_time":
        s = S.InverseTimeDecay(1.0, **a)
    elif name in ("cosine", "cosine_decay") and "decay_steps" in a:
        if "warmup" in a:
            a["warmup_steps"] = a.pop("warmup")
            s = S.CosineDecay(0.0, warmup_target=1.0, **a)
        else:
            s = S.CosineDecay(1.0, **a)
    elif name == "cosine_restarts":
        s = S.CosineDecayRestarts(1.0, first_decay_steps=a.pop("decay_steps"), **a)
    elif name == "polynomial":
        s = S.PolynomialDecay(1.0, a["decay_steps"], end_learning_rate=a["alpha"], power=a["power"])
    elif name == "piecewise":
        s = S.PiecewiseConstantDecay([float(v) for v in args["boundaries"].split(":")], [float(v) for v in args["values"].split(":")])
    else:
        return None
    return np.array([float(s(step))])


def schedule_torch(c):
    name, args = split(c["text"])
    T = torch.optim.lr_scheduler
    o = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    step, epoch_steps, epochs = [int(v) for v in c["at"]]
    count = step // epoch_steps
    if name == "step_lr":
        s = T.StepLR(o, int(args["step_size"]), args["gamma"])
    elif name == "multistep":
        s = T.MultiStepLR(o, [int(v) for v in args["milestones"].split(":")], args["gamma"])
    elif name == "exponential_lr":
        s = T.ExponentialLR(o, args["gamma"])
    elif name == "cosine" and "T_max" in args:
        s = T.CosineAnnealingLR(o, int(args["T_max"]))
    elif name == "cosine_restarts":
        s = T.CosineAnnealingWarmRestarts(o, int(args["T_0"]))
    elif name == "polynomial_lr":
        s = T.PolynomialLR(o, int(args["total_iters"]))
    elif name == "one_cycle":
        count = step
        s = T.OneCycleLR(o, 1.0, int(args.get("steps", epochs * epoch_steps)), cycle_momentum=False)
    else:
        return None
    for _ in range(count):
        o.step()
        s.step()
    return np.array([o.param_groups[0]["lr"]])


# ---- metrics ----

def metric_keras(c):
    name, args = split(c["text"])
    M = keras.metrics
    sparse = "sparse" in c["loss"] or c["loss"].startswith("cross_entropy")
    n = sum(k[0] == "p" and k[1:].isdigit() for k in c)
    p, t = np.array([c[f"p{i}"] for i in range(n)]), np.array([c[f"t{i}"] for i in range(n)])
    if "ignore" in c["loss"] or (sparse and name in ("precision", "recall", "f1", "true_negatives", "confusion_matrix")):
        return None
    if sparse:
        t = t.argmax(-1)
    one = p.shape[1] == 1
    m = {"accuracy": M.BinaryAccuracy if one else M.SparseCategoricalAccuracy if sparse else M.CategoricalAccuracy,
         "top_k": lambda: M.SparseTopKCategoricalAccuracy(k=2), "top_k_categorical_accuracy": lambda: M.TopKCategoricalAccuracy(k=2),
         "mae": M.MeanAbsoluteError, "mse": M.MeanSquaredError, "rmse": M.RootMeanSquaredError,
         "precision": M.Precision, "recall": M.Recall, "false_negatives": M.FalseNegatives, "auc": M.AUC,
         "mean_iou": lambda: M.MeanIoU(4)}.get(name)
    if m is None:
        return None
    m = m()
    m.update_state(t, p.argmax(-1) if name == "mean_iou" else p)
    return np.array([float(m.result())])


def check(c):
    """Worst difference and what is allowed; None: no framework has it."""
    kind = c["kind"]
    if kind == "loss":
        r = (loss_torch if c["torch"] else loss_keras)(c)
        if not r:
            return None
        loss, x = r
        loss.backward()
        # Keras computes constants such as its epsilon, and weights, in float32
        tol = 1e-9 if c["torch"] else 2e-6
        return max(abs(float(loss.detach()) - c["value"][0]) / (1 + abs(c["value"][0])),
                   np.abs(x.grad.numpy().ravel() - c["dx"]).max()), tol
    if kind == "optimizer":
        r = (optimizer_torch if c["torch"] else optimizer_keras)(c)
        return r and (np.abs(r[0] - c["out"]).max(), r[1])
    f = {"schedule": schedule_torch if c["torch"] else schedule_keras, "metric": metric_keras}[kind]
    r = f(c)
    return None if r is None else (np.abs(r - c["value"]).max(), 2e-6)


def main():
    passed = failed = 0
    alone = []
    for line in open(sys.argv[1]):
        c = json.loads(line)
        what = f"{c['kind']} {c['text']} ({'torch' if c['torch'] else 'keras'}{', strict' if c.get('strict') else ''})"
        r = check(c)
        if r is None:
            alone.append(what)
            continue
        good = r[0] <= r[1]
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"{what}: {r[0]:.3g} apart")
    print("not in the framework:", "; ".join(alone))
    print(f"{passed} passed, {failed} failed, {len(alone)} not compared (torch {torch.__version__}, keras {keras.__version__})")
    return failed > 0


sys.exit(main())
