"""Features keep a store's promises: whole or absent, bound to their volumes, resumed to the same bytes."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import xarray
from faults import KILLED, STRUCK, UNSTRUCK, tree

from pipeline.build.features import Derived, derive
from pipeline.build.staging import open_staging
from pipeline.errors import BusyError, ConfigError, IntegrityError
from pipeline.store import Chunk, Header, Row, Store, features_of, open_store, write_chunk, write_store
from pipeline.store.verify import verify

SHAPE = (3, 4, 5)
RECIPE = {"shape": [3, 5], "dtype": "float32", "network": "means"}
RUNNER = Path(__file__).with_name("features_faults.py")
SHA256 = "9" * 64


def volume(number: int) -> np.ndarray:
    return np.random.default_rng(number).random(SHAPE).astype(np.float16)


def write_volumes(
    folder: Path, numbers: list[int], *, labels: Mapping[int, int] | None = None, name: str = "toy.zarr"
) -> Store:
    """A store whose sample s07 is ``volume(7)``; one that is there already is replaced."""
    rows, chunks = [], []
    for number in numbers:
        chunks.append(folder / f"{number}.chunk")
        sha256 = write_chunk(chunks[-1], volume(number))
        label = (labels or {}).get(number, number % 2)
        rows.append(Row(f"s{number:02d}", label, f"p{number}", f"{number}.nii", SHA256, sha256, "{}"))
    shutil.rmtree(folder / name, ignore_errors=True)
    header = Header("toy", {"type": "nifti", "shape": list(SHAPE), "dtype": "float16"}, ("A", "B"), {})
    write_store(folder / name, header, rows, list(map(Chunk, chunks)))
    for chunk in chunks:
        chunk.unlink()
    return open_store(folder / name)


class Means:
    """Stands for a network: the mean of every column; counts the volumes that it met."""

    def __init__(self) -> None:
        self.met = 0

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        self.met += 1
        return volume.astype(np.float32).mean(axis=1)


def run(volumes: Store, compute: Callable | None = None, recipe: Mapping = RECIPE, **options) -> Derived:
    return derive(volumes, compute or Means(), recipe, created_with={"viptt": "0"}, **options)


@pytest.fixture
def volumes(tmp_path: Path) -> Store:
    return write_volumes(tmp_path, [0, 1, 2, 3, 4])


# --- what is in it ------------------------------------------------------------------------------


def test_other_programs_read_the_features_and_the_table(volumes):
    path = run(volumes).path
    assert path == volumes.path.with_name("toy.features.zarr")
    expected = np.stack([volume(number).astype(np.float32).mean(axis=1) for number in range(5)])
    with xarray.open_zarr(path, consolidated=False) as data:
        assert data["features"].dims == ("sample", "depth", "feature")
        np.testing.assert_array_equal(data["features"].values, expected)
        assert data["id"].values.tolist() == data["source"].values.tolist() == [f"s0{n}" for n in range(5)]
        assert data["label"].values.tolist() == [0, 1, 0, 1, 0]
        assert data["group"].values.tolist() == [f"p{n}" for n in range(5)]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "features")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), expected)


def test_it_names_the_store_and_each_volume_that_it_came_from(volumes):
    features = open_store(run(volumes).path)
    assert features.header.recipe == {"type": "features", **RECIPE, "store_digest": volumes.digest}
    for number, row in enumerate(features.rows):
        assert row.source_sha256 == hashlib.sha256(volume(number).tobytes()).hexdigest()
        expected = volume(number).astype(np.float32).mean(axis=1)
        assert row.sha256 == hashlib.sha256(expected.tobytes()).hexdigest()
        np.testing.assert_array_equal(features.read(number), expected)


def test_features_lie_beside_the_store_that_a_link_leads_to(volumes, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere/link.zarr"
    link.symlink_to(volumes.path)
    assert features_of(link) == tmp_path / "toy.features.zarr"


def test_each_volume_is_told(volumes):
    compute, told = Means(), []
    derived = run(volumes, compute, report=told.append)
    assert compute.met == 5
    assert told == [volume(0).nbytes] * 5
    assert (derived.samples, derived.computed, derived.reused, derived.published) == (5, 5, 0, True)


# --- what is made again -------------------------------------------------------------------------


def test_nothing_to_do_the_second_time(volumes):
    first, compute = run(volumes), Means()
    before, told = tree(first.path), []
    second = run(volumes, compute, report=told.append)
    assert (second.published, second.reused, second.digest) == (False, 5, first.digest)
    assert compute.met == 0
    assert told == [0] * 5
    assert tree(first.path) == before


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\1" * 64)])
def test_what_is_damaged_is_found_and_made_again(volumes, damage):
    path, compute = run(volumes).path, Means()
    before = tree(path)
    damage(path / "features/c.2.0.0")
    (problem,) = verify(path).damaged
    assert "sample s02" in problem.where
    assert "viptt features" in problem.remedy
    derived = run(volumes, compute)
    assert (derived.computed, derived.reused, compute.met) == (1, 4, 1)
    assert tree(path) == before
    assert verify(path).damaged == ()


def test_a_damaged_table_is_said_and_all_is_made_again(volumes):
    path = run(volumes).path
    before = tree(path)
    (path / "sha256/c/0").write_bytes(b"")
    derived = run(volumes)
    assert [problem.code for problem in derived.warnings] == ["metadata-damaged"]
    assert (derived.computed, tree(path)) == (5, before)


def test_one_volume_more_costs_one_computation(volumes, tmp_path):
    first, compute = run(volumes), Means()
    more = write_volumes(tmp_path, [0, 1, 2, 3, 4, 5])
    derived = run(more, compute)
    assert (derived.computed, derived.reused, derived.published) == (1, 5, True)
    assert derived.digest != first.digest
    shutil.rmtree(derived.path)
    assert run(more).digest == derived.digest


def test_another_label_costs_none_but_is_published(volumes, tmp_path):
    run(volumes)
    derived = run(write_volumes(tmp_path, [0, 1, 2, 3, 4], labels={3: 0}))
    assert (derived.computed, derived.published) == (0, True)
    assert [row.label for row in open_store(derived.path).rows] == [0, 1, 0, 0, 0]


def test_another_volume_under_the_same_id_is_computed(volumes, tmp_path):
    run(volumes)
    rows = [Row(**{**vars(row), "id": f"s{4 - index:02d}"}) for index, row in enumerate(volumes.rows)]
    chunks = [volumes.chunk(index) for index in range(5)]
    write_store(tmp_path / "new", volumes.header, rows[::-1], list(map(Chunk, chunks[::-1])))
    shutil.rmtree(volumes.path)
    (tmp_path / "new").rename(volumes.path)
    assert run(open_store(volumes.path)).computed == 4  # s02 is what it was


def test_another_network_computes_all(volumes):
    first = run(volumes)
    derived = run(volumes, recipe={**RECIPE, "network": "other"})
    assert (derived.computed, derived.digest == first.digest) == (5, False)


# --- what is refused ----------------------------------------------------------------------------


def test_a_damaged_volume_ends_it_and_the_work_is_kept(volumes):
    chunk = volumes.chunk(3)
    good = chunk.read_bytes()
    chunk.write_bytes(b"\0" * len(good))
    with pytest.raises(IntegrityError, match=r"sample s03\): chunk-checksum"):
        run(volumes)
    assert not features_of(volumes.path).exists()
    chunk.write_bytes(good)
    derived = run(volumes)
    assert (derived.computed, derived.reused) == (2, 3)


def test_features_that_are_not_finite_are_refused(volumes):
    with pytest.raises(IntegrityError, match=r"sample s00\): non-finite"):
        run(volumes, lambda volume: np.full((3, 5), np.nan, np.float32))
    assert not features_of(volumes.path).exists()


def test_features_of_another_shape_are_a_mistake_of_the_program(volumes):
    with pytest.raises(ValueError, match="shape"):
        run(volumes, lambda volume: np.zeros((5, 3), np.float32))


def test_only_one_at_a_time(volumes):
    with open_staging(features_of(volumes.path)), pytest.raises(BusyError):
        run(volumes)


def test_a_store_of_volumes_is_not_replaced(volumes, tmp_path):
    other = write_volumes(tmp_path, [7], name="toy.features.zarr")
    with pytest.raises(ConfigError, match="not-ours"):
        run(volumes)
    assert open_store(other.path).digest == other.digest


# --- kills and faults ---------------------------------------------------------------------------


def strike(store: Path, fault: str, first: int, step: int) -> None:
    command = [sys.executable, str(RUNNER), str(store), fault, str(first), str(step)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    results = [json.loads(line) for line in process.stdout.splitlines()]
    assert results[-1]["operation"] > 40  # features of three samples take more operations than that
    assert [result["code"] for result in results[:-1]] == [KILLED if fault == "kill" else STRUCK] * (
        len(results) - 1
    )
    assert results[-1]["code"] == UNSTRUCK
    for result in results:
        assert (result["readable"], result["resumed"], result["same"]) == (True, True, True), result
        assert result["left"] == [], result


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "ENOSPC"])
def test_fault_at_some_file_operations(tmp_path, fault, seed):
    strike(write_volumes(tmp_path, [0, 1, 2]).path, fault, random.Random(seed).randint(1, 19), 19)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["kill", *(pytest.param(name, marks=pytest.mark.chaos) for name in ("ENOSPC", "EIO", "EACCES"))]
)
def test_fault_at_every_file_operation(tmp_path, fault):
    strike(write_volumes(tmp_path, [0, 1, 2]).path, fault, 1, 1)
