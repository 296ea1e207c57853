"""Small pictures of some stacks: a strip of slices or frames each, as a data URI.

Volumes are (depth, height, width) with values 0 to 1, or 0 to 255 in a store of uint8. A strip is gray,
uint8, its pictures one below the other.
"""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.report.samples import SampleFigures
from pipeline.store import Store

SIDE = 128  # pixels of the longer side of a picture
STEPS = 24  # pictures of a stack
ODD_SHOWN = 18
SHOWN = 36  # of all classes together
MOST_OF_A_CLASS = 6
GAIN = 2  # of a difference picture: half of the range is black or white from a quarter on
BUDGET = 5_500_000  # bytes of all strips
QUALITIES = (78, 60, 40, 20, 5)  # of WebP; noise needs many bytes and shows nothing


@dataclass(frozen=True)
class Strip:
    """Some pictures of one sample's volume, evenly spread from its first to its last.

    ``numbers`` are their positions in the volume, from 1; ``ratio`` is width by height of one of them.
    """

    sample: SampleFigures
    uri: str
    numbers: tuple[int, ...]
    depth: int
    ratio: float


def choose_shown(
    samples: Sequence[SampleFigures], classes: Sequence[str]
) -> tuple[list[SampleFigures], dict[str, list[SampleFigures]]]:
    """The oddest samples, and some of each class in an order that no name or number has influence on."""
    odd = [sample for sample in samples if sample.reasons][:ODD_SHOWN]
    each = max(1, min(MOST_OF_A_CLASS, SHOWN // max(1, len(classes))))
    members: defaultdict[str, list[SampleFigures]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: hashlib.sha256(sample.id.encode()).digest()):
        if len(members[sample.label]) < each:
            members[sample.label].append(sample)
    return odd, {label: members[label] for label in classes if label in members}


def read_strips(store: Store, samples: Iterable[SampleFigures]) -> dict[int, Strip]:
    """The strip of each sample, by its row. Raises IntegrityError if a volume is damaged."""
    wanted = {sample.index: sample for sample in samples}
    budget = BUDGET // max(1, len(wanted))
    return {index: _strip(store.read(index), sample, budget) for index, sample in wanted.items()}


def _strip(volume: NDArray[Any], sample: SampleFigures, budget: int) -> Strip:
    numbers, size = _numbers(len(volume)), _size(volume.shape)
    pictures = [_resized(gray(volume[number]), size) for number in numbers]
    return _as_strip(pictures, sample, numbers, len(volume), budget)


def pair_strip(first: NDArray[Any], second: NDArray[Any], sample: SampleFigures, budget: int) -> Strip:
    """The strip of two volumes of one sample: in each picture the first, the second, and their difference.

    The difference is gray 128 where they are equal, brighter where the second is. Where the depths differ,
    the second picture is at the same part of its depth.
    """
    numbers, size = _numbers(len(first)), _size(first.shape)
    scale = (len(second) - 1) / max(1, len(first) - 1)
    pictures = [
        _beside(_resized(gray(first[number]), size), _resized(gray(second[round(number * scale)]), size))
        for number in numbers
    ]
    return _as_strip(pictures, sample, numbers, len(first), budget)


def _beside(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.uint8]:
    change = np.clip(128 + GAIN * (second.astype(np.int16) - first), 0, 255).astype(np.uint8)
    return np.concatenate([first, second, change], axis=1)


def _numbers(depth: int) -> NDArray[np.int64]:
    """Positions of the pictures that a strip shows of a volume."""
    return np.unique(np.linspace(0, depth - 1, min(depth, STEPS)).round().astype(np.int64))


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height on the page of the pictures of a volume of this shape."""
    _, height, width = shape
    ratio = SIDE / max(height, width)
    return max(1, round(width * ratio)), max(1, round(height * ratio))


def _as_strip(
    pictures: list[NDArray[Any]], sample: SampleFigures, numbers: NDArray[np.int64], depth: int, budget: int
) -> Strip:
    height, width = pictures[0].shape
    uri = f"data:image/webp;base64,{base64.b64encode(_encoded(np.concatenate(pictures), budget)).decode()}"
    return Strip(sample, uri, tuple((numbers + 1).tolist()), depth, width / height)


def gray(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """Gray levels 0 to 255 of a picture of a store."""
    if picture.dtype == np.uint8:
        return picture
    return np.rint(np.clip(picture.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[Any]:
    # The average of the pixels below, or sharp pixels where a volume has fewer than the page.
    larger = size[0] > picture.shape[1] or size[1] > picture.shape[0]
    return np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST if larger else cv2.INTER_AREA)
    )


def _encoded(strip: NDArray[Any], budget: int) -> bytes:
    """The strip as WebP, in the best quality that fits the budget."""
    data = b""
    for quality in QUALITIES:
        data = cv2.imencode(".webp", strip, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) * 4 <= budget * 3:  # base64 makes four bytes of three
            break
    return data
