"""A network as a drawing: its layers from top to bottom, as SVG text. Graphviz is not needed.

A box is one layer, together with those behind it that only normalise, activate or drop its output. It tells
the name, the kinds, the shape of the output without the batch, and the number of weights. Lines lead from
box to box, those that skip some at the right side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import keras

COMPANIONS = {"Activation", "BatchNormalization", "Dropout", "LayerNormalization", "ReLU", "Softmax"}
MOST = 48  # boxes; of a deeper network the middle is one box
WIDTH, HEIGHT, GAP, MARGIN, LANE = 460, 44, 18, 8, 12  # pixels
LANES = 8


@dataclass(frozen=True)
class Box:
    """Layers that follow each other; ``sources`` are the positions of the boxes that they read."""

    name: str
    kinds: tuple[str, ...]
    shape: tuple[int | None, ...]
    parameters: int
    sources: tuple[int, ...] = ()


def network_svg(net: keras.Model) -> str:
    """The drawing of a network, Functional or Sequential, as the text of an SVG file."""
    return svg(folded(boxes_of(net)), title=f"{net.name}, {net.count_params():,} weights")


def boxes_of(net: keras.Model) -> list[Box]:
    """The layers and operations of a network, in the order in which it runs them."""
    boxes: list[Box] = []
    # A tensor is known by its identity: Keras gives it no name that is unique.
    made_by: dict[int, int] = {}
    readers = _readers(net)
    for operation in _operations(net):
        nodes = operation._inbound_nodes
        reads = [id(tensor) for node in nodes for tensor in node.input_tensors if id(tensor) in made_by]
        sources = tuple(sorted({made_by[tensor] for tensor in reads}))
        box = Box(operation.name, (type(operation).__name__,), _shape(nodes), _weights(operation), sources)
        if box.kinds[0] in COMPANIONS and sources == (len(boxes) - 1,) and readers[reads[0]] == 1:
            boxes[-1] = _joined(boxes[-1], box)
        else:
            boxes.append(box)
        made_by |= {id(tensor): len(boxes) - 1 for node in nodes for tensor in node.output_tensors}
    return boxes


def _operations(net: keras.Model) -> Sequence[Any]:
    """Layers, and what is applied to tensors without being one; of a Sequential, its layers are all."""
    return list(getattr(net, "operations", net.layers))


def _readers(net: keras.Model) -> dict[int, int]:
    """How many operations of the network read each tensor."""
    counts: dict[int, int] = {}
    for operation in _operations(net):
        for tensor in {id(tensor) for node in operation._inbound_nodes for tensor in node.input_tensors}:
            counts[tensor] = counts.get(tensor, 0) + 1
    return counts


def _shape(nodes: Sequence[Any]) -> tuple[int | None, ...]:
    """The shape of the last output, without the batch."""
    return tuple(nodes[-1].output_tensors[-1].shape[1:])


def _weights(operation: Any) -> int:
    return int(operation.count_params()) if isinstance(operation, keras.layers.Layer) else 0


def _joined(box: Box, follower: Box) -> Box:
    parameters = box.parameters + follower.parameters
    return replace(box, kinds=(*box.kinds, *follower.kinds), shape=follower.shape, parameters=parameters)


def folded(boxes: Sequence[Box]) -> list[Box]:
    """At most ``MOST`` boxes: of a longer list, those in the middle are told together."""
    if len(boxes) <= MOST:
        return list(boxes)
    first = MOST // 2
    left_out = len(boxes) - MOST + 1
    middle = boxes[first : first + left_out]
    place = [min(index, max(first, index - left_out + 1)) for index in range(len(boxes))]
    name = f"… {left_out} more, from {middle[0].name} to {middle[-1].name}"
    weights = sum(box.parameters for box in middle)
    together = Box(name, (), middle[-1].shape, weights, _places(middle, place, first))
    after = [
        replace(box, sources=_places([box], place, index))
        for index, box in enumerate(boxes[first + left_out :], start=first + 1)
    ]
    return [*boxes[:first], together, *after]


def _places(boxes: Iterable[Box], place: Sequence[int], own: int) -> tuple[int, ...]:
    return tuple(sorted({place[source] for box in boxes for source in box.sources} - {own}))


# --- drawing ------------------------------------------------------------------------------------


def svg(boxes: Sequence[Box], *, title: str) -> str:
    """The SVG text of boxes one below the other."""
    height = MARGIN * 2 + len(boxes) * (HEIGHT + GAP) - GAP
    width = MARGIN * 2 + WIDTH + LANE * (LANES + 1)
    parts = [_box(box, index) for index, box in enumerate(boxes)]
    parts += [
        _line(source, index) for index, box in enumerate(boxes) for source in box.sources if source != index
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}" font-family="sans-serif" font-size="13" '
        f'fill="currentColor" stroke="none">\n<title>{escape(title)}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _top(index: int) -> int:
    return MARGIN + index * (HEIGHT + GAP)


def _box(box: Box, index: int) -> str:
    top, right = _top(index), MARGIN + WIDTH - 10
    weights = f"{box.parameters:,} weights" if box.parameters else ""
    shape = " × ".join("any" if size is None else str(size) for size in box.shape)
    texts = (
        (MARGIN + 10, top + 18, "start", "600", _cut(box.name, 38)),
        (right, top + 18, "end", "400", shape),
        (MARGIN + 10, top + 35, "start", "400", _cut(" + ".join(box.kinds), 44)),
        (right, top + 35, "end", "400", weights),
    )
    frame = (
        f'<rect x="{MARGIN}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="none" '
        'stroke="currentColor"/>'
    )
    return frame + "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'
        for x, y, anchor, weight, text in texts
        if text
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _line(source: int, target: int) -> str:
    """A line from the bottom of a box to the top of the next, or round the boxes between them."""
    if target == source + 1:
        middle = MARGIN + WIDTH // 2
        points = [(middle, _top(source) + HEIGHT), (middle, _top(target))]
        tip = [(middle - 4, _top(target) - 6), (middle + 4, _top(target) - 6), (middle, _top(target))]
    else:
        # Lines that begin side by side run in different lanes.
        edge = MARGIN + WIDTH
        lane = edge + LANE * (1 + source % LANES)
        start, end = _top(source) + HEIGHT - 10, _top(target) + 10
        points = [(edge, start), (lane, start), (lane, end), (edge, end)]
        tip = [(edge + 6, end - 4), (edge + 6, end + 4), (edge, end)]
    drawn = f'<polyline points="{_points(points)}" fill="none" stroke="currentColor"/>'
    return f'{drawn}<polygon points="{_points(tip)}"/>'


def _points(points: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
