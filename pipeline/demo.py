"""Generated sources to try the whole chain on: CT phantoms (``.nii.gz``), action clips (``.avi``), a catalog.

Chest coordinates are millimetres of a standard chest, axes (depth, height, width) toward Superior,
Posterior and Left, origin between the lungs; a patient's own size is a factor on them. Densities are HU.

The five classes of TB differ in number, size and texture of their lesions and in nothing else: chest size,
noise, matrix, spacing and the way a file is stored are drawn without looking at the class. Two scans of one
patient share chest and lesions. The actions differ in what moves and how; the clips of one group share
scene, colours and size.

Every file has random generators of its own, so that it depends on the seed and its own number alone.

Not done: X-ray physics, airways below the trachea, breathing. These are phantoms, not patients.
"""

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from pipeline.errors import ConfigError, ResourceError

Floats = NDArray[np.float32]
Frame = NDArray[np.uint8]
Point = tuple[float, float, float]

TB_TYPES = ("Infiltrative", "Focal", "Tuberculoma", "Miliary", "Fibro-cavernous")

_CATALOG = r"""# Generated sources, written by `viptt demo`; the small shape keeps training short.
version: 1
datasets:
  demo_clips:
    type: video
    path: clips
    labels: {regex: 'v_(?P<group>(?P<label>[A-Za-z]+)_g\d+)_c\d+\.avi$'}
    classes: [Mixing, JumpRope, Rowing, TennisSwing, HorseRiding]
    recipe: {shape: [24, 64, 64], spline_order: 3, frames: all, dtype: float16}
    store: cache/demo_clips.zarr
    split: {file: splits/demo_clips.json, fractions: {train: 0.8, val: 0.2}, seed: 0}

  demo_ct:
    type: nifti
    path: ct
    labels: {file: ct/labels.csv, id: FileName, label: TypeOfTB, group: PatientID}
    classes: {1: Infiltrative, 2: Focal, 3: Tuberculoma, 4: Miliary, 5: Fibro-cavernous}
    recipe: {shape: [24, 64, 64], spline_order: 3, window: [-1000, 400], dtype: float16}
    store: cache/demo_ct.zarr
    split: {file: splits/demo_ct.json, fractions: {train: 0.8, val: 0.2}, seed: 0}
"""


def write_demo(folder: Path, *, seed: int = 0, scans: int = 40, groups: int = 5) -> Path:
    """Write `scans` CT phantoms with labels, `groups` groups of clips per action, and a catalog of both.

    Returns the catalog's path. `folder` must be new or empty; ConfigError otherwise, and nothing is written.
    """
    _require_empty(folder)
    _write_scans(folder / "ct", seed=seed, scans=scans)
    _write_clips(folder / "clips", seed=seed, groups=groups)
    catalog = folder / "data_catalog.yaml"
    catalog.write_text(_CATALOG, encoding="utf-8")
    return catalog


def _require_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError.of(
            folder, "not-empty", "the demo needs a folder that is new or empty", "name another folder"
        )


# CT: who is scanned


@dataclass(frozen=True)
class Ball:
    """A piece of a vessel or lesion: centre and radius in mm of the standard chest, density in HU."""

    centre: Point
    radius: float
    hu: float


@dataclass(frozen=True)
class Patient:
    """What two scans of one person have in common.

    `size` holds the factors on the standard chest; `balls` are painted in order; `knots` make the random
    field of the lung tissue; `haze` is the density in HU that its patches add.
    """

    size: Point
    balls: tuple[Ball, ...]
    knots: Floats
    haze: float


_LUNG_CENTRE = (0.0, 0.0, 70.0)
_LUNG_RADII = (145.0, 86.0, 56.0)
_HEART_CENTRE = (-45.0, -25.0, 22.0)
_HEART_RADII = (58.0, 46.0, 52.0)
_KNOTS = (20, 16, 20)
_KNOT_MM = 18.0


def _patient(seed: int, number: int, tb_type: str) -> Patient:
    rng = Generator(PCG64([seed, 0, number]))
    size = rng.uniform(0.95, 1.05, 3)
    return Patient(
        size=(size[0], size[1], size[2]),
        balls=(*_vessels(rng), *_LESIONS[tb_type](rng)),
        knots=rng.standard_normal(_KNOTS, dtype=np.float32),
        haze=rng.uniform(380, 520) if tb_type == "Infiltrative" else 0.0,
    )


