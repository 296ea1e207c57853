"""ViPTT-Net: from a store and a split file to batches, training, metrics and weights.

Never imports Dask, nibabel or OpenCV: the store and the split file are all that it shares with
``pipeline``. ``import model`` imports nothing else; the public names, and TensorFlow with them, are
imported when they are first used:

>>> import model
>>> model.viptt_net((4, 32, 32, 1), classes=5, weights="none").output_shape
(None, 5)

``model.stream`` and ``model.sononet`` are modules, each with a function of its own name:
``from model.stream import stream``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model import sononet, stream
    from model.backbones import backbone
    from model.network import viptt_net
    from model.weights import load_weights

__all__ = ["backbone", "load_weights", "sononet", "stream", "viptt_net"]

_HOMES = {"backbone": "backbones", "load_weights": "weights", "viptt_net": "network"}
_MODULES = {"sononet", "stream"}


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it, or a public module (PEP 562)."""
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
