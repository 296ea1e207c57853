"""An exported run against the pipeline and the network, and where neither is installed."""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from cli import main
from model.architectures import NETWORKS
from model.export import preprocess, read_recipe
from model.loading import load_network
from model.run_folder import Config, Data, create_run, read_config, write_config
from model.settings import Settings
from model.sidecar import file_sha256
from model.weights import save_weights
from pipeline.convert import convert, quantise
from pipeline.readers import nifti
from pipeline.recipe import CtRecipe, VideoRecipe
from pipeline.scale import scale_video

CLASSES = ("Infiltrative", "Focal", "Tubérculoma")
SHAPE = (6, 32, 40)
CT = {"type": "nifti", **CtRecipe(shape=SHAPE).model_dump(mode="json")}
CLIP = {"type": "video", **VideoRecipe(shape=SHAPE, frames="first").model_dump(mode="json")}
FORMS = ("savedmodel", "onnx")
ONNX_SLOWLY = ("savedmodel", pytest.param("onnx", marks=pytest.mark.slow))
CLOSE = 1e-3
SIZES = {(1, 40, 9): -500, (30, 33, 70): 0, SHAPE: 500}  # with a level that tells the answers apart
Serve = Callable[[NDArray[np.float32]], NDArray[np.float32]]

FRESH = """
import sys

class Nothing:  # the project is installed for the tests; here it is not
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pipeline", "model", "cli", "viptt"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Nothing())
import numpy as np
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = serve(volume=tf.constant(np.load(sys.argv[2])))
assert not {"pipeline", "model", "cli"} & set(sys.modules)
print([name.decode() for name in found["classes"].numpy()], *found["probabilities"].numpy())
"""


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def scan(size: tuple[int, ...] = (9, 40, 50), level: int = 0) -> NDArray[np.float32]:
    """Whole Hounsfield units, so that a file holds them exactly; a ramp, so that axes are not alike."""
    noise = np.random.default_rng(0).integers(-800, 200, size)
    ramp = np.linspace(-500, 500, size[-1]).astype(int)
    return (noise + ramp + level).astype(np.float32)


def write_run(
    folder: Path, recipe: Mapping[str, Any], *, model: str = "viptt-net-small", gain: float = 100
) -> Path:
    """A run that was never trained, undecided about grey and decided about all else."""
    shape = (*recipe["shape"], 1)
    data = Data("ct", "a.zarr", "sha256:0", "a.json", "sha256:1", CLASSES, shape, recipe)
    create_run(folder, Config(Settings(model=model), data))
    tf.keras.utils.set_random_seed(1)
    net = NETWORKS[model].build(shape, len(CLASSES), weights="none")
    grey = net.predict(np.full((1, *shape), 0.5, np.float32), verbose=0)[0]
    net.layers[-1].set_weights([gain * net.layers[-1].kernel, -gain * np.log(grey)])
    save_weights(net, folder / "model.weights.h5")
    return folder


def write_export(run: Path, out: Path, form: str) -> Path:
    result = viptt("export", run, "--out", out, "--to", form)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    return out


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", CT)


@pytest.fixture
def run(untouched: Path, tmp_path: Path) -> Path:
    """A run to export or to damage."""
    return shutil.copytree(untouched, tmp_path / "run")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Mapping[str, Any], str], Path]:
    """``exported(recipe, form)``: the folder that ``viptt export`` filled, beside it ``run``; made once."""

    @cache
    def export(recipe: str, form: str) -> Path:
        folder = tmp_path_factory.mktemp("export")
        (folder / "out").mkdir()  # an empty folder is filled
        return write_export(write_run(folder / "run", json.loads(recipe)), folder / "out", form)

    return lambda recipe, form: export(json.dumps(recipe), form)


