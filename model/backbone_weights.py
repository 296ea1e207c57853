"""Weights for networks of gray pictures: from a file, or from a network of three colours.

A gray picture is a colour picture with three equal channels, so that the first convolution may sum
its weights over the colours. Keras' ImageNet weights of VGG and ResNet were trained on values of
0 to 255 less their mean, those of DenseNet on a deviation of 1 (so were those of torchvision); the
summed weights are scaled to take pictures with mean 0 and deviation 1 in all cases.
"""

from collections.abc import Iterator

import keras
import numpy as np
from numpy.typing import NDArray

from model.applications import BACKBONE, NAMES, Shape, own_graph, picture_body, published
from model.resnet import BLOCKS as RESNETS
from model.weights import load_layer, load_weights
from pipeline.errors import IntegrityError

# What a picture's deviation of 1 is in each colour, to the ImageNet weights of Keras (blue, green, red).
SEEN = {"vgg": (57.375, 57.12, 58.395), "resnet": (57.375, 57.12, 58.395), "densenet": (1.0, 1.0, 1.0)}


def initialise(net: keras.Model, name: str, weights: str | None, shape: Shape, preset: str | None) -> None:
    """Set the weights of the backbone of ``net``, which is that of ``name``; "none" leaves them random.

    Raises IntegrityError if a file does not fit, ResourceError if ImageNet weights cannot be fetched.
    """
    if weights in (None, "none"):
        return
    if weights != "imagenet":
        _from_file(net, name, str(weights), shape, preset)
        return
    # The layers of 4096 were trained for 7 x 7 feature maps.
    top = name in ("vgg16", "vgg19") and shape[:2] == (224, 224)
    _take_over(net, published(name, (*shape[:2], 3), weights="imagenet", top=top), name, preset)


def _from_file(net: keras.Model, name: str, path: str, shape: Shape, preset: str | None) -> None:
    """Load the file as a network or backbone of gray pictures; if it is none, as one of colours."""
    try:
        load_layer(net, BACKBONE, path)
    except IntegrityError as error:
        if error.problems[0].code != "other-network":
            raise
        for donor in _colour_forms(name, (*shape[:2], 3), preset):
            if _loads(donor, path):
                _take_over(net, donor, name, preset)
                return
        raise


def _colour_forms(name: str, shape: Shape, preset: str | None) -> Iterator[keras.Model]:
    """The networks that a file of three colours may hold: without its top, and for VGG with it."""
    own = own_graph(name, preset)
    yield picture_body(name, shape, preset) if own else published(name, shape, weights=None)
    if name in ("vgg16", "vgg19"):
        yield published(name, shape, weights=None, top=True)


def _loads(donor: keras.Model, path: str) -> bool:
    try:
        load_weights(donor, path)
    except IntegrityError:
        return False
    return True


def _take_over(net: keras.Model, donor: keras.Model, name: str, preset: str | None) -> None:
    """Give the backbone the weights of a network of three colours, as far as that reaches."""
    body = net.get_layer(BACKBONE)
    targets, sources = ([layer for layer in model.layers if layer.weights] for model in (body, donor))
    for target, source in zip(targets, sources, strict=False):
        values = source.get_weights()
        if name in NAMES and target is targets[0]:
            values[0] = _gray(values[0], name, preset)
        target.set_weights(values)


def _gray(kernel: NDArray[np.float32], name: str, preset: str | None) -> NDArray[np.float32]:
    """The first convolution (h, w, 3, n) for gray pictures of mean 0 and deviation 1, (h, w, 1, n)."""
    seen = 1.0 if name in RESNETS and preset else np.array(SEEN[name.rstrip("0123456789")])[:, np.newaxis]
    scaled = kernel * seen
    found: NDArray[np.float32] = scaled[:, :, 1:2] if preset else scaled.sum(axis=2, keepdims=True)
    return found
