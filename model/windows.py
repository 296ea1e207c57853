"""Which rows of a store make one sample of a training: volumes, pictures, or windows of pictures.

A store of pictures has volumes of depth 1, one row per picture, sorted by stack and position. A window is
a run of neighbouring rows. It is known by its first: it has the id of its first picture, and its row.

What a network gets, without the batch:

    a volume     (depth, height, width, 1)
    a picture    (height, width, 1)
    a window     (length, height, width, 1)

Importing this module needs no TensorFlow.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.settings import Settings, Window
from pipeline.errors import Code, ConfigError, Problem
from pipeline.store import Json, Row, Store

Volume = NDArray[Any]
Shape = tuple[int, ...]
Refuse = Callable[[str, Problem], None]  # called with a source that cannot be used, and why
PICTURE = "picture"


class NewVolume(Protocol):
    """A volume of the run's recipe that is in no store, and the file that it was made from.

    Of a picture, ``position`` is its place in its stack, from 0 on. ``facts`` is the JSON text of what the
    reader found.
    """

    @property
    def id(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def stack(self) -> str: ...
    @property
    def volume(self) -> Volume: ...
    @property
    def position(self) -> int: ...
    @property
    def facts(self) -> str: ...


@dataclass(frozen=True)
class NewWindow:
    """Pictures that follow each other, (length, height, width), with id and position of the last."""

    id: str
    source: str
    stack: str
    volume: Volume
    position: int
    facts: str = "{}"


def is_of_pictures(recipe: Json) -> bool:
    """Whether a store of this recipe holds pictures, not whole stacks."""
    return recipe.get("sample") == PICTURE


def sample_shape(stored: Sequence[int], recipe: Json, window: Window | None) -> Shape:
    """Shape of what a network gets, from that of a stored volume (depth, height, width).

    Raises ConfigError if windows are asked for where there are no pictures.
    """
    if is_of_pictures(recipe):
        _, height, width = stored[:3]
        return (height, width, 1) if window is None else (window.length, height, width, 1)
    if window is not None:
        reason = "the store holds whole stacks, and windows are made of pictures"
        raise ConfigError.of("window", "no-pictures", reason, "build with `sample: picture`, or leave it out")
    depth, height, width = stored[:3]
    return (depth, height, width, 1)


def sample_rows(store: Store, rows: Sequence[int], settings: Settings, *, where: str) -> tuple[int, ...]:
    """Of these rows of a store, those that are a sample, or the first of one, with these settings.

    The order is that of ``rows``; of windows, that of the store. Raises ConfigError if none is left.
    """
    if settings.window is None:
        chosen = tuple(row for row in rows if settings.frames == "all" or store.rows[row].selected)
    else:
        chosen = tuple(window_starts(store.rows, rows, settings.window))
    if not chosen and rows:
        raise _without_samples(store, rows, settings.window, where)
    return chosen


def _without_samples(store: Store, rows: Sequence[int], window: Window | None, where: str) -> ConfigError:
    if window is None:
        reason, remedy = "no picture of it is selected", "train on `frames: all`"
        return ConfigError.of(where, "no-windows", reason, remedy)
    longest = max(map(len, _runs(store.rows, rows)))
    alike = " of one label" if window.labels == "same" and longest >= window.length else ""
    reason = f"no {window.length} pictures{alike} follow each other; without a gap, {longest} do at most"
    return ConfigError.of(where, "no-windows", reason, "give a shorter `window`")


def stacks_without_windows(
    table: Sequence[Row], rows: Sequence[int], starts: Sequence[int]
) -> tuple[str, ...]:
    """The stacks of ``rows`` that none of the windows, known by their first rows, is of; sorted."""
    used = {table[row].stack for row in starts}
    return tuple(sorted({table[row].stack for row in rows} - used))


def window_starts(table: Sequence[Row], rows: Sequence[int], window: Window) -> Iterator[int]:
    """The first row of each window among ``rows``, which may be some of a table's and in any order.

    All pictures of a window are among ``rows``, of one stack, one position after the other. The windows
    of a stack start every ``stride`` pictures, counted from the start of a run without gaps.
    """
    for run in _runs(table, rows):
        for start in range(0, len(run) - window.length + 1, window.stride):
            labels = {table[row].label for row in run[start : start + window.length]}
            if window.labels == "last" or len(labels) == 1:
                yield run[start]


def windows_of(volumes: Iterable[NewVolume], length: int, *, refuse: Refuse) -> Iterator[NewWindow]:
    """A window that ends at each picture with enough others right before it, from pictures as they come.

    The pictures of a source come one after the other, by position. ``refuse`` is called for a source that
    has no window, and the next one follows.
    """
    for source, pictures in groupby(volumes, key=lambda picture: picture.source):
        recent: deque[NewVolume] = deque(maxlen=length)
        found = False
        for picture in pictures:
            if recent and picture.position != recent[-1].position + 1:
                recent.clear()
            recent.append(picture)
            if len(recent) == length:
                found = True
                values = np.concatenate([each.volume for each in recent])
                yield NewWindow(picture.id, source, picture.stack, values, picture.position)
        if not found:
            refuse(source, _no_window(source, length))


def _no_window(source: str, length: int) -> Problem:
    reason = f"it has no {length} pictures that follow each other, which make a window of the run"
    remedy = "leave it out, or predict it by a run of single pictures"
    return Problem(source, Code.NO_WINDOWS, reason, remedy)


def _runs(table: Sequence[Row], rows: Sequence[int]) -> Iterator[list[int]]:
    """Rows that follow each other in the table, of one stack and without a gap in their positions."""
    run: list[int] = []
    for row in sorted(rows):
        if run and not (row == run[-1] + 1 and _follows(table[run[-1]], table[row])):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _follows(before: Row, after: Row) -> bool:
    return before.stack == after.stack and after.position == before.position + 1
