"""Networks for single pictures: a backbone trained on ImageNet, its last blocks thawed, a new head.

Pictures are float ``(B, height, width, 1)``, gray, in [0, 1]; out come float32 class probabilities
``(B, classes)``. The layers are ``standardise`` (where the mean and deviation are given), ``backbone``
(features, (B, n)) and ``head``. Written in Keras alone, so that it runs on every backend of Keras.

What the eight networks are: K. Simonyan and A. Zisserman, ICLR 2015 (VGG); K. He et al., CVPR 2016
(ResNet); G. Huang et al., CVPR 2017 (DenseNet). The graphs are those of ``keras.applications``, but
for DenseNet-161, which Keras does not have. VGG keeps its two layers of 4096, with a dropout of 0.5
(Simonyan and Zisserman, section 3.1).

The preset ``covidnet-ct-id-2022`` follows the code of COVIDNet-CT-Identification (2022): the ResNets
have the form of PyTorch's torchvision, the first convolution is the green slice of the weights, and
``thaw`` names blocks as that code did.
"""

import re
import sys
from itertools import groupby
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from model.applications import (
    BACKBONE,
    NAMES,
    SMALLEST,
    Shape,
    application,
    own_graph,
    picture_body,
    without_imagenet,
)
from model.backbone_weights import initialise
from pipeline.errors import ConfigError

HEAD, STANDARDISE = "head", "standardise"
PRESET_2022 = "covidnet-ct-id-2022"
IMAGENET_MEAN, IMAGENET_DEVIATION = 0.449, 0.226  # of gray, in [0, 1]: the means over the three colours
BLOCK = re.compile(r"(conv\d+_block\d+)_|(block\d+_conv\d+)$")


def backbone(
    name: str,
    *,
    classes: int,
    shape: Shape,
    weights: str | None = "imagenet",
    unfreeze: int | None = 0,
    preset: str | None = None,
    statistics: tuple[float, float] | None = None,
) -> keras.Model:
    """Build the network for pictures of ``shape`` (height, width, 1).

    ``name`` is one of ``NAMES``, or that of another network of ``keras.applications`` in any letter
    case; such a one gets the gray picture three times, prepared as its own weights ask for.
    ``weights`` are the backbone's: "imagenet" (fetched by Keras), "none", or a path to a file of this
    network, of its backbone, or of the three-colour network as Keras publishes it. ``unfreeze`` is
    how many blocks ``thaw`` leaves trainable; None trains everything. ``statistics`` are the mean and
    deviation of the pictures of the train part, which the network itself subtracts and divides by.

    Raises ConfigError if there is no such network, no ImageNet weights for it, no such file, or the
    shape or an option cannot be used, ResourceError if the ImageNet weights cannot be fetched,
    IntegrityError if a file does not fit.

    Examples:
        >>> backbone("vgg16", classes=3, shape=(64, 64, 1), weights="none").output_shape
        (None, 3)
    """
    _check(name, shape, preset, statistics)
    if weights == "imagenet" and own_graph(name, preset):
        raise without_imagenet()
    picture = keras.Input(shape, name="picture")
    body = picture_body(name, shape, preset)
    features = body(_prepared(name, picture, statistics))
    # float32 whatever the policy: the loss takes the logarithm of what comes out here.
    head = layers.Dense(classes, activation="softmax", name=HEAD, dtype="float32")
    net = keras.Model(picture, head(features), name=re.sub(r"\W", "_", name))
    initialise(net, name, weights, shape, preset)
    thaw(net, unfreeze, preset=preset)
    return net


def blocks(net: keras.Model) -> list[list[keras.layers.Layer]]:
    """The layers of each block of a backbone, from its input to its output.

    A block is a convolution layer of VGG, a residual block of ResNet, a dense layer (two
    convolutions) of DenseNet, and in other networks each convolution by itself. Stems, transitions
    and the last normalisation belong to no block.
    """
    convolutions = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
    named = [(BLOCK.match(layer.name), layer) for layer in net.get_layer(BACKBONE).layers]
    found = [(match[0].rstrip("_"), layer) for match, layer in named if match and layer.weights]
    if found:
        return [[layer for _, layer in group] for _, group in groupby(found, key=lambda item: item[0])]
    return [[layer] for _, layer in named if isinstance(layer, convolutions)]


