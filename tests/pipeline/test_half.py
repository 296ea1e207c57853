"""Float16 by the processor against NumPy's."""

import numpy as np
import pytest

from pipeline.half import to_half

pytestmark = pytest.mark.unit


def test_every_half_and_every_tie_between_two_is_numpys(seed):
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)  # 0 to the largest
    ties = (halves[1:] + halves[:-1]) / 2
    beside = [np.nextafter(ties, np.float32(towards)) for towards in (0, np.inf)]
    drawn = np.random.default_rng(seed).random(1_000_000, np.float32)
    values = np.concatenate([halves, ties, *beside, drawn, drawn * np.float32(1e-4), -ties])
    np.testing.assert_array_equal(to_half(values).view(np.uint16), values.astype(np.float16).view(np.uint16))


def test_shape_and_strides_do_not_matter(seed):
    values = np.random.default_rng(seed).random((4, 6, 10), np.float32)
    np.testing.assert_array_equal(to_half(values[::2, :, ::-3]), values[::2, :, ::-3].astype(np.float16))
