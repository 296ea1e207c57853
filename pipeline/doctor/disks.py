"""Space and speed of the disks where the stores of a catalog lie or will lie."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalog import load_catalog
from pipeline.doctor.findings import Entry, Missing, Topic, as_gib
from pipeline.errors import VipttError

PROBE_BYTES = 64 << 20
PIECE = os.urandom(1 << 20)  # random, so that no file system compresses it
LITTLE_BYTES = 2 << 30
NETWORKED = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "lustre", "beegfs", "ceph")


@dataclass(frozen=True)
class Speed:
    """Bytes per second, written to the disk and read back from it, past the system's cache."""

    written: float
    read: float


def examine_disks(catalog: Path) -> Topic:
    """One entry for each disk with a store of the catalog; none where there is no catalog."""
    if not catalog.exists():
        text = f"{catalog} is not there, so no store is known; `viptt init FOLDER` writes one"
        return Topic("disks", (Entry("catalog", None, text),))
    try:
        stores = [dataset.store for dataset in load_catalog(catalog).datasets.values()]
    except VipttError as error:
        lack = Missing(f"{catalog} cannot be used: {error.problems[0].reason}", "`viptt check` says more")
        return Topic("disks", (Entry("catalog", str(catalog), f"{catalog} has faults"),), (lack,))
    topics = [
        _examine(f"disk {number}", folder) for number, folder in enumerate(_one_of_each_disk(stores), start=1)
    ]
    return Topic(
        "disks",
        tuple(entry for entry, _ in topics),
        tuple(lack for _, lacks in topics for lack in lacks),
    )


def _one_of_each_disk(stores: Iterable[Path]) -> list[Path]:
    """The nearest folder that is there, of the first store on each disk."""
    folders: dict[int, Path] = {}
    for store in stores:
        folder = next(above for above in store.absolute().parents if above.is_dir())
        folders.setdefault(folder.stat().st_dev, folder)
    return list(folders.values())


def _examine(name: str, folder: Path) -> tuple[Entry, list[Missing]]:
    free, kind, missing = shutil.disk_usage(folder).free, _file_system(folder), []
    said = [f"{folder}: {as_gib(free)} free"]
    if kind:
        said.append(kind)
    speed = _speed(folder) if free > 2 * PROBE_BYTES else None
    if speed:
        said.append(f"writes {speed.written / 1e6:.0f} MB/s, reads {speed.read / 1e6:.0f} MB/s")
    else:
        missing.append(
            Missing(f"{folder} cannot be written", "free space, or correct `store` or permissions")
        )
    if free < LITTLE_BYTES:
        what = f"{as_gib(free)} at {folder}"
        missing.append(Missing(what, "free space: `viptt build --dry-run` says how much a store takes"))
    if kind in NETWORKED:
        missing.append(Missing(f"{folder} lies on {kind}", "build on a local disk, then copy the store"))
    value = {
        "folder": str(folder),
        "free": free,
        "file_system": kind,
        "written_per_second": speed and round(speed.written),
        "read_per_second": speed and round(speed.read),
    }
    return Entry(name, value, ", ".join(said)), missing


def _speed(folder: Path) -> Speed | None:
    """Write, sync and read a file of 64 MiB; nothing where that fails."""
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".viptt-doctor-") as file:
            start = time.perf_counter()
            for _ in range(PROBE_BYTES // len(PIECE)):
                file.write(PIECE)
            file.flush()
            os.fsync(file.fileno())
            written = time.perf_counter() - start
            if hasattr(os, "posix_fadvise"):  # else the memory would be measured
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            start = time.perf_counter()
            while file.read(len(PIECE)):
                pass
            return Speed(PROBE_BYTES / written, PROBE_BYTES / (time.perf_counter() - start))
    except OSError:
        return None


def _file_system(folder: Path) -> str:
    """Such as ext4 or nfs; "" where the system does not tell."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    real = folder.resolve()
    # A later mount hides an earlier one at the same place.
    above = [(len(place), kind) for _, place, kind, *_ in mounts if real.is_relative_to(place)]
    longest = max((length for length, _ in above), default=0)
    return next((kind for length, kind in reversed(above) if length == longest), "")
