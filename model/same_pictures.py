"""Runs over pictures, all judged on the same ones: networks of single frames beside networks of windows.

A network of windows says nothing of the first pictures of a stack, which have too few before them. On the
pictures that all runs judged, each by the true class of that picture, they can be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model import scores
from model.judged import Judged
from model.stacks import PerStack, per_stack


@dataclass(frozen=True)
class OnSame:
    """One run: shares of right pictures over all, in each stack, and of each true class.

    ``recall`` is None for a class that does not occur.
    """

    accuracy: float
    stacks: PerStack
    recall: Mapping[str, float | None]


@dataclass(frozen=True)
class SamePictures:
    """The number of pictures that all runs judged, of their stacks, and what each run makes of them."""

    pictures: int
    stacks: int
    runs: Mapping[str, OnSame]


def same_pictures(runs: Mapping[str, Judged], classes: Sequence[str]) -> SamePictures:
    """Judge runs whose predictions are for the same pictures in the same order; there must be one."""
    found = {name: _on_same(judged, classes) for name, judged in runs.items()}
    first = next(iter(runs.values()))
    return SamePictures(len(first.ids), len(set(first.stacks)), found)


def _on_same(judged: Judged, classes: Sequence[str]) -> OnSame:
    counts = scores.confusion(judged.truth, judged.predicted, len(classes))
    recall = scores.rates(counts[np.newaxis])["recall"][0]
    return OnSame(
        accuracy=float(np.mean(judged.truth == judged.predicted)),
        stacks=per_stack(judged.truth, judged.predicted, judged.stacks),
        recall={
            name: None if np.isnan(share) else float(share)
            for name, share in zip(classes, recall, strict=True)
        },
    )
