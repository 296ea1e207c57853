"""Two sets of predictions for the same samples: is one better, or is it chance?

Arrays in, numbers out. Truth and predictions are int64 ``(n,)`` in the same order.

McNemar's test counts the samples that one of the two alone has right: Q. McNemar, Psychometrika 12,
1947; exact, by the binomial distribution. It takes samples for independent: slices of one patient are
not. The paired bootstrap draws whole groups, the same ones for both sets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from model.intervals import DRAWS, Float64, Int64, bootstrap, drawn_interval, numbered
from model.scores import cells


@dataclass(frozen=True)
class McNemar:
    """Samples that the first, or the second, alone has right, and the two-sided p-value."""

    first_only: int
    second_only: int
    p_value: float


@dataclass(frozen=True)
class Difference:
    """A score of the second set less that of the first, with its 95 % interval; NaN where not defined."""

    value: float
    low: float
    high: float


def mcnemar(truth: Int64, first: Int64, second: Int64) -> McNemar:
    """The exact test that both sets of predicted classes are right equally often."""
    one, other = first == truth, second == truth
    first_only, second_only = int((one & ~other).sum()), int((other & ~one).sum())
    if first_only + second_only == 0:
        return McNemar(0, 0, 1.0)
    test = stats.binomtest(first_only, first_only + second_only, 0.5)
    return McNemar(first_only, second_only, float(test.pvalue))


def difference(
    score: Callable[[NDArray[np.generic]], Float64],
    truth: Int64,
    first: Int64,
    second: Int64,
    classes: int,
    *,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """The difference of a score of confusion matrices, by a paired bootstrap over groups.

    ``score`` maps matrices (k, classes, classes) to (k,), as ``model.scores.accuracy`` and ``kappa``
    do. ``groups`` names what belongs together; "" belongs to nothing.
    """
    sides = [cells(truth, predicted, classes) for predicted in (first, second)]

    def differences(weights: Float64) -> Float64:
        before, after = (score((weights @ side).reshape(-1, classes, classes)) for side in sides)
        return (after - before)[:, np.newaxis]

    units = numbered(groups, len(truth))
    value = float(differences(np.ones((1, len(truth))))[0, 0])
    drawn = bootstrap(differences, units, draws=draws, seed=seed)[:, 0]
    low, high = drawn_interval(value, drawn, int(units.max()) + 1, lowest=-1.0)
    return Difference(value, low, high)