def thaw(net: keras.Model, unfreeze: int | None, *, preset: str | None = None) -> None:
    """Freeze the backbone of ``net`` but for its last ``unfreeze`` blocks; None thaws everything.

    The head, and VGG's two layers of 4096, are always trainable. A frozen batch normalisation
    uses and keeps the averages that it has; a thawed one uses those of the batch and follows them.

    Under the preset, which blocks are thawed has an error of the original: VGG counts its last
    pooling as a layer, and takes 0 and everything above 4 for 4; ResNet and DenseNet thaw the first
    block of the last stage, then the last, the one before it, and so on, within that stage. All
    batch normalisations follow the batches, with the momentum of PyTorch, even where they are frozen.
    Raises ConfigError if there are not as many blocks.
    """
    body, every = net.get_layer(BACKBONE), blocks(net)
    if unfreeze is not None and not 0 <= unfreeze <= len(every):
        reason = f"{unfreeze} blocks of the {len(every)} that {net.name} has"
        raise ConfigError.of("--unfreeze", "bad-value", reason, f"give 0 to {len(every)}, or none for all")
    body.trainable = True
    kept = {id(layer) for layer in _kept(body, every, unfreeze, preset)}
    for layer in body.layers:
        layer.trainable = False  # Keras hands a value on to the weights only where it changes
        layer.trainable = id(layer) in kept
        if preset and isinstance(layer, layers.BatchNormalization):
            _follow_batches(layer)


def _kept(
    body: keras.Model, every: list[list[keras.layers.Layer]], unfreeze: int | None, preset: str | None
) -> list[keras.layers.Layer]:
    """The layers of a backbone that stay trainable."""
    if unfreeze is None:
        return list(body.layers)
    chosen = _blocks_2022(every, unfreeze) if preset else every[len(every) - unfreeze :]
    fully_connected = [layer for layer in body.layers if isinstance(layer, layers.Dense)]
    return [layer for block in chosen for layer in block] + fully_connected


def _blocks_2022(every: list[list[keras.layers.Layer]], unfreeze: int) -> list[list[keras.layers.Layer]]:
    if every[0][0].name.startswith("block"):  # VGG
        count = unfreeze - 1 if 1 <= unfreeze <= 3 else 3
        return every[len(every) - count :]
    stage = every[-1][0].name.split("_")[0]
    last = [block for block in every if block[0].name.startswith(f"{stage}_")]
    return [last[-number] for number in range(min(unfreeze, len(last)))]


def _follow_batches(layer: keras.layers.Layer) -> None:
    """Let a batch normalisation follow the batches; its scale and shift stay as trainable as they were."""
    learning, layer.trainable = layer.trainable, True
    layer.gamma.trainable = layer.beta.trainable = learning
    layer.momentum = 0.9


# --- graphs -------------------------------------------------------------------------------------


def _check(name: str, shape: Shape, preset: str | None, statistics: tuple[float, float] | None) -> None:
    if len(shape) != 3 or shape[2] != 1 or min(shape[:2]) < SMALLEST:
        rule = f"give (height ≥ {SMALLEST}, width ≥ {SMALLEST}, 1)"
        raise ConfigError.of("shape", "bad-shape", f"{tuple(shape)} is not the shape of a picture", rule)
    if preset not in (None, PRESET_2022):
        raise ConfigError.of("preset", "unknown-name", f"there is no {preset!r}", f"give {PRESET_2022}")
    if preset and name not in NAMES:
        reason = f"{preset} has no network {name!r}"
        raise ConfigError.of("--model", "unknown-name", reason, f"give one of: {', '.join(NAMES)}")
    if statistics is not None and not (np.isfinite(statistics).all() and statistics[1] > 0):
        reason = f"mean and deviation are {statistics}"
        raise ConfigError.of(
            "statistics", "bad-value", reason, "the deviation must be above 0: look at the data"
        )


def _prepared(name: str, picture: Any, statistics: tuple[float, float] | None) -> Any:
    """The picture as the backbone takes it: of one channel, or three where the backbone is as published."""
    if statistics:
        mean, deviation = statistics
        picture = layers.Rescaling(1 / deviation, offset=-mean / deviation, name=STANDARDISE)(picture)
    if name in NAMES:
        return picture
    return Colours(name, standardised=statistics is not None, name="colours")(picture)


class Colours(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Gray pictures (N, h, w, 1) as a network of ``keras.applications`` takes colour ones, (N, h, w, 3).

    Where they are ``standardised``, they get the mean and deviation of ImageNet first.
    """

    def __init__(self, application: str, *, standardised: bool, **options: Any) -> None:
        super().__init__(**options)
        self.application, self.standardised = application, standardised

    def call(self, pictures: Any) -> Any:
        """Prepare the pictures as the network's own module does."""
        if self.standardised:
            pictures = pictures * IMAGENET_DEVIATION + IMAGENET_MEAN
        module = sys.modules[application(self.application).__module__]
        return module.preprocess_input(ops.repeat(pictures * 255, 3, axis=-1))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Three channels."""
        return (*shape[:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """What builds the layer anew."""
        return {**super().get_config(), "application": self.application, "standardised": self.standardised}
