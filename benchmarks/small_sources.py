"""What does a small source cost beside reading and zooming? 5,000 NIfTI files of 16x16x8, two workers.

    python benchmarks/small_sources.py [--files 5000]

"bare" reads and converts each file in this process and keeps nothing. Times are per file. CPU time of the
driver, this process, cannot be shared among workers. Beside them stands what the disk takes for one file.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset
from pipeline.convert import convert
from pipeline.files import write_durably

CATALOG = """
version: 1
datasets:
  tiny:
    type: nifti
    path: ct
    labels: {regex: '(?P<label>[ab])_'}
    classes: [a, b]
    recipe: {shape: [8, 16, 16]}
    store: tiny.zarr
    split: {file: tiny.json}
"""
WORKERS = 2
SYNCS = 200


def write_files(folder: Path, count: int) -> Dataset:
    (folder / "ct").mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        image = nib.Nifti1Image(rng.integers(-1000, 400, (16, 16, 8), np.int16), np.diag([-1, -1, 2, 1]))
        nib.save(image, folder / "ct" / f"{'ab'[number % 2]}_{number}.nii")
    (folder / "data_catalog.yaml").write_text(CATALOG)
    dataset = load_catalog(folder / "data_catalog.yaml").datasets["tiny"]
    assert isinstance(dataset, Dataset)
    return dataset


def milliseconds(dataset: Dataset, options: Options) -> tuple[float, float, float]:
    """For a file: wall time from the first result to the last, from there to the end, and CPU time here."""
    moments: list[float] = []
    plan, start = make_plan(dataset, options), time.process_time()
    build(plan, options, report=lambda result: moments.append(time.perf_counter()))
    files = 1e-3 * len(moments)
    converting, publishing = moments[-1] - moments[0], time.perf_counter() - moments[-1]
    return converting / files, publishing / files, (time.process_time() - start) / files


def sync_milliseconds(folder: Path) -> float:
    """What the disk takes at present to write a small file durably."""
    start = time.perf_counter()
    for number in range(SYNCS):
        write_durably(folder / str(number), b"x" * 4096)
    return 1e3 * (time.perf_counter() - start) / SYNCS


def bare(dataset: Dataset) -> float:
    """Milliseconds of CPU time that reading and zooming one file takes."""
    paths = [sample.path for sample in make_plan(dataset, Options(scheduler="sync")).samples]
    start = time.process_time()
    for path in paths:
        convert(path, dataset.recipe)
    return 1e3 * (time.process_time() - start) / len(paths)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=5000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        dataset = write_files(Path(name), chosen.files)
        print(f"bare: {bare(dataset):.2f} ms of CPU time a file, {chosen.files} files")
        print(f"one small file, written durably: {sync_milliseconds(Path(name)):.2f} ms")
        for word in ("first build", "nothing to do"):
            converting, publishing, cpu = milliseconds(dataset, Options(workers=WORKERS))
            parts = f"{converting:.2f} ms + {publishing:.2f} ms to close and publish"
            print(f"{word}: {parts}, of them {cpu:.2f} ms of CPU time of the driver", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
