"""Pictures of a stack, as stored, to values in [0, 1] at the recipe's height and width.

A picture is cut, resized, scaled and, if the recipe says so, divided by its maximum, each by itself; what
lies outside the body may be excluded before. Results are float32 (height, width). A stack of them comes
to its depth by SIZ, which is separable, or by a choice of slices. Arrays in, arrays out.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import preset_covidnet_ct_id, preset_sononet
from pipeline.antialias import resize_antialias_float
from pipeline.crop import body_box, box_crop, centre_crop, exclude_exterior
from pipeline.depth import even, subset
from pipeline.errors import SourceError
from pipeline.gray import divide_by_maximum, truncated_gray
from pipeline.readers.picture_file import LEVELS
from pipeline.readers.reading import Picture
from pipeline.recipe import COVIDNET, SONONET, Recipe
from pipeline.select import select_frames, select_original
from pipeline.siz import Float32, zoom

CHOICES = {"subset": subset, "even": even}


def picture_values(picture: Picture, recipe: Recipe) -> Float32:
    """One picture as the recipe wants it. Raises SourceError with code bad-box for a box outside of it."""
    if recipe.preset in PRESETS:
        return PRESETS[recipe.preset](picture.values)
    low, high = picture.limits
    shown = _without_exterior(picture) if recipe.exterior == "exclude" else picture
    resized = _resized(_cut(shown, recipe), picture.limits, recipe)
    resized -= np.float32(low)
    resized *= np.float32(1 / (high - low))
    np.clip(resized, 0, 1, out=resized)
    return divide_by_maximum(resized) if recipe.normalise == "max" else resized


def stack_values(pictures: Iterable[Picture], recipe: Recipe) -> Float32:
    """A whole stack, each picture cut and resized by itself, at the recipe's shape.

    Raises SourceError for the first picture that cannot be read.
    """
    planes = []
    for picture in pictures:
        if picture.problem is not None:
            raise SourceError(picture.problem)
        planes.append(picture_values(picture, recipe))
    values = np.stack(planes)
    if recipe.depth in CHOICES:
        chosen: Float32 = values[CHOICES[recipe.depth](len(values), recipe.shape[0])]
        return chosen
    zoomed = zoom(values, recipe.shape, order=recipe.spline_order)
    return np.clip(zoomed, 0, 1, out=zoomed)


def selected(pictures: Iterable[NDArray[Any]], recipe: Recipe) -> NDArray[np.bool_]:
    """Which pictures of a stack differ enough from their neighbours, uint8 (height, width[, 3]) each.

    Raises ValueError as ``select.select_frames``.
    """
    if recipe.preset == SONONET:
        return select_original(np.stack([truncated_gray(_coloured(values)) for values in pictures]))
    return select_frames(np.stack(list(pictures)))


def _cut(picture: Picture, recipe: Recipe) -> NDArray[Any]:
    if recipe.crop == "none":
        return picture.values
    if recipe.crop == "body":
        return _body(picture)
    if recipe.crop == "box":
        return _boxed(picture)
    return centre_crop(picture.values, recipe.crop)


def _levels(picture: Picture) -> NDArray[np.uint8]:
    """Its values as gray levels, in which the body is found."""
    low, high = picture.limits
    levels: NDArray[np.uint8] = np.clip((picture.values - low) * (255 / (high - low)), 0, 255).astype(
        np.uint8
    )
    return levels


def _without_exterior(picture: Picture) -> Picture:
    """The picture with table and clothes as gray as the air; as it is where there is no body in it.

    COVIDNet-CT does so with every second picture in training, and with none in testing. What is
    stored must be the same for both, so here it is done with all of them.
    """
    low, high = picture.limits
    levels = _levels(picture)
    try:
        clean = exclude_exterior(levels)
    except ValueError:
        return picture
    # Inside the body, values keep all their digits, which levels do not have.
    values = np.where(clean == levels, picture.values, low + clean * ((high - low) / 255))
    return replace(picture, values=values.astype(picture.values.dtype))


def _body(picture: Picture) -> NDArray[Any]:
    """The body's box; the whole picture where there is no body in it, as above the head."""
    try:
        return box_crop(picture.values, body_box(_levels(picture)))
    except ValueError:
        return picture.values


def _boxed(picture: Picture) -> NDArray[Any]:
    """The box that the list says. A slice in no list gets the body's, as COVIDNet-CT does with new ones."""
    if picture.box is None:
        return _body(picture)
    try:
        return box_crop(picture.values, picture.box)
    except ValueError as error:
        raise SourceError.of(picture.file, "bad-box", str(error), "correct its line in the list") from None


def _resized(values: NDArray[Any], limits: tuple[float, float], recipe: Recipe) -> Float32:
    _, height, width = recipe.shape
    if recipe.resize == "siz":
        resized = zoom(values[None], (1, height, width), order=recipe.spline_order, clip=limits)
    else:
        # In float32 without rounding to gray levels in between: nearer to the truth, and twice as fast.
        whole = values.dtype == np.uint8 and limits == LEVELS
        within = values if whole else np.clip(values, *limits)
        resized = resize_antialias_float(within[None], (height, width))
    return np.asarray(resized[0])


def _coloured(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Red, green and blue (height, width, 3), three times the same of a gray picture."""
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1)


PRESETS: dict[str | None, Callable[[NDArray[Any]], Float32]] = {
    SONONET: lambda values: preset_sononet.read_picture(_coloured(values)),
    COVIDNET: preset_covidnet_ct_id.read_slice,
}
