"""ViPTT-Net: a 2D network sees every slice or frame alone, an LSTM reads the sequence of its features.

Hasib Zunair et al., "ViPTT-Net", ImageCLEF 2021, section 2.2 and Fig. 1. The layers, their order and
their sizes are those of the released code; time is folded into the batch by a reshape, where that
code used ``TimeDistributed``. Written in Keras alone, so that it runs on every backend of Keras.
In place of VGG-16 and the LSTM there may be another 2D network and another way to sum up a sequence.

Input: float ``(B, depth, height, width, 1)``. Output: float32 class probabilities ``(B, classes)``.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from model.applications import BACKBONE, SMALLEST, frames_backbone
from model.temporal import TEMPORAL, summary_layers
from model.weights import load_layer
from pipeline.errors import ConfigError

ADAPTER = "conv3d"


def viptt_net(
    shape: tuple[int, int, int, int] = (70, 224, 224, 1),
    classes: int = 10,
    *,
    weights: str | None = "imagenet",
    backbone: str = "vgg16",
    temporal: str = "lstm",
    features: str = "mean",
) -> keras.Model:
    """Build the network for volumes of ``shape`` (depth, height, width, channels).

    ``weights`` are those of the backbone: "imagenet" (fetched by Keras), "none", or a path to a file
    of the backbone without its top, or of this whole network. ``backbone`` is one that
    ``frames_backbone`` knows, ``temporal`` is in ``TEMPORAL``. ``features`` are the "mean" of the
    backbone's last maps, or "fc1", the first 4096 units of VGG; "convlstm" reads the maps themselves.

    Raises ConfigError if the shape or an option cannot be used or there is no such file,
    ResourceError if the ImageNet weights cannot be fetched, IntegrityError if a file does not fit.

    Examples:
        >>> viptt_net((4, 32, 32, 1), classes=5, weights="none").output_shape
        (None, 5)
    """
    _, height, width, _ = _checked(shape)
    output = _output(temporal, features)
    body = frames_backbone(backbone, (height, width, 3), weights=weights, output=output)
    return _with_weights(_cnn_rnn(shape, classes, body, temporal), weights)


def _output(temporal: str, features: str) -> str:
    """What the backbone has to give for these options."""
    for option, value, known in (("temporal", temporal, TEMPORAL), ("features", features, ("mean", "fc1"))):
        if value not in known:
            remedy = f"give one of: {', '.join(known)}"
            raise ConfigError.of(option, "unknown-name", f"there is no {value!r}", remedy)
    if temporal == "convlstm" and features == "fc1":
        reason = "a ConvLSTM reads feature maps; the units of fc1 have no place in the picture"
        raise ConfigError.of("features", "no-maps", reason, "give `features: mean`, or `temporal: lstm`")
    return "maps" if temporal == "convlstm" else features


def small_net(
    shape: tuple[int, int, int, int] = (70, 224, 224, 1),
    classes: int = 10,
    *,
    weights: str | None = "none",
) -> keras.Model:
    """Build the same network around a backbone of five small convolutions, for demos and tests.

    There are no ImageNet weights for it; ``weights`` are "none" or a file. Raises as ``viptt_net``.
    """
    _, height, width, _ = _checked(shape)
    if weights == "imagenet":
        reason = "the small backbone was not trained on ImageNet"
        raise ConfigError.of(
            "--weights", "no-weights", reason, "give `--weights none`, or `--model viptt-net`"
        )
    return _with_weights(_cnn_rnn(shape, classes, _small(height, width), "lstm"), weights)


# --- a network and its halves -------------------------------------------------------------------


def freeze_backbone(net: keras.Model) -> None:
    """Keep the weights of the 2D network as they are; the rest stays trainable."""
    net.get_layer(BACKBONE).trainable = False


def fix_adapter(net: keras.Model) -> None:
    """Make the adapter copy the gray frame into each of the three channels, and keep it so."""
    adapter = net.get_layer(ADAPTER)
    kernel, bias = adapter.get_weights()
    adapter.set_weights([np.ones_like(kernel), np.zeros_like(bias)])
    adapter.trainable = False


def encoder(net: keras.Model) -> keras.Model:
    """The layers of ``net`` up to the features: (B, d, h, w, 1) to (B, d, n), or (B, d, h', w', n)."""
    volume = keras.Input(net.input_shape[1:], name="volume")
    return keras.Model(volume, _features(volume, net.get_layer(ADAPTER), net.get_layer(BACKBONE)))


def classifier(net: keras.Model) -> keras.Model:
    """The layers of ``net`` after the features, which it takes: to class probabilities (B, classes)."""
    depth, features = net.input_shape[1], net.get_layer(BACKBONE).output_shape[1:]
    sequence = keras.Input((depth, *features), name="features")
    return keras.Model(sequence, _through_top(net, sequence))


def summary(net: keras.Model, sequence: Any) -> Any:
    """What the head of ``net`` gets for a sequence of features: (B, d, n) to (B, 1024)."""
    after = net.layers.index(net.get_layer(BACKBONE)) + 1
    for layer in net.layers[after:-1]:
        sequence = layer(sequence)
    return sequence


def _through_top(net: keras.Model, sequence: Any) -> Any:
    return net.layers[-1](summary(net, sequence))


def rematerialized(net: keras.Model, *, frames: int = 14) -> keras.Model:
    """The layers of ``net`` for training in little memory: the same numbers, computed twice.

    Only the backbone's inputs and outputs are kept. In the backward pass its activations are computed
    again, ``frames`` of each volume at a time.
    """
    volume = keras.Input(net.input_shape[1:], name="volume")
    backbone = _Rematerialized(net.get_layer(BACKBONE), frames)
    return keras.Model(volume, _through_top(net, backbone(net.get_layer(ADAPTER)(volume))))


class _Rematerialized(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Applies a backbone to (B, d, h, w, 3), a few frames at a time; gives features (B, d, n)."""

    def __init__(self, backbone: keras.Model, frames: int) -> None:
        super().__init__()
        self.backbone, self.frames = backbone, frames
        self.zero = self.add_weight(shape=(), initializer="zeros", trainable=False, name="zero")

    def call(self, volumes: Any) -> Any:
        _, depth, height, width, channels = volumes.shape
        again = keras.remat(self.backbone)
        features, after = [], 0.0
        for start in range(0, depth, self.frames):
            piece = volumes[:, start : start + self.frames]
            output = again(ops.reshape(piece, (-1, height, width, channels)) + after)
            # This adds zero. It makes each piece depend on the one before, forward and backward:
            # otherwise all pieces are computed again at once, and no memory is saved.
            after = ops.cast(self.zero, output.dtype) * output[(0,) * len(output.shape)]
            features.append(ops.reshape(output, (-1, piece.shape[1], *output.shape[1:])))
        return ops.concatenate(features, axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:2], *self.backbone.output_shape[1:])


