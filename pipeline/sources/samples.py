"""What a source is to the program: a sample with its id, label and group."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import Problem
from pipeline.readers.reading import Listed, Source
from pipeline.sources.quarantine import Quarantined


@dataclass(frozen=True)
class Sample:
    """One source with its id, its label (an index into the classes) and its group ("": none).

    ``sha256`` is what its bytes must hash to ("": anything). ``listed`` are the pictures that a list names.
    ``labels`` are those of its pictures by name, where each has its own.
    """

    id: str
    label: int
    group: str
    source: str
    path: Path
    sha256: str = ""
    listed: tuple[Listed, ...] = ()
    labels: Mapping[str, int] | None = None

    @property
    def origin(self) -> Source:
        """What a reader reads."""
        return Source(self.path, self.listed)

    def label_of(self, picture: str) -> int | None:
        """The label of one of its pictures, by the picture's name; None where it has none."""
        return self.label if self.labels is None else self.labels.get(picture)


@dataclass(frozen=True)
class Listing:
    """The samples of a dataset, sorted by id, and everything else that was found.

    ``quarantined`` are files without a label, labels without a file, and names that cannot be used.
    ``left_out`` counts files by a label that is no class, ``ignored`` files of other types by suffix
    ("": none), ``excluded`` the sources that ``include`` and ``exclude`` leave out.
    """

    samples: tuple[Sample, ...]
    quarantined: tuple[Quarantined, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    excluded: int = 0

    @property
    def ignored_text(self) -> str:
        """Such as ``9 .dcm, 2 without suffix``; empty where no file was ignored."""
        return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in self.ignored.items())

    def not_used(self) -> Iterator[str]:
        """What was found and is no sample, without being a fault: a line for each reason."""
        if self.left_out:
            yield f"left out {sum(self.left_out.values())} files of {len(self.left_out)} other classes"
        if self.excluded:
            yield f"left out {self.excluded} files by `include` and `exclude`"
        if self.ignored:
            yield f"ignored files of other types: {self.ignored_text}"
