"""Exchange a finished store for the one that is published; a published store is never changed in place."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError, IntegrityError, Problem
from pipeline.files import sync_directory
from pipeline.store.format import Header, Row
from pipeline.store.layout import write_store
from pipeline.store.open import Store, open_store, recover_store
from pipeline.store.root import is_store


def published(target: Path) -> tuple[Store | None, tuple[Problem, ...]]:
    """The store that is published now, or what can be recovered of it, and what is damaged."""
    if not is_store(target):
        return None, ()
    try:
        return open_store(target), ()
    except IntegrityError as error:
        if error.problems[0].code in ("store-format", "foreign-store"):
            raise
        return recover_store(target, error.problems), error.problems


def publish(workspace: Path, store: Path, header: Header, rows: Sequence[Row], chunks: Sequence[Path]) -> str:
    """Lay the store out, exchange it for the previous one, and return its digest.

    The previous store, if any, is never changed: it is renamed, replaced, and removed last.
    """
    tree, old = workspace / "store", workspace / "old"
    shutil.rmtree(tree, ignore_errors=True)
    digest = write_store(tree, header, rows, chunks)
    if store.exists():
        store.rename(old)
    tree.rename(store)
    sync_directory(store.parent)
    return digest


def publish_changes(
    workspace: Path,
    store: Path,
    previous: Store | None,
    header: Header,
    rows: Sequence[Row],
    chunks: Sequence[Path],
) -> tuple[str, bool]:
    """Publish unless the previous store is just that; its digest, and whether it was published."""
    if previous is not None and not previous.damage:
        before = (previous.header.dataset, previous.header.recipe, previous.header.classes, previous.rows)
        in_place = all(chunk == previous.chunk(index) for index, chunk in enumerate(chunks))
        if in_place and before == (header.dataset, header.recipe, header.classes, tuple(rows)):
            return previous.digest, False
    return publish(workspace, store, header, rows, chunks), True


def check_place(store: Path) -> None:
    """Refuse a target that exists and is not a store of ours: building would replace it."""
    if not store.exists() or is_store(store):
        return
    if store.is_dir() and not any(store.iterdir()):
        return
    reason = "something that is not a viptt store is in its place, and viptt does not delete it"
    raise ConfigError.of(store, "not-ours", reason, "choose another `store`, or move it away")
