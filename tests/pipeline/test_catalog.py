import json
import os
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.catalog import Catalog, json_schema, load_catalog, select
from pipeline.errors import ConfigError
from pipeline.files import canonical_json
from pipeline.recipe import CtRecipe, VideoRecipe
from pipeline.scale import scale_ct
from pipeline.yaml_nodes import plain, read_yaml

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).resolve().parents[2]
GOOD = """\
version: 1
datasets:
  ct:
    type: nifti
    path: raw
    labels: {file: labels.csv, id: FileName, label: TypeOfTB, group: PatientID}
    classes: {1: Infiltrative, 2: Focal}
    recipe: {shape: [5, 16, 17], spline_order: 1, window: [-1000, 400.5], dtype: float32}
    store: cache/ct.zarr
    split: {file: splits/ct.json, fractions: {train: 0.6, val: 0.2, test: 0.2}, seed: 7, group: none}
  video:
    type: video
    path: /data/ucf
    labels: {regex: '(?P<label>[a-z]+)'}
    classes: [Rowing, Mixing]
    store: /cache/clips
    split: {file: splits/video.json}
"""
CT = "datasets.ct"


@pytest.fixture
def catalog_file(tmp_path):
    """The catalog above with one text replaced by another."""

    def make(old: str = "", new: str = "") -> Path:
        assert old in GOOD
        file = tmp_path / "data_catalog.yaml"
        file.write_text(GOOD.replace(old, new, 1) if old else GOOD, "utf-8")
        return file

    return make


def test_catalog_becomes_typed_values(catalog_file):
    catalog = load_catalog(catalog_file())
    ct, video = catalog.datasets["ct"], catalog.datasets["video"]
    assert ct.recipe.model_dump() == {
        "shape": (5, 16, 17),
        "spline_order": 1,
        "dtype": "float32",
        "window": (-1000.0, 400.5),
    }
    assert ct.class_names == ("Infiltrative", "Focal")
    assert ct.classes == {"1": "Infiltrative", "2": "Focal"}
    assert (ct.split.fractions, ct.split.seed) == ({"train": 0.6, "val": 0.2, "test": 0.2}, 7)
    assert (ct.split.group, ct.labels.group, ct.name) == ("none", "PatientID", "ct")
    assert video.recipe.model_dump() == {
        "shape": (70, 224, 224),
        "spline_order": 3,
        "dtype": "float16",
        "frames": "all",
    }
    assert video.classes == {"Rowing": "Rowing", "Mixing": "Mixing"}
    assert (video.split.fractions, video.split.seed) == ({"train": 0.8, "val": 0.2}, 0)
    assert (video.split.group, video.name) == ("auto", "video")


def test_recipe_in_the_store_names_the_type_of_source(catalog_file):
    ct = load_catalog(catalog_file()).datasets["ct"]
    assert json.loads(json.dumps(ct.recipe_json)) == {
        "type": "nifti",
        "shape": [5, 16, 17],
        "spline_order": 1,
        "dtype": "float32",
        "window": [-1000.0, 400.5],
    }


def test_a_recipe_without_preset_stands_in_stores_as_it_always_did():
    """The digest of every store there is depends on these bytes."""
    before = {
        CtRecipe: '{"dtype":"float16","shape":[70,224,224],"spline_order":3,"window":[-1000.0,400.0]}',
        VideoRecipe: '{"dtype":"float16","frames":"all","shape":[70,224,224],"spline_order":3}',
    }
    for recipe, text in before.items():
        assert canonical_json(recipe().model_dump(mode="json")).decode() == text
        assert recipe().model_dump_json().count("preset") == 0


CT_RECIPE = "{shape: [5, 16, 17], spline_order: 1, window: [-1000, 400.5], dtype: float32}"
CT_2021 = {"preset": "viptt-2021", "shape": [70, 224, 224], "spline_order": 1, "dtype": "float32"}
SETTLED = {  # what is written, and what it changes of the preset
    "{preset: viptt-2021}": {},
    "{preset: viptt-2021, shape: [5, 16, 17]}": {"shape": [5, 16, 17]},
    "{preset: viptt-2021, dtype: float16}": {"dtype": "float16"},
    "{spline_order: 1, window: [-1000, 400], preset: viptt-2021}": {},
}


