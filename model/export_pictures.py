"""The graph of an export that takes single pictures: cut, resize, scale and round by the run's recipe.

    picture   float32 (height, width) of any size, gray, values as they are stored in the file
    box       int32 (4,), only with ``crop: box`` and ``crop: body``

Values are gray levels 0 to 255 (or 16-bit levels, where the recipe has a window for them), luma of a
frame, or Hounsfield units of a slice of a scan. A client makes colours gray before.

The graph does not look for the body, and has no list of boxes. With these crops the client gives the
box: xmin, ymin, xmax, ymax, half-open; 0, 0, width, height is the whole picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from model.antialias import resize_antialias, resize_levels
from model.served import LUMA, Graph, as_stored, faults_of, without_holes
from model.siz import axis_matrix

PICTURE = tf.TensorSpec([None, None], tf.float32, name="picture")
BOX = tf.TensorSpec([4], tf.int32, name="box")
COVIDNET, SONONET = "covidnet-ct-id-2022", "sononet-2025"
# Keys of a recipe of pictures that the graph follows, or that do not concern a single picture.
FOLLOWED = {
    "type",
    "sample",
    "preset",
    "shape",
    "spline_order",
    "dtype",
    "crop",
    "resize",
    "normalise",
    "window",
    "frames",
    "select",
}


@dataclass(frozen=True)
class PictureRecipe:
    """A recipe of pictures, as the graph follows it; ``limits`` become 0 and 1.

    ``crop`` is (height, width) of the middle, None for none; ``boxed`` says that the client gives a box.
    """

    shape: tuple[int, int]
    order: int
    limits: tuple[float, float]
    dtype: str
    crop: tuple[int, int] | None
    boxed: bool
    antialias: bool
    by_maximum: bool
    preset: str | None


def read_picture_recipe(recipe: Mapping[str, Any]) -> PictureRecipe | None:
    """The recipe of a store of pictures; None if the graph cannot follow it."""
    given = {key for key, value in recipe.items() if value is not None}
    preset = recipe.get("preset")
    if not given <= FOLLOWED or preset not in (None, COVIDNET, SONONET):
        return None
    crop = recipe.get("crop", "none")
    low, high = recipe.get("window") or LUMA
    _, height, width = recipe["shape"]
    return PictureRecipe(
        shape=(height, width),
        order=recipe["spline_order"],
        limits=(low, high),
        dtype=recipe["dtype"],
        crop=None if isinstance(crop, str) else (crop[0], crop[1]),
        boxed=crop in ("box", "body"),
        antialias=recipe.get("resize") == "antialias",
        by_maximum=recipe.get("normalise") == "max",
        preset=preset,
    )


def picture_graph(recipe: PictureRecipe) -> Graph:
    """From one raw picture, and its box where the recipe has one, to the network's input."""
    if not recipe.boxed:
        return Graph((PICTURE,), lambda picture: preprocess(picture, recipe), _faults)

    def faults(picture: tf.Tensor, box: tf.Tensor) -> dict[str, tf.Tensor]:
        text = "the box is empty or reaches out of the picture"
        return {**_faults(picture), text: is_faulty(picture, box)}

    return Graph((PICTURE, BOX), lambda picture, box: preprocess(within(picture, box), recipe), faults)


def preprocess(picture: tf.Tensor, recipe: PictureRecipe) -> tf.Tensor:
    """One raw picture, or what its box holds, to values as a store of the recipe holds them."""
    return as_stored(picture_values(picture, recipe), recipe.dtype)


def within(picture: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """What the box holds of a picture; a faulty box holds the whole picture."""
    # ONNX computes also what it answers with NaN: a faulty box must leave some pixels.
    usable = tf.where(is_faulty(picture, box), _whole(picture), box)
    xmin, ymin, xmax, ymax = tf.unstack(usable)
    return picture[ymin:ymax, xmin:xmax]


def picture_values(picture: tf.Tensor, recipe: PictureRecipe) -> tf.Tensor:
    """One raw picture, or what its box holds, to float32 in [0, 1] of the recipe's height and width.

    As ``pipeline.pictures`` does: cut, resize, scale, divide by the maximum.
    """
    low, high = recipe.limits
    cut = without_holes(picture, low)
    if recipe.crop:
        cut = centre_crop(cut, recipe.crop)
    if recipe.preset:
        values = _by_preset(cut, recipe)
    else:
        values = tf.clip_by_value((_resized(cut, recipe) - low) / (high - low), 0.0, 1.0)
    if recipe.by_maximum:
        values = tf.math.divide_no_nan(values, tf.reduce_max(values))
    return values


def centre_crop(picture: tf.Tensor, shape: tuple[int, int]) -> tf.Tensor:
    """Cut or fill up with 0 to ``shape`` around the middle, as ``pipeline.crop.centre_crop``."""
    size = tf.shape(picture)
    missing = tf.maximum(0, shape - size)
    picture = tf.pad(picture, tf.stack([missing // 2, (missing + 1) // 2], axis=1))
    excess = tf.cast(size + missing - shape, tf.float32)
    # Halves are rounded to the even number, as by Python.
    top, left = tf.unstack(tf.cast(tf.round(excess / 2), tf.int32))
    return picture[top : top + shape[0], left : left + shape[1]]


def _resized(picture: tf.Tensor, recipe: PictureRecipe) -> tf.Tensor:
    within = tf.clip_by_value(picture, *recipe.limits)
    if recipe.antialias:
        return resize_antialias(within, recipe.shape)
    size = tf.shape(within)
    rows, columns = (axis_matrix(size[axis], recipe.shape[axis], recipe.order) for axis in (0, 1))
    return tf.matmul(rows, tf.matmul(within, columns, transpose_b=True))


def _by_preset(picture: tf.Tensor, recipe: PictureRecipe) -> tf.Tensor:
    """Gray levels 0 to 255 as ``pipeline.preset_covidnet_ct_id`` and ``pipeline.preset_sononet``."""
    if recipe.preset == COVIDNET:
        return resize_levels(picture, recipe.shape) / 255
    levels = tf.round(resize_antialias(picture, recipe.shape))
    # The weights of its three colours sum up to 0.9999, and the fraction is cut off: one level less.
    return tf.maximum(0.0, levels - 1) / 255


def _faults(picture: tf.Tensor) -> dict[str, tf.Tensor]:
    return faults_of(picture, whole="picture", point="pixel")


def _whole(picture: tf.Tensor) -> tf.Tensor:
    height, width = tf.unstack(tf.shape(picture)[-2:])
    return tf.stack([0, 0, width, height])


def is_faulty(picture: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Whether a box is empty or reaches out of its picture; of (n, height, width) and (n, 4), for each."""
    xmin, ymin, xmax, ymax = tf.unstack(box, axis=-1)
    _, _, width, height = tf.unstack(_whole(picture))
    inside = (xmin >= 0) & (ymin >= 0) & (xmax <= width) & (ymax <= height)
    return tf.logical_not(inside & (xmin < xmax) & (ymin < ymax))
