"""Which frames of a clip differ enough from their neighbour to be worth learning from.

Frames are (n, height, width) uint8, gray, 0 to 255; what is selected is bool (n,). Each frame is compared
with the next one by SSIM, inside the box of the image that the clip shows; both frames of each pair that is
less alike than the average pair are selected, and so is the first frame.

The image is where any frame is not black, less the 40 columns at the left, where a scanner writes its scale,
and less a margin along its edges.

``preset="sononet-2025"`` selects number for number what SpaceTime-SonoNet's ``prepare-data2d.py`` did: its
gray loses one level, its average counts one pair more than there are, with SSIM 0, which selects the last
frame as well, and its box is meant for frames of 760 x 1200. Where that code failed (no image, or one under
7 x 7), the whole picture is compared, as without a preset.

Source: Guraschi, Interlando, Noceti, Odone, Zini, "SpaceTime-SonoNet", Med. Biol. Eng. Comput., 2026.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.gray import truncated_gray
from pipeline.ssim import WINDOW, consecutive_ssim

Gray = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Preset = Literal["sononet-2025"] | None

SCALE_COLUMNS = 40
MARGIN = 10
DIRECTIONS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]
ORIGINAL_SHAPE = (760, 1200)
TIE = 1e-9  # what rounding may put between the SSIM of equal pairs and their mean


def select_frames(frames: Gray, *, preset: Preset = None) -> Bool:
    """Select frames (n, height, width) of one clip: bool (n,). One frame is selected, of none none.

    Without a preset, a clip of which all pairs are equally alike keeps its first frame only. Raises
    ValueError if frames are not uint8 (n, height, width), or if several are smaller than 7 x 7.

    Examples:
        >>> pattern = np.add.outer(np.arange(48), np.arange(48)).astype(np.uint8) + 100
        >>> select_frames(np.stack([pattern, pattern, 255 - pattern, 255 - pattern])).tolist()
        [True, True, True, False]
    """
    if frames.ndim != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames are uint8 (n, height, width), not {frames.dtype} {frames.shape}")
    if len(frames) < 2:
        return np.ones(len(frames), np.bool_)
    if preset is not None:
        return select_original(_GRAY_OF_ORIGINAL[frames])
    similarities = consecutive_ssim(_cut(frames, image_box(image_mask(frames), frames.shape[1:])))
    return _both_of_pairs(similarities < similarities.mean() - TIE)


def select_original(frames: Gray) -> Bool:
    """The rule of the preset, for frames (n, height, width) whose gray is already ``gray.truncated_gray``.

    Raises ValueError as ``select_frames`` does.
    """
    similarities = np.zeros(len(frames))
    similarities[:-1] = consecutive_ssim(_cut(frames, image_box(image_mask(frames), ORIGINAL_SHAPE)))
    return _both_of_pairs(similarities < similarities.mean())[: len(frames)]


def image_mask(frames: Gray) -> Bool:
    """Where the clip shows an image, bool (height, width).

    Edges are pixels that differ from the one below or to the right; outside of the frame all is black. All
    pixels less than MARGIN steps away from an edge, straight or diagonally, are left out.
    """
    shown = np.asarray(frames.any(axis=0))
    shown[:, :SCALE_COLUMNS] = False
    inside = np.pad(shown, MARGIN)
    edges = np.zeros_like(inside)
    edges[:-1] |= inside[:-1] ^ inside[1:]
    edges[:, :-1] |= inside[:, :-1] ^ inside[:, 1:]
    for down, right in DIRECTIONS:
        for steps in range(MARGIN):  # the padding is wide enough: no edge is rolled around it
            inside &= ~np.roll(edges, (steps * down, steps * right), (0, 1))
    return inside[MARGIN:-MARGIN, MARGIN:-MARGIN]


def image_box(mask: Bool, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around a mask (height, width); empty where the mask is.

    ``shape`` (height, width) is that of the mask. With the constants of the original instead, the ends
    of the box are off by the difference, as they were there.
    """
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    return _span(np.asarray(rows), shape[0]), _span(np.asarray(columns), shape[1])


def _span(marked: Bool, size: int) -> slice:
    """From the first to the last True, the last being counted from the end of ``size``."""
    places = np.flatnonzero(marked)
    return slice(places[0], size - (len(marked) - 1 - places[-1])) if places.size else slice(0)


def _cut(frames: Gray, box: tuple[slice, slice]) -> Gray:
    """The frames inside the box, or whole, if that is too small for SSIM."""
    cut = frames[:, box[0], box[1]]
    return cut if min(cut.shape[1:]) >= WINDOW else frames


def _both_of_pairs(unlike: Bool) -> Bool:
    """Frames (n + 1,) of which the pair (n,) with the next or the previous one is unlike, and the first."""
    selected = np.zeros(len(unlike) + 1, np.bool_)
    selected[0] = True
    selected[:-1] |= unlike
    selected[1:] |= unlike
    return selected


_GRAY_OF_ORIGINAL = truncated_gray(np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
