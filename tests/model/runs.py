"""Settings of short trainings, and what a run holds."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.loading import load_network
from model.settings import Settings

SETTINGS = Settings(model="viptt-net-small", epochs=1, learning_rate=0.01)
# Nothing moves: neither the weights nor the means that batch normalisation keeps.
STILL = replace(SETTINGS, learning_rate=1e-12, freeze_backbone=True)


def weights_of(run: Path) -> list[np.ndarray]:
    return load_network(run)[1].get_weights()


def history_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