def load(out: Path) -> Serve:
    """Call what was exported, whatever its form."""
    if (out / "model.onnx").exists():
        session = onnxruntime.InferenceSession(out / "model.onnx")
        return lambda volume: session.run(["probabilities"], {"volume": volume})[0]
    loaded = tf.saved_model.load(out)  # its variables are gone when it is

    def serve(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        return loaded.signatures["serving_default"](tf.constant(volume))["probabilities"].numpy()

    return serve


def predicted(run: Path, volume: NDArray[Any]) -> NDArray[np.float32]:
    """What the network says of a volume that the pipeline made."""
    _, net = load_network(run)
    return net.predict(volume[np.newaxis, ..., np.newaxis].astype(np.float32), verbose=0)[0]


def check_same(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def ct_recipe(recipe: Mapping[str, Any]) -> CtRecipe:
    return CtRecipe.model_validate_json(json.dumps({k: v for k, v in recipe.items() if k != "type"}))


def nearly_equal(found: NDArray[np.float32], stored: NDArray[Any], tie: float) -> bool:
    """Equal to float32's rounding, but for a few values that it takes across a tie of the dtype."""
    values = stored.astype(np.float32) / (255 if stored.dtype == np.uint8 else 1)
    apart = np.abs(found - values)
    return bool((apart <= tie + 1e-5).all() and (apart > 1e-5).mean() < 0.02)


# --- what goes into the network -----------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tie"), [("float32", 0), ("float16", 2**-11), ("uint8", 1 / 255)])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_a_scan_becomes_what_the_pipeline_makes_of_its_file(
    tmp_path: Path, write_nifti: Callable[..., Path], dtype: str, tie: float, order: int
) -> None:
    recipe = {**CT, "dtype": dtype, "spline_order": order, "window": [-900, 300]}
    volume = scan()
    path = write_nifti(tmp_path / "a.nii.gz", volume.transpose(2, 1, 0), dtype="int16")  # LPS+
    stored = convert(path, ct_recipe(recipe)).volume
    found = preprocess(tf.constant(volume), read_recipe(tmp_path, recipe)).numpy()
    assert nearly_equal(found, stored, tie)


def test_a_few_voxels_that_are_not_finite_become_air(
    tmp_path: Path, write_nifti: Callable[..., Path]
) -> None:
    volume = scan()
    volume[2, 3:9, 4] = np.nan, np.inf, -np.inf, np.nan, np.inf, 0
    path = write_nifti(tmp_path / "a.nii.gz", volume.transpose(2, 1, 0), dtype="float32")
    stored = convert(path, ct_recipe(CT)).volume
    found = preprocess(tf.constant(volume), read_recipe(tmp_path, CT)).numpy()
    assert nearly_equal(found, stored, 2**-11)


@pytest.mark.parametrize("frames", ["all", "first", "every 3"])
def test_a_clip_becomes_what_the_pipeline_makes_of_its_frames(tmp_path: Path, frames: str) -> None:
    recipe = VideoRecipe(shape=SHAPE, frames=frames, dtype="uint8")
    clip = np.random.default_rng(0).integers(0, 256, (11, 24, 50), np.uint8)
    chosen = {"all": clip, "first": clip[: SHAPE[0]], "every 3": clip[::3]}[frames]
    expected = quantise(scale_video(chosen, recipe), recipe)
    document = {"type": "video", **recipe.model_dump(mode="json")}
    found = preprocess(tf.constant(clip, tf.float32), read_recipe(tmp_path, document)).numpy()
    assert nearly_equal(found, expected, 1 / 255)


# --- the whole, as SavedModel and as ONNX -------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_raw_scans_of_any_size_get_the_probabilities_of_the_pipeline(
    exported: Callable[..., Path], write_nifti: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    out = exported(CT, form)
    serve, answers = load(out), []
    for size, level in SIZES.items():
        volume = scan(size, level)
        path = write_nifti(tmp_path / "a.nii.gz", volume.transpose(2, 1, 0), dtype="int16")
        answers.append(predicted(out.parent / "run", convert(path, ct_recipe(CT)).volume))
        check_same(serve(volume), answers[-1])
    assert np.ptp(answers, axis=0).max() > 0.1, "the network says the same of everything"


@pytest.mark.slow
@pytest.mark.parametrize("form", ONNX_SLOWLY)
def test_raw_clips_get_the_probabilities_of_the_pipeline(exported: Callable[..., Path], form: str) -> None:
    out, recipe = exported(CLIP, form), VideoRecipe(shape=SHAPE)
    clip = np.random.default_rng(0).integers(0, 256, (11, 24, 50), np.uint8)
    expected = predicted(out.parent / "run", quantise(scale_video(clip[: SHAPE[0]], recipe), recipe))
    check_same(load(out)(clip.astype(np.float32)), expected)


def test_the_signature_names_what_a_client_has_to_know(exported: Callable[..., Path]) -> None:
    out = exported(CT, "savedmodel")
    loaded = tf.saved_model.load(out)
    signature = loaded.signatures["serving_default"]
    (volume,) = signature.structured_input_signature[1].values()
    assert (volume.name, volume.dtype, volume.shape.as_list()) == ("volume", tf.float32, [None] * 3)
    outputs = {name: (spec.dtype, spec.shape) for name, spec in signature.structured_outputs.items()}
    assert outputs == {"probabilities": (tf.float32, [3]), "classes": (tf.string, [3])}


@pytest.mark.slow
def test_onnx_names_the_same(exported: Callable[..., Path]) -> None:
    out = exported(CT, "onnx")
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "viptt.json"]
    session = onnxruntime.InferenceSession(out / "model.onnx")
    (volume,) = session.get_inputs()
    assert (volume.name, volume.type, len(volume.shape)) == ("volume", "tensor(float)", 3)
    assert not any(isinstance(size, int) for size in volume.shape)
    assert session.run(["classes"], {"volume": scan()})[0].tolist() == list(CLASSES)