def _no_balls(rng: Generator) -> Iterator[Ball]:
    """Infiltrative: patches of haze in the lung tissue itself, see `Patient.haze`."""
    yield from ()


def _nodules(rng: Generator) -> Iterator[Ball]:
    """Focal: a dozen or so soft nodules of 14 to 20 mm."""
    for centre in _lung_points(rng, int(rng.integers(12, 17)), margin=10):
        yield Ball(centre, radius=rng.uniform(7, 10), hu=rng.uniform(0, 50))


def _tuberculomas(rng: Generator) -> Iterator[Ball]:
    """Tuberculoma: two large round masses with a calcified centre."""
    for centre in _lung_points(rng, 2, margin=32):
        radius = rng.uniform(28, 35)
        yield Ball(centre, radius, hu=rng.uniform(60, 90))
        yield Ball(centre, radius * rng.uniform(0.5, 0.6), hu=rng.uniform(500, 700))


def _miliary(rng: Generator) -> Iterator[Ball]:
    """Miliary: far over a thousand nodules of 4 to 6 mm, all over both lungs."""
    for centre in _lung_points(rng, int(rng.integers(1500, 2000)), margin=1):
        yield Ball(centre, radius=rng.uniform(2, 3), hu=rng.uniform(20, 120))


def _cavities(rng: Generator) -> Iterator[Ball]:
    """Fibro-cavernous: two or three thick-walled cavities full of air, with strands of scar around them."""
    for centre in _lung_points(rng, int(rng.integers(2, 4)), margin=32):
        radius = rng.uniform(28, 35)
        for end in _lung_points(rng, 80, margin=1):
            if math.dist(centre, end) < 3 * radius:
                yield from _strand(centre, end, thick=4, thin=3, hu=0)
        yield Ball(centre, radius, hu=rng.uniform(30, 60))
        yield Ball(centre, radius * rng.uniform(0.6, 0.7), hu=-980)


_LESIONS: dict[str, Callable[[Generator], Iterator[Ball]]] = {
    "Infiltrative": _no_balls,
    "Focal": _nodules,
    "Tuberculoma": _tuberculomas,
    "Miliary": _miliary,
    "Fibro-cavernous": _cavities,
}


def _vessels(rng: Generator) -> Iterator[Ball]:
    """Vessels that run from the hilum of each lung to random places in it."""
    for end in _lung_points(rng, 50, margin=4):
        hilum = (rng.normal(0, 8), rng.normal(12, 8), math.copysign(26, end[2]))
        yield from _strand(hilum, end, thick=3.0, thin=0.8, hu=30)


def _strand(start: Point, end: Point, *, thick: float, thin: float, hu: float) -> Iterator[Ball]:
    """Balls in a row, every 3 mm, their radius falling from `thick` to `thin`."""
    for along in np.linspace(0, 1, 2 + int(math.dist(start, end) / 3)):
        depth, height, width = ((1 - along) * a + along * b for a, b in zip(start, end, strict=True))
        yield Ball((depth, height, width), (1 - along) * thick + along * thin, hu)


def _lung_points(rng: Generator, count: int, *, margin: float) -> list[Point]:
    """`count` places in the two lungs, all at least `margin` mm (about) away from their surface."""
    tries = 16 * count + 64
    side = rng.choice((-1.0, 1.0), tries)
    depth, height, width = (
        centre + (radius - margin) * rng.uniform(-1, 1, tries).astype(np.float32)
        for centre, radius in zip(_LUNG_CENTRE, _LUNG_RADII, strict=True)
    )
    inside = _lung_distance(depth, height, width * side) < -margin
    points = np.stack([depth, height, width * side], axis=1)[inside][:count]
    return [(float(z), float(y), float(x)) for z, y, x in points]


# CT: how the scan looks


@dataclass(frozen=True)
class Geometry:
    """The matrix of a scan: shape in voxels and spacing in mm, both (depth, height, width)."""

    shape: tuple[int, int, int]
    spacing: Point


def _geometry(rng: Generator) -> Geometry:
    """Draw a matrix that covers the chest: about 360 mm in the plane and 290 mm along the body."""
    side = int(rng.choice((256, 272, 288)))
    slices = int(rng.integers(60, 91))
    in_plane = rng.uniform(355, 375) / side
    return Geometry((slices, side, side), (rng.uniform(280, 300) / slices, in_plane, in_plane))


