"""Augmentation of single slices in the graph: flips, rotation, box jitter, shear, and gray levels.

Arrays in, arrays out: pictures are float ``(B, height, width, 1)`` in [0, 1]; what comes in from
outside is 0. x runs along a row, y along a column; positions are those of pixel centres. A mapping is
float ``(B, 3, 3)``: it takes homogeneous (x, y, 1) of a pixel to the place that it is filled from.
All that is drawn for a picture is composed into one mapping, and the picture is interpolated once.
Written in Keras alone, so that it runs on every backend of Keras.

The kinds of change are those of H. Gunraj et al., "COVIDNet-CT: a tailored deep convolutional neural
network design for detection of COVID-19 cases from chest CT images", Front. Med. 7, 2020. That code
rotates in three steps, each rounded down to whole gray levels, and sizes the box anew after each
change; here the pictures are cut to their box already, and keep their frame.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from pipeline.errors import ConfigError


@dataclass(frozen=True)
class SliceAugmentation:
    """What is drawn anew for each picture; the ranges are even, and 0 switches a change off.

    ``probability`` is that of each change by itself. ``flip_left_right`` and ``flip_up_down`` are
    probabilities of their own. ``rotation`` in degrees, ± about the centre; ``jitter``, how far each
    side of the box moves, as a share of the frame; ``shear``, ± columns per row or rows per column;
    ``shift`` in gray levels (of 255) and ``scale`` as a share: the values v become
    (1 ± scale) · (v ± shift).
    """

    flip_left_right: float = 0.5
    flip_up_down: float = 0.0
    rotation: float = 0.0
    jitter: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    probability: float = 0.5

    def __post_init__(self) -> None:
        highest = {"rotation": 180.0, "jitter": 0.45, "shear": 1.0, "shift": 255.0}
        for name, value in vars(self).items():
            if not 0 <= value <= highest.get(name, 1.0):
                remedy = f"give 0 to {highest.get(name, 1.0):g}"
                raise ConfigError.of(f"augmentation.{name}", "bad-value", f"it is {value}", remedy)


PRESETS = {
    # AbdullahMakhdoom/COVIDNet-CT-Identification, covid_training.ipynb: every picture is turned.
    "covidnet-ct-id-2022": SliceAugmentation(0.5, 0.5, rotation=30.0, probability=1.0),
    # haydengunraj/COVIDNet-CT, the defaults of its command line.
    "covidnet-ct": SliceAugmentation(rotation=15.0, jitter=0.075, shear=0.2, shift=15.0, scale=0.15),
}


# --- mappings -----------------------------------------------------------------------------------


def rotation(degrees: Any, height: int, width: int) -> Any:
    """Turn the content counter-clockwise by ``degrees`` (B,) about the centre of the frame."""
    turn = degrees * (np.pi / 180)
    cosine, sine = ops.cos(turn), ops.sin(turn)
    x, y = (width - 1) / 2, (height - 1) / 2
    return _mapping([[cosine, -sine, x - cosine * x + sine * y], [sine, cosine, y - sine * x - cosine * y]])


def shear(columns: Any, rows: Any, *, x: float = 0.0, y: float = 0.0) -> Any:
    """Lean the content: a row moves left by ``columns`` for each row below y, both (B,).

    A column moves up by ``rows`` for each column to the right of x; one of the two should be 0.
    """
    return _mapping([[1.0, columns, -columns * y], [rows, 1.0, -rows * x]])


def crop(left: Any, top: Any, right: Any, bottom: Any, height: int, width: int) -> Any:
    """Fill the frame with a box, half-open edges in pixels (B,)."""
    across, down = (right - left) / width, (bottom - top) / height
    return _mapping([[across, 0.0, left + (across - 1) / 2], [0.0, down, top + (down - 1) / 2]])


def flip(left_right: Any, up_down: Any, height: int, width: int) -> Any:
    """Mirror the pictures for which these are 1.0, not 0.0, (B,)."""
    return _mapping(
        [
            [1 - 2 * left_right, 0.0, left_right * (width - 1)],
            [0.0, 1 - 2 * up_down, up_down * (height - 1)],
        ]
    )


def _mapping(rows: list[list[Any]]) -> Any:
    """Numbers and tensors (B,) as matrices (B, 3, 3) with the last row 0, 0, 1."""
    like = next(item for row in rows for item in row if not isinstance(item, float))
    zero = ops.zeros_like(like)
    whole = [*rows, [0.0, 0.0, 1.0]]
    return ops.stack([ops.stack([zero + item for item in row], axis=-1) for row in whole], axis=1)


def moved(pictures: Any, mapping: Any) -> Any:
    """Fill every pixel of ``pictures`` from the place that ``mapping`` names, by bilinear interpolation."""
    eight = ops.reshape(mapping, (-1, 9))[:, :8]
    return ops.image.affine_transform(
        pictures, eight, interpolation="bilinear", fill_mode="constant", fill_value=0.0
    )


def brightened(pictures: Any, shift: Any, scale: Any, *, top: float = 1.0) -> Any:
    """``scale`` · (v + ``shift``), both (B,), cut off below 0 and above ``top``."""
    shift, scale = (ops.reshape(item, (-1, 1, 1, 1)) for item in (shift, scale))
    return ops.clip(scale * (pictures + shift), 0.0, top)


# --- the layer ----------------------------------------------------------------------------------


class RandomSlices(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """In training, change each picture as drawn for it; elsewhere, leave it as it is."""

    def __init__(self, settings: SliceAugmentation, *, seed: int) -> None:
        super().__init__(name="slice_augmentation")
        self.settings = settings
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, pictures: Any, training: bool = False) -> Any:
        """``pictures`` float (B, h, w, 1) in [0, 1]; the same shape and dtype come out."""
        if not training:
            return pictures
        count, chosen = ops.shape(pictures)[0], self.settings
        # Interpolated in float32 whatever the policy: float16 has too few digits for positions.
        found = moved(ops.cast(pictures, "float32"), self._drawn_mapping(pictures))
        shift = self._within(count, chosen.shift / 255)
        scale, changed = self._within(count, chosen.scale), self._chance(count, chosen.probability)
        found = brightened(found, shift * changed, 1 + scale * changed)
        return ops.cast(found, pictures.dtype)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """As it came in."""
        return shape

    def _drawn_mapping(self, pictures: Any) -> Any:
        """Rotation, then shear, then the box, then flips: read from the last to the first."""
        count, (height, width), chosen = ops.shape(pictures)[0], pictures.shape[1:3], self.settings
        turned = rotation(self._drawn(count, chosen.rotation), height, width)
        sheared, along = self._drawn(count, chosen.shear), self._chance(count, 0.5)
        leaning = shear(sheared * along, sheared * (1 - along), x=(width - 1) / 2, y=(height - 1) / 2)
        moving = self._chance(count, chosen.probability)
        left, top, right, bottom = (moving * self._within(count, chosen.jitter) for _ in range(4))
        box = crop(left * width, top * height, (1 + right) * width, (1 + bottom) * height, height, width)
        mirrored = flip(
            self._chance(count, chosen.flip_left_right),
            self._chance(count, chosen.flip_up_down),
            height,
            width,
        )
        return turned @ leaning @ box @ mirrored

    def _drawn(self, count: Any, reach: float) -> Any:
        """With the probability of a change, a number within ± reach; else 0; (B,)."""
        return self._within(count, reach) * self._chance(count, self.settings.probability)

    def _within(self, count: Any, reach: float) -> Any:
        return (
            keras.random.uniform((count,), -reach, reach, seed=self.seeds) if reach else ops.zeros((count,))
        )

    def _chance(self, count: Any, probability: float) -> Any:
        """1.0 with this probability, else 0.0, (B,)."""
        return ops.cast(keras.random.uniform((count,), seed=self.seeds) < probability, "float32")
