"""Numbers to the outlines of small charts: SVG paths in a box of the given width and height, y downward."""

from collections.abc import Sequence
from math import sqrt


def area(values: Sequence[float], peak: float, width: int, height: int) -> str:
    """A filled step chart. Heights go with the square root, so that a large peak leaves the rest visible."""
    step = width / max(1, len(values))
    path = [f"M0 {height}"]
    for number, value in enumerate(values):
        path.append(f"V{_text(height - _height(value, peak, height))}H{_text((number + 1) * step)}")
    return "".join((*path, f"V{height}Z"))


def outline(values: Sequence[float], peak: float, width: int, height: int) -> str:
    """The upper edge of the same chart, as a line."""
    step = width / max(1, len(values))
    tops = [_text(height - _height(value, peak, height)) for value in values]
    path = [f"M0 {tops[0]}"] if tops else []
    for number, top in enumerate(tops):
        path.append(f"V{top}H{_text((number + 1) * step)}")
    return "".join(path)


def _height(value: float, peak: float, height: int) -> float:
    return height * sqrt(max(0.0, value) / peak) if peak > 0 else 0.0


def _text(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
