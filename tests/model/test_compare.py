"""Runs side by side: what is listed, which papers stand beside them, and when one run is better."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import binom

from cli import main
from model import judged
from model.compare import Comparison, as_json, compare, pair
from model.compare_text import text
from model.judged import Judged, read_table
from model.levels import levels
from model.published import COVIDX, PAPERS, SONONET, TB, papers_for
from model.run_folder import Config, create_run, describe, write_json
from model.scores import as_json as scores_json
from model.scores import score
from model.settings import Settings
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store

TRUTH = np.arange(60) % 3


@pytest.fixture
def make_entry(make_store: Callable[..., Store], make_split: Callable, tmp_path: Path) -> Callable[..., Path]:
    """A run's folder with the files that `viptt evaluate` writes for these predictions."""
    made: dict[tuple[str, ...], tuple[Store, Path]] = {}

    def make(
        name: str,
        predicted: Sequence[int] | None = None,
        *,
        classes: tuple[str, ...] = COVIDX,
        truth: np.ndarray = TRUTH,
        groups: Sequence[str] = ("",) * len(TRUTH),
        dataset: str = "data",
        depth: int = 4,
        **settings: Any,
    ) -> Path:
        if classes not in made:
            store = make_store(name=f"store{len(made)}", classes=classes, per_class=2, shape=(depth, 32, 32))
            made[classes] = store, make_split(store, name=f"split{len(made)}")
        folder = tmp_path / name
        create_run(folder, Config(Settings(**settings), describe(*made[classes])))
        if predicted is not None:
            shares = 0.1 + 0.7 * np.eye(len(classes))[np.asarray(predicted)]
            scores = score(truth, shares, classes, groups=groups, draws=50)
            document = {"split": "val", "dataset": dataset, "scores": scores_json(scores)}
            ids = [f"S{index:03}" for index in range(len(TRUTH))]
            (folder / "predictions.csv").write_bytes(
                judged.table(ids, truth.tolist(), shares, groups, classes)
            )
            write_json(folder / "metrics.json", document)
        return folder

    return make


def wrong_at(*places: int) -> np.ndarray:
    """Predictions that are right but at these places."""
    predicted = TRUTH.copy()
    predicted[list(places)] = (predicted[list(places)] + 1) % 3
    return predicted


# --- runs side by side --------------------------------------------------------------------------


def test_a_comparison_tells_what_evaluating_found(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("a", wrong_at(0)), make_entry("b", wrong_at(1, 2), strategy="pt", init="somewhere")]
    entries = compare(runs).entries
    assert [(entry.name, entry.strategy) for entry in entries] == [("a", "no-pt"), ("b", "pt")]
    scores = json.loads((runs[1] / "metrics.json").read_text())["scores"]
    found = entries[1]
    assert (found.kappa, found.accuracy, found.f1) == (scores["kappa"], scores["accuracy"], scores["f1"])
    assert (found.macro_f1, found.auc) == (scores["macro"]["f1"], scores["macro"]["auc"])
    lines = text(compare(runs)).splitlines()
    assert lines[0].split()[:3] == ["run", "network", "strategy"]
    assert lines[2].split() == ["b", "viptt-net", "pt", "val", "60", "0.95", "0.97", "0.97"]


def test_a_run_that_is_not_evaluated_is_listed_as_such(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("a", wrong_at(0)), make_entry("unfinished")]
    found = compare(runs)
    assert [entry.split for entry in found.entries] == ["val", None]
    assert found.pair is found.unpaired is None
    lines = text(found).splitlines()
    assert lines[2].split() == ["unfinished", "viptt-net", "no-pt", "not", "evaluated"]
    assert f"unfinished is not evaluated yet: viptt evaluate {runs[1]}" in lines
    assert as_json(found)["runs"][1]["kappa"] is None


def test_only_runs_that_are_not_evaluated(make_entry: Callable[..., Path]) -> None:
    result = CliRunner().invoke(main, ["compare", str(make_entry("a"))])
    assert (result.exit_code, result.stdout.count("  not evaluated\n")) == (0, 1)


