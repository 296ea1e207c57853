"""`viptt train` as a user meets it: where weights may come from, and what is refused in one line."""

import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import zarr
from click.testing import CliRunner, Result

from cli import main
from model.loading import load_network
from model.network import BACKBONE, small_net, viptt_net
from model.run_folder import read_config, write_config
from model.sidecar import file_sha256
from pipeline.errors import ResourceError
from pipeline.store import Store, open_store

ERROR_LINE = r"[^\n]+: ([a-z0-9-]+): [^\n]+ → [^\n]+\n"
SMALL = ("--model", "viptt-net-small", "--epochs", "1")
SHAPE = (4, 32, 32, 1)
FIVE = ("Infiltrative", "Focal", "Tuberculoma", "Miliary", "Fibro-cavernous")


@pytest.fixture
def viptt(tmp_path: Path, make_store: Callable, make_split: Callable, make_catalog: Callable) -> Callable:
    """``viptt("train", "ct", …)`` with a catalog of a few scans and clips; nothing stands in the way."""
    scans, clips = make_store(name="scans"), make_store(name="clips", type_="video", classes=FIVE)
    datasets = {"ct": scans, "clips": clips}
    catalog = make_catalog(**{name: (it, make_split(it, name=name)) for name, it in datasets.items()})

    def run(*arguments: object) -> Result:
        given = [str(argument) for argument in arguments]
        return CliRunner().invoke(main, [*given, "--catalog", str(catalog)])

    return run


def refused(result: Result, exit_code: int, reason_code: str) -> str:
    """The one line that a command ended with."""
    assert result.exit_code == exit_code, result.stderr
    found = re.fullmatch(ERROR_LINE, result.stderr)
    assert found is not None, result.stderr
    assert found[1] == reason_code
    assert result.stdout == ""
    return result.stderr


def nan_weights(folder: Path) -> Path:
    net = small_net(SHAPE, 3)
    kernel = net.get_layer("lstm").weights[0]
    kernel.assign(np.where(np.arange(kernel.shape[1]) == 7, np.nan, kernel.numpy()))
    net.save_weights(folder / "nan.weights.h5")
    return folder / "nan.weights.h5"


