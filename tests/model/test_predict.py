"""Predictions as a user gets them: from files and stores, of one run and several, and what is refused."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.image import imread

from cli import main
from model.loading import load_network
from model.network import small_net
from model.run_folder import Config, create_run, describe, read_config, write_config
from model.settings import Settings
from model.weights import save_weights
from pipeline.catalog import load_catalog
from pipeline.store import open_store

RECIPE = {"shape": [4, 32, 32]}


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def predict(*arguments: object) -> Result:
    return viptt("predict", *arguments, "--scheduler", "sync")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def numbers(text: str) -> np.ndarray:
    return np.array([list(row.values())[2:] for row in rows_of(text)], float)


def trained(catalog: Path, *, name: str = "run", seed: int = 0) -> Path:
    """A run, of random weights, on the one dataset of a catalog that is built and split first.

    The weights of its head are large, so that samples differ by more than a rounding.
    """
    (dataset,) = load_catalog(catalog).datasets.values()
    if not dataset.split.file.exists():
        assert viptt("build", "--scheduler", "sync", "-q", "--catalog", catalog).exit_code == 0
        assert viptt("split", "-q", "--catalog", catalog).exit_code == 0
    data = describe(open_store(dataset.store), dataset.split.file)
    create_run(catalog.parent / name, Config(Settings(model="viptt-net-small"), data))
    keras.utils.set_random_seed(seed)
    net = small_net(data.shape, len(data.classes))
    kernel, bias = net.get_layer("head").get_weights()
    net.get_layer("head").set_weights([kernel * 10, bias])
    save_weights(net, catalog.parent / name / "model.weights.h5")
    return catalog.parent / name


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, ct_dataset: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("template")
    trained(ct_dataset(folder, scans=4, recipe=RECIPE))
    return folder


@pytest.fixture
def ct(tmp_path: Path, template: Path) -> Path:
    """The catalog of four scans, built and split, in a folder of its own; a run is beside it."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "data_catalog.yaml"


@pytest.fixture
def run(ct: Path) -> Path:
    return ct.parent / "run"


@pytest.fixture
def scan(ct: Path) -> Path:
    return ct.parent / "ct/TRN_0001.nii.gz"


# --- tables -------------------------------------------------------------------------------------


def test_a_table_holds_what_the_network_says(run: Path, ct: Path) -> None:
    result = predict(run, "ct", "--catalog", ct)
    assert result.exit_code == 0
    _, net = load_network(run)
    store = open_store(ct.parent / "cache/ct.zarr")
    volumes = np.stack([store.read(index) for index in range(4)]).astype(np.float32)
    expected = np.asarray(net(volumes[..., None]))
    assert result.stdout.splitlines()[0] == "id,predicted,Infiltrative,Focal"
    np.testing.assert_allclose(numbers(result.stdout), expected, atol=1e-5)
    for row, label in zip(rows_of(result.stdout), expected.argmax(axis=1), strict=True):
        assert row["predicted"] == ("Infiltrative", "Focal")[label]
    assert [row["id"] for row in rows_of(result.stdout)] == [row.id for row in store.rows]


@pytest.mark.parametrize("batch", [1, 3])
def test_files_give_what_their_store_gives(run: Path, ct: Path, batch: int) -> None:
    stored = predict(run, "ct", "--catalog", ct, "--batch-size", batch)
    found = predict(run, ct.parent / "ct", "--batch-size", batch)
    assert (stored.exit_code, found.exit_code) == (0, 0)
    assert [row["id"] for row in rows_of(found.stdout)] == [row["id"] for row in rows_of(stored.stdout)]
    np.testing.assert_allclose(numbers(found.stdout), numbers(stored.stdout), atol=1e-5)
    assert found.stderr == "files to predict: 4\n"


@pytest.mark.slow
def test_clips_are_predicted_by_a_run_on_clips(tmp_path: Path, video_dataset: Callable[..., Path]) -> None:
    catalog = video_dataset(tmp_path, recipe={**RECIPE, "dtype": "uint8"})
    run = trained(catalog)
    stored, found = predict(run, "video", "--catalog", catalog), predict(run, tmp_path / "ucf")
    assert rows_of(found.stdout)[0]["id"] == "v_Mixing_g01_c01"
    assert len(rows_of(found.stdout)) == 8
    np.testing.assert_allclose(numbers(found.stdout), numbers(stored.stdout), atol=1e-5)


