"""The split file of viptt: a JSON document, strict, with a hash of itself."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import IntegrityError, ResourceError
from pipeline.files import write_durably
from pipeline.split.strict import REQUIRED, check_shape, read_json
from pipeline.split.terms import ASSIGN_AGAIN, FORMAT, TRAIN

BEGINNING = re.compile(rb'\{\s*"format": \d+,\s*"dataset": "')  # of a split file that is cut or damaged


@dataclass(frozen=True)
class Split:
    """Named, disjoint lists of sample ids, bound to a store, and what there is to say about them.

    ``parts`` is name → ids, ``counts`` name → class → samples, ``groups`` name → groups, ``leaked`` name →
    samples of which a sample of the same group is in train (where there is no train: in another one).
    ``class_weights`` is n / (classes * n_c) over train. ``excluded`` are ids left out on purpose.
    """

    dataset: str
    store_digest: str
    method: str
    seed: int
    fractions: Mapping[str, float]
    parts: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, Mapping[str, int]]
    class_weights: Mapping[str, float]
    groups: Mapping[str, int]
    leaked: Mapping[str, int]
    excluded: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def train_name(fractions: Mapping[str, float]) -> str:
    """The split that is trained on: ``train``, or else the largest."""
    return TRAIN if TRAIN in fractions else max(fractions, key=lambda name: fractions[name])


def class_weights(counts: Mapping[str, int]) -> dict[str, float]:
    """n / (classes * n_c), what scikit-learn calls balanced; 0 for a class that is not there."""
    present = sum(count > 0 for count in counts.values())
    return {
        name: sum(counts.values()) / (present * count) if count else 0.0 for name, count in counts.items()
    }


def write_split(path: Path | str, split: Split) -> None:
    """Write a split file, whole or not at all; the same split gives the same bytes."""
    write_file(Path(path), split_json(split).encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and its folder where it is missing. Raises ResourceError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError.of(path, "cannot-write", str(error.strerror), "choose another folder") from error
    write_durably(path, content)


def split_json(split: Split, *, warnings: bool = True) -> str:
    """The text of a split file, with its warnings or without; ASCII, so that ids of any bytes survive."""
    document = split_document(split)
    if not warnings:
        del document["warnings"], document["digest"]
    return rendered(document)


def split_document(split: Split) -> dict[str, Any]:
    """A split as the JSON document of its file, with the hash of itself."""
    document = {
        "format": FORMAT,
        "dataset": split.dataset,
        "store_digest": split.store_digest,
        "method": split.method,
        "seed": split.seed,
        "fractions": dict(split.fractions),
        "splits": {name: list(ids) for name, ids in split.parts.items()},
        "counts": {name: dict(counts) for name, counts in split.counts.items()},
        "class_weights": dict(split.class_weights),
        "groups": dict(split.groups),
        "leaked": dict(split.leaked),
        "excluded": list(split.excluded),
        "warnings": list(split.warnings),
    }
    return {**document, "digest": _digest(document)}


def is_split_file(path: Path) -> bool:
    """Whether a file is a split of ours, sound, edited or damaged: by its keys, or by how it begins."""
    try:
        text = path.read_bytes()
    except OSError:
        return False
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return BEGINNING.match(text) is not None
    return isinstance(document, dict) and {"splits", "store_digest"} <= set(document)


def rendered(document: Mapping[str, Any]) -> str:
    """The one text of a document."""
    return json.dumps(document, indent=1) + "\n"


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_split(path: Path | str, *, edited: bool = False) -> Split:
    """Read a split file and refuse anything that is not one, or not the one that was written.

    ``edited=True`` accepts a file that was changed by hand, if it still makes sense. A file with the
    required keys alone, as another tool may write it, needs no digest.
    Raises IntegrityError, one line per fault, each naming the file.

    Examples:
        >>> read_split("splits/ct.json").method
        'stratified-grouped-hash-1'
    """
    path = Path(path)
    document = read_json(path)
    check_shape(path, document)
    bare = {key: value for key, value in document.items() if key != "digest"}
    # Keys beside the required ones are written by viptt alone, always with a digest.
    ours = set(document) - set(REQUIRED)
    sound = document.get("digest") == _digest(bare) and path.read_bytes() == rendered(document).encode()
    if ours and not edited and not sound:
        remedy = f"{ASSIGN_AGAIN}, or accept the edit with `viptt split --import {path}`"
        raise IntegrityError.of(path, "split-edited", "its content is not what was written", remedy)
    return _from_document(document)


def _from_document(document: Mapping[str, Any]) -> Split:
    counts = document["counts"]
    return Split(
        dataset=document["dataset"],
        store_digest=document["store_digest"],
        method=document["method"],
        seed=document["seed"],
        fractions=document["fractions"],
        parts={name: tuple(ids) for name, ids in document["splits"].items()},
        counts=counts,
        class_weights=document.get("class_weights", class_weights(counts[train_name(document["fractions"])])),
        groups=document.get("groups", {}),
        leaked=document.get("leaked", {}),
        excluded=tuple(document.get("excluded", ())),
        warnings=tuple(document.get("warnings", ())),
    )
