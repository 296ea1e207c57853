"""A new source type is one file: the example of CONTRIBUTING.md, run from the catalog to a verified store."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.ndimage
import yaml
from click.testing import CliRunner, Result

from cli import main
from pipeline.readers import SOURCE_TYPES
from pipeline.store import open_store

CLASSES = ("dark", "light")
SHAPE = (3, 8, 10)
HALF_STEP = 2.0**-11  # of float16 between 0.5 and 1, the coarsest below 1


@pytest.fixture
def npy(load_example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example reader, registered."""
    module = load_example("npy.py")
    monkeypatch.setitem(SOURCE_TYPES, "npy", module.SOURCE)
    return module


@pytest.fixture
def stacks(tmp_path: Path) -> dict[str, np.ndarray]:
    """Four stacks on disk, by their ids."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}_{number}": (rng.integers(0, 128, (5, 12, 9)) + 127 * label).astype(np.uint8)
        for label, name in enumerate(CLASSES)
        for number in range(2)
    }
    (tmp_path / "raw").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "raw" / f"{name}.npy", array)
    return arrays


@pytest.fixture
def viptt(tmp_path: Path, npy: ModuleType, stacks: dict[str, np.ndarray]) -> Callable[..., Result]:
    """Commands over a catalog with one dataset of the new type; ``recipe`` changes its recipe."""

    def run(*arguments: str, **recipe: object) -> Result:
        entry = {
            "type": "npy",
            "path": "raw",
            "labels": {"regex": r"(?P<label>[a-z]+)_\d+\.npy$"},
            "classes": list(CLASSES),
            "recipe": {"shape": list(SHAPE), **recipe},
            "store": "toy.zarr",
            "split": {"file": "toy.json"},
        }
        catalog = tmp_path / "data_catalog.yaml"
        catalog.write_text(yaml.safe_dump({"version": 1, "datasets": {"toy": entry}}), "utf-8")
        return CliRunner().invoke(main, [*arguments, "--catalog", str(catalog)])

    return run


def test_the_example_goes_from_the_catalog_to_a_verified_store(
    viptt: Callable[..., Result], tmp_path: Path, stacks: dict[str, np.ndarray]
) -> None:
    checked = viptt("check", "--json")
    assert checked.exit_code == 0, checked.stderr
    assert json.loads(checked.stdout)["datasets"][0]["kinds"] == {"uint8": 4}
    assert viptt("build", "--scheduler", "sync").exit_code == 0
    assert viptt("verify").exit_code == 0
    store = open_store(tmp_path / "toy.zarr")
    assert [row.id for row in store.rows] == sorted(stacks)
    for index, row in enumerate(store.rows):
        array = stacks[row.id].astype(np.float64) / 255
        factors = np.divide(SHAPE, array.shape)
        expected = np.clip(scipy.ndimage.zoom(array, factors, order=3, mode="nearest"), 0, 1)
        np.testing.assert_allclose(store.read(index), expected, atol=HALF_STEP + 1e-5)


def test_a_bad_file_of_the_example_costs_only_itself(viptt: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "raw/dark_9.npy").write_bytes(b"not an array")
    np.save(tmp_path / "raw/light_9.npy", np.zeros((4, 4)))
    built = viptt("build", "--scheduler", "sync")
    assert built.exit_code == 3
    listed = (tmp_path / "toy.quarantine.csv").read_text("utf-8").splitlines()[1:]
    reasons = dict(line.split(",")[:2] for line in listed)
    assert reasons == {"dark_9.npy": "bad-header", "light_9.npy": "not-3d"}
    assert len(open_store(tmp_path / "toy.zarr").rows) == 4


def test_the_recipe_of_the_example_belongs_to_the_catalog(
    viptt: Callable[..., Result], tmp_path: Path
) -> None:
    assert viptt("build", "--scheduler", "sync").exit_code == 0
    plain = open_store(tmp_path / "toy.zarr").read(0)
    assert viptt("build", "--scheduler", "sync", invert=True).exit_code == 0
    inverted = open_store(tmp_path / "toy.zarr")
    assert inverted.header.recipe["invert"] is True
    np.testing.assert_allclose(inverted.read(0), 1 - plain, atol=2 * HALF_STEP)
    refused = viptt("check", invret=True)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "did you mean `invert`?" in refused.stderr


def test_a_raised_converter_number_converts_again(
    viptt: Callable[..., Result], npy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert viptt("build", "--scheduler", "sync").exit_code == 0
    assert "0 to convert, 4 to keep" in viptt("build", "--dry-run").stdout
    monkeypatch.setitem(SOURCE_TYPES, "npy", replace(npy.SOURCE, converter=2))
    assert "4 to convert (4 another converter), 0 to keep" in viptt("build", "--dry-run").stdout
