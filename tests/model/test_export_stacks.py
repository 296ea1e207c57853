"""Exported runs on stacks whose pictures are cut and resized one by one, against the pipeline."""

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from served_runs import export, load, write_run

from model.export_stacks import is_one_by_one, read_stack_recipe, stack_graph
from model.loading import load_network
from pipeline.convert import quantise
from pipeline.pictures import stack_values
from pipeline.readers.reading import Picture
from pipeline.recipe import CtRecipe, FramesRecipe, Recipe, SlicesRecipe

SHAPE = (6, 32, 40)
FREE: dict[str, Any] = {"sample": "stack", "shape": SHAPE, "dtype": "float32"}
SIZES = ((9, 40, 50), (6, 37, 33), (4, 64, 90), (1, 33, 21), (25, 30, 40))
RECIPES: dict[str, Recipe] = {
    "box": SlicesRecipe(**FREE, crop="box", resize="antialias"),
    "slices": SlicesRecipe(**FREE),
    "middle": CtRecipe(**FREE, crop=(25, 31), window=(20, 180)),
    "maximum": FramesRecipe(**FREE, normalise="max", spline_order=1),
    "subset": CtRecipe(**FREE, depth="subset", window=(-20, 180)),
    "even": FramesRecipe(**FREE, depth="even", frames="every 2"),
}


def document(recipe: Recipe) -> dict[str, Any]:
    return dict(json.loads(json.dumps(recipe.as_json())))


def noise(size: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(size)).integers(0, 256, size, np.uint8)


def boxes_of(size: tuple[int, int, int]) -> NDArray[np.int32]:
    """A box for each picture, each another one."""
    depth, height, width = size
    rng = np.random.default_rng(depth)
    low, high = rng.integers(0, 9, (depth, 2)), rng.integers(0, 9, (depth, 2))
    return np.concatenate([low, (width, height) - high], axis=1).astype(np.int32)


def expected(levels: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.float32]:
    """What the pipeline makes of these pictures."""
    step = 2 if getattr(recipe, "frames", "all") == "every 2" else 1
    limits = getattr(recipe, "window", None) or (0.0, 255.0)
    pictures = [
        Picture(str(place), place, levels[place], limits, box=tuple(boxes_of(levels.shape)[place].tolist()))
        for place in range(0, len(levels), step)
    ]
    return stack_values(pictures, recipe)


def inputs_of(levels: NDArray[np.uint8], recipe: Recipe) -> dict[str, NDArray[Any]]:
    boxes = {"boxes": boxes_of(levels.shape)} if recipe.crop == "box" else {}
    return {"volume": levels.astype(np.float32), **boxes}


@pytest.mark.parametrize("name", RECIPES)
def test_a_stack_becomes_what_the_pipeline_makes_of_it(name: str) -> None:
    recipe = RECIPES[name]
    assert is_one_by_one(document(recipe))
    read = read_stack_recipe(document(recipe))
    assert read is not None
    graph = stack_graph(read)
    values = tf.function(graph.values, input_signature=graph.signature, autograph=False)
    for size in SIZES:
        given = inputs_of(noise(size), recipe).values()
        found = values(*map(tf.constant, given)).numpy()
        np.testing.assert_allclose(found, expected(noise(size), recipe), rtol=0, atol=4e-6)
    assert values.experimental_get_tracing_count() == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["savedmodel", "onnx"])
def test_raw_stacks_get_the_probabilities_of_the_network(tmp_path: Any, form: str) -> None:
    recipe = RECIPES["box"]
    run = write_run(tmp_path / "run", document(recipe), model="viptt-net-small", gain=100)
    serve, (_, net), answers = load(export(run, form)), load_network(run), []
    for size, dimmed in zip(SIZES[:2], (1, 4), strict=True):
        levels = noise(size) // dimmed
        stored = quantise(expected(levels, recipe), recipe)
        answers.append(net.predict(stored[np.newaxis, ..., np.newaxis], verbose=0)[0])
        found = serve(**inputs_of(levels, recipe))
        np.testing.assert_allclose(found, answers[-1], rtol=0, atol=1e-3)
    assert np.ptp(answers, axis=0).max() > 0.01, "the network says the same of everything"
    given = inputs_of(noise(SIZES[0]), recipe)
    outside = given["boxes"].copy()
    outside[3, 2] = 51
    for wrong in (given["boxes"][:-1], outside):
        if form == "onnx":
            assert np.isnan(serve(**{**given, "boxes": wrong})).all()
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="each picture needs a box"):
                serve(**{**given, "boxes": wrong})
