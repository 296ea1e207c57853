"""Which samples an epoch sees: a function of seed and epoch, with classes as the sampler wants them."""

import hashlib
from collections import Counter

import numpy as np
import pytest
from scipy.stats import binomtest

from model.sampling import positions, weighted
from model.settings import Settings

LABELS = [0] * 60 + [1] * 30 + [2] * 10
IDS = [f"S{number:03}" for number in range(100)]
SAMPLERS = ("shuffled", "weighted", "oversample", "undersample", "resample", "even-batches")


def seen(sampler: str, *, seed: int = 0, epoch: int = 0, batch_size: int = 10) -> list[int]:
    settings = Settings(sampler=sampler, seed=seed, batch_size=batch_size)
    return positions(settings, IDS, LABELS, epoch=epoch).tolist()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_is_a_function_of_seed_and_epoch(sampler: str) -> None:
    assert seen(sampler) == seen(sampler)
    assert len({tuple(seen(sampler, seed=s, epoch=e)) for s in (0, 1) for e in (0, 1, 2)}) == 6


@pytest.mark.parametrize(
    ("sampler", "counts"),
    [
        ("shuffled", [60, 30, 10]),
        ("oversample", [60, 60, 60]),
        ("undersample", [10, 10, 10]),
        ("resample", [10, 10, 10]),
        ("even-batches", [34, 33, 33]),
    ],
)
def test_classes_are_as_frequent_as_the_sampler_says(sampler: str, counts: list[int]) -> None:
    found = np.bincount([LABELS[at] for at in seen(sampler)]).tolist()
    assert sorted(found, reverse=True) == counts if sampler == "even-batches" else found == counts


@pytest.mark.parametrize("sampler", ["oversample", "undersample", "resample"])
def test_a_balanced_part_is_the_same_in_each_epoch_in_another_order(sampler: str) -> None:
    first, second = seen(sampler, epoch=0), seen(sampler, epoch=1)
    assert first != second
    assert Counter(first) == Counter(second)


def test_weighted_draws_each_class_alike_and_each_sample_of_a_class_alike() -> None:
    drawn = [at for epoch in range(50) for at in seen("weighted", epoch=epoch)]
    assert len(drawn) == 50 * len(IDS)
    for label in range(3):
        count = sum(LABELS[at] == label for at in drawn)
        assert binomtest(count, len(drawn), 1 / 3).pvalue > 1e-4
    of_the_rarest = Counter(at for at in drawn if LABELS[at] == 2)
    assert min(of_the_rarest.values()) > 100 < len(drawn) / 30 < max(of_the_rarest.values()) < 250


def test_weighted_draws_with_replacement() -> None:
    assert len(set(seen("weighted"))) < len(IDS)


def test_a_weighted_draw_by_hand_whatever_the_order_of_the_ids() -> None:
    """The first 8 bytes of a hash choose the class, the next 8 one of its samples, sorted by id."""
    ids, labels = ["d", "b", "c", "a"], [5, 5, 7, 5]
    for epoch in range(5):
        expected = []
        for number in range(4):
            digest = hashlib.sha256(f"3:{epoch}:draw {number}".encode()).hexdigest()
            members = (["a", "b", "d"], ["c"])[int(digest[:16], 16) >= 2**63]
            expected.append(members[int(int(digest[16:32], 16) / 2**64 * len(members))])
        assert [ids[at] for at in weighted(ids, labels, seed=3, epoch=epoch)] == expected
        turned = weighted(ids[::-1], labels[::-1], seed=3, epoch=epoch)
        assert [ids[::-1][at] for at in turned] == expected
