"""What all exported models share: a graph from raw inputs to probabilities, and what it refuses.

    inputs  →  probabilities, float32 (classes,);  classes, their names

Inputs that the pipeline would quarantine are an error in TensorFlow; ONNX cannot raise errors, there
the probabilities are NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

MAX_NONFINITE = 0.01
MAX_SIZE = 1e6
VOLUME = tf.TensorSpec([None, None, None], tf.float32, name="volume")
LUMA = (0.0, 255.0)  # gray levels, and the luma of videos
Serve = Callable[..., dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Graph:
    """From raw inputs, named in ``signature``, to the network's input without batch and channel.

    ``values`` computes it; ``faults`` gives the reasons for which the pipeline would quarantine the
    inputs, each with whether it applies.
    """

    signature: tuple[tf.TensorSpec, ...]
    values: Callable[..., tf.Tensor]
    faults: Callable[..., dict[str, tf.Tensor]]


def serving(net: keras.Model, graph: Graph, classes: Sequence[str]) -> Serve:
    """The function that is exported: raw inputs to probabilities and the names of the classes."""

    def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        faults = graph.faults(*inputs)
        checks = [tf.debugging.Assert(tf.logical_not(fault), [text]) for text, fault in faults.items()]
        # ONNX has no assertions and drops them; `usable` below gives NaN there instead.
        with tf.control_dependencies(checks):
            values = graph.values(*map(tf.identity, inputs))
        (probabilities,) = tf.unstack(net(values[tf.newaxis, ..., tf.newaxis], training=False))
        usable = tf.logical_not(tf.reduce_any(list(faults.values())))
        return {
            "probabilities": tf.where(usable, probabilities, float("nan")),
            "classes": tf.constant(classes),
        }

    return serve


def faults_of(values: tf.Tensor, *, whole: str, point: str) -> dict[str, tf.Tensor]:
    """Faults of an array of values; ``whole`` and ``point`` are its name and that of one value."""
    finite = tf.math.is_finite(values)
    holes = tf.reduce_sum(tf.cast(tf.logical_not(finite), tf.float32))
    most = MAX_NONFINITE * tf.cast(tf.size(values), tf.float32)
    return {
        f"the {whole} has no {point}s": tf.reduce_min(tf.shape(values)) < 1,
        f"over 1 % of the {point}s are not finite": holes > most,
        f"a {point} is over 1,000,000 in size": tf.reduce_any(finite & (tf.abs(values) > MAX_SIZE)),
    }


def without_holes(values: tf.Tensor, low: float) -> tf.Tensor:
    """Values that are not finite become ``low``, which is air; the pipeline does the same."""
    return tf.where(tf.math.is_finite(values), values, low)


def as_stored(values: tf.Tensor, dtype: str) -> tf.Tensor:
    """Values in [0, 1], rounded as a store of this dtype holds them: the network was trained on that."""
    if dtype == "uint8":
        return tf.round(values * 255) / 255
    return tf.cast(tf.cast(values, dtype), tf.float32)
