"""The page of `viptt report` in a real browser: quiet, alone, usable, and with the store's own numbers."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accessibility import grave_violations
from browser import PROGRAM, Page, browser
from click.testing import CliRunner

from cli import main
from pipeline.store import Store, open_store

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium")
EVIL = '"><img src=x onerror="document.title=1">'


def viptt(*arguments: object) -> None:
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code in (0, 3), result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ct_dataset, write_nifti) -> Path:
    """A store of 14 scans: two odd ones, two twins, one group on both sides of the split; one is bad."""
    folder = tmp_path_factory.mktemp("report")
    catalog = ct_dataset(
        folder, scans=15, scans_per_patient=3, classes=("Focal", EVIL), split={"group": "none"}
    )
    ramp = np.linspace(0, 1, 20 * 18 * 7).reshape(20, 18, 7)
    write_nifti(folder / "ct/TRN_0003.nii.gz", np.round(ramp * 3), dtype="int16")
    write_nifti(folder / "ct/TRN_0004.nii.gz", np.round(ramp * 255), dtype="uint8")
    shutil.copy(folder / "ct/TRN_0000.nii.gz", folder / "ct/TRN_0001.nii.gz")
    (folder / "ct/TRN_0008.nii.gz").write_bytes(b"")
    for command in (("build", "--scheduler", "sync"), ("split",), ("report", "ct")):
        viptt(*command, "--catalog", catalog)
    return folder


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(folder / "cache/ct.report.html")
        yield page


@pytest.fixture(scope="module")
def store(folder) -> Store:
    return open_store(folder / "cache/ct.zarr")


def cells(page: Page, selector: str) -> list[list[str]]:
    rows = f"[...document.querySelectorAll('{selector} tbody tr')]"
    found: Any = page.value(f"{rows}.map(row => [...row.cells].map(cell => cell.textContent.trim()))")
    return list(found)


def test_it_says_nothing_and_asks_for_nothing(page, folder):
    page.open(folder / "cache/ct.report.html")
    assert page.named("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = [event["request"]["url"][:40] for event in page.named("Network.requestWillBeSent")]
    assert asked[0].startswith("file:")
    assert [url for url in asked[1:] if not url.startswith("data:")] == []


def test_its_policy_stops_a_request(page, folder):
    page.open(folder / "cache/ct.report.html")
    failed = (
        "new Promise(done => Object.assign(new Image(), {onerror: done, src: 'http://127.0.0.1:9/x.png'}))"
    )
    page.value(failed)
    blocked = [entry["entry"]["text"] for entry in page.named("Log.entryAdded")]
    assert any("Content Security Policy" in text for text in blocked)


def test_names_of_classes_are_no_markup(page):
    assert page.value("document.title").startswith("ct ")
    assert EVIL in [row[0] for row in cells(page, "#balance-table")]


def test_the_slider_moves_with_the_keyboard(page):
    page.value(
        "slider = document.querySelector('.stack input'); picture = slider.closest('figure').children[0]"
    )
    page.value("slider.focus()")
    page.press("Home")
    seen = [page.value("picture.style.objectPosition"), page.value("slider.ariaValueText")]
    page.press("ArrowRight")
    then = [page.value("picture.style.objectPosition"), page.value("slider.ariaValueText")]
    assert seen == ["0px 0%", "slice 1 of 5"]
    assert then == ["0px 25%", "slice 2 of 5"]
    assert page.value("picture.alt").startswith("slice 2 of 5 of TRN_")


def test_the_slider_shows_the_pictures_of_the_store(page, store):
    """Read from the screen: the mean gray of each picture, against the volume's own."""
    name = page.value("document.querySelector('#pictures .stack b').textContent")
    (index,) = [index for index, row in enumerate(store.rows) if row.source == name]
    means = page.value(
        """(() => {
          const image = document.querySelector('#pictures .stack img'), side = image.naturalWidth;
          const canvas = Object.assign(document.createElement('canvas'), {width: side, height: side});
          const context = canvas.getContext('2d');
          return [0, 1, 2, 3, 4].map(step => {
            context.drawImage(image, 0, -step * side);
            const values = context.getImageData(0, 0, side, side).data;
            return values.reduce((sum, value, at) => sum + (at % 4 ? 0 : value), 0) / side / side;
          });
        })()"""
    )
    wanted = store.read(index).astype(np.float64).mean(axis=(1, 2)) * 255
    np.testing.assert_allclose(means, wanted, atol=2)


def test_the_table_holds_the_numbers_of_the_store(page, store):
    rows = {cells[1]: cells for cells in cells(page, "#table")}
    assert set(rows) == {row.id for row in store.rows}
    for row in store.rows:
        facts, statistics = json.loads(row.facts), json.loads(row.statistics)
        shown = [text.replace("\u202f", "").replace("−", "-") for text in rows[row.id]]
        assert shown[4:6] == [f"{statistics['min']:.0f}", f"{statistics['max']:.0f}"]
        assert shown[6] == str(statistics["different"] or "many")
        assert shown[7] == store.header.classes[row.label]
        assert shown[9:12] == list(map(str, facts["shape"]))
        assert shown[13] == row.group


