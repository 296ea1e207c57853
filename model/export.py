"""A run as one file or folder that does not need this project: SavedModel, or ONNX.

The graph takes one raw volume, float32 (depth, height, width) of any size: Hounsfield units with the
axes of a store (depth toward Superior, height toward Posterior, width toward Left), or luma frames,
0 to 255. It repeats what the pipeline does by the run's recipe (limit, SIZ, scale, round), then runs
the network.

    volume  →  probabilities, float32 (classes,);  classes, their names

A volume that the pipeline would quarantine (no voxels, over 1 % not finite, one far out of range,
too few frames) is an error in TensorFlow; ONNX cannot raise errors, there its probabilities are NaN.

The graph does not read files, turn axes, or decode videos: that is left to the client.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from model.loading import load_network
from model.run_folder import WEIGHTS, Config, read_config, versions, write_json
from model.sidecar import file_sha256
from model.siz import zoom
from pipeline.errors import ConfigError, ResourceError
from pipeline.store import sync_directory

ABOUT, ONNX_FILE = "viptt.json", "model.onnx"
ENDPOINT = "serving_default"
SIGNATURE = [tf.TensorSpec([None, None, None], tf.float32, name="volume")]
OPSET = 18
MAX_NONFINITE = 0.01
MAX_SIZE = 1e6
LUMA = (0.0, 255.0)
KEYS = {
    "nifti": {"type", "shape", "spline_order", "dtype", "window"},
    "video": {"type", "shape", "spline_order", "dtype", "frames"},
}
Serve = Callable[[tf.Tensor], dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Recipe:
    """A store's recipe, as the graph follows it: ``window`` becomes 0 to 1.

    ``first`` is the number of frames that a clip is cut to; None takes all.
    Of these, it uses one in ``step``.
    """

    shape: tuple[int, int, int]
    order: int
    window: tuple[float, float]
    dtype: str
    first: int | None
    step: int


def export_saved_model(run: Path, out: Path) -> None:
    """Write a run as a SavedModel folder, signature ``serving_default``; ``out`` is new or empty.

    Raises ConfigError if ``run`` is no run with weights, its recipe has no graph, or ``out`` is in
    use; IntegrityError if the run is damaged; ResourceError if ``out`` cannot be written.
    """
    config, serve = _prepare(run, out)
    archive = keras.export.ExportArchive()
    archive.add_endpoint(ENDPOINT, serve, SIGNATURE)
    with _new_folder(out) as folder:
        archive.write_out(folder, verbose=False)
        _write_about(folder, run, config)


def export_onnx(run: Path, out: Path) -> None:
    """Write a run as ``model.onnx`` into the folder ``out``, which is new or empty.

    Raises as ``export_saved_model`` does, and ConfigError if tf2onnx is not installed.
    """
    convert = _onnx_converter()
    config, serve = _prepare(run, out)
    function = tf.function(serve, input_signature=SIGNATURE, autograph=False)
    with _new_folder(out) as folder:
        convert(function, SIGNATURE, opset=OPSET, output_path=folder / ONNX_FILE)
        _write_about(folder, run, config)


def read_recipe(where: Path, recipe: Mapping[str, Any]) -> Recipe:
    """A store's recipe; raises ConfigError if the graph cannot follow it."""
    given = {key for key, value in recipe.items() if value is not None}
    kind = str(recipe.get("type"))
    if given != KEYS.get(kind):
        reason = f"the graph cannot follow its recipe: {json.dumps(dict(recipe))}"
        remedy = "train on a store of scans or videos whose recipe names no preset"
        raise ConfigError.of(where, "not-exportable", reason, remedy)
    depth, height, width = recipe["shape"]
    low, high = recipe.get("window", LUMA)
    frames = recipe.get("frames", "all")
    return Recipe(
        shape=(depth, height, width),
        order=recipe["spline_order"],
        window=(low, high),
        dtype=recipe["dtype"],
        first=depth if frames == "first" else None,
        step=int(frames.removeprefix("every ")) if frames.startswith("every ") else 1,
    )


# --- the graph ----------------------------------------------------------------------------------


