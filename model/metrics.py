"""How good predictions are: unweighted kappa, accuracy, F1 per class, confusion matrix.

Numbers in, numbers out: labels and predictions are indices into a list of classes (paper, section 3.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, f1_score


@dataclass(frozen=True)
class Scores:
    """What true and predicted classes give. None where a score is not defined: a class that is neither
    true nor predicted anywhere has no F1, and there is no kappa where all are of one class.

    ``confusion[true][predicted]`` counts samples. ``intervals`` are 95 % bootstrap intervals of
    "accuracy", "kappa" and "f1 CLASS", where they are defined.
    """

    samples: int
    accuracy: float
    kappa: float | None
    f1: Mapping[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    intervals: Mapping[str, tuple[float, float]]


def score(
    truth: Sequence[int], predicted: Sequence[int] | NDArray[np.int64], classes: Sequence[str]
) -> Scores:
    """Score predicted against true classes, both as indices into ``classes``; some may be absent."""
    every = range(len(classes))
    # All classes are named, also those that do not occur, so that position is index.
    f1 = f1_score(truth, predicted, labels=list(every), average=None, zero_division=np.nan)
    # Chance agreement is then 1, and kappa 0 / 0; scikit-learn would warn and give NaN.
    one_class = len({*truth, *predicted}) == 1
    kappa = np.nan if one_class else cohen_kappa_score(truth, predicted, labels=list(every))
    counts = confusion_matrix(truth, predicted, labels=list(every))
    return Scores(
        samples=len(truth),
        accuracy=float(accuracy_score(truth, predicted)),
        kappa=_defined(kappa),
        f1={name: _defined(value) for name, value in zip(classes, f1, strict=True)},
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
        intervals=intervals(counts, classes),
    )


def intervals(
    confusion: NDArray[np.int64], classes: Sequence[str], *, draws: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals from a confusion matrix.

    Drawing samples with replacement is drawing from the cells of the matrix; a score that a draw
    does not define is left out of its interval.
    """
    total, size = int(confusion.sum()), len(classes)
    shares = confusion.ravel() / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, draws).reshape(draws, size, size)
    hits = np.diagonal(drawn, axis1=1, axis2=2)
    true, found = drawn.sum(axis=2), drawn.sum(axis=1)
    agreement, chance = hits.sum(axis=1) / total, (true * found).sum(axis=1) / total**2
    with np.errstate(invalid="ignore"):  # 0 / 0 where a score is not defined
        scores = {"accuracy": agreement, "kappa": (agreement - chance) / (1 - chance)}
        f1 = 2 * hits / (true + found)
    scores |= {f"f1 {name}": f1[:, index] for index, name in enumerate(classes)}
    defined = {name: values[~np.isnan(values)] for name, values in scores.items()}
    bounds = {name: np.percentile(values, (2.5, 97.5)) for name, values in defined.items() if values.size}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
