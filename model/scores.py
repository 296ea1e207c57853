"""How good predictions are: scores of the chosen classes and of the probabilities, with 95 % intervals.

Arrays in, numbers out; no files. Truth is int64 ``(n,)``, indices into the classes; probabilities are
float ``(n, classes)``; the chosen class is the most probable one. A confusion matrix has a row per
true class and a column per predicted class. A score is NaN, or None in ``Scores``, where it is not
defined: precision of a class that is never predicted, recall of one that never occurs.

Macro scores are the mean of the classes that have the score. Kappa is Cohen's, unweighted: J. Cohen,
"A coefficient of agreement for nominal scales", Educ. Psychol. Meas. 20, 1960. How the intervals are
made says ``model.intervals``: accuracy, precision, recall and specificity are shares, all others are drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from model.curves import Ranked, calibration_error
from model.intervals import (
    DRAWS,
    Float64,
    Int64,
    Interval,
    bootstrap,
    drawn_interval,
    numbered,
    share_interval,
)

OF_CLASSES = ("precision", "recall", "specificity", "f1", "auc", "average_precision")
DRAWN = ("f1", "auc", "average_precision")


@dataclass(frozen=True)
class Score:
    """A score and its 95 % interval; all None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scores:
    """All scores of one list of predictions.

    ``per_class[class][name]`` and ``macro[name]`` have the names of ``OF_CLASSES``. ``confusion[true]
    [predicted]`` counts samples. ``groups`` is the number of independent groups.
    """

    samples: int
    groups: int
    accuracy: Score
    kappa: Score
    calibration_error: Score
    per_class: Mapping[str, Mapping[str, Score]]
    macro: Mapping[str, Score]
    confusion: tuple[tuple[int, ...], ...]


def confusion(truth: Int64, predicted: Int64, classes: int) -> Int64:
    """Count samples by true (row) and predicted (column) class, (classes, classes)."""
    counts: Int64 = confusion_matrix(truth, predicted, labels=range(classes)).astype(np.int64)
    return counts


def cells(truth: Int64, predicted: Int64, classes: int) -> Float64:
    """Which cell of the confusion matrix each sample is in: 0 and 1, (n, classes²).

    Weights (k, n) times this are the confusion matrices of k weighted data sets.
    """
    # Not `np.eye(classes**2)[…]`: of 101 classes that takes 800 MB.
    found = np.zeros((len(truth), classes**2))
    found[np.arange(len(truth)), truth * classes + predicted] = 1
    return found


def accuracy(counts: NDArray[np.generic]) -> Float64:
    """The share on the diagonal of confusion matrices (…, c, c)."""
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def kappa(counts: NDArray[np.generic]) -> Float64:
    """Agreement beyond chance of confusion matrices (…, c, c); NaN where chance alone agrees always."""
    total = counts.sum(axis=(-2, -1))
    chance = _ratio((counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1), np.square(total))
    return _ratio(accuracy(counts) - chance, 1 - chance)


def rates(counts: NDArray[np.generic]) -> dict[str, Float64]:
    """Precision, recall, specificity and F1 of each class, (…, c) each, of confusion matrices (…, c, c)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    others = counts.sum(axis=(-2, -1))[..., np.newaxis] - true
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
        "specificity": _ratio(others - (predicted - hits), others),
        "f1": _ratio(2 * hits, true + predicted),
    }


def percentages(counts: Int64) -> Float64:
    """A confusion matrix (c, c) in per cent of each row; NaN in the row of a class that does not occur."""
    return 100 * _ratio(counts, counts.sum(axis=1, keepdims=True))


def macro(values: Float64) -> Float64:
    """The mean over the classes (…, c) that have a value; NaN where none has."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Float64:
    """part / whole, NaN where the whole is nothing."""
    total = np.asarray(whole, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.abs(total) > 1e-12, np.asarray(part, np.float64) / total, np.nan)


# --- everything at once -------------------------------------------------------------------------


