"""What `viptt predict --explain` draws of networks that look at single pictures."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.image import imread
from numpy.typing import NDArray

from cli import main
from model.explained import check_explainable
from model.grad_cam import slice_heat
from model.plots import draw_scan, draw_slice
from model.predict import load_ensemble, predict_dataset
from model.run_folder import Config, Data, create_run, read_config
from model.settings import Settings, Window
from model.sononet import sononet
from model.weights import save_weights
from pipeline.errors import ConfigError

CLASSES = ("Normal", "COVID-19")
RECIPE = {
    "type": "slices",
    "sample": "picture",
    "shape": [1, 24, 24],
    "spline_order": 3,
    "dtype": "float32",
}
MODULE = """
import keras

def bright(shape, classes):
    picture = keras.Input(shape)
    maps = keras.layers.Conv2D(1, 1, use_bias=False)(picture)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(picture, keras.layers.Dense(classes, activation="softmax")(pooled))

def flat(shape, classes):
    picture = keras.Input(shape)
    scores = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(picture))
    return keras.Model(picture, scores)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A run whose network takes a picture for COVID-19 the more, the brighter it is."""
    (tmp_path / "seeing.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(name: str = "bright", *, window: Window | None = None) -> Path:
        chosen = Settings(model=f"seeing:{name}", window=window)
        data = Data("ct", "a", "sha256:0", "a", "sha256:1", CLASSES, (1, 24, 24, 1), RECIPE)
        folder = tmp_path / name
        create_run(folder, Config(chosen, data))
        if window is None:
            import seeing

            net = getattr(seeing, name)((24, 24, 1), 2)
            if name == "bright":
                weights = [np.ones((1, 1, 1, 1)), np.array([[-20.0, 20.0]]), np.array([1.3, -1.3])]
                net.set_weights(weights)
            save_weights(net, folder / "model.weights.h5")
        return folder

    return make


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def write_slices(folder: Path) -> list[Path]:
    """Scan P_1 of three slices, dark, with a bright square, dark; and a single slice of another one."""
    folder.mkdir()
    pictures = [np.full((48, 48), 10, np.uint8) for _ in range(4)]
    pictures[1][30:40, 4:16] = 255
    names = ("NCP_1_1_0009", "NCP_1_1_0010", "NCP_1_1_0011", "NCP_2_7_0001")
    paths = [folder / f"{name}.png" for name in names]
    assert all(cv2.imwrite(str(path), picture) for path, picture in zip(paths, pictures, strict=True))
    return paths


def test_each_slice_and_each_scan_has_its_picture(run: Callable[..., Path], tmp_path: Path) -> None:
    paths, out = write_slices(tmp_path / "new"), tmp_path / "explained"
    result = viptt("predict", run(), tmp_path / "new", "--explain", out, "--scheduler", "sync")
    assert result.exit_code == 0, result.stderr
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["predicted"] for row in rows] == ["Normal", "COVID-19", "Normal", "Normal"]
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert found == [*(f"{path.stem}.png" for path in paths), "scans/NCP_1_1.png"]
    plain, heated = np.split(imread(out / "NCP_1_1_0010.png")[80:, :1160, :3], 2, axis=1)
    warm = (
        heated[..., 0] - heated[..., 2] > 0.2
    )  # the colours of the heat are the only ones that are not gray
    rows_, columns = np.nonzero(warm)
    height, width = warm.shape
    assert 0.5 < rows_.mean() / height < 0.9
    assert 0.05 < columns.mean() / width < 0.45
    assert not (np.ptp(plain, axis=2) > 0.1).any()


def test_a_store_has_the_pictures_of_its_stacks(
    make_pictures: Callable, make_split: Callable, run: Callable[..., Path], tmp_path: Path
) -> None:
    store = make_pictures({"A": "011", "B": "0", "C/x": "10"}, size=24)
    split = make_split(store)
    import seeing

    data = Data("p", str(store.path), store.digest, str(split), "", store.header.classes, (1, 24, 24, 1), {})
    folder = tmp_path / "stored"
    run()  # makes the module
    create_run(folder, Config(Settings(model="seeing:bright"), replace(data, recipe=store.header.recipe)))
    save_weights(seeing.bright((24, 24, 1), 3), folder / "model.weights.h5")
    out = tmp_path / "explained"
    out.mkdir()
    ensemble = load_ensemble([folder], explained=True)
    found = predict_dataset(ensemble, store.path, split, None, batch_size=2, pictures=out)
    assert [item.stack for item in found] == ["A", "A", "A", "B", "C/x", "C/x"]
    assert [item.truth for item in found] == [0, 1, 1, 0, 1, 0]
    assert sorted(path.name for path in (out / "scans").iterdir()) == ["A.png", "C%2Fx.png"]
    assert len(list(out.glob("*.png"))) == 6


def test_a_network_without_maps_is_refused_before_the_work(run: Callable[..., Path], tmp_path: Path) -> None:
    paths = write_slices(tmp_path / "new")
    result = viptt("predict", run("flat"), *paths, "--explain", tmp_path / "out")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert ": no-maps: " in result.stderr


def test_sononet_is_explained_by_its_class_maps() -> None:
    """Its scores are the means of its last maps, one a class: each is the heat of its own class."""
    keras.utils.set_random_seed(0)
    net = sononet("2d", features=2, classes=3, shape=(64, 64, 1))
    picture = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    last = keras.Model(net.input, net.get_layer("average").input)
    maps = np.maximum(np.asarray(last(picture[None, ..., None])), 0)
    assert maps.max() > 0
    for label in range(3):
        expected = np.asarray(
            keras.ops.image.resize(maps[..., label : label + 1], (64, 64), interpolation="bilinear")
        )[0, ..., 0]
        found = slice_heat(net, picture, label=label)
        np.testing.assert_allclose(found, expected / max(expected.max(), 1e-12), atol=1e-5)


def test_bars_are_stacked_to_one(tmp_path: Path) -> None:
    """The colour of each class covers its share of the area between the axes."""
    probabilities: NDArray[np.float64] = np.array([[0.5, 0.5], [0.2, 0.8], [0.2, 0.8], [0.3, 0.7]])
    draw_scan(tmp_path / "scan.png", probabilities, ["$a_", "b"], "a scan $\\frac{")
    image = imread(tmp_path / "scan.png")[..., :3]
    shares = []
    for colour in ("0072B2", "D55E00"):
        wanted = np.array([int(colour[place : place + 2], 16) for place in (0, 2, 4)]) / 255
        shares.append((np.abs(image - wanted).max(axis=-1) < 0.02)[:, :1050].sum())
    assert shares[0] / sum(shares) == pytest.approx(0.3, abs=0.02)


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    heat = np.zeros((20, 20), np.float32)
    draw_slice(tmp_path / "slice.png", heat, heat, "$\\frac{: 肺, probability 0.5")
    assert imread(tmp_path / "slice.png").shape == (660, 1290, 4)


def test_windows_are_refused(run: Callable[..., Path]) -> None:
    config = read_config(run(window=Window(length=3)))
    with pytest.raises(ConfigError, match="--explain: no-windows: the run reads windows of pictures"):
        check_explainable(config, keras.Model())
