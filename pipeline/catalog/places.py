"""Every place on disk that a catalog names or that follows from one: nothing is written over another.

Places are compared with links resolved, so that two names of one folder are one place.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.catalog.schema import Catalog, Dataset
from pipeline.errors import Code, ConfigError, Problem
from pipeline.store import features_of, statistics_of

REMEDY = "give each a place of its own"


@dataclass(frozen=True)
class Place:
    """A file or folder, and the key of the catalog (``ct.store``) that it belongs to.

    ``kind`` says what lies there: a ``store`` or what is built beside it, a ``run``, a ``file`` that is
    written, the ``sources``, or another file that is only ``read``. ``suffixes`` are those of sources.
    """

    key: str
    kind: Literal["store", "run", "file", "sources", "read"]
    path: Path
    suffixes: tuple[str, ...] = ()

    @property
    def written(self) -> bool:
        """Whether the program writes or replaces what lies there."""
        return self.kind in ("store", "run", "file")


def check_places(catalog: Catalog, where: Mapping[str, str]) -> None:
    """Refuse a catalog with an output in the place of an input or of another output.

    ``where`` gives the place in the document of each key. Raises ConfigError with all collisions.
    """
    places = list(_places(catalog))
    problems = [*_unusable(places, where), *_collisions(places, where)]
    if problems:
        raise ConfigError(*problems)


def check_output(path: Path, catalog: Catalog, *, name: str = "--run") -> None:
    """Refuse a folder, given by the option ``name``, that collides with a place of the catalog.

    Raises ConfigError with all collisions.
    """
    output = Place(name, "run", path)
    problems = [*_unusable([output], {}), *_collisions([*_places(catalog), output], {}, only=name)]
    if problems:
        raise ConfigError(*problems)


def _places(catalog: Catalog) -> Iterator[Place]:
    """The place that a key names comes before those that follow from it."""
    yield Place("catalog", "read", catalog.file)
    for dataset in catalog.datasets.values():
        yield from _dataset_places(dataset)


def _dataset_places(dataset: Dataset) -> Iterator[Place]:
    name, store = dataset.name, dataset.store
    yield Place(f"{name}.path", "sources", dataset.path, dataset.source_type.suffixes)
    for key, path in dataset.read_files.items():
        yield Place(f"{name}.{key}", "read", path)
    for file in (dataset.split.file, statistics_of(dataset.split.file)):
        yield Place(f"{name}.split.file", "file", file)
    yield Place(f"{name}.store", "store", store)
    # The quarantine lies beside the path as it is written, all else beside what a link leads to.
    real = Path(os.path.realpath(store))
    if store.name and real.name and not _is_loop(real):
        yield Place(f"{name}.store", "file", dataset.quarantine_file)
        yield Place(f"{name}.store", "file", dataset.throughput_file)
        for folder in (real, features_of(real)):
            yield Place(f"{name}.store", "store", folder)
            yield Place(f"{name}.store", "store", folder.with_name(f"{folder.name}.building"))


def _is_loop(real: Path) -> bool:
    """Whether a path whose links were followed is a link still: then they lead back to it."""
    return os.path.islink(real)  # noqa: PTH114 - Path's raises an error for a name that is too long


def _unusable(places: Iterable[Place], where: Mapping[str, str]) -> Iterator[Problem]:
    """Places that cannot be what they are to be; no other place follows from them."""
    for place in places:
        at, real = where.get(place.key, place.key), Path(os.path.realpath(place.path))
        if place.kind == "store" and not real.name:
            yield Problem(at, Code.BAD_VALUE, f"{place.path} is the root of all files", REMEDY)
        # A folder of sources that cannot be read is refused when it is listed.
        if place.kind != "sources" and _is_loop(real):
            yield Problem(at, Code.LINK_LOOP, f"{place.path} is a link to itself", "remove the link")


def _collisions(
    places: Iterable[Place], where: Mapping[str, str], *, only: str | None = None
) -> Iterator[Problem]:
    """One problem for two keys, however many of their places collide."""
    # A store has several places, so two datasets that share one would collide five times over.
    told = set()
    for inner, outer, same in _overlaps(places):
        keys = frozenset((inner.key, outer.key))
        if keys not in told and only in (None, *keys) and _collide(inner, outer, same=same):
            told.add(keys)
            yield _problem(inner, outer, where, same=same)


def _overlaps(places: Iterable[Place]) -> Iterator[tuple[Place, Place, bool]]:
    """Pairs of places of which the first lies inside the second, or is the same (then the later is first)."""
    at: defaultdict[Path, list[Place]] = defaultdict(list)
    for place in places:
        at[Path(os.path.realpath(place.path))].append(place)
    for path, group in at.items():
        for inner in reversed(group):
            for above in (path, *path.parents):
                for outer in at.get(above, ()):
                    yield inner, outer, above == path


def _collide(inner: Place, outer: Place, *, same: bool) -> bool:
    if inner.key == outer.key or not (inner.written or outer.written):
        return False
    if outer.kind == "sources" and inner.kind == "file" and not same:
        # A split file may lie among the sources where it cannot be taken for one.
        return inner.path.name.lower().endswith(outer.suffixes)
    return True


def _problem(inner: Place, outer: Place, where: Mapping[str, str], *, same: bool) -> Problem:
    if outer.kind == "sources" and inner.kind == "store":
        code = Code.STORE_IN_SOURCES
    elif inner.kind == "sources" and outer.kind == "store":
        code = Code.SOURCES_IN_STORE
    else:
        code = Code.SHARED_OUTPUT if same else Code.NESTED_OUTPUT
    relation = "is also" if same else "lies inside"
    reason = f"{inner.path} ({inner.key}) {relation} {outer.path} ({outer.key})"
    written = inner if inner.written else outer
    return Problem(where.get(written.key, written.key), code, reason, REMEDY)
