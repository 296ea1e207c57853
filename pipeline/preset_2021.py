"""What the code of ViPTT-Net (2021) did, number for number: the recipe preset ``viptt-2021``.

CT: clip to the window, scale to [0, 1], turn the slices as stored by 90 degrees, zoom linearly, clip.
Video: the first frames, each resized by OpenCV before it becomes luma (see ``readers.video``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.recipe import CtRecipe
from pipeline.siz import Float32, zoom


def scale_ct_2021(stored: NDArray[Any], recipe: CtRecipe) -> Float32:
    """What the code of 2021 made of Hounsfield units in the file's own axes, (k, j, i).

    It turned the slices (i, j) by 90 degrees, counter-clockwise, and then put k first; this is (k, j, i)
    upside down.
    """
    low, high = recipe.window
    scaled: Float32 = np.empty_like(stored, np.float32)
    np.clip(stored, low, high, out=scaled, casting="unsafe")
    scaled -= np.float32(low)
    scaled /= np.float32(high - low)
    zoomed = zoom(scaled[:, ::-1], recipe.shape, order=recipe.spline_order, mode="constant")
    return np.clip(zoomed, 0, 1, out=zoomed)


def unlike_2021(stored: NDArray[Any]) -> list[str]:
    """Where the code of 2021 did what nobody can want: it turned slices within their old frame."""
    _, columns, rows = stored.shape
    if rows == columns:
        return []
    return [f"slices of {rows} x {columns}: turned whole, where the code of 2021 cut and padded them"]
