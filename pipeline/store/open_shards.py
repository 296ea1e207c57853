"""Shards that are kept open while pictures are read from them, so that a picture is one system call."""

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.store.chunks import checksum

MOST = 256  # files; the usual limit of a process is 1024


class OpenShards:
    """The shards of one store, opened when they are first read, and closed with this object.

    Threads may share it: a file is read at a place, and never closed while the object lives. A store that a
    build replaces meanwhile is read on to its end, since its files stay while they are open.
    """

    def __init__(self, path_of: Callable[[int], Path]) -> None:
        """``path_of`` gives the path of a shard by its number."""
        self._path_of = path_of
        self._open: dict[int, int] = {}
        weakref.finalize(self, _close, self._open)

    def read(self, number: int, volume: NDArray[Any], start: int) -> int | None:
        """Fill ``volume`` from a byte of a shard on; the CRC-32C of what was read, None where that failed."""
        descriptor = self._open.get(number)
        if descriptor is None:
            descriptor = self._opened(number)
        if descriptor is None or os.preadv(descriptor, [volume.data], start) != volume.nbytes:
            return None
        return checksum(volume)

    def _opened(self, number: int) -> int | None:
        if len(self._open) >= MOST:
            return None
        with suppress(OSError):  # whoever reads the file by its path will say what is wrong
            descriptor = os.open(self._path_of(number), os.O_RDONLY | os.O_CLOEXEC)
            kept = self._open.setdefault(number, descriptor)
            if kept != descriptor:  # another thread was faster
                os.close(descriptor)
            return kept
        return None


def _close(opened: dict[int, int]) -> None:
    for descriptor in opened.values():
        os.close(descriptor)
