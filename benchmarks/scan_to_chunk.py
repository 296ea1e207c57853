"""From a .nii.gz of 512x512x150 to a stored chunk: viptt's task against the usual script.

The script: nibabel ``get_fdata``, canonical axes, clip, ``scipy.ndimage.zoom`` order 3, scale,
float16, saved with NumPy. One worker and one thread each, same file, same run. Prints the ratio, and
where the time goes.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from pipeline.build.worker import Task, process
from pipeline.convert import convert
from pipeline.readers import nifti
from pipeline.readers.content import hash_file
from pipeline.recipe import CtRecipe
from pipeline.store import write_chunk

SHAPE = (70, 224, 224)
REPEATS = 5


def seconds(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return median(times)


def write_scan(path: Path) -> None:
    """A body-like scan: smooth tissue, sharp borders, and the noise of a scanner."""
    generator = np.random.default_rng(0)
    coarse = ndimage.zoom(generator.normal(0, 300, (16, 16, 8)), (32, 32, 18.75), order=3)
    noise = generator.normal(0, 20, coarse.shape)
    volume = np.where(coarse > 0, 40, -850) + coarse / 5 + noise
    nib.save(nib.Nifti1Image(volume.astype(np.int16), np.diag([-0.7, -0.7, 2, 1])), path)


def usual_script(source: Path, target: Path) -> None:
    volume = nib.as_closest_canonical(nib.load(source)).get_fdata()[::-1, ::-1, :].T
    clipped = np.clip(volume, -1000, 400)
    factors = [size / old for size, old in zip(SHAPE, clipped.shape, strict=True)]
    zoomed = ndimage.zoom(clipped, factors, order=3, mode="nearest")
    np.save(target, np.clip((zoomed + 1000) / 1400, 0, 1).astype(np.float16))


def main() -> int:
    with tempfile.TemporaryDirectory() as name, threadpool_limits(1):
        folder = Path(name)
        source = folder / "scan.nii.gz"
        write_scan(source)
        recipe = CtRecipe()
        task = Task("scan.nii.gz", source, recipe, "", 0, folder / "chunk", folder / "journal")
        process(task)
        whole = seconds(lambda: process(task), REPEATS)
        script = seconds(lambda: usual_script(source, folder / "script.npy"), 2)
        reading = seconds(lambda: nifti.read(source), REPEATS)
        converting = seconds(lambda: convert(source, recipe), REPEATS)
        hashing = seconds(lambda: hash_file(source), REPEATS)
        volume = convert(source, recipe).volume
        writing = seconds(lambda: write_chunk(folder / "chunk", volume), REPEATS)
        error = np.abs(volume - np.load(folder / "script.npy").astype(np.float32)).max()
        print(f"source of {source.stat().st_size / 1e6:.0f} MB; largest difference {error:.1e}")
        print(f"file to chunk: {script / whole:.1f} times as fast as get_fdata + clip + SciPy order 3")
        print(f"  read and inflate    {reading / whole:4.0%} of the task")
        print(f"  SIZ and scaling     {(converting - reading) / whole:4.0%}")
        print(f"  hash the source     {hashing / whole:4.0%}")
        print(f"  write, hash, fsync  {writing / whole:4.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
