"""Slices in lists, from files to decisions about patients, by the commands; generated ones, and real ones."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import yaml
from numpy.typing import NDArray
from slice_scans import (
    NETWORKS,
    PICTURES,
    STACKS,
    blank,
    done,
    train_and_evaluate,
    viptt,
    with_spot,
    write_scans,
)

from model.architectures import architecture
from model.run_folder import Config, create_run, describe
from model.settings import Settings
from model.weights import save_weights
from pipeline.crop import body_box
from pipeline.store import open_store

DEPTH = 8
RADII = (0, 3, 6)  # of the spots of each class, 0 for none
CLOSE = 1e-5  # of probabilities


@pytest.fixture(autouse=True)
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slice_nets.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)


def plain(rng: np.random.Generator, label: int) -> list[NDArray[np.uint8]]:
    """A scan whose every slice shows its class."""
    return [with_spot(rng, radius=RADII[label]) if label else blank(rng) for _ in range(DEPTH)]


def ambiguous(rng: np.random.Generator, label: int) -> list[NDArray[np.uint8]]:
    """A scan with spots in a row, whatever its class; no slice alone tells it.

    Pneumonia: 4 to 6 spots, from the first slices on. Normal: 2 to 4, up to the last ones. Means of
    slices see how many there are, and 4 occur in both; only the order of the slices tells all.
    """
    count = int(rng.integers(4, 7) if label else rng.integers(2, 5))
    first = int(rng.integers(0, 2))
    first = first if label else DEPTH - count - first
    return [with_spot(rng) if 0 <= place - first < count else blank(rng) for place in range(DEPTH)]


def probabilities(text: str) -> NDArray[np.float64]:
    """The columns of probabilities of what `viptt predict` prints."""
    return np.array([row[2:] for row in list(csv.reader(io.StringIO(text)))[1:]], float)


def gray(path: Path) -> NDArray[np.float32]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.float32)


@pytest.mark.slow
@pytest.mark.timeout(480)
def test_the_whole_chain_knows_unseen_patients(tmp_path: Path) -> None:
    catalog = write_scans(tmp_path / "data", plain, classes=3, crop="box", dtype="float32")
    assert "42 stacks in 42 groups" in done("check", "slices", catalog=catalog)
    done("build", "slices", "--scheduler", "sync", catalog=catalog)
    done("split", "slices", catalog=catalog)
    run, metrics = train_and_evaluate(catalog, "slices", PICTURES, epochs=12)
    patients = {part: {line.split("_")[1] for line in lists(catalog, part)} for part in ("train", "test")}
    assert not patients["train"] & patients["test"]
    assert metrics["scores"]["samples"] == 80
    assert metrics["scores"]["accuracy"] >= 0.95

    stored = probabilities(done("predict", run, "slices", "--split", "test", catalog=catalog))
    done("export", run, "--out", tmp_path / "onnx", "--to", "onnx", catalog=catalog)
    session = onnxruntime.InferenceSession(tmp_path / "onnx/model.onnx")
    names = json.loads((catalog.parent / "slices.json").read_text())["splits"]["test"]
    box = np.array([3, 3, 29, 29], np.int32)
    found = [
        session.run(["probabilities"], {"picture": gray(catalog.parent / f"png/{name}.png"), "box": box})[0]
        for name in names
    ]
    np.testing.assert_allclose(np.array(found), stored, rtol=0, atol=CLOSE)


def lists(catalog: Path, part: str) -> list[str]:
    return (catalog.parent / f"{part}.txt").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_ambiguous_slices_the_order_decides_best_then_the_mean_then_any(tmp_path: Path, seed: int) -> None:
    """The seeds give 1.00 each by order, 0.78, 0.73 and 0.83 by mean, 0.50 each by any."""
    patients = {"train": 60, "val": 20, "test": 40}
    given = {"patients": patients, "resize": "antialias", "seed": seed}
    catalog = write_scans(tmp_path / "data", ambiguous, classes=2, **given)
    done("build", "--scheduler", "sync", catalog=catalog)
    done("split", catalog=catalog)
    by_slice, slices = train_and_evaluate(catalog, "slices", PICTURES, epochs=10, seed=seed)
    by_scan, scans = train_and_evaluate(catalog, "scans", STACKS, epochs=12, seed=seed)
    rules = {level["rule"]: level["scores"] for level in slices["levels"]}
    assert scans["scores"]["samples"] == rules["mean"]["samples"] == rules["any"]["samples"] == 40
    assert slices["scores"]["accuracy"] < 0.75
    assert rules["any"]["accuracy"] + 0.1 < rules["mean"]["accuracy"]
    assert rules["mean"]["accuracy"] + 0.1 < scans["scores"]["accuracy"]
    check_table(done("compare", by_slice, by_scan, catalog=catalog), slices, scans)


def check_table(shown: str, slices: dict[str, Any], scans: dict[str, Any]) -> None:
    """One table has all of them, the slices' own scores first, and tells that the scans are the same."""
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    expected = [
        ("run_slices picture, by the network 320", slices["scores"]),
        *(
            (f"run_slices stack, {rule} 40", level["scores"])
            for rule, level in zip(("mean probability", "most suspicious"), slices["levels"], strict=False)
        ),
        ("run_scans stack, by the network 40", scans["scores"]),
    ]
    for start, scores in expected:
        assert any(line.startswith(f"{start} {scores['accuracy']:.2f} ") for line in lines), shown
    assert "All runs judged the same 40 stacks." in lines


