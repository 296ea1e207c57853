"""Runs side by side, with what papers report for the same task, and a paired test where there are two.

Scores are fractions, None where one is not known or not defined. Importing this needs no TensorFlow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model import scores
from model.decided import ITSELF, Decided, Stacks, decided, stacks_of
from model.framework import require_figures
from model.judged import Judged, has_places, read_table
from model.paired import Difference, McNemar, difference, mcnemar
from model.published import Paper, papers_for
from model.run_folder import (
    EVALUATE_AGAIN,
    METRICS,
    PREDICTIONS,
    Config,
    is_outdated,
    read_config,
    read_metrics,
)
from model.same_pictures import SamePictures, same_pictures
from model.windows import is_of_pictures
from pipeline.errors import ConfigError, IntegrityError


@dataclass(frozen=True)
class Entry:
    """A run of the comparison; ``split`` is None where it was not evaluated, and so is every score.

    ``name`` is the folder's, or its path where several have one name. ``macro_f1`` and ``auc`` are
    means over the classes. ``outdated``: the run has other weights now than it was evaluated with.
    ``decided`` are the scores of all ways to decide for pictures, stacks and groups.
    """

    name: str
    folder: str
    network: str
    strategy: str
    classes: tuple[str, ...]
    dataset: str
    split: str | None = None
    samples: int | None = None
    kappa: float | None = None
    accuracy: float | None = None
    f1: Mapping[str, float | None] | None = None
    macro_f1: float | None = None
    auc: float | None = None
    outdated: bool = False
    decided: tuple[Decided, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two runs on the same samples, in the order given: a difference is the second less the first.

    ``groups`` is the number of independent groups.
    """

    samples: int
    groups: int
    mcnemar: McNemar
    accuracy: Difference
    kappa: Difference

    @property
    def better(self) -> int | None:
        """0 or 1, the run that is better by more than chance; None where chance may explain it.

        Both tests have to agree: McNemar's takes samples of a group as independent, which they are not.
        """
        if self.mcnemar.p_value >= 0.05 or self.accuracy.low <= 0 <= self.accuracy.high:
            return None
        return int(self.accuracy.value > 0)


@dataclass(frozen=True)
class Comparison:
    """Runs, the papers on their task, and, of exactly two runs, the pair; else ``unpaired`` may say why.

    ``same`` judges runs over pictures on those that all of them judged. ``stacks`` tells of several runs,
    one of them over pictures, whether they judged the same stacks. ``files`` are the pictures drawn.
    ``apart`` are the runs that cannot be compared with these: for each other set of classes a comparison.
    """

    entries: tuple[Entry, ...]
    papers: tuple[Paper, ...]
    pair: Pair | None = None
    unpaired: str | None = None
    same: SamePictures | None = None
    stacks: Stacks | None = None
    files: tuple[Path, ...] = ()
    apart: "tuple[Comparison, ...]" = ()


def compare(runs: Sequence[str | Path], *, timelines: Path | None = None) -> Comparison:
    """The scores of each run, in the order given; runs that were not evaluated have none.

    Runs on other classes than the first are compared among themselves. ``timelines`` is a folder for
    pictures of the first stacks over time. Raises ConfigError if a folder is no run, or if pictures are
    wanted and the runs have different classes or no pictures in common, IntegrityError if a file is damaged.
    """
    if not runs:
        raise ConfigError.of("RUN", "no-runs", "no run was named", "name one or more folders of runs")
    folders = [Path(run) for run in runs]
    configs = [read_config(folder) for folder in folders]
    entries = list(map(_entry, folders, _names(folders), configs))
    # Scores on other classes look alike in a table, and mean something else.
    first, *others = dict.fromkeys(frozenset(entry.classes) for entry in entries)
    if others and timelines:
        reason = "the runs have different classes"
        raise ConfigError.of("--timelines", "other-classes", reason, "name runs on the same classes")
    depths = [config.data.shape[0] for config in configs]
    found = _compared(entries, depths, first, timelines)
    return replace(found, apart=tuple(_compared(entries, depths, classes, None) for classes in others))


def _compared(
    every: Sequence[Entry], depths: Sequence[int], classes: frozenset[str], timelines: Path | None
) -> Comparison:
    """Those of the runs that have these classes, side by side; ``depths`` are those of all."""
    chosen = [
        (entry, depth) for entry, depth in zip(every, depths, strict=True) if set(entry.classes) == classes
    ]
    entries = tuple(entry for entry, _ in chosen)
    fitting = [papers_for(entries[0].classes, depth=depth) for _, depth in chosen]
    papers = tuple(paper for paper in fitting[0] if all(paper in others for others in fitting))
    common = _on_common_pictures(entries)
    found = Comparison(
        entries,
        papers,
        same=same_pictures(common, entries[0].classes) if len(common) > 1 else None,
        stacks=_stacks(entries),
        files=tuple(_draw(timelines, common, entries[0])) if timelines else (),
    )
    if len(entries) != 2 or None in (entry.split for entry in entries):
        return found
    pair = _pair(*entries, common)
    if isinstance(pair, str):
        return replace(found, unpaired=pair)
    return replace(found, pair=pair)


def as_json(found: Comparison) -> dict[str, Any]:
    """The document of ``viptt compare --json``; scores of a run that was not evaluated are null."""
    return {
        "runs": [asdict(entry) for entry in found.entries],
        "papers": [asdict(paper) for paper in found.papers],
        "pair": found.pair and _pair_json(found.pair),
        "same_pictures": found.same and asdict(found.same),
        "stacks": found.stacks and asdict(found.stacks),
        "files": list(map(str, found.files)),
        "apart": [as_json(other) for other in found.apart],
    }


