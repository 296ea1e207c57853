"""Small datasets of pictures: SpaceTime-SonoNet's tree of frames, and slices in COVIDx-CT's lists."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.catalog import load_catalog
from pipeline.catalog.schema import Dataset

FRAMES, ROWS, COLUMNS = 10, 24, 32
SCANS = {"train": 4, "val": 2, "test": 2}
SLICES = 5
BOX = (3, 2, 30, 21)


def noise(*seed: int, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.uint8]:
    """One picture of blurred noise."""
    values = np.random.default_rng(list(seed)).integers(0, 256, (rows, columns), np.uint8)
    return np.asarray(cv2.GaussianBlur(values, (5, 5), 0), np.uint8)


def write_picture(path: Path, picture: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def write_catalog(folder: Path, name: str, entry: Mapping[str, Any]) -> Dataset:
    catalog = folder / "data_catalog.yaml"
    document = {"version": 1, "datasets": {name: dict(entry)}}
    catalog.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    return load_catalog(catalog).datasets[name]


def frames_dataset(folder: Path, *, videos: int = 4, **changes: Any) -> Dataset:
    """``videos/v0/frame-001.png`` … and ``labels/v0/frame-001.txt`` …; two videos a patient.

    The first half of a video is liver, the second other; in every second video it is the other way round.
    """
    for video in range(videos):
        for number in range(1, FRAMES + 1):
            write_picture(folder / f"videos/v{video}/frame-{number:03d}.png", noise(video, number))
            text = folder / f"labels/v{video}/frame-{number:03d}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("liver" if (number <= FRAMES // 2) != bool(video % 2) else "other", "utf-8")
    patients = [[f"v{video}" for video in (first, first + 1)] for first in range(0, videos, 2)]
    (folder / "exams.json").write_text(json.dumps(patients), "utf-8")
    entry = {
        "type": "frames",
        "sample": "picture",
        "path": "videos",
        "labels": {"files": "labels"},
        "groups": {"exams": "exams.json"},
        "classes": ["liver", "other"],
        "recipe": {"shape": [1, 12, 16]},
        "store": "cache/us.zarr",
        "split": {"file": "us.json", "fractions": {"train": 0.5, "val": 0.5}},
    }
    return write_catalog(folder, "us", entry | changes)


def slices_dataset(folder: Path, **changes: Any) -> Dataset:
    """``png/Normal_0_0_0000.png`` … in three lists; scans of five slices, two classes by turns."""
    scan = 0
    for part, scans in SCANS.items():
        lines = []
        for _ in range(scans):
            prefix = ("Normal", "CP")[scan % 2]
            for number in range(SLICES):
                name = f"{prefix}_{scan}_{scan}_{number:04d}.png"
                write_picture(folder / "png" / name, noise(scan, number))
                lines.append(" ".join(map(str, (name, scan % 2, *BOX))) + "\n")
            scan += 1
        (folder / f"{part}.txt").write_text("".join(lines), "utf-8")
    entry = {
        "type": "slices",
        "path": "png",
        "labels": {part: f"{part}.txt" for part in SCANS},
        "classes": {0: "Normal", 1: "Pneumonia"},
        "recipe": {"shape": [1, 12, 16]},
        "store": "cache/slices.zarr",
        "split": {"file": "slices.json", "method": "given"},
    }
    return write_catalog(folder, "slices", entry | changes)
