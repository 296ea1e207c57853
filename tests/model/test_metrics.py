import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.evaluate import evaluate, table
from model.metrics import intervals, score
from model.run_folder import CONFIG
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store

MakeStore = Callable[..., Store]
MakeSplit = Callable[..., Path]


def by_hand(confusion: list[list[int]]) -> tuple[float, float, list[float]]:
    """Accuracy, kappa and F1 from a confusion matrix, by the formulas of the paper's section 3.3."""
    m = np.array(confusion, float)
    n, true, found, hit = m.sum(), m.sum(axis=1), m.sum(axis=0), m.diagonal()
    agreement, chance = hit.sum() / n, (true * found).sum() / n**2
    return agreement, (agreement - chance) / (1 - chance), list(2 * hit / (true + found))


# --- scores -------------------------------------------------------------------------------------


def test_scores_of_a_table_that_was_worked_out_by_hand() -> None:
    # 20 and 15 agreements of 50; p0 = 0.7, pe = 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa = 0.4
    truth = [0] * 25 + [1] * 25
    found = [0] * 20 + [1] * 5 + [0] * 10 + [1] * 15
    scores = score(truth, found, ["yes", "no"])
    assert scores.confusion == ((20, 5), (10, 15))
    assert scores.accuracy == pytest.approx(0.7)
    assert scores.kappa == pytest.approx(0.4)
    assert scores.f1 == pytest.approx({"yes": 40 / 55, "no": 30 / 45})


def test_scores_follow_the_formulas_for_five_classes() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    scores = score(truth.tolist(), found, list("abcde"))
    accuracy, kappa, f1 = by_hand([list(row) for row in scores.confusion])
    assert scores.confusion[1][3] == sum((truth == 1) & (found == 3))
    assert (scores.accuracy, scores.kappa) == pytest.approx((accuracy, kappa))
    assert list(scores.f1.values()) == pytest.approx(f1)


def test_classes_may_be_absent() -> None:
    scores = score([0, 0, 1], [0, 2, 1], ["a", "b", "c", "d"])
    assert scores.f1 == {"a": pytest.approx(2 / 3), "b": 1.0, "c": 0.0, "d": None}
    assert len(scores.confusion) == 4


def test_kappa_of_one_class_is_not_defined() -> None:
    assert score([1, 1], [1, 1], ["a", "b"]).kappa is None


def test_the_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Draw samples from a known table; about 95 of 100 intervals must hold the known scores."""
    truth = np.array([[0.35, 0.15], [0.10, 0.40]])  # accuracy 0.75, kappa 0.5
    rng = np.random.default_rng(0)
    held = {"accuracy": 0, "kappa": 0}
    for _ in range(100):
        confusion = rng.multinomial(200, truth.ravel()).reshape(2, 2)
        found = intervals(confusion, ["a", "b"], draws=500)
        for name, value in (("accuracy", 0.75), ("kappa", 0.5)):
            held[name] += found[name][0] <= value <= found[name][1]
    assert all(88 <= count <= 99 for count in held.values()), held


def test_the_width_of_an_interval_is_that_of_the_binomial_distribution() -> None:
    low, high = intervals(np.array([[60, 20], [10, 10]]), ["a", "b"])["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 100), rel=0.1)


def test_a_score_that_is_not_defined_has_no_interval() -> None:
    found = intervals(np.array([[3, 0], [0, 0]]), ["a", "b"])
    assert set(found) == {"accuracy", "f1 a"}
    assert found["accuracy"] == (1.0, 1.0)


# --- evaluate -----------------------------------------------------------------------------------


def test_the_files_agree_with_the_scores(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store()
    split = make_split(store, parts={"train": ["S000"], "val": ["S005", "S004", "S003", "S002"]})
    run = make_run(store, split)
    metrics = evaluate(run)
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["S005", "S004", "S003", "S002"]
    assert [row["label"] for row in rows] == ["Tuberculoma", "Focal", "Infiltrative", "Tuberculoma"]
    for row in rows:
        numbers = {name: float(row[name]) for name in store.header.classes}
        assert sum(numbers.values()) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == max(numbers, key=numbers.__getitem__)
    hits = sum(row["label"] == row["predicted"] for row in rows)
    assert metrics.scores.accuracy == pytest.approx(hits / 4)
    document = json.loads((run / "metrics.json").read_text())
    assert document["scores"]["confusion"] == [list(row) for row in metrics.scores.confusion]
    assert document["store_digest"] == store.digest


def test_the_table_names_every_class(
    make_store: MakeStore, make_split: MakeSplit, make_run: Callable
) -> None:
    store = make_store()
    text = table(evaluate(make_run(store, make_split(store))))
    assert text.startswith("val: 3 samples, accuracy ")
    assert all(name in text for name in store.header.classes)


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
    metrics = evaluate(run, store=other.path, split_file=make_split(other, name="other"))
    assert metrics.store_digest == other.digest


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
