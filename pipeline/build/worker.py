"""One unit of work: one source to one chunk file and one line of the journal. Runs in any worker."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.build.reuse import PICTURES, STACK_SHA256, Earlier, Key, reusable, staged_chunks
from pipeline.build.staging import Entry, PictureEntry, write_entry
from pipeline.build.versions import made_with
from pipeline.convert import ConvertedPicture, PictureConversion, convert
from pipeline.errors import ConfigError, Problem, ResourceError, SourceError
from pipeline.files import canonical_json
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.content import hash_file, read_file, signatures
from pipeline.readers.reading import Facts, Listed, Source, SourceType, Statistics
from pipeline.recipe import Recipe
from pipeline.store import CRC_BYTES, Chunk, write_chunk, write_chunks

HELD_BYTES = 32 << 20  # of the pictures of a stack that a worker holds


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
    listed: tuple[Listed, ...] = ()

    @property
    def origin(self) -> Source:
        """What is to be read."""
        return Source(self.path, self.listed)

    @property
    def trace(self) -> Path:
        """What a worker leaves behind if it ends while it works on this source."""
        return self.journal.with_suffix(".trace")

    def lost(self, problem: Problem) -> "Result":
        """The result for a source that ended its worker."""
        return Result(Entry(self.source, "", self.recipe_sha256, "", "{}", problem), (), False, 0)


@dataclass(frozen=True)
class Result:
    """What a task did. ``chunks`` is where the volumes lie now; ``source_bytes`` were read."""

    entry: Entry
    chunks: tuple[Chunk, ...]
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
        files = source.files(task.origin)
        before = signatures(files)
        size = sum(signature.size for signature in before)
        contents = _contents(source, files, size)
        hashes = _hashes(files, contents)
        sha256 = source.hash_of(task.origin, hashes)
        check_hash(task.path, sha256, task.wanted_sha256)
        key = Key(sha256, task.recipe_sha256, source.converter)
        for earlier in task.earlier:
            if reusable(earlier, key, task.recipe.volume_bytes):
                return Result(replace(earlier.entry, source=task.source), earlier.chunks, True, size)
        entry = _made(task, replace(task.origin, contents=contents), key, hashes)
        if signatures(source.files(task.origin)) != before:
            reason = "it changed while it was read"
            raise SourceError.of(task.path, "changed-during-read", reason, "build again")
        chunks = staged_chunks(task.chunk, entry, task.recipe.volume_bytes + CRC_BYTES)
        result = Result(entry, chunks, False, size)
    except (ConfigError, ResourceError, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 - a bad source costs only itself, whatever its decoder raises
        entry = Entry(task.source, sha256, task.recipe_sha256, "", "{}", source_problem(task.path, error))
        result = Result(entry, (), False, 0)
    write_entry(task.journal, result.entry)
    return result


def _contents(source: SourceType, files: Sequence[Path], nbytes: int) -> dict[str, bytes]:
    """The bytes of a stack's pictures by the names of their files, so that they are read but once.

    Nothing for larger stacks, whose files are read one after the other, and for sources of one file.
    """
    if nbytes > HELD_BYTES or not (source.folder or source.from_lists):
        return {}
    return {file.name: read_file(file) for file in files}


def _hashes(files: Sequence[Path], contents: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each file by its name."""
    if contents:
        return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return {file.name: hash_file(file) for file in files}


def check_hash(path: Path, sha256: str, wanted: str) -> None:
    """Raises SourceError with code hash-mismatch if a source's hash is not the wanted one ("": any)."""
    if wanted and sha256 != wanted:
        reason = f"its SHA-256 is {sha256}, the labels say {wanted}"
        raise SourceError.of(path, "hash-mismatch", reason, "fetch it again, or correct the table")


def _made(task: Task, source: Source, key: Key, hashes: Mapping[str, str]) -> Entry:
    """Convert a source, whose files have these hashes by their names, and write its volumes."""
    if task.recipe.sample == "picture":
        return _made_pictures(task, PictureConversion(source, task.recipe), key, hashes)
    conversion = convert(source, task.recipe)
    sha256 = write_chunk(task.chunk, conversion.volume)
    return _entry(task, key, conversion.facts, conversion.statistics, sha256=sha256)


def _made_pictures(task: Task, conversion: PictureConversion, key: Key, hashes: Mapping[str, str]) -> Entry:
    written = iter(write_chunks(task.chunk, _unless_unreadable(task.path, conversion.volumes())))
    if all(picture.problem for picture in conversion.pictures):
        raise _no_pictures(task.path, conversion.pictures)
    source = SOURCE_TYPES[task.recipe.type]
    chosen = iter(conversion.selected())
    pictures = []
    for picture in conversion.pictures:
        entry = PictureEntry(
            picture.name,
            picture.position,
            _file_of(task.source, picture.file, alone=source.from_lists),
            hashes[picture.file or task.path.name],
            problem=picture.problem,
        )
        if picture.problem is None:
            entry = replace(entry, sha256=next(written), selected=int(next(chosen)))
        pictures.append(entry)
    facts = {**conversion.facts, STACK_SHA256: key.source_sha256, PICTURES: len(pictures)}
    return _entry(task, key, facts, conversion.statistics(), pictures=tuple(pictures))


def _file_of(source: str, file: str, *, alone: bool) -> str:
    """The file of a picture, as a path below the dataset's folder; ``alone`` without the source's name."""
    if alone or not file:
        return file or source
    return f"{source}/{file}"


def _unless_unreadable(path: Path, volumes: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The volumes. An OSError that a reader lets pass is the source's, not that of the disk written to."""
    try:
        yield from volumes
    except OSError as error:
        reason = str(error.strerror or error)
        raise SourceError.of(path, "unreadable", reason, "fix its permissions or its disk") from None


def _no_pictures(path: Path, pictures: Sequence[ConvertedPicture]) -> SourceError:
    first = next((str(picture.problem.reason) for picture in pictures if picture.problem), "there is none")
    reason = f"none of its {len(pictures)} pictures can be used; the first: {first}"
    return SourceError.of(path, "no-frames", reason, "fetch or export them again")


def _entry(task: Task, key: Key, facts: Facts, statistics: Statistics, **made: Any) -> Entry:
    return Entry(
        source=task.source,
        source_sha256=key.source_sha256,
        recipe_sha256=key.recipe_sha256,
        sha256=made.get("sha256", ""),
        facts=canonical_json(facts).decode(),
        made_with=made_with(key.converter),
        statistics=canonical_json(statistics).decode(),
        pictures=made.get("pictures", ()),
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