def test_a_run_that_was_trained_on_since_is_told(make_entry: Callable[..., Path]) -> None:
    run = make_entry("a", wrong_at(0))
    (run / "model.weights.h5").write_bytes(b"old")
    document = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", {**document, "weights_sha256": hashlib.sha256(b"old").hexdigest()})
    assert not compare([run]).entries[0].outdated
    (run / "model.weights.h5").write_bytes(b"new")
    assert f"a was trained on since it was evaluated: viptt evaluate {run}" in text(compare([run]))


def test_equal_names_are_told_apart(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry(name, wrong_at(0)) for name in ("mine/run", "other/run", "third")]
    found = compare(runs)
    assert [entry.name for entry in found.entries] == [str(runs[0]), str(runs[1]), "third"]


def test_runs_on_other_classes_have_tables_of_their_own(make_entry: Callable[..., Path]) -> None:
    runs = [
        make_entry("a", wrong_at(0)),
        make_entry("x", classes=("x", "y")),
        make_entry("b", wrong_at(1, 2)),
    ]
    found = compare(runs)
    assert [entry.name for entry in found.entries] == ["a", "b"]
    assert replace(found, apart=()) == compare([runs[0], runs[2]])
    assert found.apart == (compare([runs[1]]),)
    first, second = text(found).split("On other classes, and not to be compared with the runs above:\n\n")
    assert [line.split()[0] for line in first.splitlines()[1:3]] == ["a", "b"]
    assert second == text(compare([runs[1]]))
    assert [entry["name"] for entry in as_json(found)["apart"][0]["runs"]] == ["x"]


def test_equal_names_are_told_apart_across_classes(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("mine/run", wrong_at(0)), make_entry("other/run", classes=("x", "y"))]
    found = compare(runs)
    assert (found.entries[0].name, found.apart[0].entries[0].name) == (str(runs[0]), str(runs[1]))


def test_pictures_over_time_want_the_same_classes(make_entry: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--timelines: other-classes"):
        compare([make_entry("a", wrong_at(0)), make_entry("b", classes=("x", "y"))], timelines=tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"scores": 3}', '{"scores": {"f1": 3}}'])
def test_damaged_metrics_are_refused(make_entry: Callable[..., Path], content: str) -> None:
    run = make_entry("a", wrong_at(0))
    (run / "metrics.json").write_text(content)
    with pytest.raises(IntegrityError, match="metrics-damaged"):
        compare([run])


def test_no_run_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="no-runs"):
        compare([])


@pytest.mark.slow
def test_metrics_of_version_0_1_0_call_the_split_a_part(finished: Any, tmp_path: Path) -> None:
    run = shutil.copytree(finished.run, tmp_path / "run")
    scores = {"samples": 3, "kappa": 0.5, "accuracy": 0.5, "f1": {"a": None, "b": 0.25, "c": 0.75}}
    (run / "metrics.json").write_text(json.dumps({"part": "test", "scores": scores}))
    (entry,) = compare([run]).entries
    assert (entry.split, entry.samples, entry.macro_f1, entry.auc) == ("test", 3, 0.5, None)


# --- papers -------------------------------------------------------------------------------------


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    (paper,) = papers_for(TB, depth=70)
    tables = [(e.strategy, e.kappa, *e.f1.values()) for e in paper.figures if e.name == "paper, Table 1"]
    assert tables == [
        ("no-pt", 0.17, 0.61, 0.46, 0.0, 0.2, 0.14),
        ("pt", 0.35, 0.68, 0.56, 0.09, 0.4, 0.48),
        ("pt+cw", 0.30, 0.59, 0.41, 0.37, 0.33, 0.65),
        ("pt+cw+aug", 0.33, 0.59, 0.47, 0.27, 0.54, 0.61),
    ]


