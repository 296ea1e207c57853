"""`viptt report --compare`: two recipes of the same sources, with numbers from NumPy and pixels by hand."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from accessibility import grave_violations
from browser import PROGRAM, browser
from click.testing import CliRunner, Result

from cli import main
from pipeline.readers import SOURCE_TYPES
from pipeline.report.pictures import SIDE, pair_strip
from pipeline.report.samples import SampleFigures, sample_figures
from pipeline.store import Row, open_store


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory, ct_dataset, write_nifti) -> Path:
    """Datasets of one folder: ``ct``, ``bone`` (another window), ``deep`` (another shape), and ``other``."""
    folder = tmp_path_factory.mktemp("comparison")
    file: Path = ct_dataset(folder, scans=5)
    other: Path = ct_dataset(folder / "elsewhere", scans=2, split={"seed": 7})
    for number in (0, 1):
        write_nifti(folder / f"elsewhere/ct/TRN_000{number}.nii.gz", np.full((9, 8, 7), 40.0 + number))
    document = yaml.safe_load(file.read_text())
    ct = document["datasets"]["ct"]
    changes = {"bone": {"window": [-200, 1200], "dtype": "uint8"}, "deep": {"shape": [9, 20, 20]}}
    for name, recipe in changes.items():
        places = {"store": f"cache/{name}.zarr", "split": {**ct["split"], "file": f"splits/{name}.json"}}
        document["datasets"][name] = {**ct, **places, "recipe": {**ct["recipe"], **recipe}}
    foreign = yaml.safe_load(other.read_text())["datasets"]["ct"]
    for key in ("path", "store"):
        foreign[key] = f"elsewhere/{foreign[key]}"
    foreign["labels"]["file"] = f"elsewhere/{foreign['labels']['file']}"
    foreign["split"]["file"] = f"elsewhere/{foreign['split']['file']}"
    document["datasets"]["other"] = foreign
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    result = viptt("build", "--scheduler", "sync", "--catalog", file)
    assert result.exit_code == 0, result.stderr
    return file


def page_of(catalog: Path, *names: str) -> str:
    result = viptt("report", names[0], "--compare", names[1], "--catalog", catalog, "--json")
    assert result.exit_code == 0, result.stderr
    return Path(json.loads(result.stdout)["page"]).read_text("utf-8")


def test_numbers_are_those_of_numpy(catalog):
    page = page_of(catalog, "ct", "bone")
    rows = re.findall(r'<tr><th scope="row">(TRN_\d+)</th><td class="n">([\d.]+)</td>\s*'
                      r'<td class="n">([\d.]+)</td><td class="n">([\d.]+) %', page)  # fmt: skip
    stores = [open_store(catalog.parent / f"cache/{name}.zarr") for name in ("ct", "bone")]
    assert len(rows) == len(stores[0].rows) == 5
    index = {row.id: number for number, row in enumerate(stores[0].rows)}
    for name, mean, largest, notable in rows:
        first, second = (store.read(index[name]).astype(np.float64) for store in stores)
        apart = abs(first - second / 255)
        expected = (f"{apart.mean():.4f}", f"{apart.max():.2f}", f"{100 * (apart > 0.05).mean():.1f}")
        assert (mean, largest, notable) == expected
    assert [float(mean) for _, mean, _, _ in rows] == sorted((float(row[1]) for row in rows), reverse=True)


def test_parameters_that_differ_come_first(catalog):
    page = page_of(catalog, "ct", "bone")
    changed = re.findall(r'<tr class="changed"><th scope="row">(\w+)</th>', page)
    assert set(changed) == {"window", "dtype"}
    assert page.rindex('class="changed"') < page.index('<th scope="row">shape</th>')
    assert re.findall(r'(?:src|href)="(?!data:|#)', page) == []


def test_volumes_of_another_shape_are_shown_and_not_counted(catalog):
    page = page_of(catalog, "ct", "deep")
    assert "The volumes differ in shape" in page
    assert 'id="differences"' not in page
    assert page.count("<img") == 5


def test_stores_of_other_sources_are_refused(catalog):
    result = viptt("report", "ct", "--compare", "other", "--catalog", catalog)
    assert result.exit_code == 2
    assert "no-common-samples" in result.stderr
    assert viptt("report", "ct", "--compare", "bone", "--cards", "--catalog", catalog).exit_code == 2
    assert viptt("report", "ct", "--compare", "bones", "--catalog", catalog).exit_code == 2


def test_a_file_that_is_no_page_is_not_replaced(catalog, tmp_path):
    out = tmp_path / "mine.html"
    out.write_text("mine")
    result = viptt("report", "ct", "--compare", "bone", "--out", out, "--catalog", catalog)
    assert (result.exit_code, out.read_text()) == (2, "mine")


# --- pictures -----------------------------------------------------------------------------------


def sample() -> SampleFigures:
    row = Row("s0", 0, "", "s0.nii", "s0", "s0", "{}", "", "{}")
    return sample_figures([row], ["A"], {}, SOURCE_TYPES["nifti"])[0]


def test_two_datasets_are_compared_and_three_are_refused(catalog):
    result = viptt("report", "ct", "bone", "--catalog", catalog, "--json")
    assert Path(json.loads(result.stdout)["page"]).name == "ct.bone.comparison.html"
    refused = viptt("report", "ct", "bone", "deep", "--catalog", catalog)
    assert (refused.exit_code, refused.stderr.count("bad-option")) == (2, 1)


def test_a_difference_is_gray_where_equal_and_bright_where_the_second_is():
    first, second = np.full((3, 4, 4), 0.5, np.float32), np.full((3, 4, 4), 0.5, np.float32)
    second[1], second[2] = 0.6, 0.0
    strip = pair_strip(first, second, sample(), 1_000_000)
    data = base64.b64decode(strip.uri.partition(",")[2])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE).astype(int)
    assert pixels.shape == (3 * SIDE, 3 * SIDE)
    tiles = pixels.reshape(3, SIDE, 3, SIDE)[:, 20:-20, :, 20:-20].mean((1, 3))
    np.testing.assert_allclose(tiles, [[128, 128, 128], [128, 153, 178], [128, 0, 0]], atol=4)
    assert (strip.numbers, strip.depth, strip.ratio) == ((1, 2, 3), 3, 3.0)


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium")
def test_it_is_quiet_alone_and_its_sliders_move(catalog, tmp_path):
    page_of(catalog, "ct", "bone")
    with browser(tmp_path) as page:
        page.open(catalog.parent / "cache/ct.bone.comparison.html", width=390)
        assert page.named("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
        urls = [event["request"]["url"] for event in page.named("Network.requestWillBeSent")]
        assert [url[:40] for url in urls[1:] if not url.startswith("data:")] == []
        assert page.value("document.documentElement.scrollWidth <= 390")
        before = page.value("document.querySelector('.stack img').style.objectPosition")
        page.value("document.querySelector('.stack input').focus()")
        page.press("ArrowRight")
        assert page.value("document.querySelector('.stack img').style.objectPosition") != before
        assert page.value("document.querySelector('.where').textContent") == "slice 4 of 5"
        for scheme in ("light", "dark"):
            page.open(catalog.parent / "cache/ct.bone.comparison.html", scheme=scheme)
            assert grave_violations(page) == []
