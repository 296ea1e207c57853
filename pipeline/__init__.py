"""Preprocessing: sources (CT scans, videos) to a store of fixed-shape volumes, and splits of it.

Never imports TensorFlow or Keras. The public names are imported when they are first used, so that
``import pipeline`` takes no time:

>>> import pipeline
>>> pipeline.zoom([[[0, 10], [20, 30]]], (1, 3, 3), order=1).tolist()
[[[0.0, 5.0, 10.0], [10.0, 15.0, 20.0], [20.0, 25.0, 30.0]]]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.crop import body_box
    from pipeline.select import select_frames
    from pipeline.siz import resize_antialias, zoom
    from pipeline.split import assign, read_split
    from pipeline.store import open_store

__version__ = "0.2.0"
__all__ = [
    "assign",
    "body_box",
    "open_store",
    "read_split",
    "resize_antialias",
    "select_frames",
    "zoom",
]

_HOMES = {
    "assign": "split",
    "body_box": "crop",
    "open_store": "store",
    "read_split": "split",
    "resize_antialias": "siz",
    "select_frames": "select",
    "zoom": "siz",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
