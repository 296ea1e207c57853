"""Balanced epochs: counted, and beside scikit-learn's draws."""

import numpy as np
import pytest
from sklearn.utils import resample

from model.balance import even_batches, oversample, resample_to, undersample
from pipeline.errors import ConfigError

LABELS = np.repeat([0, 1, 2], [50, 7, 20])[np.random.default_rng(0).permutation(77)]


def counts(indices: np.ndarray) -> list[int]:
    return np.bincount(LABELS[indices], minlength=3).tolist()


def test_undersampling_leaves_out_and_never_repeats() -> None:
    found = undersample(LABELS, seed=1)
    assert counts(found) == [7, 7, 7]
    assert len(set(found)) == 21


def test_oversampling_keeps_every_sample_and_repeats_evenly() -> None:
    found = oversample(LABELS, seed=1)
    assert counts(found) == [50, 50, 50]
    times = np.bincount(found, minlength=77)
    assert times.min() == 1
    assert [set(times[label == LABELS]) for label in range(3)] == [{1}, {7, 8}, {2, 3}]


def test_resampling_draws_as_the_notebook_did() -> None:
    found = resample_to(LABELS, 20, seed=0)
    assert counts(found) == [20, 20, 20]
    for label in (0, 1):
        expected = resample(np.flatnonzero(label == LABELS), replace=True, n_samples=20, random_state=0)
        assert sorted(found[LABELS[found] == label]) == sorted(expected)
    assert sorted(found[LABELS[found] == 2]) == np.flatnonzero(LABELS == 2).tolist()


@pytest.mark.parametrize("batch_size", [3, 6, 8, 77])
def test_each_batch_holds_each_class_equally_often(batch_size: int) -> None:
    found = even_batches(LABELS, batch_size, seed=2)
    assert len(found) == 77
    for start in range(0, 77, batch_size):
        inside = counts(found[start : start + batch_size])
        assert max(inside) - min(inside) <= 2 if batch_size % 3 else max(inside) - min(inside) <= 1
    assert max(counts(found)) - min(counts(found)) <= 1


def test_the_seed_and_the_epoch_decide() -> None:
    for balance in (undersample, oversample, lambda labels, seed: resample_to(labels, 30, seed=seed)):
        np.testing.assert_array_equal(balance(LABELS, seed=3), balance(LABELS, seed=3))
        assert balance(LABELS, seed=3).tolist() != balance(LABELS, seed=4).tolist()
    epochs = [even_batches(LABELS, 6, seed=3, epoch=epoch).tolist() for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]


def test_nothing_cannot_be_balanced() -> None:
    with pytest.raises(ConfigError, match="empty-part"):
        oversample([], seed=0)
    with pytest.raises(ConfigError, match="bad-value"):
        resample_to(LABELS, 0, seed=0)