def test_what_was_exported_stands_beside_it(exported: Callable[..., Path]) -> None:
    out = exported(CT, "savedmodel")
    text = (out / "viptt.json").read_text()
    about = json.loads(text)
    assert (tuple(about["classes"]), about["recipe"]) == (CLASSES, CT)
    assert about["weights_sha256"] == file_sha256(out.parent / "run/model.weights.h5")
    assert str(out.parent) not in text


def test_the_weights_are_in_it_once(exported: Callable[..., Path]) -> None:
    out = exported(CT, "savedmodel")
    variables = sum(path.stat().st_size for path in (out / "variables").iterdir())
    assert variables < 1.1 * (out.parent / "run/model.weights.h5").stat().st_size


@pytest.mark.slow
def test_it_serves_where_this_project_is_not_installed(exported: Callable[..., Path], tmp_path: Path) -> None:
    out = exported(CT, "savedmodel")
    expected = load(out)(scan())
    shutil.copytree(out, tmp_path / "1")
    np.save(tmp_path / "scan.npy", scan())
    call = [sys.executable, "-I", "-c", FRESH, "1", "scan.npy"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    names, _, numbers = done.stdout.strip().rpartition("]")
    assert names + "]" == str(list(CLASSES))
    np.testing.assert_allclose([float(text) for text in numbers.split()], expected, atol=1e-6)


def test_what_is_exported_beside_a_gpu_does_not_need_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [kind])  # how Keras asks
    graph = (write_export(run, tmp_path / "out", "savedmodel") / "saved_model.pb").read_bytes()
    assert b"Einsum" in graph
    assert b"Cudnn" not in graph


# --- volumes that the pipeline would quarantine -------------------------------------------------


