"""`viptt report` as a command: where the page goes, what stops it, and how large it may become."""

import csv
import hashlib
import json
import re
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from cli import main
from pipeline.store import open_store

MAX_BYTES, MAX_SECONDS = 10_000_000, 60


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def ct(tmp_path: Path, ct_dataset) -> Path:
    """The catalog of a store that is built and split."""
    catalog = ct_dataset(tmp_path, scans=6)
    for command in (("build", "--scheduler", "sync"), ("split",)):
        assert viptt(*command, "--catalog", catalog).exit_code == 0
    return catalog


def page_of(catalog: Path) -> str:
    result = viptt("report", "ct", "--catalog", catalog)
    assert result.exit_code == 0, result.stderr
    return (catalog.parent / "cache/ct.report.html").read_text("utf-8")


def test_the_page_lies_beside_the_store_and_is_replaced(ct):
    first = page_of(ct)
    assert first == page_of(ct)
    assert "in a browser" in viptt("report", "ct", "--catalog", ct).stdout
    assert re.findall(r'(?:src|href)="(?!data:|#)', first) == []


def test_it_goes_where_it_is_told_and_replaces_nothing_else(ct, tmp_path):
    out = tmp_path / "pages/look.html"
    result = viptt("report", "ct", "--catalog", ct, "--out", out, "--json")
    assert json.loads(result.stdout) == {"dataset": "ct", "page": str(out), "cards": []}
    out.write_text("<html>my own page</html>")
    result = viptt("report", "ct", "--catalog", ct, "--out", out)
    assert (result.exit_code, out.read_text()) == (2, "<html>my own page</html>")
    assert viptt("report", "ct", "--catalog", ct, "--out", ct).exit_code == 2
    assert ct.read_text().startswith("version: 1")


def test_without_a_store_it_is_refused(tmp_path, ct_dataset):
    result = viptt("report", "ct", "--catalog", ct_dataset(tmp_path))
    assert result.exit_code == 4
    assert "viptt build" in result.stderr
    assert viptt("report", "cta", "--catalog", tmp_path / "data_catalog.yaml").exit_code == 2


def test_a_damaged_volume_is_not_shown(ct):
    store = open_store(ct.parent / "cache/ct.zarr")
    chunk = store.chunk(0)
    data = bytearray(chunk.read_bytes())
    data[40] ^= 1
    chunk.write_bytes(data)
    result = viptt("report", "ct", "--catalog", ct)
    assert result.exit_code == 4
    assert "chunk-checksum" in result.stderr


def test_it_works_without_a_split_and_with_a_bad_one(ct):
    split = ct.parent / "splits/ct.json"
    split.write_text(split.read_text().replace('"seed": 0', '"seed": 1'))
    assert "split-edited" in page_of(ct)
    split.unlink()
    page = page_of(ct)
    assert "There is no split file yet" in page
    assert "By split" not in page


def test_a_stale_store_is_called_so(ct):
    ct.write_text(ct.read_text().replace("- 400", "- 300"))
    assert "window is [-1000.0, 300.0], the store was built with [-1000.0, 400.0]" in page_of(ct)


def test_the_name_of_a_class_is_no_markup(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=4, classes=("Infiltrative", "Focal<script>"))
    assert viptt("build", "--scheduler", "sync", "--catalog", catalog).exit_code == 0
    page = page_of(catalog)
    assert "Focal&lt;script&gt;" in page
    assert page.count("<script>") == 1


def test_clips_have_frames_and_gray_levels(tmp_path, video_dataset):
    catalog = video_dataset(tmp_path)
    for command in (("build", "--scheduler", "sync"), ("split",), ("report", "video")):
        assert viptt(*command, "--catalog", catalog).exit_code == 0
    page = (tmp_path / "cache/video.report.html").read_text("utf-8")
    assert "frame 3 of 5" in page
    assert " HU;" not in page
    assert "mjpeg" in page


# --- cards --------------------------------------------------------------------------------------


def test_the_metadata_describes_the_table_of_samples(ct):
    result = viptt("report", "ct", "--catalog", ct, "--cards", "--json")
    card, metadata, table = map(Path, json.loads(result.stdout)["cards"])
    document = json.loads(metadata.read_text())
    (file, store) = document["distribution"]
    (records,) = document["recordSet"]
    assert file["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert file["contentUrl"] == table.name == "ct.samples.csv"
    assert store["includes"] == "ct.zarr/**"
    with table.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [field["source"]["extract"]["column"] for field in records["field"]] == list(rows[0])
    splits = json.loads((ct.parent / "splits/ct.json").read_text())["splits"]
    for row, stored in zip(rows, open_store(ct.parent / "cache/ct.zarr").rows, strict=True):
        assert (row["id"], row["source_sha256"], row["sha256"]) == (
            stored.id,
            stored.source_sha256,
            stored.sha256,
        )
        assert row["id"] in splits[row["split"]]
        assert float(row["lowest"]) == json.loads(stored.statistics)["min"]
    assert "| Infiltrative | 3 | 3 |" in card.read_text()
    assert yaml.safe_load(card.read_text().split("---")[1])["pretty_name"] == "ct"


def test_cards_are_never_replaced(ct):
    assert viptt("report", "ct", "--catalog", ct, "--cards").exit_code == 0
    card = ct.parent / "cache/ct.card.md"
    card.write_text("filled in")
    result = viptt("report", "ct", "--catalog", ct, "--cards")
    assert (result.exit_code, card.read_text()) == (2, "filled in")
    assert viptt("report", "ct", "--catalog", ct).exit_code == 0


def test_names_mean_nothing_in_a_card(tmp_path, ct_dataset):
    catalog = ct_dataset(tmp_path, scans=4, classes=("a|b", "*c* <img>"))
    assert viptt("build", "--scheduler", "sync", "--catalog", catalog).exit_code == 0
    assert viptt("report", "ct", "--catalog", catalog, "--cards").exit_code == 0
    card = (tmp_path / "cache/ct.card.md").read_text()
    assert r"| a\|b | 2 |" in card
    assert r"| \*c\* &lt;img&gt; | 2 |" in card


@pytest.mark.slow
def test_1300_samples_fit_into_10_mb_and_a_minute(tmp_path, ct_dataset):
    catalog = ct_dataset(
        tmp_path, scans=1300, size=(24, 24, 8), recipe={"shape": [40, 128, 128], "dtype": "uint8"}
    )
    assert viptt("build", "--scheduler", "sync", "--catalog", catalog).exit_code == 0
    viptt("split", "--catalog", catalog)
    start = time.monotonic()
    page = page_of(catalog)
    assert time.monotonic() - start < MAX_SECONDS
    assert len(page.encode()) < MAX_BYTES
    assert page.count("<tr") > 1300
