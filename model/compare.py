"""Runs side by side, with what the paper reports (Zunair et al., ImageCLEF 2021, Tables 1 and 2)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.run_folder import METRICS, read_config
from pipeline.errors import ConfigError, IntegrityError

CLASSES = ("Infiltrative", "Focal", "Tuberculoma", "Miliary", "Fibro-cavernous")


@dataclass(frozen=True)
class Entry:
    """A line of the comparison; None where a score is not known. ``accuracy`` is a fraction, not per cent."""

    name: str
    strategy: str
    split: str
    samples: int | None
    kappa: float | None
    accuracy: float | None
    f1: Mapping[str, float | None]


def _paper(strategy: str, kappa: float, *f1: float) -> Entry:
    return Entry("paper, Table 1", strategy, "val", 184, kappa, None, dict(zip(CLASSES, f1, strict=True)))


PAPER = (
    _paper("no-pt", 0.17, 0.61, 0.46, 0.0, 0.2, 0.14),
    _paper("pt", 0.35, 0.68, 0.56, 0.09, 0.4, 0.48),
    _paper("pt+cw", 0.30, 0.59, 0.41, 0.37, 0.33, 0.65),
    _paper("pt+cw+aug", 0.33, 0.59, 0.47, 0.27, 0.54, 0.61),
    Entry("paper, Table 2", "pt", "test", 421, 0.13, 0.423, {}),
    Entry("paper, Table 2", "pt+cw", "test", 421, 0.14, 0.385, {}),
    Entry("paper, Table 2", "pt+cw+aug", "test", 421, 0.20, 0.423, {}),
)


def compare(runs: Sequence[str | Path]) -> tuple[Entry, ...]:
    """The scores of each run, in the order given.

    Raises ConfigError if a folder is no run or was not evaluated, or if the runs have different
    classes, IntegrityError if a file is damaged.
    """
    if not runs:
        raise ConfigError.of("RUN", "no-runs", "no run was named", "name one or more folders of runs")
    entries = tuple(_entry(Path(run)) for run in runs)
    for entry in entries:
        # Scores on other classes look alike in a table, and mean something else.
        if set(entry.f1) != set(entries[0].f1):
            reason = f"its classes are not those of {entries[0].name}"
            raise ConfigError.of(entry.name, "other-classes", reason, "compare runs on the same classes")
    return entries


def comparison_table(entries: Sequence[Entry]) -> str:
    """The runs, then the paper's rows; a column with the F1 of each class of the runs."""
    classes = list(entries[0].f1)
    # Table 2 has no F1 per class, so it is of use beside runs on the same classes only.
    paper = PAPER if set(classes) == set(CLASSES) else tuple(entry for entry in PAPER if entry.split == "val")
    heads = ["run", "strategy", "split", "n", "kappa", "accuracy", *(f"F1 {name}" for name in classes)]
    lines = [heads, *(_cells(entry, classes) for entry in (*entries, *paper))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cells(entry: Entry, classes: Sequence[str]) -> list[str]:
    numbers = [entry.kappa, entry.accuracy, *(entry.f1.get(name) for name in classes)]
    texts = ["–" if number is None else f"{number:.2f}" for number in numbers]
    return [
        entry.name,
        entry.strategy,
        entry.split,
        "–" if entry.samples is None else str(entry.samples),
        *texts,
    ]


def _entry(run: Path) -> Entry:
    strategy = read_config(run).settings.strategy
    document = _read_metrics(run / METRICS)
    try:
        scores = document["scores"]
        measured = (scores["samples"], scores["kappa"], scores["accuracy"], dict(scores["f1"]))
        # viptt 0.1.0 called it "part".
        split = document["split"] if "split" in document else document["part"]
        return Entry(run.name, strategy, split, *measured)
    except (KeyError, TypeError) as error:
        raise IntegrityError.of(
            run / METRICS, "metrics-damaged", repr(error), "run `viptt evaluate` again"
        ) from error


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError.of(
            path.parent, "not-evaluated", f"it holds no {METRICS}", "run `viptt evaluate`"
        ) from None
    except ValueError as error:
        raise IntegrityError.of(path, "metrics-damaged", str(error), "run `viptt evaluate` again") from error
    return document