@pytest.mark.parametrize("written", SETTLED)
def test_a_preset_stands_for_all_of_a_scans_recipe_but_shape_and_dtype(catalog_file, written):
    recipe = load_catalog(catalog_file(CT_RECIPE, written)).datasets["ct"].recipe_json
    assert recipe == {"type": "nifti", **CT_2021, "window": [-1000.0, 400.0], **SETTLED[written]}


def test_a_preset_stands_for_all_of_a_clips_recipe_but_shape_and_dtype(catalog_file):
    file = catalog_file("store: /cache", "recipe: {preset: viptt-2021, frames: first}\n    store: /cache")
    recipe = load_catalog(file).datasets["video"].recipe_json
    assert recipe == {"type": "video", **CT_2021, "dtype": "uint8", "frames": "first"}


def test_values_are_frozen(catalog_file):
    ct = load_catalog(catalog_file()).datasets["ct"]
    for value, name in ((ct, "store"), (ct.recipe, "shape"), (ct.split, "seed"), (ct.labels, "file")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(value, name, None)


@pytest.mark.parametrize("spelling", ["relative", "absolute", "above"])
def test_relative_paths_start_at_the_catalog(catalog_file, tmp_path, monkeypatch, spelling):
    file = catalog_file()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below" if spelling == "above" else tmp_path)
    given = {"relative": Path(file.name), "absolute": file, "above": Path("..", file.name)}[spelling]
    ct, video = load_catalog(given).datasets.values()
    found = [ct.path, ct.labels.file, ct.store, ct.split.file]
    assert all(path.is_absolute() for path in found)
    wanted = [tmp_path / name for name in ("raw", "labels.csv", "cache/ct.zarr", "splits/ct.json")]
    assert [os.path.normpath(path) for path in found] == list(map(str, wanted))
    assert (video.path, video.store) == (Path("/data/ucf"), Path("/cache/clips"))


def test_quarantine_lies_beside_the_store(catalog_file, tmp_path):
    ct, video = load_catalog(catalog_file()).datasets.values()
    assert ct.quarantine_file == tmp_path / "cache/ct.quarantine.csv"
    assert video.quarantine_file == Path("/cache/clips.quarantine.csv")


REFUSED = {  # old text, new text, code, path in the document, part of the line
    "Y4 seed NO": ("seed: 7", "seed: NO", "bad-value", f"{CT}.split.seed", 'integer, not "NO"'),
    "Y4 seed on": ("seed: 7", "seed: on", "bad-value", f"{CT}.split.seed", 'integer, not "on"'),
    "Y4 seed true": ("seed: 7", "seed: true", "bad-value", f"{CT}.split.seed", "integer, not true"),
    "Y4 seed time": ("seed: 7", "seed: 12:30:45", "bad-value", f"{CT}.split.seed", 'not "12:30:45"'),
    "Y4 seed float": ("seed: 7", "seed: 1e-3", "bad-value", f"{CT}.split.seed", "integer, not 0.001"),
    "Y4 seed whole float": ("seed: 7", "seed: 7.0", "bad-value", f"{CT}.split.seed", "integer, not 7.0"),
    "Y4 seed date": ("seed: 7", "seed: 2021-05-06", "bad-value", f"{CT}.split.seed", "integer"),
    "Y4 seed nan": ("seed: 7", "seed: .nan", "bad-value", f"{CT}.split.seed", "integer, not NaN"),
    "Y4 seed huge": ("seed: 7", f"seed: {10**30}", "bad-value", f"{CT}.split.seed", "integer"),
    "Y4 seed octal": ("seed: 7", "seed: 010", "bad-value", f"{CT}.split.seed", 'integer, not "010"'),
    "Y4 window octal": ("-1000", "-01000", "bad-value", f"{CT}.recipe.window.0", 'number, not "-01000"'),
    "Y4 seed none": ("seed: 7", "seed:", "bad-value", f"{CT}.split.seed", "integer, not null"),
    "Y4 window nan": ("400.5", ".NaN", "bad-value", f"{CT}.recipe.window.1", "finite number"),
    "Y4 window infinite": ("-1000", "-.Inf", "bad-value", f"{CT}.recipe.window.0", "finite number"),
    "Y4 path is a number": ("path: raw", "path: 1", "bad-value", f"{CT}.path", "not 1"),
    "Y4 path is null": ("path: raw", "path: ~", "bad-value", f"{CT}.path", "not null"),
    "Y4 column is a number": ("id: FileName", "id: 0", "bad-value", f"{CT}.labels.table.id", "not 0"),
    "Y9 top": ("version: 1", "version: 1\nverson: 2", "unknown-key", "verson", "did you mean `version`?"),
    "Y9 dataset": ("path: raw", "path: raw\n    stroe: x", "unknown-key", f"{CT}.stroe", "mean `store`?"),
    "Y9 split": ("seed: 7", "sead: 7", "unknown-key", f"{CT}.split.sead", "did you mean `seed`?"),
    "Y9 recipe": ("window:", "windo:", "unknown-key", f"{CT}.recipe.windo", "did you mean `window`?"),
    "Y9 table": ("group: P", "grop: P", "unknown-key", f"{CT}.labels.grop", "did you mean `group`?"),
    "Y9 regex": ("{regex: ", "{rgx: 1, regex: ", "unknown-key", "datasets.video.labels.rgx", "`regex`?"),
    "Y9 table and regex": (
        "{regex: ",
        "{file: x, regex: ",
        "unknown-key",
        "datasets.video.labels.file",
        "regex",
    ),
    "Y9 nothing close": ("seed: 7", "qqq: 7", "unknown-key", f"{CT}.split.qqq", "file, fractions, seed"),
    "Y9 frames of a scan": ("window: [-1000, 400.5]", "frames: all", "unknown-key", f"{CT}.recipe", "frames"),
    "Y12 two sizes": ("[5, 16, 17]", "[5, 16]", "missing-key", f"{CT}.recipe.shape.2", "too few"),
    "Y12 four sizes": ("[5, 16, 17]", "[5, 6, 7, 8]", "bad-value", f"{CT}.recipe.shape", "at most 3"),
    "Y12 size 0": ("[5, 16, 17]", "[0, 16, 17]", "bad-value", f"{CT}.recipe.shape.0", "not 0"),
    "Y12 size huge": ("[5, 16, 17]", "[5, 16, 99999]", "bad-value", f"{CT}.recipe.shape.2", "4096"),
    "Y12 order 9": ("spline_order: 1", "spline_order: 9", "bad-value", f"{CT}.recipe.spline_order", "not 9"),
    "Y12 order -1": ("spline_order: 1", "spline_order: -1", "bad-value", f"{CT}.recipe.spline_order", "-1"),
    "Y12 share 1.2": ("test: 0.2", "test: 1.2", "bad-value", f"{CT}.split.fractions.test", "not 1.2"),
    "Y12 share 0": ("test: 0.2", "test: 0", "bad-value", f"{CT}.split.fractions.test", "not 0"),
    "Y12 shares of 1.1": ("test: 0.2", "test: 0.3", "bad-value", f"{CT}.split.fractions", "1.1 instead of 1"),
    "one part": (
        "{train: 0.6, val: 0.2, test: 0.2}",
        "{train: 0.999999999999}",
        "bad-value",
        f"{CT}.split.fractions",
        "at least 2",
    ),
    "part with a slash": ("test: 0.2", "../test: 0.2", "bad-value", f"{CT}.split.fractions", "pattern"),
    "Y12 seed -1": ("seed: 7", "seed: -1", "bad-value", f"{CT}.split.seed", "not -1"),
    "window turned": ("[-1000, 400.5]", "[400, -1000]", "bad-value", f"{CT}.recipe.window", "lower"),
    "window empty": ("[-1000, 400.5]", "[40, 40]", "bad-value", f"{CT}.recipe.window", "lower"),
    **{
        f"window {window}": ("[-1000, 400.5]", window, "bad-value", f"{CT}.recipe.window", "float32")
        for window in (
            "[0, 1e-300]",
            "[0, 1e-45]",
            "[0, 1e-39]",
            "[-1.7e308, 1.7e308]",
            "[-1e39, 0]",
            "[0, 1.7e308]",
            "[1000000, 1000000.001]",
        )
    },
    "dtype": ("dtype: float32", "dtype: int8", "bad-value", f"{CT}.recipe.dtype", "'float16'"),
    "preset": ("{shape", "{preset: viptt-2022, shape", "bad-value", f"{CT}.recipe.preset", "'viptt-2021'"),
    "preset with order 3": (
        "[5, 16, 17], spline_order: 1, window: [-1000, 400.5]",
        "[5, 16, 17], spline_order: 3, preset: viptt-2021",
        "bad-value",
        f"{CT}.recipe.spline_order",
        "the preset viptt-2021 stands for 1 here, not 3",
    ),
    "preset with another window": (
        "{shape",
        "{preset: viptt-2021, shape",
        "bad-value",
        f"{CT}.recipe.window",
        "stands for [-1000.0, 400.0] here, not [-1000, 400.5]",
    ),
    "preset with all frames": (
        "store: /cache",
        "recipe: {preset: viptt-2021, frames: all}\n    store: /cache",
        "bad-value",
        "datasets.video.recipe.frames",
        'stands for "first" here, not "all"',
    ),
    "every frame": (
        "store: /cache",
        "recipe: {frames: every 1}\n    store: /cache",
        "bad-value",
        "datasets.video.recipe.frames",
        'the frames are `all`, `first`, or `every N` with an N from 2 to 9999, not "every 1"',
    ),
    "frames as a number": (
        "store: /cache",
        "recipe: {frames: 3}\n    store: /cache",
        "bad-value",
        "datasets.video.recipe.frames",
        "not 3",
    ),
    "preset is a list": (
        "{shape",
        "{preset: [viptt-2021], shape",
        "bad-value",
        f"{CT}.recipe.preset",
        "not [",
    ),
    "version": ("version: 1", "version: 2", "bad-value", "version", "not 2"),
    "version as text": ("version: 1", "version: '1'", "bad-value", "version", '"1"'),
    "no version": ("version: 1\n", "", "missing-key", "version", "`version` is missing"),
    "no path": ("    path: raw\n", "", "missing-key", f"{CT}.path", "`path` is missing"),
    "no label": ("label: TypeOfTB, ", "", "missing-key", f"{CT}.labels", "`label` is missing"),
    "no split file": ("file: splits/ct.json, ", "", "missing-key", f"{CT}.split.file", "`file` is missing"),
    "type": ("type: nifti", "type: nifty", "unknown-type", CT, "did you mean `nifti`"),
    "no type": ("    type: nifti\n", "", "unknown-type", CT, "nifti, video"),
    "dataset is text": ("datasets:\n", "datasets:\n  other: x\n", "bad-value", "datasets.other", '"x"'),
    "dataset is empty": ("datasets:\n", "datasets:\n  other:\n", "bad-value", "datasets.other", "null"),
    "dataset name": ("  ct:", "  c t:", "bad-value", "datasets.c t", "pattern"),
    "dataset name above": ("  ct:", "  ../ct:", "bad-value", "datasets.../ct", "pattern"),
    "no dataset": (GOOD, "version: 1\ndatasets: {}", "bad-value", "datasets", "at least 1"),
    "datasets are a list": (GOOD, "version: 1\ndatasets: []", "bad-value", "datasets", "not []"),
    "recipe is empty": ("{shape: [5, 16, 17]", "\n    unused: {a: [1]", "bad-value", f"{CT}.recipe", "null"),
    "labels are text": ("{regex: '(?P<label>[a-z]+)'}", "x", "bad-value", "datasets.video.labels", '"x"'),
    "regex broken": ("[a-z]+)", "[a-z+)", "bad-value", "datasets.video.labels", "not a regular expression"),
    "regex names no label": ("?P<label>", "?P<lable>", "bad-value", "datasets.video.labels", "(?P<label>…)"),
    "no class": ("[Rowing, Mixing]", "[]", "bad-value", "datasets.video.classes", "list of class names"),
    "class twice": ("[Rowing, Mixing]", "[a, b, a]", "bad-value", "datasets.video.classes", "named twice"),
    "class name twice": ("2: Focal", "2: Infiltrative", "bad-value", f"{CT}.classes", "named twice"),
    "class is a number": ("[Rowing, Mixing]", "[a, 1]", "bad-value", "datasets.video.classes", "quotes"),
    "class is a list": ("[Rowing, Mixing]", "[[a], [b]]", "bad-value", "datasets.video.classes", "text"),
    "class is a map": ("[Rowing, Mixing]", "[{a: b}]", "bad-value", "datasets.video.classes", "text"),
    "class is empty": ("2: Focal", "2: ''", "bad-value", f"{CT}.classes", "text"),
    "classes are text": ("[Rowing, Mixing]", "Rowing", "bad-value", "datasets.video.classes", "list"),
    "V12 path http": (
        "path: raw",
        "path: http://127.0.0.1:9/ct",
        "not-a-local-file",
        f"{CT}.path",
        "http://127.0.0.1:9/ct is an address",
    ),
    "V12 path s3": ("path: raw", "path: s3://bucket/ct", "not-a-local-file", f"{CT}.path", "fetch it"),
    "V12 path file": ("path: raw", "path: file:///ct", "not-a-local-file", f"{CT}.path", "local files"),
    "V12 chain": ("path: raw", "path: 'cache::s3://b'", "not-a-local-file", f"{CT}.path", "local files"),
    "V12 store": ("cache/ct.zarr", "memory://ct", "not-a-local-file", f"{CT}.store", "local files"),
    "V12 table": (
        "file: labels.csv",
        "file: 'http://h/l.csv'",
        "not-a-local-file",
        f"{CT}.labels.f",
        "local",
    ),
    "V12 split": ("splits/ct.json", "'http://h/s.json'", "not-a-local-file", f"{CT}.split.f", "local"),
    "path with NUL": ("path: raw", 'path: "r\\0w"', "bad-value", f"{CT}.path", "NUL"),
    "variable not there": ("path: raw", "path: $VIPTT_NO/x", "undefined-variable", f"{CT}.path", "$VIPTT_NO"),
    "variable in braces": (
        "path: raw",
        "path: '${VIPTT_NO}'",
        "undefined-variable",
        f"{CT}.path",
        "VIPTT_NO",
    ),
    "variable of a table": (
        "labels.csv",
        "$VIPTT_NO.csv",
        "undefined-variable",
        f"{CT}.labels",
        "$VIPTT_NO has no value",
    ),
    "nobody's home": ("path: raw", "path: ~viptt-nobody/x", "undefined-variable", f"{CT}.path", "no home"),
    "glob above": (
        "path: raw",
        "path: raw\n    include: [../x]",
        "bad-value",
        f"{CT}.include.0",
        "without `..`",
    ),
    "glob is a text": ("path: raw", "path: raw\n    exclude: x", "bad-value", f"{CT}.exclude", "not"),
    "others": ("id: FileName", "others: drop, id: FileName", "bad-value", f"{CT}.labels.others", "leave-out"),
    "type nii": ("type: nifti", "type: nii", "unknown-type", CT, "did you mean `nifti`"),
    "store with ESC": ("cache/ct.zarr", '"c\\et"', "bad-value", f"{CT}.store", "control"),
    "class with ESC": ("2: Focal", '2: "F\\e"', "bad-value", f"{CT}.classes", "control"),
    "value of a class with a tab": ("2: Focal", '"2\\t": Focal', "bad-value", f"{CT}.classes", "control"),
    "store with NUL": ("cache/ct.zarr", '"c\\0t"', "bad-value", f"{CT}.store", "NUL"),
    "table with NUL": ("labels.csv", '"l\\0s"', "bad-value", f"{CT}.labels", "NUL"),
}


@pytest.mark.parametrize(("old", "new", "code", "path", "part"), REFUSED.values(), ids=REFUSED)
def test_refuses_with_line_and_path_in_the_document(catalog_file, refusal, old, new, code, path, part):
    file = catalog_file(old, new)
    line = file.read_text()[: GOOD.index(old)].count("\n") + 1
    found = refusal(ConfigError, lambda: load_catalog(file))
    path = path.replace(".labels.table", ".labels")
    about = [
        problem
        for problem in found
        if problem.code == code and problem.where.startswith(f"{file}:") and f"({path}" in problem.where
    ]
    assert about, [str(problem) for problem in found]
    assert part in str(about[0])
    told = int(about[0].where.removeprefix(f"{file}:").split(" ")[0])
    assert line - 2 <= told <= line + 1


@pytest.mark.parametrize("window", [[-1000, 400], [0, 3e-39], [-3e38, 3e38], [40.0, 40.001], [0, 1e38]])
def test_windows_that_are_taken_give_values_from_0_to_1(window):
    recipe = CtRecipe.model_validate_json(
        json.dumps({"shape": [3, 4, 5], "window": window, "dtype": "float32"})
    )
    hounsfield = np.random.default_rng(0).normal(0, 1000, (5, 6, 7)).astype(np.float32)
    volume = scale_ct(hounsfield, recipe)
    assert np.isfinite(volume).all()
    assert 0 <= volume.min() <= volume.max() <= 1


@pytest.mark.parametrize("path", ["a:b", "c:/d", "http", "x/http:/y", "v:1/s"])
def test_names_with_a_colon_are_local(catalog_file, path):
    load_catalog(catalog_file("path: raw", f"path: '{path}'"))


def test_a_dataset_may_be_named_like_a_type(tmp_path, refusal):
    file = tmp_path / "data_catalog.yaml"
    file.write_text(GOOD.replace("  video:", "  v:").replace("  ct:", "  video:").replace("window", "windw"))
    (problem,) = refusal(ConfigError, lambda: load_catalog(file))
    assert "(datasets.video.recipe.windw)" in problem.where
    assert problem.remedy == "did you mean `window`?"


def test_all_faults_are_told_at_once(tmp_path, refusal):
    text = GOOD.replace("[5, 16, 17]", "[70, 224]").replace("spline_order: 1", "spline_order: 9")
    text = text.replace("test: 0.2", "test: 1.2").replace("seed: 7", "sead: -1").replace("[Rowing", "[1")
    file = tmp_path / "data_catalog.yaml"
    file.write_text(text + "workers: -1\n")
    found = refusal(ConfigError, lambda: load_catalog(file))
    assert sorted(problem.where.removeprefix(str(file)) for problem in found) == [
        ":10 (datasets.ct.split.fractions.test)",
        ":10 (datasets.ct.split.sead)",
        ":15 (datasets.video.classes)",
        ":18 (workers)",
        ":8 (datasets.ct.recipe.shape.2)",
        ":8 (datasets.ct.recipe.spline_order)",
    ]


def test_select_keeps_the_order_asked_for(catalog_file):
    catalog = load_catalog(catalog_file())
    assert [dataset.name for dataset in select(catalog, ())] == ["ct", "video"]
    assert [dataset.name for dataset in select(catalog, ("video", "ct"))] == ["video", "ct"]


def test_select_tells_all_unknown_names(catalog_file, refusal):
    catalog = load_catalog(catalog_file())
    found = refusal(ConfigError, lambda: select(catalog, ("ct", "vide", "zzz")))
    assert [(problem.where, problem.code) for problem in found] == [
        ("vide", "unknown-dataset"),
        ("zzz", "unknown-dataset"),
    ]
    assert [problem.remedy for problem in found] == ["did you mean `video`?", "use one of: ct, video"]


# --- the JSON schema ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_repositorys_catalog_loads_and_fits_the_schema(validator):
    file = REPOSITORY / "data_catalog.yaml"
    catalog = load_catalog(file)
    assert list(catalog.datasets) == ["imageclef_tb", "ucf50", "ultrasound", "covidx_ct"]
    assert [len(dataset.classes) for dataset in catalog.datasets.values()] == [5, 10, 7, 3]
    shapes = [dataset.recipe.shape for dataset in catalog.datasets.values()]
    assert shapes == [(70, 224, 224), (70, 224, 224), (1, 256, 256), (1, 224, 224)]
    validator.validate(plain(read_yaml(file)))


def test_the_catalog_of_real_files_fits_the_schema(validator, shared):
    load_catalog(shared / "data_catalog.yaml")
    validator.validate(plain(read_yaml(shared / "data_catalog.yaml")))


def test_the_schema_in_docs_is_this_one():
    text = (REPOSITORY / "docs/data_catalog.schema.json").read_text("utf-8")
    assert json.loads(text) == json_schema()


def test_the_schema_takes_the_catalog_above(validator):
    validator.validate(yaml.safe_load(GOOD.replace("1: Inf", "'1': Inf").replace("2: Focal", "'2': Focal")))


SCHEMA_SEES = [
    name
    for name in REFUSED
    if name.startswith(("Y9", "Y12 or", "Y12 si", "Y12 two", "Y12 four", "dtype", "no "))
]


@pytest.mark.parametrize("name", SCHEMA_SEES)
def test_an_editor_sees_the_fault_too(catalog_file, validator, name):
    old, new, *_ = REFUSED[name]
    assert list(validator.iter_errors(plain(read_yaml(catalog_file(old, new)))))


def test_the_schema_hides_what_is_not_in_the_document(validator):
    document = plain(yaml.compose(GOOD))
    document["datasets"]["ct"]["name"] = "x"
    assert list(validator.iter_errors(document))


# --- any document -------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("../x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = [
    (),
    ("version",),
    ("datasets",),
    ("datasets", "ct"),
    ("datasets", "video"),
    ("datasets", "video", "labels"),
] + [
    ("datasets", "ct", *path)
    for path in [
        ("type",),
        ("path",),
        ("labels",),
        ("labels", "file"),
        ("classes",),
        ("classes", "1"),
        ("recipe",),
        ("recipe", "shape"),
        ("recipe", "window"),
        ("store",),
        ("split",),
        ("split", "fractions"),
        ("split", "seed"),
    ]
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(KEYS), value=VALUES, key=st.none() | st.text(max_size=6))
def test_any_value_anywhere_is_taken_or_refused(tmp_path, path, value, key):
    document = plain(yaml.compose(GOOD))
    at = document
    for step in path[:-1]:
        at = at[step]
    if path:
        at[path[-1]] = value
    if isinstance(at, dict) and key is not None:
        at[key] = value
    check_taken_or_refused(tmp_path / "data_catalog.yaml", yaml.safe_dump(document, sort_keys=False))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, len(GOOD)),
    length=st.integers(0, 40),
    text=st.text("&*!<>|?:-[]{}'\"#\n ~.0e", max_size=6) | st.text(max_size=6),
)
def test_any_edit_of_the_text_is_taken_or_refused(tmp_path, start, length, text):
    edited = GOOD[:start] + text + GOOD[start + length :]
    check_taken_or_refused(tmp_path / "data_catalog.yaml", edited)


