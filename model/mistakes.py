"""The worst mistakes of a run, with pictures: samples that it took for another class with most certainty.

Volumes are (depth, height, width), values 0 to 1, or 0 to 255 in a store of uint8. A strip is gray, uint8,
its pictures one below the other.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.judged import Mistake, read_mistakes
from model.png import png
from model.run_folder import PREDICTIONS, Data
from pipeline.errors import IntegrityError
from pipeline.store import Store, open_store

MOST = 12  # on a page, of all its runs
STEPS = 12  # pictures of a stack
SIDE = 112  # pixels that a picture has at most


@dataclass(frozen=True)
class Strip:
    """Some pictures of a volume; ``numbers`` are their positions in it, from 1, ``ratio`` width by height."""

    uri: str
    numbers: tuple[int, ...]
    depth: int
    ratio: float


@dataclass(frozen=True)
class Mistakes:
    """The number of wrong samples, the worst of them with their strips, and why there are no pictures."""

    wrong: int
    worst: tuple[tuple[Mistake, Strip | None], ...]
    note: str = ""


def worst_mistakes(folder: Path, data: Data, metrics: Mapping[str, Any], *, most: int) -> Mistakes:
    """The mistakes in a run's predictions; pictures come from the store of its training, if it is there.

    Raises IntegrityError if the predictions or a volume that is shown are damaged.
    """
    mistakes = read_mistakes(folder / PREDICTIONS, data.classes)
    chosen = mistakes[:most]
    store, note = _store_of(data, metrics)
    if store is None:
        return Mistakes(len(mistakes), tuple((mistake, None) for mistake in chosen), note)
    index_of = {row.id: index for index, row in enumerate(store.rows)}
    strips = (_strip(store.read(index_of[mistake.id])) for mistake in chosen)
    return Mistakes(len(mistakes), tuple(zip(chosen, strips, strict=True)))


def _store_of(data: Data, metrics: Mapping[str, Any]) -> tuple[Store | None, str]:
    """The store whose samples were judged, or why it cannot be shown."""
    try:
        store = open_store(data.store)
    except IntegrityError:
        return None, f"There are no pictures: the store {data.store} is not there, or cannot be read."
    if store.digest != metrics.get("store_digest", data.store_digest):
        return None, f"There are no pictures: the samples are not those of {data.store} as it is now."
    return store, ""


def _strip(volume: NDArray[Any]) -> Strip:
    numbers = np.unique(np.linspace(0, len(volume) - 1, min(len(volume), STEPS)).round().astype(np.int64))
    pictures = [_shrunk(_gray(volume[number])) for number in numbers]
    height, width = pictures[0].shape
    data = base64.b64encode(png(np.concatenate(pictures))).decode()
    return Strip(f"data:image/png;base64,{data}", tuple((numbers + 1).tolist()), len(volume), width / height)


def _gray(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Gray levels from 0 to 255, as float."""
    values = picture.astype(np.float32)
    return values if picture.dtype == np.uint8 else np.clip(values, 0, 1) * 255


def _shrunk(picture: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Means of square blocks, so that no side has more than ``SIDE`` pixels."""
    block = -(-max(picture.shape) // SIDE)
    height, width = (max(1, size // block) for size in picture.shape)
    # What is left over at the right and at the bottom is less than a block.
    whole = picture[: height * block, : width * block]
    rows, columns = (min(block, size) for size in picture.shape)
    means = whole.reshape(height, rows, width, columns).mean(axis=(1, 3))
    shrunk: NDArray[np.uint8] = np.rint(means).astype(np.uint8)
    return shrunk
