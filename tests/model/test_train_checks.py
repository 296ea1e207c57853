"""What `viptt train`, `features` and `evaluate` check before the work, and what they show meanwhile."""

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result
from test_architectures import toy

from cli import main
from model.architectures import NETWORKS, Architecture
from model.settings import Settings
from model.training import train
from pipeline.store import Store, open_store, write_store

SMALL = ("--model", "viptt-net-small", "--weights", "none")
TOY = ("--model", "toy", "--epochs", "1")
ERROR_LINES = r"([^\n]+: [a-z0-9-]+: [^\n]+ → [^\n]+\n)+"


@pytest.fixture(autouse=True)
def toy_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """For trainings of which only the surroundings matter."""
    monkeypatch.setitem(NETWORKS, "toy", Architecture(toy))


def viptt(catalog: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--catalog", str(catalog)])


def refused(result: Result, code: str) -> None:
    """Exit 4 for one reason, a line for each place."""
    assert (result.exit_code, result.stdout) == (4, ""), result.stderr
    assert re.fullmatch(ERROR_LINES, result.stderr), result.stderr
    assert {line.split(": ")[1] for line in result.stderr.splitlines()} == {code}


def with_rows(store: Store, path: Path, **columns: list[str]) -> Store:
    """A copy of a store with other columns in its table."""
    rows = [
        replace(row, **{name: values[index] for name, values in columns.items()})
        for index, row in enumerate(store.rows)
    ]
    write_store(path, store.header, rows, [store.chunk_at(index) for index in range(len(rows))])
    return open_store(path)


# --- splits that leak ---------------------------------------------------------------------------


def test_a_split_of_a_patient_is_refused_and_nothing_is_made(
    make_store: Callable, make_split: Callable, make_catalog: Callable, tmp_path: Path
) -> None:
    groups = [f"P{index // 2}" for index in range(12)]  # S002 validates, S003 trains, both P1
    store = with_rows(make_store(), tmp_path / "grouped.zarr", group=groups)
    catalog = make_catalog(ct=(store, make_split(store)))
    refused(viptt(catalog, "train", "ct", *TOY, "--run", tmp_path / "run"), "group-leak")
    assert not (tmp_path / "run").exists()


def test_the_same_bytes_on_both_sides_are_refused(
    make_store: Callable, make_split: Callable, make_catalog: Callable, tmp_path: Path
) -> None:
    hashes = ["f" * 64, *(f"{index:064}" for index in range(1, 11)), "f" * 64]
    store = with_rows(make_store(), tmp_path / "twins.zarr", source_sha256=hashes)
    catalog = make_catalog(ct=(store, make_split(store)))
    refused(viptt(catalog, "train", "ct", *TOY, "--run", tmp_path / "run"), "content-leak")


def test_samples_in_no_split_are_refused(
    make_store: Callable, make_split: Callable, make_catalog: Callable, tmp_path: Path
) -> None:
    store = make_store()
    ids = [row.id for row in store.rows]
    split = make_split(store, parts={"train": ids[3:11], "val": ids[:3]})
    refused(
        viptt(make_catalog(ct=(store, split)), "train", "ct", *TOY, "--run", tmp_path / "run"), "in-no-part"
    )


def test_where_the_catalog_leaves_groups_out_it_is_a_warning(
    make_store: Callable, make_split: Callable, make_catalog: Callable, tmp_path: Path
) -> None:
    store = with_rows(make_store(per_class=2), tmp_path / "grouped.zarr", group=["P"] * 6)
    catalog = make_catalog(ct=(store, make_split(store)))
    document = json.loads(catalog.read_text())
    document["datasets"]["ct"]["split"]["group"] = "none"
    catalog.write_text(json.dumps(document))
    result = viptt(catalog, "train", "ct", *TOY, "--run", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert "warning: " in result.stderr
    assert "group-leak" in result.stderr


# --- stale stores -------------------------------------------------------------------------------


@pytest.fixture
def stale(make_store: Callable, make_split: Callable, make_catalog: Callable) -> Path:
    """A catalog that asks for another window than its store was built with."""
    store = make_store(per_class=2)
    catalog: Path = make_catalog(ct=(store, make_split(store)))
    document = json.loads(catalog.read_text())
    document["datasets"]["ct"]["recipe"]["window"] = [-900, 300]
    catalog.write_text(json.dumps(document))
    return catalog


@pytest.mark.slow
def test_training_on_a_stale_store_needs_stale_ok(stale: Path, tmp_path: Path) -> None:
    call = ("train", "ct", *TOY, "--run", tmp_path / "run")
    refused(viptt(stale, *call), "stale-store")
    result = viptt(stale, *call, "--stale-ok")
    assert result.exit_code == 0, result.stderr
    assert "another store: recipe: window is [-900.0, 300.0], the store was built with" in result.stderr
    refused(viptt(stale, "evaluate", tmp_path / "run", "ct"), "stale-store")
    assert viptt(stale, "evaluate", tmp_path / "run", "ct", "--stale-ok").exit_code == 0
    assert viptt(stale, "evaluate", tmp_path / "run").exit_code == 0  # the run's own store


def test_features_of_a_stale_store_need_stale_ok(stale: Path) -> None:
    refused(viptt(stale, "features", "ct", *SMALL), "stale-store")
    assert viptt(stale, "features", "ct", *SMALL, "--stale-ok").exit_code == 0


def test_other_classes_are_stale_too(stale: Path, tmp_path: Path) -> None:
    document = json.loads(stale.read_text())
    document["datasets"]["ct"]["recipe"]["window"] = [-1000, 400]
    document["datasets"]["ct"]["classes"].reverse()
    stale.write_text(json.dumps(document))
    refused(viptt(stale, "train", "ct", *TOY, "--run", tmp_path / "run"), "stale-store")


# --- bad files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
def test_a_weights_file_without_data_is_refused_in_a_line(
    make_store: Callable, make_split: Callable, make_catalog: Callable, tmp_path: Path, legacy: bool
) -> None:
    """HDF5 calls it a null dataspace: an array that has a type and no shape."""
    store = make_store()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "model_weights/head/kernel" if legacy else "layers/head/vars/0", data=h5py.Empty("f4")
        )
    call = ("train", "ct", *SMALL, "--strategy", "pt", "--init", tmp_path / "a.h5", "--run", tmp_path / "run")
    refused(viptt(make_catalog(ct=(store, make_split(store))), *call), "weights-unreadable")


# --- what is shown ------------------------------------------------------------------------------


def test_the_steps_of_each_epoch_are_reported(finished: Any, tmp_path: Path) -> None:
    bars: list[tuple[str, int, list[int]]] = []

    @contextmanager
    def bar(name: str, steps: int) -> Iterator[Callable[[int], None]]:
        bars.append((name, steps, []))
        yield bars[-1][2].append

    settings = Settings(model="toy", epochs=1)
    train(finished.store.path, finished.split, tmp_path / "run", settings, bar=bar)
    nbytes = 4 * 32 * 32 * 2
    assert bars == [("epoch 1", 5, [2 * nbytes] * 4 + [nbytes])]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(
    make_catalog: Callable, finished: Any, tmp_path: Path, terminal: bool
) -> None:
    catalog = make_catalog(ct=(finished.store, finished.split))
    call = ["train", "ct", *TOY, "--run", str(tmp_path / "run"), "--catalog", str(catalog)]
    with redirect_stderr(Terminal() if terminal else io.StringIO()) as told, redirect_stdout(io.StringIO()):
        assert main.main(call, standalone_mode=False) == 0
    assert ("5/5" in told.getvalue()) is terminal
    assert re.search(r"^training on .*: 9 training and 3 validation samples", told.getvalue(), re.MULTILINE)
    assert "\nepoch 1/1: loss" in told.getvalue()


@pytest.mark.slow
def test_quiet_prints_no_tables(finished: Any, tmp_path: Path) -> None:
    run = str(shutil.copytree(finished.run, tmp_path / "run"))
    for command in ("evaluate", "compare"):
        assert CliRunner().invoke(main, [command, run]).stdout
        result = CliRunner().invoke(main, [command, run, "-q"])
        assert (result.exit_code, result.output) == (0, "")
        document = CliRunner().invoke(main, [command, run, "-q", "--json"]).stdout
        assert json.loads(document)
