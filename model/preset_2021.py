"""The preset ``viptt-2021`` in training: what the notebooks of 2021 did otherwise than the paper says.

A store says by its recipe whether it was built with the preset; then a training on it takes these
settings and this range of input values. ``docs/fidelity.md`` lists all differences.
"""

from collections.abc import Mapping
from typing import Any

PRESET = "viptt-2021"
# 0 is listed twice, as in the notebooks, so that it is twice as likely as any other angle.
ANGLES = (0.0, 0.0, -20.0, -10.0, -5.0, 5.0, 10.0, 20.0)
WHITE = 255.0


def settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from the usual defaults; none for a recipe without the preset."""
    if recipe.get("preset") != PRESET:
        return {}
    return {"angles": ANGLES, **({"batch_size": 1} if recipe["type"] == "video" else {"epochs": 1000})}


def input_maximum(recipe: Mapping[str, Any]) -> float | None:
    """What a network gets for a stored 1.0; None where the preset changes nothing.

    The notebooks left clips at 0 to 255; stores hold [0, 1] for every kind of source.
    """
    return WHITE if recipe.get("preset") == PRESET and recipe["type"] == "video" else None
