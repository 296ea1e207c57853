"""Exchange a finished store for the one that is published; a published store is never changed in place."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ConfigError, IntegrityError, Problem, some
from pipeline.files import sync_directory
from pipeline.store.chunks import Chunk
from pipeline.store.contents import HERE, remove_store, strangers
from pipeline.store.format import Header, Row
from pipeline.store.layout import write_store
from pipeline.store.open import Store, open_store, recover_store
from pipeline.store.root import is_store
from pipeline.store.verify import check_files


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


def publish(
    workspace: Path, store: Path, header: Header, rows: Sequence[Row], chunks: Sequence[Chunk]
) -> str:
    """Lay the store out, exchange it for the previous one, and return its digest.

    The previous store, if any, is never changed: it is renamed, replaced, and removed last. Raises
    IntegrityError, with everything as it was, where a file that is not ours would be lost.
    """
    tree, old = workspace / "store", workspace / "old"
    for folder in (tree, old):  # of a build that was killed
        clear_store(folder)
    digest = write_store(tree, header, rows, chunks)
    _exchange(tree, store, old)
    clear_store(old)
    return digest


def _exchange(tree: Path, store: Path, old: Path) -> None:
    """Put ``tree`` in the place of ``store``, which goes to ``old``.

    Others may write there until the rename, so that what lies there is looked at before and after. A
    folder or file that appears between the two renames makes the second one fail.
    """
    _refuse_strangers(store, now_at=store)
    moved = store.exists()
    if moved:
        store.rename(old)
    try:
        _refuse_strangers(old, now_at=store)
        tree.rename(store)
    except OSError as error:
        if os.path.lexists(store):
            raise _not_ours(store, "something has appeared in its place") from error
        raise
    finally:
        # Whatever went wrong, readers get the previous store back at once, not at the next build.
        if moved and not store.exists():
            old.rename(store)
    sync_directory(store.parent)


def clear_store(folder: Path) -> None:
    """Remove a store that has served. Raises IntegrityError, naming the files in it that are not ours."""
    left = remove_store(folder)
    if left:
        raise _not_ours(folder, _named(left))


def _refuse_strangers(folder: Path, *, now_at: Path) -> None:
    found = strangers(folder)
    if found == [HERE]:
        raise _not_ours(now_at, "something that is not a viptt store is in its place")
    if found:
        raise _not_ours(now_at, _named(found))


def _named(names: Sequence[str]) -> str:
    return f"it holds {some(names, 'file')} that viptt did not write"


def _not_ours(where: Path, reason: str) -> IntegrityError:
    remedy = "move it away, then run the same command again; nothing was removed"
    return IntegrityError.of(where, "not-ours", reason, remedy)


def publish_changes(
    workspace: Path,
    store: Path,
    previous: Store | None,
    header: Header,
    rows: Sequence[Row],
    chunks: Sequence[Chunk],
) -> tuple[str, bool]:
    """Publish unless the previous store is just that; its digest, and whether it was published."""
    if previous is not None and not previous.damage:
        before = (previous.header.dataset, previous.header.recipe, previous.header.classes, previous.rows)
        # A volume that was damaged has been made again elsewhere, though its row is the same.
        whole = previous.header.per_file <= 1 or not check_files(previous)
        in_place = whole and all(chunk == previous.chunk_at(index) for index, chunk in enumerate(chunks))
        if in_place and before == (header.dataset, header.recipe, header.classes, tuple(rows)):
            return previous.digest, False
    return publish(workspace, store, header, rows, chunks), True


def check_place(store: Path) -> None:
    """Refuse a target that exists and is not a store of ours: building would replace it."""
    if not store.exists() or is_store(store):
        return
    if store.is_dir() and not any(store.iterdir()):  # made by hand in advance: nothing to lose
        return
    reason = "something that is not a viptt store is in its place, and viptt does not delete it"
    raise ConfigError.of(store, "not-ours", reason, "choose another `store`, or move it away")
