"""Which samples an epoch sees and in which order: positions in the list of samples, no data.

Every epoch is a function of (seed, epoch) and of the ids and labels of the samples, so that a resumed
training goes on as if it had not been stopped, on any machine.

    shuffled      every sample once
    weighted      as many as there are, drawn with replacement, each class as likely as any other
    undersample, oversample, resample, even-batches      see ``model.balance``

Only the part that is trained on may be balanced: elsewhere it would change what is measured.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.balance import even_batches, oversample, resample_to, undersample
from model.settings import Settings

Int64 = NDArray[np.int64]


def order(ids: Sequence[str], *, seed: int | None, epoch: int) -> Int64:
    """Positions of ``ids`` in the order of one epoch, ranked by a hash of (seed, epoch, id)."""
    if seed is None:
        return np.arange(len(ids), dtype=np.int64)
    # A hash instead of a random generator: those of NumPy may change between versions.
    ranks = [_hash(seed, epoch, sample) for sample in ids]
    return np.array(sorted(range(len(ids)), key=ranks.__getitem__), dtype=np.int64)


def weighted(ids: Sequence[str], labels: Sequence[int], *, seed: int, epoch: int) -> Int64:
    """As many positions as there are ids, drawn with replacement: first a class, then one of its samples.

    That is a draw in which each sample weighs 1 / (samples of its class). The draws do not depend on the
    order of the ids.
    """
    by_class: dict[int, list[int]] = {}
    for position in sorted(range(len(ids)), key=ids.__getitem__):
        by_class.setdefault(labels[position], []).append(position)
    classes = [by_class[label] for label in sorted(by_class)]
    drawn = np.empty(len(ids), np.int64)
    for number in range(len(ids)):
        digest = _hash(seed, epoch, f"draw {number}")
        members = classes[_scaled(digest[:8], len(classes))]
        drawn[number] = members[_scaled(digest[8:16], len(members))]
    return drawn


def positions(settings: Settings, ids: Sequence[str], labels: Sequence[int], *, epoch: int) -> Int64:
    """The positions of one epoch of a training, in its order; raises ConfigError as ``model.balance``."""
    seed = settings.seed
    match settings.sampler:
        case "weighted":
            return weighted(ids, labels, seed=seed, epoch=epoch)
        case "even-batches":
            return even_batches(labels, settings.batch_size, seed=seed, epoch=epoch)
        case "undersample":
            chosen = undersample(labels, seed=seed)
        case "oversample":
            chosen = oversample(labels, seed=seed)
        case "resample":
            chosen = resample_to(labels, min(Counter(labels).values()), seed=seed)
        case _:
            return order(ids, seed=seed, epoch=epoch)
    # The same samples in each epoch, in another order; copies of a sample are told apart by a number.
    chosen = np.sort(chosen)
    copies = np.arange(len(chosen)) - np.searchsorted(chosen, chosen)
    names = [f"{ids[at]}:{copy}" for at, copy in zip(chosen, copies, strict=True)]
    return chosen[order(names, seed=seed, epoch=epoch)]


def _hash(seed: int, epoch: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{epoch}:{name}".encode()).digest()


def _scaled(eight: bytes, size: int) -> int:
    """Eight bytes as a fraction of their range, times a size, rounded down."""
    return int.from_bytes(eight) * size >> 64
