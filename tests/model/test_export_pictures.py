"""Exported runs on pictures against the pipeline and `viptt predict`, and where neither is installed."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from served_runs import CLASSES, MODULE, call, export, viptt, write_run

from model.antialias import resize_antialias, resize_levels
from model.export_pictures import picture_graph, read_picture_recipe
from model.run_folder import Config, Data, create_run
from model.settings import Settings, Window
from pipeline import antialias
from pipeline.convert import quantise
from pipeline.pictures import picture_values
from pipeline.readers.reading import Picture
from pipeline.recipe import CtRecipe, FramesRecipe, Recipe, SlicesRecipe

SIZES = ((40, 50), (170, 150), (17, 90), (33, 21), (1, 1))
BOX = (1, 2, 14, 15)
FREE: dict[str, Any] = {"sample": "picture", "shape": (1, 32, 40), "dtype": "float32"}
FORMS = ("savedmodel", "onnx")
CLOSE = 1e-5  # of probabilities
FRESH = """
import sys

class Nothing:  # the project is installed for the tests; here it is not
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pipeline", "model", "cli", "viptt", *sys.argv[3:]):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
import numpy as np

picture = np.load(sys.argv[2])
if sys.argv[1].endswith(".onnx"):
    import onnxruntime
    found = onnxruntime.InferenceSession(sys.argv[1]).run(["probabilities"], {"picture": picture})[0]
else:
    import tensorflow as tf
    serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    found = serve(picture=tf.constant(picture))["probabilities"].numpy()
assert not {"pipeline", "model", "cli"} & set(sys.modules)
print(*found)
"""


def noise(size: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def document(recipe: Recipe) -> dict[str, Any]:
    return dict(json.loads(json.dumps(recipe.as_json())))


# --- what goes into the network -----------------------------------------------------------------

LENGTHS = st.one_of(st.integers(1, 20), st.integers(1, 600))


@settings(max_examples=30, deadline=None)
@given(LENGTHS, LENGTHS, st.integers(1, 40), st.integers(1, 40))
def test_a_picture_is_resized_as_by_the_pipeline(height: int, width: int, rows: int, columns: int) -> None:
    levels = noise((height, width))
    picture = tf.constant(levels, tf.float32)
    found = resize_antialias(picture, (rows, columns)).numpy()
    expected = antialias.resize_antialias_float(levels[None], (rows, columns))[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=255e-6)
    whole = resize_levels(picture, (rows, columns)).numpy()
    np.testing.assert_array_equal(whole, antialias.resize_antialias(levels[None], (rows, columns))[0])


RECIPES: dict[str, Recipe] = {
    "siz": SlicesRecipe(**FREE),
    "linear": FramesRecipe(**FREE, spline_order=1),
    "antialias": SlicesRecipe(**FREE, resize="antialias"),
    "middle": SlicesRecipe(**FREE, crop=(25, 31), resize="antialias"),
    "middle, even": SlicesRecipe(**FREE, crop=(24, 30)),
    "box": SlicesRecipe(**FREE, crop="box", resize="antialias"),
    "maximum": SlicesRecipe(**FREE, crop=(20, 20), normalise="max", window=(50, 200)),
    "window": FramesRecipe(**FREE, resize="antialias", window=(50, 200)),
    "scan": CtRecipe(**FREE, window=(-20, 180)),
    "covidnet": SlicesRecipe(preset="covidnet-ct-id-2022"),
    "sononet": FramesRecipe(preset="sononet-2025", sample="picture"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_picture_becomes_what_the_pipeline_makes_of_it(name: str) -> None:
    recipe = RECIPES[name]
    read = read_picture_recipe(document(recipe))
    assert read is not None
    graph = picture_graph(read)
    values = tf.function(graph.values, input_signature=graph.signature, autograph=False)
    for size in SIZES:
        levels, box = noise(size), (BOX if min(size) > max(BOX) else (0, 0, *size[::-1]))
        picture = Picture("a", 0, levels, getattr(recipe, "window", None) or (0.0, 255.0), box=box)
        given_box = [tf.constant(box)] if recipe.crop == "box" else []
        found = values(tf.constant(levels, tf.float32), *given_box).numpy()
        np.testing.assert_allclose(found, picture_values(picture, recipe), rtol=0, atol=2e-6)
    assert values.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(("dtype", "tie"), [("float16", 2**-11), ("uint8", 1 / 255)])
def test_values_are_rounded_as_in_a_store(dtype: str, tie: float) -> None:
    recipe = SlicesRecipe(**{**FREE, "dtype": dtype})
    read = read_picture_recipe(document(recipe))
    assert read is not None
    found = picture_graph(read).values(tf.constant(noise((50, 60)), tf.float32)).numpy()
    stored = quantise(picture_values(Picture("a", 0, noise((50, 60))), recipe), recipe).astype(np.float32)
    apart = np.abs(found - (stored / 255 if dtype == "uint8" else stored))
    assert apart.max() <= tie + 1e-6
    assert (apart > 1e-6).mean() < 0.02  # rounding to float32 takes a few across a tie


# --- the whole, as SavedModel and as ONNX -------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``run(recipe)``: a run on pictures that was never trained, with a network of the test's own."""
    (tmp_path / "export_nets.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(recipe: Mapping[str, Any], **changes: Any) -> Path:
        return write_run(tmp_path / "run", recipe, model="export_nets:net", **changes)

    return make


def write_pictures(folder: Path) -> list[Path]:
    paths = [folder / f"Normal_1_1_{number:04d}.png" for number in range(3)]
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=False)):
        assert cv2.imwrite(str(path), noise(size, number))
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["middle", "covidnet"])
def test_raw_pictures_get_the_probabilities_of_predict(
    run: Callable[..., Path], tmp_path: Path, form: str, name: str
) -> None:
    folder, paths = run(document(RECIPES[name])), write_pictures(tmp_path)
    result = viptt("predict", folder, *paths, "--scheduler", "sync")
    assert result.exit_code == 0, result.stderr
    rows = [list(row)[2:] for row in csv.reader(io.StringIO(result.stdout))][1:]
    expected, out = np.array(rows, float), export(folder, form)
    for path, row in zip(paths, expected, strict=True):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32)
        np.testing.assert_allclose(call(out, picture=picture), row, rtol=0, atol=CLOSE)
    assert np.ptp(expected, axis=0).max() > 0.01, "the network says the same of everything"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "missing"), [("savedmodel", ()), ("onnx", ("tensorflow", "keras"))])
