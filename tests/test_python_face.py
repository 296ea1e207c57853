"""What people import: the packages' public names, their examples, and what importing them costs."""

import doctest
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import model
import pipeline
from cli import main
from pipeline.siz import zoom
from pipeline.store import open_store

PACKAGES = (pipeline, model)


def public(package: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public functions of a package; of a public module, the function of its name."""
    for name in package.__all__:
        value = getattr(package, name)
        yield name, getattr(value, name) if inspect.ismodule(value) else value


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ct_dataset: Callable[..., Path]) -> Path:
    """Where the examples run: with a store, its split and its catalog."""
    folder: Path = tmp_path_factory.mktemp("examples")
    catalog = ct_dataset(folder, scans=6)
    for command in (("build", "--scheduler", "sync"), ("split",)):
        assert CliRunner().invoke(main, [*command, "--catalog", str(catalog)]).exit_code == 0
    return folder


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_every_public_name_has_an_example_that_is_true(package, folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    for name, function in public(package):
        home = inspect.getmodule(function)
        (found,) = doctest.DocTestFinder(recurse=False).find(function, name, module=home)
        assert found.examples, name
        assert doctest.DocTestRunner().run(found).failed == 0, name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_example_of_the_package_is_true(package) -> None:
    results = doctest.testmod(package)
    assert (results.failed, results.attempted > 1) == (0, True)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_listed_and_others_are_refused(package) -> None:
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'zoomed'"):
        package.zoomed  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_importing_a_package_imports_no_library(package) -> None:
    # sys.stdlib_module_names knows what comes with Python.
    code = f"import sys; old = set(sys.modules); import {package.__name__}; print(*(set(sys.modules) - old))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {name.split(".")[0] for name in result.stdout.split()}
    assert imported - sys.stdlib_module_names == {package.__name__}


def test_no_public_name_of_the_pipeline_brings_the_framework() -> None:
    code = "import sys; from pipeline import *; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- arrays and stores --------------------------------------------------------------------------


def test_zoom_takes_what_numpy_makes_an_array_of(folder) -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            return np.arange(8.0).reshape(2, 2, 2)

    expected = zoom(np.arange(8.0).reshape(2, 2, 2), (3, 3, 3))
    for given in ([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], Tensor(), memoryview(np.asarray(Tensor()))):
        np.testing.assert_array_equal(zoom(given, (3, 3, 3)), expected)
    with pytest.raises(ValueError, match="real numbers"):
        zoom([[["a"]]], (3, 3, 3))


def test_a_store_is_shown_in_one_line(folder) -> None:
    text = repr(open_store(folder / "cache/ct.zarr"))
    assert "\n" not in text
    assert len(text) < 80 + len(str(folder))


# --- plain fit ----------------------------------------------------------------------------------


def test_epochs_follow_each_other_each_in_its_own_order(folder) -> None:
    data = {"batch_size": 2, "seed": 3}
    place = (folder / "cache/ct.zarr", folder / "splits/ct.json", "train")
    several = [labels_and_volumes(batch) for batch in model.stream.stream(*place, **data, epoch=1, epochs=3)]
    single = [
        labels_and_volumes(batch)
        for epoch in (1, 2, 3)
        for batch in model.stream.stream(*place, **data, epoch=epoch)
    ]
    assert several == single
    per_epoch = len(single) // 3
    assert len({tuple(single[first : first + per_epoch]) for first in (0, per_epoch, 2 * per_epoch)}) > 1
    with pytest.raises(ValueError, match="at least one epoch"):
        model.stream.stream(*place, **data, epochs=0)


def labels_and_volumes(batch: Any) -> tuple[bytes, ...]:
    return tuple(part.numpy().tobytes() for part in batch)


def test_a_plain_fit_sees_every_epoch_once(folder) -> None:
    import keras

    place = (folder / "cache/ct.zarr", folder / "splits/ct.json", "train")
    data = model.stream.stream(*place, batch_size=2, seed=0, epochs=4)
    network = keras.Sequential([keras.Input((5, 16, 16, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network.compile("sgd", "mse")
    history = network.fit(data, epochs=4, steps_per_epoch=len(data) // 4, shuffle=False, verbose=0)
    assert len(history.history["loss"]) == 4
    assert int(network.optimizer.iterations) == len(data)
