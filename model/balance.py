"""Which samples an epoch sees, so that frequent classes do not outweigh rare ones: indices, no data.

Labels are indices of classes ``(n,)``; indices int64 into them come out, in an order drawn by
``seed``. Only the part that is trained on may be balanced: elsewhere it would change what is measured.

    undersample   every class as often as the rarest, no sample twice
    oversample    every class as often as the most frequent, every sample at least once
    resample_to   every class as often as asked for, drawn with replacement (COVIDNet-CT-Identification)
    even_batches  every batch holds each class equally often (as COVIDNet-CT does on average)
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import resample

from pipeline.errors import ConfigError

Int64 = NDArray[np.int64]


def undersample(labels: Sequence[int] | Int64, *, seed: int) -> Int64:
    """Leave samples out until every class that occurs is as rare as the rarest."""
    members, rng = _members(labels), np.random.default_rng(seed)
    fewest = min(map(len, members))
    return _shuffled([rng.choice(each, fewest, replace=False) for each in members], rng)


def oversample(labels: Sequence[int] | Int64, *, seed: int) -> Int64:
    """Repeat samples until every class that occurs is as frequent as the most frequent.

    No sample of a class occurs over once more often than another of it.
    """
    members, rng = _members(labels), np.random.default_rng(seed)
    most = max(map(len, members))
    return _shuffled([_cycled(each, most, rng) for each in members], rng)


def resample_to(labels: Sequence[int] | Int64, target: int, *, seed: int) -> Int64:
    """Draw ``target`` samples of each class with replacement; a class of just as many stays as it is.

    The draws are those of scikit-learn's ``resample(replace=True, random_state=seed)`` for each class
    by itself. Raises ConfigError if the target is below 1.
    """
    if target < 1:
        raise ConfigError.of("balance", "bad-value", f"{target} samples per class", "give 1 or more")
    members = _members(labels)
    drawn = [
        each if len(each) == target else resample(each, n_samples=target, random_state=seed)
        for each in members
    ]
    return _shuffled(drawn, np.random.default_rng(seed))


def even_batches(labels: Sequence[int] | Int64, batch_size: int, *, seed: int, epoch: int = 0) -> Int64:
    """The samples of one epoch, as many as there are, in batches that hold each class equally often.

    A rare class is gone through again, in another order, as often as it takes. Where the classes do
    not divide the batch, they take turns, so that two of them differ by two samples at most.
    """
    members, rng = _members(labels), np.random.default_rng([seed, epoch])
    total, count = len(labels), len(members)
    turns = np.concatenate([rng.permutation(count) for _ in range(-(-total // count))])[:total]
    needed = np.bincount(turns, minlength=count)
    drawn = [_cycled(each, int(size), rng) for each, size in zip(members, needed, strict=True)]
    order = np.empty(total, np.int64)
    for label, samples in enumerate(drawn):
        order[turns == label] = samples
    batches = [order[start : start + batch_size] for start in range(0, total, batch_size)]
    return np.concatenate([rng.permutation(batch) for batch in batches])


def _members(labels: Sequence[int] | Int64) -> list[Int64]:
    """The indices of each class that occurs."""
    found = np.asarray(labels, np.int64)
    if not found.size:
        raise ConfigError.of("balance", "empty-part", "there are no samples", "split with other fractions")
    return [np.flatnonzero(found == label) for label in np.unique(found)]


def _cycled(samples: Int64, count: int, rng: np.random.Generator) -> Int64:
    """``count`` of the samples: all of them in a new order, over and over."""
    rounds = [rng.permutation(samples) for _ in range(-(-count // len(samples)))]
    return np.concatenate(rounds)[:count]


def _shuffled(pieces: Sequence[Int64], rng: np.random.Generator) -> Int64:
    return rng.permutation(np.concatenate(pieces))
