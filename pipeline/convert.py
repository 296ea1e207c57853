"""One source to one volume: the recipe, read from top to bottom.

Volumes are (depth, height, width) in the recipe's dtype with values in [0, 1] (uint8: 0 to 255).
CT: clip to the window, SIZ, scale the window to [0, 1], clip the spline's overshoot.
Video: choose frames, SIZ, divide luma by 255, clip. The frames of a clip that is too large to be held are
zoomed in height and width while they are decoded, and in depth at the end; SIZ is linear and separable, so
the result differs by rounding only.

The recipe preset ``viptt-2021`` does what the code of 2021 did. CT: clip to the window, scale to
[0, 1], turn the slices as stored by 90 degrees, zoom linearly, clip. Video: the first frames, each
resized by OpenCV before it becomes luma.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog import CtRecipe, Recipe, VideoRecipe
from pipeline.errors import SourceError
from pipeline.readers import nifti, video
from pipeline.readers.reading import Facts, Reading
from pipeline.siz import Float32, zoom

MAX_NONFINITE = 0.01
MAX_HOUNSFIELD = 1e6  # 30 times what 16 bits hold, so that every usual padding passes: beyond is damage
EQUAL = 1e-5  # what the spline's rounding may add to a constant


@dataclass(frozen=True)
class Conversion:
    """A volume and the facts of its source."""

    volume: NDArray[Any]
    facts: Facts


def convert(path: Path, recipe: CtRecipe | VideoRecipe) -> Conversion:
    """Read a source and make its volume. Raises SourceError if the source cannot be used."""
    as_in_2021 = recipe.preset is not None
    if isinstance(recipe, CtRecipe):
        reading = nifti.read(path, canonical=not as_in_2021)
        scale = scale_ct_2021 if as_in_2021 else scale_ct
        values = scale(_in_range(path, _finite(path, reading, recipe.window[0])), recipe)
        reading.facts["warnings"] += _unlike_2021(reading) if as_in_2021 else []
    else:
        reading = read_clip(path, recipe)
        values = scale_video(reading.array, recipe)
    if np.ptp(values) < EQUAL:
        reading.facts["warnings"].append("all values are equal")
    return Conversion(quantise(values, recipe), reading.facts)


def read_clip(path: Path, recipe: VideoRecipe) -> Reading:
    """The frames that a recipe asks for, luma 0 to 255; of a long clip, at the recipe's height and width.

    Raises SourceError as the reader does, and with code too-short for fewer than the first frames.
    """

    def zoom_within_frames(frames: NDArray[np.uint8]) -> Float32:
        return zoom(frames, (len(frames), *recipe.shape[1:]), order=recipe.spline_order)

    size = None if recipe.preset is None else recipe.shape[1:]
    reading = video.read(path, keep=kept_frames(recipe), size=size, shrink=zoom_within_frames)
    if recipe.frames == "first" and len(reading.array) < recipe.shape[0]:
        reason = f"{len(reading.array)} frames; the recipe takes the first {recipe.shape[0]}"
        remedy = "leave the clip out" if recipe.preset else "use `frames: all`, or leave the clip out"
        raise SourceError.of(path, "too-short", reason, remedy)
    return reading


def kept_frames(recipe: VideoRecipe) -> range:
    """Numbers of the frames that go into the volume, of a clip without end."""
    if recipe.frames == "first":
        return range(recipe.shape[0])
    return range(0, sys.maxsize, int(recipe.frames.removeprefix("every ")) if recipe.frames != "all" else 1)


def scale_ct(hounsfield: NDArray[Any], recipe: CtRecipe) -> Float32:
    """Hounsfield units (any shape of three axes) to [0, 1] at the recipe's shape."""
    low, high = recipe.window
    zoomed = zoom(hounsfield, recipe.shape, order=recipe.spline_order, clip=recipe.window)
    zoomed -= np.float32(low)
    zoomed *= np.float32(1 / (high - low))
    return np.clip(zoomed, 0, 1, out=zoomed)


def scale_ct_2021(stored: NDArray[Any], recipe: CtRecipe) -> Float32:
    """What the code of 2021 made of Hounsfield units in the file's own axes, (k, j, i).

    It turned the slices (i, j) by 90 degrees, counter-clockwise, and then put k first; this is (k, j, i)
    upside down.
    """
    low, high = recipe.window
    scaled: Float32 = np.empty_like(stored, np.float32)
    np.clip(stored, low, high, out=scaled, casting="unsafe")
    scaled -= np.float32(low)
    scaled /= np.float32(high - low)
    zoomed = zoom(scaled[:, ::-1], recipe.shape, order=recipe.spline_order, mode="constant")
    return np.clip(zoomed, 0, 1, out=zoomed)


def scale_video(frames: NDArray[Any], recipe: VideoRecipe) -> Float32:
    """Luma frames 0 to 255 (frames, rows, columns) to [0, 1] at the recipe's shape."""
    zoomed = zoom(frames, recipe.shape, order=recipe.spline_order)
    zoomed *= np.float32(1 / 255)
    return np.clip(zoomed, 0, 1, out=zoomed)


def quantise(values: Float32, recipe: Recipe) -> NDArray[Any]:
    """Values in [0, 1] in the recipe's dtype; uint8 holds value x 255, rounded."""
    if recipe.dtype == "uint8":
        values = np.rint(values * np.float32(255))
    quantised: NDArray[Any] = values.astype(recipe.dtype)
    return quantised


def _unlike_2021(reading: Reading) -> list[str]:
    """Where the code of 2021 did what nobody can want: it turned slices within their old frame."""
    _, columns, rows = reading.array.shape
    if rows == columns:
        return []
    return [f"slices of {rows} x {columns}: turned whole, where the code of 2021 cut and padded them"]


def _finite(path: Path, reading: Reading, air: float) -> NDArray[Any]:
    """The array with its few non-finite values replaced by air, the window's lower bound.

    Raises SourceError with code non-finite if they are more than a few.
    """
    count = reading.facts["nonfinite"]
    if count > MAX_NONFINITE * reading.array.size:
        reason = f"{count} of {reading.array.size} voxels are not finite"
        raise SourceError.of(path, "non-finite", reason, "export it again from its original")
    if count == 0:
        return reading.array
    finite: NDArray[Any] = np.nan_to_num(reading.array, nan=air, posinf=air, neginf=air)
    return finite


def _in_range(path: Path, hounsfield: NDArray[Any]) -> NDArray[Any]:
    """The finite array itself. Raises SourceError with code out-of-range for what no scanner says."""
    if hounsfield.dtype.itemsize <= 2:
        return hounsfield
    most = max(abs(float(hounsfield.min())), abs(float(hounsfield.max())))
    if most > MAX_HOUNSFIELD:
        reason = f"a voxel of {most:.3g} HU in size, over {MAX_HOUNSFIELD:g}"
        raise SourceError.of(path, "out-of-range", reason, "export it again; check its scaling and datatype")
    return hounsfield
