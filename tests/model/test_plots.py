import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.image import imread

from model.plots import draw_curves

HISTORY = [
    {
        "epoch": n,
        "loss": 1 / n,
        "val_loss": abs(n - 4) + 0.2,
        "accuracy": 1 - 1 / n,
        "val_accuracy": 0.9 - 1 / n,
    }
    for n in range(1, 6)
]


def test_the_curves_show_both_parts(tmp_path: Path) -> None:
    png, svg = draw_curves(tmp_path / "curves", HISTORY, "run on data")
    assert imread(png).std() > 0.02
    words = ("training", "validation", "loss", "accuracy (share that is right)", "epoch", "best epoch, 4")
    for word in (*words, "run on data"):
        assert f"<!-- {word} -->" in svg.read_text(), word


@pytest.mark.parametrize("epochs", [1, 2, 5, 40])
def test_epochs_are_whole_and_the_accuracy_goes_from_0_to_1(tmp_path: Path, epochs: int) -> None:
    history = [{**HISTORY[0], "epoch": float(n)} for n in range(1, epochs + 1)]
    _, svg = draw_curves(tmp_path / "curves", history, "run")
    numbers = re.findall(r"<!-- ([\d.]+) -->", svg.read_text().split('id="axes_2"')[1])
    assert {number for number in numbers if "." in number} == {"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}
    whole = [int(number) for number in numbers if "." not in number]
    assert whole
    assert all(0 <= number <= epochs + 1 for number in whole)


def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw_curves(tmp_path / "curves", HISTORY, "run")]
    again = [path.read_bytes() for path in draw_curves(tmp_path / "curves", HISTORY, "run")]
    assert first == again
    assert np.all([len(content) > 1000 for content in first])
