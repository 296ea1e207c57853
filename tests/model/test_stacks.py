"""Runs over pictures: accuracy in each stack, on the same pictures, and drawn over time."""

import csv
import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from cli import main
from model import judged, timeline
from model.compare import as_json, compare
from model.compare_text import text
from model.evaluate import evaluate
from model.judged import Judged, has_places, read_table
from model.predictions import Prediction, draw_timelines
from model.run_facts import read_facts
from model.run_page import write_run_page
from model.same_pictures import same_pictures
from model.score_text import text as evaluation_text
from model.settings import Settings, Window
from model.stacks import per_stack
from model.training import train
from pipeline.errors import ConfigError

STACKS = {"A": "0000011122", "B": "222200b111", "C": "0011111", "D": "aa000000"}
VAL = ("C", "D")
MODULE = """
import keras

def net(shape, classes):
    sample = keras.Input(shape)
    scores = keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(sample))
    return keras.Model(sample, scores)
"""
SMALL = Settings(model="nets_of_stacks:net", epochs=1, batch_size=4)
FIVE = replace(SMALL, window=Window(5, 2, "same"))


def sample(stack: str, positions: Sequence[int], truth: Sequence[int], predicted: Sequence[int]) -> Judged:
    ids = tuple(f"{stack}/{position:03}" for position in positions)
    places = tuple((stack, position) for position in positions)
    return Judged(ids, np.array(truth), np.array(predicted), (stack,) * len(ids), places)


def test_every_stack_counts_once() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 2])
    found = per_stack(truth, predicted, ["long", "long", "long", "long", "short"])
    assert found.accuracy == {"long": 0.75, "short": 1.0}
    assert found.mean == pytest.approx(0.875)
    assert found.deviation == pytest.approx(0.125)


def test_recall_of_a_class_that_does_not_occur_is_not_defined() -> None:
    one = sample("A", range(4), [0, 0, 1, 1], [0, 1, 1, 1])
    found = same_pictures({"one": one}, ("x", "y", "z"))
    assert (found.pictures, found.stacks) == (4, 1)
    assert found.runs["one"].recall == {"x": 0.5, "y": 1.0, "z": None}


def test_a_table_keeps_the_place_of_each_picture(tmp_path: Path) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    places = [("=A", 7), ("B", 0)]
    written = judged.table(("=A/7", "B/0"), (0, 1), probabilities, ("", "g"), ("x", "y"), places=places)
    (tmp_path / "with.csv").write_bytes(written)
    found = read_table(tmp_path / "with.csv", ("x", "y"))
    assert found.places == (("'=A", 7), ("B", 0))
    assert found.groups == ("", "g")
    assert found.in_order_of_ids().only({"B/0"}).places == (("B", 0),)
    plain = judged.table(("a", "b"), (0, 1), probabilities, ("", "g"), ("x", "y"))
    (tmp_path / "without.csv").write_bytes(plain)
    assert read_table(tmp_path / "without.csv", ("x", "y")).places == ()
    assert [has_places(tmp_path / name) for name in ("with.csv", "without.csv")] == [True, False]


# --- whole runs ---------------------------------------------------------------------------------


