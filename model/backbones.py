"""Networks for single pictures: a backbone trained on ImageNet, its last blocks thawed, a new head.

Pictures are float ``(B, height, width, 1)``, gray, in [0, 1]; out come float32 class probabilities
``(B, classes)``. The layers are ``standardise`` (where the mean and deviation are given), ``backbone``
(features, (B, n)) and ``head``. Written in Keras alone, so that it runs on every backend of Keras.

What the eight networks are: K. Simonyan and A. Zisserman, ICLR 2015 (VGG); K. He et al., CVPR 2016
(ResNet); G. Huang et al., CVPR 2017 (DenseNet). The graphs are those of ``keras.applications``, but
for DenseNet-161, which Keras does not have. VGG keeps its two layers of 4096, with a dropout of 0.5
(Simonyan and Zisserman, section 3.1).

A gray picture is a colour picture with three equal channels, so that the first convolution may sum
its weights over the colours. Keras' ImageNet weights of VGG and ResNet were trained on values of
0 to 255 less their mean, those of DenseNet on a deviation of 1 (so were those of torchvision); the
summed weights are scaled to take pictures with mean 0 and deviation 1 in all cases.

The preset ``covidnet-ct-id-2022`` follows the code of COVIDNet-CT-Identification (2022): the ResNets
have the form of PyTorch's torchvision, the first convolution is the green slice of the weights, and
``thaw`` names blocks as that code did.
"""

import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from model.densenet import densenet161
from model.own_network import is_own, own_backbone
from model.resnet import BLOCKS as RESNETS
from model.resnet import resnet
from model.weights import load_layer, load_weights
from pipeline.errors import ConfigError, IntegrityError, ResourceError

BACKBONE, HEAD, STANDARDISE = "backbone", "head", "standardise"
PRESET_2022 = "covidnet-ct-id-2022"
KERAS_NAMES = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "densenet121": "DenseNet121",
    "densenet201": "DenseNet201",
}
NAMES = (*KERAS_NAMES, "densenet161")
SMALLEST = 32  # pixels; five times halved, one is left
SILENCE_S = 20.0  # of the server that has the ImageNet weights
# What a picture's deviation of 1 is in each colour, to the ImageNet weights of Keras (blue, green, red).
SEEN = {"vgg": (57.375, 57.12, 58.395), "resnet": (57.375, 57.12, 58.395), "densenet": (1.0, 1.0, 1.0)}
IMAGENET_MEAN, IMAGENET_DEVIATION = 0.449, 0.226  # of gray, in [0, 1]: the means over the three colours
BLOCK = re.compile(r"(conv\d+_block\d+)_|(block\d+_conv\d+)$")
Shape = tuple[int, int, int]


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
    """
    _check(name, shape, preset, statistics)
    if weights == "imagenet" and _own_graph(name, preset):
        raise _without_imagenet()
    picture = keras.Input(shape, name="picture")
    body = _body(name, shape, preset)
    features = body(_prepared(name, picture, statistics))
    # float32 whatever the policy: the loss takes the logarithm of what comes out here.
    head = layers.Dense(classes, activation="softmax", name=HEAD, dtype="float32")
    net = keras.Model(picture, head(features), name=re.sub(r"\W", "_", name))
    _initialise(net, name, weights, shape, preset)
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


def _without_imagenet() -> ConfigError:
    reason = "Keras has no ImageNet weights for this form of the network"
    remedy = "give `--weights FILE` or `--weights none`, or another network"
    return ConfigError.of("--weights", "no-weights", reason, remedy)


def _own_graph(name: str, preset: str | None) -> bool:
    """Whether the network is built here, for Keras does not have it in this form."""
    return name == "densenet161" or (name in RESNETS and preset is not None)


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
        module = sys.modules[_application(self.application).__module__]
        return module.preprocess_input(ops.repeat(pictures * 255, 3, axis=-1))

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Three channels."""
        return (*shape[:-1], 3)

    def get_config(self) -> dict[str, Any]:
        """What builds the layer anew."""
        return {**super().get_config(), "application": self.application, "standardised": self.standardised}


def _body(name: str, shape: Shape, preset: str | None) -> keras.Model:
    """A backbone with random weights: pictures (N, height, width, channels) to features (N, n)."""
    if name == "densenet161":
        return densenet161(shape, name=BACKBONE)
    if _own_graph(name, preset):
        return resnet(RESNETS[name], shape, name=BACKBONE)
    if name.startswith("vgg") and name in NAMES:
        return _vgg(name, shape)
    return published(name, shape if name in NAMES else (*shape[:2], 3), weights=None)


