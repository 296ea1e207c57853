import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.compare import CLASSES, PAPER, compare, comparison_table
from model.evaluate import evaluate
from pipeline.errors import ConfigError, IntegrityError
from pipeline.store import Store


@pytest.fixture
def evaluated(
    make_store: Callable[..., Store], make_split: Callable, make_run: Callable
) -> Callable[..., Path]:
    def make(name: str, classes: tuple[str, ...] = CLASSES, **settings: object) -> Path:
        store = make_store(name=name, classes=classes, per_class=2)
        run = make_run(store, make_split(store, name=name), name=f"run-{name}", **settings)
        evaluate(run)
        return run

    return make


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    tables = [(e.strategy, e.kappa, *e.f1.values()) for e in PAPER if e.name == "paper, Table 1"]
    assert tables == [
        ("no-pt", 0.17, 0.61, 0.46, 0.0, 0.2, 0.14),
        ("pt", 0.35, 0.68, 0.56, 0.09, 0.4, 0.48),
        ("pt+cw", 0.30, 0.59, 0.41, 0.37, 0.33, 0.65),
        ("pt+cw+aug", 0.33, 0.59, 0.47, 0.27, 0.54, 0.61),
    ]


def test_a_comparison_tells_what_evaluating_found(evaluated: Callable[..., Path]) -> None:
    runs = [evaluated("a"), evaluated("b", strategy="pt", init="somewhere")]
    entries = compare(runs)
    assert [(entry.name, entry.strategy) for entry in entries] == [("run-a", "no-pt"), ("run-b", "pt")]
    scores = json.loads((runs[1] / "metrics.json").read_text())["scores"]
    assert (entries[1].kappa, entries[1].f1) == (scores["kappa"], scores["f1"])
    lines = comparison_table(entries).splitlines()
    assert len(lines) == 1 + 2 + len(PAPER)
    assert lines[0].split()[:3] == ["run", "strategy", "split"]
    row = " ".join(lines[3].split())
    assert row == "paper, Table 1 no-pt val 184 0.17 – 0.61 0.46 0.00 0.20 0.14"


def test_a_run_that_was_not_evaluated_is_refused(finished: Any) -> None:
    with pytest.raises(ConfigError, match=r"not-evaluated: .* → run `viptt evaluate`"):
        compare([finished.run])


def test_runs_on_other_classes_are_refused(evaluated: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="other-classes"):
        compare([evaluated("a"), evaluated("b", classes=("x", "y", "z"))])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"scores": 3}'])
def test_damaged_metrics_are_refused(finished: Any, tmp_path: Path, content: str) -> None:
    run = shutil.copytree(finished.run, tmp_path / "run")
    (run / "metrics.json").write_text(content)
    with pytest.raises(IntegrityError, match="metrics-damaged"):
        compare([run])


def test_no_run_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="no-runs"):
        compare([])


def test_metrics_of_version_0_1_0_call_the_split_a_part(finished: Any, tmp_path: Path) -> None:
    run = shutil.copytree(finished.run, tmp_path / "run")
    scores = {"samples": 3, "kappa": 0.5, "accuracy": 0.5, "f1": {"a": None}}
    (run / "metrics.json").write_text(json.dumps({"part": "test", "scores": scores}))
    (entry,) = compare([run])
    assert (entry.split, entry.samples) == ("test", 3)
