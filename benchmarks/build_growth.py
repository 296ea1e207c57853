"""How does a build grow with samples and workers, in time and in memory of a worker?

Generated scans of 256x256x80. Ratios within this run, the start of the cluster left out.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset

ROUNDS = 5
CATALOG = """
version: 1
datasets:
  scans:
    type: nifti
    path: ct
    labels: {regex: '(?P<label>[ab])_'}
    classes: [a, b]
    store: scans.zarr
    split: {file: scans.json}
"""


def write_scans(folder: Path, count: int) -> Dataset:
    (folder / "ct").mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(-1000, 400, (256, 256, 80), np.int16)
        name = f"{'ab'[number % 2]}_{number:03}.nii.gz"
        nib.save(nib.Nifti1Image(noise, np.diag([-1, -1, 2, 1])), folder / "ct" / name)
    (folder / "data_catalog.yaml").write_text(CATALOG)
    dataset = load_catalog(folder / "data_catalog.yaml").datasets["scans"]
    assert isinstance(dataset, Dataset)
    return dataset


def seconds(dataset: Dataset, store: Path, options: Options) -> float:
    """For a sample, from the first result to the last: the cluster has started by then."""
    times: list[float] = []
    plan = make_plan(dataset.model_copy(update={"store": store}), options)
    build(plan, options, report=lambda result: times.append(time.perf_counter()))
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = write_scans(folder, 48)
        one = Options(workers=1)
        cases = {f"{limit} samples": replace(one, limit=limit) for limit in (12, 24, 48)}
        cases |= {f"{workers} workers": Options(workers=workers) for workers in (2, 4)}
        cases |= {"nothing to do": one}
        rounds = []
        for number in range(ROUNDS):
            stores = {case: folder / f"{case} {number}.zarr" for case in cases}
            stores["nothing to do"] = stores["48 samples"]
            rounds.append({case: seconds(dataset, stores[case], options) for case, options in cases.items()})
        print(f"time of a sample, relative to 48 with one worker ({os.cpu_count()} cores; {ROUNDS} rounds)")
        for case in cases:
            ratios = sorted(times[case] / times["48 samples"] for times in rounds)
            print(f"  {case}: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
