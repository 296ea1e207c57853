"""Lists of other tools: round trips lose nothing, real lists read, nonsense is refused."""

import csv
import hashlib
import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, IntegrityError
from pipeline.split import check_split, choose_fold, equal_folds, export_split, import_split, make_split
from pipeline.store import Header, Row, Store

pytestmark = pytest.mark.unit

THREE = {"train": 0.6, "val": 0.2, "test": 0.2}
CLASSES = ("Mixing", "Rowing", "Skijet")
FORMATS = ["nnunet", "ucf", "covidx", "monai", "csv"]


def row_of(sample: str, label: int, group: str, source: str, facts: dict | None = None) -> Row:
    sha256 = hashlib.sha256(sample.encode()).hexdigest()
    return Row(
        sample, label, group, source, sha256, sha256[::-1], json.dumps(facts or {"shape": [9, 120, 160]})
    )


def store_of(rows: list[Row], classes: tuple[str, ...] = CLASSES) -> Store:
    header = Header("demo", {"shape": [2, 3, 4], "dtype": "float16"}, classes, {})
    return Store(Path("demo.zarr"), header, tuple(sorted(rows, key=lambda row: row.id)), "sha256:demo", ())


def clips() -> Store:
    return store_of(
        [
            row_of(
                f"v_{CLASSES[c]}_g{g:02d}_c{k:02d}",
                c,
                f"{CLASSES[c]}_g{g:02d}",
                f"{CLASSES[c]}/v_{CLASSES[c]}_g{g:02d}_c{k:02d}.avi",
            )
            for c in range(3)
            for g in range(10)
            for k in range(1, 5)
        ]
    )


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("fractions", [{"train": 0.8, "val": 0.2}, THREE], ids=["two", "three"])
def test_a_round_trip_loses_nothing(form, fractions, tmp_path):
    store = clips()
    split = make_split(store, fractions=fractions)
    paths = export_split(split, store, form, tmp_path)
    back = import_split(paths[-1], store)
    assert back.parts == split.parts
    assert (back.counts, back.groups, back.class_weights) == (split.counts, split.groups, split.class_weights)
    assert check_split(back, store) == []
    again = export_split(back, store, form, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


@pytest.mark.parametrize("form", ["nnunet", "monai", "csv", "ucf"])
@pytest.mark.parametrize("test", [False, True])
def test_a_round_trip_of_folds_loses_nothing(form, test, tmp_path):
    store = clips()
    frozen = make_split(store, fractions=THREE) if test else None
    split = make_split(store, fractions=equal_folds(4), frozen=frozen)
    back = import_split(export_split(split, store, form, tmp_path)[-1], store)
    assert back.parts == split.parts


@pytest.mark.parametrize("form", ["nnunet", "monai"])
def test_one_fold_of_several_can_be_taken(form, tmp_path):
    store = clips()
    split = make_split(store, fractions=equal_folds(4), frozen=make_split(store, fractions=THREE))
    (path,) = export_split(split, store, form, tmp_path)
    wanted = choose_fold(split, 2)
    taken = import_split(path, store, fold=2)
    assert {name: sorted(ids) for name, ids in taken.parts.items()} == {
        name: sorted(ids) for name, ids in wanted.parts.items()
    }


def test_a_csv_holds_no_formula_and_gives_the_names_back(tmp_path):
    names = ["=cmd|' /C calc'!A0", "+1", "-x", "@y", "'=z", "'plain", 'a,"b"', " c"]
    store = store_of([row_of(name, 0, "", name) for name in names])
    split = make_split(store, fractions={"train": 0.5, "val": 0.5})
    (path,) = export_split(split, store, "csv", tmp_path)
    cells = [line["id"] for line in csv.DictReader(path.read_text().splitlines())]
    assert not [cell for cell in cells if cell[0] in "=+-@"]
    assert import_split(path, store).parts == split.parts


# --- forms written by hand ----------------------------------------------------------------------


def two_clips() -> Store:
    return store_of(
        [
            row_of(f"v_{name}_g01_c01", index, "", f"{name}/v_{name}_g01_c01.avi")
            for index, name in enumerate(CLASSES)
        ]
    )


def test_the_forms_are_those_of_the_tools(tmp_path):
    store = two_clips()
    (tmp_path / "in.csv").write_text(
        "id,part\nv_Mixing_g01_c01,train\nv_Rowing_g01_c01.avi,val\nSkijet/v_Skijet_g01_c01.avi,test\n"
    )
    split = import_split(tmp_path / "in.csv", store)

    def texts(form: str) -> dict[str, str]:
        return {path.name: path.read_text() for path in export_split(split, store, form, tmp_path / form)}

    assert texts("ucf") == {
        "classInd.txt": "1 Mixing\n2 Rowing\n3 Skijet\n",
        "trainlist01.txt": "Mixing/v_Mixing_g01_c01.avi 1\n",
        "vallist01.txt": "Rowing/v_Rowing_g01_c01.avi 2\n",
        "testlist01.txt": "Skijet/v_Skijet_g01_c01.avi\n",
    }
    assert texts("covidx")["train_COVIDx_CT-demo.txt"] == "v_Mixing_g01_c01.avi 0 0 0 160 120\n"
    assert json.loads(texts("nnunet")["splits_final.json"]) == [
        {"train": ["v_Mixing_g01_c01"], "val": ["v_Rowing_g01_c01"], "test": ["v_Skijet_g01_c01"]}
    ]
    datalist = json.loads(texts("monai")["demo_datalist.json"])
    assert datalist["labels"] == {"0": "Mixing", "1": "Rowing", "2": "Skijet"}
    assert [(item["image"], item["label"], item["fold"]) for item in datalist["training"]] == [
        ("Mixing/v_Mixing_g01_c01.avi", 0, 1),
        ("Rowing/v_Rowing_g01_c01.avi", 1, 0),
    ]
    assert [item["image"] for item in datalist["testing"]] == ["Skijet/v_Skijet_g01_c01.avi"]


def test_lists_that_others_wrote_are_read(tmp_path):
    store = two_clips()
    plain = {
        "training": [
            {"image": "./Mixing/v_Mixing_g01_c01.avi", "label": 0, "fold": 0},
            {"image": "v_Rowing_g01_c01.avi", "fold": 1},
        ],
        "testing": ["Skijet/v_Skijet_g01_c01.avi"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(plain))
    parts = import_split(tmp_path / "dataset.json", store).parts
    assert parts == {
        "fold-0": ("v_Mixing_g01_c01",),
        "fold-1": ("v_Rowing_g01_c01",),
        "test": ("v_Skijet_g01_c01",),
    }
    assert import_split(tmp_path / "dataset.json", store, fold=1).parts["val"] == ("v_Rowing_g01_c01",)
    names = [row.id for row in store.rows]
    overlapping = [{"train": names[:1], "val": names[1:]}, {"train": names[:2], "val": names[2:]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(overlapping))
    with pytest.raises(ConfigError, match="split-folds"):
        import_split(tmp_path / "splits_final.json", store)
    assert import_split(tmp_path / "splits_final.json", store, fold=1).parts["val"] == tuple(names[2:])
    with pytest.raises(ConfigError, match="no-such-fold"):
        import_split(tmp_path / "splits_final.json", store, fold=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("splits_final.json", '[{"train": ["a"]}]'),
        ("splits_final.json", "[]"),
        ("splits_final.json", '[{"train": ["a"], "train": [], "val": []}]'),
        ("splits_final.json", '[{"train": ["v_Mixing_g01_c01"], "val": ["stranger"]}]'),
        ("splits_final.json", '[{"train": ["v_Mixing_g01_c01"], "val": ["v_Mixing_g01_c01"]}]'),
        ("dataset.json", '{"training": [{"label": 1}]}'),
        ("dataset.json", '{"training": [7]}'),
        ("other.json", '{"a": 1}'),
        ("other.json", "{"),
        ("list.csv", "name,part\na,train\n"),
        ("list.csv", "id,part\na,\n"),
        ("train_COVIDx_CT-1.txt", "a.png 0 1 2 3\n"),
        ("notes.txt", "a\n"),
        ("table.xlsx", ""),
    ],
)
def test_lists_that_make_no_sense_are_refused_in_one_line(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(IntegrityError) as caught:
        import_split(tmp_path / name, two_clips())
    assert len(str(caught.value).splitlines()) == 1


def test_exports_that_have_no_place_for_a_part_are_refused(tmp_path):
    store = clips()
    split = make_split(store, fractions={"train": 0.5, "val": 0.3, "calibration": 0.2})
    for form in ("nnunet", "monai"):
        with pytest.raises(ConfigError, match="no place for the splits"):
            export_split(split, store, form, tmp_path)
    with pytest.raises(ConfigError, match="use one of nnunet, ucf"):
        export_split(split, store, "arff", tmp_path)
    assert import_split(export_split(split, store, "ucf", tmp_path)[-1], store).parts == split.parts


# --- real lists ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels(shared) -> Path:
    return shared / "labels"


@pytest.mark.slow
def test_covidx_lists_come_in_and_go_out_line_for_line(labels, tmp_path):
    lists = {part: labels / f"covidx__{part}_COVIDx_CT-1.txt" for part in ("train", "val", "test")}
    if not all(path.is_file() for path in lists.values()):
        pytest.skip("the real COVIDx-CT lists are not here")
    lines = {part: path.read_text().splitlines() for part, path in lists.items()}
    fields = [line.split() for part in lines.values() for line in part]
    rows = [
        row_of(
            name.removesuffix(".png"),
            int(label),
            patient(name),
            f"2A_images/{name}",
            {"box": list(map(int, box))},
        )
        for name, label, *box in fields
    ]
    store = store_of(rows, ("Normal", "CP", "NCP"))
    split = import_split(lists["val"], store)
    assert {part: list(counts.values()) for part, counts in split.counts.items()} == {
        "train": [27201, 22061, 12520],  # the table of COVIDNet-CT's documentation
        "val": [9107, 7400, 4529],
        "test": [9450, 7395, 4346],
    }
    assert check_split(split, store) == []  # no patient on two sides
    out = {path.name.split("_")[0]: path for path in export_split(split, store, "covidx", tmp_path)}
    for part, path in lists.items():
        assert out[part].read_bytes() == path.read_bytes()


def patient(name: str) -> str:
    """`NCP_<patient>_<scan>_<slice>.png`"""
    return "_".join(name.split("_")[:2])


def test_a_real_table_can_be_drawn_and_listed(labels, tmp_path):
    table = labels / "covidctmd__Index.csv"
    if not table.is_file():
        pytest.skip("the real table is not here")
    lines = [line for line in csv.DictReader(table.read_text().splitlines()) if line["Folder/ID"]]
    classes = tuple(sorted({line["Diagnosis"] for line in lines}))
    rows = [
        row_of(line["Folder/ID"], classes.index(line["Diagnosis"]), "", line["Folder/ID"]) for line in lines
    ]
    store = store_of(rows, classes)
    split = make_split(store, fractions={"train": 0.8, "val": 0.2})
    for form in ("nnunet", "monai", "csv"):
        assert import_split(export_split(split, store, form, tmp_path)[-1], store).parts == split.parts
