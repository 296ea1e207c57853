"""SonoNet for ultrasound: pictures in 2-D, windows of a video in 3-D or in (2+1)-D.

Five stacks of 3x3 convolutions see the picture at full, 1/2, 1/4, 1/8 and 1/16 size; two 1x1
convolutions turn their features into one map per class, and the mean of a map is the logit of its
class. 2-D: C. F. Baumgartner et al., "SonoNet", IEEE Transactions on Medical Imaging 36, 2017, Fig. 2.
3-D and (2+1)-D: G. Guraschi et al., "SpaceTime-SonoNet", Med. Biol. Eng. Comput., 2026. (2+1)-D splits
each convolution into one over space and one over time: D. Tran et al., CVPR 2018.

Input: float ``(B, height, width, 1)`` for 2-D, ``(B, length, height, width, 1)`` otherwise, in the
range that the weights were trained with. Output: float32 ``(B, classes)``. Written in Keras alone,
so that it runs on every backend of Keras.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from pipeline.errors import ConfigError

STACKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))  # convolutions, and their width in units of `features`
BLOCKS = tuple(
    f"stack{stack}_conv{number}"
    for stack, (convolutions, _) in enumerate(STACKS, start=1)
    for number in range(1, convolutions + 1)
)
HEAD = "adapt2"  # names of the layers that depend on the number of classes begin with it
SMALLEST, SHORTEST = 16, 5  # four times halved, one pixel is left; four times one less, one frame is left
FIRST_MID = 45  # mid channels of the first convolution, where the others follow the formula
FEATURES_EPSILON, ADAPTATION_EPSILON = 1e-4, 1e-5  # of the batch normalisation


@dataclass(frozen=True)
class _Block:
    """A convolution with its normalisation, or the two that it is split into; ``size`` along each axis."""

    name: str
    width: int
    size: int
    epsilon: float
    mid_channels: str


@dataclass(frozen=True)
class _Kind:
    """What tells the three networks apart."""

    rank: int  # of a sample: (h, w, 1) or (length, h, w, 1)
    block: Callable[[Any, _Block], Any]
    head: Callable[[Any, _Block], Any]
    epsilon: float  # of the batch normalisation in the stacks
    pool: Callable[[], keras.layers.Layer]
    dropout: float
    average: Callable[..., keras.layers.Layer]


def sononet(
    kind: str,
    *,
    features: int = 32,
    classes: int = 7,
    shape: tuple[int, ...],
    activation: str | None = "softmax",
    standardise: bool = False,
    mid_channels: str = "cout",
) -> keras.Model:
    """Build the network of a ``kind`` ("2d", "3d", "2+1d") for samples of ``shape``.

    ``shape`` is (height, width, 1) for "2d", (length, height, width, 1) otherwise; ``features`` is the
    width of the first stack: 16, 32 or 64 in the papers. ``activation`` None gives logits.
    ``standardise`` scales each picture in the network, as the weights of the fetal database want it.
    ``mid_channels`` counts the channels between space and time of "2+1d": "cout" takes as many as come
    out, "formula" as many as give the parameters of the 3-D convolution. Raises ConfigError if no such
    network can be built.

    Examples:
        >>> sononet("2d", features=16, classes=14, shape=(64, 64, 1)).output_shape
        (None, 14)
    """
    _check(kind, features, classes, shape, mid_channels)
    parts = _KINDS[kind]
    sample = keras.Input(shape, name="picture" if kind == "2d" else "window")
    maps = Standardise(name="standardise")(sample) if standardise else sample
    for stack, (convolutions, width) in enumerate(STACKS, start=1):
        for number in range(1, convolutions + 1):
            name = f"stack{stack}_conv{number}"
            maps = parts.block(maps, _Block(name, features * width, 3, parts.epsilon, mid_channels))
        if stack < len(STACKS):
            maps = parts.pool()(maps)
    maps = parts.block(maps, _Block("adapt1", features * 4, 1, ADAPTATION_EPSILON, mid_channels))
    maps = parts.head(maps, _Block(HEAD, classes, 1, ADAPTATION_EPSILON, mid_channels))
    maps = layers.Dropout(parts.dropout, name="dropout")(maps) if parts.dropout else maps
    # float32 whatever the policy: the loss takes the logarithm of what comes out here.
    logits = parts.average(dtype="float32", name="average")(maps)
    scores = layers.Activation(activation or "linear", dtype="float32", name="scores")(logits)
    return keras.Model(sample, scores, name=f"sononet_{kind.replace('+', 'p')}")


def encoder(net: keras.Model) -> keras.Model:
    """The layers of ``net`` up to the features: samples to (B, [length - 4,] h / 16, w / 16, 8 features)."""
    return keras.Model(net.input, net.get_layer(f"{BLOCKS[-1]}_relu").output)


def freeze(net: keras.Model, blocks: int) -> None:
    """Keep the first ``blocks`` of the 13 blocks of convolutions as they are; 13 leave the classifier alone.

    A frozen block keeps its moving statistics, too. Raises ConfigError for another number.
    """
    if not 0 <= blocks <= len(BLOCKS):
        reason = f"{blocks} blocks cannot be frozen"
        raise ConfigError.of("blocks", "bad-value", reason, f"give a number from 0 to {len(BLOCKS)}")
    for layer in net.layers:
        if layer.name.startswith(BLOCKS[:blocks]):
            layer.trainable = False


class Standardise(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Each picture to mean 0 and standard deviation 255, of all its pixels; a picture of one value to 0.

    (…, h, w, 1) to the same shape: ``255 (x - mean) / std``, in float32.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32"})  # squares of gray levels overflow float16

    def call(self, pictures: Any) -> Any:
        centred = pictures - ops.mean(pictures, axis=(-3, -2), keepdims=True)
        deviation = ops.sqrt(ops.mean(ops.square(centred), axis=(-3, -2), keepdims=True))
        return 255 * ops.divide_no_nan(centred, deviation)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As it came in."""
        return shape


