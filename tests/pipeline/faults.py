"""Builds that are killed, or fail, at their N-th file operation. Run as a program by test_faults.py.

    faults.py CATALOG FAULT FIRST STEP     FAULT: kill, or the name of an errno such as ENOSPC
    faults.py CATALOG random SEED KILLS    SIGKILL at random moments, until so many builds were killed

Python announces file operations to audit hooks before it does them; the hook strikes at the N-th one
below the folder of the catalog. Each build runs in a forked child of this process, which has all
modules loaded but has never touched Zarr's threads. Prints one JSON line for each N, until a build is
not struck any more.
"""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.errors import VipttError
from pipeline.store import open_store

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
KILLED, STRUCK, UNSTRUCK, CRASHED = 137, 6, 0, 99


class Strike:
    """Counts operations, and strikes once."""

    def __init__(self, folder: Path, number: int, fault: str) -> None:
        self.folder, self.left, self.fault, self.struck = str(folder), number, fault, False
        self.sync = os.fsync

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and str(args[0]).startswith(self.folder):
            self.count()

    def fsync(self, descriptor: int) -> None:
        self.count()
        self.sync(descriptor)

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.struck = True
            if self.fault == "kill":
                os._exit(KILLED)
            raise OSError(getattr(errno, self.fault), os.strerror(getattr(errno, self.fault)))


def in_child(work: Callable[[], int]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(work())
        except BaseException:  # noqa: BLE001 - whatever it was, the child must not go on as the parent
            traceback.print_exc()
            os._exit(CRASHED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(catalog: Path) -> None:
    (dataset,) = load_catalog(catalog).datasets.values()
    options = Options(scheduler="sync")
    build(make_plan(dataset, options), options)


def struck_build(catalog: Path, number: int, fault: str) -> int:
    strike = Strike(catalog.parent, number, fault)
    sys.addaudithook(strike.hook)
    os.fsync = strike.fsync
    try:
        run(catalog)
    except VipttError as error:
        return error.exit_code if strike.struck else CRASHED
    return STRUCK if strike.struck else UNSTRUCK


def calm_build(catalog: Path) -> int:
    run(catalog)
    return 0


def tree(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def complete_or_absent(store: Path) -> int:
    """0 where there is no store, or one that can be read to the end."""
    if store.exists():
        opened = open_store(store)
        for index in range(len(opened.rows)):
            opened.read(index)
    return 0


def killed_after(work: Callable[[], int], seconds: float) -> bool:
    """Kill a child after a while; whether it was still at work."""
    child = os.fork()
    if child == 0:
        os._exit(work())
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_at_random(catalog: Path, seed: int, wanted: int) -> None:
    """Kill builds of one store some ten times each, then finish it, and so on, until the kills are enough."""
    (dataset,) = load_catalog(catalog).datasets.values()
    moments, kills = random.Random(seed), 0
    start = time.monotonic()
    in_child(lambda: calm_build(catalog))
    span = 1.2 * (time.monotonic() - start)
    undisturbed = tree(dataset.store)
    while kills < wanted:
        shutil.rmtree(dataset.store.parent)
        struck, readable = 0, True
        for _ in range(20):
            struck += struck < 10 and killed_after(lambda: calm_build(catalog), moments.uniform(0, span))
            readable &= in_child(lambda: complete_or_absent(dataset.store)) == 0
        again = in_child(lambda: calm_build(catalog))
        same = tree(dataset.store) == undisturbed
        kills += struck
        print(json.dumps({"kills": struck, "readable": readable, "same": same and again == 0}), flush=True)


def main() -> int:
    catalog, fault, first, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if fault == "random":
        kill_at_random(catalog, first, step)
        return 0
    (dataset,) = load_catalog(catalog).datasets.values()
    sources = tree(dataset.path)
    in_child(lambda: calm_build(catalog))
    undisturbed = tree(dataset.store)
    number = first
    while True:
        shutil.rmtree(dataset.store.parent)
        code = in_child(partial(struck_build, catalog, number, fault))
        early = in_child(lambda: complete_or_absent(dataset.store))
        again = in_child(lambda: calm_build(catalog))
        own = (dataset.store, dataset.throughput_file)
        left = [path.name for path in dataset.store.parent.iterdir() if path not in own]
        result = {
            "operation": number,
            "code": code,
            "readable": early == 0,
            "resumed": again == 0,
            "same": tree(dataset.store) == undisturbed and tree(dataset.path) == sources,
            "left": left,
        }
        print(json.dumps(result), flush=True)
        if code == UNSTRUCK:
            return 0
        number += step


if __name__ == "__main__":
    sys.exit(main())
