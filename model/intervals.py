"""95 % intervals that stay honest where samples are few, or belong together.

Wilson's interval for shares: E. B. Wilson, "Probable inference, the law of succession, and
statistical inference", J. Am. Stat. Assoc. 22, 1927. It has a width where all, or none, of the trials
are hits. Samples of one group (the slices of a patient) tell less than as many independent ones;
their number is divided by the design effect first (J. N. K. Rao and A. J. Scott, Biometrics 48, 1992).

All other scores get a percentile bootstrap that draws whole groups. Its draws only repeat what is
there, so that it is too narrow for few groups and has no width where every draw gives the same. Then
the interval is widened to Wilson's, for as many trials as there are groups; this is our choice.

Arrays in, numbers out. Groups are int64 ``(samples,)``, numbered from 0 without gaps; without groups,
each sample is its own. A bound is NaN where the score is not defined.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Interval = tuple[float, float]
LEVEL, DRAWS = 0.95, 1000
SMALL = 30  # groups: below, a bootstrap is not trusted to be wide enough
AT_ONCE = 10_000_000  # weights of samples that are held in memory


def numbered(groups: Sequence[str] | None, samples: int) -> Int64:
    """Number the groups of samples from 0; no groups, or an empty name, make a sample its own group."""
    if groups is None:
        return np.arange(samples)
    names = [f"group {group}" if group else f"sample {index}" for index, group in enumerate(groups)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def wilson(hits: float, trials: float) -> Interval:
    """Wilson's interval for a share of hits; neither number need be whole. NaN where there are no trials."""
    if trials <= 0:
        return np.nan, np.nan
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, scale = hits / trials, 1 + z * z / trials
    centre = share + z * z / (2 * trials)
    reach = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # Rounding must not leave a share of 0 or 1 outside its own interval.
    return min(share, max(0.0, (centre - reach) / scale)), max(share, min(1.0, (centre + reach) / scale))


def share_interval(hit: NDArray[np.bool_], groups: Int64) -> Interval:
    """The interval for the share of samples ``(n,)`` that are hits, where groups belong together."""
    trials = effective_trials(hit, groups)
    return wilson(float(hit.mean()) * trials, trials) if hit.size else (np.nan, np.nan)


def effective_trials(hit: NDArray[np.bool_], groups: Int64) -> float:
    """How many independent samples tell as much as these: between the number of groups and of samples.

    Where all samples agree, no variance tells how alike the samples of a group are; then it is the
    number of groups.
    """
    sizes = np.bincount(groups)
    sizes = sizes[sizes > 0]
    count = len(sizes)
    if count == hit.size or hit.all() or not hit.any():
        return float(count)
    share = hit.mean()
    inside = np.bincount(groups, hit - share)[np.bincount(groups) > 0]
    variance = count / max(1, count - 1) * (inside**2).sum() / hit.size**2
    independent = share * (1 - share) / hit.size
    return float(np.clip(hit.size * independent / max(variance, 1e-300), min(count, hit.size), hit.size))


def bootstrap(
    scores_of: Callable[[Float64], Float64], groups: Int64, *, draws: int = DRAWS, seed: int = 0
) -> Float64:
    """Scores of ``draws`` data sets, each of as many groups as there are, drawn with replacement.

    ``scores_of`` maps how often each sample is drawn, (k, samples), to scores (k, scores); all
    ``(draws, scores)`` come out.
    """
    count, rng = int(groups.max()) + 1, np.random.default_rng(seed)
    at_once = max(1, min(draws, AT_ONCE // groups.size))
    found = []
    for start in range(0, draws, at_once):
        times = rng.multinomial(count, np.full(count, 1 / count), min(at_once, draws - start))
        found.append(scores_of(times[:, groups].astype(np.float64)))
    return np.concatenate(found)


def drawn_interval(value: float, drawn: Float64, units: int, *, lowest: float = 0.0) -> Interval:
    """The interval of a score from its bootstrap ``(draws,)``; draws that do not define it are left out.

    ``units`` are the groups that the score rests on, ``lowest`` to 1 is its range.
    """
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not drawn.size:
        return np.nan, np.nan
    tail = 50 * (1 - LEVEL)
    low, high = (float(bound) for bound in np.percentile(drawn, (tail, 100 - tail)))
    if units < SMALL or low == high:
        width = 1 - lowest
        wide = wilson((value - lowest) / width * units, units)
        low, high = min(low, lowest + width * wide[0]), max(high, lowest + width * wide[1])
    return min(low, value), max(high, value)