def test_the_figures_for_covidx_are_those_that_were_printed(shared: Path) -> None:
    runs = json.loads((shared / "oracle_covid/metrics.json").read_text())["runs"]
    tests = [
        evaluation["printed"]
        for run in runs.values()
        for evaluation in run["evaluations"]
        if evaluation["printed"]["split"] == "test"
    ]
    (paper,) = papers_for(COVIDX, depth=1)
    found = [(100 * line.accuracy, [100 * f1 for f1 in line.f1.values()]) for line in paper.figures]
    assert len(found) == len(tests) == 2
    for (accuracy, f1), printed in zip(found, tests, strict=True):
        assert accuracy == pytest.approx(printed["acc"])
        assert f1 == pytest.approx(printed["f1"])


@pytest.mark.parametrize(
    ("classes", "depth", "expected"),
    [
        (TB, 70, ["paper: Zunair"]),
        (tuple(reversed(TB)), 70, ["paper: Zunair"]),
        (("infiltrative", "FOCAL", "Tuberculoma", "Miliary", "Fibro cavernous"), 70, ["paper: Zunair"]),
        (TB[:4], 70, []),
        (TB, 1, []),
        (COVIDX, 1, ["CT-ID: Makhdo"]),
        (COVIDX, 16, []),
        (SONONET, 1, ["SpaceTime-Son"]),
        (SONONET[:6], 1, []),
        (("cat", "dog"), 1, []),
    ],
)
def test_a_paper_stands_beside_its_own_task_alone(
    classes: tuple[str, ...], depth: int, expected: list[str]
) -> None:
    assert [paper.source[:13] for paper in papers_for(classes, depth=depth)] == expected


def test_papers_stand_below_the_runs(make_entry: Callable[..., Path]) -> None:
    shown = text(compare([make_entry("a", wrong_at(0), classes=TB)]))
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "paper, Table 1 viptt-net no-pt val 184 0.17 – –" in rows
    assert "paper, Table 1, no-pt 0.61 0.46 0.00 0.20 0.14" in rows
    assert "paper, Table 2 viptt-net pt test 421 0.13 0.42 –" in rows
    assert "paper" not in text(compare([make_entry("b", wrong_at(0))]))  # COVIDx classes, but volumes


def test_columns_follow_the_classes_of_the_run(make_entry: Callable[..., Path]) -> None:
    shown = text(compare([make_entry("a", wrong_at(0), classes=tuple(reversed(TB)))]))
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "paper, Table 1, no-pt 0.14 0.20 0.00 0.46 0.61" in rows


def test_usual_tables_fit_a_terminal(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("tb-with-aug", wrong_at(0), classes=TB), make_entry("b", wrong_at(3), classes=TB)]
    assert max(map(len, text(compare(runs)).splitlines())) <= 80
    for paper in PAPERS:
        lines = text(Comparison((compare(runs).entries[0],), (paper,))).splitlines()
        assert max(map(len, lines)) <= 80


# --- two runs -----------------------------------------------------------------------------------


def test_a_run_that_is_better_by_more_than_chance(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("weak", wrong_at(*range(0, 40, 2))), make_entry("strong", wrong_at(1, 3))]
    found = compare(runs).pair
    assert found is not None
    assert (found.mcnemar.first_only, found.mcnemar.second_only) == (2, 20)
    assert found.mcnemar.p_value == pytest.approx(2 * binom.cdf(2, 22, 0.5))
    assert found.accuracy.value == pytest.approx(18 / 60)
    assert 0 < found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.better == 1
    shown = " ".join(text(compare(runs)).split())
    assert "strong is better, by more than chance explains. Of the same 60 samples, weak alone is" in shown
    assert "weak alone is right on 2, strong alone on 20" in shown
    assert "strong less weak: accuracy +0.30 [+0." in shown
    assert as_json(compare(runs[::-1]))["pair"]["better"] == 0


def test_a_difference_that_chance_explains(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("a", wrong_at(0, 2, 4)), make_entry("b", wrong_at(1))]
    found = compare(runs)
    assert found.pair is not None
    assert found.pair.better is None
    assert "Chance may explain the difference of the two runs." in text(found)


def test_equal_runs_are_right_on_the_same_samples(make_entry: Callable[..., Path]) -> None:
    found = compare([make_entry("a", wrong_at(0)), make_entry("b", wrong_at(0))])
    assert "Both runs are right on the same samples." in text(found)