def _cnn_rnn(
    shape: tuple[int, int, int, int], classes: int, backbone: keras.Model, temporal: str
) -> keras.Model:
    volume = keras.Input(shape, name="volume")
    summary = _features(volume, layers.Conv3D(3, 1, name=ADAPTER), backbone)
    for layer in summary_layers(temporal):
        summary = layer(summary)  # (B, 256) after the LSTM
    summary = layers.Dense(1024, activation="relu", name="dense")(summary)
    # float32 also in mixed precision: the loss takes the logarithm of these probabilities.
    head = layers.Dense(classes, activation="softmax", name="head", dtype="float32")
    return keras.Model(volume, head(summary), name="viptt_net")


def _features(volume: Any, adapter: keras.layers.Layer, backbone: keras.Model) -> Any:
    _, depth, height, width, _ = volume.shape
    frames = adapter(volume)  # (B, d, h, w, 3)
    frames = ops.reshape(frames, (-1, height, width, 3))  # (B·d, h, w, 3)
    features = backbone(frames)  # (B·d, 512)
    return ops.reshape(features, (-1, depth, *features.shape[1:]))  # (B, d, 512)


def _checked(shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    rule = f"give (depth ≥ 1, height ≥ {SMALLEST}, width ≥ {SMALLEST}, 1)"
    if len(shape) != 4 or shape[0] < 1 or shape[3] != 1:
        raise ConfigError.of("shape", "bad-shape", f"{tuple(shape)} is not the shape of a volume", rule)
    if min(shape[1:3]) < SMALLEST:
        reason = f"{shape[1]}x{shape[2]} pixels are too few for a backbone, which halves them five times"
        raise ConfigError.of("shape", "shape-too-small", reason, rule)
    return shape


def _small(height: int, width: int) -> keras.Model:
    """Five convolutions, each halving the frame: (N, height, width, 3) to (N, 64)."""
    frame = keras.Input((height, width, 3))
    features = frame
    for filters in (16, 32, 64, 64, 64):
        features = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(
            features
        )
        # VGG-16 has no normalisation, but from random weights and few samples nothing is learned
        # without it. Momentum 0.8: with the usual 0.99 the averages lag behind in so few steps.
        features = layers.BatchNormalization(momentum=0.8)(features)
        features = layers.MaxPooling2D()(layers.Activation("relu")(features))
    return keras.Model(frame, layers.GlobalAveragePooling2D()(features), name=BACKBONE)


def _with_weights(net: keras.Model, weights: str | None) -> keras.Model:
    if weights not in (None, "none", "imagenet"):
        load_layer(net, BACKBONE, str(weights))
    return net
