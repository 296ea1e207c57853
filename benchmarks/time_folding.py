"""What is gained by folding time into the batch, where the code of 2021 had TimeDistributed?

    python benchmarks/time_folding.py [--depth N] [--size N] [--rounds N]

Both networks have the same layers and weights; that they predict the same is checked first. Graph and tracing
are those of a training step at the full 70x224x224 (tracing needs no data), the time of a step is measured at
the given size. With KERAS_BACKEND=jax only the step is measured.
"""

import argparse
import os
import sys
import time
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from model.applications import BACKBONE
from model.network import viptt_net

FULL = (70, 224, 224, 1)
BATCH = 2
CLASSES = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--depth", type=int, default=FULL[0], help="frames, for the step (default: 70)")
    parser.add_argument("--size", type=int, default=32, help="pixels a side, for the step (default: 32)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if keras.backend.backend() == "tensorflow":
        print_tracing(options.rounds)
    print_step((options.depth, options.size, options.size, 1), options.rounds)
    return 0


def both(shape: tuple[int, int, int, int]) -> tuple[keras.Model, keras.Model]:
    """ViPTT-Net as this project builds it, and with TimeDistributed; the same random weights."""
    folded = viptt_net(shape, CLASSES, weights="none")
    # He's weights: from Keras' own, VGG-16 answers nearly the same to whatever it is shown.
    rng = np.random.default_rng(0)
    folded.set_weights([rng.normal(0, he_deviation(value), value.shape) for value in folded.get_weights()])
    unfolded = time_distributed(shape)
    unfolded.set_weights(folded.get_weights())
    for net in (folded, unfolded):
        net.compile("sgd", "categorical_crossentropy")
    return folded, unfolded


def he_deviation(weights: np.ndarray[Any, Any]) -> float:
    return 0.0 if weights.ndim == 1 else float(np.sqrt(2 / np.prod(weights.shape[:-1])))


def time_distributed(shape: tuple[int, int, int, int]) -> keras.Model:
    _, height, width, _ = shape
    options = {"weights": None, "include_top": False, "pooling": "avg", "input_shape": (height, width, 3)}
    backbone = keras.applications.VGG16(**options, name=BACKBONE)
    stack = [
        keras.Input(shape),
        layers.Conv3D(3, 1),
        layers.TimeDistributed(backbone),
        layers.LSTM(256),
        layers.Dense(1024, activation="relu"),
        layers.Dense(CLASSES, activation="softmax"),
    ]
    return keras.Sequential(stack)


# --- graph and tracing --------------------------------------------------------------------------


def print_tracing(rounds: int) -> None:
    nets = both(FULL)
    found: list[list[tuple[float, int]]] = [[], []]
    for _ in range(rounds):
        for net, each in zip(nets, found, strict=True):
            each.append(traced(net))
    print(f"training step of batches {'x'.join(map(str, (BATCH, *FULL)))}, {rounds} rounds")
    operations = [each[0][1] for each in found]
    print_pair("operations in the graph", *operations, f"{operations[1] / operations[0]:.1f}")
    times = [[seconds for seconds, _ in each] for each in found]
    print_pair("tracing, s", *(f"{median(each):.2f}" for each in times), ratio(times))


def traced(net: keras.Model) -> tuple[float, int]:
    """Seconds to trace a training step, and the operations of its graph and of the functions it calls."""
    import tensorflow as tf

    @tf.function
    def step(volumes: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = net.compute_loss(y=labels, y_pred=net(volumes, training=True))
        variables = net.trainable_variables
        net.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    net.optimizer.build(net.trainable_variables)
    begun = time.perf_counter()
    concrete = step.get_concrete_function(tf.TensorSpec((BATCH, *FULL)), tf.TensorSpec((BATCH, CLASSES)))
    seconds = time.perf_counter() - begun
    graph = concrete.graph.as_graph_def()
    return seconds, len(graph.node) + sum(len(function.node_def) for function in graph.library.function)


# --- a step -------------------------------------------------------------------------------------


def print_step(shape: tuple[int, int, int, int], rounds: int) -> None:
    nets = both(shape)
    rng = np.random.default_rng(0)
    volumes = rng.random((BATCH, *shape), np.float32) * np.linspace(0.2, 1, BATCH)[:, None, None, None, None]
    labels = np.eye(CLASSES, dtype=np.float32)[:BATCH]
    folded, unfolded = (net.predict_on_batch(volumes) for net in nets)
    difference, spread = np.abs(folded - unfolded).max(), np.ptp(folded, axis=0).max()
    assert difference < 1e-5 < 1e-2 < spread, (difference, spread)
    times: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for net, each in zip(nets, times, strict=True):
            begun = time.perf_counter()
            net.train_on_batch(volumes, labels)
            if number:  # the first traces and compiles
                each.append(time.perf_counter() - begun)
    backend = keras.backend.backend()
    print(
        f"{backend}, batches {'x'.join(map(str, (BATCH, *shape)))}; predictions differ by {difference:.0e} ",
        end="",
    )
    print(f"between the networks, by {spread:.0e} between the volumes")
    print_pair("a training step, s", *(f"{median(each):.2f}" for each in times), ratio(times))


def ratio(times: list[list[float]]) -> str:
    each = [unfolded / folded for folded, unfolded in zip(*times, strict=True)]
    return f"{median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def print_pair(what: str, folded: object, unfolded: object, times: str) -> None:
    print(f"  {what:24} folded {folded:>7}   TimeDistributed {unfolded:>7}   {times} times as much")


if __name__ == "__main__":
    sys.exit(main())
