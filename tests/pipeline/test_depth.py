"""Selected slices against lists written out, and against the paper's own depth of 64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.depth import even, subset

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("slices", [65, 100, 127, 128, 301])
def test_subset_of_64_is_first_16_middle_32_and_last_16(slices):
    middle = slices // 2
    wanted = [*range(16), *range(middle - 16, middle + 16), *range(slices - 16, slices)]
    assert subset(slices, 64).tolist() == wanted


@pytest.mark.parametrize(
    ("slices", "depth", "wanted"),
    [
        (20, 8, [0, 1, 8, 9, 10, 11, 18, 19]),
        (21, 5, [0, 9, 10, 11, 20]),
        (20, 6, [0, 8, 9, 10, 11, 19]),
        (9, 3, [3, 4, 5]),
        (9, 1, [4]),
        (4, 4, [0, 1, 2, 3]),
        (3, 5, [0, 1, 2, 2, 2]),
        (1, 4, [0, 0, 0, 0]),
    ],
)
def test_subset(slices, depth, wanted):
    assert subset(slices, depth).tolist() == wanted


@pytest.mark.parametrize(
    ("slices", "depth", "wanted"),
    [
        (128, 64, list(range(0, 128, 2))),
        (200, 64, list(range(0, 192, 3))),
        (127, 64, list(range(64))),  # every first slice, cut
        (64, 64, list(range(64))),
        (60, 64, [*range(60), 59, 59, 59, 59]),
        (10, 3, [0, 3, 6]),
        (10, 1, [0]),
        (1, 3, [0, 0, 0]),
    ],
)
def test_even(slices, depth, wanted):
    assert even(slices, depth).tolist() == wanted


@pytest.mark.parametrize("select", [subset, even])
@given(slices=st.integers(1, 900), depth=st.integers(1, 300))
def test_every_index_is_a_slice_and_none_comes_twice_where_there_are_enough(select, slices, depth):
    indices = select(slices, depth)
    assert indices.shape == (depth,)
    assert indices.min() >= 0
    assert indices.max() < slices
    steps = np.diff(indices)
    assert (steps >= 0).all()
    assert np.count_nonzero(steps == 0) == max(0, depth - slices)


@pytest.mark.parametrize("select", [subset, even])
@pytest.mark.parametrize(("slices", "depth"), [(0, 5), (5, 0)])
def test_nothing_has_no_slices(select, slices, depth):
    with pytest.raises(ValueError, match="at least one slice"):
        select(slices, depth)
