"""Drawn mishaps around a store: damage, strangers' files, several builds and readers at once.

    trials.py COUNT [SEED]     prints what went wrong, one JSON line each, and a summary; exit code 1 if any

Each trial draws one mishap and has a fresh copy of a small data set. Two things must never happen: that a
command ends with 0 over damage, and that a byte is lost that is not viptt's.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# The root comes first: below tests/ there is a folder pipeline, too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import conftest

from cli import main
from pipeline.errors import IntegrityError
from pipeline.store import open_store

COMMANDS = (("status",), ("build", "--scheduler", "sync"), ("verify",), ("verify", "--repair"))
BUILD = COMMANDS[1]
DONE = (0, 3)  # a build; the second, if sources were quarantined
BUSY = 5
STORE, STAGING = "cache/ct.zarr", "cache/ct.zarr.building"
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}
OPERATIONS = 250  # more than a build of three scans has
UNSTARTED = 127

Folder = Path
Trial = Callable[[Folder, random.Random], Any]


def child(work: Callable[[], object], said: Path = Path(os.devnull)) -> int:
    """Start ``work`` in a process of its own, which writes what it says to a file; its number."""
    number = os.fork()
    if number:
        return number
    code = UNSTARTED
    try:
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        code = int(work() or 0)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def ended(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def viptt(folder: Folder, *arguments: str) -> int:
    """The exit code of a command."""
    return ended(child(lambda: main([*arguments, "--catalog", str(folder / "data_catalog.yaml")])))


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- damage -----------------------------------------------------------------------------------------


def damage_of_the_root(folder: Folder, draw: random.Random) -> str | None:
    """One bit of the root document flipped, or the document cut, empty, or gone; then one command."""
    before = tree(folder / STORE)
    root = folder / STORE / "zarr.json"
    content = bytearray(root.read_bytes())
    how = draw.choice(["bit"] * 7 + ["cut", "empty", "gone"])
    position = draw.randrange(8 * len(content))
    content[position // 8] ^= 1 << position % 8
    if how == "gone":
        root.unlink()
    else:
        root.write_bytes({"bit": content, "cut": content[: position // 8], "empty": b""}[how])
    command = draw.choice(COMMANDS)
    code = viptt(folder, *command)
    mended = tree(folder / STORE) == before if (folder / STORE).exists() else False
    if code == 0 and not mended:
        return f"{command} ended with 0 after {how} {position}"
    return None


def damage_of_any_file(folder: Folder, draw: random.Random) -> str | None:
    """One bit of any file of the store flipped; verify and a build."""
    before = tree(folder / STORE)
    path = folder / STORE / draw.choice(sorted(before))
    content = bytearray(path.read_bytes())
    position = draw.randrange(8 * len(content))
    content[position // 8] ^= 1 << position % 8
    path.write_bytes(content)
    name = path.relative_to(folder / STORE)
    if viptt(folder, "verify") == 0:
        return f"verify ended with 0 over bit {position} of {name}"
    if viptt(folder, "verify", "--repair") == 0 and tree(folder / STORE) != before:
        return f"repair ended with 0 over bit {position} of {name}"
    return None


# --- strangers --------------------------------------------------------------------------------------


def stranger(folder: Folder, draw: random.Random) -> str | None:
    """A file of somebody else's appears in or at the place of a store, at a drawn operation of a build."""
    place = draw.choice([STORE, f"{STORE}/volume", f"{STORE}/volume/c", STAGING, f"{STAGING}/chunks"])
    if draw.random() < 0.5:
        shutil.rmtree(folder / STORE)
    else:
        change_a_source(folder, draw)
    content = draw.randbytes(64)
    path = folder / place / draw.choice(["thesis.docx", "1", "zarr.json.bak", "x.partial"])
    moment = draw.randrange(1, OPERATIONS)
    code = ended(child(lambda: build_and_put(folder, path, content, moment)))
    if not (folder / "put").exists():  # the build had ended, or something was in the way
        return None
    again = viptt(folder, *BUILD)
    if content not in {file.read_bytes() for file in folder.rglob("*") if file.is_file()}:
        return f"{path.relative_to(folder)} of operation {moment} is lost: {code}, then {again}"
    return None


def build_and_put(folder: Folder, path: Path, content: bytes, moment: int) -> object:
    left = moment

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (writes or event in CHANGES) and str(arguments[0]).startswith(str(folder / "cache")):
            left -= 1
            if left == 0 and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                (folder / "put").touch()

    sys.addaudithook(hook)
    return main([*BUILD, "--catalog", str(folder / "data_catalog.yaml")])


def change_a_source(folder: Folder, draw: random.Random) -> None:
    noise = np.random.default_rng(draw.randrange(1 << 30)).integers(-1000, 1000, (9, 8, 7))
    path = folder / "ct" / f"TRN_000{draw.randrange(3)}.nii.gz"
    conftest._write_nifti(path.with_name("new.nii.gz"), noise, dtype="int16")
    path.with_name("new.nii.gz").replace(path)


# --- several at once --------------------------------------------------------------------------------


def several_at_once(folder: Folder, draw: random.Random) -> str | None:
    """Two builds of changed sources and two readers, begun at drawn moments."""
    change_a_source(folder, draw)
    readers = [child(lambda: read_for_a_while(folder)) for _ in range(2)]
    builds = []
    for _ in range(2):
        time.sleep(draw.uniform(0, 0.2))
        builds.append(
            child(lambda: main([*BUILD, "--catalog", str(folder / "data_catalog.yaml")]), folder / "said")
        )
    codes, wrong = [ended(number) for number in builds], [ended(number) for number in readers]
    if not set(codes) <= {*DONE, BUSY} or not set(codes) & set(DONE):
        return f"builds ended with {codes}: {(folder / 'said').read_text()}"
    if any(wrong):
        return f"readers ended with {wrong}"
    return None if viptt(folder, "verify") == 0 else "the store is damaged"


def read_for_a_while(folder: Folder) -> int:
    """1 if a volume is read whose bytes are not those of its row; a store that is replaced may say so."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            store = open_store(folder / STORE)
            for index, row in enumerate(store.rows):
                if hashlib.sha256(store.read(index).tobytes()).hexdigest() != row.sha256:
                    return 1
        except IntegrityError:
            continue
    return 0


TRIALS: tuple[Trial, ...] = (damage_of_the_root, damage_of_any_file, stranger, several_at_once)


def run(count: int, seed: int) -> list[dict[str, Any]]:
    """All failures of so many trials; kinds take turns."""
    failures, counts = [], Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        template = Path(name, "template")
        conftest._ct_dataset(template, scans=3, size=(9, 8, 7))
        assert viptt(template, *BUILD) == 0
        for number in range(count):
            trial, folder = TRIALS[number % len(TRIALS)], Path(name, "trial")
            shutil.copytree(template, folder)
            wrong = trial(folder, random.Random(f"{seed} {number}"))
            counts[trial.__name__] += 1
            if wrong:
                failures.append({"seed": seed, "trial": number, "kind": trial.__name__, "wrong": wrong})
                print(json.dumps(failures[-1]), flush=True)
            shutil.rmtree(folder)
    print(json.dumps({"seed": seed, "trials": counts, "failures": len(failures)}))
    return failures


if __name__ == "__main__":
    sys.exit(bool(run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
