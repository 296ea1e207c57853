"""A comparison as text for a terminal: two tables, and sentences about a pair of runs."""

from collections.abc import Sequence
from itertools import zip_longest
from math import isnan
from textwrap import fill

from model.compare import Comparison, Entry, Pair
from model.decided import ITSELF, Decided, Stacks
from model.paired import Difference
from model.published import Figures, f1_of
from model.same_pictures import SamePictures
from model.score_text import RULES

WIDTH = 80
HEADS = ("run", "network", "strategy", "split", "n", "kappa", "accuracy", "mean F1")
WAYS = {ITSELF: "by the network", **RULES}
TEXTS = 4  # columns on the left hold words, the others numbers


def text(found: Comparison) -> str:
    """Runs and papers side by side, the F1 of each class, and what a paired test says of two runs."""
    figures = [line for paper in found.papers for line in paper.figures]
    sources = [_wrapped(paper.source) for paper in found.papers]
    rows = [*map(_run_cells, found.entries), *map(_paper_cells, figures)]
    hints = [hint for entry in found.entries if (hint := _hint(entry))]
    blocks = ["\n".join([_table([list(HEADS), *rows], words=TEXTS), *sources, *hints])]
    blocks += _of_classes(found.entries, figures)
    blocks += _decisions(found)
    if found.same:
        blocks.append(_on_same(found.same, found.entries[0].classes))
    if found.pair:
        blocks.append(_wrapped(pair_text(found.pair, *(entry.name for entry in found.entries))))
    elif found.unpaired:
        blocks.append(_wrapped(f"No paired test of the two runs: {found.unpaired}."))
    for other in found.apart:
        blocks += ["On other classes, and not to be compared with the runs above:", text(other)]
    return "\n\n".join(blocks)


def _hint(entry: Entry) -> str:
    if entry.split is None:
        return f"{entry.name} is not evaluated yet: viptt evaluate {entry.folder}"
    if entry.outdated:
        return f"{entry.name} was trained on since it was evaluated: viptt evaluate {entry.folder}"
    return ""


def pair_text(pair: Pair, first: str, second: str) -> str:
    """What a paired test says of two runs, for somebody who does not know McNemar."""
    names, test = (first, second), pair.mcnemar
    if pair.better is not None:
        verdict = f"{names[pair.better]} is better, by more than chance explains"
    elif test.first_only == test.second_only == 0:
        verdict = "Both runs are right on the same samples"
    else:
        verdict = "Chance may explain the difference of the two runs"
    belong = f" in {pair.groups} groups" if pair.groups < pair.samples else ""
    chance = f"{test.p_value:.2f}" if test.p_value >= 0.005 else f"{test.p_value:.1g}"
    return (
        f"{verdict}. Of the same {pair.samples} samples{belong}, {first} alone is right on "
        f"{test.first_only}, {second} alone on {test.second_only}. If both were equally good, so uneven a "
        f"result would have the probability {chance} (McNemar's exact test; it takes samples as "
        f"independent). {second} less {first}: accuracy {_signed(pair.accuracy)}, kappa "
        f"{_signed(pair.kappa)} (95 % intervals of a paired bootstrap over groups)."
    )


def _signed(found: Difference) -> str:
    if isnan(found.value):
        return "not defined"
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


# --- tables -------------------------------------------------------------------------------------


def _run_cells(entry: Entry) -> list[str]:
    known = [entry.name, entry.network, entry.strategy]
    if entry.split is None:
        return [*known, "not evaluated"]
    numbers = (entry.kappa, entry.accuracy, entry.macro_f1)
    return [*known, entry.split, str(entry.samples), *map(_number, numbers)]


def _paper_cells(line: Figures) -> list[str]:
    count = "–" if line.samples is None else str(line.samples)
    numbers = (line.kappa, line.accuracy, line.macro_f1)
    return [line.name, line.network, line.strategy, line.split, count, *map(_number, numbers)]


def _of_classes(entries: Sequence[Entry], figures: Sequence[Figures]) -> list[str]:
    """F1 of each class: classes are numbered, so that ten of them fit a line."""
    classes = entries[0].classes
    rows = [
        [entry.name, *(_number(entry.f1.get(name)) for name in classes)]
        for entry in entries
        if entry.f1 is not None
    ]
    rows += [
        [f"{line.name}, {line.strategy}", *(_number(f1_of(line, name)) for name in classes)]
        for line in figures
        if line.f1
    ]
    if not rows:
        return []
    legend = ", ".join(f"{number} {name}" for number, name in enumerate(classes, start=1))
    head = ["F1 of class", *map(str, range(1, len(classes) + 1))]
    return [f"{_table([head, *rows], words=1)}\n{_wrapped(legend)}"]


def _decisions(found: Comparison) -> list[str]:
    """All ways to decide for pictures, stacks and groups; nothing where no rule puts pictures together."""
    rows = [
        [entry.name, f"{way.unit}, {WAYS[way.rule]}", str(way.samples), *_scored(way)]
        for entry in found.entries
        for way in entry.decided
    ]
    if not any(way.rule in RULES for entry in found.entries for way in entry.decided):
        return []
    head = ["run", "decision for each", "n", "accuracy", "95 %", "kappa", "mean F1"]
    block = _table([head, *rows], words=2)
    return [f"{block}\n{_wrapped(_stacks_text(found.stacks))}" if found.stacks else block]


def _scored(way: Decided) -> list[str]:
    low, high = way.accuracy.low, way.accuracy.high
    interval = "–" if low is None or high is None else f"{low:.2f}–{high:.2f}"
    return [_number(way.accuracy.value), interval, _number(way.kappa.value), _number(way.macro_f1.value)]


def _stacks_text(stacks: Stacks) -> str:
    if stacks.same:
        return f"All runs judged the same {stacks.common} stacks."
    counts = ", ".join(f"{name} {count}" for name, count in stacks.of_runs.items())
    common = f"{counts}; {stacks.common} in common"
    return f"The runs judged different stacks ({common}): evaluate them on the same ones."


def _on_same(same: SamePictures, classes: Sequence[str]) -> str:
    """Accuracy over all pictures and by stack, and recall of each class, on the pictures that all judged."""
    title = (
        f"On the same {same.pictures} pictures of {same.stacks} stacks (recall of classes as numbered above):"
    )
    rows = [["run", "accuracy", "per stack, mean ± s.d.", *map(str, range(1, len(classes) + 1))]]
    for name, found in same.runs.items():
        by_stack = f"{found.stacks.mean:.2f} ± {found.stacks.deviation:.2f}"
        recall = [_number(found.recall[label]) for label in classes]
        rows.append([name, _number(found.accuracy), by_stack, *recall])
    return f"{_wrapped(title)}\n{_table(rows, words=1)}"


def files_lines(found: Comparison) -> list[str]:
    """Which pictures were drawn."""
    return [f"wrote {path}" for path in found.files]


def _table(rows: Sequence[Sequence[str]], *, words: int) -> str:
    """Columns two spaces apart, the first ``words`` of them to the left; a row may end early."""
    # A row that ends early ends with a remark, which must not widen its column.
    cells = [row if len(row) == len(rows[0]) else row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if column < words else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _wrapped(line: str) -> str:
    return fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)
