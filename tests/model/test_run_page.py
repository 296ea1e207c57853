"""`viptt report RUN`: its numbers are those of the run's files, its pictures those of the store."""

import base64
import csv
import html
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from accessibility import grave_violations
from browser import PROGRAM, Page, browser
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from cli import main
from model.evaluate import evaluate
from model.judged import read_mistakes
from model.mistakes import SIDE, STEPS
from model.png import png
from model.run_facts import read_facts
from model.run_folder import read_config, read_history
from pipeline.errors import IntegrityError
from pipeline.store import open_store

IN_BROWSER = pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt-get install chromium")
URI = re.compile(r'src="(data:[^"]+)"')


def viptt(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def page_of(*runs: Path) -> str:
    result = viptt("report", *runs, "--json")
    assert result.exit_code == 0, result.stderr
    return Path(json.loads(result.stdout)["page"]).read_text("utf-8")


def rows_of(page: str, name: str) -> list[list[str]]:
    """The cells of a table of the page, by the name of its class or id."""
    (table,) = re.findall(rf'<table (?:class|id)="{name}">(.*?)</table>', page, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    return [[html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells]


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run, of which some predictions are wrong."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(finished.run, folder)
    # Of all samples, so that a network that has learned little is wrong at some.
    split = json.loads(finished.split.read_text())
    every = [row.id for row in finished.store.rows]
    labels = {row.id: finished.store.header.classes[row.label] for row in finished.store.rows}
    counts = {name: sum(label == name for label in labels.values()) for name in finished.store.header.classes}
    document = {**split, "fractions": {"val": 1.0}, "splits": {"val": every}, "counts": {"val": counts}}
    file = folder.parent / "all.json"
    file.write_text(json.dumps(document))
    evaluate(folder, split_file=file)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tables_hold_the_numbers_of_the_evaluation(run: Path) -> None:
    page, found = page_of(run), json.loads((run / "metrics.json").read_text())
    scores, classes = found["scores"], read_config(run).data.classes
    *rows, mean = rows_of(page, "classes")
    kinds = ("precision", "recall", "specificity", "f1", "auc", "average_precision")
    for name, counts, row in zip(classes, scores["confusion"], rows, strict=True):
        assert row[:2] == [name, str(sum(counts))]
        for kind, cell in zip(kinds, row[2:], strict=True):
            bounds = scores["intervals"].get(f"{kind} {name}")
            told = [f"{value:.2f}" for value in (scores[kind][name], *(bounds or ())) if value is not None]
            assert re.findall(r"[\d.]+", cell) == told
    assert [cell.split()[0] for cell in mean[2:]] == [f"{scores['macro'][kind]:.2f}" for kind in kinds]
    assert [[int(cell.split()[0]) for cell in row[1:]] for row in rows_of(page, "confusion")] == scores[
        "confusion"
    ]
    (whole, *_) = rows_of(page, "scores")
    assert [cell.split()[0] for cell in whole[1:4]] == [
        str(scores["samples"]),
        f"{scores['accuracy']:.2f}",
        f"{scores['kappa']:.2f}",
    ]


def test_epochs_are_those_of_the_history(run: Path) -> None:
    page, history = page_of(run), read_history(run)
    rows = rows_of(page, "epochs")
    assert len(rows) == len(history) == 2
    for row, epoch in zip(rows, history, strict=True):
        found = [float(cell.replace("−", "-")) for cell in row]
        np.testing.assert_allclose(found, list(epoch.values()), rtol=1e-3)
    best = min(history, key=lambda row: row["val_loss"])["epoch"]
    assert f"the validation loss was lowest in epoch {best:.0f}." in page


def test_the_figures_are_those_that_evaluate_named(run: Path) -> None:
    pytest.importorskip("matplotlib")
    uris = [uri for uri in URI.findall(page_of(run)) if uri.startswith("data:image/svg")]
    drawn = {base64.b64decode(uri.partition(",")[2]) for uri in uris}
    files = json.loads((run / "metrics.json").read_text())["files"]
    assert drawn == {(run / name).read_bytes() for name in files if name.endswith(".svg")}
    assert "network.svg" in files


# --- mistakes -----------------------------------------------------------------------------------


def test_mistakes_are_the_wrong_samples_the_most_certain_first(run: Path) -> None:
    classes = read_config(run).data.classes
    with (run / "predictions.csv").open(newline="") as file:
        wrong = [row for row in csv.DictReader(file) if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: (-float(row[row["predicted"]]), row["id"]))
    found = read_mistakes(run / "predictions.csv", classes)
    assert [item.id for item in found] == [row["id"] for row in wrong] != []
    assert [item.of_truth for item in found] == [float(row[row["label"]]) for row in wrong]
    captions = re.findall(r"<b>(S\d+)</b>\s*<span>is (\w+), .*?taken for (\w+)", page_of(run), re.DOTALL)
    assert captions == [(row["id"], row["label"], row["predicted"]) for row in wrong[: len(captions)]] != []


def test_strips_show_the_volumes_of_the_store(run: Path, finished) -> None:
    facts = read_facts(run, name="run", of=1)
    assert facts.evaluated is not None
    store = open_store(finished.store.path)
    index_of = {row.id: index for index, row in enumerate(store.rows)}
    for mistake, strip in facts.evaluated.mistakes.worst:
        assert strip is not None
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip.uri.partition(",")[2]))))
        volume = store.read(index_of[mistake.id]).astype(np.float64)
        assert strip.numbers == tuple(range(1, len(volume) + 1))
        np.testing.assert_allclose(pixels.reshape(volume.shape), volume * 255, atol=0.51)