def test_what_few_groups_show_may_be_chance() -> None:
    """Twenty slices of one patient are no twenty patients: the interval over groups decides."""
    ids = tuple(f"S{index:03}" for index in range(60))
    groups = ("P0",) * 20 + tuple(f"P{index}" for index in range(1, 41))
    weak, strong = (Judged(ids, TRUTH, wrong, groups) for wrong in (wrong_at(*range(20)), TRUTH))
    grouped, single = pair(weak, strong, groups, 3), pair(weak, strong, ("",) * 60, 3)
    assert grouped.mcnemar == single.mcnemar
    assert grouped.mcnemar.p_value < 0.001
    assert (grouped.groups, grouped.better) == (41, None)
    assert (single.groups, single.better) == (60, 1)


def test_the_order_of_the_samples_does_not_matter(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("a", wrong_at(*range(0, 40, 2))), make_entry("b", wrong_at(1, 3))]
    before = compare(runs).pair
    path = runs[1] / "predictions.csv"
    head, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([head, *reversed(rows)]))
    assert compare(runs).pair == before


def test_classes_in_another_order_are_the_same_classes(make_entry: Callable[..., Path]) -> None:
    one = make_entry("a", wrong_at(*range(0, 40, 2)))
    turned = {"classes": tuple(reversed(COVIDX)), "truth": 2 - TRUTH}
    found = compare([one, make_entry("b", 2 - wrong_at(1, 3), **turned)]).pair
    assert found == compare([one, make_entry("c", wrong_at(1, 3))]).pair


def test_other_samples_are_not_compared(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("a", wrong_at(0)), make_entry("b", wrong_at(1), dataset="another")]
    assert compare(runs).pair is None
    assert "different datasets, data and another" in " ".join(text(compare(runs)).split())
    path = runs[0] / "predictions.csv"
    path.write_text(path.read_text().replace("S007", "S777"))
    third = make_entry("c", wrong_at(1))
    assert compare([runs[0], third]).unpaired == "they were not evaluated on the same samples"


def test_predictions_that_are_not_those_that_were_scored_are_refused(make_entry: Callable[..., Path]) -> None:
    runs = [make_entry("a", wrong_at(0)), make_entry("b", wrong_at(1))]
    shutil.copy(runs[0] / "metrics.json", runs[1] / "metrics.json")
    with pytest.raises(IntegrityError, match=r"predictions.csv: metrics-damaged: it does not agree"):
        compare(runs)


# --- pictures beside whole stacks ---------------------------------------------------------------

STACKS = {"A": "000", "B": "111", "C": "222", "D": "000"}


@pytest.fixture
def slices_and_scans(
    make_pictures: Callable[..., Store],
    make_store: Callable[..., Store],
    make_split: Callable,
    tmp_path: Path,
) -> tuple[Path, Path]:
    """What `viptt evaluate` writes of a run over the pictures of four stacks, and of one over the stacks.

    One picture of B and one of D are taken for another class; of the stacks, the last one.
    """

    def write(name: str, store: Store, ids: Sequence[str], labels: str, predicted: str, **more: Any) -> Path:
        create_run(tmp_path / name, Config(Settings(), describe(store, make_split(store, name=name))))
        truth, shares = np.array(list(labels), int), 0.1 + 0.7 * np.eye(3)[np.array(list(predicted), int)]
        classes, places = store.header.classes, more.get("places", ())
        document = {"split": "test", "dataset": name, "scores": scores_json(score(truth, shares, classes))}
        if places:
            units = {"stack": [stack for stack, _ in places]}
            document["levels"] = [
                {"unit": level.unit, "rule": level.rule, "scores": scores_json(level.scores)}
                for level in levels(truth.tolist(), shares, classes, units, background=0)
            ]
        table = judged.table(ids, truth.tolist(), shares, [""] * len(ids), classes, places=places)
        (tmp_path / name / "predictions.csv").write_bytes(table)
        write_json(tmp_path / name / "metrics.json", document)
        return tmp_path / name

    pictures = make_pictures(STACKS)
    ids = [row.id for row in pictures.rows]
    places = [(row.stack, row.position) for row in pictures.rows]
    slices = write("slices", pictures, ids, "000111222000", "000101222010", places=places)
    return slices, write("scans", make_store(per_class=2), list(STACKS), "0120", "0121")


