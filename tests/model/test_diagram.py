"""Networks as drawings, beside what Keras says of them."""

import xml.etree.ElementTree as ET

import keras
import pytest
from keras import layers

from model.diagram import MOST, boxes_of, folded, network_svg
from model.network import small_net
from model.sononet import sononet

SVG = "{http://www.w3.org/2000/svg}"


def forked() -> keras.Model:
    """Two ways from ``a`` to ``sum``: through ``b``, and past it."""
    picture = keras.Input((8, 8, 1), name="picture")
    first = layers.Conv2D(4, 3, padding="same", name="a")(picture)
    second = layers.ReLU(name="relu")(
        layers.BatchNormalization(name="bn")(layers.Conv2D(4, 1, name="b")(first))
    )
    return keras.Model(picture, layers.Add(name="sum")([first, second]), name="forked")


def deep(count: int) -> keras.Model:
    values = picture = keras.Input((2,), name="picture")
    for number in range(count):
        values = layers.Dense(2, name=f"d{number}")(values)
    return keras.Model(picture, layers.Add(name="sum")([picture, values]))


def test_what_only_activates_shares_the_box_before_it() -> None:
    boxes = boxes_of(forked())
    assert [box.name for box in boxes] == ["picture", "a", "b", "sum"]
    assert boxes[2].kinds == ("Conv2D", "BatchNormalization", "ReLU")
    assert boxes[2].parameters == 4 * 4 + 4 + 4 * 4  # kernel, bias, and four values for each channel
    assert [box.sources for box in boxes] == [(), (0,), (1,), (1, 2)]
    assert [box.shape for box in boxes] == [(8, 8, 1), (8, 8, 4), (8, 8, 4), (8, 8, 4)]


def test_an_activation_of_what_others_read_has_its_own_box() -> None:
    picture = keras.Input((4,), name="picture")
    first = layers.Dense(4, name="a")(picture)
    both = layers.Add(name="sum")([layers.ReLU(name="relu")(first), first])
    boxes = boxes_of(keras.Model(picture, both))
    assert [(box.name, box.sources) for box in boxes] == [
        ("picture", ()),
        ("a", (0,)),
        ("relu", (1,)),
        ("sum", (1, 2)),
    ]


@pytest.mark.parametrize(
    "net",
    [
        lambda: small_net((4, 32, 32, 1), 3),
        lambda: sononet("2+1d", features=2, classes=3, shape=(5, 64, 64, 1)),
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Softmax()]),
    ],
)
def test_every_weight_is_in_one_box(net) -> None:
    made = net()
    assert sum(box.parameters for box in folded(boxes_of(made))) == made.count_params()


def test_the_middle_of_a_deep_network_is_one_box() -> None:
    made = deep(100)
    boxes = folded(boxes_of(made))
    assert len(boxes) == MOST
    assert sum(box.parameters for box in boxes) == made.count_params()
    assert boxes[MOST // 2].name == "… 55 more, from d23 to d77"
    assert boxes[-1].sources == (0, MOST - 2)
    assert [box.sources for box in boxes[1:-1]] == [(index,) for index in range(MOST - 2)]


def test_the_drawing_is_svg_with_a_box_and_the_texts_of_each_layer() -> None:
    tree = ET.fromstring(network_svg(forked()))
    assert len(tree.findall(f"{SVG}rect")) == 4
    assert len(tree.findall(f"{SVG}polyline")) == 4
    texts = [item.text for item in tree.iter(f"{SVG}text")]
    assert {"picture", "Conv2D + BatchNormalization + ReLU", "8 × 8 × 4", "36 weights"} <= set(texts)
    _, _, width, height = map(int, tree.attrib["viewBox"].split())
    for box in tree.findall(f"{SVG}rect"):
        assert int(box.attrib["y"]) + int(box.attrib["height"]) < height
    for line in tree.findall(f"{SVG}polyline"):
        points = [tuple(map(int, point.split(","))) for point in line.attrib["points"].split()]
        assert all(0 < x < width and 0 < y < height for x, y in points)


def test_a_name_is_no_markup() -> None:
    picture = keras.Input((2,), name="picture")
    net = keras.Model(picture, layers.Dense(2, name="<b>&")(picture), name='"><script>')
    assert "<b>&" in {item.text for item in ET.fromstring(network_svg(net)).iter(f"{SVG}text")}
