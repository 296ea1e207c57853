"""The selection of frames against what the original script selected, and against cases worked out by hand."""

import cv2
import numpy as np
import pytest

from pipeline.gray import truncated_gray
from pipeline.select import image_box, image_mask, select_frames, select_original
from pipeline.ssim import consecutive_ssim

pytestmark = pytest.mark.unit

CLIPS = ["Cov_combatting_Image1", "Reg_northumbria_1009_vid6", "Reg_pat1Image_133410"]
HEIGHT, WIDTH = 760, 1200


def noise(count, shape, seed):
    return np.random.default_rng(seed).integers(1, 256, (count, *shape), np.uint8)


def clip_with(rows, columns, shape=(HEIGHT, WIDTH), count=1):
    frames = np.zeros((count, *shape), np.uint8)
    frames[:, rows, columns] = 200
    return frames


def box_of(frames, shape=(HEIGHT, WIDTH)):
    rows, columns = image_box(image_mask(frames), shape)
    return (rows.start, rows.stop, columns.start, columns.stop)


# --- mask and box -------------------------------------------------------------------------------


def test_margin_is_9_pixels_at_the_top_and_left_and_10_at_the_bottom_and_right():
    assert box_of(clip_with(slice(200, 500), slice(300, 800))) == (209, 490, 309, 790)


def test_a_full_frame_loses_its_40_columns_and_the_margin():
    assert box_of(clip_with(slice(None), slice(None))) == (9, 750, 49, 1190)


def test_a_black_bar_inside_is_widened():
    frames = clip_with(slice(None), slice(None))
    frames[:, :, 600:610] = 0
    assert np.flatnonzero(~image_mask(frames)[300, 60:1180]).tolist() == list(range(530, 559))


def test_any_frame_that_is_not_black_counts():
    frames = np.concatenate(
        [clip_with(slice(100, 300), slice(200, 400)), np.zeros((3, HEIGHT, WIDTH), np.uint8)]
    )
    np.testing.assert_array_equal(image_mask(frames), image_mask(frames[:1]))


@pytest.mark.parametrize("columns", [slice(0, 0), slice(0, 40), slice(300, 319)])
def test_there_may_be_no_image(columns):
    frames = clip_with(slice(200, 500), columns)
    assert not image_mask(frames).any()
    assert box_of(frames)[1] == 0


# --- the rule -----------------------------------------------------------------------------------


def three_scenes(shape):
    """Frames 0 to 3 alike, a cut, 4 to 6 alike, a cut, 7."""
    return np.repeat(noise(3, shape, 4), [4, 3, 1], axis=0)


@pytest.mark.parametrize("shape", [(760, 1200), (64, 80), (480, 640)])
def test_both_sides_of_a_cut_are_selected(shape):
    assert np.flatnonzero(select_frames(three_scenes(shape))).tolist() == [0, 3, 4, 6, 7]


def test_the_default_counts_the_pairs_that_there_are():
    frames = noise(1, (64, 80), 5).repeat(3, axis=0)
    frames[1, 30:40] //= 2
    frames[2] = frames[1]
    frames[2, 50:53, 60:63] //= 2  # less unlike than the pair before
    first, second = consecutive_ssim(frames)
    assert 2 / 3 * (first + second) / 2 < first < second  # with a third pair of 0, neither is below the mean
    assert np.flatnonzero(select_frames(frames)).tolist() == [0, 1]
    assert np.flatnonzero(select_frames(frames, preset="sononet-2025")).tolist() == [0, 2]


def test_a_static_clip_keeps_the_first_frame_and_with_the_preset_the_last():
    frames = noise(1, (HEIGHT, WIDTH), 6).repeat(5, axis=0)
    assert np.flatnonzero(select_frames(frames)).tolist() == [0]
    assert np.flatnonzero(select_frames(frames, preset="sononet-2025")).tolist() == [0, 4]


@pytest.mark.parametrize("count", range(2, 30))
def test_pairs_that_are_equally_unlike_are_not_below_their_own_mean(count):
    frames = np.resize(noise(2, (20, 70), 7), (count, 20, 70))
    assert np.flatnonzero(select_frames(frames)).tolist() == [0]


@pytest.mark.parametrize("preset", [None, "sononet-2025"])
@pytest.mark.parametrize("count", [0, 1])
def test_one_frame_is_selected_and_of_none_none(count, preset):
    assert select_frames(np.zeros((count, 5, 5), np.uint8), preset=preset).tolist() == [True] * count


