"""From what a source stores to values in [0, 1] at the recipe's shape. Arrays in, arrays out.

Volumes are (depth, height, width). CT: clip to the window, SIZ, scale the window to [0, 1], clip the
spline's overshoot. Video: SIZ, divide luma by 255, clip.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.recipe import CtRecipe, Recipe, VideoRecipe
from pipeline.siz import Float32, zoom

MAX_NONFINITE = 0.01
MAX_HOUNSFIELD = 1e6  # 30 times what 16 bits hold, so that every usual padding passes: beyond is damage


def scale_ct(hounsfield: NDArray[Any], recipe: CtRecipe) -> Float32:
    """Hounsfield units (any shape of three axes) to [0, 1] at the recipe's shape."""
    return scale_window(hounsfield, recipe, recipe.window)


def scale_window(values: NDArray[Any], recipe: Recipe, window: tuple[float, float]) -> Float32:
    """Values of any unit (depth, height, width) to [0, 1], the ``window``, at the recipe's shape."""
    low, high = window
    zoomed = zoom(values, recipe.shape, order=recipe.spline_order, clip=window)
    zoomed -= np.float32(low)
    zoomed *= np.float32(1 / (high - low))
    return np.clip(zoomed, 0, 1, out=zoomed)


def scale_video(frames: NDArray[Any], recipe: VideoRecipe) -> Float32:
    """Luma frames 0 to 255 (frames, rows, columns) to [0, 1] at the recipe's shape."""
    zoomed = zoom(frames, recipe.shape, order=recipe.spline_order)
    zoomed *= np.float32(1 / 255)
    return np.clip(zoomed, 0, 1, out=zoomed)


def finite(path: Path, values: NDArray[Any], count: int, air: float) -> NDArray[Any]:
    """The array with its ``count`` non-finite values replaced by air, the window's lower bound.

    Raises SourceError with code non-finite if they are more than a few.
    """
    if count > MAX_NONFINITE * values.size:
        reason = f"{count} of {values.size} voxels are not finite"
        raise SourceError.of(path, "non-finite", reason, "export it again from its original")
    if count == 0:
        return values
    replaced: NDArray[Any] = np.nan_to_num(values, nan=air, posinf=air, neginf=air)
    return replaced


def in_range(path: Path, hounsfield: NDArray[Any]) -> NDArray[Any]:
    """The finite array itself. Raises SourceError with code out-of-range for what no scanner says."""
    if hounsfield.dtype.itemsize <= 2:
        return hounsfield
    most = max(abs(float(hounsfield.min())), abs(float(hounsfield.max())))
    if most > MAX_HOUNSFIELD:
        reason = f"a voxel of {most:.3g} HU in size, over {MAX_HOUNSFIELD:g}"
        raise SourceError.of(path, "out-of-range", reason, "export it again; check its scaling and datatype")
    return hounsfield
