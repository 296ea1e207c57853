"""The forms that predictions are written in, without a network."""

import csv
import io
from collections.abc import Callable

import pytest

from model.predictions import Prediction, check_submission, submission, table
from pipeline.errors import ConfigError


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_table_can_be_read_back_whatever_the_ids() -> None:
    ids = ["a,b", 'quo"te', "肺", "line\nbreak", "carriage\rreturn", "-1"]
    predictions = [Prediction(sample, sample, (0.25, 0.75)) for sample in ids]
    rows = rows_of(table(predictions, ["@a", "b"]))
    assert [row["id"] for row in rows] == [*ids[:-1], "'-1"]
    assert rows[0] == {"id": "a,b", "predicted": "b", "'@a": "0.25", "b": "0.75"}


def test_a_submission_numbers_classes_from_one() -> None:
    predictions = [
        Prediction("TST_0001", "test/TST_0001.nii.gz", (0.1, 0.8, 0.1)),
        Prediction("TST_0002", "test/TST_0002.nii.gz", (0.4, 0.3, 0.3)),
        Prediction("TST_0003", "test/TST_0003.nii.gz", (0.1, 0.2, 0.7)),
    ]
    assert submission(predictions) == "TST_0001.nii.gz,2\nTST_0002.nii.gz,1\nTST_0003.nii.gz,3\n"


@pytest.mark.parametrize("sources", [["x/a.nii", "y/a.nii"], ["a,b.nii"], ["a\nb.nii"]])
def test_names_that_a_submission_cannot_hold_are_refused(
    sources: list[str], refusal: Callable[..., tuple]
) -> None:
    (problem,) = refusal(ConfigError, lambda: check_submission(sources))
    assert problem.code == "bad-name"
