"""Crops against values written out, and against arrays that COVIDNet-CT's own code made."""

import numpy as np
import pytest

from pipeline.crop import body_box, box_crop, centre_crop, exclude_exterior

pytestmark = pytest.mark.unit

SLICES = range(8)


def numbered(height, width):
    return np.arange(height * width, dtype=np.int32).reshape(height, width) + 1


@pytest.mark.parametrize(
    ("size", "shape", "rows", "columns"),
    [
        ((8, 6), (4, 2), slice(2, 6), slice(2, 4)),
        ((7, 6), (4, 2), slice(2, 6), slice(2, 4)),  # 1.5 is rounded to 2
        ((5, 6), (4, 2), slice(0, 4), slice(2, 4)),  # 0.5 is rounded to 0
        ((9, 9), (4, 4), slice(2, 6), slice(2, 6)),  # 2.5 is rounded to 2
        ((4, 2), (4, 2), slice(0, 4), slice(0, 2)),
    ],
)
def test_centre_is_cut_with_halves_rounded_to_even(size, shape, rows, columns):
    picture = numbered(*size)
    np.testing.assert_array_equal(centre_crop(picture, shape), picture[rows, columns])


def test_centre_of_a_small_picture_is_padded_more_below_and_right():
    wanted = [[0, 0, 0, 0, 0], [0, 1, 2, 0, 0], [0, 3, 4, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(centre_crop(numbered(2, 2), (5, 5)), wanted)


def test_centre_may_be_padded_on_one_axis_and_cut_on_the_other():
    np.testing.assert_array_equal(centre_crop(numbered(1, 4), (2, 2)), [[2, 3], [0, 0]])


def test_colours_are_cut_like_gray():
    colours = np.stack([numbered(7, 9)] * 3, axis=-1)
    assert centre_crop(colours, (9, 4)).shape == (9, 4, 3)
    np.testing.assert_array_equal(centre_crop(colours, (9, 4))[..., 1], centre_crop(numbered(7, 9), (9, 4)))


def test_centre_needs_a_pixel():
    with pytest.raises(ValueError, match="at least one pixel"):
        centre_crop(numbered(3, 3), (0, 3))


def test_box_is_x_first_and_half_open():
    picture = numbered(4, 5)
    np.testing.assert_array_equal(box_crop(picture, (1, 0, 3, 2)), [[2, 3], [7, 8]])
    np.testing.assert_array_equal(box_crop(picture, (0, 0, 5, 4)), picture)


@pytest.mark.parametrize("box", [(-1, 0, 3, 2), (0, 0, 6, 2), (0, 0, 5, 5), (2, 0, 2, 2), (0, 3, 2, 1)])
def test_box_lies_in_the_picture(box):
    with pytest.raises(ValueError, match="empty or reaches out of a picture of 4 x 5"):
        box_crop(numbered(4, 5), box)


def disc(size, radius, centre=(0, 0)):
    rows, columns = np.mgrid[:size, :size] - size // 2
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def test_body_is_found_beside_a_table():
    image = np.full((200, 200), 55, np.uint8)
    image[disc(200, 60)] = 200
    image[180:184] = 180  # a table of 4 rows is eroded
    xmin, ymin, xmax, ymax = body_box(image)
    assert (xmin, ymin, xmax, ymax) == pytest.approx((43, 43, 158, 158), abs=1)  # 3 pixels eroded
    clean = exclude_exterior(image)
    assert (clean[180:184] == 55).all()
    np.testing.assert_array_equal(clean[disc(200, 58)], image[disc(200, 58)])
    assert (image[180:184] == 180).all()  # the slice itself is left alone


def test_lungs_do_not_make_a_hole_in_the_body():
    image = np.full((200, 200), 55, np.uint8)
    image[disc(200, 80)] = 220
    image[disc(200, 60)] = 60
    image[disc(200, 20)] = 200
    assert body_box(image)[0] == pytest.approx(100 - 80 + 3, abs=1)
    np.testing.assert_array_equal(exclude_exterior(image)[disc(200, 78)], image[disc(200, 78)])


def test_a_constant_slice_is_all_body():
    image = np.full((50, 60), 90, np.uint8)
    with pytest.raises(ValueError, match="no body is left"):
        body_box(np.zeros_like(image) + 90 * (disc(60, 2)[:50]).astype(np.uint8))
    assert body_box(image) == (0, 0, 60, 50)


@pytest.mark.parametrize("function", [body_box, exclude_exterior])
def test_black_slices_have_no_body(function):
    with pytest.raises(ValueError, match="the slice is black"):
        function(np.zeros((30, 30), np.uint8))


@pytest.mark.parametrize("image", [np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4), np.float32)])
def test_slices_are_gray(image):
    with pytest.raises(ValueError, match=r"uint8 \(height, width\), not"):
        body_box(image)


@pytest.fixture(scope="module")
def bodies(shared):
    path = shared / "oracle_covid/bodycrop.npz"
    if not path.is_file():
        pytest.skip("the arrays that COVIDNet-CT's code made are not here")
    with np.load(path) as arrays:
        yield arrays


@pytest.mark.parametrize("number", SLICES)
def test_body_box_is_that_of_covidnet_ct(bodies, number):
    assert body_box(bodies[f"s{number}_input"]) == tuple(bodies[f"s{number}_box"])


@pytest.mark.parametrize("number", SLICES)
def test_exterior_is_that_of_covidnet_ct(bodies, number):
    image = bodies[f"s{number}_input"]
    np.testing.assert_array_equal(exclude_exterior(image), bodies[f"s{number}_ext_output"])