def equal(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


# --- where the backbone's weights come from -----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", ["run", "file", "backbone"])
def test_the_backbone_comes_from_a_run_or_a_file_and_the_rest_is_new(
    viptt: Callable,
    make_store: Callable,
    make_split: Callable,
    make_run: Callable,
    tmp_path: Path,
    form: str,
) -> None:
    store = make_store(classes=FIVE)
    clips, scans = make_run(store, make_split(store), name="clips-run"), tmp_path / "ct-run"
    donor = load_network(clips)[1]
    donor.get_layer(BACKBONE).save_weights(tmp_path / "b.weights.h5")
    weights = {"run": clips, "file": clips / "model.weights.h5", "backbone": tmp_path / "b.weights.h5"}[form]
    result = viptt("train", "ct", *SMALL, "--weights", weights, "--freeze", "--run", scans)
    assert result.exit_code == 0, result.stderr
    config, net = load_network(scans)
    assert equal(net.get_layer(BACKBONE).get_weights(), donor.get_layer(BACKBONE).get_weights())
    for name in ("conv3d", "lstm", "dense"):
        assert not equal(net.get_layer(name).get_weights()[:1], donor.get_layer(name).get_weights()[:1])
    if form != "backbone":
        assert config.init_sha256 == (clips / "model.weights.h5.sha256").read_text().split()[0]


@pytest.mark.slow
def test_the_files_of_2021_give_a_scan_network_its_backbone_or_all_but_its_head(
    make_store: Callable, make_split: Callable, make_catalog: Callable, tmp_path: Path, shared: Path
) -> None:
    """TensorFlow 2.4 wrote it for 10 classes; it starts a training on 5, whatever the size of a frame."""
    released = shared / "weights/ViPTT-Net-UCF50.h5"
    store = make_store(classes=FIVE, per_class=2)
    catalog = make_catalog(ct=(store, make_split(store)))
    still = ("--epochs", "1", "--learning-rate", "1e-30", "--catalog", catalog)
    for name, options in {"all": ("--strategy", "pt", "--init"), "backbone": ("--weights",)}.items():
        call = ["train", "ct", *options, released, *still, "--run", tmp_path / name]
        result = CliRunner().invoke(main, [str(argument) for argument in call])
        assert result.exit_code == 0, result.stderr
    with h5py.File(released) as file:
        weights = file["model_weights"]
        kernel = weights["time_distributed/block5_conv3/kernel:0"][()]
        dense = weights["dense/dense/kernel:0"][()]
    for name, same in (("all", True), ("backbone", False)):
        net = load_network(tmp_path / name)[1]
        found = net.get_layer(BACKBONE).get_layer("block5_conv3").kernel
        np.testing.assert_allclose(found, kernel, rtol=0, atol=1e-20)
        assert np.allclose(net.get_layer("dense").kernel, dense, rtol=0, atol=1e-20) is same
        assert net.output_shape == (None, 5)


# --- refused, in one line -----------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--weights", "--init"])
def test_weights_that_are_not_numbers(viptt: Callable, tmp_path: Path, option: str) -> None:
    strategy = ("--strategy", "pt") if option == "--init" else ()
    result = viptt("train", "ct", *SMALL, *strategy, option, nan_weights(tmp_path), "--run", tmp_path / "run")
    refused(result, 4, "non-finite")


@pytest.mark.parametrize("option", ["--weights", "--init"])
def test_weights_of_another_network(viptt: Callable, tmp_path: Path, option: str) -> None:
    small_net(SHAPE, 3).save_weights(tmp_path / "small.weights.h5")
    strategy = ("--strategy", "pt") if option == "--init" else ()
    call = ["train", "ct", "--epochs", "1", *strategy, option, tmp_path / "small.weights.h5"]
    assert "the network has" in refused(viptt(*call, "--run", tmp_path / "run"), 4, "other-network")


@pytest.mark.slow
def test_after_a_refusal_the_same_folder_can_be_used(viptt: Callable, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    small.save_weights(tmp_path / "other.weights.h5")
    call = ["train", "ct", *SMALL, "--run", run]
    refused(viptt(*call, "--weights", tmp_path / "other.weights.h5"), 4, "other-network")
    assert not run.exists()
    assert viptt(*call, "--weights", "none").exit_code == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--weights", "nowhere.h5"), "no-weights"),
        (("--strategy", "pt", "--init", "nowhere"), "no-weights"),
        (("--weights", "."), "not-a-run"),
        (("--weights", "imagenet"), "no-weights"),
        (("--strategy", "pt", "--init", "a.h5", "--weights", "b.h5"), "needless-weights"),
        (("--strategy", "pt"), "no-init"),
    ],
)
def test_weights_that_are_not_there_or_not_needed(
    viptt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    refused(viptt("train", "ct", *SMALL, *options), 2, code)
    assert list(Path().iterdir()) == []


def test_a_split_of_another_store(
    viptt: Callable, make_catalog: Callable, make_store: Callable, make_split: Callable, tmp_path: Path
) -> None:
    store, other = make_store(name="one"), make_store(name="two", seed=1)
    make_catalog(ct=(store, make_split(other)))
    refused(viptt("train", "ct", *SMALL, "--run", tmp_path / "run"), 4, "other-store")


def test_a_store_of_another_program(
    viptt: Callable, make_catalog: Callable, make_store: Callable, make_split: Callable, tmp_path: Path
) -> None:
    store: Store = make_store(name="one")
    make_catalog(ct=(store, make_split(store)))
    shutil.rmtree(store.path)
    zarr.create_group(store.path).create_array("volume", data=np.zeros((2, 4, 32, 32), "f4"))
    refused(viptt("train", "ct", *SMALL, "--run", tmp_path / "run"), 4, "foreign-store")


@pytest.mark.slow
def test_classes_of_another_dataset(
    viptt: Callable, make_store: Callable, make_split: Callable, make_run: Callable, tmp_path: Path
) -> None:
    """A head for other classes cannot be scored; everything below it can be taken over."""
    store = make_store(name="five", type_="video", classes=FIVE)
    run = make_run(store, make_split(store, name="five"))
    refused(viptt("evaluate", run, "ct"), 2, "other-classes")
    tuned = ("--strategy", "pt", "--init", run, "--run", tmp_path / "tuned")
    assert viptt("train", "ct", *SMALL, *tuned).exit_code == 0


@pytest.mark.slow
def test_the_weights_a_run_began_with_may_not_change_under_it(
    viptt: Callable, make_run: Callable, tmp_path: Path
) -> None:
    weights = tmp_path / "a.weights.h5"
    small_net(SHAPE, 3).save_weights(weights)
    store = open_store(tmp_path / "scans.zarr")
    run = make_run(store, tmp_path / "ct.json", weights=str(weights), epochs=1)
    call = ["train", "ct", *SMALL, "--run", run, "--resume", "--weights", weights]
    config = read_config(run)
    write_config(run, replace(config, init_sha256=file_sha256(weights)))
    result = viptt(*call)
    assert result.exit_code == 0, result.stderr
    small_net(SHAPE, 3).save_weights(weights)
    refused(viptt(*call), 4, "other-data")


def test_a_server_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.applications.SILENCE_S", 0.2)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/vgg16.h5"
        monkeypatch.setattr("keras.src.applications.vgg16.WEIGHTS_PATH_NO_TOP", url)
        begun = time.monotonic()
        with pytest.raises(ResourceError, match=r"no-weights: .*timed out → give `--weights FILE`"):
            viptt_net(SHAPE, 3)
    assert time.monotonic() - begun < 10
    assert socket.getdefaulttimeout() is None
