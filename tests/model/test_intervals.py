"""Intervals and paired tests beside published examples."""

import numpy as np
import pytest
from scipy import stats

from model.intervals import bootstrap, drawn_interval, effective_trials, numbered, share_interval, wilson
from model.paired import difference, mcnemar
from model.scores import accuracy, kappa


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_equals_the_published_examples(hits: int, trials: int, low: float, high: float) -> None:
    """R. G. Newcombe, Statistics in Medicine 17, 1998, Table I, method 3."""
    np.testing.assert_allclose(wilson(hits, trials), (low, high), atol=5e-5)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (3, 3), (2, 3), (17, 40), (999, 1000)])
def test_wilson_equals_scipy(hits: int, trials: int) -> None:
    expected = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson(hits, trials), expected, atol=1e-12)


def test_without_trials_there_is_no_interval() -> None:
    assert np.isnan(wilson(0, 0)).all()
    assert np.isnan(share_interval(np.array([], bool), np.array([], int))).all()


def test_groups_are_numbered_and_the_nameless_stand_alone() -> None:
    found = numbered(["b", "", "b", "a", ""], 5)
    assert found[0] == found[2]
    assert len(set(found)) == 4
    assert sorted(set(found)) == [0, 1, 2, 3]
    np.testing.assert_array_equal(numbered(None, 3), [0, 1, 2])


def test_samples_that_repeat_their_group_count_once() -> None:
    hit = np.repeat(np.arange(50) % 5 > 0, 8)  # 40 of 50 groups, all eight samples of a group agree
    groups = np.repeat(np.arange(50), 8)
    assert effective_trials(hit, groups) == pytest.approx(50, rel=0.03)
    assert effective_trials(hit, np.arange(400)) == 400
    mixed = np.random.default_rng(0).random(400) < 0.8  # groups mean nothing here
    assert effective_trials(mixed, groups) > 250


def test_where_all_are_hits_groups_are_the_trials() -> None:
    found = share_interval(np.ones(100, bool), np.repeat([0, 1, 2, 3], 25))
    np.testing.assert_allclose(found, wilson(4, 4))


def test_the_bootstrap_of_a_mean_has_the_standard_error_of_groups() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 5)
    values = np.repeat(rng.normal(size=100), 5)
    drawn = bootstrap(lambda weights: (weights @ values / weights.sum(axis=1))[:, None], groups, draws=4000)
    assert drawn.shape == (4000, 1)
    assert drawn.std() == pytest.approx(values[::5].std() / 10, rel=0.05)
    low, high = drawn_interval(values.mean(), drawn[:, 0], 100, lowest=-9.0)
    reach = 1.96 * values[::5].std() / 10
    np.testing.assert_allclose((low, high), (values.mean() - reach, values.mean() + reach), atol=0.02)


def test_an_interval_without_width_is_widened() -> None:
    same = np.full(500, 1.0)
    np.testing.assert_allclose(drawn_interval(1.0, same, 3), wilson(3, 3))
    np.testing.assert_allclose(drawn_interval(1.0, same, 400), wilson(400, 400))
    assert drawn_interval(1.0, same, 3, lowest=-1.0)[0] == pytest.approx(2 * wilson(3, 3)[0] - 1)
    assert np.isnan(drawn_interval(np.nan, same, 3)).all()


# --- paired ---------------------------------------------------------------------------------------


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two predictions of two classes with these numbers of right ones."""
    truth = np.zeros(both + first + second + neither, int)
    one = np.repeat([0, 0, 1, 1], [both, first, second, neither])
    other = np.repeat([0, 1, 0, 1], [both, first, second, neither])
    return truth, one, other


@pytest.mark.parametrize(
    ("table", "p_value"),
    [
        # M. P. Fay, "Exact McNemar's test and matching confidence intervals" (R package exact2x2).
        ((21, 9, 2, 12), 0.06543),
        ((5, 1, 6, 0), 2 * (1 + 7) / 2**7),  # by hand
        ((5, 4, 4, 2), 1.0),
        ((5, 0, 0, 2), 1.0),
    ],
)
def test_mcnemar_equals_published_examples(table: tuple[int, int, int, int], p_value: float) -> None:
    found = mcnemar(*pairs(*table))
    assert (found.first_only, found.second_only) == table[1:3]
    assert found.p_value == pytest.approx(p_value, abs=5e-6)


def test_the_paired_difference_is_narrower_than_two_intervals() -> None:
    truth, one, other = pairs(700, 20, 60, 220)
    found = difference(accuracy, truth, one, other, 2)
    assert found.value == pytest.approx(0.04)
    # The normal interval of a paired difference: (b + c − (c − b)²/n) / n².
    reach = 1.96 * np.sqrt(80 - 40**2 / 1000) / 1000
    np.testing.assert_allclose((found.low, found.high), (0.04 - reach, 0.04 + reach), atol=0.003)


def test_a_difference_of_kappa_over_groups_is_wider() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 600)
    patients = np.repeat(np.arange(60), 10)
    wrong = rng.random(60)[patients]
    one = np.where(wrong < 0.3, (truth + 1) % 3, truth)
    other = np.where(wrong < 0.2, (truth + 1) % 3, truth)
    alone = difference(kappa, truth, one, other, 3)
    together = difference(kappa, truth, one, other, 3, groups=[f"P{number}" for number in patients])
    assert alone.value == together.value > 0
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_three_samples_cannot_tell_two_runs_apart() -> None:
    found = difference(accuracy, np.array([0, 1, 2]), np.array([0, 0, 0]), np.array([0, 1, 2]), 3)
    assert found.value == pytest.approx(2 / 3)
    assert found.low < 0
