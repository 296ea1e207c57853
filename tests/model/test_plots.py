from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.image import imread

from model.plots import draw_confusion, draw_curves

HISTORY = [
    {"epoch": n, "loss": 1 / n, "val_loss": 1.2 / n, "accuracy": 1 - 1 / n, "val_accuracy": 0.9 - 1 / n}
    for n in range(1, 6)
]


def test_the_matrix_shows_every_count_and_class(tmp_path: Path) -> None:
    png, svg = sorted(draw_confusion(tmp_path / "confusion", [[17, 2], [0, 31]], ["Focal", "Miliary"], "val"))
    assert (png.name, svg.name) == ("confusion.png", "confusion.svg")
    picture = imread(png)
    assert picture.shape[0] > 300
    assert picture.std() > 0.05
    assert svg.read_text().count("<!-- ") > 5
    for word in ("17", "31", "Focal", "Miliary", "predicted", "val"):
        assert f"<!-- {word} -->" in svg.read_text()


def test_the_curves_show_both_parts(tmp_path: Path) -> None:
    _, svg = sorted(draw_curves(tmp_path / "curves", HISTORY))
    for word in ("loss", "val_loss", "accuracy", "val_accuracy", "epoch", "best weights"):
        assert f"<!-- {word} -->" in svg.read_text()


def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw_curves(tmp_path / "curves", HISTORY)]
    again = [path.read_bytes() for path in draw_curves(tmp_path / "curves", HISTORY)]
    assert first == again
    assert np.all([len(content) > 1000 for content in first])
