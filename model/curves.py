"""What class probabilities tell beyond the class chosen: areas, curves and calibration.

Truth is int64 ``(n,)``, indices of classes; probabilities are float ``(n, classes)``, each row with a
sum of 1. Each class is judged against all others. Where a class, or all others, do not occur, its
areas are NaN.

``areas`` takes weights of samples, so that a bootstrap sorts the samples once, not once a draw.
Calibration: C. Guo et al., "On calibration of modern neural networks", ICML 2017, section 2: samples
are sorted into bins by the probability of the class chosen; the error is the mean distance between
that probability and the share that is right, weighted by the samples of each bin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

Float64 = NDArray[np.float64]
BINS = 15


@dataclass(frozen=True)
class Curve:
    """Points of a curve, and the probability from which on a sample is taken for the class.

    ROC: x is 1 − specificity, y is recall. PR: x is recall, y is precision.
    """

    x: Float64
    y: Float64
    threshold: Float64


@dataclass(frozen=True)
class Reliability:
    """Per bin of the chosen class's probability: samples, their mean probability, the share that is right.

    All ``(bins,)``; the last two are NaN in an empty bin.
    """

    samples: NDArray[np.int64]
    confidence: Float64
    accuracy: Float64


def roc(positive: NDArray[np.bool_], score: Float64) -> Curve | None:
    """The ROC curve of one class; None where the samples are all of it, or none is."""
    if positive.all() or not positive.any():
        return None
    x, y, threshold = roc_curve(positive, score)
    return Curve(x, y, threshold)


def precision_recall(positive: NDArray[np.bool_], score: Float64) -> Curve | None:
    """The precision-recall curve of one class; None where no sample is of it."""
    if not positive.any():
        return None
    precision, recall, threshold = precision_recall_curve(positive, score, drop_intermediate=True)
    return Curve(recall, precision, np.append(threshold, np.inf))


class Ranked:
    """The samples of one class against the others, sorted once: from the highest probability down."""

    def __init__(self, positive: NDArray[np.bool_], score: Float64) -> None:
        self._order = np.argsort(-score, kind="stable")
        self._positive = positive[self._order]
        ranked = score[self._order]
        # Samples of equal probability are passed together: no order between them means anything.
        self._starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def areas(self, weights: Float64) -> tuple[Float64, Float64]:
        """Area under the ROC curve and average precision, each (k,), for weights (k, n) of the samples.

        Average precision is the sum of precision times the gain in recall, as in scikit-learn.
        """
        ranked = weights[:, self._order]
        hits = np.add.reduceat(ranked * self._positive, self._starts, axis=1)
        misses = np.add.reduceat(ranked * ~self._positive, self._starts, axis=1)
        true, false = hits.cumsum(axis=1), misses.cumsum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            above = ((true - hits / 2) * misses).sum(axis=1) / (true[:, -1] * false[:, -1])
            precision = true / (true + false)
            steps = np.where(hits > 0, hits * precision, 0).sum(axis=1) / true[:, -1]
        return above, steps


def reliability(truth: NDArray[np.int64], probabilities: Float64, *, bins: int = BINS) -> Reliability:
    """The reliability curve: bins of equal width over 0 to 1, each open below and closed above."""
    number, confidence, right = _binned(truth, probabilities, bins)
    samples = np.bincount(number, minlength=bins)
    sums = [np.bincount(number, values, minlength=bins) for values in (confidence, right)]
    means = [np.divide(total, samples, out=np.full(bins, np.nan), where=samples > 0) for total in sums]
    return Reliability(samples, *means)


def calibration_error(
    truth: NDArray[np.int64], probabilities: Float64, weights: Float64, *, bins: int = BINS
) -> Float64:
    """The expected calibration error, (k,) in 0 to 1, for weights (k, n) of the samples."""
    number, confidence, right = _binned(truth, probabilities, bins)
    member = (number[:, np.newaxis] == np.arange(bins)) * (confidence - right)[:, np.newaxis]
    found: Float64 = np.abs(weights @ member).sum(axis=1) / weights.sum(axis=1)
    return found


def _binned(truth: NDArray[np.int64], probabilities: Float64, bins: int) -> tuple[Any, Float64, Float64]:
    """Bin, probability of the class chosen, and 1 if that is right, of each sample."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return number, confidence, (probabilities.argmax(axis=1) == truth).astype(np.float64)