def _phantom(patient: Patient, geometry: Geometry, rng: Generator) -> NDArray[np.int16]:
    """Render a scan in HU, (depth, height, width), with noise and the scanner's round field of view."""
    axes = _chest_axes(patient, geometry)
    hu = _chest(axes)
    _add_lungs(hu, axes, patient)
    for ball in patient.balls:
        _paint(hu, axes, ball)
    hu += rng.uniform(7, 12) * rng.standard_normal(hu.shape, dtype=np.float32)
    hu[:, _outside_view(geometry)] = -1024
    return hu.clip(-1024, 3071).round().astype(np.int16)


def _chest_axes(patient: Patient, geometry: Geometry) -> tuple[Floats, Floats, Floats]:
    """Voxel centres in mm of the standard chest, shaped to broadcast to (depth, height, width)."""
    depth, height, width = (
        ((np.arange(count) - (count - 1) / 2) * spacing / size).astype(np.float32)
        for count, spacing, size in zip(geometry.shape, geometry.spacing, patient.size, strict=True)
    )
    return depth[:, None, None], height[None, :, None], width[None, None, :]


def _chest(axes: tuple[Floats, Floats, Floats]) -> Floats:
    """Everything but the lungs: fat, muscle, ribs, spine, in air."""
    depth, height, width = axes
    body = _ellipse(height, width, (118, 168))
    plane = np.full(body.shape, -1000, np.float32)
    _mix(plane, body, -95)
    _mix(plane, body + 14, 45)
    spine = np.hypot(height - 72, width)
    rib_cage = np.abs(_ellipse(height, width, (97, 140))) - 3.5
    hu = np.repeat(plane, depth.size, axis=0)
    _mix(hu, np.maximum(rib_cage, 16 * np.cos((depth + 0.5 * height) * (2 * math.pi / 30))), 420)
    _mix(hu, np.maximum(spine - 18, 20 * np.cos(depth * (2 * math.pi / 26)) - 14), 230)
    _mix(hu, np.hypot(height - 97, width) - 8, 15)
    return hu


def _add_lungs(hu: Floats, axes: tuple[Floats, Floats, Floats], patient: Patient) -> None:
    """Fill the lungs with tissue, patches of haze included, and the trachea with air."""
    depth, height, width = axes
    field = _random_field(patient.knots, axes)
    patches = np.clip(3 * (field - 0.1), 0, 1)
    _mix(hu, _lung_distance(*axes), -855 + 15 * field + patient.haze * patches)
    _mix(hu, np.maximum(np.hypot(height - 10, width) - 9, 15 - depth), -990)


def _lung_distance(depth: Floats, height: Floats, width: Floats) -> Floats:
    """Distance in mm (about) to the surface of the nearer lung, negative inside.

    The lungs are two ellipsoids, less the dome of the diaphragm and the heart.
    """
    lung = _ellipsoid((depth, height, np.abs(width)), _LUNG_CENTRE, _LUNG_RADII)
    heart = _ellipsoid((depth, height, width), _HEART_CENTRE, _HEART_RADII)
    dome = -75 - 30 * (((np.abs(width) - 65) / 55) ** 2 + (height / 85) ** 2)
    return np.maximum(np.maximum(lung, -heart), dome - depth)


def _ellipsoid(axes: tuple[Floats, Floats, Floats], centre: Point, radii: Point) -> Floats:
    """Distance in mm (about) to the surface of an ellipsoid, negative inside."""
    depth, height, width = (
        ((axis - middle) / radius) ** 2 for axis, middle, radius in zip(axes, centre, radii, strict=True)
    )
    distance: Floats = np.float32(min(radii)) * (np.sqrt(depth + height + width) - 1)
    return distance


def _ellipse(height: Floats, width: Floats, radii: tuple[float, float]) -> Floats:
    """Distance in mm (about) to an ellipse around the body's axis, negative inside."""
    distance: Floats = np.float32(min(radii)) * (np.hypot(height / radii[0], width / radii[1]) - 1)
    return distance


def _mix(hu: Floats, distance: Floats, density: Floats | float) -> None:
    """Set what lies inside (`distance` < 0) to `density`, with an edge 2 mm wide as in a real scan."""
    share = np.clip(0.5 - distance / 2, 0, 1)
    hu += share * (density - hu)


