"""What every reader gives, and the gate that every source passes before a decoder sees it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.readers.content import files_in, hash_file, hash_folder
from pipeline.recipe import Recipe

MAX_VALUES = 1 << 31
MAX_SIDE = (1 << 15) - 1  # what NIfTI-1 can say; SIZ takes about 3 kB for each sample of an axis
Facts = dict[str, Any]
Statistics = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """An array (depth, height, width) as stored by the source, and facts about it.

    Facts are JSON values; ``facts["warnings"]`` lists what a user should know, in plain words.
    ``statistics`` are those of ``statistics.describe``, of the values before any window.
    """

    array: NDArray[Any]
    facts: Facts
    statistics: Statistics = field(default_factory=dict)


@dataclass(frozen=True)
class SourceType:
    """Everything that the program knows of one type of source; the types stand in ``SOURCE_TYPES``.

    ``suffixes`` are lower-case ends of file names. A source is one such file, or with ``folder`` a folder
    that directly holds such files. ``recipe`` is the class of its recipes, whose defaults
    are the type's. ``inspect`` gives the facts of a file without its pixels; ``examine`` reads every byte for
    facts and statistics; ``convert`` gives values in [0, 1] at the recipe's shape. ``kind`` is the fact by
    which files are counted.
    ``converter`` is a number that is raised whenever the bytes of a volume may change for the same source
    and recipe. ``doubts`` says in plain words what is odd about statistics and facts.
    """

    name: str
    suffixes: tuple[str, ...]
    recipe: type[Recipe]
    inspect: Callable[[Path], Facts]
    examine: Callable[[Path], Reading]
    convert: Callable[[Path, Any], Reading]
    kind: str
    converter: int
    doubts: Callable[[Statistics, Facts], list[str]]
    folder: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """What a source's own name ends in, and its id does not."""
        return () if self.folder else self.suffixes

    def files(self, path: Path) -> tuple[Path, ...]:
        """The files of a source, sorted by name. Raises SourceError if its folder cannot be read."""
        return files_in(path, self.suffixes) if self.folder else (path,)

    def hash(self, path: Path) -> str:
        """SHA-256 of a source's bytes, or of a folder's names and bytes. Raises SourceError."""
        return hash_folder(self.files(path)) if self.folder else hash_file(path)

    def size(self, path: Path) -> int:
        """Bytes of a source on disk; 0 for one that cannot be read."""
        try:
            return sum(file.stat().st_size for file in self.files(path) if file.is_file())
        except SourceError:
            return 0


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse arrays of more values than one source may have. Raises SourceError with code too-large."""
    if max(shape) > MAX_SIDE:
        reason = f"{max(shape)} samples along an axis, over {MAX_SIDE}"
        raise SourceError.of(path, "too-large", reason, "crop it, or check that its header is right")
    values = int(np.prod(shape, dtype=np.float64))
    if values > MAX_VALUES:
        reason = f"{' x '.join(map(str, shape))} values, over {MAX_VALUES}"
        raise SourceError.of(path, "too-large", reason, "crop it, or check that its header is right")