# --- real slices --------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path, shared: Path) -> Callable[..., Path]:
    """``real(recipe)``: a catalog of the slices of one scan, and of a slice of another, in two lists."""

    def make(recipe: dict[str, object]) -> Path:
        parts: dict[str, list[str]] = {"train": [], "val": []}
        for path in sorted((shared / "slices").iterdir()):
            xmin, ymin, xmax, ymax = body_box(gray(path).astype(np.uint8))
            part = "train" if path.suffix == ".jpg" else "val"
            parts[part].append(f"{path.name} {part == 'train':d} {xmin} {ymin} {xmax} {ymax}\n")
        for part, lines in parts.items():
            (tmp_path / f"{part}.txt").write_text("".join(lines))
        entry = {
            "type": "slices",
            "path": str(shared / "slices"),
            "labels": {part: f"{part}.txt" for part in parts},
            "classes": {0: "Normal", 1: "COVID-19"},
            "recipe": recipe,
            "store": "real.zarr",
            "split": {"file": "real.json", "method": "given"},
        }
        catalog = tmp_path / "data_catalog.yaml"
        catalog.write_text(yaml.safe_dump({"version": 1, "datasets": {"real": entry}}))
        return catalog

    return make


def untrained(catalog: Path) -> Path:
    """A run on the real slices with a random network that is not sure of anything."""
    store, folder = open_store(catalog.parent / "real.zarr"), catalog.parent / "run"
    settings = Settings(model="slice_nets:net")
    create_run(folder, Config(settings, describe(store, catalog.parent / "real.json")))
    keras.utils.set_random_seed(3)
    _, height, width = store.header.shape
    net = architecture(settings.model).build((height, width, 1), 2, weights="none")
    save_weights(net, folder / "model.weights.h5")
    return folder


RECIPES = {
    "preset": {"preset": "covidnet-ct-id-2022"},
    "box": {"shape": [1, 96, 96], "crop": "box", "resize": "antialias", "dtype": "float32"},
    "body": {"shape": [1, 96, 96], "crop": "body", "dtype": "float32"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_real_slices_are_checked_built_predicted_and_exported(
    real: Callable[..., Path], tmp_path: Path, shared: Path, name: str
) -> None:
    catalog = real(RECIPES[name])
    checked = viptt("check", "real", catalog=catalog)
    assert checked.exit_code == 0
    assert "31 pictures in 2 stacks in 2 groups" in checked.stdout
    assert "unknown-scan: 31 names" in checked.stderr  # of none of COVIDx-CT's forms
    done("build", "--scheduler", "sync", catalog=catalog)
    done("split", catalog=catalog)
    run = untrained(catalog)
    stored = probabilities(done("predict", run, "real", catalog=catalog))
    files = sorted((shared / "slices").iterdir())
    new = probabilities(done("predict", run, *files, "--scheduler", "sync", catalog=catalog))
    # A new slice is in no list: it gets the body's box, which is the one that these lists say.
    np.testing.assert_allclose(new, stored, atol=1e-5)
    assert np.ptp(stored, axis=0).min() > 1e-3, "the network says the same of everything"

    done("export", run, "--out", tmp_path / "1", catalog=catalog)
    serve = (loaded := tf.saved_model.load(tmp_path / "1")).signatures["serving_default"]
    for path, expected in zip(files, stored, strict=True):
        picture = gray(path)
        given = {"picture": tf.constant(picture)}
        if name != "preset":
            given["box"] = tf.constant(body_box(picture.astype(np.uint8)))
        found = serve(**given)["probabilities"].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    assert loaded