def test_one_split_can_be_named(run: Path, ct: Path) -> None:
    parts = json.loads((ct.parent / "splits/ct.json").read_text())["splits"]
    result = predict(run, "ct", "--split", "val", "--catalog", ct)
    assert [row["id"] for row in rows_of(result.stdout)] == parts["val"]
    assert predict(run, "ct", "--split", "test", "--catalog", ct).exit_code == 4


def test_json_is_one_document(run: Path, scan: Path) -> None:
    bad = scan.with_name("bad.nii.gz")
    bad.write_bytes(b"no scan")
    result = predict(run, scan, bad, "--json")
    document = json.loads(result.stdout)
    (prediction,) = document["predictions"]
    assert (prediction["id"], prediction["source"]) == ("TRN_0001", str(scan))
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert prediction["predicted"] == max(prediction["probabilities"], key=prediction["probabilities"].get)
    assert [(item["source"], item["code"]) for item in document["quarantined"]] == [(str(bad), "not-nifti")]
    assert document["runs"] == [str(run)]


def test_out_takes_the_table_and_leaves_stdout_empty(run: Path, scan: Path, tmp_path: Path) -> None:
    on_stdout = predict(run, scan)
    result = predict(run, scan, "--out", tmp_path / "table.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "table.csv").read_text() == on_stdout.stdout
    assert not list(tmp_path.glob("*.quarantine.csv"))


def test_no_id_is_a_formula(run: Path, scan: Path) -> None:
    evil = shutil.copy(scan, scan.with_name("=cmd|' !A0.nii.gz"))
    result = predict(run, evil, "--submission", scan.with_name("tst.txt"))
    assert rows_of(result.stdout)[0]["id"] == "'=cmd|' !A0"
    # A submission is no table for people: its file names are those of the organisers.
    assert scan.with_name("tst.txt").read_text().startswith("=cmd|' !A0.nii.gz,")


# --- submissions --------------------------------------------------------------------------------


def test_a_submission_agrees_with_the_table(run: Path, ct: Path, tmp_path: Path) -> None:
    for inputs in (["ct", "--catalog", ct], [ct.parent / "ct"]):
        result = predict(run, *inputs, "--submission", tmp_path / "tst.txt")
        number = {"Infiltrative": 1, "Focal": 2}
        lines = [f"{row['id']}.nii.gz,{number[row['predicted']]}\n" for row in rows_of(result.stdout)]
        assert (tmp_path / "tst.txt").read_text() == "".join(lines)


def test_a_submission_is_checked_before_the_work(run: Path, scan: Path, tmp_path: Path) -> None:
    shutil.copytree(scan.parent, tmp_path / "again")
    result = predict(run, scan.parent, tmp_path / "again", "--submission", tmp_path / "tst.txt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'TRN_0000.nii.gz'" in result.stderr
    assert not (tmp_path / "tst.txt").exists()


# --- several runs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_runs_are_averaged(ct: Path) -> None:
    runs = [trained(ct, name=f"run{seed}", seed=seed) for seed in (1, 2, 3)]
    alone = [numbers(predict(run, "ct", "--catalog", ct).stdout) for run in runs]
    assert np.abs(alone[0] - alone[1]).max() > 1e-4
    for inputs in (["ct", "--catalog", ct], [ct.parent / "ct"]):
        result = predict(runs[0], "--with", runs[1], "--with", runs[2], *inputs)
        assert f"averaging 3 runs: {runs[0]}, {runs[1]}, {runs[2]}\n" in result.stderr
        np.testing.assert_allclose(numbers(result.stdout), np.mean(alone, axis=0), atol=1e-5)


def change_data(run: Path, **changes: object) -> Path:
    """A run as if it had been trained on other data."""
    config = read_config(run)
    write_config(run, replace(config, data=replace(config.data, **changes)))
    return run


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("classes", ("Focal", "Infiltrative"), "other-classes"),
        ("recipe", {"type": "nifti", "window": [0, 1], **RECIPE}, "other-recipe"),
    ],
)
def test_runs_that_do_not_go_together_are_refused(
    run: Path, scan: Path, tmp_path: Path, key: str, value: object, code: str
) -> None:
    other = change_data(shutil.copytree(run, tmp_path / "other"), **{key: value})
    result = predict(run, scan, "--with", other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{other}: {code}: ")


def test_runs_of_another_shape_are_refused(
    run: Path, scan: Path, tmp_path: Path, ct_dataset: Callable[..., Path]
) -> None:
    other = trained(ct_dataset(tmp_path / "other", recipe={"shape": [5, 32, 32]}))
    result = predict(run, scan, "--with", other)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{other}: other-shape: ")


# --- bad files ----------------------------------------------------------------------------------


def test_bad_files_are_told_and_the_good_ones_predicted(
    run: Path, scan: Path, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    """A cut scan, a picture with the name of a scan, a clip for a run on scans, and a pipe."""
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(scan, new / "good.nii.gz")
    (new / "cut.nii.gz").write_bytes(scan.read_bytes()[:-99])
    cv2.imwrite(str(new / "picture.png"), np.zeros((9, 9), np.uint8))
    (new / "picture.png").rename(new / "picture.nii.gz")
    write_clip(new / "clip.avi", np.zeros((9, 24, 32, 3), np.uint8), "MJPG")
    os.mkfifo(new / "pipe.nii")
    result = predict(
        run, new, new / "clip.avi", "--out", tmp_path / "t.csv", "--submission", tmp_path / "t.txt"
    )
    assert result.exit_code == 3
    assert [row["id"] for row in rows_of((tmp_path / "t.csv").read_text())] == ["good"]
    codes = {"cut.nii.gz": "truncated", "picture.nii.gz": "not-nifti", "clip.avi": "not-nifti"}
    codes["pipe.nii"] = "not-a-regular-file"
    for name, code in codes.items():
        (line,) = (line for line in result.stderr.splitlines() if line.startswith(f"{new / name}: "))
        assert f": {code}: " in line
        assert " → " in line
    with (tmp_path / "t.quarantine.csv").open(newline="") as file:
        assert {Path(row["source"]).name: row["code"] for row in csv.DictReader(file)} == codes
    assert "t.txt: 4 files have no line in it" in result.stderr
    assert (tmp_path / "t.txt").read_text().startswith("good.nii.gz,")
    again = predict(run, scan, "--out", tmp_path / "t.csv")
    assert again.exit_code == 0
    assert not (tmp_path / "t.quarantine.csv").exists()


def test_without_a_good_file_the_table_is_empty(run: Path, scan: Path) -> None:
    scan.write_bytes(b"")
    result = predict(run, scan)
    assert result.exit_code == 3
    assert result.stdout == "id,predicted,Infiltrative,Focal\n"
    assert f"{scan}: empty-file: " in result.stderr


def test_what_is_doubtful_is_said(run: Path, tmp_path: Path, write_nifti: Callable[..., Path]) -> None:
    flat = write_nifti(tmp_path / "flat.nii.gz", np.zeros((9, 8, 7)), dtype="int16")
    result = predict(run, flat)
    assert result.exit_code == 0
    assert f"warning: {flat}: doubtful: all values are equal" in result.stderr


# --- refusals -----------------------------------------------------------------------------------


def told(result: Result) -> tuple[int, str]:
    """Exit code and reason code of a refusal, which is a single line and leaves stdout empty."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert " → " in line
    return result.exit_code, line.split(": ")[1]


def test_a_folder_that_is_no_run(scan: Path, tmp_path: Path) -> None:
    assert told(predict(tmp_path, scan)) == (2, "not-a-run")
    assert told(predict(tmp_path / "nowhere", scan)) == (2, "not-a-run")


def test_a_run_without_weights(run: Path, scan: Path) -> None:
    (run / "model.weights.h5").unlink()
    assert told(predict(run, scan)) == (2, "no-weights")


def test_a_run_whose_weights_were_changed(run: Path, scan: Path) -> None:
    weights = run / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert told(predict(run, scan)) == (4, "weights-changed")


def test_a_run_of_a_recipe_from_the_future(run: Path, scan: Path) -> None:
    change_data(run, recipe={**read_config(run).data.recipe, "sharpen": 2})
    assert told(predict(run, scan)) == (2, "unknown-recipe")


def test_neither_file_nor_dataset(run: Path, ct: Path, scan: Path) -> None:
    result = predict(run, "ctt", "--catalog", ct)
    assert told(result) == (2, "unknown-input")
    assert "there is no such file or folder; as a dataset: " in result.stderr
    assert "did you mean `ct`?" in result.stderr
    assert told(predict(run, "gone.nii.gz", "--catalog", "gone.yaml")) == (2, "unknown-input")
    both = predict(run, "gone.nii", scan, "ct", "--catalog", ct)
    assert both.exit_code == 2
    assert [line.split(": ")[:2] for line in both.stderr.splitlines()] == [
        ["gone.nii", "unknown-input"],
        ["ct", "unknown-input"],
    ]


@pytest.mark.slow
def test_a_path_that_is_also_a_dataset_is_not_guessed_at(
    run: Path, ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ct.parent)
    result = predict(run, "ct", "--catalog", ct)
    assert told(result) == (2, "ambiguous-input")
    assert "write `./ct`" in result.stderr
    assert "files to predict: 4" in predict(run, "./ct", "--catalog", ct).stderr
    named = predict(run, "ct", "--split", "val", "--catalog", ct)  # only a dataset has splits
    assert "samples of ct" in named.stderr
    shutil.rmtree("cache")
    ct.write_text("datasets: [")  # files need no catalog
    assert "files to predict: 4" in predict(run, "ct", "--catalog", ct).stderr


def test_quiet_prints_no_message_but_the_table_of_predictions(run: Path, scan: Path) -> None:
    result = predict(run, scan, "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(rows_of(result.stdout)) == 1


def test_a_folder_without_scans(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert told(predict(run, tmp_path / "empty")) == (2, "no-sources")


def test_a_store_that_is_not_built(run: Path, ct: Path) -> None:
    shutil.rmtree(ct.parent / "cache/ct.zarr")
    assert told(predict(run, "ct", "--catalog", ct)) == (4, "not-built")


def test_a_store_of_another_recipe(run: Path, tmp_path: Path, ct_dataset: Callable[..., Path]) -> None:
    other = ct_dataset(tmp_path / "other", recipe={"shape": [4, 32, 32], "window": [-1000, 1000]})
    assert viptt("build", "--scheduler", "sync", "-q", "--catalog", other).exit_code == 0
    result = predict(run, "ct", "--catalog", other)
    assert told(result) == (2, "other-recipe")
    assert "window [-1000.0, 1000.0] instead of [-1000.0, 400.0]" in result.stderr


def test_a_damaged_sample(run: Path, ct: Path) -> None:
    open_store(ct.parent / "cache/ct.zarr").chunk(2).unlink()
    result = predict(run, "ct", "--catalog", ct)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "sample TRN_0002): missing-chunk" in result.stderr


def test_where_nothing_can_be_written(run: Path, scan: Path, tmp_path: Path) -> None:
    for option in ("--out", "--submission"):
        assert told(predict(run, scan, option, tmp_path / "gone/table")) == (2, "no-folder")
    for option in ("--explain", "--timelines"):
        result = predict(run, scan, option, scan)
        assert told(result) == (2, "no-folder")
        assert f"give another `{option} DIR`" in result.stderr


def test_a_whole_scan_has_no_class_over_time(run: Path, scan: Path, tmp_path: Path) -> None:
    assert told(predict(run, scan, "--timelines", tmp_path / "pictures")) == (2, "no-pictures")


def test_parts_are_for_datasets(run: Path, scan: Path) -> None:
    assert told(predict(run, scan, "--split", "val"))[0] == 2


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_decision_has_its_picture(run: Path, ct: Path, scan: Path, tmp_path: Path) -> None:
    odd = tmp_path / "new/$x_肺%.nii.gz"
    odd.parent.mkdir()
    shutil.copy(scan, odd)
    twins = [shutil.copy(scan, tmp_path / f"{name}.nii.gz") for name in ("new/a", "a")]
    assert predict(run, odd, *twins, "--explain", tmp_path / "pictures/new").exit_code == 0
    pictures = sorted((tmp_path / "pictures/new").iterdir())
    folder = str(tmp_path).replace("/", "%2F")
    assert {path.name for path in pictures} == {
        "$x_肺%25.png",
        f"{folder}%2Fnew%2Fa.nii.gz.png",
        f"{folder}%2Fa.nii.gz.png",
    }
    assert all(imread(path).shape == (690, 1800, 4) for path in pictures)
    assert predict(run, "ct", "--catalog", ct, "--explain", tmp_path / "stored").exit_code == 0
    assert len(list((tmp_path / "stored").iterdir())) == 4
