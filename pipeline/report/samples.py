"""Each sample of a store in numbers, and how odd it is among the others.

A histogram is the share of a source's values in each of its bins, as the reader counted them before any
window. ``unlikeness`` is 1 minus what a sample's histogram has in common with the typical one, the sum over
all bins of the smaller share (histogram intersection: Swain and Ballard, Int. J. Comput. Vis. 7, 1991). The
typical histogram is the median of each bin over all samples, scaled to a sum of 1.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.readers.reading import Facts, SourceType, Statistics
from pipeline.store import Row

RARE = 0.1  # a reader's note that more samples have is no oddness of one
UNLIKE = 0.5  # unlikeness from which a sample may be called unlike the others ...
FENCE = 1.5  # ... if it lies this many quartile ranges above the upper quartile (Tukey's fence)
FEW = 5  # samples, of which none can be typical
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class SampleFigures:
    """One sample: what its reader found, and why it is odd.

    ``index`` is its row in the store. ``shape`` is the source's (depth, height, width), ``spacing`` in mm in
    the same order, empty where a source has none. ``lowest``, ``highest`` and ``different`` are None where
    the store holds no statistics. ``histogram`` holds shares, within ``limits``. ``reasons`` say what is odd.
    """

    index: int
    id: str
    source: str
    label: str
    group: str
    split: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    kind: str
    lowest: float | None
    highest: float | None
    different: int | None
    limits: tuple[float, float] | None
    histogram: tuple[float, ...]
    doubts: tuple[str, ...]
    notes: tuple[str, ...]
    unlikeness: float = 0.0
    reasons: tuple[str, ...] = ()

    @property
    def oddness(self) -> float:
        """The number of reasons, each doubt about the values counted twice, plus the unlikeness."""
        return len(self.reasons) + len(self.doubts) + self.unlikeness


def sample_figures(
    rows: Sequence[Row], classes: Sequence[str], homes: dict[str, str], source_type: SourceType
) -> list[SampleFigures]:
    """All samples, the oddest first; ``homes`` tells the split of each id."""
    figures = [
        _figures(index, row, classes[row.label], homes.get(row.id, ""), source_type)
        for index, row in enumerate(rows)
    ]
    figures = _with_reasons(_with_unlikeness(figures))
    return sorted(figures, key=lambda sample: (-sample.oddness, sample.id))


def _figures(index: int, row: Row, label: str, split: str, source_type: SourceType) -> SampleFigures:
    facts: Facts = json.loads(row.facts)
    statistics: Statistics = json.loads(row.statistics)
    counts = np.asarray(statistics.get("histogram", []), np.float64)
    limits = statistics.get("limits")
    return SampleFigures(
        index=index,
        id=row.id,
        source=row.source,
        label=label,
        group=row.group,
        split=split,
        shape=tuple(facts.get("shape", ())),
        spacing=tuple(facts.get("spacing_mm", ())),
        kind=str(facts.get(source_type.kind, "")),
        lowest=statistics.get("min"),
        highest=statistics.get("max"),
        different=statistics.get("different"),
        limits=tuple(limits) if limits else None,
        histogram=tuple((counts / max(1.0, counts.sum())).tolist()),
        doubts=_doubts(source_type, statistics, facts),
        notes=tuple(facts.get("warnings", ())),
    )


def _doubts(source_type: SourceType, statistics: dict[str, Any], facts: Facts) -> tuple[str, ...]:
    # Facts without a shape are those of a store that another program filled.
    return tuple(source_type.doubts(statistics, facts)) if statistics and facts.get("shape") else ()


def comparable(figures: Sequence[SampleFigures]) -> list[SampleFigures]:
    """The samples whose histograms have the most frequent limits, so that their bins mean the same."""
    limits = Counter(sample.limits for sample in figures if sample.limits)
    usual = limits.most_common(1)[0][0] if limits else None
    return [sample for sample in figures if usual and sample.limits == usual]


def _with_unlikeness(figures: list[SampleFigures]) -> list[SampleFigures]:
    compared = comparable(figures)
    if len(compared) < FEW:
        return figures
    shares = np.array([sample.histogram for sample in compared])
    unlike = dict(zip((sample.index for sample in compared), unlikeness(shares), strict=True))
    return [replace(sample, unlikeness=float(unlike.get(sample.index, 0.0))) for sample in figures]


def unlikeness(shares: Shares) -> Shares:
    """For each histogram (samples, bins), 1 minus what it has in common with the typical one: 0 to 1."""
    typical = np.median(shares, axis=0)
    total = typical.sum()
    # Where no bin is filled in half of the samples, none is typical.
    typical = typical / total if total > 0 else shares.mean(axis=0)
    return np.asarray(1.0 - np.minimum(shares, typical).sum(axis=1))


def _with_reasons(figures: list[SampleFigures]) -> list[SampleFigures]:
    counts = Counter(kind for sample in figures for kind in set(map(kind_of, sample.notes)))
    unlike = [sample.unlikeness for sample in figures]
    lower, upper = np.quantile(unlike, (0.25, 0.75)) if figures else (0.0, 0.0)
    bound = max(UNLIKE, float(upper + FENCE * (upper - lower)))
    reasoned = []
    for sample in figures:
        rare = [note for note in sample.notes if counts[kind_of(note)] <= max(1, RARE * len(figures))]
        common = f"its values have {1 - sample.unlikeness:.0%} in common with the typical ones"
        strange = [common] if sample.unlikeness > bound else []
        reasoned.append(replace(sample, reasons=(*sample.doubts, *rare, *strange)))
    return reasoned


def kind_of(note: str) -> str:
    """What notes that differ only by names and numbers have in common."""
    return re.sub(r"`[^`]*`|-?\d+(?:\.\d+)?", "#", note)
