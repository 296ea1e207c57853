"""The root document of a store and its copy: what they say, and whether they are still what was written.

Both hold the header, the digest and the hashes of the small files, together with a hash of themselves.
The root lists the copy among its files, so that damage of either is found and mended from the other.
A store is recognised by its root, by its copy, or by the arrays that lie there: one flipped bit must
not make it look as if there were nothing, or something of somebody else.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import IntegrityError
from pipeline.store.format import (
    COLUMNS,
    COPY,
    DIMENSIONS,
    FORMAT,
    NESTED,
    REBUILD,
    ROOT,
    Header,
    Json,
    document_sha256,
    rendered,
    text_sha256,
)

NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class Root:
    """What root and copy say. ``files`` maps the name of a small file to its SHA-256."""

    header: Header
    samples: int
    digest: str
    files: Json


def documents(root: Root) -> tuple[bytes, bytes]:
    """The texts of the copy and of the root; the root's files are those given and the copy."""
    viptt, layout = _viptt(root), {"samples_per_file": root.header.per_file}
    copied = {"viptt": viptt, "layout": layout, "files": root.files}
    copy = rendered({**copied, "document": document_sha256(copied)})
    attributes: dict[str, Any] = {
        "viptt": viptt,
        "viptt_layout": layout,
        "viptt_integrity": {"files": {**root.files, COPY: text_sha256(copy)}},
    }
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    attributes["viptt_integrity"]["document"] = document_sha256(document)
    return copy, rendered(document)


def _viptt(root: Root) -> Json:
    return {
        "format": FORMAT,
        "dataset": root.header.dataset,
        "recipe": root.header.recipe,
        "classes": list(root.header.classes),
        "samples": root.samples,
        "digest": root.digest,
        "created_with": root.header.created_with,
    }


def is_store(path: Path) -> bool:
    """True where a published viptt store lies, whatever its condition."""
    return _says_viptt(path / ROOT) or read_copy(path) is not None or _has_arrays(path)


def published_digest(path: Path) -> str | None:
    """The digest of the store that lies at a path now, unchecked; None where none can be read."""
    try:
        return str(json.loads((path / ROOT).read_bytes())["attributes"]["viptt"]["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_root(path: Path) -> Root:
    """Read and check the root of the store at ``path``.

    Raises IntegrityError with code not-built where there is no store, foreign-store where another
    program's lies, store-format for another version's, metadata-missing or metadata-damaged.
    """
    text = _root_text(path)
    document = _parsed(text)
    # A flipped bit may change any type on the way down, so that none is taken for granted.
    attributes = document.get("attributes")
    attributes = attributes if isinstance(attributes, dict) else {}
    viptt = attributes.get("viptt")
    if document and not isinstance(viptt, dict) and not is_store(path):
        remedy = "give the path of a store that `viptt build` made"
        raise IntegrityError.of(path, "foreign-store", "this Zarr group was not made by viptt", remedy)
    # Another version would have written another copy: where ours is sound, the number is damaged.
    if isinstance(viptt, dict) and viptt.get("format") != FORMAT and read_copy(path) is None:
        reason = f"format {viptt.get('format')!r}; this version reads format {FORMAT}"
        raise IntegrityError.of(path, "store-format", reason, "build it again with this version")
    integrity = attributes.get("viptt_integrity")
    integrity = integrity if isinstance(integrity, dict) else {}
    bare = {**document, "attributes": {**attributes, "viptt_integrity": {"files": integrity.get("files")}}}
    root = _as_root(viptt, integrity.get("files"), attributes.get("viptt_layout"))
    if root is None or not _is_as_written(text, document, bare, integrity.get("document")):
        raise IntegrityError.of(path / ROOT, "metadata-damaged", "its content has changed", REBUILD)
    return root


def read_copy(path: Path) -> Root | None:
    """What the copy says, or nothing where it is missing, damaged, or of another format."""
    try:
        text = (path / COPY).read_bytes()
    except OSError:
        return None
    document = _parsed(text)
    bare = {name: value for name, value in document.items() if name != "document"}
    if not _is_as_written(text, document, bare, document.get("document")):
        return None
    return _as_root(document.get("viptt"), document.get("files"), document.get("layout"))


def sound_roots(path: Path) -> Iterator[Root]:
    """The root, the copy, or both, as far as each is still what was written."""
    with suppress(IntegrityError):  # then the copy may still tell
        yield read_root(path)
    copy = read_copy(path)
    if copy is not None:
        yield copy


def _root_text(path: Path) -> bytes:
    try:
        return (path / ROOT).read_bytes()
    except NO_FILE:
        if is_store(path):
            raise IntegrityError.of(
                path / ROOT, "metadata-missing", "the store has lost its root", REBUILD
            ) from None
        reason = "there is no finished store" if path.exists() else "there is nothing at this path"
        raise IntegrityError.of(path, "not-built", reason, "run `viptt build` first") from None
    except OSError as error:
        raise IntegrityError.of(
            path / ROOT, "unreadable", str(error.strerror), "check permissions and the disk"
        ) from None


def _parsed(text: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one where the text is something else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_as_written(text: bytes, document: Json, bare: Json, sha256: object) -> bool:
    """Compare a document with its own hash, and its text with the one way in which we write it."""
    try:
        # The text as well: spaces or the order of keys may change without changing the content.
        return text == rendered(document) and document_sha256(bare) == sha256
    except (ValueError, RecursionError):  # damage may parse as infinity or as half a character
        return False


def _as_root(viptt: object, files: object, layout: object) -> Root | None:
    """What a document says, or nothing where it is of another form; viptt 0.1.0 said nothing of a layout."""
    if not isinstance(viptt, dict) or not isinstance(files, dict) or viptt.get("format") != FORMAT:
        return None
    try:
        per_file = int(layout["samples_per_file"]) if isinstance(layout, dict) else NESTED
        classes = tuple(viptt["classes"])
        header = Header(viptt["dataset"], viptt["recipe"], classes, viptt["created_with"], per_file)
        return Root(header, viptt["samples"], viptt["digest"], files)
    except (KeyError, TypeError, ValueError):
        return None


def _says_viptt(root: Path) -> bool:
    try:
        return "viptt" in json.loads(root.read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _has_arrays(path: Path) -> bool:
    """Whether an array of samples lies there, and most of the columns that go with it."""
    try:
        columns = sum((path / column).is_dir() for column in COLUMNS)
        return columns * 2 > len(COLUMNS) and any((path / array).is_dir() for array in DIMENSIONS)
    except OSError:
        return False
