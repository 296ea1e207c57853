"""What a build would do is told before, and a build does just that; a limit takes nothing away."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cli import main
from pipeline.build import Options, build, make_plan, preview
from pipeline.catalog import load_catalog
from pipeline.store import open_store

SYNC = Options(scheduler="sync")


def only_dataset(catalog: Path) -> Any:
    (dataset,) = load_catalog(catalog).datasets.values()
    return dataset


def run(catalog: Path, options: Options = SYNC) -> Any:
    return build(make_plan(only_dataset(catalog), options), options)


@pytest.fixture
def built(tmp_path, ct_dataset) -> Path:
    """The catalog of six scans, of which one is bad, and their store."""
    catalog = ct_dataset(tmp_path, scans=6)
    (tmp_path / "ct/TRN_0005.nii.gz").write_bytes(b"no scan " * 100)
    run(catalog)
    return catalog


def dry_run(catalog: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Its JSON document and, of a second run, its lines for people."""
    arguments = ["build", "--dry-run", "--scheduler", "sync", "--catalog", str(catalog), *options]
    document = CliRunner().invoke(main, [*arguments, "--json"])
    lines = CliRunner().invoke(main, arguments)
    assert document.exit_code == lines.exit_code == 0
    (found,) = json.loads(document.stdout)["datasets"]
    return found, lines.stdout


def change_catalog(catalog: Path, **recipe: Any) -> None:
    document = yaml.safe_load(catalog.read_text())
    document["datasets"]["ct"]["recipe"] |= recipe
    catalog.write_text(yaml.safe_dump(document))


def move(catalog: Path, name: str, new: str) -> None:
    """Give a source another name, in its table as well."""
    folder = catalog.parent / "ct"
    (folder / name).rename(folder / new)
    labels = folder / "labels.csv"
    labels.write_text(labels.read_text().replace(name, new))


def test_before_the_first_build(tmp_path, ct_dataset):
    found, said = dry_run(ct_dataset(tmp_path, scans=3))
    assert (found["convert"], found["keep"], found["remove"]) == ({"new": 3}, 0, [])
    assert "ct: 3 to convert (3 new), 0 to keep, 0 to remove" in said
    assert not (tmp_path / "cache").exists()


def test_with_nothing_to_do(built):
    found, said = dry_run(built)
    assert (found["convert"], found["keep"], found["quarantined"]) == ({}, 5, 1)
    assert "ct: 0 to convert, 5 to keep, 0 to remove" in said
    assert "1 stay in quarantine, unchanged" in said


def test_counts_what_a_build_then_does(built, write_nifti):
    """A changed source, a mended one, and one of another name: two to convert and one more, one to remove."""
    write_nifti(built.parent / "ct/TRN_0001.nii.gz", [[[0, 5], [9, -1000]]], dtype="int16")
    write_nifti(built.parent / "ct/TRN_0005.nii.gz", [[[1, 5], [9, -1000]]], dtype="int16")
    move(built, "TRN_0003.nii.gz", "TRN_0009.nii.gz")
    before = open_store(only_dataset(built).store).digest
    found, said = dry_run(built)
    assert (found["convert"], found["keep"]) == ({"other content": 2, "new": 1}, 3)
    assert found["remove"] == ["TRN_0003"]
    assert "to remove, no longer among the sources: TRN_0003" in said
    assert open_store(only_dataset(built).store).digest == before
    summary = run(built)
    assert (summary.converted, summary.reused) == (3, 3)


def test_another_recipe_is_a_reason_and_told_before_it_replaces_a_store(built):
    change_catalog(built, spline_order=1)
    assert dry_run(built)[0]["convert"] == {"another recipe": 6}
    result = CliRunner().invoke(main, ["build", "--scheduler", "sync", "--catalog", str(built)])
    first, last = result.stderr.splitlines()[0], result.stderr.splitlines()[-1]
    said = "ct: replaces a store of another recipe (spline_order: 3 → 1)"
    assert said in result.stderr
    assert result.stderr.index(said) < result.stderr.index("converted")
    assert first != last
    assert said not in CliRunner().invoke(main, ["build", "--catalog", str(built)]).stderr


def test_what_may_go_better_is_another_try(built):
    (only_dataset(built).path / "TRN_0002.nii.gz").unlink()
    (only_dataset(built).path / "TRN_0002.nii.gz").mkdir()
    run(built)
    quarantine = only_dataset(built).quarantine_file
    quarantine.write_text(quarantine.read_text().replace("not-nifti", "crash"))
    found = preview(make_plan(only_dataset(built), SYNC))
    assert found.convert["another try"] == 1


# --- --limit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_never_shrinks_a_store(built, limit):
    before = open_store(only_dataset(built).store)
    few = replace(SYNC, limit=limit)
    assert dry_run(built, "--limit", str(limit))[0]["remove"] == []
    summary = run(built, few)
    assert (summary.samples, summary.published) == (5, False)
    assert open_store(only_dataset(built).store).digest == before.digest


def test_a_limit_grows_a_store_from_its_first_samples(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=6)
    assert [run(catalog, replace(SYNC, limit=limit)).samples for limit in (2, 4, 1)] == [2, 4, 4]
    assert run(catalog).samples == 6


def test_a_limit_does_not_keep_what_has_lost_its_source(built):
    move(built, "TRN_0003.nii.gz", "TRN_0009.nii.gz")
    assert dry_run(built, "--limit", "1")[0]["remove"] == ["TRN_0003"]
    run(built, replace(SYNC, limit=1))
    ids = [row.id for row in open_store(only_dataset(built).store).rows]
    assert ids == ["TRN_0000", "TRN_0001", "TRN_0002", "TRN_0004"]
