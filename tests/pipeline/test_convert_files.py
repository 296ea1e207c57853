"""Files in no catalog: which ones, by which names, and that they become what a build would store."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.build import Options, build, make_plan
from pipeline.build.convert_files import Arrival, convert_incoming, list_incoming
from pipeline.catalog import load_catalog
from pipeline.errors import ConfigError, ResourceError
from pipeline.readers import recipe_from
from pipeline.recipe import CtRecipe, VideoRecipe
from pipeline.sources import Quarantined
from pipeline.store import open_store

SYNC = Options(scheduler="sync")


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def built(catalog: Path):
    (dataset,) = load_catalog(catalog).datasets.values()
    build(make_plan(dataset, SYNC), SYNC)
    return dataset, open_store(dataset.store)


# --- which files --------------------------------------------------------------------------------


def test_a_folder_stands_for_the_sources_below_it(tmp_path, monkeypatch):
    for name in ("b.nii.gz", "a.NII", "sub/c.nii", "sub/.hidden.nii", "notes.txt", "clip.avi"):
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / name).touch()
    monkeypatch.chdir(tmp_path)
    files, nameless = list_incoming([Path("new")], "nifti")
    assert [(file.id, file.source) for file in files] == [
        ("a", "new/a.NII"),
        ("b", "new/b.nii.gz"),
        ("c", "new/sub/c.nii"),
    ]
    assert nameless == ()
    assert [file.id for file in list_incoming([Path("new")], "video")[0]] == ["clip"]


def test_files_keep_their_order_and_come_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("new").mkdir()
    for name in ("new/b.nii", "new/a.nii.gz"):
        Path(name).touch()
    paths = [Path("new/b.nii"), tmp_path / "new/b.nii", Path("new"), Path("./new/a.nii.gz")]
    assert [file.source for file in list_incoming(paths, "nifti")[0]] == ["new/b.nii", "new/a.nii.gz"]


def test_files_of_one_name_are_called_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path("x/scan.nii.gz"), Path("y/scan.nii"), Path("z/other"), Path(".nii")]
    ids = [file.id for file in list_incoming(paths, "nifti")[0]]
    assert ids == ["x/scan.nii.gz", "y/scan.nii", "other", ".nii"]


def test_a_folder_named_like_a_source_is_one(tmp_path):
    (tmp_path / "scan.nii.gz").mkdir()
    (file,), _ = list_incoming([tmp_path / "scan.nii.gz"], "nifti")
    (found,) = convert_incoming([file], CtRecipe(shape=(3, 8, 8)), SYNC)
    assert found.problem.code == "not-a-regular-file"


def test_a_folder_without_sources_is_refused(tmp_path, refusal):
    (tmp_path / "clip.avi").touch()
    (problem,) = refusal(ConfigError, lambda: list_incoming([tmp_path], "nifti"))
    assert problem.code == "no-sources"


def test_names_that_are_not_utf8_are_put_aside(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.nii")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (tmp_path / "good.nii").touch()
    files, nameless = list_incoming([tmp_path], "nifti")
    assert [file.id for file in files] == ["good"]
    assert [(item.source, item.problem.code) for item in nameless] == [("\\xff.nii", "bad-name")]


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [{}, {"shape": [4, 9, 8], "dtype": "uint8", "spline_order": 1}])
def test_a_recipe_is_read_back_as_it_was(tmp_path, ct_dataset, video_dataset, recipe):
    ct_dataset(tmp_path, recipe=recipe)
    catalog = load_catalog(video_dataset(tmp_path, recipe={**recipe, "frames": "first"}))
    for dataset in catalog.datasets.values():
        document = json.loads(json.dumps(dataset.recipe_json))
        assert recipe_from(document) == dataset.recipe
    assert {type(dataset.recipe) for dataset in catalog.datasets.values()} == {CtRecipe, VideoRecipe}


@pytest.mark.parametrize(
    "document",
    [
        {"shape": [5, 16, 16]},
        {"type": "slices", "shape": [5, 16, 16]},
        {"type": "nifti", "shape": [5, 16]},
        {"type": "nifti", "crop": "box"},
        {"type": ["nifti"]},
        [],
        None,
    ],
)
def test_an_unknown_recipe_is_refused(document, refusal):
    (problem,) = refusal(ConfigError, lambda: recipe_from(document))
    assert problem.code == "unknown-recipe"


# --- volumes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "uint8"])
def test_volumes_are_those_of_a_build(tmp_path, ct_dataset, dtype):
    dataset, store = built(ct_dataset(tmp_path, scans=3, recipe={"dtype": dtype}))
    files, _ = list_incoming([dataset.path], "nifti")
    arrivals = list(convert_incoming(files, recipe_from(store.header.recipe), SYNC))
    assert [arrival.id for arrival in arrivals] == [row.id for row in store.rows]
    for index, arrival in enumerate(arrivals):
        assert arrival.volume.dtype == np.dtype(dtype)
        assert np.array_equal(arrival.volume, store.read(index))


def test_clips_are_those_of_a_build(tmp_path, video_dataset):
    dataset, store = built(video_dataset(tmp_path, groups=1))
    files, _ = list_incoming([dataset.path], "video")
    converted = {file.id: file for file in convert_incoming(files, recipe_from(store.header.recipe), SYNC)}
    assert len(converted) == 4
    for index, row in enumerate(store.rows):
        assert np.array_equal(converted.pop(row.id).volume, store.read(index))
    assert converted == {}


def test_a_bad_file_costs_only_itself(tmp_path, write_nifti, write_clip, temporary):
    noise = np.random.default_rng(0).integers(-1000, 400, (9, 8, 7))
    names = ["cut.nii.gz", "good.nii.gz", "flat.nii.gz", "clip.avi", "empty.nii", "pipe.nii"]
    for name in ("cut.nii.gz", "good.nii.gz"):
        write_nifti(tmp_path / name, noise, dtype="int16")
    write_nifti(tmp_path / "flat.nii.gz", noise * 0, dtype="int16")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:-99])
    write_clip(tmp_path / "clip.avi", np.zeros((5, 24, 32, 3), np.uint8), "MJPG")
    (tmp_path / "empty.nii").touch()
    os.mkfifo(tmp_path / "pipe.nii")
    files, _ = list_incoming([tmp_path / name for name in names], "nifti")
    found = list(convert_incoming(files, CtRecipe(shape=(3, 8, 8)), SYNC))
    codes = [item.problem.code if isinstance(item, Quarantined) else "" for item in found]
    assert codes == ["truncated", "", "", "not-nifti", "empty-file", "not-a-regular-file"]
    assert [item.source for item in found] == [str(tmp_path / name) for name in names]
    flat = found[2]
    assert isinstance(flat, Arrival)
    assert [problem.code for problem in flat.warnings] == ["doubtful"]
    assert json.loads(flat.facts)["shape"] == [7, 8, 9]
    assert list(temporary.iterdir()) == []


def test_only_a_volume_at_a_time_is_held(tmp_path, ct_dataset, temporary):
    """Chunks go when they are read, and the folder with who stops half-way."""
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=4)).datasets.values()
    files, _ = list_incoming([dataset.path], "nifti")
    arrivals = convert_incoming(files, dataset.recipe, SYNC)
    for _ in range(2):
        next(arrivals)
        assert list(temporary.glob("viptt-*/chunks/*")) == []
    arrivals.close()
    assert list(temporary.iterdir()) == []


def test_nowhere_to_write_is_told(tmp_path, ct_dataset, temporary, refusal):
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=1)).datasets.values()
    files, _ = list_incoming([dataset.path], "nifti")
    temporary.rmdir()
    (problem,) = refusal(ResourceError, lambda: next(convert_incoming(files, dataset.recipe, SYNC)))
    assert problem.code == "cannot-write"


@pytest.mark.slow
def test_workers_have_the_walls_of_a_build(tmp_path, ct_dataset, write_nifti):
    """A file that wants more memory than a worker has is told, the others come in their order."""
    (dataset,) = load_catalog(ct_dataset(tmp_path, scans=3)).datasets.values()
    shape = {"dim": [3, 1024, 1024, 750, 1, 1, 1, 1]}
    huge = write_nifti(tmp_path / "huge.nii", np.zeros((2, 2, 2)), dtype="int16", fields=shape)
    os.truncate(huge, 352 + 1024 * 1024 * 750 * 2)
    files, _ = list_incoming([huge, dataset.path], "nifti")
    found = list(convert_incoming(files, dataset.recipe, Options(workers=2, memory="1GB")))
    assert isinstance(found[0], Quarantined)
    assert found[0].problem.code == "memory"
    assert [item.id for item in found[1:]] == ["TRN_0000", "TRN_0001", "TRN_0002"]
