"""A file and its hash beside it, ``NAME.sha256`` in the form of ``sha256sum``, replaced together.

Two files cannot be renamed at once. So the hash of a new file first waits in ``NAME.sha256.next``:
until the file is renamed the old hash is right, from then on the next one.
"""

import hashlib
from pathlib import Path

from pipeline.errors import IntegrityError
from pipeline.store import sync_directory, write_durably


def file_sha256(path: Path) -> str:
    """Lower-case SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(partial: Path, path: Path) -> None:
    """Rename ``partial`` to ``path`` and write its hash so that, killed at any moment, both agree."""
    # The bytes must be on disk before the name is: else a crash leaves an empty file under it.
    sync_directory(partial)
    # Or the hash of the file that is there now would be lost when `following` is overwritten.
    _finish_interrupted(path)
    sidecar, following = _sidecars(path)
    write_durably(following, f"{file_sha256(partial)}  {path.name}\n".encode())
    partial.replace(path)
    sync_directory(path.parent)
    following.replace(sidecar)


def check(path: Path, *, remedy: str) -> None:
    """Raise IntegrityError if ``path`` has a hash beside it and its bytes have another."""
    recorded = [sidecar.read_text("ascii").split()[:1] for sidecar in _sidecars(path) if sidecar.is_file()]
    # Either may be the right one: see above. A file without any comes from elsewhere, and is accepted.
    if recorded and [file_sha256(path)] not in recorded:
        reason = "its bytes are not those that were written"
        raise IntegrityError.of(path, "weights-changed", reason, remedy)


def _finish_interrupted(path: Path) -> None:
    """Finish a ``publish`` that was killed between its two renames."""
    sidecar, following = _sidecars(path)
    if following.is_file() and path.is_file() and following.read_text("ascii").startswith(file_sha256(path)):
        following.replace(sidecar)


def _sidecars(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.sha256"), path.with_name(f"{path.name}.sha256.next")
