"""What a source is to the program: a sample with its id, label and group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import Problem
from pipeline.sources.quarantine import Quarantined


@dataclass(frozen=True)
class Sample:
    """One source with its id, its label (an index into the classes) and its group ("": none).

    ``sha256`` is what its bytes must hash to ("": anything).
    """

    id: str
    label: int
    group: str
    source: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Listing:
    """Samples sorted by id; sources or labels without a partner; labels that are no class; warnings."""

    samples: tuple[Sample, ...]
    unmatched: tuple[Quarantined, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
