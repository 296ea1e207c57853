"""Decisions for scans and patients, beside tables worked out by hand."""

import numpy as np
import pytest

from model.decisions import by_any, by_mean, labels_of
from pipeline.errors import ConfigError

# Classes: Normal, Pneumonia, COVID-19. Scan b has one suspicious slice, c has two findings.
NAMES = ["b", "a", "b", "c", "b", "c", "a"]
SLICES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.9, 0.05, 0.05],
        [0.3, 0.1, 0.6],
        [0.1, 0.7, 0.2],
        [0.7, 0.2, 0.1],
        [0.05, 0.05, 0.9],
        [0.5, 0.49, 0.01],
    ]
)


def test_the_mean_of_each_scan() -> None:
    found = by_mean(SLICES, NAMES)
    assert found.names == ("a", "b", "c")
    expected = [[0.7, 0.27, 0.03], [0.6, 0.4 / 3, 0.8 / 3], [0.075, 0.375, 0.55]]
    np.testing.assert_allclose(found.probabilities, expected)


def test_any_suspicious_slice_decides() -> None:
    found = by_any(SLICES, NAMES, background=0)
    np.testing.assert_allclose(found.probabilities, SLICES[[6, 2, 5]])
    np.testing.assert_array_equal(found.probabilities.argmax(axis=1), [0, 2, 2])


def test_the_background_need_not_be_the_first_class() -> None:
    turned = np.roll(SLICES, 1, axis=1)
    found = by_any(turned, NAMES, background=1)
    np.testing.assert_allclose(np.roll(found.probabilities, -1, axis=1), SLICES[[6, 2, 5]])


@pytest.mark.parametrize("seed", range(20))
def test_any_finds_nothing_exactly_where_no_slice_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slices, names = rng.dirichlet([3, 1, 1], 60), [f"S{number}" for number in rng.integers(0, 15, 60)]
    found = by_any(slices, names, background=0)
    for name, row in zip(found.names, found.probabilities, strict=True):
        chosen = slices[[other == name for other in names]].argmax(axis=1)
        assert (row.argmax() == 0) == (chosen == 0).all()
        assert row.argmax() in chosen


def test_the_order_of_slices_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(NAMES))
    for rule in (by_mean, lambda rows, names: by_any(rows, names, background=0)):
        one, other = rule(SLICES, NAMES), rule(SLICES[order], [NAMES[index] for index in order])
        assert one.names == other.names
        np.testing.assert_allclose(one.probabilities, other.probabilities)


def test_in_two_steps_each_scan_of_a_patient_counts_the_same() -> None:
    scans = by_mean(np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), ["s1", "s1", "s1", "s2"])
    np.testing.assert_allclose(by_mean(scans.probabilities, ["P", "P"]).probabilities, [[0.5, 0.5]])


def test_labels_belong_to_the_whole_scan() -> None:
    np.testing.assert_array_equal(labels_of([2, 0, 2, 1, 2, 1, 0], NAMES), [0, 2, 1])
    with pytest.raises(ConfigError, match=r"labels: mixed-labels: .*1 name: b → judge single samples"):
        labels_of([2, 0, 1, 1, 2, 1, 0], NAMES)
