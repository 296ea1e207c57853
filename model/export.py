"""A run as one file or folder that does not need this project: SavedModel, ONNX, or a model of Triton's.

The graph repeats what the pipeline does by the run's recipe, then runs the network. Its input is one
raw picture, see ``export_pictures``, a stack of pictures that are treated one by one, see
``export_stacks``, or one raw volume, float32 (depth, height, width) of any size: Hounsfield units with the
axes of a store (depth toward Superior, height toward Posterior, width toward Left), or luma frames, 0 to
255, which are limited, resampled by SIZ, scaled and rounded.

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

from model.export_pictures import picture_graph, read_picture_recipe
from model.export_stacks import is_one_by_one, read_stack_recipe, stack_graph
from model.loading import load_network
from model.run_folder import WEIGHTS, Config, read_config, versions, write_json
from model.served import LUMA, VOLUME, Graph, Serve, as_stored, faults_of, serving, without_holes
from model.sidecar import file_sha256
from model.siz import zoom
from model.triton import CONFIG, VERSION, config_text
from model.windows import is_of_pictures
from pipeline.errors import ConfigError, ResourceError
from pipeline.store import sync_directory

ABOUT, ONNX_FILE = "viptt.json", "model.onnx"
ENDPOINT = "serving_default"
OPSET = 18
KEYS = {
    "nifti": {"type", "shape", "spline_order", "dtype", "window"},
    "video": {"type", "shape", "spline_order", "dtype", "frames"},
}


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


@dataclass(frozen=True)
class _Prepared:
    """All that a form is written from."""

    config: Config
    graph: Graph
    serve: Serve


def export(run: Path, out: Path, form: str) -> None:
    """Write a run to the folder ``out``, new or empty, in one of ``FORMS``.

    savedmodel  a SavedModel, signature ``serving_default``
    onnx        ``model.onnx``
    triton      a model of Triton's repository: ``config.pbtxt``, ``1/model.onnx``; its name is the folder's

    Raises ConfigError if ``run`` is no run with weights, its recipe has no graph, ``out`` is in use, or
    tf2onnx is not installed where it is needed; IntegrityError if the run is damaged; ResourceError if
    ``out`` cannot be written.
    """
    if form != "savedmodel":
        _onnx_converter()  # a missing library is told before the work
    prepared = _prepare(run, out)
    with _new_folder(out) as folder:
        FORMS[form](prepared, folder)
        _write_about(folder, run, prepared.config)


def _write_saved_model(prepared: _Prepared, folder: Path) -> None:
    archive = keras.export.ExportArchive()
    archive.add_endpoint(ENDPOINT, prepared.serve, list(prepared.graph.signature))
    archive.write_out(folder, verbose=False)


def _write_onnx(prepared: _Prepared, folder: Path) -> None:
    signature = list(prepared.graph.signature)
    function = tf.function(prepared.serve, input_signature=signature, autograph=False)
    _onnx_converter()(function, signature, opset=OPSET, output_path=folder / ONNX_FILE)


def _write_triton(prepared: _Prepared, folder: Path) -> None:
    (folder / VERSION).mkdir()
    _write_onnx(prepared, folder / VERSION)
    text = config_text(folder.name, prepared.graph.signature, len(prepared.config.data.classes))
    (folder / CONFIG).write_text(text, "utf-8")


FORMS: Mapping[str, Callable[[_Prepared, Path], None]] = {
    "savedmodel": _write_saved_model,
    "onnx": _write_onnx,
    "triton": _write_triton,
}


def read_recipe(where: Path, recipe: Mapping[str, Any]) -> Recipe:
    """A store's recipe; raises ConfigError if the graph cannot follow it."""
    given = {key for key, value in recipe.items() if value is not None}
    kind = str(recipe.get("type"))
    if given != KEYS.get(kind):
        reason = f"the graph cannot follow its recipe: {json.dumps(dict(recipe))}"
        remedy = "train on a recipe without the preset viptt-2021, without `exterior`, and of all frames"
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


def graph_of(where: Path, config: Config) -> Graph:
    """The graph that leads to a run's network; raises ConfigError if there is none."""
    recipe = config.data.recipe
    if config.settings.window:
        remedy = "call the network from Python, or train on pictures or stacks"
        raise ConfigError.of(where, "not-exportable", "it reads windows of pictures", remedy)
    if is_of_pictures(recipe):
        pictures = read_picture_recipe(recipe)
        if pictures is not None:
            return picture_graph(pictures)
    elif is_one_by_one(recipe):
        stack = read_stack_recipe(recipe)
        if stack is not None:
            return stack_graph(stack)
    return _volume_graph(read_recipe(where, recipe))


def _volume_graph(recipe: Recipe) -> Graph:
    return Graph((VOLUME,), lambda volume: preprocess(volume, recipe), lambda volume: _faults(volume, recipe))


def preprocess(volume: tf.Tensor, recipe: Recipe) -> tf.Tensor:
    """One raw volume, float32 of any size, to float32 in [0, 1] of the recipe's shape.

    As ``pipeline.convert`` does: voxels that are not finite become air, then limit, SIZ, scale, round.
    """
    low, high = recipe.window
    volume = without_holes(volume, low)[: recipe.first : recipe.step]
    zoomed = zoom(tf.clip_by_value(volume, low, high), recipe.shape, order=recipe.order)
    return as_stored(tf.clip_by_value((zoomed - low) / (high - low), 0.0, 1.0), recipe.dtype)


def _faults(volume: tf.Tensor, recipe: Recipe) -> dict[str, tf.Tensor]:
    """Reasons for which the pipeline would quarantine a volume, each with whether it applies."""
    faults = faults_of(volume, whole="volume", point="voxel")
    if recipe.first:
        # `frames: first` cuts clips and never stretches them.
        faults[f"a clip needs {recipe.first} frames or more"] = tf.shape(volume)[0] < recipe.first
    return faults


# --- the files ----------------------------------------------------------------------------------


def _prepare(run: Path, out: Path) -> _Prepared:
    """Check what can be checked quickly, then load the network."""
    # Refuse before TensorFlow builds the network: that takes seconds.
    graph = graph_of(run, read_config(run))
    _check_unused(out)
    config, net = load_network(run)
    for layer in net.layers:
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False  # or a model exported beside a GPU would run nowhere else
    return _Prepared(config, graph, serving(net, graph, config.data.classes))


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
