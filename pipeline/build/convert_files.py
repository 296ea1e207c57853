"""New files, in no catalog, to volumes: what a build does with its sources, without a store.

Each file is one task like a build's, in the same workers, so that a decoder which crashes, hangs or
wants too much memory costs only its file. A volume waits in a temporary folder until its turn
comes: they come in the order of the files, one at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.build.collect import entry_warnings
from pipeline.build.execute import run_jobs
from pipeline.build.options import Options
from pipeline.build.reuse import staged_chunks
from pipeline.build.staging import FOLDERS, Entry, Staging
from pipeline.build.worker import Result, Task, process
from pipeline.errors import ConfigError, Problem, ResourceError
from pipeline.readers import SOURCE_TYPES
from pipeline.readers.reading import Listed, Source, SourceType
from pipeline.recipe import Recipe
from pipeline.sources import Quarantined
from pipeline.sources.discover import check_names, find_files, find_stacks, sample_ids
from pipeline.sources.picture_labels import scan_of
from pipeline.store import CRC_BYTES, Chunk, read_chunk

Nameless = tuple[Quarantined, ...]


@dataclass(frozen=True)
class Incoming:
    """A file: its id as a catalog would give it, and its path as the user wrote it."""

    id: str
    source: str


@dataclass(frozen=True)
class Arrival:
    """The volume of a file, (depth, height, width) in the recipe's dtype, and what is doubtful about it.

    ``stack`` is the scan or clip that a picture is of, "" for whole stacks, and ``position`` its place there,
    from 0 on; pictures that cannot be read count. ``facts`` is the JSON text of what the reader found in a
    whole stack.
    """

    id: str
    source: str
    volume: NDArray[Any]
    warnings: tuple[Problem, ...]
    stack: str = ""
    position: int = 0
    facts: str = "{}"


def list_incoming(paths: Sequence[Path], type_: str) -> tuple[tuple[Incoming, ...], Nameless]:
    """The files at these paths, in their order, each once; and those whose names are not UTF-8.

    A folder stands for all sources of the type below it, sorted. Of other paths, only the content
    says what they are, when they are read. Raises ConfigError for a folder without sources.
    """
    source_type = SOURCE_TYPES[type_]
    files: dict[Path, str] = {}
    nameless: list[Quarantined] = []
    for path in paths:
        folder, names = _sources(path, source_type)
        names, unwritable = check_names(folder, names)
        nameless += unwritable
        for name in names:
            files.setdefault((folder / name).absolute(), (folder / name).as_posix())
    ids = sample_ids(list(files.values()), source_type.endings)
    return tuple(Incoming(sample, source) for source, sample in ids.items()), tuple(nameless)


def _sources(path: Path, type_: SourceType) -> tuple[Path, list[str]]:
    """A folder and the names of the sources below it; or the folder and the name of one source."""
    if (
        not path.is_dir()
        or path.name.lower().endswith(type_.suffixes)
        or (type_.folder and type_.files(Source(path)))
    ):
        return path.parent, [path.name]
    names = list((find_stacks if type_.folder else find_files)(path, type_.suffixes).sources)
    if not names:
        reason = f"no file below it ends in {', '.join(type_.suffixes)}"
        raise ConfigError.of(path, "no-sources", reason, "name a folder with sources, or the files")
    return path, names


def convert_incoming(
    files: Sequence[Incoming],
    recipe: Recipe,
    options: Options,
    *,
    report: Callable[[Result], None] = lambda result: None,
) -> Iterator[Arrival | Quarantined]:
    """Convert files as a build would, and give each as a volume, or as quarantined, in their order.

    ``report`` is called after each file. Raises ResourceError if the temporary folder is full.
    """
    options = replace(options, workers=min(options.workers, len(files)))
    done: dict[str, Entry] = {}
    with (
        _staging() as staging,
        closing(run_jobs(_tasks(files, recipe, staging), options, process)) as results,
    ):
        for file in files:
            while file.source not in done:
                result = next(results)
                report(result)
                done[result.entry.source] = result.entry
            yield from _arrivals(file, recipe, staging, done.pop(file.source))


def _arrivals(
    file: Incoming, recipe: Recipe, staging: Staging, entry: Entry
) -> Iterator[Arrival | Quarantined]:
    """The volume of a file, or one for each of its pictures. Its chunks are read once, and removed."""
    if entry.problem:
        yield Quarantined(file.source, entry.problem, entry.source_sha256)
        return
    warnings = _warnings(file, recipe, entry)
    path = staging.chunk(file.source)
    chunks = iter(staged_chunks(path, entry, recipe.volume_bytes + CRC_BYTES))
    for position, picture in enumerate(entry.pictures):
        if picture.problem:
            yield Quarantined(picture.source, picture.problem, entry.source_sha256)
            continue
        alone = SOURCE_TYPES[recipe.type].from_lists
        name = file.id if alone else f"{file.id}/{picture.name}"
        stack = scan_of(Path(file.source).name) if alone else file.id
        volume = _volume(next(chunks), recipe, picture.sha256, picture.source)
        yield Arrival(name, file.source, volume, warnings, stack, position)
        warnings = ()
    whole = None if entry.pictures else _volume(next(chunks), recipe, entry.sha256, entry.source)
    path.unlink()
    if whole is not None:
        yield Arrival(file.id, file.source, whole, warnings, facts=entry.facts)


def _warnings(file: Incoming, recipe: Recipe, entry: Entry) -> tuple[Problem, ...]:
    return tuple(entry_warnings(Path(file.source), SOURCE_TYPES[recipe.type], entry))


@contextmanager
def _staging() -> Iterator[Staging]:
    """Where chunks lie until they are read: a folder that ends with the block."""
    try:
        root = TemporaryDirectory(prefix="viptt-")
    except OSError as error:
        remedy = "point TMPDIR to a folder that can be written"
        raise ResourceError.of("temporary folder", "cannot-write", str(error.strerror), remedy) from error
    with root as name:
        for folder in FOLDERS:
            Path(name, folder).mkdir()
        yield Staging(Path(name))


def _tasks(files: Sequence[Incoming], recipe: Recipe, staging: Staging) -> Iterator[Task]:
    from_lists = SOURCE_TYPES[recipe.type].from_lists
    for file in files:
        path = Path(file.source)
        yield Task(
            source=file.source,
            path=path.parent if from_lists else path,
            listed=(Listed(path.name),) if from_lists else (),
            recipe=recipe,
            recipe_sha256="",
            chunk=staging.chunk(file.source),
            journal=staging.journal(file.source),
        )


def _volume(chunk: Chunk, recipe: Recipe, sha256: str, name: str) -> NDArray[Any]:
    payload = read_chunk(chunk, recipe.volume_bytes, sha256, name=name)
    return payload.view(np.dtype(recipe.dtype).newbyteorder("<")).reshape(recipe.shape)
