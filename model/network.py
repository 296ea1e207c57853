"""ViPTT-Net: a 2D network sees every slice or frame alone, an LSTM reads the sequence of its features.

Hasib Zunair et al., "ViPTT-Net", ImageCLEF 2021, section 2.2 and Fig. 1. The layers, their order and
their sizes are those of the released code; time is folded into the batch by a reshape, where that
code used ``TimeDistributed``. Written in Keras alone, so that it runs on every backend of Keras.

Input: float ``(B, depth, height, width, 1)``. Output: float32 class probabilities ``(B, classes)``.
"""

import socket
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from model.weights import load_layer
from pipeline.errors import ConfigError, ResourceError

BACKBONE = "backbone"
ADAPTER = "conv3d"
TOP = ("lstm", "dense", "head")
SMALLEST = 32  # pixels: VGG-16 halves each side five times
ANSWER_TIMEOUT_S = 20.0  # for the server that has the ImageNet weights


def viptt_net(
    shape: tuple[int, int, int, int] = (70, 224, 224, 1),
    classes: int = 10,
    *,
    weights: str | None = "imagenet",
) -> keras.Model:
    """Build the network for volumes of ``shape`` (depth, height, width, channels).

    ``weights`` are those of the backbone: "imagenet" (fetched by Keras), "none", or a path to a file
    of VGG-16 without its top, or of this whole network. Raises ConfigError if the shape cannot be
    used or there is no such file, ResourceError if the ImageNet weights cannot be fetched,
    IntegrityError if a file does not fit.
    """
    _, height, width, _ = _checked(shape)
    return _with_weights(_cnn_rnn(shape, classes, _vgg16(height, width, weights)), weights)


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
    return _with_weights(_cnn_rnn(shape, classes, _small(height, width)), weights)


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
    """The layers of ``net`` up to the features: (B, d, h, w, 1) to (B, d, n)."""
    volume = keras.Input(net.input_shape[1:], name="volume")
    return keras.Model(volume, _features(volume, net.get_layer(ADAPTER), net.get_layer(BACKBONE)))


def classifier(net: keras.Model) -> keras.Model:
    """The layers of ``net`` after the features: (B, d, n) to class probabilities (B, classes)."""
    depth, features = net.input_shape[1], net.get_layer(BACKBONE).output_shape[-1]
    sequence = keras.Input((depth, features), name="features")
    return keras.Model(sequence, _through_top(net, sequence))


def _through_top(net: keras.Model, sequence: Any) -> Any:
    for name in TOP:
        sequence = net.get_layer(name)(sequence)
    return sequence


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
            after = ops.cast(self.zero, output.dtype) * output[0, 0]
            features.append(ops.reshape(output, (-1, piece.shape[1], output.shape[-1])))
        return ops.concatenate(features, axis=1)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*shape[:2], self.backbone.output_shape[-1])


def _cnn_rnn(shape: tuple[int, int, int, int], classes: int, backbone: keras.Model) -> keras.Model:
    volume = keras.Input(shape, name="volume")
    sequence = _features(volume, layers.Conv3D(3, 1, name=ADAPTER), backbone)
    summary = layers.LSTM(256, name="lstm")(sequence)  # (B, 256)
    summary = layers.Dense(1024, activation="relu", name="dense")(summary)
    # float32 also in mixed precision: the loss takes the logarithm of these probabilities.
    head = layers.Dense(classes, activation="softmax", name="head", dtype="float32")
    return keras.Model(volume, head(summary), name="viptt_net")


def _features(volume: Any, adapter: keras.layers.Layer, backbone: keras.Model) -> Any:
    _, depth, height, width, _ = volume.shape
    frames = adapter(volume)  # (B, d, h, w, 3)
    frames = ops.reshape(frames, (-1, height, width, 3))  # (B·d, h, w, 3)
    features = backbone(frames)  # (B·d, 512)
    return ops.reshape(features, (-1, depth, features.shape[-1]))  # (B, d, 512)


def _checked(shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    rule = f"give (depth ≥ 1, height ≥ {SMALLEST}, width ≥ {SMALLEST}, 1)"
    if len(shape) != 4 or shape[0] < 1 or shape[3] != 1:
        raise ConfigError.of("shape", "bad-shape", f"{tuple(shape)} is not the shape of a volume", rule)
    if min(shape[1:3]) < SMALLEST:
        reason = f"{shape[1]}x{shape[2]} pixels are too few for VGG-16, which halves them five times"
        raise ConfigError.of("shape", "shape-too-small", reason, rule)
    return shape


# --- backbones ----------------------------------------------------------------------------------


def _vgg16(height: int, width: int, weights: str | None) -> keras.Model:
    """VGG-16 without its top: frames (N, height, width, 3) to their mean feature (N, 512)."""
    own = "imagenet" if weights == "imagenet" else None
    options = {"include_top": False, "pooling": "avg", "input_shape": (height, width, 3), "name": BACKBONE}
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ANSWER_TIMEOUT_S)  # Keras itself would wait without a limit
    try:
        return keras.applications.VGG16(weights=own, **options)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        remedy = "give `--weights FILE` or `--weights none`, or connect to the network"
        raise ResourceError.of("imagenet", "no-weights", str(error), remedy) from error
    finally:
        socket.setdefaulttimeout(before)


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
