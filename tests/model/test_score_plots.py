"""Figures of an evaluation: what stands in them, and that they are the same for the same data."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.image import imread
from sklearn import metrics

from model.curves import precision_recall
from model.score_plots import _steps, draw_confusion, draw_scores
from model.scores import score

NAMES = ("Normal", "Pneumonia", "COVID-19")


def predictions(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 60)
    raw = rng.random((60, 3)) + 0.7 * np.eye(3)[truth]
    return truth, (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)


def drawn(folder: Path) -> dict[str, str]:
    """All figures in a folder; the text of each SVG by its name. Matplotlib writes words as comments."""
    folder.mkdir(exist_ok=True)
    truth, probabilities = predictions()
    scores = score(truth, probabilities, NAMES, draws=50)
    paths = draw_scores(folder, scores, truth, probabilities, "run on data, val")
    assert len(paths) == len(set(paths)) == 8
    assert all(imread(path).std() > 0.02 for path in paths if path.suffix == ".png")
    return {path.stem: path.read_text() for path in paths if path.suffix == ".svg"}


def test_every_axis_has_a_name_and_every_class_a_line(tmp_path: Path) -> None:
    axes = {
        "confusion": ("predicted class", "true class", "% of the true class"),
        "roc": ("1 − specificity (false positive rate)", "recall (sensitivity)", "guessing, 0.50"),
        "precision_recall": ("recall (sensitivity)", "precision"),
        "reliability": ("probability of the predicted class", "share that is right", "samples"),
    }
    found = drawn(tmp_path)
    assert found.keys() == axes.keys()
    for name, words in axes.items():
        for word in (*words, "run on data, val"):
            assert f"<!-- {word} -->" in found[name], (name, word)
    truth, probabilities = predictions()
    for label, name in enumerate(NAMES):
        area = metrics.roc_auc_score(truth == label, probabilities[:, label])
        assert f"<!-- {name}, {area:.2f} -->" in found["roc"]
        precision = metrics.average_precision_score(truth == label, probabilities[:, label])
        assert f"<!-- {name}, {precision:.2f} -->" in found["precision_recall"]


@pytest.mark.slow
def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")


def test_the_matrix_shows_counts_and_percentages(tmp_path: Path) -> None:
    png, svg = draw_confusion(
        tmp_path / "confusion", [[17, 3], [0, 31]], ["Focal", "Mili$ary"], "val\nkappa 0.9"
    )
    assert (png.name, svg.name) == ("confusion.png", "confusion.svg")
    text = svg.read_text()
    for word in ("17", "85 %", "3", "15 %", "0", "31", "100 %", "Focal", "Mili$ary", "kappa 0.9"):
        assert word in text, word


def test_a_matrix_of_many_classes_is_drawn_without_numbers(tmp_path: Path) -> None:
    counts = np.full((40, 40), 7)
    _, svg = draw_confusion(tmp_path / "confusion", counts.tolist(), [f"c{n}" for n in range(40)], "val")
    assert "<!-- c39 -->" in svg.read_text()
    assert "<!-- 7 -->" not in svg.read_text()


def test_names_in_a_script_that_the_font_lacks_are_no_failure(tmp_path: Path) -> None:
    draw_confusion(tmp_path / "confusion", [[1, 0], [0, 1]], ["結核", "Focal"], "val")


def test_a_class_that_does_not_occur_is_named_without_a_curve(tmp_path: Path) -> None:
    truth, probabilities = np.array([0, 0, 1, 1]), predictions()[1][:4]
    scores = score(truth, probabilities, NAMES, draws=20)
    draw_scores(tmp_path, scores, truth, probabilities, "run on data")
    assert "<!-- COVID-19, not defined -->" in (tmp_path / "roc.svg").read_text()


@pytest.mark.parametrize("seed", range(5))
def test_the_area_under_the_steps_is_the_average_precision(seed: int) -> None:
    truth, probabilities = predictions(seed)
    score_of_class = np.round(probabilities[:, 1].astype(float), 1)  # many are equal
    curve = precision_recall(truth == 1, score_of_class)
    assert curve is not None
    steps = _steps(curve)
    area = -np.sum(np.diff(steps.x) * steps.y[:-1])
    assert area == pytest.approx(metrics.average_precision_score(truth == 1, score_of_class))
    assert np.all(np.diff(steps.x) < 0)
