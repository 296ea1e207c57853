"""The graph of an export that takes stacks whose pictures are cut and resized one by one.

    volume    float32 (depth, height, width) of any size; values as ``export_pictures`` has them
    boxes     int32 (depth, 4), only with ``crop: box`` and ``crop: body``: the box of each picture

Pictures of one volume have one size. As in ``pipeline.pictures``, each is brought to height and width by
itself as the run's recipe says; then the stack comes to its depth, by SIZ or by a choice of slices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from model.export_pictures import PictureRecipe, is_faulty, picture_values, read_picture_recipe, within
from model.served import VOLUME, Graph, as_stored, faults_of
from model.siz import axis_matrix

BOXES = tf.TensorSpec([None, 4], tf.int32, name="boxes")
ONE_BY_ONE = {"crop", "resize", "normalise", "depth"}  # keys that no recipe of whole volumes has


@dataclass(frozen=True)
class StackRecipe:
    """What becomes of each picture, and how ``depth`` of them are made: "siz", "subset" or "even".

    Of the frames of a clip, one in ``step`` is used.
    """

    pictures: PictureRecipe
    depth: int
    choice: str
    step: int


def is_one_by_one(recipe: Mapping[str, Any]) -> bool:
    """Whether the recipe of a store of whole stacks has something done to each picture by itself."""
    return recipe["type"] == "slices" or bool(ONE_BY_ONE & {key for key, value in recipe.items() if value})


def read_stack_recipe(recipe: Mapping[str, Any]) -> StackRecipe | None:
    """The recipe of a store of such stacks; None if the graph cannot follow it."""
    pictures = read_picture_recipe({key: value for key, value in recipe.items() if key != "depth"})
    frames = recipe.get("frames") or "all"
    if pictures is None or frames == "first":
        return None
    step = 1 if frames == "all" else int(frames.removeprefix("every "))
    return StackRecipe(pictures, recipe["shape"][0], recipe.get("depth", "siz"), step)


def stack_graph(recipe: StackRecipe) -> Graph:
    """From a raw volume, and the boxes of its pictures where the recipe has them, to the network's input."""
    if not recipe.pictures.boxed:
        return Graph((VOLUME,), lambda volume: _stored(volume, None, recipe), _faults)

    def faults(volume: tf.Tensor, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        missing = tf.shape(boxes)[0] != tf.shape(volume)[0]
        faulty = missing | tf.reduce_any(is_faulty(volume, boxes))
        return {**_faults(volume), "each picture needs a box, not empty, that lies in it": faulty}

    return Graph((VOLUME, BOXES), lambda volume, boxes: _stored(volume, boxes, recipe), faults)


def _faults(volume: tf.Tensor) -> dict[str, tf.Tensor]:
    return faults_of(volume, whole="volume", point="voxel")


def _stored(volume: tf.Tensor, boxes: tf.Tensor | None, recipe: StackRecipe) -> tf.Tensor:
    """A raw volume at the recipe's shape, values as a store of the recipe holds them."""
    taken = _chosen(tf.shape(volume)[0], recipe)
    pictures = tf.gather(volume, taken)
    plane = tf.TensorSpec(recipe.pictures.shape, tf.float32)
    if boxes is None:
        planes = tf.map_fn(
            lambda each: picture_values(each, recipe.pictures), pictures, fn_output_signature=plane
        )
    else:
        given = pictures, tf.gather(_one_each(boxes, volume), taken)
        planes = tf.map_fn(
            lambda each: picture_values(within(*each), recipe.pictures), given, fn_output_signature=plane
        )
    if recipe.choice == "siz":
        matrix = axis_matrix(tf.shape(planes)[0], recipe.depth, recipe.pictures.order)
        planes = tf.clip_by_value(tf.einsum("ai,ijk->ajk", matrix, planes), 0.0, 1.0)
    return as_stored(planes, recipe.pictures.dtype)


def _one_each(boxes: tf.Tensor, volume: tf.Tensor) -> tf.Tensor:
    """As many boxes as there are pictures: ONNX goes on where some are missing, and answers with NaN."""
    depth = tf.shape(volume)[0]
    return tf.concat([boxes, tf.zeros([depth, 4], tf.int32)], axis=0)[:depth]


# --- which pictures of a stack ------------------------------------------------------------------


def _chosen(count: tf.Tensor, recipe: StackRecipe) -> tf.Tensor:
    """Numbers of the pictures that are used, int32, of a stack of ``count``."""
    frames = tf.range(count)[:: recipe.step]
    chosen = CHOICES[recipe.choice](tf.shape(frames)[0], recipe.depth)
    return frames if chosen is None else tf.gather(frames, chosen)


def _subset(count: tf.Tensor, depth: int) -> tf.Tensor:
    """The first, middle and last slices, as ``pipeline.depth.subset``."""
    quarter = depth // 4
    middle = depth - 2 * quarter
    first, last = tf.range(quarter), tf.range(quarter) + count - quarter
    inner = tf.range(middle) + count // 2 - middle // 2
    every = tf.minimum(tf.range(depth), count - 1)
    return tf.where(count <= depth, every, tf.concat([first, inner, last], axis=0))


def _even(count: tf.Tensor, depth: int) -> tf.Tensor:
    """Every n-th slice, as ``pipeline.depth.even``."""
    step = tf.maximum(1, count // depth)
    return tf.minimum(tf.range(depth) * step, (count - 1) // step * step)


CHOICES: Mapping[str, Callable[[tf.Tensor, int], tf.Tensor | None]] = {
    "siz": lambda count, depth: None,
    "subset": _subset,
    "even": _even,
}