def test_a_large_stack_is_shown_in_part() -> None:
    from model.mistakes import _strip

    ramp = np.linspace(0, 255, 30).round().astype(np.uint8)
    strip = _strip(np.broadcast_to(ramp[:, None, None], (30, 300, 200)))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip.uri.partition(",")[2]))))
    assert (len(strip.numbers), strip.numbers[0], strip.numbers[-1]) == (STEPS, 1, 30)
    assert pixels.shape[0] / STEPS <= SIDE
    means = pixels.reshape(STEPS, -1).mean(axis=1)
    np.testing.assert_array_equal(means, ramp[np.array(strip.numbers) - 1])


def test_without_the_store_mistakes_are_a_table(copy: Path) -> None:
    document = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps({**document, "store_digest": "sha256:another"}))
    page = page_of(copy)
    assert "There are no pictures: the samples are not those of" in page
    wrong = read_mistakes(copy / "predictions.csv", read_config(copy).data.classes)
    assert [row[0] for row in rows_of(page, "mistakes")] == [item.id for item in wrong[:12]]


@settings(max_examples=30)
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_a_png_holds_its_pixels(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


# --- runs of every kind -------------------------------------------------------------------------


def test_a_run_that_is_not_evaluated_says_so(finished, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.run, tmp_path / "fresh"))
    page = page_of(copy)
    assert f"<code>viptt evaluate {copy}</code>" in page
    assert "This run is not evaluated yet" in page
    assert len(rows_of(page, "epochs")) == 2


def test_a_run_that_was_trained_on_since_is_told(copy: Path) -> None:
    (copy / "model.weights.h5").write_bytes(b"new")
    assert "The run was trained on since it was evaluated" in page_of(copy)


@pytest.mark.parametrize("content", ["{}", '{"scores": 3, "split": "val"}', "["])
def test_damaged_scores_are_refused(copy: Path, content: str) -> None:
    (copy / "metrics.json").write_text(content)
    with pytest.raises(IntegrityError, match="metrics-damaged"):
        read_facts(copy, name="run", of=1)


def test_runs_side_by_side_with_a_paired_test(run: Path, copy: Path, finished, tmp_path: Path) -> None:
    fresh = Path(shutil.copytree(finished.run, tmp_path / "fresh"))
    page = page_of(run, copy)
    assert [row[0] for row in rows_of(page, "runs")] == ["run", "copy"]
    assert "Both runs are right on the same samples" in page
    page = page_of(run, copy, fresh)
    assert rows_of(page, "runs")[2][-1] == "not evaluated"
    assert viptt("report", run, run).exit_code == 2


def test_a_foreign_file_is_not_replaced(copy: Path) -> None:
    (copy / "report.html").write_text("mine")
    result = viptt("report", copy)
    assert (result.exit_code, (copy / "report.html").read_text()) == (2, "mine")
    assert ": out-exists: " in result.stderr


def test_runs_and_datasets_are_not_mixed(run: Path, finished, make_catalog, monkeypatch) -> None:
    monkeypatch.chdir(run.parent)
    catalog = make_catalog(run=(finished.store, finished.split))
    refused = viptt("report", "run", "--catalog", catalog)
    assert (refused.exit_code, "ambiguous-input" in refused.stderr) == (2, True)
    assert viptt("report", "./run", "--catalog", catalog).exit_code == 0
    mixed = viptt("report", "./run", "ct", "--catalog", catalog)
    assert (mixed.exit_code, ": not-a-run: " in mixed.stderr) == (2, True)


# --- the card -----------------------------------------------------------------------------------


def test_a_card_holds_facts_of_the_run_and_is_not_replaced(copy: Path) -> None:
    result = viptt("report", copy, "--cards", "--json")
    assert json.loads(result.stdout)["cards"] == [str(copy / "README.md")]
    _, front, text = (copy / "README.md").read_text("utf-8").split("---\n", 2)
    head, scores = yaml.safe_load(front), json.loads((copy / "metrics.json").read_text())["scores"]
    (result_,) = head["model-index"][0]["results"]
    told = {item["type"]: item["value"] for item in result_["metrics"]}
    assert told == pytest.approx(
        {"accuracy": scores["accuracy"], "cohen_kappa": scores["kappa"], "f1": scores["macro"]["f1"]}
    )
    assert (head["library_name"], head["pipeline_tag"]) == ("keras", "image-classification")
    assert read_config(copy).data.store_digest in text
    assert text.count("**fill in**") > 3
    assert viptt("report", copy, "--cards").exit_code == 2


def test_the_card_of_a_run_without_scores_claims_none(finished, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(finished.run, tmp_path / "fresh"))
    assert viptt("report", copy, "--cards").exit_code == 0
    _, front, text = (copy / "README.md").read_text("utf-8").split("---\n", 2)
    assert "model-index" not in yaml.safe_load(front)
    assert "Not evaluated yet." in text


# --- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page_of(run)
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@IN_BROWSER
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]
)
def test_it_is_quiet_alone_accessible_and_fits(page: Page, run: Path, width: int, scheme: str) -> None:
    page.open(run / "report.html", width=width, scheme=scheme)
    assert page.named("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = [event["request"]["url"] for event in page.named("Network.requestWillBeSent")]
    assert [url[:40] for url in asked[1:] if not url.startswith("data:")] == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("[...document.images].every(image => image.alt && image.naturalWidth > 0)") is True
    missing = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
    assert page.value(missing) == 0
    assert grave_violations(page) == []


@IN_BROWSER
def test_the_slider_moves(page: Page, run: Path) -> None:
    page.open(run / "report.html")
    page.value("document.querySelector('.stack input').focus()")
    page.press("Home")
    page.press("ArrowRight")
    assert page.value("document.querySelector('.where').textContent") == "slice 2 of 4"
