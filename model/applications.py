"""The graphs of 2D networks from ``keras.applications``, the two that are built here, and the user's own.

Input: float ``(N, height, width, channels)``. Output: features ``(N, n)``, or feature maps ``(N, h, w,
n)``. Written in Keras alone, so that it runs on every backend of Keras.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
from keras import layers

from model.densenet import densenet161
from model.own_network import is_own, own_backbone
from model.resnet import BLOCKS as RESNETS
from model.resnet import resnet
from pipeline.errors import ConfigError, ResourceError

BACKBONE = "backbone"
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
Shape = tuple[int, int, int]


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
    build = application(name)
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
        raise without_imagenet()
    net = densenet161(shape, name=BACKBONE)
    return net if output == "mean" else keras.Model(net.input, net.get_layer("relu").output, name=BACKBONE)


def is_published(name: str) -> bool:
    """Whether ``keras.applications`` has a network of this name, in any letter case."""
    return KERAS_NAMES.get(name, name).lower() in _applications()


def published_names() -> list[str]:
    """Names of all networks of ``keras.applications``, in small letters."""
    return list(_applications())


def application(name: str) -> Callable[..., keras.Model]:
    """The function of ``keras.applications`` that builds a network; raises ConfigError if there is none."""
    wanted, known = KERAS_NAMES.get(name, name).lower(), _applications()
    if wanted not in known:
        others = f"{', '.join(NAMES)}, or a network of keras.applications"
        raise ConfigError.of("--model", "unknown-name", f"there is no {name!r}", f"give one of: {others}")
    return known[wanted]


def _applications() -> dict[str, Callable[..., keras.Model]]:
    return {key.lower(): item for key, item in vars(keras.applications).items() if key[0].isupper()}


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


# --- for pictures -------------------------------------------------------------------------------


def own_graph(name: str, preset: str | None) -> bool:
    """Whether the network is built here, for Keras does not have it in this form."""
    return name == "densenet161" or (name in RESNETS and preset is not None)


def picture_body(name: str, shape: Shape, preset: str | None) -> keras.Model:
    """A backbone with random weights: pictures (N, height, width, channels) to features (N, n)."""
    if name == "densenet161":
        return densenet161(shape, name=BACKBONE)
    if own_graph(name, preset):
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


def without_imagenet() -> ConfigError:
    """The error where a network that is built here shall begin with ImageNet weights."""
    reason = "Keras has no ImageNet weights for this form of the network"
    remedy = "give `--weights FILE` or `--weights none`, or another network"
    return ConfigError.of("--weights", "no-weights", reason, remedy)
