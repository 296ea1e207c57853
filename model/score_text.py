"""An evaluation as text of at most 80 columns, for somebody who sees one for the first time."""

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from model.scores import Score, Scores

if TYPE_CHECKING:
    from model.evaluate import Evaluation

WIDTH, NAME = 80, 18  # columns of the terminal, and of a class's name
# Heading and width of each score of a class: with the name, a line is full.
COLUMNS = {
    "precision": ("precision", 10),
    "recall": ("recall", 10),
    "specificity": ("specificity", 12),
    "f1": ("F1", 10),
    "auc": ("AUC", 10),
    "average_precision": ("av. prec.", 10),
}
WHOLE = (
    ("accuracy", "share of samples that are right"),
    ("kappa", "agreement beyond chance, 0 is guessing"),
    ("calibration_error", "how far probability is from share right"),
)
LEGEND = """\
Below each score is its 95 % interval; – is a score that is not defined.
precision    of the samples taken for the class, the share that is of it
recall       of the samples of the class, the share that is found (sensitivity)
specificity  of the samples of other classes, the share not taken for it
F1           harmonic mean of precision and recall
AUC          chance that a sample of the class is ranked before one of another
av. prec.    average precision: mean precision over all recalls"""
RULES = {"mean": "mean probability", "any": "most suspicious"}


def text(evaluation: "Evaluation") -> str:
    """All scores, the confusion matrix, and the decisions for groups, as blocks with a blank line between."""
    scores, classes = evaluation.scores, list(evaluation.scores.per_class)
    belong = f" in {scores.groups} groups" if scores.groups < scores.samples else ""
    samples = f"{scores.samples} sample{'s' * (scores.samples != 1)}{belong}"
    title = _wrapped(f"{evaluation.run} on {evaluation.dataset}, split {evaluation.split}: {samples}")
    whole = "\n".join([_whole(scores), *_of_stacks(evaluation)])
    blocks = [title, whole, _of_classes(scores), LEGEND, _confusion(scores.confusion, classes)]
    return "\n\n".join([*blocks, *_levels(evaluation)])


def files_text(evaluation: "Evaluation") -> str:
    """Which files were written, and where."""
    return _wrapped(f"written into {evaluation.run}: {', '.join(evaluation.files)}")


def _wrapped(line: str) -> str:
    return fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)


def _whole(scores: Scores) -> str:
    lines = [f"{'':{NAME}} score  95 % interval"]
    for name, meaning in WHOLE:
        score: Score = getattr(scores, name)
        lines.append(f"{name.replace('_', ' '):{NAME}} {_value(score):>5}  {_range(score):13}  {meaning}")
    return "\n".join(lines)


def _of_stacks(evaluation: "Evaluation") -> list[str]:
    """Accuracy in the mean over stacks, a line; nothing where samples are no pictures."""
    found = evaluation.stacks
    if found is None:
        return []
    number = f"{len(found.accuracy)} stack{'s' * (len(found.accuracy) != 1)}"
    share = f"{found.mean:.2f} ± {found.deviation:.2f}"
    return [f"{'accuracy per stack':{NAME}}  {share:20} mean ± deviation over {number}"]


def _of_classes(scores: Scores) -> str:
    head = "".join(f"{heading:>{width}}" for heading, width in COLUMNS.values())
    lines = [f"{'class':{NAME}}{head}"]
    for (name, found), row in zip(scores.per_class.items(), scores.confusion, strict=True):
        count = sum(row)
        lines += _two_lines(name, f"  {count} sample{'s' * (count != 1)}", [found[kind] for kind in COLUMNS])
    return "\n".join([*lines, *_two_lines("mean (macro)", "", [scores.macro[kind] for kind in COLUMNS])])


def _two_lines(name: str, below: str, scores: Sequence[Score]) -> list[str]:
    widths = [width for _, width in COLUMNS.values()]
    rows = [
        "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for cells in (map(_value, scores), map(_range, scores))
    ]
    return [f"{_cut(name):{NAME}}{rows[0]}".rstrip(), f"{below:{NAME}}{rows[1]}".rstrip()]


def _confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """Counts by true and predicted class; where they do not fit the width, where to find them."""
    cell = 1 + max(4, max(len(str(count)) for row in counts for count in row))
    if NAME + 4 + cell * len(classes) > WIDTH:
        return f"The confusion matrix of {len(classes)} classes is in confusion.png and metrics.json."
    numbers = "".join(f"{number:>{cell}}" for number in range(1, len(classes) + 1))
    lines = [
        "confusion matrix: a row per true class, a column per predicted class",
        f"{'':{NAME + 4}}{numbers}",
    ]
    for number, (name, row) in enumerate(zip(classes, counts, strict=True), start=1):
        lines.append(f"{number:>3} {_cut(name):{NAME}}" + "".join(f"{count:>{cell}}" for count in row))
    return "\n".join(lines)


def _levels(evaluation: "Evaluation") -> list[str]:
    """A table of the decisions for what belongs together; nothing where there are none."""
    if not evaluation.levels:
        return []
    rows = [("each sample", evaluation.scores)]
    rows += [(f"{level.unit}, {RULES[level.rule]}", level.scores) for level in evaluation.levels]
    lines = [f"{'decision for':24}{'n':>6}   {'accuracy':16}{'kappa':16}{'mean F1':13}".rstrip()]
    for name, scores in rows:
        cells = [
            f"{_value(score)} {_range(score)}".ljust(16)
            for score in (scores.accuracy, scores.kappa, scores.macro["f1"])
        ]
        lines.append(f"{name:24}{scores.samples:>6}   {''.join(cells)}".rstrip())
    if evaluation.background:
        suspicious = "the sample that speaks most for a finding decides"
        lines.append(f"most suspicious: {suspicious};\nno finding is the class {evaluation.background}")
    else:
        lines.append("If a class means no finding, `--background CLASS` adds a second rule.")
    return ["\n".join(lines)]


def _value(score: Score) -> str:
    return "–" if score.value is None else f"{score.value:.2f}"


def _range(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{score.low:.2f}–{score.high:.2f}"


def _cut(name: str) -> str:
    return name if len(name) < NAME else f"{name[: NAME - 2]}…"
