"""The augmentation that the settings name: layers between the samples and the network, in training only.

Samples are float ``(B, height, width, 1)`` or ``(B, length, height, width, 1)``; shape and range stay.
What is drawn is drawn once for a sample, so that all pictures of a window or volume are treated alike.

    rotations     ``model.augment``: one of a list of angles; the strategy pt+cw+aug has it
    ultrasound    ``model.sononet_augment``
    slices        ``model.slice_augment``
    RandomFlip …  any other layer of ``keras.layers`` that prepares images and keeps their size

To a layer of Keras, a window is one picture whose channels are the pictures of the window.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from keras import layers, ops

from model.augment import RandomRotation
from model.settings import STRATEGIES, Settings
from model.slice_augment import RandomSlices, SliceAugmentation
from model.sononet_augment import SonoNetAugmentation
from pipeline.errors import ConfigError
from pipeline.nearest import suggestion

Shape = tuple[int, ...]
IMAGES = layers.RandomFlip.__mro__[1]  # what Keras' layers for images have in common; it is not exported
WHERE = "augmentation"


class OverPictures(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """In training, applies a layer for images (N, height, width, channels) to pictures or to windows.

    The pictures of a window are the channels of one image, so that the layer draws once for all.
    It computes in float32 whatever the policy: in float16, some layers of Keras fail.
    """

    def __init__(self, layer: layers.Layer, *, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.layer = layer

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Nothing to make but what the layer makes of images of this shape."""
        if not self.layer.built:
            self.layer.build(shape if len(shape) == 4 else (shape[0], *shape[2:4], shape[1]))

    def call(self, samples: Any, training: bool = False) -> Any:
        """``samples`` float (B, [length,] h, w, 1); the same shape comes out."""
        if not training:
            return samples
        if len(samples.shape) == 4:
            return self.layer(samples, training=True)
        images = ops.transpose(samples[..., 0], (0, 2, 3, 1))  # (B, h, w, length)
        return ops.transpose(self.layer(images, training=True), (0, 3, 1, 2))[..., None]

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As it came in."""
        return shape


def augmentation_layers(settings: Settings, shape: Shape) -> Iterator[layers.Layer]:
    """New layers for samples of ``shape``, without the batch, in the order in which they are applied.

    Raises ConfigError if there is no such layer, or it does not take its arguments or the samples.
    """
    height, width = shape[-3:-1]
    if STRATEGIES[settings.strategy].rotations:
        yield RandomRotation(height, width, angles=settings.angles, seed=settings.seed)
    for number, item in enumerate(settings.augmentation):
        ((name, arguments),) = item.items()
        # Each layer draws by a seed of its own: with one seed, all would draw the same numbers.
        make, seed = OWN.get(name, _of_keras), settings.seed + 1000 * (number + 1)
        try:
            layer = make(name, arguments, seed, shape)
        except (TypeError, ValueError) as error:
            reason = f"{name} cannot be made of {dict(arguments)}: {error}".replace("\n", " ")
            raise ConfigError.of(WHERE, "bad-value", reason, "correct its arguments") from error
        layer.name = f"augmentation_{number}"
        yield layer


def _rotations(name: str, arguments: Mapping[str, Any], seed: int, shape: Shape) -> layers.Layer:
    return RandomRotation(shape[-3], shape[-2], seed=seed, **arguments)


def _ultrasound(name: str, arguments: Mapping[str, Any], seed: int, shape: Shape) -> layers.Layer:
    return SonoNetAugmentation(seed=seed, **arguments)


def _slices(name: str, arguments: Mapping[str, Any], seed: int, shape: Shape) -> layers.Layer:
    return OverPictures(RandomSlices(SliceAugmentation(**arguments), seed=seed), name="slices")


OWN: Mapping[str, Callable[[str, Mapping[str, Any], int, Shape], layers.Layer]] = {
    "rotations": _rotations,
    "ultrasound": _ultrasound,
    "slices": _slices,
}


def _of_keras(name: str, arguments: Mapping[str, Any], seed: int, shape: Shape) -> layers.Layer:
    kind = getattr(layers, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, IMAGES)):
        found = [
            key for key, item in vars(layers).items() if inspect.isclass(item) and issubclass(item, IMAGES)
        ]
        reason = f"there is no {name!r}"
        raise ConfigError.of(WHERE, "unknown-name", reason, suggestion(name, [*OWN, *found]))
    seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    layer = kind(**{"dtype": "float32", **seeded, **arguments})
    _try(layer, name, shape)
    return OverPictures(layer, name=name)


def _try(layer: layers.Layer, name: str, shape: Shape) -> None:
    """Raise ConfigError unless a layer takes such samples, and gives them back in their size."""
    image = (1, *shape[-3:-1], 1 if len(shape) == 3 else shape[0])
    try:
        found = layer(ops.zeros(image), training=True).shape
    except (
        Exception
    ) as error:  # Keras and TensorFlow raise errors of many kinds; any of them would end the training later
        reason = f"{name} does not take samples of {shape}: {error}".splitlines()[0]
        raise ConfigError.of(WHERE, "bad-value", reason, "leave it out") from error
    if tuple(found) != image:
        reason = f"{name} makes {tuple(found)} of {image}"
        raise ConfigError.of(WHERE, "bad-value", reason, "use layers that keep the size of a picture")
