"""`viptt init`: catalogs that `viptt check` accepts, guessed from tables, folders and names."""

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from cli import main
from pipeline.catalog import load_catalog
from pipeline.guess.text import quoted
from pipeline.sources import list_samples


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def init(folder: object, *options: object) -> Result:
    return CliRunner().invoke(main, ["init", str(folder), *map(str, options)])


def check(*options: str) -> Result:
    return CliRunner().invoke(main, ["check", *options])


def entry() -> dict:
    ((_, entry),) = yaml.safe_load(Path("data_catalog.yaml").read_text())["datasets"].items()
    return entry


def write_table(path: Path, *rows: tuple[object, ...]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def scan(write_nifti):
    def write(name: str) -> Path:
        noise = np.random.default_rng(len(name)).integers(-1000, 1000, (6, 5, 4))
        return write_nifti(Path(name), noise, dtype="int16")

    return write


def test_the_real_scans_clips_and_ultrasound(tmp_path, shared):
    for name in ("ct", "ucf", "ultrasound"):
        shutil.copytree(shared / name, tmp_path / name)
    made = {
        name: json.loads(init(name, "--json", "--catalog", f"{name}.yaml").stdout)
        for name in ("ct", "ucf", "ultrasound")
    }
    listings = {
        name: list_samples(dataset)
        for name in made
        for dataset in load_catalog(Path(f"{name}.yaml")).datasets.values()
    }
    assert {name: item["type"] for name, item in made.items()} == {
        "ct": "nifti",
        "ucf": "video",
        "ultrasound": "video",
    }
    assert made["ct"]["classes"] == {"1": 2, "2": 1, "3": 1, "4": 2, "5": 2}  # counted in its labels.csv
    assert made["ct"]["labels"]["group"] == "PatientID"
    assert made["ucf"]["classes"]["HorseRace"] == len(list((tmp_path / "ucf/HorseRace").iterdir()))
    assert {sample.group for sample in listings["ucf"].samples} >= {"v_Diving_g01", "v_Biking_g01"}
    assert made["ultrasound"]["classes"] == {"Cov": 4, "Pneu": 5, "Reg": 9, "Vir": 2}
    assert {name: len(listing.samples) for name, listing in listings.items()} == {
        "ct": 8,
        "ucf": 20,
        "ultrasound": 20,
    }


def test_a_table_beside_the_folder(scan):
    for number in range(4):
        scan(f"raw/scan{number}.nii.gz")
    rows = [(number, f"scan{number}", f"P{number}", number % 2, 0.5 * number) for number in range(4)]
    write_table(Path("about.csv"), ("", "name", "patient_id", "diagnosis", "score"), *rows)
    result = init("raw")
    assert (result.exit_code, result.stdout) == (0, "")
    labels = entry()["labels"]
    assert labels == {"file": "about.csv", "id": "name", "label": "diagnosis", "group": "patient_id"}
    assert "about.csv names 4 of 4 sources" in result.stderr
    assert entry()["classes"] == {"0": "0", "1": "1"}
    assert check().exit_code == 0


def test_sources_that_the_table_does_not_name_are_left_out(scan):
    for number in range(5):
        scan(f"raw/s[{number}].nii")
    write_table(Path("raw/t.csv"), ("file", "label"), *((f"s[{n}].nii", "ab"[n % 2]) for n in range(4)))
    assert "left out: 1 sources" in init("raw").stderr
    result = check("--json")
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)["datasets"]
    assert (found["samples"], found["excluded"]) == (4, 1)


def test_lines_without_a_file_need_an_option(scan):
    for number in range(4):
        scan(f"raw/s{number}.nii")
    write_table(Path("raw/t.csv"), ("file", "label"), *((f"s{n}.nii", "ab"[n % 2]) for n in range(6)))
    assert "viptt check --allow-missing" in init("raw").stderr
    assert check().exit_code == 2
    assert check("--allow-missing").exit_code == 3


def test_folders_of_classes_below_train_and_val(scan):
    for part in ("train", "val"):
        for label in ("healthy", "ill"):
            for number in range(2):
                scan(f"raw/{part}/{label}/sub-{number}_{part}.nii.gz")
    assert init("raw").exit_code == 0
    assert list(entry()["classes"]) == ["healthy", "ill"]
    (dataset,) = load_catalog(Path("data_catalog.yaml")).datasets.values()
    assert {sample.group for sample in list_samples(dataset).samples} == {"sub-0", "sub-1"}


