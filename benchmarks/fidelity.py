"""How far is the default recipe from the preset viptt-2021, which is the code of 2021 number for number?

    fidelity.py [CATALOG]

For every source of a catalog (without one: of the demo's), at the shape of its dataset's recipe: the absolute
difference in units of [0, 1], as mean / maximum / share of voxels above 0.05.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import aff2axcodes
from scipy import ndimage

from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset
from pipeline.convert import convert
from pipeline.demo import write_demo
from pipeline.readers import nifti
from pipeline.recipe import CtRecipe, VideoRecipe
from pipeline.scale import scale_ct
from pipeline.sources import list_samples

PRESET = "viptt-2021"
NOTICED = 0.05
OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
SCANS = (
    "scan",
    "axes",
    "lost",
    "all",
    "same axes",
    "same axes, lost ends left out",
    "turned by 20°, order 1",
)
CLIPS = ("clip", "frames", "all", "first frames")


def cell(first: np.ndarray, second: np.ndarray) -> str:
    apart = np.abs(first.astype(np.float32) - second.astype(np.float32))
    return f"{apart.mean():.4f} / {apart.max():.2f} / {(apart > NOTICED).mean():.1%}"


def scan(path: Path, shape: tuple[int, int, int]) -> list[str]:
    """The axes are where depth, height and width of the preset point; the default's always are SPL."""
    default = convert(path, CtRecipe(shape=shape)).volume
    preset = convert(path, CtRecipe(shape=shape, preset=PRESET)).volume
    across, down, through = aff2axcodes(nib.load(path).affine)
    stored = nifti.read(path, canonical=False).array[:, ::-1]  # as the preset turns it
    same_axes = scale_ct(stored, CtRecipe(shape=shape))
    lost = [bool((np.take(preset, -1, axis) == 0).all()) for axis in range(3)]
    kept = tuple(slice(-1 if end else None) for end in lost)
    ends = [name for name, end in zip(("slice", "row", "column"), lost, strict=True) if end]
    return [
        through + OPPOSITE[down] + across,
        ", ".join(ends) or "none",
        cell(default, preset),
        cell(same_axes, preset),
        cell(same_axes[kept], preset[kept]),
        cell(turned(preset, 1), turned(preset, 3)),
    ]


def turned(volume: np.ndarray, order: int) -> np.ndarray:
    return np.clip(ndimage.rotate(volume, 20, axes=(2, 1), reshape=False, order=order), 0, 1)


def clip(path: Path, shape: tuple[int, int, int]) -> list[str]:
    preset = convert(path, VideoRecipe(shape=shape, preset=PRESET, dtype="float32"))
    default = convert(path, VideoRecipe(shape=shape)).volume
    first = convert(path, VideoRecipe(shape=shape, frames="first")).volume
    return [str(preset.facts["frames_decoded"]), cell(default, preset.volume), cell(first, preset.volume)]


def rows(dataset: Dataset) -> Iterator[Sequence[str]]:
    compare = scan if dataset.type == "nifti" else clip
    for sample in list_samples(dataset).samples:
        yield sample.id, *compare(sample.path, dataset.recipe.shape)


def main(arguments: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        catalog = load_catalog(Path(arguments[0]) if arguments else write_demo(Path(folder), scans=20))
        for dataset in catalog.datasets.values():
            print(f"\n{dataset.name}, {' x '.join(map(str, dataset.recipe.shape))}")
            for row in (SCANS if dataset.type == "nifti" else CLIPS, *rows(dataset)):
                print("| " + " | ".join(row) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
