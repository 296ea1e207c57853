"""What every reader gives, and the gate that every source passes before a decoder sees it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import Problem, SourceError
from pipeline.readers.content import files_in, hash_file, hash_names
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


class Listed(NamedTuple):
    """A picture that a list names: its file, and the box (xmin, ymin, xmax, ymax) of the body in it.

    A picture that no list names, as one to predict, has no box.
    """

    file: str
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Source:
    """What a reader reads: a file, a folder, or the ``listed`` pictures in a folder.

    ``contents`` are the bytes of files that have been read already, by the files' names.
    """

    path: Path
    listed: tuple[Listed, ...] = ()
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Picture:
    """One picture of a stack as stored: gray (height, width), or red, green, blue (height, width, 3).

    ``name`` is its number in the stack, or the name of a listed slice; ``file`` is the file it comes from, as
    a path below the source's folder, or "" where the source itself is the file. The values ``limits`` become
    0 and 1. A picture with a ``problem`` has no values.
    """

    name: str
    position: int
    values: NDArray[Any]
    limits: tuple[float, float] = (0.0, 255.0)
    file: str = ""
    box: tuple[int, int, int, int] | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class PictureReading:
    """The pictures of a stack, read while they are asked for, and facts about the stack."""

    pictures: Iterator[Picture]
    facts: Facts


NOTHING = np.empty((0, 0), np.uint8)  # the values of a picture that cannot be read


@dataclass(frozen=True)
class SourceType:
    """Everything that the program knows of one type of source; the types stand in ``SOURCE_TYPES``.

    ``suffixes`` are lower-case ends of file names. A source is one such file; with ``folder`` a folder that
    directly holds such files; with ``from_lists`` those files of a folder that a list names. ``recipe`` is
    the class of its recipes, whose defaults are the type's.

    ``inspect`` gives the facts of a source without its pixels; ``examine`` reads every byte for facts and
    statistics; ``pictures`` gives what is stored, picture by picture; ``convert`` gives a whole stack, values
    in [0, 1] at the recipe's shape, where no picture has to be cut or resized by itself (None: each has to).
    ``kind`` is the fact by which sources are counted.
    ``converter`` is a number that is raised whenever the bytes of a volume may change for the same source
    and recipe. ``doubts`` says in plain words what is odd about statistics and facts.
    """

    name: str
    suffixes: tuple[str, ...]
    recipe: type[Recipe]
    inspect: Callable[[Source], Facts]
    examine: Callable[[Source], Reading]
    pictures: Callable[[Source, Any], PictureReading]
    convert: Callable[[Source, Any], Reading] | None
    kind: str
    converter: int
    doubts: Callable[[Statistics, Facts], list[str]]
    folder: bool = False
    from_lists: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """What a source's own name ends in, and its id does not."""
        return () if self.folder else self.suffixes

    def picture_id(self, stack: str, name: str) -> str:
        """The id of a picture, from the id of its stack and its name there; listed slices have their own."""
        return name if self.from_lists else f"{stack}/{name}"

    def files(self, source: Source) -> tuple[Path, ...]:
        """The files of a source, in order. Raises SourceError if its folder cannot be read."""
        if self.from_lists:
            return tuple(source.path / item.file for item in source.listed)
        return files_in(source.path, self.suffixes) if self.folder else (source.path,)

    def hash(self, source: Source) -> str:
        """SHA-256 of a source: of its bytes, or of the names (and boxes) and hashes of its files."""
        return self.hash_of(source, {file.name: hash_file(file) for file in self.files(source)})

    def hash_of(self, source: Source, hashes: Mapping[str, str]) -> str:
        """The same, where the SHA-256 of each file is known by the file's name."""
        if self.from_lists:
            return hash_names([[*item, hashes[item.file]] for item in source.listed])
        if self.folder:
            return hash_names([[*item] for item in hashes.items()])
        return hashes[source.path.name]

    def size(self, source: Source) -> int:
        """Bytes of a source on disk; 0 for one that cannot be read."""
        try:
            return sum(file.stat().st_size for file in self.files(source) if file.is_file())
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
