"""The text of an evaluation: within 80 columns, every number where it belongs."""

import numpy as np
import pytest

from model.curves import reliability
from model.evaluate import Evaluation
from model.levels import background_of, levels
from model.score_text import files_text, text
from model.scores import score

COVIDX = ("Normal", "Pneumonia", "COVID-19")
SONONET = ("diramazione-porta", "confluenza-sovraepatiche", "rapporto-epatorenale", "other")


def evaluation(classes: tuple[str, ...], samples: int = 120, *, grouped: bool = True) -> Evaluation:
    """Random predictions, better than guessing; a patient has four samples of one class."""
    rng, count = np.random.default_rng(0), len(classes)
    truth = np.arange(samples) // 4 % count
    raw = rng.random((samples, count)) + np.eye(count)[truth]
    shares = raw / raw.sum(axis=1, keepdims=True)
    groups = [f"P{index // 4}" if grouped else "" for index in range(samples)]
    background = background_of(classes, None)
    return Evaluation(
        run="runs/some-run",
        dataset="some_data",
        split="val",
        scores=score(truth, shares, classes, groups=groups, draws=50),
        levels=levels(truth, shares, classes, {"group": groups}, background=background),
        background=None if background is None else classes[background],
        reliability=reliability(truth, shares),
        store_digest="",
        split_digest="",
        weights_sha256="",
        files=tuple(f"a-long-name-of-a-figure-{number}.png" for number in range(9)),
    )


@pytest.mark.parametrize("classes", [COVIDX, SONONET, tuple(f"class {n:02}" for n in range(40)), ("a", "b")])
@pytest.mark.parametrize("samples", [4, 120, 1_200])
def test_no_line_is_wider_than_a_terminal(classes: tuple[str, ...], samples: int) -> None:
    found = evaluation(classes, samples)
    lines = [*text(found).splitlines(), *files_text(found).splitlines()]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line != line.rstrip()]


def test_the_numbers_are_those_of_the_scores() -> None:
    found = evaluation(COVIDX)
    lines = text(found).splitlines()
    assert lines[0] == "runs/some-run on some_data, split val: 120 samples in 30 groups"
    of_pneumonia = lines.index(next(line for line in lines if line.startswith("Pneumonia")))
    scores = found.scores.per_class["Pneumonia"]
    kinds = ("precision", "recall", "specificity", "f1", "auc", "average_precision")
    assert lines[of_pneumonia].split() == ["Pneumonia", *(f"{scores[kind].value:.2f}" for kind in kinds)]
    ranges = [f"{scores[kind].low:.2f}–{scores[kind].high:.2f}" for kind in kinds]
    assert lines[of_pneumonia + 1].split() == ["40", "samples", *ranges]
    row = next(line for line in lines if line.startswith("  2 Pneumonia"))
    assert row.split()[2:] == [str(count) for count in found.scores.confusion[1]]


def test_groups_have_a_line_for_each_rule() -> None:
    lines = text(evaluation(COVIDX)).splitlines()
    counts = {line[:24].strip(): line[24:30].strip() for line in lines if line.startswith(("each", "group"))}
    assert counts == {"each sample": "120", "group, mean probability": "30", "group, most suspicious": "30"}
    assert "no finding is the class Normal" in lines[-1]


def test_without_groups_there_is_no_second_level() -> None:
    found = text(evaluation(SONONET, grouped=False))
    assert "decision for" not in found
    assert "120 samples\n" in found


def test_without_a_background_the_option_is_named() -> None:
    assert "`--background CLASS`" in text(evaluation(SONONET)).splitlines()[-1]


def test_many_classes_are_referred_to_the_figure() -> None:
    assert "confusion matrix of 40 classes is in confusion.png" in text(
        evaluation(tuple(f"c{n}" for n in range(40)), 400)
    )


def test_a_score_that_is_not_defined_is_a_dash() -> None:
    found = text(evaluation(COVIDX, samples=4))  # all of the first class
    line = next(line for line in found.splitlines() if line.startswith("COVID-19"))
    assert "–" in line.split()
