"""What every reader gives, and the gate that every source passes before a decoder sees it."""

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError
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

    ``suffixes`` are lower-case ends of file names. ``recipe`` is the class of its recipes, whose defaults
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


def check_regular_file(path: Path) -> None:
    """Let only regular, non-empty files pass (links to them too): a pipe or a device would block.

    Raises SourceError with code not-a-regular-file, unreadable or empty-file.
    """
    try:
        status = path.stat()
    except OSError as error:
        code = "unreadable" if isinstance(error, PermissionError) else "not-a-regular-file"
        raise SourceError.of(path, code, str(error.strerror), "replace it by the file itself") from None
    if not stat.S_ISREG(status.st_mode):
        reason = "it is a folder, a pipe or a device"
        raise SourceError.of(path, "not-a-regular-file", reason, "replace it by the file itself")
    if status.st_size == 0:
        raise SourceError.of(path, "empty-file", "it has 0 bytes", "fetch or export it again")


def check_size(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse arrays of more values than one source may have. Raises SourceError with code too-large."""
    if max(shape) > MAX_SIDE:
        reason = f"{max(shape)} samples along an axis, over {MAX_SIDE}"
        raise SourceError.of(path, "too-large", reason, "crop it, or check that its header is right")
    values = int(np.prod(shape, dtype=np.float64))
    if values > MAX_VALUES:
        reason = f"{' x '.join(map(str, shape))} values, over {MAX_VALUES}"
        raise SourceError.of(path, "too-large", reason, "crop it, or check that its header is right")
