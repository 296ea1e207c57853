"""Nothing that a catalog writes lies in the place of anything else that it names."""

import pytest

from pipeline.catalog import check_output, load_catalog
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit

DATASET = """\
  {name}:
    type: nifti
    path: {name}_raw
    labels: {{file: {name}.csv, id: id, label: label}}
    classes: [A, B]
    store: cache/{name}.zarr
    split: {{file: {name}.json}}
"""


@pytest.fixture
def load(tmp_path):
    """Load a catalog of the datasets a and b in which some texts are replaced; all places are free before."""

    def make(changes):
        text = "version: 1\ndatasets:\n" + DATASET.format(name="a") + DATASET.format(name="b")
        for old, new in changes.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        file = tmp_path / "catalog.yaml"
        file.write_text(text)
        return load_catalog(file)

    return make


def test_places_apart_are_taken(load):
    load({})
    load({"cache/a.zarr": "a_raw.zarr", "a.json": "a_raw/split.json", "a.csv": "a_raw/labels.csv"})
    load({"a_raw": "raw", "b_raw": "raw/b", "b.csv": "a.csv"})  # inputs may share what they like


COLLISIONS = {  # what is changed; key of the output, code, and key of the other place
    "split over own labels": ({"a.json": "a.csv"}, "a.split.file", "shared-output", "a.labels.file"),
    "split over other labels": ({"a.json": "b.csv"}, "a.split.file", "shared-output", "b.labels.file"),
    "split over the catalog": ({"a.json": "catalog.yaml"}, "a.split.file", "shared-output", "catalog"),
    "split over the sources": ({"a.json": "a_raw"}, "a.split.file", "shared-output", "a.path"),
    "split over a source": ({"a.json": "a_raw/x.NII.gz"}, "a.split.file", "nested-output", "a.path"),
    "split over a split": ({"b.json": "./x/../a.json"}, "b.split.file", "shared-output", "a.split.file"),
    "split over a store": ({"b.json": "cache/a.zarr"}, "b.split.file", "shared-output", "a.store"),
    "split in a store": ({"a.json": "cache/b.zarr/a.json"}, "a.split.file", "nested-output", "b.store"),
    "split in own store": ({"a.json": "cache/a.zarr/a.json"}, "a.split.file", "nested-output", "a.store"),
    "quarantine over labels": ({"a.csv": "cache/a.quarantine.csv"}, "a.store", "shared-output", "a.labels"),
    "quarantine over a split": ({"a.json": "cache/b.quarantine.csv"}, "b.store", "shared-output", "a.split"),
    "statistics over labels": ({"a.csv": "b.statistics.json"}, "b.split", "shared-output", "a.labels"),
    "statistics over a split": ({"a.json": "b.statistics.json"}, "b.split", "shared-output", "a.split"),
    "throughput over labels": ({"a.csv": "cache/a.build.json"}, "a.store", "shared-output", "a.labels"),
    "d.zarr beside d": ({"cache/b.zarr": "cache/a"}, "b.store", "shared-output", "a.store"),
    "features": ({"cache/b.zarr": "cache/a.features.zarr"}, "b.store", "shared-output", "a.store"),
    "split in features": ({"a.json": "cache/a.features.zarr/a"}, "a.split", "nested-output", "a.store"),
    "staging": ({"a.json": "cache/b.zarr.building/x"}, "a.split.file", "nested-output", "b.store"),
    "one store": ({"cache/b.zarr": "./cache/a.zarr"}, "b.store", "shared-output", "a.store"),
    "store in a store": ({"cache/b.zarr": "cache/a.zarr/b.zarr"}, "b.store", "nested-output", "a.store"),
    "store in sources": ({"cache/a.zarr": "a_raw/s.zarr"}, "a.store", "store-in-sources", "a.path"),
    "store is the sources": ({"cache/a.zarr": "a_raw"}, "a.store", "store-in-sources", "a.path"),
    "store in others' sources": ({"cache/a.zarr": "b_raw/x/s"}, "a.store", "store-in-sources", "b.path"),
    "store through a link": ({"cache/a.zarr": "link/s.zarr"}, "a.store", "store-in-sources", "a.path"),
    "split through a link": ({"a.json": "link/../a.csv"}, "a.split.file", "shared-output", "a.labels.file"),
    "sources in a store": ({"a_raw": "cache/b.zarr/raw"}, "b.store", "sources-in-store", "a.path"),
    "labels in a store": ({"a.csv": "cache/a.zarr/a.csv"}, "a.store", "nested-output", "a.labels.file"),
    "all in a store": ({"cache/a.zarr": "."}, "a.store", "nested-output", "catalog"),
    "store in a table": ({"cache/a.zarr": "a.csv/s.zarr"}, "a.store", "nested-output", "a.labels.file"),
}


@pytest.mark.parametrize(("changes", "key", "code", "other"), COLLISIONS.values(), ids=COLLISIONS)
def test_collisions_are_refused(load, tmp_path, refusal, changes, key, code, other):
    (tmp_path / "a_raw").mkdir()
    (tmp_path / "link").symlink_to("a_raw")
    found = refusal(ConfigError, lambda: load(changes))
    about = [problem for problem in found if problem.code == code and f"({other}" in problem.reason]
    assert about, [str(problem) for problem in found]
    assert f"(datasets.{key}" in about[0].where
    line = int(about[0].where.removeprefix(f"{tmp_path}/catalog.yaml:").split(" ")[0])
    assert (
        (tmp_path / "catalog.yaml").read_text().splitlines()[line - 1].lstrip().startswith(key.split(".")[1])
    )


def test_one_problem_for_two_keys_however_many_of_their_places_collide(load, refusal):
    (problem,) = refusal(ConfigError, lambda: load({"cache/b.zarr": "cache/a.zarr"}))
    assert problem.code == "shared-output"


def test_all_collisions_are_told_at_once(load, refusal):
    changes = {"a.json": "a.csv", "b.json": "b.csv", "cache/b.zarr": "cache/a.zarr/b"}
    found = refusal(ConfigError, lambda: load(changes))
    assert [problem.code for problem in found] == ["shared-output", "shared-output", "nested-output"]


@pytest.mark.parametrize(("old", "key"), [("cache/a.zarr", "a.store"), ("a.csv", "a.labels.file")])
def test_a_link_to_itself_is_no_place(load, tmp_path, refusal, old, key):
    (tmp_path / "loop").symlink_to("loop")
    (problem, *_) = refusal(ConfigError, lambda: load({old: "loop"}))
    assert problem.code == "link-loop"
    assert key in problem.where


@pytest.mark.parametrize("root", ["/", "/..", "/tmp/.."])
def test_the_root_is_no_store(load, refusal, root):
    found = refusal(ConfigError, lambda: load({"cache/a.zarr": root}))
    assert (found[0].code, "a.store" in found[0].where) == ("bad-value", True)


def test_a_name_that_is_too_long_is_left_to_those_who_use_it(load):
    load({"cache/a.zarr": "x" * 300})


RUNS = {
    "runs/a": None,
    "cache": "a.store",
    "cache/a.zarr/run": "a.store",
    "a_raw/run": "a.path",
    "b.json": "b.split.file",
    ".": "catalog",
}


@pytest.mark.parametrize(("run", "other"), RUNS.items())
def test_a_run_is_a_place_of_its_own(load, tmp_path, refusal, run, other):
    catalog = load({})
    if other is None:
        check_output(tmp_path / run, catalog)
        return
    found = refusal(ConfigError, lambda: check_output(tmp_path / run, catalog))
    assert any(f"({other})" in problem.reason for problem in found)
    assert all("--run" in str(problem) for problem in found)
