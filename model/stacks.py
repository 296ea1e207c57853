"""How good predictions are in each stack of pictures: a share for each video, and what they are on average.

Truth and predictions are int64 ``(n,)``, ``stacks`` names the stack of each. Needs no TensorFlow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class PerStack:
    """The share of right pictures of each stack; mean and standard deviation of these shares.

    Every stack counts once, however long it is. The deviation divides by the number of stacks, as that of
    SpaceTime-SonoNet does.
    """

    accuracy: Mapping[str, float]
    mean: float
    deviation: float


def per_stack(truth: Int64, predicted: Int64, stacks: Sequence[str]) -> PerStack:
    """The accuracy in each stack, in the order of their names; there must be a picture."""
    names, owner = np.unique(stacks, return_inverse=True)
    shares = np.bincount(owner, weights=truth == predicted) / np.bincount(owner)
    accuracy = dict(zip(names.tolist(), shares.tolist(), strict=True))
    return PerStack(accuracy, float(shares.mean()), float(shares.std()))
