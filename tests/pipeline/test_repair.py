"""`verify --repair` gives the store back as it was published, whatever the catalog says by now."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from faults import tree

from cli import main
from pipeline.build import Options, build, make_plan
from pipeline.build.repair import repair
from pipeline.catalog import load_catalog
from pipeline.errors import IntegrityError
from pipeline.store import open_store
from pipeline.store.verify import verify

SYNC = Options(scheduler="sync")


def dataset_of(catalog: Path):
    (dataset,) = load_catalog(catalog).datasets.values()
    return dataset


def run(catalog: Path, **options: object):
    chosen = replace(SYNC, **options)
    return build(make_plan(dataset_of(catalog), chosen), chosen)


@pytest.fixture
def ct(tmp_path, ct_dataset) -> Path:
    return ct_dataset(tmp_path, scans=6)


@pytest.fixture
def store(ct) -> Path:
    return dataset_of(ct).store


def viptt(catalog: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--catalog", str(catalog)])


def damage_volumes(store: Path, *indices: int) -> None:
    for index in indices:
        chunk = open_store(store).chunk(index)
        chunk.write_bytes(bytes(chunk.stat().st_size))


def repairs(ct: Path, before: dict[str, str], *, converted: int) -> None:
    """Repaired to the same bytes, by so many conversions, and nothing is left beside the store."""
    store = dataset_of(ct).store
    assert repair(dataset_of(ct), SYNC).converted == converted
    assert tree(store) == before
    assert verify(store).damaged == ()
    assert not store.with_name("ct.zarr.building").exists()


def refuses(ct: Path, *words: str) -> None:
    """Not repaired, and said why; the damaged store is left as it is."""
    store = dataset_of(ct).store
    before = tree(store)
    with pytest.raises(IntegrityError) as caught:
        repair(dataset_of(ct), SYNC)
    assert [word for word in words if word not in str(caught.value)] == []
    assert tree(store) == before


def test_only_damaged_volumes_are_made_again(ct, store):
    run(ct)
    before = tree(store)
    damage_volumes(store, 1, 4)
    repairs(ct, before, converted=2)


def test_a_store_of_some_samples_stays_one_of_some(ct, store):
    run(ct, limit=3)
    before = tree(store)
    damage_volumes(store, 1)
    repairs(ct, before, converted=1)


def test_a_store_without_the_unlabelled_is_repaired(ct, store, write_nifti):
    write_nifti(ct.parent / "ct/unlabelled.nii.gz", np.zeros((4, 5, 6)), dtype="int16")
    run(ct, allow_missing=True)
    before = tree(store)
    damage_volumes(store, 5)
    repairs(ct, before, converted=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda ct: ct.write_text(ct.read_text().replace("- 400", "- 300")),
        lambda ct: (ct.parent / "ct/labels.csv").write_text(
            (ct.parent / "ct/labels.csv").read_text().replace("TRN_0001.nii.gz,2", "TRN_0001.nii.gz,1")
        ),
    ],
    ids=["recipe", "label"],
)
def test_the_store_is_followed_and_not_the_catalog(ct, store, change):
    run(ct)
    before = tree(store)
    change(ct)
    damage_volumes(store, 1)
    repairs(ct, before, converted=1)


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [remove, empty, flip])
@pytest.mark.parametrize("name", ["zarr.json", "id/viptt.json", "volume/zarr.json", "crc32c/c/0"])
def test_what_can_be_written_again_needs_no_source(ct, store, name, damage):
    run(ct, limit=3)
    before = tree(store)
    damage(store / name)
    shutil.rmtree(ct.parent / "ct")
    (ct.parent / "ct").mkdir()
    repairs(ct, before, converted=0)


@pytest.mark.parametrize("name", ["id/c/0", "label/c/0", "source/zarr.json", "facts/c/0", "sha256/c/0"])
def test_a_damaged_table_is_made_again_of_the_same_samples(ct, store, name):
    run(ct, limit=3)
    before = tree(store)
    flip(store / name)
    repairs(ct, before, converted=3)


def test_root_table_and_volumes_at_once(ct, store):
    run(ct)
    before = tree(store)
    damage_volumes(store, 0)
    flip(store / "zarr.json")
    repairs(ct, before, converted=1)
    flip(store / "zarr.json")
    flip(store / "label/c/0")
    repairs(ct, before, converted=6)


def test_a_volume_behind_a_link_is_brought_in(ct, store, tmp_path):
    run(ct)
    before = tree(store)
    chunk = open_store(store).chunk(2)
    shutil.move(chunk, tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    repairs(ct, before, converted=1)
    assert not chunk.is_symlink()


# --- what cannot be repaired --------------------------------------------------------------------


def source_of(ct: Path, number: int) -> Path:
    return ct.parent / f"ct/TRN_000{number}.nii.gz"


def test_a_source_that_has_changed_is_named(ct, store):
    run(ct)
    damage_volumes(store, 1)
    shutil.copy(source_of(ct, 0), source_of(ct, 1))
    refuses(ct, "source-changed", str(source_of(ct, 1)), "sample TRN_0001")


def test_a_source_that_is_gone_is_named(ct, store):
    run(ct)
    damage_volumes(store, 1, 2)
    source_of(ct, 1).unlink()
    refuses(ct, "source-lost", str(source_of(ct, 1)), "sample TRN_0001")


def test_sources_of_intact_volumes_do_not_matter(ct, store):
    run(ct)
    before = tree(store)
    damage_volumes(store, 1)
    shutil.copy(source_of(ct, 0), source_of(ct, 3))
    source_of(ct, 2).unlink()
    repairs(ct, before, converted=1)


def test_without_root_and_copy_only_a_build_helps(ct, store):
    run(ct)
    before = tree(store)
    for name in ("zarr.json", "id/viptt.json"):
        flip(store / name)
    refuses(ct, "beyond-repair", "viptt build")
    assert run(ct).published
    assert tree(store) == before


def test_a_table_that_cannot_be_made_again_is_not_replaced_by_another(ct, store):
    run(ct)
    flip(store / "label/c/0")
    labels = ct.parent / "ct/labels.csv"
    labels.write_text(labels.read_text().replace("TRN_0001.nii.gz,2", "TRN_0001.nii.gz,1"))
    refuses(ct, "beyond-repair", "labels")


def test_what_a_stopped_build_has_done_is_kept(ct, store):
    run(ct)
    before = tree(store)
    ct.write_text(ct.read_text().replace("- 400", "- 300"))

    class StopError(Exception):
        pass

    def stop(result: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        build(make_plan(dataset_of(ct), SYNC), SYNC, report=stop)
    damage_volumes(store, 5)
    assert repair(dataset_of(ct), SYNC).converted == 1
    assert tree(store) == before
    assert run(ct).reused == 1


@pytest.mark.parametrize("damage", [remove, empty, flip])
def test_a_damaged_root_is_told_and_repaired_by_the_commands(ct, store, damage: Callable[[Path], None]):
    run(ct)
    before = tree(store)
    damage(store / "zarr.json")
    status = viptt(ct, "status")
    assert (status.exit_code, "ct: damaged" in status.stdout) == (4, True)
    assert viptt(ct, "verify").exit_code == 4
    result = viptt(ct, "verify", "--repair")
    assert (result.exit_code, tree(store)) == (0, before)
    assert "0 volumes made again, 6 kept" in result.stderr
    assert viptt(ct, "status").exit_code == 0