@pytest.mark.parametrize("preset", [None, "sononet-2025"])
def test_a_black_clip_is_a_static_one(preset):
    selected = select_frames(np.zeros((4, 100, 120), np.uint8), preset=preset)
    assert selected.tolist() == [True, False, False, preset is not None]


def test_an_image_under_26_pixels_is_compared_as_a_whole():
    frames = np.zeros((4, 100, 120), np.uint8)
    frames[:, 50:75, 60:85] = three_scenes((25, 25))[2:6]
    assert np.flatnonzero(select_frames(frames)).tolist() == [0, 1, 2]


def test_the_preset_loses_a_gray_level():
    frames = three_scenes((HEIGHT, WIDTH))
    lower = truncated_gray(np.stack([frames] * 3, axis=-1))
    wanted = select_original(lower)
    np.testing.assert_array_equal(select_frames(frames, preset="sononet-2025"), wanted)
    dim = np.minimum(frames, 1)  # gray 1 becomes black
    assert np.flatnonzero(select_frames(dim, preset="sononet-2025")).tolist() == [0, 7]


@pytest.mark.parametrize(
    ("shape", "rows", "columns", "sides"),
    [
        ((1080, 1920), slice(190, 890), slice(410, 1510), (361, 361)),  # 320 rows, 720 columns short
        ((480, 640), slice(100, 400), slice(100, 500), (371, 531)),  # to the end of the frame
    ],
)
def test_the_box_of_the_original_is_off_in_frames_of_other_sizes(shape, rows, columns, sides):
    frames = clip_with(rows, columns, shape)
    cut = image_box(image_mask(frames), (HEIGHT, WIDTH))
    assert frames[0][cut].shape == sides
    right = image_box(image_mask(frames), shape)
    assert frames[0][right].shape == (rows.stop - rows.start - 19, columns.stop - columns.start - 19)


@pytest.mark.parametrize("frames", [np.zeros((9, 9), np.uint8), np.zeros((2, 9, 9), np.float32)])
def test_frames_are_gray(frames):
    with pytest.raises(ValueError, match=r"frames are uint8 \(n, height, width\), not"):
        select_frames(frames)


# --- real clips ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=CLIPS)
def clip(request, shared):
    name = f"convex__{request.param}.npz"
    if not (shared / f"oracle/ssim_{name}").is_file():
        pytest.skip("the selections of the original script are not here")
    with (
        np.load(shared / f"oracle/frames_{name}") as frames,
        np.load(shared / f"oracle/ssim_{name}") as wanted,
    ):
        yield frames["frames_native"], dict(wanted)


def on_canvas(frames, canvas):
    """Frames in the middle of black ones of 760 x 1200 (pad), or stretched to them (area)."""
    if canvas == "area":
        return np.stack([cv2.resize(f, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for f in frames])
    count, height, width = frames.shape
    padded = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    top, left = (HEIGHT - height) // 2, (WIDTH - width) // 2
    padded[:, top : top + height, left : left + width] = frames
    return padded


@pytest.mark.parametrize("canvas", ["pad", pytest.param("area", marks=pytest.mark.slow)])
def test_real_clips_give_what_the_original_gave(clip, canvas):
    frames, wanted = on_canvas(clip[0], canvas), clip[1]
    selected = np.flatnonzero(select_frames(frames, preset="sononet-2025"))
    np.testing.assert_array_equal(selected, wanted[f"{canvas}_orig_kept"])
    np.testing.assert_array_equal(np.flatnonzero(select_original(frames)), wanted[f"{canvas}_plain_kept"])


@pytest.mark.parametrize("canvas", ["pad", "area"])
def test_masks_and_ssim_of_real_clips_are_those_of_the_original(clip, canvas):
    frames, wanted = on_canvas(clip[0], canvas), clip[1]
    mask = image_mask(frames)
    np.testing.assert_array_equal(np.packbits(mask), wanted[f"{canvas}_plain_mask_packbits"])
    assert box_of(frames) == tuple(wanted[f"{canvas}_plain_bbox_y0y1x0x1"])
    rows, columns = image_box(mask, mask.shape)
    ssims = consecutive_ssim(frames[:20, rows, columns])
    np.testing.assert_allclose(ssims, wanted[f"{canvas}_plain_ssims"][:19], atol=1e-7)