def test_one_table_shows_all_ways_to_decide_for_a_stack(slices_and_scans: tuple[Path, Path]) -> None:
    """Of 12 pictures 10 are right; of 4 stacks all by mean, and all but D by the most suspicious picture."""
    found = compare(slices_and_scans)
    rows = [" ".join(line.split()) for line in text(found).splitlines()]
    start = rows.index("run decision for each n accuracy 95 % kappa mean F1") + 1
    assert [row.rpartition("–")[0].rpartition(" ")[0] for row in rows[start : start + 4]] == [
        "slices picture, by the network 12 0.83",
        "slices stack, mean probability 4 1.00",
        "slices stack, most suspicious 4 0.75",
        "scans stack, by the network 4 0.75",
    ]
    assert rows[start + 4] == "All runs judged the same 4 stacks."
    assert max(map(len, text(found).splitlines())) <= 80
    document = json.loads(json.dumps(as_json(found)))
    assert document["stacks"] == {"common": 4, "of_runs": {"slices": 4, "scans": 4}}
    ways = document["runs"][0]["decided"]
    assert [(way["unit"], way["rule"]) for way in ways[1:]] == [("stack", "mean"), ("stack", "any")]
    kept = json.loads((slices_and_scans[0] / "metrics.json").read_text())["levels"][0]["scores"]
    assert ways[1]["accuracy"]["low"] == kept["intervals"]["accuracy"][0]
    assert ways[1]["macro_f1"]["value"] == kept["macro"]["f1"] == 1


def test_other_stacks_are_told(slices_and_scans: tuple[Path, Path]) -> None:
    path = slices_and_scans[1] / "predictions.csv"
    path.write_text(path.read_text().replace("\nD,", "\nE,"))
    said = " ".join(text(compare(slices_and_scans)).split())
    assert "The runs judged different stacks (slices 4, scans 4; 3 in common)" in said


def test_a_paper_on_pictures_does_not_stand_beside_a_run_on_stacks(
    make_entry: Callable[..., Path],
) -> None:
    slices = make_entry("slices", wrong_at(0), depth=1)
    config = json.loads((slices / "config.json").read_text())
    assert config["data"]["shape"][0] == 1
    assert [paper.source[:5] for paper in compare([slices]).papers] == ["CT-ID"]
    scans = make_entry("scans", wrong_at(1), classes=tuple(reversed(COVIDX)), truth=2 - TRUTH)
    assert compare([slices, scans]).papers == compare([scans, slices]).papers == ()


# --- predictions.csv ----------------------------------------------------------------------------


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    classes, ids, groups = ("=a", "b,c", "group"), ("-1", 'x"y', "ü", "z"), ("P1", "=P2", "", "P1")
    shares = np.array([[0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]])
    path = tmp_path / "predictions.csv"
    path.write_bytes(judged.table(ids, [1, 0, 0, 2], shares, groups, classes))
    found = read_table(path, classes)
    assert found.truth.tolist() == [1, 0, 0, 2]
    assert found.predicted.tolist() == [1, 0, 2, 0]
    with path.open(newline="") as file:
        head = next(csv.reader(file))
    assert head == ["id", "label", "predicted", "'=a", "b,c", "group", "group"]
    assert (found.groups[0] == found.groups[3], found.groups[2]) == (True, "")


def test_a_table_without_groups_is_one_of_an_earlier_version(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("id,label,predicted,a,b\nS1,a,b,0.2,0.8\n")
    assert read_table(path, ("a", "b")).groups == ("",)


@pytest.mark.parametrize("content", ["", "id,label\nS1,a\n", "x,y,z\n", "id,label,predicted,a\nS1,c,a,1\n"])
def test_a_damaged_table_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(content)
    with pytest.raises(IntegrityError, match="metrics-damaged"):
        read_table(path, ("a", "b"))