def unusable() -> dict[str, NDArray[np.float32]]:
    hole, spike = scan(), scan()
    hole[:1] = np.nan
    spike[3, 4, 5] = -2e6
    return {
        "over 1 % of the voxels are not finite": hole,
        "a clip needs 6 frames or more": scan((5, 40, 50)),
        "a voxel is over 1,000,000 in size": spike,
        "the volume has no voxels": scan((9, 0, 50)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("text", unusable())
def test_a_volume_that_cannot_be_used_is_an_error(exported: Callable[..., Path], text: str) -> None:
    serve = load(exported(CLIP, "savedmodel"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        serve(unusable()[text])


@pytest.mark.slow
def test_onnx_answers_nan_of_a_volume_that_cannot_be_used(exported: Callable[..., Path]) -> None:
    serve = load(exported(CLIP, "onnx"))
    *volumes, _ = unusable().values()
    assert all(np.isnan(serve(volume)).all() for volume in volumes)
    assert np.isfinite(serve(scan((6, 40, 50)))).all()


# --- what is refused ----------------------------------------------------------------------------


def tell(result: Result) -> tuple[int, str]:
    """Exit code and reason code of the only line."""
    (line,) = result.stderr.splitlines()
    assert " → " in line
    return result.exit_code, line.split(": ")[1]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    assert tell(viptt("export", tmp_path, "--out", tmp_path / "out")) == (2, "not-a-run")


def test_a_run_without_weights_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "model.weights.h5").unlink()
    assert tell(viptt("export", run, "--out", tmp_path / "out")) == (2, "no-weights")
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused(run: Path, tmp_path: Path) -> None:
    (run / "model.weights.h5").write_bytes(b"nothing of the kind")
    assert tell(viptt("export", run, "--out", tmp_path / "out")) == (4, "weights-changed")


@pytest.mark.parametrize(
    "change", [{"preset": "viptt-2021"}, {"window": None}, {"exterior": "exclude"}, {"depths": "even"}]
)
def test_a_recipe_that_the_graph_cannot_follow_is_refused(
    run: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    config = read_config(run)
    write_config(run, replace(config, data=replace(config.data, recipe={**config.data.recipe, **change})))
    assert tell(viptt("export", run, "--out", tmp_path / "out")) == (2, "not-exportable")


def test_what_is_already_there_is_left_alone(run: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "mine").touch()
    assert tell(viptt("export", run, "--out", file)) == (2, "out-exists")
    assert tell(viptt("export", run, "--out", folder)) == (2, "out-exists")
    assert file.read_text() == "mine"
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["file/out", "n" * 300])
def test_a_place_that_cannot_be_written_is_exit_6(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert tell(viptt("export", run, "--out", tmp_path / name)) == (6, "cannot-write")


@pytest.mark.parametrize("form", ONNX_SLOWLY)
def test_a_disk_that_fills_leaves_nothing_behind(run: Path, tmp_path: Path, form: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        result = viptt("export", run, "--out", tmp_path / "place/out", "--to", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert tell(result) == (6, "cannot-write")
    assert list((tmp_path / "place").iterdir()) == []


def test_without_the_converter_the_remedy_is_told(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx.convert", None)
    result = viptt("export", run, "--out", tmp_path / "out", "--to", "onnx")
    assert tell(result) == (2, "missing-package")
    assert "pip install 'viptt[onnx]'" in result.stderr


# --- real volumes -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_real_scans_get_the_probabilities_of_the_pipeline(
    exported: Callable[..., Path], shared: Path, form: str
) -> None:
    out = exported({**CT, "shape": [70, 224, 224]}, form)
    serve, answers = load(out), []
    for path in sorted((shared / "ct").glob("*.nii.gz")):
        answers.append(predicted(out.parent / "run", convert(path, CtRecipe()).volume))
        check_same(serve(nifti.read(path).array.astype(np.float32)), answers[-1])
    assert len(answers) == 8
    assert np.ptp(answers, axis=0).max() > 0.1, "the network says the same of everything"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_real_scan_through_vgg16(tmp_path: Path, shared: Path, form: str) -> None:
    run = write_run(tmp_path / "run", {**CT, "shape": [70, 224, 224]}, model="viptt-net", gain=10_000)
    path = shared / "ct/covidctmd_covid_P002_every5.nii.gz"
    expected = predicted(run, convert(path, CtRecipe()).volume)
    assert np.ptp(expected) > 0.1, "the network says the same of it as of grey"
    serve = load(write_export(run, tmp_path / "out", form))
    check_same(serve(nifti.read(path).array.astype(np.float32)), expected)
