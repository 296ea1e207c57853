"""What can go wrong, as one small tree; the command line maps each branch to its exit code.

    VipttError            1   unexpected failure
    ├── ConfigError       2   usage, catalog, labels: before any work
    ├── SourceError       3   one bad source; the build quarantines it and goes on
    ├── TooManyBadError   3   more bad sources than allowed; nothing was published
    ├── IntegrityError    4   a store, split file or run that is damaged or does not belong
    ├── BusyError         5   another build holds the store
    └── ResourceError     6   disk, memory, permission

An error holds one or more problems, so that a catalog's faults are all told at once.
Each prints as one line, ``WHERE: reason-code: plain reason → what to do``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pipeline.codes import Code as Code
from pipeline.escape import cell_text as cell_text
from pipeline.escape import printable
from pipeline.escape import table_cell as table_cell


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, a reason code, a plain reason, and the remedy.

    The code is a ``Code``, or a text where it was read from a file that another version may have written.
    """

    where: str
    code: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        # A library's message may have several lines; a name with a line end must not look like two words.
        said = " ".join(f"{self.reason} → {self.remedy}".split())
        return printable(f"{self.where}: {self.code}: {said}")


class VipttError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    @classmethod
    def of(cls, where: object, code: str, reason: str, remedy: str) -> Self:
        """Build the error for a single problem."""
        return cls(Problem(str(where), code, reason, remedy))

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class ConfigError(VipttError):
    """Usage, catalog or labels are wrong; nothing has been done."""

    exit_code = 2


class SourceError(VipttError):
    """One source cannot be converted."""

    exit_code = 3


class TooManyBadError(VipttError):
    """More sources are bad than the user allows; nothing was published."""

    exit_code = 3


class IntegrityError(VipttError):
    """A store, split file or run is damaged, incomplete, or belongs to something else."""

    exit_code = 4


class BusyError(VipttError):
    """Another process is building this store."""

    exit_code = 5


class ResourceError(VipttError):
    """Disk, memory or permission."""

    exit_code = 6


def some(names: Sequence[str], word: str) -> str:
    """`3 ids: a, b, c` or `1200 ids, first a, b, c, d, e`."""
    plural = word if len(names) == 1 else f"{word}s"
    shown = ", ".join(names[:5])
    return f"{len(names)} {plural}: {shown}" if len(names) <= 5 else f"{len(names)} {plural}, first {shown}"


_LINE = re.compile(r"IntegrityError: (?P<where>.+?): (?P<code>[a-z-]+): (?P<reason>.+?) → (?P<remedy>[^\n]+)")


def integrity_error_in(text: str) -> IntegrityError | None:
    """Find an IntegrityError that another library carried as text (TensorFlow keeps only the message).

    >>> print(integrity_error_in("UnknownError: IntegrityError: a.zarr: missing: gone → rebuild"))
    a.zarr: missing: gone → rebuild
    """
    found = _LINE.search(text)
    return IntegrityError.of(**found.groupdict()) if found else None
