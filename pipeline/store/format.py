"""What a store is: a Zarr v3 group with one chunk per sample and a table, complete or not there at all.

    NAME.zarr/
      volume/             (sample, depth, height, width); one chunk = one sample; codecs bytes, crc32c
      id/ label/ group/ source/ source_sha256/ sha256/ facts/ made_with/ statistics/
                          (sample,); rows sorted by id
      crc32c/             (sample,); the checksum that each chunk ends with
      id/viptt.json       a copy of what the root says, in case the root is damaged
      zarr.json           written last: header, digest over recipe, classes and rows, hashes of small files

A chunk file is the volume in C order, little-endian, followed by four bytes of CRC-32C, which is
exactly what Zarr's codecs ``bytes`` and ``crc32c`` give. Volumes are not compressed: resampled
float16 shrinks by a sixth only, and plain chunks can be checked and fed at the speed of the disk.

Values are in [0, 1]. A missing chunk is an error here, never a fill value.

Beside it there may be ``NAME.features.zarr``, what a network made of every volume: a store like it,
whose array is ``features`` (sample, depth, feature). Its recipe's type is "features", and its rows
have the ids, labels and groups of the volumes; ``source`` is the id, ``source_sha256`` the volume's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import canonical_json

FORMAT = 1


FEATURES = "features"


DIMENSIONS = {
    "volume": ("sample", "depth", "height", "width"),
    FEATURES: ("sample", "depth", "feature"),
}


ROOT = "zarr.json"


# Inside a column: zarr-python warns of any file at the top of a group that it does not know.
COPY = "id/viptt.json"


CRC_BYTES = 4


REBUILD = "make it again from its sources: `viptt verify --repair`, or for features `viptt features`"


Json = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One sample of the table.

    ``label`` is an index into the header's classes, ``group`` is "" where there is none, ``source``
    is a path below the dataset's folder, the hashes are lower-case SHA-256 of the source's bytes and
    of the volume's bytes, ``facts`` is a JSON object with what the reader found (shape, spacing,
    frames, warnings). Outside of the digest stand ``made_with``, a JSON object with the versions and the
    number of the converter that made the volume, and ``statistics``, one with the range and a histogram
    of the source's values. Both are empty in stores of viptt 0.1.0.
    """

    id: str
    label: int
    group: str
    source: str
    source_sha256: str
    sha256: str
    facts: str
    made_with: str = ""
    statistics: str = "{}"
    stack: str = ""
    position: int = 0
    selected: int = 1


PLACE = ("stack", "position", "selected")  # not stored yet
COLUMNS = tuple(column.name for column in fields(Row) if column.name not in PLACE)


BESIDE_DIGEST = ("made_with", "statistics")  # columns that say nothing of what the volumes are


CHECKSUMS = "crc32c"


NUMBERS = {"label": np.dtype("<i8"), CHECKSUMS: np.dtype("<u4")}  # of the columns; the others are text


@dataclass(frozen=True)
class Header:
    """What the store says of itself: every parameter that decides its bytes, and who made it."""

    dataset: str
    recipe: Json
    classes: tuple[str, ...]
    created_with: Json

    @property
    def array(self) -> str:
        """Name of the array that holds the samples: "volume", or "features"."""
        return FEATURES if self.recipe.get("type") == FEATURES else "volume"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every sample: (depth, height, width), or (depth, feature)."""
        return tuple(self.recipe["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian dtype of the volumes: float16, float32 or uint8."""
        return np.dtype(self.recipe["dtype"]).newbyteorder("<")

    @property
    def volume_bytes(self) -> int:
        """Bytes of one volume, without its checksum."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def chunk_key(self, index: int) -> str:
        """Zarr's key of one sample's chunk."""
        return f"{self.array}/c/{index}{'/0' * len(self.shape)}"


def features_of(store: Path) -> Path:
    """Where the features of a store lie: beside it, wherever a link may lead to it."""
    store = store.resolve()
    return store.with_name(f"{store.name.removesuffix('.zarr')}.{FEATURES}.zarr")


def digest_of(recipe: Json, classes: Sequence[str], rows: Iterable[Row]) -> str:
    """``sha256:…`` over recipe, classes and every row; what a split is bound to."""
    hasher = hashlib.sha256(canonical_json({"classes": list(classes), "recipe": recipe}))
    # One encoder for all rows: making one for each took most of the time of opening 100,000.
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
    for row in rows:
        told = {name: value for name, value in vars(row).items() if name not in BESIDE_DIGEST + PLACE}
        hasher.update(b"\n" + encode(told).encode())
    return f"sha256:{hasher.hexdigest()}"


def small_names(array: str) -> list[str]:
    """Names below a store of every file but the chunks and the root: they are few and small."""
    columns = [f"{column}/{name}" for column in (*COLUMNS, CHECKSUMS) for name in (ROOT, "c/0")]
    return [f"{array}/{ROOT}", *columns, COPY]


def small_files(tree: Path, header: Header) -> list[Path]:
    """Paths of every file of a store but the chunks and the root."""
    return [tree / name for name in small_names(header.array)]


def document_sha256(document: Json) -> str:
    """SHA-256 of a JSON document's canonical text."""
    return text_sha256(canonical_json(document))


def text_sha256(text: bytes) -> str:
    """SHA-256 of a text, in lower-case hexadecimal digits."""
    return hashlib.sha256(text).hexdigest()


def rendered(document: Json) -> bytes:
    """The one text of the root document, and of its copy."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