def preprocess(volume: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    """One raw volume, float32 of any size, to float32 in [0, 1] of the recipe's shape.

    As ``pipeline.convert`` does: voxels that are not finite become air, then limit, SIZ, scale, round.
    """
    low, high = recipe.window
    # `low` is air; the pipeline does the same, and refuses a volume with more than a few.
    volume = tf.where(tf.math.is_finite(volume), volume, low)[: recipe.first : recipe.step]
    zoomed = zoom(tf.clip_by_value(volume, low, high), recipe.shape, order=recipe.order)
    values = tf.clip_by_value((zoomed - low) / (high - low), 0.0, 1.0)
    # Stored volumes are rounded to their dtype, and the network was trained on that.
    if recipe.dtype == "uint8":
        return tf.round(values * 255) / 255
    return tf.cast(tf.cast(values, recipe.dtype), tf.float32)


def serving(net: keras.Model, recipe: Recipe, classes: tuple[str, ...]) -> Serve:
    """The function that is exported: a raw volume to its probabilities and the names of the classes."""

    def serve(volume: tf.Tensor) -> dict[str, tf.Tensor]:
        faults = _faults(volume, recipe)
        checks = [tf.debugging.Assert(tf.logical_not(fault), [text]) for text, fault in faults.items()]
        # ONNX has no assertions and drops them; `usable` below gives NaN there instead.
        with tf.control_dependencies(checks):
            values = preprocess(tf.identity(volume), recipe)
        (probabilities,) = tf.unstack(net(values[tf.newaxis, ..., tf.newaxis], training=False))
        usable = tf.logical_not(tf.reduce_any(list(faults.values())))
        return {
            "probabilities": tf.where(usable, probabilities, float("nan")),
            "classes": tf.constant(classes),
        }

    return serve


def _faults(volume: tf.Tensor, recipe: Recipe) -> dict[str, tf.Tensor]:
    """Reasons for which the pipeline would quarantine a volume, each with whether it applies."""
    size, finite = tf.shape(volume), tf.math.is_finite(volume)
    holes = tf.reduce_sum(tf.cast(tf.logical_not(finite), tf.float32))
    faults = {
        "the volume has no voxels": tf.reduce_min(size) < 1,
        "over 1 % of the voxels are not finite": holes > MAX_NONFINITE * tf.cast(tf.size(volume), tf.float32),
        "a voxel is over 1,000,000 in size": tf.reduce_any(finite & (tf.abs(volume) > MAX_SIZE)),
    }
    if recipe.first:
        # `frames: first` cuts clips and never stretches them.
        faults[f"a clip needs {recipe.first} frames or more"] = size[0] < recipe.first
    return faults


# --- the files ----------------------------------------------------------------------------------


def _prepare(run: Path, out: Path) -> tuple[Config, Serve]:
    """Check what can be checked quickly, then load the network."""
    # Refuse before TensorFlow builds the network: that takes seconds.
    recipe = read_recipe(run, read_config(run).data.recipe)
    _check_unused(out)
    config, net = load_network(run)
    for layer in net.layers:
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False  # or a model exported beside a GPU would run nowhere else
    return config, serving(net, recipe, config.data.classes)


def _check_unused(out: Path) -> None:
    with _writing(out):
        used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if used:
        reason = "there is something at this place"
        raise ConfigError.of(out, "out-exists", reason, "give a folder that is new or empty")


def _onnx_converter() -> Callable[..., Any]:
    try:
        from tf2onnx.convert import from_function
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed"
        raise ConfigError.of(
            "--to onnx", "missing-package", reason, "run `pip install 'viptt[onnx]'`"
        ) from None
    found: Callable[..., Any] = from_function
    return found


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; it becomes ``out`` when the block succeeds, and is removed when it fails."""
    out = out.resolve()
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, hence on the same disk: only then is the last step a rename.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as private:
            folder = Path(private) / out.name
            folder.mkdir()
            yield folder
            # All of it must be on disk before the folder gets its name.
            for path in (*folder.rglob("*"), folder):
                sync_directory(path)
            folder.replace(out)
        sync_directory(out.parent)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn the errors of the system and of TensorFlow where ``out`` cannot be written into ResourceError."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error.message)
        remedy = "free space, fix permissions, or give another `--out DIR`"
        raise ResourceError.of(out, "cannot-write", reason, remedy) from error


def _write_about(folder: Path, run: Path, config: Config) -> None:
    about = {
        "format": 1,
        "dataset": config.data.dataset,
        "classes": config.data.classes,
        "recipe": config.data.recipe,
        "model": config.settings.model,
        "weights_sha256": file_sha256(run / WEIGHTS),
        "versions": versions(),
    }
    write_json(folder / ABOUT, about)
