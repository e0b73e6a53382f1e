#!/usr/bin/env python3
"""Keras's side of train_compare.py, a process of its own: the CNN of examples/keras_cnn, by fit.

    KERAS_BACKEND=tensorflow|jax|torch peer_keras.py DIR THREADS     (DIR: train-images-idx3-ubyte(.gz), train-labels-idx1-ubyte(.gz))

Answers each line on its standard input with a line of JSON. `fit SEED`: seconds and mean loss of one epoch over all of DIR, from first
values on; what is compiled once was compiled before.
"""
import glob
import gzip
import json
import os
import sys
import time

FOLDER, THREADS = sys.argv[1], int(sys.argv[2])
os.environ.update(TF_NUM_INTRAOP_THREADS=str(THREADS), TF_NUM_INTEROP_THREADS="1", OMP_NUM_THREADS=str(THREADS), TF_CPP_MIN_LOG_LEVEL="3")
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if THREADS > 1 else 'false'} intra_op_parallelism_threads={THREADS}" \
    if os.environ.get("KERAS_BACKEND") == "jax" else ""
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
import numpy as np
import keras
from keras import layers


def idx(name):
    path = sorted(glob.glob(os.path.join(FOLDER, name + "*")))[0]
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        raw = f.read()
    sizes = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


def network(seed):
    keras.utils.set_random_seed(seed)
    m = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
                          layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), layers.Flatten(),
                          layers.Dense(10, activation="softmax")])
    m.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return m


images, labels = idx("train-images")[..., None] / np.float32(255), idx("train-labels")
for line in sys.stdin:
    model = network(int(line.split()[1]))
    model.optimizer.build(model.trainable_variables)
    everything = [*model.variables, *model.optimizer.variables]
    first = [keras.ops.convert_to_numpy(v).copy() for v in everything]
    model.fit(images[:3200], labels[:3200], batch_size=32, epochs=1, verbose=0)
    for variable, value in zip(everything, first):
        variable.assign(value)
    start = time.perf_counter()
    history = model.fit(images, labels, batch_size=32, epochs=1, verbose=0)
    print(json.dumps([time.perf_counter() - start, history.history["loss"][0]]), flush=True)
