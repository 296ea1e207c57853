"""Action clips as AVI files: 320 x 240 pixels, 25 frames per second, named as those of UCF50 are.

The actions differ in what moves and how; the clips of one group share scene, colours and size. Frames are
uint8 (height, width, 3) in BGR. Every file has random generators of its own, so that it depends on the
seed and its own number alone.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from pipeline.errors import ResourceError

Frame = NDArray[np.uint8]

_FRAME_SIZE = (320, 240)


@dataclass(frozen=True)
class Scene:
    """What the clips of one group share.

    `background` is (240, 320, 3) in BGR, `colour` that of the figure, `prop` that of its tool or animal,
    `size` about half the figure's body in pixels, `tempo` the factor on the pace of the action.
    """

    background: Frame
    colour: tuple[int, int, int]
    prop: tuple[int, int, int]
    size: float
    tempo: float


def _scene(seed: int, action: int, group: int) -> Scene:
    rng = Generator(PCG64([seed, 2, action, group]))
    coarse = rng.uniform(50, 190, (5, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, _FRAME_SIZE, interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 6, smooth.shape)
    colour, prop = (tuple(int(v) for v in rng.integers(low, low + 60, 3)) for low in (190, 0))
    return Scene(
        background=np.clip(smooth + grain, 0, 255).astype(np.uint8),
        colour=(colour[0], colour[1], colour[2]),
        prop=(prop[0], prop[1], prop[2]),
        size=rng.uniform(26, 38),
        tempo=rng.uniform(0.85, 1.15),
    )


def _mixing(frame: Frame, scene: Scene, time: float) -> None:
    """A spoon circles in a bowl, once a second."""
    angle = 2 * math.pi * time
    bowl = _at(160, 150)
    spoon = _at(160 + 1.3 * scene.size * math.cos(angle), 150 + 0.9 * scene.size * math.sin(angle))
    cv2.ellipse(frame, bowl, _at(2.4 * scene.size, 1.7 * scene.size), 0, 0, 360, scene.prop, -1)
    cv2.line(frame, _at(170, 20), spoon, scene.colour, 7)
    cv2.circle(frame, spoon, int(0.5 * scene.size), scene.colour, -1)


def _jump_rope(frame: Frame, scene: Scene, time: float) -> None:
    """A figure goes up and down, twice a second, and a rope turns around it."""
    turn = 4 * math.pi * time
    jump = 0.9 * scene.size * abs(math.sin(turn / 2))
    _person(frame, scene, 160, 130 - jump)
    reach = _at(1.6 * scene.size, abs(2.8 * scene.size * math.cos(turn)))
    start = 0 if math.cos(turn) > 0 else 180
    cv2.ellipse(frame, _at(160, 135), reach, 0, start, start + 180, scene.prop, 4)


def _rowing(frame: Frame, scene: Scene, time: float) -> None:
    """A long boat sways from left to right and back in five seconds, its oars with it."""
    sway = math.sin(2 * math.pi * 0.4 * time)
    middle = 160 + 50 * sway
    cv2.rectangle(frame, (0, 165), (320, 240), (150, 110, 70), -1)
    cv2.ellipse(frame, _at(middle, 165), _at(3.4 * scene.size, 0.5 * scene.size), 0, 0, 360, scene.prop, -1)
    for seat in (-1.8, 0.0, 1.8):
        place = middle + seat * scene.size
        cv2.circle(frame, _at(place, 140), int(0.5 * scene.size), scene.colour, -1)
        cv2.line(frame, _at(place, 150), _at(place - 45 * sway, 205), scene.colour, 4)


def _tennis_swing(frame: Frame, scene: Scene, time: float) -> None:
    """A racket is swung over an arc, quickly, every one and a half seconds."""
    swing = min(1.0, 2.5 * (time % 1.5))
    angle = math.pi * (0.85 - 1.35 * swing)
    hand = (140 + 1.4 * scene.size * math.cos(angle), 110 - 1.4 * scene.size * math.sin(angle))
    racket = _at(140 + 2.9 * scene.size * math.cos(angle), 110 - 2.9 * scene.size * math.sin(angle))
    _person(frame, scene, 140, 120)
    cv2.line(frame, _at(140, 110), _at(*hand), scene.colour, 7)
    cv2.line(frame, _at(*hand), racket, scene.prop, 5)
    cv2.circle(frame, racket, int(0.6 * scene.size), scene.prop, 4)


def _horse_riding(frame: Frame, scene: Scene, time: float) -> None:
    """Horse and rider cross the picture in two seconds, galloping."""
    across = -40 + (200 * time) % 400
    up = 140 - 7 * abs(math.sin(2 * math.pi * 1.6 * time))
    for leg in (-1.1, -0.7, 0.7, 1.1):
        swing = 18 * math.sin(2 * math.pi * 1.6 * time + 3 * leg)
        cv2.line(
            frame,
            _at(across + leg * scene.size, up),
            _at(across + leg * scene.size + swing, up + 60),
            scene.prop,
            6,
        )
    cv2.ellipse(frame, _at(across, up), _at(1.5 * scene.size, 0.7 * scene.size), 0, 0, 360, scene.prop, -1)
    cv2.circle(
        frame, _at(across + 1.7 * scene.size, up - 0.7 * scene.size), int(0.5 * scene.size), scene.prop, -1
    )
    cv2.circle(frame, _at(across, up - 1.2 * scene.size), int(0.6 * scene.size), scene.colour, -1)


_ACTIONS: dict[str, Callable[[Frame, Scene, float], None]] = {
    "Mixing": _mixing,
    "JumpRope": _jump_rope,
    "Rowing": _rowing,
    "TennisSwing": _tennis_swing,
    "HorseRiding": _horse_riding,
}
ACTIONS = tuple(_ACTIONS)


def _person(frame: Frame, scene: Scene, across: float, down: float) -> None:
    cv2.circle(frame, _at(across, down - 1.5 * scene.size), int(0.5 * scene.size), scene.colour, -1)
    cv2.ellipse(frame, _at(across, down), _at(0.6 * scene.size, scene.size), 0, 0, 360, scene.colour, -1)
    for side in (-0.4, 0.4):
        foot = _at(across + 1.4 * side * scene.size, down + 2 * scene.size)
        cv2.line(frame, _at(across + side * scene.size, down + 0.7 * scene.size), foot, scene.colour, 8)


def _at(across: float, down: float) -> tuple[int, int]:
    """A point in pixels as OpenCV takes it: width first, whole numbers."""
    return round(across), round(down)


def write_clips(folder: Path, *, seed: int, groups: int) -> None:
    """Write `groups` groups of one or two clips of each action, one folder an action.

    Raises ResourceError if a video cannot be written.
    """
    for action, name in enumerate(ACTIONS):
        (folder / name).mkdir(parents=True)
        for group in range(1, groups + 1):
            scene = _scene(seed, action, group)
            for clip in range(1, 2 + group % 2):
                rng = Generator(PCG64([seed, 3, action, group, clip]))
                path = folder / name / f"v_{name}_g{group:02d}_c{clip:02d}.avi"
                _write_clip(path, _frames(name, scene, rng), codec="XVID" if clip == 1 else "MJPG")


def _frames(action: str, scene: Scene, rng: Generator) -> Iterator[Frame]:
    """Yield 40 to 110 frames (240, 320, 3), 25 per second, seen by a hand that is not quite still."""
    start = rng.uniform(0, 5)
    path = np.cumsum(rng.normal(0, 0.6, (int(rng.integers(40, 111)), 2)), axis=0)
    for number, (across, down) in enumerate(path):
        frame = scene.background.copy()
        _ACTIONS[action](frame, scene, start + scene.tempo * number / 25)
        shift = np.array([[1, 0, across], [0, 1, down]], np.float32)
        moved = cv2.warpAffine(frame, shift, _FRAME_SIZE, borderMode=cv2.BORDER_REFLECT)
        yield moved.astype(np.uint8, copy=False)


def _write_clip(path: Path, frames: Iterator[Frame], *, codec: str) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, _FRAME_SIZE)
    if not writer.isOpened():
        raise ResourceError.of(
            path,
            "cannot-write",
            f"OpenCV could not start a {codec} video",
            "check the disk and its permissions",
        )
    for frame in frames:
        writer.write(frame)
    writer.release()