@pytest.fixture
def runs(
    make_pictures: Callable, make_split: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A run of single pictures and one of windows of five, evaluated."""
    (tmp_path / "nets_of_stacks.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    store = make_pictures(STACKS)
    parts = {
        name: [row.id for row in store.rows if (row.stack in VAL) == (name == "val")]
        for name in ("train", "val")
    }
    split = make_split(store, parts=parts)
    made = [
        train(store.path, split, tmp_path / name, settings)
        for name, settings in (("single", SMALL), ("windows", FIVE))
    ]
    for run in made:
        evaluate(run)
    return made[0], made[1]


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_windows_and_pictures_are_judged_on_the_same_frames(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """C has 7 pictures and D 8: windows of five end at 4, 5, 6 of C and at 4 to 7 of D."""
    single, windows = runs
    assert len(rows_of(single)) == 15
    ends = [f"C/{n:03}" for n in (4, 5, 6)] + [f"D/{n:03}" for n in (4, 5, 6, 7)]
    assert [row["id"] for row in rows_of(windows)] == ends
    assert [row["label"] for row in rows_of(windows)] == [
        *["Focal"] * 3,
        *["Infiltrative"] * 4,
    ]
    assert [row["position"] for row in rows_of(windows)] == ["4", "5", "6", "4", "5", "6", "7"]

    found = compare(runs, timelines=tmp_path / "pictures")

    assert found.same is not None
    assert found.pair is not None
    assert (found.same.pictures, found.same.stacks, found.pair.samples) == (7, 2, 7)
    for name, run in (("single", single), ("windows", windows)):
        right = [row["label"] == row["predicted"] for row in rows_of(run) if row["id"] in ends]
        stacks = [np.mean(right[:3]), np.mean(right[3:])]
        on_same = found.same.runs[name]
        assert on_same.accuracy == pytest.approx(np.mean(right))
        assert on_same.stacks.mean == pytest.approx(np.mean(stacks))
        assert on_same.stacks.deviation == pytest.approx(np.std(stacks))
    assert "On the same 7 pictures of 2 stacks" in text(found)
    assert all(len(line) <= 80 for line in text(found).splitlines())
    assert json.loads(json.dumps(as_json(found)))["same_pictures"]["pictures"] == 7
    assert [path.name for path in found.files] == [
        f"timeline_{number}.{suffix}" for number in (1, 2) for suffix in ("png", "svg")
    ]
    assert all(path.is_file() for path in found.files)
    check_evaluation(single)


def check_evaluation(single: Path) -> None:
    """What an evaluation of single pictures says of its stacks, counted again from its table."""
    metrics = json.loads((single / "metrics.json").read_text())
    right: dict[str, list[bool]] = {stack: [] for stack in VAL}
    for row in rows_of(single):
        right[row["stack"]].append(row["label"] == row["predicted"])
    shares = {stack: np.mean(found) for stack, found in right.items()}
    assert metrics["stacks"]["accuracy"] == pytest.approx(shares)
    assert {"timeline_1.png", "timeline_2.svg"} <= set(metrics["files"])
    mean, deviation = np.mean(list(shares.values())), np.std(list(shares.values()))
    found = evaluation_text(evaluate(single))
    assert f"accuracy per stack  {mean:.2f} ± {deviation:.2f}" in found
    assert all(len(line) <= 80 for line in found.splitlines())


@pytest.mark.slow
def test_the_page_of_windows_shows_them_over_time(runs: tuple[Path, Path]) -> None:
    (page,) = write_run_page([runs[1]], None, cards=False)
    names = [figure.name for figure in read_facts(runs[1], name="windows", of=1).figures]
    assert names[-2:] == ["timeline_1", "timeline_2"]
    text = page.read_text("utf-8")
    assert "True classes of one stack over time" in text
    wrong = [row["id"] for row in rows_of(runs[1]) if row["label"] != row["predicted"]]
    assert wrong
    assert all(f"<b>{sample}</b>" in text for sample in wrong)


def test_volumes_have_neither_stacks_nor_timelines(finished: Any, tmp_path: Path) -> None:
    run = shutil.copytree(finished.run, tmp_path / "copy")  # which the evaluation adds files to
    assert evaluate(run).stacks is None
    assert not (run / "timeline_1.png").exists()
    assert compare([run, run]).same is None
    with pytest.raises(ConfigError, match="no-pictures: the runs have no pictures in common"):
        compare([run], timelines=tmp_path / "pictures")
    result = CliRunner().invoke(main, ["compare", str(run), "--timelines", str(tmp_path / "pictures")])
    assert result.exit_code == 2


# --- the picture --------------------------------------------------------------------------------


def bars_of(figure: Figure) -> list[tuple[float, float, float]]:
    """First and last position, and the lane, of each bar in the order in which they were drawn."""
    (axes,) = figure.axes
    found = []
    for collection in axes.collections:
        assert isinstance(collection, PolyCollection)
        for path in collection.get_paths():
            low, high = path.vertices.min(axis=0), path.vertices.max(axis=0)
            found.append((float(low[0]), float(high[0]), float((low[1] + high[1]) / 2)))
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in place of files."""
    figures: list[Figure] = []

    def draw_only(path: Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> list[Path]:
        figures.append(Figure(figsize=inches))
        draw(figures[-1])
        return [path]

    monkeypatch.setattr(timeline, "save_figure", draw_only)
    return figures


def test_bars_cover_the_pictures_of_each_class(tmp_path: Path, drawn: list[Figure]) -> None:
    # Position 6 is missing: the bar ends before it, and begins anew behind it.
    one = sample("A", [4, 5, 7, 8], truth=[0, 0, 0, 1], predicted=[0, 1, 0, 1])
    timeline.draw_timeline(tmp_path / "one", {"run": one}, ("x", "y"), "title")
    truth = [(3.5, 5.5, 0.0), (6.5, 7.5, 0.0), (7.5, 8.5, 1.0)]
    predicted = [(3.5, 4.5, 0.0), (6.5, 7.5, 0.0), (4.5, 5.5, 1.0), (7.5, 8.5, 1.0)]
    np.testing.assert_allclose(bars_of(drawn[0]), [*truth, *predicted], atol=1e-9)
    legend = drawn[0].axes[0].get_legend()
    assert [entry.get_text() for entry in legend.get_texts()] == ["true class", "run, accuracy 0.75"]


def test_without_a_truth_there_are_the_predictions_alone(tmp_path: Path, drawn: list[Figure]) -> None:
    """Windows end at 4 to 8; position 6 cannot be read, and C's two slices do not know their places."""
    found = [Prediction(f"A/{n}", "a.avi", (0.9, 0.1), "A", n) for n in (5, 4)]
    found += [Prediction(f"A/{n}", "a.avi", (0.2, 0.8), "A", n) for n in (7, 8)]
    found += [Prediction(f"C_{n}", f"C_{n}.png", (0.2, 0.8), "C") for n in (30, 31)]
    draw_timelines(tmp_path, found, ("x", "y"), [tmp_path / "3d", tmp_path / "2+1d"])
    first, second = drawn
    np.testing.assert_allclose(bars_of(first), [(3.5, 5.5, 0.0), (6.5, 8.5, 1.0)], atol=1e-9)
    np.testing.assert_allclose(bars_of(second), [(-0.5, 1.5, 1.0)], atol=1e-9)
    assert first.axes[0].get_xlim() == (-0.5, 8.5)
    assert first.axes[0].get_title(loc="left") == "A: classes predicted by the mean of 3d, 2+1d"
    assert [tick.get_text() for tick in first.axes[0].get_yticklabels()] == ["x", "y"]


def test_runs_lie_below_each_other_in_the_order_of_the_legend(tmp_path: Path) -> None:
    pictures = {name: sample("A", range(3), [0, 1, 1], [0, 1, 0]) for name in ("2d", "3d", "2+1d")}
    timeline.draw_timelines(tmp_path, pictures, ("x", "y<&"), "ultra")
    assert (tmp_path / "timeline_1.png").stat().st_size > 5000
    assert ET.parse(tmp_path / "timeline_1.svg").getroot().tag.endswith("svg")
    assert not (tmp_path / "timeline_2.png").exists()