def test_counts_are_those_of_the_store_and_its_split(page, store, folder):
    splits = json.loads((folder / "splits/ct.json").read_text())["splits"]
    labels = {row.id: store.header.classes[row.label] for row in store.rows}
    for name, total, _, _, train, val in cells(page, "#balance-table"):
        assert int(total) == sum(label == name for label in labels.values())
        for shown, ids in ((train, splits["train"]), (val, splits["val"])):
            assert int(shown.split()[0]) == sum(labels[sample] == name for sample in ids)
    assert page.value("document.getElementById('count-samples').textContent") == "14"
    assert page.value("document.getElementById('count-quarantined').textContent") == "1"
    assert cells(page, "#quarantine")[0][:2] == ["TRN_0008.nii.gz", "empty-file"]


def test_the_throughput_is_that_of_the_build(page, folder):
    noted = json.loads((folder / "cache/ct.build.json").read_text())
    sources = sum(path.stat().st_size for path in (folder / "ct").glob("*.nii.gz"))
    assert (noted["converted"], noted["reused"]) == (14, 0)
    assert sources * 14 // 15 <= noted["source_bytes"] <= sources
    told = {row[0]: row[1] for row in cells(page, "#build")}
    assert told["samples converted"] == "14"
    rate = float(told["throughput"].split()[0])
    assert rate == pytest.approx(noted["source_bytes"] / noted["seconds"] / 1e6, rel=1e-3)


def test_odd_ones_come_first_and_say_why(page):
    first, second = cells(page, "#table")[:2]
    assert {first[1], second[1]} == {"TRN_0003", "TRN_0004"}
    said = f"{first[2]} {second[2]}"
    assert "only 4 different values" in said
    assert "values from 0 to 255" in said
    shown = page.value("[...document.querySelectorAll('#odd .stack b')].slice(0, 2).map(b => b.textContent)")
    assert sorted(shown) == ["TRN_0003.nii.gz", "TRN_0004.nii.gz"]


def test_leaks_and_twins_are_told(page):
    said = page.value("document.getElementById('leaks').textContent")
    assert re.search(r"group-leak: the group P00\d is in train and val", said)
    assert re.search(r"the same file:\s+TRN_0000.nii.gz.*TRN_0001.nii.gz", said, re.DOTALL)


def test_rows_can_be_sorted_and_searched(page):
    page.value("document.querySelectorAll('#table button')[3].click()")
    lowest = [int(row[4].replace("\u202f", "").replace("−", "-")) for row in cells(page, "#table")]
    assert lowest == sorted(lowest)
    assert page.value("document.querySelectorAll('#table th')[4].ariaSort") == "ascending"
    page.value(
        "f = document.getElementById('filter'); f.value = 'label map'; f.dispatchEvent(new Event('input'))"
    )
    assert page.value("document.getElementById('filtered').textContent") == "1 of 14 rows"
    page.value("f.value = ''; f.dispatchEvent(new Event('input'))")


def test_every_picture_has_a_text_and_every_field_a_name(page):
    assert page.value("[...document.images].every(image => image.alt && image.naturalWidth > 0)") is True
    unnamed = "[...document.querySelectorAll('input')].filter(i => !i.ariaLabel && !i.labels.length).length"
    assert page.value(unnamed) == 0
    assert page.value("[...document.querySelectorAll('table')].every(t => t.tHead.rows.length)") is True
    charts = "[...document.querySelectorAll('svg')].every(s => s.ariaLabel || s.ariaHidden === 'true')"
    assert page.value(charts) is True


@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")]
)
def test_it_fits_its_window_in_both_schemes(page, folder, width, scheme):
    page.open(folder / "cache/ct.report.html", width=width, scheme=scheme)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert contrast(page, "body") > 7
    for selector in ("a", ".cards .alarm dd", "small", "#table tr.odd .reasons"):
        assert contrast(page, selector) > 4.5, selector  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_nothing_grave(page, folder, scheme):
    page.open(folder / "cache/ct.report.html", scheme=scheme)
    assert grave_violations(page) == []


def test_axe_core_would_find_something(page, folder):
    page.open(folder / "cache/ct.report.html")
    page.value("document.querySelector('.stack img').removeAttribute('alt')")
    page.value("document.querySelector('h1').style.color = '#ddd'")
    found = [said.split(":")[0] for said in grave_violations(page)]
    assert {"image-alt", "color-contrast"} <= set(found)


def contrast(page: Page, selector: str) -> float:
    """Contrast of a text and what lies behind it: WCAG 2.2, "contrast ratio"."""
    text, ground = page.value(
        f"""(() => {{
          const element = document.querySelector('{selector}');
          const ground = (at) => getComputedStyle(at).backgroundColor;
          let behind = element;
          while (ground(behind) === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
          return [getComputedStyle(element).color, ground(behind)];
        }})()"""
    )
    one, other = sorted((luminance(text), luminance(ground)))
    return (other + 0.05) / (one + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of rgb(…): WCAG 2.2, "relative luminance"."""
    red, green, blue = (int(text) / 255 for text in re.findall(r"\d+", colour)[:3])
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
