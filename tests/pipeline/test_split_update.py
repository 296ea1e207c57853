"""`viptt split` writes where there is nothing, replaces only when told to, and checks all before writing."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from faults import tree

from cli import main
from pipeline.catalog import load_catalog
from pipeline.errors import IntegrityError
from pipeline.freshness import check_fresh
from pipeline.split import split_json
from pipeline.split.file import is_split_file
from pipeline.store import open_store


def viptt(catalog: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--catalog", str(catalog)])


@pytest.fixture(scope="module")
def built_once(tmp_path_factory, ct_dataset) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("built")
    catalog = ct_dataset(folder, scans=20, scans_per_patient=2)
    assert viptt(catalog, "build", "-q", "--scheduler", "sync").exit_code == 0
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def ct(tmp_path, built_once) -> Path:
    for name, content in built_once.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path / "data_catalog.yaml"


@pytest.fixture
def file(ct) -> Path:
    return ct.parent / "splits/ct.json"


def change_seed(catalog: Path) -> None:
    text = catalog.read_text()
    assert "seed: 0" in text
    catalog.write_text(text.replace("seed: 0", "seed: 1"))


def refuses(ct: Path, code: str, exit_code: int, *arguments: str) -> str:
    """A command that is refused in one line, and leaves every file as it was."""
    before = tree(ct.parent)
    result = viptt(ct, "split", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert f": {code}: " in result.stderr
    assert result.stderr.count("\n") == 1
    assert tree(ct.parent) == before
    return result.stderr


def test_a_split_that_is_there_is_left_as_it_is(ct, file):
    assert "wrote" in viptt(ct, "split").stderr
    first, time = file.read_bytes(), file.stat().st_mtime_ns
    assert "nothing to do" in viptt(ct, "split").stderr
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (first, time)
    change_seed(ct)
    told = refuses(ct, "split-exists", 2)
    assert "0 added, 0 removed" in told
    assert "0 samples moved" not in told


def test_force_replaces_a_split_and_says_what_changed(ct, file):
    viptt(ct, "split")
    before = json.loads(file.read_text())["splits"]
    change_seed(ct)
    result = viptt(ct, "split", "--force")
    after = json.loads(file.read_text())["splits"]
    moved = len(set(before["val"]) ^ set(after["val"]))
    assert moved > 0
    assert f"({moved} samples moved, 0 added, 0 removed)" in result.stderr


def test_samples_that_come_and_go_are_counted(ct, file):
    viptt(ct, "split")
    labels = ct.parent / "ct/labels.csv"
    (ct.parent / "ct/TRN_0019.nii.gz").unlink()
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    viptt(ct, "build", "-q", "--scheduler", "sync")
    assert "0 added, 1 removed" in refuses(ct, "split-exists", 2)
    assert viptt(ct, "split", "--force").exit_code == 0
    assert viptt(ct, "split", "--check").exit_code == 0


def test_a_split_of_other_warnings_is_the_same_split(ct, file):
    """Another version words them otherwise."""
    viptt(ct, "split")
    (update,) = splits_of(ct)
    assert json.loads(split_json(update, warnings=False)).keys().isdisjoint({"warnings", "digest"})


def splits_of(ct: Path):
    from pipeline.split import read_split

    return [read_split(dataset.split.file) for dataset in load_catalog(ct).datasets.values()]


# --- exports ------------------------------------------------------------------------------------


def test_an_export_takes_the_split_that_is_there(ct, file):
    viptt(ct, "split")
    before = file.read_bytes()
    lists = json.loads(before)["splits"]
    change_seed(ct)
    assert viptt(ct, "split", "--export", "nnunet").exit_code == 0
    assert file.read_bytes() == before
    (fold,) = json.loads((file.parent / "splits_final.json").read_text())
    assert fold == lists


def test_an_export_assigns_no_split(ct, file):
    refuses(ct, "split-missing", 4, "--export", "nnunet")


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["--export", "foo"], "split-format", 2),
        (["--fold", "1"], "no-such-fold", 2),
        (["--export", "csv", "--fold", "1"], "no-such-fold", 2),
        (["--export", "csv", "--folds", "3"], "bad-option", 2),
        (["--check", "--import", "x.csv"], "bad-option", 2),
        (["--out", "elsewhere"], "bad-option", 2),
        (["--force", "--export", "foo"], "split-format", 2),
        (["--force", "--fold", "1"], "no-such-fold", 2),
        (["--import", "nothing.csv"], "split-missing", 4),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_what_fails_changes_nothing(ct, arguments, code, exit_code, there):
    if there:
        viptt(ct, "split")
        change_seed(ct)
    elif "--export" in arguments and code != "bad-option":
        code, exit_code = "split-missing", 4
    refuses(ct, code, exit_code, *arguments)


def test_an_export_replaces_no_other_file(ct, file):
    viptt(ct, "split")
    target = file.parent / "splits_final.json"
    target.write_text("mine")
    refuses(ct, "file-exists", 2, "--export", "nnunet")
    assert viptt(ct, "split", "--export", "nnunet", "--force").exit_code == 0
    assert viptt(ct, "split", "--export", "nnunet").exit_code == 0  # again, the same bytes


def test_an_export_never_replaces_the_split(ct, file):
    ct.write_text(ct.read_text().replace("splits/ct.json", "splits/splits_final.json"))
    viptt(ct, "split")
    refuses(ct, "not-ours", 4, "--export", "nnunet", "--force")


def test_two_datasets_are_not_exported_to_one_file(ct):
    document = yaml.safe_load(ct.read_text())
    entry = document["datasets"]["ct"]
    shutil.copytree(ct.parent / "cache/ct.zarr", ct.parent / "cache/again.zarr")
    split = {**entry["split"], "file": "splits/again.json"}
    document["datasets"]["again"] = {**entry, "store": "cache/again.zarr", "split": split}
    ct.write_text(yaml.safe_dump(document))
    told = viptt(ct, "split")
    assert told.exit_code == 0, told.stderr
    refuses(ct, "same-file", 2, "--export", "nnunet")


# --- files of others ----------------------------------------------------------------------------


CONTENTS = [b"", b"id,label\n", b"{", b"\xff\xfe", b"[1, 2]", b'{"store_digest": 1, "notes": []}', None]


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("content", CONTENTS)
def test_what_is_no_split_is_never_replaced(ct, file, content, force):
    file.parent.mkdir()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    refuses(ct, "not-ours", 4, *force)


def test_a_damaged_split_is_replaced_only_by_force(ct, file):
    viptt(ct, "split")
    good = file.read_text()
    for damaged in (good.replace("TRN_0000", "TRN_9999"), good[: len(good) // 2], good[:-1]):
        file.write_text(damaged)
        assert is_split_file(file)
        assert viptt(ct, "split").exit_code == 4
        assert file.read_text() == damaged
        assert viptt(ct, "split", "--force").exit_code == 0
        assert file.read_text() == good


def test_an_edit_by_hand_is_accepted_by_importing_the_file_itself(ct, file):
    viptt(ct, "split")
    document = json.loads(file.read_text())
    document["splits"]["val"].sort(reverse=True)
    file.write_text(json.dumps(document))
    assert viptt(ct, "split").exit_code == 4
    assert viptt(ct, "split", "ct", "--import", file).exit_code == 0
    assert json.loads(file.read_text())["splits"] == document["splits"]
    assert viptt(ct, "split", "--check").exit_code == 0


def test_an_import_does_not_replace_another_split(ct, file, tmp_path):
    viptt(ct, "split")
    lists = ["id,part", *(f"TRN_{number:04d},{'val' if number < 4 else 'train'}" for number in range(20))]
    (tmp_path / "given.csv").write_text("\n".join(lists))
    refuses(ct, "split-exists", 2, "ct", "--import", str(tmp_path / "given.csv"))
    assert viptt(ct, "split", "ct", "--import", tmp_path / "given.csv", "--force").exit_code == 0
    assert json.loads(file.read_text())["splits"]["val"] == [f"TRN_{number:04d}" for number in range(4)]


# --- a store that is stale ----------------------------------------------------------------------


def test_a_stale_store_is_not_split(ct, file):
    ct.write_text(ct.read_text().replace("- 400", "- 300"))
    told = refuses(ct, "stale-store", 4)
    assert "window" in told
    assert viptt(ct, "split", "--stale-ok").exit_code == 0
    assert file.exists()


def test_fresh_is_the_same_recipe_and_the_same_classes(ct):
    (dataset,) = load_catalog(ct).datasets.values()
    header = open_store(dataset.store).header
    check_fresh(dataset.recipe_json, dataset.class_names, header, where="d.zarr")
    for recipe, classes in (
        ({**dataset.recipe_json, "spline_order": 1}, dataset.class_names),
        ({**dataset.recipe_json, "new": True}, dataset.class_names),
        (dataset.recipe_json, dataset.class_names[::-1]),
    ):
        with pytest.raises(IntegrityError, match=r"d\.zarr: stale-store: "):
            check_fresh(recipe, classes, header, where="d.zarr")