def _pair_json(pair: Pair) -> dict[str, Any]:
    """The pair; None in place of NaN, which JSON does not know."""
    differences = {
        name: {part: None if np.isnan(value) else value for part, value in asdict(found).items()}
        for name, found in (("accuracy", pair.accuracy), ("kappa", pair.kappa))
    }
    return {**asdict(pair), **differences, "better": pair.better}


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of folders; the paths of those whose names are equal."""
    names = [folder.name or folder.resolve().name for folder in folders]
    return [
        str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)
    ]


# --- one run ------------------------------------------------------------------------------------


def _entry(folder: Path, name: str, config: Config) -> Entry:
    known = (name, str(folder), config.settings.model, config.settings.strategy, config.data.classes)
    document = read_metrics(folder)
    if document is None:
        return Entry(*known, config.data.dataset)
    try:
        found = document["scores"]
        f1 = dict(found["f1"])
        # viptt 0.2.0 wrote no means and no dataset; 0.1.0 called the split "part".
        macro = found.get("macro", {"f1": _mean(list(f1.values()))})
        dataset = document.get("dataset", config.data.dataset)
        split = document["split"] if "split" in document else document["part"]
        whole = (found["samples"], found["kappa"], found["accuracy"])
        outdated = is_outdated(folder, document)
        ways = decided(document, pictures=is_of_pictures(config.data.recipe))
        return Entry(*known, dataset, split, *whole, f1, macro["f1"], macro.get("auc"), outdated, ways)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError.of(folder / METRICS, "metrics-damaged", repr(error), EVALUATE_AGAIN) from error


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


# --- runs over pictures -------------------------------------------------------------------------


def _on_common_pictures(entries: Sequence[Entry]) -> dict[str, Judged]:
    """Each run's predictions for the pictures that all judged, sorted by id; none where runs do not match.

    They match if all were evaluated on pictures of one dataset, and agree on the true classes.
    """
    evaluated = [entry for entry in entries if entry.split is not None]
    # Other files than tables of pictures are left to the paired test, which says what is wrong with them.
    if not evaluated or len({entry.dataset for entry in evaluated}) > 1 or not all(map(_placed, evaluated)):
        return {}
    found = {entry.name: _judged(entry, entries[0].classes) for entry in evaluated}
    shared = set.intersection(*(set(judged.ids) for judged in found.values()))
    common = {name: judged.only(shared) for name, judged in found.items()}
    truth = [judged.truth.tolist() for judged in common.values()]
    return common if shared and all(other == truth[0] for other in truth) else {}


def _stacks(entries: Sequence[Entry]) -> Stacks | None:
    """Whether runs judged the same stacks; None unless one of several decided for stacks by a rule."""
    evaluated = [entry for entry in entries if entry.split is not None]
    by_rule = any(way.unit == "stack" and way.rule != ITSELF for entry in evaluated for way in entry.decided)
    if len(evaluated) < 2 or not by_rule:
        return None
    return stacks_of({entry.name: _judged(entry, entries[0].classes) for entry in evaluated})


def _placed(entry: Entry) -> bool:
    path = Path(entry.folder, PREDICTIONS)
    return path.is_file() and has_places(path)


def _draw(folder: Path, common: Mapping[str, Judged], first: Entry) -> list[Path]:
    if not common:
        reason = "the runs have no pictures in common"
        remedy = "evaluate runs over pictures on the same dataset, and compare these"
        raise ConfigError.of("--timelines", "no-pictures", reason, remedy)
    require_figures()
    from model.timeline import draw_timelines

    folder.mkdir(parents=True, exist_ok=True)
    return draw_timelines(folder, common, first.classes, first.dataset)


# --- two runs -----------------------------------------------------------------------------------


def _pair(first: Entry, second: Entry, common: Mapping[str, Judged]) -> Pair | str:
    """Both runs on the same samples, of pictures on their common ones, or why there is no comparison."""
    if common:
        one, other = common.values()
        return pair(one, other, one.groups, len(first.classes))
    if first.dataset != second.dataset:
        return f"they were evaluated on different datasets, {first.dataset} and {second.dataset}"
    one, other = _judged(first, first.classes), _judged(second, first.classes)
    if one.ids != other.ids or not np.array_equal(one.truth, other.truth):
        return "they were not evaluated on the same samples"
    # Groups are missing in what viptt 0.2.0 wrote.
    groups = one.groups if any(one.groups) else other.groups
    return pair(one, other, groups, len(first.classes))


def pair(first: Judged, second: Judged, groups: Sequence[str], classes: int) -> Pair:
    """Compare two sets of predictions for the same samples in the same order."""
    sides = (first.truth, first.predicted, second.predicted)
    accuracy, kappa = (
        difference(score, *sides, classes, groups=groups) for score in (scores.accuracy, scores.kappa)
    )
    alone = sum(not group for group in groups)
    units = alone + len({group for group in groups if group})
    return Pair(len(first.ids), units, mcnemar(*sides), accuracy, kappa)


def _judged(entry: Entry, classes: Sequence[str]) -> Judged:
    """The predictions of a run by id, as indices into ``classes``.

    Raises IntegrityError if they are not those that were scored.
    """
    path = Path(entry.folder, PREDICTIONS)
    found = read_table(path, entry.classes).in_order_of_ids()
    counts = scores.confusion(found.truth, found.predicted, len(classes)).tolist()
    document = read_metrics(Path(entry.folder)) or {}
    if counts != document["scores"].get("confusion"):
        reason = f"it does not agree with {METRICS}"
        raise IntegrityError.of(path, "metrics-damaged", reason, EVALUATE_AGAIN)
    # The other run may have the same classes in another order.
    position = np.array([classes.index(name) for name in entry.classes])
    return replace(found, truth=position[found.truth], predicted=position[found.predicted])
