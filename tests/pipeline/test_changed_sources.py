"""A source that becomes another one between its hash and its reading is never stored under that hash."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.build import Options, build, make_plan, worker
from pipeline.catalog import load_catalog
from pipeline.readers.content import hash_file
from pipeline.store import open_store

SYNC = Options(scheduler="sync")


def replace_by_rename(path: Path, other: Path) -> None:
    """Another file at the same place, as a copy that was prepared beside it."""
    shutil.copy(other, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def overwrite(path: Path, other: Path) -> None:
    """Other bytes in the same file."""
    with path.open("r+b") as file:
        file.write(other.read_bytes())


def move_link(path: Path, other: Path) -> None:
    """The name leads to another file."""
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [replace_by_rename, overwrite, move_link])
def test_other_bytes_of_the_same_size_and_time(tmp_path, ct_dataset, write_nifti, monkeypatch, change):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=4)).datasets.values()
    victim = dataset.path / "TRN_0002.nii.gz"
    other = shutil.copy(victim, tmp_path / "other.nii.gz")
    with Path(other).open("r+b") as file:  # the time in gzip's header: other bytes, the same size
        file.seek(4)
        file.write(b"\1\2\3\4")
    monkeypatch.setattr(worker, "hash_file", hash_then(change, victim, Path(other)))
    summary = build(make_plan(dataset, SYNC), SYNC)
    assert [(item.source, item.problem.code) for item in summary.quarantined] == [
        (victim.name, "changed-during-read")
    ]
    assert victim.read_bytes() == Path(other).read_bytes()

    monkeypatch.undo()
    summary = build(make_plan(dataset, SYNC), SYNC)
    assert (summary.converted, summary.reused, summary.quarantined) == (1, 3, ())
    (row,) = [row for row in open_store(dataset.store).rows if row.source == victim.name]
    assert row.source_sha256 == hash_file(Path(other))


def hash_then(change: Callable[[Path, Path], None], victim: Path, other: Path) -> Callable[[Path], str]:
    """``hash_file`` with a change of one source just after it, which restores size and time."""

    def hashed(path: Path) -> str:
        sha256 = hash_file(path)
        if path == victim:
            before = path.stat()
            change(path, other)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        return sha256

    return hashed
