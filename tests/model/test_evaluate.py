"""What `evaluate` writes into a run, beside scikit-learn's numbers, and what it refuses."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn import metrics

from cli import main
from model.evaluate import as_json, evaluate
from model.run_folder import CONFIG
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]
COVIDX = ("Normal", "Pneumonia", "COVID-19")


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_agree_with_the_scores(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store()
    split = make_split(store, parts={"train": ["S000"], "val": ["S005", "S004", "S003", "S002"]})
    run = make_run(store, split)
    found = evaluate(run)
    rows = rows_of(run)
    assert [row["id"] for row in rows] == ["S005", "S004", "S003", "S002"]
    assert [row["label"] for row in rows] == ["Tuberculoma", "Focal", "Infiltrative", "Tuberculoma"]
    for row in rows:
        numbers = {name: float(row[name]) for name in store.header.classes}
        assert sum(numbers.values()) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == max(numbers, key=numbers.__getitem__)
    hits = sum(row["label"] == row["predicted"] for row in rows)
    assert found.scores.accuracy.value == pytest.approx(hits / 4)
    document = json.loads((run / "metrics.json").read_text())
    assert document["scores"]["confusion"] == [list(row) for row in found.scores.confusion]
    assert document["store_digest"] == store.digest


def test_the_document_holds_every_score_and_the_keys_of_earlier_versions(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store(per_class=8)
    run = make_run(store, make_split(store, parts={"val": [f"S{n:03}" for n in range(24)]}))
    evaluate(run)
    scores, rows = json.loads((run / "metrics.json").read_text())["scores"], rows_of(run)
    names = list(store.header.classes)
    truth, predicted = ([row[column] for row in rows] for column in ("label", "predicted"))
    probabilities = np.array([[float(row[name]) for name in names] for row in rows])
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert scores["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, predicted))
    f1 = metrics.f1_score(truth, predicted, labels=names, average=None, zero_division=0)
    assert list(scores["f1"].values()) == pytest.approx(list(f1))
    assert scores["confusion"] == metrics.confusion_matrix(truth, predicted, labels=names).tolist()
    one_hot = np.array(truth)[:, np.newaxis] == np.array(names)
    assert list(scores["auc"].values()) == pytest.approx(
        metrics.roc_auc_score(one_hot, probabilities, average=None)
    )
    assert scores["macro"]["recall"] == pytest.approx(metrics.balanced_accuracy_score(truth, predicted))
    assert {"accuracy", "kappa", "f1 Focal", "macro auc", "specificity Focal"} <= set(scores["intervals"])
    assert all(low <= high for low, high in scores["intervals"].values())


def test_every_file_that_is_named_is_there_and_the_scores_come_last(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    pytest.importorskip("matplotlib")
    store = make_store()
    run = make_run(store, make_split(store))
    before = {path.name for path in run.iterdir()}
    found = evaluate(run)
    figures = ("confusion", "roc", "precision_recall", "reliability")  # it was never trained: no curves
    names = {f"{name}.{suffix}" for name in figures for suffix in ("png", "svg")}
    assert set(found.files) == {path.name for path in run.iterdir()} - before
    assert set(found.files) == names | {"metrics.json", "predictions.csv", "network.svg"}
    assert json.loads((run / "metrics.json").read_text()) == json.loads(json.dumps(as_json(found)))
    assert (run / "metrics.json").stat().st_mtime_ns == max(
        (run / name).stat().st_mtime_ns for name in found.files
    )


def test_the_command_prints_the_scores_and_names_the_files(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    result = CliRunner().invoke(main, ["evaluate", str(run)])
    assert result.exit_code == 0, result.stderr
    assert all(name in result.stdout for name in store.header.classes)
    told = " ".join(result.stderr.split())
    assert f"written into {run}: metrics.json, predictions.csv, confusion.png, confusion.svg, roc.png" in told
    document = json.loads(CliRunner().invoke(main, ["evaluate", str(run), "--json"]).stdout)
    assert document == json.loads((run / "metrics.json").read_text())


@pytest.mark.slow
def test_without_matplotlib_there_are_scores_but_no_figures(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model.plots", None)  # importing it fails, as without matplotlib
    store = make_store()
    lines: list[str] = []
    found = evaluate(make_run(store, make_split(store)), say=lines.append)
    assert found.files == ("metrics.json", "predictions.csv", "network.svg")
    assert "no figures: matplotlib is missing → pip install 'viptt[train]'" in lines


# --- groups -------------------------------------------------------------------------------------


def test_groups_are_decided_for_beside_samples(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    # S000 to S011 are of the classes 0 1 2 0 1 2 …; a patient has all four samples of a class.
    store = make_store(classes=COVIDX, group_of=lambda index: f"P{index % 3}")
    run = make_run(store, make_split(store, parts={"val": [r.id for r in store.rows]}))
    found = evaluate(run)
    rows = rows_of(run)
    assert [(level.unit, level.rule, level.scores.samples) for level in found.levels] == [
        ("group", "mean", 3),
        ("group", "any", 3),
    ]
    right = 0
    for patient, name in enumerate(COVIDX):
        of_patient = [row for row in rows if row["group"] == f"P{patient}"]
        assert {row["label"] for row in of_patient} == {name}
        means = {c: np.mean([float(row[c]) for row in of_patient]) for c in COVIDX}
        right += max(means, key=means.__getitem__) == name
    assert found.levels[0].scores.accuracy.value == pytest.approx(right / 3)
    assert (found.scores.groups, found.background) == (3, "Normal")
    levels = json.loads((run / "metrics.json").read_text())["levels"]
    assert [level["scores"]["samples"] for level in levels] == [3, 3]


@pytest.mark.slow
def test_groups_of_several_classes_have_no_decision(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store(group_of=lambda index: f"P{index // 3}")
    lines: list[str] = []
    found = evaluate(make_run(store, make_split(store)), say=lines.append)
    assert found.levels == ()
    assert any(line.startswith("no decisions for a group: ") and "P0" in line for line in lines)


def test_a_background_that_is_no_class_is_refused_before_anything_is_predicted(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    result = CliRunner().invoke(main, ["evaluate", str(run), "--background", "Norml"])
    assert result.exit_code == 2
    assert (
        "--background: unknown-name: there is no class 'Norml' → give one of: Infiltrative" in result.stderr
    )
    assert not (run / "predictions.csv").exists()


# --- what is evaluated --------------------------------------------------------------------------


@pytest.mark.slow
def test_another_part_can_be_named(make_store: MakeStore, make_split: MakeSplit, make_run: Callable) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    assert evaluate(run, split="train").scores.samples == 9
    with pytest.raises(IntegrityError, match="only train, val"):
        evaluate(run, split="test")


def test_another_store_of_the_same_classes_can_be_named(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store, other = make_store(), make_store(name="other", seed=1)
    run = make_run(store, make_split(store))
    found = evaluate(run, store=other.path, split_file=make_split(other, name="other"))
    assert (found.store_digest, found.dataset) == (other.digest, "other")


@pytest.mark.slow
def test_another_recipe_is_told(make_store: MakeStore, make_split: MakeSplit, make_run: Callable) -> None:
    store, other = make_store(), make_store(name="other", type_="video", preset="viptt-2021")
    run, lines = make_run(store, make_split(store)), []
    evaluate(run, say=lines.append)
    assert not any("recipe" in line for line in lines)
    evaluate(run, store=other.path, split_file=make_split(other, name="other"), say=lines.append)
    assert any("another recipe" in line for line in lines)


def test_other_classes_are_refused(make_store: MakeStore, make_split: MakeSplit, make_run: Callable) -> None:
    store, other = make_store(), make_store(name="other", classes=("a", "b"))
    run = make_run(store, make_split(store))
    with pytest.raises(ConfigError, match="other-classes"):
        evaluate(run, store=other.path, split_file=make_split(other, name="other"))


def test_another_shape_is_refused(make_store: MakeStore, make_split: MakeSplit, make_run: Callable) -> None:
    store, other = make_store(), make_store(name="other", shape=(5, 32, 32))
    run = make_run(store, make_split(store))
    with pytest.raises(ConfigError, match="other-shape"):
        evaluate(run, store=other.path, split_file=make_split(other, name="other"))


def test_damage_is_named(make_store: MakeStore, make_split: MakeSplit, make_run: Callable) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    store.chunk(2).unlink()
    with pytest.raises(IntegrityError, match=r"sample S002\): missing-chunk"):
        evaluate(run)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "data": {}}'])
def test_a_damaged_configuration_is_refused(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable, content: bytes
) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    (run / CONFIG).write_bytes(content)
    with pytest.raises(IntegrityError, match="config-damaged"):
        evaluate(run)


def test_a_run_without_weights_is_refused(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store()
    run = make_run(store, make_split(store))
    (run / "model.weights.h5").unlink()
    with pytest.raises(ConfigError, match="no-weights"):
        evaluate(run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not-a-run"):
        evaluate(tmp_path)
