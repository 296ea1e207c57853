"""What the page is made of: oddness, choice of pictures, strips and charts, each against another truth."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pipeline.pages import number, share
from pipeline.readers import SOURCE_TYPES
from pipeline.report import pictures
from pipeline.report.charts import area, outline
from pipeline.report.page import environment
from pipeline.report.pictures import (
    ODD_SHOWN,
    SHOWN,
    SIDE,
    STEPS,
    choose_shown,
    gray,
    read_strips,
)
from pipeline.report.samples import SampleFigures, comparable, kind_of, sample_figures, unlikeness
from pipeline.store import Row

pytestmark = pytest.mark.unit

NIFTI = SOURCE_TYPES["nifti"]


def row(name: str, histogram: list[int], *, low: int = -1000, label: int = 0, warnings: str = "[]") -> Row:
    statistics = f'{{"min": {low}, "max": 900, "limits": [-1200, 2000], "histogram": {histogram},'
    facts = f'{{"shape": [5, 6, 7], "spacing_mm": [2.0, 1.0, 1.0], "warnings": {warnings}}}'
    return Row(name, label, "", f"{name}.nii", name, name, facts, "", statistics + ' "different": null}')


def figures(*rows: Row, classes: tuple[str, ...] = ("A", "B")) -> list[SampleFigures]:
    return sample_figures(rows, classes, {}, NIFTI)


# --- oddness ------------------------------------------------------------------------------------


def test_unlikeness_by_hand():
    shares = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.25, 0.5, 0.25], [0, 0, 1]])
    # Medians 0.375, 0.5, 0.125 add up to 1; what each has in common with them: 0.375 + 0.5, and so on.
    np.testing.assert_allclose(unlikeness(shares), [0.125, 0.125, 0.125, 0.875])


@given(arrays(np.float64, (7, 5), elements=st.floats(0.01, 1)))
def test_unlikeness_is_between_0_and_1_and_0_among_equals(values):
    shares = values / values.sum(axis=1, keepdims=True)
    assert ((unlikeness(shares) > -1e-9) & (unlikeness(shares) <= 1)).all()
    np.testing.assert_allclose(unlikeness(np.repeat(shares[:1], 4, axis=0)), 0, atol=1e-9)


def test_histograms_without_a_common_bin_have_no_typical_one():
    assert np.isfinite(unlikeness(np.eye(6))).all()


def test_doubts_come_before_rare_notes_and_these_before_the_rest():
    usual = [row(f"s{number}", [10, 10, 0]) for number in range(20)]
    noted = row("noted", [10, 10, 0], warnings='["5 bytes after the voxels"]')
    doubtful = row("doubtful", [10, 10, 0], low=0)
    found = figures(*usual, noted, doubtful)
    assert [sample.id for sample in found[:2]] == ["doubtful", "noted"]
    assert found[0].reasons == ("no value below -200 (lowest 0): not Hounsfield units?",)
    assert found[1].reasons == ("5 bytes after the voxels",)
    assert [sample.reasons for sample in found[2:]] == [()] * 20


def test_a_note_that_many_share_is_no_oddness():
    found = figures(*(row(f"s{n}", [1], warnings=f'["{n} bytes after the voxels"]') for n in range(20)))
    assert {sample.reasons for sample in found} == {()}
    assert {kind_of(sample.notes[0]) for sample in found} == {"# bytes after the voxels"}


def test_values_unlike_the_others_are_a_reason():
    usual = [row(f"s{number}", [10 + number % 3, 10, 0, 0]) for number in range(20)]
    found = figures(*usual, row("other", [0, 0, 0, 30]))
    assert found[0].id == "other"
    assert found[0].reasons == ("its values have 0% in common with the typical ones",)


def test_statistics_may_be_missing_or_of_other_limits():
    old = replace(row("old", [1]), statistics="{}", facts="{}")
    other = replace(row("other", [9]), statistics=row("other", [9]).statistics.replace("2000", "255"))
    usual = [row(f"s{number}", [1, 2]) for number in range(3)]
    found = figures(old, other, *usual)
    assert {sample.id for sample in comparable(found)} == {"s0", "s1", "s2"}
    (shown,) = [sample for sample in found if sample.id == "old"]
    assert (shown.lowest, shown.shape, shown.histogram) == (None, (), ())


# --- pictures -----------------------------------------------------------------------------------


def test_the_choice_does_not_depend_on_the_order_of_rows():
    rows = [row(f"s{number}", [1], label=number % 2) for number in range(50)]
    _, chosen = choose_shown(figures(*rows), ("A", "B"))
    _, again = choose_shown(figures(*rows[::-1]), ("A", "B"))
    assert {label: [s.id for s in held] for label, held in chosen.items()} == {
        label: [s.id for s in held] for label, held in again.items()
    }
    assert [len(held) for held in chosen.values()] == [6, 6]


@pytest.mark.parametrize("classes", [1, 5, 30, 101])
def test_every_class_is_shown_and_not_too_many_stacks(classes):
    names = tuple(f"class {number}" for number in range(classes))
    rows = [row(f"s{number}", [1], low=0, label=number % classes) for number in range(4 * classes)]
    odd, chosen = choose_shown(figures(*rows, classes=names), names)
    assert set(chosen) == set(names)
    assert sum(map(len, chosen.values())) <= max(SHOWN, classes)
    assert len(odd) == min(ODD_SHOWN, 4 * classes)


class Volumes:
    """Stands in for a store: gives volumes by their number."""

    def __init__(self, *volumes: np.ndarray) -> None:
        self.volumes = volumes

    def read(self, index: int) -> np.ndarray:
        return self.volumes[index]


def decoded(uri: str) -> np.ndarray:
    kind, _, text = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"))


def test_a_strip_shows_the_volume_from_its_first_to_its_last_picture():
    ramp = np.linspace(0, 1, 70, dtype=np.float16)[:, None, None] * np.ones((70, 64, 32), np.float16)
    (sample,) = figures(row("s0", [1]))
    strip = read_strips(Volumes(ramp), [sample])[0]  # type: ignore[arg-type]
    assert strip.numbers[0] == 1
    assert strip.numbers[-1] == strip.depth == 70
    assert len(strip.numbers) == STEPS
    shown = decoded(strip.uri).reshape(STEPS, SIDE, SIDE // 2)
    wanted = [255 * (position - 1) / 69 for position in strip.numbers]
    np.testing.assert_allclose(shown.mean(axis=(1, 2)), wanted, atol=3)
    assert strip.ratio == 0.5


def test_noise_stays_within_the_budget(monkeypatch):
    monkeypatch.setattr(pictures, "BUDGET", 400_000)
    noise = np.random.default_rng(2).random((70, 200, 200), np.float32)
    samples = figures(*(row(f"s{number}", [1]) for number in range(3)))
    strips = read_strips(Volumes(*[noise] * 3), samples)  # type: ignore[arg-type]
    assert sum(len(strip.uri) for strip in strips.values()) < 405_000


def test_one_picture_and_bytes_are_shown_as_they_are():
    picture = np.arange(128 * 128, dtype=np.uint32).reshape(1, 128, 128).astype(np.uint8)
    strip = read_strips(Volumes(picture), figures(row("s0", [1])))[0]  # type: ignore[arg-type]
    assert strip.numbers == (1,)
    assert gray(picture) is picture
    assert gray(np.array([[-0.1, 0.5, 1.2]], np.float16)).tolist() == [[0, 128, 255]]


# --- charts and numbers -------------------------------------------------------------------------


def test_heights_go_with_the_square_root():
    path = area([1, 4, 0, 16], 16, 40, 20)
    assert path == "M0 20V15H10V10H20V20H30V0H40V20Z"
    assert outline([1, 4, 0, 16], 16, 40, 20) == "M0 15V15H10V10H20V20H30V0H40"
    assert re.fullmatch(r"M0 20(V20H[\d.]+)*V20Z", area([0, 0, 0], 0, 40, 20))
    assert (area([], 0, 40, 20), outline([], 0, 40, 20)) == ("M0 20V20Z", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1024, "−1\u202f024"), (0.6035, "0.6035"), (12.5, "12.5"), (3, "3"), (563.2, "563.2"), (None, "–")],
)
def test_numbers_have_the_digits_that_matter(value, text):
    assert number(value) == text


def test_shares():
    assert (share(1, 8), share(0, 0)) == ("12.5 %", "–")


def test_what_others_wrote_is_neither_markup_nor_turned_around():
    shown = environment().from_string("{{ text }}").render(text="<b>\u202etxt.exe")
    assert shown == "&lt;b&gt;\\u202etxt.exe"
