"""Products of banded matrices: how one axis of an array is resampled.

Resampling weighs neighbours only, so its matrix (outputs, inputs) is a narrow band. The band is kept as
blocks: a few output rows each, with only the input rows that matter to them. Values and results are
float32 or float64, of the same type as the weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Block:
    """Output rows ``out`` of one axis as ``weights`` (rows, inputs) times the input rows ``inputs``."""

    out: slice
    inputs: slice
    weights: Float


def multiply_rows(blocks: Iterable[Block], values: Float, out: Float) -> None:
    """Resample the axis before the last: values (..., inputs, columns) to ``out`` (..., outputs, columns)."""
    for block in blocks:
        np.matmul(block.weights, values[..., block.inputs, :], out=out[..., block.out, :])


def multiply_columns(blocks: Iterable[Block], values: Float, out: Float) -> None:
    """Resample the last axis: values (lines, inputs) to ``out`` (lines, outputs)."""
    for block in blocks:
        np.matmul(values[:, block.inputs], block.weights.T, out=out[:, block.out])