def _random_field(knots: Floats, axes: tuple[Floats, Floats, Floats]) -> Floats:
    """White noise on a lattice of 18 mm, smoothed to a field of unit variance on the voxels."""
    field = knots
    for dimension, axis in enumerate(axes):
        places = (np.arange(knots.shape[dimension]) - (knots.shape[dimension] - 1) / 2) * _KNOT_MM
        weights = np.exp(-(((axis.ravel()[:, None] - places) / _KNOT_MM) ** 2))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        # The dimension that was summed comes back as the last one: after three turns the order is as before.
        field = np.tensordot(field, weights.astype(np.float32), axes=(0, 1))
    return field


def _paint(hu: Floats, axes: tuple[Floats, Floats, Floats], ball: Ball) -> None:
    """Mix a ball into the part of `hu` that it touches."""
    box = tuple(
        slice(*np.searchsorted(axis.ravel(), (middle - ball.radius - 1, middle + ball.radius + 1)))
        for axis, middle in zip(axes, ball.centre, strict=True)
    )
    near = (axes[0][box[0]], axes[1][:, box[1]], axes[2][..., box[2]])
    _mix(hu[box], _ellipsoid(near, ball.centre, (ball.radius,) * 3), ball.hu)


def _outside_view(geometry: Geometry) -> NDArray[np.bool_]:
    """The corners (height, width) that a scanner's round field of view leaves empty."""
    across = np.linspace(-1, 1, geometry.shape[2])
    return np.hypot(across[:, None], across) > 1


# CT: how the scan is stored


@dataclass(frozen=True)
class Storage:
    """How a NIfTI file holds a scan: axis codes, and the scale that turns stored values into HU."""

    axes: str
    dtype: type[np.int16] | type[np.uint16] = np.int16
    slope: float = 1.0
    intercept: float = 0.0
    four_d: bool = False


_STORAGES = (
    Storage("LPS"),
    Storage("RAS"),
    Storage("LPS", dtype=np.uint16, slope=0.5, intercept=-1024.0),
    Storage("LAS", four_d=True),
    Storage("PIR"),
)


def _write_scans(folder: Path, *, seed: int, scans: int) -> None:
    folder.mkdir(parents=True)
    rows = [_write_scan(folder, seed, number, _patient_of(number, scans)) for number in range(scans)]
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("FileName", "TypeOfTB", "PatientID"), *rows])


def _patient_of(number: int, scans: int) -> int:
    """The last sixth are second scans of the patients five places before, who have the same class."""
    return number - len(TB_TYPES) if number >= scans - scans // 6 else number


def _write_scan(folder: Path, seed: int, number: int, patient: int) -> tuple[str, int, str]:
    """Write one scan; return its row: file name, class number from 1, patient."""
    tb_type = patient % len(TB_TYPES)
    rng = Generator(PCG64([seed, 1, number]))
    geometry = _geometry(rng)
    hu = _phantom(_patient(seed, patient, TB_TYPES[tb_type]), geometry, rng)
    # A Latin square, so that no way of storing goes with a class.
    storage = _STORAGES[(number + number // len(TB_TYPES)) % len(_STORAGES)]
    name = f"DEMO_{number + 1:04d}.nii.gz"
    nib.save(_image(hu, geometry, storage), folder / name)
    return name, tb_type + 1, f"P{patient + 1:03d}"


def _image(hu: NDArray[np.int16], geometry: Geometry, storage: Storage) -> nib.Nifti1Image:
    """Turn HU (depth, height, width) into an image whose affine tells where its axes point."""
    lps = hu.T
    turn = ornt_transform(axcodes2ornt("LPS"), axcodes2ornt(storage.axes))
    stored = apply_orientation((lps - storage.intercept) / storage.slope, turn).astype(storage.dtype)
    depth, height, width = geometry.spacing
    affine = np.diag([-width, -height, depth, 1.0])
    affine[:3, 3] = [
        0.5 * step * (count - 1) for step, count in zip((width, height, -depth), lps.shape, strict=True)
    ]
    image = nib.Nifti1Image(
        stored[..., None] if storage.four_d else stored, affine @ inv_ornt_aff(turn, lps.shape)
    )
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(storage.slope, storage.intercept)
    image.header["descrip"] = b"viptt demo: a generated phantom"
    return image


# Clips


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


def _write_clips(folder: Path, *, seed: int, groups: int) -> None:
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
