"""CT slices as PNG with the lists of COVIDx-CT: generated pictures, names and lines of its form.

    images/NCP_7_107_0003.png         64 x 64, gray: class, patient, scan, slice
    train_demo.txt, val_demo.txt, test_demo.txt
                                      lines ``filename class xmin ymin xmax ymax``; boxes are half-open

The class is seen in every slice: healthy lungs, one large opacity with a sharp edge in one lung, or faint
patches at the outer edge of both. Patients are divided in turn, four of six to train. Every patient has a
random generator of its own.

Not done: the physics of CT. These are ellipses with blobs, not patients.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator

from pipeline.demo.gray_pictures import SIDE, Floats, ellipse, write_png

Box = tuple[int, int, int, int]

FINDINGS = {"Normal": "Normal", "CP": "Pneumonia", "NCP": "COVID-19"}  # prefix of a name → class
LISTS = {name: f"{name}_demo.txt" for name in ("train", "val", "test")}
_TURNS = ("train", "val", "train", "test", "train", "train")
_LUNGS = ((32.0, 20.0), (32.0, 44.0))  # their centres: row, column
_HEIGHT, _WIDTH = 18.0, 9.0  # half axes of a lung, in pixels


def write_slices(folder: Path, *, seed: int, patients: int, slices: int = 6) -> None:
    """Write `slices` slices of `patients` patients of each class into the new `folder`, and their lists.

    Raises ResourceError if a picture cannot be written.
    """
    (folder / "images").mkdir(parents=True)
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for label, prefix in enumerate(FINDINGS):
        for patient in range(1, patients + 1):
            rng = Generator(PCG64([seed, 5, label, patient]))
            part = _TURNS[patient % len(_TURNS)]
            for number in range(slices):
                name = f"{prefix}_{patient}_{100 + patient}_{number:04d}.png"
                picture, box = _draw_slice(prefix, rng)
                write_png(folder / "images" / name, picture)
                lines[part].append(f"{name} {label} {' '.join(map(str, box))}\n")
    for part, file in LISTS.items():
        (folder / file).write_text("".join(lines[part]), encoding="utf-8")


def _draw_slice(prefix: str, rng: Generator) -> tuple[Floats, Box]:
    """A slice (height, width), and the box (xmin, ymin, xmax, ymax) of the body in it."""
    body = ellipse(32, 32, rng.uniform(25, 29), rng.uniform(27, 30))
    air = np.maximum(*(ellipse(row, column, _HEIGHT, _WIDTH) for row, column in _LUNGS))
    opacity = {"Normal": _clear, "CP": _one_lobe, "NCP": _patches}[prefix](rng)
    gray = 0.6 * body - air * 0.5 * (1 - opacity) + rng.normal(0, 0.03, (SIDE, SIDE))
    rows, columns = np.nonzero(body > 0.5)
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return gray, box


def _clear(rng: Generator) -> Floats:
    return np.zeros((SIDE, SIDE))


def _one_lobe(rng: Generator) -> Floats:
    """A dense opacity that fills a good part of one lung."""
    row, column = _LUNGS[int(rng.integers(2))]
    return 0.9 * ellipse(row + rng.uniform(-8, 8), column + rng.uniform(-2, 2), rng.uniform(8, 10), 8)


def _patches(rng: Generator) -> Floats:
    """Four faint patches in each lung, along its outer edge."""
    found = np.zeros((SIDE, SIDE))
    for (row, column), outward in zip(_LUNGS, (-1, 1), strict=True):
        for down in (-12, -4, 4, 12):
            place = (row + down + rng.uniform(-2, 2), column + outward * rng.uniform(3, 6))
            found = np.maximum(found, 0.5 * ellipse(*place, rng.uniform(2.5, 4), rng.uniform(2.5, 4)))
    return found
