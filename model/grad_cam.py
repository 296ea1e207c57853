"""Where in a slice the score of a class comes from: a picture and a network in, a heat map out.

Grad-CAM: R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based
localization", ICCV 2017, equations 1 and 2. Gradients need TensorFlow.

For networks that look at single pictures; ``model.explain`` does the same for those that read volumes.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from model.applications import BACKBONE
from pipeline.errors import ConfigError

POOLINGS = (layers.MaxPooling2D, layers.AveragePooling2D)


def slice_heat(net: keras.Model, picture: NDArray[np.floating], *, label: int) -> NDArray[np.float32]:
    """Grad-CAM of class ``label`` for a picture (height, width) in [0, 1]: (height, width) in [0, 1].

    The feature maps are the network's last ones before its last poolings, the score is that before
    the softmax. The largest value is 1, unless nothing speaks for the class: then all are 0. Raises
    ConfigError if the network has no feature maps, or ends neither in a layer of one unit per class nor
    in their softmax.
    """
    looking, frames = _looking(net, np.asarray(picture, np.float32)[np.newaxis, ..., np.newaxis])
    with tf.GradientTape() as tape:
        maps, features = looking(frames, training=False)
        score = _scores(net.layers[-1], features)[0, label]
    weights = ops.mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)  # equation 1
    heat = ops.relu(ops.sum(weights * maps, axis=-1, keepdims=True))  # equation 2
    heat = ops.image.resize(heat, picture.shape, interpolation="bilinear")[0, ..., 0]
    found: NDArray[np.float32] = ops.convert_to_numpy(heat)
    return found / found.max() if found.max() > 0 else found


def require_maps(net: keras.Model) -> None:
    """Raise ConfigError if ``slice_heat`` cannot explain a network."""
    _looking(net, np.zeros((1, *net.input_shape[1:]), np.float32))


def _looking(net: keras.Model, frames: Any) -> tuple[keras.Model, Any]:
    """The part of a network that gives feature maps and features, and what it takes for these frames.

    Features are what the last layer gets: of SonoNet, which ends in a softmax, the scores themselves.
    """
    if not isinstance(net.layers[-1], (layers.Dense, layers.Activation)):
        reason = f"its last layer is a {type(net.layers[-1]).__name__}"
        raise ConfigError.of(net.name, "no-head", reason, "let it end in a Dense layer, one unit per class")
    if BACKBONE not in [layer.name for layer in net.layers]:
        return keras.Model(net.input, [_last_maps(net), net.layers[-1].input]), frames
    body = net.get_layer(BACKBONE)
    for layer in net.layers[1 : net.layers.index(body)]:
        frames = layer(frames)
    return keras.Model(body.input, [_last_maps(body), body.output]), frames


def _last_maps(net: keras.Model) -> Any:
    """The last output with height and width that is no pooling's."""
    for layer in reversed(net.layers):
        if not isinstance(layer, (*POOLINGS, layers.InputLayer)) and len(layer.output.shape) == 4:
            return layer.output
    raise ConfigError.of(net.name, "no-maps", "it has no feature maps", "give a network with convolutions")


def _scores(head: keras.layers.Layer, features: Any) -> Any:
    """What the head gives before its softmax."""
    if isinstance(head, layers.Activation):
        return features
    scores = ops.matmul(ops.cast(features, "float32"), head.kernel)
    return scores if head.bias is None else scores + head.bias
