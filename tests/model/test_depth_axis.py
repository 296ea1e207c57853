"""Where pictures of a volume lie in their source, beside SciPy's own zoom."""

import json

import numpy as np
import pytest
from scipy.ndimage import zoom

from model.depth_axis import DepthAxis, depth_axis

CT = {"type": "nifti", "shape": [70, 224, 224]}
FACTS = json.dumps({"shape": [150, 512, 512], "spacing_mm": [2.5, 0.7, 0.7]})


@pytest.mark.parametrize(("pictures", "depth"), [(150, 70), (20, 70), (9, 2)])
def test_places_are_those_that_siz_reads(pictures: int, depth: int) -> None:
    """A straight line, zoomed by SciPy, tells of each picture where it lies."""
    line = zoom(np.arange(pictures, dtype=np.float64), depth / pictures, order=1, mode="nearest")
    scale = DepthAxis("slice", depth, pictures).scale
    assert scale is not None
    np.testing.assert_allclose(scale * np.arange(depth), line, atol=1e-9)


def test_a_slice_of_a_scan_in_words() -> None:
    axis = depth_axis(CT, FACTS, 70)
    assert axis.place(0) == "slice 1 of 70; source slice 1 of 150, 0 mm from the inferior end"
    assert axis.place(69) == "slice 70 of 70; source slice 150 of 150, 372.5 mm from the inferior end"


def test_a_frame_has_no_millimetres() -> None:
    axis = depth_axis({"type": "video", "frames": "all"}, json.dumps({"shape": [139, 240, 320]}), 70)
    assert axis.place(69) == "frame 70 of 70; source frame 139 of 139"
    assert axis.ends is None


@pytest.mark.parametrize(
    ("recipe", "facts"),
    [
        (CT, "{}"),
        ({**CT, "preset": "viptt-2021"}, FACTS),
        ({**CT, "depth": "even"}, FACTS),
        ({"type": "video", "frames": "first"}, FACTS),
    ],
)
def test_where_there_is_no_rule_no_place_is_told(recipe: dict, facts: str) -> None:
    axis = depth_axis(recipe, facts, 70)
    assert axis.scale is None
    assert axis.place(3) in ("slice 4 of 70", "frame 4 of 70")


def test_a_single_picture_has_no_scale() -> None:
    assert depth_axis(CT, FACTS, 1).place(0) == "slice 1 of 1"