def _vgg(name: str, shape: Shape) -> keras.Model:
    """VGG up to its second layer of 4096."""
    bare = published(name, shape, weights=None, pooling=None)
    features = layers.Flatten(name="flatten")(bare.output)
    for number in (1, 2):
        features = layers.Dense(4096, activation="relu", name=f"fc{number}")(features)
        features = layers.Dropout(0.5, name=f"dropout{number}")(features)
    return keras.Model(bare.input, features, name=BACKBONE)


def published(
    name: str,
    shape: Shape,
    *,
    weights: str | None,
    pooling: str | None = "avg",
    top: bool = False,
) -> keras.Model:
    """A network of ``keras.applications`` for pictures of ``shape``, named "backbone".

    ``weights`` are "imagenet" or None; without its ``top``, the feature maps are averaged or, with
    no ``pooling``, given as they are. Raises ConfigError if Keras has no such network, or not for
    this shape, ResourceError if its weights cannot be fetched.
    """
    build = _application(name)
    options = {"input_shape": shape, "include_top": top, "name": BACKBONE}
    options |= {} if top else {"pooling": pooling}
    with _fetching(name):
        net = build(weights=weights, **options)
    # Evaluating builds the network without them and loads what was trained: the graph must be the same.
    if weights and name not in NAMES and len(net.layers) != len(build(weights=None, **options).layers):
        reason = "with its ImageNet weights, Keras adds layers to it"
        raise ConfigError.of("--weights", "no-weights", reason, "give `--weights none`, or another network")
    return net


def frames_backbone(name: str, shape: Shape, *, weights: str | None, output: str = "mean") -> keras.Model:
    """A backbone for frames (N, height, width, 3), without its top, named "backbone".

    ``name`` is one of ``NAMES``, a network of ``keras.applications``, or the user's own
    ``module:function``. ``weights`` are "imagenet"; all else leaves them random. ``output`` is
    "mean": features (N, n); "maps": the last feature maps (N, h, w, n); "fc1": VGG's first 4096
    units (N, 4096). Raises ConfigError if that cannot be, ResourceError as ``published``.
    """
    known = "imagenet" if weights == "imagenet" else None
    if is_own(name):
        net = own_backbone(name, shape, rank=4 if output == "maps" else 2)
        return keras.Model(net.input, net.output, name=BACKBONE)
    if output == "fc1" and name not in ("vgg16", "vgg19"):
        raise ConfigError.of("features", "no-fc1", f"{name} has no fc1", "give `backbone: vgg16`, or vgg19")
    if output == "fc1":
        net = published(name, shape, weights=known, top=True)
        return keras.Model(net.input, net.get_layer("fc1").output, name=BACKBONE)
    if name != "densenet161":
        return published(name, shape, weights=known, pooling="avg" if output == "mean" else None)
    if known:
        raise _without_imagenet()
    net = densenet161(shape, name=BACKBONE)
    return net if output == "mean" else keras.Model(net.input, net.get_layer("relu").output, name=BACKBONE)


def _application(name: str) -> Callable[..., keras.Model]:
    wanted = KERAS_NAMES.get(name, name).lower()
    known = {key.lower(): item for key, item in vars(keras.applications).items() if key[0].isupper()}
    if wanted not in known:
        others = f"{', '.join(NAMES)}, or a network of keras.applications"
        raise ConfigError.of("--model", "unknown-name", f"there is no {name!r}", f"give one of: {others}")
    build: Callable[..., keras.Model] = known[wanted]
    return build


@contextmanager
def _fetching(name: str) -> Iterator[None]:
    """Let a shape that Keras refuses, and weights that do not come, be errors of ours."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)  # Keras itself would wait for an answer for ever
    try:
        yield
    except ValueError as error:
        remedy = "give pictures of another size, or another network"
        raise ConfigError.of(name, "bad-shape", str(error), remedy) from error
    except Exception as error:  # Keras raises a bare Exception where a download fails
        remedy = "give `--weights FILE` or `--weights none`, or connect to the network"
        raise ResourceError.of("imagenet", "no-weights", str(error), remedy) from error
    finally:
        socket.setdefaulttimeout(before)


# --- weights ------------------------------------------------------------------------------------


def _initialise(net: keras.Model, name: str, weights: str | None, shape: Shape, preset: str | None) -> None:
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
    own = _own_graph(name, preset)
    yield _body(name, shape, preset) if own else published(name, shape, weights=None)
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
