"""One unit of work: one source to one chunk file and one line of the journal. Runs in any worker."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.recipe import Recipe
from pipeline.convert import convert
from pipeline.errors import ConfigError, Problem, ResourceError, SourceError
from pipeline.build.watchdog import Limits, limited
from pipeline.readers.reading import check_regular_file
from pipeline.build.staging import Entry, write_entry
from pipeline.files import canonical_json
from pipeline.store import is_intact, write_chunk

# Not a matter of the source's own bytes, so worth another try when nothing about it has changed.
RETRY = frozenset(
    {"hash-mismatch", "unreadable", "changed-during-read", "memory", "crash", "timeout", "duplicate-content"}
)


@dataclass(frozen=True)
class Known:
    """An earlier entry for the source, and the chunk file it speaks of, if it made one."""

    entry: Entry
    chunk: Path | None


@dataclass(frozen=True)
class Task:
    """A source, its recipe, what is known of it, and where its chunk and its journal line go."""

    source: str
    path: Path
    recipe: Recipe
    recipe_sha256: str
    volume_bytes: int
    chunk: Path
    journal: Path
    known: tuple[Known, ...] = ()
    wanted_sha256: str = ""

    @property
    def trace(self) -> Path:
        """What a worker leaves behind if it dies over this source."""
        return self.journal.with_suffix(".trace")


@dataclass(frozen=True)
class Result:
    """What a task did. ``chunk`` is where the volume lies now; ``source_bytes`` were read."""

    entry: Entry
    chunk: Path | None
    reused: bool
    source_bytes: int


def process(task: Task) -> Result:
    """Convert a source, or find that it has been converted before; never raises for a bad source.

    Raises ResourceError if the disk is full or cannot be written, ConfigError if a decoder is missing:
    then no source can succeed.
    """
    sha256 = ""
    try:
        check_regular_file(task.path)
        before = _signature(task.path)
        sha256 = hash_file(task.path)
        check_hash(task.path, sha256, task.wanted_sha256)
        for known in task.known:
            if _holds(known, task, sha256):
                return Result(known.entry, known.chunk, True, before[0])
        conversion = convert(task.path, task.recipe)
        if _signature(task.path) != before:
            raise SourceError.of(
                task.path, "changed-during-read", "it changed while it was read", "build again"
            )
        volume_sha256 = write_chunk(task.chunk, conversion.volume)
        facts = canonical_json(conversion.facts).decode()
        entry = Entry(task.source, sha256, task.recipe_sha256, volume_sha256, facts)
        result = Result(entry, task.chunk, False, before[0])
    except (ConfigError, ResourceError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - a bad source costs only itself, whatever its decoder raises
        entry = Entry(task.source, sha256, task.recipe_sha256, "", "{}", _problem(task.path, error))
        result = Result(entry, None, False, 0)
    write_entry(task.journal, entry)
    return result


def process_limited(task: Task, limits: Limits) -> Result:
    """``process`` in a worker process of its own, which may die of it."""
    with limited(limits, task.trace):
        return process(task)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises SourceError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceError.of(
            path, "unreadable", str(error.strerror), "fix its permissions or its disk"
        ) from None


def check_hash(path: Path, sha256: str, wanted: str) -> None:
    """Raises SourceError with code hash-mismatch if a source's hash is not the wanted one ("": any)."""
    if wanted and sha256 != wanted:
        reason = f"its SHA-256 is {sha256}, the labels say {wanted}"
        raise SourceError.of(path, "hash-mismatch", reason, "fetch it again, or correct the table")


def _signature(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)  # noqa: PTH116 - follows a link, as reading does
    return status.st_size, status.st_mtime_ns, status.st_ino


def _holds(known: Known, task: Task, sha256: str) -> bool:
    """Whether an earlier entry is about these very bytes and this recipe, and its volume is intact."""
    entry = known.entry
    if (entry.source_sha256, entry.recipe_sha256) != (sha256, task.recipe_sha256):
        return False
    if entry.problem is not None:
        return entry.problem.code not in RETRY
    return known.chunk is not None and is_intact(known.chunk, task.volume_bytes, entry.sha256)


def _problem(path: Path, error: Exception) -> Problem:
    if isinstance(error, SourceError):
        return error.problems[0]
    if isinstance(error, MemoryError):
        return Problem(
            str(path), "memory", "not enough memory to convert it", "raise --memory-limit, or crop it"
        )
    reason = f"its decoder failed: {type(error).__name__}: {error}"
    return Problem(
        str(path), "decoder-failed", reason[:300], "export it again; report it if it opens elsewhere"
    )
