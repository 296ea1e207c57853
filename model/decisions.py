"""From slices to scans, and from scans to patients: one decision for all that belongs together.

Arrays in, arrays out. Probabilities are float ``(n, classes)``, a row per slice (or scan); ``names``
says for each row which scan (or patient) it is of. What comes out has a row per name, names sorted.

Two rules, for the slices of a scan, or the scans of a patient:

mean   the mean of the probabilities
any    the most suspicious row decides: that with the largest lead of a finding over the background
       class ("Normal"). A scan is normal where all its slices are, so that one false alarm is enough
       to be wrong; where slices show different findings, the clearest one counts.

For patients from slices, apply a rule twice, so that a scan of many slices does not outweigh others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, some

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Decisions:
    """Names, sorted, and the class probabilities of each, (names, classes)."""

    names: tuple[str, ...]
    probabilities: Float64


def by_mean(probabilities: NDArray[np.floating], names: Sequence[str]) -> Decisions:
    """The mean probability of the rows of each name."""
    return _grouped(probabilities, names, lambda rows: rows.mean(axis=0))


def by_any(probabilities: NDArray[np.floating], names: Sequence[str], *, background: int) -> Decisions:
    """The most suspicious row of each name; ``background`` is the class of those without a finding."""
    findings = np.arange(np.shape(probabilities)[1]) != background

    def most_suspicious(rows: Float64) -> Float64:
        lead = rows[:, findings].max(axis=1) - rows[:, background]
        row: Float64 = rows[int(lead.argmax())]
        return row

    return _grouped(probabilities, names, most_suspicious)


def labels_of(labels: Sequence[int] | NDArray[np.int64], names: Sequence[str]) -> NDArray[np.int64]:
    """The class of each name, names sorted; raises ConfigError where rows of one name have several."""
    found = np.asarray(labels, np.int64)
    unique, of_row = np.unique(np.asarray(names), return_inverse=True)
    first, last = np.full(len(unique), np.iinfo(np.int64).max), np.full(len(unique), -1)
    np.minimum.at(first, of_row, found)
    np.maximum.at(last, of_row, found)
    mixed = [str(name) for name in unique[first != last]]
    if mixed:
        reason = f"their samples have different classes: {some(mixed, 'name')}"
        raise ConfigError.of("labels", "mixed-labels", reason, "judge single samples, or group by scan")
    return first


def _grouped(
    probabilities: NDArray[np.floating], names: Sequence[str], rule: Callable[[Float64], Float64]
) -> Decisions:
    unique, of_row = np.unique(np.asarray(names), return_inverse=True)
    order = np.argsort(of_row, kind="stable")
    rows = np.asarray(probabilities, np.float64)[order]
    pieces = np.split(rows, np.cumsum(np.bincount(of_row))[:-1])
    return Decisions(tuple(str(name) for name in unique), np.stack([rule(piece) for piece in pieces]))