def test_a_folder_of_each_patient_is_no_class(scan):
    for number in range(4):
        for visit in range(2):
            scan(f"raw/patient{number}/v{visit}.nii.gz")
    result = init("raw")
    assert "no table, folder or name tells the classes" in result.stderr


def test_without_labels_there_is_a_table_to_fill_in(scan):
    names = [f"raw/scan{number}.nii.gz" for number in range(4)]
    for name in names:
        scan(name)
    result = init("raw")
    assert result.exit_code == 0
    with Path("raw.labels.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["FileName"] for line in lines] == [Path(name).name for name in names]
    assert check().exit_code == 2  # nobody has filled it in
    for number, line in enumerate(lines):
        line["Label"] = ("first class", "second class")[number % 2]
    with Path("raw.labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    assert check().exit_code == 0


def test_folders_of_frames_of_16_bits_get_a_window():
    rng = np.random.default_rng(3)
    for label in ("a", "b"):
        for stack in range(2):
            folder = Path(f"raw/{label}/stack{stack}")
            folder.mkdir(parents=True)
            for number in range(3):
                picture = rng.integers(100, 3000, (8, 9), np.uint16)
                picture[0, :2] = (100, 3000)
                cv2.imwrite(str(folder / f"{number}.png"), picture)
    assert init("raw").exit_code == 0
    assert entry()["type"] == "frames"
    assert entry()["recipe"]["window"] == [100, 3000]
    assert check().exit_code == 0


def test_nothing_is_overwritten(scan):
    for number in range(4):
        scan(f"raw/scan{number}.nii.gz")
    Path("data_catalog.yaml").write_text("mine")
    result = init("raw")
    assert (result.exit_code, Path("data_catalog.yaml").read_text()) == (2, "mine")
    assert "file-exists" in result.stderr
    Path("raw.labels.csv").write_text("mine, too")
    assert init("raw", "--catalog", "other.yaml").exit_code == 2
    assert Path("raw.labels.csv").read_text() == "mine, too"
    assert not Path("other.yaml").exists()


def test_the_folder_itself_keeps_no_store(scan, monkeypatch):
    for label in "ab":
        for number in range(2):
            scan(f"raw/{label}/{label}{number}.nii")
    monkeypatch.chdir("raw")
    assert init(".").exit_code == 0
    assert check().exit_code == 0
    assert entry()["store"] == "../cache/raw.zarr"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no-samples"),
        (["a.dcm", "b.dcm"], "dcm2niix"),
        (["1.png", "2.png"], "a folder of its own"),
    ],
)
def test_what_cannot_be_used_is_told_with_a_remedy(names, said):
    Path("raw").mkdir()
    for name in names:
        Path("raw", name).write_bytes(b"x")
    result = init("raw")
    assert result.exit_code == 2
    assert said in result.stderr
    assert init("nowhere").exit_code == 2


def test_names_of_files_cannot_write_into_the_catalog(scan):
    for label in ("a'b: {", "c # d", "$HOME"):
        for number in range(2):
            scan(f"$raw/{label}/{number}{label[:1]}.nii")
    assert init("$raw").exit_code == 0
    assert (entry()["path"], entry()["classes"]) == ("$$raw", ["$HOME", "a'b: {", "c # d"])
    assert check().exit_code == 0


def test_names_with_control_characters_are_no_classes(scan):
    for label in ("a\n  evil: 1", "b"):
        for number in range(2):
            scan(f"raw/{label}/{number}{label[:1]}.nii")
    assert init("raw").exit_code == 0
    assert list(yaml.safe_load(Path("data_catalog.yaml").read_text())) == ["version", "datasets"]
    assert "evil" not in Path("raw.labels.csv").read_text()


@pytest.mark.parametrize(
    "text", ["1", "yes", "a b", "it's", "- x", "a: b", "", "~", "Null", "1e3", "a.b-c/d"]
)
def test_quoted_texts_come_back(text):
    assert yaml.safe_load(f"[{quoted(text)}]") == [text]
