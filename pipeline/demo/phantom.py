"""A chest phantom in HU for each of five classes of tuberculosis: arrays from numbers, no files.

Chest coordinates are millimetres of a standard chest, axes (depth, height, width) toward Superior,
Posterior and Left, origin between the lungs; a patient's own size is a factor on them. Densities are HU.

The classes differ in number, size and texture of their lesions and in nothing else: chest size, noise,
matrix and spacing are drawn without looking at the class. Two scans of one patient share chest and lesions.

Not done: X-ray physics, airways below the trachea, breathing. These are phantoms, not patients.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Point = tuple[float, float, float]

TB_TYPES = ("Infiltrative", "Focal", "Tuberculoma", "Miliary", "Fibro-cavernous")


# --- who is scanned -----------------------------------------------------------------------------


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


def random_patient(seed: int, number: int, tb_type: str) -> Patient:
    """Patient `number` of a seed, with the lesions of one of the classes."""
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
    """Focal: about thirty soft nodules of 20 to 24 mm."""
    for centre in _lung_points(rng, int(rng.integers(30, 36)), margin=8):
        yield Ball(centre, radius=rng.uniform(10, 12), hu=rng.uniform(0, 50))


def _tuberculomas(rng: Generator) -> Iterator[Ball]:
    """Tuberculoma: six large round masses with a calcified centre."""
    for centre in _lung_points(rng, 6, margin=26):
        radius = rng.uniform(28, 34)
        yield Ball(centre, radius, hu=rng.uniform(60, 90))
        yield Ball(centre, radius * rng.uniform(0.6, 0.7), hu=rng.uniform(500, 700))


def _miliary(rng: Generator) -> Iterator[Ball]:
    """Miliary: over three thousand nodules of 5 to 7 mm, all over both lungs."""
    for centre in _lung_points(rng, int(rng.integers(3400, 3800)), margin=1):
        yield Ball(centre, radius=rng.uniform(2.5, 3.5), hu=rng.uniform(20, 120))


def _cavities(rng: Generator) -> Iterator[Ball]:
    """Fibro-cavernous: six large cavities full of air, with walls of 8 to 11 mm and strands of scar."""
    for centre in _lung_points(rng, 6, margin=28):
        radius = rng.uniform(34, 40)
        for end in _lung_points(rng, 12, margin=1):
            if math.dist(centre, end) < 2 * radius:
                yield from _strand(centre, end, thick=4, thin=3, hu=0)
        yield Ball(centre, radius, hu=rng.uniform(30, 60))
        yield Ball(centre, radius * rng.uniform(0.72, 0.78), hu=-980)


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


# --- how the scan looks -------------------------------------------------------------------------


@dataclass(frozen=True)
class Geometry:
    """The matrix of a scan: shape in voxels and spacing in mm, both (depth, height, width)."""

    shape: tuple[int, int, int]
    spacing: Point


def random_geometry(rng: Generator) -> Geometry:
    """Draw a matrix that covers the chest: about 360 mm in the plane and 290 mm along the body."""
    side = int(rng.choice((112, 120, 128)))
    slices = int(rng.integers(40, 61))
    in_plane = rng.uniform(355, 375) / side
    return Geometry((slices, side, side), (rng.uniform(280, 300) / slices, in_plane, in_plane))


def render(patient: Patient, geometry: Geometry, rng: Generator) -> NDArray[np.int16]:
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