def score(
    truth: Sequence[int] | Int64,
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Scores:
    """Score ``probabilities`` (n, classes) against the true classes (n,), n at least 1.

    ``groups`` names what belongs together, such as patients; "" belongs to nothing. The bootstrap of
    ``draws`` is decided by ``seed``.
    """
    labels, shares = np.asarray(truth, np.int64), np.asarray(probabilities, np.float64)
    units = numbered(groups, len(labels))
    judge = _Judge(labels, shares)
    values = judge.scores(np.ones((1, len(labels))))[0]
    drawn = bootstrap(judge.scores, units, draws=draws, seed=seed)
    counts = confusion(labels, judge.predicted, len(classes))
    found = _with_intervals(judge, values, drawn, units)
    return Scores(
        samples=len(labels),
        groups=int(units.max()) + 1,
        accuracy=found["accuracy", -1],
        kappa=found["kappa", -1],
        calibration_error=found["calibration_error", -1],
        per_class={
            name: {kind: found[kind, label] for kind in OF_CLASSES} for label, name in enumerate(classes)
        },
        macro={kind: found[f"macro {kind}", -1] for kind in OF_CLASSES},
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
    )


def as_json(scores: Scores) -> dict[str, Any]:
    """The scores for metrics.json: ``accuracy`` is a number, ``f1[class]`` and its like are, too.

    ``intervals`` holds the bounds of each that is defined, under "accuracy", "macro f1", "f1 CLASS".
    """
    whole = {
        "accuracy": scores.accuracy,
        "kappa": scores.kappa,
        "calibration_error": scores.calibration_error,
    }
    means = {f"macro {kind}": score for kind, score in scores.macro.items()}
    each = {f"{kind} {name}": of[kind] for kind in OF_CLASSES for name, of in scores.per_class.items()}
    return {
        "samples": scores.samples,
        "groups": scores.groups,
        **{name: score.value for name, score in whole.items()},
        **{kind: {name: of[kind].value for name, of in scores.per_class.items()} for kind in OF_CLASSES},
        "macro": {kind: score.value for kind, score in scores.macro.items()},
        "confusion": [list(row) for row in scores.confusion],
        "intervals": {
            name: [score.low, score.high]
            for name, score in {**whole, **means, **each}.items()
            if score.value is not None
        },
    }


class _Judge:
    """The samples of one evaluation, prepared for scoring them under many weights."""

    def __init__(self, truth: Int64, probabilities: Float64) -> None:
        self.truth, self.probabilities = truth, probabilities
        self.predicted: Int64 = probabilities.argmax(axis=1)
        self.classes = probabilities.shape[1]
        self._ranked = [Ranked(truth == label, row) for label, row in enumerate(probabilities.T)]
        self._cells = cells(truth, self.predicted, self.classes)

    @property
    def names(self) -> list[tuple[str, int]]:
        """What the columns of ``scores`` are: a name, and the class or -1."""
        whole = ["accuracy", "kappa", "calibration_error", *(f"macro {kind}" for kind in OF_CLASSES)]
        each = [(kind, label) for kind in OF_CLASSES for label in range(self.classes)]
        return [*((name, -1) for name in whole), *each]

    def scores(self, weights: Float64) -> Float64:
        """All scores (k, len(names)) for weights (k, n) of the samples."""
        counts = (weights @ self._cells).reshape(-1, self.classes, self.classes)
        areas = [ranked.areas(weights) for ranked in self._ranked]
        of_classes = rates(counts)
        of_classes["auc"] = np.stack([area for area, _ in areas], axis=-1)
        of_classes["average_precision"] = np.stack([precision for _, precision in areas], axis=-1)
        error = calibration_error(self.truth, self.probabilities, weights)
        whole = [accuracy(counts), kappa(counts), error, *(macro(of_classes[kind]) for kind in OF_CLASSES)]
        return np.concatenate([np.stack(whole, axis=-1), *(of_classes[kind] for kind in OF_CLASSES)], axis=-1)

    def trials(self, kind: str, label: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of a share: which samples are its trials, and which of all samples are hits."""
        true, chosen = self.truth == label, self.predicted == label
        if kind == "accuracy":
            return np.ones_like(true), self.truth == self.predicted
        if kind == "specificity":
            return ~true, ~chosen
        return (chosen, true) if kind == "precision" else (true, chosen)

    def units(self, kind: str, label: int, groups: Int64) -> int:
        """The number of groups that a drawn score rests on."""
        if label < 0:
            return len(np.unique(groups))
        true, chosen = self.truth == label, self.predicted == label
        if kind == "f1":
            return len(np.unique(groups[true | chosen]))
        sides = [true, ~true] if kind == "auc" else [true]
        return min(len(np.unique(groups[side])) for side in sides)


def _with_intervals(
    judge: _Judge, values: Float64, drawn: Float64, groups: Int64
) -> dict[tuple[str, int], Score]:
    found = {}
    for column, (kind, label) in enumerate(judge.names):
        value = float(values[column])
        if kind == "accuracy" or (label >= 0 and kind not in DRAWN):
            trials, hit = judge.trials(kind, label)
            bounds = share_interval(hit[trials], groups[trials])
        else:
            lowest = -1.0 if kind == "kappa" else 0.0
            units = judge.units(kind, label, groups)
            bounds = drawn_interval(value, drawn[:, column], units, lowest=lowest)
        found[kind, label] = _score(value, bounds)
    return found


def _score(value: float, bounds: Interval) -> Score:
    if np.isnan(value):
        return Score(None, None, None)
    return Score(value, *(float(bound) for bound in bounds))
