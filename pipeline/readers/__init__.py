"""One source type = one file here: a path goes in, an array with its facts comes out.

Arrays are (depth, height, width): slices or frames, rows, columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.readers import nifti, video
from pipeline.readers.reading import Facts, Reading


@dataclass(frozen=True)
class Reader:
    """How one type of source is recognised, read, and looked at without reading its pixels.

    ``examine`` reads every byte, and returns the facts without the array, which may be too large to be held.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], Reading]
    inspect: Callable[[Path], Facts]
    examine: Callable[[Path], Facts]


READERS: Mapping[str, Reader] = {
    "nifti": Reader(nifti.SUFFIXES, nifti.read, nifti.inspect, lambda path: nifti.read(path).facts),
    "video": Reader(video.SUFFIXES, video.read, video.inspect, video.examine),
}
