"""`verify` finds every damage, `status` says why a store is stale, a build repairs to the same bytes."""

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from faults import tree

from cli import main
from pipeline.build import Options, build, make_plan
from pipeline.catalog import load_catalog
from pipeline.errors import IntegrityError
from pipeline.status import status
from pipeline.store import open_store
from pipeline.store.verify import verify

SYNC = Options(scheduler="sync")


def dataset_of(catalog: Path):
    (dataset,) = load_catalog(catalog).datasets.values()
    return dataset


def run(catalog: Path):
    return build(make_plan(dataset_of(catalog), SYNC), SYNC)


@pytest.fixture
def ct(tmp_path, ct_dataset) -> Path:
    catalog = ct_dataset(tmp_path, scans=3)
    run(catalog)
    return catalog


@pytest.fixture
def store(ct) -> Path:
    return dataset_of(ct).store


# --- verify -------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_intact_store(store, quick, threads):
    found = verify(store, quick=quick, threads=threads)
    assert (found.samples, found.damaged, found.unexpected) == (3, (), ())
    assert found.nbytes == 3 * (5 * 16 * 16 * 2 + 4)


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_away(path: Path) -> None:
    """The right bytes, but through a link that leads out of the store."""
    outside = Path(tempfile.mkdtemp()) / "outside"
    shutil.move(path, outside)
    path.symlink_to(outside)


DAMAGES = [
    remove,
    flip,
    *(pytest.param(damage, marks=pytest.mark.slow) for damage in (cut, empty, extend, folder, link_away)),
]


def expected_state(name: str, damage: object) -> str:
    """`status` reads the table, but of the volumes the sizes only."""
    return "built" if name.startswith("volume/c.") and damage is flip else "damaged"


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_damage_of_every_file_is_found_and_repaired(ct, store, damage):
    before = tree(store)
    assert len(before) > 20
    for name in before:
        damage(store / name)
        assert verify(store).damaged, name
        if damage is not link_away:  # whose bytes are right: only `verify` looks for links
            assert status(dataset_of(ct), quick=True).state == expected_state(name, damage)
        run(ct)
        assert tree(store) == before, name


@pytest.mark.parametrize("damage", [remove, empty, flip, folder])
def test_a_damaged_root_costs_no_conversion(ct, store, damage):
    before = tree(store)
    damage(store / "zarr.json")
    summary = run(ct)
    assert (summary.converted, summary.reused, summary.published) == (0, 3, True)
    assert tree(store) == before


def test_swapped_chunks_are_found(store):
    opened = open_store(store)
    shutil.copyfile(opened.chunk(0), opened.chunk(1))
    (problem,) = verify(store).damaged
    assert problem.code == "chunk-swapped"
    assert "TRN_0001" in problem.where


def test_quick_finds_what_sizes_tell(store):
    opened = open_store(store)
    opened.chunk(0).unlink()
    cut(opened.chunk(2))
    assert [problem.code for problem in verify(store, quick=True).damaged] == ["missing-chunk", "chunk-size"]


def test_files_that_do_not_belong_are_listed(store):
    (store / "volume/.DS_Store").write_bytes(b"")
    (store / "notes.txt").write_text("mine")
    found = verify(store)
    assert found.damaged == ()
    assert found.unexpected == ("notes.txt", "volume/.DS_Store")


def test_nothing_to_verify(tmp_path):
    with pytest.raises(IntegrityError, match="not-built"):
        verify(tmp_path / "nothing.zarr")


# --- status -------------------------------------------------------------------------------------


def test_missing_then_built(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=3)
    assert status(dataset_of(catalog)).state == "missing"
    run(catalog)
    found = status(dataset_of(catalog))
    assert (found.state, found.samples, found.reasons, found.unfinished) == ("built", 3, (), 0)


