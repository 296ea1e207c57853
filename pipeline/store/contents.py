"""Which files belong to a store, which do not, and how to remove the first without the second."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.store.format import COLUMNS, COPY, DIMENSIONS, OF_PICTURES, ROOT, small_names
from pipeline.store.root import is_store, sound_roots

SMALL = frozenset({ROOT}.union(*(small_names(array, (*COLUMNS, *OF_PICTURES)) for array in DIMENSIONS)))
HERE = "."
UNFINISHED_ROOT = f"{ROOT}.partial"  # left by a build that was killed while it wrote the root
PARTIAL = re.compile(r"\w+/(?:c/)?[^/]+\.partial")  # and by one that was killed while Zarr wrote an array
CHUNK = re.compile(rf"(?:{'|'.join(DIMENSIONS)})/c(?:/\d+(?:/0)+|\.\d+(?:\.0)+)")


def strangers(tree: Path) -> list[str]:
    """Names below a folder of the files and links that are no part of the store there, sorted.

    Where nothing lies, or an empty folder, there are none; where something else lies, its name is ``HERE``.
    """
    if not os.path.lexists(tree) or (not tree.is_symlink() and tree.is_dir() and not any(tree.iterdir())):
        return []
    if tree.is_symlink() or not is_store(tree):
        return [HERE]
    belongs = membership(tree)
    return sorted(name for name, _ in entries(tree) if not belongs(name))


def entries(tree: Path) -> Iterator[tuple[str, bool]]:
    """Names below a folder, with `/`, of files and links, and whether it is a link; none is followed."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(f"{tree}/{folder}") as found:
            for entry in found:
                name = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                else:
                    yield name, entry.is_symlink()


def remove_store(tree: Path) -> list[str]:
    """Remove the files of a store, whole or half laid out, and nothing else; the names that are left.

    Folders that are empty then go, too. A file that somebody puts there meanwhile is left, with its folders.
    """
    if not tree.is_dir():
        return []
    belongs, left = membership(tree), []
    # Root and copy go last: until then they tell exactly what belongs, should this be killed and done again.
    for name, _ in sorted(entries(tree), key=lambda entry: entry[0] in (ROOT, COPY)):
        if belongs(name) or name == UNFINISHED_ROOT:
            (tree / name).unlink(missing_ok=True)
        else:
            left.append(name)
    remove_empty_folders(tree)
    return sorted(left)


def remove_empty_folders(tree: Path) -> None:
    """Remove a folder and those below it, as far as they are empty. Raises OSError."""
    for folder, _, _ in os.walk(tree, topdown=False):
        try:
            Path(folder).rmdir()
        except OSError as error:
            # Not empty is no failure: a file of somebody else keeps its folder.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def membership(tree: Path) -> Callable[[str], object]:
    """Whether a name is one of the store's: exactly where its root can be read, else by its form."""
    root = next(sound_roots(tree), None)
    if root is not None:
        header = root.header
        files = {header.file_key(index) for index in range(root.samples)}
        return ({ROOT, *small_names(header.array, header.columns)} | files).__contains__
    # A half laid out or badly damaged store: its form is all there is to go by.
    return lambda name: name in SMALL or CHUNK.fullmatch(name) or PARTIAL.fullmatch(name)
