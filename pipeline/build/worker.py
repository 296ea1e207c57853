"""One unit of work: one source to one chunk file and one line of the journal. Runs in any worker."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.build.reuse import Earlier, Key, reusable
from pipeline.build.staging import Entry, write_entry
from pipeline.build.versions import made_with
from pipeline.convert import convert
from pipeline.errors import ConfigError, Problem, ResourceError, SourceError
from pipeline.files import canonical_json
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.content import Signature, signatures
from pipeline.recipe import Recipe
from pipeline.store import write_chunk


@dataclass(frozen=True)
class Task:
    """A source, its recipe, what earlier builds made of it, and where its chunk and its journal line go."""

    source: str
    path: Path
    recipe: Recipe
    recipe_sha256: str
    chunk: Path
    journal: Path
    earlier: tuple[Earlier, ...] = ()
    wanted_sha256: str = ""

    @property
    def trace(self) -> Path:
        """What a worker leaves behind if it ends while it works on this source."""
        return self.journal.with_suffix(".trace")

    def lost(self, problem: Problem) -> "Result":
        """The result for a source that ended its worker."""
        return Result(Entry(self.source, "", self.recipe_sha256, "", "{}", problem), None, False, 0)


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
        source = SOURCE_TYPES[task.recipe.type]
        before = signatures(source.files(task.path))
        size = sum(signature.size for signature in before)
        sha256 = source.hash(task.path)
        check_hash(task.path, sha256, task.wanted_sha256)
        key = Key(sha256, task.recipe_sha256, source.converter)
        for earlier in task.earlier:
            if reusable(earlier, key, task.recipe.volume_bytes):
                return Result(earlier.entry, earlier.chunk, True, size)
        result = Result(_converted(task, key, before), task.chunk, False, size)
    except (ConfigError, ResourceError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - a bad source costs only itself, whatever its decoder raises
        entry = Entry(task.source, sha256, task.recipe_sha256, "", "{}", source_problem(task.path, error))
        result = Result(entry, None, False, 0)
    write_entry(task.journal, result.entry)
    return result


def check_hash(path: Path, sha256: str, wanted: str) -> None:
    """Raises SourceError with code hash-mismatch if a source's hash is not the wanted one ("": any)."""
    if wanted and sha256 != wanted:
        reason = f"its SHA-256 is {sha256}, the labels say {wanted}"
        raise SourceError.of(path, "hash-mismatch", reason, "fetch it again, or correct the table")


def _converted(task: Task, key: Key, before: tuple[Signature, ...]) -> Entry:
    """Convert a source and write its chunk; its bytes must still be those that were hashed."""
    conversion = convert(task.path, task.recipe)
    if signatures(SOURCE_TYPES[task.recipe.type].files(task.path)) != before:
        reason = "it changed while it was read"
        raise SourceError.of(task.path, "changed-during-read", reason, "build again")
    return Entry(
        source=task.source,
        source_sha256=key.source_sha256,
        recipe_sha256=key.recipe_sha256,
        sha256=write_chunk(task.chunk, conversion.volume),
        facts=canonical_json(conversion.facts).decode(),
        made_with=made_with(key.converter),
        statistics=canonical_json(conversion.statistics).decode(),
    )


def source_problem(path: Path, error: Exception) -> Problem:
    """Why a source cannot be converted, from what its reader raised."""
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
