"""Generated scans of slices in COVIDx-CT's lists, the small networks that learn them, and a command line."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from cli import main

SIZE, PREFIXES, CLASSES = 32, ("Normal", "CP", "NCP"), ("Normal", "Pneumonia", "COVID-19")
PATIENTS = {"train": 24, "val": 8, "test": 10}
Scan = Callable[[np.random.Generator, int], Sequence[NDArray[np.uint8]]]  # (generator, class) to slices
NETWORKS = """
import keras
from keras import layers

def features(shape):
    frame = keras.Input(shape)
    maps = frame
    for filters in (8, 16):
        maps = layers.Conv2D(filters, 3, padding="same", activation="relu")(maps)
        maps = layers.MaxPooling2D()(maps)
    maps = layers.Conv2D(16, 3, padding="same", activation="relu")(maps)
    return keras.Model(frame, layers.GlobalMaxPooling2D()(maps))

def net(shape, classes):
    body = features(shape)
    return keras.Model(body.input, layers.Dense(classes, activation="softmax")(body.output))
"""
# The backbone comes from the user's own module; the same layers in both networks.
PICTURES = {"model": "slice_nets:net", "optimizer": "adam", "learning_rate": 0.003, "batch_size": 32}
STACKS = {
    "model": "viptt-net",
    "backbone": "slice_nets:features",
    "weights": "none",
    "optimizer": "adam",
    "learning_rate": 0.003,
    "batch_size": 8,
    "freeze_backbone": False,
}


def viptt(*arguments: object, catalog: Path) -> Result:
    given = [*map(str, arguments), "--catalog", str(catalog)]
    return CliRunner().invoke(main, given, catch_exceptions=False)


def done(*arguments: object, catalog: Path) -> str:
    """What a command that must succeed prints."""
    result = viptt(*arguments, catalog=catalog)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def blank(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A slice of noise, air around a body."""
    slice_ = rng.integers(60, 100, (SIZE, SIZE), np.uint8)
    slice_[:3] = slice_[-3:] = slice_[:, :3] = slice_[:, -3:] = 0
    return slice_


def with_spot(rng: np.random.Generator, *, radius: int = 4, level: int = 255) -> NDArray[np.uint8]:
    """A slice with a bright disc somewhere in the body."""
    x, y = map(int, rng.integers(radius + 3, SIZE - radius - 3, 2))
    return np.asarray(cv2.circle(blank(rng), (x, y), radius, level, cv2.FILLED), np.uint8)


def write_scans(
    folder: Path,
    scan: Scan,
    *,
    classes: int,
    patients: Mapping[str, int] = PATIENTS,
    seed: int = 0,
    **recipe: Any,
) -> Path:
    """Lists of one scan a patient, classes by turns; the catalog has them as ``slices`` and as ``scans``."""
    rng, patient, slices = np.random.default_rng(seed), 0, 0
    (folder / "png").mkdir(parents=True)
    for part, count in patients.items():
        lines = []
        for _ in range(count):
            label, patient = patient % classes, patient + 1
            pictures = scan(rng, label)
            slices = len(pictures)
            for number, picture in enumerate(pictures):
                name = f"{PREFIXES[label]}_{patient}_{patient}_{number:04d}.png"
                assert cv2.imwrite(str(folder / "png" / name), picture)
                lines.append(f"{name} {label} 3 3 {SIZE - 3} {SIZE - 3}\n")
        (folder / f"{part}.txt").write_text("".join(lines))
    entry = {
        "type": "slices",
        "path": "png",
        "labels": {part: f"{part}.txt" for part in patients},
        "classes": dict(enumerate(CLASSES[:classes])),
    }
    datasets = {}
    for name, sample, depth in (("slices", "picture", 1), ("scans", "stack", slices)):
        given = {"sample": sample, "shape": [depth, SIZE, SIZE], **recipe}
        split = {"file": f"{name}.json", "method": "given"}
        datasets[name] = {**entry, "recipe": given, "store": f"cache/{name}.zarr", "split": split}
    catalog = folder / "data_catalog.yaml"
    catalog.write_text(yaml.safe_dump({"version": 1, "datasets": datasets}, sort_keys=False))
    return catalog


def train_and_evaluate(
    catalog: Path, dataset: str, settings: Mapping[str, Any], *, epochs: int, seed: int = 0
) -> tuple[Path, dict[str, Any]]:
    """Train on a dataset that is built and split; the run, and its metrics on the split test."""
    config, run = catalog.parent / f"{dataset}.yaml", catalog.parent / f"run_{dataset}"
    config.write_text(yaml.safe_dump({**settings, "epochs": epochs, "seed": seed}))
    done("train", dataset, "--config", config, "--run", run, catalog=catalog)
    done("evaluate", run, "--split", "test", catalog=catalog)
    return run, json.loads((run / "metrics.json").read_text())
