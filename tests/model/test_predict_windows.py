"""New clips by a run over windows: the class over time, as a table and as pictures."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.image import imread

from cli import main
from model.run_folder import Config, Data, create_run
from model.settings import Settings, Window
from model.weights import save_weights

CLASSES = ("dark", "bright")
RECIPE = {"type": "video", "sample": "picture", "shape": [1, 16, 16], "spline_order": 1, "dtype": "float32"}
MODULE = """
import keras

def net(shape, classes):
    window = keras.Input(shape)
    mean = keras.layers.GlobalAveragePooling3D()(window)
    return keras.Model(window, keras.layers.Dense(classes, activation="softmax")(mean))
"""
FIVE = Window(length=5, stride=5, labels="same")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on windows of five, whose network takes one for bright if its mean is above a half."""
    (tmp_path / "nets_of_windows.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import nets_of_windows

    data = Data("clips", "a", "sha256:0", "a", "sha256:1", CLASSES, (1, 16, 16, 1), RECIPE)
    create_run(tmp_path / "run", Config(Settings(model="nets_of_windows:net", window=FIVE), data))
    net = nets_of_windows.net((5, 16, 16, 1), 2)
    net.set_weights([np.array([[-20.0, 20.0]]), np.array([10.0, -10.0])])
    save_weights(net, tmp_path / "run/model.weights.h5")
    return tmp_path / "run"


def clip(path: Path, write_clip: Callable[..., Path], levels: list[int]) -> Path:
    frames = [np.full((24, 32, 3), level, np.uint8) for level in levels]
    return write_clip(path, np.stack(frames), "MJPG")


def predict(*arguments: object) -> Result:
    call = ["predict", *map(str, arguments), "--scheduler", "sync"]
    return CliRunner().invoke(main, call)


def rows_of(text: str) -> dict[str, str]:
    return {row["id"]: row["predicted"] for row in csv.DictReader(io.StringIO(text))}


def test_clips_that_are_too_short_are_listed_and_the_others_predicted(
    run: Path, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    """A window of five at the end of each frame from 4 on; from 12 on three of its frames are bright."""
    new = tmp_path / "new"
    clip(new / "turns.avi", write_clip, [0] * 10 + [255] * 6)
    clip(new / "short.avi", write_clip, [0] * 4)
    clip(new / "dark.avi", write_clip, [0] * 5)
    (new / "bad.avi").write_bytes(b"no clip")

    result = predict(run, new, "--out", tmp_path / "t.csv", "--timelines", tmp_path / "pictures")

    assert result.exit_code == 3
    turns = {f"turns/{number}": "bright" if number >= 12 else "dark" for number in range(4, 16)}
    assert rows_of((tmp_path / "t.csv").read_text()) == {"dark/4": "dark", **turns}
    with (tmp_path / "t.quarantine.csv").open(newline="") as file:
        codes = {Path(row["source"]).name: row["code"] for row in csv.DictReader(file)}
    assert codes == {"bad.avi": "not-video", "short.avi": "no-windows"}
    (line,) = (line for line in result.stderr.splitlines() if "short.avi" in line)
    assert "it has no 5 pictures that follow each other" in line
    check_pictures(tmp_path / "pictures")


def check_pictures(folder: Path) -> None:
    """One picture of each clip that has a window; the lane of the class is filled, in blue alone."""
    assert sorted(path.name for path in folder.iterdir()) == [
        "dark.png",
        "dark.svg",
        "turns.png",
        "turns.svg",
    ]
    assert ElementTree.parse(folder / "turns.svg").getroot().tag.endswith("svg")
    image = imread(folder / "turns.png")[..., :3]
    rows, columns = np.nonzero(np.abs(image - np.array([0x00, 0x72, 0xB2]) / 255).max(axis=-1) < 0.02)
    lower = rows > (rows.min() + rows.max()) / 2
    assert columns[~lower].max() < columns[lower].min() + 3  # dark above and before, bright below and after
    widths = [np.ptp(columns[part]) for part in (~lower, lower)]
    assert widths[0] / sum(widths) == pytest.approx(8 / 12, abs=0.02)


def test_without_a_clip_that_is_long_enough_the_table_is_empty(
    run: Path, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    short = clip(tmp_path / "short.avi", write_clip, [0] * 4)
    result = predict(run, short, "--timelines", tmp_path / "pictures")
    assert (result.exit_code, result.stdout) == (3, "id,predicted,dark,bright\n")
    assert result.stderr.count("no-windows") == 1
    assert list((tmp_path / "pictures").iterdir()) == []


def test_pictures_that_cannot_be_written_are_told_in_a_line(
    run: Path, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    (tmp_path / "pictures/turns.png").mkdir(parents=True)  # in the way of the file
    long = clip(tmp_path / "turns.avi", write_clip, [0] * 5)
    result = predict(run, long, "--timelines", tmp_path / "pictures")
    assert result.exit_code == 6
    assert result.stderr.splitlines()[-1].startswith(f"{tmp_path / 'pictures'}: cannot-write: ")
