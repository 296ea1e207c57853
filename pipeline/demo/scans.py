"""CT phantoms as NIfTI files, stored in the ways that scanners and converters store scans.

int16 or uint16 voxels that slope and intercept turn into HU; the affine tells where the axes point, in mm.
The way a file is stored is chosen without looking at the class. Every file has random generators of its
own, so that it depends on the seed and its own number alone.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from pipeline.demo.phantom import TB_TYPES, Geometry, random_geometry, random_patient, render


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


def write_scans(folder: Path, *, seed: int, scans: int) -> None:
    """Write `scans` phantoms into the new `folder`, and `labels.csv` with file, class and patient of each."""
    folder.mkdir(parents=True)
    rows = [_write_scan(folder, seed, number, _patient_of(number, scans)) for number in range(scans)]
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("FileName", "TypeOfTB", "PatientID"), *rows])


def _patient_of(number: int, scans: int) -> int:
    """The last sixth are second scans of the first patients."""
    return number % max(1, scans - scans // 6)


def _write_scan(folder: Path, seed: int, number: int, patient: int) -> tuple[str, int, str]:
    """Write one scan; return its row: file name, class number from 1, patient."""
    tb_type = patient % len(TB_TYPES)
    rng = Generator(PCG64([seed, 1, number]))
    geometry = random_geometry(rng)
    hu = render(random_patient(seed, patient, TB_TYPES[tb_type]), geometry, rng)
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
