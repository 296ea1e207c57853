"""SpaceTime-SonoNet's split: the last complete patients of each centre validate. Tables made by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cli import main
from pipeline.catalog import load_catalog
from pipeline.demo import write_ultrasound_demo
from pipeline.errors import ConfigError
from pipeline.split import read_split
from pipeline.split.centres import assign_by_centre
from pipeline.store import open_store

Tables = tuple[dict[str, str], dict[str, str]]


def tables(*exams: tuple[str, int, int]) -> Tables:
    """Patient and centre of videos, from (centre, patient, number of videos)."""
    patients, centres = {}, {}
    for centre, patient, count in exams:
        for number in range(count):
            patients[f"{patient}-{number}"] = str(patient)
            centres[f"{patient}-{number}"] = centre
    return patients, centres


def patients_in(homes: dict[str, str], name: str) -> list[int]:
    return sorted({int(video.split("-")[0]) for video, home in homes.items() if home == name})


def test_the_last_fifth_of_the_complete_patients_of_each_centre_validates() -> None:
    # A: 1 to 9 and 12, of which 3 is incomplete: 9 complete, round(1.8) = 2 of them, by number, not by text.
    first = [("A", patient, 5) for patient in (1, 2, 4, 5, 6, 7, 8, 9, 12)]
    # B: 3 complete, round(0.6) = 1; the last patient is incomplete.
    second = [("B", 20, 5), ("B", 21, 5), ("B", 22, 5), ("B", 23, 4)]
    # C: 2 complete, round(0.4) = 0.
    third = [("C", 30, 5), ("C", 31, 5)]
    patients, centres = tables(*first, ("A", 3, 4), *second, *third)

    homes = assign_by_centre(patients, centres, {"train": 0.8, "val": 0.2})

    assert patients_in(homes, "val") == [9, 12, 22]
    assert len(homes) == 9 * 5 + 4 + 3 * 5 + 4 + 2 * 5
    assert sum(home == "val" for home in homes.values()) == 15


def test_who_is_unknown_is_trained_on() -> None:
    patients, centres = tables(*(("A", patient, 5) for patient in range(1, 6)))
    centres["lone"] = "A"
    # Known to be a patient's, but in no table of videos: it does not make anybody complete.
    patients["elsewhere"] = "6"
    homes = assign_by_centre(patients, centres, {"train": 0.8, "val": 0.2})
    assert homes["lone"] == "train"
    assert "elsewhere" not in homes
    assert patients_in({v: h for v, h in homes.items() if v != "lone"}, "val") == [5]


@pytest.mark.parametrize(
    ("number", "test", "val"),
    [(20, 3, 3), (10, 2, 2), (3, 0, 1), (1, 0, 0)],  # round(0.15 n), then round(0.2 (n - test))
)
def test_a_test_split_takes_the_last_and_validation_those_before(number: int, test: int, val: int) -> None:
    patients, centres = tables(*(("A", patient, 5) for patient in range(1, number + 1)))
    homes = assign_by_centre(patients, centres, {"train": 0.68, "val": 0.17, "test": 0.15})
    order = list(range(1, number + 1))
    assert patients_in(homes, "test") == order[number - test :]
    assert patients_in(homes, "val") == order[number - test - val : number - test]


@pytest.mark.parametrize("draw", range(5))
def test_patients_are_in_the_order_of_the_exams_and_not_of_their_dates(draw: int) -> None:
    """The rule as the authors state it: exams sorted by centre, patient and date, the last ones taken.

    A patient's number is its place in ``exams.json``; dates, which are drawn here, order a patient's own
    exams alone.
    """
    rng = np.random.default_rng(draw)
    exams = [
        (str(rng.choice(["A", "B", "C"])), patient, int(rng.choice([3, 5, 5, 5, 6])))
        for patient in range(1, int(rng.integers(60, 200)))
    ]
    patients, centres = tables(*exams)
    dates = {video: int(rng.integers(20180101, 20210101)) for video in centres}
    complete = {str(patient) for _, patient, count in exams if count == 5}

    left = {video for video, patient in patients.items() if patient in complete}
    expected = dict.fromkeys(centres, "train")
    for name, share in (("test", 0.15), ("val", 0.2)):
        for centre in ("A", "B", "C"):
            here = [video for video in left if centres[video] == centre]
            here.sort(key=lambda video: (int(patients[video]), dates[video]))
            count = round(len(here) / 5 * share) * 5
            taken = here[len(here) - count :]
            expected |= dict.fromkeys(taken, name)
            left -= set(taken)

    assert assign_by_centre(patients, centres, {"train": 0.68, "val": 0.17, "test": 0.15}) == expected
    assert set(expected.values()) == {"train", "val", "test"}


def test_other_splits_are_refused(refusal: Callable[..., Any]) -> None:
    problems = refusal(ConfigError, lambda: assign_by_centre({}, {}, {"a": 0.5, "b": 0.5}))
    assert [problem.code for problem in problems] == ["fractions"]


@pytest.mark.slow
def test_the_command_splits_a_store_by_centre(tmp_path: Path) -> None:
    """Four patients a centre, the last incomplete: of three complete ones, round(0.9) = 1 validates."""
    catalog = write_ultrasound_demo(tmp_path / "demo", patients=4)
    for command in (["build", "--scheduler", "sync", "--workers", "1"], ["split"], ["split", "--check"]):
        result = CliRunner().invoke(main, [*command, "--catalog", str(catalog)])
        assert result.exit_code == 0, result.stderr
    (dataset,) = load_catalog(catalog).datasets.values()
    split, store = read_split(dataset.split.file), open_store(dataset.store)
    assert split.method == "sononet-2025"
    group_of = {row.id: row.group for row in store.rows}
    # Patients of the two centres take turns: 5 and 6 are the third of each, 7 and 8 are incomplete.
    assert {group_of[sample] for sample in split.parts["val"]} == {"5", "6"}
    assert {group_of[sample] for sample in split.parts["train"]} == {"1", "2", "3", "4", "7", "8"}
    assert sum(map(len, split.parts.values())) == len(store.rows)


def test_without_centres_it_is_refused(tmp_path: Path, refusal: Callable[..., Any]) -> None:
    catalog = write_ultrasound_demo(tmp_path / "demo", patients=1)
    text = catalog.read_text()
    catalog.write_text(text.replace(", infos: [ultrasound/train-infos.csv]", ""))
    problems = refusal(ConfigError, lambda: load_catalog(catalog))
    assert any("takes centres from `groups`" in problem.reason for problem in problems)
