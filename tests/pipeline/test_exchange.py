"""The moment of publishing: what appears in the store's place meanwhile is never lost, and is told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import tree

from pipeline.build import Options, build, make_plan
from pipeline.build.features import derive
from pipeline.catalog import load_catalog
from pipeline.errors import IntegrityError
from pipeline.store import features_of, open_store, publish
from pipeline.store.verify import verify

SYNC = Options(scheduler="sync")
WORK = "years of work"


def dataset_of(catalog: Path):
    (dataset,) = load_catalog(catalog).datasets.values()
    return dataset


def run(catalog: Path):
    return build(make_plan(dataset_of(catalog), SYNC), SYNC)


@pytest.fixture
def ct(tmp_path, ct_dataset) -> Path:
    return ct_dataset(tmp_path, scans=3)


@pytest.fixture
def store(ct) -> Path:
    return dataset_of(ct).store


def change_a_label(ct: Path) -> None:
    labels = ct.parent / "ct/labels.csv"
    labels.write_text(labels.read_text().replace("TRN_0000.nii.gz,1", "TRN_0000.nii.gz,2"))


def write_thesis(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WORK)
    return path


@pytest.fixture
def before_exchange(monkeypatch) -> Callable[[Callable[[], object]], None]:
    """``before_exchange(act)``: act when the new store is laid out, and nothing is exchanged yet."""

    def arrange(act: Callable[[], object]) -> None:
        write = publish.write_store

        def write_then_act(*args):
            digest = write(*args)
            monkeypatch.setattr(publish, "write_store", write)
            act()
            return digest

        monkeypatch.setattr(publish, "write_store", write_then_act)

    return arrange


@pytest.fixture
def at_rename(monkeypatch) -> Callable[..., None]:
    """``at_rename(old, act)``: act at the last moment before a folder of this name is renamed."""

    def arrange(name: str, act: Callable[[], object]) -> None:
        rename, left = os.rename, [act]

        def act_then_rename(source, target, **options):
            if left and Path(source).name == name:
                left.pop()()
            rename(source, target, **options)

        monkeypatch.setattr(os, "rename", act_then_rename)

    return arrange


def refused(ct: Path, *words: str) -> None:
    with pytest.raises(IntegrityError, match="not-ours") as caught:
        run(ct)
    assert [word for word in words if word not in str(caught.value)] == []
    assert caught.value.exit_code == 4


def test_a_folder_that_appears_during_the_first_build_is_kept(ct, store, before_exchange):
    before_exchange(lambda: write_thesis(store / "thesis.docx"))
    refused(ct, str(store))
    assert tree(store).keys() == {"thesis.docx"}
    assert (store / "thesis.docx").read_text() == WORK
    (store / "thesis.docx").rename(ct.parent / "thesis.docx")
    assert run(ct).reused == 3  # nothing that was converted is lost either


@pytest.mark.parametrize("as_file", [False, True])
def test_what_appears_between_the_renames_is_kept(ct, store, at_rename, as_file):
    run(ct)
    before = tree(store)
    change_a_label(ct)
    thesis = store if as_file else store / "thesis.docx"
    at_rename("store", lambda: write_thesis(thesis))
    refused(ct, str(store))
    assert thesis.read_text() == WORK
    thesis.rename(ct.parent / "thesis.docx")
    if store.exists():
        store.rmdir()
    assert (run(ct).reused, open_store(store).rows[0].label) == (3, 1)
    assert tree(store).keys() == before.keys()


@pytest.mark.parametrize(
    "name", ["notes.txt", "volume/notes.txt", "volume/c.3.0.0.0", "id/c/1", "zarr.json~"]
)
def test_a_file_of_the_user_in_a_store_stops_the_exchange(ct, store, name):
    run(ct)
    write_thesis(store / name)
    before = tree(store)
    assert not run(ct).published  # nothing to do, so that nothing is in danger
    change_a_label(ct)
    refused(ct, str(store), name)
    assert tree(store) == before
    (store / name).unlink()
    assert run(ct).reused == 3


def test_a_file_that_appears_in_the_store_while_it_is_moved_stops_the_exchange(ct, store, at_rename):
    run(ct)
    before = tree(store)
    change_a_label(ct)
    at_rename(store.name, lambda: write_thesis(store / "notes.txt"))
    refused(ct, f"{store}:", "notes.txt")
    assert tree(store).keys() == {*before, "notes.txt"}
    assert {name: tree(store)[name] for name in before} == before


def test_a_file_of_the_user_in_a_damaged_store_stops_the_exchange(ct, store):
    run(ct)
    write_thesis(store / "notes.txt")
    for name in ("zarr.json", "id/viptt.json"):
        (store / name).unlink()
    refused(ct, "notes.txt")
    assert (store / "notes.txt").read_text() == WORK


def test_a_file_of_the_user_among_the_features_stops_their_exchange(ct, store):
    run(ct)
    features = features_of(store)
    recipe = {"shape": [5, 2], "dtype": "float16", "weights": "a"}
    derive(open_store(store), lambda volume: volume[:, :2, 0], recipe, created_with={})
    write_thesis(features / "features/notes.txt")
    before = tree(features)
    with pytest.raises(IntegrityError, match=r"not-ours.*features/notes\.txt"):
        derive(
            open_store(store), lambda volume: volume[:, :2, 1], {**recipe, "weights": "b"}, created_with={}
        )
    assert tree(features) == before


def test_a_file_that_appears_in_the_old_store_is_kept(ct, store, monkeypatch):
    """Somebody has the old store open: his file is named, and kept by the next build, too."""
    run(ct)
    change_a_label(ct)
    old = store.with_name("ct.zarr.building") / "old"
    sync = publish.sync_directory

    def write_then_sync(folder: Path) -> None:
        write_thesis(old / "notes.txt")
        sync(folder)

    monkeypatch.setattr(publish, "sync_directory", write_then_sync)
    refused(ct, str(old), "notes.txt")
    monkeypatch.undo()
    assert verify(store).damaged == ()
    refused(ct, str(old), "notes.txt")
    assert (old / "notes.txt").read_text() == WORK
    (old / "notes.txt").unlink()
    assert not run(ct).published


@pytest.mark.parametrize("name", ["thesis.docx", "chunks/thesis.docx", "journal/x.json", "mine/thesis.docx"])
def test_a_file_of_the_user_in_the_staging_folder_is_kept(ct, store, before_exchange, name):
    staging = store.with_name("ct.zarr.building")
    before_exchange(lambda: write_thesis(staging / name))
    assert run(ct).published
    assert dict.fromkeys([name], WORK) == {
        path: (staging / path).read_text() for path in tree(staging) if path != "viptt-staging.json"
    }
    change_a_label(ct)
    assert run(ct).published
    assert (staging / name).read_text() == WORK
