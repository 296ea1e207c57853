"""How much damage to a video is found? Each clip below the folders given, damaged anywhere, several times.

2 kB of zeros, or one flipped bit. A damaged clip is refused, or its frames are the same as before (damage to
sound, or to bytes that nobody needs), or they are other frames, without a word. Clips that are refused
before any damage are left out. Prints also what reading costs, beside OpenCV's reading of the same clips.

    python benchmarks/video_damage.py FOLDER...
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

import cv2
import numpy as np

from pipeline.convert import convert
from pipeline.errors import SourceError
from pipeline.readers import video
from pipeline.recipe import VideoRecipe

SEEDS = 8
HOLE = 2048
ROUNDS = 7
RECIPE = VideoRecipe()
PRESET = VideoRecipe(preset="viptt-2021")


def with_hole(data: bytes, rng: Random) -> bytes:
    start = rng.randrange(max(1, len(data) - HOLE))
    return data[:start] + bytes(HOLE) + data[start + HOLE :]


def with_other_bit(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def verdict(path: Path, sound: np.ndarray) -> str:
    """The reason code, or what became of the frames."""
    try:
        found = video.read(path).array
    except SourceError as error:
        return error.problems[0].code
    return "same frames" if np.array_equal(found, sound) else "other frames"


def verdicts(files: list[Path], damage: Callable[[bytes, Random], bytes]) -> Counter[str]:
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            data, sound = file.read_bytes(), video.read(file).array
            path = Path(folder) / f"damaged{file.suffix}"
            for seed in range(SEEDS):
                path.write_bytes(damage(data, Random(f"{file.name} {seed}")))
                counts[verdict(path, sound)] += 1
    return counts


def tell(name: str, counts: Counter[str]) -> None:
    total = counts.total()
    same, other = counts["same frames"] / total, counts["other frames"] / total
    print(f"{name}, {total} clips: {1 - same - other:.1%} refused, {same:.1%} same, {other:.1%} other frames")
    print("   ", dict(counts.most_common()))


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def opencv_gray(path: Path) -> list[np.ndarray]:
    """The frames of a clip by OpenCV alone, in one thread, without any check."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
    return frames


def tell_cost(files: list[Path]) -> None:
    """Of reading and of making volumes, against OpenCV's reading; all in turns in each round."""
    ways = {
        "reading": video.read,
        "a volume": lambda path: convert(path, RECIPE),
        "a volume of viptt-2021": lambda path: convert(path, PRESET),
    }
    shares: dict[str, list[float]] = {name: [] for name in ways}
    clips = [
        path for path in files if video.read(path, keep=range(1)).facts["frames_decoded"] >= PRESET.shape[0]
    ]
    for _ in range(ROUNDS):
        reference = sum(seconds(lambda path=path: opencv_gray(path)) for path in clips)
        for name, way in ways.items():
            taken = sum(seconds(lambda path=path, way=way: way(path)) for path in clips)
            shares[name].append(taken / reference)
    print(f"{len(clips)} clips of {PRESET.shape[0]} frames or more; times OpenCV's reading, {ROUNDS} rounds:")
    for name, share in shares.items():
        print(f"    {name}: {median(share):.2f}")


def is_sound(path: Path) -> bool:
    try:
        video.read(path)
    except SourceError as error:
        print(f"left out: {error}")
        return False
    return True


def main(folders: list[str]) -> int:
    if not folders:
        print("not measured: name folders of clips")
        return 0
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    files = [path for path in paths if is_sound(path)]
    print(f"{len(files)} sound clips, {SEEDS} seeds")
    tell("2 kB of zeros", verdicts(files, with_hole))
    tell("one bit", verdicts(files, with_other_bit))
    tell_cost(files)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