def check_taken_or_refused(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        catalog = load_catalog(file)
    except ConfigError as error:
        lines = str(error).splitlines()
        wrong = [line for line in lines if not line.startswith(str(file)) or " → " not in line]
        assert wrong == []
    else:
        assert isinstance(catalog, Catalog)
        assert all(dataset.store.is_absolute() for dataset in catalog.datasets.values())


def test_homes_and_variables_in_paths(catalog_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VIPTT_DATA", "/mnt/data")
    text = catalog_file().read_text()
    text = text.replace("path: raw", "path: ~/raw").replace(
        "file: labels.csv", "file: $VIPTT_DATA/labels.csv"
    )
    text = text.replace("cache/ct.zarr", "'${VIPTT_DATA}/ct.zarr'").replace("splits/ct.json", "a/~/$$b$.json")
    (tmp_path / "c.yaml").write_text(text)
    ct = load_catalog(tmp_path / "c.yaml").datasets["ct"]
    assert (ct.path, ct.store) == (tmp_path / "home/raw", Path("/mnt/data/ct.zarr"))
    assert (ct.labels.file, ct.split.file) == (Path("/mnt/data/labels.csv"), tmp_path / "a/~/$b$.json")


def test_a_variable_that_is_empty_is_not_taken_for_the_root(catalog_file, monkeypatch, refusal):
    monkeypatch.setenv("VIPTT_NO", "")
    file = catalog_file("path: raw", "path: $VIPTT_NO/raw")
    (problem,) = refusal(ConfigError, lambda: load_catalog(file))
    assert problem.code == "undefined-variable"


def test_a_variable_may_not_hide_an_address(catalog_file, monkeypatch, refusal):
    monkeypatch.setenv("VIPTT_NO", "s3://bucket")
    file = catalog_file("path: raw", "path: $VIPTT_NO/raw")
    (problem,) = refusal(ConfigError, lambda: load_catalog(file))
    assert problem.code == "not-a-local-file"
