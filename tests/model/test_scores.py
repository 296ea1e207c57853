"""Scores beside scikit-learn's, tables worked out by hand, and figures that others published."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from model.curves import Ranked, calibration_error, precision_recall, reliability, roc
from model.scores import accuracy, confusion, kappa, macro, percentages, rates, score

NAMES = ("Normal", "Pneumonia", "COVID-19")
# Rows are the truth. By hand: 7 of 10 right; Normal: 3 of 4 found, 3 of 5 right, F1 2·3/(4+5);
# chance (4·5 + 3·2 + 3·3) / 100 = 0.35, kappa (0.7 − 0.35) / 0.65.
COUNTS = np.array([[3, 0, 1], [1, 2, 0], [1, 0, 2]])


def predictions(samples: int = 200, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and probabilities rounded so that many are equal."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, samples)
    raw = rng.random((samples, classes)) + 0.7 * np.eye(classes)[truth]
    rounded = np.round(raw, 1)
    return truth, rounded / rounded.sum(axis=1, keepdims=True)


def test_a_table_worked_out_by_hand() -> None:
    assert accuracy(COUNTS) == pytest.approx(0.7)
    assert kappa(COUNTS) == pytest.approx(0.35 / 0.65)
    found = rates(COUNTS)
    np.testing.assert_allclose(found["precision"], [3 / 5, 1, 2 / 3])
    np.testing.assert_allclose(found["recall"], [3 / 4, 2 / 3, 2 / 3])
    np.testing.assert_allclose(found["specificity"], [4 / 6, 1, 6 / 7])
    np.testing.assert_allclose(found["f1"], [6 / 9, 4 / 5, 4 / 6])
    np.testing.assert_allclose(
        percentages(COUNTS), [[75, 0, 25], [100 / 3, 200 / 3, 0], [100 / 3, 0, 200 / 3]]
    )


def test_the_figures_of_covidnet_ct_id_follow_from_its_confusion_matrices(shared: Path) -> None:
    runs = json.loads((shared / "oracle_covid/metrics.json").read_text())["runs"]
    evaluations = [evaluation for run in runs.values() for evaluation in run["evaluations"]]
    assert len(evaluations) == 25
    for evaluation in evaluations:
        counts = np.array(evaluation["confusion_matrix"])
        found, expected = rates(counts), evaluation["recomputed"]["full"]
        assert accuracy(counts) == pytest.approx(evaluation["recomputed"]["accuracy"], abs=1e-15)
        assert 100 * accuracy(counts) == pytest.approx(evaluation["printed"]["acc"], abs=6e-5)
        for name in ("precision", "recall", "f1"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)
            # Printed to two digits; the original's F1 is that of the printed precision and recall.
            digits = 0.0151 if name == "f1" else 0.00501
            np.testing.assert_allclose(100 * found[name], evaluation["printed"][name], atol=digits)
        means = {name: macro(found[name]) for name in ("precision", "recall", "f1")}
        assert means["precision"] == pytest.approx(expected["macro_precision"])
        assert means["recall"] == pytest.approx(expected["macro_recall"])
        assert means["f1"] == pytest.approx(expected["macro_f1_mean_of_f1"])
        # The original took F1 of the two means, not the mean of the F1s.
        of_means = 2 * means["precision"] * means["recall"] / (means["precision"] + means["recall"])
        assert of_means == pytest.approx(expected["macro_f1_of_macros"])


@pytest.mark.parametrize("seed", range(5))
def test_everything_equals_scikit_learn(seed: int) -> None:
    truth, probabilities = predictions(seed=seed)
    predicted = probabilities.argmax(axis=1)
    found = score(truth, probabilities, NAMES, draws=50)
    assert found.accuracy.value == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert found.kappa.value == pytest.approx(metrics.cohen_kappa_score(truth, predicted))
    one_hot = np.eye(3)[truth]
    expected = {
        "precision": metrics.precision_score(truth, predicted, average=None),
        "recall": metrics.recall_score(truth, predicted, average=None),
        "f1": metrics.f1_score(truth, predicted, average=None),
        "auc": metrics.roc_auc_score(one_hot, probabilities, average=None),
        "average_precision": metrics.average_precision_score(one_hot, probabilities, average=None),
        "specificity": [metrics.recall_score(truth != label, predicted != label) for label in range(3)],
    }
    for kind, values in expected.items():
        of_classes = [found.per_class[name][kind].value for name in NAMES]
        np.testing.assert_allclose(of_classes, values, err_msg=kind)
        assert found.macro[kind].value == pytest.approx(np.mean(values))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(truth, predicted))


@pytest.mark.parametrize("seed", range(3))
def test_weighted_areas_equal_scikit_learn(seed: int) -> None:
    truth, probabilities = predictions(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(truth))).astype(float)
    above, precise = Ranked(truth == 1, probabilities[:, 1]).areas(weights)
    for row, area, mean in zip(weights, above, precise, strict=True):
        options = {"sample_weight": row}
        assert area == pytest.approx(metrics.roc_auc_score(truth == 1, probabilities[:, 1], **options))
        expected = metrics.average_precision_score(truth == 1, probabilities[:, 1], **options)
        assert mean == pytest.approx(expected)


def areas(positive: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve, and average precision, of samples that count alike."""
    roc_area, precision = Ranked(positive, score).areas(np.ones((1, len(score))))
    return float(roc_area[0]), float(precision[0])