# --- blocks -------------------------------------------------------------------------------------


def _whole(maps: Any, block: _Block) -> Any:
    """One convolution over all axes at once."""
    return layers.ReLU(name=f"{block.name}_relu")(_convolution(maps, block.width, block.size, block))


def _linear(maps: Any, block: _Block) -> Any:
    """The same without ReLU: logits may be negative."""
    # He's initialisation is for convolutions that a ReLU follows.
    return _convolution(maps, block.width, block.size, block, initializer="glorot_uniform")


def _factored(maps: Any, block: _Block) -> Any:
    """A convolution over space, then one over time, each with its ReLU."""
    mid = block.width if block.mid_channels == "cout" else _formula(maps.shape[-1], block)
    space = _convolution(maps, mid, (1, block.size, block.size), block, part="_space")
    space = layers.ReLU(name=f"{block.name}_space_relu")(space)
    time = _convolution(space, block.width, (block.size, 1, 1), block, part="_time")
    return layers.ReLU(name=f"{block.name}_relu")(time)


def _formula(before: int, block: _Block) -> int:
    """Mid channels that give the two convolutions the parameters of a whole one (Tran et al., 3.5)."""
    if block.name == BLOCKS[0]:
        return FIRST_MID
    size, after = block.size, block.width
    return max(1, size**3 * before * after // (size**2 * before + size * after))


def _convolution(
    maps: Any, width: int, size: Any, block: _Block, *, part: str = "", initializer: str = "he_uniform"
) -> Any:
    """A convolution without bias, and its batch normalisation."""
    kind = layers.Conv2D if len(maps.shape) == 4 else layers.Conv3D
    name = f"{block.name}{part}"
    convolution = kind(width, size, padding="same", use_bias=False, kernel_initializer=initializer, name=name)
    normalisation = layers.BatchNormalization(momentum=0.9, epsilon=block.epsilon, name=f"{name}_bn")
    return normalisation(convolution(maps))


def _halve_window() -> keras.layers.Layer:
    """Half the height and the width; one frame less."""
    # float32 whatever the policy: TensorFlow has no 3-D pooling of float16 on CPUs.
    return layers.MaxPooling3D(pool_size=2, strides=(1, 2, 2), dtype="float32")


_KINDS = {
    "2d": _Kind(
        3, _whole, _linear, FEATURES_EPSILON, layers.MaxPooling2D, 0.25, layers.GlobalAveragePooling2D
    ),
    "3d": _Kind(4, _whole, _linear, FEATURES_EPSILON, _halve_window, 0, layers.GlobalAveragePooling3D),
    "2+1d": _Kind(
        4, _factored, _factored, ADAPTATION_EPSILON, _halve_window, 0, layers.GlobalAveragePooling3D
    ),
}
KINDS = tuple(_KINDS)
MID_CHANNELS = ("cout", "formula")


def _check(kind: str, features: int, classes: int, shape: tuple[int, ...], mid_channels: str) -> None:
    for name, value, known in (("kind", kind, KINDS), ("mid_channels", mid_channels, MID_CHANNELS)):
        if value not in known:
            raise ConfigError.of(name, "bad-value", f"{value!r} is not known", f"give {' or '.join(known)}")
    for name, number in (("features", features), ("classes", classes)):
        if number < 1:
            raise ConfigError.of(name, "bad-value", f"{number} are too few", "give 1 or more")
    for reason in _faults(kind, shape):
        rule = f"height ≥ {SMALLEST}, width ≥ {SMALLEST}, 1)"
        remedy = f"give ({rule}" if kind == "2d" else f"give (length ≥ {SHORTEST}, {rule}"
        raise ConfigError.of("shape", "bad-shape", f"{tuple(shape)}: {reason}", remedy)


def _faults(kind: str, shape: tuple[int, ...]) -> Iterator[str]:
    if len(shape) != _KINDS[kind].rank or shape[-1] != 1:
        yield f"not the shape of a sample of the {kind} network"
    elif min(shape[-3:-1]) < SMALLEST:
        yield "too few pixels for a network that halves them four times"
    elif kind != "2d" and shape[0] < SHORTEST:
        yield "too few frames for a network that takes off one, four times"
