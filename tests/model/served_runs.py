"""Runs that were never trained, what `viptt export` makes of them, and how that is called."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from cli import main
from model.architectures import architecture
from model.run_folder import Config, Data, create_run
from model.settings import Settings
from model.weights import save_weights

CLASSES = ("Normal", "Pneumonia", "COVID-19")
# A network of the user's own, for pictures; `viptt export` finds it where its folder is on the path.
MODULE = """
import keras

def net(shape, classes):
    picture = keras.Input(shape)
    maps = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(picture)
    scores = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(maps))
    return keras.Model(picture, scores)
"""


def write_run(folder: Path, recipe: Mapping[str, Any], *, gain: float = 1, **settings: Any) -> Path:
    """A run with random weights, undecided about gray; with a ``gain`` it is more decided about all else."""
    chosen, stored = Settings(**settings), tuple(recipe["shape"])
    data = Data("ct", "a.zarr", "sha256:0", "a.json", "sha256:1", CLASSES, (*stored, 1), recipe)
    create_run(folder, Config(chosen, data))
    tf.keras.utils.set_random_seed(1)
    shape = stored[1:] if recipe.get("sample") == "picture" else stored
    net = architecture(chosen.model).build((*shape, 1), len(CLASSES), weights="none")
    gray = net.predict(np.full((1, *shape, 1), 0.5, np.float32), verbose=0)[0]
    net.layers[-1].set_weights([gain * net.layers[-1].kernel, -gain * np.log(gray)])
    save_weights(net, folder / "model.weights.h5")
    return folder


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def export(run: Path, form: str, *, out: Path | None = None) -> Path:
    """The folder that `viptt export` filled, by default beside the run."""
    out = out or run.parent / form
    result = viptt("export", run, "--out", out, "--to", form)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    return out


def load(out: Path) -> Callable[..., NDArray[np.float32]]:
    """An exported model, whatever its form: raw inputs by name to probabilities."""
    if (out / "model.onnx").exists():
        session = onnxruntime.InferenceSession(out / "model.onnx")
        return lambda **inputs: np.asarray(session.run(["probabilities"], inputs)[0])
    loaded = tf.saved_model.load(out)  # its variables are gone when it is

    def serve(**inputs: NDArray[Any]) -> NDArray[np.float32]:
        given = {name: tf.constant(value) for name, value in inputs.items()}
        return np.asarray(loaded.signatures["serving_default"](**given)["probabilities"].numpy())

    return serve


def call(out: Path, **inputs: NDArray[Any]) -> NDArray[np.float32]:
    """The probabilities that an exported model gives for these inputs."""
    return load(out)(**inputs)