def test_areas_are_those_under_the_curves() -> None:
    truth, probabilities = predictions(40)
    curve = roc(truth == 2, probabilities[:, 2])
    assert curve is not None
    area, _ = areas(truth == 2, probabilities[:, 2])
    assert area == pytest.approx(np.trapezoid(curve.y, curve.x))
    curve = precision_recall(truth == 2, probabilities[:, 2])
    assert curve is not None
    assert curve.x[0] == 1
    assert curve.x[-1] == 0
    assert curve.x.shape == curve.y.shape == curve.threshold.shape


def test_an_area_worked_out_by_hand() -> None:
    """Positives 0.9 and 0.4, negatives 0.4 and 0.1: of four pairs three are in order, one is even."""
    truth, positive = np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1])
    # Precision 1 at half of the recall, 2/3 at all of it; the class of the negatives mirrors it.
    expected = [3.5 / 4, 0.5 * 1 + 0.5 * 2 / 3]
    np.testing.assert_allclose(areas(truth == 1, positive), expected)
    np.testing.assert_allclose(areas(truth == 0, 1 - positive), expected)


def test_calibration_worked_out_by_hand() -> None:
    """Two bins: 0.25 and 0.5 belong to the lower one, the three above to the upper one."""
    probabilities = np.array([[0.5, 0.25, 0.25], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    truth = np.array([0, 1, 1, 2])
    curve = reliability(truth, probabilities, bins=2)
    np.testing.assert_array_equal(curve.samples, [1, 3])
    np.testing.assert_allclose(curve.confidence, [0.5, 0.8])
    np.testing.assert_allclose(curve.accuracy, [1, 2 / 3])
    error = calibration_error(truth, probabilities, np.ones((1, 4)), bins=2)
    np.testing.assert_allclose(error, 0.25 * 0.5 + 0.75 * (0.8 - 2 / 3))
    assert np.isnan(reliability(truth[:1], probabilities[:1], bins=4).accuracy).sum() == 3


def test_what_is_not_defined_is_none_and_warns_nobody() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = score([0, 0], probabilities, NAMES, draws=20)
    assert found.kappa.value is found.kappa.low is None
    assert found.accuracy.value == 1
    absent = found.per_class["COVID-19"]
    assert {kind: item.value for kind, item in absent.items() if item.value is not None} == {
        "specificity": 1.0
    }
    assert found.macro["recall"].value == 1
    assert found.macro["auc"].value is None
    assert json.loads(json.dumps(asdict(found)))["per_class"]["Normal"]["specificity"]["value"] is None


def test_three_right_samples_prove_little() -> None:
    found = score([0, 1, 2], np.eye(3), NAMES)
    for name in ("accuracy", "kappa"):
        item = getattr(found, name)
        assert item.value == item.high == 1
        assert item.low is not None
        assert item.low < 0.5, name
    for name in NAMES:
        for kind in ("precision", "recall", "f1", "auc", "average_precision"):
            item = found.per_class[name][kind]
            assert item.value == 1
            assert item.low is not None
            assert item.low < 0.35, kind


def test_slices_of_few_patients_give_wider_intervals_than_as_many_patients() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(40), 25)
    truth = patients % 3
    good = rng.random(40) < 0.8  # all slices of a patient are read the same way
    probabilities = 0.2 + 0.4 * np.eye(3)[np.where(good[patients], truth, (truth + 1) % 3)]
    probabilities += 0.01 * rng.random((1000, 3))
    alone = score(truth, probabilities, NAMES, draws=300)
    together = score(truth, probabilities, NAMES, groups=[f"P{number}" for number in patients], draws=300)
    assert (alone.groups, together.groups) == (1000, 40)
    for name in ("accuracy", "kappa"):
        narrow, wide = getattr(alone, name), getattr(together, name)
        assert narrow.value == wide.value
        assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    # Patients who are all alike inside count as one trial each: Wilson for 40.
    assert together.accuracy.high - together.accuracy.low == pytest.approx(2 * 0.12, abs=0.03)


def test_the_seed_decides() -> None:
    truth, probabilities = predictions(60)
    first, again, other = (score(truth, probabilities, NAMES, draws=50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.kappa != other.kappa


def test_a_class_that_nobody_predicts_stays_in_the_matrix() -> None:
    np.testing.assert_array_equal(
        confusion(np.array([0, 2]), np.array([0, 0]), 3), [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    )
    assert np.isnan(macro(np.array([np.nan, np.nan])))