def test_it_serves_where_this_project_is_not_installed(
    run: Callable[..., Path], tmp_path: Path, form: str, missing: tuple[str, ...]
) -> None:
    out, picture = export(run(document(RECIPES["covidnet"])), form), noise((400, 390)).astype(np.float32)
    np.save(tmp_path / "picture.npy", picture)
    place = out / "model.onnx" if form == "onnx" else out
    command = [sys.executable, "-I", "-c", FRESH, str(place), str(tmp_path / "picture.npy"), *missing]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [float(text) for text in done.stdout.split()]
    np.testing.assert_allclose(found, call(out, picture=picture), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_the_client_gives_the_box(run: Callable[..., Path], form: str) -> None:
    recipe = {**document(RECIPES["box"]), "crop": "body"}
    out, picture = export(run(recipe), form), noise((40, 50)).astype(np.float32)
    xmin, ymin, xmax, ymax = BOX
    cut = picture[ymin:ymax, xmin:xmax]
    whole = np.array([0, 0, xmax - xmin, ymax - ymin], np.int32)
    boxed = call(out, picture=picture, box=np.array(BOX, np.int32))
    np.testing.assert_allclose(boxed, call(out, picture=cut, box=whole), atol=1e-6)
    assert np.abs(boxed - call(out, picture=picture, box=np.array([0, 0, 50, 40], np.int32))).max() > 1e-3
    for wrong in ((0, 0, 51, 40), (5, 5, 5, 9), (-1, 0, 9, 9), (0, 30, 9, 41)):
        box = np.array(wrong, np.int32)
        if form == "onnx":
            assert np.isnan(call(out, picture=picture, box=box)).all()
        else:
            with pytest.raises(tf.errors.InvalidArgumentError, match="the box is empty or reaches out"):
                call(out, picture=picture, box=box)


def test_a_picture_that_cannot_be_used_is_an_error(run: Callable[..., Path]) -> None:
    out, holes = export(run(document(RECIPES["siz"])), "savedmodel"), noise((40, 50)).astype(np.float32)
    holes[:2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="over 1 % of the pixels are not finite"):
        call(out, picture=holes)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the picture has no pixels"):
        call(out, picture=holes[:0])


@pytest.mark.parametrize(
    "recipe",
    [
        {**document(RECIPES["siz"]), "sharpen": 2},
        {**document(RECIPES["siz"]), "exterior": "exclude"},
        {**document(RECIPES["siz"]), "sample": "stack", "shape": [4, 32, 40], "frames": "first"},
    ],
    ids=["unknown key", "exterior", "first frames"],
)
def test_a_recipe_that_the_graph_cannot_follow_is_refused(
    run: Callable[..., Path], tmp_path: Path, recipe: dict[str, Any]
) -> None:
    if recipe["sample"] == "stack":
        folder = tmp_path / "run"
        data = Data("ct", "a.zarr", "", "a.json", "", CLASSES, (4, 32, 40, 1), recipe)
        create_run(folder, Config(Settings(), data))
    else:
        folder = run(recipe)
    refused = viptt("export", folder, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "not-exportable: the graph cannot follow its recipe" in refused.stderr


def test_windows_are_refused(run: Callable[..., Path], tmp_path: Path) -> None:
    refused = viptt("export", run(document(RECIPES["siz"]), window=Window(length=3)), "--out", tmp_path / "o")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "not-exportable: it reads windows of pictures" in refused.stderr


# --- Triton -------------------------------------------------------------------------------------


def model_config() -> Any:
    """The part of Triton's message ``ModelConfig`` (``model_config.proto``) that is used, as a class."""
    field, file = descriptor_pb2.FieldDescriptorProto, descriptor_pb2.FileDescriptorProto(name="m.proto")
    file.syntax = "proto3"
    types = file.enum_type.add(name="DataType")
    for name, number in (("TYPE_INVALID", 0), ("TYPE_INT32", 8), ("TYPE_FP32", 11), ("TYPE_STRING", 13)):
        types.value.add(name=name, number=number)
    tensor, config = file.message_type.add(name="Tensor"), file.message_type.add(name="Config")
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    tensor.field.add(name="name", number=1, type=field.TYPE_STRING, label=one)
    tensor.field.add(name="data_type", number=2, type=field.TYPE_ENUM, label=one, type_name="DataType")
    tensor.field.add(name="dims", number=3, type=field.TYPE_INT64, label=many)
    config.field.add(name="name", number=1, type=field.TYPE_STRING, label=one)
    config.field.add(name="max_batch_size", number=4, type=field.TYPE_INT32, label=one)
    config.field.add(name="backend", number=17, type=field.TYPE_STRING, label=one)
    for name, number in (("input", 5), ("output", 6)):
        config.field.add(name=name, number=number, type=field.TYPE_MESSAGE, label=many, type_name="Tensor")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Config"))()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["middle", "box"])
def test_triton_gets_a_model_and_its_description(run: Callable[..., Path], name: str) -> None:
    out = export(run(document(RECIPES[name])), "triton")
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "config.pbtxt", "viptt.json"]
    config = text_format.Parse((out / "config.pbtxt").read_text("utf-8"), model_config())
    assert (config.name, config.backend, config.max_batch_size) == ("triton", "onnxruntime", 0)
    session = onnxruntime.InferenceSession(out / "1/model.onnx")
    types = {"tensor(float)": 11, "tensor(int32)": 8, "tensor(string)": 13}
    for described, there in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        found = {item.name: (item.data_type, list(item.dims)) for item in described}
        assert found == {
            item.name: (types[item.type], [size if isinstance(size, int) else -1 for size in item.shape])
            for item in there
        }
    given = {"picture": noise((60, 70)).astype(np.float32), "box": np.array(BOX, np.int32)}
    inputs = {item.name: given[item.name] for item in session.get_inputs()}
    assert np.isfinite(session.run(["probabilities"], inputs)[0]).all()