def test_stale_says_exactly_why(ct, ct_dataset, tmp_path_factory):
    folder, labels = ct.parent / "ct", ct.parent / "ct/labels.csv"
    shutil.copy(folder / "TRN_0000.nii.gz", folder / "TRN_0009.nii.gz")
    (folder / "TRN_0002.nii.gz").unlink()
    labels.write_text("FileName,TypeOfTB,PatientID\nTRN_0000,2,P000\nTRN_0001,2,OTHER\nTRN_0009,1,P9\n")
    changed = ct_dataset(tmp_path_factory.mktemp("other"), scans=3, seed=7)
    shutil.copy(changed.parent / "ct/TRN_0001.nii.gz", folder / "TRN_0001.nii.gz")
    dataset = dataset_of(ct)
    recipe = dataset.recipe.model_copy(update={"spline_order": 1})
    found = status(dataset.model_copy(update={"recipe": recipe}))
    assert found.state == "stale"
    assert set(found.reasons) == {
        "recipe: spline_order is 1, the store was built with 3",
        "added: TRN_0009.nii.gz",
        "removed: TRN_0002.nii.gz",
        "another label: TRN_0000.nii.gz",
        "another group: TRN_0001.nii.gz",
        "other content: TRN_0001.nii.gz",
    }


def test_quick_status_does_not_compare_contents(ct, ct_dataset, tmp_path_factory):
    changed = ct_dataset(tmp_path_factory.mktemp("other"), scans=3, seed=7)
    shutil.copy(changed.parent / "ct/TRN_0001.nii.gz", ct.parent / "ct/TRN_0001.nii.gz")
    assert status(dataset_of(ct), quick=True).state == "built"
    assert status(dataset_of(ct)).state == "stale"


def test_damaged_table_is_a_state(ct, store):
    flip(store / "label/c/0")
    found = status(dataset_of(ct))
    assert found.state == "damaged"
    assert "label" in found.reasons[0]


@pytest.mark.parametrize("damage", [remove, cut, extend, empty])
def test_a_volume_that_is_missing_or_of_another_size_is_a_state(ct, store, damage):
    damage(open_store(store).chunk(1))
    found = status(dataset_of(ct), quick=True)
    assert found.state == "damaged"
    assert "TRN_0001" in found.reasons[0]


def test_whichever_bit_of_the_root_is_flipped_the_state_is_damaged(ct, store, seed):
    good = (store / "zarr.json").read_bytes()
    for bit in random.Random(seed).sample(range(8 * len(good)), 200):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        (store / "zarr.json").write_bytes(damaged)
        assert status(dataset_of(ct), quick=True).state == "damaged", bit
    (store / "zarr.json").write_bytes(good)
    assert status(dataset_of(ct)).state == "built"


def test_quarantined_sources_are_not_stale(ct):
    (ct.parent / "ct/TRN_0001.nii.gz").write_bytes(b"no volume at all")
    run(ct)
    found = status(dataset_of(ct))
    assert (found.state, found.samples, found.quarantined) == ("built", 2, 1)


def test_a_new_file_without_a_label_makes_it_stale(ct):
    folder = ct.parent / "ct"
    shutil.copy(folder / "TRN_0000.nii.gz", folder / "unlabelled.nii.gz")
    found = status(dataset_of(ct))
    assert (found.state, found.exit_code) == ("stale", 3)
    assert found.reasons == ("a file without a label, or a label without a file: unlabelled.nii.gz",)
    allowing = replace(SYNC, allow_missing=True)
    build(make_plan(dataset_of(ct), allowing), allowing)
    assert status(dataset_of(ct)).state == "built"  # it is in the quarantine now


def test_the_exit_code_tells_whether_all_is_built(ct, store):
    def ends_with() -> int:
        return CliRunner().invoke(main, ["status", "--catalog", str(ct)]).exit_code

    assert ends_with() == 0
    labels = ct.parent / "ct/labels.csv"
    good = labels.read_text()
    labels.write_text(good.replace("TRN_0000.nii.gz,1", "TRN_0000.nii.gz,2"))
    assert ends_with() == 3
    labels.write_text(good)
    open_store(store).chunk(0).unlink()
    assert ends_with() == 4
    shutil.rmtree(store)
    assert ends_with() == 3


def test_unfinished_build_is_counted(ct):
    dataset = dataset_of(ct)
    shutil.rmtree(dataset.store)
    plan = make_plan(dataset, SYNC)

    class Stop(Exception):
        pass

    def stop(result: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        build(plan, replace(SYNC, limit=None), report=stop)
    assert status(dataset).unfinished == 1
    recipe = dataset.recipe.model_copy(update={"spline_order": 1})
    assert status(dataset.model_copy(update={"recipe": recipe})).unfinished == 0  # it would start anew
