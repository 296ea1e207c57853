"""What a store is: a Zarr v3 group with one chunk per sample and a table, complete or not there at all.

    NAME.zarr/
      volume/             (sample, depth, height, width); one chunk = one sample; codecs bytes, crc32c
      id/ label/ group/ source/ source_sha256/ sha256/ facts/ made_with/ statistics/
                          (sample,); rows sorted by id
      stack/ position/ selected/
                          (sample,); where samples are pictures: rows sorted by stack and position
      crc32c/             (sample,); the checksum that each chunk ends with
      id/viptt.json       a copy of what the root says, in case the root is damaged
      zarr.json           written last: header, digest over recipe, classes and rows, hashes of small files

A chunk is the volume in C order, little-endian, followed by four bytes of CRC-32C, which is
exactly what Zarr's codecs ``bytes`` and ``crc32c`` give. Volumes are not compressed: resampled
float16 shrinks by a sixth only, and plain chunks can be checked and fed at the speed of the disk.
A volume of a stack has a file of its own. Pictures share files: the chunks of consecutive rows lie one
after the other in a shard (Zarr's ``sharding_indexed``), whose index comes at its end.

Values are in [0, 1]. A missing chunk is an error here, never a fill value.

Beside it there may be ``NAME.features.zarr``, what a network made of every volume: a store like it,
whose array is ``features`` (sample, depth, feature). Its recipe's type is "features", and its rows
have the ids, labels and groups of the volumes; ``source`` is the id, ``source_sha256`` the volume's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
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

    A picture has a ``stack``, the id of the stack it belongs to, and its ``position`` there, from 0 on;
    ``selected`` is 1 unless the recipe selects frames and left this one out.
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


OF_PICTURES = ("stack", "position", "selected")  # columns that only a store of pictures has


COLUMNS = tuple(column.name for column in fields(Row) if column.name not in OF_PICTURES)


BESIDE_DIGEST = ("made_with", "statistics")  # columns that say nothing of what the volumes are


CHECKSUMS = "crc32c"


NUMBERS = {  # of the columns; the others are text
    "label": np.dtype("<i8"),
    "position": np.dtype("<i8"),
    "selected": np.dtype("u1"),
    CHECKSUMS: np.dtype("<u4"),
}


SHARD_BYTES = 48 << 20  # of pictures in one file, at most


NESTED = 0  # samples per file in stores of viptt 0.1.0, whose chunks lie in folders of their own


@dataclass(frozen=True)
class Header:
    """What the store says of itself: every parameter that decides its bytes, and who made it.

    ``per_file`` is the number of samples in one file: 1, more where they lie in shards, or NESTED.
    """

    dataset: str
    recipe: Json
    classes: tuple[str, ...]
    created_with: Json
    per_file: int = NESTED

    @property
    def pictures(self) -> bool:
        """Whether a sample is one picture of a stack."""
        return self.recipe.get("sample") == "picture"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the table, but for the checksums."""
        return (*COLUMNS, *OF_PICTURES) if self.pictures else COLUMNS

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

    @cached_property
    def volume_bytes(self) -> int:
        """Bytes of one volume, without its checksum."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one volume with its checksum."""
        return self.volume_bytes + CRC_BYTES

    def with_files(self) -> "Header":
        """This header for a new store: pictures in shards, other samples in a file each."""
        per_file = max(1, SHARD_BYTES // self.chunk_bytes) if self.pictures else 1
        return replace(self, per_file=per_file)

    def file_key(self, index: int) -> str:
        """Zarr's key of the file that holds one sample's chunk."""
        if self.per_file == NESTED:
            return f"{self.array}/c/{index}{'/0' * len(self.shape)}"
        return f"{self.array}/c.{index // self.per_file}{'.0' * len(self.shape)}"

    def start(self, index: int) -> int:
        """Where in its file one sample's chunk begins."""
        return index % self.per_file * self.chunk_bytes if self.per_file > 1 else 0


def features_of(store: Path) -> Path:
    """Where the features of a store lie: beside it, wherever a link may lead to it."""
    store = store.resolve()
    return store.with_name(f"{store.name.removesuffix('.zarr')}.{FEATURES}.zarr")


def statistics_of(split_file: Path) -> Path:
    """Where the mean and deviation of a train part lie: beside the file of its split."""
    return split_file.with_name(f"{split_file.name.removesuffix('.json')}.statistics.json")


def digest_of(recipe: Json, classes: Sequence[str], rows: Iterable[Row]) -> str:
    """``sha256:…`` over recipe, classes and every row; what a split is bound to."""
    hasher = hashlib.sha256(canonical_json({"classes": list(classes), "recipe": recipe}))
    # One encoder for all rows: making one for each took most of the time of opening 100,000.
    encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
    # Stores of stacks have the digest that they had before there were stores of pictures.
    untold = BESIDE_DIGEST if recipe.get("sample") == "picture" else (*BESIDE_DIGEST, *OF_PICTURES)
    for row in rows:
        told = {name: value for name, value in vars(row).items() if name not in untold}
        hasher.update(b"\n" + encode(told).encode())
    return f"sha256:{hasher.hexdigest()}"


def small_names(array: str, columns: Iterable[str]) -> list[str]:
    """Names below a store of every file but the chunks and the root: they are few and small."""
    files = [f"{column}/{name}" for column in (*columns, CHECKSUMS) for name in (ROOT, "c/0")]
    return [f"{array}/{ROOT}", *files, COPY]


def document_sha256(document: Json) -> str:
    """SHA-256 of a JSON document's canonical text."""
    return text_sha256(canonical_json(document))


def text_sha256(text: bytes) -> str:
    """SHA-256 of a text, in lower-case hexadecimal digits."""
    return hashlib.sha256(text).hexdigest()


def rendered(document: Json) -> bytes:
    """The one text of the root document, and of its copy."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
