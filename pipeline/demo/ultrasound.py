"""Ultrasound videos as folders of PNG frames, in the tree that SpaceTime-SonoNet reads.

    videos/STACK/FRAME.png    64 x 64, gray
    labels/STACK/FRAME.txt    the name of the frame's class
    exams.json                a list of patients, each a list of video ids
    train-infos.csv           a line per video: its id, its folder, centre and date

A video is made of segments, each of one class. Two pairs of classes are told apart by motion alone: a
vessel that drifts to the left or to the right, and one that pulses or rests. Within a pair, place and size
of the vessel in a single frame are drawn from one distribution. The fifth class, two chambers, is seen in
every frame. Frames are float (height, width) in [0, 1] until they are written. Every video has a random
generator of its own.

Not done: the physics of ultrasound. These are moving blobs with speckle, not patients.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator

from pipeline.demo.gray_pictures import SIDE, Floats, ellipse, grid, smooth_noise, write_png

MOTION = ("drift-left", "drift-right", "pulsing", "resting")  # told apart by motion alone
PLANES = (*MOTION, "two-chambers")
CENTRES = ("Aquila", "Palermo")
COMPLETE = 5  # videos of a patient whose examination is complete
_COLUMNS = ("idx", "id-video", "id-annotation", "name-video", "name-cvat", "date", "size", "width", "height")
_SEGMENTS, _SHORTEST, _LONGEST = 2, 16, 18  # of a video; frames of a segment
_SWELLING = 0.5  # of a pulsing vessel, as a share of its mean size
_FIRST_DAY = date(2019, 3, 1)


@dataclass(frozen=True)
class Video:
    """One video: its id and folder, whose it is (counted from 0), its centre, the day it was made."""

    id: str
    folder: str
    patient: int
    centre: str
    day: date


def write_ultrasound(folder: Path, *, seed: int, patients: int) -> None:
    """Write the videos of `patients` patients of each centre into the new `folder`.

    The last patient of a centre lacks two videos. Raises ResourceError if a frame cannot be written.
    """
    videos = list(_videos(patients))
    for number, video in enumerate(videos):
        _write_video(folder, video, Generator(PCG64([seed, 4, number])))
    exams = [[video.id for video in videos if video.patient == index] for index in range(2 * patients)]
    (folder / "exams.json").write_text(json.dumps(exams), encoding="utf-8")
    _write_infos(folder / "train-infos.csv", videos)


def _videos(patients: int) -> Iterator[Video]:
    """All videos in the order of their days; the patients of the centres take turns."""
    number = 0
    for patient in range(patients * len(CENTRES)):
        incomplete = patient >= (patients - 1) * len(CENTRES)
        for _ in range(COMPLETE - 2 if incomplete else COMPLETE):
            day, name = _FIRST_DAY + timedelta(days=number), str(1001 + number)
            folder = f"{day:%Y%m%d}-{name}"
            yield Video(name, folder, patient, CENTRES[patient % len(CENTRES)], day)
            number += 1


def _write_infos(path: Path, videos: list[Video]) -> None:
    rows = [
        (index, video.id, video.id, video.folder, f"{video.centre}-{video.id}", video.day, 1, SIDE, SIDE)
        for index, video in enumerate(videos)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])


def _write_video(folder: Path, video: Video, rng: Generator) -> None:
    frames, texts = (folder / kind / video.folder for kind in ("videos", "labels"))
    frames.mkdir(parents=True)
    texts.mkdir(parents=True)
    tissue, number = _tissue(rng), 0
    # Each centre has a machine of its own, with its own gain.
    gain = 0.8 + 0.2 * CENTRES.index(video.centre)
    for plane in rng.choice(PLANES, _SEGMENTS, replace=False):
        for vessel in segment(str(plane), rng):
            # Speckle multiplies the echo, and differs from frame to frame.
            echo = gain * tissue * (1 - 0.9 * vessel) * rng.gamma(20, 1 / 20, (SIDE, SIDE))
            name = f"{video.folder}-{number:03d}"
            write_png(frames / f"{name}.png", echo)
            (texts / f"{name}.txt").write_text(str(plane), encoding="utf-8")
            number += 1


def _tissue(rng: Generator) -> Floats:
    """The bright tissue of a patient, with a smooth pattern, darker with depth, in a fan."""
    smooth = smooth_noise(rng.uniform(0.55, 0.8, (6, 6)))
    down, across = grid()
    fan = np.abs(across - SIDE / 2) < 12 + 0.45 * down
    return smooth * (1 - 0.3 * down / SIDE) * fan


# --- what moves -----------------------------------------------------------------------------------


def segment(plane: str, rng: Generator) -> Iterator[Floats]:
    """Where the vessel is in each frame of a segment: (height, width), from 0 (tissue) to 1 (blood)."""
    frames = int(rng.integers(_SHORTEST, _LONGEST + 1))
    yield from _MOVES[plane](frames, rng)


def _drift(frames: int, rng: Generator, *, toward: int) -> Iterator[Floats]:
    """A vessel that moves on by one and a half pixels a frame.

    The path lies evenly around a point that is drawn without looking at the direction.
    """
    row, middle, radius = rng.uniform(24, 46), rng.uniform(30, 34), rng.uniform(5, 7)
    for number in range(frames):
        along = 1.5 * toward * (number - (frames - 1) / 2)
        yield ellipse(row, middle + along, 1.6 * radius, radius)


def _pulsing(frames: int, rng: Generator) -> Iterator[Floats]:
    """A vessel whose size changes by half of its mean, one beat in five to six frames."""
    row, column, radius = _round_vessel(rng)
    phase, step = rng.uniform(0, 2 * math.pi), 2 * math.pi / rng.uniform(5, 6)
    for number in range(frames):
        size = radius * (1 + _SWELLING * math.sin(phase + step * number))
        yield ellipse(row, column, size, size)


def _resting(frames: int, rng: Generator) -> Iterator[Floats]:
    """The vessel of a pulse that stands still, at any of its sizes."""
    row, column, radius = _round_vessel(rng)
    size = radius * (1 + _SWELLING * math.sin(rng.uniform(0, 2 * math.pi)))
    for _ in range(frames):
        yield ellipse(row, column, size, size)


def _round_vessel(rng: Generator) -> tuple[float, float, float]:
    return rng.uniform(26, 44), rng.uniform(22, 42), rng.uniform(8, 10)


def _two_chambers(frames: int, rng: Generator) -> Iterator[Floats]:
    """Two round chambers side by side, both at rest."""
    row, column, radius = _round_vessel(rng)
    size = 0.7 * radius
    for _ in range(frames):
        yield np.maximum(
            ellipse(row, column - 1.5 * size, size, size), ellipse(row, column + 1.5 * size, size, size)
        )


_MOVES: dict[str, Callable[[int, Generator], Iterator[Floats]]] = {
    "drift-left": lambda frames, rng: _drift(frames, rng, toward=-1),
    "drift-right": lambda frames, rng: _drift(frames, rng, toward=1),
    "pulsing": _pulsing,
    "resting": _resting,
    "two-chambers": _two_chambers,
}
